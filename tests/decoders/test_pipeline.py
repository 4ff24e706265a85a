"""With new inputs at zero the decoder is Stable Diffusion's own pipeline."""

import diffusers
import pytest
import torch

from ulcompress.conditioning import ClipTextEncoder
from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import UNet
from ulcompress.diffusion import DDIM, DiffusersSampler, DiscreteSchedule, DPMSolver, Objective
from ulcompress.diffusion.diffusers_sampler import SCHEDULERS
from ulcompress.foundation.stable_diffusion import StableDiffusion
from ulcompress.records import Condition, Sampling

SOLVER = {"timestep_spacing": "trailing", "lower_order_final": True, "final_sigmas_type": "zero"}
SAMPLERS = {
    "DDIM, leading": (DDIM(spacing="leading"), diffusers.DDIMScheduler, {"timestep_spacing": "leading"}),
    "DDIM": (DDIM(), diffusers.DDIMScheduler, {"timestep_spacing": "trailing", "set_alpha_to_one": True}),
    "DPMSolver": (DPMSolver(), diffusers.DPMSolverMultistepScheduler, SOLVER),
    **{name: (DiffusersSampler(scheduler=name), getattr(diffusers, name), SOLVER) for name in SCHEDULERS},
}
SCHEDULE = {
    **{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"},
    **{"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "skip_prk_steps": True},
}
"""The configuration of Stable Diffusion 2.1's scheduler; what it says of the spacing is left out."""


@pytest.fixture(scope="module")
def pipeline(stable_diffusion):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(stable_diffusion, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [4, 20])
def test_latents_are_those_of_the_pipeline(name, steps, pipeline, stable_diffusion, one_thread):
    sampler, scheduler, spacing = SAMPLERS[name]
    model = StableDiffusion(name=stable_diffusion)
    schedule = DiscreteSchedule(zero_terminal_snr=False)
    decoder = DiffusionDecoder(
        denoiser=UNet(maps={"spatial": 3}, pretrained=model, new_inputs="zero"),
        objective=Objective(schedule=schedule),
        sampler=sampler,
    ).eval()
    text, mask = ClipTextEncoder(pretrained=model)(["a cup", ""], [[], []])
    condition = Condition(spatial=torch.randn(1, 3, 8, 12), text=text[:1], text_mask=mask[:1], text_null=text[1:])
    noise = decoder.boundary.noise_of((1, 4, 8, 12), seed=5)
    if name != "DDIM, leading":  # others take the noise of the last level, which has a little signal
        noise = noise * schedule.coefficients(torch.tensor([999]))[1]

    ours = decoder.sample(condition, (8, 12), Sampling(seed=5, steps=steps, guidance=3.0))

    pipeline.scheduler = scheduler.from_config(SCHEDULE | spacing)
    theirs = pipeline(
        *("a cup", 64, 96, steps), guidance_scale=3.0, negative_prompt="", latents=noise, output_type="latent"
    ).images
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
