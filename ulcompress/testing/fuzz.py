"""Hostile and damaged files: `python -m ulcompress.testing.fuzz CODEC --inputs 100000`.

Whatever bytes arrive, a codec answers with an image or with `BitstreamError`, in bounded time and memory; it notices
damage, and what it reads of a whole file it writes as the same bytes.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from ulcompress.codec import Codec
from ulcompress.coding.arithmetic import BitstreamError
from ulcompress.coding.bitstream import VERSION, Header, check_of, parse
from ulcompress.evaluation.measuring.memory import working_memory
from ulcompress.pretrained import load
from ulcompress.records import Code

MAX_PIXELS = 1 << 12
"""Most pixels of an image here, so that an input takes milliseconds; larger claims must be refused."""
SECONDS = 20.0
"""Most processor time of an input."""
MEMORY = 1 << 28
"""Most working memory of an input, in bytes."""
UNNOTICED = 2.0**-12
"""Largest share of damaged files that may be taken for good ones."""
CAPTIONS = (None, "a red boat on a lake", "two dogs")


class Input(NamedTuple):
    """Bytes for a decoder."""

    kind: str
    """How they were made."""
    data: bytes
    """The bytes."""
    size: tuple[int, int] | None = None
    """Height and width, for data without a header."""
    damaged: bool = False
    """Whether they are a valid file with damage, which should be noticed."""
    prefix: bool = False
    """Whether they are read as the beginning of a file."""
    written: bool = False
    """Whether the codec itself has written them, so that it has to read them."""
    failure: str | None = None
    """What went wrong while the codec wrote them from these bytes."""

    @property
    def options(self) -> dict[str, Any]:
        """How they are read."""
        return {"size": self.size, "max_pixels": MAX_PIXELS, "prefix": self.prefix}


@dataclass
class Outcomes:
    """What became of inputs."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many inputs of a kind were an image, were refused, or failed."""
    damaged: int = 0
    """Damaged files."""
    unnoticed: int = 0
    """Damaged files that were an image."""
    slowest: float = 0.0
    """The processor time of the slowest input, in seconds."""
    memory: int = 0
    """The largest working memory of an input, in bytes; 0 where the system does not measure it."""
    failures: list[str] = field(default_factory=list)
    """Inputs that were neither an image nor refused in one line, or took too long, with what happened."""

    @property
    def good(self) -> bool:
        """Whether nothing failed and no more damage than `UNNOTICED` was taken for a file; one can be by chance."""
        return not self.failures and self.unnoticed <= max(1, UNNOTICED * self.damaged)


def fuzz(codec: Codec, inputs: int, *, seed: int = 0, images: float = 1.0) -> Outcomes:
    """Let a codec read random, forged and damaged files.

    Args:
        codec: The codec.
        inputs: Number of files.
        seed: Seed of their bytes.
        images: Share of the files whose streams are measured and whose pixels are restored, which takes most of the
            time; the others are read to their symbols.
    """
    rng, outcomes = random.Random(seed), Outcomes()
    for item in _inputs(codec, inputs, rng):
        start = time.process_time()
        try:
            outcome, memory = working_memory(partial(_outcome, codec, item, whole=rng.random() < images), codec.device)
        except Exception as error:
            outcome, memory = "failed", None
            outcomes.failures.append(f"{item}: {type(error).__name__}: {error}")
        seconds = time.process_time() - start
        if seconds > SECONDS or (memory or 0) > MEMORY:
            outcomes.failures.append(f"{item}: took {seconds:.1f} s and {memory} bytes")
        outcomes.slowest, outcomes.memory = max(outcomes.slowest, seconds), max(outcomes.memory, memory or 0)
        outcomes.counts[item.kind, outcome] += 1
        outcomes.damaged += item.damaged
        outcomes.unnoticed += item.damaged and outcome == "image"
    return outcomes


def _outcome(codec: Codec, item: Input, *, whole: bool) -> str:
    """Return `image` or `refused`; anything that a user must not see is raised."""
    if item.failure is not None:
        raise AssertionError(f"what it has read cannot be written: {item.failure}")
    if whole and item.size is None and not item.prefix:
        with suppress(BitstreamError):
            bits = codec.stream_bits(item.data, max_pixels=MAX_PIXELS)
            assert all(math.isfinite(count) and count >= 0 for count in bits.values()), f"streams of {bits} bits"
    try:
        code = _read(codec, item)
    except BitstreamError as error:
        assert not item.written, f"it refuses what it has written: {error}"
        return _refused(error)
    assert code.height * code.width <= MAX_PIXELS, f"{code.width} x {code.height} pixels"
    _check_canonical(codec, item, code)
    if whole:
        try:
            image = codec.decompress(item.data, **item.options)
        except BitstreamError as error:  # of weights that were not trained for such symbols
            return _refused(error)
        assert image.shape == (3, code.height, code.width) and image.isfinite().all(), "no good image"
    return "image"


def _read(codec: Codec, item: Input) -> Code:
    return codec.read(item.data, **item.options)


def _refused(error: BitstreamError) -> str:
    assert str(error) and "\n" not in str(error), "the message is not one line"
    return "refused"


def _check_canonical(codec: Codec, item: Input, code: Code) -> None:
    """Raise AssertionError where the symbols of a whole file would be written as other bytes."""
    if item.size is None and not item.prefix:
        header, _ = parse(item.data)
        if header.version == VERSION and not header.cut:
            assert codec.write(code) == item.data, "its symbols are written as other bytes"


def _inputs(codec: Codec, count: int, rng: random.Random) -> Iterator[Input]:
    files = _files(codec, rng)
    makers: Sequence[Callable[[], Input]] = (
        lambda: Input("random", rng.randbytes(rng.randrange(64))),
        lambda: Input("random after the header", Header(VERSION, codec.fingerprint, 32, 32).pack() + rng.randbytes(20)),
        lambda: Input("forged", _forged(codec, rng)),
        lambda: _any_symbols(codec, rng),
        lambda: Input("beginning", rng.choice(files)[: rng.randrange(80)], prefix=True),
        lambda: Input("beginning of damaged", _damage(rng, files), prefix=True),
        lambda: _without_header(rng, files),
        *[lambda: Input("damaged", _damage(rng, files), damaged=True)] * 5,
    )
    while count > 0:
        item = rng.choice(makers)()
        if not item.damaged or item.data not in files:
            yield item
            count -= 1


def _files(codec: Codec, rng: random.Random) -> list[bytes]:
    """Return valid files of small images: of each rate, without each stream, and some of them cut to a size."""
    generator = torch.Generator().manual_seed(rng.randrange(2**32))
    streams = [name for name, conditioner in codec.conditioners.items() if conditioner.sends]
    files = []
    for caption in CAPTIONS if codec.takes_captions else CAPTIONS[:1]:
        image = torch.rand(3, rng.randint(1, 64), rng.randint(1, 64), generator=generator)
        files += [codec.compress(image, caption, rate=rate) for rate in range(1, codec.quantizer.rates + 1)]
        files += [codec.compress(image, caption, without=[name]) for name in streams]
        if codec.quantizer.divisible:
            files.append(codec.compress(image, caption, max_bytes=rng.randint(9, 9 + len(files[-1]))))
    return files


def _forged(codec: Codec, rng: random.Random) -> bytes:
    """Return a file with a right check: any size, any payload."""
    header = _header(codec, rng)
    header = replace(header, cut=header.version > 1 and rng.random() < 0.5)
    head = header.pack()
    endings = (b"", b"\0" * 300, b"\xff" * 30, rng.randbytes(2000))
    payload = rng.randbytes(rng.randrange(40)) + rng.choice(endings)
    return head + check_of(head, payload) + payload


def _header(codec: Codec, rng: random.Random) -> Header:
    width, height = (rng.randint(1, rng.choice((1, 8, 64, 512, 16384))) for _ in range(2))
    return Header(rng.randint(1, VERSION), codec.fingerprint, width=width, height=height)


def _any_symbols(codec: Codec, rng: random.Random) -> Input:
    """Return the file of symbols that no image may have: those of a random payload, as the encoder would write them."""
    head = Header(VERSION, codec.fingerprint, width=rng.randint(1, 64), height=rng.randint(1, 64))
    beginning = head.pack() + bytes(2) + rng.randbytes(rng.randrange(200))
    try:
        return Input("any symbols", codec.write(codec.read(beginning, prefix=True)), written=True)
    except BitstreamError:  # of what no beginning may hold
        return Input("any symbols", beginning, prefix=True)
    except Exception as error:
        return Input("any symbols", beginning, prefix=True, failure=f"{type(error).__name__}: {error}")


def _without_header(rng: random.Random, files: Sequence[bytes]) -> Input:
    """Return data without header: random, or check and payload of a file, whole or damaged."""
    file = rng.choice(files)
    header, payload = parse(file)
    size, data = (header.height, header.width), file[len(file) - len(payload) - 2 :]
    if rng.random() < 0.5:
        return Input("without header", data[: rng.randrange(80)] + rng.randbytes(rng.randrange(3)), size)
    return Input("without header", data, size, written=True)


def _damage(rng: random.Random, files: Sequence[bytes]) -> bytes:
    """Return a file with some of its bytes changed, lost, added, or taken from another one."""
    data = bytearray(rng.choice(files))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place, other = rng.randrange(len(data) + 1), rng.choice(files)
        start = rng.randrange(len(other))
        damage = rng.randrange(6)
        if damage == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif damage == 1 and place < len(data):
            data[place] = rng.randrange(256)
        elif damage == 2:
            del data[place : place + rng.randint(1, 4)]
        elif damage == 3:
            data[place:place] = rng.randbytes(rng.randint(1, 4))
        elif damage == 4:
            data[place:] = other[start:]
        else:
            data += bytes(rng.randint(1, 3))
    return bytes(data)


def main() -> int:
    """Print the outcomes for each codec; return the exit status, 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codecs", nargs="+", metavar="CODEC", help="names or directories")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--images", type=float, default=1.0, help="share of the inputs that are restored to pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    good = True
    for name in options.codecs:
        outcomes = fuzz(load(name), options.inputs, seed=options.seed, images=options.images)
        good &= outcomes.good
        print(f"{name}: {len(outcomes.failures)} failed, {outcomes.unnoticed} of {outcomes.damaged} damaged unnoticed,")
        print(f"  slowest {outcomes.slowest:.2f} s, most working memory {outcomes.memory / 2**20:.1f} MiB")
        for (kind, outcome), number in sorted(outcomes.counts.items()):
            print(f"  {kind:<24} {outcome:<8} {number}")
        for failure in outcomes.failures[:20]:
            print(f"  {failure}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
