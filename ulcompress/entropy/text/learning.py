"""Tables and weights of a mixture, learnt from texts. What is learnt is integers; learning itself calculates in floats.

What a context knows is counted, in the texts and, at a lower weight, in a background: general text that knows the words
which the texts lack. A decision is kept in the table if its context predicts it better than the context that it
refines; the best ones find room. Evidence and weights are then learnt by gradient descent on the bits of each text,
with the counts of texts from elsewhere in the file, since those of the text itself would know too much.

Source: Stolcke, Entropy-based Pruning of Backoff Language Models, DARPA Broadcast News Workshop 1998 (what to keep).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ulcompress.entropy.text.history import END, KINDS, contexts
from ulcompress.entropy.text.mixture import (
    CONFIDENCES,
    ODDS,
    STRETCH_BITS,
    WEIGHT_BITS,
    WEIGHT_ROWS,
    keys,
    slots,
    weight_rows,
)
from ulcompress.entropy.text.prefix_code import SYMBOLS, PrefixCode, huffman_lengths
from ulcompress.functional.division import ceil_div

FOLDS = 8
"""Parts of the texts; the counts for one of them come from the others."""
STEPS = 400
MOST_BYTES = 1 << 21
"""Of more text an even share is taken: learning needs nearly two gigabytes of memory for each million bytes."""
MOST_BACKGROUND_BYTES = 1 << 22
"""Of more background an even share is taken: it needs half a gigabyte for each million bytes."""
BACKGROUND_WEIGHT = 0.25
"""What a decision of the background counts, where one of the texts counts 1."""
ROUNDS = 64
"""In which the table is filled, the best decisions first."""
LARGEST_BATCH = 1 << 14
LEARNING_RATE = 2e-2
PRIOR = 0.4
"""Added to both counts of a decision."""
_COARSER = dict(zip(KINDS, [None, *KINDS[:5], "order-2", "word", "word", "word-1", "word-2"], strict=True))
_SEEN = [1, 2, 3, 4, 6, 9, 17, 65]
"""Least counts of the confidences from the second on."""


@dataclass(frozen=True)
class Learnt:
    """The buffers of a `Mixture` and of its `PrefixCode`."""

    lengths: np.ndarray
    """Of the code, (257,), uint8."""
    states: np.ndarray
    """(slots,), uint8."""
    checks: np.ndarray
    """(slots, 2), uint8, low byte first."""
    evidence: np.ndarray
    """(kinds, STATES), int32."""
    weights: np.ndarray
    """(WEIGHT_ROWS, kinds), int32."""


@dataclass(frozen=True)
class _Decisions:
    """All decisions of all texts, one after another."""

    contexts: np.ndarray
    """Of the bytes, (bytes, kinds), uint64."""
    position: np.ndarray
    """The byte of each decision, (n,)."""
    node: np.ndarray
    """(n,)."""
    decision: np.ndarray
    """0 or 1, (n,)."""
    last: np.ndarray
    """The byte before, or END, (n,)."""
    fold: np.ndarray
    """(n,)."""


@dataclass(frozen=True)
class _Counts:
    """How often a decision was seen in its context, and how often it was 1; (n,) each, float32."""

    seen: np.ndarray
    ones: np.ndarray

    def states(self) -> np.ndarray:
        """Return what a table tells of them."""
        steps = np.round(2 * np.log2((self.ones + PRIOR) / (self.seen - self.ones + PRIOR))) + ODDS // 2
        confidence = np.digitize(self.seen, _SEEN)
        return np.where(confidence > 0, 1 + (confidence - 1) * ODDS + steps.clip(0, ODDS - 1), 0).astype(np.uint8)

    def gain(self, coarser: "_Counts | None") -> np.ndarray:
        """Return the bits that they save over a coarser context, or over none."""
        ours = self._probability()
        theirs = coarser._probability() if coarser else np.float32(0.5)
        zeros = self.seen - self.ones
        return self.ones * np.log2(ours / theirs) + zeros * np.log2((1 - ours) / (1 - theirs))

    def at(self, index: np.ndarray) -> "_Counts":
        return _Counts(self.seen[index], self.ones[index])

    def plus(self, other: "_Counts", weight: float) -> "_Counts":
        return _Counts(self.seen + np.float32(weight) * other.seen, self.ones + np.float32(weight) * other.ones)

    def _probability(self) -> np.ndarray:
        return (self.ones + PRIOR) / (self.seen + 2 * PRIOR)


def learn(texts: Sequence[bytes], size: int, background: Sequence[bytes] = ()) -> Learnt:
    """Learn from texts for a table of `size` slots; the same texts in the same order give the same numbers."""
    texts = _even_share(texts, MOST_BYTES)
    lengths = huffman_lengths(4 * np.bincount(_symbols(texts), minlength=SYMBOLS) + 1)
    code = PrefixCode(lengths)
    decisions = _decisions_of(texts, code)
    general = _decisions_of(_even_share(background, MOST_BACKGROUND_BYTES), code)
    states, checks, evident = _tables(decisions, general, size)
    evidence, weights = _weights(decisions, evident)
    return Learnt(lengths, states, checks, evidence, weights)


def _even_share(texts: Sequence[bytes], most: int) -> Sequence[bytes]:
    return texts[:: max(1, ceil_div(sum(map(len, texts)), most))]


def _symbols(texts: Sequence[bytes]) -> np.ndarray:
    """Return the bytes of texts, each followed by its end, (n,)."""
    parts = [np.append(np.frombuffer(text, np.uint8), END) for text in texts]
    return np.concatenate([np.zeros(0), *parts]).astype(np.int64)


def _decisions_of(texts: Sequence[bytes], code: PrefixCode) -> _Decisions:
    symbols = _symbols(texts)
    position, node, decision = code.decisions(symbols)
    # The last symbol of the text before is its end.
    last = np.concatenate([[END], symbols])[position]
    fold = np.repeat(np.arange(len(texts)) * FOLDS // max(1, len(texts)), [len(text) + 1 for text in texts])
    of_bytes = np.concatenate([np.zeros((0, len(KINDS)), np.uint64), *(contexts(text) for text in texts)])
    return _Decisions(of_bytes, position, node, decision, last, fold[position])


def _tables(decisions: _Decisions, general: _Decisions, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the table, and for each decision and kind of context the state that other folds give it, (n, kinds)."""
    whole: dict[str, _Counts] = {}
    held_out: dict[str, _Counts] = {}
    found, gains, candidates = [], [], []
    for kind in KINDS:
        hashes = np.concatenate([_keys(decisions, kind), _keys(general, kind)])
        distinct, first, number = np.unique(hashes, return_index=True, return_inverse=True)
        here, there = np.split(number, [len(decisions.node)])
        counts = _counted(here, decisions.decision, len(distinct))
        counts = counts.plus(_counted(there, general.decision, len(distinct)), BACKGROUND_WEIGHT)
        whole[kind] = counts.at(number)
        held_out[kind] = _without_own_fold(counts.at(here), here, decisions)
        coarser = _COARSER[kind]
        before = whole[coarser].at(first) if coarser else None
        candidates.append((distinct, counts.gain(before), counts.states()))
        found.append(held_out[kind].states())
        gains.append(held_out[kind].gain(held_out[coarser] if coarser else None).astype(np.float32))
        for other in whole.keys() - {_COARSER[later] for later in KINDS[KINDS.index(kind) + 1 :]}:
            del whole[other], held_out[other]  # no later kind refines it, and there is much of it
    hashes, worth, states = (np.concatenate(column) for column in zip(*candidates, strict=True))
    order = np.argsort(-worth, kind="stable")
    order = order[worth[order] > 0]
    least = worth[order[min(size, len(order)) - 1]]
    seen = np.stack([np.where(gain >= least, state, 0) for gain, state in zip(gains, found, strict=True)], 1)
    # More than find room, since not every slot is met by one of the best.
    return *_placed(hashes[order[: 2 * size]], states[order[: 2 * size]], size), seen


def _keys(decisions: _Decisions, kind: str) -> np.ndarray:
    return keys(decisions.contexts[decisions.position, KINDS.index(kind)], decisions.node)


def _counted(number: np.ndarray, decision: np.ndarray, size: int) -> _Counts:
    seen, ones = np.bincount(number, minlength=size), np.bincount(number, decision, size)
    return _Counts(seen.astype(np.float32), ones.astype(np.float32))


def _without_own_fold(whole: _Counts, number: np.ndarray, decisions: _Decisions) -> _Counts:
    own = _counted(number * FOLDS + decisions.fold, decisions.decision, FOLDS * (int(number.max()) + 1))
    own = own.at(number * FOLDS + decisions.fold)
    return _Counts(whole.seen - own.seen, whole.ones - own.ones)


def _placed(hashes: np.ndarray, states: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Put states into the table, the first ones first, each into one of its slots if one is free."""
    table, checks = np.zeros(size, np.uint8), np.zeros(size, "<u2")
    probes, check = slots(hashes, size)
    for waiting in np.array_split(np.arange(len(hashes)), ROUNDS):
        for slot in probes:
            free = waiting[table[slot[waiting]] == 0]
            taken, winner = np.unique(slot[free], return_index=True)
            table[taken], checks[taken] = states[free[winner]], check[free[winner]]
            waiting = np.setdiff1d(waiting, free[winner], assume_unique=True)
    return table, checks.view(np.uint8).reshape(-1, 2)


def _weights(decisions: _Decisions, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Learn evidence and weights from the states that other folds give; return them as integers."""
    evidence = _first_evidence().requires_grad_()
    weights = torch.zeros(WEIGHT_ROWS, len(KINDS))
    weights[: CONFIDENCES**2] = 0.3
    weights.requires_grad_()
    optimizer = torch.optim.Adam([evidence, weights], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS + 1)
    generator = np.random.default_rng(0)
    batch = min(LARGEST_BATCH, max(256, 2 * len(states) // STEPS))
    with torch.enable_grad():
        for _ in range(STEPS):
            drawn = generator.integers(len(states), size=batch)
            rows = weight_rows(states[drawn], decisions.node[drawn], decisions.last[drawn])
            weight = torch.stack([weights[torch.from_numpy(row)] for row in rows]).sum(0)
            known = evidence[torch.arange(len(KINDS)), torch.from_numpy(states[drawn]).long()]
            logits = (known * weight).sum(1)
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, torch.from_numpy(decisions.decision[drawn]).float()).backward()
            optimizer.step()
            schedule.step()
    return _integers(evidence, STRETCH_BITS), _integers(weights, WEIGHT_BITS)


def _first_evidence() -> Tensor:
    """Return the logarithm of the odds of each state, weaker where little was seen, (kinds, STATES)."""
    odds = (torch.arange(ODDS) - ODDS // 2) * np.log(2) / 2
    trust = torch.linspace(0.4, 1, CONFIDENCES - 1)
    return torch.cat([torch.zeros(1), (trust[:, None] * odds).flatten()]).repeat(len(KINDS), 1)


def _integers(values: Tensor, bits: int) -> np.ndarray:
    limit = 1 << 15
    return (values.detach() * 2.0**bits).round().clamp(-limit, limit).numpy().astype(np.int32)
