"""What W&B has written of a run, read back from its own files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAGIC = b":W&B"
HEADER_BYTES = 7
"""Of the file, and of each chunk: checksum (4), length (2), kind (1)."""
BLOCK_BYTES = 1 << 15
WHOLE, FIRST, _, LAST = 1, 2, 3, 4
"""Kinds of a chunk: a whole record, or a part of one."""


def records(path: Path) -> Iterator[Any]:
    """Yield the records (`wandb_internal_pb2.Record`) of a `.wandb` file, up to where its writer was killed.

    Source: the format is LevelDB's log, https://github.com/google/leveldb/blob/main/doc/log_format.md, after a header.

    Raises:
        ValueError: The file is none of W&B's.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    data = path.read_bytes()
    if len(data) < HEADER_BYTES:
        return
    if not data.startswith(MAGIC):
        raise ValueError(f"{path} is no file of W&B's; give a run-<id>.wandb")
    place, content = HEADER_BYTES, b""
    while place + HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < HEADER_BYTES:  # the rest of a block that no header fits into
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += HEADER_BYTES + length
        if kind == 0 or place > len(data):
            return
        content = (b"" if kind in (WHOLE, FIRST) else content) + data[place - length : place]
        if kind in (WHOLE, LAST):
            yield Record.FromString(content)


def history(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows that were logged: values by the names of metrics; a medium is a dictionary."""
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            yield _nested((item.nested_key or [item.key], item.value_json) for item in record.history.item)


def config(path: Path) -> dict[str, Any]:
    """Return the configuration of the run."""
    entries: dict[str, Any] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        updates = {"run": record.run.config.update, "config": record.config.update}.get(kind, [])
        entries |= _nested((item.nested_key or [item.key], item.value_json) for item in updates)
    return entries


def _nested(items: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for keys, value in items:
        inner = values
        for key in list(keys)[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = json.loads(value)
    return values
