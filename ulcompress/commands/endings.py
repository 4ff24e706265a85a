"""How a command ends before its work is done: by a signal, by the user, by a closed pipe, by a library."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ulcompress.commands.streams import complain, silence

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a process to end; Python itself turns SIGINT into KeyboardInterrupt."""
SIGPIPE = 13
"""Signal that ends a process which writes to a closed pipe; Python raises BrokenPipeError instead."""


class Signalled(SystemExit):
    """A signal asked the process to end; as an exception it removes unfinished files on its way out."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number


def complete(action: Callable[[], int | None]) -> int:
    """Return the exit status of an action; where it ends early that is never 0, and one line says why."""
    try:
        with signals_as_exceptions():
            return interruptible(action)
    except Signalled as ending:
        complain(f"ended by {signal.Signals(ending.number).name}")
        return 128 + ending.number
    except SystemExit as ending:
        complain(f"a library ended the command before its work was done ({ending.code})")
        return ending.code if isinstance(ending.code, int) and ending.code else 1


def interruptible(action: Callable[[], int | None]) -> int:
    """Return the exit status of an action that Ctrl-C or a closed standard output may end."""
    try:
        status = action() or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        complain("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # of standard output: writing to other pipes raises other errors
        silence(sys.stdout)
        return 128 + SIGPIPE


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise `Signalled` where a signal would end the process at once; signals that the caller ignores stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    handled = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, _) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clean-up
    raise Signalled(number)
