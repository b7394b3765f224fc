"""The quantised form of shipped models: near the full one in pixels and in quality, and never out of step with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vsr
from vsr.backends.openvino import OpenVinoBackend
from vsr.errors import ModelError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.metrics import psnr, rgb_to_luma_bt601
from vsr.model import load_model, shipped_models
from vsr.resample import imresize

SAMPLE = Path(__file__).parent.parent / "samples" / "still.png"
QUANTISED = shipped_models(quantised=True)


def luma_planes(luma: np.ndarray) -> Planes:
    return Planes((luma.astype(np.uint8),), PIXEL_FORMATS["gray"], luma.shape[1], luma.shape[0])


def enlarged(luma: np.ndarray, name: str, scale: int, precision: str, backend: str = "openvino") -> np.ndarray:
    with vsr.Upscaler(scale, name, precision=precision, backend=backend) as upscaler:
        return upscaler.upscale_planes(luma_planes(luma)).arrays[0]


@pytest.fixture(autouse=True)
def _needs_int8() -> None:
    assert "int8" in OpenVinoBackend().precisions, "every x86 and Arm CPU that OpenVINO supports computes int8"


def test_the_default_model_has_a_quantised_form() -> None:
    assert ("fast", 3) in QUANTISED


@pytest.mark.parametrize(("name", "scale"), QUANTISED)
def test_it_was_made_from_the_shipped_weights(name: str, scale: int) -> None:
    """Retrained weights need `scripts/quantise` again."""
    assert load_model(name, scale, "int8").metadata["vsr.fp32_sha256"] == load_model(name, scale).sha256


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize(("name", "scale"), QUANTISED)
def test_its_pictures_are_near_those_of_fp32(name: str, scale: int, backend: str) -> None:
    luma = rgb_to_luma_bt601(np.asarray(Image.open(SAMPLE).convert("RGB")))
    full = enlarged(luma, name, scale, "fp32")
    assert psnr(full, enlarged(luma, name, scale, "int8", backend)) > 40


@pytest.mark.parametrize("scale", [6, 8])
def test_the_pictures_of_products_are_near_those_of_fp32(scale: int) -> None:
    luma = rgb_to_luma_bt601(np.asarray(Image.open(SAMPLE).convert("RGB")))[:48, :64]
    assert psnr(enlarged(luma, "fast", scale, "fp32"), enlarged(luma, "fast", scale, "int8")) > 45


@pytest.mark.parametrize("test_set", ["Set5", "Set14"])
@pytest.mark.parametrize(("name", "scale"), QUANTISED)
def test_it_loses_at_most_a_tenth_of_a_decibel(name: str, scale: int, test_set: str, test_data: Path) -> None:
    losses = []
    for path in sorted((test_data / "test" / test_set).glob("*.png")):
        picture = np.asarray(Image.open(path))
        truth = picture if picture.ndim == 2 else rgb_to_luma_bt601(picture)
        truth = truth[: truth.shape[0] // scale * scale, : truth.shape[1] // scale * scale]
        low = np.clip(np.round(imresize(truth, 1 / scale)), 0, 255)
        full, int8 = (enlarged(low, name, scale, precision) for precision in ("fp32", "int8"))
        losses.append(psnr(truth, full, border=scale) - psnr(truth, int8, border=scale))
    assert np.mean(losses) <= 0.10


def test_deep_pictures_are_refused() -> None:
    planes = Planes((np.zeros((8, 8), np.uint16),), PIXEL_FORMATS["gray10le"], 8, 8)
    with vsr.Upscaler(3, "fast", precision="int8") as upscaler, pytest.raises(OptionError, match="10 bits"):
        upscaler.upscale_planes(planes, ColorSpec())


def test_a_model_without_a_quantised_form_is_refused_with_those_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vsr.model.shipped_models", lambda quantised=False: [("fast", 3), ("espcn", 3)][: 2 - quantised]
    )
    with pytest.raises(ModelError, match="espcn x3 is not shipped in int8; there are fast x3"):
        load_model("espcn", 3, "int8")
