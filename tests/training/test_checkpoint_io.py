from pathlib import Path

import pytest
import torch

from ulcompress.commands.main import run
from ulcompress.training.checkpoint_io import WholeCheckpointIO


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    for path in (tmp_path / "new" / "a.ckpt", f"file://{tmp_path}/b.ckpt"):
        WholeCheckpointIO().save_checkpoint({"weights": torch.arange(5)}, path)
    for path in (tmp_path / "new" / "a.ckpt", tmp_path / "b.ckpt"):
        assert torch.load(path, weights_only=True)["weights"].tolist() == [0, 1, 2, 3, 4]
        assert [file.name for file in path.parent.iterdir() if file.is_file()] == [path.name]


def test_a_failure_keeps_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"step": 1}, path)

    def cut(_, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1} and list(tmp_path.iterdir()) == [path]


def test_a_training_writes_its_checkpoints_so(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written, save = [], WholeCheckpointIO.save_checkpoint

    def noted(self, checkpoint, path, **rest):
        written.append(Path(path).name)
        save(self, checkpoint, path, **rest)

    monkeypatch.setattr(WholeCheckpointIO, "save_checkpoint", noted)
    options = ["--data.train", images, "--data.validation", images, "--trainer.max_steps", "1"]
    assert run(["fit", "-c", str(Path(__file__).parent / "tiny.yaml"), *options]) == 0
    assert {"step=1.ckpt", "last.ckpt"} <= set(written)
