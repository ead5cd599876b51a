"""Speed against selectivity, with the reference table of an independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import linear, preconditioner

# One random start of an independent implementation: p, alignment with the top 4, ‖W‖² over its minimum, and
# the half times of the four eigenvalues.
REFERENCE = [
    (0.0, 0.9997, 1.0003, (0.4153, 0.7047, 1.0319, 2.5169)),
    (0.25, 0.9970, 1.0027, (0.6191, 0.9137, 1.2249, 2.6343)),
    (0.5, 0.9606, 1.0385, (0.9236, 1.2131, 1.4613, 2.7433)),
    (0.75, 0.7829, 1.3711, (1.3851, 1.5871, 1.7459, 2.7270)),
    (1.0, 0.4672, 3.6407, (1.9481, 2.0689, 2.1293, 2.3558)),
]


@pytest.fixture(scope="module")
def table():
    return preconditioner.selectivity(seeds=range(24))


def test_the_reference_start_is_one_of_ours(table):
    for p, alignment, norm, half in REFERENCE:
        ours = table.sel(exponent=p)
        assert ours.alignment.min() <= alignment <= ours.alignment.max()
        assert ours.norm_ratio.min() <= norm <= ours.norm_ratio.max()
        assert (ours.half_time.min("seed") <= np.array(half)).all()
        assert (ours.half_time.max("seed") >= np.array(half)).all()


def test_selectivity_is_lost_as_the_last_step_becomes_faster(table):
    alignment, norm = table.alignment.median("seed"), table.norm_ratio.median("seed")
    assert (np.diff(alignment) < 0).all()
    assert (np.diff(norm) > 0).all()
    assert float(alignment[0]) > 0.999
    assert float(alignment[-1]) < 0.55  # random: 0.4
    assert float(norm[0]) == pytest.approx(1, abs=1e-3)
    assert float(norm[-1]) > 2.5
    # At equal distance from the stability bound, the last step is faster the more is preconditioned.
    last = (table.half_time.isel(mode=-1).median("seed") / table.stable_rate).values
    assert (np.diff(last) < 0).all()


def test_predicted_times_at_mild_exponents(table):
    ratio = (table.half_time / table.critical_time).sel(exponent=[0, 0.25]).median("seed")
    assert np.allclose(ratio, 1, atol=0.02)


def test_an_aligned_mode_follows_the_predicted_rate():
    gamma, start = torch.tensor([4.0, 0.5]).double(), 1e-4
    for p in (0.0, 0.3, 1.0):
        tau = preconditioner.critical_times(gamma, torch.full((2,), start).double(), p)
        times = torch.linspace(0, 1.3 * float(tau.max()), 500, dtype=torch.float64)
        path = preconditioner.integrate_flow(start * torch.eye(2).double(), gamma, times, p)
        found = linear.crossing_times(times, (path.diagonal(dim1=1, dim2=2) ** 2) * gamma)
        assert torch.allclose(found, tau, rtol=1e-4)
        assert float(tau[0]) == pytest.approx(-math.log(4e-8) / (8 * 4 ** (1 - p)))


def test_exponent_0_is_gradient_flow_for_any_sign_and_runs_do_not_mix():
    gamma = torch.tensor([2.0, 0.7, -0.4, 0.0]).double()
    starts = 1e-2 * torch.randn(3, 2, 4, generator=generator(0, "mix"), dtype=torch.float64)
    times = torch.tensor([1.0, 2.0]).double()
    together = preconditioner.integrate_flow(starts, gamma, times, 0.0)
    for run in range(3):
        alone = linear.integrate_flow(starts[run], gamma, times)
        assert torch.allclose(together[:, run], alone, atol=1e-7)
    assert preconditioner.preconditioned(gamma, 1.0).tolist() == [1, 1, -1, 0]
    assert preconditioner.critical_times(gamma, torch.ones(4) * 0.1, 0.5)[2:].tolist() == [math.inf] * 2
