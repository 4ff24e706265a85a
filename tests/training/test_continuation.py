"""A killed training continues as if nothing had happened."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from ulcompress.commands.main import run
from ulcompress.pretrained import save

TINY = str(Path(__file__).parent / "tiny.yaml")


def arguments(images, *more):
    return ["fit", "-c", TINY, "--data.train", images, "--data.validation", images, *more]


def checkpoint(path):
    return torch.load(path, weights_only=True)


def assert_same(first, second):
    for key in ("state_dict", "current_model_state"):
        assert first[key].keys() == second[key].keys()
        for name, value in first[key].items():
            assert torch.equal(value, second[key][name]), f"{key} {name}"
    states = first["optimizer_states"][0]["state"], second["optimizer_states"][0]["state"]
    for index, values in states[0].items():
        assert torch.equal(values["exp_avg"], states[1][index]["exp_avg"])


def in_folder(folder, monkeypatch):
    folder.mkdir()
    monkeypatch.chdir(folder)


def test_sigkill_in_the_middle_of_an_epoch(images, tmp_path, monkeypatch):
    in_folder(tmp_path / "whole", monkeypatch)
    assert run(arguments(images, "--trainer.max_steps", "9")) == 0
    in_folder(tmp_path / "killed", monkeypatch)
    process = subprocess.Popen(
        [sys.executable, "-m", "ulcompress", *arguments(images, "--trainer.max_steps", "100000")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not Path("run/step=4.ckpt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(arguments(images, "--trainer.max_steps", "9", "--ckpt_path", "run/step=4.ckpt")) == 0
    assert_same(checkpoint(tmp_path / "whole/run/step=9.ckpt"), checkpoint("run/step=9.ckpt"))


def test_last_is_found(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.max_steps", "2")) == 0
    for path in Path("run").glob("step=*.ckpt"):
        path.unlink()
    assert run(arguments(images, "--trainer.max_steps", "4", "--ckpt_path", "last")) == 0
    assert checkpoint("run/last.ckpt")["global_step"] == 4
    assert {path.name for path in Path("run").glob("step=*.ckpt")} == {"step=3.ckpt", "step=4.ckpt"}


@pytest.mark.parametrize("named", ["run/last.ckpt", "last"])
def test_half_a_checkpoint_is_one_clear_line(named, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.max_steps", "1")) == 0
    last = Path("run/last.ckpt")
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    capsys.readouterr()
    assert run(arguments(images, "--trainer.max_steps", "2", "--ckpt_path", named)) == 1
    assert "'run/last.ckpt' is no checkpoint that can be" in capsys.readouterr().err


@pytest.fixture(params=["run/last.ckpt", "last", "hpc"])
def begun(request, images, tmp_path, monkeypatch, capsys):
    """Return a function that continues a training by a step, from its checkpoint under each of its names."""
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.max_steps", "1")) == 0
    if request.param == "hpc":
        Path("run/last.ckpt").rename("runs/tiny/hpc_ckpt_10.ckpt")
        Path("runs/tiny/hpc_ckpt_9.ckpt").write_bytes(b"an older one")
    capsys.readouterr()
    return lambda *more: run(arguments(images, "--trainer.max_steps", "2", "--ckpt_path", request.param, *more))


def test_what_is_recorded_is_what_runs(begun):
    optimizer = ["--model.optimizer.learning_rate", "0.5", "--model.optimizer.weight_decay", "0.25"]
    assert begun(*optimizer, "--model.loss.weights", "{'diffusion': 3.0}") == 0
    state = checkpoint("run/last.ckpt")
    group = state["optimizer_states"][0]["param_groups"][0]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.5, 0.5, 0.25)
    assert state["lr_schedulers"][0]["base_lrs"] == state["lr_schedulers"][0]["_last_lr"] == [0.5]
    recorded = yaml.safe_load(Path("runs/tiny/config.yaml").read_text())["model"]["init_args"]
    logged = yaml.safe_load(max(Path("log").glob("*/hparams.yaml")).read_text())
    for arguments_ in (state["hyper_parameters"], recorded, logged):
        assert arguments_["optimizer"]["learning_rate"] == 0.5 and arguments_["loss"]["weights"] == {"diffusion": 3.0}


def test_another_codebook_is_one_clear_line(begun, capsys):
    assert begun("--model.codec.quantizer.codebook_size", "32") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ulcompress:")]
    assert "model.codec.quantizer.codebook_size is 32 in the command and 16 in the checkpoint" in line


def test_last_before_the_first_training(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.max_steps", "1", "--ckpt_path", "last")) == 0
    assert checkpoint("run/last.ckpt")["global_step"] == 1


def test_what_a_validation_leaves_at_the_step_of_a_checkpoint_is_in_it(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["--trainer.val_check_interval", "2", "--trainer.callbacks.metrics", "MetricLogger"]
    more += ["--trainer.callbacks.metrics.images", "1", "--trainer.callbacks.metrics.metrics", "[psnr]"]

    def rows(path):
        (state,) = [state for key, state in checkpoint(path)["callbacks"].items() if key.startswith("MetricLogger")]
        return [row[0] for row in state["rows"]], state["epoch"]

    assert run(arguments(images, "--trainer.max_steps", "2", *more)) == 0
    assert rows("run/last.ckpt") == rows("run/step=2.ckpt") == ([2], 0)
    assert run(arguments(images, "--trainer.max_steps", "4", "--ckpt_path", "last", *more)) == 0
    assert rows("run/last.ckpt") == ([2, 4], 1)


def test_changed_accumulation_is_warned_of(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.max_steps", "1")) == 0
    with pytest.warns(UserWarning, match="accumulate_grad_batches 2, it began with 1"):
        more = ["--trainer.accumulate_grad_batches", "2", "--ckpt_path", "last"]
        assert run(arguments(images, "--trainer.max_steps", "2", *more)) == 0


def test_weights_of_another_model_are_one_clear_line(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.max_steps", "1")) == 0
    state = checkpoint("run/last.ckpt")
    for key in ("state_dict", "current_model_state"):
        del state[key]["codec.autoencoder.latent_std"]
    torch.save(state, "run/last.ckpt")
    capsys.readouterr()
    assert run(arguments(images, "--trainer.max_steps", "2", "--ckpt_path", "last")) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ulcompress:")]
    assert "the checkpoint is of another model: Missing key(s) in state_dict" in line


def test_a_training_takes_the_cores_that_there_are(images, tmp_path, one_thread, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ulcompress.functional.cores.cores", lambda: 3)
    with caplog.at_level("INFO"):
        assert run(arguments(images, "--trainer.max_steps", "1")) == 0
    assert torch.get_num_threads() == 3 and "1 x 3 threads." in caplog.text


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--model.codec.quantiser", "VectorQuantizer"], "codec.quantiser"),
        (["--model.codec.quantizer", "HyperEncoder"], "'HyperEncoder' is no part that fits here; choose Finite"),
        (["--model.codec.quantizer.codebook_size", "many"], "model.codec.quantizer.codebook_size: Expected a <class"),
        (["--model.codec.encoder.channels", "12"], "HyperEncoder gives 12 channels but VectorQuantizer takes 8"),
        (["--model.start.autoencoder", "none.ckpt"], "no checkpoint 'none.ckpt'"),
        (
            ["--model.loss.weights", "{difusion: 0}"],
            "there is no loss term 'difusion'; the terms are commitment, diffusion",
        ),
        (
            ["--model.loss.delays", "{perceptal: 5}"],
            "there is no loss term 'perceptal'; the terms are commitment, diffusion",
        ),
        (
            ["--model.start", "mini"],
            "'mini' is no part that fits here; give its options: model.start.codec, model.start",
        ),
        (["--model.weights", "{diffusion: 2}"], "'weights' is now the option model.loss.weights"),
        (["--model.perceptual.weights", "a"], "'perceptual' is now the option model.loss.perceptual"),
        (["--model.codebook_batches", "3"], "'codebook_batches' is now the option model.preparation.batches"),
        (["--trainer.devices", "0"], "devices"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(option, message, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(arguments(images, "--trainer.max_steps", "1", *option)) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ulcompress:")]
    assert len(lines) == 1 and message in lines[0] and len(lines[0]) < 400


def test_a_misspelt_key_in_a_file(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("rate.yaml").write_text("model:\n  init_args:\n    codec:\n      quantizer: {init_args: {codebok_size: 4}}\n")
    assert run(arguments(images, "-c", "rate.yaml")) == 1
    assert "model.codec.quantizer: Option 'codebok_size' is not accepted" in capsys.readouterr().err


def test_a_validation_takes_the_weights_that_are_named(images, tiny_codec, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    validate = ["validate", *arguments(images)[1:]]
    assert run([*validate, "--model.start.codec", "no-such-codec"]) == 1
    assert "no codec 'no-such-codec'" in capsys.readouterr().err
    assert run([*validate, "--model.start.autoencoder", "none.ckpt"]) == 1
    assert "no checkpoint 'none.ckpt'" in capsys.readouterr().err
    with torch.no_grad():
        tiny_codec.decoder.denoiser.network.conv_out.bias.fill_(100.0)
    save(tiny_codec, "start")
    for verb in ("validate", "test"):
        assert run([verb, *arguments(images)[1:], "--model.start.codec", "start"]) == 0
        row = next(line for line in capsys.readouterr().out.splitlines() if "val/diffusion" in line)
        assert float(row.strip("│ ").split("│")[-1].strip()) > 1000
