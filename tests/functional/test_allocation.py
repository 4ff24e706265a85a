import numpy as np
import pytest
import torch

from ulcompress.functional.allocation import allocating


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: bytes(1 << 60),
        lambda: np.empty(1 << 58),
        lambda: torch.empty(1 << 58),
        lambda: torch.empty(1 << 61, 1 << 61),
        lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the manual")),
    ],
)
def test_every_failed_allocation_is_one_line(allocate):
    told = r"^not enough memory for photo\.png; take a smaller image"
    with pytest.raises(MemoryError, match=told) as raised, allocating("photo.png"):
        allocate()
    assert "\n" not in str(raised.value)


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="shape"), allocating("photo.png"):
        torch.zeros(2, 3).view(7)


def _raise(error):
    raise error
