"""Models: the shipped ones are complete, and what is no super-resolution model is refused in plain words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.backends import onnx_models
from vsr import model as model_module
from vsr.errors import ModelError
from vsr.graphs import low_precision
from vsr.graphs.footprint import footprint
from vsr.model import BICUBIC, PREFERENCE, SCALES, Model, default_model_name, load_model, shipped_models

SHIPPED = shipped_models()
METADATA = ("vsr.network", "vsr.scale", "vsr.input", "vsr.halo", "vsr.training_data", "vsr.licence", "vsr.psnr")


def metadata_of(proto: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in proto.metadata_props}


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_shipped_models_say_all_that_is_known_of_them(name: str, scale: int) -> None:
    model = load_model(name, scale)
    proto = onnx.load_model_from_string(model.onnx_bytes)
    onnx.checker.check_model(proto, full_check=True)
    known = metadata_of(proto)
    assert [key for key in METADATA if not known.get(key)] == []
    assert known["vsr.network"] == name
    assert int(known["vsr.scale"]) == scale == model.scale
    assert known["vsr.input"] == "y"
    assert int(known["vsr.halo"]) >= 1
    assert any("hash" in key or "sha256" in key for key in known)
    assert set(json.loads(known["vsr.psnr"])) >= {"Set5", "Set14"}
    assert model.psnr["Set5"] > 25


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_shipped_models_enlarge_by_their_scale_and_keep_flat_areas_flat(name: str, scale: int) -> None:
    run = onnx_models.bare(load_model(name, scale))
    for level in (0.2, 0.7):
        out = run(np.full((20, 24), level, np.float32))
        assert out.shape == (20 * scale, 24 * scale)
        halo = 6 * scale
        assert np.abs(out[halo:-halo, halo:-halo] - level).max() < 0.05


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_the_halo_of_a_shipped_model_is_its_reach(name: str, scale: int) -> None:
    """One sample changed: nothing further away than the halo changes with it."""
    model = load_model(name, scale)
    halo = int(model.metadata["vsr.halo"])
    run = onnx_models.bare(model)
    size = 2 * halo + 9
    picture = np.random.default_rng(0).random((size, size)).astype(np.float32)
    changed = picture.copy()
    middle = size // 2
    changed[middle, middle] += 0.5
    moved = np.argwhere(np.abs(run(changed) - run(picture)) > 1e-6) // scale
    assert len(moved)
    assert np.abs(moved - middle).max() <= halo


def test_shipped_models_hold_no_transposed_convolution_and_take_any_size() -> None:
    for name, scale in SHIPPED:
        proto = onnx.load_model_from_string(load_model(name, scale).onnx_bytes)
        assert "ConvTranspose" not in {n.op_type for n in proto.graph.node}, (name, scale)
        dims = proto.graph.input[0].type.tensor_type.shape.dim
        assert all(d.dim_param for d in (dims[2], dims[3])), (name, scale)


def test_the_default_is_the_first_of_the_preference_that_is_shipped() -> None:
    for scale in SCALES:
        shipped = [n for n, s in SHIPPED if s == scale]
        expected = next((n for n in PREFERENCE if n in shipped), BICUBIC)
        assert default_model_name(scale) == expected == load_model(None, scale).name


def test_bicubic_needs_no_weights_and_does_every_scale() -> None:
    for scale in (*SCALES, 7):
        model = load_model(BICUBIC, scale)
        assert model.is_bicubic
        assert (model.scale, model.metadata, model.psnr) == (scale, {}, {})


def test_a_model_that_is_not_shipped_is_named_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"no model is called 'nonesuch'; shipped are .*bicubic"):
        load_model("nonesuch", 3)


def test_a_scale_that_is_not_shipped_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "shipped_models", lambda: [("espcn", 2), ("espcn", 3)])
    with pytest.raises(ModelError, match=r"espcn is not shipped for scale 4, only for 2, 3") as caught:
        load_model("espcn", 4)
    assert "-s 2" in (caught.value.hint or "")


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_a_model_of_ones_own_is_taken_at_its_own_scale(scale: int, tmp_path: Path) -> None:
    proto = onnx_models.nearest(scale, metadata={"vsr.psnr": "not json", "author": "me"})
    model = onnx_models.loaded(proto, tmp_path, scale)
    assert (model.name, model.scale) == ("own.onnx", scale)
    assert model.metadata == {"vsr.psnr": "not json"}
    assert model.psnr == {}
    assert model.held_out_loss is None


@pytest.mark.parametrize(("stated", "loss"), [("0.0312", 0.0312), ("-0.01", -0.01), ("nan", None), ("little", None)])
def test_the_held_out_loss_is_a_number_or_not_known(stated: str, loss: float | None) -> None:
    assert Model("own", 2, metadata={"vsr.int8_loss_db": stated}).held_out_loss == loss


def test_a_fixed_input_size_is_made_free(tmp_path: Path) -> None:
    """As PyTorch's ESPCN tutorial exports it: 1x1x224x224 in, 1x1x672x672 out."""
    proto = onnx_models.nearest(3, input_shape=(1, 1, 224, 224), output_shape=(1, 1, 672, 672))
    proto = onnx.shape_inference.infer_shapes(proto)
    assert proto.graph.value_info
    model = onnx_models.loaded(proto, tmp_path, 3)
    assert onnx_models.bare(model)(np.zeros((5, 9))).shape == (15, 27)
    free = onnx.load_model_from_string(model.onnx_bytes)
    onnx.checker.check_model(free, full_check=True)


def test_weights_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    assert onnx_models.loaded(onnx_models.mixed(11), tmp_path, 2).scale == 2


def one_node(op: str, *more: str, weights: dict[str, np.ndarray] | None = None, **options: Any) -> onnx.ModelProto:
    attributes = options.pop("attributes", {})
    node = helper.make_node(op, ["input", *more], ["output"], **attributes)
    return onnx_models.make_model([node], weights or {}, **options)


def two_inputs() -> onnx.ModelProto:
    proto = onnx_models.nearest(2)
    proto.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
    return proto


def two_outputs() -> onnx.ModelProto:
    proto = onnx_models.nearest(2)
    proto.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, [1, 4, "h", "w"]))
    return proto


def stretched(height: int, width: int) -> onnx.ModelProto:
    scales = np.array([1, 1, height, width], np.float32)
    return one_node("Resize", "", "s", weights={"s": scales}, attributes={"mode": "nearest"})


def fixed_result() -> onnx.ModelProto:
    """Whatever comes in, 24x24 comes out: right for a 12x12 probe only."""
    sizes = np.array([1, 1, 24, 24], np.int64)
    return one_node("Resize", "", "", "s", weights={"s": sizes}, attributes={"mode": "nearest"})


def reshaped_to_fixed_size() -> onnx.ModelProto:
    return one_node("Reshape", "shape", weights={"shape": np.array([1, 1, 448, 448])})


def conv(channels: int) -> onnx.ModelProto:
    return one_node(
        "Conv", "w", weights={"w": np.ones((4, channels, 1, 1), np.float32)}, input_shape=(1, channels, 8, 8)
    )


REFUSED = {
    "rank 2": (one_node("Relu", input_shape=("n", 10)), r"rank 2.*rank 4"),
    "rank 3": (one_node("Relu", input_shape=(1, 8, 8)), r"rank 3"),
    "three channels in and four out": (conv(3), r"\[1, 3, 12, 10\] into \[1, 4, 12, 10\].*as many channels"),
    "two channels": (conv(2), r"2 input channels.*takes 1, an RGB model 3"),
    "four channels": (conv(4), r"4 input channels"),
    "integers": (one_node("Cast", input_type=TensorProto.UINT8, attributes={"to": 1}), r"type UINT8.*FLOAT"),
    "channels last": (one_node("Relu", input_shape=(1, 8, 8, 3)), r"takes \[N, H, W, C\].*as channels first"),
    "channels last of any size": (one_node("Relu", input_shape=("n", "h", "w", 1)), r"takes \[N, H, W, C\]"),
    "two inputs": (two_inputs(), r"2 inputs and 1 outputs"),
    "two outputs": (two_outputs(), r"1 inputs and 2 outputs"),
    "no enlargement": (one_node("Relu"), r"turns 10x12 into 10x12.*2 or more"),
    "four channels out": (conv(1), r"\[1, 4, 12, 10\]"),
    "one way only": (stretched(1, 2), r"same whole factor"),
    "another each way": (stretched(2, 3), r"same whole factor"),
    "a size of its own": (fixed_result(), r"same whole factor"),
    "a fixed size inside": (reshaped_to_fixed_size(), r"cannot be run on a 10x12 picture.*dynamic height and width"),
    "not a number": (onnx_models.nearest(2, float("nan")), r"not finite"),
    "infinite": (onnx_models.nearest(2, float("inf")), r"not finite"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_super_resolution_model_is_refused(what: str, tmp_path: Path) -> None:
    proto, words = REFUSED[what]
    with pytest.raises(ModelError, match=words) as caught:
        onnx_models.loaded(proto, tmp_path, 2)
    assert "own.onnx" in str(caught.value)
    assert len(str(caught.value)) < 600


def half_nearest(scale: int, ends: tuple[bool, bool]) -> onnx.ModelProto:
    """Nearest neighbour with weights in fp16, and so at its input and its output or at either."""
    proto = low_precision.half(onnx_models.nearest(scale))
    graph, kinds = proto.graph, {True: TensorProto.FLOAT16, False: TensorProto.FLOAT}
    graph.input[0].type.tensor_type.elem_type = kinds[ends[0]]
    graph.output[0].type.tensor_type.elem_type = kinds[ends[1]]
    if not ends[0]:
        graph.node.insert(0, helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16))
        graph.node[1].input[0] = "half"
    if not ends[1]:
        graph.node[-1].output[0] = "half_out"
        graph.node.append(helper.make_node("Cast", ["half_out"], ["output"], to=TensorProto.FLOAT))
    return proto


@pytest.mark.parametrize("ends", [(True, True), (True, False), (False, True), (False, False)])
def test_a_model_in_fp16_is_taken_whatever_its_ends_are(ends: tuple[bool, bool], tmp_path: Path) -> None:
    model = onnx_models.loaded(half_nearest(2, ends), tmp_path, 2)
    proto = onnx.load_model_from_string(model.onnx_bytes)
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert (onnx_models.bare(model)(np.full((3, 5), 0.5)) == np.full((6, 10), 0.5)).all()


@pytest.mark.parametrize("multiple", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("opset", [11, 17])
def test_a_model_that_takes_multiples_only_is_made_to_take_any_size(multiple: int, opset: int, tmp_path: Path) -> None:
    model = onnx_models.loaded(onnx_models.blocks(2, multiple, opset=opset), tmp_path, 2)
    picture = np.random.default_rng(0).random((multiple + 1, 2 * multiple - 1)).astype(np.float32)
    got = onnx_models.bare(model)(picture)
    assert np.array_equal(got, picture.repeat(2, 0).repeat(2, 1))
    assert footprint(model).halo is None  # so it is never cut into strips


def test_another_scale_than_asked_for_is_refused_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="enlarges 3 times, and scale 2") as caught:
        onnx_models.loaded(onnx_models.nearest(3), tmp_path, 2)
    assert caught.value.hint == "use -s 3"


@pytest.mark.parametrize("content", [b"", b"hello, I am text", b"\x08\x07\x12\x00" * 50, bytes(range(256)) * 8])
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(content)
    words = "not a valid ONNX model" if content else "is empty; an ONNX model was expected"
    with pytest.raises(ModelError, match=rf"{words}.*; copy the whole file, or export it again"):
        load_model(path, 2)


def test_a_cut_off_model_is_refused(tmp_path: Path) -> None:
    data = onnx_models.mixed(17).SerializeToString()
    path = tmp_path / "own.onnx"
    for length in range(1, len(data), len(data) // 23):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            load_model(path, 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("said", [True, False])
def test_channels_are_taken_from_the_file_or_found_out(channels: int, said: bool, tmp_path: Path) -> None:
    weights = {"w": np.ones((4 * channels, channels, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["wide"]),
        helper.make_node("DepthToSpace", ["wide"], ["output"], blocksize=2, mode="CRD"),
    ]
    shape = ("n", channels if said else "c", "h", "w")
    proto = onnx_models.make_model(nodes, weights, input_shape=shape, output_shape=("n", "oc", "oh", "ow"))
    assert onnx_models.loaded(proto, tmp_path, 2).channels == channels


def test_a_model_whose_rank_is_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"own\.onnx does not say the shape of 'input'.*rank 4"):
        onnx_models.loaded(onnx_models.nearest(2, input_shape=None), tmp_path, 2)


# -- weights in other files: what torch's exporter writes today --------------------------------------------------------


def with_weights_outside(folder: Path, location: str = "own.onnx.data") -> Path:
    path = folder / "own.onnx"
    onnx.save_model(onnx_models.nearest(2), path, save_as_external_data=True, location="tmp.data", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    return path


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    path = with_weights_outside(tmp_path)
    (tmp_path / "tmp.data").rename(tmp_path / "own.onnx.data")
    model = load_model(path, 2)
    path.unlink()
    (tmp_path / "own.onnx.data").unlink()
    assert (onnx_models.bare(model)(np.full((2, 3), 0.5)) == 0.5).all()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"own\.onnx keeps weights in own\.onnx\.data, which is not there"):
        load_model(with_weights_outside(tmp_path), 2)


def constants_for_weights(path: Path) -> None:
    """The same model with Constant nodes, whose values may be in other files too."""
    proto = onnx.load(path, load_external_data=False)
    nodes = [helper.make_node("Constant", [], [w.name], value=w) for w in proto.graph.initializer]
    del proto.graph.initializer[:]
    nodes.extend(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    path.write_bytes(proto.SerializeToString())


def test_constants_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    path = with_weights_outside(tmp_path)
    constants_for_weights(path)
    with pytest.raises(ModelError, match=r"own\.onnx keeps weights in own\.onnx\.data, which is not there"):
        load_model(path, 2)
    (tmp_path / "tmp.data").rename(tmp_path / "own.onnx.data")
    assert (onnx_models.bare(load_model(path, 2))(np.full((2, 3), 0.5)) == 0.5).all()


@pytest.mark.parametrize("location", ["../secret.data", "/etc/hostname", "sub/../../secret.data", "link.data", ""])
@pytest.mark.parametrize("constants", [False, True])
def test_weights_outside_the_models_folder_are_not_read(location: str, constants: bool, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = with_weights_outside(folder, location)
    if constants:
        constants_for_weights(path)
    (folder / "tmp.data").rename(tmp_path / "secret.data")
    (folder / "sub").mkdir()
    (folder / "link.data").symlink_to(tmp_path / "secret.data")
    with pytest.raises(ModelError, match="not in its own folder"):
        load_model(path, 2)


def test_weights_cut_off_are_refused(tmp_path: Path) -> None:
    path = with_weights_outside(tmp_path)
    (tmp_path / "own.onnx.data").write_bytes((tmp_path / "tmp.data").read_bytes()[:5])
    with pytest.raises(ModelError, match=r"own\.onnx"):
        load_model(path, 2)


def test_weights_of_more_than_2_gib_are_refused_unread(tmp_path: Path) -> None:
    path = with_weights_outside(tmp_path)
    with (tmp_path / "own.onnx.data").open("wb") as file:
        file.truncate(1 << 31)  # sparse
    with pytest.raises(ModelError, match=r"and its weights have \d+ bytes"):
        load_model(path, 2)


def test_a_missing_or_unreadable_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx cannot be read: No such file"):
        load_model(tmp_path / "gone.onnx", 2)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError, match=r"folder\.onnx cannot be read: Is a directory"):
        load_model(tmp_path / "folder.onnx", 2)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate((1 << 31) + 1)  # sparse: takes no room
    with pytest.raises(ModelError, match="2147483649 bytes; an ONNX model has at most"):
        load_model(path, 2)
