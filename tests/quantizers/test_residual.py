import pytest
import torch
from torch.nn import functional as F

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import ContextModel
from ulcompress.functional.devices import default_dtype
from ulcompress.quantizers import FiniteScalarQuantizer, ResidualQuantizer
from ulcompress.quantizers.euclidean import EuclideanCodebook


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def staged(**arguments):
    """Three stages, the first one on blocks of 2 x 2, after a batch that has filled them."""
    quantizer = ResidualQuantizer(codebook_sizes=[9, 5, 6], blocks=[2, 1, 1], channels=6, dimension=4, **arguments)
    with torch.no_grad():
        quantizer(torch.randn(6, 6, 8, 8))
    return quantizer.eval()


def with_context(**arguments):
    """The same with a context model whose scores differ from position to position."""
    context = ContextModel(width=8)
    quantizer = staged(entropy=context, **arguments)
    for head in context.heads:
        torch.nn.init.normal_(head.weight, std=2.0)
    return quantizer


def plain(*codebooks, **arguments):
    """A quantiser of given entries on two channels, whose projections do nothing."""
    sizes = [len(entries) for entries in codebooks]
    quantizer = ResidualQuantizer(codebook_sizes=sizes, channels=2, dimension=2, **arguments)
    with torch.no_grad():
        for linear in (quantizer.project_in, quantizer.project_out):
            linear.weight.copy_(torch.eye(2))
            linear.bias.zero_()
        for stage, entries in zip(quantizer.stages, codebooks, strict=True):
            stage.usage.fill_(2.0)
            stage.sums.copy_(2 * torch.tensor(entries))
            stage.filled.fill_(True)
    return quantizer.eval()


@torch.no_grad()
def test_each_stage_quantises_what_the_others_have_left():
    quantizer = plain([[1.0, 0.0], [0.0, 1.0]], [[-0.3, 0.6], [0.5, 0.5]], [[0.1, 0.1], [-0.1, 0.2]], candidates=1)
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)  # of unit length: 0.6, 0.8
    found = [quantizer.at_rate(features, rate).features.flatten().tolist() for rate in (1, 2, 3)]
    # left of the first stage: 0.6, -0.2; of the second: 0.1, -0.7
    assert [[round(value, 4) for value in each] for each in found] == [[0.0, 1.0], [0.5, 1.5], [0.6, 1.6]]


@torch.no_grad()
@pytest.mark.parametrize("build", [staged, with_context])
@pytest.mark.parametrize("rate_weight", [0.0, 0.1])
@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("candidates", [1, 4])
def test_every_rate_comes_back(build, rate_weight, rate, candidates):
    quantizer, features = build(rate_weight=rate_weight, candidates=candidates), torch.randn(1, 6, 3, 5)
    whole, part = quantizer(features), quantizer.at_rate(features, rate)
    assert quantizer.rate_of(part.symbols) == len(part.symbols.indices) == rate
    if candidates == 1:  # nothing is chosen for the sake of a later stage
        assert all(map(torch.equal, part.symbols.indices, whole.symbols.indices))
    assert [tuple(stage.shape) for stage in part.symbols.indices] == [(1, 2, 3), (1, 3, 5), (1, 3, 5)][:rate]
    coder = ArithmeticEncoder()
    quantizer.write(part.symbols, coder)
    data = coder.finish()
    again = quantizer.read(ArithmeticDecoder(data), (3, 5))
    assert all(map(torch.equal, again.indices, part.symbols.indices))
    assert torch.equal(quantizer.dequantize(again), part.features)
    assert abs(8 * len(data) - float(part.bits)) <= 9
    assert (rate == 3) == (float(part.bits) == float(whole.bits))


GREEDY = [[0.5, 0.8], [0.6, 0.2]], [[0.0, 0.6], [-0.6, 0.0]]
"""Of (0.6, 0.8) the first entry leaves little, which the second stage has nothing for; the other what it has."""


@torch.no_grad()
def test_an_entry_is_chosen_for_what_the_next_stage_makes_of_it():
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    found = {}
    for candidates in (1, 2):
        quantizer = plain(*GREEDY, candidates=candidates)
        found[candidates] = [[int(i) for i in quantizer.at_rate(features, r).symbols.indices] for r in (1, 2)]
    assert found == {1: [[0], [0, 0]], 2: [[0], [1, 0]]}


@torch.no_grad()
def test_in_a_mixed_batch_only_images_with_a_next_stage_look_ahead():
    quantizer = plain(*GREEDY).train()
    quantizer.project_in.eval()
    for stage in quantizer.stages:
        stage.decay = 1.0
    quantized = quantizer.mixed(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(6, 2, 1, 1))
    sent = quantized.features[:, :, 0, 0]
    assert sorted([round(float(value), 3) for value in row] for row in sent) == 3 * [[0.5, 0.8]] + 3 * [[0.6, 0.8]]
    assert sorted(quantized.symbols.indices[0].flatten().tolist()) == [0, 0, 0, 1, 1, 1]


@torch.no_grad()
@pytest.mark.parametrize("rate_weight", [0.0, 0.05])
@pytest.mark.parametrize("blocks", [[1, 1], [2, 1], [4, 2]])
def test_with_all_candidates_two_stages_are_as_good_as_a_search_through_all_pairs(blocks, rate_weight):
    quantizer = ResidualQuantizer(
        codebook_sizes=[7, 5], blocks=blocks, channels=6, dimension=3, candidates=7, rate_weight=rate_weight
    )
    quantizer.at_rate(torch.randn(6, 6, 8, 8), 2)
    features = torch.randn(1, 6, 8, 8)
    quantized = quantizer.eval()(features)
    vectors, side = quantizer._vectors(features), blocks[0]
    first, second = (stage.entries for stage in quantizer.stages)
    costs = [rate_weight * bits for bits in (quantizer.entropies._of(0).costs, quantizer.stages[1].costs)]
    for row in range(0, 8, side):
        for column in range(0, 8, side):
            block = vectors[:, :, row : row + side, column : column + side]
            sums = []
            for entry, cost in zip(first, costs[0], strict=True):
                left = block - F.pixel_shuffle(entry.view(1, -1, 1, 1), side)
                smaller = F.pixel_unshuffle(left, blocks[1]).flatten(2)[0].T
                each = (smaller[:, None] - second).square().sum(-1) + costs[1]
                sums.append(cost + each.min(1).values.sum())
            where = row // side, column // side
            assert int(quantized.symbols.indices[0][0][where]) == int(torch.stack(sums).argmin()), where


@torch.no_grad()
def test_entries_follow_what_is_nearest_to_them_whatever_is_sent():
    quantizer = plain(*GREEDY).train()
    quantizer.project_in.eval()
    for stage in quantizer.stages:
        stage.decay = 0.5  # from a weight of 2 for each
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert [int(indices) for indices in quantizer(features).symbols.indices] == [1, 0]
    first, second = (stage.entries for stage in quantizer.stages)
    torch.testing.assert_close(first, torch.tensor([[1.6 / 3, 0.8], [0.6, 0.2]]))
    torch.testing.assert_close(second, torch.tensor([[0.0, 0.6], [-0.6, 0.0]]))


@torch.no_grad()
def test_blocks_that_do_not_nest_are_quantised_stage_by_stage():
    features = torch.randn(2, 6, 6, 6)
    symbols = []
    for candidates in (1, 6):
        torch.manual_seed(0)
        quantizer = ResidualQuantizer(
            codebook_sizes=[6, 6], blocks=[3, 2], channels=6, dimension=4, candidates=candidates
        )
        quantizer(torch.randn(6, 6, 6, 6))
        symbols.append(quantizer.eval()(features).symbols.indices)
    assert all(map(torch.equal, *symbols))


def test_training_lowers_the_distortion_of_every_rate():
    """Vectors of few directions, whose codebooks do not begin at them."""
    quantizer = ResidualQuantizer(codebook_sizes=[4, 4], channels=6, dimension=4, decay=0.8, kmeans_iterations=0)
    directions = torch.randn(8, 6)

    def batch():
        return directions[torch.randint(8, (6, 4, 4))].movedim(-1, 1)

    def distortions():
        given = batch()
        vectors = F.normalize(quantizer.project_in(given.movedim(1, -1)) - quantizer.mean, dim=-1).movedim(-1, 1)
        found = []
        for rate in (1, 2):
            symbols = quantizer.eval().at_rate(given, rate).symbols.indices
            codes = [stage.entries[indices] for stage, indices in zip(quantizer.stages, symbols, strict=False)]
            found.append((vectors - sum(codes).movedim(-1, 1)).square().sum(1).mean())
        return torch.stack(found)

    with torch.no_grad():
        quantizer(batch())
        before = distortions()
        for _ in range(60):
            quantizer.train()(batch())
        after = distortions()
    assert (after < 0.7 * before).all() and after[1] < 0.5 * after[0]


def test_gradients_pass_as_if_nothing_were_quantised():
    quantizer = staged()
    given = torch.randn(2, 6, 4, 4, requires_grad=True)
    weights = torch.randn(2, 6, 4, 4)
    (quantizer(given).features * weights).sum().backward()
    own = given.grad.clone()
    given.grad = None
    vectors = F.normalize(quantizer.project_in(given.movedim(1, -1)) - quantizer.mean, dim=-1)
    (quantizer.project_out(vectors).movedim(-1, 1) * weights).sum().backward()
    torch.testing.assert_close(own, given.grad)


def test_the_rate_teaches_the_context_model_alone():
    quantizer = with_context().train()
    features = torch.randn(2, 6, 4, 4, requires_grad=True)
    quantizer(features).bits.sum().backward()
    assert features.grad is None or not features.grad.any()
    assert all(parameter.grad.abs().sum() > 0 for parameter in quantizer.entropies.parameters())


@torch.no_grad()
@pytest.mark.parametrize("build", [staged, with_context])
def test_bits_that_weigh_are_saved_at_the_price_of_distance(build):
    quantizer, features = build(), torch.randn(4, 6, 8, 8)
    found = []
    for quantizer.rate_weight in (0.0, 0.05, 0.5):
        quantized = quantizer(features)
        found.append((float(quantized.bits.mean()), float(quantized.losses["commitment"])))
    (most, nearest), (fewer, farther), (fewest, farthest) = found
    assert most > fewer > fewest
    assert nearest < farther < farthest


@torch.no_grad()
def test_weights_in_half_precision_read_what_those_in_memory_wrote():
    quantizer = with_context()
    symbols = quantizer(torch.randn(1, 6, 5, 4)).symbols
    loaded = with_context()
    loaded.load_state_dict({name: value.half() for name, value in quantizer.state_dict().items()})
    coder = ArithmeticEncoder()
    quantizer.write(symbols, coder)
    again = loaded.read(ArithmeticDecoder(coder.finish()), (5, 4))
    assert all(map(torch.equal, again.indices, symbols.indices))


@torch.no_grad()
def test_where_few_indices_find_room_they_stand_for_all_others():
    quantizer = plain([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).repeat(1, 1, 4, 4)
    features[..., 0, 0] = torch.tensor([0.0, 1.0])
    own, *others = (symbols.indices[0] for symbols in quantizer.filling(features, 1.5, lambda symbols: True))
    assert own[0, 0, 0] == 1 and own.sum() == 1
    assert len(others) == 3 and any((indices == 0).all() for indices in others)
    assert len(list(quantizer.filling(features, 16, lambda symbols: False))) == 1


@torch.no_grad()
def test_a_stage_sees_the_same_sums_whatever_the_default_precision(monkeypatch):
    quantizer, coder, seen = with_context(), ArithmeticEncoder(), []
    quantizer.write(quantizer(torch.randn(1, 6, 5, 4)).symbols, coder)
    read = quantizer.entropies.read
    monkeypatch.setattr(
        quantizer.entropies, "read", lambda n, earlier, *rest: seen.append(earlier) or read(n, earlier, *rest)
    )
    for dtype in (torch.float32, torch.float64):
        with default_dtype(dtype):
            quantizer.read(ArithmeticDecoder(coder.finish()), (5, 4))
    assert len(seen) == 6 and all(map(torch.equal, seen[:3], seen[3:]))


def test_in_a_mixed_batch_images_with_all_stages_alone_move_the_encoder():
    quantizer = staged().train()
    quantizer.project_in.eval()
    given = torch.randn(6, 6, 4, 4, requires_grad=True)
    quantizer.mixed(given).features.square().sum().backward()
    assert given.grad.flatten(1).any(1).sum() == 2


@torch.no_grad()
def test_without_unit_length_distances_between_features_are_kept():
    torch.manual_seed(0)
    features = torch.randn(8, 6, 4, 4) * torch.tensor([5.0, 3, 2, 1, 0.5, 0.1])[:, None, None] + 2
    quantizer = ResidualQuantizer(codebook_sizes=[64, 64], channels=6, dimension=5, unit_length=False)
    quantizer(features)
    vectors = quantizer.eval()._vectors(features)
    torch.testing.assert_close(vectors.square().sum(1).mean(), torch.tensor(1.0), atol=1e-4, rtol=0)
    kept = quantizer._projected_out(vectors)
    torch.testing.assert_close(kept[:, :5], features[:, :5], atol=1e-4, rtol=1e-4)
    assert not kept[:, 5].any()
    quantized = quantizer(features)
    error = (quantized.features - features)[:, :5].square().sum(1).mean()
    torch.testing.assert_close(quantized.losses["commitment"] * quantizer.square, error, rtol=1e-3, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("unit_length", [True, False])
def test_mean_and_scale_stay_where_the_projection_is_frozen(unit_length):
    quantizer = staged(unit_length=unit_length).train()
    before = {name: value.clone() for name, value in quantizer.named_buffers() if name in ("mean", "square")}
    quantizer.project_in.eval()
    quantizer(torch.randn(6, 6, 8, 8) + 3)
    assert all(torch.equal(quantizer.get_buffer(name), value) for name, value in before.items())
    quantizer.project_in.train()
    quantizer(torch.randn(6, 6, 8, 8) * 2 + 3)
    assert not any(torch.equal(quantizer.get_buffer(name), value) for name, value in before.items())


@torch.no_grad()
def test_a_mixed_batch_is_shared_evenly_by_the_rates():
    quantizer = plain([[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5]] * 2, [[0.3, 0.3]] * 2).train()
    for stage in quantizer.stages:
        stage.decay = 1.0
    features = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(6, 2, 1, 1)
    quantizer.mean.copy_(torch.tensor([0.5, 0.5]))
    quantized = quantizer.mixed(features)
    sums = sorted(round(float(value), 3) for value in quantized.features[:, 1])
    assert sums[0] == sums[1] < sums[2] == sums[3] < sums[4] == sums[5]
    assert len(quantized.symbols.indices) == 3
    bits = quantized.bits.sort().values
    assert bits[0] == bits[1] < bits[2] == bits[3] < bits[4] == bits[5]
    alone = {round(float(quantizer.mixed(features[:1]).features[0, 1]), 1) for _ in range(60)}
    assert len(alone) == 3, "a batch of one draws any rate"


@torch.no_grad()
def test_an_entry_nobody_chooses_is_revived():
    codebook = EuclideanCodebook(2, 3, decay=0.5, revive_below=0.1, kmeans_iterations=0)
    codebook.filled.fill_(True)
    codebook.sums.copy_(torch.tensor([[1.0, 0, 0], [9.0, 9, 9]]))
    vectors = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0]]).repeat(4, 1)
    free = torch.zeros(8, 2)
    for _ in range(20):
        codebook.follow(vectors, codebook.nearest(vectors, free))
    assert codebook.entries.max() < 2
    assert codebook.nearest(vectors, free).unique().numel() == 2


@torch.no_grad()
def test_a_first_batch_of_few_vectors_leaves_something_for_the_next_stage():
    """As in training on small crops: fewer vectors than entries."""
    quantizer = ResidualQuantizer(codebook_sizes=[64, 8], channels=6, dimension=4)
    features = torch.randn(2, 6, 4, 4)
    one, two = (quantizer.train().at_rate(features, rate).losses["commitment"] for rate in (1, 2))
    entries = quantizer.stages[1].entries
    assert entries.norm(dim=1).min() > 0.01 and torch.pdist(entries).min() > 1e-4
    assert two < 0.7 * one


@pytest.mark.parametrize("rate", [0, 4])
def test_other_rates_are_refused(rate):
    with pytest.raises(ValueError, match=f"got the rate {rate}, but this codec has the rates 1 to 3"):
        staged().at_rate(torch.randn(1, 6, 4, 4), rate)
    with pytest.raises(ValueError, match="got the rate 2, but this codec has one rate"):
        FiniteScalarQuantizer(channels=6).eval().at_rate(torch.randn(1, 6, 4, 4), 2)


@pytest.mark.parametrize("sizes, blocks", [([], None), ([6], [1, 2]), ([6], [0])])
def test_stages_without_blocks_are_refused(sizes, blocks):
    with pytest.raises(ValueError, match="give codebook sizes, and for each a block of at least 1"):
        ResidualQuantizer(codebook_sizes=sizes, blocks=blocks)


@pytest.mark.parametrize(
    "arguments, problem",
    [
        ({"rate_weight": -1}, "rate_weight must be at least 0, got -1"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
    ],
)
def test_a_weight_or_a_number_out_of_range_is_refused(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        ResidualQuantizer(**arguments)
