"""Every command: help, exit codes, what goes to which stream, and the shape of JSON."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from PIL import Image

from vsr import cli as cli_module
from vsr._version import __version__
from vsr.cli import COMMANDS, cli
from vsr.cli.upscale import Screen
from vsr.errors import InterruptedJobError, OptionError
from vsr.model import BICUBIC, shipped_models
from vsr.report import JobProgress

Clip = Callable[..., Path]
Run = Callable[..., Any]


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


# -- the group --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_of_everything(command: tuple[str, ...], flag: str, run: Run) -> None:
    done = run(*command, flag)
    assert done.code == 0
    assert "Usage: vsr" in done.out
    assert done.err == ""


def test_the_list_of_commands_says_what_each_does_in_its_own_words(run: Run) -> None:
    done = run("--help")
    for name, (module, line) in COMMANDS.items():
        assert name in done.out
        assert " ".join(line.split()) in " ".join(done.out.split())
        command = importlib.import_module(module).command
        assert isinstance(command, click.Command)
        assert command.name == name
        assert command.help


def test_the_help_of_upscale_has_each_option_under_one_heading() -> None:
    command = importlib.import_module("vsr.cli.upscale").command
    named = [name for names in command.sections.values() for name in names]
    assert sorted(named) == sorted(p.name for p in command.params if isinstance(p, click.Option))
    shown = [line.split()[0] for line in command.get_help(click.Context(command)).splitlines() if line[:3] == "  -"]
    assert len(shown) == len(named) + 1, "and --help"
    assert shown[-1] == "-h," or shown[-1] == "--help"


def test_the_version(run: Run) -> None:
    assert run("--version").out.strip().endswith(__version__)


def test_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "vsr", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert __version__ in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonesuch",),
        ("upscale",),
        ("upscale", "in.mp4"),
        ("upscale", "in.mp4", "-o", "out.mp4", "--nonesuch"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "two"),
        ("upscale", "in.mp4", "-o", "out.mp4", "-s", "17"),
        ("upscale", "in.mp4", "-o", "out.mp4", "--size", "large"),
        ("upscale", "in.mp4", "-o", "out.mp4", "--size", "4k", "-s", "2"),
        ("upscale", "in.mp4", "-o", "out.mp4", "--threads", "-1"),
        ("upscale", "in.mp4", "-o", "out.mp4", "--on-truncated", "maybe"),
        ("upscale", "in.mp4", "-o", "out.mp4", "--max-decode-errors", "many"),
        ("upscale", "in.mp4", "-o", "-", "--json"),
        ("completion", "tcsh"),
        ("info",),
    ],
)
def test_wrong_usage_is_status_two_and_leaves_standard_output_alone(arguments: tuple[str, ...], run: Run) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err


def test_an_error_is_one_line_unless_the_traceback_is_asked_for(run: Run, tmp_path: Path) -> None:
    done = run("info", tmp_path / "gone.mp4")
    assert done.code == 1
    assert one_line(done.err) == f"vsr: error: {tmp_path / 'gone.mp4'} does not exist"
    with pytest.raises(Exception, match="does not exist"):
        cli_module.main(["--debug", "info", str(tmp_path / "gone.mp4")])


def test_an_abort_of_click_counts_as_an_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def abort(*_: Any, **__: Any) -> None:
        raise click.exceptions.Abort

    monkeypatch.setattr(cli, "main", abort)
    done = run("models")
    assert done.code == 130
    assert "interrupted" in done.err


def test_exit_codes_are_those_of_the_errors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, code in ((OptionError("x"), 2), (InterruptedJobError("x"), 130)):

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(cli, "main", fail)
        assert run("models").code == code


# -- models, info, doctor, completion ---------------------------------------------------------------------------------


def test_models(run: Run) -> None:
    done = run("models")
    assert done.code == 0
    for name, scale in shipped_models():
        assert any(line.split()[:2] == [name, f"x{scale}"] for line in done.out.splitlines())
    assert BICUBIC in done.out
    assert sum("default" in line for line in done.out.splitlines()) == len({s for _, s in shipped_models()})


def test_models_as_json(run: Run) -> None:
    answer = json.loads(run("models", "--json").out)
    assert answer["baseline"] == BICUBIC
    assert sorted((m["name"], m["scale"]) for m in answer["models"]) == shipped_models()
    for model in answer["models"]:
        assert len(model["sha256"]) == 64
        assert model["psnr"]["Set5"] > 25
        assert isinstance(model["default"], bool)
        assert model["licence"]


def test_info_of_a_video(run: Run, clip: Clip) -> None:
    path = clip("v.mkv", audio="aac", chapters=True, metadata={"title": "A film"})
    done = run("info", path)
    assert done.code == 0
    for words in ("64x48", "h264", "aac", "yuv420p", "A film"):
        assert words in done.out
    facts = json.loads(run("info", path, "--json").out)
    assert facts["file"] == str(path)
    assert [s["type"] for s in facts["streams"]] == ["video", "audio"]
    assert facts["chapters"] == 2
    assert facts["cut_off"] is None
    video = facts["streams"][0]
    assert (video["size"], video["pixel_format"], video["bits"], video["upscaled"]) == ("64x48", "yuv420p", 8, True)


def test_info_of_a_still_and_of_sound(run: Run, tmp_path: Path, clip: Clip) -> None:
    from tests.clips import ffmpeg

    Image.new("RGB", (7, 5)).save(tmp_path / "still.png")
    facts = json.loads(run("info", tmp_path / "still.png", "--json").out)
    assert (facts["size"], facts["mode"]) == ("7x5", "RGB")
    assert run("info", tmp_path / "still.png").code == 0
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", "-c:a", "aac", tmp_path / "song.m4a")
    facts = json.loads(run("info", tmp_path / "song.m4a", "--json").out)
    assert [s["type"] for s in facts["streams"]] == ["audio"]


def test_info_of_a_cut_file_tells_so(run: Run, tmp_path: Path, clip: Clip) -> None:
    data = clip("v.mkv", frames=30).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(data[: len(data) // 2])
    facts = json.loads(run("info", path, "--json").out)
    assert "should end at byte" in facts["cut_off"]


def test_doctor(run: Run) -> None:
    done = run("doctor")
    assert done.code == 0
    for words in ("system:", "package:", "backend:", "encoder:", "model:", "openvino", "x264"):
        assert words in done.out
    answer = json.loads(run("doctor", "--json").out)
    assert answer["version"] == __version__
    assert all(isinstance(f["ok"], bool) for f in answer["findings"])


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete"), ("zsh", "#compdef vsr"), ("fish", "complete")])
def test_completion_scripts_complete_vsr(shell: str, words: str, run: Run) -> None:
    done = run("completion", shell)
    assert done.code == 0
    assert words in done.out
    assert "_VSR_COMPLETE" in done.out
    assert "%(" not in done.out


def test_completion_finds_commands_and_options() -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(cli, {}, "vsr", "_VSR_COMPLETE")
    assert {c.value for c in complete.get_completions([], "")} >= set(COMMANDS)
    assert "--overwrite" in {c.value for c in complete.get_completions(["upscale"], "--")}


# -- upscale ----------------------------------------------------------------------------------------------------------

QUICK = ("-s", "2", "-m", "bicubic", "--preset", "ultrafast", "--threads", "1")


def test_upscale_says_one_line_on_standard_error_and_nothing_on_standard_output(
    run: Run, clip: Clip, tmp_path: Path
) -> None:
    done = run("upscale", clip("v.mp4"), "-o", tmp_path / "out.mp4", *QUICK)
    assert done.code == 0
    assert done.out == ""
    line = one_line(done.err)
    assert "12 frames of 128x96" in line
    assert "limited by" in line


def test_verbose_adds_backend_encoder_and_stages_and_quiet_says_nothing(run: Run, clip: Clip, tmp_path: Path) -> None:
    done = run("upscale", clip("v.mp4"), "-o", tmp_path / "a.mp4", "-v", *QUICK)
    for words in ("vsr: backend", "vsr: model bicubic, encoder x264", "stage decode", "stage upscale", "stage encode"):
        assert words in done.err
    done = run("upscale", clip("v.mp4"), "-o", tmp_path / "b.mp4", "-q", *QUICK)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_json_of_a_job_and_of_a_failure(run: Run, clip: Clip, tmp_path: Path) -> None:
    done = run("upscale", clip("v.mp4"), "-o", tmp_path / "out.mp4", "--json", *QUICK)
    report = json.loads(one_line(done.out))
    assert report["ok"] is True
    assert (report["frames_in"], report["frames_out"], report["width"]) == (12, 12, 128)
    done = run("upscale", clip("v.mp4"), "-o", tmp_path / "out.mp4", "--json", *QUICK)
    assert done.code == 1
    answer = json.loads(one_line(done.out))
    assert answer["ok"] is False
    assert answer["error"]["type"] == "OutputExistsError"
    assert "-y" in answer["error"]["hint"]


def test_a_still_is_upscaled(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "in.png")
    done = run("upscale", tmp_path / "in.png", "-o", tmp_path / "out.png", *QUICK)
    assert done.code == 0
    assert "1 picture of 14x10" in done.err
    assert Image.open(tmp_path / "out.png").size == (14, 10)


def test_a_folder_reports_each_file_and_fails_if_one_does(run: Run, clip: Clip, tmp_path: Path) -> None:
    folder, result = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip("v.mp4").read_bytes())
    (folder / "b.mp4").write_bytes(b"no video at all, just text\n" * 9)
    (folder / "c.txt").write_text("notes")
    Image.new("L", (4, 4)).save(folder / "d.png")
    done = run("upscale", folder, "-o", result, "--json", *QUICK)
    assert done.code == 1
    answer = json.loads(one_line(done.out))
    assert answer["ok"] is False
    assert [j["ok"] for j in answer["jobs"]] == [True, True, False]
    assert "2 of 3 files upscaled, 1 failed: b.mp4, 1 other files left alone" in done.err
    assert sorted(p.name for p in result.iterdir()) == ["a.mp4", "d.png"]


# -- the screen -------------------------------------------------------------------------------------------------------


def progress(frames: int, expected: int | None = 100, wall_s: float = 10.0) -> JobProgress:
    return JobProgress(frames, expected, frames / 25, wall_s)


def test_off_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vsr.cli import upscale

    clock = iter([0.0, 1.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr(upscale, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    screen = Screen(threading.Event(), quiet=False, verbose=False, plain=True)
    for number in (10, 20, 30):
        screen.progress(progress(number))
    screen.progress(progress(40, None))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "vsr: 20 of 100 frames, 0.8 s, 2.0 fps, 40 s left",
        "vsr: 40 frames, 1.6 s, 4.0 fps",
    ]


def test_on_a_terminal_progress_is_a_bar_that_notes_do_not_break(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)  # tqdm's own watching thread stays for ever
    screen = Screen(threading.Event(), quiet=False, verbose=False, plain=False)
    screen.progress(progress(10))
    screen.note("something")
    screen.progress(progress(100))
    screen.close()
    screen.close()
    shown = capsys.readouterr().err
    assert "100/100" in shown
    assert "vsr: note: something\n" in shown


def test_a_quiet_screen_says_only_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(threading.Event(), quiet=True, verbose=True, plain=False)
    screen.progress(progress(10))
    screen.note("something")
    screen.interrupted()
    screen.file(Path("a.mp4"), 1, 2)
    assert capsys.readouterr().err == ""
    screen.failure(Path("a.mp4"), OptionError("wrong"))
    assert capsys.readouterr().err == "vsr: error: a.mp4: wrong\n"
