"""The remux: every stream but the picture, copied packet by packet, with chapters, attachments and metadata.

It reads the input through a second handle, so that packets are pulled when the muxer wants them: memory stays bounded
however badly the input is interleaved, and no copied packet waits behind a frame.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import av.container
import av.error
import av.stream

from vsr.containers import Container
from vsr.demux import open_input, packets
from vsr.errors import ContainerError

OnUnsupported = Literal["fail", "drop"]

# Written by muxers about their own file; they would be untrue of another one.
CONTAINER_TAGS: Final = {"major_brand", "minor_version", "compatible_brands", "encoder"}
STATISTICS_TAGS: Final = {"bps", "duration", "number_of_frames", "number_of_bytes", "encoder"}
EMPTY_TEXT: Final = b"\0\0"  # a timed text sample of length zero (3GPP TS 26.245)
# libavformat would put anything into a transport stream as private data, which no player could find again.
TS_CODECS: Final = {
    "audio": ["aac", "aac_latm", "mp2", "mp3", "ac3", "eac3", "ac4", "dts", "truehd", "opus", "pcm_bluray", "s302m"],
    "subtitle": ["dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle"],
    "data": ["klv", "scte_35", "timed_id3"],
    "video": ["h264", "hevc", "mpeg2video", "mpeg1video", "vvc"],
}
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
    """

    index: int
    kind: str
    codec: str
    copied: bool
    reason: str | None = None


class Remux:
    """The other streams of one input.

    Args:
        path: the input.
        picture_index: the stream that is upscaled, and so not copied.
        container: of the output.
        on_unsupported: `fail` before the work starts if the container cannot hold a stream, or `drop` it with a note.

    Raises:
        ContainerError: a stream cannot be held and `on_unsupported` is `fail`.
    """

    def __init__(
        self, path: Path, picture_index: int, container: Container, on_unsupported: OnUnsupported = "fail"
    ) -> None:
        self._path = path
        self._input = open_input(path)
        self._outputs: dict[int, Any] = {}
        self._pending: av.Packet[Any] | None = None
        self._packets: Iterator[av.Packet[Any]] | None = None
        self._last_dts: dict[int, int] = {}
        self._fills_gaps = container.muxer in ("mp4", "mov")
        self.packets_copied: dict[int, int] = {}
        self.shifted = 0
        try:
            self.plans = [self._plan(s, container) for s in self._input.streams if s.index != picture_index]
            self._refuse(container, on_unsupported)
        except BaseException:
            self._input.close()
            raise
        copied = {p.index for p in self.plans if p.copied}
        for stream in self._input.streams:
            if stream.index not in copied:
                stream.discard = av.stream.Discard.all
        self._picture = self._input.streams[picture_index]

    @property
    def notes(self) -> list[str]:
        """One line for each stream that is left out."""
        return [f"stream {p.index} ({p.kind}, {p.codec}) is left out: {p.reason}" for p in self.plans if not p.copied]

    def close(self) -> None:
        """Close the input."""
        self._input.close()

    def add_streams(self, output: av.container.OutputContainer, *, after_picture: bool) -> None:
        """Create the copied streams in `output`: those before the picture in the input, or those after it."""
        for plan in self.plans:
            if plan.copied and (plan.index > self._picture.index) == after_picture:
                stream = self._input.streams[plan.index]
                self._outputs[plan.index] = _add_copy(output, stream)
                self.packets_copied[plan.index] = 0

    def copy_metadata(self, output: av.container.OutputContainer, picture: Any) -> None:
        """Copy tags and chapters of the file, and tags and disposition of the picture stream."""
        output.metadata.update({k: v for k, v in self._input.metadata.items() if k.lower() not in CONTAINER_TAGS})
        chapters = self._input.chapters()
        if chapters:
            output.set_chapters(chapters)
        picture.metadata.update(_stream_tags(self._picture))
        picture.disposition = self._picture.disposition

    @property
    def sample_rates(self) -> list[int]:
        """Of the copied audio streams, in Hz."""
        streams: list[Any] = [self._input.streams[p.index] for p in self.plans if p.copied and p.kind == "audio"]
        return [s.codec_context.sample_rate for s in streams if s.codec_context.sample_rate]

    def packets_until(self, time: Fraction | None) -> Iterator[av.Packet[Any]]:
        """Yield packets, bound to their output streams, whose decoding time is not after `time` (seconds).

        None yields all that are left.
        """
        if not self._outputs:
            return
        if self._packets is None:
            streams = [self._input.streams[i] for i, out in self._outputs.items() if out.type != "attachment"]
            if not streams:
                return
            self._packets = packets(self._input, *streams, path=self._path)
        while True:
            packet = self._pending or next(self._packets, None)
            self._pending = None
            if packet is None:
                return
            if not packet.size or self._is_filler(packet):
                continue
            at = packet.dts if packet.dts is not None else packet.pts
            if time is not None and at is not None and at * packet.time_base > time:
                self._pending = packet
                return
            index = packet.stream_index
            self._make_increasing(packet, index)
            packet.stream = self._outputs[index]
            self.packets_copied[index] += 1
            yield packet

    def _is_filler(self, packet: av.Packet[Any]) -> bool:
        """Whether this is the empty sample that MP4 has between two subtitles: its muxer writes them by itself."""
        return self._fills_gaps and packet.size == len(EMPTY_TEXT) and bytes(packet) == EMPTY_TEXT

    def _make_increasing(self, packet: av.Packet[Any], index: int) -> None:
        """Nudge a decoding time that does not increase, which muxers refuse; healthy files have none."""
        if packet.dts is None:
            if packet.pts is None:
                return
            packet.dts = packet.pts
        last = self._last_dts.get(index)
        if last is not None and packet.dts <= last and packet.stream.type != "subtitle":
            packet.dts = last + 1
            if packet.pts is not None and packet.pts < packet.dts:
                packet.pts = packet.dts
            self.shifted += 1
        self._last_dts[index] = packet.dts

    def _plan(self, stream: Any, container: Container) -> StreamPlan:
        kind = str(stream.type)
        codec = _codec_name(stream)
        reason = None
        with av.open(io.BytesIO(), "w", format=container.muxer) as scratch:
            try:
                _add_copy(scratch, stream)
            except (ValueError, av.error.FFmpegError) as exc:
                reason = _cannot_hold(container, kind, codec, exc)
            else:
                if (kind == "attachment" and container.muxer != "matroska") or not _has_form(container, kind, codec):
                    reason = _cannot_hold(container, kind, codec, None)
        if reason is None and kind not in ("attachment", "data"):
            reason = _header_refusal(stream, container, kind, codec)
        return StreamPlan(stream.index, kind, codec, reason is None, reason)

    def _refuse(self, container: Container, on_unsupported: OnUnsupported) -> None:
        # Data streams (time code, camera telemetry, hints for streaming servers) have no form outside the container
        # they come from; no tool carries them over, so they are named, and not a reason to fail.
        lost = [p for p in self.plans if not p.copied and p.kind != "data"]
        if lost and on_unsupported == "fail":
            what = ", ".join(f"stream {p.index} ({p.kind}, {p.codec})" for p in lost)
            other = "" if container.muxer == "matroska" else "write .mkv, which holds it, or "
            raise ContainerError(
                f"{container.title} cannot hold {what} of {self._path}",
                f"{other}leave it out with --on-unsupported drop",
            )


def _add_copy(output: av.container.OutputContainer, stream: Any) -> Any:
    if stream.type == "attachment":
        name = stream.metadata.get("filename", f"attachment-{stream.index}")
        mime = stream.metadata.get("mimetype", "application/octet-stream")
        copy: Any = output.add_attachment(name, mime, bytes(stream.data))
    else:
        copy = output.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        copy.disposition = stream.disposition
    copy.metadata.update(_stream_tags(stream))
    return copy


def _stream_tags(stream: Any) -> dict[str, str]:
    return {k: v for k, v in stream.metadata.items() if _tag_is_about_content(k)}


def _tag_is_about_content(tag: str) -> bool:
    name = tag.lower().split("-")[0]
    return name not in STATISTICS_TAGS and not name.startswith("_statistics")


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    name = getattr(stream, "name", None)  # PyAV looks for it in the codec context in some cases, which is not there
    return str(stream.metadata.get("mimetype") or name or "unknown")


def _header_refusal(stream: Any, container: Container, kind: str, codec: str) -> str | None:
    """Try to write a header with this one stream: muxers have rules that their codec tables do not show."""
    scratch = av.open(io.BytesIO(), "w", format=container.muxer)
    try:
        _add_copy(scratch, stream)
        scratch.start_encoding()
    except (av.error.FFmpegError, ValueError) as exc:
        return _cannot_hold(container, kind, codec, exc)
    finally:
        # An empty file has no valid trailer in some containers, and nobody will read this one
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            scratch.close()
    return None


def _has_form(container: Container, kind: str, codec: str) -> bool:
    if container.muxer == "mpegts":
        return codec in TS_CODECS.get(kind, ())
    return kind != "data"


def _cannot_hold(container: Container, kind: str, codec: str, exc: BaseException | None) -> str:
    hint = ""
    if kind == "subtitle" and codec in TEXT_SUBTITLES and container.muxer in ("mp4", "mov"):
        hint = " (it holds mov_text only)"
    detail = "" if exc is None or isinstance(exc, ValueError) else f": {getattr(exc, 'strerror', None) or exc}"
    return f"{container.title} cannot hold {codec} {kind}{hint}{detail}"
