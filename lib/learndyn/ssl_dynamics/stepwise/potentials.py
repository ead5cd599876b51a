"""Why self-supervised learning waits and supervised learning does not: two potentials for one singular value.

Supervised linear regression slides down a parabola at once; the self-supervised flow starts on the ridge of
a double well and must break a symmetry first (Simon et al., 2023, section 4, in rescaled units: s stands for
s_j √γ_j, and the unit of time is ¼ of that of eq. 10). Each flow is −dV/ds of its potential.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def supervised_potential(
    s: Float[Tensor, "*shape"], eigenvalue: float = 1.0, target: float = 1.0
) -> Float[Tensor, "*shape"]:
    """V(s) = γ (s − s*)² / 2, with one minimum."""
    return eigenvalue * (s - target) ** 2 / 2


def supervised_flow(
    s: Float[Tensor, "*shape"], eigenvalue: float = 1.0, target: float = 1.0
) -> Float[Tensor, "*shape"]:
    """ds/dt = γ (s* − s)."""
    return eigenvalue * (target - s)


def ssl_potential(s: Float[Tensor, "*shape"], eigenvalue: float = 1.0) -> Float[Tensor, "*shape"]:
    """V(s) = γ (−s²/2 + s⁴/4): an unstable point at 0 and minima at ±1."""
    return eigenvalue * (s**4 / 4 - s**2 / 2)


def ssl_flow(s: Float[Tensor, "*shape"], eigenvalue: float = 1.0) -> Float[Tensor, "*shape"]:
    """ds/dt = γ s (1 − s²)."""
    return eigenvalue * s * (1 - s**2)


def ssl_solution(
    times: Float[Tensor, " step"], start: Float[Tensor, "*batch"], eigenvalue: float = 1.0
) -> Float[Tensor, "*batch step"]:
    """s(t) = s(0) / √(s(0)² + (1 − s(0)²) e^{−2γt}) with the sign of s(0); 0 stays 0."""
    first = start[..., None]
    moved = first * (first**2 + (1 - first**2) * torch.exp(-2 * eigenvalue * times)) ** -0.5
    return torch.where(first == 0, first, moved)


def predictor_flow(p: Float[Tensor, "*shape"], weight_decay: float) -> Float[Tensor, "*shape"]:
    """dp/dt = p²(1 − p) − ηp: an eigenvalue of the predictor in non-contrastive learning (Tian et al., 2021).

    On the invariant s = p² (equal learning rates, no moving average, augmentation variance 0), for the
    linear model with predictor and stop-gradient.
    """
    return p.square() * (1 - p) - weight_decay * p


def predictor_fixed_points(weight_decay: float) -> tuple[float, float] | None:
    """The unstable and the stable point besides 0, (1 ∓ √(1 − 4η))/2; None above η = ¼: all collapses."""
    if weight_decay > 0.25:
        return None
    root = math.sqrt(1 - 4 * weight_decay)
    return (1 - root) / 2, (1 + root) / 2
