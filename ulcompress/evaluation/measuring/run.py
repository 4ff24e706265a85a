"""An evaluation as it runs: group by group through every contestant, alone or as one of several processes."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from queue import Empty
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress
from torch import multiprocessing

from ulcompress.evaluation.measuring.evaluation import Evaluation
from ulcompress.evaluation.measuring.measuring import Measuring, Outcome
from ulcompress.evaluation.measuring.plan import Plan
from ulcompress.functional.cores import limited, threads
from ulcompress.functional.distributed import gathered
from ulcompress.functional.lines import printable

PATIENCE = timedelta(days=7)
"""How long a process of `torchrun` that has ended waits for the others."""
POLL_SECONDS = 0.2
"""Between two checks of whether a process is still alive."""

Report = Callable[[Outcome], None]


def prepare(plan: Plan) -> Evaluation:
    """Return the evaluation of a plan in this process, of which everything is built once, for `run` and `gather`.

    Raises:
        ValueError: A codec, an anchor, a metric or a device cannot be used, or an option names something unknown.
    """
    rank, world = int(os.environ.get("RANK", 0)), started_outside()
    evaluation = Evaluation(plan, rank=rank, world=world, device=_device(plan, rank, world))
    evaluation.check()
    return evaluation


def run(evaluation: Evaluation) -> list[Outcome]:
    """Measure what is not measured yet, under a progress bar; return the outcomes, failures among them.

    Under `torchrun` every process takes its share and the first one returns when all have ended; otherwise as many as
    the plan says are started here. Groups of images that are measured together, each of one image unless the plan has
    batches, are dealt out one by one, so that a process has all contestants of its images. Ctrl-C ends it; what was
    measured stays, and the next run goes on from there. With as many threads in each, any number of processes gives
    the same numbers.

    Args:
        evaluation: As `prepare` returns it.

    Raises:
        ValueError: A process that was started here ended early.
    """
    plan, world = evaluation.plan, started_outside()
    total = len(evaluation.contestants) * sum(map(len, evaluation.share))
    outcomes: list[Outcome] = []
    shared = f"{processes_of(plan)} x {threads_of(plan)} threads"
    with _progress(f"Measuring, {shared}", total, quiet=not is_first()) as advance:

        def report(outcome: Outcome) -> None:
            outcomes.append(outcome)
            advance(outcome)

        if plan.processes > 1 and world == 1:
            _spawn(plan, report)
        else:
            with limited(threads_of(plan)):
                measure_share(evaluation, report)
    return _gathered(outcomes) if world > 1 else outcomes


def is_first() -> bool:
    """Return whether this is the only process of a run, or the first of `torchrun`, which has all outcomes."""
    return int(os.environ.get("RANK", 0)) == 0


def started_outside() -> int:
    """Return how many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def processes_of(plan: Plan) -> int:
    """Return how many processes share the images of a plan."""
    world = started_outside()
    return world if world > 1 else plan.processes


def threads_of(plan: Plan) -> int:
    """Return how many threads every process has: the number in the plan, or its part of the cores."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes_of(plan)))
    return plan.threads or threads(here)


def measure_share(evaluation: Evaluation, report: Report) -> None:
    """Measure this process's share of the images."""
    plan = evaluation.plan
    content = cache(lambda name: hashlib.sha256(plan.images[name].read_bytes()).hexdigest())
    failed: set[tuple[str, str]] = set()
    for contestant in evaluation.contestants:
        measure = Measuring(plan, contestant, evaluation.metrics, content=content, failed=failed)
        for group in evaluation.share:
            for outcome in measure(group):
                if outcome.error is not None:
                    failed.add((outcome.contestant, outcome.image))
                report(outcome)


def _device(plan: Plan, rank: int, world: int) -> str:
    """Return the device of one of `world` processes: of several GPUs one each, and the CPU where others measure."""
    if plan.processes > 1 and world == 1:
        return "cpu"
    if plan.device == "cuda" and world > 1:
        return f"cuda:{int(os.environ.get('LOCAL_RANK', rank)) % max(1, torch.cuda.device_count())}"
    return plan.device


def _spawn(plan: Plan, report: Report) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = plan.processes
    workers = [context.Process(target=_work, args=(plan, rank, processes, queue)) for rank in range(processes)]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers) or not queue.empty():
            try:
                report(queue.get(timeout=POLL_SECONDS))
            except Empty:
                continue
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    if failed := [worker.exitcode for worker in workers if worker.exitcode]:
        raise ValueError(f"{len(failed)} of {processes} processes ended early; what is measured is kept, run it again")


def _work(plan: Plan, rank: int, world: int, queue: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, which removes what is being written
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with limited(threads_of(plan)):
            evaluation = Evaluation(plan, rank=rank, world=world, device=_device(plan, rank, world))
            measure_share(evaluation, queue.put)
    except SystemExit as ending:
        queue.cancel_join_thread()  # nobody may be left who reads
        sys.exit(ending.code or 1)  # a library that ends the process early has not done the work


def _end_with_parent() -> None:
    """End this process when the command that started it was killed, so that it writes no more to the folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _gathered(outcomes: list[Outcome]) -> list[Outcome]:
    """Wait for all processes of `torchrun`, and return the outcomes of all."""
    from torch.distributed import destroy_process_group, init_process_group

    init_process_group("gloo", timeout=PATIENCE)
    try:
        return gathered(outcomes)
    finally:
        destroy_process_group()


@contextmanager
def _progress(title: str, total: int, *, quiet: bool):
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as progress:
        task = progress.add_task(title, total=total)

        def advance(outcome: Outcome) -> None:
            if outcome.error is not None:
                text = f"{outcome.image} through {outcome.contestant}: {outcome.error}"
                progress.console.print(f"[yellow]left out[/yellow] {escape(printable(text))}", soft_wrap=True)
            progress.advance(task)

        yield advance
