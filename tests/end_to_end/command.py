"""The command line, run as users run it: in a process of its own, whose start is spared (see `command_server`)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
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


def vsr(*arguments: str | Path, timeout: float = 120, cwd: Path | None = None) -> Outcome:
    """Run `vsr` with `arguments`; see `tests.end_to_end.command_server` for how it is started."""
    with _SERVER_LOCK:
        return _server().run([os.fspath(a) for a in arguments], cwd or Path.cwd(), timeout)


class _Server:
    """The process that starts commands, and the way to it. It ends with this one, when the socket closes."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            subprocess.Popen(
                [sys.executable, "-m", "tests.end_to_end.command_server", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def run(self, arguments: list[str], cwd: Path, timeout: float) -> Outcome:
        request = {"arguments": arguments, "cwd": os.fspath(cwd), "environment": dict(os.environ)}
        pipes = [os.pipe(), os.pipe()]
        socket.send_fds(self._requests, [json.dumps(request).encode()], [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        child = self._answer()
        late = threading.Timer(timeout, os.kill, (child, signal.SIGKILL))
        late.start()
        try:
            with ThreadPoolExecutor(1) as pool:  # both at once, or a full pipe would stop the command
                reads = [os.fdopen(read, encoding="utf-8", errors="surrogateescape") for read, _ in pipes]
                err = pool.submit(reads[1].read)
                out = reads[0].read()
                code = self._answer()
                return Outcome(code, out, err.result())
        finally:
            late.cancel()
            late.join()
            for read in reads:
                read.close()

    def _answer(self) -> int:
        answer = self._requests.recv(64)
        assert answer, "the process that starts commands has ended"
        return int(json.loads(answer))


_SERVER_LOCK = threading.Lock()
_server = cache(_Server)


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
