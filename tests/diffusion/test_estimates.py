import inspect

import jsonargparse
import pytest
import torch

from ulcompress import diffusion
from ulcompress.autoencoders import CosineAutoencoder
from ulcompress.diffusion import BaseEstimate, Estimate, LinearEstimate
from ulcompress.encoders import CosineEncoder, HyperEncoder
from ulcompress.records import Condition

ESTIMATES = {
    "linear": lambda: LinearEstimate(spatial_channels=12, spatial_stride=16, channels=5, stride=8),
    "base": lambda: BaseEstimate(),
    "base, which is not added": lambda: BaseEstimate(added=False),
}


@pytest.fixture(params=ESTIMATES)
def estimate(request, one_thread):
    torch.manual_seed(0)
    return ESTIMATES[request.param]()


def condition_for(estimate, *, count=2, height=4, width=6):
    """Return the fields that an estimate requires, for targets of height x width positions."""
    scale = 1 if estimate.feature_stride is None else estimate.feature_stride // estimate.target_stride
    shape = height // scale, width // scale
    return Condition(
        **{name: torch.rand(count, estimate.condition_channels[name], *shape) for name in estimate.requires}
    )


def test_every_class_is_here():
    exported = (getattr(diffusion, name) for name in diffusion.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Estimate)}
    assert {c for c in classes if not inspect.isabstract(c)} == {type(make()) for make in ESTIMATES.values()}


def test_it_expects_channels_of_all_that_it_requires(estimate):
    assert estimate.requires == estimate.condition_channels.keys()


def test_it_is_on_the_grid_of_the_target(estimate):
    assert estimate(condition_for(estimate)).shape == (2, estimate.channels, 4, 6)


def test_it_depends_on_the_condition_alone(estimate):
    condition = condition_for(estimate)
    once = estimate(condition)
    torch.manual_seed(7)
    assert torch.equal(estimate(condition), once)
    (name,) = estimate.requires
    assert not torch.allclose(estimate(condition.with_(**{name: condition[name].flip(1)})), once)


def test_nothing_depends_on_the_batch(estimate):
    condition = condition_for(estimate, count=3)
    together = estimate(condition)
    for row in range(3):
        torch.testing.assert_close(estimate(condition.of(torch.tensor([row])))[0], together[row])


def test_the_condition_gets_a_gradient(estimate):
    condition = condition_for(estimate)
    (name,) = estimate.requires
    condition[name].requires_grad_()
    estimate(condition).square().sum().backward()
    assert condition[name].grad.isfinite().all() and condition[name].grad.any()


def test_a_configuration_builds_an_equal_estimate(estimate):
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--estimate", type=Estimate)
    again = parser.instantiate(parser.parse_object({"estimate": estimate.config()})).estimate
    assert again.config() == estimate.config() and again.added == estimate.added
    condition = condition_for(estimate)
    torch.testing.assert_close(again(condition), estimate(condition))


@torch.no_grad()
def test_the_linear_estimate_of_all_coefficients_is_the_latent(one_thread):
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 64)
    latent = CosineAutoencoder(widths=(8, 8), channels=6).encode(image)
    encoder = CosineEncoder(network=HyperEncoder(stride=16, width=8, channels=768, latent_channels=6))
    estimate = LinearEstimate(spatial_channels=768, channels=6)
    condition = Condition(spatial=encoder(image, latent))
    torch.testing.assert_close(estimate(condition), latent, atol=1e-4, rtol=1e-4)


def test_the_base_is_brought_to_the_range_of_pixel_space():
    base = torch.tensor([0.0, 0.25, 1.0])[None, :, None, None]
    assert BaseEstimate()(Condition(base=base)).flatten().tolist() == [-1, -0.5, 1]


def test_a_latent_that_does_not_divide_the_features_is_refused():
    with pytest.raises(ValueError, match="the stride 8 of the latent must divide that of the features, 12"):
        LinearEstimate(spatial_stride=12)
