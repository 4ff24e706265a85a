"""Configurations and weights of earlier formats in their present form."""

import copy

import pytest
import torch

from ulcompress.decoders import Decoder, DiffusionDecoder
from ulcompress.denoisers import GuidedUNet, UNet
from ulcompress.diffusion import BaseEstimate, LinearEstimate
from ulcompress.pretrained.upgrades import upgrade_checkpoint, upgrade_config, upgrade_experiment, upgrade_keys

UNET = {"channels": 4, "spatial_channels": 3, "text_channels": 8, "widths": [32, 32], "head_channels": 8}
SIZES = {"widths": [8, 12], "patch_size": 2}


def part(path, **options):
    return {"class_path": path, "init_args": options}


def latent(prefix="ulcompress.decoders.", **options):
    """Return PerCo's decoder as format 1 wrote it."""
    return part(f"{prefix}LatentDiffusionDecoder", denoiser=part(f"{prefix}UNet", **UNET), **options)


def guided(prefix="ulcompress.decoders.", *, network=None, **options):
    """Return CGDM's decoder as format 1 wrote it."""
    denoiser = part(f"{prefix}GuidedUNet", **SIZES, **network or {})
    return part(f"{prefix}ConsistencyGuidedDecoder", denoiser=denoiser, **options)


def built(config):
    """Build the decoder of an upgraded configuration, as the loader does."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--decoder", type=Decoder)
    decoder = parser.instantiate(parser.parse_object({"decoder": upgrade_config(config)})).decoder
    assert isinstance(decoder, DiffusionDecoder)
    return decoder


@pytest.fixture(params=["ulcompress.decoders.", "ulcompress.decoders.some_module.", ""])
def prefix(request):
    """How a class was named: by its package, by its module, or by its bare name."""
    return request.param


def test_a_latent_decoder_of_defaults(prefix):
    decoder = built(latent(prefix))
    assert isinstance(decoder.denoiser, UNet) and decoder.denoiser.maps == {"spatial": 3}
    assert decoder.estimate is None
    objective = decoder.objective
    assert (objective.prediction, objective.min_snr, objective.diffused) == ("v_prediction", None, "target")
    assert (objective.terminal_share, objective.scheduled_sampling) == (0.0, 0.0)
    assert objective.schedule.arguments() == {
        "beta_schedule": "scaled_linear",
        "zero_terminal_snr": True,
        "training_levels": 1000,
    }
    assert (decoder.steps, decoder.guidance, decoder.start) == (20, 1.0, 1.0)
    assert (decoder.boundary.patch, decoder.boundary.overlap) == (96, 16)


def test_a_latent_decoder_of_all_options(prefix):
    schedule = part(
        "ulcompress.diffusion.NoiseSchedule",
        prediction="sample",
        beta_schedule="squaredcos_cap_v2",
        zero_terminal_snr=False,
        training_times=4,
    )
    decoder = built(
        latent(
            prefix,
            schedule=schedule,
            sampler=part("ulcompress.diffusion.DDIM"),
            steps=3,
            guidance=2.0,
            terminal_share=0.25,
            own_estimates=0.5,
            min_snr=5.0,
            boundary={"patch": 64, "overlap": 8},
            estimate=None,
        )
    )
    objective = decoder.objective
    assert (objective.prediction, objective.min_snr) == ("sample", 5.0)
    assert (objective.terminal_share, objective.scheduled_sampling) == (0.25, 0.5)
    assert objective.schedule.arguments() == {
        "beta_schedule": "squaredcos_cap_v2",
        "zero_terminal_snr": False,
        "training_levels": 4,
    }
    assert (decoder.steps, decoder.guidance) == (3, 2.0)
    assert (decoder.boundary.patch, decoder.boundary.overlap) == (64, 8)


@pytest.mark.parametrize(
    "estimate",
    [
        part("ulcompress.decoders.LinearEstimate", spatial_channels=10, channels=3),
        part("LinearEstimate", spatial_channels=10, channels=3),
        {"init_args": {"spatial_channels": 10, "channels": 3}},
        {"spatial_channels": 10, "channels": 3},
    ],
)
def test_a_latent_decoder_with_an_estimate_sees_that(estimate):
    decoder = built(part("LatentDiffusionDecoder", denoiser=part("UNet", **UNET | {"channels": 3}), estimate=estimate))
    assert decoder.denoiser.maps == {"estimate": 3}
    assert isinstance(decoder.estimate, LinearEstimate) and decoder.estimate.condition_channels == {"spatial": 10}


def test_an_estimate_and_a_network_of_defaults_are_named_alone():
    config = upgrade_config(part("LatentDiffusionDecoder", denoiser="UNet", estimate="LinearEstimate"))["init_args"]
    assert config["estimate"] == "LinearEstimate"
    assert config["denoiser"] == part("ulcompress.denoisers.UNet", maps={"estimate": 320})


def test_a_network_without_options_has_its_old_channels():
    for denoiser in (part("UNet"), {"class_path": "UNet"}, {"class_path": "UNet", "init_args": None}, {}, None):
        config = upgrade_config(part("LatentDiffusionDecoder", denoiser=denoiser))["init_args"]["denoiser"]
        assert config == part("ulcompress.denoisers.UNet", maps={"spatial": 320})


def test_nulls_are_the_defaults_of_then():
    nulls = {"schedule": None, "sampler": None, "boundary": None, "estimate": None, "min_snr": None}
    assert built(latent(**nulls)).config() == built(latent()).config()
    nulls = {"schedule": None, "sampler": None, "boundary": None, "consistency": None}
    assert (
        built(guided(network={"consistency": False}, **nulls)).config()
        == built(guided(network={"consistency": False})).config()
    )
    assert built(guided(network={"consistency": False}, snr_clip=None)).objective.min_snr is None


def test_a_guided_decoder_of_defaults(prefix):
    decoder = built(guided(prefix, consistency=part(f"{prefix}ConsistencyEncoder", **SIZES)))
    assert isinstance(decoder.denoiser, GuidedUNet) and decoder.denoiser.maps == {"estimate": 3}
    assert decoder.denoiser.consistency is not None and decoder.denoiser.consistency.widths == (8, 12)
    assert isinstance(decoder.estimate, BaseEstimate) and decoder.estimate.added
    objective = decoder.objective
    assert (objective.prediction, objective.min_snr, objective.diffused) == ("sample", 5.0, "target")
    assert (objective.terminal_share, objective.scheduled_sampling) == (0.0, 0.0)
    assert objective.schedule.arguments() == {
        "beta_schedule": "squaredcos_cap_v2",
        "zero_terminal_snr": True,
        "training_levels": 1000,
    }
    assert (decoder.steps, decoder.guidance, decoder.start) == (4, 1.0, 1.0)
    assert (decoder.boundary.patch, decoder.boundary.overlap) == (256, 64)


def test_a_guided_decoder_of_all_options(prefix):
    decoder = built(
        guided(
            prefix,
            network={
                "blocks": 1,
                "syntax_channels": None,
                "text_channels": 8,
                "fusion": "static",
                "consistency": False,
            },
            consistency=None,
            schedule=part("NoiseSchedule", prediction="v_prediction", training_times=2),
            steps=1,
            start=0.5,
            guidance=2.0,
            snr_clip=None,
            terminal_share=0.5,
            own_estimates=1.0,
            residual=False,
            boundary={"patch": 64, "overlap": 16, "seed": 3},
        )
    )
    assert decoder.denoiser.consistency is None and decoder.accepts >= {"base", "text"}
    assert not decoder.estimate.added
    objective = decoder.objective
    assert (objective.prediction, objective.min_snr) == ("v_prediction", None)
    assert (objective.terminal_share, objective.scheduled_sampling) == (0.5, 1.0)
    assert objective.schedule.arguments() == {
        "beta_schedule": "scaled_linear",
        "zero_terminal_snr": True,
        "training_levels": 2,
    }
    assert (decoder.steps, decoder.start, decoder.guidance) == (1, 0.5, 2.0)
    assert (decoder.boundary.patch, decoder.boundary.seed) == (64, 3)


def test_decoders_are_found_wherever_they_stand():
    config = {"model": {"codec": {"decoder": latent(), "conditioning": {"a": [guided()]}, "steps": 3}}}
    upgraded = upgrade_config(config)["model"]["codec"]
    path = "ulcompress.decoders.DiffusionDecoder"
    assert upgraded["decoder"]["class_path"] == upgraded["conditioning"]["a"][0]["class_path"] == path
    assert upgraded["steps"] == 3


def test_the_data_that_is_given_stays_as_it_is():
    config = {"decoder": guided(consistency=part("ConsistencyEncoder"), schedule=part("NoiseSchedule"))}
    before = copy.deepcopy(config)
    upgrade_config(config)
    assert config == before


@pytest.mark.parametrize("config", [latent(), guided(consistency=part("ConsistencyEncoder", **SIZES))])
def test_what_is_of_the_present_form_stays_as_it_is(config):
    upgraded = upgrade_config(config)
    assert upgrade_config(upgraded) == upgraded
    saved = built(config).config()
    assert upgrade_config(saved) == saved


@pytest.mark.parametrize("name", ["LatentDiffusionDecoder", "ConsistencyGuidedDecoder", "UNet", "LinearEstimate"])
def test_classes_of_that_name_from_elsewhere_are_left_alone(name):
    for package in ("mine", "mine.ulcompress", "ulcompressed.decoders"):
        config = part(f"{package}.{name}", spatial_channels=3)
        assert upgrade_config(config) == config


def test_classes_that_moved_have_their_present_path():
    moved = {
        "LinearEstimate": "ulcompress.diffusion.LinearEstimate",
        "UNet": "ulcompress.denoisers.UNet",
        "GuidedUNet": "ulcompress.denoisers.GuidedUNet",
        "ConsistencyEncoder": "ulcompress.denoisers.ConsistencyEncoder",
    }
    for name, path in moved.items():
        assert upgrade_config(part(f"ulcompress.decoders.{name}", width=3)) == part(path, width=3)
        assert upgrade_config(part(name, width=3)) == part(name, width=3), "a bare name is found wherever it is"


def test_anything_else_stays_as_it_is():
    for value in (
        None,
        3,
        "LatentDiffusionDecoder",
        [1, {"a": None}],
        {"class_path": None},
        {"init_args": {"steps": 3}},
    ):
        assert upgrade_config(value) == value


def test_weights_of_the_consistency_branch_belong_to_the_denoiser():
    value = torch.zeros(1)
    renamed = {
        "decoder.consistency.pyramid.weight": "decoder.denoiser.consistency.pyramid.weight",
        "codec.decoder.consistency.pyramid.weight": "codec.decoder.denoiser.consistency.pyramid.weight",
        "average.codec.decoder.consistency.x": "average.codec.decoder.denoiser.consistency.x",
        "decoder.denoiser.consistency.pyramid.weight": "decoder.denoiser.consistency.pyramid.weight",
        "decoder.denoiser.up.0.fusion.mixed.weight": "decoder.denoiser.up.0.fusion.mixed.weight",
        "my_decoder.consistency.weight": "my_decoder.consistency.weight",
        "encoder.layers.0.bias": "encoder.layers.0.bias",
    }
    upgraded = upgrade_keys(dict.fromkeys(renamed, value))
    assert upgraded.keys() == set(renamed.values())
    for old, new in renamed.items():
        assert upgrade_keys({old: value}) == {new: value}


@pytest.mark.parametrize("name", ["LatentDiffusionDecoder", "ConsistencyGuidedDecoder"])
@pytest.mark.parametrize(
    "arguments",
    [{"init_args": [1]}, {"init_args": "abc"}, {"init_args": {"denoiser": {"init_args": 5, "class_path": "UNet"}}}],
)
def test_damaged_arguments_are_one_line(name, arguments):
    with pytest.raises(ValueError, match=f"^the arguments of {name}, a part of an earlier format, are damaged$"):
        upgrade_config({"decoder": {"class_path": f"ulcompress.decoders.{name}", **arguments}})


DISTANCE = part("ulcompress.losses.FeatureDistance", weights="a.safetensors")
FLAT = {
    "codec": {"encoder": part("ulcompress.encoders.HyperEncoder")},
    "start": "mini",
    "start_parts": ["encoder"],
    "frozen": ["encoder"],
    "trained": ["autoencoder.network"],
    "autoencoder_checkpoint": "a.ckpt",
    "perceptual": DISTANCE,
    "perceptual_images": 4,
    "adversarial": {"ramp_steps": 3},
    "weights": {"perceptual": 0.5},
    "delays": {"rate/text": 7},
    "codebook_batches": 9,
    "seed": 2,
}
"""The options of `CodecModule` in format 2."""
PARTS = {
    "codec": FLAT["codec"],
    "start": {"codec": "mini", "parts": ["encoder"], "autoencoder": "a.ckpt"},
    "freezing": {"frozen": ["encoder"], "trained": ["autoencoder.network"]},
    "loss": {
        "perceptual": DISTANCE,
        "images": 4,
        "adversarial": {"ramp_steps": 3},
        "weights": {"perceptual": 0.5},
        "delays": {"rate/text": 7},
    },
    "preparation": {"batches": 9},
    "seed": 2,
}


@pytest.mark.parametrize(
    "path", ["CodecModule", "ulcompress.training.CodecModule", "ulcompress.training.codec.CodecModule"]
)
def test_the_options_of_a_training_belong_to_its_parts(path):
    experiment = {"model": part(path, **FLAT), "trainer": {"max_steps": 3}}
    assert upgrade_experiment(experiment) == {"model": part(path, **PARTS), "trainer": {"max_steps": 3}}
    assert upgrade_experiment({"model": part(path, **PARTS)}) == {"model": part(path, **PARTS)}


def test_an_experiment_that_is_laid_over_another_names_no_class():
    model = {"init_args": {"perceptual": "LPIPS", "weights": {"perceptual": 0.1}}}
    upgraded = {"init_args": {"loss": {"perceptual": "LPIPS", "weights": {"perceptual": 0.1}}}}
    assert upgrade_experiment({"model": model}) == {"model": upgraded}
    for other in (None, {"model": None}, {"model": {"init_args": None}}, {"data": {"weights": 3}}):
        assert upgrade_experiment(other) == other


def test_the_loss_of_an_autoencoder_is_a_part():
    upgraded = upgrade_config(part("AutoencoderModule", autoencoder="KLAutoencoder", perceptual=DISTANCE, weights=None))
    assert upgraded == part(
        "AutoencoderModule", autoencoder="KLAutoencoder", loss={"perceptual": DISTANCE, "weights": None}
    )


def test_a_training_of_somebody_else_keeps_its_options():
    other = part("mine.CodecModule", **FLAT)
    assert upgrade_experiment({"model": other}) == {"model": other}
    content = {"hyper_parameters": {"_class_path": "mine.Module", "weights": 3}, "state_dict": {"perceptual.a": 1}}
    assert upgrade_checkpoint(content) == content


def test_a_checkpoint_has_the_parts_of_its_training_and_their_weights():
    state = {"codec.encoder.a": 1, "perceptual.b": 2, "adversarial.discriminator.c": 3}
    names = {"_instantiator": "x", "_class_path": "ulcompress.training.CodecModule"}
    content = {"hyper_parameters": names | FLAT, "state_dict": state, "current_model_state": state, "global_step": 5}
    upgraded = upgrade_checkpoint(content)
    assert upgraded["hyper_parameters"] == names | PARTS
    present = {"codec.encoder.a": 1, "loss.perceptual.b": 2, "loss.adversarial.discriminator.c": 3}
    for kind in ("state_dict", "current_model_state"):
        assert upgraded[kind] == present and list(upgraded[kind]) == list(present)
    assert upgrade_checkpoint(upgraded) == upgraded and upgraded["global_step"] == 5
