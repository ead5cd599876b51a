"""Drawings of the notebook "Real text": labelled data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from learndyn.core.explorer import format_value
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, SEQUENTIAL, label_lines, shades, spread
from learndyn.core.text_training import uniform_causal_entropy
from learndyn.scan_snap import experiments_real_text as experiments
from learndyn.scan_snap.experiments_real_text_words import FREQUENCY_EDGES

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
#: Of `experiments.freeze_table`, with the signs and spaces of the prose.
FREEZE_FORMATS = {
    "entropy": "{:.2f}",
    "change": lambda value: f"{value:+.2f}".replace("-", "−"),
    "kept": lambda value: f"{100 * value:.0f} %",
}
_THIRDS = {0: ("least specific", AMBER), 1: ("middle", MUTED), 2: ("most specific third", INDIGO)}


def maps(found: xr.DataArray, title: str) -> Figure:
    """Figure 7: attention maps ``[snapshot, query_position, key_position]`` side by side."""
    count = found.sizes["snapshot"]
    fig, axes = plt.subplots(1, count, figsize=(7.0, 3.3), sharey=True, squeeze=False)
    for ax, step in zip(axes[0], found["snapshot"].values, strict=True):
        image = _heat(ax, found.sel(snapshot=step))
        ax.set_title(f"iteration {step}", fontsize=11)
        ax.set_xlabel("key position")
    axes[0, 0].set_ylabel("query position")
    fig.suptitle(title, x=0.02, ha="left")
    fig.colorbar(image, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, label="attention weight")
    return fig


def maps_beside(theirs: xr.DataArray, ours: xr.DataArray) -> Figure:
    """Figure 7, published maps above and ours below, each with its entropy and its share of decided rows."""
    rows = (("published", theirs), ("ours", ours))
    count = max(found.sizes["snapshot"] for _, found in rows)
    fig, axes = plt.subplots(2, count, figsize=(7.0, 5.3), sharex=True, sharey=True, squeeze=False)
    for line, (name, found) in zip(axes, rows, strict=True):
        numbers = experiments.map_statistics(found)
        for ax, step in zip(line, found["snapshot"].values, strict=False):
            here = numbers.sel(snapshot=step)
            image = _heat(ax, found.sel(snapshot=step))
            entropy = float(here["entropy"])
            words = (
                f"{entropy:.{2 if entropy > 0.1 else 3}f} nats\n{100 * float(here['decided']):.0f} % decided"
            )
            ax.annotate(words, (0.97, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=10)
            ax.set_title(f"iteration {step}", fontsize=11)
        line[0].set_ylabel(f"query, {name}")
    for ax in axes[1]:
        ax.set_xlabel("key")
    fig.colorbar(image, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, label="attention weight")
    ends = [float(experiments.map_statistics(found)["entropy"][-1]) for _, found in rows]
    fig.suptitle(f"At the end: published {ends[0]:.3f} nats, ours {ends[1]:.3f}", x=0.02, ha="left")
    return fig


def _heat(ax: Axes, weights: xr.DataArray) -> AxesImage:
    image = ax.imshow(weights, cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    ax.grid(False)
    ax.set_xticks([0, 10, 20, 30])
    ax.set_yticks([0, 10, 20, 30])
    return image


def map_frame(found: Mapping[str, xr.DataArray], run: str, iteration: int) -> Figure:
    """One frame of the explorer: a map, with the words of the keys that hold a row's larger half."""
    weights = found[run].sel(snapshot=iteration)
    fig, ax = plt.subplots(figsize=(5.2, 5.4))
    _heat(ax, weights)
    won = (weights > 0.5).sum("query_position").values
    winners = np.flatnonzero(won)
    for column in winners:
        word = str(weights["key_word"].values[column])
        ax.annotate(
            word if len(word) < 14 else f"{word[:12]}…",
            (column, -0.8),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=9,
            color=INK,
            annotation_clip=False,
        )
    entropy = float(experiments.map_statistics(weights)["entropy"])
    ax.set(xlabel="key position; words: keys that win a row", ylabel="query position")
    ax.set_title(f"{entropy:.2f} nats; {won.sum()} rows won by {len(winners)} keys", pad=74)
    return fig


def statistics(ours: xr.Dataset, theirs: xr.Dataset, rows: int) -> Figure:
    """The maps in numbers against the iteration: entropy and decided rows; ours lines, published circles."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
    for ax, name in ((left, "entropy"), (right, "decided")):
        ax.plot(ours["snapshot"], ours[name], color=INDIGO)
        ax.plot(theirs["snapshot"], theirs[name], "o", color=RUST, ms=7, mfc="none", mew=1.8)
        ax.set(xlabel="iteration")
    uniform = uniform_causal_entropy(rows)
    left.axhline(uniform, color=MUTED, lw=1, ls=":")
    left.annotate(f"uniform {uniform:.2f}", (0.98, uniform), xycoords=("axes fraction", "data"), ha="right",
                  va="bottom", color=MUTED, fontsize=10)  # fmt: skip
    left.set(yscale="log", ylabel="mean row entropy (nats)", ylim=(0.8e-2, 5))
    right.set(ylabel="share of rows decided", ylim=(-0.03, 1.06))
    right.annotate("line: ours", (0.04, 0.92), xycoords="axes fraction", color=INDIGO)
    right.annotate("circles: published", (0.04, 0.82), xycoords="axes fraction", color=RUST)
    ends = [float(stats["entropy"][-1]) for stats in (ours, theirs)]
    left.set_title(f"Ours ends at {ends[0]:.3f} nats, theirs at {ends[1]:.3f}")
    shares = [100 * float(stats["decided"][-1]) for stats in (ours, theirs)]
    right.set_title(f"{shares[0]:.0f} and {shares[1]:.0f} % of the rows have one key")
    return fig


def depth(one: xr.Dataset, deep: xr.Dataset, rows: int) -> Figure:
    """Attention entropy on the validation text against the iteration: one layer, and each of several."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    ax.axhline(uniform_causal_entropy(rows), color=MUTED, lw=1, ls=":", label="uniform")
    layers = deep.sizes["layer"]
    for layer, color in zip(reversed(range(layers)), shades(layers), strict=True):
        name = {0: "lowest", layers - 1: "highest"}.get(layer, f"number {layer + 1}")
        ax.plot(
            deep["evaluation"],
            deep["attention_entropy"].isel(run=0, layer=layer),
            color=color,
            label=f"{name} of {layers}",
        )
    ax.plot(one["evaluation"], one["attention_entropy"].isel(run=0, layer=0), color=RUST, label="one layer")
    ax.set(xlabel="iteration", ylabel="attention entropy (nats)", ylim=(0, 2.8))
    ends = deep["attention_entropy"].isel(run=0, evaluation=-1).values
    ax.set_title(f"Lowest of {layers} layers: {ends[0]:.2f} nats; the others: {ends[1:].min():.2f} or more")
    label_lines(ax)
    return fig


def figure10(runs: Mapping[str, xr.Dataset]) -> Figure:
    """Figure 10: entropy at the end against the learning rate, mean and standard deviation over seeds."""
    fig, ax = plt.subplots()
    for (name, run), color, marker in zip(
        runs.items(), (INDIGO, RUST, GREEN, PINE), ("o", "s", "D", "v"), strict=False
    ):
        end = experiments.by_rate(run).isel(evaluation=-1)
        ax.errorbar(
            end["rate"], end["mean"], yerr=end["std"], color=color, marker=marker, capsize=3,
            label=name.replace(", ", "\n").replace(": ", ":\n"),
        )  # fmt: skip
    ax.set(xlabel="learning rate", ylabel="attention entropy (nats)", ylim=(0, 2.75))
    rates = end["rate"].values
    ax.set_xticks(rates)
    falls = [experiments.by_rate(run)["mean"].isel(evaluation=-1).values for run in runs.values()]
    words = ", ".join(f"{fall[0]:.2f} → {fall[-1]:.2f}" for fall in falls)
    ax.set_title(f"From rate {rates[0]:g} to {rates[-1]:g}: {words}")
    label_errorbars(ax)
    return fig


def label_errorbars(ax: Axes) -> None:
    """Direct labels for the lines of error bars, whose names matplotlib keeps on their containers."""
    for container in ax.containers:
        container.lines[0].set_label(container.get_label())
    label_lines(ax, [container.lines[0] for container in ax.containers])


def time(archived: xr.Dataset, slow: xr.Dataset) -> Figure:
    """Entropy against the iteration, and against rate × iteration; mean over seeds, slow runs dashed."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.7), sharey=True)
    means, longer = (experiments.by_rate(run)["mean"] for run in (archived, slow))
    rates = means["rate"].values
    for rate, color in zip(rates, shades(len(rates)), strict=True):
        for ax, factor in ((left, 1.0), (right, rate)):
            part = means.sel(rate=rate).sel(evaluation=slice(20, None))
            ax.plot(factor * part["evaluation"], part, color=color, label=format_value(float(rate)))
    extended = longer.isel(rate=0).sel(evaluation=slice(20, None))
    for ax in (left, right):
        ax.plot(extended["evaluation"], extended, color=shades(len(rates))[0], ls="--", lw=1.5)
        ax.set(xscale="log", ylim=(0, 2.75))
    left.set(xlabel="iteration", ylabel="attention entropy (nats)")
    right.set(xlabel="rate × iteration")
    ends = means.isel(evaluation=-1).values
    left.set_title(f"Equal iterations: {ends[0]:.2f} to {ends[-1]:.2f} nats")
    right.set_title(f"Equal rate × iteration: {float(extended[-1]):.2f} to {ends[-1]:.2f} nats")
    _label_rates(right)
    return fig


def passes(short: xr.Dataset, long: xr.Dataset) -> Figure:
    """Entropy on a short and a longer text (dashed), and the gap of the losses, by rate."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.7))
    rates = np.unique(long["learning_rate"])
    for rate, color in zip(rates, shades(len(rates)), strict=True):
        for runs, style in ((short, "-"), (long, "--")):
            mean = experiments.at_rate(runs, float(rate))
            entropy = mean["attention_entropy"].isel(layer=0).mean("run")
            name = format_value(float(rate)) if runs is long else "_"
            left.plot(entropy["evaluation"], entropy, color=color, ls=style)
            gap = experiments.loss_gap(mean)
            right.plot(gap["evaluation"], gap, color=color, ls=style, label=name)
    for runs, style in ((short, "-"), (long, "--")):
        once = int(runs.attrs["steps_of_a_pass"])
        for ax in (left, right):
            ax.axvline(once, color=MUTED, lw=1, ls=style)
        left.annotate("read once", (once + 20, 0.05), color=MUTED, fontsize=9, rotation=90, va="bottom")
    left.set(xlabel="iteration", ylabel="attention entropy (nats)", ylim=(0, 2.75))
    right.set(xlabel="iteration", ylabel="validation − training loss (nats)")
    right.axhline(0, color=MUTED, lw=1, ls=":")
    largest = [experiments.at_rate(runs, float(rates[-1])) for runs in (short, long)]
    ends = [float(some["attention_entropy"].isel(layer=0, evaluation=-1).mean()) for some in largest]
    gaps = [float(experiments.loss_gap(some)[-1]) for some in largest]
    left.set_title(f"Rate {rates[-1]:g} ends at {ends[0]:.2f} and {ends[1]:.2f} nats")
    right.set_title(f"It overfits by {gaps[0]:.2f} and {gaps[1]:.2f} nats")
    _label_rates(right)
    return fig


def _label_rates(ax: Axes) -> None:
    """Rates at the ends of the lines that have one, with a word above them."""
    label_lines(ax, [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")])
    ax.annotate("rate", (1.0, 1.03), xycoords="axes fraction", ha="left", color=INK, fontsize=10.5)


# --- words ---


def word_gains(runs: xr.Dataset, steps: Sequence[int]) -> Figure:
    """Gain by frequency at some iterations, and by specificity along training: mean and std over seeds."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 4.0), sharey=True)
    bins = len(FREQUENCY_EDGES) + 1
    for step, color in zip(steps, shades(len(steps)), strict=True):
        part = runs["gain_by_frequency"].sel(evaluation=step)
        left.errorbar(
            range(bins), part.mean("run"), yerr=part.std("run", ddof=1), color=color, marker="o", capsize=3,
            label=f"{step}",
        )  # fmt: skip
    starts = [float(runs["gain_by_frequency"].sel(evaluation=step).mean("run")[0]) for step in steps]
    heights = spread(starts, 0.075, -0.7, 0.7)
    for step, height, color in zip(steps, heights, shades(len(steps)), strict=True):
        style = {"xytext": (-8, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
        left.annotate(f"{step}", (0, height), color=color, fontsize=10.5, **style)
    left.annotate("iteration", (0.02, 0.98), xycoords="axes fraction", color=INK, fontsize=10.5, va="top")
    left.set_xlim(-1.05, bins - 0.7)
    edges = ["0", *(f"{100 * edge:g}" for edge in FREQUENCY_EDGES), ""]
    names = [f"{low}–{high}" if high else f"> {low}" for low, high in pairwise(edges)]
    left.set_xticks(range(bins), names, fontsize=8.5)
    left.set(xlabel="frequency in the text (%)", ylabel="gain (nats)")
    for third, (name, color) in _THIRDS.items():
        part = runs["gain_by_specificity"].isel(third=third)
        mean, std = part.mean("run"), part.std("run", ddof=1)
        right.plot(part["evaluation"], mean, color=color, label=name)
        right.fill_between(part["evaluation"], mean - std, mean + std, color=color, alpha=0.15, lw=0)
    right.set(xlabel="iteration")
    for ax in (left, right):
        ax.axhline(0, color=MUTED, lw=1, ls=":")
    last = runs.isel(evaluation=-1).mean("run")
    often = float(last["gain_by_frequency"][-1])
    apart = float(last["gain_by_specificity"][-1] - last["gain_by_specificity"][0])
    left.set_title(f"Words above 1 %: gain {often:+.2f} nats".replace("-", "−"))
    left.set_ylim(top=1.45 * max(left.get_ylim()[1], right.get_ylim()[1]))
    right.set_title(f"Most less least specific: {apart:+.2f} nats".replace("-", "−"))
    for (name, color), y in zip(reversed(_THIRDS.values()), (0.97, 0.9, 0.83), strict=True):
        right.annotate(name, (0.04, y), xycoords="axes fraction", color=color, va="top", fontsize=10)
    return fig


def word_correlations(runs: xr.Dataset) -> Figure:
    """Rank correlations of a word's gain by rate, mean over seeds: with specificity, and with frequency."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.9), sharey=True)
    names = ("specificity_correlation", "specific_frequency_correlation")
    rates = np.unique(runs["learning_rate"])
    for ax, name in zip((left, right), names, strict=True):
        for rate, color in zip(rates, shades(len(rates)), strict=True):
            mean = experiments.at_rate(runs, float(rate))[name].mean("run")
            ax.plot(mean["evaluation"], mean, color=color, lw=1.6, label=f"{rate:g}")
        ax.axhline(0, color=MUTED, lw=1, ls=":")
        ax.set(xlabel="iteration")
    left.set_ylabel("rank correlation with the gain")
    peaks = [float(runs[name].groupby("learning_rate").mean("run").max()) for name in names]
    left.set_title(f"With specificity: up to {peaks[0]:.2f}")
    right.set_title(f"With frequency: up to {peaks[1]:.2f}")
    _label_rates(right)
    return fig


def word_scatter(run: xr.Dataset, step: int, named: int = 12) -> Figure:
    """Gain of single words at an iteration against their frequency; area: how often they can be attended."""
    fig, ax = plt.subplots(figsize=(7.0, 4.4))
    seen = np.flatnonzero(run["exposure"] > 3)
    gain = np.clip(run["gain"].isel(run=0, token=seen).sel(evaluation=step).values, -4, None)
    exposure, frequency, specific = (
        run[name].values[seen] for name in ("exposure", "frequency", "specificity")
    )
    picture = ax.scatter(
        frequency, gain, s=4 * np.sqrt(exposure), c=np.clip(specific, 0, 0.3), cmap=SEQUENTIAL, lw=0.4,
        edgecolor=MUTED,
    )  # fmt: skip
    ax.axhline(0, color=MUTED, lw=1, ls=":")
    ax.set(xscale="log", xlabel="frequency in the training text", ylabel="gain (nats)")
    ax.margins(x=0.09)
    moves = np.argsort(-np.abs(exposure * gain))
    _name_points(ax, frequency, gain, run["word"].values[seen], moves, named)
    fig.colorbar(picture, ax=ax, label="specificity (nats)", aspect=30)
    share = float(exposure[gain < 0].sum() / exposure.sum())
    ax.set_title(f"Iteration {step}: words with {100 * share:.0f} % of the exposure have lost attention")
    return fig


def _name_points(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: np.ndarray, order: np.ndarray, count: int
) -> None:
    """Name points in this order, passing over those whose name would run into one that is there."""
    ax.get_figure(root=True).draw_without_rendering()
    taken: list[tuple[float, float]] = []
    for index in order:
        place = tuple(ax.transData.transform((x[index], y[index])) / ax.get_figure(root=True).dpi)
        if len(taken) < count and all(abs(place[0] - a) > 0.75 or abs(place[1] - b) > 0.2 for a, b in taken):
            taken.append(place)
            style = {"xytext": (5, 3), "textcoords": "offset points", "fontsize": 10}
            ax.annotate(str(names[index]), (x[index], y[index]), **style)


def places(run: xr.Dataset, runs: xr.Dataset) -> Figure:
    """Whether attention goes to words or to places: what a shuffle leaves, and the weight of the word before.

    ``run``: one run; ``runs``: an ensemble over learning rates.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.8))
    overlap = run["shuffle_overlap"].isel(run=0)
    middle = overlap["evaluation"].values[-1] / 2
    for which, (color, name, below) in enumerate(
        ((INDIGO, "measured", -0.09), (MUTED, "if places counted", 0.11))
    ):
        curve = overlap.isel(compared=which)
        left.plot(overlap["evaluation"], curve, color=color)
        place = (middle, float(curve.interp(evaluation=middle)) + below)
        left.annotate(name, place, color=color, va="center")
    left.set(xlabel="iteration", ylabel="attention kept, word by word", ylim=(0, 1.03))
    left_over = 100 * overlap[-1].values
    left.set_title(f"A shuffle leaves {left_over[0]:.0f} %; if places counted, {left_over[1]:.0f} %")
    rates = np.unique(runs["learning_rate"])
    ends: list[float] = []
    for rate, color in zip(rates, shades(len(rates)), strict=True):
        before = experiments.at_rate(runs, float(rate))["places"].sel(place="previous").mean("run")
        right.plot(before["evaluation"], before, color=color, lw=1.6, label=f"{rate:g}")
        ends.append(float(before[-1]))
    uniform = experiments.uniform_own_weight(run.sizes["query_position"])
    right.axhline(uniform, color=MUTED, lw=1, ls=":")
    right.set(xlabel="iteration", ylabel="weight of the word before", ylim=(0, None))
    right.set_title(f"Word before: {ends[0]:.2f} to {ends[-1]:.2f}; uniform {uniform:.2f}")
    _label_rates(right)
    return fig
