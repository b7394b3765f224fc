import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.errors import InputError, OptionError
from vsr.training import teacher
from vsr.training.data import PatchData
from vsr.training.prepare import degrade, prepare
from vsr.training.tones import BRIGHTNESS, STEEPEST, Degradation, draw_curve, stretch


def quiet(_text):
    pass


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fresh_patches_without_tones_are_those_of_whole_pictures(scale, database):
    """What `prepare` makes of a picture, and what is made of a patch with its margin, is the same."""
    patches = PatchData(database, scale, 12, fresh=True)
    whole = {index: patches.pair(index) for index in patches.training}
    low, high = patches.batch(3, 4, 12)
    for small, large in zip(low[:, 0], high[:, 0], strict=True):
        assert any(_found(small, large, picture, scale) for picture in whole.values())


def _found(small, large, picture, scale):
    """Whether a pair of patches lies in a picture, in any of its eight orientations."""
    low, high = picture
    for turn in range(4):
        for flip in (False, True):
            one, other = (np.rot90(plane, turn) for plane in picture)
            low, high = (one[:, ::-1], other[:, ::-1]) if flip else (one, other)
            windows = np.lib.stride_tricks.sliding_window_view(low, small.shape)
            for y, x in np.argwhere((windows == np.rint(small * 255)).all(axis=(2, 3))):
                place = high[y * scale : (y + len(small)) * scale, x * scale : (x + len(small)) * scale]
                if np.array_equal(place, np.rint(large * 255)):
                    return True
    return False


def test_fresh_patches_are_rounded_after_their_tones(database):
    """With contrast raised, a stored low resolution has steps of more than a code value; a fresh one has not."""
    for fresh in (False, True):
        patches = PatchData(database, 2, 16, fresh=fresh)
        low, high = patches.batch(3, 4, 12, contrast=5.0)
        whole = np.abs(low * 255 - np.rint(low * 255)).max() < 1e-3
        assert whole == fresh
        for small, large in zip(low[:, 0], high[:, 0], strict=True):
            again = degrade(np.rint(large * 255).astype(np.uint8), 2)
            assert np.abs(again - small * 255)[3:-3, 3:-3].max() <= (1e-3 if fresh else 5.0)


def test_a_step_always_has_the_same_fresh_patches(database):
    one, other = (PatchData(database, 2, 12, fresh=True) for _ in range(2))
    drawn = [data.batch(1, 9, 6, 4.0, curves=0.5) for data in (one, other)]
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True))
    assert not np.array_equal(drawn[0][1], one.batch(1, 10, 6, 4.0, curves=0.5)[1])


def test_answers_get_the_tones_of_their_patches_and_curves_have_none(database, tmp_path):
    data = PatchData(database, 2, 12, fresh=True)
    teacher.write_answers(data, lambda low: low.repeat(2, axis=0).repeat(2, axis=1), tmp_path / "answers.npy", quiet)
    data.take_answers(tmp_path / "answers.npy", "of twice")
    low, high = data.batch(3, 4, 12, 5.0, taught=True)
    for small, large in zip(low[:, 0], high[:, 0], strict=True):
        # fresh: half a code value of its own rounding, and of the stored one's five times as much
        assert np.abs(small.repeat(2, axis=0).repeat(2, axis=1) - large).max() <= 3.1 / 255
    assert np.array_equal(data.batch(3, 4, 12, 5.0)[0], low)
    assert not np.array_equal(data.batch(3, 4, 12, 5.0)[1], high)
    bent = [data.batch(3, 4, 12, 5.0, curves=1.0, taught=taught)[1] for taught in (False, True)]
    assert np.array_equal(*bent)


@given(st.integers(0, 10**6), st.floats(1.0, 20.0), st.floats(0.001, 1.0))
def test_stretched_contrast_stays_within_range(seed, most, span):
    rng = np.random.default_rng(seed)
    patch = (rng.random((6, 6)) * span + rng.random() * (1.0 - span)).astype(np.float32)
    factor, offset = stretch(patch, most, rng)
    assert 1.0 <= factor <= most + 1e-9
    out = patch * factor + offset
    assert out.min() >= -1e-5
    assert out.max() <= 1.0 + 1e-5
    middle = (patch.min() + patch.max()) / 2
    assert abs((out.min() + out.max()) / 2 - middle) <= BRIGHTNESS + (factor - 1) * 0.5 + 1e-5


@given(st.integers(0, 10**6))
def test_curves_rise_within_range_and_no_steeper_than_said(seed):
    rng = np.random.default_rng(seed)
    curve = draw_curve(rng.random((5, 5)).astype(np.float32), rng)
    x = np.linspace(-0.2, 1.2, 2000, dtype=np.float32)
    y = curve(x)
    assert y.min() >= -1e-6
    assert y.max() <= 1.0 + 1e-6
    slope = np.diff(y.astype(np.float64)) / np.diff(x.astype(np.float64))
    assert slope.min() >= -1e-3
    assert slope.max() <= STEEPEST * 1.01


def test_shrinking_takes_no_more_than_the_margin():
    rng = np.random.default_rng(3)
    for scale in (2, 3, 4):
        large = rng.random((1, 20 * scale, 20 * scale), dtype=np.float32)
        low, high = Degradation(scale, 12)(large)
        assert low.shape == (1, 1, 12, 12)
        assert high.shape == (1, 1, 12 * scale, 12 * scale)
        whole = degrade(np.rint(large[0] * 255).astype(np.uint8), scale)
        assert np.array_equal(whole[4:-4, 4:-4], np.rint(low[0, 0] * 255))


def test_fresh_patches_need_clean_data_and_room(photographs, database, tmp_path):
    with pytest.raises(InputError, match="smaller than a patch"):
        PatchData(database, 4, 40, fresh=True)
    out = tmp_path / "codec.h5"
    prepare(photographs, out=out, degradation="codec", say=quiet)
    with pytest.raises(OptionError, match="holds codec data"):
        PatchData(out, 2, 12, fresh=True)
