"""The linear model of Barlow Twins, solved: what is learned, when, and which solution it ends in.

The model is f(x) = W x with the loss ‖C − I‖²_F of C = W Γ Wᵀ, where Γ is the symmetrised cross-covariance of
the two views (Simon et al., 2023, section 4). From a small start the eigenmodes of Γ are learned one after
another, each along a logistic curve. Γ is symmetric but not positive: its eigenvalues are sorted descending
and signed, never by magnitude. Time t is the learning rate times the number of steps.

Shapes: ``pair``, ``input`` (features of one view, flattened), ``mode`` (eigenmodes), ``dimension`` (of the
embedding), ``step``. Everything is float64.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from scipy.integrate import solve_ivp
from torch import Tensor

from learndyn.core import spectra
from learndyn.core.errors import PlainError


class LinearModelError(PlainError):
    """A question about the linear model that has no answer; one sentence says why."""


class LossFloorWarning(UserWarning):
    """The embedding has more dimensions than there are modes to learn, so the loss cannot reach 0."""


class StabilityWarning(UserWarning):
    """The learning rate is above the bound beyond which gradient descent does not settle."""


# Data -> modes


@dataclass(frozen=True)
class Modes:
    """Eigenmodes of Γ: ``eigenvalues`` descending, and the eigenvectors v_j as the rows of ``vectors``.

    There may be fewer modes than inputs: directions that no sample has are left out (Γ is zero on them).
    """

    eigenvalues: Float64[Tensor, " mode"]
    vectors: Float64[Tensor, "mode input"]

    def top(self, dimensions: int) -> Modes:
        """The first modes only, Γ^(≤d) of the paper.

        Raises:
            LinearModelError: there are not that many.
        """
        if dimensions > len(self.eigenvalues):
            raise LinearModelError(
                f"{dimensions} modes were asked for, but these views have {len(self.eigenvalues)}; "
                "use fewer embedding dimensions"
            )
        return Modes(self.eigenvalues[:dimensions], self.vectors[:dimensions])


def modes_of(gamma: Float[Tensor, "input input"]) -> Modes:
    """The eigenmodes of a symmetric matrix Γ."""
    values, vectors = spectra.sorted_eigh(gamma.to(torch.float64))
    return Modes(values, vectors.mT.contiguous())


def feature_modes(view_a: Float[Tensor, "pair *feature"], view_b: Float[Tensor, "pair *feature"]) -> Modes:
    """The eigenmodes of Γ = (1/2n) Σ_i (x_i x'_iᵀ + x'_i x_iᵀ), the way that is cheaper.

    With fewer samples 2n than inputs m, all of Γ happens in the span of the samples: with S = [x; x'] and the
    QR factorisation Sᵀ = Q R, Γ = Q (R Z Rᵀ) Qᵀ with Z = (1/2n) [[0, I], [I, 0]], so a 2n × 2n eigenproblem
    is solved and only min(m, 2n) modes are returned.
    """
    a, b = (view.flatten(1).to(torch.float64) for view in (view_a, view_b))
    pairs, inputs = a.shape
    if 2 * pairs >= inputs:
        return modes_of(spectra.cross_covariance(a, b))
    q, r = torch.linalg.qr(torch.cat([a, b]).mT)
    products = r[:, :pairs] @ r[:, pairs:].mT
    small = modes_of((products + products.mT) / (2 * pairs))
    return Modes(small.eigenvalues, small.vectors @ q.mT)


def positive_modes(eigenvalues: Float[Tensor, " mode"]) -> int:
    """How many eigenvalues are positive beyond rounding: so many eigenvalues of C can become 1."""
    size = eigenvalues.abs().max() * len(eigenvalues) * torch.finfo(torch.float64).eps
    return int((eigenvalues > size).sum())


def loss_floor(eigenvalues: Float[Tensor, " mode"], dimensions: int) -> int:
    """The infimum of the loss, d − p for d dimensions and p < d positive modes, else 0 (derived)."""
    return max(0, dimensions - positive_modes(eigenvalues))


def warn_of_loss_floor(eigenvalues: Float[Tensor, " mode"], dimensions: int, stacklevel: int = 2) -> None:
    """Warn with `LossFloorWarning`, naming the floor, if the loss cannot reach 0."""
    if floor := loss_floor(eigenvalues, dimensions):
        warnings.warn(
            f"an embedding of {dimensions} dimensions has only {dimensions - floor} positive modes to learn: "
            f"the loss cannot fall below {floor}",
            LossFloorWarning,
            stacklevel=stacklevel,
        )


def stability_bound(eigenvalues: Float[Tensor, " mode"]) -> float:
    """Gradient descent settles at the top spectral solution iff the learning rate is below 1/(4γ₁).

    Derived: there entry (i, j) of C decays at the rate 4(γ_i + γ_j), at most 8γ₁. Slightly above, it
    oscillates and drifts along the other zero-loss solutions, some of which are flatter; far above,
    it diverges.
    """
    return 1 / (4 * float(eigenvalues.max()))


def warn_if_unstable(learning_rate: float, eigenvalues: Float[Tensor, " mode"], stacklevel: int = 2) -> None:
    """Warn with `StabilityWarning`, naming the bound, if the learning rate is not below it."""
    bound = stability_bound(eigenvalues)
    if learning_rate >= bound:
        warnings.warn(
            f"learning rate {learning_rate:.4g} is above the stability bound 1/(4 gamma_1) = {bound:.4g}: "
            "gradient descent will oscillate or diverge",
            StabilityWarning,
            stacklevel=stacklevel,
        )


# Aligned starts: closed forms


def singular_values(
    times: Float[Tensor, " step"],
    eigenvalues: Float[Tensor, "*#batch mode"],
    start: Float[Tensor, "*#batch mode"],
) -> Float64[Tensor, "*batch step mode"]:
    """Singular values s_j(t) of W from an aligned start (Simon et al., 2023, Prop. 4.1, eq. 10).

    In a form that does not overflow, s_j(t) = [γ_j + (s_j(0)⁻² − γ_j) e^{−8γ_j t}]^{−1/2}: as printed, eq. 10
    exceeds float64 once 8γ_j t > 709. Modes with γ_j < 0 decay; γ_j = 0 or s_j(0) = 0 stay as they are.
    """
    gamma = eigenvalues.to(torch.float64).unsqueeze(-2)
    s0 = start.to(torch.float64).unsqueeze(-2)
    t = times.to(torch.float64)[:, None]
    gamma, s0, t = torch.broadcast_tensors(gamma, s0, t)
    moved = (gamma + (s0**-2 - gamma) * torch.exp(-8 * gamma * t)) ** -0.5
    return torch.where((gamma == 0) | (s0 == 0), s0, moved)


def correlation_eigenvalues(
    times: Float[Tensor, " step"],
    eigenvalues: Float[Tensor, "*#batch mode"],
    start: Float[Tensor, "*#batch mode"],
    learning_rate: float | None = None,
) -> Float64[Tensor, "*batch step mode"]:
    """Eigenvalues λ_j(t) = γ_j s_j(t)² of C from an aligned start: logistic curves (after eq. 10).

    λ_j(t) = 1 / (1 + (1/λ_j(0) − 1) e^{−8γ_j t}), in the order of the modes: a late mode can overtake, so
    sort before comparing with sorted eigenvalues. With a learning rate η, the curve of gradient descent
    instead of the flow: the rate 8γ_j becomes (2/η) log(1 + 4γ_j η) (derived; exact while λ_j is small).
    """
    gamma, s0 = (x.to(torch.float64).unsqueeze(-2) for x in (eigenvalues, start))
    first = gamma * s0**2
    decay = torch.exp(-growth_rates(gamma, learning_rate) * times.to(torch.float64)[:, None])
    # λ(0) = 0 stays 0 also where the exponential has become 0, and the quotient 0/0.
    return torch.where(first == 0, first, first / (first + (1 - first) * decay))


def growth_rates(
    eigenvalues: Float[Tensor, "*batch"],
    learning_rate: float | None = None,
) -> Float64[Tensor, "*batch"]:
    """Rate at which a small λ_j grows: 8γ_j in the flow, (2/η) log(1 + 4γ_j η) under gradient descent."""
    gamma = eigenvalues.to(torch.float64)
    if learning_rate is None:
        return 8 * gamma
    # A decaying mode with 4|γ|η ≥ 1 flips its sign at every step; its size
    # goes by the magnitude.
    factor = (1 + 4 * gamma * learning_rate).abs()
    return 2 * torch.log(factor) / learning_rate


def loss(eigenvalues: Float[Tensor, "*batch mode"]) -> Float[Tensor, "*batch"]:
    """The loss ‖C − I‖² = Σ_j (1 − λ_j)² from the eigenvalues of C (eq. 4, theory form)."""
    return ((1 - eigenvalues) ** 2).sum(-1)


# Critical times


def critical_times(
    eigenvalues: Float[Tensor, "*#batch mode"],
    start: Float[Tensor, "*#batch mode"],
    learning_rate: float | None = None,
) -> Float64[Tensor, "*batch mode"]:
    """When each mode is learned: τ_j = −log(γ_j s_j(0)²) / (8γ_j); infinite where γ_j ≤ 0.

    λ_j(τ_j) = ½ up to O(γ_j s_j(0)²) (Simon et al., 2023, after Prop. 4.1). The order of learning is that of
    τ_j, not of γ_j. With a learning rate η, the time under gradient descent (derived):
    τ_j = −log(γ_j s_j(0)²) η / (2 log(1 + 4γ_j η)), later by about 2γ_j η: the fast modes are delayed.
    """
    first = eigenvalues.to(torch.float64) * start.to(torch.float64) ** 2
    times = -torch.log(first) / growth_rates(eigenvalues, learning_rate)
    return _never_unless_growing(eigenvalues, times)


def half_times(
    eigenvalues: Float[Tensor, "*#batch mode"], start: Float[Tensor, "*#batch mode"]
) -> Float64[Tensor, "*batch mode"]:
    """When λ_j is exactly ½ in the flow: log(1/(γ_j s_j(0)²) − 1) / (8γ_j); infinite where γ_j ≤ 0."""
    first = eigenvalues.to(torch.float64) * start.to(torch.float64) ** 2
    return _never_unless_growing(eigenvalues, torch.log(1 / first - 1) / growth_rates(eigenvalues))


def _never_unless_growing(eigenvalues: Tensor, times: Tensor) -> Tensor:
    return torch.where(eigenvalues > 0, times, torch.inf)


def step_widths(eigenvalues: Float[Tensor, "*batch mode"]) -> Float64[Tensor, "*batch mode"]:
    """Time in which λ_j goes from 10 % to 90 %: log(9) / (4γ_j) (derived); infinite where γ_j ≤ 0.

    Relative to τ_j it is 2 log 9 / log(1/(γ_j s_j(0)²)): steps sharpen only logarithmically in the init
    scale.
    """
    return _never_unless_growing(eigenvalues, math.log(9) / (4 * eigenvalues.to(torch.float64)))


def staircase(
    times: Float[Tensor, " step"], critical: Float[Tensor, "*batch mode"]
) -> Float64[Tensor, "*batch step"]:
    """The loss in the limit of a small start: the number of modes that are still to be learned."""
    return (critical[..., None, :] > times[:, None]).sum(-1).to(torch.float64)


def crossing_times(
    times: Float[Tensor, " step"], eigenvalues: Float[Tensor, "*batch step mode"], level: float = 0.5
) -> Float64[Tensor, "*batch mode"]:
    """When measured eigenvalues first exceed ``level``, between the logged times; NaN where they never do.

    Interpolates log(λ/(1 − λ)) linearly, which is exact for logistic curves however coarse the log is.
    """
    above = eigenvalues > level
    after = above.to(torch.int64).argmax(-2, keepdim=True)
    before = (after - 1).clamp(min=0)
    tiny = torch.finfo(torch.float64).tiny
    # Half of an ulp below 1, so that a value that has arrived (or overshot) has a finite logit.
    low, high = (torch.logit(eigenvalues.gather(-2, i).clamp(tiny, 1 - 1e-16)) for i in (before, after))
    share = ((math.log(level / (1 - level)) - low) / (high - low)).clamp(0, 1).nan_to_num(1.0)
    found = times[before] + share * (times[after] - times[before])
    return torch.where(above.any(-2), found.squeeze(-2), torch.nan)


# Generic starts


@dataclass(frozen=True)
class AlignedStart:
    """The aligned start U S(0) Γ^(≤d) that a generic small start follows."""

    rotation: Float64[Tensor, "*run dimension dimension"]
    singular_values: Float64[Tensor, "*run dimension"]

    def weights(
        self, singular_values: Float[Tensor, "*run dimension"], vectors: Float[Tensor, "dimension input"]
    ) -> Float64[Tensor, "*run dimension input"]:
        """W = U diag(s) Γ^(≤d) for the singular values of any time (eq. 9)."""
        return self.rotation * singular_values[..., None, :] @ vectors


def match_start(
    weights: Float[Tensor, "*run dimension input"],
    vectors: Float[Tensor, "dimension input"],
) -> AlignedStart:
    """The aligned start of a generic small start W(0) (Simon et al., 2023, Result 4.6).

    A = W(0) [Γ^(≤d)]ᵀ = Q R with a positive diagonal of R; U = Q and s_j(0) = R_jj: mode 1 takes its output
    direction, mode 2 what is orthogonal to it, and so on. For W(0) = α N(0, 1), E s_j(0)² = α² (d − j + 1).
    """
    q, r = torch.linalg.qr(weights.to(torch.float64) @ vectors.mT)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    sign = torch.where(diagonal < 0, -1.0, 1.0)
    return AlignedStart(q * sign[..., None, :], diagonal.abs())


def error_exponent(eigenvalues: Float[Tensor, " mode"], dimensions: int) -> float:
    """q = min_{j≤d} (1 − γ_{j+1}/γ_j), the order of the error of the aligned prediction (derived).

    From a generic start of scale α, ‖W(∞) − W_aligned(∞)‖_F ∝ α^q, and the error of the eigenvalues of C is
    ∝ α^{2q}. j = d counts: mode d + 1 leaks in. Near-degenerate modes make q so small that no practical α
    gives the predicted vectors.
    """
    top = eigenvalues[: dimensions + 1].to(torch.float64)
    return float((1 - top[1:] / top[:-1]).min())


# Where it ends


def minimum_norm_weights(
    modes: Modes, dimensions: int, rotation: Float[Tensor, "*run dimension dimension"] | None = None
) -> Float64[Tensor, "*run dimension input"]:
    """The "top spectral" solutions W = U diag(γ_j^{−1/2}) Γ^(≤d): all minimisers of the loss that have the
    least ‖W‖_F (Simon et al., 2023, Prop. 4.3).

    Raises:
        LinearModelError: fewer than d modes are positive, so that none has zero loss.
    """
    if positive_modes(modes.eigenvalues) < dimensions:
        raise LinearModelError(
            f"no weights have zero loss with {dimensions} dimensions and "
            f"{positive_modes(modes.eigenvalues)} positive modes; use fewer dimensions"
        )
    top = modes.top(dimensions)
    weights = top.eigenvalues[:, None] ** -0.5 * top.vectors
    return weights if rotation is None else rotation.to(torch.float64) @ weights


def minimum_norm(eigenvalues: Float[Tensor, " mode"], dimensions: int) -> float:
    """‖W‖²_F = Σ_{j≤d} 1/γ_j of the top spectral solutions, the least that a zero-loss W can have.

    By Ky Fan: W = Q Γ^{−1/2} with orthonormal rows has ‖W‖² = tr Q Γ⁻¹ Qᵀ ≥ the d smallest 1/γ_j.
    """
    return float((1 / eigenvalues[:dimensions].to(torch.float64)).sum())


def zero_loss_weights(
    eigenvalues: Float[Tensor, " mode"],
    dimensions: int,
    runs: int,
    generator: torch.Generator,
    negative_scale: float = 0.0,
) -> Float64[Tensor, "run dimension mode"]:
    """Random W with W Γ Wᵀ = I, in the eigenbasis of Γ: competitors of the top spectral solutions.

    W = (I + N Nᵀ)^{1/2} Q Γ₊^{−1/2} on the positive modes, with Q of random orthonormal rows, and
    N |Γ₋|^{−1/2} on the negative ones, with N = ``negative_scale`` × N(0, 1). Derived: every zero-loss W has
    this form, up to directions on which Γ is zero, which only add to its norm.
    """
    gamma = eigenvalues.to(torch.float64)
    count = positive_modes(gamma)
    noise = torch.randn(runs, count, dimensions, generator=generator, dtype=torch.float64)
    frame = torch.linalg.qr(noise).Q.mT
    weights = gamma.new_zeros(runs, dimensions, len(gamma))
    negative = gamma < -gamma.abs().max() * len(gamma) * torch.finfo(torch.float64).eps
    if negative_scale and negative.any():
        size = (runs, dimensions, int(negative.sum()))
        extra = negative_scale * torch.randn(size, generator=generator, dtype=torch.float64)
        weights[..., negative] = extra * gamma[negative].abs() ** -0.5
        frame = torch.linalg.cholesky(torch.eye(dimensions, dtype=torch.float64) + extra @ extra.mT) @ frame
    weights[..., :count] = frame * gamma[:count] ** -0.5
    return weights


# The equations themselves, for tests and explorers


def gradient(
    weights: Float64[Tensor, "*run dimension mode"], eigenvalues: Float64[Tensor, " mode"]
) -> Float64[Tensor, "*run dimension mode"]:
    """∇L = 4 (W Γ Wᵀ − I) W Γ with W in the eigenbasis of Γ, where Γ is a scaling of columns (eq. 5)."""
    return 4 * _loss_gradient(weights, eigenvalues)


def _loss_gradient(weights: Tensor, eigenvalues: Tensor) -> Tensor:
    scaled = weights * eigenvalues
    error = scaled @ weights.mT
    error.diagonal(dim1=-2, dim2=-1).sub_(1)
    return error @ scaled


def integrate_flow(
    weights: Float64[Tensor, "dimension mode"],
    eigenvalues: Float64[Tensor, " mode"],
    times: Float[Tensor, " step"],
    rtol: float = 1e-11,
) -> Float64[Tensor, "step dimension mode"]:
    """Gradient flow dW/dt = −∇L from t = 0 by an adaptive Runge–Kutta method of order 8, for small models.

    W is in the eigenbasis of Γ: rotate by the rows of `Modes.vectors` (W_input = W ``vectors``).
    """
    return integrate(lambda w: -4 * _loss_gradient(w, eigenvalues), weights, times, rtol)


def integrate(
    velocity: Callable[[Tensor], Tensor],
    start: Float64[Tensor, "*shape"],
    times: Float[Tensor, " step"],
    rtol: float = 1e-11,
) -> Float64[Tensor, "step *shape"]:
    """Solve dW/dt = velocity(W) from t = 0 and return W at ascending times ≥ 0 (SciPy's DOP853).

    Absolute errors are held to ``rtol`` times a hundredth of the largest entry of the start, since a small
    start is amplified.

    Raises:
        LinearModelError: the solver gave up.
    """

    def flat(_: float, state: object) -> object:
        return velocity(torch.as_tensor(state).view(start.shape)).reshape(-1).numpy()

    solution = solve_ivp(
        flat,
        (0.0, float(times[-1])),
        start.reshape(-1).numpy(),
        method="DOP853",
        t_eval=times.to(torch.float64).numpy(),
        rtol=rtol,
        atol=rtol * 1e-2 * float(start.abs().max()),
    )
    if not solution.success:
        raise LinearModelError(
            f"the flow could not be integrated to t = {float(times[-1]):.4g}: {solution.message}"
        )
    return torch.as_tensor(solution.y.T).reshape(len(times), *start.shape).contiguous()
