"""Shards from elsewhere, compressed ones, Parquet and commands."""

import io
import json
import os

import fsspec
import pytest
from PIL import Image

from ulcompress.data import Draw, ImageDataset, copies, open_source, storage


def names(source):
    return [source[i].name.rpartition("/")[2] for i in range(len(source))]


@pytest.fixture
def shards(server, write_shard):
    for number in range(3):
        write_shard(server.folder / f"train-{number:03d}.tar", 4 * number, 4)
    return server


@pytest.mark.parametrize("block", [1 << 20, 1000])
@pytest.mark.parametrize("ranges", [True, False])
def test_shards_of_a_server_hold_what_they_hold_on_this_machine(shards, ranges, block, monkeypatch):
    monkeypatch.setattr(storage, "BLOCK", block)  # smaller than a shard, as it is in use
    monkeypatch.setattr(copies, "CHUNK", block)
    shards.ranges = ranges
    remote = open_source(f"{shards.url}/train-{{000..002}}.tar")
    local = open_source(f"{shards.folder}/train-{{000..002}}.tar")
    assert [remote[i][1:] for i in range(12)] == [local[i][1:] for i in range(12)] and len(remote) == 12
    assert remote.name(5) == f"{shards.url}/train-001.tar/5.png"
    assert remote.captions() == local.captions() and remote.captions()[:2] == ["a 0", "the 0"]
    assert (remote.streams, local.streams) == ([4, 4, 4], None)


def test_compressed_shards_and_commands_are_read_from_copies(tmp_path, write_shard, cache):
    write_shard(tmp_path / "a.tar.gz", 0, 2, "w:gz")
    write_shard(tmp_path / "b.tgz", 2, 2, "w:gz")
    write_shard(tmp_path / "c.tar", 4, 2)
    places = [f"{tmp_path}/{{a.tar.gz,b.tgz}}", f"pipe:cat {tmp_path}/c.tar", f"pipe:cat {tmp_path}/a.tar.gz"]
    source = open_source(places)
    assert names(source) == ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "0.png", "1.png"]
    assert [source[i].captions[0] for i in (0, 5)] == ["a 0", "a 5"]
    assert len(list(cache.glob("shards/*.tar"))) == 4
    with pytest.raises(ValueError, match="pipe:exit 3: the command ended with status 3"):
        open_source("pipe:exit 3")


def test_the_oldest_copies_make_place(tmp_path, write_shard, cache, monkeypatch):
    for name in "abc":
        write_shard(tmp_path / f"{name}.tar.gz", 0, 4, "w:gz")
    source = open_source(str(tmp_path))
    first, second, third = (source.place(container) for container in (1, 2, 3))
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    third.unlink()
    monkeypatch.setenv("ULCOMPRESS_CACHE_GB", str(2.5 * first.stat().st_size / 1e9))
    assert source[8].captions[0] == "a 0", "a copy is made again"
    assert set(cache.glob("shards/*.tar")) == {second, third}


def test_a_shard_that_fails_is_tried_again(shards):
    shards.failures["train-001.tar"] = 2
    assert len(open_source(f"{shards.url}/train-{{000..002}}.tar")) == 12


def test_a_shard_that_keeps_failing_is_left_out_and_counted(shards):
    shards.failures["train-001.tar"] = 1000
    pattern = f"{shards.url}/train-{{000..002}}.tar"
    with pytest.warns(UserWarning, match=r"shards that are left out: 1, first .*train-001\.tar: .*503"):
        source = open_source(pattern)
    assert len(source) == 8 and source.left_out == {"shards": 1}
    shards.failures.clear()
    assert len(open_source(pattern)) == 12, "it is tried again the next time"
    with pytest.raises(ValueError, match=r"none\.tar: no such file"):
        open_source(f"{shards.url}/none.tar")


def test_the_images_of_a_shard_that_vanishes_are_replaced_and_counted(shards):
    dataset = ImageDataset(source=open_source(f"{shards.url}/train-{{000..002}}.tar"), crop=16)
    whole = dataset.__getitems__([Draw(0, index) for index in range(12)])
    shards.failures["train-001.tar"] = 1000
    dataset = ImageDataset(source=open_source(f"{shards.url}/train-{{000..002}}.tar"), crop=16)
    assert dataset.source.survey().captioned == 8
    with pytest.warns(UserWarning, match=r"image left out.*train-001\.tar"):
        found = dataset.__getitems__([Draw(0, index) for index in range(12)])
    captions = [caption.split()[1] for _, caption in found]
    assert captions == [*"0123", "8", "9", "10", "11", "8", "9", "10", "11"] and dataset.left_out == 4
    assert [caption for _, caption in whole][:4] == [caption for _, caption in found][:4]
    asked = shards.requests.count("train-001.tar")
    dataset.__getitems__([Draw(1, index) for index in range(4, 8)])
    assert shards.requests.count("train-001.tar") == asked, "it is not asked for again"


def test_what_is_indexed_is_not_read_again(shards, write_shard):
    pattern = f"{shards.url}/train-{{000..002}}.tar"
    open_source(pattern)
    shards.requests.clear()
    assert len(open_source(pattern)) == 12 and not shards.requests, "but only asked for its properties"
    write_shard(shards.folder / "train-001.tar", 40, 5)
    os.utime(shards.folder / "train-001.tar", (1, 1))  # servers tell seconds
    assert len(open_source(pattern)) == 13 and set(shards.requests) == {"train-001.tar"}


@pytest.mark.parametrize("place", ["memory://bucket", "memory://bucket/*.tar", "memory://bucket/{a,sub/b}.tar"])
def test_shards_of_any_storage_of_fsspec(tmp_path, write_shard, place):
    storage = fsspec.filesystem("memory")
    for number, name in enumerate(("a.tar", "sub/b.tar")):
        write_shard(tmp_path / "x.tar", 4 * number, 4)
        storage.pipe_file(f"/bucket/{name}", (tmp_path / "x.tar").read_bytes())
    storage.pipe_file("/bucket/README.md", b"no shard")
    source = open_source(place)
    assert names(source) == [f"{i}.png" for i in range(4 if "*" in place else 8)] and source[3].captions[0] == "a 3"
    with pytest.raises(ValueError, match=r"got 'memory://none', where no shards were found; looked for \.tar, "):
        open_source("memory://none")
    storage.rm("/bucket", recursive=True)


def test_lists_name_shards(shards, tmp_path):
    (shards.folder / "all.txt").write_text("# the first ones\ntrain-000.tar\n\ntrain-{001..002}.tar\n")
    assert names(open_source(str(shards.folder / "all.txt"))) == [f"{i}.png" for i in range(12)]
    (tmp_path / "urls.list").write_text(f"{shards.url}/train-002.tar\n")
    assert names(open_source(str(tmp_path / "urls.list"))) == ["8.png", "9.png", "10.png", "11.png"]


def test_captions_come_from_a_field_of_json_too(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    (tmp_path / "a.json").write_text(json.dumps({"caption": "a cat", "more": ["two", "three"]}))
    (tmp_path / "b.json").write_text("[]")
    assert open_source(str(tmp_path)).captions() == []
    assert open_source(str(tmp_path), caption_field="caption").captions() == ["a cat"]
    assert open_source(str(tmp_path), caption_field="more").captions() == ["two", "three"]


def test_captions_come_from_coco(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "000000000009.jpg")
    content = {
        "images": [{"id": 9, "file_name": "000000000009.jpg"}],
        "annotations": [{"image_id": 9, "caption": "a bowl "}, {"image_id": 9, "caption": "food"}],
    }
    (tmp_path / "captions_val2017.json").write_text(json.dumps(content))
    assert open_source(str(tmp_path), str(tmp_path / "captions_val2017.json")).captions() == ["a bowl", "food"]


def test_parquet_of_the_hub_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    images = [{"bytes": file.getvalue(), "path": "x.jpg"}, None, {"bytes": file.getvalue(), "path": None}]
    parquet.write_table(pyarrow.table({"image": images, "text": [["a\nb", "c"], ["d"], []]}), tmp_path / "x.parquet")
    source = open_source(str(tmp_path / "x.parquet"), caption_field="text")
    assert names(source) == ["00000000.jpg", "00000002.jpg"] and source.captions() == ["a b", "c"]
    assert source[1].data == file.getvalue() and open_source(str(tmp_path)).captions() == []
    with pytest.raises(ValueError, match=r"x\.parquet has no column 'caption'; its columns are image, text"):
        open_source(str(tmp_path / "x.parquet"), caption_field="caption")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://bucket/train-000.tar", r"s3://bucket/train-000\.tar: .*s3fs.*; pip install 'ulcompress\[s3\]'"),
        ("nowhere://bucket/x.tar", r"got 'nowhere://bucket/x\.tar': .*; give a path, https://, s3://"),
        ("train-{9..1}.tar", "a range ends before it begins"),
    ],
)
def test_what_cannot_be_read_says_what_would_do(place, message):
    with pytest.raises(ValueError, match=message):
        open_source(place)
