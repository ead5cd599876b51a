"""Extent and amplitude bias: the eigenvalues of the toys, and which feature is learned first."""

from __future__ import annotations

import pytest
import torch

from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import feature_bias, linear, toy

PAIRS = 4000


def _toys():
    yield feature_bias.extent_pairs(PAIRS, generator=generator(0, "e")), feature_bias.extent_eigenvalues()
    amplitudes = feature_bias.amplitude_eigenvalues(1.0, 3.0, 96)
    yield feature_bias.amplitude_pairs(PAIRS, generator=generator(0, "a")), amplitudes.sort().values.flip(0)


def test_the_eigenvalues():
    assert feature_bias.extent_eigenvalues().tolist() == [9, 1]
    assert feature_bias.amplitude_eigenvalues(1.0, 3.0, 96).tolist() == [48, 432]
    for pairs, wanted in _toys():
        modes = linear.feature_modes(pairs.view_a, pairs.view_b)
        assert torch.allclose(modes.eigenvalues[:2], wanted, rtol=0.02)
        assert float(modes.eigenvalues[2]) < 1e-3


def test_views_share_the_signs_and_not_the_noise():
    pairs = feature_bias.extent_pairs(500, generator=generator(1, "e"))
    difference = pairs.view_a - pairs.view_b
    assert float(difference.std()) == pytest.approx(0.01 * 2**0.5, rel=0.05)
    signs = pairs.view_a.sign()
    assert torch.equal(signs, pairs.view_b.sign())
    assert (signs[:, :9] == signs[:, :1]).all()
    assert float((signs[:, 0] * signs[:, 9]).mean().abs()) < 0.15


def test_the_bigger_and_the_louder_feature_is_learned_first():
    for pairs, wanted in _toys():
        modes = linear.feature_modes(pairs.view_a, pairs.view_b)
        result = toy.train(toy.ToyConfig(dimensions=2, init_scale=1e-6, seed=(0, 1)), modes)
        for run in range(2):
            times = torch.as_tensor(result.effective_time.values[run])
            half = linear.crossing_times(times, torch.as_tensor(result.correlation_eigenvalues.values[run]))
            assert float(half[1] / half[0]) == pytest.approx(float(wanted[0] / wanted[1]), rel=0.25)
        # What W holds between the two steps is the strong feature alone.
        between = int(result.step[(result.loss[0] - 1).values.__abs__().argmin()])
        config = toy.ToyConfig(dimensions=2, init_scale=1e-6, steps=between)
        weights = torch.as_tensor(toy.train(config, modes).weights.values[0, -1])
        assert float((weights[:, 0] ** 2).sum() / (weights**2).sum()) > 0.999
