"""What a block of hidden nodes at one frequency has to satisfy: the problems of the completeness search.

A block of n hidden nodes at one character χ of order m has inputs aχ(x) + āχ̄(x) + bχ(y) + b̄χ̄(y) (+ a
constant e) and output coefficient c. Expanding the square and reducing the exponents of χ(x)ˢχ(y)ᵗ modulo
m, the block is exact if and only if Σ_j c_j·[coefficient of χ(x)ˢχ(y)ᵗ]_j vanishes for every class (s, t)
except (1, 1). That is the exact loss decomposition (Theorem 1 with its constant terms) restricted to one
frequency; for m = 2, 3, 4 some classes coincide, so that conditions merge.

Two problems, which :mod:`learndyn.cogo_li2.torus_design` solves:

* :class:`DesignProblem`: least norm for its order, so |a| = |b| = |c| and c = conj(ab). A node is a point
  (α, β) of the torus and each condition is a sum of exp i(sα + tβ).
* :class:`FrequencyProblem`: a, b, c (and e) free.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Exponent = tuple[int, int]

FAMILIES = ("R_c", "R_n", "R_*")
GENERIC = 5
"""Character orders from five on all give the same conditions."""


def _inputs(order: int, constant: bool) -> list[tuple[int, Exponent]]:
    """Components of a node's input: (index into (a, ā, b, b̄, e), exponent of (χ(x), χ(y)))."""
    if order < 2:
        raise ValueError(f"character_order must be at least 2, got {order}.")
    parts = [(0, (1, 0)), (1, (-1, 0)), (2, (0, 1)), (3, (0, -1))]
    if order == 2:  # χ = χ̄: one real coefficient each, no conjugate partner
        parts = [(0, (1, 0)), (2, (0, 1))]
    return [*parts, (4, (0, 0))] if constant else parts


def condition_classes(
    character_order: int, *, constant_input: bool = False
) -> dict[Exponent, list[tuple[int, int, Exponent]]]:
    """Terms of (input)² grouped by the function χ(x)ˢχ(y)ᵗ that they multiply (exponents modulo the order).

    Each term is (index u, index v, unreduced exponent) with indices into (a, ā, b, b̄, e); ordered pairs,
    so a cross term appears twice. The class of (1, 1) is the wanted one; all others must vanish after
    summing with c.
    """
    parts = _inputs(character_order, constant_input)
    classes: dict[Exponent, list[tuple[int, int, Exponent]]] = {}
    for u, (su, tu) in parts:
        for v, (sv, tv) in parts:
            s, t = su + sv, tu + tv
            key = s % character_order, t % character_order
            classes.setdefault(key, []).append((u, v, (s, t)))
    return classes


def family(character_class: Exponent) -> str:
    """Which of R_g, R_c, R_n, R_* the condition of a class (exponents modulo the order) belongs to."""
    if character_class == (1, 1):
        return "R_g"
    if character_class == (0, 0):
        return "R_n"
    return "R_c" if all(character_class) else "R_*"


def _check_families(without: Iterable[str]) -> frozenset[str]:
    dropped = frozenset(without)
    if unknown := dropped - set(FAMILIES):
        raise ValueError(f"unknown family {min(unknown)!r}; {', '.join(FAMILIES)} can be left out.")
    return dropped


@dataclass(frozen=True)
class DesignProblem:
    """Exponent sums over points (α_j, β_j) of the torus that must vanish.

    ``conditions``: each a tuple of exponents (s, t), meaning Σ_j Σ_{(s,t)} exp i(sα_j + tβ_j) = 0.
    ``signs``: the character is real, so angles are 0 or π only.
    """

    conditions: tuple[tuple[Exponent, ...], ...]
    signs: bool = False

    def unknowns(self, nodes: int) -> int:
        """Two angles per node."""
        return 2 * nodes

    def start(self, starts: int, nodes: int, generator: torch.Generator) -> Float[Tensor, "start unknown"]:
        """Angles uniform on [0, 2π)."""
        turns = torch.rand(
            (starts, 2 * nodes), generator=generator, dtype=torch.float64, device=generator.device
        )
        return 2 * math.pi * turns

    def sums(self, angles: Float[Tensor, "*batch node 2"]) -> Complex[Tensor, "*batch condition"]:
        """The exponent sums themselves."""
        exponents, merge = self._tables(angles)
        return torch.polar(torch.ones_like(angles[..., :1]), angles @ exponents.T).sum(-2) @ merge

    def linearise(
        self, x: Float[Tensor, "start unknown"]
    ) -> tuple[
        Float[Tensor, "start equation"],
        Float[Tensor, "start equation unknown"],
    ]:
        """Real and imaginary parts of the sums, with d/dα exp i(sα+tβ) = is·exp i(sα+tβ)."""
        angles = x.unflatten(-1, (-1, 2))
        exponents, merge = self._tables(angles)
        phase = angles @ exponents.T
        unit = torch.complex(phase.cos(), phase.sin())  # start node term
        residual = torch.view_as_real(unit.sum(-2) @ merge).flatten(1)
        # start node angle term
        slope = 1j * unit[:, :, None, :] * exponents.T.to(unit.dtype)
        jacobian = torch.view_as_real((slope @ merge).flatten(1, 2).mT)
        return residual, jacobian.movedim(-1, 2).flatten(1, 2)

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        terms = [e for condition in self.conditions for e in condition]
        merge = torch.zeros(len(terms), len(self.conditions), dtype=torch.complex128, device=like.device)
        owner = [i for i, condition in enumerate(self.conditions) for _ in condition]
        merge[range(len(terms)), owner] = 1
        return torch.tensor(terms, dtype=like.dtype, device=like.device).reshape(-1, 2), merge


def torus_problem(character_order: int = GENERIC, *, without: Iterable[str] = ()) -> DesignProblem:
    """Conditions on balanced nodes (c = conj(ab)) at a character of the given order.

    ``without``: families that are not imposed: "R_n" when another frequency hosts the bias, "R_*", "R_c".
    A condition and its conjugate count once; a common multiplicity is divided out, so that for orders ≥ 5
    the conditions are (2,0), (0,2), (2,2) [R_c], (1,1) [R_n], (1,−1), (3,1), (1,3) [R_*].
    """
    dropped = _check_families(without)
    conditions: list[tuple[Exponent, ...]] = []
    for key, terms in condition_classes(character_order).items():
        if family(key) in dropped | {"R_g"}:
            continue
        counts = Counter((s - 1, t - 1) for _, _, (s, t) in terms)  # c = conj(ab) adds (−1, −1)
        if character_order == 2:  # signs: exponents matter modulo 2 only
            counts = Counter({(1, 1): len(terms)})
        common = reduce(math.gcd, counts.values())
        multiset = tuple(sorted(e for e, n in counts.items() for _ in range(n // common)))
        mirror = tuple(sorted((-s, -t) for s, t in multiset))
        canonical = max(multiset, mirror)
        if canonical not in conditions:
            conditions.append(canonical)
    return DesignProblem(tuple(conditions), signs=character_order == 2)


@dataclass(frozen=True)
class FrequencyProblem:
    """Exact single-frequency blocks with free coefficients, scaled so that 2Σabc = n (mean modulus near 1).

    Unknowns per node: Re and Im of a, b, c (one real number each for order 2), plus e with
    ``constant_input``.
    """

    character_order: int = GENERIC
    constant_input: bool = False
    without: tuple[str, ...] = ()

    def _width(self) -> int:
        return (3 if self.character_order == 2 else 6) + self.constant_input

    def unknowns(self, nodes: int) -> int:
        """Six real numbers per node (three at a real character), one more with a constant input."""
        return self._width() * nodes

    def start(self, starts: int, nodes: int, generator: torch.Generator) -> Float[Tensor, "start unknown"]:
        """Standard normal coefficients, modulus about 1."""
        shape = (starts, self.unknowns(nodes))
        x = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
        return x if self.character_order == 2 else x / math.sqrt(2)

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Linear maps from a node's reals to (a, ā, b, b̄, e) and to c; a quadratic form per condition."""
        real = self.character_order == 2
        width = self._width()
        parts = torch.zeros(5, width, dtype=torch.complex128, device=like.device)
        output = torch.zeros(width, dtype=torch.complex128, device=like.device)
        output[2] = 1
        for row, column, sign in ((0, 0, 1), (1, 0, -1), (2, 1, 1), (3, 1, -1)):
            parts[row, column] = 1
            if not real:
                parts[row, column + 3] = 1j * sign
        if not real:
            output[5] = 1j
        if self.constant_input:
            parts[4, -1] = 1
        forms = []
        for terms in self._classes().values():
            form = torch.zeros(5, 5, dtype=torch.complex128, device=like.device)
            for u, v, _ in terms:
                form[u, v] += 1
            forms.append(form)
        return parts, output, torch.stack(forms)

    def _classes(self) -> dict[Exponent, list[tuple[int, int, Exponent]]]:
        dropped = _check_families(self.without)
        classes = condition_classes(self.character_order, constant_input=self.constant_input)
        return {key: terms for key, terms in classes.items() if family(key) not in dropped}

    def coefficients(self, x: Float[Tensor, "*batch unknown"]) -> Complex[Tensor, "*batch 4 node"]:
        """(a, b, c, e) of each node; e = 0 without a constant input."""
        parts, output, _ = self._tables(x)
        node = x.unflatten(-1, (-1, self._width())).to(parts.dtype)
        a, _, b, _, e = (node @ parts.T).unbind(-1)
        return torch.stack([a, b, node @ output, e], -2)

    def linearise(
        self, x: Float[Tensor, "start unknown"]
    ) -> tuple[Float[Tensor, "start equation"], Float[Tensor, "start equation unknown"]]:
        """Real and imaginary parts of Σ_j c_j·p_jᵀSp_j for each condition's form S, p = (a, ā, b, b̄, e)."""
        parts, output, forms = self._tables(x)
        node = x.unflatten(-1, (-1, self._width())).to(parts.dtype)
        p, c = node @ parts.T, node @ output
        image = torch.einsum("kuv,sjv->skju", forms, p)
        value = (image * p[:, None]).sum(-1)  # start condition node
        residual = (value * c[:, None]).sum(-1)
        residual[:, list(self._classes()).index((1, 1))] -= 2 * c.shape[-1]
        slope = 2 * (c[:, None, :, None] * image) @ parts + value[..., None] * output
        jacobian = torch.view_as_real(slope.flatten(2)).movedim(-1, 2)
        return torch.view_as_real(residual).flatten(1), jacobian.flatten(1, 2)
