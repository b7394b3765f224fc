"""From what a job asks of an encoder to the options that libavcodec is given.

libavcodec ignores an option that an encoder does not have, and the encoders' own libraries only warn of theirs. Neither
is good enough here: every option is looked up in the library before the work starts, and those that the user has chosen
freely are tried on an encoder that encodes nothing.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, Final

import av
import av.error
import av.logging
from av.codec.context import OptionFlags, OptionType

from vsr.errors import EncoderError, OptionError
from vsr.writing.encoder_table import EVERYDAY, USES, Encoder

# With an average bit rate: the highest that a decoder's buffer sees, and that buffer, in terms of it
PEAK: Final = 1.5
BUFFER_S: Final = 2
MULTIPLES: Final = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
# What the job itself decides, and by which option, if there is one
DECIDED: Final = {
    "threads": "--threads",
    "thread_type": "--threads",
    "pixel_format": "--pix-fmt",
    "video_size": "--scale",
    **dict.fromkeys(("time_base", "sar", "aspect", "field_order", "flags", "strict"), None),
    **dict.fromkeys(("color_range", "colorspace", "color_primaries", "color_trc", "chroma_sample_location"), None),
}
NUMBERS: Final = (OptionType.INT, OptionType.INT64, OptionType.UINT, OptionType.UINT64)
REALS: Final = (OptionType.FLOAT, OptionType.DOUBLE)
LARGE: Final = 1e9  # a bound beyond is no bound worth naming
PARAMETER_REFUSED: Final = re.compile(r"Error parsing option|Unknown option|Invalid value", re.IGNORECASE)
TRIAL_SIZE: Final = (320, 240)


@dataclass(frozen=True)
class EncoderRequest:
    """What a job asks of its encoder.

    Attributes:
        encoder: `auto`, a name of `vsr.writing.encoder_table.ENCODERS`, or its library's name.
        pix_fmt: the format to encode; None keeps the pictures' own, or comes as near to it as the encoder can.
        crf: constant rate factor; None for the encoder's default.
        preset: None for the encoder's default.
        tune: None for none.
        bitrate: average in bits a second, reached in one pass; None for a constant rate factor.
        lossless: whether decoding must give back exactly what was encoded.
        options: names and values for libavcodec, which win over all of the above.
        use: of `vsr.writing.encoder_table.USES`; decides what the defaults are.

    Raises:
        OptionError: two of them contradict each other, a number is out of all range, or there is no such use.
    """

    encoder: str = "auto"
    pix_fmt: str | None = None
    crf: float | None = None
    preset: str | None = None
    tune: str | None = None
    bitrate: int | None = None
    lossless: bool = False
    options: tuple[tuple[str, str], ...] = ()
    use: str = EVERYDAY

    def __post_init__(self) -> None:
        if self.use not in USES:
            raise OptionError(f"use {self.use!r}; allowed are {', '.join(USES)}")
        if self.crf is not None and not isinstance(self.crf, Real):
            raise OptionError(f"crf {self.crf!r}; it must be a number")
        given = [
            n
            for n, v in (("lossless", self.lossless or None), ("crf", self.crf), ("bitrate", self.bitrate))
            if v is not None
        ]
        if len(given) > 1:
            raise OptionError(f"{given[0]} and {given[1]} contradict each other", f"leave out --{given[1]}")
        if self.bitrate is not None and self.bitrate < 1000:
            raise OptionError(f"bitrate of {self.bitrate} bit/s; give bits a second, as in 8M or 2500k")


def parse_bitrate(value: str | float | None) -> int | None:
    """Bits a second from a number, or from one with k, M or G (of 1000) behind it.

    Raises:
        OptionError: it is neither.
    """
    if value is None or isinstance(value, int):
        return value
    text = f"{value:f}" if isinstance(value, Real) else str(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)\s*", text, re.IGNORECASE)
    if match is None:
        raise OptionError(f"bitrate {value!r}; give bits a second, as in 8M, 2500k or 2500000")
    return round(float(match[1]) * MULTIPLES[match[2].lower()])


def parse_options(given: Iterable[str] | Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names and values from `name=value` words, or from a mapping.

    Raises:
        OptionError: a word has no name or no `=`, or a name comes twice.
    """
    if isinstance(given, str):
        raise OptionError(f"encoder options {given!r}; give a sequence of name=value, or a mapping")
    pairs: list[tuple[str, str]] = []
    for word in given.items() if isinstance(given, Mapping) else given:
        name, separator, value = word.partition("=") if isinstance(word, str) else (word[0], "=", str(word[1]))
        if not separator or not name.strip():
            raise OptionError(f"encoder option {word!r}; give it as name=value, as in rc-lookahead=60")
        pairs.append((name.strip(), value))
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"encoder option {name} is given {names.count(name)} times", "join them in one")
    return tuple(pairs)


def resolve(encoder: Encoder, pix_fmt: str, request: EncoderRequest) -> dict[str, str]:
    """The options for libavcodec that make `encoder` do what is asked of it.

    Raises:
        OptionError: it cannot, or has no such option.
    """
    options = dict((*encoder.options, *encoder.settings_for(request.use).options))
    for name, value in (*_rate(encoder, request), *_preset(encoder, pix_fmt, request), *_tune(encoder, request)):
        _put(options, encoder, name, value)
    for name, value in request.options:
        _check(encoder, name, value)
        _put(options, encoder, name, value)
    return options


def merged_parameters(first: str, second: str) -> str:
    """Two lists of `key=value:key=value` as one, in which `second` wins where both have a key.

    A colon after a backslash belongs to a value.
    """
    merged = {}
    for pair in re.split(r"(?<!\\):", f"{first}:{second}"):
        if pair:
            merged[pair.partition("=")[0]] = pair
    return ":".join(merged.values())


def hush_libraries() -> None:
    """Have libraries that write to standard error themselves report errors only."""
    os.environ.setdefault("SVT_LOG", "1")


def try_open(encoder: Encoder, pix_fmt: str, options: dict[str, str]) -> None:
    """Open an encoder of a small picture with `options`, and close it again.

    Raises:
        OptionError: an option is unknown to the encoder's library, or has a value that it refuses.
        EncoderError: the hardware or its driver is not there.
    """
    hush_libraries()
    context: Any = av.Codec(encoder.library, "w").create("video")
    context.width, context.height = TRIAL_SIZE
    context.pix_fmt = pix_fmt
    context.framerate = 25
    context.options = dict(options)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture(local=True) as lines:
            context.open()
    except (av.error.FFmpegError, OSError) as exc:
        said = next(
            (text.strip().rstrip(".") for severity, _, text in reversed(lines) if severity <= av.logging.ERROR), ""
        )
        if encoder.hardware is not None:
            raise EncoderError(
                f"encoder {encoder.name} cannot be opened ({said or exc.strerror or exc}); it needs {encoder.hardware}",
                "vsr doctor shows what is there; --encoder auto needs none",
            ) from exc
        raise OptionError(f"encoder {encoder.name} refuses its options: {said or exc}") from exc
    finally:
        av.logging.set_level(level)
    refused = [text.strip().rstrip(".") for _, _, text in lines if PARAMETER_REFUSED.search(text)]
    refused += [f"unknown option {name}" for name in context.options]
    if refused:
        raise OptionError(f"encoder {encoder.name} ({encoder.library}): {'; '.join(refused)}")


def _rate(encoder: Encoder, request: EncoderRequest) -> Iterable[tuple[str, str]]:
    if request.lossless:
        if encoder.lossless is None:
            raise OptionError(
                f"encoder {encoder.name} cannot be lossless", "--encoder ffv1, x264, x265, svtav1 and vp9 can"
            )
        return encoder.lossless
    if request.bitrate is not None:
        if not encoder.bitrate:
            why = "is lossless" if encoder.lossless == () else "has a rate for each preset"
            raise OptionError(f"encoder {encoder.name} {why} and takes no --bitrate")
        average = request.bitrate
        limits = (("maxrate", str(round(average * PEAK))), ("bufsize", str(average * BUFFER_S))) if encoder.peak else ()
        return (("b", str(average)), *limits)
    if encoder.crf is None:
        if request.crf is not None:
            why = "is lossless" if encoder.lossless == () else "has a quality for each preset"
            raise OptionError(f"encoder {encoder.name} {why} and takes no --crf")
        return ()
    low, high, everyday = encoder.crf
    own = encoder.settings_for(request.use).crf
    value = next(crf for crf in (request.crf, own, everyday) if crf is not None)
    if not low <= value <= high:
        raise OptionError(f"crf {value:g}; encoder {encoder.name} takes {low:g} to {high:g}")
    return ((encoder.crf_option, f"{value:g}"),)


def _preset(encoder: Encoder, pix_fmt: str, request: EncoderRequest) -> Iterable[tuple[str, str]]:
    fitting = encoder.presets_for(pix_fmt)
    if request.preset is not None and request.preset not in fitting:
        allowed = ", ".join(fitting) or "none"
        where = f" for {pix_fmt}" if request.preset in encoder.presets else ""
        raise OptionError(f"preset {request.preset!r}; encoder {encoder.name} has {allowed}{where}")
    own = encoder.settings_for(request.use).preset
    chosen = request.preset or own or encoder.preset or (fitting[0] if encoder.format_presets else None)
    return () if chosen is None else ((encoder.preset_option, chosen),)


def _tune(encoder: Encoder, request: EncoderRequest) -> Iterable[tuple[str, str]]:
    if request.tune is None:
        return ()
    tunes = dict(encoder.tunes)
    if request.tune not in tunes:
        raise OptionError(f"tune {request.tune!r}; encoder {encoder.name} has {', '.join(tunes) or 'none'}")
    option = tunes[request.tune]
    if request.lossless and option[0] != encoder.parameters and option[0] in dict(encoder.lossless or ()):
        raise OptionError(f"encoder {encoder.name} is lossless by a tune of its own", "leave out --tune")
    return (option,)


def _put(options: dict[str, str], encoder: Encoder, name: str, value: str) -> None:
    if name == encoder.parameters and name in options:
        value = merged_parameters(options[name], value)
    options[name] = value


@cache
def _known(encoder: Encoder) -> dict[str, Any]:
    """The options that the installed library describes, by name: its own, and those of every video encoder."""
    described = av.Codec(encoder.library, "w").create("video").supported_options
    wanted = OptionFlags.ENCODING_PARAM | OptionFlags.VIDEO_PARAM
    generic = {o.name: o for o in described.generic if o.flags & wanted == wanted}
    return {**generic, **{o.name: o for o in described.private}}


def _check(encoder: Encoder, name: str, value: str) -> None:
    """Refuse an option that `encoder` has not, or that is not the user's to set, or whose value it cannot be."""
    known = _known(encoder)
    if name in DECIDED:
        instead = DECIDED[name]
        raise OptionError(
            f"encoder option {name} is decided by {instead or 'the input and the size of the output'}",
            f"use {instead}" if instead else None,
        )
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"ffmpeg -h encoder={encoder.library} lists them"
        if encoder.parameters and not near:
            hint = f"options of the library itself go into {encoder.parameters}=key=value:key=value"
        raise OptionError(f"encoder {encoder.name} ({encoder.library}) has no option {name!r}", hint)
    option = known[name]
    if option.type == OptionType.STRING and name in (encoder.preset_option, "tune"):
        # x264 and x265 take any text, and complain past FFmpeg's log.
        named = encoder.presets if name == encoder.preset_option else tuple(dict(encoder.tunes))
        if not set(re.split(r"[,.+]", value)) <= set(named):
            raise OptionError(f"encoder option {name}={value}; {encoder.name} has {', '.join(named)}")
        return
    choices = [c.name for c in option.choices]
    if option.type not in (*NUMBERS, *REALS) or value in choices:
        return
    bounds = [f"{word} {n:g}" for word, n in (("from", option.min), ("to", option.max)) if abs(n) < LARGE]
    allowed = " ".join(["a number" if option.type in REALS else "a whole number", *bounds])
    allowed += f", or one of {', '.join(choices)}" if choices else ""
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)([kMG]?)", value)
    if match is None or not option.min <= float(match[1]) * MULTIPLES[match[2].lower()] <= option.max:
        raise OptionError(f"encoder option {name}={value}; {encoder.name} takes {allowed}")
