import pytest
import torch

from ulcompress.functional.cosine_transform import cosine_basis


@pytest.mark.parametrize("side, count", [(1, 3), (4, 48), (8, 16), (16, 64)])
def test_functions_are_orthonormal_and_in_the_order_of_their_use(side, count):
    functions, deviations = cosine_basis(side, count)
    assert functions.shape == (count, 3, side, side) and deviations.shape == (count,)
    torch.testing.assert_close(functions.flatten(1) @ functions.flatten(1).T, torch.eye(count), atol=1e-5, rtol=0)
    assert (deviations.diff() <= 1e-6).all() and deviations.min() > 0
    first = functions[0]
    torch.testing.assert_close(first, torch.full_like(first, (3 * side**2) ** -0.5))


def test_all_functions_restore_any_block():
    functions, _ = cosine_basis(4, 48)
    block = torch.rand(48, generator=torch.Generator().manual_seed(0))
    basis = functions.flatten(1)
    torch.testing.assert_close(basis.T @ (basis @ block), block)


def test_deviations_are_those_of_the_model():
    """Of Markov fields in three colours, drawn."""
    generator = torch.Generator().manual_seed(0)
    position = torch.arange(8.0)
    factor = torch.linalg.cholesky(0.95 ** (position[:, None] - position).abs())
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
    colours = colours / colours.norm(dim=1, keepdim=True) * torch.tensor([[0.42], [0.09], [0.06]])
    white = torch.randn(20000, 3, 8, 8, generator=generator)
    fields = torch.einsum("nkij,yi,xj,kc->ncyx", white, factor, factor, colours)
    functions, deviations = cosine_basis(8, 40)
    found = (fields.flatten(1) @ functions.flatten(1).T).std(0)
    torch.testing.assert_close(found, deviations, rtol=0.03, atol=0)


@pytest.mark.parametrize("count", [0, 13])
def test_more_functions_than_there_are_are_refused(count):
    with pytest.raises(ValueError, match=f"blocks of 2 pixels have 1 to 12 cosine functions, got {count}"):
        cosine_basis(2, count)
