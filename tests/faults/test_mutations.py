"""Two hundred damaged inputs: each ends in success or in a VsrError, in time, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

Clip = Callable[..., Path]
CASES = 200
BATCH = 50
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bases(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of whole clips, one for each container."""
    folder = tmp_path_factory.mktemp("bases")
    size = {"size": (48, 32), "frames": 10}
    for path in (
        clip("a.mp4", bframes=2, audio="aac", subtitles="mov_text", **size),
        clip(
            "b.mkv",
            bframes=2,
            audio="libopus",
            subtitles="subrip",
            chapters=True,
            attachment=b"f" * 99,
            **size,
        ),
        clip("c.ts", bframes=2, audio="aac", **size),
        clip("d.webm", codec="libvpx-vp9", audio="libopus", **size),
        clip("e.avi", codec="mpeg4", audio="libmp3lame", **size),
    ):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("first", range(0, CASES, BATCH))
def test_mutated_inputs_end_in_success_or_a_clear_error(first: int, bases: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.mutation_worker", bases, tmp_path, first, BATCH]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=ROOT, timeout=280, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1] if lines else None
    assert done.returncode == 0, f"status {done.returncode} at {last}: {done.stderr[-3000:]}"
    outcomes: Counter[str] = Counter()
    for case, answer in zip(lines[::2], lines[1::2], strict=True):
        outcomes[answer["outcome"]] += 1
        told = f"{case}: {answer}"
        assert answer["outcome"] != "crash", told
        assert answer["result"] == (answer["outcome"] == "success"), told
        assert answer["outcome"] == "success" or "\n" not in answer["message"], told
        assert answer["left"] == [], told
        assert answer["threads"] == [], told
        assert answer["files"] == [], told
    assert outcomes.total() == BATCH
    assert 0 < outcomes["success"] < BATCH, outcomes  # damage that spares everything or nothing proves little
