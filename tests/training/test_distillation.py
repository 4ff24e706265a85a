"""Students of few steps, from the teacher's directory to their own."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import ulcompress
from ulcompress.commands.main import run
from ulcompress.decoders import BaseReconstruction, DiffusionDecoder
from ulcompress.diffusion import DPMSolver
from ulcompress.images import read_image
from ulcompress.losses import AdversarialLoss, FeatureDistance, PatchDiscriminator
from ulcompress.pretrained import load, metadata, save
from ulcompress.training import DistillationLoss, DistillationModule, Start

TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "callbacks": {"moving_average": {"class_path": "MovingAverage", "init_args": {"decay": 0.5}}},
}


@pytest.fixture
def distil(tiny_codec, images, tmp_path, monkeypatch):
    """Return a function that trains a student of one step, and the directory of its teacher, which states a name."""
    monkeypatch.chdir(tmp_path)
    save(tiny_codec.named("c0ffee"), "teacher")
    codec = tiny_codec.arguments()
    codec["decoder"]["init_args"]["steps"] = 1
    arguments = {"codec": codec, "start": {"codec": "teacher"}, "trajectory": {"steps": 2}}
    model = {"class_path": "DistillationModule", "init_args": arguments}
    experiment = {"model": model, "data": {"crop": 32, "batch_size": 2}, "trainer": TRAINER}
    Path("few-steps.yaml").write_text(yaml.safe_dump(experiment))

    def fit(*options):
        return run(["fit", "-c", "few-steps.yaml", "--data.train", images, *options])

    return fit


@pytest.fixture
def module(tiny_codec, tmp_path):
    """Return a maker of a stage whose student has the weights of its teacher."""

    def make(**options):
        save(tiny_codec, tmp_path / "teacher")
        module = DistillationModule(codec=tiny_codec, start=Start(codec=str(tmp_path / "teacher")), **options)
        module.begin()
        return module

    return make


def test_a_student_reads_and_writes_the_files_of_its_teacher(distil, images):
    assert distil("--trainer.max_steps", "2") == 0
    teacher, student = load("teacher"), load("runs/few-steps/codec")
    assert isinstance(student.decoder, DiffusionDecoder) and student.decoder.steps == 1
    image = read_image(next(Path(images).glob("*.png")))
    data = teacher.compress(image, "a red cup")
    assert data == student.compress(image, "a red cup")
    assert student.decompress(data).shape == image.shape
    assert metadata(Path("runs/few-steps/codec"))["fingerprint"] == "c0ffee"
    before, after = teacher.state_dict(), student.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and all(name.startswith("decoder.denoiser.") for name in moved)


def test_a_continued_distillation_is_the_same(distil):
    """From a checkpoint in the middle, which holds the teacher."""
    each = {"every_n_train_steps": 1, "save_top_k": -1, "filename": "{step}"}
    options = ["--trainer.max_steps", "3", "--trainer.callbacks", str({"checkpoint": {"init_args": each}})]
    checkpoints = Path("runs/few-steps/checkpoints")
    assert distil(*options) == 0
    whole = torch.load(checkpoints / "step=3.ckpt", weights_only=True)
    (checkpoints / "step=3.ckpt").unlink()
    Path("teacher").rename("elsewhere")
    assert distil(*options, "--ckpt_path", str(checkpoints / "step=1.ckpt")) == 0
    continued = torch.load(checkpoints / "step=3.ckpt", weights_only=True)
    assert whole["fingerprint"] == continued["fingerprint"] == "c0ffee"
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, continued[key][name]) for name, value in whole[key].items())


def test_a_validation_logs_the_student(distil, images):
    validation = ["--data.validation", images, "--data.validation_images", "2", "--trainer.val_check_interval", "1"]
    assert distil("--trainer.max_steps", "1", *validation) == 0
    (log,) = Path("runs/few-steps/logs").rglob("metrics.csv")
    logged = log.read_text().splitlines()[0].split(",")
    assert {"val/trajectory", "val/psnr", "bpp/file"} <= set(logged)


@pytest.mark.parametrize("option", ["codec=null", "parts=[decoder]"])
def test_a_student_without_a_whole_teacher_is_refused(distil, option, capsys):
    assert distil("--trainer.max_steps", "1", f"--model.start.{option}") == 1
    assert "set model.start.codec to its directory" in capsys.readouterr().err


def test_only_the_student_learns_and_from_what_the_teacher_restores(module, squeezenet):
    adversarial = AdversarialLoss(discriminator=PatchDiscriminator(widths=(8,)))
    loss = DistillationLoss(perceptual=FeatureDistance(weights=squeezenet), images=1, adversarial=adversarial)
    stage = module(loss=loss).train()
    batch = SimpleNamespace(images=torch.rand(2, 3, 64, 64), captions=["a red cup", None])
    terms = stage.terms(batch)
    assert set(terms) == {"trajectory", "perceptual", "adversarial", "discriminator"}
    stage.loss.total(terms, 0).backward()
    learning = {name for name, parameter in stage.named_parameters() if parameter.grad is not None}
    assert learning and all(name.startswith(("codec.decoder.denoiser.", "loss.adversarial.")) for name in learning)
    assert not any(part.training for part in (stage.teacher, stage.codec.encoder, stage.codec.decoder.objective))
    assert stage.codec.decoder.denoiser.training


def test_the_teacher_starts_as_the_saved_codec(module, tiny_codec):
    stage = module()
    with torch.no_grad():
        for parameter in stage.codec.decoder.parameters():
            parameter.add_(1)
    stage.begin()
    saved = ulcompress.load(stage.start.codec).decoder.state_dict()
    for decoder in (stage.teacher, tiny_codec.decoder):
        assert all(torch.equal(saved[name], value) for name, value in decoder.state_dict().items())
    assert stage.files["fingerprint"] == ulcompress.load(stage.start.codec).fingerprint.hex()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sampler": DPMSolver()}, "the student's steps are those of DDIM, got DPMSolver"),
        ({"guidance": 3.0}, r"samples without guidance, got a scale of 3\.0"),
    ],
)
def test_a_decoder_whose_steps_the_student_cannot_learn_is_refused(tiny_codec, change, message):
    old = tiny_codec.decoder
    tiny_codec.decoder = DiffusionDecoder(denoiser=old.denoiser, steps=2, **change)
    with pytest.raises(ValueError, match=message):
        DistillationModule(codec=tiny_codec)


def test_a_decoder_that_does_not_diffuse_is_refused(tiny_codec):
    tiny_codec.decoder = BaseReconstruction()
    with pytest.raises(ValueError, match="needs a DiffusionDecoder of at least one step, got a BaseReconstruction"):
        DistillationModule(codec=tiny_codec)


def test_an_unknown_term_is_refused():
    with pytest.raises(ValueError, match="there is no loss term 'diffusion'"):
        DistillationLoss(weights={"diffusion": 1.0})
