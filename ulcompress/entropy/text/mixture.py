"""The probability of a decision, mixed from what its contexts say, in integers."""

import numpy as np

from ulcompress.entropy.text.history import KINDS, mixed

TOTAL = 1 << 16
"""Denominator of the probabilities."""
CONFIDENCES = 9
"""Ranges of the number of times that a context was seen, the first of them never."""
ODDS = 29
"""Steps of the odds of the decisions that were seen, half a factor of two each."""
STATES = 1 + (CONFIDENCES - 1) * ODDS
"""What a table tells of a decision in a context: nothing (0), or how often it was seen and with which odds."""
NODES = 1024
"""Nodes that have weights of their own; all deeper ones share the last."""
PROBES = 4
"""Slots of the table in which a decision can be."""
STRETCH_BITS, WEIGHT_BITS = 8, 12
"""Binary digits behind the point, of evidence and of weights."""
WEIGHT_ROWS = 2 * CONFIDENCES**2 + NODES + 257
"""Rows of weights: for the confidences of two pairs of contexts, for nodes, for the byte before."""
_CONFIDENCE = np.concatenate([[0], 1 + np.arange(STATES - 1) // ODDS])
_PAIRS = [(KINDS.index(one), KINDS.index(other)) for one, other in (("order-3", "order-5"), ("word", "word-1"))]
_INDEX_BITS, _REACH = 7, 12
_LOGITS = np.arange(-_REACH << _INDEX_BITS, (_REACH << _INDEX_BITS) + 1) / (1 << _INDEX_BITS)
PROBABILITIES = (TOTAL / (1 + np.exp(-_LOGITS))).round().astype(np.int64).clip(1, TOTAL - 1)
"""The logistic function. None of its values lies so near a half that a library could round it another way (a test)."""


class Mixture:
    """Adds the evidence of all contexts, each weighed by how much is known there.

    A decision in a context has four possible slots in one table, with sixteen digits of the hash as a check. The state
    that is found there, or none, stands for evidence, a logarithm of odds.

    Source: Mahoney, Adaptive Weighing of Context Models for Lossless Data Compression, Florida Institute of Technology
    CS-2005-16, 2005 (mixing in the logistic domain); states and weights are learnt beforehand here, and do not change.
    """

    def __init__(self, states: np.ndarray, checks: np.ndarray, evidence: np.ndarray, weights: np.ndarray):
        """Take table, (slots,) and (slots, 2), evidence, (kinds, STATES), and weights, (WEIGHT_ROWS, kinds)."""
        self._states, self._checks = states, checks.view("<u2")[:, 0]
        self._evidence, self._weights = evidence.astype(np.int64), weights.astype(np.int64)

    def probabilities(self, contexts: np.ndarray, nodes: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return how probable the decision 1 is, as integers of `TOTAL`: (n,).

        Args:
            contexts: Of the byte, (n, kinds).
            nodes: At which the decisions are, (n,).
            last: The byte before, or END, (n,).
        """
        states = self._found(contexts, nodes)
        weights = sum(self._weights[row] for row in weight_rows(states, nodes, last))
        sums = (self._evidence[np.arange(len(KINDS)), states] * weights).sum(1)
        logits = sums >> STRETCH_BITS + WEIGHT_BITS - _INDEX_BITS
        reach = _REACH << _INDEX_BITS
        return PROBABILITIES[logits.clip(-reach, reach) + reach]

    def _found(self, contexts: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Look up the states, (n, kinds)."""
        probes, check = slots(keys(contexts, nodes[:, None]), len(self._states))
        return np.where(self._checks[probes] == check, self._states[probes], 0).max(0)


def keys(contexts: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the hash of decisions in contexts, uint64, of shapes that go together."""
    return mixed(contexts + nodes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def slots(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the slots of hashes in a table of a size below 2**24, (PROBES, ...) int64, and their checks, uint16."""
    first, step = (keys >> np.uint64(shift) & np.uint64(0xFFFFFF) for shift in (40, 16))
    probes = np.arange(PROBES, dtype=np.uint64).reshape(-1, *[1] * keys.ndim)
    return ((first + probes * step) % np.uint64(size)).astype(np.int64), (keys & np.uint64(0xFFFF)).astype(np.uint16)


def weight_rows(states: np.ndarray, nodes: np.ndarray, last: np.ndarray) -> list[np.ndarray]:
    """Return the rows of weights that are added for decisions, (n,) each."""
    confidence = _CONFIDENCE[states]
    one, other = (CONFIDENCES * confidence[:, first] + confidence[:, second] for first, second in _PAIRS)
    by_node = 2 * CONFIDENCES**2 + np.minimum(nodes, NODES - 1)
    return [one, CONFIDENCES**2 + other, by_node, 2 * CONFIDENCES**2 + NODES + last]
