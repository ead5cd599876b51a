"""The closed dynamics of attention, its conservation law and the fates of tokens (Tian et al. 2023).

Once the decoder is known in closed form (`decoder`), attention moves by itself: with F = [f_1 … f_K] of the
current logits z and A_nk the strength with which class n is driven away from class k,

    ż_m = (η_Z/K) Σ_{n∈ψ⁻¹(m)} diag(f_n) Σ_{k≠n} A_nk (f_n f_nᵀ − I) f_k.

Lemma 4 is A = γ(t) E', where γ carries the factor that the paper drops, so that t counts SGD steps of batch
size 1. Everything in Theorems 2 and 3 holds for any A ≥ 0 (derived), also for that of the plain gradient.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from learndyn.scan_snap import decoder, measures
from learndyn.scan_snap.classes import Classes, decorrelation
from learndyn.scan_snap.flow import (
    ABSOLUTE_TOLERANCE,
    RELATIVE_TOLERANCE,
    FlowError,
    Layout,
    check_arguments,
    integrate,
    start_of,
)

Force = Literal["theorem", "exact", "gradient"]


def strengths(
    time: float,
    overlaps: Float[np.ndarray, "next next"],
    vocabulary: int,
    decoder_rate: float,
    force: Force = "theorem",
) -> Float[np.ndarray, "next next"]:
    """A_nk, how strongly class n is driven away from class k at time t; zeros on the diagonal.

    Args:
        time: t, in steps of batch size 1.
        overlaps: FᵀF.
        vocabulary: M.
        decoder_rate: η_Y.
        force: "theorem" is γ E' (Lemma 4); "exact" is γ β with the β of Theorem 1 to all orders in 1/M, which
            exceeds E' by nearly 1/M; "gradient" is x α_nk, which the plain gradient of Y gives to leading
            order in the overlap (derived).
    """
    count = len(overlaps)
    if force == "gradient":
        margin = decoder.x(time, vocabulary, decoder_rate, count)
        return decoder.gradient_coefficients(margin, overlaps, vocabulary)
    if force == "theorem":
        beta = decorrelation(overlaps)
    else:
        _, beta = decoder.signal_coefficients(overlaps, vocabulary)
    gamma = float(decoder.gamma(time, vocabulary, decoder_rate, count))
    return gamma * beta * (1 - np.eye(count))


def push(
    layout: Layout,
    z: Float[np.ndarray, "query contextual"],
    time: float,
    vocabulary: int,
    decoder_rate: float,
    force: Force = "theorem",
) -> tuple[Float[np.ndarray, "query contextual"], Float[np.ndarray, "next"]]:
    """Ż K/η_Z (Tian et al. 2023, Lemma 4), and ξ_n = Σ_k A_nk f_n·f_k, the push on distinct tokens over f².

    Args:
        layout: of the classes.
        z: attention logits.
        time: t, in steps of batch size 1.
        vocabulary: M.
        decoder_rate: η_Y.
        force: which A, see `strengths`.
    """
    f = layout.unit(z)
    unit = layout.dense(f)  # F, transposed
    overlaps = unit @ unit.T
    matrix = strengths(time, overlaps, vocabulary, decoder_rate, force)
    xi = (matrix * overlaps).sum(axis=1)
    # Σ_k A_nk f_k, on the tokens of class n
    others = np.take_along_axis(matrix @ unit, layout.index, axis=1)
    return layout.per_query(f * (f * xi[:, None] - others)), xi


def solve(
    classes: Classes,
    times: Float[np.ndarray, "time"],
    *,
    decoder_rate: float,
    attention_rate: float,
    force: Force = "theorem",
    attention: Float[np.ndarray, "query token"] | None = None,
    relative_tolerance: float = RELATIVE_TOLERANCE,
    absolute_tolerance: float = ABSOLUTE_TOLERANCE,
) -> xr.Dataset:
    """Attention by itself, the decoder in closed form (Tian et al. 2023, Lemma 4), in float64.

    Integrated by an adaptive Runge–Kutta method of order 8, E' and F recomputed in every evaluation.

    Args:
        classes: the sequence classes, with uniform prior.
        times: increasing, from 0 on; t counts SGD steps of batch size 1.
        decoder_rate: η_Y.
        attention_rate: η_Z.
        force: which A, see `strengths`.
        attention: the start of Z; zero if not given.
        relative_tolerance: of the integrator.
        absolute_tolerance: of the integrator.

    Returns:
        ``attention`` Z and ``velocity`` Ż ``[time, query, token]``, the ``start`` ``[query, token]``, ``xi``
        ξ_n = Σ_k A_nk f_n·f_k and ``drive`` B_n = (η_Z/K) ∫ξ_n dt ``[time, next]``, and ``attention_row_sum``
        ``[time]``, by how much the sum of a row of Z has moved at most.

    Raises:
        FlowError: classes that are not equally frequent, and all that `flow.solve` refuses.
    """
    check_arguments(times, decoder_rate, attention_rate)
    if force not in get_args(Force):
        raise FlowError(f"force must be one of {', '.join(get_args(Force))}, not {force!r}")
    if not np.allclose(np.asarray(classes.prior), 1 / classes.classes, rtol=1e-9, atol=0):
        raise FlowError("the closed attention dynamics needs equally frequent classes; use `flow.solve`")
    layout, initial = Layout.of(classes), start_of(classes, attention)
    shape = (classes.queries, len(layout.tokens))
    size, per_class = shape[0] * shape[1], attention_rate / classes.classes

    def parts(time: float, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ż [query, contextual] and ξ [next]."""
        z = state[:size].reshape(shape)
        moved, xi = push(layout, z, time, classes.vocabulary, decoder_rate, force)
        return per_class * moved, xi

    states, evaluations = integrate(
        lambda time, state: np.concatenate([part.ravel() for part in parts(time, state)]),
        np.concatenate([initial[:, layout.tokens].ravel(), np.zeros(classes.classes)]),
        times,
        relative_tolerance,
        absolute_tolerance,
    )
    z = np.repeat(initial[None], len(times), axis=0)
    z[:, :, layout.tokens] = states[:size].T.reshape(-1, *shape)
    speed, xi = np.zeros_like(z), np.empty((len(times), classes.classes))
    for i, time in enumerate(times):
        speed[i][:, layout.tokens], xi[i] = parts(float(time), states[:, i])
    attrs = {"decoder_rate": decoder_rate, "attention_rate": attention_rate, "force": force}
    return xr.Dataset(
        {
            "attention": (("time", "query", "token"), z),
            "velocity": (("time", "query", "token"), speed),
            "start": (("query", "token"), initial),
            "xi": (("time", "next"), xi),
            "drive": (("time", "next"), per_class * states[size:].T),
            "attention_row_sum": ("time", np.abs((z - initial).sum(axis=2)).max(axis=1)),
        },
        coords={"time": times},
        attrs={**attrs, "evaluations": evaluations},
    )


def early_time(
    classes: Classes, times: Float[np.ndarray, "time"], *, decoder_rate: float, attention_rate: float
) -> xr.DataArray:
    """How attention starts under the plain gradient, exact to order t², for any classes and P(n) (derived).

    From zero, z_m(t) ≈ −(η_Z η_Y t²/2M) Σ_{n∈ψ⁻¹(m)} P(n) diag(f_n) (I − f_n f_nᵀ) Σ_{k≠n} P(k) f_k, with the
    f of uniform attention. Dimensions ``[time, query, token]``.
    """
    layout = Layout.of(classes)
    f = layout.unit(np.zeros((layout.queries, len(layout.tokens))))
    unit = layout.dense(f)
    towards = layout.prior @ unit - layout.prior[:, None] * unit  # Σ_{k≠n} P(k) f_k
    across = towards - (unit * towards).sum(axis=1, keepdims=True) * unit
    force = layout.per_query(layout.prior[:, None] * f * np.take_along_axis(across, layout.index, axis=1))
    shape = np.zeros((classes.queries, classes.vocabulary))
    shape[:, layout.tokens] = -decoder_rate * attention_rate / (2 * classes.vocabulary) * force
    z = np.square(times)[:, None, None] * shape
    return xr.DataArray(z, dims=("time", "query", "token"), coords={"time": times}, name="attention")


def conservation(classes: Classes, solution: xr.Dataset) -> xr.Dataset:
    """The conservation law of distinct tokens along a trajectory (Tian et al. 2023, Theorem 3).

    For the distinct tokens l of class n, (e^{−2 z_l(t)} − e^{−2 z_l(0)}) / P(l|n)² is one number (equivalent
    to the theorem, derived). It holds exactly under the closed dynamics, for every force, and only
    approximately under the plain gradient flow.

    Args:
        classes: the classes of the solution.
        solution: of `solve` here, or of `flow.solve`.

    Returns:
        ``invariant`` ``[time, next, token]``, NaN for all but distinct tokens; ``ratio`` ``[time, next]``,
        the invariant of the rarest distinct token over that of the most frequent one (1 where the law holds,
        NaN at t = 0 and for classes with one distinct token; rarest and most frequent by P(l|n) e^{z(0)});
        ``ln_chi`` ``[time, next]``, ln χ of the most frequent one, 2(z(t) − z(0)). If the solution has the
        drive B_n, also the theorem's bounds of ``ln_chi``: ``lower`` 2 f(0)² B_n, which needs that the f of
        that token never falls below its start, and ``upper`` 2 B_n.
    """
    time, query = solution["attention"].values, classes.query
    start = solution["start"].values[query]
    moved = time[:, query] - start
    # The law of a start z(0) is that of a start 0 with P e^{z(0)} in place of P.
    scaled = np.where(classes.distinct, classes.probabilities * np.exp(start), np.nan)
    invariant = measures.invariant(moved, scaled)
    frequent, rare, several = _extremes(scaled)
    rows = np.arange(classes.classes)
    top = invariant[:, rows, frequent]
    defined = several & (np.abs(top) > 0)
    ratio = np.divide(invariant[:, rows, rare], top, out=np.full(top.shape, np.nan), where=defined)
    ln_chi = 2 * moved[:, rows, frequent]
    out = xr.Dataset(
        {
            "invariant": (("time", "next", "token"), invariant),
            "ratio": (("time", "next"), ratio),
            "ln_chi": (("time", "next"), np.where(classes.distinct.any(axis=1), ln_chi, np.nan)),
        },
        coords={"time": solution["time"]},
    )
    if "drive" in solution:
        initial = classes.unit(solution["start"].values)[rows, frequent]
        out["lower"] = 2 * solution["drive"] * xr.DataArray(initial**2, dims="next")
        out["upper"] = 2 * solution["drive"]
    return out


def _extremes(
    scaled: Float[np.ndarray, "next token"],
) -> tuple[Int[np.ndarray, "next"], Int[np.ndarray, "next"], Bool[np.ndarray, "next"]]:
    """The distinct tokens with the most and the least attention at the start, and whether these are two."""
    frequent = np.nan_to_num(scaled, nan=-np.inf).argmax(axis=1)
    rare = np.nan_to_num(scaled, nan=np.inf).argmin(axis=1)
    return frequent, rare, frequent != rare


def fates(classes: Classes, solution: xr.Dataset) -> xr.Dataset:
    """What becomes of each token, and what Theorem 2 and Corollary 2 say (Tian et al. 2023).

    Args:
        classes: the classes of the solution.
        solution: of `solve` here, or of `flow.solve`; its times after 0 are judged.

    Returns:
        Strings ``[query, token]``. ``kind``: "distinct", "common" or "absent" (no class of the query uses
        it). ``seen``, from the signs of ż at all times: "rises", "falls", "still" or "turns". ``expected``:
        "rises" for distinct tokens; "falls" for common tokens of classes with one common token only (the
        proof for one global common token covers them, derived) or under the symmetry of Corollary 2; "still"
        for absent tokens; "" where neither says anything.
    """
    velocity = solution["velocity"].values[solution["time"].values > 0]
    seen = np.full(velocity.shape[1:], "turns", dtype="<U8")
    for fate, holds in (("rises", velocity > 0), ("falls", velocity < 0), ("still", velocity == 0)):
        seen[holds.all(axis=0)] = fate
    kind = np.full(seen.shape, "absent", dtype="<U8")
    expected = np.full(seen.shape, "still", dtype="<U8")
    several = (classes.probabilities[:, classes.common] > 0).sum(axis=1) > 1
    symmetric = _symmetric(classes) and not solution["start"].values.any()
    for query in range(classes.queries):
        mine = classes.query == query
        distinct = classes.distinct[mine].any(axis=0)
        users = mine[:, None] & (classes.probabilities > 0) & classes.common
        common = users.any(axis=0)
        covered = common & (symmetric | ~(users & several[:, None]).any(axis=0))
        kind[query, distinct], kind[query, common] = "distinct", "common"
        expected[query, distinct] = "rises"
        expected[query, common] = ""
        expected[query, covered] = "falls"
    dims = ("query", "token")
    return xr.Dataset({"kind": (dims, kind), "expected": (dims, expected), "seen": (dims, seen)})


def _symmetric(classes: Classes) -> bool:
    """What Corollary 2 asks: one query, common tokens alike in all classes, distinct ones up to order."""
    common = classes.probabilities[:, classes.common]
    distinct = np.sort(np.where(classes.distinct, classes.probabilities, 0), axis=1)
    return classes.queries == 1 and bool(
        np.allclose(common, common[0]) and np.allclose(distinct, distinct[0])
    )
