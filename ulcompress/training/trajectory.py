"""The path of a teacher that a student's single step must lead along."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ulcompress.decoders import DiffusionDecoder
from ulcompress.diffusion import DPMSolver
from ulcompress.diffusion.sampler import Denoise
from ulcompress.diffusion.solver import Solver
from ulcompress.part import Part, loadable
from ulcompress.records import Condition


@dataclass(frozen=True)
class Arrival:
    """Where a step of the student leads, beside where the teacher arrives."""

    error: Tensor
    """Mean squared difference of x_t at the end of the step, a scalar."""
    estimate: Tensor
    """The student's estimate of the target, (B, C, h, w)."""
    reference: Tensor
    """The estimate that would lead where the teacher arrives, (B, C, h, w)."""


@loadable()
@final
class Trajectory(Part):
    """Compares a step of the student with several steps of its teacher between the same two noise levels.

        x_t at level_i ─┬─► student ──────────────────────────► x_t at level_i+1, or x_0 after the last level
                        └─► teacher ─► teacher ─► ... teacher ─► the same, without gradients

    The levels are those at which the student samples; one of them is drawn for a batch. Sources: Salimans and Ho,
    Progressive Distillation, ICLR 2022, section 3 (here all halvings at once); Heek et al., Multistep Consistency
    Models, arXiv 2403.06807 (here each sample is at the start of its segment); Meng et al., On Distillation of Guided
    Diffusion Models, CVPR 2023, section 3.1 (here one guidance scale).
    """

    def __init__(self, *, steps: int = 4, sampler: Solver | None = None, guidance: float = 1.0):
        """Set how the teacher samples.

        Args:
            steps: Steps of the teacher for one of the student.
            sampler: Solver of the teacher; DPM-Solver++ by default.
            guidance: Guidance scale of the text for the teacher, which the student learns to do without; 1 is none.

        Raises:
            ValueError: `steps` is less than 1.
        """
        super().__init__()
        if steps < 1:
            raise ValueError(f"trajectory.steps must be at least 1, got {steps}")
        self.steps = steps
        self.sampler = sampler if sampler is not None else DPMSolver()
        self.guidance = guidance

    def levels(self, student: DiffusionDecoder) -> list[list[float]]:
        """Return the teacher's noise levels in each step of the student, both ends included, but for x_0 at the last.

        Raises:
            ValueError: The schedule has no levels for this number of steps.
        """
        levels = student.objective.schedule.sampling_levels(student.steps * self.steps, student.start)
        return [levels[first : first + self.steps + 1] for first in range(0, len(levels), self.steps)]

    def forward(
        self, student: DiffusionDecoder, teacher: DiffusionDecoder, target: Tensor, condition: Condition
    ) -> Arrival:
        """Compare both from a random one of the student's levels on.

        Args:
            student: The decoder that learns; only its denoiser may differ from the teacher's.
            teacher: The decoder that it learns from.
            target: What is noised, (B, C, h, w).
            condition: Of these targets.
        """
        schedule, size = teacher.objective.schedule, (target.shape[-2], target.shape[-1])
        segments = self.levels(student)
        number = int(torch.randint(len(segments), ()))
        levels, is_last = segments[number], number == len(segments) - 1
        with torch.no_grad():
            condition = teacher.on_grid(condition, size)
            noisy = teacher.noisy_target(target, condition, levels[0])
            end = self._end(teacher, noisy, condition, levels, is_last=is_last)
        begin, following = (schedule.at(levels[place], noisy) for place in (0, -1))
        clean = _denoise(student, condition, 1.0)(noisy, begin)
        arrived = clean if is_last else schedule.step(noisy, clean, begin, following)
        origin = end if is_last else schedule.origin(noisy, end, begin, following)

        def cropped(values: Tensor) -> Tensor:
            return values[..., : size[0], : size[1]]

        return Arrival(
            cropped(arrived - end).square().mean(),
            cropped(teacher.objective.to_target(clean, condition.estimate)),
            cropped(teacher.objective.to_target(origin, condition.estimate)),
        )

    def _end(
        self, teacher: DiffusionDecoder, noisy: Tensor, condition: Condition, levels: list[float], *, is_last: bool
    ) -> Tensor:
        schedule, denoise = teacher.objective.schedule, _denoise(teacher, condition, self.guidance)
        moved = self.sampler.move(schedule, denoise, noisy, levels)
        return denoise(moved, schedule.at(levels[-1], moved)) if is_last else moved


def _denoise(decoder: DiffusionDecoder, condition: Condition, guidance: float) -> Denoise:
    context = decoder.denoiser.context(condition)
    return lambda noisy, levels: decoder.predict(noisy, levels, condition, context, guidance=guidance)
