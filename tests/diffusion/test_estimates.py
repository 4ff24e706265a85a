import inspect

import pytest
import torch
from torch.nn import functional as F

from ulcompress import diffusion
from ulcompress.autoencoders import CosineAutoencoder
from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import UNet
from ulcompress.diffusion import BaseEstimate, Estimate, LinearEstimate, Objective, Whitening
from ulcompress.encoders import BlockEncoder, CosineEncoder, HyperEncoder
from ulcompress.functional import distributed
from ulcompress.records import Condition
from ulcompress.testing import check_estimate

ESTIMATES = {
    "linear": lambda: LinearEstimate(spatial_channels=12, spatial_stride=16, channels=5, stride=8),
    "linear, of any features": lambda: fitted(),
    "linear, fitted before": lambda: fitted(shown=1),
    "base": lambda: BaseEstimate(),
    "base, which is not added": lambda: BaseEstimate(added=False),
}


@pytest.fixture(params=ESTIMATES)
def estimate(request, one_thread):
    torch.manual_seed(0)
    return ESTIMATES[request.param]()


def test_every_class_is_here():
    exported = (getattr(diffusion, name) for name in diffusion.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Estimate)}
    assert {c for c in classes if not inspect.isabstract(c)} == {type(make()) for make in ESTIMATES.values()}


def test_it_keeps_the_contract(estimate):
    check_estimate(estimate)


@torch.no_grad()
def test_the_linear_estimate_of_all_coefficients_is_the_latent(one_thread):
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 64)
    latent = CosineAutoencoder(widths=(8, 8), channels=6).encode(image)
    encoder = CosineEncoder(network=HyperEncoder(stride=16, width=8, channels=768, latent_channels=6))
    estimate = LinearEstimate(spatial_channels=768, channels=6)
    condition = Condition(spatial=encoder(image, latent))
    torch.testing.assert_close(estimate(condition), latent, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_linear_estimate_of_all_coefficients_of_latent_blocks_is_the_latent(one_thread):
    torch.manual_seed(0)
    image, latent = torch.rand(2, 3, 64, 96), torch.randn(2, 4, 8, 12)
    encoder = BlockEncoder(network=HyperEncoder(stride=32, width=8, channels=64))
    estimate = LinearEstimate(spatial_channels=64, spatial_stride=32, channels=4, inverse_of="BlockEncoder")
    features = encoder(image, latent)
    torch.testing.assert_close(estimate(Condition(spatial=features)), latent, atol=1e-5, rtol=1e-5)
    means = torch.nn.functional.avg_pool2d(latent, 4)
    torch.testing.assert_close(features[:, :4], 4 * means, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"inverse_of": "HyperEncoder"}, "inverse_of must be one of CosineEncoder, BlockEncoder, got 'HyperEncoder'"),
        ({"inverse_of": "BlockEncoder", "channels": 4}, "2 x 2 latents of 4 channels has 16 coefficients, got 64"),
    ],
)
def test_a_linear_estimate_that_inverts_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LinearEstimate(**options)


def test_the_base_is_brought_to_the_range_of_pixel_space():
    base = torch.tensor([0.0, 0.25, 1.0])[None, :, None, None]
    assert BaseEstimate()(Condition(base=base)).flatten().tolist() == [-1, -0.5, 1]


def test_a_latent_that_does_not_divide_the_features_is_refused():
    with pytest.raises(ValueError, match="the stride 8 of the latent must divide that of the features, 12"):
        LinearEstimate(spatial_stride=12)


def batches(count):
    """Yield targets that are a linear map of the features, with a constant, and a little more."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4 * 2**2, 6, generator=generator)
    for _ in range(count):
        features = torch.randn(2, 6, 5, 4, generator=generator)
        targets = F.pixel_shuffle(torch.einsum("ij,bjhw->bihw", weight, features) + 3, 2)
        yield targets + 0.01 * torch.randn(targets.shape, generator=generator), Condition(spatial=features)


def fitted(shown=0):
    estimate = LinearEstimate(spatial_channels=6, channels=4, inverse_of=None)
    if shown:
        estimate.prepare(batches(shown))
    return estimate


def test_a_map_without_an_encoder_is_fitted_to_data():
    estimate = fitted()
    target, condition = next(batches(1))
    assert not estimate.prepared and not estimate(condition).any()
    estimate.prepare(batches(3))
    assert estimate.prepared
    torch.testing.assert_close(estimate(condition), target, atol=0.06, rtol=0)


def test_a_fitted_map_is_kept_with_the_weights():
    estimate, again = fitted(shown=1), fitted()
    again.load_state_dict(estimate.state_dict())
    assert again.prepared


def test_processes_that_see_other_batches_fit_one_map(monkeypatch):
    first, second = batches(2)
    sums, whole, shared = [], fitted(shown=2), fitted()
    monkeypatch.setattr(distributed, "summed", lambda value: sums.append(value) or value)
    fitted().prepare([first])
    monkeypatch.setattr(distributed, "summed", lambda value: value + sums[0])
    shared.prepare([second])
    torch.testing.assert_close(shared.state_dict(), whole.state_dict())


def test_a_feature_that_is_always_zero_has_no_weight():
    estimate = fitted()
    shown = [
        (target, Condition(spatial=condition.maps["spatial"] * torch.tensor([1, 1, 1, 1, 1, 0.0])[:, None, None]))
        for target, condition in batches(2)
    ]
    estimate.prepare(shown)
    assert estimate.map.weight.isfinite().all() and not estimate.map.weight[:, 5].any()


def test_no_data_is_said():
    with pytest.raises(ValueError, match=r"set `preparation\.batches`"):
        fitted().prepare([])


def test_the_objective_learns_of_what_the_fitted_estimate_leaves():
    whitening = Whitening(channels=4)
    objective = Objective(diffused="residual", whitening=whitening)
    denoiser = UNet(channels=4, maps={"estimate": 4}, widths=(16, 32))
    decoder = DiffusionDecoder(denoiser=denoiser, objective=objective, estimate=fitted())
    assert not decoder.prepared
    decoder.prepare(batches(3))
    assert decoder.prepared
    assert (whitening.inverse.diagonal() < 0.02).all(), "of the noise alone"
