"""Codecs built and given the weights that were saved."""

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
        encoder_only: Leave the decoder out, which is most of a large codec: it is neither imported nor built, and the
            codec can compress only. Where its file does not state the fingerprint the whole codec is loaded, whose
            weights are needed to compute it.
        trust: Packages whose parts, declared `ulcompress.part.loadable`, the codec may name as well. They are imported.

    Raises:
        ValueError: There is no such codec, or its files do not fit together; says what would do.
    """
    from ulcompress.functional.devices import move
    from ulcompress.pretrained.configuration import read_configuration

    directory = locate(name)
    fingerprint = metadata(directory).get("fingerprint")
    encoder_only = encoder_only and fingerprint is not None  # without, it takes all weights to know
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
    """Return the configuration of a codec, of whatever format, in the present one; ValueError for a later one."""
    written = config.get("format", 1)
    if type(written) is not int or not 1 <= written <= FORMAT:
        raise ValueError(f"{path} has the format {written!r}, this version reads 1 to {FORMAT}; update ulcompress")
    return upgrade_config({name: value for name, value in config.items() if name != "format"})


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


def _shapes(directory: Path, *, encoder_only: bool) -> dict[str, list[int]]:
    """Return the shapes of a codec's weights, of which nothing else is read."""
    with _opened(directory) as file:
        shapes = {key: file.get_slice(key).get_shape() for key in _names(file, encoder_only=encoder_only)}
    return upgrade_keys(shapes)


def _names(file: Any, *, encoder_only: bool) -> list[str]:
    """Return the names of the weights in an open file, those of the decoder where they are needed."""
    return [key for key in file.keys() if not (encoder_only and key.startswith("decoder."))]  # noqa: SIM118


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
        state = {key: file.get_tensor(key) for key in _names(file, encoder_only=encoder_only)}
    for name, value in state.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise ValueError(
                f"{file_of(directory, WEIGHTS)} is damaged: {name} has numbers that are not finite; get the codec again"
            )
    return upgrade_keys({key: value.float() if value.is_floating_point() else value for key, value in state.items()})


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
    """Give a codec its weights, and let its parts check what they were given."""
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
    from ulcompress.codec import Codec
    from ulcompress.pretrained.budget import TensorBudget
    from ulcompress.pretrained.configuration import Checker

    try:
        recipe = Checker(packages=trust).part(config, Codec, "codec")
        if sizes is None:
            return recipe.build()
        tensors, elements = FACTOR * len(sizes) + SPARE_TENSORS, FACTOR * sum(sizes) + SPARE_ELEMENTS
        with TensorBudget(tensors=tensors, elements=elements):
            return recipe.build()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a valid codec configuration: {error}") from error
