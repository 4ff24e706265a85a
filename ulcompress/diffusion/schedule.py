"""The forward process of the diffusion, and what the network predicts."""

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ulcompress.part import Part, loadable

PREDICTIONS = ("v_prediction", "epsilon", "sample")
BETA_SCHEDULES = ("scaled_linear", "squaredcos_cap_v2", "linear")


@loadable(plain=["prediction", "beta_schedule"])
class NoiseSchedule(Part):
    """x_t = alpha_t x_0 + sigma_t noise over 1000 time steps, by diffusers' scheduler.

    Sources: Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, equation 4; Salimans and Ho, Progressive
    Distillation, ICLR 2022, section 4 (v = alpha noise - sigma x_0); Lin et al., Common Diffusion Noise Schedules and
    Sample Steps are Flawed, WACV 2024 (zero terminal signal).
    """

    def __init__(
        self,
        *,
        prediction: str = "v_prediction",
        beta_schedule: str = "scaled_linear",
        zero_terminal_snr: bool = True,
        training_times: int = 1000,
    ):
        """Set the process.

        Args:
            prediction: What the network predicts: `v_prediction`, `epsilon` or `sample` (x_0).
            beta_schedule: Name of diffusers' schedule, `scaled_linear` (Stable Diffusion) or `squaredcos_cap_v2`.
            zero_terminal_snr: Rescale so that the last time step is pure noise.
            training_times: Number of times that training draws from, a divisor of 1000: evenly spaced, the last one
                included; with 50 of them training sees the very times at which 50 (or 10, 5...) steps sample.

        Raises:
            ValueError: The combination is unknown or cannot work.
        """
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        if beta_schedule not in BETA_SCHEDULES:
            raise ValueError(f"beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, got {beta_schedule!r}")
        if prediction == "epsilon" and zero_terminal_snr:
            raise ValueError("epsilon says nothing of the image at pure noise; set zero_terminal_snr to false")
        self.prediction = prediction
        self.scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule=beta_schedule,
            clip_sample=False,
            set_alpha_to_one=True,
            prediction_type=prediction,
            rescale_betas_zero_snr=zero_terminal_snr,
        )
        self.length = len(self.scheduler.alphas_cumprod)
        if training_times < 1 or self.length % training_times:
            raise ValueError(f"training_times must divide {self.length}, got {training_times}; PerCo has 50")
        self.training_times = training_times

    def coefficients(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at integer times (B,), each (B, 1, 1, 1)."""
        signal = self.scheduler.alphas_cumprod.to(times.device)[times][:, None, None, None]
        return signal.sqrt(), (1 - signal).sqrt()

    def time_at(self, share: float) -> int:
        """Return the last time of the first `share` of the process, more than 0 to 1: 999 for 1, pure noise."""
        if not 0 < share <= 1 or (time := round(share * self.length) - 1) < 0:
            raise ValueError(f"the start must be more than 0 and at most 1, of {self.length} times, got {share}")
        return time

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return what the network shall predict for x_t of clean targets and noise, all (B, C, h, w)."""
        alpha, sigma = self.coefficients(times)
        return {"v_prediction": alpha * noise - sigma * clean, "epsilon": noise, "sample": clean}[self.prediction]

    def noisy(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return x_t, (B, C, h, w)."""
        alpha, sigma = self.coefficients(times)
        return alpha * clean + sigma * noise

    def estimate(self, prediction: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """Return the x_0 that a prediction implies, (B, C, h, w)."""
        alpha, sigma = self.coefficients(times)
        if self.prediction == "v_prediction":
            return alpha * noisy - sigma * prediction
        if self.prediction == "epsilon":
            return (noisy - sigma * prediction) / alpha
        return prediction

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Draw random training times, (count,) int64."""
        spacing = self.length // self.training_times
        return (torch.randint(self.training_times, (count,), device=device) + 1) * spacing - 1

    def min_snr_weight(self, times: Tensor, gamma: float) -> Tensor:
        """Return the weight of the squared error of the prediction at times (B,), (B,).

        It weighs the error of x_0 by min(SNR, gamma), so it is 0 at pure noise. Source: Hang et al., Efficient
        Diffusion Training via Min-SNR Weighting Strategy, ICCV 2023, section 3.4.
        """
        alpha, sigma = (value.flatten() for value in self.coefficients(times))
        signal, noise = alpha.square(), sigma.square()
        clipped = torch.minimum(signal, gamma * noise)  # min(SNR, gamma) times the noise, finite at both ends
        if self.prediction == "v_prediction":
            return clipped  # SNR + 1 is one by the noise
        if self.prediction == "epsilon":
            return clipped / signal
        return clipped / noise
