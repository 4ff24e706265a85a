"""What makes a training faster or smaller, and leaves its results as they are but for rounding."""

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from ulcompress.autoencoders import Autoencoder
from ulcompress.denoisers import Denoiser
from ulcompress.part import Part, loadable
from ulcompress.training.latent_cache import LatentCache


@loadable(plain=["compile", "latents"])
@final
class Acceleration(Part):
    """Changes how the networks of a training are computed, not what."""

    def __init__(
        self,
        *,
        channels_last: bool = True,
        checkpointing: bool = False,
        compile: str | None = None,
        latents: str | None = None,
    ):
        """Choose.

        Args:
            channels_last: Keep the weights of convolutions, and so the maps, in this memory format, in which the
                networks need fewer copies.
            checkpointing: Compute activations of the denoiser a second time for the gradient, where they would take
                too much memory (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016).
            compile: Compile the denoiser by this backend of `torch.compile`, usually `inductor`.
            latents: Keep the latents of training images in this file, by the content of the images, so that a fixed
                autoencoder encodes each crop once. It pays where crops recur: see `data.crops_per_image`.

        Raises:
            ValueError: There is no such backend.
        """
        super().__init__()
        if compile is not None and compile not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())
            raise ValueError(f"acceleration.compile must be a backend of torch.compile: {known}; got {compile!r}")
        self.channels_last = channels_last
        self.checkpointing = checkpointing
        self.compile_by = compile
        self.latents = latents

    def accelerate(self, module: nn.Module) -> None:
        """Change a module in place; ValueError where it has no part that could be accelerated so."""
        if self.channels_last:
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        denoisers = [each for each in module.modules() if isinstance(each, Denoiser)]
        if (self.checkpointing or self.compile_by) and not denoisers:
            raise ValueError(
                "acceleration.checkpointing and .compile are of a denoiser, and there is none; leave them out"
            )
        for denoiser in denoisers:
            if self.checkpointing:
                denoiser.checkpoint_activations()
            if self.compile_by:
                denoiser.compile(backend=self.compile_by)
        if self.latents is not None:
            _keep_latents([each for each in module.modules() if isinstance(each, Autoencoder)], self.latents)


def _keep_latents(autoencoders: Sequence[Autoencoder], file: str) -> None:
    if not autoencoders or any(p.requires_grad for each in autoencoders for p in each.parameters()):
        raise ValueError("acceleration.latents are of an autoencoder that does not change; freeze it, or leave it out")
    for autoencoder in autoencoders:
        autoencoder.cache = LatentCache(file)
