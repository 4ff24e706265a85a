from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from skimage import data

import ulcompress
from ulcompress.commands.main import run
from ulcompress.foundation.published_file import PublishedFile, sha256_of
from ulcompress.learned import importing
from ulcompress.learned.catalogue import PUBLISHED
from ulcompress.learned.illm import MSILLM
from ulcompress.pretrained import find

NAME = "msillm-vlo2"


@pytest.fixture
def small(illm_sizes, monkeypatch, tmp_path):
    """Let published models have the size of the tests, and caches of their own."""
    monkeypatch.setattr(importing, "MSILLM", partial(MSILLM, **illm_sizes))
    monkeypatch.setenv("ULCOMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def served(small, illm_file, monkeypatch):
    """What the address would give; the addresses that were asked for."""
    asked = []

    def download(url, target, **_):
        asked.append(url)
        with open(target, "wb") as file:
            file.write(illm_file.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return asked


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(data.astronaut()[100:228, 150:300]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_file_becomes_a_codec_that_codes_a_photograph(small, illm_file, photo, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert run(["import", NAME, str(illm_file), out]) == 0, capsys.readouterr().err
    fingerprint = ulcompress.load(out).fingerprint.hex()
    assert capsys.readouterr().out == f"{NAME} -> {out}: fingerprint {fingerprint}\n"
    assert run(["compress", str(photo), "--codec", out]) == 0
    coded = photo.with_suffix(".ulc")
    capsys.readouterr()
    assert run(["info", str(coded)]) == 0
    assert f"{fingerprint} ({NAME})" in capsys.readouterr().out, "found by its fingerprint, wherever it is"
    assert run(["decompress", str(coded), "-o", str(tmp_path / "restored.png")]) == 0
    assert "150 x 128" in capsys.readouterr().out


def test_the_card_states_origin_licence_and_hash(small, illm_file, tmp_path):
    importing.import_codec(NAME, [illm_file], tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert f"| msillm.ckpt | `{sha256_of(illm_file)}` |" in card
    assert PUBLISHED[NAME].address in card and "CC-BY-NC 4.0" in card and "0.00438 bpp" in card


def test_an_existing_codec_is_kept(small, illm_file, tmp_path, capsys):
    (tmp_path / "config.yaml").touch()
    assert run(["import", NAME, str(illm_file), str(tmp_path)]) == 1
    assert "use --force to overwrite it" in capsys.readouterr().err


@torch.no_grad()
def test_loading_by_name_imports_once(served, authors):
    codec = ulcompress.load(NAME)
    again = ulcompress.load(NAME)
    assert served == [PUBLISHED[NAME].address]
    assert codec.fingerprint == again.fingerprint
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(codec.encoder(image, image), authors.encoder(image), atol=0.02, rtol=0.02)


def test_an_import_elsewhere_is_loaded_by_name_until_it_is_gone(served, illm_file, tmp_path):
    codec = importing.import_codec(NAME, [illm_file], tmp_path / "out")
    assert ulcompress.load(NAME).fingerprint == codec.fingerprint and not served
    (tmp_path / "out").rename(tmp_path / "moved")
    assert find(codec.fingerprint.hex()) is None
    assert ulcompress.load(NAME).fingerprint == codec.fingerprint and len(served) == 1


def test_without_a_network_the_message_says_what_to_fetch_and_from_where(small, monkeypatch, capsys):
    def fail(*_, **__):
        raise URLError("no route\nto host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ValueError, match=r"cannot fetch https://.*0\.00438bpp\.ckpt: no route to host; .*") as error:
        ulcompress.load(NAME)
    assert str(error.value).endswith(f"`ulcompress import {NAME} FILE OUT`")


def test_a_hash_that_is_known_is_compared(small, illm_file, monkeypatch, tmp_path):
    digest = sha256_of(illm_file)
    for known, fits in ((digest[:8], True), ("0123abcd", False)):
        published = replace(PUBLISHED[NAME], files=(PublishedFile(PUBLISHED[NAME].address, sha256=known),))
        monkeypatch.setitem(importing.PUBLISHED, NAME, published)
        if fits:
            importing.import_codec(NAME, [illm_file], tmp_path / "out")
        else:
            with pytest.raises(ValueError, match=f"msillm.ckpt is damaged or another file: its SHA-256 is {digest}"):
                importing.import_codec(NAME, [illm_file], tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("msillm-9", [], "no published codec 'msillm-9'; `ulcompress models` lists them: .*msillm-vlo1, "),
        (NAME, ["a", "b"], "msillm-vlo2 is one file or folder, got 2: a, b"),
        (NAME, ["absent.ckpt"], "no file absent.ckpt; msillm-vlo2 is published at https://"),
    ],
)
def test_what_cannot_be_imported_is_refused(name, files, message, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        importing.import_codec(name, [Path(file) for file in files], tmp_path / "out")


def test_the_list_names_what_is_here_and_what_can_be_had(small, illm_file, tmp_path, capsys):
    codec = importing.import_codec(NAME, [illm_file], tmp_path / "out")
    assert run(["models"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert any(line.split() == [NAME, "0.00438", "0", codec.fingerprint.hex(), "imported"] for line in lines)
    assert any(line.startswith("  mini-cgdm ") and line.endswith("bundled") for line in lines)
    for name, published in PUBLISHED.items():
        folder, _, file = published.address.rpartition("/")
        assert folder in text
        assert any(line.startswith(f"  {name} ") and (file in line or not published.files) for line in lines)
    assert "by hand, then `ulcompress import NAME FOLDER OUT`" in text
    assert "  bmshj2018-factorized  1 to 8" in lines


def test_a_file_of_an_unknown_codec_names_it(small, illm_file, photo, tmp_path, capsys):
    codec = importing.import_codec(NAME, [illm_file], tmp_path / "out")
    assert run(["compress", str(photo), "--codec", str(tmp_path / "out")]) == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    coded = str(photo.with_suffix(".ulc"))
    assert run(["decompress", coded, "-o", str(tmp_path / "restored.png")]) == 1
    assert (
        f"the file needs the codec {codec.fingerprint.hex()}, which is neither bundled nor" in capsys.readouterr().err
    )
    assert run(["decompress", coded, "-o", str(tmp_path / "restored.png"), "--codec", str(tmp_path / "moved")]) == 0


def test_a_file_of_any_bundled_codec_is_restored_without_naming_it(tmp_path, one_thread):
    golden = Path(__file__).parents[1] / "golden"
    files = [str(golden / f"{name}.rate-1.ulc") for name in ("mini", "mini-cgdm")]
    assert run(["decompress", *files, "-o", str(tmp_path / "restored"), "--steps", "1"]) == 0
    assert len(list((tmp_path / "restored").iterdir())) == 2
