"""The contract of a conditioner, as checks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ulcompress.coding.arithmetic import ArithmeticDecoder
from ulcompress.conditioning.base import Conditioner
from ulcompress.records import Condition, Source
from ulcompress.testing.conditions import random_condition
from ulcompress.testing.messages import message_of, require_bits, require_cost
from ulcompress.testing.requirements import (
    copy_of,
    rebuilt,
    require,
    require_close,
    require_same,
    unchanged_state,
)

CAPTIONS = ["a red cup on a table", "a cat on a red chair", None, "", "two cups, and much more than fits: ÄÖÜ 一只狗"]
STRIDE, GRID = 16, (2, 3)
"""Of the features, for a conditioner that takes any."""
CHANNELS = 6
"""Of the features, for a conditioner that takes any, and of fields that it requires; 3 of a base."""


def check_conditioner(conditioner: Conditioner, *, channels: Mapping[str, int] | None = None) -> None:
    """Check that a conditioner keeps its contract; the conditioner itself is left as it is.

    - `forward` sets the fields that `provides` names, in training too, with the `channels` that it tells, and leaves
      other fields as they are;
    - side information that is written and read back is equal and gives the same condition, at the estimated bits, up to
      1 and a thousandth; what sends nothing (`sends` is False) writes nothing and has no bits;
    - `nothing()` is side information too, of one image: it is written, read back and used;
    - the estimated bits are finite, not negative, one number an image;
    - an image's fields and bits do not depend on its batch, and in evaluation mode nothing is drawn;
    - evaluation changes no state;
    - `config()` builds an equal conditioner, which reads what this one wrote.

    Args:
        conditioner: One whose tables, such as a vocabulary, are prepared.
        channels: Of the fields that it requires, 6 where nothing is said; 3 of a base.

    Raises:
        AssertionError: It does not; the message says what it did and what the contract wants.
    """
    with copy_of(conditioner) as part:
        case = _Case(part, channels or {})
        _sets_what_it_provides(case)
        _tells_its_channels(case)
        for caption in range(len(CAPTIONS)):
            _reads_what_it_wrote(case, case.side([caption]))
        _reads_what_it_wrote(case, part.nothing())
        _estimates_bits_of_each_image(case)
        _images_are_independent(case)
        _is_deterministic(case)
        _evaluation_changes_nothing(case)
        _is_built_again(case, rebuilt(part, Conditioner))
        _provides_in_training(case)


class _Case:
    """A conditioner and one batch for it."""

    def __init__(self, part: Conditioner, channels: Mapping[str, int]):
        count, stride = len(CAPTIONS), part.feature_stride or STRIDE
        size = GRID[0] * stride, GRID[1] * stride
        self.part = part
        self.image = torch.rand(count, 3, *size)
        self.latent = torch.randn(count, 4, size[0] // 8, size[1] // 8)
        self.features = torch.randn(count, part.feature_channels or CHANNELS, *GRID)
        required = {"base": 3, **dict.fromkeys(part.requires - {"base"}, CHANNELS), **channels}
        known = {name: required[name] for name in part.requires}
        self.before = random_condition(known, size, count=count, coarser=stride)

    def earlier(self, images: list[int]) -> Condition:
        """Return what earlier conditioners set for some images."""
        return self.before.of(torch.tensor(images))

    def side(self, images: list[int]) -> Any:
        """Return the side information of some images."""
        source = Source(self.image[images], self.latent[images], [CAPTIONS[n] for n in images])
        return self.part.encode(source, self.earlier(images))

    def after(self, side: Any, images: list[int], part: Conditioner | None = None) -> Condition:
        """Return the condition of some images."""
        return (part or self.part)(side, self.features[images], self.earlier(images))


ALL = list(range(len(CAPTIONS)))


@torch.no_grad()
def _sets_what_it_provides(case: _Case) -> None:
    _require_provided(case)
    part, other = case.part, torch.ones(1, 3, 8, 24)
    kept = case.earlier([0]).with_(kept=other)
    after = part(case.side([0]), case.features[:1], kept)
    lost = [name for name in kept.provided - part.provides if after[name] is not kept[name]]
    require(not lost, part, f"replaces or drops {', '.join(lost)}, which it does not say that it provides")


def _require_provided(case: _Case) -> None:
    part = case.part
    found, wanted = case.after(case.side(ALL), ALL).provided, part.provides | case.before.provided
    sentence = f"sets {sorted(found)} though it provides {sorted(part.provides)}; forward must set what provides names"
    require(found == wanted, part, sentence)


@torch.no_grad()
def _tells_its_channels(case: _Case) -> None:
    after = case.after(case.side(ALL), ALL)
    for name, count in case.part.channels(case.features.shape[1]).items():
        value = after[name]
        found = None if value is None else value.shape[-1 if value.ndim == 3 else 1]
        require(found == count, case.part, f"says that {name} has {count} channels, but forward sets {found}")


@torch.no_grad()
def _reads_what_it_wrote(case: _Case, side: Any) -> None:
    part = case.part
    data = message_of(lambda coder: part.write(side, coder))
    decoder = ArithmeticDecoder(data)
    again = part.read(decoder)
    require_same(again, side, part, "reads other side information than it wrote; read must return what write got")
    _require_same_condition(case, case.after(again, [0]), case.after(side, [0]), "makes another condition of it read")
    bits = part.bits(side)
    if bits is None:
        require(not data, part, "writes bytes but estimates no bits; bits must say what they cost")
    else:
        require_cost(decoder, bits, part)
    require(part.sends or not data, part, "writes bytes though it says that it sends nothing; set sends to True")


@torch.no_grad()
def _estimates_bits_of_each_image(case: _Case) -> None:
    bits, part = case.part.bits(case.side(ALL)), case.part
    require((bits is not None) == part.sends, part, f"has sends={part.sends}, but bits are {bits}; the two must agree")
    if bits is None:
        return
    require_bits(bits, len(ALL), part)
    alone = [part.bits(case.side([image])) for image in ALL]
    together = torch.cat([each for each in alone if each is not None])
    require_close(bits, together, part, "estimates other bits for an image beside others in a batch")


@torch.no_grad()
def _images_are_independent(case: _Case) -> None:
    together = case.after(case.side(ALL), ALL)
    for image in ALL:
        one, other = case.after(case.side([image]), [image]), together.of(torch.tensor([image]))
        for name in case.part.provides - {"text_mask"}:
            sentence = f"gives an image another {name} beside others in a batch"
            require_close(_counted(other, name), _counted(one, name), case.part, sentence)


def _counted(condition: Condition, name: str) -> Tensor:
    """Return a field of one image; of a text the tokens that count, since a batch is as long as its longest."""
    value, mask = condition[name], condition.text_mask
    assert value is not None
    return value[mask] if name == "text" and mask is not None else value


@torch.no_grad()
def _is_deterministic(case: _Case) -> None:
    once, again = (case.after(case.side(ALL), ALL) for _ in range(2))
    _require_same_condition(
        case, once, again, "gives one image two conditions in evaluation mode; draw in training only"
    )


def _evaluation_changes_nothing(case: _Case) -> None:
    with unchanged_state(case.part):
        case.after(case.side(ALL), ALL)


@torch.no_grad()
def _is_built_again(case: _Case, again: Conditioner) -> None:
    side = case.side([0])
    read = again.read(ArithmeticDecoder(message_of(lambda coder: case.part.write(side, coder))))
    sentence = "is read differently by a conditioner that was built from its config() and has its weights"
    _require_same_condition(case, case.after(read, [0], again), case.after(side, [0]), sentence)


def _provides_in_training(case: _Case) -> None:
    case.part.train()
    _require_provided(case)


def _require_same_condition(case: _Case, one: Condition, other: Condition, sentence: str) -> None:
    fields = [{name: condition[name] for name in condition.provided} for condition in (one, other)]
    require_same(*fields, part=case.part, sentence=sentence)
