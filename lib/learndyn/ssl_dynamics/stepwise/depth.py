"""Why depth changes the clock: deep linear models f(x) = W_L … W_1 x under the loss ‖C − I‖²_F.

With one layer, a mode escapes after a time ∝ log(1/α) / γ. With all L ≥ 2 layers scaled by α the leading term
of the loss has degree 2L, and the escape takes ∝ 1/(γ α^{2L−2}): scale and clock are no longer separate
knobs. The last layer (head) alone keeps the exponential growth. Everything here is derived, for the loss of
Simon et al., 2023.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from scipy.integrate import quad
from scipy.special import hyp2f1
from torch import Tensor

from learndyn.ssl_dynamics.stepwise import linear


def escape_time(eigenvalue: float, init_scale: float, layers: int) -> float:
    """The leading law for small α: log(1/(γα²)) / (8γ) for one layer, 1 / (8 (L−1) γ α^{2L−2}) for L ≥ 2."""
    if layers == 1:
        return -math.log(eigenvalue * init_scale**2) / (8 * eigenvalue)
    power = 2 * layers - 2
    return 1 / (8 * (layers - 1) * eigenvalue * init_scale**power)


def half_time(eigenvalue: float, init_scale: float, layers: int) -> float:
    """When λ = ½, exactly, for one mode whose L layers all start at α: λ = γ α^{2L}.

    Each layer moves by da/dt = 4γ a^{2L−1} (1 − γ a^{2L}), so dλ/dt = 8L γ^{1/L} λ^{2−1/L} (1 − λ), and with
    u = λ^{1/L}: 8 γ^{1/L} t = [ −u^{1−L}/(L−1) + ∫ du/(1 − u^L) ], or [log(u/(1 − u))] for L = 1.
    """
    first, half = eigenvalue ** (1 / layers) * init_scale**2, 0.5 ** (1 / layers)

    def primitive(u: float) -> float:
        if layers == 1:
            return math.log(u / (1 - u))
        integral = u * float(hyp2f1(1, 1 / layers, 1 + 1 / layers, u**layers))
        return integral - u ** (1 - layers) / (layers - 1)

    return (primitive(half) - primitive(first)) / (8 * eigenvalue ** (1 / layers))


def two_layer_half_time(
    eigenvalue: float,
    body_scale: float,
    head_scale: float,
) -> float:
    """When λ = ½, exactly, for one mode of two layers that start at different scales: λ = γ b² h².

    b² − h² = D is conserved, and x = min(b, h)² obeys dx/dt = 8γ x (x + |D|) (1 − γ x (x + |D|)): for
    h ≪ b the mode grows exponentially at the rate 8γb², as with one layer; for h = b it waits for 1/(8γα²).
    """
    small, large = sorted((body_scale**2, head_scale**2))
    gap = large - small
    end = (math.sqrt(gap**2 + 2 / eigenvalue) - gap) / 2  # γ x (x + gap) = ½

    def pace(log_x: float) -> float:
        x = math.exp(log_x)
        remaining = 1 - eigenvalue * x * (x + gap)
        return 1 / (8 * eigenvalue * (x + gap) * remaining)

    ends = math.log(small), math.log(end)
    return float(quad(pace, *ends, limit=500, epsabs=0, epsrel=1e-10)[0])


def random_layers(
    widths: Sequence[int], scales: Sequence[float], generator: torch.Generator
) -> list[Float64[Tensor, "_ _"]]:
    """Layers N(0, scale²/fan_in), input first; ``widths`` are those of the input, hidden layers, output."""
    return [
        scale / math.sqrt(fan_in) * torch.randn(fan_out, fan_in, generator=generator, dtype=torch.float64)
        for (fan_in, fan_out), scale in zip(itertools.pairwise(widths), scales, strict=True)
    ]


def integrate_flow(
    layers: Sequence[Float64[Tensor, "_ _"]],
    eigenvalues: Float64[Tensor, " mode"],
    times: Float[Tensor, " step"],
    rtol: float = 1e-9,
) -> list[Float64[Tensor, "step _ _"]]:
    """Gradient flow of the layers (input first, in the eigenbasis of Γ), integrated numerically."""
    shapes, sizes = [layer.shape for layer in layers], [layer.numel() for layer in layers]

    def unpack(flat: Tensor) -> list[Tensor]:
        parts = flat.split(sizes, -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def velocity(flat: Tensor) -> Tensor:
        weights = unpack(flat)
        below = list(itertools.accumulate(weights, lambda product, layer: layer @ product))
        upstream = -linear.gradient(below[-1], eigenvalues)
        moves = []
        for index in range(len(weights) - 1, 0, -1):
            moves.append(upstream @ below[index - 1].mT)
            upstream = weights[index].mT @ upstream
        return torch.cat([move.reshape(-1) for move in [upstream, *reversed(moves)]])

    start = torch.cat([layer.reshape(-1) for layer in layers])
    return unpack(linear.integrate(velocity, start, times, rtol))


def product(layers: Sequence[Float64[Tensor, "*step _ _"]]) -> Float64[Tensor, "*step output input"]:
    """W = W_L … W_1, so that C = W Γ Wᵀ."""
    result = layers[0]
    for layer in layers[1:]:
        result = layer @ result
    return result
