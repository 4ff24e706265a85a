"""The quantisers compared with those of the package vector-quantize-pytorch, for the same weights."""

import pytest
import torch
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ, LFQ, VectorQuantize
from vector_quantize_pytorch.vector_quantize_pytorch import kmeans

from ulcompress.quantizers import FiniteScalarQuantizer, LookupFreeQuantizer, VectorQuantizer
from ulcompress.quantizers.codebook import k_means


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def share_projections(ours, theirs):
    for name in ("project_in", "project_out"):
        own = getattr(ours, name)
        # Their VectorQuantize wraps its first projection in a Sequential.
        other = getattr(theirs, name)
        other = other[0] if isinstance(other, torch.nn.Sequential) else other
        other.load_state_dict(own.state_dict())


def results(quantize, features, wanted):
    """Return features, symbols and the gradient of the input for a given gradient of the features."""
    given = features.clone().requires_grad_()
    quantized, symbols = quantize(given)
    (quantized * wanted).sum().backward()
    return quantized.detach(), symbols.long(), given.grad


def assert_same(ours, theirs, features):
    """Compare two quantisers, which may differ by rounding alone."""

    def own(given):
        quantized = ours(given)
        return quantized.features, quantized.symbols

    def other(given):
        return theirs(given)[:2]

    wanted = torch.randn_like(features)
    for left, right in zip(results(own, features, wanted), results(other, features, wanted), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


def vector_pair(rotation_trick=False, decay=0.8):
    ours = VectorQuantizer(codebook_size=12, channels=6, dimension=4, decay=decay, rotation_trick=rotation_trick)
    theirs = VectorQuantize(
        dim=6,
        codebook_size=12,
        codebook_dim=4,
        use_cosine_sim=True,
        decay=decay,
        commitment_weight=0.0,
        rotation_trick=rotation_trick,
        accept_image_fmap=True,
    )
    share_projections(ours, theirs)
    ours.filled.fill_(True)
    theirs.codebook = ours.codebook
    theirs._codebook.embed_avg.copy_(ours.sums[None])
    return ours, theirs


@pytest.mark.parametrize("rotation_trick", [False, True])
def test_vector_quantizer(rotation_trick):
    ours, theirs = vector_pair(rotation_trick)
    features = torch.randn(3, 6, 5, 7)
    # In training: the straight-through and the rotated gradient exist only there in theirs.
    assert_same(ours, theirs, features)


def test_moving_averages_of_the_vector_quantizer():
    ours, theirs = vector_pair()
    start = ours.codebook.clone()
    for _ in range(5):
        features = torch.randn(3, 6, 5, 7)
        ours(features)
        theirs(features)
        # Theirs divides the average of the sums by a smoothed average of the counts and then takes the unit length:
        # the division changes no direction, so the codebooks agree although `eps` has no counterpart in ours.
        torch.testing.assert_close(ours.usage, theirs._codebook.cluster_size[0])
        torch.testing.assert_close(ours.sums, theirs._codebook.embed_avg[0])
        torch.testing.assert_close(ours.codebook, theirs.codebook)
    assert (start * ours.codebook).sum(-1).min() < 0.99


def test_k_means():
    vectors = F.normalize(torch.randn(200, 4), dim=-1)
    means, counts = kmeans(
        vectors[None], 10, num_iters=6, use_cosine_sim=True, sample_fn=lambda samples, count: samples[:, :count]
    )
    assert counts.min() > 0
    torch.testing.assert_close(k_means(vectors, vectors[:10], 6), means[0])


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [7, 5, 5, 5, 5], [8, 6, 5], [4, 3, 3]])
def test_finite_scalar_quantizer(levels):
    ours = FiniteScalarQuantizer(levels=levels, channels=6)
    theirs = FSQ(levels=levels, dim=6)
    share_projections(ours, theirs)
    features = 3 * torch.randn(8, 6, 20, 20)
    own = ours(features)
    other_features, other_symbols = theirs(features)
    # Two details of theirs differ from the code of the paper's appendix, which ours follows: the range is widened by
    # a thousandth instead of narrowed, and the shift is atanh, not tan, of the offset. Both move the bounded value by
    # less than 0.01, which matters next to a boundary between levels alone.
    bounded = ours._bound(ours.project_in(features.movedim(1, -1)))
    safe = ((bounded - bounded.floor() - 0.5).abs() > 0.01).all(-1)
    assert 0.8 < safe.float().mean() < 1
    assert torch.equal(own.symbols[safe], other_symbols.long()[safe])
    torch.testing.assert_close(own.features.movedim(1, -1)[safe], other_features.movedim(1, -1)[safe])
    torch.testing.assert_close(
        theirs.indices_to_codes(own.symbols), ours.dequantize(own.symbols), msg="every index means the same codes"
    )


@pytest.mark.parametrize("inverse_temperature, diversity", [(0.1, 1.0), (0.2, 0.5)])
def test_lookup_free_quantizer(inverse_temperature, diversity):
    ours = LookupFreeQuantizer(bits=4, channels=6, inverse_temperature=inverse_temperature, diversity=diversity)
    theirs = LFQ(
        dim=6,
        codebook_size=2**4,
        entropy_loss_weight=1.0,
        diversity_gamma=diversity,
        commitment_loss_weight=0.25,
    )
    share_projections(ours, theirs)
    # Theirs reads the first bit as the greatest; ours, as the paper, as the least.
    with torch.no_grad():
        theirs.project_in.weight.copy_(ours.project_in.weight.flip(0))
        theirs.project_in.bias.copy_(ours.project_in.bias.flip(0))
        theirs.project_out.weight.copy_(ours.project_out.weight.flip(1))
    features = torch.randn(3, 6, 5, 7)
    assert_same(ours, theirs, features)
    losses = ours(features).losses
    _, parts = theirs(features, inv_temperature=inverse_temperature, return_loss_breakdown=True)
    torch.testing.assert_close(losses["commitment"], parts.commitment)
    # Theirs bounds logarithms at 1e-5, which no probability here is below.
    expected = parts.per_sample_entropy - diversity * parts.batch_entropy
    torch.testing.assert_close(losses["lookup_entropy"], expected)
