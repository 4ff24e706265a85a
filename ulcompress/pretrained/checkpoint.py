"""Training checkpoints, read without executing anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulcompress.files import read_torch
from ulcompress.pretrained.upgrades import upgrade_checkpoint

FINGERPRINT = "fingerprint"
"""Key of the fingerprint, in hexadecimal, in a codec directory's metadata, and in a checkpoint: of the codec with which
its training began, if its files were readable then."""
FILE_DIGEST = "file_digest"
"""Key of a checkpoint's `Codec.file_digest` at the beginning; while it is the same, those files stay readable."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint in the present format; nothing in it is executed.

    Raises:
        ValueError: The file is missing or is no such checkpoint.
    """
    from torch import is_tensor

    if not Path(path).is_file():
        raise ValueError(f"no checkpoint {str(path)!r}; train that stage first or give another path")
    try:
        content = read_torch(path)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no checkpoint that can be read safely: {error}") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) and is_tensor(state[name]) for name in state):
        raise ValueError(f"{str(path)!r} is no Lightning checkpoint: it holds no `state_dict`")
    return upgrade_checkpoint(content)
