"""Whether a file's header asks players to cut away edges of its pictures.

libavformat reads that into side data of the stream that PyAV does not show, so the header is looked at here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vsr import ebml
from vsr.reading.demux import is_mp4, top_level_boxes

Crop = tuple[int, int, int, int]  # samples at the left, top, right and bottom

PIXEL_CROP: Final = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # RFC 9559: PixelCropLeft, Top, Right, Bottom
LARGEST_HEADER: Final = 1 << 22  # bytes
LARGEST_INDEX: Final = 1 << 26
EBML_MAGIC: Final = b"\x1a\x45\xdf\xa3"
ON_THE_WAY: Final = (b"mdia", b"minf", b"stbl", b"stsd")
DESCRIPTIONS_HEAD: Final = 8  # version, flags and count, before the sample entries of stsd
SIZE_AT: Final = 24  # width and height in a visual sample entry
ENTRY_HEAD: Final = 78  # before the boxes in a visual sample entry


def asked_crop(path: Path, index: int) -> Crop | None:
    """What the header of `path` asks to be cut off a stream's pictures; None if nothing is, or it cannot be read.

    Matroska's PixelCrop elements (RFC 9559), and MP4's and QuickTime's clean aperture (`clap`, ISO/IEC 14496-12).

    Args:
        path: of the file.
        index: of the stream.
    """
    try:
        if is_mp4(path):
            crop = _in_mp4(path, index)
        else:
            with path.open("rb") as file:
                head = file.read(LARGEST_HEADER) if file.read(4) == EBML_MAGIC else b""
            crop = _in_matroska(EBML_MAGIC + head, index) if head else None
    except (ValueError, struct.error, ArithmeticError):
        return None  # what cannot be read here may be readable for libavformat, and is no reason to stop
    return crop if crop is not None and any(crop) else None


def _in_matroska(head: bytes, index: int) -> Crop | None:
    found = ebml.tracks(head)
    if found is None:
        return None
    entries = [content for name, content, _ in ebml.elements(head[slice(*found)]) if name == ebml.TRACK_ENTRY]
    for name, content, _ in ebml.elements(entries[index] if index < len(entries) else b""):
        if name == ebml.VIDEO:
            values = {name: int.from_bytes(value) for name, value, _ in ebml.elements(content)}
            left, top, right, bottom = (values.get(name, 0) for name in PIXEL_CROP)
            return left, top, right, bottom
    return None


def _in_mp4(path: Path, index: int) -> Crop | None:
    for kind, offset, length in top_level_boxes(path):
        if kind == "moov" and length < LARGEST_INDEX:
            with path.open("rb") as file:
                file.seek(offset)
                ((_, moov),) = _boxes(file.read(length))
            tracks = [content for name, content in _boxes(moov) if name == b"trak"]
            return _of_track(tracks[index]) if index < len(tracks) else None
    return None


def _of_track(content: bytes) -> Crop | None:
    for step in ON_THE_WAY:
        content = next((inner for name, inner in _boxes(content) if name == step), b"")
    entry = next((inner for _, inner in _boxes(content[DESCRIPTIONS_HEAD:])), b"")
    for name, inner in _boxes(entry[ENTRY_HEAD:]):
        if name == b"clap":
            whole = struct.unpack_from(">2H", entry, SIZE_AT)
            numbers = struct.unpack(">4I", inner[:16]) + struct.unpack(">iIiI", inner[16:32])
            width, height, right, down = (a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True))
            across, along = whole[0] - width, whole[1] - height  # what is cut of both edges together
            edges = (across / 2 + right, along / 2 + down, across / 2 - right, along / 2 - down)
            left, top, end, bottom = (max(0, round(edge)) for edge in edges)
            return left, top, end, bottom
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box in `data`, up to the first that is cut off."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        start = 8
        if size == 1 and at + 16 <= len(data):
            (size,), start = struct.unpack_from(">Q", data, at + 8), 16
        size = size or len(data) - at
        if size < start or at + size > len(data):
            return
        yield name, data[at + start : at + size]
        at += size
