"""Learned codecs with a hyperprior, whose networks become parts of a codec."""

import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ulcompress.entropy.density import TABLES, EntropyBottleneck
from ulcompress.learned.hyperprior_networks import HyperpriorNetworks
from ulcompress.learned.state import read_state, reason_of
from ulcompress.part import Part, loadable

HYPERPRIORS = ("bmshj2018-hyperprior", "mbt2018-mean")
"""Models of CompressAI whose latents are independent given the hyper-latent."""
MODELS = (
    *HYPERPRIORS,
    "bmshj2018-factorized",
    "bmshj2018-factorized-relu",
    "mbt2018",
    "cheng2020-anchor",
    "cheng2020-attn",
)


@dataclass(frozen=True)
class Hyperprior:
    """The networks of the entropy model of a latent y of M channels."""

    analysis: nn.Module
    """Network from y, (B, M, h, w), to the hyper-latent z, (B, N, h / ratio, w / ratio)."""
    synthesis: nn.Module
    """Network from z to the scales of y, (B, M, h, w), or to scales and means, (B, 2 M, h, w)."""
    prior: EntropyBottleneck
    """The density of z."""
    channels: int
    """Channels of y, M."""
    hyper_channels: int
    """Channels of z, N."""
    ratio: int
    """Positions of y per position of z, along each side."""
    means: bool
    """Whether the synthesis predicts means."""


class HyperpriorModel(Part, ABC):
    """A learned codec, from which parts take their networks."""

    stride: int
    """Pixels per position of the latent, along each side."""
    channels: int
    """Channels of the latent."""

    @classmethod
    def path(cls) -> str:
        """Return the import path; the package itself imports none of these modules."""
        return f"{cls.__module__}.{cls.__qualname__}"

    @abstractmethod
    def analysis(self) -> nn.Module:
        """Return the network from RGB in [0, 1], (B, 3, H, W), to the latent, (B, M, H / stride, W / stride)."""

    @abstractmethod
    def synthesis(self) -> nn.Module:
        """Return the network from the quantised latent to RGB, (B, 3, H, W), not clamped."""

    @abstractmethod
    def hyperprior(self) -> Hyperprior:
        """Return the networks of the entropy model; ValueError where it is no hyperprior."""


@loadable(sources=["quality", "weights"], plain=["name", "metric", "origin"])
class CompressAIModel(HyperpriorModel):
    """A model of CompressAI's zoo, with its weights or small and untrained.

    Bégaint et al., CompressAI: a PyTorch library and evaluation platform for end-to-end compression research, 2020.
    A saved codec describes it by its sizes, and no longer needs the zoo. The networks of `HYPERPRIORS` are built here;
    all other models, and the zoo's weights, need the package compressai.
    """

    stride = 16

    def __init__(
        self,
        *,
        name: str = "mbt2018-mean",
        sizes: Sequence[int] | None = None,
        quality: int | None = None,
        metric: str = "mse",
        weights: str | None = None,
        origin: str | None = None,
    ):
        """Choose the model; nothing is loaded yet.

        Args:
            name: Name of the model in the zoo, one of `MODELS`.
            sizes: Channels of the hidden layers and of the latent, (N, M), for a model with random weights; models of
                Cheng et al. have N alone. (64, 96) if `quality` is None as well.
            quality: Quality of the zoo's weights, from 1, which determines their sizes.
            metric: Metric for which those weights were trained, `mse` or `ms-ssim`.
            weights: File of those weights; None downloads them.
            origin: A note on the origin of the weights, saved with a codec.

        Raises:
            ValueError: There is no such model, or arguments contradict each other.
        """
        super().__init__()
        if name not in MODELS:
            raise ValueError(f"name must be one of {', '.join(MODELS)}, got {name!r}")
        if quality is not None and sizes is not None:
            raise ValueError("give sizes (random weights) or a quality (the zoo's weights), not both")
        if quality is None and weights is not None:
            raise ValueError(f"weights {weights!r} need the quality that they belong to")
        count = 1 if name.startswith("cheng") else 2
        if sizes is not None and len(sizes) != count:
            raise ValueError(f"{name} has {count} sizes, got {list(sizes)}")
        self.name = name
        self.metric = metric
        self.weights = weights
        self.quality = quality
        self.sizes = tuple(sizes) if sizes is not None else self._sizes()
        self.channels = self.sizes[-1]
        self.origin = origin or self._origin()

    def arguments(self) -> dict[str, Any]:
        """Return sizes and origin, from which a saved codec builds the networks before its weights are loaded."""
        arguments = {"name": self.name, "sizes": list(self.sizes), "origin": self.origin}
        # Set to None: if they were left out, a YAML's would be merged with a checkpoint's sizes.
        return arguments | {"quality": None, "weights": None}

    def model(self) -> nn.Module:
        """Return the whole model, a CompressAI CompressionModel.

        Raises:
            ValueError: The package is missing, or the weights are, or they are those of another model.
        """
        model = compressai().registry.MODELS[self.name](*self.sizes)
        if self.quality is not None:
            rename = compressai().zoo.pretrained.rename_key
            try:
                model.load_state_dict({rename(key): value for key, value in self._state().items()})
            except (RuntimeError, KeyError) as error:
                raise ValueError(
                    f"{self.weights or self._url()} does not hold a {self.name} of quality {self.quality}: "
                    f"{reason_of(error)}"
                ) from error
        return model

    def analysis(self) -> nn.Module:
        """Return `g_a`."""
        return self._network("g_a")

    def synthesis(self) -> nn.Module:
        """Return `g_s`."""
        return self._network("g_s")

    def hyperprior(self) -> Hyperprior:
        """Return `h_a`, `h_s` and the entropy bottleneck; ValueError for a model that has another entropy model."""
        if self.name not in HYPERPRIORS:
            raise ValueError(
                f"{self.name} has another entropy model; use StringQuantizer, or one of {', '.join(HYPERPRIORS)}"
            )
        networks = self._hyperprior_networks()
        means = self.name == "mbt2018-mean"
        return Hyperprior(
            analysis=networks.h_a if means else nn.Sequential(Absolute(), networks.h_a),
            synthesis=networks.h_s,
            prior=networks.entropy_bottleneck,
            channels=self.channels,
            hyper_channels=self.sizes[0],
            ratio=4,
            means=means,
        )

    def _network(self, name: str) -> nn.Module:
        return getattr(self._hyperprior_networks() if self.name in HYPERPRIORS else self.model(), name)

    def _hyperprior_networks(self) -> HyperpriorNetworks:
        hidden, latent = self.sizes
        networks = HyperpriorNetworks(hidden, latent, means=self.name == "mbt2018-mean")
        if self.quality is not None:
            networks.load_state_dict(_without_coder(self.model().state_dict()))
        return networks

    def _sizes(self) -> tuple[int, ...]:
        if self.quality is None:
            return (64,) if self.name.startswith("cheng") else (64, 96)
        known = compressai().zoo.image.cfgs[self.name]
        if self.quality not in known:
            raise ValueError(f"{self.name} has the qualities {min(known)} to {max(known)}, got {self.quality}")
        return known[self.quality]

    def _origin(self) -> str | None:
        if self.quality is None:
            return None
        return f"CompressAI {self.name} quality {self.quality} ({self.metric})"

    def _url(self) -> str:
        urls = compressai().zoo.image.model_urls.get(self.name, {})
        if self.metric not in urls or self.quality not in urls[self.metric]:
            raise ValueError(
                f"the zoo has no weights of {self.name} for {self.metric!r} at quality {self.quality}; it has "
                f"{', '.join(urls) or 'none of this model'}"
            )
        return urls[self.metric][self.quality]

    def _state(self) -> dict[str, Tensor]:
        if self.weights is not None:
            return read_state(self.weights)
        url = self._url()
        try:
            return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"cannot fetch {url}: {reason_of(error)}; fetch the file elsewhere and give its path as `weights`"
            ) from error


class Absolute(nn.Module):
    """The absolute value, the input of the hyper-analysis of a model without means."""

    def forward(self, x: Tensor) -> Tensor:
        """Return |x|."""
        return x.abs()


def compressai() -> Any:
    """Import CompressAI, which takes seconds, only where it is used; ValueError where it is not installed."""
    try:
        with warnings.catch_warnings():
            # 2026-11: CompressAI 1.2 calls torch.jit.script when it is imported, which torch 2.15 has deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            import compressai.entropy_models
            import compressai.models
            import compressai.registry
            import compressai.zoo.image
            import compressai.zoo.pretrained
    except ModuleNotFoundError as error:
        raise ValueError(
            "this model needs the package compressai, which exists for Python up to 3.12: pip install 'ulcompress[zoo]'"
        ) from error
    return compressai


def _without_coder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a model of CompressAI with empty tables, without the buffers of its normal densities."""
    kept = {key: value for key, value in state.items() if not key.startswith("gaussian_conditional.")}
    return kept | {key: torch.tensor([], dtype=torch.int32) for key in kept if key.endswith(TABLES)}
