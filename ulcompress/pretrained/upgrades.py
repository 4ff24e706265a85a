"""Upgrades of the configurations and weights that earlier versions wrote to the present format.

A codec directory states its format; one that does not has format 1. Checkpoints and experiments state none, and are
upgraded where they name a class of an earlier format.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

FORMAT = 3
"""Format of the configurations that are written now."""

T = TypeVar("T")
Config = dict[str, Any]
"""`class_path` and `init_args` of a part, as plain data."""


def upgrade_config(config: Any) -> Any:
    """Return a copy of plain data with all parts of earlier formats in their present form.

    Raises:
        ValueError: The arguments of a part of an earlier format are not what that part had.
    """
    if isinstance(config, list):
        return [upgrade_config(item) for item in config]
    if not isinstance(config, Mapping):
        return config
    name = _class_name(config)
    if name in UPGRADES:
        try:
            config = UPGRADES[name](dict(config.get("init_args") or {}))
        except (TypeError, ValueError, AttributeError, KeyError) as error:  # plain data of any kind may be in them
            raise ValueError(f"the arguments of {name}, a part of an earlier format, are damaged") from error
    elif name in STAGES:
        config = {**config, "init_args": _stage_options(config.get("init_args"))}
    elif name in MOVED and "." in config["class_path"]:
        config = {**config, "class_path": f"{MOVED[name]}.{name}"}
    return {key: upgrade_config(value) for key, value in config.items()}


def upgrade_keys(state: Mapping[str, T]) -> dict[str, T]:
    """Return weights under the present names of their parameters; a name may have any prefix before `decoder.`."""
    return {_renamed(name): value for name, value in state.items()}


def upgrade_experiment(experiment: Any) -> Any:
    """Return a copy of an experiment's plain data in the present form.

    Its section `model` may change options of a training without naming its class, to be laid over another file.
    """
    model = experiment.get("model") if isinstance(experiment, Mapping) else None
    if isinstance(model, Mapping) and "init_args" in model and "class_path" not in model:
        experiment = {**experiment, "model": {**model, "init_args": _stage_options(model["init_args"])}}
    return upgrade_config(experiment)


def upgrade_checkpoint(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint with its weights and hyperparameters in their present form.

    The order of the parameters, which the state of an optimiser follows, is that of earlier formats.
    """
    upgraded = dict(content)
    hyperparameters = content.get("hyper_parameters")
    is_stage = False
    if isinstance(hyperparameters, Mapping):
        is_stage = _class_name({"class_path": hyperparameters.get("_class_path")}) in STAGES
        upgraded["hyper_parameters"] = upgrade_config(_stage_options(hyperparameters) if is_stage else hyperparameters)
    for name in ("state_dict", "current_model_state"):  # the latter is the last step's, beside a moving average
        if isinstance(content.get(name), Mapping):
            state = upgrade_keys(content[name])
            upgraded[name] = {_of_loss(key): value for key, value in state.items()} if is_stage else state
    return upgraded


def _of_loss(name: str) -> str:
    """Format 3: the networks of a training's loss belong to that."""
    return f"loss.{name}" if name.startswith(("perceptual.", "adversarial.")) else name


def _stage_options(options: Any) -> Any:
    """Format 3: the options of a training are those of its parts."""
    if not isinstance(options, Mapping):
        return options
    upgraded = {name: value for name, value in options.items() if name not in STAGE_OPTIONS}
    if isinstance(options.get("start"), str):
        upgraded["start"] = {"codec": options["start"]}
    for name in STAGE_OPTIONS.keys() & options.keys():
        part, _, option = STAGE_OPTIONS[name].partition(".")
        upgraded[part] = {**_arguments(upgraded.get(part)), option: options[name]}
    return upgraded


def _renamed(name: str) -> str:
    """Format 2: the consistency branch belongs to the denoiser."""
    return re.sub(r"(^|\.)decoder\.consistency\.", r"\1decoder.denoiser.consistency.", name, count=1)


def _class_name(config: Mapping[str, Any]) -> str | None:
    """Return the name of a class of this package, in whatever module it was; None for a class of another package."""
    package, _, name = str(config.get("class_path", "")).rpartition(".")
    return name if package == "" or package.partition(".")[0] == "ulcompress" else None


def _latent_diffusion(options: Config) -> Config:
    """Format 2: PerCo's decoder is the one diffusion decoder."""
    map_ = "spatial" if options.get("estimate") is None else "estimate"
    denoiser = _unet(options.pop("denoiser", None), map_)
    objective = _objective(options, {})
    if isinstance(options.get("estimate"), Mapping):  # without a path, since there was one kind of estimate
        options["estimate"] = _part("ulcompress.diffusion.LinearEstimate", _arguments(options["estimate"]))
    options.setdefault("boundary", None)
    if options["boundary"] is None:
        options["boundary"] = {"patch": 96, "overlap": 16}
    return _part("ulcompress.decoders.DiffusionDecoder", {"denoiser": denoiser, "objective": objective, **options})


def _consistency_guided(options: Config) -> Config:
    """Format 2: CGDM's decoder is the one diffusion decoder; the base is its estimate, the branch the denoiser's."""
    options.setdefault("snr_clip", 5.0)
    options.setdefault("steps", 4)
    denoiser = _guided_unet(options.pop("denoiser", None), options.pop("consistency", None))
    estimate = _part("ulcompress.diffusion.BaseEstimate", {"added": options.pop("residual", True)})
    objective = _objective(options, {"prediction": "sample", "beta_schedule": "squaredcos_cap_v2"})
    parts = {"denoiser": denoiser, "objective": objective, "estimate": estimate}
    return _part("ulcompress.decoders.DiffusionDecoder", parts | options)


def _illm(options: Config) -> Config:
    """Format 3: published weights are fetched by address, not by the code of a repository."""
    options.pop("repository", None)
    return _part("ulcompress.learned.illm.MSILLM", options)


def _objective(options: Config, schedule: Config) -> Config:
    """Move the options that are now the objective's out of a decoder's; `schedule` has the decoder's defaults."""
    configured = options.pop("schedule", None)
    schedule = dict(schedule) if configured is None else _arguments(configured)
    prediction = schedule.pop("prediction", "v_prediction")
    if "training_times" in schedule:
        schedule["training_levels"] = schedule.pop("training_times")
    names = {
        "min_snr": "min_snr",
        "snr_clip": "min_snr",
        "terminal_share": "terminal_share",
        "own_estimates": "scheduled_sampling",
    }
    renamed = {new: options.pop(old) for old, new in names.items() if old in options}
    return {"schedule": _part("ulcompress.diffusion.DiscreteSchedule", schedule), "prediction": prediction, **renamed}


def _unet(config: Any, map_: str) -> Config:
    options = _arguments(config)
    options["maps"] = {map_: options.pop("spatial_channels", 320)}
    return _part("ulcompress.denoisers.UNet", options)


def _guided_unet(config: Any, consistency: Any) -> Config:
    options = _arguments(config)
    if options.pop("consistency", True):
        options["consistency"] = _part("ulcompress.denoisers.ConsistencyEncoder", _arguments(consistency))
    return _part("ulcompress.denoisers.GuidedUNet", options)


def _arguments(config: Any) -> Config:
    """Return the arguments of a part, with or without its class path; none for one that is left out."""
    if not isinstance(config, Mapping):
        return {}
    return dict((config.get("init_args") or {}) if {"class_path", "init_args"} & config.keys() else config)


def _part(path: str, options: Config) -> Config:
    return {"class_path": path, "init_args": options}


UPGRADES: dict[str | None, Callable[[Config], Config]] = {
    "LatentDiffusionDecoder": _latent_diffusion,
    "ConsistencyGuidedDecoder": _consistency_guided,
    "MSILLM": _illm,
}
"""Functions from the arguments of a class in an earlier format to the present part."""
STAGES = ("CodecModule", "AutoencoderModule")
"""Classes of trainings."""
STAGE_OPTIONS = {
    "start_parts": "start.parts",
    "autoencoder_checkpoint": "start.autoencoder",
    "frozen": "freezing.frozen",
    "trained": "freezing.trained",
    "perceptual": "loss.perceptual",
    "perceptual_images": "loss.images",
    "adversarial": "loss.adversarial",
    "weights": "loss.weights",
    "delays": "loss.delays",
    "codebook_batches": "preparation.batches",
}
"""Present names of the options of trainings in format 2, beside `start`, which was the name of a codec."""
MOVED: dict[str | None, str] = {
    "LinearEstimate": "ulcompress.diffusion",
    "UNet": "ulcompress.denoisers",
    "GuidedUNet": "ulcompress.denoisers",
    "ConsistencyEncoder": "ulcompress.denoisers",
    "CompressAIModel": "ulcompress.learned.compressai",
    "StableDiffusion": "ulcompress.foundation.stable_diffusion",
    "BlipCaptioner": "ulcompress.captioning.captioner",
}
"""Present modules of the classes that were in other modules."""
