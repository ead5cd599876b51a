"""The semiring of networks, its building blocks, and zero-loss networks made of them (CoGO, Theorems 2–3).

An *element* holds the Fourier coefficients of n hidden nodes: ``[3, n]`` (parts a, b, c) at one frequency
k, the coefficients at −k being the conjugates; or ``[3, n, d]`` on the whole dual group, the layout of a
spectrum. Sums put nodes side by side; products pair every node of one with every node of the other and
multiply coefficients. Each sum potential respects both, so zeros can be designed factor by factor.

Angles are in radians.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import pandas as pd
import torch
from jaxtyping import Complex, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.potentials import output_bias

Element = Complex[Tensor, "3 _node *character"]
"""Hidden nodes at one frequency (no character axis) or on the whole dual group (one)."""
Frequency = Complex[Tensor, "3 _node"]
Spectrum = Complex[Tensor, "3 _node character"]
Number = int | float | complex
Angle = int | float

OMEGA3 = cmath.exp(2j * math.pi / 3)


# The semiring.


def zero(*characters: int) -> Element:
    """The network without nodes, at one frequency, or on a dual group of the given size."""
    return torch.zeros(3, 0, *characters, dtype=torch.complex128)


def one(*characters: int) -> Element:
    """The unit of multiplication: one node, all coefficients 1."""
    return torch.ones(3, 1, *characters, dtype=torch.complex128)


def generator(a: Number, b: Number, c: Number) -> Frequency:
    """The width-1 element (a, b, c) at one frequency."""
    return torch.tensor([[a], [b], [c]], dtype=torch.complex128)


def add(left: Element, right: Element) -> Element:
    """z + z': the nodes of both, side by side; r(z + z') = r(z) + r(z')."""
    return torch.cat([left, right], dim=1)


def multiply(left: Element, right: Element) -> Element:
    """z * z': (z*z')[p, (j,j')] = z[p,j] z'[p,j'], j' running fastest; r(z * z') = r(z) r(z')."""
    return (left[:, :, None] * right[:, None, :]).flatten(1, 2)


def power(element: Element, exponent: int) -> Element:
    """z * z * … * z; the unit for exponent 0."""
    result = one(*element.shape[2:])
    for _ in range(exponent):
        result = multiply(result, element)
    return result


def polynomial(unknown: Element, coefficients: Sequence[Element]) -> Element:
    """Σ_l coefficients[l] * u^l, lowest power first; the coefficients are elements themselves."""
    result = zero(*unknown.shape[2:])
    for coefficient in reversed(coefficients):
        result = add(multiply(result, unknown), coefficient)
    return result


def geometric(unknown: Element, terms: int) -> Element:
    """1 + u + … + u^{m−1}: kills every potential whose value at u is an m-th root of unity other than 1.

    Where the value at u is 1, the value here is m.
    """
    return polynomial(unknown, [one(*unknown.shape[2:])] * terms)


# Potentials at one frequency.


class SumPotential(NamedTuple):
    """One of the ten sum potentials at one frequency: Σ_j of three coefficients, each plain or conjugated."""

    name: str
    family: str
    factors: tuple[tuple[int, bool], tuple[int, bool], tuple[int, bool]]


def _sum_potential(name: str, family: str) -> SumPotential:
    expanded = name[1:].replace("|a|²", "aA").replace("|b|²", "bB")
    expanded = expanded.replace("ā²", "AA").replace("b̄²", "BB").replace("a²", "aa").replace("b²", "bb")
    expanded = expanded.replace("ā", "A").replace("b̄", "B").replace("c̄", "C")
    first, second, third = (("abc".index(letter.lower()), letter.isupper()) for letter in expanded)
    return SumPotential(name, family, (first, second, third))


POTENTIALS: tuple[SumPotential, ...] = tuple(
    _sum_potential(name, family)
    for family, names in {
        "R_g": "Σabc",
        "R_c": "Σābc Σab̄c Σabc̄",
        "R_n": "Σ|a|²c Σ|b|²c",
        "R_*": "Σa²c Σb²c Σā²c Σb̄²c",
    }.items()
    for name in names.split()
)
"""All ten, goal first. A global solution has Σabc = 1 (paper normalisation) and the others 0."""


def potential_values(
    element: Complex[Tensor, "*batch part node"],
) -> Complex[Tensor, "*batch potential"]:
    """The ten sums in the order of ``POTENTIALS``, plain sums over nodes without any factor."""
    choices = torch.stack([element, element.conj()])
    values = []
    for potential in POTENTIALS:
        product = torch.ones_like(element[..., 0, :])
        for part, conjugate in potential.factors:
            product = product * choices[int(conjugate)][..., part, :]
        values.append(product.sum(-1))
    return torch.stack(values, dim=-1)


# Gauge: what can be changed without changing the network's function.


def balance(element: Element) -> Element:
    """Rescale each node, (a, b, c) → (λa, λb, λ⁻²c), to the least squared norm; dead nodes are left alone."""
    energy = _modulus2(_one_axis(element)).sum(-1)
    inputs, output = energy[0] + energy[1], energy[2]
    alive = (inputs > 0) & (output > 0)
    scale = torch.where(alive, (2 * output / torch.where(alive, inputs, 1)) ** (1 / 6), 1)
    # A dead node has no best scale; the power above would give it 0 or infinity.
    scale = torch.where(alive, scale, 1)
    factors = torch.stack([scale, scale, scale**-2])
    return element * factors.reshape(factors.shape + (1,) * (element.ndim - 2))


def canonical(element: Frequency) -> Frequency:
    """One representative of an element's gauge class: balanced, signed and sorted.

    The sign (a, b) → (−a, −b) is chosen so that Re a > 0 (Im a > 0 on the imaginary axis); nodes are sorted
    by the angles of a, then b, then by modulus, to nine digits. Use :func:`equivalent` to compare elements.
    """
    element = balance(element)
    lead = torch.where(element[0].abs() > 0, element[0], element[1])
    tiny = 1e-9 * lead.abs()
    flip = (lead.real < -tiny) | ((lead.real.abs() <= tiny) & (lead.imag < 0))
    sign = torch.where(flip, -1.0, 1.0)
    element = element * torch.stack([sign, sign, torch.ones_like(sign)])
    keys = torch.stack([element[0].angle(), element[1].angle(), element[0].abs()]).mul(1e9).round()
    order = sorted(range(element.shape[1]), key=lambda j: tuple(keys[:, j].tolist()))
    return element[:, order]


def equivalent(left: Element, right: Element, *, gauge: bool = True, atol: float = 1e-9) -> bool:
    """Whether two elements are the same up to the order of nodes and, with ``gauge``, signs and scales."""
    if left.shape != right.shape:
        return False
    if gauge:
        left, right = balance(left), balance(right)
    left, right = _one_axis(left), _one_axis(right)
    gaps = _gaps(left, right)
    if gauge:
        flipped = torch.cat([-right[:2], right[2:]])
        gaps = torch.minimum(gaps, _gaps(left, flipped))
    unlike = (gaps > atol).to(torch.float64).numpy()
    return bool(unlike[linear_sum_assignment(unlike)].sum() == 0)


def _one_axis(element: Tensor) -> Tensor:
    return element.reshape(*element.shape[:2], math.prod(element.shape[2:]))


def _gaps(left: Tensor, right: Tensor) -> Tensor:
    return (left[:, :, None] - right[:, None, :]).abs().movedim(0, -1).flatten(2).amax(-1)


def _modulus2(values: Tensor) -> Tensor:
    return values.real**2 + values.imag**2


# Building blocks.


@dataclass(frozen=True)
class Family:
    """A per-frequency solution: a product of building blocks with its free angles.

    Args:
        name: names of ``BLOCKS`` joined by ``*``, such as ``"nu*syn"`` or ``"nu_i*xi"``.
        nu: the angle arg ν of z_ν.
        xi: the angle arg ξ of z_ξ.
        alpha: the angle arg α of z_{syn,αβ}.
        beta: the angle arg β of z_{syn,αβ}.
        sign: which of the two z_ξ, +1 or −1.
        phase_a: common phase of all a (taken back in c).
        phase_b: common phase of all b (taken back in c).
        constant: a k = 0 component of a and b, in units of their modulus (only of use at order-3 characters).

    Raises:
        ValueError: for a name that is not made of building blocks, or another sign.
    """

    name: str
    nu: Angle = 0.3
    xi: Angle = math.pi / 4
    alpha: Angle = 0.0
    beta: Angle = 0.0
    sign: int = 1
    phase_a: Angle = 0.0
    phase_b: Angle = 0.0
    constant: Angle = 0.0

    def __post_init__(self) -> None:
        for name in self.name.split("*"):
            if name not in BLOCKS:
                raise ValueError(f"family = {self.name!r}: {name!r} is not one of {', '.join(BLOCKS)}.")
        if self.sign not in (1, -1):
            raise ValueError(f"sign = {self.sign}: z_ξ exists with sign 1 and with sign −1.")

    def element(self) -> Frequency:
        """The product of the blocks with the phases, scaled to Σabc = 1."""
        result = generator(
            cmath.rect(1, self.phase_a), cmath.rect(1, self.phase_b), cmath.rect(1, -self.phase_a -
            self.phase_b)
        )
        for name in self.name.split("*"):
            result = multiply(result, BLOCKS[name].build(self))
        return rescale(result)

    @property
    def order(self) -> int:
        """The number of hidden nodes."""
        return math.prod(BLOCKS[name].order for name in self.name.split("*"))


class Block(NamedTuple):
    """A building block: its nodes as the paper writes them, their number, and how to make it."""

    symbol: str
    nodes: str
    order: int
    build: Callable[[Family], Tensor]


def _syn_alphabeta(family: Family) -> Tensor:
    alpha, beta, back = cmath.rect(1, family.alpha), cmath.rect(1, family.beta), OMEGA3.conjugate()
    second = generator(alpha * OMEGA3, alpha.conjugate() * OMEGA3, OMEGA3)
    return add(add(one(), second), generator(beta * back, beta.conjugate() * back, back))


def _xi(family: Family) -> Tensor:
    xi, i = cmath.rect(1, family.xi), 1j * family.sign
    return geometric(generator(xi, -i * xi.conjugate(), i), 2)


def _nu(angle: float) -> Tensor:
    nu = cmath.rect(1, angle)
    return geometric(generator(nu, -nu, -(nu**-2)), 2)


BLOCKS: Mapping[str, Block] = {
    "one": Block("1", "(1,1,1)", 1, lambda _: one()),
    "syn": Block("z_syn", "(1,1,1), (ω3,ω3,ω3), (ω̄3,ω̄3,ω̄3)", 3, lambda _: geometric(OMEGA3 * one(), 3)),
    "nu": Block("z_ν", "(1,1,1), (ν,−ν,−ν⁻²)", 2, lambda family: _nu(family.nu)),
    "nu_i": Block("z_{ν=i}", "(1,1,1), (i,−i,1)", 2, lambda _: geometric(generator(1j, -1j, 1), 2)),
    "xi": Block("z_ξ", "(1,1,1), (ξ,∓iξ̄,±i)", 2, _xi),
    "syn_alphabeta": Block("z_{syn,αβ}", "(1,1,1), (αω3,ᾱω3,ω3), (βω̄3,β̄ω̄3,ω̄3)", 3, _syn_alphabeta),
    "4a": Block("4a", "(1,1,1), (1,i,−i)", 2, lambda _: geometric(generator(1, 1j, -1j), 2)),
    "4b": Block("4b", "(1,1,1), (i,1,−i)", 2, lambda _: geometric(generator(1j, 1, -1j), 2)),
    "3a": Block(
        "3a", "(1,1,1), (ω3,1,ω̄3), (ω̄3,1,ω3)", 3, lambda _: geometric(generator(OMEGA3, 1, OMEGA3**2), 3)
    ),
}
"""Spec of each building block by its code name; a :class:`Family` multiplies them."""


def rescale(element: Frequency, goal: Angle = 1.0) -> Frequency:
    """Divide every entry by the cube root of Σabc / goal, so that Σabc = goal.

    Raises:
        ValueError: if Σabc is zero.
    """
    total = complex(element.prod(0).sum())
    if abs(total) < 1e-12:
        raise ValueError("Σabc is zero: this element cannot be scaled to a solution.")
    return element / (total / goal) ** (1 / 3)


def construction_table() -> pd.DataFrame:
    """Each building block and global product with the potentials that vanish and survive (CoGO, Table 1).

    One row per construction: its nodes, its order, what vanishes for every value of the free parameters,
    and the modulus of each potential ÷ order at generic ones (0 exactly where it vanishes).
    """
    generic = [
        {"nu": 0.37, "xi": 1.13, "alpha": 0.71, "beta": -0.53},
        {"nu": -1.21, "xi": 0.29, "alpha": -0.83, "beta": 1.57, "sign": -1},
    ]
    products = ["nu*syn", "nu_i*syn_alphabeta", "nu_i*xi"]
    rows = {}
    for name in [*list(BLOCKS)[1:], *products]:
        order = Family(name).order
        values = torch.stack([potential_values(Family(name, **angles).element()) for angles in generic]).abs()
        vanish = (values < 1e-12).all(0)
        values = torch.where(vanish, 0.0, values[0])
        names = [potential.name for potential in POTENTIALS]
        parts = [BLOCKS[block] for block in name.split("*")]
        rows[" * ".join(part.symbol for part in parts)] = {
            "nodes": parts[0].nodes if len(parts) == 1 else "product",
            "order": order,
            "vanish": " ".join(n for n, gone in zip(names, vanish.tolist(), strict=True) if gone),
            "survive": " ".join(n for n, gone in zip(names, vanish.tolist(), strict=True) if not gone),
            **dict(zip(names, values.tolist(), strict=True)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("construction")


# Whole networks.

ORDER_6 = Family("nu*syn")
ORDER_6_ALPHABETA = Family("nu_i*syn_alphabeta")
ORDER_4 = Family("nu_i*xi")
ORDER_3 = Family("syn")
ORDER_2_REAL = Family("nu", nu=0.0)
"""(1,1,1), (1,−1,−1): complete at a character of order 2 (real coefficients, bias Σ(a² + b²)c)."""
ORDER_3_WITH_CONSTANT = Family("syn", constant=-0.25)
"""Complete at a character of order 3: 2k = −k there, and products of k = 0 with −k cancel Σa²c, Σb²c."""


def place(group: AbelianGroup, element: Frequency, character: int, constant: Angle = 0.0) -> Spectrum:
    """Put an element on the pair {k, −k} of a group, scaled so that its Σabc becomes r_kkk.

    ``constant`` adds a k = 0 component to a and b, in units of each node's modulus.

    Raises:
        ValueError: for the trivial character, or a complex element at a self-conjugate character.
    """
    k, minus = character, int(group.neg(character))
    if k == 0:
        raise ValueError("character 0 is trivial: nothing is learned there.")
    element = element / (2 * group.size) ** (1 / 3)
    if k == minus and element.imag.abs().max() > 1e-9 * element.abs().max():
        raise ValueError(
            f"character {group.label(k)} of {group} equals its conjugate: its coefficients must be real, "
            "as in the families 'one' and 'nu' with nu = 0."
        )
    spectrum = zero(group.size).new_zeros(3, element.shape[1], group.size)
    spectrum[:, :, minus] = element.conj()
    spectrum[:, :, k] = element
    if k == minus:
        spectrum[:, :, k] = element.real.to(element.dtype)
    spectrum[:2, :, 0] = constant * element[:2].abs()
    return spectrum


def hosting_gain(group: AbelianGroup, nodes: Spectrum, atol: float = 1e-10) -> float | None:
    """Σ_j h_j if that sum over nodes is the same for every input (x, y), else ``None``.

    Nodes with a constant sum may carry an output bias: an equal coefficient in all their c adds a constant
    to the output and changes no other potential. Order-6 families can (Σab, Σab̄, Σa², Σb² vanish), order 4
    cannot.
    """
    w_a, w_b, _ = group.to_weights(nodes)
    table = (w_a**2).sum(0)[:, None] + (w_b**2).sum(0)[None, :] + 2 * w_a.T @ w_b
    gain = table.mean()
    flat = table.numel() > 0 and gain > 0 and (table - gain).abs().max() <= atol * gain
    return float(gain) if flat else None


def build(
    group: AbelianGroup,
    choice: Mapping[int, Family],
    *,
    host: int | Literal["all", "node"] | None = None,
) -> Spectrum:
    """A network from one family per frequency (CoGO, global solutions): nodes come frequency by frequency.

    Order-6 families are complete. Order-4 families leave an output bias, which ``host`` cancels: a
    character whose family can carry it (see :func:`hosting_gain`), ``"all"`` such characters in equal
    shares, or ``"node"``, one more hidden node with only a k = 0 input. ``None`` leaves the bias alone.

    Any finite Abelian group will do. Without k = 0 components nothing coincides at characters of order 3 or
    of order ≥ 5; at order 4, 2k = −2k merges constraints (Σa²c + Σā²c suffices), so the families stay
    complete; at order 2 the coefficients must be real and ``ORDER_2_REAL`` is complete and can host. At
    order 3 a k = 0 component makes three nodes complete: ``ORDER_3_WITH_CONSTANT``.

    Args:
        choice: family by character number; −k is filled in from k. Characters left out are not learned.

    Raises:
        ValueError: if both k and −k are given, a family does not fit its character, or the host cannot host.
    """
    if any(int(group.neg(k)) in choice and int(group.neg(k)) != k for k in choice):
        raise ValueError("choice names both k and −k: give one of them, the other follows.")
    parts = {k: place(group, family.element(), k, family.constant) for k, family in choice.items()}
    if host not in (None, "all", "node") and host not in parts:
        raise ValueError(f"host = {host!r}: choose 'all', 'node', None or one of {sorted(parts)}.")
    spectrum = torch.cat([zero(group.size), *parts.values()], dim=1)
    bias = output_bias(group, spectrum) / group.size
    if host is None:
        return spectrum
    if host == "node":
        return add(spectrum, _bias_node(bias))
    candidates = list(parts) if host == "all" else [host]
    gains = {k: hosting_gain(group, parts[k]) for k in candidates}
    able = {k: gain for k, gain in gains.items() if gain is not None}
    if not able:
        raise ValueError(f"host = {host!r}: no nodes with a constant sum there, so nothing hosts the bias.")
    for k, gain in able.items():
        parts[k][2] -= bias / (gain * len(able))
    return torch.cat(list(parts.values()), dim=1)


def _bias_node(bias: Complex[Tensor, " character"]) -> Spectrum:
    """One node with A_0 = B_0 = s, so h = (2s)², and C = −bias/(2s)²; s makes its norm the least."""
    energy = float(_modulus2(bias).sum())
    square = (energy / 16) ** (1 / 3) if energy else 1.0
    node = zero(len(bias)).new_zeros(3, 1, len(bias))
    node[:2, 0, 0] = math.sqrt(square)
    node[2, 0] = -bias / (4 * square)
    return node


def everywhere(group: AbelianGroup, family: Family) -> dict[int, Family]:
    """The same family at every frequency; characters of order 2 must be real and get ``ORDER_2_REAL``."""
    half = group.half()
    pairs = zip(half.characters.tolist(), half.self_conjugate.tolist(), strict=True)
    return {k: ORDER_2_REAL if real else family for k, real in pairs}


def mixed(
    group: AbelianGroup, order_6: Sequence[int], six: Family = ORDER_6, four: Family = ORDER_4
) -> dict[int, Family]:
    """Order 6 at the characters named, order 4 at the rest (``ORDER_2_REAL`` at characters of order 2)."""
    choice = everywhere(group, four)
    if unknown := [k for k in order_6 if k not in choice or choice[k] is not four]:
        raise ValueError(f"order_6 names {unknown}, which are not among the complex characters of half().")
    return choice | dict.fromkeys(order_6, six)


def with_random_angles(family: Family, source: torch.Generator) -> Family:
    """The family with all its free angles and phases drawn uniformly from the circle."""
    names = ("nu", "xi", "alpha", "beta", "phase_a", "phase_b")
    turns = torch.rand(len(names), generator=source, dtype=torch.float64) * 2 * math.pi
    return replace(family, **dict(zip(names, turns.tolist(), strict=True)))


def memorisation(group: AbelianGroup, *, include_dc: bool = True) -> Spectrum:
    """Perfect memorisation: d² hidden nodes, one per pair of elements, and zero loss (CoGO).

    Node (i, j): A_k = φ_k(i), B_k = φ_k(j), C_k = φ_{−k}(i + j), scaled to r_kkk = 1 at the least norm. It
    is a product of polynomials 1 + u + … + u^{n−1}, two for each cyclic factor. Zero loss with or without k
    = 0.
    """
    characters = group.character_table()
    result = one(group.size)
    for part in (0, 1):
        for axis, n in enumerate(group.orders):
            step = math.prod(group.orders[axis + 1 :])
            unknown = one(group.size)
            unknown[part, 0] = characters[:, step]
            unknown[2, 0] = characters[:, step].conj()
            result = multiply(result, geometric(unknown, n))
    if not include_dc:
        result[:, :, 0] = 0
    return result / (2 * group.size**3) ** (1 / 3)


def squared_norm(group: AbelianGroup, spectrum: Spectrum) -> Float[Tensor, ""]:
    """‖w_a‖² + ‖w_b‖² + ‖w_c‖² = d Σ |coefficients|²."""
    return group.size * _modulus2(spectrum).sum()
