"""A search under a progress bar."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ulcompress.codec import Codec
from ulcompress.optimization.online import OnlineOptimizer
from ulcompress.records import Code


def refine_visibly(
    optimizer: OnlineOptimizer, codec: Codec, image: Tensor, code: Code, *, steps: int, name: str
) -> tuple[Code, list[float]]:
    """Refine a code under a progress bar on standard error that shows step and best measure.

    Returns the code, and the best measure before the search and after each step. `name` is that of the image; the other
    arguments are those of `OnlineOptimizer.refine`, and Ctrl-C ends the search with the best code so far.
    """
    measures: list[float] = []
    best = TextColumn("best {task.fields[best]}")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), best, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(name), total=steps, best="?")

        def report(step: int, measure: float) -> None:
            measures.append(measure)
            progress.update(task, completed=step, best=f"{measure:.4f}")

        return optimizer.refine(codec, image, code, steps=steps, report=report), measures
