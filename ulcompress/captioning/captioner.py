"""Networks that caption images."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from ulcompress.foundation.hub import PINNED, copy_command, snapshot
from ulcompress.functional.devices import dtype_of, move
from ulcompress.part import Part

if TYPE_CHECKING:
    from PIL import Image

DEFAULT = "Salesforce/blip2-opt-2.7b-coco"


class Captioner(Part, ABC):
    """Describes the content of an image in one sentence."""

    @abstractmethod
    def caption(self, images: "Sequence[Image.Image]") -> list[str]:
        """Return one caption for each RGB image; the same image gets the same caption in every batch."""


class BlipCaptioner(Captioner):
    """BLIP-2, with greedy search.

    Li et al., BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language Models,
    ICML 2023. PerCo takes captions of at most 32 tokens from it (arXiv 2310.10325).
    """

    def __init__(
        self,
        *,
        model: str = DEFAULT,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        max_tokens: int = 32,
    ):
        """Load the weights.

        Args:
            model: Id on the model hub, or a directory.
            revision: Commit, tag or branch on the hub; None takes the one in `hub.PINNED`, else the newest commit.
            dtype: Precision of the weights: float32, float16 or bfloat16.
            device: Torch device.
            max_tokens: Length of the longest caption, in tokens of the model.

        Raises:
            ValueError: The weights are missing, or are not those of a BLIP-2.
        """
        super().__init__()
        precision = dtype_of(dtype)
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}; give at least 1")
        from transformers import Blip2ForConditionalGeneration, Blip2Processor

        self.max_tokens = max_tokens
        revision = revision or PINNED.get(model)
        try:
            directory = Path(model) if Path(model).is_dir() else _download(model, revision)
            self.processor: Any = Blip2Processor.from_pretrained(directory)
            loaded: Any = Blip2ForConditionalGeneration.from_pretrained(
                directory, dtype=precision, use_safetensors=True, output_loading_info=True
            )
            self.network, loading = loaded
            if missing := sorted(loading["missing_keys"]):  # transformers would initialise them at random
                raise ValueError(f"the weights lack {missing[0]} and {len(missing) - 1} more")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split()).partition(". ")[0]
            raise ValueError(
                f"cannot load the captioner {model!r}: {reason}; where there is a network, "
                f"{copy_command(model, revision, default=DEFAULT)} makes a local copy; give its directory"
            ) from error
        self._name_image_token()
        move(self.network, device)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def caption(self, images: "Sequence[Image.Image]") -> list[str]:
        """Return one caption for each RGB image: the first line, with its white space normalised."""
        inputs = self.processor(images=list(images), return_tensors="pt")
        pixels = inputs.pixel_values.to(self.network.device, self.network.dtype)
        tokens = self.network.generate(
            pixel_values=pixels, max_new_tokens=self.max_tokens, do_sample=False, num_beams=1
        )
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.strip().partition("\n")[0].split()) for text in texts]

    def train(self, mode: bool = True) -> "BlipCaptioner":
        """Stay in evaluation mode, whatever the training around it does."""
        return super().train(False)

    def _name_image_token(self) -> None:
        # Files from before transformers 4.46 do not name it, the default model's among them; the processor adds it.
        if self.network.config.image_token_index is None:
            tokenizer = self.processor.tokenizer
            self.network.config.image_token_index = tokenizer.convert_tokens_to_ids(str(self.processor.image_token))
            if len(tokenizer) > self.network.get_input_embeddings().num_embeddings:
                self.network.resize_token_embeddings(len(tokenizer))


def _download(model: str, revision: str | None) -> Path:
    """Return the local directory of a model with all its weights; continue a download that was interrupted."""
    patterns = ("*.json", "*.safetensors", "*.txt")
    directory = snapshot(model, revision=revision, patterns=patterns, files=("config.json",))
    if missing := _missing_weights(directory):
        return snapshot(model, revision=revision, patterns=patterns, files=missing)
    return directory


def _missing_weights(directory: Path) -> list[str]:
    index = directory / "model.safetensors.index.json"
    files = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    return sorted(file for file in files if not (directory / file).is_file())
