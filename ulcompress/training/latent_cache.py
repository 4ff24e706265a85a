"""Latents of training images, kept in a file."""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ulcompress.autoencoders import Autoencoder

WAIT = 60.0
"""Seconds to wait for another process that writes."""


class LatentCache:
    """Latents of a fixed autoencoder by the content of their images, in a database that several processes may share.

    A latent that is found is equal to the one that was kept, to the bit.
    """

    def __init__(self, file: str | Path):
        """Name the file, which is made with the first latent."""
        self.file = Path(file)
        self._checked = False

    def __call__(self, autoencoder: Autoencoder, images: Tensor) -> Tensor:
        """Return the latents of images, (B, C, h, w), for RGB in [0, 1], (B, 3, H, W); encode those that are missing.

        Raises:
            ValueError: The file is no such database, or holds latents of other weights.
        """
        pixels = images.detach().float().cpu().contiguous().numpy()
        keys = [
            hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).digest() for image in pixels
        ]
        shape = (autoencoder.channels, *(side // autoencoder.stride for side in images.shape[-2:]))
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=WAIT)) as database:
                self._check(database, autoencoder)
                found = _found(database, keys)
                missing = [row for row, key in enumerate(keys) if key not in found]
                if missing:
                    latents = autoencoder.encode(images[missing]).detach().float().cpu().contiguous().numpy()
                    found |= {keys[row]: latent.tobytes() for row, latent in zip(missing, latents, strict=True)}
                    with database:
                        rows = [(keys[row], found[keys[row]]) for row in missing]
                        database.executemany("INSERT OR IGNORE INTO latents VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"{self.file} cannot keep latents: {error}; name another acceleration.latents") from error
        values = np.stack([np.frombuffer(found[key], dtype=np.float32).reshape(shape) for key in keys])
        return torch.from_numpy(values).to(images.device)

    def _check(self, database: sqlite3.Connection, autoencoder: Autoencoder) -> None:
        if self._checked:
            return
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS latents (image BLOB PRIMARY KEY, latent BLOB) WITHOUT ROWID")
            database.execute("CREATE TABLE IF NOT EXISTS autoencoder (digest TEXT PRIMARY KEY)")
            database.execute(
                "INSERT INTO autoencoder SELECT ? WHERE NOT EXISTS (SELECT * FROM autoencoder)", [_digest(autoencoder)]
            )
        if database.execute("SELECT digest FROM autoencoder").fetchall() != [(_digest(autoencoder),)]:
            raise ValueError(
                f"{self.file} holds latents of another autoencoder; name another file for acceleration.latents"
            )
        self._checked = True


def _found(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    marks = ", ".join("?" * len(keys))
    return dict(database.execute(f"SELECT image, latent FROM latents WHERE image IN ({marks})", keys).fetchall())


def _digest(autoencoder: Autoencoder) -> str:
    """Return a digest of the weights and of the class, whatever device and memory format they are in."""
    digest = hashlib.blake2b(autoencoder.path().encode(), digest_size=16)
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
