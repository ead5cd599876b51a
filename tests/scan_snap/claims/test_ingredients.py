"""Each claim of the notebook holds for a plausible result and does not for a spoiled one; its experiments."""

from __future__ import annotations

from typing import Any

import claim_checks
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from learndyn.core.config import ConfigError
from learndyn.scan_snap import decoder
from learndyn.scan_snap import experiments_ingredients as experiments
from learndyn.scan_snap.claims import ingredients as claims
from learndyn.scan_snap.experiments_ingredients import Lemma1
from learndyn.scan_snap.settings_ingredients import (
    Ingredients,
    follow,
    multiples,
    train_plain,
    train_with_momentum,
)


def lemma1(
    likelihood: float = 1e-15, decoder: float = 1e-16, attention: float = 1e-16, sums: float = 0.0
) -> Lemma1:
    return Lemma1(20, likelihood, decoder, attention, sums)


def lengths(power: float = -0.5, size: float = 1.0, share: float = 0.4) -> xr.Dataset:
    length = np.array([32, 128, 512, 2048])
    fall = (length - 1.0) ** power
    bound = np.sqrt(np.log(40) / (2 * (length - 1)))
    data = {
        "attention_error": (("length", "next"), size * np.stack([fall, fall], axis=1)),
        "frequency_error": (("length", "next"), share * np.stack([bound, bound], axis=1)),
        "bound": ("length", bound),
    }
    return xr.Dataset(data, coords={"length": length})


def one_missing(name: str) -> xr.Dataset:
    """Good lengths, of which one class has no number at one length."""
    found = lengths()
    found[name][1, 0] = np.nan
    return found


def curves(**changes: Any) -> claims.Curves:
    """Figure 8 with the recursion in the place of training, variables of both panels changed."""
    panels = []
    for vocabulary, steps, rates in ((50, 80, (0.1, 0.2, 0.5, 1, 2)), (1000, 70, (0.2, 0.5, 1, 2, 4))):
        data = decoder.staircases(steps, vocabulary, np.array(rates, dtype=float))
        data = data.assign(trained=data["h_discrete"], spread=xr.zeros_like(data["h"]))
        panels.append(data.assign({name: change(data[name]) for name, change in changes.items()}))
    return claims.Curves(*panels)


def gaps(low: float = 0.185, high: float = 0.21, least: float = 0.0) -> pd.DataFrame:
    rows = [(50, 0.1, least), (50, 0.1, low), (1000, 4.0, 0.0), (1000, 4.0, high)]
    return pd.DataFrame(rows, columns=["vocabulary", "decoder_rate", "gap"])


def losses(factor: float = 1.0, late: float = 1.0) -> xr.Dataset:
    time = np.array([1.0, 1e3, 1e4, 1e5])
    curve = factor * decoder.loss(time, 1000, 0.5, 10) * np.array([1, 1, 1, late])
    data = {
        "decorrelated": (("overlap", "time"), np.stack([curve, curve])),
        "limit": ("time", 0.999 * 20 / time),
    }
    return xr.Dataset(data, coords={"time": time, "overlap": [0.03, 0.9]})


def precisions(measured: float = 1.0, share: float = 0.1) -> pd.DataFrame:
    eps = np.array([0.1, 0.01])
    return pd.DataFrame(
        {"precision": eps, "time": [1.0, 2.0], "measured": measured * eps, "order": 1 / share}
    )


def signal(factor: float = 1.0, others: float = 1.0) -> xr.Dataset:
    gamma = np.array([1.0, 2.0, 1.0])
    data = {"gamma": factor * gamma, "strength": others * 0.1 * gamma, "strength_theory": 0.1 * gamma}
    return xr.Dataset(
        {name: (("time", "next"), values[:, None]) for name, values in data.items()}
        | {"closed_form": ("time", gamma)}
    )


def peaks(shift: float = 0.0, lower: float = 1.0, limit: float = 1.002) -> pd.DataFrame:
    rows = [(size, peak + shift, height) for size, (peak, height) in claims.PEAKS.items()]
    table = pd.DataFrame(rows, columns=["vocabulary", "peak", "height"])
    table["lower"] = lower * 2 * np.log(table["vocabulary"])
    return table.assign(early_limit=0.9999, late_limit=limit)


def flow(**changes: Any) -> xr.Dataset:
    """The flow of two classes behind one query, variables replaced by functions of them."""
    data = follow(Ingredients(points=60), Ingredients().shared_task, multiples(60))
    return data.assign({name: change(data[name]) for name, change in changes.items()})


def growth(
    spread: float = 0.0, equal: float = 1.8, fast: float = 1.01, increase: float = 1.0
) -> claims.Growth:
    def one(last: float) -> xr.Dataset:
        chi = np.array([[1.0, 11.0], [1.0, 1 + increase]])
        factors = np.stack([chi, chi], axis=-1)
        factors[0, 1, 0] *= 1 + spread
        factors[1, 1, 0] = 1 + last * increase
        data = {"growth": (("dynamics", "time", "token"), factors), "chi": (("dynamics", "time"), chi)}
        return xr.Dataset(data, coords={"dynamics": ["lemma4", "gradient"]})

    return claims.Growth(one(equal), one(fast))


def still(data: xr.DataArray) -> xr.DataArray:
    """The values of the start at all times."""
    return xr.zeros_like(data) + data.isel(time=0)


def stop(data: xr.DataArray, moment: float = 10.0) -> xr.DataArray:
    """The values until a multiple of t*, and from then on those of that time."""
    return data.isel(
        time=np.minimum(np.arange(data.sizes["time"]), int((data.multiple <= moment).sum()) - 1)
    ).assign_coords(time=data["time"])


def backwards(data: xr.DataArray) -> xr.DataArray:
    """The values in the opposite order of time."""
    return data.copy(data=data.values[::-1])


GOOD = {
    "scan.initial-loss": lambda: float(np.log(34)),
    "scan.counts": lemma1,
    "scan.lemma1": lemma1,
    "scan.lemma2-rate": lengths,
    "scan.lemma2-bound": lengths,
    "scan.lemma5": curves,
    "scan.lemma7-gap": gaps,
    "scan.fig8": curves,
    "scan.frozen-loss": losses,
    "scan.corollary1": precisions,
    "scan.gamma": signal,
    "scan.gamma-peak": peaks,
    "scan.gamma-asymptotes": peaks,
    "scan.scan": flow,
    "scan.frequency-bias": flow,
    "scan.equal-ratio": growth,
    "scan.equal-ratio-flow": growth,
    "scan.snap-speed": flow,
    "scan.snap-moved": lambda: flow(attention_weights=stop),
}

SPOILED = {
    "scan.initial-loss": [lambda: float(np.log(30)), lambda: float(np.log(34)) + 1e-4, lambda: np.nan],
    "scan.counts": [lambda: lemma1(likelihood=1e-6), lambda: lemma1(likelihood=np.nan)],
    "scan.lemma1": [
        lambda: lemma1(decoder=1e-3),
        lambda: lemma1(attention=1e-9),
        lambda: lemma1(sums=0.1),
        lambda: lemma1(attention=np.nan),
    ],
    "scan.lemma2-rate": [
        lambda: lengths(-0.45),
        lambda: lengths(-1.0),
        lambda: lengths(-0.497),
        lambda: lengths(size=np.nan),
        lambda: one_missing("attention_error"),
    ],
    "scan.lemma2-bound": [
        lambda: lengths(share=1.1),
        lambda: lengths(share=np.nan),
        lambda: one_missing("frequency_error"),
    ],
    "scan.lemma5": [
        lambda: curves(trained=lambda v: 1.001 * v),
        lambda: curves(trained=lambda v: v.shift(step=1, fill_value=0)),
        lambda: curves(spread=lambda v: v + 1e-3),
        lambda: curves(trained=lambda v: v * np.nan),
    ],
    "scan.lemma7-gap": [
        lambda: gaps(high=2.5),
        lambda: gaps(low=0.1),
        lambda: gaps(least=-1e-10),
        lambda: gaps(high=np.nan),
    ],
    "scan.fig8": [
        lambda: curves(trained=lambda v: v.shift(step=1, fill_value=0)),
        lambda: curves(h=lambda v: v + 1e-3 / 50),
        lambda: curves(h=lambda v: v * np.nan),
        lambda: claims.Curves(*curves()[::-1]),
    ],
    "scan.frozen-loss": [lambda: losses(1.05), lambda: losses(late=0.98), lambda: losses(np.nan)],
    "scan.corollary1": [
        lambda: precisions(measured=1.01),
        lambda: precisions(measured=1 + 1e-7),
        lambda: precisions(share=1.5),
        lambda: precisions(measured=np.nan),
    ],
    "scan.gamma": [
        lambda: signal(1.001),
        lambda: signal(1 + 1e-7),
        lambda: signal(-1.0),
        lambda: signal(np.nan),
        lambda: signal(others=0.99),
    ],
    "scan.gamma-peak": [
        lambda: peaks(0.05),
        lambda: peaks(lower=0.5),
        lambda: peaks(np.nan),
        lambda: peaks().iloc[:2],
    ],
    "scan.gamma-asymptotes": [lambda: peaks(limit=1.05), lambda: peaks(limit=np.nan)],
    "scan.scan": [
        lambda: flow(attention=lambda v: -v),
        lambda: flow(attention=still),
        lambda: flow().isel(time=[0]),
        lambda: flow().isel(time=slice(0, 50)),
    ],
    "scan.frequency-bias": [
        lambda: flow(attention_weights=still),
        lambda: flow(attention_weights=backwards),
        lambda: flow(probability=lambda v: -v),
        lambda: flow().isel(time=slice(0, 50)),
    ],
    "scan.equal-ratio": [lambda: growth(spread=5e-9), lambda: growth(spread=np.nan)],
    "scan.equal-ratio-flow": [
        lambda: growth(equal=1.0),
        lambda: growth(fast=1.5),
        # equal within a fraction of a percent only because hardly anything has grown
        lambda: growth(fast=1.5, increase=0.002),
        lambda: growth(equal=np.nan),
    ],
    "scan.snap-speed": [
        lambda: flow(attention_speed=backwards),
        lambda: flow(attention_speed=lambda v: v + 0.1 * v.max()),
        lambda: flow(attention_speed=lambda v: v.where(v.time != v.time[3], 1.0)),
        lambda: flow(attention_speed=lambda v: v * np.nan),
    ],
    "scan.snap-moved": [
        flow,
        lambda: flow(attention_weights=lambda v: stop(v, 1.0)),
        lambda: flow(attention_weights=still),
        lambda: flow(attention_weights=lambda v: v.where(v.multiple < 30, 0.0)),
        lambda: flow(attention_weights=lambda v: v * np.nan),
    ],
}


test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


# --- experiments ---


def test_one_hot_model_is_the_papers() -> None:
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=torch.float64)
    Y = torch.tensor([[0.0, 1, 2], [1, 0, 0], [5, 5, 5]], dtype=torch.float64)
    Z = torch.tensor([[0.0, 0, 0], [9, 9, 9], [0, np.log(2), 0]], dtype=torch.float64)
    # attention ¼, ½, ¼: tokens 0 and 1 get ½ each, f = (1, 1, 0)/√2
    logits = (Y[0] + Y[1]) / np.sqrt(2)
    expected = float(logits[2] - torch.log(torch.exp(logits).sum()))
    assert float(experiments.one_hot_likelihood(rows, Y, Z, 2, 2)) == pytest.approx(expected, abs=1e-14)
    counts = torch.tensor([2.0, 1, 0], dtype=torch.float64)
    assert float(experiments.count_likelihood(counts, Y, Z[2], 2)) == pytest.approx(expected, abs=1e-14)


def test_lemma1_and_the_first_loss() -> None:
    found = experiments.check_lemma1(sequences=3, seed=1)
    assert max(found[1:]) < 1e-13
    assert found.sequences == 3
    assert experiments.initial_loss(Ingredients(common=3).task, 3, 0) == pytest.approx(np.log(27))


def test_trained_decoder_does_not_depend_on_f() -> None:
    one, other = (experiments.train_decoder(20, (0.3, 3.0), 12, seed) for seed in (0, 1))
    np.testing.assert_allclose(one["trained"], one["h_discrete"], atol=1e-14)
    np.testing.assert_allclose(one["trained"], other["trained"], atol=1e-14)
    assert float(one["spread"].max()) < 1e-13
    table = experiments.end_table(one)
    np.testing.assert_allclose(table["trained"], 20 * one["trained"][:, -1])


def test_frozen_attention_follows_the_closed_form_and_the_gradient_lags() -> None:
    found = experiments.frozen_losses(4, 60, 0.5, (0.1, 0.9), np.array([1.0, 100.0, 1e4]))
    for overlap in (0.1, 0.9):
        np.testing.assert_allclose(
            found["decorrelated"].sel(overlap=overlap), found["closed_form"], rtol=1e-6
        )
    lag = (found["gradient"] / found["closed_form"]).isel(time=-1).values
    assert lag[0] < 1.05
    assert lag[1] > 3
    table = experiments.precision_table((0.01, 0.1), 4, 60, 0.5)
    np.testing.assert_allclose(table["measured"], [0.1, 0.01], rtol=1e-5)


def test_signal_is_that_of_theorem_1() -> None:
    """The numbers of an independent integration: K = 5, M = 300, overlap 1/36, t = 40."""
    found = experiments.measured_signal(
        experiments.overlapping_classes(5, 300, 1 / 36), np.array([40.0]), 0.5
    )
    np.testing.assert_allclose(found["strength"], 0.095952, atol=1e-6)
    np.testing.assert_allclose(found["strength_theory"], 0.095952, atol=1e-6)
    np.testing.assert_allclose(found["gamma"], np.broadcast_to(found["closed_form"], (5, 1)).T, rtol=1e-8)
    table = experiments.signal_table((50,), points=60)
    assert table["peak"][0] == pytest.approx(table["peak_theory"][0], rel=1e-3)


def test_ratios_grow_by_chi_under_lemma_4_only() -> None:
    task = Ingredients(common=3, distinct=4).shared_task
    found = experiments.growth_of_ratios(task, np.array([0.0, 5.0, 50.0]), 1.0, 1.0)
    lemma = found.sel(dynamics="lemma4")
    np.testing.assert_allclose(lemma["growth"], np.repeat(lemma["chi"].values[:, None], 3, axis=1), rtol=1e-9)
    assert claims.ratio_spread(found, "gradient") > 1.2
    np.testing.assert_allclose(found["relative"], [0.1, 0.4, 0.7])


def test_moved_is_the_total_variation_between_two_times() -> None:
    weights = np.array([[0.5, 0.5], [0.7, 0.3], [0.9, 0.1]])
    data = xr.Dataset(
        {"attention_weights": (("time", "support"), weights)}, coords={"multiple": ("time", [0.0, 1.0, 10.0])}
    )
    assert experiments.moved(data, 0.0, 10.0) == pytest.approx(0.4)
    assert experiments.moved(data, 0.9, 9.0) == pytest.approx(0.2)
    assert float(experiments.at_multiple(data, 0.0)["multiple"]) == 0


def test_moved_since_peak_reads_ten_and_a_hundred_times_the_fastest_moment() -> None:
    time = np.array([0.0, 1, 2, 10, 20, 100, 200])
    first = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    data = xr.Dataset(
        {
            "attention_weights": (("step", "support"), np.stack([first, 1 - first], axis=1)),
            "attention_speed": ("step", [0.0, 1, 5, 1, 1, 1, 1]),
        },
        coords={"step": time},
    )
    assert experiments.moved_since_peak(data, "step") == pytest.approx((0.4, 0.2))
    assert experiments.moved_since_peak(data.isel(step=slice(6)), "step") == pytest.approx((0.4, 0.1))


def test_without_momentum_training_is_the_flow() -> None:
    settings = Ingredients(iterations=100, points=60)
    plain, flow = train_plain(settings, settings.task), follow(settings, settings.task, multiples(60))
    assert int(plain["step"][-1]) == 1000
    same = np.interp(plain["step"], flow["time"], flow["common_mass"])
    np.testing.assert_allclose(plain["common_mass"], same, atol=0.003)


def test_settings_name_the_published_task() -> None:
    assert Ingredients().is_published_task
    assert not Ingredients(common=9).is_published_task
    assert not Ingredients(decoder_rate=2.0).is_published_task
    assert (Ingredients().task.vocabulary, Ingredients().shared_task.vocabulary) == (34, 33)
    with pytest.raises(ConfigError, match="momentum"):
        Ingredients(momentum=1.0)


def test_training_with_momentum_is_the_mean_field_of_the_experiments() -> None:
    run = train_with_momentum(Ingredients(iterations=100), Ingredients().task)
    assert float(run["distinct_entropy"][-1]) == pytest.approx(1.979, abs=6e-4)
    kinds = claims.kinds(run.rename(step="time"))
    assert kinds["common"].shape == kinds["distinct"].shape == (101, 10)
    assert (np.diff(kinds["distinct"][-1]) > 0).all()
