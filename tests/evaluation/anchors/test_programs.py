import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from ulcompress.evaluation.anchors import BPG, VTM, match
from ulcompress.evaluation.anchors.programs import from_planes, to_planes

LOG = "import json, os, sys\nopen(os.environ['LOG'], 'a').write(json.dumps(sys.argv) + '\\n')\n"
ARGUMENT = "def argument(name): return sys.argv[sys.argv.index(name) + 1]\n"
# A lossless BPG, whose files grow as the quantiser parameter falls.
BPGENC = """
from pathlib import Path
assert argument('-f') == '444' and 0 <= int(argument('-q')) <= 51
padding = bytes(10 * (51 - int(argument('-q'))))
Path(argument('-o')).write_bytes(b'BPG' + padding + b'|' + Path(sys.argv[-1]).read_bytes())
"""
BPGDEC = """
from pathlib import Path
Path(argument('-o')).write_bytes(Path(sys.argv[-1]).read_bytes().partition(b'|')[2])
"""
# A lossless VTM that looks at what it is given, as the true one would.
ENCODER = """
from pathlib import Path
width, height, source = int(argument('-wdt')), int(argument('-hgt')), Path(argument('-i')).read_bytes()
assert len(source) == 2 * 3 * width * height, 'not 4:4:4 in 16-bit words'
assert Path(argument('-c')).read_text() == 'settings'
for option in ('--InputBitDepth=10', '--InputChromaFormat=444', '--ConformanceWindowMode=1'):
    assert option in sys.argv, option
assert argument('-f') == '1' and argument('-o') == os.devnull
Path(argument('-b')).write_bytes(bytes(63 - int(argument('-q'))) + b'VVC' + source)
"""
DECODER = """
from pathlib import Path
assert argument('-d') == '10'
Path(argument('-o')).write_bytes(Path(argument('-b')).read_bytes().partition(b'VVC')[2])
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a program on a path that has nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    for variable in ("BPGENC", "BPGDEC", "VTM_ENCODER", "VTM_DECODER", "VTM_CONFIG"):
        monkeypatch.delenv(variable, raising=False)

    def write(name, body, where=folder):
        path = where / name
        path.write_text(f"#!{sys.executable} -S\n{LOG}{ARGUMENT}{body}")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture
def calls(tmp_path):
    return lambda: [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


@pytest.fixture
def bpg(install):
    install("bpgenc", BPGENC)
    install("bpgdec", BPGDEC)
    return BPG()


@pytest.fixture
def vtm(install, tmp_path, monkeypatch):
    install("EncoderApp", ENCODER)
    install("DecoderApp", DECODER)
    config = tmp_path / "intra.cfg"
    config.write_text("settings")
    monkeypatch.setenv("VTM_CONFIG", str(config))
    return VTM()


@pytest.fixture
def photo():
    ramp = np.linspace(0, 255, 7 * 5 * 3).reshape(5, 7, 3)
    return Image.fromarray(ramp.astype(np.uint8))


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["bpg", "vtm"])
def test_an_image_goes_through_the_programs_and_leaves_no_file(name, request, photo, calls):
    anchor = request.getfixturevalue(name)
    anchor.check()
    data = anchor.encode(photo, 30)
    assert anchor.decode(data).tobytes() == photo.tobytes()
    encode, decode = calls()
    assert encode[encode.index("-q") + 1] == "30"
    used = [word for word in encode + decode if os.path.isabs(word) and "image." in word]
    assert len(used) == 4 and not any(os.path.exists(word) for word in used)


@pytest.mark.parametrize(("name", "program"), [("bpg", "bpgenc"), ("bpg", "bpgdec"), ("vtm", "EncoderApp")])
def test_another_program_is_another_anchor(name, program, request, install):
    anchor = request.getfixturevalue(name)
    before = anchor.identity
    assert anchor.identity == before
    install(program, "another version")
    assert anchor.identity != before


def test_another_configuration_is_another_anchor(vtm, tmp_path):
    before = vtm.identity
    (tmp_path / "intra.cfg").write_text("others")
    assert vtm.identity != before


@pytest.mark.parametrize("name", ["bpg", "vtm"])
def test_qualities_go_from_small_files_to_large_ones(name, request, photo):
    anchor = request.getfixturevalue(name)
    assert len(anchor.encode(photo, anchor.qualities[0])) < len(anchor.encode(photo, anchor.qualities[-1]))


def test_a_match_calls_the_encoder_no_more_than_a_bisection_needs(vtm, photo, calls):
    found = match(vtm, photo, 4 + 3 + 6 * 35 + 40)
    assert found.quality == 63 - 40 and found.fits
    encoded = [call for call in calls() if call[0].endswith("EncoderApp")]
    assert len(encoded) <= 7 and len(calls()) == len(encoded) + 1


def test_the_size_of_the_image_is_counted(vtm, photo):
    assert len(vtm.encode(photo, 63)) == 4 + len(b"VVC") + 2 * 3 * 7 * 5


@pytest.mark.parametrize("anchor", [BPG(), VTM()])
def test_without_programs_one_line_tells_what_is_missing(anchor, install):
    with pytest.raises(ValueError, match="was not found") as error:
        anchor.check()
    assert {"bpg": "BPGENC", "vtm": "VTM_ENCODER"}[anchor.name] in one_line(error)


def test_without_a_decoder_or_a_configuration_as_well(vtm, install, monkeypatch, tmp_path):
    monkeypatch.delenv("VTM_CONFIG")
    with pytest.raises(ValueError, match="VTM_CONFIG is '';") as error:
        vtm.check()
    assert "encoder_intra_vtm.cfg" in one_line(error)
    (tmp_path / "bin" / "DecoderApp").unlink()
    with pytest.raises(ValueError, match="VTM_DECODER"):
        vtm.check()
    install("DecoderAppStatic", DECODER)
    monkeypatch.setenv("VTM_CONFIG", str(tmp_path / "intra.cfg"))
    vtm.check()


def test_the_environment_names_programs_that_are_not_on_the_path(bpg, install, monkeypatch, tmp_path, photo, calls):
    elsewhere = install("my-encoder", BPGENC, where=tmp_path)
    monkeypatch.setenv("BPGENC", elsewhere)
    bpg.encode(photo, 20)
    assert calls()[0][0] == elsewhere
    monkeypatch.setenv("BPGENC", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere was not found"):
        bpg.check()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('x' * 9, file=sys.stderr); sys.exit('no such preset')", "bpgenc ended with 1: no such preset"),
        ("pass", "bpgenc ended with 0: no message"),  # and wrote no file
    ],
)
def test_what_a_failing_program_says_is_told_in_one_line(install, photo, body, said):
    install("bpgenc", body)
    with pytest.raises(ValueError, match=said) as error:
        BPG().encode(photo, 20)
    one_line(error)


def test_a_decoder_that_writes_something_else_is_found_out(vtm, install, photo):
    data = vtm.encode(photo, 40)
    install("DecoderApp", DECODER.replace("[2]", "[2][1:]"))
    with pytest.raises(ValueError, match="got 209 bytes of pixels for 7 x 5"):
        vtm.decode(data)


def test_planes_are_ycbcr_of_bt709_in_ten_bits():
    colours = [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    image = Image.fromarray(np.array([colours], dtype=np.uint8))
    planes = np.frombuffer(to_planes(image), dtype="<u2").reshape(3, 5)
    luma = [1023, 0, 1023 * 0.2126, 1023 * 0.7152, 1023 * 0.0722]
    assert np.abs(planes[0] - np.array(luma)).max() <= 0.5
    assert planes[1].tolist()[:2] == [512, 512] and planes[1, 4] == 1023 and planes[2, 2] == 1023
    assert from_planes(to_planes(image), image.size).tobytes() == image.tobytes()


def test_every_colour_survives_ten_bits():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert from_planes(to_planes(image), image.size).tobytes() == image.tobytes()
