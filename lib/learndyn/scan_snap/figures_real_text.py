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
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, SEQUENTIAL, label_lines, shades
from learndyn.core.text_training import uniform_causal_entropy
from learndyn.scan_snap import experiments_real_text as experiments
from learndyn.scan_snap.experiments_real_text_words import FREQUENCY_EDGES

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
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
    others = f"the others at {ends[1:].min():.2f} or more"
    ax.set_title(f"Of {layers} layers the lowest ends at {ends[0]:.2f} nats, {others}")
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
            end["rate"], end["mean"], yerr=end["std"], color=color, marker=marker, capsize=3, label=name
        )
    ax.set(xlabel="learning rate", ylabel="attention entropy (nats)", ylim=(0, 2.75))
    ax.set_xticks(end["rate"].values)
    falls = [experiments.by_rate(run)["mean"].isel(evaluation=-1).values for run in runs.values()]
    words = ", ".join(f"{fall[0]:.2f} → {fall[-1]:.2f}" for fall in falls)
    ax.set_title(f"From the least to the largest rate: {words}")
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
    left.set_title("At equal iterations …")
    right.set_title("… and at equal rate × iteration")
    label_lines(right, [line for line in right.get_lines() if not str(line.get_label()).startswith("_")])
    return fig


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
        place = {"xytext": (5, 0), "textcoords": "offset points", "fontsize": 10, "color": color}
        left.annotate(f"{step}", (0, float(part.mean("run")[0])), va="bottom", **place)
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
    left.set_title("Frequent words lose …")
    right.set_title("… and so do unspecific ones")
    for (name, color), y in zip(reversed(_THIRDS.values()), (0.97, 0.9, 0.83), strict=True):
        right.annotate(name, (0.04, y), xycoords="axes fraction", color=color, va="top", fontsize=10)
    return fig


def word_scatter(run: xr.Dataset, step: int, named: int = 7) -> Figure:
    """Gain of single words at an iteration against their frequency; area: how often they can be attended."""
    fig, ax = plt.subplots(figsize=(7.0, 4.4))
    seen = (run["exposure"] > 3).values
    gain = np.clip(run["gain"].isel(run=0).sel(evaluation=step).values[seen], -4, None)
    exposure, frequency = (run[name].values[seen] for name in ("exposure", "frequency"))
    specific = run["specificity"].values[seen]
    picture = ax.scatter(
        frequency, gain, s=4 * np.sqrt(exposure), c=np.clip(specific, 0, 0.3), cmap=SEQUENTIAL, lw=0.4,
        edgecolor=MUTED,
    )  # fmt: skip
    impact = exposure * gain
    order = np.argsort(impact)
    for index in {*order[:named], *order[-named:]}:
        ax.annotate(
            str(run["word"].values[seen][index]),
            (frequency[index], gain[index]),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=9.5,
        )
    ax.axhline(0, color=MUTED, lw=1, ls=":")
    ax.set(xscale="log", xlabel="frequency in the training text", ylabel="gain (nats)", ylim=(-4.2, None))
    fig.colorbar(picture, ax=ax, label="specificity (nats)", aspect=30)
    share = float(exposure[gain < 0].sum() / exposure.sum())
    ax.set_title(f"Iteration {step}: words with {100 * share:.0f} % of the exposure have lost")
    return fig


def places(run: xr.Dataset) -> Figure:
    """Whether attention goes to words or to places: what a shuffle leaves, and the weight of three places."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.7))
    overlap = run["shuffle_overlap"].isel(run=0)
    styles = {0: (INDIGO, "measured"), 1: (MUTED, "if places counted")}
    for which, (color, name) in styles.items():
        left.plot(overlap["evaluation"], overlap.isel(compared=which), color=color)
        at = overlap.isel(compared=which, evaluation=-1)
        left.annotate(name, (float(at["evaluation"]), float(at)), xytext=(0, -7 if which == 0 else 7),
                      textcoords="offset points", ha="right", va="top" if which == 0 else "bottom",
                      color=color)  # fmt: skip
    left.set(xlabel="iteration", ylabel="attention kept, word by word", ylim=(0, 1.03))
    left.set_title(f"A shuffle leaves {100 * float(overlap[-1, 0]):.0f} % of the attention")
    weights = run["places"].isel(run=0)
    for place, color in zip(weights["place"].values, (RUST, INDIGO, GREEN), strict=True):
        right.plot(weights["evaluation"], weights.sel(place=place), color=color)
    lines = {"own word": RUST, "word before": INDIGO, "first word": GREEN}
    for (name, color), y in zip(lines.items(), (0.97, 0.89, 0.81), strict=True):
        right.annotate(name, (0.04, y), xycoords="axes fraction", color=color, va="top", fontsize=10.5)
    right.set(xlabel="iteration", ylabel="mean attention weight", ylim=(0, 0.4))
    right.set_title("No place is favoured")
    return fig
