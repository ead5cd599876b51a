"""The frozen-attention decoder against plain iterations, roots, ODEs, scipy, and the numbers of the paper."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, minimize_scalar
from scipy.special import wrightomega

from learndyn.scan_snap import decoder

VOCABULARIES = st.integers(2, 10**6)
SCALED_TIMES = st.floats(-12, 12).map(lambda exponent: 10**exponent)  # η_Y t

# Five classes with one common token: f = [.1 | .5, .3, .1] / .6, so that every overlap is 1/36.
K, M, RATE = 5, 300, 0.5
PROFILE = np.array([0.1, 0.5, 0.3, 0.1]) / 0.6
OVERLAPS = np.full((K, K), PROFILE[0] ** 2) + np.eye(K) * (1 - PROFILE[0] ** 2)


@given(SCALED_TIMES, VOCABULARIES)
def test_x_solves_its_equation(scaled, vocabulary):
    x = decoder.x(scaled, vocabulary, 1.0)
    # without the 1 on both sides, so that the smallest times count too
    left = math.expm1(x) + (vocabulary - 1) * x
    assert left == pytest.approx(vocabulary * scaled, rel=1e-13)
    assert decoder.time_at(x, vocabulary, 1.0) == pytest.approx(scaled, rel=1e-13)


@given(SCALED_TIMES, VOCABULARIES, st.floats(0.1, 10), st.integers(1, 50))
def test_tensors_and_arrays_agree(scaled, vocabulary, rate, classes):
    time = np.array([0.0, scaled / 2, scaled])
    for function in (decoder.x, decoder.h, decoder.gamma, decoder.loss):
        ours = function(torch.tensor(time), vocabulary, rate, classes)
        assert ours.dtype == torch.float64
        np.testing.assert_allclose(ours.numpy(), function(time, vocabulary, rate, classes), rtol=1e-12)
    assert decoder.x(time, vocabulary, rate, classes)[0] == 0


def test_x_is_the_wright_omega_form():
    time, vocabulary = np.linspace(0, 50, 101), 1000
    a = (vocabulary * time + 1) / (vocabulary - 1)
    expected = a - wrightomega(a - np.log(vocabulary - 1))
    np.testing.assert_allclose(decoder.x(time, vocabulary, 1.0), expected, rtol=0, atol=1e-13)


def test_a_batch_broadcasts_and_float32_stays():
    time = torch.logspace(-2, 6, 50)
    rates = torch.tensor([0.1, 1.0, 10.0])[:, None]
    vocabularies = torch.tensor([50, 1000])[:, None, None]
    ours = decoder.gamma(time, vocabularies, rates, 4)
    assert ours.shape == (2, 3, 50)
    assert ours.dtype == torch.float32
    for i, vocabulary in enumerate((50, 1000)):
        for j, rate in enumerate((0.1, 1.0, 10.0)):
            expected = decoder.gamma(time.double().numpy(), vocabulary, rate, 4)
            np.testing.assert_allclose(ours[i, j].numpy(), expected, rtol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_device():
    time = torch.logspace(-6, 12, 200, dtype=torch.float64)
    ours = decoder.gamma(time.cuda(), 1000, 0.5, 10)
    assert ours.is_cuda
    torch.testing.assert_close(ours.cpu(), decoder.gamma(time, 1000, 0.5, 10), rtol=1e-12, atol=0)


def test_h_is_the_flow_of_its_equation():
    def flow(_, h):
        return RATE / ((M - 1) + np.exp(M * h))

    times = np.array([1.0, 10.0, 100.0, 1000.0])
    truth = solve_ivp(flow, (0, 1000), [0.0], t_eval=times, method="LSODA", rtol=1e-10, atol=1e-14).y[0]
    np.testing.assert_allclose(decoder.h(times, M, RATE), truth, rtol=1e-7)
    np.testing.assert_allclose(decoder.h(K * times, M, RATE, K), truth, rtol=1e-7)


def test_recursion_is_gradient_ascent_on_one_class():
    vocabulary, steps, next_token = 12, 60, 3
    rates = np.array([0.3, 2.0])
    ours = decoder.h_discrete(steps, vocabulary, rates)
    assert ours.shape == (2, steps + 1)
    direction = (vocabulary - 1) * decoder.zeta(5, vocabulary)[next_token]
    for run, rate in enumerate(rates):
        logits = torch.zeros(vocabulary, dtype=torch.float64, requires_grad=True)
        for step in range(steps + 1):
            np.testing.assert_allclose(ours[run, step] * direction, logits.detach().numpy(), atol=1e-13)
            gain = torch.log_softmax(logits, 0)[next_token]
            (gradient,) = torch.autograd.grad(gain, logits)
            logits = (logits.detach() + rate * gradient).requires_grad_()


def test_recursion_survives_a_huge_rate():
    assert decoder.h_discrete(2, 100, np.array([1e6]))[0] == pytest.approx([0, 1e4, 1e4])


@pytest.mark.parametrize("vocabulary", [50, 1000])
def test_staircase_stays_just_above_the_curve(vocabulary):
    rates = np.array([0.02, 0.1, 0.5, 1.0, 2.0])
    for rate in rates:
        curves = decoder.staircases(int(30 / rate), vocabulary, np.array([rate]))
        gap = (curves.h_discrete - curves.h).values[0] * vocabulary / rate
        assert gap.min() >= 0
        assert 0.184 < gap.max() < 0.213  # the paper's bound is 2
        assert 5.5 < rate * gap.argmax() < 10.5
        assert gap[-1] < gap.max() / 2


def test_figure_8_end_values():
    curves = decoder.staircases(80, 50, np.array([0.1, 0.2, 0.5, 1.0, 2.0])).isel(step=80)
    discrete = [5.055, 6.230, 7.428, 8.218, 8.965]
    continuous = [5.038, 6.208, 7.401, 8.189, 8.931]
    np.testing.assert_allclose(50 * curves.h_discrete, discrete, atol=6e-4)
    np.testing.assert_allclose(50 * curves.h, continuous, atol=6e-4)


def test_error_and_loss_are_those_of_the_softmax():
    time, vocabulary = 37.0, 20
    logits = (vocabulary - 1) * decoder.h(time, vocabulary, 0.4, 3) * decoder.zeta(3, vocabulary)
    for n, row in enumerate(logits):
        alpha = np.exp(row) / np.exp(row).sum()
        error = np.eye(vocabulary)[n] - alpha
        assert decoder.loss(time, vocabulary, 0.4, 3) == pytest.approx(-np.log(alpha[n]), rel=1e-12)
        margin = decoder.x(time, vocabulary, 0.4, 3)
        np.testing.assert_allclose(error, decoder.doubt(margin, vocabulary) * decoder.zeta(3, vocabulary)[n])


def test_loss_at_frozen_attention():
    time = np.array([1e3, 1e4, 1e5])
    ours = decoder.loss(time, 1000, 0.5, 10)
    np.testing.assert_allclose(ours, [2.50e-2, 2.05e-3, 2.004e-4], rtol=2e-3)
    np.testing.assert_allclose(decoder.loss(1e9, 1000, 0.5, 10), 0.999 * 10 / 0.5e9, rtol=1e-6)
    assert decoder.loss(0.0, 34, 1.0) == pytest.approx(math.log(34))


@pytest.mark.parametrize("precision", [0.5, 1e-2, 1e-5])
def test_time_to_precision(precision):
    exact, order = decoder.time_to_precision(precision, 100, 0.5, 7)

    def excess(time):
        """ln ‖eₙ − αₙ‖/ε, of the softmax."""
        odds = 99 * np.exp(-decoder.x(time, 100, 0.5, 7))
        error = np.array([1, *[-1 / 99] * 99]) * odds / (1 + odds)
        return np.log(np.linalg.norm(error) / precision)

    root = brentq(excess, 1e-3, 1e9, rtol=1e-13)
    assert exact == pytest.approx(root, rel=1e-9)
    assert 0.05 < exact / order < 1


@pytest.mark.parametrize("precision", [0.0, -1.0, 1.0, math.nan])
def test_a_precision_that_is_never_passed(precision):
    with pytest.raises(decoder.DecoderError, match="never passes"):
        decoder.time_to_precision(precision, 100, 0.5)


# M, ω₁, ln M, η_Y t*/K at the peak, 2 ln M, 2 (1+ω₁) ln M, x*, γ(t*)
PEAKS = [
    (50, 0.436, 3.91, 3.51, 7.82, 11.24, 3.134, 2.09),
    (100, 0.403, 4.61, 3.96, 9.21, 12.92, 3.629, 2.60),
    (1000, 0.320, 6.91, 5.64, 13.82, 18.23, 5.421, 4.42),
    (10000, 0.267, 9.21, 7.52, 18.42, 23.33, 7.360, 6.36),
]


@pytest.mark.parametrize("row", PEAKS)
def test_peak_of_gamma(row):
    vocabulary, omega1, _, time, lower, upper, margin, height = row
    rate, classes = 0.5, 10
    peak = decoder.peak(vocabulary, rate, classes)
    bracket = decoder.transition_bracket(vocabulary, rate, classes)
    assert decoder.omega1(vocabulary) == pytest.approx(omega1, abs=6e-4)
    assert (peak.time * rate / classes, *(np.array(bracket) * rate / classes)) == pytest.approx(
        (time, lower, upper), abs=6e-3
    )
    assert peak.x == pytest.approx(margin, abs=6e-4)
    assert peak.gamma == pytest.approx(height, abs=6e-3)
    assert decoder.gamma(peak.time, vocabulary, rate, classes) == pytest.approx(peak.gamma, rel=1e-12)
    found = minimize_scalar(
        lambda t: -decoder.gamma(t, vocabulary, rate, classes),
        bounds=(0.1 * peak.time, 5 * peak.time),
        method="bounded",
        options={"xatol": 1e-8 * peak.time},
    )
    assert found.x == pytest.approx(peak.time, rel=1e-6)


def test_omega1_solves_its_equation_and_small_vocabularies_have_none():
    vocabulary = np.array([4.0, 50.0, 1e6])
    omega = decoder.omega1(vocabulary)
    right = (1 + omega) * (vocabulary - 1) * np.log(vocabulary) / vocabulary
    np.testing.assert_allclose(vocabulary**omega, right, rtol=1e-12)
    assert np.isnan(decoder.omega1(3))


def test_peaks_of_a_batch_of_tensors():
    peak = decoder.peak(torch.tensor([50.0, 100.0], dtype=torch.float64), 1.0)
    np.testing.assert_allclose(peak.x, [decoder.peak(50, 1.0).x, decoder.peak(100, 1.0).x])


def test_gamma_between_its_asymptotes():
    vocabulary, rate, classes = 1000, 0.5, 10
    before = np.array([1e-3, 1e-2, 1e-1]) * classes / rate
    early, _ = decoder.gamma_asymptotes(before, vocabulary, rate, classes)
    np.testing.assert_allclose(decoder.gamma(before, vocabulary, rate, classes), early, rtol=3e-3)
    after = decoder.transition_bracket(vocabulary, rate, classes)[1] * np.array([10, 1e3, 1e5])
    _, late = decoder.gamma_asymptotes(after, vocabulary, rate, classes)
    error = np.abs(decoder.gamma(after, vocabulary, rate, classes) / late - 1)
    assert error[0] < 0.08
    assert error[1] < 2e-3
    assert error[2] < 2e-3  # ends at 1/M, by which the paper's formula is off


def _class_vectors():
    """F `[next, token]` on the 16 tokens in use: the common one, then three of each class."""
    f = np.zeros((K, 1 + 3 * K))
    f[:, 0] = PROFILE[0]
    for n in range(K):
        f[n, 1 + 3 * n : 4 + 3 * n] = PROFILE[1:]
    return f


def _decoder_flow(f, times, *, decorrelated):
    """Coefficients of f_k in Y(eₙ − αₙ), `[time, next n, next k]`, by integrating Y itself at frozen F.

    The M − K tokens that are never a label share one column of Y.
    """
    multiplicity = np.array([1.0] * K + [M - K])
    update = f.copy()
    if decorrelated:
        e = f @ f.T - np.eye(K)
        e_prime = e @ np.linalg.inv(np.eye(K) + e)
        update = np.array([f[n] - sum(e_prime[k, n] * f[k] for k in range(K)) for n in range(K)])

    def errors(y):
        logits = f @ y
        odds = multiplicity * np.exp(logits - logits.max(1, keepdims=True))
        return np.eye(K, K + 1) - odds / odds.sum(1, keepdims=True)

    def flow(_, flat):
        y = flat.reshape(-1, K + 1)
        return (RATE / K * update.T @ (errors(y) / multiplicity)).ravel()

    start = np.zeros(f.shape[1] * (K + 1))
    solution = solve_ivp(flow, (0, times[-1]), start, t_eval=times, method="LSODA", rtol=1e-10, atol=1e-13)
    signals = [y.reshape(-1, K + 1) @ errors(y.reshape(-1, K + 1)).T for y in solution.y.T]
    return np.array([np.linalg.lstsq(f.T, signal, rcond=None)[0].T for signal in signals])


def test_theorem_1_is_exact_for_its_own_update():
    times = np.array([1.0, 10.0, 40.0, 200.0])
    truth = _decoder_flow(_class_vectors(), times, decorrelated=True)
    iota, beta = decoder.signal_coefficients(OVERLAPS, M)
    gamma = decoder.gamma(times, M, RATE, K)[:, None, None]
    np.testing.assert_allclose(gamma * (np.diag(iota) - beta), truth, rtol=1e-6, atol=1e-9)
    at_40 = truth[2]
    assert at_40[0, 0] == pytest.approx(3.34113, abs=6e-6)
    assert at_40[0, 1] == pytest.approx(-0.095952, abs=6e-7)
    xi = gamma[2, 0, 0] * decoder.xi_per_gamma(beta, OVERLAPS)
    np.testing.assert_allclose(xi, 0.010661, atol=6e-7)
    assert xi[0] == pytest.approx(-at_40[0, 1:] @ OVERLAPS[0, 1:], rel=1e-6)


def test_theorem_1_for_classes_that_differ():
    rng = np.random.default_rng(3)
    f = np.zeros((K, 1 + 3 * K))
    f[:, 0] = rng.uniform(0.1, 0.6, K)
    for n in range(K):
        f[n, 1 + 3 * n : 4 + 3 * n] = rng.uniform(0.3, 1, 3)
    f[0, 4] = 0.3  # one class also uses a token of another
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    times = np.array([5.0, 60.0])
    iota, beta = decoder.signal_coefficients(f @ f.T, M)
    gamma = decoder.gamma(times, M, RATE, K)[:, None, None]
    truth = _decoder_flow(f, times, decorrelated=True)
    np.testing.assert_allclose(gamma * (np.diag(iota) - beta), truth, rtol=1e-6, atol=1e-8)


def test_approximate_coefficients():
    e_prime = np.eye(K) - np.linalg.inv(OVERLAPS)
    iota, beta = decoder.signal_coefficients(OVERLAPS, 10**6)
    off = ~np.eye(K, dtype=bool)
    np.testing.assert_allclose(beta[off], e_prime[off], rtol=1e-4)
    np.testing.assert_allclose(beta[off], OVERLAPS[off], rtol=0.1)
    np.testing.assert_allclose(iota, 1, atol=5e-3)


def test_coefficients_of_a_batch():
    batch = np.stack([OVERLAPS, np.eye(K)])
    iota, beta = decoder.signal_coefficients(batch, M)
    assert beta.shape == (2, K, K)
    np.testing.assert_allclose(iota[0], decoder.signal_coefficients(OVERLAPS, M)[0])
    np.testing.assert_allclose(iota[1], M / (M - 1))
    assert decoder.gradient_coefficients(np.array([1.0, 2.0]), batch, M).shape == (2, K, K)


def test_alpha_is_a_softmax_of_what_the_classes_have_learned():
    margin = 4.0
    learned = margin * np.eye(M)[:K]  # v_k
    for n, row in enumerate(decoder.alpha(margin, OVERLAPS, M)):
        odds = np.exp(OVERLAPS[n] @ learned)
        np.testing.assert_allclose(row, (odds / odds.sum())[:K], rtol=1e-12)
    assert np.isfinite(decoder.alpha(1e4, OVERLAPS, M)).all()


def test_plain_gradient_pushes_much_less_than_theorem_1():
    times = np.array([0.01, 1.0, 40.0, 5000.0])
    truth = -_decoder_flow(_class_vectors(), times, decorrelated=False)[:, 0, 1]
    gamma = decoder.gamma(times, M, RATE, K)
    ours = decoder.gradient_coefficients(decoder.x(times, M, RATE, K), OVERLAPS, M)[:, 0, 1]
    np.testing.assert_allclose(ours, truth, rtol=0.12)
    np.testing.assert_allclose(ours[:2], truth[:2], rtol=0.01)
    assert ours[0] == pytest.approx(RATE * times[0] / K / M, rel=1e-2)  # η_Y t P(k) / M
    _, beta = decoder.signal_coefficients(OVERLAPS, M)
    assert truth[1] / gamma[1] == pytest.approx(0.0034, abs=1e-4)
    assert truth[3] / gamma[3] == pytest.approx(0.0052, abs=1e-4)
    assert beta[0, 1] == pytest.approx(0.0289, abs=3e-4)
