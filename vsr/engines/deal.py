"""Frames dealt to several engines in turn, as to the GPUs of one machine. Each engine works in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from vsr.engines.engine import Engine, Ticket
from vsr.errors import BackendError
from vsr.frame import Planes


class DealingEngine:
    """Several engines of one frame graph as one.

    Every frame goes to the next engine in turn that has room; tickets give each frame's own result, in whatever order
    they are asked. The copying that an engine does in `submit` and `result` is done in its own thread, so one engine
    does not wait for another.

    Args:
        engines: at least one; they are closed with this.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._workers = [_Worker(engine, number) for number, engine in enumerate(engines)]
        self._turn = 0
        self.description = " and ".join(dict.fromkeys(engine.description for engine in engines))
        if len(engines) > 1:
            self.description = f"{len(engines)} engines in turn: {self.description}"

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once."""
        return sum(worker.depth for worker in self._workers)

    def submit(self, planes: Planes) -> DealtTicket:
        """Give a frame to the next engine.

        Raises:
            BackendError: `depth` tickets are outstanding already. What the engine itself objects to, the ticket raises.
        """
        for step in range(len(self._workers)):
            place = (self._turn + step) % len(self._workers)
            worker = self._workers[place]
            if worker.outstanding < worker.depth:
                self._turn = place + 1
                return DealtTicket(worker, planes)
        raise BackendError(f"more than {self.depth} frames in flight")

    def close(self) -> None:
        """Close all engines, whatever one of them says to it; then the first such error is raised."""
        errors = [error for worker in self._workers if (error := worker.close()) is not None]
        if errors:
            raise errors[0]


class DealtTicket:
    """A frame at one of the engines."""

    def __init__(self, worker: _Worker, planes: Planes) -> None:
        self.planes: Planes | None = planes
        self.done = threading.Event()
        self.given_up = False
        self.enlarged: Planes | None = None
        self.error: BaseException | None = None
        self._worker = worker
        worker.put(self)

    def result(self) -> Planes:
        """Wait for the frame."""
        self.done.wait()
        self._worker.outstanding -= 1
        if self.error is not None:
            raise self.error
        assert self.enlarged is not None
        return self.enlarged

    def cancel(self) -> None:
        """Give it up, begun or not."""
        self.given_up = True
        self.done.wait()
        self._worker.outstanding -= 1


class _Worker:
    """An engine and its thread. `outstanding` belongs to the thread that submits and takes."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.engine = engine
        self.depth = engine.depth + 1  # one waits, so that the engine need not
        self.outstanding = 0
        self._inbox: deque[DealtTicket] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"engine {number}", daemon=True)
        self._thread.start()

    def put(self, ticket: DealtTicket) -> None:
        """Hand a frame to the thread."""
        self.outstanding += 1
        with self._changed:
            self._inbox.append(ticket)
            self._changed.notify()

    def close(self) -> BaseException | None:
        """End the thread when it has done what it was given, and close the engine; the error that this met."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        try:
            self.engine.close()
        except Exception as error:
            return error
        return None

    def _work(self) -> None:
        flying: deque[tuple[DealtTicket, Ticket]] = deque()
        while True:
            with self._changed:
                while not (self._inbox or flying or self._closing):
                    self._changed.wait()
                room = len(flying) < self.engine.depth
                new = self._inbox.popleft() if self._inbox and room else None
            if new is None and not flying:
                return
            if new is not None:
                self._start(new, flying)
            else:
                self._finish(*flying.popleft())

    def _start(self, dealt: DealtTicket, flying: deque[tuple[DealtTicket, Ticket]]) -> None:
        if dealt.given_up:
            dealt.done.set()
            return
        assert dealt.planes is not None
        try:
            flying.append((dealt, self.engine.submit(dealt.planes)))
        except BaseException as error:
            dealt.error = error
            dealt.planes = None
            dealt.done.set()

    @staticmethod
    def _finish(dealt: DealtTicket, ticket: Ticket) -> None:
        try:
            if dealt.given_up:
                ticket.cancel()
            else:
                dealt.enlarged = ticket.result()
        except BaseException as error:
            dealt.error = error
        dealt.planes = None
        dealt.done.set()
