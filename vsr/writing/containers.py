"""Output containers: which there are, and which muxer and video encoders belong to each.

What else a container can hold (audio and subtitle codecs) is asked of libavformat itself when the streams are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vsr.errors import ContainerError


@dataclass(frozen=True)
class Container:
    """An output container.

    Attributes:
        muxer: libavformat's name.
        title: what people call it.
        video_codecs: what this project writes into it, by FFmpeg's codec names.
        options: for the muxer.
        negative_dts: whether it can say that decoding starts before time zero, as B-frames need if the first frame is
            shown at zero. If not, such a video is encoded without B-frames, for no time stamp is ever shifted.
        alpha: whether any of its video codecs can have an alpha channel in it.
    """

    muxer: str
    title: str
    video_codecs: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()
    negative_dts: bool = True
    alpha: bool = False


# libavformat would move all streams so that none begins before zero, as AAC priming and B-frame delay do.
NO_SHIFT: Final = (("avoid_negative_ts", "disabled"),)

MP4: Final = Container("mp4", "MP4", ("h264", "hevc", "av1", "vp9"))
MOV: Final = Container("mov", "QuickTime", ("h264", "hevc", "prores"), alpha=True)
MATROSKA: Final = Container(
    "matroska", "Matroska", ("h264", "hevc", "av1", "vp9", "ffv1", "prores"), NO_SHIFT, alpha=True
)
WEBM: Final = Container("webm", "WebM", ("vp9", "av1"), NO_SHIFT, alpha=True)
TS: Final = Container(
    "mpegts",
    "MPEG-TS",
    ("h264", "hevc"),
    # The muxer would delay everything by 0.7 s and start at 1.4 s.
    (("mpegts_copyts", "1"), ("muxdelay", "0"), ("muxpreload", "0"), *NO_SHIFT),
    negative_dts=False,
)
# Blu-ray's and AVCHD's form, with an arrival time before each packet and a numbering of codecs of its own.
M2TS: Final = replace(TS, title="M2TS", options=(("mpegts_m2ts_mode", "1"), *TS.options))

CONTAINERS: Final[dict[str, Container]] = {
    ".mp4": MP4,
    ".m4v": MP4,
    ".mov": MOV,
    ".mkv": MATROSKA,
    ".webm": WEBM,
    ".ts": TS,
    ".m2ts": M2TS,
    ".mts": M2TS,
}

UNFIT: Final = {
    ".avi": "AVI cannot keep frame times",
    ".nut": "NUT cannot keep audio that begins before the first picture",
    ".flv": "FLV holds one audio stream and no subtitles",
}


def container_of(path: Path) -> Container:
    """The container that the extension of `path` names.

    Raises:
        ContainerError: the extension is missing or unknown.
    """
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    known = ", ".join(CONTAINERS)
    if suffix in UNFIT:
        raise ContainerError(f"{path.name} is not written, for {UNFIT[suffix]}; allowed are {known}", "use .mkv")
    what = f"extension {path.suffix!r}" if suffix else "name without an extension"
    raise ContainerError(f"{path.name} has an output {what}; allowed are {known}")
