"""Interrupting a job: once keeps what is done as a playable file, twice stops at once."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clips import ffmpeg, frame_count, listing, probe, video_times
from tests.end_to_end.command import VSR

TIME_TO_EXIT_S = 5.0


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that takes far longer than the test."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=150", "-f", "lavfi", "-i", "sine=d=150"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", path),
    )
    return path


@contextmanager
def running(source: Path, result: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [*VSR, "upscale", str(source), "-s", "3", "-m", "bicubic", "-o", str(result), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_writing(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until some of the output lies on the disk, under whatever name."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if any(p.is_file() and p.stat().st_size > 100_000 for p in folder.iterdir()):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing was written, status {process.poll()}")


def finish(process: subprocess.Popen[str]) -> tuple[str, str, float]:
    """Standard output, standard error and the seconds the process still took."""
    asked = time.monotonic()
    out, err = process.communicate(timeout=60)
    return out, err, time.monotonic() - asked


@pytest.mark.parametrize(("number", "extension"), [(signal.SIGINT, "mp4"), (signal.SIGTERM, "mkv")])
def test_one_signal_leaves_a_playable_part_and_says_its_length(
    number: signal.Signals, extension: str, long_clip: Path, tmp_path: Path
) -> None:
    result = tmp_path / f"out.{extension}"
    with running(long_clip, result) as process:
        wait_until_writing(tmp_path, process)
        process.send_signal(number)
        _, err, seconds = finish(process)
    assert process.returncode == 130, err
    assert seconds < TIME_TO_EXIT_S
    assert "Traceback" not in err
    part = tmp_path / f"out.partial.{extension}"
    assert list(listing(tmp_path)) == [part.name]
    times = video_times(part)
    assert times == sorted(set(times))
    assert len(times) == frame_count(part) > 0
    assert len(probe(part).of_type("audio")) == 1
    line = next(line for line in err.splitlines() if part.name in line)
    said = re.search(r"(\d+(?:\.\d+)?) ?s\b", line)
    assert said, line
    assert float(said[1]) == pytest.approx(float(times[-1] - times[0]), abs=0.2)


def test_an_interrupted_job_leaves_an_existing_output_alone(long_clip: Path, tmp_path: Path) -> None:
    result = tmp_path / "out.mp4"
    result.write_bytes(b"precious")
    with running(long_clip, result, "-y") as process:
        wait_until_writing(tmp_path, process)
        process.send_signal(signal.SIGINT)
        _, err, _ = finish(process)
    assert process.returncode == 130, err
    assert result.read_bytes() == b"precious"
    assert sorted(listing(tmp_path)) == ["out.mp4", "out.partial.mp4"]


@pytest.mark.parametrize("pause", [0.1, 0.3])
def test_two_signals_stop_at_once_and_leave_nothing(pause: float, long_clip: Path, tmp_path: Path) -> None:
    with running(long_clip, tmp_path / "out.mp4", "--preset", "slow", "--encoder", "x264") as process:
        wait_until_writing(tmp_path, process)
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        _, err, seconds = finish(process)
    assert process.returncode == 130, err
    assert seconds < 2
    assert "Traceback" not in err
    left = list(listing(tmp_path))
    if left == ["out.partial.mp4"]:  # the first signal may have been served in full by then
        assert frame_count(tmp_path / left[0]) > 0
        return
    assert left == []


@pytest.mark.parametrize("delay", [0.15, 0.4, 0.8])
def test_a_signal_while_starting_leaves_nothing_or_a_playable_part(
    delay: float, long_clip: Path, tmp_path: Path
) -> None:
    with running(long_clip, tmp_path / "out.mkv") as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err, seconds = finish(process)
    assert process.returncode in {130, -signal.SIGINT}, err  # Python itself may still be starting
    assert seconds < TIME_TO_EXIT_S
    for name in listing(tmp_path):
        assert name == "out.partial.mkv"
        assert frame_count(tmp_path / name) > 0


def test_a_signal_during_the_first_imports_is_no_traceback() -> None:
    interrupted = """
import runpy, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
runpy.run_module("vsr", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_an_interrupted_job_reports_itself_as_json(long_clip: Path, tmp_path: Path) -> None:
    with running(long_clip, tmp_path / "out.mp4", "--json") as process:
        wait_until_writing(tmp_path, process)
        process.send_signal(signal.SIGHUP)  # the terminal has been closed
        out, err, _ = finish(process)
    assert process.returncode == 130, err
    answer = json.loads(out)
    assert answer["ok"] is False
    assert "out.partial.mp4" in json.dumps(answer)


def test_an_interrupted_folder_stops_and_tells_what_was_done(long_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("1.mp4", "2.mp4"):
        (folder / name).symlink_to(long_clip)
    (tmp_path / "out").mkdir()
    with running(folder, tmp_path / "out") as process:
        wait_until_writing(tmp_path / "out", process)
        process.send_signal(signal.SIGINT)
        _, err, seconds = finish(process)
    assert process.returncode == 130, err
    assert seconds < TIME_TO_EXIT_S
    assert list(listing(tmp_path / "out")) == ["1.partial.mp4"]


def test_a_picture_that_takes_long_is_given_up_at_the_first_signal(tmp_path: Path) -> None:
    source = tmp_path / "large.png"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=1600x1200", "-frames:v", "1", source)
    with running(source, tmp_path / "out.png", "--json", "-m", "fast", "-s", "4") as process:
        time.sleep(0.8)
        process.send_signal(signal.SIGINT)
        out, err, seconds = finish(process)
    assert process.returncode in {130, -signal.SIGINT}, err  # Python itself may still be starting
    assert seconds < TIME_TO_EXIT_S
    assert list(listing(tmp_path)) == ["large.png"]
    if "a picture is written whole" in err:
        assert json.loads(out)["error"]["type"] == "InterruptedJobError"


def test_a_signal_that_the_parent_has_switched_off_stays_so(long_clip: Path, tmp_path: Path) -> None:
    command = ["nohup", *VSR, "upscale", long_clip, "-s", "3", "-m", "bicubic", "-o", tmp_path / "out.mp4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until_writing(tmp_path, process)
            process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.4)
            process.send_signal(signal.SIGTERM)
            _, err, _ = finish(process)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert list(listing(tmp_path)) == ["out.partial.mp4"]
