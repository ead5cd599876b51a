"""Drawings of the notebook "The theory ladder": labelled data in, figure out."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learndyn.core.explorer import format_value
from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, label_lines, shades
from learndyn.scan_snap.experiments_theory_ladder import (
    DECORRELATED,
    FLOW,
    LEMMA4,
    MEAN_FIELD,
    OWN_FORCE,
    THEOREM4,
)

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
TIME = "time $t$ (steps of batch size 1)"
FALL = "fall of the common token, $-z$"
DOTTED = {"color": MUTED, "lw": 1, "ls": ":", "zorder": 1}
STYLES = {
    MEAN_FIELD: {"color": PINE, "lw": 1.8, "ls": (0, (5, 1.5))},
    FLOW: {"color": INDIGO, "lw": 3.0},
    OWN_FORCE: {"color": PERIWINKLE, "lw": 1.6, "ls": (0, (3, 2))},
    DECORRELATED: {"color": GREEN, "lw": 2.0},
    LEMMA4: {"color": RUST, "lw": 2.0},
    THEOREM4: {"color": AMBER, "lw": 2.0, "ls": (0, (5, 2))},
}
SHORT = {
    OWN_FORCE: "Lemma 4, own force",
    FLOW: "gradient flow",
    MEAN_FIELD: "mean field",
}


def _line(ax: Axes, found: xr.Dataset, rung: str, **changes: object) -> None:
    curve = -found["common"].sel(rung=rung).dropna("time")
    style = STYLES[rung] | {"label": SHORT.get(rung, rung)} | changes
    ax.plot(curve["time"], curve, **style)


def _times(value: float) -> str:
    """A factor for a title."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def ends(found: xr.Dataset) -> Figure:
    """Top and bottom of the ladder: gradient flow and Theorem 4."""
    fig, ax = plt.subplots()
    for rung in (FLOW, THEOREM4):
        _line(ax, found, rung, ls="-")
    last = found["common"].isel(time=-1)
    factor = float(last.sel(rung=THEOREM4) / last.sel(rung=FLOW))
    ax.set(xscale="log", yscale="log", xlabel=TIME, ylabel=FALL)
    ax.set_xlim(0.5, float(found["time"][-1]))
    ax.set_ylim(1e-6, 2)
    ax.set_title(f"At the end the closed form is {_times(factor)} times the flow")
    label_lines(ax)
    return fig


def forces(frozen: xr.Dataset, factor: xr.DataArray, rule: xr.DataArray, experiment: float) -> Figure:
    """Theorem 1's force and that of the gradient: over time, and over the overlap for some sizes."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.9))
    later = frozen.sel(time=slice(0.5, None))
    curves = {
        "theorem": (later["theorem"], {"color": RUST}),
        "gradient": (later["force"].sel(update="gradient"), {"color": INDIGO, "lw": 2.6}),
        "leading": (later["leading"], {"color": PERIWINKLE, "ls": (0, (3, 2))}),
    }
    for values, style in curves.values():
        left.plot(later["time"], values / later["gamma"], **style)
    left.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="force over $\\gamma$", ylim=(2e-3, 6e-2))
    left.set_yticks([0.003, 0.01, 0.03], ["0.003", "0.01", "0.03"])
    left.minorticks_off()
    high = later["force"].sel(update="decorrelated") / later["force"].sel(update="gradient")
    left.set_title(f"{float(high.max()):.1f} to {float(high.min()):.1f} times too strong")
    words = (("Theorem 1's update", RUST, 0.034), ("gradient", INDIGO, 0.0056))
    words += (("its leading order", "#5a64b8", 0.0026),)
    for text, color, height in words:
        left.annotate(text, (0.7, height), color=color, fontsize=10.5)
    for color, row in zip(shades(factor.sizes["size"]), factor, strict=True):
        name = str(row["size"].values).replace("K", "$K$").replace("M", "$M$")
        right.plot(row["initial_overlap"], row, color=color, label=name)
        dashed = rule.sel(size=row["size"])
        right.plot(dashed["initial_overlap"], dashed, color=color, lw=1, ls=(0, (3, 2)))
    right.legend(loc="upper left", fontsize=9.5, handlelength=1.2, borderaxespad=0.2, labelspacing=0.25)
    right.axvline(experiment, **DOTTED)
    right.axhline(1, **DOTTED)
    right.annotate("experiments", (experiment, 0.42), ha="right", color=MUTED, fontsize=9.5)
    right.set(xscale="log", yscale="log", xlabel="overlap $\\rho$", ylabel="theorem / gradient")
    right.set_ylim(0.35, 3e4)
    right.set_title(f"Up to {float(factor.max()):.0f} times the gradient's")
    return fig


def early(law: xr.Dataset) -> Figure:
    """The first moves: flow on its law, Lemma 4 parallel to it."""
    fig, ax = plt.subplots()
    ax.plot(law["time"], law["lemma4"], color=RUST, label="Lemma 4")
    ax.plot(law["time"], law["even"], "o", ms=5.5, mfc="white", mec=INDIGO, mew=1.3)
    ax.plot(law["time"], law["even_law"], color=INDIGO, lw=1.4, label="the law, $\\propto t^2$")
    ax.annotate("gradient flow (circles)", (0.97, 0.3), xycoords="axes fraction", color=INDIGO, ha="right")
    factor = float(law["lemma4"][0] / law["even"][0])
    ax.set(xscale="log", yscale="log", xlabel=TIME, ylabel="$\\Vert Z(t)\\Vert_F$")
    ax.set_title(f"Same power of $t$; Lemma 4 is {_times(factor)} times too large")
    label_lines(ax)
    return fig


def token_paths(paths: xr.Dataset) -> Figure:
    """Logits of all tokens under Lemma 4 and under the flow, same axes; colours are classes."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.9), sharey=True)
    colors = {-1: MUTED, 0: INDIGO, 1: RUST, 2: GREEN}
    for ax, name in zip(axes, paths["dynamics"].values, strict=True):
        z = paths["attention"].sel(dynamics=name)
        owner = paths["owner"].values
        for token in range(z.sizes["token"]):
            color = colors[int(owner[token])]
            ax.plot(z["time"], z.isel(token=token), color=color, lw=2.4 if owner[token] < 0 else 1.5)
        sinking = int((np.diff(z.values[:, owner >= 0], axis=0) < 0).any(0).sum())
        words = f"{sinking} of {(owner >= 0).sum()} sink" if sinking else "all rise"
        ax.set_title(f"{str(name).capitalize()}: {words}")
        ax.axhline(0, **DOTTED)
        ax.set_xscale("symlog", linthresh=1, linscale=0.3)
        ax.set_yscale("symlog", linthresh=0.01, linscale=0.6)
        ax.set(xlabel="time $t$", xlim=(0, None))
        ax.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
        ax.minorticks_off()
    axes[0].set_ylabel("attention logit $z$")
    axes[0].set_yticks([-1, -0.1, -0.01, 0, 0.01, 0.1, 1], ["−1", "−.1", "−.01", "0", ".01", ".1", "1"])
    axes[1].annotate("common", (0.97, 0.1), xycoords="axes fraction", color=MUTED, ha="right")
    return fig


def conservation(found: xr.Dataset) -> Figure:
    """Theorem 3: the ratio that should be 1, and the bounds of ln χ under Lemma 4."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.9))
    later = found.isel(time=slice(1, None))
    names = list(later["dynamics"].values)
    for color, name in zip([RUST, *shades(len(names) - 1)[::-1]], names, strict=True):
        curve = later["ratio"].sel(dynamics=name)
        left.plot(later["time"], curve, color=color)
        text = "Lemma 4" if name == "Lemma 4" else name.replace("flow, ratio ", "flow, $\\nu=$")
        drop = -11 if name == "Lemma 4" else 3
        left.annotate(
            text, (float(later["time"][-1]), float(curve[-1])), xytext=(0, drop), ha="right",
            textcoords="offset points", color=INK if name != "Lemma 4" else RUST, fontsize=10,
        )  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="invariant, rare / frequent")
    left.set_ylim(0.7, 20)
    left.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    left.minorticks_off()
    left.set_title(f"Lemma 4: exact; flow: up to {float(later['ratio'].max()):.0f}×")
    lowest = later["lower"] / later["upper"]
    right.fill_between(later["time"], lowest, 1, color=AMBER, alpha=0.35, lw=0)
    right.plot(later["time"], later["ln_chi"] / later["upper"], color=RUST)
    right.set(xscale="log", xlabel="time $t$", ylabel="$\\ln\\chi_0\\;/\\;2B_n$")
    right.annotate("upper bound", (0.05, 0.995), xycoords=("axes fraction", "data"), va="top")
    floor = float(lowest[0])
    right.annotate(
        "lower bound, $f_0(0)^2$", (0.05, floor - 0.01), xycoords=("axes fraction", "data"), va="top"
    )
    right.set_ylim(floor - 0.06, 1.02)
    right.set_title("$\\ln\\chi_0$ within its bounds")
    return fig


def constant(found: xr.Dataset) -> Figure:
    """Theorem 4 integrated, corrected and printed."""
    fig, ax = plt.subplots()
    ax.plot(found["time"], found["integrated"], color=INDIGO, lw=4.5, alpha=0.35, label="integrated")
    ax.plot(found["time"], found["corrected"], color=RUST, lw=1.6, label="corrected")
    ax.plot(found["time"], found["printed"], color=MUTED, ls=(0, (4, 2)), label="as printed")
    gap = float((found["printed"] - found["integrated"])[0])
    ax.set(xscale="log", xlabel=TIME, ylabel="$B(t)$", ylim=(0, None))
    ax.set_title(f"As printed, $B$ starts at {gap:.2f} instead of 0")
    label_lines(ax)
    return fig


def figure3(found: xr.Dataset) -> Figure:
    """Figure 3: χ(t) for four decoder rates, dotted lines at t₀, dots where γ peaks."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    for color, run in zip(shades(found.sizes["run"]), range(found.sizes["run"]), strict=True):
        one = found.isel(run=run)
        ax.plot(
            one["time"], one["chi"], color=color, label=f"$\\eta_Y={format_value(float(one.decoder_rate))}$"
        )
        ax.axvline(float(one["transition"]), color=color, lw=1.1, ls=":")
        peak = float(one["peak_time"])
        ax.plot(peak, float(one["chi"].interp(time=peak)), "o", color=color, ms=6)
    ax.set(xlabel=TIME, ylabel="$\\chi_{l_0}(t)$", xlim=(0, float(found["time"][-1])), ylim=(0, None))
    ax.set_title("Fast decoders rise first and freeze first")
    label_lines(ax)
    return fig


def figure9(panels: list[xr.Dataset]) -> Figure:
    """Figure 9: B(t) at two ratios of the rates; the dot at t₀ has the same height on all curves."""
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.7))
    for ax, panel in zip(axes, panels, strict=True):
        for color, run in zip(shades(panel.sizes["run"]), range(panel.sizes["run"]), strict=True):
            one = panel.isel(run=run)
            ax.plot(
                one["time"], one["growth"], color=color, lw=1.6, label=format_value(float(one.attention_rate))
            )
            start = float(one["transition"])
            if start <= float(one["time"][-1]):
                ax.plot(start, float(one["growth_at_transition"]), "o", color=color, ms=6)
        height = float(panel["growth_at_transition"][0])
        ax.axhline(height, **DOTTED)
        ratio = float(panel["decoder_rate"][0] / panel["attention_rate"][0])
        ax.set(xlabel="time $t$", xlim=(0, float(panel["time"][-1])), ylim=(0, None))
        last = float(panel["growth_at_transition"][-1])
        same = f"all at $B(t_0)={height:.4f}$" if abs(last - height) < 5e-5 else "$B(t_0)$ differs"
        ax.set_title(f"$\\nu={format_value(ratio)}$: {same}")
        ax.annotate(f"$M={panel.attrs['vocabulary']}$", (0.96, 0.05), xycoords="axes fraction", ha="right")
        label_lines(ax, fontsize=9.5)
    axes[0].set_ylabel("$B(t)$; lines by $\\eta_Z$")
    return fig


def creep(found: xr.Dataset) -> Figure:
    """The common token long after the transition: Theorem 4 and the flow, over what they had at t = 10⁴."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    styles = {"growth": (AMBER, "Theorem 4"), "flow": (INDIGO, "flow")}
    for run, dash in ((0, "-"), (1, (0, (4, 2)))):
        one = found.isel(run=run)
        for name, (color, words) in styles.items():
            curve = one[name] / one[name].sel(time=1e4, method="nearest")
            label = f"{words}, $\\nu={format_value(float(one.rate_ratio))}$"
            ax.plot(one["time"], curve, color=color, ls=dash, label=label)
    ax.axhline(1, **DOTTED)
    ax.set(xscale="log", xlabel=TIME, ylabel="$-z(t)$ over its value at $10^4$", ylim=(0, None))
    tops = [
        float(found[name].isel(run=0)[-1] / found[name].isel(run=0).sel(time=1e4, method="nearest"))
        for name in styles
    ]
    percent = [f"+{100 * (top - 1):.0f} %" for top in tops]
    ratio = format_value(float(found["rate_ratio"][0]))
    ax.set_title(f"From $10^4$ to $10^6$ at $\\nu={ratio}$: Theorem 4 {percent[0]}, flow {percent[1]}")
    label_lines(ax)
    return fig


def ladder(pair: tuple[xr.Dataset, xr.Dataset], *, log: bool) -> Figure:
    """All rungs at two ratios of the learning rates, one above the other."""
    fig, axes = plt.subplots(2, 1, figsize=(7.0, 8.4), sharex=True)
    for ax, found in zip(axes, pair, strict=True):
        trained = [name for name in found["rung"].values if str(name).startswith("SGD")]
        for marker, name in zip("os^Dv", trained, strict=False):
            curve = -found["common"].sel(rung=name).dropna("time")
            spread = found["spread"].sel(rung=name, time=curve["time"])
            face = INK if marker == "o" else "white"
            curve = curve.where(curve > 0) if log else curve
            points = slice(None, None, 3) if curve.sizes["time"] > 20 else slice(None)
            ax.errorbar(
                curve["time"][points], curve[points], None if log else spread[points], fmt=marker, ms=5,
                color=INK, mfc=face, elinewidth=1, zorder=4,
            )  # fmt: skip
            ax.plot(curve["time"], curve, color=INK, lw=0.7, zorder=3, label=str(name).replace("T", "$T$"))
        for rung in STYLES:
            _line(ax, found, rung)
        ratio = found.attrs["decoder_rate"] / found.attrs["attention_rate"]
        last = found["common"].isel(time=-1)
        factor = float(last.sel(rung=LEMMA4) / last.sel(rung=FLOW))
        ax.set(xscale="log", ylabel=FALL)
        ax.set_xlim(1 if log else 0.3, float(found["time"][-1]))
        if log:
            ax.set_yscale("log")
            top = float(-last.min())
            ax.set_ylim(top * 2e-5, top * 2)
        else:
            ax.set_ylim(0, None)
        times = "" if ratio == 1 else f"{format_value(ratio)}\\,"
        ax.set_title(f"$\\eta_Y={times}\\eta_Z$: Lemma 4 ends at {_times(factor)} times the flow")
    axes[1].set_xlabel(TIME)
    for ax in axes:
        label_lines(ax)
    return fig


#: Words beside the explorer's sliders.
EXPLORER_LABELS = {
    "attention_rate": "$\\eta_Z$",
    "rate_ratio": "$\\nu=\\eta_Y/\\eta_Z$",
    "classes": "next tokens $K$",
    "vocabulary": "vocabulary $M$",
    "overlap": "overlap $\\rho$",
    "time": "time $t$ of the line",
}


def explorer_frame(curves: xr.Dataset, time: float) -> Figure:
    """The theory curves beside the true flow, and attention at one time; axes are the same in all frames."""
    # Drawn a hundred times: the layout is fixed, and no text is mathematics, which costs most of a drawing.
    fig = Figure(figsize=(4.8, 4.5), layout="none")
    upper, lower = fig.add_axes((0.14, 0.46, 0.83, 0.41)), fig.add_axes((0.14, 0.075, 0.83, 0.255))
    at = curves.sel(time=time, method="nearest")
    _explorer_curves(upper, curves, at)
    _explorer_weights(lower, at)
    return fig


def _explorer_curves(ax: Axes, curves: xr.Dataset, at: xr.Dataset) -> None:
    """−z of the common token on four rungs, and the moment that is looked at."""
    names = {THEOREM4: 0.75, LEMMA4: 0.485, DECORRELATED: 0.17, FLOW: 0.0}
    for place, (rung, left) in enumerate(names.items()):
        ax.plot(curves["time"], curves["common"].sel(rung=rung), **STYLES[rung], zorder=2 + place)
        ax.plot([left, left + 0.05], [1.055, 1.055], transform=ax.transAxes, clip_on=False, **STYLES[rung])
        word = SHORT.get(rung, rung).removeprefix("gradient ").removesuffix(" flow")
        ax.text(left + 0.065, 1.05, word, transform=ax.transAxes, va="center", fontsize=10.5)
    peak, now = curves.attrs["peak"], float(at["time"])
    ax.axvline(peak, **DOTTED)
    ax.annotate("t*", (peak, 2e-6), (3, 0), textcoords="offset points", color=MUTED, style="italic")
    ax.axvline(now, color=INK, lw=1)
    for rung in (LEMMA4, FLOW):
        ax.plot(now, at["common"].sel(rung=rung), "o", color=STYLES[rung]["color"], ms=6, zorder=9)
    ax.set(xscale="log", yscale="log", xlim=(0.1, float(curves["time"][-1])), ylim=(1e-6, 10))
    ax.minorticks_off()
    for set_ticks, powers in ((ax.set_xticks, (0, 2, 4)), (ax.set_yticks, (-6, -3, 0))):
        set_ticks([10.0**power for power in powers], [_power(10.0**power) for power in powers])
    ax.set_xlabel("time t (steps of batch size 1)")
    ax.set_ylabel("fall of common token, −z", fontsize=11)
    side = "<" if curves.attrs["overlap"] < curves.attrs["limit"] else ">"
    ax.text(1, 1.12, f"ρ {side} 1/K", transform=ax.transAxes, ha="right")
    factor = float(at["common"].sel(rung=LEMMA4) / at["common"].sel(rung=FLOW))
    ax.set_title(f"Lemma 4: {_times(factor)} times the flow", y=1.1)


def _explorer_weights(ax: Axes, at: xr.Dataset) -> None:
    """Attention weights of one class's tokens at that moment, under the flow and under Lemma 4."""
    places = np.arange(at.sizes["support"])
    for rung, shift in ((FLOW, -0.2), (LEMMA4, 0.2)):
        heights = at["attention_weights"].sel(update=rung)
        ax.bar(places + shift, heights, 0.36, color=STYLES[rung]["color"], lw=0)
    ax.hlines(at["uniform"], places - 0.44, places + 0.44, color=MUTED, lw=1.6)
    ax.set(ylim=(0, 1), xlim=(-0.6, places[-1] + 0.6), ylabel="attention")
    ax.set_xticks(places, ["common", "frequent", "middle", "rare"])
    ax.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    ax.text(2, 0.96, "distinct tokens", ha="center", va="top", color=MUTED)


def _power(value: float) -> str:
    """A power of ten as plain text."""
    return "1" if value == 1 else "10" + f"{round(math.log10(value))}".translate(_SUPERSCRIPT)


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else form.format(value).replace("-", "−")


def error_table(tables: Mapping[float, pd.DataFrame]) -> pd.DataFrame:
    """What each step costs, from a `experiments.step_table` for each ratio of the rates."""
    steps = next(iter(tables.values()))
    taken = steps["above"] != ""
    named = [
        f"{SHORT.get(a, a)} → {SHORT.get(b, b)}".replace("SGD, T = ", "T=")
        for a, b in zip(steps["above"][taken], steps["rung"][taken], strict=True)
    ]
    shown = {"step": named, "given up": list(steps["given_up"][taken])}
    for ratio, table in tables.items():
        at = f"ν={format_value(ratio)}"
        shown[f"factor, {at}"] = [_number(value, "{:.2f}") for value in table["ratio"][taken]]
        shown[f"gap, {at}"] = [_number(100 * value, "{:.0f} %") for value in table["gap"][taken]]
    return pd.DataFrame(shown)


#: What `value_table` shows: word and format for each quantity.
VALUES = {"common": ("−z", "{:.3g}"), "top": ("z top", "{:.3g}"), "rare": ("z rare", "{:.2g}")}


def value_table(tables: Mapping[float, pd.DataFrame], *, entropy: bool) -> pd.DataFrame:
    """Where each rung ends, from a `experiments.step_table` for each ratio of the rates."""
    columns = VALUES | ({"entropy": ("H", "{:.3f}")} if entropy else {})
    rungs = next(iter(tables.values()))["rung"]
    shown = {"rung": [SHORT.get(name, name) for name in rungs]}
    for ratio, table in tables.items():
        for name, (word, form) in columns.items():
            shown[f"{word}, ν={format_value(ratio)}"] = [_number(value, form) for value in table[name]]
    return pd.DataFrame(shown)


#: Arguments of `frame_html` for `experiments.regimes`.
REGIME = {
    "columns": {
        "regime": "classes",
        "classes": "K",
        "vocabulary_ratio": "M/K²",
        "overlap": "overlap",
        "largest_eigenvalue": "largest eigenvalue of E",
        "limit": "allowed: 1/K",
        "weak_overlap": "holds",
    },
    "formats": {
        "vocabulary_ratio": "{:.2g}",
        "overlap": "{:.3f}",
        "largest_eigenvalue": "{:.3f}",
        "limit": "{:.3f}",
        "weak_overlap": lambda holds: "yes" if holds else "no",
    },
    "label": "Assumption 2",
}

#: Arguments of `frame_html` for `steps.decoder_limit`.
LIMIT = {
    "columns": {
        "rate_ratio": "ν",
        "joint": "decorrelated flow, −z",
        "printed": "Lemma 4 / flow",
        "exact": "Lemma 4 with β / flow",
    },
    "formats": {"rate_ratio": "{:g}", "joint": "{:.4f}", "printed": "{:.3f}", "exact": "{:.3f}"},
    "label": "Decorrelated flow and Lemma 4",
}
