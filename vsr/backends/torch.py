"""torch: the reference backend. It runs the same frame graph, operator by operator; on CUDA when there is a GPU.

Written to be read and trusted rather than to be fast on a CPU, where OpenVINO is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vsr.engines.engine import EngineSpec, check_planes
from vsr.engines.timing import Parts
from vsr.errors import BackendError, DeviceMemoryError, ModelError
from vsr.frame import Planes
from vsr.gpu.devices import number_of
from vsr.gpu.memory import MEMORY_HINT, first_line, lacks_memory
from vsr.graphs.frame_graph import GraphForm, build_frame_graph
from vsr.surface import LAYOUTS, SurfacePlanes, layout_of

Run = Callable[[], Sequence[Any]]
Recorder = Callable[[Run], Run]
GPU_FRAMES_IN_FLIGHT = 2  # one computes while the next one is uploaded


class TorchBackend:
    """Adapter to torch, on the GPU if torch can use one, else on the CPU."""

    name = "torch"
    exact_tiles: tuple[str, ...] = ()
    takes_batches = False
    takes_surfaces = True

    def unavailable_reason(self) -> str | None:
        """None where torch is installed."""
        if importlib.util.find_spec("torch") is None:
            return "the package torch is not installed; pip install 'vsr[torch]'"
        return None

    def identity(self) -> str:
        """Runtime, version, device, and the processor's cores that this process may use."""
        import torch

        device = self.gpu_name() or f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads"

    def gpu_name(self) -> str | None:
        """The CUDA device's name, or None."""
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None

    def device_refusal(self, device: str) -> str | None:
        """None on the CPU, and on GPUs that this torch can use."""
        import torch

        if device == "cpu":
            return None
        if not torch.cuda.is_available():
            return f"torch {torch.__version__} cannot use {device}; install a CUDA build of torch"
        there = torch.cuda.device_count()
        return None if number_of(device) < there else f"torch finds {there} GPUs, and {device} was asked for"

    @property
    def precisions(self) -> tuple[str, ...]:
        """fp32, and int8 as a reference (computed in fp32 between rounding steps); on a GPU also fp16 and bf16."""
        return ("fp32", "int8", "fp16", "bf16") if self.gpu_name() else ("fp32", "int8")

    def compile(self, spec: EngineSpec) -> TorchEngine:
        """Check that every operator of the frame graph is known, and move its weights to the device."""
        device = spec.devices[0] if spec.devices else "cuda:0" if self.gpu_name() else "cpu"
        if device == "cpu":
            return TorchEngine(spec, device)
        from vsr.backends.torch_device import Recorded

        try:
            return TorchEngine(spec, device, Recorded)
        except RuntimeError as exc:  # while the weights go up
            if not lacks_memory(exc):
                raise
            raise _too_large(exc) from exc


class TorchEngine:
    """A frame graph executed operator by operator.

    On a GPU the operators are recorded once as a CUDA graph, where they can be, with convolutions in channels-last
    form; fp16 is then in the frame graph, as it is for TensorRT.

    Args:
        spec: what it is for.
        device: `cpu` or `cuda:N`.
        record: makes a function of fixed inputs one that runs as a whole, as `torch_device.Recorded`; None not to.
    """

    def __init__(self, spec: EngineSpec, device: str, record: Recorder | None = None) -> None:
        import onnx
        import torch

        from vsr.backends.torch_ops import OPERATORS

        self._torch = torch
        self._spec = spec
        self._outstanding = 0
        self._device = torch.device(device)
        precision = "fp32" if spec.precision == "auto" else spec.precision
        on_gpu = self._device.type == "cuda"
        form = GraphForm(half=on_gpu and precision == "fp16")
        self._layout = layout_of(spec.graph.format) if spec.surfaces else None
        if self._layout is not None:
            deep = spec.graph.format.bits > 8
            form = replace(form, interleaved=True, byte_pairs=deep, shift=LAYOUTS[self._layout][1])
        # Autocast lowers convolutions only: input, skip and tail stay in fp32, which keeps 10-bit video from banding.
        lowered = {} if form.half else {"fp16": torch.float16, "bf16": torch.bfloat16}
        self._autocast_dtype = lowered.get(precision)
        if spec.threads:
            torch.set_num_threads(spec.threads)
        graph = build_frame_graph(spec.model, spec.graph, form).graph
        lacking = sorted({n.op_type for n in graph.node} - set(OPERATORS))
        if lacking:
            raise ModelError(
                f"model {spec.model.name} needs operators that the torch backend lacks: {', '.join(lacking)}",
                "use --backend openvino",
            )
        self._constants = {w.name: self._constant(onnx.numpy_helper.to_array(w)) for w in graph.initializer}
        self._inputs = [i.name for i in graph.input]
        self._outputs = [o.name for o in graph.output]
        self._steps = [
            (OPERATORS[n.op_type], n.op_type, tuple(n.input), tuple(n.output), self._attributes(n)) for n in graph.node
        ]
        self._last_use = {name: i for i, (_, _, inputs, _, _) in enumerate(self._steps) for name in inputs}
        where = (
            torch.cuda.get_device_name(device)
            if self._device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads"
        )
        self._fixed: list[Any] = []  # inputs of the recorded run
        self._recorded: Callable[[], Sequence[Any]] | None = None
        self._depth = 1
        if record is not None:
            self._record(record)
            self._try_out(spec.lanes or GPU_FRAMES_IN_FLIGHT)
            where += ", CUDA graph" if self._recorded is not None else ""
        self.description = f"torch {torch.__version__} {precision}, {where}"

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once."""
        return self._depth

    def submit(self, planes: Planes) -> TorchTicket:
        """Run a frame: to the end on a CPU, enqueued on a GPU."""
        graph = self._spec.graph
        check_planes(planes, graph)
        if self._outstanding >= self.depth:
            raise BackendError(f"more than {self.depth} frames in flight")
        try:
            with self._context():
                inputs = self._tensors(planes)
                if self._recorded is None:
                    outputs = self._run(inputs)
                else:
                    for fixed, tensor in zip(self._fixed, inputs, strict=True):
                        fixed.copy_(tensor)
                    outputs = list(self._recorded())
        except (RuntimeError, ValueError, TypeError, LookupError) as exc:
            raise _failed(exc) from exc
        self._outstanding += 1
        return TorchTicket(self, outputs)

    def parts(self, planes: Planes, pictures: int) -> Parts:
        """Where a picture's time goes, by events of the GPU, or on a CPU by the clock."""
        from vsr.backends.torch_device import Marks

        check_planes(planes, self._spec.graph)
        sums = [0.0, 0.0, 0.0]
        for _ in range(pictures):
            with self._context():
                marks = Marks(self._device)
                inputs = self._tensors(planes)
                for fixed, tensor in zip(self._fixed, inputs, strict=False):
                    fixed.copy_(tensor)
                marks.add()
                outputs = self._run(inputs) if self._recorded is None else list(self._recorded())
                marks.add()
                self._outstanding += 1
                self.planes_of(outputs)
                marks.add()
            sums = [total + ms / pictures for total, ms in zip(sums, marks.milliseconds(), strict=True)]
        return Parts(*sums)

    def planes_of(self, outputs: list[Any]) -> Planes:
        """Copy a ticket's planes to host memory, and make room for another frame."""
        graph = self._spec.graph
        self.release()
        try:
            if self._layout is not None:
                from vsr.backends.torch_device import TorchSurface

                with self._context():
                    surface = TorchSurface(outputs[0], outputs[1], self._layout)
                result = SurfacePlanes(surface, *graph.output_size)
                return result if self._spec.keep else Planes(result.arrays, graph.format, *graph.output_size)
            arrays = tuple(t[0, 0].contiguous().cpu().numpy() for t in outputs)
        except RuntimeError as exc:
            raise _failed(exc) from exc
        return Planes(arrays, graph.format, *graph.output_size)

    def release(self) -> None:
        """Make room for another frame."""
        self._outstanding -= 1

    def close(self) -> None:
        """Drop the weights, and what was recorded."""
        self._recorded = None
        self._fixed.clear()
        self._constants.clear()

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        from vsr.backends.torch_device import full_fp32

        torch, lowered = self._torch, self._autocast_dtype
        on_gpu = self._device.type == "cuda"
        with (
            torch.cuda.device(self._device) if on_gpu else contextlib.nullcontext(),
            torch.inference_mode(),
            full_fp32(self._device),
            torch.autocast(self._device.type, lowered, enabled=lowered is not None),
        ):
            yield

    def _tensors(self, planes: Planes) -> list[Any]:
        """The inputs of the frame graph."""
        if self._layout is not None:
            from vsr.backends.torch_device import surface_inputs

            return list(surface_inputs(planes, self._layout, self._device))
        return [self._tensor(array)[None, None] for array in planes.arrays]

    def _run(self, inputs: Sequence[Any]) -> list[Any]:
        values = dict(self._constants)
        values.update(zip(self._inputs, inputs, strict=True))
        self._execute(values)
        return [values[name] for name in self._outputs]

    def _record(self, record: Recorder) -> None:
        """Record a run over fixed inputs; where something cannot be recorded, frames are run operator by operator."""
        try:
            with self._context():
                self._fixed = [t.clone() for t in self._tensors(self._black())]
                self._recorded = record(lambda: self._run(self._fixed))
        except RuntimeError as exc:
            self._fixed.clear()
            if lacks_memory(exc):
                raise _too_large(exc) from exc

    def _try_out(self, most: int) -> None:
        """Compute as many frames at once as will be in flight, `most` or fewer: torch keeps the memory for later ones.

        Raises:
            DeviceMemoryError: the memory does not hold one.
        """
        for self._depth in range(most, 0, -1):
            try:
                tickets = [self.submit(self._black()) for _ in range(self._depth)]
                for ticket in tickets:
                    ticket.result()
                break
            except DeviceMemoryError:
                if self._depth == 1:
                    raise
            finally:
                self._outstanding = 0
        if self._depth < most:
            self._spec.on_note(f"the GPU's memory holds {self._depth} of {most} frames in flight")

    def _black(self) -> Planes:
        graph = self._spec.graph
        black = tuple(np.zeros((h, w), graph.format.dtype) for w, h in self._plane_sizes())
        return Planes(black, graph.format, *self._size())

    def _plane_sizes(self) -> list[tuple[int, int]]:
        graph = self._spec.graph
        return [graph.format.plane_size(name, *self._size()) for name in graph.format.plane_names]

    def _size(self) -> tuple[int, int]:
        return self._spec.graph.width, self._spec.graph.height

    def _execute(self, values: dict[str, Any]) -> None:
        for i, (operator, op_type, inputs, outputs, attributes) in enumerate(self._steps):
            try:
                result = operator([values[n] if n else None for n in inputs], attributes)
            except ValueError as exc:
                raise BackendError(f"the torch backend lacks {op_type} as this model uses it: {exc}") from exc
            for name, tensor in zip(outputs, result if isinstance(result, tuple) else (result,), strict=True):
                values[name] = tensor
            for name in inputs:  # free activations as soon as nothing reads them any more
                if self._last_use[name] == i and name not in self._constants:
                    values.pop(name, None)

    def _attributes(self, node: Any) -> dict[str, Any]:
        import onnx

        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if "value" in attributes:
            attributes["value"] = self._constant(onnx.numpy_helper.to_array(attributes["value"]))
        return attributes

    def _tensor(self, array: Any) -> Any:
        return self._torch.from_numpy(array.copy()).to(self._device)

    def _constant(self, array: Any) -> Any:
        """A weight on the device; shapes, axes and the like stay in host memory, where operators look at them."""
        if self._device.type == "cpu":
            return self._tensor(array)
        if array.dtype == np.int64:
            return self._torch.from_numpy(array.copy())
        form = self._torch.channels_last if array.ndim == 4 else self._torch.contiguous_format
        return self._tensor(array).contiguous(memory_format=form)


def _failed(error: Exception) -> BackendError:
    if lacks_memory(error):
        return _too_large(error)
    return BackendError(f"torch failed on a frame: {first_line(error)}")


def _too_large(error: Exception) -> DeviceMemoryError:
    return DeviceMemoryError(f"the GPU's memory does not hold what one frame needs: {first_line(error)}", MEMORY_HINT)


def copy_rate(device: str) -> float:
    """Bytes a second that a copy within a device's memory reads and writes."""
    import torch

    from vsr.backends.torch_device import copy_rate

    return copy_rate(torch.device(device))


class TorchTicket:
    """A frame on its way back from the device."""

    def __init__(self, engine: TorchEngine, outputs: list[Any]) -> None:
        self._engine = engine
        self._outputs = outputs

    def result(self) -> Planes:
        """Wait for the frame."""
        return self._engine.planes_of(self._outputs)

    def cancel(self) -> None:
        """Drop the planes; what the GPU has been given runs to its end in memory that torch keeps."""
        self._engine.release()
        self._outputs.clear()
