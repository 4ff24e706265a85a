import pytest
import torch

from ulcompress.functional.usage import perplexity, usage


@pytest.mark.parametrize(
    "symbols, even, share",
    [
        ([[3, 3], [3, 3]], 1.0, 1 / 8),
        ([[0, 1], [2, 7]], 4.0, 4 / 8),
        (list(range(8)), 8.0, 1.0),
        ([0, 0, 0, 1], 4 / 3**0.75, 2 / 8),
    ],
)
def test_by_hand(symbols, even, share):
    symbols = torch.tensor(symbols)
    assert float(perplexity(symbols)) == pytest.approx(even)
    assert float(usage(symbols, 8)) == pytest.approx(share)
    assert perplexity(symbols).shape == usage(symbols, 8).shape == ()
