import random
import re

import pytest

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.conditioning.byte_pairs import BytePairs
from ulcompress.conditioning.text_coder import TextCoder
from ulcompress.entropy import StaticEntropy, UniformEntropy

TEXTS = ["", "a red dog", "Ein Mädchen , 一只红色的狗 👩‍👧 ", "one two three four five six seven eight nine"]


WORDS = {
    "look": "red blue old small large young white black wooden empty parked brown",
    "thing": "dog cat man woman child bus car bird horse boat train tree house plate pizza cake",
    "act": "sitting standing running lying playing sleeping riding looking moving waiting",
    "place": "street beach table grass field kitchen room river road bench mountain",
}


def captions(count, seed=0):
    rng = random.Random(seed)
    pattern = "A {look} {thing} is {act} on the {look} {place} near a {thing}."
    return [re.sub(r"{(\w+)}", lambda kind: rng.choice(WORDS[kind[1]].split()), pattern) for _ in range(count)]


def fitted(**arguments):
    coder = TextCoder(vocabulary=BytePairs(vocabulary_size=500), **arguments)
    coder.prepare(captions(300))
    return coder


def written(coder, tokens):
    encoder = ArithmeticEncoder()
    coder.write(tokens, encoder)
    return encoder.finish()


@pytest.mark.parametrize("entropy", [StaticEntropy, UniformEntropy])
@pytest.mark.parametrize("max_tokens", [1, 4, 200])
@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(entropy, max_tokens, text):
    coder = fitted(entropy=entropy(), max_tokens=max_tokens)
    tokens = coder.tokens(text)
    assert coder.read(ArithmeticDecoder(written(coder, tokens))) == tokens
    tidy = coder.vocabulary.normalize(text)
    assert tidy.startswith(coder.text(tokens))
    if max_tokens == 200:
        assert coder.text(tokens) == tidy


def test_captions_are_small():
    coder = TextCoder(vocabulary=BytePairs(), max_tokens=32)
    coder.prepare(captions(2000))
    unseen = captions(50, seed=1)
    sizes = [len(written(coder, coder.tokens(text))) for text in unseen]
    raw = sum(map(len, unseen)) / len(unseen)
    print(f"{sum(sizes) / len(sizes):.1f} bytes a caption of {raw:.0f} characters")
    assert sum(sizes) / len(sizes) < 10


def test_bits_are_those_of_the_message():
    coder = fitted(max_tokens=8)
    texts = [coder.tokens(text) for text in TEXTS]
    bits = coder.bits(texts)
    assert bits.shape == (4,)
    for tokens, estimate in zip(texts, bits.tolist(), strict=True):
        assert 8 * len(written(coder, tokens)) <= estimate + 9


def test_a_full_text_has_no_end():
    coder = TextCoder(vocabulary=BytePairs(vocabulary_size=256), entropy=UniformEntropy(), max_tokens=4)
    one = float(coder.bits([[]]))
    assert coder.bits([[1] * 3, [1] * 4]).tolist() == pytest.approx([4 * one] * 2)


def test_a_character_is_not_cut():
    coder = TextCoder(vocabulary=BytePairs(vocabulary_size=256), max_tokens=4)
    assert coder.text(coder.tokens("abcé")) == "abc"


def test_prepare_counts_every_text_once():
    coder = TextCoder(vocabulary=BytePairs(vocabulary_size=256), max_tokens=3)
    for _ in range(2):
        coder.prepare(["ab", "", "aaaa"])
    assert coder.entropy.counts[[0, 98, 99]].tolist() == [1 + 2, 1 + 1 + 3, 1 + 1]


def test_any_bytes_are_a_text():
    coder, rng = fitted(), random.Random(0)
    for _ in range(100):
        tokens = coder.read(ArithmeticDecoder(rng.randbytes(rng.randrange(40))))
        assert len(tokens) <= 32
        assert isinstance(coder.text(tokens), str)


def test_rebuilt_coder_reads_what_was_written():
    coder = fitted()
    rebuilt = TextCoder(vocabulary=BytePairs(vocabulary_size=500))
    rebuilt.load_state_dict(coder.state_dict())
    tokens = coder.tokens("A red dog is sitting.")
    assert rebuilt.text(rebuilt.read(ArithmeticDecoder(written(coder, tokens)))) == "A red dog is sitting."


def test_max_tokens_has_a_bound():
    with pytest.raises(ValueError, match="at least 1"):
        TextCoder(vocabulary=BytePairs(), max_tokens=0)
