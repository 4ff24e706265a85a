import pytest
import torch

from callbacks import RateLogger
from callbacks.rate import file_rates
from ulcompress.training import CodedImage


def test_rates_are_those_of_a_file(tiny_codec):
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    rates = file_rates(CodedImage(tiny_codec, image, "a red cup"))
    data = tiny_codec.compress(image, "a red cup")
    assert set(rates) == {"file", "text", "spatial"}
    assert rates["file"] == 8 * len(data) / (40 * 56)
    # Header and check have 8 bytes, the end of the arithmetic code at most one.
    payload = (rates["text"] + rates["spatial"]) * 40 * 56
    assert 0 <= 8 * (len(data) - 8) - payload <= 9


def test_streams_that_need_a_network_are_counted_too(tiny_guided_codec):
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    rates = file_rates(CodedImage(tiny_guided_codec, image, None))
    code = tiny_guided_codec.encode(image)
    with torch.no_grad():
        syntax = float(tiny_guided_codec.conditioning["syntax"].bits(code.sides["syntax"]))
    assert set(rates) == {"file", "syntax", "spatial"}
    assert rates["syntax"] * 40 * 56 == pytest.approx(syntax, abs=0.01)
    # Header and check as above, the end of the arithmetic code, and integer probabilities in place of the model's.
    assert -1 <= (rates["file"] - rates["syntax"] - rates["spatial"]) * 40 * 56 - 64 <= 9


def test_the_mean_is_over_as_many_images_as_asked_for(fit, codec_module, monkeypatch):
    seen = []

    def rates(coded):
        seen.append(coded.caption)
        return {"file": float(len(seen))}

    monkeypatch.setattr("callbacks.rate.file_rates", rates)
    trainer = fit(codec_module, RateLogger(images=3), num_sanity_val_steps=0)
    assert seen == ["a red cup 0", "a red cup 1", "a red cup 2"]
    assert trainer.callback_metrics["bpp/file"] == 2


def test_what_does_not_fit_is_refused(fit, autoencoder_module):
    with pytest.raises(ValueError, match="AutoencoderModule; use it with CodecModule"):
        fit(autoencoder_module, RateLogger())
    with pytest.raises(ValueError, match="at least 1"):
        RateLogger(images=0)
