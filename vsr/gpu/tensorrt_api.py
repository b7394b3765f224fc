"""TensorRT and TensorRT for RTX through one small adapter: parse, build, deserialise.

Their Python interfaces have the same names; what differs is that TensorRT for RTX builds for a GPU that is not there
(`set_compute_capability`), and TensorRT for the one that is. Networks are strongly typed always: the precision is in
the ONNX graph, and the builder has none to choose. (`STRONGLY_TYPED` must be said to TensorRT 10 and is a matter of
course for 11, which has dropped the precision flags and the calibrators.)

The package that is used on a GPU is chosen by what is installed: TensorRT if it is, else TensorRT for RTX.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from vsr.errors import BackendError, DeviceMemoryError, EngineLoadError, InterruptedJobError, ModelError
from vsr.gpu.build_progress import BuildProgress, OnBuild, monitor
from vsr.gpu.memory import lacks_memory
from vsr.gpu.names import Gpu

PACKAGES: Final = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}  # by runtime, best first
OLDEST: Final = {"tensorrt": (10, 12), "tensorrt-rtx": (1, 0)}
CUDA_MAJORS: Final = (13, 12)
OLDEST_DRIVER: Final = {12: 525, 13: 580}  # of Linux, by CUDA's major version
MESSAGES_KEPT: Final = 50

Shape = tuple[int, ...]
Shapes = tuple[Shape, Shape, Shape]  # smallest, usual, largest


@dataclass(frozen=True)
class Binding:
    """One input or output of an engine: name, type as in TensorRT's DataType, shape with −1 where it is free."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Built:
    """A serialised engine and what it takes and returns."""

    data: bytes
    bindings: tuple[Binding, ...]


class TensorRt:
    """One of the two packages.

    Attributes:
        runtime: `tensorrt` or `tensorrt-rtx`.
        version: of the package.
        module: the package itself.
    """

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.module: Any = importlib.import_module(PACKAGES[runtime])
        self.version = str(self.module.__version__)
        self._messages: list[str] = []
        self.logger = _logger(self.module, self._messages)

    @property
    def builds_for_other_gpus(self) -> bool:
        """Whether the GPU need not be there."""
        return hasattr(self.module.IBuilderConfig, "set_compute_capability")

    @property
    def ties_to_gpu_name(self) -> bool:
        """Whether an engine is for one kind of GPU, and not for all of its compute capability."""
        return not self.builds_for_other_gpus

    @property
    def compiles_kernels(self) -> bool:
        """Whether engines hold no kernels, which are compiled for the GPU that is there and can be kept."""
        return hasattr(self.module, "IRuntimeCache")

    @property
    def eager_kernels(self) -> Any:
        """The way to compile them in which the first frame waits for all that it needs."""
        return self.module.DynamicShapesKernelSpecializationStrategy.EAGER

    def targets(self) -> list[str]:
        """Compute capabilities that can be built for without the GPU, as `sm_89`."""
        if not self.builds_for_other_gpus:
            return []
        members = self.module.ComputeCapability.__members__
        return [f"sm_{name[2:]}" for name in members if name.startswith("SM")]

    def check_target(self, gpu: Gpu) -> None:
        """See that engines can be built for `gpu`, before any work is done.

        Raises:
            BackendError: they cannot.
        """
        if self.builds_for_other_gpus and gpu.sm not in self.targets():
            raise BackendError(
                f"{self.runtime} {self.version} does not build for {gpu.sm}; it builds for {', '.join(self.targets())}",
                "TensorRT (pip install 'vsr[tensorrt]') builds on the GPU itself",
            )
        if not self.builds_for_other_gpus and not gpu.name:
            raise BackendError(
                f"{self.runtime} builds for the GPU of this machine only, and {gpu.sm} was asked for",
                "leave --gpu out, or use tensorrt-rtx (pip install 'vsr[tensorrt-rtx]')",
            )

    def build(
        self,
        graph: bytes,
        name: str,
        gpu: Gpu,
        profile: Mapping[str, Shapes] | None,
        timing: bytes | None = None,
        on_build: OnBuild = lambda _: True,
    ) -> tuple[Built, bytes | None]:
        """Compile a frame graph.

        Args:
            graph: serialised ONNX.
            name: of the model, for messages.
            gpu: what for, as `check_target` allows.
            profile: shapes of each input if they are free.
            timing: a timing cache of an earlier build (empty for a new one), or None to use none: making one asks the
                GPU, which must be there.
            on_build: is told, from 0 to 1, how far it is, and answers whether to go on.

        Returns:
            The engine, and the timing cache grown by this build.

        Raises:
            ModelError: the graph has something that TensorRT does not know.
            DeviceMemoryError: the GPU that it builds on has too little memory.
            BackendError: the builder fails.
            InterruptedJobError: `on_build` answered no.
        """
        trt = self.module
        self._messages.clear()
        builder = trt.Builder(self.logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self.logger)
        if not parser.parse(graph):
            raise ModelError(f"{self.runtime} {self.version} cannot take model {name}: {_parser_errors(parser)}")
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # which has 10 bits, and fp32 is asked for where it is asked for
        if self.builds_for_other_gpus:
            member = f"SM{gpu.sm.removeprefix('sm_')}"
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.__members__[member], 0)
        if profile is not None:
            made = builder.create_optimization_profile()
            for tensor, shapes in profile.items():
                made.set_shape(tensor, *shapes)
            config.add_optimization_profile(made)
        measured = None
        if timing is not None:
            measured = config.create_timing_cache(timing)
            config.set_timing_cache(measured, False)
        progress = BuildProgress(on_build)
        config.progress_monitor = watching = monitor(trt, progress)
        serialised = builder.build_serialized_network(network, config)
        del builder, config, watching  # in this order: the monitor must outlive whatever may call it
        if progress.error is not None:
            raise progress.error
        if progress.stopped:
            raise InterruptedJobError(f"interrupted while an engine of model {name} was being built")
        if serialised is None:
            kind = DeviceMemoryError if self.lacked_memory() else BackendError
            raise kind(f"{self.runtime} {self.version} cannot build model {name} for {gpu.sm}: {self.complaint()}")
        on_build(1.0)
        grown = None if measured is None else bytes(measured.serialize())
        return Built(bytes(serialised), tuple(_bindings(network))), grown

    def deserialise(self, data: bytes) -> tuple[Any, Any]:
        """The runtime and the engine of `data`, on the current CUDA context. There must be one: see
        `vsr.gpu.cuda_driver`.

        Raises:
            EngineLoadError: the runtime does not take it.
        """
        self._messages.clear()
        runtime = self.module.Runtime(self.logger)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise EngineLoadError(f"{self.runtime} {self.version} does not load the engine: {self.complaint()}")
        return runtime, engine

    def complaint(self) -> str:
        """The last thing that the runtime said was wrong, in one line."""
        text = self._messages[-1] if self._messages else "it does not say why"
        return " ".join(text.split())[:300]

    def lacked_memory(self) -> bool:
        """Whether it is memory that was wrong, by any of the last things that the runtime said."""
        return any(lacks_memory(message) for message in self._messages)


def available(runtime: str) -> bool:
    """Whether the package is installed; nothing is imported."""
    return importlib.util.find_spec(PACKAGES[runtime]) is not None


def cuda_needed(runtime: str) -> int | None:
    """Major version of CUDA that the installed package is made for, as its parts' names say; None if they do not."""
    for major in CUDA_MAJORS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(f"{PACKAGES[runtime]}_cu{major}")
            return major
    return None


def driver_refusal(runtime: str, cuda: tuple[int, int]) -> str | None:
    """Why a driver that knows CUDA up to version `cuda` is too old for the installed package; None if it is not."""
    needed = cuda_needed(runtime)
    if needed is None or cuda[0] >= needed:
        return None
    return (
        f"the NVIDIA driver knows CUDA {cuda[0]}.{cuda[1]}, and {runtime} needs {needed}.0; update the driver to "
        f"{OLDEST_DRIVER[needed]} or newer"
    )


@cache
def load(runtime: str) -> TensorRt:
    """Import one of the two; once, because TensorRT keeps the first logger that it is given for good.

    Raises:
        BackendError: it is not installed, too old, or cannot be imported.
    """
    install = f"pip install 'vsr[{runtime}]'"
    if not available(runtime):
        raise BackendError(f"the package {runtime} is not installed", install)
    try:
        api = TensorRt(runtime)
    except (ImportError, OSError, AttributeError) as exc:
        raise BackendError(f"the package {runtime} cannot be imported: {exc}", install) from exc
    version = tuple(int(part) for part in api.version.split(".")[:2])
    if version < OLDEST[runtime]:
        oldest = ".".join(map(str, OLDEST[runtime]))
        raise BackendError(f"{runtime} {api.version} is too old; {oldest} or newer is needed", install)
    return api


def choose_runtime(*, without_gpu: bool) -> TensorRt:
    """The package to use: TensorRT where its GPU is there, else TensorRT for RTX.

    Raises:
        BackendError: neither is installed that can do it.
    """
    wanted = ("tensorrt-rtx",) if without_gpu else tuple(PACKAGES)
    for runtime in wanted:
        if available(runtime):
            return load(runtime)
    why = "builds engines without the GPU" if without_gpu else "runs engines"
    raise BackendError(f"no package that {why} is installed", "pip install 'vsr[tensorrt-rtx]'")


def _logger(module: Any, messages: list[str]) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors, and prints nothing."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.Severity.INTERNAL_ERROR, module.ILogger.Severity.ERROR):
                messages.append(message)
                del messages[:-MESSAGES_KEPT]

    return Logger()


def _parser_errors(parser: Any) -> str:
    """What the parser found, in one line; of an operator without an importer it only says "false"."""
    found = []
    for error in (parser.get_error(i) for i in range(parser.num_errors)):
        operator, node, said = error.node_operator(), error.node_name(), str(error.desc())
        if said == "false" and operator:
            said = f"it does not know the operator {operator}"
        found.append(f"{said} ({operator} {node})" if node else said)
    return " ".join("; ".join(found).split())[:300] or "it does not say why"


def _bindings(network: Any) -> list[Binding]:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    return [Binding(t.name, t.dtype.name, tuple(t.shape)) for t in tensors]
