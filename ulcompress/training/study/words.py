"""Options as words of a command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def words(options: Mapping[str, Any]) -> list[str]:
    """Return `--key value` for options by their full keys; the arguments of a part follow its class one by one."""
    return [word for key, value in options.items() for pair in _pairs(key, value) for word in pair]


def _pairs(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and "class_path" in value:
        yield f"--{key}", str(value["class_path"])
        for name, inner in (value.get("init_args") or {}).items():
            yield from _pairs(f"{key}.{name}", inner)
    else:
        yield f"--{key}", value if isinstance(value, str) else json.dumps(value)
