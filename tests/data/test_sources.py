import gzip
import io
import pickle
import tarfile

import pytest
from PIL import Image

from ulcompress.data import open_source


def png(grey):
    file = io.BytesIO()
    Image.new("L", (4, 4), grey).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "b.png").write_bytes(png(1))
    (root / "b.txt").write_text("a cat\n\n  two cats \n")
    (root / "a.v2.PNG").write_bytes(png(2))
    (root / "a.v2.txt").write_text("Köln\n", encoding="utf-8")
    (root / "sub" / "c.png").write_bytes(png(3))
    (root / ".trash.png").write_bytes(b"")
    (root / "README.md").write_text("no image")
    return root


@pytest.fixture
def shard(folder, tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:  # the same images; the text may come first
        for name in ["b.txt", "b.png", "a.v2.PNG", "sub", "sub/c.png", ".trash.png", "a.v2.txt", "README.md"]:
            tar.add(folder / name, name, recursive=False)
    return path


def contents(source):
    return {(sample.data, *sample.captions) for sample in map(source.__getitem__, range(len(source)))}


EXPECTED = {(png(1), "a cat", "two cats"), (png(2), "Köln"), (png(3),)}


def test_folder_and_shard_hold_the_same(folder, shard):
    from_folder, from_shard = open_source(str(folder)), open_source(str(shard))
    assert contents(from_folder) == contents(from_shard) == EXPECTED
    assert sorted(from_folder.captions()) == sorted(from_shard.captions()) == ["Köln", "a cat", "two cats"]
    assert [from_folder.name(i) for i in range(3)] == [str(folder / n) for n in ("a.v2.PNG", "b.png", "sub/c.png")]
    assert from_shard[0].name == from_shard.name(0) == f"{shard}/b.png"


def test_paths_can_be_mixed(folder, shard, tmp_path):
    assert len(open_source(str(tmp_path))) == 6  # a folder with images and shards below
    assert len(open_source([str(shard), str(folder / "b.png")])) == 4
    assert len(open_source(str(tmp_path / "*.tar"))) == 3
    assert len(open_source(f"{folder}/**/*.png")) == 2
    assert len(open_source(f"{tmp_path}/fold*")) == 3


def test_a_source_survives_pickling(shard):
    assert contents(pickle.loads(pickle.dumps(open_source(str(shard))))) == EXPECTED


def test_a_shard_that_shrinks_is_reported(shard):
    source = open_source(str(shard))
    shard.write_bytes(b"short")
    with pytest.raises(OSError, match=r"x\.tar ends early"):
        source[0]


def test_missing_and_empty_sources_say_what_would_do(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for given, message in {
        "none": "no such file or folder, and as a pattern it matches nothing; check the path",
        "none*.tar": "as a pattern it matches nothing",
        "empty": "holds neither images nor .tar shards; give a path that does",
        "folder/README.md": r"neither an image, a shard \(.tar, .*\) nor a list of locations",
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            open_source(str(tmp_path / given))
        assert str(tmp_path / given) in str(error.value)
    with pytest.raises(ValueError, match="holds no images; give folders"):
        open_source([])


def test_unreadable_shards_say_what_would_do(shard, tmp_path):
    (tmp_path / "packed.tar").write_bytes(gzip.compress(shard.read_bytes()))
    (tmp_path / "half.tar").write_bytes(shard.read_bytes()[:1300])
    with tarfile.open(tmp_path / "texts.tar", "w") as tar:
        tar.add(shard.parent / "folder" / "b.txt", "b.txt")
    for name in ("packed", "half"):
        with pytest.raises(ValueError, match=rf"{name}\.tar: not a readable uncompressed tar file.*write it again"):
            open_source(str(tmp_path / f"{name}.tar"))
    with pytest.raises(ValueError, match=r"texts\.tar: no images in this shard; it needs members such as key\.webp"):
        open_source(str(tmp_path / "texts.tar"))


def test_captions_from_one_file_for_folders_and_shards(folder, shard, tmp_path):
    file = tmp_path / "captions.jsonl"
    file.write_text('{"image": "b.png", "captions": ["a dog", " "]}\n{"image": "sub/c.png", "captions": ["a cup"]}\n')
    for path in (folder, shard):
        source = open_source(str(path), captions=str(file))
        assert sorted(source.captions()) == ["Köln", "a cup", "a dog"], "the file wins, the rest keep their own"


def test_the_longest_path_wins(folder, tmp_path):
    file = tmp_path / "captions.jsonl"
    file.write_text('{"image": "c.png", "captions": ["short"]}\n{"image": "sub/c.png", "captions": ["long"]}\n')
    assert open_source(str(folder / "sub"), captions=str(file)).captions() == ["long"]
