"""Each claim of the notebook holds for a plausible result and does not for a spoiled one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import claim_checks
import numpy as np
import pytest
import torch
import xarray as xr

from learndyn.cogo_li2 import norms, published
from learndyn.cogo_li2.claims import one_run as claims
from learndyn.cogo_li2.settings_one_run import OneRun, measure, travel, weights_at
from learndyn.core.config import ConfigError


def good_run() -> xr.Dataset:
    """The stored rerun of Figure 3, with r_kkk where the shrinkage law puts it."""
    run = xr.merge(
        [published.figure3_potentials(), published.figure3_curves().sel(source="rerun", drop=True)]
    )
    law = [norms.shrinkage(1e-4, 23, n) for n in claims.ORDERS]
    run["goal_potential"] = (("epoch", "frequency"), np.tile(1 - np.array(law), (run.sizes["epoch"], 1)))
    return run.assign_coords(weight_decay=1e-4)


def spoil(**changes: Any) -> xr.Dataset:
    """The good run with variables replaced by functions of them."""
    run = good_run()
    return run.assign({name: change(run[name]) for name, change in changes.items()})


def gram(diagonal: float = 3.0, exponent: float = -0.5) -> xr.Dataset:
    data = {"diagonal": (("width", "seed"), np.full((2, 3), diagonal))}
    return xr.Dataset(data, coords={"width": [16, 4096]}, attrs={"exponent_offdiagonal": exponent})


def flow(power: float = -0.5, widest: float = 0.04) -> xr.Dataset:
    width = np.array([16, 128, 1024])
    error = widest * (width / 1024) ** power
    data = {
        "error": (("width", "seed", "time"), error[:, None, None] * np.linspace(0, 1, 5) * np.ones((3, 2, 1)))
    }
    return xr.Dataset(data, coords={"width": width})


def polishing(after: float = 1e-10, change: float = 0.003, orders: tuple[int, ...] = claims.ORDERS) -> Any:
    result = SimpleNamespace(loss_before=3.6e-5, loss_after=after, relative_change=change)
    return claims.Polishing(result, claims.ORDERS, orders)


def hosting(host_order: int = 6, sign: float = 1.0) -> xr.Dataset:
    """Each order-4 bias cancelled in equal parts by the frequencies of one order."""
    orders = np.array(claims.ORDERS)
    share = np.full((11, 11), np.nan)
    for row in np.flatnonzero(orders == 4):
        share[row] = np.where(orders == host_order, sign / (orders == host_order).sum(), 0.0)
        share[row, row] = np.nan
    return xr.Dataset({"share": (("frequency", "host"), share), "order": ("frequency", orders)})


def ended_at(accuracy: float, order: float, epoch: int = 1000) -> xr.Dataset:
    data = {
        "test_accuracy": ("epoch", [accuracy]),
        "order": (("epoch", "frequency"), np.full((1, 11), order)),
    }
    return xr.Dataset(data, coords={"epoch": [epoch]})


def panels(orders: list[tuple[int, int, int]], alive: list[int], loss: float = 4e-5) -> xr.Dataset:
    data = {
        "order": (("run", "step", "frequency"), np.array(orders)[:, None]),
        "alive": (("run", "step"), np.array(alive)[:, None]),
        "loss": (("run", "step"), np.full((len(alive), 1), loss)),
    }
    return xr.Dataset(data)


GOOD = {
    "cogo.theorem6-gram": gram,
    "cogo.theorem6-flow": flow,
    "cogo.end-norms": lambda: np.array([67.8, 67.8, 69.0]),
    "cogo.end-exact": polishing,
    "cogo.end-hosting": hosting,
    "cogo.end-constant": lambda: 1e-7,
    "cogo.no-decay": lambda: claims.Comparison(good_run(), ended_at(1.0, 40)),
    "cogo.panels": lambda: panels([(6, 4, 6), (6, 6, 6)], [16, 18]),
} | {
    claim.id: good_run
    for claim in claims.CLAIMS
    if "fig3" in claim.id or claim.id in ("cogo.end-alive", "cogo.end-shrinkage")
}


def shift(curve: xr.DataArray) -> xr.DataArray:
    """The values of each epoch one logged epoch later."""
    return curve.roll(epoch=1)


SPOILED = {
    "cogo.theorem6-gram": [lambda: gram(2.8), lambda: gram(exponent=-0.25), lambda: gram(np.nan)],
    "cogo.theorem6-flow": [lambda: flow(-0.1), lambda: flow(0.5, 0.01), lambda: flow(widest=0.5)],
    "cogo.fig3a-log": [
        lambda: spoil(test_loss=lambda v: v + 1e-4),
        lambda: spoil(train_loss=lambda v: v * np.nan),
        lambda: spoil(test_accuracy=lambda v: v * 52 / 53),
    ],
    "cogo.fig3a-accuracy": [
        lambda: spoil(test_accuracy=shift),
        lambda: spoil(test_accuracy=lambda v: v * 0.98),
    ],
    "cogo.fig3a-loss": [
        lambda: spoil(test_loss=lambda v: 1.01 * v),
        lambda: spoil(train_loss=lambda v: v + 1e-5),
        lambda: good_run().sel(epoch=slice(0, 150)),
    ],
    "cogo.fig3b-orders": [
        lambda: spoil(order=lambda v: v.roll(frequency=1)),
        lambda: spoil(order=lambda v: v + 1),
        lambda: good_run().sel(epoch=slice(0, 3000)),
    ],
    "cogo.fig3c-diagonal": [
        lambda: spoil(diagonal_sum=shift),
        lambda: spoil(diagonal_sum=lambda v: -v),
        lambda: spoil(diagonal_sum=lambda v: 1.01 * v),
    ],
    "cogo.fig3c-off-diagonal": [
        lambda: spoil(off_diagonal_sum=lambda v: -v),
        lambda: spoil(off_diagonal_sum=shift),
        lambda: spoil(off_diagonal_sum=lambda v: v.where(v.epoch < 200, 1.0)),
    ],
    "cogo.fig3d-plateau": [
        lambda: spoil(bias_potential=lambda v: v * 0.7071 / 0.687),
        lambda: spoil(bias_potential=lambda v: v.where((v.epoch < 2700) | (v.epoch == 9900), 0.6)),
        lambda: spoil(order=lambda v: xr.full_like(v, 6)),
    ],
    "cogo.fig3e-decay": [
        lambda: spoil(bias_potential=lambda v: 1.3 * v),
        lambda: spoil(bias_potential=lambda v: v.where(v.epoch < 1000, 0.2)),
        lambda: spoil(order=lambda v: 10 - v),
    ],
    "cogo.fig3f-label": [
        lambda: spoil(square_potential=lambda v: 1.1 * v),
        lambda: good_run().assign(square_potential=good_run()["square_potential_as_plotted"]),
        lambda: spoil(square_potential=lambda v: v.where(v.epoch < 600, 0.02)),
    ],
    "cogo.fig3f-script": [
        lambda: good_run().assign(square_potential_as_plotted=good_run()["square_potential"]),
        lambda: spoil(square_potential_as_plotted=lambda v: v.roll(frequency=1)),
    ],
    "cogo.end-alive": [lambda: spoil(alive_nodes=lambda v: v + 1), lambda: spoil(order=lambda v: v + 1)],
    "cogo.end-norms": [lambda: np.array([67.8, 67.8, 69.8]), lambda: np.array([67.8, np.nan, 69.0])],
    "cogo.end-shrinkage": [
        lambda: spoil(goal_potential=lambda v: 2 - v),
        lambda: spoil(goal_potential=xr.ones_like),
        lambda: good_run().assign_coords(weight_decay=5e-4),
    ],
    "cogo.end-exact": [
        lambda: polishing(after=1e-7),
        lambda: polishing(change=0.2),
        lambda: polishing(orders=(6,) * 11),
        lambda: polishing(after=np.nan),
    ],
    "cogo.end-hosting": [lambda: hosting(host_order=4), lambda: hosting(sign=-1), lambda: hosting(sign=0.9)],
    "cogo.end-constant": [lambda: 0.02, lambda: np.nan],
    "cogo.no-decay": [
        lambda: claims.Comparison(good_run(), ended_at(1.0, 6)),
        lambda: claims.Comparison(good_run(), ended_at(1.0, 12)),
        lambda: claims.Comparison(ended_at(1.0, 40), ended_at(1.0, 40)),
        lambda: claims.Comparison(good_run(), ended_at(1.0, 40, epoch=1050)),
    ],
    "cogo.panels": [
        lambda: panels([(6, 6, 6), (6, 6, 6)], [18, 18]),
        lambda: panels([(6, 4, 6), (5, 6, 6)], [16, 17]),
        lambda: panels([(6, 4, 6)], [16], loss=1e-2),
        lambda: panels([(6, 4, 6)], [20]),
    ],
}


test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


def test_epoch_of_mean_order_is_counted_after_the_peak() -> None:
    orders = np.array([5.0, 3, 50, 30, 8, 6])[:, None] * np.ones(11)
    run = xr.Dataset({"order": (("epoch", "frequency"), orders)}, coords={"epoch": [0, 1, 50, 100, 200, 300]})
    assert claims.epoch_of_mean_order(run, 8.0) == 200
    assert claims.epoch_of_mean_order(run, 60.0) == 50
    assert claims.epoch_of_mean_order(run, 2.0) == -1


# --- settings ---


def test_the_defaults_are_the_run_of_figure_3_and_changes_are_not() -> None:
    assert OneRun().is_published_run
    assert OneRun(snapshot_epochs=(0, 5), no_decay_epochs=7).is_published_run
    for change in (
        {"seed": 4},
        {"weight_decay": 5e-5},
        {"rng": "vectorised"},
        {"epochs": 9000},
        {"modulus": 29},
    ):
        assert not OneRun(**change).is_published_run
    assert OneRun().checkpoint == 9900


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="rng"):
        OneRun(rng="numpy")


def test_measure_trains_the_run_and_its_variations() -> None:
    settings = OneRun(modulus=7, hidden_size=12, epochs=150, snapshot_epochs=(0,))
    run = measure(settings)
    assert run.sizes["frequency"] == 3
    assert run["frequency"].values.tolist() == [1, 2, 3]
    spectrum = settings.group.to_spectrum(weights_at(run, 100))
    plain = [
        14 * sum(complex(a[k]) * complex(b[k]) * complex(c[k]) for a, b, c in spectrum.transpose(0, 1)).real
        for k in (1, 2, 3)
    ]
    np.testing.assert_allclose(run["goal_potential"].sel(epoch=100), plain, rtol=1e-4, atol=1e-6)
    other = measure(settings, weight_decay=0.0, epochs=3)
    assert other["epoch"].values.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(other["train_loss"][0], run["train_loss"][0])
    with pytest.raises(KeyError):
        weights_at(run, 77)


def test_travel_ignores_a_change_of_both_signs_and_nodes_that_die() -> None:
    angle = torch.tensor([[0.1 + np.pi, 2.0], [0.3, 0.0], [0.1, 1.0]], dtype=torch.float64).numpy()
    angles = xr.Dataset(
        {
            "angle_a": (("snapshot", "node"), angle),
            "angle_b": (("snapshot", "node"), angle - np.array([[np.pi - np.pi], [0.0], [0.0]])),
            "member": (("snapshot", "node"), [[True, True], [True, True], [True, False]]),
        }
    )
    np.testing.assert_allclose(travel(angles), [0, np.degrees(0.2), 0], atol=1e-9)
    assert np.isnan(travel(angles.isel(node=[1]))).all()
