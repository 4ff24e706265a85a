"""Files of weights: in a folder that the user gives, in torch's cache, or from where they are published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors.torch import load_file

from ulcompress.losses.backbone import default_weights

URLS = {
    "weights-inception-2015-12-05-6726825d.pth": "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
}
"""Files that metrics want, by the name under which they are published and looked for."""
TORCHVISION = "https://download.pytorch.org/models/"
"""Where all other files are."""
BACKBONES = ("alexnet", "vgg16", "squeezenet1_1")
"""The classifiers of torchvision's that `all` metrics want."""
LAYERS = {
    "alexnet": "44534cd66e37ce9a6258bb5e845ef8cd47c33aa68024441c7e616d63c0c1c41a",
    "vgg16": "02ea23240491c2589ec6c79346a0cd2cde49db15b57118399c02f252fb928f83",
}
"""SHA-256 of the convolutional layers of torchvision's default weights, as `_hash_of_layers` computes it."""
SMALLEST_SIDE = 32
"""Smallest side of an image for which all backbones have a feature left, in pixels."""


class MissingWeights(ValueError):
    """A metric's weights are neither here nor to be had, or damaged; one line says which file and from where."""


def fetch(file: str, folder: Path | None) -> Path:
    """Return the path of a published file: in the folder, else in torch's cache, downloaded if necessary.

    Raises:
        MissingWeights: It is in none of them, and cannot be downloaded; or it is not what its name promises.
    """
    if folder is not None and (folder / file).is_file():
        return _checked(folder / file)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(_address(file), str(cached), progress=False)
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise MissingWeights(
                f"{file} is wanted; put it into --weights DIR, from {_address(file)} ({reason})"
            ) from error
    return _checked(cached)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a file of weights does to its reader into MissingWeights that names it."""
    try:
        yield
    except Exception as error:  # of pickle, zip, safetensors, torch: many kinds, one cure
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise MissingWeights(
            f"{path} cannot be read as the weights that are wanted; get it again ({reason})"
        ) from error


def published_file(name: str) -> str:
    """Return the name under which torchvision publishes a classifier's default weights."""
    return default_weights(name).rpartition("/")[2]


def backbone(name: str, folder: Path | None) -> Path:
    """Return a file of weights of a torchvision classifier; MissingWeights as for `fetch`.

    The user's own `<name>.safetensors` in the folder goes before the default ones as published: results are named after
    the network alone, and record the file's hash.
    """
    converted = folder / f"{name}.safetensors" if folder is not None else None
    if converted is not None and converted.is_file():
        return converted
    return fetch(published_file(name), folder)


def convolutions(name: str, folder: Path | None) -> Path:
    """Return a file with torchvision's own convolutional layers of a classifier; MissingWeights as for `fetch`.

    `<name>.safetensors` in the folder is taken where its tensors are those, else the published file.
    """
    converted = folder / f"{name}.safetensors" if folder is not None else None
    if converted is not None and converted.is_file() and _hash_of_layers(converted) == LAYERS.get(name):
        return converted
    return fetch(published_file(name), folder)


def hashes(*paths: Path) -> dict[str, str]:
    """Return the SHA-256 of files by their names; of a folder those of all files in it."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {file.name: _sha256(file) for file in files if file.is_file()}


def _address(file: str) -> str:
    return URLS.get(file) or TORCHVISION + file


def _checked(path: Path) -> Path:
    """Return the path of a file whose SHA-256 begins as its name ends; MissingWeights for another one."""
    promised = path.stem.rpartition("-")[2]
    with reading(path):
        found = _sha256(path)[: len(promised)]
    if found != promised:
        advice = f"it is damaged or another file; get it from {_address(path.name)}"
        raise MissingWeights(f"{path} has a SHA-256 of {found}... where its name says {promised}; {advice}")
    return path


def _hash_of_layers(path: Path) -> str:
    """Return the SHA-256 of the tensors below `features.` as float32 in the order of their names."""
    with reading(path):
        state = load_file(path)
    digest = hashlib.sha256()
    for name in sorted(name for name in state if name.startswith("features.")):
        digest.update(name.encode())
        digest.update(state[name].float().numpy().tobytes())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
