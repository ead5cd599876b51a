"""Theorem 4's closed form against quadrature, its own ODE and Lemma 4; the numbers of Figures 3 and 9."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from learndyn.scan_snap import decoder, one_common_token

FIGURE_3 = {"vocabulary": 1000, "decoder_rates": np.array([0.5, 1.0, 2.0, 5.0]), "classes": 10}
ATTENTION_RATES = np.array([0.5, 1.0, 2.0, 4.0, 8.0])


@pytest.mark.parametrize(("vocabulary", "classes"), [(1000, 10), (34, 2), (10000, 1)])
@pytest.mark.parametrize("scaled", [0.01, 3.0, 100.0, 1e4])
def test_integral_of_gamma(vocabulary, classes, scaled):
    rate, attention, time = 0.5, 0.7, scaled * classes
    peak = min(decoder.peak(vocabulary, rate, classes).time, time / 2)
    edges = np.concatenate([[0, peak / 2], np.geomspace(peak, time, 12)])
    parts = [
        quad(lambda t: decoder.gamma(t, vocabulary, rate, classes), *ends, epsrel=1e-13, epsabs=0)[0]
        for ends in pairwise(edges)
    ]
    ours = one_common_token.gamma_integral(time, vocabulary, rate, attention, classes)
    assert ours == pytest.approx(attention * sum(parts), rel=1e-12)


@pytest.mark.parametrize("constant", [0.2, 1.0, 30.0])
def test_growth_solves_the_theorems_equation(constant):
    vocabulary, rate, attention, classes = 1000, 0.5, 0.5, 10
    times = np.array([1.0, 50.0, 300.0, 2000.0])

    def flow(t, z):
        return -attention / constant * decoder.gamma(t, vocabulary, rate, classes) * np.exp(4 * z)

    truth = solve_ivp(flow, (0, 2000), [0.0], t_eval=times, method="LSODA", rtol=1e-10, atol=1e-13).y[0]
    integral = one_common_token.gamma_integral(times, vocabulary, rate, attention, classes)
    np.testing.assert_allclose(one_common_token.growth(integral, constant), -truth, rtol=1e-7)
    printed = one_common_token.printed_growth(integral, constant)
    np.testing.assert_allclose(printed + truth, np.log(constant) / 4, atol=1e-7)


def test_tracks_lemma_4():
    """Lemma 4 for one query and K alike classes, of tokens common and distinct .5, .3, .1 (K = 10)."""
    vocabulary, rate, classes = 1000, 0.5, 10
    profile = np.array([0.1, 0.5, 0.3, 0.1])

    def unit(z):
        weights = profile * np.exp(z)
        return weights / np.linalg.norm(weights)

    def flow(t, z):
        f = unit(z)
        overlap = f[0] ** 2
        overlaps = np.full((classes, classes), overlap) + np.eye(classes) * (1 - overlap)
        beta = (np.eye(classes) - np.linalg.inv(overlaps))[0, 1]
        others = np.array([f[0], 0, 0, 0])  # f_k on the tokens of class n
        force = f * (classes - 1) * beta * (f * overlap - others)
        force[0] *= classes  # every class pushes the common token, only its own a distinct one
        return rate / classes * decoder.gamma(t, vocabulary, rate, classes) * force

    z = solve_ivp(flow, (0, 5000), np.zeros(4), method="LSODA", rtol=1e-9, atol=1e-12).y[0, -1]
    constant = one_common_token.constant_from_overlap(classes, unit(np.zeros(4))[0] ** 2)
    integral = one_common_token.gamma_integral(5000.0, vocabulary, rate, rate, classes)
    ours = one_common_token.growth(integral, constant)
    assert z == pytest.approx(-0.7345, abs=6e-5)
    assert ours == pytest.approx(0.7755, abs=6e-5)


def test_asymptotes():
    """Of Theorem 4: (M−1)²/(2KM²) η_Y η_Z t² before, K(M−1)²/(2M²) η_Z/η_Y ln²(M η_Y t/K) after."""
    arguments = {"vocabulary": 1000, "decoder_rate": 0.5, "attention_rate": 0.3, "classes": 10}
    early = 0.999**2 / (2 * 10) * 0.5 * 0.3 * 0.1**2
    assert one_common_token.gamma_integral(0.1, **arguments) == pytest.approx(early, rel=1e-2)
    for time, tolerance in ((1e5, 2e-2), (1e8, 1e-4)):
        late = 10 * 0.999**2 / 2 * 0.3 / 0.5 * np.log(1000 * 0.5 * time / 10) ** 2
        assert one_common_token.gamma_integral(time, **arguments) == pytest.approx(late, rel=tolerance)


def test_growth_at_the_transition_depends_on_the_ratio_only():
    for scale in (0.1, 1.0, 20.0):
        rate, attention = 3 * scale, scale
        time = 2 * 7 * np.log(200) / rate
        integral = one_common_token.gamma_integral(time, 200, rate, attention, 7)
        ours = one_common_token.growth_at_transition(3.0, 200, 7, constant=2.5)
        assert ours == pytest.approx(one_common_token.growth(integral, 2.5), rel=1e-12)


def test_figure_3():
    times = np.array([0.0, 5.0, 10.0, 700.0])
    curves = one_common_token.trajectories(times, **FIGURE_3, attention_rates=np.full(4, 0.5))
    assert curves.chi.dims == ("run", "time")
    np.testing.assert_array_equal(curves.chi.sel(time=0), 1)
    np.testing.assert_allclose(curves.chi.sel(time=700), [45.2, 34.7, 26.3, 18.0], atol=0.06)
    np.testing.assert_allclose(curves.gamma_integral.sel(time=700), [511, 301, 173, 81], atol=0.6)
    np.testing.assert_allclose(curves.transition, [276.3, 138.2, 69.1, 27.6], atol=0.06)
    assert (np.diff(curves.chi.sel(time=[5.0, 10.0]), axis=0) > 0).all()
    assert (curves.peak_time < curves.transition).all()


@pytest.mark.parametrize(
    ("ratio", "vocabulary", "end", "at_transition", "at_end"),
    [
        (10.0, 100, 5.0, 0.5098, [0.6202, 0.6707, 0.7125, 0.7493, 0.7828]),
        (1.0, 10000, 50.0, 1.3817, [1.4078, 1.4497, 1.4815, 1.5086, 1.5332]),
    ],
)
def test_figure_9(ratio, vocabulary, end, at_transition, at_end):
    curves = one_common_token.trajectories(
        np.array([0.0, end]), vocabulary, ratio * ATTENTION_RATES, ATTENTION_RATES
    )
    np.testing.assert_allclose(curves.growth_at_transition, at_transition, atol=6e-5)
    np.testing.assert_allclose(curves.growth.sel(time=end), at_end, atol=6e-5)
    np.testing.assert_allclose(curves.printed_growth, curves.growth, atol=1e-12)  # C₀ = 1


def test_tensors_in_tensors_out():
    time = torch.logspace(-3, 9, 30, dtype=torch.float64)
    rates = torch.tensor([[0.5], [5.0]], dtype=torch.float64)
    integral = one_common_token.gamma_integral(time, 1000, rates, 0.5, 10)
    ours = one_common_token.chi(one_common_token.growth(integral, 2.0))
    assert ours.shape == (2, 30)
    expected = one_common_token.gamma_integral(time.numpy(), 1000, rates.numpy(), 0.5, 10)
    np.testing.assert_allclose(ours, np.sqrt(1 + 2 * expected), rtol=1e-12)
    constant = one_common_token.constant_from_overlap(torch.tensor([2, 10]), 0.1)
    np.testing.assert_allclose(constant, [100, 100 / 9])
