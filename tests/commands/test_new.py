"""Packages that `ulcompress new` writes: each template keeps its contract and is trained."""

import importlib.util
import re
from pathlib import Path

import jsonargparse
import pytest
import torch
import yaml

from ulcompress import Codec, testing, training  # noqa: F401  (imported classes can be named without their path)
from ulcompress.commands.main import run
from ulcompress.commands.new import SLOTS

STEPS = [
    *("--data.batch_size", "2", "--data.crop", "32", "--data.num_workers", "0", "--trainer.max_steps", "3"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]


@pytest.fixture
def write(tmp_path, monkeypatch, one_thread):
    """Return a function that writes the package of a slot, as if it were installed, and returns its folder."""
    monkeypatch.chdir(tmp_path)

    def package(slot):
        name = "My" + slot.title().replace("_", "")
        assert run(["new", "part", slot, name]) == 0
        folder = Path("my-" + slot.replace("_", "-"))
        monkeypatch.syspath_prepend(str(folder.absolute()))
        return folder

    return package


def module_of(path):
    spec = importlib.util.spec_from_file_location("test_contract_of_a_template", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("slot", SLOTS)
def test_a_template_keeps_its_contract(slot, write):
    module_of(write(slot) / "tests/test_contract.py").test_contract()


def test_there_is_a_template_for_every_check():
    assert sorted(SLOTS) == sorted(name.removeprefix("check_") for name in testing.__all__)


def built(*files):
    """Return the codec of experiments that are laid one over the other."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--codec", type=Codec)
    options = None
    for file in files:
        codec = yaml.safe_load(file.read_text())["model"]["init_args"].get("codec", {})
        options = parser.parse_object({"codec": codec}, cfg_base=options)
    return parser.instantiate(options).codec


@pytest.mark.parametrize("slot", [slot for slot in SLOTS if slot != "distance"])
def test_the_experiment_of_a_template_has_a_codec_that_learns(slot, write):
    folder = write(slot)
    codec = built(folder / "experiments/codec.yaml", folder / f"experiments/my_{slot}.yaml").train()
    parts = [type(part) for part in codec.modules() if type(part).__module__.startswith("my_")]
    assert [part.__name__ for part in parts] == ["My" + slot.title().replace("_", "")]
    losses = codec(torch.rand(2, 3, 32, 32)).losses
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


def trained(slot, write, images):
    """Train the experiment of a template three steps, and return the run's folder."""
    folder = write(slot)
    assert run(["fit", "-c", f"{folder}/experiments/my_{slot}.yaml", "--data.train", images, *STEPS]) == 0
    checkpoint = torch.load(f"runs/my_{slot}/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3 and f"my_{slot}" in str(checkpoint["hyper_parameters"])
    return Path(f"runs/my_{slot}")


def test_a_distance_is_trained_with(write, image_folder):
    trained("distance", write, image_folder(4, 40, 40))


def test_a_trained_codec_is_used_where_its_package_is_trusted(write, image_folder, capsys):
    images = image_folder(4, 40, 40)
    command = ["compress", f"{images}/0.png", "--codec", str(trained("quantizer", write, images) / "codec")]
    assert run(command) == 1
    assert "my_quantizer" in capsys.readouterr().err
    assert run([*command, "--trust", "my_quantizer"]) == 0


def test_names_are_those_of_the_part(write):
    folder = write("entropy_model")
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.*")}
    assert not [path for path, text in texts.items() if re.search(r"[Tt]emplate", text)]
    assert "class MyEntropyModel(EntropyModel)" in texts["my_entropy_model/entropy_model.py"]


def test_nothing_is_overwritten(tmp_path, capsys):
    assert run(["new", "part", "quantizer", "MyQuantizer", "--out", str(tmp_path)]) == 1
    assert "exists; name a new folder with --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(["new", "part", "quantizer", "my quantizer"])
    assert "capitalised words" in capsys.readouterr().err
