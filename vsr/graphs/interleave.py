"""The last pixel shuffle of a frame graph, taken out of the graph and done on integers by the caller.

A pixel shuffle moves samples and computes nothing, so it may as well come after the rounding: on bytes, where it moves
a quarter of what it moves in fp32. OpenVINO's own takes 2 ns a sample (2 to 5 ms for 1440x810, as much as four
convolutions of 16 channels); rows of an [h, w, s²] tensor are the output's own samples in runs of s, which NumPy
copies in 0.1 to 0.8 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from vsr.frame import Plane

if TYPE_CHECKING:
    import onnx

# Operators that commute with moving samples, when their other inputs are single numbers.
POINTWISE: Final = ("Mul", "Add", "Clip", "Round", "Cast")
WORDS: Final = {2: np.uint16, 4: np.uint32, 8: np.uint64}
TO_CHANNELS_LAST: Final = (0, 2, 3, 1)
BAND: Final = 1 << 18  # bytes that are gone over several times, and should stay in a core's cache


def without_last_shuffle(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The frame graph with outputs [1, h, w, s²] in place of [1, 1, s·h, s·w], where a shuffle is what they end in.

    And the names of these outputs: shapes do not tell, for those of 1 row of s samples are the same in both forms.

    Between the shuffle and the output there may be pointwise operators and a crop; the crop is left to `interleave`.
    Outputs that come about otherwise stay as they are.
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    weights = {w.name: w for w in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    gone: list[Any] = []
    moves = {}
    for output in graph.output:
        chain = _chain(output.name, makers, users, weights)
        if chain is None:
            continue
        shuffle, crops, last = chain
        for node in (shuffle, *crops):  # whoever read what the node made reads what it was made from
            _rewire(graph, node.output[0], node.input[0])
            gone.append(node)
        flat = f"{output.name}/flat"
        last.output[0] = flat
        moves[output.name] = onnx.helper.make_node(
            "Transpose", [flat], [output.name], name=f"{flat}/move", perm=TO_CHANNELS_LAST
        )
        _, height, width, channels = output.type.tensor_type.shape.dim  # runtimes infer the first two
        height.Clear()
        width.Clear()
        channels.dim_value = next(a.i for a in shuffle.attribute if a.name == "blocksize") ** 2
    kept = [node for node in graph.node if not any(node is other for other in gone)]
    del graph.node[:]
    graph.node.extend([*kept, *moves.values()])
    return changed, frozenset(moves)


def interleave(blocks: npt.NDArray[Any], height: int, width: int) -> Plane:
    """[h, w, s²] → [height, width]: sample (y, x) is blocks[y // s, x // s, (y mod s)·s + x mod s].

    height and width may be up to s − 1 less than s·h and s·w.
    """
    rows, columns, count = blocks.shape
    scale = round(count**0.5)
    plane: Plane = np.empty((rows * scale, columns * scale), blocks.dtype)
    run = WORDS.get(scale * blocks.itemsize)  # s samples that stay beside each other
    if run is not None:
        target = plane.view(run).reshape(rows, scale, columns)
        target[:] = blocks.reshape(rows, columns * count).view(run).reshape(rows, columns, scale).transpose(0, 2, 1)
        return plane[:height, :width]
    # No word is as long as a run. NumPy moves single samples twice as fast as short strings of bytes.
    source = blocks.reshape(rows, columns, scale, scale).transpose(0, 2, 1, 3)
    samples = plane.reshape(rows, scale, columns, scale)
    step = max(1, BAND // blocks[0].nbytes)
    for top in range(0, rows, step):
        for place in range(scale):
            samples[top : top + step, ..., place] = source[top : top + step, ..., place]
    return plane[:height, :width]


def _chain(
    name: str, makers: dict[str, Any], users: dict[str, int], weights: dict[str, Any]
) -> tuple[Any, list[Any], Any] | None:
    """The shuffle that output `name` ends in, the crops after it, and the last node; None if there is none."""
    last = node = makers.get(name)
    crops: list[Any] = []
    while node is not None and node.op_type != "DepthToSpace":
        if node.op_type == "Slice" and _is_crop(node, weights):
            crops.append(node)
        elif node.op_type not in POINTWISE or any(_size(weights.get(n)) != 1 for n in node.input[1:] if n):
            return None
        if users.get(node.input[0], 0) != 1:
            return None
        node = makers.get(node.input[0])
    return None if node is None or last is node or last in crops else (node, crops, last)


def _is_crop(node: Any, weights: dict[str, Any]) -> bool:
    """Whether a Slice only cuts rows at the bottom and columns on the right."""
    import onnx

    if len(node.input) < 4 or any(n not in weights for n in node.input[1:4]):
        return False
    starts, _, axes = (onnx.numpy_helper.to_array(weights[n]) for n in node.input[1:4])
    return len(node.input) == 4 and not starts.any() and set(axes.tolist()) <= {2, 3}


def _size(weight: Any) -> int:
    return 0 if weight is None else int(np.prod(list(weight.dims), dtype=np.int64))


def _rewire(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
