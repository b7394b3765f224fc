"""The codec degradation: what comes out lies where the pristine pictures are, and is what the seed says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.training.conftest import picture
from vsr.errors import TrainingError
from vsr.metrics import psnr
from vsr.training import codec
from vsr.training import prepare as preparing
from vsr.training.codec import CODECS, KERNELS, Degradation, decode, encode, pans
from vsr.training.data import PatchData
from vsr.training.prepare import degrade, prepare


def moving(length: int, height: int = 144, width: int = 192) -> list[np.ndarray]:
    """A clip whose pictures all differ: windows over one picture, three pixels apart."""
    whole = picture(4, height, width + 3 * length)[..., 0]
    return [np.ascontiguousarray(whole[:, 3 * k : 3 * k + width]) for k in range(length)]


@pytest.mark.parametrize("encoder", [c.encoder for c in CODECS])
def test_decoded_pictures_are_those_that_went_in_each_at_its_place(encoder):
    clip = moving(9)
    chosen = next(c for c in CODECS if c.encoder == encoder)
    finest, coarsest = (decode(encode(clip, encoder, crf, chosen.presets[0]), len(clip)) for crf in chosen.crf)
    for number, (luma, good, bad) in enumerate(zip(clip, finest, coarsest, strict=True)):
        assert good.shape == luma.shape
        assert good.dtype == np.uint8
        nearest = max(range(len(clip)), key=lambda k, good=good: psnr(clip[k], good))
        assert nearest == number  # B-pictures come in another order than they are shown
        assert psnr(luma, bad) < psnr(luma, good)
        assert 28 < psnr(luma, good) < 60


@pytest.mark.parametrize("encoder", [c.encoder for c in CODECS])
def test_equal_pictures_give_equal_bits(encoder):
    clip = moving(4, 96, 96)
    preset = next(c for c in CODECS if c.encoder == encoder).presets[0]
    one, other = (decode(encode(clip, encoder, 30, preset), 4) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kernels_shrink_about_the_centre_of_pixels(kernel, scale):
    ramp = (2 * np.arange(120)[None].repeat(96, 0)).clip(0, 255).astype(np.uint8)
    small = Degradation(kernel, 0.0, "libx264", 23, "fast").shrink(ramp, scale)
    assert small.shape == (96 // scale, 120 // scale)
    inner = small[5:-5, 5:-5].astype(float)
    wanted = 2 * (np.arange(120 // scale) * scale + (scale - 1) / 2)[5:-5]  # where MATLAB's pixels lie
    assert np.abs(inner - wanted).max() <= 1.0
    blurred = Degradation(kernel, 0.5, "libx264", 23, "fast").shrink(picture(1, 96, 120)[..., 0], scale)
    sharp = Degradation(kernel, 0.0, "libx264", 23, "fast").shrink(picture(1, 96, 120)[..., 0], scale)
    assert blurred.std() < sharp.std()


@given(seed=st.integers(0, 2**32), side=st.integers(16, 400))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_is_within_the_stated_bounds(seed, side):
    drawn = Degradation.draw(np.random.default_rng(seed), side)
    chosen = next(c for c in CODECS if c.encoder == drawn.encoder)
    assert chosen.crf[0] <= drawn.crf <= chosen.crf[1]
    assert drawn.preset in chosen.presets
    assert 0 <= drawn.blur <= codec.LARGEST_BLUR
    assert drawn.encoder == "libx264" or side >= codec.SMALLEST
    assert drawn == Degradation.draw(np.random.default_rng(seed), side)


def test_every_codec_is_drawn_as_often_as_it_says():
    drawn = [Degradation.draw(np.random.default_rng(k), 200).encoder for k in range(1000)]
    for chosen in CODECS:
        assert drawn.count(chosen.encoder) / 1000 == pytest.approx(chosen.share, abs=0.06)


@given(seed=st.integers(0, 1000), size=st.tuples(st.integers(30, 200), st.integers(30, 200)), length=st.integers(1, 14))
@settings(max_examples=60, deadline=None)
def test_windows_stay_on_the_still(seed, size, length):
    still = np.arange(60 * 90, dtype=np.uint32).reshape(60, 90).astype(np.uint8)
    for clip in pans(still, length, 3, size, np.random.default_rng(seed)):
        assert {window.shape for window in clip} == {(min(size[0], 60), min(size[1], 90))}
        assert len(clip) == length


def test_lost_pictures_are_not_overlooked(monkeypatch):
    with pytest.raises(ValueError, match="5 pictures went in"):
        decode(encode(moving(4), "libx264", 23, "veryfast"), 5)
    monkeypatch.setattr(codec, "encode", lambda *_: encode(moving(3), "libx264", 23, "veryfast"))
    with pytest.raises(TrainingError, match=r"cannot make compressed pictures .*libx264.*2 pictures went in"):
        Degradation("bicubic", 0.0, "libx264", 23, "fast").apply(moving(2), 2)


def test_a_database_of_compressed_pictures(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "PANS_PER_STILL", 4)
    monkeypatch.setattr(preparing, "RUN_LENGTH", 5)
    out, again = tmp_path / "c.h5", tmp_path / "again.h5"
    digest = prepare(photographs, out=out, degradation="codec", say=lambda _: None)
    assert digest != prepare(photographs, out=tmp_path / "clean.h5", say=lambda _: None)
    clean = encoded = 0
    for scale in (2, 3, 4):
        patches = PatchData(out, scale, 8)
        for index in (*patches.training, 0):
            low, high = patches.pair(index)
            if np.array_equal(low, degrade(high, scale)):
                clean += 1
            else:
                encoded += 1
                # nowhere else: shifted by a pixel it fits worse
                assert psnr(low, degrade(high, scale)) > psnr(low[:, 1:], degrade(high, scale)[:, :-1])
    assert 0.2 < clean / (clean + encoded) < 0.7
    assert prepare(photographs, out=again, degradation="codec", say=lambda _: None) == digest
    one, other = (PatchData(path, 3, 8) for path in (out, again))
    assert all(np.array_equal(one.pair(k)[0], other.pair(k)[0]) for k in one.training)
    assert prepare(photographs, out=again, degradation="codec", seed=2, say=lambda _: None) != digest


def test_a_still_that_is_held_out_is_never_trained_on(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "HOLD_OUT_EVERY", 3)
    monkeypatch.setattr(preparing, "PANS_PER_STILL", 2)
    monkeypatch.setattr(preparing, "RUN_LENGTH", 3)
    prepare(photographs, out=tmp_path / "c.h5", degradation="codec", say=lambda _: None)
    patches = PatchData(tmp_path / "c.h5", 2, 8)
    held = np.asarray(Image.open(sorted(photographs.iterdir())[1]).resize((180, 150), Image.Resampling.LANCZOS))
    assert len(patches.validation) == 2 * 3
    for _, high in patches.validation:
        assert abs(high.mean() - (held.mean() * 219 / 255 + 16)) < 6
