"""Weights of other projects' networks: small random ones in their real architectures."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from onnx.reference import ReferenceEvaluator

from vsr.cli.export import command
from vsr.errors import ModelError
from vsr.graphs.footprint import footprint
from vsr.model import load_model
from vsr.training import pretrained
from vsr.training.foreign_weights import import_spandrel

if importlib.util.find_spec("spandrel") is None:
    pytest.skip("vsr[spandrel] is not installed: weights of other projects are not read", allow_module_level=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(module: str, name: str, **options: Any) -> torch.nn.Module:
    import_spandrel()
    torch.manual_seed(1)
    made: torch.nn.Module = getattr(importlib.import_module(f"spandrel.architectures.{module}"), name)(**options)
    return made.eval()


def compact(scale: int = 2, channels: int = 3) -> torch.nn.Module:
    return network("Compact", "Compact", num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=1, upscale=scale)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def refused(*arguments: object) -> str:
    outcome = CliRunner().invoke(command, [str(a) for a in arguments])
    assert outcome.exception is not None
    assert not isinstance(outcome.exception, SystemExit), outcome.output
    return str(outcome.exception)


FAMILIES: dict[str, tuple[Any, str, int, int, bool]] = {
    # made by, architecture, scale, channels, whether it can be cut into strips
    "compact": (lambda: compact(4), "RealESRGAN Compact", 4, 3, True),
    "compact of luma": (lambda: compact(3, 1), "RealESRGAN Compact", 3, 1, True),
    "esrgan": (lambda: network("ESRGAN", "ESRGAN", num_filters=8, num_blocks=1, scale=4), "ESRGAN", 4, 3, True),
    "esrgan of halved pictures": (
        lambda: network("ESRGAN", "ESRGAN", in_nc=12, num_filters=8, num_blocks=1, scale=4, shuffle_factor=2),
        "ESRGAN",
        2,
        3,
        False,
    ),
    "plksr": (lambda: network("PLKSR", "RealPLKSR", dim=16, n_blocks=1, kernel_size=5), "PLKSR", 4, 3, False),
    "span": (
        lambda: network("SPAN", "SPAN", num_in_ch=3, num_out_ch=3, feature_channels=4, upscale=2),
        "SPAN",
        2,
        3,
        True,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_becomes_a_model_that_computes_the_same_at_any_size(family: str, tmp_path: Path) -> None:
    make, architecture, scale, channels, local = FAMILIES[family]
    net, weights, output = make(), tmp_path / "net.pth", tmp_path / "net.onnx"
    torch.save({"params_ema": net.state_dict()}, weights)
    outcome = run(weights, "-o", output, "--json", "-q")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["architecture"] == architecture
    model = load_model(output, scale)
    assert (model.scale, model.channels) == (scale, channels)
    assert model.metadata["vsr.network"] == architecture
    assert model.metadata["vsr.licence"].startswith("unknown")
    assert (footprint(model).halo is not None) == local
    picture = np.random.default_rng(2).random((1, channels, 9, 7), dtype=np.float32)
    want_size = [-(-n // 4) * 4 for n in (9, 7)] if family.endswith("halved pictures") else [9, 7]
    padded = np.pad(picture, [(0, 0), (0, 0), (0, want_size[0] - 9), (0, want_size[1] - 7)], mode="edge")
    with torch.no_grad():
        want = net(torch.from_numpy(padded)).numpy()[..., : 9 * scale, : 7 * scale]
    (got,) = ReferenceEvaluator(onnx.load(output)).run(None, {"rgb" if channels == 3 else "y": picture})
    assert np.abs(got - want).max() < 1e-4 * max(1.0, float(np.abs(want).max()))


def test_safetensors_in_fp16_and_weights_saved_in_fp16(tmp_path: Path) -> None:
    save_file = importlib.import_module("safetensors.torch").save_file
    net = compact().half()
    save_file({k: v.contiguous().clone() for k, v in net.state_dict().items()}, tmp_path / "net.safetensors")
    outcome = run(tmp_path / "net.safetensors", "-o", tmp_path / "net.onnx", "--precision", "fp16", "-s", 2)
    assert outcome.exit_code == 0, outcome.output
    proto = onnx.load(tmp_path / "net.onnx")
    kinds = {w.data_type for w in proto.graph.initializer if w.name.endswith("weight")}
    assert kinds == {onnx.TensorProto.FLOAT16} or "half" in " ".join(w.name for w in proto.graph.initializer)
    picture = np.random.default_rng(2).random((1, 3, 9, 7), dtype=np.float32)
    with torch.no_grad():
        want = net.float()(torch.from_numpy(picture)).numpy()
    (got,) = ReferenceEvaluator(onnx.load_model_from_string(load_model(tmp_path / "net.onnx", 2).onnx_bytes)).run(
        None, {"rgb": picture}
    )
    assert got.dtype == np.float32
    assert 0 < np.abs(got - want).max() < 4e-3


def test_what_cannot_be_asked_of_another_projects_network_is_refused_first(tmp_path: Path) -> None:
    torch.save(compact().state_dict(), tmp_path / "net.pth")
    ask = (tmp_path / "net.pth", "-o", tmp_path / "net.onnx")
    assert "int8 of another project's network; allowed are fp32 and fp16" in refused(*ask, "--precision", "int8")
    assert "--steps is for this project's own" in refused(*ask, "--steps", 5)
    assert "is of scale 2, and scale 3 was asked for" in refused(*ask, "-s", 3)
    assert "net.onnx.txt is not called .onnx" in refused(tmp_path / "net.pth", "-o", tmp_path / "net.onnx.txt")
    assert "gone.pth cannot be read: No such file" in refused(tmp_path / "gone.pth", "-o", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, I am text\n" * 20, "cut"])
def test_damaged_files_are_refused(ending: str, content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / f"net{ending}"
    torch.save(compact().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200] if isinstance(content, str) else content)
    with pytest.raises(ModelError, match=r"net\..*is damaged, or is no weights file"):
        pretrained.read_pretrained(path)


def test_without_the_package_the_install_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "spandrel" else find(name))
    text = refused(tmp_path / "net.pth", "-o", tmp_path / "net.onnx")
    assert text.endswith("spandrel is not installed; pip install 'vsr[spandrel]'")


class Program:
    """What a pickle can hold: a call of anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["torch.save", "pickle"])
def test_a_program_inside_a_weights_file_is_not_run(kind: str, tmp_path: Path) -> None:
    weights = {**compact().state_dict(), "program": Program(tmp_path / "done")}
    with (tmp_path / "net.pth").open("wb") as file:
        torch.save(weights, file) if kind == "torch.save" else pickle.dump(weights, file)
    text = refused(tmp_path / "net.pth", "-o", tmp_path / "net.onnx")
    assert ("net.pth holds Python objects besides weights" if kind == "torch.save" else "is no weights file") in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pth"]


def renamed(net: torch.nn.Module) -> dict[str, Any]:
    return {f"odd.{k}": v for k, v in net.state_dict().items()}


def misshapen(net: torch.nn.Module) -> dict[str, Any]:
    weights = net.state_dict()
    weights["body.2.weight"] = torch.zeros(8, 8, 5, 5)
    return dict(weights)


REFUSED: dict[str, tuple[Any, str]] = {
    "no enlargement": (
        lambda: compact(1).state_dict(),
        r"net\.pth \(RealESRGAN Compact\) does not enlarge: its scale is 1",
    ),
    "two channels": (lambda: compact(2, 2).state_dict(), r"turns 2 channels into 2"),
    "an architecture of its own": (lambda: renamed(compact()), r"no architecture that spandrel .* knows"),
    "shapes that do not fit": (lambda: misshapen(compact()), r"do not fit together"),
    "no dictionary": (lambda: [torch.zeros(3)], r"holds no weights, but list"),
    "no tensors": (lambda: {"epoch": 3}, r"holds no weights"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_super_resolution_network_is_refused(what: str, tmp_path: Path) -> None:
    make, words = REFUSED[what]
    torch.save(make(), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=words):
        pretrained.read_pretrained(tmp_path / "net.pth")


@pytest.mark.parametrize(("purpose", "words"), [("FaceSR", "restores faces"), ("Inpainting", "fills holes")])
def test_networks_for_something_else_are_refused(
    purpose: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real ones have hundreds of megabytes, so a small one is said to be one of them."""
    spandrel = import_spandrel()
    torch.save(compact().state_dict(), tmp_path / "net.pth")
    monkeypatch.setattr(spandrel.ImageModelDescriptor, "purpose", property(lambda _: purpose))
    with pytest.raises(ModelError, match=rf"\(RealESRGAN Compact\) {words}.*no super-resolution network"):
        pretrained.read_pretrained(tmp_path / "net.pth")


def test_what_torch_cannot_export_for_any_size_is_refused(tmp_path: Path) -> None:
    """Its adaptive pooling has another window for each size of picture, which ONNX cannot say."""
    torch.save(network("SAFMN", "SAFMN", dim=8, n_blocks=1, upscaling_factor=2).state_dict(), tmp_path / "net.pth")
    text = refused(tmp_path / "net.pth", "-o", tmp_path / "net.onnx")
    assert "cannot write SAFMN as ONNX: " in text
    assert "\n" not in text
    assert not (tmp_path / "net.onnx").exists()
