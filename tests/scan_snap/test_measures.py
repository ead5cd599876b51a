"""Measures on attention logits against plain loops, and the frequency family against an integrated flow."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

from learndyn.scan_snap import measures
from learndyn.scan_snap.classes import SequenceError
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig, syn_medium

TASK = TaskConfig(queries=2, next_per_query=2, common=3, common_per_query=2, distinct=4)
WEIGHTS = SYN_SMALL.probabilities[SYN_SMALL.distinct_support]
RELATIVE = WEIGHTS / WEIGHTS.max()


def _logits(task, *batch, seed=0, scale=1.0):
    shape = (*batch, task.queries, task.vocabulary)
    return scale * np.random.default_rng(seed).normal(size=shape)


def test_attention_is_that_of_the_classes_on_their_tokens():
    z = _logits(TASK, 3, 2)
    weights = measures.attention_weights(TASK, z)
    dense = TASK.to_classes().attention_weights(z)
    assert weights.shape == (3, 2, TASK.classes, TASK.support)
    for n in range(TASK.classes):
        np.testing.assert_allclose(weights[..., n, :], dense[..., n, TASK.support_tokens[n]], rtol=1e-12)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)


def test_entropy_and_masses_are_those_of_plain_loops():
    weights = measures.attention_weights(TASK, _logits(TASK, 3))
    entropy = measures.distinct_entropy(TASK, weights)
    common, distinct = measures.common_mass(TASK, weights), measures.distinct_mass(TASK, weights)
    for run in range(3):
        for n in range(TASK.classes):
            row = weights[run, n].tolist()
            own = row[3 + 2 :]
            assert len(own) == 4
            assert common[run, n] == pytest.approx(sum(row[:5]))
            assert distinct[run, n] == pytest.approx(sum(own))
            expected = -sum(c / sum(own) * math.log(c / sum(own)) for c in own)
            assert entropy[run, n] == pytest.approx(expected)


def test_known_entropies():
    zero = measures.attention_weights(SYN_SMALL, np.zeros((2, 34)))
    np.testing.assert_allclose(measures.distinct_entropy(SYN_SMALL, zero), 2.1513, atol=5e-5)
    np.testing.assert_allclose(measures.common_mass(SYN_SMALL, zero), 0.6452, atol=5e-5)
    flat = np.zeros((2, 34))
    for n, tokens in enumerate(SYN_SMALL.support_tokens):
        flat[n, tokens] = -np.log(SYN_SMALL.probabilities)
    even = measures.attention_weights(SYN_SMALL, flat)
    np.testing.assert_allclose(measures.distinct_entropy(SYN_SMALL, even), math.log(10), rtol=1e-12)


def test_entropy_without_attention_on_distinct_tokens_is_not_a_number():
    z = np.zeros((2, 34))
    z[:, :10] = 2000
    entropy = measures.distinct_entropy(SYN_SMALL, measures.attention_weights(SYN_SMALL, z))
    assert np.isnan(entropy).all()


def test_one_token_that_takes_all_has_entropy_zero():
    z = np.zeros((2, 34))
    z[0, 19] = z[1, 29] = 2000
    weights = measures.attention_weights(SYN_SMALL, z)
    np.testing.assert_array_equal(measures.distinct_entropy(SYN_SMALL, weights), 0)
    np.testing.assert_array_equal(measures.distinct_mass(SYN_SMALL, weights), 1)


def test_padding_and_single_precision_change_nothing():
    z = _logits(TASK, 2).astype(np.float32)
    padded = np.pad(z, [(0, 0), (0, 3), (0, 7)], constant_values=50)
    thresholds = np.linspace(0.001, 0.1, 7)
    np.testing.assert_allclose(
        measures.attention_weights(TASK, padded),
        measures.attention_weights(TASK, z.astype(np.float64)),
        rtol=1e-13,
    )
    np.testing.assert_array_equal(
        measures.recall(TASK, padded, thresholds), measures.recall(TASK, z.astype(np.float64), thresholds)
    )


def test_summary_keeps_the_other_dimensions_and_their_coordinates():
    z = _logits(TASK, 3, 2)
    logits = xr.DataArray(
        z,
        dims=("run", "snapshot", "query", "token"),
        coords={"seed": ("run", [4, 5, 6]), "snapshot": [0, 10]},
    )
    data = measures.summary(TASK, logits.transpose("token", "run", "query", "snapshot"))
    weights = measures.attention_weights(TASK, z)
    expected = measures.distinct_entropy(TASK, weights).mean(-1)
    np.testing.assert_array_equal(data["distinct_entropy"].transpose("run", "snapshot"), expected)
    np.testing.assert_array_equal(
        data["attention_weights"].transpose("run", "snapshot", "next", "support"), weights
    )
    np.testing.assert_allclose(data["common_mass"] + data["distinct_mass"], 1)
    assert data["seed"].values.tolist() == [4, 5, 6]
    assert data["snapshot"].values.tolist() == [0, 10]
    np.testing.assert_array_equal(data["token"], TASK.support_tokens)


def _flow(strengths, probabilities):
    """Distinct tokens under the theorem's dynamics, dz_l = ξ(t) f_l² dt, at a few total strengths ∫ξ dt."""

    def speed(_, z):
        c = probabilities * np.exp(z)
        return c**2 / ((c**2).sum() + 0.05)  # some attention stays elsewhere

    end = max(strengths)
    solution = solve_ivp(
        speed,
        (0, end),
        np.zeros(len(probabilities)),
        t_eval=strengths,
        method="LSODA",
        rtol=1e-11,
        atol=1e-13,
    )
    return solution.y.T


def test_the_flow_conserves_the_invariant_and_stays_on_the_family():
    z = _flow([0.1, 1.0, 3.0, 10.0], WEIGHTS)
    kept = measures.invariant(z, WEIGHTS)
    np.testing.assert_allclose(kept / kept[:, :1], 1, atol=1e-6)
    shares = WEIGHTS * np.exp(z)
    shares /= shares.sum(-1, keepdims=True)
    chi0 = np.exp(2 * z[:, -1])
    assert chi0[0] < 2
    assert chi0[-1] > 50
    np.testing.assert_allclose(measures.family_curve(RELATIVE, chi0), shares, rtol=1e-6)
    np.testing.assert_allclose(measures.family_curve(RELATIVE, chi0[2]), shares[2], rtol=1e-6)


def test_logits_that_favour_rare_tokens_break_the_invariant():
    z = np.linspace(0.5, 1, 10)[::-1].copy()
    kept = measures.invariant(z, WEIGHTS)
    assert kept.min() / kept.max() > 10


def test_the_ends_of_the_family():
    np.testing.assert_allclose(measures.family_curve(RELATIVE, 1.0), WEIGHTS / WEIGHTS.sum(), rtol=1e-12)
    winner = measures.family_curve(RELATIVE, np.array([1e3, 1e12, 1e30]))
    assert (np.diff(winner[:, -1]) > 0).all()
    assert winner[-1, -1] == pytest.approx(1, abs=1e-12)


def test_recall_is_that_of_plain_loops():
    task, thresholds = syn_medium(3), np.array([0.0, 0.005, 0.0126, 0.02, 1.0])
    z = _logits(task, 2, scale=0.5)
    ours = measures.recall(task, z, thresholds)
    for run in range(2):
        for i, threshold in enumerate(thresholds):
            per_class = []
            for n in range(task.classes):
                row = z[run, n // 2]
                attention = np.exp(row) / np.exp(row).sum()
                found = [attention[10 + 10 * n + k] >= threshold for k in range(10)]
                per_class.append(sum(found) / 10)
            assert ours[run, i] == pytest.approx(np.mean(per_class))
    assert ours[0, 0] == 1
    assert ours[0, -1] == 0


def test_recall_of_uniform_attention_falls_at_one_over_the_vocabulary():
    thresholds = np.array([0.99, 1.01]) / 34
    np.testing.assert_array_equal(measures.recall(SYN_SMALL, np.zeros((2, 34)), thresholds), [1, 0])


def test_attention_equal_to_the_threshold_is_found():
    task = SYN_SMALL.replace(vocabulary_size=64)  # uniform attention is exactly 2⁻⁶
    np.testing.assert_array_equal(measures.recall(task, np.zeros((2, 64)), np.array([1 / 64])), [1])


def test_recall_of_a_run_that_diverged_is_not_a_number():
    z = np.zeros((2, 2, 34))
    z[1] = np.nan
    found = measures.recall(SYN_SMALL, z, np.array([0.99, 1.01]) / 34)
    np.testing.assert_array_equal(found, [[1, 0], [np.nan, np.nan]])


def test_logits_of_another_task_are_refused():
    with pytest.raises(SequenceError, match="1 queries and 34 tokens do not belong to a task with 2 queries"):
        measures.attention_weights(SYN_SMALL, np.zeros((1, 34)))
    with pytest.raises(SequenceError, match="33 tokens do not belong"):
        measures.recall(SYN_SMALL, np.zeros((2, 33)), np.array([0.1]))
