"""Looks at a video and tells whether its pictures hold two fields, whatever they are marked as.

The judge of single pictures is FFmpeg's idet, which compares each field with those of the neighbouring pictures. It is
shown windows of pictures spread over the whole file.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import av
import av.error
import av.filter

from vsr.fields.order import chain, pull_all
from vsr.frame import FieldOrder
from vsr.reading.demux import open_input, packets, read_only

WINDOWS: Final = 12
WINDOW_FRAMES: Final = 40
LEAST_INTERLACED: Final = 0.1  # of the pictures that could be told; idet errs on single ones
LEAST_MIXED: Final = 0.1  # of the interlaced pictures, with the other field first
LEAST_TELECINED: Final = 0.2  # of all pictures; 3:2 pulldown repeats a field in 2 of 5, which idet sees if they move


@dataclass(frozen=True)
class Detection:
    """What was seen.

    Attributes:
        pictures: looked at.
        top_first: pictures of two fields, the top one first.
        bottom_first: likewise, the bottom one first.
        progressive: pictures of one moment.
        repeated: pictures with a field of the picture before.
    """

    pictures: int
    top_first: int
    bottom_first: int
    progressive: int
    repeated: int

    @property
    def interlaced(self) -> float:
        """Share of interlaced ones among the pictures that could be told, 0 to 1."""
        told = self.top_first + self.bottom_first + self.progressive
        return (self.top_first + self.bottom_first) / told if told else 0.0

    @property
    def order(self) -> FieldOrder | None:
        """The order of the video, or None if nothing could be told: nothing moves in it."""
        if not self.top_first + self.bottom_first + self.progressive:
            return None
        if self.interlaced < LEAST_INTERLACED:
            return FieldOrder.PROGRESSIVE
        return FieldOrder.TOP_FIRST if self.top_first >= self.bottom_first else FieldOrder.BOTTOM_FIRST

    @property
    def telecined(self) -> bool:
        """Whether it looks like film whose fields were repeated to reach the rate of video (3:2 pulldown)."""
        return self.interlaced >= LEAST_INTERLACED and self.repeated >= LEAST_TELECINED * self.pictures

    @property
    def mixed(self) -> bool:
        """Whether both field orders occur."""
        fewer = min(self.top_first, self.bottom_first)
        return fewer >= LEAST_MIXED * (self.top_first + self.bottom_first) and fewer > 1


def detect_fields(path: Path, stream_index: int) -> Detection:
    """Look at up to 480 pictures of a video stream, in 12 windows from its start to its end.

    Pictures that cannot be decoded are left out: judging them is the source's business.

    Args:
        path: the file.
        stream_index: of the stream in it.

    Raises:
        InputError: the file cannot be opened or read.
    """
    told: Counter[str] = Counter()
    repeats: Counter[str] = Counter()
    pictures = 0
    for window in _windows(path, stream_index):
        for seen in _judged(window):
            told[seen["lavfi.idet.multiple.current_frame"]] += 1
            repeats[seen["lavfi.idet.repeated.current_frame"]] += 1
            pictures += 1
    return Detection(pictures, told["tff"], told["bff"], told["progressive"], repeats["top"] + repeats["bottom"])


def _judged(window: Iterator[av.VideoFrame]) -> Iterator[dict[str, str]]:
    """What idet says of each picture."""
    graph: av.filter.Graph | None = None
    kind = None
    for number, frame in enumerate(window):
        if graph is None or (frame.width, frame.height, frame.format.name) != kind:
            graph, kind = chain(frame, ("idet", "")), (frame.width, frame.height, frame.format.name)
        frame.pts = number
        graph.vpush(frame)
        yield from (picture.metadata for picture in pull_all(graph))
    if graph is not None:
        graph.vpush(None)
        yield from (picture.metadata for picture in pull_all(graph))


def _windows(path: Path, stream_index: int) -> Iterator[Iterator[av.VideoFrame]]:
    """Windows of neighbouring pictures; a file that is short, or does not say how long it is, is one from its start."""
    with open_input(path) as container:
        stream: Any = container.streams[stream_index]
        read_only(container, {stream_index})
        duration = container.duration if stream.duration is None else stream.duration * stream.time_base * av.time_base
        rate = stream.average_rate or stream.guessed_rate
        if not duration or not rate or duration / av.time_base * rate <= WINDOWS * WINDOW_FRAMES:
            yield islice(_decoded(container, stream, path), WINDOWS * WINDOW_FRAMES)
            return
        start = container.start_time or 0
        for number in range(WINDOWS):
            with contextlib.suppress(OSError):  # no index: the next window is the next in the file
                container.seek(int(start + duration * number / WINDOWS))
            yield islice(_decoded(container, stream, path), WINDOW_FRAMES)


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[av.VideoFrame]:
    for packet in packets(container, stream, path=path):
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            yield from stream.codec_context.decode(packet)
