"""`vsr eval`: the protocol's known figures, agreement with the metrics by hand, and one line for each bad input."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vsr
from vsr.errors import BackendError, InputError, MissingInputError, OptionError, UnsupportedInputError
from vsr.evaluation.measure import Evaluation, FileScores, Score, SetScores, default_models, evaluate, split_precision
from vsr.evaluation.pairs import TestSet, find_sets, read_luma, shrink
from vsr.evaluation.sheet import SIDE, busiest_window
from vsr.evaluation.vmaf import VmafMeter, ffmpeg_with_vmaf
from vsr.frame import PIXEL_FORMATS, Planes
from vsr.metrics import psnr, ssim
from vsr.model import load_model
from vsr.resample import imresize

Clip = Callable[..., Path]
WEIGHTS = Path(vsr.__file__).parent / "weights"


def luma(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Edges, waves and a little noise, 8 bits."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).normal(0, 3, (height, width))
    value = 120 + 60 * np.sin(x / 3.1 + seed) * np.cos(y / 4.3) + 40 * ((x // 9 + y // 7) % 2) + noise
    return np.clip(value, 16, 235).astype(np.uint8)


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    folder = tmp_path / "stills"
    folder.mkdir()
    Image.fromarray(luma(50, 64)).save(folder / "a.png")
    Image.fromarray(np.stack([luma(48, 49, s) for s in range(3)], axis=2)).save(folder / "b.png")
    return folder


# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "expected"), [(2, 33.65), (3, 30.39), (4, 28.42)])
def test_bicubic_on_set5_is_what_every_paper_prints(scale: int, expected: float, test_data: Path) -> None:
    sets = [s for s in find_sets(test_data, scale) if s.name == "Set5"]
    [result] = evaluate(sets, ["bicubic"], scale).sets
    assert len(result.files) == 5
    assert result.mean("bicubic").psnr_db == pytest.approx(expected, abs=0.006)


def test_shipped_models_measure_what_their_metadata_state(test_data: Path) -> None:
    models = [m for m in default_models(3) if m.startswith("fast")]
    for one in evaluate(find_sets(test_data / "test" / "Set5", 3), models, 3).sets:
        for name in models:
            model, precision = split_precision(name)
            stated = load_model(model, 3, precision).psnr[one.name]
            assert one.mean(name).psnr_db == pytest.approx(stated, abs=0.01)


def test_figures_are_those_of_the_metrics_on_the_upscaled_picture(stills: Path) -> None:
    [result] = evaluate(find_sets(stills, 2), ["bicubic", "fast", "fast:int8"], 2).sets
    assert [f.name for f in result.files] == ["a.png", "b.png"]
    truth = read_luma(stills / "b.png")[:48, :48]
    assert (result.files[1].height, result.files[1].width) == truth.shape
    low = np.clip(np.rint(imresize(truth, 0.5)), 0, 255).astype(np.uint8)
    for name, file_scores in result.files[1].scores.items():
        model, precision = split_precision(name)
        with vsr.Upscaler(2, model, precision=precision) as upscaler:
            high = upscaler.upscale_planes(Planes((low,), PIXEL_FORMATS["gray"], 24, 24)).arrays[0]
        assert file_scores.psnr_db == pytest.approx(psnr(truth, high, border=2))
        assert file_scores.ssim == pytest.approx(ssim(truth, high, border=2))
    mean = result.mean("fast")
    assert mean.psnr_db == pytest.approx(np.mean([f.scores["fast"].psnr_db for f in result.files]))


def test_a_file_of_ones_own_is_measured_like_the_shipped_model_that_it_is(stills: Path) -> None:
    own, quantised = str(WEIGHTS / "espcn_x3.onnx"), str(WEIGHTS / "fast_x3.int8.onnx")
    [result] = evaluate(find_sets(stills, 3), ["espcn", own, "fast", "fast:int8", f"{quantised}:int8"], 3).sets
    for file in result.files:
        assert file.scores[own] == file.scores["espcn"]
        assert file.scores[f"{quantised}:int8"] == file.scores["fast:int8"] != file.scores["fast"]


def test_a_video_is_measured_frame_by_frame(clip: Clip, tmp_path: Path) -> None:
    video = clip("v.mkv", codec="ffv1", frames=3, size=(66, 50))
    [result] = evaluate(find_sets(video, 2, frames=2), ["bicubic", "fast"], 2).sets
    [file] = result.files
    assert (file.frames, file.width, file.height) == (2, 66, 50)
    source = vsr.source.Source(video)
    frames = [f.planes.arrays[0] for f in source.frames()][:2]
    source.close()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    [stills] = evaluate(find_sets(tmp_path, 2), ["bicubic", "fast"], 2).sets
    for model in ("bicubic", "fast"):
        assert file.scores[model].psnr_db == pytest.approx(stills.mean(model).psnr_db)
        assert file.scores[model].ssim == pytest.approx(stills.mean(model).ssim)


def encode_luma(path: Path, frames: list[np.ndarray], codec: str = "ffv1", **options: str) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "yuv420p"
        for values in frames:
            picture = av.VideoFrame(values.shape[1], values.shape[0], "yuv420p")
            for plane, content in zip(picture.planes, (values, None, None), strict=True):
                rows = np.full((plane.height, plane.line_size), 128, np.uint8)
                if content is not None:
                    rows[:, : plane.width] = content
                plane.update(rows.tobytes())
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return path


def test_a_low_resolution_video_given_is_enlarged_as_it_is(tmp_path: Path) -> None:
    frames = [luma(64, 96, seed) for seed in range(3)]
    video = encode_luma(tmp_path / "truth.mkv", frames)
    lows = [shrink(frame, 2)[0] for frame in frames]
    lossless = encode_luma(tmp_path / "low.mkv", lows)
    lossy = encode_luma(tmp_path / "crf.mkv", lows, "libx264", preset="ultrafast", crf="35")
    figures = [
        evaluate(find_sets(video, 2, against=low), ["fast"], 2).sets[0].mean("fast").psnr_db
        for low in (None, lossless, lossy)
    ]
    assert figures[0] == figures[1]
    assert figures[2] < figures[0] - 1


def test_deep_video_is_measured_at_its_depth(clip: Clip) -> None:
    video = clip("deep.mkv", codec="ffv1", pix_fmt="yuv420p10le", frames=1)
    [item] = find_sets(video, 2)[0].items
    assert item.bits == 10
    assert not [m for m in default_models(2, 10) if m.endswith("int8")]
    [result] = evaluate(find_sets(video, 2), ["bicubic"], 2).sets
    [pair] = item.pairs()
    assert pair.low.dtype == np.uint16
    eight = evaluate([TestSet("", (item,))], ["bicubic"], 2).sets[0].mean("bicubic")
    assert result.mean("bicubic") == eight
    assert 15 < eight.psnr_db < 60


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(20, 40), st.integers(20, 40), st.sampled_from([8, 10]))
def test_shrinking_keeps_what_the_scale_divides(scale: int, height: int, width: int, bits: int) -> None:
    picture = (luma(height, width).astype(np.uint16) << (bits - 8)).astype(np.uint8 if bits == 8 else np.uint16)
    low, truth = shrink(picture, scale, bits)
    assert truth.shape == (height // scale * scale, width // scale * scale) == tuple(scale * n for n in low.shape)
    assert low.dtype == truth.dtype == picture.dtype
    assert np.array_equal(truth, picture[: truth.shape[0], : truth.shape[1]])


def test_identical_pictures_are_infinitely_near_and_json_has_a_word_for_it(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 77, np.uint8)).save(tmp_path / "flat.png")
    result = evaluate(find_sets(tmp_path, 2), ["bicubic"], 2)
    assert math.isinf(result.sets[0].mean("bicubic").psnr_db)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["sets"][0]["mean"]["bicubic"]["psnr_db"] is None
    assert ",inf," in result.to_csv()


def test_means_leave_identical_pictures_out() -> None:
    files = tuple(FileScores(str(p), 9, 9, 1, {"m": Score(p, 1.0)}) for p in (30.0, math.inf, 32.0))
    assert SetScores("s", files).mean("m").psnr_db == 31.0


def test_csv_has_a_line_for_each_file_and_mean(stills: Path) -> None:
    result = evaluate(find_sets(stills, 2), ["bicubic", "fast"], 2)
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [(r["file"], r["model"]) for r in rows] == [
        (file, model) for file in ("a.png", "b.png", "mean") for model in ("bicubic", "fast")
    ]
    assert float(rows[-1]["psnr_db"]) == pytest.approx(result.sets[0].mean("fast").psnr_db, abs=1e-4)
    assert result.to_dict()["engines"]["fast"].startswith("OpenVINO")


# -- VMAF -------------------------------------------------------------------------------------------------------------

STAND_IN = """#!{python}
import json, sys
args = sys.argv[1:]
if "-filters" in args:
    print(" .. libvmaf           VV->V      Calculate the VMAF between two video streams.")
    sys.exit()
width, both = map(int, args[args.index("-s") + 1].split("x"))
deep = args[args.index("-pix_fmt") + 1] != "yuv420p"
graph = args[args.index("-lavfi") + 1]
assert "name=vmaf|" in graph and graph.endswith("name=vmaf_neg"), graph
size = width * both * 3 // 2 * (2 if deep else 1)
differences, count = 0, 0
while data := sys.stdin.buffer.read(size):
    assert len(data) == size, (len(data), size)
    luma = memoryview(data)[: size * 2 // 3].cast("H" if deep else "B").tolist()
    half = len(luma) // 2
    differences += sum(abs(a - b) for a, b in zip(luma[:half], luma[half:])) / half
    count += 1
{end}
pooled = {{"vmaf": {{"mean": 100 - differences / count}}, "vmaf_neg": {{"mean": float(count)}}}}
json.dump({{"pooled_metrics": pooled}}, open("log.json", "w"))
"""


def stand_in(folder: Path, end: str = "") -> Path:
    """A command that reads what ffmpeg would, and gives the mean difference as VMAF, the frames as VMAF-NEG."""
    path = folder / "ffmpeg"
    path.write_text(STAND_IN.format(python=sys.executable, end=end))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("bits", [8, 10])
def test_ffmpeg_gets_each_picture_with_its_original(bits: int, tmp_path: Path) -> None:
    truth = (luma(31, 45).astype(np.uint16) << (bits - 8)).astype(np.uint8 if bits == 8 else np.uint16)
    meter = VmafMeter(str(stand_in(tmp_path)), bits)
    try:
        meter.add(truth, truth)
        meter.add(truth, truth + truth.dtype.type(2))
        measured = meter.result()
    finally:
        meter.close()
    assert measured.vmaf == pytest.approx(99)  # one picture is its original, the other 2 away
    assert measured.neg == 2


def test_what_ffmpeg_complains_of_is_passed_on(tmp_path: Path) -> None:
    meter = VmafMeter(str(stand_in(tmp_path, "sys.exit('no such model')")))
    try:
        meter.add(luma(20, 20), luma(20, 20))
        with pytest.raises(BackendError, match="no such model"):
            meter.result()
    finally:
        meter.close()


@pytest.fixture
def first_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is looked through first for an ffmpeg."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    ffmpeg_with_vmaf.cache_clear()
    yield tmp_path
    ffmpeg_with_vmaf.cache_clear()


def test_a_real_libvmaf_tells_pictures_apart(first_on_path: Path) -> None:
    """The ffmpeg that imageio-ffmpeg brings has libvmaf, and both models inside; Debian's has not."""
    (first_on_path / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    command = ffmpeg_with_vmaf()
    assert command == str(first_on_path / "ffmpeg")
    blurred = imresize(imresize(luma(288, 352), 0.5), 2)
    scores = []
    for bits in (8, 10):
        kind = np.uint8 if bits == 8 else np.uint16
        truth = luma(288, 352).astype(kind) << (bits - 8)
        for picture in (truth, np.clip(blurred, 0, 255).astype(kind) << (bits - 8)):
            with closing(VmafMeter(command, bits)) as meter:
                for _ in range(2):
                    meter.add(truth, picture)
                scores.append(meter.result())
    same, worse = scores[:2]
    assert same.vmaf > 95 > worse.vmaf + 5
    assert same.neg > 95 > worse.neg + 5
    for of_8_bits, of_10_bits in zip(scores[:2], scores[2:], strict=True):
        assert of_10_bits.vmaf == pytest.approx(of_8_bits.vmaf, abs=0.5)
        assert of_10_bits.neg == pytest.approx(of_8_bits.neg, abs=0.5)


def test_vmaf_in_the_figures(stills: Path, first_on_path: Path) -> None:
    command = stand_in(first_on_path)
    assert ffmpeg_with_vmaf() == str(command)
    result = evaluate(find_sets(stills / "a.png", 2), ["bicubic"], 2, vmaf=str(command))
    score = result.sets[0].mean("bicubic")
    assert score.vmaf is not None
    assert 60 < score.vmaf < 100
    assert "vmaf_neg" in result.to_csv().splitlines()[0]


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_all_it_is_asked_for(
    stills: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [tmp_path / name for name in ("f.json", "f.csv", "sheet.png")]
    arguments = ["eval", "bicubic", "fast:int8", "-s", "2", "--data", stills, "--no-vmaf"]
    arguments += ["-o", outputs[0], "-o", outputs[1], "--sheet", outputs[2]]
    assert call(*arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert lines[0].startswith("stills x2: PSNR dB / SSIM")
    assert lines[-1].startswith("mean")
    figures = json.loads(outputs[0].read_text())
    assert f"{figures['sets'][0]['mean']['bicubic']['psnr_db']:.2f}" in lines[-1]
    assert len(outputs[1].read_text().splitlines()) == 1 + 2 * 3
    with Image.open(outputs[2]) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 3 * SIDE
        assert len(np.unique(np.asarray(sheet))) > 50
    assert call(*arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert call(*arguments, "-y", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scale"] == 2


def call(*arguments: Any) -> int:
    from vsr.cli import main

    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_what_vmaf_needs_is_said_in_one_line(
    stills: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsr.evaluation.vmaf.ffmpeg_with_vmaf", lambda: None)
    assert call("eval", "bicubic", "-s", "2", "-d", stills) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("vsr: note: no VMAF")
    assert call("eval", "bicubic", "-s", "2", "-d", stills, "--vmaf") == 2
    assert "libvmaf" in capsys.readouterr().err


def test_nothing_to_measure_on_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VSR_TEST_DATA", raising=False)
    assert call("eval", "bicubic") == 2
    assert "--data" in capsys.readouterr().err


# -- bad inputs -------------------------------------------------------------------------------------------------------


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        find_sets(tmp_path / "nowhere", 2)
    with pytest.raises(InputError, match="holds no still images"):
        find_sets(tmp_path, 2)
    Image.fromarray(luma(14, 40)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"small.png is 40x14, too small to measure x2 on; it must be at least 16x16"):
        find_sets(tmp_path, 2)
    (tmp_path / "small.png").write_bytes(b"text")
    with pytest.raises(InputError, match=r"cannot read the picture .*small.png"):
        find_sets(tmp_path, 2)
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"small.png has more than 8 bits"):
        evaluate(find_sets(tmp_path, 2), ["bicubic"], 2)
    whole = tmp_path / "small.png"
    Image.fromarray(luma(200, 200)).save(whole)
    whole.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cannot read the picture .*small.png"):
        evaluate(find_sets(tmp_path, 2), ["bicubic"], 2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_smallest_picture_that_is_allowed_is_measured(scale: int, tmp_path: Path) -> None:
    least = next(n for n in range(11, 40) if n // scale * scale >= 11 + 2 * scale)
    Image.fromarray(luma(least, least)).save(tmp_path / "a.png")
    evaluate(find_sets(tmp_path, scale), ["bicubic"], scale)
    Image.fromarray(luma(least - 1, least)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="too small"):
        find_sets(tmp_path, scale)


def test_videos_that_do_not_fit_are_refused(clip: Clip, stills: Path, tmp_path: Path) -> None:
    frames = [luma(64, 96, seed) for seed in range(3)]
    video = encode_luma(tmp_path / "truth.mkv", frames)
    half = encode_luma(tmp_path / "half.mkv", [shrink(f, 2)[0] for f in frames])
    with pytest.raises(InputError, match=r"half.mkv is 48x32, and 1/4 of .*truth.mkv would be 24x16; use -s 2"):
        find_sets(video, 4, against=half)
    with pytest.raises(InputError, match="downscaled by a whole factor"):
        find_sets(video, 2, against=video)
    short = encode_luma(tmp_path / "short.mkv", [shrink(f, 2)[0] for f in frames[:2]])
    with pytest.raises(InputError, match=r"short.mkv has 2 frames, and .*truth.mkv has more"):
        evaluate(find_sets(video, 2, against=short), ["bicubic"], 2)
    cut = encode_luma(tmp_path / "cut.mkv", frames[:2])
    with pytest.raises(InputError, match="has more frames than the 2"):
        evaluate(find_sets(cut, 2, against=half), ["bicubic"], 2)
    with pytest.raises(InputError, match="is a folder"):
        find_sets(stills, 2, against=half)
    with pytest.raises(InputError, match="is a still"):
        find_sets(stills / "a.png", 2, against=half)
    deep = clip("deep.mkv", codec="ffv1", pix_fmt="yuv420p10le", frames=1, size=(48, 32))
    with pytest.raises(InputError, match="bits a sample: 10 and 8"):
        find_sets(video, 2, against=deep)
    with pytest.raises(UnsupportedInputError, match="RGB video"):
        find_sets(clip("rgb.mkv", codec="ffv1", pix_fmt="bgr0", frames=1), 2)


def test_a_model_named_twice_is_refused(stills: Path) -> None:
    with pytest.raises(OptionError, match="named twice"):
        evaluate(find_sets(stills, 2), ["fast", "fast"], 2)


def test_names_and_precisions() -> None:
    assert split_precision("fast:int8") == ("fast", "int8")
    assert split_precision("a:b.onnx") == ("a:b.onnx", "fp32")
    assert split_precision("bicubic") == ("bicubic", "fp32")
    assert default_models(3)[0] == "bicubic"
    assert "fast:int8" in default_models(3)
    assert Evaluation(3, ("a",)).to_dict()["sets"] == []


# -- the sheet --------------------------------------------------------------------------------------------------------


def test_the_detail_is_where_the_edges_are() -> None:
    picture = np.full((200, 300), 100, np.uint8)
    picture[121:179:2, 212:268] = 200
    rows, columns = busiest_window(picture, 4)
    assert rows.start <= 121
    assert rows.stop >= 178
    assert columns.start <= 212
    assert columns.stop >= 267
    assert (rows.stop - rows.start, columns.stop - columns.start) == (SIDE, SIDE)


def test_small_pictures_make_small_details() -> None:
    rows, columns = busiest_window(luma(30, 200), 2)
    assert rows.stop - rows.start <= 26
    assert columns.stop - columns.start == SIDE
