import random
from itertools import pairwise

import pytest
import torch

from ulcompress.conditioning.byte_pairs import BytePairs, _Merges
from ulcompress.conditioning.text_coder import TextCoder

TEXTS = [
    "",
    " ",
    "A dog, on a sofa.",
    "  two \t blanks \n and , a comma ! ",
    "Ein Mädchen fährt Straßenbahn",
    "一只红色的狗坐在沙发上",
    "👩‍👩‍👧 and 🐕🏽",
    "a\u0301 combined",
    "half \ud83d surrogate",
    "\x00\x1c\ufffd",
    "don't (ever) say 50 % ... or $3.14_x",
    "aaaaaaaaaaaaaaaaaaaa",
]


@pytest.fixture(scope="module")
def fitted():
    model = BytePairs(vocabulary_size=400)
    model.fit(["a dog on a red sofa", "the dog, the cat and the red car", "aaaa aaa aa"] * 10)
    return model


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(fitted, text):
    tidy = fitted.normalize(text)
    assert fitted.normalize(tidy) == tidy
    for model in (fitted, BytePairs()):
        tokens = model.encode(tidy)
        assert all(0 <= token < model.vocabulary_size for token in tokens)
        assert model.decode(tokens) == tidy


def test_normalize_tidies():
    assert BytePairs.normalize("  A dog ,\n on  a ( red ) sofa . ") == "A dog, on a ( red) sofa."


def test_frequent_words_become_one_token(fitted):
    assert len(fitted.encode("a dog on a red sofa")) == 6
    assert len(BytePairs().encode("a dog")) == 5


def test_first_merges_are_the_most_frequent_pairs():
    model = BytePairs(vocabulary_size=258)
    model.fit(["xyz xyz xy"])
    assert model.merges.tolist() == [[ord("x"), ord("y")], [ord(" "), 256]]


def test_merges_equal_a_recount_from_scratch():
    rng = random.Random(0)
    texts = [" ".join("".join(rng.choices("abc", k=rng.randrange(1, 8))) for _ in range(8)) for _ in range(20)]
    model = BytePairs(vocabulary_size=296)
    model.fit(texts)
    words = [list(word) for text in texts for word in _words(text)]
    for number, merge in enumerate(model.merges.tolist()):
        counts = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        assert merge == list(best)
        words = [_joined(word, best, 256 + number) for word in words]


def _words(text):
    first, *rest = text.split(" ")
    return [first.encode(), *(f" {word}".encode() for word in rest)]


def _joined(word, pair, token):
    result, position = [], 0
    while position < len(word):
        found = tuple(word[position : position + 2]) == pair
        result.append(token if found else word[position])
        position += 2 if found else 1
    return result


def test_order_of_texts_does_not_matter():
    texts = [f"word{i % 7} and other{i % 5}, again" for i in range(50)]
    one, two = BytePairs(vocabulary_size=300), BytePairs(vocabulary_size=300)
    one.fit(texts)
    two.fit(texts[::-1])
    assert torch.equal(one.merges, two.merges)


def test_vocabulary_travels_in_the_weights(fitted):
    other = BytePairs(vocabulary_size=400)
    other.encode("a dog")
    other.load_state_dict(fitted.state_dict())
    assert other.encode("a red dog") == fitted.encode("a red dog")


def test_any_tokens_are_a_text(fitted):
    rng = random.Random(0)
    for _ in range(50):
        text = fitted.decode([rng.randrange(400) for _ in range(20)])
        assert fitted.decode(fitted.encode(text)) == text


def test_few_texts_leave_rows_unused():
    model = BytePairs(vocabulary_size=1000)
    model.fit(["a cat"])
    assert model.merges.max() == -1
    model.fit([])
    assert model.decode([65, 999]) == "A"


@pytest.mark.parametrize("size", [255, 2**18])
def test_vocabulary_size_has_bounds(size):
    with pytest.raises(ValueError, match="give 256"):
        BytePairs(vocabulary_size=size)


def test_bytes_alone_need_no_fit():
    model = BytePairs(vocabulary_size=256)
    model.fit(["a cat a cat"])
    assert model.encode("a") == [97]


def test_the_first_tokens_alone(fitted):
    text = "a dog on a red sofa with the cat"
    tokens = fitted.encode(text)
    assert [fitted.encode(text, most) for most in range(len(tokens) + 3)] == [
        tokens[:most] for most in range(len(tokens) + 3)
    ]


@pytest.mark.parametrize("unit", ["a", "the", "€!", "\u3000"])
def test_very_long_words_are_taken_in_parts(fitted, unit, monkeypatch):
    """The work on a word grows with the square of its length."""
    seen = []
    merge = _Merges.tokens
    monkeypatch.setattr(_Merges, "tokens", lambda self, word: seen.append(word) or merge(self, word))
    text = unit * 5000
    assert fitted.decode(fitted.encode(text)) == text
    assert max(map(len, seen)) <= 65 and "".join(seen) == text
    seen.clear()
    assert len(TextCoder(vocabulary=fitted, max_tokens=8).tokens(unit * 5000)) == (0 if unit.isspace() else 8)
    assert len(seen) <= 9


def test_a_very_long_word_is_learnt_in_parts():
    model = BytePairs(vocabulary_size=300)
    model.fit(["ab" * 10_000, "a dog", "a dog"])
    assert max(len(model.decode([token])) for token in model.encode("ab" * 100)) <= 65
