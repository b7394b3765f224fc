"""Engines built in a process of their own, beside a job that goes on meanwhile.

A process rather than a thread: it can be ended at any moment, whatever TensorRT is doing; a crash in there is a line
here; and nothing is left running when this process ends, for it ends itself as soon as nobody holds its standard input.

What is said: the request, pickled, on its standard input, which stays open; one JSON object on its standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final

from vsr import errors
from vsr.errors import BackendError, InterruptedJobError, VsrError
from vsr.gpu import tensorrt_api
from vsr.gpu.build import EngineRequest, build_engine
from vsr.store import remove_temporaries

LOOK_S: Final = 0.05  # between two looks whether the process has ended
GRACE_S: Final = 1.0  # that it has to remove its temporary files
COUNT_BYTES: Final = 8


def build_elsewhere(request: EngineRequest, path: Path, runtime: str, unwanted: threading.Event) -> None:
    """See in another process that the engine of `request` is at `path`.

    Args:
        request: what to build.
        path: where.
        runtime: `tensorrt` or `tensorrt-rtx`.
        unwanted: when it is set the building ends at once.

    Raises:
        ModelError, BackendError, OutputError: as `vsr.gpu.build.build_engine`; or the process crashed.
        InterruptedJobError: `unwanted` was set.
    """
    message = pickle.dumps((request, path, runtime))
    process = _start()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended already: its exit status says more
            process.stdin.write(len(message).to_bytes(COUNT_BYTES, "big") + message)
            process.stdin.flush()
        while process.poll() is None:
            if unwanted.wait(LOOK_S):
                raise InterruptedJobError(f"interrupted while {path.name} was being built")
        answer = process.stdout.read()
    finally:
        _end(process)
    _raise_what_it_says(answer, process.returncode, path)


def _start() -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])  # which may be on this process's path by its own doing only
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    try:
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for this process, which then lets go of the other
        )
    except (OSError, ValueError, TypeError) as exc:  # no interpreter to start, as in a program that embeds Python
        raise BackendError(f"no process to build engines in can be started: {exc}") from exc


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _raise_what_it_says(answer: bytes, status: int, path: Path) -> None:
    if not answer:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise BackendError(f"the process that built {path.name} ended with {how} and no word")
    said: dict[str, Any] = json.loads(answer)
    if said["error"] is not None:
        kind = getattr(errors, str(said["error"]), BackendError)
        raise kind(said["message"], said["hint"])


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """What the other process does."""
    count = int.from_bytes(stdin.read(COUNT_BYTES), "big")
    request, path, runtime = pickle.loads(stdin.read(count))  # from the process that started this one
    threading.Thread(target=_end_with_the_other, args=(stdin,), daemon=True).start()
    said: dict[str, str | None] = {"error": None}
    try:
        build_engine(request, path, api=tensorrt_api.load(runtime))
    except VsrError as error:
        said = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except Exception as error:
        said = {"error": "BackendError", "message": f"{type(error).__name__}: {error}", "hint": None}
    stdout.write(json.dumps(said).encode())
    stdout.flush()


def _end_with_the_other(stdin: BinaryIO) -> None:
    """Wait until the other process closes its end, or is no more."""
    os.read(stdin.fileno(), 1)  # past the buffer, whose lock this thread would still hold when Python ends
    remove_temporaries()
    os._exit(1)


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
