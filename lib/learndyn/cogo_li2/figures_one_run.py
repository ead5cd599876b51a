"""Drawings of the notebook "One training run under the microscope": labelled data in, figure out."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from learndyn.cogo_li2 import norms
from learndyn.core import plotting
from learndyn.core.explorer import format_value
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, label_lines, shades

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
ORDER_COLORS = {4: INDIGO, 6: RUST}


def task(labels: torch.Tensor, trained: torch.Tensor, answers: torch.Tensor) -> Figure:
    """The table to learn, its held-out cells left white, beside what a network answers; all ``[x, y]``."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.9), sharey=True)
    right = float((labels == answers).double().mean())
    pictures = {
        "What to learn: $x+y$": labels.double().where(trained, torch.nan),
        f"At the start {100 * right:.0f} % are right": answers.double(),
    }
    for ax, (title, values) in zip(axes, pictures.items(), strict=True):
        image = ax.imshow(values.T, cmap=plotting.CYCLIC, vmin=0, vmax=len(labels), origin="lower")
        ax.set(title=title, xlabel="$x$")
        ax.grid(False)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("$y$")
    fig.colorbar(image, ax=axes, orientation="horizontal", label="answer", aspect=40, shrink=0.6)
    return fig


# --- Theorem 6 ---


def decoupling(table: xr.Dataset, flow: xr.Dataset) -> Figure:
    """How fast the theory of infinite width becomes right: three errors against the width, log-log."""
    fig, ax = plt.subplots()
    width = table["width"].values
    curves = {
        "velocity at the start": (width, table["velocity_error"].mean("seed").values, RUST, "o"),
        "potentials along the flow": (
            flow["width"].values,
            flow["error"].max("time").mean("seed").values,
            GREEN,
            "s",
        ),
        "off-diagonal of $JJ^*$": (width, table["offdiagonal"].mean("seed").values, INDIGO, "D"),
    }
    for label, (x, y, color, marker) in curves.items():
        ax.plot(x, y, color=color, marker=marker, label=label)
        ax.plot(x, y[-1] * np.sqrt(x[-1] / x), color=MUTED, lw=1, ls=":", zorder=1)
    exponent = table.attrs["exponent_offdiagonal"]
    ax.set(xscale="log", yscale="log", xlabel="width $q$ (hidden nodes)", ylabel="relative error")
    ax.set_title(f"Decoupling: off-diagonal $\\propto q^{{{exponent:.2f}}}$")
    ax.margins(x=0.03)
    label_lines(ax)
    return fig


def flows(flow: xr.Dataset, others: int = 8) -> Figure:
    """Sum potentials of one seed in time: simulated (solid) and decoupled (dashed), one panel per width."""
    widths = flow["width"].values
    fig, axes = plt.subplots(1, len(widths), figsize=(7.0, 3.3), sharey=True)
    d = int(flow.attrs["d"])
    goals = [(k, k, k) for k in range((d - 1) // 2)]
    cells = [cell for cell in np.ndindex(d - 1, d - 1, d - 1) if len(set(cell)) > 1]
    picked = [cells[i] for i in np.linspace(0, len(cells) // 2 - 1, others).astype(int)]
    for ax, width in zip(axes, widths, strict=True):
        at = flow.sel(width=width).isel(seed=0)
        for cell in goals + picked:
            color = INDIGO if cell in goals else AMBER
            index = dict(zip(("k1", "k2", "k"), cell, strict=True))
            for name, style in (("simulated", {"color": color, "lw": 1.6}), ("decoupled", _DASHED)):
                ax.plot(flow["time"], at[name].isel(index).real, **style)
        ax.set(xlabel="time $\\lambda t$")
        ax.set_title(f"$q={width}$: off by {float(at['error'].max()):.2f}")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes[0].set(ylabel="Re $r$ (paper's units)")
    axes[-1].annotate("$r_{kkk}$", (flow["time"][-1], 1.1), color=INDIGO, ha="right", va="bottom")
    axes[-1].annotate("others", (flow["time"][-1], -0.12), color="#94651f", ha="right", va="top")
    return fig


_DASHED = {"color": INK, "lw": 1.0, "ls": (0, (3, 3))}


# --- Figure 3 ---


def losses(run: xr.Dataset, log: xr.Dataset, last: int = 199) -> Figure:
    """Figure 3a: losses (left axis) and accuracies (right axis), the authors' log as circles."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    twin = ax.twinx()
    early, logged = run.sel(epoch=slice(0, last)), log.sel(epoch=slice(0, last, 4))
    for split, color in (("train", INDIGO), ("test", RUST)):
        for axis, what, dash in ((ax, "loss", "-"), (twin, "accuracy", (0, (4, 2)))):
            axis.plot(early["epoch"], early[f"{split}_{what}"], color=color, ls=dash, lw=1.7)
            y = logged[f"{split}_{what}"]
            axis.plot(logged["epoch"], y, "o", ms=3.4, mfc="white", mec=color, mew=0.8, zorder=3)
    ax.set(xlabel="epoch", ylabel="loss (solid)", xlim=(0, last), ylim=(0, 1.33))
    twin.set(ylabel="accuracy (dashed)", ylim=(0, 1.33 / 1.15))
    twin.grid(False)
    twin.spines["right"].set_visible(True)
    words = ((ax, "train loss", (31, 0.15)), (ax, "test loss", (84, 0.4)))
    words += ((twin, "train accuracy", (24, 1.03)), (twin, "test accuracy", (62, 0.9)))
    for axis, text, place in words:
        axis.annotate(text, place, color=INDIGO if text.startswith("train") else RUST, va="bottom")
    full = [run["epoch"].values[np.argmax(run[f"{s}_accuracy"].values > 1 - 1e-5)] for s in ("train", "test")]
    ax.set_title(f"Train accuracy is 1 at epoch {full[0]}, test accuracy at epoch {full[1]}")
    return fig


def order_histogram(orders: tuple[int, ...]) -> Figure:
    """Figure 3b: how many frequencies have which order."""
    fig, ax = plt.subplots()
    values, counts = np.unique(orders, return_counts=True)
    ax.bar(values, counts, width=0.8, color=[ORDER_COLORS.get(int(v), MUTED) for v in values])
    for value, count in zip(values, counts, strict=True):
        ax.annotate(
            str(count), (value, count), ha="center", va="bottom", xytext=(0, 2), textcoords="offset points"
        )
    ax.set(
        xlabel="order (nodes with $|A_k|>0.05$)",
        ylabel="frequencies",
        xlim=(-0.5, max(10.5, max(orders) + 0.5)),
    )
    ax.set_ylim(0, counts.max() * 1.15)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(11, integer=True))
    ax.grid(axis="x", visible=False)
    found = ", ".join(f"{c} of order {n}" for n, c in zip(values, counts, strict=True))
    ax.set_title(f"Of {len(orders)} frequencies: {found}")
    return fig


def goal_sums(run: xr.Dataset, last: int = 600) -> Figure:
    """Figure 3c: Σ Re r_kkk and the sum of all other potentials, by checkpoint."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    early = run.sel(epoch=slice(0, last))
    checkpoint = np.arange(early.sizes["epoch"])
    top = 2 * run.sizes["frequency"]
    for level in (0, top):
        ax.axhline(level, color=MUTED, lw=1, ls=":")
    ax.plot(checkpoint, early["diagonal_sum"], color=INDIGO, label=r"$\sum_k\,$Re $r_{kkk}$")
    ax.plot(checkpoint, early["off_diagonal_sum"], color=RUST, label="all others")
    ax.annotate(f"$d-1={top}$", (checkpoint[-1], top), ha="right", va="bottom", color=MUTED, fontsize=10)
    peak = int(early["epoch"][int(early["diagonal_sum"].values.argmax())])
    ax.set(xlabel="checkpoint (= epoch up to 199, then every 100 epochs)", ylabel="sum of Re $r$")
    ax.set_ylim(top=1.16 * max(top, float(early["diagonal_sum"].max())))
    ax.set_title(f"The goals overshoot at epoch {peak}; all others swing and return to 0")
    label_lines(ax)
    return fig


def bias_curves(curves: xr.DataArray, order: int, last: int) -> Figure:
    """Figures 3d and 3e: |r_{a,k,−k,k}| for the frequencies of one order; 1/√2 is the ideal order-4 value."""
    fig, ax = plt.subplots()
    part = curves.sel(epoch=slice(0, last))
    colors = shades(max(part.sizes["frequency"], 1))
    if order == 4:
        ax.axhline(math.sqrt(0.5), color=MUTED, lw=1, ls=":")
        ax.annotate("$1/\\sqrt{2}$", (last, math.sqrt(0.5)), ha="right", va="bottom", color=MUTED)
    for color, k in zip(colors, part["frequency"].values, strict=False):
        ax.plot(part["epoch"], part.sel(frequency=k), color=color, lw=1.6, label=f"$k={k}$")
    ends = part.isel(epoch=-1)
    words = f"{float(ends.min()):.3f}–{float(ends.max()):.3f}" if ends.size else "no such frequency"
    verb = "keep a bias" if order == 4 else "lose theirs"
    ax.set(xlabel="epoch", ylabel="$|r_{a,k,-k,k}|$", ylim=(0, 0.8 if order == 4 else None), xlim=(0, last))
    ax.set_title(f"Order-{order} frequencies {verb}: {words}")
    if order == 4:
        _label_last(ax, part)
    else:
        label_lines(ax)
    return fig


def _label_last(ax: Axes, curves: xr.DataArray, share: float = 0.9) -> None:
    """Name the curve that is the last to reach a share of its end, where it reaches it."""
    if not curves.sizes["frequency"]:
        return
    reached = (curves >= share * curves.isel(epoch=-1)).values.argmax(axis=curves.dims.index("epoch"))
    at = curves.isel(frequency=reached.argmax(), epoch=reached.max())
    words = f"$k={int(at['frequency'])}$, the last"
    ax.annotate(words, (float(at["epoch"]), float(at)), xytext=(7, -6), textcoords="offset points", va="top")


def squares(run: xr.Dataset, last: int = 2100) -> Figure:
    """Figure 3f twice: the index of its label, and the index that the authors' script computes."""
    fig, axes = plt.subplots(2, 1, figsize=FIGURE_SIZES["tall"], sharex=True, sharey=True)
    early = run.sel(epoch=slice(0, last))
    checkpoint = np.arange(early.sizes["epoch"])
    names = {
        "square_potential": ("As labelled", "$|r_{a,k,1-k,k}|$"),
        "square_potential_as_plotted": ("As the script computes", "$|r_{a,k,-1-k,k}|$"),
    }
    for ax, (name, (title, label)) in zip(axes, names.items(), strict=True):
        curves = early[name]
        peak = curves.max("epoch")
        strongest = int(peak["frequency"][int(peak.values.argmax())])
        for k in curves["frequency"].values:
            style = (
                {"color": RUST, "zorder": 3, "label": f"$k={k}$"}
                if k == strongest
                else {"color": PERIWINKLE, "lw": 1.1}
            )
            ax.plot(checkpoint, curves.sel(frequency=k), **style)
        ax.set_title(f"{title}: peak {float(peak.max()):.3f} at $k={strongest}$")
        ax.set(ylabel=label)
        place = int(curves.sel(frequency=strongest).values.argmax())
        ax.annotate(
            f"$k={strongest}$",
            (checkpoint[place], float(peak.max())),
            xytext=(2, 4),
            textcoords="offset points",
            color=RUST,
        )
    top = max(float(early[name].max()) for name in names)
    axes[-1].set_ylim(0, 1.1 * top)
    axes[-1].set_xlabel("checkpoint (= epoch up to 199, then every 100 epochs)")
    return fig


# --- beside the paper's figure ---


def against_no_decay(run: xr.Dataset, other: xr.Dataset, weight_decay: float) -> Figure:
    """Test loss and the order of every frequency with and without weight decay, same axes."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
    last = int(other["epoch"][-1])
    for data, color in ((run, INDIGO), (other, RUST)):
        part = data.sel(epoch=slice(1, last))
        left.plot(part["epoch"], part["test_loss"], color=color, lw=1.6)
        right.plot(part["epoch"], part["order"], color=color, lw=0.9, alpha=0.75)
    for level in (4, 6):
        right.axhline(level, color=MUTED, lw=1, ls=":")
    left.set(xscale="log", yscale="log", xlabel="epoch", ylabel="test loss")
    left.set_ylim(top=3)
    right.set(xscale="log", yscale="log", xlabel="epoch", ylabel="order, one line per $k$")
    right.set_yticks([2, 4, 6, 10, 20, 50, 100], ["2", "4", "6", "10", "20", "50", "100"])
    right.set_ylim(top=160)
    right.minorticks_off()
    for ax, high, low in ((left, (0.98, 0.97), (0.04, 0.06)), (right, (0.98, 0.97), (0.52, 0.06))):
        style = {"xycoords": "axes fraction", "fontsize": 10.5}
        ax.annotate("no decay", high, color=RUST, ha="right", va="top", **style)
        ax.annotate(f"decay {format_value(weight_decay)}", low, color=INDIGO, **style)
    end = other.isel(epoch=-1)
    left.set_title(f"No decay: accuracy {float(end['test_accuracy']):.2f} …")
    right.set_title(f"… at orders {float(end['order'].min()):.0f}–{float(end['order'].max()):.0f}")
    return fig


def hosting(found: xr.Dataset) -> Figure:
    """Who cancels whose output bias, in %: rows order-4 frequencies, columns hosts, order-6 ones first."""
    orders = found["order"].values
    rows, hosts = np.flatnonzero(orders == 4), np.argsort(-(orders == 6).astype(int), kind="stable")
    share = 100 * found["share"].values[np.ix_(rows, hosts)]
    share = share if len(rows) else np.full((1, len(hosts)), np.nan)
    numbers = found["frequency"].values
    fig, ax = plt.subplots(figsize=(7.0, 0.42 * max(len(rows), 1) + 1.9))
    ax.imshow(
        share,
        cmap=plotting.SEQUENTIAL,
        vmin=0,
        vmax=max(20.0, float(np.nanmax(share, initial=0))),
        aspect="auto",
    )
    for i, j in np.ndindex(*share.shape):
        if np.isfinite(share[i, j]):
            color = "white" if share[i, j] > 12 else INK
            ax.text(j, i, f"{share[i, j]:.1f}", ha="center", va="center", color=color, fontsize=9)
    ax.set_xticks(range(len(hosts)), [str(numbers[h]) for h in hosts])
    ax.set_yticks(range(len(share)), [str(numbers[r]) for r in rows] or ["none"])
    ax.axvline((orders == 6).sum() - 0.5, color=INK, lw=1.2)
    ax.grid(False)
    ax.set(xlabel="host frequency (left of the line: order 6)", ylabel="order-4 $k$")
    total = np.nansum(share[:, : int((orders == 6).sum())], axis=1)
    ends = sorted({f"{value:.1f}" for value in (total.min(), total.max())}) if len(rows) else ["0"]
    words = "–".join(ends) + " %"
    ax.set_title(f"The order-6 frequencies together cancel {words}")
    return fig


def shrinkage(run: xr.Dataset, epoch: int, weight_decay: float, d: int) -> Figure:
    """1 − r_kkk late in training (bars: least and largest over checkpoints) and its law for each order."""
    late = 1 - run["goal_potential"].sel(epoch=slice(0.9 * epoch, epoch))
    orders = run["order"].sel(epoch=epoch).values.astype(int)
    k = run["frequency"].values
    fig, ax = plt.subplots()
    mean, low, high = (getattr(late, name)("epoch").values for name in ("mean", "min", "max"))
    for n in np.unique(orders[orders > 0]):
        color, members = ORDER_COLORS.get(int(n), MUTED), orders == n
        bars = np.stack([mean - low, high - mean])[:, members]
        ax.errorbar(k[members], mean[members], yerr=bars, fmt="o", color=color, elinewidth=1)
        law = norms.shrinkage(weight_decay, d, int(n))
        ax.plot([k[0] - 0.5, k[-1] + 0.5], [law, law], color=color, ls="--", lw=1.3, label=f"law, order {n}")
    ax.set(xlabel="frequency $k$", ylabel="$1-r_{kkk}$")
    ax.set_ylim(bottom=0)
    law = [norms.shrinkage(weight_decay, d, max(int(n), 1)) for n in orders]
    low, high = (float(f(mean / law)) for f in (np.min, np.max))
    ax.set_title(f"$1-r_{{kkk}}$ is {low:.2f} to {high:.2f} times the law")
    ax.set_xticks(k)
    label_lines(ax)
    return fig


# --- tori ---


def torus_end(angles: dict[int, xr.Dataset]) -> Figure:
    """The nodes that are left at some frequencies, and the exact product nearest to them."""
    fig, axes = plt.subplots(1, len(angles), figsize=(3.5 * len(angles), 3.9), sharey=True, squeeze=False)
    for ax, (k, data) in zip(axes[0], angles.items(), strict=True):
        draw_torus(ax, data, data.sizes["snapshot"] - 1)
        end = data.isel(snapshot=-1).where(data["member"].isel(snapshot=-1))
        copies = [(end[f"angle_{part}"] / np.pi + 2) % 2 - 1 for part in "ab"]
        ax.plot(*copies, "o", ms=9, mfc="none", mec=MUTED, mew=0.9, zorder=1)
        order = int(data["member"].isel(snapshot=-1).sum())
        gap = (
            np.degrees(float(data["distance"].max())) if bool(data["distance"].notnull().any()) else math.nan
        )
        ax.set_title(f"$k={k}$: order {order}, {gap:.1f}° off")
    axes[0][0].set_ylabel("phase of $B_{kj}$ (units of $\\pi$)")
    return fig


def torus_frame(data: xr.Dataset, epochs: list[int], name: str, epoch: int) -> Figure:
    """One frame of the explorer: the nodes of the frequency called ``name`` at one of the kept epochs."""
    step = epochs.index(epoch)
    fig, ax = plt.subplots(figsize=(4.3, 4.4))
    draw_torus(ax, data, step)
    count = int(data["member"].isel(snapshot=step).sum())
    ax.set_title(f"$k={name.split()[0]}$, epoch {epoch}: {count} nodes")
    ax.set_ylabel("phase of $B_{kj}$ (units of $\\pi$)")
    return fig


def draw_torus(ax: Axes, data: xr.Dataset, step: int) -> None:
    """Nodes as discs of area ∝ |A_k|² (grey: of another frequency at that time); crosses: final design."""
    now = data.isel(snapshot=step)
    scale = float(data["modulus"].isel(snapshot=-1).max()) or 1.0
    size = 130 * (now["modulus"].values / scale) ** 2
    member = now["member"].values
    final = data["member"].isel(snapshot=-1).values
    for chosen, color in ((~member, "#c3c9d3"), (member & ~final, PERIWINKLE), (member & final, INDIGO)):
        x, y = now["angle_a"].values[chosen] / np.pi, now["angle_b"].values[chosen] / np.pi
        ax.scatter(x, y, s=np.clip(size[chosen], 2, 220), color=color, lw=0.4, edgecolor="white")
    ax.plot(data["design_a"] / np.pi, data["design_b"] / np.pi, "+", ms=15, mew=1.5, color=RUST, ls="none")
    ax.set(
        xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), xlabel="phase of $A_{kj}$ (units of $\\pi$)", aspect="equal"
    )
    ax.set_xticks([-1, -0.5, 0, 0.5, 1])
    ax.set_yticks([-1, -0.5, 0, 0.5, 1])


# --- convergence panels ---


def panels(data: xr.Dataset, phases: bool) -> Figure:
    """|z| or arg z of every node and character at the kept steps: rows parts a, b, c, columns steps.

    ``data`` has dims step, part, node, character (one seed). Nodes are sorted by the frequency and size they
    end with; where |z| is below a tenth of its largest final value a phase is left white.
    """
    modulus = data["modulus"].isel(character=slice(1, None)).values  # [step, part, node, character]
    end = modulus[-1, 0, :, : modulus.shape[-1] // 2]
    alive = end.max(-1) > 0.5 * end.max()
    order = np.lexsort((-end.max(-1), np.where(alive, end.argmax(-1), end.shape[-1])))
    values = data["phase"].isel(character=slice(1, None)).values / np.pi if phases else modulus
    values = np.where(modulus > 0.1 * modulus[-1].max(), values, np.nan) if phases else values
    limits = (
        {"cmap": plotting.CYCLIC, "vmin": -1, "vmax": 1}
        if phases
        else {"cmap": plotting.SEQUENTIAL, "vmin": 0}
    )
    limits |= {} if phases else {"vmax": float(modulus[-1].max())}
    steps = data["step"].values
    fig, axes = plt.subplots(3, len(steps), figsize=(7.0, 6.6), sharex=True, sharey=True)
    characters = modulus.shape[-1]
    for row, part in enumerate("abc"):
        for column, step in enumerate(steps):
            ax = axes[row, column]
            image = ax.imshow(
                values[column, row][order],
                aspect="auto",
                interpolation="nearest",
                extent=(0.5, characters + 0.5, len(order) + 0.5, 0.5),
                **limits,
            )
            ax.grid(False)
            if row == 0:
                ax.set_title(f"$t={step}$", fontsize=11)
        axes[row, 0].set_ylabel(f"node, part ${part}$")
    for ax in axes[-1]:
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[-1, len(steps) // 2].set_xlabel("character $k$")
    what = "Phases" if phases else "Moduli"
    fig.suptitle(f"{what}: of {len(order)} nodes {int(alive.sum())} are left", x=0.02, ha="left")
    fig.colorbar(
        image,
        ax=axes,
        orientation="horizontal",
        shrink=0.5,
        aspect=40,
        label="phase (units of $\\pi$)" if phases else "$|z|$ (paper's units)",
    )
    return fig
