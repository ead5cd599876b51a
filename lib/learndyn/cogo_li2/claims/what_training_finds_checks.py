"""The checks behind the claims of the notebook "What training finds": what each asks, and what it saw.

Public functions here are quantities that the notebook shows, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from learndyn.cogo_li2 import analysis, archive, factoriser, norms, published
from learndyn.core.claims import Outcome

MODULI = (23, 71, 127)
DECAYS = (1e-5, 5e-5, 1e-4)
COLLAPSE = (127, 1e-4)
SMALL_TOLERANCE = {7: 0.35, 11: 0.45, 17: 0.6}
LAW_COUNTS = {23: 6.0, 71: 9.6, 127: 10.6}
PERCENTAGES = (
    "pct_not_order_4_or_6",
    "nonfactorable_order4_pct",
    "nonfactorable_order6_pct",
    "pct_nu_i_times_xi",
    "pct_nu_i_times_syn_alphabeta",
    "pct_nu_times_syn",
    "pct_others",
)
ERRORS = ("err_order4_x100", "err_order6_x100")


def panel_id(d: int, decay: float) -> str:
    """The claim of one panel of Figure 4."""
    return f"cogo.fig4-d{d}-wd{decay:.0e}".replace("e-0", "e-")


def counts_text(counts: Mapping[int, int]) -> str:
    """``25 × 4, 30 × 6``: how many frequencies have which order."""
    return ", ".join(f"{count} × {order}" for order, count in sorted(counts.items()) if count)


def total_variation(one: Mapping[int, int], other: Mapping[int, int]) -> float:
    """Half the sum of absolute differences of two histograms as fractions: 0 equal, 1 disjoint."""
    size, other_size = sum(one.values()), sum(other.values())
    return 0.5 * sum(abs(one.get(n, 0) / size - other.get(n, 0) / other_size) for n in {*one, *other})


# --- Small groups, trained on the spot ---


class SmallRuns(NamedTuple):
    """The end of the runs of one small group at one weight decay."""

    d: int
    weight_decay: float
    orders: torch.Tensor
    """[run, frequency]"""
    accuracy: np.ndarray
    squared_norm: np.ndarray

    @property
    def n6(self) -> float:
        """Mean number of order-6 frequencies."""
        return float((self.orders == 6).sum(-1).double().mean())


def small_ends(ensembles: Mapping[int, xr.Dataset]) -> dict[tuple[int, float], SmallRuns]:
    """The ends of the ensembles of `settings_what_training_finds.small_group`, by (d, weight decay)."""
    ends = {}
    for d, data in ensembles.items():
        last = data.isel(epoch=-1)
        for decay in np.unique(data["weight_decay"].values).tolist():
            runs = last.isel(run=np.flatnonzero(data["weight_decay"].values == decay))
            orders = torch.tensor(runs["order"].values).round().to(torch.int64)
            accuracy, norm = runs["train_accuracy"].values, runs["squared_norm"].values
            ends[d, decay] = SmallRuns(d, decay, orders, accuracy, norm.astype(float))
    return ends


def check_small_orders(ends: Iterable[SmallRuns]) -> Outcome:
    """Only orders 4 and 6, and both, over all runs given."""
    orders = torch.cat([end.orders.flatten() for end in ends])
    values, counts = orders.unique(return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return Outcome(counts_text(found), set(found) == {4, 6})


def reference_n6() -> pd.Series:
    """Mean number of order-6 frequencies in the stored runs of small groups, by d."""
    frame = published.order6_counts()
    n6 = frame["orders"].map(lambda orders: orders.count(6))
    return (n6 * frame["runs"]).groupby(frame["d"]).sum() / frame.groupby("d")["runs"].sum()


def check_small_mixes(n6: Mapping[int, float]) -> Outcome:
    """Mean numbers of order-6 frequencies by d, against the stored runs."""
    stored = reference_n6()
    close = [abs(n6[d] - stored[d]) <= allowed for d, allowed in SMALL_TOLERANCE.items()]
    return Outcome(", ".join(f"{n6[d]:.2f} at d = {d}" for d in SMALL_TOLERANCE), all(close))


def check_small_collapse(end: SmallRuns) -> Outcome:
    """Nothing is learned, though weight decay is below the limit of equilibria."""
    dead = (end.orders == 0).all(-1)
    text = f"{int(dead.sum())} of {len(dead)} runs dead, highest order {int(end.orders.max())}"
    exists = end.d == 11 and end.weight_decay < norms.critical_weight_decay(end.d, 6)
    return Outcome(f"{text}, best accuracy {float(end.accuracy.max()):.2f}", exists and bool(dead.all()))


# --- Figure 4 ---


def check_panel(d: int, decay: float, counts: Mapping[int, int]) -> Outcome:
    """One histogram of Figure 4 against the published counts."""
    theirs = published.order_counts(d, decay)
    if d == 23:
        holds = all(abs(counts.get(n, 0) - theirs.get(n, 0)) <= 1 for n in {*counts, *theirs})
        return Outcome(counts_text(counts), holds and sum(counts.values()) == sum(theirs.values()))
    gap = total_variation(counts, theirs)
    return Outcome(f"{counts_text(counts)} (total variation {gap:.3f})", gap <= 0.05)


def check_collapse(counts: Mapping[int, int]) -> Outcome:
    """Nearly all frequencies below order 4."""
    total = sum(counts.values())
    below, above = (sum(c for n, c in counts.items() if test(n)) for test in (_below_four, _above_four))
    holds = below / total >= 0.9 and above / total <= 0.01
    return Outcome(f"{counts_text(counts)}: {100 * below / total:.0f} % below order 4", holds)


def _below_four(order: int) -> bool:
    return order < 4


def _above_four(order: int) -> bool:
    return order > 4


def check_widths(counts: Mapping[tuple[int, int], Mapping[int, int]]) -> Outcome:
    """Histograms by (d, hidden size) against the companion of Figure 4."""
    gaps = [
        total_variation(counts[d, q], published.order_counts(d, 5e-5, q))
        for d in (23, 71)
        for q in (256, 1024, 2048)
    ]
    broken = {}
    for q in (256, 2048):
        found = counts[127, q]
        broken[q] = 1 - (found.get(4, 0) + found.get(6, 0)) / sum(found.values())
    text = f"total variation ≤ {max(gaps):.3f} at d = 23 and 71; d = 127: {100 * broken[256]:.0f} % and "
    return Outcome(
        f"{text}{100 * broken[2048]:.0f} % not 4 or 6 at q = 256 and 2048",
        max(gaps) <= 0.05 and min(broken.values()) > 0.3,
    )


# --- The weight-decay clock ---


def stored_epochs(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a clock table whose epochs are among those of ``weight_decay_clock_d23.csv``."""
    return table[table["epoch"].isin(published.weight_decay_clock()["epoch"])]


def _row(table: pd.DataFrame, decay: float, epoch: int) -> dict[int, int]:
    row = table[(np.isclose(table["wd"], decay, rtol=1e-6)) & (table["epoch"] == epoch)]
    if len(row) != 1:
        raise ValueError(f"the archive has no histogram for weight decay {decay:g} at epoch {epoch}")
    counts = row.filter(regex=r"^n_order").iloc[0]
    values = counts.index.str.extract(r"(\d+)$")[0].astype(int) + counts.index.str.contains("above")
    return dict(zip(values.tolist(), counts.astype(int).tolist(), strict=True))


def check_clock_counts(table: pd.DataFrame) -> Outcome:
    """Every stored histogram of the clock, from a table of `archive.clock_table`."""
    stored = published.weight_decay_clock()
    gaps = [
        total_variation(_row(table, decay, epoch), dict(zip(rows["order"], rows["count"], strict=True)))
        for (decay, epoch), rows in stored.groupby(["weight_decay", "epoch"])
    ]
    return Outcome(f"total variation ≤ {max(gaps):.3f} over {len(gaps)} histograms", max(gaps) <= 0.05)


def check_clock_collapse(table: pd.DataFrame) -> Outcome:
    """Weight decays agree better at equal wd × epochs than at equal epochs."""
    table = stored_epochs(table)
    equal_epochs, clock = (analysis.clock_distance(table, exponent) for exponent in (0.0, 1.0))
    return Outcome(f"{clock:.2f}, against {equal_epochs:.2f} at equal epochs", clock + 0.18 < equal_epochs)


def check_clock_exponent(table: pd.DataFrame) -> Outcome:
    """The power p in wd^−p is 1 at every level of the mean order."""
    powers = analysis.clock_exponent(stored_epochs(table))
    text = f"powers {powers.min():.2f} … {powers.max():.2f} over {len(powers)} levels of the mean order"
    return Outcome(text, len(powers) > 0 and bool((abs(powers - 1) <= 0.1).all()))


def check_clock_early(table: pd.DataFrame) -> Outcome:
    """The slowest weight decay at its end, against a faster one early and at its end."""
    slow = _row(table, 1e-5, archive.LAST)
    same_clock = total_variation(slow, _row(table, 5e-5, 2000))
    same_epoch = total_variation(slow, _row(table, 5e-5, archive.LAST))
    text = f"{same_clock:.2f} from 5e-5 at epoch 2000, {same_epoch:.2f} from 5e-5 at epoch {archive.LAST}"
    return Outcome(text, 2 * same_clock <= same_epoch)


# --- Table 2 ---


def check_shares(row: pd.DataFrame) -> Outcome:
    """All percentages of the d = 23 row of Table 2, means and standard errors."""
    theirs = published.TABLE2[23]
    gaps = [
        abs(float(row.loc[name, kind]) - getattr(theirs[name], kind))
        for name in PERCENTAGES
        for kind in ("mean", "stderr")
    ]
    return Outcome(f"all 14 numbers within {np.max(gaps):.3f}", np.max(gaps) <= 0.01)


def check_errors(row: pd.DataFrame) -> Outcome:
    """Both error columns of the d = 23 row of Table 2."""
    four, six = (float(row.loc[name, "mean"]) for name in ERRORS)
    theirs = [published.TABLE2[23][name].mean for name in ERRORS]
    holds = all(abs(ours - other) <= 0.1 for ours, other in zip((four, six), theirs, strict=True))
    return Outcome(f"{four:.2f} and {six:.2f}", holds)


def misses(row: pd.DataFrame, d: int) -> dict[str, float]:
    """The cells of a row of Table 2 outside the tolerance, with our value."""
    one_frequency = 100 / (5 * (d - 1) / 2)
    found = {}
    for name in (*PERCENTAGES, *ERRORS):
        theirs, ours = published.TABLE2[d][name], row.loc[name]
        allowed = max(2 * (theirs.stderr + float(ours["stderr"])), 0.05 if name in ERRORS else one_frequency)
        # `not ≤`, so that a NaN is a miss
        if not abs(float(ours["mean"]) - theirs.mean) <= allowed:
            found[name] = float(ours["mean"])
    return found


def check_row(d: int, row: pd.DataFrame) -> Outcome:
    """A whole row of Table 2 within its tolerance (:func:`misses`)."""
    found = misses(row, d)
    shares = " / ".join(f"{float(row.loc[name, 'mean']):.2f}" for name in PERCENTAGES[3:])
    text = f"shares {shares}; outside: {', '.join(found) or 'none'}"
    return Outcome(text, not found)


def product_share(groups: pd.DataFrame) -> float:
    """Per cent of all frequencies that are one of the three products, non-factorable ones counted as not."""
    return float(100 * groups["family"].isin(factoriser.FAMILIES[:3]).mean())


def check_products(groups: pd.DataFrame) -> Outcome:
    """About 95 per cent of the frequencies are predicted products."""
    share = product_share(groups)
    return Outcome(f"{share:.1f} % of {len(groups)}", len(groups) > 0 and 92 <= share <= 98)


# --- Figure 5 ---


def angles(groups: pd.DataFrame, name: str) -> np.ndarray:
    """The arguments of one free parameter over the groups that have it."""
    values = groups[name].to_numpy()
    return np.angle(values[np.isfinite(values)])


def near_peaks(arg_xi: np.ndarray, width: float = np.pi / 12) -> float:
    """Share of arg ξ within ``width`` of ±π/4 or ±3π/4; a third for uniform angles at π/12."""
    return float((np.abs(np.mod(arg_xi, np.pi / 2) - np.pi / 4) <= width).mean())


def check_xi(groups: pd.DataFrame) -> Outcome:
    """arg ξ crowds at ±π/4 and ±3π/4."""
    found = angles(groups, "xi")
    share = near_peaks(found)
    quarters = {int(q) for q in np.floor(found / (np.pi / 2)) if np.isfinite(q)}
    text = f"{100 * share:.0f} % of {len(found)} within π/12, in {len(quarters)} of 4 quadrants"
    return Outcome(text, share >= 0.5 and len(quarters) == 4)


def symmetric_groups(groups: pd.DataFrame) -> tuple[int, int]:
    """Of the groups with a ξ: how many have arg ξ mod π/2 within 5 % of π/4, and how many there are."""
    folded = factoriser.canonical_parameters(groups)["arg_xi"].dropna()
    return int((np.abs(folded / (np.pi / 4) - 1) <= 0.05).sum()), len(folded)


def check_xi_folded(groups: pd.DataFrame) -> Outcome:
    """How many order-4 groups are nearly symmetric."""
    near, total = symmetric_groups(groups)
    return Outcome(f"{near} of {total}", abs(near - 13) <= 1 and total == 25)


def check_nu(groups: pd.DataFrame) -> Outcome:
    """arg ν stays in its two bands."""
    found = np.abs(angles(groups, "nu"))
    low, high = float(found.min()), float(found.max())
    text = f"|arg ν| from {low / np.pi:.3f}π to {high / np.pi:.3f}π ({len(found)} groups)"
    return Outcome(text, low >= np.pi / 3 - 0.1 and high <= 2 * np.pi / 3 + 0.1)


def check_alphabeta(groups: pd.DataFrame) -> Outcome:
    """arg α and arg β are broad and reach zero."""
    largest, near_zero = [], []
    for name in ("alpha", "beta"):
        found = angles(groups, name)
        counts = np.histogram(found, bins=10, range=(-np.pi, np.pi))[0]
        largest.append(counts.max() / len(found))
        near_zero.append((np.abs(found) <= np.pi / 5).mean())
    text = f"fullest bin {100 * max(largest):.0f} %, within π/5 of zero {100 * min(near_zero):.0f} %"
    return Outcome(text, max(largest) <= 0.5 and min(near_zero) > 0)


# --- The min-norm law ---


def mean_n6(mixes: pd.DataFrame, decay: float) -> pd.Series:
    """Mean number of order-6 frequencies by d, at one weight decay, over the runs that settled."""
    rows = mixes[np.isclose(mixes["weight_decay"], decay, rtol=1e-6)]
    return rows.groupby("d")["n6"].mean()


def growth(n6: pd.Series) -> float:
    """The power p in n6 ∝ K^p over several d."""
    frequencies = (n6.index.to_numpy() - 1) / 2
    return float(np.polyfit(np.log(frequencies), np.log(n6.to_numpy()), 1)[0])


def check_share(n6: pd.Series) -> Outcome:
    """The share of order 6 falls with d, and n6 grows more slowly than K."""
    share = n6 / ((n6.index - 1) / 2)
    power = growth(n6)
    text = ", ".join(f"{100 * value:.0f} % at d = {d}" for d, value in share.items())
    return Outcome(f"{text}; n6 ∝ K^{power:.2f}", bool((share.diff().dropna() < 0).all()) and power < 0.75)


def check_law_counts(n6: pd.Series) -> Outcome:
    """Mean n6 by d against 6.0, 9.6, 10.6, with the ratio to the optimum."""
    ratios = {d: n6[d] / norms.best_order6((d - 1) // 2) for d in LAW_COUNTS}
    text = ", ".join(f"{n6[d]:.1f} ({ratio:.2f} × optimum) at d = {d}" for d, ratio in ratios.items())
    return Outcome(text, all(abs(n6[d] - value) <= 0.5 for d, value in LAW_COUNTS.items()))


def check_law_decay(n6: tuple[float, float]) -> Outcome:
    """Mean n6 at a weak and at a strong weight decay, d = 17."""
    weak, strong = n6
    holds = abs(weak - 4.5) <= 0.6 and abs(strong - 3.75) <= 0.6 and strong < weak
    return Outcome(f"{weak:.2f} and {strong:.2f}", holds)


def check_law_norm(mixes: pd.DataFrame) -> Outcome:
    """Norms of the archived d = 23 runs against the law."""
    rows = mixes[mixes["d"] == 23]
    gap = float((rows["norm"] / rows["law"] - 1).abs().max())
    here = rows[(rows["n4"] == 5) & (rows["n6"] == 6)]["norm"].mean()
    text = f"{here:.1f} (5 × 4, 6 × 6); all {len(rows)} runs within {100 * gap:.2f} %"
    return Outcome(text, len(rows) > 0 and gap <= 0.01)


def norms_beside_stored(mixes: pd.DataFrame) -> pd.DataFrame:
    """Mean norms here and in ``order6_counts_small_d.csv``, for the mixes that both have."""
    stored = published.order6_counts()
    rows = []
    for row in stored.itertuples():
        same = mixes[
            (mixes["d"] == row.d)
            & np.isclose(mixes["weight_decay"], row.weight_decay, rtol=1e-6)
            & (mixes["n6"] == row.orders.count(6))
        ]
        if len(same):
            rows.append({"d": row.d, "n6": row.orders.count(6), "ours": same["norm"].mean(),
                         "stored": row.squared_norm, "law": same["law"].iloc[0]})  # fmt: skip
    return pd.DataFrame(rows)


def check_small_norms(mixes: pd.DataFrame) -> Outcome:
    """Norms of the small groups against stored runs and the law."""
    table = norms_beside_stored(mixes)
    stored = float((table["ours"] / table["stored"] - 1).abs().max())
    law = float((table["ours"] / table["law"] - 1).abs().max())
    text = f"{len(table)} mixes within {100 * stored:.2f} % of the stored norms, {100 * law:.1f} % of the law"
    return Outcome(text, len(table) >= 3 and stored <= 0.005 and law <= 0.015)


# --- From memorisation ---


def _started(runs: xr.Dataset, start: str) -> xr.Dataset:
    return runs.isel(run=np.flatnonzero(runs["start"].values == start))


def check_memo_accuracy(runs: xr.Dataset) -> Outcome:
    """Accuracy stays 1 and the loss small, with weight decay."""
    with_decay = runs.isel(run=np.flatnonzero(runs["weight_decay"].values > 0))
    least = float(with_decay["train_accuracy"].min())
    late = float(with_decay["train_loss"].sel(epoch=slice(100, None)).max())
    text = f"least accuracy {least:.4f}, largest loss after epoch 100 {late:.1e}"
    return Outcome(text, least > 1 - 1e-5 and late <= 5e-3)


def check_memo_norm(runs: xr.Dataset) -> Outcome:
    """Squared norms at the start and, by the mix of orders, at the end."""
    noisy = _started(runs, "noise")
    first, last = (noisy["squared_norm"].isel(epoch=i).values.astype(float) for i in (0, -1))
    orders = noisy["order"].isel(epoch=-1).values
    goals = {(4, 6, 6): 38.55, (6, 6, 6): 39.21}
    ends = [goals.get(tuple(sorted(int(n) for n in row)), np.nan) for row in orders]
    mixes = " or ".join(sorted({" ".join(str(int(n)) for n in sorted(row)) for row in orders}))
    holds = np.all(np.abs(first - 79.4) <= 1) and np.all(np.abs(last / np.array(ends) - 1) <= 0.005)
    return Outcome(f"{first.mean():.1f} → {last.min():.2f} … {last.max():.2f}, orders {mixes}", holds)


def check_memo_switch(runs: xr.Dataset) -> Outcome:
    """Nodes die between epochs 300 and 1000."""
    noisy = _started(runs, "noise")
    before, after = (noisy["order"].sel(epoch=epoch).mean("frequency").values for epoch in (300, 1000))
    text = f"mean orders {before.min():.0f} at epoch 300, {after.max():.1f} at 1000"
    return Outcome(text, before.min() >= 45 and after.max() <= 8)


def check_memo_decay(runs: xr.Dataset) -> Outcome:
    """Without weight decay every node is still there."""
    without = _started(runs, "no weight decay")
    orders, norm = without["order"].isel(epoch=-1), without["squared_norm"].isel(epoch=-1)
    text = f"orders {int(orders.min())} … {int(orders.max())}, squared norm {float(norm.min()):.1f}"
    return Outcome(text, int(orders.min()) == 49 and float(norm.min()) >= 78)
