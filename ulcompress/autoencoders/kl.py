"""The autoencoder of latent diffusion, regularised by a Kullback-Leibler term."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from einops import rearrange
from torch import Tensor

from ulcompress.autoencoders.base import Autoencoder
from ulcompress.foundation.network import architecture_of, built_again
from ulcompress.foundation.stable_diffusion import StableDiffusion, load_or_build
from ulcompress.functional import distributed
from ulcompress.part import loadable

DECAY = 0.99
TILE = 1024
"""Side in pixels above which an image is coded in overlapping tiles, so that memory stays bounded."""


@loadable(sources=["pretrained"], plain=["architecture"])
class KLAutoencoder(Autoencoder):
    """A convolutional autoencoder whose latents are brought to about zero mean and unit variance.

        image ─► space to depth ─► AutoencoderKL.encode ─► mode ─► normalise ─► latent
        image ◄─ depth to space ◄─ AutoencoderKL.decode ◄──────── denormalise ◄─┘

    Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022, section 3.1. The
    optional space-to-depth step moves all convolutions to a coarser grid, which makes a small model fast on a CPU.
    """

    def __init__(
        self,
        *,
        channels: int = 4,
        widths: Sequence[int] = (96, 128),
        layers: int = 1,
        patch_size: int = 4,
        pretrained: StableDiffusion | None = None,
        architecture: dict[str, Any] | None = None,
    ):
        """Build a small autoencoder with random weights, or take a pretrained one, whose sizes replace those below.

        Args:
            channels: Channels of the latent.
            widths: Channels of each level, finest first; every level but the last halves the resolution.
            layers: Residual blocks a level.
            patch_size: Side of the square of pixels that space-to-depth folds into channels.
            pretrained: Take the autoencoder of this model, with its scale of the latent, instead of the sizes above.
            architecture: Build diffusers' AutoencoderKL of this configuration instead; how a saved codec states what
                it once took from `pretrained`, so that it needs that model no more.

        Raises:
            ValueError: The widths cannot be used, `pretrained` and `architecture` are both set, or the pretrained
                weights cannot be found.
        """
        super().__init__()
        foreign = load_or_build(AutoencoderKL, "vae", pretrained, architecture)
        self._is_foreign = foreign is not None
        self.network = _small(channels, widths, layers, patch_size) if foreign is None else foreign
        options: Any = self.network.config
        self.patch_size = 1 if self._is_foreign else patch_size
        self.channels = options.latent_channels
        self.stride = self.patch_size * 2 ** (len(options.block_out_channels) - 1)
        self.network.enable_tiling()
        # A pretrained one would take the size of its training images, and blend tiles where none are needed.
        self.network.tile_sample_min_size = TILE // self.patch_size
        self.network.tile_latent_min_size = TILE // self.stride
        self.latent_mean: Tensor
        self.latent_std: Tensor
        scale = options.scaling_factor if self._is_foreign else 1.0
        self.register_buffer("latent_mean", torch.zeros(self.channels))
        self.register_buffer("latent_std", torch.full((self.channels,), 1 / scale))

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments; a pretrained network by its architecture."""
        return built_again(architecture_of(self.network)) if self._is_foreign else super().arguments()

    def posterior(self, image: Tensor) -> DiagonalGaussianDistribution:
        """Return diffusers' diagonal Gaussian of the latent before normalisation, for training."""
        pixels = rearrange(2 * image - 1, "b c (h p) (w q) -> b (c p q) h w", p=self.patch_size, q=self.patch_size)
        return self.network.encode(pixels.to(self.network.dtype), return_dict=False)[0]

    def encode(self, image: Tensor) -> Tensor:
        """Map RGB in [0, 1], (B, 3, H, W), to the latent, (B, C, H/stride, W/stride)."""
        return self.normalize(self.posterior(image).mode().float())

    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent, (B, C, h, w), to RGB, (B, 3, h*stride, w*stride), not clamped."""
        raw = latent * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        raw = raw.to(self.network.dtype)
        pixels = self.network.decode(raw, return_dict=False)[0].float()  # pyright: ignore[reportArgumentType]
        pixels = rearrange(pixels, "b (c p q) h w -> b c (h p) (w q)", p=self.patch_size, q=self.patch_size)
        return pixels / 2 + 0.5

    def normalize(self, raw: Tensor) -> Tensor:
        """Bring a posterior's value, (B, C, h, w), to zero mean and unit variance a channel."""
        return (raw - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    @torch.no_grad()
    def observe(self, raw: Tensor) -> None:
        """Take a training batch of posterior values, (B, C, h, w), into the running statistics of the latent."""
        moments = torch.stack([raw.float().mean((0, 2, 3)), raw.float().square().mean((0, 2, 3))])
        mean, square = distributed.summed(moments) / distributed.world_size()
        old_square = self.latent_std.square() + self.latent_mean.square()
        new_mean = torch.lerp(mean, self.latent_mean, DECAY)
        new_square = torch.lerp(square, old_square, DECAY)
        self.latent_mean.copy_(new_mean)
        self.latent_std.copy_((new_square - new_mean.square()).clamp_min(1e-8).sqrt())


def _small(channels: int, widths: Sequence[int], layers: int, patch_size: int) -> AutoencoderKL:
    if any(width % 8 for width in widths):
        raise ValueError(f"widths must be multiples of 8 (the group norm's groups), got {list(widths)}")
    # diffusers annotates these tuples as having one element.
    options: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "block_out_channels": tuple(widths),
    }
    return AutoencoderKL(
        in_channels=3 * patch_size**2,
        out_channels=3 * patch_size**2,
        layers_per_block=layers,
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=TILE // patch_size,
        mid_block_add_attention=False,
        **options,
    )
