"""Frozen tangent kernels against autograd, and against a linearised network trained on its weights."""

import math

import numpy as np
import torch

from learndyn.core.device import generator
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss
from learndyn.ssl_dynamics.stepwise import kernel, linearised, wide


class Plain(torch.nn.Module):
    """√(2/h) W₂ relu(W₁x/√m), written out."""

    def __init__(self, weights):
        super().__init__()
        self.first = torch.nn.Parameter(weights.first.clone())
        self.second = torch.nn.Parameter(weights.second.clone())

    def forward(self, x):
        hidden = torch.relu(x @ self.first.T / math.sqrt(x.shape[1]))
        return math.sqrt(2 / len(self.first)) * hidden @ self.second.T


def setting(width=16, pairs=5, inputs=4, dimensions=3):
    draw = generator(0, "linearised test")
    clean = torch.randn(pairs, inputs, generator=draw, dtype=torch.float64)
    views = clean + 0.3 * torch.randn(2, pairs, inputs, generator=draw, dtype=torch.float64)
    return wide.initial_weights(0, width, inputs, dimensions), kernel.stack_views(*views)


def jacobian(weights, samples):
    """∂f/∂θ at the start, rows output by output and sample by sample."""
    plain = Plain(weights)
    rows = []
    for output in plain(samples).T.reshape(-1):
        gradients = torch.autograd.grad(output, list(plain.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(rows)


def test_blocks_against_autograd():
    weights, samples = setting()
    derivative = jacobian(weights, samples)
    blocks = linearised.output_tangent_kernel(weights, samples)
    assert torch.allclose(blocks.reshape(30, 30), derivative @ derivative.T, atol=1e-12)
    mean = torch.einsum("oxoy->xy", blocks) / 3
    assert torch.allclose(mean, wide.tangent_kernel(weights, samples), atol=1e-12)


def test_descent_is_that_of_the_linearised_network():
    """α f_θ₀ + ∂f·(θ − θ₀), trained by torch's SGD on its weights."""
    weights, samples = setting()
    derivative, loss = jacobian(weights, samples), BarlowTwinsTheoryLoss()
    start = 0.3 * wide.network(weights, samples)
    moved = torch.zeros(derivative.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([moved], lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        loss(*(start + (derivative @ moved).reshape(start.shape)).T.chunk(2)).backward()
        optimizer.step()
    blocks = linearised.output_tangent_kernel(weights, samples)
    run = linearised.descend(blocks, start, learning_rate=0.02, steps=30)
    trained = start + (derivative @ moved.detach()).reshape(start.shape)
    assert torch.allclose(run.outputs, trained, atol=1e-11)
    assert torch.allclose(run.correlations[0], kernel.correlation(start))
    assert not torch.allclose(run.outputs, start, rtol=0.1)


def test_one_kernel_for_all_outputs_is_blocks_on_the_diagonal():
    weights, samples = setting()
    mean, start = wide.tangent_kernel(weights, samples), 0.1 * wide.network(weights, samples)
    blocks = torch.einsum("op,xy->oxpy", torch.eye(3, dtype=torch.float64), mean)
    runs = [linearised.descend(k, start, learning_rate=0.02, steps=20) for k in (mean, blocks)]
    assert torch.allclose(runs[0].correlations, runs[1].correlations, atol=1e-13)
    assert torch.allclose(runs[0].outputs, runs[1].outputs, atol=1e-13)


def test_the_theory_holds_for_a_shared_kernel_and_the_network_follows_its_own_blocks():
    config = wide.WideConfig(width=(64, 512), seed=(0, 1))
    frozen, network = linearised.compare(config), wide.train(config)
    assert dict(frozen.sizes) == {"model": 2, "width": 2, "seed": 2, "mode": 5}
    assert float(np.abs(frozen.ratio.sel(model="shared") - 1).max()) < 0.1
    apart = np.abs(np.log(frozen.ratio.sel(model="linearised") / network.ratio)).mean(("seed", "mode"))
    assert float(apart.sel(width=512)) < float(apart.sel(width=64)) < 0.05
    assert (frozen.coupling.sel(width=512) < 0.5 * frozen.coupling.sel(width=64)).all()
