"""Codecs built from their configurations and filled with their saved weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulcompress.pretrained.directory import CONFIGURATION, WEIGHTS, file_of, metadata
from ulcompress.pretrained.location import locate
from ulcompress.pretrained.upgrades import FORMAT, upgrade_config, upgrade_keys

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ulcompress.codec import Codec


FACTOR = 16
"""Allocation limit of a build, in multiples of the weights: each part of a learned codec builds the whole of it."""
SPARE_TENSORS, SPARE_ELEMENTS = 1 << 13, 1 << 24
"""Tensors and elements that are allowed in addition, for small codecs."""


def load(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    encoder_only: bool = False,
    trust: Collection[str] = (),
) -> Codec:
    """Load a codec, ready to compress and decompress.

    Nothing in its files is executed: they can name parts of ulcompress alone, and no other files or models.

    Args:
        name: A bundled codec (`mini`), a codec directory, `hub:organisation/name[@revision]`, or an artifact that a run
            has logged to W&B, `wandb:entity/project/name:version`.
        device: Torch device of the weights.
        encoder_only: Leave the decoder out, which is most of a large codec: it is neither imported nor built, and the
            codec can only compress. A codec whose file states no fingerprint is read as a whole, since all weights are
            needed to compute it.
        trust: Packages whose parts, declared `ulcompress.part.loadable`, the codec may name as well. They are imported.

    Raises:
        ValueError: There is no such codec, or its files do not fit together.
    """
    from ulcompress.functional.devices import move
    from ulcompress.pretrained.configuration import read_configuration

    directory = locate(name)
    fingerprint = metadata(directory).get("fingerprint")
    encoder_only = encoder_only and fingerprint is not None  # otherwise it is computed from all weights
    shapes = _shapes(directory, encoder_only=encoder_only)
    path = file_of(directory, CONFIGURATION)
    config = read_configuration(path)
    config = _upgraded(config | {"decoder": None} if encoder_only else config, path)
    try:
        with _no_initialization():
            codec = build(config, trust=trust, sizes=[prod(shape) for shape in shapes.values()])
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error
    _check_shapes(codec, shapes, directory)
    _fill(codec, _read_weights(directory, encoder_only=encoder_only), directory, assign=True)
    move(codec, device)
    return codec.eval() if fingerprint is None else codec.eval().named(fingerprint)


def _upgraded(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a codec's configuration, of any earlier format, in the present format; ValueError for a later one."""
    written = config.get("format", 1)
    if type(written) is not int or not 1 <= written <= FORMAT:
        stated = str(written)[:20] if isinstance(written, int) else f"a {type(written).__name__}"
        raise ValueError(f"{path} states the format {stated}, this version reads 1 to {FORMAT}; update ulcompress")
    try:
        return upgrade_config({name: value for name, value in config.items() if name != "format"})
    except ValueError as error:
        raise ValueError(f"{path}: {error}; get the codec again") from error


@contextmanager
def _no_initialization() -> Iterator[None]:
    """Leave new weights uninitialised, which takes neither time nor memory until they are replaced."""
    from torch.nn import init

    initializers = {name: f for name, f in vars(init).items() if name.endswith("_") and callable(f)}
    try:
        for name in initializers:
            setattr(init, name, lambda tensor, *_, **__: tensor)
        yield
    finally:
        for name, function in initializers.items():
            setattr(init, name, function)


def load_weights(
    codec: Codec, name: str | Path, *, parts: Sequence[str] | None = None, without: Sequence[str] = ()
) -> None:
    """Load the weights of a saved codec into another codec.

    Args:
        codec: The codec whose weights are replaced.
        name: Name of the saved codec, as for `load`.
        parts: Slots whose weights are replaced, `decoder` or `conditioning.text` for instance; None takes all slots.
        without: Parts whose weights stay, `quantizer.entropy` for instance, whatever the saved codec has in place.

    Raises:
        ValueError: There is no such codec, or its weights do not fit the parts.
    """
    directory = locate(name)
    state = _read_weights(directory)
    for part in without:
        kept = _of_parts(codec.state_dict(), [part], "training")
        state = {key: value for key, value in state.items() if not key.startswith(f"{part}.")} | kept
    if parts is not None:
        state = codec.state_dict() | _of_parts(state, parts, directory)
    _fill(codec, state, directory)


def _shapes(directory: Path, *, encoder_only: bool) -> dict[str, list[int]]:
    """Return the shapes of a codec's weights without reading their values."""
    with _opened(directory) as file:
        shapes = {key: file.get_slice(key).get_shape() for key in _names(file, encoder_only=encoder_only)}
    return upgrade_keys(shapes)


def _names(file: Any, *, encoder_only: bool) -> list[str]:
    """Return the names of the weights in an open file, those of the decoder where they are needed."""
    return [key for key in file.keys() if not (encoder_only and key.startswith("decoder."))]  # noqa: SIM118


def _tensors(codec: Codec) -> dict[str, Tensor]:
    """Return parameters and buffers by name, without the hooks of `state_dict`, which may compute with them."""
    parameters = dict(codec.named_parameters(remove_duplicate=False))
    return parameters | dict(codec.named_buffers(remove_duplicate=False))


def _check_shapes(codec: Codec, shapes: dict[str, list[int]], directory: Path) -> None:
    """Raise ValueError where the weights of a directory have other shapes than the codec's, before they are read."""
    tensors = _tensors(codec)
    for name, shape in shapes.items():
        if name not in tensors:
            raise ValueError(f"the weights in {directory} do not fit the codec's parts: {name} is none of theirs")
        # An empty tensor takes any length from its file.
        if tensors[name].numel() and list(tensors[name].shape) != shape:
            raise ValueError(
                f"the weights in {directory} do not fit the codec's parts: {name} has the shape {shape}, "
                f"not {list(tensors[name].shape)}"
            )


def _read_weights(directory: Path, *, encoder_only: bool = False) -> dict[str, Tensor]:
    with _opened(directory) as file:
        # One at a time: all in both precisions would take half as much memory again.
        state = {key: _in_single_precision(file.get_tensor(key)) for key in _names(file, encoder_only=encoder_only)}
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(
                f"{file_of(directory, WEIGHTS)} is damaged: {name} has numbers that are not finite; get the codec again"
            )
    return upgrade_keys(state)


def _in_single_precision(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


@contextmanager
def _opened(directory: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    path = file_of(directory, WEIGHTS)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}; get the codec again") from error


def _fill(codec: Codec, state: dict[str, Tensor], directory: Path, *, assign: bool = False) -> None:
    """Load weights into a codec, and let its parts check them."""
    from ulcompress.part import Part
    from ulcompress.pretrained.configuration import one_line

    kinds = {name: tensor.dtype for name, tensor in _tensors(codec).items()}
    for name, value in state.items():
        kind = kinds.get(name, value.dtype)
        if value.dtype != kind and not (value.is_floating_point() and kind.is_floating_point):
            raise ValueError(
                f"the weights in {directory} do not fit the codec's parts: {name} is {value.dtype}, not {kind}"
            )
    try:
        codec.load_state_dict(state, assign=assign)
        for part in codec.modules():
            if isinstance(part, Part):
                part.check_state()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the weights in {directory} do not fit the codec's parts: {one_line(error)}") from error


def _of_parts(state: dict[str, Tensor], parts: Sequence[str], place: str | Path) -> dict[str, Tensor]:
    chosen = {}
    for part in parts:
        weights = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
        if not weights:
            slots = ", ".join(sorted({name.partition(".")[0] for name in state}))
            raise ValueError(f"the codec in {place} has no weights of a part {part!r}; its parts are {slots}")
        chosen |= weights
    return chosen


def build(config: dict[str, Any], *, trust: Collection[str] = (), sizes: Collection[int] | None = None) -> Codec:
    """Build a codec with random weights, float32, from the plain data of `Codec.arguments()`.

    Args:
        config: The data. Only constructors of parts are executed, and none of them reads a file.
        trust: As for `load`.
        sizes: Elements of each weight that the codec will load; a codec that would be many times larger is refused.

    Raises:
        ValueError: A key or a value is wrong; the message names it with its full path.
    """
    import torch

    from ulcompress.codec import Codec
    from ulcompress.functional.devices import default_dtype
    from ulcompress.pretrained.budget import TensorBudget
    from ulcompress.pretrained.configuration import Checker

    try:
        recipe = Checker(packages=trust).part(config, Codec, "codec")
        with default_dtype(torch.float32):
            if sizes is None:
                return recipe.build()
            tensors, elements = FACTOR * len(sizes) + SPARE_TENSORS, FACTOR * sum(sizes) + SPARE_ELEMENTS
            with TensorBudget(tensors=tensors, elements=elements):
                return recipe.build()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a valid codec configuration: {error}") from error
