"""An evaluation as it runs: image by image through every contestant, alone or as one of several processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress
from torch import multiprocessing

from ulcompress import ranks
from ulcompress.evaluation.contestants import Contestant
from ulcompress.evaluation.metrics import Metric, Pair, PairMetric, SetMetric, build
from ulcompress.evaluation.plan import Plan
from ulcompress.evaluation.store import Points, Record, Store, digest
from ulcompress.images import read_image

PATIENCE = timedelta(days=7)
"""Of a process of `torchrun` that has ended, for the others."""
POLL_SECONDS = 0.2
"""Between two looks at whether a process is still alive."""


@dataclass(frozen=True)
class Outcome:
    """What a process tells of one image through one contestant."""

    contestant: str
    image: str
    known: bool = False
    """Whether it was there from before."""
    error: str | None = None
    """Why there is no record."""


Tell = Callable[[Outcome], None]


def run(plan: Plan) -> list[Outcome]:
    """Do what a plan says and is not done yet, under a progress bar; return the outcomes, failures among them.

    Under `torchrun` every process takes its share and the first one returns when all have ended; otherwise as many as
    the plan says are started here. Images are dealt out one by one, so that a process has all contestants of its
    images. Ctrl-C ends it; what was measured stays, and the next run goes on from there. With as many threads in each,
    any number of processes gives the same numbers.

    Raises:
        ValueError: A codec or anchor cannot be used, or the plan asks for what is not there; before anything is
            measured.
    """
    plan.check()
    contestants = plan.contestants()
    rank, world = int(os.environ.get("RANK", 0)), started_outside()
    total = len(contestants) * len(_share(plan, rank, world).images)
    outcomes: list[Outcome] = []
    with _progress(total, quiet=rank > 0) as advance:

        def tell(outcome: Outcome) -> None:
            outcomes.append(outcome)
            advance(outcome)

        if plan.processes > 1 and world == 1:
            _spawn(plan, tell)
        else:
            with _threads(threads_of(plan)):
                measure_share(plan, rank, world, tell)
    return _gathered(outcomes) if world > 1 else outcomes


def is_first() -> bool:
    """Tell whether this is the only process of a run, or the first of `torchrun`, which has all outcomes."""
    return int(os.environ.get("RANK", 0)) == 0


def started_outside() -> int:
    """Return how many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def processes_of(plan: Plan) -> int:
    """Return how many processes share the images of a plan."""
    world = started_outside()
    return world if world > 1 else plan.processes


def threads_of(plan: Plan) -> int:
    """Return how many threads torch has in every process: what the plan says, or its part of the cores."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes_of(plan)))
    return plan.threads or max(1, (os.cpu_count() or 1) // here)


def measure_share(plan: Plan, rank: int, world: int, tell: Tell) -> None:
    """Do one of `world` shares of a plan in this process."""
    share = _share(plan, rank, world)
    store = Store(plan.out)
    metrics, _ = build(plan.metrics, plan.weights, share.device)
    contents = cache(lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest())
    failed: set[tuple[str, str]] = set()
    for contestant in share.contestants():
        identity = contestant.identity
        for name, path in share.images.items():
            outcome = Outcome(contestant.name, name)
            try:
                if (contestant.matched_to, name) in failed:
                    raise ValueError(f"{contestant.matched_to} has no file of it to match")
                decided = {"image": contents(path), **identity}
                outcome = replace(outcome, known=_measure(share, store, contestant, metrics, name, decided))
            except Exception as error:  # of this image: whatever it is, the others go on
                failed.add((contestant.name, name))
                outcome = replace(outcome, error=_told(error))
            tell(outcome)


def _measure(
    plan: Plan, store: Store, contestant: Contestant, metrics: Sequence[Metric], name: str, decided: Mapping[str, Any]
) -> bool:
    """Do what is wanting of one image, and tell whether that was nothing; `decided` is what decided its coding."""
    budget = None
    if contestant.matched_to is not None:
        ours = store.record(contestant.matched_to, name)
        assert ours is not None, "what it is matched to was coded before it, and did not fail"
        budget = ours.bytes
    caption = plan.captions.get(name)
    identity = digest({"budget": budget, "caption": caption, **decided})
    record = store.record(contestant.name, name)
    if record is not None and record.identity != identity:
        record = None
    wanting = [metric for metric in metrics if record is None or record.protocols.get(metric.name) != how(metric)]
    kept = store.image(contestant.name, name)
    complete = not plan.keep or (kept is not None and store.original_path(name) is not None)
    if record is not None and not wanting and complete:
        return True
    original = read_image(plan.images[name])
    if record is None or kept is None:
        coded = contestant.code(original, caption, budget)
        record, kept = Record.of(coded, identity), coded.restored
        wanting = list(metrics)
        # What was kept of another coding, and of another image under this name, would be taken for this one's.
        store.forget(contestant, name)
        store.forget_other_original(name, original)
        if plan.keep:
            store.keep_file(contestant, name, coded.data)
            store.keep_image(contestant.name, name, kept)
    if plan.keep and store.original_path(name) is None:
        store.keep_original(name, original)
    numbers, points = apply(wanting, Pair(original, kept, caption))
    protocols = {metric.name: how(metric) for metric in wanting}
    store.save(contestant.name, name, record.measured(numbers, protocols), points)
    return False


def _told(error: Exception) -> str:
    """Return an error in one line, with its type unless that says nothing to users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def apply(metrics: Sequence[Metric], pair: Pair) -> tuple[dict[str, float], Points]:
    """Return the numbers of a pair by metric, and its points for the metrics of sets."""
    numbers = {metric.name: metric(pair) for metric in metrics if isinstance(metric, PairMetric)}
    points = {metric.name: metric.points(pair) for metric in metrics if isinstance(metric, SetMetric)}
    return numbers, points


def how(metric: Metric) -> str:
    """Return a digest of all that decides a metric's number."""
    return digest({"protocol": metric.protocol, "files": dict(metric.files)})


def _share(plan: Plan, rank: int, world: int) -> Plan:
    device = plan.device
    if device == "cuda" and world > 1:
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', rank)) % max(1, torch.cuda.device_count())}"
    return replace(plan, images=dict(list(plan.images.items())[rank::world]), device=device)


@contextmanager
def _threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _spawn(plan: Plan, tell: Tell) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = plan.processes
    workers = [context.Process(target=_work, args=(plan, rank, processes, queue)) for rank in range(processes)]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers) or not queue.empty():
            try:
                tell(queue.get(timeout=POLL_SECONDS))
            except Empty:
                continue
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    if failed := [worker.exitcode for worker in workers if worker.exitcode]:
        raise ValueError(f"{len(failed)} of {processes} processes ended early; what is measured is kept, run it again")


def _work(plan: Plan, rank: int, world: int, queue: Any) -> None:
    torch.set_num_threads(threads_of(plan))
    measure_share(plan, rank, world, queue.put)


def _gathered(outcomes: list[Outcome]) -> list[Outcome]:
    """Wait for all processes of `torchrun`, and return what all of them told."""
    from torch import distributed

    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        return ranks.gathered(outcomes)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _progress(total: int, *, quiet: bool):
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as progress:
        task = progress.add_task("Measuring", total=total)

        def advance(outcome: Outcome) -> None:
            if outcome.error is not None:
                text = f"{outcome.image} through {outcome.contestant}: {outcome.error}"
                progress.console.print(f"[yellow]left out[/yellow] {escape(text)}", soft_wrap=True)
            progress.advance(task)

        yield advance
