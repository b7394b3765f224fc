"""HDR10 and HLG as phones and televisions make it: what ffprobe says of the input, it says of the output."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vsr
from tests.backends.reference import frame_graph
from tests.clips import ffprobe
from vsr.siting import arithmetic_color
from vsr.source import Source

HDR10 = "androidx_hdr10-video-with-sdr-container.mp4"  # the container says BT.709, the pictures PQ, with HDR10+
HLG = "androidx_sample_edit_list.mp4"  # of a phone: turned, HLG with Dolby Vision 8.4
TAGS = ("color_range", "color_space", "color_transfer", "color_primaries", "chroma_location", "pix_fmt")
STATIC = ("Mastering display metadata", "Content light level metadata")
FASTEST = {"x265": "ultrafast", "svtav1": "12", "ffv1": None}


def seen(path: Path) -> dict[str, Any]:
    """Tags and static HDR metadata of the first picture, and the stream that it is from."""
    answer = ffprobe(path, "-select_streams", "v:0", "-show_streams", "-show_frames", "-read_intervals", "%0.1")
    frame = answer["frames"][0]
    static = {d["side_data_type"]: d for d in frame.get("side_data_list", ()) if d["side_data_type"] in STATIC}
    numbers = {
        kind: {k: float(Fraction(str(v))) for k, v in data.items() if k != "side_data_type"}
        for kind, data in static.items()
    }
    return {"tags": {key: frame.get(key) for key in TAGS}, "static": numbers, "stream": answer["streams"][0]}


@pytest.mark.parametrize(("encoder", "suffix"), [("x265", ".mp4"), ("x265", ".mkv"), ("svtav1", ".mp4")])
def test_hdr10_stays_hdr10(encoder: str, suffix: str, test_data: Path, tmp_path: Path) -> None:
    source, result = test_data / "video" / "hdr" / HDR10, tmp_path / f"out{suffix}"
    report = vsr.upscale(
        source, result, scale=2, model="bicubic", frames=2, encoder=encoder, preset=FASTEST[encoder], crf=40
    )
    assert "HDR10+ metadata is left out: it describes pictures of the original size" in report.notes
    before, after = seen(source), seen(result)
    if encoder == "svtav1":  # AV1 says unspecified where HEVC has left by default
        before["tags"].pop("chroma_location")
        assert after["tags"].pop("chroma_location") in (None, "left", "unspecified")
    assert after["tags"] == before["tags"]
    assert set(before["static"]) == set(STATIC)
    for kind, numbers in before["static"].items():
        step = 1 / 256 if encoder == "svtav1" and "Mastering" in kind else 1e-4  # AV1 6.7.4: luminance_max is 24.8 bits
        assert after["static"][kind] == pytest.approx(numbers, rel=1e-3, abs=step), kind
    assert {d["side_data_type"] for d in after["stream"]["side_data_list"]} >= set(STATIC)


def test_hlg_stays_hlg_and_the_loss_of_dolby_vision_is_said(test_data: Path, tmp_path: Path) -> None:
    source, result = test_data / "video" / "hdr" / HLG, tmp_path / "out.mp4"
    report = vsr.upscale(
        source,
        result,
        scale=2,
        model="bicubic",
        frames=2,
        encoder="x265",
        preset="ultrafast",
        crf=40,
        on_unsupported="drop",
    )
    assert any(note.startswith("Dolby Vision metadata is left out") for note in report.notes)
    before, after = seen(source), seen(result)
    assert after["tags"] == before["tags"]
    assert after["tags"]["color_transfer"] == "arib-std-b67"
    turned = [[d["rotation"] for d in s["stream"]["side_data_list"] if "rotation" in d] for s in (before, after)]
    assert turned[0] == turned[1] != []
    assert "DOVI" not in str(after["stream"]["side_data_list"])


def test_ten_bits_come_out_of_bicubic_as_out_of_floats(test_data: Path, tmp_path: Path) -> None:
    path, result = test_data / "video" / "hdr" / HDR10, tmp_path / "out.mkv"
    vsr.upscale(path, result, scale=2, model="bicubic", frames=1, encoder="ffv1")
    before, after = Source(path), Source(result)
    try:
        given, got = next(before.frames()), next(after.frames())
        expected = frame_graph(given.planes, arithmetic_color(before.info), 2)
        assert after.info.format == before.info.format
        for plane, want in zip(got.planes.arrays, expected, strict=True):
            error = np.mean(np.square(plane.astype(np.float64) - want))
            assert 10 * np.log10(1023**2 / max(error, 1e-12)) >= 60
    finally:
        before.close()
        after.close()
