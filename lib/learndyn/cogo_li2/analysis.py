"""What a trained network looks like: orders, who hosts whose bias, torus angles, exactness, the clock.

Everything reads weights or spectra and returns tensors or labelled data; nothing is drawn here. Functions
are batched over leading axes (runs, snapshots) unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Bool, Complex, Float, Int
from scipy.optimize import minimize
from torch import Tensor

from learndyn.cogo_li2 import factoriser, full_table
from learndyn.cogo_li2.groups import AbelianGroup

Summary = tuple[tuple[str, ...], Callable[[Tensor], Tensor]]


def alive_nodes(
    spectrum: Complex[Tensor, "*batch part node character"],
    threshold: float = factoriser.PUBLISHED_THRESHOLD,
) -> Bool[Tensor, "*batch node"]:
    """Nodes with max_k |A_kj| > threshold, the constant included (section 3.7, step i)."""
    return spectrum[..., 0, :, :].abs().amax(-1) > threshold


def order_summaries(
    group: AbelianGroup, threshold: float = factoriser.PUBLISHED_THRESHOLD
) -> dict[str, Summary]:
    """The orders to measure while training: ``name → (dims, function of the weights)``.

    ``order`` counts nodes with |A_k| > threshold, as Figs. 3b and 4 do; ``order_by_main_frequency`` counts
    nodes whose largest |A_k| is there, as Table 2 does. They agree only after convergence. Frequencies are
    those of ``group.half()``.
    """
    counts = (
        ("order", factoriser.orders_by_amplitude),
        ("order_by_main_frequency", factoriser.orders_by_main_frequency),
    )
    return {name: (("frequency",), partial(_from_weights, group, count, threshold)) for name, count in counts}


def _from_weights(group: AbelianGroup, count: Callable, threshold: float, weights: Tensor) -> Tensor:
    return count(group.to_spectrum(weights), group.half().characters, threshold)


def norm_split(weights: Float[Tensor, "*batch part node element"]) -> Float[Tensor, "*batch part"]:
    """‖w_a‖², ‖w_b‖², ‖w_c‖²: equal at a balanced solution."""
    return weights.square().sum((-2, -1))


def dc_energy_share(
    spectrum: Complex[Tensor, "*batch part node character"],
    threshold: float = factoriser.PUBLISHED_THRESHOLD,
) -> Float[Tensor, "*batch"]:
    """Share of the input energy Σ(|A|² + |B|²) of the alive nodes that is in the constant k = 0.

    The constant of w_c is left out: it shifts all logits and does nothing. Training uses next to none.
    """
    alive = alive_nodes(spectrum, threshold)[..., None, :, None]
    energy = torch.where(alive, spectrum[..., :2, :, :].abs().square(), 0)
    return energy[..., 0].sum((-2, -1)) / energy.sum((-3, -2, -1))


def bias_hosting(
    group: AbelianGroup,
    spectrum: Complex[Tensor, "*batch part node character"],
    threshold: float = factoriser.PUBLISHED_THRESHOLD,
    order: int = 4,
) -> xr.Dataset:
    """Which frequency's nodes cancel the output bias of each order-4 frequency (section 3.4, point 2).

    The mean over the table of the network's output at character k is Σ_j C_kj H_j, with H_j = (A_0j + B_0j)²
    + Σ_{k'≠0} (|A_k'j|² + |B_k'j|²) the mean of node j's hidden unit. The nodes of k itself leave b_k of it.

    Args:
        spectrum: ``[3, q, d]``, or with one run axis first.
        order: rows are computed for the frequencies of this order; the others are NaN.

    Returns:
        Variables over (run, frequency, host): ``share``, the part of b_k that the nodes of ``host`` cancel
        (the component along b_k; NaN at the frequency itself). Over (run, frequency): ``elsewhere``, the
        same for nodes without a frequency; ``bias`` = |r_{a,k,−k,k} + r_{b,k,−k,k}| of the frequency's own
        nodes, √2 for an ideal order-4 group; ``order``. No run axis if the spectrum has none.
    """
    frequencies = group.half().characters.to(spectrum.device)
    batch = spectrum if spectrum.ndim == 4 else spectrum[None]
    main = factoriser.main_frequency(batch, frequencies, threshold)
    member = (main[:, :, None] == frequencies).to(batch.dtype)  # [run, node, frequency]
    inputs = batch[:, :2]
    hidden = inputs[..., 1:].abs().square().sum((1, 3)) + inputs[..., 0].real.sum(1).square()
    left = batch[:, 2][..., frequencies] * hidden[..., None]  # [run, node, frequency]: C_kj H_j
    by_host = torch.einsum("rjk,rjf->rkf", left, member)
    own = by_host.diagonal(dim1=1, dim2=2)
    rest = left.sum(1) - by_host.sum(2)
    orders = (main[:, :, None] == frequencies).sum(1)
    wanted = orders == order
    scale = torch.where(wanted, own.abs().square(), torch.nan)
    share = -(by_host * own.conj()[..., None]).real / scale[..., None]
    share.diagonal(dim1=1, dim2=2).fill_(torch.nan)
    axes = ("run", "frequency")
    numbers = frequencies.cpu().numpy()
    data = xr.Dataset(
        {
            "share": ((*axes, "host"), share.cpu().numpy()),
            "elsewhere": (axes, (-(rest * own.conj()).real / scale).cpu().numpy()),
            "bias": (axes, (group.size * own.abs()).cpu().numpy()),
            "order": (axes, orders.cpu().numpy()),
        },
        coords={"frequency": numbers, "host": numbers},
    )
    return data if spectrum.ndim == 4 else data.isel(run=0)


def torus_angles(
    group: AbelianGroup,
    weights: Float[Tensor, "snapshot part node element"],
    frequency: int,
    threshold: float = factoriser.PUBLISHED_THRESHOLD,
) -> xr.Dataset:
    """The nodes of one frequency as points on the torus (arg A_k, arg B_k), snapshot by snapshot.

    Nodes are kept if they belong to the frequency in any snapshot. (a, b) → (−a, −b) changes nothing: a
    point and its copy shifted by (π, π) are the same node.

    Returns:
        Over (snapshot, node): ``angle_a``, ``angle_b`` (radians, −π … π), ``modulus`` |A_k|, ``member``
        (main frequency is this one); over node: ``design_a``, ``design_b``, the exact product that fits the
        last snapshot's group best (:func:`factoriser.ideal_nodes`), and ``distance`` from it (the larger of
        the two angles; NaN for nodes that are not in it, or if the last order is neither 4 nor 6).
    """
    spectrum = group.to_spectrum(weights)
    member = factoriser.main_frequency(spectrum, group.half().characters, threshold) == frequency
    kept = member.any(0).nonzero().flatten()
    values = spectrum[:, :, :, frequency][:, :, kept]  # [snapshot, part, node]
    angle = values[:, :2].angle()
    design = torch.full((2, len(kept)), torch.nan, dtype=torch.float64, device=weights.device)
    last = member[-1, kept]
    if int(last.sum()) in factoriser.ORDERS:
        design[:, last] = factoriser.ideal_nodes(values[-1:, :, last])[0, :2].angle()
    gap = torch.remainder(angle[-1] - design + torch.pi, 2 * torch.pi) - torch.pi
    axes = ("snapshot", "node")
    data = {
        "angle_a": (axes, angle[:, 0]),
        "angle_b": (axes, angle[:, 1]),
        "modulus": (axes, values[:, 0].abs()),
        "member": (axes, member[:, kept]),
        "design_a": ("node", design[0]),
        "design_b": ("node", design[1]),
        "distance": ("node", gap.abs().amax(0)),
    }
    arrays = {name: (dims, values.cpu().numpy()) for name, (dims, values) in data.items()}
    return xr.Dataset(arrays, coords={"node": kept.cpu().numpy()}, attrs={"frequency": frequency})


def order_histogram(orders: Int[Tensor, "*batch frequency"], max_order: int = 12) -> Int[Tensor, " order"]:
    """Pooled counts of orders 0 … max_order, and of everything above in the last entry (Fig. 4)."""
    return torch.bincount(orders.flatten().clamp(max=max_order + 1), minlength=max_order + 2)


# The weight-decay clock (section 6).


def clock_table(
    orders: Int[Tensor, "run epoch frequency"],
    weight_decay: Float[Tensor, " run"],
    epochs: Int[Tensor, " epoch"],
    max_order: int = 12,
) -> pd.DataFrame:
    """Order counts pooled over the runs of equal weight decay, at each epoch.

    Columns ``wd, epoch, wd_times_epoch, n_order_0, …, n_order_{max}, n_order_above_{max}``, as in the stored
    ``weight_decay_clock_d23.csv``.
    """
    names = [*(f"n_order_{n}" for n in range(max_order + 1)), f"n_order_above_{max_order}"]
    rows = []
    for decay in weight_decay.unique():
        for i, epoch in enumerate(epochs.tolist()):
            counts = order_histogram(orders[weight_decay == decay, i], max_order).tolist()
            key = {"wd": float(decay), "epoch": epoch, "wd_times_epoch": float(decay) * epoch}
            rows.append(key | dict(zip(names, counts, strict=True)))
    return pd.DataFrame(rows)


def clock_distance(table: pd.DataFrame, exponent: float | int = 1.0, points: int = 64) -> float:
    """How badly the histograms of different weight decays disagree at equal wd^exponent × epoch.

    Mean total variation distance (0 = equal, 1 = disjoint) over all pairs of weight decays and over the range
    of log(clock) that both of a pair cover; histograms are interpolated in log(clock). Exponent 1 is the
    weight-decay clock, exponent 0 compares equal epochs. On the stored runs (d = 23): 0.66 at exponent 0,
    0.33 at 1, and least, 0.20, at 0.8; two samples of 55 from one distribution are about 0.09 apart.

    Raises:
        ValueError: if no pair has a common range.
    """
    curves = []
    for decay, part in table[table["epoch"] > 0].groupby("wd"):
        part = part.sort_values("epoch")
        counts = part.filter(regex=r"^n_order").to_numpy(float)
        clock = np.log(part["epoch"].to_numpy(float)) + exponent * np.log(float(decay))
        curves.append((clock, counts / counts.sum(axis=1, keepdims=True)))
    distances = []
    for (clock, counts), (other_clock, other_counts) in combinations(curves, 2):
        start, stop = max(clock[0], other_clock[0]), min(clock[-1], other_clock[-1])
        if start < stop:
            grid = np.linspace(start, stop, points)
            one, two = _interpolate(grid, clock, counts), _interpolate(grid, other_clock, other_counts)
            distances.append(0.5 * np.abs(one - two).sum(axis=1).mean())
    if not distances:
        raise ValueError("no two weight decays cover a common range of wd^exponent × epoch.")
    return float(np.mean(distances))


def _interpolate(grid: np.ndarray, x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(grid, x, column) for column in columns.T], axis=1)


def clock_exponent(
    table: pd.DataFrame, levels: tuple[float, ...] = (10.0, 9.0, 8.0, 7.0, 6.0, 5.5)
) -> pd.Series:
    """The power p in "epoch to reach a given mean order ∝ wd^{−p}", for each level that is reached twice.

    Orders in the last, open bin count as its lower end. An exact weight-decay clock means p = 1 at every
    level; the stored runs (d = 23, Adam) give 0.70 … 0.83, so the clock runs a little slower than wd.
    Index ``mean_order``; a level that fewer than two weight decays cross downwards is left out.
    """
    counts = table.filter(regex=r"^n_order")
    value = counts.columns.str.extract(r"(\d+)$")[0].astype(float) + counts.columns.str.contains("above")
    mean = pd.Series(counts.to_numpy(float) @ value.to_numpy() / counts.sum(axis=1), index=table.index)
    found = {}
    for level in levels:
        crossings = {}
        for decay, part in table[table["epoch"] > 0].groupby("wd"):
            part = part.sort_values("epoch")
            height, time = mean[part.index].to_numpy(), np.log(part["epoch"].to_numpy(float))
            below = np.flatnonzero((height[:-1] > level) & (height[1:] <= level))
            if len(below):
                i = below[0]
                step = (height[i] - level) / (height[i] - height[i + 1])
                crossings[np.log(float(decay))] = time[i] + step * (time[i + 1] - time[i])
        if len(crossings) >= 2:
            found[level] = -np.polyfit(list(crossings), list(crossings.values()), 1)[0]
    return pd.Series(found, name="exponent", dtype=float).rename_axis("mean_order")


# Exactness (section 6).


class Polished(NamedTuple):
    """Result of :func:`polish`."""

    weights: Float[Tensor, "part node element"]
    """The polished alive nodes, float64, in the order of ``nodes``."""
    nodes: Int[Tensor, " node"]
    """Indices of the alive nodes in the network that was given."""
    loss_before: float
    """Full-table loss of the alive nodes before."""
    loss_after: float
    relative_change: float
    """‖Δw‖ / ‖w‖ of the alive nodes, with the useless constant of w_c removed from both."""
    iterations: int


def polish(
    group: AbelianGroup,
    weights: Float[Tensor, "part node element"],
    threshold: float = factoriser.PUBLISHED_THRESHOLD,
    max_iterations: int = 2000,
) -> Polished:
    """Is the trained network close to an exact solution? L-BFGS without weight decay, float64, full table.

    Dead nodes are dropped first. A trained network that is "composed of exact solutions" moves by a few
    tenths of a per cent and its loss falls by orders of magnitude; the orders must not change.

    Raises:
        ValueError: if no node is alive.
    """
    start = weights.detach().to(torch.float64)
    nodes = alive_nodes(group.to_spectrum(start), threshold).nonzero().flatten()
    if len(nodes) == 0:
        raise ValueError(f"no node is alive: every |A_k| is at most {threshold}.")
    start = start[:, nodes].cpu().clone()
    start[2] -= start[2].mean(-1, keepdim=True)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        result = full_table.loss_and_gradient(torch.from_numpy(flat).reshape(start.shape), group)
        return float(result.full_loss), result.gradient.flatten().numpy()

    # ftol is relative to max(|f|, 1): only 0 lets it go on below a loss of 1e-16.
    options = {
        "maxiter": max_iterations,
        "maxfun": 2 * max_iterations,
        "maxcor": 30,
        "ftol": 0.0,
        "gtol": 1e-9,
    }
    flat = start.flatten().numpy()
    found = minimize(objective, flat, jac=True, method="L-BFGS-B", options=options)
    return Polished(
        weights=torch.from_numpy(found.x).reshape(start.shape),
        nodes=nodes,
        loss_before=objective(flat)[0],
        loss_after=float(found.fun),
        relative_change=float(np.linalg.norm(found.x - flat) / np.linalg.norm(flat)),
        iterations=int(found.nit),
    )
