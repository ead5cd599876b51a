"""Claims of "Exactly solvable self-supervised learning": Figure 1A,B, section 4, additions.

Checks of Figure 1A,B take the experiments of `settings_linear.measure`. Tolerances: 3 % in time is how far
the published curves lie from their theory. 1.5 % for mode 1 (whose time of rise is not large against a step)
and 0.5 % for the others are what discretisation alone would leave; a start of 1e-7 adds more where two modes
nearly share an eigenvalue (the notebook prints it), so this is asked of a start of 1e-20. Formulas against
integration get what the integrator leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from learndyn.core.claims import Claim, Ledger, Outcome, Verdict
from learndyn.ssl_dynamics.stepwise import published
from learndyn.ssl_dynamics.stepwise.settings_linear import Cloud, Experiment, half_times, predicted_times

PAPER = "Stepwise SSL (arXiv:2303.15438)"
DERIVED = "derived"
MISSING = "other images, other eigenvalues: needs CIFAR-10 (`images = cifar10`, paper profile)"

Experiments = Sequence[Experiment]


def decide_published(ledger: Ledger, experiments: Experiments, same_setup: bool) -> Verdict:
    """Compare with the published critical times, or record that these data are not the published ones."""
    if not same_setup:
        return ledger.needs_paper_profile("stepwise.fig1-published", MISSING)
    return ledger.check("stepwise.fig1-published", experiments, at_paper_scale=True)


# --- equations ---


def _check_gradient(gap: float) -> Outcome:
    return Outcome(f"relative gap {gap:.1e}", gap < 1e-6)


def _check_symmetry(flows: xr.Dataset) -> Outcome:
    starts, end = flows["start"].values, flows["s"].isel(time=-1)
    supervised, ssl = (end.sel(kind=kind).values for kind in ("supervised", "self-supervised"))
    signs = np.allclose(ssl, np.sign(starts), atol=1e-3) and np.allclose(supervised, 1, atol=1e-3)
    reached = flows["time"].values[(np.abs(flows["s"].values) > 0.5).argmax(-1)]
    waits = dict(zip(np.abs(starts), reached[1], strict=True))
    ratio = waits[min(waits)] / waits[max(waits)]
    # ds/dt = s (1 − s²) takes s from s(0) to ½ in the time log(1/(√3 s(0))).
    wanted = np.log(np.sqrt(3) * min(waits)) / np.log(np.sqrt(3) * max(waits))
    holds = signs and abs(ratio / wanted - 1) < 0.1 and np.ptp(reached[0]) < 0.1
    holds = holds and flows.attrs["units_gap"] < 1e-12
    text = f"ends at ±1 by sign; 10⁴ times smaller start: wait × {ratio:.2f}; units agree to "
    return Outcome(text + f"{flows.attrs['units_gap']:.0e}", holds)


def _check_eq10(flow: xr.Dataset) -> Outcome:
    gap = float(flow.attrs["entry_gap"])
    return Outcome(f"largest entry gap {gap:.1e}", gap < 1e-8)


def _check_overflow(table: pd.DataFrame) -> Outcome:
    ours, printed = table["ours"].to_numpy(), table["printed"].to_numpy()
    early = table["exponent"].to_numpy() < 700
    agree = np.allclose(ours[early], printed[early], rtol=1e-9)
    fails = (~np.isclose(printed[~early], ours[~early], rtol=1e-3)).all() and (~early).any()
    holds = agree and fails and np.isfinite(ours).all() and early.any()
    return Outcome(
        f"printed form at t = 0.38: {printed[table['t'] == 0.38][0]:.3g}; ours {ours[-1]:.4f}", holds
    )


def _check_steps(shapes: pd.DataFrame) -> Outcome:
    times = np.abs(shapes["half"] / shapes["critical"] - 1).max()
    widths = np.abs(shapes["measured_width"] / shapes["width"] - 1).max()
    return Outcome(f"times within {times:.0e}, widths within {widths:.0e}", times < 1e-3 and widths < 1e-3)


# --- Figure 1 ---


def time_gaps(experiments: Experiments) -> np.ndarray:
    """|half time / discrete critical time − 1|, ``[run, mode]`` of all experiments together."""
    rows = [half_times(e.runs) / predicted_times(e.runs) - 1 for e in experiments]
    return np.abs(np.concatenate(rows))


def plateau_gaps(runs: xr.Dataset, ratio: float = 1.5) -> tuple[list[int], float]:
    """Plateaus between critical times at least ``ratio`` apart, and how far the loss is from whole numbers.

    The loss is read at the geometric mean of the two times (at τ₁/2 for the first plateau), where
    the number of modes still to be learned is expected; the worst gap over runs is returned.
    """
    levels, worst = [], 0.0
    for row, tau in enumerate(predicted_times(runs)):
        run, d = runs.isel(run=row), len(tau)
        edges = np.concatenate([[tau[0] / 4], tau])
        wide = [k for k in range(d) if edges[k + 1] > ratio * edges[k]]
        middles = np.sqrt(edges[:-1] * edges[1:])[wide]
        measured = np.interp(middles, run["effective_time"], run["loss"])
        worst = float(np.max([worst, *np.abs(measured - (d - np.array(wide)))]))
        levels = [d - k for k in wide] if row == 0 else [n for n in levels if d - n in wide]
    return levels, worst


def _check_staircase(experiments: Experiments) -> Outcome:
    runs = [e.runs for e in experiments]
    first = np.concatenate([r["loss"].values[:, 0] for r in runs])
    last = np.concatenate([r["loss"].values[:, -1] for r in runs])
    found = [plateau_gaps(r) for r in runs]
    levels = sorted(set.intersection(*(set(level) for level, _ in found)), reverse=True)
    gap = float(np.max([gap for _, gap in found]))
    d = runs[0].sizes["mode"]
    holds = np.abs(first - d).max() < 1e-3 and last.max() < 1e-6 and gap < 0.05
    holds = bool(holds) and len(levels) >= 3 and levels[:3] == [d, d - 1, d - 2]
    text = (
        f"from {first.mean():.4g} to {last.max():.0e}; plateaus of all runs at {', '.join(map(str, levels))}"
    )
    return Outcome(text, holds)


def _check_theory(experiments: Experiments) -> Outcome:
    gaps = time_gaps(experiments)
    return Outcome(f"within {100 * gaps.max():.2f} %, {len(gaps)} runs", gaps.max() <= 0.03)


def _check_limit(experiments: Experiments) -> Outcome:
    gaps = time_gaps(experiments)
    first, others = gaps[:, 0].max(), gaps[:, 1:].max()
    text = f"mode 1 within {100 * first:.2f} %, others within {100 * others:.3f} %"
    return Outcome(text, first <= 0.015 and others <= 0.005)


def _check_alignment(experiments: Experiments) -> Outcome:
    ends = np.concatenate([e.runs["alignment"].values[:, -1] for e in experiments])
    return Outcome(f"{ends.min():.4f} to {ends.max():.4f}", ends.min() > 0.99)


def _check_published(experiments: Experiments) -> Outcome:
    theirs = np.array(published.FIGURE1_CRITICAL_TIMES)
    ours = np.median(np.concatenate([half_times(e.runs) for e in experiments]), 0)
    factor = np.exp(np.abs(np.log(ours / theirs)).max())
    return Outcome(f"{ours[0]:.3g} to {ours[-1]:.3g}, all within a factor {factor:.2f}", factor <= 1.5)


def _check_clouds(found: Sequence[Cloud]) -> Outcome:
    ranks = [int((cloud.variances > 0.2).sum()) for cloud in found]
    clear = all(not ((c.variances > 0.1) & (c.variances < 0.5)).any() for c in found)
    return Outcome(f"{', '.join(map(str, ranks))} directions", clear and ranks == [0, 1, 2, 3])


# --- discrete descent, generic starts, where they end ---


def _check_stability(runs: xr.Dataset) -> Outcome:
    ends = dict(zip(runs["stability_fraction"].values, runs["loss"].values[:, -1], strict=True))
    below, above = ends[min(ends)], ends[max(ends)]
    holds = min(ends) < 1 < max(ends) and below < 1e-6 and not above < 1e-4
    return Outcome(f"loss {below:.0e} below, {above:.0e} above the bound", holds)


def _check_delay(found: xr.Dataset) -> Outcome:
    small = found.where(found["fraction"] <= 0.1, drop=True)
    gap = float(np.abs(small["measured"] / small["predicted"] - 1).max(skipna=False))
    delay = float(found["measured"].isel(mode=0)[-1]) - 1
    text = f"within {100 * gap:.2f} % up to a tenth of the bound; mode 1 is {100 * delay:.0f} % late at "
    return Outcome(text + f"{float(found['fraction'][-1]):g}", gap <= 0.005 and delay > 0.05)


def _check_starts(means: np.ndarray) -> Outcome:
    expected = np.arange(len(means), 0, -1)
    gap = float(np.abs(means / expected - 1).max())
    return Outcome(f"within {100 * gap:.1f} %", gap < 0.15)


def _check_law(result: tuple[xr.Dataset, np.ndarray]) -> Outcome:
    law, measured = result
    gap = np.abs(measured / law["exponent"].values - 1).max()
    return Outcome(f"slopes {', '.join(f'{slope:.3f}' for slope in measured)}", gap < 0.1)


def _check_degenerate(result: tuple[xr.Dataset, xr.Dataset]) -> Outcome:
    near, _ = result
    lost, kept = (run["overlap"].isel(step=-1).values for run in result)
    gaps = np.abs(half_times(near) / predicted_times(near) - 1)[:, :-1].max()
    share = float((lost < 0.9).mean())
    text = f"v_d lost in {100 * share:.0f} % of starts; times of the other modes within {100 * gaps:.1f} %"
    return Outcome(text, share >= 0.25 and kept.min() > 0.99 and gaps <= 0.015)


def _check_norm(found: xr.Dataset) -> Outcome:
    optimum = found.attrs["optimum"]
    excess = float(np.abs(found["trained"] / optimum - 1).max(skipna=False))
    best = float(found["competitor"].min(skipna=False))
    holds = excess < 1e-6 and best >= optimum and found.attrs["defect"] < 1e-9
    return Outcome(f"trained within {excess:.0e}; best of {found.sizes['rival']} others {best:.2f}", holds)


def _check_floor(runs: xr.Dataset) -> Outcome:
    ends, dimensions = runs["loss"].values[:, -1], runs["dimensions"].values
    wanted = np.maximum(dimensions - 3, 0)
    text = "; ".join(f"d = {d}: {end:.3g}" for d, end in zip(dimensions, ends, strict=True))
    return Outcome(text, np.abs(ends - wanted).max() < 1e-4 and dimensions.max() > 3)


def _check_towers(flow: xr.Dataset) -> Outcome:
    gap = float(np.abs(flow["integrated"] - flow["closed_form"]).max(skipna=False))
    drift = flow.attrs["norm_gap"]
    return Outcome(f"gap {gap:.0e}, norm difference drifts {drift:.0e}", gap < 1e-8 and drift < 1e-8)


def _claim(name: str, source: str, statement: str, expected: object, check: object, tolerance: str) -> Claim:
    return Claim(f"stepwise.{name}", PAPER, source, statement, expected, check, tolerance)


CLAIMS = (
    _claim(
        "gradient",
        "Gradient flow, slides",
        "∇L = 4 (W Γ Wᵀ − I) W Γ for the loss ‖C − I‖²_F",
        "exact",
        _check_gradient,
        "central differences of the loss agree to a relative 1e-6",
    ),
    _claim(
        "symmetry",
        "Slides",
        "Self-supervised singular values leave an unstable point at 0 for ±1, by the sign of their start; "
        "supervised ones go to their one goal at once",
        "double well, one minimum",
        _check_symmetry,
        "ends within 1e-3; the wait grows as the logarithm of the start (10 %); true and rescaled units "
        "agree to 1e-12",
    ),
    _claim(
        "eq10",
        "Prop. 4.1, eq. 10",
        "From an aligned start, W(t) = U S(t) Γ^(≤d) with s_j(t) of eq. 10",
        "exact",
        _check_eq10,
        "all entries of W of the integrated matrix flow within 1e-8",
    ),
    _claim(
        "overflow",
        "eq. 10, as printed; own addition",
        "The printed form fails in float64 inside the range of Figure 1; the form used here agrees with it "
        "where both work",
        "s(t) → γ^(−1/2)",
        _check_overflow,
        "agreement to 1e-9 where 8γt < 700; the printed form wrong where it is more",
    ),
    _claim(
        "critical-times",
        "After Prop. 4.1",
        "λ_j is ½ at τ_j = −log(γ_j s_j(0)²)/(8γ_j) and goes from 10 to 90 % in ln 9/(4γ_j)",
        "exact for small starts",
        _check_steps,
        "the integrated matrix flow agrees to a relative 1e-3 (starts of 1e-3)",
    ),
    _claim(
        "fig1-staircase",
        "Figure 1A,B",
        "The loss starts at 10 and falls to 0 in steps of 1, with plateaus wherever critical times are apart",
        "10, 9, 8, 6, 5, … 0",
        _check_staircase,
        "starts within 1e-3 of d, ends below 1e-6; loss within 0.05 of a whole number between critical times "
        "a factor 1.5 apart, these include the first three plateaus",
    ),
    _claim(
        "fig1-theory",
        "Figure 1A,B",
        "Experimental eigenvalues rise where the theory says",
        "within about 3 % in t",
        _check_theory,
        "half times within 3 % of the discrete critical times, every mode of every run",
    ),
    _claim(
        "fig1-window",
        "Own earlier runs, 2 × 2 seeds",
        "From a start of 1e-7, half times are within 0.5 % of the discrete critical times (mode 1: 1.5 %)",
        "mode 1: 0.991; others: 0.9986 to 1.0004",
        _check_limit,
        "1.5 % for mode 1, 0.5 % for all others, every run",
    ),
    _claim(
        "fig1-limit",
        "Result 4.6 and discrete critical times (derived)",
        "As the scale of the start goes to 0, half times tend to the critical times",
        "ratio 1",
        _check_limit,
        "from a start of 1e-20: 1.5 % for mode 1, 0.5 % for all others, every run",
    ),
    _claim(
        "fig1-alignment",
        "Figure 1A,B; Result 4.6",
        "The row space that is learned is that of the top d eigenvectors of Γ",
        1,
        _check_alignment,
        "alignment above 0.99 in every run",
    ),
    _claim(
        "fig1-published",
        "Figure 1A",
        "Critical times of 500 CIFAR-10 images",
        f"{published.FIGURE1_CRITICAL_TIMES[0]:g} to {published.FIGURE1_CRITICAL_TIMES[-1]:g}",
        _check_published,
        "each within a factor 1.5: which images, how standardised and which start is not known",
    ),
    _claim(
        "clouds",
        "Blog post, animated figure",
        "The cloud of embeddings is a point, then a line, a plane, a space, in step with the loss",
        "0, 1, 2, 3 directions",
        _check_clouds,
        "so many eigenvalues of the embeddings' covariance above 0.5, all others below 0.1",
    ),
    _claim(
        "stability",
        DERIVED,
        "Gradient descent settles if and only if the learning rate is below 1/(4γ_1)",
        "0.99 settles, 1.01 does not",
        _check_stability,
        "loss after 600 steps below 1e-6, and above 1e-4",
    ),
    _claim(
        "discrete-delay",
        DERIVED,
        "Gradient descent learns mode j later than the flow, by log(1 + 4γη) in the place of 4γη",
        "exact while λ_j is small",
        _check_delay,
        "0.5 % for learning rates up to a tenth of the bound; mode 1 more than 5 % late at the largest",
    ),
    _claim(
        "generic-starts",
        "Result 4.6",
        "The aligned start that matches W(0) = α N(0, 1) has E s_j(0)² = α² (d − j + 1)",
        "d − j + 1",
        _check_starts,
        "sample mean within 15 % (2,000 starts: 3 % is one standard error of the last mode)",
    ),
    _claim(
        "error-law",
        DERIVED,
        "The error of the aligned prediction falls as α^q, q = min_j (1 − γ_{j+1}/γ_j)",
        "0.5, 0.2, 0.2",
        _check_law,
        "slopes between the two smallest scales within 10 % of q",
    ),
    _claim(
        "degenerate",
        "own addition",
        "With γ_d/γ_{d+1} = 1.03, a start of 1e-8 keeps the times of the modes before d but can lose the "
        "vector v_d",
        "alignment 0.84 (earlier run, photos)",
        _check_degenerate,
        "overlap with v_d below 0.9 in a quarter of the starts, times of all other modes within 1.5 %; "
        "with a ratio of 2, overlap above 0.99 always",
    ),
    _claim(
        "minimum-norm",
        "Prop. 4.3",
        "Of all zero-loss solutions, a small start finds one of the least squared norm, Σ_{j≤d} 1/γ_j",
        "exact",
        _check_norm,
        "trained norm within a relative 1e-6; none of the random zero-loss solutions below",
    ),
    _claim(
        "loss-floor",
        DERIVED,
        "With p < d positive modes the loss ends at d − p",
        "0 and 3",
        _check_floor,
        "within 1e-4",
    ),
    _claim(
        "two-towers",
        "Extension to two modalities; formulas derived",
        "Two towers with loss ‖W Γ Vᵀ − I‖² follow eq. 10 at half speed from equal aligned starts",
        "exact",
        _check_towers,
        "eigenvalues of the integrated flow within 1e-8",
    ),
)
