"""Files that are whole or not there."""

from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write beside and move, so that an interruption leaves no half file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
