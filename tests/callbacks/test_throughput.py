from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from callbacks import Throughput

IMAGES, SIDE, CHANNELS = 3, 8, 4


class Training(pl.LightningModule):
    """A convolution whose step takes a known number of operations."""

    def __init__(self):
        super().__init__()
        self.network = nn.Conv2d(3, CHANNELS, 1, bias=False)
        self.logged = {}

    def training_step(self, batch, batch_idx):
        return self.network(batch.images).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)

    def log(self, name, value, **options):
        self.logged.setdefault(name, []).append(value)


def fit(throughput, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("callbacks.throughput.time.monotonic", lambda: float(next(clock)))
    batches = DataLoader(
        [0] * 4, batch_size=1, collate_fn=lambda _: SimpleNamespace(images=torch.rand(IMAGES, 3, SIDE, SIDE))
    )
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    training = Training()
    trainer = pl.Trainer(max_steps=4, log_every_n_steps=1, enable_progress_bar=False, callbacks=[throughput], **options)
    monkeypatch.setattr(type(trainer._logger_connector), "should_update_logs", property(lambda self: True))
    trainer.fit(training, batches)
    return training.logged


def test_the_share_is_what_was_computed_of_what_could_be(monkeypatch):
    logged = fit(Throughput(peak=1e-6), monkeypatch)
    rates, shares = logged["train/images-per-second"], logged["train/share-of-peak"]
    # Forwards, and backwards for the weights; the images need no gradient.
    operations = 2 * (2 * SIDE**2 * 3 * CHANNELS)
    assert len(rates) == len(shares) == 4
    assert shares == pytest.approx([rate * operations / 1e6 for rate in rates])


def test_without_a_peak_there_is_no_share(monkeypatch):
    assert set(fit(Throughput(), monkeypatch)) == {"train/images-per-second"}


def test_a_peak_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0, got 0"):
        Throughput(peak=0)
