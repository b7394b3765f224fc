"""Finding a time in a file: where it begins, the key frame before a time, the time of the Nth frame."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error

from vsr.reading.demux import open_input, packets, read_only
from vsr.reading.field_packets import FieldPackets

# Containers with an index of key frames and a time on every packet. Elsewhere packets are read from the start and
# passed over: libavformat interpolates times there, and after a jump it might do so differently.
INDEXED: Final = ("matroska", "mp4")
HELD_PACKETS: Final = 4096  # of one group of pictures; with more, decoding begins where the reading is
HELD_BYTES: Final = 1 << 26
REORDER_DEPTH: Final = 64  # pictures that may be stored before one that is shown earlier; H.264 and HEVC allow 16


def is_indexed(container: av.container.InputContainer) -> bool:
    """Whether jumping in this file is exact."""
    return any(name in container.format.name for name in INDEXED)


def origin_of(container: av.container.InputContainer, first: Fraction) -> Fraction:
    """Where players begin to show a file, in seconds: at its first picture or sound.

    Sound before zero that only primes a decoder is not heard, and does not count.

    Args:
        container: the file.
        first: time of its first picture, in seconds.
    """
    origin = first
    for stream in container.streams.audio:
        if stream.start_time is not None and stream.time_base is not None:
            start = stream.start_time * stream.time_base
            origin = min(origin, start if start >= 0 or first < 0 else Fraction(0))
    return origin


def jump(container: av.container.InputContainer, stream: Any, time: Fraction) -> None:
    """Go to a key frame of `stream` near `time` (seconds), where the container knows one; else stay at the start."""
    if is_indexed(container):
        with contextlib.suppress(av.error.FFmpegError, OSError):
            container.seek(int(time // Fraction(stream.time_base)), stream=stream)


def packets_from(
    container: av.container.InputContainer, stream: Any, path: Path, start: Fraction
) -> Iterator[av.Packet[Any]] | None:
    """The packets of `stream` from the last key frame that is shown at or before `start` (seconds).

    Returns:
        None if the first packet found is past that key frame: the jump went too far.
    """
    found = packets(container, stream, path=path)
    first = next(found, None)
    if first is None or not first.size or (is_indexed(container) and not _is_key_before(first, start)):
        return None
    return _without_earlier_groups(first, found, start)


def _is_key_before(packet: Any, start: Fraction) -> bool:
    return bool(packet.is_keyframe) and packet.pts is not None and packet.pts * packet.time_base <= start


def _without_earlier_groups(first: Any, rest: Iterator[Any], start: Fraction) -> Iterator[Any]:
    held, held_bytes = [first], first.size
    for packet in rest:
        if _is_key_before(packet, start):
            held, held_bytes = [], 0
        held.append(packet)
        held_bytes += packet.size
        at = packet.dts if packet.dts is not None else packet.pts
        past = at is not None and at * packet.time_base > start
        if past or not packet.size or len(held) > HELD_PACKETS or held_bytes > HELD_BYTES:
            break
    yield from held
    yield from rest


def time_after_frames(
    path: Path, index: int, count: int, start: Fraction | None, *, decoding_times: bool = False
) -> tuple[Fraction | None, int]:
    """When the frame behind the first `count` frames from `start` on is shown.

    Args:
        path: the file.
        index: of the picture stream.
        count: frames.
        start: seconds, or None for the beginning.
        decoding_times: whether the file has no other times, so that the Nth frame is shown when the Nth is decoded.

    Returns:
        The time in seconds, None if there is no such frame; and how many of the `count` there are.
    """
    if start is not None and not decoding_times:
        with open_input(path) as container:
            stream = container.streams[index]
            read_only(container, {index})
            jump(container, stream, start)
            found = packets_from(container, stream, path, start)
            if found is not None:
                return _time_behind(found, stream, count, start, decoding_times)
    with open_input(path) as container:
        stream = container.streams[index]
        read_only(container, {index})
        found = packets(container, stream, path=path)
        return _time_behind(found, stream, count, start, decoding_times)


def _time_behind(
    found: Iterator[Any], stream: Any, count: int, start: Fraction | None, decoding_times: bool
) -> tuple[Fraction | None, int]:
    tick, fields = Fraction(stream.time_base or 1), FieldPackets(stream)
    times: list[int] = []  # in ticks
    for packet in found:
        at = packet.dts if decoding_times else packet.pts
        if fields.is_second(packet) or not packet.size or at is None or packet.is_discard:
            continue
        if start is None or at * tick >= start:
            times.append(at)
            if len(times) > count + REORDER_DEPTH:
                break
    if len(times) <= count:
        return None, len(times)
    return heapq.nsmallest(count + 1, times)[-1] * tick, count
