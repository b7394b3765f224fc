"""Which of a picture's fields comes first: read from decoded pictures, and written on pictures for libavfilter.

PyAV tells whether a picture is interlaced, but not which field is first. libavfilter knows both, and is asked by small
graphs.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import av
import av.error
import av.filter

from vsr.frame import FieldOrder

# FFmpeg's AVFieldOrder: progressive is 1. The first of the two letters is what all of FFmpeg's own decoders and muxers
# go by; "as coded" and "as displayed" are mixed up in files in the wild, and in FFmpeg's own header.
HEADER_ORDERS: Final = {
    2: FieldOrder.TOP_FIRST,  # TT
    3: FieldOrder.BOTTOM_FIRST,  # BB
    4: FieldOrder.TOP_FIRST,  # TB
    5: FieldOrder.BOTTOM_FIRST,  # BT
}
# Codecs whose pictures say themselves what they are. What a container says of the whole stream counts for others only:
# in a stream of mixed pictures it is wrong for some of them.
SELF_DESCRIBING: Final = (
    *("mpeg1video", "mpeg2video", "mpeg4", "h264", "hevc", "vvc", "vc1", "wmv3", "dvvideo", "prores", "dnxhd", "ffv1"),
    *("vp8", "vp9", "av1", "theora"),  # which have no fields
)
SETFIELD_MODES: Final = {
    FieldOrder.PROGRESSIVE: "prog",
    FieldOrder.TOP_FIRST: "tff",
    FieldOrder.BOTTOM_FIRST: "bff",
}


def order_from_header(context: Any) -> FieldOrder:
    """The field order that the header gives to pictures of a codec which do not say it themselves.

    Args:
        context: the stream's codec context.
    """
    if context.codec.canonical_name in SELF_DESCRIBING:
        return FieldOrder.PROGRESSIVE
    return HEADER_ORDERS.get(int(context.field_order), FieldOrder.PROGRESSIVE)


def chain(frame: av.VideoFrame, *filters: tuple[str, str]) -> av.filter.Graph:
    """A configured graph of `filters` (name, arguments) in a row, for pictures like `frame`.

    Times are in units of 1 and one thread is used: libswscale, which libavfilter inserts where a filter does not take a
    format, is wrong with several.

    Raises:
        av.error.FFmpegError: a filter does not take pictures of this size.
    """
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)),
        *(graph.add(name, arguments) for name, arguments in filters),
        graph.add("buffersink"),
    ).configure()
    return graph


def pull_all(graph: av.filter.Graph) -> list[av.VideoFrame]:
    """Every picture that `graph` has ready."""
    pictures = []
    while True:
        try:
            pictures.append(graph.vpull())
        except (av.error.BlockingIOError, av.error.EOFError):
            return pictures


class FieldReader:
    """Reads the field order of pictures.

    Args:
        unsaid: the order of pictures that are not marked as interlaced; see `order_from_header`.
    """

    def __init__(self, unsaid: FieldOrder = FieldOrder.PROGRESSIVE) -> None:
        self._unsaid = unsaid
        self._kind: tuple[int, int, str] | None = None
        self._top_first: av.filter.Graph | None = None

    def order(self, frame: av.VideoFrame) -> FieldOrder:
        """The field order of a decoded picture."""
        if not frame.interlaced_frame:
            return self._unsaid
        kind = frame.width, frame.height, frame.format.name
        if self._top_first is None or kind != self._kind:
            self._top_first = chain(frame, ("select", r"expr=eq(interlace_type\,TOPFIRST)"))
            self._kind = kind
        self._top_first.vpush(frame)
        return FieldOrder.TOP_FIRST if pull_all(self._top_first) else FieldOrder.BOTTOM_FIRST


class FieldWriter:
    """Marks pictures of one size and format with their field order."""

    def __init__(self) -> None:
        self._graphs: dict[FieldOrder, av.filter.Graph] = {}

    def mark(self, frame: av.VideoFrame, order: FieldOrder) -> av.VideoFrame:
        """The same samples, marked. They are not copied."""
        if order not in self._graphs:
            self._graphs[order] = chain(frame, ("setfield", f"mode={SETFIELD_MODES[order]}"))
        self._graphs[order].vpush(frame)
        return self._graphs[order].vpull()
