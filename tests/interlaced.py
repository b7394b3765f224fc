"""Interlaced clips made at test time: every field is a moment of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.clips import ffmpeg

SIZE = (64, 48)
FIELD_RATES = {"25": "50", "30000/1001": "60000/1001"}
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-bf", "2", "-x264-params")
CODECS: dict[str, tuple[str, ...]] = {
    "mpeg2": ("-c:v", "mpeg2video", "-q:v", "3", "-flags", "+ilme+ildct", "-top", "{top}"),
    "h264": (*X264, "{order}=1"),
    "ffv1": ("-c:v", "ffv1"),
    "prores": ("-c:v", "prores_ks", "-flags", "+ildct"),
    "huffyuv": ("-c:v", "ffvhuff", "-field_order", "{field_order}"),
    "dv": ("-c:v", "dvvideo"),
    "unmarked": (*X264, "log-level=none"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "interlace={order}:log-level=none:pools=none"),
}
FIELD_TICKS = 1501.5  # of 1/90000 s, of MPEG-TS
GRADIENTS = "gradients=speed=0.05:seed=1:c0=black:c1=white"  # colours not given are others each time


def make_interlaced(
    path: Path,
    codec: str = "ffv1",
    *,
    order: str = "tff",
    frames: int = 8,
    rate: str = "25",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = SIZE,
    scene: str = "testsrc2",
) -> Path:
    """Write a clip in which even and odd lines are half a frame apart.

    Args:
        path: where to; the extension names the container.
        codec: key of `CODECS`; pictures of `unmarked` are not marked as interlaced.
        order: `tff` or `bff`.
        scene: a source of lavfi that moves all the time. Of `testsrc2`, idet takes even progressive pictures for
            interlaced.
    """
    weave = f"tinterlace=interleave_{'top' if order == 'tff' else 'bottom'},format={pix_fmt}"
    words = {"order": order, "top": str(int(order == "tff")), "field_order": {"tff": "tt", "bff": "bb"}[order]}
    options = [option.format(**words) for option in CODECS[codec]]
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        moving(FIELD_RATES[rate], size, scene),
        "-vf",
        weave,
        "-frames:v",
        str(frames),
        *options,
        path,
    )
    return path


def make_mixed(path: Path, progressive: range, frames: int = 12) -> Path:
    """Interlaced MPEG-2 video in MPEG-TS whose pictures of these numbers are marked as progressive."""
    stream = make_interlaced(path.with_suffix(".m2v"), "mpeg2", frames=frames)
    stream.write_bytes(with_flags(stream.read_bytes(), lambda n: PictureFlags(progressive=n in progressive)))
    ffmpeg("-i", stream, "-c", "copy", "-bsf:v", "setts=pts=3600*N:dts=3600*N", path)
    return path


def make_soft_telecined(path: Path, frames: int = 12) -> Path:
    """Film as DVDs hold it, in MPEG-TS: progressive pictures marked to be shown for 3, 2, 3, 2, … fields of 1/60 s."""
    stream = path.with_suffix(".m2v")
    codec = ("-c:v", "mpeg2video", "-q:v", "3", "-bf", "0", "-g", "6")
    film = moving("24000/1001", SIZE)
    ffmpeg("-f", "lavfi", "-i", film, "-pix_fmt", "yuv420p", "-frames:v", str(frames), *codec, stream)
    stream.write_bytes(with_flags(stream.read_bytes(), pulldown, rate_code=4))
    times = f"floor({FIELD_TICKS}*(3*ceil(N/2)+2*floor(N/2)))"
    ffmpeg("-i", stream, "-c", "copy", "-bsf:v", f"setts=pts={times}:dts={times}", path)
    return path


@dataclass(frozen=True)
class PictureFlags:
    """Of an MPEG-2 picture."""

    top_first: bool = True
    repeat_first: bool = False
    progressive: bool = True


def pulldown(number: int) -> PictureFlags:
    return PictureFlags(top_first=number % 4 in (0, 3), repeat_first=number % 2 == 0)


def with_flags(stream: bytes, flags: Callable[[int], PictureFlags], rate_code: int | None = None) -> bytes:
    """Change flags in MPEG-2 video without B pictures (ISO/IEC 13818-2, sections 6.2.2 and 6.2.3).

    Args:
        flags: of the picture of that number.
        rate_code: frame_rate_code of the sequence; 4 is 30000/1001.
    """
    data = bytearray(stream)
    pictures = 0
    for found in re.finditer(b"\x00\x00\x01([\xb3\xb5])", stream):
        at = found.end()
        if found[1] == b"\xb3":  # sequence header
            data[at + 3] = data[at + 3] & 0xF0 | (rate_code or data[at + 3] & 0x0F)
        elif data[at] >> 4 == 1:  # sequence extension: progressive_sequence off
            data[at + 1] &= 0xF7
        elif data[at] >> 4 == 8:  # picture coding extension
            picture = flags(pictures)
            data[at + 3] = data[at + 3] & 0x7D | picture.top_first << 7 | picture.repeat_first << 1
            data[at + 4] = data[at + 4] & 0x7F | picture.progressive << 7
            pictures += 1
    return bytes(data)


def moving(rate: str, size: tuple[int, int], scene: str = "testsrc2") -> str:
    """A test picture in which something moves all the time."""
    return f"{scene}{':' if '=' in scene else '='}s={size[0]}x{size[1]}:r={rate}"
