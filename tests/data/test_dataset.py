import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.data import Draw, ImageDataset, collate, open_source
from ulcompress.data.dataset import MAX_TRAINING_PIXELS
from ulcompress.images import ImageError


def make(folder, *sizes, captions=2):
    """Write one image of each size (width, height), whose red is x, green y and blue the number of the image."""
    for i, (width, height) in enumerate(sizes):
        y, x = np.mgrid[:height, :width]
        Image.fromarray(np.stack([x, y, 0 * x + i], -1).astype(np.uint8)).save(folder / f"{i}.png")
        if captions:
            (folder / f"{i}.txt").write_text("".join(f"{i} {j}\n" for j in range(captions)))
    return open_source(str(folder))


def test_the_centre_and_the_first_caption(tmp_path):
    crop, caption = ImageDataset(source=make(tmp_path, (30, 20)), crop=16)[0]
    assert (crop.shape, crop.dtype, caption) == ((3, 16, 16), torch.uint8, "0 0")
    assert crop[0, 0].tolist() == list(range(7, 23)) and crop[1, :, 0].tolist() == list(range(2, 18))


def test_draws_depend_on_seed_epoch_and_index_only(tmp_path):
    source = make(tmp_path, *[(40, 40)] * 4)
    draws = [Draw(epoch, index) for epoch in range(3) for index in range(4)]

    def views(seed, draws, **options):
        dataset = ImageDataset(source=source, crop=16, seed=seed, **options)
        return {draw: (dataset[draw][0].numpy().tobytes(), dataset[draw][1]) for draw in draws}

    first = views(0, draws)
    assert first == views(0, draws[::-1]) == views(0, draws, cache=True)
    assert len(set(first.values())) == len(draws)
    assert not set(first.values()) & set(views(1, draws).values())


def smooth(width, height):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_large_images_are_reduced_with_their_aspect_ratio(tmp_path, suffix):
    smooth(640, 320).save(tmp_path / f"0.{suffix}", quality=95)
    smooth(120, 60).save(tmp_path / f"1.{suffix}", quality=95)
    dataset = ImageDataset(source=open_source(str(tmp_path)), crop=60, shorter_side=70)
    reduced, as_it_is = (np.asarray(dataset[index][0], float) for index in range(2))
    for crop, (width, height) in ((reduced, (140, 70)), (as_it_is, (120, 60))):
        left, top = (width - 60) // 2, (height - 60) // 2
        expected = np.asarray(smooth(width, height), float).transpose(2, 0, 1)[:, top : top + 60, left : left + 60]
        assert np.abs(crop - expected).mean() < 2
    views = [ImageDataset(source=dataset.source, crop=60, shorter_side=70, cache=cache) for cache in (False, True)]
    assert all(torch.equal(views[0][Draw(0, i)][0], views[1][Draw(0, i)][0]) for i in (0, 1, 0))


def test_crops_larger_than_what_images_are_reduced_to_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got shorter_side 15, less than the crop of 16; give at least as much"):
        ImageDataset(source=make(tmp_path, (30, 20)), crop=16, shorter_side=15)


def test_draws_cover_the_image_both_ways_and_all_captions(tmp_path):
    dataset = ImageDataset(source=make(tmp_path, (17, 18), captions=3), crop=16)
    views = [dataset[Draw(epoch, 0)] for epoch in range(100)]
    corners = {(crop[0, 0, 0].item(), crop[1, 0, 0].item()) for crop, _ in views}
    assert corners == {(x, y) for x in (0, 1, 15, 16) for y in (0, 1, 2)}  # x starts at the right when flipped
    assert {caption for _, caption in views} == {"0 0", "0 1", "0 2"}


def test_zoom_enlarges_a_smaller_part_of_the_image(tmp_path):
    source = make(tmp_path, (100, 80))
    dataset = ImageDataset(source=source, crop=32, zoom=2)
    widths = []
    for epoch in range(40):
        crop = dataset[Draw(epoch, 0)][0]
        assert crop.shape == (3, 32, 32)
        widths.append(int(crop[0].max()) - int(crop[0].min()) + 1)  # red is x
    assert min(widths) <= 18 and max(widths) >= 30
    assert dataset[0][0][0, 0].tolist() == list(range(34, 66)), "the centre is as it is"
    plain = ImageDataset(source=source, crop=32)
    assert {int(plain[Draw(epoch, 0)][0][0].float().std() * 10) for epoch in range(5)} == {92}
    with pytest.raises(ValueError, match=r"got zoom 0\.5; give the largest factor"):
        ImageDataset(source=source, crop=32, zoom=0.5)


def test_crops_recur_after_some_epochs(tmp_path):
    dataset = ImageDataset(source=make(tmp_path, (90, 80)), crop=32, zoom=2, crops_per_image=2)
    views = [dataset[Draw(epoch, 0)][0] for epoch in range(4)]
    assert torch.equal(views[0], views[2])
    assert torch.equal(views[1], views[3])
    assert not torch.equal(views[0], views[1])


def test_a_small_image_is_enlarged_where_zoom_allows_it(tmp_path):
    dataset = ImageDataset(source=make(tmp_path, (20, 40), (10, 40)), crop=16, zoom=1.5)
    for epoch in range(20):
        red, green = dataset[Draw(epoch, 0, 30)][0][:2]
        assert (int(red.min()), int(red.max())) == (0, 19), "30 pixels are 20 enlarged by 1.5"
        assert int(green.max()) - int(green.min()) == 19, "and no more of the other direction"
    view, _ = dataset[Draw(0, 1, 30)]
    assert view.shape == (3, 30, 30) and len(view[0, 0].unique()) <= 10, "10 pixels are padded to 20 first"
    assert dataset[Draw(0, 0)][0].shape == (3, 16, 16)


def test_without_captions_there_is_none(tmp_path):
    dataset = ImageDataset(source=make(tmp_path, (16, 16), captions=0), crop=16)
    assert dataset[0][1] is dataset[Draw(0, 0)][1] is None
    batch = collate([dataset[0], dataset[Draw(0, 0)]])
    assert (batch.images.shape, batch.images.dtype, batch.captions) == ((2, 3, 16, 16), torch.float32, [None, None])
    assert batch.images.max() == 15 / 255


def test_small_images_are_padded_by_reflection(tmp_path):
    dataset = ImageDataset(source=make(tmp_path, (5, 16), (1, 1)), crop=16)
    row = dataset[0][0][0, 0].tolist()
    assert row == [3, 4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2] and row[5:10] == [0, 1, 2, 3, 4]
    assert dataset[1][0].unique().tolist() == [0, 1]
    assert ImageDataset(source=dataset.source, crop=1)[Draw(0, 0)][0].shape == (3, 1, 1)


def test_a_cached_image_is_read_once(tmp_path):
    dataset = ImageDataset(source=make(tmp_path, (20, 20)), crop=16, cache=True)
    before = dataset[0]
    (tmp_path / "0.png").unlink()
    assert torch.equal(dataset[0][0], before[0]) and dataset[0][1] == before[1]


def test_a_bad_image_is_reported_once_and_replaced(tmp_path):
    source = make(tmp_path, *[(20, 20)] * 4)
    data = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(data[: len(data) // 2])
    dataset = ImageDataset(source=source, crop=16)
    with pytest.warns(UserWarning, match=r"next one takes its place: .*3\.png: truncated or damaged") as record:
        crop, caption = dataset[3]
    assert len(record) == 1 and (crop[2].unique().item(), caption) == (0, "0 0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dataset[Draw(1, 3)][0][2].unique().item() == 0


def test_without_any_good_image_it_stops(tmp_path):
    source = make(tmp_path, (20, 20), (20, 20))
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ImageError, match="none of the 2 images can be"):
        ImageDataset(source=source, crop=16)[0]


def test_a_crop_has_at_least_one_pixel(tmp_path):
    with pytest.raises(ValueError, match="got crop 0; give the side"):
        ImageDataset(source=make(tmp_path, (4, 4)), crop=0)


def test_an_image_of_too_many_pixels_is_left_out(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    Image.new("RGB", (20, 20), "blue").save(tmp_path / "b.png")
    dataset = ImageDataset(source=open_source(str(tmp_path)), crop=8, max_pixels=1599)
    with pytest.warns(UserWarning, match=r"left out.*a\.png: 40 x 40 pixels, more than the limit of 1599"):
        crop, _ = dataset[0]
    assert crop[:, 0, 0].tolist() == [0, 0, 255]
    dataset = ImageDataset(source=open_source(str(tmp_path)), crop=8, max_pixels=1600)
    assert dataset[0][0][:, 0, 0].tolist() == [255, 0, 0]


def test_photographs_of_33_megapixels_are_trained_on_and_not_larger_ones():
    assert 7008 * 4672 <= MAX_TRAINING_PIXELS < 9504 * 6336
