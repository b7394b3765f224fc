"""Writing an ONNX graph node by node, with a model's own graph as a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vsr.errors import ModelError
from vsr.graphs.opset import OPSET, PRESENT_OPSET, convert_opset, opset_of
from vsr.model import Model
from vsr.resample import decimation_kernel, polyphase_kernel, polyphase_windows, windows

IR_VERSION: Final = 10
# Samples of the input that one product of matrices enlarges: more of them fill vectors, and multiply by more zeros.
COLUMNS: Final = 16
ROWS: Final = 9


class GraphNodes:
    """Collects the nodes, weights, inputs and outputs of one graph.

    Attributes:
        onnx: the package, imported when the first graph is written.
        nodes, weights, inputs, outputs: what the graph consists of so far.
        opset: that the graph declares: the embedded model's, if there is one.
    """

    def __init__(self) -> None:
        import onnx

        self.onnx: Any = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.opset = OPSET

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = f"frame/{op}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: npt.NDArray[Any] | np.generic) -> str:
        """Add a constant, and return its name."""
        name = f"frame/const_{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def affine(self, x: str, gain: float, offset: float = 0.0) -> str:
        """gain · x + offset in fp32."""
        x = self.node("Mul", [x, self.constant(np.float32(gain))])
        return self.node("Add", [x, self.constant(np.float32(offset))]) if offset else x

    def matrix(
        self, x: str, m: npt.NDArray[np.floating[Any]], offset: npt.NDArray[np.floating[Any]] | None = None
    ) -> str:
        """m · channels + offset, at every place; m is [out, in]."""
        inputs = [x, self.constant(m.astype(np.float32).reshape(*m.shape, 1, 1))]
        if offset is not None:
            inputs.append(self.constant(offset.astype(np.float32)))
        return self.node("Conv", inputs)

    def channels(self, x: str, start: int, stop: int) -> str:
        """Channels start … stop − 1."""
        return self.slice(x, [(1, start, stop)])

    def slice(self, x: str, ranges: Sequence[tuple[int, int, int]]) -> str:
        """Cut by (axis, start, stop)."""
        starts, stops, axes = (np.array([r[i] for r in ranges], dtype=np.int64) for i in (1, 2, 0))
        return self.node("Slice", [x, self.constant(starts), self.constant(stops), self.constant(axes)])

    def squeeze(self, x: str, axis: int) -> str:
        """Drop an axis of size 1."""
        return self.node("Squeeze", [x, self.constant(np.array([axis], np.int64))])

    def unsqueeze(self, x: str, axis: int) -> str:
        """Add an axis of size 1."""
        return self.node("Unsqueeze", [x, self.constant(np.array([axis], np.int64))])

    def cast(self, x: str, kind: str) -> str:
        """Cast to the type of that name in `onnx.TensorProto`."""
        return self.node("Cast", [x], to=getattr(self.onnx.TensorProto, kind))

    def resampled(
        self,
        x: str,
        size: tuple[int, int],
        new_size: tuple[int, int],
        ratios: tuple[Fraction, Fraction],
        phase: tuple[float, float] = (0.5, 0.5),
        new_phase: tuple[float, float] = (0.5, 0.5),
    ) -> str:
        """[n, c, h, w] of width and height `size` at `new_size`, as `vsr.resample.windows` says.

        Columns are resampled as rows of the transposed picture, for rows lie in one piece.
        """
        x = self.resampled_rows(x, size[1], new_size[1], ratios[1], phase[1], new_phase[1])
        if ratios[0] == 1 and phase[0] == new_phase[0]:
            return x
        x = self.node("Transpose", [x], perm=[0, 1, 3, 2])
        x = self.resampled_rows(x, size[0], new_size[0], ratios[0], phase[0], new_phase[0])
        return self.node("Transpose", [x], perm=[0, 1, 3, 2])

    def resampled_rows(
        self, x: str, count: int, new_count: int, ratio: Fraction, phase: float, new_phase: float
    ) -> str:
        """Blocks of rows as products of matrices: the few rows that a block reads are gathered into a window."""
        if ratio == 1 and phase == new_phase:
            return x
        plan = windows(count, new_count, ratio, phase, new_phase)
        blocks, block, _ = plan.weight.shape
        x = self.node("Gather", [x, self.constant(plan.index)], axis=2)  # [n, c, blocks, window, w]
        x = self.node("MatMul", [self.constant(plan.weight), x])
        x = self.node("Reshape", [x, self.constant(np.array([0, 0, blocks * block, -1], dtype=np.int64))])
        return x if blocks * block == new_count else self.slice(x, [(2, 0, new_count)])

    def decimated(
        self, x: str, size: tuple[int, int] | None, factors: tuple[int, int], phase: tuple[float, float]
    ) -> str:
        """[n, 1, h, w] of width and height `size`, if it is known, by whole factors (vertical, horizontal) smaller.

        phase: of the samples that come out, as `vsr.resample.decimation_kernel` takes it.
        """
        for axis, (factor, p) in enumerate(zip(factors, (phase[1], phase[0]), strict=True)):
            if factor == 1:
                continue
            first, kernel = decimation_kernel(factor, p)
            pads = np.zeros(8, np.int64)
            pads[2 + axis], pads[6 + axis] = -first, first + len(kernel) - 1
            shape, strides = [1, 1, 1, 1], [1, 1]
            shape[2 + axis], strides[axis] = len(kernel), factor
            if size is not None and size[1 - axis] <= factor:
                # a single sample needs no stride, with which OpenVINO 2026.4 gives zeros where one column comes out
                pads[6 + axis] -= size[1 - axis] - 1
                strides[axis] = 1
            x = self.node("Pad", [x, self.constant(pads)], mode="edge")
            x = self.node("Conv", [x, self.constant(kernel.reshape(shape))], strides=strides)
        return x

    def multiplied(
        self,
        x: str,
        size: tuple[int, int],
        scale: int,
        phase: tuple[float, float] = (0.5, 0.5),
        new_phase: tuple[float, float] = (0.5, 0.5),
    ) -> str:
        """[n, c, h, w] of width and height `size`, `scale` times as large, as `vsr.resample.polyphase_windows` says.

        Columns come first, while there are few rows. Neither product leaves anything to be moved: what a block of
        columns makes lies beside what the next one makes, and a block of rows below the one before.
        """
        (width, height), weights = size, [polyphase_kernel(scale, p, q) for p, q in zip(phase, new_phase, strict=True)]
        index, weight = polyphase_windows(width, weights[0], COLUMNS)
        x = self.node("Gather", [x, self.constant(index)], axis=3)  # [n, c, h, blocks, window]
        x = self.node("MatMul", [x, self.constant(np.ascontiguousarray(weight.T))])
        x = self._joined(x, (height, len(index) * len(weight)), (height, width * scale))
        index, weight = polyphase_windows(height, weights[1], ROWS)
        x = self.node("Gather", [x, self.constant(index)], axis=2)  # [n, c, blocks, window, w]
        x = self.node("MatMul", [self.constant(weight), x])
        return self._joined(x, (len(index) * len(weight), width * scale), (height * scale, width * scale))

    def _joined(self, x: str, made: tuple[int, int], wanted: tuple[int, int]) -> str:
        """Blocks as [n, c, h, w] of the `made` height and width, cut to the `wanted` ones."""
        x = self.node("Reshape", [x, self.constant(np.array([0, 0, *made], dtype=np.int64))])
        cut = [(2 + i, 0, n) for i, n in enumerate(wanted) if made[i] != n]
        return self.slice(x, cut) if cut else x

    def embed(self, proto: Any, x: str, name: str) -> str:
        """Add a model's graph, its input being `x`, and return the name of its output.

        Raises:
            ModelError: it has control flow.
        """
        graph = proto.graph
        weights = {w.name for w in graph.initializer}
        mapping = {next(i.name for i in graph.input if i.name not in weights): x}
        for weight in graph.initializer:
            copy = self.onnx.TensorProto()
            copy.CopyFrom(weight)
            copy.name = mapping.setdefault(weight.name, f"net/{weight.name}")
            self.weights.append(copy)
        for node in graph.node:
            copy = self.onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"net/{node.name or f'{node.op_type}_{len(self.nodes)}'}"  # TensorRT wants each to be its own
            copy.input[:] = [n and mapping.get(n, f"net/{n}") for n in node.input]
            copy.output[:] = [n and f"net/{n}" for n in node.output]
            if any(a.type in (self.onnx.AttributeProto.GRAPH, self.onnx.AttributeProto.GRAPHS) for a in node.attribute):
                raise ModelError(f"model {name} has control flow ({node.op_type}), which is not supported")
            self.nodes.append(copy)
        return f"net/{graph.output[0].name}"

    def build(self, order: dict[str, int], name: str) -> Any:
        """The checked model.

        Args:
            order: place of each input and each output among its kind, by name.
            name: of the embedded model, for the message.

        Raises:
            ModelError: ONNX's checker refuses it.
        """
        helper = self.onnx.helper
        graph = helper.make_graph(
            self.nodes,
            "frame",
            sorted(self.inputs, key=lambda v: order[v.name]),
            sorted(self.outputs, key=lambda v: order[v.name]),
            self.weights,
        )
        imports = [helper.make_opsetid("", self.opset)]
        proto = helper.make_model(graph, opset_imports=imports, producer_name="vsr", ir_version=IR_VERSION)
        try:
            self.onnx.checker.check_model(proto)
        except Exception as exc:  # the checker's exception class has no public base
            raise ModelError(f"model {name} cannot be wrapped in a frame graph: {exc}") from exc
        return proto


def embeddable(model: Model) -> Any:
    """The ONNX model of `model`, in an opset of which the frame graph's own operators have their present form.

    Raises:
        ModelError: it uses operators outside standard ONNX, or cannot be converted.
    """
    import onnx

    proto = onnx.load_model_from_string(model.onnx_bytes)
    foreign = [o.domain for o in proto.opset_import if o.domain not in ("", "ai.onnx")]
    if foreign or proto.functions:
        raise ModelError(
            f"model {model.name} uses operators outside standard ONNX ({', '.join(foreign) or 'functions'})"
        )
    if opset_of(proto) < PRESENT_OPSET:
        return convert_opset(proto, OPSET, model.name)
    return proto
