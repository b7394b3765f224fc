"""What a whole process does: its memory, its sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clips import ffmpeg

Clip = Callable[..., Path]

AUDITED = """
import runpy, sys

def report(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "subprocess.", "os.posix_spawn", "os.system")):
        print("AUDIT", event, arguments, file=sys.stderr)

sys.addaudithook(report)
sys.argv = ["vsr", *sys.argv[1:]]
runpy.run_module("vsr", run_name="__main__")
"""


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_nothing_is_sent_anywhere(backend: str, clip: Clip, tmp_path: Path) -> None:
    """No socket is opened, no name looked up and no process started, by us or by a runtime's telemetry."""
    arguments = ("upscale", clip("a.mp4", frames=3), "-s", "2", "-m", "espcn", "--backend", backend)
    home = tmp_path / "home"
    home.mkdir()
    continuous = {"CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS"}  # where telemetry would hold its tongue
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, *map(str, arguments), "-o", str(tmp_path / "out.mp4")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**{k: v for k, v in os.environ.items() if k not in continuous}, "HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    assert "AUDIT" not in done.stderr
    assert not (home / "intel").exists()  # where openvino-telemetry keeps its counters


TWO_UPSCALERS = """
import os, signal
import numpy as np
import vsr

picture = np.zeros((8, 8), np.uint8)
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
first = vsr.Upscaler(scale=2, model="espcn")
first.upscale(picture)
second = vsr.Upscaler(scale=2, model="espcn")
second.upscale(picture)
del first
del second
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_survived_after_engines_that_lived_side_by_side() -> None:
    """OpenVINO gives the thread a signal stack of its own, and takes it away when the first of its cores dies."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_UPSCALERS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


FIRST_FRAME = """
import sys, time
import vsr

vsr.upscale(*sys.argv[1:], on_progress=lambda p: p.frames == 1 and print(time.process_time()))
"""


def test_the_first_frame_is_out_within_a_second_of_the_processor(clip: Clip, tmp_path: Path) -> None:
    """Interpreter and imports included; the first run, which measures precisions and compiles, does not count."""
    source, spent = clip("a.mp4", frames=3), []
    for number in range(3):
        command = [sys.executable, "-c", FIRST_FRAME, str(source), str(tmp_path / f"out{number}.mp4")]
        spent.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert min(spent[1:]) < 1.0


GROWTH = """
import gc, json, resource, sys, tracemalloc
import vsr

source, result, traced, *at = sys.argv[1:]
marks = [int(n) for n in at]
held, resident, faults = [], [], []

def look(progress):
    if progress.frames not in marks:
        return
    pages = int(open("/proc/self/statm").read().split()[1])
    resident.append(pages * resource.getpagesize())
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    if tracemalloc.is_tracing():
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])

if traced == "traced":
    tracemalloc.start()
vsr.upscale(source, result, 2, model="fast", precision="int8", preset="ultrafast", on_progress=look)
print(json.dumps({"held": held, "resident": resident, "faults": faults}))
"""


def growth(source: Path, result: Path, *marks: int, traced: bool = False) -> dict[str, list[int]]:
    """Bytes held by Python's allocator, resident bytes, and page faults so far, after each of `marks` frames."""
    arguments = [str(source), str(result), "traced" if traced else "plain", *map(str, marks)]
    done = subprocess.run([sys.executable, "-c", GROWTH, *arguments], capture_output=True, text=True, check=True)
    found: dict[str, list[int]] = json.loads(done.stdout)
    return found


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=80"),
        *("-f", "lavfi", "-i", "sine=d=80", "-c:v", "libx264", "-preset", "ultrafast"),
        *("-c:a", "libmp3lame", source),
    )
    seen = growth(source, tmp_path / "out.mkv", 300, 2000)
    early, late = seen["resident"]
    assert late <= 1.05 * early, f"{early >> 20} MiB after 300 frames, {late >> 20} MiB after 2000"
    assert seen["faults"][1] - seen["faults"][0] <= 1700, "a frame should find the memory that one before it has left"


def test_nothing_is_held_for_each_frame(clip: Clip, tmp_path: Path) -> None:
    source = clip("long.mkv", frames=400)
    # many each, for now more and now fewer frames are in flight, and the least of them counts
    marks = [*range(60, 120, 2), *range(340, 400, 2)]
    held = growth(source, tmp_path / "out.mkv", *marks, traced=True)["held"]
    early, late = min(held[:30]), min(held[30:])
    assert late - early <= 280 * 100, f"{(late - early) / 280:.0f} bytes a frame"
