import numpy as np

from ulcompress.entropy.text.history import END, KINDS, History, contexts, hashed
from ulcompress.entropy.text.learning import _placed
from ulcompress.entropy.text.mixture import _LOGITS, PROBABILITIES, TOTAL, slots
from ulcompress.entropy.text.prefix_code import SYMBOLS, PrefixCode, equal_lengths, huffman_lengths, is_complete


def same(one, other):
    """The kinds of context that are equal after two texts."""
    ends = (contexts(text)[-1] for text in (one, other))
    return {kind for kind, left, right in zip(KINDS, *ends, strict=True) if left == right}


def test_contexts_are_the_bytes_and_words_before():
    assert same(b"a red dog", b"a red dog") == set(KINDS)
    assert same(b"the old d", b"the red d") == {"order-1", "order-2", "order-3", "word", "skip"}
    assert same(b"the old d", b"one old d") == set(KINDS) - {"skip", "word-2", "word-3"}
    assert same(b"A Red d", b"a red d") == {"order-1", "order-2", "order-3", "order-4", *KINDS[6:]}
    assert "word" not in same(b"a re", b"a red"), "a part of a word is another context than the whole"


def test_the_decoder_finds_the_contexts_of_the_encoder():
    history, text = History(), "Ein Mädchen, 1 Hund's".encode()
    for row in contexts(text)[:-1]:
        np.testing.assert_array_equal(hashed([history.keys()])[0], row)
        history.append(text[0])
        text = text[1:]


def test_decisions_lead_to_their_symbols():
    counts = np.ones(SYMBOLS, np.int64)
    counts[[32, 97]] = 5000, 900
    for lengths in (equal_lengths(), huffman_lengths(counts)):
        assert is_complete(lengths)
        code, symbols = PrefixCode(lengths), np.arange(SYMBOLS)
        position, node, decision = code.decisions(symbols)
        last = np.append(position[1:] != position[:-1], True)
        reached = node << 1 | decision
        assert [code.symbol(int(n)) for n in reached[last]] == symbols.tolist()
        assert all(code.symbol(int(n)) is None for n in node)
        np.testing.assert_array_equal(reached[~last], node[np.flatnonzero(~last) + 1])
    assert lengths[32] == 1 and lengths[97] == 2
    assert not is_complete(np.full(SYMBOLS, 8, np.uint8))


def test_no_probability_is_so_near_a_half_that_a_library_could_round_it_another_way():
    exact = TOTAL / (1 + np.exp(-_LOGITS.astype(np.longdouble)))
    assert abs(exact % 1 - 0.5).min() > 1e-6
    assert (np.diff(PROBABILITIES) >= 0).all()
    np.testing.assert_array_equal(PROBABILITIES + PROBABILITIES[::-1], TOTAL)


def test_the_table_keeps_the_first_states_of_each_slot():
    hashes = np.random.default_rng(0).integers(0, 1 << 63, 50).astype(np.uint64)
    table, checks = _placed(hashes, np.arange(1, 51, dtype=np.uint8), 40)
    probes, check = slots(hashes, 40)
    for slot in np.flatnonzero(table):
        number = table[slot] - 1
        assert slot in probes[:, number] and checks.view("<u2")[slot, 0] == check[number]
    assert table[probes[0, 0]] == 1
    assert (table > 0).sum() > 36 and len(set(table[table > 0])) == (table > 0).sum()


def test_a_text_begins_after_an_end():
    assert (contexts(b"")[0] == contexts(b"a")[0]).all()
    assert History().keys()[0] == END
