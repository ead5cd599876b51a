"""Claims of the notebook "The model and its two ingredients": the lemmas, Figure 8, γ, scan and snap.

Tolerances. An identity in float64 gets 1e-12, a trained or integrated quantity what its solver promises, a
printed number half a unit of its last digit. Where the paper draws a curve and prints no number, the value
to meet is that of its formula, evaluated independently of this library. What the paper says in words (tokens
rise or fall, attention freezes) has no tolerance in the paper: signs must hold at every time, and the numbers
that turn "freezes" into a check were chosen before looking and are stated with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from learndyn.core.claims import Claim, Outcome, within
from learndyn.scan_snap.experiments_ingredients import Lemma1, at_multiple, moved

PAPER = "Scan & Snap (arXiv:2305.16380)"
OWN = "own addition"
EXACT = 1e-12  # an identity, in float64
LOG_LOSS = 3.526360  # first line of the authors' log of Figure 4
ENDS_DISCRETE = (5.055, 6.230, 7.428, 8.218, 8.965)
ENDS_CONTINUOUS = (5.038, 6.208, 7.401, 8.189, 8.931)
FROZEN_LOSS = {1e3: 2.50e-2, 1e4: 2.05e-3, 1e5: 2.004e-4}
PEAKS = {50: (3.51, 2.09), 100: (3.96, 2.60), 1000: (5.64, 4.42), 10_000: (7.52, 6.36)}


class Curves(NamedTuple):
    """Figure 8: the datasets of `experiments_ingredients.train_decoder`, left and right panel."""

    left: xr.Dataset
    right: xr.Dataset


class Growth(NamedTuple):
    """`experiments_ingredients.growth_of_ratios` at equal rates, and with a decoder 100 times faster."""

    equal: xr.Dataset
    fast_decoder: xr.Dataset


def number(value: float, digits: int = 2) -> str:
    """A number in a sentence: few digits, a real minus sign."""
    return f"{value:.{digits}g}".replace("-", "−")


def _at_most(what: str, values: tuple[float, ...], tolerance: float) -> Outcome:
    # np.max keeps a NaN, which Python's max may drop
    largest = float(np.max(values))
    return Outcome(f"{what} within {number(largest)}", largest <= tolerance)


# --- the model ---


def _check_initial_loss(loss: float) -> Outcome:
    return within(loss, LOG_LOSS, atol=5e-6)


def _check_counts(found: Lemma1) -> Outcome:
    return _at_most("log-likelihoods agree", (found.likelihood,), EXACT)


def _check_lemma1(found: Lemma1) -> Outcome:
    return _at_most("gradients and row sums", (found.decoder, found.attention, found.row_sum), EXACT)


def length_exponent(errors: xr.Dataset) -> float:
    """The power of T − 1 with which ‖Xᵀb − c‖ falls."""
    mean = errors["attention_error"].mean("next").values
    return float(np.polyfit(np.log(errors["length"].values - 1), np.log(mean), 1)[0])


def _check_length_rate(errors: xr.Dataset) -> Outcome:
    mean = errors["attention_error"].mean("next", skipna=False)
    scaled = mean.values * np.sqrt(errors["length"].values - 1)
    spread, exponent = float(scaled.max() / scaled.min() - 1), length_exponent(errors)
    text = f"error × √(T−1) constant within {100 * spread:.1f} %; power {number(exponent, 4)}"
    return Outcome(text, spread <= 0.01 and abs(exponent + 0.5) <= 0.002)


def _check_length_bound(errors: xr.Dataset) -> Outcome:
    share = float((errors["frequency_error"] / errors["bound"]).max(skipna=False))
    return Outcome(f"{100 * share:.0f} % of the bound", share <= 1)


# --- the decoder at frozen attention ---


def _check_recursion(curves: Curves) -> Outcome:
    gaps = [
        float(np.abs(curve["trained"] - curve["h_discrete"]).max(skipna=False) * curve.attrs["vocabulary"])
        for curve in curves
    ]
    spreads = [float(curve["spread"].max(skipna=False)) for curve in curves]
    return _at_most("M h* and the equality of the other logits", (*gaps, *spreads), 1e-11)


def _check_gap(gaps: pd.DataFrame) -> Outcome:
    largest = gaps.groupby(["vocabulary", "decoder_rate"])["gap"].max()
    low, high, least = largest.min(), largest.max(), float(gaps["gap"].min())
    holds = bool(gaps["gap"].notna().all()) and least >= 0 and low >= 0.18 and high <= 0.22
    return Outcome(f"never below {number(least)}; at most {low:.3f}–{high:.3f} η_Y/M", holds)


def _check_ends(curves: Curves) -> Outcome:
    end = curves.left.sel(step=80)
    size = curves.left.attrs["vocabulary"]
    rows = {"trained": ENDS_DISCRETE, "h": ENDS_CONTINUOUS}
    # np.max keeps a NaN, which Python's max may drop
    gap = float(np.max([np.abs(size * end[name].values - known) for name, known in rows.items()]))
    text = "; ".join(" ".join(f"{value:.3f}" for value in size * end[name].values) for name in rows)
    return Outcome(text, size == 50 and gap <= 5e-4)


def _check_frozen_loss(found: xr.Dataset) -> Outcome:
    curve = found["decorrelated"].sel(time=list(FROZEN_LOSS))
    known = np.array(list(FROZEN_LOSS.values()))
    off = float(np.abs(curve.values / known - 1).max())
    tail = float((curve.isel(time=-1) / found["limit"].sel(time=1e5)).max(skipna=False))
    text = ", ".join(number(float(value), 4) for value in curve.isel(overlap=0))
    return Outcome(f"{text}; {tail:.3f} of the limit at 10^5", off <= 0.003 and abs(tail - 1) <= 0.01)


def _check_precision(table: pd.DataFrame) -> Outcome:
    off = float((table["measured"] / table["precision"] - 1).abs().max(skipna=False))
    share = table["time"] / table["order"]
    text = f"{share.max():.2f} of the stated order at ε = {table['precision'].iloc[0]:g}, "
    text += f"{share.min():.2f} at ε = {table['precision'].iloc[-1]:g}"
    return Outcome(text, off <= 1e-8 and bool((share <= 1).all()))


# --- the signal ---


def signal_gaps(found: xr.Dataset) -> tuple[float, float]:
    """Largest relative differences from the closed form: γ along f_n, and γβ_nk along the other f_k."""
    own = found["gamma"] / found["closed_form"]
    others = found["strength"] / found["strength_theory"]
    return tuple(float(np.abs(part - 1).max(skipna=False)) for part in (own, others))


def _check_signal(found: xr.Dataset) -> Outcome:
    return _at_most("γ and γβ", signal_gaps(found), 1e-8)


def _check_peaks(table: pd.DataFrame) -> Outcome:
    rows = table.set_index("vocabulary")
    known = pd.DataFrame(PEAKS, index=["peak", "height"]).T
    gap = float((rows.loc[known.index, ["peak", "height"]] - known).abs().to_numpy().max())
    share = rows["peak"] / rows["lower"]
    text = ", ".join(f"{value:.2f}" for value in rows["peak"])
    text += f" K/η_Y, {share.min():.2f}–{share.max():.2f} of 2 K ln M/η_Y"
    return Outcome(text, gap <= 0.005 and bool(share.between(0.4, 0.45).all()))


def _check_asymptotes(table: pd.DataFrame) -> Outcome:
    off = float((table[["early_limit", "late_limit"]] - 1).abs().to_numpy().max())
    return Outcome(f"within {100 * off:.1f} %", off <= 0.01)


# --- scan and snap ---


def kinds(flow: xr.Dataset) -> dict[str, np.ndarray]:
    """Attention on common and on distinct tokens, each [time, token], the distinct ones by frequency."""
    weights = flow["attention_weights"].transpose("time", "support").values
    common = (flow["kind"] == "common").values
    distinct = np.flatnonzero(~common)
    order = np.argsort(flow["probability"].values[distinct], kind="stable")
    return {"common": weights[:, common], "distinct": weights[:, distinct[order]]}


def _until(flow: xr.Dataset, last: float = 1000.0) -> bool:
    """Whether the flow goes from the start to a multiple of t* (to rounding)."""
    moments = flow["multiple"].values
    return bool(moments[0] == 0 and moments[-1] >= last * (1 - 1e-9))


def _check_scan(flow: xr.Dataset) -> Outcome:
    z = flow["attention"].transpose("time", "support").values
    common = (flow["kind"] == "common").values
    steps = np.diff(z, axis=0)
    down, up = bool((steps[:, common] < 0).all()), bool((steps[:, ~common] > 0).all())
    mass = kinds(flow)["common"].sum(axis=1)
    text = f"common {'fall' if down else 'do not all fall'}, distinct {'rise' if up else 'do not all rise'}; "
    text += f"attention on common tokens {mass[0]:.2f} → {mass[-1]:.2f}"
    return Outcome(text, _until(flow) and down and up)


def _check_frequency(flow: xr.Dataset) -> Outcome:
    distinct = kinds(flow)["distinct"]
    ratios = distinct[:, 1:] / distinct[:, :-1]
    growth = ratios[1:] / ratios[0]
    extremes = distinct[:, -1] / distinct[:, 0]
    text = f"the most frequent over the rarest: {extremes[0]:.1f} → "
    text += f"{extremes[-1]:.1f}, at most {extremes.max():.1f}"
    return Outcome(text, _until(flow) and bool((growth > 1).all()))


def ratio_spread(growth: xr.Dataset, dynamics: str) -> float:
    """Largest over smallest increase (r(t) − r(0))/r(0) among the tokens, at the last time.

    The factors themselves would agree wherever attention has hardly moved.
    """
    last = growth["growth"].sel(dynamics=dynamics).isel(time=-1) - 1
    return float(last.max(skipna=False) / last.min(skipna=False))


def _check_equal_ratio(found: Growth) -> Outcome:
    lemma = found.equal.sel(dynamics="lemma4")
    gap = float(np.abs(lemma["growth"] / lemma["chi"] - 1).max(skipna=False))
    return Outcome(f"within {number(gap)}, while r grows {float(lemma['chi'][-1]):.0f}-fold", gap <= 1e-9)


def _check_equal_ratio_flow(found: Growth) -> Outcome:
    equal, fast = (ratio_spread(data, "gradient") for data in found)
    text = f"largest over smallest increase {equal:.2f} at equal rates, {fast:.3f} at η_Y = 100 η_Z"
    return Outcome(text, equal >= 1.5 and fast <= 1.2)


def speed_peak(flow: xr.Dataset) -> float:
    """When attention is fastest, in units of t*."""
    return float(flow["multiple"][int(flow["attention_speed"].values.argmax())])


def speed_left(flow: xr.Dataset, moment: float = 100.0) -> float:
    """Speed at a multiple of t* over the largest speed."""
    return float(at_multiple(flow, moment)["attention_speed"] / flow["attention_speed"].max(skipna=False))


def _check_snap_speed(flow: xr.Dataset) -> Outcome:
    peak, left = speed_peak(flow), speed_left(flow)
    steps = np.diff(flow["attention_speed"].values)
    top = int(flow["attention_speed"].values.argmax())
    single = bool((steps[:top] > 0).all() and (steps[top:] < 0).all())
    text = (
        f"fastest at {peak:.2f} t*; {100 * left:.2g} % of that at 100 t*{'' if single else '; several peaks'}"
    )
    return Outcome(text, _until(flow, 100.0) and single and 1 / 3 <= peak <= 3 and left <= 0.05)


def _check_snap_moved(flow: xr.Dataset) -> Outcome:
    before, after = moved(flow, 0.0, 10.0), moved(flow, 10.0, 100.0)
    text = f"{100 * before:.1f} % of the attention changes tokens until 10 t*, "
    text += f"{100 * after:.1f} % from there to 100 t*"
    return Outcome(text, _until(flow, 100.0) and before > 0.05 and after <= before / 4)


CLAIMS = (
    Claim(
        "scan.initial-loss",
        PAPER,
        "Figure 4, published log",
        "The vocabulary of Syn-Small: before training the loss is ln M",
        "3.526360 in the log, which is ln 34 (the paper says M = 30, ln 30 = 3.401)",
        _check_initial_loss,
        "within 5e-6, the digits of the log",
    ),
    Claim(
        "scan.counts",
        OWN,
        "Section 2",
        "A sequence enters the model through the counts of its tokens only",
        "the same function",
        _check_counts,
        "log-likelihood of the one-hot model and from counts within 1e-12",
    ),
    Claim(
        "scan.lemma1",
        PAPER,
        "Lemma 1",
        "Gradients of one sequence with respect to Y and Z; their row sums are 0",
        "equal",
        _check_lemma1,
        "every entry within 1e-12 of automatic differentiation of the one-hot model",
    ),
    Claim(
        "scan.lemma2-rate",
        PAPER,
        "Lemma 2",
        "Attention on a sequence tends to c_n with its length T",
        "error ∝ T^(−1/2)",
        _check_length_rate,
        "error × √(T−1) constant within 1 %, fitted power within 0.002 (4000 draws scatter by 0.4 %, 0.0003)",
    ),
    Claim(
        "scan.lemma2-bound",
        PAPER,
        "Lemma 2",
        "With probability 1−δ a token's frequency is within √(ln(2/δ)/(2(T−1))) of P(l|n)",
        "at most 100 % of the bound",
        _check_length_bound,
        "95 % quantile of the worst token below the bound at every length",
    ),
    Claim(
        "scan.lemma5",
        PAPER,
        "Lemma 5",
        "A decoder trained on one class has logits (M−1) h* ζ_n, h* from one recursion",
        "equal",
        _check_recursion,
        "M h* from training Y within 1e-11 at each step and rate of Figure 8; all other logits equal",
    ),
    Claim(
        "scan.lemma7-gap",
        PAPER,
        "Lemma 7",
        "The continuous h stays below h*, and within 2 η_Y/M of it",
        "0 to 2 η_Y/M",
        _check_gap,
        "at least 0 at all steps; each rate's largest gap 0.18–0.22 η_Y/M (ten times below the bound)",
    ),
    Claim(
        "scan.fig8",
        PAPER,
        "Figure 8",
        "M h* and M h after 80 steps, M = 50, η_Y = 0.1, 0.2, 0.5, 1, 2",
        "curves, no numbers; the formulas: 5.055 6.230 7.428 8.218 8.965; 5.038 6.208 7.401 8.189 8.931",
        _check_ends,
        "h* of the trained decoder and h in closed form, to the third decimal",
    ),
    Claim(
        "scan.frozen-loss",
        PAPER,
        "Lemmas 5–7",
        "Loss at frozen attention at t = 10^3, 10^4, 10^5 (M = 1000, K = 10, η_Y = 0.5); tends to K/(η_Y t)",
        "no numbers; the formula: 2.50e-2, 2.05e-3, 2.004e-4",
        _check_frozen_loss,
        "the integrated flow of Y (Theorem 1's update), any overlap, within 0.3 %; within 1 % of "
        "(M−1)/M K/(η_Y t) at 10^5",
    ),
    Claim(
        "scan.corollary1",
        PAPER,
        "Corollary 1",
        "Reaching ‖e_n − α_n‖ ≤ ε takes at most of the order of K/(ε η_Y) ln(M/ε) steps",
        "at most 1 times the order (no constant is given)",
        _check_precision,
        "error of the integrated flow at our exact time is ε within 1e-8 of it; exact time below the order",
    ),
    Claim(
        "scan.gamma",
        PAPER,
        "Theorem 1",
        "Under the decorrelated update the signal that reaches attention is γ [ι_n f_n − Σ β_nk f_k]",
        "equal",
        _check_signal,
        "γ and γβ read off the integrated Y at frozen attention, within 1e-8 (relative) at all times",
    ),
    Claim(
        "scan.gamma-peak",
        OWN,
        "Theorem 1",
        "The transition, which the paper puts at t_0 = 2 K ln M/η_Y, is a peak of γ at 0.4 t_0",
        "t_0 = 7.82, 9.21, 13.82, 18.42 K/η_Y at M = 50 … 10000; derived: t* = 3.51, 3.96, 5.64, 7.52",
        _check_peaks,
        "measured peaks and heights to the second decimal; peak/t_0 between 0.4 and 0.45",
    ),
    Claim(
        "scan.gamma-asymptotes",
        PAPER,
        "Theorem 1",
        "γ ≈ η_Y t/K early and K ln(M η_Y t/K)/(η_Y t) late",
        "1, up to the factor (M−1)²/M² (derived)",
        _check_asymptotes,
        "measured γ within 1 % of both (with the factor) at 0.01 K/η_Y and at 1000 t*",
    ),
    Claim(
        "scan.scan",
        PAPER,
        "Theorem 2, Figure 2",
        "The query turns away from common tokens and towards distinct ones",
        "common fall, distinct rise",
        _check_scan,
        "all logits, at all times up to 1000 t*, in the gradient flow of two classes behind one query",
    ),
    Claim(
        "scan.frequency-bias",
        PAPER,
        "Theorem 3, Figure 2",
        "Among distinct tokens the more frequent one gains on the rarer one",
        "the ratio of any two exceeds its start",
        _check_frequency,
        "for each pair of neighbours in frequency, at all times up to 1000 t*; equal rates",
    ),
    Claim(
        "scan.equal-ratio",
        PAPER,
        "Theorem 3",
        "r = f_l²/f_l'² − 1 grows by the same factor χ_l = e^(2 z_l) for every other distinct token l'",
        "equal, if attention follows Lemma 4",
        _check_equal_ratio,
        "growth within 1e-9 of χ_l (relative) for all tokens and times",
    ),
    Claim(
        "scan.equal-ratio-flow",
        OWN,
        "Theorem 3",
        "Under the full gradient flow r grows alike only for a decoder much faster than attention",
        "holds at η_Y = 100 η_Z, fails at equal rates",
        _check_equal_ratio_flow,
        "largest/smallest increase of r until 100 t*: at most 1.2 and at least 1.5",
    ),
    Claim(
        "scan.snap-speed",
        PAPER,
        "Theorem 4",
        "At equal rates attention accelerates until about the transition, then slows down",
        "a single rise and fall around t* (no number is given)",
        _check_snap_speed,
        "gradient flow: one peak, between t*/3 and 3 t*; at 100 t* at most 5 % of it",
    ),
    Claim(
        "scan.snap-moved",
        PAPER,
        "Theorem 4, Figure 2",
        "Attention freezes: after 10 t* little changes any more, at equal rates",
        "frozen (no number is given)",
        _check_snap_moved,
        "gradient flow: total variation of c_n from 10 to 100 t* at most a quarter of that from 0 to 10 t*, "
        "which exceeds 0.05",
    ),
)
