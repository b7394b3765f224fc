"""Boxes (ISO/IEC 14496-12 section 4.2), of which MP4 and QuickTime files are made."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MP4: Final = "mov,mp4,m4a,3gp,3g2,mj2"  # libavformat's name for all that is made of boxes
FIRST: Final = ("ftyp", "moov", "mdat", "wide", "skip", "free")  # what such a file may begin with
INDEX: Final = "moov"
HEAD: Final = 8  # bytes before the content: size and type
LARGE_HEAD: Final = 16  # likewise, where the size has 64 bits
BOX_LIMIT: Final = 10_000  # top-level boxes looked at; fragmented files have two for each fragment
LARGEST_INDEX: Final = 1 << 28  # bytes; a day at 60 frames a second makes about 1 << 26


def is_mp4(path: Path) -> bool:
    """Whether the file begins as MP4 and QuickTime files do."""
    with path.open("rb") as file:
        return file.read(HEAD)[4:].decode("latin-1") in FIRST


def top_level_boxes(path: Path) -> Iterator[tuple[str, int, int]]:
    """Type, offset and size of each box of the file, as they say themselves: the last may end behind the file's end."""
    end = path.stat().st_size
    offset = 0
    with path.open("rb") as file:
        for _ in range(BOX_LIMIT):
            file.seek(offset)
            found = _head(file.read(LARGE_HEAD), end - offset)
            if found is None:
                return
            name, _, size = found
            yield name, offset, size
            offset += size


def index_of(path: Path) -> bytes:
    """The content of the `moov` box; nothing if there is none, or it is cut off or too large to be true."""
    for name, offset, size in top_level_boxes(path):
        if name == INDEX and offset + size <= path.stat().st_size and size < LARGEST_INDEX:
            with path.open("rb") as file:
                file.seek(offset)
                return next((content for _, content in boxes(file.read(size))), b"")
    return b""


def boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Type and content of each box in the content of another, up to the first that is cut off."""
    at = 0
    while (found := _head(data[at : at + LARGE_HEAD], len(data) - at)) is not None:
        name, start, size = found
        if at + size > len(data):
            return
        yield name, data[at + start : at + size]
        at += size


def box(name: str, content: bytes) -> bytes:
    """A box of less than 4 GiB."""
    return struct.pack(">I4s", len(content) + HEAD, name.encode("latin-1")) + content


def _head(head: bytes, room: int) -> tuple[str, int, int] | None:
    """Type, where the content starts, and size of a box; None if `head`, its first bytes, are none.

    Args:
        head: as many as there are of its first 16 bytes.
        room: bytes up to the end of what it lies in, to which the last box may reach without saying how far it is.
    """
    if len(head) < HEAD:
        return None
    size, name = struct.unpack_from(">I4s", head)
    start = HEAD
    if size == 1 and len(head) == LARGE_HEAD:
        (size,), start = struct.unpack_from(">Q", head, HEAD), LARGE_HEAD
    size = size or room
    return None if size < start else (name.decode("latin-1"), start, size)
