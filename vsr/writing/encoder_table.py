"""The table of video encoders: what each takes, by what names it takes it, and what it is given if nothing is said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import av
import av.codec.codec

from vsr.frame import PIXEL_FORMATS, PixelFormat

X26_PRESETS: Final = tuple("ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split())  # noqa: SIM905
X264_TUNES: Final = ("film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency")
X265_TUNES: Final = ("psnr", "ssim", "grain", "zerolatency", "fastdecode", "animation")
SVTAV1_TUNES: Final = {"vq": "0", "psnr": "1", "ssim": "2", "iq": "3", "ms-ssim": "4"}
PRORES_444: Final = ("4444", "4444xq")
NVENC_PRESETS: Final = tuple(f"p{n}" for n in range(1, 8))
Options = tuple[tuple[str, str], ...]
EVERYDAY: Final = "everyday"
USES: Final = ("archive", EVERYDAY, "realtime")
"""What a result may be for."""


@dataclass(frozen=True)
class Settings:
    """What an encoder is given for a use other than everyday's.

    Attributes:
        preset: the default then; None for everyday's.
        crf: likewise.
        options: given then besides the encoder's own.
    """

    preset: str | None = None
    crf: float | None = None
    options: Options = ()


@dataclass(frozen=True)
class Encoder:
    """What this project knows of an encoder.

    Attributes:
        name: as on the command line.
        library: libavcodec's name.
        codec: FFmpeg's name of the format it writes.
        min_size: smallest width and height it takes.
        max_size: largest width, and largest height.
        even: whether subsampled chroma needs sizes that it divides.
        crf: lowest and highest constant rate factor, and this project's default; None if it has none.
        crf_option: what libavcodec calls it.
        presets: allowed, slowest or fastest first as the encoder orders them; empty if it has none.
        preset: this project's default; None if there is none, or if it follows from the pixel format.
        preset_option: what libavcodec calls the preset.
        format_presets: the presets of each pixel format, its default first, where not every preset takes every format.
        tunes: allowed, each with the option that it is.
        options: always given.
        parameters: the option that takes the library's own `key=value:key=value`; None if there is none.
        bitrate: whether it can be given an average bit rate.
        peak: whether it then takes a limit of the peak too.
        lossless: options that make it so, None if it cannot be; empty if it always is.
        archive: where the result is to be kept: slower and larger, at the same or a better quality.
        realtime: where it is watched at once: about as fast as the encoder can.
        max_rate: highest nominal frame rate it may be told; it only guides its rate control.
        refused_formats: that the library lists, but does not encode (or only for one maker's players).
        formats: all that are used of those the library lists; None for all but `refused_formats`.
        hardware: what it needs besides the library; such an encoder is never chosen unasked.
    """

    name: str
    library: str
    codec: str
    min_size: int = 1
    max_size: tuple[int, int] = (65535, 65535)
    even: bool = False
    crf: tuple[float, float, float] | None = None
    crf_option: str = "crf"
    presets: tuple[str, ...] = ()
    preset: str | None = None
    preset_option: str = "preset"
    format_presets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    tunes: tuple[tuple[str, tuple[str, str]], ...] = ()
    options: Options = ()
    parameters: str | None = None
    bitrate: bool = True
    peak: bool = True
    lossless: Options | None = None
    archive: Settings = Settings()
    realtime: Settings = Settings()
    max_rate: int | None = None
    refused_formats: tuple[str, ...] = ()
    formats: tuple[str, ...] | None = None
    hardware: str | None = None

    def presets_for(self, pix_fmt: str) -> tuple[str, ...]:
        """The presets that take `pix_fmt`, its default first if it has one of its own."""
        return dict(self.format_presets).get(pix_fmt, self.presets)

    def settings_for(self, use: str) -> Settings:
        """What differs from the encoder's defaults for one of `USES`."""
        return {"archive": self.archive, "realtime": self.realtime}.get(use, Settings())


def _tunes(names: tuple[str, ...]) -> tuple[tuple[str, tuple[str, str]], ...]:
    return tuple((name, ("tune", name)) for name in names)


def _nvenc(
    codec: str, highest: float, size: tuple[int, int], tunes: tuple[str, ...], formats: tuple[str, ...]
) -> Encoder:
    return Encoder(
        f"{codec}_nvenc",
        f"{codec}_nvenc",
        codec,
        160,  # the smallest that every generation takes of every codec
        size,
        even=True,
        crf=(1, highest, 23 if highest < 60 else 32),  # 0 would mean automatic
        crf_option="cq",
        presets=NVENC_PRESETS,
        preset="p5",
        tunes=_tunes(tunes),
        options=(("rc", "vbr"), ("b", "0")),
        lossless=(("tune", "lossless"), ("rc", "constqp"), ("qp", "0")),
        archive=Settings("p7", 19 if highest < 60 else 26),
        realtime=Settings("p2"),
        formats=formats,
        hardware="an NVIDIA GPU with its driver",
    )


X264: Final = Encoder(
    "x264",
    "libx264",
    "h264",
    2,
    (16384, 16384),
    True,
    crf=(0, 51, 18),
    presets=X26_PRESETS,
    preset="veryfast",
    tunes=_tunes(X264_TUNES),
    parameters="x264-params",
    lossless=(("qp", "0"),),
    archive=Settings("slow", 15),
    realtime=Settings("superfast", 20),
)

ENCODERS: Final[dict[str, Encoder]] = {
    e.name: e
    for e in (
        X264,
        replace(X264, name="x264rgb", library="libx264rgb"),
        Encoder(
            "x265",
            "libx265",
            "hevc",
            64,
            (16384, 16384),
            True,
            crf=(0, 51, 20),
            presets=X26_PRESETS,
            preset="fast",
            tunes=_tunes(X265_TUNES),
            options=(("x265-params", "log-level=error"),),
            parameters="x265-params",
            lossless=(("x265-params", "lossless=1"),),
            archive=Settings("slow", 17),
            realtime=Settings("ultrafast", 22),
            refused_formats=("yuva420p", "yuva420p10le"),
        ),
        Encoder(
            "svtav1",
            "libsvtav1",
            "av1",
            8,
            (16384, 8704),
            False,
            crf=(1, 63, 28),
            presets=tuple(str(n) for n in range(14)),
            preset="10",
            tunes=tuple((name, ("svtav1-params", f"tune={n}")) for name, n in SVTAV1_TUNES.items()),
            parameters="svtav1-params",
            peak=False,  # SVT-AV1 limits the peak of a constant rate factor only
            lossless=(("svtav1-params", "lossless=1"),),
            archive=Settings("5", 22),
            realtime=Settings("12", 32),
            max_rate=240,
        ),
        Encoder(
            "vp9",
            "libvpx-vp9",
            "vp9",
            crf=(0, 63, 24),
            presets=tuple(str(n) for n in range(9)),
            preset="5",
            preset_option="cpu-used",
            tunes=(
                *_tunes(("psnr", "ssim")),
                *((name, ("tune-content", name)) for name in ("screen", "film")),
            ),
            options=(("deadline", "good"), ("row-mt", "1"), ("b", "0")),
            lossless=(("lossless", "1"),),
            archive=Settings("2", 18),
            realtime=Settings("8", 28, (("deadline", "realtime"),)),
            refused_formats=("yuva422p", "yuva444p", "gbrap", "yuv440p"),
        ),
        Encoder(
            "ffv1",
            "ffv1",
            "ffv1",
            16,
            options=(("level", "3"), ("slicecrc", "1")),
            bitrate=False,
            lossless=(),
            refused_formats=("yuva422p12le", "yuva444p12le"),  # FFmpeg 7 and older do not decode them
        ),
        Encoder(
            "prores",
            "prores_ks",
            "prores",
            presets=("proxy", "lt", "standard", "hq", *PRORES_444),
            preset_option="profile",
            format_presets=(
                ("yuv422p10le", ("hq", "proxy", "lt", "standard")),
                ("yuv444p10le", PRORES_444),
                ("yuva444p10le", PRORES_444),
            ),
            options=(("vendor", "apl0"),),  # as some readers want to see
            bitrate=False,
        ),
        _nvenc("h264", 51, (4096, 4096), ("hq", "ll", "ull"), ("yuv420p", "yuv444p")),
        _nvenc("hevc", 51, (8192, 8192), ("hq", "uhq", "ll", "ull"), ("yuv420p", "p010le", "yuv444p")),
        _nvenc("av1", 63, (8192, 8192), ("hq", "uhq", "ll", "ull"), ("yuv420p", "p010le")),
    )
}

# Formats that hold exactly what a planar one does; libswscale rearranges the samples.
PACKED: Final = {
    "bgr24": PIXEL_FORMATS["gbrp"],
    "bgr0": PIXEL_FORMATS["gbrp"],
    "bgra": PIXEL_FORMATS["gbrap"],
    "p010le": PIXEL_FORMATS["yuv420p10le"],
}


@cache
def library_formats(encoder: Encoder) -> tuple[str, ...] | None:
    """Pixel formats that the installed library takes; None if it is not in this build of FFmpeg."""
    try:
        codec = av.Codec(encoder.library, "w")
    except av.codec.codec.UnknownCodecError:
        return None
    names = tuple(f.name for f in codec.video_formats or () if f.name not in encoder.refused_formats)
    return names if encoder.formats is None else tuple(n for n in names if n in encoder.formats)


def held_format(name: str) -> PixelFormat | None:
    """The planar format whose samples the format `name` holds; None if it is not known here."""
    return PIXEL_FORMATS.get(name) or PACKED.get(name)
