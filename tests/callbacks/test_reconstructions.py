import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from callbacks import RateLogger, ReconstructionGrid
from ulcompress.images import read_image

SIDE = 32 + 2  # of a panel with the grid's padding


def test_originals_are_above_what_is_restored_of_them(fit, autoencoder_module, images, tmp_path):
    logger = CSVLogger(tmp_path)
    fit(autoencoder_module, ReconstructionGrid(images=2), loggers=[logger])
    grid = read_image(Path(logger.log_dir) / "reconstructions" / "step-00000002.png")
    autoencoder = autoencoder_module.autoencoder.eval()
    for index in range(2):
        original = read_image(Path(images) / f"{index}.png")
        with torch.no_grad():
            restored = autoencoder.decode(autoencoder.encode(original[None]))[0].clamp(0, 1)
        left = 2 + index * SIDE
        assert torch.equal(grid[:, 2:34, left : left + 32], original)
        below = grid[:, 2 + SIDE : 34 + SIDE, left : left + 32]
        assert (below - restored).abs().max() < 1 / 255


def test_no_logger_and_a_trial_run_show_nothing(fit, autoencoder_module, tmp_path):
    fit(autoencoder_module, ReconstructionGrid())
    fit(autoencoder_module, ReconstructionGrid(), loggers=[CSVLogger(tmp_path)], fast_dev_run=True)
    assert not list(tmp_path.rglob("reconstructions"))


def test_random_numbers_and_training_are_as_without_observers(fit, codec_module, tmp_path, monkeypatch):
    start = {name: value.clone() for name, value in codec_module.state_dict().items()}
    outcomes = []
    # Whatever an observer's work draws from the global generators must not be seen outside.
    compress = type(codec_module.codec).compress
    monkeypatch.setattr(type(codec_module.codec), "compress", lambda *args: (_draw(), compress(*args))[1])
    for observers in ([], [RateLogger(images=2), ReconstructionGrid(images=2)]):
        codec_module.load_state_dict(start)
        codec_module.train()
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        fit(codec_module, *observers, loggers=[CSVLogger(tmp_path)], val_check_interval=1)
        weights = {name: value.clone() for name, value in codec_module.state_dict().items()}
        outcomes.append((weights, _draw()))
    (weights, drawn), (observed_weights, observed_drawn) = outcomes
    assert drawn == observed_drawn
    assert any(not torch.equal(start[name], weights[name]) for name in weights)
    assert all(torch.equal(weights[name], observed_weights[name]) for name in weights)


def test_what_does_not_fit_is_refused(fit):
    with pytest.raises(ValueError, match="CodecModule or AutoencoderModule"):
        fit(BoringModel(), ReconstructionGrid())
    with pytest.raises(ValueError, match="at least 1"):
        ReconstructionGrid(images=0)


def _draw():
    return float(torch.rand(())), float(np.random.rand()), random.random()
