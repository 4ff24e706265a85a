"""The results of an evaluation as one page that opens from the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ulcompress.files import write_whole

HERE = Path(__file__).parent


def write_page(results: Mapping[str, Any], folder: Path) -> Path:
    """Write `index.html` for the content of `results.json`, and return its path.

    Style, script and numbers are within the page; images, where they were kept, are read from the folder beside it,
    unless `embedded` has put them into the content.
    """
    text = (HERE / "template.html").read_text(encoding="utf-8")
    parts = {name: (HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js")}
    parts["results.json"] = _inline(results)
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    path = folder / "index.html"
    write_whole(path, text.encode())
    return path


def _inline(results: Mapping[str, Any]) -> str:
    """Write JSON that neither ends the script in which it stands nor is a comment to a reader of HTML."""
    return json.dumps(results, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
