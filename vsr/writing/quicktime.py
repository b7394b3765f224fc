"""What the MP4 and QuickTime muxer cannot be told through PyAV: static HDR metadata, and tracks of timed metadata.

libavformat writes HDR boxes from side data of its stream, which PyAV does not set, and knows no other metadata than
GoPro's. All of it is put into the finished file: its index (`moov`) comes last, so that nothing that it points to
moves.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vsr.boxes import INDEX, LARGEST_INDEX, box, boxes, index_of, top_level_boxes
from vsr.copying.data_tracks import DESCRIPTIONS_HEAD, HANDLER_AT, DataTrack, track_id
from vsr.errors import OutputError
from vsr.hdr import StaticHdr

ON_THE_WAY: Final = ("mdia", "minf", "stbl")  # from the track to its sample descriptions
WRITTEN_MEDIA_HEADERS: Final = ("nmhd", "gmhd")  # by libavformat for a data track

Change = Callable[[bytes], bytes]


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
    tracks = [content for name, content in boxes(index_of(path)) if name == "trak"]
    videos = [n for n, content in enumerate(tracks) if _is_video(content)]
    if tracks and number >= len(videos):
        raise _unexpected(f"it has {len(videos)} video tracks")
    _rewrite(path, {videos[number]: lambda track: _inserted(track, ON_THE_WAY, added)} if tracks else {})


def describe_data(path: Path, tracks: Mapping[int, DataTrack]) -> None:
    """Give data tracks of the finished file at `path` the descriptions that their packets had in the input.

    Args:
        path: of the file.
        tracks: what to say, by the index of the stream; references are to streams of the file.

    Raises:
        OutputError: the file is not as libavformat writes it.
    """
    if not tracks:
        return
    ids = [track_id(dict(boxes(c)).get("tkhd", b"")) for name, c in boxes(index_of(path)) if name == "trak"]
    _rewrite(path, {index: functools.partial(_described, track=track, ids=ids) for index, track in tracks.items()})


def _rewrite(path: Path, changes: Mapping[int, Change]) -> None:
    """Change the contents of tracks, by their numbers, in the index of the file."""
    at, end = next(((at, at + size) for name, at, size in top_level_boxes(path) if name == INDEX), (0, 0))
    if not end:
        raise _unexpected("it has no index")
    if end != path.stat().st_size or end - at >= LARGEST_INDEX:
        raise _unexpected("its index does not come last")
    parts, number = [], 0
    for name, content in _all_boxes(index_of(path)):
        if name == "trak":
            content = changes.get(number, bytes)(content)
            number += 1
        parts.append(box(name, content))
    if changes and max(changes) >= number:
        raise _unexpected(f"it has {number} tracks")
    with path.open("rb+") as file:
        file.seek(at)
        file.write(box(INDEX, b"".join(parts)))


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


def _described(content: bytes, track: DataTrack, ids: list[int], parent: str = "trak") -> bytes:
    """`content` of a track box, or of one below it, with what `track` says in place of what is there."""
    parts, has_header = [], False
    for name, inner in _all_boxes(content):
        if name in ON_THE_WAY:
            inner = _described(inner, track, ids, name)
        elif name == "hdlr" and parent == "mdia":  # QuickTime has another one in minf, and four letters before the type
            inner = inner[:HANDLER_AT] + track.handler[HANDLER_AT:]
        elif name == "stsd":
            inner = track.descriptions
        elif name in WRITTEN_MEDIA_HEADERS:
            name, inner = track.media_header
            has_header = True
        if name == "dinf" and not has_header:  # libavformat writes none for formats that it does not know
            parts.append(box(*track.media_header))
        if name != "tref":
            parts.append(box(name, inner))
        if name == "tkhd" and track.references:
            kinds = (box(k, struct.pack(f">{len(to)}I", *(ids[i] for i in to))) for k, to in track.references if to)
            parts.append(box("tref", b"".join(kinds)))
    return b"".join(parts)


def _all_boxes(data: bytes) -> list[tuple[str, bytes]]:
    """Type and content of each box, if there is nothing else in `data`."""
    found = list(boxes(data))
    kept = b"".join(box(*each) for each in found)
    if not data.startswith(kept) or data[len(kept) :].strip(b"\0"):
        raise _unexpected("there is something between its boxes")
    return found


def _unexpected(what: str) -> OutputError:
    return OutputError(f"the MP4 file is not as expected: {what}", "write .mkv, or report this")
