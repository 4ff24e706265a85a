"""A caption as what its words add up to."""

import re
from binascii import crc32
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ulcompress.entropy.exact import as_saved, bounded_

DROPOUT = 0.1
"""Share of captions that are left out in training, so that images without one are learnt as well."""
_WORD = re.compile(rb"[0-9a-z\x80-\xff]+")


class WordVectors(nn.Module):
    """Maps a caption to the sum of learnt vectors, one for each different word, in whatever order they come.

    The CRC-32 of a word's bytes says which vector is its own, so that no vocabulary is needed; some words share one.
    At first all vectors are zero.

    Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
    """

    def __init__(self, count: int, channels: int):
        """Allocate `count` vectors."""
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(count, channels))

    def forward(self, captions: Sequence[str]) -> Tensor:
        """Return the sums of B captions, (B, channels), with gradients; in training some are left out."""
        present = self._present(captions).to(self.vectors)
        if self.training:
            present = present * (torch.rand(len(captions), 1) >= DROPOUT).to(present)
        return present @ self.vectors

    @torch.no_grad()
    def exact(self, captions: Sequence[str]) -> Tensor:
        """Return the sums, (B, channels), the same on every machine: float64 on the CPU, on the grid of activations."""
        return bounded_(self._present(captions).double() @ as_saved(self.vectors))

    def _present(self, captions: Sequence[str]) -> Tensor:
        """Tell which vectors belong to the words of each caption, (B, count) of 0 and 1."""
        present = torch.zeros(len(captions), len(self.vectors))
        for row, caption in zip(present, captions, strict=True):
            row[[crc32(word) % len(self.vectors) for word in _words(caption)]] = 1
        return present


def _words(caption: str) -> list[bytes]:
    # Of bytes, since Python's releases disagree on what is a letter, and which is its lower case.
    return _WORD.findall(caption.encode().lower())
