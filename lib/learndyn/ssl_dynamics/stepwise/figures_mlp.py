"""Drawings of the notebook "A small network takes the steps": labelled data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from learndyn.core import images, spectra
from learndyn.core.pairs import FixedPairs
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, shades
from learndyn.ssl_dynamics.stepwise import figures_networks as networks
from learndyn.ssl_dynamics.stepwise import published, tasks
from learndyn.ssl_dynamics.stepwise.settings_mlp import CloudMoment

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE


def task(pairs: FixedPairs, shown: int = 6) -> Figure:
    """Some pairs of noisy digits, one view above the other, and all eigenvalues of Γ below."""
    fig = plt.figure(figsize=(7.0, 5.4))
    above, below = fig.subfigures(2, 1, height_ratios=(1.0, 1.15))
    tiles = above.subplots(2, shown)
    digits = tasks.all_digits()
    mean = images.digits().as_float().mean(0)[0]
    for row, view, name in zip(tiles, (pairs.view_a, pairs.view_b), ("$x_i$", "$x_i'$"), strict=True):
        for ax, image in zip(row, view[:shown], strict=True):
            pixels = mean + digits.pixel_rms * image.reshape(8, 8)  # as before centring
            ax.imshow(pixels, cmap="gray_r", vmin=-0.1, vmax=1.05)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    ax = below.subplots()
    gamma = spectra.sorted_eigenvalues(spectra.cross_covariance(pairs.view_a, pairs.view_b)).numpy()
    number = np.arange(1, len(gamma) + 1)
    ax.bar(number, gamma, color=np.where(gamma > 0, INDIGO, RUST), width=0.8)
    reference = published.DIGITS_EIGENVALUES
    ax.plot(number[: len(reference)], reference, "o", mfc="none", mec=INK, ms=5)
    ax.annotate("circles: all 1,797 digits", (14, reference[3]), color=INK)
    negative = int((gamma < 0).sum())
    ax.set(xlabel="mode $j$", ylabel="eigenvalue $\\gamma_j$")
    ax.set_title(f"$\\Gamma$ falls off gently; {negative} of its {len(gamma)} eigenvalues are negative")
    return fig


def first_run(run: xr.Dataset, moments: Sequence[CloudMoment]) -> Figure:
    """Loss, eigenvalues of C and participation ratio of one run; the moments of the clouds are marked."""
    fig, axes = plt.subplots(3, 1, figsize=(5.6, 7.0), sharex=True, height_ratios=(1, 1.1, 1))
    networks.draw_loss(axes[0], run)
    networks.draw_eigenvalues(axes[1], run, "correlation", halves=axes[0])
    time, rank = run["effective_time"].values, networks.participation(run)
    axes[2].plot(time[1:], rank[1:], color=INDIGO)
    rate = float(run["learning_rate"])
    for moment in moments:
        axes[2].plot(rate * moment.step, moment.rank, "o", color=RUST)
        axes[2].annotate(
            str(moment.learned),
            (rate * moment.step, moment.rank),
            xytext=(5, -9) if moment.learned != 1 else (-3, 7),
            textcoords="offset points",
            color=RUST,
        )
    axes[0].set(ylabel="loss $\\|C-I\\|^2$")
    axes[0].set_yticks(range(0, run.sizes["mode"] + 1, 2))
    axes[1].set(ylabel="eigenvalues of $C$")
    axes[2].set(ylabel="participation ratio", xlabel="time $t$ (learning rate × step)")
    axes[2].yaxis.set_major_locator(FixedLocator(range(1, run.sizes["mode"] + 1)))
    networks.time_axis(axes[2], run)
    halves = np.sort(networks.half_times(run, "correlation"))
    axes[0].set_title(f"{run.sizes['mode']} steps, at {', '.join(f'{h:g}' for h in halves)}")
    axes[1].set_title("One eigenvalue after another goes from 0 to 1")
    axes[2].set_title(f"The rank falls to {rank.min():.2f}, then climbs")
    return fig


def scale_sweep(table: pd.DataFrame, reference: xr.Dataset) -> Figure:
    """Clean plateaus and half separation against the scale of the initialisation, earlier runs as circles."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.6))
    columns = {"plateaus": "clean_plateaus", "separation": "half_separation"}
    for ax, (column, name) in zip(axes, columns.items(), strict=True):
        mean = table.groupby("scale")[column].mean()
        ax.plot(mean.index, mean.values, color=INDIGO, zorder=1)
        ax.plot(table["scale"], table[column], "o", color=INDIGO)
        for seed in reference["seed"].values:
            values = reference[name].sel(seed=seed)
            ax.plot(1.07 * reference["scale"], values, "o", mfc="none", mec=MUTED, mew=0.9)
        ax.set(xscale="log", xlabel="scale $\\alpha$ of the initialisation")
        ax.set_xticks(mean.index, [f"{scale:g}" for scale in mean.index])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.invert_xaxis()
    mean = table.groupby("scale")[list(columns)].mean().sort_index(ascending=False)
    axes[0].set(ylabel="clean plateaus (of 7)", ylim=(-0.4, 7.4))
    axes[1].set(ylabel="half separation", yscale="log")
    axes[0].set_title(f"Plateaus: {mean.iloc[0, 0]:.1f} to {mean.iloc[-1, 0]:.1f} …")
    axes[1].set_title(f"… separation: {mean.iloc[0, 1]:.2f} to {mean.iloc[-1, 1]:.3f}")
    return fig


def clocks(table: pd.DataFrame) -> Figure:
    """First half time against the scale of the head alone, and of all layers, with the two laws."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
    head = table[table["layers"] == "head"].sort_values("scale")
    every = table[table["layers"] == "all"].sort_values("scale")
    left.plot(head["scale"], 1e3 * head["time"], "o", color=INDIGO)
    slope, level = np.polyfit(np.log10(head["scale"]), head["time"], 1)
    left.plot(head["scale"], 1e3 * (level + slope * np.log10(head["scale"])), color=MUTED, ls="--", lw=1.2)
    left.set(xscale="log", xlabel="scale of the head alone", ylabel="first half time, $10^{-3}$")
    left.set_ylim(bottom=0)
    left.set_title(f"{-1e3 * slope:.1f}$\\cdot10^{{-3}}$ per decade")
    right.plot(every["scale"], every["time"], "o", color=RUST)
    law = every["time"].iloc[0] * (every["scale"] / every["scale"].iloc[0]) ** -2.0
    right.plot(every["scale"], law, color=MUTED, ls="--", lw=1.2)
    right.set(xscale="log", yscale="log", xlabel="scale of all layers", ylabel="first half time")
    right.set_xticks(every["scale"], [f"{scale:g}" for scale in every["scale"]])
    right.xaxis.set_minor_formatter(NullFormatter())
    found = np.polyfit(np.log(every["scale"].iloc[:2]), np.log(every["time"].iloc[:2]), 1)[0]
    right.set_title(f"$\\propto\\alpha^{{{found:.1f}}}$ at the small end")
    return fig


def scale_free(theory: Mapping[str, xr.Dataset], standard: Mapping[str, xr.Dataset]) -> Figure:
    """Loss over its start, two scales each: the solvable Barlow Twins loss, and the standard one."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.5), sharey=True)
    for ax, runs, title in zip(
        axes,
        (theory, standard),
        ("$\\|C-I\\|^2$ feels the scale …", "… the standard loss does not"),
        strict=True,
    ):
        for (name, run), color, style in zip(runs.items(), (INDIGO, RUST), ("-", (0, (4, 4))), strict=True):
            # Gradient descent at scale α and rate η moves like one at scale 1 and rate η/α².
            clock = (run["effective_time"] / run["body_scale"] ** 2).values
            clock[0] = clock[1] / 2  # step 0 on a log axis
            ax.plot(clock, run["loss"] / run["loss"][0], color=color, ls=style, label=name)
        ax.set(xscale="log", xlabel="time $t/\\alpha^2$", title=title)
    axes[1].legend(loc="upper right")
    axes[0].set_ylabel("loss / loss at the start")
    return fig


def divergence(right: xr.Dataset, wrong: xr.Dataset, top: float = 16.0) -> Figure:
    """The losses of two learning rates, one of which is too large; the axis ends at ``top``."""
    fig, ax = plt.subplots()
    for run, color, place in ((right, INDIGO, (0.04, 0.08)), (wrong, RUST, (0.04, 0.85))):
        ax.plot(run["step"].values[1:], np.minimum(run["loss"].values[1:], 2 * top), color=color)
        words = f"learning rate {float(run['learning_rate']):g}"
        ax.annotate(words, place, xycoords="axes fraction", color=color)
    ax.set(xscale="log", xlabel="step", ylabel="loss", ylim=(-0.4, top))
    ax.set_title(
        f"At rate {float(wrong['learning_rate']):g} this run ends at step {int(wrong['status_step'])}"
    )
    return fig


def alignments(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table of NTK-predicted embeddings as points: kernel before and after training, published, chance."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    losses = {"barlow_twins": "barlow_twins_theory", "vicreg": "vicreg", "simclr": "ntxent"}
    for row, (name, ours) in enumerate(losses.items()):
        found = table[table["loss"] == ours]
        paper = reference[(reference["source"] == "published") & (reference["loss"] == name)]
        ax.plot(found["raw"], np.full(len(found), row), "o", color=INDIGO, ms=7)
        ax.plot(found["centred"], np.full(len(found), row + 0.16), "o", mfc="white", mec=INDIGO, ms=6)
        ax.plot(found["initial_raw"], np.full(len(found), row - 0.16), "s", color=PERIWINKLE, ms=6)
        ax.plot(paper["final_raw"], np.full(len(paper), row), "D", color=RUST, ms=7)
    chance = float(table["random"].iloc[0])
    ax.axvline(chance, color=MUTED, ls=":", lw=1.2)
    ax.annotate("chance", (chance, 1.5), xytext=(4, 0), textcoords="offset points", color=MUTED, va="center")
    ax.set_yticks(range(3), [networks.LOSS_NAMES[loss] for loss in losses.values()])
    ax.set(xlim=(0, 1.02), ylim=(2.5, -0.75), xlabel="alignment with the predicted embeddings")
    words = (("after training", INDIGO, 0.62), ("before", "#5a63a8", 0.44), ("paper, ResNet-50", RUST, 0.12))
    for text, color, x in words:
        ax.annotate(text, (x, -0.5), color=color, va="center")
    means = table.groupby("loss")["raw"].mean()
    ax.set_title(f"SimCLR: {means['ntxent']:.2f}; the others: {means.drop('ntxent').min():.2f} and more")
    return fig


# --- the explorer ---


def explorer_frame(
    run: xr.Dataset,
    scores: Float[np.ndarray, "view pair component"],
    reach: float,
    groups: Sequence[int],
    step: int,
) -> Figure:
    """Loss and eigenvalues of C with a marker at a step (left), the cloud of embeddings then (right).

    The places of the panels are fixed, which spares the layout of every frame, and the figure is narrow, so
    that its words can be read on a phone.
    """
    fig = plt.figure(figsize=(5.6, 4.0), layout="none")
    above, below = fig.add_axes((0.115, 0.56, 0.475, 0.34)), fig.add_axes((0.115, 0.135, 0.475, 0.34))
    steps = run["step"].values
    place = int(np.abs(steps - step).argmin())
    values = run["correlation_eigenvalues"].values
    above.plot(steps[1:], run["loss"].values[1:], color=INK, lw=1.7)
    above.plot(steps[place], run["loss"].values[place], "o", color=RUST, ms=7)
    for color, curve in zip(shades(values.shape[1])[::-1], values.T, strict=True):
        below.plot(steps[1:], curve[1:], color=color, lw=1.4)
    below.plot(np.full(values.shape[1], steps[place]), values[place], "o", color=RUST, ms=4)
    for ax, top in ((above, 10.4), (below, 1.3)):
        ax.axvline(steps[place], color=RUST, lw=0.9)
        ax.set(xscale="log", xlim=(1, 1000), ylim=(-0.04 * top, top))
        ax.xaxis.set_minor_locator(NullLocator())
        # Plain numbers, below alone: laying out powers of ten takes half of a frame's time.
        ax.xaxis.set_major_formatter("{x:g}" if ax is below else NullFormatter())
    above.set(ylabel="loss", yticks=range(0, 11, 4))
    below.set(ylabel="eigenvalues of $C$", xlabel="step")
    learned = int((values[place] > 0.5).sum())
    above.set_title(f"step {step}: {learned} of {values.shape[1]} learned")
    cloud = fig.add_axes((0.6, 0.1, 0.4, 0.76))
    networks.draw_cloud(cloud, scores, reach, groups)
    rank = float(spectra.participation_ratio(torch.tensor(run["covariance_eigenvalues"].values[place])))
    _note(cloud, f"rank {rank:.1f}")
    return fig


def _note(ax: Axes, text: str) -> None:
    ax.annotate(text, (0.5, 1.0), xycoords="axes fraction", ha="center", color=INK, fontsize=12)
