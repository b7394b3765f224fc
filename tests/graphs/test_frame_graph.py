"""The frame graph against an independent float64 evaluation, in every backend."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.backends import onnx_models, reference
from tests.backends.reference import random_planes, worst_difference
from vsr.engines.engine import BACKENDS, EngineSpec, load_backend
from vsr.errors import BackendError, ModelError
from vsr.frame import PIXEL_FORMATS, ColorSpec, PixelFormat, Planes, Range, Siting
from vsr.graphs.frame_graph import FrameGraphSpec, build_frame_graph, chroma_phase
from vsr.model import BICUBIC, Model

SIZES = [(1, 1), (2, 1), (1, 3), (5, 7), (16, 9), (33, 18), (17, 13)]
SITINGS = list(Siting)
RANGES = list(Range)
MATRICES = [1, 2, 5, 9]


def available(name: str) -> bool:
    return load_backend(name).unavailable_reason() is None


backends = pytest.mark.parametrize(
    "backend",
    [pytest.param(n, marks=pytest.mark.skipif(not available(n), reason=f"{n} is not available")) for n in BACKENDS],
)


def run(backend: str, planes: Planes, color: ColorSpec, model: Model) -> Planes:
    graph = FrameGraphSpec(planes.format, color, model.scale, planes.width, planes.height)
    engine = load_backend(backend).compile(EngineSpec(model, graph, "fp32", 1))
    try:
        return engine.submit(planes).result()
    finally:
        engine.close()


def bicubic(scale: int) -> Model:
    return Model(BICUBIC, scale)


def scattered(name: str) -> tuple[ColorSpec, int, tuple[int, int]]:
    """Colour, scale and size for a format: spread over all of them, and the same in every run."""
    seed = zlib.crc32(name.encode())
    color = ColorSpec(MATRICES[seed % 4], range=RANGES[seed // 4 % 3], siting=SITINGS[seed // 12 % 7])
    return color, (2, 3, 4)[seed // 84 % 3], SIZES[seed // 252 % len(SIZES)]


@backends
@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
def test_every_format_gives_the_numbers_of_the_definition(backend: str, name: str) -> None:
    color, scale, size = scattered(name)
    planes = random_planes(PIXEL_FORMATS[name], *size)
    got = run(backend, planes, color, bicubic(scale))
    assert (got.width, got.height, got.format.name) == (size[0] * scale, size[1] * scale, name)
    assert worst_difference(got, reference.frame_graph(planes, color, scale)) <= 1


@backends
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_plane_of_one_row_as_long_as_the_scale(backend: str, scale: int) -> None:
    """Before and after its pixel shuffle it has the same shape: [1, 1, 1·s, s·s] and [1, 1, s, s²]."""
    planes = random_planes(PIXEL_FORMATS["gray"], scale, 1)
    got = run(backend, planes, ColorSpec(), bicubic(scale))
    assert worst_difference(got, reference.frame_graph(planes, ColorSpec(), scale)) <= 1


@backends
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(PIXEL_FORMATS)),
    scale=st.sampled_from([2, 3, 4]),
    siting=st.sampled_from(SITINGS),
    color_range=st.sampled_from(RANGES),
    matrix=st.sampled_from(MATRICES),
    width=st.integers(1, 24),
    height=st.integers(1, 24),
    seed=st.integers(0, 1000),
)
def test_any_mixture_gives_the_numbers_of_the_definition(
    backend: str,
    name: str,
    scale: int,
    siting: Siting,
    color_range: Range,
    matrix: int,
    width: int,
    height: int,
    seed: int,
) -> None:
    color = ColorSpec(matrix, range=color_range, siting=siting)
    planes = random_planes(PIXEL_FORMATS[name], width, height, seed)
    want = reference.frame_graph(planes, color, scale)
    assert worst_difference(run(backend, planes, color, bicubic(scale)), want) <= 1


# -- chroma siting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("siting", "horizontal", "vertical"),
    [
        (Siting.UNSPECIFIED, 1 / 4, 1 / 2),
        (Siting.LEFT, 1 / 4, 1 / 2),
        (Siting.CENTER, 1 / 2, 1 / 2),
        (Siting.TOPLEFT, 1 / 4, 1 / 4),
        (Siting.TOP, 1 / 2, 1 / 4),
        (Siting.BOTTOMLEFT, 1 / 4, 3 / 4),
        (Siting.BOTTOM, 1 / 2, 3 / 4),
    ],
)
def test_phases_of_420(siting: Siting, horizontal: float, vertical: float) -> None:
    assert chroma_phase(siting, 1, 1) == (horizontal, vertical)


@backends
@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize(("name", "scale"), [("yuv420p16le", 2), ("yuv420p16le", 3), ("yuv422p16le", 4)])
def test_a_chroma_ramp_stays_a_ramp_and_does_not_move(backend: str, name: str, scale: int, siting: Siting) -> None:
    """In 16 bits a step of 1000 a sample shows a shift of 1/1000 sample; 1/8 of one would already be visible."""
    fmt = PIXEL_FORMATS[name]
    width, height = 32, 24
    w, h = fmt.plane_size("u", width, height)
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    u, v = 5000 + 1000 * x, 5000 + 1000 * y
    planes = Planes(
        (np.zeros((height, width), np.uint16), u.astype(np.uint16), v.astype(np.uint16)), fmt, width, height
    )
    got = run(backend, planes, ColorSpec(siting=siting), bicubic(scale))
    dx, dy = reference.chroma_offsets(siting, fmt)
    inner_x, inner_y = slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale)
    for plane, axis, log2, offset in ((got.arrays[1], 1, fmt.log2_w, dx), (got.arrays[2], 0, fmt.log2_h, dy)):
        at = reference.sample_positions(plane.shape[axis], scale, log2, offset)
        found = (np.take(plane, 3 * scale, 1 - axis).astype(float) - 5000) / 1000
        assert np.abs(found - at)[inner_x if axis else inner_y].max() < 2e-3


@backends
@pytest.mark.parametrize("siting", [Siting.LEFT, Siting.CENTER, Siting.TOPLEFT])
def test_a_chroma_edge_stays_with_its_luma_edge(backend: str, siting: Siting) -> None:
    """A colour edge at luma position X lands at scale · X, measured by the area under the chroma plane."""
    fmt, scale, width, height = PIXEL_FORMATS["yuv420p"], 4, 32, 8
    u = np.full((4, 16), 60, np.uint8)
    u[:, 8:] = 180
    planes = Planes((np.zeros((height, width), np.uint8), u, u.copy()), fmt, width, height)
    got = run(backend, planes, ColorSpec(siting=siting), bicubic(scale)).arrays[1][8].astype(float)
    # The centre of the edge, in chroma samples: the position between 7 and 8 in the input
    dx, _ = reference.chroma_offsets(siting, fmt)
    edge_luma = 2 * 7.5 + dx
    edge_out = ((edge_luma + 0.5) * scale - 0.5 - dx) / 2
    measured = (180 - got).sum() / 120 - 0.5
    assert abs(measured - edge_out) < 1 / 8


# -- luma, range, rounding, clipping ----------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize("name", ["gray", "yuv420p", "yuv444p10le", "gray9le", "yuv422p12le", "gray14le", "gray16le"])
@pytest.mark.parametrize("color_range", [Range.UNSPECIFIED, Range.LIMITED, Range.FULL])
def test_networks_see_luma_in_units_of_255_with_its_range_mapped_to_studio(
    backend: str, name: str, color_range: Range, tmp_path: Path
) -> None:
    """A model that is no interpolation shows the mapping before it and after it: 0.8 · y + 0.05."""
    fmt = PIXEL_FORMATS[name]
    model = onnx_models.loaded(onnx_models.nearest(2, 0.8, 0.05), tmp_path, 2)
    planes = random_planes(fmt, 7, 5)
    got = run(backend, planes, ColorSpec(range=color_range), model).arrays[0].astype(float)
    code = planes.arrays[0].astype(float)
    largest = 2**fmt.bits - 1
    if color_range is Range.FULL:  # in the unit interval of studio range, 0 is 16/255 and 1 is 235/255
        seen = (16 + 219 * code / largest) / 255
        want = ((0.8 * seen + 0.05) * 255 - 16) / 219 * largest
    else:
        unit = 255 * 2 ** (fmt.bits - 8)
        want = (0.8 * code / unit + 0.05) * unit
    want = np.clip(want, 0, largest).repeat(2, 0).repeat(2, 1)
    assert np.abs(got - want).max() <= 0.51 if fmt.bits < 16 else 1


@backends
@pytest.mark.parametrize("bits", [8, 10])
def test_output_is_clipped_to_the_code_range_and_not_to_studio_range(backend: str, bits: int, tmp_path: Path) -> None:
    fmt = PIXEL_FORMATS["gray" if bits == 8 else "gray10le"]
    largest = 2**bits - 1
    ramp = np.linspace(0, largest, 32).astype(fmt.dtype).reshape(4, 8)
    planes = Planes((ramp,), fmt, 8, 4)
    same = run(backend, planes, ColorSpec(), onnx_models.loaded(onnx_models.nearest(2), tmp_path, 2)).arrays[0]
    assert (same[::2, ::2] == ramp).all()
    wide = run(backend, planes, ColorSpec(), onnx_models.loaded(onnx_models.nearest(2, 3.0, -1.0), tmp_path, 2)).arrays[
        0
    ]
    assert (wide.min(), wide.max()) == (0, largest)


@backends
def test_halves_are_rounded_to_even(backend: str) -> None:
    """At scale 2 the kernel's weights are whole 128ths: an impulse of 64 · 29/128 lies exactly between two codes."""
    fmt = PIXEL_FORMATS["yuv444p"]
    u, v = np.full((5, 9), 100, np.uint8), np.full((5, 9), 101, np.uint8)
    u[:, 4] += 64
    v[:, 4] += 64
    planes = Planes((np.zeros((5, 9), np.uint8), u, v), fmt, 9, 5)
    got = run(backend, planes, ColorSpec(siting=Siting.CENTER), bicubic(2))
    assert got.arrays[1][5, 7] == 114  # 114.5
    assert got.arrays[2][5, 7] == 116  # 115.5


# -- RGB --------------------------------------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize("matrix", [1, 2, 6, 9])
@pytest.mark.parametrize("name", ["gbrp", "gbrap", "gbrp10le", "gbrap16le"])
def test_rgb_goes_through_luma_by_its_own_matrix(backend: str, name: str, matrix: int, tmp_path: Path) -> None:
    proto = onnx_models.nearest(3, 0.9, 0.02)
    model = onnx_models.loaded(proto, tmp_path, 3)
    planes = random_planes(PIXEL_FORMATS[name], 6, 5, matrix)
    color = ColorSpec(matrix)
    want = reference.frame_graph(planes, color, 3, onnx_models.bare(proto))
    assert worst_difference(run(backend, planes, color, model), want) <= 1


@backends
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_flat_colours_come_back_as_they_were(backend: str, matrix: int, tmp_path: Path) -> None:
    """Grey stays exactly grey, primaries and what lies between them within one code value."""
    fmt = PIXEL_FORMATS["gbrp"]
    model = onnx_models.loaded(onnx_models.nearest(2), tmp_path, 2)
    colours = [(c, c, c) for c in range(0, 256, 15)] + [(g, b, r) for g in (0, 255) for b in (0, 255) for r in (0, 255)]
    engine = load_backend(backend).compile(
        EngineSpec(model, FrameGraphSpec(fmt, ColorSpec(matrix), 2, 3, 3), "fp32", 1)
    )
    try:
        for colour in colours:
            planes = Planes(tuple(np.full((3, 3), c, np.uint8) for c in colour), fmt, 3, 3)
            found = [(int(a.min()), int(a.max())) for a in engine.submit(planes).result().arrays]
            assert all(abs(f - c) <= 1 for pair, c in zip(found, colour, strict=True) for f in pair), (colour, found)
            if len(set(colour)) == 1:
                assert len(set(found)) == 1
    finally:
        engine.close()


# -- foreign models in a frame graph ----------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize("opset", [11, 13, 17, 18])
@pytest.mark.parametrize("mode", ["CRD", "DCR"])
@pytest.mark.parametrize("input_name", ["y", "frame/const_2"])
def test_a_wrapped_model_returns_what_the_bare_one_does(
    backend: str, opset: int, mode: str, input_name: str, tmp_path: Path
) -> None:
    proto = onnx_models.mixed(opset, mode, input_name=input_name, weights_as_inputs=opset != 18)
    onnx.checker.check_model(proto)
    model = onnx_models.loaded(proto, tmp_path, 2)
    planes = random_planes(PIXEL_FORMATS["yuv420p10le"], 11, 7)
    want = reference.frame_graph(planes, ColorSpec(), 2, onnx_models.bare(proto))
    assert np.ptp(want[0]) > 100  # or the comparison would show nothing
    assert worst_difference(run(backend, planes, ColorSpec(), model), want) <= 1


NEAREST = [
    ("nearest", transform, rounding)
    for transform in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
]
SMOOTH = [
    (mode, transform, "floor")
    for mode in ("linear", "cubic")
    for transform in ("half_pixel", "asymmetric", "align_corners")
]


def resizing(mode: str, transform: str, rounding: str, scale: int) -> onnx.ModelProto:
    attributes = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": rounding}
    node = helper.make_node("Resize", ["input", "", "s"], ["output"], **attributes)
    return onnx_models.make_model([node], {"s": np.array([1, 1, scale, scale], np.float32)})


@backends
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("modes", [NEAREST, SMOOTH], ids=["nearest", "smooth"])
def test_a_resize_inside_a_model_means_what_onnx_says_or_is_refused(
    backend: str, modes: list[tuple[str, str, str]], scale: int
) -> None:
    planes = random_planes(PIXEL_FORMATS["gray"], 6, 5)
    wrong, right = [], 0
    for way in modes:
        proto = resizing(*way, scale)
        want = reference.frame_graph(planes, ColorSpec(), scale, onnx_models.bare(proto))
        try:
            got = run(backend, planes, ColorSpec(), Model("own", scale, proto.SerializeToString()))
        except (ModelError, BackendError) as error:
            if "Resize" not in str(error):
                raise
            continue
        right += 1
        if (worst := worst_difference(got, want)) > 1:
            wrong.append((*way, worst))
    assert not wrong
    assert right >= 2  # half_pixel, as exporters write it, is among them


def test_a_model_with_control_flow_is_refused() -> None:
    then = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None)],
    )
    nodes = [helper.make_node("If", ["yes"], ["output"], then_branch=then, else_branch=then)]
    proto = onnx_models.make_model(nodes, {"yes": np.array(True)}, output_shape=None)
    with pytest.raises(ModelError, match="control flow"):
        build(Model("own", 2, proto.SerializeToString()))


def test_a_model_with_operators_of_its_own_domain_is_refused() -> None:
    proto = onnx_models.nearest(2)
    proto.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(ModelError, match=r"outside standard ONNX.*com\.microsoft"):
        build(Model("own", 2, proto.SerializeToString()))


def test_a_model_of_another_scale_than_the_job_is_refused() -> None:
    with pytest.raises(ModelError, match="enlarges 2 times, and the job 3"):
        build_frame_graph(bicubic(2), FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), 3, 4, 4))


def build(model: Model, fmt: PixelFormat = PIXEL_FORMATS["yuv420p"]) -> onnx.ModelProto:
    return build_frame_graph(model, FrameGraphSpec(fmt, ColorSpec(), model.scale, 5, 3))


def test_interface_of_a_graph_is_integer_planes_in_the_order_of_the_format() -> None:
    for name in ("yuva420p", "gbrap16le", "gray10le"):
        fmt = PIXEL_FORMATS[name]
        graph = build(bicubic(3), fmt).graph
        assert [i.name for i in graph.input] == list(fmt.plane_names)
        assert [o.name for o in graph.output] == [f"{n}_out" for n in fmt.plane_names]
        kind = onnx.TensorProto.UINT8 if fmt.bits == 8 else onnx.TensorProto.UINT16
        assert {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)} == {kind}
        sizes = [tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in graph.output]
        assert sizes == [(1, 1, *fmt.plane_size(n, 15, 9)[::-1]) for n in fmt.plane_names]
