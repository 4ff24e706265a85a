"""Checks that the parts of a codec fit together, once, when it is built."""

from collections.abc import Iterable, Mapping

from torch import nn

from ulcompress.autoencoders import Autoencoder
from ulcompress.conditioning import Conditioner
from ulcompress.decoders import Decoder
from ulcompress.encoders import Encoder
from ulcompress.quantizers import Quantizer


def check_parts(
    autoencoder: Autoencoder,
    encoder: Encoder,
    quantizer: Quantizer,
    conditioning: Mapping[str, Conditioner],
    decoder: Decoder | None,
) -> None:
    """Raise ValueError for parts that cannot work together; the message names both and what would fit."""
    _check_latent(autoencoder, encoder)
    _equal("channels", encoder.channels, encoder, quantizer.channels, quantizer)
    _check_order(conditioning)
    _check_captions(quantizer, conditioning)
    for conditioner in conditioning.values():
        _check_features(encoder, quantizer, conditioner)
    if decoder is not None:
        _check_decoder(autoencoder, encoder, quantizer, conditioning, decoder)


def _check_decoder(
    autoencoder: Autoencoder,
    encoder: Encoder,
    quantizer: Quantizer,
    conditioning: Mapping[str, Conditioner],
    decoder: Decoder,
) -> None:
    """Compare what a decoder was built for with the latent, the features and the condition."""
    _equal("channels", autoencoder.channels, autoencoder, decoder.channels, decoder)
    _expect("pixels a feature position", encoder.stride, encoder, decoder.feature_stride, decoder)
    _expect("pixels a latent position", autoencoder.stride, autoencoder, decoder.target_stride, decoder)
    _check_fields(conditioning, decoder)
    for conditioner in conditioning.values():
        for field, channels in conditioner.channels(quantizer.channels).items():
            expected = decoder.condition_channels.get(field, channels)
            _equal(f"{field} channels", channels, conditioner, expected, decoder)


def _check_latent(autoencoder: Autoencoder, encoder: Encoder) -> None:
    """Compare the latent with the one for which an encoder on the latent was built."""
    if encoder.stride % autoencoder.stride:
        raise ValueError(
            f"the stride {encoder.stride} of {_name(encoder)} must be a multiple of the stride {autoencoder.stride} "
            f"of {_name(autoencoder)}"
        )
    channels, stride = encoder.latent_channels, encoder.latent_stride
    if channels is not None and channels != autoencoder.channels:
        raise ValueError(
            f"{_name(encoder)} expects a latent of {channels} channels but {_name(autoencoder)} gives "
            f"{autoencoder.channels}; set `latent_channels` to that number"
        )
    if stride is not None and stride != autoencoder.stride:
        raise ValueError(
            f"{_name(encoder)} expects a latent of stride {stride} but {_name(autoencoder)} gives one of stride "
            f"{autoencoder.stride}; set `latent_stride` to that number"
        )


def _check_features(encoder: Encoder, quantizer: Quantizer, conditioner: Conditioner) -> None:
    """Compare the features with those for which a conditioner was built."""
    _expect("channels", quantizer.channels, quantizer, conditioner.feature_channels, conditioner)
    _expect("pixels a feature position", encoder.stride, encoder, conditioner.feature_stride, conditioner)


def _check_order(conditioning: Mapping[str, Conditioner]) -> None:
    """Raise ValueError where a conditioner needs a field that no earlier one provides."""
    before: list[Conditioner] = []
    for conditioner in conditioning.values():
        missing = conditioner.requires - _provided(before)
        if missing:
            raise ValueError(
                f"{_name(conditioner)} needs {_list(missing)}, which none of the conditioners before it "
                f"({_names(before)}) provides; list one that does before it"
                + ("" if "base" not in missing else ", or take a SyntaxGenerator with `sees_base` false")
            )
        before.append(conditioner)


def _check_captions(quantizer: Quantizer, conditioning: Mapping[str, Conditioner]) -> None:
    """Raise ValueError where a quantiser reads captions and none is sent."""
    if quantizer.reads_captions and "text" not in _provided(conditioning.values()):
        raise ValueError(
            f"the probabilities of {_name(quantizer)} depend on captions, which none of the conditioners "
            f"({_names(conditioning.values())}) sends; list one that does, or set `words` of a ContextModel to 0"
        )


def _check_fields(conditioning: Mapping[str, Conditioner], decoder: Decoder) -> None:
    missing = decoder.requires - _provided(conditioning.values())
    if missing:
        raise ValueError(
            f"{_name(decoder)} needs {_list(missing)}, which none of the conditioners "
            f"({_names(conditioning.values())}) provides; list one that does, or build the decoder without; it can use "
            f"{_list(decoder.accepts)}"
        )
    for conditioner in conditioning.values():
        if not conditioner.provides & decoder.accepts:
            raise ValueError(
                f"{_name(conditioner)} provides {_list(conditioner.provides)}, of which {_name(decoder)} can use "
                f"nothing; it can use {_list(decoder.accepts)}"
            )


def _expect(quantity: str, output: int, producer: nn.Module, expected: int | None, consumer: nn.Module) -> None:
    """Compare two numbers, where the consumer expects one; None takes any."""
    if expected is not None:
        _equal(quantity, output, producer, expected, consumer)


def _equal(quantity: str, output: int, producer: nn.Module, expected: int, consumer: nn.Module) -> None:
    if output != expected:
        raise ValueError(
            f"{_name(producer)} gives {output} {quantity} but {_name(consumer)} takes {expected}; set both to the same "
            "number"
        )


def _provided(conditioners: Iterable[Conditioner]) -> frozenset[str]:
    return frozenset().union(*(conditioner.provides for conditioner in conditioners))


def _names(parts: Iterable[nn.Module]) -> str:
    return ", ".join(map(_name, parts)) or "there are none"


def _list(fields: frozenset[str]) -> str:
    return ", ".join(sorted(fields))


def _name(part: nn.Module) -> str:
    return type(part).__name__
