"""Building TensorRT engines ahead of time or when they are needed: what, for which GPU, is it there already?"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final

from vsr.errors import ModelError, OptionError
from vsr.frame import LUMA_WEIGHTS, PIXEL_FORMATS, ColorSpec, PixelFormat, Range, Siting
from vsr.gpu import tensorrt_api
from vsr.gpu.build_progress import OnBuild
from vsr.gpu.cuda_driver import Driver, primary_context, probe
from vsr.gpu.engine_store import EngineKey, Profile, Size, add_facts, building, default_folder, publish, refusal
from vsr.gpu.names import Gpu
from vsr.gpu.tensorrt_api import Shapes, TensorRt
from vsr.graphs.fidelity import HEIGHT, WIDTH, reference_psnr
from vsr.graphs.frame_graph import SAME, FrameGraphSpec, GraphForm, Target, build_frame_graph, plane_shapes
from vsr.graphs.low_precision import quantisation
from vsr.model import Model
from vsr.store import atomic_write

UNTAGGED: Final = ColorSpec()
BUILD_PRECISIONS: Final = ("fp16", "fp32", "int8", "fp8")
ANY_SIZE: Final = Profile((64, 64), (1280, 720), (1920, 1080))
"""What an engine takes if nothing is said."""

# Layouts of decoders that are not planar: the planar format of the same samples, and how far they are shifted up
INTERLEAVED: Final = {
    "nv12": ("yuv420p", 0),
    "p010": ("yuv420p10le", 6),
    "p012": ("yuv420p12le", 4),
    "p016": ("yuv420p16le", 0),
}
MATRICES: Final = {"bt601": 6, "bt709": 1, "bt2020": 9}


@dataclass(frozen=True)
class EngineRequest:
    """An engine that is asked for.

    Attributes:
        model: in the frame graph.
        pix_fmt: a name in `vsr.frame.PIXEL_FORMATS` or in `INTERLEAVED`.
        color: matrix, range and siting of the pictures.
        precision: fp16, fp32, or int8 and fp8 for models that are quantised so.
        profile: sizes and batch.
        gpu: what it is for.
        target: what is asked of the enlarged planes besides.
    """

    model: Model
    gpu: Gpu
    pix_fmt: str = "yuv420p"
    color: ColorSpec = UNTAGGED
    precision: str = "fp16"
    profile: Profile = ANY_SIZE
    target: Target = SAME

    def __post_init__(self) -> None:
        if self.precision not in BUILD_PRECISIONS:
            raise OptionError(f"precision {self.precision!r}; allowed are {', '.join(BUILD_PRECISIONS)}")
        fmt, _ = layout(self.pix_fmt)
        profile = self.profile
        sizes = (profile.smallest, profile.usual, profile.largest)
        if profile.batch < 1:
            raise OptionError(f"batch {profile.batch}; it must be 1 or more")
        if any(n < 1 for size in sizes for n in size):
            raise OptionError(f"sizes {_sizes(sizes)}; each must be at least 1x1")
        if any(not a <= b <= c for a, b, c in zip(*sizes, strict=True)):
            raise OptionError(f"sizes {_sizes(sizes)}; they must grow from the smallest to the usual and the largest")
        units = (1 << fmt.log2_w, 1 << fmt.log2_h)
        if not profile.static and any(n % u for size in sizes for n, u in zip(size, units, strict=True)):
            raise OptionError(
                f"sizes {_sizes(sizes)} for {self.pix_fmt}; where sizes are free they must be multiples of "
                f"{units[0]}x{units[1]}",
                "give one --input-size for an odd size",
            )
        if self.precision in ("int8", "fp8") and fmt.bits > 8:
            raise OptionError(
                f"precision {self.precision} for pictures of {fmt.bits} bits, which it would reduce to 8",
                "use --precision fp16",
            )
        _check_quantised(self.model, self.precision)

    @property
    def spec(self) -> FrameGraphSpec:
        """The frame graph; of the largest size where sizes are free."""
        fmt, _ = layout(self.pix_fmt)
        color = arithmetic_part(self.color, fmt, self.model)
        target = replace(self.target, siting=None) if self.target.siting == color.siting else self.target
        return FrameGraphSpec(fmt, color, self.model.scale, *self.profile.largest, target)

    @property
    def form(self) -> GraphForm:
        """Its form for TensorRT."""
        _, shift = layout(self.pix_fmt)
        return GraphForm(
            half=self.precision != "fp32",
            batch=self.profile.batch,
            interleaved=self.pix_fmt in INTERLEAVED,
            byte_pairs=True,
            shift=shift,
            dynamic=not self.profile.static,
        )

    def shapes(self) -> dict[str, Shapes] | None:
        """Of each input: smallest, usual, largest. None if there is one size only."""
        profile = self.profile
        if profile.static:
            return None
        found = []
        sizes = (profile.smallest, 1), (profile.usual, profile.batch), (profile.largest, profile.batch)
        for (width, height), batch in sizes:
            spec, form = replace(self.spec, width=width, height=height), replace(self.form, batch=batch)
            found.append(plane_shapes(spec, form))
        return {name: (found[0][name], found[1][name], found[2][name]) for name in found[0]}


@dataclass(frozen=True)
class BuildReport:
    """What became of a request.

    Attributes:
        path: of the engine file.
        reason: why it was built; None if it was there and could be trusted.
        bytes: size of the file.
        build_s: seconds that building took; 0 if it was there.
        capability: what it is for, as `sm_89`.
    """

    path: Path
    reason: str | None
    bytes: int
    build_s: float
    capability: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "built": self.reason is not None,
            "reason": self.reason,
            "bytes": self.bytes,
            "build_s": round(self.build_s, 3),
            "gpu": self.capability,
        }


def layout(pix_fmt: str) -> tuple[PixelFormat, int]:
    """The planar format of a pixel format's samples, and how many bits these are shifted up by.

    Raises:
        OptionError: it is not one that engines are built for.
    """
    name = pix_fmt.removesuffix("le") if pix_fmt.removesuffix("le") in INTERLEAVED else pix_fmt
    planar, shift = INTERLEAVED.get(name, (pix_fmt, 0))
    if planar not in PIXEL_FORMATS:
        names = ", ".join(INTERLEAVED)
        raise OptionError(f"pixel format {pix_fmt!r}; engines are built for {names} and planar formats")
    return PIXEL_FORMATS[planar], shift


def arithmetic_part(color: ColorSpec, fmt: PixelFormat, model: Model) -> ColorSpec:
    """What of `color` enters the arithmetic, spelt out, so that streams that differ in nothing else share an engine."""
    converted = fmt.family == "rgb" or model.channels == 3
    matrix = color.matrix if color.matrix in LUMA_WEIGHTS else MATRICES["bt601"]
    full = color.is_full_range() or fmt.family == "rgb"
    siting = Siting.LEFT if color.siting is Siting.UNSPECIFIED or not (fmt.log2_w or fmt.log2_h) else color.siting
    return ColorSpec(
        matrix if converted else MATRICES["bt709"], range=Range.FULL if full else Range.LIMITED, siting=siting
    )


def this_gpu() -> Gpu:
    """The GPU of this machine.

    Raises:
        OptionError: there is none.
    """
    found = probe()
    if isinstance(found, Driver):
        return found.gpu
    raise OptionError(f"no GPU to build for: {found}", "name one with --gpu, such as --gpu sm_89 or --gpu 'RTX 4090'")


def build_engine(
    request: EngineRequest,
    path: Path | None = None,
    *,
    api: TensorRt | None = None,
    on_note: Callable[[str], None] = lambda _: None,
    on_build: OnBuild = lambda _: True,
    reference: bool = False,
) -> BuildReport:
    """See that the engine of `request` is there and can be trusted; build it if not.

    Args:
        request: what to build.
        path: where; default: a name of its own in `vsr.gpu.engine_store.default_folder()`.
        api: TensorRT; default: the package for a GPU of this machine or another.
        on_note: is told, in one line each, that and why something is built, and when another process is building it.
        on_build: is told, from 0 to 1, how far it is, and answers whether to go on; asked while waiting, too.
        reference: whether to compute, which takes a second or two, how near the graph is to fp32, for the manifest.

    Raises:
        ModelError, BackendError: TensorRT refuses the model, or cannot build for that GPU.
        OutputError: the file cannot be written.
        InterruptedJobError: `on_build` answered no.
    """
    found = probe(request.gpu.number)
    here = isinstance(found, Driver) and found.gpu.capability == request.gpu.capability
    if api is None:
        api = tensorrt_api.choose_runtime(without_gpu=not here)
    api.check_target(request.gpu)
    graph = _graph_of(request)
    key = engine_key(request, api, graph)
    target = default_folder() / key.file_name if path is None else path
    reason = refusal(target, key)
    if reason is not None:
        waiting = f"another process is building {target.name}; waiting for it"
        with building(target, lambda: on_note(waiting), lambda: on_build(0.0)):
            reason = refusal(target, key)  # it may have come meanwhile
            if reason is not None:
                on_note(f"building {target.name}: {reason}")
                seconds = _build(request, api, graph, key, target, on_build, use_timing=here)
                if reference:
                    add_facts(target, {"reference": _reference(request)})
                return BuildReport(target, reason, target.stat().st_size, seconds, key.capability)
    return BuildReport(target, None, target.stat().st_size, 0.0, key.capability)


@dataclass(frozen=True)
class Found:
    """An engine for a request, in the engine folder.

    Attributes:
        path: of the file.
        request: what it was built as, or has to be.
        lack: why it has to be built; None if it is there and can be trusted.
    """

    path: Path
    request: EngineRequest
    lack: str | None


def find(request: EngineRequest, api: TensorRt) -> Found:
    """An engine that takes the pictures of `request`: its own, or else one of free sizes that was built ahead."""
    own = _look(request, api)
    if own.lack is None:
        return own
    width, height = request.profile.largest
    units = (1 << request.spec.format.log2_w, 1 << request.spec.format.log2_h)
    low, high = ANY_SIZE.smallest, ANY_SIZE.largest
    fits = all(a <= n <= b for a, n, b in zip(low, (width, height), high, strict=True))
    if fits and request.spec.is_whole and width % units[0] == 0 and height % units[1] == 0:
        any_size = replace(ANY_SIZE, batch=request.profile.batch)
        free = _look(replace(request, profile=any_size, target=replace(request.target, size=None)), api)
        if free.lack is None:
            return free
    return own


def find_or_build(
    request: EngineRequest,
    api: TensorRt,
    on_note: Callable[[str], None] = lambda _: None,
    on_build: OnBuild = lambda _: True,
) -> tuple[Path, EngineRequest]:
    """What `find` finds; built if it has to be.

    Returns:
        The file, and what it was built as.

    Raises:
        As `build_engine`.
    """
    found = find(request, api)
    if found.lack is not None:
        build_engine(found.request, found.path, api=api, on_note=on_note, on_build=on_build)
    return found.path, found.request


def _look(request: EngineRequest, api: TensorRt) -> Found:
    key = engine_key(request, api, _graph_of(request))
    path = default_folder() / key.file_name
    return Found(path, request, refusal(path, key))


def _graph_of(request: EngineRequest) -> bytes:
    proto = build_frame_graph(request.model, request.spec, request.form)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def engine_key(request: EngineRequest, api: TensorRt, graph: bytes) -> EngineKey:
    """What the engine of `request` is known by."""
    return EngineKey(
        model=request.model.name,
        model_sha256=request.model.sha256,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        scale=request.model.scale,
        pix_fmt=request.pix_fmt,
        color=color_words(request.spec.color, request.spec.target),
        precision=request.precision,
        profile=request.profile,
        runtime=api.runtime,
        runtime_version=api.version,
        capability=request.gpu.sm,
        gpu=request.gpu.name if api.ties_to_gpu_name else "",
    )


def color_words(color: ColorSpec, target: Target) -> str:
    """Matrix, range and siting, for names of files; what is unspecified is named as what it is taken for."""
    matrix = next((name for name, code in MATRICES.items() if code == color.matrix), f"matrix{color.matrix}")
    siting = color.siting.name.lower()
    if target.siting is not None and target.siting != color.siting:
        siting += f"-to-{target.siting.name.lower()}"
    if target.size is not None:
        siting += "-to-{}x{}".format(*target.size)
    return f"{matrix}-{'full' if color.is_full_range() else 'limited'}-{siting}"


def _build(
    request: EngineRequest,
    api: TensorRt,
    graph: bytes,
    key: EngineKey,
    target: Path,
    on_build: OnBuild,
    *,
    use_timing: bool,
) -> float:
    cache = target.with_name(f"{api.runtime}-{api.version}-{key.capability}.timing")
    timing = None
    if use_timing:
        timing = cache.read_bytes() if cache.is_file() else b""
    started = time.monotonic()
    number = request.gpu.number  # TensorRT builds for whichever GPU is current, the first one if none is
    with primary_context(number) if use_timing and number else contextlib.nullcontext():
        built, grown = api.build(graph, request.model.name, request.gpu, request.shapes(), timing, on_build)
    seconds = time.monotonic() - started
    why = "it has not run yet" if use_timing else f"no GPU of {key.capability} here"
    facts = {
        "measured": {"ms": None, "psnr_db": None, "note": f"not measured: {why}"},
        "build_s": round(seconds, 3),
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "bindings": [{"name": b.name, "dtype": b.dtype, "shape": list(b.shape)} for b in built.bindings],
    }
    publish(target, key, built.data, facts)
    if grown is not None:
        _keep_timing(cache, grown)
    return seconds


def _reference(request: EngineRequest) -> dict[str, Any]:
    """PSNR of the frame graph against fp32, by ONNX's reference."""
    found = reference_psnr(request.model, request.spec, request.form)
    if isinstance(found, str):
        return {"psnr_db": None, "note": f"not computed: {found}"}
    note = f"this frame graph by ONNX's reference on {WIDTH}x{HEIGHT}, not the engine"
    return {"psnr_db": round(found, 2) if isfinite(found) else None, "note": note}


def _keep_timing(cache: Path, grown: bytes) -> None:
    with atomic_write(cache, overwrite=True) as path:
        path.write_bytes(grown)


def _check_quantised(model: Model, precision: str) -> None:
    """See that int8 and fp8 are asked of models that are quantised so, and only of them.

    Raises:
        ModelError: they are not.
    """
    kind = None if model.is_bicubic else quantisation(model.onnx_bytes)
    if precision in ("int8", "fp8") and kind != precision:
        has = "has no Q/DQ nodes" if kind is None else f"is quantised to {kind}"
        raise ModelError(
            f"model {model.name} {has}, and TensorRT computes in {precision} only what is quantised so in the file: it "
            "calibrates no more",
            "use --precision fp16, or quantise the model first",
        )
    if precision not in ("int8", "fp8") and kind is not None:
        raise ModelError(
            f"model {model.name} is quantised to {kind}", f"use --precision {kind}, or the model it was made from"
        )


def _sizes(sizes: tuple[Size, ...]) -> str:
    return ", ".join(f"{w}x{h}" for w, h in sizes)
