"""The drawings of the notebook "Building solutions by algebra"."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from learndyn.cogo_li2 import algebra, exact_solutions, potentials
from learndyn.cogo_li2.algebra import POTENTIALS, Family, Spectrum
from learndyn.cogo_li2.claims.build_by_algebra import constant_errors
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.core.plotting import FIGURE_SIZES, GRID, INK, MUTED, PALETTE, label_lines
from learndyn.core.tables import frame_html, markup

FAMILY_COLORS = dict(zip(potentials.FAMILIES, (PALETTE[0], PALETTE[1], PALETTE[5], PALETTE[3]), strict=True))
FAMILY_WORDS = {"R_g": "goal $R_g$", "R_c": "cross $R_c$", "R_n": "bias $R_n$", "R_*": "square $R_*$"}
RIGHT, WRONG = PALETTE[2], PALETTE[1]
FREQUENCY_COLORS = (PALETTE[0], PALETTE[5], PALETTE[2], PALETTE[1])
TICKS = ([-math.pi, 0, math.pi], ["−π", "0", "π"])
FLOOR = 1e-33  # an exact zero, drawn on a log axis


def _math(name: str) -> str:
    """The mathematics of a sum potential's name, such as ``Σābc``."""
    text = name.replace("ā", r"\bar{a}").replace("b̄", r"\bar{b}").replace("c̄", r"\bar{c}")
    return f"${text.replace('Σ', '').replace('²', '^2')}$"


# --- Networks ---


def answer_table(ax: Axes, named: np.ndarray, labels: np.ndarray, *, numbers: bool) -> None:
    """What a network answers for each (x, y): right cells green, wrong ones rust."""
    right = named == labels
    ax.imshow(right, cmap=ListedColormap([WRONG, RIGHT]), vmin=0, vmax=1, origin="lower", alpha=0.55)
    for (x, y), answer in np.ndenumerate(named) if numbers else ():
        ax.text(y, x, str(answer), ha="center", va="center", color=INK, fontsize=10.5)
    ax.set(xlabel="y", ylabel="x", xticks=range(len(named)), yticks=range(len(named)))
    ax.grid(False)


def torus(ax: Axes, element: np.ndarray, color: str, marker: str = "o", size: float = 70) -> None:
    """Nodes of one frequency at the phases of their input coefficients; −π is drawn as π."""
    alpha, beta = (math.pi - (math.pi - np.angle(row) + 1e-9) % (2 * math.pi) for row in element[:2])
    ax.scatter(alpha, beta, s=size, color=color, marker=marker, edgecolor="white", linewidth=0.8, zorder=3)


def _torus_axes(ax: Axes) -> None:
    reach = (-math.pi - 0.3, math.pi + 0.3)
    ax.set(xlim=reach, ylim=reach, xlabel="arg a", ylabel="arg b", aspect="equal")
    ax.set_xticks(*TICKS)
    ax.set_yticks(*TICKS)


def first_network(group: AbelianGroup, spectrum: Spectrum) -> Figure:
    """The answers of a built network of order 6, and its nodes at the first frequency on the torus of phases.

    The two copies of the factor with three nodes are drawn in two colours.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=FIGURE_SIZES["wide"])
    named, labels = exact_solutions.answers(group, spectrum).numpy(), group.addition_table().numpy()
    answer_table(left, named, labels, numbers=True)
    left.set_title(f"{(named == labels).sum()} of {named.size} answers right")
    k = int(group.half().characters[0])
    nodes = spectrum[:, spectrum[0, :, k].abs() > 1e-9][:, :, k].numpy()
    for color, copy in zip((PALETTE[0], PALETTE[1]), np.split(nodes, 2, axis=1), strict=True):
        torus(right, copy, color)
    _torus_axes(right)
    right.set_title(f"The {nodes.shape[1]} nodes of $k={group.label(k)}$")
    return fig


def budgets(cases: Mapping[str, potentials.LossBudget]) -> Figure:
    """The loss of several networks as stacked bars: a bar per frequency, a colour per family."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    middles, place, top = [], 0.0, 0.0
    for budget in cases.values():
        array = budget.to_array()
        bars = place + np.arange(array.sizes["frequency"])
        bottom = np.zeros(len(bars))
        for family, color in FAMILY_COLORS.items():
            values = array.sel(family=family).values
            ax.bar(bars, values, bottom=bottom, width=0.82, color=color, zorder=2)
            bottom = bottom + values
        ax.text(
            bars.mean(), bottom.max() + 0.02, f"{float(budget.loss):.3f}", ha="center", va="bottom", color=INK
        )
        middles.append(bars.mean())
        top = max(top, bottom.max())
        place = bars[-1] + 2.0
    for row, (family, color) in enumerate(FAMILY_COLORS.items()):
        words = f"■ {FAMILY_WORDS[family]}"
        ax.text(0.8, 0.97 - 0.09 * row, words, color=color, transform=ax.transAxes, va="top")
    ax.set_xticks(middles, list(cases))
    ax.set_ylim(0, 1.15 * top)
    ax.grid(False, axis="x")
    ax.set(ylabel="part of the loss", title="Order 3 leaves squares, order 4 a bias, order 6 nothing")
    return fig


def _group_math(name: str) -> str:
    """``Z_4 × Z_4`` as ``$Z_4^2$``: equal factors next to each other become a power."""
    runs = [(factor, len(list(same))) for factor, same in itertools.groupby(name.split(" × "))]
    parts = [factor.replace("_", "_{") + "}" + (f"^{n}" if n > 1 else "") for factor, n in runs]
    return "$" + r" {\times} ".join(parts) + "$"


def decomposition(errors: xr.Dataset) -> Figure:
    """Relative error of the exact decomposition, and of the paper's form on weights with a constant part."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    groups = errors["group"].values[np.argsort(errors["size"].values, kind="stable")]
    rows = [
        ("exact", PALETTE[0], "with the constant terms"),
        ("paper_with_constant", PALETTE[1], "the paper's form, weights with a constant part"),
    ]
    for name, color, words in rows:
        for place, group in enumerate(groups):
            values = errors[name].sel(group=group).values.ravel().clip(1e-18)
            jitter = np.linspace(-0.22, 0.22, values.size)
            ax.scatter(place + jitter, values, s=9, color=color, alpha=0.6, linewidth=0)
        ax.text(-0.25, errors[name].max() * 5, words, color=color, va="bottom")
    ax.set_yscale("log")
    ax.set_xticks(range(len(groups)), [_group_math(name) for name in groups])
    ax.set(ylim=(1e-17, 1e3), ylabel="relative error of the loss", xlabel="group")
    worst = constant_errors(errors, groups[-1]).max()
    ax.set_title(
        f"Without the constant terms up to {100 * worst:.0f} % off even at {_group_math(groups[-1])}"
    )
    ax.grid(False, axis="x")
    return fig


# --- Zero sets ---


def zero_sets(elements: Mapping[str, algebra.Frequency]) -> Figure:
    """Which of the ten potentials vanish for each element: empty circles vanish, full ones do not."""
    fig, ax = plt.subplots(figsize=(7.0, 0.55 * len(elements) + 1.5))
    for row, element in enumerate(elements.values()):
        values = algebra.potential_values(element).abs().numpy()
        values = values / values[0]
        gone = values < 1e-12
        x = np.arange(len(values))
        ax.scatter(x[gone], np.full(gone.sum(), -row), s=150, facecolor="white", edgecolor=RIGHT, linewidth=2)
        ax.scatter(x[~gone], np.full((~gone).sum(), -row), s=30 + 180 * values[~gone], color=_lamp(x[~gone]))
    ax.set_yticks([-row for row in range(len(elements))], list(elements))
    ax.set_xticks(range(len(POTENTIALS)), [_math(p.name) for p in POTENTIALS])
    _potential_axis(ax)
    ax.set(ylim=(0.6 - len(elements), 0.6), xlim=(-0.6, 9.6))
    ax.set_title("Zero sets unite under the product (open: vanishes)")
    return fig


def _lamp(places: np.ndarray) -> list[str]:
    return [PALETTE[0] if place == 0 else WRONG for place in places]


def _potential_axis(ax: Axes) -> None:
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for edge in (0.5, 3.5, 5.5):
        ax.axvline(edge, color=GRID, lw=1)


def construction_html(table: pd.DataFrame) -> HTML:
    """Table 1 as HTML: a green ring where a potential vanishes for every parameter, else its modulus."""
    names = [potential.name for potential in POTENTIALS]
    families = [(f, sum(p.family == f for p in POTENTIALS)) for f in potentials.FAMILIES]
    cell = 'style="text-align:center;padding:0.15em 0.2em"'
    top = "".join(f'<th scope="colgroup" colspan="{n}" {cell}>{markup(f)}</th>' for f, n in families)
    head = "".join(f'<th scope="col" {cell}>{name.removeprefix("Σ")}</th>' for name in names)
    ring = '<span style="color:#17724d" title="vanishes" aria-label="vanishes">○</span>'
    left = 'style="white-space:nowrap;text-align:left;padding:0.15em 0.2em"'
    body = ""
    for construction, row in table.iterrows():
        shown = [ring if row[name] == 0 else f"{row[name]:.2g}" for name in names]
        cells = "".join(f"<td {cell}>{text}</td>" for text in (row["order"], *shown))
        nodes = (
            f'<br><span style="font-weight:normal">{_omega(row["nodes"])}</span>'
            if row["nodes"] != "product"
            else ""
        )
        body += f'<tr><th scope="row" {left}>{markup(construction)}{nodes}</th>{cells}</tr>'
    return HTML(
        '<div style="overflow-x:auto" role="region" tabindex="0" aria-label="Constructions">'
        f'<table style="font-size:80%"><thead><tr><th></th><th></th>{top}</tr>'
        f'<tr><th scope="col" {left}>construction, nodes (a, b, c)</th>'
        f'<th scope="col" {cell}>order</th>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def networks_html(table: pd.DataFrame, words: Mapping[str, str]) -> HTML:
    """Columns of a data frame under the given words; losses in powers of ten, accuracies as shares."""
    formats = {"loss": _loss, "predicted_loss": _loss, "accuracy": "{:.2f}", "squared_norm": "{:.1f}"}
    used = {name: rule for name, rule in formats.items() if name in words}
    return frame_html(table, words, formats=used, label="Networks")


def _omega(nodes: str) -> str:
    """``ω3`` and its conjugate with a lowered 3."""
    return re.sub("(ω\u0304?)3", r"\1₃", nodes)


def _loss(value: float) -> str:
    return f"{value:.4f}" if value > 1e-4 else f"{value:.0e}" if value else "0"


# --- Incomplete solutions, Theorem 5, norms ---


def unhosted(table: pd.DataFrame) -> Figure:
    """Loss and accuracy against the share of frequencies that are of order 4 with their bias left."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
    for color, (d, rows) in zip(PALETTE * 3, table.groupby("d"), strict=False):
        by_m = rows.groupby("m")
        m = np.array(list(by_m.groups))
        share = m / m.max()
        left.plot(share, 4 * m / d, color=color, lw=1.2, label=f"$d={d}$")
        left.plot(share, by_m["loss"].mean(), "o", color=color)
        accuracy = by_m["accuracy"]
        right.fill_between(share, accuracy.min(), accuracy.max(), color=color, alpha=0.15, lw=0)
        right.plot(share, accuracy.mean(), "o-", color=color, label=f"$d={d}$")
        left.axhline((d - 1) / d, color=color, lw=1, ls=":")
    left.text(1.0, 0.7, "dotted: output 0", color=MUTED, fontsize=10, va="top", ha="right")
    left.set(ylabel="loss", title="The loss is $4m/d$")
    right.set(ylabel="share of right answers", ylim=(0, 1.05), title="Accuracy, by luck")
    for ax in (left, right):
        ax.set_xlabel("share of order-4 frequencies")
    label_lines(right)
    return fig


def theorem5(paths: Mapping[str, xr.Dataset]) -> Figure:
    """Loss (log) and squared norm from y * z′ to z′: the path of Theorem 5 first, then straight lines."""
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.6, 5.8), sharex=True)
    path, *lines = paths.values()
    middle = path.sizes["t"] // 2
    for color, offset, (name, way) in zip(
        (PALETTE[0], PALETTE[1], PALETTE[3]), (7, -16, 13), paths.items(), strict=True
    ):
        top.plot(way["t"], way["loss"].clip(min=FLOOR), color=color)
        bottom.plot(way["t"], way["norm"], color=color)
        at = (float(way["t"][middle]), float(way["norm"][middle]))
        bottom.annotate(name, at, (0, offset), textcoords="offset points", color=color, ha="center")
    top.text(0.5, 1e-27, "Theorem 5", color=PALETTE[0], ha="center")
    top.text(0.5, 1e-5, "straight lines", color=PALETTE[1], ha="center")
    peak = min(float(line["loss"].max()) for line in lines)
    top.set(yscale="log", ylim=(1e-34, 1e2), ylabel="loss")
    top.set_title(f"Zero loss on the path; straight lines reach {peak:.2f}")
    norm = path["norm"]
    bottom.axhline(float(norm[0]), color=MUTED, lw=1, ls=":")
    bottom.set(xlabel="$t$, from $y*z'$ to $z'$", ylabel="squared norm", ylim=(0, 1.2 * float(norm.max())))
    bottom.set_title(f"The path climbs {100 * float(norm.max() / norm[0] - 1):.0f} % in norm, then descends")
    return fig


def norm_bars(totals: Mapping[str, float], d: int) -> Figure:
    """Squared norms of the solutions of one group as horizontal bars; brackets mark what is no solution."""
    fig, ax = plt.subplots(figsize=(7.0, 0.5 * len(totals) + 1.3))
    colors = [MUTED if "bias left" in name or name == "order 4" else PALETTE[0] for name in totals]
    bars = ax.barh(range(len(totals)), list(totals.values()), color=colors, height=0.65)
    ax.bar_label(bars, fmt="%.1f", padding=4, color=INK)
    ax.set_yticks(range(len(totals)), list(totals))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set(xlabel="squared norm of all weights", title="Order 4 is light, but its bias must be hosted")
    return fig


def norm_law(curve: xr.Dataset, trained: float | None) -> Figure:
    """Norm of built networks over the number of order-6 frequencies, the law, and where training ends."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    built = curve["built"].values
    best, low, high = int(curve["n6"].values[built.argmin()]), float(built.min()), float(built[-1])
    room = max(high - low, 0.02 * low)
    ax.plot(curve["n6"], curve["rebalanced"], color=PALETTE[2], lw=1.4, label="hosts rebalanced")
    ax.plot(curve["n6"], curve["law"], color=PALETTE[3], lw=1.4, label="the law")
    ax.plot(curve["n6"], built, ".", color=PALETTE[0], ms=5)
    ax.plot(best, low, "o", color=PALETTE[1], ms=9, zorder=4)
    words = f"least norm {low:.0f} at {best}"
    ax.annotate(words, (best, low), (15, -22), textcoords="offset points", color=PALETTE[1])
    if trained is not None:
        ax.axvline(trained, color=MUTED, ls=":", lw=1.2)
        ax.text(trained + 0.6, 0.96, "training", color=MUTED, transform=ax.get_xaxis_transform(), va="top")
    ax.set(ylim=(low - 0.3 * room, high + 0.25 * room), xlim=(0, None))
    ax.set(xlabel="number of order-6 frequencies", ylabel="squared norm")
    ax.set_title(f"$d={curve.attrs['d']}$: a few hosts are cheaper than one, or many")
    label_lines(ax)
    return fig


# --- The explorer ---

CHOICES: Mapping[str, str] = {
    "3: syn": "syn",
    "4: ν=i·ξ": "nu_i*xi",
    "6: ν·syn": "nu*syn",
    "6: ν=i·syn,αβ": "nu_i*syn_alphabeta",
}


def explorer_network(
    group: AbelianGroup, choices: Sequence[str], angle: int, bias: str
) -> tuple[Spectrum, str]:
    """The network that the explorer shows, and who carries its bias (in words).

    ``choices``: keys of ``CHOICES``, one per frequency; ``angle``: all free angles, in degrees; ``bias``:
    ``"left alone"`` or ``"hosted"``, by the order-6 frequencies, or by one constant node if there is none.
    """
    turn = math.radians(angle)
    characters = group.half().characters.tolist()
    angles = {"nu": turn, "xi": turn, "alpha": turn, "beta": turn}
    network = {k: Family(CHOICES[name], **angles) for k, name in zip(characters, choices, strict=True)}
    plain = algebra.build(group, network)
    left_over = potentials.output_bias(group, plain)[1:].abs().max()
    if left_over < 1e-9:
        return plain, "no bias"
    if bias != "hosted":
        return plain, "bias left"
    if any(name.startswith("6") for name in choices):
        return algebra.build(group, network, host="all"), "bias on order 6"
    return algebra.build(group, network, host="node"), "bias on an extra node"


def solution_card(group: AbelianGroup, choices: Sequence[str], angle: int, bias: str) -> Figure:
    """One frame: lights for all potentials and the total bias, nodes on the torus, the answer table."""
    spectrum, carrier = explorer_network(group, choices, angle, bias)
    measured = exact_solutions.evaluate(group, spectrum)
    fig = plt.figure(figsize=(5.6, 5.2), layout="none")
    lights = fig.add_axes((0.11, 0.68, 0.86, 0.16))
    left, right = fig.add_axes((0.13, 0.105, 0.37, 0.46)), fig.add_axes((0.6, 0.105, 0.37, 0.46))
    _lights(lights, group, spectrum)
    for color, k in zip(FREQUENCY_COLORS, group.half().characters.tolist(), strict=False):
        live = spectrum[:, spectrum[0, :, k].abs() > 1e-9][:, :, k]
        torus(left, live.numpy(), color, "o" if k == 1 else "D", 130.0 if k == 1 else 34.0)
        left.text(
            0.03 + 0.34 * (k - 1),
            1.02,
            f"{'●' if k == 1 else '◆'} k = {k}",
            color=color,
            transform=left.transAxes,
        )
    _torus_axes(left)
    named = exact_solutions.answers(group, spectrum).numpy()
    answer_table(right, named, group.addition_table().numpy(), numbers=True)
    right.set_title(f"{round(measured.accuracy * named.size)} of {named.size} right", fontsize=11)
    shown = "0" if measured.loss < 1e-20 else f"{measured.loss:.3f}"
    lights.set_title(f"loss {shown}, {measured.width} nodes, {carrier}", fontsize=11, pad=24, loc="left")
    return fig


def _lights(ax: Axes, group: AbelianGroup, spectrum: Spectrum) -> None:
    bias = potentials.output_bias(group, spectrum).abs()
    x = np.arange(len(POTENTIALS) + 1)
    characters = group.half().characters.tolist()
    for row, k in enumerate(characters):
        values = 2 * group.size * algebra.potential_values(spectrum[:, :, k])
        values = torch.cat([values.abs(), bias[k, None]]).numpy()
        off, y = values < 1e-9, np.full(len(x), -row)
        ax.scatter(x[off], y[off], s=110, facecolor="white", edgecolor=RIGHT, linewidth=2, clip_on=False)
        size = 30 + 110 * np.minimum(values[~off], 1)
        ax.scatter(x[~off], y[~off], s=size, color=_lamp(x[~off]), clip_on=False)
    _potential_axis(ax)
    ax.set_xticks(x, [p.name.removeprefix("Σ") for p in POTENTIALS] + ["bias"], fontsize=10)
    ax.axvline(9.5, color=GRID, lw=1)
    ax.set_yticks([-row for row in range(len(characters))], [f"k = {k}" for k in characters])
    ax.set(xlim=(-0.6, 10.6), ylim=(0.5 - len(characters), 0.5))
