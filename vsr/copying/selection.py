"""Which streams of an input are kept, and which of them is upscaled; in FFmpeg's words for choosing streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import av.container
import av.stream

from vsr.errors import OptionError
from vsr.reading.demux import is_cover, is_empty_core

KINDS: Final = {"v": "video", "a": "audio", "s": "subtitle", "d": "data", "t": "attachment"}
ALLOWED: Final = "a, v:0, s:m:language:eng, disp:forced, #0x101 or 3, with - before it to leave out"

Streams = list[Any]
Step = Callable[[Streams], Streams]


@dataclass(frozen=True)
class StreamSpec:
    """One stream specifier, as in the manual of ffmpeg ("Stream specifiers").

    A number; a kind (`v`, `V` without covers, `a`, `s`, `d`, `t`); `m:KEY` or `m:KEY:VALUE` for a tag; `disp:FLAGS`,
    joined by `+`; `i:ID` or `#ID`; `u` for streams with a known codec; several of them joined by colons, each choosing
    among what those before it chose. `0:` in front (ffmpeg's number of the input) is passed over.

    Attributes:
        text: as given.
        excludes: whether the streams are left out (`-` in front).
        optional: whether it may match nothing (`?` behind).
        steps: what to apply, one after the other.
    """

    text: str
    excludes: bool
    optional: bool
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, text: str) -> StreamSpec:
        """Read `text`.

        Raises:
            OptionError: it is no stream specifier.
        """
        body = text.strip()
        excludes, optional = body.startswith("-"), body.endswith("?")
        body = body.removeprefix("-").removesuffix("?")
        if body.startswith("0:"):
            body = body.removeprefix("0:")
        steps: list[Step] = []
        words = body.split(":")
        while words:
            word = words.pop(0)
            if word.isascii() and word.isdecimal():
                steps.append(_nth(int(word)))
            elif word in ("v", "V", "a", "s", "d", "t"):
                steps.append(_of_kind(word))
            elif word == "u":
                steps.append(_where(lambda s: s.codec_context is not None or s.type == "attachment"))
            elif word == "m" and words and words[0]:
                steps.append(_tagged(words.pop(0), ":".join(words) if words else None))
                words = []
            elif word == "disp" and words and _flags(words[0]) is not None:
                steps.append(_flagged(_flags(words.pop(0)) or 0))
            elif word == "i" and words and _number(words[0]) is not None:
                steps.append(_with_id(_number(words.pop(0))))
            elif word.startswith("#") and _number(word[1:]) is not None:
                steps.append(_with_id(_number(word[1:])))
            else:
                raise OptionError(f"stream specifier {text!r}; allowed are {ALLOWED}")
        return cls(text, excludes, optional, tuple(steps))

    def matches(self, streams: Iterable[Any]) -> set[int]:
        """The indices of those of `streams` that it names."""
        found = list(streams)
        for step in self.steps:
            found = step(found)
        return {s.index for s in found}


@dataclass(frozen=True)
class Selection:
    """The streams that are wanted.

    Without specifiers that is all of them. If the first one excludes, all that none excludes; else those that are
    named and not excluded later. One video is upscaled and always there; where none is named, it is chosen as if all
    were.

    Attributes:
        specs: in the order given.
        video: number of the video that is upscaled, counted without covers from 0; None for the default one among those
            selected, else the largest.
    """

    specs: tuple[StreamSpec, ...] = ()
    video: int | None = None

    @classmethod
    def parse(cls, specs: str | Sequence[str] = (), video: int | None = None) -> Selection:
        """Read specifiers.

        Raises:
            OptionError: one cannot be read, or `video` is negative.
        """
        if video is not None and video < 0:
            raise OptionError(f"video stream {video}; it must be 0 or more")
        return cls(tuple(StreamSpec.parse(s) for s in ([specs] if isinstance(specs, str) else specs)), video)

    def wanted(self, container: av.container.InputContainer, name: str) -> set[int]:
        """The indices of the streams of `container` that are wanted; the video that is upscaled may be missing.

        Raises:
            OptionError: a specifier matches nothing.
        """
        streams = list(container.streams)
        kept = set() if self.specs and not self.specs[0].excludes else {s.index for s in streams}
        for spec in self.specs:
            found = spec.matches(streams)
            if not found and not spec.optional:
                raise OptionError(f"--map {spec.text} matches no stream of {name}, which has {listed(streams)}")
            kept = kept - found if spec.excludes else kept | found
        return kept - {s.index for s in streams if is_empty_core(s)}

    def videos(self, container: av.container.InputContainer, name: str) -> Streams:
        """The videos of `container` of which one is to be upscaled.

        Raises:
            OptionError: a specifier matches nothing, or there is no such video.
        """
        streams = list(container.streams)
        real = real_videos(container)
        kept = self.wanted(container, name)
        named = [s for s in real if s.index in kept]
        if not named and self.specs and not self.specs[0].excludes:
            excluded = set().union(*(spec.matches(streams) for spec in self.specs if spec.excludes))
            named = [s for s in real if s.index not in excluded]
        if real and not named:
            given = " ".join(f"--map {spec.text}" for spec in self.specs)
            raise OptionError(f"{given} leaves no video of {name} to be upscaled; it has {listed(streams)}")
        if self.video is None:
            return named
        if self.video >= len(real):
            raise OptionError(f"video stream {self.video} of {name}, which has {len(real)}: {listed(real)}")
        chosen = real[self.video]
        if chosen not in named:
            raise OptionError(
                f"video stream {self.video} is to be upscaled, and --map leaves it out; choose one of both"
            )
        return [chosen]


def real_videos(container: av.container.InputContainer) -> Streams:
    """The streams of moving pictures: all videos but the covers."""
    return [s for s in container.streams.video if not is_cover(s)]


def listed(streams: Iterable[Any]) -> str:
    """Number, kind, codec and language of each, in a few words."""
    words = []
    for stream in streams:
        context = stream.codec_context
        codec = "unknown codec" if context is None else context.codec.canonical_name
        size = f" {context.width}x{context.height}" if stream.type == "video" and context is not None else ""
        kind = "cover" if is_cover(stream) else str(stream.type)
        language = stream.metadata.get("language")
        words.append(f"{stream.index} ({kind} {codec}{size}{f' {language}' if language else ''})")
    return ", ".join(words) or "no streams"


def _nth(number: int) -> Step:
    return lambda streams: streams[number : number + 1]


def _where(condition: Callable[[Any], bool]) -> Step:
    return lambda streams: [s for s in streams if condition(s)]


def _of_kind(letter: str) -> Step:
    if letter == "V":
        return _where(lambda s: s.type == "video" and not is_cover(s))
    return _where(lambda s: s.type == KINDS[letter])


def _tagged(key: str, value: str | None) -> Step:
    def has(stream: Any) -> bool:
        tags = {k.lower(): v for k, v in stream.metadata.items()}
        return key.lower() in tags and value in (None, tags[key.lower()])

    return _where(has)


def _flagged(flags: int) -> Step:
    return _where(lambda s: s.disposition & flags == flags)


def _with_id(number: int | None) -> Step:
    return _where(lambda s: s.id == number)


def _flags(names: str) -> int | None:
    """The bits of dispositions joined by `+`; None if one is unknown."""
    known = {str(f.name): int(f) for f in av.stream.Disposition}
    bits = [known.get(name) for name in names.split("+")]
    return None if None in bits else sum(b for b in bits if b)


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None
