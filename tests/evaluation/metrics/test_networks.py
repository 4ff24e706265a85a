"""Metrics by networks, with random weights in files of the names that are looked for."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
from torchmetrics.functional.image.dists import DISTSNetwork

from ulcompress.evaluation.metrics import FIDELITY, METRICS, MeanIoU, Pair, SetDistance, SetMetric, build
from ulcompress.evaluation.metrics.frechet import cut, frechet_of_points
from ulcompress.evaluation.metrics.sets import SUBSET, kernel_distance
from ulcompress.evaluation.metrics.weights import (
    LAYERS,
    MissingWeights,
    _checked,
    _hash_of_layers,
    convolutions,
    hashes,
)
from ulcompress.losses import DISTS
from ulcompress.losses.backbone import load_backbone


def sample(height=70, width=90, caption=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    original = torch.rand(3, height, width, generator=generator)
    restored = (original + 0.2 * torch.randn(3, height, width, generator=generator)).clamp(0, 1)
    return Pair(original, (restored * 255).round() / 255, caption)


def same_in_a_batch(metric, captions=("a", "a red cup", None), size=(70, 90)):
    """Tell whether three pairs together have what each of them has alone."""
    pairs = [sample(*size, caption, seed) for seed, caption in enumerate(captions)]
    together = metric.batch(pairs)
    if isinstance(metric, SetMetric):
        alone = [metric.points(pair) for pair in pairs]
        for one, other in zip(together, alone, strict=True):
            assert one.keys() == other.keys()
            for kind in one:
                np.testing.assert_allclose(one[kind], other[kind], rtol=1e-4, atol=1e-6)
    else:
        alone = [metric(pair) for pair in pairs]
        assert together == pytest.approx(alone, rel=1e-4, nan_ok=True) and len(set(together)) == 3
    return metric.batched


def vgg16_features():
    """The convolutions alone: the classifier has half a gigabyte."""
    import torchvision

    with torch.device("meta"):
        features = torchvision.models.vgg16().features
    features.to_empty(device="cpu")
    for parameter in features.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return features


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and an empty cache."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "cache"))
    yield
    torch.hub.set_dir(before)


@pytest.fixture
def weights(tmp_path, squeezenet, offline):
    """A folder with the weights of SqueezeNet alone."""
    (tmp_path / "weights").mkdir()
    shutil.copy(squeezenet, tmp_path / "weights" / "squeezenet1_1.safetensors")
    return tmp_path / "weights"


@pytest.fixture
def trusted(monkeypatch):
    """Random weights under published names, whose hashes are not looked at."""
    monkeypatch.setattr("ulcompress.evaluation.metrics.weights._checked", lambda path: path)


@pytest.fixture
def published(weights, trusted):
    """The same weights under the name under which torchvision publishes others."""
    from safetensors.torch import load_file

    path = weights / "squeezenet1_1-b8a52dc0.pth"
    torch.save(load_file(weights / "squeezenet1_1.safetensors"), path)
    return path


def test_lpips_is_that_of_torchmetrics(weights, published, monkeypatch):
    import torchvision
    from safetensors.torch import load_file

    metric = METRICS["lpips-squeeze"](weights, "cpu")
    network = torchvision.models.squeezenet1_1()
    network.load_state_dict(load_file(weights / "squeezenet1_1.safetensors"))
    monkeypatch.setattr("torchvision.models.squeezenet1_1", lambda **_: network)
    pair = sample()
    expected = learned_perceptual_image_patch_similarity(
        pair.restored[None], pair.original[None], net_type="squeeze", normalize=True
    )
    assert metric(pair) == pytest.approx(float(expected), rel=1e-4) and metric(pair) > 0
    assert metric(Pair(pair.original, pair.original)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(metric(sample(20, 90)))
    assert metric.files == hashes(published) and len(*metric.files.values()) == 64


def test_lpips_takes_no_other_weights(weights):
    metrics, missing = build(["lpips-squeeze", "feature-distance-squeezenet1_1"], weights, "cpu")
    assert [metric.name for metric in metrics] == ["feature-distance-squeezenet1_1"]
    assert "squeezenet1_1-b8a52dc0.pth is wanted" in missing[0].reason


def test_the_published_file_of_torchvision_does_as_well(weights, tmp_path, trusted):
    from safetensors.torch import load_file

    (tmp_path / "other").mkdir()
    state = load_file(weights / "squeezenet1_1.safetensors")
    torch.save(state, tmp_path / "other" / "squeezenet1_1-b8a52dc0.pth")
    one, other = (METRICS["feature-distance-squeezenet1_1"](folder, "cpu") for folder in (weights, tmp_path / "other"))
    assert one(sample()) == other(sample()) > 0
    assert one.name == "feature-distance-squeezenet1_1" and "not LPIPS" in one.protocol


def test_dists_is_that_of_torchmetrics(weights, monkeypatch, trusted):
    torch.manual_seed(0)
    features = vgg16_features()
    file = weights / "vgg16-397923af.pth"
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, file)
    metric = METRICS["dists"](weights, "cpu")
    assert metric.files == hashes(file)
    monkeypatch.setattr("torchmetrics.functional.image.dists.vgg16", lambda weights: SimpleNamespace(features=features))
    pair = sample()
    with torch.no_grad():
        expected = DISTSNetwork()(pair.original[None], pair.restored[None])
    assert metric(pair) == pytest.approx(float(expected), rel=1e-4) and metric(pair) > 0.01
    assert metric(Pair(pair.original, pair.original)) == pytest.approx(0, abs=1e-5)
    assert same_in_a_batch(metric)


def test_dists_of_constant_images_has_finite_gradients(weights, trusted):
    file = weights / "vgg16-397923af.pth"
    torch.save({f"features.{name}": value for name, value in vgg16_features().state_dict().items()}, file)
    image = torch.full((1, 3, 40, 40), 0.5, requires_grad=True)
    DISTS(weights=str(file))(image, torch.zeros(1, 3, 40, 40)).sum().backward()
    assert image.grad.isfinite().all() and image.grad.abs().max() > 0


def test_converted_layers_count_as_published_where_their_tensors_do(weights, monkeypatch):
    path = weights / "squeezenet1_1.safetensors"
    with pytest.raises(MissingWeights, match=r"squeezenet1_1-b8a52dc0\.pth is wanted"):
        convolutions("squeezenet1_1", weights)
    monkeypatch.setitem(LAYERS, "squeezenet1_1", _hash_of_layers(path))
    assert convolutions("squeezenet1_1", weights) == path


@pytest.mark.parametrize(
    "name",
    ["lpips-squeeze", "feature-distance-squeezenet1_1", "frechet-squeezenet1_1", "frechet-squeezenet1_1-128", "psnr"],
)
def test_a_batch_has_the_numbers_of_one_by_one(weights, published, name, one_thread):
    metric = METRICS[name](weights, "cpu")
    assert same_in_a_batch(metric, size=(130, 260)) == (name != "psnr")


@pytest.mark.parametrize("name", ["frechet-squeezenet1_1", "feature-distance-squeezenet1_1", "lpips-squeeze"])
def test_images_go_where_the_network_is(weights, published, name):
    """There are no numbers on this device, which is found out when the network has done its work."""
    metric = METRICS[name](weights, "meta")
    with pytest.raises((NotImplementedError, RuntimeError), match=r"out of meta tensor|on meta tensors"):
        metric.batch([sample(130, 140)])


@pytest.mark.parametrize("name", ["lpips-squeeze", "frechet-squeezenet1_1"])
def test_a_batch_of_small_images_has_no_numbers(weights, published, name):
    found = METRICS[name](weights, "cpu").batch([sample(20, 90), sample(20, 90)])
    assert all(len(of["restored"]) == 0 if isinstance(of, dict) else math.isnan(of) for of in found) and len(found) == 2


def test_what_is_missing_is_told_and_the_rest_goes_on(weights):
    names = ["psnr", "fid", "frechet-squeezenet1_1", "clip-image", "dists", "miou"]
    metrics, missing = build(names, weights, "cpu")
    assert [metric.name for metric in metrics] == ["psnr", "frechet-squeezenet1_1"]
    told = {one.name: one.reason for one in missing}
    assert "weights-inception-2015-12-05-6726825d.pth is wanted; put it into --weights DIR, from https" in told["fid"]
    assert "the folder clip-vit-base-patch16 is wanted" in told["clip-image"]
    assert "vgg16-397923af.pth" in told["dists"] and "deeplabv3" in told["miou"]
    assert not any("\n" in reason for reason in told.values())


def test_names():
    with pytest.raises(ValueError, match="got the metric 'fidd'; known are all, psnr"):
        build(["fidd"], None, "cpu")
    metrics, missing = build([*FIDELITY, "psnr"], None, "cpu")
    assert [metric.name for metric in metrics] == list(FIDELITY) and not missing


def test_inception_is_refused_where_its_file_would_be_unpickled(weights, trusted):
    class Evil:
        def __reduce__(self):
            return print, ("unpickled",)

    torch.save({"a": Evil()}, weights / "weights-inception-2015-12-05-6726825d.pth")
    with pytest.raises(MissingWeights, match=r"6726825d\.pth cannot be read .*Weights only load failed"):
        METRICS["fid"](weights, "cpu")


def test_fid_and_kid_are_those_of_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    generator = torch.Generator().manual_seed(0)
    points, others = (torch.randn(300, 16, generator=generator) + shift for shift in (0.0, 0.3))
    expected = kid_features_to_metric(
        others, points, kid_subsets=1, kid_subset_size=300, kid_kernel_poly_degree=3, verbose=False, rng_seed=0
    )["kernel_inception_distance_mean"]
    assert kernel_distance(points.double(), others.double()) == pytest.approx(expected, rel=1e-3)
    statistics = (fid_features_to_statistics(x) for x in (points, others))
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_of_points(points.double(), others.double()) == pytest.approx(expected, rel=1e-3)


def test_kid_of_many_samples_is_the_same_every_time():
    generator = torch.Generator().manual_seed(0)
    points, others = (torch.randn(SUBSET + 10, 4, generator=generator).double() for _ in range(2))
    assert kernel_distance(points, others) == kernel_distance(points, others)
    assert abs(kernel_distance(points, others)) < 0.01


def colours(images):
    return images.mean((2, 3))


def distance(**options):
    return SetDistance(colours, frechet_of_points, name="x", label="x", protocol="x", files={}, **options)


def test_patches_are_those_of_two_grids():
    metric = distance(patch=32, half_shift=True)
    pair = sample(70, 100)
    points = metric.points(pair)
    assert points["original"].shape == (2 * 3 + 1 * 2, 3) and points["original"].dtype == np.float32
    shifted = cut(pair.original[None, :, 16:, 16:], 32)
    np.testing.assert_allclose(points["original"][6:], colours(shifted), rtol=1e-6)
    assert distance(patch=32, half_shift=False).points(pair)["restored"].shape == (6, 3)
    assert distance(patch=None, half_shift=False).points(pair)["restored"].shape == (1, 3)


def test_points_of_images_one_by_one_are_those_of_the_set():
    metric = distance(patch=16, half_shift=False)
    samples = [sample(40, 50), sample(33, 16), sample(15, 99)]
    points = [metric.points(one) for one in samples]
    assert [len(of_image["restored"]) for of_image in points] == [6, 2, 0]
    together = frechet_of_points(
        *(torch.from_numpy(np.concatenate([p[k] for p in points[:2]])).double() for k in ("restored", "original"))
    )
    assert metric.compute(points) == pytest.approx(together) and together > 0
    assert math.isnan(metric.compute(points[2:])) and math.isnan(metric.compute([]))


def test_mean_iou_is_its_closed_form():
    metric = MeanIoU(lambda images: images[:, 0].round().long(), 4, protocol="x", files={})

    def labels(rows):
        return torch.tensor(rows, dtype=torch.float32)[None].expand(3, -1, -1)

    first = metric.points(Pair(labels([[0, 0], [1, 1]]), labels([[0, 1], [1, 1]])))
    second = metric.points(Pair(labels([[2, 0]]), labels([[0, 0]])))
    # Class 0: 1 + 1 of 2 + 2; class 1: 2 of 3; class 2: none of 1; class 3 is nowhere.
    assert metric.compute([first, second]) == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert same_in_a_batch(metric)


def test_miou_of_torchvision(weights, trusted):
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    network = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    torch.save(network.state_dict(), weights / "deeplabv3_resnet50_coco-cd0a2569.pth")
    metric = METRICS["miou"](weights, "cpu")
    pair = sample(64, 64)
    assert metric.compute([metric.points(Pair(pair.original, pair.original))]) == 1
    assert 0 <= metric.compute([metric.points(pair)]) <= 1


def test_clip_score_is_the_cosine_of_the_embeddings(weights):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    from ulcompress.images import to_pil

    folder = weights / "clip-vit-base-patch16"
    folder.mkdir()
    letters = [chr(code) for code in range(97, 123)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=sizes | {"vocab_size": len(tokens), "max_position_embeddings": 20, "eos_token_id": len(tokens) - 1},
        vision_config=sizes | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    size = {"height": 32, "width": 32}
    processor = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), tokenizer)
    processor.save_pretrained(folder)
    image, caption = METRICS["clip-image"](weights, "cpu"), METRICS["clip-caption"](weights, "cpu")
    pair = sample(caption="a red cup")
    with torch.no_grad():
        restored, original = (
            model.get_image_features(
                pixel_values=processor.image_processor(images=to_pil(pixels), return_tensors="pt")["pixel_values"]
            ).pooler_output
            for pixels in (pair.restored, pair.original)
        )
        text = model.get_text_features(**tokenizer(["a red cup"], return_tensors="pt")).pooler_output
    assert image(pair) == pytest.approx(100 * max(0, float(F.cosine_similarity(restored, original))), abs=1e-3)
    assert caption(pair) == pytest.approx(100 * max(0, float(F.cosine_similarity(restored, text))), abs=1e-3)
    assert image(Pair(pair.original, pair.original)) == pytest.approx(100, abs=1e-3)
    assert math.isnan(caption(sample()))
    assert same_in_a_batch(image) and same_in_a_batch(caption)
    assert all(map(math.isnan, caption.batch([sample(), sample()])))
    assert set(image.files) == {"model.safetensors"}


def test_ssimulacra2_names_what_computed_it(monkeypatch, tmp_path):
    from ssimulacra2 import compute_ssimulacra2

    from ulcompress.images import write_image

    monkeypatch.setenv("PATH", str(tmp_path))
    metric, pair = METRICS["ssimulacra2"](None, "cpu"), sample(64, 64)
    assert metric.name == "ssimulacra2-port"
    for name, image in (("a.png", pair.original), ("b.png", pair.restored)):
        write_image(image, tmp_path / name)
    assert metric(pair) == compute_ssimulacra2(str(tmp_path / "a.png"), str(tmp_path / "b.png")) < 50
    assert metric(Pair(pair.original, pair.original)) == pytest.approx(100, abs=0.01)
    program = tmp_path / "ssimulacra2"
    program.write_text("#!/bin/sh\necho 12.5\n")
    program.chmod(0o755)
    metric = METRICS["ssimulacra2"](None, "cpu")
    assert metric.name == "ssimulacra2" and metric(pair) == 12.5


def test_a_file_that_is_not_what_its_name_promises_is_missing(weights):
    import hashlib

    path = weights / "alexnet-owt-7be5be79.pth"
    path.write_bytes(b"half of it")
    found = hashlib.sha256(b"half of it").hexdigest()[:8]
    metrics, missing = build(["psnr", "lpips-alex", "frechet-alexnet"], weights, "cpu")
    assert [metric.name for metric in metrics] == ["psnr"] and len(missing) == 2
    for one in missing:
        assert f"alexnet-owt-7be5be79.pth has a SHA-256 of {found}... where its name says 7be5be79" in one.reason
        assert "get it from https" in one.reason and "\n" not in one.reason


def test_a_file_that_holds_its_hash_is_taken(tmp_path):
    import hashlib

    path = tmp_path / f"net-{hashlib.sha256(b'all of it').hexdigest()[:8]}.pth"
    path.write_bytes(b"all of it")
    assert _checked(path) == path


@pytest.mark.parametrize("name", ["lpips-squeeze", "feature-distance-squeezenet1_1", "frechet-squeezenet1_1"])
def test_a_file_that_cannot_be_read_is_missing(weights, published, name):
    for file in weights.iterdir():
        file.write_bytes(b"half of it")
    metrics, missing = build([name, "psnr"], weights, "cpu")
    assert [metric.name for metric in metrics] == ["psnr"]
    assert "squeezenet1_1" in missing[0].reason
    assert "cannot be read as the weights that are wanted" in missing[0].reason


@pytest.mark.parametrize("content", [b"\x80\x02h\x05.", b"", b"no pickle"])
def test_a_damaged_file_of_a_backbone_is_one_line(tmp_path, content):
    path = tmp_path / "vgg16.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"vgg16\.pth.* cannot be read as a state dictionary of torchvision's vgg16"):
        load_backbone("vgg16", str(path))


def test_only_fid_is_told_to_be_biased_by_few_samples(tmp_path, monkeypatch):
    sets = "ulcompress.evaluation.metrics.sets"
    monkeypatch.setattr(f"{sets}.fetch", lambda file, folder: tmp_path / file)
    monkeypatch.setattr(f"{sets}.inception_features", lambda path, device: colours)
    fid, kid = (METRICS[name](None, "cpu").protocol for name in ("fid", "kid"))
    assert fid.endswith("few samples bias it upwards") and "bias" not in kid.replace("unbiased", "")


@pytest.mark.parametrize("name", ["frechet-squeezenet1_1", "frechet-squeezenet1_1-128"])
def test_images_that_are_too_small_for_a_backbone_have_no_points(weights, name):
    metric = METRICS[name](weights, "cpu")
    points = metric.points(sample(20, 90))
    assert [len(points[kind]) for kind in ("restored", "original")] == [0, 0] and math.isnan(metric.compute([points]))


def test_missing_weights_are_value_errors():
    assert issubclass(MissingWeights, ValueError)


def test_distances_on_any_backbone_by_name(weights, one_thread):
    """Under its name, from its file; told as missing with the published file where there is none."""
    import torchvision

    torch.manual_seed(0)
    save_file(torchvision.models.resnet18().state_dict(), weights / "resnet18.safetensors")
    names = ["feature-distance-resnet18", "frechet-resnet18", "frechet-resnet18-128"]
    metrics, missing = build([*names, "frechet-mobilenet_v3_small"], weights, "cpu")
    assert [metric.name for metric in metrics] == names
    assert list(metrics[0].files) == ["resnet18.safetensors"]
    assert metrics[0](sample()) > 0
    assert metrics[1].points(sample())["restored"].shape == (1, 512)
    assert metrics[2].points(sample(256, 300))["restored"].shape == (4, 512)
    (lacking,) = missing
    assert (
        lacking.name == "frechet-mobilenet_v3_small" and "mobilenet_v3_small-047dcff4.pth is wanted" in lacking.reason
    )
    for name in ("frechet-nothing", "feature-distance-", "frechet-vgg16-64"):
        with pytest.raises(ValueError, match=f"got the metric '{name}'"):
            build([name], weights, "cpu")
