"""ONNX files, most of which are no super-resolution models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str]


def save(
    path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, Shape], output: Shape, constants: object = ()
) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
        constants or [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def repeat_pixels(path: Path, scale: int, channels_in: int = 1, channels_out: int = 1) -> Path:
    """A 1x1 convolution to s² copies of the channels and a pixel shuffle: nearest neighbour, for any size."""
    count = channels_out * scale * scale
    weights = helper.make_tensor(
        "w", TensorProto.FLOAT, (count, channels_in, 1, 1), [1.0 / channels_in] * (count * channels_in)
    )
    return save(
        path,
        [
            helper.make_node("Conv", ["x", "w"], ["many"]),
            helper.make_node("DepthToSpace", ["many"], ["out"], blocksize=scale, mode="CRD"),
        ],
        {"x": ("n", channels_in, "h", "w")},
        ("n", channels_out, "H", "W"),
        [weights],
    )


def wrong_rank(path: Path) -> Path:
    return save(path, [helper.make_node("Relu", ["x"], ["out"])], {"x": ("n", 10)}, ("n", 10))


def rank_three(path: Path) -> Path:
    return save(path, [helper.make_node("Relu", ["x"], ["out"])], {"x": (1, "h", "w")}, (1, "h", "w"))


def scale_one(path: Path) -> Path:
    shape = (1, 1, "h", "w")
    return save(path, [helper.make_node("Relu", ["x"], ["out"])], {"x": shape}, shape)


def two_inputs(path: Path) -> Path:
    shape = (1, 1, "h", "w")
    return save(path, [helper.make_node("Add", ["x", "y"], ["out"])], {"x": shape, "y": shape}, shape)


def classifier(path: Path) -> Path:
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["out"])]
    return save(path, nodes, {"x": (1, 1, "h", "w")}, (1, 1, 1, 1))


def unequal_scales(path: Path) -> Path:
    """Twice as wide, three times as high."""
    scales = helper.make_tensor("scales", TensorProto.FLOAT, (4,), [1.0, 1.0, 3.0, 2.0])
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["out"], mode="nearest")]
    return save(path, nodes, {"x": (1, 1, "h", "w")}, (1, 1, "H", "W"), [scales])


def text(path: Path) -> Path:
    path.write_text("This is no ONNX file.\n")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def cut_off(path: Path) -> Path:
    whole = repeat_pixels(path, 2).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def unknown_operator(path: Path) -> Path:
    shape = (1, 1, "h", "w")
    node = helper.make_node("Levitate", ["x"], ["out"], domain="nowhere")
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, 1, "H", "W"))],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


NOT_SUPER_RESOLUTION: dict[str, tuple[Callable[[Path], Path], str]] = {
    "rank 2": (wrong_rank, "rank|dimension|shape"),
    "rank 3": (rank_three, "rank|dimension|shape"),
    "three channels in and one out": (lambda p: repeat_pixels(p, 2, 3, 1), "[1, 1, 24, 20]"),
    "one channel in and three out": (lambda p: repeat_pixels(p, 2, 1, 3), "[1, 3, "),
    "two channels": (lambda p: repeat_pixels(p, 2, 2, 2), "channel"),
    "scale 1": (scale_one, "scale|factor"),
    "scale 3 where 2 is asked for": (lambda p: repeat_pixels(p, 3), "scale|x3"),
    "unequal scales": (unequal_scales, "scale|factor"),
    "two inputs": (two_inputs, "input"),
    "classifier": (classifier, "scale|factor"),
    "text": (text, "onnx"),
    "empty": (empty, "empty|onnx"),
    "cut off": (cut_off, "onnx"),
    "unknown operator": (unknown_operator, "Levitate|operator|run"),
}
