"""Models that cannot be used, and a user's own that can."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clips import listing, probe
from tests.end_to_end.command import assert_one_line, upscaled, vsr
from tests.faults.models import NOT_SUPER_RESOLUTION, repeat_pixels

Clip = Callable[..., Path]


@pytest.mark.parametrize("kind", NOT_SUPER_RESOLUTION)
def test_what_is_no_super_resolution_model_is_refused(kind: str, clip: Clip, tmp_path: Path) -> None:
    make, words = NOT_SUPER_RESOLUTION[kind]
    model = make(tmp_path / "model.onnx")
    before = listing(tmp_path)
    outcome = vsr("upscale", clip("a.mp4", frames=3), "-s", "2", "-m", model, "-o", tmp_path / "out.mp4")
    assert_one_line(outcome, "model.onnx", words)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nowhere.onnx", ("nowhere.onnx", "not exist|no such|not found")),
        ("nosuchnet", ("nosuchnet", "espcn", "fsrcnn", "bicubic")),
        (".", ("folder|directory|model|onnx",)),
    ],
)
def test_models_that_are_not_there_are_refused(model: str, words: tuple[str, ...], clip: Clip, tmp_path: Path) -> None:
    outcome = vsr("upscale", clip("a.mp4", frames=3), "-s", "2", "-m", model, "-o", tmp_path / "out.mp4")
    assert_one_line(outcome, *words)
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize("scale", ["2", "3"])
def test_a_users_own_model_works(scale: str, backend: str, clip: Clip, tmp_path: Path) -> None:
    model = repeat_pixels(tmp_path / "mine.onnx", int(scale))
    source = clip("a.mp4", frames=3)
    asked = ("-s", scale) if backend == "torch" else ()  # if nothing is said it is what the model does
    upscaled(source, *asked, "-m", model, "--backend", backend, "-o", tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").size == (64 * int(scale), 48 * int(scale))


@pytest.mark.parametrize("scale", ["1", "17", "0", "-2", "0.5", "nan", "two"])
def test_scales_that_are_no_enlargement_are_refused(scale: str, clip: Clip, tmp_path: Path) -> None:
    outcome = vsr("upscale", clip("a.mp4", frames=3), "-s", scale, "-o", tmp_path / "out.mp4")
    assert outcome.code in {1, 2}
    assert "Traceback" not in outcome.err
    assert scale in outcome.err.splitlines()[-1], outcome.err
    assert re.search("allowed|not a valid float", outcome.err), outcome.err
    assert listing(tmp_path) == {}
