"""What the Matroska muxer cannot be told through PyAV: shape and HDR metadata of the video, and sound in WAV's form.

libavformat writes the first two from fields of its stream that PyAV does not set, and the third only for those who ask
it to be less strict than PyAV does. So a track is given a name with room in it, and once the header is written, the
room is exchanged for the elements (RFC 9559, Video and Audio; "A_MS/ACM" in the registry of codecs). Nothing after
that moves, so that it works on the way to a pipe as well as in a file.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from vsr import ebml
from vsr.ebml import TRACK_ENTRY, VIDEO
from vsr.errors import OutputError
from vsr.hdr import StaticHdr

TRACK_NAME: Final = 0x536E
DISPLAY_WIDTH: Final = 0x54B0
DISPLAY_HEIGHT: Final = 0x54BA
DISPLAY_UNIT: Final = 0x54B2
COLOUR: Final = 0x55B0
MAX_CLL: Final = 0x55BC
MAX_FALL: Final = 0x55BD
MASTERING: Final = 0x55D0
PRIMARIES: Final = 0x55D1  # this and the seven after it: x and y of red, green, blue and the white point
LUMINANCE_MAX: Final = 0x55D9
LUMINANCE_MIN: Final = 0x55DA
CODEC_ID: Final = 0x86
CODEC_PRIVATE: Final = 0x63A2
AUDIO: Final = 0xE1
SAMPLING_FREQUENCY: Final = 0xB5
CHANNELS: Final = 0x9F
WAVE_CODEC: Final = b"A_MS/ACM"  # whose private data are the format that WAV, AVI and ASF have: WAVEFORMATEX
CRC: Final = 0xBF
ROOM: Final = " (room) "
SLACK: Final = 32  # for sizes that grow by a byte or more
LARGEST_HEADER: Final = 1 << 26  # covers and fonts come after the tracks


class Part(NamedTuple):
    """An element: its identifier, its content, and all of its bytes."""

    identifier: int
    content: bytes
    raw: bytes


@dataclass(frozen=True)
class VideoTrack:
    """What is to be said of the video track.

    Attributes:
        display: width and height that have the ratio of the picture as shown, or None for square samples.
        hdr: static HDR metadata, or None.
    """

    display: tuple[int, int] | None = None
    hdr: StaticHdr | None = None

    def __bool__(self) -> bool:
        return self.display is not None or bool(self._colour())

    def room(self) -> str:
        """What to put behind the name of the track, for `Header` to find."""
        return ROOM + "." * (len(self._video(b"")) + SLACK)

    def fitted(self, parts: list[Part]) -> bytes:
        """The content of a track made of `parts`, with what is to be said."""
        return b"".join(ebml.element(VIDEO, self._video(p.content)) if p.identifier == VIDEO else p.raw for p in parts)

    def _video(self, video: bytes) -> bytes:
        """The content of the Video element, with what is to be said."""
        parts, colour = [], b""
        for identifier, content, raw in ebml.elements(video):
            if identifier == COLOUR:
                colour = content
            elif identifier not in (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT) or self.display is None:
                parts.append(raw)
        if self.display is not None:
            parts += [ebml.unsigned(DISPLAY_WIDTH, self.display[0]), ebml.unsigned(DISPLAY_HEIGHT, self.display[1])]
        colour += self._colour()
        return b"".join([*parts, ebml.element(COLOUR, colour) if colour else b""])

    def _colour(self) -> bytes:
        hdr = self.hdr or StaticHdr()
        parts = []
        if hdr.content_light:
            parts += [ebml.unsigned(MAX_CLL, hdr.content_light[0]), ebml.unsigned(MAX_FALL, hdr.content_light[1])]
        mastering = []
        if hdr.primaries and hdr.white_point:
            points = (*hdr.primaries, hdr.white_point)
            mastering += [ebml.real(PRIMARIES + i, v) for i, v in enumerate(v for point in points for v in point)]
        if hdr.luminance:
            mastering += [ebml.real(LUMINANCE_MAX, hdr.luminance[1]), ebml.real(LUMINANCE_MIN, hdr.luminance[0])]
        if mastering:
            parts.append(ebml.element(MASTERING, b"".join(mastering)))
        return b"".join(parts)


@dataclass(frozen=True)
class SoundTrack:
    """A track of sound in a codec for which Matroska has no name of its own.

    Attributes:
        format: WAVEFORMATEX, with what the decoder needs behind it.
        rate: in Hz.
        channels: how many.
    """

    format: bytes
    rate: int
    channels: int

    def room(self) -> str:
        """What to put behind the name of the track, for `Header` to find."""
        return ROOM + "." * (len(self.fitted([])) + SLACK)

    def fitted(self, parts: list[Part]) -> bytes:
        """The content of a track made of `parts`, with this sound in place of the one that stands for it."""
        audio = ebml.real(SAMPLING_FREQUENCY, self.rate) + ebml.unsigned(CHANNELS, self.channels)
        kept = b"".join(p.raw for p in parts if p.identifier not in (CODEC_ID, CODEC_PRIVATE, AUDIO))
        own = ((CODEC_ID, WAVE_CODEC), (CODEC_PRIVATE, self.format), (AUDIO, audio))
        return kept + b"".join(ebml.element(identifier, content) for identifier, content in own)


@dataclass(frozen=True)
class Header:
    """What is to be said of tracks that have been given room.

    Attributes:
        video: of the video track.
        sounds: of tracks of sound, in their order.
    """

    video: VideoTrack = field(default_factory=VideoTrack)
    sounds: tuple[SoundTrack, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.video or self.sounds)

    def fitted(self, head: bytes) -> bytes | None:
        """`head`, the beginning of a file, with the room exchanged; None if more of the file is needed.

        Raises:
            OutputError: the header is not as libavformat writes it.
        """
        try:
            found = ebml.tracks(head)
            if found is None:
                return None
            start, end = found
            return head[:start] + self._tracks_fitted(head[start:end]) + head[end:]
        except ebml.EbmlError as exc:
            raise _unexpected(str(exc)) from exc

    def _tracks_fitted(self, payload: bytes) -> bytes:
        sounds = list(self.sounds)
        video = [self.video] if self.video else []
        parts = []
        for identifier, content, raw in ebml.elements(payload):
            if identifier == TRACK_ENTRY:
                raw = raw[: len(raw) - len(content)] + _entry_fitted(content, video, sounds)
            parts.append((identifier, raw))
        if video or sounds:
            raise _unexpected("a track has no room")
        body = b"".join(raw for identifier, raw in parts if identifier != CRC)
        if parts[0][0] != CRC:
            return body
        return ebml.element(CRC, struct.pack("<I", zlib.crc32(body))) + body


def _entry_fitted(entry: bytes, video: list[VideoTrack], sounds: list[SoundTrack]) -> bytes:
    """A track of the same length, with what is to be said of it if it has room; that is taken from its list then."""
    parts, has_room, pictures = [], False, False
    for identifier, content, raw in ebml.elements(entry):
        pictures |= identifier == VIDEO
        if identifier == TRACK_NAME and ROOM.encode() in content:
            has_room = True
            name = content.rpartition(ROOM.encode())[0]
            raw = ebml.element(TRACK_NAME, name) if name else b""
        parts.append(Part(identifier, content, raw))
    if not has_room or not (video if pictures else sounds):
        return entry
    body = video.pop().fitted(parts) if pictures else sounds.pop(0).fitted(parts)
    return body + ebml.void(len(entry) - len(body))


class FittedStream:
    """A stream on which the header is held back until it can be fitted; all else passes through.

    Args:
        path: of a pipe or a device; None for standard output.
        header: what to say.
    """

    def __init__(self, path: Path | None, header: Header) -> None:
        self._stream: BinaryIO = os.fdopen(os.dup(sys.stdout.fileno()), "wb") if path is None else path.open("wb")
        self._header = header
        self._held: bytes | None = b""

    def write(self, data: bytes) -> int:
        """Write `data`, now or with the rest of the header."""
        ready: bytes | None = data
        if self._held is not None:
            self._held += bytes(data)
            ready = self._header.fitted(self._held)
        if ready is not None:
            self._held = None
            self._stream.write(ready)
            self._stream.flush()  # whoever watches need not wait for a buffer to fill
        return len(data)

    def close(self) -> None:
        """Write what is held back and close the stream."""
        held, self._held = self._held, None
        try:
            if held:
                self._stream.write(held)
        finally:
            self._stream.close()


def fit_file(path: Path, header: Header) -> None:
    """Exchange the room in the header of the finished file at `path`.

    Raises:
        OutputError: the header is not as libavformat writes it.
    """
    with path.open("rb+") as file:
        size = 1 << 12
        while True:
            head = file.read(size)
            fitted = header.fitted(head)
            if fitted is not None:
                break
            if len(head) < size or size > LARGEST_HEADER:
                raise _unexpected("it has no tracks")
            size *= 2
            file.seek(0)
        file.seek(0)
        file.write(fitted)


def display_size(width: int, height: int, shape: Fraction | None) -> tuple[int, int] | None:
    """Width and height in the exact ratio in which a picture is shown, near to its own size; None if they are its own.

    Args:
        width: of the picture, in samples.
        height: likewise.
        shape: width of a sample over its height, or None if unknown.
    """
    if shape is None or shape <= 0 or shape == 1:
        return None
    ratio = width * shape / height
    times = max(1, math.ceil(Fraction(height, ratio.denominator)))
    return ratio.numerator * times, ratio.denominator * times


def _unexpected(what: str) -> OutputError:
    return OutputError(f"the Matroska header is not as expected: {what}", "write .mp4, or report this")
