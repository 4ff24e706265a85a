"""`ulcompress models`: the codecs that are here, and those that can be had."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from ulcompress.commands.options import Verbs
from ulcompress.commands.streams import report
from ulcompress.learned.catalogue import BUNDLED_BPP, PUBLISHED, ZOO, ZOO_ADDRESS, ZOO_LICENCE, PublishedCodec


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("models", help="codecs that are here, and published ones that can be imported")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Print the lists; return the exit status."""
    for line in "\n\n".join([_here(), *_published(), _zoo()]).splitlines():
        report(line)
    return 0


def _here() -> str:
    from ulcompress.pretrained import bundled_codecs, imported_codecs

    rates = BUNDLED_BPP | {name: f"{codec.bpp:g}" for name, codec in PUBLISHED.items()}
    rows = [
        [f"  {path.name}", rates.get(path.name, ""), *_facts(path), kind]
        for kind, paths in (("bundled", bundled_codecs()), ("imported", imported_codecs()))
        for path in paths
    ]
    title = "Here: --codec NAME, or ulcompress.load(NAME); the bundled ones are for non-commercial research only"
    return _table([[title], ["  name", "bpp", "MB", "fingerprint", ""], *rows])


def _facts(directory: Path) -> tuple[str, str]:
    """Return megabytes and fingerprint."""
    from ulcompress.pretrained import metadata

    size = (directory / "model.safetensors").stat().st_size
    return f"{size / 1e6:.0f}", metadata(directory).get("fingerprint", "")


def _published() -> Iterable[str]:
    """Return a table for each method: what its codecs have in common, and then a line for each of them."""
    yield "Published: --codec NAME fetches and imports on first use, as does `ulcompress import NAME [FILE] OUT`"
    for method in dict.fromkeys(codec.method for codec in PUBLISHED.values()):
        yield _method([codec for codec in PUBLISHED.values() if codec.method == method])


def _method(codecs: Sequence[PublishedCodec]) -> str:
    first = codecs[0]
    address, files = _shared_address([codec.address for codec in codecs])
    facts = [f"licence: {first.licence}", f"base model: {first.base}", f"address: {address}"]
    if not first.files:
        facts.append("fetched by hand, then `ulcompress import NAME FOLDER OUT`")
    head = ["  name", "bpp", "MB", "file" if any(files) else ""]
    rows = [
        [f"  {each.name}", f"{each.bpp:g}", str(each.megabytes), file] for each, file in zip(codecs, files, strict=True)
    ]
    return _table([[first.method], *([f"  {fact}"] for fact in facts), head, *rows])


def _shared_address(addresses: Sequence[str]) -> tuple[str, list[str]]:
    """Return the folder of addresses and the file of each there; the address itself where all are the same."""
    if len(set(addresses)) == 1:
        return addresses[0], [""] * len(addresses)
    (folder,) = {address.rpartition("/")[0] for address in addresses}
    return f"{folder}/", [address.rpartition("/")[2] for address in addresses]


def _zoo() -> str:
    title = "CompressAI's zoo: anchors, `evaluate --anchor NAME`, and bases of CGDM, `CompressAIModel(name, quality)`"
    needs = "needs: the package compressai, `pip install 'ulcompress[zoo]'`, for Python up to 3.12"
    facts = [f"licence: {ZOO_LICENCE}", f"address: {ZOO_ADDRESS}", needs]
    rows = [[f"  {name}", f"1 to {most}"] for name, most in ZOO.items()]
    return _table([[title], *([f"  {fact}"] for fact in facts), ["  name", "qualities"], *rows])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with aligned columns; a row of one cell is a heading."""
    columns = zip(*(row for row in rows if len(row) > 1), strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
