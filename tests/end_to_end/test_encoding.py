"""Encoders from the command line: shapes on every way out, refusals in one line, partial files without traces."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vsr
from tests.clips import ffmpeg, probe
from tests.end_to_end.command import VSR
from vsr.errors import InterruptedJobError

Clip = Callable[..., Path]
SHAPE = "16:11"
ROOM = b"(room)"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An anamorphic clip whose video has a title."""
    path = tmp_path_factory.mktemp("wide") / "wide.mkv"
    picture = ("-f", "lavfi", "-i", "testsrc2=s=72x58:r=25:d=0.4", "-vf", "setsar=16/11")
    ffmpeg(*picture, "-metadata:s:v", "title=A picture", "-c:v", "ffv1", path)
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [*VSR, "upscale", "-s", "2", "-m", "bicubic", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120)


def assert_shaped(path: Path) -> None:
    video = probe(path).video
    assert video["sample_aspect_ratio"] == SHAPE
    assert video["tags"]["title"] == "A picture"
    assert ROOM not in path.read_bytes()


def test_the_shape_goes_to_standard_output(wide: Path, tmp_path: Path) -> None:
    done = run(wide, "-o", "-", "--encoder", "vp9", "-q")
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "out.mkv").write_bytes(done.stdout)
    assert_shaped(tmp_path / "out.mkv")
    ffmpeg("-i", tmp_path / "out.mkv", "-f", "null", "-")


def test_the_shape_goes_through_a_named_pipe(wide: Path, tmp_path: Path) -> None:
    pipe, target = tmp_path / "pipe.mkv", tmp_path / "out.mkv"
    os.mkfifo(pipe)
    with target.open("wb") as file, subprocess.Popen(["cat", pipe], stdout=file) as reader:
        done = run(wide, "-o", pipe, "--encoder", "vp9", "-q")
        assert (done.returncode, done.stderr) == (0, b"")
        assert reader.wait(20) == 0
    assert_shaped(target)


def test_the_shape_is_in_what_an_interrupted_job_leaves(wide: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def progress(state: Any) -> None:
        if state.frames >= 2:
            stop.set()

    with pytest.raises(InterruptedJobError):
        vsr.upscale(
            wide,
            tmp_path / "out.mkv",
            scale=2,
            model="bicubic",
            encoder="ffv1",
            stop=stop,
            on_progress=progress,
        )
    assert [p.name for p in tmp_path.iterdir()] == ["out.partial.mkv"]
    assert_shaped(tmp_path / "out.partial.mkv")


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (("--enc-opt", "rc-lookahed=20"), "did you mean rc-lookahead?", 2),
        (("--enc-opt", "x264-params=foo=1"), "foo", 2),
        (("--enc-opt", "crf"), "name=value", 2),
        (("--tune", "warp"), "encoder x264 has film, animation", 2),
        (("--bitrate", "fast"), "bits a second", 2),
        (("--lossless", "--crf", "20"), "contradict each other", 2),
        (("--lossless", "--encoder", "prores"), "writes prores, which MP4 is not given", 1),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_file(
    arguments: tuple[str, ...], words: str, status: int, wide: Path, tmp_path: Path
) -> None:
    done = run(wide, "-o", tmp_path / "out.mp4", *arguments)
    assert done.returncode == status
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("vsr: error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_options_from_the_command_line_reach_the_encoder(wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    options = ("--tune", "grain", "--bitrate", "300k", "--enc-opt", "refs=2", "--enc-opt", "x264-params=keyint=5")
    done = run(wide, "-o", target, *options, "-q")
    assert (done.returncode, done.stderr) == (0, b"")
    settings = target.read_bytes()
    for word in (b"rc=abr", b"bitrate=300 ", b"vbv_maxrate=450 ", b"vbv_bufsize=600 ", b"ref=2 ", b"keyint=5 "):
        assert word in settings
    assert b"aq=1:0.50" in settings  # of the tune
