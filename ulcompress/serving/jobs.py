"""A job in a thread: it says how far it is, and ends when it is asked to or its time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from torch import nn

from ulcompress.codec import Codec
from ulcompress.denoisers import Denoiser


class JobStopped(BaseException):
    """The job was asked to end; no error, so that nothing on its way mistakes it for one."""


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    doing: str
    """What it does."""
    step: int | None = None
    """The sampling step, from 1."""
    steps: int | None = None
    """The number of sampling steps, where the codec knows it."""


class ServedJob:
    """One piece of work. Python cannot end a thread, so the work calls `check` again and again."""

    def __init__(self, seconds: float, report: Callable[[dict[str, object]], None]):
        """Take the limits.

        Args:
            seconds: Longest time from the first `begin` on.
            report: Takes each `Progress`, as a dictionary, in the thread of the work.
        """
        self.seconds = seconds
        self._report = report
        self._stop = threading.Event()
        self._end: float | None = None

    def stop(self) -> None:
        """Ask the work to end; from any thread."""
        self._stop.set()

    def begin(self, doing: str) -> None:
        """Report what is done next; from the first call on the time runs."""
        self._tell(Progress(doing))
        self._end = self._end or time.monotonic() + self.seconds

    def check(self) -> None:
        """Raise JobStopped after `stop`, and ValueError when the time is over."""
        if self._stop.is_set():
            raise JobStopped
        if self._end is not None and time.monotonic() > self._end:
            raise ValueError(
                f"took more than {self.seconds:g} s; take a smaller image or fewer steps, or allow more (--max-seconds)"
            )

    @contextmanager
    def watching(self, codec: Codec, doing: str, *, steps: int | None = None) -> Iterator[None]:
        """Call `check` before each convolution of a codec, and report each sampling step.

        Convolutions are where its time goes. Hooks of torch's attention layers would change how these compute.
        """
        count, level = 0, None

        def step(_: nn.Module, inputs: tuple) -> None:
            nonlocal count, level
            times = float(inputs[1].flatten()[0])
            if times != level:  # all patches of a step, with and without text, are at one level
                count, level = count + 1, times
                self._tell(Progress(doing, count, steps))

        self.begin(doing)
        hooks = {nn.Conv2d: lambda *_: self.check(), Denoiser: step}
        handles = [
            module.register_forward_pre_hook(hook)
            for kind, hook in hooks.items()
            for module in codec.modules()
            if isinstance(module, kind)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _tell(self, progress: Progress) -> None:
        self.check()
        self._report(asdict(progress))
