"""How the sum potentials move under gradient flow, and the zero-loss path of Theorem 5 (CoGO).

Coefficients z are in the paper's normalisation, no constant part: ``z[*batch, 3, q, d−1]``, parts a, b, c
and the d−1 non-trivial characters k = 1 … d−1 of a cyclic group (character −k is entry d−k). Potentials are
r_{k1k2k} = Σ_j a_{k1 j} b_{k2 j} c_{kj}, stored as ``[*batch, d−1, d−1, d−1]``. The "two-term" loss is the
one of Theorem 6, (d−1)/d + (1/d) Σ_k [−2 Re r_kkk + Σ_{k1k2} |r_{k1k2k}|²]: the first two terms of ℓ_k.

Weights are real with z = (1/d)F*w, so that a flow of w at unit rate moves z at rate 1/d.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Complex, Float
from scipy.integrate import solve_ivp
from torch import Tensor

from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.potentials import loss_budget

LARGEST_GRAM = 7
"""Above this d, :func:`gram` refuses: it has (d−1)⁶ entries. The flow itself needs (d−1)³ only."""


def gaussian_coefficients(
    d: int, nodes: int, *, batch: int, scale: float, generator: torch.Generator
) -> Complex[Tensor, "batch part node character"]:
    """Coefficients of real i.i.d. Gaussian weights: Hermitian-symmetric, E|z|² = scale², complex128."""
    shape, device = (batch, 3, nodes, d), generator.device
    weights = torch.randn(shape, generator=generator, dtype=torch.float64, device=device)
    return torch.fft.fft(weights, norm="ortho")[..., 1:] * scale


def potentials(z: Complex[Tensor, "*batch part node character"]) -> Complex[Tensor, "*batch k1 k2 k"]:
    """All r_{k1k2k} without the trivial character."""
    a, b, c = z.unbind(-3)
    return torch.einsum("...jx,...jy,...jz->...xyz", a, b, c)


def goal(d: int, like: Tensor) -> Complex[Tensor, "k1 k2 k"]:
    """δ_{k1=k2=k}: where the potentials should go."""
    k = torch.arange(d - 1, device=like.device)
    delta = torch.zeros(d - 1, d - 1, d - 1, dtype=like.dtype, device=like.device)
    delta[k, k, k] = 1
    return delta


def two_term_loss(r: Complex[Tensor, "*batch k1 k2 k"]) -> Float[Tensor, "*batch"]:
    """The modified loss of Theorem 6, Σ|r − δ|²/d."""
    return (r - goal(r.shape[-1] + 1, r)).abs().square().sum((-3, -2, -1)) / (r.shape[-1] + 1)


def two_term_gradient(r: Complex[Tensor, "*batch k1 k2 k"]) -> Complex[Tensor, "*batch k1 k2 k"]:
    """∂ℓ/∂r_{k1k2k} = 2(conj r − δ)/d, with r and r̄ = r at the opposite indices taken together."""
    d = r.shape[-1] + 1
    return 2 * (r.conj() - goal(d, r)) / d


def jacobian(
    z: Complex[Tensor, "part node character"],
) -> Complex[Tensor, "k1 k2 k part node character"]:
    """J = ∂r/∂z written out (small d and q only): ∂r_{k1k2k}/∂a_{k1 j} = b_{k2 j}c_{kj} and cyclically."""
    a, b, c = z.unbind(0)
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return torch.stack(
        [
            torch.einsum("jy,jz,xw->xyzjw", b, c, eye),
            torch.einsum("jx,jz,yw->xyzjw", a, c, eye),
            torch.einsum("jx,jy,zw->xyzjw", a, b, eye),
        ],
        dim=3,
    )


def square_potentials(
    z: Complex[Tensor, "*batch part node character"],
) -> Complex[Tensor, "*batch side k1 k2 k"]:
    """All r_{p,k1,k2,k} = Σ_j z_{p k1 j} z_{p k2 j} z_{c k j}, p = a, b."""
    return torch.einsum("...pjx,...pjy,...jz->...pxyz", z[..., :2, :, :], z[..., :2, :, :], z[..., 2, :, :])


def square_jacobian(
    z: Complex[Tensor, "part node character"],
) -> Complex[Tensor, "side k1 k2 k part node character"]:
    """∂r_{p,k1,k2,k}/∂z, the remaining rows of J for the full loss (small d and q only)."""
    n, eye = z.shape[-1], torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    rows = z.new_zeros(2, n, n, n, 3, z.shape[1], n)
    for p in (0, 1):
        first = torch.einsum("jy,jz,xw->xyzjw", z[p], z[2], eye)
        rows[p, :, :, :, p] = first + first.transpose(0, 1)
        rows[p, :, :, :, 2] = torch.einsum("jx,jy,zw->xyzjw", z[p], z[p], eye)
    return rows


def square_gradient(s: Complex[Tensor, "side k1 k2 k"]) -> Complex[Tensor, "side k1 k2 k"]:
    """∂ℓ/∂r_{p,k1,k2,k} of the full loss (Theorem 1): conj(Σ_{k1+k2=m})/(2d), at m = 0 over both p."""
    d = s.shape[-1] + 1
    k = torch.arange(1, d, device=s.device)
    total = (k[:, None] + k) % d  # m for each (k1, k2)
    sums = s.new_zeros(2, d, d - 1)
    sums.index_add_(1, total.flatten(), s.flatten(1, 2))
    sums[:, 0] = sums[:, 0].sum(0)
    return sums[:, total].conj() / (2 * d)


def gram(
    z: Complex[Tensor, "*batch part node character"],
) -> Complex[Tensor, "*batch potential potential"]:
    """J J* for the potentials r_{k1k2k} (Lemma on SP dynamics), flattened in the order of :func:`potentials`.

    Built from three Gram matrices over the nodes, never from J. (d−1)⁶ numbers.

    Raises:
        ValueError: for d above ``LARGEST_GRAM``.
    """
    n = z.shape[-1]
    if n + 1 > LARGEST_GRAM:
        raise ValueError(f"J J* at d = {n + 1} has {n**6} entries; the limit is d = {LARGEST_GRAM}")
    a, b, c = z.unbind(-3)
    total = z.new_zeros(*z.shape[:-3], n, n, n, n, n, n)

    def pair(u: Tensor, v: Tensor) -> Tensor:
        product = (u[..., :, None] * v[..., None, :]).flatten(-2)  # node, pair of characters
        return (product.mT @ product.conj()).unflatten(-1, (n, n)).unflatten(-3, (n, n))

    for i in range(n):
        total[..., i, :, :, i, :, :] += pair(b, c)
        total[..., :, i, :, :, i, :] += pair(a, c)
        total[..., :, :, i, :, :, i] += pair(a, b)
    return total.flatten(-6, -4).flatten(-3, -1)


def pull_back(
    z: Complex[Tensor, "*batch part node character"],
    g: Complex[Tensor, "*batch k1 k2 k"],
) -> Complex[Tensor, "*batch part node character"]:
    """J*g without forming J: 3(d−1)³q operations."""
    a, b, c = z.conj().unbind(-3)
    with_c = torch.einsum("...xyz,...jz->...jxy", g, c)
    to_a = (with_c @ b[..., None])[..., 0]
    to_b = (with_c.mT @ a[..., None])[..., 0]
    to_c = torch.einsum("...xyz,...jx,...jy->...jz", g, a, b)
    return torch.stack([to_a, to_b, to_c], -3)


def push_forward(
    z: Complex[Tensor, "*batch part node character"], v: Complex[Tensor, "*batch part node character"]
) -> Complex[Tensor, "*batch k1 k2 k"]:
    """Jv without forming J: how the potentials move when z moves along v."""
    a, b, c = z.unbind(-3)
    va, vb, vc = v.unbind(-3)
    form = "...jx,...jy,...jz->...xyz"
    return torch.einsum(form, va, b, c) + torch.einsum(form, a, vb, c) + torch.einsum(form, a, b, vc)


def velocity(
    z: Complex[Tensor, "*batch part node character"],
) -> Complex[Tensor, "*batch part node character"]:
    """ż = −(1/d) J* conj(∇_r ℓ): gradient flow of real weights on the two-term loss, seen in z."""
    gradient = two_term_gradient(potentials(z))
    return -pull_back(z, gradient.conj()) / (z.shape[-1] + 1)


def potential_velocity(
    z: Complex[Tensor, "*batch part node character"],
) -> Complex[Tensor, "*batch k1 k2 k"]:
    """ṙ = −(1/d) J J* conj(∇_r ℓ) under the same flow (Lemma on SP dynamics), matrix-free."""
    return push_forward(z, velocity(z))


def decoupling_rate(d: int, nodes: int, scale: float) -> float:
    """λ = 6qσ⁴/d²: with J J* → 3qσ⁴·1 (Theorem 6) every potential obeys ṙ = −λ(r − δ)."""
    return 6 * nodes * scale**4 / d**2


def decoupled_flow(
    r0: Complex[Tensor, "*batch k1 k2 k"],
    turns: Float[Tensor, " time"],
) -> Complex[Tensor, "time *batch k1 k2 k"]:
    """r(t) = δ + (r(0) − δ)e^{−λt} of Theorem 6, at times λt = ``turns``."""
    delta = goal(r0.shape[-1] + 1, r0)
    decay = torch.exp(-turns).reshape(-1, *(1,) * r0.ndim).to(r0)
    return delta + (r0 - delta) * decay


def decoupling_table(
    d: int, widths: Sequence[int], *, seeds: int = 8, scale: float = 1.0, generator: torch.Generator
) -> xr.Dataset:
    """How fast J J* approaches 3qσ⁴·1 as the width grows (Theorem 6), averaged over seeds.

    Per width: ``diagonal`` = mean diagonal/(qσ⁴) (theory: 3); ``offdiagonal`` = rms off-diagonal
    entry/(3qσ⁴); ``offdiagonal_max``; ``velocity_error`` = ‖ṙ − ṙ_decoupled‖/‖ṙ_decoupled‖ for the two-term
    loss. Attributes ``exponent_offdiagonal``, ``exponent_velocity``: slopes of log(value) against
    log(width).
    """
    columns: dict[str, list[list[float]]] = {}
    for q in widths:
        z = gaussian_coefficients(d, q, batch=seeds, scale=scale, generator=generator)
        matrix = gram(z)
        diagonal = matrix.diagonal(dim1=-2, dim2=-1).real
        rest = (matrix - torch.diag_embed(diagonal).to(matrix)).abs()
        n, unit = matrix.shape[-1], q * scale**4
        r = potentials(z)
        expected = -decoupling_rate(d, q, scale) * (r - goal(d, r))
        error = (potential_velocity(z) - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
        measured = {
            "diagonal": diagonal.mean(-1) / unit,
            "offdiagonal": rest.square().sum((-2, -1)).div(n * (n - 1)).sqrt() / (3 * unit),
            "offdiagonal_max": rest.amax((-2, -1)) / (3 * unit),
            "velocity_error": error,
        }
        for name, values in measured.items():
            columns.setdefault(name, []).append(values.tolist())
    table = xr.Dataset(
        {name: (("width", "seed"), np.array(values)) for name, values in columns.items()},
        coords={"width": list(widths), "seed": range(seeds)},
        attrs={"d": d, "scale": scale},
    )
    for name, key in (("offdiagonal", "offdiagonal"), ("velocity_error", "velocity")):
        means = table[name].mean("seed").values
        slope = np.polyfit(np.log(widths), np.log(means), 1)[0] if len(widths) > 1 else np.nan
        table.attrs[f"exponent_{key}"] = float(slope)
    return table


def balancedness(z: Complex[Tensor, "*batch part node character"]) -> Float[Tensor, "*batch 2 node"]:
    """Σ_k|a|² − Σ_k|b|² and Σ_k|a|² − Σ_k|c|² of every node, which the two-term flow conserves.

    (Each potential is linear in a, in b and in c of a node.)
    """
    a, b, c = z.abs().square().sum(-1).unbind(-2)
    return torch.stack([a - b, a - c], -2)


def integrate(
    z0: Complex[Tensor, "*batch part node character"],
    times: Float[Tensor, " time"],
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> Complex[Tensor, "time *batch part node character"]:
    """The two-term gradient flow ż of :func:`velocity`, float64 (SciPy, DOP853), all of the batch at once.

    Raises:
        RuntimeError: if the integrator gives up.
    """
    shape, n = z0.shape, z0.shape[-1]
    lower = n // 2 + n % 2  # characters 1 … ⌊d/2⌋ determine the rest

    def pack(z: Tensor) -> np.ndarray:
        return torch.view_as_real(z[..., :lower].contiguous()).flatten().cpu().numpy()

    def unpack(y: np.ndarray) -> Tensor:
        half = torch.view_as_complex(torch.from_numpy(y.copy()).reshape(*shape[:-1], lower, 2)).to(z0.device)
        return torch.cat([half, half[..., : n - lower].flip(-1).conj()], -1)

    result = solve_ivp(
        lambda _, y: pack(velocity(unpack(y))),
        (float(times[0]), float(times[-1])),
        pack(z0.to(torch.complex128)),
        method="DOP853",
        t_eval=times.double().cpu().numpy(),
        rtol=rtol,
        atol=atol,
    )
    if not result.success:
        raise RuntimeError(f"the gradient flow could not be integrated: {result.message}")
    return torch.stack([unpack(y) for y in result.y.T])


def flow_against_theory(
    d: int,
    widths: Sequence[int],
    *,
    seeds: int = 2,
    end: float = 4.0,
    points: int = 33,
    generator: torch.Generator,
) -> xr.Dataset:
    """Simulated two-term flow beside the decoupled flow of Theorem 6, from the same start, several widths.

    σ = q^{−1/6}, which keeps the size of r(0) = O(√q σ³) fixed while single coefficients move less and
    less; time is λt. Variables ``simulated`` and ``decoupled`` (width, seed, time, k1, k2, k), complex;
    ``error`` (width, seed, time) = ‖difference‖/‖r(0) − δ‖; ``drift`` (width, seed): largest change of
    :func:`balancedness`, which the exact flow conserves.
    """
    turns = torch.linspace(0, end, points, dtype=torch.float64)
    parts: dict[str, list[np.ndarray]] = {"simulated": [], "decoupled": [], "error": [], "drift": []}
    for q in widths:
        scale = q ** (-1 / 6)
        z0 = gaussian_coefficients(d, q, batch=seeds, scale=scale, generator=generator)
        path = integrate(z0, turns / decoupling_rate(d, q, scale))
        r = potentials(path)
        theory = decoupled_flow(r[0], turns)
        gap = (r - theory).flatten(2).norm(dim=-1)
        start = (r[0] - goal(d, r)).flatten(1).norm(dim=-1)
        drift = (balancedness(path) - balancedness(z0)).abs().amax((0, 2, 3))
        values = {"simulated": r, "decoupled": theory, "error": gap / start}
        for name, value in values.items():
            parts[name].append(value.transpose(0, 1).cpu().numpy())
        parts["drift"].append(drift.cpu().numpy())
    dims = ("width", "seed", "time", "k1", "k2", "k")
    return xr.Dataset(
        {name: (dims[: np.ndim(values[0]) + 1], np.stack(values)) for name, values in parts.items()},
        coords={"width": list(widths), "time": turns.numpy(), "k": np.arange(1, d)},
        attrs={"d": d, "time_unit": "1/λ, λ = 6qσ⁴/d²"},
    )


def theorem5_path(
    y: Complex[Tensor, "3 factor character"],
    base: Complex[Tensor, "3 node character"],
    times: Float[Tensor, " time"],
) -> Complex[Tensor, "time 3 joined character"]:
    """z(t) = (t^{1/3}·1 + (1−t)^{1/3}·y) * z′, from y * z′ at t = 0 to z′ at t = 1 (Theorem 5; our form).

    Args:
        y: factor with Σ_j y_a y_b y_c = 1 at every character (paper's normalisation, any width).
        base: the lower-order network z′, in any normalisation, characters as in ``y``.
        times: values in [0, 1].

    Every potential is (t + (1−t)·r(y))·r(z′), so that r_kkk stays 1 and what vanishes for z′ stays 0. A
    bias that z′ cancels only in the sum over frequencies does not: z′ must satisfy the sufficient
    conditions. Nodes: those of z′ times (1 + width of y), row by row; the first copy is t^{1/3}z′.

    Raises:
        ValueError: if y does not keep r_kkk = 1, or a time lies outside [0, 1].
    """
    if ((times < 0) | (times > 1)).any():
        raise ValueError("times of the path must lie in [0, 1]")
    kept = y.prod(0).sum(0)[1:]
    if not torch.allclose(kept, torch.ones_like(kept), atol=1e-6):
        raise ValueError("y needs r_kkk = 1 at every non-trivial character")
    t = times.to(y.dtype)[:, None, None, None]
    one = torch.ones_like(y[:, :1])
    factor = torch.cat([t.pow(1 / 3) * one, (1 - t).pow(1 / 3) * y], 2)
    return (factor[:, :, :, None] * base[:, None]).flatten(2, 3)


def theorem5_norm(
    norm_product: float, norm_base: float, times: Float[Tensor, " time"]
) -> Float[Tensor, " time"]:
    """Squared norm along the path, t^{2/3}‖z′‖² + (1−t)^{2/3}‖y * z′‖²: concave, it may rise first."""
    return times.pow(2 / 3) * norm_base + (1 - times).pow(2 / 3) * norm_product


def along_theorem5_path(
    group: AbelianGroup,
    y: Complex[Tensor, "3 factor character"],
    base: Complex[Tensor, "3 node character"],
    times: Float[Tensor, " time"],
) -> xr.Dataset:
    """Loss over the full table and squared norm along :func:`theorem5_path`, for ``base`` in code units.

    Variables ``loss``, ``norm`` (of the networks on the path) and ``norm_formula`` (:func:`theorem5_norm`).
    """
    path = theorem5_path(y, base, times)
    norm = group.size * path.abs().square().sum((1, 2, 3))
    product = theorem5_path(y, base, times.new_zeros(1))
    ends = group.size * product.abs().square().sum(), group.size * base.abs().square().sum()
    values = {
        "loss": loss_budget(group, path).loss,
        "norm": norm,
        "norm_formula": theorem5_norm(float(ends[0]), float(ends[1]), times),
    }
    arrays = {name: ("t", value.detach().cpu().numpy()) for name, value in values.items()}
    return xr.Dataset(arrays, coords={"t": times.cpu().numpy()})
