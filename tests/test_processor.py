"""Cores, and work that yields to other threads."""

from __future__ import annotations

import os
import threading

import pytest

from vsr.processor import NICEST, YIELDING, yielding


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_that_is_started_yields_too_and_the_caller_does_not() -> None:
    before = niceness()
    found: list[int] = []

    def work() -> str:
        found.append(niceness())
        thread = threading.Thread(target=lambda: found.append(niceness()))
        thread.start()
        thread.join()
        return "done"

    assert yielding(work) == "done"
    assert found == [min(NICEST, before + YIELDING)] * 2
    assert niceness() == before


def test_what_the_work_raises_comes_out() -> None:
    def work() -> None:
        raise ZeroDivisionError("of the work")

    with pytest.raises(ZeroDivisionError, match="of the work"):
        yielding(work)


def test_where_priorities_may_not_be_set_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError

    before = niceness()
    monkeypatch.setattr(os, "setpriority", forbid)
    assert yielding(niceness) == before
