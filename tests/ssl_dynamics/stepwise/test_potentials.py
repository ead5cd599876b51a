"""The two potentials: forces by differences, solutions by SciPy, and the tie to the linear model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from learndyn.ssl_dynamics.stepwise import linear, potentials

S = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["supervised", "ssl"])
def test_the_flow_is_minus_the_slope_of_the_potential(kind):
    potential, flow = (getattr(potentials, f"{kind}_{name}") for name in ("potential", "flow"))
    slope = (potential(S + 1e-5, 1.7) - potential(S - 1e-5, 1.7)) / 2e-5
    assert torch.allclose(flow(S, 1.7), -slope, atol=1e-8)


def test_the_solution_is_that_of_the_flow():
    times, start = (
        torch.linspace(0, 3, 7, dtype=torch.float64),
        torch.tensor([-0.9, -1e-3, 0, 0.2, 1.4]).double(),
    )
    path = solve_ivp(
        lambda _, s: potentials.ssl_flow(torch.as_tensor(s), 1.3).numpy(),
        (0, 3),
        start.numpy(),
        t_eval=times.numpy(),
        rtol=1e-10,
        atol=1e-12,
    )
    assert np.allclose(potentials.ssl_solution(times, start, 1.3), path.y, atol=1e-8)


def test_a_parabola_and_a_double_well():
    assert (potentials.supervised_potential(S).diff().sign().diff() != 0).sum() == 1
    ends = torch.tensor([-1.0, 0.0, 1.0]).double()
    assert potentials.ssl_flow(ends).tolist() == [0, 0, 0]
    values = potentials.ssl_potential(ends)
    assert float(values[1]) > float(values[0]) == float(values[2])


def test_the_initial_sign_decides_and_zero_waits_for_ever():
    times, start = torch.tensor([0.0, 60.0]).double(), torch.tensor([-1e-6, 0.0, 1e-6]).double()
    assert torch.allclose(potentials.ssl_solution(times, start)[:, 1], torch.tensor([-1.0, 0, 1]).double())


def test_it_is_the_singular_value_of_the_linear_model_in_other_units():
    times, gamma, start = torch.linspace(0, 2, 9).double(), 2.5, torch.tensor([1e-3]).double()
    s = linear.singular_values(times, torch.tensor([gamma]).double(), start)[:, 0]
    rescaled = potentials.ssl_solution(4 * times, start * gamma**0.5, gamma)[0]
    assert torch.allclose(s * gamma**0.5, rescaled, rtol=1e-10)
