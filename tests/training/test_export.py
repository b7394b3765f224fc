import contextlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.backends import onnx_models, reference
from tests.backends.reference import random_planes, worst_difference
from tests.training.conftest import picture
from vsr.engines.compile import compile_engine
from vsr.engines.engine import BACKENDS, EngineSpec, load_backend
from vsr.errors import InputError, ModelError, TrainingError
from vsr.evaluation.pairs import read_luma
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.graphs.footprint import footprint
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import Model
from vsr.networks import NAMES, create
from vsr.training import export
from vsr.training.evaluate import bicubic, folder_psnr, from_module, mean, picture_psnr, standard_psnr
from vsr.training.export import build_model, export_network, read_plain, run_model

ALLOWED = {"Conv", "Relu", "LeakyRelu", "PRelu", "Tanh", "Add", "DepthToSpace"}
ENLARGED = {"Pad"}
POOLED = {"MaxPool", "Concat", "Shape", "Slice"}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_exported_model_keeps_the_contract(name, scale, tmp_path):
    torch.manual_seed(scale)
    network = create(name, scale)
    path = tmp_path / f"{name}_x{scale}.onnx"
    export_network(network, path, "0" * 64)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17
    assert model.ir_version <= 10
    (y,), (out,) = model.graph.input, model.graph.output
    assert (y.name, out.name) == ("y", "y_upscaled")
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (y, out)]
    assert dims[0] == ["N", 1, "H", "W"]
    assert dims[1][1] == 1
    assert all(isinstance(d, str) for k, d in enumerate(dims[1]) if k != 1)
    extra = {"autoencoder": ENLARGED | POOLED, "srcnn": ENLARGED}.get(name.removesuffix("-9-1-5"), set())
    assert {node.op_type for node in model.graph.node} <= ALLOWED | extra
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties["vsr.schema"] == "1"
    assert properties["vsr.network"] == name
    assert properties["vsr.scale"] == str(scale)
    assert properties["vsr.input"] == "y"
    assert properties["vsr.halo"] == str(network.halo)
    assert properties["vsr.licence"] == "MIT"
    assert "protocol" in json.loads(properties["vsr.psnr"])


@pytest.mark.parametrize("name", NAMES)
def test_the_model_computes_what_the_network_does(name):
    torch.manual_seed(1)
    network = create(name, 3)
    model = build_model(network, {})
    for shape in ((1, 1, 1, 1), (1, 1, 5, 2), (3, 1, 17, 13)):
        y = np.random.default_rng(0).random(shape, dtype=np.float32)
        with torch.no_grad():
            wanted = network(torch.from_numpy(y)).numpy()
        assert np.abs(run_model(model, y) - wanted).max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_model_can_be_trained_further(name, tmp_path):
    torch.manual_seed(2)
    network, again = create(name, 2), create(name, 2)
    export_network(network, tmp_path / "m.onnx", "")
    again.start_from(read_plain(tmp_path / "m.onnx"))
    y = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(again(y), network(y), atol=1e-6)


def test_a_model_that_differs_from_torch_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "run_model", lambda model, y: np.zeros((2, 1, 38, 52)))
    with pytest.raises(TrainingError, match="differs"):
        export_network(create("fast", 2), tmp_path / "m.onnx", "")
    assert list(tmp_path.iterdir()) == []


def test_models_of_others_are_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"text")
    with pytest.raises(ModelError, match="cannot read"):
        read_plain(tmp_path / "a.onnx")
    model = build_model(create("fast", 2), {})
    model.graph.node[1].op_type = "Sigmoid"
    onnx.save(model, tmp_path / "b.onnx")
    with pytest.raises(ModelError, match="Sigmoid"):
        read_plain(tmp_path / "b.onnx")
    model = build_model(create("residual-8x1-3-3-leaky", 2), {})
    model.graph.node[1].attribute[0].f = 0.01
    onnx.save(model, tmp_path / "slope.onnx")
    with pytest.raises(ModelError, match="LeakyRelu"):
        read_plain(tmp_path / "slope.onnx")
    del model.graph.node[:]
    onnx.save(model, tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="no convolutions"):
        read_plain(tmp_path / "c.onnx")


def test_figures_by_the_protocol(tmp_path):
    for name in ("Set5", "Set14"):
        (tmp_path / "test" / name).mkdir(parents=True)
    Image.fromarray(picture(0, 61, 80)).save(tmp_path / "test" / "Set5" / "a.png")
    Image.fromarray(picture(1, 60, 81)[..., 0]).save(tmp_path / "test" / "Set14" / "b.png")
    figures = standard_psnr(tmp_path, 2, bicubic(2))
    luma = read_luma(tmp_path / "test" / "Set5" / "a.png")
    assert figures["Set5"] == pytest.approx(picture_psnr(luma, 2, bicubic(2)))
    # a grey picture's values are its luma, not mapped to studio range again
    grey = read_luma(tmp_path / "test" / "Set14" / "b.png")
    assert np.array_equal(grey, picture(1, 60, 81)[..., 0])
    nearest = from_module(torch.nn.Upsample(scale_factor=2, mode="nearest"))
    assert standard_psnr(tmp_path, 2, nearest)["Set5"] < figures["Set5"]


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no PNG"):
        folder_psnr(tmp_path, 2, bicubic(2))
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(InputError, match=r"a\.png"):
        folder_psnr(tmp_path, 2, bicubic(2))


WEIGHTS = Path(export.__file__).parents[1] / "weights"
#: dB over bicubic on Set5 that each shipped model must have, whatever its network.
MARGIN = {"2": 1.5, "3": 1.2, "4": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*_x?.onnx")), ids=lambda p: p.stem)
def test_shipped_models_have_the_figures_they_state(path, test_data):
    model = onnx.load(path)
    properties = {p.key: p.value for p in model.metadata_props}
    scale = int(properties["vsr.scale"])
    assert path.stem == f"{properties['vsr.network']}_x{scale}"
    stated = json.loads(properties["vsr.psnr"])

    def enlarge(low):
        return run_model(model, low[None, None])[0, 0]

    def measured(name, enlarge):
        return mean(folder_psnr(test_data / "test" / name, scale, enlarge).values())

    # those on the enlargement take a hundred times as long: the smaller set will do
    slow = int(properties.get("vsr.macs", 0)) > 100_000
    for name in ("Set5",) if slow else ("Set5", "Set14"):
        assert stated[name] == pytest.approx(measured(name, enlarge), abs=0.01)
    assert stated["Set5"] >= measured("Set5", bicubic(scale)) + MARGIN[str(scale)]


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize(("name", "scale"), [("srcnn", 3), ("srcnn-9-1-5", 2), ("autoencoder", 2)])
def test_networks_on_the_enlargement_are_frame_graphs_too(name, scale, backend):
    chosen = load_backend(backend)
    if chosen.unavailable_reason():
        pytest.skip(chosen.unavailable_reason())
    torch.manual_seed(4)
    network = create(name, scale)
    model = Model(name, scale, build_model(network, {}).SerializeToString())
    planes = random_planes(PIXEL_FORMATS["yuv420p"], 19, 41, 3)
    want = reference.frame_graph(planes, ColorSpec(), scale, onnx_models.bare(model))
    spec = EngineSpec(model, FrameGraphSpec(planes.format, ColorSpec(), scale, 19, 41), "fp32", 1)
    with contextlib.closing(chosen.compile(spec)) as engine:
        whole = engine.submit(planes).result()
    assert worst_difference(whole, want) <= 1
    need = footprint(model)
    assert network.halo <= need.halo <= network.halo + 1
    assert need.unit == (2 if name == "autoencoder" else 1)  # strips must not cut its pooling squares
    with contextlib.closing(
        compile_engine(chosen, spec, budget=need.bytes_per_sample * 19 * (2 * need.halo + 12))
    ) as engine:
        in_strips = engine.submit(planes).result()
    assert worst_difference(in_strips, list(whole.arrays)) == 0
