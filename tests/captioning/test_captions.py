import gzip
import itertools
import json
import pickle
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from ulcompress.captioning.captions import BesideImages, CaptionFile, caption_images, first_caption, parse_captions
from ulcompress.commands.main import run
from ulcompress.conditioning import Captioner
from ulcompress.data.sources import open_source


class SizeCaptioner(Captioner):
    """Says how wide an image is; stops like a user after some batches."""

    def __init__(self, *, patience: int = 100):
        super().__init__()
        self.patience = patience
        self.batches = []

    def caption(self, images):
        if len(self.batches) == self.patience:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        return [f"{image.width} pixels wide" for image in images]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(5):
        Image.new("RGB", (index + 1, 4)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(params=["beside", "file"])
def store(request, tmp_path):
    """Return a function that opens the captions as a new process would."""
    return BesideImages if request.param == "beside" else lambda: CaptionFile(tmp_path / "captions.jsonl")


def paths(folder):
    return sorted(folder.glob("*.png"))


def test_every_image_is_captioned_in_batches(folder, store):
    captioner = SizeCaptioner()
    result = caption_images(captioner, paths(folder), store(), batch_size=2)
    assert captioner.batches == [2, 2, 1]
    assert (result.made, result.kept) == (5, 0)
    assert all(store().has(path) for path in paths(folder))


def test_an_interrupted_run_continues_where_it_stopped(folder, store):
    with pytest.raises(KeyboardInterrupt):
        caption_images(SizeCaptioner(patience=1), paths(folder), store(), batch_size=2)
    captioner = SizeCaptioner()
    result = caption_images(captioner, paths(folder), store(), batch_size=2)
    assert (result.made, result.kept) == (3, 2)
    assert captioner.batches == [2, 1]


def test_force_makes_them_anew(folder, store):
    caption_images(SizeCaptioner(), paths(folder), store())
    assert caption_images(SizeCaptioner(), paths(folder), store(), force=True).made == 5


def test_an_unreadable_image_stops_nothing(folder, store):
    (folder / "2.png").write_bytes(b"broken")
    result = caption_images(SizeCaptioner(), paths(folder), store(), batch_size=2)
    assert result.made == 4
    assert len(result.unreadable) == 1 and "2.png" in result.unreadable[0]


def test_half_a_line_is_done_again(folder, tmp_path):
    file = tmp_path / "captions.jsonl"
    caption_images(SizeCaptioner(), paths(folder), CaptionFile(file))
    file.write_text(file.read_text()[:-10])
    result = caption_images(SizeCaptioner(), paths(folder), CaptionFile(file))
    assert (result.made, result.kept) == (1, 4)
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_training_reads_captions_beside_and_from_a_file(folder, tmp_path):
    caption_images(SizeCaptioner(), paths(folder), BesideImages())
    assert open_source(str(folder)).captions() == [f"{n} pixels wide" for n in range(1, 6)]
    file = tmp_path / "captions.jsonl"
    file.write_text('{"image": "images/3.png", "captions": ["a", "b"]}\n{"image": "0.png", "captions": ["c"]}\n')
    captions = [open_source(str(folder), str(file))[index].captions for index in range(5)]
    assert captions == [["c"], ["2 pixels wide"], ["3 pixels wide"], ["a", "b"], ["5 pixels wide"]]


def test_a_file_that_fits_no_image_is_refused(folder, tmp_path):
    file = tmp_path / "captions.jsonl"
    file.write_text('{"image": "other/0.png", "captions": ["a"]}\n')
    with pytest.raises(ValueError, match="has captions of none of the images"):
        open_source(str(folder), str(file))
    with pytest.raises(ValueError, match="no captions file"):
        open_source(str(folder), str(tmp_path / "nothing.jsonl"))


@pytest.mark.parametrize("line", ["no json", "[1]", '{"image": "a.png"}', '{"image": "a.png", "captions": "text"}'])
def test_the_first_line_that_is_no_caption_is_named(line):
    with pytest.raises(ValueError, match=r"captions.jsonl, line 2: not a caption"):
        parse_captions(f'{{"image": "b.png", "captions": []}}\n{line}'.encode(), "captions.jsonl")


def test_first_caption_skips_blank_lines(tmp_path):
    assert first_caption(tmp_path / "0.png") is None
    (tmp_path / "0.txt").write_text("\n  a red cup \nanother\n")
    assert first_caption(tmp_path / "0.png") == "a red cup"
    (tmp_path / "0.txt").write_text("a red cup\n", encoding="utf-8-sig")
    assert first_caption(tmp_path / "0.png") == "a red cup"


def test_batches_of_nothing_are_refused(folder):
    with pytest.raises(ValueError, match="the batch size is 0"):
        caption_images(SizeCaptioner(), paths(folder), BesideImages(), batch_size=0)


def test_the_command(folder, monkeypatch, capsys):
    monkeypatch.setattr("ulcompress.captioning.captioner.BlipCaptioner", lambda **options: SizeCaptioner())
    (folder / "2.png").write_bytes(b"broken")
    assert run(["caption", str(folder)]) == 1
    assert "4 captions made, 0 existed, 1 images unreadable" in capsys.readouterr().out
    assert (folder / "3.txt").read_text() == "4 pixels wide\n"


def test_the_command_captions_shards_and_continues(folder, tmp_path, monkeypatch, capsys):
    (folder / "2.png").write_bytes(b"broken")
    for name in "ab":
        with tarfile.open(tmp_path / f"{name}.tar", "w") as shard:
            shard.add(folder, ".")
    shards, out = f"{tmp_path}/{{a,b}}.tar", tmp_path / "captions.jsonl"
    monkeypatch.setattr("ulcompress.captioning.captioner.BlipCaptioner", lambda **options: SizeCaptioner(patience=1))
    assert run(["caption", shards, "--out", str(out), "--batch-size", "4"]) == 130
    monkeypatch.setattr("ulcompress.captioning.captioner.BlipCaptioner", lambda **options: SizeCaptioner())
    assert run(["caption", shards, "--out", str(out)]) == 1
    assert "5 captions made, 3 existed, 2 images unreadable" in capsys.readouterr().out
    source = open_source(shards, str(out))
    found = {source.name(i).removeprefix(f"{tmp_path}/"): source[i].captions for i in range(10)}
    assert found["a.tar/3.png"] == found["b.tar/3.png"] == ["4 pixels wide"] and found["b.tar/2.png"] == []
    assert run(["caption", shards]) != 0 and "captions of shards need a file" in capsys.readouterr().err


def test_the_command_writes_shards_with_captions_and_continues(folder, tmp_path, monkeypatch, capsys):
    (folder / "2.png").write_bytes(b"broken")
    (folder / "3.txt").write_text("a red cup\n")
    (folder / "3.json").write_text("{}")
    for name in "ab":
        with tarfile.open(tmp_path / f"{name}.tar", "w") as shard:
            shard.add(folder, ".")
    out = tmp_path / "captioned"
    words = ["caption", f"{tmp_path}/{{a,b}}.tar", "--out", f"{out}/"]
    monkeypatch.setattr("ulcompress.captioning.captioner.BlipCaptioner", lambda **options: SizeCaptioner(patience=1))
    assert run([*words, "--batch-size", "5"]) == 130
    assert [path.name for path in out.iterdir()] == ["captions.jsonl"]
    monkeypatch.setattr("ulcompress.captioning.captioner.BlipCaptioner", lambda **options: SizeCaptioner())
    assert run(words) == 1
    assert "2 captions made, 6 existed, 2 images unreadable" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["a.tar", "b.tar", "captions.jsonl"]
    source = open_source(str(out))
    found = {source.name(index).removeprefix(f"{out}/"): source[index].captions for index in range(10)}
    expected = [["1 pixels wide"], ["2 pixels wide"], [], ["a red cup"], ["5 pixels wide"]]
    assert found == {f"{shard}.tar/{number}.png": expected[number] for shard in "ab" for number in range(5)}
    with tarfile.open(out / "a.tar") as shard:
        member = shard.extractfile("3.json")
        assert member is not None and member.read() == b"{}"
    written = (out / "a.tar").stat().st_mtime_ns
    assert run(words) == 1 and (out / "a.tar").stat().st_mtime_ns == written
    assert run([*words, "--force"]) == 1
    assert open_source(str(out)).captions()[2:4] == ["4 pixels wide", "5 pixels wide"]


@pytest.mark.parametrize(
    ("shards", "out", "message"),
    [
        ("a.tar", ".", "would be written over itself; give --out another folder"),
        ("a.{tar,tar.gz}", "new/", r"a.tar and .*a.tar.gz would both be written to .*new/a.tar"),
    ],
)
def test_shards_that_would_be_lost_are_refused_before_anything_is_done(
    folder, tmp_path, monkeypatch, capsys, shards, out, message
):
    monkeypatch.setenv("ULCOMPRESS_CACHE", str(folder))
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        shard.add(folder / "0.png", "0.png")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    before = sorted(tmp_path.iterdir())
    assert run(["caption", f"{tmp_path}/{shards}", "--out", f"{tmp_path}/{out}"]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert sorted(tmp_path.iterdir()) == before


def test_processes_share_the_images_in_their_order(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("ulcompress.captioning.captioner.BlipCaptioner", lambda **options: SizeCaptioner())
    counts = []

    def one_after_another(work, shares, report, *, threads):
        results = []
        for share in shares:
            results.append([])
            work(pickle.loads(pickle.dumps(share)), results[-1].append)
        counts.append([len(some) for some in results])
        for turn in itertools.zip_longest(*results):
            for one in turn:
                if one is not None:
                    report(one)

    monkeypatch.setattr("ulcompress.commands.caption.in_processes", one_after_another)
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        shard.add(folder, ".")
    for inputs in (folder, tmp_path / "a.tar"):
        files = []
        for devices in "12":
            files.append(tmp_path / f"{inputs.name}{devices}.jsonl")
            assert run(["caption", str(inputs), "--out", str(files[-1]), "--devices", devices]) == 0
        assert files[0].read_bytes() == files[1].read_bytes() and files[0].read_bytes().count(b"\n") == 5
    assert counts == [[5], [3, 2]] * 2


def test_compress_takes_captions_beside_or_makes_them(folder, monkeypatch, capsys):
    (folder / "3.txt").write_text("a red cup\n")
    image = str(folder / "3.png")
    assert run(["compress", image, "--captions"]) == 0
    assert "'a red cup'" in capsys.readouterr().out
    monkeypatch.setattr("ulcompress.captioning.captioner.BlipCaptioner", lambda **options: SizeCaptioner())
    assert run(["compress", image, "--captioner", "--force"]) == 0
    assert "'4 pixels wide'" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b"\xff\xd8", b"\xff\xd8\n\xff"])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path, content):
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="line 1: not a caption"):
        CaptionFile(file)
    assert file.read_bytes() == content


def test_a_last_line_is_dropped_only_if_it_is_cut(tmp_path):
    file = tmp_path / "captions.jsonl"
    lines = '{"image": "a.png", "captions": ["x"]}\n{"image": "b.png", "captions": ["Köln"]}'.encode()
    file.write_bytes(lines)  # as an editor may leave it
    assert CaptionFile(file).has(Path("b.png"))
    for cut in range(lines.index(b"\n") + 2, len(lines)):  # also in the middle of a character
        file.write_bytes(lines[:cut])
        store = CaptionFile(file)
        assert store.has(Path("a.png")) and not store.has(Path("b.png"))
        store.add(Path("b.png"), "y")
        assert CaptionFile(file).has(Path("b.png"))


def test_any_text_survives(tmp_path):
    file = tmp_path / "new" / "captions.jsonl"
    caption = 'Köln, "one\u2028two\x85three"'
    CaptionFile(file).add(Path("a.png"), caption)
    assert parse_captions(file.read_bytes(), "") == {"a.png": [caption]}


@pytest.mark.parametrize("given", ["../images", "absolute"])
def test_names_do_not_depend_on_where_the_command_was_run(folder, tmp_path, monkeypatch, given):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    root = folder if given == "absolute" else Path(given)
    caption_images(SizeCaptioner(), paths(root), CaptionFile(Path("captions.jsonl"), [root]))
    monkeypatch.chdir(tmp_path)
    assert len(open_source("images", captions="elsewhere/captions.jsonl").captions()) == 5
    assert "images/0.png" in parse_captions(Path("elsewhere/captions.jsonl").read_bytes(), "")


def test_two_images_for_one_caption_are_refused(folder):
    Image.new("RGB", (2, 2)).save(folder / "0.bmp")
    captioner = SizeCaptioner()
    with pytest.raises(ValueError, match=r"0\.bmp and .*0\.png would share the caption .*0\.txt"):
        caption_images(captioner, [folder / "0.bmp", *paths(folder)], BesideImages())
    assert captioner.batches == []


TEXTS = {
    "utf-8": "Köln\n".encode(),
    "mark": "Köln\n".encode("utf-8-sig"),
    "utf-16": "Köln\r\n".encode("utf-16"),
    "utf-16, big": "\ufeffKöln\r\n".encode("utf-16-be"),
    "utf-16 without a mark": "Köln\r\n".encode("utf-16-le"),
    "utf-32": "Köln\n".encode("utf-32"),
    "old ends of lines": "\r\rKöln\rzwei\r".encode(),
    "nul": "\0Köln\0\n".encode(),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("suffix", [".txt", ".TXT"])
def test_every_reader_reads_every_encoding(folder, text, suffix):
    image = (folder / "3.png").rename(folder.parent / "3.png")
    image.with_suffix(suffix).write_bytes(text)
    assert first_caption(image) == "Köln"
    assert BesideImages().has(image)
    assert open_source(str(image))[0].captions[0] == "Köln"


def test_a_file_that_is_no_unicode_is_read_and_told(folder):
    (folder / "3.txt").write_bytes("Köln €\n".encode("cp1252"))
    with pytest.warns(UserWarning, match=r"3\.txt is not UTF-8 and was read as Windows-1252 \(Latin-1\); save it"):
        assert first_caption(folder / "3.png") == "Köln €"
    survey = open_source(str(folder)).survey()
    assert (survey.captions, survey.captioned, survey.guessed) == (["Köln €"], 1, [str(folder / "3.png")])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_a_file_of_json_lines_in_another_encoding_goes_on_in_utf_8(tmp_path, encoding):
    file = tmp_path / "captions.jsonl"
    text = '{"image": "a.png", "captions": ["Köln"]}\r\n'
    file.write_bytes(text.encode(encoding))
    assert parse_captions(file.read_bytes(), "") == {"a.png": ["Köln"]}
    CaptionFile(file).add(Path("b.png"), "Würzburg")
    assert parse_captions(file.read_bytes(), "") == {"a.png": ["Köln"], "b.png": ["Würzburg"]}
    file.read_bytes().decode()


def test_captions_given_in_another_encoding_are_told(folder, tmp_path):
    file = tmp_path / "captions.jsonl"
    file.write_bytes('{"image": "0.png", "captions": ["Köln"]}'.encode("cp1252"))
    with pytest.warns(UserWarning, match=r"captions\.jsonl is not UTF-8"):
        assert open_source(str(folder), str(file)).captions() == ["Köln"]
