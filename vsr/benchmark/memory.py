"""Memory within a long job: `python -m vsr.benchmark.memory CLIP OUT SCALE MODEL` prints resident MiB, twice."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import av

from vsr.benchmark.clip import make_clip
from vsr.errors import VsrError
from vsr.job import upscale
from vsr.report import JobProgress

EARLY: Final = 500
"""After how many frames everything that is allocated once has been."""


def measure_memory(model: str, scale: int, size: tuple[int, int], frames: int) -> tuple[float, float]:
    """Resident MiB of a process after `EARLY` frames and after the last of about `frames`, in one job.

    Raises:
        VsrError: the job failed.
    """
    with TemporaryDirectory(prefix="vsr-bench-") as folder:
        part, clip, out = (Path(folder) / name for name in ("part.mp4", "clip.mp4", "out.mkv"))
        make_clip(part, *size, EARLY)
        repeat(part, clip, -(-frames // EARLY))
        command = [sys.executable, "-m", "vsr.benchmark.memory", str(clip), str(out), str(scale), model]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VsrError(f"the long job failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    early, late = json.loads(done.stdout)
    return early, late


def repeat(source: Path, target: Path, times: int) -> None:
    """Write the video of `source`, an MP4, which knows all decoding times, `times` times behind itself."""
    with av.open(str(target), "w") as output:
        shift = 0
        stream = None
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                end = shift
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:  # what ends the stream
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.stream = stream
                    output.mux_one(packet)
                shift = end


def resident_mib() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Run the job and print what was resident."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("clip", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("scale", type=int)
    parser.add_argument("model")
    given = parser.parse_args()
    resident: dict[str, float] = {}

    def watch(progress: JobProgress) -> None:
        if progress.frames % EARLY == 0:
            resident.setdefault("early", resident_mib())
            resident["late"] = resident_mib()

    upscale(given.clip, given.out, given.scale, model=given.model, reuse=False, preset="ultrafast", on_progress=watch)
    print(json.dumps([resident["early"], resident["late"]]))


if __name__ == "__main__":
    main()
