import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.data import Draw, ImageDataModule, ImageDataset, collate, open_source
from ulcompress.data.resident import ResidentImages


def noise_images(folder, *sizes):
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"{i} a\n{i} b\n")
    return open_source(str(folder))


@pytest.mark.parametrize("crops", [(16, 16), (12, 24)])
def test_crops_are_those_of_the_dataset(tmp_path, crops):
    dataset = ImageDataset(source=noise_images(tmp_path, (30, 40), (24, 24), (51, 33)), crop=crops[0], seed=3)
    resident = ResidentImages(dataset=dataset, crop=max(crops), device="cpu")
    for side in crops:
        draws = [Draw(epoch, index, side) for epoch in range(4) for index in range(3)]
        expected, batch = collate(dataset.__getitems__(draws)), resident.__getitems__(draws)
        assert torch.equal(batch.images, expected.images) and batch.captions == expected.captions


def test_small_images_are_padded(tmp_path):
    dataset = ImageDataset(source=noise_images(tmp_path, (10, 7)), crop=16)
    draws = [Draw(0, 0), Draw(1, 0)]
    expected = collate(dataset.__getitems__(draws)).images
    assert torch.equal(ResidentImages(dataset=dataset, crop=16, device="cpu").__getitems__(draws).images, expected)


def test_a_loader_of_resident_images_gives_the_same_batches_and_continues(tmp_path):
    noise_images(tmp_path, *[(20, 20)] * 6)
    options = {"train": str(tmp_path), "crop": 8, "batch_size": 2}
    expected = [batch.images for batch in ImageDataModule(**options).train_dataloader()]
    loader = ImageDataModule(**options, resident=True).train_dataloader()
    batches = iter(loader)
    first = next(batches).images
    state = loader.state_dict()
    continued = ImageDataModule(**options, resident=True).train_dataloader()
    continued.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip([first, *(b.images for b in continued)], expected, strict=True))


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"zoom": 2.0}])
def test_what_needs_a_decoder_is_refused(tmp_path, options):
    noise_images(tmp_path, (20, 20))
    with pytest.raises(ValueError, match="resident"):
        ImageDataModule(train=str(tmp_path), batch_size=1, crop=8, resident=True, **options).train_dataloader()
