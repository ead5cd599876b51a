"""The linear toy in the eigenbasis against plain autograd gradient descent, and the checks of Figure 1."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from learndyn.core.config import ConfigError
from learndyn.core.device import generator
from learndyn.core.ensemble import EnsembleError
from learndyn.ssl_dynamics.stepwise import linear, tasks, toy
from learndyn.ssl_dynamics.stepwise.toy import ToyConfig


def _views(pairs=60, inputs=20, seed=0):
    draw = generator(seed, "toy test")
    shared = torch.randn(pairs, inputs, generator=draw, dtype=torch.float64)
    shared = shared * torch.linspace(2, 0.1, inputs, dtype=torch.float64)
    noise = 0.2 * torch.randn(2, pairs, inputs, generator=draw, dtype=torch.float64)
    return shared + noise[0], shared + noise[1]


def _plain_descent(views, start, rate, steps):
    """torch.optim.SGD on W with the loss written from the pairs; the weights and losses of every step."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=rate)
    path, losses = [], []
    for _ in range(steps + 1):
        a, b = (view @ weights.T for view in views)
        c = (a.T @ b + b.T @ a) / (2 * len(a))
        loss = ((c - torch.eye(len(start))) ** 2).sum()
        path.append(weights.detach().clone())
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.stack(path), np.array(losses)


@pytest.mark.parametrize("pairs", [60, 8], ids=["primal", "dual"])
def test_it_is_plain_gradient_descent_on_the_weights(pairs):
    views = _views(pairs=pairs)
    modes = linear.feature_modes(*views)
    config = ToyConfig(
        dimensions=3, init_scale=0.05, steps=200, mode_threshold=0, snapshot_steps=(1, 50), log_ratio=1.2
    )
    result = toy.train(config, modes)
    start = 0.05 * toy.initial_weights(0, 3, 20)
    path, losses = _plain_descent(views, start, float(result.learning_rate[0]), 200)
    assert losses[-1] < 0.5 * losses[0]
    # Also the part that never moves, outside the span of the modes, belongs to the weights.
    outside = start - start @ modes.vectors.T @ modes.vectors
    for step, weights in zip(result.snapshot.values, result.weights.values[0], strict=True):
        ours = torch.as_tensor(weights) @ modes.vectors[result.feature_mode.values - 1] + outside
        assert float((ours - path[step]).abs().max()) < 1e-10
    assert np.allclose(result.loss[0], losses[result.step], rtol=1e-10)
    norms = (path**2).sum((1, 2)).numpy()
    assert np.allclose(result.weight_norm[0], norms[result.step], rtol=1e-10)
    for index, step in enumerate(result.step.values):
        c = path[step] @ modes.vectors.T
        c = (c * modes.eigenvalues) @ c.T
        wanted = np.linalg.eigvalsh(c.numpy())[::-1]
        assert np.allclose(result.correlation_eigenvalues[0, index], wanted, atol=1e-12)
        rows = np.linalg.qr(path[step].numpy().T)[0].T
        alignment = ((rows @ modes.vectors[:3].numpy().T) ** 2).sum() / 3
        assert float(result.alignment[0, index]) == pytest.approx(alignment, abs=1e-10)


def test_a_run_is_the_same_alone_and_in_an_ensemble_of_other_scales_seeds_and_dimensions():
    modes = linear.feature_modes(*_views())
    runs = {"dimensions": (2, 5, 3), "init_scale": (1e-3, 1e-5, 0.1), "seed": (1, 2, 3)}
    # The largest dimension decides which modes are left out, so none is.
    shared = {"steps": 400, "mode_threshold": 0}
    together = toy.train(ToyConfig(**runs, stability_fraction=(0.2, 0.3, 0.5), **shared), modes)
    for run in range(3):
        own = {name: values[run] for name, values in runs.items()}
        alone = toy.train(ToyConfig(**own, stability_fraction=(0.2, 0.3, 0.5)[run], **shared), modes)
        d = own["dimensions"]
        for name in ("loss", "alignment", "weight_norm", "effective_time"):
            assert np.allclose(together[name][run], alone[name][0], rtol=1e-9, atol=1e-12), name
        eigenvalues = together.correlation_eigenvalues[run].values
        assert np.allclose(eigenvalues[:, :d], alone.correlation_eigenvalues[0], atol=1e-9)
        assert np.isnan(eigenvalues[:, d:]).all()
        assert np.allclose(together.critical_time[run, :d], alone.critical_time[0])
        assert np.all(together.weights[run, :, d:] == 0)


def test_the_modes_left_out_stay_below_the_bound():
    modes = linear.feature_modes(*_views(inputs=40))
    config = ToyConfig(dimensions=4, init_scale=1e-6)
    some, every = (toy.train(config.replace(mode_threshold=t), modes) for t in (0.3, 0.0))
    assert some.sizes["feature_mode"] < every.sizes["feature_mode"]
    left_out = np.setdiff1d(every.feature_mode, some.feature_mode)
    weights = every.weights.sel(feature_mode=left_out).values[0, -1]
    actual = (weights**2 * np.abs(every.eigenvalue.sel(feature_mode=left_out).values)).sum()
    bound = float(some.neglected[0])
    assert 0 < actual <= bound < 1e-5
    gap = np.abs(some.correlation_eigenvalues - every.correlation_eigenvalues).values.max()
    assert gap <= 2 * bound
    assert float(every.neglected[0]) == 0


def test_the_automatic_number_of_steps_ends_at_the_solution():
    modes = linear.feature_modes(*_views())
    result = toy.train(ToyConfig(dimensions=3, init_scale=(1e-6, 1e-3)), modes)
    assert float(result.loss[:, -1].max()) < 1e-10
    assert np.allclose(result.weight_norm[:, -1], result.minimum_norm, rtol=0.05)
    assert (result.step.diff("step") >= 1).all()


def test_more_dimensions_than_positive_modes_warn_and_end_at_the_floor():
    gamma = torch.tensor([2.0, 1.0, -0.3, -1.0, 0.0]).double()
    modes = linear.modes_of(gamma.diag())
    with pytest.warns(linear.LossFloorWarning, match=r"only 2 positive modes.*cannot fall below 2"):
        result = toy.train(ToyConfig(dimensions=4, init_scale=1e-3), modes)
    assert float(result.loss[0, -1]) == pytest.approx(2, abs=1e-3)
    assert np.isinf(result.critical_time[0, 2:]).all()
    assert math.isnan(result.minimum_norm[0])
    with pytest.raises(linear.LinearModelError, match="6 modes were asked for"):
        toy.train(ToyConfig(dimensions=6), modes)
    with pytest.raises(toy.ToyError, match="nothing to learn"):
        toy.train(ToyConfig(dimensions=1), linear.modes_of(-torch.eye(3).double()))


def test_an_unstable_rate_warns_and_its_run_alone_is_lost():
    modes = linear.feature_modes(*_views())
    config = ToyConfig(dimensions=2, init_scale=0.1, stability_fraction=(0.25, 40.0), steps=3000)
    with pytest.warns(linear.StabilityWarning, match=r"above the stability bound 1/\(4 gamma_1\) = "):
        result = toy.train(config, modes)
    assert result.status_code.values.tolist() == [0, 1]
    assert "diverged" in str(result.status_sentence.values[1])
    assert float(result.loss[0, -1]) < 1e-6
    assert np.isnan(result.correlation_eigenvalues[1, -1]).all()
    with (
        pytest.warns(linear.StabilityWarning),
        pytest.raises(EnsembleError, match=r"seed 0, init_scale 0\.1"),
    ):
        toy.train(config, modes, strict=True)


def test_hopeless_waiting_is_refused():
    modes = linear.modes_of(torch.tensor([1.0, 1e-9]).double().diag())
    with pytest.raises(toy.ToyError, match=r"the slowest of the modes to learn would need .* steps"):
        toy.train(ToyConfig(dimensions=2), modes)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dimensions": 0}, "ToyConfig.dimensions"),
        ({"init_scale": -1.0}, "ToyConfig.init_scale"),
        ({"seed": (1, 2), "dimensions": (3, 4, 5)}, "seed has 2 values for 3 runs"),
        ({"steps": 10, "snapshot_steps": (11,)}, "snapshot_steps must lie within the 10 steps"),
        ({"learning_rate": 0.1}, "unknown parameter 'learning_rate'"),
    ],
)
def test_bad_values_are_one_sentence(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ToyConfig(**values)


def test_the_result_carries_its_provenance():
    result = toy.train(ToyConfig(dimensions=2, steps=5), linear.feature_modes(*_views()))
    assert result.attrs["config_class"] == "ToyConfig"
    assert {"torch_version", "wall_seconds", "eigenvalues_sha256"} <= result.attrs.keys()
    assert ToyConfig.model_validate_json(result.attrs["config"]).dimensions == (2,)


# The linear toy of Fig. 1, on photo crops


@pytest.fixture(scope="module")
def photo_runs():
    runs = []
    for seed in (1, 2):
        pairs = tasks.photo_pairs(seed, 500, 32, 20)
        modes = linear.feature_modes(pairs.view_a, pairs.view_b)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            runs.append((modes, toy.train(ToyConfig(seed=(0, 1)), modes)))
    return runs


def test_the_spectrum_of_the_photo_crops(photo_runs):
    for modes, _ in photo_runs:
        assert float(modes.eigenvalues[0]) == pytest.approx(733, abs=100)
        ratios = modes.eigenvalues[:10] / modes.eigenvalues[0]
        wanted = torch.tensor([1, 0.140, 0.070, 0.052, 0.011, 0.009, 0.008, 0.007, 0.005, 0.003]).double()
        assert torch.allclose(ratios, wanted, rtol=0.4)


def test_photo_crops_are_learned_one_mode_at_a_time_at_the_predicted_times(photo_runs):
    for modes, result in photo_runs:
        for run in range(2):
            times = torch.as_tensor(result.effective_time.values[run])
            values = torch.as_tensor(result.correlation_eigenvalues.values[run])
            predicted = np.sort(result.critical_time.values[run])
            ratio = linear.crossing_times(times, values).numpy() / predicted
            assert ratio[0] == pytest.approx(1, abs=0.015)
            assert np.abs(ratio[1:] - 1).max() < 0.005
            start = torch.as_tensor(result.start.values[run])
            theory = linear.correlation_eigenvalues(
                times, modes.eigenvalues[:10], start, float(result.learning_rate[run])
            )
            gap = (theory.sort(-1, descending=True).values - values).abs().amax(0)
            assert gap[0] < 0.11
            assert gap[1:].max() < 0.03


def test_photo_crops_end_at_the_top_spectral_solution(photo_runs):
    for _, result in photo_runs:
        assert float(result.loss[:, 0].min()) == pytest.approx(10, abs=1e-6)
        assert float(result.loss[:, -1].max()) < 1e-6
        assert float(result.alignment[:, -1].min()) > 0.99
        assert np.allclose(result.weight_norm[:, -1], result.minimum_norm, rtol=1e-2)
        assert float(result.neglected.max()) < 1e-8
        tau = np.sort(result.critical_time.values[0])
        for learned in (1, 2):  # half-way to the next step, on the plateau
            time = np.sqrt(tau[learned - 1] * tau[learned])
            loss = np.interp(time, result.effective_time[0], result.loss[0])
            assert loss == pytest.approx(10 - learned, abs=0.05)
