"""Still images: modes, what is carried along, and what is said about the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from tests.backends import reference
from vsr.errors import (
    ContainerError,
    InputError,
    MissingInputError,
    NotMediaError,
    OptionError,
    OutputError,
    OutputExistsError,
    UnsupportedInputError,
)
from vsr.job import upscale
from vsr.options import UpscaleOptions
from vsr.pictures.files import STILL_SUFFIXES, is_still
from vsr.stills import describe_still, upscale_still
from vsr.upscaler import Upscaler

BICUBIC = UpscaleOptions(scale=2, model="bicubic", threads=1)
rng = np.random.default_rng(4)


def image(mode: str, size: tuple[int, int] = (10, 7)) -> Image.Image:
    width, height = size
    if mode in ("I;16", "I"):
        values = rng.integers(0, 65536, (height, width))
        return Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    channels = len(Image.new(mode, (1, 1)).getbands())
    if mode == "1":
        return Image.fromarray(rng.integers(0, 2, (height, width)).astype(bool))
    array = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
    if mode == "P":
        made = Image.fromarray(array[:, :, 0] % 8)
        made = made.convert("P")
        made.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
        return made
    return Image.fromarray(array[:, :, 0] if channels == 1 else array, mode)


def upscaled(made: Image.Image, folder: Path, name: str = "in.png", result: str = "out.png", **save: Any) -> Any:
    """The result, opened, and what the user was told."""
    made.save(folder / name, **save)
    notes: list[str] = []
    report = upscale_still(folder / name, folder / result, BICUBIC, on_note=notes.append)
    assert report.ok
    assert report.notes == notes
    assert sorted(p.name for p in folder.iterdir()) == sorted({name, result})
    opened = Image.open(folder / result)
    opened.load()
    assert opened.size == (report.width, report.height) == (made.width * 2, made.height * 2)
    return opened, notes


def enlarged(array: np.ndarray, largest: int = 255) -> np.ndarray:
    return np.clip(np.rint(reference.enlarge(array, 2)), 0, largest)


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("L", "L"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("1", "L"),
        ("LA", "RGBA"),
        ("P", "RGB"),
        ("I;16", "I;16"),
    ],
)
def test_modes_become_the_nearest_that_holds_them(mode: str, kept: str, tmp_path: Path) -> None:
    made = image(mode)
    result, notes = upscaled(made, tmp_path)
    assert result.mode == kept
    assert notes == []
    source = np.asarray(made if mode == "I;16" else made.convert(kept)).reshape(7, 10, -1)
    got = np.asarray(result).reshape(14, 20, -1)
    assert got.shape[2] == source.shape[2]
    for i in range(source.shape[2]):
        want = enlarged(source[:, :, i], 65535 if mode == "I;16" else 255)
        assert np.abs(got[:, :, i].astype(float) - want).max() <= 1


def test_a_palette_with_a_transparent_colour_keeps_it(tmp_path: Path) -> None:
    result, _ = upscaled(image("P"), tmp_path, transparency=3)
    assert result.mode == "RGBA"
    assert np.asarray(result)[:, :, 3].min() < 255


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_without_a_palette_is_not_lost_silently(mode: str, tmp_path: Path) -> None:
    made = image(mode)
    colour = made.getpixel((2, 2))
    result, notes = upscaled(made, tmp_path, transparency=colour)
    assert "A" in result.mode or any("transparen" in n or "alpha" in n for n in notes)


def test_16_bits_are_reduced_with_a_word_where_the_format_holds_8(tmp_path: Path) -> None:
    made = image("I;16")
    result, notes = upscaled(made, tmp_path, result="out.jpg")
    assert result.mode == "L"
    assert len(notes) == 1
    assert "8 bits" in notes[0]
    want = enlarged(np.asarray(made).astype(float) / 257)
    assert np.abs(np.asarray(result).astype(float) - want).mean() < 6  # JPEG of noise


def test_cmyk_becomes_rgb_with_a_word(tmp_path: Path) -> None:
    result, notes = upscaled(image("CMYK"), tmp_path, name="in.jpg", quality=95)
    assert result.mode == "RGB"
    assert any("CMYK" in n for n in notes)


@pytest.mark.parametrize("result", ["out.jpg", "out.bmp", "out.ppm"])
def test_alpha_is_left_out_with_a_word_where_the_format_has_none(result: str, tmp_path: Path) -> None:
    opened, notes = upscaled(image("RGBA"), tmp_path, result=result)
    assert opened.mode == "RGB"
    assert any("no alpha channel" in n for n in notes)


@pytest.mark.parametrize("result", ["out.png", "out.webp", "out.tif", "out.tiff"])
def test_alpha_is_kept_where_the_format_has_it(result: str, tmp_path: Path) -> None:
    opened, notes = upscaled(image("RGBA"), tmp_path, result=result)
    assert opened.mode == "RGBA"
    assert notes == []


@pytest.mark.parametrize("name", ["in.jpg", "in.png", "in.tif", "in.webp"])
@pytest.mark.parametrize("result", ["out.jpg", "out.png", "out.tif", "out.webp"])
def test_the_picture_is_shown_as_before_with_its_profile_and_camera(name: str, result: str, tmp_path: Path) -> None:
    """Turned by its EXIF orientation once, not twice and not never; Pillow itself turns a TIFF when it loads it."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x013B] = 6, "Camera", "Me"
    made = Image.new("RGB", (24, 16), (10, 10, 10))
    made.paste((240, 240, 240), (0, 0, 8, 8))  # top left as stored, top right as shown
    made.save(tmp_path / name, icc_profile=profile, exif=exif.tobytes())
    upscale_still(tmp_path / name, tmp_path / result, BICUBIC)
    shown = [ImageOps.exif_transpose(Image.open(tmp_path / n)) for n in (name, result)]
    assert [s.size for s in shown] == [(16, 24), (32, 48)]
    before, after = np.asarray(shown[0].convert("L"))[::8, ::8], np.asarray(shown[1].convert("L"))[8::16, 8::16]
    assert (before > 128).tolist() == (after > 128).tolist() == [[False, True], [False, False], [False, False]]
    opened = Image.open(tmp_path / result)
    assert opened.info.get("icc_profile") == profile
    assert (opened.getexif().get(0x010F), opened.getexif().get(0x013B)) == ("Camera", "Me")


def test_resolution_is_carried(tmp_path: Path) -> None:
    opened, _ = upscaled(image("RGB"), tmp_path, name="in.jpg", result="out.jpg", dpi=(300, 300))
    assert opened.info["dpi"] == pytest.approx((300, 300), abs=1)


def test_of_an_animation_the_first_picture_is_taken_with_a_word(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 250, 0))
    path = tmp_path / "in.webp"
    first.save(path, save_all=True, append_images=[second], lossless=True)
    notes: list[str] = []
    upscale_still(path, tmp_path / "out.png", BICUBIC, on_note=notes.append)
    assert any("2 pictures" in n and "first" in n for n in notes)
    assert np.asarray(Image.open(tmp_path / "out.png"))[4, 4, 0] > 240


def test_lossless_formats_hold_what_the_upscaler_returned(tmp_path: Path) -> None:
    made = image("RGB", (9, 13))
    with Upscaler(2, "bicubic", threads=1) as upscaler:
        want = upscaler.upscale(np.array(made))
    for result in ("out.png", "out.tif", "out.bmp", "out.ppm"):
        (tmp_path / result).mkdir()
        opened, _ = upscaled(made, tmp_path / result, result=result)
        assert (np.asarray(opened) == want).all(), result


def test_one_upscaler_serves_many_stills_and_stays_open(tmp_path: Path) -> None:
    image("L").save(tmp_path / "in.png")
    with Upscaler(2, "bicubic", threads=1) as upscaler:
        for name in ("a.png", "b.png"):
            upscale_still(tmp_path / "in.png", tmp_path / name, BICUBIC, upscaler=upscaler)
            assert upscaler._engine is not None


# -- refusals ---------------------------------------------------------------------------------------------------------


def refused(folder: Path, error: type[Exception], words: str, name: str = "in.png", result: str = "out.png") -> None:
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(error, match=words):
        upscale_still(folder / name, folder / result, BICUBIC)
    assert sorted(p.name for p in folder.iterdir()) == before


def test_broken_files_are_refused(tmp_path: Path) -> None:
    image("RGB", (64, 64)).save(tmp_path / "whole.png")
    image("RGB", (64, 64)).save(tmp_path / "whole.jpg")
    for suffix in (".png", ".jpg"):
        data = (tmp_path / f"whole{suffix}").read_bytes()
        for share in (0.1, 0.5, 0.9):
            (tmp_path / f"cut{suffix}").write_bytes(data[: int(len(data) * share)])
            refused(tmp_path, InputError, r"cut\.", name=f"cut{suffix}")
    (tmp_path / "text.png").write_text("not a picture " * 50)
    refused(tmp_path, NotMediaError, "not an image", name="text.png")
    (tmp_path / "empty.png").touch()
    refused(tmp_path, NotMediaError, "empty", name="empty.png")
    refused(tmp_path, MissingInputError, "does not exist", name="gone.png")


def test_an_existing_output_and_the_input_itself_are_refused(tmp_path: Path) -> None:
    image("L").save(tmp_path / "in.png")
    image("L").save(tmp_path / "out.png")
    refused(tmp_path, OutputExistsError, "exists already")
    refused(tmp_path, OutputExistsError, "same file", result="in.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "in.png")
    refused(tmp_path, OutputExistsError, "same file", result="link.png")


@pytest.mark.parametrize("result", ["out.mp4", "out", "out.gif", "out.heic"])
def test_an_output_that_is_no_still_is_refused_with_those_that_are(result: str, tmp_path: Path) -> None:
    image("L").save(tmp_path / "in.png")
    refused(tmp_path, ContainerError, r"allowed are \.png", result=result)


def test_a_picture_too_large_for_the_format_is_refused_before_the_work(tmp_path: Path) -> None:
    Image.new("L", (9000, 1)).save(tmp_path / "in.png")
    refused(tmp_path, OutputError, "18000x2.*16383", result="out.webp")


def test_a_picture_larger_than_the_memory_is_refused_and_pillows_own_limit_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    image("L", (64, 64)).save(tmp_path / "in.png")
    upscale_still(tmp_path / "in.png", tmp_path / "out.png", BICUBIC)
    assert Image.MAX_IMAGE_PIXELS == 100, "the program's own limit is put back"
    monkeypatch.setattr("vsr.pictures.files.memory_size", lambda: 64 * 64 * 5 * 3 - 1)
    (tmp_path / "out.png").unlink()
    refused(tmp_path, InputError, r"64x64 grey of 8 bits; enlarged 2 times it needs .* GiB of memory")


@pytest.mark.parametrize("name", ["in.heic", "in.avif", "in.jxl", "in.psd", "in.NEF"])
def test_kinds_that_are_not_read_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x" * 100)
    refused(tmp_path, UnsupportedInputError, r"which is not read; convert it to \.png", name=name)
    for result in ("out.png", "out.mkv", "out_%03d.png"):
        with pytest.raises(UnsupportedInputError, match=r"which is not read; convert it to \.png"):
            upscale(tmp_path / name, tmp_path / result, 2)


def test_a_quality_where_there_is_none_is_refused(tmp_path: Path) -> None:
    image("L").save(tmp_path / "in.png")
    for asked, result, words in (
        ({"quality": 80}, "out.png", "loses nothing"),
        ({"lossless": True}, "out.jpg", "never lossless"),
        ({"lossless": True, "quality": 80}, "out.webp", "contradict"),
    ):
        with pytest.raises(OptionError, match=words):
            upscale_still(tmp_path / "in.png", tmp_path / result, replace(BICUBIC, **asked))
    for quality in (0, 101, "best"):
        with pytest.raises(OptionError, match="allowed are 1 to 100"):
            UpscaleOptions(quality=quality)


def test_quality_is_applied(tmp_path: Path) -> None:
    made = image("RGB", (40, 30))
    made.save(tmp_path / "in.png")
    sizes = {}
    for quality, name in ((20, "a.jpg"), (95, "b.jpg"), (20, "a.webp"), (None, "c.webp")):
        asked = replace(BICUBIC, quality=quality, lossless=quality is None)
        upscale_still(tmp_path / "in.png", tmp_path / name, asked)
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["a.jpg"] * 1.5 < sizes["b.jpg"]
    assert sizes["a.webp"] * 1.5 < sizes["c.webp"]
    with Upscaler(2, "bicubic", threads=1) as upscaler:
        assert (np.asarray(Image.open(tmp_path / "c.webp")) == upscaler.upscale(np.array(made))).all()


def test_descriptions(tmp_path: Path) -> None:
    image("RGB").save(tmp_path / "in.jpg", icc_profile=b"x" * 200)
    facts = describe_still(tmp_path / "in.jpg")
    assert (facts["format"], facts["size"], facts["mode"]) == ("JPEG", "10x7", "RGB")
    assert facts["icc_profile"]
    assert not facts["exif"]


def test_stills_are_known_by_their_extension_whatever_its_case() -> None:
    assert all(is_still(Path(f"x{s}")) and is_still(Path(f"x{s.upper()}")) for s in STILL_SUFFIXES)
    assert not any(is_still(Path(f"x{s}")) for s in (".mp4", ".gif", "", ".onnx"))
