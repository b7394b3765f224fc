"""Sound of discs and broadcasting becomes plain PCM where that is all a container holds: the same samples, in time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import ffmpeg
from vsr.comparison.compare import compare
from vsr.copying.linear_pcm import PcmConverter
from vsr.errors import ContainerError, CorruptInputError
from vsr.job import upscale
from vsr.remux import Remux
from vsr.trim import Trim
from vsr.writing.containers import MATROSKA, TS, WEBM, Container

Clip = Callable[..., Path]
QUICK: dict[str, Any] = {"scale": 2, "model": "bicubic", "threads": 1, "preset": "ultrafast"}
LAYOUTS = {2: "stereo", 3: "3.0", 6: "5.1", 8: "7.1"}
CODECS = {".m2ts": "pcm_bluray", ".vob": "pcm_dvd", ".ts": "s302m"}


def recorded(folder: Path, suffix: str, channels: int = 2, bits: int = 24, *more: str) -> Path:
    """Half a second of pictures with another noise in each channel."""
    path = folder / f"in{suffix}"
    noise = "|".join(f"{(n + 1) / 10}*random({n})" for n in range(channels))
    video = ["mpeg2video"] if suffix == ".vob" else ["libx264", "-preset", "ultrafast", "-bf", "0"]
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.5",
        "-f", "lavfi", "-i", f"aevalsrc={noise}:s=48000:c={LAYOUTS[channels]}:d=0.5",
        "-c:v", *video, "-c:a", CODECS[suffix], "-sample_fmt", "s16" if bits == 16 else "s32", "-strict", "-2", *more,
        path,
    )  # fmt: skip
    return path


def samples(path: Path) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", "0:a:0", "-f", "s32le", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def starts(path: Path) -> tuple[float, float]:
    """When pictures and sound begin, in seconds."""
    with av.open(str(path)) as container:
        found: dict[str, float] = {}
        for packet in container.demux():
            if packet.pts is not None:
                found.setdefault(packet.stream.type, float(packet.pts * packet.time_base))
        return found["video"], found["audio"]


@pytest.mark.parametrize(
    ("suffix", "channels", "bits", "result"),
    [
        (".m2ts", 2, 24, ".mkv"),
        (".m2ts", 6, 16, ".mkv"),
        (".m2ts", 8, 24, ".mov"),
        (".m2ts", 3, 24, ".mov"),
        (".vob", 2, 24, ".mkv"),
        (".vob", 2, 16, ".mov"),
        (".ts", 2, 24, ".mkv"),
        (".ts", 6, 16, ".mp4"),
    ],
)
def test_samples_channels_and_times_stay(suffix: str, channels: int, bits: int, result: str, tmp_path: Path) -> None:
    source = recorded(tmp_path, suffix, channels, bits)
    made = tmp_path / f"out{result}"
    report = upscale(source, made, **QUICK)
    plain = "pcm_s16le" if bits == 16 else "pcm_s24le"
    assert any(f"{CODECS[suffix]}) becomes {plain}, the same samples" in note for note in report.notes)
    with av.open(str(source)) as old, av.open(str(made)) as new:
        (before,), (after,) = old.streams.audio, new.streams.audio
        assert after.codec_context.name == plain
        assert after.codec_context.channels == before.codec_context.channels
        if result != ".mkv":  # which says only how many channels there are
            assert after.layout.name == before.layout.name
    assert len(samples(source)) > 0.4 * 48000 * channels * 4
    assert samples(made) == samples(source)
    (old_picture, old_sound), (picture, sound) = starts(source), starts(made)
    assert sound - picture == pytest.approx(old_sound - old_picture, abs=0.001)
    assert [c for c in compare(source, made).checks if not c.ok] == []


def test_a_part_has_the_samples_of_that_part(tmp_path: Path) -> None:
    source, made = recorded(tmp_path, ".vob"), tmp_path / "out.mkv"
    upscale(source, made, **QUICK, start=0.2)
    part = samples(made)
    assert 0.2 * 48000 * 8 < len(part) < 0.4 * 48000 * 8
    assert samples(source).endswith(part)
    assert [c for c in compare(source, made, trim=Trim(start=Fraction(1, 5))).checks if not c.ok] == []


def test_one_other_sample_is_found(tmp_path: Path) -> None:
    source, made = recorded(tmp_path, ".ts"), tmp_path / "out.mov"
    upscale(source, made, **QUICK)
    with av.open(str(made)) as container:
        packet = next(p for p in container.demux(container.streams.audio[0]) if p.size > 100)
        at = int(packet.pos) + 50
    content = bytearray(made.read_bytes())
    content[at] ^= 1
    made.write_bytes(content)
    failed = [c.name for c in compare(source, made).checks if not c.ok]
    assert failed == ["stream 1 (audio, s302m): packets (s302m as pcm_s24le: samples are compared)"]


@pytest.mark.parametrize(("container", "channels"), [(WEBM, 2), (TS, 2), (MATROSKA, 3)])
def test_what_would_lose_something_is_refused(container: Container, channels: int, tmp_path: Path) -> None:
    """Matroska does not say that the third of three channels is the centre, and players take it for a subwoofer."""
    source = recorded(tmp_path, ".m2ts", channels)
    with pytest.raises(ContainerError, match=r"stream 1 \(audio, pcm_bluray\)"):
        Remux(source, 0, container)


def test_samples_of_another_kind_in_mid_stream_end_the_work(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    deep, shallow = recorded(tmp_path, ".m2ts"), recorded(tmp_path / "other", ".m2ts", bits=16)
    with av.open(str(deep)) as first, av.open(str(shallow)) as second:
        converter = PcmConverter(first.streams.audio[0], "pcm_s24le")
        packet = next(second.demux(second.streams.audio[0]))
        with pytest.raises(CorruptInputError, match=r"cannot become pcm_s24le: 48000 Hz, stereo, s16 follows .*s32"):
            converter.convert(packet)


def test_damaged_packets_are_left_out_and_counted(tmp_path: Path) -> None:
    with av.open(str(recorded(tmp_path, ".m2ts"))) as container:
        converter = PcmConverter(container.streams.audio[0], "pcm_s24le")
        whole = next(container.demux(container.streams.audio[0]))
        assert converter.convert(av.Packet(b"\0\0\xff\xff" + bytes(100))) is None
        assert converter.damaged == 1
        assert converter.convert(whole).size == 360 * 2 * 3
