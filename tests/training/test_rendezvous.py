"""A training on several nodes says what it waits for."""

from pathlib import Path

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from ulcompress.commands.main import run
from ulcompress.training import rendezvous

TINY = str(Path(__file__).parent / "tiny.yaml")


@pytest.fixture
def fit(images, tmp_path, monkeypatch):
    """Return a function that begins a training on two nodes; the processes meet within a second, or never."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rendezvous, "EVERY", 0.2)
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    words = ["fit", "-c", TINY, "--data.train", images, "--trainer.max_steps", "1", "--trainer.num_nodes", "2"]
    words += ["--trainer.strategy", "DDPStrategy", "--trainer.strategy.timeout", "0:00:01"]
    rank = rank_zero_only.rank
    yield lambda: run(words)
    rank_zero_only.rank = rank


def test_a_node_that_never_comes_is_said(fit, monkeypatch, capsys):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29871")
    assert fit() == 1
    *waiting, last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ulcompress:")]
    expected = "node 0 of 2, with the ranks 0 to 0 of 2, waits at 127.0.0.1:29871 for node 1"
    assert waiting and all(expected in line and "s so far; start the same command" in line for line in waiting)
    assert f"{expected}, in vain: " in last and "1/2" in last and "MASTER_ADDR" in last


@pytest.mark.parametrize("node, missing", [("0", "MASTER_PORT"), ("1", "MASTER_PORT and MASTER_ADDR")])
def test_where_nodes_meet_has_to_be_said(node, missing, fit, monkeypatch, capsys):
    monkeypatch.setenv("NODE_RANK", node)
    assert fit() == 1
    assert f"trainer.num_nodes is 2, and {missing} not set; on each node set" in capsys.readouterr().err
