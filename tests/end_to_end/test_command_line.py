"""The contract of the command line: status, what goes to which stream, stills, folders, small commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import frame_count, listing, probe
from tests.end_to_end.command import VSR, Outcome, assert_one_line, upscaled, vsr

Clip = Callable[..., Path]
QUICK = ("-s", "2", "-m", "bicubic")
REPORT_KEYS = {
    *(
        "ok",
        "input",
        "output",
        "frames_in",
        "frames_out",
        "frames_repeated",
        "scale",
        "model",
        "backend",
        "encoder",
    ),
    *("width", "height", "duration_s", "wall_s", "fps", "stages", "bottleneck", "notes"),
}
COMMANDS = ("upscale", "models", "info", "doctor", "completion")


def test_help_answers_quickly() -> None:
    spent = []
    for _ in range(3):
        before = os.times()
        subprocess.run([*VSR, "--help"], stdout=subprocess.DEVNULL, check=True)  # a process of its own, from nothing
        after = os.times()  # of the processor: what else the machine does is no fault of the command's
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert 0 < min(spent) < 0.4


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_imports_no_runtime(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [VSR[0], "-X", "importtime", *VSR[1:], *command, "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "vsr" in imported
    assert not imported & {
        "av",
        "openvino",
        "onnx",
        "torch",
        "numpy",
        "PIL",
        "tensorrt",
        "pycuda",
        "onnxruntime",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    outcome = vsr(command, "--help")
    assert outcome.code == 0
    assert "Usage:" in outcome.out
    assert command in vsr("--help").out


def test_help_of_upscale_shows_examples() -> None:
    text = vsr("upscale", "--help").out
    assert re.search(r"^\s+(\$ )?vsr upscale \S+ -s \d", text, re.MULTILINE), text
    for option in ("--scale", "--output", "--model", "--backend", "--encoder", "--on-truncated", "--json"):
        assert option in text


def test_version_is_told() -> None:
    import vsr as package

    assert package.__version__ in vsr("--version").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("upscale",),
        ("upscale", "in.mp4"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "two"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "--no-such-option"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "--backend", "abacus"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "--precision", "fp4"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "--on-truncated", "maybe"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "--max-decode-errors", "many"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "--max-decode-errors", "-3"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "--threads", "x"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "2", "-v", "-q"),
        ("upscale", "", "-o", "out", "-s", "2"),
        ("upscale", "in.mp4", "-o", "", "-s", "2"),
        ("no-such-command",),
        ("info",),
        ("completion", "tcsh"),
    ],
)
def test_wrong_usage_ends_with_status_two(arguments: tuple[str, ...], clip: Clip, tmp_path: Path) -> None:
    shutil.copy(clip("a.mp4", frames=3), tmp_path / "in.mp4")
    outcome = vsr(*arguments, cwd=tmp_path)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.strip()
    assert list(listing(tmp_path)) == ["in.mp4"]


def test_json_is_one_object_on_standard_output(clip: Clip, tmp_path: Path) -> None:
    source, result = clip("a.mp4", frames=12, audio="aac"), tmp_path / "out.mp4"
    report = upscaled(source, *QUICK, "-o", result, "--json").json
    assert set(report) >= REPORT_KEYS
    assert report["ok"] is True
    assert (report["frames_in"], report["frames_out"], report["frames_repeated"]) == (12, 12, 0)
    assert (report["width"], report["height"], report["scale"]) == (128, 96, 2)
    assert report["model"] == "bicubic"
    assert report["duration_s"] == pytest.approx(0.5, abs=0.05)
    assert report["wall_s"] > 0
    assert Path(report["output"]).name == "out.mp4"
    assert report["bottleneck"] in [stage["name"] for stage in report["stages"]]


def test_json_of_a_failure_tells_the_error(tmp_path: Path) -> None:
    outcome = vsr("upscale", tmp_path / "missing.mp4", *QUICK, "-o", tmp_path / "out.mp4", "--json")
    assert outcome.code == 1
    assert outcome.json["ok"] is False
    assert set(outcome.json["error"]) >= {"type", "message", "hint"}
    assert "missing.mp4" in outcome.json["error"]["message"]
    assert_one_line(outcome, "missing.mp4")


def test_without_json_standard_output_stays_empty(clip: Clip, tmp_path: Path) -> None:
    assert upscaled(clip("a.mp4", frames=3), *QUICK, "-o", tmp_path / "out.mp4").out == ""


def test_progress_off_a_terminal_is_plain_lines(clip: Clip, tmp_path: Path) -> None:
    err = upscaled(clip("a.mp4"), *QUICK, "-o", tmp_path / "out.mp4").err
    assert "\r" not in err
    assert "\x1b" not in err


def test_quiet_says_nothing(clip: Clip, tmp_path: Path) -> None:
    outcome = upscaled(clip("a.mp4", frames=3), *QUICK, "-o", tmp_path / "out.mp4", "-q")
    assert outcome.out == outcome.err == ""


def test_quiet_still_tells_errors(tmp_path: Path) -> None:
    assert_one_line(vsr("upscale", tmp_path / "no.mp4", *QUICK, "-o", tmp_path / "out.mp4", "-q"), "no.mp4")


def test_verbose_tells_the_backend_and_why(clip: Clip, tmp_path: Path) -> None:
    err = upscaled(clip("a.mp4", frames=3), *QUICK, "-o", tmp_path / "out.mp4", "-v").err
    assert re.search(r"openvino.*(because|:|since|\()", err, re.IGNORECASE), err


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    outcome = vsr("--debug", "upscale", tmp_path / "no.mp4", *QUICK, "-o", tmp_path / "out.mp4")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_the_backend_may_be_chosen(backend: str, clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mp4", frames=3)
    report = upscaled(source, "-s", "3", "-m", "espcn", "--backend", backend, "-o", tmp_path / "out.mp4", "--json").json
    assert report["frames_out"] == 3
    assert report["backend"] == backend


@pytest.mark.parametrize("encoder", ["x264", "x265", "svtav1", "vp9", "ffv1"])
def test_every_encoder_writes_matroska(encoder: str, clip: Clip, tmp_path: Path) -> None:
    codec = {"x264": "h264", "x265": "hevc", "svtav1": "av1", "vp9": "vp9", "ffv1": "ffv1"}[encoder]
    result = tmp_path / "out.mkv"
    upscaled(clip("a.mp4", frames=4), *QUICK, "--encoder", encoder, "-o", result)
    assert probe(result).video["codec_name"] == codec
    assert frame_count(result) == 4


def test_encoder_options_reach_the_encoder(clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mp4", size=(160, 90), frames=12)
    sizes = {}
    for crf in ("10", "45"):
        upscaled(source, *QUICK, "--encoder", "x264", "--crf", crf, "-o", tmp_path / f"{crf}.mp4")
        sizes[crf] = (tmp_path / f"{crf}.mp4").stat().st_size
    assert sizes["45"] < sizes["10"] / 2
    upscaled(source, *QUICK, "--preset", "ultrafast", "--pix-fmt", "yuv444p", "-o", tmp_path / "444.mp4")
    assert probe(tmp_path / "444.mp4").video["pix_fmt"] == "yuv444p"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--crf", "900"), ("crf", "900", "51|63")),
        (("--preset", "warp9"), ("preset", "warp9", "veryfast|medium")),
        (("--pix-fmt", "yuv999p"), ("yuv999p",)),
        (("--pix-fmt", "rgb24", "--encoder", "x265"), ("rgb24",)),
    ],
)
def test_encoder_options_that_are_not_allowed_are_refused(
    options: tuple[str, ...], words: tuple[str, ...], clip: Clip, tmp_path: Path
) -> None:
    outcome = vsr("upscale", clip("a.mp4", frames=3), *QUICK, *options, "-o", tmp_path / "out.mp4")
    assert outcome.code in {1, 2}
    assert "Traceback" not in outcome.err
    last = outcome.err.strip().splitlines()[-1].lower()
    assert all(any(option in last for option in word.split("|")) for word in words), outcome.err
    assert listing(tmp_path) == {}


def save_still(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Path:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    rgb = np.stack([x * 5 % 256, y * 7 % 256, (x + y) * 3 % 256], axis=2).astype(np.uint8)
    Image.fromarray(rgb).convert(mode).save(path)
    return path


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_stills_are_upscaled(extension: str, tmp_path: Path) -> None:
    source = save_still(tmp_path / f"in{extension}")
    result = tmp_path / f"out{extension}"
    upscaled(source, "-s", "3", "-m", "fsrcnn", "-o", result)
    with Image.open(result) as picture:
        assert picture.size == (120, 90)
        result_pixels = np.asarray(picture.convert("RGB").resize((40, 30), Image.Resampling.BOX), np.int16)
    with Image.open(source) as picture:
        difference = np.abs(np.asarray(picture.convert("RGB"), np.int16) - result_pixels)
    assert np.median(difference) <= 6


@pytest.mark.parametrize(("mode", "kept"), [("L", "L"), ("RGBA", "RGBA"), ("P", None), ("1", None), ("LA", None)])
def test_stills_of_other_modes_are_upscaled(mode: str, kept: str | None, tmp_path: Path) -> None:
    result = tmp_path / "out.png"
    upscaled(save_still(tmp_path / "in.png", mode), *QUICK, "-o", result)
    with Image.open(result) as picture:
        assert picture.size == (80, 60)
        assert kept is None or picture.mode == kept


def test_bad_stills_are_refused(tmp_path: Path) -> None:
    whole = save_still(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    before = listing(tmp_path)
    for name in ("cut.png", "text.png", "empty.png"):
        assert_one_line(vsr("upscale", tmp_path / name, *QUICK, "-o", tmp_path / "out.png"), name)
    assert_one_line(vsr("upscale", tmp_path / "whole.png", *QUICK, "-o", tmp_path / "whole.png", "-y"), "whole.png")
    assert_one_line(vsr("upscale", tmp_path / "whole.png", *QUICK, "-o", tmp_path / "out.mp4"), "still|picture|image")
    assert listing(tmp_path) == before


@pytest.fixture
def album(clip: Clip, tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    shutil.copy(clip("a.mp4", frames=3), folder / "1.mp4")
    save_still(folder / "3.png")
    shutil.copy(clip("a.mkv", frames=3), folder / "4.mkv")
    return folder


def test_a_folder_is_upscaled_file_by_file(album: Path, tmp_path: Path) -> None:
    result = tmp_path / "out"
    jobs = upscaled(album, *QUICK, "-o", result, "--json").json
    assert jobs["ok"] is True
    assert [job["ok"] for job in jobs["jobs"]] == [True, True, True]
    assert sorted(listing(result)) == ["1.mp4", "3.png", "4.mkv"]
    assert probe(result / "4.mkv").size == (128, 96)


def test_one_failing_file_does_not_stop_the_others(album: Path, tmp_path: Path) -> None:
    (album / "2.mp4").write_text("no video")
    result = tmp_path / "out"
    outcome = vsr("upscale", album, *QUICK, "-o", result, "--json")
    assert outcome.code == 1
    assert sorted(listing(result)) == ["1.mp4", "3.png", "4.mkv"]
    assert outcome.json["ok"] is False
    assert {Path(job["input"]).name: job["ok"] for job in outcome.json["jobs"]} == {
        **{"1.mp4": True, "2.mp4": False},
        **{"3.png": True, "4.mkv": True},
    }
    plain = vsr("upscale", album, *QUICK, "-o", result, "-y")
    assert plain.code == 1
    summary = plain.err.strip().splitlines()[-1]
    assert re.search(r"\b3\b", summary), plain.err
    assert re.search(r"\b1\b|2\.mp4", summary), plain.err
    assert any("2.mp4" in line for line in plain.errors), plain.err


def test_a_folder_without_media_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing to see")
    before = listing(tmp_path)
    assert_one_line(
        vsr("upscale", tmp_path / "in", *QUICK, "-o", tmp_path / "out"),
        "in",
        "no video|no media|nothing|holds no|neither",
    )
    assert listing(tmp_path) == before


def test_a_folder_is_never_its_own_output(album: Path) -> None:
    before = listing(album)
    outcome = vsr("upscale", album, *QUICK, "-o", album, "-y")
    assert outcome.code == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert listing(album) == before


def test_models_are_listed() -> None:
    names = json.dumps(json.loads(vsr("models", "--json").out))
    text = vsr("models").out
    for name in ("espcn", "fsrcnn", "bicubic"):
        assert name in names
        assert name in text


def test_info_tells_what_is_in_a_file(clip: Clip) -> None:
    source = clip("a.mkv", bframes=2, audio="libopus", subtitles="subrip")
    text = vsr("info", source).out
    for word in ("64x48", "h264", "opus", "subrip", "24"):
        assert word in text, text
    answer = json.loads(vsr("info", source, "--json").out)
    assert "64" in json.dumps(answer)
    assert "opus" in json.dumps(answer)


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4"])
def test_info_refuses_what_is_no_media(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert_one_line(vsr("info", tmp_path / name), name)


def test_doctor_tells_versions_and_what_is_missing() -> None:
    outcome = vsr("doctor")
    assert outcome.code == 0, outcome.err
    text = outcome.out.lower()
    for word in ("python", "pyav", "openvino", "torch", "x264", "nvidia"):
        assert word in text, outcome.out
    answer = json.loads(vsr("doctor", "--json").out)
    assert isinstance(answer, dict)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_written(shell: str) -> None:
    outcome = vsr("completion", shell)
    assert outcome.code == 0, outcome.err
    assert "_VSR_COMPLETE" in outcome.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=outcome.out, text=True, check=True)


@pytest.mark.parametrize(
    "arguments",
    [("models",), ("upscale", "nothing.mp4", "-s", "2", "-o", "out.mkv"), ("upscale", "--nonsense"), ("verify", "a")],
)
def test_a_command_that_is_forked_ends_as_one_that_is_started(arguments: tuple[str, ...], tmp_path: Path) -> None:
    environment = dict(os.environ)  # readline, which pytest loads, puts COLUMNS into the process' alone
    done = subprocess.run(
        [*VSR, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert vsr(*arguments, cwd=tmp_path) == Outcome(done.returncode, done.stdout, done.stderr)
