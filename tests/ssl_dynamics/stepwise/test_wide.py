"""Wide networks: closed forms against autograd on a plain torch module, and the theory against training."""

import math

import numpy as np
import pytest
import torch

from learndyn.core import tangent_kernel as empirical
from learndyn.core.device import generator
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss
from learndyn.ssl_dynamics.stepwise import kernel, wide


class Plain(torch.nn.Module):
    """√(2/h) W₂ relu(W₁x/√m), written out."""

    def __init__(self, weights):
        super().__init__()
        self.first = torch.nn.Parameter(weights.first.clone())
        self.second = torch.nn.Parameter(weights.second.clone())

    def forward(self, x):
        hidden = torch.relu(torch.nn.functional.linear(x, self.first) / math.sqrt(x.shape[1]))
        return math.sqrt(2 / len(self.first)) * torch.nn.functional.linear(hidden, self.second)


def setting(width=24, pairs=8, inputs=6, dimensions=3, seed=0):
    draw = generator(seed, "wide test")
    clean = torch.randn(pairs, inputs, generator=draw, dtype=torch.float64)
    views = clean + 0.3 * torch.randn(2, pairs, inputs, generator=draw, dtype=torch.float64)
    return wide.initial_weights(seed, width, inputs, dimensions), kernel.stack_views(*views)


def test_tangent_kernel_against_autograd():
    weights, samples = setting()
    plain = Plain(weights)
    assert torch.allclose(wide.network(weights, samples).T, plain(samples), atol=1e-13)
    rows = []
    for sample in samples:
        for output in plain(sample[None])[0]:
            gradients = torch.autograd.grad(output, list(plain.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in gradients]))
    jacobian = torch.stack(rows).reshape(len(samples), 3, -1)
    naive = torch.einsum("iop,jop->ij", jacobian, jacobian) / 3
    assert torch.allclose(wide.tangent_kernel(weights, samples), naive, atol=1e-12)


def test_tangent_kernel_against_the_general_one():
    weights, samples = setting(seed=1)
    general = empirical.tangent_kernel(Plain(weights), samples)
    assert torch.allclose(wide.tangent_kernel(weights, samples), general, atol=1e-12)


def test_tangent_kernel_tends_to_the_infinite_one():
    def error(width, seed):
        weights, samples = setting(width=width, seed=seed)
        limit = kernel.relu_tangent_kernel(samples, samples)
        return float((wide.tangent_kernel(weights, samples) - limit).norm() / limit.norm())

    narrow, broad = (np.mean([error(width, seed) for seed in range(20)]) for width in (100, 10_000))
    assert broad < 0.03
    assert narrow / broad == pytest.approx(10, rel=0.3)  # as 1/√h


def test_descent_against_torch_sgd():
    weights, samples = setting()
    plain, loss = Plain(weights), BarlowTwinsTheoryLoss()
    start = plain(samples).detach()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    correlations = []
    for _ in range(40):
        a, b = (plain(samples) - 0.7 * start).chunk(2)
        with torch.no_grad():
            correlations.append((a.T @ b + b.T @ a) / (2 * len(a)))
        optimizer.zero_grad()
        loss(a, b).backward()
        optimizer.step()
    run = wide.descend(weights, samples, learning_rate=0.05, steps=40, output_scale=0.3)
    assert torch.allclose(run.correlations[:40], torch.stack(correlations), atol=1e-11)
    assert torch.allclose(run.outputs.T, plain(samples) - 0.7 * start, atol=1e-11)
    assert not torch.allclose(run.correlations[0], run.correlations[-1], atol=0.1)
    assert torch.allclose(run.tangent, empirical.tangent_kernel(plain, samples), atol=1e-11)
    assert not torch.allclose(run.tangent, wide.tangent_kernel(weights, samples), rtol=0.01)


def test_prediction_is_exact_for_outputs_that_are_aligned():
    """Outputs U diag(s) Bᵀ K^{1/2} must give back s, and the half times of the scalar recursion."""
    weights, samples = setting(width=200)
    tangent = wide.tangent_kernel(weights, samples)
    model = kernel.kernel_model(tangent)
    s0 = torch.tensor([1e-4, 3e-4, 2e-4], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator(0, "u"), dtype=torch.float64)).Q
    outputs = rotation * s0 @ model.modes.top(3).vectors @ model.root
    theory = wide.predict(tangent, outputs, rate=0.02)
    assert theory.half_times.diff().min() > 0
    assert torch.allclose(theory.start.sort().values, s0.sort().values, rtol=1e-6)
    for gamma, s, half in zip(theory.gamma, theory.start, theory.half_times, strict=True):
        steps = 0
        while gamma * s**2 < 0.5:
            s = s + 4 * theory.learning_rate * gamma * s * (1 - gamma * s**2)
            steps += 1
        assert steps * theory.learning_rate == pytest.approx(float(half), rel=0.02)


@pytest.fixture(scope="module")
def result():
    return wide.train(wide.WideConfig(width=(64, 1024), seed=(0, 1)))


def test_networks_follow_the_theory_the_better_the_wider(result):
    assert dict(result.sizes) | {"step": 0} == {"width": 2, "seed": 2, "mode": 5, "step": 0}
    assert float(result.loss.max()) < 1e-3
    first = result.ratio.sel(mode=1)
    assert (np.abs(first - 1) < 0.08).all()
    error = np.abs(np.log(result.ratio)).mean(("seed", "mode"))
    assert float(error.sel(width=1024)) < 0.6 * float(error.sel(width=64))
    assert (result.alignment.sel(width=1024) > result.alignment.sel(width=64)).all()
    assert float(result.alignment.sel(width=1024).min()) > 0.9


def test_the_dataset_is_consistent(result):
    assert result.attrs["config_class"] == "WideConfig"
    at_start = result.predicted_eigenvalues.isel(step=0)
    assert np.allclose(at_start.sum("mode"), (result.gamma * result.start**2).sum("mode"))
    assert np.allclose(result.learning_rate, 0.2 / (4 * result.gamma.max("mode")))
    ends = result.eigenvalues.notnull().all("mode").sum("step") - 1
    expected = np.ceil(1.5 * result.predicted_half_time.max("mode") / result.learning_rate)
    assert (ends == expected).all()
    final = result.eigenvalues.isel(step=ends)
    assert np.allclose(((1 - final) ** 2).sum("mode"), result.loss, atol=1e-12)
    assert (result.final_gamma.diff("mode") <= 0).all()
    assert (result.kernel_change.sel(width=1024) < 0.5 * result.kernel_change.sel(width=64)).all()


def test_one_network_is_the_same_alone_and_among_others(result):
    alone = wide.train(wide.WideConfig(width=64, seed=1))
    assert np.array_equal(alone.ratio.values[0, 0], result.ratio.sel(width=64, seed=1))
