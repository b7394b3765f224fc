"""Inputs that cannot be used: status 1, one clear line, nothing left behind and nothing overwritten."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clips import (
    ffmpeg,
    frame_count,
    listing,
    make_clip,
    packets,
    probe,
    video_tick,
    video_times,
)
from tests.end_to_end.command import Outcome, assert_one_line, upscaled, vsr
from tests.faults.damage import cut, spoil_packets

Clip = Callable[..., Path]
LONG = {"frames": 120, "size": (48, 32), "bframes": 2, "audio": "aac", "options": {"g": "12"}}


def writable(suffix: str) -> str:
    """The name of an output in the input's container, or in Matroska for AVI, which is only read."""
    return f"out{suffix}".replace(".avi", ".mkv")


def refused(folder: Path, *arguments: str | Path, words: tuple[str, ...], result: str = "out.mp4") -> Outcome:
    """Run `vsr upscale … -o RESULT` and see that it fails in one line and leaves the folder as it was.

    RESULT exists beforehand and -y is given: a failure must not touch what is there.
    """
    existing = folder / result
    existing.write_bytes(b"precious")
    before = listing(folder)
    outcome = vsr("upscale", *arguments, "-s", "2", "-m", "bicubic", "-o", existing, "-y")
    assert_one_line(outcome, *words)
    assert listing(folder) == before
    existing.unlink()
    return outcome


def missing(path: Path) -> None:
    assert not path.exists()


def text(path: Path) -> None:
    path.write_text("Dear diary, this is not a video.\n" * 50)


def zero_bytes(path: Path) -> None:
    path.touch()


def noise(path: Path) -> None:
    path.write_bytes(bytes((i * i * 31 + i // 7) % 251 for i in range(50_000)))


def one_byte(path: Path) -> None:
    path.write_bytes(b"\0")


def audio_only(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", "-c:a", "aac", path)


def cover_art_only(path: Path) -> None:
    """A song with a picture of its cover: there is a video stream, and still no video."""
    cover = path.with_name("cover.png")
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:d=1", "-frames:v", "1", cover)
    ffmpeg(
        *("-f", "lavfi", "-i", "sine=d=0.5", "-i", cover, "-map", "0", "-map", "1"),
        *("-c:a", "aac", "-c:v", "png", "-disposition:v", "attached_pic", path),
    )
    cover.unlink()


def no_moov(path: Path) -> None:
    whole = make_clip(path.with_name("whole.mp4"), frames=30)
    content = whole.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])
    whole.unlink()


def header_only(path: Path) -> None:
    """A Matroska file whose every frame is lost."""
    whole = make_clip(path.with_name("whole.mkv"), frames=30)
    content = whole.read_bytes()
    path.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    whole.unlink()


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    """A named pipe that nobody writes to: opening it would wait for ever."""
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere.mp4")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, ("in.mp4", "not exist|no such|not found")),
        (dangling_link, ("in.mp4", "not exist|no such|not found|nowhere")),
        (folder, ("in.mp4", "folder")),
        (text, ("in.mp4", "text|not a media|no media|not media|not a video")),
        (zero_bytes, ("in.mp4", "empty|0 bytes")),
        (one_byte, ("in.mp4", "media|video|format|recogni")),
        (noise, ("in.mp4", "media|video|format|recogni")),
        (audio_only, ("in.mp4", "video|picture", "audio")),
        (cover_art_only, ("in.mp4", "video|picture")),
        (no_moov, ("in.mp4", "moov|index|cut|incomplete|truncated")),
        (header_only, ("in.mp4", "no frame|no video|no picture|cut|truncated|end of file|missing")),
        (pipe, ("in.mp4", "pipe|fifo|regular file|not a file")),
        (unix_socket, ("in.mp4", "socket|regular file|not a file|read|open")),
    ],
)
def test_what_is_no_video_is_refused(
    make: Callable[[Path], None], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    make(tmp_path / "in.mp4")
    refused(tmp_path, tmp_path / "in.mp4", words=words)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/proc/self/mem"])
def test_devices_are_refused(device: str, tmp_path: Path) -> None:
    refused(tmp_path, device, words=(device,))


def cut_mkv(clip: Clip, folder: Path) -> tuple[Path, Path]:
    whole = clip("long.mkv", **LONG)
    return whole, cut(whole, folder / "half.mkv")


def cut_faststart(clip: Clip, folder: Path) -> tuple[Path, Path]:
    whole = clip("long.mp4", **LONG, container_options={"movflags": "faststart"})
    return whole, cut(whole, folder / "half.mp4")


def cut_ts(clip: Clip, folder: Path) -> tuple[Path, Path]:
    whole = clip("long.ts", **LONG)
    return whole, cut(whole, folder / "half.ts")


def cut_webm(clip: Clip, folder: Path) -> tuple[Path, Path]:
    whole = clip("long.webm", codec="libvpx-vp9", frames=60)
    return whole, cut(whole, folder / "half.webm")


def cut_avi(clip: Clip, folder: Path) -> tuple[Path, Path]:
    whole = clip("long.avi", codec="mpeg4", frames=60)
    return whole, cut(whole, folder / "half.avi")


CUTS = [cut_mkv, cut_faststart, cut_ts, cut_webm, cut_avi]


@pytest.mark.parametrize("make", CUTS)
def test_a_file_cut_in_half_is_refused_unless_asked_for(
    make: Callable[[Clip, Path], tuple[Path, Path]], clip: Clip, tmp_path: Path
) -> None:
    _, half = make(clip, tmp_path)
    refused(
        tmp_path,
        half,
        words=(half.name, "truncated|cut|ends|incomplete|missing", "--on-truncated"),
        result=writable(half.suffix),
    )


@pytest.mark.parametrize("make", CUTS)
def test_a_file_cut_in_half_can_be_kept_and_the_missing_seconds_are_told(
    make: Callable[[Clip, Path], tuple[Path, Path]], clip: Clip, tmp_path: Path
) -> None:
    whole, half = make(clip, tmp_path)
    result = tmp_path / writable(half.suffix)
    outcome = upscaled(
        half,
        "-s",
        "2",
        "-m",
        "bicubic",
        "-o",
        result,
        "--on-truncated",
        "keep",
        "--max-decode-errors",
        "100%",
    )
    before, after = video_times(whole), video_times(result)
    assert 0 < len(after) < len(before)
    tick = video_tick(result)
    assert all(min(abs(time - old) for old in before) <= tick / 2 for time in after)
    said = re.search(r"(\d+(?:\.\d+)?) ?s(?:econds)?\b", outcome.notes)
    if make is cut_ts:  # a transport stream does not say how long it should be
        assert re.search("truncated|cut|ends|incomplete", outcome.notes), outcome.err
        return
    assert said, outcome.err
    if make is cut_avi:  # FFmpeg itself guesses the length of an AVI file without its index from the size
        assert float(said[1]) > 0
        return
    assert float(said[1]) == pytest.approx(float(before[-1] - after[-1]), abs=0.35)


def test_the_last_frame_lost_without_a_trace_in_the_sizes_is_noticed(clip: Clip, tmp_path: Path) -> None:
    """The header promises ten seconds; the file is whole in structure, and its frames end after five."""
    whole = clip("long.mkv", **LONG)
    half = cut(whole, tmp_path / "half.mkv")
    content = bytearray(half.read_bytes())
    segment = content.index(b"\x18\x53\x80\x67") + 4
    content[segment : segment + 8] = (1 << 56 | (len(content) - segment - 8)).to_bytes(8, "big")
    half.write_bytes(content)
    refused(tmp_path, half, words=("half.mkv", "truncated|cut|ends|incomplete|missing"), result="out.mkv")


SPOILED = {4, 5, 11}


def spoiled(name: str, clip: Clip, folder: Path) -> tuple[Path, Path]:
    codec = {"a.webm": "libvpx-vp9", "a.avi": "mjpeg"}.get(name, "libx264")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    audio = {"a.webm": "libopus", "a.avi": "libmp3lame", "a.mp4": "aac", "a.mkv": "aac"}[name]
    whole = clip(name, codec=codec, pix_fmt=pix_fmt, audio=audio, frames=20, options={"g": "6"})
    return whole, spoil_packets(whole, folder / f"in{whole.suffix}", SPOILED)


CONTAINERS = ["a.mp4", "a.mkv", "a.webm", "a.avi"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_frames_that_do_not_decode_are_replaced_by_the_last_one_in_sync(name: str, clip: Clip, tmp_path: Path) -> None:
    whole, broken = spoiled(name, clip, tmp_path)
    result = tmp_path / writable(whole.suffix)
    outcome = upscaled(broken, "-s", "2", "-m", "bicubic", "-o", result, "--max-decode-errors", "50%", "--json")
    before, after = video_times(whole), video_times(result)
    assert len(after) == len(before)
    assert all(abs(a - b) <= video_tick(result) / 2 for a, b in zip(before, after, strict=True))
    assert packets(result, "a:0") == packets(whole, "a:0")
    assert outcome.json["frames_repeated"] >= 1
    assert outcome.json["frames_out"] == len(before)
    assert re.search("decode|corrupt|damaged|repeated", "\n".join(outcome.json["notes"]).lower())


@pytest.mark.parametrize(("budget", "name"), [*(("0", name) for name in CONTAINERS), ("2", "a.mkv"), ("0%", "a.mp4")])
def test_more_decode_errors_than_the_budget_are_refused(budget: str, name: str, clip: Clip, tmp_path: Path) -> None:
    _, broken = spoiled(name, clip, tmp_path)
    words = ("in" + broken.suffix, "decode|corrupt|damaged", "--max-decode-errors")
    refused(tmp_path, broken, "--max-decode-errors", budget, words=words, result=writable(broken.suffix))


@pytest.mark.parametrize(("budget", "enough"), [("10%", False), ("20%", True)])
def test_the_budget_may_be_a_share_of_the_packets(budget: str, enough: bool, clip: Clip, tmp_path: Path) -> None:
    """Fifteen packets of a hundred are spoiled."""
    whole = clip("a.mkv", size=(32, 32), frames=100, options={"g": "1"})
    broken = spoil_packets(whole, tmp_path / "in.mkv", set(range(40, 55)))
    if enough:
        upscaled(broken, "-s", "2", "-m", "bicubic", "-o", tmp_path / "out.mkv", "--max-decode-errors", budget)
        assert frame_count(tmp_path / "out.mkv") == 100
    else:
        words = ("in.mkv", "decode|corrupt|damaged", "--max-decode-errors")
        refused(tmp_path, broken, "--max-decode-errors", budget, words=words, result="out.mkv")


def test_a_damaged_transport_stream_keeps_its_length(clip: Clip, tmp_path: Path) -> None:
    whole = clip("long.ts", **LONG)
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2 // 188 * 188
    for start in range(middle, middle + 12 * 188, 188):
        content[start + 20 : start + 188] = bytes(168)
    broken, result = tmp_path / "in.ts", tmp_path / "out.ts"
    broken.write_bytes(content)
    upscaled(broken, "-s", "2", "-m", "bicubic", "-o", result, "--max-decode-errors", "50%")
    before, after = video_times(whole), video_times(result)
    tick = video_tick(result)
    assert abs(before[0] - after[0]) <= tick
    assert abs(before[-1] - after[-1]) <= tick
    assert max(b - a for a, b in itertools.pairwise(after)) < 5 * (before[1] - before[0])
    assert after == sorted(set(after))


@pytest.mark.parametrize("container", ["mkv", "h264", "ts"])
def test_frames_of_another_size_are_scaled_to_the_first_or_refused(container: str, tmp_path: Path) -> None:
    first = make_clip(tmp_path / "1.ts", size=(64, 48), frames=10)
    second = make_clip(tmp_path / "2.ts", size=(96, 80), frames=10, start_offset=1)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    source = tmp_path / f"in.{container}"
    if container == "ts":
        joined.rename(source)
    else:
        ffmpeg("-i", joined, "-c", "copy", source)
    outcome = vsr("upscale", source, "-s", "2", "-m", "bicubic", "-o", tmp_path / "out.mkv")
    if outcome.code:
        assert_one_line(outcome, "size|resolution", "64x48", "96x80")
        assert not (tmp_path / "out.mkv").exists()
    else:
        assert probe(tmp_path / "out.mkv").size == (128, 96)
        assert frame_count(tmp_path / "out.mkv") == 20
        assert "96x80" in outcome.notes, outcome.err


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "100%03d.mp4",
        "a:b.mp4",
        "-dash.mp4",
        "ünï ☃.mp4",
        "'quo\"te.mp4",
        "#?&.mp4",
        "a\nb.mp4",
    ],
)
def test_strange_names_work(name: str, clip: Clip, tmp_path: Path) -> None:
    source, result = tmp_path / "in" / name, tmp_path / "out" / name
    source.parent.mkdir()
    result.parent.mkdir()
    shutil.copy(clip("a.mp4", frames=3), source)
    upscaled("-s", "2", "-m", "bicubic", "-o", f"out/{name}", "--", f"in/{name}", cwd=tmp_path)
    assert [p.name for p in result.parent.iterdir()] == [name]
    assert frame_count(result) == 3


def test_a_name_that_is_no_text_works_or_is_refused_in_one_line(clip: Clip, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(clip("a.mp4", frames=3), tmp_path / name)
    outcome = vsr("upscale", name, "-s", "2", "-m", "bicubic", "-o", "out.mp4", cwd=tmp_path)
    if outcome.code:
        assert_one_line(outcome)
        assert not (tmp_path / "out.mp4").exists()
    else:
        assert frame_count(tmp_path / "out.mp4") == 3
