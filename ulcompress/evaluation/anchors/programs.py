"""Codecs that are programs on this machine: BPG, and VTM, the reference software of VVC."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from ulcompress.evaluation.anchors.base import Anchor

BT709 = np.array([[0.2126, 0.7152, 0.0722], [-0.114572, -0.385428, 0.5], [0.5, -0.454153, -0.045847]])
"""From RGB to luma and the two differences of colour, Rec. ITU-R BT.709, full range."""
DEEP = 1023
"""Largest value of 10 bits."""
SIZE = struct.Struct(">HH")
"""Width and height in front of a stream of VTM."""


class BPG(Anchor):
    """Bellard's BPG, HEVC intra in a small container: 4:4:4, 8 bits, by the slowest search of its own encoder.

    The programs are `bpgenc` and `bpgdec` on the path, or what the environment variables BPGENC and BPGDEC name.
    """

    name = "bpg"
    qualities = range(51, -1, -1)
    """Quantiser parameters."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Digests of the two programs."""
        return {"encoder": _digest(self._encoder()), "decoder": _digest(self._decoder())}

    def check(self) -> None:
        """Raise ValueError where one of the two programs is missing."""
        self._encoder()
        self._decoder()

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the file of an RGB image."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.png", Path(folder) / "image.bpg"
            image.save(source)
            options = ["-f", "444", "-m", "9", "-q", str(quality)]
            return _run([self._encoder(), *options, "-o", str(target), str(source)], target)

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a file."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.bpg", Path(folder) / "image.png"
            source.write_bytes(data)
            _run([self._decoder(), "-o", str(target), str(source)], target)
            with Image.open(target, formats=("PNG",)) as image:
                return image.convert("RGB")

    def _encoder(self) -> str:
        return _find("BPGENC", ["bpgenc"], "BPG (bellard.org/bpg)")

    def _decoder(self) -> str:
        return _find("BPGDEC", ["bpgdec"], "BPG (bellard.org/bpg)")


class VTM(Anchor):
    """VTM intra on 4:4:4 YCbCr of BT.709 in 10 bits, as CompressAI's benchmark uses it with 8 bits.

    What it decodes is bare pixels, so the size of the image is put in front of its stream: 4 bytes, which are counted.
    The programs are `EncoderApp` and `DecoderApp` (or `EncoderAppStatic` and `DecoderAppStatic`) on the path, or what
    the environment variables VTM_ENCODER and VTM_DECODER name; VTM_CONFIG names the configuration, VTM's
    `encoder_intra_vtm.cfg`. An image takes minutes.
    """

    name = "vtm"
    qualities = range(63, -1, -1)
    """Quantiser parameters."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Digests of the two programs and the configuration."""
        files = {"encoder": self._encoder(), "decoder": self._decoder(), "configuration": self._config()}
        return {name: _digest(path) for name, path in files.items()}

    def check(self) -> None:
        """Raise ValueError where a program or the configuration is missing."""
        self._encoder()
        self._decoder()
        self._config()

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """Return the size of an RGB image and its stream."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.yuv", Path(folder) / "image.vvc"
            source.write_bytes(to_planes(image))
            files = ["-c", self._config(), "-i", str(source), "-b", str(target), "-o", os.devnull]
            # Sides that are no multiple of the smallest block are padded, and the stream says by how much.
            size = ["-wdt", str(image.width), "-hgt", str(image.height), "--ConformanceWindowMode=1"]
            depth = ["--InputBitDepth=10", "--InternalBitDepth=10", "--InputChromaFormat=444"]
            one = ["-f", "1", "-fr", "1", "-q", str(quality), "--SEIDecodedPictureHash=0"]
            return SIZE.pack(*image.size) + _run([self._encoder(), *files, *size, *depth, *one], target)

    def decode(self, data: bytes) -> Image.Image:
        """Return the RGB image of a size and a stream."""
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.vvc", Path(folder) / "image.yuv"
            source.write_bytes(data[SIZE.size :])
            planes = _run([self._decoder(), "-b", str(source), "-o", str(target), "-d", "10"], target)
            return from_planes(planes, SIZE.unpack_from(data))

    def _encoder(self) -> str:
        return _find("VTM_ENCODER", ["EncoderApp", "EncoderAppStatic"], "VTM (vcgit.hhi.fraunhofer.de/jvet)")

    def _decoder(self) -> str:
        return _find("VTM_DECODER", ["DecoderApp", "DecoderAppStatic"], "VTM (vcgit.hhi.fraunhofer.de/jvet)")

    def _config(self) -> str:
        path = os.environ.get("VTM_CONFIG", "")
        if not Path(path).is_file():
            raise ValueError(f"VTM_CONFIG is {path!r}; let it name the file encoder_intra_vtm.cfg that comes with VTM")
        return path


def to_planes(image: Image.Image) -> bytes:
    """Return luma, blue and red difference of an RGB image, (3, H, W) in 10 bits, little-endian 16-bit words."""
    rgb = np.asarray(image, dtype=np.float64) / 255
    values = (rgb @ BT709.T + [0, 0.5, 0.5]).transpose(2, 0, 1)
    return np.rint(values * DEEP).clip(0, DEEP).astype("<u2").tobytes()


def from_planes(data: bytes, size: tuple[int, int]) -> Image.Image:
    """Return the RGB image, of a width and height, that `to_planes` describes; ValueError for another size."""
    width, height = size
    if len(data) != 6 * width * height:
        raise ValueError(f"got {len(data)} bytes of pixels for {width} x {height} in 4:4:4 and 10 bits; is this VTM?")
    planes = np.frombuffer(data, dtype="<u2").reshape(3, height, width)
    rgb = (planes.transpose(1, 2, 0) / DEEP - [0, 0.5, 0.5]) @ np.linalg.inv(BT709).T
    return Image.fromarray(np.rint(rgb * 255).clip(0, 255).astype(np.uint8))


def _find(variable: str, programs: Sequence[str], source: str) -> str:
    """Return the path of a program that an environment variable names, or else of the first one on the path."""
    wanted = [os.environ[variable]] if variable in os.environ else programs
    for program in wanted:
        if found := shutil.which(program):
            return found
    raise ValueError(f"{wanted[0]} was not found; put {source} on the path, let {variable} name it, or leave it out")


def _digest(path: str) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(command: Sequence[str], target: Path) -> bytes:
    """Run a program and return the file that it writes; ValueError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode or not target.is_file():
        output = (done.stderr or done.stdout).strip().splitlines()
        name = Path(command[0]).name
        raise ValueError(f"{name} ended with {done.returncode}: {output[-1] if output else 'no message'}")
    return target.read_bytes()
