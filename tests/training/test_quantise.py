"""int8 forms: what they compute, what fine-tuning may do to them, and the files that come out."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tests.cli.conftest import run  # noqa: F401
from vsr.errors import InputError, ModelError, OptionError, TrainingError
from vsr.graphs.low_precision import symmetric_int8
from vsr.metrics import psnr
from vsr.model import load_model, shipped_models
from vsr.networks import create
from vsr.networks.base import PlainNetwork
from vsr.training import forms
from vsr.training import quantise as quantisation
from vsr.training.data import PatchData
from vsr.training.evaluate import validation_psnr
from vsr.training.export import build_model, export_network, run_model, to_half
from vsr.training.forms import export, outdated, read_trained
from vsr.training.manifest import manifest, manifest_int8
from vsr.training.quantise import PATCH, QuantisedNetwork, QuantiseOptions, _Round, quantise

NAMES = ("fast", "espcn", "fsrcnn")


@pytest.fixture(autouse=True)
def _few_patches(monkeypatch):
    monkeypatch.setattr(quantisation, "CALIBRATION_PATCHES", 6)
    monkeypatch.setattr(quantisation, "EQUALISATIONS", (1.0,))


@pytest.fixture(scope="module")
def data(database):
    return PatchData(database, 2, PATCH)


@pytest.fixture(scope="module")
def patches(data):
    return torch.from_numpy(data.batch(1, 0, 4)[0])


def network(name):
    torch.manual_seed(3)
    return create(name, 2)


# -- the rounding -----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(0.001, 0.5), st.booleans())
def test_rounding_is_that_of_quantizelinear(seed, step, signed):
    x = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    low, high, kind = (-128, 127, np.int8) if signed else (0, 255, np.uint8)
    node = onnx.helper.make_node
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])],
        "rounding",
        [info("x", 1, None)],
        [info("y", 1, None)],
        [onnx.numpy_helper.from_array(a, n) for a, n in ((np.array(step, np.float32), "s"), (np.array(0, kind), "z"))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    [wanted] = ReferenceEvaluator(model).run(None, {"x": x.numpy()})
    assert np.allclose(_Round.apply(x, torch.tensor(np.float32(step)), low, high).numpy(), wanted, atol=1e-6)


def test_gradients_pass_inside_the_range_and_push_the_step_outside():
    x = torch.tensor([[[[-1.0, 0.1, 0.33, 9.0]]]], requires_grad=True)
    step = torch.tensor(0.01, requires_grad=True)
    _Round.apply(x, step, 0, 255).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 1, 1, 0]
    assert step.grad is not None
    assert step.grad > 0  # a larger step would bring the clipped 9.0 nearer


# -- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_without_rounding_it_is_the_network(name, patches):
    """Scaled channels and the added skip change nothing that the calibration pictures show."""
    full = network(name)
    quantised = QuantisedNetwork(full, patches)
    assert quantised.skip_added == (name in ("espcn", "fsrcnn"))
    quantised._round(False)
    with torch.no_grad():
        wanted, got = full(patches).numpy(), quantised(patches).numpy()
    assert psnr(wanted, got, peak=1.0) > (45 if quantised.skip_added else 90)
    assert full.skip == (name == "fast"), "the network itself is left as it was"


@pytest.mark.parametrize("name", NAMES)
def test_with_rounding_it_is_near(name, patches):
    full = network(name)
    quantised = QuantisedNetwork(full, patches)
    with torch.no_grad():
        wanted, got = full(patches).numpy(), quantised(patches).numpy()
    assert 30 < psnr(wanted, got, peak=1.0) < 80


def test_luma_that_comes_in_8_bits_is_not_rounded_again(patches):
    first, second, *_ = QuantisedNetwork(network("espcn"), patches).layers
    assert first.exact
    assert float(first.step.detach()) == pytest.approx(1 / 255)
    assert not first.step.requires_grad
    assert not second.exact
    assert (second.low, second.high) == (0, 255)
    signed = QuantisedNetwork(network("espcn-tanh"), patches).layers[1]
    assert (signed.low, signed.high) == (-128, 127)


def test_taps_that_are_always_zero_stay_so(patches):
    full = network("fsrcnn")
    never = full.plain()[-1].weight == 0
    assert never.any()
    quantised = QuantisedNetwork(full, patches[:1])
    last = quantised.layers[-1]
    quantised(patches[:1]).sum().backward()
    torch.optim.SGD([last.weight], lr=1.0).step()
    assert not last.codes()[0].numpy()[never].any()


def test_fine_tuning_makes_nothing_worse(data):
    """A rate that ruins the network leaves the state after calibration."""
    lines: list[str] = []
    full = network("fast")
    quantised = quantise(full, data, QuantiseOptions(steps=4, batch=1, lr=3.0), lines.append)
    start, *later = (float(line.split(": ")[1].split()[0]) for line in lines)
    assert min(later) < start
    assert validation_psnr(data.validation, 2, quantised) == pytest.approx(max(start, *later), abs=1e-3)


def test_fine_tuning_comes_nearer_to_the_full_network(data, patches, monkeypatch):
    full = network("fast")
    later = iter(range(99))
    monkeypatch.setattr(quantisation, "validation_psnr", lambda *_: next(later))  # the last state is the best
    figures = []
    for steps in (0, 20):
        quantised = quantise(full, data, QuantiseOptions(steps=steps, batch=2))
        with torch.no_grad():
            figures.append(psnr(full(patches).numpy(), quantised(patches).numpy(), peak=1.0))
    assert figures[1] > figures[0] + 0.1


def test_with_signed_codes_it_computes_what_tensorrt_gets(patches):
    quantised = QuantisedNetwork(network("fast"), patches)
    y = patches[:1, :, :20, :22]
    rewritten = symmetric_int8(build_model(quantised.shape, {}, quantised.operations()), "m")
    wanted = run_model(rewritten, y.numpy())
    with torch.no_grad():
        unsigned = quantised(y).numpy()
        quantised.use_signed_codes(True)
        signed = quantised(y).numpy()
        quantised.use_signed_codes(False)
        assert np.array_equal(quantised(y).numpy(), unsigned)
    assert psnr(wanted, signed, peak=1.0) > psnr(wanted, unsigned, peak=1.0) + 10


def test_fine_tuning_of_both_forms_measures_both_and_leaves_the_unsigned_one(data, monkeypatch):
    forms_seen = []

    def measured(_validation, _scale, quantised):
        forms_seen.append({layer.signed for layer in quantised.layers})
        return float(len(forms_seen))

    monkeypatch.setattr(quantisation, "validation_psnr", measured)
    quantised = quantise(network("fast"), data, QuantiseOptions(steps=2, batch=1, signed=True))
    assert forms_seen == [{True}, {False}] * 3
    assert not any(layer.signed for layer in quantised.layers)


@pytest.mark.parametrize("bad", [{"steps": -1}, {"batch": 0}, {"lr": 0.0}])
def test_bad_options_are_refused(bad):
    with pytest.raises(OptionError, match="allowed are"):
        QuantiseOptions(**bad)


# -- the files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fast", "espcn", "autoencoder"])
def test_the_int8_model_holds_only_codes(name, database, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "LARGEST_LOSS_DB", 9.0)  # of a network that has learnt nothing
    export_network(network(name), tmp_path / "m.onnx", "0" * 64)
    trained = read_trained(str(tmp_path / "m.onnx"))
    out = tmp_path / "m.int8.onnx"
    said = []
    export(trained, out, "int8", database=database, options=QuantiseOptions(steps=0), say=said.append)
    model = onnx.load(out)
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv" and not n.name.startswith("bicubic")]
    assert len(convolutions) == len(network(name).plans)
    for convolution in convolutions:
        for value in convolution.input[:2]:
            back = made_by[value]
            assert back.op_type == "DequantizeLinear"
            assert not weights[back.input[2]].any()
        assert weights[made_by[convolution.input[1]].input[0]].dtype == np.int8
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties["vsr.precision"] == "int8"
    assert properties["vsr.fp32_sha256"] == trained.sha256
    assert properties["vsr.network"] == name
    assert json.loads(properties["vsr.quantisation"])["steps"] == 0
    loss = load_model(str(out), 2).held_out_loss
    assert loss is not None
    assert f"int8 loses {loss:.3f} dB" in said[-1]
    assert list(json.loads(properties["vsr.psnr"])) == ["protocol"], "the figures of fp32 are not its own"


def test_the_same_options_make_the_same_file(database, tmp_path):
    export_network(network("fast"), tmp_path / "m.onnx", "")
    for out in ("a.onnx", "b.onnx"):
        trained = read_trained(str(tmp_path / "m.onnx"))
        export(trained, tmp_path / out, "int8", database=database, options=QuantiseOptions(steps=2, batch=2))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_half_keeps_float32_at_both_ends():
    model = build_model(network("fast"), {"vsr.network": "fast"})
    half = to_half(model)
    kinds = [v.type.tensor_type.elem_type for v in (half.graph.input[0], half.graph.output[0])]
    assert kinds == [onnx.TensorProto.FLOAT] * 2
    assert {w.data_type for w in half.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert {w.data_type for w in model.graph.initializer} == {onnx.TensorProto.FLOAT}, "the model itself is left alone"
    y = np.random.default_rng(0).random((1, 1, 14, 11), dtype=np.float32)
    assert 0 < np.abs(run_model(half, y) - run_model(model, y)).max() < 2e-3


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_forms_have_the_metadata_of_the_network(precision, tmp_path):
    figures = export(read_trained("fast", 2), tmp_path / "m.onnx", precision)
    assert figures["Set5"] == load_model("fast", 2).psnr["Set5"]
    properties = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert properties["vsr.licence"] == "MIT"
    assert properties.get("vsr.precision", "fp32") == precision
    again = read_trained(str(tmp_path / "m.onnx")) if precision == "fp32" else None
    if again is not None:
        y = torch.rand(1, 1, 9, 9)
        assert torch.allclose(PlainNetwork(again.network)(y), PlainNetwork(read_trained("fast", 2).network)(y))


def test_a_form_that_loses_too_much_is_not_written(database, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "LARGEST_LOSS_DB", -9.0)
    out = tmp_path / "m.onnx"
    with pytest.raises(TrainingError, match="dB in int8, and"):
        export(read_trained("fast", 2), out, "int8", database=database, options=QuantiseOptions(steps=0))
    monkeypatch.setattr(forms, "LEAST_LIKENESS_DB", {"fp16": 500.0, "int8": 500.0})
    with pytest.raises(TrainingError, match="dB near the network"):
        export(read_trained("fast", 2), out, "fp16")
    assert list(tmp_path.iterdir()) == []


def test_sources_that_are_none_are_named(tmp_path, database):
    with pytest.raises(OptionError, match="not a file"):
        read_trained("fast")
    with pytest.raises(ModelError, match="no model is called"):
        read_trained("slow", 2)
    with pytest.raises(OptionError, match="scale 2, and scale 3"):
        read_trained(str(forms.WEIGHTS / "fast_x2.onnx"), 3)
    (tmp_path / "c.pt").write_bytes(b"text")
    with pytest.raises(TrainingError, match="cannot read the checkpoint"):
        read_trained(str(tmp_path / "c.pt"))
    onnx.save(build_model(network("fast"), {}), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="does not say which network"):
        read_trained(str(tmp_path / "m.onnx"))
    with pytest.raises(OptionError, match="int8 needs pictures"):
        export(read_trained("fast", 2), tmp_path / "o.onnx", "int8")
    with pytest.raises(InputError, match="not a prepared"):
        export(read_trained("fast", 2), tmp_path / "o.onnx", "int8", database=tmp_path / "m.onnx")


def test_every_shipped_int8_model_was_made_from_the_shipped_weights():
    assert not set(outdated()) & set(shipped_models(quantised=True))


@pytest.mark.parametrize(("name", "scale"), shipped_models(quantised=True))
def test_every_shipped_int8_model_was_made_as_the_manifest_says(name, scale):
    made = json.loads(load_model(name, scale, "int8").metadata["vsr.quantisation"])
    options = {key: value for key, value in made.items() if key in QuantiseOptions.__dataclass_fields__}
    assert QuantiseOptions(**options) == manifest_int8(manifest()[f"{name}_x{scale}"])


def test_the_script_takes_the_manifests_options_but_for_those_it_is_given(database, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "WEIGHTS", tmp_path)
    monkeypatch.setattr(forms, "manifest", lambda: {"fast_x2": {"int8": {"steps": 0, "seed": 9, "signed": True}}})
    (tmp_path / "fast_x2.onnx").write_bytes(load_model("fast", 2).onnx_bytes)

    def made(*more):
        assert forms.main(["fast_x2", "--database", str(database), *more]) == 0
        properties = {p.key: p.value for p in onnx.load(tmp_path / "fast_x2.int8.onnx").metadata_props}
        return json.loads(properties["vsr.quantisation"])

    options = made()
    assert (options["steps"], options["seed"], options["signed"]) == (0, 9, True)
    options = made("--no-signed", "--lr", "0.5")
    assert (options["steps"], options["seed"], options["signed"], options["lr"]) == (0, 9, False, 0.5)


def test_the_script_makes_what_it_is_asked_for(database, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(forms, "WEIGHTS", tmp_path)
    (tmp_path / "fast_x2.onnx").write_bytes(load_model("fast", 2).onnx_bytes)
    assert forms.main(["fast_x2", "--database", str(database), "--steps", "0"]) == 0
    assert (tmp_path / "fast_x2.int8.onnx").is_file()
    assert forms.main(["fast", "--database", str(database)]) == 2
    assert "NAME_xSCALE" in capsys.readouterr().err
    monkeypatch.setattr(forms, "LARGEST_LOSS_DB", -9.0)
    assert forms.main(["fast_x2", "--database", str(database), "--steps", "0"]) == 1
    assert "in int8" in capsys.readouterr().err


def test_the_command(run, tmp_path, database):  # noqa: F811
    out = tmp_path / "m.onnx"
    done = run("export", "fast", "-s", 2, "--precision", "int8", "--steps", 0, "--data", database, "-o", out, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["precision"] == "int8"
    assert "int8 loses" in done.err
    assert run("export", "fast", "-s", 2, "-o", out).code == 1
    assert "exists already" in run("export", "fast", "-s", 2, "-o", out).err
    assert run("export", "fast", "-s", 2, "-o", tmp_path / "m.txt").code == 2
    assert run("export", "fast", "-s", 2, "-o", out, "-y", "-q").out == ""
    assert Path(out).is_file()
