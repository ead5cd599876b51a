"""Drawings of the notebook "Learning rates decide where attention freezes": labelled data in, figure out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import entr

from learndyn.core import plotting
from learndyn.core.plotting import INK, MUTED, PALETTE, label_lines, shades
from learndyn.scan_snap.experiments_learning_rates import best_ratios, creep_slopes, dip, fall, slopes
from learndyn.scan_snap.task import TaskConfig, syn_medium

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
ENTROPY, ETA_Z, RATIO = "distinct entropy (nats)", "$\\eta_Z$", "$\\eta_Y/\\eta_Z$"


def _log_ticks(ax: Axes, axis: str, values: Sequence[float] | np.ndarray) -> None:
    """A logarithmic axis with ticks at these values only."""
    getattr(ax, f"set_{axis}scale")("log")
    which = getattr(ax, f"{axis}axis")
    which.set_ticks([float(value) for value in values], [f"{value:g}" for value in values])
    which.set_minor_locator(mpl.ticker.NullLocator())


def profiles(shares: xr.DataArray, task: TaskConfig) -> Figure:
    """What a distinct entropy looks like: attention on the ten distinct tokens for several values of it."""
    fig, ax = plt.subplots()
    start = task.weights[task.distinct_support]
    start = start / start.sum()
    ax.axhline(
        1 / len(start), color=MUTED, lw=1, ls=":", label=f"$\\ln {len(start)}={math.log(len(start)):.3f}$"
    )
    at = shares.weight.to_numpy()
    ax.plot(at, start, color=MUTED, marker="o", label=f"start, {entr(start).sum():.3f}")
    values = shares.distinct_entropy.to_numpy()
    for color, value in zip(shades(len(values)), values, strict=True):
        ax.plot(at, shares.sel(distinct_entropy=value), color=color, marker="o", label=f"{value:.2f}")
    ax.set(xlabel="weight of the token in $P(l|n)$", ylabel="share of the attention", ylim=(0, None))
    ax.set_title("The lower the distinct entropy, the more for the most frequent token")
    label_lines(ax)
    return fig


# --- Figure 6 ---


def cells(ours: xr.Dataset, paper: xr.Dataset) -> Figure:
    """Figure 6: entropy against the rate ratio, a panel for each Q; published points as circles."""
    queries = ours.queries.to_numpy()
    rows = -(-len(queries) // 2)
    fig, axes = plt.subplots(rows, 2, figsize=(7.0, 3.2 * rows), sharex=True, sharey=True, squeeze=False)
    ratios = ours.rate_ratio.to_numpy()
    rates = ours.attention_rate.to_numpy()
    for ax, q in zip(axes.flat, queries, strict=False):
        here, there = ours.sel(queries=q), paper.sel(queries=q)
        ax.axvline(1, color=MUTED, lw=1, ls="--")
        for color, rate in zip(shades(len(rates)), rates, strict=True):
            row = here.sel(attention_rate=rate)
            ax.plot(ratios, row.distinct_entropy, color=color, label=f"{ETA_Z} = {rate:g}")
            bars = {"fmt": "none", "ecolor": color, "elinewidth": 1.2, "capsize": 2.5}
            ax.errorbar(ratios, row.distinct_entropy, row.distinct_entropy_std, **bars)
            dots = {"ms": 5.5, "mfc": "white", "mec": color, "mew": 1.1, "zorder": 3, "ls": "none"}
            ax.plot(ratios, there.sel(attention_rate=rate).distinct_entropy, "o", **dots)
        best = best_ratios(here.distinct_entropy).to_numpy()
        ax.set_title(f"$Q={q}$, $K={2 * q}$: least at {'/'.join(f'{b:g}' for b in np.unique(best))}")
        _log_ticks(ax, "x", ratios)
    _share_labels(fig, axes, f"rate ratio {RATIO}", ENTROPY)
    with _settled(fig):
        for ax in axes[:, -1]:
            label_lines(ax, ax.get_lines()[1:])
    return fig


@contextmanager
def _settled(fig: Figure) -> Iterator[None]:
    """Lay the figure out once; labels of many axes then need no layout each."""
    fig.draw_without_rendering()
    engine = fig.get_layout_engine()
    fig.set_layout_engine("none")
    yield
    fig.set_layout_engine(engine)


def _share_labels(fig: Figure, axes: np.ndarray, x: str, y: str) -> None:
    for ax in axes[-1]:
        ax.set_xlabel(x)
    for ax in axes[:, 0]:
        ax.set_ylabel(y)


def recalls(
    ours: Mapping[int, xr.DataArray], theirs: Mapping[int, xr.DataArray], held: str, moved: str
) -> Figure:
    """Figures 11 and 12: recall against threshold, rows Q, columns the ends of what is held."""
    names = {"attention_rate": ETA_Z, "rate_ratio": RATIO}
    first = next(iter(ours.values()))
    ends, lines = first[held].to_numpy()[[0, -1]], first[moved].to_numpy()
    fig, axes = plt.subplots(len(ours), 2, figsize=(7.0, 2.35 * len(ours)), sharey=True, squeeze=False)
    for row, (q, curves) in zip(axes, ours.items(), strict=True):
        for ax, end in zip(row, ends, strict=True):
            ax.axvline(1 / syn_medium(q).vocabulary, color=MUTED, lw=1, ls=":")
            for color, value in zip(shades(len(lines)), lines, strict=True):
                at = {held: end, moved: value}
                ax.plot(curves.threshold, curves.sel(at), color=color, lw=1.5, label=f"{value:g}")
                dots = theirs[q].sel(at)
                ax.plot(dots.threshold, dots, "o", ms=3.2, mfc="white", mec=color, mew=0.8)
            ax.set_title(f"$Q={q}$, {names[held]} = {end:g}", fontsize=11)
            ax.set_ylim(0.1, 1.05)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    _share_labels(fig, axes, "threshold on the attention", "recall")
    falls = xr.concat([slopes(curves) for curves in ours.values()], "queries", join="exact").diff(moved)
    steeper, total = int((falls > 0).sum()), falls.size
    word = f"more steeply in {steeper}" if held == "attention_rate" else f"less steeply in {total - steeper}"
    fig.suptitle(f"With larger {names[moved]} recall falls {word} of {total} steps", x=0.02, ha="left")
    with _settled(fig):
        for ax in axes[:, -1]:
            label_lines(ax, ax.get_lines()[1::2], fontsize=10)
    return fig


def recall_frame(curves: xr.DataArray, queries: int, threshold: float) -> Figure:
    """One frame of the explorer: recall of all cells at one threshold, and the curves of the corner cells.

    ``curves`` has thresholds in units of 1/M.
    """
    # A layout that is computed takes longer than the drawing, and all frames are alike.
    place = {
        "left": 0.09,
        "right": 0.985,
        "bottom": 0.15,
        "top": 0.9,
        "wspace": 0.24,
        "width_ratios": (1.1, 1),
    }
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.9), layout="none", gridspec_kw=place)
    now = curves.sel(threshold=threshold, method="nearest").transpose("attention_rate", "rate_ratio")
    _heat(left, now, vmin=0.2, vmax=1)
    left.set_title(f"Q = {queries}, recall at {threshold:g}/M")
    right.axvline(threshold, color=INK, lw=1.2)
    rates, ratios = curves.attention_rate.to_numpy()[[0, -1]], curves.rate_ratio.to_numpy()[[0, -1]]
    for rate, dash in zip(rates, ("-", (0, (3, 2))), strict=True):
        for ratio, color in zip(ratios, (INDIGO, RUST), strict=True):
            line = curves.sel(attention_rate=rate, rate_ratio=ratio)
            right.plot(line.threshold, line, color=color, ls=dash, lw=1.6)
            right.plot(threshold, now.sel(attention_rate=rate, rate_ratio=ratio), "o", color=color, ms=4)
    words = (f"ratio {ratios[0]:g}", f"ratio {ratios[1]:g}", f"dashed: {ETA_Z} = {rates[1]:g}")
    for place, (text, color) in enumerate(zip(words, (INDIGO, RUST, INK), strict=True)):
        right.annotate(
            text, (0.98, 0.97 - 0.09 * place), xycoords="axes fraction", ha="right", va="top", color=color
        )
    right.set(xlabel="threshold in units of $1/M$", ylabel="recall", ylim=(0, 1.05))
    right.set_title("The four corner cells")
    return fig


def _heat(ax: Axes, values: xr.DataArray, *, vmin: float, vmax: float) -> None:
    """Cells (attention_rate, rate_ratio) as a table of colours with numbers."""
    table = values.to_numpy()
    ax.imshow(table, cmap=plotting.SEQUENTIAL, vmin=vmin, vmax=vmax, origin="lower", aspect="auto")
    for row, column in np.ndindex(*table.shape):
        color = "white" if table[row, column] > vmin + 0.4 * (vmax - vmin) else INK
        ax.text(
            column, row, f"{table[row, column]:.2f}", ha="center", va="center", color=color, fontsize=10.5
        )
    ax.set_xticks(range(table.shape[1]), [f"{ratio:g}" for ratio in values.rate_ratio.to_numpy()])
    ax.set_yticks(range(table.shape[0]), [f"{rate:g}" for rate in values.attention_rate.to_numpy()])
    ax.set(xlabel=RATIO, ylabel=ETA_Z)
    ax.grid(False)


# --- mean field ---


def against_mean_field(mean_field: xr.DataArray, paper: xr.DataArray, found: xr.Dataset) -> Figure:
    """Published entropies against those of the mean field, all cells."""
    fig, ax = plt.subplots(figsize=plotting.FIGURE_SIZES["square"])
    low = min(float(mean_field.min()), float(paper.min())) - 0.02
    high = max(float(mean_field.max()), float(paper.max())) + 0.02
    ax.plot([low, high], [low, high], color=MUTED, lw=1, ls=":")
    marks = zip(paper.queries.to_numpy(), (RUST, PERIWINKLE, GREEN, INDIGO), "osD^", strict=False)
    for q, color, marker in marks:
        x, y = mean_field.sel(queries=q).to_numpy().ravel(), paper.sel(queries=q).to_numpy().ravel()
        r = float(found.correlation.sel(queries=q))
        ax.plot(
            x, y, marker, color=color, ms=5.5, mec="white", mew=0.4, label=f"$Q={q}$: correlation {r:.2f}"
        )
    ax.set(xlabel=f"mean field: {ENTROPY}", ylabel="published", xlim=(low, high), ylim=(low, high))
    ax.legend(loc="upper left", handletextpad=0.2)
    ax.set_title(f"The mean field lies {float(found.bias.min()):.2f} to {float(found.bias.max()):.2f} above")
    return fig


def by_length(runs: Mapping[str, xr.DataArray], infinite: float) -> Figure:
    """Entropy against the length of sequences, by initial values; the mean field as a line."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.5))
    for (name, entropy), color in zip(runs.items(), (INDIGO, RUST), strict=True):
        mean, std = entropy.mean("seed"), entropy.std("seed", ddof=1)
        length = entropy.sequence_length.to_numpy()
        left.errorbar(length, mean, std, color=color, marker="o", capsize=2.5, elinewidth=1.2)
        right.plot(length - 1, infinite - mean, color=color, marker="o", label=name)
    left.axhline(infinite, color=MUTED, lw=1, ls=":")
    along = {"xycoords": left.get_yaxis_transform(), "ha": "right", "va": "bottom"}
    left.annotate("mean field", (0.98, infinite), color=MUTED, **along)
    left.set(xlabel="length $T$ (tokens)", ylabel=ENTROPY)
    left.margins(y=0.12)
    law = (infinite - next(iter(runs.values())).mean("seed").to_numpy())[0]
    right.plot(
        length - 1, law * (length[0] - 1) / (length - 1), color=MUTED, ls="--", lw=1, label="$1/(T-1)$"
    )
    right.set(yscale="log", xlabel="contextual tokens $T-1$", ylabel="mean field − training (nats)")
    for ax, ticks in ((left, length), (right, length - 1)):
        _log_ticks(ax, "x", ticks)
    left.set_title("Longer sequences, denser attention")
    right.set_title("A random start keeps a bias")
    label_lines(right)
    return fig


def momentum(curves: Mapping[str, xr.DataArray], points: Mapping[str, xr.DataArray], ratio: float) -> Figure:
    """Entropy against the attention rate at one ratio, and its fall over the attention rates at all ratios.

    With momentum (indigo), without (rust), flow (grey); ``curves`` without noise, ``points`` from training.
    """
    fig, (ax, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
    colors = {"momentum": INDIGO, "none": RUST, "flow": MUTED}
    dashes = {"momentum": "-", "none": "-", "flow": "--"}
    labels = {"momentum": "momentum", "none": "no momentum", "flow": "gradient flow"}
    for name, entropy in curves.items():
        style = {"color": colors[name], "ls": dashes[name], "lw": 1.6}
        ax.plot(entropy.attention_rate, entropy.sel(rate_ratio=ratio), **style)
        right.plot(entropy.rate_ratio, fall(entropy), label=labels[name], **style)
    for name, entropy in points.items():
        style = {"mfc": "white", "mec": colors[name], "mew": 1.3, "zorder": 3}
        ax.plot(entropy.attention_rate, entropy.sel(rate_ratio=ratio), "o", **style)
        right.plot(entropy.rate_ratio, fall(entropy), "o", **style)
    rates, ratios = (curves["momentum"][name].to_numpy() for name in ("attention_rate", "rate_ratio"))
    ax.set(xlabel=f"attention rate {ETA_Z}", ylabel=ENTROPY)
    words = f"fall from {ETA_Z} = {rates[0]:g} to {rates[-1]:g} (nats)"
    right.set(xlabel=f"rate ratio {RATIO}", ylabel=words)
    _log_ticks(ax, "x", rates)
    _log_ticks(right, "x", ratios)
    ends = {name: fall(entropy) for name, entropy in points.items()}
    with_, without = float(ends["momentum"].min()), float(ends["none"].max())
    here = [float(ends[name].sel(rate_ratio=ratio)) for name in ("momentum", "none")]
    ax.set_title(f"Ratio {ratio:g}: fall {here[0]:.2f} with momentum, {here[1]:.2f} without")
    right.set_title(f"All ratios: at least {with_:.2f} with, at most {without:.3f} without")
    label_lines(right)
    return fig


# --- phase diagrams ---


def flow_phases(found: xr.Dataset, x: str, y: str, discs: xr.Dataset | None = None) -> Figure:
    """Distinct entropy (above) and common mass (below) of the flow at each time, over two axes.

    ``discs`` (variables of the same names, over x and y) are drawn in the same colours at the middle time.
    """
    times = found.time.to_numpy()
    fig, axes = plt.subplots(2, len(times), figsize=(7.0, 5.9), sharex=True, sharey=True)
    names = {"distinct_entropy": ENTROPY, "common_mass": "attention on common tokens"}
    for row, (name, words) in zip(axes, names.items(), strict=True):
        values = found[name].transpose("time", y, x)
        limits = {"vmin": float(values.min()), "vmax": float(values.max()), "cmap": plotting.SEQUENTIAL}
        for ax, time in zip(row, times, strict=True):
            image = _map(ax, values.sel(time=time), limits)
            if y == "rate_ratio":
                _log_ticks(ax, "x", (0.1, 1))
                _log_ticks(ax, "y", (1, 2, 5, 10))
            else:
                _log_ticks(ax, "x", (2, 5, 10, 20))
            if discs is not None and time == times[len(times) // 2]:
                _discs(ax, discs[name].transpose(y, x), limits)
        low = discs is not None and float(discs[name].min()) < limits["vmin"]
        fig.colorbar(image, ax=row, label=words, aspect=14, extend="min" if low else "neither")
    for ax, time in zip(axes[0], times, strict=True):
        ax.set_title(f"$t=10^{{{math.log10(time):.0f}}}$")
    words = {"attention_rate": ETA_Z, "rate_ratio": RATIO, "classes": "$K$", "overlap": "overlap $\\rho$"}
    _share_labels(fig, axes, words[x], words[y])
    change = abs(found.distinct_entropy.isel(time=-1) - found.distinct_entropy.isel(time=-2)).median()
    fig.suptitle(f"Over the last decade entropy changes by {float(change):.3f} (median)", x=0.02, ha="left")
    return fig


def _map(ax: Axes, values: xr.DataArray, limits: Mapping[str, object]) -> mpl.collections.QuadMesh:
    """Values over (y, x) as a smooth map."""
    y, x = values.dims
    image = ax.pcolormesh(values[x], values[y], values, shading="gouraud", rasterized=True, **limits)
    for name, axis in ((x, "x"), (y, "y")):
        if name != "overlap":
            getattr(ax, f"set_{axis}scale")("log")
    ax.grid(False)
    return image


def _discs(ax: Axes, values: xr.DataArray, limits: Mapping[str, object]) -> None:
    """Measured values as discs in the colours of the map."""
    y, x = np.meshgrid(*(values[dim] for dim in values.dims), indexing="ij")
    colors = values.to_numpy().ravel()
    style = {"s": 52, "edgecolor": "white", "linewidth": 1.3, "zorder": 3, "clip_on": False}
    ax.scatter(x.ravel(), y.ravel(), c=colors, **style, **limits)


def momentum_phases(found: xr.DataArray, paper: xr.DataArray) -> Figure:
    """Distinct entropy of the mean field over the rates, a map for each Q; published points as discs."""
    queries = found.queries.to_numpy()
    rows = -(-len(queries) // 2)
    fig, axes = plt.subplots(
        rows, 2, figsize=(7.0, 3.0 * rows + 0.2), sharex=True, sharey=True, squeeze=False
    )
    limits = {"vmin": float(found.min()), "vmax": float(found.max()), "cmap": plotting.SEQUENTIAL}
    low = "min" if float(paper.min()) < limits["vmin"] else "neither"
    for ax, q in zip(axes.flat, queries, strict=False):
        here = found.sel(queries=q).transpose("rate_ratio", "attention_rate")
        image = _map(ax, here, limits)
        ax.plot(here.attention_rate, dip(here), color=AMBER, lw=1.8)
        _discs(ax, paper.sel(queries=q).transpose("rate_ratio", "attention_rate"), limits)
        near = {name: paper[name] for name in ("attention_rate", "rate_ratio")}
        bias = float((found.sel(queries=q).interp(near) - paper.sel(queries=q)).mean())
        ax.set_title(f"$Q={q}$: bias {bias:.2f}")
        _log_ticks(ax, "x", paper.attention_rate.to_numpy())
        _log_ticks(ax, "y", paper.rate_ratio.to_numpy())
    _share_labels(fig, axes, ETA_Z, RATIO)
    fig.colorbar(image, ax=axes, label=ENTROPY, aspect=30, extend=low)
    return fig


# --- does the snap hold? ---


def creep(curves: xr.Dataset) -> Figure:
    """−z of a common token in the flow against time, and against ln ln(M η_Y t/K)."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6), sharey=True)
    ratios = curves.rate_ratio.to_numpy()
    late = curves.isel(time=curves.time.to_numpy() >= 100)
    for color, ratio in zip(shades(len(ratios)), ratios, strict=True):
        here, after = curves.sel(rate_ratio=ratio), late.sel(rate_ratio=ratio)
        left.plot(here.time, here.fall, color=color)
        right.plot(after.slow_time, after.fall, color=color, label=f"{ratio:g}")
    x = late.slow_time.isel(rate_ratio=0).to_numpy()
    start = float(late.fall.isel(rate_ratio=0, time=4))
    right.plot(x, start + 0.5 * (x - x[4]), color=MUTED, ls="--", lw=1, label="slope ½")
    left.set(xscale="log", xlabel="time $t$", ylabel="$-z$ of a common token")
    right.set(xlabel="$\\ln\\ln(M\\eta_Yt/K)$")
    found = creep_slopes(curves)
    left.set_title("No plateau …")
    right.set_title(f"… slope {float(found.max()):.2f} down to {float(found.min()):.2f}")
    label_lines(right)
    return fig


def longer(runs: xr.DataArray) -> Figure:
    """Entropy against the rate ratio after the published number of iterations and after many more."""
    queries = runs.queries.to_numpy()
    fig, axes = plt.subplots(1, len(queries), figsize=(7.0, 3.5), sharey=True, squeeze=False)
    ratios = runs.rate_ratio.to_numpy()
    for ax, place in zip(axes[0], range(len(queries)), strict=True):
        mean = runs.isel(task=place).mean("seed")
        for step, color in zip(mean.snapshot.to_numpy(), (PERIWINKLE, RUST), strict=True):
            row = mean.sel(snapshot=step)
            ax.plot(ratios, row, color=color, marker="o", label=f"{step} it.")
        least = [f"{float(best):g}" for best in best_ratios(mean).to_numpy()]
        where = f"stays at {least[0]}" if least[0] == least[1] else f"at {least[0]}, then {least[1]}"
        ax.set_title(f"$Q={queries[place]}$: dip {where}")
        ax.set_xlabel(f"rate ratio {RATIO}")
        _log_ticks(ax, "x", ratios)
    axes[0, 0].set_ylabel(ENTROPY)
    label_lines(axes[0, -1])
    return fig
