import copy
from math import log2

import numpy as np
import pytest
import torch

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import ContextModel
from ulcompress.entropy.context import _COUNT_BITS, _POWERS, _STEPS, _costs, _passes, tables_of


def model(*, train=False, stages=((6, 0, 3), (5, 3, 3)), scale=2.0, words=0):
    """A model whose scores differ from position to position."""
    torch.manual_seed(0)
    model = ContextModel(width=8, words=words)
    model.build(stages)
    for head in model.heads:
        torch.nn.init.normal_(head.weight, std=scale)
    for caption in model.captions:
        torch.nn.init.normal_(caption.vectors)
    return model.train(train)


def codebook(size):
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(1))


def drawn(size, *shape):
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 4), (3, 2), (5, 7)])
def test_every_position_is_in_one_pass_after_what_it_looks_at(rows, columns, by_rows):
    passes = list(_passes(rows, columns, by_rows=by_rows))
    assert torch.cat(passes).sort().values.tolist() == list(range(rows * columns))
    number = torch.zeros(rows * columns, dtype=torch.int64)
    for k, positions in enumerate(passes):
        number[positions] = k
    number = number.view(rows, columns)
    assert number[0, 0] == 0
    for row in range(rows):
        for column in range(columns):
            if (row + column) % 2:
                around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
                inside = [number[r, c] for r, c in around if 0 <= r < rows and 0 <= c < columns]
                assert all(other < number[row, column] for other in inside)


def test_no_count_is_so_near_a_half_that_a_library_could_round_it_another_way():
    exact = np.exp2(np.longdouble(_COUNT_BITS) - np.arange(_STEPS, dtype=np.longdouble) / _STEPS)
    assert abs(exact % 1 - 0.5).min() > 1e-5
    np.testing.assert_array_equal(_POWERS, exact.round())


def test_tables_are_the_probabilities_that_the_scores_mean():
    scores = torch.tensor([[0.0, -1, -2, -2], [3, 3, 3, 3], [0, -60, -60, -8000]], dtype=torch.float64)
    costs = tables_of(scores).costs
    np.testing.assert_allclose(costs[0], [1, 2, 3, 3], atol=1e-3)
    np.testing.assert_allclose(costs[1], 2, atol=1e-3)
    assert costs[2][0] < 0.001 and (costs[2][1:] <= 24).all(), "nothing is impossible"
    np.testing.assert_allclose(_costs(scores)[0], [1, 2, 3, 3], atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("stage, size, channels", [(0, 6, 0), (1, 5, 3)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 5), (4, 4)])
def test_indices_come_back_at_the_cost_that_was_told(stage, size, channels, grid):
    context, entries = model(), codebook(size)
    given, indices, told = torch.randn(1, channels, *grid), drawn(size, 1, *grid), []

    def choose(positions, costs):
        own = indices.flatten(1)[:, positions]
        told.append(costs.gather(-1, own[..., None]).sum())
        return own

    assert torch.equal(context.scan(stage, given, entries, choose), indices)
    encoder = ArithmeticEncoder()
    context.write(stage, given, entries, indices, encoder)
    data = encoder.finish()
    again = context.read(stage, given, entries, ArithmeticDecoder(data))
    assert again.dtype == torch.int64
    assert torch.equal(again, indices)
    assert abs(8 * len(data) - float(sum(told))) <= 9
    assert abs(float(sum(told)) - grid[0] * grid[1] * log2(size)) > 0.01, "not merely the length of an index"


def written(context, given, entries, indices, captions=None):
    encoder = ArithmeticEncoder()
    context.write(1, given, entries, indices, encoder, captions)
    return encoder.finish()


@torch.no_grad()
@pytest.mark.parametrize("words", [0, 40])
def test_the_bytes_depend_on_nothing_but_weights_in_half_precision(threads, monkeypatch, words):
    context, entries = model(words=words), codebook(5)
    given, indices, captions = torch.randn(1, 3, 9, 6), drawn(5, 1, 9, 6), ["A red cup, and a red saucer"]
    loaded = copy.deepcopy(context).half().float()
    messages = {written(part, given, entries, indices, captions) for part in (context, loaded)}
    threads(2)
    messages.add(written(context, given, entries, indices, captions))
    messages.add(written(copy.deepcopy(context).train(), given, entries, indices, captions))
    monkeypatch.setattr("ulcompress.entropy.context.SCORES", 64 * 6 * 2)  # parts of the scores
    monkeypatch.setattr("ulcompress.entropy.lattice.AT_ONCE", 12)  # strips of two rows
    messages.add(written(context, given, entries, indices, captions))
    assert len(messages) == 1
    decoder = ArithmeticDecoder(messages.pop())
    assert torch.equal(context.train().read(1, given, entries, decoder, captions), indices)


@torch.no_grad()
def test_what_is_next_to_impossible_costs_what_the_tables_say():
    context, entries, given = model(), codebook(5), torch.randn(1, 3, 2, 2)
    context.heads[1].bias[3] = -60
    told, indices = [], torch.full((1, 2, 2), 3)

    def choose(positions, costs):
        told.append(costs[..., 3].sum())
        return indices.flatten(1)[:, positions]

    context.scan(1, given, entries, choose)
    assert abs(8 * len(written(context, given, entries, indices)) - float(sum(told))) <= 9


def costs_of(context, given, entries, captions=None):
    found = []
    context.scan(1, given, entries, lambda _, bits: found.append(bits) or bits.argmin(-1), captions)
    return torch.cat(found, 1)


@torch.no_grad()
def test_training_sees_what_use_sees(monkeypatch):
    monkeypatch.setattr("ulcompress.entropy.words.DROPOUT", 0)
    context, entries, given = model(words=40), codebook(5), torch.randn(2, 3, 4, 4)
    captions = ["a red cup", "a cat on a chair"]
    costs = {train: costs_of(context.train(train), given, entries, captions) for train in (True, False)}
    torch.testing.assert_close(costs[True], costs[False], atol=0.05, rtol=0)


@torch.no_grad()
def test_without_a_caption_the_bytes_are_those_of_a_model_that_reads_none():
    context, without, entries = model(words=40), model(), codebook(5)
    given, indices = torch.randn(1, 3, 4, 6), drawn(5, 1, 4, 6)
    expected = written(without, given, entries, indices, ["a red cup"])
    assert written(context, given, entries, indices) == written(context, given, entries, indices, [" .!"]) == expected
    assert written(context, given, entries, indices, ["a red cup"]) != expected


@torch.no_grad()
def test_each_image_of_a_batch_has_its_own_caption():
    context, entries, given = model(words=40), codebook(5), torch.randn(2, 3, 4, 4)
    captions = ["a red cup", "a cat on a chair"]
    together = costs_of(context.eval(), given, entries, captions)
    for number, caption in enumerate(captions):
        assert torch.equal(costs_of(context, given[number, None], entries, [caption])[0], together[number])


def test_it_learns_what_neighbours_and_earlier_stages_tell():
    """Images of one index each, told by the earlier stages in half of them."""
    context, entries = model(train=True, stages=((6, 0, 3), (6, 3, 3)), scale=0.01), codebook(6)
    optimizer = torch.optim.Adam(context.parameters(), 0.02)

    def bits(stage):
        kinds = torch.randint(6, (16, 1, 1))
        indices, told = kinds.expand(16, 4, 4), []
        given = entries[kinds[:, :, 0]].movedim(-1, 1)[..., None].expand(16, 3, 4, 4)[:, : 3 * stage]

        def choose(positions, costs):
            own = indices.flatten(1)[:, positions]
            told.append(costs.gather(-1, own[..., None])[..., 0].mean())
            return own

        context.scan(stage, given, entries, choose)
        return torch.stack(told)

    for _ in range(60):
        optimizer.zero_grad()
        (bits(0).sum() + bits(1).sum()).backward()
        optimizer.step()
    first, second = bits(0).detach(), bits(1).detach()
    assert first[0] > 2, "nothing tells the index of a position that comes first"
    assert first[1:].max() < 0.3
    assert second.max() < 0.3


def test_it_learns_what_a_caption_tells():
    words = ["zebra", "harbour", "kitchen"]
    context, entries = model(train=True, stages=((3, 0, 3),), scale=0.01, words=64), codebook(3)
    optimizer = torch.optim.Adam(context.parameters(), 0.02)

    def bits(captions):
        chosen, told = torch.tensor([words.index(c) if c in words else 0 for c in captions]), []

        def choose(positions, costs):
            own = chosen[:, None].expand(-1, len(positions))
            told.append(costs.gather(-1, own[..., None])[..., 0].mean())
            return own

        context.scan(0, torch.zeros(len(captions), 0, 4, 4), entries, choose, captions)
        return torch.stack(told)

    for _ in range(60):
        optimizer.zero_grad()
        bits(words * 4).sum().backward()
        optimizer.step()
    context.eval()
    assert bits(words)[0] < 0.3
    assert bits([""])[0] > 0.5, "without a caption nothing tells the first indices"


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="words of a ContextModel must be 0 or more, got -1"):
        ContextModel(words=-1)
    with pytest.raises(ValueError, match="width of a ContextModel must be at least 1, got 0"):
        ContextModel(width=0)
    with pytest.raises(ValueError, match="codebooks of at most 8192 entries, got 9000"):
        ContextModel().build([(9000, 0, 4)])
