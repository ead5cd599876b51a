"""Drawings of the notebook "A ResNet takes the steps": labelled data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from torch import Tensor

from learndyn.core.pairs import PairSource
from learndyn.core.plotting import INK, MUTED, PALETTE
from learndyn.ssl_dynamics.stepwise import figures_networks as networks
from learndyn.ssl_dynamics.stepwise.claims.resnet import plateau_counts, relative_eigenvalues
from learndyn.ssl_dynamics.stepwise.figures_networks import Panel
from learndyn.ssl_dynamics.stepwise.settings_resnet import METHODS

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE


# --- the data ---


def crops(pairs: PairSource, gamma: Float[Tensor, " mode"], shown: int = 6, modes: int = 16) -> Figure:
    """A few pairs of views (above: first view, below: second), and the largest eigenvalues of Γ over γ₁."""
    views = [view if pairs.runs is None else view[0] for view in pairs.evaluation()]
    pictures = np.stack([view[:shown].float().cpu().permute(0, 2, 3, 1).numpy() for view in views])
    low, high = pictures.min((0, 1, 2, 3)), pictures.max((0, 1, 2, 3))
    pictures = (pictures - low) / (high - low)
    fig = plt.figure(figsize=(7.0, 5.2))
    above, below = fig.subfigures(2, 1, height_ratios=(1, 1.25))
    grid = above.subplots(2, shown, gridspec_kw={"hspace": 0.03, "wspace": 0.03})
    for ax, picture in zip(grid.ravel(), pictures.reshape(-1, *pictures.shape[2:]), strict=True):
        ax.imshow(picture)
        ax.set_axis_off()
    above.suptitle("Two views of each image", x=0.03, ha="left")
    _spectrum(below.subplots(), gamma.numpy(), modes)
    return fig


def _spectrum(ax: Axes, gamma: np.ndarray, modes: int) -> None:
    top = gamma[:modes][gamma[:modes] > 0] / gamma[0]
    number = np.arange(1, len(top) + 1)
    ax.vlines(number, top.min() / 3, top, color=PERIWINKLE, lw=1.5)
    ax.plot(number, top, "o", color=INDIGO)
    gap = widest_gap(gamma)
    ax.axvline(gap + 0.5, color=RUST, lw=1, ls="--")
    ax.set(yscale="log", xlabel="mode $j$", ylabel=r"$\gamma_j/\gamma_1$", ylim=(top.min() / 2, 2))
    ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    drop = gamma[gap - 1] / gamma[gap]
    ax.set_title(f"Spectrum of $\\Gamma$: widest gap $\\gamma_{{{gap}}}/\\gamma_{{{gap + 1}}}={drop:.1f}$")


def widest_gap(gamma: Float[np.ndarray, " mode"] | Float[Tensor, " mode"], modes: int = 8) -> int:
    """The mode j from 2 to ``modes`` − 1 with the largest γ_j/γ_{j+1}."""
    top = np.asarray(gamma)[1:modes]
    return int((top[:-1] / top[1:]).argmax()) + 2


# --- training ---


def panels(
    logs: Mapping[str, xr.Dataset], run: int = 0, hidden_modes: int = 14, *, counted: bool = False
) -> list[Panel]:
    """One column for each method from a little before its first step, with the eigenvalues of the covariance.

    Args:
        hidden_modes: how many of the largest eigenvalues of the hidden layer to draw.
        counted: say in the title how many plateaus are clean.
    """
    found = []
    for method, log in logs.items():
        one = log.isel({"run": run, "hidden_mode": slice(0, hidden_modes)})
        time, first = one["effective_time"].values, networks.half_times(one, "covariance")[0]
        begin = float(one["learning_rate"]) * 0.3 * first if np.isfinite(first) else 0.0
        window = (max(begin, float(time[1])), float(time[-1]))
        count = plateau_counts(log)[run]
        title = (
            f"{METHODS[method]}: {count} of {log.sizes['mode'] - 1} plateaus" if counted else METHODS[method]
        )
        found.append(Panel(one, "covariance", title, window))
    return found


def participation(
    logs: Mapping[str, xr.Dataset], earlier: pd.DataFrame, run: int = 0, leading: int = 16
) -> Figure:
    """Participation ratio of embedding and hidden layer, one panel per method; circles: an earlier run.

    Args:
        earlier: `published.hidden_participation_ratio()`.
        leading: thin, the participation ratio of so many of the largest eigenvalues of the hidden layer.
    """
    fig, axes = plt.subplots(1, len(logs), figsize=(7.0, 3.4), sharey=True)
    for ax, (method, log) in zip(np.atleast_1d(axes), logs.items(), strict=True):
        one, past = log.isel(run=run), earlier[earlier["loss"] == method]
        for name, column, color in (
            ("covariance_eigenvalues", "embedding", INDIGO),
            ("representation_eigenvalues", "representation", RUST),
        ):
            ax.plot(one["step"][1:], networks.participation(one, name)[1:], color=color, lw=1.7)
            ax.plot(past["step"], past[column], "o", ms=3.6, mfc="white", mec=color, mew=0.9, zorder=3)
        largest = one.isel(hidden_mode=slice(0, leading))
        ratios = networks.participation(largest, "representation_eigenvalues")
        ax.plot(one["step"][1:], ratios[1:], color=RUST, lw=0.8)
        for moment in networks.half_times(one, "covariance"):
            if np.isfinite(moment) and moment > 0:
                ax.axvline(moment, color=MUTED, lw=0.6, ls=":", zorder=0)
        ax.set(
            xscale="log",
            xlabel="step",
            title=METHODS[method],
            xlim=(1, 1.15 * max(past["step"].max(), one["step"].max())),
        )
        ax.set_yscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
    first = np.atleast_1d(axes)[0]
    top = max(first.get_ylim()[1], 2.0)
    ticks = [2**power for power in range(int(np.log2(top)) + 1)]
    first.set(ylabel="participation ratio", ylim=(0.85, top))
    first.set_yticks(ticks, list(map(str, ticks)))
    first.annotate("embedding", (0.04, 0.95), xycoords="axes fraction", color=INDIGO, va="top")
    first.annotate("hidden layer", (0.04, 0.87), xycoords="axes fraction", color=RUST, va="top")
    return fig


def clouds(log: xr.Dataset, groups: Sequence[int], run: int = 0, count: int = 4) -> Figure:
    """The cloud of embeddings at the kept steps nearest to the middles of plateaus 0, 1, …"""
    one = log.isel(run=run)
    middles = networks.plateau_steps(one, "covariance")[:count] or [0]
    moments = [one["embedding"].sel(snapshot=step, method="nearest") for step in middles]
    ratios = networks.participation(one)
    titles = []
    for moment in moments:
        place = int(np.abs(one["step"].values - int(moment["snapshot"])).argmin())
        titles.append(f"step {int(moment['snapshot'])}\nPR {ratios[place]:.1f}")
    return networks.clouds(np.stack([moment.values for moment in moments]), titles, groups)


def against_regular(
    small: Mapping[str, xr.Dataset], regular: Mapping[str, xr.Dataset], run: int = 0
) -> Figure:
    """Eigenvalues from small (above) and regular initialisation (below), log axes, a column per method."""
    fig, axes = plt.subplots(2, len(small), figsize=(7.0, 5.2), sharey="row", squeeze=False)
    for column, method in zip(axes.T, small, strict=True):
        for ax, logs, low in zip(column, (small, regular), (1e-5, 0.1), strict=True):
            one = logs[method].isel(run=run)
            networks.draw_eigenvalues(ax, one, "covariance")
            networks.time_axis(ax, one)
            ax.set(yscale="log", ylim=(low, 20))
        column[0].set_title(METHODS[method])
        column[1].set_xlabel("time $t$")
    axes[0, 0].set_ylabel("small start")
    axes[1, 0].set_ylabel("regular start")
    return fig


def humps(small: Mapping[str, xr.Dataset], regular: Mapping[str, xr.Dataset]) -> Figure:
    """Histograms of log₁₀(eigenvalue over its end) between the first and the last step, by method."""
    fig, axes = plt.subplots(1, len(small), figsize=(7.0, 3.0), sharey=True)
    edges = np.linspace(-6, 0.8, 35)
    for ax, method in zip(np.atleast_1d(axes), small, strict=True):
        for logs, style in (
            (small, {"histtype": "stepfilled", "color": PERIWINKLE}),
            (regular, {"histtype": "step", "color": RUST, "lw": 1.6}),
        ):
            values = relative_eigenvalues(logs[method])
            values = np.log10(np.clip(values[np.isfinite(values)], 10 ** edges[0], None))
            ax.hist(values, bins=edges, weights=np.full(len(values), 100 / max(len(values), 1)), **style)
        ax.set(xlabel="log$_{10}$ of share of end", title=METHODS[method])
        ax.grid(axis="x", visible=False)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("% of eigenvalues")
    first.annotate("small start", (0.04, 0.95), xycoords="axes fraction", color="#5f69b0", va="top")
    first.annotate("regular start", (0.04, 0.86), xycoords="axes fraction", color=RUST, va="top")
    return fig


def uncentred(right: xr.Dataset, wrong: xr.Dataset, run: int = 0) -> Figure:
    """Barlow Twins centred (left) and not: loss above, eigenvalues below, of C and then of the covariance."""
    last = float(wrong["effective_time"].isel(run=run)[-1])
    one = right.isel(run=run)
    one = one.isel(step=np.flatnonzero(one["effective_time"].values <= last))
    other = wrong.isel(run=run)
    fig = networks.staircase(
        [
            Panel(one, "covariance", "Centred"),
            Panel(other, "covariance", "Not centred"),
            Panel(other, "correlation", "Not centred: $C$"),
        ]
    )
    for ax in fig.axes[3:]:
        ax.set_ylim(-0.05, 2)
    return fig


# --- tangent kernels ---


def clock(found: xr.Dataset, log: xr.Dataset, gamma: Float[Tensor, " mode"], run: int = 0) -> Figure:
    """Left: spectra of pixels and tangent kernel over γ₁. Right: half times, measured and predicted."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.7))
    one = found.sel(loss="barlow_twins", run=run)
    modes = found.sizes["mode"]
    number = np.arange(1, modes + 1)
    pixels = gamma.numpy()[:modes] / float(gamma[0])
    left.plot(number, pixels, "s-", color=MUTED, ms=4, lw=1.2, label="pixels")
    for when, color, words in (("start", RUST, "kernel, start"), ("end", INDIGO, "kernel, end")):
        values = one["kernel_eigenvalues"].sel(when=when).values
        left.plot(number, values / values[0], "o-", color=color, ms=4, lw=1.2, label=words)
    first = one["kernel_eigenvalues"].isel(mode=0)
    growth = float(first.sel(when="end") / first.sel(when="start"))
    left.set(yscale="log", xlabel="mode $j$", ylabel=r"$\gamma_j/\gamma_1$")
    left.set_title(f"Kernel: $\\gamma_1$ grows {growth:.0f}-fold")
    left.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    left.legend(loc="lower left")
    measured = networks.half_times(log.isel(run=run), "correlation")
    predicted = one["predicted_steps"].values
    ends = np.array([min(measured.min(), predicted.min()) / 1.6, max(measured.max(), predicted.max()) * 1.6])
    right.fill_between(ends, ends / 2, ends * 2, color=PERIWINKLE, alpha=0.18, lw=0)
    right.plot(ends, ends, color=MUTED, lw=1, ls="--")
    right.plot(predicted, measured, "o", color=INDIGO)
    for k, (x, y) in enumerate(zip(predicted, measured, strict=True), start=1):
        if k in (1, 2, modes):
            right.annotate(str(k), (x, y), xytext=(5, -11), textcoords="offset points")
    right.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    right.set(xlabel="predicted step", ylabel="measured half time (steps)")
    ratio = np.median(measured / predicted)
    right.set_title(f"Measured: {ratio:.2f} × predicted")
    return fig


def alignments(found: xr.Dataset, theirs: Mapping[str, float], random: float) -> Figure:
    """Table of NTK-predicted embeddings as dots: ours at start and end, the published values, chance."""
    fig, ax = plt.subplots(figsize=(5.6, 3.3))
    rows = np.arange(len(METHODS))[::-1]
    for row, method in zip(rows, METHODS, strict=True):
        values = found["alignment"].sel(loss=method, means="kept")
        start, end = (values.sel(when=when).values for when in ("start", "end"))
        ax.plot([start.mean(), end.mean()], [row, row], color=PERIWINKLE, lw=1.5, zorder=1)
        ax.plot(start, np.full(len(start), row), "o", mfc="white", mec=RUST, ms=7)
        ax.plot(end, np.full(len(end), row), "o", color=INDIGO, ms=7)
        ax.plot(theirs[method], row, "x", color=INK, ms=8, mew=2)
    ax.axvline(float(found.attrs["random"]), color=MUTED, lw=1, ls=":")
    ax.axvline(random, color=MUTED, lw=1, ls=":")
    top = rows[0] + 0.42
    start, end = (
        float(found["alignment"].sel(loss="barlow_twins", means="kept", when=w).mean())
        for w in ("start", "end")
    )
    words = {"kernel at start": (start, RUST), "kernel at end": (end, INDIGO)}
    for number, (text, (x, color)) in enumerate(words.items()):
        ax.annotate(text, (x, rows[0] + 0.2), color=color, ha="right" if number == 0 else "left")
    ax.annotate("published (×)", (theirs["barlow_twins"], rows[0] - 0.32), color=INK, ha="center")
    ax.annotate(
        "random",
        (float(found.attrs["random"]), top - 0.1),
        color=MUTED,
        xytext=(4, 0),
        textcoords="offset points",
    )
    ax.set(xlim=(0, 1), ylim=(-0.5, top + 0.15), xlabel="alignment of predicted and learned embeddings")
    ax.set_yticks(rows, list(METHODS.values()))
    ax.grid(axis="y", visible=False)
    ax.set_title(
        "Tangent kernels predict far above chance, SimCLR least" if _far(found) else "Alignment by method"
    )
    return fig


def _far(found: xr.Dataset) -> bool:
    """Whether the title's finding is one."""
    values = found["alignment"].sel(means="kept", when="end").mean("run")
    lowest = str(values["loss"][int(np.argmin(values.values))].item())
    return bool((values > 5 * found.attrs["random"]).all()) and lowest == "simclr"


# --- explorer ---


def frame(
    run: xr.Dataset,
    scores: Float[np.ndarray, "view pair component"],
    step: int,
    reach: float,
    groups: Sequence[int],
) -> Figure:
    """One frame: loss, embedding and hidden spectra with a marker (left), and the cloud at a kept step.

    The places of the panels are fixed, which spares the layout of every frame, and the figure is narrow, so
    that its words can be read on a phone.
    """
    time = run["effective_time"].values
    place = int(np.abs(run["step"].values - step).argmin())
    fig = plt.figure(figsize=(5.6, 4.6), layout="none")
    above, middle, below = (fig.add_axes((0.12, bottom, 0.47, 0.235)) for bottom in (0.685, 0.4, 0.115))
    networks.draw_loss(above, run)
    networks.draw_eigenvalues(middle, run, "covariance")
    values = run["representation_eigenvalues"].values[:, : run.sizes["mode"]]
    for color, curve in zip(networks.mode_colors(values.shape[1]), values.T, strict=True):
        below.plot(time[1:], curve[1:], color=color, lw=1.5)
    below.set(yscale="log", xlabel="time $t$")
    below.yaxis.set_major_formatter("{x:g}")
    for ax, words in ((above, "loss"), (middle, "embedding"), (below, "hidden")):
        networks.time_axis(ax, run)
        ax.set_ylabel(words)
        ax.axvline(max(run["learning_rate"].item() * step, time[1]), color=RUST, lw=1.3)
        # Plain numbers, below alone: laying out powers of ten takes half of a frame's time.
        ax.xaxis.set_major_formatter("{x:g}" if ax is below else NullFormatter())
    above.set_title(f"{networks.LOSS_NAMES[str(run['loss_name'].item())]}, step {step}")
    cloud = fig.add_axes((0.6, 0.12, 0.4, 0.72))
    networks.draw_cloud(cloud, scores, reach, groups)
    ratio = networks.participation(run.isel(step=[place]))[0]
    cloud.annotate(f"PR {ratio:.2f}", (0.5, 1.06), xycoords="axes fraction", ha="center", fontsize=12)
    return fig
