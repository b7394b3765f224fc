"""Folders: every video and still in one folder, one after the other. One that fails does not stop the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from vsr.errors import InterruptedJobError, NotMediaError, OutputError, OutputExistsError, VsrError
from vsr.job import Job
from vsr.options import UpscaleOptions
from vsr.pictures.files import LOSSY_SUFFIXES, is_still
from vsr.report import JobProgress, JobReport
from vsr.stills import upscale_still
from vsr.store import same_file
from vsr.writing.containers import CONTAINERS

READ_ONLY_SUFFIXES: Final = tuple(
    f".{name}"
    for name in [
        "avi",
        "wmv",
        "asf",
        "flv",
        "f4v",
        "mpg",
        "mpeg",
        "m2v",
        "vob",
        "ogv",
        "ogm",
        "3gp",
        "3g2",
        "mxf",
        "dv",
        "rm",
        "rmvb",
        "gif",
        "nut",
        "y4m",
        "h264",
        "264",
        "hevc",
        "265",
    ]
)
VIDEO_SUFFIXES: Final = (*CONTAINERS, *READ_ONLY_SUFFIXES)


@dataclass
class BatchReport:
    """What became of each file.

    Attributes:
        jobs: reports of the files that succeeded.
        failures: (path, error) of those that did not.
        skipped: files that are no media by their name.
    """

    jobs: list[JobReport] = field(default_factory=list)
    failures: list[tuple[Path, VsrError]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every file succeeded."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        failed = [
            {
                "ok": False,
                "input": str(path),
                "error": {"type": type(e).__name__, "message": e.message, "hint": e.hint},
            }
            for path, e in self.failures
        ]
        return {"ok": self.ok, "jobs": [*(j.to_dict() for j in self.jobs), *failed]}


def upscale_folder(
    folder: Path,
    output: Path,
    options: UpscaleOptions,
    *,
    on_file: Callable[[Path, int, int], None] = lambda *_: None,
    on_failure: Callable[[Path, VsrError], None] = lambda *_: None,
    on_progress: Callable[[JobProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_build: Callable[[float], bool] = lambda _: True,
    stop: threading.Event | None = None,
    around_still: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> BatchReport:
    """Upscale every video and still of `folder` into the folder `output`, under the same names.

    A video whose container is not written (AVI, WMV and the like) becomes .mkv.

    Args:
        folder: looked through without its subfolders.
        output: made if it does not exist.
        options: for every file.
        on_file: called with path, number and count before each file.
        on_failure: called with path and error of each file that fails.
        on_progress: as for `vsr.job.upscale`.
        on_note: likewise.
        on_build: likewise.
        stop: likewise; the files after the interrupted one are not begun.
        around_still: entered while a still is made, during which `stop` is not looked at.

    Raises:
        NotMediaError: there is no media in the folder.
        OutputError: `output` is a file, the folder itself, or cannot be made.
        InterruptedJobError: `stop` was set.
    """
    if output.exists() and same_file(folder, output):
        raise OutputExistsError(f"input and output are the same folder, {output}", "write to another folder")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, and a folder is needed for the pictures of {folder}")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    media = [p for p in files if is_still(p) or p.suffix.lower() in VIDEO_SUFFIXES]
    if not media:
        raise NotMediaError(f"{folder} holds no video and no still image ({len(files)} other files)")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"the folder {output} cannot be made: {exc.strerror or exc}") from exc
    targets = plan_names(media, output)
    report = BatchReport(skipped=[p for p in files if p not in media])
    for number, path in enumerate(media, 1):
        if stop is not None and stop.is_set():
            raise InterruptedJobError(f"interrupted after {number - 1} of {len(media)} files")
        on_file(path, number, len(media))
        try:
            with around_still() if is_still(path) else nullcontext():
                report.jobs.append(_one(path, targets[path], options, on_progress, on_note, on_build, stop))
        except InterruptedJobError:
            raise
        except VsrError as error:
            report.failures.append((path, error))
            on_failure(path, error)
    return report


def plan_names(media: list[Path], folder: Path) -> dict[Path, Path]:
    """Where each file goes: under its own name, or with .mkv if its container is not written; no two to one place."""
    keep = [p for p in media if is_still(p) or p.suffix.lower() in CONTAINERS]
    targets = {p: folder / p.name for p in keep}
    taken = {p.name.casefold() for p in keep}
    for path in media:
        if path not in targets:
            name = f"{path.stem}.mkv" if f"{path.stem}.mkv".casefold() not in taken else f"{path.name}.mkv"
            taken.add(name.casefold())
            targets[path] = folder / name
    return targets


def _one(
    path: Path,
    target: Path,
    options: UpscaleOptions,
    on_progress: Callable[[JobProgress], None] | None,
    on_note: Callable[[str], None] | None,
    on_build: Callable[[float], bool],
    stop: threading.Event | None,
) -> JobReport:
    if is_still(path):
        lossy = path.suffix.lower() in LOSSY_SUFFIXES  # a quality is meant for those files that have one
        quality = options.quality if lossy else None
        own = replace(options, pix_fmt=None, quality=quality, start=None, end=None, duration=None)
        return upscale_still(path, target, own, on_note=on_note, on_build=on_build)
    return Job(path, str(target), replace(options, quality=None), on_progress, on_note, stop, on_build).run()
