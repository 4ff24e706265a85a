"""Files: written as a whole or not at all, read with one clear line where they are wrong."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError


def write_whole(path: Path, data: bytes) -> None:
    """Write beside and move, so that an interruption leaves no half file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def read_torch(path: str | Path) -> Any:
    """Return what torch.save wrote, of which nothing is executed; ValueError says why it cannot be read."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever other files do to its reader
        raise ValueError(next(iter(str(error).splitlines()), type(error).__name__)) from error


def read_yaml(path: Path, *, kind: str, section: str) -> dict[str, Any]:
    """Read a YAML file of named sections, `${...}` resolved as OmegaConf does.

    Args:
        path: The file.
        kind: What it should be, for the error: `experiment`.
        section: A name that one expects in it, for the error: `model`.

    Raises:
        ValueError: It cannot be read, or holds something else.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        held = type(content).__name__
        raise ValueError(f"{path} is no {kind}: it holds a {held}, not sections such as `{section}`")
    return {str(key): value for key, value in content.items()}
