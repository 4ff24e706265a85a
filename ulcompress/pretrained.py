"""Codec directories: `config.yaml`, `model.safetensors` and a model card; saved, loaded, found."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from ulcompress.files import read_torch, read_yaml
from ulcompress.hub import failures
from ulcompress.upgrades import FORMAT, upgrade_config, upgrade_keys

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ulcompress.codec import Codec

BUNDLED = Path(__file__).parent / "weights"
FILES = ("config.yaml", "model.safetensors", "README.md")


def load(name: str | Path, *, device: str | torch.device = "cpu", encoder_only: bool = False) -> Codec:
    """Load a codec, ready to compress and decompress.

    Args:
        name: A bundled codec (`mini`), a codec directory, or `hub:organisation/name[@revision]`.
        device: Where the weights go.
        encoder_only: Leave the weights of the decoder out, which are most of a large codec; it can compress only. Where
            its file does not tell the fingerprint all weights are read, which are needed to compute it.

    Raises:
        ValueError: There is no such codec, or its files do not fit together; says what would do.
    """
    from ulcompress.devices import move

    directory = locate(name)
    fingerprint = metadata(directory).get("fingerprint")
    encoder_only = encoder_only and fingerprint is not None  # without, it takes all weights to know
    with _no_initialization():
        codec = build(read_config(directory))
    state = _read_weights(directory)
    parts = [part for part in codec.children() if not (encoder_only and part is codec.decoder)]
    if encoder_only:
        codec.decoder.to("meta")
        state = {name: value for name, value in state.items() if not name.startswith("decoder.")}
    _fill(codec, state, directory, strict=not encoder_only, assign=True)
    for part in parts:
        move(part, device)
    return codec.eval() if fingerprint is None else codec.eval().named(fingerprint)


def read_config(directory: Path) -> dict[str, Any]:
    """Return the plain data from which the codec of a directory is built, in the present format; raises ValueError."""
    config = read_yaml(directory / "config.yaml", kind="codec configuration", section="encoder")
    written = config.pop("format", 1)
    if not isinstance(written, int) or not 1 <= written <= FORMAT:
        raise ValueError(
            f"{directory / 'config.yaml'} has the format {written!r}, this version reads 1 to {FORMAT}; update ulcompress"
        )
    return upgrade_config(config)


@contextmanager
def _no_initialization() -> Iterator[None]:
    """Leave new weights as the memory is, which takes neither time nor, until they are replaced, any of it."""
    from torch.nn import init

    own = {name: function for name, function in vars(init).items() if name.endswith("_") and callable(function)}
    try:
        for name in own:
            setattr(init, name, lambda tensor, *_, **__: tensor)
        yield
    finally:
        for name, function in own.items():
            setattr(init, name, function)


def load_weights(codec: Codec, name: str | Path, *, parts: Sequence[str] | None = None) -> None:
    """Give a codec the weights of a saved one, named as for `load`.

    Args:
        codec: What gets the weights.
        name: Of the saved codec.
        parts: Slots that are taken, `decoder` or `conditioning.text` for instance; None takes all of them.

    Raises:
        ValueError: There is no such codec, or its weights do not fit the parts.
    """
    directory = locate(name)
    state = _read_weights(directory)
    if parts is not None:
        state = codec.state_dict() | _of_parts(state, parts, directory)
    _fill(codec, state, directory)


def _read_weights(directory: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(directory / "model.safetensors")
    except SafetensorError as error:
        raise ValueError(f"{directory / 'model.safetensors'} is damaged: {error}; get the codec again") from error
    return upgrade_keys({key: value.float() if value.is_floating_point() else value for key, value in state.items()})


def _fill(
    codec: Codec, state: dict[str, Tensor], directory: Path, *, strict: bool = True, assign: bool = False
) -> None:
    try:
        keys = codec.load_state_dict(state, strict=strict, assign=assign)
    except RuntimeError as error:
        first = " ".join(str(error).split())
        raise ValueError(f"the weights in {directory} do not fit the codec's parts: {first}") from error
    lost = [key for key in keys.missing_keys if not key.startswith("decoder.")] + keys.unexpected_keys
    if lost:
        raise ValueError(f"the weights in {directory} do not fit the codec's parts: {lost[0]} is missing or unknown")


def _of_parts(state: dict[str, Tensor], parts: Sequence[str], directory: Path) -> dict[str, Tensor]:
    chosen = {}
    for part in parts:
        own = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
        if not own:
            slots = ", ".join(sorted({name.partition(".")[0] for name in state}))
            raise ValueError(f"the codec in {directory} has no weights of a part {part!r}; its parts are {slots}")
        chosen |= own
    return chosen


def build(config: dict[str, Any]) -> Codec:
    """Build a codec with random weights from the plain data of `Codec.arguments()`.

    Raises:
        ValueError: A key or a value is wrong; the message names it with its full path.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from ulcompress.codec import Codec
    from ulcompress.messages import configuration_error

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Codec, "codec")
    try:
        return parser.instantiate(parser.parse_object({"codec": deepcopy(config)})).codec
    except ArgumentError as error:
        raise ValueError(f"not a valid codec configuration: {configuration_error(error)}") from error


def save(codec: Codec, directory: str | Path, *, card: str = "") -> None:
    """Write a codec directory: configuration, weights in half precision, and a model card.

    The safetensors metadata carry the fingerprint and the description of the streams, so that a file can be inspected
    without building the codec.
    """
    from safetensors.torch import save_file

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: _halved(value).detach().cpu().contiguous() for name, value in codec.state_dict().items()}
    streams = [asdict(spec) if spec is not None else None for spec in codec.streams()]
    metadata = {"fingerprint": codec.fingerprint.hex(), "streams": json.dumps(streams)}
    # Written beside and moved, so that an interruption leaves the old codec or the new one.
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        staged = Path(temporary)
        OmegaConf.save(OmegaConf.create({"format": FORMAT, **codec.arguments()}), staged / "config.yaml")
        save_file(state, staged / "model.safetensors", metadata=metadata)
        (staged / "README.md").write_text(
            card or f"# A codec of ulcompress\n\nFingerprint `{codec.fingerprint.hex()}`.\n"
        )
        # safetensors writes files that nobody else may read.
        (staged / "model.safetensors").chmod((staged / "config.yaml").stat().st_mode)
        for file in FILES:
            (staged / file).replace(directory / file)


def _halved(value: Tensor) -> Tensor:
    """Give weights half of their bytes; single numbers stay, as bounds like 1e-9 would become zero."""
    return value.half() if value.is_floating_point() and value.numel() > 1 else value


def export(checkpoint: str | Path, directory: str | Path, *, card: str = "", averaged: bool = True) -> None:
    """Write the codec of a training checkpoint (of `training.CodecModule`) as a codec directory.

    Args:
        checkpoint: The file.
        directory: Of the codec.
        card: Text of its README.md.
        averaged: Take the moving average of the weights where the training kept one, else those of the last step.

    Raises:
        ValueError: The file is missing or holds no codec.
    """
    content = read_checkpoint(checkpoint)
    config = content.get("hyper_parameters", {}).get("codec")
    if config is None:
        raise ValueError(
            f"{str(checkpoint)!r} holds no codec; give a checkpoint of CodecModule trained by `ulcompress fit`"
        )
    # Lightning's weight averaging keeps the last step's weights beside the average.
    state = content["state_dict"] if averaged else content.get("current_model_state", content["state_dict"])
    codec = build(upgrade_config(config))
    own = {name.removeprefix("codec."): value for name, value in upgrade_keys(state).items() if name.startswith("codec.")}
    try:
        codec.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"the weights in {str(checkpoint)!r} do not fit its codec: {error}") from error
    save(codec.eval(), directory, card=card)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint, of which nothing is executed.

    Raises:
        ValueError: The file is missing or no such checkpoint.
    """
    if not Path(path).is_file():
        raise ValueError(f"no checkpoint {str(path)!r}; train that stage first or give another path")
    try:
        content = read_torch(path)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no checkpoint that can be read safely: {error}") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"{str(path)!r} is no Lightning checkpoint: it holds no `state_dict`")
    return content


def locate(name: str | Path) -> Path:
    """Return the directory of a codec named as for `load`; raises ValueError."""
    text = str(name)
    directory = _download(text.removeprefix("hub:")) if text.startswith("hub:") else Path(text)
    if not (directory / FILES[0]).is_file() and (BUNDLED / text).is_dir() and text == Path(text).name:
        directory = BUNDLED / text
    missing = [file for file in FILES[:2] if not (directory / file).is_file()]
    if missing:
        bundled = ", ".join(path.name for path in bundled_codecs()) or "none"
        raise ValueError(
            f"no codec {text!r}: {directory / missing[0]} does not exist; give a bundled codec ({bundled}), "
            "a directory with config.yaml and model.safetensors, or hub:organisation/name"
        )
    return directory


def bundled_codecs() -> Iterator[Path]:
    """Return the directories of the codecs that come with the package."""
    return (path.parent for path in sorted(BUNDLED.glob("*/config.yaml")))


def metadata(directory: Path) -> dict[str, str]:
    """Return the safetensors metadata of a codec directory without reading its weights."""
    from safetensors import SafetensorError, safe_open

    path = directory / "model.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(FILES)))
    except failures() as error:
        raise ValueError(
            f"cannot fetch {repository!r} from the model hub: {' '.join(str(error).split())}; "
            "with a local copy, give its directory instead"
        ) from error
