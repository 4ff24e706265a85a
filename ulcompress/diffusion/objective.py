"""The objective of a diffusion: what is diffused, at which noise, and what the network predicts."""

from collections.abc import Callable, Iterable
from typing import final

import torch
from torch import Tensor

from ulcompress.diffusion.discrete_schedule import DiscreteSchedule
from ulcompress.diffusion.estimate import Estimate
from ulcompress.diffusion.local_deviation import LocalDeviation
from ulcompress.diffusion.prediction import PREDICTIONS, Prediction
from ulcompress.diffusion.schedule import Schedule
from ulcompress.diffusion.scheduled_sampling import scheduled_noise
from ulcompress.diffusion.whitening import Whitening
from ulcompress.part import Part, loadable
from ulcompress.records import Denoised

DIFFUSED = ("target", "residual")


@loadable(plain=["diffused", "prediction", "error"])
@final
class Objective(Part):
    """Trains a network to predict from x_t, and turns its predictions into estimates of the clean sample x_0.

        target, estimate ─► what is diffused ─► local deviation ─► whitening ─► x_0
        x_0 ─► x_t at a random level ─► network ─► squared error

    The network's output is added to the prediction that follows from the estimate alone, so that an output of zero at
    pure noise gives the estimate, from which an untrained network whose last layer is zero starts.
    """

    def __init__(
        self,
        *,
        schedule: Schedule | None = None,
        diffused: str = "target",
        whitening: Whitening | None = None,
        deviation: LocalDeviation | None = None,
        prediction: str = "v_prediction",
        error: str | None = None,
        min_snr: float | None = None,
        terminal_share: float = 0.0,
        scheduled_sampling: float = 0.0,
        draws: int = 1,
    ):
        """Set the objective.

        Args:
            schedule: Noise schedule; Stable Diffusion's levels with zero terminal signal by default.
            diffused: `target`: the latent or image itself; `residual`: its difference from the estimate.
            whitening: Map of what is diffused to zero mean and unit variance; None diffuses it as it is.
            deviation: What is diffused is first divided by this deviation at each position, which the estimate tells;
                None divides nothing.
            prediction: What the network predicts: `v_prediction`, `epsilon`, `sample` (x_0) or `velocity`.
            error: The prediction whose squared error is the loss; None takes `prediction`.
            min_snr: Weigh each training sample by its signal-to-noise ratio clipped at this value, 5 for instance; None
                weighs all levels alike. Source: Hang et al., Efficient Diffusion Training via Min-SNR Weighting
                Strategy, ICCV 2023, section 3.4.
            terminal_share: Share of training samples at the level at which sampling starts, where the network learns
                the mean of the target under its condition; this trains the encoder quickly.
            scheduled_sampling: Share of training samples whose x_t contains the decoder's estimate after one step in
                place of the target, as in sampling; without it errors accumulate from step to step.
            draws: Noise levels that training draws for each target. Several make better use of a target that is
                expensive, since its latent and its condition are computed once.

        Raises:
            ValueError: An option has an unknown value, a number is out of its range, or two options contradict.
        """
        super().__init__()
        self.schedule = schedule if schedule is not None else DiscreteSchedule()
        _check_names(diffused, prediction, error)
        for name, share in {"terminal_share": terminal_share, "scheduled_sampling": scheduled_sampling}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share of the training samples, 0 to 1, got {share}")
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        if "epsilon" in (prediction, error) and self.schedule.pure_noise:
            raise ValueError(
                "epsilon does not determine x_0 at pure noise; predict v_prediction, sample or velocity, or set the "
                "schedule's zero_terminal_snr to false"
            )
        if min_snr is not None and min_snr <= 0:
            raise ValueError(f"min_snr must be above 0, got {min_snr}; null weighs all levels alike")
        if min_snr is not None and error is not None:
            raise ValueError("min_snr weighs the error of x_0 whatever is predicted; leave min_snr or error out")
        self.diffused = diffused
        self.whitening = whitening
        self.deviation = deviation
        self.prediction = prediction
        self.error = error
        self.min_snr = min_snr
        self.terminal_share = terminal_share
        self.scheduled_sampling = scheduled_sampling
        self.draws = draws

    def check(self, estimate: Estimate | None, start: float, channels: int) -> None:
        """Raise ValueError where it does not fit the decoder's estimate, or None, its channels, or its start."""
        if self.whitening is not None and self.whitening.channels != channels:
            raise ValueError(
                f"the whitening has {self.whitening.channels} channels, but what is diffused has {channels}; set its "
                "`channels` to that"
            )
        if self.deviation is not None and (self.diffused == "target" or estimate is None):
            raise ValueError(
                "the local deviation is that of the residual to an estimate; set an estimate and diffused to residual, "
                "or deviation to null"
            )
        if self.diffused == "residual" and estimate is None:
            raise ValueError(
                "the residual to an estimate is diffused, but there is none; set an estimate, or diffused to target"
            )
        if self.min_snr is not None and self.terminal_share > 0 and start == 1 and self.schedule.pure_noise:
            raise ValueError(
                "min_snr weighs samples at pure noise by zero; set terminal_share to 0, min_snr to null, or start to "
                "less than 1"
            )

    def to_diffused(self, target: Tensor, estimate: Tensor | None) -> Tensor:
        """Return the x_0 of a target with its estimate, (B, C, h, w)."""
        scaled = self._scaled(target, estimate)
        return scaled if self.whitening is None else self.whitening(scaled)

    def to_target(self, clean: Tensor, estimate: Tensor | None) -> Tensor:
        """Return the target of an x_0 with its estimate, (B, C, h, w)."""
        missing = clean if self.whitening is None else self.whitening.colour(clean)
        if self.deviation is not None and estimate is not None:
            missing = missing * self.deviation(estimate)
        return missing if self.diffused == "target" or estimate is None else missing + estimate

    def known(self, estimate: Tensor | None, like: Tensor) -> Tensor:
        """Return what an estimate of the target, or None, says of x_0, (B, C, h, w): zeros where it says nothing."""
        if estimate is None or self.diffused == "residual":
            return torch.zeros_like(like)
        return self.to_diffused(estimate, estimate)

    @property
    def prepared(self) -> bool:
        """Whether it has learnt from data all that it must before training."""
        return all(part is None or bool(part.prepared) for part in (self.whitening, self.deviation))

    def prepare(self, pairs: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """Learn local deviation and whitening from targets and their estimates, (B, C, h, w) each."""
        if self.deviation is not None:
            pairs = list(pairs)  # the whitening is of what the deviation has divided
            known = [(target, estimate) for target, estimate in pairs if estimate is not None]
            self.deviation.prepare((self._missing(target, estimate), estimate) for target, estimate in known)
        if self.whitening is not None:
            self.whitening.prepare(self._scaled(target, estimate) for target, estimate in pairs)

    def _scaled(self, target: Tensor, estimate: Tensor | None) -> Tensor:
        """Return what the whitening maps."""
        missing = self._missing(target, estimate)
        return missing if self.deviation is None or estimate is None else missing / self.deviation(estimate)

    def _missing(self, target: Tensor, estimate: Tensor | None) -> Tensor:
        return target if self.diffused == "target" or estimate is None else target - estimate

    def clean(self, output: Tensor, noisy: Tensor, levels: Tensor, known: Tensor | None) -> Tensor:
        """Return the x_0 that an output of the network implies, (B, C, h, w).

        Args:
            output: Output of the network, (B, C, h, w).
            noisy: x_t, (B, C, h, w).
            levels: Noise levels, (B,).
            known: Estimate of x_0 to which the output is added, (B, C, h, w); None where the output is the prediction.
        """
        whole = self._added(output, noisy, levels, known)
        return whole if self.prediction == "sample" else self._prediction(levels).estimate(whole, noisy)

    def loss(
        self,
        clean: Tensor,
        network: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        begin: Tensor,
        known: Tensor | None,
        start: float,
        size: tuple[int, int],
    ) -> Denoised:
        """Return the weighted squared error at random noise levels, and the estimate of x_0, (B, C, h, w).

        Args:
            clean: x_0, (B, C, h, w).
            network: Maps x_t, levels (n,), and the indices (n,) of these images in the batch to its output.
            begin: Signal in x_t at the start of sampling, (B, C, h, w).
            known: Estimate of x_0 to which the output is added, (B, C, h, w); None where the output is the prediction.
            start: Share of the process at which sampling starts.
            size: Rows and columns of the error; the positions after them are padding.
        """
        first = self.schedule.highest(start)
        levels = self.schedule.draw(len(clean), clean.device, start)
        terminal = torch.rand(len(clean), device=clean.device) < self.terminal_share
        levels = torch.where(terminal, first, levels)
        # The same numbers whatever memory format the networks before have left.
        noise = torch.randn_like(clean, memory_format=torch.contiguous_format)

        def one_step(rows: Tensor) -> Tensor:
            at = self.schedule.at(first, rows)
            noisy = self.schedule.noisy(begin[rows], noise[rows], at)
            return self.clean(network(noisy, at, rows), noisy, at, None if known is None else known[rows])

        if self.scheduled_sampling > 0:
            noise = scheduled_noise(
                self.schedule,
                clean,
                noise,
                levels,
                begin=begin,
                first=first,
                share=self.scheduled_sampling,
                estimate=one_step,
            )
        noisy = self.schedule.noisy(clean, noise, levels)
        output = network(noisy, levels, torch.arange(len(clean), device=clean.device))
        target = self._prediction(levels).target(clean, noise)
        error = (self._added(output, noisy, levels, known) - target).square()
        error = error[..., : size[0], : size[1]].mean((1, 2, 3)) * self.weights(levels)
        return Denoised({"diffusion": error.mean()}, self.clean(output, noisy, levels, known))

    def weights(self, levels: Tensor) -> Tensor:
        """Return the weight of the squared error of the prediction at noise levels (B,), (B,)."""
        prediction = self._prediction(levels)
        scale = prediction.determinant.square()
        if self.min_snr is not None:
            # min(SNR, min_snr) for the error of x_0, times sigma^2, so that it is finite at both ends.
            signal, noise = prediction.alpha.square(), prediction.sigma.square()
            return (torch.minimum(signal, self.min_snr * noise) / scale).flatten()
        if self.error is None:
            return torch.ones_like(scale).flatten()
        other = Prediction.of(self.error, prediction.alpha, prediction.sigma)
        return (other.determinant.square() / scale).flatten()

    def _added(self, output: Tensor, noisy: Tensor, levels: Tensor, known: Tensor | None) -> Tensor:
        """Return the whole prediction: the output, added to the prediction that follows from the estimate."""
        return output if known is None else output + self._prediction(levels).baseline(known, noisy)

    def _prediction(self, levels: Tensor) -> Prediction:
        return Prediction.of(self.prediction, *self.schedule.coefficients(levels))


def _check_names(diffused: str, prediction: str, error: str | None) -> None:
    if diffused not in DIFFUSED:
        raise ValueError(f"diffused must be one of {', '.join(DIFFUSED)}, got {diffused!r}")
    for name, value in {"prediction": prediction, "error": error}.items():
        if value not in PREDICTIONS and (name, value) != ("error", None):
            raise ValueError(f"{name} must be one of {', '.join(PREDICTIONS)}, got {value!r}")
