import inspect
import resource
import sys
import time
from abc import ABC
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
import torch
import yaml

import ulcompress
from ulcompress import load
from ulcompress.part import Part, loadable, sources_of
from ulcompress.pretrained import build, save
from ulcompress.pretrained.configuration import Checker

UNDECLARED = {
    "AbsentDecoder",
    "StableDiffusion",
    "PretrainedNetwork",
    "BlipCaptioner",
    "OnlineOptimizer",
    "LPIPS",
    "DISTS",
    "FeatureDistance",
    "ExportedDistance",
}
"""Parts that no saved codec has: they fetch weights by default, read a file, or search."""
PACKAGE = """
import pathlib
pathlib.Path("imported").touch()
from ulcompress.encoders import HyperEncoder
from ulcompress.part import loadable

@loadable()
class Declared(HyperEncoder):
    def __init__(self, *, width: int = 8):
        super().__init__(stride=16, width=width, channels=8)

class Undeclared(Declared):
    pass
"""


def parts():
    for module in walk_packages(ulcompress.__path__, "ulcompress."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    classes = [Part]
    for kind in classes:
        classes += kind.__subclasses__()
    concrete = [kind for kind in classes if not inspect.isabstract(kind) and ABC not in kind.__bases__]
    return {kind for kind in concrete if kind.__module__.startswith("ulcompress.")}


def test_every_part_declares_whether_a_saved_codec_may_have_it_and_is_found_by_its_path():
    known = parts() - {Part}
    assert {kind.__name__ for kind in known if sources_of(kind) is None} == UNDECLARED
    for kind in known:
        room = kind.__module__.split(".")[1]
        if kind.__name__ not in UNDECLARED and room not in ("codec", "losses", "templates", "training"):
            assert Checker().find(kind.path(), "key") is kind


def test_an_argument_that_takes_strings_must_be_declared():
    with pytest.raises(TypeError, match=r"does Reader\.file lead to a file or a network\? Declare it"):

        @loadable()
        class Reader(Part):
            def __init__(self, *, width: int = 3, file: str | None = None):
                super().__init__()

    @loadable()
    class Parent(Part):
        pass

    class Child(Parent):
        pass

    assert sources_of(Parent) == frozenset() and sources_of(Child) is None


@pytest.fixture
def saved(tiny_codec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    save(tiny_codec, "codec")
    yield Path("codec")
    for name in ("stranger", "package"):
        sys.modules.pop(name, None)


def change(saved, key, value):
    config = yaml.safe_load((saved / "config.yaml").read_text())
    *path, last = key.split(".")
    owner = config
    for name in path:
        owner = owner[name]
    owner[last] = value
    (saved / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    "path",
    [
        *("stranger.Part", "stranger", "os.system", "torch.hub.load", "ulcompressed.Part", ".", "ulcompress"),
        *("ulcompress.pretrained.load", "ulcompress.quantizers.vector.torch.hub.load", "ulcompress.__main__.main"),
        *("ulcompress.quantizers.Quantizer", "ulcompress.quantizers.vector.VectorQuantizer", "VectorQuantizer"),
        *("ulcompress.encoders.HyperEncoder", "ulcompress.training.CodecModule", "ulcompress.StableDiffusion"),
    ],
)
def test_only_declared_parts_that_fit_are_built_and_nothing_else_is_imported(path, saved):
    Path("stranger.py").write_text("raise SystemExit('imported')")
    before = set(sys.modules)
    change(saved, "quantizer", {"class_path": path, "init_args": {}})
    with pytest.raises(ValueError, match=r"config\.yaml is not a valid codec configuration: codec\.quantizer: "):
        load(saved)
    assert set(sys.modules) == before


@pytest.mark.parametrize("value", ["VectorQuantizer", "stranger.yaml", "/etc/passwd", [], 3, None, {"class_path": 3}])
def test_a_part_has_one_form(value, saved):
    change(saved, "quantizer", value)
    with pytest.raises(ValueError, match=r"codec\.quantizer: a part is `class_path` and `init_args`, got"):
        load(saved)


@pytest.mark.parametrize(
    ("part", "argument", "value"),
    [
        ("ulcompress.learned.illm.MSILLM", "quality", 1),
        ("ulcompress.learned.illm.MSILLM", "weights", "/etc/passwd"),
        ("ulcompress.learned.compressai.CompressAIModel", "quality", 1),
        ("ulcompress.learned.compressai.CompressAIModel", "weights", "weights.pth"),
        ("ulcompress.autoencoders.KLAutoencoder", "pretrained", {"name": "organisation/model"}),
    ],
)
def test_what_leads_out_of_the_directory_is_refused(part, argument, value, saved):
    slot, key = ("autoencoder", "codec.autoencoder") if "KL" in part else ("encoder", "codec.encoder.model")
    model = {"class_path": part, "init_args": {argument: value}}
    analysis = {"class_path": "ulcompress.encoders.AnalysisTransform", "init_args": {"model": model}}
    change(saved, slot, model if slot == "autoencoder" else analysis)
    with pytest.raises(ValueError, match=rf"{key}\.{argument} is .*, which leads to code, files or models elsewhere"):
        load(saved)


def test_an_architecture_has_known_names_alone(saved):
    # transformers keeps others, and fetches the code of an attention that is named like a repository.
    arguments = {"architecture": {"attn_implementation": "stranger/kernel"}}
    clip = {"class_path": "ulcompress.conditioning.ClipTextEncoder", "init_args": arguments}
    change(saved, "conditioning.text.init_args.encoder", clip)
    with pytest.raises(ValueError, match="the architecture has 'attn_implementation', which a CLIPTextModel does not"):
        load(saved)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "${oc.env:HOME}", r"decoder\.steps: expected int, got '\$\{oc\.env:HOME\}'"),
        ("steps", True, r"decoder\.steps: expected int, got True"),
        ("steps", 2**64, r"decoder\.steps: 18446744073709551616 is no plain value"),
        ("guidance", float("nan"), r"decoder\.guidance: nan is no plain value"),
        ("estimate", {"a": 1}, r"decoder\.estimate: a part is `class_path` and `init_args`"),
    ],
)
def test_a_value_that_does_not_fit_is_named(key, value, message, saved):
    change(saved, f"decoder.init_args.{key}", value)
    with pytest.raises(ValueError, match=message):
        load(saved)


def test_interpolations_stay_what_they_are_and_are_refused(saved, monkeypatch):
    monkeypatch.setenv("PADDING", "zeros")
    change(saved, "decoder.init_args.denoiser.init_args.padding", "${oc.env:PADDING}")
    with pytest.raises(ValueError, match=r"denoiser\.padding: '\$\{oc\.env:PADDING\}' is no plain value"):
        load(saved)


def test_a_file_that_refers_to_itself_is_refused_before_it_grows(saved):
    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    (saved / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"config\.yaml: it refers to its own parts"):
        load(saved)
    (saved / "config.yaml").write_text("# " + "x" * (1 << 16))
    with pytest.raises(ValueError, match=r"config\.yaml: it has more than 65536 bytes"):
        load(saved)
    (saved / "config.yaml").write_text("encoder: " + "[" * 50_000)
    with pytest.raises(ValueError, match=r"config\.yaml: it is nested deeper than 40 times"):
        load(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("decoder.init_args.denoiser.init_args.widths", [2**20, 2**20]),
        ("decoder.init_args.denoiser.init_args.layers", 10**9),
        ("quantizer.init_args.codebook_size", 10**12),
        ("encoder.init_args.width", 10**6),
    ],
)
def test_a_codec_that_its_weights_cannot_fill_is_not_built(key, value, saved):
    change(saved, key, value)
    start, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"config\.yaml is not a valid codec configuration"):
        load(saved)
    assert time.perf_counter() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500_000


def test_parts_of_a_package_are_built_where_it_is_trusted(saved):
    Path("package.py").write_text(PACKAGE)
    change(saved, "encoder", {"class_path": "package.Declared", "init_args": {"width": 8}})
    with pytest.raises(ValueError, match=r"codec\.encoder: 'package\.Declared' is not of ulcompress.*--trust PACKAGE"):
        load(saved)
    assert not Path("imported").exists()
    codec = load(saved, trust=["package"])
    assert type(codec.encoder).__name__ == "Declared"
    again = build(codec.arguments(), trust=["package"])
    assert again.arguments() == codec.arguments()
    change(saved, "encoder.class_path", "package.Undeclared")
    with pytest.raises(ValueError, match=r"Undeclared is not declared `ulcompress\.part\.loadable`"):
        load(saved, trust=["package"])


def test_the_command_line_trusts_a_package(saved, capsys):
    from PIL import Image

    from ulcompress.commands.main import run

    Path("package.py").write_text(PACKAGE)
    change(saved, "encoder", {"class_path": "package.Declared", "init_args": {}})
    Image.new("RGB", (32, 32)).save("a.png")
    assert run(["compress", "a.png", "--codec", "codec"]) == 1
    assert "--trust PACKAGE" in capsys.readouterr().err
    trust = ["--codec", "codec", "--trust", "package"]
    assert run(["compress", "a.png", *trust]) == 0
    assert run(["info", "a.ulc", *trust]) == 0
    assert run(["decompress", "a.ulc", *trust, "--force"]) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(value, tiny_codec, saved):
    from safetensors.torch import load_file, save_file

    path = saved / "model.safetensors"
    state = load_file(path)
    state["autoencoder.network.encoder.conv_in.weight"].view(-1)[3] = value
    save_file(state, path)
    with pytest.raises(ValueError, match=r"damaged: autoencoder\..*conv_in\.weight has numbers that are not finite"):
        load(saved)
    with torch.no_grad():
        next(tiny_codec.encoder.parameters()).view(-1)[0] = 1e6
    with pytest.raises(ValueError, match=r"encoder\..* has weights that are not finite in half precision"):
        save(tiny_codec, "other")
    assert not Path("other").exists()


def test_an_image_that_is_not_finite_is_an_error(tiny_codec):
    data = tiny_codec.compress(torch.rand(3, 32, 32))
    with torch.no_grad():
        tiny_codec.autoencoder.network.decoder.conv_out.bias.fill_(float("inf"))
    with pytest.raises(ValueError, match="the restored image is not finite"):
        tiny_codec.decompress(tiny_codec.compress(torch.rand(3, 32, 32)))
    assert data


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([[255 + n, 255 + n] for n in range(44)], "they make more than 16777216 bytes"),
        ([[97, 256]] + [[-1, -1]] * 43, "joins tokens that no earlier row defines"),
        ([[97, -2]] + [[-1, -1]] * 43, "joins tokens that no earlier row defines"),
        ([[-1, -1], [97, 98]] + [[-1, -1]] * 42, "joins tokens that no earlier row defines"),
    ],
)
def test_a_vocabulary_that_no_training_makes_is_refused(merges, message, saved):
    from safetensors.torch import load_file, save_file

    path = saved / "model.safetensors"
    save_file(load_file(path) | {"conditioning.text.coder.vocabulary.merges": torch.tensor(merges)}, path)
    with pytest.raises(ValueError, match=message):
        load(saved)


def test_rooms_of_a_codec_hold_parts_of_a_codec_alone():
    with pytest.raises(ValueError, match="is no part that a codec has"):
        Checker().find("ulcompress.losses.LPIPS", "key")
