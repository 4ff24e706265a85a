import pytest

from ulcompress.coding.sizes import COMMON, pack_size, parse_size

SIDES = (1, 2, 127, 128, 129, 512, 768, 1023, 1024, 1025, 16384)


def test_every_size_comes_back_in_the_shortest_form():
    for width in SIDES:
        for height in SIDES:
            data = pack_size(width, height)
            assert parse_size(b"xy" + data + b"z", 2) == (width, height, 2 + len(data))
            largest = max(width, height)
            longest = 2 if largest <= 128 else 3 if largest <= 1024 else 4
            assert len(data) == (1 if (width, height) in COMMON else longest)


def test_the_numbers_of_common_sizes_never_change():
    assert len(COMMON) == len(set(COMMON)) == 127
    assert [COMMON.index(size) for size in ((16, 16), (512, 512), (768, 512), (512, 768), (4000, 6000))] == [
        *(0, 18, 54, 96, 126)
    ]


@pytest.mark.parametrize("data", [b"\x7f", b"\x80", b"\xc0\0\0", b"\xd0\1\1", b"\xe0\0\0\0", b"\xff" * 4, b""])
def test_other_bytes_are_no_size(data):
    assert parse_size(data, 0) is None
