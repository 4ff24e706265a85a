import pytest
import torch
from torch import nn

from ulcompress.entropy.exact import bounded, exact, on_grid, on_saved_grid
from ulcompress.entropy.lattice import Lattice, LatticeNetwork


def network(earlier_channels):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(earlier_channels + 4, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
    return trunk.append(nn.ReLU()), nn.Conv2d(6, 5, 1)


def whole(trunk, seen, caption):
    """The layers up to the last, evaluated everywhere; the caption is added between the first and the second."""
    weight, bias = on_saved_grid(trunk[0])
    first = nn.functional.conv2d(bounded(seen), weight, bias, padding=2) + caption[..., None, None]
    return exact(trunk[1:], first)


@torch.no_grad()
@pytest.mark.parametrize("at_once", [1, 1 << 11])
@pytest.mark.parametrize("earlier_channels", [0, 2])
@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 6), (2, 1), (5, 4), (8, 7)])
def test_scores_are_those_of_the_whole_network_evaluated_exactly(rows, columns, earlier_channels, at_once, monkeypatch):
    monkeypatch.setattr("ulcompress.entropy.lattice.AT_ONCE", at_once)
    trunk, head = network(earlier_channels)
    earlier, entries = 100 * torch.randn(2, earlier_channels, rows, columns), torch.randn(7, 3)
    indices = torch.randint(7, (2, rows * columns))
    caption = on_grid(torch.randn(2, 6))
    ours = LatticeNetwork(trunk, head, earlier, entries, caption)
    known, positions = torch.zeros(rows, columns), torch.arange(rows * columns)
    for lattices in ([Lattice(0, 0)], [Lattice(1, 1)], [Lattice(0, 1), Lattice(1, 0)]):
        of_entries = entries[indices].movedim(-1, 1).unflatten(2, (rows, columns)) * known
        seen = torch.cat([earlier, of_entries, known.expand(2, 1, rows, columns)], 1)
        expected = exact(head, whole(trunk, seen, caption)).flatten(2).movedim(1, 2)
        drawn = positions[torch.randperm(len(positions))]
        assert torch.equal(ours.scores(drawn), expected[:, drawn])
        for lattice in lattices:
            lattice.of(known).fill_(1)
        now = torch.cat([lattice.of(positions.view(rows, columns)).flatten() for lattice in lattices])
        ours.add(now, indices)


def test_weights_too_large_for_exact_sums_are_refused():
    trunk, head = network(0)
    with torch.no_grad():
        trunk[2].weight.fill_(60000)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="weights of a Conv2d are too large for exact sums"):
        LatticeNetwork(trunk, head, torch.zeros(1, 0, 2, 2), torch.randn(7, 3), torch.zeros(1, 6))
