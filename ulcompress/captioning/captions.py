"""Captions of a folder of images: made once, in batches, and stored where training reads them."""

import codecs
import itertools
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Protocol

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

    def read(self) -> dict[str, list[str]]:
        """Return all captions by the names of the images."""
        return parse_captions(self.path.read_bytes(), str(self.path)) if self.path.exists() else {}

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


class CaptionedImage(NamedTuple):
    """The outcome of one image."""

    number: int
    """Its place in the set."""
    caption: str | None
    error: str | None = None
    """Why it cannot be read, in one line; None where it has a caption."""


class ImageSet(Protocol):
    """Images in order; `ImageFiles`, and `data.ImageSource` for shards."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the path of an image, which need not be one of a file."""
        ...

    def image(self, index: int) -> "Image.Image":
        """Decode an image as 8-bit RGB; raises ImageError."""
        ...


class ImageFiles:
    """Images by the paths of their files."""

    def __init__(self, paths: Iterable[Path]):
        """Take the paths, of which each counts once."""
        self._paths = list(dict.fromkeys(map(str, paths)))

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Return the path of an image."""
        return self._paths[index]

    def image(self, index: int) -> "Image.Image":
        """Decode an image as 8-bit RGB; raises ImageError."""
        return open_image(self._paths[index])


Describe = Callable[[Sequence[int], Callable[[CaptionedImage], None]], None]
"""Captions the images of some numbers, and reports each of them in order."""


def describe_batches(
    captioner: "Captioner",
    images: ImageSet,
    batch_size: int,
    numbers: Sequence[int],
    report: Callable[[CaptionedImage], None],
) -> None:
    """Caption the images of some numbers in batches, and report each of a batch, in order, before the next one."""
    for batch in _batches(numbers, batch_size):
        opened: dict[int, Image.Image] = {}
        errors: dict[int, str] = {}
        for number in batch:
            try:
                opened[number] = images.image(number)
            except ImageError as error:
                errors[number] = one_line(error)
        captions = dict(zip(opened, captioner.caption(list(opened.values())) if opened else [], strict=True))
        for number in batch:
            report(CaptionedImage(number, captions.get(number), errors.get(number)))


def caption_images(
    captioner: "Captioner", paths: Iterable[Path], store: CaptionStore, *, batch_size: int = 8, force: bool = False
) -> Captioned:
    """Caption image files in this process, as `caption_set` does."""
    images = ImageFiles(paths)
    check_batch_size(batch_size)
    return caption_set(images, store, partial(describe_batches, captioner, images, batch_size), force=force)


def caption_set(
    images: ImageSet,
    store: CaptionStore,
    describe: Describe,
    *,
    force: bool = False,
    has_caption: Callable[[int], bool] = lambda number: False,
) -> Captioned:
    """Caption the images that have none, or all with `force`, under a progress bar.

    Each caption is stored when it is reported, so an interrupted run continues where it stopped.

    Args:
        images: The images.
        store: Where captions are, and new ones are stored.
        describe: Captions images by their numbers.
        force: Whether images that have a caption get another one.
        has_caption: Whether the image of a number has a caption elsewhere.

    Raises:
        ValueError: The captions of two images would be stored under one name.
    """
    _check_keys(images, store)
    wanted = [
        number
        for number in range(len(images))
        if force or not (store.has(Path(images.name(number))) or has_caption(number))
    ]
    unreadable: list[str] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Captioning", total=len(wanted))

        def keep(one: CaptionedImage) -> None:
            if one.caption is not None:
                store.add(Path(images.name(one.number)), one.caption)
            else:
                unreadable.append(str(one.error))
                progress.console.print(f"[yellow]left out[/yellow] {escape(str(one.error))}", soft_wrap=True)
            progress.advance(task)

        if wanted:
            describe(wanted, keep)
    made = len(wanted) - len(unreadable)
    return Captioned(made=made, kept=len(images) - len(wanted), unreadable=tuple(unreadable))


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError for batches of nothing."""
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; give at least 1")


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


def _check_keys(images: ImageSet, store: CaptionStore) -> None:
    """Raise ValueError for two images with one key."""
    owners: dict[str, int] = {}
    for number in range(len(images)):
        key = store.key(Path(images.name(number)))
        if (other := owners.setdefault(key, number)) != number:
            raise ValueError(
                f"{images.name(other)} and {images.name(number)} would share the caption {key}; rename one"
            )


def _batches(numbers: Iterable[int], size: int) -> Iterable[tuple[int, ...]]:
    iterator = iter(numbers)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch
