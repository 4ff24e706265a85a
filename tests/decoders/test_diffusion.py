import pytest
import torch

from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import UNet
from ulcompress.diffusion import BoundaryControl, DiscreteSchedule, LinearEstimate, Objective
from ulcompress.diffusion.noise import gaussian_canvas
from ulcompress.records import Condition, Sampling


@torch.no_grad()
def test_one_step_is_the_estimate_at_the_terminal_time(latent_diffusion, condition_for):
    decoder = latent_diffusion()
    condition = condition_for(decoder, (4, 6)).with_(spatial=torch.randn(1, 3, 4, 6))
    noise, times = gaussian_canvas((1, 4, 4, 6), 7), torch.tensor([999])
    prediction = decoder.denoiser(noise, times, condition)
    estimate = decoder.objective.clean(prediction, noise, times, torch.zeros_like(noise))
    torch.testing.assert_close(decoder.sample(condition, (4, 6), Sampling(seed=7, steps=1)), estimate)


def test_the_spatial_condition_is_repeated_to_the_grid(latent_diffusion, condition_for):
    decoder = latent_diffusion()
    coarse = condition_for(decoder, (4, 6))
    fine = coarse.with_(spatial=coarse.spatial.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(decoder.sample(coarse, (4, 6), Sampling(seed=1)), decoder.sample(fine, (4, 6), Sampling(seed=1)))


def test_terminal_share_trains_at_pure_noise(latent_diffusion, condition_for):
    decoder = latent_diffusion(terminal_share=1.0)
    target, condition = torch.randn(2, 4, 4, 4), condition_for(decoder, (4, 4), count=2)
    torch.manual_seed(3)
    one = decoder.loss(target, condition).estimate
    torch.manual_seed(3)
    other = decoder.loss(-5 * target, condition).estimate
    assert torch.equal(one, other), "the estimate at pure noise cannot depend on the target"


@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "velocity"])
def test_the_prediction_can_be_given(latent_diffusion, condition_for, prediction):
    decoder = latent_diffusion(prediction=prediction)
    assert decoder.sample(condition_for(decoder, (2, 2)), (2, 2), Sampling(seed=0)).isfinite().all()


def test_it_accepts_a_syntax_where_its_network_takes_one(latent_diffusion):
    text = {"text", "text_mask", "text_null"}
    assert latent_diffusion().accepts == {"spatial", "syntax"} | text
    without = UNet(maps={"spatial": 3}, text_channels=8, widths=(32, 32), head_channels=8)
    assert DiffusionDecoder(denoiser=without).accepts == {"spatial"} | text


def test_a_missing_syntax_is_a_vector_of_zeros(latent_diffusion, condition_for):
    decoder = latent_diffusion()
    condition = condition_for(decoder, (4, 4))
    zero, none = (condition.with_(syntax=syntax) for syntax in (torch.zeros(1, 5), None))
    assert torch.equal(decoder.sample(none, (4, 4), Sampling(seed=1)), decoder.sample(zero, (4, 4), Sampling(seed=1)))


def test_no_steps_are_refused(latent_diffusion, condition_for):
    decoder = latent_diffusion()
    with pytest.raises(ValueError, match="steps must be 1 to 1000, got 0"):
        decoder.sample(condition_for(decoder, (2, 2)), (2, 2), Sampling(seed=0, steps=0))


def test_in_training_later_steps_see_what_the_first_one_made(latent_diffusion, condition_for):
    """The x_t of the second step, as training draws it, is that of a real sampling with the same noise."""
    decoder = latent_diffusion(scheduled_sampling=1.0, schedule=DiscreteSchedule(training_levels=2))
    condition = condition_for(decoder, (8, 8), count=6)
    seen = []
    decoder.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], inputs[1])))
    torch.manual_seed(3)
    decoder.loss(torch.randn(6, 4, 8, 8), condition)
    (first, _), (noisy, times) = seen
    later = (times < 999).nonzero()[:, 0]
    assert 0 < len(later) < 6 and len(first) == len(later)
    for row, noise in zip(later, first, strict=True):
        decoder.boundary.noise_of = lambda *_, noise=noise: noise[None]
        decoder.sample(condition.of(row[None]), (8, 8), Sampling(seed=0, steps=2))
        torch.testing.assert_close(seen[-1][0][0], noisy[row], atol=1e-4, rtol=1e-4)


def guided_by_estimate(objective=None, **options):
    torch.manual_seed(0)
    sizes = {"channels": 4, "maps": {"estimate": 4}, "text_channels": 8, "widths": (32, 32), "head_channels": 8}
    estimate = LinearEstimate(spatial_channels=10, channels=4)
    unet = UNet(**sizes, zero_output=True)
    return DiffusionDecoder(denoiser=unet, objective=objective or Objective(), estimate=estimate, **options)


@torch.no_grad()
@pytest.mark.parametrize("diffused", ["target", "residual"])
@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "velocity"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_an_untrained_network_leaves_the_estimate_as_it_is(one_thread, diffused, prediction, guidance):
    decoder = guided_by_estimate(Objective(diffused=diffused, prediction=prediction), guidance=guidance)
    assert decoder.condition_channels["spatial"] == 10
    spatial = torch.randn(1, 10, 3, 4)
    condition = Condition(spatial=spatial, text=torch.randn(1, 2, 8), text_null=torch.randn(1, 1, 8))
    sampled = decoder.sample(condition, (6, 8), Sampling(seed=0, steps=1))
    torch.testing.assert_close(sampled, decoder.estimate(condition))
    assert torch.equal(decoder.sample(condition, (6, 8), Sampling(seed=0, steps=0)), decoder.estimate(condition))
    target = torch.randn(1, 4, 6, 8)
    assert decoder.loss(target, condition).estimate.shape == target.shape


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon", "velocity"])
@pytest.mark.parametrize("diffused", ["target", "residual"])
def test_where_signal_is_left_an_untrained_network_takes_its_share_of_x_t(one_thread, prediction, diffused):
    """The mean of a target of unit variance about the estimate, given that x_t is the estimate under noise."""
    schedule = DiscreteSchedule(zero_terminal_snr=False)
    decoder = guided_by_estimate(Objective(schedule=schedule, prediction=prediction, diffused=diffused))
    condition = Condition(spatial=torch.randn(1, 10, 3, 4))
    alpha, sigma = schedule.coefficients(torch.tensor([999]))
    expected = decoder.estimate(condition) + alpha * sigma * gaussian_canvas((1, 4, 6, 8), 0)
    sample = decoder.sample(condition, (6, 8), Sampling(seed=0, steps=1))
    torch.testing.assert_close(sample, expected, atol=1e-4, rtol=1e-4)


def test_what_the_estimate_explains_is_no_loss(one_thread):
    decoder = guided_by_estimate(Objective(terminal_share=1.0))
    spatial = torch.randn(2, 10, 3, 4)
    condition = Condition(spatial=spatial)
    target = decoder.estimate(condition).detach()
    assert decoder.loss(target, condition).losses["diffusion"] < 1e-8
    assert decoder.loss(target + 1, condition).losses["diffusion"] > 0.9


def test_an_estimate_that_does_not_fit_is_refused(one_thread):
    sizes = {"channels": 4, "text_channels": 8, "widths": (32, 32), "head_channels": 8}
    unet = UNet(**sizes, maps={"estimate": 3})
    with pytest.raises(
        ValueError, match="LinearEstimate has 4 channels, but UNet predicts 4 and takes an estimate of 3"
    ):
        DiffusionDecoder(denoiser=unet, estimate=LinearEstimate(channels=4))
    with pytest.raises(ValueError, match="UNet takes an estimate of its target, but the decoder has none"):
        DiffusionDecoder(denoiser=unet)
    with pytest.raises(ValueError, match="the residual to an estimate is diffused, but there is none"):
        DiffusionDecoder(denoiser=UNet(**sizes, maps={"spatial": 3}), objective=Objective(diffused="residual"))
    seen = UNet(**sizes, maps={"estimate": 4, "spatial": 3})
    with pytest.raises(ValueError, match="LinearEstimate takes 10 spatial channels, but UNet takes 3; set both"):
        DiffusionDecoder(denoiser=seen, estimate=LinearEstimate(spatial_channels=10, channels=4))


@torch.no_grad()
def test_a_part_from_elsewhere_can_provide_a_map_of_its_own(one_thread):
    """Patches crop it as they crop the maps that have a name here."""
    torch.manual_seed(0)
    maps = {"spatial": 3, "edges": 1}
    unet = UNet(channels=4, maps=maps, text_channels=8, widths=(32, 32), head_channels=8)
    decoder = DiffusionDecoder(denoiser=unet, steps=1, boundary=BoundaryControl(patch=8, overlap=4))
    assert decoder.requires == set(maps)
    condition = Condition(spatial=torch.randn(1, 3, 4, 10), others={"edges": torch.randn(1, 1, 8, 20)})
    sample = decoder.sample(condition, (8, 20), Sampling(seed=1))
    changed = condition["edges"].clone()
    changed[..., 16:] += 1
    other = decoder.sample(condition.with_(edges=changed), (8, 20), Sampling(seed=1))
    assert torch.equal(sample[..., :12], other[..., :12]), "patches that do not see the change stay as they are"
    assert not torch.equal(sample[..., 16:], other[..., 16:])


def test_several_noise_levels_a_target_are_a_larger_batch(latent_diffusion, condition_for):
    """The loss is that of each target repeated, and the estimate has as many images as there are targets."""
    once, twice = latent_diffusion(), latent_diffusion(draws=2)
    condition, target = condition_for(once, (4, 4), count=3), torch.randn(3, 4, 4, 4)
    torch.manual_seed(1)
    denoised = twice.loss(target, condition)
    torch.manual_seed(1)
    repeated = once.loss(target.repeat(2, 1, 1, 1), condition.of(torch.arange(3).repeat(2)))
    torch.testing.assert_close(denoised.losses["diffusion"], repeated.losses["diffusion"])
    torch.testing.assert_close(denoised.estimate, repeated.estimate[:3])
