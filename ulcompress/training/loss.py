"""The loss of a training stage: its terms, their weights, and when they begin to count."""

from abc import ABC
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ulcompress.functional import distributed
from ulcompress.losses import AdversarialLoss, PerceptualDistance
from ulcompress.part import Part


class StageLoss(Part, ABC):
    """Adds terms on images to those of a model, and weighs all of them by their names."""

    TERMS: ClassVar[frozenset[str] | None] = None
    """The model's terms; None where the model says so later (`check_names`)."""
    DEFAULTS: ClassVar[dict[str, float]]
    """Weights of terms that the user gives none; terms of other names have the weight 1."""

    def __init__(
        self,
        *,
        perceptual: PerceptualDistance | None = None,
        images: int | None = None,
        adversarial: AdversarialLoss | None = None,
        weights: dict[str, float] | None = None,
        delays: dict[str, int] | None = None,
    ):
        """Take the parts.

        Args:
            perceptual: A distance between what is restored and what it should be; added as the term `perceptual`.
            images: Take the terms on images for this many of a batch, which saves time; None for all.
            adversarial: A discriminator between the same images, which is trained beside the model; adds the terms
                `adversarial` and `discriminator` in training.
            weights: Of the terms.
            delays: Optimiser steps before which a term has no weight.

        Raises:
            ValueError: `images` is less than 1, or a name in `weights` or `delays` is no term.
        """
        super().__init__()
        if images is not None and images < 1:
            raise ValueError(f"loss.images must be at least 1, got {images}; null takes all images of a batch")
        self.perceptual = perceptual
        self.images = images
        self.adversarial = adversarial
        self.named = {*(weights or {}), *(delays or {})}
        self.weights = self.DEFAULTS | (weights or {})
        self.delays = delays or {}
        if self.TERMS is not None:
            self.check_names(self.TERMS)

    @property
    def complete_from(self) -> int:
        """The optimiser step from which no term is delayed."""
        return max(self.delays.values(), default=0)

    def weight(self, name: str, step: int) -> float:
        """Return the weight of a term at an optimiser step, counted from 0."""
        return 0.0 if step < self.delays.get(name, 0) else self.weights.get(name, 1.0)

    def total(self, terms: Mapping[str, Tensor], step: int) -> Tensor:
        """Return the weighted sum of the terms at an optimiser step."""
        weights = {name: self.weight(name, step) for name in terms}
        # Terms of no weight are only logged: a zero gradient would cost a whole backward pass. DDP, though, waits for
        # the gradients of all parameters, those that learn from such a term alone too.
        counted = {name for name, weight in weights.items() if weight or distributed.together()}
        return torch.stack([weights[name] * terms[name] for name in terms if name in counted or not counted]).sum()

    def image_terms(self, restored: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Return the terms `perceptual` and, in training, `adversarial` and `discriminator` of two (B, 3, H, W)."""
        terms = {}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(restored, images).mean()
        if self.adversarial is not None and self.training:
            terms |= self.adversarial(restored, images)
        return terms

    def check_names(self, terms: Iterable[str]) -> None:
        """Refuse weights and delays of terms that do not exist.

        Args:
            terms: Names of the terms that the model has, without those on images.

        Raises:
            ValueError: A name is no term, or no term has a weight.
        """
        names = {*terms, *self._image_names()}
        unknown = sorted(name for name in self.named - names if not self.is_optional(name))
        if unknown:
            raise ValueError(
                f"there is no loss term {unknown[0]!r}; the terms are {', '.join(sorted(names))} (a part states its "
                "own in `loss_terms`)"
            )
        if not any(self.weight(name, self.complete_from) for name in names):
            raise ValueError(f"all of the terms {', '.join(sorted(names))} have no weight; give one of them a weight")

    def is_optional(self, name: str) -> bool:
        """Return whether a weight may be given to a term that there is not, such as one that an ablation removes."""
        return name in {*self.DEFAULTS, "discriminator"}

    def _image_names(self) -> list[str]:
        names = [] if self.perceptual is None else ["perceptual"]
        return names if self.adversarial is None else [*names, "adversarial", "discriminator"]
