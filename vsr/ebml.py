"""Elements of EBML (RFC 8794), of which Matroska's files are made (RFC 9559)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

MAGIC: Final = b"\x1a\x45\xdf\xa3"  # the identifier of the EBML header, with which every file begins
SEGMENT: Final = 0x18538067
TRACKS: Final = 0x1654AE6B
CLUSTER: Final = 0x1F43B675
TRACK_ENTRY: Final = 0xAE
VIDEO: Final = 0xE0
VOID: Final = 0xEC


class EbmlError(ValueError):
    """Bytes are not the elements that they should be."""


def tracks(head: bytes) -> tuple[int, int] | None:
    """Where the content of Tracks starts and ends; None if `head`, the beginning of a file, ends before that.

    Raises:
        EbmlError: it is not as it must be.
    """
    at = 0
    while True:
        header = _header(head, at)
        if header is None:
            return None
        identifier, start, _ = header
        if identifier == CLUSTER:
            raise EbmlError("no tracks come before the pictures")
        if identifier == TRACKS:
            end = _end(header)
            return None if end > len(head) else (start, end)
        at = start if identifier == SEGMENT else _end(header)


def segment_end(head: bytes) -> int | None:
    """Where the Segment ends by its own size; None if that is unknown, or `head`, the file's beginning, ends before it.

    Raises:
        EbmlError: it is not as it must be.
    """
    at = 0
    while (header := _header(head, at)) is not None:
        identifier, start, size = header
        if identifier == SEGMENT:
            return None if size is None else start + size
        at = _end(header)
    return None


def elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Identifier, content, and all bytes of each element in `data`.

    Raises:
        EbmlError: one is cut off.
    """
    at = 0
    while at < len(data):
        header = _header(data, at)
        if header is None:
            raise EbmlError("an element is cut off")
        identifier, start, _ = header
        end = _end(header)
        yield identifier, data[start:end], data[at:end]
        at = end


def _end(header: tuple[int, int, int | None]) -> int:
    _, start, size = header
    if size is None:
        raise EbmlError("an element does not say how long it is")
    return start + size


def _header(data: bytes, at: int) -> tuple[int, int, int | None] | None:
    """Identifier of the element at `at`, and start and length of its content; None if `data` ends within its header.

    The length is None if it is unknown (RFC 8794 section 6.2: all bits are set).
    """
    first = _number(data, at)
    second = None if first is None else _number(data, at + first[1])
    if first is None or second is None:
        return None
    unknown = (1 << (7 * second[1])) - 1
    length = second[0] & unknown
    return first[0], at + first[1] + second[1], None if length == unknown else length


def _number(data: bytes, at: int) -> tuple[int, int] | None:
    """A number of variable length with its marker, and that length."""
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > 8:
        raise EbmlError("an element has no length")
    return (int.from_bytes(data[at : at + length]), length) if at + length <= len(data) else None


def element(identifier: int, content: bytes) -> bytes:
    """An element with its head."""
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8)
    length = next(n for n in range(1, 9) if len(content) < (1 << (7 * n)) - 1)
    return name + (len(content) | 1 << (7 * length)).to_bytes(length) + content


def unsigned(identifier: int, value: int) -> bytes:
    """An element that is a whole number."""
    return element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8)))


def real(identifier: int, value: float) -> bytes:
    """An element that is a number of eight bytes."""
    return element(identifier, struct.pack(">d", value))


def void(length: int) -> bytes:
    """An element of `length` bytes that says nothing.

    Raises:
        EbmlError: it would have less than two bytes.
    """
    if length < 2:
        raise EbmlError("the room is too small")
    size = 1 if length < 10 else 8
    content = length - 1 - size
    return bytes([VOID]) + (content | 1 << (7 * size)).to_bytes(size) + bytes(content)
