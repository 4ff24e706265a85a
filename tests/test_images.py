import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ulcompress.images import ImageError, find_images, from_pil, open_image, read_image, to_pil, to_rgb, write_image


@pytest.fixture(scope="module")
def ramp():
    """A smooth RGB image, 24 high and 32 wide, whose corners differ."""
    down, right = np.meshgrid(np.linspace(0, 255, 24), np.linspace(0, 255, 32), indexing="ij")
    return Image.fromarray(np.stack([down, right, 255 - down], -1).astype(np.uint8))


def array(image):
    return np.asarray(to_rgb(image)).astype(int)


def lab(image):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


COLOUR = {
    "RGB": (lambda rgb: rgb, 0),
    "RGBX": (lambda rgb: rgb.convert("RGBX"), 0),
    "RGBA": (lambda rgb: rgb.convert("RGBA"), 0),
    "RGBa": (lambda rgb: rgb.convert("RGBA").convert("RGBa"), 0),
    "CMYK": (lambda rgb: rgb.convert("CMYK"), 1),
    "YCbCr": (lambda rgb: rgb.convert("YCbCr"), 2),
    "HSV": (lambda rgb: rgb.convert("HSV"), 4),
    "P": (lambda rgb: rgb.quantize(256), 12),
    "PA": (lambda rgb: rgb.quantize(256).convert("PA"), 12),
    "LAB": (lab, 10),
}


@pytest.mark.parametrize("mode", COLOUR)
def test_colour_modes_keep_their_colours(ramp, mode):
    convert, error = COLOUR[mode]
    image = convert(ramp)
    assert image.mode == mode and to_rgb(image).mode == "RGB"
    assert np.abs(array(image) - array(ramp)).mean() <= error


GREY = {
    "1": lambda grey: Image.fromarray(grey > 127),
    "L": lambda grey: Image.fromarray(grey),
    "LA": lambda grey: Image.fromarray(grey).convert("LA"),
    "La": lambda grey: Image.fromarray(grey).convert("LA").convert("La"),
    "I;16": lambda grey: Image.fromarray(grey.astype(np.uint16) * 257),
    "I;16B": lambda grey: Image.frombytes("I;16B", grey.shape[::-1], (grey.astype(">u2") * 257).tobytes()),
    "I": lambda grey: Image.fromarray(grey.astype(np.int32) * 257),
    "F": lambda grey: Image.fromarray(grey.astype(np.float32)),
}


@pytest.mark.parametrize("mode", GREY)
def test_grey_modes_keep_their_brightness(mode):
    grey = np.linspace(0, 255, 32).round().astype(np.uint8)[None].repeat(4, axis=0)
    image = GREY[mode](grey)
    expected = (grey > 127) * 255 if mode == "1" else grey
    assert image.mode == mode
    assert (array(image) == expected[..., None]).all()


@pytest.mark.parametrize(
    ("dtype", "white"), [("float32", 1), ("float32", 65535), ("float32", 1e6), ("int32", 2**31 - 1)]
)
def test_deep_images_are_scaled_not_clipped(dtype, white):
    image = Image.fromarray(np.array([[0, white / 2, white]]).astype(dtype))
    assert array(image)[0, :, 0] == pytest.approx([0, 127.5, 255], abs=0.5)


def test_float_images_survive_missing_and_negative_values():
    image = Image.fromarray(np.array([[np.nan, -5, 1]], dtype=np.float32))
    assert array(image)[0, :, 0].tolist() == [0, 0, 255]


def test_alpha_shows_the_white_page():
    clear, half = Image.new("RGBA", (2, 2), (200, 0, 0, 0)), Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert (array(clear) == 255).all()
    assert (array(half) == 127).all()
    assert (array(Image.new("LA", (2, 2), (0, 0))) == 255).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_shows_the_white_page(tmp_path, mode):
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (80, 80, 80))
    image = image.convert(mode) if mode != "P" else image.quantize(2)
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    assert read_image(tmp_path / "a.png")[0, 0].mul(255).tolist() == [255, 80]


def test_16_bit_files_are_scaled_down(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").mul(255)[1, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(ramp, tmp_path, orientation):
    undo = [None, 0, 3, 1, 5, 2, 6, 4][orientation - 1]  # Image.Transpose that the orientation reverts
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = ramp if undo is None else ramp.transpose(Image.Transpose(undo))
    stored.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png"), from_pil(ramp))


def test_damaged_exif_is_ignored(ramp, tmp_path):
    ramp.save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    assert torch.equal(read_image(tmp_path / "a.png"), from_pil(ramp))


def test_an_animation_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(tmp_path / "a.webp")[:, 0, 0].tolist() == [1, 0, 0]


def test_files_and_tensors_are_inverse(ramp, tmp_path):
    image = from_pil(ramp)
    write_image(image, tmp_path / "a.png")
    again = read_image(tmp_path / "a.png")
    assert torch.equal(image, again)
    assert (again.shape, again.dtype, again.min(), again.max()) == ((3, 24, 32), torch.float32, 0, 1)


def test_tensors_are_clamped_and_rounded():
    tensor = torch.tensor([-1, 0.5, 0.998, 2]).expand(3, 1, 4)
    assert np.asarray(to_pil(tensor))[0, :, 0].tolist() == [0, 128, 254, 255]
    with pytest.raises(ValueError, match=r"shape \(1, 3, 2, 2\).*\(3, H, W\)"):
        to_pil(torch.zeros(1, 3, 2, 2))


def test_unreadable_files_say_what_would_do(ramp, tmp_path, monkeypatch):
    ramp.save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-60])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    for name, message in {
        "none.png": "no such file; check the path",
        "half.png": "truncated or damaged",
        "text.png": "not an image of a known format; convert it",
        "empty.png": "not an image of a known format",
        ".": "give a readable image file",
    }.items():
        with pytest.raises(ImageError, match=message) as error:
            read_image(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)
    for limit in (200, 700):  # 768 pixels: above twice the limit Pillow refuses, above the limit it warns
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match=r"whole.png: too many pixels.*MAX_IMAGE_PIXELS"):
            read_image(tmp_path / "whole.png")


def test_a_stream_is_named_in_the_error(tmp_path):
    (tmp_path / "x").write_text("no image")
    with open(tmp_path / "x", "rb") as file, pytest.raises(ImageError, match=r"^shard\.tar/7\.png: not an image"):
        open_image(file, name="shard.tar/7.png")


def test_unwritable_files_say_what_would_do(tmp_path):
    with pytest.raises(ImageError, match=r"a\.ulc: the suffix names no image format.*use \.png"):
        write_image(torch.zeros(3, 2, 2), tmp_path / "a.ulc")
    with pytest.raises(ImageError, match=r"cannot be written.*give another path"):
        write_image(torch.zeros(3, 2, 2), tmp_path / "none" / "a.png")


def test_finds_images_in_folders(tmp_path):
    for name in ["b.PNG", "a.webp", "sub/c.jpg", "notes.txt", ".hidden.png", "d.mpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [tmp_path / name for name in ("a.webp", "b.PNG", "sub/c.jpg")]
    assert find_images([tmp_path]) == found
    assert find_images([str(tmp_path / "notes.txt"), tmp_path / "sub"]) == [tmp_path / "notes.txt", found[2]]


def test_missing_and_empty_folders_say_what_was_looked_for(tmp_path):
    with pytest.raises(ImageError, match="none: no such file or folder"):
        find_images([tmp_path / "none"])
    with pytest.raises(ImageError, match=r"no image in this folder or below; looked for \.png, \.jpg"):
        find_images([tmp_path])
