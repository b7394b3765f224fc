"""How a video says that its pictures are to be shown, in terms in which two files can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from vsr.frame import UNSPECIFIED, ColorSpec, Range, VideoInfo
from vsr.hdr import StaticHdr
from vsr.siting import effective_siting, kept_siting
from vsr.writing.color_tags import BT709, GREY_AND_OPEN, said_color

# Codecs with one bit for the range, or whose decoders give limited for nothing (HEVC), in which unspecified ends so
NEVER_OPEN: Final = ("vp9", "av1", "hevc")


def colors(old: VideoInfo, new: VideoInfo, muxer: str, *, says_limited: bool = True) -> Iterator[tuple[str, str, str]]:
    """Name of each colour tag, and what it is in both.

    Args:
        old: of the input.
        new: of the output.
        muxer: libavformat's name of the output's container.
        says_limited: whether the output has a place for a limited range beside the coded pictures, where H.264 and
            HEVC, for which limited is what is meant if nothing is said, say nothing.
    """
    a, b = (_effective(i) for i in (old, new))
    family, new_family = old.format.family, new.format.family
    if family == "gray" and not (new_family == "gray" and new.codec in GREY_AND_OPEN):
        a = replace(a, range=old.shown_color.range)
    if new_family == "rgb" != family:
        a = replace(a, matrix=UNSPECIFIED, range=Range.FULL)
    elif family == "rgb" != new_family:  # what RGB is encoded as
        a = replace(a, matrix=BT709, range=Range.LIMITED)
    else:
        a = said_color(a, new.codec)
    for name in ("matrix", "primaries", "transfer"):
        yield name, _code(getattr(a, name)), _code(getattr(b, name))
    color_range = a.range
    if new.codec in NEVER_OPEN and a.range is Range.UNSPECIFIED and b.range is Range.LIMITED:
        color_range = Range.LIMITED
    if not says_limited and a.range is Range.LIMITED and b.range is Range.UNSPECIFIED:
        color_range = Range.UNSPECIFIED
    yield "range", color_range.name.lower(), b.range.name.lower()
    # Grey that became YUV has chroma, but of no place; RGB and 4:4:4 have it everywhere.
    if old.format.family == "yuv" and old.format.log2_w and new.format.log2_w:
        siting = kept_siting(a.siting, new.format, new.codec, muxer)  # the job moves chroma where it can be said to be
        yield "chroma location", siting.name.lower(), b.siting.name.lower()


def _effective(info: VideoInfo) -> ColorSpec:
    """The tags with what readers must take for unspecified where there is no choice."""
    color = info.color
    color_range, matrix = color.range, color.matrix
    if info.format.family == "rgb":
        color_range, matrix = Range.FULL if color_range is Range.UNSPECIFIED else color_range, UNSPECIFIED
    if info.format.family == "gray":
        matrix = UNSPECIFIED
    return ColorSpec(matrix, color.primaries, color.transfer, color_range, effective_siting(info))


def _code(value: int) -> str:
    return "unspecified" if value == UNSPECIFIED else str(value)


def rotation(matrix: tuple[int, ...] | None) -> str:
    """The part of a display matrix that turns and mirrors, without the part that moves."""
    if matrix is None:
        return "none"
    turn = tuple(round(matrix[i] / 65536, 4) for i in (0, 1, 3, 4))
    return "none" if turn == (1, 0, 0, 1) else str(turn)


def hdr_fields(
    old: StaticHdr | None, new: StaticHdr | None
) -> Iterator[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Name of each part of static HDR metadata that one of the files has, and its numbers in both."""
    a, b = old or StaticHdr(), new or StaticHdr()
    for name in ("primaries", "white_point", "luminance", "content_light"):
        one, other = (_flat(getattr(h, name) or ()) for h in (a, b))
        if one or other:
            yield f"HDR {name.replace('_', ' ')}", one, other


def _flat(values: tuple[Any, ...]) -> tuple[float, ...]:
    return tuple(float(x) for v in values for x in (v if isinstance(v, tuple) else (v,)))
