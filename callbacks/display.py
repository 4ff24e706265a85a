"""Images and tables on whatever logger there is; numbers go through Lightning's own logging."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torchvision.utils import make_grid

from ulcompress.files import write_whole
from ulcompress.images import to_pil, write_image

PADDING = 2
"""White pixels between images."""


def show_images(logger: Logger, name: str, images: Sequence[Tensor], captions: Sequence[str], step: int) -> None:
    """Show images with a line of text under each.

    W&B gets them one by one, TensorBoard as one image and a text, and other loggers that have a directory
    `<name>/step-<step>.png` and `.txt` in it.

    Args:
        logger: Any of Lightning's.
        name: Of the series of images.
        images: RGB in [0, 1], (3, H, W) each, all of one size.
        captions: As many.
        step: Optimiser steps that were done.
    """
    if isinstance(logger, WandbLogger):
        logger.log_image(name, [to_pil(image) for image in images], step, caption=list(captions))
        return
    grid = make_grid(list(images), nrow=len(images), padding=PADDING, pad_value=1.0)
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, grid, step)
        logger.experiment.add_text(f"{name}/captions", "\n\n".join(captions), step)
    elif (folder := _folder(logger)) is not None:
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_image(grid, folder / name / f"step-{step:08d}.png")
        write_whole(folder / name / f"step-{step:08d}.txt", "".join(f"{caption}\n" for caption in captions).encode())


def show_table(
    logger: Logger, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int, *, over: str
) -> None:
    """Show a table, which replaces that of an earlier step, and on W&B a plot of its columns over one of them.

    TensorBoard gets it as a text, and other loggers that have a directory `<name>.csv` in it.

    Args:
        logger: Any of Lightning's.
        name: Of the table.
        columns: Names of the columns; the first one holds the step.
        rows: Their values.
        step: Optimiser steps that were done.
        over: The column that is the plots' horizontal axis.
    """
    if isinstance(logger, WandbLogger):
        _show_plots(logger, name, columns, rows, step, over)
    elif isinstance(logger, TensorBoardLogger):
        lines = [columns, ["---"] * len(columns), *rows]
        logger.experiment.add_text(name, "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines), step)
    elif (folder := _folder(logger)) is not None:
        csv.writer(text := io.StringIO(newline="")).writerows([columns, *rows])
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{name}.csv", text.getvalue().encode())


def _show_plots(
    logger: WandbLogger, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int, over: str
) -> None:
    import wandb

    logger.log_table(name, columns=list(columns), data=[list(row) for row in rows], step=step)
    for column in columns[1:]:
        if column != over:
            # A table of its own for each plot, since W&B keeps a table under the first name that it is logged by.
            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            plot = wandb.plot.scatter(table, over, column, title=f"{column} over {over}")
            logger.log_metrics({f"{name}/{column}": plot}, step)  # pyright: ignore[reportArgumentType]


def _folder(logger: Logger) -> Path | None:
    directory = getattr(logger, "log_dir", logger.save_dir)
    return Path(directory) if isinstance(directory, str) else None
