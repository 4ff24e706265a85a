import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from ulcompress.images import ColourWarning, ImageError, open_image, to_rgb
from ulcompress.pixels.colour import BT709, PRIMARIES
from ulcompress.pixels.icc import SRGB_CURVE, matrix_profile

DISPLAY_P3 = matrix_profile(PRIMARIES[12], SRGB_CURVE, "Display P3")
ADOBE_RGB = matrix_profile((0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), (2.19921875,), "Adobe RGB (1998)")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# Published matrices from linear RGB to XYZ, D65, with which the expected values are computed.
XYZ_OF_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
XYZ_OF_P3 = np.array([[0.48657, 0.26567, 0.19822], [0.22897, 0.69174, 0.07929], [0.0, 0.04511, 1.04394]])


def linear(codes):
    codes = codes / 255
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def codes(light):
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.fixture(scope="module")
def shown():
    """What a viewer shows, in sRGB: colours that are not too strong, so that no space cuts them."""
    down, right = np.meshgrid(np.linspace(40, 200, 24), np.linspace(50, 220, 32), indexing="ij")
    return np.stack([down, right, 250 - down], -1).round().astype(np.uint8)


@pytest.fixture(scope="module")
def in_p3(shown):
    """The same as 8-bit Display P3, computed without a profile."""
    return codes(linear(shown) @ (np.linalg.inv(XYZ_OF_P3) @ XYZ_OF_SRGB).T).round().astype(np.uint8)


def array(image):
    return np.asarray(image).astype(int)


def read(data):
    return array(open_image(io.BytesIO(data), name="photo"))


def saved(image, suffix, **options):
    file = io.BytesIO()
    Image.init()
    image.save(file, Image.registered_extensions()[suffix], **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(image, *chunks):
    """A PNG with chunks after its head."""
    data = saved(image, ".png")
    return data[:33] + b"".join(chunk(*each) for each in chunks) + data[33:]


def iccp(profile):
    return b"iCCP", b"name\0\0" + zlib.compress(profile)


def cicp(primaries, transfer):
    return b"cICP", bytes((primaries, transfer, 0, 1))


def jp2(image, profile):
    """A JPEG 2000 file with an ICC profile."""

    def box(kind, data):
        return struct.pack(">I", 8 + len(data)) + kind + data

    header = box(b"ihdr", struct.pack(">IIHBBBB", image.height, image.width, 3, 7, 7, 0, 0))
    header += box(b"colr", b"\2\0\0" + profile)
    codestream = saved(image, ".jp2", no_jp2=True)
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 " + bytes(4) + b"jp2 ")
    return start + box(b"jp2h", header) + box(b"jp2c", codestream)


FILES = {
    "png": lambda image: saved(image, ".png", icc_profile=DISPLAY_P3),
    "jpeg": lambda image: saved(image, ".jpg", icc_profile=DISPLAY_P3, quality=100, subsampling=0),
    "webp": lambda image: saved(image, ".webp", icc_profile=DISPLAY_P3, lossless=True),
    "tiff": lambda image: saved(image, ".tif", icc_profile=DISPLAY_P3),
    "avif": lambda image: saved(image, ".avif", icc_profile=DISPLAY_P3, quality=100, subsampling="4:4:4"),
    "jpeg 2000": lambda image: jp2(image, DISPLAY_P3),
    "png with code points": lambda image: png(image, cicp(12, 13)),
    "png with primaries": lambda image: png(
        image,
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", *(round(100000 * value) for value in PRIMARIES[12]))),
    ),
}


LOSSY = ("jpeg", "avif")


@pytest.mark.parametrize("name", FILES)
def test_display_p3_is_shown_in_srgb(shown, in_p3, name):
    with pytest.warns(ColourWarning, match="colours are converted to sRGB from"):
        found = read(FILES[name](Image.fromarray(in_p3)))
    mean, largest = (1.5, 20) if name in LOSSY else (0.7, 4)
    assert np.abs(found - shown).mean() < mean and np.abs(found - shown).max() <= largest
    assert np.abs(in_p3.astype(int) - shown).mean() > 4  # which would be the error


def test_code_points_of_avif_are_its_colours(shown, in_p3):
    data = saved(Image.fromarray(in_p3), ".avif", quality=100, subsampling="4:4:4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(data)
    at = data.index(b"nclx") + 4
    with pytest.warns(ColourWarning, match=r"primaries 12 and transfer 13 of H\.273"):
        found = read(data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :])
    assert np.abs(found - shown).mean() < 1.5


def test_a_gamma_is_applied_to_greys_and_colours():
    for mode in ("L", "RGB"):
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)
        with pytest.warns(ColourWarning, match="gamma 1 with"):
            found = read(png(ramp, (b"gAMA", struct.pack(">I", 100000))))
        assert np.abs(found[0, :, 1] - codes(np.arange(256) / 255)).max() <= 1


def grey_profile(exponent):
    """An ICC profile of greys."""
    tags = {
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"para" + bytes(8) + struct.pack(">i", round(65536 * exponent)),
    }
    return profile(b"GRAY", b"XYZ ", b"mntr", tags)


def cmyk_profile():
    """An ICC profile of inks: light as far as none is printed, and all of them leave 20 % of the lightness."""
    table = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lightness = 255 * (1 - 0.8 * max(k, (c + m + y) / 3))
        table += [round(lightness), 128 - 40 * c + 40 * m, 128 + 60 * y - 40 * c]
    curve = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + 4 * curve + bytes(table) + 3 * curve
    back = [ink for dark, _, _ in np.ndindex(2, 2, 2) for ink in (0, 0, 0, 255 * (1 - dark))]
    inverse = b"mft1" + bytes(4) + bytes((3, 4, 2, 0)) + identity + 3 * curve + bytes(back) + 4 * curve
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"A2B0": lut, b"A2B1": lut, b"B2A0": inverse, b"B2A1": inverse, b"wtpt": white}
    return profile(b"CMYK", b"Lab ", b"prtr", tags)


def profile(space, connection, device, tags):
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), bytes(4), 0x02400000, device, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def test_a_grey_profile_is_applied():
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    with pytest.warns(ColourWarning, match="a profile without a name|converted"):
        found = read(saved(ramp, ".png", icc_profile=grey_profile(1.0)))
    assert np.abs(found[0, :, 0] - codes(np.arange(256) / 255)).max() <= 1


def test_inks_are_shown_by_their_profile_and_their_black_is_black():
    inks = np.zeros((1, 3, 4), dtype=np.uint8)
    inks[0, 1] = (0, 0, 0, 255)
    inks[0, 2] = (255, 0, 0, 0)
    image = Image.fromarray(inks, "CMYK")
    with pytest.warns(ColourWarning):
        found = array(to_rgb(with_profile(image, cmyk_profile())))
    assert (found[0, 0] >= 253).all()
    assert found[0, 1].max() <= 2  # without compensation of the black point it would be a dark grey of some 50
    assert found[0, 2, 2] > found[0, 2, 0] + 50


def with_profile(image, data):
    image.info["icc_profile"] = data
    return image


def test_a_grey_image_can_have_the_profile_of_colours():
    grey = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    with pytest.warns(ColourWarning, match="Adobe RGB"):
        found = array(to_rgb(with_profile(grey, ADOBE_RGB)))
    expected = codes((np.arange(256) / 255) ** 2.19921875)
    assert np.abs(found[0, :, 0] - expected).max() <= 1


def test_palettes_have_profiles_too(shown, in_p3):
    image = Image.fromarray(in_p3).quantize(256)
    with pytest.warns(ColourWarning):
        found = read(saved(image, ".png", icc_profile=DISPLAY_P3))
    assert np.abs(found - shown).mean() < 12


def test_alpha_is_composited_after_the_conversion(shown, in_p3):
    alpha = np.full((*in_p3.shape[:2], 1), 128, dtype=np.uint8)
    image = Image.fromarray(np.concatenate([in_p3, alpha], -1))
    with pytest.warns(ColourWarning):
        found = read(saved(image, ".png", icc_profile=DISPLAY_P3))
    assert np.abs(found - (shown * (128 / 255) + 127)).max() <= 3


SRGB_FILES = {
    "profile of Pillow": lambda image: saved(image, ".png", icc_profile=SRGB),
    "profile of JPEG XL": lambda image: saved(image, ".jxl", lossless=True),
    "profile of numbers": lambda image: saved(
        image, ".webp", lossless=True, icc_profile=matrix_profile(BT709, SRGB_CURVE, "x")
    ),
    "chunk": lambda image: png(image, (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455))),
    "gamma and primaries": lambda image: png(
        image,
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    ),
    "code points": lambda image: png(image, cicp(1, 13)),
    "nothing": lambda image: saved(image, ".png"),
}


@pytest.mark.parametrize("name", SRGB_FILES)
def test_srgb_in_all_its_spellings_is_left_as_it_is(name):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    assert (read(SRGB_FILES[name](Image.fromarray(pixels))) == pixels).all()


def test_of_several_statements_the_strongest_counts(shown):
    image, linear_gamma = Image.fromarray(shown), (b"gAMA", struct.pack(">I", 100000))
    assert (read(png(image, linear_gamma, (b"sRGB", b"\0"))) == shown).all()
    assert (read(png(image, iccp(SRGB), linear_gamma)) == shown).all()
    assert (read(png(image, cicp(1, 13), iccp(ADOBE_RGB), linear_gamma)) == shown).all()
    with pytest.warns(ColourWarning, match="Adobe RGB"):
        read(png(image, iccp(ADOBE_RGB), (b"sRGB", b"\0")))
    with pytest.warns(ColourWarning, match="primaries 9"):
        read(png(image, cicp(9, 13), iccp(SRGB)))


@pytest.mark.parametrize(("transfer", "curve"), [(16, "PQ"), (18, "HLG")])
def test_a_high_dynamic_range_is_refused(shown, transfer, curve):
    image = Image.fromarray(shown)
    with pytest.raises(ImageError, match=rf"^photo: its dynamic range is high \({curve}\).* convert it"):
        read(png(image, cicp(9, transfer)))
    data = saved(image, ".avif")
    at = data.index(b"nclx") + 4
    with pytest.raises(ImageError, match=curve):
        read(data[:at] + struct.pack(">HH", 9, transfer) + data[at + 4 :])


BROKEN = {
    "zeros": iccp(bytes(300)),
    "cut": iccp(DISPLAY_P3[:200]),
    "of inks": iccp(cmyk_profile()),
    "not compressed": (b"iCCP", b"name\0\0" + DISPLAY_P3),
    "of 32 MiB": iccp(bytes(2**25)),
    "unknown primaries": cicp(200, 13),
    "unknown transfer": cicp(1, 200),
    "gamma 0": (b"gAMA", bytes(4)),
    "primaries in one point": (b"cHRM", struct.pack(">8I", *[33333] * 8)),
    "primaries that are none": (b"cHRM", bytes(32)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_statement_is_a_warning(shown, name):
    with pytest.warns(ColourWarning, match="^photo: colours are taken as sRGB, as the description of its colour"):
        assert (read(png(Image.fromarray(shown), BROKEN[name])) == shown).all()


def test_a_conversion_is_said_once(in_p3):
    data = FILES["png"](Image.fromarray(in_p3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for name in "abc":
            open_image(io.BytesIO(data), name=name)
    assert [str(warning.message) for warning in caught] == ["colours are converted to sRGB from Display P3"]


def test_a_name_of_a_profile_cannot_reach_the_terminal(shown):
    evil = matrix_profile(PRIMARIES[12], SRGB_CURVE, "\x1b[2J\nP3" + 500 * "x")
    with pytest.warns(ColourWarning) as caught:
        read(saved(Image.fromarray(shown), ".png", icc_profile=evil))
    assert str(caught[0].message).isprintable() and len(str(caught[0].message)) < 150
