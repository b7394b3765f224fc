"""How far a build is: one number out of phases within phases, from the real builder too, and calling it off."""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsr.cli import build_bar
from vsr.cli.build_bar import BuildBar
from vsr.errors import InterruptedJobError
from vsr.gpu.build import EngineRequest, build_engine
from vsr.gpu.build_progress import BuildProgress
from vsr.gpu.engine_store import Profile
from vsr.gpu.names import Gpu
from vsr.model import BICUBIC, Model

SMALL = Profile((64, 48), (64, 48), (64, 48))


def request() -> EngineRequest:
    return EngineRequest(Model(BICUBIC, 2), Gpu((8, 9)), "gray", profile=SMALL)


# A phase is its steps, and a step the phases that come before it is done
PHASES = st.recursive(st.just([]), lambda phase: st.lists(st.lists(phase, max_size=2), max_size=4), max_leaves=12)


def run(progress: BuildProgress, steps: list[Any], name: str = "root", parent: str | None = None) -> bool:
    progress.phase_start(name, parent, len(steps))
    try:
        for number, within in enumerate(steps):
            for index, phase in enumerate(within):
                if not run(progress, phase, f"{name}.{number}.{index}", name):
                    return False
            if not progress.step_complete(name, number):
                return False
        return True
    finally:
        progress.phase_finish(name)


@settings(max_examples=25, deadline=None)
@given(steps=PHASES)
def test_it_never_goes_back_and_ends_at_one(steps: list[Any]) -> None:
    told: list[float] = []
    assert run(BuildProgress(lambda share: told.append(share) or True), steps)  # type: ignore[func-returns-value]
    assert told == sorted(told)
    assert all(0 <= share <= 1 for share in told)
    assert not steps or told[-1] == 1


def test_a_phase_counts_as_part_of_its_parents_step() -> None:
    told: list[float] = []
    run(BuildProgress(lambda share: told.append(share) or True), [[], [[[], []]]])  # type: ignore[func-returns-value]
    assert told == [0.5, 0.75, 1, 1]


@settings(max_examples=25, deadline=None)
@given(steps=PHASES, after=st.integers(0, 20))
def test_once_called_off_it_asks_no_more(steps: list[Any], after: int) -> None:
    told: list[float] = []

    def on_build(share: float) -> bool:
        told.append(share)
        return len(told) <= after

    progress = BuildProgress(on_build)
    finished = run(progress, steps)
    assert finished == (not progress.stopped)
    assert len(told) <= after + 1


# -- the real builder -------------------------------------------------------------------------------------------------


def test_a_real_build_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[float] = []
    report = build_engine(request(), tmp_path / "x.engine", on_build=lambda share: told.append(share) or True)  # type: ignore[func-returns-value]
    assert report.reason is not None
    assert len(set(told)) > 10
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_build_that_is_called_off_leaves_no_engine_and_can_be_done_again(tmp_path: Path) -> None:
    with pytest.raises(InterruptedJobError, match="while an engine of model bicubic was being built"):
        build_engine(request(), tmp_path / "x.engine", on_build=lambda share: share < 0.2)
    assert [p.name for p in tmp_path.iterdir()] == ["x.engine.lock"]
    assert build_engine(request(), tmp_path / "x.engine").reason == "it is not there yet"


def test_what_the_callback_raises_comes_out_of_the_build(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def on_build(share: float) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(request(), tmp_path / "x.engine", on_build=on_build)
    assert capfd.readouterr().err == ""


def test_waiting_for_another_process_can_be_called_off(tmp_path: Path) -> None:
    notes: list[str] = []
    with (tmp_path / "x.engine.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        asked = iter([True, True, False])
        with pytest.raises(InterruptedJobError, match=r"another process was building x\.engine"):
            build_engine(request(), tmp_path / "x.engine", on_note=notes.append, on_build=lambda _: next(asked))
    assert notes == ["another process is building x.engine; waiting for it"]


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_on_a_terminal_there_is_a_bar_until_the_engine_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)  # tqdm's own watching thread stays for ever
    monkeypatch.setenv("COLUMNS", "80")
    bar = BuildBar(plain=False)
    for share in (0.0, 0.5, 1.0):
        bar.show(share)
    bar.close()
    shown = capsys.readouterr().err
    assert "building the engine   0%|" in shown
    assert shown.endswith("\r")  # and is gone
    assert "100%" not in shown.split("\r")[-2]


def test_elsewhere_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 1.0, 10.5, 11.0, 21.0])
    monkeypatch.setattr(build_bar, "time", SimpleNamespace(monotonic=lambda: next(times)))
    bar = BuildBar(plain=True)
    for share in (0.1, 0.4, 0.5, 0.9):
        bar.show(share)
    assert capsys.readouterr().err.splitlines() == [
        "vsr: 40% of the engine is built",
        "vsr: 90% of the engine is built",
    ]
