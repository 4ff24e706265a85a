"""Thousands of hostile and damaged files; `python -m ulcompress.testing.fuzz` takes as many as one likes."""

import pytest

from ulcompress.testing.fuzz import fuzz


@pytest.mark.parametrize("name", ["tiny_codec", "tiny_staged_codec", "tiny_guided_codec"])
def test_whatever_bytes_arrive_are_an_image_or_one_error(name, request):
    outcomes = fuzz(request.getfixturevalue(name), 700, images=0.02)
    kinds = {kind for kind, _ in outcomes.counts}
    assert len(kinds) == 6 and {"image", "refused"} == {outcome for _, outcome in outcomes.counts}
    assert outcomes.unnoticed <= 1 and outcomes.damaged > 250
    assert outcomes.slowest < 5
