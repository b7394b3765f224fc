"""Capsules that are made here are read by others, and the other way round; memory lives while somebody reads it."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from vsr.gpu import dlpack
from vsr.gpu.dlpack import Rows, capsule_of, rows_of
from vsr.surface import CPU


class Owner:
    """Of samples with padded rows."""

    def __init__(self, bits: int) -> None:
        kind: Any = {8: np.uint8, 16: np.uint16}[bits]
        self.samples = np.arange(5 * 12, dtype=kind).reshape(5, 12)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", [(5, 10), (5, 4, 2)])
def test_a_consumer_reads_the_samples_and_keeps_their_owner(bits: int, shape: tuple[int, ...]) -> None:
    owner = Owner(bits)
    want = owner.samples[:, : int(np.prod(shape[1:]))].reshape(shape).copy()
    rows = Rows(owner.samples.ctypes.data, 12 * bits // 8, want[0].nbytes, 5)
    alive, capsule = weakref.ref(owner), capsule_of(rows, shape, (CPU, 0), bits, owner)
    assert rows_of(capsule) == rows
    tensor = torch.from_dlpack(capsule)
    with pytest.raises(ValueError, match="incorrect name"):
        rows_of(capsule)  # it is consumed
    del owner, capsule
    gc.collect()
    assert np.array_equal(tensor.numpy(), want)
    assert alive() is not None
    holder = [tensor]
    del tensor
    thread = threading.Thread(target=holder.clear)  # as an encoder's own
    thread.start()
    thread.join()
    assert alive() is None
    assert dlpack._alive == {}


def test_a_capsule_that_nobody_consumes_lets_go_too() -> None:
    owner = Owner(8)
    alive = weakref.ref(owner)
    capsule = capsule_of(Rows(owner.samples.ctypes.data, 12, 12, 5), (5, 12), (CPU, 0), 8, owner)
    del owner
    assert alive() is not None
    del capsule
    assert alive() is None


def test_only_rows_of_samples_beside_each_other_are_rows() -> None:
    samples = torch.zeros((6, 8), dtype=torch.uint8)
    assert rows_of(samples[1:, 2:6].__dlpack__()) == Rows(samples.data_ptr() + 8 + 2, 8, 4, 5)
    assert rows_of(samples.__dlpack__()).pitch == 8
    for other in (samples[:, ::2], samples.T, samples[0]):
        with pytest.raises(ValueError, match="a tensor of shape"):
            rows_of(other.__dlpack__())
    with pytest.raises(ValueError, match="invalid PyCapsule"):
        rows_of(samples)
