"""Codecs that were saved: loaded, found, and written as directories."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulcompress.codec_directory import CARD, CONFIGURATION, FILES, WEIGHTS, file_of, metadata, replaced
from ulcompress.files import read_torch
from ulcompress.hub import failures

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ulcompress.codec import Codec

BUNDLED = Path(__file__).parent / "weights"
FACTOR = 16
"""Times the weights that may be allocated while a codec is built: of a learned one the whole is built for each part."""
SPARE_TENSORS, SPARE_ELEMENTS = 1 << 13, 1 << 24
"""Beside these, for small codecs."""


def load(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    encoder_only: bool = False,
    trust: Collection[str] = (),
) -> Codec:
    """Load a codec, ready to compress and decompress.

    Nothing of the codec is executed: it can name parts of ulcompress alone, and no files or models elsewhere.

    Args:
        name: A bundled codec (`mini`), a codec directory, or `hub:organisation/name[@revision]`.
        device: Where the weights go.
        encoder_only: Leave the weights of the decoder out, which are most of a large codec; it can compress only. Where
            its file does not tell the fingerprint all weights are read, which are needed to compute it.
        trust: Packages whose parts, declared `ulcompress.part.loadable`, the codec may name as well. They are imported.

    Raises:
        ValueError: There is no such codec, or its files do not fit together; says what would do.
    """
    from ulcompress.configuration import read_configuration
    from ulcompress.devices import move

    directory = locate(name)
    told = metadata(directory).get("fingerprint") if encoder_only else None
    encoder_only = told is not None  # where it is not told it takes all weights to know
    shapes = _shapes(directory)
    path = file_of(directory, CONFIGURATION)
    config = read_configuration(path)
    try:
        with _no_initialization():
            codec = build(config, trust=trust, sizes=[prod(shape) for shape in shapes.values()])
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error
    _check_shapes(codec, shapes, directory)
    parts = [part for part in codec.children() if not (encoder_only and part is codec.decoder)]
    if encoder_only:
        codec.decoder.to("meta")
    _fill(codec, _read_weights(directory, encoder_only=encoder_only), directory, strict=not encoder_only, assign=True)
    for part in parts:
        move(part, device)
    return codec.eval().named(told) if told is not None else codec.eval()


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


def _shapes(directory: Path) -> dict[str, list[int]]:
    """Return the shapes of a codec's weights, of which nothing else is read."""
    with _opened(directory) as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  (it is no dictionary)


def _tensors(codec: Codec) -> dict[str, Tensor]:
    """Return parameters and buffers by name, with no hook of `state_dict`, which may compute with them."""
    parameters = dict(codec.named_parameters(remove_duplicate=False))
    return parameters | dict(codec.named_buffers(remove_duplicate=False))


def _check_shapes(codec: Codec, shapes: dict[str, list[int]], directory: Path) -> None:
    """Compare the weights of a codec's directory with those that it takes, before they are read."""
    taken = _tensors(codec)
    for name, shape in shapes.items():
        if name not in taken:
            raise ValueError(f"the weights in {directory} do not fit the codec's parts: {name} is none of theirs")
        # What is empty takes any length from its file.
        if taken[name].numel() and list(taken[name].shape) != shape:
            raise ValueError(
                f"the weights in {directory} do not fit the codec's parts: {name} has the shape {shape}, "
                f"not {list(taken[name].shape)}"
            )


def _read_weights(directory: Path, *, encoder_only: bool = False) -> dict[str, Tensor]:
    with _opened(directory) as file:
        names = [key for key in file.keys() if not (encoder_only and key.startswith("decoder."))]  # noqa: SIM118
        state = {key: file.get_tensor(key) for key in names}
    for name, value in state.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise ValueError(
                f"{file_of(directory, WEIGHTS)} is damaged: {name} has numbers that are not finite; get the codec again"
            )
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


@contextmanager
def _opened(directory: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    path = file_of(directory, WEIGHTS)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}; get the codec again") from error


def _fill(
    codec: Codec, state: dict[str, Tensor], directory: Path, *, strict: bool = True, assign: bool = False
) -> None:
    """Give a codec its weights, and let its parts check what they were given."""
    from ulcompress.configuration import one_line
    from ulcompress.part import Part

    kinds = {name: tensor.dtype for name, tensor in _tensors(codec).items()}
    for name, value in state.items():
        kind = kinds.get(name, value.dtype)
        if value.dtype != kind and not (value.is_floating_point() and kind.is_floating_point):
            raise ValueError(
                f"the weights in {directory} do not fit the codec's parts: {name} is {value.dtype}, not {kind}"
            )
    try:
        lost = codec.load_state_dict(state, strict=strict, assign=assign).missing_keys
        if missing := [name for name in lost if not name.startswith("decoder.")]:
            raise ValueError(f"{missing[0]} is missing")
        for part in codec.modules():
            if isinstance(part, Part):
                part.check_state()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the weights in {directory} do not fit the codec's parts: {one_line(error)}") from error


def _of_parts(state: dict[str, Tensor], parts: Sequence[str], directory: Path) -> dict[str, Tensor]:
    chosen = {}
    for part in parts:
        own = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
        if not own:
            slots = ", ".join(sorted({name.partition(".")[0] for name in state}))
            raise ValueError(f"the codec in {directory} has no weights of a part {part!r}; its parts are {slots}")
        chosen |= own
    return chosen


def build(config: dict[str, Any], *, trust: Collection[str] = (), sizes: Collection[int] | None = None) -> Codec:
    """Build a codec with random weights from the plain data of `Codec.arguments()`.

    Args:
        config: The data. Nothing that it names is executed but constructors of parts, and none of them reads a file.
        trust: As for `load`.
        sizes: Of the weights that the codec will get, in elements; one that would be many times larger is not built.

    Raises:
        ValueError: A key or a value is wrong; the message names it with its full path.
    """
    from ulcompress.budget import TensorBudget
    from ulcompress.codec import Codec
    from ulcompress.configuration import Checker

    try:
        recipe = Checker(packages=trust).part(config, Codec, "codec")
        if sizes is None:
            return recipe.build()
        tensors, elements = FACTOR * len(sizes) + SPARE_TENSORS, FACTOR * sum(sizes) + SPARE_ELEMENTS
        with TensorBudget(tensors=tensors, elements=elements):
            return recipe.build()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a valid codec configuration: {error}") from error


def save(codec: Codec, directory: str | Path, *, card: str = "") -> None:
    """Write a codec directory: configuration, weights in half precision, and a model card.

    The safetensors metadata carry the fingerprint and the description of the streams, so that a file can be inspected
    without building the codec. An interruption leaves the old codec or the new one.

    Raises:
        ValueError: A weight is not finite, or too large for half precision.
    """
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    state = {name: _halved(value).detach().cpu().contiguous() for name, value in codec.state_dict().items()}
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} has weights that are not finite in half precision; take an earlier checkpoint")
    streams = [asdict(spec) if spec is not None else None for spec in codec.streams()]
    metadata = {"fingerprint": codec.fingerprint.hex(), "streams": json.dumps(streams)}
    with replaced(Path(directory)) as staged:
        OmegaConf.save(OmegaConf.create(codec.arguments()), staged / CONFIGURATION)
        save_file(state, staged / WEIGHTS, metadata=metadata)
        (staged / CARD).write_text(
            card or f"# A codec of ulcompress\n\nFingerprint `{codec.fingerprint.hex()}`.\n", encoding="utf-8"
        )
        # safetensors writes files that nobody else may read.
        (staged / WEIGHTS).chmod((staged / CONFIGURATION).stat().st_mode)


def _halved(value: Tensor) -> Tensor:
    """Give weights half of their bytes; single numbers stay, as bounds like 1e-9 would become zero."""
    return value.half() if value.is_floating_point() and value.numel() > 1 else value


def export(
    checkpoint: str | Path,
    directory: str | Path,
    *,
    card: str = "",
    averaged: bool = True,
    trust: Collection[str] = (),
) -> None:
    """Write the codec of a training checkpoint (of `training.CodecModule`) as a codec directory.

    Args:
        checkpoint: The file, of which nothing is executed, as in `load`.
        directory: Of the codec.
        card: Text of its README.md.
        averaged: Take the moving average of the weights where the training kept one, else those of the last step.
        trust: As for `load`.

    Raises:
        ValueError: The file is missing or holds no codec.
    """
    from ulcompress.configuration import one_line

    content = read_checkpoint(checkpoint)
    hyperparameters = content.get("hyper_parameters", {})
    config = hyperparameters.get("codec") if isinstance(hyperparameters, dict) else None
    if config is None:
        raise ValueError(
            f"{str(checkpoint)!r} holds no codec; give a checkpoint of CodecModule trained by `ulcompress fit`"
        )
    # Lightning's weight averaging keeps the last step's weights beside the average.
    state = content["state_dict"] if averaged else content.get("current_model_state", content["state_dict"])
    own = {name.removeprefix("codec."): value for name, value in state.items() if name.startswith("codec.")}
    try:
        codec = build(config, trust=trust, sizes=[value.numel() for value in own.values()])
    except ValueError as error:
        raise ValueError(f"{str(checkpoint)!r} holds a codec that cannot be built: {error}") from error
    try:
        codec.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"the weights in {str(checkpoint)!r} do not fit its codec: {one_line(error)}") from error
    save(codec.eval(), directory, card=card)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint, of which nothing is executed.

    Raises:
        ValueError: The file is missing or no such checkpoint.
    """
    from torch import is_tensor

    if not Path(path).is_file():
        raise ValueError(f"no checkpoint {str(path)!r}; train that stage first or give another path")
    try:
        content = read_torch(path)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no checkpoint that can be read safely: {error}") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) and is_tensor(state[name]) for name in state):
        raise ValueError(f"{str(path)!r} is no Lightning checkpoint: it holds no `state_dict`")
    return content


def locate(name: str | Path) -> Path:
    """Return the directory of a codec named as for `load`; raises ValueError."""
    text = str(name)
    directory = _download(text.removeprefix("hub:")) if text.startswith("hub:") else Path(text)
    if not file_of(directory, CONFIGURATION).is_file() and (BUNDLED / text).is_dir() and text == Path(text).name:
        directory = BUNDLED / text
    missing = [file for file in FILES[:2] if not file_of(directory, file).is_file()]
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
