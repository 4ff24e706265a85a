"""Training of a student that samples in few steps what its teacher, a trained codec, samples in many."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ulcompress.codec import Codec
from ulcompress.decoders import DiffusionDecoder
from ulcompress.diffusion import DDIM
from ulcompress.part import loadable
from ulcompress.training.acceleration import Acceleration
from ulcompress.training.codec_stage import CodecStage
from ulcompress.training.distillation_loss import DistillationLoss
from ulcompress.training.freezing import Freezing
from ulcompress.training.optimizer import ScheduledOptimizer
from ulcompress.training.start import Start
from ulcompress.training.trajectory import Trajectory


@loadable()
class DistillationModule(CodecStage):
    """Distils the denoiser of a trained codec into one of few steps, as many as the decoder's default.

    All else stays as it is, so that teacher and student write the same files and read each other's.
    """

    fixed = ("codec", "loss.perceptual", "loss.adversarial")

    def __init__(
        self,
        *,
        codec: Codec,
        start: Start | None = None,
        trajectory: Trajectory | None = None,
        loss: DistillationLoss | None = None,
        optimizer: ScheduledOptimizer | None = None,
        acceleration: Acceleration | None = None,
        seed: int = 0,
    ):
        """Take the parts; each has its defaults if None.

        Args:
            codec: The student: the teacher's parts, and a decoder whose `steps` are those that it learns.
            start: Its `codec` is the teacher, with whose weights the student starts.
            trajectory: How the teacher samples.
            loss: The terms and their weights.
            optimizer: Of the denoiser.
            acceleration: How the networks are computed.
            seed: Of the noise in training and validation.

        Raises:
            ValueError: The decoder cannot be distilled as it is, or a loss term that is named does not exist.
        """
        student = _student_of(codec)
        frozen = [name for name, _ in codec.named_children()]
        freezing = Freezing(frozen=frozen, trained=["decoder.denoiser"])
        super().__init__(
            codec=codec, start=start, freezing=freezing, optimizer=optimizer, acceleration=acceleration, seed=seed
        )
        self.teacher = deepcopy(student).requires_grad_(False)
        self.trajectory = trajectory if trajectory is not None else Trajectory()
        self.trajectory.levels(student)
        self.loss = loss if loss is not None else DistillationLoss()
        self.train()

    def train(self, mode: bool = True) -> nn.Module:
        """Keep the teacher in evaluation mode too."""
        super().train(mode)
        self.teacher.eval()
        return self

    def check(self) -> None:
        """Raise ValueError where there is no teacher."""
        if self.start.codec is None or self.start.parts is not None or self.start.autoencoder is not None:
            raise ValueError(
                "a student is distilled from the whole of a trained codec; set model.start.codec to its directory, and "
                "leave parts and autoencoder out of model.start"
            )
        super().check()

    def begin(self) -> None:
        """Take the teacher's weights for both."""
        super().begin()
        self.teacher.load_state_dict(self.codec.decoder.state_dict())

    def terms(self, batch: Any) -> dict[str, Tensor]:
        """Return the terms of a step of the student, by name."""
        with torch.no_grad():
            target, condition = self.codec.target_and_condition(batch.images, batch.captions)
        arrival = self.trajectory(self.codec.decoder, self.teacher, target, condition)
        return self.loss(self.codec, arrival)


def _student_of(codec: Codec) -> DiffusionDecoder:
    """Return the decoder of a codec; ValueError where it cannot learn to sample in few steps."""
    decoder = codec.decoder
    if not isinstance(decoder, DiffusionDecoder) or decoder.steps < 1:
        raise ValueError(
            f"distillation needs a DiffusionDecoder of at least one step, got a {type(decoder).__name__}; set "
            "model.codec.decoder and its steps"
        )
    if not isinstance(decoder.sampler, DDIM):
        raise ValueError(
            f"the student's steps are those of DDIM, got {type(decoder.sampler).__name__}; set "
            "model.codec.decoder.sampler to DDIM, the teacher's is model.trajectory.sampler"
        )
    if decoder.guidance != 1:
        raise ValueError(
            f"the student samples without guidance, got a scale of {decoder.guidance}; set "
            "model.codec.decoder.guidance to 1, the teacher's is model.trajectory.guidance"
        )
    return decoder
