"""Published codecs made into codec directories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ulcompress import __version__
from ulcompress.autoencoders import PixelSpace
from ulcompress.codec import Codec
from ulcompress.conditioning import SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.foundation.published_file import sha256_of
from ulcompress.learned.catalogue import COD_LITE_GRIDS, PUBLISHED, PublishedCodec
from ulcompress.learned.cod_lite import CodLite
from ulcompress.learned.illm import MSILLM
from ulcompress.learned.perco_sd import perco_sd
from ulcompress.pretrained import load, remember, save
from ulcompress.quantizers import HyperpriorQuantizer, ResidualQuantizer

Importer = Callable[[PublishedCodec, Path], Codec]
"""Builds a published codec from its file or folder, with its weights."""


def import_codec(name: str, files: Sequence[Path], directory: Path) -> Codec:
    """Write the codec directory of a published codec, which `load` then finds by its name; return the loaded encoder.

    Args:
        name: One of `catalogue.PUBLISHED`.
        files: Its file or its folder, as published; nothing in it is executed. None fetches it.
        directory: Directory to write.

    Raises:
        ValueError: There is no such codec, it cannot be fetched, or the files are not those of this codec.
    """
    if name not in PUBLISHED:
        raise ValueError(f"no published codec {name!r}; `ulcompress models` lists them: {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    if len(files) > 1:
        raise ValueError(f"{name} is one file or folder, got {len(files)}: {', '.join(map(str, files))}")
    source = files[0] if files else _fetched(published)
    if not source.exists():
        raise ValueError(f"no file {source}; {name} is published at {published.address}")
    hashes = _hashes(published, source)
    save(IMPORTERS[published.system](published, source).eval(), directory, card=_card(published, hashes))
    codec = load(directory, encoder_only=True)
    _check(codec)
    remember(name, directory)
    return codec


def _fetched(published: PublishedCodec) -> Path:
    if not published.files:
        raise ValueError(
            f"{published.name} cannot be fetched by address: get it from {published.address}, and then "
            f"`ulcompress import {published.name} FOLDER OUT`"
        )
    try:
        return published.files[0].fetched()
    except ValueError as error:
        raise ValueError(f"{error}: `ulcompress import {published.name} FILE OUT`") from error


def _hashes(published: PublishedCodec, source: Path) -> dict[str, str]:
    """Return the SHA-256 of the file, or of the weights in the folder, by name; ValueError for known other ones."""
    if source.is_dir():
        return {str(file.relative_to(source)): sha256_of(file) for file in sorted(source.rglob("*.safetensors"))}
    return {source.name: published.files[0].check(source) if published.files else sha256_of(source)}


@torch.inference_mode()
def _check(codec: Codec) -> None:
    """Write and read the file of an image of waves; ValueError where a stream does not come back."""
    row = torch.linspace(0, 25, 128)
    image = torch.stack([row.sin()[:, None] * (row * scale).cos() for scale in (1, 2, 3)]) / 2 + 0.5
    codec.stream_bits(codec.compress(image))


def _illm(published: PublishedCodec, source: Path) -> Codec:
    name, _, quality = published.name.partition("-")
    model = MSILLM(name=name, quality=quality, weights=str(source))
    return Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=HyperpriorQuantizer(model=model),
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    )


@torch.no_grad()
def _cod_lite(published: PublishedCodec, source: Path) -> Codec:
    stride, size = COD_LITE_GRIDS[f"{published.bpp:.4f}"]
    model = CodLite(bpp=published.bpp, weights=str(source), stride=stride)
    entries = model.codebook()
    if entries.shape != (size, model.channels):
        wanted = (size, model.channels)
        raise ValueError(f"{source} is not {published.name}: its codebook is {tuple(entries.shape)}, not {wanted}")
    quantizer = ResidualQuantizer(
        codebook_sizes=[size], channels=model.channels, dimension=model.channels, unit_length=False
    )
    codebook: Any = quantizer.stages[0]
    codebook.sums.copy_(entries)
    codebook.filled.fill_(True)
    return Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=quantizer,
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    )


IMPORTERS: dict[str, Importer] = {"CoD-Lite": _cod_lite, "MS-ILLM": _illm, "PerCo (SD)": perco_sd}
"""Importers by the name of the system."""


def _card(published: PublishedCodec, hashes: dict[str, str]) -> str:
    rows = "\n".join(f"| {file} | `{digest}` |" for file, digest in hashes.items())
    return f"""# {published.name}

{published.method}, trained for {published.bpp} bpp, imported by ulcompress {__version__}.

- Origin: {published.address}
- Licence: {published.licence}. It also applies to this directory.
- Base model: {published.base}.
- Checked: every weight of the networks was in the files, by name and shape, and what else they hold is known to be of
  no use; the file of a test image was written and read back. Not checked: rates and distances that the authors state.
- The weights are stored in half precision. Files are those of ulcompress, not of the authors' program.

| file | SHA-256 |
| --- | --- |
{rows}
"""
