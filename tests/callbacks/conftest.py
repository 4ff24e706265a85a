"""A short training on random images, with any loggers and callbacks."""

import pytest
from lightning.pytorch import Trainer

from ulcompress.autoencoders import KLAutoencoder
from ulcompress.data import ImageDataModule
from ulcompress.training import AutoencoderModule, CodecModule


@pytest.fixture
def images(image_folder):
    return image_folder(4, 32, 32)


@pytest.fixture
def codec_module(tiny_codec):
    return CodecModule(codec=tiny_codec).train()


@pytest.fixture
def autoencoder_module():
    return AutoencoderModule(autoencoder=KLAutoencoder(widths=(8, 8)))


@pytest.fixture
def fit(images, tmp_path, one_thread):
    def fit(module, *callbacks, loggers=(), **options):
        data = ImageDataModule(train=images, validation=images, crop=32, batch_size=2)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=list(loggers),
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            default_root_dir=tmp_path,
            **options,
        )
        trainer.fit(module, data)
        return trainer

    return fit
