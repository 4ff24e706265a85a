import pytest
import torch

from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import UNet
from ulcompress.diffusion import Objective, Whitening

MIX = torch.tensor([[5.0, 0.0, 0.0], [4.0, 1.0, 0.0], [-3.0, 0.5, 0.1]])
OFFSET = torch.tensor([0.5, -2.0, 30.0])[:, None, None]


def batches(count=3):
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(4, 3, 5, 6, generator=generator) for _ in range(count))
    return [torch.einsum("ij,bjhw->bihw", MIX, draw) + OFFSET for draw in draws]


@pytest.fixture(params=["full", "channel"])
def learnt(request):
    whitening = Whitening(channels=3, covariance=request.param)
    whitening.prepare(batches())
    return whitening


def channels(values):
    return torch.cat(values).transpose(0, 1).flatten(1)


def test_what_it_learnt_from_has_zero_mean_and_unit_variance(learnt):
    white = channels([learnt(batch) for batch in batches()])
    torch.testing.assert_close(white.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    covariance = white.cov(correction=0)
    torch.testing.assert_close(covariance.diagonal(), torch.ones(3), atol=1e-4, rtol=1e-4)
    correlated = (covariance - covariance.diagonal().diag()).abs().max()
    assert correlated < 1e-4 if learnt.covariance == "full" else correlated > 0.1


def test_the_way_back_leads_to_the_values(learnt):
    values = batches(1)[0]
    torch.testing.assert_close(learnt.colour(learnt(values)), values, atol=1e-4, rtol=1e-4)


def test_the_map_is_symmetric(learnt):
    torch.testing.assert_close(learnt.matrix, learnt.matrix.T)


def test_it_is_the_identity_until_it_has_learnt_and_is_saved():
    whitening, values = Whitening(channels=3), batches(1)[0]
    assert torch.equal(whitening(values), values) and torch.equal(whitening.colour(values), values)
    assert not whitening.prepared
    whitening.prepare(batches())
    again = Whitening(**whitening.arguments())
    again.load_state_dict(whitening.state_dict())
    assert again.prepared and torch.equal(again(values), whitening(values))


def test_batches_count_like_one_batch():
    parts, whole = Whitening(channels=3), Whitening(channels=3)
    parts.prepare(batches())
    whole.prepare([torch.cat(batches())])
    torch.testing.assert_close(parts.matrix, whole.matrix)


def test_half_precision_around_it_does_not_round_it(learnt):
    values = batches(1)[0]
    expected = learnt(values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(learnt(values), expected)


def test_a_channel_that_never_varies_stays_finite():
    whitening = Whitening(channels=2)
    values = torch.stack([torch.randn(2, 8, 8), torch.full((2, 8, 8), 0.3)], 1)
    whitening.prepare([values])
    torch.testing.assert_close(whitening.colour(whitening(values)), values, atol=1e-4, rtol=1e-4)
    assert whitening(values).abs().max() < 10


@pytest.mark.parametrize("values", [[], [torch.ones(1, 3, 4, 4)]])
def test_data_without_variation_are_refused(values):
    with pytest.raises(ValueError, match="was shown no values that differ"):
        Whitening(channels=3).prepare(values)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="covariance must be one of full, channel, got 'pca'"):
        Whitening(channels=3, covariance="pca")
    unet = UNet(channels=4, maps={"spatial": 3}, text_channels=8, widths=(32, 32), head_channels=8)
    with pytest.raises(ValueError, match="the whitening has 3 channels, but what is diffused has 4"):
        DiffusionDecoder(denoiser=unet, objective=Objective(whitening=Whitening(channels=3)))
