"""Streams of a transport stream that appear late: how far libavformat has to read to know of them.

It looks at the first seconds of a file only. A stream that its table names later, or of which no packet has come by
then, would be left out without a word, or be known by its name alone. The tables and packets looked at here are those
of ISO/IEC 13818-1 section 2.4.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SYNC: Final = 0x47
PACKET_SIZES: Final = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, and of what stands before its sync byte
PAT_PID: Final = 0
PMT_TABLE: Final = 2
WINDOW: Final = 1 << 18  # bytes looked at in each place; tables come ten times a second
WINDOWS: Final = 32
# Tag and first bytes of descriptors (ETSI EN 300 468 section 6.2.43, ARIB STD-B10): what is known by them alone.
DESCRIPTORS: Final = {
    (0x56, b""): "dvb_teletext",
    (0xFD, b"\x00\x08"): "arib_caption",
    (0xFD, b"\x00\x12"): "arib_caption",
}
MARGIN: Final = 5_000_000  # libavformat's usual number of bytes


def bytes_to_probe(path: Path, known: frozenset[int]) -> int | None:
    """How many bytes have to be read until every stream has been seen; None if the usual number will do.

    Args:
        path: a transport stream.
        known: packet identifiers (PID) of the streams whose parameters are known already.
    """
    stat = path.stat()
    late = [position for pid, position in _first_seen(path, stat.st_size, stat.st_mtime_ns) if pid not in known]
    return max(late) + MARGIN if late else None


@functools.lru_cache(maxsize=8)
def _first_seen(path: Path, size: int, changed: int) -> tuple[tuple[int, int], ...]:  # noqa: ARG001 (part of the key)
    """PID of each stream that a table names, and by which byte data of it have been seen."""
    named: set[int] = set()
    seen: dict[int, int] = {}
    tables = {PAT_PID}
    with path.open("rb") as file:
        length, skip = _packet_size(file.read(8 * 204))
        if not length:
            return ()
        step = max(WINDOW, size // WINDOWS)
        for start in range(0, size, step):
            begin = start // length * length
            file.seek(begin)
            for pid, payload in _packets(file.read(WINDOW), length, skip):
                if pid in tables:
                    programs, streams = _table(payload)
                    tables |= programs
                    named |= set(streams)
                else:
                    seen.setdefault(pid, begin + WINDOW)
    return tuple((pid, seen[pid]) for pid in sorted(named & set(seen)))


def undecodable(path: Path) -> dict[int, str]:
    """FFmpeg's names of the streams without a decoder that the first tables of a transport stream name, by PID."""
    found: dict[int, str] = {}
    tables = {PAT_PID}
    with path.open("rb") as file:
        data = file.read(WINDOW)
    length, skip = _packet_size(data[: 8 * 204])
    for pid, payload in _packets(data, length, skip) if length else ():
        if pid in tables:
            programs, streams = _table(payload)
            tables |= programs
            found.update({stream: name for stream, text in streams.items() if (name := _name_of(text))})
    return found


def _name_of(descriptors: bytes) -> str:
    at = 0
    while at + 2 <= len(descriptors):
        tag, end = descriptors[at], at + 2 + descriptors[at + 1]
        for (known, start), name in DESCRIPTORS.items():
            if tag == known and descriptors[at + 2 : end].startswith(start):
                return name
        at = end
    return ""


def _packet_size(head: bytes) -> tuple[int, int]:
    for length, skip in PACKET_SIZES:
        if len(head) >= 4 * length and all(head[skip + i * length] == SYNC for i in range(4)):
            return length, skip
    return 0, 0


def _packets(data: bytes, length: int, skip: int) -> Iterator[tuple[int, bytes]]:
    """PID and payload of each packet that has one."""
    for at in range(skip, len(data) - 187, length):
        if data[at] != SYNC or not data[at + 3] & 0x10:
            continue
        pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
        start = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        yield pid, data[start : at + 188] if data[at + 1] & 0x40 else b""


def _table(payload: bytes) -> tuple[set[int], dict[int, bytes]]:
    """PIDs of the tables that a program association table names, or of the streams that a program map table names.

    The latter with their descriptors.
    """
    if not payload or len(payload) < 13 + payload[0]:
        return set(), {}
    section = payload[1 + payload[0] :]
    end = min(len(section), 3 + ((section[1] & 0x0F) << 8 | section[2]) - 4)  # before the checksum
    if section[0] == PAT_PID:
        entries = range(8, end - 3, 4)
        return {(section[i + 2] & 0x1F) << 8 | section[i + 3] for i in entries if section[i] or section[i + 1]}, {}
    streams = {}
    if section[0] == PMT_TABLE:
        at = 12 + ((section[10] & 0x0F) << 8 | section[11])
        while at + 5 <= end:
            behind = at + 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
            streams[(section[at + 1] & 0x1F) << 8 | section[at + 2]] = section[at + 5 : behind]
            at = behind
    return set(), streams
