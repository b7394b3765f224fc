import math

import numpy as np
import pytest

from vsr.errors import InputError, OptionError
from vsr.metrics import gaussian, psnr, rgb_to_luma_bt601, ssim


def test_psnr_by_hand():
    a = np.zeros((10, 10), np.uint8)
    assert psnr(a, a + np.uint8(1)) == pytest.approx(48.1308036086791)  # 20·log10(255)
    assert psnr(a, np.full((10, 10), 255)) == 0.0
    assert psnr(a, a) == math.inf
    assert psnr(np.zeros((4, 4)), np.full((4, 4), 0.1), peak=1.0) == pytest.approx(20.0)


def test_psnr_does_not_wrap_unsigned_differences():
    a, b = np.full((4, 4), 1, np.uint8), np.full((4, 4), 2, np.uint8)
    assert psnr(a, b) == psnr(b, a) == pytest.approx(48.1308036086791)


def test_psnr_leaves_the_border_out():
    a, b = np.zeros((10, 12)), np.zeros((10, 12))
    b[:2], b[-2:], b[:, :2], b[:, -2:] = 255, 255, 255, 255
    assert psnr(a, b, border=2) == math.inf
    assert psnr(a, b, border=1) < 20


def test_ssim_of_equal_pictures_is_one_and_noise_lowers_it():
    rng = np.random.default_rng(0)
    a = rng.random((40, 30)) * 255
    assert ssim(a, a) == pytest.approx(1.0)
    assert 0.5 < ssim(a, a + rng.normal(0, 10, a.shape)) < 0.999


def test_ssim_by_hand_for_constants():
    # no variance: (2ab + c1) / (a² + b² + c1)
    c1 = 2.55**2
    wanted = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim(np.full((11, 11), 100), np.full((11, 11), 120)) == pytest.approx(wanted)


def test_ssim_agrees_with_the_definition_written_plainly():
    rng = np.random.default_rng(1)
    a, b = rng.random((13, 14)) * 255, rng.random((13, 14)) * 255
    w = np.outer(gaussian(), gaussian())
    c1, c2 = 2.55**2, 7.65**2
    values = []
    for y in range(3):
        for x in range(4):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum()
            cov = (w * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    assert ssim(a, b) == pytest.approx(np.mean(values))


def test_luma_of_known_colours():
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    luma = rgb_to_luma_bt601(rgb)
    assert luma.dtype == np.uint8
    assert luma.tolist() == [[16, 235, 81, 145, 41]]
    assert rgb_to_luma_bt601(rgb, rounded=False)[0, 2] == pytest.approx(81.481)


def test_luma_of_grey_is_that_of_equal_channels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(rgb_to_luma_bt601(grey), rgb_to_luma_bt601(np.repeat(grey[..., None], 3, 2)))


def test_bad_arguments_are_named():
    a = np.zeros((12, 12))
    with pytest.raises(InputError, match="differ in shape"):
        psnr(a, np.zeros((12, 13)))
    with pytest.raises(InputError, match="leaves nothing"):
        psnr(a, a, border=6)
    with pytest.raises(InputError, match="H x W"):
        psnr(np.zeros(5), np.zeros(5))
    with pytest.raises(OptionError, match="border"):
        psnr(a, a, border=-1)
    with pytest.raises(OptionError, match="peak"):
        psnr(a, a, peak=0)
    with pytest.raises(InputError, match="11x11"):
        ssim(a, a, border=1)
    with pytest.raises(InputError, match="shape"):
        rgb_to_luma_bt601(np.zeros((4, 4, 2)))
