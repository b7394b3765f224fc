from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("h5py")


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A generated RGB picture with edges and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = sum(np.sin((x * a + y * b) / 3.0) for a, b in rng.uniform(-1, 1, (5, 2)))
    steps = 40.0 * ((x // 9 + y // 13) % 3)
    grey = 110 + 18 * waves + steps
    return np.clip(grey[..., None] + np.array([0, 8, -8]), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """A folder with three generated pictures."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(3):
        Image.fromarray(picture(seed, 300, 360)).save(folder / f"p{seed}.png")
    return folder


@pytest.fixture(scope="session")
def database(photographs, tmp_path_factory) -> Path:
    """A patch database prepared from `photographs`."""
    from vsr.training.prepare import prepare

    out = tmp_path_factory.mktemp("database") / "data.h5"
    prepare(photographs, out=out, say=lambda _: None)
    return out


@pytest.fixture(scope="session", autouse=True)
def _libraries_are_warm():
    """torch's first optimiser and the import of openvino start pools that stay: no leak of the first test."""
    import openvino  # noqa: F401
    import torch

    torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], foreach=True).step()
