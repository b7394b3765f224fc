"""Video encoders: what each takes, and which one a job gets.

Everything is checked here before an encoder is opened: libav's own refusals say "Invalid argument", and some encoders
corrupt memory on sizes that they should refuse (x265 4.x on 34x26).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

import av
import av.codec.codec

from vsr.containers import Container
from vsr.errors import EncoderError, OptionError
from vsr.frame import PIXEL_FORMATS, PixelFormat

X26_PRESETS: Final = tuple("ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split())  # noqa: SIM905


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
        crf: lowest and highest constant rate factor, and this project's default; None for a lossless encoder.
        presets: allowed, slowest or fastest first as the encoder orders them; empty if it has none.
        preset: this project's default.
        preset_option: what libavcodec calls the preset.
        options: always given.
        max_rate: highest nominal frame rate it may be told; it only guides its rate control.
        refused_formats: that the library lists, but does not encode (or only for one maker's players).
    """

    name: str
    library: str
    codec: str
    min_size: int = 1
    max_size: tuple[int, int] = (65535, 65535)
    even: bool = False
    crf: tuple[float, float, float] | None = None
    presets: tuple[str, ...] = ()
    preset: str | None = None
    preset_option: str = "preset"
    options: tuple[tuple[str, str], ...] = ()
    refused_formats: tuple[str, ...] = ()
    max_rate: int | None = None


ENCODERS: Final[dict[str, Encoder]] = {
    e.name: e
    for e in (
        Encoder("x264", "libx264", "h264", 2, (16384, 16384), True, (0, 51, 18), X26_PRESETS, "veryfast"),
        Encoder("x264rgb", "libx264rgb", "h264", 2, (16384, 16384), True, (0, 51, 18), X26_PRESETS, "veryfast"),
        Encoder(
            "x265",
            "libx265",
            "hevc",
            64,
            (16384, 16384),
            True,
            (0, 51, 20),
            X26_PRESETS,
            "fast",
            options=(("x265-params", "log-level=error"),),
            refused_formats=("yuva420p", "yuva420p10le"),
        ),
        Encoder(
            "svtav1",
            "libsvtav1",
            "av1",
            8,
            (16384, 8704),
            False,
            (1, 63, 28),
            tuple(str(n) for n in range(14)),
            "10",
            max_rate=240,
        ),
        Encoder(
            "vp9",
            "libvpx-vp9",
            "vp9",
            1,
            crf=(0, 63, 24),
            presets=tuple(str(n) for n in range(9)),
            preset="5",
            preset_option="cpu-used",
            options=(("deadline", "good"), ("row-mt", "1"), ("b", "0")),
            refused_formats=("yuva422p", "yuva444p", "gbrap", "yuv440p"),
        ),
        Encoder("ffv1", "ffv1", "ffv1", 16, options=(("level", "3"), ("slicecrc", "1"))),
    )
}

# Packed formats that hold exactly what a planar one does; libswscale rearranges the samples.
PACKED: Final = {
    "bgr24": PIXEL_FORMATS["gbrp"],
    "bgr0": PIXEL_FORMATS["gbrp"],
    "bgra": PIXEL_FORMATS["gbrap"],
}

AUTO_8_BIT: Final = ("x264", "vp9", "svtav1", "ffv1")
AUTO_DEEP: Final = ("x265", "ffv1", "svtav1")
AUTO_RGB: Final = ("x264rgb", "x265", "ffv1", "vp9")
AUTO_ALPHA: Final = ("ffv1", "vp9")


@dataclass(frozen=True)
class EncoderPlan:
    """The encoder of a job, with every option resolved.

    Attributes:
        encoder: which one.
        pix_fmt: FFmpeg's name of the format it is given.
        options: for libavcodec.
        notes: one line for each thing that is not as it might be expected.
    """

    encoder: Encoder
    pix_fmt: str
    options: dict[str, str]
    notes: tuple[str, ...] = field(default=())


@cache
def library_formats(encoder: Encoder) -> tuple[str, ...] | None:
    """Pixel formats that the installed library takes; None if it is not in this build of FFmpeg."""
    try:
        codec = av.Codec(encoder.library, "w")
    except av.codec.codec.UnknownCodecError:
        return None
    return tuple(f.name for f in codec.video_formats or () if f.name not in encoder.refused_formats)


def plan_encoder(
    container: Container,
    source: PixelFormat,
    width: int,
    height: int,
    *,
    encoder: str = "auto",
    pix_fmt: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
) -> EncoderPlan:
    """Choose an encoder that holds the upscaled pictures in the container, and check what it is asked to do.

    Args:
        container: of the output.
        source: format of the upscaled pictures.
        width: of the output.
        height: likewise.
        encoder: a name of `ENCODERS`, its library's name, or `auto`.
        pix_fmt: the format to encode; None keeps `source` or comes as near to it as the encoder can.
        crf: constant rate factor; None for the encoder's default.
        preset: None for the encoder's default.

    Raises:
        EncoderError: no encoder, or not the one asked for, can do it.
        OptionError: a name, CRF or preset that does not exist.
    """
    if source.alpha and not container.alpha:
        opaque = PIXEL_FORMATS[source.name.replace("yuva", "yuv").replace("gbrap", "gbrp")]
        plan = plan_encoder(container, opaque, width, height, encoder=encoder, pix_fmt=pix_fmt, crf=crf, preset=preset)
        lost = f"the alpha channel is left out, for {container.title} holds none; .mkv does"
        return replace(plan, notes=(lost, *plan.notes))
    if encoder == "auto":
        return _choose(container, source, width, height, pix_fmt, crf, preset)
    by_library = {e.library: e for e in ENCODERS.values()}
    chosen = ENCODERS.get(encoder) or by_library.get(encoder)
    if chosen is None:
        raise EncoderError(f"no encoder is called {encoder!r}; there are auto, {', '.join(ENCODERS)}")
    refusal = _refusal(chosen, container, width, height)
    if refusal:
        raise EncoderError(f"encoder {chosen.name} {refusal}", _alternatives(container, source, width, height))
    fmt = _fitting_format(chosen, source, width, height, pix_fmt)
    if fmt is None:
        raise EncoderError(
            _format_refusal(chosen, source, width, height, pix_fmt),
            _alternatives(container, source, width, height),
        )
    return EncoderPlan(chosen, fmt, _options(chosen, crf, preset), _notes(source, fmt))


def _choose(
    container: Container,
    source: PixelFormat,
    width: int,
    height: int,
    pix_fmt: str | None,
    crf: float | None,
    preset: str | None,
) -> EncoderPlan:
    preferred = _preference(container, source, pix_fmt)
    usable: list[tuple[Encoder, str]] = []
    refusals: dict[str, str] = {}
    for candidate in preferred:
        refusal = _refusal(candidate, container, width, height)
        fmt = None if refusal else _fitting_format(candidate, source, width, height, pix_fmt)
        if fmt is not None:
            usable.append((candidate, fmt))
        if fmt != (pix_fmt or source.name):
            why = f"encoder {candidate.name} {refusal}" if refusal else None
            refusals[candidate.name] = why or _format_refusal(candidate, source, width, height, pix_fmt)
    if not usable:
        raise EncoderError(
            f"no encoder for {container.title} takes {width}x{height} {pix_fmt or source.name}: "
            f"{'; '.join(refusals.values()) or 'there is none'}",
            _alternatives(container, source, width, height),
        )
    # The very format first, if compressed; then one that holds it; then the one that loses least.
    same = [
        (e, f)
        for e, f in usable
        if PACKED.get(f, PIXEL_FORMATS.get(f)) == source and (e.crf is not None or e is preferred[0])
    ]
    chosen, fmt = same[0] if same else min(usable, key=lambda choice: _loss(source, choice[1]))
    notes = list(_notes(source, fmt))
    if chosen is not preferred[0]:
        reason = refusals[preferred[0].name].removeprefix("encoder ")
        notes.insert(0, f"encoder {chosen.name} is used, because {reason}")
    return EncoderPlan(chosen, fmt, _options(chosen, crf, preset), tuple(notes))


def _preference(container: Container, source: PixelFormat, pix_fmt: str | None) -> list[Encoder]:
    target = PIXEL_FORMATS.get(pix_fmt or "", source)
    if target.alpha:
        names: tuple[str, ...] = AUTO_ALPHA
    elif target.family == "rgb":
        names = AUTO_RGB
    else:
        names = AUTO_8_BIT if target.bits == 8 else AUTO_DEEP
    return [ENCODERS[n] for n in names if ENCODERS[n].codec in container.video_codecs]


def _refusal(encoder: Encoder, container: Container, width: int, height: int) -> str | None:
    """Why `encoder` cannot make a video of this size in this container, beginning with a verb; None if it can."""
    if library_formats(encoder) is None:
        return f"is not in this build of FFmpeg ({encoder.library})"
    if encoder.codec not in container.video_codecs:
        return f"writes {encoder.codec}, which {container.title} is not given"
    if min(width, height) < encoder.min_size:
        return f"takes pictures from {encoder.min_size}x{encoder.min_size}, and the output is {width}x{height}"
    if width > encoder.max_size[0] or height > encoder.max_size[1]:
        return f"takes pictures up to {encoder.max_size[0]}x{encoder.max_size[1]}, and the output is {width}x{height}"
    return None


def _takes_size(encoder: Encoder, fmt: PixelFormat, width: int, height: int) -> bool:
    return not encoder.even or not (width % (1 << fmt.log2_w) or height % (1 << fmt.log2_h))


def _fitting_format(encoder: Encoder, source: PixelFormat, width: int, height: int, pix_fmt: str | None) -> str | None:
    """The encoder's format that is nearest to `source`, or the one asked for; None if it has none that fits."""
    available = library_formats(encoder) or ()
    known = {n: PIXEL_FORMATS.get(n) or PACKED.get(n) for n in available}
    if pix_fmt is not None:
        fmt = known.get(pix_fmt)
        return pix_fmt if fmt is not None and _takes_size(encoder, fmt, width, height) else None
    candidates = [
        (_loss(source, name), f.bits, -f.log2_w - f.log2_h, name)
        for name, f in known.items()
        if f is not None
        and (f.family == source.family or (source.family, f.family) == ("gray", "yuv"))
        and not (f.alpha and not source.alpha)
        and _takes_size(encoder, f, width, height)
    ]
    return min(candidates, default=(0, 0, 0, None), key=lambda c: c[:3])[3]


def _loss(source: PixelFormat, name: str) -> int:
    """How much `source` loses as `name`: 0 for nothing, more for chroma than for depth than for alpha."""
    target = PIXEL_FORMATS.get(name) or PACKED[name]
    lost_chroma = max(0, target.log2_w - source.log2_w) + max(0, target.log2_h - source.log2_h)
    if source.family == "gray":
        lost_chroma = 0
    other_family = target.family != source.family
    return (
        100 * lost_chroma
        + 10 * max(0, source.bits - target.bits)
        + 5 * (source.alpha and not target.alpha)
        + (1 if other_family else 0)
    )


def _notes(source: PixelFormat, name: str) -> tuple[str, ...]:
    target = PIXEL_FORMATS.get(name) or PACKED[name]
    notes = []
    if source.alpha and not target.alpha:
        notes.append(f"the alpha channel is left out, for {name} has none; .mkv with --encoder ffv1 keeps it")
    if target.bits < source.bits:
        notes.append(f"samples are reduced from {source.bits} to {target.bits} bits ({name})")
    if source.family == target.family == "yuv" and (source.log2_w, source.log2_h) != (
        target.log2_w,
        target.log2_h,
    ):
        notes.append(f"chroma of {source.name} is stored as {name}")
    if source.family == target.family == "rgb":
        notes.append("the video stays RGB; --pix-fmt yuv420p makes it play where RGB does not")
    return tuple(notes)


def _format_refusal(encoder: Encoder, source: PixelFormat, width: int, height: int, pix_fmt: str | None) -> str:
    name = pix_fmt or source.name
    known = PIXEL_FORMATS.get(name)
    if name in (library_formats(encoder) or ()) and known and not _takes_size(encoder, known, width, height):
        return f"encoder {encoder.name} takes only even sizes in {name}, and the output is {width}x{height}"
    formats = ", ".join(f for f in library_formats(encoder) or () if f in PIXEL_FORMATS)
    return f"encoder {encoder.name} does not take {name}; it takes {formats or 'bgr24'}"


def _alternatives(container: Container, source: PixelFormat, width: int, height: int) -> str | None:
    able = [
        e.name
        for e in ENCODERS.values()
        if _refusal(e, container, width, height) is None and _fitting_format(e, source, width, height, None)
    ]
    if able:
        return f"--encoder {' or '.join(able)} can"
    anywhere = [e.name for e in ENCODERS.values() if _fitting_format(e, source, width, height, None)]
    return f"use .mkv, where {' or '.join(anywhere)} may do" if anywhere and container.muxer != "matroska" else None


def _options(encoder: Encoder, crf: float | None, preset: str | None) -> dict[str, str]:
    options = dict(encoder.options)
    if encoder.crf is None:
        if crf is not None:
            raise OptionError(f"encoder {encoder.name} is lossless and takes no --crf")
    else:
        low, high, default = encoder.crf
        value = default if crf is None else crf
        if not low <= value <= high:
            raise OptionError(f"crf {value:g}; encoder {encoder.name} takes {low:g} to {high:g}")
        options["crf"] = f"{value:g}"
    if preset is not None and preset not in encoder.presets:
        allowed = ", ".join(encoder.presets) or "none"
        raise OptionError(f"preset {preset!r}; encoder {encoder.name} has {allowed}")
    if encoder.preset is not None:
        options[encoder.preset_option] = preset or encoder.preset
    return options
