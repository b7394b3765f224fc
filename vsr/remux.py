"""The remux: every stream but the picture, copied packet by packet, with chapters, attachments and metadata.

It reads the input through a second handle, so that packets are pulled when the muxer wants them: memory stays bounded
however badly the input is interleaved, and no copied packet waits behind a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import av.container

from vsr.copying.data_tracks import DataTrack, add_data_track
from vsr.copying.linear_pcm import PcmConverter
from vsr.copying.packet_times import PacketTimes
from vsr.copying.packet_window import PacketWindow
from vsr.copying.selection import Selection, real_videos
from vsr.copying.sound_changes import SoundChanges
from vsr.copying.stream_rules import (
    StreamPlan,
    add_copy,
    container_tags,
    needs_free_tags,
    plan_stream,
    read_covers,
    returns_by_itself,
    stream_tags,
    suffix_that_holds,
)
from vsr.copying.subtitles import EMPTY_TEXT, TextConverter
from vsr.copying.timecode import begun_later
from vsr.copying.wave_sound import add_stand_in, make_room
from vsr.errors import ContainerError
from vsr.reading.demux import open_input, packets, read_only
from vsr.trim import Window
from vsr.writing.containers import Container
from vsr.writing.matroska import SoundTrack

OnUnsupported = Literal["fail", "drop"]
WHOLE: Final = Window()


class Remux:
    """The other streams of one input.

    Args:
        path: the input.
        picture_index: the stream that is upscaled, and so not copied.
        container: of the output.
        on_unsupported: `fail` before the work starts if the container cannot hold a stream, or `drop` it with a note.
        window: the part of the input that is wanted.
        selection: the streams that are wanted; the others are left out without a word.
        skipped: how many pictures come before the first that is wanted; a time code goes on by as many.

    Raises:
        ContainerError: a stream cannot be held and `on_unsupported` is `fail`.
    """

    def __init__(
        self,
        path: Path,
        picture_index: int,
        container: Container,
        on_unsupported: OnUnsupported = "fail",
        *,
        window: Window = WHOLE,
        selection: Selection | None = None,
        skipped: int = 0,
    ) -> None:
        self._path = path
        self._input = open_input(path)
        self._outputs: dict[int, Any] = {}
        self._pending: av.Packet[Any] | None = None
        self._packets: Iterator[av.Packet[Any]] | None = None
        self._times: dict[int, PacketTimes] = {}
        self._window = window
        self._skipped = skipped
        self._changes: dict[int, SoundChanges] = {}
        self._container = container
        self._texts: dict[int, TextConverter] = {}
        self._sounds: dict[int, PcmConverter] = {}
        self.packets_copied: dict[int, int] = {}
        try:
            self._covers = read_covers(path, self._input, picture_index)
            wanted = (selection or Selection()).wanted(self._input, str(path))
            others = [s for s in self._input.streams if s.index != picture_index and s.index in wanted]
            plans = [plan_stream(s, container, self._covers.get(s.index)) for s in others]
            self.plans = self._without_loss(plans, picture_index)
            self._refuse(container, on_unsupported)
        except BaseException:
            self._input.close()
            raise
        copied = {p.index for p in self.plans if p.copied}
        read_only(self._input, copied)
        self._picture = self._input.streams[picture_index]

    @property
    def notes(self) -> list[str]:
        """One line for each stream that is left out or converted, and for each further video."""
        lost = [
            f"stream {p.index} ({p.kind}, {p.codec}) is left out: {p.reason}"
            for p in self.plans
            if not (p.copied or p.returns)
        ]
        numbers = {s.index: n for n, s in enumerate(real_videos(self._input))}
        lost += [
            f"stream {p.index} ({p.kind}, {p.codec}) is copied as it is; --video-stream {numbers[p.index]} upscales "
            "that one instead"
            for p in self.plans
            if p.copied and p.index in numbers
        ]
        return lost + [
            f"stream {p.index} ({p.kind}, {p.codec}) becomes {p.becomes}, "
            + ("the same samples in a form" if p.kind == "audio" else "the text")
            + f" that {self._container.title} holds"
            for p in self.plans
            if p.becomes
        ]

    @property
    def afterthoughts(self) -> list[str]:
        """One line for each stream in which something was found while it was copied."""
        trimmed = self._window.start is not None or self._window.end is not None
        found = [
            f"nothing of stream {p.index} ({p.kind}, {p.codec}) lies in this part"
            for p in self.plans
            if trimmed
            and self.packets_copied.get(p.index) == 0
            and p.kind != "attachment"
            and p.index not in self._covers
        ]
        for index, times in sorted(self._times.items()):
            stream = self._input.streams[index]
            if times.shifted:
                found.append(
                    f"{times.shifted} time stamps of stream {index} ({stream.type}) did not increase, by up to "
                    f"{times.jump_s:.3f} s, and were moved to the next tick"
                )
        for index, changes in sorted(self._changes.items()):
            found += [f"stream {index} (audio) {change}" for change in changes.notes]
        for index, sound in sorted(self._sounds.items()):
            if sound.damaged:
                found.append(f"{sound.damaged} packets of stream {index} (audio) are damaged and were left out")
        return found

    def close(self) -> None:
        """Close the input."""
        self._input.close()

    def add_streams(self, output: av.container.OutputContainer, *, after_picture: bool) -> None:
        """Create the copied streams in `output`: those before the picture in the input, or those after it."""
        for plan in self.plans:
            if plan.copied and (plan.index > self._picture.index) == after_picture:
                stream = self._input.streams[plan.index]
                self._outputs[plan.index] = self._create(output, stream, plan)
                self.packets_copied[plan.index] = 0

    def copy_metadata(self, output: av.container.OutputContainer, picture: Any) -> None:
        """Copy tags and chapters of the file, and tags and disposition of the picture stream."""
        rate = self._picture.average_rate
        output.metadata.update(begun_later(container_tags(self._input), self._skipped, rate))
        chapters = self._window.chapters(self._input.chapters())
        if chapters:
            output.set_chapters(chapters)
        picture.metadata.update(begun_later(stream_tags(self._picture), self._skipped, rate))
        picture.disposition = self._picture.disposition

    @property
    def videos_before_picture(self) -> int:
        """How many copied videos come before the one that is upscaled, covers not counted."""
        real = {s.index for s in real_videos(self._input) if s.index < self._picture.index}
        return sum(p.copied and p.index in real for p in self.plans)

    @property
    def sound_tracks(self) -> tuple[SoundTrack, ...]:
        """What has to go into Matroska's header for streams that its muxer cannot describe."""
        return tuple(p.track for p in self.plans if p.copied and p.track is not None)

    @property
    def needs_free_tags(self) -> bool:
        """Whether MP4 has to be written with tags in free form to keep all of them."""
        return needs_free_tags(self._input, self._covers)

    @property
    def tick_rates(self) -> list[int]:
        """In which the times of copied sound (its sample rates) and of timed metadata are counted, in Hz."""
        streams: list[Any] = [self._input.streams[p.index] for p in self.plans if p.copied and p.kind == "audio"]
        rates = [s.codec_context.sample_rate for s in streams if s.codec_context.sample_rate]
        ticks = [self._input.streams[p.index].time_base for p in self.plans if p.data is not None]
        return rates + [tick.denominator for tick in ticks if tick is not None]

    def data_tracks(self, picture: int) -> dict[int, DataTrack]:
        """What MP4's header has to say of copied timed metadata, by stream of the output.

        Args:
            picture: index in the output of the stream that is upscaled.
        """
        indices = {index: int(copy.index) for index, copy in self._outputs.items()}
        indices[self._picture.index] = picture
        found = {}
        for plan in self.plans:
            if plan.data is not None and plan.index in indices:
                references = tuple(
                    (kind, tuple(indices[i] for i in to if i in indices)) for kind, to in plan.data.references
                )
                found[indices[plan.index]] = replace(plan.data, references=references)
        return found

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
            self._packets = self._wanted_packets(streams)
        while True:
            packet = self._pending or next(self._packets, None)
            self._pending = None
            if packet is None:
                for index, times in self._times.items():
                    for left in times.rest():
                        yield from self._ready(index, left)
                return
            at = packet.dts if packet.dts is not None else packet.pts
            if time is not None and at is not None and at * packet.time_base > time:
                self._pending = packet
                return
            index = packet.stream_index
            kind = "cover" if index in self._covers else str(packet.stream.type)
            times = self._times.setdefault(index, PacketTimes(kind, self._container, self._tick(packet.stream)))
            for admitted in times.admit(packet):
                yield from self._ready(index, admitted)

    def _ready(self, index: int, packet: Any) -> Iterator[Any]:
        """`packet` of the input's stream `index` in the form and the stream that it has in the output."""
        converter = self._texts.get(index)
        ready = packet if converter is None else converter.convert(packet)
        if ready is not None:
            if index in self._changes:
                ready = self._changes[index].copyable(ready)
            ready.stream = self._outputs[index]
            self.packets_copied[index] += 1
            yield ready

    def _wanted_packets(self, streams: list[Any]) -> Iterator[av.Packet[Any]]:
        """The packets of `streams` that lie in the window, at their times in the output."""
        windows = {s.index: PacketWindow(s, self._window) for s in streams}
        self._changes = {s.index: SoundChanges(s, self._container) for s in streams if s.type == "audio"}
        for read in packets(self._input, *streams, path=self._path):
            # Before the window is applied: samples may begin in a packet that lies before it.
            sound = self._sounds.get(read.stream_index) if read.size else None
            packet = read if sound is None else sound.convert(read)
            if packet is not None and packet.size and not self._is_filler(packet):
                changes = self._changes.get(packet.stream_index)
                if changes is not None and not changes.look_at(packet):
                    continue
                admitted = windows[packet.stream_index].admit(packet)
                if admitted:  # the window has begun
                    for window in windows.values():
                        yield from window.rest()
                yield from admitted
        for window in windows.values():
            yield from window.rest()

    def _tick(self, stream: Any) -> Fraction:
        """In which the output may count the times of a stream's copy, at most: MP4 counts sound in samples."""
        samples = self._container.muxer in ("mp4", "mov") and stream.type == "audio" and stream.codec_context
        return Fraction(1, stream.codec_context.sample_rate or 1) if samples else Fraction(0)

    def _create(self, output: av.container.OutputContainer, stream: Any, plan: StreamPlan) -> Any:
        if plan.data is not None:
            created = add_data_track(output, stream)
        elif plan.becomes is None and plan.track is None:
            return add_copy(output, stream, self._covers.get(plan.index))
        elif plan.track is not None:
            created = add_stand_in(output, stream, plan.track)
        elif plan.kind == "audio":
            sound = self._sounds[plan.index] = PcmConverter(stream, str(plan.becomes))
            created = sound.add_stream(output)
        else:
            text = self._texts[plan.index] = TextConverter(stream, str(plan.becomes))
            created = text.add_stream(output)
        created.time_base = stream.time_base
        created.disposition = stream.disposition
        created.metadata.update(stream_tags(stream))
        if plan.track is not None:
            make_room(created, plan.track)
        return created

    def _without_loss(self, plans: list[StreamPlan], picture_index: int) -> list[StreamPlan]:
        """`plans`, in which is marked what need not be copied."""
        videos = {picture_index, *(p.index for p in plans if p.copied and p.kind == "video")}
        timecodes = {tag for index in videos if (tag := self._input.streams[index].metadata.get("timecode"))}
        chapters = len(self._input.chapters())
        return [
            replace(p, returns=returns_by_itself(self._input.streams[p.index], self._container, chapters, timecodes))
            for p in plans
        ]

    def _is_filler(self, packet: av.Packet[Any]) -> bool:
        """Whether this is the empty sample that MP4 has between two subtitles: its muxer writes them by itself."""
        text = packet.stream.codec_context is not None and packet.stream.codec_context.name == "mov_text"
        return text and packet.size == len(EMPTY_TEXT) and bytes(packet) == EMPTY_TEXT

    def _refuse(self, container: Container, on_unsupported: OnUnsupported) -> None:
        # Data streams (camera telemetry, hints for streaming servers) have no form outside the kind of container that
        # they come from; no tool carries them over, so they are named, and not a reason to fail.
        lost = [p for p in self.plans if not p.copied and p.kind != "data"]
        if lost and on_unsupported == "fail":
            what = ", ".join(f"stream {p.index} ({p.kind}, {p.codec})" for p in lost)
            suffix = suffix_that_holds([self._input.streams[p.index] for p in lost], self._covers)
            other = "" if suffix is None else f"write {suffix}, which holds it, or "
            raise ContainerError(
                f"{container.title} cannot hold {what} of {self._path}",
                f"{other}leave it out with --on-unsupported drop",
            )
