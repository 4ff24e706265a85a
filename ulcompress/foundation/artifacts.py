"""Files of artifacts that runs have logged to W&B."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any


def logged_in() -> bool:
    """Return whether there are credentials for W&B's server, which are neither asked for nor checked with it."""
    from wandb.errors import AuthenticationError
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    host = wandb_setup.singleton().settings.base_url
    try:
        found = wbauth.authenticate_session(host=host, source="ulcompress", prompt=False, update_session=False)
    except AuthenticationError:
        return False
    return found is not None


def download(name: str, files: Sequence[str]) -> Path:
    """Return the local folder with those of the files that an artifact has.

    Args:
        name: `entity/project/name:version`; W&B takes your entity and the newest version where they are left out.
        files: Names; nothing else is fetched, and none from outside of W&B.

    Raises:
        ValueError: There is no such artifact, no network, no login or no W&B; the message is one line.
    """
    try:
        import wandb
    except ImportError as error:
        raise ValueError(f"cannot fetch {name!r}: W&B is not installed; `pip install wandb`") from error
    if not logged_in():  # or W&B would ask on the terminal
        raise ValueError(f"cannot fetch {name!r} from W&B: you are not logged in; `wandb login`, or set WANDB_API_KEY")
    try:
        return _fetched(wandb.Api(timeout=10).artifact(name if ":" in name else f"{name}:latest"), files)
    except (wandb.Error, OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot fetch {name!r} from W&B: {reason}; with a local copy, give its directory instead"
        ) from error


def _fetched(artifact: Any, files: Sequence[str]) -> Path:
    from wandb import env

    folder = Path(env.get_cache_dir()) / "ulcompress" / sha256(artifact.digest.encode()).hexdigest()[:32]
    for file in files:
        entry = artifact.manifest.entries.get(file)
        if entry is None:
            continue
        if entry.ref is not None:  # a link, which could lead to any file or server
            raise ValueError(f"its {file} is a reference to a file elsewhere")
        entry.download(root=str(folder))
    return folder
