"""The solved linear model against its differential equation, gradient descent and random competitors."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import linear

GAMMA = torch.tensor([5, 3, 2, 1.2, 0.7, 0.5, 0.3, 0.1, 0, -0.1, -0.4, -1], dtype=torch.float64)


def _normal(*shape, seed=0, name="test"):
    return torch.randn(*shape, generator=generator(seed, name), dtype=torch.float64)


def _rotation(size, seed=0):
    return torch.linalg.qr(_normal(size, size, seed=seed, name="rotation")).Q


def _numpy_loss(weights, gamma):
    c = weights @ gamma @ weights.T
    return ((c - np.eye(len(c))) ** 2).sum()


# Modes


def test_gamma_and_its_modes_are_those_of_plain_sums():
    a, b = _normal(9, 2, 3, seed=1), _normal(9, 2, 3, seed=2)
    gamma = np.zeros((6, 6))
    for x, y in zip(a.flatten(1).numpy(), b.flatten(1).numpy(), strict=True):
        gamma += (np.outer(x, y) + np.outer(y, x)) / 18
    modes = linear.feature_modes(a, b)
    wanted = scipy.linalg.eigvalsh(gamma)[::-1]
    assert np.allclose(modes.eigenvalues, wanted, atol=1e-13)
    rebuilt = modes.vectors.T @ modes.eigenvalues.diag() @ modes.vectors
    assert np.allclose(rebuilt, gamma, atol=1e-13)


def test_the_dual_form_gives_the_modes_of_the_large_matrix():
    shared = _normal(7, 40, seed=3)
    a, b = (shared + 0.3 * _normal(7, 40, seed=s) for s in (4, 5))
    dual = linear.feature_modes(a, b)
    full = linear.modes_of((a.T @ b + b.T @ a) / 14)
    assert dual.eigenvalues.shape == (14,)
    assert dual.vectors.shape == (14, 40)
    assert torch.allclose(dual.vectors @ dual.vectors.T, torch.eye(14, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(dual.eigenvalues[:7], full.eigenvalues[:7], atol=1e-12)
    assert torch.allclose(dual.eigenvalues[-7:], full.eigenvalues[-7:], atol=1e-12)
    assert torch.allclose((dual.vectors[:7] * full.vectors[:7]).sum(1).abs(), torch.ones(7).double())
    assert linear.positive_modes(dual.eigenvalues) == linear.positive_modes(full.eigenvalues) == 7


def test_more_modes_than_there_are_are_refused():
    modes = linear.modes_of(torch.eye(3, dtype=torch.float64))
    with pytest.raises(linear.LinearModelError, match="5 modes were asked for, but these views have 3"):
        modes.top(5)


def test_warnings_name_the_loss_floor_and_the_stability_bound():
    gamma = torch.tensor([2.0, 0.5, 0.1, 0.0, -1.0])
    with pytest.warns(linear.LossFloorWarning, match="5 dimensions has only 3 positive.*cannot fall below 2"):
        linear.warn_of_loss_floor(gamma, 5)
    with pytest.warns(linear.StabilityWarning, match=r"0.13 is above the stability bound .* = 0.125"):
        linear.warn_if_unstable(0.13, gamma)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear.warn_of_loss_floor(gamma, 3)
        linear.warn_if_unstable(0.12, gamma)


# Aligned starts


def test_eq_10_solves_the_matrix_equation_in_the_original_coordinates():
    d, start = 4, torch.tensor([1, 2, 0.5, 1], dtype=torch.float64) * 1e-3
    vectors, rotation = _rotation(12).T, _rotation(d, seed=1)
    gamma = vectors.T @ GAMMA.diag() @ vectors
    w0 = rotation @ start.diag() @ vectors[:d]
    times = torch.linspace(0, 6, 13, dtype=torch.float64)

    def velocity(w):
        return -4 * (w @ gamma @ w.T - torch.eye(d)) @ w @ gamma

    path = linear.integrate(velocity, w0, times)
    s = linear.singular_values(times, GAMMA[:d], start)
    predicted = rotation @ torch.diag_embed(s) @ vectors[:d]
    assert float((path - predicted).abs().max()) < 1e-8
    # It is not already true at the start, nor by a wide margin.
    assert float((path[6] - path[0]).abs().max()) > 0.1


def test_the_gradient_is_the_derivative_of_the_loss():
    w, gamma = _normal(3, 12), GAMMA
    leaf = w.clone().requires_grad_()
    ((leaf @ gamma.diag() @ leaf.T - torch.eye(3)) ** 2).sum().backward()
    assert torch.allclose(linear.gradient(w, gamma), leaf.grad, atol=1e-12)


def test_no_overflow_where_the_printed_formula_overflows():
    times = torch.tensor([0.38], dtype=torch.float64)
    gamma, start = torch.tensor([390.0]).double(), torch.tensor([3.6e-7]).double()
    with np.errstate(over="ignore"):
        printed = np.exp(np.float64(8 * 390 * 0.38))
    assert np.isinf(printed)
    assert float(linear.singular_values(times, gamma, start)) == pytest.approx(390**-0.5, rel=1e-14)
    assert float(linear.correlation_eigenvalues(times, gamma, start)) == 1.0


def test_modes_that_do_not_grow():
    times = torch.tensor([0.0, 1.0, 1e6], dtype=torch.float64)
    gamma, start = torch.tensor([[0, -2, 3], [0.1, 0.1, 0]], dtype=torch.float64)
    s = linear.singular_values(times, gamma, start)
    assert s[:, 0].tolist() == [0.1] * 3
    assert float(s[2, 1]) == 0
    # For γ < 0: u = 1/s² obeys du/dt = −8γ(u − γ), solved by hand.
    assert float(s[1, 1]) == pytest.approx((-2 + (100 + 2) * math.exp(16)) ** -0.5, rel=1e-12)
    assert s[:, 2].tolist() == [0.0] * 3
    values = linear.correlation_eigenvalues(times, gamma, start)
    assert torch.allclose(values, gamma * s**2, atol=1e-15)
    assert linear.critical_times(gamma, start)[:2].tolist() == [math.inf] * 2


@given(gamma=st.floats(-50, 50), log_start=st.floats(-10, 0.5), time=st.floats(0, 20), later=st.floats(0, 20))
def test_logistic_identity_and_semigroup(gamma, log_start, time, later):
    gamma, start = torch.tensor([gamma]).double(), torch.tensor([10**log_start]).double()
    both = torch.tensor([time, time + later], dtype=torch.float64)
    s = linear.singular_values(both, gamma, start)
    values = linear.correlation_eigenvalues(both, gamma, start)
    assert torch.allclose(values, gamma * s**2, rtol=1e-9, atol=1e-14)
    # Starting again from s(t) goes on along the same curve.
    again = linear.singular_values(both[1:] - both[:1], gamma, s[0])
    assert torch.allclose(again[0], s[1], rtol=1e-6, atol=1e-300)


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 1))
def test_the_loss_and_its_gradient_do_not_see_a_rotation_of_the_outputs(seed, scale):
    w, u = scale * _normal(4, 12, seed=seed), _rotation(4, seed=seed)
    matched, turned = (linear.match_start(x, torch.eye(12, dtype=torch.float64)[:4]) for x in (w, u @ w))
    assert torch.allclose(linear.gradient(u @ w, GAMMA), u @ linear.gradient(w, GAMMA), atol=1e-10)
    assert _numpy_loss((u @ w).numpy(), np.diag(GAMMA)) == pytest.approx(
        _numpy_loss(w.numpy(), np.diag(GAMMA))
    )
    assert torch.allclose(matched.singular_values, turned.singular_values, rtol=1e-6)
    assert torch.allclose(u @ matched.rotation, turned.rotation, atol=1e-6)


def test_loss_of_eigenvalues_is_the_loss_of_the_matrix():
    w = 0.3 * _normal(4, 12)
    values = torch.as_tensor(scipy.linalg.eigvalsh((w @ GAMMA.diag() @ w.T).numpy()))
    assert float(linear.loss(values)) == pytest.approx(_numpy_loss(w.numpy(), np.diag(GAMMA)), rel=1e-12)


# Critical times


def test_critical_and_half_times_against_the_curve():
    gamma, start = torch.tensor([4.0, 1.0]).double(), torch.tensor([1e-5, 3e-4]).double()
    tau, half = linear.critical_times(gamma, start), linear.half_times(gamma, start)
    for j in range(2):
        at = linear.correlation_eigenvalues(torch.stack([tau[j], half[j]]), gamma, start)[:, j]
        assert float(at[0]) == pytest.approx(0.5, abs=float(gamma[j] * start[j] ** 2))
        assert float(at[1]) == pytest.approx(0.5, abs=1e-12)
        s = linear.singular_values(tau[j : j + 1], gamma, start)[0, j]
        assert float(s) == pytest.approx((2 * float(gamma[j])) ** -0.5, rel=1e-6)
        step = 1e-6
        near = tau[j] + step * torch.tensor([-1.0, 1.0]).double()
        slope = linear.correlation_eigenvalues(near, gamma, start)[:, j].diff() / (2 * step)
        assert float(slope) == pytest.approx(2 * float(gamma[j]), rel=1e-6)


def test_step_widths_and_the_shift_with_the_scale():
    gamma, start = torch.tensor([3.0]).double(), torch.tensor([1e-6]).double()
    times = torch.linspace(0, 2, 200_001, dtype=torch.float64)
    curve = linear.correlation_eigenvalues(times, gamma, start)[:, 0]
    ten, ninety = (float(times[(curve > level).nonzero()[0, 0]]) for level in (0.1, 0.9))
    assert float(linear.step_widths(gamma)) == pytest.approx(ninety - ten, abs=2e-5)
    shift = linear.critical_times(gamma, 10 * start) - linear.critical_times(gamma, start)
    assert float(shift) == pytest.approx(-math.log(100) / 24, rel=1e-12)


def test_the_staircase_is_the_loss_of_a_small_start():
    gamma = torch.tensor([4.0, 1.0, 0.2, -1.0]).double()
    start = torch.full((4,), 1e-30).double()
    tau = linear.critical_times(gamma, start)
    times = torch.cat([tau[:3] * 0.9, tau[:3] * 1.1])
    loss = linear.loss(linear.correlation_eigenvalues(times, gamma, start))
    stairs = linear.staircase(times, tau)
    assert stairs.tolist() == [4, 3, 2, 3, 2, 1]
    assert torch.allclose(loss, stairs, atol=2e-3)


def test_unequal_starts_swap_the_order_of_learning():
    gamma, start = torch.tensor([1.1, 1.0]).double(), torch.tensor([1e-8, 1e-4]).double()
    assert linear.critical_times(gamma, start).argsort().tolist() == [1, 0]


@given(
    steps=st.integers(20, 60),
    shift=st.floats(5, 15),
    rate=st.floats(0.5, 3),
    level=st.sampled_from([0.5, 0.1]),
)
def test_crossing_times_of_a_coarse_log_are_exact_for_logistic_curves(steps, shift, rate, level):
    times = torch.linspace(0, 40, steps, dtype=torch.float64)
    values = torch.sigmoid(rate * (times - shift))[:, None]
    wanted = shift + math.log(level / (1 - level)) / rate
    assert float(linear.crossing_times(times, values, level)) == pytest.approx(wanted, rel=1e-6)


def test_crossing_times_without_a_crossing_or_before_the_first_log():
    times = torch.tensor([1.0, 2.0, 3.0]).double()
    values = torch.tensor([[0.1, 0.7, -0.1], [0.2, 0.8, 0.6], [0.3, 0.9, 1.2]]).double()
    found = linear.crossing_times(times, values)
    assert math.isnan(found[0])
    assert float(found[1]) == 1.0
    assert 1.0 < float(found[2]) <= 2.0


# Gradient descent


def _descend(w, gamma, rate, steps):
    """Gradient descent in NumPy; λ of each step for a 1-mode model, or the weights at the end."""
    path = []
    for _ in range(steps):
        path.append(w)
        w = w - rate * 4 * (w @ gamma @ w.T - np.eye(len(w))) @ w @ gamma
    return w, path


@pytest.mark.parametrize(("fraction", "settles"), [(0.99, True), (1.01, False)])
def test_the_stability_bound(fraction, settles):
    gamma = np.diag([5.0, 2.0, 1.0, -0.5])
    rate = fraction * linear.stability_bound(torch.tensor([5.0, 2, 1, -0.5]))
    w, _ = _descend(1e-2 * _normal(2, 4).numpy(), gamma, rate, 5000)
    loss = _numpy_loss(w, gamma)
    assert loss < 1e-26 if settles else loss > 1e-4


@pytest.mark.parametrize(("fraction", "tolerance"), [(0.005, 1e-3), (0.1, 4e-3), (0.25, 1.2e-2)])
def test_half_times_of_gradient_descent(fraction, tolerance):
    gamma, start = torch.tensor([2.0]).double(), torch.tensor([1e-6]).double()
    rate = fraction * linear.stability_bound(gamma)
    tau = float(linear.critical_times(gamma, start, rate))
    steps = int(1.2 * tau / rate)
    _, path = _descend(np.array([[1e-6]]), np.array([[2.0]]), rate, steps)
    values = torch.tensor([float(w[0, 0]) ** 2 * 2.0 for w in path]).double()[:, None]
    times = rate * torch.arange(steps, dtype=torch.float64)
    assert float(linear.crossing_times(times, values)) == pytest.approx(tau, rel=tolerance)
    # The flow's time is off by 2γη = fraction / 2.
    flow = float(linear.critical_times(gamma, start))
    assert tau / flow == pytest.approx(1 + fraction / 2, abs=0.1 * fraction**1.5 + 1e-6)


# Generic starts


def test_the_matched_start_is_gram_schmidt_on_the_modes():
    w, vectors = _normal(3, 8), _rotation(8).T[:3]
    matched = linear.match_start(w, vectors)
    a = (w @ vectors.T).numpy()
    basis = []
    for j in range(3):
        rest = a[:, j] - sum((u @ a[:, j]) * u for u in basis)
        assert float(matched.singular_values[j]) == pytest.approx(np.linalg.norm(rest))
        basis.append(rest / np.linalg.norm(rest))
    assert np.allclose(matched.rotation, np.stack(basis, 1))
    rebuilt = matched.weights(matched.singular_values, vectors)
    assert np.allclose(rebuilt @ vectors.T, matched.rotation @ matched.singular_values.diag())


def test_late_modes_start_lowest():
    d, runs = 5, 4000
    starts = linear.match_start(_normal(runs, d, d), torch.eye(d, dtype=torch.float64)).singular_values
    mean = (starts**2).mean(0)
    assert torch.allclose(mean, torch.arange(d, 0, -1).double(), rtol=0.1)


GAPS = [((2.0, 1.0, 0.25), 0.5), ((2.0, 1.6, 0.3), 0.2), ((3.0, 1.0, 0.8), 0.2)]


@pytest.mark.parametrize(("spectrum", "exponent"), GAPS)
def test_the_error_of_the_aligned_prediction_goes_as_the_power_of_the_gap(spectrum, exponent):
    gamma = torch.tensor(spectrum).double()
    assert linear.error_exponent(gamma, 2) == pytest.approx(exponent)
    direction, errors = _normal(2, 3, seed=1), []
    scales = (1e-8, 1e-10)
    for scale in scales:
        matched = linear.match_start(scale * direction, torch.eye(3, dtype=torch.float64)[:2])
        end = 1.1 * float(linear.critical_times(gamma[:2], matched.singular_values).max()) + 8
        final = linear.integrate_flow(scale * direction, gamma, torch.tensor([end]), rtol=1e-10)[0]
        modes = linear.modes_of(gamma.diag())
        top = linear.Modes(modes.eigenvalues, torch.eye(3, dtype=torch.float64))
        errors.append(float((final - linear.minimum_norm_weights(top, 2, matched.rotation)).norm()))
    slope = math.log(errors[0] / errors[1]) / math.log(scales[0] / scales[1])
    assert slope == pytest.approx(exponent, abs=0.01)


def test_eigenvalue_errors_have_twice_the_exponent():
    gamma, direction, errors = torch.tensor([2.0, 1.6, 0.3]).double(), _normal(2, 3, seed=1), []
    scales = (1e-10, 1e-15)
    for scale in scales:
        matched = linear.match_start(scale * direction, torch.eye(3, dtype=torch.float64)[:2])
        tau = linear.critical_times(gamma[:2], matched.singular_values)
        times = torch.linspace(0.8 * float(tau.min()), 1.2 * float(tau.max()), 60, dtype=torch.float64)
        path = linear.integrate_flow(scale * direction, gamma, times)
        found = torch.linalg.eigvalsh((path * gamma) @ path.mT)
        wanted = linear.correlation_eigenvalues(times, gamma[:2], matched.singular_values).sort(-1).values
        errors.append(float((found - wanted).abs().max()))
    slope = math.log(errors[0] / errors[1]) / math.log(scales[0] / scales[1])
    assert slope == pytest.approx(2 * linear.error_exponent(gamma, 2), abs=0.06)


# Where it ends


@pytest.mark.parametrize("negative_scale", [0.0, 0.5])
def test_no_zero_loss_competitor_has_a_smaller_norm(negative_scale):
    gamma, d = GAMMA, 3
    draw = generator(0, "competitors")
    competitors = linear.zero_loss_weights(gamma, d, 2000, draw, negative_scale)
    error = competitors @ gamma.diag() @ competitors.mT - torch.eye(d)
    assert float(error.abs().max()) < 1e-10
    least = float((competitors**2).sum((-2, -1)).min())
    bound = linear.minimum_norm(gamma, d)
    assert bound == pytest.approx(1 / 5 + 1 / 3 + 1 / 2)
    assert least > bound
    modes = linear.modes_of(gamma.diag())
    best = linear.minimum_norm_weights(modes, d, _rotation(d))
    assert float((best**2).sum()) == pytest.approx(bound, rel=1e-12)
    assert _numpy_loss(best.numpy(), np.diag(gamma)) < 1e-20


def test_small_starts_end_at_the_minimum_norm():
    gamma = torch.tensor([3.0, 1.5, 0.6, 0.2, -0.5]).double()
    final = linear.integrate_flow(1e-9 * _normal(2, 5), gamma, torch.tensor([8.0]))[0]
    assert float((final**2).sum()) == pytest.approx(linear.minimum_norm(gamma, 2), rel=1e-6)


def test_too_few_positive_modes_leave_the_floor():
    gamma = torch.tensor([2.0, 1.0, -0.3, -1.0]).double()
    assert linear.loss_floor(gamma, 4) == 2
    final = linear.integrate_flow(1e-3 * _normal(4, 4), gamma, torch.tensor([40.0]))[0]
    assert _numpy_loss(final.numpy(), np.diag(gamma)) == pytest.approx(2, abs=1e-3)
    with pytest.raises(linear.LinearModelError, match="no weights have zero loss with 4 dimensions and 2"):
        linear.minimum_norm_weights(linear.modes_of(gamma.diag()), 4)
