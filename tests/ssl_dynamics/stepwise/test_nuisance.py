"""The moment form of VICReg and Barlow Twins against the losses themselves, and what they learn first."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.core.config import ConfigError
from learndyn.core.device import generator
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss, NTXentLoss, VICRegLoss
from learndyn.ssl_dynamics.stepwise import growth, nuisance


def vicreg(ratio):
    return VICRegLoss(invariance_weight=ratio, variance_weight=1.0, covariance_weight=0.2)


LOSSES = st.one_of(
    st.builds(
        VICRegLoss,
        invariance_weight=st.floats(0, 30),
        variance_weight=st.floats(0, 30),
        covariance_weight=st.floats(0, 30),
        eps=st.floats(1e-6, 0.1),
    ),
    st.builds(BarlowTwinsTheoryLoss, centre=st.booleans()),
)


@settings(max_examples=30)
@given(loss=LOSSES, seed=st.integers(0, 10**6), scale=st.floats(1e-3, 2), pairs=st.integers(2, 20))
def test_steps_are_those_of_autograd_through_the_losses(loss, seed, scale, pairs):
    config = nuisance.NuisanceConfig(
        loss=loss, seed=seed, pairs=pairs, init_scale=scale, learning_rate=1e-3, steps=3, dimensions=3
    )
    a, b = nuisance.draw_views(config, seed)
    w = scale * torch.randn(3, 4, generator=generator(seed, "nuisance weights"), dtype=torch.float64)
    energies = [(w**2).sum(0)]
    for _ in range(3):
        w.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(a @ w.T, b @ w.T), w)
        w = (w - 1e-3 * gradient).detach()
        energies.append((w**2).sum(0))
    energies = torch.stack(energies).numpy()
    log = nuisance.train(config)
    assert np.allclose(log.energy[0], energies[log.step], rtol=1e-8, atol=1e-12)


def test_views_share_what_is_shared():
    config = nuisance.NuisanceConfig(pairs=50_000)
    a, b = nuisance.draw_views(config, 3)
    assert torch.equal(a[:, :2], b[:, :2])
    found, exact = nuisance.moments(a, b), nuisance.population_moments(config)
    for sample, population in zip(found, exact, strict=True):
        assert torch.allclose(sample, population, atol=0.06)
    assert torch.allclose(exact.covariance[0].diagonal().sqrt(), torch.tensor([1, 0.77, 1.7, 1.4]).double())


@pytest.mark.parametrize("loss", [vicreg(2.0), BarlowTwinsTheoryLoss(), BarlowTwinsTheoryLoss(centre=True)])
def test_growth_rates_are_those_of_the_first_step_operator(loss):
    config = nuisance.NuisanceConfig(loss=loss, seed=5, pairs=40, steps=1)
    operator = growth.first_step_operator(loss, *nuisance.draw_views(config, 5), dimensions=2)
    assert np.allclose(nuisance.train(config).growth_rate[0], 2 * operator.diagonal().numpy(), rtol=1e-12)


def test_growth_rates_are_seen_in_training():
    config = nuisance.NuisanceConfig(
        loss=(vicreg(3.0), vicreg(40.0)), pairs=None, learning_rate=1e-5, steps=50
    )
    log = nuisance.train(config)
    rates = np.log(log.energy.isel(step=-1) / log.energy.isel(step=0)) / 2 / float(log.effective_time[-1])
    assert np.allclose(rates, log.growth_rate, rtol=2e-3)


@pytest.mark.parametrize("eps", [1e-4, 4e-4])
def test_the_threshold_is_where_nuisance_stops_growing(eps):
    threshold = growth.vicreg_threshold(eps)
    losses = [
        VICRegLoss(invariance_weight=r * threshold, variance_weight=1, covariance_weight=0, eps=eps)
        for r in (0.98, 1.02)
    ]
    log = nuisance.train(nuisance.NuisanceConfig(loss=losses, pairs=None, init_scale=1e-5, steps=10))
    change = log.energy.sel(input=[2, 3]).isel(step=-1) - log.energy.sel(input=[2, 3]).isel(step=0)
    assert (change.isel(run=0) > 0).all()
    assert (change.isel(run=1) < 0).all()


def test_nuisance_overtakes_below_the_ratio():
    ratio = nuisance.overtaking_ratio(1.0, 1.7)
    log = nuisance.train(
        nuisance.NuisanceConfig(loss=(vicreg(ratio - 0.5), vicreg(ratio + 0.5)), pairs=None, steps=1)
    )
    rates = log.growth_rate
    assert bool(rates[0, 2] > rates[0, 0])
    assert bool(rates[1, 2] < rates[1, 0])
    assert nuisance.overtaking_ratio(2.0, 1.0) < 0


def test_vicreg_learns_nuisance_first_and_barlow_twins_never():
    log = nuisance.train(nuisance.NuisanceConfig())
    planes = log.energy.groupby("plane").sum()
    share = planes.sel(plane="nuisance") / planes.sum("plane")
    barlow_twins, customary, invariant = (share.isel(run=run) for run in range(3))
    assert float(customary.sel(step=slice(25, 320)).min()) > 0.95
    assert float(log.nuisance_share.isel(run=1, direction=0).sel(step=slice(25, 320)).min()) > 0.98
    assert float(barlow_twins.max()) < 1.05 * float(barlow_twins.isel(step=0))
    assert float(invariant.sel(step=slice(25, None)).max()) < 0.05
    assert float(share.isel(step=-1).max()) < 0.01


def test_a_run_is_the_same_alone_and_among_others():
    together = nuisance.NuisanceConfig(seed=7, steps=50)
    alone = together.replace(loss=together.loss[1], seed=7)
    assert np.allclose(nuisance.train(alone).energy[0], nuisance.train(together).energy[1], rtol=1e-12)


def test_a_run_that_diverges_disturbs_no_other():
    loss = (VICRegLoss(covariance_weight=1e6), vicreg(1.0))
    log = nuisance.train(nuisance.NuisanceConfig(loss=loss, learning_rate=0.01, steps=400))
    assert bool(log.nuisance_share.isel(run=0, step=-1).isnull().all())
    assert bool(log.nuisance_share.isel(run=1).notnull().all())


def test_logged_steps():
    config = nuisance.NuisanceConfig(steps=1000, logged=100)
    assert config.logged_steps[:3] == (0, 1, 2)
    assert config.logged_steps[-1] == 1000
    assert len(config.logged_steps) <= 100
    assert nuisance.NuisanceConfig(steps=1).logged_steps == (0, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": NTXentLoss()}, "'ntxent' is not a function of second moments"),
        ({"seed": (1, 2)}, "seed has 2 values for 3 runs"),
        ({"pairs": 1}, "at least 2"),
    ],
)
def test_refusals(fields, message):
    with pytest.raises(ConfigError, match=message):
        nuisance.NuisanceConfig(**fields)
    with pytest.raises(ValueError, match="infinitely many"):
        nuisance.draw_views(nuisance.NuisanceConfig(pairs=None), 0)
