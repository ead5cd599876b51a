"""Drawings that all notebooks on trained networks share: labelled data in, figure out.

``run`` is always one run of the log of `learndyn.core.ssl_training.train`: ``log.isel(run=0)``. It is drawn
against effective time (learning rate × step) on a log axis, which leaves out step 0. ``spectrum`` says which
eigenvalues are meant: "correlation" (of C, those that saturate at 1 for Barlow Twins) or "covariance" (of all
embeddings).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from learndyn.core import spectra
from learndyn.core.plotting import INK, MUTED, PALETTE, shades

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
Spectrum = Literal["correlation", "covariance"]
#: What a loss is called in titles, by the trainer's ``loss_name``.
LOSS_NAMES: Mapping[str, str] = {
    "barlow_twins_theory": "Barlow Twins",
    "barlow_twins": "Barlow Twins, standard",
    "vicreg": "VICReg",
    "ntxent": "SimCLR",
    "spectral_contrastive": "spectral contrastive",
}
_EIGENVALUES = {"correlation": "eigenvalues of $C$", "covariance": "eigenvalues of covariance"}
_TIME = "time $t$ (learning rate × step)"


class Panel(NamedTuple):
    """One column of a figure.

    Attributes:
        run: what is drawn.
        spectrum: which eigenvalues of it.
        title: by default the name of the loss.
        window: from when to when (effective time); by default all logged times after step 0.
    """

    run: xr.Dataset
    spectrum: Spectrum = "correlation"
    title: str = ""
    window: tuple[float, float] | None = None

    @property
    def heading(self) -> str:
        """The title, or the name of the loss."""
        return self.title or LOSS_NAMES[str(self.run["loss_name"].item())]


# --- numbers for drawings, claims and sentences ---


def eigenvalues(run: xr.Dataset, spectrum: Spectrum) -> Float[torch.Tensor, "step mode"]:
    """The spectrum of one run as `core.spectra` takes it."""
    return torch.tensor(run[f"{spectrum}_eigenvalues"].values)


def half_times(run: xr.Dataset, spectrum: Spectrum) -> Float[np.ndarray, " mode"]:
    """First logged step at which each sorted eigenvalue exceeds half of its final value; NaN where never."""
    steps = torch.tensor(run["step"].values)
    return spectra.half_times(steps, eigenvalues(run, spectrum)).numpy()


def participation(run: xr.Dataset, name: str = "covariance_eigenvalues") -> Float[np.ndarray, " step"]:
    """Participation ratio along a run: of the embeddings, or of what else ``name`` is the spectrum of."""
    return spectra.participation_ratio(torch.tensor(run[name].values)).numpy()


def plateau_steps(run: xr.Dataset, spectrum: Spectrum) -> list[int]:
    """A logged step in the middle (on the log axis) of each plateau: before mode 1, then after mode 1, 2, ….

    The middle of plateau k is the geometric mean of the half times of modes k and k + 1; for plateau 0 it is
    half of the first half time. Modes that were not learned have no plateau.
    """
    halves = half_times(run, spectrum)
    halves = np.sort(halves[np.isfinite(halves)])
    middles = [0.5 * halves[0], *np.sqrt(halves[:-1] * halves[1:])] if len(halves) else []
    steps = run["step"].values
    return [int(steps[np.abs(steps - middle).argmin()]) for middle in middles]


# --- staircases ---


def staircase(panels: Sequence[Panel], *, mark: float | None = None, width: float = 7.0) -> Figure:
    """Loss (above) and eigenvalues (below) of one or more runs against effective time, one column each.

    Args:
        mark: an effective time to mark in all columns.
    """
    fig, axes = plt.subplots(
        2, len(panels), figsize=(width, 4.6), sharex="col", squeeze=False, height_ratios=(1, 1.15)
    )
    for (above, below), panel in zip(axes.T, panels, strict=True):
        draw_loss(above, panel.run)
        draw_eigenvalues(below, panel.run, panel.spectrum, halves=above)
        above.set_title(panel.heading)
        for ax in (above, below):
            if mark is not None:
                ax.axvline(mark, color=RUST, lw=1.2)
        below.set_xlabel(_TIME if len(panels) < 3 else "time $t$")
        time_axis(below, panel.run, panel.window)
    axes[0, 0].set_ylabel("loss")
    kinds = {panel.spectrum for panel in panels}
    axes[1, 0].set_ylabel(_EIGENVALUES[kinds.pop()] if len(kinds) == 1 else "eigenvalues")
    return fig


def draw_loss(ax: Axes, run: xr.Dataset, *, color: str = INK) -> None:
    """The loss of a run against effective time."""
    time, loss = run["effective_time"].values, run["loss"].values
    ax.plot(time[1:], loss[1:], color=color, lw=1.7)
    drawn = loss[1:][np.isfinite(loss[1:])]
    top = drawn.max(initial=1e-12)
    ax.set_ylim(drawn.min(initial=0) - 0.03 * top, 1.06 * top)


def draw_eigenvalues(ax: Axes, run: xr.Dataset, spectrum: Spectrum, *, halves: Axes | None = None) -> None:
    """All eigenvalues of a run against effective time, dark ones learned first.

    Args:
        halves: also mark the half times by thin lines, in this panel and in that one.
    """
    time, values = run["effective_time"].values, eigenvalues(run, spectrum).numpy()
    for color, curve in zip(mode_colors(values.shape[1]), values.T, strict=True):
        ax.plot(time[1:], curve[1:], color=color, lw=1.5)
    if halves is not None:
        rate = float(run["learning_rate"])
        for moment in half_times(run, spectrum):
            for each in (ax, halves):
                if np.isfinite(moment) and moment > 0:
                    each.axvline(rate * moment, color=MUTED, lw=0.6, ls=":", zorder=0)


def mode_colors(count: int) -> list[str]:
    """A colour for each mode, the first one darkest."""
    return shades(count)[::-1]


def time_axis(ax: Axes, run: xr.Dataset, window: tuple[float, float] | None = None) -> None:
    """A log axis of effective time: labels at powers of ten, in short windows also at 2 and 5."""
    time = run["effective_time"].values
    low, high = (time[1], time[-1]) if window is None else window
    ax.set(xscale="log", xlim=(low, high))
    if high < 100 * low:
        ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter("{x:g}")
    else:
        ax.xaxis.set_major_locator(LogLocator(base=10, numticks=8))
    ax.xaxis.set_minor_locator(NullLocator())


def participation_ratios(runs: Mapping[str, xr.Dataset]) -> Figure:
    """The participation ratio of the embeddings along some runs, named, with whole numbers as a grid."""
    fig, ax = plt.subplots()
    for color, (name, run) in zip((INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER), runs.items(), strict=False):
        ax.plot(run["step"].values[1:], participation(run)[1:], color=color, label=name)
    ax.set(xscale="log", xlabel="step", ylabel="participation ratio")
    ax.yaxis.set_major_locator(FixedLocator(range(1, run.sizes["mode"] + 1)))
    return fig


# --- clouds ---


def principal_components(
    embeddings: Float[np.ndarray, "moment view pair dimension"], components: int = 3
) -> Float[np.ndarray, "moment view pair component"]:
    """Scores of the embeddings on their principal components, those of each moment by itself.

    The sign of a component is chosen such that it agrees with the moment after it.
    """
    moments, views, pairs, _ = embeddings.shape
    flat = embeddings.reshape(moments, views * pairs, -1).astype(np.float64)
    flat = flat - flat.mean(1, keepdims=True)
    left, values, _ = np.linalg.svd(np.nan_to_num(flat), full_matrices=False)
    scores = (left * values[:, None])[..., :components]
    for moment in reversed(range(moments - 1)):
        agrees = (scores[moment] * scores[moment + 1]).sum(0)
        scores[moment] *= np.where(agrees < 0, -1.0, 1.0)
    return scores.reshape(moments, views, pairs, components)


def clouds(
    embeddings: Float[np.ndarray, "moment view pair dimension"],
    titles: Sequence[str],
    groups: Sequence[int] | None = None,
) -> Figure:
    """The three leading principal components of the embeddings at some moments, seen from one side.

    Both views of all images, on one scale for all panels. Axes 1, 2, 3 are the components of each moment.

    Args:
        groups: number of each pair's group for its colour; −1 is grey.
    """
    scores = principal_components(embeddings)
    columns = 2 if len(titles) == 4 else min(len(titles), 3)
    rows = math.ceil(len(titles) / columns)
    side = min(2.9, 7.0 / columns)
    fig, axes = plt.subplots(rows, columns, figsize=(side * columns, (side + 0.25) * rows), squeeze=False)
    reach = cloud_reach(scores)
    for ax, title, cloud in zip(axes.flat, titles, scores, strict=False):
        draw_cloud(ax, cloud, reach, groups)
        ax.set_title(title)
    for ax in axes.flat[len(titles) :]:
        ax.set_axis_off()
    return fig


def cloud_reach(scores: Float[np.ndarray, "*moment view pair component"]) -> float:
    """The largest coordinate of any projected cloud, to be given to all panels that share a scale."""
    return float(np.abs(scores @ _VIEW).max(initial=1e-12))


def draw_cloud(
    ax: Axes,
    scores: Float[np.ndarray, "view pair component"],
    reach: float,
    groups: Sequence[int] | None = None,
) -> None:
    """A cloud in three dimensions, projected along a fixed direction onto the panel."""
    points = np.concatenate(list(scores)) @ _VIEW
    for number, axis in enumerate(0.95 * reach * _VIEW, start=1):
        ax.plot([0, axis[0]], [0, axis[1]], color=MUTED, lw=0.9, zorder=0)
        ax.annotate(str(number), 1.12 * axis, color=MUTED, ha="center", va="center", fontsize=9.5)
    chosen = np.tile(np.zeros(scores.shape[1], int) if groups is None else np.asarray(groups), len(scores))
    for group, color in zip(range(-1, len(_GROUP_COLORS) - 1), _GROUP_COLORS, strict=True):
        ax.plot(*points[chosen == group].T, "o", ms=3.0, mec="none", color=color, alpha=0.8)
    side = 1.12 * reach
    ax.set(xlim=(-side, side), ylim=(-side, side), aspect="equal", xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


#: Where the unit vectors of the components point in the plane: 1 to the right, 2 up, 3 to the lower left.
_VIEW = np.array([[0.91, -0.14], [0.0, 0.94], [-0.41, -0.32]])
_GROUP_COLORS = ("#b7bec9", INDIGO, RUST, GREEN)


# --- histograms of eigenvalues ---


def eigenvalue_histograms(
    columns: Mapping[str, xr.Dataset],
    steps: Sequence[int],
    spectrum: Spectrum | Mapping[str, Spectrum] = "covariance",
    bins: int = 18,
) -> Figure:
    """Histograms of log₁₀ eigenvalues, one row for each step, one column for each group of runs.

    Steps that were not logged stand for the nearest that were. Eigenvalues that are not positive (rounding)
    are counted at the left edge.

    Args:
        columns: title → runs whose eigenvalues are pooled, ``log.isel(run=[0, 1, 2])``.
        spectrum: which one, also by title.
    """
    fig, axes = plt.subplots(
        len(steps), len(columns), figsize=(7.0, 1.05 * len(steps) + 1.0), sharex="col", squeeze=False
    )
    for (title, runs), column in zip(columns.items(), axes.T, strict=True):
        kind = spectrum if isinstance(spectrum, str) else spectrum[title]
        values = runs[f"{kind}_eigenvalues"].sel(step=list(steps), method="nearest").transpose("step", ...)
        edges = _log_bins(values.values, bins)
        for ax, row, step in zip(column, values.values, steps, strict=True):
            ax.hist(np.log10(np.clip(row.ravel(), 10 ** edges[0], None)), bins=edges, color=INDIGO)
            ax.set(yticks=[])
            ax.grid(False)
            if ax in axes[:, 0]:
                ax.set_ylabel(f"step {step}", rotation=0, ha="right", va="center")
        column[0].set_title(title)
        column[-1].set_xlabel("log$_{10}$ eigenvalue")
    return fig


def _log_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Bin edges in powers of ten from the smallest positive value (at least 1e-9 of the largest) on."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive):
        return np.linspace(-1, 1, bins + 1)
    high = np.log10(positive.max())
    low = max(np.log10(positive.min()), high - 9)
    return np.linspace(low - 0.05, high + 0.05, bins + 1)


# --- hidden representations ---


def hidden(panels: Sequence[Panel]) -> Figure:
    """Eigenvalues of a hidden layer's covariance (above) and those of the embedding (below), one column each.

    Dotted: half times of the embedding's eigenvalues. Needs a log with ``representation_modes``.
    """
    fig, axes = plt.subplots(2, len(panels), figsize=(7.0, 4.8), sharex="col", squeeze=False)
    for (above, below), panel in zip(axes.T, panels, strict=True):
        time = panel.run["effective_time"].values
        values = panel.run["representation_eigenvalues"].values
        for color, curve in zip(mode_colors(values.shape[1]), values.T, strict=True):
            above.plot(time[1:], curve[1:], color=color, lw=1.5)
        draw_eigenvalues(below, panel.run, panel.spectrum, halves=above)
        above.set(yscale="log", title=panel.heading)
        below.set_xlabel(_TIME if len(panels) < 3 else "time $t$")
        time_axis(below, panel.run, panel.window)
    axes[0, 0].set_ylabel("hidden layer")
    axes[1, 0].set_ylabel("embedding")
    return fig
