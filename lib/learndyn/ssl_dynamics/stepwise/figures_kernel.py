"""Drawings of the notebook "Kernels and wide networks": results in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from learndyn.core.plotting import FIGURE_SIZES, INK, MUTED, PALETTE, label_lines, shades
from learndyn.ssl_dynamics.stepwise import linear
from learndyn.ssl_dynamics.stepwise.settings_kernel import EDGE, Planar, half_time_ratios, ring_signs

INDIGO, RUST, GREEN, PERIWINKLE, PINE, AMBER = PALETTE
DIVERGING = "RdBu"
_DASHED = {"color": INK, "lw": 1.0, "ls": (0, (3, 3)), "zorder": 3}
_BROAD = {"lw": 3.4, "alpha": 0.55}  # so that a dashed line on top is seen
_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth")


def _plane(ax: Axes, values: Float[Tensor, "row column"], limit: float) -> None:
    """One function on the square, colours symmetric about 0; contours, which are small as pictures."""
    axis = np.linspace(-EDGE, EDGE, values.shape[0])
    levels = np.linspace(-limit, limit, 16)
    ax.contourf(axis, axis, values.numpy().clip(-limit, limit), levels, cmap=DIVERGING)
    ax.set(aspect="equal", xticks=(), yticks=(), xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE))
    for spine in ax.spines.values():
        spine.set_visible(True)
    ax.grid(False)


def _points(ax: Axes, samples: Float[Tensor, "sample 2"]) -> None:
    ax.plot(*samples.mT.numpy(), ".", color=INK, ms=1.8, alpha=0.6, zorder=3)


def _sizes(functions: Float[Tensor, "mode row column"]) -> list[float]:
    return [float(values.abs().max()) for values in functions]


def learned_functions(rings: Planar, pairs: int = 6) -> Figure:
    """The task (points, and arcs between the two views of some) beside the first learned functions."""
    count = len(rings.functions)
    fig, grid = plt.subplots(2, (count + 2) // 2, figsize=(4.8, 5.1))
    axes = grid.ravel()
    _points(axes[0], rings.samples)
    views = [view[:, 0] + 1j * view[:, 1] for view in rings.samples.chunk(2)]
    for number in np.linspace(0, len(views[0]) - 1, pairs).astype(int):
        first, second = (complex(view[number]) for view in views)
        turned = np.linspace(0, np.angle(second / first), 40)
        arc = first * np.exp(1j * turned)
        axes[0].plot(arc.real, arc.imag, color=RUST, lw=1.4)
        axes[0].plot(arc.real[[0, -1]], arc.imag[[0, -1]], "o", color=RUST, ms=3.5)
    axes[0].set(aspect="equal", xticks=(), yticks=(), xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE))
    axes[0].grid(False)
    axes[0].set_title("Pairs", fontsize=11.5)
    signs = ring_signs(rings.model.embed(count).embeddings, rings.samples.norm(dim=1))
    panels = zip(axes[1:], rings.functions, _sizes(rings.functions), _ORDINALS, signs, strict=False)
    for ax, values, size, word, share in panels:
        _plane(ax, values, size)
        ax.set_title(f"{word}: {100 * share:.0f} %", fontsize=11.5)
    return fig


def pca_against_pairs(turned: Planar, identical: Planar, signs: Mapping[str, Sequence[float]]) -> Figure:
    """Learned functions with identical views (above: kernel PCA) and with rotated ones (below).

    Framed: the function whose sign tells the rings apart best.
    """
    count = len(turned.functions)
    fig, axes = plt.subplots(2, count, figsize=(7.0, 4.2))
    rows = {"identical": identical, "rotated": turned}
    where = {name: int(np.argmax(values)) for name, values in signs.items()}
    for row, (name, planar) in zip(axes, rows.items(), strict=True):
        panels = zip(row, planar.functions, _sizes(planar.functions), strict=True)
        for mode, (ax, values, size) in enumerate(panels):
            _plane(ax, values, size)
            _points(ax, planar.samples)
            gamma = float(planar.model.modes.eigenvalues[mode])
            framed = mode == where[name]
            ax.set_xlabel(f"$\\gamma_{mode + 1}={gamma:.3f}$", fontsize=10.5, color=RUST if framed else INK)
            for spine in ax.spines.values():
                spine.set(color=RUST if framed else MUTED, lw=3 if framed else 0.9)
        row[0].set_ylabel(f"{name} views", fontsize=11)
    fig.suptitle(
        f"Inside against outside: function {where['identical'] + 1} of kernel PCA, "
        f"function {where['rotated'] + 1} from rotated pairs"
    )
    return fig


def signed_spectra(spectra: Mapping[str, Float[Tensor, " mode"]], pairs: Mapping[str, int]) -> Figure:
    """All eigenvalues of K_Γ in order, relative to the largest, on a symmetric log axis."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    for (name, values), color in zip(spectra.items(), (INDIGO, RUST, GREEN), strict=False):
        share = np.arange(1, len(values) + 1) / (2 * pairs[name])
        ax.plot(share, (values / values[0]).numpy(), color=color, label=name)
    ax.axhline(0, color=MUTED, lw=0.8)
    ax.axvline(0.5, color=MUTED, lw=1, ls=":")
    ax.set_yscale("symlog", linthresh=1e-3)
    ax.set_yticks([1, 0.1, 0.01, 0, -0.01, -0.1], ["1", "0.1", "0.01", "0", "−0.01", "−0.1"])
    ax.set(xlabel="rank of the eigenvalue / $2n$", ylabel=r"$\gamma_j/\gamma_1$", xlim=(0, 1))
    halves = [float(((v > 0).sum()) / ((v.abs() > 1e-12 * v[0]).sum())) for v in spectra.values()]
    ax.set_title(
        f"{100 * min(halves):.0f} to {100 * max(halves):.0f} % of the non-zero eigenvalues are positive"
    )
    label_lines(ax)
    return fig


def norm_race(norms: Float[Tensor, " run"], least: float, flow: float) -> Figure:
    """Squared norms of random zero-loss embeddings beside the least one and the one that is learned."""
    fig, ax = plt.subplots(figsize=(5.6, 3.1))
    bins = np.geomspace(0.8 * least, float(norms.max()) * 1.2, 60)
    ax.hist(norms.numpy(), bins=bins, color=PERIWINKLE)
    top = ax.get_ylim()[1]
    ax.axvline(least, color=INK, ls=(0, (3, 3)), lw=1.4)
    ax.plot([flow], [0.12 * top], "o", color=RUST, ms=8, zorder=4)
    ax.annotate("$\\sum_j 1/\\gamma_j$", (least, 0.9 * top), xytext=(5, 0), textcoords="offset points")
    ax.annotate(
        "learned", (flow, 0.12 * top), xytext=(9, 0), textcoords="offset points", color=RUST, va="center"
    )
    ax.set(xscale="log", xlabel="$\\|f\\|_K^2$ of embeddings with $C=I$", ylabel="random embeddings")
    beaten = int((norms > least).sum())
    ax.set_title(f"{beaten:,} of {len(norms):,} random embeddings are larger")
    return fig


def large_starts(ends: xr.Dataset, dimensions: int, samples: int) -> Figure:
    """Where training ends, against the scale of its start: alignment and squared norm over the least one."""
    fig, axes = plt.subplots(2, 1, figsize=(5.6, 4.6), sharex=True)
    scale = ends["scale"].values
    axes[0].plot(scale, ends["alignment"], "o-", color=INDIGO)
    axes[0].axhline(dimensions / samples, color=MUTED, lw=1, ls=":")
    axes[0].annotate("random subspace", (scale[0], dimensions / samples), color=MUTED, va="bottom")
    axes[0].set(ylabel="alignment $a$", ylim=(-0.03, 1.08))
    axes[1].plot(scale, ends["norm_ratio"], "o-", color=RUST)
    axes[1].axhline(1, color=MUTED, lw=1, ls=":")
    axes[1].set(xscale="log", yscale="log", ylabel=r"$\|f\|_K^2$ / least one")
    axes[1].set_xlabel(r"scale $\alpha$ of the start")
    last = float(ends["norm_ratio"][-1])
    axes[0].set_title(f"From $\\alpha={scale[-1]:g}$: zero loss, {last:.0f} × the least norm")
    return fig


def staircase(log: xr.Dataset, gamma: Float[np.ndarray, " mode"]) -> Figure:
    """Loss (above) and eigenvalues of C (below) of one run against time; dashed: eq. 10 with K_Γ's γ."""
    run = log.isel(run=0)
    time = run["effective_time"].values
    shown = time > 0
    halves = np.sort(run["critical_time"].values)
    rate = float(run["learning_rate"])
    smooth = np.geomspace(0.15 * halves[0], time[-1], 500)
    theory = linear.correlation_eigenvalues(
        torch.from_numpy(smooth), torch.from_numpy(gamma), torch.from_numpy(run["start"].values), rate
    )
    theory = theory.sort(-1, descending=True).values
    fig, axes = plt.subplots(2, 1, figsize=(5.6, 5.4), sharex=True)
    for half in halves:
        axes[0].axvline(half, color=MUTED, lw=0.8, ls=":")
    axes[0].plot(time[shown], run["loss"].values[shown], color=INDIGO, **_BROAD)
    axes[0].plot(smooth, linear.loss(theory), **_DASHED)
    axes[0].set_ylabel(r"loss $\|C-I\|_F^2$")
    axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    for mode, color in enumerate(shades(len(gamma))):
        axes[1].plot(time[shown], run["correlation_eigenvalues"].values[shown, mode], color=color, **_BROAD)
        axes[1].plot(smooth, theory[:, mode], **_DASHED)
    axes[1].set(xscale="log", xlabel="effective time $t$ = learning rate × step", xlim=(smooth[0], time[-1]))
    axes[1].set_ylabel(r"eigenvalues $\lambda_j$ of $C$")
    off = 100 * float(np.abs(half_time_ratios(log) - 1).max())
    axes[0].set_title(f"{len(gamma)} steps, each within {off:.1g} % of its predicted time")
    return fig


def held_out(found: xr.Dataset) -> Figure:
    """Agreement of held-out pairs by mode, with true and with shuffled partners, and C_jj."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["wide"])
    mode = found["mode"].values
    ax.axhline(1, color=MUTED, lw=1, ls=":")
    ax.annotate("$C_{jj}$ on training pairs", (mode[-1], 1), color=MUTED, ha="right", va="bottom")
    ax.plot(mode, found["agreement"], color=INDIGO, label="correlation")
    ax.plot(mode, found["diagonal"], color=RUST, label="$C_{jj}$")
    ax.plot(mode, found["shuffled"], color=MUTED, label="shuffled")
    ax.set(xlabel="mode $j$, in the order of learning", ylabel="agreement of the views", ylim=(-0.25, 1.22))
    quarter = max(len(mode) // 4, 1)
    early, late = (float(found["agreement"][part].mean()) for part in (slice(quarter), slice(-quarter, None)))
    ax.set_title(f"What is learned first holds for new images: {early:.2f} early, {late:.2f} late")
    label_lines(ax)
    return fig


# --- wide networks ---


def narrow_and_wide(networks: xr.Dataset, seed: int) -> Figure:
    """Eigenvalues of C for the narrowest and the widest network of one seed; dashed: the kernel theory."""
    widths = [int(networks["width"][0]), int(networks["width"][-1])]
    fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.4), sharey=True, sharex=True)
    for ax, width in zip(axes, widths, strict=True):
        run = networks.sel(width=width, seed=seed)
        # In units of the first predicted half time, so that both have the same axis.
        time = run["step"].values * float(run["learning_rate"]) / float(run["predicted_half_time"][0])
        for mode, color in enumerate(shades(networks.sizes["mode"])):
            ax.plot(time, run["eigenvalues"][:, mode], color=color)
            ax.plot(time, run["predicted_eigenvalues"][:, mode], **_DASHED)
        last = float(run["ratio"].mean())
        ax.set(xlabel="time / first predicted half time")
        ax.set_title(f"{width:,} units: {100 * last:.0f} % of predicted times", fontsize=11)
    axes[0].set_ylabel(r"eigenvalues $\lambda_j$ of $C$")
    return fig


def by_width(networks: xr.Dataset, earlier: xr.Dataset) -> Figure:
    """Half time over predicted half time, and alignment, by width; hollow: our earlier, independent runs."""
    fig, axes = plt.subplots(2, 1, figsize=(5.6, 6.0), sharex=True, height_ratios=(1.5, 1))
    colors = shades(networks.sizes["mode"])
    for mode, color in zip(networks["mode"].values, colors, strict=True):
        shift = 1 + 0.07 * (mode - 3)
        axes[0].plot(
            np.repeat(networks["width"].values * shift, networks.sizes["seed"]),
            networks["ratio"].sel(mode=mode).values.ravel(),
            "o",
            color=color,
            ms=4.5,
        )
        mean = networks["ratio"].sel(mode=mode).mean("seed")
        axes[0].plot(networks["width"] * shift, mean, color=color, lw=1.2, label=f"mode {mode}")
    for mode, color in zip(earlier["mode"].values, shades(earlier.sizes["mode"]), strict=True):
        at = np.repeat(earlier["width"].values * (1.09 + 0.07 * (mode - 3)), earlier.sizes["seed"])
        values = earlier["ratio"].sel(mode=mode).values.ravel()
        axes[0].plot(at, values, "o", mfc="none", mec=color, ms=4.5, mew=0.8)
    axes[0].axhline(1, color=MUTED, lw=1, ls=":")
    axes[0].set_ylabel("half time / predicted")
    at = np.repeat(networks["width"].values, networks.sizes["seed"])
    axes[1].plot(at, networks["alignment"].values.ravel(), "o", color=INDIGO, ms=4.5)
    axes[1].plot(networks["width"], networks["alignment"].mean("seed"), color=INDIGO, lw=1.2)
    at = np.repeat(1.12 * earlier["width"].values, earlier.sizes["seed"])
    axes[1].plot(at, earlier["alignment"].values.ravel(), "o", mfc="none", mec=INDIGO, ms=4.5, mew=0.8)
    axes[1].set(xscale="log", xlabel="width $h$ (hidden units)", ylabel="alignment $a$", ylim=(None, 1.02))
    ratio = networks["ratio"].mean(("seed", "mode")).values
    axes[0].set_title(f"Too fast, less so when wide: {ratio[0]:.2f} to {ratio[-1]:.2f}")
    label_lines(axes[0])
    return fig


def frozen(networks: xr.Dataset, frozen_networks: xr.Dataset) -> Figure:
    """Half times of frozen kernels against those of the trained networks, every mode, seed and width."""
    fig, ax = plt.subplots(figsize=FIGURE_SIZES["square"])
    ratio = networks["ratio"].values
    for model, color, marker, label in (
        ("shared", AMBER, "s", "one kernel for all outputs"),
        ("linearised", INDIGO, "o", "all blocks, frozen"),
    ):
        ax.plot(
            ratio.ravel(),
            frozen_networks["ratio"].sel(model=model).values.ravel(),
            marker,
            color=color,
            ms=4.5,
        )
        place = (0.03, 0.95) if model == "shared" else (0.5, 0.08)
        ax.annotate(label, place, xycoords="axes fraction", color="#94651f" if model == "shared" else color)
    ends = [min(ratio.min(), 0.55) - 0.02, 1.12]
    ax.plot(ends, ends, color=MUTED, lw=1, ls=":")
    ax.set(xlim=ends, ylim=ends, aspect="equal", xlabel="trained network: half time / predicted")
    ax.set_ylabel("frozen kernel: half time / predicted")
    linearised = frozen_networks["ratio"].sel(model="linearised", drop=True)
    apart = float(np.abs(linearised / networks["ratio"] - 1).mean())
    ax.set_title(f"Frozen blocks explain the times to {100 * apart:.0f} %")
    return fig


def small_with_width(curves: Mapping[str, xr.DataArray], exponents: Mapping[str, float]) -> Figure:
    """Three relative differences of kernels against the width, log-log, with fitted powers."""
    fig, ax = plt.subplots()
    for (name, values), color, marker in zip(curves.items(), (RUST, GREEN, INDIGO), "osD", strict=False):
        power = f"{exponents[name]:.2f}".replace("-", "−")
        mean = values.mean("seed")
        ax.plot(mean["width"], mean, marker=marker, color=color, label=f"{name} $h^{{{power}}}$")
    ax.set(xscale="log", yscale="log", xlabel="width $h$ (hidden units)", ylabel="relative difference")
    moved = 100 * float(curves["moved by training"].mean("seed")[-1])
    widest = int(curves["moved by training"]["width"][-1])
    ax.set_title(f"Training moves the kernel by {moved:.1g} % at {widest:,} units")
    ax.margins(x=0.04)
    label_lines(ax)
    return fig


def head_start(found: xr.Dataset) -> Figure:
    """λ₂ at the time of mode 1 against the scale of the outputs: networks (solid) and theory (dashed)."""
    fig, ax = plt.subplots()
    mean = np.exp(np.log(found).mean("seed"))
    for width, color in zip(found["width"].values, (RUST, INDIGO, PINE), strict=False):
        line = mean["network"].sel(width=width)
        ax.plot(found["scale"], line, "o-", color=color, label=f"{width} units")
    theory = np.exp(np.log(mean["theory"]).mean("width"))
    ax.plot(found["scale"], theory, color=INK, ls=(0, (3, 3)), label="theory")
    ax.set(xscale="log", yscale="log", xlabel="scale $\\alpha$ of the initial outputs")
    ax.set(ylabel=r"$\lambda_2$ when mode 1 is learned")
    ax.invert_xaxis()
    falls = (mean["network"].isel(scale=0) / mean["network"].isel(scale=-1)).values
    words = f"{falls.min():.0f}- to {falls.max():.0f}-fold"
    fall = float(f"{float(theory[0] / theory[-1]):.0e}")
    ax.set_title(f"Theory falls {fall:,.0f}-fold, networks {words}")
    label_lines(ax)
    return fig


# --- explorer ---


def explorer_frame(
    planar: Planar, start: Float[Tensor, " mode"], times: Sequence[float], time: float
) -> Figure:
    """Learned functions at one time, as bright as they are learned, above the loss staircase."""
    count = len(start)
    gamma = planar.model.modes.eigenvalues[:count]
    grown = linear.correlation_eigenvalues(torch.tensor([time], dtype=torch.float64), gamma, start)[0]
    # A fixed layout: constrained layout would take most of the time of a frame.
    fig = plt.figure(figsize=(6.4, 4.3), layout="none")
    upper = fig.add_gridspec(1, count, left=0.09, right=0.98, bottom=0.56, top=0.92, wspace=0.1)
    functions = planar.functions[:count]
    for mode, (values, size) in enumerate(zip(functions, _sizes(functions), strict=True)):
        ax = fig.add_subplot(upper[0, mode])
        _plane(ax, values * grown[mode].sqrt(), size)
        ax.set_title(f"$\\lambda_{mode + 1}={float(grown[mode]):.2f}$", fontsize=11.5)
    ax = fig.add_axes((0.09, 0.14, 0.89, 0.36))
    smooth = torch.logspace(np.log10(times[0]), np.log10(times[-1]), 300, dtype=torch.float64)
    ax.plot(smooth, linear.loss(linear.correlation_eigenvalues(smooth, gamma, start)), color=INDIGO)
    ax.plot([time], [float(linear.loss(grown))], "o", color=RUST, ms=8)
    ax.set(xscale="log", xlabel="effective time $t$", ylabel="loss", ylim=(-0.25, count + 0.3))
    ax.set(xlim=(times[0], times[-1]))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return fig
