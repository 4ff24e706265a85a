"""Quantisation and coding by CompressAI itself, for those of its models that `HyperpriorQuantizer` does not support."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.coding.bitstream import BitstreamError
from ulcompress.entropy.density import TABLES
from ulcompress.entropy.integers import golomb_bits, read_golomb, write_golomb
from ulcompress.functional.division import ceil_div
from ulcompress.functional.straight_through import straight_through
from ulcompress.learned.compressai import CompressAIModel, compressai
from ulcompress.part import loadable
from ulcompress.quantizers.base import Quantizer
from ulcompress.records import Quantized

REACH = 500
"""Integers on each side of a median with an individual probability; others are coded by an escape."""
LARGEST = 2.0**20
"""Features are clamped to this absolute value, which only a broken network needs: CompressAI's integers overflow."""
_BYTE = SymbolTable.uniform(256)
_TOTAL = 1 << 16
"""Sum of the frequencies of a table of CompressAI's."""
_WORD, _SHORTEST = 4, 8
"""Bytes: its strings are whole words, two at least, which is its state at their end."""


@dataclass(frozen=True)
class Strings:
    """The byte strings to which CompressAI's coder compressed features of one size."""

    images: tuple[tuple[bytes, ...], ...]
    """The byte strings of every image, in the order in which the model names them; empty in training."""
    grid: tuple[int, int]
    """Rows and columns of the features."""

    def to(self, device: Any) -> "Strings":
        """Return itself: bytes are on no device."""
        return self


@loadable()
class StringQuantizer(Quantizer):
    """Lets any model of CompressAI's zoo quantise and code the features, and stores its byte strings in the payload.

        features ─► model.compress ─► byte strings ─► our payload ─► byte strings ─► model.decompress ─► features

    Files of factorised models (`bmshj2018-factorized`) hold symbols that every machine reads the same. In all others
    a network in floats decides how a symbol is coded, and in autoregressive ones (`mbt2018`, `cheng2020-*`) a long
    chain of such decisions: such files are only safe on the machine, device and versions that wrote them, and with a
    codec that was loaded from its directory, since weights in training have more digits than saved ones. Use
    `HyperpriorQuantizer` where it can be used. The checksum of a file finds damage. CompressAI's decoder checks nothing
    and reads past the end of a string, so enough zeros are appended for it; forged bytes that pass the checksum decode
    to an arbitrary image.
    """

    divisible = False
    loss_terms = frozenset({"quantiles"})

    def __init__(self, *, model: CompressAIModel | None = None):
        """Take the entropy model of `model`, a small factorised one with random weights by default."""
        super().__init__()
        self.model = model if model is not None else CompressAIModel(name="bmshj2018-factorized")
        self.channels = self.model.channels
        self.coder: Any = self.model.model()
        self.coder.g_a, self.coder.g_s = nn.Identity(), _Kept()
        self.ratio = 4 if hasattr(self.coder, "h_a") else 1
        if hasattr(self.coder, "gaussian_conditional"):
            scales = compressai().models.base.get_scale_table()
            self.coder.gaussian_conditional.update_scale_table(scales, force=True)
        prior = self.coder.entropy_bottleneck
        # Tables of fixed sizes, so that a saved codec, an average of weights and other processes have the same.
        for name, shape in zip(TABLES, [(), (2 * REACH + 5,), ()], strict=True):
            setattr(prior, name, torch.zeros(prior.channels, *shape, dtype=torch.int32))
        self.register_state_dict_pre_hook(StringQuantizer._complete)

    def learns_from_rate(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the model except the medians, which the loss term `quantiles` trains."""
        return (parameter for name, parameter in self.named_parameters() if not name.endswith("quantiles"))

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features, (B, C, h, w); in training with noise, and the term `quantiles` that fits the tables."""
        return self._relaxed(features) if self.training else self._coded(features)

    def dequantize(self, symbols: Strings) -> Tensor:
        """Let the model decode the strings, (B, C, h, w).

        Raises:
            BitstreamError: It cannot.
        """
        # A batch at once would be faster, and for some models not the same to the bit.
        return torch.cat([self._decoded(strings, symbols.grid) for strings in symbols.images])

    def write(self, symbols: Strings, coder: ArithmeticEncoder) -> None:
        """Code the strings of one image, each after its length."""
        (strings,) = symbols.images
        for string in strings:
            write_golomb(len(string) + 1, coder)
            for byte in string:
                _BYTE.encode(byte, coder)

    def read(self, coder: ArithmeticDecoder, grid: tuple[int, int]) -> Strings:
        """Read the strings of one image.

        Raises:
            BitstreamError: A string is longer than the payload, or of a length that CompressAI never writes.
        """
        return Strings((tuple(_read_string(coder) for _ in range(2 if self.ratio > 1 else 1)),), grid)

    def _relaxed(self, features: Tensor) -> Quantized:
        self._make_tables()
        output = self.coder(self._padded(features))
        rows, columns = features.shape[-2:]
        losses = {"quantiles": self.coder.entropy_bottleneck.loss()}
        symbols = Strings((), (rows, columns))
        return Quantized(output["x_hat"][..., :rows, :columns], symbols, _bits(output["likelihoods"]), losses)

    def _coded(self, features: Tensor) -> Quantized:
        """Quantise as a file will hold it; features get the gradient of the bits under noise, as in training."""
        self._complete()
        images = tuple(self._strings(image[None]) for image in features.detach())
        symbols = Strings(images, (features.shape[-2], features.shape[-1]))
        lengths = [sum(8 * len(string) + golomb_bits(len(string) + 1) for string in image) for image in images]
        bits = torch.tensor(lengths, dtype=torch.float32, device=features.device)
        if features.requires_grad:  # an encoder that is trained for a quantiser that stays as it is
            bits = straight_through(self._noisy_bits(features), bits)
        return Quantized(straight_through(features, self.dequantize(symbols)), symbols, bits)

    def _noisy_bits(self, features: Tensor) -> Tensor:
        """Return the bits under noise in place of rounding, (B,): CompressAI has no other gradient."""
        self.coder.train()
        try:
            return _bits(self.coder(self._padded(features))["likelihoods"])
        finally:
            self.coder.eval()

    @torch.no_grad()
    def _strings(self, features: Tensor) -> tuple[bytes, ...]:
        self._check_tables()
        coded = self.coder.compress(self._padded(features).clamp(-LARGEST, LARGEST))
        return tuple(string for (string,) in coded["strings"])

    @torch.no_grad()
    def _decoded(self, strings: tuple[bytes, ...], grid: tuple[int, int]) -> Tensor:
        self._complete()
        self._check_tables()
        shape = [ceil_div(side, self.ratio) for side in grid]
        symbols = self.channels * shape[0] * shape[1] * self.ratio**2
        try:
            self.coder.decompress([[_readable(string, symbols)] for string in strings], shape)
        except (RuntimeError, ValueError, IndexError, OverflowError, TypeError) as error:
            raise BitstreamError(f"the strings of the features cannot be decoded: {error}") from error
        return self.coder.g_s.taken()[..., : grid[0], : grid[1]]

    def _padded(self, features: Tensor) -> Tensor:
        bottom, right = (-side % self.ratio for side in features.shape[-2:])
        return F.pad(features, (0, right, 0, bottom), mode="replicate")

    def _complete(self, *_: Any) -> None:
        """Make the tables where neither training nor a file has brought them; those of a file are never changed."""
        if not self.coder.entropy_bottleneck._cdf_length.any():
            self._make_tables()

    def _check_tables(self) -> None:
        """Raise ValueError for tables that CompressAI would read, or write, past: it looks at none of their numbers."""
        for name in ("entropy_bottleneck", "gaussian_conditional"):
            prior = getattr(self.coder, name, None)
            if prior is not None and not _are_tables(*(getattr(prior, buffer).cpu().long() for buffer in TABLES)):
                raise ValueError(f"the tables of the codec's {name} are damaged; get the codec again")

    @torch.no_grad()
    def _make_tables(self) -> None:
        """Let CompressAI make its tables from the weights, within buffers whose sizes never change."""
        prior = self.coder.entropy_bottleneck
        median = prior.quantiles[:, :, 1:2]
        prior.quantiles.copy_(prior.quantiles.clamp(median - REACH, median + REACH))
        buffers = {name: getattr(prior, name) for name in TABLES}
        prior.update(force=True)
        for name, buffer in buffers.items():
            made = getattr(prior, name)
            buffer.zero_()[tuple(map(slice, made.shape))] = made
            setattr(prior, name, buffer)
        if hasattr(self.coder, "context_prediction"):
            # Its encoder masks these weights and its decoder does not.
            self.coder.context_prediction.weight.mul_(self.coder.context_prediction.mask)


class _Kept(nn.Module):
    """Replaces the synthesis transform and keeps the features, since the model clamps its output."""

    def __init__(self):
        super().__init__()
        self._features: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            return features
        self._features = features
        return features.clone()

    def taken(self) -> Tensor:
        features, self._features = self._features, None
        assert features is not None
        return features


def _bits(likelihoods: Mapping[str, Tensor]) -> Tensor:
    """Return the bits of each image, (B,), from the likelihoods of each latent."""
    return torch.stack([-part.log2().flatten(1).sum(1) for part in likelihoods.values()]).sum(0)


def _read_string(coder: ArithmeticDecoder) -> bytes:
    length = read_golomb(coder) - 1
    if length < _SHORTEST or length % _WORD:
        raise BitstreamError(f"the file is damaged: a string has {length} bytes, not a multiple of 4 from 8 on")
    return bytes(_BYTE.decode(coder) for _ in range(length))


def _are_tables(offsets: Tensor, tables: Tensor, lengths: Tensor) -> bool:
    """Tell whether rows of cumulative frequencies, (n, width), go from 0 to their total within their lengths, (n,)."""
    if not len(offsets) == len(tables) == len(lengths) or offsets.abs().max() > LARGEST:
        return False
    if lengths.min() < 2 or lengths.max() > tables.shape[1]:
        return False
    rising = tables.diff(dim=1) > 0
    rising |= torch.arange(1, tables.shape[1]) >= lengths[:, None]
    ends = tables.gather(1, lengths[:, None] - 1)
    return bool(rising.all() and (tables[:, 0] == 0).all() and (ends == _TOTAL).all())


def _readable(string: bytes, symbols: int) -> bytes:
    """Append all that a decoder can read beyond a string.

    A symbol takes 16 bits, and its escape, read from a state of 64 bits, up to 64 + 4 * 240 more; within the string
    an escape can ask for 15 times as much as it takes.
    """
    return string + bytes(16 * len(string) + 136 * symbols + 64)
