"""The residual block of the networks in pixel space."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class ChannelNorm(nn.Module):
    """Normalises every position over its channels, (B, C, h, w), so that no statistic depends on the patch around it.

    Source: Mentzer et al., High-Fidelity Generative Image Compression, NeurIPS 2020, figure 2.
    """

    def __init__(self, channels: int, *, affine: bool = True):
        super().__init__()
        self.norm = nn.LayerNorm(channels, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map; fast where its memory format is channels last."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Adds two normalised convolutions; the time, if there is one, scales and shifts the input of the first.

                                 time ─► scale, shift
                                              ▼
        x ─┬─► channel norm ─► SiLU(norm · scale + shift) ─► 3x3 ─► channel norm ─► SiLU ─► 3x3 ─► + ─►
           └───────────────────────────────────────────────────────────────────────────────────────┘

    Source of the scale and shift: Dhariwal and Nichol, Diffusion Models Beat GANs, NeurIPS 2021, section 3.1.
    """

    def __init__(self, channels: int, *, time_channels: int | None = None):
        super().__init__()
        self.checkpointed = False
        self.norm = ChannelNorm(channels, affine=time_channels is None)
        self.modulation = nn.Linear(time_channels, 2 * channels) if time_channels is not None else None
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Sequential(
            ChannelNorm(channels), nn.SiLU(inplace=True), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Map (B, C, h, w) and, if the block was built for it, the time's embedding (B, T) to (B, C, h, w)."""
        if self.checkpointed and torch.is_grad_enabled():
            return checkpoint(self._refined, x, time, use_reentrant=False)
        return self._refined(x, time)

    def _refined(self, x: Tensor, time: Tensor | None) -> Tensor:
        hidden = self.norm(x)
        if self.modulation is not None:
            assert time is not None
            scale, shift = self.modulation(F.silu(time))[:, :, None, None].chunk(2, 1)
            hidden = torch.addcmul(shift, hidden, 1 + scale)
        return x + self.second(self.first(F.silu(hidden)))
