"""A group of images through one contestant: coded one by one, measured together."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ulcompress.evaluation.measuring.contestants import Contestant
from ulcompress.evaluation.measuring.groups import alike
from ulcompress.evaluation.measuring.plan import Plan
from ulcompress.evaluation.metrics import Metric, Pair, PairMetric, SetMetric
from ulcompress.evaluation.results.store import Points, Record, Store, digest
from ulcompress.functional.lines import one_line
from ulcompress.images import read_image

T = TypeVar("T")
Answer = tuple[dict[str, float], Points]
"""Results of metrics on one pair: numbers by name, and points for the metrics of sets."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one image through one contestant."""

    contestant: str
    image: str
    known: bool = False
    """Whether an earlier run has measured it."""
    error: str | None = None
    """Why it has no record, in one line; None where it has one."""


class Measuring:
    """Codes and measures groups of images through one contestant."""

    def __init__(
        self,
        plan: Plan,
        contestant: Contestant,
        metrics: Sequence[Metric],
        *,
        content: Callable[[str], str],
        failed: Container[tuple[str, str]],
    ):
        """Take what is to be done.

        Args:
            plan: With the device of this process.
            contestant: One of the plan's; what it is matched to has been through all of its groups.
            metrics: All that the plan asks for and that can be applied.
            content: Digest of an image's file, by its name.
            failed: Names of contestants and images of which there is no record.
        """
        self.plan = plan
        self.store = Store(plan.out)
        self.contestant = contestant
        self.identity = contestant.identity
        self.metrics = metrics
        self.content = content
        self.failed = failed

    def __call__(self, group: Sequence[str]) -> list[Outcome]:
        """Measure what is missing of a group of images, named in `group`; return their outcomes in that order.

        An image that something goes wrong with is left out; nothing is saved before all of the group are measured.
        """
        errors = _Errors()
        found = errors.each(self._find, group)

        def code(complete: bool) -> dict[str, _Ready]:
            names = [name for name, one in found.items() if one.complete is complete]
            return errors.each(lambda name: self._code(found[name]), names)

        ready = code(complete=False)
        if any(metric.batched for one in ready.values() for metric in one.wanting):
            ready |= code(complete=True)  # the company in a batch must not depend on what an interruption has left
        answers = self._together([ready[name] for name in group if name in ready], errors)
        measured = errors.each(lambda name: self._measured(ready[name], answers[name]), answers)
        errors.each(lambda name: self.store.save(self.contestant.name, name, *measured[name]), measured)
        known = found.keys() - ready.keys() - errors.keys()
        return [Outcome(self.contestant.name, name, name in known, errors.get(name)) for name in group]

    def _find(self, name: str) -> _Found:
        budget, caption = self._budget(name), self.plan.captions.get(name)
        identity = digest({"budget": budget, "caption": caption, "image": self.content(name), **self.identity})
        record = self.store.record(self.contestant.name, name)
        if record is not None and record.identity != identity:
            record = None
        wanting = [m for m in self.metrics if record is None or not self._has(name, record, m)]
        kept = (self.store.image_path(self.contestant.name, name), self.store.original_path(name))
        complete = record is not None and not wanting and (not self.plan.keep or None not in kept)
        return _Found(name, budget, caption, identity, record, wanting, complete)

    def _has(self, name: str, record: Record, metric: Metric) -> bool:
        """Return whether a record has the number of a metric by its present protocol."""
        if record.protocols.get(metric.name) != self._how(metric):
            return False
        if isinstance(metric, SetMetric):
            return bool(self.store.points(self.contestant.name, name, metric.name))
        return metric.name in record.metrics

    def _budget(self, name: str) -> int | None:
        matched = self.contestant.matched_to
        if matched is None:
            return None
        if (matched, name) in self.failed:
            raise ValueError(f"{matched} has no file of it to match")
        ours = self.store.record(matched, name)
        assert ours is not None, "what it is matched to was coded before it, and did not fail"
        return ours.bytes

    def _code(self, found: _Found) -> _Ready:
        name, record, wanting = found.name, found.record, found.wanting
        original = read_image(self.plan.images[name], max_pixels=self.plan.max_pixels)
        restored = self.store.image(self.contestant.name, name) if record is not None else None
        if record is None or restored is None:
            coded = self.contestant.code(original, found.caption, found.budget)
            restored = coded.restored
            if record is None or record.bytes != len(coded.data):
                record, wanting = Record.of(coded, found.identity), self.metrics
                # What was kept of another coding, and of another image under this name, would be taken for this one's.
                self.store.forget(self.contestant, name)
                self.store.forget_other_original(name, original)
            if self.plan.keep:
                self.store.keep_file(self.contestant, name, coded.data)
                self.store.keep_image(self.contestant.name, name, restored)
        if self.plan.keep and self.store.original_path(name) is None:
            self.store.keep_original(name, original)
        return _Ready(name, record, wanting, Pair(original, restored, found.caption))

    def _together(self, ready: Sequence[_Ready], errors: _Errors) -> dict[str, Answer]:
        """Apply the metrics that take a batch and are wanting of any image, to all."""
        metrics = [m for m in self.metrics if m.batched and any(m in one.wanting for one in ready)]
        answers: dict[str, Answer] = {}
        # Sizes in headers are before rotation, and may be wrong.
        for same in alike(ready, lambda one: (one.pair.original.shape, one.pair.restored.shape)):
            names = [one.name for one in same]
            with errors.of(*names):
                answers |= zip(names, apply_together(metrics, [one.pair for one in same]), strict=True)
        return answers

    def _measured(self, ready: _Ready, answer: Answer) -> tuple[Record, Points]:
        """Apply the metrics that take one image and are wanting of it; return all that is to be saved."""
        numbers, points = apply([metric for metric in ready.wanting if not metric.batched], ready.pair)
        numbers, points = {**numbers, **answer[0]}, {**points, **answer[1]}
        protocols = {m.name: self._how(m) for m in self.metrics if m.name in numbers or m.name in points}
        return ready.record.measured(numbers, protocols), points

    def _how(self, metric: Metric) -> str:
        return how(metric, self.plan.batch)


def apply(metrics: Sequence[Metric], pair: Pair) -> Answer:
    """Return the numbers of a pair by metric, and its points for the metrics of sets."""
    (answer,) = apply_together(metrics, [pair])
    return answer


def apply_together(metrics: Sequence[Metric], pairs: Sequence[Pair]) -> list[Answer]:
    """Return the same of each of several pairs, all of one size."""
    numbers = {metric.name: metric.batch(pairs) for metric in metrics if isinstance(metric, PairMetric)}
    points = {metric.name: metric.batch(pairs) for metric in metrics if isinstance(metric, SetMetric)}
    return [
        ({name: of[place] for name, of in numbers.items()}, {name: of[place] for name, of in points.items()})
        for place in range(len(pairs))
    ]


def how(metric: Metric, batch: int) -> str:
    """Return a digest of all that decides a metric's number, in batches of up to so many images."""
    company = {"batch": batch} if metric.batched and batch > 1 else {}
    return digest({"protocol": metric.protocol, "files": dict(metric.files), **company})


@dataclass(frozen=True)
class _Found:
    """What earlier runs have left of an image."""

    name: str
    budget: int | None
    """Largest size of the file in bytes; None for a codec."""
    caption: str | None
    identity: str
    """Digest of all that decides the coding."""
    record: Record | None
    """The record of that coding; None without one."""
    wanting: Sequence[Metric]
    """Metrics that the record does not have."""
    complete: bool
    """Whether nothing has to be done."""


@dataclass(frozen=True)
class _Ready:
    """An image that is coded and has to be measured."""

    name: str
    record: Record
    wanting: Sequence[Metric]
    """Metrics that the record does not have."""
    pair: Pair


class _Errors(dict[str, str]):
    """Errors by name of the image; one image's error does not stop the others."""

    @contextmanager
    def of(self, *names: str) -> Iterator[None]:
        """Catch what is the error of these images."""
        try:
            yield
        except Exception as error:
            self.update(dict.fromkeys(names, _described(error)))

    def each(self, step: Callable[[str], T], names: Iterable[str]) -> dict[str, T]:
        """Take a step with each image; return the results of those that it went well with."""
        results: dict[str, T] = {}
        for name in names:
            with self.of(name):
                results[name] = step(name)
        return results


def _described(error: Exception) -> str:
    """Return an error in one line, with its type unless it is a ValueError, whose message stands alone."""
    text = one_line(error)
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
