from itertools import pairwise

import pytest
import torch

from ulcompress.diffusion.patches import in_patches, starts

SIZES = [(3, 5), (8, 8), (9, 8), (8, 30), (17, 23), (40, 11)]


@pytest.mark.parametrize(
    "length, expected",
    [(1, [0]), (8, [0]), (9, [0, 1]), (13, [0, 5]), (14, [0, 5, 6]), (18, [0, 5, 10])],
)
def test_starts(length, expected):
    assert starts(length, patch=8, overlap=3) == expected


@pytest.mark.parametrize("overlap", range(8))
@pytest.mark.parametrize("length", range(1, 40))
def test_neighbours_overlap_and_everything_is_covered(length, overlap):
    tops = starts(length, patch=8, overlap=overlap)
    assert tops[0] == 0
    assert tops[-1] == max(0, length - 8)
    assert all(0 < after - before <= 8 - overlap for before, after in pairwise(tops))


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_identity_is_reproduced(height, width, overlap):
    values = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    merged = in_patches(lambda rows, columns: values[..., rows, columns], height, width, patch=8, overlap=overlap)
    torch.testing.assert_close(merged, values)


@pytest.mark.parametrize("height, width", SIZES)
def test_a_constant_stays_constant(height, width):
    def constant(rows, columns):
        return torch.full((1, 2, rows.stop - rows.start, columns.stop - columns.start), 0.3)

    merged = in_patches(constant, height, width, patch=8, overlap=3)
    torch.testing.assert_close(merged, torch.full((1, 2, height, width), 0.3))


@pytest.mark.parametrize("height, width", SIZES)
def test_every_position_is_asked_for_within_the_map(height, width):
    covered = torch.zeros(height, width)

    def count(rows, columns):
        assert rows.stop - rows.start == min(8, height)
        assert columns.stop - columns.start == min(8, width)
        assert rows.start >= 0 and rows.stop <= height and columns.start >= 0 and columns.stop <= width
        covered[rows, columns] += 1
        return covered[None, None, rows, columns]

    in_patches(count, height, width, patch=8, overlap=3)
    assert covered.min() >= 1


def test_a_map_that_fits_is_asked_for_once_and_not_weighted():
    values = torch.randn(1, 1, 8, 6)
    merged = in_patches(lambda rows, columns: values[..., rows, columns], 8, 6, patch=8, overlap=3)
    assert torch.equal(merged, values)


def test_two_patches_blend_linearly():
    """Patches of 6 that overlap by 2 on 10 columns: 0 on the left, 1 on the right, thirds between."""

    def side(rows, columns):
        return torch.full((1, 1, 1, 6), float(columns.start > 0))

    merged = in_patches(side, 1, 10, patch=6, overlap=2)
    torch.testing.assert_close(merged[0, 0, 0], torch.tensor([0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1]))


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_that_leaves_no_progress_is_refused(overlap):
    with pytest.raises(ValueError, match=f"at least 0 and less than the patch of 8, got {overlap}"):
        in_patches(lambda rows, columns: torch.zeros(1, 1, 1, 1), 4, 4, patch=8, overlap=overlap)
