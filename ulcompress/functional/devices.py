"""Devices and precisions of torch, as users name them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def dtype_of(name: str) -> torch.dtype:
    """Return the precision of that name; ValueError for any but float32, float16 and bfloat16."""
    if name not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"dtype must be float32, float16 or bfloat16, got {name!r}")
    return getattr(torch, name)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let new floating-point tensors have a precision, whatever the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def check_device(device: str | torch.device) -> None:
    """Raise ValueError for a device that cannot be used."""
    move(nn.Linear(1, 1), device)


def device_of_rank(device: str, rank: int) -> str:
    """Return the device of one of several processes, by its number: of several GPUs one each; any other is shared."""
    return f"cuda:{rank % max(1, torch.cuda.device_count())}" if device == "cuda" else device


def move(module: nn.Module, device: str | torch.device) -> None:
    """Move a module's parameters and buffers to a device; ValueError where it cannot be used."""
    try:
        module.to(device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without that device
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot use the device {str(device)!r}: {reason}; `cpu` always works") from error


def at_once(count: int, device: torch.device) -> int:
    """Return how many of something to compute at once where `count` of them suit a processor's cache.

    A GPU takes 32 times as many, since each part costs the start of its kernels.
    """
    return count if device.type == "cpu" else 32 * count
