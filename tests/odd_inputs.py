"""Inputs that no encoder at hand makes: H.264 coded field by field, packed B-frames, pictures as subtitles, mirrors.

Bitstreams and packets are written by hand, after the standards.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from tests.clips import ffmpeg

PICTURES: Final = ("-f", "lavfi", "-i")
FRAMES: Final = 12
CLOCK: Final = Fraction(1, 90_000)
X264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-threads", "1")


class Bits:
    """A bit string, written from its start (H.264 section 9.1)."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def u(self, width: int, value: int) -> Bits:
        """An unsigned number of so many bits."""
        self._bits.append(f"{value:0{width}b}")
        return self

    def flags(self, *values: int) -> Bits:
        """One bit each."""
        self._bits += [str(int(v)) for v in values]
        return self

    def ue(self, *values: int) -> Bits:
        """Unsigned Exp-Golomb codes."""
        for value in values:
            self._bits.append("0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}")
        return self

    def aligned(self, *, ones: bool = False) -> Bits:
        """Filled to a whole byte, with zeros, or as MPEG-4 does it with a zero and ones."""
        text = "".join(self._bits)
        missing = -len(text) % 8
        self._bits = [text + ("0" + "1" * (missing - 1) if ones and missing else "0" * missing)]
        return self

    def raw(self, data: bytes) -> Bits:
        """Whole bytes, on a byte border."""
        self._bits.append(f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}")
        return self

    def bytes(self) -> bytes:
        """The bits, which must be whole bytes."""
        text = "".join(self._bits)
        return int(text, 2).to_bytes(len(text) // 8, "big")


# -- H.264 in fields --------------------------------------------------------------------------------------------------

MACROBLOCKS: Final = (4, 2)  # of a field


def nal(kind: int, payload: bytes) -> bytes:
    """A NAL unit with its start code; bytes that could be taken for one get an emulation prevention byte."""
    out = bytearray()
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([3 << 5 | kind]) + bytes(out)


def _closed(bits: Bits) -> bytes:
    return bits.flags(1).aligned().bytes()


def parameter_sets() -> bytes:
    """Main profile, 4:2:0, fields or frames picture by picture, 25 frames a second, nothing reordered."""
    width, height = MACROBLOCKS
    sps = Bits().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 0, 4, 1).flags(0).ue(width - 1, height - 1)
    sps.flags(0, 0, 1, 0, 1)  # frame_mbs_only, mb_adaptive_frame_field, direct_8x8_inference, cropping, VUI
    sps.flags(0, 0, 0, 0, 1).u(32, 1).u(32, 50).flags(1, 0, 0, 0, 1, 1, 1).ue(0, 0, 10, 10, 0, 1)
    pps = Bits().ue(0, 0).flags(0, 0).ue(0, 0, 0).flags(0).u(2, 0).ue(0, 0, 0).flags(1, 0, 0)
    return nal(7, _closed(sps)) + nal(8, _closed(pps))


def coded_picture(number: int, *, bottom: bool = False, field: bool = True) -> bytes:
    """Picture `number`, a field or a frame, of I_PCM macroblocks: a bar that moves from field to field."""
    first = number == 0 and not bottom
    bits = Bits().ue(0, 7, 0).u(4, number % 16).flags(field)
    if field:
        bits.flags(bottom)
    if first:
        bits.ue(0)
    bits.u(8, (2 * number + bottom) % 256).flags(*((0, 0) if first else (0,))).ue(0, 1)
    width, height = MACROBLOCKS
    for row in range(height if field else 2 * height):
        for column in range(width):
            y, x = np.mgrid[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            y = 2 * y + bottom if field else y
            bar = abs(x - (4 + 2 * number + bottom)) < 4
            luma = np.where(bar, 200, 60 + (2 * x + y + 6 * number + 3 * bottom) % 120)
            bits.ue(25).aligned().raw(luma.astype(np.uint8).tobytes() + bytes([110]) * 64 + bytes([140]) * 64)
    return nal(5 if first else 1, _closed(bits))


def make_paff(path: Path, *, pairs: bool, whole: Iterable[int] = ()) -> None:
    """H.264 coded field by field, as broadcasters and camcorders do (picture-adaptive, PAFF).

    Args:
        path: its extension names the container.
        pairs: whether both fields of a frame are in one packet, as in MP4; else each has its own, as in what
            libavformat reads from MPEG-TS.
        whole: the numbers of pictures that are coded as frames.
    """
    stream = path.with_name(f"{path.stem}.h264")
    stream.write_bytes(parameter_sets() + coded_picture(0) + coded_picture(0, bottom=True))
    with av.open(str(stream)) as template, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        copy = out.add_stream_from_template(template.streams.video[0], opaque=True)
        copy.time_base = CLOCK
        for number in range(FRAMES):
            head = parameter_sets() if number % 8 == 0 else b""
            if number in whole:
                units = [head + coded_picture(number, field=False)]
            else:
                units = [head + coded_picture(number), coded_picture(number, bottom=True)]
            for half, data in enumerate([b"".join(units)] if pairs else units):
                packet = av.Packet(b"\0\0\0\1\x09\x10" + data)
                packet.stream, packet.time_base = copy, CLOCK
                packet.pts = packet.dts = 3600 * number + 1800 * half
                packet.duration = 3600 if pairs or number in whole else 1800
                packet.is_keyframe = number == 0 and half == 0
                out.mux(packet)


# -- MPEG-4 with packed B-frames --------------------------------------------------------------------------------------

VOP: Final = b"\0\0\1\xb6"
TIME_INCREMENT_BITS: Final = 5  # for 25 ticks a second


def make_packed(path: Path) -> None:
    """MPEG-4 in AVI whose B-frames stand in one packet with the picture after them, as DivX 5 wrote it."""
    plain = path.with_name(f"plain-{path.name}")
    picture = f"testsrc2=s=64x48:r=25,trim=end_frame={FRAMES}"
    ffmpeg(*PICTURES, picture, "-c:v", "mpeg4", "-bf", "1", "-q:v", "3", "-vtag", "XVID", plain)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        coded = [bytes(p) for p in source.demux(video=0) if p.size]
        at = min(coded[0].find(mark) for mark in (VOP, b"\0\0\1\xb3") if mark in coded[0])
        coded[0] = coded[0][:at] + b"\0\0\1\xb2DivX503b1393p\0" + coded[0][at:]
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        packed: list[bytes] = []
        for data, following in zip(coded, [*coded[1:], b""], strict=True):
            if _is_b(data):
                continue
            packed += [data + following, _not_coded()] if following and _is_b(following) else [data]
        assert len(packed) == len(coded)
        for number, data in enumerate(packed):
            packet = av.Packet(data)
            packet.stream, packet.time_base = copy, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, number == 0
            out.mux(packet)


def _is_b(data: bytes) -> bool:
    return data[data.index(VOP) + 4] >> 6 == 2


def _not_coded() -> bytes:
    """A picture that is none: it fills the slot of the one that came with the packet before (vop_coded is 0)."""
    return VOP + Bits().u(2, 1).flags(0, 1).u(TIME_INCREMENT_BITS, 0).flags(1, 0).aligned(ones=True).bytes()


# -- subtitles that are pictures --------------------------------------------------------------------------------------


def dvd_picture(width: int, height: int, color: int) -> bytes:
    """A subtitle of a DVD (sub-picture unit): one colour, shown until its stop command."""
    field = bytes([0, color]) * (height // 2)  # each line: this colour to its end
    control = 4 + 2 * len(field)
    area = struct.pack(">BBBBBB", 0, (width - 1) >> 8, (width - 1) & 255, 0, (height - 1) >> 8, (height - 1) & 255)
    show = b"\x01\x03\x32\x10\x04\xff\xf0\x05" + area + struct.pack(">BHHB", 6, 4, 4 + len(field), 255)
    stop_at = control + 4 + len(show)
    commands = struct.pack(">HH", 0, stop_at) + show + struct.pack(">HH", 20, stop_at) + b"\x02\xff"
    body = 2 * field + commands
    return struct.pack(">HH", len(body) + 4, control) + body


def make_with_subtitles(path: Path, codec: str) -> None:
    """MPEG-2 with two subtitles of `codec`: dvd_subtitle, dvbsub or dvb_teletext."""
    video = path.with_name(f"video-{path.stem}.mpg")
    picture = f"testsrc2=s=64x48:r=25,trim=end_frame={2 * FRAMES}"
    ffmpeg(*PICTURES, picture, "-c:v", "mpeg2video", "-q:v", "3", "-bf", "2", video)
    subtitles: list[tuple[Fraction, bytes]] = []
    for number in range(2):
        unit = b"\x10" + b"".join(b"\x03\x2c\xe7\xe4" + bytes([number + 7 * j & 255 for j in range(42)]) for _ in "abc")
        data = unit if codec == "dvb_teletext" else dvd_picture(32, 8, 1 + number)
        subtitles.append((Fraction(1 + 2 * number, 5), data))
    direct = codec != "dvbsub"
    target = path if direct else path.with_name(f"dvd-{path.stem}.mkv")
    with av.open(str(video)) as source, av.open(str(target), "w") as out:
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        text = out.add_mux_stream(codec if direct else "dvd_subtitle", time_base=CLOCK)
        text.metadata["language"] = "eng"
        queue: list[tuple[Fraction, int, Any]] = []
        queue += [(p.dts * p.time_base, 0, p) for p in source.demux(video=0) if p.dts is not None and p.size]
        for time, data in subtitles:
            packet = av.Packet(data)
            packet.pts = packet.dts = int(time / CLOCK)
            packet.duration, packet.time_base, packet.is_keyframe = int(Fraction(1, 5) / CLOCK), CLOCK, True
            queue.append((time, 1, packet))
        for _, kind, packet in sorted(queue, key=lambda entry: entry[:2]):
            packet.stream = text if kind else copy
            out.mux(packet)
    if not direct:
        ffmpeg("-i", target, "-map", "0", "-c:v", "copy", "-c:s", codec, path)


# -- pictures that are shown otherwise than they are stored -----------------------------------------------------------

ONE: Final = 1 << 16
MIRRORS: Final = {
    "across": (-ONE, 0, 0, 0, ONE, 0, 64 << 16, 0, 1 << 30),
    "down": (ONE, 0, 0, 0, -ONE, 0, 0, 48 << 16, 1 << 30),
    "diagonal": (0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
}


def make_mirrored(path: Path, how: str) -> None:
    """A clip of a front camera: stored mirrored, and a display matrix that mirrors it back."""
    plain = path.with_name(f"plain-{path.stem}.mkv")
    ffmpeg(*PICTURES, f"testsrc2=s=64x48:r=25,trim=end_frame={FRAMES}", *X264, "-bf", "2", plain)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(source.streams.video[0])
        copy.set_display_matrix(MIRRORS[how])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)


# -- timed metadata ---------------------------------------------------------------------------------------------------


def make_with_telemetry(path: Path, *kinds: str) -> None:
    """An MP4 with tracks of timed metadata, as cameras write them: a packet for every third picture.

    Args:
        path: of the file.
        kinds: four letters for each track; `gpmd` is GoPro's, `mebx` Apple's.
    """
    plain = path.with_name(f"plain-{path.stem}.mkv")
    ffmpeg(*PICTURES, f"testsrc2=s=64x48:r=25,trim=end_frame={FRAMES}", *X264, "-bf", "2", plain)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(source.streams.video[0])
        tracks = [out.add_mux_stream("bin_data", time_base=Fraction(1, 600)) for _ in kinds]
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.stream = copy
            out.mux(packet)
            for which, track in enumerate(tracks) if number % 3 == 0 else ():
                data = av.Packet(f"{kinds[which]} {number}".encode() * (which + 5))
                data.stream, data.time_base = track, Fraction(1, 600)
                data.pts = data.dts = 24 * number + which
                data.duration = 72
                out.mux(data)
    parts = path.read_bytes().split(b"\0\0\0\x14gpmd")  # sample entries, which are all called GoPro's so far
    entries = [b"\0\0\0\x14" + kind.encode() for kind in kinds]
    path.write_bytes(parts[0] + b"".join(e + part for e, part in zip(entries, parts[1:], strict=True)))


# -- recordings that change -------------------------------------------------------------------------------------------


def make_changing_sound(path: Path) -> None:
    """A transport stream whose sound goes from 48000 Hz in stereo to 32000 Hz in mono where another one begins."""
    parts = []
    for number, (rate, channels) in enumerate((("48000", "2"), ("32000", "1"))):
        parts.append(path.with_name(f"{number}-{path.name}"))
        inputs = (*PICTURES, "testsrc2=s=64x48:r=25:d=0.48", *PICTURES, f"sine=300:d=0.48:r={rate}")
        sound = ("-c:a", "aac", "-ac", channels, "-output_ts_offset", str(number))
        ffmpeg(*inputs, *X264, *sound, parts[-1])
    path.write_bytes(b"".join(p.read_bytes() for p in parts))


def make_late_sound(path: Path) -> None:
    """A transport stream whose tables name no sound before its last seconds, as where a programme begins."""
    parts = [path.with_name(f"{n}-{path.name}") for n in "ab"]
    ffmpeg(*PICTURES, "testsrc2=s=32x32:r=1:d=66", *X264, parts[0])
    tail = (*PICTURES, "testsrc2=s=32x32:r=1:d=2", *PICTURES, "sine=300:d=2")
    ffmpeg(*tail, *X264, "-c:a", "aac", "-output_ts_offset", "66", parts[1])
    path.write_bytes(b"".join(p.read_bytes() for p in parts))


RECIPES: Final[dict[str, Callable[[Path], None]]] = {
    "H.264 fields in pairs (PAFF)": lambda path: make_paff(path, pairs=True),
    "H.264 fields as packets (PAFF)": lambda path: make_paff(path, pairs=False),
    "H.264 fields and frames (PAFF)": lambda path: make_paff(path, pairs=False, whole=(3, 4, 7)),
    "packed B-frames": make_packed,
    "DVD subtitles": lambda path: make_with_subtitles(path, "dvd_subtitle"),
    "DVB subtitles": lambda path: make_with_subtitles(path, "dvbsub"),
    "teletext": lambda path: make_with_subtitles(path, "dvb_teletext"),
    **{f"mirrored {how}": lambda path, how=how: make_mirrored(path, how) for how in MIRRORS},  # type: ignore[misc]
    "telemetry": lambda path: make_with_telemetry(path, "gpmd", "mebx"),
    "sound that changes": make_changing_sound,
    "sound that appears late": make_late_sound,
}
