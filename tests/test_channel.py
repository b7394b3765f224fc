"""Channels: order, bound, and waking on failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsr.channel import Aborted, Channel, Failure

PROMPT_S = 5.0  # generous: the machine may be loaded, and a deadlock lasts for ever


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Channel[int](0, Failure())


def test_a_closed_channel_yields_what_it_holds_and_ends() -> None:
    channel = Channel[int](4, Failure())
    for i in range(3):
        channel.put(i)
    channel.close()
    assert list(channel) == [0, 1, 2]


@settings(max_examples=25, deadline=None)
@given(depth=st.integers(1, 5), count=st.integers(0, 40), slow=st.sampled_from(["producer", "consumer", "neither"]))
def test_order_is_kept_and_never_more_than_depth_items_wait(depth: int, count: int, slow: str) -> None:
    failure = Failure()
    channel = Channel[int](depth, failure)
    put_so_far = 0

    def produce() -> None:
        nonlocal put_so_far
        for i in range(count):
            if slow == "producer":
                time.sleep(0.0002)
            channel.put(i)
            put_so_far = i + 1
        channel.close()

    thread = in_thread(produce)
    got: list[int] = []
    for item in channel:
        assert put_so_far - len(got) <= depth + 1  # + 1: this one has been taken and not counted yet
        got.append(item)
        if slow == "consumer":
            time.sleep(0.0002)
    thread.join(PROMPT_S)
    assert got == list(range(count))


def test_put_blocks_when_the_channel_is_full_and_counts_the_wait() -> None:
    channel = Channel[int](1, Failure())
    channel.put(0)
    thread = in_thread(lambda: (channel.put(1), channel.close()))
    time.sleep(0.05)
    assert thread.is_alive()
    assert list(channel) == [0, 1]
    thread.join(PROMPT_S)
    assert channel.put_wait_s >= 0.03


def test_get_blocks_when_the_channel_is_empty_and_counts_the_wait() -> None:
    channel = Channel[int](1, Failure())

    def produce() -> None:
        time.sleep(0.05)
        channel.put(7)
        channel.close()

    thread = in_thread(produce)
    assert list(channel) == [7]
    thread.join(PROMPT_S)
    assert channel.get_wait_s >= 0.03
    assert channel.put_wait_s == 0


def test_waiting_on_one_channel_is_ended_by_a_failure_seen_on_another() -> None:
    failure = Failure()
    full, empty = Channel[int](1, failure), Channel[int](1, failure)
    full.put(0)
    raised: list[str] = []

    def blocked_put() -> None:
        try:
            full.put(1)
        except Aborted:
            raised.append("put")

    def starved_get() -> None:
        try:
            list(empty)
        except Aborted:
            raised.append("get")

    threads = [in_thread(blocked_put), in_thread(starved_get)]
    time.sleep(0.02)
    failure.fail(RuntimeError("elsewhere"), "third stage")
    for thread in threads:
        thread.join(PROMPT_S)
    assert sorted(raised) == ["get", "put"]


def test_items_that_wait_are_not_handed_on_after_a_failure() -> None:
    failure = Failure()
    channel = Channel[int](2, failure)
    channel.put(1)
    failure.fail(RuntimeError(), "a")
    with pytest.raises(Aborted):
        next(iter(channel))
    with pytest.raises(Aborted):
        channel.put(2)


def test_only_the_first_failure_is_kept() -> None:
    failure = Failure()
    first, second = RuntimeError("first"), RuntimeError("second")
    failure.fail(first, "a")
    failure.fail(second, "b")
    assert failure.error is first
    assert failure.stage == "a"
