"""Exact and incomplete constructions measured as networks, and the identities behind them checked (CoGO).

Losses here are those of the network itself, run on the whole table (:mod:`learndyn.cogo_li2.network`), not
of the decomposition that led to the construction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Complex, Float
from torch import Tensor

from learndyn.cogo_li2 import algebra, network, norms, potentials
from learndyn.cogo_li2.algebra import Family, Frequency, Spectrum
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.core.device import generator


class Evaluation(NamedTuple):
    """A network run on all d² inputs: hidden nodes, loss, share of right answers, squared norm of weights."""

    width: int
    loss: float
    accuracy: float
    squared_norm: float


def evaluate(group: AbelianGroup, spectrum: Spectrum) -> Evaluation:
    """Run a constructed network on the whole table."""
    outputs, labels = network.forward(group.to_weights(spectrum)), group.addition_table()
    return Evaluation(
        spectrum.shape[1],
        float(network.projected_mse(outputs, labels)),
        float(network.accuracy(outputs, labels)),
        float(algebra.squared_norm(group, spectrum)),
    )


def answers(group: AbelianGroup, spectrum: Spectrum) -> Tensor:
    """The element that the network names for each pair (x, y)."""
    return network.forward(group.to_weights(spectrum)).argmax(-1)


# Two ways agree.


def decomposition_errors(
    groups: Iterable[AbelianGroup], widths: Sequence[int], *, draws: int, seed: int
) -> xr.Dataset:
    """Theorem 1 against the loss of the network, on standard normal weights: relative errors.

    Variables over ``(group, width, draw)``: ``exact``, the decomposition with its constant terms;
    ``paper``, the paper's form on weights without k = 0 components; ``paper_with_constant``, the paper's
    form on weights that have them, as every trained network has.
    """
    groups = tuple(groups)
    values = np.empty((3, len(groups), len(widths), draws))
    for (g, group), (i, width) in ((pair, w) for pair in enumerate(groups) for w in enumerate(widths)):
        source = generator(seed, f"decomposition {group}", width)
        weights = torch.randn(draws, 3, width, group.size, generator=source, dtype=torch.float64)
        without = weights - weights.mean(-1, keepdim=True)
        cases = [(weights, True), (without, False), (weights, False)]
        values[:, g, i] = [_decomposition_error(group, w, dc) for w, dc in cases]
    names = ("exact", "paper", "paper_with_constant")
    return xr.Dataset(
        {name: (("group", "width", "draw"), value) for name, value in zip(names, values, strict=True)},
        coords={
            "group": [str(g) for g in groups],
            "size": ("group", [g.size for g in groups]),
            "width": list(widths),
        },
    )


def _decomposition_error(group: AbelianGroup, weights: Tensor, include_dc: bool) -> np.ndarray:
    direct = network.projected_mse(network.forward(weights), group.addition_table())
    budget = potentials.loss_budget(group, group.to_spectrum(weights), include_dc=include_dc)
    return ((budget.loss - direct).abs() / direct).numpy()


def homomorphism_gap(*, draws: int, seed: int) -> tuple[float, float]:
    """Largest |r(z + z′) − r(z) − r(z′)| and |r(z * z′) − r(z) r(z′)|, relative to the sizes of the terms.

    Over all ten potentials at one frequency and random elements of widths 1 … 6 (Theorem 3).
    """
    source, gaps = generator(seed, "homomorphism"), []
    for draw in range(draws):
        left, right = (_random_element(1 + (draw + shift) % 6, source) for shift in (0, 2))
        r, s = algebra.potential_values(left), algebra.potential_values(right)
        together = algebra.potential_values(algebra.add(left, right))
        paired = algebra.potential_values(algebra.multiply(left, right))
        scale = 1 + r.abs() + s.abs()
        gaps.append((((together - r - s) / scale).abs().max(), ((paired - r * s) / scale**2).abs().max()))
    worst = torch.tensor(gaps).amax(0)
    return float(worst[0]), float(worst[1])


def _random_element(width: int, source: torch.Generator) -> Frequency:
    return torch.randn(3, width, generator=source, dtype=torch.complex128)


# Global solutions, and constructions that miss something.


def _random_angles(choice: dict[int, Family], source: torch.Generator) -> dict[int, Family]:
    return {k: algebra.with_random_angles(family, source) for k, family in choice.items()}


def constructions(group: AbelianGroup, source: torch.Generator) -> dict[str, Callable[[], Spectrum]]:
    """The global solutions of CoGO, and three incomplete ones, for odd cyclic groups, with random angles."""

    def everywhere(family: Family) -> dict[int, Family]:
        return _random_angles(algebra.everywhere(group, family), source)

    def mixed() -> dict[int, Family]:
        return _random_angles(algebra.mixed(group, [1]), source)

    def build(choice: dict[int, Family], host: int | str | None = None) -> Spectrum:
        return algebra.build(group, choice, host=host)

    return {
        "order 6, z_ν * z_syn": lambda: build(everywhere(algebra.ORDER_6)),
        "order 6, z_{ν=i} * z_{syn,αβ}": lambda: build(everywhere(algebra.ORDER_6_ALPHABETA)),
        "order 4, one order-6 host": lambda: build(mixed(), 1),
        "order 4, constant node": lambda: build(everywhere(algebra.ORDER_4), "node"),
        "memorisation": lambda: algebra.memorisation(group),
        "memorisation without k = 0": lambda: algebra.memorisation(group, include_dc=False),
        "order 4 and 6, bias left": lambda: build(mixed()),
        "order 4, bias left": lambda: build(everywhere(algebra.ORDER_4)),
        "order 3": lambda: build(everywhere(algebra.ORDER_3)),
    }


def closed_forms(d: int) -> dict[str, tuple[int, float]]:
    """Width and loss that the algebra predicts for each of :func:`constructions`."""
    return {
        "order 6, z_ν * z_syn": (3 * (d - 1), 0.0),
        "order 6, z_{ν=i} * z_{syn,αβ}": (3 * (d - 1), 0.0),
        "order 4, one order-6 host": (2 * (d - 1) + 2, 0.0),
        "order 4, constant node": (2 * (d - 1) + 1, 0.0),
        "memorisation": (d**2, 0.0),
        "memorisation without k = 0": (d**2, 0.0),
        "order 4 and 6, bias left": (2 * (d - 1) + 2, 4 * ((d - 1) / 2 - 1) / d),
        "order 4, bias left": (2 * (d - 1), 2 * (d - 1) / d),
        "order 3": (3 * (d - 1) // 2, (d - 1) / (2 * d)),
    }


def solution_table(moduli: Iterable[int], *, seed: int) -> pd.DataFrame:
    """Every construction at every modulus: ``d, construction, width, loss, accuracy, squared_norm``, and
    ``predicted_width``, ``predicted_loss`` from :func:`closed_forms`."""
    rows = []
    for d in moduli:
        group = AbelianGroup((d,))
        predicted = closed_forms(d)
        for name, make in constructions(group, generator(seed, "constructions", d)).items():
            width, loss = predicted[name]
            found = evaluate(group, make())._asdict()
            law = {"predicted_width": width, "predicted_loss": loss}
            rows.append({"d": d, "construction": name} | found | law)
    return pd.DataFrame(rows)


def unhosted_bias(moduli: Iterable[int], *, draws: int, seed: int) -> pd.DataFrame:
    """Order 4 at m frequencies and order 6 at the rest, the bias left alone: one row per ``d, m, draw``.

    Columns ``loss``, ``predicted_loss`` = 4m/d and ``accuracy``; angles are drawn at random.
    """
    rows = []
    for d in moduli:
        group = AbelianGroup((d,))
        source, characters = generator(seed, "unhosted", d), group.half().characters.tolist()
        for m in range(len(characters) + 1):
            for draw in range(draws):
                choice = _random_angles(algebra.mixed(group, characters[m:]), source)
                found = evaluate(group, algebra.build(group, choice))
                case = {"d": d, "m": m, "draw": draw, "predicted_loss": 4 * m / d}
                rows.append(case | {"loss": found.loss, "accuracy": found.accuracy})
    return pd.DataFrame(rows)


def group_table(groups: Iterable[AbelianGroup]) -> pd.DataFrame:
    """Order 6 everywhere (two real nodes at characters of order 2), one row per Abelian group."""
    rows = []
    for group in groups:
        found = evaluate(group, algebra.build(group, algebra.everywhere(group, algebra.ORDER_6)))
        rows.append({"group": str(group), "d": group.size} | found._asdict())
    return pd.DataFrame(rows)


# Theorem 5.


def at_every_character(group: AbelianGroup, element: Frequency) -> Spectrum:
    """An element at one frequency as an element on the whole dual group: conjugated at −k, 1 at k = 0."""
    half = group.half().characters
    spectrum = torch.ones(3, element.shape[1], group.size, dtype=element.dtype)
    spectrum[:, :, group.neg(half)] = element.conj()[:, :, None]
    spectrum[:, :, half] = element[:, :, None]
    return spectrum


def along_straight_line(
    group: AbelianGroup, factor: Spectrum, base: Spectrum, times: Float[Tensor, " time"], *, overlaid: bool
) -> xr.Dataset:
    """Loss and squared norm on the straight line of weights from y * z′ to z′, beside the path of Theorem 5.

    z′ is filled up with dead nodes. ``overlaid`` puts it on the first copy of z′ within y * z′; otherwise
    the nodes of the two networks are different ones. Variables ``loss`` and ``norm`` over ``t``.
    """
    start = algebra.multiply(factor, base)
    dead = torch.zeros_like(start)
    if overlaid:
        end = dead.clone()
        end[:, : base.shape[1]] = base
    else:
        start, end = algebra.add(start, torch.zeros_like(base)), algebra.add(dead, base)
    t = times.to(start.dtype)[:, None, None, None]
    line = (1 - t) * start + t * end
    values = {
        "loss": potentials.loss_budget(group, line).loss,
        "norm": group.size * line.abs().square().sum((1, 2, 3)),
    }
    return xr.Dataset({n: ("t", v.numpy()) for n, v in values.items()}, coords={"t": times.numpy()})


# Solve instead of train.


class Solved(NamedTuple):
    """A network that was built: its spectrum, its measures, and how long building it took."""

    spectrum: Complex[Tensor, "part node character"]
    measured: Evaluation
    seconds: float
    order_6: int


def solve(group: AbelianGroup, order_6: int | None = None) -> Solved:
    """Build orders 4 and 6 with the bias shared by all order-6 frequencies, for odd cyclic groups.

    ``order_6`` frequencies have order 6, by default the number of least norm
    (:func:`learndyn.cogo_li2.norms.best_order6`). ``seconds`` is the processor's time for building alone,
    without the run over the table: what else the machine does is no part of it.
    """
    characters = group.half().characters.tolist()
    number = int(norms.best_order6(len(characters), integer=True)) if order_6 is None else order_6
    begin = time.process_time()
    spectrum = algebra.build(group, algebra.mixed(group, characters[:number]), host="all")
    seconds = time.process_time() - begin
    return Solved(spectrum, evaluate(group, spectrum), seconds, number)


def norm_by_order6(d: int) -> xr.Dataset:
    """Squared norm of built networks with n6 = 1 … K frequencies of order 6, and the law for it.

    Variables over ``n6``: ``built`` and ``law`` (:func:`learndyn.cogo_li2.norms.solution_norm`), and
    ``rebalanced``, the law when hosts may trade the scale of a, b against that of c.
    """
    group, k = AbelianGroup((d,)), (d - 1) // 2
    characters, counts = group.half().characters.tolist(), range(1, k + 1)
    mixes = [algebra.mixed(group, characters[:n]) for n in counts]
    built = [float(algebra.squared_norm(group, algebra.build(group, mix, host="all"))) for mix in mixes]
    law, rebalanced = ([norms.solution_norm(k - n, n, d, rebalance=r) for n in counts] for r in (False, True))
    return xr.Dataset(
        {"built": ("n6", built), "law": ("n6", law), "rebalanced": ("n6", rebalanced)},
        coords={"n6": list(counts)},
        attrs={"d": d},
    )
