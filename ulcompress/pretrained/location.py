"""The directories of saved codecs: bundled ones, the user's, and copies from the model hub and from W&B."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ulcompress.foundation import artifacts
from ulcompress.foundation.hub import failures
from ulcompress.pretrained.directory import CONFIGURATION, FILES, file_of

BUNDLED = Path(__file__).parent.parent / "weights"


def locate(name: str | Path) -> Path:
    """Return the directory of a codec by its name for `load`; raises ValueError where there is none."""
    text = str(name)
    directory = _directory(text)
    if not file_of(directory, CONFIGURATION).is_file() and (BUNDLED / text).is_dir() and text == Path(text).name:
        directory = BUNDLED / text
    missing = [file for file in FILES[:2] if not file_of(directory, file).is_file()]
    if missing:
        bundled = ", ".join(path.name for path in bundled_codecs()) or "none"
        raise ValueError(
            f"no codec {text!r}: {directory / missing[0]} does not exist; give a bundled codec ({bundled}), "
            "a directory with config.yaml and model.safetensors, hub:organisation/name or "
            "wandb:entity/project/name:version"
        )
    return directory


def bundled_codecs() -> Iterator[Path]:
    """Return the directories of the codecs that come with the package."""
    return (path.parent for path in sorted(BUNDLED.glob("*/config.yaml")))


def _directory(name: str) -> Path:
    source, colon, rest = name.partition(":")
    if colon and source == "hub":
        return _download(rest)
    return artifacts.download(rest, FILES) if colon and source == "wandb" else Path(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(FILES)))
    except failures() as error:
        raise ValueError(
            f"cannot fetch {repository!r} from the model hub: {' '.join(str(error).split())}; "
            "with a local copy, give its directory instead"
        ) from error
