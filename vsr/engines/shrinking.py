"""An engine that goes on, smaller, when a GPU's memory gives out in the middle of a job.

What a picture takes is found out before the first one, and kept. But other programs use the GPU too, and runtimes take
a little more now and then. The engine is then closed and opened again: with one picture in flight, then with smaller
batches, then for strips. The pictures that were in flight are computed anew, so nothing is lost.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import replace

from vsr.engines.engine import Engine, EngineSpec, Ticket
from vsr.engines.fitting import Plan, compile_plan, in_words, planned, smaller
from vsr.errors import BackendError, DeviceMemoryError
from vsr.frame import Planes


class ShrinkingEngine:
    """At first what `vsr.engines.fitting.compile_fitting` makes. Not to be used by two threads at once.

    Args:
        compile_spec: a backend's `compile`, or what does as much.
        spec: of the whole picture; its `on_note` is told of each step.
        budget: as for `compile_fitting`.

    Attributes:
        engine: at work now.

    Raises:
        As `compile_fitting`.
    """

    def __init__(
        self, compile_spec: Callable[[EngineSpec], Engine], spec: EngineSpec, budget: int | None = None
    ) -> None:
        self._compile = compile_spec
        self.engine, self._plan = compile_plan(compile_spec, spec, planned(spec, budget))
        self._one_at_a_time = replace(spec, lanes=1)
        self._tickets: list[ShrinkingTicket] = []  # that are outstanding, oldest first
        self._failure: BackendError | None = None

    @property
    def description(self) -> str:
        """Of the engine that is at work."""
        return self.engine.description

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once; fewer after a change."""
        return self.engine.depth

    def submit(self, planes: Planes) -> ShrinkingTicket:
        """Start a frame. After a change it may wait for those that the engine no longer takes at once."""
        if len(self._tickets) >= self.depth:
            raise BackendError(f"more than {self.depth} frames in flight")
        ticket = ShrinkingTicket(self, planes)
        self._tickets.append(ticket)
        try:
            self._persist(self._start)
        except BaseException:
            self._tickets.remove(ticket)
            raise
        return ticket

    def finish(self, ticket: ShrinkingTicket) -> Planes:
        """Wait for a frame."""
        try:
            self._persist(lambda: self._compute(ticket))
        finally:
            self._tickets.remove(ticket)
        assert ticket.enlarged is not None
        return ticket.enlarged

    def cancel(self, ticket: ShrinkingTicket) -> None:
        """Give a frame up."""
        self._tickets.remove(ticket)
        if ticket.inner is not None:
            ticket.inner.cancel()

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    def _start(self) -> None:
        """Start frames that wait, the oldest first, as many as the engine takes."""
        running = sum(ticket.inner is not None for ticket in self._tickets)
        for ticket in self._tickets:
            if ticket.inner is None and ticket.enlarged is None and running < self.engine.depth:
                ticket.inner = self.engine.submit(ticket.planes)
                running += 1

    def _compute(self, wanted: ShrinkingTicket) -> None:
        """See that a frame is computed, and before it, where it waits for room, those that are ahead of it."""
        while wanted.enlarged is None:
            self._start()
            ticket = wanted if wanted.inner is not None else next(t for t in self._tickets if t.inner is not None)
            inner, ticket.inner = ticket.inner, None
            assert inner is not None
            ticket.enlarged = inner.result()

    def _persist(self, work: Callable[[], None]) -> None:
        """Do it, with smaller engines if it must be."""
        while True:
            if self._failure is not None:
                raise self._failure
            try:
                return work()
            except DeviceMemoryError as error:
                told = DeviceMemoryError(error.message, error.hint)  # without the frames that hold the GPU's memory
            try:
                self._shrink(told)
            except BackendError as error:
                self._failure = error

    def _shrink(self, error: DeviceMemoryError) -> None:
        for ticket in self._tickets:
            if ticket.inner is not None:
                with contextlib.suppress(BackendError):
                    ticket.inner.cancel()
                ticket.inner = None
        self.engine.close()
        gc.collect()
        self._plan = self._next_plan(error)
        self._one_at_a_time.on_note(f"{error.message}: going on with {in_words(self._plan)}")
        self.engine, self._plan = compile_plan(self._compile, self._one_at_a_time, self._plan)

    def _next_plan(self, error: DeviceMemoryError) -> Plan:
        plan = self._plan
        if plan.spec.lanes != 1:
            return replace(plan, spec=replace(plan.spec, lanes=1))
        less = smaller(self._one_at_a_time, plan, error)
        if plan.spec.keep and not less.spec.keep:
            raise DeviceMemoryError(
                f"{error.message}; the pictures are in the GPU's memory, and the encoder takes no others any more",
                "use --hw decode",
            )
        return less


class ShrinkingTicket:
    """A frame that is in flight, waits to be started, or has been computed while another one was waited for."""

    def __init__(self, engine: ShrinkingEngine, planes: Planes) -> None:
        self.planes = planes
        self.inner: Ticket | None = None
        self.enlarged: Planes | None = None
        self._engine = engine

    def result(self) -> Planes:
        """Wait for the frame."""
        return self._engine.finish(self)

    def cancel(self) -> None:
        """Give it up."""
        self._engine.cancel(self)
