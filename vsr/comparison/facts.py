"""What a file's header says of each of its streams, and which stream of one file is which of another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.stream

from vsr.boxes import MP4, boxes, index_of
from vsr.comparison.payloads import may_be_same
from vsr.copying.data_tracks import data_track
from vsr.copying.stream_rules import container_tags, read_covers, stream_tags
from vsr.reading.demux import codec_name, is_cover, is_empty_core, open_input, path_of

# What a container has no place for, by libavformat's name. Everything else that is missing is a fault.
HOLDS_NO: Final = {
    "mpegts": ("chapters", "tags", "dispositions", "rotation", "picture language", "durations"),
    MP4: ("stream tags", "chapter ends", "free tags beside a cover"),
}
MUXERS_OWN_TAGS: Final = {"handler_name", "vendor_id", "language", "creation_time", "filename", "mimetype"}
NO_LANGUAGE: Final = {None, "", "und"}
NO_PICTURE: Final = -1


@dataclass(frozen=True)
class StreamFacts:
    """One stream, as its header describes it.

    Attributes:
        index: in the file.
        kind: video, audio, subtitle, data, attachment or cover.
        codec: FFmpeg's name, or "unknown".
        language: or None.
        disposition: names of the flags.
        tags: true of any copy, keys in lower case; languages are apart.
        size: width and height of the pictures, or None.
        shape: of a sample, width over height; 1 if unspecified.
        end: where the track header says that it ends, in seconds; None but for MP4, whose packets have durations in
            decoding order, so that the last one shown may have another's.
        digest: of an attachment's or cover's bytes, or of what MP4's header says of timed metadata; else empty.
        name: of an attachment.
    """

    index: int
    kind: str
    codec: str
    language: str | None
    disposition: frozenset[str]
    tags: dict[str, str]
    size: tuple[int, int] | None
    shape: Fraction
    end: Fraction | None = None
    digest: str = ""
    name: str = ""

    @property
    def title(self) -> str:
        """How a message calls it."""
        return f"stream {self.index} ({self.kind}, {self.codec})"

    @property
    def is_track(self) -> bool:
        """Whether it has packets with times, in an order among the others. Containers keep the rest apart."""
        return self.kind not in ("attachment", "cover")


@dataclass(frozen=True)
class FileFacts:
    """A file's header.

    Attributes:
        path: of the file.
        format: libavformat's name.
        streams: all but the track in which MP4 keeps the names of its chapters, and those of which there is nothing.
        chapters: as PyAV gives them.
        tags: true of any copy, keys in lower case.
        tick: in which the ends of streams are counted, in seconds.
    """

    path: Path
    format: str
    streams: tuple[StreamFacts, ...]
    chapters: tuple[dict[str, Any], ...] = field(default=())
    tags: dict[str, str] = field(default_factory=dict)
    tick: Fraction = Fraction(0)


def read_facts(path: Path) -> FileFacts:
    """Read the header of `path`.

    Raises:
        InputError: it is missing or no media.
    """
    with open_input(path) as container:
        covers = read_covers(path, container, NO_PICTURE)
        chapters: list[dict[str, Any]] = [dict(c) for c in container.chapters()]
        chapters.sort(key=lambda c: Fraction(c["start"] * c["time_base"]))
        streams = [s for s in container.streams if not (is_empty_core(s) or (chapters and _is_chapter_track(s)))]
        tags = {k.lower(): v for k, v in container_tags(container).items()}
        tick, all_ends = _track_ends(path) if container.format.name == MP4 else (Fraction(0), [])
        ends = {index: end for index, end in enumerate(all_ends) if end}  # fragmented files say 0
        return FileFacts(
            path,
            container.format.name,
            tuple(_stream_facts(s, covers.get(s.index), ends.get(s.index)) for s in streams),
            tuple(chapters),
            tags,
            tick,
        )


def pair_streams(before: FileFacts, after: FileFacts) -> list[tuple[StreamFacts, StreamFacts | None]]:
    """Each stream of the input with its counterpart, None where it has none.

    Counterparts have the same kind and (unless they are pictures) codec; among several, one of the same language that
    comes after the last counterpart found is preferred.
    """
    pairs: list[tuple[StreamFacts, StreamFacts | None]] = []
    free = list(after.streams)
    last: dict[bool, int] = {}
    for stream in before.streams:
        candidates = [s for s in free if _may_be_copy(stream, s)]
        found = min(
            candidates,
            key=lambda s: (
                s.digest != stream.digest,
                s.language != stream.language,
                s.index < last.get(s.is_track, -1),
                s.index,
            ),
            default=None,
        )
        if found is not None:
            free.remove(found)
            last[found.is_track] = found.index
        pairs.append((stream, found))
    return pairs


def _stream_facts(stream: Any, cover: bytes | None, end: Fraction | None) -> StreamFacts:
    kind = "cover" if is_cover(stream) else str(stream.type)
    data = bytes(stream.data) if kind == "attachment" else cover
    if kind == "data" and stream.container.format.name == MP4:
        track = data_track(path_of(stream.container), stream.index)
        data = None if track is None else track.descriptions
    context = stream.codec_context
    tags = {k.lower(): v for k, v in stream_tags(stream).items()}
    shape = getattr(stream, "sample_aspect_ratio", None)
    return StreamFacts(
        stream.index,
        kind,
        codec_name(stream) if kind != "attachment" else str(stream.metadata.get("mimetype", "unknown")),
        None if (language := tags.get("language")) in NO_LANGUAGE else language,
        frozenset(str(f.name) for f in av.stream.Disposition if f & stream.disposition),
        {k: v for k, v in tags.items() if k not in MUXERS_OWN_TAGS},
        (context.width, context.height) if kind == "video" and context is not None else None,
        Fraction(shape) if shape else Fraction(1),
        end,
        "" if data is None else hashlib.sha256(data).hexdigest(),
        stream.metadata.get("filename", "") if kind == "attachment" else "",
    )


def _track_ends(path: Path) -> tuple[Fraction, list[Fraction]]:
    """The tick of an MP4 file's edit lists, and where each track ends by its header (ISO/IEC 14496-12 section 8.3.2).

    libavformat does not tell: its durations of streams are those of all packets in decoding order.
    """
    ends: list[Fraction] = []
    tick = Fraction(0)
    for name, content in boxes(index_of(path)):
        if name == "mvhd":
            at = 20 if content[:1] == b"\1" else 12
            tick = Fraction(1, int.from_bytes(content[at : at + 4], "big") or 1)
        elif name == "trak":
            header = dict(boxes(content)).get("tkhd", b"\0" * 40)
            duration = header[28:36] if header[:1] == b"\1" else header[20:24]
            ends.append(int.from_bytes(duration, "big") * tick)
    return tick, ends


def _is_chapter_track(stream: Any) -> bool:
    return bool(stream.type == "data" and stream.discard == av.stream.Discard.all)


def _may_be_copy(before: StreamFacts, after: StreamFacts) -> bool:
    if before.kind != after.kind:
        return False
    if before.kind in ("video", "cover", "attachment"):
        return True
    return may_be_same(before.codec, after.codec)
