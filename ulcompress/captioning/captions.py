"""Captions of a folder of images: made once, in batches, and stored where training reads them."""

import codecs
import itertools
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress

from ulcompress.files import write_whole
from ulcompress.functional.lines import one_line
from ulcompress.images import ImageError, open_image

if TYPE_CHECKING:
    from PIL import Image

    from ulcompress.captioning.captioner import Captioner

TEXT_SUFFIXES = (".txt", ".TXT")
"""Suffixes of a caption file beside an image; new files get the first one."""
GUESSED = "is not UTF-8 and was read as Windows-1252 (Latin-1); save it as UTF-8"
# UTF-32 first: its mark in little-endian order begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_LEGACY = "windows-1252"  # what files that are called Latin-1 hold


class CaptionStore(ABC):
    """Stores captions on disk, each as soon as it is added."""

    @abstractmethod
    def key(self, image: Path) -> str:
        """Return the name under which the caption of an image is stored."""

    @abstractmethod
    def has(self, image: Path) -> bool:
        """Say whether an image has a caption."""

    @abstractmethod
    def add(self, image: Path, caption: str) -> None:
        """Store the caption of an image in place of an older one."""


class BesideImages(CaptionStore):
    """`<stem>.txt` beside `<stem>.<image suffix>`."""

    def key(self, image: Path) -> str:
        """Return the path of the text file."""
        return str(image.with_suffix(".txt"))

    def has(self, image: Path) -> bool:
        """Say whether the text file exists and is not blank."""
        return first_caption(image) is not None

    def add(self, image: Path, caption: str) -> None:
        """Write the text file as a whole."""
        write_whole(image.with_suffix(".txt"), f"{caption}\n".encode())


class CaptionFile(CaptionStore):
    """One file of JSON lines, `{"image": "folder/name.png", "captions": ["..."]}`, which grows line by line."""

    def __init__(self, path: Path, folders: Sequence[Path] = ()):
        """Open a file, which may exist already; a last line that an interruption cut is dropped.

        A file in another encoding than UTF-8 is written again in UTF-8, in which lines are appended.

        Args:
            path: Path of the file; its folder is created.
            folders: An image below one of them is named from this folder on, any other by its file name alone.

        Raises:
            ValueError: The file holds something else; it is not changed.
        """
        self.path = path
        self._folders = [folder.resolve() for folder in folders]
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = path.read_bytes() if path.exists() else b""
        # The last line does not count: an interruption may have cut it in the middle of a character.
        foreign = not text_encoding(stored[: stored.rfind(b"\n") + 1]).startswith("utf-8")
        text = decode_text(stored).encode() if foreign else stored
        whole, last = text[: text.rfind(b"\n") + 1], text[text.rfind(b"\n") + 1 :]
        known = parse_captions(whole, str(path))
        if last and _is_cut(last):
            text = whole
        elif last:
            known = parse_captions(text, str(path))
            text += b"\n"
        if text != stored:
            write_whole(path, text)
        self._known = {image for image, captions in known.items() if captions}

    def key(self, image: Path) -> str:
        """Return the image's path from its folder on, `folder/name.png`, independent of the working directory."""
        path = image.resolve()
        folder = next((folder for folder in self._folders if path.is_relative_to(folder)), None)
        return image.name if folder is None else (PurePosixPath(folder.name) / path.relative_to(folder)).as_posix()

    def has(self, image: Path) -> bool:
        """Say whether a line has a caption of the image."""
        return self.key(image) in self._known

    def add(self, image: Path, caption: str) -> None:
        """Append a line; of several for one image the last counts."""
        line = json.dumps({"image": self.key(image), "captions": [caption]}, ensure_ascii=False)
        with self.path.open("ab") as file:
            file.write(f"{line}\n".encode(errors="backslashreplace"))  # as JSON writes names that are not UTF-8
        self._known.add(self.key(image))


@dataclass(frozen=True)
class Captioned:
    """Result of captioning a folder."""

    made: int
    """Number of new captions."""
    kept: int
    """Number of images that already had a caption."""
    unreadable: tuple[str, ...]
    """One line for each image that cannot be read."""


def caption_images(
    captioner: "Captioner",
    images: Sequence[Path],
    store: CaptionStore,
    *,
    batch_size: int = 8,
    force: bool = False,
    read: "Callable[[Path], Image.Image]" = open_image,
) -> Captioned:
    """Caption the images that have none, or all with `force`, in batches under a progress bar.

    Each batch is stored before the next one starts, so an interrupted run continues where it stopped. `read` opens an
    image by its path, which need not be one of a file. Raises ValueError for two images whose captions would be stored
    under one name.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; give at least 1")
    images = list(dict.fromkeys(images))
    _check_keys(images, store)
    wanted = [image for image in images if force or not store.has(image)]
    unreadable: list[str] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Captioning", total=len(wanted))
        for paths in _batches(wanted, batch_size):
            opened = {}
            for path in paths:
                try:
                    opened[path] = read(path)
                except ImageError as error:
                    message = one_line(error)
                    unreadable.append(message)
                    progress.console.print(f"[yellow]left out[/yellow] {escape(message)}", soft_wrap=True)
            captions = captioner.caption(list(opened.values())) if opened else []
            for path, caption in zip(opened, captions, strict=True):
                store.add(path, caption)
            progress.advance(task, len(paths))
    made = len(wanted) - len(unreadable)
    return Captioned(made=made, kept=len(images) - len(wanted), unreadable=tuple(unreadable))


def first_caption(image: Path) -> str | None:
    """Return the first caption in `<stem>.txt` beside an image, or None; warns where the file is not Unicode."""
    path = caption_file(image)
    if path is None:
        return None
    text = path.read_bytes()
    if not is_unicode(text):
        warnings.warn(f"{path} {GUESSED}", stacklevel=2)
    return next(iter(captions_of(text)), None)


def caption_file(image: Path) -> Path | None:
    """Return the caption file beside an image, or None where there is none."""
    return next((path for suffix in TEXT_SUFFIXES if (path := image.with_suffix(suffix)).is_file()), None)


def captions_of(text: bytes) -> list[str]:
    """Return the captions of a caption file's content: its lines that are not blank, in any encoding."""
    return [line.strip() for line in decode_text(text).splitlines() if line.strip()]


def decode_text(text: bytes) -> str:
    """Return a file's content as text, without a byte order mark, and with a blank for every NUL."""
    return text.decode(text_encoding(text), errors="replace").replace("\0", " ")


def is_unicode(text: bytes) -> bool:
    """Say whether a file's content is in an encoding of Unicode; otherwise its encoding is a guess."""
    return text_encoding(text) != _LEGACY


def text_encoding(text: bytes) -> str:
    """Return the encoding of a file's content by its byte order mark, its NULs, or by whether it is UTF-8.

    Anything else counts as Windows-1252, which has all printable characters of Latin-1.
    """
    for mark, encoding in _MARKS.items():
        if text.startswith(mark):
            return encoding
    # UTF-16 without a mark: every other byte of most languages' blanks and letters is NUL.
    for first, encoding in enumerate(("utf-16-be", "utf-16-le")):
        if text[first::2].count(0) > len(text) / 4:
            return encoding
    try:
        text.decode()
    except UnicodeDecodeError:
        return _LEGACY
    return "utf-8"


def parse_captions(text: bytes, name: str) -> dict[str, list[str]]:
    """Return the captions of a file's JSON lines by image, blank ones left out.

    ValueError names the first line that is not valid.
    """
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(decode_text(text).split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            image, texts = entry["image"], entry["captions"]
            valid = isinstance(image, str) and isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        except (ValueError, KeyError, TypeError):
            valid = False
        if not valid:
            example = '{"image": "folder/name.png", "captions": ["what it shows"]}'
            raise ValueError(f"{name}, line {number}: not a caption; a line is {example}")
        captions[image] = [caption.strip() for caption in texts if caption.strip()]
    return captions


def captions_in_field(text: bytes, field: str) -> list[str]:
    """Return the captions in a field of a JSON object, a text or a list of texts; none where it is no such object."""
    try:
        texts = json.loads(decode_text(text))[field]
    except (ValueError, KeyError, TypeError):
        return []
    texts = texts if isinstance(texts, list) else [texts]
    return [one.strip() for one in texts if isinstance(one, str) and one.strip()]


def read_caption_file(text: bytes, name: str) -> dict[str, list[str]]:
    """Return the captions of a file for many images, by image: our JSON lines, or COCO's `captions_*.json`.

    ValueError says what is not valid.
    """
    if not text.lstrip().startswith(b"{") or b'"annotations"' not in text:
        return parse_captions(text, name)
    try:
        return _parse_coco(json.loads(decode_text(text)))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, json.JSONDecodeError):  # lines, one of which has the word
            return parse_captions(text, name)
        raise ValueError(f"{name}: neither captions in COCO's format nor JSON lines ({error!r})") from error


def _parse_coco(content: dict) -> dict[str, list[str]]:
    names = {image["id"]: image["file_name"] for image in content["images"]}
    captions: dict[str, list[str]] = {}
    for annotation in content["annotations"]:
        captions.setdefault(names[annotation["image_id"]], []).append(annotation["caption"].strip())
    return {name: [caption for caption in found if caption] for name, found in captions.items()}


def _is_cut(line: bytes) -> bool:
    """Say whether a line is the beginning of one that this module writes, and not a whole one."""
    opening = b'{"image": '
    return line[: len(opening)] == opening[: len(line)] and not line.rstrip().endswith(b"}")


def _check_keys(images: Sequence[Path], store: CaptionStore) -> None:
    """Raise ValueError for two images with one key."""
    owners: dict[str, Path] = {}
    for image in images:
        if (other := owners.setdefault(store.key(image), image)) != image:
            raise ValueError(f"{other} and {image} would share the caption {store.key(image)}; rename one")


def _batches(paths: Iterable[Path], size: int) -> Iterable[tuple[Path, ...]]:
    iterator = iter(paths)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch
