"""Stages on threads, joined by bounded channels.

A stage is a function from an iterator of items to an iterator of items; it knows nothing of threads, queues or the
other stages. The first stage gets an empty iterator, what the last one yields is handed to the caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vsr.channel import Aborted, Channel, Failure

StageFunction = Callable[[Iterator[Any]], Iterable[Any]]


@dataclass(frozen=True)
class StageStats:
    """How a stage spent its time.

    Attributes:
        name: of the stage.
        items: how many it handed on.
        wall_s: seconds from its start to its end.
        starved_s: seconds it waited for the stage before it.
        blocked_s: seconds it waited for the stage after it.
    """

    name: str
    items: int
    wall_s: float
    starved_s: float
    blocked_s: float

    @property
    def busy_s(self) -> float:
        """Seconds spent on its own work."""
        return max(0.0, self.wall_s - self.starved_s - self.blocked_s)

    @property
    def occupancy(self) -> float:
        """Share of its time spent on its own work, 0 to 1."""
        return self.busy_s / self.wall_s if self.wall_s > 0 else 0.0


def bottleneck(stats: Iterable[StageStats]) -> StageStats | None:
    """The stage that worked the longest: the one to make faster. None if no stage ran."""
    return max(stats, key=lambda s: s.busy_s, default=None)


class Pipeline:
    """Runs stages until the last item has come out, or one of them fails.

    Args:
        stages: (name, function) in the order of the data.
        depth: items each channel between two stages holds at most.
    """

    def __init__(self, stages: Sequence[tuple[str, StageFunction]], depth: int = 4) -> None:
        self._failure = Failure()
        self._channels = [Channel[Any](depth, self._failure) for _ in stages]
        self._stages = list(stages)
        self._stats: dict[str, StageStats] = {}
        self._threads = [
            threading.Thread(target=self._run_stage, args=(i,), name=f"vsr-{name}")
            for i, (name, _) in enumerate(self._stages)
        ]

    @property
    def stats(self) -> tuple[StageStats, ...]:
        """Statistics of the stages that have ended, in order."""
        return tuple(self._stats[name] for name, _ in self._stages if name in self._stats)

    def run(self) -> Iterator[Any]:
        """Start the threads and yield what the last stage yields. All threads are joined when this ends.

        Raises:
            Exception: the first error of any stage, itself.
        """
        for thread in self._threads:
            thread.start()
        try:
            yield from self._channels[-1]
        except Aborted:
            pass  # the stage that failed has said why; raised below, when every thread has ended
        except BaseException as error:  # thrown in by the consumer, which is leaving: stop the stages first
            self._failure.fail(error, "consumer")
            raise
        finally:
            for thread in self._threads:
                thread.join()
        first_error = self._failure.error
        if first_error is not None:
            raise first_error

    def _run_stage(self, index: int) -> None:
        name, function = self._stages[index]
        source: Iterator[Any] = iter(self._channels[index - 1]) if index else iter(())
        output = self._channels[index]
        items = 0
        start = time.perf_counter()
        try:
            results = iter(function(source))
            try:
                for item in results:
                    output.put(item)
                    items += 1
                    del item
            finally:
                close = getattr(results, "close", None)
                if close is not None:  # a generator: let it release what it holds in this thread
                    close()
        except Aborted:
            pass
        except BaseException as error:
            self._failure.fail(error, name)
        finally:
            if index:  # a stage may end before its input does; those before it must not wait for ever
                self._channels[index - 1].abandon()
            output.close()
            wall = time.perf_counter() - start
            starved = self._channels[index - 1].get_wait_s if index else 0.0
            self._stats[name] = StageStats(name, items, wall, starved, output.put_wait_s)
