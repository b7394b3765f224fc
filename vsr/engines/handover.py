"""An engine that starts at once as one and goes on as another, which takes its time to come into being.

The change is between two frames: those in flight are finished by the engine that has them, the next goes to the other.
That first frame is computed by both, and the other engine takes over only if the two agree as its precision promises;
whatever goes wrong with it is told in one line, and the work goes on where it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from vsr.engines.engine import DoneTicket, Engine, Ticket
from vsr.engines.replenish import ReplenishingEngine
from vsr.errors import VsrError
from vsr.frame import Planes
from vsr.graphs.fidelity import BOUNDS_DB, worst_psnr
from vsr.surface import SurfacePlanes


class HandoverEngine:
    """Begins as `first`, and goes on as what `prepare` makes.

    Not to be used by two threads at once.

    Args:
        first: at work from the start; closed when its last frame has been taken after the change.
        prepare: makes the other engine, in a thread of its own. The event that it is given is set when the engine is
            no longer wanted; it should then return or raise soon, for `close` waits for it.
        agree: says of two pictures, of `first` and of the other, what is wrong with the second; None if nothing is.
        on_note: is told, a line each, that the work goes over, or why it does not.
    """

    def __init__(
        self,
        first: Engine,
        prepare: Callable[[threading.Event], Engine],
        agree: Callable[[Planes, Planes], str | None],
        on_note: Callable[[str], None],
    ) -> None:
        self._current = _Post(first)
        self._before: _Post | None = None
        self._agree = agree
        self._on_note = on_note
        self._unwanted = threading.Event()
        self._outcome: Engine | Exception | None = None
        self._thread = threading.Thread(target=self._prepare, args=(prepare,), name="vsr-engine", daemon=True)
        self._thread.start()

    @property
    def description(self) -> str:
        """Of the engine that computed the frame submitted last."""
        return self._current.engine.description

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once; another number after the change."""
        return self._current.engine.depth

    @property
    def has_gone_over(self) -> bool:
        """Whether the other engine is at work."""
        return self._before is not None

    @property
    def reused(self) -> float:
        """Share of the computation that was spared so far, 0 to 1."""
        posts = [self._current] if self._before is None else [self._before, self._current]
        frames = sum(post.frames for post in posts)
        return sum(post.frames * post.reused for post in posts) / frames if frames else 0.0

    def submit(self, planes: Planes) -> Ticket:
        """Start a frame; by the other engine from the first frame on for which that is there."""
        if self._outcome is not None and not self._thread.is_alive():
            outcome, self._outcome = self._outcome, None
            if isinstance(outcome, Exception):
                self._stay(outcome)
            else:
                return self._go_over(outcome, planes)
        return self._current.submit(planes)

    def close(self) -> None:
        """Release both engines, and call off what is still being made."""
        given_up = self._thread.is_alive()
        self._unwanted.set()
        self._thread.join()
        outcome, self._outcome = self._outcome, None
        if given_up and self._current.frames:
            self._on_note("the engine that was being built did not come before the end, and was given up")
        elif isinstance(outcome, Exception) and not given_up:
            self._stay(outcome)
        if outcome is not None and not isinstance(outcome, Exception):
            outcome.close()
        for post in (self._before, self._current):
            if post is not None:
                post.close()

    def _prepare(self, prepare: Callable[[threading.Event], Engine]) -> None:
        try:
            self._outcome = prepare(self._unwanted)
        except Exception as error:  # told at the next frame: whatever it is, the job has an engine that works
            self._outcome = error

    def _go_over(self, engine: Engine, planes: Planes) -> Ticket:
        want = self._current.submit(planes).result()
        try:
            got = engine.submit(planes).result()
            wrong = "its pictures are in other memory" if moved(want, got) else self._agree(want, got)
            if wrong is not None:
                raise VsrError(wrong)
        except VsrError as error:
            engine.close()
            self._stay(error)
            return DoneTicket(want)
        self._on_note(f"after {self._current.frames - 1} frames the work goes over to {engine.description}")
        self._before, self._current = self._current, _Post(engine)
        self._before.frames -= 1  # that frame is the other's
        self._before.retire()
        self._current.frames = 1
        return DoneTicket(got)

    def _stay(self, error: Exception) -> None:
        why = str(error) if isinstance(error, VsrError) else f"{type(error).__name__}: {error}"
        self._on_note(f"the work stays with {self.description}: {' '.join(why.split())}")


def moved(one: Planes, other: Planes) -> bool:
    """Whether one of two pictures is a surface and the other is not: an open encoder takes the one kind only."""
    return isinstance(one, SurfacePlanes) != isinstance(other, SurfacePlanes)


def bound_check(precision: str) -> Callable[[Planes, Planes], str | None]:
    """What `HandoverEngine` asks of two pictures, for an engine of fp32, fp16 or int8.

    The one before it computes in fp32, or for int8 in int8: against fp32 a quantised model has no bound that holds on
    every picture (on noise it is at 24 dB, and two runtimes in int8 are at 50 dB from each other).
    """

    def check(want: Planes, got: Planes) -> str | None:
        if precision == "fp32":
            pairs = zip(want.arrays, got.arrays, strict=True)
            worst = max(int(np.abs(a.astype(np.int32) - b.astype(np.int32)).max()) for a, b in pairs)
            return None if worst <= 1 else f"a sample of the other engine's picture is off by {worst}, and 1 is allowed"
        found, bound = worst_psnr(want, got), BOUNDS_DB[precision]
        if found >= bound:
            return None
        return f"the other engine's picture is {found:.1f} dB from this one's, and {precision} must reach {bound:g} dB"

    return check


class _Post:
    """An engine, and the frames that it has."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.frames = 0
        self._in_flight = 0
        self._retired = False
        self._open = True

    @property
    def reused(self) -> float:
        return self.engine.reused if isinstance(self.engine, ReplenishingEngine) else 0.0

    def submit(self, planes: Planes) -> Ticket:
        ticket = _Counted(self.engine.submit(planes), self._taken)
        self.frames += 1
        self._in_flight += 1
        return ticket

    def retire(self) -> None:
        """No more frames come: close when the last has been taken."""
        self._retired = True
        if self._in_flight == 0:
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self.engine.close()

    def _taken(self) -> None:
        self._in_flight -= 1
        if self._retired and self._in_flight == 0:
            self.close()


class _Counted:
    """A ticket that tells once when it has been taken or given up."""

    def __init__(self, ticket: Ticket, on_end: Callable[[], None]) -> None:
        self._ticket = ticket
        self._on_end: Callable[[], None] | None = on_end

    def result(self) -> Planes:
        try:
            return self._ticket.result()
        finally:
            self._end()

    def cancel(self) -> None:
        try:
            self._ticket.cancel()
        finally:
            self._end()

    def _end(self) -> None:
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end()
