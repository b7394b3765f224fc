"""Models of three channels: the frame graph around them leads through RGB by the stream's own matrix and range."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vsr
from tests.backends import onnx_models, reference
from tests.backends.reference import random_planes, worst_difference
from tests.graphs.test_frame_graph import MATRICES, RANGES, SITINGS, SIZES, backends, run
from vsr.engines.compile import compile_engine
from vsr.engines.engine import EngineSpec, load_backend
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Range, Siting
from vsr.graphs.footprint import footprint, frame_halo
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import Model

FORMATS = [
    "gray",
    "gray12le",
    "gbrp",
    "gbrap10le",
    "yuv410p",
    "yuv411p",
    "yuv420p",
    "yuv420p10le",
    "yuv422p",
    "yuv440p",
]
FORMATS += ["yuv444p16le", "yuva420p"]


def rgb_model(scale: int) -> Model:
    return Model("compact.onnx", scale, onnx_models.compact(scale).SerializeToString(), channels=3)


def gentle(name: str, size: tuple[int, int], seed: int) -> Planes:
    """Noise around the middle: what leaves the RGB cube is the same in both, but grows what rounding does."""
    planes = random_planes(PIXEL_FORMATS[name], *size, seed)
    largest = 2**planes.format.bits - 1
    arrays = tuple((a // 3 + largest // 3).astype(a.dtype) for a in planes.arrays)
    return Planes(arrays, planes.format, *size)


@backends
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_numbers_of_the_definition(backend: str, name: str) -> None:
    seed = zlib.crc32(name.encode())
    color = ColorSpec(MATRICES[seed % 4], range=RANGES[seed // 4 % 3], siting=SITINGS[seed // 12 % 7])
    scale, size = (2, 3, 4)[seed // 84 % 3], SIZES[seed // 252 % len(SIZES)]
    planes, model = gentle(name, size, seed % 1000), rgb_model(scale)
    want = reference.rgb_frame_graph(planes, color, scale, onnx_models.bare_rgb(onnx_models.compact(scale)))
    assert worst_difference(run(backend, planes, color, model), want) <= 1


@backends
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(FORMATS),
    siting=st.sampled_from(SITINGS),
    color_range=st.sampled_from(RANGES),
    matrix=st.sampled_from(MATRICES),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_any_mixture_gives_the_numbers_of_the_definition(
    backend: str, name: str, siting: Siting, color_range: Range, matrix: int, width: int, height: int, seed: int
) -> None:
    color, planes = ColorSpec(matrix, range=color_range, siting=siting), gentle(name, (width, height), seed)
    want = reference.rgb_frame_graph(planes, color, 2, onnx_models.bare_rgb(onnx_models.compact(2)))
    assert worst_difference(run(backend, planes, color, rgb_model(2)), want) <= 1


@backends
@pytest.mark.parametrize("name", ["yuv410p", "yuv411p", "yuv420p", "yuv422p"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (2, 5), (5, 1)])
def test_one_column_of_chroma_comes_out_whole(backend: str, name: str, size: tuple[int, int]) -> None:
    planes, color = gentle(name, size, 0), ColorSpec(1)
    want = reference.rgb_frame_graph(planes, color, 2, onnx_models.bare_rgb(onnx_models.compact(2)))
    assert worst_difference(run(backend, planes, color, rgb_model(2)), want) <= 1


@backends
@pytest.mark.parametrize("name", ["yuv444p", "yuv444p10le", "gbrp", "gray"])
@pytest.mark.parametrize("color_range", [Range.LIMITED, Range.FULL])
def test_a_model_that_repeats_pixels_changes_no_code_value(backend: str, name: str, color_range: Range) -> None:
    """There and back through RGB is exact, also for codes below black, above white and outside the RGB cube."""
    model = Model("same.onnx", 2, onnx_models.compact(2, noise=0.0).SerializeToString(), channels=3)
    planes = random_planes(PIXEL_FORMATS[name], 12, 9, 3)
    got = run(backend, planes, ColorSpec(1, range=color_range), model)
    for before, after in zip(planes.arrays, got.arrays, strict=True):
        assert (after == before.repeat(2, 0).repeat(2, 1)).all()


@backends
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (16, 8)])
def test_a_model_that_takes_multiples_only_takes_every_size(
    backend: str, size: tuple[int, int], tmp_path: Path
) -> None:
    model = onnx_models.loaded(onnx_models.blocks(2, 8, 3), tmp_path, 2)
    planes = random_planes(PIXEL_FORMATS["yuv444p"], *size, 3)
    got = run(backend, planes, ColorSpec(1), model)
    for before, after in zip(planes.arrays, got.arrays, strict=True):
        assert (after == before.repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "gbrp"])
@pytest.mark.parametrize("siting", [Siting.LEFT, Siting.BOTTOM])
def test_strips_are_those_of_the_whole(name: str, siting: Siting) -> None:
    backend, model = load_backend("openvino"), rgb_model(3)
    fmt = PIXEL_FORMATS[name]
    planes = random_planes(fmt, 20, 90, 4)
    spec = EngineSpec(model, FrameGraphSpec(fmt, ColorSpec(siting=siting), 3, 20, 90), "fp32", 1)
    need = footprint(model)
    assert need.halo == 3  # three convolutions; the skip reads no farther
    rows = 2 * frame_halo(model, need.halo, 2) + 8
    parts = compile_engine(backend, spec, budget=rows * 20 * need.bytes_per_sample)
    whole = compile_engine(backend, spec)
    try:
        assert "strips" in parts.description or "tiles" in parts.description
        pairs = zip(parts.submit(planes).result().arrays, whole.submit(planes).result().arrays, strict=True)
        assert all((a == b).all() for a, b in pairs)
    finally:
        parts.close()
        whole.close()


# -- from file to file, judged by FFmpeg's own conversion --------------------------------------------------------------


def run_tool(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def patches(path: Path, matrix: str, color_range: str, pix_fmt: str) -> Path:
    """Three pictures of coloured patches, coded in this matrix and range and tagged so."""
    colors = zip(("0xc04838", "0x20a060", "0xd0c040", "0x3050e0"), "abcd", strict=True)
    picture = "".join(f"color={color}:32x24:d=0.12:r=25[{name}];" for color, name in colors)
    picture += "[a][b]hstack[e];[c][d]hstack[f];[e][f]vstack[g];[g]format=gbrp,"
    picture += f"scale=out_color_matrix={matrix}:out_range={color_range}:flags=accurate_rnd,format={pix_fmt}"
    tags = {"bt709": "bt709", "bt601": "smpte170m"}[matrix]
    run_tool(
        *("ffmpeg", "-v", "error", "-filter_complex", picture, "-c:v", "ffv1", "-colorspace", tags),
        *("-color_range", {"limited": "tv", "full": "pc"}[color_range], str(path)),
    )
    return path


def as_rgb(path: Path, size: tuple[int, int], matrix: str, color_range: str) -> np.ndarray:
    """The first picture as FFmpeg shows it, [3, H, W] in [0, 1]."""
    convert = f"scale=in_color_matrix={matrix}:in_range={color_range}:flags=accurate_rnd+full_chroma_int,format=rgb24"
    raw = run_tool("ffmpeg", "-v", "error", "-i", str(path), "-vf", convert, "-frames:v", "1", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(size[1], size[0], 3).transpose(2, 0, 1) / 255


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("color_range", ["limited", "full"])
@pytest.mark.parametrize(
    ("backend", "pix_fmt"), [("openvino", "yuv420p"), ("openvino", "yuv444p"), ("torch", "yuv444p")]
)
def test_a_clip_keeps_its_colours(matrix: str, color_range: str, backend: str, pix_fmt: str, tmp_path: Path) -> None:
    proto = onnx_models.compact(2, noise=0.03)
    model = onnx_models.saved(proto, tmp_path / "compact.onnx")
    source = patches(tmp_path / "in.mkv", matrix, color_range, pix_fmt)
    # in fp32: CPUs that multiply bfloat16 would be given that, which is up to two code values off
    exact = {"backend": backend, "precision": "fp32", "threads": 1, "encoder": "ffv1"}
    vsr.upscale(source, tmp_path / "out.mkv", 2, model=model, **exact)
    before = as_rgb(source, (64, 48), matrix, color_range)
    want = np.clip(onnx_models.bare_rgb(proto)(before), 0, 1) * 255
    got = as_rgb(tmp_path / "out.mkv", (128, 96), matrix, color_range) * 255
    patch = np.s_[:, 8:40, 8:56]  # in the middle of the first: chroma of 4:2:0 is mixed at its border
    assert np.abs(got[patch].mean((1, 2)) - want[patch].mean((1, 2))).max() <= 1.5
    if pix_fmt == "yuv444p":
        assert np.abs(got - want).max() <= 4
    assert np.abs(want - before.repeat(2, 1).repeat(2, 2) * 255).max() > 6  # the model does something
