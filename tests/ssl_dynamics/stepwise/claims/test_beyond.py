"""Each claim of the notebook holds for a plausible result and does not for a spoiled one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import claim_checks
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from learndyn.core import evaluation, ssl_training
from learndyn.core.claims import Verdict
from learndyn.core.config import ConfigError
from learndyn.ssl_dynamics.stepwise import experiments_beyond as experiments
from learndyn.ssl_dynamics.stepwise import (
    growth,
    nuisance,
    potentials,
    preconditioner,
    presets,
    published,
    tasks,
)
from learndyn.ssl_dynamics.stepwise.claims import beyond as claims
from learndyn.ssl_dynamics.stepwise.controls import captured_variance
from learndyn.ssl_dynamics.stepwise.settings_beyond import Beyond

# --- two features ---


def features(
    gamma: tuple[float, float] = (9.0, 1.0), late: float = 12.0, network: float = 10.0, off: float = 1.0
) -> claims.TwoFeatures:
    half = np.array([0.2, 0.2 * late])
    linear = xr.Dataset(
        {
            "eigenvalue": ("feature_mode", [*gamma, 0.0]),
            "half_time": ("mode", half * off),
            "critical_time": ("mode", half[::-1]),
        }
    )
    others = xr.Dataset({"half_time": (("run", "mode"), [[0.1, 0.1 * network]] * 2)})
    return claims.TwoFeatures(linear, others)


# --- shuffled positives ---


def staircase(
    first: float, gap: float, runs: int = 1, end: float = 0.0, modes: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, curves that rise one after another, and their half times."""
    steps = np.arange(0, 4000.0)
    half = first + gap * np.arange(modes)
    curves = 1 / (1 + np.exp(-(steps[:, None] - half) / 4))
    return steps, np.repeat(curves[None], runs, 0), np.repeat(half[None], runs, 0)


def control(
    first: float = 100,
    gap: float = 60,
    end: float = 1e-9,
    knn: float = 0.8,
    spectrum: np.ndarray | None = None,
) -> xr.Dataset:
    steps, curves, half = staircase(first, gap, runs=2)
    loss = np.full((2, len(steps)), end)
    spectrum = (
        np.concatenate([np.linspace(2, 0.1, 30), -np.linspace(0.1, 2, 30)]) if spectrum is None else spectrum
    )
    return xr.Dataset(
        {
            "loss": (("run", "step"), loss),
            "correlation_eigenvalues": (("run", "step", "mode"), curves),
            "half_time": (("run", "mode"), half),
            "spectrum": ("eigenmode", spectrum),
            "knn": (("run", "checkpoint"), np.full((2, 3), knn)),
        },
        coords={"step": steps},
    )


def controls(**changes: Any) -> dict[str, xr.Dataset]:
    spectrum = np.concatenate([np.linspace(50, 10, 30), -np.linspace(0.1, 2, 30)])
    return {"true": control(20, 30, knn=0.89, spectrum=spectrum), "shuffled": control(**changes)}


# --- first steps ---


def operators(worst: float = 1e-5, order: float = 10.0, naive: float = 0.05) -> pd.DataFrame:
    rows = [
        (loss, scale, worst * (order if scale == 1e-5 else 1.0), naive)
        for loss in experiments.compared_losses()
        for scale in (1e-5, 1e-6)
    ]
    return pd.DataFrame(rows, columns=["loss", "scale", "error", "error_gamma"])


def small(**changes: Any) -> Beyond:
    return Beyond(nuisance_seeds=(1, 2, 3), sweep_ratios=(1.0, 10.0, 18.0, 24.0, 26.0, 40.0), **changes)


def rolled(log: xr.Dataset) -> xr.Dataset:
    """The labels of the losses moved by one."""
    return log.roll(loss=1, roll_coords=False)


# --- early modes ---


def probe(start: float = 0.89, low: float = 0.80, end: float = 0.95, rank: float = 1.2) -> xr.Dataset:
    ranks = np.array([10.0, 5.0, rank, 3.0, 6.0, 9.0, 12.0, 15.0])
    knn = np.array([start, (start + low) / 2, low, *np.linspace(low + 0.02, end, 5)])
    return xr.Dataset(
        {
            "participation_ratio": (("run", "checkpoint"), np.tile(ranks, (2, 1))),
            "knn": (("run", "checkpoint"), np.tile(knn, (2, 1))),
        }
    )


def anticorrelated() -> xr.Dataset:
    run = probe()
    run["participation_ratio"][:, 3:] = run["participation_ratio"].values[:, :2:-1]
    return run


# --- speed and depth ---


def selective(
    alignment: tuple[float, ...] = (0.9999, 0.999, 0.5),
    norm: tuple[float, ...] = (1.0, 1.01, 3.6),
    steps: tuple[float, ...] = (380.0, 190.0, 90.0),
) -> xr.Dataset:
    columns = {"alignment": alignment, "norm_ratio": norm, "steps": steps}
    return xr.Dataset({name: (("exponent", "seed"), np.array(v)[:, None]) for name, v in columns.items()})


def scaling(power: float = -2.0, increment: float = 1.0) -> xr.Dataset:
    scale = np.array([0.3, 0.1, 0.05])
    law = np.stack([-np.log(scale) / 12, scale**-2.0])
    measured = np.stack([[0.1 + increment * law[0]], [1.7 * scale**power]])
    return xr.Dataset(
        {"measured": (("layers", "seed", "scale"), measured), "law": (("layers", "scale"), law)},
        coords={"layers": [1, 2], "scale": scale},
    )


def knobs(error: float = 0.0, slow: float = 80.0, power: float = 0.0) -> xr.Dataset:
    head = np.geomspace(1e-4, 0.3, 7)
    wait = -np.log(head) / 4 * head**power
    exact = np.stack([wait, 10 * wait, slow * wait])
    data = {"exact": (("body", "head"), exact), "measured": (("body", "head"), exact * (1 + error))}
    return xr.Dataset(data, coords={"body": [1.0, 0.3, 0.1], "head": head})


def temperatures(raw: tuple[float, ...] = (0.44, 0.55, 0.67)) -> pd.DataFrame:
    return pd.DataFrame({"temperature": [0.2, 0.5, 1.0], "raw": raw, "random": 0.04})


GOOD: dict[str, Callable[[], Any]] = {
    "stepwise.extent-bias": features,
    "stepwise.amplitude-bias": lambda: features((432.0, 48.0)),
    "stepwise.shuffled-linear": controls,
    "stepwise.shuffled-mlp": controls,
    "stepwise.shuffled-meaning": controls,
    "stepwise.first-step-operators": operators,
    "stepwise.spectral-trajectory": lambda: 1e-10,
    "stepwise.nuisance-first": lambda: experiments.nuisance_runs(small()),
    "stepwise.nuisance-threshold": lambda: experiments.nuisance_sweep(small()),
    "stepwise.probe-dip": probe,
    "stepwise.probe-rise": probe,
    "stepwise.probe-dip-others": lambda: {"vicreg": probe(), "simclr": probe(low=0.84)},
    "stepwise.selectivity": selective,
    "stepwise.preconditioner-speed": selective,
    "stepwise.depth-clock": scaling,
    "stepwise.two-knobs": knobs,
    "stepwise.simclr-temperature": temperatures,
}

SPOILED: dict[str, list[Callable[[], Any]]] = {
    "stepwise.extent-bias": [
        lambda: features((1.0, 9.0)),
        lambda: features(late=2.0),
        lambda: features(network=0.5),
        lambda: features(network=np.nan),
        lambda: features(off=1.1),
    ],
    "stepwise.amplitude-bias": [
        features,
        lambda: features((144.0, 48.0)),
        lambda: features((432.0, 48.0), network=1.0),
    ],
    "stepwise.shuffled-linear": [
        lambda: {"true": control(), "shuffled": control()},
        lambda: controls(end=1.0),
        lambda: controls(gap=1e-3),
        lambda: controls(spectrum=np.linspace(2, 0.1, 60)),
        lambda: controls(first=25, gap=31),
    ],
    "stepwise.shuffled-mlp": [
        lambda: {"true": control(), "shuffled": control()},
        lambda: controls(end=0.5),
        lambda: controls(gap=1e-3),
        lambda: controls(end=np.nan),
    ],
    "stepwise.shuffled-meaning": [
        lambda: controls(knn=0.89),
        lambda: controls(knn=0.95),
        lambda: controls(knn=np.nan),
    ],
    "stepwise.first-step-operators": [
        lambda: operators(worst=0.01),
        lambda: operators(order=1.0),
        lambda: operators(naive=1e-6),
    ],
    "stepwise.spectral-trajectory": [lambda: 1e-3, lambda: float("nan")],
    "stepwise.nuisance-first": [
        lambda: rolled(experiments.nuisance_runs(small())),
        lambda: experiments.nuisance_runs(small(nuisance_ratios=(1.0, 10.0))),
        lambda: experiments.nuisance_runs(small(nuisance_ratios=(30.0, 30.0))),
    ],
    "stepwise.nuisance-threshold": [
        lambda: experiments.nuisance_sweep(small(), eps=4e-4),
        lambda: experiments.nuisance_sweep(small()).assign_coords(
            plane=("input", ["nuisance", "shared"] * 2)
        ),
    ],
    "stepwise.probe-dip": [lambda: probe(low=0.88), lambda: probe(rank=5.0), lambda: probe(low=np.nan)],
    "stepwise.probe-rise": [lambda: probe(end=0.91), lambda: probe(start=0.94), anticorrelated],
    "stepwise.probe-dip-others": [
        lambda: {"vicreg": probe(), "simclr": probe(low=0.88)},
        lambda: {"vicreg": probe(low=0.88), "simclr": probe()},
        lambda: {"vicreg": probe()},
    ],
    "stepwise.selectivity": [
        lambda: selective(alignment=(0.9999, 0.999, 0.99)),
        lambda: selective(alignment=(0.5, 0.999, 0.9999)),
        lambda: selective(norm=(1.0, 1.0, 1.0)),
        lambda: selective(norm=(3.6, 1.01, 3.6)),
    ],
    "stepwise.preconditioner-speed": [
        lambda: selective(steps=(380.0, 380.0, 380.0)),
        lambda: selective(steps=(90.0, 190.0, 380.0)),
    ],
    "stepwise.depth-clock": [
        lambda: scaling(power=-1.0),
        lambda: scaling(increment=2.0),
        lambda: scaling(power=0.0),
    ],
    "stepwise.two-knobs": [
        lambda: knobs(error=0.01),
        lambda: knobs(slow=1.0),
        lambda: knobs(power=-1.0),
        lambda: knobs(error=np.nan),
    ],
    "stepwise.simclr-temperature": [
        lambda: temperatures((0.67, 0.55, 0.44)),
        lambda: temperatures((0.04, 0.05, 0.06)),
        lambda: temperatures((0.44, 0.44, 0.44)),
    ],
}


test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


# --- what the notebook measures ---

TINY = Beyond(
    seeds=(0, 1),
    probe_train=60,
    probe_pairs=20,
    probe_dimensions=4,
    probe_steps=(20, 20, 20),
    operator_scales=(1e-5, 1e-6),
    progress=False,
)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="exponents"):
        Beyond(exponents=(0.0, 1.5))
    with pytest.raises(ConfigError, match="probe_steps"):
        Beyond(probe_steps=(1, 2))


def test_accuracies_are_those_of_each_network_alone() -> None:
    config = presets.mlp("barlow_twins", (0, 1), steps=9, snapshot_steps=(3,))
    training = ssl_training.train(config, experiments.digit_training_pairs(TINY, 20))
    found = experiments.accuracies(TINY, training)
    assert found["step"].values.tolist() == [3, 9]
    train, test = tasks.digit_split(0, 60)
    with torch.no_grad():
        network = training.network(1, 3)
        known, new = (network(part.images)[0].double() for part in (train, test))
    alone = evaluation.knn_accuracy(known, train.labels, new, test.labels, k=5)
    assert float(found["knn"].isel(run=1, checkpoint=0)) == pytest.approx(float(alone))
    views = experiments.digit_training_pairs(TINY, 20).evaluation()
    with torch.no_grad():
        values = torch.linalg.eigvalsh(torch.cov(torch.cat([network(view)[0] for view in views]).double().mT))
    rank = float(values.sum() ** 2 / (values**2).sum())
    assert float(found["participation_ratio"].isel(run=1, checkpoint=0)) == pytest.approx(rank, rel=1e-4)


def test_training_pairs_are_training_images() -> None:
    train, _ = tasks.digit_split(0, 60)
    pairs = experiments.digit_training_pairs(TINY, 20)
    noise = pairs.view_a - train.images[:20]
    assert float(noise.std()) * train.pixel_rms == pytest.approx(experiments.NOISE, rel=0.05)


def test_shuffled_digits_and_probes_have_their_variables() -> None:
    logs = experiments.shuffled_digits(TINY, 10, 20)
    assert [log.sizes["run"] for log in logs.values()] == [2, 2]
    # both start from the same weights, and only the pairing differs
    for name in ("knn", "covariance_eigenvalues"):
        first = [logs[key][name].values[:, 0] for key in ("true", "shuffled")]
        np.testing.assert_allclose(*first, rtol=1e-4)
    table = experiments.shuffled_table({10: logs})
    assert table["pairs"].tolist() == [10, 10]
    ends = [logs[name]["knn"].isel(checkpoint=-1).values for name in ("true", "shuffled")]
    assert table["k-NN: true / shuffled"].tolist() == [
        f"{a:.3f} / {b:.3f}" for a, b in zip(*ends, strict=True)
    ]
    runs = experiments.probe_runs(TINY)
    assert list(runs) == ["barlow_twins", "vicreg", "simclr"]
    assert all(float(run["knn"].max()) <= 1 for run in runs.values())


def test_a_shuffled_gamma_holds_more_variance_than_random_directions() -> None:
    settings = Beyond(control_pairs=60)
    held = captured_variance(*experiments.digit_controls(settings, 60), 4)
    views = np.concatenate(experiments.digit_training_pairs(settings, 60).evaluation()).astype(float)
    moments = np.linalg.eigvalsh(views.T @ views)[::-1]
    assert held["best"] == pytest.approx(moments[:4].sum() / moments.sum())
    assert held["random"] == 4 / 64
    assert held["random"] < held["shuffled"] < held["true"] <= held["best"]


def test_first_steps_hold_the_claim() -> None:
    table = experiments.first_steps(Beyond())
    shown = experiments.first_step_table(table).set_index("loss")
    assert list(shown.index) == list(experiments.compared_losses())
    row = table[(table["loss"] == "VICReg") & (table["scale"] == 1e-6)].iloc[0]
    assert shown.loc["VICReg", ["at scale 1e-06", "Γ for M"]].tolist() == [
        f"{row.error:.0e}",
        f"{row.error_gamma:.0e}",
    ]
    assert claim_checks.verdict(claims.CLAIMS, "stepwise.first-step-operators", table) == Verdict.REPRODUCED
    assert experiments.spectral_error() < 1e-8


def test_half_times_of_random_networks_agree_with_one_layer_theory() -> None:
    found = experiments.escape_scaling(Beyond(seeds=(0,), depth_scales=(0.1, 0.05)))
    one = found.sel(layers=1, seed=0)["measured"].values
    assert one[1] - one[0] == pytest.approx(np.log(2) / (4 * 3.0), rel=0.05)
    assert found.sel(layers=2)["measured"].notnull().all()


def test_single_run_counts_what_was_learned() -> None:
    run = preconditioner.single_run(0.0, 1e-4)
    assert float(run["share"].sum()) == pytest.approx(4)
    assert float(run["alignment"]) > 0.99
    assert float(preconditioner.single_run(1.0, 1e-4)["alignment"]) < 0.8


def test_explorer_grid_has_every_cell_and_the_longest_time() -> None:
    settings = Beyond(explorer_exponents=(0.0, 1.0), explorer_scales=(1e-2, 1e-4))
    grid, longest = experiments.explorer_grid(settings)
    assert set(grid) == {(0.0, 1e-2), (0.0, 1e-4), (1.0, 1e-2), (1.0, 1e-4)}
    run = grid[0.0, 1e-4]
    half = np.interp(0.5, run["eigenvalues"].isel(mode=-1), run["steps"])
    assert longest[1e-4] == pytest.approx(1.4 * half, rel=0.02)
    assert float(grid[1.0, 1e-4]["last_step"]) < half < longest[1e-4] <= float(run["steps"].max())


def test_selectivity_table_stands_beside_the_earlier_draw() -> None:
    found = experiments.selectivity(Beyond(exponents=(0.0, 0.6), selectivity_seeds=(0,)))
    table = experiments.selectivity_table(found, published.preconditioner())
    assert table["alignment, earlier draw"].isna().tolist() == [False, True]
    steps = found["half_time"].isel(mode=-1, seed=0) / found["stable_rate"] * 10
    np.testing.assert_allclose(table["steps"], steps)


def test_predictor_flow_vanishes_at_its_fixed_points() -> None:
    low, high = potentials.predictor_fixed_points(0.1) or (np.nan, np.nan)
    points = torch.tensor([0.0, low, high], dtype=torch.float64)
    assert float(potentials.predictor_flow(points, 0.1).abs().max()) < 1e-15
    assert float(potentials.predictor_flow(points[1] + 0.01, 0.1)) > 0
    assert float(potentials.predictor_flow(points[1] - 0.01, 0.1)) < 0
    assert potentials.predictor_fixed_points(0.3) is None


def test_sweep_zero_follows_eps() -> None:
    sweep = experiments.nuisance_sweep(small().replace(sweep_ratios=(1.0, 2.0, 3.0)), eps=1e-2)
    np.testing.assert_allclose(claims.zero_crossings(sweep), growth.vicreg_threshold(1e-2), rtol=0.01)
    assert nuisance.overtaking_ratio(1.0, 1.7, 1e-2) < growth.vicreg_threshold(1e-2)
