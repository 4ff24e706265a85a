"""Exact evaluation of the networks that decide symbols: every machine gets the same numbers.

Weights and activations are rounded to multiples of powers of two and held in float64. A sum of their products is then
exact in whatever order it is taken, so threads, devices and libraries cannot change it. Idea: Ballé, Johnston and
Minnen, Integer Networks for Data Compression with Latent-Variable Models, ICLR 2019.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT_BITS = 14
"""Binary digits of a weight behind the point."""
ACTIVATION_BITS = 10
"""Binary digits of an activation behind the point."""
LARGEST = 2.0**14
"""Activations are clamped to this absolute value."""


class Parallel(nn.Module):
    """Several networks with the same input, whose outputs are concatenated along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the outputs of all branches, concatenated."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def on_grid(x: Tensor, bits: int = ACTIVATION_BITS) -> Tensor:
    """Round to multiples of 2**-bits, float64."""
    return (x.double() * 2.0**bits).round() / 2.0**bits


def bounded(x: Tensor) -> Tensor:
    """Clamp activations to the largest and round them to the grid, float64 on the CPU."""
    return bounded_(x.cpu().to(torch.float64, copy=True))


def bounded_(x: Tensor) -> Tensor:
    """Clamp float64 activations to the largest and round them to the grid, in place."""
    return x.clamp_(-LARGEST, LARGEST).mul_(2.0**ACTIVATION_BITS).round_().mul_(2.0**-ACTIVATION_BITS)


def on_saved_grid(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias as they are calculated with, float64 on the CPU; ValueError if sums were inexact."""
    weight = as_saved(layer.weight, WEIGHT_BITS)
    bias = None if layer.bias is None else as_saved(layer.bias, WEIGHT_BITS + ACTIVATION_BITS)
    check_range(layer, weight, bias)
    return weight, bias


def as_saved(parameter: Tensor, bits: int = ACTIVATION_BITS) -> Tensor:
    """Round a weight to the value that it has in a saved codec, in half precision, and to the grid; on the CPU.

    A codec in memory then decides symbols as the one that is loaded from its directory, and reads its files.
    """
    return on_grid(parameter.detach().cpu().half(), bits)


@torch.no_grad()
def exact(network: nn.Module, x: Tensor) -> Tensor:
    """Evaluate a network of convolutions and rectifiers on (B, C, h, w) in exact arithmetic, float64 on the CPU.

    Raises:
        ValueError: A layer is of another kind, or its weights are too large for exact sums.
    """
    return _evaluate(network, bounded(x))


def _evaluate(network: nn.Module, x: Tensor) -> Tensor:
    if isinstance(network, Parallel):
        return torch.cat([_evaluate(branch, x) for branch in network.branches], 1)
    if isinstance(network, nn.Sequential):
        for layer in network:
            x = _evaluate(layer, x)
        return x
    return bounded(_apply(network, x))


def _apply(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        weight, bias = on_saved_grid(layer)
        if isinstance(layer, nn.ConvTranspose2d):
            options = layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
            return F.conv_transpose2d(x, weight, bias, *options)  # pyright: ignore[reportArgumentType]
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    # One multiplication of two floats is rounded the same way everywhere.
    if isinstance(layer, (nn.ReLU, nn.LeakyReLU)):
        return torch.where(x < 0, x * getattr(layer, "negative_slope", 0.0), x)
    if isinstance(layer, (nn.PixelShuffle, nn.Identity)):
        return layer(x)
    raise ValueError(
        f"{type(layer).__name__} cannot be evaluated exactly; such a network may have Conv2d, ConvTranspose2d, "
        "PixelShuffle, ReLU and LeakyReLU"
    )


def check_range(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Make sure that the largest possible sum has an exact float64; ValueError where it has not."""
    outputs = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
    largest = float(outputs.abs().flatten(1).sum(1).max()) * LARGEST
    if bias is not None:
        largest += float(bias.abs().max())
    if not largest * 2.0 ** (WEIGHT_BITS + ACTIVATION_BITS) < 2.0**53:
        raise ValueError(f"the weights of a {type(layer).__name__} are too large for exact sums ({largest:.3g})")
