"""What the MP4 and QuickTime muxer cannot be told through PyAV: static HDR metadata of the video track.

libavformat writes the boxes from side data of its stream, which PyAV does not set. They are put into the finished file:
its index (`moov`) comes last, so that nothing that it points to moves.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from vsr.boxes import INDEX, LARGEST_INDEX, box, boxes, index_of, top_level_boxes
from vsr.errors import OutputError
from vsr.hdr import StaticHdr

ON_THE_WAY: Final = ("mdia", "minf", "stbl")  # from the track to its sample descriptions
DESCRIPTIONS_HEAD: Final = 8  # version, flags and count, before the sample entries of stsd
HANDLER_AT: Final = 8  # in hdlr, after version, flags and a reserved word


def hdr_boxes(hdr: StaticHdr) -> bytes:
    """`mdcv` and `clli` boxes (ISO/IEC 14496-12, video media), as far as `hdr` has values for them."""
    made = b""
    if hdr.primaries and hdr.white_point and hdr.luminance:
        red, green, blue = hdr.primaries
        points = [round(v * 50000) for point in (green, blue, red, hdr.white_point) for v in point]
        low, high = (round(v * 10000) for v in hdr.luminance)
        made += box("mdcv", struct.pack(">8H2I", *points, high, low))
    if hdr.content_light:
        made += box("clli", struct.pack(">2H", *(min(v, 0xFFFF) for v in hdr.content_light)))
    return made


def add_hdr(path: Path, hdr: StaticHdr, number: int = 0) -> None:
    """Put the boxes of `hdr` into the description of a video track of the finished file at `path`.

    Args:
        path: of the file.
        hdr: what to say.
        number: of the track among the video tracks, from 0.

    Raises:
        OutputError: the file is not as libavformat writes it.
    """
    added = hdr_boxes(hdr)
    if not added:
        return
    at, end = next(((at, at + size) for name, at, size in top_level_boxes(path) if name == INDEX), (0, 0))
    if not end:
        raise _unexpected("it has no index")
    if end != path.stat().st_size or end - at >= LARGEST_INDEX:
        raise _unexpected("its index does not come last")
    with path.open("rb+") as file:
        file.seek(at)
        file.write(box(INDEX, _with_boxes(index_of(path), added, number)))


def _with_boxes(index: bytes, added: bytes, number: int) -> bytes:
    parts, videos = [], 0
    for name, content in _all_boxes(index):
        if name == "trak" and _is_video(content):
            if videos == number:
                content = _inserted(content, ON_THE_WAY, added)
            videos += 1
        parts.append(box(name, content))
    if videos <= number:
        raise _unexpected(f"it has {videos} video tracks")
    return b"".join(parts)


def _is_video(track: bytes) -> bool:
    media = dict(_all_boxes(dict(_all_boxes(track))["mdia"]))
    return media["hdlr"][HANDLER_AT : HANDLER_AT + 4] == b"vide"


def _inserted(content: bytes, way: tuple[str, ...], added: bytes) -> bytes:
    """`content` of a box with `added` at the end of the first sample entry below it."""
    if not way:
        parts = []
        for name, inner in _all_boxes(content):
            if name == "stsd":
                ((kind, entry), *others) = _all_boxes(inner[DESCRIPTIONS_HEAD:])
                inner = inner[:DESCRIPTIONS_HEAD] + box(kind, entry + added)
                inner += b"".join(box(*other) for other in others)
            parts.append(box(name, inner))
        return b"".join(parts)
    return b"".join(box(n, _inserted(c, way[1:], added) if n == way[0] else c) for n, c in _all_boxes(content))


def _all_boxes(data: bytes) -> list[tuple[str, bytes]]:
    """Type and content of each box, if there is nothing else in `data`."""
    found = list(boxes(data))
    kept = b"".join(box(*each) for each in found)
    if not data.startswith(kept) or data[len(kept) :].strip(b"\0"):
        raise _unexpected("there is something between its boxes")
    return found


def _unexpected(what: str) -> OutputError:
    return OutputError(f"the MP4 file is not as expected: {what}", "write .mkv, or report this")
