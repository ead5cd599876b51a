"""Shuffled positives: what is in the control, and that it still learns in steps, later."""

import numpy as np
import pytest
import torch

from learndyn.core import pairs as pairs_module
from learndyn.core import spectra
from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import controls, kernel, tasks, toy

CONFIG = toy.ToyConfig(dimensions=4)


@pytest.fixture(scope="module")
def photos():
    return tasks.photo_pairs(0, pairs=60, patch=16, crop=8)


@pytest.fixture(scope="module")
def result(photos):
    return controls.shuffle_control(photos, CONFIG)


def flattened(pairs):
    return pairs.view_a.flatten(1), pairs.view_b.flatten(1)


def test_spectra_are_those_of_the_pairs_and_of_a_permutation_of_them(photos, result):
    a, b = flattened(photos)
    assert np.allclose(
        result["true"].spectrum[:20],
        spectra.sorted_eigenvalues(spectra.cross_covariance(a, b))[:20],
        atol=1e-9,
    )
    shuffled = pairs_module.shuffled_pairs(photos, generator(0, "shuffled positives"))
    moved = spectra.sorted_eigenvalues(spectra.cross_covariance(*flattened(shuffled)))
    assert np.allclose(result["shuffled"].spectrum[:20], moved[:20], atol=1e-9)
    rows = shuffled.view_b.flatten(1)
    assert torch.equal(rows.sort(0).values, b.sort(0).values)
    assert not torch.equal(rows, b)


def test_without_agreement_eigenvalues_are_small_and_half_of_them_negative(result):
    true, shuffled = (result[name].spectrum for name in ("true", "shuffled"))
    assert (shuffled[:4] < 0.6 * true[:4].values).all()
    size = float(shuffled.max())
    positive, negative = int((shuffled > 1e-9 * size).sum()), int((shuffled < -1e-9 * size).sum())
    assert abs(positive - negative) <= 4
    # The trace is Σ⟨x, x′⟩/n: large for true pairs.
    assert float(true.sum()) > 5 * abs(float(shuffled.sum()))


def test_the_staircase_is_still_there_only_later(result):
    for log in result.values():
        assert float(log.loss[0, -1]) < 1e-6
        ratio = log.half_time[0] / np.sort(log.critical_time[0])
        assert np.allclose(ratio, 1, atol=0.05)
        assert int(spectra.clean_plateaus(torch.from_numpy(log.correlation_eigenvalues.values))[0]) >= 2
    assert (result["shuffled"].half_time[0] > 1.5 * result["true"].half_time[0]).all()


def test_kernel_control():
    digits = tasks.digit_pairs(0, pairs=20)
    rbf = kernel.RBF(8.0)
    logs = controls.shuffle_control(digits, CONFIG, kernel_function=rbf, seed=1)
    samples = kernel.stack_views(digits.view_a, digits.view_b)
    gamma = spectra.sorted_eigenvalues(kernel.contrastive_kernel(rbf(samples, samples)))
    assert np.allclose(logs["true"].spectrum, gamma, atol=1e-12)
    # The first mode is nearly the constant function, which a permutation leaves as it is.
    assert float(logs["shuffled"].spectrum[0] / logs["true"].spectrum[0]) > 0.9
    assert (logs["shuffled"].half_time[0, 1:] > 1.5 * logs["true"].half_time[0, 1:]).all()
    assert float(logs["shuffled"].loss[0, -1]) < 1e-6
