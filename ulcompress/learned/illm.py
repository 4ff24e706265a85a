"""MS-ILLM, the base codec of CGDM."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ulcompress.entropy.density import TABLES, EntropyBottleneck
from ulcompress.entropy.exact import Parallel
from ulcompress.learned.catalogue import PUBLISHED
from ulcompress.learned.compressai import Hyperprior, HyperpriorModel
from ulcompress.learned.state import fill, read_state
from ulcompress.part import loadable

NETWORKS = (
    *("encoder", "decoder", "hyper_analysis", "hyper_synthesis_mean", "hyper_synthesis_scale", "hyper_bottleneck"),
    "latent_bottleneck",
)
"""Parts of the published model; the last has no parameters, only tables, which are computed anew."""
_OLDER_NAMES = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}


@loadable(sources=["quality", "weights"], plain=["name", "origin"])
class MSILLM(HyperpriorModel):
    """The codec of Muckley et al., with its published weights, which are not included, or small and untrained.

        image ─► encoder: convolutions, a quarter of the positions after each ─► y ─► hyper-analysis ─► z
        z ─► two hyper-syntheses ─► scales, means                       y ─► generator: residual blocks, deconvolutions

    Source: Muckley et al., Improving Statistical Fidelity for Neural Image Compression with Implicit Local Likelihood
    Models, ICML 2023; the networks are those of Mentzer et al., High-Fidelity Generative Image Compression, NeurIPS
    2020, appendix A. The authors' code is under the MIT licence, their weights under CC-BY-NC 4.0, which also applies
    to a codec that is saved with them. The layers are built here, and none of the authors' code is run. In a
    configuration it is `class_path: ulcompress.learned.illm.MSILLM`.
    """

    stride = 16

    def __init__(
        self,
        *,
        name: str = "msillm",
        quality: int | str | None = None,
        weights: str | None = None,
        widths: Sequence[int] = (60, 120, 240, 480, 960),
        channels: int = 220,
        hyper_channels: int = 320,
        blocks: int = 9,
        origin: str | None = None,
    ):
        """Choose the model; nothing is loaded yet.

        Args:
            name: Published family: `msillm`, or `noganms`, the same before the adversarial stage.
            quality: Quality of the published weights, 1 to 6, trained for 0.035, 0.07, 0.14, 0.3, 0.45 and 0.9 bpp; of
                `msillm` also `vlo1` and `vlo2`, for 0.00218 and 0.00438 bpp. None for random weights.
            weights: File of those weights, fetched by hand; None downloads it.
            widths: Channels of the encoder's five stages; the generator has them in reverse.
            channels: Channels of the latent.
            hyper_channels: Channels of the hyper-latent.
            blocks: Residual blocks of the generator.
            origin: A note on the origin of the weights, saved with a codec.

        Raises:
            ValueError: There is no such family or quality, or not five widths.
        """
        super().__init__()
        known = [each.partition("-")[2] for each in PUBLISHED if each.startswith(f"{name}-")]
        if name not in ("msillm", "noganms"):
            raise ValueError(f"name must be msillm or noganms, got {name!r}")
        if quality is not None and str(quality) not in known:
            raise ValueError(f"{name} has the qualities {', '.join(known)}, got {quality}")
        if quality is None and weights is not None:
            raise ValueError(f"weights {weights!r} need the quality that they belong to")
        if len(widths) != 5:
            raise ValueError(f"widths must be five, for a stride of 16, got {list(widths)}")
        self.published = None if quality is None else PUBLISHED[f"{name}-{quality}"]
        self.weights = weights
        self.widths = list(widths)
        self.channels = channels
        self.hyper_channels = hyper_channels
        self.blocks = blocks
        self.origin = origin or (self.published and f"{self.published.name} ({self.published.licence})")

    def arguments(self) -> dict[str, Any]:
        """Return sizes and origin, from which a saved codec builds the networks before its weights are loaded."""
        return {
            "widths": self.widths,
            "channels": self.channels,
            "hyper_channels": self.hyper_channels,
            "blocks": self.blocks,
            "origin": self.origin,
            "quality": None,  # if it were left out, a YAML's would be merged with a checkpoint's sizes
            "weights": None,
        }

    def analysis(self) -> nn.Module:
        """Return the encoder."""
        return self._filled({"encoder": _encoder(self.widths, self.channels)})["encoder"]

    def synthesis(self) -> nn.Module:
        """Return the generator."""
        return self._filled({"decoder": _Generator(self.widths[::-1], self.channels, self.blocks)})["decoder"]

    def hyperprior(self) -> Hyperprior:
        """Return the hyper-networks; the two syntheses are one network that concatenates their outputs."""
        latent, hyper = self.channels, self.hyper_channels
        prior = EntropyBottleneck(hyper)
        networks = self._filled(
            {
                "hyper_analysis": _hyper_analysis(latent, hyper),
                "hyper_synthesis_scale": _hyper_synthesis(hyper, latent),
                "hyper_synthesis_mean": _hyper_synthesis(hyper, latent),
                "hyper_bottleneck": prior,
            }
        )
        return Hyperprior(
            analysis=networks["hyper_analysis"],
            synthesis=Parallel(networks["hyper_synthesis_scale"], networks["hyper_synthesis_mean"]),
            prior=prior,
            channels=latent,
            hyper_channels=hyper,
            ratio=4,
            means=True,
        )

    def _filled(self, networks: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Load the published weights into networks, which are named as in the published model.

        Raises:
            ValueError: They cannot be fetched, or are not those of such a model.
        """
        if self.published is None:
            return networks
        file = Path(self.weights) if self.weights is not None else self.published.files[0].fetched()
        state = read_state(str(file))
        if other := next((key for key in state if key.partition(".")[0] not in NETWORKS), None):
            raise ValueError(f"{file} does not fit: {other} has no place in an MS-ILLM")
        for name, network in networks.items():
            part = {key: value for key, value in state.items() if key.startswith(f"{name}.")}
            part |= {key: torch.IntTensor() for key in part if key.endswith(TABLES)}
            spelling = _older if f"{name}._matrix0" in part else str
            fill(network, part, name=partial(_joined, name, spelling), source=str(file))
        return networks


def _joined(part: str, spelling: Callable[[str], str], key: str) -> str:
    """Return the published name of a weight in a part of the model."""
    return f"{part}.{spelling(key)}"


class UnbiasedChannelNorm(nn.Module):
    """Normalises each position over its channels, (B, C, h, w): appendix A of Mentzer et al."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with mean `beta` and deviation `gamma` over the channels."""
        variance, mean = torch.var_mean(x, dim=1, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-3) * self.gamma + self.beta


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.sequence = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            UnbiasedChannelNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            UnbiasedChannelNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sequence(x)


class _Generator(nn.Module):
    """The generator; its layers, as all in this file, have the names of the published weights."""

    def __init__(self, widths: Sequence[int], channels: int, blocks: int):
        super().__init__()
        self.block_0 = nn.Sequential(
            UnbiasedChannelNorm(channels), nn.Conv2d(channels, widths[0], 3, padding=1), UnbiasedChannelNorm(widths[0])
        )
        self.resid_blocks = nn.Sequential(*(_Residual(widths[0]) for _ in range(blocks)))
        stages = [
            nn.Sequential(
                nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1), UnbiasedChannelNorm(b), nn.ReLU()
            )
            for a, b in pairwise(widths)
        ]
        self.blocks = nn.Sequential(*stages, nn.Conv2d(widths[-1], 3, 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_0(x)
        return self.blocks(x + self.resid_blocks(x))


def _encoder(widths: Sequence[int], channels: int) -> nn.Module:
    stages = [nn.Sequential(nn.Conv2d(3, widths[0], 7, padding=3), UnbiasedChannelNorm(widths[0]), nn.ReLU())]
    for a, b in pairwise(widths):
        stages.append(nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), UnbiasedChannelNorm(b), nn.ReLU()))
    encoder = nn.Sequential()
    encoder.add_module("blocks", nn.Sequential(*stages, nn.Conv2d(widths[-1], channels, 3, padding=1)))
    return encoder


def _hyper_analysis(latent: int, hyper: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(latent, hyper, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hyper, hyper, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(hyper, hyper, 5, stride=2, padding=2),
    )


def _hyper_synthesis(hyper: int, latent: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(hyper, hyper, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(hyper, hyper, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.Conv2d(hyper, latent, 3, padding=1),
    )


def _older(key: str) -> str:
    """Return the name that CompressAI up to 1.2.6 had for a weight of the prior."""
    for new, old in _OLDER_NAMES.items():
        key = key.replace(new, old)
    return key
