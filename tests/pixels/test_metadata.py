import io
import random
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ulcompress.images import ColourWarning, ImageError, open_image
from ulcompress.pixels.colour import PRIMARIES
from ulcompress.pixels.icc import SRGB_CURVE, matrix_profile
from ulcompress.pixels.jxl import size

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
DISPLAY_P3 = matrix_profile(PRIMARIES[12], SRGB_CURVE, "Display P3")
TURNED = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""Exif data of an image that is shown after a quarter turn."""
RAW_PROFILE = b"\nexif\n      26\n" + TURNED.hex().encode()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def saved(suffix, **options):
    file = io.BytesIO()
    Image.init()
    IMAGE.save(file, Image.registered_extensions()[suffix], **options)
    return file.getvalue()


def read(data):
    return np.asarray(open_image(io.BytesIO(data), name="photo"))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def animated(frame):
    """The chunks of an animation that begins with a frame."""
    return chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", frame)


def png(*chunks, at_the_end=False):
    data = saved(".png")
    place = len(data) - 12 if at_the_end else 33
    return data[:place] + b"".join(chunks) + data[place:]


def segment(marker, data):
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def jpeg(*segments):
    data = saved(".jpg")
    return data[:2] + b"".join(segments) + data[2:]


PNG_CHUNKS = {
    "text of 2 MiB": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2**21))),
    "international text of 2 MiB": chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**21))),
    "texts of 80 MiB": b"".join(chunk(b"tEXt", b"a\0" + bytes(2**20)) for _ in range(80)),
    "text without a key": chunk(b"tEXt", b""),
    "text compressed by an unknown method": chunk(b"zTXt", b"a\0\7abc"),
    "key of damaged letters": chunk(b"iTXt", b"\xff\0\0\0\xff\0\xff\0\xff"),
    "gamma that is cut": chunk(b"gAMA", b"\0\1"),
    "primaries that are cut": chunk(b"cHRM", bytes(31)),
    "intent that is cut": chunk(b"sRGB", b""),
    "resolution that is cut": chunk(b"pHYs", bytes(3)),
    "transparency that is cut": chunk(b"tRNS", b"\0"),
    "code points that are cut": chunk(b"cICP", b"\x0c"),
    "an animation of no frames": chunk(b"acTL", bytes(8)),
    "an animation that is cut": chunk(b"acTL", bytes(3)),
    "a frame that is too large": animated(struct.pack(">IIIIIHHBB", 0, 99, 99, 0, 0, 0, 0, 0, 0)),
    "a frame out of turn": animated(struct.pack(">I", 7) + bytes(22)),
    "a wrong check": chunk(b"tEXt", b"a\0b")[:-4] + bytes(4),
    "a wrong check of a gamma": chunk(b"gAMA", struct.pack(">I", 100000))[:-4] + bytes(4),
    "an unknown kind": chunk(b"abcd", bytes(100)),
    "exif": chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_no_chunk_costs_an_image(name, at_the_end):
    assert (read(png(PNG_CHUNKS[name], at_the_end=at_the_end)) == PIXELS).all()


def test_limits_of_pillow_are_left_as_they_are():
    before = (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS)
    read(png(PNG_CHUNKS["text of 2 MiB"]))
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS)


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**26))),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2**26))),
    ],
)
def test_a_text_that_grows_takes_no_memory(bomb):
    data = png(bomb)
    tracemalloc.start()
    assert (read(data) == PIXELS).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_a_profile_that_grows_takes_little_memory():
    data = png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27))))
    tracemalloc.start()
    with pytest.warns(ColourWarning, match="an ICC profile of more than"):
        assert (read(data) == PIXELS).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize("cut", [13, 40, 100])
def test_a_png_that_is_cut_in_its_pixels_is_refused(cut):
    with pytest.raises(ImageError, match=r"photo: (truncated or damaged|not an image)"):
        read(saved(".png")[: -12 - cut])


def test_an_unknown_critical_chunk_and_no_end_are_borne():
    assert (read(png(chunk(b"ABCD", b"x"))) == PIXELS).all()
    assert (read(saved(".png")[:-12]) == PIXELS).all()


SEGMENTS = {
    "jfif that is cut": segment(0xE0, b"JFIF\0"),
    "adobe that is cut": segment(0xEE, b"Adobe"),
    "a piece of a profile without a number": segment(0xE2, b"ICC_PROFILE\0"),
    "photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\2"),
    "flashpix": segment(0xE2, b"FPXR\0"),
    "exif": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "exif of nothing": segment(0xE1, b"Exif\0\0"),
    "several images of damaged places": segment(
        0xE2, b"MPF\0II*\0\x08\0\0\0" + struct.pack("<H", 3) + bytes(range(76))
    ),
    "comments": 100 * segment(0xFE, bytes(60000)),
    "fill bytes": b"\xff\xff\xff",
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_no_segment_costs_an_image(name):
    expected = np.asarray(Image.open(io.BytesIO(saved(".jpg"))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ColourWarning)
        assert (read(jpeg(SEGMENTS[name])) == expected).all()


@pytest.mark.parametrize("pieces", [b"\1\2" + DISPLAY_P3, b"\2\2" + DISPLAY_P3, b"\0\0" + DISPLAY_P3, b"\1"])
def test_a_profile_of_which_a_piece_lacks_is_a_warning(pieces):
    with pytest.warns(ColourWarning, match="^photo: colours are taken as sRGB"):
        read(jpeg(segment(0xE2, b"ICC_PROFILE\0" + pieces)))


def test_pieces_of_a_profile_are_joined_in_their_order():
    pieces = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 2)) + part)
        for n, part in ((2, DISPLAY_P3[200:]), (1, DISPLAY_P3[:200]))
    ]
    with pytest.warns(ColourWarning, match="from Display P3"):
        read(jpeg(*pieces))


@pytest.mark.parametrize("colours", ["RGB", "CMYK", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_decoded_to_the_same_pixels_as_before(colours, progressive):
    file = io.BytesIO()
    IMAGE.convert(colours).save(file, "JPEG", progressive=progressive, comment="a")
    expected = np.asarray(Image.open(file).convert("RGB"))
    assert (read(file.getvalue()) == expected).all()


@pytest.mark.parametrize(
    "data",
    [
        png(chunk(b"eXIf", TURNED)),
        png(chunk(b"eXIf", TURNED), at_the_end=True),
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
        png(
            chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      26\n" + TURNED.hex().encode()))
        ),
        png(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      26\n" + TURNED.hex().encode())),
        saved(".webp", lossless=True, exif=TURNED),
        saved(".tif", tiffinfo={274: 6}),
    ],
)
def test_what_says_how_an_image_is_turned_is_kept(data):
    assert (read(data) == np.rot90(PIXELS, -1)).all()


def test_what_says_how_a_jpeg_is_turned_is_kept():
    straight = read(saved(".jpg"))
    for turned in (segment(0xE1, b"Exif\0\0" + TURNED), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)):
        assert (read(jpeg(turned)) == np.rot90(straight, -1)).all()


def test_an_avif_is_turned_by_its_boxes_and_damaged_exif_costs_nothing():
    straight, exif = saved(".avif"), Image.Exif()
    exif[274] = 6
    turned = saved(".avif", exif=exif)
    assert (read(turned) == np.rot90(read(straight), -1)).all()
    exif = Image.Exif()
    exif[315] = "somebody"
    other = saved(".avif", exif=exif)
    at = other.rindex(b"MM\0*\0\0\0\x08")
    assert (read(other[:at] + b"XX" + other[at + 2 :]) == read(straight)).all()


def test_damaged_tags_cost_no_tiff():
    chance = random.Random(0)
    data = saved(".tif", compression="tiff_adobe_deflate")
    assert (read(with_tags(data, [])) == PIXELS).all()
    kinds = (282, 305, 700, 33723, 34377, 34665, 34675, 34853, 40965, 50838)
    sizes = (0, 1, 2, 9, 100000, 2**31, 2**32 - 1)
    for _ in range(200):
        tags = [
            (tag, chance.randrange(17), chance.choice(sizes), chance.choice(sizes)) for tag in chance.sample(kinds, 2)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert (read(with_tags(data, tags)) == PIXELS).all(), tags


def with_tags(data, tags):
    """A little-endian TIFF with more entries in its directory, which moves to the end."""
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    entries = [data[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
    entries += [struct.pack("<HHII", *tag) for tag in tags]
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    data += bytes(len(data) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def test_the_size_of_jpeg_xl_is_read_from_its_head():
    for width, height in (
        (1, 1),
        (8, 8),
        (24, 16),
        (256, 256),
        (257, 255),
        (300, 200),
        (640, 480),
        (1920, 1080),
        (9000, 2),
    ):
        for container in (False, True):
            file = io.BytesIO()
            Image.new("RGB", (width, height)).save(file, "JXL", lossless=True, effort=1, use_container=container)
            data = file.getvalue()
            assert size(data[data.index(b"\xff\x0a") :]) == (width, height)
            with pytest.raises(ImageError, match=f"{width} x {height} pixels, more than"):
                open_image(file, max_pixels=width * height - 1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jxl", ".avif", ".jp2", ".webp", ".tif"])
def test_a_file_that_is_cut_anywhere_is_an_image_or_one_line(suffix):
    data = saved(suffix)
    for length in sorted({*range(0, 60), *range(60, len(data), max(1, len(data) // 25))}):
        try:
            read(data[:length])
        except ImageError as error:
            assert str(error).startswith("photo: ") and "\n" not in str(error)
