"""Whether a file holds the same symbols under other conditions: threads, precisions, instruction sets, a GPU."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from ulcompress.codec import Codec
from ulcompress.functional.cores import limited
from ulcompress.functional.devices import default_dtype
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.functional.lines import one_line
from ulcompress.pretrained import load
from ulcompress.records import Code

Streams: TypeAlias = Mapping[str, Sequence[int]]
"""All integers that a file holds, by stream; the quantiser's symbols are `spatial`."""

INSTRUCTION_SETS = {
    "default": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "avx512": {},
}
"""Values of ATEN_CPU_CAPABILITY, each a part of the next, with what restricts the libraries below torch likewise."""


@dataclass(frozen=True)
class CodedFile:
    """A file and what reads it; another process can be given one."""

    data: bytes
    """The bytes of the file."""
    codec: str | Path
    """Name or directory of its codec."""
    trust: Sequence[str] = ()
    """Packages that the codec may name, as for `ulcompress.load`."""
    max_pixels: int = MAX_PIXELS
    """Most pixels of its image."""

    def load(self, device: str = "cpu") -> Codec:
        """Load the codec, without its decoder."""
        return load(self.codec, device=device, encoder_only=True, trust=self.trust)

    def read(self, codec: Codec | None = None) -> Streams:
        """Return the streams of the file, read by its codec, which is loaded anew by default.

        Raises:
            BitstreamError: It is no good file of this codec.
        """
        return streams_of((codec or self.load()).read(self.data, max_pixels=self.max_pixels))


class ReadCondition(NamedTuple):
    """Circumstances in which a file is read once more."""

    name: str
    read: Callable[[], list[Streams]]
    """Reads the file, once or several times."""
    missing: str | None = None
    """Why this machine does not have them; None where it does."""


def conditions(file: CodedFile, *, compiler: str | None = None) -> Iterator[ReadCondition]:
    """Yield the conditions under which a file is read.

    Args:
        file: The file.
        compiler: Backend of `torch.compile`, for one more condition; it takes a minute.
    """
    for name, context in _CONTEXTS.items():
        yield ReadCondition(name, partial(_within, context, file))
    yield ReadCondition("two at once", partial(_two_at_once, file))
    present = torch.backends.cpu.get_cpu_capability().lower()
    sets = INSTRUCTION_SETS if platform.machine().lower() in ("x86_64", "amd64") else {}  # others have one alone
    for name in takewhile(lambda name: name != present, sets):
        yield ReadCondition(f"instruction set {name}", partial(_with_instructions, name, file))
    if compiler is not None:
        yield ReadCondition(f"compiled by {compiler}", partial(_compiled, compiler, file))
    missing = None if torch.cuda.is_available() else "no GPU that torch can use"
    yield ReadCondition("on a GPU", lambda: [file.read(file.load("cuda"))], missing)


def difference(condition: ReadCondition, expected: Streams) -> str | None:
    """Return in one line how what is read under a condition differs from what was expected; None where it does not."""
    try:
        found = condition.read()
    except Exception as error:  # whatever it is: without the condition the file can be read
        return f"it cannot be read: {one_line(error) or type(error).__name__}"
    return next((text for streams in found if (text := _first_difference(streams, expected))), None)


def _first_difference(found: Streams, expected: Streams) -> str | None:
    for name, wanted in expected.items():
        got = found.get(name, ())
        for place, (value, other) in enumerate(zip(got, wanted, strict=False)):
            if value != other:
                return f"integer {place} of the {len(wanted)} of {name!r} is {value}, not {other}"
        if len(got) != len(wanted):
            return f"{name!r} has {len(got)} integers, not {len(wanted)}"
    return None


def streams_of(code: Code) -> dict[str, list[int]]:
    """Return all integers of a code: those of its size, of what each conditioner sends, and the symbols."""
    sent = {name: list(_integers(side)) for name, side in code.sides.items() if side is not None}
    return {"size": [code.height, code.width], **sent, "spatial": list(_integers(code.symbols))}


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, torch.Tensor):
        yield from (int(number) for number in value.flatten().tolist())
    elif is_dataclass(value):
        for field in fields(value):
            yield from _integers(getattr(value, field.name))
    elif isinstance(value, (list, tuple, bytes)):
        for item in value:
            yield from _integers(item)
    else:
        yield int(value)


def _within(context: Callable[[], AbstractContextManager[Any]], file: CodedFile) -> list[Streams]:
    with context():
        return [file.read()]


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _without_onednn() -> Iterator[None]:
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.set_flags(False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(before)


_CONTEXTS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "1 thread": partial(limited, 1),
    "2 threads": partial(limited, 2),
    "float64 by default": partial(default_dtype, torch.float64),
    "matmul precision medium": partial(_matmul_precision, "medium"),
    "bfloat16 autocast": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    "without oneDNN": _without_onednn,
}


def _two_at_once(file: CodedFile) -> list[Streams]:
    """Read the file twice by one codec at the same time, as a server does; no codec reads several in one batch."""
    codec = file.load()
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(file.read, [codec, codec]))


def _compiled(backend: str, file: CodedFile) -> list[Streams]:
    codec = file.load()
    codec.read = torch.compile(codec.read, backend=backend)
    log = logging.getLogger("torch._dynamo")
    before = log.level
    log.setLevel(logging.ERROR)  # it warns of each loop that it leaves as it is
    try:
        return [file.read(codec)]
    finally:
        log.setLevel(before)


def _with_instructions(name: str, file: CodedFile) -> list[Streams]:
    """Read the file in a process of its own, since the instruction set is chosen once in each."""
    variables = {"ATEN_CPU_CAPABILITY": name, **INSTRUCTION_SETS[name]}
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_set, initargs=(variables,)) as pool:
        capability, streams = pool.submit(_read_alone, file).result()
    if capability != name:
        raise RuntimeError(f"torch uses {capability}")
    return [streams]


def _set(variables: Mapping[str, str]) -> None:
    os.environ.update(variables)


def _read_alone(file: CodedFile) -> tuple[str, Streams]:
    return torch.backends.cpu.get_cpu_capability().lower(), file.read()
