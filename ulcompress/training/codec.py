"""Training of a codec: encoder, quantiser, conditioning and decoder together, over a fixed autoencoder."""

from typing import Any

from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.functional.usage import perplexity, usage
from ulcompress.part import loadable
from ulcompress.training.acceleration import Acceleration
from ulcompress.training.codec_loss import CodecLoss
from ulcompress.training.codec_stage import CodecStage
from ulcompress.training.freezing import Freezing
from ulcompress.training.optimizer import ScheduledOptimizer
from ulcompress.training.preparation import Preparation
from ulcompress.training.start import Start


@loadable()
class CodecModule(CodecStage):
    """Trains a codec, or parts of it, on the terms of its loss, and logs all of them.

    Source: PerCo, arXiv 2310.10325: encoder, codebook and denoiser are trained together, the autoencoder is not.
    """

    fixed = ("codec", "freezing.frozen", "freezing.trained", "loss.perceptual", "loss.adversarial")

    def __init__(
        self,
        *,
        codec: Codec,
        start: Start | None = None,
        freezing: Freezing | None = None,
        loss: CodecLoss | None = None,
        preparation: Preparation | None = None,
        optimizer: ScheduledOptimizer | None = None,
        acceleration: Acceleration | None = None,
        seed: int = 0,
    ):
        """Take the parts; each has its defaults if None.

        Args:
            codec: What is trained, except for what is frozen.
            start: Where a new training takes its weights.
            freezing: Which parts of the codec stay as they are; the autoencoder alone by default.
            loss: The terms and their weights.
            preparation: What is learnt from data before the first optimiser step of a new training; nothing by default.
            optimizer: Of the trained parameters.
            acceleration: How the networks are computed.
            seed: Of the noise in training and validation.

        Raises:
            ValueError: A part or a loss term that is named does not exist, or an entropy model could learn nothing.
        """
        super().__init__(
            codec=codec,
            start=start,
            freezing=freezing,
            preparation=preparation,
            optimizer=optimizer,
            acceleration=acceleration,
            seed=seed,
        )
        self.loss = loss if loss is not None else CodecLoss()
        self.loss.check(codec)
        self.train()

    def terms(self, batch: Any) -> dict[str, Tensor]:
        """Return the terms of the codec's parts, the rates and those on the decoded estimate, by name."""
        output = self.codec(batch.images, batch.captions)
        if self.training:
            self._log_symbols(output.symbols, len(batch.images))
        return self.loss(self.codec, batch.images, output)

    def _log_symbols(self, symbols: Any, images: int) -> None:
        """Log perplexity and usage of each codebook over a batch."""
        alphabets = self.codec.quantizer.alphabets(symbols)
        for number, (indices, size) in enumerate(alphabets, 1):
            stage = f"-{number}" if len(alphabets) > 1 else ""
            self.log(f"train/perplexity{stage}", perplexity(indices), batch_size=images)
            self.log(f"train/usage{stage}", usage(indices, size), batch_size=images)
