"""Each claim of the notebook holds for a plausible result and does not for a spoiled one."""

from __future__ import annotations

from typing import Any

import claim_checks
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from learndyn.core import images
from learndyn.core.claims import Ledger, Verdict
from learndyn.core.config import ConfigError
from learndyn.core.pairs import FixedPairs
from learndyn.ssl_dynamics.stepwise import experiments_linear, linear, published, tasks
from learndyn.ssl_dynamics.stepwise.claims import linear as claims
from learndyn.ssl_dynamics.stepwise.linear import Modes
from learndyn.ssl_dynamics.stepwise.settings_linear import (
    Cloud,
    Experiment,
    Linear,
    clouds,
    half_times,
    input_pairs,
    measure,
    predicted_times,
)

APART = 512.0 * 2.0 ** -np.arange(10)
PUBLISHED = published.figure1()["eigenvalue"].to_numpy()


def experiment(
    gamma: np.ndarray = APART,
    *,
    late: float = 1.0,
    mode: int | None = None,
    alignment: float = 1.0,
    end: float = 0.0,
) -> list[Experiment]:
    """Two runs that follow the closed form from starts of 3.6e-7, or come ``late`` by a factor (one mode)."""
    values = torch.tensor(gamma, dtype=torch.float64)
    d, rate = len(gamma), 1e-3 / (4 * gamma[0])
    start = torch.full((2, d), 3.6e-7, dtype=torch.float64)
    tau = linear.critical_times(values, start, rate)
    times = torch.logspace(float(tau[0, 0].log10()) - 1, float(tau[0, -1].log10()) + 0.5, 800).double()
    clock = torch.ones(d, dtype=torch.float64)
    clock[slice(None) if mode is None else mode] = late
    curves = linear.correlation_eigenvalues(times, values / clock, start * clock.sqrt(), rate)
    curves = curves.sort(-1, descending=True).values
    loss = linear.loss(curves) + end * (times > times[-50])
    runs = xr.Dataset(
        {
            "correlation_eigenvalues": (("run", "step", "mode"), curves.numpy()),
            "effective_time": (("run", "step"), times.expand(2, -1).numpy()),
            "loss": (("run", "step"), loss.numpy()),
            "alignment": (("run", "step"), np.full((2, len(times)), alignment)),
            "critical_time": (("run", "mode"), tau.numpy()),
            "start": (("run", "mode"), start.numpy()),
            "eigenvalue": ("feature_mode", values.numpy()),
        },
        {"learning_rate": ("run", [rate, rate])},
    )
    view = torch.zeros(2, 3)
    return [Experiment(FixedPairs(view, view), Modes(values, torch.eye(d).double()), runs)]


def slide(experiments: list[Experiment]) -> list[Experiment]:
    """The same with a loss that falls evenly."""
    found = experiments[0]
    loss = found.runs["loss"]
    even = np.linspace(loss.values[:, 0], loss.values[:, -1], loss.sizes["step"], axis=1)
    return [found._replace(runs=found.runs.assign(loss=(("run", "step"), even)))]


def wells(sign: float = 1.0, delay: int = 0, units: float = 1e-15) -> xr.Dataset:
    flows = experiments_linear.symmetry_breaking()
    s = flows["s"].copy(deep=True)
    s.loc[{"kind": "self-supervised"}] *= sign
    if delay:
        rolled = np.roll(s.sel(kind="supervised", start=1e-6).values, delay)
        rolled[:delay] = 0
        s.loc[{"kind": "supervised", "start": 1e-6}] = rolled
    return flows.assign(s=s).assign_attrs(units_gap=units)


def overflow(printed: float = 0.0, ours: float = 390.0**-0.5) -> pd.DataFrame:
    table = experiments_linear.overflow_table()
    return table.assign(printed=[*table["printed"][:2], printed, printed], ours=[*table["ours"][:3], ours])


def shapes(half: float = 1.0, width: float = 1.0) -> pd.DataFrame:
    table = experiments_linear.step_shapes(experiments_linear.matrix_flow())
    return table.assign(half=half * table["half"], measured_width=width * table["measured_width"])


def cloud_list(*ranks: int, value: float = 1.0) -> list[Cloud]:
    rows = [np.where(np.arange(10) < rank, value, 1e-6) for rank in ranks]
    return [Cloud(k, 1.0, np.zeros((4, 3)), row) for k, row in enumerate(rows)]


def edge(below: float, above: float, fractions: tuple[float, float] = (0.99, 1.01)) -> xr.Dataset:
    loss = np.array([[1.0, below], [1.0, above]])
    return xr.Dataset({"loss": (("run", "step"), loss)}, {"stability_fraction": ("run", list(fractions))})


def delays(factor: float = 1.0, last: float = 1.2) -> xr.Dataset:
    predicted = np.array([[1.02, 1.003], [1.05, 1.006], [1.23, 1.03]])
    measured = predicted * factor
    measured[-1, 0] = last
    names = ("fraction", "mode")
    return xr.Dataset(
        {"measured": (names, measured), "predicted": (names, predicted)}, {"fraction": [0.05, 0.1, 0.5]}
    )


def law(factor: float = 1.0) -> tuple[xr.Dataset, np.ndarray]:
    q = np.array([0.5, 0.2, 0.2])
    return xr.Dataset({"exponent": ("spectrum", q)}), factor * q


def degenerate(lost: float = 0.5, kept: float = 1.0, late: float = 1.0, mode: int = 0) -> Any:
    def runs(overlap: float, late: float) -> xr.Dataset:
        found = experiment(APART[:6], late=late, mode=mode)[0].runs
        return found.assign(overlap=(("run", "step"), np.full(found["loss"].shape, overlap)))

    return runs(lost, late), runs(kept, 1.0)


def norms(trained: float = 0.875, best: float = 1.3, defect: float = 1e-15) -> xr.Dataset:
    data = {"trained": ("run", [trained]), "competitor": ("rival", [best, 5.0])}
    return xr.Dataset(data, attrs={"optimum": 0.875, "defect": defect})


def floor(small: float = 0.0, large: float = 3.0) -> xr.Dataset:
    loss = np.array([[3.0, small], [6.0, large]])
    return xr.Dataset({"loss": (("run", "step"), loss)}, {"dimensions": ("run", [3, 6])})


def towers(shift: float = 0.0, drift: float = 0.0) -> xr.Dataset:
    curve = np.linspace(0, 1, 5)[:, None]
    data = {"integrated": (("time", "mode"), curve + shift), "closed_form": (("time", "mode"), curve)}
    return xr.Dataset(data, attrs={"norm_gap": drift})


def eq10(gap: float) -> xr.Dataset:
    return xr.Dataset(attrs={"entry_gap": gap})


GOOD = {
    "stepwise.gradient": lambda: 1e-10,
    "stepwise.symmetry": wells,
    "stepwise.eq10": lambda: eq10(1e-9),
    "stepwise.overflow": overflow,
    "stepwise.critical-times": shapes,
    "stepwise.fig1-staircase": experiment,
    "stepwise.fig1-theory": lambda: experiment(late=1.01, mode=3),
    "stepwise.fig1-window": lambda: experiment(late=1.01, mode=0),
    "stepwise.fig1-limit": lambda: experiment(late=1.01, mode=0),
    "stepwise.fig1-alignment": experiment,
    "stepwise.fig1-published": lambda: experiment(PUBLISHED),
    "stepwise.clouds": lambda: cloud_list(0, 1, 2, 3),
    "stepwise.stability": lambda: edge(1e-12, 1e-2),
    "stepwise.discrete-delay": delays,
    "stepwise.generic-starts": lambda: np.array([3.05, 1.98, 1.02]),
    "stepwise.error-law": law,
    "stepwise.degenerate": degenerate,
    "stepwise.minimum-norm": norms,
    "stepwise.loss-floor": floor,
    "stepwise.two-towers": towers,
}

SPOILED = {
    "stepwise.gradient": [lambda: 1.0, lambda: 2.0, lambda: np.nan],
    "stepwise.symmetry": [lambda: wells(-1), lambda: wells(delay=40), lambda: wells(units=0.1)],
    "stepwise.eq10": [lambda: eq10(1e-5), lambda: eq10(np.nan)],
    "stepwise.overflow": [
        lambda: overflow(ours=np.nan),
        lambda: overflow(printed=390.0**-0.5),
        lambda: experiments_linear.overflow_table().assign(ours=0.06),
    ],
    "stepwise.critical-times": [lambda: shapes(half=2), lambda: shapes(width=0.5), lambda: shapes(np.nan)],
    "stepwise.fig1-staircase": [
        lambda: slide(experiment()),
        lambda: experiment(end=1.0),
        lambda: experiment(np.full(10, 50.0)),
        lambda: experiment(end=np.nan),
    ],
    "stepwise.fig1-theory": [
        lambda: experiment(late=1.1),
        lambda: experiment(late=0.9, mode=4),
        lambda: experiment(late=100.0, mode=9),
    ],
    "stepwise.fig1-window": [lambda: experiment(late=1.01, mode=3), lambda: experiment(late=0.97, mode=0)],
    "stepwise.fig1-limit": [lambda: experiment(late=1.01, mode=3), lambda: experiment(late=0.97, mode=0)],
    "stepwise.fig1-alignment": [lambda: experiment(alignment=0.9), lambda: experiment(alignment=np.nan)],
    "stepwise.fig1-published": [
        lambda: experiment(),
        lambda: experiment(PUBLISHED / 2),
        lambda: experiment(PUBLISHED, late=1.7, mode=0),
    ],
    "stepwise.clouds": [
        lambda: cloud_list(1, 2, 3, 4),
        lambda: cloud_list(0, 1, 1, 3),
        lambda: cloud_list(0, 1, 2, 3, value=0.3),
    ],
    "stepwise.stability": [
        lambda: edge(1e-12, 1e-12),
        lambda: edge(1e-2, 1e-2),
        lambda: edge(1e-12, 1e-2, (0.5, 0.99)),
        lambda: edge(np.nan, 1e-2),
    ],
    "stepwise.discrete-delay": [lambda: delays(1.02), lambda: delays(last=1.0), lambda: delays(np.nan)],
    "stepwise.generic-starts": [lambda: np.array([1.0, 2.0, 3.0]), lambda: np.full(3, 3.0)],
    "stepwise.error-law": [lambda: law(0.5), lambda: law(-1.0), lambda: law(np.nan)],
    "stepwise.degenerate": [
        lambda: degenerate(lost=1.0),
        lambda: degenerate(kept=0.5),
        lambda: degenerate(late=1.1),
        lambda: degenerate(kept=np.nan),
    ],
    "stepwise.minimum-norm": [
        lambda: norms(trained=0.88),
        lambda: norms(best=0.8),
        lambda: norms(defect=0.1),
        lambda: norms(trained=np.nan),
    ],
    "stepwise.loss-floor": [lambda: floor(large=0.0), lambda: floor(small=1.0), lambda: floor(large=np.nan)],
    "stepwise.two-towers": [lambda: towers(1e-3), lambda: towers(drift=1.0), lambda: towers(np.nan)],
}


test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


def test_other_data_than_the_published_leave_the_published_times_open() -> None:
    ledger = Ledger("ssl_dynamics", "stepwise_linear", claims.CLAIMS)
    assert claims.decide_published(ledger, experiment(PUBLISHED), False) == Verdict.PENDING
    assert claims.decide_published(ledger, experiment(PUBLISHED), True) == Verdict.REPRODUCED
    assert claims.decide_published(ledger, experiment(), True) == Verdict.NOT


# --- settings ---

SMALL = Linear(pairs=30, patch=10, crop=6, dimensions=4, init_scale=1e-4, seeds=(0, 1), progress=False)


def test_only_cifar_10_in_the_published_shape_is_the_published_setup() -> None:
    assert not Linear().is_published_setup
    whole = Linear(images="cifar10")
    assert whole.is_published_setup
    assert whole.replace(init_scale=1e-5, standardise="none").is_published_setup
    for change in ({"pairs": 400}, {"crop": 16}, {"dimensions": 8}, {"patch": 24}):
        assert not whole.replace(**change).is_published_setup
    with pytest.raises(ConfigError, match="standardise"):
        Linear(standardise="pixel")


def test_photo_pairs_are_those_of_the_chapter() -> None:
    ours, theirs = input_pairs(SMALL, 3), tasks.photo_pairs(3, 30, 10, 6)
    torch.testing.assert_close(ours.view_b, theirs.view_b)
    raw = input_pairs(SMALL.replace(standardise="none"), 3)
    assert raw.view_a.min() >= 0
    assert raw.view_a.max() <= 1


def test_cifar_pairs_are_crops_of_different_images(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 32, 32)
    data = images.ImageSet(pixels.contiguous(), None, (), "test")
    asked = []
    monkeypatch.setattr(images, "cifar10", lambda *args, **_: asked.append(args) or data)
    settings = SMALL.replace(images="cifar10", directory="somewhere", standardise="none", patch=32)
    pairs = input_pairs(settings, 0)
    assert asked == [("train", "somewhere")]
    assert pairs.view_a.shape == (30, 3, 6, 6)
    torch.testing.assert_close(pairs.view_a, pairs.view_b)
    assert len(pairs.view_a[:, 0, 0, 0].unique()) == 30
    scaled = input_pairs(settings.replace(standardise="global"), 0)
    assert abs(float(scaled.view_a.mean())) < 1e-4


def test_times_of_training_and_theory_are_sorted_and_agree() -> None:
    found = measure(SMALL, data_seeds=(1,))
    assert len(found) == 1
    half, tau = half_times(found[0].runs), predicted_times(found[0].runs)
    assert half.shape == tau.shape == (2, 4)
    assert (np.diff(tau) >= 0).all()
    np.testing.assert_allclose(half, tau, rtol=0.05)
    flow = predicted_times(found[0].runs, discrete=False)
    by_hand = [
        -np.log(gamma * s**2) / (8 * gamma)
        for gamma, s in zip(
            found[0].modes.eigenvalues[:4].tolist(), found[0].runs["start"].values[0], strict=True
        )
    ]
    np.testing.assert_allclose(flow[0], np.sort(by_hand))
    assert (flow < tau).all()


def test_clouds_are_the_embeddings_of_the_run() -> None:
    found = measure(SMALL, data_seeds=(1,), seeds=(0,))[0]
    movie = clouds(SMALL.replace(seeds=(0,)), found, plateaus=3)
    assert [cloud.plateau for cloud in movie] == [0, 1, 2]
    assert all(cloud.points.shape == (60, 3) for cloud in movie)
    ranks = [int((cloud.variances > 0.2).sum()) for cloud in movie]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0


def test_the_printed_form_is_right_until_it_overflows() -> None:
    times = torch.tensor([0.0, 0.01, 0.1])
    plain = [
        np.exp(4 * 5.0 * t) / np.sqrt(1e-3**-2 + (np.exp(8 * 5.0 * t) - 1) * 5.0)
        for t in times.double().tolist()
    ]
    np.testing.assert_allclose(experiments_linear.printed_form(times, 5.0, 1e-3), plain, rtol=1e-6)
    assert experiments_linear.printed_form(torch.tensor([40.0]), 5.0, 1e-3).isnan().all()
