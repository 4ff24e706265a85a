"""Reductions over the processes of a training; a single process gets its values back."""

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, distributed

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if together() else 1


def together() -> bool:
    """Return whether torch.distributed runs, as it does for a strategy such as DDP even in a single process."""
    return distributed.is_available() and distributed.is_initialized()


def is_first() -> bool:
    """Return whether this is the first process, which alone writes to the terminal."""
    return not together() or distributed.get_rank() == 0


def summed(value: Tensor) -> Tensor:
    """Sum over processes, in place, without a gradient."""
    if world_size() > 1:
        distributed.all_reduce(value)
    return value


def mean_with_gradient(value: Tensor) -> Tensor:
    """Average over processes, including the gradient, which DDP's averaging then makes that of a single process."""
    if world_size() == 1:
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value) / world_size()


def of_first(value: Tensor) -> Tensor:
    """Replace the value, in place, by the first process's."""
    if world_size() > 1:
        distributed.broadcast(value, src=0)
    return value


def gathered(values: Sequence[T]) -> list[T]:
    """Return the values of all processes, those of the first one first."""
    if world_size() == 1:
        return list(values)
    shares: list[Any] = [None] * world_size()
    distributed.all_gather_object(shares, list(values))
    return [value for share in shares for value in share]
