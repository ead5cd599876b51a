"""Two towers: a linear model for each of two modalities, with the loss ‖W Γ Vᵀ − I‖²_F.

Γ = (1/n) Σ_i x_i y_iᵀ is not symmetrised, and may be rectangular: its singular value decomposition takes the
place of the eigendecomposition. The extension to two modalities is that of Simon et al., 2023; the formulas
are derived.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from learndyn.ssl_dynamics.stepwise import linear


@dataclass(frozen=True)
class TowerModes:
    """Γ = Σ_j γ_j l_j r_jᵀ: ``gamma`` descending, l_j and r_j the rows of ``left`` and ``right``."""

    gamma: Float64[Tensor, " mode"]
    left: Float64[Tensor, "mode input_x"]
    right: Float64[Tensor, "mode input_y"]


def tower_modes(x: Float[Tensor, "pair input_x"], y: Float[Tensor, "pair input_y"]) -> TowerModes:
    """The singular modes of Γ = (1/n) Σ_i x_i y_iᵀ."""
    left, gamma, right = torch.linalg.svd(x.double().mT @ y.double() / len(x), full_matrices=False)
    return TowerModes(gamma, left.mT.contiguous(), right)


def singular_values(
    times: Float[Tensor, " step"], gamma: Float[Tensor, "*#batch mode"], start: Float[Tensor, "*#batch mode"]
) -> Float64[Tensor, "*batch step mode"]:
    """s_j(t) = [γ_j + (s_j(0)⁻² − γ_j) e^{−4γ_j t}]^{−1/2} of both W and V, from equal aligned starts.

    This is eq. 10 of one tower with the clock at half speed: the gradient on each tower is half of that of
    two tied ones.
    """
    return linear.singular_values(times / 2, gamma, start)


def critical_times(
    gamma: Float[Tensor, "*#batch mode"], start: Float[Tensor, "*#batch mode"]
) -> Float64[Tensor, "*batch mode"]:
    """τ_j = −log(γ_j s_j(0)²) / (4γ_j)."""
    return 2 * linear.critical_times(gamma, start)


def match_start(
    weights_x: Float[Tensor, "dimension input_x"],
    weights_y: Float[Tensor, "dimension input_y"],
    modes: TowerModes,
) -> linear.AlignedStart:
    """The equal aligned start U S(0) L^(≤d), U S(0) R^(≤d) that a generic small start follows.

    At first only (W l_j + V r_j)/2 grows, at the rate 2γ_j, while (W l_j − V r_j)/2 decays: A has these
    columns, and A = Q R as for one tower (`learndyn.ssl_dynamics.stepwise.linear.match_start`).
    """
    d = len(weights_x)
    growing = (weights_x.double() @ modes.left[:d].mT + weights_y.double() @ modes.right[:d].mT) / 2
    return linear.match_start(growing, torch.eye(d, dtype=torch.float64))


def loss(
    weights_x: Float[Tensor, "*step dimension input_x"],
    weights_y: Float[Tensor, "*step dimension input_y"],
    covariance: Float[Tensor, "input_x input_y"],
) -> Float[Tensor, "*step"]:
    """‖W Γ Vᵀ − I‖²_F."""
    error = weights_x @ covariance @ weights_y.mT - torch.eye(weights_x.shape[-2]).to(weights_x)
    return (error**2).sum((-2, -1))


def gradients(
    weights_x: Float[Tensor, "*step dimension input_x"],
    weights_y: Float[Tensor, "*step dimension input_y"],
    covariance: Float[Tensor, "input_x input_y"],
) -> tuple[Float[Tensor, "*step dimension input_x"], Float[Tensor, "*step dimension input_y"]]:
    """∇_W L = 2 (C − I) V Γᵀ and ∇_V L = 2 (C − I)ᵀ W Γ. The flow conserves ‖W‖² − ‖V‖²."""
    error = weights_x @ covariance @ weights_y.mT - torch.eye(weights_x.shape[-2]).to(weights_x)
    return 2 * error @ weights_y @ covariance.mT, 2 * error.mT @ weights_x @ covariance


def integrate_flow(
    weights_x: Float64[Tensor, "dimension input_x"],
    weights_y: Float64[Tensor, "dimension input_y"],
    covariance: Float64[Tensor, "input_x input_y"],
    times: Float[Tensor, " step"],
    rtol: float = 1e-11,
) -> tuple[Float64[Tensor, "step dimension input_x"], Float64[Tensor, "step dimension input_y"]]:
    """Gradient flow of both towers from t = 0, integrated numerically."""
    sizes = weights_x.shape[1], weights_y.shape[1]

    def velocity(both: Tensor) -> Tensor:
        return -torch.cat(gradients(*both.split(sizes, -1), covariance), -1)

    towers = linear.integrate(velocity, torch.cat([weights_x, weights_y], -1), times, rtol)
    left, right = towers.split(sizes, -1)
    return left, right
