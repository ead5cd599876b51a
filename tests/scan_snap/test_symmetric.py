"""The symmetric reduction against the full matrices Y and Z, and one run against many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from learndyn.core.device import DeviceError
from learndyn.scan_snap import decoder, published, symmetric, symmetric_batch
from learndyn.scan_snap.symmetric import SymmetricError
from learndyn.scan_snap.symmetric_equations import Equations
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig

SMALL = {"classes": 4, "vocabulary": 40, "common": [0.3, 0.1], "distinct": [0.4, 0.3, 0.2]}
CASES = [
    SMALL | {"next_per_query": 4, "decoder_rate": 1.0, "attention_rate": 0.7},
    SMALL | {"next_per_query": 2, "vocabulary": 30, "decoder_rate": 2.0, "attention_rate": 5.0},
    SMALL | {"next_per_query": 1, "common": [0.2, 0.2], "distinct": [0.2, 0.5, 0.2], "decoder_rate": 0.5},
]
LARGE = {
    "classes": 10,
    "vocabulary": 1000,
    "next_per_query": 10,
    "common": [0.1],
    "distinct": [0.5, 0.3, 0.1],
}
EQUAL = LARGE | {"decoder_rate": 0.5, "attention_rate": 0.5}


class Full:
    """All of Y and Z, as the definitions read: class n predicts token n, its query is row n // r of Z."""

    def __init__(self, case: dict) -> None:
        self.K, self.M, self.r = case["classes"], case["vocabulary"], case["next_per_query"]
        weights = np.concatenate([case["common"], case["distinct"]])
        c, d = len(case["common"]), len(case["distinct"])
        self.tokens = [[*range(c), *range(c + n * d, c + (n + 1) * d)] for n in range(self.K)]
        self.P = torch.zeros(self.K, self.M, dtype=torch.float64)
        for n in range(self.K):
            self.P[n, self.tokens[n]] = torch.from_numpy(weights / weights.sum())
        self.rates = case.get("decoder_rate", 1.0), case.get("attention_rate", 1.0)
        self.update = case.get("update", "gradient")

    def unit(self, Z: torch.Tensor) -> torch.Tensor:
        rows = [self.P[n] * torch.exp(Z[n // self.r]) for n in range(self.K)]
        return torch.stack([row / row.norm() for row in rows])

    def objective(self, Y: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
        logits = self.unit(Z) @ Y
        return sum(torch.log_softmax(logits[n], 0)[n] for n in range(self.K)) / self.K

    def start(self) -> torch.Tensor:
        return torch.zeros(self.M + self.K // self.r, self.M, dtype=torch.float64)

    def ascent(self, both: torch.Tensor) -> torch.Tensor:
        Y = both[: self.M].clone().requires_grad_()
        Z = both[self.M :].clone().requires_grad_()
        dY, dZ = torch.autograd.grad(self.objective(Y, Z), (Y, Z))
        if self.update == "decorrelated":
            F = self.unit(Z).T.detach()
            delta = torch.eye(self.K, self.M, dtype=torch.float64) - torch.softmax(F.T @ Y.detach(), 1)
            E = F.T @ F - torch.eye(self.K, dtype=torch.float64)
            correction = torch.eye(self.K, dtype=torch.float64) - torch.linalg.inv(F.T @ F)
            torch.testing.assert_close(correction, E @ torch.linalg.inv(F.T @ F))
            dY = (F - F @ correction) @ delta / self.K
        return torch.cat([self.rates[0] * dY, self.rates[1] * dZ])

    def solve(self, times: list[float]) -> np.ndarray:
        shape = self.start().shape

        def velocity(_: float, state: np.ndarray) -> np.ndarray:
            return self.ascent(torch.from_numpy(state.reshape(shape))).numpy().ravel()

        found = solve_ivp(
            velocity, (0, times[-1]), np.zeros(shape).ravel(), "DOP853", times, rtol=1e-10, atol=1e-12
        )
        return found.y.T.reshape(-1, *shape)


def sets(**case):
    return symmetric.parameter_sets(**case)


def embedded(full: Full, decoder: np.ndarray, z: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Y and Z of the values per kind of token: decoder[support, column], z[support]."""
    Y = torch.zeros(full.M, full.M, dtype=torch.float64)
    Z = torch.zeros(full.K // full.r, full.M, dtype=torch.float64)
    common = len(set(full.tokens[0]) & set(full.tokens[1]))
    for n, tokens in enumerate(full.tokens):
        for i, token in enumerate(tokens):
            Y[token, : full.K], Y[token, full.K :] = decoder[i, 1], decoder[i, 2]
            if i >= common:
                Y[token, n] = decoder[i, 0]
            Z[n // full.r, token] = z[i]
    return Y, Z


@pytest.mark.parametrize("update", ["gradient", "decorrelated"])
@pytest.mark.parametrize("case", CASES)
def test_the_flow_is_that_of_the_full_matrices(case, update):
    times = [0.0, 2.0, 15.0, 60.0]
    full = Full(case | {"update": update})
    states = full.solve(times)
    found = symmetric.solve(sets(**case, update=update), times, keep_decoder=True)
    for i in range(len(times)):
        Y, Z = embedded(full, found.decoder.values[i], found.attention.values[i])
        np.testing.assert_allclose(Y, states[i, : full.M], atol=1e-8)
        np.testing.assert_allclose(Z, states[i, full.M :], atol=1e-8)
        objective = full.objective(*(torch.from_numpy(part) for part in np.split(states[i], [full.M])))
        np.testing.assert_allclose(found.loss[i], -objective, atol=1e-8)
    np.testing.assert_allclose(found.loss[0], np.log(full.M), rtol=1e-14)
    assert np.abs(states[-1, full.M :]).max() > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_what_is_derived_follows_from_the_matrices(case):
    found = symmetric.solve(sets(**case), [30.0], keep_decoder=True).isel(time=0)
    full = Full(case)
    Y, Z = embedded(full, found.decoder.values, found.attention.values)
    common = len(case["common"])
    c = full.P[1] * torch.exp(Z[1 // full.r])
    c = (c / c.sum())[full.tokens[1]].numpy()
    np.testing.assert_allclose(found.attention_weights, c, rtol=1e-12)
    np.testing.assert_allclose(found.common_mass, c[:common].sum(), rtol=1e-12)
    np.testing.assert_allclose(found.distinct_mass, c[common:].sum(), rtol=1e-12)
    within = c[common:] / c[common:].sum()
    np.testing.assert_allclose(found.distinct_entropy, -(within * np.log(within)).sum(), rtol=1e-12)
    F = full.unit(Z).numpy().T
    np.testing.assert_allclose(found.unit_weights, F[full.tokens[1], 1], rtol=1e-12)
    np.testing.assert_allclose(found.overlap, F[:, 0] @ F[:, 3], rtol=1e-12)
    alpha = torch.softmax(torch.from_numpy(F).T @ Y, 1).numpy()
    back = Y.numpy() @ (np.eye(full.M)[1] - alpha[1])
    coefficients = np.linalg.lstsq(F, back, rcond=None)[0]
    np.testing.assert_allclose(found.signal, coefficients[1], rtol=1e-9)
    np.testing.assert_allclose(-found.force, np.delete(coefficients, 1).mean(), rtol=1e-9)
    speed = full.ascent(torch.cat([Y, Z]))[full.M :].norm()
    np.testing.assert_allclose(found.attention_speed, speed, rtol=1e-10)


def test_a_single_class_is_pushed_by_no_other():
    """K = 1 is Lemma 5: x in closed form, all of the signal along f, and so no force on the attention."""
    case = {"classes": 1, "vocabulary": 40, "common": [1.0], "distinct": [1.0, 0.2], "decoder_rate": 0.5}
    times = np.array([1.0, 30.0, 3000.0])
    for update in ("gradient", "decorrelated"):
        found = symmetric.solve(sets(**case, update=update), times)
        np.testing.assert_allclose(found.loss, decoder.loss(times, 40, 0.5), rtol=1e-7)
        np.testing.assert_allclose(found.signal, 40 / 39 * decoder.gamma(times, 40, 0.5), rtol=1e-7)
        np.testing.assert_array_equal(found.force, 0)
        assert np.abs(found.attention).max() < 1e-9


def test_the_reference_trajectory_to_its_printed_digits():
    reference = published.symmetric_flow()
    found = symmetric.solve(
        sets(
            common=reference.common_weights.values,
            distinct=reference.distinct_weights.values,
            **{name: reference.attrs[name] for name in ("classes", "vocabulary", "next_per_query")},
            **{name: reference.attrs[name] for name in ("decoder_rate", "attention_rate")},
        ),
        reference.time.values,
    )
    both = np.concatenate([reference.z_common, reference.z_distinct], axis=1)
    np.testing.assert_allclose(found.attention, both, atol=5.1e-8)
    np.testing.assert_allclose(found.loss, reference.loss, atol=5.1e-8)


def test_the_mean_field_of_all_cells_to_its_printed_digits():
    cells = published.mean_field()
    tasks = [
        TaskConfig(queries=int(q), next_per_query=int(r))
        for q, r in zip(cells.queries, cells.next_per_query, strict=True)
    ]
    rates = cells.attention_rate.to_numpy()
    found = symmetric_batch.heavy_ball(
        symmetric.from_task(tasks, decoder_rate=rates * cells.rate_ratio.to_numpy(), attention_rate=rates)
    )
    last = found.sel(step=100)
    np.testing.assert_allclose(last.distinct_entropy, cells.distinct_entropy, atol=5.1e-5)
    np.testing.assert_allclose(last.distinct_mass, cells.distinct_mass, atol=5.1e-5)
    np.testing.assert_allclose(found.loss.sel(step=0), cells.loss_at_0, atol=5.1e-6)
    ours, theirs = found.loss.sel(step=10).values, cells.loss_at_10.to_numpy()
    tiny = theirs < 1e-12  # sums of rounding errors there
    assert 0 < tiny.sum() < 20
    digits = 10 ** np.floor(np.log10(theirs))  # four digits are printed
    np.testing.assert_allclose((ours / digits)[~tiny], (theirs / digits)[~tiny], rtol=0, atol=5.1e-4)
    np.testing.assert_allclose(ours[tiny], theirs[tiny], rtol=2e-3)
    assert np.abs(found.row_sum).max() < 1e-12


def test_momentum_is_that_of_torch_on_the_full_matrices():
    case = CASES[1] | {"decoder_rate": 3.0, "attention_rate": 1.5}
    full = Full(case)
    Y = torch.zeros(full.M, full.M, dtype=torch.float64, requires_grad=True)
    Z = torch.zeros(full.K // full.r, full.M, dtype=torch.float64, requires_grad=True)
    groups = [{"params": [Y], "lr": 3.0}, {"params": [Z], "lr": 1.5}]
    optimizer = torch.optim.SGD(groups, momentum=0.8)
    found = symmetric_batch.heavy_ball(sets(**case), momentum=0.8, steps=25, keep_decoder=True).isel(run=0)
    for step in range(26):
        now = embedded(full, found.decoder.values[step], found.attention.values[step])
        torch.testing.assert_close(now, (Y.detach(), Z.detach()), atol=1e-12, rtol=1e-12)
        before = Z.detach().clone()
        optimizer.zero_grad()
        (-full.objective(Y, Z)).backward()
        optimizer.step()
        np.testing.assert_allclose(found.attention_speed[step], (Z - before).norm().detach(), atol=1e-12)


def test_syn_small_scans_and_snaps():
    found = symmetric_batch.heavy_ball(
        symmetric.from_task(SYN_SMALL, decoder_rate=[1.0, 10.0], attention_rate=1.0)
    )
    assert found.attention_speed.argmax("step").values.tolist() == [8, 2]
    np.testing.assert_allclose(found.distinct_entropy.sel(step=100), [1.979, 2.099], atol=5e-4)
    np.testing.assert_allclose(found.distinct_entropy.sel(step=0), 2.1513, atol=5e-5)
    np.testing.assert_allclose(found.overlap.sel(step=0), 10 / 13.85, rtol=1e-12)


def test_numbers_of_the_modified_update_at_frozen_attention():
    """K = 5, M = 300, overlap 0.0278, t = 40: the coefficients that Theorem 1 predicts."""
    case = LARGE | {"classes": 5, "vocabulary": 300, "next_per_query": 5, "decoder_rate": 0.5}
    found = symmetric.solve(sets(**case, attention_rate=0.0, update="decorrelated"), [40.0]).isel(time=0)
    np.testing.assert_allclose(found.signal, 3.34113, atol=5e-6)
    np.testing.assert_allclose(found.force, 0.095952, atol=5e-7)
    np.testing.assert_allclose(found.force * 4 * found.overlap, 0.010661, atol=5e-7)
    plain = symmetric.solve(sets(**case | {"decoder_rate": 1.0}, attention_rate=0.0), [1.0, 5000.0])
    np.testing.assert_allclose(plain.force / plain.signal, [0.0034, 0.0052], atol=2e-4)
    assert np.abs(plain.attention).max() == 0


def test_the_decorrelated_update_moves_attention_more_than_the_gradient():
    plain, modified = (
        float(symmetric.solve(sets(**EQUAL, update=update), [5000.0]).attention[0, 0])
        for update in ("gradient", "decorrelated")
    )
    assert modified == pytest.approx(-0.39, abs=5e-3)
    assert plain == pytest.approx(-0.0294310, abs=1e-7)


def test_the_early_law():
    """z ≈ −η_Z η_Y t²/(2M) P(n)P(k) Σ_k diag(f_n) P⊥ f_k, summed over the query's classes (derived)."""
    t = 0.01
    full = Full(CASES[1])
    F = full.unit(torch.zeros(2, full.M, dtype=torch.float64))
    expected = torch.zeros(full.M, dtype=torch.float64)
    for n in (0, 1):
        others = sum(F[k] for k in range(4) if k != n)
        expected -= F[n] * (others - F[n] * (F[n] @ others)) / 16
    expected *= 5.0 * 2.0 * t**2 / (2 * full.M)
    found = symmetric.solve(sets(**CASES[1]), [t])
    np.testing.assert_allclose(found.attention[0], expected[full.tokens[0]], rtol=0.02)


@pytest.mark.parametrize("update", ["gradient", "decorrelated"])
def test_many_are_the_same_as_each_alone(update):
    profiles = [[0.5, 0.3, 0.1], [1.0], [0.1, 0.4, 0.4, 0.9, 0.2]]
    shared = [[0.1], [0.3, 0.2, 0.2], []]
    case = {"classes": [10, 4, 6], "vocabulary": [1000, 9, 100], "next_per_query": [5, 4, 1]}
    rates = {"decoder_rate": [0.5, 3.0, 20.0], "attention_rate": [0.5, 1.0, 4.0], "update": update}
    times = [0.0, 1.0, 100.0, 5000.0]
    together = sets(**case, **rates, common=shared, distinct=profiles)
    found = symmetric_batch.solve_many(together, times, keep_decoder=True)
    chunked = symmetric_batch.solve_many(together, times, chunk=2)
    ball = symmetric_batch.heavy_ball(together, snapshot_steps=[100])
    for i in range(3):
        alone = {name: values[i] for name, values in (case | rates).items() if name != "update"}
        one = sets(**alone, update=update, common=shared[i], distinct=profiles[i])
        exact = symmetric.solve(one, times, rtol=1e-11, atol=1e-14, keep_decoder=True)
        single = symmetric_batch.solve_many(one, times)
        pick = [*range(len(shared[i])), *range(3, 3 + len(profiles[i]))]
        many = found.isel(run=i, support=pick)
        for name in exact.data_vars:
            np.testing.assert_allclose(many[name], exact[name], atol=1e-8, rtol=1e-8, err_msg=name)
        # A kernel may add up in another order in a batch of another shape.
        np.testing.assert_allclose(many.attention, single.attention[0], atol=1e-13, rtol=1e-11)
        np.testing.assert_array_equal(many.steps, single.steps[0])
        padding = found.isel(run=i).drop_isel(support=pick)
        assert np.abs(padding.attention_weights).sum() == np.abs(padding.attention).sum() == 0
        alone_ball = symmetric_batch.heavy_ball(one).isel(run=0, step=-1)
        np.testing.assert_allclose(
            ball.isel(run=i, step=0, support=pick).attention, alone_ball.attention, atol=1e-13
        )
    np.testing.assert_allclose(chunked.attention, found.attention, atol=1e-13, rtol=1e-11)
    assert found.complete.all()


@settings(max_examples=5, deadline=None)
@given(
    ratio=st.floats(0.5, 30.0),
    rate=st.floats(0.05, 5.0),
    overlap=st.floats(0.01, 0.9),
    r=st.sampled_from([1, 2, 5, 10]),
)
def test_the_batched_integrator_agrees_with_lsoda(ratio, rate, overlap, r):
    case = LARGE | {"next_per_query": r, "decoder_rate": ratio * rate, "attention_rate": rate}
    case["common"] = [float(symmetric.common_weight(overlap, case["distinct"]))]
    exact = symmetric.solve(sets(**case), [0.0, 10.0, 1e4], rtol=1e-11, atol=1e-14)
    many = symmetric_batch.solve_many(sets(**case), [0.0, 10.0, 1e4]).isel(run=0)
    assert float(exact.overlap[0]) == pytest.approx(overlap, rel=1e-12)
    np.testing.assert_allclose(many.attention, exact.attention, atol=1e-7)
    np.testing.assert_allclose(many.loss, exact.loss, rtol=1e-7)
    assert np.abs(many.row_sum).max() < 1e-10


def test_the_integrator_is_of_high_order():
    """Error falls with the tolerance: not an error that the tolerance does not see."""
    exact = symmetric.solve(sets(**EQUAL), [300.0], rtol=1e-12, atol=1e-15).attention.values
    errors = [
        np.abs(
            symmetric_batch.solve_many(sets(**EQUAL), [300.0], rtol=tol, atol=tol).attention[0] - exact
        ).max()
        for tol in (1e-4, 1e-7, 1e-10)
    ]
    assert errors[1] < errors[0] / 50
    assert errors[2] < max(errors[1] / 50, 1e-11)


def test_rows_of_decoder_and_attention_sum_to_zero():
    case = CASES[0]
    found = symmetric.solve(sets(**case), np.geomspace(0.1, 500, 20), keep_decoder=True)
    K, M = 4, 40
    labels = np.where(found.kind == "common", 0, 1)  # a common token has no label of its own
    own, other, never = (found.decoder.sel(column=name) for name in ("own", "other", "never"))
    total = labels * own + (K - labels) * other + (M - K) * never
    np.testing.assert_allclose(total, 0, atol=1e-13)
    np.testing.assert_allclose(found.row_sum, 0, atol=1e-12)


def test_a_run_that_takes_too_many_steps_is_marked_and_the_others_are_not():
    p = sets(**LARGE, decoder_rate=0.5, attention_rate=[0.5, 50.0])
    found = symmetric_batch.solve_many(p, [1.0, 5000.0], max_steps=100)
    assert found.complete.values.tolist() == [True, False]
    assert np.isfinite(found.loss.values[:, 0]).all()
    assert np.isnan(found.loss.values[1, 1])


def test_phase_diagram_has_the_named_axes():
    axes = {
        "rate_ratio": [1.0, 10.0],
        "initial_overlap": [0.1, 0.5, 0.7],
        "attention_rate": np.array([0.5, 1.0]),
    }
    fixed = {"classes": 6, "vocabulary": 100, "next_per_query": 2, "distinct": [0.5, 0.3]}
    found = symmetric_batch.phase_diagram(axes, [10.0, 100.0], **fixed)
    assert found.loss.dims == ("rate_ratio", "initial_overlap", "attention_rate", "time")
    for ratio, overlap, rate in [(1.0, 0.7, 1.0), (10.0, 0.1, 0.5)]:
        weight = [float(symmetric.common_weight(overlap, [0.5, 0.3]))]
        alone = symmetric.solve(
            sets(**fixed, common=weight, decoder_rate=ratio * rate, attention_rate=rate), [10.0, 100.0]
        )
        cell = found.sel(rate_ratio=ratio, initial_overlap=overlap, attention_rate=rate)
        np.testing.assert_allclose(cell.distinct_entropy, alone.distinct_entropy, atol=1e-8)


def test_equations_in_numpy_and_in_torch_are_the_same():
    p = sets(**CASES[0], update="decorrelated")
    single, batch = Equations.single(p), Equations.batch(p)
    state = np.abs(np.random.default_rng(0).normal(size=single.start().shape))
    np.testing.assert_allclose(single.velocity(state), batch.velocity(state[:, None])[:, 0], rtol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"next_per_query": 3}, "next_per_query = 3 does not divide the 4 classes"),
        ({"vocabulary": 13}, "vocabulary of 13 tokens is smaller than the 14 contextual tokens"),
        ({"vocabulary": [40, 40], "classes": [4, 4, 4]}, "has 2 values for 3 runs"),
        ({"classes": 4.5}, "classes must be a whole number"),
        ({"decoder_rate": 0.0}, "decoder_rate must be positive"),
        ({"attention_rate": -1.0}, "attention_rate must not be negative"),
        ({"distinct": [0.0]}, "at least one distinct token"),
        ({"common": [-0.1]}, "common must hold weights that are finite and not negative"),
        ({"classes": 0}, "must be at least 1"),
        ({"common": [0.0], "distinct": [0.0]}, "at least one distinct token"),
        ({"common": 0.3}, "common must be a list of weights"),
        ({"distinct": [np.inf]}, "finite and not negative"),
    ],
)
def test_bad_input_is_one_sentence(change, message):
    with pytest.raises(SymmetricError, match=message) as error:
        sets(**SMALL | change)
    assert "\n" not in str(error.value)


def test_bad_calls_are_one_sentence():
    p = sets(**SMALL, decoder_rate=[1.0, 2.0])
    with pytest.raises(SymmetricError, match="takes one run, not 2"):
        symmetric.solve(p, [1.0])
    for times in ([], [2.0, 1.0], [-1.0], [np.inf]):
        with pytest.raises(SymmetricError, match="increasing numbers"):
            symmetric_batch.solve_many(p, times)
    with pytest.raises(SymmetricError, match="from 0 to 10"):
        symmetric_batch.heavy_ball(p, steps=10, snapshot_steps=[11])
    with pytest.raises(SymmetricError, match="momentum"):
        symmetric_batch.heavy_ball(p, momentum=1.0)
    for call in (symmetric_batch.heavy_ball, lambda p, **on: symmetric_batch.solve_many(p, [1.0], **on)):
        with pytest.raises(DeviceError, match="'tpu' is not known"):
            call(p, device="tpu")
    for overlap in (1.0, -0.1, np.nan):
        with pytest.raises(SymmetricError, match="overlap of two classes must be at least 0 and below 1"):
            symmetric.common_weight([0.5, overlap], [1.0])
    with pytest.raises(SymmetricError, match="common_per_query = 5 with 2 queries"):
        symmetric.from_task(TaskConfig(next_per_query=2, common_per_query=5))
