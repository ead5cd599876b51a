"""Wide networks with their tangent kernel frozen: what of the theory's error is not the kernel's motion.

The kernel theory gives all outputs one kernel K. A finite network has one block Θ_oo′ for each pair of
outputs: the diagonal ones differ from each other, the others are not zero, both by the order of 1/√h.
Gradient descent on the network linearised in its weights uses these blocks, never updated (derived; Jacot et
al., 2018, eq. 4).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learndyn.core import spectra
from learndyn.core.device import pick_device
from learndyn.ssl_dynamics.stepwise import kernel, linear, tasks, wide


def output_tangent_kernel(
    weights: wide.Weights, samples: Float[Tensor, "sample input"]
) -> Float[Tensor, "dimension sample dimension sample"]:
    """Θ[o, x, o′, y] = ⟨∇f_o(x), ∇f_o′(y)⟩ of `wide.network`, in closed form.

    With the notation of `wide.tangent_kernel`: (2/h) Σ_k [δ_oo′ a_k(x) a_k(y) + W₂,ok W₂,o′k ȧ_k(x) ȧ_k(y)
    ⟨x, y⟩/m]. Its diagonal blocks have the mean `wide.tangent_kernel`.
    """
    first, second = weights
    gram = samples @ samples.mT / samples.shape[1]
    active = first @ samples.mT / math.sqrt(samples.shape[1])
    rectified, gate = active.relu(), (active > 0).to(active.dtype)
    dimensions, count = len(second), len(samples)
    blocks = gram.new_empty(dimensions, count, dimensions, count)
    for o in range(dimensions):
        for p in range(o, dimensions):
            block = ((gate * (second[o] * second[p])[:, None]).mT @ gate) * gram
            block = 2 / len(first) * (block + rectified.mT @ rectified if o == p else block)
            blocks[o, :, p], blocks[p, :, o] = block, block
    return blocks


class Descent(NamedTuple):
    """C before every step and after the last, and the outputs at the end."""

    correlations: Float[Tensor, "step dimension dimension"]
    outputs: Float[Tensor, "dimension sample"]


def descend(
    kernel_blocks: Float[Tensor, "..."],
    outputs: Float[Tensor, "dimension sample"],
    *,
    learning_rate: float,
    steps: int,
) -> Descent:
    """Gradient descent on ‖C − I‖_F² with a kernel that does not move.

    ``kernel_blocks`` is one kernel [sample, sample] for all outputs, or all blocks [dimension, sample,
    dimension, sample].
    """
    dimensions, samples = outputs.shape
    shared = kernel_blocks.ndim == 2
    moves = kernel_blocks if shared else kernel_blocks.reshape(dimensions * samples, -1)
    eye = torch.eye(dimensions).to(outputs)
    log = outputs.new_empty(steps + 1, dimensions, dimensions)
    for step in range(steps + 1):
        log[step] = kernel.correlation(outputs)
        if step == steps:
            break
        first, second = outputs.chunk(2, dim=1)
        swapped = torch.cat([second, first], dim=1) / samples
        force = -4 * learning_rate * ((log[step] - eye) @ swapped)
        change = force @ moves if shared else (moves @ force.flatten()).reshape(dimensions, samples)
        outputs = outputs + change
    return Descent(log, outputs)


def compare(config: wide.WideConfig, *, device: str = "cpu") -> xr.Dataset:
    """The networks of `wide.train` with frozen kernels, from the same starts and at the same learning rates.

    Returns:
        Over ``model, width, seed, mode``: ``ratio`` of the half time to the predicted one, as in
        `wide.train`; over ``model, width, seed``: ``alignment``. ``model`` is ``linearised`` (all blocks of
        the network's tangent kernel) or ``shared`` (their mean K for every output, what the theory assumes).
        Over ``width, seed``: ``coupling`` ‖Θ − I ⊗ K‖/‖I ⊗ K‖.
    """
    target = pick_device(device)
    models = ("linearised", "shared")
    shape = (len(config.width), len(config.seed))
    ratio = np.empty((len(models), *shape, config.dimensions))
    alignment, coupling = np.empty((len(models), *shape)), np.empty(shape)
    for at in np.ndindex(shape):
        width, seed = config.width[at[0]], config.seed[at[1]]
        pairs = tasks.digit_pairs(seed, pairs=config.pairs, noise_sd=config.noise_sd)
        samples = kernel.stack_views(pairs.view_a, pairs.view_b).to(target)
        weights = wide.initial_weights(seed, width, samples.shape[1], config.dimensions)
        weights = wide.Weights(*(tensor.to(target) for tensor in weights))
        outputs = config.output_scale * wide.network(weights, samples)
        mean, blocks = wide.tangent_kernel(weights, samples), output_tangent_kernel(weights, samples)
        theory = wide.predict(mean, outputs, config.rate)
        shared = torch.einsum("op,xy->oxpy", torch.eye(config.dimensions).to(mean), mean)
        coupling[at] = float((blocks - shared).norm() / shared.norm())
        rate = theory.learning_rate
        steps = math.ceil(config.horizon * float(theory.half_times[-1]) / rate)
        times = torch.arange(steps + 1, dtype=torch.float64) * rate
        for model, kernel_blocks in enumerate((blocks, mean)):
            run = descend(kernel_blocks, outputs, learning_rate=rate, steps=steps)
            halves = linear.crossing_times(times, spectra.sorted_eigenvalues(run.correlations).cpu())
            ratio[(model, *at)] = halves / theory.half_times.cpu()
            alignment[(model, *at)] = float(spectra.subspace_alignment(run.outputs, theory.embeddings))
    return xr.Dataset(
        {
            "ratio": (("model", "width", "seed", "mode"), ratio),
            "alignment": (("model", "width", "seed"), alignment),
            "coupling": (("width", "seed"), coupling),
        },
        coords={
            "model": list(models),
            "width": list(config.width),
            "seed": list(config.seed),
            "mode": np.arange(1, config.dimensions + 1),
        },
    )
