import io
import random
import tarfile
import warnings
from pathlib import PurePosixPath

import pytest
from PIL import Image

from ulcompress.data import open_source
from ulcompress.data.shard import BLOCK, read_shard

SPARSE_0 = {"GNU.sparse.major": "0", "GNU.sparse.realsize": str(2**40), "GNU.sparse.map": "0,1"}


def png(grey):
    file = io.BytesIO()
    Image.new("L", (4, 4), grey).save(file, "PNG")
    return file.getvalue()


def member(name, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def archive(*members, format=tarfile.PAX_FORMAT):
    """Return the bytes of a tar file with one block of padding behind its end marker."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    content = file.getvalue().rstrip(b"\0")
    return content + bytes(-len(content) % BLOCK) + bytes(3 * BLOCK)


def with_size(content, place, field):
    """Return an archive in which the header at `place` has another size, 12 bytes, and the right checksum."""
    header = content[place : place + 124] + field + content[place + 136 : place + BLOCK]
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    header = header[:148] + f"{total:06o}\0 ".encode() + header[156:]
    return content[:place] + header + content[place + BLOCK :]


def binary(number):
    """Return a size as GNU writes the very large and the negative."""
    return (number % 256**12 | 1 << 95 | (1 << 94 if number < 0 else 0)).to_bytes(12, "big")


@pytest.fixture
def shard(tmp_path):
    """Return a function that writes a shard and returns its path."""

    def write(content):
        path = tmp_path / "x.tar"
        path.write_bytes(content)
        return path

    return write


def images_of(path):
    source = open_source(str(path))
    return {PurePosixPath(source.name(i)).relative_to(path).as_posix(): source[i].data for i in range(len(source))}


ORDINARY = [member("a.png", png(1)), member("b.png", png(2)), member("b.txt", b"two\n")]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes_is_read(shard, format):
    long = "é" * 60 + "/" + "b" * 90 + ".png"
    names = [long, "./c.png", "d.jpg"] if format != tarfile.USTAR_FORMAT else ["./c.png", "d.jpg"]
    members = [member(name, png(place)) for place, name in enumerate(names)]
    found = images_of(shard(archive(*members, format=format)))
    assert found == {name.removeprefix("./"): png(place) for place, name in enumerate(names)}


def test_a_size_in_the_extended_attributes_counts(shard):
    info, data = member("a.png", png(1), pax_headers={"size": str(len(png(1)))})
    path = shard(with_size(archive((info, data), *ORDINARY[1:]), 2 * BLOCK, b"00000000000\0"))
    assert images_of(path) == {"a.png": png(1), "b.png": png(2)}


def test_a_later_member_replaces_an_earlier_one(shard):
    assert images_of(shard(archive(*ORDINARY, member("a.png", png(9)))))["a.png"] == png(9)


def test_links_to_members_are_those_members(shard):
    links = [
        member("hard.png", type=tarfile.LNKTYPE, linkname="a.png"),
        member("deep/soft.png", type=tarfile.SYMTYPE, linkname="../hard.png"),
        member("chain.png", type=tarfile.SYMTYPE, linkname="deep/soft.png"),
        member("chain.txt", type=tarfile.LNKTYPE, linkname="b.txt"),
    ]
    source = open_source(str(shard(archive(*ORDINARY, *links))))
    assert [source[i].data for i in range(5)] == [png(1), png(2), png(1), png(1), png(1)]
    assert source.captions() == ["two", "two"]


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        (tarfile.LNKTYPE, "no.png", "a link to 'no.png', which is no earlier member"),
        (tarfile.SYMTYPE, "/etc/passwd", "a link to '/etc/passwd', which is no member"),
        (tarfile.SYMTYPE, "../../a.png", "a link to '../../a.png', which is no member"),
        (tarfile.SYMTYPE, "c.png", "a link to 'c.png', which is no member"),
        (tarfile.FIFOTYPE, "", "no regular file"),
    ],
)
def test_what_is_no_content_is_left_out_by_name_and_counted(shard, kind, target, reason):
    path = shard(archive(*ORDINARY, member("c.png", type=kind, linkname=target), member("d.fifo", type=kind)))
    with pytest.warns(UserWarning, match=r"left out: 1, first '.*x\.tar/c\.png'") as caught:
        assert set(images_of(path)) == {"a.png", "b.png"}
    assert len(caught) == 1 and reason in str(caught[0].message)


def test_sparse_members_are_left_out_and_the_next_is_found(shard):
    path = shard(archive(member("c.png", b"12", pax_headers=SPARSE_0), *ORDINARY))
    with pytest.warns(UserWarning, match=r"left out: 1, first '.*c\.png' \(a sparse file\)"):
        assert set(images_of(path)) == {"a.png", "b.png"}


def test_old_sparse_members_with_long_maps_are_left_out(shard):
    info, data = member("c.png", png(3), type=tarfile.GNUTYPE_SPARSE)
    first = bytearray(archive((info, data), format=tarfile.GNU_FORMAT)[:BLOCK])
    first[482] = 1  # the map goes on in the next block
    content = with_size(bytes(first), 0, f"{len(data):011o}\0".encode())
    more = bytes(504) + b"\1" + bytes(7) + bytes(BLOCK)
    path = shard(content + more + data + bytes(-len(data) % BLOCK) + archive(*ORDINARY))
    with pytest.warns(UserWarning, match=r"left out: 1, first '.*c\.png' \(a sparse file\)"):
        assert set(images_of(path)) == {"a.png", "b.png"}


@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**62), 2**40, 2**80])
def test_an_impossible_size_is_refused(shard, size):
    path = shard(with_size(archive(*ORDINARY), 0, binary(size)))
    with pytest.raises(ValueError, match=r"x\.tar: not a readable uncompressed tar file \(.*'a\.png'.*write it again"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"size": "-512"}, "the size of 'a.png' is -512"),
        ({"size": "9" * 30}, "it ends within 'a.png'"),
        ({"size": "many"}, "the size of a member is 'many'"),
    ],
)
def test_an_impossible_size_in_the_attributes_is_refused(shard, attributes, message):
    path = shard(archive(member("a.png", png(1), pax_headers=attributes), *ORDINARY))
    with pytest.raises(ValueError, match=message):
        open_source(str(path))


def test_huge_attributes_are_refused(shard):
    path = shard(archive(member("a.png", png(1), pax_headers={"comment": "x" * 2_000_000})))
    with pytest.raises(ValueError, match="an extended header has 20000"):
        open_source(str(path))


def test_what_follows_the_end_marker_is_told(shard):
    with pytest.warns(UserWarning, match=r"x\.tar has data behind its end marker, which were not read"):
        assert set(images_of(shard(archive(*ORDINARY[:1]) + archive(*ORDINARY[1:])))) == {"a.png"}


def test_every_cut_is_noticed(shard):
    content = archive(*ORDINARY)
    end = len(content) - 3 * BLOCK
    boundaries = {2 * BLOCK, 4 * BLOCK, end}
    near = {BLOCK * block + step for block in range(end // BLOCK + 2) for step in (-1, 0, 1)}
    for cut in sorted(near.union(range(0, end, 23)) - {-1}):
        path = shard(content[:cut])
        # Where only zeros that fill a block are missing, all of the member is there.
        filled = any(boundary - BLOCK < cut <= boundary and not any(content[cut:boundary]) for boundary in boundaries)
        if cut > 2 * BLOCK and (filled or cut > end):
            with pytest.warns(UserWarning, match=r"x\.tar has no whole end marker, it may have been cut"):
                assert images_of(path).items() <= {"a.png": png(1), "b.png": png(2)}.items()
        elif not filled:
            with pytest.raises(ValueError, match=r"x\.tar: (not a readable|no images)"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                open_source(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_source(str(shard(content[: end + 2 * BLOCK])))) == 2


def test_any_bytes_end_in_images_or_in_one_error(shard):
    rng = random.Random(0)
    sparse = member("c.png", b"12", pax_headers=SPARSE_0)
    link = member("d.png", type=tarfile.LNKTYPE, linkname="a.png")
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        whole = archive(*ORDINARY, sparse, link, member("x" * 200 + ".png", png(5)), format=format)
        for _ in range(200):
            content = bytearray(whole)
            place = rng.randrange(len(content) // BLOCK) * BLOCK
            for _ in range(rng.randint(1, 3)):
                content[place + rng.choice([rng.randrange(BLOCK), 124, 135, 156, 482])] = rng.choice(
                    [0, 48, 128, 255, 120]
                )
            size = rng.choice([bytes(content[place + 124 : place + 136]), binary(rng.randrange(-(2**40), 2**40))])
            path = shard(with_size(bytes(content), place, size))  # with a checksum that is right
            try:
                members = read_shard(path).members
            except tarfile.TarError:
                continue
            assert len(members) <= 8
            assert all(span.offset >= 0 and span.offset + span.size <= len(content) for span in members.values())
