import numpy as np
import pytest

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy.integers import IntegerTables, golomb_bits, read_golomb, write_golomb

REACH = 3
COUNTS = np.array([[1, 4, 20, 100, 20, 4, 1, 2], [0, 0, 0, 1, 0, 0, 0, 0]], dtype=np.int64)
LARGEST = REACH + 2**25 - 1


@pytest.fixture
def tables():
    return IntegerTables(COUNTS)


def written(tables, values, rows):
    coder = ArithmeticEncoder()
    tables.write(values, rows, coder)
    return coder.finish()


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("size", [0, 1, REACH, REACH + 1, REACH + 2, 1000, 2**24, LARGEST])
def test_integers_of_any_size_come_back(tables, row, size):
    values = [size, -size, 0, size]
    data = written(tables, values, [row] * 4)
    assert tables.read([row] * 4, ArithmeticDecoder(data)) == values


def test_many_integers_come_back_at_the_cost_of_their_tables(tables):
    rng = np.random.default_rng(0)
    values = rng.choice(np.arange(-REACH, REACH + 1), 4000, p=COUNTS[0, :-1] / COUNTS[0, :-1].sum()).tolist()
    data = written(tables, values, [0] * 4000)
    assert tables.read([0] * 4000, ArithmeticDecoder(data)) == values
    assert tables.costs.shape == (2, 2 * REACH + 2)
    assert 8 * len(data) == pytest.approx(sum(tables.costs[0, value + REACH] for value in values), abs=9)


def test_an_escape_costs_what_follows_it(tables):
    values = [50] * 400
    data = written(tables, values, [0] * 400)
    each = tables.costs[0, -1] + 1 + golomb_bits(50 - REACH)
    assert 8 * len(data) == pytest.approx(400 * each, abs=9)


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_integers(tables, seed):
    """Also those that ask for the longest integers again and again."""
    data = np.random.default_rng(seed).bytes(40) if seed else b"\xff" * 40
    values = tables.read([0, 1] * 50, ArithmeticDecoder(data))
    assert len(values) == 100
    assert all(abs(value) <= LARGEST for value in values)
    again = written(tables, values, [0, 1] * 50)
    assert tables.read([0, 1] * 50, ArithmeticDecoder(again)) == values


def test_the_golomb_code_is_as_long_as_it_says():
    for value in (1, 2, 3, 4, 100, 2**24, 2**25 - 1):
        coder = ArithmeticEncoder()
        for _ in range(64):
            write_golomb(value, coder)
        data = coder.finish()
        decoder = ArithmeticDecoder(data)
        assert [read_golomb(decoder) for _ in range(64)] == [value] * 64
        # A message that ends in zeros is shorter.
        assert 8 * len(data) <= 64 * golomb_bits(value) + 9
        assert golomb_bits(value) >= value.bit_length()


def test_what_the_code_cannot_hold_is_refused():
    for value in (0, 2**25):
        with pytest.raises(AssertionError):
            write_golomb(value, ArithmeticEncoder())
