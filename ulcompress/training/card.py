"""The model card of a codec that a run has trained."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def card(record: Mapping[str, Any], measured: Mapping[str, float]) -> str:
    """Return the card: how the codec was trained, and what the last validation measured.

    Args:
        record: Content of `run.json`.
        measured: Numbers by the names of metrics.
    """
    state = f"commit {record['commit']}{', with changes' if record['dirty'] else ''}" if record.get("commit") else ""
    lines = [
        f"# {record['name']}",
        f"Trained by ulcompress in {record['step']} steps with the seed {record['seed']}, {state or 'without git'}:",
        f"    ulcompress {shlex.join(record['command'])}",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in record["versions"].items()) + ".",
    ]
    if measured:
        rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(measured.items()))
        lines += [
            "Measured in the last validation; rates are bits per pixel, `bpp/` those of files and `rate/` estimates:",
            f"| metric | value |\n| --- | --: |\n{rows}",
        ]
    return "\n\n".join(lines) + "\n"
