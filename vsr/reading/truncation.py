"""Tells whether a file ends before it should.

Where the container says how long it is, that is seen before any work is done; the rest is seen at the end, by comparing
the last time stamp with the duration in the header.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr import ebml
from vsr.boxes import is_mp4, top_level_boxes
from vsr.reading.demux import open_input, packets

TS_PACKET_SIZES: Final = (188, 192, 204)
TS_SYNC: Final = 0x47
# Formats whose headers say how long the file is, not each stream. libavformat gives some streams that length as theirs.
WITHOUT_STREAM_LENGTHS: Final = ("matroska,webm", "flv")
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
    elif head.startswith(ebml.MAGIC):
        try:
            end = ebml.segment_end(head)
        except ebml.EbmlError:
            end = None
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
