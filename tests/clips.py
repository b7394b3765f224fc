"""Clips made at test time, and what ffprobe says of a file.

The clips are tiny and cheap but never still: every frame differs from its neighbours, so that a lost or
swapped frame shows. The probes go through the ffprobe command and not through PyAV, so that the tests do not
ask the library under test about its own work.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)
TEXT_SUBTITLES = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}
QUICK = {
    "libx264": {"preset": "ultrafast", "crf": "20"},
    "libx265": {
        "preset": "ultrafast",
        "crf": "20",
        "x265-params": "log-level=none:pools=none:frame-threads=1",
    },
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30"},
    "libsvtav1": {"preset": "12", "crf": "40", "svtav1-params": "lp=1"},
}


def picture(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """Frame number `index`: moving waves in every plane and squares that jump."""
    frame = av.VideoFrame(width, height, pix_fmt)
    if not frame.format.is_planar and frame.format.name not in {"gray", "gray10le", "gray16le"}:
        return picture(index, width, height, "yuv444p").reformat(format=pix_fmt)
    bits = frame.format.components[0].bits
    dtype = np.uint8 if bits == 8 else np.uint16
    for number, plane in enumerate(frame.planes):
        y, x = np.mgrid[0 : plane.height, 0 : plane.line_size // dtype().itemsize]
        wave = 0.5 + 0.3 * np.sin((x + 3 * index) / (3.0 + number)) * np.cos((y - 2 * index) / 4.0)
        square = (x // 4 + y // 4 + index) % 5 == 0
        value = np.where(square, 0.6 if number else 0.85, wave)
        coded = np.rint(value * (2**bits - 1)).astype(dtype)
        plane.update(coded.tobytes())
    return frame


def frame_times(count: int, rate: Fraction, vfr: bool) -> list[Fraction]:
    """When each frame is shown: regular, or with gaps of one to four frame durations."""
    steps = [(1, 1, 3, 1, 2, 4, 1)[i % 7] if vfr else 1 for i in range(count)]
    return [Fraction(sum(steps[:i])) / rate for i in range(count)]


def make_clip(
    path: Path,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    frames: int = 12,
    pix_fmt: str = "yuv420p",
    rate: int | Fraction = 24,
    vfr: bool = False,
    bframes: int = 0,
    audio: str | None = None,
    audio_offset: Fraction | int = 0,
    subtitles: str | None = None,
    start_offset: Fraction | int = 0,
    video_tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    chapters: bool = False,
    attachment: bytes | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a clip and return its path.

    Args:
        path: where to; the extension names the container.
        start_offset: seconds added to the video's time stamps.
        audio_offset: seconds added to the audio's time stamps.
        subtitles: codec of a text subtitle track with two lines ("subrip", "mov_text", "webvtt").
        video_tags: attributes of the encoder, such as `{"color_range": 2, "colorspace": 1}`.
        options: of the encoder, over the quick ones.
        container_options: of the muxer, such as `{"movflags": "faststart"}`.
    """
    rate = Fraction(rate)
    assert codec != "libx265" or min(size) >= 64, "x265 corrupts memory on small pictures"
    with av.open(str(path), "w", options={"fflags": "bitexact", **(container_options or {})}) as container:
        container.metadata.update(metadata or {})
        encoder_options = {"threads": "1", "bf": str(bframes), **QUICK.get(codec, {}), **(options or {})}
        video = container.add_stream(codec, rate=rate, options=encoder_options)
        video.width, video.height = size
        video.pix_fmt = pix_fmt
        context = video.codec_context
        context.time_base = MILLISECOND if vfr else 1 / rate
        for key, value in (video_tags or {}).items():
            setattr(context, key, value)
        sound = container.add_stream(audio, rate=48_000, layout="stereo") if audio else None
        text = container.add_mux_stream(subtitles, time_base=MILLISECOND) if subtitles else None
        if text is not None:
            text.metadata["language"] = "eng"
        if chapters:
            container.set_chapters(
                [
                    {"id": 1, "start": 0, "end": 200, "time_base": MILLISECOND, "metadata": {"title": "One"}},
                    {
                        "id": 2,
                        "start": 200,
                        "end": 500,
                        "time_base": MILLISECOND,
                        "metadata": {"title": "Two"},
                    },
                ]
            )
        if attachment is not None:
            container.add_attachment("font.ttf", "application/x-truetype-font", attachment)

        packets: list[av.Packet] = []
        times = frame_times(frames, rate, vfr)
        for index, seconds in enumerate(times):
            frame = picture(index, *size, pix_fmt)
            frame.time_base = context.time_base
            frame.pts = round((seconds + Fraction(start_offset)) / context.time_base)
            packets += video.encode(frame)
        packets += video.encode(None)
        if sound is not None:
            packets += sound_packets(sound, times[-1] + 1 / rate, Fraction(audio_offset))
        if text is not None:
            packets += text_packets(text, subtitles or "")
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        container.mux(packets)
    return path


def sound_packets(stream: av.AudioStream, duration: Fraction, offset: Fraction) -> list[av.Packet]:
    """Two tones and some noise, encoded."""
    rate = stream.rate
    t = np.arange(int(duration * rate)) / rate
    noise = np.random.default_rng(7).standard_normal(t.size) * 0.05
    tones = np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 660 * t)]) * 0.3 + noise
    frame = av.AudioFrame.from_ndarray(tones.astype(np.float32), format="fltp", layout="stereo")
    frame.sample_rate = rate
    frame.pts = round(offset * rate)
    resampler = av.AudioResampler(stream.format, "stereo", rate, stream.frame_size or 1024)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return [packet for piece in (*pieces, None) for packet in stream.encode(piece)]


def text_packets(stream: av.stream.Stream, codec: str) -> list[av.Packet]:
    packets = []
    for start, length, line in ((50, 100, "first line"), (250, 150, "second line")):
        payload = line.encode()
        if codec == "mov_text":
            payload = len(payload).to_bytes(2, "big") + payload
        packet = av.Packet(payload)
        packet.stream, packet.time_base = stream, MILLISECOND
        packet.pts = packet.dts = start
        packet.duration = length
        packets.append(packet)
    return packets


def ffmpeg(*arguments: str | Path) -> None:
    """The ffmpeg command, for what PyAV cannot write."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def ffprobe(path: Path, *arguments: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", *arguments, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@dataclass(frozen=True)
class Probe:
    """What ffprobe says of a file's header."""

    streams: list[dict[str, Any]]
    format: dict[str, Any]
    chapters: list[dict[str, Any]]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [stream for stream in self.streams if stream["codec_type"] == kind]

    @property
    def video(self) -> dict[str, Any]:
        return self.of_type("video")[0]

    @property
    def size(self) -> tuple[int, int]:
        return int(self.video["width"]), int(self.video["height"])


def probe(path: Path) -> Probe:
    answer = ffprobe(path, "-show_streams", "-show_format", "-show_chapters")
    return Probe(answer["streams"], answer["format"], answer.get("chapters", []))


def video_tick(path: Path) -> Fraction:
    """The unit in which the container counts the video's time stamps, in seconds."""
    return Fraction(probe(path).video["time_base"])


def video_times(path: Path) -> list[Fraction]:
    """When each decoded frame is shown, in exact seconds, in the order of the decoder."""
    entries = "frame=pts:stream=time_base"
    answer = ffprobe(path, "-select_streams", "v:0", "-show_frames", "-show_entries", entries)
    unit = Fraction(answer["streams"][0]["time_base"])
    return [frame["pts"] * unit for frame in answer["frames"]]


def frame_count(path: Path) -> int:
    """How many frames ffprobe decodes."""
    answer = ffprobe(path, "-select_streams", "v:0", "-count_frames", "-show_entries", "stream=nb_read_frames")
    return int(answer["streams"][0]["nb_read_frames"])


def packets(path: Path, stream: str) -> list[tuple[Fraction, str]]:
    """Time in exact seconds and MD5 of every packet of one stream ("a:0", "s:0")."""
    answer = ffprobe(path, "-select_streams", stream, "-show_streams", "-show_packets", "-show_data_hash", "md5")
    unit = Fraction(answer["streams"][0]["time_base"])
    return [(packet["pts"] * unit, packet["data_hash"]) for packet in answer["packets"]]


def payload(path: Path, kind: str = "audio") -> bytes:
    """All bytes of the first stream of that kind, one after the other: PCM may be cut differently."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return b"".join(bytes(packet) for packet in container.demux(stream) if packet.size)


def listing(folder: Path) -> dict[str, str]:
    """Every path under the folder, hidden ones too, with a digest of its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found
