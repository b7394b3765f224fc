"""Bounded queues between stages that share one failure state.

`queue.Queue` cannot be woken when another stage fails, so a producer blocked on a full queue would wait for ever for a
consumer that died. Here all channels of a pipeline share a `Failure`: setting it wakes every waiter, on every channel.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Aborted(Exception):  # noqa: N818 - control flow inside a pipeline, never an error of its own
    """Another stage failed, or the pipeline was told to stop: unwind quietly."""


class Failure:
    """The first error of a pipeline. Later ones are consequences and are dropped."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self._error: BaseException | None = None
        self._stage: str | None = None

    def fail(self, error: BaseException, stage: str) -> None:
        """Record `error` of `stage` if it is the first, and wake everyone who waits."""
        with self.condition:
            if self._error is None:
                self._error, self._stage = error, stage
            self.condition.notify_all()

    @property
    def error(self) -> BaseException | None:
        """The first error, or None."""
        return self._error

    @property
    def stage(self) -> str | None:
        """The name of the stage that failed first."""
        return self._stage


class Channel(Generic[T]):
    """A first-in, first-out queue of at most `depth` items with one producer and one consumer.

    Args:
        depth: how many items it holds before `put` blocks; at least 1.
        failure: shared by all channels of a pipeline.
    """

    def __init__(self, depth: int, failure: Failure) -> None:
        if depth < 1:
            raise ValueError(f"channel depth {depth}; it must be at least 1")
        self.depth = depth
        self.put_wait_s = 0.0
        self.get_wait_s = 0.0
        self._failure = failure
        self._items: deque[T] = deque()
        self._closed = False
        self._abandoned = False

    def put(self, item: T) -> None:
        """Append `item`; blocks while the channel is full.

        Raises:
            Aborted: another stage has failed, or the consumer wants no more.
        """
        condition = self._failure.condition

        def useless() -> bool:
            return self._abandoned or self._failure.error is not None

        with condition:
            if len(self._items) >= self.depth and not useless():
                start = time.perf_counter()
                condition.wait_for(lambda: len(self._items) < self.depth or useless())
                self.put_wait_s += time.perf_counter() - start
            if useless():
                raise Aborted
            self._items.append(item)
            condition.notify_all()

    def close(self) -> None:
        """Say that no item follows."""
        with self._failure.condition:
            self._closed = True
            self._failure.condition.notify_all()

    def abandon(self) -> None:
        """Say that no item will be taken any more: the producer's next `put` raises `Aborted`."""
        with self._failure.condition:
            self._abandoned = True
            self._items.clear()
            self._failure.condition.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield items until the channel is closed and empty.

        Raises:
            Aborted: another stage has failed.
        """
        condition = self._failure.condition
        while True:
            with condition:
                if not self._items and not self._closed and self._failure.error is None:
                    start = time.perf_counter()
                    condition.wait_for(lambda: bool(self._items) or self._closed or self._failure.error is not None)
                    self.get_wait_s += time.perf_counter() - start
                if self._failure.error is not None:
                    raise Aborted
                if not self._items:
                    return
                item = self._items.popleft()
                condition.notify_all()
            yield item
            del item  # or the consumer's last frame would stay alive while it waits for the next
