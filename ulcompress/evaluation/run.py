"""An evaluation as it runs: image by image through every contestant, alone or as one of several processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
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
from ulcompress.pretrained import locate

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


def run(plan: Plan, *, processes: int = 1) -> list[Outcome]:
    """Do what a plan says and is not done yet, under a progress bar; return the outcomes, failures among them.

    Under `torchrun` every process takes its share and the first one returns when all have ended; otherwise `processes`
    of them are started here. Images are dealt out one by one, so that a process has all contestants of its images.
    Ctrl-C ends it; what was measured stays, and the next run goes on from there.

    Raises:
        ValueError: A codec or anchor cannot be used; before anything is measured.
    """
    contestants = plan.contestants()
    for curve in plan.curves:
        for codec in curve.codecs:
            locate(codec)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    total = len(contestants) * len(_share(plan, rank, world).images)
    outcomes: list[Outcome] = []
    with _progress(total, quiet=rank > 0) as advance:

        def tell(outcome: Outcome) -> None:
            outcomes.append(outcome)
            advance(outcome)

        if processes > 1 and world == 1:
            _spawn(plan, processes, tell)
        else:
            measure_share(plan, rank, world, tell)
    return _gathered(outcomes) if world > 1 else outcomes


def is_first() -> bool:
    """Tell whether this is the only process of a run, or the first of `torchrun`, which has all outcomes."""
    return int(os.environ.get("RANK", 0)) == 0


def measure_share(plan: Plan, rank: int, world: int, tell: Tell) -> None:
    """Do one of `world` shares of a plan in this process."""
    share = _share(plan, rank, world)
    store = Store(plan.out)
    metrics, _ = build(plan.metrics, plan.weights, share.device)
    contestants = share.contestants()
    digests = {name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in share.images.items()}
    for contestant in contestants:
        for name, path in share.images.items():
            tell(_one(share, store, contestant, metrics, name, path, digests[name]))


def _one(
    plan: Plan, store: Store, contestant: Contestant, metrics: Sequence[Metric], name: str, path: Path, content: str
) -> Outcome:
    budget = None
    if contestant.matched_to is not None:
        ours = store.record(contestant.matched_to, name)
        if ours is None:
            return Outcome(contestant.name, name, error=f"{contestant.matched_to} has no file of it to match")
        budget = ours.bytes
    caption = plan.captions.get(name)
    identity = digest({"image": content, "budget": budget, "caption": caption, **contestant.identity})
    record = store.record(contestant.name, name)
    if record is not None and record.identity != identity:
        record = None
    wanting = [metric for metric in metrics if record is None or record.protocols.get(metric.name) != how(metric)]
    kept = store.image(contestant.name, name)
    if record is not None and not wanting and (kept is not None or not plan.keep):
        return Outcome(contestant.name, name, known=True)
    try:
        original = read_image(path)
        if record is None or kept is None:
            coded = contestant.code(original, caption, budget)
            record, kept = Record.of(coded, identity), coded.restored
            wanting = list(metrics)
            if plan.keep:
                store.keep_file(contestant, name, coded.data)
                store.keep_image(contestant.name, name, kept)
                store.keep_image("original", name, original)
        numbers, points = apply(wanting, Pair(original, kept, caption))
    except ValueError as error:  # of the image, or of the codec about it
        return Outcome(contestant.name, name, error=" ".join(str(error).split()))
    store.save(
        contestant.name, name, record.measured(numbers, {metric.name: how(metric) for metric in wanting}), points
    )
    return Outcome(contestant.name, name)


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


def _spawn(plan: Plan, processes: int, tell: Tell) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    threads = max(1, torch.get_num_threads() // processes)
    workers = [context.Process(target=_work, args=(plan, rank, processes, threads, queue)) for rank in range(processes)]
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


def _work(plan: Plan, rank: int, world: int, threads: int, queue: Any) -> None:
    torch.set_num_threads(threads)
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
