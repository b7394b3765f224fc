"""Outputs that cannot be written: one clear line, nothing left behind, nothing overwritten."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clips import frame_count, listing, make_clip, probe
from tests.end_to_end.command import VSR, Outcome, assert_one_line, upscaled, vsr

Clip = Callable[..., Path]
QUICK = ("-s", "2", "-m", "bicubic")
# Noise at a high quality: an output of some hundred kilobytes from a small input.
BULKY = ("-s", "4", "-m", "bicubic", "--encoder", "ffv1")


@pytest.fixture
def source(clip: Clip, tmp_path: Path) -> Path:
    """A small clip in a folder of its own beside the outputs."""
    (tmp_path / "in").mkdir()
    target = tmp_path / "in" / "clip.mp4"
    target.write_bytes(clip("a.mp4", frames=6, audio="aac").read_bytes())
    return target


@pytest.fixture
def bulky(clip: Clip) -> Path:
    return clip("bulky.mkv", codec="ffv1", size=(160, 90), frames=24)


def run_with_stdout(stdout: int, *arguments: str | Path, limit: int | None = None) -> Outcome:
    """The command with its standard output on this file descriptor, and file sizes limited."""
    limited = None
    if limit is not None:

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*VSR, "upscale", *map(os.fspath, arguments)]
    done = subprocess.run(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limited,
    )
    return Outcome(done.returncode, "", done.stderr)


def test_an_existing_output_is_kept_without_the_flag(source: Path, tmp_path: Path) -> None:
    result = tmp_path / "out.mp4"
    result.write_bytes(b"precious")
    before = listing(tmp_path)
    assert_one_line(vsr("upscale", source, *QUICK, "-o", result), "out.mp4", "exists", "-y|--overwrite")
    assert listing(tmp_path) == before


def test_an_existing_output_is_replaced_with_the_flag(source: Path, tmp_path: Path) -> None:
    result = tmp_path / "out.mp4"
    result.write_bytes(b"old")
    upscaled(source, *QUICK, "-o", result, "-y")
    assert frame_count(result) == 6


def test_replacing_an_output_keeps_its_permissions_sane(source: Path, tmp_path: Path) -> None:
    """A published file is readable by those whom the umask allows, unlike a temporary file."""
    upscaled(source, *QUICK, "-o", tmp_path / "out.mp4")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out.mp4").stat().st_mode & 0o777 == 0o666 & ~umask


def same_path(source: Path, folder: Path) -> Path:
    return source


def dotted(source: Path, folder: Path) -> Path:
    return source.parent / "." / ".." / source.parent.name / source.name


def relative(source: Path, folder: Path) -> Path:
    return Path(os.path.relpath(source))


def symbolic_link(source: Path, folder: Path) -> Path:
    (folder / "link.mp4").symlink_to(source)
    return folder / "link.mp4"


def hard_link(source: Path, folder: Path) -> Path:
    os.link(source, folder / "hard.mp4")
    return folder / "hard.mp4"


def linked_folder(source: Path, folder: Path) -> Path:
    (folder / "elsewhere").symlink_to(source.parent)
    return folder / "elsewhere" / source.name


@pytest.mark.parametrize("flag", [(), ("-y",)])
@pytest.mark.parametrize("spell", [same_path, dotted, relative, symbolic_link, hard_link, linked_folder])
def test_the_input_is_never_its_own_output(
    spell: Callable[[Path, Path], Path], flag: tuple[str, ...], source: Path, tmp_path: Path
) -> None:
    result = spell(source, tmp_path)
    before = listing(tmp_path)
    assert_one_line(vsr("upscale", source, *QUICK, "-o", result, *flag), "same file|itself|the input")
    assert listing(tmp_path) == before


def test_a_link_as_input_is_never_overwritten_through_its_target(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(source)
    before = listing(tmp_path)
    outcome = vsr("upscale", tmp_path / "link.mp4", *QUICK, "-o", source, "-y")
    assert_one_line(outcome, "same file|itself|the input")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("nowhere/out.mp4", ("nowhere", "not exist|no such|no folder")),
        ("file/out.mp4", ("file", "not a folder|not a directory|no folder|not exist")),
        ("folder.mp4", ("folder.mp4", "folder|directory")),
        ("/proc/out.mp4", ("/proc", "writ|creat|not exist|permission")),
        ("in", ("is a folder", "in/out.mkv")),
        ("out", ("extension|container|format", ".mp4", ".mkv")),
        ("out.", ("extension|container|format", ".mp4", ".mkv")),
        ("out.xyz", ("xyz", "extension|container|format", ".mp4", ".mkv")),
        ("out.txt", ("txt", "extension|container|format", ".mp4", ".mkv")),
        ("out.png", ("png", "many pictures", "out_%05d.png", "video")),
        ("out.srt", ("srt", "extension|container|format")),
        ("n" * 300 + ".mp4", ("name", "long")),
    ],
)
def test_impossible_outputs_are_refused(result: str, words: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a file where a folder should be")
    (tmp_path / "folder.mp4").mkdir()
    before = listing(tmp_path)
    assert_one_line(vsr("upscale", source, *QUICK, "-o", tmp_path / result, "-y"), *words)
    assert listing(tmp_path) == before


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *arguments, str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def may_mount() -> bool:
    """Whether this user may mount file systems: where not, file size limits stand in for full disks."""
    try:
        with tempfile.TemporaryDirectory() as folder, mounted(Path(folder), "-t", "tmpfs", "tmpfs"):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(source: Path, tmp_path: Path) -> None:
    if may_mount():
        with mounted(tmp_path / "locked", "-t", "tmpfs", "-o", "ro", "tmpfs") as locked:
            outcome = vsr("upscale", source, *QUICK, "-o", locked / "out.mp4")
            assert listing(locked) == {}
    else:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        outcome = vsr("upscale", source, *QUICK, "-o", locked / "out.mp4")
    assert_one_line(outcome, "locked", "read-only|permission|cannot be written|not writable|cannot write")


def test_a_full_disk_leaves_nothing_behind(bulky: Path, tmp_path: Path) -> None:
    if may_mount():
        with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as full:
            (full / "out.mkv").write_bytes(b"precious")
            outcome = vsr("upscale", bulky, *BULKY, "-o", full / "out.mkv", "-y")
            assert {p.name: p.read_bytes() for p in full.iterdir()} == {"out.mkv": b"precious"}
    else:
        (tmp_path / "full").mkdir()
        result = tmp_path / "full" / "out.mkv"
        outcome = run_with_stdout(subprocess.DEVNULL, bulky, *BULKY, "-o", result, limit=64 * 1024)
        assert listing(tmp_path / "full") == {}
    assert_one_line(outcome, "full|no space|too large|limit", "out.mkv|full")


def test_a_disk_that_shows_full_only_at_the_end_leaves_nothing_behind(bulky: Path, tmp_path: Path) -> None:
    """All pages but the last one fit: what fails is the last flush, when the container is closed."""
    whole = tmp_path / "whole.mkv"
    upscaled(bulky, *BULKY, "-o", whole)
    pages = (whole.stat().st_size - 1) // 4096
    if may_mount():
        with mounted(tmp_path / "full", "-t", "tmpfs", "-o", f"size={pages * 4}k", "tmpfs") as full:
            outcome = vsr("upscale", bulky, *BULKY, "-o", full / "out.mkv")
            assert listing(full) == {}
    else:
        result = tmp_path / "out.mkv"
        outcome = run_with_stdout(subprocess.DEVNULL, bulky, *BULKY, "-o", result, limit=pages * 4096)
        assert not result.exists()
    assert_one_line(outcome, "full|no space|too large|limit")


def test_a_file_size_limit_is_told_and_leaves_nothing_behind(bulky: Path, tmp_path: Path) -> None:
    outcome = run_with_stdout(subprocess.DEVNULL, bulky, *BULKY, "-o", tmp_path / "out.mkv", limit=50_000)
    assert_one_line(outcome, "too large|limit|full|no space")
    assert listing(tmp_path) == {}


def test_standard_output_gets_a_matroska_stream(source: Path, tmp_path: Path) -> None:
    result = tmp_path / "piped.mkv"
    with result.open("wb") as file:
        outcome = run_with_stdout(file.fileno(), source, *QUICK, "-o", "-")
    assert outcome.code == 0, outcome.err
    assert "matroska" in probe(result).format["format_name"]
    assert frame_count(result) == 6
    assert len(probe(result).of_type("audio")) == 1


@pytest.mark.parametrize("size", ["small", "bulky"])
def test_a_full_device_on_standard_output_is_told(size: str, source: Path, bulky: Path) -> None:
    """The small output fits into buffers: its failure shows only when they are flushed at the end."""
    with Path("/dev/full").open("wb") as file:
        arguments = (source, *QUICK) if size == "small" else (bulky, *BULKY)
        outcome = run_with_stdout(file.fileno(), *arguments, "-o", "-")
    assert_one_line(outcome, "full|no space")


def test_a_pipe_that_closes_is_told_and_ends_the_job(bulky: Path, tmp_path: Path) -> None:
    long = make_clip(tmp_path / "in.mkv", codec="ffv1", size=(160, 90), frames=150)
    reader, writer = os.pipe()
    command = [*VSR, "upscale", str(long), *BULKY, "-o", "-"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        assert len(os.read(reader, 1000)) > 0
        os.close(reader)
        _, err = process.communicate(timeout=60)
    assert_one_line(Outcome(process.returncode, "", err), "pipe|closed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv"]


@pytest.mark.parametrize(
    ("extension", "encoder", "words"),
    [
        ("webm", "x264", ("webm", "x264|h264", "vp9")),
        ("mp4", "ffv1", ("mp4", "ffv1", "x264|mkv")),
        ("ts", "svtav1", ("ts", "svtav1|av1", "x264|x265|mkv")),
    ],
)
def test_an_encoder_the_container_cannot_hold_is_refused(
    extension: str, encoder: str, words: tuple[str, ...], clip: Clip, tmp_path: Path
) -> None:
    source = clip("a.mkv", frames=6)
    outcome = vsr("upscale", source, *QUICK, "-o", tmp_path / f"out.{extension}", "--encoder", encoder)
    assert_one_line(outcome, *words)
    assert listing(tmp_path) == {}


def test_an_encoder_missing_from_this_build_is_told(source: Path, tmp_path: Path) -> None:
    """As with an `av` package that someone built without the GPL encoders."""
    runner = tmp_path / "runner.py"
    runner.write_text(
        "import sys, runpy, av\n"
        "real = av.Codec\n"
        "def lacking(name, mode='r'):\n"
        "    if mode == 'w' and 'x264' in str(name):\n"
        "        raise av.codec.codec.UnknownCodecError(name)\n"
        "    return real(name, mode)\n"
        "av.Codec = av.codec.Codec = lacking\n"
        "av.codecs_available -= {'libx264', 'libx264rgb'}\n"
        "sys.argv[0] = 'vsr'\n"
        "runpy.run_module('vsr', run_name='__main__')\n"
    )
    before = listing(tmp_path)
    command = [sys.executable, str(runner), "upscale", str(source), *QUICK, "-o", str(tmp_path / "out.mp4")]
    done = subprocess.run([*command, "--encoder", "x264"], capture_output=True, text=True, timeout=60, check=False)
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert_one_line(outcome, "x264", "not available|not in this build", "x265|svtav1|vp9|install")
    assert listing(tmp_path) == before


def test_text_subtitles_are_converted_to_what_the_container_holds(clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", subtitles="subrip", audio="aac", frames=6)
    assert "subrip" in upscaled(source, *QUICK, "-o", tmp_path / "out.mp4").notes
    kinds = [(s["codec_type"], s["codec_name"]) for s in probe(tmp_path / "out.mp4").streams]
    assert kinds == [("video", "h264"), ("audio", "aac"), ("subtitle", "mov_text")]


@pytest.mark.parametrize("policy", ["default", "drop"])
def test_subtitles_the_container_cannot_hold_are_told_before_the_work(policy: str, clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", subtitles="ass", audio="aac", frames=6)
    result = tmp_path / "out.mp4"
    if policy == "default":
        outcome = vsr("upscale", source, *QUICK, "-o", result)
        assert_one_line(outcome, "ass", "mp4", "--on-unsupported", ".mkv|matroska")
        assert not result.exists()
    else:
        outcome = upscaled(source, *QUICK, "-o", result, "--on-unsupported", "drop")
        assert "ass" in outcome.notes
        assert [s["codec_type"] for s in probe(result).streams] == ["video", "audio"]


@pytest.mark.parametrize("policy", ["default", "drop"])
def test_attachments_the_container_cannot_hold_are_told_before_the_work(
    policy: str, clip: Clip, tmp_path: Path
) -> None:
    source = clip("a.mkv", attachment=b"a font" * 100, frames=6)
    result = tmp_path / "out.mp4"
    if policy == "default":
        assert_one_line(vsr("upscale", source, *QUICK, "-o", result), "attach|font", "mp4", "--on-unsupported")
        assert not result.exists()
    else:
        assert "font" in upscaled(source, *QUICK, "-o", result, "--on-unsupported", "drop").notes
        assert [s["codec_type"] for s in probe(result).streams] == ["video"]
