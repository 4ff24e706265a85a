import pytest
import torch

from ulcompress.entropy.words import WordVectors


def vectors(count=64):
    torch.manual_seed(0)
    words = WordVectors(count, 3)
    torch.nn.init.normal_(words.vectors)
    return words.eval()


@torch.no_grad()
def test_a_caption_is_the_sum_of_the_vectors_of_its_different_words():
    words = vectors()
    # Files depend on these numbers: CRC-32 of the words, modulo 64.
    expected = words.vectors[[3, 15, 36]].sum(0)
    torch.testing.assert_close(words(["a red cup"])[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("other", ["cup red a", "A RED, RED CUP.", "  a-red\ncup!"])
def test_order_case_repetition_and_punctuation_do_not_matter(other):
    words = vectors()
    assert torch.equal(words.exact(["a red cup"]), words.exact([other]))


@torch.no_grad()
@pytest.mark.parametrize("method", ["exact", "forward"])
@pytest.mark.parametrize("caption", ["", " .,!"])
def test_no_words_are_no_vector(method, caption):
    assert not getattr(vectors(), method)([caption]).any()


@torch.no_grad()
def test_letters_of_other_scripts_make_words():
    words = vectors()
    assert words.exact(["\u0161\u00e1lek"]).any()
    assert not torch.equal(words.exact(["\u732b"]), words.exact(["\u72ac"]))


@torch.no_grad()
def test_exact_sums_are_the_sums_on_the_grid_of_activations():
    words, captions = vectors(), ["a red cup", "", "two cats on a chair"]
    exact = words.exact(captions)
    assert exact.dtype == torch.float64
    assert torch.equal(exact * 1024, (exact * 1024).round())
    torch.testing.assert_close(exact.float(), words(captions), atol=0.01, rtol=0)


@torch.no_grad()
def test_exact_sums_are_those_of_weights_in_half_precision():
    words, loaded = vectors(), vectors().half().float()
    assert torch.equal(words.exact(["a red cup"]), loaded.exact(["a red cup"]))


@torch.no_grad()
def test_some_captions_are_left_out_in_training():
    words = vectors().train()
    left_out = (words(["a red cup"] * 1000) == 0).all(1).float().mean()
    assert 0.05 < left_out < 0.15
