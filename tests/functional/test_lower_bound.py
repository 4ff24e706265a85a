import torch

from ulcompress.functional.lower_bound import LowerBound


def test_values_below_the_bound_become_the_bound():
    assert LowerBound(0.5)(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0.5, 0.5, 2.0]


def test_below_the_bound_only_a_gradient_that_lifts_passes():
    x = torch.tensor([-1.0, -1.0, 2.0, 2.0], requires_grad=True)
    (LowerBound(0.5)(x) * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, -1.0, 1.0, -1.0]
