"""How alike CLIP finds a restored image and its original, or its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ulcompress.evaluation.metrics.base import Pair, PairMetric
from ulcompress.evaluation.metrics.weights import MissingWeights, hashes
from ulcompress.functional.devices import move
from ulcompress.images import to_pil

MODEL = "openai/clip-vit-base-patch16"
"""The model that torchmetrics and most papers take; in --weights DIR a folder of its last name."""


class CLIPSimilarity(PairMetric):
    """A hundred times the cosine of two embeddings, at least 0: the restored image's, and its original's or caption's.

    Hessel et al., CLIPScore, EMNLP 2021, without its factor of 2.5, as torchmetrics has it.
    """

    better = "higher"
    batched = True

    def __init__(self, model: nn.Module, processor: Any, *, to: str, title: str, files: Mapping[str, str]):
        """Take a `CLIPModel` with its processor, and `image` or `caption` to compare with."""
        self.model = model.eval()
        self.processor = processor
        self.to = to
        self.name = f"clip-{to}"
        self.label = f"CLIP score (to {to})"
        self.protocol = (
            f"100 * cosine of the embeddings of {'original' if to == 'image' else 'caption'} and restored image, "
            f"{title}, its own preprocessing, transformers {version('transformers')}"
        )
        self.files = files

    def __call__(self, pair: Pair) -> float:
        """Return 0 to 100; NaN where there is no caption to compare with."""
        return self.batch([pair])[0]

    @torch.no_grad()
    def batch(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the same of each of several pairs."""
        defined = [place for place, pair in enumerate(pairs) if self.to == "image" or pair.caption]
        scores = [float("nan")] * len(pairs)
        if defined:
            for place, cosine in zip(defined, self._cosines([pairs[place] for place in defined]), strict=True):
                scores[place] = 100 * max(0.0, float(cosine))
        return scores

    def _cosines(self, pairs: Sequence[Pair]) -> Tensor:
        if self.to == "image":
            others = self._images([pair.original for pair in pairs])
        else:
            others = self._texts([pair.caption or "" for pair in pairs])
        return torch.cosine_similarity(self._images([pair.restored for pair in pairs]), others)

    def _images(self, images: Sequence[Tensor]) -> Tensor:
        inputs = self.processor.image_processor(images=list(map(to_pil, images)), return_tensors="pt")
        return self._features(self.model.get_image_features, inputs, "pixel_values")

    def _texts(self, captions: Sequence[str]) -> Tensor:
        inputs = self.processor.tokenizer(captions, return_tensors="pt", truncation=True, padding=True)
        return self._features(self.model.get_text_features, inputs, "input_ids", "attention_mask")

    def _features(self, function: Any, inputs: Any, *names: str) -> Tensor:
        device = next(self.model.parameters()).device
        return function(**{name: inputs[name].to(device) for name in names}).pooler_output


def clip(to: str, folder: Path | None, device: str) -> CLIPSimilarity:
    """Return the similarity to `image` or `caption` by `MODEL`; MissingWeights where it cannot be had."""
    from huggingface_hub import snapshot_download
    from transformers import CLIPModel, CLIPProcessor

    local = folder / MODEL.rpartition("/")[2] if folder is not None else None
    try:
        wanted = ["*.json", "*.txt", "model.safetensors"]
        path = local if local is not None and local.is_dir() else Path(snapshot_download(MODEL, allow_patterns=wanted))
        model = CLIPModel.from_pretrained(path, local_files_only=True)
        processor = CLIPProcessor.from_pretrained(path, local_files_only=True)
    except Exception as error:  # of the network, of the cache, of a damaged folder: many kinds, one cure
        reason = str(error).splitlines()[0]
        advice = f"put it into --weights DIR, from the hub's {MODEL}"
        raise MissingWeights(f"the folder {MODEL.rpartition('/')[2]} is wanted; {advice} ({reason})") from error
    move(model, device)
    files = hashes(*path.glob("*.safetensors"))
    return CLIPSimilarity(model, processor, to=to, title=MODEL, files=files)
