"""Any denoiser meets any estimate, whatever is diffused."""

import pytest
import torch

from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import ConsistencyEncoder, GuidedUNet, UNet
from ulcompress.diffusion import (
    BaseEstimate,
    BoundaryControl,
    ContinuousSchedule,
    DiscreteSchedule,
    LinearEstimate,
    Objective,
)
from ulcompress.records import Condition, Sampling

SIZE = 8, 14
ESTIMATES = {
    "nothing": lambda: None,
    "linear": lambda: LinearEstimate(spatial_channels=5, channels=3),
    "base": lambda: BaseEstimate(),
    "base, which is not added": lambda: BaseEstimate(added=False),
}
SCHEDULES = {"discrete": DiscreteSchedule, "continuous": ContinuousSchedule}


def unet(maps):
    return UNet(channels=3, maps=maps, text_channels=8, widths=(32, 32), head_channels=8)


def guided_unet(maps):
    sizes = {"widths": (8, 12), "patch_size": 2}
    branch = ConsistencyEncoder(channels=sum(maps.values()), **sizes)
    return GuidedUNet(channels=3, maps=maps, consistency=branch, **sizes, blocks=1, fusion="static", text_channels=8)


CASES = [
    (denoiser, estimate, diffused, schedule)
    for denoiser in (unet, guided_unet)
    for estimate in ESTIMATES
    for diffused in (("target",) if estimate == "nothing" else ("target", "residual"))
    for schedule in SCHEDULES
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(str(getattr(part, "__name__", part)) for part in case))
def decoder(request, one_thread):
    denoiser, estimate, diffused, schedule = request.param
    torch.manual_seed(0)
    made = DiffusionDecoder(
        denoiser=denoiser({"spatial": 5} if estimate == "nothing" else {"estimate": 3}),
        estimate=ESTIMATES[estimate](),
        objective=Objective(schedule=SCHEDULES[schedule](), diffused=diffused, scheduled_sampling=0.5),
        boundary=BoundaryControl(patch=8, overlap=4),
    )
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def condition_for(decoder, count):
    generator = torch.Generator().manual_seed(0)
    fields = {
        "spatial": torch.randn(count, 5, SIZE[0] // 2, SIZE[1] // 2, generator=generator),
        "base": torch.rand(count, 3, *SIZE, generator=generator),
    }
    text = {"text": torch.randn(count, 4, 8, generator=generator), "text_null": torch.zeros(count, 1, 8)}
    return Condition(**{name: value for name, value in fields.items() if name in decoder.requires}, **text)


def test_it_trains(decoder):
    """On the same draws a few steps lower the loss; all parameters have a gradient."""
    condition, target = condition_for(decoder, 4), torch.randn(4, 3, *SIZE)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)
    losses = []
    for _ in range(4):
        torch.manual_seed(1)
        denoised = decoder.loss(target, condition)
        assert denoised.estimate.shape == target.shape
        losses.append(denoised.losses["diffusion"])
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
        optimizer.step()
    assert losses[-1] < losses[0]


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 3])
def test_it_samples_in_patches(decoder, steps):
    condition = condition_for(decoder, 1)
    sample = decoder.sample(condition, SIZE, Sampling(seed=1, steps=steps, guidance=2.0))
    assert sample.shape == (1, 3, *SIZE) and sample.isfinite().all()
    (field,) = condition.provided - {"text", "text_null"}
    changed = condition[field].clone()
    changed[..., -1] = 1 - changed[..., -1]
    other = decoder.sample(condition.with_(**{field: changed}), SIZE, Sampling(seed=1, steps=steps, guidance=2.0))
    unseen = torch.equal(sample[..., :4], other[..., :4])
    assert unseen == (steps == 1), "a change reaches another patch with the next step, through their overlap"
    assert not torch.allclose(sample[..., -1:], other[..., -1:], atol=1e-4)


@torch.no_grad()
def test_no_steps_are_the_estimate_or_refused(decoder):
    condition = condition_for(decoder, 1)
    if decoder.estimate is None:
        with pytest.raises(ValueError, match=r"steps must be .*1.*, got 0"):
            decoder.sample(condition, SIZE, Sampling(seed=1, steps=0))
    else:
        estimate = decoder.estimate(condition)
        assert torch.equal(decoder.sample(condition, SIZE, Sampling(seed=1, steps=0)), estimate)
