"""Predictions that go beyond the paper, and the runs that test them: tables for the notebook of that name.

All of it is our own. The prediction of orders is this: on the set of exact blocks for one frequency, weight
decay slides along the solutions to smaller norm (Theorem 5 says that nothing is in the way), so training
should end at local minima of the norm. `norm_minima` finds them, without assuming balanced nodes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
import xarray as xr

from learndyn.cogo_li2 import analysis, factoriser, full_table, torus_design
from learndyn.cogo_li2.design_problems import GENERIC, FrequencyProblem, torus_problem
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings_beyond_the_paper import BeyondThePaper
from learndyn.cogo_li2.torus_design import DesignResult
from learndyn.cogo_li2.training import train
from learndyn.core.device import generator

CONSTRAINTS: dict[str, tuple[str, ...]] = {"all": (), "without R_n": ("R_n",), "without R_*": ("R_*",)}
NETWORKS = tuple(
    (activation, loss)
    for activation in ("sqr", "relusqr", "silu", "relu")
    for loss in ("projected_mse", "cross_entropy")
)
#: (character order, constant input) of the problems whose norm minima are looked for.
SLIDES = ((2, False), (3, False), (3, True), (4, False), (5, False), (5, True))


# Completeness.


def completeness(*, nodes: Iterable[int], starts: int, seed: int) -> pd.DataFrame:
    """Which numbers of balanced nodes solve one generic frequency, under which constraints (section 3.5).

    Returns:
        One row per (constraints, nodes): ``feasible``, ``solved`` (starts that ended in a design),
        ``starts``, ``min_residual``, ``dimensions`` (local dimensions, a tuple), ``nui_dimensions`` and
        ``syn_dimensions`` (those of the designs divisible by z_{ν=i}, by z_syn), ``nui``, ``syn``, ``both``
        (how many designs), ``symmetries`` (numbers of shifts that leave a design unchanged, a tuple).
    """
    rows = []
    nodes = tuple(nodes)
    for name, without in CONSTRAINTS.items():
        for n in nodes:
            source = generator(seed, "torus", name, n)
            result = torus_design.solve(torus_problem(without=without), n, starts=starts, generator=source)
            rows.append({"constraints": name, **result.row(), **_classified(result)})
    return pd.DataFrame(rows)


def _classified(result: DesignResult) -> dict[str, object]:
    flags = torus_design.classify(result.angles)
    nui, syn = flags["z_nui"], flags["z_syn"]
    dimension = result.dimension[result.solved]
    symmetries = torus_design.symmetry_order(result.angles) if result.feasible else dimension
    return {
        "dimensions": tuple(result.dimensions),
        "nui": int(nui.sum()),
        "syn": int(syn.sum()),
        "both": int((nui & syn).sum()),
        "nui_dimensions": _values(dimension[nui]),
        "syn_dimensions": _values(dimension[syn]),
        "symmetries": _values(symmetries),
    }


def _values(numbers: torch.Tensor) -> tuple[int, ...]:
    return tuple(sorted(set(numbers.tolist())))


# Local minima of the norm.


def norm_minima(*, starts: int, seed: int, spare_nodes: int = 7) -> pd.DataFrame:
    """Where weight decay can come to rest: local minima of the norm on the set of exact blocks.

    Exact blocks of ``spare_nodes`` nodes with free coefficients (4 at a real character) are found from random
    starts and slid to a local minimum of ‖w‖²; nodes that reach zero on the way are gone.

    Returns:
        One row per slide that stayed exact: ``character_order`` (5 stands for five or more),
        ``constant_input``, ``bias_hosted`` (R_n not imposed), ``nodes`` that are left, ``norm_factor`` ν
        (the block costs ‖w‖² ∝ ν, see `torus_design.least_norm`).
    """
    rows = []
    for order, constant in SLIDES:
        for hosted in (False, True):
            problem = FrequencyProblem(order, constant, ("R_n",) if hosted else ())
            source = generator(seed, "slide", order, int(constant), int(hosted))
            nodes = 4 if order == 2 else spare_nodes
            found = torus_design.solve(problem, nodes, starts=starts, generator=source)
            x, factor = torus_design.least_norm(problem, found.x[found.solved])
            size = problem.coefficients(x)[:, :3].abs().amin(1)
            key = {"character_order": order, "constant_input": constant, "bias_hosted": hosted}
            left = (size > 0.05).sum(-1).tolist()
            pairs = zip(left, factor.tolist(), strict=True)
            rows += [key | {"nodes": n, "norm_factor": v} for n, v in pairs if not math.isnan(v)]
    return pd.DataFrame(rows)


def minima_table(minima: pd.DataFrame) -> pd.DataFrame:
    """Per kind of block and number of nodes: how many slides ended there, and their median norm factor."""
    keys = ["character_order", "constant_input", "bias_hosted", "nodes"]
    grouped = minima.groupby(keys)["norm_factor"]
    return grouped.agg(slides="size", norm_factor="median").reset_index()


def predicted_orders(minima: pd.DataFrame) -> dict[int, set[int]]:
    """Character order → the numbers of nodes at which some slide came to rest.

    Constant inputs count where the best block that uses one is cheaper than the best without.
    """
    found = {}
    for order, part in minima.groupby("character_order"):
        best = part[~part["bias_hosted"]].groupby("constant_input")["norm_factor"].min()
        pays = True in best.index and best[True] < best[False] - 1e-3
        found[int(order)] = set(part.loc[part["constant_input"] <= pays, "nodes"])
    return found


# Whole networks for other groups.


def complete_blocks(*, starts: int, seed: int) -> dict[int, DesignResult]:
    """The smallest complete block per character order: 2, 3 (with a constant input), 4, and 5 or more."""
    problems = {
        2: torus_problem(2),
        3: FrequencyProblem(3, constant_input=True),
        4: torus_problem(4),
        GENERIC: torus_problem(GENERIC),
    }
    found = {}
    for order, problem in problems.items():
        source = generator(seed, "block", order)
        result = torus_design.minimal_order(problem, starts=starts, generator=source)
        if result is None:
            raise RuntimeError(f"no block for characters of order {order} from {starts} starts; take more")
        found[order] = result
    return found


def design_networks(groups: Iterable[tuple[int, ...]], blocks: Mapping[int, DesignResult]) -> pd.DataFrame:
    """One network per group, a smallest block at each frequency: ``nodes`` and full-table ``loss``."""
    rows = []
    coefficients = {order: result.coefficients[0] for order, result in blocks.items()}
    for orders in groups:
        group = AbelianGroup(tuple(orders))
        weights = group.to_weights(torus_design.group_spectrum(group, coefficients))
        loss = float(full_table.loss_and_gradient(weights, group).full_loss)
        rows.append({"group": str(group), "elements": group.size, "nodes": weights.shape[1], "loss": loss})
    return pd.DataFrame(rows)


def character_orders(group: AbelianGroup) -> np.ndarray:
    """The order of each character of ``group.half()``; 5 stands for five or more."""
    return np.array([min(group.order_of(k), GENERIC) for k in group.half().characters.tolist()])


def train_groups(settings: BeyondThePaper) -> dict[str, xr.Dataset]:
    """Train on each group of the settings; the datasets of `training.train` by the group's name."""
    found = {}
    for orders in settings.groups:
        config = settings.group_training(orders)
        found[str(AbelianGroup(orders))] = train(
            config, device=settings.device, progress=settings.progress
        )
    return found


def trained_orders(settings: BeyondThePaper, runs: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row per run and frequency: ``group``, ``run``, ``frequency``, ``character_order``, ``nodes``.

    Nodes are counted at their main frequency, alive if |A_k| is above the scale-aware threshold.
    """
    rows = []
    for orders in settings.groups:
        group = AbelianGroup(orders)
        half, kinds = group.half().characters, character_orders(group)
        counts = factoriser.orders_by_main_frequency(
            _spectrum(group, runs[str(group)]), half, factoriser.scale_aware_threshold(group.size)
        ).numpy()
        for run, row in enumerate(counts):
            rows += [
                {"group": str(group), "run": run, "frequency": k, "character_order": kind, "nodes": n}
                for k, kind, n in zip(half.tolist(), kinds.tolist(), row.tolist(), strict=True)
            ]
    return pd.DataFrame(rows)


def trained_runs(settings: BeyondThePaper, runs: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row per run: ``group``, ``run``, ``loss``, ``accuracy``, ``nodes``, ``constant_share``.

    ``constant_share`` is the share of the input energy in the constant (`analysis.dc_energy_share`).
    """
    frames = []
    for orders in settings.groups:
        group = AbelianGroup(orders)
        data, spectrum = runs[str(group)], _spectrum(group, runs[str(group)])
        threshold = factoriser.scale_aware_threshold(group.size)
        frame = pd.DataFrame(
            {
                "group": str(group),
                "run": np.arange(data.sizes["run"]),
                "loss": data["train_loss"].isel(epoch=-1).values,
                "accuracy": data["train_accuracy"].isel(epoch=-1).values,
                "nodes": analysis.alive_nodes(spectrum, threshold).sum(-1).numpy(),
                "constant_share": analysis.dc_energy_share(spectrum, threshold).numpy(),
            }
        )
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _spectrum(group: AbelianGroup, data: xr.Dataset) -> torch.Tensor:
    return group.to_spectrum(torch.from_numpy(data["weights"].isel(snapshot=-1).values))


# Z_2^m: how many frequencies get a second node.


def sign_group_norm(pairs: float | int, frequencies: int) -> float:
    """Norm of a network on Z_2^m whose ``pairs`` host the bias of all other frequencies (own).

    In units of d·s_2², s_2 = (4d)^{−1/3}: a complete frequency has two nodes and costs 6; a single node costs
    6·2^{−1/3}, and hosting its bias on n2 pairs 2/n2. f(n2) = (K − n2)(6·2^{−1/3} + 2/n2) + 6·n2.
    """
    return (frequencies - pairs) * (6 * 2 ** (-1 / 3) + 2 / pairs) + 6 * pairs


def best_pairs(frequencies: float | int) -> float:
    """n2* = √(2K/(6 − 6·2^{−1/3})) ≈ 1.27·√K, where `sign_group_norm` is least (own)."""
    return math.sqrt(2 * frequencies / (6 - 6 * 2 ** (-1 / 3)))


def pairs_found(orders: pd.DataFrame) -> pd.DataFrame:
    """Mean number of two-node frequencies per run in the groups Z_2^m, beside ``predicted`` = n2*."""
    rows = []
    for group, part in orders.groupby("group", sort=False):
        if set(part["character_order"]) != {2} or part["frequency"].nunique() < 2:
            continue
        k = part["frequency"].nunique()
        found = part[part["nodes"] == 2].groupby("run").size().reindex(part["run"].unique(), fill_value=0)
        rows.append({"group": group, "frequencies": k, "found": found.mean(), "predicted": best_pairs(k)})
    frame = pd.DataFrame(rows, columns=["group", "frequencies", "found", "predicted"])
    return frame.assign(ratio=frame["found"] / frame["predicted"])


# Other activations and losses.


def train_others(settings: BeyondThePaper) -> dict[tuple[str, str], xr.Dataset]:
    """Train Z_d with every activation and loss; the datasets of `training.train` by (activation, loss)."""
    return {
        pair: train(settings.other_training(*pair), device=settings.device, progress=settings.progress)
        for pair in NETWORKS
    }


def other_orders(settings: BeyondThePaper, runs: Mapping[tuple[str, str], xr.Dataset]) -> pd.DataFrame:
    """Per network, run and frequency: ``nodes`` at it, ``factorable`` (a group of 4 or 6 that factors)."""
    group = AbelianGroup((settings.other_modulus,))
    frames = []
    for (activation, loss), data in runs.items():
        found = factoriser.factorise(_spectrum(group, data), group.half().characters)
        frame = found[["run", "frequency", "order", "factorable"]].rename(columns={"order": "nodes"})
        frames.append(frame.assign(activation=activation, loss=loss))
    return pd.concat(frames, ignore_index=True)


def other_summary(runs: Mapping[tuple[str, str], xr.Dataset], orders: pd.DataFrame) -> pd.DataFrame:
    """Per activation and loss: accuracies, orders (as text), shares of 4 or 6 and of factorable."""
    rows = []
    for (activation, loss), data in runs.items():
        part = orders[(orders["activation"] == activation) & (orders["loss"] == loss)]
        end = data.isel(epoch=-1)
        counts = sorted(Counter(part["nodes"]).items())
        rows.append(
            {
                "activation": activation,
                "loss": loss,
                "train_accuracy": float(end["train_accuracy"].min()),
                "test_accuracy": float(end["test_accuracy"].mean()),
                "orders": ", ".join(f"{count}×{n}" for n, count in counts),
                "four_or_six": float(part["nodes"].isin((4, 6)).mean()),
                "factorable": float(part["factorable"].mean()),
            }
        )
    return pd.DataFrame(rows).set_index(["activation", "loss"])
