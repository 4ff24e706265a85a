"""The index of a large set is made once, kept, shared, and made anew where the set has changed."""

import os
import pickle

import numpy as np
import pytest

from ulcompress.data import indexing, open_source
from ulcompress.data.index import SAMPLE, Container, Index
from ulcompress.data.indexing import make_index

COUNT = 60


@pytest.fixture(autouse=True)
def large(monkeypatch):
    monkeypatch.setattr(indexing, "LARGE", COUNT)


@pytest.fixture
def folder(tmp_path):
    """Sixty images in two folders, that were written a while ago."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for i in range(COUNT):
        (folder / ("sub" if i % 2 else "") / f"{i:02d}.png").write_bytes(b"%d" % i)
    (folder / "00.txt").write_text("zero")
    settle(folder)
    return folder


def settle(folder):
    for place in (folder, folder / "sub"):
        os.utime(place, (1e9 + len(os.listdir(place)), 1e9 + len(os.listdir(place))))


@pytest.fixture
def listings(monkeypatch):
    """Return the folders that were listed."""
    listed, listing_of = [], indexing.listing_of
    monkeypatch.setattr(indexing, "listing_of", lambda folder: listed.append(folder) or listing_of(folder))
    return listed


def test_a_folder_is_listed_once(folder, listings):
    first = open_source(str(folder))
    assert len(listings) == 1
    again = open_source(str(folder))
    assert len(listings) == 1 and len(again) == COUNT
    assert [again[i] for i in range(COUNT)] == [first[i] for i in range(COUNT)]
    assert (again[0].data, again.captions()) == (b"0", ["zero"])
    assert isinstance(again.index.samples, np.memmap)


@pytest.mark.parametrize("change", ["more", "fewer", "renamed", "caption"])
def test_a_change_is_noticed(folder, listings, change):
    open_source(str(folder))
    image = folder / "sub" / "01.png"
    if change == "more":
        (folder / "sub" / "x.png").touch()
    elif change == "fewer":
        image.unlink()
    elif change == "renamed":
        image.rename(image.with_name("y.png"))
    else:
        image.with_suffix(".txt").write_text("one")
    changed = open_source(str(folder))
    assert len(listings) == 2 and len(changed) == COUNT + {"more": 1, "fewer": -1}.get(change, 0)
    assert len(changed.captions()) == (2 if change == "caption" else 1)


def test_what_has_just_been_written_is_listed_again(folder, listings):
    (folder / "new.png").touch()  # another file could come within the same tick of the clock
    open_source(str(folder))
    open_source(str(folder))
    assert len(listings) == 2


def test_only_shards_that_changed_are_read_again(tmp_path, write_shard, monkeypatch):
    for number in range(3):
        write_shard(tmp_path / f"{number}.tar", 20 * number, 20)
    read = []
    shard_table = indexing.shard_table
    monkeypatch.setattr(indexing, "shard_table", lambda place, *rest: read.append(place) or shard_table(place, *rest))
    pattern = f"{tmp_path}/{{0..2}}.tar"
    before = make_index([pattern])
    write_shard(tmp_path / "1.tar", 100, 30)
    read.clear()
    index = make_index([pattern])
    assert read == [f"{tmp_path}/1.tar"] and index.starts == [0, 20, 50, 70]
    assert [index.name(i) for i in (*range(20), *range(50, 70))] == [
        before.name(i) for i in (*range(20), *range(40, 60))
    ]
    assert open_source(pattern)[69] == open_source(f"{tmp_path}/2.tar")[19]


def test_what_was_indexed_before_an_interruption_is_kept(tmp_path, write_shard, monkeypatch):
    for number in range(4):
        write_shard(tmp_path / f"{number}.tar", 0, 60)
    read, shard_table = [], indexing.shard_table

    def until_interrupted(place, *rest):
        read.append(os.path.basename(place))
        if read.count("2.tar") == 1 and place.endswith("2.tar"):
            raise KeyboardInterrupt
        return shard_table(place, *rest)

    monkeypatch.setattr(indexing, "AT_ONCE", 1)
    monkeypatch.setattr(indexing, "shard_table", until_interrupted)
    pattern = str(tmp_path / "*.tar")
    with pytest.raises(KeyboardInterrupt):
        make_index([pattern])
    assert len(make_index([pattern])) == 240 and read.count("0.tar") == read.count("1.tar") == 1
    read.clear()
    for name in ("1.tar", "2.tar"):
        write_shard(tmp_path / name, 0, 70)
    with pytest.raises(KeyboardInterrupt):
        make_index([pattern])
    assert len(make_index([pattern])) == 260 and read == ["1.tar", "2.tar", "2.tar"], "what came later is kept too"


def test_what_has_become_small_is_not_kept(folder, cache):
    open_source(str(folder))
    (folder / "00.png").unlink()
    assert len(open_source(str(folder))) == COUNT - 1 and not list(cache.glob("indices/*"))


def test_captions_of_a_file_are_found_once(folder, tmp_path, monkeypatch):
    file = tmp_path / "captions.jsonl"
    file.write_text('{"image": "sub/01.png", "captions": ["one", "eins"]}\n')
    assert open_source(str(folder), str(file)).captions() == ["zero", "one", "eins"]
    monkeypatch.setattr(Index, "with_captions", lambda *_: pytest.fail("found again"))
    again = open_source(str(folder), str(file))
    assert again.captions() == ["zero", "one", "eins"] and open_source(str(folder)).captions() == ["zero"]
    monkeypatch.undo()
    file.write_text('{"image": "sub/01.png", "captions": ["uno"]}\n')
    os.utime(file, (1, 1))
    assert open_source(str(folder), str(file)).captions() == ["zero", "uno"]


def test_another_process_maps_the_same_file(folder):
    source = open_source(str(folder))
    assert len(pickle.dumps(source)) < 2000
    other = pickle.loads(pickle.dumps(source))
    assert isinstance(other.index.samples, np.memmap) and other[33] == source[33]


def test_a_process_whose_neighbour_has_just_looked_takes_what_it_kept(folder):
    open_source(str(folder))
    (folder / "new.png").touch()
    assert [len(make_index([str(folder)], check=check)) for check in (False, True)] == [COUNT, COUNT + 1]


def test_a_damaged_index_is_made_again(folder, cache):
    open_source(str(folder))
    (kept,) = cache.glob("indices/*/samples.npy")
    kept.write_bytes(b"damaged")
    assert len(open_source(str(folder))) == COUNT


def test_a_sample_takes_at_most_40_bytes_with_its_place_in_the_order():
    assert SAMPLE.itemsize + np.dtype(np.uint32).itemsize <= 40


def test_small_sets_are_not_kept(tmp_path, cache):
    (tmp_path / "a.png").touch()
    assert len(open_source(str(tmp_path))) == 1 and not list(cache.glob("indices/*"))


def test_names_are_read_where_they_lie():
    samples = np.zeros(3, SAMPLE)
    samples["container"], samples["name"] = [0, 1, 1], [0, 0, 5]
    containers = [Container("", shard=False, count=1), Container("x.tar", shard=True, count=2, names=6)]
    index = Index(containers, samples, b"a.png\0b.pn\0\xff/c.png\0")
    assert [index.name(i) for i in range(3)] == ["a.png", "x.tar/b.pn", "x.tar/\udcff/c.png"]
