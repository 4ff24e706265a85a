"""Several processes train what one would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ulcompress.commands.main import run
from ulcompress.training import zero
from ulcompress.training.sharding import shard, whole, whole_parameters

TINY = str(Path(__file__).parent / "tiny.yaml")
STEPS = 2


SMOOTH = [
    *("--model.optimizer.kind", "SGD", "--model.optimizer.options", "{momentum: 0.9}"),
    *("--model.acceleration.channels_last", "false", "--trainer.callbacks.moving_average", "null"),
]
"""Options with which rounding stays rounding: AdamW makes whole steps of gradients that should be zero."""


def arguments(images, *more):
    return ["fit", "-c", TINY, "--data.train", images, "--data.validation", images, *more]


def trained_by_two(images, strategy):
    """Return the checkpoint of a training by two processes, which are prepared by two batches each."""
    words = ["--trainer.strategy", strategy, "--trainer.devices", "2", "--trainer.max_steps", str(STEPS)]
    words += ["--model.preparation.batches", "2", "--trainer.gradient_clip_val", "0.5", "--name", strategy]
    words += ["--trainer.callbacks.checkpoint.dirpath", strategy, *SMOOTH]
    result = subprocess.run(
        [sys.executable, "-m", "ulcompress", *arguments(images, *words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return torch.load(f"{strategy}/last.ckpt", weights_only=True)


def test_two_processes_share_their_statistics_and_may_share_out_their_weights(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ddp, sharded = (trained_by_two(images, strategy) for strategy in ("ddp", "fsdp2"))
    state = ddp["state_dict"]
    # Two batches of the preparation and the steps, two processes, two images of 2 x 2 positions each; every symbol
    # starts with a count of 1.
    assert int(state["codec.quantizer.entropy.counts"].sum()) == 16 + (2 + STEPS) * 2 * 2 * 4
    assert sharded["state_dict"].keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(sharded["state_dict"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    states = [each["optimizer_states"][0]["state"] for each in (ddp, sharded)]
    assert states[0].keys() == states[1].keys()
    for number, values in states[0].items():
        torch.testing.assert_close(
            states[1][number]["momentum_buffer"], values["momentum_buffer"], rtol=1e-3, atol=1e-6
        )
    assert Path("runs/fsdp2/codec/model.safetensors").is_file()


@pytest.fixture
def single_process():
    """End the group of this process, which a strategy of several processes begins."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_shared_out_weights_go_on_as_whole_ones(images, tmp_path, monkeypatch, single_process):
    monkeypatch.chdir(tmp_path)

    def trained(name, steps, *words):
        words = ["--trainer.max_steps", str(steps), "--name", name, "--ckpt_path", "last", *words]
        assert run(arguments(images, *SMOOTH, "--trainer.callbacks.checkpoint.dirpath", name, *words)) == 0
        return torch.load(f"{name}/last.ckpt", weights_only=True)

    expected = trained("whole", 3)
    sharded = ["--trainer.strategy", "fsdp2", "--trainer.val_check_interval", "1"]
    sharded += ["--trainer.callbacks.norm", "GradientNorm", "--trainer.callbacks.rate", "RateLogger"]
    trained("parts", 1, *sharded)  # continued by other strategies, and by the same
    trained("parts", 2)
    found = trained("parts", 3, *sharded)
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_what_is_learnt_from_data_is_learnt_by_all_parts(tiny_codec, single_process, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    tiny_codec.autoencoder.requires_grad_(False)
    shard(tiny_codec, torch.distributed.init_device_mesh("cpu", (1,)), "decode")
    with whole_parameters(tiny_codec), torch.no_grad():
        for parameter in tiny_codec.parameters():
            parameter.fill_(0.5)
    assert all(bool((whole(parameter) == 0.5).all()) for parameter in tiny_codec.parameters())


def test_an_average_of_shared_out_weights_is_refused(images, tmp_path, monkeypatch, capsys, single_process):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.strategy", "fsdp2", "--trainer.max_steps", "1")) == 1
    assert "leave it out by --trainer.callbacks.moving_average null" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", "FSDPStrategy", "deepspeed_stage_3"])
def test_strategies_whose_checkpoints_cannot_be_exported_are_refused(strategy, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.strategy", strategy, "--trainer.max_steps", "1")) == 1
    assert "cannot be exported; --trainer.strategy fsdp2 shares out the same" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["deepspeed", "deepspeed_stage_1", "deepspeed_stage_2"])
def test_deepspeed_says_how_it_is_installed(strategy, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zero, "find_spec", lambda name: None)
    assert run(arguments(images, "--trainer.strategy", strategy, "--trainer.max_steps", "1")) == 1
    assert "pip install 'ulcompress[deepspeed]', or choose fsdp2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model.optimizer.kind", "Adafactor"],
            "whose shapes Adafactor may use; choose an optimizer.kind of Adadelta",
        ),
        (["--trainer.precision", "bf16-true"], "choose 32-true or bf16-mixed"),
        (["--trainer.gradient_clip_algorithm", "value"], "leave out trainer.gradient_clip_algorithm"),
    ],
)
def test_deepspeed_refuses_what_it_would_train_otherwise(
    words, message, images, tmp_path, monkeypatch, capsys, single_process
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zero, "find_spec", lambda name: name)  # refused before it is imported
    assert run(arguments(images, "--trainer.strategy", "deepspeed", "--trainer.max_steps", "1", *words)) == 1
    assert message in capsys.readouterr().err


def test_zero_goes_on_as_one_process(images, tmp_path, monkeypatch, single_process):
    pytest.importorskip("deepspeed")
    monkeypatch.chdir(tmp_path)

    def trained(name, steps, *words):
        words = ["--trainer.max_steps", str(steps), "--name", name, "--ckpt_path", "last", *words]
        words += ["--trainer.accumulate_grad_batches", "2", "--trainer.gradient_clip_val", "0.5"]
        words += ["--model.acceleration.channels_last", "false", "--trainer.callbacks.checkpoint.dirpath", name]
        assert run(arguments(images, *words)) == 0
        return torch.load(f"{name}/last.ckpt", weights_only=True)

    expected = trained("whole", 3)
    trained("parts", 1)
    # Once, since DeepSpeed keeps its groups of processes as long as Python runs.
    trained("parts", 2, "--trainer.strategy", "deepspeed_stage_2", "--trainer.callbacks.norm", "GradientNorm")
    torch.distributed.destroy_process_group()
    found = trained("parts", 3)
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    states = [each["optimizer_states"][0]["state"] for each in (expected, found)]
    assert states[0].keys() == states[1].keys()
    for number, values in states[0].items():
        torch.testing.assert_close(states[1][number]["exp_avg_sq"], values["exp_avg_sq"], rtol=1e-3, atol=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
def test_weights_are_shared_out_over_gpus(images, tmp_path, monkeypatch, single_process):
    monkeypatch.chdir(tmp_path)
    more = ["--trainer.accelerator", "gpu", "--trainer.strategy", "fsdp2", "--trainer.precision", "bf16-mixed"]
    more += ["--trainer.callbacks.moving_average", "null", "--trainer.max_steps", "2", "--trainer.devices", "1"]
    assert run(arguments(images, *more)) == 0
    assert Path("runs/tiny/codec/model.safetensors").is_file()
