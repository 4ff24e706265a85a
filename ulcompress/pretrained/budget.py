"""A limit on the memory that is allocated while networks are built from an untrusted configuration."""

from math import ceil, prod
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorBudget(TorchDispatchMode):
    """A context that limits the number of new tensors, and their elements altogether.

    Tensors that are computed from others are not counted: their sizes are about the same.
    """

    def __init__(self, *, tensors: int, elements: int):
        """Set the limits; beyond them ValueError is raised before the allocation."""
        super().__init__()
        self.tensors = tensors
        self.elements = elements

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: torch would import its compiler, which takes a second, only to leave this mode out of it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if "device" in kwargs and not any(isinstance(leaf, Tensor) for leaf in tree_leaves([args, kwargs])):
            self.tensors -= 1
            self.elements -= _elements(func, args, kwargs)
            if min(self.tensors, self.elements) < 0:
                raise ValueError("it asks for networks that are many times larger than its weights")
        return func(*args, **kwargs)


def _elements(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Return how many elements a function returns that makes a tensor from nothing."""
    if args and isinstance(args[0], (list, tuple)):
        return prod(args[0])
    # Some are written in Python for the device "meta", and would take a second to import.
    name, names = func._schema.name, [argument.name for argument in func._schema.arguments]
    if name == "aten::eye":
        return args[0] * args[-1]
    if name == "aten::arange":
        return _length(*args)
    if "steps" in names:  # `linspace` and `logspace`
        return args[names.index("steps")]
    return func(*args, **kwargs | {"device": "meta", "pin_memory": None}).numel()


def _length(first: float, last: float | None = None, step: float = 1) -> int:
    """Return how many numbers a range has."""
    first, last = (0, first) if last is None else (first, last)
    return max(0, ceil((last - first) / step))
