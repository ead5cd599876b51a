"""Claims of the notebook "Where the story goes on": controls and extensions, most of them not in the paper.

What is called published here is what was expected before these runs: formulas that are derived, or earlier
runs of ours. Networks are checked by inequalities that have to hold for every seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.stats import spearmanr

from learndyn.core import spectra
from learndyn.core.claims import Claim, Outcome
from learndyn.ssl_dynamics.stepwise import feature_bias, growth, nuisance, preconditioner

PAPER = "Stepwise SSL (arXiv:2303.15438)"
OWN = "own addition"
BLOG = "open question of the authors' blog post"
FOLLOW_UP = 'follow-up paper "Stepwise Feature Learning in SSL"'
ACCURACY_STEP = 0.03  # twice the standard error of a difference of accuracies near 0.9 on 797 images
Logs = Mapping[str, xr.Dataset]


class TwoFeatures(NamedTuple):
    """A toy of two features: the linear model's run (`feature_toy`) and the network's (`feature_network`)."""

    linear: xr.Dataset
    network: xr.Dataset


def _range(values: object, digits: int = 2) -> str:
    ends = [f"{float(end):.{digits}f}" for end in (np.min(values), np.max(values))]
    return " … ".join(dict.fromkeys(ends))


def _plateaus(log: xr.Dataset) -> np.ndarray:
    curves = log["correlation_eigenvalues"].transpose("run", "step", "mode").values
    return spectra.clean_plateaus(torch.tensor(curves)).numpy()


# --- two features ---


def _check_features(features: TwoFeatures, expected: np.ndarray) -> Outcome:
    gamma = features.linear["eigenvalue"].values[:2]
    half, critical = features.linear["half_time"].values, np.sort(features.linear["critical_time"].values)
    ratio, others = half[1] / half[0], features.network["half_time"].values
    ratios = others[:, 1] / others[:, 0]
    holds = np.abs(gamma / expected - 1).max() <= 0.05 and np.abs(half / critical - 1).max() <= 0.02
    holds &= 9 / 1.6 <= ratio <= 9 * 1.6
    text = f"γ = {gamma[0]:.3g}, {gamma[1]:.3g}; 1 : {ratio:.1f}; networks 1 : {_range(ratios, 1)}"
    return Outcome(text, bool(holds and np.all(ratios > 3)))


def _check_extent(features: TwoFeatures) -> Outcome:
    return _check_features(features, feature_bias.extent_eigenvalues().numpy())


def _check_amplitude(features: TwoFeatures) -> Outcome:
    return _check_features(
        features, feature_bias.amplitude_eigenvalues().sort(descending=True).values.numpy()
    )


# --- shuffled positives ---


def delays(logs: Logs) -> np.ndarray:
    """Half time with shuffled positives over the half time with true ones, ``[run, mode]``."""
    return logs["shuffled"]["half_time"].values / logs["true"]["half_time"].values


def negative_share(spectrum: np.ndarray) -> float:
    """The share of negative eigenvalues among those that are not zero up to rounding."""
    size = 1e-9 * np.abs(spectrum).max()
    return float((spectrum < -size).sum() / (np.abs(spectrum) > size).sum())


def _check_shuffled_linear(logs: Logs) -> Outcome:
    log, count = logs["shuffled"], logs["true"].sizes["mode"]
    smaller = bool((log["spectrum"].values[:count] < logs["true"]["spectrum"].values[:count]).all())
    negative, late = negative_share(log["spectrum"].values), delays(logs)
    end, plateaus = float(log["loss"].isel(step=-1).max()), _plateaus(log)
    holds = smaller and 0.4 <= negative <= 0.6 and end < 1e-6 and plateaus.min() >= 3 and late.min() > 1.5
    text = f"loss {end:.0e}, {plateaus.min()} clean plateaus, {_range(late, 1)} times later; "
    return Outcome(text + f"{100 * negative:.0f} % of the eigenvalues negative", bool(holds))


def _check_shuffled_mlp(logs: Logs) -> Outcome:
    log, late = logs["shuffled"], delays(logs)[:, 1:]
    end, plateaus = float(log["loss"].isel(step=-1).max()), _plateaus(log)
    holds = end < 1e-2 and plateaus.min() >= 4 and late.min() > 1.5
    text = f"loss {end:.0e}, at least {plateaus.min()} clean plateaus, "
    text += f"all modes but the first {_range(late, 1)} times later"
    return Outcome(text, bool(holds))


def _check_meaning(logs: Logs) -> Outcome:
    true, shuffled = (logs[name]["knn"].isel(checkpoint=-1).values for name in ("true", "shuffled"))
    text = f"{_range(true, 3)} true, {_range(shuffled, 3)} shuffled"
    gap = true - shuffled
    return Outcome(text, bool(gap.min() > 0 and gap.mean() >= ACCURACY_STEP))


# --- first steps ---


def _check_operators(table: pd.DataFrame) -> Outcome:
    errors = table.pivot(index="scale", columns="loss", values="error").sort_index()
    naive = table.pivot(index="scale", columns="loss", values="error_gamma").sort_index().iloc[0]
    worst, drop = float(errors.iloc[0].max()), errors.iloc[1] / errors.iloc[0]
    others = float(naive[["InfoNCE", "NT-Xent, head bias", "VICReg"]].min())
    holds = worst < 1e-3 and float(drop.min()) > 5 and others > 0.01
    text = f"at most {worst:.0e} at scale {errors.index[0]:g}; with Γ for all losses at least {others:.2f}"
    return Outcome(text, holds)


def _check_spectral(error: float) -> Outcome:
    return Outcome(error, 0 <= error < 1e-8)


# --- nuisance ---


def nuisance_share(log: xr.Dataset) -> xr.DataArray:
    """The part of ‖W‖² that lies in the nuisance plane, over (loss, seed, step)."""
    planes = log["energy"].groupby("plane").sum()
    return (planes / planes.sum("plane")).sel(plane="nuisance")


def _check_nuisance(log: xr.Dataset) -> Outcome:
    share = nuisance_share(log)
    directions = log["nuisance_share"].isel(loss=1).min("direction")
    both = directions.max("step").median("seed")
    barlow_twins = (share.isel(loss=0) / share.isel(loss=0, step=0)).max()
    straight = share.isel(loss=2).sel(step=slice(25, None)).max()
    holds = float(both) > 0.98 and float(barlow_twins) < 1.1 and float(straight) < 0.05
    holds &= float(share.isel(step=-1).max()) < 0.02
    found = (directions > 0.98).mean("seed")
    span = found["step"].values[found.values >= 0.5]
    words = f"steps {span[0]} to {span[-1]}" if len(span) else "never"
    text = f"both directions > 98 % nuisance in half of the draws or more: {words}; weight 30: at most "
    return Outcome(text + f"{100 * float(straight):.1f} % after step 25", bool(holds))


def zero_crossings(sweep: xr.Dataset) -> np.ndarray:
    """The ratio inv/var at which the measured growth of each nuisance input is zero, by interpolation."""
    rates = sweep["growth"].values[:, sweep["plane"].values == "nuisance"]
    order = np.argsort(sweep["ratio"].values)[::-1]  # rates ascend as the ratio descends
    return np.array([np.interp(0.0, rate[order], sweep["ratio"].values[order]) for rate in rates.T])


def _check_threshold(sweep: xr.Dataset) -> Outcome:
    expected, lead = growth.vicreg_threshold(), nuisance.overtaking_ratio(1.0, 1.7)
    zero = zero_crossings(sweep)
    ahead = sweep["peak_share"].values > 0.5
    consistent = (ahead == (sweep["ratio"].values < lead)).all()
    last = sweep["ratio"].values[ahead].max(initial=0)
    return Outcome(
        f"growth is zero at {_range(zero)}; nuisance leads up to {last:g}",
        bool(np.abs(zero - expected).max() <= 0.25 and consistent),
    )


# --- early modes ---


def dip(run: xr.Dataset) -> np.ndarray:
    """How far k-NN accuracy falls below its start while the participation ratio is below 3, per run."""
    low = run["knn"].where(run["participation_ratio"] < 3).min("checkpoint")
    return (run["knn"].isel(checkpoint=0) - low).values


def _check_dip(run: xr.Dataset) -> Outcome:
    start, low = (
        _range(values.values) for values in (run["knn"].isel(checkpoint=0), run["knn"].min("checkpoint"))
    )
    return Outcome(f"{start} at the start, {low} at the bottom", bool(dip(run).min() >= ACCURACY_STEP))


def rank_correlations(run: xr.Dataset) -> np.ndarray:
    """Spearman correlation of participation ratio and k-NN accuracy from the lowest rank on, per run."""
    found = []
    for number in range(run.sizes["run"]):
        rank, accuracy = (run[name].isel(run=number).values for name in ("participation_ratio", "knn"))
        turn = int(rank.argmin())
        found.append(float(spearmanr(rank[turn:], accuracy[turn:]).statistic))
    return np.array(found)


def _check_rise(run: xr.Dataset) -> Outcome:
    start, end = (run["knn"].isel(checkpoint=i).values for i in (0, -1))
    correlation = rank_correlations(run)
    holds = end.min() >= 0.93 and (end - start).min() >= ACCURACY_STEP and correlation.min() > 0.8
    text = f"{_range(start, 3)} → {_range(end, 3)}; rank correlation {_range(correlation)}"
    return Outcome(text, bool(holds))


def _check_other_dips(runs: Logs) -> Outcome:
    found = {name: dip(runs[name]) for name in ("vicreg", "simclr")}
    words = {"vicreg": "VICReg", "simclr": "SimCLR"}
    text = ", ".join(f"{words[name]} falls by {_range(values)}" for name, values in found.items())
    return Outcome(text, all(bool(values.min() >= ACCURACY_STEP) for values in found.values()))


# --- speed and selectivity ---


def _check_selectivity(found: xr.Dataset) -> Outcome:
    alignment, norm = (found[name].median("seed").values for name in ("alignment", "norm_ratio"))
    random = 4 / len(preconditioner.EXAMPLE_EIGENVALUES)
    holds = alignment[0] > 0.99 and alignment[-1] < 1.5 * random and bool((np.diff(alignment) < 0).all())
    holds &= norm[0] < 1.01 and norm[-1] > 2
    text = f"alignment {alignment[0]:.4f} → {alignment[-1]:.2f}, norm ratio {norm[0]:.3f} → {norm[-1]:.1f}"
    return Outcome(text, bool(holds))


def _check_speed(found: xr.Dataset) -> Outcome:
    steps = found["steps"].median("seed").values
    gain = float(steps[0] / steps[-1])
    return Outcome(f"{gain:.1f} times fewer steps at p = 1", bool(gain > 2 and (np.diff(steps) < 0).all()))


# --- depth ---


def _check_clock(scaling: xr.Dataset) -> Outcome:
    scale, measured = scaling["scale"].values, scaling["measured"]
    exponent = np.polyfit(np.log(scale), np.log(measured.sel(layers=2).values).T, 1)[0]
    one = measured.sel(layers=1).values
    wait = scaling["law"].sel(layers=1).values
    relative = (one[:, -1] - one[:, -2]) / (wait[-1] - wait[-2])
    holds = np.abs(exponent + 2).max() <= 0.1 and np.abs(relative - 1).max() <= 0.05
    text = f"two layers: α^({_range(exponent)}); one layer: {_range(relative)} of log(1/α)/(4γ)".replace(
        "-", "−"
    )
    return Outcome(text, bool(holds))


def _check_knobs(knobs: xr.Dataset) -> Outcome:
    error = float(np.abs(knobs["measured"] / knobs["exact"] - 1).max())
    times = knobs["measured"].isel(head=0)
    slow = float(times.sel(body=0.1) / times.sel(body=1.0))
    first = knobs["measured"].sel(body=1.0).values
    decades = np.diff(first[:3]) / np.diff(np.log(knobs["head"].values[:3]))
    logarithmic = abs(decades[1] / decades[0] - 1) < 0.02
    text = f"integration and law within {error:.0e}; body 0.1 is {slow:.0f} times slower than body 1"
    return Outcome(text, error < 1e-3 and 50 < slow < 150 and bool(logarithmic))


# --- temperature ---


def _check_temperature(table: pd.DataFrame) -> Outcome:
    raw = table.sort_values("temperature")["raw"].to_numpy()
    holds = bool((np.diff(raw) > 0).all()) and raw.min() > 5 * float(table["random"].max())
    return Outcome(", ".join(f"{value:.2f}" for value in raw), holds)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "stepwise.extent-bias",
        PAPER,
        FOLLOW_UP,
        "The feature that covers more of the input is learned first",
        "γ = 9, 1; critical times about 1 : 9 up to logarithms",
        _check_extent,
        "γ within 5 %, times within 2 % of the theory, ratio within a factor 1.6 of 9; networks: above 3",
    ),
    Claim(
        "stepwise.amplitude-bias",
        PAPER,
        FOLLOW_UP,
        "The feature of larger amplitude is learned first",
        "γ = 432, 48; critical times about 1 : 9 up to logarithms",
        _check_amplitude,
        "γ within 5 %, times within 2 % of the theory, ratio within a factor 1.6 of 9; networks: above 3",
    ),
    Claim(
        "stepwise.shuffled-linear",
        PAPER,
        OWN,
        "Shuffled positives: the linear model still learns in steps to zero loss, later",
        "a staircase; small eigenvalues, half of them negative",
        _check_shuffled_linear,
        "loss < 1e-6, 3 clean plateaus, every step 1.5 times later, 40–60 % of Γ's spectrum negative",
    ),
    Claim(
        "stepwise.shuffled-mlp",
        PAPER,
        OWN,
        "Shuffled positives: the MLP memorises the pairing in steps, later",
        "a staircase to zero loss",
        _check_shuffled_mlp,
        "every seed: loss < 0.01, 4 clean plateaus, modes after the mean embedding 1.5 times later",
    ),
    Claim(
        "stepwise.shuffled-meaning",
        PAPER,
        OWN,
        "The staircase does not tell, accuracy does: k-NN is worse with shuffled positives (400 pairs)",
        "lower",
        _check_meaning,
        "in every seed, and by 0.03 on average (two standard errors)",
    ),
    Claim(
        "stepwise.first-step-operators",
        PAPER,
        OWN,
        "At tiny weights the gradient of each loss is −2WM with its own operator M",
        "relative errors 8e-8 … 4e-4",
        _check_operators,
        "< 1e-3 at the smallest scale and falling with it; Γ in place of M must fail by 1 % or more",
    ),
    Claim(
        "stepwise.spectral-trajectory",
        PAPER,
        OWN,
        "Spectral contrastive loss: the whole trajectory in closed form where Γ and Σ commute",
        "exact",
        _check_spectral,
        "relative error < 1e-8 against integrated gradient flow",
    ),
    Claim(
        "stepwise.nuisance-first",
        PAPER,
        OWN,
        "VICReg 1/1/0.2 learns nuisance first, then forgets it; Barlow Twins and VICReg 30/1/0.2 never do",
        "steps 25 to 320 (one draw): both directions > 98 % nuisance",
        _check_nuisance,
        "median draw above 98 %; Barlow Twins never 10 % above its start; 30/1/0.2 below 5 % from step 25",
    ),
    Claim(
        "stepwise.nuisance-threshold",
        PAPER,
        OWN,
        "VICReg amplifies nuisance from small weights iff inv/var < 1/(4√eps)",
        "25",
        _check_threshold,
        "zero of the measured growth within 1 %; nuisance leads exactly below the crossing of the rates",
    ),
    Claim(
        "stepwise.probe-dip",
        PAPER,
        BLOG,
        "Barlow Twins on digits: with the first modes learned, k-NN accuracy is below that of random weights",
        "0.886 → 0.80",
        _check_dip,
        "every seed: a fall of 0.03 (two standard errors) at a participation ratio below 3",
    ),
    Claim(
        "stepwise.probe-rise",
        PAPER,
        BLOG,
        "Then accuracy rises with the number of learned modes, above that of random weights",
        "0.80 → 0.95",
        _check_rise,
        "every seed: end ≥ 0.93 and 0.03 above the start; rank correlation with the rank > 0.8",
    ),
    Claim(
        "stepwise.probe-dip-others",
        PAPER,
        BLOG,
        "The dip is there for VICReg and SimCLR, too",
        "0.886 → 0.80 and 0.84",
        _check_other_dips,
        "every seed: a fall of 0.03 at a participation ratio below 3",
    ),
    Claim(
        "stepwise.selectivity",
        PAPER,
        OWN,
        "Whitening the inputs (p = 1) destroys the selectivity of small initialisation",
        "alignment 0.9997 → 0.467 (random 0.4), squared norm over the least 1.000 → 3.64",
        _check_selectivity,
        "medians: alignment falls with p from > 0.99 to < 0.6; norm ratio < 1.01 and > 2",
    ),
    Claim(
        "stepwise.preconditioner-speed",
        PAPER,
        OWN,
        "In return the last step comes sooner, at equal distance from the stability bound",
        "faster",
        _check_speed,
        "steps fall with p, at p = 1 by more than a factor 2",
    ),
    Claim(
        "stepwise.depth-clock",
        PAPER,
        OWN,
        "Two small layers wait for a time ∝ 1/α², one layer for log(1/α)/(4γ)",
        "α^(−2); 1",
        _check_clock,
        "exponent −2 ± 0.1; increment of the one-layer wait within 5 %",
    ),
    Claim(
        "stepwise.two-knobs",
        PAPER,
        OWN,
        "A small head alone keeps the logarithmic wait; a small body multiplies it",
        "closed form; 100 times slower at body 0.1",
        _check_knobs,
        "integration within 1e-3 of the law; slower by 50–150; equal waits per decade of the head within 2 %",
    ),
    Claim(
        "stepwise.simclr-temperature",
        PAPER,
        OWN,
        "SimCLR's agreement with its own tangent kernel rises with the temperature",
        "0.44, 0.55, 0.67 at T = 0.2, 0.5, 1",
        _check_temperature,
        "increasing, and above 5 times random",
    ),
)
