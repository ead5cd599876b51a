"""Sequence classes: attention in plain loops, the decorrelation matrix by eigenvalues, Assumption 2."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.scan_snap.classes import (
    Classes,
    SequenceError,
    assumption2,
    decorrelation,
    random_classes,
    symmetric_classes,
)
from learndyn.scan_snap.task import SYN_SMALL

seeds = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_attention_is_the_weighted_exponential_of_the_logits(seed):
    classes = random_classes(seed, classes=4, vocabulary=20, next_per_query=2, common=2)
    z = np.random.default_rng(seed).normal(size=(3, 2, 20))
    weights, unit, overlaps = classes.attention_weights(z), classes.unit(z), classes.overlaps(z)
    for run in range(3):
        rows = []
        for n in range(4):
            row = np.array(
                [classes.probabilities[n, token] * np.exp(z[run, n // 2, token]) for token in range(20)]
            )
            np.testing.assert_allclose(weights[run, n], row / row.sum(), rtol=1e-12)
            rows.append(row / np.sqrt((row**2).sum()))
            np.testing.assert_allclose(unit[run, n], rows[-1], rtol=1e-12)
        for n in range(4):
            for k in range(4):
                assert overlaps[run, n, k] == pytest.approx(rows[n] @ rows[k], abs=1e-12)


def test_tokens_that_a_class_does_not_use_get_exactly_nothing_however_large_their_logit():
    classes = symmetric_classes(2, 10, 2, [1.0], [1.0, 2.0])
    z = np.zeros((1, 10))
    z[:, 3:] = 1e4  # distinct tokens of the second class, and tokens that never occur
    weights = classes.attention_weights(z)
    np.testing.assert_allclose(weights[0, :3], [0.25, 0.25, 0.5])
    np.testing.assert_array_equal(weights[0, 3:], 0)
    np.testing.assert_allclose(weights[1, 3:5], [1 / 3, 2 / 3])
    np.testing.assert_array_equal(weights[1, 5:], 0)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_decorrelation_has_eigenvalues_lambda_over_one_plus_lambda(seed):
    classes = random_classes(seed, classes=5, vocabulary=30)
    overlaps = classes.overlaps(np.zeros((1, 30)))
    values, vectors = np.linalg.eigh(overlaps - np.eye(5))
    expected = vectors @ np.diag(values / (1 + values)) @ vectors.T
    np.testing.assert_allclose(decorrelation(overlaps), expected, atol=1e-12)
    np.testing.assert_allclose(decorrelation(overlaps), np.eye(5) - np.linalg.inv(overlaps), atol=1e-12)


def test_decorrelation_is_the_overlap_where_that_is_weak():
    classes = symmetric_classes(5, 300, 5, [0.1], [0.5, 0.3, 0.1])
    overlaps = classes.overlaps(np.zeros((1, 300)))
    off = decorrelation(overlaps)[0, 1]
    assert overlaps[0, 1] == pytest.approx(0.0278, abs=5e-5)
    assert 0 < off < overlaps[0, 1]  # positive: the sign that the formulas need
    assert off == pytest.approx(overlaps[0, 1], rel=0.1)


def test_assumption_2_fails_in_the_experiments_and_holds_in_the_regime_of_the_theorem():
    small = assumption2(SYN_SMALL.to_classes())
    assert small["overlap"] == pytest.approx(10 / 13.85, abs=1e-12)
    assert small["overlap"] == pytest.approx(0.722, abs=5e-4)
    assert small["limit"] == 0.5
    assert small["largest_eigenvalue"] == pytest.approx(0.722, abs=5e-4)
    assert small["weak_overlap"] is False
    assert small["holds"] is False
    weak = assumption2(symmetric_classes(5, 300, 5, [0.1], [0.5, 0.3, 0.1]))
    assert weak["holds"] is True
    assert weak["largest_eigenvalue"] == pytest.approx(4 * 0.1**2 / (0.1**2 + 0.5**2 + 0.3**2 + 0.1**2))
    assert weak["vocabulary_ratio"] == 12
    # Classes without a common token do not overlap: E = 0, which the assumption excludes as well.
    apart = assumption2(symmetric_classes(3, 30, 3, [], [1.0, 1.0]))
    assert apart["non_degenerate"] is False
    assert apart["holds"] is False


def test_assumption_2_follows_the_attention():
    classes = SYN_SMALL.to_classes()
    z = np.zeros((2, 34))
    z[:, :10] = -3  # attention has left the common tokens
    assert assumption2(classes, z)["weak_overlap"] is True


def test_symmetric_classes_differ_only_in_names():
    classes = symmetric_classes(4, 40, 2, [0.3, 0.1], [0.4, 0.3, 0.1])
    assert (classes.classes, classes.vocabulary, classes.queries) == (4, 40, 2)
    total = 0.3 + 0.1 + 0.4 + 0.3 + 0.1
    for n in range(4):
        used = np.flatnonzero(classes.probabilities[n])
        assert used.tolist() == [0, 1, 2 + 3 * n, 3 + 3 * n, 4 + 3 * n]
        np.testing.assert_allclose(
            classes.probabilities[n, used], np.array([0.3, 0.1, 0.4, 0.3, 0.1]) / total
        )
    assert classes.query.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(classes.prior, 0.25)
    assert np.flatnonzero(classes.common).tolist() == [0, 1]


def test_random_classes_have_no_symmetry_and_follow_their_seed():
    one = random_classes(1, uniform_prior=False)
    again, other = random_classes(1, uniform_prior=False), random_classes(2, uniform_prior=False)
    np.testing.assert_array_equal(one.probabilities, again.probabilities)
    assert not np.array_equal(one.probabilities, other.probabilities)
    assert len(np.unique(one.probabilities[:, 0])) == 3
    assert len(np.unique(np.asarray(one.prior))) == 3
    np.testing.assert_array_equal(random_classes(1).prior, np.full(3, 1 / 3))


GOOD = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Classes(GOOD * 0.9, np.array([0, 0])), "must sum to 1"),
        (lambda: Classes(GOOD - np.array([[1, -1, 0]]), np.array([0, 0])), "must not be negative"),
        (lambda: Classes(GOOD * np.nan, np.array([0, 0])), "must not be negative, infinite or NaN"),
        (lambda: Classes(GOOD, np.array([0, 2])), "numbered 0, 1, …"),
        (lambda: Classes(GOOD, np.array([0, 1]), np.array([0.5, 0.6])), "probabilities of the classes"),
        (lambda: Classes(GOOD[:0], np.array([], dtype=int)), "there must be a class at least"),
        (lambda: Classes(np.ones((2, 1)), np.array([0, 1])), "2 next tokens do not fit in a vocabulary of 1"),
        (lambda: Classes(np.ones((1, 1)), np.array([0])), "a vocabulary of one token"),
        (lambda: Classes(GOOD * (1 + 1e-8), np.array([0, 0])), "they sum to [1.00000001, 1.00000001]"),
        (lambda: symmetric_classes(4, 10, 2, [1.0], [1.0, 1.0, 1.0]), "10 tokens is smaller than the 13"),
        (
            lambda: symmetric_classes(4, 40, 3, [1.0], [1.0]),
            "4 classes cannot be dealt out as 3 to every query",
        ),
        (lambda: symmetric_classes(4, 40, 2, [1.0], []), "at least one distinct token"),
        (lambda: symmetric_classes(4, 40, 2, [0.0], [1.0]), "weights of tokens must be positive"),
        (lambda: random_classes(0, classes=3, vocabulary=9), "9 tokens is smaller than the 10"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(build, sentence):
    with pytest.raises(SequenceError) as caught:
        build()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
