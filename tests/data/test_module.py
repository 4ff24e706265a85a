import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from ulcompress.data import ImageDataModule


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        Image.fromarray(np.full((20, 20, 3), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"caption {i}\n")
    return str(tmp_path)


def test_training_batches(folder):
    data = ImageDataModule(train=folder, crop=16, batch_size=2)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [batch.images.shape for batch in batches] == [(2, 3, 16, 16)] * 2  # the fifth image waits
    assert all(c == f"caption {i.max() * 255 / 50:.0f}" for b in batches for i, c in zip(*b, strict=True))


def test_validation_batches_are_in_order(folder):
    data = ImageDataModule(validation=folder, crop=16, batch_size=2, validation_images=3)
    data.setup("validate")
    before = torch.get_rng_state()
    assert [batch.captions for batch in data.val_dataloader()] == [["caption 0", "caption 1"], ["caption 2"]]
    assert torch.equal(before, torch.get_rng_state())
    assert len(ImageDataModule(validation=folder, validation_images=99).val_dataloader()) == 1
    assert ImageDataModule(train=folder).val_dataloader() == []


def test_captions_come_without_images(folder, tmp_path):
    for file in tmp_path.glob("*.png"):
        file.write_bytes(b"never read")
    assert ImageDataModule(train=folder).train_captions() == [f"caption {i}" for i in range(5)]


def test_a_training_says_how_many_images_have_captions(folder, tmp_path, caplog):
    (tmp_path / "0.txt").write_bytes("Köln".encode("latin-1"))
    (tmp_path / "1.txt").write_text(" \n")
    with caplog.at_level("INFO"), pytest.warns(UserWarning, match=r"0\.png is not UTF-8 and .*; save it as UTF-8$"):
        ImageDataModule(train=folder).train_captions()
    assert "4 of 5 training images have captions." in caplog.text


def test_one_line_says_what_a_training_has_and_what_was_left_out(folder, tmp_path, caplog):
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "lost.png").symlink_to("nowhere")
    data = ImageDataModule(train=[folder, f"{folder}/0.png"])
    with caplog.at_level("INFO"), pytest.warns(UserWarning, match="leads nowhere"):
        data.setup("fit")
    (line,) = caplog.messages
    assert line == (
        f"6 of 6 training images have captions. They are from folder {folder} and 1 named file. "
        "Left out: hidden files: 1, links and folders: 1."
    )


def test_a_training_ends_with_the_number_of_images_that_could_not_be_read(folder, tmp_path):
    (tmp_path / "3.png").write_bytes(b"broken")
    (tmp_path / "1.png").unlink()
    data = ImageDataModule(train=folder, crop=16, batch_size=4)
    with pytest.warns(UserWarning, match="image left out"):
        list(data.train_dataloader())
    with pytest.warns(
        UserWarning, match="left out of this training, as they could not be read: 1 of 4 training images$"
    ):
        data.teardown("fit")


def test_missing_images_name_the_option(folder):
    for use in (lambda d: d.setup("fit"), lambda d: d.train_dataloader(), lambda d: d.train_captions()):
        with pytest.raises(ValueError, match=r"no images to train on; give data\.train"):
            use(ImageDataModule())
    with pytest.raises(ValueError, match=r"no images to validate on; give data\.validation"):
        ImageDataModule(train=folder).setup("validate")


def test_impossible_numbers_are_refused(folder):
    with pytest.raises(ValueError, match=r"5 training images, less than one batch of 6.*smaller data\.batch_size"):
        ImageDataModule(train=folder, batch_size=6).train_dataloader()
    for name in ("crop", "batch_size", "validation_images", "max_pixels"):
        with pytest.raises(ValueError, match=rf"got data\.{name} 0; give at least 1"):
            ImageDataModule(**{name: 0})
    for crop in ([], [16, 0]):
        with pytest.raises(ValueError, match=r"got data\.crop \[.*\]; give at least 1"):
            ImageDataModule(crop=crop)
    with pytest.raises(ValueError, match=r"got data\.shorter_side 31; give at least the crop, 32"):
        ImageDataModule(crop=[16, 32], shorter_side=31)


def test_batches_of_changing_size(folder):
    data = ImageDataModule(train=folder, validation=folder, crop=[12, 8, 16], batch_size=2)
    loader, sides = data.train_dataloader(), []
    for epoch in range(12):
        loader.sampler.set_epoch(epoch)
        sides += [batch.images.shape for batch in loader]
    assert {tuple(shape) for shape in sides} == {(2, 3, side, side) for side in (8, 12, 16)}
    assert {batch.images.shape[-1] for batch in data.val_dataloader()} == {12}


@pytest.mark.parametrize(("given", "train"), [("images", "images"), ("[a, b/*.tar]", ["a", "b/*.tar"])])
def test_the_command_line_builds_it(given, train):
    parser = ArgumentParser()
    parser.add_class_arguments(ImageDataModule, "data")
    options = parser.parse_args([f"--data.train={given}", "--data.cache=true", "--data.validation_images=8"])
    assert parser.parse_args(["--data.crop=[64, 96]"]).data.crop == [64, 96]
    data = ImageDataModule(**options.data)
    assert (data.train, data.cache, data.validation_images, data.crop) == (train, True, 8, 128)
