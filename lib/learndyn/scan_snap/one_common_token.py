"""How far attention leaves a single common token, in closed form: Tian et al. 2023, Theorem 4.

One query, one common token with attention logit z(t), z(0) = 0. The theorem takes the norms of all classes as
constant, so that every overlap is ρ₀ e^{2z}, and finds ż = −(η_Z/C₀) γ(t) e^{4z}. With Γ(t) = η_Z ∫γ the
solution is z = −B, **B(t) = ¼ ln(1 + 4Γ(t)/C₀)**. The paper prints ¼ ln(C₀ + 4Γ), which is B + ¼ ln C₀ and
starts at 0 for C₀ = 1 only.

Arguments broadcast, and tensors give tensors, as in `decoder`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from learndyn.scan_snap import decoder
from learndyn.scan_snap.decoder import Number


def constant_from_overlap(classes: Number, overlap: Number) -> Any:
    """C₀ = 1/((K−1) ρ₀²) with ρ₀ = fₙ·f_k at the start, with which B tracks Lemma 4's equations (derived).

    It is what Lemma 4 gives for K classes on one query when βₙₖ ≈ fₙ·f_k and the common token's own share,
    1 − f² with f² = ρ, is left out. The paper's C₀ = ρ₀⁴/K has its ρ₀ for the norm, ρ₀⁻² being our overlap,
    and K for K − 1.
    """
    _, (K, rho) = decoder.arrays(classes, overlap)
    return 1 / ((K - 1) * rho**2)


def gamma_integral(
    time: Number,
    vocabulary: Number,
    decoder_rate: Number,
    attention_rate: Number,
    classes: Number = 1,
) -> Any:
    """Γ(t) = η_Z ∫₀ᵗ γ = η_Z K (M−1)² h(t/K)² / (2 η_Y) (Tian et al. 2023, Theorem 4)."""
    values = time, vocabulary, decoder_rate, attention_rate, classes
    _, (t, M, rate, attention, K) = decoder.arrays(*values)
    grown = (M - 1) / M * decoder.x(t, M, rate, K)  # (M−1) h
    return attention * K / (2 * rate) * grown**2


def growth(integral: Number, constant: Number = 1.0) -> Any:
    """B = ¼ ln(1 + 4Γ/C₀), how far the common token's logit has fallen (Theorem 4, constant corrected)."""
    xp, (Gamma, C0) = decoder.arrays(integral, constant)
    return xp.log1p(4 * Gamma / C0) / 4


def printed_growth(integral: Number, constant: Number = 1.0) -> Any:
    """¼ ln(C₀ + 4Γ), as Theorem 4 is printed: without −¼ ln C₀, so that it does not start at 0."""
    xp, (Gamma, C0) = decoder.arrays(integral, constant)
    return xp.log(C0 + 4 * Gamma) / 4


def growth_at_transition(
    rate_ratio: Number, vocabulary: Number, classes: Number = 1, constant: Number = 1.0
) -> Any:
    """B(t₀) at the paper's t₀ = 2 K ln M/η_Y, which depends on ν = η_Y/η_Z, K and M only (Theorem 4).

    Indeed x(t₀) solves e^x + (M−1) x = 2 M ln M + 1, and Γ = K (M−1)² x²/(2 ν M²).
    """
    xp, (ratio, M, K, C0) = decoder.arrays(rate_ratio, vocabulary, classes, constant)
    return growth(gamma_integral(2 * K * xp.log(M), M, 1.0, 1 / ratio, K), C0)


def chi(growth: Number) -> Any:
    """χ = e^{2B}, by which a distinct token's r = f²/f'² − 1 has grown (Theorem 3; Figure 3's quantity).

    Figure 3 takes B of the common token for that of a distinct one.
    """
    xp, (B,) = decoder.arrays(growth)
    return xp.exp(2 * B)


def trajectories(
    times: Float[np.ndarray, " time"],
    vocabulary: int,
    decoder_rates: Float[np.ndarray, " run"],
    attention_rates: Float[np.ndarray, " run"],
    classes: int = 1,
    constant: float = 1.0,
) -> xr.Dataset:
    """Theorem 4's curves for some pairs of rates (Tian et al. 2023, Figures 3 and 9).

    Returns:
        `gamma`, `gamma_integral` (Γ), `growth` (B), `printed_growth`, `chi`, `[run, time]`; `transition` (the
        paper's t₀ = 2 K ln M/η_Y), `growth_at_transition`, `peak_time` (where γ is largest), `[run]`; the
        rates as coordinates of `run`.
    """
    decoding, attending = decoder_rates[:, None], attention_rates[:, None]
    integral = gamma_integral(times, vocabulary, decoding, attending, classes)
    grown = growth(integral, constant)
    at_transition = growth_at_transition(decoder_rates / attention_rates, vocabulary, classes, constant)
    curves = {
        "gamma": decoder.gamma(times, vocabulary, decoding, classes),
        "gamma_integral": integral,
        "growth": grown,
        "printed_growth": printed_growth(integral, constant),
        "chi": chi(grown),
    }
    per_run = {
        "transition": decoder.transition_bracket(vocabulary, decoder_rates, classes)[0],
        "growth_at_transition": at_transition,
        "peak_time": decoder.peak(vocabulary, decoder_rates, classes).time,
    }
    return xr.Dataset(
        {name: (("run", "time"), value) for name, value in curves.items()}
        | {name: ("run", value) for name, value in per_run.items()},
        coords={
            "time": times,
            "decoder_rate": ("run", decoder_rates),
            "attention_rate": ("run", attention_rates),
        },
        attrs={"vocabulary": vocabulary, "classes": classes, "constant": constant},
    )
