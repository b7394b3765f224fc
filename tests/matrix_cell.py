"""What a cell of the media matrix is: an input that is made by FFmpeg, and the container that it is upscaled into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

X264 = ("-preset", "ultrafast", "-crf", "20")
X265 = ("-preset", "ultrafast", "-x265-params", "log-level=none:pools=none:frame-threads=1")
ENCODERS: dict[str, tuple[str, ...]] = {
    "h264": ("libx264", *X264),
    "hevc": ("libx265", *X265),
    "vp9": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "30", "-b:v", "0"),
    "av1": ("libsvtav1", "-preset", "12", "-crf", "40", "-svtav1-params", "lp=1"),
    "mpeg2": ("mpeg2video", "-q:v", "3"),
    "mpeg4": ("mpeg4", "-q:v", "3"),
    "prores": ("prores_ks",),
    "ffv1": ("ffv1", "-level", "3"),
    "mjpeg": ("mjpeg", "-q:v", "3"),
    "rawvideo": ("rawvideo",),
    "dv": ("dvvideo",),
    "h264rgb": ("libx264rgb", *X264),
    "theora": ("libtheora", "-q:v", "8"),
    "wmv2": ("wmv2", "-q:v", "3"),
    "mpeg1": ("mpeg1video", "-q:v", "3", "-bf", "2"),
    "jpeg2000": ("jpeg2000", "-pred", "1"),
    "exr": ("exr", "-compression", "zip1"),
    "v308": ("v308", "-strict", "-2"),
    **{
        name: (name,)
        for name in (
            *("png", "dpx", "cfhd", "v210", "r210", "qtrle", "cinepak", "huffyuv", "utvideo", "magicyuv"),
            *("zmbv", "flashsv", "gif", "msmpeg4", "flv", "h263", "hap"),
        )
    },
}
BT709 = ("-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
BT601 = ("-color_range", "tv", "-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m")
FULL = ("-color_range", "pc", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
PQ = ("-color_range", "tv", "-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "smpte2084")
HLG = ("-color_range", "tv", "-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "arib-std-b67")
HDR10 = (
    "-x265-params",
    "log-level=none:pools=none:frame-threads=1:hdr10=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)",
)
NTSC = "30000/1001"
FILM = "24000/1001"


@dataclass(frozen=True)
class Input:
    """A file to be made.

    Attributes:
        name: short, unique; cells are named after it.
        suffix: of the file, which names the container.
        codec: key of `ENCODERS`.
        pix_fmt: that is encoded.
        rate: frames a second.
        vfr: whether the distances between frames are irregular.
        bframes: between two other frames.
        size: width and height.
        sound: audio codecs, one for each stream.
        subtitles: codecs, one for each stream.
        late: streams that start late: "v", "a" or both.
        chapters: whether there are any.
        fonts: how many are attached.
        cover: whether there is a cover picture.
        cut: seconds cut off the start without encoding, which leaves an edit list.
        rotate: degrees.
        fields: "tff" or "bff" if it is interlaced, with the top or bottom field first.
        options: of the encoder, after its usual ones.
        muxer: options of the muxer.
        regular: the container has no times, so the frames follow at the rate.
        recipe: key of `tests.odd_inputs.RECIPES` that makes it, instead of an encoder; of the rest only what says what
            to expect counts.
        decoded_as: the pixel format that FFmpeg reads, if the codec or the container calls it otherwise.
    """

    name: str
    suffix: str
    codec: str
    pix_fmt: str = "yuv420p"
    rate: str = "25"
    vfr: bool = False
    bframes: int = 0
    size: tuple[int, int] = (64, 48)
    sound: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    late: str = ""
    chapters: bool = False
    fonts: int = 0
    cover: bool = False
    cut: float = 0
    rotate: int = 0
    fields: str = ""
    options: tuple[str, ...] = ()
    muxer: tuple[str, ...] = ()
    regular: bool = False
    recipe: str = ""
    decoded_as: str = ""


@dataclass(frozen=True)
class Cell:
    """One input into one output.

    Attributes:
        source: the input.
        suffix: of the output.
        fast: whether the fast tier has it.
        encoder: of the output.
        lossless: whether the encoder is asked to be.
        drop: whether streams and tags that the container cannot hold may be left out.
        field_rate: whether each field becomes a picture.
        refusal: a regular expression that the error's text has, if the right answer is to refuse.
    """

    source: Input
    suffix: str
    fast: bool = False
    encoder: str = "auto"
    lossless: bool = False
    drop: bool = False
    field_rate: bool = False
    refusal: str | None = None
    name: str = field(default="")

    def __post_init__(self) -> None:
        how = "" if self.encoder == "auto" else f" by {self.encoder}"
        how += ", lossless" if self.lossless else ""
        how += ", dropping" if self.drop and self.suffix != ".ts" else ""
        how += " at field rate" if self.field_rate else ""
        object.__setattr__(self, "name", f"{self.source.name} to {self.suffix[1:]}{how}")


def into(source: Input, outputs: str, **arguments: object) -> Iterator[Cell]:
    """One cell for each word of `outputs`; a `+` before a container puts its cell into the fast tier."""
    for word in outputs.split():
        suffix = "." + word.lstrip("+")
        # MPEG-TS has no place for tags, chapters and dispositions; that it loses them is known, and no fault.
        drop = {"drop": True} if suffix == ".ts" else {}
        yield Cell(source, suffix, fast=word.startswith("+"), **{**drop, **arguments})  # type: ignore[arg-type]
