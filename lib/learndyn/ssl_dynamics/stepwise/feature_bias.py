"""Bigger and louder features are learned first: two toys with two features each.

In both, every feature has a random sign that the two views share. What the first step learns is decided by
the eigenvalue of the feature in Γ: by how many inputs it covers, or by its amplitude. (After the anonymous
follow-up "Stepwise Feature Learning in Self-Supervised Learning"; the eigenvalues are derived.)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from learndyn.core.pairs import FixedPairs


def extent_eigenvalues(large: int = 9, small: int = 1) -> Float64[Tensor, " mode"]:
    """γ = (9, 1): a feature that is ±1 on k inputs has the eigenvalue k."""
    return torch.tensor([large, small], dtype=torch.float64)


def extent_pairs(
    pairs: int, *, generator: torch.Generator, large: int = 9, small: int = 1, noise_sd: float = 0.01
) -> FixedPairs:
    """x = [b_l 1_9 ; b_s 1_1] + noise: two features of different extent, each with a random sign."""
    signs = _signs(pairs, generator)
    clean = signs.repeat_interleave(torch.tensor([large, small]), dim=1)
    return _noisy(clean, noise_sd, generator)


def amplitude_eigenvalues(high: float = 1.0, low: float = 3.0, inputs: int = 96) -> Float64[Tensor, " mode"]:
    """γ = (c_h² m/2, c_l² m/2): a sine of amplitude c over m inputs has the squared norm c² m/2."""
    return torch.tensor([high**2 * inputs / 2, low**2 * inputs / 2], dtype=torch.float64)


def amplitude_pairs(
    pairs: int,
    *,
    generator: torch.Generator,
    high: float = 1.0,
    low: float = 3.0,
    inputs: int = 96,
    periods: tuple[int, int] = (12, 2),
    noise_sd: float = 0.01,
) -> FixedPairs:
    """x = c_h b_h sin(high frequency) + c_l b_l sin(low frequency) + noise, with independent signs.

    ``periods`` are the numbers of periods over the inputs of the high and the low frequency; with different
    whole numbers below m/2 the two waves are orthogonal.
    """
    position = torch.arange(inputs, dtype=torch.float64) * (2 * math.pi / inputs)
    waves = torch.stack([c * torch.sin(k * position) for c, k in zip((high, low), periods, strict=True)])
    return _noisy(_signs(pairs, generator) @ waves, noise_sd, generator)


def _signs(pairs: int, generator: torch.Generator) -> Float64[Tensor, "pair feature"]:
    return torch.randint(0, 2, (pairs, 2), generator=generator).double() * 2 - 1


def _noisy(clean: Float[Tensor, "pair input"], noise_sd: float, generator: torch.Generator) -> FixedPairs:
    noise = noise_sd * torch.randn(2, *clean.shape, generator=generator, dtype=torch.float64)
    return FixedPairs(clean + noise[0], clean + noise[1])
