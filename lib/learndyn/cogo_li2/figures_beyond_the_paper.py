"""Figures of the notebook "What the theory predicts beyond the paper": tables and designs in, figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from learndyn.cogo_li2 import algebra, beyond_the_paper
from learndyn.core.plotting import GRID, INK, MUTED, PALETTE

FAMILY_NAMES = {
    "4 nodes: ν=i, ξ": "nu_i*xi",
    "6 nodes: ν, syn": "nu*syn",
    "6 nodes: ν=i, αβ": "nu_i*syn_alphabeta",
}
ACTIVATION_NAMES = {"sqr": "square", "relusqr": "relu²", "silu": "SiLU", "relu": "ReLU"}
LOSS_NAMES = {"projected_mse": "squared loss", "cross_entropy": "cross-entropy"}
KINDS = {2: "order 2", 3: "order 3", 4: "order 4", 5: "order 5 or more"}
_TICKS = [-180, -90, 0, 90, 180]


def _torus(ax: Axes, element: torch.Tensor, size: float) -> None:
    """Nodes at (arg a, arg b): colour and marker tell which node of the second, of the first factor."""
    degrees = torch.rad2deg(element[:2].angle()).numpy()
    second = 3 if element.shape[1] == 6 else 2
    for j, point in enumerate(degrees.T):
        copy = (point + 360) % 360 - 180  # the sign gauge (a, b) → (−a, −b)
        color, marker = PALETTE[j % second], "os"[j // second]
        ax.plot(*copy, marker, ms=size, mfc="white", mec=color, mew=1.2, alpha=0.6)
        ax.plot(*point, marker, ms=size, mfc=color, mec="white", mew=0.8)
    ax.set(xlim=(-190, 190), ylim=(-190, 190), xticks=_TICKS, yticks=_TICKS, aspect="equal")


def designs(families: Mapping[str, algebra.Family]) -> Figure:
    """The designs of some families on the torus, one panel each."""
    fig, axes = plt.subplots(1, len(families), figsize=(7.0, 3.0), sharey=True)
    for ax, (title, family) in zip(np.atleast_1d(axes), families.items(), strict=True):
        _torus(ax, family.element(), 8.5)
        ax.set(xlabel="arg a (degrees)", xticks=[-180, 0, 180])
        ax.set_title(title, fontsize=11)
    np.atleast_1d(axes)[0].set_ylabel("arg b (degrees)")
    return fig


def completeness(table: pd.DataFrame) -> Figure:
    """Constraint sets × numbers of nodes: dimensions where there are designs, least residual where not."""
    names, nodes = list(beyond_the_paper.CONSTRAINTS), sorted(table["nodes"].unique())
    fig, ax = plt.subplots(figsize=(7.0, 2.7))
    rows = table.set_index(["constraints", "nodes"])
    for i, name in enumerate(names):
        for j, n in enumerate(nodes):
            row = rows.loc[(name, n)]
            color = PALETTE[2] if row["feasible"] else "#f1f3f6"
            ax.add_patch(Rectangle((j - 0.47, i - 0.45), 0.94, 0.9, fc=color, alpha=0.75, lw=0))
            dimensions = ",".join(map(str, row["dimensions"]))
            text = dimensions if row["feasible"] else f"{row['min_residual']:.2g}"
            style = {"weight": "bold", "color": INK} if row["feasible"] else {"color": MUTED}
            ax.text(j, i, text, ha="center", va="center", fontsize=10.5, **style)
    labels = [name.replace("R_n", "$R_n$").replace("R_*", "$R_*$") for name in names]
    ax.set(xlim=(-0.55, len(nodes) - 0.45), ylim=(len(names) - 0.5, -0.5), xlabel="nodes")
    ax.set_xticks(range(len(nodes)), nodes)
    ax.set_yticks(range(len(names)), labels)
    first = {name: table[(table["constraints"] == name) & table["feasible"]]["nodes"].min() for name in names}
    ax.set_title(f"First designs at {first['all']}, {first['without R_n']} and {first['without R_*']} nodes")
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return fig


def minima_marks(ax: Axes, table: pd.DataFrame, height: float, order: int) -> None:
    """Predicted orders: filled where the block is complete, hollow where its bias is hosted."""
    part = table[table["character_order"] == order]
    for hosted, fill, shift in ((False, PALETTE[1], -0.13), (True, "white", 0.13)):
        nodes = sorted(set(part[part["bias_hosted"] == hosted]["nodes"]))
        ax.plot(
            np.array(nodes) + shift, [height] * len(nodes), "v", ms=8, mfc=fill, mec=PALETTE[1], mew=1.5,
            clip_on=False,
        )  # fmt: skip


def group_orders(orders: pd.DataFrame, minima: pd.DataFrame, predicted: Mapping[int, set[int]]) -> Figure:
    """Orders that training found (bars) and the local minima of the norm (marks), per character order."""
    fig, axes = plt.subplots(2, 2, figsize=(7.0, 4.8), sharex=True)
    for ax, (kind, name) in zip(axes.flat, KINDS.items(), strict=True):
        counts = orders[orders["character_order"] == kind]["nodes"].value_counts()
        ax.bar(counts.index, counts.values, width=0.62, color=PALETTE[3])
        top = max(int(counts.max()) if len(counts) else 1, 1)
        part = minima[minima["nodes"].isin(predicted[kind])]
        if kind != 3:
            part = part[~part["constant_input"]]
        minima_marks(ax, part, 1.14 * top, kind)
        ax.set(xlim=(-0.5, 8.5), ylim=(0, 1.25 * top), xticks=range(9))
        ax.set_title(f"Characters of {name}", fontsize=11.5)
        ax.grid(axis="x", visible=False)
    for ax in axes[1]:
        ax.set_xlabel("hidden nodes at the frequency")
    for ax in axes[:, 0]:
        ax.set_ylabel("frequencies")
    inside = sum(
        int(n in predicted[k]) for k, n in zip(orders["character_order"], orders["nodes"], strict=True)
    )
    fig.suptitle(f"{inside} of {len(orders)} trained frequencies end at a predicted order", x=0.02, ha="left")
    return fig


def norm_minima(table: pd.DataFrame) -> Figure:
    """Norm factor of the local minima against the nodes that are left, without and with a constant input."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.9), sharey=True)
    colors = dict(zip(KINDS, (PALETTE[5], PALETTE[1], PALETTE[2], PALETTE[0]), strict=True))
    grid = np.linspace(0.8, 7.2, 100)
    for ax, constant in zip(axes, (False, True), strict=True):
        ax.plot(grid, 3 * np.cbrt(grid), color=MUTED, lw=1)
        for row in table[table["constant_input"] == constant].itertuples():
            fill = "white" if row.bias_hosted else colors[row.character_order]
            offset = 0.09 * (row.character_order - 3.5) + 0.3 * row.bias_hosted
            ax.plot(row.nodes + offset, row.norm_factor, "o", ms=8, mfc=fill,
                    mec=colors[row.character_order], mew=1.8)  # fmt: skip
        ax.set(xlabel="nodes left", xlim=(0.5, 7.3), ylim=(2.6, 6.6), xticks=range(1, 8))
        ax.set_title("constant input allowed" if constant else "no constant input", fontsize=11)
    axes[0].text(7.2, 4.6, "balanced: $3n^{1/3}$", color=MUTED, ha="right", va="top", fontsize=10)
    for kind, name in KINDS.items():
        axes[1].plot([], [], "o", color=colors[kind], label=f"character {name}")
    axes[1].legend(loc="lower right", handletextpad=0.2)
    axes[0].set_ylabel(r"norm factor $\nu$")
    generic = table[(table["character_order"] == 5) & ~table["constant_input"]]
    ends = " or ".join(str(n) for n in sorted(generic["nodes"]))
    fig.suptitle(f"At generic characters every slide ends with {ends} nodes", x=0.02, ha="left")
    return fig


def sign_groups(pairs: pd.DataFrame) -> Figure:
    """Two-node frequencies in Z_2^m against the min-norm law."""
    fig, ax = plt.subplots(figsize=(5.6, 3.4))
    k = np.linspace(1, max(20, 1.2 * pairs["frequencies"].max()), 100)
    ax.plot(k, [beyond_the_paper.best_pairs(x) for x in k], color=PALETTE[0])
    ax.annotate(r"least norm: $1.27\sqrt{K}$", (11, beyond_the_paper.best_pairs(11)), xytext=(8, -14),
                textcoords="offset points", color=PALETTE[0], fontsize=10.5)  # fmt: skip
    ax.plot(pairs["frequencies"], pairs["found"], "o", color=PALETTE[1], ms=8)
    for row in pairs.itertuples():
        ax.annotate(f"$Z_2^{{{row.group.count('Z_2')}}}$", (row.frequencies, row.found), xytext=(-6, 8),
                    textcoords="offset points", color=PALETTE[1], fontsize=12)  # fmt: skip
    top = 1.3 * max([beyond_the_paper.best_pairs(k[-1]), *pairs["found"]])
    ax.set(xlim=(0, k[-1]), ylim=(0, top), xlabel="frequencies $K$", ylabel="frequencies with two nodes")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    over = " and ".join(f"{value:.2f}" for value in pairs["ratio"])
    ax.set_title(f"Training ends with {over or 'no'} times the number of hosts of least norm")
    return fig


def learning_curves(runs: Mapping[tuple[str, str], xr.Dataset]) -> Figure:
    """Train and test accuracy over epochs, one panel per activation and loss."""
    fig, axes = plt.subplots(4, 2, figsize=(7.0, 6.6), sharex=True, sharey=True)
    for ax, ((activation, loss), data) in zip(axes.flat, runs.items(), strict=True):
        epoch = data["epoch"].values + 1
        for name, color in (("train_accuracy", PALETTE[3]), ("test_accuracy", PALETTE[1])):
            ax.plot(epoch, data[name].values.T, color=color, lw=1.3, alpha=0.85)
        ax.set(xscale="log", ylim=(-0.04, 1.06), xlim=(1, epoch[-1]))
        ax.set_title(f"{ACTIVATION_NAMES[activation]}, {LOSS_NAMES[loss]}", fontsize=11)
    axes[0, 0].text(1.3, 0.86, "train", color=PALETTE[3], fontsize=10.5)
    axes[0, 0].text(300, 0.42, "test", color=PALETTE[1], fontsize=10.5)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    for ax in axes[-1]:
        ax.set_xlabel("epoch + 1 (log)")
    full = sum(float(data["test_accuracy"].isel(epoch=-1).min()) > 1 - 1e-5 for data in runs.values())
    fig.suptitle(f"{full} of {len(runs)} pairs generalise in every seed", x=0.02, ha="left")
    return fig


def other_orders(orders: pd.DataFrame) -> Figure:
    """Nodes per frequency, one panel per activation and loss; what factors is dark."""
    fig, axes = plt.subplots(4, 2, figsize=(7.0, 6.6), sharex=True, sharey=True)
    bins = np.arange(19)
    for ax, (activation, loss) in zip(axes.flat, beyond_the_paper.NETWORKS, strict=True):
        part = orders[(orders["activation"] == activation) & (orders["loss"] == loss)]
        counts = np.bincount(np.minimum(part["nodes"], bins[-1]), minlength=len(bins)) / len(part)
        factored = part[part["factorable"]]["nodes"]
        dark = np.bincount(np.minimum(factored, bins[-1]), minlength=len(bins)) / len(part)
        ax.axvspan(3.5, 4.5, color=GRID, zorder=0)
        ax.axvspan(5.5, 6.5, color=GRID, zorder=0)
        ax.bar(bins, counts, width=0.75, color=PALETTE[3], alpha=0.75)
        ax.bar(bins, dark, width=0.75, color=PALETTE[0])
        ax.set(xlim=(-0.6, 18.6), ylim=(0, 1.02), xticks=range(0, 19, 2))
        ax.set_title(f"{ACTIVATION_NAMES[activation]}, {LOSS_NAMES[loss]}", fontsize=11)
        ax.grid(axis="x", visible=False)
    for ax in axes[:, 0]:
        ax.set_ylabel("share")
    for ax in axes[-1]:
        ax.set_xlabel("nodes at the frequency")
    inside = orders.groupby(["activation", "loss"])["nodes"].agg(lambda n: n.isin((4, 6)).all())
    fig.suptitle(f"Only 4 and 6: {int(inside.sum())} of {len(inside)} pairs", x=0.02, ha="left")
    return fig


def explorer_frame(family: str, first: int, second: int) -> Figure:
    """A design of a family at two free angles (degrees), and its ten sum potentials as lights.

    ``first`` is ξ, ν or α; ``second`` is β, or a common phase of all a where the family has no β.
    """
    name = FAMILY_NAMES[family]
    one, two = math.radians(first), math.radians(second)
    angles = {"alpha": one, "beta": two} if "alphabeta" in name else {"nu": one, "xi": one, "phase_a": two}
    element = algebra.Family(name, **angles).element()
    values = algebra.potential_values(element).abs().numpy()
    fig = Figure(figsize=(6.4, 3.5), layout="none")
    ax = fig.add_axes((0.11, 0.14, 0.46, 0.78))
    _torus(ax, element, 9)
    ax.set(xlabel="arg a (degrees)", ylabel="arg b (degrees)")
    lights = fig.add_axes((0.66, 0.04, 0.32, 0.86))
    lights.axis("off")
    lights.set(xlim=(0, 1), ylim=(-0.7, 9.7))
    for i, (potential, value) in enumerate(zip(algebra.POTENTIALS, values, strict=True)):
        good = abs(value - (potential.family == "R_g")) < 1e-9
        color = PALETTE[2] if good else PALETTE[1]
        lights.plot(0.06, 9 - i, "o" if good else "X", ms=10, color=color, mec="white")
        lights.text(0.16, 9 - i, f"|{potential.name}|", va="center", fontsize=10.5, color=INK)
        lights.text(1.0, 9 - i, f"{value:.2f}", va="center", ha="right", fontsize=10.5, color=INK)
    lights.set_title("|Σ| over the nodes", fontsize=10.5, loc="left", pad=2)
    return fig
