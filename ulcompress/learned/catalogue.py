"""Published codecs that can be imported: what is known of each, as data. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from ulcompress.foundation.published_file import PublishedFile


@dataclass(frozen=True)
class PublishedCodec:
    """A codec whose weights its authors have published."""

    name: str
    """Name for `ulcompress import` and `ulcompress.load`."""
    system: str
    """Name of the system, which decides how its files are read."""
    method: str
    """Method and publication."""
    bpp: float
    """Rate for which it was trained, in bits per pixel."""
    megabytes: int
    """Size of the files to fetch, about."""
    licence: str
    """Licences of code and weights."""
    address: str
    """Where the files are."""
    files: tuple[PublishedFile, ...] = ()
    """Files that can be fetched by address; none where they have to be fetched by hand."""
    base: str = "none"
    """Model on which the weights stand, and its licence."""


ILLM = "https://dl.fbaipublicfiles.com/NeuralCompression/2023-muckley-msillm/"
ILLM_TARGETS = {"1": 0.035, "2": 0.07, "3": 0.14, "4": 0.3, "5": 0.45, "6": 0.9}
ILLM_LOW_TARGETS = {"vlo1": 0.00218, "vlo2": 0.00438}
"""Rates in bits per pixel by the authors' names of the qualities."""


def _illm(family: str, quality: str, bpp: float) -> PublishedCodec:
    file = f"{family}_target_{bpp}bpp.ckpt"
    stage = "" if family == "msillm" else ", before the adversarial stage"
    return PublishedCodec(
        name=f"{family}-{quality}",
        system="MS-ILLM",
        method=f"MS-ILLM (Muckley et al., ICML 2023){stage}",
        bpp=bpp,
        megabytes=726,
        licence="code MIT, weights CC-BY-NC 4.0: not for commercial use",
        address=ILLM + file,
        files=(PublishedFile(ILLM + file),),
    )


PERCO = "https://drive.google.com/drive/folders/11xHN61L7GqrJqEQbdtagbKBwMj1KZMf5"
PERCO_GRIDS = {"0.0019": (8, 256), "0.0313": (32, 256), "0.1250": (64, 256)}
"""Positions along a side of 512 pixels, and entries of the codebook, by rate in bits per pixel."""


def _perco(rate: str) -> PublishedCodec:
    return PublishedCodec(
        name=f"perco-sd-{rate}",
        system="PerCo (SD)",
        method="PerCo (SD) (Körber et al., arXiv 2409.20255)",
        bpp=float(rate),
        megabytes=5200,
        licence="code Apache-2.0, weights as their base model's",
        address=PERCO,
        base="Stable Diffusion 2.1, CreativeML Open RAIL++-M",
    )


COD_LITE = "https://huggingface.co/zhaoyangjia/CoD_Lite/resolve/main/"
COD_LITE_GRIDS = {"0.0039": (32, 16), "0.0078": (32, 256), "0.0156": (16, 16), "0.0312": (16, 256)} | {
    "0.1250": (8, 256),
    "0.5000": (4, 256),
}
"""Pixels a position, and entries of the codebook, by rate in bits per pixel."""


def _cod_lite(rate: str) -> PublishedCodec:
    file = f"CoD_Lite_bpp_{rate.replace('.', '_')}.pt"
    return PublishedCodec(
        name=f"cod-lite-{rate}",
        system="CoD-Lite",
        method="CoD-Lite (arXiv 2604.12525)",
        bpp=float(rate),
        megabytes=400,
        licence="MIT",
        address=COD_LITE + file,
        files=(PublishedFile(COD_LITE + file),),
    )


PUBLISHED = {
    codec.name: codec
    for codec in (
        *map(_cod_lite, COD_LITE_GRIDS),
        *map(_perco, PERCO_GRIDS),
        *(_illm("msillm", quality, bpp) for quality, bpp in (ILLM_LOW_TARGETS | ILLM_TARGETS).items()),
        *(_illm("noganms", quality, bpp) for quality, bpp in ILLM_TARGETS.items()),
    )
}
"""All published codecs by name."""

ZOO = {
    "bmshj2018-factorized": 8,
    "bmshj2018-hyperprior": 8,
    "mbt2018-mean": 8,
    "mbt2018": 8,
    "cheng2020-anchor": 6,
    "cheng2020-attn": 6,
}
"""Models of CompressAI's zoo whose weights are published, and the highest quality of each."""
ZOO_ADDRESS = "https://compressai.s3.amazonaws.com/models/v1/"
ZOO_LICENCE = "BSD-3-Clause-Clear"
BUNDLED_BPP = {"mini": "0.008, 0.027, 0.057", "mini-cgdm": "0.064"}
"""Rates of the bundled codecs on Kodak, as their model cards state them."""
