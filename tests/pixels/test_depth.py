import struct
import zlib

import numpy as np
import pytest

from ulcompress.images import ColourWarning, read_image

GREY = np.linspace(0, 255, 24).round().astype(np.uint8).reshape(4, 6)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def tiff(pixels, *, bits, kind=UNSIGNED, photometric=1, order="<", compressed=False, extra=()):
    """The bytes of a grey TIFF of one strip; `pixels` are the bytes of its samples."""
    if compressed:
        pixels = zlib.compress(pixels)
    height, width = GREY.shape
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 8 if compressed else 1), (262, 3, photometric)]
    tags += [(273, 4, 0), (277, 3, 1), (278, 3, height), (279, 4, len(pixels)), (339, 3, kind), *extra]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, type_, value in sorted(tags):
        layout = {3: f"{order}HHIHxx", 4: f"{order}HHII", 11: f"{order}HHIf"}[type_]
        entries += struct.pack(layout, tag, type_, 1, start if tag == 273 else value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + pixels


def shown(tmp_path, data, suffix="tif"):
    """The grey levels of a file."""
    (tmp_path / f"a.{suffix}").write_bytes(data)
    image = read_image(tmp_path / f"a.{suffix}").mul(255)
    assert (image == image[:1]).all()
    return image[0].numpy().round().astype(int)


SAMPLES = {
    "uint16": (16, UNSIGNED, lambda grey: grey * 257.0),
    "int16": (16, SIGNED, lambda grey: np.rint(grey / 255 * (2**15 - 1))),
    "uint32": (32, UNSIGNED, lambda grey: grey * 16843009.0),
    "int32": (32, SIGNED, lambda grey: np.rint(grey / 255 * (2**31 - 1))),
    "float32": (32, FLOAT, lambda grey: grey / 255),
    "int8": (8, SIGNED, lambda grey: np.rint(grey / 255 * 127)),
}
"""Bits, sample format, and what a grey level is."""


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", SAMPLES)
def test_a_tiff_is_scaled_by_its_type(tmp_path, dtype, order, compressed):
    if dtype == "uint32" and order == ">":
        pytest.skip("Pillow does not read it, so that it is refused")
    bits, kind, samples = SAMPLES[dtype]
    pixels = samples(GREY.astype(float)).astype(np.dtype(dtype).newbyteorder(order)).tobytes()
    found = shown(tmp_path, tiff(pixels, bits=bits, kind=kind, order=order, compressed=compressed))
    assert np.abs(found - GREY).max() <= (1 if dtype == "int8" else 0)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_smallest_value_can_be_white(tmp_path, dtype):
    bits, kind, samples = SAMPLES[dtype]
    pixels = samples(255 - GREY.astype(float)).astype(dtype).tobytes()
    assert (shown(tmp_path, tiff(pixels, bits=bits, kind=kind, photometric=0)) == GREY).all()


@pytest.mark.parametrize("dtype", ["int16", "int32", "int8"])
def test_negative_samples_are_black(tmp_path, dtype):
    bits, kind, _ = SAMPLES[dtype]
    pixels = np.full(GREY.shape, -1, dtype=dtype)
    pixels[0] = np.iinfo(dtype).max
    found = shown(tmp_path, tiff(pixels.tobytes(), bits=bits, kind=kind))
    assert (found[0] == 255).all() and (found[1:] == 0).all()


def test_12_bits_are_not_16(tmp_path):
    values = np.rint(GREY / 255 * 4095).astype(int).ravel()
    bits = "".join(f"{value:012b}" for value in values)
    pixels = int(bits, 2).to_bytes(len(bits) // 8, "big")
    assert (shown(tmp_path, tiff(pixels, bits=12)) == GREY).all()


def test_floats_have_the_range_that_the_file_states(tmp_path):
    pixels = (GREY * np.float32(10) - 100).tobytes()
    extra = [(340, 11, -100.0), (341, 11, 2450.0)]
    assert (shown(tmp_path, tiff(pixels, bits=32, kind=FLOAT, extra=extra)) == GREY).all()


def test_a_range_without_extent_is_not_believed(tmp_path):
    pixels = (GREY / np.float32(255)).tobytes()
    for low, high in ((1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))):
        extra = [(340, 11, low), (341, 11, high)]
        assert (shown(tmp_path, tiff(pixels, bits=32, kind=FLOAT, extra=extra)) == GREY).all()


@pytest.mark.parametrize("value", [1.01, np.inf, -np.inf, np.nan, 1e30])
def test_one_odd_value_of_a_tiff_changes_no_other(tmp_path, value):
    pixels = (GREY / np.float32(255)).astype(np.float32)
    pixels[2, 3] = value
    expected = GREY.astype(int)
    expected[2, 3] = 255 if value > 1 else 0
    assert (shown(tmp_path, tiff(pixels.tobytes(), bits=32, kind=FLOAT)) == expected).all()


def test_floats_that_are_levels_of_8_bits_are_said(tmp_path):
    data = tiff((GREY + np.float32(2)).tobytes(), bits=32, kind=FLOAT)
    with pytest.warns(ColourWarning, match=r"a\.tif: 100% of its values are above 1"):
        assert (shown(tmp_path, data) == 255).all()


@pytest.mark.parametrize("greatest", [300, 4095, 65535])
def test_a_deep_pgm_is_scaled_by_its_greatest_value(tmp_path, greatest):
    values = np.rint(GREY / 255 * greatest).astype(">u2")
    data = b"P5 %d %d %d\n" % (*GREY.shape[::-1], greatest) + values.tobytes()
    assert np.abs(shown(tmp_path, data, "pgm") - GREY).max() <= (greatest == 300)


def test_a_pfm_is_scaled_from_0_to_1(tmp_path):
    values = (GREY / np.float32(255)).astype("<f4")[::-1]
    data = b"Pf\n%d %d\n-1.0\n" % GREY.shape[::-1] + values.tobytes()
    assert (shown(tmp_path, data, "pfm") == GREY).all()


def png(rows, *, depth, colour, key=None, extra=b""):
    """The bytes of a PNG; `rows` are those of its rows, `key` what tRNS holds, `extra` more chunks."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width = len(rows[0]) * 8 // (depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0))
    transparency = chunk(b"tRNS", key) if key else b""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + extra + transparency + pixels + chunk(b"IEND", b"")


def words(values):
    return [row.astype(">u2").tobytes() for row in np.asarray(values)]


def test_one_of_65536_greys_is_transparent(tmp_path):
    values = GREY.astype(int) * 257
    values[:2] = 1000
    values[0, 0] = 1001
    found = shown(tmp_path, png(words(values), depth=16, colour=0, key=struct.pack(">H", 1000)), "png")
    assert found[0, 0] == 4 and (found.ravel()[1:12] == 255).all() and (found[2:] == GREY[2:]).all()


def test_one_colour_of_48_bits_is_transparent(tmp_path):
    values = np.zeros((2, 4, 3), dtype=int)
    values[0] = (1000, 2000, 3000)
    values[1] = (1000, 2000, 3001)  # its upper bytes are the same
    key = struct.pack(">HHH", 1000, 2000, 3000)
    (tmp_path / "a.png").write_bytes(png(words(values.reshape(2, 12)), depth=16, colour=2, key=key))
    found = read_image(tmp_path / "a.png").mul(255).round()
    assert (found[:, 0] == 255).all() and found[:, 1, 0].tolist() == [1000 >> 8, 2000 >> 8, 3001 >> 8]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits_is_that_grey(tmp_path, depth):
    rows, white = [b"\x00", b"\xff"], struct.pack(">H", 2**depth - 1)
    assert (shown(tmp_path, png(rows, depth=depth, colour=0, key=bytes(2)), "png") == 255).all()
    assert (shown(tmp_path, png([b"\x00"], depth=depth, colour=0, key=white), "png") == 0).all()
    if depth in (2, 4):
        ones = bytes([0b01010101 if depth == 2 else 0b00010001])
        assert (shown(tmp_path, png([ones], depth=depth, colour=0, key=b"\0\1"), "png") == 255).all()


@pytest.mark.parametrize("colour", [4, 6])
def test_alpha_of_16_bits_shows_the_white_page(tmp_path, colour):
    grey = [0x8000] * (colour - 3 if colour == 4 else 3)
    values = [[*grey, 0, *grey, 0xFFFF]]
    assert shown(tmp_path, png(words(values), depth=16, colour=colour), "png").tolist() == [[255, 128]]


def test_a_deep_image_is_turned_upright(tmp_path):
    rotated = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = struct.pack(">I", len(rotated)) + b"eXIf" + rotated + struct.pack(">I", zlib.crc32(b"eXIf" + rotated))
    found = shown(tmp_path, png(words(GREY.astype(int) * 257), depth=16, colour=0, extra=exif), "png")
    assert (found == np.rot90(GREY, -1)).all()
