"""Which video of a file is meant, and what its header and its first picture say."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import av.filter
import av.logging
import av.stream
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from vsr.copying.selection import Selection
from vsr.errors import NotMediaError
from vsr.frame import ColorSpec, FieldOrder, Range, Siting, VideoInfo
from vsr.pixel_formats import working_format
from vsr.reading.demux import is_cover
from vsr.reading.truncation import cut_off_by_structure
from vsr.side_data import side_data_of

FALLBACK_RATE: Final = Fraction(25)
COUNTS_FROM_ZERO: Final = ("matroska", "nut", "avi")  # their durations do not start where the stream or the file does


def pick_video(container: Any, path: Path, selection: Selection) -> Any:
    """The stream to upscale: of those that `selection` leaves, the default one, else the largest.

    Raises:
        NotMediaError: there is none that can be decoded.
    """
    usable = [s for s in selection.videos(container, str(path)) if s.codec_context is not None]
    if not usable:
        kinds: dict[str, int] = {}
        for stream in container.streams:
            kind = "cover picture" if is_cover(stream) else str(stream.type)
            kinds[kind] = kinds.get(kind, 0) + 1
        found = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "nothing"
        cut = cut_off_by_structure(path)
        why = "" if cut is None else f", and was cut off: {cut}"
        raise NotMediaError(f"{path} has no video stream that can be decoded; it has {found}{why}")
    return max(
        usable,
        key=lambda s: (
            bool(s.disposition & av.stream.Disposition.default),
            s.codec_context.width * s.codec_context.height,
            -s.index,
        ),
    )


def has_times(stream: Any, first: av.VideoFrame) -> bool:
    """Whether the frames of `stream` have times; those of elementary streams do not."""
    return bool(stream.time_base) and (first.pts is not None or first.dts is not None)


def time_base_of(stream: Any, first: av.VideoFrame) -> Fraction:
    """The unit of the frames' times, in seconds: a frame's duration where they have none."""
    return Fraction(stream.time_base) if has_times(stream, first) else 1 / Fraction(_rate(stream) or FALLBACK_RATE)


def _rate(stream: Any) -> Any:
    return stream.average_rate or stream.guessed_rate or stream.base_rate


def read_info(container: Any, stream: Any, first: av.VideoFrame, field_order: FieldOrder) -> VideoInfo:
    """Describe `stream` of an open `container`, whose first picture is `first`, with fields in `field_order`.

    Raises:
        UnsupportedInputError: its pixel format is not handled.
    """
    rate = _rate(stream)
    time_base = time_base_of(stream, first)
    pix_fmt = first.format.name
    color_range = Range(first.color_range) if first.color_range in (0, 1, 2) else Range.UNSPECIFIED
    if pix_fmt.startswith("yuvj"):
        color_range = Range.FULL
    start, duration = _times_from_header(container, stream, time_base)
    sar = stream.sample_aspect_ratio
    return VideoInfo(
        width=first.width,
        height=first.height,
        format=working_format(pix_fmt),
        pix_fmt_from_header=pix_fmt,
        color=ColorSpec(
            matrix=int(first.colorspace),
            primaries=int(first.color_primaries),
            transfer=int(first.color_trc),
            range=color_range,
            siting=_siting(first),
        ),
        time_base=time_base,
        rate=Fraction(rate) if rate else None,
        sample_aspect_ratio=Fraction(sar) if sar else None,
        start_from_header=start,
        duration_from_header=duration,
        num_frames_from_header=stream.frames or None,
        codec=stream.codec_context.codec.canonical_name,
        bit_rate=stream.codec_context.bit_rate or None,
        compressed=_compressed(stream.codec_context),
        display_matrix=_display_matrix(first),
        field_order=field_order,
    )


def _compressed(context: Any) -> bool:
    """Whether the codec predicts pictures and loses detail. Lossless H.264 is in a profile with few other uses."""
    codec = context.codec
    return bool(codec.lossy and not codec.intra_only and context.profile != "High 4:4:4 Predictive")


def _times_from_header(container: Any, stream: Any, time_base: Fraction) -> tuple[Fraction | None, Fraction | None]:
    """Start and duration of the picture stream, in seconds."""
    start = None if stream.start_time is None else stream.start_time * time_base
    from_zero = any(name in container.format.name for name in COUNTS_FROM_ZERO)
    if stream.duration is not None:
        duration = stream.duration * time_base
        if container.format.name == "avi" and stream.frames and stream.average_rate:
            # Without an index libavformat guesses the duration from the size; the frame count is the header's.
            duration = max(duration, stream.frames / Fraction(stream.average_rate))
        return start, duration - (start or 0) if from_zero else duration
    if container.duration is None:
        return start, None
    file_start = Fraction(0) if from_zero else Fraction(container.start_time or 0, av.time_base)
    return start, file_start + Fraction(container.duration, av.time_base) - (start or 0)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    data = side_data_of(frame).get(SideDataType.DISPLAYMATRIX)
    return None if data is None else tuple(int(v) for v in np.frombuffer(data, dtype=np.int32))


def _siting(frame: av.VideoFrame) -> Siting:
    """The frame's chroma location, which PyAV shows only in what the `showinfo` filter logs of it."""
    if not any(c.is_chroma for c in frame.format.components):
        return Siting.UNSPECIFIED
    graph = av.filter.Graph()
    try:
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)),
            graph.add("showinfo"),
            graph.add("buffersink"),
        ).configure()
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            with av.logging.Capture(local=True) as lines:
                graph.push(frame)
                graph.pull()
        finally:
            av.logging.set_level(level)
    except (av.error.FFmpegError, ValueError):
        return Siting.UNSPECIFIED
    match = re.search(r"\bcl:(\w+)", " ".join(line for _, _, line in lines))
    names = {s.name.lower(): s for s in Siting}
    return names.get(match.group(1), Siting.UNSPECIFIED) if match else Siting.UNSPECIFIED
