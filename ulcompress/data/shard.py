"""The members of an uncompressed tar file, found without trusting it.

Python's `tarfile` believes every header: a negative size makes it read one header for ever, a sparse member makes it
take any amount of memory, and a file that was cut counts as complete. So here it parses only single headers.

Format: POSIX.1-2017, `pax`, sections "pax Interchange Format" and "ustar Interchange Format", with GNU's additions.
"""

import io
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from tarfile import ReadError, TarInfo
from typing import IO, NamedTuple

from ulcompress.data.span import Span
from ulcompress.data.storage import open_file
from ulcompress.functional.division import ceil_div

BLOCK = tarfile.BLOCKSIZE
LONGEST_EXTENSION = 1 << 20
"""The most bytes of a long name or of attributes in front of a member, far more than any writer needs."""
LOOKED_AT = 1 << 20
"""Number of bytes behind the end marker that are checked to be zeros."""
LONGEST_CHAIN = 40
"""The most symbolic links that are followed one to another, as on Linux."""
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_ATTRIBUTES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_ATTRIBUTE = re.compile(rb"(\d{1,7}) ([^=\n]+)=")


class Shard(NamedTuple):
    """What a tar file holds."""

    members: dict[PurePosixPath, Span]
    """Where the content of each file lies, of links too; of two files of one name the later counts."""
    skipped: dict[PurePosixPath, str]
    """Members whose content cannot be read, each with the reason."""
    complaint: str | None
    """What is wrong with the end of the archive; None if nothing is."""


class MemberHeader(NamedTuple):
    """The description of one member."""

    name: PurePosixPath
    link: str
    """Target of a link, as the archive states it."""
    kind: bytes
    """One of tarfile's types."""
    sparse: bool
    """Whether zeros of the content were left out, so that it is not stored in one piece."""
    content: Span


def read_shard(location: str | os.PathLike[str]) -> Shard:
    """Find the members of a tar file, a path or a URL; only headers are read.

    Raises:
        tarfile.TarError: It is no uncompressed tar file, is damaged, or was cut within a member.
        OSError: It cannot be read.
    """
    members: dict[PurePosixPath, Span] = {}
    skipped: dict[PurePosixPath, str] = {}
    links: dict[PurePosixPath, PurePosixPath] = {}
    with open_file(os.fspath(location)) as file:
        archive = _Archive(location, file)
        for name, link, kind, sparse, content in archive.headers():
            if sparse:
                skipped[name] = "a sparse file"
            elif kind in tarfile.REGULAR_TYPES:
                members[name] = content
            elif kind == tarfile.LNKTYPE and PurePosixPath(link) in members:
                members[name] = members[PurePosixPath(link)]
            elif kind == tarfile.SYMTYPE:
                links[name] = PurePosixPath(posixpath.normpath(name.parent / link))
            elif kind != tarfile.DIRTYPE:
                skipped[name] = f"a link to {link!r}, which is no earlier member" if link else "no regular file"
        complaint = archive.complaint()
    for name in links:
        if (target := _target(name, links)) in members:
            members[name] = members[target]
        else:
            skipped[name] = f"a link to {str(links[name])!r}, which is no member"
    return Shard(members, {name: why for name, why in skipped.items() if name not in members}, complaint)


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file to an archive that is open for writing."""
    member = TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _target(name: PurePosixPath, links: dict[PurePosixPath, PurePosixPath]) -> PurePosixPath:
    """Return the final target of a symbolic link; for one in a circle, or in too long a chain, that is another link."""
    for _ in range(LONGEST_CHAIN):
        name = links.get(name, name)
    return name


class _Archive:
    """A tar file that is read from header to header."""

    def __init__(self, location: str | os.PathLike[str], file: IO[bytes]):
        self._location = location
        self._file = file
        self._length = file.seek(0, os.SEEK_END)
        self._next = 0

    def headers(self) -> Iterator[MemberHeader]:
        """Yield the members up to the end marker or the end of the file."""
        extended: dict[str, str] = {}
        while (block := self._at(self._next, BLOCK)).strip(b"\0"):
            if len(block) < BLOCK:
                raise ReadError("it ends within a header")
            info, start = TarInfo.frombuf(block, "utf-8", "surrogateescape"), self._next + BLOCK
            if info.type in (*_LONG_NAMES, *_ATTRIBUTES, tarfile.XGLTYPE):
                extended |= self._extension(info, start)
                self._advance(info.name, start, info.size)
                continue
            sparse = info.type == tarfile.GNUTYPE_SPARSE
            if sparse:
                start += self._sparse_blocks(block, start)
            name, size = extended.get("path", info.name), _size(extended.get("size", info.size))
            if info.type in tarfile.SUPPORTED_TYPES and not info.isreg():
                size = 0  # links, directories and devices have no content, whatever their size says
            self._advance(name, start, size)
            sparse = sparse or any(key.startswith("GNU.sparse.") for key in extended)
            link = extended.get("linkpath", info.linkname)
            yield MemberHeader(PurePosixPath(name), link, info.type, sparse, Span(self._location, start, size))
            extended = {}

    def complaint(self) -> str | None:
        """Return what is wrong with the end marker, two blocks of zeros, or with what follows it."""
        marker = self._at(self._next, 2 * BLOCK)
        if len(marker) < 2 * BLOCK:
            return "has no whole end marker, it may have been cut"
        if (marker + self._at(self._next + 2 * BLOCK, LOOKED_AT)).strip(b"\0"):
            return "has data behind its end marker, which were not read"
        return None

    def _at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def _advance(self, name: str, start: int, size: int) -> None:
        """Move to the first block behind the content of a member."""
        if size < 0:
            raise ReadError(f"the size of {name!r} is {size}")
        if start + size > self._length:
            raise ReadError(f"it ends within {name!r}, of {size} bytes")
        self._next = start + ceil_div(size, BLOCK) * BLOCK

    def _extension(self, info: TarInfo, start: int) -> dict[str, str]:
        """Return the attributes that an extension sets for the next member; those for all members are not needed."""
        if not 0 <= info.size <= LONGEST_EXTENSION:
            raise ReadError(f"an extended header has {info.size} bytes")
        content = self._at(start, info.size)
        if info.type in _LONG_NAMES:
            return {_LONG_NAMES[info.type]: _text(content.partition(b"\0")[0])}
        return _attributes(content) if info.type in _ATTRIBUTES else {}

    def _sparse_blocks(self, block: bytes, start: int) -> int:
        """Return how many bytes of GNU's map of a sparse file follow its header."""
        length, more = 0, block[482]
        while more:
            block = self._at(start + length, BLOCK)
            if len(block) < BLOCK:
                raise ReadError("it ends within the map of a sparse file")
            length, more = length + BLOCK, block[504]
        return length


def _attributes(content: bytes) -> dict[str, str]:
    """Return the attributes of pax, each written as `<length> <key>=<value>` and a newline."""
    found: dict[str, str] = {}
    place = 0
    while place < len(content) and content[place]:
        match = _ATTRIBUTE.match(content, place)
        end = place + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content):
            raise ReadError("its extended attributes are damaged")
        found[_text(match[2])] = _text(content[match.end() : end - 1])
        place = end
    return found


def _size(size: str | int) -> int:
    """Return a size that may be written in decimal digits."""
    try:
        return int(size)
    except ValueError as error:
        raise ReadError(f"the size of a member is {str(size)[:20]!r}") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
