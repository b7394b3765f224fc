"""How far TensorRT has come with building an engine, as one number, and a way to call it off.

TensorRT tells of phases within phases, each of a known number of steps (IProgressMonitor, since 8.6), from whichever of
its threads is at work. A phase counts as a part of the step of its parent that is being done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OnBuild = Callable[[float], bool]
"""Is told how much of a build is done, 0 to 1, again and again; answers whether to go on."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Puts the phases together.

    Args:
        on_build: is told; from one thread at a time, and never less than before.

    Attributes:
        stopped: whether it has said not to go on, or raised.
        error: what it raised, which must not travel through TensorRT.
    """

    def __init__(self, on_build: OnBuild) -> None:
        self._on_build = on_build
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._told = 0.0
        self.stopped = False
        self.error: BaseException | None = None

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[phase_name] = _Phase(parent_phase, max(1, num_steps))

    def phase_finish(self, phase_name: str) -> None:
        """A phase has ended, perhaps before its last step."""
        with self._lock:
            self._phases.pop(phase_name, None)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """A step of a phase is done; the answer is whether to go on."""
        with self._lock:
            if not self.stopped:
                phase = self._phases.get(phase_name)
                if phase is not None:
                    phase.done = max(phase.done, step + 1)
                self._told = max(self._told, self._share())
                try:
                    self.stopped = not self._on_build(self._told)
                except BaseException as error:  # KeyboardInterrupt too: raised again when TensorRT has returned
                    self.error, self.stopped = error, True
            return not self.stopped

    def _share(self) -> float:
        roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        return max((self._share_of(name) for name in roots), default=0.0)

    def _share_of(self, name: str) -> float:
        phase = self._phases[name]
        inner = max((self._share_of(n) for n, p in self._phases.items() if p.parent == name), default=0.0)
        return min(1.0, (phase.done + min(inner, 1.0)) / phase.steps)


def monitor(module: Any, progress: BuildProgress) -> Any:
    """`progress` as the IProgressMonitor of a TensorRT package, which must outlive the build."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        """Hands everything on."""

        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.phase_start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            progress.phase_finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step_complete(phase_name, step)

    return Monitor()
