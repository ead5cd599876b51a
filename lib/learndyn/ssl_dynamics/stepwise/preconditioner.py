"""Speed against selectivity: the linear model with its gradient preconditioned by |Γ|^{−p}.

p = 0 is gradient descent, p = 1 whitens the inputs: all modes then grow at one rate, and nothing is
selected. Simon et al., 2023, suggest optimisers that favour directions not yet learned; this
experiment and its formulas are derived.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float64
from torch import Tensor

from learndyn.core import spectra
from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import linear

#: The spectrum on which exponents are compared: six modes compete with the four that should be learned.
EXAMPLE_EIGENVALUES = (5.0, 3.0, 2.0, 1.2, 0.6, 0.5, 0.3, 0.1, 0.05, 0.01)


def preconditioned(
    eigenvalues: Float[Tensor, "*batch"],
    exponent: float,
) -> Float64[Tensor, "*batch"]:
    """sign(γ) |γ|^{1−p}: what takes the place of γ in the rate of a mode, dλ/dt = 8 sign(γ) |γ|^{1−p} λ (1 −
    λ).

    The largest stable learning rate becomes γ₁^{p−1}/4: multiply times by γ₁^{−p} to compare exponents at
    equal distance from it.
    """
    gamma = eigenvalues.to(torch.float64)
    return gamma.sign() * gamma.abs() ** (1 - exponent)


def critical_times(
    eigenvalues: Float[Tensor, "*#batch mode"], start: Float[Tensor, "*#batch mode"], exponent: float
) -> Float64[Tensor, "*batch mode"]:
    """τ_j = −log(γ_j s_j(0)²) / (8γ_j^{1−p}), infinite where γ_j ≤ 0."""
    gamma = eigenvalues.to(torch.float64)
    times = -torch.log(gamma * start.to(torch.float64) ** 2) / (8 * preconditioned(gamma, exponent))
    return torch.where(gamma > 0, times, torch.inf)


def integrate_flow(
    weights: Float64[Tensor, "*run dimension mode"],
    eigenvalues: Float64[Tensor, " mode"],
    times: Float[Tensor, " step"],
    exponent: float,
    rtol: float = 1e-9,
) -> Float64[Tensor, "step *run dimension mode"]:
    """dW/dt = −4 (C − I) W Γ |Γ|^{−p} in the eigenbasis of Γ, all runs as one system."""
    rates = preconditioned(eigenvalues, exponent)
    identity = torch.eye(weights.shape[-2], dtype=torch.float64)

    def velocity(w: Tensor) -> Tensor:
        return -4 * ((w * eigenvalues) @ w.mT - identity) @ (w * rates)

    return linear.integrate(velocity, weights, times, rtol)


def selectivity(
    exponents: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    eigenvalues: Sequence[float] = EXAMPLE_EIGENVALUES,
    dimensions: int = 4,
    init_scale: float = 1e-4,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> xr.Dataset:
    """Train with each exponent from the same random starts, and say how good and how fast the result is.

    Returns:
        Over (exponent, seed): alignment (of the row space of W with the top d modes; random: d/m) and
        norm_ratio (‖W‖² over its minimum Σ_{j≤d} 1/γ_j); over (exponent, seed, mode): half_time (of the
        sorted eigenvalues of C) and critical_time (predicted, sorted); over exponent: stable_rate, the
        largest stable learning rate.
    """
    gamma = torch.tensor(eigenvalues, dtype=torch.float64)
    starts = torch.stack([_start(seed, init_scale, dimensions, len(gamma)) for seed in seeds])
    matched = linear.match_start(starts, torch.eye(len(gamma), dtype=torch.float64)[:dimensions])
    top = torch.eye(len(gamma), dtype=torch.float64)[:dimensions]
    columns: dict[str, list[Tensor]] = {
        n: [] for n in ("alignment", "norm_ratio", "half_time", "critical_time")
    }
    for exponent in exponents:
        predicted = critical_times(gamma[:dimensions], matched.singular_values, exponent)
        slowest = float(preconditioned(gamma[:dimensions], exponent).min())
        end = 1.5 * float(predicted.max()) + 3 / slowest
        times = torch.linspace(0, end, 1000, dtype=torch.float64)
        path = integrate_flow(starts, gamma, times, exponent)
        values = spectra.sorted_eigenvalues((path * gamma) @ path.mT).transpose(0, 1)
        columns["half_time"].append(linear.crossing_times(times, values))
        columns["critical_time"].append(predicted.sort(-1).values)
        columns["alignment"].append(spectra.subspace_alignment(path[-1], top.expand(len(seeds), -1, -1)))
        columns["norm_ratio"].append((path[-1] ** 2).sum((-2, -1)) / linear.minimum_norm(gamma, dimensions))
    dims = ("exponent", "seed", "mode")
    arrays = {name: torch.stack(parts).numpy() for name, parts in columns.items()}
    variables = {name: (dims[: values.ndim], values) for name, values in arrays.items()}
    stable = [0.25 / float(preconditioned(gamma, exponent).max()) for exponent in exponents]
    coords = {"exponent": list(exponents), "seed": list(seeds), "mode": np.arange(1, dimensions + 1)}
    return xr.Dataset(variables | {"stable_rate": ("exponent", np.array(stable))}, coords)


def single_run(exponent: float, scale: float, seed: int = 0, dimensions: int = 4) -> xr.Dataset:
    """One preconditioned flow on `EXAMPLE_EIGENVALUES` from one random start.

    ``eigenvalues`` of C (step, mode) against ``steps`` (at a tenth of the largest stable learning rate), and
    at the end ``share`` (input_mode), the diagonal of the projector on the row space of W: 1 for a mode that
    was learned whole; ``alignment`` is the mean over the top d; ``last_step`` is the half time of the last
    eigenvalue, in steps.
    """
    gamma = torch.tensor(EXAMPLE_EIGENVALUES, dtype=torch.float64)
    draw = generator(seed, "preconditioner explorer")
    start = scale * torch.randn(dimensions, len(gamma), generator=draw, dtype=torch.float64)
    matched = linear.match_start(start, torch.eye(len(gamma), dtype=torch.float64)[:dimensions])
    predicted = critical_times(gamma[:dimensions], matched.singular_values, exponent)
    slowest = float(preconditioned(gamma[:dimensions], exponent).min())
    times = torch.linspace(0, 1.3 * float(predicted.max()) + 3 / slowest, 300, dtype=torch.float64)
    path = integrate_flow(start, gamma, times, exponent, rtol=1e-7)
    rows = torch.linalg.svd(path[-1], full_matrices=False).Vh
    share = rows.square().sum(0)
    rate = 0.1 * 0.25 / float(preconditioned(gamma, exponent).max())
    eigenvalues = spectra.sorted_eigenvalues((path * gamma) @ path.mT)
    return xr.Dataset(
        {
            "eigenvalues": (("step", "mode"), eigenvalues.numpy()),
            "steps": ("step", (times / rate).numpy()),
            "last_step": float(linear.crossing_times(times, eigenvalues)[-1]) / rate,
            "share": ("input_mode", share.numpy()),
            "alignment": float(share[:dimensions].mean()),
            "gamma": ("input_mode", gamma.numpy()),
        }
    )


def _start(seed: int, scale: float, dimensions: int, inputs: int) -> Tensor:
    draw = generator(seed, "preconditioner start")
    return scale * torch.randn(dimensions, inputs, generator=draw, dtype=torch.float64)
