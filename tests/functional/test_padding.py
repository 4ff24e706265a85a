import torch

from ulcompress.functional.padding import pad_to_minimum, pad_to_multiple

IMAGE = torch.arange(12.0).view(1, 1, 3, 4)


def test_sides_become_multiples_by_reflection():
    padded = pad_to_multiple(IMAGE, 4)
    assert torch.equal(padded[..., :3, :], IMAGE) and torch.equal(padded[..., 3, :], IMAGE[..., 1, :])
    assert pad_to_multiple(IMAGE, 4, minimum=5).shape == (1, 1, 8, 8)


def test_only_sides_below_the_minimum_grow():
    assert torch.equal(pad_to_minimum(IMAGE, 3), IMAGE)
    assert pad_to_minimum(IMAGE, 4).shape == (1, 1, 4, 4)


def test_a_border_is_repeated_where_the_image_is_too_small_for_reflection():
    assert pad_to_minimum(IMAGE, 9)[0, 0, -1].tolist() == [8, 9, 10, 11, 11, 11, 11, 11, 11]
