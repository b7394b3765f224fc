"""Image sequences in and out, through the job and through the command line."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vsr
from tests import clips
from tests.end_to_end import command
from vsr.errors import (
    ContainerError,
    CorruptInputError,
    DiskFullError,
    InterruptedJobError,
    NotMediaError,
    OptionError,
    OutputExistsError,
    TruncatedInputError,
    UnsupportedInputError,
)
from vsr.pictures.attached import Attached
from vsr.pictures.files import read_picture, write_picture
from vsr.pictures.rgb import picture_of_planes
from vsr.source import Source

Clip = Callable[..., Path]
QUICK: dict[str, Any] = {"scale": 2, "model": "bicubic", "threads": 1}


def pictures(folder: Path, count: int = 4, name: str = "in_%03d.png", first: int = 1, **how: Any) -> list[np.ndarray]:
    """Write a few pictures of moving waves; give them back."""
    folder.mkdir(exist_ok=True)
    channels, largest = how.get("channels", 3), how.get("largest", 255)
    width, height = how.get("size", (32, 24))
    made = []
    y, x, c = np.mgrid[:height, :width, :channels]
    for n in range(count):
        waves = np.sin(x / (3 + c) + n) * np.cos(y / 5 + c + n)
        samples = np.rint(largest * (0.5 + 0.35 * waves)).astype(np.uint16 if largest > 255 else np.uint8)
        samples = samples[:, :, 0] if channels == 1 else samples
        path = folder / (name % (first + n))
        write_picture(samples, path, path.suffix, how.get("attached", Attached()))
        made.append(samples)
    return made


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def decoded_by_ffmpeg(
    path: Path, pix_fmt: str, shape: tuple[int, ...], *before: str, after: tuple[str, ...] = ()
) -> np.ndarray:
    """Every frame as ffmpeg's command decodes it."""
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", *before, "-i", path, *after, "-f", "rawvideo", "-pix_fmt", pix_fmt, "-"],
        capture_output=True,
        check=True,
    ).stdout
    return np.frombuffer(raw, np.uint16 if "48" in pix_fmt or "64" in pix_fmt else np.uint8).reshape(-1, *shape)


# -- sequence to sequence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "channels", "largest", "pix_fmt"),
    [(".png", 3, 255, "rgb24"), (".png", 4, 65535, "rgba64le"), (".tif", 3, 65535, "rgb48le")],
)
def test_pictures_become_pictures_as_single_ones_do(
    suffix: str, channels: int, largest: int, pix_fmt: str, tmp_path: Path
) -> None:
    made = pictures(tmp_path / "in", 3, f"a%02d{suffix}", first=7, channels=channels, largest=largest)
    report = vsr.upscale(tmp_path / "in" / f"a%02d{suffix}", tmp_path / "out" / f"b_%05d{suffix}", **QUICK)
    assert (report.frames_in, report.frames_out, report.width, report.height) == (3, 3, 64, 48)
    assert report.notes == []
    assert names(tmp_path / "out") == [f"b_{n:05d}{suffix}" for n in (7, 8, 9)], "the input's own numbers"
    with vsr.Upscaler(2, "bicubic", threads=1) as upscaler:
        want = np.stack([upscaler.upscale(m) for m in made])
    pattern = tmp_path / "out" / f"b_%05d{suffix}"
    got = decoded_by_ffmpeg(pattern, pix_fmt, want.shape[1:], "-start_number", "7")
    assert (got == want).all()


def test_what_comes_along_with_each_picture_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    attached = Attached(icc=b"p" * 200, exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=b"<x/>", dpi=(300, 300))
    made = pictures(tmp_path / "in", 2, "%d.jpg", attached=attached)
    report = vsr.upscale(tmp_path / "in" / "%d.jpg", tmp_path / "%d.png", **QUICK)
    assert report.ok
    for number in (1, 2):
        back = read_picture(tmp_path / f"{number}.png")
        assert back.samples.shape == (48, 64, 3), "stored as before, and said to be shown turned"
        kept = back.attached
        assert (kept.icc, kept.exif, kept.xmp) == (attached.icc, attached.exif, attached.xmp)
        assert back.attached.orientation() == 6
    assert len(made) == 2


def test_a_gap_is_refused_or_kept(tmp_path: Path) -> None:
    pictures(tmp_path / "in", 5)
    (tmp_path / "in" / "in_003.png").unlink()
    pattern = tmp_path / "in" / "in_%03d.png"
    with pytest.raises(TruncatedInputError, match=r"missing: 3;"):
        vsr.upscale(pattern, tmp_path / "%d.png", **QUICK)
    assert names(tmp_path) == ["in"]
    vsr.upscale(pattern, tmp_path / "out" / "%d.png", on_truncated="keep", **QUICK)
    assert names(tmp_path / "out") == ["1.png", "2.png", "4.png", "5.png"]
    report = vsr.upscale(pattern, tmp_path / "out.mkv", on_truncated="keep", **QUICK)
    assert any("lacks 1 pictures (first 3)" in n for n in report.notes)
    times = [round(t * 25) for t in clips.video_times(tmp_path / "out.mkv")]
    assert times == [0, 1, 3, 4], "the picture before the gap lasts longer"


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"frames": 2}, [3, 4]),
        ({"start": 0.5, "fps": 4}, [5, 6, 7]),
        ({"start": "0.08", "end": 0.16}, [5, 6]),
        ({"duration": 0.04}, [3]),
    ],
)
def test_a_part_of_a_sequence(options: dict[str, Any], kept: list[int], tmp_path: Path) -> None:
    pictures(tmp_path / "in", 5, first=3)
    report = vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "out" / "%d.png", **options, **QUICK)
    assert names(tmp_path / "out") == [f"{n}.png" for n in kept]
    assert report.frames_in == len(kept)
    vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "out.mkv", lossless=True, **options, **QUICK)
    assert clips.video_times(tmp_path / "out.mkv")[0] == 0
    with pytest.raises(OptionError, match=r"none of the pictures is wanted"):
        vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "no.mkv", start=9, **QUICK)


# -- sequence to video ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fps", "rate"), [(None, "25/1"), ("23.976", "24000/1001"), (50, "50/1")])
def test_a_sequence_becomes_a_video_at_its_rate(fps: Any, rate: str, tmp_path: Path) -> None:
    pictures(tmp_path / "in", 6)
    report = vsr.upscale(tmp_path / "in" / "*.png", tmp_path / "out.mp4", fps=fps, preset="ultrafast", **QUICK)
    assert any("25 per second" in n for n in report.notes) == (fps is None)
    stream = clips.probe(tmp_path / "out.mp4").video
    assert (stream["r_frame_rate"], stream["nb_frames"]) == (rate, "6")
    assert (stream["pix_fmt"], stream["color_space"], stream["color_range"]) == ("yuv420p", "bt709", "tv")
    assert any("as players expect" in n for n in report.notes)


def test_colours_of_a_lossy_video_are_those_of_the_pictures(tmp_path: Path) -> None:
    """Flat patches, by ffmpeg's own conversion with the tagged matrix: as near as 8-bit 4:2:0 comes."""
    (tmp_path / "in").mkdir()
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (255, 255, 255), (0, 0, 0)]
    for n, colour in enumerate(colours):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "in" / f"{n}.png")
    vsr.upscale(tmp_path / "in" / "%d.png", tmp_path / "out.mkv", crf=1, **QUICK)
    got = decoded_by_ffmpeg(tmp_path / "out.mkv", "rgb24", (64, 64, 3))
    assert np.abs(got[:, 32, 32].astype(int) - np.array(colours)).max() <= 3


@pytest.mark.parametrize(
    ("channels", "largest", "pix_fmt"), [(3, 255, "rgb24"), (3, 65535, "rgb48le"), (4, 65535, "rgba64le")]
)
def test_lossless_keeps_every_bit(channels: int, largest: int, pix_fmt: str, tmp_path: Path) -> None:
    made = pictures(tmp_path / "in", 3, channels=channels, largest=largest)
    vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "out.mkv", lossless=True, **QUICK)
    with vsr.Upscaler(2, "bicubic", threads=1) as upscaler:
        want = np.stack([upscaler.upscale(m) for m in made])
    assert (decoded_by_ffmpeg(tmp_path / "out.mkv", pix_fmt, want.shape[1:]) == want).all()


def test_16_bits_become_10_in_a_lossy_video(tmp_path: Path) -> None:
    pictures(tmp_path / "in", 2, largest=65535, size=(64, 48))
    vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "out.mkv", preset="ultrafast", **QUICK)
    assert clips.probe(tmp_path / "out.mkv").video["pix_fmt"] == "yuv420p10le"


def test_grey_pictures_become_a_video(tmp_path: Path) -> None:
    made = pictures(tmp_path / "in", 2, channels=1)
    vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "out.mkv", crf=1, **QUICK)
    got = decoded_by_ffmpeg(tmp_path / "out.mkv", "gray", (48, 64))
    with vsr.Upscaler(2, "bicubic", threads=1) as upscaler:
        assert np.abs(got[0].astype(int) - upscaler.upscale(made[0])).max() <= 4


def test_turned_pictures_are_turned_in_a_video(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    for n in (1, 2):
        made = Image.new("RGB", (32, 16), (10, 10, 10))
        made.paste((240, 240, 240), (0, 0, 8, 8))
        made.save(tmp_path / "in" / f"{n}.png", exif=exif.tobytes())
    vsr.upscale(tmp_path / "in" / "%d.png", tmp_path / "out.mkv", crf=1, **QUICK)
    got = decoded_by_ffmpeg(tmp_path / "out.mkv", "gray", (64, 32))
    assert got[0, 4, 28] > 200, "top right"
    assert got[0, 4, 4] < 60


# -- video to sequence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "bits"), [("yuv420p", "libx264", 8), ("yuv420p10le", "ffv1", 16), ("bgr24", "libx264rgb", 8)]
)
def test_a_video_becomes_pictures(pix_fmt: str, codec: str, bits: int, clip: Clip, tmp_path: Path) -> None:
    source = clip("v.mkv", codec=codec, pix_fmt=pix_fmt)
    report = vsr.upscale(source, tmp_path / "p" / "f_%05d.png", **QUICK)
    count = clips.frame_count(source)
    assert names(tmp_path / "p") == [f"f_{n:05d}.png" for n in range(1, count + 1)]
    assert report.frames_out == count
    opened = Source(source)
    with vsr.Upscaler(2, "bicubic", threads=1) as upscaler:
        for number, frame in enumerate(opened.frames(), 1):
            planes = upscaler.upscale_planes(frame.planes, opened.info.color)
            want = picture_of_planes(planes, opened.info.color, bits)
            assert (read_picture(tmp_path / "p" / f"f_{number:05d}.png").samples == want).all()
    opened.close()


def test_pictures_of_a_video_look_as_ffmpegs_do(clip: Clip, tmp_path: Path) -> None:
    """Against ffmpeg's own decoder, matrix and chroma, on an upscaled lossless video of the same frames."""
    source = clip("v.mkv", codec="libx264")
    vsr.upscale(source, tmp_path / "%d.png", **QUICK)
    vsr.upscale(source, tmp_path / "out.mkv", lossless=True, **QUICK)
    shape = np.asarray(Image.open(tmp_path / "1.png")).shape
    exactly = "scale=in_h_chr_pos=0:in_v_chr_pos=128:flags=bicubic+accurate_rnd+full_chroma_int"
    want = decoded_by_ffmpeg(tmp_path / "out.mkv", "rgb24", shape, after=("-vf", exactly))
    got = np.stack([np.asarray(Image.open(tmp_path / f"{n + 1}.png")) for n in range(len(want))])
    error = np.mean((got.astype(float) - want) ** 2)
    assert 10 * np.log10(255**2 / error) > 48


def test_pictures_of_hdr_video_say_so_where_they_can(clip: Clip, tmp_path: Path) -> None:
    tags = {"color_primaries": 9, "color_trc": 16, "colorspace": 9}
    source = clip("v.mkv", codec="ffv1", pix_fmt="yuv420p10le", video_tags=tags)
    vsr.upscale(source, tmp_path / "%d.png", **QUICK)
    assert (b"cICP", bytes((9, 16, 0, 1))) in read_picture(tmp_path / "1.png").attached.chunks
    report = vsr.upscale(source, tmp_path / "%d.tif", **QUICK)
    assert any("do not say that they are HDR" in n for n in report.notes)


def test_other_streams_of_a_video_are_said_to_be_left_out(clip: Clip, tmp_path: Path) -> None:
    report = vsr.upscale(clip("v.mkv", audio="aac"), tmp_path / "%d.jpg", quality=80, **QUICK)
    assert any("only the pictures are written; 1 other" in n for n in report.notes)
    assert report.encoder == "jpg"


# -- refusals and faults ----------------------------------------------------------------------------------------------


def test_pictures_of_another_size_or_kind_are_refused_by_name_before_the_work(tmp_path: Path) -> None:
    pictures(tmp_path / "in", 3)
    odd = tmp_path / "in" / "in_003.png"
    for made in (Image.new("RGB", (33, 24)), Image.new("RGBA", (32, 24)), Image.new("L", (32, 24))):
        made.save(odd)
        with pytest.raises(UnsupportedInputError, match=r"in_003\.png is .*, and in_001\.png is 32x24 RGB of 8 bits"):
            vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "%d.png", **QUICK)
        assert names(tmp_path) == ["in"]


def test_existing_pictures_are_not_overwritten_unasked(tmp_path: Path) -> None:
    pictures(tmp_path / "in", 2)
    pictures(tmp_path / "out", 4, "%d.png")
    before = {p: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    pattern = tmp_path / "in" / "in_%03d.png"
    with pytest.raises(OutputExistsError, match=r"4 pictures called like 1\.png exist already"):
        vsr.upscale(pattern, tmp_path / "out" / "%d.png", **QUICK)
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    report = vsr.upscale(pattern, tmp_path / "out" / "%d.png", overwrite=True, **QUICK)
    assert any("2 older pictures" in n for n in report.notes)
    assert Image.open(tmp_path / "out" / "1.png").size == (64, 48)
    with pytest.raises(OutputExistsError, match="both input and output"):
        vsr.upscale(pattern, pattern, overwrite=True, **QUICK)


def test_only_pictures_behind_the_last_one_count_as_older(tmp_path: Path) -> None:
    pictures(tmp_path / "in", 11)
    pictures(tmp_path, 11, "%d.png")
    report = vsr.upscale(tmp_path / "in" / "*.png", tmp_path / "%d.png", overwrite=True, **QUICK)
    assert not any("older" in n for n in report.notes), report.notes


def test_a_broken_picture_is_replaced_or_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "in", 4)
    broken = tmp_path / "in" / "in_003.png"
    broken.write_bytes(broken.read_bytes()[:200])
    pattern = tmp_path / "in" / "in_%03d.png"
    report = vsr.upscale(pattern, tmp_path / "out" / "%d.png", **QUICK)
    assert (report.frames_out, report.frames_repeated, report.decode_errors) == (4, 1, 1)
    assert any("in_003.png" in n and "stands in" in n for n in report.notes)
    assert (tmp_path / "out" / "3.png").read_bytes() == (tmp_path / "out" / "2.png").read_bytes()
    with pytest.raises(CorruptInputError, match="1 of the first 3 pictures"):
        vsr.upscale(pattern, tmp_path / "out2" / "%d.png", max_decode_errors="0", **QUICK)
    (tmp_path / "in" / "in_001.png").write_bytes(b"")
    with pytest.raises(NotMediaError, match=r"in_001\.png is empty"):
        vsr.upscale(pattern, tmp_path / "out3" / "%d.png", **QUICK)


def test_interrupted_the_complete_pictures_stay_and_are_named(clip: Clip, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(InterruptedJobError, match=r"f_001\.png … f_\d+\.png: \d+ frames"):
        vsr.upscale(
            clip("v.mkv"), tmp_path / "f_%03d.png", stop=stop, on_progress=lambda p: p.frames < 2 or stop.set(), **QUICK
        )
    made = names(tmp_path)
    assert made == [f"f_{n:03d}.png" for n in range(1, len(made) + 1)]
    assert 2 <= len(made) < clips.frame_count(clip("v.mkv"))
    for name in made:
        Image.open(tmp_path / name).load()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "in", 3)
    real = write_picture

    def full(samples: Any, path: Path, *rest: Any) -> None:
        real(samples, path, *rest)
        if len(names(tmp_path / "out")) > 2:  # two that are complete, and this one
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("vsr.pictures.sequence_sink.write_picture", full)
    notes: list[str] = []
    with pytest.raises(DiskFullError, match=r"3\.png"):
        vsr.upscale(tmp_path / "in" / "in_%03d.png", tmp_path / "out" / "%d.png", on_note=notes.append, **QUICK)
    assert names(tmp_path / "out") == ["1.png", "2.png"]
    assert any("2 complete pictures stay" in n for n in notes)


@pytest.mark.parametrize(
    ("output", "options", "error", "words"),
    [
        ("x.png", {}, ContainerError, r"write a sequence, such as .*x_%05d\.png"),
        ("%d.gif", {}, ContainerError, r"% in the name of an output stands for .* called 1\.gif; allowed are \.png"),
        ("%d.png", {"quality": 80}, OptionError, "loses nothing"),
        ("%d.jpg", {"lossless": True}, OptionError, "never lossless"),
        ("out.mkv", {"quality": 80}, OptionError, "a video takes --crf"),
        ("%d.png", {"fps": 24}, OptionError, "times of their own"),
        ("%d.png", {"crf": 20}, OptionError, "no video encoder"),
        ("%d.png", {"encoder": "ffv1"}, OptionError, "no video encoder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    output: str, options: dict[str, Any], error: type[Exception], words: str, clip: Clip, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        vsr.upscale(clip("v.mkv"), tmp_path / output, **options, **QUICK)
    assert names(tmp_path) == []


def test_through_the_command_line(tmp_path: Path) -> None:
    pictures(tmp_path / "in", 3)
    pattern = tmp_path / "in" / "in_%03d.png"
    done = command.upscaled(pattern, "-s", "2", "-m", "bicubic", "-o", tmp_path / "%d.png", "--json")
    assert (done.json["ok"], done.json["frames_out"]) == (True, 3)
    assert names(tmp_path) == ["1.png", "2.png", "3.png", "in"]
    failed = command.vsr("upscale", tmp_path / "gone_%d.png", "-o", tmp_path / "x.mkv")
    command.assert_one_line(failed, "no file is called like")
