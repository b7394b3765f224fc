"""Picture files: 16 bits exactly, everything that comes along byte by byte, and nothing broken taken for whole."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from tests.backends import reference
from vsr.errors import InputError, UnsupportedInputError
from vsr.options import UpscaleOptions
from vsr.pictures.attached import Attached, read_attached
from vsr.pictures.deep import metadata_chunks, write_deep_png
from vsr.pictures.files import fit_format, read_kind, read_picture, turned, write_picture
from vsr.pictures.tiff import write_tiff
from vsr.stills import describe_still, upscale_still

BICUBIC = UpscaleOptions(scale=2, model="bicubic", threads=1)
PIX_FMTS = {2: "gray16le", 3: "rgb48le", 4: "rgba64le"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><!-- \xc3\xa9 --></x:xmpmeta>"


def noise(channels: int, size: tuple[int, int] = (13, 9), largest: int = 65535, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
    return rng.integers(0, largest + 1, shape).astype(np.uint16 if largest > 255 else np.uint8)


def smooth(channels: int, size: tuple[int, int] = (20, 12)) -> np.ndarray:
    """A picture of waves that use all 16 bits and stay away from the ends, where clipping would come in."""
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [np.sin(x / (3 + c) + c) * np.cos(y / (2 + c)) for c in range(channels)]
    values = np.rint(32768 + 20000 * np.stack(waves, axis=2)).astype(np.uint16)
    return values[:, :, 0] if channels == 1 else values


def ffmpeg(*arguments: Any, given: bytes = b"") -> bytes:
    command = ["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    if given:
        command.remove("-nostdin")
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def as_ffmpeg_reads(path: Path, channels: int) -> np.ndarray:
    """The samples of a 16-bit file by another program's decoder."""
    kind = {1: "gray16le", 3: "rgb48le", 4: "rgba64le"}[channels]
    with Image.open(path) as image:
        width, height = image.size
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", kind, "-")
    values = np.frombuffer(raw, np.uint16).reshape(height, width, channels)
    return values[:, :, 0] if channels == 1 else values


def written_by_ffmpeg(path: Path, array: np.ndarray, pix_fmt: str, *options: str) -> None:
    size = f"{array.shape[1]}x{array.shape[0]}"
    source = ["-f", "rawvideo", "-pix_fmt", PIX_FMTS.get(array.shape[2] if array.ndim == 3 else 2, ""), "-s", size]
    ffmpeg(*source, "-i", "-", "-pix_fmt", pix_fmt, *options, path, given=array.tobytes())


# -- 16 bits ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 4]),
    suffix=st.sampled_from([".png", ".tif"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 1000),
    flat=st.booleans(),
)
def test_16_bits_are_read_as_they_were_written(
    channels: int, suffix: str, size: tuple[int, int], seed: int, flat: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    samples = noise(channels, size, seed=seed)
    if flat:  # such that each filter and predictor has its turn
        samples = np.sort(samples // 700 * 3, axis=seed % 2)
    path = tmp_path_factory.mktemp("deep") / f"a{suffix}"
    write_picture(samples, path, suffix, Attached())
    back = read_picture(path).samples
    assert back.dtype == np.uint16
    assert (back == samples).all()
    kind = read_kind(path)
    assert (kind.width, kind.height, kind.channels, kind.bits) == (*size, channels, 16)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_another_program_reads_the_same_16_bits(channels: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    for samples in (noise(channels), smooth(channels)):
        write_picture(samples, path, suffix, Attached(icc=PROFILE))
        assert (as_ffmpeg_reads(path, channels) == samples).all()


@pytest.mark.parametrize(
    ("name", "pix_fmt", "options"),
    [
        ("a.png", "rgb48be", ()),
        ("a.png", "rgb48be", ("-pred", "paeth")),
        ("a.png", "rgba64be", ("-pred", "mixed")),
        ("a.png", "gray16be", ("-pred", "up")),
        *(("a.tif", "rgb48le", ("-compression_algo", c)) for c in ("raw", "packbits", "lzw", "deflate")),
        ("a.tif", "rgba64le", ("-compression_algo", "lzw")),
        ("a.tif", "rgba64le", ("-compression_algo", "raw")),
        ("a.tif", "gray16le", ("-compression_algo", "deflate")),
        ("a.ppm", "rgb48be", ()),
    ],
)
def test_16_bits_of_another_program_are_read(name: str, pix_fmt: str, options: tuple[str, ...], tmp_path: Path) -> None:
    channels = {"g": 1, "rgb4": 3, "rgba": 4}[pix_fmt[:4] if pix_fmt[0] == "r" else "g"]
    for samples in (noise(channels), smooth(channels)):
        written_by_ffmpeg(tmp_path / name, samples, pix_fmt, *options)
        assert (read_picture(tmp_path / name).samples == samples).all()


def test_grey_with_alpha_of_16_bits_keeps_both(tmp_path: Path) -> None:
    samples = noise(4)
    samples[:, :, 1] = samples[:, :, 2] = samples[:, :, 0]
    written_by_ffmpeg(tmp_path / "a.png", samples, "ya16be")
    back = read_picture(tmp_path / "a.png").samples
    assert back.dtype == np.uint16
    assert (back[:, :, 3] == samples[:, :, 3]).all()
    grey = np.frombuffer(
        ffmpeg("-i", tmp_path / "a.png", "-f", "rawvideo", "-pix_fmt", "ya16le", "-"), np.uint16
    ).reshape(9, 13, 2)
    assert (back[:, :, :3] == grey[:, :, :1]).all()


def test_big_endian_and_premultiplied_tiff_files(tmp_path: Path) -> None:
    """Built by hand: one strip, uncompressed, samples in Motorola order, or multiplied with alpha."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    samples = noise(4, (5, 4))
    samples[:, :, 3] = 32768
    for prefix, order, extra in ((b"MM", ">u2", 2), (b"II", "<u2", 1), (b"MM", ">u2", 1)):
        stored = samples.copy()
        if extra == 1:
            stored[:, :, :3] = np.rint(samples[:, :, :3] * (32768 / 65535))
        data = stored.astype(order).tobytes()
        directory = ImageFileDirectory_v2(prefix=prefix)
        layout = {256: 5, 257: 4, 258: (16,) * 4, 259: 1, 262: 2, 273: 0, 277: 4, 278: 4, 279: len(data), 338: extra}
        for tag, value in layout.items():
            directory[tag] = value
        with (tmp_path / "a.tif").open("wb") as file:
            directory.save(file)
            file.write(data)
        back = read_picture(tmp_path / "a.tif").samples
        assert np.abs(back.astype(int) - samples).max() <= (1 if extra == 1 else 0), (prefix, extra)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_enlarged_within_one_code_value(channels: int, suffix: str, tmp_path: Path) -> None:
    samples = smooth(channels)
    write_picture(samples, tmp_path / f"in{suffix}", suffix, Attached())
    report = upscale_still(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", BICUBIC)
    assert report.notes == []
    got = as_ffmpeg_reads(tmp_path / f"out{suffix}", channels)
    for c in range(channels):
        plane, result = (samples, got) if channels == 1 else (samples[:, :, c], got[:, :, c])
        assert np.abs(result - reference.enlarge(plane.astype(float), 2)).max() <= 1


def test_a_transparent_colour_of_16_bits_becomes_alpha(tmp_path: Path) -> None:
    for channels in (1, 3):
        samples = noise(channels)
        key = samples[2, 3]
        data = np.atleast_1d(key).astype(">u2").tobytes()
        buffer = io.BytesIO()
        Image.new("L", (1, 1)).save(buffer, "PNG")
        chunk = PngImagePlugin.putchunk
        chunks = io.BytesIO()
        chunk(chunks, b"tRNS", data)
        write_deep_png(samples, tmp_path / "a.png", chunks.getvalue())
        back = read_picture(tmp_path / "a.png").samples
        assert back.dtype == np.uint16
        assert back.shape == (9, 13, 4)
        assert back[2, 3, 3] == 0
        same = (samples == key) if channels == 1 else (samples == key).all(axis=2)
        assert ((back[:, :, 3] == 0) == same).all()
        assert (back[:, :, :3] == samples.reshape(9, 13, -1)).all()
        assert read_kind(tmp_path / "a.png").channels == 4


def test_fewer_bits_and_no_alpha_are_told(tmp_path: Path) -> None:
    notes: list[str] = []
    fitted = fit_format(noise(4), "a.png", ".jpg", notes.append)
    assert fitted.shape == (9, 13, 3)
    assert fitted.dtype == np.uint8
    assert (fitted == np.rint(noise(4)[:, :, :3] / 257)).all()
    assert len(notes) == 2
    assert fit_format(noise(4), "a.png", ".tif", notes.append) is not None
    assert len(notes) == 2


# -- what comes along -------------------------------------------------------------------------------------------------


def exif_bytes() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    exif.get_ifd(0x8769)[0x829A] = 0.01  # exposure time
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


@settings(max_examples=30, deadline=None)
@given(
    suffix=st.sampled_from([".png", ".jpg", ".webp", ".tif"]),
    channels=st.sampled_from([1, 3]),
    deep=st.booleans(),
    icc=st.binary(min_size=200, max_size=300),
    xmp=st.sampled_from([b"", XMP]),
    dpi=st.sampled_from([None, (300.0, 300.0), (72.0, 144.0)]),
    with_exif=st.booleans(),
)
def test_what_comes_along_is_the_same_bytes(
    suffix: str,
    channels: int,
    deep: bool,
    icc: bytes,
    xmp: bytes,
    dpi: tuple[float, float] | None,
    with_exif: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    exif = exif_bytes() if with_exif else b""
    deep = deep and suffix in (".png", ".tif")
    samples = noise(channels, largest=65535 if deep else 255)
    path = tmp_path_factory.mktemp("along") / f"a{suffix}"
    write_picture(samples, path, suffix, Attached(icc=icc, exif=exif, xmp=xmp, dpi=dpi))
    with Image.open(path) as image:
        image.load()
        back = read_attached(image)
    assert back.icc == icc
    assert back.xmp == xmp
    if suffix != ".webp" and dpi is not None:
        assert back.dpi == pytest.approx(dpi, abs=0.02)
    if suffix != ".tif":
        assert back.exif == exif
    elif with_exif:
        with Image.open(path) as image:
            kept = image.getexif()
            assert (kept[0x0112], kept[0x010F]) == (6, "Camera")
            assert float(kept.get_ifd(0x8769)[0x829A]) == pytest.approx(0.01)
            assert kept.get_ifd(0x8825)[1] == "N"


def captions() -> bytes:
    """Photoshop's resource block with one IPTC record: a caption."""
    record = b"\x1c\x02\x78" + (5).to_bytes(2, "big") + b"Alps!"
    return b"8BIM" + (0x0404).to_bytes(2, "big") + b"\0\0" + len(record).to_bytes(4, "big") + record


def test_captions_and_comments_of_a_jpeg(tmp_path: Path) -> None:
    full = Attached(photoshop=captions(), comment=b"by hand", xmp=XMP)
    write_picture(noise(3, largest=255), tmp_path / "in.jpg", ".jpg", full)
    upscale_still(tmp_path / "in.jpg", tmp_path / "out.jpg", BICUBIC)
    with Image.open(tmp_path / "out.jpg") as image:
        back = read_attached(image)
    assert (back.photoshop, back.comment, back.xmp) == (captions(), b"by hand", XMP)
    for result, lost in (("out.tif", "a comment"), ("out.webp", r"a comment, captions"), ("out.png", "captions")):
        report = upscale_still(tmp_path / "in.jpg", tmp_path / result, BICUBIC)
        assert any("has no place for" in n and lost in n for n in report.notes), report.notes
    with Image.open(tmp_path / "out.tif") as image:
        assert read_attached(image).photoshop == captions()
    with Image.open(tmp_path / "out.png") as image:
        assert image.text["Comment"] == "by hand"  # type: ignore[attr-defined]


@pytest.mark.parametrize("deep", [False, True])
def test_a_pngs_colour_chunks_and_texts_stay(deep: bool, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"cICP", bytes((9, 16, 0, 1)))
    info.add(b"gAMA", (45455).to_bytes(4, "big"))
    info.add_text("Author", "Me")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    samples = noise(3, largest=65535 if deep else 255)
    first = tmp_path / "in.png"
    if deep:
        write_deep_png(samples, first, metadata_chunks(pnginfo=info))
    else:
        Image.fromarray(samples).save(first, pnginfo=info)
    assert upscale_still(first, tmp_path / "out.png", BICUBIC).notes == []
    with Image.open(first) as before, Image.open(tmp_path / "out.png") as after:
        assert read_attached(after).chunks == read_attached(before).chunks
        assert len(read_attached(after).chunks) == 4
        assert read_attached(after).xmp == XMP
    report = upscale_still(first, tmp_path / "out.jpg", BICUBIC)
    assert any("no place for texts" in n for n in report.notes)
    with Image.open(tmp_path / "out.jpg") as image:
        assert read_attached(image).xmp == XMP


def test_metadata_too_large_for_jpeg_is_left_out_with_a_word(tmp_path: Path) -> None:
    huge = Attached(xmp=b"<x>" + b" " * 70000 + b"</x>", exif=exif_bytes())
    write_picture(noise(3, largest=255), tmp_path / "in.png", ".png", huge)
    report = upscale_still(tmp_path / "in.png", tmp_path / "out.jpg", BICUBIC)
    assert any("XMP of 70007 bytes" in n for n in report.notes)
    with Image.open(tmp_path / "out.jpg") as image:
        assert read_attached(image).exif == exif_bytes()


def test_ink_colours_go_through_their_profile(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "in.jpg", icc_profile=PROFILE, quality=100)
    report = upscale_still(tmp_path / "in.jpg", tmp_path / "out.png", BICUBIC)
    assert any("without a profile" in n for n in report.notes), "an RGB profile is none for inks"
    with Image.open(tmp_path / "out.png") as image:
        assert "icc_profile" not in image.info


# -- orientation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_what_pillow_shows(orientation: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    samples = noise(3, (5, 3), largest=255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(samples).save(tmp_path / "a.png", exif=exif.tobytes())
    with Image.open(tmp_path / "a.png") as image:
        want = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(tmp_path / "a.png")
    assert (picture.samples == samples).all()
    upright = picture.upright()
    assert (upright.samples == want).all()
    assert upright.attached.orientation() == 1
    kind = read_kind(tmp_path / "a.png")
    assert (kind.width, kind.height) == (want.shape[1], want.shape[0])
    assert (turned(samples, orientation) == want).all()


# -- broken and odd files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.98])
def test_a_cut_16_bit_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    write_picture(noise(3, (60, 40)), tmp_path / f"whole{suffix}", suffix, Attached())
    data = (tmp_path / f"whole{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"cut\."):
        read_picture(cut)


def test_floating_point_and_wide_integers_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UnsupportedInputError, match="floating-point"):
        read_picture(tmp_path / "f.tif")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(UnsupportedInputError, match="70000"):
        read_picture(tmp_path / "i.tif")


def test_a_tiff_beyond_4_gib_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr.pictures.tiff.LARGEST", 100)
    with pytest.raises(Exception, match="4 GiB"):
        write_tiff(noise(3), tmp_path / "a.tif", {}, {})
    assert not (tmp_path / "a.tif").exists()


def test_pages_of_a_tiff_are_told(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 6), c) for c in (10, 200)]
    pages[0].save(tmp_path / "in.tif", save_all=True, append_images=pages[1:])
    notes: list[str] = []
    assert read_picture(tmp_path / "in.tif", notes.append).samples.mean() == 10
    assert notes == ["in.tif holds 2 pictures; the first is taken"]
    facts = describe_still(tmp_path / "in.tif")
    assert (facts["pictures"], facts["bits"], facts["channels"]) == (2, 8, "grey")


def test_a_progressive_jpeg_is_read(tmp_path: Path) -> None:
    Image.fromarray(noise(3, largest=255)).save(tmp_path / "in.jpg", progressive=True, quality=100)
    with Image.open(tmp_path / "in.jpg") as image:
        want = np.array(image)
    assert (read_picture(tmp_path / "in.jpg").samples == want).all()
