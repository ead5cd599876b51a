"""Claims of the notebook "A small network takes the steps".

Most checks take the table of `settings_mlp.measure_steps`, a row for each run. Networks vary with their
draws, so what is asked for are inequalities that earlier runs of ours with other draws met with room to
spare; the paper publishes curves and one table, and no numbers for small networks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from learndyn.core.claims import Claim, Outcome
from learndyn.ssl_dynamics.stepwise import published

PAPER = "Stepwise SSL (arXiv:2303.15438)"
OWN = "own addition"
BARLOW, VICREG, SIMCLR = "barlow_twins_theory", "vicreg", "ntxent"


class Pair(NamedTuple):
    """Rows of `measure_steps`: the run that steps, and the one that is wrong."""

    right: pd.Series
    wrong: pd.Series


class Hidden(NamedTuple):
    """Half times of the embedding's covariance and of the hidden layer's, each [run, mode]."""

    embedding: np.ndarray
    hidden: np.ndarray


class Noise(NamedTuple):
    """Half times on fixed pairs and with fresh noise, and the final eigenvalues of C of the latter."""

    fixed: np.ndarray
    fresh: np.ndarray
    eigenvalues: np.ndarray


class ScaleFree(NamedTuple):
    """Losses [scale, step] of the standard and of the solvable Barlow Twins loss, at two scales each."""

    standard: np.ndarray
    theory: np.ndarray


class Divergence(NamedTuple):
    """Status of a run and its final loss, and the final loss of another run of the same ensemble."""

    status: str
    loss: float
    neighbour: float


def _text(values: object, digits: int = 2) -> str:
    return ", ".join(f"{float(v):.{digits}f}" for v in np.ravel(np.asarray(values, dtype=float)))


def _counts(values: pd.Series) -> str:
    return ", ".join(str(int(v)) for v in values)


# --- the three losses ---


def _plateaus(table: pd.DataFrame) -> Outcome:
    return Outcome(_counts(table["plateaus"]), len(table) > 0 and (table["plateaus"] >= 5).all())


def _median_plateaus(table: pd.DataFrame) -> Outcome:
    """SimCLR's start is as small as its head bias is long, which varies with the draw: hence the median."""
    return Outcome(_counts(table["plateaus"]), table["plateaus"].median() >= 5)


def _check_loss(table: pd.DataFrame) -> Outcome:
    start, end = table["start"], table["end"]
    holds = len(table) > 0 and ((start - 8).abs() < 0.05).all() and (end < 2e-4).all()
    return Outcome(f"{start.min():.3f} → at most {end.max():.1e}", holds)


def _check_sum(run: xr.Dataset) -> Outcome:
    modes = (1 - run["correlation_eigenvalues"]) ** 2
    gap = float(np.abs(modes.sum("mode") - run["loss"]).max(skipna=False))
    return Outcome(gap, gap < 1e-4)


def _check_rank(table: pd.DataFrame) -> Outcome:
    lowest = table["lowest_rank"]
    typical = table.groupby("loss")["lowest_rank"].median().reindex([BARLOW, SIMCLR])
    return Outcome(f"{lowest.min():.2f} … {lowest.max():.2f}", (typical < 1.3).all())


def _check_cloud(ranks: np.ndarray) -> Outcome:
    """``ranks`` [run, plateau]: in the middle of the plateaus after 2, 3 and 4 modes of C."""
    middle = np.median(np.asarray(ranks, dtype=float), axis=0)
    near = np.abs(middle - [1, 2, 3]) <= 0.5
    return Outcome(_text(middle), near.all() and (np.diff(ranks, axis=1) > 0).all())


# --- the scale of the initialisation ---


def _check_sweep(table: pd.DataFrame) -> Outcome:
    cells = table.groupby("scale").agg(p=("plateaus", "mean"), s=("separation", "mean"))
    cells = cells.sort_index(ascending=False)
    finer = len(cells) >= 3 and (np.diff(cells["s"]) < 0).all() and (np.diff(cells["p"]) >= 0).all()
    return Outcome(f"separation {_text(cells['s'], 3)}; plateaus {_text(cells['p'], 1)}", finer)


def _check_regular(table: pd.DataFrame) -> Outcome:
    last = np.array([row[-3:] for row in table["half_times"]], dtype=float)
    apart = (last[:, 1:] > 1.1 * last[:, :-1]).all()
    few = (table["plateaus"] <= 1).all()
    words = "; ".join("→".join(f"{t:g}" for t in row) for row in last)
    return Outcome(f"last three at steps {words}; {_counts(table['plateaus'])} clean plateaus", apart and few)


def _check_bimodal(gaps: pd.Series) -> Outcome:
    """``gaps``: log₁₀ λ_4/λ_5 in the middle of plateau 4, indexed by scale, mean over seeds."""
    gaps = gaps.sort_index(ascending=False)
    small, regular = float(gaps.iloc[-1]), float(gaps.iloc[0])
    words = f"{small:.1f} decades at α = {gaps.index[-1]:g}, {regular:.1f} at α = {gaps.index[0]:g}"
    return Outcome(words, small > 1 and regular < small)


def _check_clock(table: pd.DataFrame) -> Outcome:
    head = table[table["layers"] == "head"].sort_values("scale", ascending=False)
    both = table[table["layers"] == "all"].sort_values("scale")
    delays = np.diff(head["time"]) / -np.diff(np.log10(head["scale"]))
    small = both.iloc[:2]
    slope = float(np.diff(np.log(small["time"]))[0] / np.diff(np.log(small["scale"]))[0])
    even = len(delays) > 1 and (delays > 0).all() and delays.max() <= 1.2 * delays.min()
    words = f"head: {_text(delays, 4)} per decade; all layers: T ∝ α^{slope:.2f}".replace("^-", "^−")
    return Outcome(words, even and abs(slope + 2) <= 0.4)


# --- wrong configurations ---


def _check_no_bias(pair: Pair) -> Outcome:
    right, wrong = pair
    holds = wrong["lowest_rank"] > 2 and wrong["plateaus"] <= 1 and right["lowest_rank"] < 1.3
    words = f"{wrong['lowest_rank']:.2f} without, {right['lowest_rank']:.2f} with head bias"
    return Outcome(words, holds and right["plateaus"] >= 5)


def _check_inner_product(pair: Pair) -> Outcome:
    right, wrong = pair
    holds = wrong["plateaus"] == 0 and wrong["separation"] > 0.3 and right["separation"] < 0.15
    return Outcome(f"{wrong['separation']:.2f}; cosine with head bias {right['separation']:.2f}", holds)


def _check_customary(pair: Pair) -> Outcome:
    """The last half times are compared in effective time × weight of the variance term."""
    right, wrong = (
        row["half_times"][-1] * rate for row, rate in zip(pair, (0.1 * 1.0, 0.01 * 25.0), strict=True)
    )
    return Outcome(f"{wrong:.0f} against {right:.0f}", wrong > 2 * right)


def _check_scale_free(runs: ScaleFree) -> Outcome:
    gap = float(np.abs(runs.standard[1] / runs.standard[0] - 1).max())
    other = float(np.abs(runs.theory[1] / runs.theory[0] - 1)[:20].max())
    return Outcome(f"{100 * gap:.2f} %; the solvable loss {100 * other:.0f} %", gap < 0.01 and other > 0.1)


def _check_divergence(found: Divergence) -> Outcome:
    holds = "diverged" in found.status and np.isnan(found.loss) and found.neighbour < 0.5
    return Outcome(f"{found.status}; beside it, at a lower rate: {found.neighbour:.1e}", holds)


def _check_noise(found: Noise) -> Outcome:
    ratio = np.sort(found.fresh) / np.sort(found.fixed)
    low, high = float(np.min(found.eigenvalues)), float(np.max(found.eigenvalues))
    near = (np.abs(np.log(ratio)) < np.log(1.5)).all()
    words = f"half times × {ratio.min():.2f}–{ratio.max():.2f}; eigenvalues end at {low:.2f}–{high:.2f}"
    return Outcome(words, near and low < 0.8 and high > 1.2)


# --- the paper's shallow network, hidden layer, predicted embeddings ---


def _check_paper_style(run: xr.Dataset) -> Outcome:
    values = run["correlation_eigenvalues"].values
    above = values > 0.5
    when = run["step"].values[above.argmax(0)]
    loss = run["loss"].values
    learned = bool(above.any(0).all()) and values.shape[1] == 10 and float(values[-1].min()) > 0.9
    ratio = float(when[-1] / max(when[0], 1))
    words = f"steps {', '.join(map(str, when))}; loss {loss[0]:.2f} → {loss[-1]:.0e}"
    return Outcome(words, learned and ratio > 50 and loss[-1] < 0.01 * loss[0])


def _check_hidden(found: Hidden) -> Outcome:
    """The centred embedding has one mode less than C; the last one is left out for it."""
    ratio = found.hidden[:, :-1] / found.embedding[:, :-1]
    low, high = float(ratio.min()), float(ratio.max())
    return Outcome(f"ratio {low:.2f} … {high:.2f}", low > 1 / 1.25 and high < 1.25)


def _by_loss(table: pd.DataFrame, column: str = "raw") -> pd.Series:
    return table.groupby("loss")[column].mean().reindex([BARLOW, VICREG, SIMCLR])


def _check_chance(table: pd.DataFrame) -> Outcome:
    ratio = table["raw"] / table["random"]
    complete = {BARLOW, VICREG, SIMCLR} <= set(table["loss"])
    return Outcome(f"{ratio.min():.1f} to {ratio.max():.1f} times chance", complete and (ratio > 5).all())


def _check_high(table: pd.DataFrame) -> Outcome:
    values = table.loc[table["loss"].isin([BARLOW, VICREG]), ["raw", "centred"]]
    numbers = values.to_numpy()
    return Outcome(f"{numbers.min():.2f} … {numbers.max():.2f}", (numbers > 0.6).all())


def _check_order(table: pd.DataFrame) -> Outcome:
    wide = table.pivot_table(index="seed", columns="loss", values="raw")
    lowest = (wide[SIMCLR] < wide[[BARLOW, VICREG]].min(axis=1)).all()
    means = _by_loss(table)
    return Outcome(f"{_text(means)} (Barlow Twins, VICReg, SimCLR)", lowest)


def _check_initial(table: pd.DataFrame) -> Outcome:
    known = table.dropna(subset=["initial_raw"])
    gain = _by_loss(known) - _by_loss(known, "initial_raw")
    words = f"{_text(_by_loss(known, 'initial_raw'))} before, {_text(_by_loss(known))} after"
    return Outcome(words, gain.notna().all() and (gain > 0).all())


def _check_cross(table: pd.DataFrame) -> Outcome:
    close = float(table.loc[BARLOW, VICREG])
    far = [float(table.loc[SIMCLR, other]) for other in (BARLOW, VICREG)]
    return Outcome(f"{close:.2f}; SimCLR with the others {_text(far)}", close > max(far) and min(far) > 0.2)


_TABLE1 = ", ".join(f"{published.TABLE1[name].measured:.3f}" for name in ("barlow_twins", "vicreg", "simclr"))

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "stepwise.mlp-barlow-twins",
        PAPER,
        "Shallow MLP figure",
        "A small network with Barlow Twins learns C one eigenvalue at a time: clean plateaus of 7, per seed",
        "clear steps, one new eigenvalue per drop of the loss",
        _plateaus,
        "at least 5 clean plateaus for every seed",
    ),
    Claim(
        "stepwise.mlp-loss",
        PAPER,
        "Shallow MLP figure",
        "The loss starts at the number of dimensions, 8, and ends at 0",
        "from d to 0",
        _check_loss,
        "starts within 0.05 of 8, ends below 2e-4, every seed",
    ),
    Claim(
        "stepwise.mlp-loss-is-sum",
        PAPER,
        "derived",
        "The loss is a sum over the eigenvalues of C, ∑(1 − λ_j)^2, also in a network: drops are steps",
        "exact",
        _check_sum,
        "largest difference along the run below 1e-4 (float32)",
    ),
    Claim(
        "stepwise.mlp-vicreg",
        PAPER,
        "VICReg figure",
        "VICReg learns the covariance one eigenvalue at a time: clean plateaus of 7, per seed",
        "clear steps, one new eigenvalue per drop of the loss",
        _plateaus,
        "at least 5 clean plateaus for every seed",
    ),
    Claim(
        "stepwise.mlp-simclr",
        PAPER,
        "SimCLR figure",
        "SimCLR learns the covariance one eigenvalue at a time: clean plateaus of 7, per seed",
        "clear steps, one new eigenvalue per drop of the loss",
        _median_plateaus,
        "median over seeds at least 5 clean plateaus (the length of the head bias varies with the seed)",
    ),
    Claim(
        "stepwise.mlp-one-dimension",
        PAPER,
        "Blog post, animated figure",
        "Embeddings collapse to about one dimension before they unfold: least participation ratio",
        "a point, then one dimension",
        _check_rank,
        "median over seeds below 1.3 for Barlow Twins and for SimCLR",
    ),
    Claim(
        "stepwise.mlp-cloud",
        PAPER,
        "Blog post, animated figure",
        "The cloud of embeddings has 1, 2, 3 dimensions on successive plateaus (after the mean): their PR",
        "a point, then a 1-D, 2-D, 3-D cloud, in step with the loss",
        _check_cloud,
        "median over seeds within 0.5 of 1, 2, 3 in the middle of the plateaus; growing for every seed",
    ),
    Claim(
        "stepwise.mlp-init-scale",
        PAPER,
        OWN,
        "Steps become cleaner as the initialisation shrinks: half separation falls, clean plateaus increase",
        "steps are clearest from small initialisation",
        _check_sweep,
        "mean over seeds: separation decreases and plateaus do not, at every step down the scales",
    ),
    Claim(
        "stepwise.mlp-regular-init",
        PAPER,
        "Regular initialisation figures",
        "At ordinary initialisation steps overlap but are visible: half times of the last three eigenvalues",
        "steps overlap but remain visible",
        _check_regular,
        "Barlow Twins, α = 1: each half time 10 % after the one before, at most 1 clean plateau, every seed",
    ),
    Claim(
        "stepwise.mlp-bimodal",
        PAPER,
        "Histograms of log eigenvalues",
        "Eigenvalues are learned or not yet learned, with a gap between: log10 λ_4/λ_5 on plateau 4",
        "bimodal during training",
        _check_bimodal,
        "more than one decade at the smallest scale, less at the largest; mean over seeds",
    ),
    Claim(
        "stepwise.mlp-two-clocks",
        PAPER,
        "derived",
        "A small head delays the first step by log(1/α), small layers by 1/α^2",
        "log(1/α_head); α^(−2) for two layers",
        _check_clock,
        "head: delays per decade within 20 % of each other; all layers: exponent −2 ± 0.4 at the small end",
    ),
    Claim(
        "stepwise.mlp-no-head-bias",
        PAPER,
        OWN,
        "SimCLR without a head bias does not start from a point: participation ratio never falls near 1",
        "no small-initialisation limit",
        _check_no_bias,
        "always above 2 and at most 1 clean plateau; below 1.3 and at least 5 with head bias",
    ),
    Claim(
        "stepwise.mlp-inner-product",
        PAPER,
        OWN,
        "InfoNCE with raw inner products lets all dimensions grow at once: half separation",
        "all dimensions together",
        _check_inner_product,
        "no clean plateau, above 0.3; SimCLR as it should be: below 0.15",
    ),
    Claim(
        "stepwise.mlp-vicreg-weights",
        PAPER,
        OWN,
        "VICReg with the customary weights 25/25/1 whitens its last dimension late: time × variance weight",
        "very slow",
        _check_customary,
        "more than twice that of 1/1/0.2",
    ),
    Claim(
        "stepwise.mlp-scale-free",
        PAPER,
        OWN,
        "Standard Barlow Twins does not feel the scale: losses at α = 1, 0.1 (rates 1 : 0.01) differ by",
        "scale of the initialisation has no effect",
        _check_scale_free,
        "below 1 % at every step; the solvable loss differs by more than 10 % early on",
    ),
    Claim(
        "stepwise.mlp-divergence",
        PAPER,
        OWN,
        "α = 0.05 with learning rate 0.2 diverges, which stops that run and no other",
        "diverges",
        _check_divergence,
        "reported as diverged, NaN from there on; the run beside it goes on to a loss below 0.5",
    ),
    Claim(
        "stepwise.mlp-fresh-noise",
        PAPER,
        OWN,
        "Mini-batches with fresh noise take the same steps, but the eigenvalues of C do not all end at 1",
        "nearly the same half times; eigenvalues spread",
        _check_noise,
        "each half time within a factor of 1.5; eigenvalues on fixed pairs from below 0.8 to above 1.2",
    ),
    Claim(
        "stepwise.mlp-paper-style",
        PAPER,
        "Shallow MLP figure",
        "One hidden layer, 50 images, ordinary initialisation: ten eigenvalues of C reach 1/2 one by one",
        "steps at normal initialisation",
        _check_paper_style,
        "all ten learned, the last more than 50 times later than the first; loss falls below 1 %",
    ),
    Claim(
        "stepwise.mlp-hidden",
        PAPER,
        "Hidden representations figure",
        "Eigenvalues of the hidden layer rise when those of the embedding do: ratio of half times, 7 modes",
        "steps at the same times, on top of an O(1) background",
        _check_hidden,
        "all within 25 %, every seed",
    ),
    Claim(
        "stepwise.mlp-ntk-chance",
        PAPER,
        "Table of NTK-predicted embeddings",
        "Embeddings align with those predicted by the tangent kernel after training, far above chance",
        "21 to 25 times chance",
        _check_chance,
        "more than 5 times, every loss and seed",
    ),
    Claim(
        "stepwise.mlp-ntk-high",
        PAPER,
        OWN,
        "In a small network the prediction gets most of the subspace, raw and centred (Barlow Twins, VICReg)",
        "0.86–0.99 (earlier runs)",
        _check_high,
        "above 0.6, every seed",
    ),
    Claim(
        "stepwise.mlp-ntk-order",
        PAPER,
        "Table of NTK-predicted embeddings",
        "SimCLR aligns least: mean alignment of Barlow Twins, VICReg, SimCLR",
        _TABLE1,
        _check_order,
        "SimCLR lowest for every seed",
    ),
    Claim(
        "stepwise.mlp-ntk-initial",
        PAPER,
        OWN,
        "The kernel before training predicts the embeddings less well than the kernel after",
        "0.85, 0.78, 0.38 before; 0.99, 0.98, 0.44 after (an earlier run of ours)",
        _check_initial,
        "lower for all three losses",
    ),
    Claim(
        "stepwise.mlp-cross-method",
        PAPER,
        "Blog post",
        "Embeddings of different methods resemble each other: alignment of Barlow Twins and VICReg",
        "they resemble each other",
        _check_cross,
        "higher than with SimCLR, and that more than 5 times chance (0.2)",
    ),
)
