"""Tells whether a file ends before it should.

Where the container says how long it is, that is seen before any work is done; the rest is seen at the end, by comparing
the last time stamp with the duration in the header.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr.reading.demux import is_mp4, open_input, packets, top_level_boxes

EBML_MAGIC: Final = b"\x1a\x45\xdf\xa3"
SEGMENT_ID: Final = b"\x18\x53\x80\x67"
TS_PACKET_SIZES: Final = (188, 192, 204)
TS_SYNC: Final = 0x47
TOLERANCE_FRAMES: Final = 3
TOLERANCE_S: Final = Fraction(1, 5)  # muxers round durations, and count the last frame or not


def cut_off_by_structure(path: Path) -> str | None:
    """What shows that the file was cut, judged by the sizes that its container declares; None if nothing does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64 * 1024)
    if is_mp4(path):
        for kind, offset, length in top_level_boxes(path):
            if kind in ("mdat", "moov", "moof") and offset + length > size:
                return f"its {kind} box should end at byte {offset + length}, and the file has {size}"
    elif head.startswith(EBML_MAGIC):
        end = _segment_end(head)
        if end is not None and end > size:
            return f"its segment should end at byte {end}, and the file has {size}"
    else:
        for length in TS_PACKET_SIZES:
            offset = 4 if length == 192 else 0
            if len(head) >= 4 * length and all(head[offset + i * length] == TS_SYNC for i in range(4)):
                rest = size % length
                return f"it ends {rest} bytes into a packet of {length}" if rest else None
    return None


def missing_seconds(
    path: Path, end: Fraction, expected_end: Fraction | None, frame_duration: Fraction, *, of_stream: bool
) -> Fraction | None:
    """How many seconds are missing after `end`, or None if the file is whole (or says nothing of its length).

    Args:
        path: the input.
        end: where the last video packet ends, in seconds.
        expected_end: where the header says that it should end.
        frame_duration: seconds of one frame.
        of_stream: whether the header's figure is the video stream's own. If it is the file's, another stream may
            rightly be the longer one, which is looked up.
    """
    if expected_end is None:
        return None
    tolerance = max(TOLERANCE_FRAMES * frame_duration, TOLERANCE_S)
    missing = expected_end - end
    if missing <= tolerance:
        return None
    if not of_stream and expected_end - _last_packet_end(path, end) <= tolerance:
        return None
    return missing


def _last_packet_end(path: Path, near: Fraction) -> Fraction:
    """The latest end of any packet of any stream, looking from a little before `near`."""
    end = near
    with open_input(path) as container:
        with contextlib.suppress(OSError):  # no index: read it all
            container.seek(int(max(near - 1, Fraction(0)) * 1_000_000))
        for packet in packets(container, path=path):
            if packet.pts is not None and packet.size:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return end


def _segment_end(head: bytes) -> int | None:
    """Where the Segment ends by its own size (RFC 8794 section 6), or None if that is unknown."""
    at = head.find(SEGMENT_ID)
    if at < 0 or at + 4 >= len(head):
        return None
    first = head[at + 4]
    width = 9 - first.bit_length() if first else 0
    if not 1 <= width <= 8 or at + 4 + width > len(head):
        return None
    value = int.from_bytes(head[at + 4 : at + 4 + width], "big") & ((1 << (7 * width)) - 1)
    if value == (1 << (7 * width)) - 1:
        return None
    return at + 4 + width + value
