"""All observers on all loggers in one short training, since W&B takes seconds to start."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import RateLogger, ReconstructionGrid
from ulcompress.images import read_image

PADDED = 32 + 2  # side of an image in the grid
RATES = {"bpp/file", "bpp/text", "bpp/spatial"}


@pytest.fixture
def wandb_logger(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, project="test")
    yield logger
    logger.experiment.finish()


def test_every_logger_gets_rates_and_grid(fit, codec_module, wandb_logger, tmp_path):
    table, board = CSVLogger(tmp_path), TensorBoardLogger(tmp_path)
    trainer = fit(
        codec_module, RateLogger(images=3), ReconstructionGrid(images=3), loggers=[table, board, wandb_logger]
    )
    assert set(trainer.callback_metrics) >= RATES

    with open(Path(table.log_dir) / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["bpp/file"]]
    assert len(rows) == 1 and float(rows[0]["bpp/file"]) > float(rows[0]["bpp/text"]) > 0
    (grid,) = (Path(table.log_dir) / "reconstructions").iterdir()
    assert grid.name == "step-00000002.png"

    events = EventAccumulator(board.log_dir)
    events.Reload()
    assert set(events.Tags()["scalars"]) >= RATES
    (shown,) = events.Images("reconstructions")
    assert (shown.step, shown.width, shown.height) == (2, 3 * PADDED + 2, 2 * PADDED + 2)

    assert set(wandb_logger.experiment.summary.keys()) >= RATES
    (sent,) = tmp_path.glob("wandb/offline-run-*/files/media/images/reconstructions*.png")
    assert torch.equal(read_image(sent), read_image(grid))
