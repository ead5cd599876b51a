"""Drawings of the notebook "What training finds": archived panels, tables and runs in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from learndyn.cogo_li2 import archive, factoriser, norms, published
from learndyn.cogo_li2.claims.what_training_finds_checks import SmallRuns, angles, symmetric_groups
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, label_lines, shades

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
ORDER_COLORS = {4: INDIGO, 6: RUST}
_PI_TICKS = (np.array([-1, -0.5, 0, 0.5, 1]) * np.pi, ["−π", "−π/2", "0", "π/2", "π"])
_POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decay_text(decay: float) -> str:
    """1e-5 → 10⁻⁵, 5e-5 → 5·10⁻⁵, 0.02 → 0.02."""
    if decay >= 0.01:
        return f"{decay:g}"
    mantissa, power = f"{decay:.0e}".split("e")
    return ("" if mantissa == "1" else f"{mantissa}·") + "10" + str(int(power)).translate(_POWERS)


def _bars(ax: Axes, counts: Mapping[int, float]) -> None:
    for order, count in counts.items():
        ax.bar(order, count, width=0.8, color=ORDER_COLORS.get(order, PERIWINKLE))


def _count(ax: Axes, counts: Mapping[int, int], size: float = 9.5) -> None:
    for order, count in counts.items():
        if count:
            ax.annotate(str(count), (order, count), (0, 2), textcoords="offset points", ha="center",
                        va="bottom", fontsize=size)  # fmt: skip


# --- Orders ---


def archived_histogram(counts: Mapping[int, int], d: int, decay: float, runs: int) -> Figure:
    """Order counts of one archived panel, pooled over its runs."""
    fig, ax = plt.subplots()
    _bars(ax, counts)
    _count(ax, counts, 11)
    only = " and ".join(str(n) for n in sorted(counts))
    ax.set_title(f"$d={d}$: orders {only}, nothing else")
    ax.set(xlabel="order: hidden nodes per frequency", ylabel=f"frequencies ({runs} runs)", xlim=(-0.6, 10.6))
    ax.set_ylim(0, 1.16 * max(counts.values()))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.annotate("archived runs", (0.99, 0.97), xycoords="axes fraction", ha="right", va="top", color=MUTED)
    return fig


def small_histograms(ends: Mapping[tuple[int, float], SmallRuns], collapse: float) -> Figure:
    """Rows d, columns weight decay: share of the frequencies at each order; the last column fails."""
    rows, columns = ([*dict.fromkeys(key[i] for key in sorted(ends))] for i in (0, 1))
    columns = sorted(columns)
    fig, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(7.0, 1.35 * len(rows) + 1.1),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, d in zip(axes, rows, strict=True):
        for ax, decay in zip(row, columns, strict=True):
            values, counts = np.unique(ends[d, decay].orders.numpy(), return_counts=True)
            share = dict(zip(values.tolist(), (100 * counts / counts.sum()).tolist(), strict=True))
            _bars(ax, share)
            for order, value in share.items():
                ax.annotate(f"{value:.0f}", (order, value), (0, 2), textcoords="offset points", ha="center",
                            va="bottom", fontsize=9)  # fmt: skip
        row[0].set_ylabel(f"$d={d}$")
    for ax, decay in zip(axes[0], columns, strict=True):
        failing = decay == collapse
        ax.set_title(f"wd {decay_text(decay)}", color=RUST if failing else INK)
    axes[0, 0].set(ylim=(0, 122), xlim=(-0.7, 8.7), xticks=[0, 2, 4, 6, 8], yticks=[0, 50, 100])
    share = {d: [(ends[d, wd].orders == 6).double().mean() for wd in columns if wd != collapse] for d in rows}
    ends6 = [f"{100 * float(np.mean(share[d])):.0f} % at $d={d}$" for d in (rows[0], rows[-1])]
    fig.suptitle(f"Of order 6: {', '.join(dict.fromkeys(ends6))}", x=0.02, ha="left")
    fig.supxlabel("order", fontsize=11.5)
    fig.supylabel("frequencies (per cent)", fontsize=11.5)
    return fig


def figure4(found: archive.Panels, moduli: Sequence[int], decays: Sequence[float]) -> Figure:
    """Figure 4: rows d, columns weight decay; bars are archived counts, circles the published ones."""
    fig, axes = plt.subplots(len(moduli), len(decays), figsize=(7.0, 2.0 * len(moduli)), sharex=True)
    for row, d in zip(axes, moduli, strict=True):
        for ax, decay in zip(row, decays, strict=True):
            theirs = published.order_counts(d, decay)
            panel = found.get(archive.Key(d, 512, decay))
            ours = {} if panel is None else archive.pooled_counts(panel)
            if panel is None:
                ax.set_title("not yet archived", loc="right", fontsize=9.5, color=MUTED, weight="normal")
            _bars(ax, ours)
            ax.plot(list(theirs), list(theirs.values()), "o", ms=6, mfc="none", mec=INK, mew=1.1, zorder=4)
            for order in {*ours, *theirs}:
                height = max(ours.get(order, 0), theirs.get(order, 0))
                label = str(ours.get(order, "")) if ours else ""
                ax.annotate(
                    label, (order, height), (0, 5), textcoords="offset points", ha="center", fontsize=9
                )
            ax.set(xlim=(-0.8, 8.8), ylim=(0, 1.28 * max([*theirs.values(), *ours.values()])))
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            if d == moduli[0]:
                ax.set_title(f"wd {decay_text(decay)}")
            if decay == decays[0]:
                ax.set_ylabel(f"$d={d}$")
            ax.set_xticks(range(0, 9, 2))
    fig.supxlabel("order of the solution", fontsize=11.5)
    fig.supylabel("frequencies of five runs", fontsize=11.5)
    settled = sum(set(archive.pooled_counts(panel)) <= {4, 6} for panel in found.values())
    fig.suptitle(f"Nothing but 4 and 6 in {settled} of {len(found)} panels", x=0.02, ha="left")
    return fig


# --- The clock ---


def mean_orders(found: archive.Panels, d: int, hidden_size: int = 512) -> dict[float, pd.Series]:
    """Mean order over frequencies and runs against the epoch, for each weight decay of one modulus."""
    return {
        key.weight_decay: panel["order"].mean(("run", "frequency")).to_series()
        for key, panel in found.items()
        if (key.modulus, key.hidden_size) == (d, hidden_size)
    }


def clock(curves: Mapping[float, pd.Series], powers: pd.Series) -> Figure:
    """Mean order against the epoch (left), and against weight decay × epoch (right)."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.7), sharey=True)
    for (decay, curve), color, style in zip(
        curves.items(), (PERIWINKLE, INDIGO, RUST), ("-", "--", "-"), strict=False
    ):
        curve = curve[curve.index >= 100]
        for ax, factor in zip(axes, (1.0, decay), strict=True):
            ax.plot(curve.index * factor, curve, color=color, ls=style, label=f"wd {decay_text(decay)}")
    axes[0].set(xscale="log", yscale="log", xlabel="epoch", ylabel="mean order")
    axes[1].set(xscale="log", xlabel="weight decay × epoch")
    ticks = [5, 6, 8, 12, 20, 40]
    axes[0].set_yticks(ticks, [str(t) for t in ticks])
    axes[0].minorticks_off()
    axes[0].set_ylim(4.8, 60)
    axes[0].set_title("Three curves …")
    span = f"{powers.min():.2f}–{powers.max():.2f}" if len(powers) else "undefined"
    axes[1].set_title(f"… one, nearly: power {span}")
    label_lines(axes[1])
    return fig


def clock_frame(found: archive.Panels, d: int, decay: float, epoch: int) -> Figure:
    """One frame of the explorer: the histogram at an epoch, and where its runs stand on f(n6)."""
    panel = found[archive.Key(d, 512, decay)]
    orders = archive.orders_at(panel, epoch)
    count = orders.shape[1]
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.5))
    values, counts = np.unique(orders.clamp(max=13).numpy(), return_counts=True)
    shown = dict(zip(values.tolist(), counts.tolist(), strict=True))
    _bars(left, shown)
    _count(left, shown, 9)
    left.set(xlim=(-0.7, 13.9), ylim=(0, 1.12 * orders.numel()), xlabel="order")
    left.set_ylabel(f"frequencies ({len(orders)} runs)")
    left.set_xticks([0, 2, 4, 6, 8, 10, 13], ["0", "2", "4", "6", "8", "10", ">12"])
    left.set_title(f"wd × epoch = {decay * epoch:.3g}")
    n6 = np.arange(1, count + 1)
    law = norms.min_norm_law(n6.astype(float), count)
    right.plot(n6, law, color=MUTED, marker=".", zorder=1)
    best = int(norms.best_order6(count, integer=True))
    right.plot(best, law[best - 1], "D", color=GREEN, ms=7)
    right.annotate(
        "least", (best, law[best - 1]), (0, -14), textcoords="offset points", ha="center", color=PINE
    )
    sixes = (orders == 6).sum(1)
    settled = ((orders == 4) | (orders == 6)).all(1)
    for number in sixes.unique().tolist():
        if number >= 1:
            here = sixes == number
            face = RUST if bool(settled[here].any()) else "white"
            right.plot(
                number, law[number - 1], "o", ms=5 + 2.5 * int(here.sum()), mfc=face, mec=RUST, alpha=0.85
            )
    right.set(xlabel="number of order-6 frequencies $n_6$", ylabel="$f(n_6)$", xlim=(0.4, count + 0.6))
    right.set_ylim(law.min() - 0.12 * np.ptp(law), law.max() + 0.08 * np.ptp(law))
    right.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    right.set_title(f"{int(settled.sum())} of {len(orders)} runs settled")
    return fig


# --- Table 2 ---

_HEADS = {
    "pct_not_order_4_or_6": "not 4 or 6, %",
    "nonfactorable_order4_pct": "no factors, 4, %",
    "nonfactorable_order6_pct": "no factors, 6, %",
    "err_order4_x100": "error 4 × 100",
    "err_order6_x100": "error 6 × 100",
    "pct_nu_i_times_xi": "z<sub>ν=i</sub> ∗ z<sub>ξ</sub>, %",
    "pct_nu_i_times_syn_alphabeta": "z<sub>ν=i</sub> ∗ z<sub>syn,αβ</sub>, %",
    "pct_nu_times_syn": "z<sub>ν</sub> ∗ z<sub>syn</sub>, %",
    "pct_others": "others, %",
}
_HEAD = "text-align:left;vertical-align:bottom;font-weight:600;padding:0.3em 0.5em 0.3em 0"


def table2_html(rows: Mapping[int, pd.DataFrame], moduli: Sequence[int]) -> str:
    """Table 2 as HTML: for each d the published row above ours, mean ± standard error."""
    head = "".join(f'<th scope="col" style="{_HEAD}">{title}</th>' for title in ("d", *_HEADS.values()))
    body = []
    for d in moduli:
        theirs = published.TABLE2[d]
        cells = [f"{theirs[name].mean:.2f}<br>±{theirs[name].stderr:.2f}" for name in _HEADS]
        body.append(_table_row(f"{d},<br>published", cells))
        if d in rows:
            row = rows[d]
            ours = [f"{row.loc[name, 'mean']:.2f}<br>±{row.loc[name, 'stderr']:.2f}" for name in _HEADS]
        else:
            ours = ["not yet<br>archived", *[""] * (len(_HEADS) - 1)]
        body.append(_table_row(f"{d},<br>ours", ours, bold=True))
    return (
        '<div class="claims-scroll" style="overflow-x:auto" role="region" tabindex="0" aria-label="Table 2">'
        '<table style="border-collapse:collapse;font-size:0.85em"><caption style="text-align:left">'
        "Table 2, published and ours (archived runs), mean ± standard error over five seeds</caption>"
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _table_row(name: str, cells: Sequence[str], bold: bool = False) -> str:
    style = "white-space:nowrap;padding:0.25em 0.5em 0.25em 0"
    rule = "border-bottom:1px solid currentColor" if bold else ""
    weight = "font-weight:600" if bold else "font-weight:400"
    data = "".join(f'<td style="{style};{weight}">{cell}</td>' for cell in cells)
    head = f'<th scope="row" style="{style};{weight};text-align:left">{name}</th>'
    return f'<tr style="{rule}">{head}{data}</tr>'


# --- Figure 5 ---


def figure5(groups: pd.DataFrame) -> Figure:
    """Figure 5 as published: histograms of arg ξ, arg ν (50 bins), arg α, arg β (10 bins)."""
    fig, axes = plt.subplots(2, 2, figsize=(7.0, 4.8))
    panels = [
        ("xi", 50, "ξ", INDIGO),
        ("nu", 50, "ν", RUST),
        ("alpha", 10, "α", PINE),
        ("beta", 10, "β", PINE),
    ]
    for ax, (name, bins, letter, color) in zip(axes.flat, panels, strict=True):
        found = angles(groups, name)
        ax.hist(found, bins=bins, range=(-np.pi, np.pi), color=color)
        ax.set(xlabel=f"arg {letter}", xlim=(-np.pi, np.pi))
        ax.set_xticks(*_PI_TICKS)
        ax.set_title(f"{letter}: {len(found)} groups")
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        for guide in {"xi": (-3, -1, 1, 3), "nu": ()}.get(name, ()):
            ax.axvline(guide * np.pi / 4, color=MUTED, lw=1, ls=":", zorder=3)
    for low in (-2 / 3, 1 / 3):
        axes[0, 1].axvspan(low * np.pi, (low + 1 / 3) * np.pi, color=AMBER, alpha=0.25, lw=0, zorder=0)
    if "beta_published" in groups:
        axes[1, 1].hist(angles(groups, "beta_published"), bins=10, range=(-np.pi, np.pi), histtype="step",
                        color=RUST, lw=1.6)  # fmt: skip
        axes[1, 1].annotate("as published", (0.03, 0.95), xycoords="axes fraction", color=RUST, va="top",
                            fontsize=9.5)  # fmt: skip
    for ax in axes[:, 0]:
        ax.set_ylabel("groups")
    near = np.abs(np.mod(angles(groups, "xi"), np.pi / 2) - np.pi / 4) <= np.pi / 12
    inside = np.abs(np.abs(angles(groups, "nu")) - np.pi / 2) <= np.pi / 6 + 0.02
    if len(near) and len(inside):
        fig.suptitle(
            f"{near.mean():.0%} of arg ξ near odd multiples of π/4, "
            f"{inside.mean():.0%} of arg ν in the bands",
            x=0.02,
            ha="left",
        )
    return fig


def figure5_folded(groups: pd.DataFrame) -> Figure:
    """Figure 5 with the gauge removed: arg ξ mod π/2, and arg ν folded to [0, π/6]."""
    fig, axes = plt.subplots(1, 2, figsize=FIGURE_SIZES["wide"])
    folded = factoriser.canonical_parameters(groups)
    axes[0].hist(folded["arg_xi"].dropna(), bins=25, range=(0, np.pi / 2), color=INDIGO)
    axes[0].axvline(np.pi / 4, color=MUTED, lw=1, ls=":")
    axes[0].set_xticks(
        [0, np.pi / 8, np.pi / 4, 3 * np.pi / 8, np.pi / 2], ["0", "π/8", "π/4", "3π/8", "π/2"]
    )
    axes[0].set(xlabel="arg ξ mod π/2", ylabel="groups")
    near, total = symmetric_groups(groups)
    axes[0].set_title(f"ξ: {near} of {total} near π/4")
    axes[1].hist(folded["arg_nu"].dropna(), bins=10, range=(0, np.pi / 6), color=RUST)
    axes[1].set_xticks([0, np.pi / 12, np.pi / 6], ["0", "π/12", "π/6"])
    axes[1].set(xlabel="arg ν folded")
    axes[1].set_title(f"ν folded: {int(folded['arg_nu'].count())} groups")
    for ax in axes:
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return fig


# --- The law ---


def law(live: pd.DataFrame, archived: pd.DataFrame) -> Figure:
    """Measured n6 against the number of frequencies, with the optimum √(1.318 K) and all frequencies."""
    fig, ax = plt.subplots()
    largest = max(63, *(int(table["frequencies"].max()) for table in (live, archived) if len(table)))
    k = np.arange(2, largest + 1)
    ax.plot(k, [norms.best_order6(int(i)) for i in k], color=INK, label="least norm")
    ax.plot(k, k, color=MUTED, ls=":", lw=1.2, label="all of them")
    data = pd.concat([live, archived], ignore_index=True)
    decays = sorted(data["weight_decay"].unique())
    for decay, color in zip(decays, shades(len(decays)), strict=True):
        rows = data[data["weight_decay"] == decay].groupby("frequencies")["n6"]
        mean, spread = rows.mean(), rows.std(ddof=1) / np.sqrt(rows.count())
        ax.errorbar(mean.index, mean, yerr=spread.fillna(0), fmt="o", color=color, ms=5.5, capsize=2)
        ax.plot(mean.index, mean, color=color, lw=1, label=f"wd {decay_text(decay)}")
    ax.set(xscale="log", yscale="log", xlabel="number of frequencies $K=(d-1)/2$")
    ax.set_ylabel("order-6 frequencies $n_6$")
    ax.set_xticks([3, 5, 8, 11, 20, 35, 63], ["3", "5", "8", "11", "20", "35", "63"])
    ax.set_yticks([2, 3, 4, 6, 8, 10, 15], ["2", "3", "4", "6", "8", "10", "15"])
    ax.minorticks_off()
    ax.set_ylim(1.5, 17)
    best = data["frequencies"].map(lambda count: norms.best_order6(int(count)))
    ratio = (data["n6"] / best).groupby([data["d"], data["weight_decay"]]).mean()
    ax.set_title(f"Training ends at {ratio.min():.2f} to {ratio.max():.2f} times the optimum")
    label_lines(ax)
    return fig


def norm_law(live: pd.DataFrame, archived: pd.DataFrame) -> Figure:
    """Measured squared norm over the law's, against weight decay; theory with shrinkage dashed."""
    fig, ax = plt.subplots()
    data = pd.concat([live, archived], ignore_index=True)
    moduli = sorted(data["d"].unique())
    for d, color in zip(moduli, shades(len(moduli)), strict=True):
        rows = data[data["d"] == d]
        for axis, column in (("measured", "norm"), ("theory", "shrunk")):
            ratio = (rows[column] / rows["law"] - 1).groupby(rows["weight_decay"]).mean() * 100
            kind = {"marker": "o", "ls": ""} if axis == "measured" else {"marker": "_", "ls": "--", "lw": 1.2}
            ax.plot(ratio.index, ratio, color=color, **kind)
            if axis == "measured":
                last = (float(ratio.index[-1]), float(ratio.iloc[-1]))
                side, anchor = ((9, 0), "left") if len(ratio) > 1 else ((-9, 0), "right")
                ax.annotate(f"$d={d}$", last, side, textcoords="offset points", color=color, va="center",
                            ha=anchor)  # fmt: skip
    ax.axhline(0, color=INK, lw=1)
    ax.set(xscale="log", xlabel="weight decay", ylabel="norm² above the law (per cent)")
    gap = 100 * (data["norm"] / data["shrunk"] - 1).abs().max()
    ax.set_title(f"With shrinkage, theory is right to {gap:.1f} %")
    ax.margins(x=0.2)
    return fig


# --- From memorisation ---


def memorisation(runs: xr.Dataset) -> Figure:
    """Loss, squared norm and mean order along training that starts at perfect memorisation."""
    fig, axes = plt.subplots(3, 1, figsize=(6.2, 7.2), sharex=True)
    colors = {"noise": INDIGO, "exact": GREEN, "no weight decay": RUST}
    names = {"noise": "with noise", "exact": "no noise", "no weight decay": "no weight decay"}
    epoch = runs["epoch"].values + 1
    seen: set[str] = set()
    for run in range(runs.sizes["run"]):
        one = runs.isel(run=run)
        start = str(one["start"].values)
        label = names[start] if start not in seen else "_"
        seen.add(start)
        style = {"color": colors[start], "lw": 1.4, "label": label}
        axes[0].plot(epoch, one["train_loss"].clip(min=1e-9), **style)
        axes[1].plot(epoch, one["squared_norm"], **style)
        axes[2].plot(epoch, one["order"].mean("frequency"), **style)
    d = round(float(np.sqrt(runs["order"].isel(epoch=0).max())))
    floor = norms.solution_norm(1, (d - 3) // 2, d)
    axes[1].axhline(floor, color=MUTED, lw=1, ls=":")
    axes[1].annotate(
        "composed solution", (1.2, floor), (0, 4), textcoords="offset points", color=MUTED, fontsize=10
    )
    for height in (4, 6):
        axes[2].axhline(height, color=MUTED, lw=1, ls=":")
    axes[0].set(yscale="log", xscale="log", ylabel="loss", ylim=(1e-8, 0.3))
    axes[1].set(ylabel="squared norm")
    axes[2].set(yscale="log", ylabel="mean order", xlabel="epoch + 1")
    axes[2].set_yticks([4, 6, 10, 20, 49], ["4", "6", "10", "20", "49"])
    axes[2].minorticks_off()
    axes[0].set_title(f"Accuracy never falls below {float(runs['train_accuracy'].min()):.3f}")
    decaying = runs.isel(run=np.flatnonzero(runs["weight_decay"].values > 0), epoch=-1)
    low, high = float(decaying["squared_norm"].min()), float(decaying["squared_norm"].max())
    axes[1].set_title(f"With weight decay it ends at {low:.1f} to {high:.1f}")
    found = sorted({int(n) for n in decaying["order"].values.flatten()})
    axes[2].set_title(f"Orders at the end: {', '.join(map(str, found))}")
    for ax in axes:
        label_lines(ax)
    return fig
