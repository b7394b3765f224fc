"""Upscales mutated clips in this process, one JSON line for each, so that a crash shows which one it was.

python -m tests.faults.mutation_worker BASES FOLDER FIRST COUNT
"""

from __future__ import annotations

import faulthandler
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import vsr
from tests.faults.damage import mutate
from vsr.errors import VsrError

LIMIT_S = 60


def open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:  # the descriptor of the listing itself
            continue
    return sorted(found)


def threads() -> list[str]:
    return sorted(t.name for t in threading.enumerate())


def settled(expected: list[str]) -> list[str]:
    """The threads after those that are ending have had a moment."""
    deadline = time.monotonic() + 2
    while threads() != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return threads()


def attempt(source: Path, result: Path, seed: int) -> dict[str, Any]:
    lenient = seed % 2 == 0
    try:
        report = vsr.upscale(
            source,
            result,
            scale=2,
            model="bicubic",
            on_truncated="keep" if lenient else "fail",
            max_decode_errors="100%" if lenient else "5%",
            on_unsupported="drop",
        )
    except VsrError as error:
        return {"outcome": type(error).__name__, "message": str(error), "result": result.exists()}
    except Exception as error:
        return {"outcome": "crash", "message": f"{type(error).__name__}: {error}", "result": result.exists()}
    return {"outcome": "success", "frames": report.frames_out, "result": result.exists()}


def main(bases: Path, folder: Path, first: int, count: int) -> None:
    whole = sorted(bases.iterdir())
    vsr.upscale(whole[0], folder / f"warm{whole[0].suffix}", scale=2, model="bicubic")  # caches, lazy imports
    (folder / f"warm{whole[0].suffix}").unlink()
    files, alive = open_files(), threads()
    for seed in range(first, first + count):
        base = whole[seed % len(whole)]
        source = folder / f"in{base.suffix}"
        result = folder / f"out{base.suffix}".replace(".avi", ".mkv")  # AVI is only read
        source.write_bytes(mutate(base.read_bytes(), seed))
        print(json.dumps({"seed": seed, "base": base.name}), flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        started = time.monotonic()
        answer = attempt(source, result, seed)
        faulthandler.cancel_dump_traceback_later()
        answer["seconds"] = round(time.monotonic() - started, 2)
        result.unlink(missing_ok=True)
        source.unlink()
        answer["left"] = sorted(p.name for p in folder.iterdir())
        answer["threads"] = [name for name in settled(alive) if name not in alive]
        answer["files"] = [name for name in open_files() if name not in files]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
