"""The directories of saved codecs: bundled and imported ones, the user's, and copies from the model hub and W&B."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ulcompress.foundation import artifacts
from ulcompress.foundation.hub import failures
from ulcompress.learned.catalogue import PUBLISHED
from ulcompress.pretrained.directory import CONFIGURATION, FILES, file_of, metadata

BUNDLED = Path(__file__).parent.parent / "weights"


def locate(name: str | Path) -> Path:
    """Return the directory of a codec by its name for `load`; a published codec is imported into the cache first.

    Raises:
        ValueError: There is no such codec, or it cannot be imported.
    """
    text = str(name)
    directory = _directory(text)
    if not file_of(directory, CONFIGURATION).is_file():
        directory = _by_name(text) or directory
    missing = [file for file in FILES[:2] if not file_of(directory, file).is_file()]
    if missing:
        bundled = ", ".join(path.name for path in bundled_codecs()) or "none"
        raise ValueError(
            f"no codec {text!r}: {directory / missing[0]} does not exist; give a bundled codec ({bundled}), "
            "one that `ulcompress models` lists, a directory with config.yaml and model.safetensors, "
            "hub:organisation/name or wandb:entity/project/name:version"
        )
    return directory


def bundled_codecs() -> Iterator[Path]:
    """Return the directories of the codecs that come with the package."""
    return (path.parent for path in sorted(BUNDLED.glob("*/config.yaml")))


def imports() -> Path:
    """Return the folder of the codecs that were imported by name: directories, and links to directories elsewhere.

    ULCOMPRESS_CACHE names the folder in which it lies, `~/.cache/ulcompress` by default.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ULCOMPRESS_CACHE") or Path(caches) / "ulcompress") / "codecs"


def imported_codecs() -> Iterator[Path]:
    """Return the directories of the imported codecs, named as those are."""
    return (path.parent for path in sorted(imports().glob("*/config.yaml")))


def remember(name: str, directory: Path) -> None:
    """Let an imported codec be found by its name and its fingerprint, wherever its directory is."""
    link = imports() / name
    if directory.resolve() == link.resolve():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # where the system has no links, or an earlier import lies in the cache itself
        link.unlink(missing_ok=True)
        link.symlink_to(directory.resolve(), target_is_directory=True)


def find(fingerprint: str) -> Path | None:
    """Return the directory of the bundled or imported codec with a fingerprint, six hexadecimal digits, if any."""
    for directory in (*bundled_codecs(), *imported_codecs()):
        with suppress(ValueError):  # a damaged codec is not the one that is looked for
            if metadata(directory).get("fingerprint") == fingerprint:
                return directory
    return None


def _by_name(name: str) -> Path | None:
    """Return the directory of a bundled or published codec."""
    if name == Path(name).name and (BUNDLED / name).is_dir():
        return BUNDLED / name
    if name not in PUBLISHED:
        return None
    directory = imports() / name
    if not file_of(directory, CONFIGURATION).is_file():
        from ulcompress.learned.importing import import_codec

        if directory.is_symlink():  # to an import that is no longer there
            directory.unlink()
        import_codec(name, [], directory)
    return directory


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
