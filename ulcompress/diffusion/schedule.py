"""The forward process of the diffusion, what the network predicts, and the deterministic way back."""

import itertools
from collections.abc import Callable

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ulcompress.part import Part

PREDICTIONS = ("v_prediction", "epsilon", "sample")
BETA_SCHEDULES = ("scaled_linear", "squaredcos_cap_v2", "linear")


class NoiseSchedule(Part):
    """x_t = alpha_t x_0 + sigma_t noise over 1000 time steps, on diffusers' DDIM scheduler.

    Sources: Song et al., Denoising Diffusion Implicit Models, ICLR 2021, equation 12 with eta 0; Salimans and Ho,
    Progressive Distillation, ICLR 2022, section 4 (v = alpha noise - sigma x_0); Lin et al., Common Diffusion Noise
    Schedules and Sample Steps are Flawed, WACV 2024 (zero terminal signal, trailing steps).
    """

    def __init__(
        self,
        *,
        prediction: str = "v_prediction",
        beta_schedule: str = "scaled_linear",
        zero_terminal_snr: bool = True,
    ):
        """Set the process.

        Args:
            prediction: What the network predicts: `v_prediction`, `epsilon` or `sample` (x_0).
            beta_schedule: Name of diffusers' schedule, `scaled_linear` (Stable Diffusion) or `squaredcos_cap_v2`.
            zero_terminal_snr: Rescale so that the last time step is pure noise.

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

    def coefficients(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at integer times (B,), each (B, 1, 1, 1)."""
        signal = self.scheduler.alphas_cumprod.to(times.device)[times][:, None, None, None]
        return signal.sqrt(), (1 - signal).sqrt()

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

    @torch.no_grad()
    def sample(self, predict: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
        """Go from noise, (B, C, h, w), to a sample in `steps` deterministic DDIM steps.

        `predict` maps x_t and times (B,) to the network's prediction.
        """
        if not 1 <= steps <= self.length:
            raise ValueError(f"steps must be 1 to {self.length}, got {steps}")
        # Trailing times, in integers: diffusers' own rounding adds a time of -1 for some numbers of steps.
        schedule = [*(self.length * step // steps - 1 for step in range(steps, 0, -1)), None]
        current = noise
        for time, following in itertools.pairwise(schedule):
            times = torch.full((len(noise),), time, device=noise.device)
            clean = self.estimate(predict(current, times), current, times)
            if following is None:
                return clean
            # diffusers' own step takes the following time to be 1000 // steps earlier, which trailing times are not
            # unless `steps` divides 1000.
            alpha, sigma = self.coefficients(times)
            current = self.noisy(clean, (current - alpha * clean) / sigma, torch.full_like(times, following))
        raise AssertionError("there is at least one step")
