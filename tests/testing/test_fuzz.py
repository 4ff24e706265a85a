"""Thousands of hostile and damaged files; `python -m ulcompress.testing.fuzz` takes as many as one likes."""

from dataclasses import replace

import pytest

from ulcompress import BitstreamError, Codec
from ulcompress.testing.fuzz import fuzz


@pytest.mark.parametrize("name", ["tiny_codec", "tiny_staged_codec", "tiny_guided_codec"])
def test_whatever_bytes_arrive_are_an_image_or_one_error(name, request):
    outcomes = fuzz(request.getfixturevalue(name), 400, images=0.02)
    assert outcomes.failures == [] and outcomes.good
    kinds = {kind for kind, _ in outcomes.counts}
    assert len(kinds) == 8 and {"image", "refused"} == {outcome for _, outcome in outcomes.counts}
    assert outcomes.unnoticed <= 1 and outcomes.damaged > 120
    assert outcomes.slowest < 5


def wrong_key(code):
    return {}["missing"]


def two_lines(code):
    raise BitstreamError("a\nb")


def other_symbols(code):
    return replace(code, width=code.width + 1)


@pytest.mark.parametrize("fault", [wrong_key, two_lines, other_symbols])
def test_a_fault_is_reported_with_the_bytes_that_show_it(fault, tiny_codec, monkeypatch):
    read = Codec.read
    monkeypatch.setattr(
        "ulcompress.testing.fuzz._read", lambda codec, item: fault(read(codec, item.data, **item.options))
    )
    outcomes = fuzz(tiny_codec, 20, images=0)
    assert not outcomes.good and outcomes.counts.total() == 20
    assert all("data=b" in failure for failure in outcomes.failures)


def test_damage_that_is_not_noticed_is_counted(tiny_codec, monkeypatch):
    monkeypatch.setattr("ulcompress.coding.bitstream.check_of", lambda header, payload: b"ab")
    monkeypatch.setattr("ulcompress.testing.fuzz.check_of", lambda header, payload: b"ab")
    outcomes = fuzz(tiny_codec, 200, images=0)
    assert outcomes.unnoticed > 1 and not outcomes.good
