"""`vsr verify` and `vsr info` of stills and sequences: right ones agree, and each kind of wrong one differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vsr
from vsr.comparison.compare_pictures import compare_pictures, has_pictures
from vsr.errors import MissingInputError, OptionError, UnsupportedInputError
from vsr.inspect import describe
from vsr.options import UpscaleOptions
from vsr.pictures.attached import Attached
from vsr.pictures.files import read_picture, write_picture
from vsr.stills import upscale_still
from vsr.trim import Trim

Clip = Callable[..., Path]
BICUBIC = {"scale": 2, "model": "bicubic", "threads": 1}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A sequence of four pictures with a profile, and what it becomes."""
    (tmp_path / "in").mkdir()
    y, x, c = np.mgrid[:24, :32, :3]
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    for n in range(1, 5):
        samples = (128 + 90 * np.sin(x / 4 + n * 1.5) * np.cos(y / 5 + c)).astype(np.uint8)
        attached = Attached(icc=b"p" * 200, exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=b"<x/>")
        write_picture(samples, tmp_path / "in" / f"{n}.png", ".png", attached)
    vsr.upscale(tmp_path / "in" / "%d.png", tmp_path / "out" / "%d.png", **BICUBIC)
    return tmp_path / "in" / "%d.png", tmp_path / "out" / "%d.png"


def differing(input: Path, output: Path) -> list[str]:
    return [c.name.removeprefix("pictures: ") for c in compare_pictures(input, output, decode=True).differences]


def test_a_right_sequence_agrees(pair: tuple[Path, Path]) -> None:
    result = compare_pictures(*pair, decode=True)
    assert result.ok, result.differences
    assert result.scale == 2
    names = [c.name for c in result.checks]
    assert {"pictures: count", "pictures: numbers", "pictures: EXIF data", "pictures: likeness"} <= set(names)


def test_wrong_ones_differ(pair: tuple[Path, Path]) -> None:
    folder = pair[1].parent
    good = read_picture(folder / "3.png")

    def put(samples: np.ndarray, attached: Attached) -> list[str]:
        write_picture(samples, folder / "3.png", ".png", attached)
        return differing(*pair)

    assert put(good.samples, Attached(exif=good.attached.exif, xmp=b"<x/>")) == ["colour profile"]
    assert put(good.samples, Attached(icc=good.attached.icc)) == ["EXIF data", "XMP"]
    assert put(good.samples[::-1, ::-1], good.attached) == ["likeness"]
    assert put(read_picture(folder / "2.png").samples, good.attached) == ["likeness"], "that of another frame"
    assert put(good.samples[:, :-2], good.attached) == ["%d.png: all of one kind"]
    (folder / "3.png").unlink()
    assert differing(*pair)[:2] == ["count", "numbers"]


def test_against_videos(pair: tuple[Path, Path], clip: Clip, tmp_path: Path) -> None:
    vsr.upscale(pair[0], tmp_path / "out.mkv", **BICUBIC)
    assert compare_pictures(pair[0], tmp_path / "out.mkv", decode=True).ok
    source = clip("v.mkv")
    vsr.upscale(source, tmp_path / "v" / "%d.png", **BICUBIC)
    assert compare_pictures(source, tmp_path / "v" / "%d.png", decode=True).ok
    (tmp_path / "v" / "12.png").unlink()
    assert differing(source, tmp_path / "v" / "%d.png") == ["count"]


def test_stills(pair: tuple[Path, Path], tmp_path: Path) -> None:
    still = pair[0].parent / "1.png"
    upscale_still(still, tmp_path / "big.tif", UpscaleOptions(**BICUBIC))
    result = compare_pictures(still, tmp_path / "big.tif", decode=True)
    assert result.ok, result.differences
    Image.open(tmp_path / "big.tif").convert("L").save(tmp_path / "grey.png")
    assert {"channels", "XMP"} <= set(differing(still, tmp_path / "grey.png"))


def test_what_cannot_be_compared_is_refused(pair: tuple[Path, Path], clip: Clip, tmp_path: Path) -> None:
    still = pair[0].parent / "1.png"
    with pytest.raises(UnsupportedInputError, match="is a still image"):
        compare_pictures(still, clip("v.mkv"))
    with pytest.raises(MissingInputError):
        compare_pictures(still, tmp_path / "gone.png")
    with pytest.raises(OptionError, match="parts of image sequences"):
        compare_pictures(*pair, trim=Trim(frames=1))
    assert has_pictures(still, Path("x.mkv"))
    assert not has_pictures(Path("y.mkv"), Path("x.mkv"))


def test_info_of_a_sequence(pair: tuple[Path, Path]) -> None:
    (pair[0].parent / "2.png").unlink()
    facts = describe(pair[0])
    assert (facts["pictures"], facts["missing"], facts["first_missing"]) == (3, 1, 2)
    assert (facts["first"], facts["last"], facts["size"], facts["bits"]) == ("1.png", "4.png", "32x24", 8)
