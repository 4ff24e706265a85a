"""Training of a codec: encoder, quantiser, conditioning and decoder together, over a fixed autoencoder."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ulcompress import pretrained
from ulcompress.codec import Codec
from ulcompress.functional.usage import perplexity, usage
from ulcompress.losses import AdversarialLoss, PerceptualDistance
from ulcompress.part import loadable
from ulcompress.records import CodecOutput
from ulcompress.training.base import TrainingModule, load_stage, mean_psnr
from ulcompress.training.coded_image import CodedImage
from ulcompress.training.optimizer import WarmupAdamW

DEFAULT_WEIGHTS = {"diffusion": 1.0, "commitment": 0.0, "squared_error": 0.0, "perceptual": 1.0, "adversarial": 0.1}


# `start` and `autoencoder_checkpoint` are not read where a checkpoint is.
@loadable(plain=["start", "start_parts", "frozen", "trained", "autoencoder_checkpoint", "weights", "delays"])
class CodecModule(TrainingModule):
    """Weighs the codec's loss terms, adds rates and perceptual terms, and logs all of them.

    Source: PerCo, arXiv 2310.10325: encoder, codebook and denoiser are trained together, the autoencoder is not.
    """

    fixed = ("codec", "frozen", "trained", "perceptual", "adversarial")

    def __init__(
        self,
        *,
        codec: Codec,
        start: str | None = None,
        start_parts: list[str] | None = None,
        frozen: list[str] | None = None,
        trained: list[str] | None = None,
        autoencoder_checkpoint: str | None = None,
        perceptual: PerceptualDistance | None = None,
        perceptual_images: int | None = None,
        adversarial: AdversarialLoss | None = None,
        weights: dict[str, float] | None = None,
        delays: dict[str, int] | None = None,
        codebook_batches: int = 0,
        optimizer: WarmupAdamW | None = None,
        seed: int = 0,
    ):
        """Take the parts.

        Args:
            codec: What is trained, except for its autoencoder.
            start: Saved codec, a bundled name or a directory, whose weights a new training starts with; not read when
                a training is continued.
            start_parts: Slots that take their weights from `start`, such as `decoder` or `conditioning.text`, where
                not all parts are the same; None for all.
            frozen: Slots that are not trained, such as `encoder` or `conditioning.base`, beside the autoencoder. They
                work as they do in use: no codebook, table or other statistic of theirs moves.
            trained: Parts within those that are trained all the same, such as `autoencoder.network.decoder`: what turns
                latents into pixels may follow the terms on images, while latents stay what they are; or
                `quantizer.entropies`, which learns the probabilities of symbols that stay what they are.
            autoencoder_checkpoint: Lightning checkpoint of `AutoencoderModule` from which a new training takes the
                autoencoder's weights; not read when a training is continued.
            perceptual: A distance between the image and the decoded estimate of the latent, with its gradient through
                the autoencoder's decoder; added as the term `perceptual`.
            perceptual_images: Take the terms on images for this many of a batch, which saves time; None for all.
            adversarial: A discriminator that is trained beside the codec, on the same images as `perceptual`; adds the
                terms `adversarial` and `discriminator` to the training loss.
            weights: Of the loss terms and of `rate/<stream>` (bpp); a rate without a weight is only logged, and so is
                `squared_error`, of the decoded estimate, where another term on images is taken.
                One of a stream that the codec does not have counts for nothing, so that an ablation can leave it out.
            delays: Optimiser steps before which a term has no weight. A rate that counts from the first step on empties
                its stream before the decoder has learnt to use it.
            codebook_batches: Batches that the encoder and the quantiser alone see before a new training begins, so that
                codebooks start from more than the vectors of the first batch; takes no gradients.
            optimizer: Of the trained parameters; `WarmupAdamW` with its defaults if None.
            seed: Of the noise in training and validation.

        Raises:
            ValueError: A part that is named does not exist, `codebook_batches` is negative, or an entropy model could
                learn nothing. In the first training step: a name in `weights` or `delays` is no term.
        """
        super().__init__(optimizer=optimizer, seed=seed)
        self.codec = codec
        self.frozen = ["autoencoder", *(frozen or [])]
        for name in self.frozen:
            _part(codec, name).requires_grad_(False)
        self.trained = list(trained or [])
        for name in self.trained:
            _part(codec, name).requires_grad_(True)
        self.start = start
        self.start_parts = start_parts
        self.autoencoder_checkpoint = autoencoder_checkpoint
        self.perceptual = perceptual
        self.perceptual_images = perceptual_images
        self.adversarial = adversarial
        self.weights = DEFAULT_WEIGHTS | (weights or {})
        self.delays = delays or {}
        named = {*(weights or {}), *self.delays} - {*DEFAULT_WEIGHTS, "discriminator"}
        self.named = {name for name in named if not name.startswith("rate/")}
        if codebook_batches < 0:
            raise ValueError(f"codebook_batches must be at least 0, got {codebook_batches}")
        self.codebook_batches = codebook_batches
        self.coded_images: list[CodedImage] = []
        self._continued = False
        self._refuse_unweighted_rates()
        self.train()

    def _refuse_unweighted_rates(self) -> None:
        """Raise ValueError where an entropy model is trained that could learn nothing."""
        slots = {"quantizer": ("spatial", self.codec.quantizer)}
        slots |= {f"conditioning.{name}": (name, part) for name, part in self.codec.conditioners.items()}
        for slot, (stream, part) in slots.items():
            learning = any(parameter.requires_grad for parameter in part.learns_from_rate())
            if learning and not self.weights.get(f"rate/{stream}"):
                raise ValueError(
                    f"the entropy model of `{slot}` learns from the rate alone, which has no weight; set "
                    f"`rate/{stream}` in the weights, to 2 for instance, or list what is not to learn under `frozen`"
                )

    @property
    def complete_from(self) -> int:
        """The step from which no term is delayed."""
        return max(self.delays.values(), default=0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember that a training is continued."""
        self._continued = True

    def _begin(self) -> None:
        """Take weights from earlier stages unless a training is continued."""
        if self._continued:
            return
        if self.start:
            pretrained.load_weights(self.codec, self.start, parts=self.start_parts)
        if self.autoencoder_checkpoint:
            load_stage(self.codec.autoencoder, self.autoencoder_checkpoint, "autoencoder.")

    def on_validation_start(self) -> None:
        """Take weights from earlier stages where nothing is trained."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._begin()

    def on_test_start(self) -> None:
        """Take weights from earlier stages."""
        self._begin()

    def on_fit_start(self) -> None:
        """Take weights from earlier stages when a new training starts, and let the conditioners learn their tables.

        Those come from the training captions, where they have not been learnt yet.
        """
        self._begin()
        train_captions = getattr(getattr(self.trainer, "datamodule", None), "train_captions", None)
        if train_captions is not None:
            self.codec.prepare(train_captions())

    @torch.no_grad()
    def on_train_start(self) -> None:
        """Show the quantiser its batches when a new training starts; a projection's mean and scale move too."""
        super().on_train_start()
        count = self.codebook_batches if self.global_step == 0 else 0
        if not count or "quantizer" in self.frozen:
            return
        self._seed_step(2, 0, 0)
        batches = islice(self._all_batches(), count)
        self.codec.quantizer.train()
        console = Console(stderr=True, quiet=self.global_rank > 0)
        for batch in track(batches, "codebooks", total=count, console=console, transient=True):
            images = batch.images.to(self.device)
            self.codec.quantizer(self.codec.encoder(images, self.codec.autoencoder.encode(images).float()))
        self.train()

    def _all_batches(self) -> Iterator[Any]:
        """Go through the training data again and again."""
        while True:
            yield from self.trainer.datamodule.train_dataloader()  # pyright: ignore[reportAttributeAccessIssue]

    def _terms(self, batch: Any, output: CodecOutput) -> dict[str, Tensor]:
        pixels = batch.images[0, 0].numel()
        terms = dict(output.losses)
        for name, bits in output.bits.items():
            terms[f"rate/{name}"] = bits.mean().to(self.device) / pixels
        if self.perceptual is not None or self.adversarial is not None or self.weights.get("squared_error"):
            count = self.perceptual_images
            terms |= self._image_terms(self.codec.autoencoder.decode(output.estimate[:count]), batch.images[:count])
        return terms

    def _image_terms(self, restored: Tensor, images: Tensor) -> dict[str, Tensor]:
        terms = {"squared_error": (restored - images).square().mean()}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(restored, images).mean()
        if self.adversarial is not None and self.training:
            terms |= self.adversarial(restored, images)
        return terms

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch with `images`, (B, 3, H, W) in [0, 1], and `captions`."""
        output = self.codec(batch.images, batch.captions)
        size = len(batch.images)
        self._log_symbols(output.symbols, size)
        terms = self._terms(batch, output)
        self.check_names(terms)
        return self.weighted_sum(terms, self._weights(output), "train", size)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the terms, and the PSNR of images sampled from their condition alone.

        `coded_images` are those of the batch until all callbacks have seen it.
        """
        pairs = zip(batch.images, batch.captions, strict=True)
        self.coded_images = [CodedImage(self.codec, image, caption) for image, caption in pairs]
        with torch.no_grad():
            output = self.codec(batch.images, batch.captions)
            self.weighted_sum(self._terms(batch, output), self._weights(output), "val", len(batch.images))
            if batch_idx == 0:
                highest = self.codec.quantizer.rates
                self._log_psnr(batch, "val/psnr", highest)
                if highest > 1:
                    self._log_psnr(batch, "val/psnr-rate-1", 1)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Free the coded images; Lightning calls this after the callbacks."""
        self.coded_images = []

    on_test_batch_end = on_validation_batch_end

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log under `val/` what a validation logs."""
        self.validation_step(batch, batch_idx)

    def _weights(self, output: CodecOutput) -> dict[str, float]:
        early = {name: 0.0 for name, steps in self.delays.items() if self.global_step < steps}
        return {f"rate/{name}": 0.0 for name in output.bits} | self.weights | early

    def _log_symbols(self, symbols: Any, images: int) -> None:
        """Log perplexity and usage of each codebook over a batch."""
        alphabets = self.codec.quantizer.alphabets(symbols)
        for number, (indices, size) in enumerate(alphabets, 1):
            stage = f"-{number}" if len(alphabets) > 1 else ""
            self.log(f"train/perplexity{stage}", perplexity(indices), batch_size=images)
            self.log(f"train/usage{stage}", usage(indices, size), batch_size=images)

    def _log_psnr(self, batch: Any, name: str, rate: int) -> None:
        images, restored = batch.images[:4].float().cpu(), []
        for image, caption in zip(images, batch.captions, strict=False):
            code = self.codec.encode(image, caption if self.codec.takes_captions else None, rate=rate)
            restored.append(self.codec.decode(code, seed=self.seed))
        psnr = mean_psnr(torch.stack(restored), images)
        self.log(name, psnr.to(self.device), prog_bar=True, sync_dist=True, batch_size=len(images))

    def train(self, mode: bool = True) -> nn.Module:
        """Keep what is frozen in evaluation mode, but for what is trained within."""
        super().train(mode)
        for name in self.frozen:
            _part(self.codec, name).eval()
        for name in self.trained:
            _part(self.codec, name).train(mode)
        return self


def _part(codec: Codec, name: str) -> nn.Module:
    try:
        return codec.get_submodule(name)
    except AttributeError:
        slots = [*dict(codec.named_children()), *(f"conditioning.{key}" for key in codec.conditioning)]
        raise ValueError(f"the codec has no part {name!r}; its parts are {', '.join(slots)}") from None
