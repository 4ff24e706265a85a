"""BPG and VTM with small programs of the same command lines in their place."""

import sys

import numpy as np
import pytest
from PIL import Image

from ulcompress.evaluation.anchors import BPG, VTM

# An encoder that keeps every second or less of the bytes would be no test of the planes, so these keep all of them.
BPG_PROGRAM = """
import sys, shutil
arguments = sys.argv[1:]
if {encodes}:
    assert arguments[:2] == ["-f", "444"] and arguments[2] == "-q" and 0 <= int(arguments[3]) <= 51, arguments
assert arguments[-3] == "-o", arguments
shutil.copy(arguments[-1], arguments[-2])
"""
VTM_ENCODER = """
import sys, shutil
arguments = sys.argv[1:]
options = dict(zip(arguments, arguments[1:]))
assert open(options["-c"]).read() == "intra" and "--InputChromaFormat=444" in arguments
assert 3 * 2 * int(options["-wdt"]) * int(options["-hgt"]) == len(open(options["-i"], "rb").read())
shutil.copy(options["-i"], options["-b"])
"""
VTM_DECODER = """
import sys, shutil
arguments = sys.argv[1:]
options = dict(zip(arguments, arguments[1:]))
assert options["-d"] == "10"
shutil.copy(options["-b"], options["-o"])
"""


@pytest.fixture
def image():
    values = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(name, source):
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{source}")
        path.chmod(0o755)

    return write


def test_bpg(program, image):
    program("bpgenc", BPG_PROGRAM.format(encodes=True))
    with pytest.raises(ValueError, match=r"bpgdec is not on the path; build or install it \(BPG"):
        BPG().check()
    program("bpgdec", BPG_PROGRAM.format(encodes=False))
    BPG().check()
    assert BPG().decode(BPG().encode(image, 30)).tobytes() == image.tobytes()


def test_vtm(program, image, tmp_path, monkeypatch):
    program("EncoderApp", VTM_ENCODER)
    program("DecoderApp", VTM_DECODER)
    monkeypatch.delenv("VTM_CONFIG", raising=False)
    with pytest.raises(ValueError, match="VTM_CONFIG"):
        VTM().check()
    (tmp_path / "intra.cfg").write_text("intra")
    monkeypatch.setenv("VTM_CONFIG", str(tmp_path / "intra.cfg"))
    VTM().check()
    restored = np.asarray(VTM().decode(VTM().encode(image, 40)), dtype=int)
    assert np.abs(restored - np.asarray(image, dtype=int)).max() <= 1  # 10 bits of YCbCr


def test_a_program_that_fails_says_why(program, image):
    program("bpgenc", "import sys; sys.exit('no such chroma')")
    with pytest.raises(ValueError, match="bpgenc ended with 1: no such chroma"):
        BPG().encode(image, 30)


def test_luma_is_that_of_bt709():
    from ulcompress.evaluation.anchors.programs import _to_planes

    planes = np.frombuffer(_to_planes(Image.new("RGB", (1, 1), (0, 255, 0))), "<u2")
    assert planes.tolist() == [round(0.7152 * 1023), round((0.5 - 0.385428) * 1023), round((0.5 - 0.454153) * 1023)]
