"""Imitation stage by stage: each layer of a student learns from the teacher's input to the same layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WINDOW = 16
"""Positions along each side of what is taken of a map."""


def stage_difference(student: Sequence[nn.Module], teacher: Sequence[nn.Module], x: Tensor, positions: int) -> Tensor:
    """Return how far the stages of a student are from the teacher's: the mean of their relative differences.

    The difference of a stage is the root of the squared one over the variance of what the teacher's stage gives. All
    stages of both take what the teacher's stage before gives, so that each learns from the first step, whatever the
    student's others do ("Hints" of FitNets, Romero et al. 2015, at every layer).

    Args:
        student: Stages in their order; those without parameters are not compared.
        teacher: The stages that they imitate.
        x: Input of the first stage, (B, C, h, w).
        positions: About how many positions of each stage's input are taken: windows of `WINDOW` at a random place. Fine
            maps have many positions, of which neighbours teach the same.
    """
    differences = []
    for learner, model in zip(student, teacher, strict=True):
        x = _windows(x, positions)
        with torch.no_grad():
            target = model(x)
        if any(True for _ in learner.parameters()):
            differences.append(((learner(x) - target).square().mean() / (target.var() + 1e-6)).sqrt())
        x = target
    return torch.stack(differences).mean()


def _windows(x: Tensor, positions: int) -> Tensor:
    images = max(1, positions // WINDOW**2)
    top, left = (int(torch.randint(max(1, side - WINDOW + 1), ())) for side in x.shape[-2:])
    return x[torch.randperm(len(x), device=x.device)[:images], :, top : top + WINDOW, left : left + WINDOW]
