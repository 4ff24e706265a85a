"""The fusion of the denoiser's states with consistency features, controlled by the syntax."""

import torch
from torch import Tensor, nn

STEERED = ("syntax", "gain")
"""Fusions that take the syntax."""
FUSIONS = (*STEERED, "static", "concatenate")


class SyntaxFusion(nn.Module):
    """Fuses a state of the denoiser with consistency features of the same grid and width.

        a ────────────────┬─► w_a · a ──────┐
        e ─► 1x1 ─► w_e · e ───────────────┴─► + ─► m ─► 3x3 ─► γ · + β ─► 1x1 from zero ─► + a ─►
        syntax ─► MLP ─► w_a, w_e = softmax over the pair; γ, β        one of each a channel

    `static` learns these vectors as constants; `gain` too, and multiplies what is added to `a` by one number, the
    exponential of a linear function of the syntax; `concatenate` has no vectors, and its 3x3 takes both maps. Without
    consistency features m is a. Sources: CGDM (Kuang et al., ACM MM 2024) fuses by the syntax at these layers; the
    form, which is not published, follows the generated weights of Neural Syntax (Wang et al., CVPR 2022).
    """

    def __init__(self, channels: int, *, fusion: str, syntax_channels: int, consistency: bool):
        """Build the fusion with random weights; its last layer is zero, so that it starts as the identity on `a`.

        Args:
            channels: Channels of each of the two maps.
            fusion: `syntax`, `gain`, `static` or `concatenate`.
            syntax_channels: Channels of the syntax, for the fusions that take it.
            consistency: Whether there are features to fuse with.
        """
        super().__init__()
        self.concatenates = fusion == "concatenate"
        vectors = 0 if self.concatenates else 4 if consistency else 2
        self.syntax = _controller(syntax_channels, vectors * channels) if fusion == "syntax" else None
        self.static = nn.Parameter(torch.zeros(1, vectors * channels)) if fusion in ("gain", "static") else None
        self.gain = nn.Linear(syntax_channels, 1) if fusion == "gain" else None
        self.aligned = nn.Conv2d(channels, channels, 1) if consistency and not self.concatenates else None
        inputs = 2 * channels if self.concatenates and consistency else channels
        self.mixed = nn.Conv2d(inputs, channels, 3, padding=1)
        self.output = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, a: Tensor, e: Tensor | None, syntax: Tensor | None) -> Tensor:
        """Map the state (B, C, h, w), consistency features (B, C, h, w) and the syntax (B, d) to (B, C, h, w)."""
        if self.concatenates:
            return a + self.output(self.mixed(a if e is None else torch.cat([a, e], 1)))
        *pair, scale, shift = self._vectors(syntax)[:, :, None, None].unflatten(1, (-1, a.shape[1])).unbind(1)
        m = a
        if self.aligned is not None:
            weight_a, weight_e = torch.stack(pair).softmax(0)
            m = torch.addcmul(weight_a * a, weight_e, self.aligned(e))
        return self._added(a, self.output(torch.addcmul(shift, 1 + scale, self.mixed(m))), syntax)

    def _added(self, a: Tensor, change: Tensor, syntax: Tensor | None) -> Tensor:
        if self.gain is None:
            return a + change
        return torch.addcmul(a, self.gain(syntax).exp()[..., None, None], change)

    def _vectors(self, syntax: Tensor | None) -> Tensor:
        if self.syntax is not None:
            return self.syntax(syntax)
        assert self.static is not None
        return self.static


def _controller(channels: int, vectors: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(channels, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, vectors),
    )
