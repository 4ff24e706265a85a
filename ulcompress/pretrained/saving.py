"""Codecs written as directories."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ulcompress.pretrained.checkpoint import FILE_DIGEST, FINGERPRINT, read_checkpoint
from ulcompress.pretrained.directory import CARD, CONFIGURATION, WEIGHTS, replaced
from ulcompress.pretrained.loading import build
from ulcompress.pretrained.upgrades import FORMAT

if TYPE_CHECKING:
    from torch import Tensor

    from ulcompress.codec import Codec


def save(codec: Codec, directory: str | Path, *, card: str = "") -> None:
    """Write a codec directory: configuration, weights in half precision, and a model card.

    The safetensors metadata contain the fingerprint. An interruption leaves either the old codec or the new one.

    Raises:
        ValueError: A weight is not finite, or too large for half precision.
    """
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    state = {name: _halved(value).detach().cpu().contiguous() for name, value in codec.state_dict().items()}
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} has weights that are not finite in half precision; take an earlier checkpoint")
    with replaced(Path(directory)) as staged:
        OmegaConf.save(OmegaConf.create({"format": FORMAT, **codec.arguments()}), staged / CONFIGURATION)
        save_file(state, staged / WEIGHTS, metadata={FINGERPRINT: codec.fingerprint.hex()})
        (staged / CARD).write_text(
            card or f"# A codec of ulcompress\n\nFingerprint `{codec.fingerprint.hex()}`.\n", encoding="utf-8"
        )
        # safetensors writes files that only their owner may read.
        (staged / WEIGHTS).chmod((staged / CONFIGURATION).stat().st_mode)


def _halved(value: Tensor) -> Tensor:
    """Return weights in half precision; single numbers stay, as bounds like 1e-9 would become zero."""
    return value.half() if value.is_floating_point() and value.numel() > 1 else value


def export(
    checkpoint: str | Path,
    directory: str | Path,
    *,
    card: str = "",
    averaged: bool = True,
    trust: Collection[str] = (),
) -> None:
    """Write the codec of a training checkpoint (of a `training.CodecStage`) as a codec directory.

    Args:
        checkpoint: Path of the checkpoint; nothing in it is executed, as in `load`.
        directory: Path of the codec directory.
        card: Text of its README.md.
        averaged: Take the moving average of the weights if the checkpoint has one, else those of the last step.
        trust: As for `load`.

    Raises:
        ValueError: The file is missing or holds no codec.
    """
    from ulcompress.pretrained.configuration import one_line

    content = read_checkpoint(checkpoint)
    hyperparameters = content.get("hyper_parameters", {})
    config = hyperparameters.get("codec") if isinstance(hyperparameters, dict) else None
    if config is None:
        raise ValueError(
            f"{str(checkpoint)!r} holds no codec; give a checkpoint of CodecModule trained by `ulcompress fit`"
        )
    # Lightning's weight averaging keeps the last step's weights beside the average.
    state = content["state_dict"] if averaged else content.get("current_model_state", content["state_dict"])
    weights = {name.removeprefix("codec."): value for name, value in state.items() if name.startswith("codec.")}
    try:
        codec = build(config, trust=trust, sizes=[value.numel() for value in weights.values()])
    except ValueError as error:
        raise ValueError(f"{str(checkpoint)!r} holds a codec that cannot be built: {error}") from error
    try:
        codec.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {str(checkpoint)!r} do not fit its codec: {one_line(error)}") from error
    codec.eval()
    if FINGERPRINT in content and content.get(FILE_DIGEST) == codec.file_digest():
        codec.named(content[FINGERPRINT])
    save(codec, directory, card=card)
