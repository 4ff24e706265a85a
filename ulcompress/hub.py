"""Files of the model hub, from the local cache where they are there."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def snapshot(name: str, *, revision: str | None, patterns: Sequence[str], files: Sequence[str]) -> Path:
    """Return the local directory of a model on the hub.

    Args:
        name: Its id, `organisation/name`.
        revision: Commit, tag or branch; None takes the newest.
        patterns: Of the files to fetch.
        files: Those without which a cached copy is not complete.

    Raises:
        ValueError: They cannot be fetched; says why, not what to do.
    """
    from httpx import HTTPError
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    options: dict[str, Any] = {"revision": revision, "allow_patterns": list(patterns)}
    try:
        with suppress(LocalEntryNotFoundError):
            cached = Path(snapshot_download(name, local_files_only=True, **options))
            if all((cached / file).is_file() for file in files):
                return cached
        model_info(name, revision=revision, timeout=10)  # fails at once where downloads try for long
        return Path(snapshot_download(name, **options))
    except (HTTPError, HfHubHTTPError, OSError, ValueError) as error:
        raise ValueError(" ".join(str(error).split()).partition(". ")[0]) from error
