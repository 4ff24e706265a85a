"""The adversarial loss of a codec, and the loss of its discriminator."""

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from ulcompress.losses.discriminator import Discriminator
from ulcompress.losses.patch_discriminator import PatchDiscriminator
from ulcompress.part import Part, loadable


@loadable()
@final
class AdversarialLoss(Part):
    """Trains a discriminator together with the codec that it judges, in one backward pass with one optimiser.

        restored ─┬─────────────► discriminator, constant ─► adversarial (trains the codec)
                  └─► detached ─► discriminator ─┐
        images ─────────────────► discriminator ─┴─► discriminator (trains the discriminator)

    Neither term has a gradient in the parameters that the other trains, so their sum may be minimised as one loss.
    Source of the hinge: Lim and Ye, Geometric GAN, 2017, equations 6 and 7.
    """

    def __init__(self, *, discriminator: Discriminator | None = None, ramp_steps: int = 0):
        """Take the discriminator.

        Args:
            discriminator: Network that learns to tell restored images from originals; `PatchDiscriminator` with its
                defaults if None.
            ramp_steps: Training steps over which the term `adversarial` grows from zero to its full size, so that the
                discriminator has learnt something before the codec is trained against it.
        """
        super().__init__()
        self.discriminator = discriminator if discriminator is not None else PatchDiscriminator()
        self.ramp_steps = ramp_steps
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, restored: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Return the terms `adversarial` and `discriminator` of one training step, both images (B, 3, H, W)."""
        constant = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        adversarial = -_mean(functional_call(self.discriminator, constant, (restored,)))
        pairs = [logits.chunk(2) for logits in self.discriminator(torch.cat([restored.detach(), images]))]
        hinges = _mean(F.relu(1 + false) for false, _ in pairs) + _mean(F.relu(1 - true) for _, true in pairs)
        ramp = min(1.0, int(self.steps) / self.ramp_steps) if self.ramp_steps else 1.0
        self.steps += 1
        return {
            "adversarial": ramp * adversarial,
            "discriminator": hinges,
        }


def _mean(maps: Iterable[Tensor]) -> Tensor:
    """Return the mean of the maps' means, so that a map of many positions does not outweigh the others."""
    return torch.stack([each.float().mean() for each in maps]).mean()
