"""The clock of deep linear models: closed forms against quadrature and against the trained network."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.integrate import solve_ivp

from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import depth, linear

GAMMA = torch.tensor([3.0, 1.5, 0.4, -0.5], dtype=torch.float64)


def _half_time_of(layers, gamma, end):
    """When the largest eigenvalue of C is ½ in the simulated network."""
    times = torch.linspace(0, end, 4000, dtype=torch.float64)
    weights = depth.product(depth.integrate_flow(layers, gamma, times))
    values = torch.linalg.eigvalsh((weights * gamma) @ weights.mT).flip(-1)
    return float(linear.crossing_times(times, values)[0])


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.3, 0.05])
def test_the_half_time_solves_the_equation_of_one_mode(layers, scale):
    gamma = 1.7
    end = 1.3 * depth.half_time(gamma, scale, layers)

    def velocity(_, a):
        return 4 * gamma * a ** (2 * layers - 1) * (1 - gamma * a ** (2 * layers))

    def half(_, a):
        return gamma * a[0] ** (2 * layers) - 0.5

    half.terminal = True  # what follows is stiff: a settled mode, and as long again to wait
    solution = solve_ivp(velocity, (0, end), [scale], events=half, method="DOP853", rtol=1e-11, atol=1e-14)
    assert depth.half_time(gamma, scale, layers) == pytest.approx(solution.t_events[0][0], rel=1e-6)


def test_one_layer_is_the_linear_model():
    gamma, start = torch.tensor([[2.0], [1e-4]], dtype=torch.float64)
    half, tau = linear.half_times(gamma, start), linear.critical_times(gamma, start)
    assert depth.half_time(2.0, 1e-4, 1) == pytest.approx(float(half), rel=1e-12)
    assert depth.escape_time(2.0, 1e-4, 1) == pytest.approx(float(tau), rel=1e-12)


@pytest.mark.parametrize(("layers", "scale"), [(1, 1e-8), (2, 1e-3), (3, 1e-2), (4, 3e-2)])
def test_the_leading_law_of_small_starts(layers, scale):
    law, exact = depth.escape_time(0.8, scale, layers), depth.half_time(0.8, scale, layers)
    assert law == pytest.approx(exact, rel=5e-3)
    if layers > 1:
        assert law == pytest.approx(1 / (8 * (layers - 1) * 0.8 * scale ** (2 * layers - 2)))


@pytest.mark.parametrize(("body", "head"), [(0.5, 0.5), (1.0, 0.01), (0.02, 0.7), (0.05, 0.05)])
def test_two_knobs_of_two_layers_against_the_simulated_network(body, head):
    # One hidden unit on the mode, so that the layers are aligned and balanced as in the formula.
    gamma = torch.tensor([1.3], dtype=torch.float64)
    layers = [torch.tensor([[body]]).double(), torch.tensor([[head]]).double()]
    predicted = depth.two_layer_half_time(1.3, body, head)
    assert _half_time_of(layers, gamma, 1.3 * predicted) == pytest.approx(predicted, rel=1e-4)
    if body == head:
        assert predicted == pytest.approx(depth.half_time(1.3, body, 2), rel=1e-8)


def test_scaling_the_head_alone_keeps_the_exponential_clock():
    times = [depth.two_layer_half_time(1.0, 1.0, head) for head in (1e-2, 1e-3, 1e-4)]
    # Every factor of ten costs the same: log(10²) / (8 γ b²), as with one layer.
    assert times[1] - times[0] == pytest.approx(math.log(100) / 8, rel=1e-3)
    assert times[2] - times[1] == pytest.approx(math.log(100) / 8, rel=1e-3)
    both = [depth.two_layer_half_time(1.0, scale, scale) for scale in (1e-2, 1e-3)]
    assert both[1] / both[0] == pytest.approx(100, rel=1e-2)


def test_a_random_two_layer_network_escapes_as_the_law_says():
    draw = generator(0, "depth test")
    unit = depth.random_layers((4, 16, 2), (1.0, 1.0), draw)
    times = []
    for scale in (0.05, 0.025):
        layers = [scale * layer for layer in unit]
        times.append(_half_time_of(layers, GAMMA, 3 / (8 * 3 * scale**2)))
    # The leading term is homogeneous: half the scale waits four times as long.
    assert times[1] / times[0] == pytest.approx(4, rel=0.05)
    head_only = [_half_time_of([unit[0], scale * unit[1]], GAMMA, 4.0) for scale in (1e-3, 1e-4, 1e-5)]
    first, second = head_only[1] - head_only[0], head_only[2] - head_only[1]
    assert first == pytest.approx(second, rel=0.02)
    assert head_only[2] < 0.1 * times[0]


@pytest.mark.parametrize("widths", [(4, 3, 2), (4, 5, 3, 2)])
def test_the_flow_of_the_layers_is_that_of_autograd_and_conserves_the_balance(widths):
    layers = depth.random_layers(widths, [0.7] * (len(widths) - 1), generator(1, "depth test"))
    leaves = [layer.clone().requires_grad_() for layer in layers]
    weights = depth.product(leaves)
    (((weights * GAMMA) @ weights.T - torch.eye(widths[-1])) ** 2).sum().backward()
    times = torch.tensor([0.0, 1e-5, 2.0], dtype=torch.float64)
    path = depth.integrate_flow(layers, GAMMA, times, rtol=1e-11)
    for layer, leaf, moved in zip(layers, leaves, path, strict=True):
        assert torch.allclose(moved[0], layer)
        assert torch.allclose((moved[1] - layer) / 1e-5, -leaf.grad, atol=2e-3)
        assert float((moved[2] - layer).abs().max()) > 0.05
    for below, above in itertools.pairwise(path):
        balance = above.mT @ above - below @ below.mT
        assert torch.allclose(balance[2], balance[0], atol=1e-8)
