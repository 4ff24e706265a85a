"""The metrics of an evaluation while a codec is trained, on images that went through files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks.display import show_table
from callbacks.weights_and_biases import WeightsAndBiases
from ulcompress.evaluation.measuring.contestants import rounded
from ulcompress.evaluation.measuring.measuring import apply
from ulcompress.evaluation.metrics import FIDELITY, Pair, PairMetric, SetMetric, build, known_names
from ulcompress.evaluation.results.store import Points
from ulcompress.functional import distributed
from ulcompress.training import CodecStage

TABLE = "rate-distortion-realism"


class MetricLogger(Callback):
    """Codes validation images to bytes and back every few validation epochs, and logs what `evaluate` would measure.

    `metric/bpp` is that of the bytes, `metric/<name>` that of a metric of the evaluation, FID and KID among them, over
    the images of all processes, the same in each, so that other callbacks can monitor them. All loggers get a table
    `rate-distortion-realism` too, with a row for every time, also those before a training continued, and W&B its plots.
    The random numbers of the run stay as they are.
    """

    def __init__(
        self,
        *,
        metrics: Sequence[str] = FIDELITY,
        weights: str | None = None,
        trust_networks: bool = False,
        images: int = 32,
        every_n_epochs: int = 1,
    ):
        """Choose what is measured.

        Args:
            metrics: Names, as `ulcompress evaluate --metrics` takes them.
            weights: Folder with files of the metrics' weights; missing ones are downloaded.
            trust_networks: Read .pt2 files of that folder, which can hold code that runs.
            images: How many, the first ones of each process. FID of few is far from that of many.
            every_n_epochs: Of validation; measuring takes longer than a training step.

        Raises:
            ValueError: A metric is unknown, or a number below 1; when training starts, weights are missing.
        """
        if min(images, every_n_epochs) < 1:
            raise ValueError(f"got images={images} and every_n_epochs={every_n_epochs}; give at least 1")
        self.folder = Path(weights) if weights is not None else None
        known_names(metrics, self.folder)
        self.names = list(metrics)
        self.trust_networks = trust_networks
        self.images = images
        self.every_n_epochs = every_n_epochs
        self._found: list[tuple[float, dict[str, float], Points]] = []
        self._rows: list[list[float | int]] = []
        self._epoch = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the metrics' networks; ValueError where that cannot be, or where no codec is trained."""
        _module(pl_module)
        self._metrics, missing = build(
            self.names, self.folder, str(trainer.strategy.root_device), trust_networks=self.trust_networks
        )
        if missing:
            raise ValueError(f"MetricLogger: {missing[0].name}: {missing[0].reason}")
        for logger in trainer.loggers:
            if isinstance(logger, WeightsAndBiases):
                for metric in self._metrics:
                    logger.describe_metric(f"metric/{metric.name}", metric.label, metric.better)

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint, different for other metrics or images."""
        return self._generate_state_key(metrics=self.names, images=self.images, every_n_epochs=self.every_n_epochs)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of validations and the rows of the table."""
        return {"epoch": self._epoch, "rows": [list(row) for row in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._epoch = state_dict["epoch"]
        self._rows = [list(row) for row in state_dict["rows"]]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of the last validation."""
        self._found = []
        self._epoch += not trainer.sanity_checking

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the images of a batch, up to the number chosen."""
        if trainer.sanity_checking or self._epoch % self.every_n_epochs:
            return
        wanted = self.images - len(self._found)
        with isolate_rng():
            for coded in _module(pl_module).coded_images[:wanted]:
                pair = Pair(rounded(coded.image), rounded(coded.restored), coded.caption)
                bpp = 8 * len(coded.data) / coded.pixels
                self._found.append((bpp, *apply(self._metrics, pair)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the numbers over the images of all processes."""
        found = distributed.gathered(self._found)
        if not found:
            return
        values = {"bpp": float(np.mean([bpp for bpp, _, _ in found]))} | self._values(found)
        known = {f"metric/{name}": value for name, value in values.items() if math.isfinite(value)}
        pl_module.log_dict(known, sync_dist=True)  # of equal numbers; others may monitor them in every process
        self._rows.append([trainer.global_step, *values.values()])
        for logger in trainer.loggers if trainer.is_global_zero else ():
            show_table(logger, TABLE, ["step", *values], self._rows, trainer.global_step, over="bpp")

    def _values(self, found: Sequence[tuple[float, dict[str, float], Points]]) -> dict[str, float]:
        values = {}
        for metric in self._metrics:
            if isinstance(metric, PairMetric):
                numbers = [value for _, pair, _ in found if math.isfinite(value := pair[metric.name])]
                values[metric.name] = float(np.mean(numbers)) if numbers else math.nan
            elif isinstance(metric, SetMetric):
                values[metric.name] = metric.compute([points[metric.name] for _, _, points in found])
        return values


def _module(module: LightningModule) -> CodecStage:
    if not isinstance(module, CodecStage):
        raise ValueError(f"MetricLogger got a {type(module).__name__}; use it with CodecModule, or leave it out")
    return module
