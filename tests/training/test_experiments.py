"""Every experiment file is built by the command line and trained for one step."""

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderTiny
from omegaconf import OmegaConf

from ulcompress import Codec
from ulcompress.autoencoders import PixelSpace
from ulcompress.commands.main import run
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.learned.cod_lite import CodLite
from ulcompress.pretrained import load, save
from ulcompress.quantizers import ResidualQuantizer
from ulcompress.training.experiment import files_of
from ulcompress.training.run import Run

ROOT = Path(__file__).parents[2] / "experiments"
RATES = sorted(ROOT.glob("*/rates/*.yaml"))
ABLATIONS = sorted(ROOT.glob("*/ablations/*.yaml"))
BASES = sorted(ROOT.glob("*/bases/*.yaml"))
SWEEPS = sorted(ROOT.glob("sweeps/*.yaml"))
STUDIES = sorted(ROOT.glob("ablations/*.yaml"))
SHARED = [ROOT / "small.yaml", ROOT / "large.yaml", ROOT / "gpu.yaml"]
OTHERS = {*RATES, *ABLATIONS, *BASES, *SHARED, *SWEEPS, *STUDIES}
EXPERIMENTS = sorted(set(ROOT.rglob("*.yaml")) - OTHERS)
LARGE = ROOT / "cgdm/illm.yaml"
PUBLISHED = ROOT / "cod-lite/context.yaml"
AUTOENCODERS = {"AutoencoderModule", "ImitationModule"}
"""Modules that train no codec."""
TEACHERS = {
    "cgdm/few-steps.yaml": "cgdm/diffusion.yaml",
    "cgdm/larger.yaml": "cgdm/two-networks.yaml",
    "mini/latents-images.yaml": "mini/latents.yaml",
    "mini/larger.yaml": "mini/cosines.yaml",
    "perco/few-steps.yaml": "perco/taesd.yaml",
    "perco/prior.yaml": "mini/codec.yaml",
}
"""Experiments whose codec, which they have exported, another one begins with."""
STAND_IN = """
model:
  init_args:
    codec:
      encoder: { class_path: AnalysisTransform, init_args: { model: &base BASE } }
      quantizer: { class_path: HyperpriorQuantizer, init_args: { model: *base } }
      conditioning:
        base: { class_path: SynthesisTransform, init_args: { model: *base } }
        syntax: { class_path: NeuralSyntax, init_args: { generator: SyntaxGenerator } }
"""
"""A small untrained base in place of a published one, which would have to be downloaded."""
SMALL_BASES = {
    "illm": "{ class_path: ulcompress.learned.illm.MSILLM, init_args: { quality: null, widths: [4, 4, 4, 4, 8], "
    "channels: 8, hyper_channels: 4, blocks: 1 } }",
    "zoo": "{ class_path: CompressAIModel, init_args: { quality: null, sizes: [8, 8] } }",
}
STEP = [
    *("--data.batch_size", "2", "--data.crop", "64", "--data.num_workers", "0", "--trainer.max_steps", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    *("--trainer.strategy", "auto", "--trainer.precision", "32-true", "--trainer.accumulate_grad_batches", "1"),
]


@pytest.fixture(scope="module")
def tiny_autoencoder(tmp_path_factory):
    """Return the directory of a network of TAESD's layers, which a student must have too, with random weights."""
    directory = tmp_path_factory.mktemp("tiny-autoencoder")
    AutoencoderTiny().save_pretrained(directory)
    return str(directory)


@pytest.fixture
def here(tmp_path, monkeypatch, stable_diffusion, tiny_autoencoder, two_maps, save_layers):
    """Run in a folder with nothing but networks for distances, with tiny ones in place of those of the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STABLE_DIFFUSION", stable_diffusion)
    monkeypatch.setenv("TAESD", tiny_autoencoder)
    for name in ("resnet50-thin", "mobilenet-v2"):
        save_layers(two_maps, f"{name}.safetensors")
    return tmp_path


def fit(images, *options):
    texts = [Path(option).read_text() for option in options if option.endswith(".yaml")]
    if any("preparation:" in text and "preparation: null" not in text for text in texts):
        options = (*options, "--model.preparation.batches", "2")
    assert run(["fit", *options, "--data.train", images, *STEP]) == 0


def perceptual_weights(path, squeezenet):
    """Return the option with the weights of the network of torchvision's in an experiment's distance, if it has one."""
    merged = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files_of(path))))
    place = feature_distance(merged["model"]["init_args"].get("loss", {}).get("perceptual"), "--model.loss.perceptual")
    return [f"{place}.weights", squeezenet] if place else []


def feature_distance(distance, place):
    """Return the place of a `FeatureDistance` in a distance of several, by its option."""
    if not isinstance(distance, dict):
        return place if distance == "FeatureDistance" else None
    if distance["class_path"] == "FeatureDistance":
        return place
    parts = distance["init_args"].items() if distance["class_path"] == "EitherDistance" else ()
    return next(filter(None, (feature_distance(part, f"{place}.{name}") for name, part in parts)), None)


@pytest.mark.parametrize(
    "path", [e for e in EXPERIMENTS if e not in (LARGE, PUBLISHED)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_one_step(path, images, squeezenet, here):
    text, before = path.read_text(), {file.name for file in here.iterdir()}
    if teacher := TEACHERS.get(str(path.relative_to(ROOT))):
        weights = perceptual_weights(ROOT / teacher, squeezenet)
        fit(images, "-c", str(ROOT / teacher), *weights)
    weights = perceptual_weights(path, squeezenet)
    fit(images, "-c", str(path), *weights)
    place = Run(str(path.relative_to(ROOT).with_suffix("")))
    assert torch.load(place.last_checkpoint, weights_only=True)["global_step"] == 1
    assert place.record["state"] == "done" and place.codec.exists() == (not AUTOENCODERS & set(text.split()))
    assert {file.name for file in here.iterdir()} == before | {"runs"}


@pytest.mark.parametrize("base", SMALL_BASES)
def test_one_step_over_a_small_stand_in_of_a_published_base(base, images, squeezenet, here):
    (here / "base.yaml").write_text(STAND_IN.replace("BASE", SMALL_BASES[base]))
    decoder = "--model.codec.decoder"
    small = [*("--model.loss.perceptual.net", "squeeze", "--model.loss.perceptual.weights", squeezenet)]
    for part in ("denoiser", "denoiser.consistency"):
        small += [f"{decoder}.{part}.widths", "[8,8,8,8,8]", f"{decoder}.{part}.blocks", "1"]
    fit(images, "-c", str(LARGE), "-c", "base.yaml", *small)
    assert torch.load(Run("cgdm/illm+base").last_checkpoint, weights_only=True)["global_step"] == 1


def test_one_step_on_the_indices_of_a_small_stand_in_of_a_published_codec(images, here):
    """The probabilities learn, and the codec restores what it restored before."""
    sizes = {"channels": 32, "widths": [32, 32, 32], "hidden": 32, "pixel_width": 4, "blocks": 1}
    model = CodLite(**sizes)
    codec = Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=ResidualQuantizer(codebook_sizes=[256], channels=32, dimension=32, unit_length=False),
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    ).eval()
    codec.quantizer.stages[0].filled.fill_(True)
    save(codec, here / "published")
    small = {"init_args": {"model": {"init_args": sizes}}}
    parts = {"encoder": small, "conditioning": {"base": small}}
    parts["quantizer"] = {"init_args": {"channels": 32, "dimension": 32}}
    (here / "small.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"codec": parts}}}))
    fit(images, "-c", str(PUBLISHED), "-c", "small.yaml", "--model.start.codec", "published")
    image = torch.rand(3, 64, 64)
    before, after = load("published"), load(Run("cod-lite/context+small").codec)
    restored = [each.decompress(each.compress(image)) for each in (before, after)]
    assert torch.equal(*restored)
    assert after.quantizer.entropies.heads


def test_quality_and_base_can_be_chosen(capsys, monkeypatch):
    def printed(*options):
        with pytest.raises(SystemExit):
            run(["fit", "-c", str(LARGE), *options, "--data.train", "x", "--print_config"])
        return capsys.readouterr().out

    for quality in ("5", "vlo2"):
        monkeypatch.setenv("MSILLM_QUALITY", quality)
        assert printed().count(f"quality: {quality}") == 3
    monkeypatch.setenv("MSILLM_WEIGHTS", "copy.ckpt")
    assert printed().count("weights: copy.ckpt") == 3
    for base in BASES:
        config = printed("-c", str(base))
        assert config.count("name: mbt2018-mean") == 3 and "MSILLM" not in config


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_step_of_an_ablation(path, images, squeezenet, here):
    base = path.parents[1] / "mini.yaml"
    fit(images, "-c", str(base), "-c", str(path), "--model.loss.perceptual.weights", squeezenet)
    # In a folder of its own: an ablation must not overwrite what it is compared with.
    saved = torch.load(Run(f"cgdm/mini+{path.stem}").last_checkpoint, weights_only=True)
    assert saved["global_step"] == 1
    assert [folder.name for folder in (here / "runs/cgdm").iterdir()] == [f"mini+{path.stem}"]
    denoiser = saved["hyper_parameters"]["codec"]["decoder"]["init_args"]["denoiser"]["init_args"]
    assert (denoiser["fusion"], denoiser["consistency"] is None) != ("syntax", False)


def test_one_step_with_the_images_on_the_device(images, here):
    path = ROOT / "mini/latents.yaml"
    fit(images, "-c", str(path), "-c", str(ROOT / "gpu.yaml"), "--trainer.log_every_n_steps", "1")
    run_of_it = Run("mini/latents+gpu")
    assert run_of_it.codec.exists() and "resident: true" in (run_of_it.folder / "config.yaml").read_text()
    assert "train/share-of-peak" in next(run_of_it.logs.rglob("metrics.csv")).read_text()


def test_one_step_at_a_rate_with_lpips(images, squeezenet, here):
    """Above 0.05 bpp the rate files add LPIPS, and a decoder of 5 steps."""
    rate = ROOT / "perco/rates/0.1250.yaml"
    lpips = ["--model.loss.perceptual.net", "squeeze", "--model.loss.perceptual.weights", squeezenet]
    fit(images, "-c", str(ROOT / "perco/sd.yaml"), "-c", str(rate), *lpips)
    parameters = torch.load(Run("perco/sd+0.1250").last_checkpoint, weights_only=True)["hyper_parameters"]
    assert parameters["loss"]["perceptual"]["class_path"] == "ulcompress.losses.LPIPS"
    assert parameters["codec"]["decoder"]["init_args"]["steps"] == 5
    assert parameters["codec"]["encoder"]["init_args"]["stride"] == 8


def test_perco_continues_from_a_named_checkpoint(images, here):
    """Where its weights first came from does not matter then."""
    sd, last = ["-c", str(ROOT / "perco/sd.yaml")], Run("perco/sd").last_checkpoint
    fit(images, *sd)
    assert run(["fit", *sd, "--data.train", images, *STEP, "--trainer.max_steps", "2", "--ckpt_path", str(last)]) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 2


def test_steps_follow_the_rate():
    for path in RATES:
        assert ("steps: 5" in path.read_text()) == ("LPIPS" in path.read_text()) == (float(path.stem) > 0.05), path


@pytest.mark.parametrize(
    "study, distance, other",
    [
        ("perco-sd", "model.loss.perceptual: LPIPS", "model.loss.perceptual: { class_path: LPIPS, init_args: FILE }"),
        ("syntax", "options:", "options:\n  model.loss.perceptual: { class_path: LPIPS, init_args: FILE }"),
    ],
    ids=["perco-sd", "syntax"],
)
def test_every_variant_of_a_study_can_be_built(study, distance, other, images, squeezenet, here, capsys):
    """With a distance whose network is there."""
    text = (ROOT / f"ablations/{study}.yaml").read_text().replace("../", f"{ROOT}/")
    other = other.replace("FILE", f"{{ net: squeeze, weights: {squeezenet} }}")
    (here / "study.yaml").write_text(text.replace(distance, other))
    assert run(["ablate", "study.yaml", "--dry-run", "--images", images, "--data.train", images]) == 0
    said = capsys.readouterr().out
    assert "cannot be built" not in said and f"{said.count('  seed ')} left" in said


@pytest.mark.parametrize("path", EXPERIMENTS + SWEEPS, ids=lambda path: str(path.relative_to(ROOT)))
def test_head_says_method_cost_and_command(path):
    head = path.read_text().split("\nbase:")[0]
    for word in ("Method:", "Result:", "Cost:", "Command:"):
        assert word in head
