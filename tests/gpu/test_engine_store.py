"""Engine files: trusted only if the manifest says so and the bytes agree; built by one process at a time."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vsr.errors import OutputError
from vsr.gpu import engine_store
from vsr.gpu.engine_store import EngineKey, Profile, building, default_folder, manifest_path, publish, refusal

ONE_SIZE = Profile((480, 270), (480, 270), (480, 270))
KEY = EngineKey(
    "fast", "aa", "bb", 3, "yuv420p", "bt709-limited-left", "fp16", ONE_SIZE, "tensorrt-rtx", "1.7", "sm_89", ""
)
DATA = bytes(range(256)) * 40


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / KEY.file_name
    publish(path, KEY, DATA, {"build_s": 0.1})
    assert refusal(path, KEY) is None
    return path


OTHER = {
    "model_sha256": ("cc", "another model"),
    "scale": (2, "enlarges 3 times"),
    "pix_fmt": ("nv12", "takes yuv420p"),
    "color": ("bt601-full-left", "for bt709-limited-left"),
    "precision": ("int8", "computes in fp16"),
    "profile": (Profile((64, 64), (64, 64), (64, 64)), "other sizes"),
    "graph_sha256": ("dd", "another version of vsr"),
    "runtime": ("tensorrt", "built by tensorrt-rtx, and tensorrt is used"),
    "runtime_version": ("1.8", "version 1.7 of tensorrt-rtx, and 1.8 is installed"),
    "capability": ("sm_120", "built for sm_89, and sm_120 is wanted"),
    "gpu": ("NVIDIA L4", "this GPU is NVIDIA L4"),
}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(EngineKey) if f.name != "model"])
def test_an_engine_for_something_else_is_refused_with_what_it_is_for(field: str, engine: Path) -> None:
    value, words = OTHER[field]
    changes: dict[str, Any] = {field: value}
    assert words in str(refusal(engine, dataclasses.replace(KEY, **changes)))


def truncated(path: Path) -> None:
    path.write_bytes(DATA[:-7])


def edited(path: Path) -> None:
    path.write_bytes(DATA[:100] + b"\x00" + DATA[101:])


def without_manifest(path: Path) -> None:
    manifest_path(path).unlink()


def broken_manifest(path: Path) -> None:
    manifest_path(path).write_bytes(manifest_path(path).read_bytes()[:60])


def foreign_manifest(path: Path) -> None:
    manifest_path(path).write_text(json.dumps({"key": "value"}))


def manifest_of_another_kind(path: Path) -> None:
    manifest_path(path).write_text("[1, 2]")


def gone(path: Path) -> None:
    path.unlink()


DAMAGE: dict[Callable[[Path], None], str] = {
    truncated: "10233 bytes of 10240",
    edited: "changed since it was built",
    without_manifest: "no manifest",
    broken_manifest: "manifest cannot be read",
    foreign_manifest: "manifest cannot be read",
    manifest_of_another_kind: "manifest cannot be read",
    gone: "not there yet",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_a_damaged_engine_is_refused_with_its_reason(damage: Callable[[Path], None], engine: Path) -> None:
    damage(engine)
    assert DAMAGE[damage] in str(refusal(engine, KEY))


def test_a_crash_between_engine_and_manifest_leaves_nothing_that_is_trusted(engine: Path) -> None:
    engine.write_bytes(DATA[::-1])  # the new engine is there, the manifest is still the old one
    assert refusal(engine, KEY) is not None


def test_names_tell_what_engines_are_for_and_keep_two_models_of_one_name_apart() -> None:
    assert KEY.file_name == "fast_x3_yuv420p_bt709-limited-left_480x270_fp16_tensorrt-rtx_sm_89.engine"
    own = [dataclasses.replace(KEY, model="my model.onnx", model_sha256=2 * h) for h in ("0123", "4567")]
    assert own[0].file_name != own[1].file_name
    assert own[0].file_name.startswith("my-model-01230123_x3")
    free = dataclasses.replace(KEY, profile=Profile((64, 64), (64, 64), (128, 96), 2))
    assert "_64x64-128x96-b2_" in free.file_name
    assert dataclasses.replace(KEY, runtime_version="9").file_name == KEY.file_name  # so it is replaced


def test_in_a_checkout_engines_go_to_its_folder_and_installed_to_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert default_folder() == Path(engine_store.__file__).resolve().parents[2] / "engines"
    monkeypatch.setattr(engine_store, "__file__", str(tmp_path / "site-packages" / "vsr" / "gpu" / "engine_store.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_folder() == tmp_path / "cache" / "vsr" / "engines"


HOLDER = """
import sys
from pathlib import Path
from vsr.gpu.engine_store import building
with building(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_while_another_process_builds_the_second_waits_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.engine"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waits, got = threading.Event(), threading.Event()

        def second() -> None:
            with building(path, waits.set):
                got.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(20)
        assert not got.wait(0.1)
        holder.stdin.write("\n")
        holder.stdin.close()
        thread.join(20)
    assert got.is_set()


def test_a_killed_builder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    waited: list[bool] = []
    with building(path, lambda: waited.append(True)):
        pass
    assert waited == []


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"), building(tmp_path / "file" / "x.engine"):
        pass
