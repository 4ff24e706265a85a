"""Captions of a folder of images: made once, in batches, and kept where training finds them."""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress

from ulcompress.files import write_whole
from ulcompress.images import ImageError, open_image

if TYPE_CHECKING:
    from ulcompress.conditioning.captioner import Captioner


class CaptionStore(ABC):
    """Where captions are kept; what is added stays, whatever happens next."""

    @abstractmethod
    def has(self, image: Path) -> bool:
        """Say whether an image has a caption."""

    @abstractmethod
    def add(self, image: Path, caption: str) -> None:
        """Keep the caption of an image in place of an older one."""


class BesideImages(CaptionStore):
    """`<stem>.txt` beside `<stem>.<image suffix>`."""

    def has(self, image: Path) -> bool:
        """Say whether the text file is there and not blank."""
        return first_caption(image) is not None

    def add(self, image: Path, caption: str) -> None:
        """Write the text file as a whole."""
        write_whole(image.with_suffix(".txt"), f"{caption}\n".encode())


class CaptionFile(CaptionStore):
    """One file of JSON lines, `{"image": "folder/name.png", "captions": ["..."]}`, which grows line by line."""

    def __init__(self, path: Path):
        """Open a file that may be there already; a last line that an interruption cut is dropped."""
        self.path = path
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_whole(path, whole.encode())
        self._known = set(parse_captions(whole, str(path)))

    def has(self, image: Path) -> bool:
        """Say whether a line names the image as it is written here."""
        return image.as_posix() in self._known

    def add(self, image: Path, caption: str) -> None:
        """Append a line; of several for one image the last counts."""
        with self.path.open("a") as file:
            file.write(json.dumps({"image": image.as_posix(), "captions": [caption]}, ensure_ascii=False) + "\n")
        self._known.add(image.as_posix())


@dataclass
class Captioned:
    """What a run over a folder did."""

    made: int = 0
    """Captions that are new."""
    kept: int = 0
    """Images that had one."""
    unreadable: list[str] = field(default_factory=list)
    """One line for each image that cannot be read."""


def caption_images(
    captioner: "Captioner", images: Sequence[Path], store: CaptionStore, *, batch_size: int = 8, force: bool = False
) -> Captioned:
    """Caption the images that have none, or all with `force`, in batches under a progress bar.

    Each batch is kept before the next one starts, so an interrupted run continues where it stopped.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; give at least 1")
    result = Captioned()
    wanted = [image for image in images if force or not store.has(image)]
    result.kept = len(images) - len(wanted)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Captioning", total=len(wanted))
        for paths in _batches(wanted, batch_size):
            readable = []
            for path in paths:
                try:
                    readable.append((path, open_image(path)))
                except ImageError as error:
                    result.unreadable.append(str(error))
                    progress.console.print(f"[yellow]left out[/yellow] {escape(str(error))}", soft_wrap=True)
            if readable:
                captions = captioner.caption([image for _, image in readable])
                for (path, _), caption in zip(readable, captions, strict=True):
                    store.add(path, caption)
                    result.made += 1
            progress.advance(task, len(paths))
    return result


def first_caption(image: Path) -> str | None:
    """Return the first line of `<stem>.txt` beside an image that is not blank, or None."""
    text = image.with_suffix(".txt")
    lines = text.read_text(errors="replace").splitlines() if text.is_file() else []
    return next((line.strip() for line in lines if line.strip()), None)


def parse_captions(text: str, name: str) -> dict[str, list[str]]:
    """Return the captions of a file's JSON lines by image; ValueError names the first line that is none."""
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            image, given = entry["image"], entry["captions"]
            valid = isinstance(image, str) and isinstance(given, list) and all(isinstance(c, str) for c in given)
        except (ValueError, KeyError, TypeError):
            valid = False
        if not valid:
            example = '{"image": "folder/name.png", "captions": ["what it shows"]}'
            raise ValueError(f"{name}, line {number}: not a caption; a line is {example}")
        captions[image] = given
    return captions


def _batches(paths: Iterable[Path], size: int) -> Iterable[tuple[Path, ...]]:
    iterator = iter(paths)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch
