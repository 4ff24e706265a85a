"""An evaluation as it runs: group by group through every contestant, alone or as one of several processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import product

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress

from ulcompress.evaluation.measuring.evaluation import Evaluation
from ulcompress.evaluation.measuring.measuring import Measuring, Outcome
from ulcompress.evaluation.measuring.plan import Plan
from ulcompress.functional.cores import limited, threads
from ulcompress.functional.devices import device_of_rank
from ulcompress.functional.distributed import gathered
from ulcompress.functional.lines import printable
from ulcompress.functional.processes import in_processes

PATIENCE = timedelta(days=7)
"""How long a process of `torchrun` that has ended waits for the others."""

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
            shares = [(plan, rank) for rank in range(plan.processes)]
            in_processes(_measure_in_process, shares, report, threads=threads_of(plan))
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
    for contestants in evaluation.by_codec():
        measures = [Measuring(plan, c, evaluation.metrics, content=content, failed=failed) for c in contestants]
        for group, measure in product(evaluation.share, measures):
            for outcome in measure(group):
                if outcome.error is not None:
                    failed.add((outcome.contestant, outcome.image))
                report(outcome)


def _device(plan: Plan, rank: int, world: int) -> str:
    """Return the device of one of `world` processes: of several GPUs one each, and the CPU where others measure."""
    if plan.processes > 1 and world == 1:
        return "cpu"
    return device_of_rank(plan.device, int(os.environ.get("LOCAL_RANK", rank))) if world > 1 else plan.device


def _measure_in_process(share: tuple[Plan, int], report: Report) -> None:
    plan, rank = share
    device = device_of_rank(plan.device, rank)
    measure_share(Evaluation(plan, rank=rank, world=plan.processes, device=device), report)


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
