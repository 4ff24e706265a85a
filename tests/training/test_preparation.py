"""What a codec's parts learn from data before the first optimiser step."""

import pytest
import torch

from ulcompress.data import Batch
from ulcompress.training import CodecModule, Freezing, Preparation


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [Batch(torch.rand(2, 3, 64, 64, generator=generator), ["a red cup", None]) for _ in range(count)]


def watch_decoder(codec, monkeypatch):
    """Let the decoder learn from data, and return the batches that it is shown and the codec's modes."""
    seen = []

    def prepare(pairs):
        seen.extend((target, condition, codec.training) for target, condition in pairs)

    monkeypatch.setattr(type(codec.decoder), "prepared", property(lambda _: bool(seen)))
    monkeypatch.setattr(codec.decoder, "prepare", prepare, raising=False)
    return seen


def test_a_negative_number_of_batches_is_refused():
    with pytest.raises(ValueError, match=r"preparation\.batches must be at least 0, got -1"):
        Preparation(batches=-1)


def test_codebooks_move_without_gradients_and_nothing_else_does(tiny_codec):
    codec = CodecModule(codec=tiny_codec).codec
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    Preparation(batches=3).run(codec, lambda: batches(2))
    moved = {name for name, value in codec.state_dict().items() if not torch.equal(value, before[name])}
    assert "quantizer.sums" in moved and all(name.startswith("quantizer.") for name in moved)
    assert all(parameter.grad is None for parameter in codec.parameters())


def test_data_that_are_used_up_are_gone_through_again(tiny_codec):
    epochs = []
    Preparation(batches=5).run(CodecModule(codec=tiny_codec).codec, lambda: epochs.append(1) or batches(2))
    assert len(epochs) == 3


def test_the_decoder_learns_after_the_quantiser_from_conditions_as_in_use(tiny_codec, monkeypatch):
    codec = CodecModule(codec=tiny_codec).codec
    seen, data = watch_decoder(codec, monkeypatch), batches(3)
    assert list(codec.preparations()) == ["quantizer", "decoder"]
    Preparation(batches=3).run(codec, lambda: data)
    assert [training for _, _, training in seen] == [False] * 3
    for (target, condition, _), batch in zip(seen, data, strict=True):
        assert torch.equal(target, codec.autoencoder.encode(batch.images))
        assert torch.equal(condition.spatial, codec.quantizer(codec.encoder(batch.images, target)).features)
    assert list(codec.train().preparations()) == ["quantizer"], "a decoder that has learnt keeps what it knows"


def test_a_frozen_part_learns_nothing(tiny_codec, monkeypatch):
    watch_decoder(tiny_codec, monkeypatch)
    module = CodecModule(codec=tiny_codec, freezing=Freezing(frozen=["quantizer", "decoder"]))
    assert not module.codec.preparations()


def test_without_batches_nothing_moves_and_a_decoder_that_needs_them_is_asked(tiny_codec, monkeypatch):
    codec = CodecModule(codec=tiny_codec).codec
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    seen = watch_decoder(codec, monkeypatch)
    Preparation().run(codec, lambda: pytest.fail("data are read"))
    assert not seen and all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())
