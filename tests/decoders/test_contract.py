import inspect

import pytest
import torch

from ulcompress import decoders
from ulcompress.decoders import BaseReconstruction, Decoder, DiffusionDecoder
from ulcompress.diffusion import BoundaryControl, DiscreteSchedule
from ulcompress.records import WELL_KNOWN, Sampling
from ulcompress.testing import check_decoder

DIFFUSION = ["latent_diffusion", "consistency_guided", "residual_flow"]
"""Makers of decoders of several shapes."""


@pytest.fixture(params=DIFFUSION)
def make(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def diffusion(make):
    return make()


@pytest.fixture(params=[*DIFFUSION, "base_reconstruction"])
def decoder(request):
    return request.getfixturevalue(request.param)() if request.param in DIFFUSION else BaseReconstruction()


def tracked(condition):
    """Let a condition's embeddings and maps collect gradients; return them by name."""
    names = condition.provided - {"text_mask", "text_null"}
    return {name: getattr(condition, name).requires_grad_() for name in names}


def check_gradients(given):
    for name, value in given.items():
        assert value.grad is not None and value.grad.isfinite().all(), name
        assert value.grad.abs().max() > 0, name


def test_every_class_is_here():
    exported = (getattr(decoders, name) for name in decoders.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Decoder)}
    assert {c for c in classes if not inspect.isabstract(c)} == {DiffusionDecoder, BaseReconstruction}


def test_it_accepts_fields_that_have_a_name(decoder):
    assert decoder.accepts <= WELL_KNOWN


def test_it_keeps_the_contract(decoder):
    check_decoder(decoder)


def test_the_loss_ignores_text_that_the_mask_leaves_out(diffusion, condition_for):
    condition = condition_for(diffusion, (8, 8))
    changed = condition.with_(text=condition.text + 9 * ~condition.text_mask[..., None])
    target = torch.randn(1, diffusion.channels, 8, 8)
    losses = []
    for each in (condition, changed):
        torch.manual_seed(1)
        losses.append(diffusion.loss(target, each).losses["diffusion"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_sample_depends_on_seed_condition_and_steps_alone(diffusion, condition_for):
    condition = condition_for(diffusion, (8, 8))
    sample = diffusion.sample(condition, (8, 8), Sampling(seed=7))
    torch.manual_seed(99)
    assert torch.equal(diffusion.sample(condition, (8, 8), Sampling(seed=7, steps=2)), sample)
    different = {
        "seed": diffusion.sample(condition, (8, 8), Sampling(seed=8)),
        "steps": diffusion.sample(condition, (8, 8), Sampling(seed=7, steps=3)),
    }
    for name in condition.provided - {"text_mask", "text_null"}:
        other = condition.with_(**{name: getattr(condition, name).flip(1)})
        different[name] = diffusion.sample(other, (8, 8), Sampling(seed=7))
    for name, other in different.items():
        assert not torch.allclose(other, sample, atol=1e-4), name


def test_guidance_leads_from_the_null_text_through_the_text(diffusion, condition_for):
    condition = condition_for(diffusion, (4, 4))
    without = condition.with_(text=condition.text_null, text_mask=None, text_null=None)
    plain, full = (diffusion.sample(each, (4, 4), Sampling(seed=1, steps=1)) for each in (without, condition))
    for scale in (0.0, 1.0, 2.5):
        sample = diffusion.sample(condition, (4, 4), Sampling(seed=1, steps=1, guidance=scale))
        torch.testing.assert_close(sample, plain + scale * (full - plain))
    assert not torch.allclose(plain, full, atol=1e-4)


def test_guidance_one_equals_conditional(make, condition_for):
    decoder = make(guidance=3.0)
    condition = condition_for(decoder, (4, 4))
    conditional = decoder.sample(condition.with_(text_null=None), (4, 4), Sampling(seed=1))
    assert torch.equal(decoder.sample(condition, (4, 4), Sampling(seed=1, guidance=1.0)), conditional)
    assert not torch.allclose(decoder.sample(condition, (4, 4), Sampling(seed=1)), conditional, atol=1e-4)


def test_patches_leave_a_map_that_fits_unaffected(make, condition_for):
    condition = condition_for(make(), (8, 6))
    whole = make().sample(condition, (8, 6), Sampling(seed=1))
    assert torch.equal(
        make(boundary=BoundaryControl(patch=8, overlap=4)).sample(condition, (8, 6), Sampling(seed=1)), whole
    )


@pytest.mark.parametrize("shape", [(10, 6), (6, 20), (12, 14)])
def test_a_map_larger_than_the_patch_works(make, condition_for, shape):
    condition = condition_for(make(), shape)
    sample = make(boundary=BoundaryControl(patch=8, overlap=4)).sample(condition, shape, Sampling(seed=1))
    whole = make().sample(condition, shape, Sampling(seed=1))
    assert sample.shape == whole.shape
    assert sample.isfinite().all()
    # In the corner, far from any seam, a patch sees nearly all that the whole network sees.
    torch.testing.assert_close(sample[..., :2, :2], whole[..., :2, :2], atol=0.5, rtol=0)
    assert not torch.equal(sample, whole)


def test_sampling_begins_at_the_boundary_condition(make, condition_for):
    shape = (8, 20)
    condition = condition_for(make(), shape)

    def sample(file_seed, **arguments):
        boundary = BoundaryControl(patch=12, overlap=4, **arguments)
        return make(boundary=boundary).sample(condition, shape, Sampling(seed=file_seed))

    canvas = sample(1)
    assert torch.equal(sample(2, seed=1), canvas), "the stored seed goes before the file's"
    assert torch.equal(sample(1, noise="zero"), sample(2, noise="zero"))
    for different in (sample(2), sample(1, noise="zero"), sample(1, noise="shared_tile"), sample(1, scale=0.5)):
        assert not torch.allclose(different, canvas, atol=1e-4)


def test_sampling_keeps_the_gradient_of_the_condition(make, condition_for):
    decoder = make(boundary=BoundaryControl(patch=8, overlap=4))
    condition = condition_for(decoder, (4, 10))
    given = tracked(condition)
    decoder.sample(condition, (4, 10), Sampling(seed=1)).square().sum().backward()
    check_gradients(given)


def test_bad_steps_are_refused(diffusion, condition_for):
    bad = {-1: "steps must be .*1.*, got -1"}
    if isinstance(diffusion.objective.schedule, DiscreteSchedule):
        bad[1001] = "steps must be 1 to 1000, got 1001"
    for steps, message in bad.items():
        with pytest.raises(ValueError, match=message):
            diffusion.sample(condition_for(diffusion, (4, 4)), (4, 4), Sampling(seed=0, steps=steps))
