import struct
import subprocess
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, ExifTags, Image, ImageCms, ImageFile

from ulcompress.images import (
    ColourWarning,
    ImageError,
    find_images,
    from_pil,
    image_bytes,
    image_suffixes,
    open_image,
    read_image,
    readable_formats,
    to_pil,
    to_rgb,
    write_image,
)
from ulcompress.pixels.colour import PRIMARIES
from ulcompress.pixels.icc import SRGB_CURVE, matrix_profile


@pytest.fixture(scope="module")
def ramp():
    """A smooth RGB image, 24 high and 32 wide, whose corners differ."""
    down, right = np.meshgrid(np.linspace(0, 255, 24), np.linspace(0, 255, 32), indexing="ij")
    return Image.fromarray(np.stack([down, right, 255 - down], -1).astype(np.uint8))


def array(image):
    return np.asarray(to_rgb(image)).astype(int)


@pytest.mark.parametrize(("least", "expected"), [(None, 192), (97, 192), (96, 96), (49, 96), (48, 48), (20, 24)])
def test_a_jpeg_is_decoded_at_a_part_of_its_size_that_is_large_enough(tmp_path, ramp, least, expected):
    large = ramp.resize((256, 192))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    large.save(tmp_path / "a.jpg", quality=95)
    large.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    large.save(tmp_path / "a.png")
    found = open_image(tmp_path / "a.jpg", least_side=least)
    assert found.size == (expected * 4 // 3, expected)
    assert np.abs(array(found) - array(large.resize(found.size, Image.Resampling.BOX))).mean() < 2
    assert open_image(tmp_path / "turned.jpg", least_side=least).size == (expected, expected * 4 // 3)
    assert open_image(tmp_path / "a.png", least_side=least).size == (256, 192)


def test_the_image_that_is_converted_stays_as_it_is(ramp):
    image = ramp.copy()
    image.info["icc_profile"] = b""
    converted = to_rgb(image)
    assert image.info == {"icc_profile": b""} and converted.info == {}
    converted.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == ramp.getpixel((0, 0))


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
    "F": lambda grey: Image.fromarray(grey / np.float32(255)),
}


@pytest.mark.parametrize("mode", GREY)
def test_grey_modes_keep_their_brightness(mode):
    grey = np.linspace(0, 255, 32).round().astype(np.uint8)[None].repeat(4, axis=0)
    image = GREY[mode](grey)
    expected = (grey > 127) * 255 if mode == "1" else grey
    assert image.mode == mode
    assert (array(image) == expected[..., None]).all()


@pytest.mark.parametrize(("dtype", "white"), [("float32", 1), ("int32", 65535), ("uint16", 65535)])
def test_deep_images_are_scaled_by_their_type(dtype, white):
    image = Image.fromarray(np.array([[0, white / 2, white]]).astype(dtype))
    assert array(image)[0, :, 0] == pytest.approx([0, 127.5, 255], abs=0.5)


@pytest.mark.parametrize("beyond", [1.01, 65535, np.inf, -5, -np.inf, np.nan])
def test_one_odd_value_of_a_float_image_changes_no_other(beyond):
    image = Image.fromarray(np.array([[0.2, beyond, 1]], dtype=np.float32))
    assert array(image)[0, :, 0].tolist() == [51, 255 if beyond > 1 else 0, 255]


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


def test_unreadable_files_say_what_would_do(ramp, tmp_path):
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


@pytest.mark.parametrize("pillow", [None, 200, 700, 10**9])
def test_images_above_the_limit_are_refused_whatever_that_of_pillow_is(ramp, tmp_path, monkeypatch, pillow):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
    for suffix in ("png", "tif", "webp", "jxl", "jp2", "avif", "gif", "bmp", "jpg"):
        ramp.save(tmp_path / f"a.{suffix}")
        assert open_image(tmp_path / f"a.{suffix}", max_pixels=768).size == (32, 24)
        with pytest.raises(ImageError, match=r"a\.\w+: 32 x 24 pixels, more than the limit of 767; .*\(max_pixels\)"):
            read_image(tmp_path / f"a.{suffix}", max_pixels=767)
    assert pillow == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_2_to_the_26(tmp_path):
    side = 2**13
    head = struct.pack(">IIBBBBB", side + 1, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + bytes(3) + b"\4IDAT" + bytes(8))
    with pytest.raises(ImageError, match="8193 x 8192 pixels, more than the limit of 67108864"):
        read_image(tmp_path / "a.png")


def test_a_larger_jpeg_xl_is_not_even_decoded(ramp, tmp_path, monkeypatch):
    ramp.save(tmp_path / "a.jxl")
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("given to Pillow"))
    with pytest.raises(ImageError, match="32 x 24 pixels"):
        read_image(tmp_path / "a.jxl", max_pixels=767)


PROGRAMS = ("gs", "gswin32c", "gswin64c", "djpeg", "ppmtogif", "ppmquant", "convert")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"


def iptc(content):
    """An IPTC file that holds the file of an image."""

    def field(number, data):
        return b"\x1c" + bytes(number) + struct.pack(">H", len(data)) + data

    size = field((3, 20), struct.pack(">H", 64)) + field((3, 30), struct.pack(">H", 64))
    return size + field((3, 60), b"\1\0") + field((3, 120), b"\1") + field((8, 10), content)


FOREIGN = {
    "eps": EPS,
    "eps after a preview": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + bytes(18) + EPS,
    "iptc with an eps": iptc(EPS),
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(4) + struct.pack("<hhH", 64, 64, 72) + bytes(8) + b"\1\0\t\0" + bytes(40),
    "emf": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(80),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "grib": b"GRIB\0\0\0\1" + bytes(40),
    "bufr": b"BUFR" + bytes(40),
    "mpeg": b"\0\0\1\xb3\x04\x00\x40" + bytes(40),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_no_program_is_started_for_a_file_that_claims_to_be_an_image(tmp_path, monkeypatch, name):
    for program in PROGRAMS:
        (tmp_path / program).write_text(f"#!/bin/sh\necho {program} >> {tmp_path}/started\necho 10.0\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "photo.png").write_bytes(FOREIGN[name])
    with pytest.raises(ImageError, match=r"photo\.png: not an image of a known format"):
        read_image(tmp_path / "photo.png")
    assert not (tmp_path / "started").exists()


def test_no_format_that_is_read_is_a_stub():
    for name in readable_formats():
        plugin = Image.OPEN[name][0]
        assert not (isinstance(plugin, type) and issubclass(plugin, ImageFile.StubImageFile))
    assert not {"EPS", "IPTC", "WMF", "MPEG", "FITS", "ICO", "ICNS"} & set(readable_formats())
    assert {".png", ".jpg", ".webp", ".avif", ".jxl", ".jp2", ".tif", ".gif"} <= image_suffixes()


def test_colours_are_converted_once_only(ramp, tmp_path):
    ramp.save(tmp_path / "a.png", icc_profile=matrix_profile(PRIMARIES[12], SRGB_CURVE, "Display P3"))
    with pytest.warns(ColourWarning, match="from Display P3"):
        image = open_image(tmp_path / "a.png")
    assert to_rgb(image).tobytes() == image.tobytes() != ramp.tobytes()


def test_a_warning_about_colours_that_is_an_error_stays_what_it_is(ramp, tmp_path):
    ramp.save(tmp_path / "a.png", icc_profile=matrix_profile(PRIMARIES[12], SRGB_CURVE, "Display P3"))
    ramp.save(tmp_path / "b.png", icc_profile=bytes(200))
    with pytest.raises(ColourWarning, match="converted to sRGB from Display P3"):
        open_image(tmp_path / "a.png")
    with pytest.raises(ColourWarning, match=r"b\.png: colours are taken as sRGB"):
        open_image(tmp_path / "b.png")


def test_a_pipe_is_read_like_a_file(ramp, tmp_path):
    file = tmp_path / "a.png"
    ramp.save(file)
    with subprocess.Popen(["cat", file], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and not process.stdout.seekable()
        assert open_image(process.stdout).tobytes() == ramp.tobytes()
    with open(file, "rb") as opened:
        opened.seek(100)
        assert open_image(opened).tobytes() == ramp.tobytes()


def test_a_stream_is_named_in_the_error(tmp_path):
    (tmp_path / "x").write_text("no image")
    with open(tmp_path / "x", "rb") as file, pytest.raises(ImageError, match=r"^shard\.tar/7\.png: not an image"):
        open_image(file, name="shard.tar/7.png")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jxl", ".tif", ".bmp", ".ppm", ".jp2", ".PNG"])
def test_lossless_files_hold_the_very_pixels(ramp, tmp_path, suffix):
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 37, 53)) / 255).float()
    write_image(noise, tmp_path / f"a{suffix}")
    assert torch.equal(read_image(tmp_path / f"a{suffix}"), noise)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".avif", ".jxl"])
def test_lossy_files_take_a_quality(ramp, tmp_path, suffix):
    image = from_pil(ramp.resize((128, 96)))
    sizes = [len(image_bytes(image, suffix, quality=quality)) for quality in (10, 95)]
    assert sizes[0] < sizes[1]
    write_image(image, tmp_path / f"a{suffix}", quality=95)
    assert 0 < (read_image(tmp_path / f"a{suffix}") - image).abs().mean() < 0.02


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_a_lossy_suffix_is_refused_without_a_quality(tmp_path, suffix):
    with pytest.raises(ImageError, match=rf"a\{suffix}: \{suffix} is lossy; use \.png, .* or give a quality"):
        write_image(torch.zeros(3, 2, 2), tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_qualities_that_mean_nothing_are_refused():
    for suffix, quality, message in (
        (".png", 90, r"\.png has no quality"),
        (".jpg", 101, "got quality 101; give 0 to 100"),
        (".gif", None, "no image format that can be written"),
        (".pdf", 90, "no image format that can be written"),
        ("", None, "no image format that can be written"),
    ):
        with pytest.raises(ImageError, match=message):
            image_bytes(torch.zeros(3, 2, 2), suffix, quality=quality)


def test_an_image_that_a_format_cannot_hold_is_one_line():
    with pytest.raises(ImageError, match=r"WEBP cannot hold this image .*; use \.png"):
        image_bytes(torch.zeros(3, 1, 16384), ".webp")


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
