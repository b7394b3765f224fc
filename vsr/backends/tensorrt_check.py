"""A TensorRT engine that was built here is tried once on its GPU: how fast, and how near to fp32."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from vsr.engines.engine import Engine, EngineSpec, load_backend
from vsr.engines.timing import time_engine
from vsr.errors import VsrError
from vsr.frame import Planes
from vsr.graphs.chain import plain_form
from vsr.graphs.fidelity import BOUNDS_DB, waves, worst_psnr
from vsr.graphs.footprint import footprint, frame_halo
from vsr.graphs.frame_graph import FrameGraphSpec

PICTURES: Final = 6
SECONDS: Final = 0.2
PART: Final = (96, 64)  # of the picture, at its upper left, that is computed in fp32 on the CPU


def measure(engine: Engine, spec: EngineSpec, gpu: str) -> dict[str, Any]:
    """What the manifest of an engine says under `measured`: milliseconds a picture with copies, and PSNR against fp32.

    Args:
        engine: loaded, and not at work.
        spec: that it was compiled for.
        gpu: name of the GPU.

    Raises:
        BackendError: the engine does not run.
    """
    picture = waves(spec.graph.format, spec.graph.width, spec.graph.height)
    large = engine.submit(picture).result()  # which warms it up, too
    found = _psnr(large, picture, spec)
    return {
        "ms": round(time_engine(engine, picture, seconds=SECONDS, pictures=PICTURES).ms, 4),
        "psnr_db": found if isinstance(found, str) or math.isfinite(found) else None,
        "note": "equal to fp32" if found == math.inf else None,
        "size": [spec.graph.width, spec.graph.height],
        "gpu": gpu,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def complaint(measured: dict[str, Any], precision: str) -> str | None:
    """What is wrong with an engine that was measured so, in one line; None if nothing is."""
    bound, found = BOUNDS_DB.get(precision), measured["psnr_db"]
    if bound is None or not isinstance(found, float) or found >= bound:
        return None
    return f"the engine's picture is {found:.1f} dB from fp32, and {precision} should reach {bound:g} dB"


def _psnr(large: Planes, picture: Planes, spec: EngineSpec) -> float | str:
    """Against OpenVINO in fp32, on a part of the picture; or, in a few words, why there is none."""
    model = spec.model if spec.precision != "int8" else plain_form(spec.model)
    if model is None:
        return "not measured: the model's fp32 form is not known"
    need, graph = footprint(model).halo, spec.graph
    if need is None or not graph.is_whole:
        return "not measured: which part of the picture a sample depends on is not known"
    unit = 1 << max(graph.format.log2_w, graph.format.log2_h)
    halo = -(-frame_halo(model, need, unit) // unit) * unit
    width, height = (min(n, part + halo) for n, part in zip((graph.width, graph.height), PART, strict=True))
    kept = [
        n * graph.scale if n == all_ else (n - halo) * graph.scale
        for n, all_ in ((width, graph.width), (height, graph.height))
    ]
    part: FrameGraphSpec = replace(graph, width=width, height=height)
    try:
        reference = load_backend("openvino").compile(replace(spec, model=model, graph=part, precision="fp32"))
    except VsrError as error:
        return f"not measured: {error.message}"
    try:
        want = reference.submit(_upper_left(picture, width, height)).result()
    finally:
        reference.close()
    return round(worst_psnr(_upper_left(want, kept[0], kept[1]), _upper_left(large, kept[0], kept[1])), 2)


def _upper_left(planes: Planes, width: int, height: int) -> Planes:
    sizes = [planes.format.plane_size(name, width, height) for name in planes.format.plane_names]
    arrays = tuple(a[:h, :w].copy() for a, (w, h) in zip(planes.arrays, sizes, strict=True))
    return Planes(arrays, planes.format, width, height)
