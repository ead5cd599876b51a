"""The sampled counts: their distribution, the published random numbers, the slabs."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from learndyn.scan_snap.streams import PublishedStream, Samples, VectorisedStream, slabs, stream
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig, syn_medium

SMALL = TaskConfig(queries=2, next_per_query=2, common=3, common_per_query=2, distinct=4, sequence_length=21)


@pytest.mark.parametrize("rng", ["vectorised", "published"])
def test_counts_are_multinomial(rng):
    source = stream(SMALL, 3, 500, rng)
    batches = [source.batch(step) for step in range(20)]
    counts = np.concatenate([batch.counts for batch in batches])
    assert (counts.sum(1) == 20).all()
    expected = counts.sum() * SMALL.probabilities
    assert stats.chisquare(counts.sum(0), expected).pvalue > 1e-3
    # Independent positions: the variance is the multinomial one, not a larger or a smaller one.
    variance = 20 * SMALL.probabilities * (1 - SMALL.probabilities)
    np.testing.assert_allclose(counts.var(0), variance, rtol=0.06)
    classes = np.concatenate([batch.classes for batch in batches])
    assert stats.chisquare(np.bincount(classes, minlength=4)).pvalue > 1e-3
    assert all((np.diff(batch.classes) >= 0).all() for batch in batches)


@pytest.mark.parametrize("kind", [VectorisedStream, PublishedStream])
def test_any_step_can_be_asked_for(kind):
    forward = kind(SMALL, 1, 16)
    wanted = [forward.batch(step) for step in range(5)]
    jumping = kind(SMALL, 1, 16)
    for step in (3, 1, 1, 4, 0):
        found = jumping.batch(step)
        np.testing.assert_array_equal(found.counts, wanted[step].counts)
        np.testing.assert_array_equal(found.classes, wanted[step].classes)
    assert not np.array_equal(wanted[0].counts, wanted[1].counts)


@pytest.mark.parametrize("rng", ["vectorised", "published"])
def test_streams_differ_between_seeds(rng):
    first, second = (stream(SYN_SMALL, seed, 16, rng) for seed in (1, 2))
    assert not np.array_equal(first.batch(0).counts, second.batch(0).counts)
    assert not torch.equal(first.initial()[0], second.initial()[0])
    if rng == "vectorised":  # of two tasks too, whose samples are drawn alike
        assert not np.array_equal(first.batch(0).counts, stream(syn_medium(3), 1, 16).batch(0).counts)


@pytest.mark.parametrize("rng", ["vectorised", "published"])
def test_initial_parameters_are_uniform(rng):
    decoder, attention = stream(syn_medium(10), 5, 4, rng).initial()
    assert decoder.shape == (240, 240)
    assert attention.shape == (10, 240)
    for part in (decoder, attention):
        scaled = part.flatten().numpy() * 240**0.5
        assert stats.kstest(scaled, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_published_draws_one_by_one():
    """The authors' order: two dense layers, then class and tokens of every sample."""
    task, seed, batch = SMALL, 7, 6
    choice, tokens = random.Random(seed), torch.Generator().manual_seed(seed + 2)
    bound = task.vocabulary**-0.5
    layers = [
        torch.empty(task.vocabulary, task.vocabulary).uniform_(-bound, bound, generator=tokens)
        for _ in range(2)
    ]
    source = PublishedStream(task, seed, batch)
    decoder, attention = source.initial()
    torch.testing.assert_close(decoder, layers[0].T.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(attention, layers[1][task.query_tokens].double(), rtol=1e-6, atol=0)
    p = torch.tensor(task.probabilities, dtype=torch.float32)
    for step in range(3):
        samples = []
        for _ in range(batch):
            n = choice.choice([0, 1, 2, 3])
            drawn = torch.multinomial(p, task.sequence_length - 1, replacement=True, generator=tokens)
            samples.append((n, tuple(torch.bincount(drawn, minlength=task.support).tolist())))
        found = source.batch(step)
        assert sorted(zip(found.classes.tolist(), map(tuple, found.counts.tolist()), strict=True)) == sorted(
            samples
        )


@given(st.integers(0, 10**6))
def test_slabs_hold_every_sample_once(seed):
    batches = [VectorisedStream(SMALL, seed + i, 9).batch(0) for i in range(3)]
    found = slabs(batches, SMALL, torch.float64)
    real = found.real[..., 0].numpy().astype(bool)
    assert found.log_counts.shape == (3, 4, real.shape[2], SMALL.support)
    counts = found.log_counts.exp().numpy()
    for i, batch in enumerate(batches):
        for n in range(4):
            np.testing.assert_allclose(counts[i, n][real[i, n]], batch.counts[batch.classes == n], rtol=1e-12)
    # What only fills a slab is a sample too, so that nothing is divided by zero.
    assert (counts[~real].sum(-1) == 1).all()


def test_slab_of_a_class_without_samples():
    only = Samples(np.array([2, 2]), np.ones((2, SMALL.support), dtype=np.int64))
    found = slabs([only], SMALL, torch.float32)
    assert found.real[0, :, :, 0].tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]
