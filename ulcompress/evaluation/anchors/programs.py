"""Codecs that are programs on the path: BPG, and VTM, the reference software of VVC."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from ulcompress.evaluation.anchors.base import Anchor

BT709 = np.array([[0.2126, 0.7152, 0.0722], [-0.114572, -0.385428, 0.5], [0.5, -0.454153, -0.045847]])
"""From RGB to luma and the two differences of colour, Rec. ITU-R BT.709, full range."""
DEEP = 1023
"""Largest value of 10 bits."""


class BPG(Anchor):
    """Bellard's BPG, HEVC intra in a small container: 4:4:4, 8 bits, the encoder's default effort."""

    name = "bpg"
    qualities = range(51, -1, -1)
    """Quantiser parameters."""

    def check(self) -> None:
        """Raise ValueError where `bpgenc` or `bpgdec` is not on the path."""
        _find("bpgenc", "BPG, bellard.org/bpg")
        _find("bpgdec", "BPG, bellard.org/bpg")

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the file of an RGB image."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.png", Path(folder) / "image.bpg"
            image.save(source)
            _run(["bpgenc", "-f", "444", "-q", str(quality), "-o", str(target), str(source)])
            return target.read_bytes()

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a file."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.bpg", Path(folder) / "image.png"
            source.write_bytes(data)
            _run(["bpgdec", "-o", str(target), str(source)])
            with Image.open(target) as image:
                return image.convert("RGB")


class VTM(Anchor):
    """VTM intra on 10-bit 4:4:4 YCbCr of BT.709.

    Its stream does not say how large the image is before padding; 4 bytes in front of it do, and are counted. The
    programs are `EncoderApp` and `DecoderApp` on the path, the configuration is VTM's `encoder_intra_vtm.cfg`, which
    the environment variable `VTM_CONFIG` names. An image takes minutes.
    """

    name = "vtm"
    qualities = range(63, -1, -1)
    """Quantiser parameters."""

    def check(self) -> None:
        """Raise ValueError where a program or the configuration is missing."""
        _find("EncoderApp", "VTM, vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM")
        _find("DecoderApp", "VTM, vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM")
        if not Path(os.environ.get("VTM_CONFIG", "")).is_file():
            raise ValueError("VTM needs its encoder_intra_vtm.cfg; name the file in the variable VTM_CONFIG")

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the size of an RGB image and its stream."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.yuv", Path(folder) / "image.vvc"
            source.write_bytes(_to_planes(image))
            size = ["-wdt", str(image.width), "-hgt", str(image.height), "--ConformanceWindowMode=1"]
            depth = ["--InputBitDepth=10", "--InputChromaFormat=444", "--InternalBitDepth=10"]
            one = ["-f", "1", "-fr", "1", "-q", str(quality)]
            files = ["-c", os.environ["VTM_CONFIG"], "-i", str(source), "-b", str(target), "-o", os.devnull]
            _run(["EncoderApp", *files, *size, *depth, *one])
            return struct.pack(">HH", *image.size) + target.read_bytes()

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a size and a stream."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.vvc", Path(folder) / "image.yuv"
            source.write_bytes(data[4:])
            _run(["DecoderApp", "-b", str(source), "-o", str(target), "-d", "10"])
            width, height = struct.unpack(">HH", data[:4])
            return _from_planes(target.read_bytes(), width, height)


def _to_planes(image: Image.Image) -> bytes:
    """Return luma, blue and red difference, each (H, W) in 10 bits, little-endian 16-bit words."""
    rgb = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    values = (rgb @ BT709.T + [0, 0.5, 0.5]).transpose(2, 0, 1)
    return np.rint(values * DEEP).clip(0, DEEP).astype("<u2").tobytes()


def _from_planes(data: bytes, width: int, height: int) -> Image.Image:
    planes = np.frombuffer(data, dtype="<u2", count=3 * width * height).reshape(3, height, width)
    values = planes.transpose(1, 2, 0) / DEEP - [0, 0.5, 0.5]
    rgb = values @ np.linalg.inv(BT709).T
    return Image.fromarray(np.rint(rgb * 255).clip(0, 255).astype(np.uint8))


def _find(program: str, source: str) -> None:
    if shutil.which(program) is None:
        raise ValueError(f"{program} is not on the path; build or install it ({source}), or leave this anchor out")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(f"{command[0]} ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")
