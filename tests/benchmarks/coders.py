"""Our arithmetic coder beside the rANS coder of CompressAI and the coders of constriction, on the same symbols.

    pip install compressai constriction    # the latter is no dependency; a coder that is not installed is left out
    python tests/benchmarks/coders.py

Each symbol has a table of its own, as those of a `ContextModel` have. All coders get the same tables, in the form that
they take, and the calls alone are timed: CPU seconds, the best of some turns. The ideal is the code length under our
integer probabilities; CompressAI's have 16 bits, ours and constriction's 24.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import timed

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTables
from ulcompress.entropy.context import tables_of

CASES = ((256, 96), (256, 384), (64, 16384), (256, 16384), (1024, 4096))
"""Entries of the codebook, and symbols. A picture of 768 x 512 has 384 at one symbol for 32 x 32 pixels."""
TURNS = 5
PRECISION = 16
"""Bits of a probability in CompressAI's coder."""
Coder = tuple[Callable[[], Any], Callable[[Any], list[int]], Callable[[Any], int]]
"""Writes the symbols, reads them again, and tells the bytes of what was written."""


def ours(tables: SymbolTables, symbols: list[int]) -> Coder:
    """The coder of this package."""

    def write() -> bytes:
        coder = ArithmeticEncoder()
        tables.encode(symbols, coder)
        return coder.finish()

    return write, lambda data: tables.decode(ArithmeticDecoder(data))[0], len


def compressai(tables: SymbolTables, symbols: list[int]) -> Coder:
    """The coder of CompressAI, with one of its tables for each symbol."""
    from compressai import ans

    size = tables.bounds.shape[1] - 1
    # As ours: at least one for each symbol, the rest in proportion; and one for the escape that its tables end with.
    bounds = tables.bounds * ((1 << PRECISION) - size - 1) // tables.bounds[0, -1] + np.arange(size + 1)
    rows = np.pad(bounds, ((0, 0), (0, 1)), constant_values=1 << PRECISION).tolist()
    numbers, sizes, offsets = list(range(len(symbols))), [size + 2] * len(symbols), [0] * len(symbols)

    def write() -> bytes:
        return ans.RansEncoder().encode_with_indexes(symbols, numbers, rows, sizes, offsets)

    def read(data: bytes) -> list[int]:
        return ans.RansDecoder().decode_with_indexes(data, numbers, rows, sizes, offsets)

    return write, read, len


def constriction(
    tables: SymbolTables, symbols: list[int], write: Callable[..., Any], read: Callable[..., Any]
) -> Coder:
    """One of the coders of constriction: `write` and `read` take the symbols or words, and their distributions."""
    from constriction import stream

    family, values = stream.model.Categorical(perfect=False), np.array(symbols, np.int32)
    probabilities = np.diff(tables.bounds) / tables.bounds[0, -1]

    def written() -> np.ndarray:
        return write(stream, values, family, probabilities)

    return written, lambda words: read(stream, words).decode(family, probabilities).tolist(), lambda words: words.nbytes


def range_coder(tables: SymbolTables, symbols: list[int]) -> Coder:
    """The range coder of constriction."""

    def write(stream: Any, *message: Any) -> np.ndarray:
        coder = stream.queue.RangeEncoder()
        coder.encode(*message)
        return coder.get_compressed()

    return constriction(tables, symbols, write, lambda stream, words: stream.queue.RangeDecoder(words))


def stack_coder(tables: SymbolTables, symbols: list[int]) -> Coder:
    """The ANS coder of constriction."""

    def write(stream: Any, *message: Any) -> np.ndarray:
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(*message)
        return coder.get_compressed()

    return constriction(tables, symbols, write, lambda stream, words: stream.stack.AnsCoder(words))


CODERS = {
    "ulcompress": ours,
    "CompressAI, rANS": compressai,
    "constriction, range coder": range_coder,
    "constriction, ANS": stack_coder,
}


def drawn(size: int, count: int) -> tuple[SymbolTables, list[int]]:
    """Return tables of random scores, and a symbol that each makes likely."""
    torch.manual_seed(0)
    scores = (1024 * 2 * torch.randn(count, size, dtype=torch.float64)).round() / 1024
    tables = tables_of(scores)
    probabilities = torch.from_numpy(np.diff(tables.bounds)).double()
    return tables, torch.multinomial(probabilities, 1)[:, 0].tolist()


def measure(size: int, count: int) -> None:
    """Print a line for each coder."""
    tables, symbols = drawn(size, count)
    ideal = float(tables.costs[np.arange(count), symbols].sum()) / 8
    print(f"{size} entries, {count} symbols, ideal {ideal:.1f} bytes")
    for name, make in CODERS.items():
        try:
            write, read, length = make(tables, symbols)
        except ImportError:
            continue
        writing, message = timed(write, TURNS)
        reading, again = timed(lambda read=read, message=message: read(message), TURNS)
        assert again == symbols
        speeds = f"written {count / writing:9.0f}, read {count / reading:9.0f} a second"
        more = length(message) - ideal
        print(f"  {name:26} {speeds}, {more:+6.1f} bytes ({100 * more / ideal:+.2f} %)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in CASES:
        measure(*case)
