"""Networks in the layout of diffusers and transformers: their weights, and their architecture as plain data."""

import hashlib
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from safetensors import SafetensorError

from ulcompress.foundation.hub import PINNED, fetched
from ulcompress.functional.devices import dtype_of
from ulcompress.part import Part

Model = TypeVar("Model")


@final
class PretrainedNetwork(Part):
    """One network with its weights: `config.json` and `diffusion_pytorch_model.safetensors`, as diffusers saves it."""

    def __init__(self, *, name: str, revision: str | None = None, dtype: str = "float32"):
        """Choose the network; nothing is loaded yet.

        Args:
            name: Id on the model hub, such as `madebyollin/taesd`, or a directory.
            revision: Commit, tag or branch on the hub; None takes the one in `hub.PINNED`, else the newest commit.
            dtype: Precision of the loaded network: float32, float16 or bfloat16.

        Raises:
            ValueError: The precision is unknown.
        """
        super().__init__()
        self.name = name
        self.revision = revision or PINNED.get(name)
        self.dtype = dtype_of(dtype)

    def network(self, kind: type[Model]) -> Model:
        """Load it as a class of diffusers, frozen and in evaluation mode.

        Its attribute `origin` states the origin of the weights: name, revision, file and SHA-256.

        Raises:
            ValueError: The files are missing or hold no such network; the message names them.
        """
        weights = "diffusion_pytorch_model.safetensors"
        directory = fetched(self.name, revision=self.revision, files=("config.json", weights), default=self.name)
        origin = f"{self.name}@{self.revision or 'newest'} {weights}"
        return read_network(kind, directory, weights, dtype=self.dtype, origin=origin)


def read_network(
    kind: type[Model],
    directory: Path,
    weights: str,
    *,
    dtype: torch.dtype,
    origin: str,
    variant: str | None = None,
) -> Model:
    """Read a network from a local directory, frozen and in evaluation mode.

    Args:
        kind: Class of diffusers or transformers.
        directory: Its folder.
        weights: Name of the file of its weights there.
        dtype: Precision of its parameters.
        origin: Where the file comes from; with its SHA-256 this becomes the attribute `origin`.
        variant: Part of the name of the file, `fp16` for instance.

    Raises:
        ValueError: The directory holds no such network, or not all of it.
    """
    # diffusers and transformers name the precision differently.
    precision = {"dtype" if kind.__module__.startswith("transformers.") else "torch_dtype": dtype}
    options: dict[str, Any] = {"variant": variant, "use_safetensors": True, "output_loading_info": True}
    try:
        with _quiet(kind.__module__.partition(".")[0]):
            network, found = kind.from_pretrained(directory, **options, **precision)  # pyright: ignore
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{directory} does not hold a {kind.__name__}: {reason}") from error
    if lost := sorted({*found["missing_keys"], *map(str, found["mismatched_keys"])}):
        # Both libraries would continue with random weights.
        raise ValueError(
            f"{directory / weights} does not hold all of a {kind.__name__}: {len(lost)} of its tensors are missing "
            f"or of another shape, {lost[0]} for instance; get it again"
        )
    # Older files of text encoders state the positions, which are 0, 1, 2 ... in any case.
    if other := sorted(key for key in found["unexpected_keys"] if not key.endswith("position_ids")):
        raise ValueError(
            f"{directory / weights} holds more than a {kind.__name__}, {other[0]} for instance; give the weights of "
            "that network alone; those of published codecs, such as PerCo (SD), are read by `ulcompress import`"
        )
    with open(directory / weights, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    network.origin = f"{origin} sha256:{digest}"
    return network.eval().requires_grad_(False)


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Silence a library's warnings while it reads files whose contents `read_network` checks itself.

    The configuration of TAESD on the hub, for instance, has an entry that its own class warns of.
    """
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def built_again(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that build a part from an architecture, before its weights are loaded.

    They set `pretrained` to None: if it were left out, a YAML's would be merged with a checkpoint's arguments.
    """
    return {"pretrained": None, "architecture": architecture}


def build(kind: Any, architecture: dict[str, Any]) -> Any:
    """Build a network of an architecture, with random weights; ValueError for an option that it does not take."""
    options = dict(architecture)
    origin = options.pop("origin", None)
    config = getattr(kind, "config_class", None)  # of transformers; diffusers takes the options themselves
    # transformers would accept unknown options, and one of them lets it fetch code.
    if unknown := sorted(options.keys() - inspect.signature(config or kind).parameters.keys()):
        raise ValueError(f"the architecture has {unknown[0]!r}, which a {kind.__name__} does not take; leave it out")
    network = kind(**options) if config is None else kind(config(**options))
    network.origin = origin
    return network


def architecture_of(network: Any) -> dict[str, Any]:
    """Return the configuration of a diffusers network as plain data, with the origin of its weights where known."""
    kind = type(network)
    taken = inspect.signature(getattr(kind, "config_class", None) or kind).parameters  # diffusers may state more
    options = {key: _plain(value) for key, value in network.config.items() if key in taken}
    origin = getattr(network, "origin", None)
    return options | ({"origin": origin} if origin else {})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
