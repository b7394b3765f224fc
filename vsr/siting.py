"""Where chroma samples sit, and which of it a stream can say.

H.264 (E.2.1) and HEVC (E.3.1) code the place of chroma for 4:2:0 only, Matroska's ChromaSiting elements know left,
centre, top-left and top, AV1 (6.4.2) left and top-left, and VP9 and ProRes nothing. Readers take left where nothing is
said.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vsr.frame import ColorSpec, PixelFormat, Siting, VideoInfo

JPEG_CODECS: Final = ("mjpeg",)  # of which unspecified siting means centre
CODED_IN_420: Final = ("h264", "hevc")
ANYWHERE: Final = frozenset(Siting)
CODED_IN_AV1: Final = frozenset({Siting.LEFT, Siting.TOPLEFT})
CODED_IN_MATROSKA: Final = frozenset({Siting.LEFT, Siting.CENTER, Siting.TOPLEFT, Siting.TOP})
# What is the same where only columns are subsampled
IN_ITS_ROW: Final = {
    Siting.TOPLEFT: Siting.LEFT,
    Siting.BOTTOMLEFT: Siting.LEFT,
    Siting.TOP: Siting.CENTER,
    Siting.BOTTOM: Siting.CENTER,
}


def effective_siting(info: VideoInfo) -> Siting:
    """Where readers must take the chroma of `info` to be: never unspecified."""
    siting = info.color.siting
    if siting is Siting.UNSPECIFIED:
        siting = Siting.CENTER if info.codec in JPEG_CODECS else Siting.LEFT
    return IN_ITS_ROW.get(siting, siting) if info.format.log2_w and not info.format.log2_h else siting


def arithmetic_color(info: VideoInfo) -> ColorSpec:
    """The colour description used in the frame graph: tags as readers understand them, and JPEG's own siting."""
    if info.codec in JPEG_CODECS and info.color.siting is Siting.UNSPECIFIED:
        return replace(info.shown_color, siting=Siting.CENTER)
    return info.shown_color


def kept_siting(siting: Siting, fmt: PixelFormat, codec: str, muxer: str) -> Siting:
    """`siting`, or left if pictures of format `fmt` cannot say it in a stream of `codec` and the container of `muxer`.

    Args:
        siting: of the input.
        fmt: of the pictures that are encoded.
        codec: FFmpeg's name.
        muxer: libavformat's name of the container, or the name that it gives when it reads one.
    """
    if siting is Siting.UNSPECIFIED or fmt.family != "yuv" or not (fmt.log2_w or fmt.log2_h):
        return siting
    if codec in CODED_IN_420:
        sayable = ANYWHERE if (fmt.log2_w, fmt.log2_h) == (1, 1) else frozenset({Siting.LEFT})
    elif "matroska" in muxer or "webm" in muxer:
        sayable = CODED_IN_MATROSKA
    else:
        sayable = CODED_IN_AV1 if codec == "av1" else frozenset({Siting.LEFT})
    if fmt.log2_w and not fmt.log2_h:
        siting = IN_ITS_ROW.get(siting, siting)
    return siting if siting in sayable else Siting.LEFT
