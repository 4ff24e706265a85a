import pytest

from ulcompress.functional.division import ceil_div


@pytest.mark.parametrize(("dividend", "quotient"), [(0, 0), (1, 1), (7, 1), (8, 2), (2**70, 2**70 // 7 + 1)])
def test_the_quotient_is_rounded_up(dividend, quotient):
    assert ceil_div(dividend, 7) == quotient
