"""Drawings of the notebook "Exactly solvable self-supervised learning": labelled data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from learndyn.core.explorer import format_value
from learndyn.core.pairs import FixedPairs
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, label_lines, shades
from learndyn.ssl_dynamics.stepwise import linear, potentials
from learndyn.ssl_dynamics.stepwise.settings_linear import (
    Cloud,
    half_times,
    predicted_times,
    theory_eigenvalues,
)

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
_DASHED = {"color": INK, "lw": 1.0, "ls": (0, (4, 3)), "zorder": 3}
_BROAD = {"lw": 3.4, "alpha": 0.55}  # so that a dashed line on top is seen
TIME = "effective time $t$ (learning rate × steps)"


def _power(value: float) -> str:
    """A number with one digit, as a reader wants it."""
    return format_value(float(f"{value:.0e}"))


def two_modes(gamma: Sequence[float], scales: Sequence[float]) -> Figure:
    """Closed form for two modes: the loss from starts of several scales, and the eigenvalues of C."""
    fig, (top, bottom) = plt.subplots(2, 1, figsize=FIGURE_SIZES["tall"], sharex=True)
    times = torch.logspace(-2, 2, 600, dtype=torch.float64)
    values = torch.tensor(gamma, dtype=torch.float64)
    for color, scale in zip(shades(len(scales)), scales, strict=True):
        start = torch.full_like(values, scale)
        curves = linear.correlation_eigenvalues(times, values, start)
        top.plot(times, linear.loss(curves), color=color, label=format_value(scale))
        for j in range(len(values)):
            bottom.plot(times, curves[:, j], color=color, ls="-" if j == 0 else (0, (5, 2)))
    top.legend(title="start $s_j(0)$", loc="lower left")
    bottom.annotate(f"$\\gamma_1={gamma[0]:g}$ (solid)", (0.012, 0.9), fontsize=10)
    bottom.annotate(f"$\\gamma_2={gamma[1]:g}$ (dashed)", (0.012, 0.78), fontsize=10)
    top.set(xscale="log", ylabel="loss", title="The smaller the start, the clearer the two steps")
    bottom.set(xlabel="time $t$", ylabel="eigenvalues of $C$", title="Each step is one eigenvalue going to 1")
    return fig


def views(pairs: FixedPairs, count: int = 7) -> Figure:
    """Some positive pairs as pictures, colours stretched to what can be shown."""
    fig, axes = plt.subplots(2, count, figsize=(7.0, 2.4))
    for row, batch in zip(axes, pairs.evaluation(), strict=True):
        for ax, image in zip(row, batch[:count], strict=True):
            low, high = image.min(), image.max()
            ax.imshow(((image - low) / (high - low)).permute(1, 2, 0))
            ax.axis("off")
    fig.suptitle("Above and below: two views of one patch", x=0.01, ha="left")
    return fig


# --- why small starts wait ---


def symmetry(flows: xr.Dataset) -> Figure:
    """The two potentials with arrows along the flow, and what starts near 0 do in each."""
    fig, axes = plt.subplots(2, 2, figsize=(7.0, 5.6), sharey="row")
    panels = {
        "supervised": (
            "one valley",
            (-0.2, 1.35),
            potentials.supervised_potential,
            potentials.supervised_flow,
            [0.0, 0.3, 0.6],
        ),
        "self-supervised": (
            "a ridge at 0",
            (-1.35, 1.35),
            potentials.ssl_potential,
            potentials.ssl_flow,
            [-0.8, -0.5, -0.2, 0.2, 0.5, 0.8],
        ),
    }
    for column, (kind, (shape, limits, potential, flow, places)) in enumerate(panels.items()):
        ax, below = axes[:, column]
        color = (INDIGO, RUST)[column]
        s = torch.linspace(*limits, 300, dtype=torch.float64)
        ax.plot(s, potential(s), color=color)
        for place in places:
            here = torch.tensor([place], dtype=torch.float64)
            there = here + 0.16 * torch.sign(flow(here))
            ends = [(float(x), float(potential(x)) + 0.035) for x in (here, there)]
            ax.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.1})
        ax.set(xlabel="$s$", title=f"{kind.capitalize()}: {shape}")
        for start in flows["start"].values:
            curve = flows["s"].sel(kind=kind, start=start)
            below.plot(flows["time"], curve, color=color, alpha=0.85, lw=1.5)
        below.set(xlabel="time (rescaled units)")
    axes[0, 0].set(ylabel="potential $V(s)$", ylim=(-0.32, 0.75))
    axes[1, 0].set(ylabel="$s(t)$")
    axes[1, 0].set_title("One goal, reached at once")
    axes[1, 1].set_title("A wait, then the goal on the start's side")
    return fig


def closed_form(flow: xr.Dataset) -> Figure:
    """Eigenvalues of C of the matrix flow (colours) and those of Prop. 4.1 (dashed)."""
    fig, ax = plt.subplots()
    for color, j in zip(shades(flow.sizes["mode"]), range(flow.sizes["mode"]), strict=True):
        ax.plot(flow["time"], flow["integrated"][:, j], color=color, **_BROAD)
        ax.plot(flow["time"], flow["closed_form"][:, j], **_DASHED)
        tau = float(flow["critical_time"][j])
        ax.axvline(tau, color=MUTED, lw=0.9, ls=":", zorder=0)
        at = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
        ax.annotate(f"$\\tau_{j + 1}$", (tau, 1.01), **at)
    ax.set(xlim=(0, 2.6), xlabel="time $t$", ylabel="eigenvalues of $C$")
    ax.set_title(
        f"Matrix flow and closed form: entries of $W$ agree to {_power(flow.attrs['entry_gap'])}", pad=22
    )
    return fig


def sharpening(scales: Sequence[float], gamma: float = 1.0) -> Figure:
    """One step on its own clock t/τ from starts of many scales: relative widths shrink as 1/log."""
    fig, ax = plt.subplots()
    clock = torch.logspace(-0.6, 0.4, 400, dtype=torch.float64)
    value = torch.tensor([gamma], dtype=torch.float64)
    widths = []
    for color, scale in zip(shades(len(scales)), scales, strict=True):
        start = torch.tensor([scale], dtype=torch.float64)
        tau = linear.critical_times(value, start)
        widths.append(float(linear.step_widths(value) / tau))
        label = f"{format_value(scale)}: {100 * widths[-1]:.0f} %"
        ax.plot(
            clock, linear.correlation_eigenvalues(clock * tau, value, start)[:, 0], color=color, label=label
        )
    ax.set(xscale="log", xlabel="$t/\\tau$", ylabel="eigenvalue of $C$")
    ax.set_xticks([0.25, 0.5, 1, 2], ["¼", "½", "1", "2"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(title="start: 10–90 % width / $\\tau$", loc="upper left")
    ax.set_title("A start a million times smaller: steps a few times sharper")
    return fig


def overtaking(flow: xr.Dataset) -> Figure:
    """Sorted eigenvalues of C of a run in which a later mode overtakes, and the closed form by mode."""
    fig, ax = plt.subplots()
    order = np.argsort(flow["critical_time"].values)
    for j, color in enumerate((PERIWINKLE, AMBER, GREEN)[: flow.sizes["mode"]]):
        ax.plot(flow["time"], flow["integrated"][:, j], color=color, lw=5, alpha=0.8)
        curve = flow["closed_form"][:, j]
        ax.plot(flow["time"], curve, **_DASHED)
        place = int(np.argmax(curve.values > 10.0 ** (-1.2 - 0.9 * j)))
        at = (float(flow["time"][place]), float(curve[place]))
        words = f"$\\gamma={float(flow['eigenvalue'][j]):g}$"
        place = {"xytext": (-6, 2), "ha": "right"} if j == 0 else {"xytext": (6, -5)}
        ax.annotate(words, at, textcoords="offset points", **place)
    ax.set(yscale="log", xlabel="time $t$", ylabel="eigenvalues of $C$", ylim=(1e-12, 4))
    learned = ", ".join(f"{flow['eigenvalue'].values[j]:g}" for j in order)
    ax.set_title(f"Learned in the order $\\gamma$ = {learned}")
    return fig


# --- Figure 1 ---


def staircase(run: xr.Dataset) -> Figure:
    """Figure 1A,B: loss (above) and eigenvalues of C (below) of one run; dashed: theory."""
    fig, (top, bottom) = plt.subplots(2, 1, figsize=FIGURE_SIZES["tall"], sharex=True)
    time = run["effective_time"].values
    tau = predicted_times(run.expand_dims("run"))[0]
    shown = time > 0.15 * tau[0]
    modes = run.sizes["mode"]
    theory = theory_eigenvalues(run)
    for ax in (top, bottom):
        for value in tau:
            ax.axvline(value, color=MUTED, lw=0.9, ls=":", zorder=0)
    top.plot(time[shown], run["loss"].values[shown], color=INDIGO, **_BROAD)
    top.plot(time[shown], linear.loss(theory)[shown], **_DASHED)
    for j, color in enumerate(shades(modes)):
        bottom.plot(time[shown], run["correlation_eigenvalues"].values[shown, j], color=color, **_BROAD)
        bottom.plot(time[shown], theory[shown, j], **_DASHED)
    top.yaxis.set_major_locator(MaxNLocator(integer=True))
    top.set(xscale="log", ylabel="loss", ylim=(-0.03 * modes, 1.05 * modes))
    top.set_xlim(time[shown][0], 1.6 * tau[-1])
    bottom.set(xlabel=TIME, ylabel="eigenvalues of $C$")
    top.set_title(f"Loss: from {run['loss'].values[0]:.3g} down to {_power(run['loss'].values[-1])}")
    bottom.set_title("Eigenvalues: trained (solid), predicted (dashed)")
    return fig


def beside_published(published: pd.DataFrame, run: xr.Dataset) -> Figure:
    """Two staircases on one axis: the ideal one of the published critical times, and ours."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    times = np.geomspace(1e-3, 5, 1500)
    steps = (published["critical_time"].to_numpy()[:, None] > times).sum(0)
    ax.plot(times, steps, color=RUST)
    time = run["effective_time"].values
    ax.plot(time[1:], run["loss"].values[1:], color=INDIGO)
    for value in predicted_times(run.expand_dims("run"))[0]:
        ax.plot([value], [-0.35], "|", color=INDIGO, ms=8)
    ax.plot(published["critical_time"], np.full(len(published), -0.8), "|", color=RUST, ms=8)
    words = ((0.03, 0.12, "ours", INDIGO), (0.03, 0.24, "published times", RUST))
    for x, y, text, color in words:
        ax.annotate(text, (x, y), xycoords="axes fraction", color=color)
    ax.set(xscale="log", xlabel=TIME, ylabel="loss", xlim=(1e-3, 5))
    tau = predicted_times(run.expand_dims("run"))[0]
    ratios = published["critical_time"].iloc[-1] / published["critical_time"].iloc[0], tau[-1] / tau[0]
    ax.set_title(f"Last over first critical time: {ratios[0]:.0f} published, {ratios[1]:.0f} ours")
    return fig


def clouds(found: Sequence[Cloud]) -> Figure:
    """Embeddings in the middle of plateaus 0, 1, 2, 3, on the leading principal axes of the last."""
    fig = plt.figure(figsize=(7.0, 6.6))
    limit = 1.05 * max(np.quantile(np.abs(cloud.points), 0.98) for cloud in found)
    words = ("a point", "a line", "a plane", "space")
    for place, cloud in enumerate(found):
        ax = fig.add_subplot(2, 2, place + 1, projection="3d")
        x, y, z = np.clip(cloud.points, -limit, limit).T
        ax.scatter(x, y, z, s=4, c=z, cmap="mako_r", vmin=-1.3 * limit, vmax=limit, alpha=0.7, lw=0)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit))
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_major_locator(MaxNLocator(3, integer=True))
            axis.set_pane_color((1, 1, 1, 1))
        ax.tick_params(labelsize=10.5, pad=-2)
        rank = int((cloud.variances > 0.2).sum())
        ax.set_title(f"{cloud.plateau} learned: {words[min(rank, 3)]}", y=0.99)
        ax.view_init(22, -55)
        ax.set_box_aspect(None, zoom=1.0)
    return fig


# --- discrete descent ---


def delays(found: xr.Dataset) -> Figure:
    """Half times of gradient descent over the flow's critical times, and the predicted delay (dashed)."""
    fig, ax = plt.subplots()
    fraction = found["fraction"].values
    for j, color in enumerate((INDIGO, RUST, GREEN)[: found.sizes["mode"]]):
        ax.plot(fraction, found["measured"][:, j], "o-", color=color, label=f"mode {j + 1}")
        ax.plot(fraction, found["predicted"][:, j], **_DASHED)
    ax.axhline(1, color=MUTED, lw=0.8)
    ax.set(xlabel="learning rate over the stability bound", ylabel="half time / $\\tau$ of the flow")
    ax.set_title("Finite steps delay the fastest mode most")
    label_lines(ax)
    return fig


def stability(runs: xr.Dataset) -> Figure:
    """Loss at every step just below and just above the stability bound."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    for color, row in zip((INDIGO, RUST), range(runs.sizes["run"]), strict=False):
        run = runs.isel(run=row)
        label = f"{float(run['stability_fraction']):g} × bound"
        ax.plot(run["step"], run["loss"].clip(min=1e-16), color=color, lw=1.3, label=label)
    ends = runs["loss"].isel(step=-1).values
    ax.set(yscale="log", xlabel="step", ylabel="loss")
    ax.set_title(f"Two percent of learning rate: loss {_power(ends[0])} or {_power(ends[-1])}")
    label_lines(ax)
    return fig


# --- generic starts, and where they end ---


def matched_starts(means: np.ndarray) -> Figure:
    """Mean matched s_j(0)² of Gaussian starts, and d − j + 1."""
    fig, ax = plt.subplots(figsize=(5.6, 3.0))
    modes = np.arange(1, len(means) + 1)
    ax.plot(modes, means, "o", color=INDIGO, ms=7)
    ax.plot(modes, len(means) - modes + 1, **_DASHED)
    ax.set(xlabel="mode $j$", ylabel="mean $s_j(0)^2/\\alpha^2$", ylim=(0, None))
    ax.set_title("Late modes start smallest (dashed: $d-j+1$)")
    return fig


def error_law(law: xr.Dataset, measured: np.ndarray, reference: pd.DataFrame) -> Figure:
    """Errors of the aligned prediction against the scale, log-log: of W at the end, with slopes q (dashed),
    and of the eigenvalues of C on the way, with slopes 2q."""
    fig, (top, bottom) = plt.subplots(2, 1, figsize=FIGURE_SIZES["tall"], sharex=True)
    colors = (INDIGO, RUST, GREEN)
    scale = law["scale"].values
    last = int(np.argmin(scale))
    for color, name, slope in zip(colors, law["spectrum"].values, measured, strict=True):
        row = law.sel(spectrum=name)
        label = f"$\\gamma$ = {name}: {slope:.3f}"
        for ax, error, power in ((top, "error", 1), (bottom, "eigenvalue_error", 2)):
            ax.plot(scale, row[error], "o-", color=color, label=label if ax is top else None)
            guide = (scale / scale[last]) ** (power * float(row["exponent"]))
            ax.plot(scale, float(row[error][last]) * guide, **_DASHED)
    for color, (_, group) in zip(colors, reference.groupby("eigenvalues", sort=False), strict=False):
        top.plot(group["scale"], group["error"], "x", color=color, ms=5)
    top.set(xscale="log", yscale="log", ylabel="$\\|W-W_{aligned}\\|_F$ at the end")
    top.set_ylim(0.02 * float(law["error"].min()), None)
    bottom.set(yscale="log", xlabel="scale $\\alpha$ of the start", ylabel="largest error of $\\lambda_j(t)$")
    top.legend(title="spectrum: measured slope", loc="lower right", fontsize=10, title_fontsize=10)
    top.set_title("Weights: the error falls as $\\alpha^q$, $q$ the smallest gap")
    bottom.set_title("Eigenvalues: about as $\\alpha^{2q}$")
    return fig


def degenerate(near: xr.Dataset) -> Figure:
    """Left: eigenvalues of a start that ends half-way between two vectors, and theory; right: alignments."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
    ends, d = near["overlap"].isel(step=-1).values, near.sizes["mode"]
    chosen = int(np.abs(ends - 0.5).argmin())
    run = near.isel(run=chosen)
    time, theory = run["effective_time"].values, theory_eigenvalues(run)
    for j, color in enumerate(shades(d)):
        left.plot(time[1:], run["correlation_eigenvalues"][1:, j], color=color, **_BROAD)
        left.plot(time[1:], theory[1:, j], **_DASHED)
    first = 0.4 * predicted_times(near)[chosen, 0]
    gap = np.abs(half_times(near)[chosen] / predicted_times(near)[chosen] - 1).max()
    left.set(xscale="log", xlabel="effective time $t$", ylabel="eigenvalues of $C$", xlim=(first, time[-1]))
    left.set_title(f"One start: times to {100 * gap:.1f} %")
    for row in range(near.sizes["run"]):
        style = {"color": INDIGO, "lw": 2.2} if row == chosen else {"color": RUST, "lw": 0.9, "alpha": 0.8}
        right.plot(near["effective_time"][row, 1:], near["alignment"][row, 1:], **style)
    right.axhline((d - 1) / d, color=MUTED, lw=1, ls=":")
    right.annotate(
        f"$v_{d}$ lost", (0.97, (d - 1) / d - 0.012), xycoords=("axes fraction", "data"), ha="right", va="top"
    )
    right.set(xscale="log", xlabel="effective time $t$", ylabel="alignment", xlim=(first, time[-1]))
    right.set_ylim(0.7, 1.02)
    low, high = (1 - (1 - end) / d for end in (ends.min(), ends.max()))
    right.set_title(f"All starts: {low:.2f} to {high:.2f}")
    return fig


def competitors(found: xr.Dataset) -> Figure:
    """Squared norms of random zero-loss solutions, the minimum, and what training found."""
    fig, ax = plt.subplots()
    rivals, optimum = found["competitor"].values, found.attrs["optimum"]
    bins = np.geomspace(0.9 * optimum, 1.02 * rivals.max(), 50)
    ax.hist(rivals, bins=bins, color=PERIWINKLE)
    ax.axvline(optimum, color=INK, lw=1.2, ls=(0, (4, 3)))
    top = ax.get_ylim()[1]
    ax.plot(found["trained"], np.full(found.sizes["run"], 0.05 * top), "D", color=RUST, ms=7)
    ax.annotate("$\\Sigma\\,1/\\gamma_j$", (optimum, 0.92 * top), xytext=(5, 0), textcoords="offset points")
    ax.annotate("trained", (optimum, 0.05 * top), color=RUST, xytext=(9, -3), textcoords="offset points")
    ax.set(xscale="log", xlabel="$\\|W\\|_F^2$", ylabel=f"of {len(rivals):,} random zero-loss $W$")
    ax.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(f"Best competitor {rivals.min():.2f}, optimum {optimum:.3f}")
    return fig


def floor(runs: xr.Dataset) -> Figure:
    """The loss of embeddings with as many dimensions as positive modes, and with more."""
    fig, ax = plt.subplots()
    for row, color in zip(range(runs.sizes["run"]), (INDIGO, RUST), strict=False):
        run = runs.isel(run=row)
        ax.plot(
            run["effective_time"][1:], run["loss"][1:], color=color, label=f"$d={int(run['dimensions'])}$"
        )
    first = 0.2 * predicted_times(runs)[0, 0]
    end = float(runs["loss"].isel(run=-1, step=-1))
    ax.set_xscale("log")
    ax.set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    ax.set(xlabel=TIME, ylabel="loss", xlim=(first, None), ylim=(-0.15, None))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(f"Three positive modes: the larger embedding stops at {end:.3g}")
    label_lines(ax)
    return fig


def towers(flow: xr.Dataset) -> Figure:
    """Two towers integrated and in closed form (dashed), and one tower with the same start (dotted)."""
    fig, ax = plt.subplots()
    for j, color in enumerate((INDIGO, RUST, GREEN)[: flow.sizes["mode"]]):
        ax.plot(flow["time"], flow["integrated"][:, j], color=color, lw=2.6, alpha=0.85)
        ax.plot(flow["time"], flow["closed_form"][:, j], **_DASHED)
        ax.plot(flow["time"], flow["one_tower"][:, j], color=color, lw=1.2, ls=":")
    ax.set(xlabel="time $t$", ylabel="eigenvalues of $W\\Gamma V^\\top$")
    ax.set_title("Two towers (solid) take twice as long as one (dotted)")
    return fig


# --- the explorer ---


def frame(
    runs: Mapping[tuple[float, float, int], xr.Dataset], scale: float, gap: float, dimension: int
) -> Figure:
    """Loss and eigenvalues of one start (theory dashed), and all starts' alignment with the top d modes."""
    group = runs[scale, gap, dimension]
    run = group.isel(run=0)
    time = run["effective_time"].values
    theory = theory_eigenvalues(run)
    # A fixed layout: working one out takes longer than the drawing, and the frames must not jump.
    size = {"figsize": (5.6, 6.0), "height_ratios": (1.1, 1.1, 0.8)}
    fig, axes = plt.subplots(3, 1, sharex=True, layout="none", **size)
    fig.subplots_adjust(left=0.13, right=0.97, top=0.94, bottom=0.09, hspace=0.28)
    axes[0].plot(time[1:], run["loss"][1:], color=INDIGO, **_BROAD)
    axes[0].plot(time[1:], linear.loss(theory)[1:], **_DASHED)
    for j, color in enumerate((INDIGO, RUST, GREEN)[:dimension]):
        axes[1].plot(time[1:], run["correlation_eigenvalues"][1:, j], color=color, **_BROAD)
        axes[1].plot(time[1:], theory[1:, j], **_DASHED)
    axes[2].plot(time[1:], group["alignment"].values[:, 1:].T, color=PINE, lw=1.1, alpha=0.8)
    axes[2].axhline(1, **_DASHED)
    limits = _limits(runs)
    axes[0].set_xscale("log")
    for ax in axes:
        ax.minorticks_off()  # a third of the time of drawing
    axes[0].set(ylabel="loss", ylim=(-0.15, 1.05 * limits[1]), xlim=(0.1, limits[0]))
    axes[1].set(ylabel="eigenvalues of $C$", ylim=(-0.05, 1.15))
    axes[2].set(xlabel=TIME, ylabel="alignment", ylim=(-0.05, 1.12))
    gaps = np.abs(half_times(group) / predicted_times(group) - 1).max(-1)
    ends = group["alignment"].values[:, -1]
    axes[0].set_title(f"Times off by {100 * np.median(gaps):.1f} % (median start)")
    axes[2].set_title(f"Alignment ends at {ends.min():.2f} to {ends.max():.2f}", pad=4)
    return fig


def _limits(runs: Mapping[tuple[float, float, int], xr.Dataset]) -> tuple[float, int]:
    last = max(float(run["effective_time"][0, -1]) for run in runs.values())
    return last, max(dimension for _, _, dimension in runs)
