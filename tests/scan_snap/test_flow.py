"""The population gradient flow against autograd of the objective, written out over the whole vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from learndyn.scan_snap import attention_ode, decoder, flow
from learndyn.scan_snap.classes import Classes, symmetric_classes


def ragged_classes(seed: int, *, classes: int = 4, vocabulary: int = 14, queries: int = 2) -> Classes:
    """No symmetry at all: each class uses its own number of tokens, some shared; P(n) is not uniform."""
    generator = np.random.default_rng(seed)
    used = generator.random((classes, vocabulary - 2)) < 0.35  # the last two tokens are in no class
    used[np.arange(classes), np.arange(classes)] = True
    weights = np.zeros((classes, vocabulary))
    weights[:, : vocabulary - 2] = np.where(used, generator.uniform(0.2, 1, used.shape), 0)
    prior = generator.uniform(0.5, 1.5, classes)
    query = np.concatenate([np.arange(queries), generator.integers(0, queries, classes - queries)])
    return Classes(weights / weights.sum(axis=1, keepdims=True), query, prior / prior.sum())


def units(classes: Classes, z: torch.Tensor) -> list[torch.Tensor]:
    out = []
    for n in range(classes.classes):
        weights = torch.as_tensor(classes.probabilities[n]) * z[classes.query[n]].exp()
        out.append(weights / weights.norm())
    return out


def objective(classes: Classes, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """J = E[ln α_n(n)] over the whole vocabulary; next token n has id n."""
    logits = [y.T @ f for f in units(classes, z)]
    terms = [
        p * (row[n] - row.logsumexp(0)) for n, (p, row) in enumerate(zip(classes.prior, logits, strict=True))
    ]
    return torch.stack(terms).sum()


def gradients(classes: Classes, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tensors = [torch.tensor(value, requires_grad=True) for value in (y, z)]
    return tuple(g.numpy() for g in torch.autograd.grad(objective(classes, *tensors), tensors))


def decorrelated_update(classes: Classes, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Σ_n P(n)(f_n − F E' e_n)(e_n − α_n)ᵀ, term by term (Theorem 1)."""
    f = torch.stack(units(classes, torch.as_tensor(z))).numpy()
    correction = np.eye(classes.classes) - np.linalg.inv(f @ f.T)
    total = np.zeros_like(y)
    for n in range(classes.classes):
        alpha = torch.softmax(torch.as_tensor(y.T @ f[n]), 0).numpy()
        total += classes.prior[n] * np.outer(f[n] - f.T @ correction[:, n], np.eye(len(y))[n] - alpha)
    return total


def full_decoder(classes: Classes, solution: object, index: int) -> np.ndarray:
    """Y over the whole vocabulary from the compact form."""
    out, compact = np.zeros((classes.vocabulary,) * 2), solution["decoder"].values[index]
    rows = solution["contextual"].values
    out[rows, : classes.classes] = compact[:, :-1]
    out[rows, classes.classes :] = compact[:, -1:]
    return out


@pytest.mark.parametrize("update", ["gradient", "decorrelated"])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_flow_of_the_objective_over_all_of_y_and_z(update, seed):
    classes = ragged_classes(seed)
    size, queries = classes.vocabulary, classes.queries
    start = 0.3 * np.random.default_rng(seed).standard_normal((queries, size))
    rates, times = (1.5, 0.8), np.array([3.0, 40.0])

    def plain(_: float, state: np.ndarray) -> np.ndarray:
        y, z = state[: size**2].reshape(size, size), state[size**2 :].reshape(queries, size)
        dy, dz = gradients(classes, y, z)
        if update == "decorrelated":
            dy = decorrelated_update(classes, y, z)
        return np.concatenate([rates[0] * dy.ravel(), rates[1] * dz.ravel()])

    state = np.concatenate([np.zeros(size**2), start.ravel()])
    oracle = solve_ivp(plain, (0, times[-1]), state, "LSODA", times, rtol=1e-10, atol=1e-13)
    solution = flow.solve(
        classes,
        times,
        decoder_rate=rates[0],
        attention_rate=rates[1],
        update=update,
        attention=start,
        keep_decoder=True,
    )
    for i in range(len(times)):
        y, z = oracle.y[: size**2, i].reshape(size, size), oracle.y[size**2 :, i].reshape(queries, size)
        np.testing.assert_allclose(solution["attention"].values[i], z, rtol=0, atol=1e-8)
        np.testing.assert_allclose(full_decoder(classes, solution, i), y, rtol=0, atol=2e-8)
        loss = -objective(classes, torch.as_tensor(y), torch.as_tensor(z)).item()
        assert solution["loss"].values[i] == pytest.approx(loss, abs=1e-8)
    assert np.abs(solution["attention"].values[-1] - start).max() > 0.05


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 6),
    queries=st.integers(1, 2),
    time=st.floats(0.1, 50),
)
def test_velocity_and_error_are_those_of_the_state(seed, classes, queries, time):
    task = ragged_classes(seed, classes=classes, queries=queries)
    solution = flow.solve(task, np.array([time]), decoder_rate=2.0, attention_rate=0.7, keep_decoder=True)
    y, z = full_decoder(task, solution, 0), solution["attention"].values[0]
    np.testing.assert_allclose(solution["velocity"].values[0], 0.7 * gradients(task, y, z)[1], atol=1e-13)
    for n, f in enumerate(units(task, torch.as_tensor(z))):
        alpha = torch.softmax(torch.as_tensor(y).T @ f, 0)
        assert solution["error"].values[0, n] == pytest.approx(1 - alpha[n].item(), abs=1e-12)


def test_rows_keep_their_sums():
    task = ragged_classes(5)
    solution = flow.solve(task, np.array([1.0, 1e4]), decoder_rate=1.0, attention_rate=1.0, keep_decoder=True)
    assert solution["decoder_row_sum"].max() < 1e-12
    assert solution["attention_row_sum"].max() < 1e-12
    y = full_decoder(task, solution, 1)
    assert np.abs(y).max() > 1
    assert np.abs(y.sum(axis=1)).max() == pytest.approx(float(solution["decoder_row_sum"][1]), abs=1e-12)
    assert np.abs(solution["attention"].values[1].sum(axis=1)).max() < 1e-12


def test_the_sum_of_a_row_is_counted_from_the_start():
    task = ragged_classes(6)
    start = np.random.default_rng(0).standard_normal((2, task.vocabulary))
    solution = flow.solve(task, np.array([5.0]), decoder_rate=1.0, attention_rate=1.0, attention=start)
    assert solution["attention_row_sum"].max() < 1e-12
    np.testing.assert_array_equal(solution["start"], start)


def test_the_error_of_a_learned_class_keeps_its_digits():
    """At frozen attention the loss falls as K/(η_Y t); 1 − α as a difference would stop at 1e-16."""
    task = symmetric_classes(2, 50, 2, [0.1], [1.0])
    solution = flow.solve(
        task, np.array([1e12, 2e12]), decoder_rate=1e6, attention_rate=1.0, frozen_attention=True
    )
    error = solution["error"].values[:, 0]
    assert error[1] < 1e-17
    assert error[0] / error[1] == pytest.approx(2, rel=0.02)
    np.testing.assert_allclose(solution["loss"], error, rtol=1e-12)


def test_decorrelated_flow_at_frozen_attention_is_the_closed_form():
    """K = 5, M = 300, overlap 0.0278 (Theorem 1): K copies of one class, and the signal to attention."""
    vocabulary, count, rate = 300, 5, 0.5
    task = symmetric_classes(count, vocabulary, count, [0.1], [0.5, 0.3, 0.1])
    times = np.array([1.0, 40.0, 5000.0])
    solution = flow.solve(
        task,
        times,
        decoder_rate=rate,
        attention_rate=1.0,
        update="decorrelated",
        frozen_attention=True,
        keep_decoder=True,
    )
    unit = task.unit(np.zeros((1, vocabulary)))
    overlaps = unit @ unit.T
    iota, beta = decoder.signal_coefficients(overlaps, vocabulary)
    coefficients = {}
    for i, time in enumerate(times):
        y = full_decoder(task, solution, i)
        margin = decoder.x(time, vocabulary, rate, count)
        closed = margin * (np.eye(count, vocabulary) - 1 / vocabulary)
        np.testing.assert_allclose(unit @ y, closed, atol=1e-7)
        logits = torch.as_tensor(unit @ y)
        signal = (torch.eye(count, vocabulary) - torch.softmax(logits, 1)).numpy() @ y.T
        mixed = signal @ np.linalg.pinv(unit)  # g_n = Σ_k (…) f_k
        gamma = decoder.gamma(time, vocabulary, rate, count)
        np.testing.assert_allclose(mixed, gamma * (np.diag(iota) - beta), atol=1e-7)
        coefficients[time] = mixed
    np.testing.assert_allclose(solution["loss"], decoder.loss(times, vocabulary, rate, count), rtol=1e-6)
    assert coefficients[40.0][0, 0] == pytest.approx(3.34113, abs=1e-5)
    assert coefficients[40.0][0, 1] == pytest.approx(-0.095952, abs=1e-6)
    assert not solution["velocity"].values.any()
    assert not solution["attention"].values.any()


def test_cost_does_not_depend_on_the_vocabulary():
    sizes = [
        flow.solve(
            symmetric_classes(4, vocabulary, 2, [1.0], [0.5, 0.2]),
            np.array([1.0]),
            decoder_rate=1.0,
            attention_rate=1.0,
        ).attrs["state_size"]
        for vocabulary in (20, 5000)
    ]
    assert sizes == [9 * 5 + 2 * 9] * 2


def test_every_token_a_label():
    """K = M: there is no column left for tokens that are never a label."""
    task = Classes(np.array([[0.5, 0.5], [0.2, 0.8]]), np.zeros(2, dtype=np.int64))
    solution = flow.solve(task, np.array([20.0]), decoder_rate=1.0, attention_rate=1.0, keep_decoder=True)
    np.testing.assert_allclose(
        solution["velocity"].values[0],
        gradients(task, full_decoder(task, solution, 0), solution["attention"].values[0])[1],
        atol=1e-14,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": np.array([2.0, 1.0])}, "increase from 0 on"),
        ({"times": np.array([-1.0, 1.0])}, "increase from 0 on"),
        ({"times": np.array([])}, "increase from 0 on"),
        ({"decoder_rate": 0.0}, "decoder_rate must be a positive number, not 0.0"),
        ({"attention_rate": float("nan")}, "attention_rate must be a positive number"),
        ({"attention": np.zeros((1, 3))}, r"shape \(2, 14\)"),
        ({"attention": np.full((2, 14), np.inf)}, "finite"),
    ],
)
def test_what_no_flow_can_start_from(change, message):
    arguments = {"times": np.array([1.0]), "decoder_rate": 1.0, "attention_rate": 1.0, **change}
    with pytest.raises(flow.FlowError, match=message):
        flow.solve(ragged_classes(0), arguments.pop("times"), **arguments)


def test_an_integration_that_does_not_end_is_said_so():
    times = np.array([0.0, 0.5, 2.0])
    states, evaluations = flow.integrate(lambda _, y: -y, np.array([1.0, 3.0]), times, 1e-10, 1e-12)
    np.testing.assert_allclose(states, np.exp(-times) * np.array([[1.0], [3.0]]), rtol=1e-9)
    assert evaluations > 0
    with pytest.raises(flow.FlowError, match="could not be integrated to t = 2"):
        flow.integrate(lambda _, y: y**2, np.array([1.0]), times, 1e-10, 1e-12)  # infinite at t = 1


def test_at_time_zero_there_is_the_start():
    task, start = ragged_classes(0), np.random.default_rng(0).standard_normal((2, 14))
    solution = flow.solve(task, np.array([0.0]), decoder_rate=2.0, attention_rate=1.0, attention=start)
    np.testing.assert_array_equal(solution["attention"].values[0], start)
    assert solution["loss"].values == pytest.approx(np.log(14))


def test_classes_that_cannot_be_decorrelated():
    """Two classes with the same tokens alike: F has rank 1. The gradient does not mind."""
    task = Classes(np.array([[0.5, 0.5, 0.0]] * 2), np.zeros(2, dtype=np.int64))
    rates = {"decoder_rate": 1.0, "attention_rate": 1.0}
    assert np.isfinite(flow.solve(task, np.array([1.0]), **rates)["loss"]).all()
    with pytest.raises(flow.FlowError, match="cannot be decorrelated"):
        flow.solve(task, np.array([1.0]), update="decorrelated", **rates)
    with pytest.raises(flow.FlowError, match="cannot be decorrelated"):
        attention_ode.solve(task, np.array([1.0]), **rates)
