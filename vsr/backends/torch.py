"""torch: the reference backend. It runs the same frame graph, operator by operator; on CUDA when there is a GPU.

Written to be read and trusted rather than to be fast on a CPU, where OpenVINO is.
"""

from __future__ import annotations

import importlib.util
import platform
from typing import Any

from vsr.engines.engine import EngineSpec, check_planes
from vsr.errors import BackendError, ModelError
from vsr.frame import Planes
from vsr.gpu.devices import number_of
from vsr.graphs.frame_graph import build_frame_graph

GPU_FRAMES_IN_FLIGHT = 2  # one computes while the next one is uploaded


class TorchBackend:
    """Adapter to torch, on the GPU if torch can use one, else on the CPU."""

    name = "torch"
    exact_tiles: tuple[str, ...] = ()

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
        return TorchEngine(spec, spec.devices[0] if spec.devices else "cuda:0" if self.gpu_name() else "cpu")


class TorchEngine:
    """A frame graph executed operator by operator."""

    def __init__(self, spec: EngineSpec, device: str) -> None:
        import onnx
        import torch

        from vsr.backends.torch_ops import OPERATORS

        self._torch = torch
        self._spec = spec
        self._outstanding = 0
        self._device = torch.device(device)
        precision = "fp32" if spec.precision == "auto" else spec.precision
        # Autocast lowers convolutions only: input, skip and tail stay in fp32, which keeps 10-bit video from banding.
        self._autocast_dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
        if spec.threads:
            torch.set_num_threads(spec.threads)
        graph = build_frame_graph(spec.model, spec.graph).graph
        lacking = sorted({n.op_type for n in graph.node} - set(OPERATORS))
        if lacking:
            raise ModelError(
                f"model {spec.model.name} needs operators that the torch backend lacks: {', '.join(lacking)}",
                "use --backend openvino",
            )
        self._constants = {w.name: self._tensor(onnx.numpy_helper.to_array(w)) for w in graph.initializer}
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
        self.description = f"torch {torch.__version__} {precision}, {where}"

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once."""
        return GPU_FRAMES_IN_FLIGHT if self._device.type == "cuda" else 1

    def submit(self, planes: Planes) -> TorchTicket:
        """Run a frame: to the end on a CPU, enqueued on a GPU."""
        graph = self._spec.graph
        check_planes(planes, graph)
        if self._outstanding >= self.depth:
            raise BackendError(f"more than {self.depth} frames in flight")
        torch = self._torch
        values = dict(self._constants)
        for name, array in zip(self._inputs, planes.arrays, strict=True):
            values[name] = self._tensor(array.copy())[None, None]
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self._device.type, self._autocast_dtype, enabled=self._autocast_dtype is not None),
            ):
                self._execute(values)
        except (RuntimeError, ValueError, TypeError, LookupError) as exc:
            raise BackendError(f"torch failed on a frame: {str(exc).splitlines()[0] if str(exc) else exc!r}") from exc
        self._outstanding += 1
        return TorchTicket(self, [values[name] for name in self._outputs])

    def planes_of(self, outputs: list[Any]) -> Planes:
        """Copy a ticket's planes to host memory, and make room for another frame."""
        graph = self._spec.graph
        self.release()
        try:
            arrays = tuple(t[0, 0].contiguous().cpu().numpy() for t in outputs)
        except RuntimeError as exc:
            raise BackendError(f"torch failed on a frame: {exc}") from exc
        return Planes(arrays, graph.format, *graph.output_size)

    def release(self) -> None:
        """Make room for another frame."""
        self._outstanding -= 1

    def close(self) -> None:
        """Drop the weights."""
        self._constants.clear()

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
            attributes["value"] = self._tensor(onnx.numpy_helper.to_array(attributes["value"]))
        return attributes

    def _tensor(self, array: Any) -> Any:
        return self._torch.from_numpy(array.copy()).to(self._device)


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
