from itertools import pairwise

import jsonargparse
import pytest
import torch

from ulcompress.diffusion import BoundaryControl
from ulcompress.diffusion.boundary import NOISES, WINDOWS, starts
from ulcompress.diffusion.noise import gaussian_canvas

SIZES = [(3, 5), (8, 8), (9, 8), (8, 30), (17, 23), (40, 11)]


def control(**changes):
    return BoundaryControl(**{"patch": 8, "overlap": 3} | changes)


def cut(values):
    return lambda rows, columns: values[..., rows, columns]


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


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_identity_is_reproduced(height, width, overlap, window):
    values = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    merged = control(overlap=overlap, window=window).merge(cut(values), height, width)
    torch.testing.assert_close(merged, values)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_precision_is_kept(window, dtype):
    values = torch.randn(1, 3, 20, 9, dtype=dtype)
    merged = BoundaryControl(patch=8, overlap=0, window=window).merge(cut(values), 20, 9)
    assert merged.dtype == dtype
    torch.testing.assert_close(merged, values)


@pytest.mark.parametrize("height, width", SIZES)
def test_every_position_is_asked_for_within_the_map(height, width):
    covered = torch.zeros(height, width)

    def count(rows, columns):
        assert rows.stop - rows.start == min(8, height)
        assert columns.stop - columns.start == min(8, width)
        assert rows.start >= 0 and rows.stop <= height and columns.start >= 0 and columns.stop <= width
        covered[rows, columns] += 1
        return covered[None, None, rows, columns]

    control().merge(count, height, width)
    assert covered.min() >= 1


def test_a_map_that_fits_is_asked_for_once_and_not_weighted():
    values = torch.randn(1, 1, 8, 6)
    assert torch.equal(control().merge(cut(values), 8, 6), values)


@pytest.mark.parametrize(
    "window, between",
    [
        ("linear", [1 / 3, 2 / 3]),
        ("uniform", [1 / 2, 1 / 2]),
        # Positions 5 and 6 of the left patch are 1.5 and 2.5 from its centre, 2.5 and 1.5 from that of the right one;
        # a standard deviation is 0.6.
        ("gaussian", [1 / (1 + 2.71828 ** (4 / 0.72)), 1 / (1 + 2.71828 ** (-4 / 0.72))]),
    ],
)
def test_two_patches_blend_by_the_window(window, between):
    """Patches of 6 that overlap by 2 on 10 columns: 0 on the left, 1 on the right."""

    def side(rows, columns):
        return torch.full((1, 1, 1, 6), float(columns.start > 0))

    merged = BoundaryControl(patch=6, overlap=2, window=window).merge(side, 1, 10)
    torch.testing.assert_close(merged[0, 0, 0], torch.tensor([0, 0, 0, 0, *between, 1, 1, 1, 1]))


def test_gradients_pass_through_the_merge():
    values = torch.randn(1, 2, 12, 11, requires_grad=True)
    control().merge(cut(values), 12, 11).sum().backward()
    torch.testing.assert_close(values.grad, torch.ones_like(values))


def test_a_canvas_is_the_noise_of_the_seed():
    assert torch.equal(control().noise_of((1, 4, 20, 9), 7), gaussian_canvas((1, 4, 20, 9), 7))


def test_regular_patches_share_one_tile_of_noise():
    boundary = control(noise="shared_tile")
    noise = boundary.noise_of((1, 2, 19, 18), 7)  # starts: 0, 5, 10, 11 and 0, 5, 10
    first = noise[..., :8, :8]
    for top in (0, 5, 10):
        for left in (0, 5, 10):
            assert torch.equal(noise[..., top : top + 8, left : left + 8], first)
    assert first[..., :5, :5].unique().numel() == 2 * 5 * 5
    assert noise.dtype == torch.float32


def test_a_shared_tile_does_not_depend_on_the_size_of_the_map():
    boundary = control(noise="shared_tile")
    large = boundary.noise_of((1, 2, 40, 33), 7)
    assert torch.equal(boundary.noise_of((1, 2, 4, 17), 7), large[..., :4, :17])
    assert not torch.equal(boundary.noise_of((1, 2, 40, 33), 8), large)


def test_zero_noise():
    assert torch.equal(control(noise="zero").noise_of((1, 2, 9, 4), 7), torch.zeros(1, 2, 9, 4))


@pytest.mark.parametrize("noise", ["canvas", "shared_tile"])
def test_scale_multiplies_the_noise(noise):
    full, part = (control(noise=noise, scale=scale).noise_of((1, 2, 12, 9), 7) for scale in (1.0, 0.8))
    torch.testing.assert_close(part, 0.8 * full)


@pytest.mark.parametrize("noise", ["canvas", "shared_tile"])
def test_a_stored_seed_goes_before_that_of_the_file(noise):
    stored = control(noise=noise, seed=0)
    assert torch.equal(stored.noise_of((1, 2, 12, 9), 7), control(noise=noise).noise_of((1, 2, 12, 9), 0))


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_that_leaves_no_progress_is_refused(overlap):
    with pytest.raises(ValueError, match=f"at least 0 and less than the patch of 8, got {overlap}"):
        control(overlap=overlap)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"window": "hann"}, f"window must be one of {', '.join(WINDOWS)}, got 'hann'"),
        ({"noise": "white"}, f"noise must be one of {', '.join(NOISES)}, got 'white'"),
        ({"scale": -0.5}, "scale must be at least 0, got -0.5"),
        ({"seed": -1}, r"seed must be 0 to 2\*\*64 - 1, got -1"),
        ({"seed": 2**64}, r"seed must be 0 to 2\*\*64 - 1"),
    ],
)
def test_unknown_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        control(**wrong)


def test_a_configuration_needs_no_class_path():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--boundary", type=BoundaryControl | None)
    given = {"patch": 96, "overlap": 16}
    boundary = parser.instantiate(parser.parse_object({"boundary": given})).boundary
    assert boundary.arguments() == given | {"window": "linear", "noise": "canvas", "scale": 1.0, "seed": None}
