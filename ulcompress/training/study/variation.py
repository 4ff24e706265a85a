"""A codec directory with other options and the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from ulcompress.pretrained import load, save
from ulcompress.pretrained.loading import build


def vary(codec: Path, directory: Path, options: Mapping[str, Any]) -> None:
    """Write a codec with other options, such as the patches in which it samples.

    Args:
        codec: Its directory.
        directory: The one to write; one that exists is replaced.
        options: By their keys within the codec, `decoder.boundary.patch` for instance.

    Raises:
        ValueError: There is no such option, or with it the codec has other weights.
    """
    original = load(codec)
    config = deepcopy(original.arguments())
    for key, value in options.items():
        _set(config, key, value)
    varied = build(config)
    try:
        varied.load_state_dict(original.state_dict())
    except RuntimeError as error:
        raise ValueError(f"{', '.join(options)} change the codec's weights; give them as model.codec....") from error
    save(varied.eval(), directory)


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    node: Any = config
    *above, last = key.split(".")
    for name in [*above, None]:
        node = node.get("init_args", node) if isinstance(node, dict) else {}
        wanted = last if name is None else name
        if wanted not in node:
            raise ValueError(f"the codec has no option {key}; beside {wanted!r} there are {', '.join(node) or 'none'}")
        if name is not None:
            node = node[name]
    node[last] = value
