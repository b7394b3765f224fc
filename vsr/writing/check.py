"""Checks that a finished file holds what was written into it, before it gets its name."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error

from vsr.errors import InputError, VerificationError
from vsr.reading.demux import is_cover, open_input, packets, read_only
from vsr.trim import nearest_on_clock

DURATION_SLACK_S: Final = Fraction(1, 2)  # muxers count in decoding order, which ends earlier with B-frames
# Encoders leave up to 250 pictures between two key pictures if nothing else is said: so many are decoded once more for
# the sake of the last one. Where it would be more, the price is out of proportion.
LONGEST_TAIL: Final = 250
# Seeking lands on a packet, not a key frame, where there is no index (MPEG-TS): try from further and further back, and
# at last from the start. What no other picture refers to is decoded only where the last one is such a picture.
ATTEMPTS: Final[tuple[tuple[int | None, bool], ...]] = ((0, False), (0, True), (15, True), (120, True), (None, True))


def check_output(
    path: Path,
    name: str,
    *,
    frames: int,
    size: tuple[int, int],
    first: Fraction | None,
    last: Fraction | None,
    muxer: str | None = None,
    number: int = 0,
) -> None:
    """Read `path` back: count its pictures, compare first and last time, and decode the first and the last one.

    If the last key picture is more than `LONGEST_TAIL` pictures before the end, it is decoded in place of the last.

    Args:
        path: the file to check.
        name: what to call it in a message.
        frames: how many pictures were encoded.
        size: their width and height.
        first: presentation time of the first picture, in seconds.
        last: of the last picture.
        muxer: libavformat's name of the container; None to find it out.
        number: of the video among all that are no covers, from 0.

    Raises:
        VerificationError: something differs; the message says what.
    """
    try:
        with ThreadPoolExecutor(1, "vsr-check") as beside:  # decoding one picture keeps one core busy
            first_picture = beside.submit(_decode_at, path, muxer, size, number, None)
            which, at = _check_times(path, name, frames, size, (first, last), muxer, number)
            _decode_at(path, muxer, size, number, at, which)
            first_picture.result()
    except InputError as exc:
        raise VerificationError(f"{name} was written, but cannot be read back: {exc.message}") from exc


def _check_times(
    path: Path,
    name: str,
    frames: int,
    size: tuple[int, int],
    ends: tuple[Fraction | None, Fraction | None],
    muxer: str | None,
    number: int,
) -> tuple[str, Fraction]:
    """Compare number and times of the pictures with what they should be; which picture to decode, and its time."""
    first, last = ends
    with open_input(path, muxer) as container:
        stream = _picture_stream(container, size, number)
        if stream is None:
            raise VerificationError(f"{name} was written, but holds no video of {size[0]}x{size[1]}")
        times, tick, key = _picture_times(container, stream, path)
        if len(times) != frames:
            raise VerificationError(f"{name} holds {len(times)} pictures, and {frames} were encoded")
        clocked = muxer == "mpegts"  # the time is what its clock shows, which starts anew every 26.5 hours
        for what, want, got in (("first", first, min(times)), ("last", last, max(times))):
            if want is not None and abs((nearest_on_clock(got, want) if clocked else got) - want) > tick:
                raise VerificationError(
                    f"the {what} picture of {name} is at {float(got):.6f} s, and should be at {float(want):.6f} s"
                )
        if last is not None and container.duration is not None:
            end = Fraction(container.duration + (container.start_time or 0), av.time_base)
            end = nearest_on_clock(end, last) if clocked else end
            if end < last - DURATION_SLACK_S:
                raise VerificationError(
                    f"{name} says that it ends at {float(end):.3f} s, and has a picture at {float(last):.3f} s"
                )
        return ("last", max(times)) if len(times) - key <= LONGEST_TAIL else ("last key", times[key])


def _picture_stream(container: Any, size: tuple[int, int], number: int) -> Any:
    real = [s for s in container.streams.video if not is_cover(s)]
    for stream in real[number : number + 1]:
        context = stream.codec_context
        if context is not None and (context.width, context.height) == size:
            return stream
    return None


def _picture_times(container: Any, stream: Any, path: Path) -> tuple[list[Fraction], Fraction, int]:
    """Presentation times in the order of decoding, their unit, and the place of the last key picture among them."""
    times: list[Fraction] = []
    key = 0
    read_only(container, {stream.index})
    for packet in packets(container, stream, path=path):
        if packet.size and packet.pts is not None:
            key = len(times) if packet.is_keyframe else key
            times.append(packet.pts * packet.time_base)
    if not times:
        raise VerificationError(f"{path.name} was written, but holds no picture")
    return times, Fraction(stream.time_base), key


def _decode_at(
    path: Path, muxer: str | None, size: tuple[int, int], number: int, at: Fraction | None, which: str = "first"
) -> None:
    """Decode the first picture, or all that follow the last key frame before `at`; `which` is for the message."""
    try:
        for back, every in ((None, True),) if at is None else ATTEMPTS:
            with open_input(path, muxer) as container:
                stream = _picture_stream(container, size, number)
                if at is not None:  # threads would decode more than the first picture
                    stream.thread_type = "AUTO"
                stream.codec_context.skip_frame = "DEFAULT" if every else "NONREF"
                if at is not None and back is not None:
                    with contextlib.suppress(OSError):  # too short to have anywhere to go: read from the start
                        container.seek(int((at - back) / stream.time_base), stream=stream)
                for frame in container.decode(stream):
                    if at is None or (frame.pts is not None and frame.pts * stream.time_base >= at):
                        return
    except (av.error.FFmpegError, OSError) as exc:
        raise VerificationError(f"the {which} picture of {path.name} cannot be decoded: {exc}") from exc
    raise VerificationError(f"the {which} picture of {path.name} cannot be decoded")
