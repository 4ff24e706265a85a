"""The codec: its parts, their training step, and compression and decompression with them."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from ulcompress.autoencoders import Autoencoder
from ulcompress.coding import bitstream
from ulcompress.compatibility import check_parts
from ulcompress.conditioning import Conditioner
from ulcompress.decoders import Decoder
from ulcompress.decoders.absent import AbsentDecoder
from ulcompress.encoders import Encoder
from ulcompress.functional.division import ceil_div
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.functional.padding import pad_to_minimum, pad_to_multiple
from ulcompress.part import Part, loadable
from ulcompress.quantizers import Quantizer
from ulcompress.records import Code, CodecOutput, Condition, Quantized, Sampling, Source

if TYPE_CHECKING:
    from PIL import Image


Batches = Iterable[tuple[Tensor, Sequence[str | None]]]
"""Images, (B, 3, H, W) in [0, 1], with their captions."""
MINIMUM = 64
"""Side in pixels to which smaller images are padded, since networks cannot normalise over too few positions. The
padding is not coded; the decoder pads the features instead."""


@loadable(plain=["conditioning"])
@final
class Codec(Part):
    """An image codec composed of swappable parts.

    image ─► autoencoder.encode ─► latent ─► encoder ─► quantizer ─► symbols ─┐
      │                                                                       ├─► bytes
      └─► conditioning[*].encode ─────────────────────────► side information ─┘
    bytes ─► symbols ─► quantizer.dequantize ─► features ─┐
         └─► side information ─► conditioning[*].forward ─┴─► Condition ─► decoder.sample ─► latent
    latent ─► autoencoder.decode ─► image
    """

    def __init__(
        self,
        *,
        autoencoder: Autoencoder,
        encoder: Encoder,
        quantizer: Quantizer,
        conditioning: dict[str, Conditioner | None],
        decoder: Decoder | None,
    ):
        """Take the parts and refuse those that do not fit together.

        Args:
            autoencoder: Transform from pixels to the latent space of the decoder, and back.
            encoder: Transform from the image or the latent to features.
            quantizer: Transform from features to symbols, and back.
            conditioning: Conditioners of the decoder, by the names of their streams. The order matters: each uses the
                fields that the earlier ones provide. None leaves one out, as an option does with one of a file.
            decoder: Sampler of the latent from the condition; None for a codec that only encodes.

        Raises:
            ValueError: Two parts do not fit; the message names both.
        """
        super().__init__()
        present = {name: conditioner for name, conditioner in conditioning.items() if conditioner is not None}
        check_parts(autoencoder, encoder, quantizer, present, decoder)
        self.autoencoder = autoencoder
        self.encoder = encoder
        self.quantizer = quantizer
        self.conditioning = nn.ModuleDict(present)
        self.decoder: Decoder = decoder if decoder is not None else AbsentDecoder()
        self._fingerprint: tuple[bytes, list[int]] | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data, without conditioners that are left out."""
        arguments = super().arguments()
        present = {name: config for name, config in arguments["conditioning"].items() if config is not None}
        return arguments | {"conditioning": present}

    @property
    def conditioners(self) -> dict[str, Conditioner]:
        """The conditioners by name, in the order in which they run."""
        return dict(self.conditioning.items())  # pyright: ignore[reportReturnType]

    @property
    def stride(self) -> int:
        """Pixels per feature position, along each side, to multiples of which images are padded."""
        return self.encoder.stride

    @property
    def takes_captions(self) -> bool:
        """Whether the codec can send a caption."""
        return any("text" in conditioner.provides for conditioner in self.conditioners.values())

    @property
    def device(self) -> torch.device:
        """Torch device of the weights."""
        return next(self.parameters()).device

    def forward(self, images: Tensor, captions: Sequence[str | None] | None = None) -> CodecOutput:
        """Run one training step on images, (B, 3, H, W) in [0, 1], with sides that are multiples of the stride."""
        if self.training:  # the weights will change, by fused optimisers in a way that `_changes` does not detect
            self._fingerprint = None
        source = self._source(images, captions)
        quantized = self._quantized(source)
        condition, bits = self._condition_and_bits(source, quantized.features)
        bits = {"spatial": quantized.bits} | bits
        denoised = self.decoder.loss(source.latent, condition)
        return CodecOutput(denoised.losses | quantized.losses, bits, denoised.estimate, quantized.symbols)

    def target_and_condition(
        self, images: Tensor, captions: Sequence[str | None] | None = None
    ) -> tuple[Tensor, Condition]:
        """Return what the decoder shall restore, (B, C, h, w), and what it knows, of images as `forward` takes them."""
        source = self._source(images, captions)
        return source.latent, self._condition_and_bits(source, self._quantized(source).features)[0]

    def _quantized(self, source: Source) -> Quantized:
        # Half precision would round away the small differences between features that decide the symbols.
        with torch.autocast(source.image.device.type, enabled=False):
            quantize = self.quantizer.mixed if self.training else self.quantizer
            return quantize(self.encoder(source.image, source.latent), **self._captions(source))

    def _captions(self, source: Source, without: Collection[str] = ()) -> dict[str, list[str]]:
        """Return the argument `captions` of a quantiser that reads them: as the files of these images hold them."""
        if not self.quantizer.reads_captions:
            return {}
        sending = {name: part for name, part in self.conditioners.items() if "text" in part.provides}
        sides = {
            name: part.nothing() if name in without else part.encode(source, Condition())
            for name, part in sending.items()
        }
        return self.quantizer.captions(sending, sides)

    def _condition_and_bits(self, source: Source, features: Tensor) -> tuple[Condition, dict[str, Tensor]]:
        """Return the decoder's condition of a training batch, and the estimated bits of its side information."""
        condition, bits = Condition(), {}
        for name, conditioner in self.conditioners.items():
            side = conditioner.encode(source, condition)
            condition = conditioner(side, features, condition)
            cost = conditioner.bits(side)
            if cost is not None:
                bits[name] = cost
        return condition, bits

    @property
    def loss_terms(self) -> frozenset[str]:
        """Names of the terms that `forward` may return, without the rates."""
        return self.quantizer.loss_terms | self.decoder.loss_terms

    def preparations(self) -> dict[str, Callable[[Batches], None]]:
        """Return, in the order of the signal, what learns from batches before the first step of a training.

        By slots; each function takes the batches that its part shall see, and may change the modes of the codec. A part
        in evaluation mode does not learn.
        """
        learning: dict[str, Callable[[Batches], None]] = {}
        if self.quantizer.training:
            learning["quantizer"] = self._prepare_quantizer
        if self.decoder.training and not self.decoder.prepared:
            learning["decoder"] = self._prepare_decoder
        return learning

    @torch.no_grad()
    def _prepare_quantizer(self, batches: Batches) -> None:
        self._fingerprint = None
        sources = (self._source(images, captions) for images, captions in batches)
        self.quantizer.prepare(self.encoder(source.image, source.latent) for source in sources)

    @torch.no_grad()
    def _prepare_decoder(self, batches: Batches) -> None:
        """Let the decoder learn from targets and their conditions as they are in use."""
        self._fingerprint = None
        self.eval()
        self.decoder.prepare(self.target_and_condition(images, captions) for images, captions in batches)

    @torch.inference_mode()
    def compress(
        self,
        image: "Tensor | Image.Image",
        caption: str | None = None,
        *,
        rate: int | None = None,
        max_bytes: int | None = None,
        without: Collection[str] = (),
        header: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> bytes:
        """Compress one image to the bytes of a file.

        Args:
            image: A PIL image, or RGB in [0, 1], (3, H, W), sides of 1 to 16384 pixels.
            caption: Caption of the image, for codecs with a text conditioner; None sends no text.
            rate: One of the quantiser's `rates`, 1 the lowest; None takes the highest.
            max_bytes: The size of the file, which has fewer bytes only where they hold all that the codec can send.
            without: Names of conditioners whose side information is not sent.
            header: False leaves out everything but payload and check; size and codec must then reach the decoder
                by other means.
            max_pixels: The most pixels that the image may have; memory and time grow with them.

        Raises:
            ValueError: The image has another shape or size, the codec cannot send the caption, it has no such rate, or
                no file of `max_bytes`.
        """
        if rate is not None and max_bytes is not None:
            raise ValueError(f"got rate={rate} and max_bytes={max_bytes}; give one of them")
        code = self.encode(image, caption, rate=rate, without=without, max_pixels=max_pixels)
        if max_bytes is None:
            return self.write(code, header=header)
        from ulcompress.optimization.budget import fill

        features = self.features(_pixels(image, max_pixels).to(self.device))
        return fill(self, code, features, max_bytes, header=header)

    def write(self, code: Code, *, header: bool = True, max_bytes: int | None = None) -> bytes:
        """Turn the code that `encode` returns into the bytes of a file, cut to `max_bytes` where it has more."""
        return bitstream.write(
            code,
            conditioning=self.conditioners,
            quantizer=self.quantizer,
            fingerprint=self.fingerprint,
            header=header,
            max_bytes=max_bytes,
        )

    def read(
        self,
        data: bytes,
        *,
        size: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
        prefix: bool = False,
    ) -> Code:
        """Return the code of a file, which `decode` turns into an image; the arguments are those of `decompress`."""
        return bitstream.read(
            data,
            conditioning=self.conditioners,
            quantizer=self.quantizer,
            stride=self.encoder.stride,
            fingerprint=self.fingerprint,
            size=size,
            max_pixels=max_pixels,
            prefix=prefix,
        )

    @torch.inference_mode()
    def encode(
        self,
        image: "Tensor | Image.Image",
        caption: str | None = None,
        *,
        rate: int | None = None,
        without: Collection[str] = (),
        max_pixels: int = MAX_PIXELS,
    ) -> Code:
        """Return the code of one image, which `write` turns into bytes; the arguments are those of `compress`."""
        if self.training:
            raise ValueError("the codec is in training mode, in which coding would change it; call codec.eval() first")
        if caption and not self.takes_captions:
            raise ValueError("this codec has no text conditioner; leave the caption out")
        self._check_names(without)
        pixels = _pixels(image, max_pixels).to(self.device)
        source = self._source(self.padded(pixels), [caption])
        rate = self.quantizer.rates if rate is None else rate
        features = self._features(source, pixels)
        if not features.isfinite().all():
            raise ValueError("the encoder's features are not finite; its weights are damaged")
        quantized = self.quantizer.at_rate(features, rate, **self._captions(source, without))
        features = self._enlarged(quantized.features)
        condition, sides = Condition(), {}
        sending = sum(conditioner.sends for conditioner in self.conditioners.values())
        for name, conditioner in self.conditioners.items():
            sides[name] = conditioner.nothing() if name in without else conditioner.encode(source, condition)
            sending -= conditioner.sends
            if sending:  # later conditioners with side information may use its fields; nothing else here does
                condition = conditioner(sides[name], features, condition)
        return Code(pixels.shape[-2], pixels.shape[-1], quantized.symbols, sides)

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Return the quantiser's input, (1, C, H / stride, W / stride), for RGB in [0, 1], (3, H, W)."""
        return self._features(self._source(self.padded(image), None), image)

    def padded(self, image: Tensor) -> Tensor:
        """Pad RGB, (3, H, W), to a size that the networks can take, (1, 3, H', W')."""
        return pad_to_multiple(image[None], self.stride, minimum=MINIMUM)

    def condition(self, features: Tensor, sides: Mapping[str, Any]) -> Condition:
        """Return the decoder's condition from the quantised features of one image and its side information."""
        features = self._enlarged(features)
        condition = Condition()
        for name, conditioner in self.conditioners.items():
            condition = conditioner(sides[name], features, condition)
        return condition

    def _features(self, source: Source, image: Tensor) -> Tensor:
        rows, columns = (ceil_div(side, self.stride) for side in image.shape[-2:])
        return self.encoder(source.image, source.latent)[..., :rows, :columns]

    def _enlarged(self, features: Tensor) -> Tensor:
        """Pad the features of a small image to the size of the features of the padded image."""
        return pad_to_minimum(features, ceil_div(MINIMUM, self.stride))

    def _check_names(self, names: Collection[str]) -> None:
        sending = [name for name, conditioner in self.conditioners.items() if conditioner.sends]
        for name in names:
            if name not in sending:
                raise ValueError(
                    f"this codec sends no {name!r}; it sends {', '.join(sending) or 'no side information'}"
                )

    @torch.inference_mode()
    def decompress(
        self,
        data: bytes,
        *,
        sampling: Sampling | None = None,
        size: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
        prefix: bool = False,
        **options: Any,
    ) -> Tensor:
        """Restore the image of a file, RGB in [0, 1], (3, H, W), on the CPU.

        Args:
            data: The bytes of the file.
            sampling: How the decoder samples; None takes its defaults.
            size: Height and width, for data without a header.
            max_pixels: The most pixels that the image may have, which a file of a few bytes could make very many.
            prefix: Take the data for the beginning of a file, whose bytes at the end are missing; no check is made.
            options: Fields of `Sampling` by their names, `steps` or `seed` for instance.

        Raises:
            BitstreamError: The data is no file of this codec, is damaged, or its image is too large.
            ValueError: The decoder cannot sample in this way.
        """
        sampling = (sampling or Sampling()).with_(**options)
        code = self.read(data, size=size, max_pixels=max_pixels, prefix=prefix)
        if sampling.seed is None:
            payload = bitstream.payload_of(data, header=size is None, prefix=prefix)
            sampling = sampling.with_(seed=bitstream.seed_of(payload))
        return self.decode(code, sampling)

    @torch.inference_mode()
    def decode(self, code: Code, sampling: Sampling | None = None, **options: Any) -> Tensor:
        """Restore the image of a code, RGB in [0, 1], (3, H, W), on the CPU; the arguments are those of `decompress`.

        Without a seed it is that of the file of this code.
        """
        sampling = (sampling or Sampling()).with_(**options)
        if sampling.seed is None:
            sampling = sampling.with_(seed=bitstream.seed_of(bitstream.payload_of(self.write(code))))
        features = self.quantizer.dequantize(code.symbols.to(self.device))
        size = code.height, code.width
        image = self.restore(features, code.sides, size, sampling)
        if not image.isfinite().all():
            raise bitstream.BitstreamError("the restored image is not finite; the codec or the file is damaged")
        return image[0].clamp(0, 1).float().cpu()

    def restore(self, features: Tensor, sides: Mapping[str, Any], size: tuple[int, int], sampling: Sampling) -> Tensor:
        """Restore one image of `size` from quantised features and side information, with their gradients.

        Features are (1, C, H / stride, W / stride); the image is RGB, (1, 3, H, W), not clamped.
        """
        rows, columns = (ceil_div(max(side, MINIMUM), self.stride) for side in size)
        scale = self.stride // self.autoencoder.stride
        shape = rows * scale, columns * scale
        latent = self.decoder.sample(self.condition(features, sides), shape, sampling)
        return self.autoencoder.decode(latent)[..., : size[0], : size[1]]

    def _source(self, images: Tensor, captions: Sequence[str | None] | None) -> Source:
        captions = [None] * len(images) if captions is None else captions
        return Source(images, self.autoencoder.latent(images).float(), list(captions))

    def prepare(self, captions: list[str]) -> None:
        """Let the conditioners compute their tables from the captions of the training set, once."""
        self._fingerprint = None
        for conditioner in self.conditioners.values():
            conditioner.prepare(captions)

    @torch.inference_mode()
    def stream_bits(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> dict[str, float]:
        """Return the ideal bits of each stream of a file of this codec; BitstreamError as for `decompress`."""
        return bitstream.stream_bits(
            data,
            conditioning=self.conditioners,
            quantizer=self.quantizer,
            stride=self.stride,
            max_pixels=max_pixels,
        )

    @property
    def fingerprint(self) -> bytes:
        """Three bytes by which a file names its codec: those that a saved codec states, whatever the code does.

        Only a codec that was not saved yet computes them, as `digest`.
        """
        if self._fingerprint is None or self._fingerprint[1] != self._changes():
            self._fingerprint = self.digest(), self._changes()
        return self._fingerprint[0]

    def digest(self) -> bytes:
        """Return three bytes of the encoder's stride, and of the weights: their names and values in half precision.

        Other arguments are left out: another number of steps orphans no file.
        """
        return _digest(str(self.encoder.stride), self)[:3]

    def file_digest(self) -> str:
        """Return a hash, in hexadecimal, of all that decides which features and side information a file stands for.

        That is the stride, and the quantiser and the conditioners that send: their arguments, but for those that the
        quantiser's encoder alone uses, and their weights as in `digest`. Codecs that share it read each other's files,
        whatever they encode and decode with.
        """
        sending = {name: part for name, part in self.conditioners.items() if part.sends}
        quantizer = {n: v for n, v in self.quantizer.arguments().items() if n not in self.quantizer.encoder_arguments}
        reading = {
            "stride": self.stride,
            "quantizer": [self.quantizer.path(), quantizer],
            "conditioning": [[name, part.config()] for name, part in sending.items()],
        }
        return _digest(json.dumps(reading), nn.ModuleList([self.quantizer, *sending.values()])).hex()

    def named(self, fingerprint: str) -> "Codec":
        """Set the fingerprint, in hexadecimal, which is valid until the weights change; return the codec.

        A saved codec keeps the fingerprint that its file states, even if parameters are renamed later.
        """
        self._fingerprint = bytes.fromhex(fingerprint), self._changes()
        return self

    def _changes(self) -> list[int]:
        """Return how often each weight was changed in place; an optimiser's step changes them, moving them does not."""
        return [-1 if value.is_inference() else value._version for value in self.state_dict(keep_vars=True).values()]

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights as every module does; the fingerprint is then computed again."""
        self._fingerprint = None
        return super().load_state_dict(*args, **kwargs)


def _digest(head: str, parts: nn.Module) -> bytes:
    """Return the SHA-256 of a text and of weights: their names and their values in half precision."""
    digest = hashlib.sha256(head.encode())
    for name, tensor in sorted(parts.state_dict().items()):
        value = tensor.detach().cpu()
        value = value.half() if value.is_floating_point() else value
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.digest()


def _pixels(image: "Tensor | Image.Image", most: int) -> Tensor:
    if not isinstance(image, Tensor):
        from ulcompress.images import from_pil

        image = from_pil(image)
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ValueError(f"an image must be RGB floats, (3, H, W), got {image.dtype} of shape {tuple(image.shape)}")
    if not image.isfinite().all():
        raise ValueError("the image has values that are not finite; give RGB in [0, 1]")
    height, width = image.shape[1:]
    if not (1 <= height <= bitstream.MAX_SIDE and 1 <= width <= bitstream.MAX_SIDE):
        raise ValueError(f"the image is {width} x {height} pixels; sides are 1 to {bitstream.MAX_SIDE}")
    if width * height > most:
        raise ValueError(f"the image is {width} x {height} pixels, more than {most}; give --max-pixels to allow more")
    return image.float().clamp(0, 1)
