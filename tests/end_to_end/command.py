"""The command line, run as users run it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VSR = (sys.executable, "-m", "vsr")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("vsr: error: ")]

    @property
    def notes(self) -> str:
        """All notes in lower case."""
        return "\n".join(line for line in self.err.splitlines() if line.startswith("vsr: note: ")).lower()

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        answer = json.loads(self.out)
        assert isinstance(answer, dict)
        return answer


def vsr(*arguments: str | Path, timeout: float = 120, cwd: Path | None = None, **environment: str) -> Outcome:
    done = subprocess.run(
        [*VSR, *map(os.fspath, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def upscaled(*arguments: str | Path, **options: Any) -> Outcome:
    """`vsr upscale`, which must succeed."""
    outcome = vsr("upscale", *arguments, **options)
    assert outcome.code == 0, outcome.err
    assert not outcome.errors, outcome.err
    return outcome


def assert_one_line(outcome: Outcome, *words: str) -> str:
    """The command failed with status 1 and exactly one line, in plain words, with all of `words`.

    A word may offer alternatives: "empty|0 bytes".
    """
    assert "Traceback" not in outcome.err, outcome.err
    assert outcome.code == 1, (outcome.code, outcome.err)
    assert len(outcome.errors) == 1, outcome.err
    line = outcome.errors[0]
    assert "Errno" not in line, line
    for word in words:
        assert any(option.lower() in line.lower() for option in word.split("|")), f"{word!r} is not in: {line}"
    return line
