"""Work on many items that processes of this machine share, with the results in the order of a single one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

from ulcompress.functional.cores import limit_decoders, limited
from ulcompress.functional.lines import one_line

S = TypeVar("S")
R = TypeVar("R")
Report = Callable[[R], None]
Work = Callable[[S, Report[R]], None]
"""What a process does with its share of the items; it reports each result."""


def in_processes(work: Work[S, R], shares: Sequence[S], report: Report[R], *, threads: int) -> None:
    """Do the work of each share in a process of its own, or that of a single share in this one.

    One result of each share is reported in turn: if share r of N has the items r, r + N, r + 2N... and one result an
    item, then the order is that of the items. A process that is far ahead of another one waits for it, so that no
    results pile up. What ends this process also ends those that it has started, without results that it has not seen.

    Args:
        work: Function that can be pickled, as can the shares and the results.
        shares: What each process works on.
        report: Called in this process.
        threads: Threads of each process.

    Raises:
        ValueError: A process raised ValueError, OSError or MemoryError, or ended early; the others end before that.
    """
    if len(shares) == 1:
        with limited(threads):
            work(shares[0], report)
        return
    workers: list[_Worker] = []
    try:
        for share in shares:
            workers.append(_start(work, share, threads))
        _report_in_turn(workers, report)
    except BaseException:
        for worker in workers:
            worker.process.terminate()
        raise
    finally:
        for worker in workers:
            worker.process.join()
            worker.results.close()
    if early := sum(worker.process.exitcode != 0 for worker in workers):
        raise ValueError(f"{early} of {len(workers)} processes ended early; what is done is kept, run it again")


class _Worker(NamedTuple):
    process: BaseProcess
    results: Connection
    """Ends when the process does; it holds as many results as the system buffers."""


class _Failure(NamedTuple):
    """An error that ended a process, as one line."""

    message: str


def _start(work: Work[Any, Any], share: Any, threads: int) -> _Worker:
    context = get_context("spawn")
    results, sender = context.Pipe(duplex=False)
    receiver, task = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(receiver, threads, sender))
    process.start()
    for end in (sender, receiver):
        end.close()  # else the pipes would not end with the process
    with suppress(BrokenPipeError):  # where the process has ended already, as its results will tell
        task.send((work, share))
    task.close()
    return _Worker(process, results)


def _report_in_turn(workers: Sequence[_Worker], report: Report[Any]) -> None:
    working = deque(workers)
    while working:
        try:
            result = working[0].results.recv()
        except EOFError:
            working.popleft()
            continue
        if isinstance(result, _Failure):
            raise ValueError(result.message)
        report(result)
        working.rotate(-1)


def _run(task: Connection, threads: int, results: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, which removes what is being written
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # as torch is not imported yet
    limit_decoders(threads)
    try:
        work, share = task.recv()  # only now, as it imports what the work needs, which takes seconds
        work(share, results.send)
    except SystemExit as ending:
        sys.exit(ending.code or 1)  # a library that ends the process early has not done the work
    except (ValueError, OSError, MemoryError) as error:
        results.send(_Failure(one_line(error)))


def _end_with_parent() -> None:
    """End this process when the one that started it was killed, so that it writes no more."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
