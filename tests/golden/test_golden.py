"""Files of the past decode forever: to the same symbols, and to the same pixels but for rounding.

Where one of these fails, the code is wrong, never the file.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import ulcompress
from ulcompress.coding import bitstream
from ulcompress.commands.main import run
from ulcompress.pretrained import export

HERE = Path(__file__).parent
FILES = json.loads((HERE / "files.json").read_text())
CHECKPOINTS = {
    "perco": "064539a6cd191240874838e57dd4e144d99b0aef1e358cc5edaf074836633c87",
    "cgdm": "5a0b1c0d2e73ed48b6cb15a10669868446b66ce3440db01b40947aea1968eed7",
}

_spec = importlib.util.spec_from_file_location("golden_write", HERE / "write.py")
assert _spec is not None and _spec.loader is not None
write = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(write)


def codec_of(name, **options):
    return ulcompress.load(HERE / name if (HERE / name).is_dir() else name, **options)


def assert_same_pixels(restored, path):
    expected = np.load(path).astype(int)
    difference = np.abs(write.sampled(restored).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.02


@pytest.mark.parametrize("name", FILES)
def test_files_hold_the_same_symbols_forever(name, one_thread):
    codec = codec_of(FILES[name]["codec"])
    assert write.symbols_of(codec, (HERE / name).read_bytes()) == FILES[name]["symbols"]


@pytest.mark.parametrize("name", [name for name in FILES if (HERE / name).with_suffix(".npy").exists()])
def test_files_restore_the_same_pixels(name, one_thread):
    restored = codec_of(FILES[name]["codec"]).decompress((HERE / name).read_bytes())
    assert_same_pixels(restored, (HERE / name).with_suffix(".npy"))


@pytest.mark.parametrize("name", FILES)
def test_an_encoder_alone_reads_the_same_symbols(name, one_thread):
    codec = ulcompress.load(
        HERE / codec if (HERE / (codec := FILES[name]["codec"])).is_dir() else codec, encoder_only=True
    )
    assert write.symbols_of(codec, (HERE / name).read_bytes()) == FILES[name]["symbols"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_codec_exported_from_an_old_checkpoint_restores_the_same_pixels(name, one_thread, tmp_path):
    export(HERE / "checkpoints" / f"{name}.ckpt", tmp_path)
    data = (HERE / "checkpoints" / f"{name}.ulc").read_bytes()
    codec = ulcompress.load(tmp_path).named(bitstream.parse(data)[0].fingerprint.hex())
    assert write.symbols_of(codec, data) == CHECKPOINTS[name]
    assert_same_pixels(codec.decompress(data), HERE / "checkpoints" / f"{name}.npy")


# 2026-11: Lightning says that the folder of the checkpoints is another one, as it is here.
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_training_continues_from_an_old_checkpoint(name, one_thread, tmp_path, monkeypatch, image_folder):
    monkeypatch.chdir(tmp_path)
    experiment = yaml.safe_load((HERE / "checkpoints" / f"{name}.yaml").read_text())
    Path("experiment.yaml").write_text(yaml.safe_dump(experiment))
    arguments = ["--data.train", image_folder(4, 48, 40), "--trainer.max_steps", "3"]
    checkpoint = str(HERE / "checkpoints" / f"{name}.ckpt")
    assert run(["fit", "-c", "experiment.yaml", *arguments, "--ckpt_path", checkpoint]) == 0
    assert Path("run", "last.ckpt").is_file()
