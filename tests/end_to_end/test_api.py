"""The Python interface, used as its documentation says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vsr
from tests.clips import frame_count, listing
from vsr import errors

Clip = Callable[..., Path]


def gradient(height: int, width: int, channels: int | None, dtype: type[np.generic]) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    plane = (x * 2 + y * 3) / (width * 2 + height * 3) * (np.iinfo(dtype).max * 0.9)
    return (plane if channels is None else np.stack([plane] * channels, axis=2)).astype(dtype)


@pytest.mark.parametrize("model", ["bicubic", "espcn", "fsrcnn"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_are_upscaled(dtype: type[np.generic], channels: int | None, scale: int, model: str) -> None:
    picture = gradient(20, 31, channels, dtype)
    result = vsr.Upscaler(scale=scale, model=model).upscale(picture)
    assert result.dtype == picture.dtype
    assert result.shape == (20 * scale, 31 * scale, *picture.shape[2:])
    blocks = result.reshape(20, scale, 31, scale, -1).mean(axis=(1, 3)).reshape(picture.shape)
    error = np.abs(blocks - picture)[2:-2, 2:-2] / np.iinfo(dtype).max
    assert error.max() < 0.03


def test_one_upscaler_takes_many_sizes_and_leaves_its_input_alone() -> None:
    upscaler = vsr.Upscaler(scale=2, model="espcn")
    for size in ((16, 16), (33, 7), (1, 1), (16, 16)):
        picture = gradient(*size, 3, np.uint8)
        copy = picture.copy()
        assert upscaler.upscale(picture).shape == (size[0] * 2, size[1] * 2, 3)
        assert np.array_equal(picture, copy)


def test_arrays_that_are_not_contiguous_are_upscaled_alike() -> None:
    wide = gradient(20, 60, 3, np.uint8)
    upscaler = vsr.Upscaler(scale=2, model="fsrcnn")
    assert np.array_equal(upscaler.upscale(wide[:, ::2]), upscaler.upscale(wide[:, ::2].copy()))
    assert np.array_equal(upscaler.upscale(wide[::-1]), upscaler.upscale(wide[::-1].copy()))


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(np.zeros((4, 4), np.float32), id="float"),
        pytest.param(np.zeros((4, 4, 2), np.uint8), id="two channels"),
        pytest.param(np.zeros((4,), np.uint8), id="one dimension"),
        pytest.param(np.zeros((0, 4), np.uint8), id="empty"),
        pytest.param(np.zeros((4, 4), np.int64), id="int64"),
        pytest.param([[1, 2], [3, 4]], id="a list"),
    ],
)
def test_arrays_of_other_kinds_are_refused(picture: object) -> None:
    with pytest.raises((errors.VsrError, TypeError, ValueError), match=r"uint8|array"):
        vsr.Upscaler(scale=2, model="bicubic").upscale(picture)


def test_the_report_tells_what_was_done(clip: Clip, tmp_path: Path) -> None:
    report = vsr.upscale(clip("a.mp4", frames=9), tmp_path / "out.mp4", scale=3, model="espcn")
    assert (report.frames_in, report.frames_out, report.frames_repeated) == (9, 9, 0)
    assert (report.width, report.height, report.scale) == (192, 144, 3)
    assert report.model.startswith("espcn")
    assert report.fps > 0


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize("model", ["espcn", "fsrcnn", "bicubic"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_shipped_model_runs_on_every_backend(
    scale: int, model: str, backend: str, clip: Clip, tmp_path: Path
) -> None:
    source = clip("a.mp4", frames=3)
    report = vsr.upscale(source, tmp_path / "out.mp4", scale=scale, model=model, backend=backend)
    assert (report.frames_out, report.backend) == (3, backend)


def test_paths_may_be_text(clip: Clip, tmp_path: Path) -> None:
    vsr.upscale(str(clip("a.mp4", frames=3)), str(tmp_path / "out.mp4"), scale=2, model="bicubic")
    assert frame_count(tmp_path / "out.mp4") == 3


def test_errors_are_of_the_tree_and_name_the_cause(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "exists.mp4").write_bytes(b"precious")
    before = listing(tmp_path)
    good = clip("a.mp4", frames=3)
    for error, source, result in (
        (errors.MissingInputError, tmp_path / "missing.mp4", "out.mp4"),
        (errors.NotMediaError, tmp_path / "text.mp4", "out.mp4"),
        (errors.OutputExistsError, good, "exists.mp4"),
        (errors.ContainerError, good, "out.xyz"),
    ):
        with pytest.raises(error):
            vsr.upscale(source, tmp_path / result, scale=2, model="bicubic")
    for options in ({"scale": 17}, {"scale": 2, "model": "nosuchnet"}, {"scale": 2, "backend": "abacus"}):
        with pytest.raises(errors.VsrError):
            vsr.upscale(good, tmp_path / "out.mp4", **options)
    assert listing(tmp_path) == before


def test_jobs_may_run_side_by_side_outside_the_main_thread(clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mp4", frames=8)
    reports: list[object] = []

    def work(number: int) -> None:
        reports.append(vsr.upscale(source, tmp_path / f"{number}.mp4", scale=2, model="espcn"))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(reports) == 3
    first, second, third = (p.read_bytes() for p in sorted(tmp_path.iterdir()))
    assert first == second == third


def test_a_still_is_upscaled_as_by_the_command(tmp_path: Path) -> None:
    Image.fromarray(gradient(20, 31, 3, np.uint8)).save(tmp_path / "in.png")
    notes: list[str] = []
    report = vsr.upscale(
        tmp_path / "in.png", tmp_path / "out.jpg", 2, model="bicubic", quality=90, on_note=notes.append
    )
    assert (report.ok, report.width, report.height, report.frames_out) == (True, 62, 40, 1)
    with Image.open(tmp_path / "out.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (62, 40))
    with pytest.raises(errors.ContainerError, match=r"in.png is a still image, and out.mp4 is none"):
        vsr.upscale(tmp_path / "in.png", tmp_path / "out.mp4", 2)
    with pytest.raises(errors.OptionError, match="one picture"):
        vsr.upscale(tmp_path / "in.png", tmp_path / "o.png", 2, start=1)


def test_an_animation_is_a_video_by_the_name_of_its_output(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.roll(gradient(20, 30, 3, np.uint8), n, 1)) for n in range(3)]
    pictures[0].save(tmp_path / "in.png", save_all=True, append_images=pictures[1:], duration=100)
    assert vsr.upscale(tmp_path / "in.png", tmp_path / "out.mkv", 2, model="bicubic").frames_out == 3
    assert vsr.upscale(tmp_path / "in.png", tmp_path / "out.png", 2, model="bicubic").frames_out == 1


def test_a_folder_is_none_of_its_inputs(tmp_path: Path) -> None:
    with pytest.raises(errors.MissingInputError, match="is a folder"):
        vsr.upscale(tmp_path, tmp_path / "out.mp4", 2)


def test_threads_may_share_an_upscaler() -> None:
    pictures = [gradient(20 + number % 2, 31, 3, np.uint8) + np.uint8(number) for number in range(24)]
    with vsr.Upscaler(scale=2, model="bicubic") as upscaler:
        alone = [upscaler.upscale(picture) for picture in pictures]
        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(upscaler.upscale, pictures))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
