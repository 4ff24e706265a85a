import pytest
import torch

from ulcompress.diffusion import LocalDeviation, Objective, Whitening

SIDE = 48


def pairs(count=6):
    """Yield targets and estimates whose right half varies ten times as much as the left, in both."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.where(torch.arange(SIDE) < SIDE // 2, 0.1, 1.0)
    for _ in range(count):
        estimate = scale * torch.randn(2, 3, SIDE, SIDE, generator=generator)
        yield estimate + 0.5 * scale * torch.randn(2, 3, SIDE, SIDE, generator=generator), estimate


def halves(values):
    """Return the deviations well within both halves."""
    return [float(part.std()) for part in (values[..., : SIDE // 2 - 8], values[..., SIDE // 2 + 8 :])]


def objective(**options):
    parts = {"whitening": Whitening(channels=3), "deviation": LocalDeviation(windows=[3, 7])}
    return Objective(**{"diffused": "residual", **parts, **options})


def test_what_is_missing_gets_unit_variance_everywhere():
    learnt = objective()
    assert not learnt.prepared
    learnt.prepare(pairs())
    target, estimate = next(iter(pairs()))
    assert learnt.prepared and halves(target - estimate)[0] < 0.15 * halves(target - estimate)[1]
    assert halves(learnt.to_diffused(target, estimate)) == pytest.approx([1, 1], abs=0.1)


def test_the_way_back_leads_to_the_target():
    learnt = objective()
    learnt.prepare(pairs())
    target, estimate = next(iter(pairs()))
    torch.testing.assert_close(learnt.to_target(learnt.to_diffused(target, estimate), estimate), target)


def test_it_is_1_until_it_has_learnt_and_is_saved():
    deviation, estimate = LocalDeviation(windows=[3]), torch.randn(1, 3, 8, 8)
    assert torch.equal(deviation(estimate), torch.ones(1, 1, 8, 8))
    deviation.prepare((target - each, each) for target, each in pairs(2))
    again = LocalDeviation(windows=[3])
    again.load_state_dict(deviation.state_dict())
    assert torch.equal(again(estimate), deviation(estimate)) and again.arguments() == deviation.arguments()


def test_an_estimate_beyond_what_was_seen_gives_no_deviation_beyond_it():
    deviation = LocalDeviation(windows=[3, 7])
    deviation.prepare((target - each, each) for target, each in pairs())
    flat, wild = (deviation(scale * torch.randn(1, 3, 16, 16)) for scale in (0, 1e6))
    assert flat.isfinite().all() and flat.min() > 0.005 and wild.max() < 5


@pytest.mark.parametrize("seed", range(4))
def test_an_estimate_that_never_varies_gives_one_deviation(seed):
    torch.manual_seed(seed)
    deviation, flat = LocalDeviation(), torch.zeros(2, 3, 16, 16)
    deviation.prepare([(torch.randn(2, 3, 16, 16), flat)])
    found = deviation(flat)
    assert found.isfinite().all() and found.std() < 1e-3 and found.mean() == pytest.approx(0.9, abs=0.15)


def test_batches_count_like_one_batch():
    some = [(target - each, each) for target, each in pairs()]
    whole = [tuple(torch.cat(part) for part in zip(*some, strict=True))]
    found = []
    for batches in (some, whole):
        deviation = LocalDeviation()
        deviation.prepare(batches)
        found.append(deviation.weights)
    torch.testing.assert_close(*found)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"odd sides of at least 3 positions, got \[4\]"):
        LocalDeviation(windows=[4])
    with pytest.raises(ValueError, match=r"set `preparation\.batches`"):
        LocalDeviation().prepare([])
    with pytest.raises(ValueError, match="deviation is that of the residual to an estimate"):
        objective(diffused="target").check(None, 1.0, 3)
