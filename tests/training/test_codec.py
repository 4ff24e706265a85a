"""What a checkpoint holds, and that a quantiser is swapped from the command line."""

import json
from pathlib import Path

import pytest
import torch

import ulcompress
from ulcompress.commands.main import run
from ulcompress.diffusion import Whitening
from ulcompress.entropy import ContextModel
from ulcompress.images import read_image
from ulcompress.losses import AdversarialLoss, PatchDiscriminator
from ulcompress.pretrained import save
from ulcompress.quantizers import FiniteScalarQuantizer, ResidualQuantizer
from ulcompress.training import CodecLoss, CodecModule, Freezing, Preparation

TINY = str(Path(__file__).parent / "tiny.yaml")


@pytest.fixture
def fitted(images, tmp_path, monkeypatch):
    """Return a function that trains for two steps with more options and returns the checkpoint."""
    monkeypatch.chdir(tmp_path)

    def fit(*options):
        assert (
            run(["fit", "-c", TINY, "--data.train", images, "--trainer.max_steps", "2", "--overwrite", *options]) == 0
        )
        return "run/last.ckpt"

    return fit


def test_checkpoint_rebuilds_its_parts(fitted):
    checkpoint = fitted()
    module = CodecModule.load_from_checkpoint(checkpoint, weights_only=True)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_module_built_in_python_is_saved_the_same_way(tiny_codec):
    module = CodecModule(codec=tiny_codec)
    assert module.hparams["codec"] == tiny_codec.arguments()


def test_export_makes_a_codec_directory(fitted, images, capsys):
    checkpoint = fitted()
    assert run(["export", checkpoint, "exported"]) == 0
    codec = ulcompress.load("exported")
    image = read_image(next(Path(images).glob("*.png")))
    assert codec.decompress(codec.compress(image, "a red cup")).shape == image.shape
    assert run(["export", checkpoint, "exported"]) == 1
    assert "use --force" in capsys.readouterr().err


def test_quantizer_is_swapped_on_the_command_line(fitted):
    options = ["--model.codec.quantizer", "FiniteScalarQuantizer", "--model.codec.quantizer.levels", "[4,4]"]
    checkpoint = fitted(*options, "--model.codec.quantizer.channels", "8")
    module = CodecModule.load_from_checkpoint(checkpoint, weights_only=True)
    assert isinstance(module.codec.quantizer, FiniteScalarQuantizer)
    assert module.codec.quantizer.levels.tolist() == [4, 4]


def test_a_quantizer_of_several_rates(fitted, images):
    """Its stages and its lowest rate are logged, too, and the exported codec has its rates."""
    quantizer = "{codebook_sizes: [16, 4], blocks: [2, 1], channels: 8, dimension: 4}"
    quantizer = "{class_path: ResidualQuantizer, init_args: " + quantizer + "}"
    checkpoint = fitted(
        "--model.codec.quantizer", quantizer, "--data.validation", images, "--trainer.val_check_interval", "2"
    )
    (log,) = Path("log").glob("*/metrics.csv")
    logged = set(log.read_text().splitlines()[0].split(","))
    assert {f"train/{what}-{stage}" for what in ("usage", "perplexity") for stage in (1, 2)} <= logged
    assert {"val/psnr", "val/psnr-rate-1"} <= logged
    assert run(["export", checkpoint, "exported"]) == 0
    image = read_image(next(Path(images).glob("*.png")))
    codec = ulcompress.load("exported")
    assert len(codec.compress(image, rate=1)) < len(codec.compress(image))


def test_autoencoder_is_taken_from_its_own_training_and_stays(fitted):
    checkpoint = fitted()
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    state = {n.removeprefix("codec."): v for n, v in before.items() if n.startswith("codec.autoencoder.")}
    torch.save({"state_dict": {name: value + 0.25 for name, value in state.items()}}, "autoencoder.ckpt")
    Path(checkpoint).unlink()
    fitted("--model.start.autoencoder", "autoencoder.ckpt")
    after = torch.load(checkpoint, weights_only=True)["current_model_state"]
    assert all(torch.equal(after[f"codec.{name}"], value + 0.25) for name, value in state.items())


def test_captions_become_the_vocabulary(fitted):
    module = CodecModule.load_from_checkpoint(fitted(), weights_only=True)
    coder = module.codec.conditioning["text"].coder
    assert coder.prepared
    assert len(coder.tokens("a red cup")) <= 3


def test_training_starts_from_a_saved_codec(fitted):
    run(["export", fitted(), "saved"])
    Path("run/last.ckpt").unlink()
    module = CodecModule.load_from_checkpoint(
        fitted("--model.start.codec", "saved", "--trainer.max_steps", "1", "--model.optimizer.learning_rate", "0"),
        weights_only=True,
    )
    saved = ulcompress.load("saved").state_dict()
    trained = dict(module.codec.named_parameters())
    assert all(torch.equal(saved[name], value) for name, value in trained.items())


DISCRIMINATOR = "--model.loss.adversarial.discriminator"
ADVERSARIAL = [
    *("--model.loss.adversarial", "AdversarialLoss"),
    *(DISCRIMINATOR, "PatchDiscriminator", f"{DISCRIMINATOR}.widths", "[8]"),
]


@pytest.mark.parametrize("features", [False, True])
def test_a_discriminator_is_trained_beside_the_codec(fitted, features, two_maps, save_layers):
    if features:
        file = save_layers(two_maps, "two-maps.safetensors")
        network = [f"{DISCRIMINATOR}.network", "ExportedDistance", f"{DISCRIMINATOR}.network.file", file]
        options = ["--model.loss.adversarial", "AdversarialLoss", DISCRIMINATOR, "FeatureDiscriminator", *network]
    else:
        options = ADVERSARIAL
    first = torch.load(fitted(*options, "--trainer.max_steps", "1"), weights_only=True)
    last = torch.load("run/step=1.ckpt", weights_only=True)
    Path("run/last.ckpt").unlink()
    second = torch.load(fitted(*options), weights_only=True)
    assert all(torch.equal(first["state_dict"][name], value) for name, value in last["state_dict"].items())
    weights = [name for name in first["state_dict"] if name.startswith("loss.adversarial.") and "original" in name]
    states = (first["current_model_state"], second["current_model_state"])
    assert weights and all(not torch.equal(states[0][name], states[1][name]) for name in weights)
    metrics = Path("log/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/adversarial", "train/discriminator", "train/squared_error"} <= set(metrics)


def test_an_exported_codec_has_no_discriminator(fitted):
    run(["export", fitted(*ADVERSARIAL), "saved"])
    assert not any("adversarial" in name for name in ulcompress.load("saved").state_dict())


def test_the_decoder_of_the_autoencoder_can_be_trained_alone(fitted):
    options = [
        "--model.freezing.trained",
        "[autoencoder.network.decoder]",
        "--model.loss.weights",
        "{'squared_error': 1.0}",
    ]
    states = []
    for steps in ("1", "2"):
        checkpoint = fitted(*ADVERSARIAL, *options, "--trainer.max_steps", steps)
        states.append(torch.load(checkpoint, weights_only=True)["current_model_state"])
        Path(checkpoint).unlink()
    moved = {n for n in states[0] if not torch.equal(states[0][n], states[1][n]) and "autoencoder" in n}
    assert moved and all(name.startswith("codec.autoencoder.network.decoder.") for name in moved)


def test_an_unknown_trained_part_is_refused(tiny_codec):
    with pytest.raises(ValueError, match=r"no part 'autoencoder\.nothing'"):
        CodecModule(codec=tiny_codec, freezing=Freezing(trained=["autoencoder.nothing"]))


def test_what_is_frozen_works_as_in_use(fitted):
    """Neither weights nor codebook, running mean or tables of a frozen part move, in the average neither."""
    states = []
    for steps in ("1", "2"):
        checkpoint = fitted("--model.freezing.frozen", "[encoder, quantizer]", "--trainer.max_steps", steps)
        states.append(torch.load(checkpoint, weights_only=True))
        Path(checkpoint).unlink()
    frozen = ("codec.encoder.", "codec.quantizer.", "codec.autoencoder.")
    for kind in ("state_dict", "current_model_state"):
        first, second = (state[kind] for state in states)
        moved = {name for name, value in first.items() if not torch.equal(value, second[name])}
        assert moved and not any(name.startswith(frozen) for name in moved)


def test_frozen_parts_stay_in_evaluation_mode_and_parts_trained_within_them(tiny_codec):
    module = CodecModule(
        codec=tiny_codec, freezing=Freezing(frozen=["quantizer"], trained=["autoencoder.network.decoder"])
    ).train()
    assert module.codec.encoder.training and not module.codec.quantizer.training
    assert all(p.requires_grad for p in module.codec.autoencoder.network.decoder.parameters())
    assert not any(p.requires_grad for p in module.codec.autoencoder.network.encoder.parameters())


def test_a_context_model_over_a_frozen_quantiser(tiny_staged_codec):
    """Its tables are learnt, and what it codes stays what it is."""
    entropy = ContextModel(width=8)
    quantizer = ResidualQuantizer(codebook_sizes=[8, 6], blocks=[2, 1], channels=8, dimension=4, entropy=entropy)
    codec = tiny_staged_codec
    codec.quantizer = quantizer
    codec.train()(torch.rand(4, 3, 64, 64))
    with pytest.raises(ValueError, match="learns from the rate alone, which has no weight; set `rate/spatial`"):
        CodecModule(codec=codec)
    CodecModule(codec=codec, freezing=Freezing(frozen=["quantizer.entropies"]))
    module = CodecModule(
        codec=codec,
        freezing=Freezing(frozen=["encoder", "quantizer"], trained=["quantizer.entropies"]),
        loss=CodecLoss(weights={"rate/spatial": 2.0}),
    ).train()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    output = codec(torch.rand(2, 3, 64, 64))
    output.bits["spatial"].sum().backward()
    assert entropy.heads[0].bias.grad.abs().sum() > 0 < entropy.heads[1].bias.grad.abs().sum()
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert not module.codec.quantizer.training and module.codec.quantizer.entropies.training


def test_a_codebook_that_is_frozen_alone_does_not_move(tiny_staged_codec):
    codec = tiny_staged_codec
    codec.train()(torch.rand(4, 3, 64, 64))
    CodecModule(codec=codec, freezing=Freezing(frozen=["quantizer.stages"])).train()
    before = {name: value.clone() for name, value in codec.quantizer.stages.state_dict().items()}
    codec(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in codec.quantizer.stages.state_dict().items())


def test_a_continued_training_needs_no_start_any_more(fitted, tiny_codec, tmp_path):
    save(tiny_codec, tmp_path / "start")
    checkpoint = fitted("--model.start.codec", str(tmp_path / "start"))
    (tmp_path / "start").rename(tmp_path / "elsewhere")
    again = fitted(
        "--model.start.codec", str(tmp_path / "start"), "--trainer.max_steps", "3", "--ckpt_path", checkpoint
    )
    assert torch.load(again, weights_only=True)["global_step"] == 3


def test_codebooks_see_batches_before_a_new_training_begins(fitted):
    """With the learning rate of a first warm-up step, one step moves nothing else."""
    sums, steps = [], ["--model.optimizer.warmup_steps", "1000000", "--trainer.max_steps"]
    for batches in ("0", "3"):
        checkpoint = fitted("--model.preparation.batches", batches, *steps, "1")
        state = torch.load(checkpoint, weights_only=True)
        assert state["global_step"] == 1
        sums.append(state["state_dict"]["codec.quantizer.sums"])
        if batches == "0":
            Path(checkpoint).unlink()
    assert not torch.allclose(*sums, atol=1e-3)
    again = fitted("--model.preparation.batches", "3", *steps, "2", "--ckpt_path", checkpoint)
    moved = torch.load(again, weights_only=True)["state_dict"]["codec.quantizer.sums"] - sums[1]
    assert moved.abs().max() < (sums[1] - sums[0]).abs().max() / 3, "a continued training shows none again"


WHITENED = {"init_args": {"objective": {"whitening": {"channels": 4, "covariance": "channel"}}}}


def test_the_whitening_is_learnt_before_a_new_training_begins(fitted, tmp_path, capsys):
    (tmp_path / "whitened.yaml").write_text(json.dumps({"model": {"init_args": {"codec": {"decoder": WHITENED}}}}))
    options = ["-c", str(tmp_path / "whitened.yaml"), "--model.preparation.batches", "2", "--trainer.max_steps"]
    checkpoint = fitted(*options, "1")
    state = torch.load(checkpoint, weights_only=True)
    prefix = "codec.decoder.objective.whitening."
    for each in (state["state_dict"], state["current_model_state"]):
        assert each[f"{prefix}prepared"] and not torch.equal(each[f"{prefix}matrix"], torch.eye(4))
    again = torch.load(fitted(*options, "2", "--ckpt_path", checkpoint), weights_only=True)
    assert torch.equal(again["current_model_state"][f"{prefix}matrix"], state["current_model_state"][f"{prefix}matrix"])


def test_a_whitening_that_could_learn_nothing_is_refused(tiny_codec):
    tiny_codec.decoder.objective.whitening = Whitening(channels=4)
    with pytest.raises(ValueError, match=r"set `preparation.batches`, to 100 for instance"):
        Preparation(batches=0).run(tiny_codec.train(), list)


@pytest.mark.parametrize("delays", [{}, {"diffusion": 2}])
def test_a_trained_parameter_that_nothing_teaches_is_refused(tiny_codec, monkeypatch, delays):
    monkeypatch.setattr("ulcompress.training.base.WATCHED", 3)
    module = CodecModule(codec=tiny_codec, loss=CodecLoss(delays=delays))
    steps = iter(range(10))
    monkeypatch.setattr(CodecModule, "global_step", property(lambda _: next(steps)))
    taught = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def backward(*idle):
        for parameter in taught:
            parameter.grad = None if any(parameter is other for other in idle) else torch.zeros_like(parameter)
        module.on_after_backward()

    for _ in range(delays.get("diffusion", 0)):
        backward(*taught)  # what a delayed term teaches
    backward(taught[0], taught[1])
    backward(taught[1], taught[2])
    with pytest.raises(ValueError, match=r"no loss term teaches codec\.[\w.]+, nor 0 other parameters") as error:
        backward(taught[1])
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert names[id(taught[1])] in str(error.value)


def test_the_discriminator_s_parameters_come_after_the_codec_s(tiny_codec):
    """In this order the state of an optimiser lies in a checkpoint, by number."""
    loss = CodecLoss(adversarial=AdversarialLoss(discriminator=PatchDiscriminator(widths=(8,))))
    module = CodecModule(codec=tiny_codec, loss=loss)
    trained = module.trained_parameters()
    expected = [*tiny_codec.parameters(), *loss.parameters()]
    assert [id(p) for p in trained.values()] == [id(p) for p in expected if p.requires_grad]


def of_format_2(content):
    """Return a checkpoint as it was written when the module had all options itself."""
    parameters = dict(content["hyper_parameters"])
    start, freezing, loss, preparation = (parameters.pop(n) or {} for n in ("start", "freezing", "loss", "preparation"))
    parameters |= {"start": start.get("codec"), "start_parts": None, "autoencoder_checkpoint": None}
    parameters |= {"frozen": freezing.get("frozen"), "trained": None, "codebook_batches": preparation.get("batches", 0)}
    parameters |= {"perceptual_images": loss.get("images")}
    parameters |= {name: loss.get(name) for name in ("perceptual", "adversarial", "weights", "delays")}
    states = {
        kind: {name.removeprefix("loss."): value for name, value in content[kind].items()}
        for kind in ("state_dict", "current_model_state")
    }
    return content | states | {"hyper_parameters": parameters}


OLD_OPTIONS = """
model:
  init_args:
    adversarial: { discriminator: { class_path: PatchDiscriminator, init_args: { widths: [8] } } }
    frozen: [encoder]
    weights: { squared_error: 2.0 }
"""


def test_a_training_of_format_2_goes_on_as_if_it_had_been_started_now(fitted):
    Path("old.yaml").write_text(OLD_OPTIONS)
    Path("over.yaml").write_text("model: {init_args: {weights: {squared_error: 3.0}}}")
    options = ["-c", "old.yaml", "-c", "over.yaml"]
    content = torch.load(fitted(*options, "--trainer.max_steps", "1"), weights_only=True)
    torch.save(content, "present.ckpt")
    torch.save(of_format_2(content), "old.ckpt")
    parameters = content["hyper_parameters"]
    assert parameters["freezing"]["frozen"] == ["encoder"] and parameters["loss"]["weights"] == {"squared_error": 3.0}
    assert parameters["loss"]["adversarial"]["discriminator"]["init_args"]["widths"] == [8], "merged, not replaced"
    states = []
    for checkpoint in ("present.ckpt", "old.ckpt"):
        fitted(*options, "--ckpt_path", checkpoint)
        states.append(torch.load("run/last.ckpt", weights_only=True))
    for kind in ("state_dict", "current_model_state"):
        first, second = (state[kind] for state in states)
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    first, second = (state["optimizer_states"][0]["state"] for state in states)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[i][name], second[i][name]) for i in first for name in ("exp_avg", "exp_avg_sq"))
