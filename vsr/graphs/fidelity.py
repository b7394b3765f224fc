"""How far a frame graph of low precision is from fp32: bounds, a picture to try it on, and the distance without a GPU.

ONNX's own reference computes fp16 in fp16 and rounds where the graph says so. It is slow, so the picture is small; what
a runtime makes of the graph on its device may differ in the last bit of each sum.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from vsr.frame import PixelFormat, Planes
from vsr.graphs.chain import plain_form
from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm, build_frame_graph
from vsr.graphs.low_precision import quantisation
from vsr.metrics import psnr
from vsr.model import Model

BOUNDS_DB: Final = {"fp16": 55.0, "int8": 45.0}
"""What the luma of each precision must reach, as docs/gpu.md states it; fp32 may be off by one code value."""
WIDTH, HEIGHT = 32, 24
LARGEST_BYTES: Final = 1 << 20  # of a model that the reference computes within seconds


def reference_psnr(model: Model, spec: FrameGraphSpec, form: GraphForm) -> float | str:
    """PSNR of the luma (or of the worst of R, G and B) against fp32, in dB; or, in a few words, why there is none.

    Args:
        model: in the frame graph.
        spec: its format, colour and scale; the size is another.
        form: its precision.
    """
    quantised = not model.is_bicubic and quantisation(model.onnx_bytes) is not None
    if not form.half and not quantised:
        return "fp32 is what others are compared with"
    plain = plain_form(model) if quantised else model
    if plain is None:
        return "the model's fp32 form is not known"
    if len(model.onnx_bytes) > LARGEST_BYTES:
        return "the model is too large for ONNX's reference"
    small = replace(spec, width=WIDTH, height=HEIGHT, target=replace(spec.target, size=None))
    planes = waves(small.format, WIDTH, HEIGHT)
    want, got = (_evaluate(m, small, planes, half=h) for m, h in ((plain, False), (model, form.half)))
    return worst_psnr(want, got)


def worst_psnr(want: Planes, got: Planes) -> float:
    """In dB: of luma, which is what networks compute, or the worst of R, G and B. Infinite if they are equal."""
    pairs = list(zip(want.arrays, got.arrays, strict=True))
    peak = (1 << want.format.bits) - 1
    return min(psnr(a, b, peak=peak) for a, b in (pairs[:3] if want.format.family == "rgb" else pairs[:1]))


def waves(fmt: PixelFormat, width: int, height: int) -> Planes:
    """A picture of waves with a little noise: what networks are made for, and always the same."""
    rng = np.random.default_rng(2)
    arrays = []
    for i, name in enumerate(fmt.plane_names):
        w, h = fmt.plane_size(name, width, height)
        y, x = np.mgrid[0:h, 0:w]
        wave = 120 + 60 * np.sin(x / 4 + i) * np.cos(y / 3) + rng.normal(0, 2, (h, w))
        arrays.append((wave * 2 ** (fmt.bits - 8)).astype(fmt.dtype))
    return Planes(tuple(arrays), fmt, width, height)


def _evaluate(model: Model, spec: FrameGraphSpec, planes: Planes, *, half: bool) -> Planes:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(build_frame_graph(model, spec, GraphForm(half=half)))
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in evaluator.proto_.graph.input]
    feeds = {
        i.name: array.reshape(shape)
        for i, shape, array in zip(evaluator.proto_.graph.input, shapes, planes.arrays, strict=True)
    }
    results: Any = evaluator.run(None, feeds)
    width, height = spec.output_size
    sizes = [spec.format.plane_size(name, width, height) for name in spec.format.plane_names]
    arrays = tuple(np.asarray(r).reshape(h, w) for r, (w, h) in zip(results, sizes, strict=True))
    return Planes(arrays, spec.format, width, height)
