import inspect

import pytest
import torch

from ulcompress import decoders
from ulcompress.decoders import Decoder, LatentDiffusionDecoder, UNet
from ulcompress.diffusion import NoiseSchedule
from ulcompress.diffusion.noise import gaussian_canvas
from ulcompress.records import Condition


def latent_diffusion(**arguments):
    torch.manual_seed(0)
    denoiser = UNet(spatial_channels=3, text_channels=8, widths=(32, 32), head_channels=8)
    return LatentDiffusionDecoder(denoiser=denoiser, **{"steps": 2} | arguments).eval()


MAKERS = {LatentDiffusionDecoder: latent_diffusion}


@pytest.fixture(params=MAKERS, ids=lambda cls: cls.__name__)
def make(request, one_thread):
    return MAKERS[request.param]


@pytest.fixture
def decoder(make):
    return make()


def condition_of(rows, columns, count=1, text=True):
    generator = torch.Generator().manual_seed(rows + 100 * columns)
    spatial = torch.randn(count, 3, rows, columns, generator=generator)
    if not text:
        return Condition(spatial=spatial)
    embeddings, null = (torch.randn(count, length, 8, generator=generator) for length in (4, 1))
    return Condition(spatial, embeddings, torch.tensor([[True, True, True, False]] * count), null)


def test_every_class_is_here():
    classes = {c for c in vars(decoders).values() if inspect.isclass(c) and issubclass(c, Decoder)}
    assert {c for c in classes if not inspect.isabstract(c)} == set(MAKERS)


def test_what_it_requires_it_accepts(decoder):
    assert decoder.requires <= decoder.accepts <= set(Condition.__dataclass_fields__)


@pytest.mark.parametrize("text", [True, False])
def test_the_loss_gives_a_finite_gradient_to_the_condition(decoder, text):
    condition = condition_of(2, 3, count=4, text=text)
    given = {name: getattr(condition, name).requires_grad_() for name in condition.provided & {"spatial", "text"}}
    target = torch.randn(4, 4, 4, 6)
    denoised = decoder.loss(target, condition)
    assert denoised.estimate.shape == target.shape
    assert all(term.shape == () and term.isfinite() for term in denoised.losses.values())
    sum(denoised.losses.values()).backward()
    for name, value in given.items():
        assert value.grad is not None and value.grad.isfinite().all(), name
        assert value.grad.abs().max() > 0, name


def test_the_loss_ignores_text_that_the_mask_leaves_out(decoder):
    condition = condition_of(4, 4)
    changed = condition.with_(text=condition.text + 9 * ~condition.text_mask[..., None])
    target = torch.randn(1, 4, 4, 4)
    losses = []
    for each in (condition, changed):
        torch.manual_seed(1)
        losses.append(decoder.loss(target, each).losses["diffusion"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("rows, columns", [(1, 1), (2, 3), (5, 4)])
def test_sample_has_the_shape_that_is_asked_for(decoder, rows, columns):
    sample = decoder.sample(condition_of(rows, columns), (2 * rows, 2 * columns), seed=0)
    assert sample.shape == (1, 4, 2 * rows, 2 * columns)
    assert sample.isfinite().all()
    assert not sample.requires_grad


def test_sample_depends_on_seed_condition_and_steps_alone(decoder):
    condition = condition_of(4, 4)
    sample = decoder.sample(condition, (4, 4), seed=7)
    torch.manual_seed(99)
    assert torch.equal(decoder.sample(condition, (4, 4), seed=7, steps=2), sample)
    other = condition.with_(spatial=condition.spatial + 1)
    for different in (
        decoder.sample(condition, (4, 4), seed=8),
        decoder.sample(condition, (4, 4), seed=7, steps=3),
        decoder.sample(other, (4, 4), seed=7),
        decoder.sample(condition.with_(text=condition.text + 1), (4, 4), seed=7),
    ):
        assert not torch.allclose(different, sample, atol=1e-4)


@torch.no_grad()
def test_one_step_is_the_estimate_at_the_terminal_time(one_thread):
    decoder, condition = latent_diffusion(), condition_of(4, 5)
    noise, times = gaussian_canvas((1, 4, 4, 5), 7), torch.tensor([999])
    prediction = decoder.denoiser(noise, times, condition)
    estimate = decoder.schedule.estimate(prediction, noise, times)
    torch.testing.assert_close(decoder.sample(condition, (4, 5), seed=7, steps=1), estimate)


def test_the_spatial_condition_is_repeated_to_the_grid(one_thread):
    decoder, coarse = latent_diffusion(), condition_of(2, 3)
    fine = coarse.with_(spatial=coarse.spatial.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(decoder.sample(coarse, (4, 6), seed=1), decoder.sample(fine, (4, 6), seed=1))


def test_guidance_leads_from_the_null_text_through_the_text(one_thread):
    decoder, condition = latent_diffusion(), condition_of(4, 4)
    without = condition.with_(text=condition.text_null, text_mask=None, text_null=None)
    plain, full = (decoder.sample(each, (4, 4), seed=1, steps=1) for each in (without, condition))
    for scale in (0.0, 1.0, 2.5):
        sample = decoder.sample(condition, (4, 4), seed=1, steps=1, guidance=scale)
        torch.testing.assert_close(sample, plain + scale * (full - plain))
    assert not torch.allclose(plain, full, atol=1e-4)


def test_guidance_one_equals_conditional(one_thread):
    decoder, condition = latent_diffusion(guidance=3.0), condition_of(4, 4)
    conditional = decoder.sample(condition.with_(text_null=None), (4, 4), seed=1)
    assert torch.equal(decoder.sample(condition, (4, 4), seed=1, guidance=1.0), conditional)
    assert not torch.allclose(decoder.sample(condition, (4, 4), seed=1), conditional, atol=1e-4)


def test_without_text_guidance_changes_nothing(decoder):
    condition = condition_of(4, 4, text=False)
    sample = decoder.sample(condition, (4, 4), seed=1, guidance=1.0)
    assert torch.equal(decoder.sample(condition, (4, 4), seed=1, guidance=5.0), sample)


def test_patches_leave_a_latent_that_fits_unaffected(make):
    condition = condition_of(8, 6)
    whole = make().sample(condition, (8, 6), seed=1)
    assert torch.equal(make(patch=8, overlap=4).sample(condition, (8, 6), seed=1), whole)


@pytest.mark.parametrize("rows, columns", [(9, 5), (5, 20), (12, 13)])
def test_a_latent_larger_than_the_patch_works(make, rows, columns):
    condition = condition_of(rows, columns)
    sample = make(patch=8, overlap=4).sample(condition, (rows, columns), seed=1)
    whole = make().sample(condition, (rows, columns), seed=1)
    assert sample.shape == whole.shape
    assert sample.isfinite().all()
    # In the corner, far from any seam, a patch sees nearly all that the whole network sees.
    torch.testing.assert_close(sample[..., :2, :2], whole[..., :2, :2], atol=0.5, rtol=0)
    assert not torch.equal(sample, whole)


def test_terminal_share_trains_at_pure_noise(one_thread):
    decoder = latent_diffusion(terminal_share=1.0)
    target, condition = torch.randn(2, 4, 4, 4), condition_of(4, 4, count=2)
    torch.manual_seed(3)
    one = decoder.loss(target, condition).estimate
    torch.manual_seed(3)
    other = decoder.loss(-5 * target, condition).estimate
    assert torch.equal(one, other), "the estimate at pure noise cannot depend on the target"


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_the_schedule_can_be_given(one_thread, prediction):
    decoder = latent_diffusion(schedule=NoiseSchedule(prediction=prediction))
    assert decoder.sample(condition_of(2, 2), (2, 2), seed=0).isfinite().all()


def test_bad_steps_and_overlap_are_refused(make):
    condition = condition_of(2, 2)
    with pytest.raises(ValueError, match="steps must be 1 to 1000, got 0"):
        make().sample(condition, (2, 2), seed=0, steps=0)
    with pytest.raises(ValueError, match="less than the patch of 8, got 8"):
        make(patch=8, overlap=8).sample(condition, (2, 2), seed=0)
