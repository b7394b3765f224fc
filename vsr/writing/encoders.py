"""Which encoder a job gets, in which pixel format, with which options.

Everything is checked here before an encoder is opened: libav's own refusals say "Invalid argument", and some encoders
corrupt memory on sizes that they should refuse (x265 4.x on 34x26).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from vsr.errors import EncoderError
from vsr.frame import PIXEL_FORMATS, PixelFormat
from vsr.writing.containers import Container
from vsr.writing.encoder_options import EncoderRequest, resolve, try_open
from vsr.writing.encoder_table import ENCODERS, Encoder, held_format, library_formats

AUTO_8_BIT: Final = ("x264", "vp9", "svtav1", "ffv1")
AUTO_DEEP: Final = ("x265", "ffv1", "svtav1")
AUTO_RGB: Final = ("x264rgb", "x265", "ffv1", "vp9")
AUTO_ALPHA: Final = ("ffv1", "vp9", "prores")
LOSSLESS_FIRST: Final = "ffv1"  # where the container takes it: made for archives, with a checksum in every slice
REAL_LOSS: Final = 5  # from here on, samples are lost


@dataclass(frozen=True)
class EncoderPlan:
    """The encoder of a job, with every option resolved.

    Attributes:
        encoder: which one.
        pix_fmt: FFmpeg's name of the format it is given.
        options: for libavcodec.
        notes: one line for each thing that is not as it might be expected.
        surfaces: the format that it is opened with where pictures come as surfaces of its device; None where they come
            as planes.
    """

    encoder: Encoder
    pix_fmt: str
    options: dict[str, str]
    notes: tuple[str, ...] = field(default=())
    surfaces: str | None = None


@dataclass(frozen=True)
class _Wanted:
    """Pictures on their way into a container, and what is asked of their encoder."""

    container: Container
    source: PixelFormat
    width: int
    height: int
    request: EncoderRequest

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def format_name(self) -> str:
        return self.request.pix_fmt or self.source.name


def plan_encoder(
    container: Container, source: PixelFormat, width: int, height: int, request: EncoderRequest | None = None
) -> EncoderPlan:
    """Choose an encoder that holds the upscaled pictures in the container, and check what it is asked to do.

    Args:
        container: of the output.
        source: format of the upscaled pictures.
        width: of the output.
        height: likewise.
        request: what is asked; None for the defaults of everything.

    Raises:
        EncoderError: no encoder, or not the one asked for, can do it.
        OptionError: the encoder has no such CRF, preset, tune, bit rate or option, or cannot be lossless.
    """
    request = request or EncoderRequest()
    wanted = _Wanted(container, source, width, height, request)
    if source.alpha and not _keeps_alpha(wanted):
        opaque = next(f for f in PIXEL_FORMATS.values() if f == replace(source, name=f.name, alpha=False))
        plan = plan_encoder(container, opaque, width, height, request)
        what = "none" if source.family != "rgb" or not container.alpha else "no RGB with one"
        lost = f"the alpha channel is left out, for {container.title} holds {what}; .mkv does"
        return replace(plan, notes=(lost, *plan.notes))
    chosen, fmt, notes = _choose(wanted) if request.encoder == "auto" else _named(wanted)
    options = resolve(chosen, fmt, request)
    if request.options or request.tune or chosen.hardware:
        try_open(chosen, fmt, options)
    return EncoderPlan(chosen, fmt, options, notes)


def _keeps_alpha(wanted: _Wanted) -> bool:
    """Whether the container can keep it; an encoder that was asked for drops it with a note of its own."""
    if not wanted.container.alpha or wanted.request.encoder != "auto" or wanted.request.pix_fmt is not None:
        return wanted.container.alpha
    return any(_fitting_format(e, wanted) for e in _preference(wanted))


def _named(wanted: _Wanted) -> tuple[Encoder, str, tuple[str, ...]]:
    name = wanted.request.encoder
    chosen = ENCODERS.get(name) or {e.library: e for e in ENCODERS.values()}.get(name)
    if chosen is None:
        raise EncoderError(f"no encoder is called {name!r}; there are auto, {', '.join(ENCODERS)}")
    refusal = _refusal(chosen, wanted)
    if refusal:
        raise EncoderError(f"encoder {chosen.name} {refusal}", _alternatives(wanted))
    fmt = _fitting_format(chosen, wanted)
    if fmt is None:
        raise EncoderError(_format_refusal(chosen, wanted), _alternatives(wanted))
    return chosen, fmt, _notes(wanted.source, fmt)


def _choose(wanted: _Wanted) -> tuple[Encoder, str, tuple[str, ...]]:
    source, preferred = wanted.source, _preference(wanted)
    usable: list[tuple[Encoder, str]] = []
    refusals: dict[str, str] = {}
    for candidate in preferred:
        refusal = _refusal(candidate, wanted)
        fmt = None if refusal else _fitting_format(candidate, wanted)
        if fmt is not None:
            usable.append((candidate, fmt))
        if fmt != wanted.format_name:
            refusals[candidate.name] = (
                f"encoder {candidate.name} {refusal}" if refusal else _format_refusal(candidate, wanted)
            )
    if not usable:
        raise EncoderError(
            f"no encoder for {wanted.container.title} takes {wanted.size} {wanted.format_name}: "
            f"{'; '.join(refusals.values()) or 'there is none'}",
            _alternatives(wanted),
        )
    # The very format first, if compressed; then one that holds it; then the one that loses least.
    same = [(e, f) for e, f in usable if held_format(f) == source and (e.crf is not None or e is preferred[0])]
    chosen, fmt = same[0] if same else min(usable, key=lambda choice: _loss(source, choice[1]))
    notes = _notes(source, fmt)
    if chosen is not preferred[0]:
        reason = refusals[preferred[0].name].removeprefix("encoder ")
        notes = (f"encoder {chosen.name} is used, because {reason}", *notes)
    return chosen, fmt, notes


def _preference(wanted: _Wanted) -> list[Encoder]:
    """Encoders that may be chosen unasked, the best first."""
    target = held_format(wanted.request.pix_fmt or "") or wanted.source
    if target.alpha:
        names: tuple[str, ...] = AUTO_ALPHA
    elif target.family == "rgb":
        names = AUTO_RGB
    else:
        names = AUTO_8_BIT if target.bits == 8 else AUTO_DEEP
    found = [ENCODERS[n] for n in names if ENCODERS[n].codec in wanted.container.video_codecs]
    if wanted.request.lossless:
        found = [e for e in found if e.lossless is not None]
        found.sort(key=lambda e: e.name != LOSSLESS_FIRST)
    return found


def _refusal(encoder: Encoder, wanted: _Wanted) -> str | None:
    """Why `encoder` cannot make a video of this size in this container, beginning with a verb; None if it can."""
    container, width, height = wanted.container, wanted.width, wanted.height
    if library_formats(encoder) is None:
        return f"is not in this build of FFmpeg ({encoder.library})"
    if encoder.codec not in container.video_codecs:
        return f"writes {encoder.codec}, which {container.title} is not given"
    if wanted.request.lossless and encoder.lossless is None:
        return "cannot be lossless"
    if min(width, height) < encoder.min_size:
        return f"takes pictures from {encoder.min_size}x{encoder.min_size}, and the output is {width}x{height}"
    if width > encoder.max_size[0] or height > encoder.max_size[1]:
        return f"takes pictures up to {encoder.max_size[0]}x{encoder.max_size[1]}, and the output is {width}x{height}"
    return None


def _takes_size(encoder: Encoder, fmt: PixelFormat, wanted: _Wanted) -> bool:
    return not encoder.even or not (wanted.width % (1 << fmt.log2_w) or wanted.height % (1 << fmt.log2_h))


def _fitting_format(encoder: Encoder, wanted: _Wanted) -> str | None:
    """The encoder's format that is nearest to the pictures', or the one asked for; None if it has none that fits."""
    source, request = wanted.source, wanted.request
    preset = request.preset if request.preset in encoder.presets else None
    available = [n for n in library_formats(encoder) or () if preset is None or preset in encoder.presets_for(n)]
    known = {n: held_format(n) for n in available}
    if request.pix_fmt is not None:
        fmt = known.get(request.pix_fmt)
        return request.pix_fmt if fmt is not None and _takes_size(encoder, fmt, wanted) else None
    candidates = [
        (_loss(source, name), f.bits, -f.log2_w - f.log2_h, name)
        for name, f in known.items()
        if f is not None
        and (f.family == source.family or (source.family, f.family) == ("gray", "yuv"))
        and not (f.alpha and not source.alpha)
        and _takes_size(encoder, f, wanted)
        and not (request.lossless and _loss(source, name) >= REAL_LOSS)
    ]
    return min(candidates, default=(0, 0, 0, None), key=lambda c: c[:3])[3]


def _loss(source: PixelFormat, name: str) -> int:
    """How much `source` loses as `name`: 0 for nothing, more for chroma than for depth than for alpha."""
    target = held_format(name)
    assert target is not None
    lost_chroma = max(0, target.log2_w - source.log2_w) + max(0, target.log2_h - source.log2_h)
    if source.family == "gray":
        lost_chroma = 0
    other_family = target.family != source.family
    return (
        100 * lost_chroma
        + 10 * max(0, source.bits - target.bits)
        + REAL_LOSS * (source.alpha and not target.alpha)
        + (1 if other_family else 0)
    )


def _notes(source: PixelFormat, name: str) -> tuple[str, ...]:
    target = held_format(name)
    assert target is not None
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


def _format_refusal(encoder: Encoder, wanted: _Wanted) -> str:
    name = wanted.format_name
    known = held_format(name)
    if name in (library_formats(encoder) or ()) and known and not _takes_size(encoder, known, wanted):
        return f"encoder {encoder.name} takes only even sizes in {name}, and the output is {wanted.size}"
    formats = ", ".join(f for f in library_formats(encoder) or () if held_format(f))
    return f"encoder {encoder.name} does not take {name}; it takes {formats}"


def _alternatives(wanted: _Wanted) -> str | None:
    fitting = [e for e in ENCODERS.values() if e.hardware is None and _fitting_format(e, wanted)]
    able = [e.name for e in fitting if _refusal(e, wanted) is None]
    if able:
        return f"--encoder {' or '.join(able)} can"
    if not fitting or wanted.container.muxer == "matroska":
        return None
    return f"use .mkv, where {' or '.join(e.name for e in fitting)} may do"
