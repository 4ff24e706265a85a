import random

import pytest
import torch

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, BitstreamError
from ulcompress.conditioning import BytePairs, ContextMixing, TextCoder, context_mixing

LOOKS = ["red", "blue", "old", "small", "large", "young", "white", "black", "wooden", "empty"]
THINGS = ["dog", "cat", "man", "woman", "child", "bus", "car", "bird", "horse", "boat", "train", "street", "plate"]
ACTS = ["sitting", "standing", "running", "playing", "sleeping", "looking", "moving", "waiting"]
TEXTS = [
    "",
    " ",
    "A red dog is sitting.",
    "two  blanks ,\n\ta line,  and a  blank  at the end ",
    "Ein Mädchen , 一只红色的狗 👩‍👧 \x00\ufffe\u2028",
    "qXz#9~" * 20,
]


def captions(count, seed=0):
    rng = random.Random(seed)
    parts = ((LOOKS, THINGS, ACTS, LOOKS, THINGS, THINGS) for _ in range(count))
    return ["A {} {} is {} on the {} {} near a {}.".format(*map(rng.choice, words)) for words in parts]


def coder(**arguments):
    return ContextMixing(vocabulary=BytePairs(vocabulary_size=300), slots=20000, **arguments)


@pytest.fixture(scope="module")
def learnt():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ulcompress.entropy.text.learning.STEPS", 200)
        return learnt_from(captions(300))


def learnt_from(texts):
    model = coder()
    model.prepare(texts)
    return model


def written(model, text):
    encoder = ArithmeticEncoder()
    model.write(model.tokens(text), encoder)
    return encoder.finish()


def read(model, data, **arguments):
    return model.text(model.read(ArithmeticDecoder(data, **arguments)))


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_as_it_was_at_the_bits_that_are_told(learnt, text):
    for model in (learnt, coder()):
        data = written(model, text)
        assert read(model, data) == text
        assert abs(8 * len(data) - float(model.bits([model.tokens(text)]))) <= 9


def test_any_characters_come_back_and_none_costs_more_than_its_bytes_and_one(learnt):
    rng = random.Random(0)
    ranges = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x110000)]
    for length in [*range(1, 20), 40, 100]:
        for low, high in ranges:
            text = "".join(chr(rng.randrange(low, high)) for _ in range(length))
            assert read(learnt, written(learnt, text)) == text
            assert float(learnt.bits([learnt.tokens(text)])) <= 8 * len(text.encode()) + 8


def test_captions_are_smaller_than_with_byte_pairs(learnt):
    pairs = TextCoder(vocabulary=BytePairs(vocabulary_size=300))
    pairs.prepare(captions(300))
    unseen = captions(30, seed=1)
    ours, theirs = (float(model.bits(list(map(model.tokens, unseen))).sum()) for model in (learnt, pairs))
    assert ours < 0.6 * theirs


def test_the_same_texts_teach_the_same_numbers(learnt, monkeypatch):
    monkeypatch.setattr("ulcompress.entropy.text.learning.STEPS", 200)
    state = torch.get_rng_state()
    again = learnt_from(captions(300))
    assert torch.equal(torch.get_rng_state(), state), "a training that is continued draws the same numbers"
    for name, value in learnt.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_background_knows_words_that_the_texts_lack(learnt, monkeypatch):
    monkeypatch.setattr("ulcompress.entropy.text.learning.STEPS", 200)
    background = ["a giraffe eats leaves", "giraffe", "the neck of a giraffe", "two giraffe calves"] * 3
    aware = learnt_from(captions(300))
    aware.learn(captions(300), background)

    def bits(model, text):
        return float(model.bits([model.tokens(text)]))

    new, known = "A red giraffe is sitting.", "A red dog is sitting."
    assert bits(aware, new) < bits(learnt, new) - 10
    assert bits(aware, known) < bits(learnt, known) + 2


def test_a_saved_coder_reads_what_was_written(learnt):
    rebuilt = coder()
    rebuilt.load_state_dict({name: value.clone() for name, value in learnt.state_dict().items()})
    rebuilt.check_state()
    assert read(rebuilt, written(learnt, "A red dog is sitting.")) == "A red dog is sitting."


def test_it_takes_two_mebibytes_of_numbers_that_processes_can_exchange():
    buffers = list(ContextMixing().buffers())
    assert sum(value.nbytes for value in buffers) <= 2 << 20
    assert {value.dtype for value in buffers} <= {torch.uint8, torch.int32, torch.int64, torch.bool}


def test_a_longer_text_is_cut_after_a_character(learnt):
    model = coder(max_bytes=4)
    assert model.fits("abcd") and not model.fits("abcé")
    assert read(model, written(model, "abcé")) == "abc"


def test_a_message_that_was_cut_is_the_beginning_of_the_text(learnt):
    text = "A red dog is running on the old street near a plate."
    encoder = ArithmeticEncoder()
    learnt.write(learnt.tokens(text), encoder)
    beginnings = [read(learnt, encoder.beginning(size), cut=True) for size in range(len(encoder.finish()))]
    assert all(text.startswith(beginning) for beginning in beginnings)
    assert list(map(len, beginnings)) == sorted(map(len, beginnings))
    assert len(beginnings[-1]) > len(text) // 2


def test_any_bytes_are_a_text_or_damaged(learnt):
    model, rng, damaged = coder(max_bytes=40), random.Random(0), 0
    model.load_state_dict(learnt.state_dict())
    for _ in range(30):
        try:
            text = read(model, rng.randbytes(rng.randrange(40)))
        except BitstreamError:
            damaged += 1
        else:
            assert model.fits(text) and read(model, written(model, text)) == text
    assert 0 < damaged < 30


def test_what_the_coder_would_not_write_is_damaged(learnt):
    """Bytes that are no UTF-8, and a text that is spelled out though its prediction is shorter."""
    forged = []
    for way, write in (
        (context_mixing._PREDICTED, lambda encoder: learnt._model().write(b"\xff\xfe", encoder)),
        (context_mixing._SPELLED, lambda encoder: context_mixing._spell("A red dog is running", encoder)),
        (context_mixing._PREDICTED, lambda encoder: learnt._model().write(b"", encoder)),
    ):
        encoder = ArithmeticEncoder()
        context_mixing._KIND.encode(way, encoder)
        write(encoder)
        forged.append(encoder.finish())
    for data, reason in zip(forged, ("no text", "a longer way", "a longer way"), strict=True):
        with pytest.raises(BitstreamError, match=reason):
            read(learnt, data)


def test_a_text_without_end_is_damaged():
    model = coder(max_bytes=10)
    longer = coder(max_bytes=20)
    with pytest.raises(BitstreamError, match="its caption has more than 10 bytes"):
        read(model, written(longer, "abcdefghijklmno"))


def test_what_no_learning_produces_is_damaged():
    model = coder()
    model.states[0] = 255
    with pytest.raises(ValueError, match="table of the captions is damaged: it has the state 255"):
        model.check_state()
    model.states[0], model.lengths[0] = 0, 7
    with pytest.raises(ValueError, match="lengths are those of no complete code"):
        model.check_state()


@pytest.mark.parametrize(
    "arguments, message", [({"slots": 0}, "slots is 0; give 1"), ({"max_bytes": 0}, "max_bytes is 0; give 1")]
)
def test_what_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ContextMixing(**arguments)
