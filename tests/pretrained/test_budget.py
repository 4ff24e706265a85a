import pytest
import torch

from ulcompress.pretrained.budget import TensorBudget

MAKERS = {
    "zeros": lambda: torch.zeros(3, 7),
    "eye": lambda: torch.eye(5),
    "eye with another side": lambda: torch.eye(5, 4),
    "range": lambda: torch.arange(20),
    "range from a start": lambda: torch.arange(3, 20),
    "range by steps": lambda: torch.arange(3, 21, 4),
    "range of fractions": lambda: torch.arange(0.0, 1.0, 0.3),
    "linspace": lambda: torch.linspace(0, 1, 11),
    "window": lambda: torch.hann_window(9),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_elements_are_counted_before_they_are_allocated(make):
    count = make().numel()
    with TensorBudget(tensors=9, elements=2 * count):
        make()
    with pytest.raises(ValueError, match="many times larger than its weights"), TensorBudget(tensors=9, elements=count):
        for _ in range(2):
            make()
