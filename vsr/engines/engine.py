"""Engines: frame graphs compiled by one runtime for one device, behind one small protocol.

A backend is named in `BACKENDS` as "module:class" and imported only when it is used, so that no command pays for a
runtime that it does not need, and a missing runtime is an answer rather than an ImportError.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral
from typing import Final, Protocol, runtime_checkable

from vsr.errors import BackendError, OptionError
from vsr.frame import Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import Model

PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class EngineSpec:
    """What to compile.

    Attributes:
        model: the model in the frame graph.
        graph: format, colour, scale and size of the pictures.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`. `auto` is decided by `vsr.engines.precision` before
        anything is
            compiled, and a backend that is given it takes fp32; `int8` needs a model that is quantised, and 8-bit
            pictures.
        threads: of the CPU; 0 lets the backend choose.
        devices: where: `cpu`, `cuda:0` and so on. Several share the frames, which are dealt to them in turn; none
            leaves it to the backend.
        lanes: pictures in flight on a GPU, or batches of them; 0 lets the backend choose.
        batch: pictures that a GPU computes at once; only TensorRT takes more than one.
        surfaces: whether pictures may come as surfaces (`vsr.surface`) of the engine's own device without a detour
            through host memory; planes are taken too.
        keep: whether enlarged pictures stay on the device, as surfaces; needs `surfaces`.
        on_note: is told, a line each, what takes its time and why.
        on_build: is told, while something is built that takes long, how much of it is done, 0 to 1, and answers whether
            to go on.
    """

    model: Model
    graph: FrameGraphSpec
    precision: str = "auto"
    threads: int = 0
    devices: tuple[str, ...] = ()
    surfaces: bool = False
    keep: bool = False
    lanes: int = 0
    batch: int = 1
    on_note: Callable[[str], None] = field(default=lambda _: None, compare=False)
    on_build: Callable[[float], bool] = field(default=lambda _: True, compare=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision {self.precision!r}; allowed are {', '.join(PRECISIONS)}")
        if not isinstance(self.threads, Integral) or self.threads < 0:
            raise OptionError(f"threads {self.threads!r}; it must be 0 (automatic) or more")
        if not isinstance(self.batch, Integral) or self.batch < 1:
            raise OptionError(f"batch {self.batch!r}; it must be 1 or more")
        if self.precision == "int8" and self.graph.format.bits > 8:
            raise OptionError(
                f"precision int8 for pictures of {self.graph.format.bits} bits, which it would reduce to 8",
                "use --precision fp32",
            )


class Ticket(Protocol):
    """A frame in flight."""

    def result(self) -> Planes:
        """Wait for the frame and return its planes, which the caller owns.

        Raises:
            BackendError: the runtime failed.
        """

    def cancel(self) -> None:
        """Give the frame up: returns once the runtime no longer touches its memory."""


class DoneTicket:
    """A frame that is ready."""

    def __init__(self, planes: Planes) -> None:
        self._planes = planes

    def result(self) -> Planes:
        """Its planes."""
        return self._planes

    def cancel(self) -> None:
        """Nothing is in flight."""


class Engine(Protocol):
    """A compiled frame graph."""

    @property
    def description(self) -> str:
        """Runtime, version, device and precision, in one line."""

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once."""

    def submit(self, planes: Planes) -> Ticket:
        """Start a frame. The arrays of `planes` must stay unchanged until the ticket's result is there.

        Raises:
            BackendError: the planes do not have the format and size that the engine was compiled for, or `depth`
                tickets are outstanding already.
        """

    def close(self) -> None:
        """Release the runtime's memory. Tickets must have been waited for."""


class Backend(Protocol):
    """The adapter to one runtime.

    Attributes:
        name: as in `BACKENDS`.
        precisions: that it has on this machine.
        takes_batches: whether it does as `EngineSpec.batch` says.
        takes_surfaces: whether it does as `EngineSpec.surfaces` and `keep` say.
        exact_tiles: those of them with which a part of a picture, computed on its own, has the same bits as in the
            whole; the contract tests see to it.
    """

    name: str
    precisions: tuple[str, ...]
    exact_tiles: tuple[str, ...]
    takes_batches: bool
    takes_surfaces: bool

    def unavailable_reason(self) -> str | None:
        """Why this backend cannot run here, with what to do about it; None if it can."""

    def identity(self) -> str:
        """Runtime, version and device in one line: what a measurement depends on."""

    def gpu_name(self) -> str | None:
        """The GPU that this backend would run on; None if it would run on the CPU."""

    def device_refusal(self, device: str) -> str | None:
        """Why this backend, which is available, cannot run on `cpu` or `cuda:N`; None if it can."""

    def compile(self, spec: EngineSpec) -> Engine:
        """Compile the frame graph of `spec`.

        Raises:
            BackendError: the runtime refuses.
            InterruptedJobError: `spec.on_build` answered no.
        """


@runtime_checkable
class BuildsAhead(Protocol):
    """What a backend has besides if it builds engines first that take their time: a job may begin on another one."""

    def build_reason(self, spec: EngineSpec) -> str | None:
        """Why `compile` would have to build first, in one line that names what; None if it would not.

        Raises:
            BackendError: the spec cannot be compiled at all.
        """

    def build(self, spec: EngineSpec, unwanted: threading.Event) -> None:
        """Build what `compile` needs, without disturbing this process.

        Raises:
            BackendError, ModelError: the runtime refuses.
            InterruptedJobError: `unwanted` was set.
        """


def check_planes(planes: Planes, graph: FrameGraphSpec) -> None:
    """See that `planes` are of the kind that an engine was compiled for.

    Raises:
        BackendError: they are not.
    """
    if (planes.format, planes.width, planes.height) != (graph.format, graph.width, graph.height):
        raise BackendError(
            f"frame of {planes.width}x{planes.height} {planes.format.name} for an engine compiled for "
            f"{graph.width}x{graph.height} {graph.format.name}"
        )


BACKENDS: Final[dict[str, str]] = {
    "openvino": "vsr.backends.openvino:OpenVinoBackend",
    "torch": "vsr.backends.torch:TorchBackend",
    "tensorrt": "vsr.backends.tensorrt:TensorRtBackend",
}


def load_backend(name: str) -> Backend:
    """Import the backend called `name`.

    Raises:
        OptionError: there is none of that name.
        BackendError: its adapter cannot be imported.
    """
    if name not in BACKENDS:
        raise OptionError(f"no backend is called {name!r}; there are auto, {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        backend: Backend = getattr(importlib.import_module(module), attribute)()
    except ImportError as exc:
        raise BackendError(f"backend {name} cannot be imported: {exc}") from exc
    return backend


def choose_backend(name: str = "auto", devices: tuple[str, ...] = ()) -> tuple[Backend, str]:
    """Pick a backend that runs on all of `devices`, and say why in one line.

    A CUDA GPU that torch can use comes first; without one OpenVINO is the fastest on a CPU, and torch the last resort.
    TensorRT is not chosen by itself while it has not been run on a GPU by this project: it is there for the asking.
    A backend asked for by name is never silently replaced by another, and neither is a device.

    Raises:
        BackendError: the one asked for, or every one, is unavailable, or not on these devices.
    """
    if name != "auto":
        backend = load_backend(name)
        reason = _refusal(backend, devices)
        if reason:
            raise BackendError(f"backend {name} is not available: {reason}")
        return backend, f"{name}: asked for"
    if not devices and _nvidia_driver_present() and importlib.util.find_spec("torch") is not None:
        backend = load_backend("torch")
        gpu = backend.gpu_name()
        if gpu is not None:
            return backend, f"torch: found {gpu}"
    reasons: list[str] = []
    for candidate in ("openvino", "torch"):
        backend = load_backend(candidate)
        reason = _refusal(backend, devices)
        if reason is None:
            if devices:
                return backend, f"{candidate}: runs on {', '.join(devices)}"
            why = "no CUDA GPU that torch can use; fastest on a CPU" if candidate == "openvino" else reasons[0]
            return backend, f"{candidate}: {why}"
        reasons.append(f"{candidate}: {reason}")
    where = f" on {', '.join(devices)}" if devices else ""
    raise BackendError(f"no backend is available{where} ({'; '.join(reasons)})", "see vsr doctor")


def _refusal(backend: Backend, devices: tuple[str, ...]) -> str | None:
    found = backend.unavailable_reason()
    return found or next((text for device in devices if (text := backend.device_refusal(device)) is not None), None)


def _nvidia_driver_present() -> bool:
    """A cheap look that spares CPU-only machines the import of torch, which takes seconds."""
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
