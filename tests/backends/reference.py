"""What a frame graph must return, worked out directly in float64 and not by any code of the project."""

from __future__ import annotations

from typing import Any

import numpy as np

from vsr.frame import PIXEL_FORMATS, ColorSpec, PixelFormat, Planes, Range, Siting

LEFT_HALF = (Siting.UNSPECIFIED, Siting.LEFT, Siting.TOPLEFT, Siting.BOTTOMLEFT)
WEIGHTS = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}  # Kr, Kb; all others as BT.601
BT601 = (0.299, 0.114)


def keys(x: np.ndarray) -> np.ndarray:
    """R. Keys 1981, equation 4 with a = -1/2."""
    d = np.abs(x)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def sample_positions(
    count: int, scale: float, log2: int = 0, offset: float = 0.0, new_offset: float | None = None
) -> np.ndarray:
    """Where output samples lie, counted in input samples.

    Sample i of a plane subsampled by 2^log2 lies at luma position 2^log2 · i + offset (new_offset in the output, if it
    is another); enlarging maps the luma position X of the output to (X + 1/2) / scale - 1/2 of the input.
    """
    step = 1 << log2
    luma = (np.arange(count) * step + (offset if new_offset is None else new_offset) + 0.5) / scale - 0.5
    return (luma - offset) / step


def interpolate(plane: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    base = np.floor(positions).astype(int)
    out = 0.0
    for tap in (-1, 0, 1, 2):
        index = np.clip(base + tap, 0, plane.shape[axis] - 1)
        weight = keys(positions - (base + tap))
        shape = [1, 1]
        shape[axis] = -1
        out = out + np.take(plane, index, axis) * weight.reshape(shape)
    return np.asarray(out)


def chroma_offsets(siting: Siting, fmt: PixelFormat) -> tuple[float, float]:
    middle_w, middle_h = ((1 << fmt.log2_w) - 1) / 2, ((1 << fmt.log2_h) - 1) / 2
    x = 0.0 if siting in LEFT_HALF else middle_w
    y = middle_h
    if siting in (Siting.TOP, Siting.TOPLEFT):
        y = 0.0
    if siting in (Siting.BOTTOM, Siting.BOTTOMLEFT):
        y = (1 << fmt.log2_h) - 1
    return x, y


def enlarge(plane: np.ndarray, scale: int) -> np.ndarray:
    """Bicubic, without siting."""
    height, width = plane.shape
    rows = interpolate(plane.astype(np.float64), sample_positions(height * scale, scale), 0)
    return interpolate(rows, sample_positions(width * scale, scale), 1)


def enlarge_chroma(
    plane: np.ndarray, scale: int, siting: Siting, fmt: PixelFormat, size: tuple[int, int]
) -> np.ndarray:
    """`size` is that of the output picture in luma samples."""
    dx, dy = chroma_offsets(siting, fmt)
    width, height = -(-size[0] // (1 << fmt.log2_w)), -(-size[1] // (1 << fmt.log2_h))
    rows = interpolate(plane.astype(np.float64), sample_positions(height, scale, fmt.log2_h, dy), 0)
    return interpolate(rows, sample_positions(width, scale, fmt.log2_w, dx), 1)


def frame_graph(planes: Planes, color: ColorSpec, scale: int, network: Any = None) -> list[np.ndarray]:
    """The planes that a frame graph must return, in float64, clipped and rounded.

    Args:
        network: a function from luma in [0, 1] to enlarged luma; default: bicubic.
    """
    fmt = planes.format
    run = network or (lambda y: enlarge(y, scale))
    largest = 2**fmt.bits - 1
    by_name = {n: a.astype(np.float64) for n, a in zip(fmt.plane_names, planes.arrays, strict=True)}
    size = (planes.width * scale, planes.height * scale)
    out = {}
    if fmt.family == "rgb":
        kr, kb = WEIGHTS.get(color.matrix, BT601)
        r, g, b = (by_name[n] / largest for n in "rgb")
        y = kr * r + (1 - kr - kb) * g + kb * b
        cb, cr = (enlarge(c, scale) for c in ((b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)))
        y = (run((16 + 219 * y) / 255) * 255 - 16) / 219
        out["r"], out["b"] = y + (2 - 2 * kr) * cr, y + (2 - 2 * kb) * cb
        out["g"] = (y - kr * out["r"] - kb * out["b"]) / (1 - kr - kb)
        out = {n: v * largest for n, v in out.items()}
    else:
        y = by_name["y"]
        if color.range is Range.FULL:
            out["y"] = (run((16 + 219 * y / largest) / 255) * 255 - 16) / 219 * largest
        else:
            unit = 255 * 2 ** (fmt.bits - 8)
            out["y"] = run(y / unit) * unit
        if fmt.family == "yuv":
            for name in "uv":
                out[name] = enlarge_chroma(by_name[name], scale, color.siting, fmt, size)
    if fmt.alpha:
        out["a"] = enlarge(by_name["a"], scale)
    return [np.rint(np.clip(out[n], 0, largest)) for n in fmt.plane_names]


def ycc_from_rgb(rgb: np.ndarray, matrix: int) -> np.ndarray:
    """[3, H, W] in [0, 1] → Y', Cb, Cr by H.273's equations 38 to 40."""
    kr, kb = WEIGHTS.get(matrix, BT601)
    r, g, b = rgb
    y = kr * r + (1 - kr - kb) * g + kb * b
    return np.stack([y, (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)])


def rgb_from_ycc(ycc: np.ndarray, matrix: int) -> np.ndarray:
    kr, kb = WEIGHTS.get(matrix, BT601)
    y, cb, cr = ycc
    r, b = y + (2 - 2 * kr) * cr, y + (2 - 2 * kb) * cb
    return np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b])


def shrink(plane: np.ndarray, factor: int, offset: float, axis: int) -> np.ndarray:
    """The cubic, stretched: every `factor`-th sample, the first at `offset`. Edges replicate."""
    if factor == 1:
        return plane
    size = plane.shape[axis]
    centres = np.arange(-(-size // factor)) * factor + offset
    out, total = 0.0, 0.0
    for tap in range(-2 * factor, 2 * factor + 2):
        index = np.floor(centres).astype(int) + tap
        weight = keys((index - centres) / factor)
        shape = [1, 1]
        shape[axis] = -1
        out = out + np.take(plane, np.clip(index, 0, size - 1), axis) * weight.reshape(shape)
        total = total + weight.reshape(shape)
    return np.asarray(out / total)


def rgb_frame_graph(planes: Planes, color: ColorSpec, scale: int, network: Any) -> list[np.ndarray]:
    """The planes that a frame graph around an RGB model must return.

    Args:
        network: a function from R'G'B' [3, H, W] in [0, 1] to [3, scale·H, scale·W].
    """
    fmt = planes.format
    largest, step = 2**fmt.bits - 1, 2.0 ** (fmt.bits - 8)
    by_name = {n: a.astype(np.float64) for n, a in zip(fmt.plane_names, planes.arrays, strict=True)}
    full = color.range is Range.FULL
    out: dict[str, np.ndarray] = {}
    if fmt.family == "rgb":
        out = {
            n: v * largest for n, v in zip("rgb", network(np.stack([by_name[n] for n in "rgb"]) / largest), strict=True)
        }
    else:
        black, span = (0.0, float(largest)) if full else (16 * step, 219 * step)
        middle, chroma_span = ((largest + 1) / 2, float(largest)) if full else (128 * step, 224 * step)
        y = (by_name["y"] - black) / span
        if fmt.family == "gray":
            out["y"] = ycc_from_rgb(network(np.stack([y, y, y])), color.matrix)[0] * span + black
        else:
            dx, dy = chroma_offsets(color.siting, fmt)
            at_y = (np.arange(planes.height) - dy) / (1 << fmt.log2_h)
            at_x = (np.arange(planes.width) - dx) / (1 << fmt.log2_w)
            wide = [(interpolate(interpolate(by_name[n], at_y, 0), at_x, 1) - middle) / chroma_span for n in "uv"]
            ycc = ycc_from_rgb(network(rgb_from_ycc(np.stack([y, *wide]), color.matrix)), color.matrix)
            out["y"] = ycc[0] * span + black
            for name, plane in zip("uv", ycc[1:], strict=True):
                small = shrink(shrink(plane, 1 << fmt.log2_h, dy, 0), 1 << fmt.log2_w, dx, 1)
                out[name] = small * chroma_span + middle
    if fmt.alpha:
        out["a"] = enlarge(by_name["a"], scale)
    return [np.rint(np.clip(out[n], 0, largest)) for n in fmt.plane_names]


def worst_difference(got: Planes, want: list[np.ndarray]) -> float:
    """Largest difference in code values over all planes, whose shapes must agree."""
    assert [a.shape for a in got.arrays] == [w.shape for w in want]
    return max(float(np.abs(a.astype(np.float64) - w).max()) for a, w in zip(got.arrays, want, strict=True))


def random_planes(fmt: PixelFormat, width: int, height: int, seed: int = 0) -> Planes:
    """Noise, with black and white in it, so that overshoot is clipped at both ends."""
    rng = np.random.default_rng(seed)
    arrays = []
    for name in fmt.plane_names:
        w, h = fmt.plane_size(name, width, height)
        noise = rng.integers(0, 2**fmt.bits, (h, w))
        extreme = rng.integers(0, 2, (h, w)) * (2**fmt.bits - 1)
        arrays.append(np.where(rng.random((h, w)) < 0.3, extreme, noise).astype(fmt.dtype))
    return Planes(tuple(arrays), fmt, width, height)


def picture(seed: int = 0, name: str = "yuv420p", width: int = 9, height: int = 7) -> Planes:
    return random_planes(PIXEL_FORMATS[name], width, height, seed)
