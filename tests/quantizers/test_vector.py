import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ulcompress.functional import straight_through as gradients
from ulcompress.quantizers import VectorQuantizer
from ulcompress.quantizers.codebook import draw, k_means, nearest


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def identity(size, **arguments):
    """A quantiser whose projections do nothing."""
    quantizer = VectorQuantizer(codebook_size=size, channels=3, dimension=3, **arguments)
    with torch.no_grad():
        for linear in (quantizer.project_in, quantizer.project_out):
            linear.weight.copy_(torch.eye(3))
            linear.bias.zero_()
    return quantizer


def filled(codebook, **arguments):
    quantizer = identity(len(codebook), **arguments)
    quantizer.sums.copy_(F.normalize(codebook, dim=-1))
    quantizer.filled.fill_(True)
    return quantizer


def as_map(vectors):
    return vectors.T[None, :, None]


def test_default_projections_are_small():
    quantizer = VectorQuantizer()
    assert sum(parameter.numel() for parameter in quantizer.parameters()) == 20_832
    assert quantizer.codebook.shape == (1024, 32)


@torch.no_grad()
def test_the_entry_with_the_largest_cosine_is_chosen():
    quantizer = filled(torch.eye(3)).eval()
    vectors = torch.tensor([[9.0, 1, 0], [0.1, 0.2, 0.3], [-5, 0.1, -1]])
    quantized = quantizer(as_map(vectors))
    assert quantized.symbols.tolist() == [[[0, 2, 1]]]
    assert torch.equal(quantized.features[0, :, 0].T, torch.eye(3)[[0, 2, 1]])
    cosines = F.normalize(vectors, dim=-1).max(-1).values
    torch.testing.assert_close(quantized.losses["commitment"], 1 - cosines.mean())


def test_the_first_batch_fills_the_codebook():
    quantizer = identity(4)
    quantizer(as_map(torch.tensor([[1.0, 0, 0]]).repeat(10, 1)))
    assert bool(quantizer.filled)
    assert (quantizer.codebook[:, 0] > 0.99).all()


def test_entries_move_towards_the_vectors_that_choose_them():
    quantizer = filled(torch.eye(3), decay=0.9)
    vector = F.normalize(torch.tensor([1.0, 0.5, 0.0]), dim=-1)
    cosines = []
    for _ in range(60):
        cosines.append(float(quantizer.codebook[0] @ vector))
        quantizer(as_map(vector.repeat(10, 1)))
    assert cosines[:30] == sorted(cosines[:30])
    assert cosines[0] < 0.9 and cosines[-1] > 0.999
    torch.testing.assert_close(quantizer.codebook[1:], torch.eye(3)[1:])
    torch.testing.assert_close(quantizer.codebook.norm(dim=-1), torch.ones(3))


@torch.no_grad()
def test_centring_takes_away_what_all_features_have_in_common():
    vectors = torch.tensor([9.0, 9, 9]) + torch.randn(200, 3)
    for centred in (False, True):
        quantizer = filled(torch.cat([torch.eye(3), -torch.eye(3)]), centred=centred)
        for _ in range(100):
            quantizer(as_map(vectors))
        used = quantizer.eval()(as_map(vectors)).symbols.unique().numel()
        assert used == 6 if centred else used < 6
        torch.testing.assert_close(quantizer.mean, vectors.mean(0) * centred, atol=1e-3, rtol=1e-3)


def test_averages_are_those_of_the_formula():
    quantizer = filled(torch.eye(3), decay=0.75)
    quantizer(as_map(torch.tensor([[2.0, 0, 0], [5, 0, 0], [0, 1, 0]])))
    assert quantizer.usage.tolist() == [0.75 + 0.25 * 2, 0.75 + 0.25, 0.75]
    assert quantizer.sums.diagonal().tolist() == [1.25, 1.0, 0.75]


@pytest.mark.parametrize("revive_below, alive", [(0.0, 1), (0.5, 4)])
def test_dead_entries_are_revived_on_request(revive_below, alive):
    quantizer = filled(-torch.ones(4, 3), decay=0.5, revive_below=revive_below)
    with torch.no_grad():
        quantizer.sums[0] = F.normalize(torch.ones(3), dim=0)
    for _ in range(10):
        quantizer(as_map(1 + 0.5 * torch.rand(40, 3)))
    assert int((quantizer.codebook.min(-1).values > 0).sum()) == alive
    assert quantizer.usage.isfinite().all()


@pytest.mark.parametrize("rotation_trick", [False, True])
def test_centred_features_have_no_gradient_of_a_common_shift(rotation_trick):
    quantizer = VectorQuantizer(
        codebook_size=8, channels=6, dimension=3, decay=1.0, centred=True, rotation_trick=rotation_trick
    )
    for _ in range(3):
        quantizer(torch.randn(4, 6, 3, 3) + 2)
    given = (torch.randn(4, 6, 3, 3) + 3).requires_grad_()
    quantized = quantizer(given)
    loss = (quantized.features * torch.randn(4, 6, 3, 3)).sum() + quantized.losses["commitment"]
    loss.backward()
    shift = given.grad.sum((0, 2, 3))
    assert given.grad.abs().max() > 0.01
    assert shift.abs().max() < 1e-5 * given.grad.abs().sum()
    assert quantizer.project_in.bias.grad.abs().max() < 1e-5 * quantizer.project_in.weight.grad.abs().max()
    # The value is the running mean's, not the batch's: evaluation gives the same.
    again = quantizer.eval()(given)
    assert torch.equal(again.symbols, quantized.symbols)
    assert torch.equal(again.features, quantized.features)


def drift(hold: bool) -> float:
    """How far the mean moves while a linear encoder is pulled towards features that are shifted out of reach."""
    torch.manual_seed(0)
    encoder = nn.Linear(4, 4)
    quantizer = VectorQuantizer(codebook_size=32, channels=4, dimension=3, centred=True)
    if not hold:
        running_mean = quantizer._running_mean
        quantizer._running_mean = lambda projected: running_mean(projected).detach()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.05)
    start = None
    for _ in range(200):
        inputs = torch.randn(256, 4)
        loss = (quantizer(as_map(encoder(inputs))).features - as_map(inputs) - 3).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        start = quantizer.mean.clone() if start is None else start
    return float((quantizer.mean - start).norm())


def test_the_gradient_of_the_mean_keeps_it_from_drifting():
    held, free = drift(hold=True), drift(hold=False)
    assert held < 0.5 < 4 * held < free, (held, free)


def test_k_means_finds_the_directions_of_clusters():
    directions = F.normalize(torch.tensor([[1.0, 1, 1], [-1, 1, 0], [0, -1, -1]]), dim=-1)
    vectors = F.normalize(directions.repeat_interleave(50, 0) + 0.2 * torch.randn(150, 3), dim=-1)
    entries = k_means(vectors, F.normalize(directions + 0.6 * torch.randn(3, 3), dim=-1), 10)
    torch.testing.assert_close(entries, F.normalize(vectors.view(3, 50, 3).sum(1), dim=-1))
    assert torch.equal(k_means(vectors, entries, 5), entries), "it has converged"


def test_k_means_starts_the_codebook_closer_to_the_batch():
    features = torch.randn(4, 3, 8, 8)
    commitments = []
    for iterations in (0, 10):
        torch.manual_seed(1)
        quantizer = identity(16, kmeans_iterations=iterations)
        commitments.append(float(quantizer(features).losses["commitment"].detach()))
    assert commitments[1] < 0.8 * commitments[0]


@pytest.mark.parametrize("iterations", [0, 5])
def test_fewer_vectors_than_entries_start_a_codebook(iterations):
    quantizer = identity(16, kmeans_iterations=iterations)
    vectors = F.normalize(torch.randn(5, 3), dim=-1)
    quantized = quantizer(as_map(vectors))
    torch.testing.assert_close(quantizer.codebook.norm(dim=-1), torch.ones(16))
    assert ((quantizer.codebook @ vectors.T).max(-1).values > 0.99).all(), "every entry is near a vector"
    assert quantized.losses["commitment"] < 1e-3, "and every vector near an entry"
    assert quantizer.usage.isfinite().all()


def test_vectors_are_drawn_once_before_any_comes_again():
    vectors = F.normalize(torch.randn(20, 3), dim=-1)
    chosen = nearest(draw(vectors, 50), vectors)
    counts = torch.bincount(chosen, minlength=20)
    assert counts.min() >= 1 and counts.sum() == 50


def test_an_entry_that_nobody_chooses_keeps_its_direction_and_its_unit_length():
    quantizer = filled(torch.eye(3), decay=0.5)
    for _ in range(200):
        quantizer(as_map(torch.tensor([[1.0, 0, 0]])))
    torch.testing.assert_close(quantizer.codebook, torch.eye(3))
    # Codecs are saved in half precision.
    torch.testing.assert_close(F.normalize(quantizer.sums.half().float(), dim=-1), torch.eye(3))


def test_the_rotation_trick_turns_gradients_as_it_turns_vectors():
    vectors = F.normalize(torch.randn(40, 5, dtype=torch.float64), dim=-1).requires_grad_()
    codes = F.normalize(vectors.detach() + 0.7 * torch.randn(40, 5), dim=-1)
    passed = gradients.rotated(vectors, codes)
    assert torch.equal(passed, codes)
    wanted = torch.randn(40, 5, dtype=torch.float64)
    (passed * wanted).sum().backward()
    torch.testing.assert_close(vectors.grad.norm(dim=-1), wanted.norm(dim=-1))
    torch.testing.assert_close((vectors.grad * vectors.detach()).sum(-1), (wanted * codes).sum(-1))
    # What is at right angles to the plane of the rotation does not move.
    plane = torch.linalg.qr(torch.stack([vectors.detach(), codes], dim=-1)).Q
    across = torch.eye(5) - plane @ plane.mT
    torch.testing.assert_close(across @ vectors.grad[..., None], across @ wanted[..., None])


def test_the_rotation_trick_is_finite_where_a_code_is_opposite_to_its_vector():
    vectors = torch.eye(3).requires_grad_()
    gradients.rotated(vectors, -torch.eye(3)).sum().backward()
    assert vectors.grad.isfinite().all()


def test_the_rotation_trick_changes_gradients_alone():
    vectors = torch.randn(30, 3)
    results = {}
    for rotation_trick in (False, True):
        quantizer = filled(torch.cat([torch.eye(3), -torch.eye(3)]), rotation_trick=rotation_trick)
        given = as_map(vectors).clone().requires_grad_()
        features = quantizer(given).features
        (features * torch.arange(3.0)[:, None, None]).sum().backward()
        results[rotation_trick] = features, given.grad
    assert torch.equal(results[False][0], results[True][0])
    assert not torch.allclose(results[False][1], results[True][1], atol=0.01)
