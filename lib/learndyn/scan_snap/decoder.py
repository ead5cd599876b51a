"""The decoder while attention stands still: Tian et al. 2023, Lemmas 3 and 5 to 7, Theorem 1, Corollary 1.

With one class the decoder's logits stay on a line, Yᵀf = (M−1) h ζₙ with ζₙ = M/(M−1) (eₙ − 1/M), so that one
number h, or x = M h, says everything: the logit of the true next token exceeds each other one by x. With K
decorrelated classes each does the same at time t/K.

Time counts steps of batch size 1. Every function takes floats, NumPy arrays or tensors that broadcast against
each other; where one of them is a tensor, the result is a tensor of its type on its device (but `peak`,
`omega1` and `transition_bracket` always give NumPy's). `classes` is K with uniform classes; for one class of
probability p, give 1/p. Vocabulary sizes are at least 2, times at
least 0.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.special import lambertw, wrightomega
from torch import Tensor

from learndyn.core.errors import PlainError

Number = float | int | np.ndarray | np.generic | Tensor

_NEWTON_STEPS = 7  # from an upper bound; the tests find 6 enough for M to 1e6 and any time


class DecoderError(PlainError):
    """A quantity of the frozen-attention decoder that does not exist."""


def arrays(*values: Number) -> tuple[ModuleType, list[Any]]:
    """The library to compute with, torch or NumPy, and the values as its arrays of floats."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return np, [np.asarray(value, dtype=np.float64) for value in values]
    floats = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    kind, device = (floats or [torch.float64])[0], tensors[0].device
    return torch, [torch.as_tensor(value, dtype=kind, device=device) for value in values]


# ---------------------------------------------------------------- one class, or K decorrelated ones


def zeta(classes: int, vocabulary: int) -> Float[np.ndarray, "next token"]:
    """ζₙ = M/(M−1) (eₙ − 1/M) for the next tokens 0…K−1 (Tian et al. 2023, Lemma 5)."""
    return vocabulary / (vocabulary - 1) * (np.eye(classes, vocabulary) - 1 / vocabulary)


def h_discrete(
    steps: int, vocabulary: int, decoder_rates: Float[np.ndarray, " run"]
) -> Float[np.ndarray, "run step"]:
    """h*(s) for s = 0…steps, by the recursion of gradient ascent on one class (Tian et al. 2023, Lemma 5).

    h*(s) = h*(s−1) + η_Y / ((M−1) + exp(M h*(s−1))), h*(0) = 0.
    """
    margins = np.zeros((len(decoder_rates), steps + 1))
    for step in range(steps):
        # the logarithm of the denominator, which a first step with a huge rate would overflow
        log_denominator = np.logaddexp(np.log(vocabulary - 1), margins[:, step])
        margins[:, step + 1] = margins[:, step] + vocabulary * decoder_rates * np.exp(-log_denominator)
    return margins / vocabulary


def x(time: Number, vocabulary: Number, decoder_rate: Number, classes: Number = 1) -> Any:
    """x = M h(t/K): by how much the logit of the true next token exceeds each other one.

    It solves e^x + (M−1) x = M η_Y t/K + 1 (Tian et al. 2023, Lemma 6). By the Wright omega function ω,
    x = A − ω(A − ln(M−1)) with A = (M η_Y t/K + 1)/(M−1) (derived), which never overflows.
    """
    xp, (t, M, rate, K) = arrays(time, vocabulary, decoder_rate, classes)
    # A without its constant: exact at small times
    scaled = M * rate * t / (K * (M - 1))
    solve = by_wright_omega if xp is np else _by_newton
    return solve(scaled, M - 1)


def by_wright_omega(scaled: Any, others: Any) -> Any:
    """x = A − ω(A − ln(M−1)) of NumPy arrays, from M η_Y t/(K (M−1)) and M−1 (see `x`)."""
    A = scaled + 1 / others
    omega = wrightomega(A - np.log(others))
    # A − ω loses all digits at late times, where x = ln(M−1) + ln ω is exact
    late = np.log(others) + np.log(omega)
    start = np.where(omega > 1, late, A - omega)
    # and many at early times, where x(0) is exactly 0 and
    # a step of Newton's method finds the others
    return _newton(np, np.clip(start, 0, scaled), scaled, others, steps=1)


def _by_newton(scaled: Tensor, others: Tensor) -> Tensor:
    # both are upper bounds, and Newton's method on a convex increasing function descends from any of them
    start = torch.minimum(scaled, torch.log1p(others * scaled))
    return _newton(torch, start, scaled, others, steps=_NEWTON_STEPS)


def _newton(xp: ModuleType, start: Any, scaled: Any, others: Any, steps: int) -> Any:
    """Solve (e^x − 1)/(M−1) + x = A − 1/(M−1), without its cancellation at small x."""
    for _ in range(steps):
        grown = xp.expm1(start) / others
        start = start - (grown + start - scaled) / (grown + 1 / others + 1)
    return start


def h(time: Number, vocabulary: Number, decoder_rate: Number, classes: Number = 1) -> Any:
    """h(t/K), solution of ḣ = η_Y / ((M−1) + e^{Mh}), h(0) = 0 (Tian et al. 2023, Lemma 6)."""
    _, (t, M, rate, K) = arrays(time, vocabulary, decoder_rate, classes)
    return x(t, M, rate, K) / M


def time_at(margin: Number, vocabulary: Number, decoder_rate: Number, classes: Number = 1) -> Any:
    """The time at which x reaches `margin`: t = K (e^x − 1 + (M−1) x) / (M η_Y), the inverse of `x`."""
    xp, (value, M, rate, K) = arrays(margin, vocabulary, decoder_rate, classes)
    return K * (xp.expm1(value) + (M - 1) * value) / (M * rate)


def doubt(margin: Number, vocabulary: Number) -> Any:
    """(M−1) / ((M−1) + e^x), the factor in eₙ − αₙ = doubt × ζₙ (Tian et al. 2023, Lemma 5)."""
    xp, (value, M) = arrays(margin, vocabulary)
    return 1 / (1 + xp.exp(value - xp.log(M - 1)))


def loss(time: Number, vocabulary: Number, decoder_rate: Number, classes: Number = 1) -> Any:
    """Cross-entropy at frozen attention, ln(1 + (M−1) e^{−x}); tends to (M−1)/M K/(η_Y t) (derived)."""
    xp, (t, M, rate, K) = arrays(time, vocabulary, decoder_rate, classes)
    return xp.log1p((M - 1) * xp.exp(-x(t, M, rate, K)))


def time_to_precision(
    precision: Number, vocabulary: Number, decoder_rate: Number, classes: Number = 1
) -> tuple[Any, Any]:
    """When ‖eₙ − αₙ‖ falls to a precision: the exact time (derived), and the order that the paper states.

    The order is K/(ε η_Y) ln(M/ε) (Tian et al. 2023, Corollary 1), without its constant.

    Raises:
        DecoderError: a precision that is not positive and below √((M−1)/M), where the error starts.
    """
    xp, (eps, M, rate, K) = arrays(precision, vocabulary, decoder_rate, classes)
    initial = ((M - 1) / M) ** 0.5
    if not bool(((eps > 0) & (eps < initial)).all()):
        raise DecoderError(
            f"the error falls from √((M−1)/M) < 1 towards 0 and never passes {precision}; give a "
            "positive one below that start"
        )
    margin = xp.log((M * (M - 1)) ** 0.5 / eps - (M - 1))
    return time_at(margin, M, rate, K), K / (eps * rate) * xp.log(M / eps)


# ---------------------------------------------------------------- the signal to attention, and its peak


def gamma(time: Number, vocabulary: Number, decoder_rate: Number, classes: Number = 1) -> Any:
    """γ(t) = (M−1)² h(t/K) / ((M−1) + e^{M h(t/K)}), the size of the signal to attention (Theorem 1)."""
    _, (t, M, rate, K) = arrays(time, vocabulary, decoder_rate, classes)
    margin = x(t, M, rate, K)
    return (M - 1) / M * margin * doubt(margin, M)


def gamma_asymptotes(
    time: Number, vocabulary: Number, decoder_rate: Number, classes: Number = 1
) -> tuple[Any, Any]:
    """What γ follows before and after the transition: η_Y t/K, and K ln(M η_Y t/K)/(η_Y t) (Theorem 1)."""
    xp, (t, M, rate, K) = arrays(time, vocabulary, decoder_rate, classes)
    early = rate * t / K
    return early, xp.log(M * early) / early


class Peak(NamedTuple):
    """Where γ is largest: x there, the time, γ there."""

    x: Any
    time: Any
    gamma: Any


def peak(vocabulary: Number, decoder_rate: Number, classes: Number = 1) -> Peak:
    """The largest γ, which this book takes as the transition: x* = 1 + W((M−1)/e), W of Lambert (derived)."""
    _, (M, rate, K) = arrays(*map(_numpy, (vocabulary, decoder_rate, classes)))
    top = 1 + lambertw((M - 1) / np.e).real
    height = (M - 1) / M * top * doubt(top, M)
    return Peak(top, time_at(top, M, rate, K), height)


def omega1(vocabulary: Number) -> Any:
    """ω₁ of Theorem 1, the root of M^ω = (1+ω) (M−1) ln M / M; NaN for M ≤ 3, which have none.

    With y = (1+ω) ln M the equation is y e^{−y} = 1/(M−1), whose larger root is Lambert's W₋₁ (derived).
    """
    _, (M,) = arrays(_numpy(vocabulary))
    with np.errstate(invalid="ignore"):
        root = -lambertw(np.where(np.e <= M - 1, -1 / (M - 1), np.nan), -1).real
    return root / np.log(M) - 1


def transition_bracket(vocabulary: Number, decoder_rate: Number, classes: Number = 1) -> tuple[Any, Any]:
    """The paper's times around the transition, 2 K ln M/η_Y (its t₀) and 2 (1+ω₁) K ln M/η_Y (Theorem 1).

    The true peak of γ comes earlier than both: see `peak`.
    """
    _, (M, rate, K) = arrays(*map(_numpy, (vocabulary, decoder_rate, classes)))
    lower = 2 * K * np.log(M) / rate
    return lower, (1 + omega1(M)) * lower


def _numpy(value: Number) -> Any:
    return value.numpy(force=True) if isinstance(value, Tensor) else value


# ---------------------------------------------------------------- which classes the signal mixes


def signal_coefficients(
    overlaps: Float[np.ndarray, "*batch next next"], vocabulary: int
) -> tuple[Float[np.ndarray, "*batch next"], Float[np.ndarray, "*batch next next"]]:
    """ιₙ and βₙₖ of the signal gₙ = Y (eₙ − αₙ) = γ [ιₙ fₙ − Σ_{k≠n} βₙₖ f_k], exactly (Theorem 1).

    They hold for the theorem's decorrelated update of Y, not for its gradient. The coefficients are column n
    of γ (I − E') [q₀ 11ᵀ + (q₁ − q₀) I] with I − E' = (FᵀF)⁻¹, q₁ = M/(M−1), q₀ = −M/(M−1)²; approximately
    ιₙ is 1, βₙₖ is E'ₙₖ (`classes.decorrelation`) and that is the overlap fₙ·f_k.

    Args:
        overlaps: FᵀF, of unit diagonal.
        vocabulary: M.

    Returns:
        ι `[next]`, and β `[next n, next k]` with zeros on its diagonal.
    """
    same, other = vocabulary / (vocabulary - 1), -vocabulary / (vocabulary - 1) ** 2
    count = overlaps.shape[-1]
    products = np.full((count, count), other) + (same - other) * np.eye(count)
    coefficients = np.swapaxes(np.linalg.inv(overlaps) @ products, -1, -2)
    iota = np.diagonal(coefficients, axis1=-2, axis2=-1).copy()
    return iota, -coefficients * (1 - np.eye(count))


def xi_per_gamma(
    beta: Float[np.ndarray, "*batch next next"], overlaps: Float[np.ndarray, "*batch next next"]
) -> Float[np.ndarray, "*batch next"]:
    """ξₙ/γ = Σ_{k≠n} βₙₖ fₙ·f_k, the force on the tokens of class n (Tian et al. 2023, Theorem 2)."""
    return (beta * overlaps).sum(-1)


def alpha(
    margin: Number, overlaps: Float[np.ndarray, "*batch next next"], vocabulary: int
) -> Float[np.ndarray, "*broadcast next next"]:
    """αₙₖ, probability of next token k in class n under the plain gradient of Y, to leading order (derived).

    αₙₖ = e^{ρₙₖ x} / (Σⱼ e^{ρₙⱼ x} + M − K) with ρ = FᵀF: class k has learned v_k = x e_k up to a constant,
    and class n sees the part fₙ·f_k of it.

    Args:
        margin: x, a number or an array that broadcasts against the batch.
        overlaps: FᵀF, of unit diagonal.
        vocabulary: M.
    """
    value = np.asarray(margin, dtype=np.float64)[..., None, None]
    odds = np.exp((overlaps - 1) * value)  # relative to the own class: never overflows
    unlabelled = (vocabulary - overlaps.shape[-1]) * np.exp(-value)
    return odds / (odds.sum(-1, keepdims=True) + unlabelled)


def gradient_coefficients(
    margin: Number, overlaps: Float[np.ndarray, "*batch next next"], vocabulary: int
) -> Float[np.ndarray, "*broadcast next next"]:
    """What takes the place of γ βₙₖ under the plain gradient of Y: x αₙₖ, to leading order (derived).

    Zeros on the diagonal. Theorem 1's decorrelated update makes this force larger by about M E'ₙₖ e^{−ρx}.
    """
    value = np.asarray(margin, dtype=np.float64)[..., None, None]
    return value * alpha(margin, overlaps, vocabulary) * (1 - np.eye(overlaps.shape[-1]))


# ---------------------------------------------------------------- Figure 8


def staircases(steps: int, vocabulary: int, decoder_rates: Float[np.ndarray, " run"]) -> xr.Dataset:
    """h*(s) and h(t) of one class for some rates (Tian et al. 2023, Figure 8).

    Returns:
        `h_discrete` and `h`, `[run, step]`, with the rates as coordinate `decoder_rate` of `run`.
    """
    time = np.arange(steps + 1)
    return xr.Dataset(
        {
            "h_discrete": (("run", "step"), h_discrete(steps, vocabulary, decoder_rates)),
            "h": (("run", "step"), h(time, vocabulary, decoder_rates[:, None])),
        },
        coords={"decoder_rate": ("run", decoder_rates), "step": time},
        attrs={"vocabulary": vocabulary},
    )
