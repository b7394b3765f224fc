"""What the MP4 and QuickTime muxer cannot be told through PyAV: static HDR metadata of the video track.

libavformat writes the boxes from side data of its stream, which PyAV does not set. They are put into the finished file:
its index (`moov`) comes last, so that nothing that it points to moves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vsr.errors import OutputError
from vsr.hdr import StaticHdr

INDEX: Final = b"moov"
ON_THE_WAY: Final = (b"mdia", b"minf", b"stbl")  # from the track to its sample descriptions
DESCRIPTIONS_HEAD: Final = 8  # version, flags and count, before the sample entries of stsd
LARGEST_INDEX: Final = 1 << 31  # bytes
HANDLER_AT: Final = 8  # in hdlr, after version, flags and a reserved word


def hdr_boxes(hdr: StaticHdr) -> bytes:
    """`mdcv` and `clli` boxes (ISO/IEC 14496-12, video media), as far as `hdr` has values for them."""
    boxes = b""
    if hdr.primaries and hdr.white_point and hdr.luminance:
        red, green, blue = hdr.primaries
        points = [round(v * 50000) for point in (green, blue, red, hdr.white_point) for v in point]
        low, high = (round(v * 10000) for v in hdr.luminance)
        boxes += _box(b"mdcv", struct.pack(">8H2I", *points, high, low))
    if hdr.content_light:
        boxes += _box(b"clli", struct.pack(">2H", *(min(v, 0xFFFF) for v in hdr.content_light)))
    return boxes


def add_hdr(path: Path, hdr: StaticHdr, number: int = 0) -> None:
    """Put the boxes of `hdr` into the description of a video track of the finished file at `path`.

    Args:
        path: of the file.
        hdr: what to say.
        number: of the track among the video tracks, from 0.

    Raises:
        OutputError: the file is not as libavformat writes it.
    """
    boxes = hdr_boxes(hdr)
    if not boxes:
        return
    with path.open("rb+") as file:
        whole = path.stat().st_size
        at = 0
        while True:
            file.seek(at)
            head = file.read(16)
            if len(head) < 16:
                raise _unexpected("it has no index")
            length, name = struct.unpack(">I4s", head[:8])
            length = struct.unpack(">Q", head[8:])[0] if length == 1 else length or whole - at
            if name == INDEX:
                break
            at += length
        if at + length != whole or length >= LARGEST_INDEX:
            raise _unexpected("its index does not come last")
        file.seek(at)
        index = file.read(length)[8:]
        file.seek(at)
        file.write(_box(INDEX, _with_boxes(index, boxes, number)))


def _with_boxes(index: bytes, boxes: bytes, number: int) -> bytes:
    parts, videos = [], 0
    for name, content in _boxes(index):
        if name == b"trak" and _is_video(content):
            if videos == number:
                content = _inserted(content, ON_THE_WAY, boxes)
            videos += 1
        parts.append(_box(name, content))
    if videos <= number:
        raise _unexpected(f"it has {videos} video tracks")
    return b"".join(parts)


def _is_video(track: bytes) -> bool:
    media = dict(_boxes(dict(_boxes(track))[b"mdia"]))
    return media[b"hdlr"][HANDLER_AT : HANDLER_AT + 4] == b"vide"


def _inserted(content: bytes, way: tuple[bytes, ...], boxes: bytes) -> bytes:
    """`content` of a box with `boxes` at the end of the first sample entry below it."""
    if not way:
        parts = []
        for name, inner in _boxes(content):
            if name == b"stsd":
                ((kind, entry), *others) = _boxes(inner[DESCRIPTIONS_HEAD:])
                inner = inner[:DESCRIPTIONS_HEAD] + _box(kind, entry + boxes)
                inner += b"".join(_box(*other) for other in others)
            parts.append(_box(name, inner))
        return b"".join(parts)
    return b"".join(_box(n, _inserted(c, way[1:], boxes) if n == way[0] else c) for n, c in _boxes(content))


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        if size < 8 or at + size > len(data):
            raise _unexpected(f"box {name.decode('latin-1')} has {size} bytes")
        yield name, data[at + 8 : at + size]
        at += size
    if at != len(data) and data[at:].strip(b"\0"):
        raise _unexpected("there is something between its boxes")


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content


def _unexpected(what: str) -> OutputError:
    return OutputError(f"the MP4 file is not as expected: {what}", "write .mkv, or report this")
