"""Shuffled positives: the same staircase where there is nothing to learn but the pairing itself.

The second views are permuted among the images, so that the members of a "pair" have nothing in common. Γ is
then what finite samples leave of zero: its eigenvalues are small, and as many are negative as positive.
Training from a small start still learns one mode after another down to zero loss, by memorising, only later
(derived: the steps are a property of the dynamics, not of meaning).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr

from learndyn.core.device import generator
from learndyn.core.pairs import FixedPairs, shuffled_pairs
from learndyn.ssl_dynamics.stepwise import kernel, linear, toy
from learndyn.ssl_dynamics.stepwise.linear import Modes


def modes(pairs: FixedPairs, kernel_function: kernel.Kernel | None = None) -> Modes:
    """Eigenmodes of Γ of the pairs' flattened views, or of K_Γ if a kernel is given."""
    if kernel_function is None:
        return linear.feature_modes(pairs.view_a, pairs.view_b)
    samples = kernel.stack_views(pairs.view_a, pairs.view_b)
    return kernel.kernel_model(kernel_function(samples, samples)).modes


def shuffle_control(
    pairs: FixedPairs,
    config: toy.ToyConfig,
    *,
    seed: int = 0,
    kernel_function: kernel.Kernel | None = None,
    device: str = "cpu",
) -> Mapping[str, xr.Dataset]:
    """Train the linear (or kernel) model on the pairs as they are and with shuffled positives.

    Args:
        pairs: without a run axis.
        config: of both trainings; each takes its learning rate from its own γ₁.
        seed: of the permutation.
        kernel_function: train the kernel model of this kernel instead of the linear one.

    Returns:
        ``true`` and ``shuffled``: the logs of `toy.train`, with ``spectrum`` over ``eigenmode``, all
        eigenvalues of Γ in descending order, and ``half_time`` over (run, mode), the effective time at which
        the j-th sorted eigenvalue of C passes ½ (NaN if never).

    Raises:
        LinearModelError, ToyError, KernelError: in one sentence each.
    """
    shuffled = shuffled_pairs(pairs, generator(seed, "shuffled positives"))
    return {
        name: _trained(modes(these, kernel_function), config, device)
        for name, these in {"true": pairs, "shuffled": shuffled}.items()
    }


def captured_variance(true: FixedPairs, shuffled: FixedPairs, dimensions: int) -> Mapping[str, float]:
    """How much of the views' second moment lies in so many directions, as a share.

    ``true`` and ``shuffled``: the top eigenvectors of Γ of these pairs; ``best``: the top principal
    directions; ``random``: expected of random ones. Sampling noise in Γ is largest where the inputs vary
    most, so that ``shuffled`` lies between the last two.
    """
    views = torch.cat([view.flatten(1) for view in true.evaluation()]).double()
    whole = views.square().sum()
    found = {}
    for name, these in {"true": true, "shuffled": shuffled}.items():
        vectors = modes(these).vectors[:dimensions]
        found[name] = float((views @ vectors.mT).square().sum() / whole)
    best = torch.linalg.svdvals(views)[:dimensions].square().sum() / whole
    return found | {"best": float(best), "random": dimensions / views.shape[-1]}


def _trained(these: Modes, config: toy.ToyConfig, device: str) -> xr.Dataset:
    log = toy.train(config, these, device=device)
    halves = [
        linear.crossing_times(torch.from_numpy(times), torch.from_numpy(eigenvalues)).numpy()
        for times, eigenvalues in zip(
            log.effective_time.values, log.correlation_eigenvalues.values, strict=True
        )
    ]
    return log.assign(
        half_time=(("run", "mode"), np.stack(halves)),
        spectrum=("eigenmode", these.eigenvalues.numpy()),
    ).assign_coords(eigenmode=np.arange(1, len(these.eigenvalues) + 1))
