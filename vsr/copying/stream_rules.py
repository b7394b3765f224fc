"""What a container can hold of one stream, and how the stream's copy is created in it.

Nothing here is a table of codecs against containers: libavformat is asked, by trying on a file in memory. Only what it
would accept and nobody could read again is ruled out by name.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error

from vsr.copying.data_tracks import DataTrack, data_track
from vsr.copying.linear_pcm import USUAL_LAYOUTS, PcmConverter, plain_codec
from vsr.copying.subtitles import converted_codec
from vsr.copying.wave_sound import sound_track
from vsr.reading.demux import codec_name, is_cover, open_input, packets, path_of
from vsr.writing.containers import M2TS, MATROSKA, MOV, MP4, TS, Container
from vsr.writing.matroska import SoundTrack

# Written by muxers about their own file; they would be untrue of another one.
CONTAINER_TAGS: Final = {"major_brand", "minor_version", "compatible_brands", "encoder", "software"}
STATISTICS_TAGS: Final = {"bps", "duration", "number_of_frames", "number_of_bytes", "encoder"}
# libavformat would put anything into a transport stream as private data, which no player could find again.
TS_CODECS: Final = {
    "audio": ["aac", "aac_latm", "mp2", "mp3", "ac3", "eac3", "ac4", "dts", "truehd", "opus", "s302m"],
    "subtitle": ["dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle"],
    "data": ["klv", "scte_35", "timed_id3"],
    "video": ["h264", "hevc", "mpeg2video", "mpeg1video", "vvc"],
}
M2TS_CODECS: Final = ("pcm_bluray",)  # whose number stands for something else, or nothing, in a plain transport stream
WAYS_OUT: Final = {".mkv": MATROSKA, ".mp4": MP4, ".mov": MOV, ".ts": TS, ".m2ts": M2TS}
# What libavformat's MP4 and QuickTime muxers have a place for.
# fmt: off
MP4_TAGS: Final = frozenset((
    "title", "artist", "album_artist", "composer", "album", "date", "encoding_tool", "comment", "genre", "copyright",
    "grouping", "lyrics", "synopsis", "description", "show", "episode_id", "network", "keywords", "track", "disc",
    "hd_video", "gapless_playback", "media_type", "compilation", "rating", "episode_sort", "season_number",
    "sort_name", "sort_artist", "sort_album", "sort_album_artist", "sort_composer", "sort_show", "creation_time",
    "location", "timecode", "author", "make", "model", "language",
))
# fmt: on
COVER_MUXERS: Final = ("mp4", "matroska")
TEXT_SUBTITLES: Final = {"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of one stream of the input.

    Attributes:
        index: in the input.
        kind: video, audio, subtitle, data or attachment.
        codec: FFmpeg's name, or "unknown".
        copied: whether it goes into the output.
        reason: why not, if not.
        becomes: the codec it is converted to, without loss; None if it is copied as it is.
        track: what Matroska's header has to say of its copy, if the muxer cannot; None if it can.
        returns: whether the output says the same without a copy, so that nothing is lost.
        data: what MP4's header has to say of its copy, if it is a track of timed metadata.
    """

    index: int
    kind: str
    codec: str
    copied: bool
    reason: str | None = None
    becomes: str | None = None
    track: SoundTrack | None = None
    returns: bool = False
    data: DataTrack | None = None


def plan_stream(stream: Any, container: Container, cover: bytes | None = None) -> StreamPlan:
    """Whether `container` can hold a copy of `stream`.

    Args:
        stream: of an open input.
        container: of the output.
        cover: the picture, if the stream is a cover.
    """
    kind, codec = str(stream.type), codec_name(stream)
    if kind == "data" and container.muxer in ("mp4", "mov") and "mov" in stream.container.format.name.split(","):
        data = data_track(path_of(stream.container), stream.index)
        if data is not None:
            return StreamPlan(stream.index, kind, data.kind, copied=True, data=data)
    reason: str | None
    if not _has_form(container, kind, codec) or (cover is not None and container.muxer not in COVER_MUXERS):
        reason = _cannot_hold(container, kind, codec, None)
    else:
        reason = _refusal_by_trial(lambda output: add_copy(output, stream, cover), container, kind, codec)
    if reason is not None and kind == "subtitle":
        becomes = converted_codec(codec, container)
        if becomes is not None:
            return StreamPlan(stream.index, kind, codec, copied=True, becomes=becomes)
    if reason is not None and kind == "audio" and container == MATROSKA and (track := sound_track(stream)) is not None:
        return StreamPlan(stream.index, kind, codec, copied=True, track=track)
    if reason is not None and kind == "audio":
        becomes = plain_codec(stream, codec, container)
        if becomes is not None:
            converter = PcmConverter(stream, becomes)
            if _refusal_by_trial(converter.add_stream, container, kind, becomes) is None:
                return StreamPlan(stream.index, kind, codec, copied=True, becomes=becomes)
    return StreamPlan(stream.index, kind, codec, reason is None, reason)


def returns_by_itself(stream: Any, container: Container, chapters: int, timecodes: set[str]) -> bool:
    """Whether `stream` is one that says in QuickTime's form what the output gets in another way.

    It is a text track with the names of the chapters, which are written wherever chapters are, or a timecode track
    (`tmcd`), which libavformat's MP4 and QuickTime muxers make of the tag of a video. PyAV does not show the four
    letters that tell data streams apart, so the first is known by having a sample for each chapter.

    Args:
        stream: of an open input.
        container: of the output.
        chapters: how many the input has.
        timecodes: what the tags of the videos say that go into the output.
    """
    if stream.type != "data" or "mov" not in stream.container.format.name.split(","):
        return False
    if codec_name(stream) == "bin_data":
        return container.muxer != "mpegts" and stream.frames == chapters > 0
    return container.muxer in ("mp4", "mov") and stream.metadata.get("timecode") in timecodes


def suffix_that_holds(streams: list[Any], covers: dict[int, bytes]) -> str | None:
    """The extension of a container that can hold copies of all `streams`; None if there is none.

    Args:
        streams: of an open input.
        covers: the pictures of those that are covers, by index.
    """
    for suffix, container in WAYS_OUT.items():
        if all(plan_stream(s, container, covers.get(s.index)).copied for s in streams):
            return suffix
    return None


def add_copy(output: av.container.OutputContainer, stream: Any, cover: bytes | None = None) -> Any:
    """Create the copy of `stream` in `output`, with its tags and disposition.

    Raises:
        ValueError, av.error.FFmpegError: `output` cannot hold it.
    """
    if stream.type == "attachment":
        name = stream.metadata.get("filename", f"attachment-{stream.index}")
        mime = stream.metadata.get("mimetype", "application/octet-stream")
        copy: Any = output.add_attachment(name, mime, bytes(stream.data))
    elif cover is not None and output.format.name == "matroska":  # where covers are attachments called "cover"
        extension = {"mjpeg": "jpg"}.get(codec_name(stream), codec_name(stream))
        name = stream.metadata.get("filename", f"cover.{extension}")
        mime = stream.metadata.get("mimetype", f"image/{'jpeg' if extension == 'jpg' else extension}")
        copy = output.add_attachment(name, mime, cover)
    else:
        copy = output.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        if stream.type == "audio" and output.format.name in ("mp4", "mov"):
            _name_layout(copy.codec_context)
        copy.disposition = stream.disposition
    copy.metadata.update(stream_tags(stream))
    return copy


def _name_layout(context: Any) -> None:
    """Name the usual order of channels where the input says only how many; without one MP4 refuses PCM."""
    usual = USUAL_LAYOUTS.get(context.layout.nb_channels)
    if usual is not None and context.layout.name.endswith("channels"):
        context.layout = usual


def read_covers(path: Path, container: av.container.InputContainer, picture_index: int) -> dict[int, bytes]:
    """The encoded pictures of all covers of a file, by stream index."""
    indices = [s.index for s in container.streams if is_cover(s) and s.index != picture_index]
    covers: dict[int, bytes] = {}
    for index in indices:
        with open_input(path) as again:
            for packet in packets(again, again.streams[index], path=path):
                if packet.size:
                    covers[index] = bytes(packet)
                    break
    return covers


def container_tags(container: av.container.InputContainer) -> dict[str, str]:
    """The tags of a file that are true of its copy too."""
    return {k: v for k, v in container.metadata.items() if k.lower() not in CONTAINER_TAGS}


def needs_free_tags(container: av.container.InputContainer, covers: dict[int, bytes]) -> bool:
    """Whether MP4's usual tags have no place for one of the file's, as for those that phones write.

    Its free form (mdta keys) takes any, but no cover.
    """
    return not covers and any(tag.lower() not in MP4_TAGS for tag in container_tags(container))


def stream_tags(stream: Any) -> dict[str, str]:
    """The tags of a stream that are true of its copy too.

    libavformat calls the name of a track `name` when it reads QuickTime's containers, and `title` everywhere else.
    """
    tags = {k: v for k, v in stream.metadata.items() if _tag_is_about_content(k)}
    if "mov" in stream.container.format.name.split(",") and "title" not in tags and "name" in tags:
        tags["title"] = tags.pop("name")
    return tags


def _tag_is_about_content(tag: str) -> bool:
    name = tag.lower().split("-")[0]
    return name not in STATISTICS_TAGS and not name.startswith("_statistics")


def _refusal_by_trial(create: Callable[[Any], Any], container: Container, kind: str, codec: str) -> str | None:
    """Try to write a header with the one stream that `create` adds: muxers have rules that their tables do not show."""
    scratch = av.open(io.BytesIO(), "w", format=container.muxer)
    try:
        copy = create(scratch)
        if copy.type not in ("attachment", "data"):  # of which a muxer has nothing to say without a picture
            scratch.start_encoding()
    except (av.error.FFmpegError, ValueError) as exc:
        return _cannot_hold(container, kind, codec, exc)
    finally:
        # An empty file has no valid trailer in some containers, and nobody will read this one.
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            scratch.close()
    return None


def _has_form(container: Container, kind: str, codec: str) -> bool:
    """Whether what libavformat would write could be found again."""
    if kind == "attachment":
        return container.muxer == "matroska"
    if container.muxer == "mpegts":
        return codec in TS_CODECS.get(kind, ()) or (container == M2TS and codec in M2TS_CODECS)
    return kind != "data"


def _cannot_hold(container: Container, kind: str, codec: str, exc: BaseException | None) -> str:
    hint = ""
    if kind == "subtitle" and codec in TEXT_SUBTITLES and container.muxer in ("mp4", "mov"):
        hint = " (it holds mov_text only)"
    detail = "" if exc is None or isinstance(exc, ValueError) else f": {getattr(exc, 'strerror', None) or exc}"
    return f"{container.title} cannot hold {codec} {kind}{hint}{detail}"
