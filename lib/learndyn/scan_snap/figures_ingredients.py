"""Drawings of the notebook "The model and its two ingredients": labelled data in, figure out."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from learndyn.core.explorer import format_value
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, label_lines, shades
from learndyn.scan_snap import decoder
from learndyn.scan_snap.claims import ingredients as claims
from learndyn.scan_snap.experiments_ingredients import at_multiple
from learndyn.scan_snap.task import TaskConfig

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
GREY = "#98a2b3"  # common tokens, everywhere in this notebook
DOTTED = {"color": MUTED, "lw": 1, "ls": ":", "zorder": 1}
SMALL = 10


# --- the phenomenon ---


def scan_and_snap(run: xr.Dataset) -> Figure:
    """Attention on each token of a class against the iteration, above the speed of the attention logits."""
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(5.6, 5.6), sharex=True, gridspec_kw={"height_ratios": [2.6, 1]}
    )
    tokens, step = claims.kinds(run.rename(step="time")), run["step"].values
    top.plot(step, tokens["common"][:, 0], color=GREY, lw=4.5, solid_capstyle="butt", label="each common one")
    count = tokens["distinct"].shape[1]
    for i, color in enumerate(shades(count)):
        label = {0: "the rarest", count - 1: "most frequent"}.get(i, "_")
        top.plot(step, tokens["distinct"][:, i], color=color, lw=1.5, label=label)
    speed = run["attention_speed"].values
    fastest = int(speed.argmax())
    bottom.plot(step, speed, color=RUST)
    for ax in (top, bottom):
        ax.axvline(max(step[fastest], 1), **DOTTED)
    high = float(tokens["distinct"].max())
    top.set(xscale="log", xlim=(1, step[-1]), ylim=(0, 1.18 * high), ylabel="attention on one token")
    for word, x in (("scan", 0.16), ("snap", 0.66)):
        top.annotate(word, (x, 0.93), xycoords="axes fraction", fontsize=13, va="center")
    bottom.set(xlabel="iteration", ylabel="speed of the\nattention logits", ylim=(0, None))
    slow = np.flatnonzero(speed[fastest:] < 0.01 * speed[fastest])
    when = f"at 1 % of that speed by {step[fastest + slow[0]]}" if len(slow) else "then slows down"
    top.set_title(f"Attention is fastest at iteration {step[fastest]}, {when}")
    label_lines(top)
    return fig


# --- the task ---


def classes(task: TaskConfig) -> Figure:
    """P(l|n) of the first two classes over all contextual tokens; grey: tokens that several classes use."""
    sequence_classes = task.to_classes()
    last = int(task.support_tokens.max()) + 1
    fig, axes = plt.subplots(2, 1, figsize=FIGURE_SIZES["single"], sharex=True, sharey=True)
    for n, (ax, color) in enumerate(zip(axes, (INDIGO, RUST), strict=True)):
        row = sequence_classes.probabilities[n, :last]
        common = sequence_classes.common[:last]
        ax.bar(np.flatnonzero(common), row[common], color=GREY, width=0.8)
        ax.bar(np.flatnonzero(~common), row[~common], color=color, width=0.8)
        ax.grid(axis="x", visible=False)
        ax.set_ylabel(f"$P(l\\mid n={n + 1})$")
        ax.set_ylim(0, 1.3 * row.max())
        own = np.flatnonzero(sequence_classes.distinct[n])
        style = {"ha": "center", "va": "center", "fontsize": SMALL}
        ax.text(own.mean(), 1.15 * row.max(), "distinct", color=color, **style)
        if common.any():
            ax.text(np.flatnonzero(common).mean(), 1.15 * row.max(), "common", color=MUTED, **style)
    share = float(task.probabilities[: task.distinct_support.start].sum())
    axes[0].set_title(f"{100 * share:.0f} % of a sequence are tokens that say nothing about what comes next")
    axes[1].set_xlabel("contextual token $l$")
    return fig


def length(errors: xr.Dataset) -> Figure:
    """Distance from the long-sequence limit against T, and Lemma 2's bound."""
    fig, ax = plt.subplots()
    T = errors["length"].values
    curves = {
        "Lemma 2's bound": (errors["bound"].values, MUTED, "--", None),
        "one token, 95 %": (errors["frequency_error"].max("next").values, RUST, "-", "s"),
        "$\\Vert X^\\top b-c_n\\Vert$, mean": (
            errors["attention_error"].mean("next").values,
            INDIGO,
            "-",
            "o",
        ),
    }
    for label, (values, color, style, marker) in curves.items():
        ax.plot(T, values, color=color, ls=style, marker=marker, label=label)
    ax.set(xscale="log", yscale="log", xlabel="sequence length $T$", ylabel="distance from $T\\to\\infty$")
    ax.set_xticks(T, [str(t) for t in T])
    ax.minorticks_off()
    power = f"{claims.length_exponent(errors):.3f}".replace("-", "−")
    ax.set_title(f"Long sequences: the error falls as $(T-1)^{{{power}}}$")
    label_lines(ax)
    return fig


# --- the decoder at frozen attention ---


def figure8(curves: claims.Curves) -> Figure:
    """h* of a trained decoder (stairs) and h in closed form (lines) for some rates; two vocabularies."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.9))
    for ax, data in zip(axes, curves, strict=True):
        rates = data["decoder_rate"].values
        for run, color in enumerate(shades(len(rates))):
            at = data.isel(run=run)
            ax.step(at["step"], at["trained"], where="post", color=color, lw=1.1)
            words = format_value(float(rates[run]))
            label = f"$\\eta_Y={words}$" if run == len(rates) - 1 else words
            ax.plot(at["step"], at["h"], color=color, lw=1.6, label=label)
        ax.set(xlabel="step $t$", xlim=(0, int(data["step"][-1])), ylim=(0, None))
        end = data.isel(step=-1)
        apart = 100 * float((end["trained"] / end["h"] - 1).max())
        ax.set_title(f"$M={data.attrs['vocabulary']}$: {apart:.1f} % apart")
        label_lines(ax)
    axes[0].set_ylabel("$h^*$ (stairs), $h$ (lines)")
    return fig


def gaps(table: pd.DataFrame) -> Figure:
    """(h* − h) M/η_Y against η_Y t for all rates and vocabularies, far below the paper's bound."""
    fig, ax = plt.subplots()
    groups = table[table["gap"] > 0].groupby(["vocabulary", "decoder_rate"])
    for size, color in zip(sorted(table["vocabulary"].unique()), (RUST, INDIGO), strict=False):
        label = f"$M={size}$"
        for (vocabulary, _), part in groups:
            if vocabulary == size:
                ax.plot(part["scaled_time"], part["gap"], color=color, lw=1.1, label=label)
                label = "_"
    ax.axhline(2, color=MUTED, ls="--", lw=1.2)
    where = {"xycoords": ("axes fraction", "data"), "va": "bottom"}
    ax.annotate("Lemma 7's bound", (0.03, 2.2), color=MUTED, fontsize=SMALL, **where)
    largest = table.groupby(["vocabulary", "decoder_rate"])["gap"].max()
    ax.set(xscale="log", yscale="log", xlabel="$\\eta_Y t$", ylabel="$(h^*-h)\\,M/\\eta_Y$", ylim=(4e-4, 6))
    ax.set_title(f"Largest gaps: {largest.min():.3f}–{largest.max():.3f} $\\eta_Y/M$, not 2")
    label_lines(ax)
    return fig


def frozen_losses(found: xr.Dataset) -> Figure:
    """Loss at frozen attention: closed form, its limit, Theorem 1's update, and the plain gradient."""
    fig, ax = plt.subplots()
    later = found.sel(time=found["time"] > 0)
    time = later["time"].values
    ax.plot(time, later["closed_form"], color=INDIGO, lw=7, alpha=0.25, solid_capstyle="butt")
    every = slice(None, None, max(1, len(time) // 14))
    first = later["decorrelated"].isel(overlap=-1)
    ax.plot(time[every], first[every], "o", ms=4.5, color=INDIGO, label="_decorrelated update")
    ax.plot(time, later["limit"], color=INK, lw=1, ls=":")
    colors = (PINE, GREEN, RUST, AMBER)
    for overlap, color in zip(later["overlap"].values, colors, strict=False):
        label = f"overlap {overlap:g}"
        ax.plot(time, later["gradient"].sel(overlap=overlap), color=color, lw=1.5, label=label)
    ratio = float((later["gradient"] / later["decorrelated"]).isel(overlap=-1, time=-1))
    ax.set(xscale="log", yscale="log", xlabel="time $t$ (steps of batch size 1)", ylabel="loss (nats)")
    ax.set_ylim(0.3 * float(later["closed_form"].min()), 20)
    words = {"ha": "left", "fontsize": SMALL}
    ax.annotate("$\\frac{M-1}{M}\\frac{K}{\\eta_Yt}$", (time[0] * 1.2, 0.25), fontsize=12)
    ax.annotate(
        "discs: decorrelated update\nbroad: closed form",
        (0.03, 0.05),
        xycoords="axes fraction",
        color=INDIGO,
        **words,
    )
    worst = f"overlap {float(later['overlap'][-1]):g}"
    ax.set_title(f"The gradient at {worst} ends {ratio:.0f} times higher")
    label_lines(ax)
    return fig


# --- the signal ---


def signals(table: pd.DataFrame) -> Figure:
    """γ over its peak for all vocabularies, time in units of the paper's t₀; for one M its two asymptotes."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.9))
    share = np.linspace(0, 2.5, 401)
    left.axvspan(1, float((table["upper"] / table["lower"]).max()), color=AMBER, alpha=0.25, lw=0)
    for (_, row), color in zip(table.iterrows(), shades(len(table)), strict=True):
        size = int(row["vocabulary"])
        curve = decoder.gamma(share * row["lower"], size, 1.0) / row["height_theory"]
        left.plot(share, curve, color=color, label=f"$M={format_value(size)}$")
        left.plot(row["peak"] / row["lower"], row["height"] / row["height_theory"], "o", color=color, ms=6)
    left.annotate("paper's bracket", (1.06, 1.05), color="#94651f", rotation=90, fontsize=SMALL, va="top")
    left.set(xlabel="$t/t_0$", ylabel="$\\gamma/\\gamma(t^*)$", xlim=(0, 2.5), ylim=(0, 1.08))
    left.set_title(f"$\\gamma$ peaks at {(table['peak'] / table['lower']).mean():.2f} $t_0$")
    row = table.iloc[(table["vocabulary"] - 1000).abs().argmin()]
    size, time = int(row["vocabulary"]), np.geomspace(0.1, 1000, 500)
    early, late = decoder.gamma_asymptotes(time, size, 1.0)
    right.axvspan(row["lower"], row["upper"], color=AMBER, alpha=0.25, lw=0)
    right.plot(time, decoder.gamma(time, size, 1.0), color=INDIGO)
    right.plot(time[time < row["upper"]], early[time < row["upper"]], color=RUST, ls="--", lw=1.3)
    right.plot(time[time > 2], late[time > 2], color=PINE, ls="--", lw=1.3)
    right.axvline(row["peak"], **DOTTED)
    right.annotate("$\\eta_Yt/K$", (0.7, 0.22), color=RUST, fontsize=SMALL)
    right.annotate("$\\frac{\\ln(M\\eta_Yt/K)}{\\eta_Yt/K}$", (60, 0.35), color=PINE, fontsize=13)
    right.set(xscale="log", yscale="log", xlabel="$\\eta_Y t/K$", xlim=(0.1, 1000), ylim=(8e-3, 20))
    right.set_title(f"$M={format_value(size)}$: $t$, then $\\ln t/t$")
    label_lines(left)
    return fig


# --- scan and snap ---


def snapshots(flow: xr.Dataset, moments: tuple[float, ...]) -> Figure:
    """Attention of one query for its two next tokens, up and down, at four multiples of t* (Figure 2)."""
    fig, axes = plt.subplots(2, 2, figsize=(6.4, 5.0), sharex=True, sharey=True)
    limit = 1.2 * max(float(at_multiple(flow, m)["attention_weights"].max()) for m in moments)
    for ax, moment in zip(axes.flat, moments, strict=True):
        at = at_multiple(flow, moment)
        bars(ax, at, mirrored=True)
        share = 100 * float(at["common_mass"])
        when = f"$t={format_value(float(moment))}\\,t^*$" if moment else "Start"
        ax.set_title(f"{when}: {share:.0f} % common")
        ax.set_ylim(-limit, limit)
        ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    for ax in axes[-1]:
        ax.set_xlabel("contextual token $l$")
    for ax in axes[:, 0]:
        ax.set_ylabel("$c_2$    |    $c_1$")
    return fig


def bars(ax: Axes, at: xr.Dataset, *, mirrored: bool) -> None:
    """Attention at one time, common tokens grey; the second class (by symmetry the same) downwards."""
    weights, common = at["attention_weights"].values, (at["kind"] == "common").values
    count, own = int(common.sum()), int((~common).sum())
    places = np.arange(count + own)
    for sign, shift, color in ((1, 0, INDIGO), (-1, own, RUST))[: 2 if mirrored else 1]:
        for x, heights, shade in (
            (places[:count], weights[common], GREY),
            (places[count:] + shift, weights[~common], color),
        ):
            corners = [
                [(i - 0.4, 0), (i - 0.4, sign * h), (i + 0.4, sign * h), (i + 0.4, 0)]
                for i, h in zip(x, heights, strict=True)
            ]
            ax.add_collection(PolyCollection(corners, facecolors=shade, edgecolors="none"))
    ax.set_xlim(-1, count + own * (2 if mirrored else 1))
    ax.axhline(0, color=INK, lw=0.8)
    ax.grid(axis="x", visible=False)


def ratios(growth: xr.Dataset, peak_time: float) -> Figure:
    """Growth of r = f²/f'² − 1 for the most frequent token l and each other one, under both dynamics."""
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.7), sharex=True, sharey=True)
    titles = {"lemma4": "Lemma 4: ", "gradient": "Flow: up to "}
    moments = growth["time"].values / peak_time
    for ax, name in zip(axes, growth["dynamics"].values, strict=True):
        part = growth.sel(dynamics=name)
        for i, color in enumerate(shades(part.sizes["token"])):
            ax.plot(moments, part["growth"].isel(token=i), color=color, lw=1.5)
        ax.axvline(1, **DOTTED)
        ax.set_title(titles[str(name)] + f"{float(part['growth'].isel(time=-1).max()):.1f}-fold")
        ax.set(xscale="log", yscale="log", xlabel="$t/t^*$")
    axes[0].set_ylabel("growth of $r_{ll'}$ since the start")
    axes[1].annotate(
        "dark: $l'$ nearly as frequent as $l$\npale: $l'$ rare",
        (0.04, 0.95),
        xycoords="axes fraction",
        va="top",
        fontsize=SMALL,
    )
    axes[0].set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    axes[0].minorticks_off()
    return fig


def speeds(flow: xr.Dataset, plain: xr.Dataset, trained: xr.Dataset) -> Figure:
    """Speed of the attention logits, and what common tokens keep: flow, steps without and with momentum.

    One clock for all: an iteration with momentum μ counts as 1/(1 − μ) steps.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.4, 4.0), sharex=True)
    clock = 1 / (1 - trained.attrs["momentum"])
    styles = (
        (flow, "time", 1.0, {"color": INDIGO}),
        (plain, "step", 1.0, {"color": INDIGO, "ls": "", "marker": "o", "ms": 4, "markevery": 5}),
        (trained, "step", clock, {"color": RUST}),
    )
    for run, axis, unit, style in styles:
        later = run.isel({axis: slice(1, None)})
        time = unit * later[axis].values
        left.plot(time, later["attention_speed"].values / unit, **style)
        right.plot(time, later["common_mass"].values, **style)
    for ax in (left, right):
        ax.axvline(flow.attrs["peak_time"], **DOTTED)
        ax.set(xscale="log", xlabel="time $t$")
    end = clock * float(trained["step"][-1])
    fastest = float(flow["attention_speed"].max())
    left.set(yscale="log", ylabel="speed $\\Vert\\dot Z\\Vert$", ylim=(5e-5 * fastest, 3 * fastest))
    left.set_xlim(0.1 * flow.attrs["peak_time"], end)
    right.set(ylabel="attention on common tokens", ylim=(0, None))
    where = {"xycoords": "axes fraction", "fontsize": SMALL}
    right.annotate("line: gradient flow\ndiscs: no momentum", (0.3, 0.22), color=INDIGO, **where)
    right.annotate(f"momentum {trained.attrs['momentum']:g}", (0.3, 0.13), color=RUST, **where)
    late = [f"{100 * late_change(run, axis, unit, end):.1f}" for run, axis, unit, _ in styles[1:]]
    peaks = [
        unit * float(run[axis][int(run["attention_speed"].values.argmax())]) for run, axis, unit, _ in styles
    ]
    left.set_title(f"Fastest at $t={peaks[0]:.0f}$; with momentum at {peaks[2]:.0f}")
    right.set_title(f"Last decade: −{late[0]} %; with momentum −{late[1]} %")
    return fig


def late_change(run: xr.Dataset, axis: str, unit: float, end: float) -> float:
    """What common tokens lose in the last decade of time before `end`."""
    time = unit * run[axis].values
    before, after = np.interp((end / 10, end), time, run["common_mass"].values)
    return float(before - after)


def frame(flow: xr.Dataset, moment: float, highest: float) -> Figure:
    """One frame of the explorer: attention (axis up to `highest`), then γ and the speed, time marked."""
    fig = plt.figure(figsize=(5.6, 5.4), layout="none")  # fixed places: a fitted layout doubles the cost
    top, bottom = fig.add_axes((0.13, 0.52, 0.83, 0.4)), fig.add_axes((0.13, 0.1, 0.83, 0.28))
    at, about = at_multiple(flow, moment), flow.attrs
    bars(top, at, mirrored=False)
    top.set(xlabel="contextual token $l$", ylabel="attention $c_n$", ylim=(0, highest))
    top.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    top.set_title(
        f"$t={format_value(float(moment))}\\,t^*$: {100 * float(at['common_mass']):.0f} % on common tokens, "
        f"$H={float(at['distinct_entropy']):.2f}$"
    )
    later = flow.isel(time=slice(1, None))
    signal = decoder.gamma(later["time"].values, about["vocabulary"], about["decoder_rate"], about["classes"])
    speed = later["attention_speed"].values
    bottom.plot(later["multiple"], signal / signal.max(), color=RUST, label="$\\gamma$")
    bottom.plot(later["multiple"], speed / speed.max(), color=INDIGO, label="speed $\\Vert\\dot Z\\Vert$")
    bottom.axvline(1, **DOTTED)
    bottom.axvline(max(moment, 0.03), color=INK, lw=1.3)
    bottom.set(xscale="log", xlim=(0.03, 1000), ylim=(0, 1.1), xlabel="$t/t^*$", ylabel="over maximum")
    bottom.minorticks_off()
    blank = {
        "facecolor": "white",
        "edgecolor": "none",
        "pad": 1,
    }  # the line of the time passes behind the words
    for text, x, color in (("$\\gamma$", 0.16, RUST), ("speed $\\Vert\\dot Z\\Vert$", 0.72, INDIGO)):
        bottom.annotate(text, (x, 0.86), xycoords="axes fraction", color=color, bbox=blank)
    return fig
