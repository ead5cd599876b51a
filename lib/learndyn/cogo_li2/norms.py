"""Weight norms of the known solutions, and what weight decay should therefore prefer.

All norms are ‖w_a‖² + ‖w_b‖² + ‖w_c‖² of real weights in the code's normalisation, for odd cyclic d with
K = (d−1)/2 frequencies; n4 of them have order 4, n6 = K − n4 order 6. Balanced nodes of an order-n frequency
have |a| = |b| = |c| = s_n = (2dn)^{−1/3}.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Complex, Float, Int
from scipy.optimize import brentq
from torch import Tensor

SHRINKAGE = 2 ** (-5 / 3)
"""1 − r_kkk ≈ SHRINKAGE·(weight decay)·d^{4/3}·n^{1/3}; 0.315."""


def _check(d: int, **counts: int | float) -> None:
    if d < 3:
        raise ValueError(f"d must be at least 3, got {d}")
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")


def coefficient_modulus(order: int, d: int) -> float:
    """s_n = (2dn)^{−1/3}: the modulus of every coefficient of a balanced frequency with r_kkk = 1."""
    _check(d)
    if order < 1:
        raise ValueError(f"order must be positive, got {order}")
    return (2 * d * order) ** (-1 / 3)


def frequency_norm(order: int, d: int, *, self_conjugate: bool = False) -> float:
    """Squared norm 6nd·s_n² of a balanced pair {k, −k} of order n; half of it where k = −k."""
    return (3 if self_conjugate else 6) * order * d * coefficient_modulus(order, d) ** 2


def memorisation_norm(d: int) -> float:
    """Squared norm 3d(d−1)·2^{−2/3} of perfect memorisation (d² balanced nodes, d−1 characters each)."""
    _check(d)
    return 3 * d * (d - 1) * 2 ** (-2 / 3)


def host_norm(d: int) -> float:
    """Squared norm of hosting the output bias of one order-4 frequency on one order-6 frequency.

    6d·s_6², spread evenly over the six nodes; n6 hosts that share the work pay 1/n6 of it.
    """
    return 6 * d * coefficient_modulus(6, d) ** 2


def solution_norm(
    n4: int,
    n6: int,
    d: int,
    *,
    rebalance: bool = False,
) -> float:
    """Predicted squared norm of a network with n4 frequencies of order 4 and n6 of order 6 (own).

    n4·E_4 + n6·E_6 + (n4/n6)·H with E_n = :func:`frequency_norm` and H = :func:`host_norm`: the paper's
    blocks as they are. ``rebalance`` lets the hosts grow a, b by λ and shrink c by λ² so as to carry the
    bias more cheaply: n6·E_6 + (n4/n6)H becomes n6·E_6·(1 + 3(n4/n6)H/(n6·E_6))^{1/3}. Infinite if there is
    a bias but no host.
    """
    _check(d, n4=n4, n6=n6)
    own, hosts = n4 * frequency_norm(4, d), n6 * frequency_norm(6, d)
    if n4 == 0:
        return hosts
    if n6 == 0:
        return math.inf
    bias = n4 / n6 * host_norm(d)
    if rebalance:
        return own + hosts * (1 + 3 * bias / hosts) ** (1 / 3)
    return own + (hosts + bias)


def dc_host_norm(n4: int, d: int) -> float:
    """Least squared norm of one node with a constant input that cancels the bias of n4 order-4 frequencies.

    The node has constant e, shared by a and b, and |c_k| = √2/(d·e²) at the 2·n4 characters: de²/2 +
    4n4/(d·e⁴), least at e⁶ = 16n4/d². Legal, because real weights have a constant part; training does not
    use it (own).
    """
    _check(d, n4=n4)
    return 0.75 * d * (16 * n4 / d**2) ** (1 / 3)


def min_norm_law(n6: Float[np.ndarray, " n6"], frequencies: int) -> Float[np.ndarray, " n6"]:
    """f(n6) = (K − n6)(12·1.5^{2/3} + 3/n6) + 18·n6, the norm in units of 2d·s_6² (own)."""
    return (frequencies - n6) * (12 * 1.5 ** (2 / 3) + 3 / n6) + 18 * n6


def best_order6(frequencies: int, *, integer: bool = False) -> float:
    """n6* = √(3K/(18 − 12·1.5^{2/3})) ≈ √(1.318·K), where f is least; ``integer``: best of 1 … K."""
    if frequencies < 1:
        raise ValueError(f"there must be at least one frequency, got {frequencies}")
    if integer:
        candidates = np.arange(1.0, frequencies + 1)
        return float(candidates[min_norm_law(candidates, frequencies).argmin()])
    return math.sqrt(3 * frequencies / (18 - 12 * 1.5 ** (2 / 3)))


def shrinkage(weight_decay: float, d: int, order: int, *, exact: bool = False) -> float:
    """1 − r_kkk at equilibrium under coupled weight decay, bias coupling ignored (own).

    First order: 2^{−5/3}·wd·d^{4/3}·n^{1/3}. ``exact`` solves (1 − r)·r^{1/3} = that value for the larger
    root r (the minimum of (2/d)(1 − r)² + (wd/2)·E_n·r^{2/3}); NaN beyond :func:`critical_weight_decay`.
    """
    _check(d, weight_decay=weight_decay)
    x = SHRINKAGE * weight_decay * d ** (4 / 3) * order ** (1 / 3)
    if not exact:
        return x
    if weight_decay > critical_weight_decay(d, order):
        return math.nan
    return 1 - brentq(lambda r: (1 - r) * r ** (1 / 3) - x, 0.25, 1.0, xtol=1e-14)


def shrunk_norm(n4: int, n6: int, d: int, weight_decay: float) -> float:
    """:func:`solution_norm` at equilibrium under weight decay: each order's share times r_kkk^{2/3} (own).

    r_kkk is 1 − :func:`shrinkage` (exact); the hosts' extra coefficients shrink with their own frequency. NaN
    beyond the critical weight decay.
    """
    four, six = ((1 - shrinkage(weight_decay, d, order, exact=True)) ** (2 / 3) for order in (4, 6))
    own = n4 * frequency_norm(4, d)
    return own * four + (solution_norm(n4, n6, d) - own) * six


def critical_weight_decay(d: int, order: int) -> float:
    """wd_c = 1.5·d^{−4/3}·n^{−1/3}: beyond it not even an equilibrium is left (r_kkk = 1/4 there; own)."""
    _check(d)
    return 1.5 * d ** (-4 / 3) * order ** (-1 / 3)


def table(moduli: Iterable[int]) -> xr.Dataset:
    """The laws of this module for a list of odd d: norms of pure solutions, n6*, its norm, wd_c."""
    d = list(moduli)
    if bad := [m for m in d if m < 3 or m % 2 == 0]:
        raise ValueError(f"the table is for odd d of at least 3, got {bad[0]}")
    k = [(m - 1) // 2 for m in d]
    n6 = [int(best_order6(i, integer=True)) for i in k]
    pairs = list(zip(d, k, n6, strict=True))
    columns = {
        "frequencies": k,
        "all_order4": [i * frequency_norm(4, m) for m, i, _ in pairs],
        "all_order6": [i * frequency_norm(6, m) for m, i, _ in pairs],
        "memorisation": [memorisation_norm(m) for m in d],
        "n6_star": [best_order6(i) for i in k],
        "n6_best": n6,
        "best_mix": [solution_norm(i - n, n, m) for m, i, n in pairs],
        "best_mix_rebalanced": [solution_norm(i - n, n, m, rebalance=True) for m, i, n in pairs],
        "order4_with_dc_host": [i * frequency_norm(4, m) + dc_host_norm(i, m) for m, i, _ in pairs],
        "critical_weight_decay_4": [critical_weight_decay(m, 4) for m in d],
        "critical_weight_decay_6": [critical_weight_decay(m, 6) for m in d],
    }
    return xr.Dataset({name: ("d", values) for name, values in columns.items()}, coords={"d": d})


def cheapest_hosting(
    a: Complex[Tensor, " host"],
    b: Complex[Tensor, " host"],
    frequency: Int[Tensor, " host"],
    bias: complex,
) -> Complex[Tensor, " host"]:
    """Least-norm extra output coefficients that cancel a bias and disturb nothing else (Lagrange, exact).

    ``a``, ``b``: coefficients of the host nodes; ``frequency``: any labels, equal for nodes of one
    frequency. A node's hidden value is 2|a|² + 2|b|² plus waves with amplitudes 2ab, 2ab̄, a², b²; the
    coefficients δc satisfy Σ_j 2(|a|²+|b|²)δc = −bias while every wave of every frequency, and its
    conjugate, sums to zero. The returned δc is the least-squares solution of least norm; the min-norm law
    says it is constant over the nodes.

    Raises:
        ValueError: if no choice of coefficients does it (for instance on order-4 hosts).
    """
    waves = torch.stack([2 * a * b, 2 * a * b.conj(), a * a, b * b])
    waves = torch.cat([waves, waves.conj()])
    rows = [waves * (frequency == label) for label in torch.unique(frequency)]
    system = torch.cat([2 * (a.abs() ** 2 + b.abs() ** 2)[None].to(a.dtype), *rows])
    goal = torch.zeros(len(system), dtype=a.dtype, device=a.device)
    goal[0] = -bias
    solution = torch.linalg.pinv(system, rtol=1e-10) @ goal
    if (system @ solution - goal).abs().max() > 1e-6 * abs(bias):
        raise ValueError("these nodes cannot host the bias without disturbing another sum potential")
    return solution
