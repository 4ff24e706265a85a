from urllib.error import URLError

import pytest
import torch

from ulcompress.learned.compressai import HYPERPRIORS, MODELS, CompressAIModel, compressai
from ulcompress.pretrained import build

pytest.importorskip("compressai", reason="compressai does not exist for this Python")

NAME, SIZES, QUALITY = "mbt2018-mean", (8, 12), 3


@pytest.fixture(autouse=True)
def small_zoo(monkeypatch, one_thread):
    """A zoo whose third quality is small."""
    torch.manual_seed(0)
    for name in (NAME, "bmshj2018-factorized"):
        monkeypatch.setitem(compressai().zoo.image.cfgs[name], QUALITY, SIZES)


@pytest.fixture
def published():
    """A model with its tables, as the zoo has them."""
    model = CompressAIModel(name=NAME, sizes=SIZES).model()
    model.update()
    return model


@pytest.fixture
def file(published, tmp_path):
    """Weights with the names that the zoo's files have."""

    def old(key):
        for name in ("matrices", "biases", "factors"):
            key = key.replace(f"entropy_bottleneck.{name}.", f"entropy_bottleneck._{name}.")
        return f"module.{key}"

    path = tmp_path / "weights.pth.tar"
    torch.save({old(key): value for key, value in published.state_dict().items()}, path)
    return str(path)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_of_a_model_fit_together(name):
    model = CompressAIModel(name=name, sizes=(8,) if name.startswith("cheng") else (8, 6))
    assert model.channels == (8 if name.startswith("cheng") else 6)
    with torch.no_grad():
        latent = model.analysis()(torch.rand(1, 3, 32, 64))
        assert latent.shape == (1, model.channels, 32 // model.stride, 64 // model.stride)
        assert model.synthesis()(latent).shape == (1, 3, 32, 64)


@pytest.mark.parametrize("name", HYPERPRIORS)
def test_the_networks_of_the_entropy_model_have_the_sizes_they_tell(name):
    networks = CompressAIModel(name=name, sizes=SIZES).hyperprior()
    with torch.no_grad():
        hyper = networks.analysis(torch.randn(1, networks.channels, 8, 4))
        assert hyper.shape == (1, networks.hyper_channels, 8 // networks.ratio, 4 // networks.ratio)
        parameters = networks.synthesis(hyper)
    assert parameters.shape == (1, networks.channels * (1 + networks.means), 8, 4)
    assert networks.prior.channels == networks.hyper_channels
    assert all(value.numel() == 0 for key, value in networks.prior.state_dict().items() if key.startswith("_"))


def test_weights_come_from_a_file_of_the_zoo(file, published):
    model = CompressAIModel(name=NAME, quality=QUALITY, weights=file)
    assert model.sizes == SIZES
    loaded = model.model().state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in published.state_dict().items())
    assert torch.equal(model.analysis()[0].weight, published.g_a[0].weight)
    assert torch.equal(model.hyperprior().prior.biases[0], published.entropy_bottleneck.biases[0])


def test_a_model_with_weights_is_saved_as_its_sizes_and_their_origin(file):
    model = CompressAIModel(name=NAME, quality=QUALITY, weights=file)
    origin = "CompressAI mbt2018-mean quality 3 (mse)"
    known = {"name": NAME, "sizes": [8, 12], "origin": origin}
    assert model.arguments() == known | {"quality": None, "weights": None}
    again = CompressAIModel(**model.arguments())
    assert again.arguments() == model.arguments()
    assert again.model().N == 8


def test_a_configuration_names_the_model():
    def part(path, **arguments):
        return {"class_path": f"ulcompress.{path}", "init_args": arguments}

    model = part("learned.compressai.CompressAIModel", sizes=[8, 12])
    codec = build(
        {
            "autoencoder": part("autoencoders.PixelSpace"),
            "encoder": part("encoders.AnalysisTransform", model=model),
            "quantizer": part("quantizers.HyperpriorQuantizer", model=model),
            "conditioning": {"base": part("conditioning.SynthesisTransform", model=model)},
            "decoder": part("decoders.BaseReconstruction"),
        }
    )
    assert codec.quantizer.channels == 12
    assert build(codec.arguments()).arguments() == codec.arguments()


def test_weights_are_downloaded_where_no_file_is_given(monkeypatch, published):
    urls = []

    def load(url, **options):
        assert options["weights_only"] and options["check_hash"]
        urls.append(url)
        return published.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    model = CompressAIModel(name=NAME, quality=QUALITY, metric="ms-ssim").model()
    assert torch.equal(model.g_a[0].weight, published.g_a[0].weight)
    assert [url.rpartition("/")[2][:24] for url in urls] == ["mbt2018-mean-ms-ssim-3-6"]


def test_without_a_network_the_message_says_what_to_fetch(monkeypatch):
    def fail(*_, **__):
        raise URLError("no route\nto host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(ValueError, match="cannot fetch https") as error:
        CompressAIModel(name=NAME, quality=QUALITY).model()
    assert "mbt2018-mean-3-" in one_line(error) and "give its path as `weights`" in one_line(error)


@pytest.mark.parametrize("content", ["missing", b"", b"no weights at all", [1, 2], {"a": 1}, {"g_a.0.weight": None}])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content != "missing":
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"cannot read the weights|holds no weights") as error:
        CompressAIModel(name=NAME, quality=QUALITY, weights=str(path)).model()
    assert "weights.pth.tar" in one_line(error)


@pytest.mark.parametrize("changes", [{"name": "bmshj2018-factorized"}, {"quality": 1}])
def test_a_file_of_another_model_is_refused(file, monkeypatch, changes):
    monkeypatch.setitem(compressai().zoo.image.cfgs[NAME], 1, (8, 16))
    arguments = {"name": NAME, "quality": QUALITY, "weights": file} | changes
    with pytest.raises(ValueError, match=f"does not hold a {arguments['name']} of quality") as error:
        CompressAIModel(**arguments).model()
    assert "weights.pth.tar" in one_line(error)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "vtm"}, "name must be one of bmshj2018-hyperprior, .*, got 'vtm'"),
        ({"quality": 9}, "mbt2018-mean has the qualities 1 to 8, got 9"),
        ({"quality": 1, "sizes": (8, 8)}, "sizes .* or a quality .*, not both"),
        ({"sizes": (8,)}, r"mbt2018-mean has 2 sizes, got \[8\]"),
        ({"name": "cheng2020-attn", "sizes": (8, 8)}, r"cheng2020-attn has 1 sizes"),
        ({"weights": "file"}, "weights 'file' need the quality"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CompressAIModel(**arguments)


@pytest.mark.parametrize(
    "arguments, has",
    [
        ({"metric": "psnr"}, "it has mse, ms-ssim"),
        ({"name": "bmshj2018-factorized-relu"}, "it has none of this model"),
    ],
)
def test_weights_that_the_zoo_does_not_have_are_refused(monkeypatch, arguments, has):
    monkeypatch.setitem(compressai().zoo.image.cfgs["bmshj2018-factorized-relu"], QUALITY, SIZES)
    with pytest.raises(ValueError, match=has):
        CompressAIModel(quality=QUALITY, **arguments).model()
