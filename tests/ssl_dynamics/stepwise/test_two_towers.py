"""Two towers: singular modes in place of eigenmodes, against the integrated flow and autograd."""

from __future__ import annotations

import numpy as np
import torch

from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import linear, two_towers


def _normal(*shape, name="towers"):
    return torch.randn(*shape, generator=generator(0, name), dtype=torch.float64)


def _problem():
    """Γ of 6 × 5 inputs with well separated singular values, and its modes."""
    left, right = (torch.linalg.qr(_normal(k, k, name=str(k))).Q for k in (6, 5))
    gamma = torch.tensor([3.0, 1.5, 0.6, 0.2, 0.05], dtype=torch.float64)
    covariance = left[:, :5] * gamma @ right.T
    return covariance, two_towers.TowerModes(gamma, left[:, :5].T, right.T)


def test_the_modes_are_those_of_the_plain_sum_and_not_symmetrised():
    x, y = _normal(8, 4, name="x"), _normal(8, 3, name="y")
    covariance = sum(np.outer(a, b) for a, b in zip(x.numpy(), y.numpy(), strict=True)) / 8
    modes = two_towers.tower_modes(x, y)
    assert np.allclose(modes.left.T @ modes.gamma.diag() @ modes.right, covariance)
    assert (modes.gamma.diff() <= 0).all()


def test_the_gradients_are_those_of_the_loss():
    covariance, _ = _problem()
    w, v = (_normal(3, k, name="w").requires_grad_() for k in (6, 5))
    two_towers.loss(w, v, covariance).backward()
    ours = two_towers.gradients(w.detach(), v.detach(), covariance)
    assert torch.allclose(ours[0], w.grad, atol=1e-12)
    assert torch.allclose(ours[1], v.grad, atol=1e-12)


def test_equal_aligned_starts_follow_the_closed_form():
    covariance, modes = _problem()
    start, rotation = torch.tensor([1e-3, 2e-3, 5e-4]).double(), torch.linalg.qr(_normal(3, 3)).Q
    times = torch.linspace(0, 8, 9, dtype=torch.float64)
    w, v = ((rotation * start) @ vectors[:3] for vectors in (modes.left, modes.right))
    left, right = two_towers.integrate_flow(w, v, covariance, times)
    s = two_towers.singular_values(times, modes.gamma[:3], start)
    assert float((left - rotation * s[:, None] @ modes.left[:3]).abs().max()) < 1e-8
    assert float((right - rotation * s[:, None] @ modes.right[:3]).abs().max()) < 1e-8
    by_hand = (1.5 + (1 / start[1] ** 2 - 1.5) * np.exp(-4 * 1.5 * 2.0)) ** -0.5
    assert torch.allclose(s[2, 1], by_hand)
    assert float(two_towers.loss(left, right, covariance)[-1]) < 1e-2


def test_a_generic_small_start_follows_the_matched_one_and_keeps_its_invariant():
    covariance, modes = _problem()
    w, v = (1e-8 * _normal(2, k, name=f"generic {k}") for k in (6, 5))
    matched = two_towers.match_start(w, v, modes)
    tau = two_towers.critical_times(modes.gamma[:2], matched.singular_values)
    times = torch.linspace(0, 1.5 * float(tau.max()), 400, dtype=torch.float64)
    left, right = two_towers.integrate_flow(w, v, covariance, times)
    found = torch.linalg.svdvals(left @ covariance @ right.mT)
    assert torch.allclose(linear.crossing_times(times, found), tau.sort().values, rtol=1e-3)
    wanted = torch.linalg.svdvals(matched.weights(modes.gamma[:2] ** -0.5, modes.left[:2]))
    assert torch.allclose(torch.linalg.svdvals(left[-1]), wanted, atol=1e-3)
    balance = (left**2).sum((1, 2)) - (right**2).sum((1, 2))
    assert float((balance - balance[0]).abs().max()) < 1e-9


def test_tied_towers_on_a_symmetric_gamma_run_at_half_the_speed_of_one():
    gamma, start = torch.tensor([2.0, 0.5]).double(), torch.tensor([1e-4, 1e-4]).double()
    times = torch.linspace(0, 3, 5, dtype=torch.float64)
    one = linear.singular_values(times, gamma, start)
    assert torch.allclose(two_towers.singular_values(2 * times, gamma, start), one)
