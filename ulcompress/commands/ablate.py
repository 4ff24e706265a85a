"""`ulcompress ablate`: a base and its variants, trained with the same seeds, measured and compared."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ulcompress.commands.options import Verbs, positive
from ulcompress.commands.streams import complain, report
from ulcompress.functional.lines import printable


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "ablate",
        help="train and compare the variants of a study; the same command continues",
        epilog="All other options are those of `ulcompress fit`, for every run: --data.train TRAIN, for instance.",
        allow_abbrev=False,
    )
    parser.add_argument("study", type=Path, metavar="STUDY", help="YAML: base, budget, variants, seeds, evaluate")
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="INPUT", help="images to measure on, not the study's"
    )
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--dry-run", action="store_true", help="show what would run, and whether it builds")
    shown.add_argument("--report", action="store_true", help="show what has been found so far, and run nothing")
    parser.add_argument("--time", action="store_true", help="with --dry-run: measure a step of variants without a run")
    failing = parser.add_mutually_exclusive_group()
    failing.add_argument("--keep-going", action="store_true", default=True, help="go on after a failed run (default)")
    failing.add_argument("--fail-fast", action="store_true", help="end the study when a run has failed twice")
    parser.add_argument("--retry", action="store_true", help="try runs again that have failed twice")
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="runs at a time, here or on the cluster (default: 1)"
    )
    parser.add_argument("--shard", type=shard, default=(0, 1), metavar="I/N", help="every N-th run, from the I-th on")
    parser.add_argument("--launcher", choices=("slurm", "local", "debug"), help="submit the runs by submitit")
    parser.add_argument(
        "--cluster", nargs="+", default=[], metavar="KEY=VALUE", help="submitit's: timeout_min=240 slurm_partition=gpu"
    )
    parser.set_defaults(action=run, words=[])


def shard(text: str) -> tuple[int, int]:
    """Parse `2/4`, the second of four parts, as its number from 0 and their count."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"got {text}; write I/N with I from 1 to N")
    return int(match[1]) - 1, int(match[2])


def run(options: argparse.Namespace) -> int:
    """Run what is left of the study and write its report; return the exit status."""
    from ulcompress.training.study.outcome import StudyOutcome
    from ulcompress.training.study.plan import plan
    from ulcompress.training.study.study import read_study

    study = read_study(options.study).with_images(options.images)
    runs = plan(study, root=options.root, data=options.words)
    if options.dry_run:
        from ulcompress.training.study.preview import describe

        text, builds = describe(StudyOutcome(study, runs), time=options.time)
        print(text)
        return 0 if builds else 1
    number, count = options.shard
    received = None if options.report else _work(options, study, runs[number::count])
    _write(StudyOutcome(study, runs), options.root / study.name / "report")
    if received:
        complain("ended in order; the same command continues")
        return 128 + received
    return 1 if any(StudyOutcome(study, runs).state(one) == "failed" for one in runs) else 0


def _work(options: argparse.Namespace, study, runs: Sequence) -> int | None:
    """Carry out runs here, or submit them; return the signal that ended them, if any."""
    if options.launcher:
        return _submit(options, study, runs)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ulcompress.training.study.workers import Workers

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Study {study.name}", total=len(runs))

        def say(line: str) -> None:
            progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
            progress.update(task, completed=workers.done)

        workers = Workers(
            study, runs, jobs=options.jobs or 1, keep_going=not options.fail_fast, retry=options.retry, say=say
        )
        return workers.work()


def _submit(options: argparse.Namespace, study, runs: Sequence) -> None:
    from ulcompress.training.study.launchers import launch, parameters
    from ulcompress.training.study.workers import left

    wanted = [one for one in runs if left(study, one, retry=options.retry)]
    folder = options.root / study.name / "jobs"
    jobs = launch(
        study,
        wanted,
        cluster=options.launcher,
        folder=folder,
        throttle=options.jobs,
        options=parameters(options.cluster),
        retry=options.retry,
    )
    if options.launcher == "slurm":
        report(f"submitted {len(jobs)} runs; logs are in {folder}, and --report shows what they have found")
        return
    for job in jobs:
        job.result()


def _write(outcome, folder: Path) -> None:
    from ulcompress.training.study.report import markdown, write_report

    written = write_report(outcome, folder)
    print(markdown(outcome), *(printable(str(path)) for path in written), sep="\n")
