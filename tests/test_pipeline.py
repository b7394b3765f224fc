"""The pipeline: order, bound, shutdown by error or by choice, and its account of where the time went."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsr.pipeline import Pipeline, StageStats, bottleneck


class BoomError(Exception):
    """What failing stages raise here."""


class Item:
    """Something that can be weakly referenced."""

    def __init__(self, number: int) -> None:
        self.number = number


def count_to(limit: int | None, delay: float = 0.0) -> Callable[[Iterator[Any]], Iterator[int]]:
    def stage(_: Iterator[Any]) -> Iterator[int]:
        for i in itertools.count() if limit is None else range(limit):
            if delay:
                time.sleep(delay)
            yield i

    return stage


def passing(delay: float = 0.0) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def stage(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if delay:
                time.sleep(delay)
            yield item

    return stage


def failing_at(number: int, error: BaseException) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def stage(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if item == number:
                raise error
            yield item

    return stage


@contextlib.contextmanager
def rescue(pipeline: Pipeline) -> Iterator[None]:
    """Turns a deadlock into a failed test: blocked threads would keep the whole test run from ending."""
    deadlock = TimeoutError("deadlock")
    timer = threading.Timer(10, lambda: pipeline._failure.fail(deadlock, "test"))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def vsr_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("vsr-")]


@settings(max_examples=20, deadline=None)
@given(
    delays=st.lists(
        st.lists(st.sampled_from([0, 0, 0, 0.0005, 0.002]), min_size=1, max_size=7), min_size=1, max_size=5
    ),
    depth=st.integers(1, 6),
    count=st.integers(0, 60),
    consumer=st.sampled_from([0, 0.0005]),
)
def test_order_is_kept_whatever_the_delays(delays: list[list[float]], depth: int, count: int, consumer: float) -> None:
    def waiting(steps: list[float]) -> Callable[[Iterator[Any]], Iterator[Any]]:
        def stage(items: Iterator[Any]) -> Iterator[Any]:
            for item, delay in zip(items, itertools.cycle(steps), strict=False):
                if delay:
                    time.sleep(delay)
                yield item

        return stage

    stages = [("source", count_to(count)), *((f"s{i}", waiting(steps)) for i, steps in enumerate(delays))]
    pipeline = Pipeline(stages, depth)
    got = []
    for item in pipeline.run():
        if consumer:
            time.sleep(consumer)
        got.append(item)
    assert got == list(range(count))
    assert [s.items for s in pipeline.stats] == [count] * len(stages)
    assert not vsr_threads()


def test_stages_may_drop_add_and_return_plain_iterables() -> None:
    def doubled(items: Iterator[int]) -> Iterable[int]:
        return (x for i in items for x in (i, i))

    def odd(items: Iterator[int]) -> Iterable[int]:
        return [i for i in items if i % 2]

    assert list(Pipeline([("a", count_to(6)), ("b", doubled), ("c", odd)], 2).run()) == [1, 1, 3, 3, 5, 5]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("at", [0, 13])
def test_an_error_in_any_stage_comes_out_itself_and_joins_every_thread(position: int, depth: int, at: int) -> None:
    error = BoomError("here")
    stages: list[Any] = [("source", count_to(None)), *((f"s{i}", passing()) for i in range(1, 4))]
    if position:
        stages[position] = (f"s{position}", failing_at(at, error))
    else:
        stages[0] = ("source", lambda _: failing_at(at, error)(iter(count_to(None)(iter(())))))
    with pytest.raises(BoomError) as caught:
        for _ in Pipeline(stages, depth).run():
            pass
    assert caught.value is error
    assert not vsr_threads()


def test_an_error_of_a_function_that_is_no_generator_counts_too() -> None:
    def broken(_: Iterator[Any]) -> Iterable[Any]:
        raise BoomError

    with pytest.raises(BoomError):
        list(Pipeline([("a", count_to(None)), ("b", broken)], 1).run())
    assert not vsr_threads()


def test_the_first_error_wins_over_those_that_follow_from_it() -> None:
    first, second = BoomError("first"), BoomError("second")

    def releasing(items: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from items
        finally:
            raise second

    stages = [("a", count_to(None)), ("b", releasing), ("c", failing_at(5, first)), ("d", releasing)]
    with pytest.raises(BoomError) as caught:
        list(Pipeline(stages, 2).run())
    assert caught.value is first


@pytest.mark.timeout(30)
@pytest.mark.parametrize("error", [BoomError("consumer"), KeyboardInterrupt(), GeneratorExit()])
def test_a_consumer_that_throws_joins_every_thread(error: BaseException) -> None:
    running = Pipeline([("a", count_to(None)), ("b", passing()), ("c", passing())], 2).run()
    for _ in range(10):
        next(running)
    with pytest.raises(type(error)) as caught:
        running.throw(error)
    assert caught.value is error
    assert not vsr_threads()


@pytest.mark.timeout(30)
def test_a_consumer_that_stops_early_leaves_no_thread() -> None:
    running = Pipeline([("a", count_to(None)), ("b", passing()), ("c", passing())], 3).run()
    assert list(itertools.islice(running, 7)) == list(range(7))
    running.close()
    assert not vsr_threads()


@pytest.mark.parametrize("where", [1, 2])
def test_a_stage_that_ends_before_its_input_does_not_leave_the_stages_before_it_blocked(where: int) -> None:
    """As a sink does that is told to stop: it takes no more frames, and what it has made still comes out."""
    stages: list[Any] = [("a", count_to(None)), ("b", passing()), ("c", passing())]
    stages[where] = ("short", lambda items: itertools.islice(items, 5))
    pipeline = Pipeline(stages, 2)
    with rescue(pipeline):
        assert list(pipeline.run()) == [0, 1, 2, 3, 4]
    assert not vsr_threads()


@pytest.mark.parametrize("how", ["end", "error downstream", "consumer leaves"])
def test_a_generator_is_closed_in_the_thread_of_its_stage(how: str) -> None:
    closed_in: dict[str, str] = {}

    def holding(name: str) -> Callable[[Iterator[Any]], Iterator[Any]]:
        def stage(items: Iterator[Any]) -> Iterator[Any]:
            try:
                yield from items
            finally:
                closed_in[name] = threading.current_thread().name

        return stage

    last = failing_at(3, BoomError()) if how == "error downstream" else passing()
    source = count_to(8) if how == "end" else count_to(None)
    stages = [("a", lambda i: holding("a")(source(i))), ("b", holding("b")), ("c", last)]
    running = Pipeline(stages, 2).run()
    if how == "consumer leaves":
        next(running)
        running.close()
    elif how == "end":
        list(running)
    else:
        with pytest.raises(BoomError):
            list(running)
    assert closed_in == {"a": "vsr-a", "b": "vsr-b"}


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_items_are_alive_than_the_channels_hold(depth: int) -> None:
    alive = 0
    most = 0
    lock = threading.Lock()

    def gone() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def make(_: Iterator[Any]) -> Iterator[Item]:
        nonlocal alive, most
        for i in range(60):
            item = Item(i)
            weakref.finalize(item, gone)
            with lock:
                alive += 1
                most = max(most, alive)
            yield item
            del item

    def hand_on(items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            yield item
            del item

    for item in Pipeline([("a", make), ("b", hand_on), ("c", hand_on)], depth).run():
        time.sleep(0.002)
        del item
    gc.collect()
    # Three channels, one item in the hands of each stage, one with the consumer
    assert most <= 3 * depth + 3 + 1
    assert alive == 0


def test_statistics_add_up_and_the_slow_stage_is_named() -> None:
    stages = [("quick", count_to(20)), ("slow", passing(0.008)), ("idle", passing())]
    pipeline = Pipeline(stages, 2)
    assert len(list(pipeline.run())) == 20
    stats = {s.name: s for s in pipeline.stats}
    assert [s.name for s in pipeline.stats] == ["quick", "slow", "idle"]
    for one in stats.values():
        assert one.busy_s + one.starved_s + one.blocked_s == pytest.approx(one.wall_s, abs=1e-3)
        assert 0 <= one.occupancy <= 1
    limiting = bottleneck(pipeline.stats)
    assert limiting is not None
    assert limiting.name == "slow"
    assert stats["slow"].busy_s >= 20 * 0.008 * 0.9
    assert stats["quick"].blocked_s > stats["quick"].starved_s == 0
    assert stats["idle"].starved_s > 0.5 * stats["idle"].wall_s


def test_a_slow_consumer_is_no_stages_work() -> None:
    pipeline = Pipeline([("a", count_to(20)), ("b", passing())], 1)
    for _ in pipeline.run():
        time.sleep(0.005)
    assert all(s.busy_s < 0.5 * s.wall_s for s in pipeline.stats)


def test_bottleneck_of_nothing_is_nothing() -> None:
    assert bottleneck([]) is None
    assert StageStats("a", 0, 0.0, 0.0, 0.0).occupancy == 0
