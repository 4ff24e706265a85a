"""All observers on all loggers in one short training, since W&B takes seconds to start."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import MetricLogger, RateLogger, ReconstructionGrid, WeightsAndBiases
from callbacks.transaction_log import config, history, records
from ulcompress.images import read_image

PADDED = 32 + 2  # side of an image in the grid
RATES = {"bpp/file", "bpp/text", "bpp/spatial"}
STEP = "trainer/global_step"


def table_scalars(logger):
    with open(Path(logger.log_dir) / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {(name, int(row["step"])): float(row[name]) for row in rows for name in row if name != "step" and row[name]}


def board_scalars(events):
    names = set(events.Tags()["scalars"]) - {"hp_metric"}
    return {(name, event.step): event.value for name in names for event in events.Scalars(name)}


def wandb_scalars(rows):
    values = {(name, row[STEP]): row[name] for row in rows for name in row.keys() - {STEP} if not name.startswith("_")}
    return {key: value for key, value in values.items() if not isinstance(value, dict)}


def test_every_logger_gets_the_same_numbers_images_and_tables(fit, codec_module, offline, tmp_path):
    table, board = CSVLogger(tmp_path), TensorBoardLogger(tmp_path)
    wandb = WeightsAndBiases(save_dir=str(tmp_path))
    observers = [RateLogger(images=3), ReconstructionGrid(images=3), MetricLogger(metrics=["psnr"], images=2)]
    fit(codec_module, *observers, loggers=[table, board, wandb])
    wandb.close(succeeded=True)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = list(history(file))
    events = EventAccumulator(board.log_dir)
    events.Reload()

    numbers = table_scalars(table)
    assert {name for name, _ in numbers} >= {*RATES, "metric/psnr", "train/loss", "val/psnr", "train/usage"}
    assert numbers[("bpp/file", 1)] > numbers[("bpp/text", 1)] > 0
    assert board_scalars(events) == pytest.approx(numbers, rel=1e-6)
    assert set(wandb_scalars(rows)) == set(numbers)
    assert wandb_scalars(rows) == pytest.approx(numbers, rel=1e-6)

    grid = read_image(Path(table.log_dir) / "reconstructions/step-00000002.png")
    captions = (Path(table.log_dir) / "reconstructions/step-00000002.txt").read_text().splitlines()
    (shown,) = events.Images("reconstructions")
    assert (shown.step, shown.width, shown.height) == (2, 3 * PADDED + 2, 2 * PADDED + 2)
    (sent,) = (row["reconstructions"] for row in rows if "reconstructions" in row)
    first = read_image(file.parent / "files" / sent["filenames"][0])
    assert torch.equal(first, grid[:, 2:-2, 2:34]) and first.shape[1:] == (2 * PADDED - 2, 32)
    assert sent["captions"] == captions and len(captions) == 3
    assert " bytes, 0." in captions[0] and captions[0].endswith(" bpp: a red cup 0")

    points = (Path(table.log_dir) / "rate-distortion-realism.csv").read_text().splitlines()
    assert points[0] == "step,bpp,psnr" and points[1].startswith("2,") and len(points) == 2
    assert "rate-distortion-realism/text_summary" in events.Tags()["tensors"]
    assert {"rate-distortion-realism", "rate-distortion-realism/psnr_table"} <= {name for row in rows for name in row}

    units = config(file)["units"]
    assert (units["bpp/file"], units["val/psnr"], units["metric/psnr"]) == (
        "bits per pixel of files",
        "dB",
        "PSNR (dB)",
    )
    best = {record.metric.name: record.metric.summary for record in records(file) if record.HasField("metric")}
    assert best["bpp/file"].min and best["metric/psnr"].max and best["val/loss"].min
