"""Drawings of the notebook "Attention scans, then snaps": labelled data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from learndyn.core.explorer import format_value
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, label_lines, shades
from learndyn.scan_snap import measures
from learndyn.scan_snap import statistics_training as statistics

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
RATIO_COLORS = (INDIGO, RUST)
VARIANT_COLORS = {"published": MUTED, "no normalisation": RUST, "residual": INDIGO}


def fan(limit: xr.Dataset) -> Figure:
    """Attention on the tokens of a class against the step, a panel for each ratio."""
    fig, axes = plt.subplots(1, limit.sizes["rate_ratio"], figsize=(7.0, 3.7), sharey=True, squeeze=False)
    distinct = (limit.kind == "distinct").values
    colors = shades(int(distinct.sum()))
    for ax, ratio in zip(axes[0], limit.rate_ratio.values, strict=True):
        one = limit.sel(rate_ratio=ratio)
        weights, step = one.attention_weights.values, limit.step.values
        ax.plot(step, weights[:, ~distinct], color=MUTED, lw=1.6)
        for color, line in zip(colors, weights[:, distinct].T, strict=True):
            ax.plot(step, line, color=color, lw=1.6)
        style = {"ha": "right", "va": "bottom", "fontsize": 10.5, "textcoords": "offset points"}
        ax.annotate("most frequent", (step[-1], weights[-1, -1]), xytext=(0, 2), color=colors[-1], **style)
        if ax is axes[0, 0]:
            ax.annotate("a common token", (step[-1], weights[-1, 0]), xytext=(0, 1), color=MUTED, **style)
        ax.set(xlabel="step", xlim=(0, step[-1]))
        ax.set_title(f"$\\eta_Y/\\eta_Z={ratio:g}$: {float(one.common_mass[-1]):.2f} stays common")
    axes[0, 0].set_ylabel("attention on one token")
    axes[0, 0].set_ylim(bottom=0)
    return fig


def log_comparison(loss: xr.DataArray, log: xr.DataArray) -> Figure:
    """Our training loss beside the authors' log, and their relative distance."""
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(5.6, 4.9), sharex=True, gridspec_kw={"height_ratios": [2, 1]}
    )
    ours = loss.sel(step=log.step)
    gap = np.abs(ours.astype(float) / log - 1)
    top.plot(ours.step, ours, color=INDIGO)
    top.plot(log.step, log, "o", color=RUST, ms=4, mfc="none")
    words = {"xycoords": "axes fraction", "ha": "right", "fontsize": 11}
    top.annotate("line: this run", (0.98, 0.9), color=INDIGO, **words)
    top.annotate("circles: the authors' log", (0.98, 0.79), color=RUST, **words)
    rounding = np.finfo(np.float32).eps / 2 / log.values
    bottom.plot(log.step, np.maximum(gap.values, 1e-9), "o", color=INDIGO, ms=3.5)
    bottom.plot(log.step, rounding, color=MUTED, lw=1.2, ls="--")
    bottom.annotate(
        "float32 rounding", (100, rounding[-1]), color=MUTED, ha="right", va="bottom", fontsize=10
    )
    top.set(yscale="log", ylabel="training loss (nats)")
    bottom.set(yscale="log", ylabel="relative gap", xlabel="step", ylim=(5e-10, 3e-2))
    early = format_value(float(f"{float(gap.sel(step=slice(0, 10)).max()):.0e}"))
    top.set_title(f"Until step 10 the losses agree to {early}")
    return fig


# --- heat maps ---


def figure4(maps: xr.DataArray, ratios: Sequence[float | int]) -> Figure:
    """Figure 4: c_n at the published steps, ``[setting, next, snapshot, …]``; rows are ratios."""
    classes = maps.sizes["next"]
    fig, axes = plt.subplots(len(ratios), classes, figsize=(7.0, 5.4), sharex=True, sharey=True)
    top = float(maps.max())
    for row, ratio in enumerate(ratios):
        for column in range(classes):
            ax = axes[row, column]
            image = _heat(ax, maps.isel(setting=row, next=column), top)
            ax.set_title(f"class {column + 1}, $\\eta_Y/\\eta_Z={ratio:g}$", fontsize=11)
            for edge in (9.5, 19.5):
                ax.axvline(edge, color=INK, lw=1)
            ax.set_xticks([4.5, 14.5, 24.5], ["common", "of class 1", "of class 2"], fontsize=9.5)
            ax.tick_params(axis="x", length=0)
    for ax in axes[:, 0]:
        ax.set_ylabel("step")
    one, ten = (_common(maps.isel(setting=row, next=0, snapshot=-1)) for row in range(2))
    words = f"Class 1: common tokens keep {one:.2f} at ratio {ratios[0]:g}, {ten:.2f} at {ratios[1]:g}"
    fig.suptitle(words, x=0.02, ha="left")
    fig.colorbar(image, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, label="attention $c_n$")
    return fig


def figure5(maps: xr.DataArray, rates: Sequence[float | int]) -> Figure:
    """Figure 5: c_n of class 1 on its tokens, ``[setting, snapshot, …]``; a panel for each rate of Adam."""
    fig, axes = plt.subplots(1, len(rates), figsize=(7.0, 3.6), sharey=True)
    top = float(maps.max())
    for number, (ax, rate) in enumerate(zip(axes, rates, strict=True)):
        one = maps.isel(setting=number, contextual=slice(0, 20))
        image = _heat(ax, one, top)
        ax.axvline(9.5, color=INK, lw=1)
        ax.set_xticks([4.5, 14.5], ["common", "distinct"], fontsize=10)
        ax.tick_params(axis="x", length=0)
        ax.set_title(f"$\\eta_Y=\\eta_Z={rate:g}$", fontsize=11)
    axes[0].set_ylabel("step")
    peaks = [int(maps.isel(setting=k, snapshot=-1).values[10:20].argmax()) + 1 for k in range(len(rates))]
    words = ", ".join(map(str, peaks))
    fig.suptitle(f"Adam: distinct tokens number {words} of 10 end on top", x=0.02, ha="left")
    fig.colorbar(image, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, label="attention $c_1$")
    return fig


def _heat(ax: Axes, values: xr.DataArray, top: float):
    steps = values.snapshot.values
    image = ax.imshow(values, aspect="auto", interpolation="nearest", vmin=0, vmax=top)
    ax.grid(False)
    ax.set_yticks(range(len(steps)), [str(step) for step in steps], fontsize=9.5)
    return image


def _common(weights: xr.DataArray) -> float:
    return float(weights[:10].sum())


# --- in time ---


def speed(panels: xr.Dataset, limit: xr.Dataset) -> Figure:
    """Speed of the attention logits: every seed (thin), mean over seeds, and the limit (dashed)."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    words = []
    for setting, color in zip((statistics.LEFT, statistics.RIGHT), RATIO_COLORS, strict=True):
        one = panels.sel(setting=setting).attention_speed
        # a speed of exactly 0, before the first batch has had an effect, has no place on a logarithmic axis
        moving = one.where(one > 0)
        ax.plot(moving.step, moving.transpose("step", "seed"), color=color, lw=0.6, alpha=0.35)
        mean = moving.mean("seed")
        ratio = float(one.rate_ratio)
        ax.plot(mean.step, mean, color=color, label=f"ratio {ratio:g}")
        dashed = limit.attention_speed.sel(rate_ratio=ratio)
        ax.plot(limit.step[1:], dashed[1:], color=color, lw=1.3, ls="--")
        peak = int(mean.fillna(0).argmax("step"))
        words.append(f"step {peak} (ratio {ratio:g})")
    ax.set(yscale="log", xlabel="step", ylabel="$\\|Z_{t+1}-Z_t\\|_F$", xlim=(0, panels.step[-1]))
    ax.set_ylim(bottom=1e-6)
    ax.set_title(f"Attention is fastest at {' and '.join(words)}")
    label_lines(ax)
    return fig


def momentum(curves: Mapping[float | int, xr.Dataset]) -> Figure:
    """Distinct entropy and common mass in the limit, for momenta with the same effective rate."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.6))
    for (value, one), color in zip(curves.items(), (PINE, INDIGO, RUST), strict=True):
        for ax, name in zip(axes, ("distinct_entropy", "common_mass"), strict=True):
            ax.plot(one.step, one[name], color=color, label=f"$\\mu={value:g}$")
    for ax, label, title in zip(
        axes,
        ("distinct entropy (nats)", "attention on common tokens"),
        ("More momentum: sparser,", "less left on common tokens"),
        strict=True,
    ):
        ax.set(xscale="log", xlabel="step", ylabel=label, title=title)
        ax.set_xlim(1, None)
    label_lines(axes[1])
    return fig


def lengths(found: xr.Dataset) -> Figure:
    """Distinct entropy at the end against the length of the sequences; dashed: the limit."""
    fig, ax = plt.subplots()
    for ratio, color in zip(found.rate_ratio.values, RATIO_COLORS, strict=True):
        one = found.sel(rate_ratio=ratio)
        mean = one.distinct_entropy.mean("seed")
        limit = float(one.mean_field)
        ax.axhline(limit, color=color, lw=1.2, ls="--")
        seeds = one.distinct_entropy.transpose("length", "seed")
        ax.plot(one.length, seeds, ".", color=color, ms=4, alpha=0.5)
        ax.plot(one.length, mean, color=color, label=f"ratio {ratio:g}")
        ax.annotate(
            f"limit {limit:.3f}",
            (0.01, limit),
            xycoords=ax.get_yaxis_transform(),
            color=color,
            fontsize=10.5,
            xytext=(0, 3),
            textcoords="offset points",
        )
    ax.set(xscale="log", xlabel="sequence length $T$", ylabel="distinct entropy (nats)")
    ax.set_xticks(found.length.values, [str(v) for v in found.length.values])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()
    short = found.distinct_entropy.isel(length=0).mean("seed") - found.mean_field
    ratio, length = float(found.rate_ratio[0]), int(found.length[0])
    ax.set_title(f"Ratio {ratio:g}, $T={length}$: {abs(float(short[0])):.2f} nats below the limit")
    label_lines(ax)
    return fig


# --- the family ---


def family(panels: xr.Dataset, sgd: Sequence[str], adam: Sequence[str], every: int = 4) -> Figure:
    """Shares of the distinct tokens against the logit of the most frequent, and the curves of Theorem 3."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 4.3), sharey=True)
    relative = panels.relative_frequency.values
    colors = shades(len(relative))
    for ax, names, optimizer in zip(axes, (sgd, adam), ("SGD", "Adam"), strict=True):
        farthest = 100 * max(statistics.family_distance(panels, name) for name in names)
        chosen = panels.sel(setting=list(names)).isel(snapshot=slice(0, None, every))
        z0 = chosen.distinct_logits.isel(distinct=-1)
        shares = chosen.distinct_weights / chosen.distinct_weights.sum("distinct")
        low, high = float(z0.min()), float(z0.max())
        x = np.linspace(min(low, 0), 1.05 * high, 200)
        curves = measures.family_curve(relative, np.exp(2 * x))
        for token, color in enumerate(colors):
            y = shares.isel(distinct=token).values.ravel()
            ax.scatter(z0.values.ravel(), y, s=4, color=color, alpha=0.5, lw=0)
            ax.plot(x, curves[:, token], color=color, lw=1.5)
        ax.set(xlabel="logit $z_0$ of the most frequent", ylim=(0, 0.42))
        ax.set_title(f"{optimizer}: {farthest:.0f} % off at most")
        ax.xaxis.set_major_locator(MaxNLocator(5))
    axes[0].set_ylabel("share of the distinct attention")
    return fig


def conservation(panels: xr.Dataset, steps: Sequence[int]) -> Figure:
    """(1 − e^{−2z_l})/(1 − e^{−2z_0}) against (P_l/P_0)²: under Theorem 3 the diagonal, at all times."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["square"])
    squares = panels.relative_frequency.values**2
    ax.plot([0, 1], [0, 1], color=MUTED, lw=1.2, ls="--")
    ax.annotate("Theorem 3", (0.66, 0.58), color=MUTED, rotation=39, ha="center", va="center", fontsize=10.5)
    for setting, color in zip((statistics.RIGHT, statistics.LEFT), (RUST, INDIGO), strict=True):
        one = panels.sel(setting=setting)
        ratio = float(one.rate_ratio)
        for step, width in zip(steps, np.linspace(0.8, 2.2, len(steps)), strict=True):
            z = one.distinct_logits.sel(snapshot=step).mean(("seed", "next")).values
            y = np.expm1(-2 * z) / np.expm1(-2 * z[-1])
            last = step == steps[-1]
            ax.plot(
                squares,
                y,
                "o-",
                color=color,
                lw=width,
                ms=3 if last else 0,
                label=f"ratio {ratio:g}" if last else "_",
            )
    ax.set(xlabel="$(P_l/P_0)^2$", ylabel="$(1-e^{-2z_l})\\,/\\,(1-e^{-2z_0})$")
    ax.set_title(f"Ratio {ratio:g}: up to {float(np.max(y - squares)):.2f} above the theorem")
    ax.legend(loc="upper left")
    return fig


# --- ablation and prior ---


def ablation(found: xr.Dataset) -> Figure:
    """Attention at the end, token by token, for one and two next tokens per query."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.9), sharey=True)
    for ax, shared in zip(axes, (1, 2), strict=True):
        for name, color in VARIANT_COLORS.items():
            key = name if shared == 1 else f"{name}, r = 2"
            weights = found.weights.sel(variant=key)
            ax.plot(
                np.arange(1, weights.size + 1), np.maximum(weights, 1e-6), "o-", color=color, ms=3.5, lw=1.3
            )
        ax.axvline(10.5, color=INK, lw=0.8)
        ax.set(yscale="log", ylim=(1e-5, 2.5), xlim=(0.3, 20.7))
        ax.set_xticks([5.5, 15.5], ["common", "distinct"])
        ax.tick_params(axis="x", length=0)
        entropy = {
            n: float(found.distinct_entropy.sel(variant=n if shared == 1 else f"{n}, r = 2").mean())
            for n in VARIANT_COLORS
        }
        bare, residual = entropy["no normalisation"], entropy["residual"]
        ax.set_title(f"$r={shared}$: {bare:.2f} nats unnormalised, {residual:.2f} with residual")
    axes[0].set_ylabel("attention $c$ at the end")
    for (name, color), y in zip(VARIANT_COLORS.items(), (0.95, 0.88, 0.81), strict=True):
        axes[0].annotate(name, (0.03, y), xycoords="axes fraction", color=color, fontsize=10.5, va="top")
    return fig


def winners(found: xr.Dataset, distinct: int) -> Figure:
    """How often which distinct token has most attention before and after training, from starts of scale 1."""
    found = found.sel(scale=1)
    fig, axes = plt.subplots(1, found.sizes["rate_ratio"], figsize=(7.0, 3.5), sharey=True)
    tokens = np.arange(1, distinct + 1)
    for ax, ratio in zip(axes, found.rate_ratio.values, strict=True):
        one = found.sel(rate_ratio=ratio)
        for name, color, shift in (("expected", PERIWINKLE, -0.2), ("winner", INDIGO, 0.2)):
            counts = np.bincount(one[name].values.ravel(), minlength=len(tokens))
            ax.bar(tokens + shift, counts / counts.sum(), width=0.4, color=color)
        same = float((one.winner == one.expected).mean())
        ax.set(
            xlabel="distinct token, by $P(l|n)$",
            title=f"ratio {ratio:g}: favourite wins {100 * same:.0f} %",
        )
        ax.set_xticks(tokens)
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("share of classes and runs")
    for words, color, y in (("before training", PERIWINKLE, 0.9), ("after", INDIGO, 0.8)):
        axes[0].annotate(words, (0.04, y), xycoords="axes fraction", color=color, fontsize=10.5)
    return fig


def scales(found: xr.Dataset, distinct: int) -> Figure:
    """How often the most frequent token wins, and the favourite before training, against the scale."""
    fig, ax = plt.subplots()
    over = ("prior_run", "next")
    for ratio, color in zip(found.rate_ratio.values, RATIO_COLORS, strict=True):
        one = found.sel(rate_ratio=ratio)
        frequent = (one.winner == distinct - 1).mean(over)
        favourite = (one.winner == one.expected).mean(over)
        ax.plot(one.scale, frequent, "o-", color=color, ms=4, label=f"ratio {ratio:g}")
        ax.plot(one.scale, favourite, "o--", color=color, ms=4, mfc="white", lw=1.3, label="_")
    before = (found.isel(rate_ratio=0).expected == distinct - 1).mean(over)
    ax.plot(found.scale, before, color=MUTED, lw=1.3, ls=":")
    ax.axhline(1 / distinct, color=MUTED, lw=0.8)
    ax.annotate(
        "chance",
        (0.02, 1 / distinct),
        xycoords=ax.get_yaxis_transform(),
        color=MUTED,
        fontsize=10.5,
        va="bottom",
    )
    ax.set(xscale="log", xlabel=r"scale of the start, times $1/\sqrt{M}$", ylabel="share of classes and runs")
    ax.set_xticks(found.scale.values, [f"{v:g}" for v in found.scale.values])
    ax.minorticks_off()
    ax.set_ylim(0, 1.03)
    words = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": 10.5}
    ax.annotate("solid: the most frequent wins", (0.99, 0.98), **words)
    ax.annotate("dashed: the favourite stays", (0.99, 0.915), **words)
    ax.annotate("dotted: most frequent, before", (0.99, 0.85), color=MUTED, **words)
    low, high = found.scale.values[[0, -1]]
    first, last = (100 * float((found.winner == distinct - 1).sel(scale=s).mean()) for s in (low, high))
    ax.set_title(f"Most frequent on top: {first:.0f} % at {low:g}, {last:.0f} % at {high:g}")
    label_lines(ax)
    return fig


# --- explorer ---


def frame(panels: xr.Dataset, setting: str, step: int) -> Figure:
    """One frame of the explorer: attention of both classes at a step, and where on the curves that is."""
    one = panels.sel(setting=setting)
    now, start = (one.attention_maps.sel(snapshot=place).values for place in (step, 0))
    # A fixed layout, few artists and plain text: an explorer draws its frames by the dozen.
    fig = plt.figure(figsize=(5.6, 5.4), layout="none")
    boxes = ((0.13, 0.69, 0.84, 0.24), (0.13, 0.41, 0.84, 0.24), (0.13, 0.1, 0.84, 0.22))
    top, middle, bottom = (fig.add_axes(box) for box in boxes)
    tokens = np.arange(now.shape[1])
    for number, ax in enumerate((top, middle)):
        for block, color in enumerate((MUTED, INDIGO, RUST)):
            part = slice(10 * block, 10 * block + 10)
            ax.vlines(tokens[part], 0, now[number, part], color=color, lw=8.5)
        ax.step(tokens, start[number], where="mid", color=INK, lw=0.8)
        ax.set(ylim=(0, 0.24), xlim=(-0.7, 29.7), ylabel=f"class {number + 1}")
        ax.set_xticks([])
        ax.set_yticks([0, 0.1, 0.2])
        ax.grid(axis="x", visible=False)
    middle.set_xticks([4.5, 14.5, 24.5], ["common", "of class 1", "of class 2"])
    middle.tick_params(axis="x", length=0)
    top.set_title(f"Step {step}: common {float(one.common_mass.sel(snapshot=step)):.3f}")
    bottom.plot(one.step, np.log10(one.loss), color=AMBER)
    bottom.plot(one.step, np.log10(one.attention_speed.where(one.attention_speed > 0)), color=PINE)
    bottom.axvline(step, color=INK, lw=1)
    bottom.set(ylim=(-7, 1.3), xlim=(0, panels.step[-1]), xlabel="step")
    bottom.set_yticks([-6, -3, 0], ["10⁻⁶", "10⁻³", "1"])
    style = {"xycoords": "axes fraction", "ha": "right", "fontsize": 10}
    bottom.annotate("loss", (0.99, 0.86), color="#a86f10", **style)
    bottom.annotate("speed of Z", (0.99, 0.68), color=PINE, **style)
    return fig
