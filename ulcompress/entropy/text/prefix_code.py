"""A binary tree of the bytes, in which frequent ones lie near the root: a byte is a few decisions."""

from heapq import heapify, heappop, heappush

import numpy as np

SYMBOLS = 257
"""The bytes and the end of a text."""
LONGEST = 48
"""Most decisions of a symbol."""


class PrefixCode:
    """The canonical prefix code of given lengths, (257,).

    A node of the tree is the number whose binary digits are a 1 and the decisions that lead there.

    Source: Huffman, A Method for the Construction of Minimum-Redundancy Codes, Proceedings of the IRE 40(9), 1952.
    """

    def __init__(self, lengths: np.ndarray):
        self.lengths = lengths.astype(np.int64)
        self._codes = np.zeros(SYMBOLS, dtype=np.int64)
        self._leaves: dict[int, int] = {}
        code = length = 0
        for symbol in np.argsort(self.lengths, kind="stable").tolist():
            code <<= int(self.lengths[symbol]) - length
            length = int(self.lengths[symbol])
            self._codes[symbol] = code
            self._leaves[1 << length | code] = symbol
            code += 1

    def decisions(self, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each decision the number of its symbol in the sequence, its node, and the decision: (n,) each."""
        lengths = self.lengths[symbols]
        position = np.repeat(np.arange(len(symbols)), lengths)
        depth = np.arange(len(position)) - (lengths.cumsum() - lengths)[position]
        code, rest = self._codes[symbols][position], lengths[position] - depth
        return position, 1 << depth | code >> rest, code >> rest - 1 & 1

    def symbol(self, node: int) -> int | None:
        """Return the symbol at a node, None where there are further decisions."""
        return self._leaves.get(node)


def equal_lengths() -> np.ndarray:
    """Return lengths for symbols that are equally likely: 8 and, for the last two, 9."""
    return np.array([8] * (SYMBOLS - 2) + [9] * 2, dtype=np.uint8)


def huffman_lengths(counts: np.ndarray) -> np.ndarray:
    """Return the lengths of the shortest code for counts, (257,), none of them zero and the sum below 2**32."""
    lengths = np.zeros(SYMBOLS, dtype=np.uint8)
    queue = [(int(count), symbol, [symbol]) for symbol, count in enumerate(counts)]
    heapify(queue)
    for number in range(SYMBOLS, 2 * SYMBOLS - 1):
        (first, _, left), (second, _, right) = heappop(queue), heappop(queue)
        lengths[left + right] += 1
        heappush(queue, (first + second, number, left + right))
    return lengths


def is_complete(lengths: np.ndarray) -> bool:
    """Whether lengths are those of a code in which every sequence of decisions leads to symbols."""
    lengths = lengths.astype(np.int64)
    return lengths.min() >= 1 and lengths.max() <= LONGEST and int((1 << LONGEST - lengths).sum()) == 1 << LONGEST
