import shutil

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from callbacks import MetricLogger
from ulcompress.evaluation import psnr
from ulcompress.images import from_pil, to_pil


@pytest.fixture
def weights(squeezenet, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(squeezenet, folder / "squeezenet1_1.safetensors")
    return str(folder)


def test_numbers_are_those_of_what_went_through_bytes(fit, codec_module, weights, monkeypatch):
    pairs = []
    codec, compress = codec_module.codec, type(codec_module.codec).compress

    def watched(self, image, caption=None):
        data = compress(self, image, caption)
        pairs.append((image, data, self.decompress(data)))
        return data

    monkeypatch.setattr(type(codec), "compress", watched)
    logger = MetricLogger(metrics=["psnr", "ms-ssim", "frechet-squeezenet1_1"], weights=weights, images=3)
    trainer = fit(codec_module, logger)
    told = trainer.callback_metrics
    assert len(pairs) == 3
    expected = [psnr(from_pil(to_pil(restored)), image) for image, _, restored in pairs]
    assert float(told["metric/psnr"]) == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert float(told["metric/bpp"]) == pytest.approx(8 * sum(len(data) for _, data, _ in pairs) / 3 / 32**2)
    assert float(told["metric/frechet-squeezenet1_1"]) > 0
    assert "metric/ms-ssim" not in told  # the images are too small


def test_only_every_few_epochs(fit, codec_module):
    logger = MetricLogger(metrics=["psnr"], images=1, every_n_epochs=2)
    fit(codec_module, logger, val_check_interval=1)
    assert [row[0] for row in logger._rows] == [1]  # of two validations, the first


def test_a_checkpoint_keeps_count_and_rows():
    logger = MetricLogger(metrics=["psnr"], every_n_epochs=2)
    logger._epoch, logger._rows = 2, [[10, 0.5, 20.0]]
    again = MetricLogger(metrics=["psnr"], every_n_epochs=2)
    again.load_state_dict(logger.state_dict())
    assert (again._epoch, again._rows) == (2, [[10, 0.5, 20.0]])
    assert again.state_key == logger.state_key != MetricLogger(metrics=["ms-ssim"], every_n_epochs=2).state_key


def test_a_training_that_continues_goes_on_counting(fit, codec_module, tmp_path):
    logger, again = (MetricLogger(metrics=["psnr"], images=1, every_n_epochs=2) for _ in range(2))
    trainer = fit(codec_module, logger, val_check_interval=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"][logger.state_key]
    again.load_state_dict(state)
    assert again._epoch == 1 and again._rows == logger._rows and len(again._rows) == 1


def test_numbers_are_logged_by_every_process(fit, codec_module, monkeypatch):
    options = []
    log_dict = type(codec_module).log_dict
    monkeypatch.setattr(
        type(codec_module), "log_dict", lambda self, *a, **o: options.append((list(a[0]), o)) or log_dict(self, *a, **o)
    )
    fit(codec_module, MetricLogger(metrics=["psnr"], images=1))
    own = [given for names, given in options if "metric/psnr" in names]
    assert own == [{"sync_dist": True}]


def test_missing_weights_and_wrong_names_are_one_line(fit, codec_module, autoencoder_module, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    try:
        with pytest.raises(ValueError, match="MetricLogger: fid: weights-inception"):
            fit(codec_module, MetricLogger(metrics=["fid"]))
    finally:
        torch.hub.set_dir(before)
    with pytest.raises(ValueError, match="got the metric 'fidd'"):
        MetricLogger(metrics=["fidd"])
    with pytest.raises(ValueError, match="at least 1"):
        MetricLogger(images=0)
    with pytest.raises(ValueError, match="AutoencoderModule; use it with CodecModule"):
        fit(autoencoder_module, MetricLogger(), loggers=[CSVLogger(tmp_path)])
