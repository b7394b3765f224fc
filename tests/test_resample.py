import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.errors import InputError, OptionError
from vsr.resample import TAPS, cubic, imresize, polyphase_kernel, polyphase_windows, taps


def test_cubic_has_keys_values():
    assert cubic(0.0) == 1.0
    assert cubic([1.0, 2.0, 2.5, -1.0]).tolist() == [0.0, 0.0, 0.0, 0.0]
    assert cubic(0.5) == pytest.approx(0.5625)
    assert cubic(1.5) == pytest.approx(-0.0625)
    assert cubic(0.5, a=-0.75) == pytest.approx(0.59375)


def test_the_kernel_sums_to_one_at_every_phase():
    for phase in np.linspace(0, 1, 13):
        assert cubic(phase + np.arange(-3, 4)).sum() == pytest.approx(1.0)


def test_enlarging_twice_has_the_known_weights():
    # phase 1/4 of the Keys kernel at a = -0.5, by hand: (-9, 111, 29, -3) / 128
    impulse = np.zeros((1, 9))
    impulse[0, 4] = 128.0
    row = imresize(impulse, size=(1, 18))[0]
    assert np.allclose(row[4:14], [0, -3, -9, 29, 111, 111, 29, -9, -3, 0])


def test_shrinking_averages_with_the_widened_kernel():
    # 1/2: the kernel is 8 wide; weights at distances ±0.25, 0.75, 1.25, 1.75 of it, halved
    index, weight = taps(32, 16, 0.5)
    expected = cubic(np.array([1.75, 1.25, 0.75, 0.25, 0.25, 0.75, 1.25, 1.75])) / 2
    assert np.allclose(weight[8], expected)
    assert index[8].tolist() == list(range(13, 21))


def test_without_antialiasing_shrinking_takes_four_samples():
    assert taps(32, 16, 0.5, antialias=False)[1].shape == (16, 4)


def test_borders_mirror_with_the_edge_sample_repeated():
    index, _ = taps(5, 10, 2.0)
    assert index[0].tolist() == [1, 0, 0, 1]
    assert index[-1].tolist() == [3, 4, 4, 3]


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (17, 13), (5, 40)])
@pytest.mark.parametrize("scale", [4, 3, 0.5, 1 / 3, 0.25, 1.7])
def test_a_flat_picture_stays_flat(shape, scale):
    out = imresize(np.full(shape, 77, np.uint8), scale)
    assert out.shape == tuple(int(np.ceil(scale * n - 1e-9)) for n in shape)
    assert out.dtype == np.float64
    assert np.allclose(out, 77.0)


def test_a_quadratic_survives_enlarging_away_from_the_borders():
    x = np.arange(20.0)
    wanted = ((np.arange(60) + 0.5) / 3 - 0.5) ** 2
    out = imresize(np.tile(x * x, (4, 1)), 3)
    assert np.allclose(out[6, 6:-6], wanted[6:-6])


def test_channels_are_independent():
    image = np.random.default_rng(0).random((12, 15, 3))
    out = imresize(image, 1 / 3)
    assert out.shape == (4, 5, 3)
    assert np.allclose(out[:, :, 1], imresize(image[:, :, 1], 1 / 3))


def test_agrees_with_a_dense_matrix_written_from_the_definition():
    image = np.random.default_rng(1).random((24, 18)) * 255

    def dense(size_in, size_out):
        scale = size_out / size_in
        matrix = np.zeros((size_out, size_in))
        for i in range(size_out):
            u = (i + 0.5) / scale - 0.5
            for j in range(-60, 60 + size_in):
                m = j % (2 * size_in)
                matrix[i, m if m < size_in else 2 * size_in - 1 - m] += cubic(min(scale, 1) * (u - j))
        return matrix / matrix.sum(axis=1, keepdims=True)

    for size in ((8, 6), (12, 9), (72, 54), (17, 31)):
        wanted = dense(24, size[0]) @ image @ dense(18, size[1]).T
        assert np.allclose(imresize(image, size=size), wanted)


def test_bad_arguments_are_named():
    image = np.zeros((4, 4))
    with pytest.raises(InputError, match=r"\(4,\)"):
        imresize(np.zeros(4), 2)
    with pytest.raises(InputError, match="at least one pixel"):
        imresize(np.zeros((0, 4)), 2)
    with pytest.raises(OptionError, match="either scale or size"):
        imresize(image)
    with pytest.raises(OptionError, match="either scale or size"):
        imresize(image, 2, size=(3, 3))
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="positive"):
            imresize(image, scale)
    with pytest.raises(OptionError, match="at least 1"):
        imresize(image, size=(0, 3))


@given(
    size=st.integers(1, 70),
    scale=st.integers(1, 4),
    longest=st.integers(2, 20),
    phase=st.sampled_from([0.25, 0.5, 0.75]),
    new_phase=st.sampled_from([0.25, 0.5, 0.75]),
)
def test_blocks_of_an_enlargement_are_its_kernel_at_every_place(size, scale, longest, phase, new_phase):
    kernel = polyphase_kernel(scale, phase, new_phase)
    index, weight = polyphase_windows(size, kernel, longest)
    signal = np.random.default_rng(size).normal(size=size)
    blocks = (signal[index] @ weight.T).ravel()
    padded = np.pad(signal, TAPS // 2, mode="edge")
    places = np.arange(size)[:, None] + np.arange(TAPS)
    assert len(index) * len(weight) >= size * scale
    np.testing.assert_allclose(blocks[: size * scale], (padded[places] @ kernel.T).ravel(), atol=1e-12)
