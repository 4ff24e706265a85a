from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml

from ulcompress.commands.main import run
from ulcompress.training import CodecModule, ScheduledOptimizer, WarmupAdamW
from ulcompress.training.optimizer import Options

TINY = str(Path(__file__).parent / "tiny.yaml")


def weights():
    generator = torch.Generator().manual_seed(0)
    shapes = {"encoder.weight": (4, 3), "decoder.denoiser.weight": (3, 4), "decoder.denoiser.bias": (3,)}
    return {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def train(configured, parameters, steps):
    """Step towards zero; return the rates of the first group."""
    rates = []
    for _ in range(steps):
        sum(parameter.square().sum() for parameter in parameters.values()).backward()
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
        configured["optimizer"].zero_grad()
    return rates


def test_the_rate_rises_and_falls():
    schedule = WarmupAdamW(warmup_steps=4, decay_steps=12)
    rates = [schedule.relative_rate(step) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == rates[13] == 0
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_no_decay_keeps_the_peak():
    assert WarmupAdamW().relative_rate(10**6) == 1


def test_warm_up_takes_effect():
    parameter = torch.nn.Parameter(torch.zeros(1))
    configured = WarmupAdamW(learning_rate=1.0, warmup_steps=10).configure({"weight": parameter})
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(0.1)
    configured["optimizer"].step()
    configured["lr_scheduler"]["scheduler"].step()
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(0.2)


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_a_step_of_one_loop_is_the_same(kind):
    found = []
    for fused in (True, False):
        parameters = weights()
        configured = ScheduledOptimizer(kind=kind, learning_rate=0.1).configure(parameters, fused=fused)
        assert bool(configured["optimizer"].param_groups[0]["fused"]) == fused
        train(configured, parameters, 5)
        found.append(parameters)
    for one, other in zip(*(parameters.values() for parameters in found), strict=True):
        torch.testing.assert_close(one, other)


def test_mixed_precision_clips_gradients(tmp_path, monkeypatch, image_folder):
    monkeypatch.chdir(tmp_path)
    words = ["--trainer.max_steps", "1", "--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1.0"]
    assert run(["fit", "-c", TINY, "--data.train", image_folder(4, 36, 40), *words]) == 0


CHOICES = {
    "default": {"warmup_steps": 3, "decay_steps": 9},
    "options": {"options": {"betas": [0.8, 0.9], "amsgrad": True}},
    "SGD": {"kind": "SGD", "options": {"momentum": 0.9}},
    "a path": {"kind": "torch.optim.RAdam", "schedule": "CosineAnnealingLR", "schedule_options": {"T_max": 8}},
    "cycled momentum": {"schedule": "OneCycleLR", "schedule_options": {"max_lr": 0.1, "total_steps": 20}},
    "groups": {"groups": {"decoder": {"learning_rate": 1e-3}}, "warmup_steps": 3},
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_continued_training_takes_the_same_steps(choice):
    """To the bit, whatever the optimiser and its schedule are."""
    part, whole = ScheduledOptimizer(**choice), weights()
    rates = train(part.configure(whole), whole, 8)
    begun = weights()
    configured = part.configure(begun)
    assert train(configured, begun, 5) == rates[:5]
    states = [
        deepcopy(each.state_dict()) for each in (configured["optimizer"], configured["lr_scheduler"]["scheduler"])
    ]
    continued = part.configure(begun)
    options = Options.of(continued)
    for each, state in zip((continued["optimizer"], continued["lr_scheduler"]["scheduler"]), states, strict=True):
        each.load_state_dict(state)
    options.apply()
    assert train(continued, begun, 3) == rates[5:]
    assert all(torch.equal(begun[name], value) for name, value in whole.items())


def test_parts_have_options_of_their_own():
    parameters = weights()
    groups = {"decoder": {"learning_rate": 1e-4}, "decoder.denoiser.bias": {"weight_decay": 0.0, "betas": [0.5, 0.6]}}
    optimizer = ScheduledOptimizer(learning_rate=1e-3, groups=groups).configure(parameters)["optimizer"]
    found = [(group["lr"], group["weight_decay"], group["betas"]) for group in optimizer.param_groups]
    assert found == [(1e-4, 0.01, (0.9, 0.99)), (1e-3, 0.0, (0.5, 0.6)), (1e-3, 0.01, (0.9, 0.99))]
    members = [group["params"][0] for group in optimizer.param_groups]
    names = ("decoder.denoiser.weight", "decoder.denoiser.bias", "encoder.weight")
    assert all(one is parameters[name] for one, name in zip(members, names, strict=True))


def test_parts_are_named_as_slots_of_the_codec(tiny_codec):
    module = CodecModule(codec=tiny_codec, optimizer=ScheduledOptimizer(groups={"decoder": {"learning_rate": 0.5}}))
    decoder, others = module.configure_optimizers()["optimizer"].param_groups
    assert (decoder["lr"], others["lr"]) == (0.5, 1e-4)
    assert {id(one) for one in decoder["params"]} == {id(one) for one in tiny_codec.decoder.parameters()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "AdmW"}, "optimizer.kind must be .* Adam, AdamW, .*; got"),
        ({"kind": "torch.nn.Linear"}, "optimizer.kind must be .* Adam, AdamW, .*; got"),
        ({"schedule": "LambdaLr"}, "optimizer.schedule must be .* CosineAnnealingLR, .*; got"),
        ({"schedule": "ReduceLROnPlateau"}, "choose another schedule"),
        ({"schedule": "LinearLR", "warmup_steps": 5}, "leave out warmup_steps"),
        ({"schedule_options": {"T_max": 5}}, "name its class"),
        ({"kind": "Rprop"}, "set optimizer.weight_decay to 0"),
        ({"options": {"momentum": 0.9}}, "optimizer.options: AdamW refuses them"),
        ({"schedule": "LinearLR", "schedule_options": {"T_max": 5}}, "optimizer.schedule_options: LinearLR refuses"),
        ({"groups": {"decodr": {"learning_rate": 1}}}, "no parameter of 'decodr' is trained.* decoder, encoder"),
        ({"groups": {"decoder": {"learnin_rate": 1}}}, "AdamW has no option 'learnin_rate'"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        ScheduledOptimizer(**options).configure(weights())
    assert len(str(error.value).splitlines()) == 1


def test_the_optimizer_is_swapped_on_the_command_line(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "-c", TINY, "--data.train", images]
    sgd = ["--model.optimizer.kind", "SGD", "--model.optimizer.options", "{momentum: 0.5}"]
    sgd += ["--model.optimizer.groups", "{decoder: {learning_rate: 0.5}}"]
    assert run([*fit, "--trainer.max_steps", "1", *sgd]) == 0
    state = torch.load("run/last.ckpt", weights_only=True)
    decoder, others = state["optimizer_states"][0]["param_groups"]
    assert (decoder["lr"], others["lr"], others["momentum"]) == (0.5, 1e-3, 0.5)
    recorded = yaml.safe_load(Path("runs/tiny/config.yaml").read_text())["model"]["init_args"]["optimizer"]
    assert recorded["kind"] == state["hyper_parameters"]["optimizer"]["kind"] == "SGD"
    capsys.readouterr()
    assert run([*fit, "--trainer.max_steps", "2", "--ckpt_path", "last"]) == 1
    assert "optimizer.kind is AdamW in the command and SGD in the checkpoint" in capsys.readouterr().err
    assert run([*fit, "--trainer.max_steps", "2", "--ckpt_path", "last", *sgd]) == 0
