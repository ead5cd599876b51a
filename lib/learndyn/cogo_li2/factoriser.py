"""Which algebraic products does a trained network consist of? (CoGO Table 2 and Fig. 5.)

The nodes that share a frequency form a *group*, a 3 × n matrix of coefficients (rows a, b, c). A group of
4 or 6 nodes factors if its columns split into two halves with a constant ratio: then it is the product of
the order-2 element (1, ratio) and the first half. All groups of equal order, all ways to split and pair
them, and all signs are examined in one tensor program.

Two criteria choose the split:

``"published"``  looks at the c row only and leaves the real scale of every node alone, as the paper does.
                 In z_{ν=i} * z_{syn,αβ} the c row fits many pairings equally well (the ratio is 1, ω3 or
                 ω̄3 for each), so on an exact solution rounding picks the winner, often a wrong one.
``"balanced"``   first brings every node to |a b| = |c|² by its gauge (λa, λb, c/λ²), then minimises the
                 error of all three rows over splits and signs. Near ν = e^{±iπ/4} a z_ν is a z_ξ, too; beside
                 z_syn it counts as z_ν here, but as z_ξ, hence "others", by the published rule.

Neither moves the thresholds: weight decay balances a group slowly, and a group whose nodes still differ in
size by 20 % can miss the bound of 0.1 on a phase and end among "others", though it is an exact solution.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from learndyn.cogo_li2.algebra import OMEGA3

PUBLISHED_THRESHOLD = 0.05
"""The paper's bound on |A_k| for a node to count as alive; absolute, so too high for large d."""

ORDERS = (4, 6)
FAMILIES = ("nu_i*xi", "nu_i*syn_alphabeta", "nu*syn", "others", "unnormalised")

Criterion = Literal["published", "balanced"]

_TOLERANCE = 0.1
_UNKNOWN, _UNNORMALISED, _XI, _NU_I, _NU, _SYN, _SYN_ALPHABETA = range(7)


class Split(NamedTuple):
    """The best split of each group: node ``permutation[i]`` is paired with ``permutation[n/2 + i]``."""

    permutation: Int[Tensor, "group node"]
    error: Float[Tensor, " group"]
    first: Complex[Tensor, "group part"]
    """The mean ratio (y_a, y_b, y_c): the order-2 factor is (1, y)."""
    second: Complex[Tensor, "group part column"]
    """The first half divided by its first column: the other factor, of order n/2."""


class Classes(NamedTuple):
    """The two factors in normal form (abc = 1 for every column), and what they are."""

    kind_first: Int[Tensor, " group"]
    kind_second: Int[Tensor, " group"]
    first: Complex[Tensor, "group part"]
    second: Complex[Tensor, "group part column"]
    sign: Float[Tensor, "group column"]
    """The sign that the gauge (a, b) → (−a, −b) gave to each column of an order-3 factor."""
    conjugated: Bool[Tensor, " group"]
    """Whether an order-3 factor was conjugated, which exchanges the frequencies k and −k."""


def scale_aware_threshold(size: int, order: int = 6, fraction: float = 0.4) -> float:
    """0.4·(2dn)^{-1/3}, a fraction of the modulus of every node in a balanced order-n group."""
    return fraction * (2 * size * order) ** (-1 / 3)


def main_frequency(
    spectrum: Complex[Tensor, "*batch part node character"],
    frequencies: Int[Tensor, " frequency"] | None = None,
    threshold: float = PUBLISHED_THRESHOLD,
) -> Int[Tensor, "*batch node"]:
    """The frequency k of largest |A_kj| of each node j; 0 if that is the constant, −1 for a dead node.

    Args:
        spectrum: code-normalised coefficients over all d characters.
        frequencies: representatives of the pairs {k, −k}; by default 1 … (d−1)//2 as published, which
            leaves out k = d/2. Pass ``AbelianGroup(orders).half().characters`` for other groups.
        threshold: a node is alive if its largest |A_kj| over 0 and the frequencies is above this.
    """
    candidates = torch.cat([torch.zeros(1, dtype=torch.long), _frequencies(spectrum, frequencies)])
    candidates = candidates.to(spectrum.device)
    amplitude, position = spectrum[..., 0, :, :].abs()[..., candidates].max(dim=-1)
    return torch.where(amplitude > threshold, candidates[position], -1)


def orders_by_main_frequency(
    spectrum: Complex[Tensor, "*batch part node character"],
    frequencies: Int[Tensor, " frequency"] | None = None,
    threshold: float = PUBLISHED_THRESHOLD,
) -> Int[Tensor, "*batch frequency"]:
    """Order of each frequency as the factoriser counts: nodes whose *largest* coefficient is there."""
    wanted = _frequencies(spectrum, frequencies).to(spectrum.device)
    main = main_frequency(spectrum, frequencies, threshold)
    return (main[..., :, None] == wanted).sum(dim=-2)


def orders_by_amplitude(
    spectrum: Complex[Tensor, "*batch part node character"],
    frequencies: Int[Tensor, " frequency"] | None = None,
    threshold: float = PUBLISHED_THRESHOLD,
) -> Int[Tensor, "*batch frequency"]:
    """Order of each frequency as Figs. 3 and 4 count: nodes with |A_kj| > threshold, perhaps at several k."""
    wanted = _frequencies(spectrum, frequencies).to(spectrum.device)
    return (spectrum[..., 0, :, :].abs()[..., wanted] > threshold).sum(dim=-2)


def factorise_groups(
    groups: Complex[Tensor, "group part node"], criterion: Criterion = "published"
) -> pd.DataFrame:
    """Factor single-frequency groups of equal order, 4 or 6 (section 3.7, steps iii–vi).

    Args:
        groups: ``[groups, 3, n]`` coefficients of the n nodes at their frequency, rows a, b, c.
        criterion: how the split is chosen, see the module's docstring.

    Returns:
        One row per group: ``error`` (Frobenius norm of the ratios minus their row means), ``factorable``
        (error ≤ 0.1·√(3n)), ``family`` (one of ``FAMILIES``, or "not factorable"), and the unit-modulus
        parameters where the family has them, else NaN: ``nu``, ``xi``, ``alpha``, ``beta``, with
        ``beta_published`` = beta·ω3 (the paper divides by ω3 where ω̄3 is meant).

    Raises:
        ValueError: if the order is neither 4 nor 6, or there are not three parts.
    """
    _check_groups(groups)
    split = _split(groups, criterion)
    classes = _classify(split, criterion)
    order = groups.shape[-1]
    factorable = split.error <= 0.1 * math.sqrt(3 * order)
    family = np.where(factorable.cpu().numpy(), _families(classes, order), "not factorable")
    frame = pd.DataFrame({"order": order, "error": split.error.cpu().numpy(), "factorable": factorable.cpu()})
    frame["family"] = family
    xi = torch.where(classes.kind_first == _XI, classes.first[:, 0], classes.second[:, 0, 1])
    values = {"nu": classes.first[:, 0], "xi": xi}
    if order == 6:
        values["alpha"] = classes.second[:, 0, 1] / OMEGA3
        values["beta"] = classes.second[:, 0, 2] / OMEGA3.conjugate()
        values["beta_published"] = classes.second[:, 0, 2] / OMEGA3
    families = {"nu": "nu*syn", "xi": "nu_i*xi"}
    for name in ("nu", "xi", "alpha", "beta", "beta_published"):
        column = np.full(len(frame), complex(np.nan, np.nan))
        rows = family == families.get(name, "nu_i*syn_alphabeta")
        if name in values:
            column[rows] = values[name].cpu().numpy()[rows]
        frame[name] = column
    return frame


def factorise(
    spectrum: Complex[Tensor, "*batch part node character"],
    frequencies: Int[Tensor, " frequency"] | None = None,
    threshold: float = PUBLISHED_THRESHOLD,
    criterion: Criterion = "published",
) -> pd.DataFrame:
    """Factor every frequency of one network, or of a batch of networks (one leading run axis).

    Args:
        spectrum: ``[3, q, d]`` or ``[run, 3, q, d]``, code normalisation.
        frequencies, threshold: see :func:`main_frequency`.
        criterion: see :func:`factorise_groups`.

    Returns:
        One row per (run, frequency), in that order: ``run``, ``frequency``, ``order`` (by main frequency),
        ``order_by_amplitude``, and the columns of :func:`factorise_groups`; the family is "" where the
        order is neither 4 nor 6.

    Raises:
        ValueError: if there is more than one leading axis.
    """
    if spectrum.ndim not in (3, 4):
        raise ValueError(f"spectrum has {spectrum.ndim} axes; wanted part, node, character, or run first.")
    batch = spectrum if spectrum.ndim == 4 else spectrum[None]
    wanted = _frequencies(batch, frequencies).to(batch.device)
    main = main_frequency(batch, frequencies, threshold)
    order = (main[:, :, None] == wanted).sum(dim=1)
    runs, count = order.shape
    frame = pd.DataFrame(
        {
            "run": np.repeat(np.arange(runs), count),
            "frequency": np.tile(wanted.cpu().numpy(), runs),
            "order": order.flatten().cpu().numpy(),
            "order_by_amplitude": orders_by_amplitude(batch, frequencies, threshold).flatten().cpu().numpy(),
        }
    )
    parts = [
        factorise_groups(groups, criterion).drop(columns="order").set_index(rows.cpu().numpy())
        for groups, rows, _ in (gather_groups(batch, main, wanted, n) for n in ORDERS)
    ]
    frame = frame.join(pd.concat(parts))
    frame["family"] = frame["family"].fillna("")
    frame["factorable"] = frame["factorable"].eq(True)
    return frame


def gather_groups(
    spectrum: Complex[Tensor, "run part node character"],
    main: Int[Tensor, "run node"],
    frequencies: Int[Tensor, " frequency"],
    order: int,
) -> tuple[Complex[Tensor, "group part member"], Int[Tensor, " group"], Int[Tensor, "group member"]]:
    """All groups that have exactly ``order`` nodes, with their (run, frequency) row and their nodes' indices.

    The row of (run r, i-th frequency) is r · len(frequencies) + i.
    """
    member = main[:, :, None] == frequencies  # [run, node, frequency]
    rows = torch.nonzero((member.sum(dim=1) == order).flatten()).flatten()
    run, position = rows // len(frequencies), rows % len(frequencies)
    if main.shape[1] < order:
        return spectrum.new_zeros(0, 3, order), rows, rows.new_zeros(0, order)
    # A stable sort of "is not a member" puts the members first, in the order of their index.
    picked = (~member[run, :, position]).to(torch.uint8).sort(dim=1, stable=True).indices[:, :order]
    groups = spectrum[run[:, None], :, picked, frequencies[position][:, None]]  # [group, member, part]
    return groups.transpose(1, 2), rows, picked


def ideal_nodes(
    groups: Complex[Tensor, "group part node"], criterion: Criterion = "balanced"
) -> Complex[Tensor, "group part node"]:
    """The exact product of the recognised family that fits each group best, with |a| = |b| = |c| = 1.

    The factors are snapped to their family (z_ν, z_{ν=i}, z_ξ, z_syn, z_{syn,αβ}; an unknown factor keeps
    its own phases), multiplied, and given the two free phases and the node signs that fit the group best.
    The arguments of rows a and b are the torus design (section 3.5) that the group is meant to form.

    Raises:
        ValueError: as :func:`factorise_groups`.
    """
    _check_groups(groups)
    split = _split(groups, criterion)
    classes = _classify(split, criterion)
    first = _snap_order2(classes.first, classes.kind_first)
    order = groups.shape[-1]
    if order == 4:
        second = _snap_order2(classes.second[:, :, 1], classes.kind_second)[:, :, None]
    else:
        second = _snap_order3(classes)
    one = torch.ones_like(second[:, :, :1])
    second = torch.cat([one, second], dim=2)
    design = torch.cat([second, first[:, :, None] * second], dim=2)
    back = split.permutation.argsort(dim=1)[:, None].expand(-1, 3, -1)
    design = design.gather(2, back)
    measured = groups.to(torch.complex128)
    turn = measured * design.conj()
    base_a = _unit((turn[:, 0] ** 2).sum(-1)).sqrt()
    base_b = _unit((turn[:, 0] * turn[:, 1]).sum(-1)) / base_a
    base = torch.stack([base_a, base_b, (base_a * base_b).conj()], dim=1)
    placed = base[:, :, None] * design
    sign = torch.where((measured[:, :2] * placed[:, :2].conj()).real.sum(1) < 0, -1.0, 1.0)
    return placed * torch.stack([sign, sign, torch.ones_like(sign)], dim=1)


def canonical_parameters(frame: pd.DataFrame) -> pd.DataFrame:
    """The free angles with their gauge removed (section 5, Figure 5, "canonicalised").

    Columns ``arg_xi`` = arg ξ mod π/2, in [0, π/2) (ξ and iξ are the same group), and ``arg_nu`` folded:
    arg ν mod π/3, reflected to [0, π/6] (ν and ν e^{iπ/3} are the same group, and k ↔ −k conjugates).
    NaN where the family does not have the parameter.
    """
    third = math.pi / 3
    arg_xi = np.mod(np.angle(frame["xi"].to_numpy()), math.pi / 2)
    arg_nu = np.mod(np.angle(frame["nu"].to_numpy()), third)
    return pd.DataFrame({"arg_xi": arg_xi, "arg_nu": np.minimum(arg_nu, third - arg_nu)}, index=frame.index)


def run_statistics(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers behind Table 2 for each run of :func:`factorise`'s result (section 3.7, step vii).

    Columns: ``n4, n6, n0, other`` (numbers of frequencies by order), ``nf4, nf6`` (% of those that do not
    factor), ``err4, err6`` (mean error × 100 of those that do), ``p_4cxi, p_4csyn, p_nusyn, p_oth``
    (% of the factorable groups in each family, "others" including "unnormalised"). NaN where nothing counts.
    """

    def statistics(run: pd.DataFrame) -> dict[str, float]:
        by_order = {n: run[run["order"] == n] for n in ORDERS}
        factored = run[run["factorable"]]
        empty = int((run["order"] == 0).sum())
        row = {f"n{n}": float(len(part)) for n, part in by_order.items()}
        row["n0"] = float(empty)
        row["other"] = float(len(run) - sum(len(part) for part in by_order.values()) - empty)
        row |= {f"nf{n}": 100 * (~part["factorable"]).mean() for n, part in by_order.items()}
        row |= {f"err{n}": 100 * part.loc[part["factorable"], "error"].mean() for n, part in by_order.items()}
        shares = {"p_4cxi": FAMILIES[0], "p_4csyn": FAMILIES[1], "p_nusyn": FAMILIES[2]}
        row |= {name: 100 * (factored["family"] == family).mean() for name, family in shares.items()}
        return row | {"p_oth": 100 * factored["family"].isin(FAMILIES[3:]).mean()}

    rows = {run: statistics(part) for run, part in frame.groupby("run", sort=True)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")


def table2_row(statistics: pd.DataFrame) -> pd.DataFrame:
    """One row of Table 2 from :func:`run_statistics`: mean over seeds and sample standard deviation / √n.

    Index: the published columns (``pct_not_order_4_or_6``, …, ``pct_others``); columns ``mean``, ``stderr``.
    Seeds where a quantity is undefined are left out of it.
    """
    total = statistics[["n4", "n6", "n0", "other"]].sum(axis=1)
    columns = {
        "pct_not_order_4_or_6": 100 * (statistics["n0"] + statistics["other"]) / total,
        "nonfactorable_order4_pct": statistics["nf4"],
        "nonfactorable_order6_pct": statistics["nf6"],
        "err_order4_x100": statistics["err4"],
        "err_order6_x100": statistics["err6"],
        "pct_nu_i_times_xi": statistics["p_4cxi"],
        "pct_nu_i_times_syn_alphabeta": statistics["p_4csyn"],
        "pct_nu_times_syn": statistics["p_nusyn"],
        "pct_others": statistics["p_oth"],
    }
    table = pd.DataFrame(columns)
    return pd.DataFrame({"mean": table.mean(), "stderr": table.std(ddof=1) / np.sqrt(table.count())})


def spectrum_of_table(
    nodes: pd.DataFrame, size: int
) -> tuple[list[str], Complex[Tensor, "run part node character"]]:
    """Spectra from a table of nodes with their coefficients at one frequency (``final_spectra_d23.csv``).

    Columns ``run, freq, a_re, a_im, b_re, …, c_im``. Everything but the main frequency and its conjugate is
    zero, as are the nodes that pad shorter runs. Returns the runs' names in order of appearance, and spectra.
    """
    names = list(dict.fromkeys(nodes["run"]))
    run = nodes["run"].map({name: i for i, name in enumerate(names)}).to_numpy()
    node = nodes.groupby("run").cumcount().to_numpy()
    values = np.stack([nodes[f"{p}_re"] + 1j * nodes[f"{p}_im"] for p in "abc"], axis=1)
    spectrum = np.zeros((len(names), 3, node.max() + 1, size), dtype=complex)
    frequency = nodes["freq"].to_numpy()
    spectrum[run, :, node, frequency] = values
    spectrum[run, :, node, -frequency % size] = values.conj()
    return names, torch.from_numpy(spectrum)


def _frequencies(spectrum: Tensor, frequencies: Tensor | None) -> Tensor:
    return torch.arange(1, (spectrum.shape[-1] + 1) // 2) if frequencies is None else frequencies.cpu()


def _check_groups(groups: Tensor) -> None:
    if groups.shape[1] != 3 or groups.shape[2] not in ORDERS:
        raise ValueError(f"groups have shape {tuple(groups.shape)}; wanted [group, 3, 4] or [group, 3, 6].")


def _pairings(order: int) -> Int[Tensor, "pairing node"]:
    """All permutations up to the order of the pairs, which changes nothing: 12 of 24, 120 of 720."""
    every = torch.tensor(list(itertools.permutations(range(order))))
    head = every[:, : order // 2]
    return every[(head.diff(dim=1) > 0).all(dim=1)]


def _split(groups: Tensor, criterion: Criterion, chunk: int = 512) -> Split:
    values = groups.to(torch.complex128)
    pieces = [_split_chunk(part, criterion) for part in values.split(chunk)]
    return Split(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def _split_chunk(groups: Tensor, criterion: Criterion) -> Split:
    half = groups.shape[-1] // 2
    pairings = _pairings(2 * half).to(groups.device)
    if criterion == "balanced":
        size = (groups[:, 2].abs().square() / (groups[:, 0] * groups[:, 1]).abs()) ** (1 / 6)
        groups = groups * torch.stack([size, size, size**-2], dim=1)
        signs = torch.cartesian_prod(torch.ones(1), *[torch.tensor([1.0, -1.0])] * (half - 1))
        signs = signs.to(groups.device, groups.real.dtype)
        ratio = groups[:, :, pairings[:, half:]] / groups[:, :, pairings[:, :half]]
        spread = ratio.abs().square().sum(dim=(1, 3))
        signed = torch.einsum("gapi,si->gaps", ratio[:, :2], signs.to(ratio.dtype)).abs().square().sum(dim=1)
        score = spread[..., None] - (signed + ratio[:, 2].sum(-1).abs().square()[..., None]) / half
        best = score.flatten(1).argmin(dim=1)
        pairing, flip = best // len(signs), signs[best % len(signs)]
    else:
        # The published code compares first/second half here, though it takes the ratio second/first below.
        c = groups[:, 2]
        ratio = c[:, pairings[:, :half]] / c[:, pairings[:, half:]]
        pairing = (ratio - ratio.mean(-1, keepdim=True)).abs().square().sum(-1).argmin(dim=1)
        flip = None
    permutation = pairings[pairing]
    sorted_groups = groups.gather(2, permutation[:, None].expand(-1, 3, -1))
    ratio = sorted_groups[:, :, half:] / sorted_groups[:, :, :half]
    if flip is None:
        flip = torch.where((ratio[:, 0] - ratio[:, 0, :1]).abs() > 0.2, -1.0, 1.0).to(ratio.real.dtype)
    ratio = ratio * torch.stack([flip, flip, torch.ones_like(flip)], dim=1)
    mean = ratio.mean(-1)
    error = (ratio - mean[..., None]).abs().square().sum(dim=(1, 2)).sqrt()
    return Split(permutation, error, mean, sorted_groups[:, :, :half] / sorted_groups[:, :, :1])


def _classify(split: Split, criterion: Criterion) -> Classes:
    first, first_ok = _normalise(split.first)
    second, second_ok = _normalise(split.second)
    kind_first = torch.where(first_ok, _kind_order2(first), _UNNORMALISED)
    sign = torch.ones_like(second[:, 0].real)
    conjugated = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    if second.shape[2] == 2:
        kind_second = _kind_order2(second[:, :, 1])
    else:
        sign = torch.where(second[:, 0].real > 0, -1.0, 1.0).to(second.real.dtype)
        sign[:, 0] = 1
        second = second * torch.stack([sign, sign, torch.ones_like(sign)], dim=1)
        conjugated = second[:, 2, 1].imag < 0
        second = torch.where(conjugated[:, None, None], second.conj(), second)
        kind_second = _kind_order3(second)
        if criterion == "balanced":
            either = (kind_first == _XI) & (kind_second == _SYN) & (first[:, :2].sum(1).abs() < _TOLERANCE)
            kind_first = torch.where(either, _NU, kind_first)
    kind_second = torch.where(second_ok.all(-1), kind_second, _UNNORMALISED)
    return Classes(kind_first, kind_second, first, second, sign, conjugated)


def _normalise(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Divide by the cube root of abc; meaningless if abc is far from the positive axis: the root jumps."""
    product = columns.prod(dim=1, keepdim=True)
    return columns / product ** (1 / 3), product.squeeze(1).angle().abs() < math.pi / 2


def _kind_order2(y: Tensor) -> Tensor:
    a, b, c = y.unbind(1)
    kind = torch.where((a + b).abs() < _TOLERANCE, _NU, _UNKNOWN)
    a_is_i = torch.minimum((a - 1j).abs(), (a + 1j).abs()) < _TOLERANCE
    kind = torch.where(((c - 1).abs() < _TOLERANCE) & a_is_i, _NU_I, kind)
    return torch.where(torch.minimum((c - 1j).abs(), (c + 1j).abs()) < _TOLERANCE, _XI, kind)


def _kind_order3(columns: Tensor) -> Tensor:
    wanted = torch.tensor([OMEGA3, OMEGA3.conjugate()], device=columns.device, dtype=columns.dtype)
    gap = columns[:, :, 1:] - wanted
    synonym = (gap.abs().square().sum(1).sqrt() < _TOLERANCE * math.sqrt(3)).all(-1)
    kind = torch.where((gap[:, 2].abs() < _TOLERANCE).all(-1), _SYN_ALPHABETA, _UNKNOWN)
    return torch.where(synonym, _SYN, kind)


def _families(classes: Classes, order: int) -> np.ndarray:
    one, two = classes.kind_first, classes.kind_second
    if order == 4:
        one, two = torch.minimum(one, two), torch.maximum(one, two)
        index = torch.where((one == _XI) & (two == _NU_I), 0, 3)
    else:
        index = torch.where((one == _NU_I) & (two >= _SYN), 1, 3)
        index = torch.where((one == _NU) & (two == _SYN), 2, index)
    broken = (classes.kind_first == _UNNORMALISED) | (classes.kind_second == _UNNORMALISED)
    return np.array(FAMILIES)[torch.where(broken, 4, index).cpu().numpy()]


def _unit(values: Tensor) -> Tensor:
    return values / values.abs()


def _with_c(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a, b, (a * b).conj()], dim=1)


def _snap_order2(y: Tensor, kind: Tensor) -> Tensor:
    a, b, c = y.unbind(1)
    nu = _unit(a - b)
    nu_i = torch.where(nu.imag < 0, -1j, 1j).to(y.dtype)
    turn = torch.where(c.imag < 0, 1j, -1j).to(y.dtype)  # b = ∓i·conj(ξ) for c = ±i
    xi = _unit(a + (b / turn).conj())
    choices = [
        (_NU, _with_c(nu, -nu)),
        (_NU_I, _with_c(nu_i, -nu_i)),
        (_XI, _with_c(xi, turn * xi.conj())),
    ]
    snapped = _with_c(_unit(a), _unit(b))
    for code, choice in choices:
        snapped = torch.where((kind == code)[:, None], choice, snapped)
    return snapped


def _snap_order3(classes: Classes) -> Tensor:
    columns, kind = classes.second[:, :, 1:], classes.kind_second
    # Beside z_{ν=i} the wider family fits at least as well, and solves the design, too.
    kind = torch.where((classes.kind_first == _NU_I) & (kind == _SYN), _SYN_ALPHABETA, kind)
    root = torch.tensor([OMEGA3, OMEGA3.conjugate()], device=columns.device, dtype=columns.dtype)
    synonym = root.expand_as(columns)
    free = _unit(columns[:, 0] / root + (columns[:, 1] / root).conj())
    alphabeta = torch.stack([free * root, free.conj() * root, root.expand_as(free)], dim=1)
    snapped = torch.stack([_with_c(*_unit(columns[:, :2, i]).unbind(1)) for i in range(2)], dim=2)
    for code, choice in ((_SYN, synonym), (_SYN_ALPHABETA, alphabeta)):
        snapped = torch.where((kind == code)[:, None, None], choice, snapped)
    snapped = torch.where(classes.conjugated[:, None, None], snapped.conj(), snapped)
    sign = classes.sign[:, 1:]
    return snapped * torch.stack([sign, sign, torch.ones_like(sign)], dim=1)
