"""What asks for too much ends in one line, and the rest of a batch goes on."""

import pytest
import torch

from ulcompress.codec import Codec
from ulcompress.coding.bitstream import VERSION, Header, check_of
from ulcompress.commands import inspection
from ulcompress.commands.main import run
from ulcompress.images import write_image
from ulcompress.pretrained import save

SMALL = 40 * 50


@pytest.fixture
def photo(tmp_path):
    write_image(torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)), tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def forged(tiny_staged_codec, tmp_path):
    """Return a function that writes a file of few bytes, with a right check, for an image of some side."""

    def write(side):
        head = Header(VERSION, tiny_staged_codec.fingerprint, side, side).pack()
        path = tmp_path / f"a{side}.ulc"
        path.write_bytes(head + check_of(head, b"\1") + b"\1")
        return path

    return write


def test_a_file_that_claims_too_much_is_one_line_and_the_others_go_on(directory, photo, forged, capsys):
    assert run(["compress", str(photo), "--codec", directory]) == 0
    files = [str(forged(4096)), str(forged(16384)), str(photo.with_suffix(".ulc"))]
    assert run(["decompress", *files, "--codec", directory, "-o", str(photo.parent / "out")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "payload of 1 bytes cannot hold the image" in lines[0]
    assert lines[1].endswith(
        "a16384.ulc: the file says 16384 x 16384 pixels, more than 67108864; give --max-pixels to allow more"
    )
    assert (photo.parent / "out" / "photo.png").is_file()
    assert run(["info", *files, "--codec", directory]) == 1
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 2 and "photo.ulc" in told.out


@pytest.mark.parametrize("verb", ["compress", "decompress", "info", "evaluate"])
def test_the_limit_can_be_set(directory, photo, capsys, verb):
    file = photo.with_suffix(".ulc")
    assert run(["compress", str(photo), "--codec", directory]) == 0
    source = file if verb in ("decompress", "info") else photo
    words = [verb, str(source), "--codec", directory]
    words += ["--force"] if verb in ("compress", "decompress") else []
    capsys.readouterr()
    assert run([*words, "--max-pixels", str(SMALL - 1)]) == 1
    assert "50 x 40 pixels, more than" in "".join(capsys.readouterr()).replace("the limit of ", "")
    assert run([*words, "--max-pixels", str(SMALL)]) == 0


def test_choose_seed_and_demo_have_the_limit(tiny_guided_codec, photo, tmp_path, capsys):
    save(tiny_guided_codec, tmp_path / "guided")
    codec = str(tmp_path / "guided")
    for words in (
        ["choose-seed", codec, str(photo), "--out", str(tmp_path / "seeded")],
        ["demo", str(photo), "--codec", codec, "--out", str(tmp_path / "demo")],
    ):
        assert run([*words, "--max-pixels", str(SMALL - 1)]) == 1
        assert "50 x 40 pixels, more than" in capsys.readouterr().err


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nto allocate 9 bytes")],
)
@pytest.mark.parametrize("verb", ["compress", "decompress", "info"])
def test_a_failed_allocation_is_one_line_of_its_file(directory, photo, monkeypatch, capsys, failure, verb):
    write_image(torch.rand(3, 20, 30), photo.parent / "small.png")
    images = [str(photo), str(photo.parent / "small.png")]
    assert run(["compress", *images, "--codec", directory]) == 0
    works = {"compress": (Codec, "encode"), "decompress": (Codec, "decompress"), "info": (inspection, "describe")}
    owner, method = works[verb]
    whole, seen = getattr(owner, method), []

    def fail_once(*arguments, **options):
        seen.append(1)
        if len(seen) == 1:
            raise failure
        return whole(*arguments, **options)

    monkeypatch.setattr(owner, method, fail_once)
    inputs = images if verb == "compress" else [image.replace(".png", ".ulc") for image in images]
    options = [] if verb == "info" else ["--force"]
    capsys.readouterr()
    assert run([verb, *inputs, "--codec", directory, *options]) == 1
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 1 and f"not enough memory for {inputs[0]}" in told.err
    assert "small" in told.out


def test_evaluate_reads_a_program_where_it_is_trusted_alone(
    directory, photo, two_maps, save_exported, tmp_path, capsys
):
    save_exported(two_maps, tmp_path / "net.pt2")
    words = ["evaluate", str(photo), "--codec", directory, "--metrics", "frechet-net", "--weights", str(tmp_path)]
    assert run(words) == 0
    assert "can hold code that would run now" in "".join(capsys.readouterr())
    assert run([*words, "--trust-networks"]) == 0
    assert "can hold code" not in "".join(capsys.readouterr())
