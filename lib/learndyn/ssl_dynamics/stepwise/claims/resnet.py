"""Claims of the notebook "A ResNet takes the steps": the paper's ResNet figures, its NTK table, additions.

The published figures of networks have no numbers to compare with, and the values of a small network vary with
its seed. So checks ask for inequalities, chosen from earlier runs of ours with other random numbers: clean
plateaus for at least half of the d − 1 steps, alignments several times above chance. Logs are those of
`core.ssl_training.train`, and a check on a log wants its condition of every run in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.stats import spearmanr

from learndyn.core import spectra
from learndyn.core.claims import Claim, Ledger, Outcome, Verdict

PAPER = "Stepwise SSL (arXiv:2303.15438)"
TABLE = "Table of NTK-predicted embeddings"
OWN = "own addition"
NAMES = {"barlow_twins": "Barlow Twins", "vicreg": "VICReg", "simclr": "SimCLR"}
METHODS = tuple(NAMES)
TOO_NEAR = "eight eigenvalues that start within a decade of their end cannot show it; needs `task = stl10`"

Logs = Mapping[str, xr.Dataset]


class Starts(NamedTuple):
    """Logs by method, from small and from regular initialisation."""

    small: Logs
    regular: Logs


class Resemblance(NamedTuple):
    """Alignment of the embeddings of each two methods, and of random subspaces."""

    pairs: Mapping[tuple[str, str], float]
    random: float


# --- what is read off a log ---


def _eigenvalues(log: xr.Dataset, name: str) -> torch.Tensor:
    """One of the spectra, ``[run, step, mode]``."""
    return torch.tensor(log[f"{name}_eigenvalues"].values)


def _half_times(log: xr.Dataset, name: str = "covariance") -> np.ndarray:
    return spectra.half_times(torch.tensor(log["step"].values), _eigenvalues(log, name)).numpy()


def plateau_counts(log: xr.Dataset, name: str = "covariance") -> list[int]:
    """Clean plateaus of each run."""
    return spectra.clean_plateaus(_eigenvalues(log, name)).tolist()


def plateau_middles(log: xr.Dataset, run: int, name: str = "covariance") -> dict[int, int]:
    """Plateau number → place on the step axis of the middle of the longest stretch in which it is clean.

    Clean is as in `spectra.clean_plateaus`: eigenvalue k above half of its end, the next below a tenth.
    """
    values = _eigenvalues(log, name)[run].numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = values / values[-1]
    middles = {}
    for k in range(1, values.shape[1]):
        clean = (relative[:, k - 1] > 0.5) & (relative[:, k] < 0.1)
        edges = np.flatnonzero(np.diff(np.r_[0, clean.astype(int), 0]))
        stretches = edges.reshape(-1, 2)
        if len(stretches):
            begin, end = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
            middles[k] = int((begin + end - 1) // 2)
    return middles


def _participation(log: xr.Dataset, name: str) -> np.ndarray:
    return spectra.participation_ratio(_eigenvalues(log, name)).numpy()


def _wanted(log: xr.Dataset) -> int:
    """Half of the plateaus that there can be, rounded up."""
    return log.sizes["mode"] // 2


def _list(values: object) -> str:
    return ", ".join(map(str, values))


# --- ResNet figures ---


def _check_staircase(log: xr.Dataset) -> Outcome:
    found = []
    for run in range(log.sizes["run"]):
        loss = log["loss"].values[run]
        middles = plateau_middles(log, run, "correlation")
        dimensions = log.sizes["mode"]
        found.append(sum(abs(loss[place] - (dimensions - k)) < 0.5 for k, place in middles.items()))
    return Outcome(f"on {_list(found)} plateaus of {log.sizes['mode'] - 1}", min(found) >= _wanted(log))


def _check_end(log: xr.Dataset) -> Outcome:
    start, end = (float(log["loss"].isel(step=place).max()) for place in (0, -1))
    return Outcome(f"{start:.3f} → {end:.1e}", bool(log["loss"].isel(step=-1).notnull().all()) and end < 1e-4)


def _check_plateaus(log: xr.Dataset) -> Outcome:
    counts = plateau_counts(log)
    least = _participation(log, "covariance").min(-1)
    holds = min(counts) >= _wanted(log) and bool((least < 1.2).all())
    words = f"{_list(counts)} clean plateaus of {log.sizes['mode'] - 1}; least PR {least.max():.2f}"
    return Outcome(words, holds)


def participation_levels(log: xr.Dataset, run: int, plateaus: int = 3) -> list[float]:
    """PR of the embeddings in the middle of plateaus 1, 2, …; NaN where there is none."""
    ratios, middles = _participation(log, "covariance")[run], plateau_middles(log, run)
    return [float(ratios[middles[k]]) if k in middles else np.nan for k in range(1, plateaus + 1)]


def _check_levels(log: xr.Dataset) -> Outcome:
    levels = np.array([participation_levels(log, run) for run in range(log.sizes["run"])])
    off = np.abs(levels - [1, 2, 3])
    return Outcome("; ".join(_list(f"{v:.2f}" for v in row) for row in levels), bool((off <= 0.25).all()))


# --- regular initialisation ---


def visible_steps(log: xr.Dataset) -> list[int]:
    """For each run, how many of its eigenvalues wait and then rise, at half times a tenth apart.

    One that waits has gone less than a quarter of its way from start to end at half of its half time, which
    is after the start.
    """
    steps, counts = log["step"].values, []
    for halves, values in zip(_half_times(log), log["covariance_eigenvalues"].values, strict=True):
        last, count = 0.0, 0
        for mode in np.argsort(halves):
            half, curve = halves[mode], values[:, mode]
            if not half > 1.1 * last:
                continue
            place = int(np.searchsorted(steps, half / 2))
            if half > 0 and curve[place] - curve[0] < 0.25 * (curve[-1] - curve[0]):
                last, count = half, count + 1
        counts.append(count)
    return counts


def overlap(log: xr.Dataset) -> float:
    """Median half separation over all plateaus and runs: 0 for separate steps, ½ and more for common ones."""
    return float(np.nanmedian(spectra.half_separations(_eigenvalues(log, "covariance")).numpy()))


def _check_regular(starts: Starts) -> Outcome:
    seen = {method: min(visible_steps(log)) for method, log in starts.regular.items()}
    small = {method: overlap(log) for method, log in starts.small.items()}
    regular = {method: overlap(log) for method, log in starts.regular.items()}
    holds = set(seen) == set(METHODS) and min(seen.values()) >= 3
    holds &= all(regular[method] > 2 * small[method] for method in seen)
    text = "; ".join(f"{NAMES[m]}: {seen[m]} steps, overlap {small[m]:.3f} → {regular[m]:.2f}" for m in seen)
    return Outcome(text, holds)


def relative_eigenvalues(log: xr.Dataset, run: int = 0) -> np.ndarray:
    """Eigenvalues over their final value, ``[step, mode]``, from the first to the last half time (or all)."""
    values = log["covariance_eigenvalues"].values[run]
    halves, steps = _half_times(log)[run], log["step"].values
    halves = halves[np.isfinite(halves)]
    learned = len(halves) > 0
    during = (steps >= halves.min()) & (steps <= halves.max()) if learned else np.isfinite(steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (values / values[-1])[during]


def between(log: xr.Dataset) -> float:
    """Share of eigenvalues between a tenth and a half of their end, while some are learned and some not."""
    found = np.concatenate([relative_eigenvalues(log, run).ravel() for run in range(log.sizes["run"])])
    return float(((found > 0.1) & (found < 0.5)).mean())


def _check_humps(logs: Logs) -> Outcome:
    shares = {method: between(log) for method, log in logs.items()}
    both = [
        min(float((part > 0.5).mean()), float((part < 0.1).mean()))
        for part in (relative_eigenvalues(log) for log in logs.values())
    ]
    holds = set(shares) == set(METHODS) and all(s < b for s, b in zip(shares.values(), both, strict=True))
    return Outcome("; ".join(f"{NAMES[m]}: {100 * s:.0f} % between" for m, s in shares.items()), holds)


def decide_regular_humps(ledger: Ledger, logs: Logs, *, at_paper_scale: bool) -> Verdict:
    """Check the histograms from regular initialisation, or say that they cannot show two humps here."""
    found = [log["covariance_eigenvalues"].values for log in logs.values()]
    if min(np.nanmin(values[:, 0] / values[:, -1]) for values in found) > 0.1:
        return ledger.needs_paper_profile("stepwise.resnet-humps-regular", TOO_NEAR)
    return ledger.check("stepwise.resnet-humps-regular", logs, at_paper_scale=at_paper_scale)


# --- hidden representations ---


def speed_correlation(log: xr.Dataset, run: int) -> float:
    """Rank correlation of how fast the spectra of embedding and hidden layer change, over logged intervals.

    The speed is the sum over modes of the absolute change from one logged step to the next.
    """
    speeds = [
        np.abs(np.diff(log[f"{name}_eigenvalues"].values[run], axis=0)).sum(-1)
        for name in ("covariance", "representation")
    ]
    return float(spearmanr(*speeds).statistic)


def _check_hidden_steps(logs: Logs) -> Outcome:
    found = {
        method: float(np.min([speed_correlation(log, run) for run in range(log.sizes["run"])]))
        for method, log in logs.items()
    }
    holds = set(found) == set(METHODS) and all(value >= 0.5 for value in found.values())
    return Outcome("; ".join(f"{NAMES[method]}: {value:.2f}" for method, value in found.items()), holds)


def _check_background(logs: Logs) -> Outcome:
    texts, holds = [], set(logs) == set(METHODS)
    for method, log in logs.items():
        first, last = log.isel(step=0), log.isel(step=-1)
        hidden, embedded = (
            float((first[name].isel({dim: 0}) / last[name].isel({dim: 0})).mean())
            for name, dim in (
                ("representation_eigenvalues", "hidden_mode"),
                ("covariance_eigenvalues", "mode"),
            )
        )
        texts.append(f"{NAMES[method]}: {hidden:.2f} and {embedded:.0e}")
        holds &= hidden > 0.1 and embedded < 0.01
    return Outcome("; ".join(texts), holds)


# --- tangent kernels ---


def _least(values: Iterable[float]) -> float:
    """The least one; NaN if any is, which Python's min may drop."""
    return float(np.min(list(values)))


def _alignments(found: xr.Dataset, when: str = "end", means: str = "kept") -> dict[str, float]:
    """By method, the mean over runs."""
    values = found["alignment"].sel(when=when, means=means).mean("run", skipna=False)
    return {str(method): float(values.sel(loss=method)) for method in METHODS}


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values.values())


def _check_chance(found: xr.Dataset) -> Outcome:
    values, random = _alignments(found), float(found.attrs["random"])
    return Outcome(f"{_text(values)}; random {random:.3f}", _least(values.values()) > 5 * random)


def _check_order(found: xr.Dataset) -> Outcome:
    values = _alignments(found)
    return Outcome(_text(values), values["simclr"] < _least([values["barlow_twins"], values["vicreg"]]))


def _check_level(found: xr.Dataset) -> Outcome:
    values = _alignments(found)
    return Outcome(_text(values), _least([values["barlow_twins"], values["vicreg"]]) > 0.6)


def _check_aligning(found: xr.Dataset) -> Outcome:
    start, end = _alignments(found, "start"), _alignments(found, "end")
    gains = {method: end[method] - start[method] for method in METHODS}
    return Outcome(f"{_text(start)} → {_text(end)}", _least(gains.values()) > 0.05)


def _check_random(draws: np.ndarray) -> Outcome:
    mean, error = float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(len(draws)))
    return Outcome(f"{mean:.4f} ± {error:.4f}", abs(mean - 0.025) <= 5e-4)


def _check_resemblance(found: Resemblance) -> Outcome:
    text = ", ".join(f"{NAMES[a]} and {NAMES[b]} {value:.2f}" for (a, b), value in found.pairs.items())
    holds = len(found.pairs) == 3 and _least(found.pairs.values()) > 5 * found.random
    return Outcome(f"{text}; random {found.random:.3f}", holds)


def clock_ratios(found: xr.Dataset, log: xr.Dataset) -> np.ndarray:
    """Half times of the eigenvalues of C over those predicted at initialisation, ``[run, mode]``."""
    predicted = found["predicted_steps"].sel(loss="barlow_twins").values
    return _half_times(log, "correlation") / predicted


def _check_clock(results: tuple[xr.Dataset, xr.Dataset]) -> Outcome:
    ratios = clock_ratios(*results)
    holds = bool(((ratios > 0.5) & (ratios < 2)).all())
    return Outcome(f"measured/predicted {np.min(ratios):.2f} … {np.max(ratios):.2f}", holds)


# --- a wrong configuration ---


def _check_constant(log: xr.Dataset) -> Outcome:
    one, other = _half_first(log, "correlation"), _half_first(log, "covariance")
    return Outcome(f"C reaches ½ at step {one:.0f}, the covariance at step {other:.0f}", 2 * one < other)


def _half_first(log: xr.Dataset, name: str) -> float:
    """First logged step at which the largest eigenvalue (of the first run) exceeds ½; infinite if never."""
    above = np.flatnonzero(log[f"{name}_eigenvalues"].values[0, :, 0] > 0.5)
    return float(log["step"].values[above[0]]) if len(above) else np.inf


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "stepwise.resnet-bt-staircase",
        PAPER,
        "ResNet figures (Barlow Twins)",
        "The loss of a ResNet with Barlow Twins is a staircase: it falls by one with each new eigenvalue",
        "loss drops together with each eigenvalue",
        _check_staircase,
        "with k eigenvalues of C learned the loss is d − k ± 0.5, on at least half of the plateaus",
    ),
    Claim(
        "stepwise.resnet-bt-plateaus",
        PAPER,
        "ResNet figures (Barlow Twins)",
        "Barlow Twins: eigenvalues of the embedding spring from zero one (or a few) at a time",
        "clear steps",
        _check_plateaus,
        "clean plateaus for at least half of the steps, and PR below 1.2 on the way",
    ),
    Claim(
        "stepwise.resnet-bt-end",
        PAPER,
        OWN,
        "On fixed pairs the network reaches zero loss",
        "below 1e-4 (earlier runs)",
        _check_end,
        "loss below 1e-4 at the end",
    ),
    Claim(
        "stepwise.resnet-bt-levels",
        PAPER,
        "Blog post, animated figure",
        "The cloud of embeddings is a line, a sheet, then has three dimensions: PR passes 1, 2, 3",
        "1, 2, 3",
        _check_levels,
        "± 0.25 in the middle of plateaus 1, 2, 3",
    ),
    Claim(
        "stepwise.resnet-vicreg-plateaus",
        PAPER,
        "ResNet figures (VICReg)",
        "VICReg learns the same way, one eigenvalue at a time",
        "clear steps",
        _check_plateaus,
        "as for Barlow Twins",
    ),
    Claim(
        "stepwise.resnet-simclr-plateaus",
        PAPER,
        "ResNet figures (SimCLR)",
        "SimCLR learns the same way, one eigenvalue at a time",
        "clear steps",
        _check_plateaus,
        "as for Barlow Twins",
    ),
    Claim(
        "stepwise.resnet-hidden-steps",
        PAPER,
        "Hidden representations figure",
        "A hidden layer's spectrum steps when the embedding's does, with all three methods",
        "steps at the same times",
        _check_hidden_steps,
        "rank correlation of the two speeds over logged intervals at least 0.5",
    ),
    Claim(
        "stepwise.resnet-hidden-background",
        PAPER,
        "Hidden representations figure",
        "The hidden steps stand on a background of random features that is there from the start",
        "background of order one",
        _check_background,
        "largest eigenvalue at the start over its end: above 0.1 hidden, below 0.01 embedded",
    ),
    Claim(
        "stepwise.resnet-regular",
        PAPER,
        "Regular initialisation figures",
        "From regular initialisation steps overlap but remain visible, with all three methods",
        "steps overlap, still visible",
        _check_regular,
        "at least 3 eigenvalues wait (at half of the half time, under a quarter of the way), half times 10 % "
        "apart; median half separation more than twice that from small initialisation",
    ),
    Claim(
        "stepwise.resnet-humps",
        PAPER,
        "Histograms of log eigenvalues",
        "From small initialisation eigenvalues are either learned or not: two humps",
        "bimodal",
        _check_humps,
        "from first to last step, fewer eigenvalues within 0.1–0.5 of their end than above, and than below",
    ),
    Claim(
        "stepwise.resnet-humps-regular",
        PAPER,
        "Histograms of log eigenvalues",
        "The histograms have two humps from regular initialisation too",
        "bimodal",
        _check_humps,
        "as from small initialisation",
    ),
    Claim(
        "stepwise.ntk-chance",
        PAPER,
        TABLE,
        "Embeddings predicted from the trained network's own tangent kernel agree with the learned ones far "
        "above chance (BT, VICReg, SimCLR)",
        "0.615, 0.592, 0.517; random 0.025",
        _check_chance,
        "all above 5 × random",
    ),
    Claim(
        "stepwise.ntk-order",
        PAPER,
        TABLE,
        "SimCLR agrees least with its tangent kernel (BT, VICReg, SimCLR)",
        "0.615, 0.592, 0.517",
        _check_order,
        "SimCLR lowest",
    ),
    Claim(
        "stepwise.ntk-level",
        PAPER,
        OWN,
        "In small networks the predictions of Barlow Twins and VICReg get most of the subspace",
        "0.71–0.91, 0.79–0.91 (earlier runs)",
        _check_level,
        "both above 0.6",
    ),
    Claim(
        "stepwise.ntk-random",
        PAPER,
        TABLE,
        "Random subspaces: the published value is what 50 dimensions and 2000 views give",
        0.025,
        _check_random,
        "± 0.0005, half a unit of the last digit",
    ),
    Claim(
        "stepwise.ntk-aligning",
        PAPER,
        OWN,
        "The kernel at initialisation predicts less: it aligns during training (BT, VICReg, SimCLR)",
        "start below end (earlier runs)",
        _check_aligning,
        "alignment grows by more than 0.05 with each method",
    ),
    Claim(
        "stepwise.ntk-clock",
        PAPER,
        OWN,
        "The tangent kernel at initialisation predicts when each eigenvalue of Barlow Twins rises",
        "ratio 1 for a wide network",
        _check_clock,
        "every half time within a factor 2",
    ),
    Claim(
        "stepwise.resnet-resemblance",
        PAPER,
        "Blog post",
        "Embeddings of different methods resemble each other",
        "similar",
        _check_resemblance,
        "each two methods align more than 5 × random",
    ),
    Claim(
        "stepwise.resnet-constant",
        PAPER,
        OWN,
        "Without centring, the first thing learned is mostly a constant: C gains an eigenvalue before the "
        "embeddings spread",
        "first step is the mean",
        _check_constant,
        "largest eigenvalue of C above ½ in less than half the time of the covariance's",
    ),
)
