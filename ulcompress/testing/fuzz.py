"""Hostile and damaged files: `python -m ulcompress.testing.fuzz CODEC --inputs 100000`.

Whatever bytes arrive, a codec answers with an image or with `BitstreamError`, in bounded time; and it notices damage.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ulcompress.codec import Codec
from ulcompress.coding.arithmetic import BitstreamError
from ulcompress.coding.bitstream import VERSION, Header, check_of
from ulcompress.pretrained import load

MAX_PIXELS = 1 << 12
"""Most pixels of an image here, so that an input takes milliseconds; larger claims must be refused."""
SECONDS = 20.0
"""Most processor time of an input."""
CAPTIONS = (None, "a red boat on a lake", "two dogs")


class Input(NamedTuple):
    """Bytes for a decoder."""

    kind: str
    """How they were made."""
    data: bytes
    """The bytes."""
    damaged: bool = False
    """Whether they are a valid file with damage, which should be noticed."""
    prefix: bool = False
    """Whether they are read as the beginning of a file."""


@dataclass
class Outcomes:
    """What became of inputs."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many inputs of a kind were an image, or were refused."""
    damaged: int = 0
    """Damaged files."""
    unnoticed: int = 0
    """Damaged files that were an image."""
    slowest: float = 0.0
    """The processor time of the slowest input, in seconds."""


def fuzz(codec: Codec, inputs: int, *, seed: int = 0, images: float = 1.0) -> Outcomes:
    """Let a codec decode random, forged and damaged files.

    Args:
        codec: The codec.
        inputs: Number of files.
        seed: Seed of their bytes.
        images: Share of the readable files whose pixels are restored, which takes most of the time.

    Raises:
        AssertionError: An input took longer than `SECONDS`, or an error has more than one line.
        Exception: Whatever the codec raised instead of `BitstreamError`.
    """
    rng, outcomes = random.Random(seed), Outcomes()
    for item in _inputs(codec, inputs, rng):
        start = time.process_time()
        outcome = _outcome(codec, item, pixels=rng.random() < images)
        outcomes.slowest = max(outcomes.slowest, time.process_time() - start)
        assert outcomes.slowest < SECONDS, f"{item} took {outcomes.slowest:.1f} s"
        outcomes.counts[item.kind, outcome] += 1
        outcomes.damaged += item.damaged
        outcomes.unnoticed += item.damaged and outcome == "image"
    return outcomes


def _outcome(codec: Codec, item: Input, *, pixels: bool) -> str:
    try:
        code = codec.read(item.data, max_pixels=MAX_PIXELS, prefix=item.prefix)
        image = codec.decode(code, seed=0) if pixels else torch.zeros(3, code.height, code.width)
    except BitstreamError as error:
        assert "\n" not in str(error), f"{item}: {error!r} has several lines"
        return "refused"
    assert image.isfinite().all() and image.shape[1] * image.shape[2] <= MAX_PIXELS, f"{item} is no good image"
    return "image"


def _inputs(codec: Codec, count: int, rng: random.Random) -> Iterator[Input]:
    files = _files(codec, rng)
    makers: Sequence[Callable[[], Input]] = (
        lambda: Input("random", rng.randbytes(rng.randrange(64))),
        lambda: Input("random after the header", Header(VERSION, codec.fingerprint, 32, 32).pack() + rng.randbytes(20)),
        lambda: Input("forged", _forged(codec, rng)),
        lambda: Input("beginning", rng.choice(files)[: rng.randrange(80)], prefix=True),
        lambda: Input("beginning of damaged", _damage(rng, files), prefix=True),
        *[lambda: Input("damaged", _damage(rng, files), damaged=True)] * 5,
    )
    for _ in range(count):
        item = rng.choice(makers)()
        if item.prefix or item.data not in files:
            yield item


def _files(codec: Codec, rng: random.Random) -> list[bytes]:
    """Return valid files of small images, some of them cut to a size."""
    generator = torch.Generator().manual_seed(rng.randrange(2**32))
    files = []
    for caption in CAPTIONS if codec.takes_captions else CAPTIONS[:1]:
        image = torch.rand(3, rng.randint(1, 64), rng.randint(1, 64), generator=generator)
        whole = codec.compress(image, caption)
        files.append(whole)
        if codec.quantizer.divisible:
            files.append(codec.compress(image, caption, max_bytes=max(9, rng.randint(9, 9 + len(whole)))))
    return files


def _forged(codec: Codec, rng: random.Random) -> bytes:
    """Return a file with a right check: any size, any payload."""
    side = rng.choice((1, 8, 64, 512, 16384))
    head = Header(
        version=rng.randint(1, VERSION),
        fingerprint=codec.fingerprint,
        width=rng.randint(1, side),
        height=rng.randint(1, side),
    ).pack()
    if head[0] != 0xB1 and rng.random() < 0.5:
        head = bytes([head[0] | 0x08]) + head[1:]
    payload = rng.randbytes(rng.randrange(40)) + rng.choice((b"", b"\0" * 300, b"\xff" * 30))
    return head + check_of(head, payload) + payload


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


def main() -> None:
    """Print the outcomes for each codec."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codecs", nargs="+", metavar="CODEC", help="names or directories")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.codecs:
        outcomes = fuzz(load(name), options.inputs, seed=options.seed)
        unnoticed = f"{outcomes.unnoticed} of {outcomes.damaged} damaged files unnoticed"
        print(f"{name}: {unnoticed}, slowest {outcomes.slowest:.2f} s")
        for (kind, outcome), number in sorted(outcomes.counts.items()):
            print(f"  {kind:<24} {outcome:<8} {number}")


if __name__ == "__main__":
    main()
