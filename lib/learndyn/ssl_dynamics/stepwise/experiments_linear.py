"""Small experiments of the notebook "Exactly solvable self-supervised learning": each equation against the
model that it describes, integrated or trained."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float, Float64
from torch import Tensor

from learndyn.core import spectra
from learndyn.core.device import generator
from learndyn.core.explorer import format_value
from learndyn.ssl_dynamics.stepwise import linear, potentials, toy, two_towers
from learndyn.ssl_dynamics.stepwise.linear import Modes
from learndyn.ssl_dynamics.stepwise.settings_linear import Linear, half_times, predicted_times, tensor

# The equations


def gradient_check(runs: int = 5) -> float:
    """Largest relative gap between 4(WΓWᵀ − I)WΓ along a direction and central differences of the loss.

    The loss is computed from views and their embeddings, the gradient from Γ: no step is shared.
    """
    draw = generator(0, "stepwise gradient")
    gaps = []
    for _ in range(runs):
        a, b = torch.randn(2, 30, 6, generator=draw, dtype=torch.float64)
        weights, direction = torch.randn(2, 3, 6, generator=draw, dtype=torch.float64)

        def loss(w: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            return linear.loss(spectra.sorted_eigenvalues(spectra.cross_correlation(a @ w.mT, b @ w.mT)))

        modes, step = linear.feature_modes(a, b), 1e-5
        gradient = linear.gradient(weights @ modes.vectors.mT, modes.eigenvalues) @ modes.vectors
        slope = (loss(weights + step * direction) - loss(weights - step * direction)) / (2 * step)
        gaps.append(float((slope / (gradient * direction).sum() - 1).abs()))
    return max(gaps)


def symmetry_breaking(starts: Sequence[float] = (-1e-2, -1e-6, 1e-6, 1e-2)) -> xr.Dataset:
    """Rescaled singular values from small starts, supervised and self-supervised, γ = 1: ``s[kind, start,
    time]``, integrated; and ``units_gap``, between the rescaled flow and eq. 10 in true units."""
    times = torch.linspace(0, 24, 481, dtype=torch.float64)
    first = torch.tensor(starts, dtype=torch.float64)
    flows = {"supervised": potentials.supervised_flow, "self-supervised": potentials.ssl_flow}
    curves = [
        torch.stack([linear.integrate(flow, start, times) for start in first[:, None]])[..., 0]
        for flow in flows.values()
    ]
    gamma = torch.tensor([3.0], dtype=torch.float64)
    true = linear.singular_values(times / 4, gamma, first[2:3] / gamma.sqrt())[:, 0] * gamma.sqrt()
    rescaled = potentials.ssl_solution(times, first[2], float(gamma))
    return xr.Dataset(
        {"s": (("kind", "start", "time"), torch.stack(curves).numpy())},
        {"kind": list(flows), "start": list(starts), "time": times.numpy()},
        {"units_gap": float((true - rescaled).abs().max())},
    )


def printed_form(times: Float[Tensor, " step"], eigenvalue: float, start: float) -> Float64[Tensor, " step"]:
    """s(t) exactly as eq. 10 is printed: overflows."""
    t = times.double()
    return torch.exp(4 * eigenvalue * t) / torch.sqrt(
        start**-2 + torch.expm1(8 * eigenvalue * t) * eigenvalue
    )


def overflow_table(
    eigenvalue: float = 390.0, start: float = 3.6e-7, times: Sequence[float] = (0.01, 0.1, 0.38, 0.46)
) -> pd.DataFrame:
    """Both forms of eq. 10 at the largest eigenvalue that Figure 1 implies, one row per time."""
    t = torch.tensor(times, dtype=torch.float64)
    ours = linear.singular_values(t, torch.tensor([eigenvalue]), torch.tensor([start]))[:, 0]
    printed = printed_form(t, eigenvalue, start)
    frame = {"t": times, "exponent": 8 * eigenvalue * t.numpy(), "printed": printed.numpy()}
    return pd.DataFrame(frame | {"ours": ours.numpy()})


MATRIX_GAMMA = (5.0, 3.0, 2.0, 1.2, 0.7, 0.5, 0.3, 0.1, 0.0, -0.1, -0.4, -1.0)
MATRIX_START = (1e-3, 2e-3, 0.5e-3, 1e-3)


def matrix_flow() -> xr.Dataset:
    """The matrix flow dW/dt = −∇L from an aligned start, integrated, against Prop. 4.1.

    12 inputs with eigenvalues of either sign, 4 dimensions, random bases: ``integrated`` and ``closed_form``
    eigenvalues of C ``[time, mode]``, and the largest difference of any entry of W as an attribute.
    """
    draw = generator(0, "stepwise matrix flow")
    gamma, start = (torch.tensor(x, dtype=torch.float64) for x in (MATRIX_GAMMA, MATRIX_START))
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64)).Q
    aligned, times = linear.AlignedStart(rotation, start), torch.linspace(0, 6, 601, dtype=torch.float64)
    basis = torch.eye(12, dtype=torch.float64)[:4]
    weights = linear.integrate_flow(aligned.weights(start, basis), gamma, times)
    exact = aligned.weights(linear.singular_values(times, gamma[:4], start), basis)
    measured = spectra.sorted_eigenvalues(weights * gamma @ weights.mT)
    closed = linear.correlation_eigenvalues(times, gamma[:4], start)
    return xr.Dataset(
        {
            "integrated": (("time", "mode"), measured.numpy()),
            "closed_form": (("time", "mode"), closed.sort(-1, descending=True).values.numpy()),
            "critical_time": ("mode", linear.critical_times(gamma[:4], start).sort().values.numpy()),
            "eigenvalue": ("mode", gamma[:4].numpy()),
            "start": ("mode", start.numpy()),
        },
        {"time": times.numpy(), "mode": np.arange(1, 5)},
        {"entry_gap": float((weights - exact).abs().max())},
    )


def step_shapes(flow: xr.Dataset) -> pd.DataFrame:
    """What the integrated flow says of each step: times at ½, 10 % and 90 %, beside τ_j and ln 9/(4γ_j)."""
    times, curves = tensor(flow["time"]), tensor(flow["integrated"])
    low, half, high = (linear.crossing_times(times, curves, level).numpy() for level in (0.1, 0.5, 0.9))
    gamma = torch.as_tensor(flow["eigenvalue"].values)
    return pd.DataFrame(
        {
            "mode": flow["mode"].values,
            "critical": flow["critical_time"].values,
            "half": half,
            "width": linear.step_widths(gamma).numpy(),
            "measured_width": high - low,
        }
    )


def overtaking(
    gamma: Sequence[float] = (2.0, 1.2, 1.0), start: Sequence[float] = (1e-6, 1e-6, 1e-4)
) -> xr.Dataset:
    """Modes that cross, and are not learned in the order of γ: sorted eigenvalues of C, integrated, and the
    closed form by mode."""
    g, s0 = (torch.tensor(x, dtype=torch.float64) for x in (gamma, start))
    times = torch.linspace(0, 4, 251, dtype=torch.float64)
    weights = linear.integrate_flow(torch.diag(s0), g, times)
    found = {
        "integrated": spectra.sorted_eigenvalues(weights * g @ weights.mT),
        "closed_form": linear.correlation_eigenvalues(times, g, s0),
    }
    return xr.Dataset(
        {name: (("time", "mode"), values.numpy()) for name, values in found.items()}
        | {"critical_time": ("mode", linear.critical_times(g, s0).numpy())},
        {"time": times.numpy(), "eigenvalue": ("mode", list(gamma))},
    )


# Discrete descent


def delays(settings: Linear, modes: Modes, dimensions: int = 3) -> xr.Dataset:
    """Half times over the critical times of the flow, measured and predicted, by stability fraction."""
    config = toy.ToyConfig(
        dimensions=dimensions,
        init_scale=settings.init_scale,
        seed=settings.seeds[0],
        stability_fraction=settings.delay_fractions,
    )
    runs = toy.train(config, modes, device=settings.device)
    flow = predicted_times(runs, discrete=False)
    return xr.Dataset(
        {
            "measured": (("fraction", "mode"), half_times(runs) / flow),
            "predicted": (("fraction", "mode"), predicted_times(runs) / flow),
        },
        {"fraction": list(settings.delay_fractions), "mode": runs["mode"].values},
    )


class Warned(NamedTuple):
    """A run and the sentence with which the library warned of it."""

    runs: xr.Dataset
    sentence: str


def _warned(config: toy.ToyConfig, modes: Modes, device: str) -> Warned:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        runs = toy.train(config, modes, device=device)
    return Warned(runs, "; ".join(str(warning.message) for warning in caught))


def stability(settings: Linear, modes: Modes, fractions: Sequence[float] = (0.99, 1.01)) -> Warned:
    """One mode trained just below and just above the stability bound, every step logged."""
    config = toy.ToyConfig(
        dimensions=1,
        init_scale=settings.init_scale,
        seed=settings.seeds[0],
        stability_fraction=tuple(fractions),
        steps=600,
        log_ratio=1.0005,
    )
    return _warned(config, modes, settings.device)


def with_and_without_floor(settings: Linear, dimensions: Sequence[int] = (3, 6)) -> Warned:
    """Three positive modes and embeddings of 3 and of 6 dimensions: the second cannot reach zero loss."""
    gamma = torch.tensor([4.0, 2.0, 1.0, 0.0, -0.5, -1.0, -2.0, -3.0], dtype=torch.float64)
    modes = Modes(gamma, torch.eye(len(gamma), dtype=torch.float64))
    config = toy.ToyConfig(
        dimensions=tuple(dimensions),
        init_scale=1e-6,
        seed=settings.seeds[0],
        stability_fraction=0.1,
        mode_threshold=0.0,
    )
    return _warned(config, modes, settings.device)


# Generic starts


def start_statistics(settings: Linear, dimensions: int = 6) -> Float64[np.ndarray, " mode"]:
    """Mean of s_j(0)²/α² over generic starts matched by QR."""
    inputs = 2 * dimensions
    draw = generator(0, "stepwise starts")
    weights = torch.randn(settings.starts, dimensions, inputs, generator=draw, dtype=torch.float64)
    matched = linear.match_start(weights, torch.eye(inputs, dtype=torch.float64)[:dimensions])
    return matched.singular_values.square().mean(0).numpy()


LAW_SPECTRA = ((2.0, 1.0, 0.25), (2.0, 1.6, 0.3), (3.0, 1.0, 0.8))


def error_law(settings: Linear, dimensions: int = 2) -> xr.Dataset:
    """Errors of the aligned prediction for a generic start, by spectrum and scale, medians over seeds.

    ``error[spectrum, scale]`` is ‖W − W_aligned‖_F at the end, ``eigenvalue_error`` the largest difference
    of an eigenvalue of C from the logistic curves at any time, ``exponent`` the power of the scale that is
    predicted for the first.
    """
    shape = (len(LAW_SPECTRA), len(settings.law_scales), settings.law_seeds)
    errors = np.empty((2, *shape))
    for i, j, seed in np.ndindex(shape):
        gamma = torch.tensor(LAW_SPECTRA[i], dtype=torch.float64)
        errors[:, i, j, seed] = _aligned_errors(gamma, settings.law_scales[j], seed, dimensions)
    weights, eigenvalues = np.median(errors, -1)
    exponents = [linear.error_exponent(torch.tensor(values), dimensions) for values in LAW_SPECTRA]
    return xr.Dataset(
        {
            "error": (("spectrum", "scale"), weights),
            "eigenvalue_error": (("spectrum", "scale"), eigenvalues),
            "exponent": ("spectrum", exponents),
        },
        {"spectrum": [_spectrum_name(values) for values in LAW_SPECTRA], "scale": list(settings.law_scales)},
    )


def _aligned_errors(gamma: Tensor, scale: float, seed: int, dimensions: int) -> tuple[float, float]:
    """‖W − W_aligned‖_F at the end, and the largest error of an eigenvalue of C at any time."""
    top, basis = gamma[:dimensions], torch.eye(len(gamma), dtype=torch.float64)[:dimensions]
    weights = scale * toy.initial_weights(seed, dimensions, len(gamma))
    start = linear.match_start(weights, basis)
    last = float(linear.critical_times(top, start.singular_values).max())
    # Four more e-foldings of the slowest mode, at the rate 8: what is left to go is e^-32 of the way.
    times = torch.linspace(0, last + 4 / float(top[-1]), 1001, dtype=torch.float64)
    path = linear.integrate_flow(weights, gamma, times, rtol=1e-13)  # eigenvalue errors go down to 1e-10
    found = spectra.sorted_eigenvalues(path * gamma @ path.mT)
    theory = linear.correlation_eigenvalues(times, top, start.singular_values)
    away = path[-1] - start.weights(top**-0.5, basis)
    return float(away.norm()), float((found - theory.sort(-1, descending=True).values).abs().max())


def _spectrum_name(values: Sequence[float]) -> str:
    return ", ".join(format_value(value) for value in values)


def slopes(law: xr.Dataset) -> Float64[np.ndarray, " spectrum"]:
    """Measured powers of the scale between the two smallest scales."""
    smallest = law.sortby("scale").isel(scale=slice(0, 2))
    logs = np.log(smallest["error"].values)
    return (logs[:, 1] - logs[:, 0]) / float(np.diff(np.log(smallest["scale"].values))[0])


NEAR, FAR = 1.03, 2.0
"""γ_d/γ_{d+1}: nearly degenerate, and well separated."""


def degenerate_modes(settings: Linear, ratio: float, dimensions: int = 6) -> xr.Dataset:
    """A small start (1e-8) whose last mode to learn has γ_{d+1} close behind, or not.

    Returns the runs of `toy.train`, one per seed, with ``overlap[run, step]``: the squared length of v_d
    within the learned row space, 1 if the d-th mode is learned as predicted. (The other modes are learned
    almost exactly, so that alignment = (d − 1 + overlap)/d.)
    """
    gamma = 2.0 ** torch.arange(dimensions, 0, -1, dtype=torch.float64)
    following = gamma[-1] / ratio
    gamma = torch.cat([gamma, following[None], following[None] / torch.tensor([4.0, 16.0])])
    modes = Modes(gamma, torch.eye(len(gamma), dtype=torch.float64))
    config = toy.ToyConfig(
        dimensions=dimensions,
        init_scale=1e-8,
        seed=tuple(range(settings.degenerate_seeds)),
        stability_fraction=settings.stability_fraction,
        mode_threshold=0.0,
    )
    runs = toy.train(config, modes, device=settings.device)
    return runs.assign(overlap=dimensions * runs["alignment"] - (dimensions - 1))


# Which solution


def norm_check(settings: Linear) -> xr.Dataset:
    """Squared norms: of training from 1e-8, of Σ 1/γ_j, and of random zero-loss competitors.

    Γ has positive eigenvalues a factor 2 apart, and negative ones that half of the competitors use.
    """
    gamma = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.25, -0.3, -1.0, -2.0], dtype=torch.float64)
    modes = Modes(gamma, torch.eye(len(gamma), dtype=torch.float64))
    config = toy.ToyConfig(
        dimensions=3, init_scale=1e-8, seed=settings.seeds, stability_fraction=0.25, mode_threshold=0.0
    )
    runs = toy.train(config, modes, device=settings.device)
    draw, half = generator(0, "stepwise competitors"), settings.competitors // 2
    rivals = torch.cat([linear.zero_loss_weights(gamma, 3, half, draw, size) for size in (0.0, 0.3)])
    defect = (rivals * gamma @ rivals.mT - torch.eye(3)).abs().max()
    return xr.Dataset(
        {
            "trained": ("run", runs["weight_norm"].values[:, -1]),
            "competitor": ("rival", rivals.square().sum((-2, -1)).numpy()),
        },
        attrs={"optimum": linear.minimum_norm(gamma, 3), "defect": float(defect)},
    )


# Two towers


def two_tower_flow(scale: float = 1e-4) -> xr.Dataset:
    """Two towers on inputs of 7 and 5 dimensions from equal aligned starts, integrated and in closed form.

    ``integrated`` and ``closed_form`` are eigenvalues of W Γ Vᵀ ``[time, mode]``; ``one_tower`` those of a
    single tower with the same γ_j and start; ``norm_gap`` how far ‖W‖² − ‖V‖² has drifted.
    """
    draw = generator(0, "stepwise towers")
    x = torch.randn(200, 7, generator=draw, dtype=torch.float64)
    y = x @ torch.randn(7, 5, generator=draw, dtype=torch.float64)
    modes = two_towers.tower_modes(x, y / y.std())
    d, gamma, start = 3, modes.gamma[:3], torch.full((3,), scale, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64)).Q
    aligned = linear.AlignedStart(rotation, start)
    covariance = modes.left.mT * modes.gamma @ modes.right
    last = float(two_towers.critical_times(gamma, start).max())
    times = torch.linspace(0, 1.3 * last, 301, dtype=torch.float64)
    first = [aligned.weights(start, side[:d]) for side in (modes.left, modes.right)]
    w, v = two_towers.integrate_flow(*first, covariance, times)
    product = w @ covariance @ v.mT
    closed = gamma * two_towers.singular_values(times, gamma, start) ** 2
    alone = linear.correlation_eigenvalues(times, gamma, start)
    norms = w.square().sum((-2, -1)) - v.square().sum((-2, -1))
    sides = {"integrated": spectra.sorted_eigenvalues((product + product.mT) / 2)}
    sides |= {"closed_form": closed, "one_tower": alone}
    return xr.Dataset(
        {
            name: (("time", "mode"), values.sort(-1, descending=True).values.numpy())
            for name, values in sides.items()
        },
        {"time": times.numpy(), "gamma": ("mode", gamma.numpy())},
        {"norm_gap": float((norms - norms[0]).abs().max())},
    )


# The explorer


def explorer_runs(
    settings: Linear, learning_fraction: float = 0.05
) -> dict[tuple[float, float, int], xr.Dataset]:
    """Trained linear models for every (scale, gap, dimension) of the explorer, one run for each seed.

    γ_j = gap^{j−1}, d + 1 positive modes: the last of them competes with the d-th.
    """
    found = {}
    scales, seeds = settings.explorer_scales, settings.explorer_seeds
    for gap, d in itertools.product(settings.explorer_gaps, settings.explorer_dimensions):
        modes = Modes(gap ** torch.arange(d + 1, dtype=torch.float64), torch.eye(d + 1, dtype=torch.float64))
        config = toy.ToyConfig(
            dimensions=d,
            init_scale=np.repeat(scales, len(seeds)),
            seed=seeds * len(scales),
            stability_fraction=learning_fraction,
            mode_threshold=0.0,
            log_ratio=1.03,
        )
        runs = toy.train(config, modes, device=settings.device)
        for index, scale in enumerate(scales):
            found[scale, gap, d] = runs.isel(run=slice(index * len(seeds), (index + 1) * len(seeds)))
    return found
