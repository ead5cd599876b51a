"""Drawings of the notebook "Where the story goes on": labelled data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learndyn.core.pairs import FixedPairs
from learndyn.core.plotting import INK, MUTED, PALETTE, label_lines, shades
from learndyn.ssl_dynamics.stepwise import growth, nuisance, potentials

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
DASHED = {"color": INK, "lw": 1.0, "ls": (0, (3, 3))}
LOSS_COLORS = {"barlow_twins": INDIGO, "vicreg": RUST, "simclr": GREEN}
LOSS_WORDS = {"barlow_twins": "Barlow Twins", "vicreg": "VICReg", "simclr": "SimCLR"}


def _first_positive(steps: np.ndarray) -> np.ndarray:
    """Times for a log axis: the start, which is 0, moves to half of the first time after it."""
    return np.where(steps > 0, steps, steps[steps > 0].min() / 2)


# Two features


def features(pairs: Mapping[str, FixedPairs], toys: Mapping[str, xr.Dataset]) -> Figure:
    """Above: one view of each toy, its two features apart; below: the eigenvalues of C in time."""
    fig, axes = plt.subplots(2, 2, figsize=(7.0, 5.2), height_ratios=[1, 1.7])
    words = {"extent": "Extent: 9 inputs against 1", "amplitude": "Amplitude: 3 against 1"}
    for column, (name, run) in enumerate(toys.items()):
        top, bottom = axes[:, column]
        views = pairs[name].view_a.numpy()
        view = views[int((views[:, 0] * views[:, -1]).argmin())]  # one whose two signs differ
        if name == "extent":
            top.bar(np.arange(1, len(view) + 1), view, color=[INDIGO] * (len(view) - 1) + [RUST], width=0.7)
        else:
            top.plot(np.arange(1, len(view) + 1), view, color=PINE, lw=1.2)
        top.set(xlabel="input", title=words[name])
        _mode_curves(bottom, run)
    axes[0, 0].set_ylabel("one view")
    axes[1, 0].set_ylabel("eigenvalue of $C$")
    return fig


def _mode_curves(ax: Axes, run: xr.Dataset) -> None:
    times = _first_positive(run["effective_time"].values)
    for mode, color in ((1, INDIGO), (2, RUST)):
        ax.plot(times, run["correlation_eigenvalues"].sel(mode=mode), color=color, lw=4, alpha=0.5)
        ax.plot(times, run["theory"].sel(mode=mode), **DASHED)
    half = run["half_time"].values
    ax.set(xscale="log", xlabel="time $t$", ylim=(-0.05, 1.1), xlim=(half[0] / 12, half[1] * 4))
    ax.set_title(f"Half times 1 : {half[1] / half[0]:.1f}")


# Shuffled positives


def shuffled_linear(logs: Mapping[str, xr.Dataset]) -> Figure:
    """Loss and spectrum of Γ of the linear toy, with the pairs as they are and with shuffled positives."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
    for (_, log), color, words in zip(logs.items(), (INDIGO, RUST), ("true", "shuffled"), strict=True):
        times = log["effective_time"].isel(run=0).values
        left.plot(_first_positive(times), log["loss"].isel(run=0), color=color, label=words)
        spectrum = log["spectrum"].values
        for part, style in ((spectrum, "-"), (-spectrum[::-1], (0, (2, 2)))):
            kept = part[part > 1e-9 * spectrum.max()]
            label = f"{words}, {'positive' if part is spectrum else 'negative'}"
            right.plot(np.arange(1, len(kept) + 1), kept, color=color, ls=style, lw=1.5, label=label)
    start = min(float(log["half_time"].min()) for log in logs.values())
    left.set(xscale="log", xlabel="time $t$", ylabel="loss", xlim=(start / 5, None))
    right.set(xlabel="rank by magnitude", ylabel="|eigenvalue of $\\Gamma$|", xscale="log", yscale="log")
    right.set_ylim(bottom=float(logs["true"]["spectrum"].max()) * 1e-5)
    delay = logs["shuffled"]["half_time"].isel(run=0) / logs["true"]["half_time"].isel(run=0)
    left.set_title(f"Steps {float(delay.min()):.0f} to {float(delay.max()):.0f} times later")
    right.set_title("A smaller, flatter $\\Gamma$")
    left.annotate("true", (0.05, 0.1), xycoords="axes fraction", color=INDIGO)
    left.annotate("shuffled", (0.95, 0.9), xycoords="axes fraction", color=RUST, ha="right")
    return fig


def shuffled_mlp(logs: Mapping[str, xr.Dataset]) -> Figure:
    """Loss, eigenvalues of C (first seed) and k-NN accuracy (all seeds) of the MLP on the digits."""
    fig, axes = plt.subplots(3, 1, figsize=(5.6, 7.6), sharex=True)
    for (words, log), color in zip(logs.items(), (INDIGO, RUST), strict=True):
        steps = _first_positive(log["step"].values)
        for run in range(log.sizes["run"]):
            axes[0].plot(steps, log["loss"].isel(run=run), color=color, lw=1.4)
            axes[2].plot(
                _first_positive(log["checkpoint_step"].values),
                log["knn"].isel(run=run),
                color=color,
                marker="o",
                ms=3,
                lw=1.2,
                label=words if run == 0 else "_",
            )
        axes[1].plot(steps, log["correlation_eigenvalues"].isel(run=0), color=color, lw=1.2)
    last = float(next(iter(logs.values()))["step"][-1])
    axes[0].set(ylabel="loss", xscale="log", xlim=(4, last), title="Both losses go down a staircase")
    axes[1].set(ylabel="eigenvalues of $C$", ylim=(-0.1, 1.3))
    axes[2].set(ylabel="k-NN accuracy", xlabel="step")
    ends = [float(log["knn"].isel(checkpoint=-1).mean()) for log in logs.values()]
    axes[1].set_title("All modes but the first are learned later")
    axes[2].set_title(f"k-NN: {ends[0]:.2f} with true, {ends[1]:.2f} with shuffled pairs")
    label_lines(axes[2])
    return fig


# VICReg and nuisance


def nuisance_planes(log: xr.Dataset) -> Figure:
    """Energy of W in the shared and in the nuisance plane, one panel per loss, one thin line per seed."""
    planes = log["energy"].groupby("plane").sum()
    steps = _first_positive(log["step"].values)
    names = [str(name) for name in log["loss"].values]
    fig, axes = plt.subplots(len(names), 1, figsize=(5.6, 2.2 * len(names)), sharex=True, sharey=True)
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        for plane, color in (("shared", INDIGO), ("nuisance", RUST)):
            curves = planes.sel(loss=name, plane=plane)
            for seed in curves["seed"].values:
                ax.plot(steps, curves.sel(seed=seed), color=color, lw=0.7, alpha=0.6)
            ax.plot(steps, curves.median("seed"), color=color, lw=2.0, label=plane)
        total = planes.sel(loss=name).sum("plane")
        grown = (total > 100 * total.isel(step=0)).argmax("step")
        share = (planes.sel(loss=name, plane="nuisance") / total).isel(step=grown).median("seed")
        ax.set(xscale="log", yscale="log", ylabel="$\\|W\\|^2$ in plane", ylim=(1e-11, 30))
        ax.set_title(f"{name}: first growth {100 * float(share):.0f} % nuisance")
        label_lines(ax)
    np.atleast_1d(axes)[-1].set_xlabel("step")
    return fig


def nuisance_threshold(sweep: xr.Dataset) -> Figure:
    """Initial growth rates and the largest nuisance share, against inv/var."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6), sharex=True)
    ratio, names = sweep["ratio"].values, ("shared", "shared", "nuisance", "nuisance")
    for column, name in enumerate(names):
        color = INDIGO if name == "shared" else RUST
        left.plot(ratio, sweep["predicted"].isel(input=column), **DASHED)
        left.plot(ratio, sweep["growth"].isel(input=column), "o", color=color, ms=4)
    right.plot(ratio, sweep["peak_share"], "o-", color=RUST)
    threshold, overtaking = growth.vicreg_threshold(), nuisance.overtaking_ratio(1.0, 1.7)
    for ax in (left, right):
        ax.axvline(threshold, color=MUTED, lw=1, ls=":")
        ax.axvline(overtaking, color=MUTED, lw=1, ls=":")
        ax.set_xlabel("inv / var")
    left.axhline(0, color=MUTED, lw=0.8)
    left.set(ylabel="initial e-folding rate")
    right.set(ylabel="largest nuisance share", ylim=(-0.03, 1.05))
    fastest, slowest = (float(sweep["predicted"].isel(ratio=0, input=column)) for column in (2, 1))
    left.annotate("nuisance", (ratio[0], fastest), color=RUST, xytext=(14, 0), textcoords="offset points")
    left.annotate("shared", (ratio[0], slowest), color=INDIGO, xytext=(0, -14), textcoords="offset points")
    right.annotate(
        f"{overtaking:.1f}",
        (overtaking, 0.25),
        color=MUTED,
        ha="right",
        xytext=(-3, 0),
        textcoords="offset points",
    )
    right.annotate(
        f"{threshold:.0f}", (threshold, 0.85), color=MUTED, xytext=(3, 0), textcoords="offset points"
    )
    left.set_title(f"Nuisance grows below {threshold:.0f} …")
    right.set_title(f"… and leads below {overtaking:.1f}")
    return fig


# Early modes


def accuracy_by_rank(
    runs: Mapping[str, xr.Dataset], reference: pd.DataFrame, pixels: float, dimensions: int
) -> Figure:
    """k-NN and linear-probe accuracy against the participation ratio, along the first run of each loss."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 4.0), sharex=True, sharey=True)
    for ax, what, words in zip(axes, ("knn", "linear_probe"), ("k-NN", "linear probe"), strict=True):
        for name, run in runs.items():
            rank, value = (run[part].isel(run=0).values for part in ("participation_ratio", what))
            turn = int(rank.argmin())
            style = {"color": LOSS_COLORS[name], "lw": 1.5}
            ax.plot(rank[: turn + 1], value[: turn + 1], ls=(0, (1, 1.5)), **style)
            ax.plot(rank[turn:], value[turn:], marker="o", ms=3, label=LOSS_WORDS[name], **style)
            ax.plot(rank[0], value[0], "s", color=INK, ms=5.5, zorder=4)
        ax.set(xlabel="participation ratio", title=words, xlim=(0.5, dimensions + 0.5))
    axes[0].plot(
        reference["participation_ratio"], reference["accuracy"], "x", color=INK, ms=5, label="_earlier run"
    )
    axes[0].axhline(pixels, color=MUTED, lw=1, ls=":")
    axes[0].annotate("pixels", (dimensions, pixels), color=MUTED, ha="right", va="bottom", fontsize=9.5)
    axes[0].set_ylabel("test accuracy")
    low = [
        min(float(run[what].isel(run=0).min()) for run in runs.values()) for what in ("knn", "linear_probe")
    ]
    axes[0].set_title(f"k-NN dips to {low[0]:.2f}")
    axes[1].set_title(f"Linear probe: {low[1]:.2f} at least")
    handles, labels = axes[1].get_legend_handles_labels()
    axes[1].legend(handles, labels, loc="lower right")
    return fig


def accuracy_by_step(runs: Mapping[str, xr.Dataset]) -> Figure:
    """The same against the step, with the participation ratio below."""
    fig, axes = plt.subplots(2, 1, figsize=(5.6, 5.4), sharex=True)
    for name, run in runs.items():
        steps = _first_positive(run["step"].values)
        for number in range(run.sizes["run"]):
            style = {"color": LOSS_COLORS[name], "lw": 1.4, "marker": "o", "ms": 2.6}
            label = LOSS_WORDS[name] if number == 0 else "_"
            axes[0].plot(steps, run["knn"].isel(run=number), label=label, **style)
            axes[1].plot(steps, run["participation_ratio"].isel(run=number), label=label, **style)
    axes[0].set(ylabel="k-NN accuracy", xscale="log", title="The dip comes with the collapse of rank …")
    axes[1].set(ylabel="participation ratio", xlabel="step", title="… and goes as the rank returns")
    for ax in axes:
        label_lines(ax)
    return fig


# Speed and selectivity


def speed_and_selectivity(found: xr.Dataset, reference: xr.Dataset, random: float) -> Figure:
    """Alignment, norm ratio and steps to the last half time, against the exponent."""
    fig, axes = plt.subplots(1, 3, figsize=(7.0, 3.4))
    p = found["exponent"].values
    for ax, name in zip(axes, ("alignment", "norm_ratio", "steps"), strict=True):
        values = found[name]
        ax.fill_between(p, values.min("seed"), values.max("seed"), color=PERIWINKLE, alpha=0.35, lw=0)
        ax.plot(p, values.median("seed"), "o-", color=INDIGO)
        if name in reference:
            ax.plot(reference["exponent"], reference[name], "x", color=RUST, ms=6)
        ax.set(xlabel="exponent $p$")
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes[0].axhline(random, color=MUTED, lw=1, ls=":")
    axes[0].annotate("random", (0, random), color=MUTED, va="bottom", fontsize=9.5)
    axes[0].set(ylim=(0, 1.05), ylabel="alignment with the top 4", title="Selectivity lost")
    axes[1].set(yscale="log", ylabel="$\\|W\\|^2$ / least", title="Larger weights")
    axes[1].set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes[1].minorticks_off()
    steps = found["steps"].median("seed").values
    axes[2].set(ylabel="steps to the last half time", title=f"{steps[0] / steps[-1]:.1f}× faster")
    axes[2].set_ylim(bottom=0)
    return fig


def preconditioner_frame(run: xr.Dataset, exponent: float, horizon: float) -> Figure:
    """One frame of the explorer: eigenvalues in time, and what the learned subspace consists of."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.4))
    modes = run.sizes["mode"]
    for mode, color in zip(range(modes), shades(modes), strict=True):
        left.plot(run["steps"], run["eigenvalues"].isel(mode=mode), color=color)
    left.set(xlim=(0, horizon), ylim=(-0.03, 1.08), xlabel="steps", ylabel="eigenvalues of $C$")
    share = run["share"].values
    colors = [INDIGO] * modes + [RUST] * (len(share) - modes)
    right.bar(np.arange(1, len(share) + 1), share, color=colors, width=0.75)
    right.set(ylim=(0, 1.05), xlabel="eigenmode of $\\Gamma$", ylabel="share that is learned")
    right.set_xticks(np.arange(1, len(share) + 1))
    left.set_title(f"$p={exponent:g}$: last step at {float(run['last_step']):.0f}")
    right.set_title(f"Alignment {float(run['alignment']):.3f}")
    return fig


# Depth


def clocks(scaling: xr.Dataset, knobs: xr.Dataset) -> Figure:
    """Left: half time against α for one and two layers; right: two layers whose scales differ."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.9))
    scale = scaling["scale"].values
    for layers, color in zip(scaling["layers"].values, (INDIGO, RUST), strict=True):
        at = scaling.sel(layers=layers)
        left.plot(scale, at["law"], **DASHED)
        left.plot(scale, at["exact"], color=color, lw=1.4)
        left.plot(scale, at["measured"].T, "o", color=color, ms=4.5)
        left.annotate(
            f"{layers} layer{'s' if layers > 1 else ''}",
            (scale.min(), float(at["measured"].max())),
            color=color,
            xytext=(10, -4 if layers == 2 else 2),
            textcoords="offset points",
        )
    left.set(xscale="log", yscale="log", xlabel="scale $\\alpha$ of all layers", ylabel="half time of mode 1")
    for body, color in zip(knobs["body"].values, shades(knobs.sizes["body"]), strict=True):
        at = knobs.sel(body=body)
        label = f"$\\alpha_\\mathrm{{body}}={body:g}$"
        right.plot(knobs["head"], at["exact"], color=color, label=label)
        right.plot(knobs["head"], at["measured"], "o", color=color, ms=4)
    right.set(xscale="log", yscale="log", xlabel="$\\alpha_\\mathrm{head}$", ylabel="half time")
    left.set_xticks(scale, [f"{value:g}" for value in scale])
    left.minorticks_off()
    left.set_title(f"Two layers: $\\alpha^{{{scaling_exponent(scaling):.2f}}}$".replace("-", "−"))
    right.set_title("The body sets the clock")
    handles, labels = right.get_legend_handles_labels()
    right.legend(handles[::-1], labels[::-1], loc="lower left", fontsize=9.5)
    return fig


def scaling_exponent(scaling: xr.Dataset) -> float:
    """The measured power of α with which two layers wait."""
    measured = np.log(scaling["measured"].sel(layers=2)).mean("seed")
    return float(np.polyfit(np.log(scaling["scale"].values), measured.values, 1)[0])


# Temperature


def temperature(table: pd.DataFrame) -> Figure:
    """Alignment of SimCLR's embeddings with the prediction, against the temperature."""
    fig, ax = plt.subplots()
    for name, color in (("raw", INDIGO), ("centred", RUST)):
        ax.plot(table["temperature"], table[name], "o-", color=color, label=name)
    ax.axhline(float(table["random"].iloc[0]), color=MUTED, lw=1, ls=":")
    ax.annotate(
        "random", (table["temperature"].min(), float(table["random"].iloc[0])), color=MUTED, va="bottom"
    )
    ax.set(xlabel="temperature $T$", ylabel="alignment $a(P_\\mathrm{exp},P_\\mathrm{th})$", ylim=(0, 1))
    first, last = (float(table["raw"].iloc[i]) for i in (0, -1))
    ax.set_title(f"From {first:.2f} to {last:.2f} as the temperature rises")
    label_lines(ax)
    return fig


# The same shape elsewhere


def two_flows(weight_decay: float) -> Figure:
    """Velocities of a singular value here, and of a predictor's eigenvalue in non-contrastive learning."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6), sharey=True)
    s = torch.linspace(-1.25, 1.25, 300, dtype=torch.float64)
    left.plot(s, potentials.ssl_flow(s), color=INDIGO)
    p = torch.linspace(-0.25, 1.15, 300, dtype=torch.float64)
    right.plot(p, potentials.predictor_flow(p, 0.0), color=PERIWINKLE, label="$\\eta=0$")
    right.plot(p, potentials.predictor_flow(p, weight_decay), color=RUST, label=f"$\\eta={weight_decay:g}$")
    _points(left, stable=(-1, 1), unstable=(0,))
    points = potentials.predictor_fixed_points(weight_decay)
    stable, unstable = ((0.0,), ()) if points is None else ((0.0, points[1]), (points[0],))
    _points(right, stable=stable, unstable=unstable)
    for ax in (left, right):
        ax.axhline(0, color=MUTED, lw=0.8)
    left.set(xlabel="singular value $s$", ylabel="velocity", ylim=(-0.62, 0.62))
    right.set(xlabel="predictor eigenvalue $p$")
    left.set_title("Here: 0 repels")
    right.set_title("With a predictor: 0 attracts")
    label_lines(right)
    return fig


def _points(ax: Axes, stable: tuple[float, ...], unstable: tuple[float, ...]) -> None:
    ax.plot(stable, np.zeros(len(stable)), "o", color=INK, ms=7, zorder=4)
    ax.plot(unstable, np.zeros(len(unstable)), "o", mfc="white", mec=INK, ms=7, zorder=4)
