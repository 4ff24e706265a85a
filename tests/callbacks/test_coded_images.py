"""All callbacks of a validation see the same coded images."""

import pytest
from lightning.pytorch.loggers import CSVLogger

from callbacks import MetricLogger, MovingAverage, RateLogger, ReconstructionGrid


@pytest.fixture
def calls(monkeypatch, tiny_codec):
    """Names of the codec's verbs that files were written and read with, in their order."""
    found, kind = [], type(tiny_codec)

    def counted(name):
        verb = getattr(kind, name)
        return lambda *args, **options: found.append(name) or verb(*args, **options)

    for name in ("compress", "decompress"):
        monkeypatch.setattr(kind, name, counted(name))
    return found


def observers(images):
    return [
        RateLogger(images=images),
        ReconstructionGrid(images=images),
        MetricLogger(metrics=["psnr"], images=images),
        MovingAverage(decay=0.5),
    ]


def test_each_validation_image_is_coded_once_for_all_callbacks(fit, codec_module, calls, tmp_path):
    fit(codec_module, *observers(4), loggers=[CSVLogger(tmp_path)], num_sanity_val_steps=0)
    assert sorted(calls) == ["compress"] * 4 + ["decompress"] * 4
    assert codec_module.coded_images == []


def test_images_that_no_callback_wants_are_not_coded(fit, codec_module, calls, tmp_path):
    fit(codec_module, RateLogger(images=3), ReconstructionGrid(images=1), num_sanity_val_steps=0)
    assert calls.count("compress") == 3 and calls.count("decompress") == 1


def test_the_next_validation_codes_again(fit, codec_module, calls):
    trainer = fit(codec_module, RateLogger(images=1), num_sanity_val_steps=0, val_check_interval=1)
    assert calls == ["compress"] * 2 and trainer.callback_metrics["bpp/file"] > 0


def test_numbers_of_callbacks_are_those_that_each_logs_alone(fit, codec_module, tmp_path):
    start = {name: value.clone() for name, value in codec_module.state_dict().items()}

    def logged(*callbacks):
        codec_module.load_state_dict(start)
        metrics = fit(codec_module.train(), *callbacks).callback_metrics
        return {name: float(value) for name, value in metrics.items() if name.startswith(("bpp/", "metric/"))}

    rate, grid, metric, _ = observers(3)
    together = logged(rate, grid, metric)
    assert together == logged(RateLogger(images=3)) | logged(MetricLogger(metrics=["psnr"], images=3))
