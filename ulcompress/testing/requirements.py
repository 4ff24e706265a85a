"""What the checks of all slots share: a copy to work on, and requirements that fail with one sentence."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import jsonargparse
import torch
from torch import Tensor, nn

from ulcompress.functional.lines import one_line
from ulcompress.part import Part

AnyPart = TypeVar("AnyPart", bound=Part)


@contextmanager
def copy_of(part: AnyPart) -> Iterator[AnyPart]:
    """Yield a copy of a part in evaluation mode; random numbers follow from a seed until the context ends."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield copy.deepcopy(part).cpu().eval()


@torch.no_grad()
def randomize_zeros(part: nn.Module) -> None:
    """Give parameters that begin at zero random weights, since they hide what lies behind them."""
    for parameter in part.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)


def rebuilt(part: AnyPart, slot: type) -> AnyPart:
    """Build a part again from its configuration, as a codec directory does, and give it the same weights."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=slot)
    try:
        again = parser.instantiate(parser.parse_object({"part": part.config()})).part
        again.load_state_dict(part.state_dict())
    except Exception as error:
        raise AssertionError(
            f"{type(part).__name__} cannot be built again from its config(), as a saved codec needs: {one_line(error)}"
        ) from error
    require(again.config() == part.config(), part, "has another config() once it is built again from its own")
    return again.eval()


def require(holds: bool | Tensor, part: Part, sentence: str) -> None:
    """Raise AssertionError, the part's class before the sentence, unless a condition holds."""
    if not holds:
        raise AssertionError(f"{type(part).__name__} {sentence}")


def require_declared(terms: Iterable[str], declared: frozenset[str], part: Part) -> None:
    """Require a part to name its loss terms, so that a weight of a term that does not exist can be refused."""
    missing = sorted({*terms} - declared)
    require(not missing, part, f"returns the loss terms {', '.join(missing)}, which its `loss_terms` do not name")


def require_close(one: Tensor, other: Tensor, part: Part, sentence: str, tolerance: float = 1e-5) -> None:
    """Require two tensors of one shape to be equal up to rounding."""
    require(one.shape == other.shape, part, f"{sentence} (shapes {tuple(one.shape)} and {tuple(other.shape)})")
    close = torch.allclose(one, other, rtol=tolerance, atol=tolerance)
    require(close, part, f"{sentence} (they differ by up to {_distance(one, other):.2g})")


def require_same(one: Any, other: Any, part: Part, sentence: str) -> None:
    """Require two tensors, or records, lists and dictionaries of them, to be equal to the last bit."""
    require(equal(one, other), part, sentence)


def require_refusal(call: Callable[[], Any], part: Part, sentence: str) -> None:
    """Require a call to raise ValueError."""
    try:
        call()
    except ValueError:
        return
    require(False, part, sentence)


def require_gradients(tensors: Mapping[str, Tensor], part: Part) -> None:
    """Require a finite gradient other than zero on every tensor, after a backward pass."""
    for name, tensor in tensors.items():
        gradient = tensor.grad
        require(gradient is not None and gradient.any(), part, f"passes no gradient to {name}, which then never learns")
        require(
            gradient is not None and gradient.isfinite().all(), part, f"passes {name} a gradient that is not finite"
        )


def trained_parameters(part: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are not frozen, by name."""
    return {name: parameter for name, parameter in part.named_parameters() if parameter.requires_grad}


@contextmanager
def unchanged_state(part: Part) -> Iterator[None]:
    """Require what happens inside to leave the parameters and buffers of a part as they are."""
    before = copy.deepcopy(part.state_dict())
    yield
    after = part.state_dict()
    changed = [name for name in before if name not in after or not equal(before[name], after[name])]
    require(not changed, part, f"changes its {', '.join(changed)} in evaluation mode, in which nothing may change")


def equal(one: Any, other: Any) -> bool:
    """Compare tensors, or records, lists and dictionaries of them, to the last bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if hasattr(one, "__dict__") and type(one) is type(other):
        return equal(vars(one), vars(other))
    return one == other


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a tensor, or of a record, list or dictionary of them."""
    if isinstance(value, Tensor):
        yield value
        return
    parts = value.values() if isinstance(value, dict) else getattr(value, "__dict__", {}).values()
    for part in value if isinstance(value, (list, tuple)) else parts:
        yield from tensors_in(part)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())
