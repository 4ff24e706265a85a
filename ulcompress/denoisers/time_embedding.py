"""The embedding of the noise level."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST = 10000
"""Levels of the longest wave, over 2 pi."""


class TimeEmbedding(nn.Module):
    """Embeds the noise level by sinusoids and two linear layers; a syntax, if there is one, is added to the sinusoids.

        time ─► cosines, sines ─► + ─► linear ─► SiLU ─► linear ─►
        syntax ─► linear ─────────┘

    Source: Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, appendix B, with the names and the
    results of diffusers' `Timesteps` and `TimestepEmbedding`; the syntax as Meng et al., On Distillation of Guided
    Diffusion Models, CVPR 2023, add the guidance scale.
    """

    def __init__(self, sinusoids: int, channels: int, *, syntax_channels: int | None = None):
        """Build the layers with random weights, of an even number of sinusoids and `channels` of the result."""
        super().__init__()
        self.linear_1 = nn.Linear(sinusoids, channels)
        self.cond_proj = nn.Linear(syntax_channels, sinusoids, bias=False) if syntax_channels is not None else None
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, times: Tensor, syntax: Tensor | None = None) -> Tensor:
        """Map times (B,) and a syntax (B, d), which counts as zeros where it is missing, to (B, channels)."""
        waves = _sinusoids(times, self.linear_1.in_features).to(self.linear_1.weight.dtype)
        if self.cond_proj is not None and syntax is not None:
            waves = waves + self.cond_proj(syntax)
        return self.linear_2(F.silu(self.linear_1(waves)))


def _sinusoids(times: Tensor, count: int) -> Tensor:
    """Return cosines and then sines of geometrically spaced frequencies, the highest first, (B, count) float32."""
    exponents = -math.log(LONGEST) * torch.arange(count // 2, dtype=torch.float32, device=times.device)
    phases = times[:, None].float() * torch.exp(exponents / (count // 2))
    return torch.cat([phases.cos(), phases.sin()], -1)
