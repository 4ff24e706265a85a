import random
import subprocess
import sys
import time

import numpy as np
import pytest

from ulcompress.coding.arithmetic import (
    MAX_ALPHABET,
    SPARE,
    TOTAL,
    ArithmeticDecoder,
    ArithmeticEncoder,
    BitstreamError,
    SymbolTable,
    SymbolTables,
)


def coded(table: SymbolTable, symbols: list[int]) -> bytes:
    coder = ArithmeticEncoder()
    for symbol in symbols:
        table.encode(symbol, coder)
    return coder.finish()


def decoded(table: SymbolTable, data: bytes, count: int) -> list[int]:
    coder = ArithmeticDecoder(data)
    return [table.decode(coder) for _ in range(count)]


def counts_of(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "extreme":
        counts = np.zeros(n, np.int64)
        counts[rng.integers(n)] = 2**62
        return counts
    return rng.zipf(1.2, n).clip(max=2**40) if kind == "skewed" else rng.integers(0, 1000, n)


@pytest.mark.parametrize("kind", ["flat", "skewed", "extreme"])
@pytest.mark.parametrize("n", [1, 2, 3, 256, 5000, MAX_ALPHABET])
def test_round_trip(kind, n):
    rng = np.random.default_rng(n)
    table = SymbolTable.from_counts(counts_of(kind, n, rng))
    likely = rng.choice(n, 300, p=np.diff(table.bounds) / table.total).tolist()
    for symbols in (likely, rng.integers(0, n, 300).tolist(), [n - 1] * 300, [0] * 300, []):
        data = coded(table, symbols)
        assert decoded(table, data, len(symbols)) == symbols
        assert 8 * len(data) <= sum(table.bits(symbol) for symbol in symbols) + 9


def test_tables_of_different_totals_share_one_message():
    rng = random.Random(0)
    steps = [(SymbolTable.uniform(n), rng.randrange(n)) for n in rng.choices(range(1, 70_000), k=2000)]
    encoder = ArithmeticEncoder()
    for table, symbol in steps:
        table.encode(symbol, encoder)
    decoder = ArithmeticDecoder(encoder.finish())
    assert [table.decode(decoder) for table, _ in steps] == [symbol for _, symbol in steps]


def test_carries_run_through_many_bytes():
    encoder = ArithmeticEncoder()
    parts = [(2, 1, 3)] + [(0, 1, 3), (2, 1, 3)] * 50 + [(2**24 - 1, 1, 2**24)] * 200 + [(1, 1, 2)] * 9
    for half in range(1, 400):  # the middle of the interval, closer and closer: a carry decides late
        parts.append((half % 2, 1, 2))
    for part in parts:
        encoder.encode(*part)
    decoder = ArithmeticDecoder(encoder.finish())
    for start, frequency, total in parts:
        assert start <= decoder.target(total) < start + frequency
        decoder.consume(start, frequency, total)


@pytest.mark.parametrize("seed", range(20))
def test_message_is_the_shortest_in_the_interval(seed):
    rng = random.Random(seed)
    table = SymbolTable.from_counts(np.array([rng.randrange(1, 100) for _ in range(5)]))
    symbols = [rng.randrange(5) for _ in range(rng.randrange(1, 7))]
    data = coded(table, symbols)
    assert len(data) <= 3
    for length in range(len(data)):
        shorter = (value.to_bytes(length, "big") for value in range(256**length))
        assert all(decoded(table, other, len(symbols)) != symbols for other in shorter)


def test_overhead_of_short_messages_is_about_half_a_byte():
    overheads = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        counts = rng.integers(0, 1000, 300)
        table = SymbolTable.from_counts(counts)
        symbols = rng.choice(300, 90, p=np.diff(table.bounds) / table.total).tolist()
        overheads.append(len(coded(table, symbols)) - sum(table.bits(symbol) for symbol in symbols) / 8)
    print(f"overhead: mean {np.mean(overheads):.3f}, worst {np.max(overheads):.3f} bytes")
    assert np.mean(overheads) <= 0.75
    assert np.max(overheads) <= 1.25


def test_a_message_that_costs_nothing_has_no_bytes():
    assert coded(SymbolTable.uniform(1), [0] * 1000) == b""
    assert coded(SymbolTable.from_counts(np.array([1000, 0])), [0] * 1000) == b""


def test_finish_leaves_the_coder_as_it_is():
    table, coder = SymbolTable.uniform(7), ArithmeticEncoder()
    for symbol in range(7):
        table.encode(symbol, coder)
        assert coder.finish() == coder.finish() == coded(table, list(range(symbol + 1)))


def test_many_symbols_in_linear_time():
    table = SymbolTable.from_counts(np.arange(1, 1025))
    symbols = np.random.default_rng(0).integers(0, 1024, 65_536).tolist()
    start = time.process_time()
    assert decoded(table, coded(table, symbols), len(symbols)) == symbols
    seconds = time.process_time() - start
    print(f"65,536 symbols there and back: {seconds:.2f} s")
    assert seconds < 10


def test_any_bytes_are_some_message():
    rng = random.Random(0)
    for n in (1, 2, 3, 1000, 65_537, 2**24 - 1):
        table = SymbolTable.uniform(n)
        for data in (b"", b"\xff" * 50, *(rng.randbytes(rng.randrange(30)) for _ in range(20))):
            # More symbols of 24 bits each are in no message of so few bytes.
            assert all(0 <= symbol < n for symbol in decoded(table, data, 8 * SPARE // 24))


@pytest.mark.parametrize("seed", range(30))
def test_every_message_holds_its_symbols_wherever_it_ends(seed):
    rng = np.random.default_rng(seed)
    tables = [SymbolTable.from_counts(counts_of(kind, int(rng.integers(1, 400)), rng)) for kind in ("skewed", "flat")]
    tables.append(SymbolTable.from_counts(counts_of("extreme", 5, rng)))
    encoder, symbols = ArithmeticEncoder(), []
    for _ in range(rng.integers(1, 6)):
        table = tables[rng.integers(3)]
        likely = rng.choice(len(table), 400, p=np.diff(table.bounds) / table.total)
        run = np.full(400, rng.choice([0, len(table) - 1, rng.integers(len(table))]))
        symbols += [(table, int(symbol)) for symbol in (likely if rng.integers(2) else run)[: rng.integers(1, 400)]]
    for table, symbol in symbols:
        table.encode(symbol, encoder)
        if rng.integers(50) == 0:
            encoder.finish()
    data = encoder.finish()
    decoder = ArithmeticDecoder(data)
    assert [table.decode(decoder) for table, _ in symbols] == [symbol for _, symbol in symbols]


def test_a_message_leaves_out_as_many_zeros_as_a_decoder_supplies():
    table = SymbolTable.uniform(256)
    for zeros in (0, 1, SPARE - 1, SPARE, SPARE + 1, 3 * SPARE):
        data = coded(table, [7] + [0] * zeros)
        assert data == b"\7" + bytes(max(0, zeros + 1 - SPARE))  # the last byte is that of the end
        assert decoded(table, data, 1 + zeros) == [7] + [0] * zeros


@pytest.mark.parametrize("alphabet", [2, 3, 256, 60_000])
def test_a_message_that_is_too_short_ends_once_its_bits_are_spent(alphabet):
    table = SymbolTable.uniform(alphabet)
    for data in (b"", b"\1", b"\0\0\xff", b"\xff" * 40):
        allowed = int(8 * (len(data) + SPARE) / np.log2(alphabet))
        decoded(table, data, allowed - 8)
        with pytest.raises(BitstreamError, match=f"payload of {len(data)} bytes cannot hold the image"):
            decoded(table, data, allowed + 1)


def test_symbols_that_cost_next_to_nothing_need_no_bytes():
    table = SymbolTable.from_counts(np.array([2**40, 0]))
    assert decoded(table, coded(table, [0] * 100_000), 100_000) == [0] * 100_000


@pytest.mark.parametrize("seed", range(10))
def test_a_message_that_was_cut_is_refused_once_the_bits_are_spent(seed):
    rng = np.random.default_rng(seed)
    table = SymbolTable.from_counts(counts_of("flat", 100, rng))
    data = coded(table, rng.choice(100, 9000, p=np.diff(table.bounds) / table.total).tolist())
    cut = data[: len(data) // 4]
    with pytest.raises(BitstreamError, match="cannot hold the image"):
        decoded(table, cut, 9000)


@pytest.mark.parametrize("kind", ["flat", "skewed", "extreme"])
def test_tables_are_in_proportion_to_counts(kind):
    counts = counts_of(kind, 4096, np.random.default_rng(1))
    table = SymbolTable.from_counts(counts)
    frequencies = np.diff(table.bounds)
    assert table.total == frequencies.sum() == TOTAL
    assert frequencies.min() >= 1
    exact = [1 + int(count) * (TOTAL - 4096) / sum(counts.tolist()) for count in counts]
    assert np.abs(frequencies - exact).max() <= 1.01
    assert np.allclose(table.costs, [-np.log2(frequency / TOTAL) for frequency in frequencies])


def test_table_is_the_same_everywhere():
    assert SymbolTable.from_counts(np.array([5, 0, 1, 10])).bounds.tolist() == [0, 5242879, 5242880, 6291457, 16777216]


def test_no_counts_are_equally_likely():
    assert np.allclose(SymbolTable.from_counts(np.zeros(8, np.int64)).costs, 3)


@pytest.mark.parametrize("counts", [np.zeros(0, np.int64), np.array([-1, 2]), np.ones((2, 2), np.int64), np.ones(3)])
def test_bad_counts_are_refused(counts):
    with pytest.raises(ValueError, match="give"):
        SymbolTable.from_counts(counts)


def test_import_needs_no_torch():
    command = "import sys, ulcompress.coding.arithmetic, ulcompress.coding.bitstream; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_beginning_of_a_message_holds_the_symbols_that_it_determines(seed):
    """And no others: each is right, and a message of so many bytes could not hold many more."""
    rng = np.random.default_rng(seed)
    table = SymbolTable.from_counts(counts_of(("flat", "skewed")[seed % 2], 50, rng))
    symbols = rng.choice(50, 100, p=np.diff(table.bounds) / table.total).tolist()
    encoder = ArithmeticEncoder()
    for symbol in symbols:
        table.encode(symbol, encoder)
    whole, lost = encoder.finish(), []
    for size in range(len(whole)):
        beginning = encoder.beginning(size)
        assert beginning[:-1] == whole[: size - 1] if size else beginning == b""
        decoder, read = ArithmeticDecoder(beginning, cut=True), []
        while not decoder.ended:
            read.append(table.decode(decoder))
        assert read[:-1] == symbols[: len(read) - 1] and read[-1] == table.likeliest
        assert table.decode(decoder) == table.likeliest
        lost.append(8 * size - sum(table.bits(symbol) for symbol in read[:-1]))
    assert np.mean(lost) < 9


def test_a_message_is_the_one_that_is_written_for_its_symbols():
    rng = random.Random(1)
    for n in (2, 7, 256, 5000):
        table = SymbolTable.uniform(n)
        for count in (0, 1, 9, 40):
            data = coded(table, [rng.randrange(n) for _ in range(count)])
            for other in (data, data + b"\0", data + b"\1", rng.randbytes(len(data)), b"\xff" * len(data)):
                decoder = ArithmeticDecoder(other)
                symbols = [table.decode(decoder) for _ in range(count)]
                if coded(table, symbols) == other:
                    decoder.check_end()
                else:
                    with pytest.raises(BitstreamError, match="no encoder writes"):
                        decoder.check_end()


@pytest.mark.parametrize("size", [1, 2, 7, 300, 4000])
@pytest.mark.parametrize("kind", ["even", "steep", "sparse"])
def test_tables_of_a_group_are_those_of_single_symbols(size, kind):
    generator = np.random.default_rng(size)
    counts = generator.integers(1, 1 << 24, (6, size))
    if kind != "even":
        counts >>= generator.integers(0, 30 if kind == "steep" else 400, (6, size))
    counts[np.arange(6), generator.integers(size, size=6)] += 1
    singles = [SymbolTable.from_counts(row) for row in counts]
    tables = SymbolTables(counts.cumsum(1))
    assert np.array_equal(tables.bounds, [table.bounds for table in singles])
    for symbols in ([0] * 6, [size - 1] * 6, *generator.integers(size, size=(20, 6)).tolist()):
        one, other = ArithmeticEncoder(), ArithmeticEncoder()
        tables.encode(symbols, one)
        for table, symbol in zip(singles, symbols, strict=True):
            table.encode(symbol, other)
        data = one.finish()
        assert data == other.finish()
        assert tables.decode(ArithmeticDecoder(data)) == (symbols, 6)


@pytest.mark.parametrize("kind", ["even", "sparse"])
def test_the_owner_of_every_integer_is_found(kind):
    counts = np.random.default_rng(0).integers(1, 1 << 20, 3000)
    counts[10:2900] = 0 if kind == "sparse" else 1
    tables, bounds = (
        SymbolTables(np.stack([counts[::-1].cumsum(), counts.cumsum()])),
        SymbolTable.from_counts(counts).bounds,
    )
    targets = np.unique(np.clip(bounds[::3, None] + [-1, 0, 1], 0, TOTAL - 1))
    for target, after in zip(targets.tolist(), bounds.searchsorted(targets, "right").tolist(), strict=True):
        assert tables.owner(1, target) == (after - 1, bounds[after - 1], bounds[after])
