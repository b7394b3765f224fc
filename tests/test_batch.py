"""Folders: every file gets its turn, and a failure of one is not the others' business."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vsr.batch import VIDEO_SUFFIXES, upscale_folder
from vsr.errors import InterruptedJobError, NotMediaError, OutputError, OutputExistsError, VsrError
from vsr.options import UpscaleOptions

Clip = Callable[..., Path]
OPTIONS = UpscaleOptions(scale=2, model="bicubic", threads=1, preset="ultrafast")


@pytest.fixture
def album(clip: Clip, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "b.mp4").write_bytes(clip("v.mp4").read_bytes())
    (folder / "a.avi").write_bytes(clip("v.avi").read_bytes())
    Image.new("RGB", (6, 4)).save(folder / "c.PNG")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.mp4").write_bytes(b"x")
    (folder / "sub").mkdir()
    (folder / "sub" / "d.mp4").write_bytes(b"x")
    yield folder
    (folder / ".hidden.mp4").unlink()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_every_video_and_still_is_upscaled_under_its_name(album: Path, tmp_path: Path) -> None:
    begun: list[tuple[str, int, int]] = []
    out = tmp_path / "x" / "out"
    report = upscale_folder(album, out, OPTIONS, on_file=lambda p, i, n: begun.append((p.name, i, n)))
    assert report.ok
    assert names(out) == ["a.mkv", "b.mp4", "c.PNG"]
    assert begun == [("a.avi", 1, 3), ("b.mp4", 2, 3), ("c.PNG", 3, 3)]
    assert [p.name for p in report.skipped] == ["notes.txt"]
    assert [j.frames_out for j in report.jobs] == [12, 12, 1]
    assert names(album) == [".hidden.mp4", "a.avi", "b.mp4", "c.PNG", "notes.txt", "sub"]


def test_each_still_is_made_inside_the_context_that_is_given(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (6, 4)).save(folder / "a.png")
    seen: list[list[str]] = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append(names(tmp_path / "out"))
        yield
        seen.append(names(tmp_path / "out"))

    upscale_folder(folder, tmp_path / "out", OPTIONS, around_still=around)
    assert seen == [[], ["a.png"]]


def test_one_that_fails_is_told_and_the_rest_goes_on(album: Path, tmp_path: Path) -> None:
    (album / "a.avi").write_bytes(b"RIFF but no more")
    told: list[tuple[str, VsrError]] = []
    report = upscale_folder(album, tmp_path / "out", OPTIONS, on_failure=lambda p, e: told.append((p.name, e)))
    assert not report.ok
    assert names(tmp_path / "out") == ["b.mp4", "c.PNG"]
    assert [name for name, _ in told] == ["a.avi"] == [p.name for p, _ in report.failures]
    answer = report.to_dict()
    assert [j["ok"] for j in answer["jobs"]] == [True, True, False]
    assert answer["jobs"][2]["error"]["type"] == type(told[0][1]).__name__


def test_existing_outputs_are_kept_one_by_one(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.mp4").write_bytes(b"precious")
    report = upscale_folder(album, out, OPTIONS)
    assert [p.name for p, _ in report.failures] == ["b.mp4"]
    assert isinstance(report.failures[0][1], OutputExistsError)
    assert (out / "b.mp4").read_bytes() == b"precious"


def test_two_inputs_never_share_one_output(album: Path, tmp_path: Path) -> None:
    """a.avi becomes a.mkv; so would an a.mkv beside it."""
    (album / "a.mkv").write_bytes((album / "b.mp4").read_bytes())
    report = upscale_folder(album, tmp_path / "out", UpscaleOptions(**{**vars(OPTIONS), "overwrite": True}))
    made = [Path(j.output) for j in report.jobs]
    assert len(made) == len(set(made)), "one result was written over another"
    assert len(made) + len(report.failures) == 4


def test_a_folder_without_media_is_refused_and_no_folder_made(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "notes.txt").write_text("x")
    with pytest.raises(NotMediaError, match=r"no video and no still image \(1 other file"):
        upscale_folder(folder, tmp_path / "out", OPTIONS)
    assert names(tmp_path) == ["in"]


def test_the_folder_itself_and_a_file_are_no_output(album: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(album)
    for same in (album, tmp_path / "link", album / ".." / "in"):
        with pytest.raises(OutputExistsError, match="same folder"):
            upscale_folder(album, same, OPTIONS)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        upscale_folder(album, tmp_path / "file", OPTIONS)
    with pytest.raises(OutputError, match="cannot be made"):
        upscale_folder(album, tmp_path / "file" / "out", OPTIONS)


def test_an_interruption_ends_the_folder(album: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def begin(path: Path, number: int, _: int) -> None:
        if number == 2:
            stop.set()

    with pytest.raises(InterruptedJobError):
        upscale_folder(album, tmp_path / "out", OPTIONS, on_file=begin, stop=stop)
    assert "a.mkv" in names(tmp_path / "out")
    assert "c.PNG" not in names(tmp_path / "out")


def test_notes_and_progress_are_handed_on(album: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    upscale_folder(album, tmp_path / "out", OPTIONS, on_progress=seen.append)
    assert len(seen) == 24


def test_names_of_videos_are_lower_case_with_a_dot() -> None:
    assert all(s.startswith(".") and s == s.lower() for s in VIDEO_SUFFIXES)
    assert len(set(VIDEO_SUFFIXES)) == len(VIDEO_SUFFIXES)
