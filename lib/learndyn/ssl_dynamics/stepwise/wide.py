"""Wide networks against the kernel theory with their tangent kernel at initialisation (section 5).

f(x) = √(2/h) W₂ relu(W₁x/√m) with all weights N(0, 1), trained on L = ‖C − I‖_F² of the outputs
f_θ − (1 − α) f_θ₀, which start at α f_θ₀, small, while the tangent kernel is that of a network with weights
of order one. The theory takes γ_j and s_j(0) from the tangent kernel at initialisation, before any step.
"""

from __future__ import annotations

import math
import time
from typing import Annotated, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from learndyn.core import records, spectra
from learndyn.core.config import Config, OneOrMany
from learndyn.core.device import generator, pick_device
from learndyn.ssl_dynamics.stepwise import kernel, linear, tasks


class WideConfig(Config):
    """Networks of every ``width`` with every ``seed``; a seed stands for its own data and weights.

    ``output_scale`` is α. ``rate`` is the learning rate in units of the largest stable one, 1/(4γ₁) with γ₁
    of the network's own tangent kernel. Training goes on until ``horizon`` times the predicted half time of
    the last mode.
    """

    width: OneOrMany[PositiveInt] = (64, 512, 4096)
    seed: OneOrMany[NonNegativeInt] = (0, 1)
    pairs: PositiveInt = 40
    dimensions: PositiveInt = 5
    noise_sd: PositiveFloat = 0.15
    output_scale: PositiveFloat = 1e-4
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    horizon: Annotated[float, Field(ge=1)] = 1.5


class Weights(NamedTuple):
    """First and second layer."""

    first: Float[Tensor, "unit input"]
    second: Float[Tensor, "dimension unit"]


def initial_weights(seed: int, width: int, inputs: int, dimensions: int) -> Weights:
    """All weights N(0, 1), float64: the NTK parametrisation."""
    draw = generator(seed, "wide network", width)
    first = torch.randn(width, inputs, generator=draw, dtype=torch.float64)
    return Weights(first, torch.randn(dimensions, width, generator=draw, dtype=torch.float64))


def network(weights: Weights, samples: Float[Tensor, "sample input"]) -> Float[Tensor, "dimension sample"]:
    """f(x) = √(2/h) W₂ relu(W₁x/√m)."""
    return _outputs(weights.second, _preactivations(weights.first, samples).relu())


def tangent_kernel(
    weights: Weights, samples: Float[Tensor, "sample input"]
) -> Float[Tensor, "sample sample"]:
    """Tangent kernel averaged over outputs, (1/d) Σ_o J_o J_oᵀ, in closed form.

    With a = relu(z), z = W₁x/√m and ȧ = 1(z > 0): K(x, y) = (2/h) Σ_k [a_k(x) a_k(y) + q_k ȧ_k(x) ȧ_k(y)
    ⟨x, y⟩/m], q_k the mean of W₂,ok² over outputs. As h → ∞ it tends to `kernel.relu_tangent_kernel`.
    """
    gram = samples @ samples.mT / samples.shape[1]
    return _tangent_kernel(_preactivations(weights.first, samples), weights.second, gram)


class Prediction(NamedTuple):
    """What the kernel theory says of gradient descent, modes in the order in which they are learned."""

    gamma: Float[Tensor, " mode"]
    start: Float[Tensor, " mode"]
    half_times: Float[Tensor, " mode"]
    embeddings: Float[Tensor, "dimension sample"]
    learning_rate: float


def predict(
    tangent: Float[Tensor, "sample sample"], outputs: Float[Tensor, "dimension sample"], rate: float
) -> Prediction:
    """γ_j, matched s_j(0) and half times (in effective time) of gradient descent from the given outputs.

    The outputs f_θ(S) at the start stand for W(0) = F₀K^{-1/2} in the features K^{1/2}.

    Raises:
        KernelError: fewer positive eigenvalues than outputs.
    """
    model = kernel.kernel_model(tangent)
    learned = model.embed(len(outputs))
    gamma, start = learned.eigenvalues, model.match_start(outputs).singular_values
    learning_rate = rate * linear.stability_bound(gamma)
    halves, order = linear.critical_times(gamma, start, learning_rate).sort()
    return Prediction(gamma[order], start[order], halves, learned.embeddings, learning_rate)


class Trajectory(NamedTuple):
    """C before every step and after the last; outputs and tangent kernel of the trained network."""

    correlations: Float[Tensor, "step dimension dimension"]
    outputs: Float[Tensor, "dimension sample"]
    tangent: Float[Tensor, "sample sample"]


def descend(
    weights: Weights,
    samples: Float[Tensor, "sample input"],
    *,
    learning_rate: float,
    steps: int,
    output_scale: float,
) -> Trajectory:
    """Gradient descent on all weights by the hand-written gradient of ‖C − I‖_F².

    The first layer enters only through z = W₁x/√m on the samples, so z itself is stepped: a step on W₁ moves
    it by the samples' Gram matrix, one product of h × sample × sample instead of two with the inputs.
    """
    active, second = _preactivations(weights.first, samples), weights.second.clone()
    gram = samples @ samples.mT / samples.shape[1]
    rectified, pull = torch.empty_like(active), torch.empty_like(active)
    scale = math.sqrt(2 / len(active))
    eye = torch.eye(len(second), dtype=second.dtype, device=second.device)
    start = _outputs(second, active.relu())
    log = torch.empty(steps + 1, *eye.shape, dtype=second.dtype, device=second.device)
    outputs = start
    for step in range(steps + 1):
        torch.clamp(active, min=0, out=rectified)
        outputs = _outputs(second, rectified) - (1 - output_scale) * start
        log[step] = kernel.correlation(outputs)
        if step == steps:
            break
        first, other = outputs.chunk(2, dim=1)
        swapped = torch.cat([other, first], dim=1) / len(samples)  # F Z
        # −learning rate × the gradient with respect to √(2/h) W₂ relu(z), both layers' share of it.
        force = -4 * learning_rate * scale * ((log[step] - eye) @ swapped)
        torch.matmul(second.mT, force, out=pull).mul_(rectified > 0)
        second.addmm_(force, rectified.mT)
        active.addmm_(pull, gram)
    return Trajectory(log, outputs, _tangent_kernel(active, second, gram))


def train(config: WideConfig, *, device: str = "cpu") -> xr.Dataset:
    """Train the networks and compare with the prediction from the tangent kernel at initialisation.

    Returns:
        Over ``width, seed, mode``, modes in the order of their times: ``gamma``, ``start`` (s_j(0)),
        ``predicted_half_time`` of gradient descent, ``half_time`` of the j-th sorted eigenvalue of C
        (effective time; NaN if never) and their ``ratio``; ``final_gamma``, descending, of the trained
        network's tangent kernel. Over ``width, seed``: ``learning_rate``, ``alignment`` of the final with the
        predicted embedding, ``loss`` at the end, ``kernel_change`` ‖K(end) − K(0)‖/‖K(0)‖. Over ``width,
        seed, step, mode``: ``eigenvalues`` of C and ``predicted_eigenvalues``, sorted, NaN after the last
        step.
    """
    started = time.perf_counter()
    target = pick_device(device)
    rows = [[_one(config, width, seed, target) for seed in config.seed] for width in config.width]
    steps = max(part["eigenvalues"].shape[0] for row in rows for part in row)
    dims = {"eigenvalues": ("step", "mode"), "predicted_eigenvalues": ("step", "mode")}
    dims |= dict.fromkeys(("learning_rate", "alignment", "loss", "kernel_change"), ())
    variables = {
        name: (
            ("width", "seed", *dims.get(name, ("mode",))),
            np.stack([np.stack([_padded(part[name], steps) for part in row]) for row in rows]),
        )
        for name in rows[0][0]
    }
    coords = {"width": list(config.width), "seed": list(config.seed)}
    coords |= {"mode": np.arange(1, config.dimensions + 1), "step": np.arange(steps)}
    dataset = xr.Dataset(variables, coords)
    return dataset.assign_attrs(records.provenance(config, target, time.perf_counter() - started))


def _one(config: WideConfig, width: int, seed: int, device: torch.device) -> dict[str, np.ndarray]:
    """One network after another: a wide one fills the caches by itself, and together they are slower."""
    pairs = tasks.digit_pairs(seed, pairs=config.pairs, noise_sd=config.noise_sd)
    samples = kernel.stack_views(pairs.view_a, pairs.view_b).to(device)
    weights = initial_weights(seed, width, samples.shape[1], config.dimensions)
    weights = Weights(*(tensor.to(device) for tensor in weights))
    outputs = config.output_scale * network(weights, samples)
    tangent = tangent_kernel(weights, samples)
    theory = predict(tangent, outputs, config.rate)
    rate = theory.learning_rate
    steps = math.ceil(config.horizon * float(theory.half_times[-1]) / rate)
    run = descend(weights, samples, learning_rate=rate, steps=steps, output_scale=config.output_scale)
    eigenvalues = spectra.sorted_eigenvalues(run.correlations)
    times = torch.arange(steps + 1, dtype=torch.float64) * rate
    halves = linear.crossing_times(times, eigenvalues.cpu())
    predicted = linear.correlation_eigenvalues(times, theory.gamma.cpu(), theory.start.cpu(), rate)
    found = {
        "gamma": theory.gamma,
        "start": theory.start,
        "predicted_half_time": theory.half_times,
        "half_time": halves,
        "ratio": halves / theory.half_times.cpu(),
        "final_gamma": kernel.kernel_model(run.tangent).modes.top(config.dimensions).eigenvalues,
        "kernel_change": (run.tangent - tangent).norm() / tangent.norm(),
        "learning_rate": torch.tensor(rate, dtype=torch.float64),
        "alignment": spectra.subspace_alignment(run.outputs, theory.embeddings),
        "loss": linear.loss(eigenvalues[-1]),
        "eigenvalues": eigenvalues,
        "predicted_eigenvalues": predicted.sort(-1, descending=True).values,
    }
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def _padded(values: np.ndarray, steps: int) -> np.ndarray:
    if values.ndim < 2:
        return values
    missing = np.full((steps - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([values, missing])


def _tangent_kernel(active: Tensor, second: Tensor, gram: Tensor) -> Tensor:
    """From preactivations z ``[unit, sample]``, W₂ and the samples' Gram matrix over m."""
    rectified, gate = active.relu(), (active > 0).to(active.dtype)
    gate_gram = (gate * (second**2).mean(0)[:, None]).mT @ gate
    return 2 / len(active) * (rectified.mT @ rectified + gate_gram * gram)


def _preactivations(first: Tensor, samples: Tensor) -> Tensor:
    return first @ samples.mT / math.sqrt(samples.shape[1])


def _outputs(second: Tensor, rectified: Tensor) -> Tensor:
    return math.sqrt(2 / second.shape[1]) * (second @ rectified)
