"""Muon: orthogonal steps for matrices, Adam's for the rest; resumed to the same bits."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from vsr.training.muon import STEP, Muon, orthogonal  # noqa: E402


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 24), columns=st.integers(1, 80), seed=st.integers(0, 2**31), size=st.floats(1e-4, 1e4))
def test_matrices_become_about_orthogonal_in_their_own_directions(rows, columns, seed, size):
    torch.manual_seed(seed)
    matrices = torch.randn(3, rows, columns) * size
    got = orthogonal(matrices)
    assert got.shape == matrices.shape
    for matrix, step in zip(matrices, got, strict=True):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        turned = left.T @ step @ right.T  # in the matrix's own singular directions
        assert torch.allclose(turned, torch.diag(torch.diag(turned)), atol=2e-3)
        sound = values > 0.05 * values[0]  # five rounds do not lift what is almost nothing
        assert torch.diag(turned)[sound].min() > 0.6
        assert torch.diag(turned).max() < 1.25


def parameters():
    torch.manual_seed(1)
    shapes = ((8, 4), (8, 4), (6, 5, 3, 3), (7,))
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def walk(optimizer, params, steps, start=0):
    for number in range(start, start + steps):
        torch.manual_seed(number)
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()


def test_a_step_is_as_long_as_the_rate_says_and_kernels_count_as_matrices():
    params = parameters()
    before = [p.detach().clone() for p in params]
    walk(Muon(params, lr=0.01), params, 1)
    tall, kernel, bias = (before[k] - params[k].detach() for k in (0, 2, 3))
    assert torch.linalg.svdvals(tall).max() == pytest.approx(STEP * 0.01 * 2**0.5, rel=0.3)
    values = torch.linalg.svdvals(kernel.reshape(6, 45)) / (STEP * 0.01)
    assert values.min() > 0.6
    assert values.max() < 1.25
    assert torch.allclose(bias.abs(), torch.full((7,), 0.01), rtol=1e-3), "Adam's first step is as long as its rate"


def test_a_changed_rate_holds_for_both_halves():
    params = parameters()
    optimizer = Muon(params, lr=0.01)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in params]
    walk(optimizer, params, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, params, strict=True))


def test_a_resumed_walk_ends_at_the_same_bits():
    whole, cut = parameters(), parameters()
    walk(Muon(whole, lr=0.01), whole, 6)
    first = Muon(cut, lr=0.01)
    walk(first, cut, 3)
    second = Muon(cut, lr=0.5)  # the rate comes with the state
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    walk(second, cut, 3, start=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_gradients_are_forgotten_by_both_halves():
    params = parameters()
    optimizer = Muon(params, lr=0.01)
    walk(optimizer, params, 1)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
