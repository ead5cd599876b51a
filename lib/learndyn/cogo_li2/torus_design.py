"""Completeness of the small solutions: single-frequency designs, found from many random starts at once.

The conditions are in :mod:`learndyn.cogo_li2.design_problems`. Here they are solved by one batched
Levenberg–Marquardt for all starts, the solution sets are measured (local dimension) and sorted (which
building block divides a design), slid to least norm, and turned into networks. All of it is our own; the
paper only shows that designs of order 4 and 6 exist.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from learndyn.cogo_li2.design_problems import GENERIC, DesignProblem, FrequencyProblem
from learndyn.cogo_li2.groups import AbelianGroup

Problem = DesignProblem | FrequencyProblem

SOLVED = 1e-20
SHIFTS: dict[str, tuple[float, float]] = {
    "z_nui": (math.pi / 2, -math.pi / 2),
    "z_syn": (2 * math.pi / 3, 2 * math.pi / 3),
}
"""Torus shifts that leave a design unchanged exactly when it is a multiple of the named building block."""


def levenberg_marquardt(
    problem: Problem,
    start: Float[Tensor, "start unknown"],
    *,
    iterations: int = 400,
    step_limit: float = 0.3,
) -> Float[Tensor, "start unknown"]:
    """Least squares from every start at once (Levenberg–Marquardt, damping μ·‖r‖²).

    The factor μ adapts per start: down after a step that helped, up after one that was refused.

    A start that is solved (‖r‖² < ``SOLVED``) or whose steps have died out is frozen and left out of the
    later linear algebra. ``step_limit`` bounds every coordinate of a step.
    """
    best, x = start.clone(), start.clone()
    active = torch.arange(len(start), device=start.device)
    residual, jacobian = problem.linearise(x)
    cost = residual.square().sum(-1)
    damping = torch.full_like(cost, 1e-2)
    for _ in range(iterations):
        normal = jacobian.mT @ jacobian
        # The floor keeps J*J invertible where the solutions form a manifold.
        floor = 1e-12 * (1 + normal.diagonal(dim1=-2, dim2=-1).amax(-1))
        normal.diagonal(dim1=-2, dim2=-1).add_((damping * cost + floor)[:, None])
        gradient = jacobian.mT @ residual[..., None]
        step = -torch.cholesky_solve(gradient, torch.linalg.cholesky(normal))[..., 0]
        size = step.abs().amax(-1)
        step = step * (step_limit / size.clamp(min=step_limit))[:, None]
        new_residual, new_jacobian = problem.linearise(x + step)
        new_cost = new_residual.square().sum(-1)
        better = new_cost < cost
        x = torch.where(better[:, None], x + step, x)
        residual = torch.where(better[:, None], new_residual, residual)
        jacobian = torch.where(better[:, None, None], new_jacobian, jacobian)
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, damping / 3, damping * 4).clamp(1e-6, 1e8)
        best[active] = x
        keep = (cost > SOLVED) & (size > 1e-8)
        if not keep.any():
            break
        if not keep.all():
            active, x, residual, jacobian = active[keep], x[keep], residual[keep], jacobian[keep]
            cost, damping = cost[keep], damping[keep]
    return best


@dataclass(frozen=True)
class DesignResult:
    """What the solver found for one problem and one number of nodes.

    ``x``: end point of every start; ``residual``: squared residual there; ``dimension``: local dimension of
    the set of solutions (unknowns − rank of the Jacobian), −1 where there is none; ``impossible``: a
    sentence if theory excludes the design, else None.
    """

    problem: Problem
    nodes: int
    x: Float[Tensor, "start unknown"]
    residual: Float[Tensor, " start"]
    dimension: Int[Tensor, " start"]
    impossible: str | None

    @property
    def solved(self) -> Bool[Tensor, " start"]:
        """Starts that ended in an exact solution."""
        return self.residual < SOLVED

    @property
    def feasible(self) -> bool:
        """Whether any start ended in an exact solution."""
        return bool(self.solved.any())

    @property
    def min_residual(self) -> float:
        """The smallest squared residual (0 for an exact solution)."""
        return 0.0 if self.feasible else float(self.residual.min())

    @property
    def dimensions(self) -> dict[int, int]:
        """Local dimension → number of starts that ended on such a piece of the solution set."""
        return dict(sorted(Counter(self.dimension[self.solved].tolist()).items()))

    @property
    def angles(self) -> Float[Tensor, "start node 2"]:
        """(α, β) of the nodes of every solution of a :class:`DesignProblem`."""
        if not isinstance(self.problem, DesignProblem):
            raise TypeError("only torus designs have angles; ask for `coefficients`")
        return self.x[self.solved].unflatten(-1, (-1, 2))

    @property
    def coefficients(self) -> Complex[Tensor, "start 4 node"]:
        """(a, b, c, e) of the nodes of every solution."""
        if isinstance(self.problem, FrequencyProblem):
            return self.problem.coefficients(self.x[self.solved])
        alpha, beta = self.angles.unbind(-1)
        phases = torch.stack([alpha, beta, -alpha - beta], -2)
        abc = torch.complex(phases.cos(), phases.sin())
        return torch.cat([abc, torch.zeros_like(abc[:, :1])], -2)

    def row(self) -> dict[str, object]:
        """One line of a completeness table."""
        return {
            "nodes": self.nodes,
            "feasible": self.feasible,
            "solved": int(self.solved.sum()),
            "starts": len(self.x),
            "min_residual": self.min_residual,
            "dimensions": self.dimensions,
            "impossible": self.impossible or "",
        }


def impossible(problem: Problem, nodes: int) -> str | None:
    """Why theory excludes a design at balanced norm, in a sentence; None where it is not known to."""
    if isinstance(problem, FrequencyProblem) or not problem.conditions:
        return None
    if problem.signs:
        return "an odd number of signs cannot sum to zero" if nodes % 2 else None
    if nodes == 1 and any(len(condition) == 1 for condition in problem.conditions):
        return "a single unit vector cannot vanish"
    if {((2, 0),), ((0, 2),), ((2, 2),)} <= set(problem.conditions):
        if nodes == 2:
            return "R_c shifts 2α and 2β by π each, which makes the two terms of (2,2) equal"
        if nodes == 3 and ((1, -1),) in problem.conditions:
            return "R_c makes 2α and 2β turn together, so (1,−1) is a sum of three equal or opposite vectors"
    return None


def solve(
    problem: Problem,
    nodes: int,
    *,
    starts: int = 400,
    generator: torch.Generator,
    iterations: int = 400,
) -> DesignResult:
    """Search for designs with that many nodes from random starts (float64, on the generator's device).

    Infeasibility is numerical evidence unless ``impossible`` says why. Real characters on the torus (signs)
    are enumerated instead: the "starts" are then all 2ⁿ choices of the sign of ab, up to the gauge α = 0.

    Raises:
        ValueError: if ``nodes`` or ``starts`` is not positive.
    """
    if nodes < 1 or starts < 1:
        raise ValueError(f"nodes and starts must be positive, got {nodes} and {starts}")
    if isinstance(problem, DesignProblem) and problem.signs:
        choices = torch.cartesian_prod(*[torch.tensor([0.0, math.pi], dtype=torch.float64)] * nodes)
        beta = choices.reshape(-1, nodes).to(generator.device)
        x = torch.stack([torch.zeros_like(beta), beta], -1).flatten(1)
        residual, jacobian = problem.linearise(x)
        rank = torch.full((len(x),), problem.unknowns(nodes))  # signs are isolated
    else:
        x = levenberg_marquardt(problem, problem.start(starts, nodes, generator), iterations=iterations)
        residual, jacobian = problem.linearise(x)
        rank = (torch.linalg.svdvals(jacobian) > 1e-5).sum(-1)
    cost = residual.square().sum(-1)
    dimension = torch.where(cost < SOLVED, problem.unknowns(nodes) - rank.to(cost.device), -1)
    return DesignResult(problem, nodes, x, cost, dimension, impossible(problem, nodes))


def minimal_order(
    problem: Problem,
    *,
    largest: int = 8,
    starts: int = 400,
    generator: torch.Generator,
) -> DesignResult | None:
    """The result with the fewest nodes that has a solution, or None up to ``largest``."""
    results = (solve(problem, n, starts=starts, generator=generator) for n in range(1, largest + 1))
    return next((result for result in results if result.feasible), None)


def _quotient(angles: Tensor) -> Tensor:
    """Coordinates that separate points of the torus modulo the sign gauge (π, π)."""
    alpha, beta = angles.unbind(-1)
    phases = torch.stack([2 * alpha, 2 * beta, alpha + beta], -1)
    return torch.complex(phases.cos(), phases.sin())


def invariant(
    angles: Float[Tensor, "*batch node 2"],
    shift: Float[Tensor, "*batch_or_one 2"],
    tolerance: float = 1e-3,
) -> Bool[Tensor, "*batch"]:
    """Whether the set of nodes, with multiplicities, is unchanged by a shift of the torus.

    Modulo node permutations and the sign gauge (a, b) → (−a, −b), which is the shift (π, π).
    """
    points = _quotient(angles)

    def multiplicity(of: Tensor) -> Tensor:
        gaps = of[..., :, None, :] - points[..., None, :, :]
        return (gaps.abs().amax(-1) < tolerance).sum(-1)

    moved = _quotient(angles + shift[..., None, :])
    return (multiplicity(moved) == multiplicity(points)).all(-1)


def classify(angles: Float[Tensor, "start node 2"]) -> dict[str, Bool[Tensor, " start"]]:
    """Which designs are multiples of z_{ν=i} or of z_syn: unchanged by the block's shift (``SHIFTS``)."""
    return {
        name: invariant(angles, torch.tensor(shift, dtype=angles.dtype, device=angles.device))
        for name, shift in SHIFTS.items()
    }


def symmetry_order(angles: Float[Tensor, "start node 2"]) -> Int[Tensor, " start"]:
    """Number of shifts that leave a design unchanged (nodes k for which point k − point 0 is one).

    1 means that no width-one generator factors out: a design that is not a polynomial 1 + u + u² + … times
    another.
    """
    shifts = angles - angles[:, :1]
    return invariant(angles[:, None].expand(-1, angles.shape[1], -1, -1), shifts).sum(-1)


def least_norm(
    problem: FrequencyProblem, x: Float[Tensor, "start unknown"], *, steps: int = 400, rate: float = 0.2
) -> tuple[Float[Tensor, "start unknown"], Float[Tensor, " start"]]:
    """Slide exact solutions along their manifold to a local minimum of the weight norm, as weight decay does.

    Returns the end points and their norm factor ν: the block costs ‖w‖² = μ·d·(2d)^{−2/3}·ν with μ = 2 for
    a pair {k, −k} and 1 for a real character. Balanced blocks of order n have ν = 3n^{1/3}; e costs e²/4
    against a pair (e²/2 against a real character) because it is split evenly between w_a and w_b. NaN where
    the slide ended off the manifold.
    """
    weight = torch.ones(problem.unknowns(1), dtype=x.dtype, device=x.device)
    if problem.constant_input:
        weight[-1] = 0.5 if problem.character_order == 2 else 0.25
    nodes = x.shape[-1] // len(weight)
    scale = weight.repeat(nodes).sqrt()
    for i in range(steps + 10):
        pull = rate if i < steps else 0.0  # the last steps only return to the manifold
        residual, jacobian = problem.linearise(x)
        jacobian = jacobian / scale
        gram = jacobian @ jacobian.mT  # conditions can be redundant: keep it invertible
        gram.diagonal(dim1=-2, dim2=-1).add_(1e-10 * gram.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True))
        goal = residual[..., None] - pull * (jacobian @ (x * scale)[..., None])
        correction = (jacobian.mT @ torch.cholesky_solve(goal, torch.linalg.cholesky(gram)))[..., 0]
        step = -pull * x * scale - correction
        x = x + step * (0.3 / step.abs().amax(-1, keepdim=True).clamp(min=0.3)) / scale
    exact = problem.linearise(x)[0].square().sum(-1) < 1e-16
    factor = (scale * x).square().sum(-1) * nodes ** (-2 / 3)
    return x, torch.where(exact, factor, torch.nan)


def design_spectrum(
    group: AbelianGroup, character: int, coefficients: Complex[Tensor, "4 node"]
) -> Complex[Tensor, "part node character"]:
    """The block (a, b, c, e) at one character as a network, in the code's normalisation: 2Σabc = 1/d.

    Raises:
        ValueError: if the character is trivial, or real while the coefficients are not.
    """
    mirror = int(group.neg(character))
    if not 0 < character < group.size:
        raise ValueError(f"character must be one of 1 … {group.size - 1}, got {character}")
    if mirror == character and coefficients.imag.abs().max() > 1e-9:
        raise ValueError(f"character {character} is real: its coefficients must be real, too")
    goal = coefficients[:3].prod(0).sum().real
    scaled = coefficients / (2 * group.size * goal).pow(1 / 3)
    spectrum = scaled.new_zeros(3, coefficients.shape[1], group.size)
    spectrum[:, :, mirror] = scaled[:3].conj()
    spectrum[:, :, character] = scaled[:3]
    spectrum[0, :, 0] = spectrum[1, :, 0] = scaled[3] / 2  # only the sum of the two constants matters
    return spectrum


def group_spectrum(
    group: AbelianGroup, blocks: Mapping[int, Complex[Tensor, "4 _"]]
) -> Complex[Tensor, "part node character"]:
    """One block per frequency of the group, side by side.

    ``blocks``: character order (5 stands for five or more) → (a, b, c, e) of its nodes, in any scale.

    Raises:
        ValueError: if a character's order has no block.
    """
    parts = []
    for k in group.half().characters.tolist():
        order = min(group.order_of(k), GENERIC)
        if order not in blocks:
            raise ValueError(f"no block for characters of order {order}; character {k} of {group} needs one")
        parts.append(design_spectrum(group, k, blocks[order]))
    return torch.cat(parts, 1)
