"""The population gradient flow of the one-layer decoder, for any sequence classes (Tian et al. 2023).

Infinitely long sequences and infinitely many of them, so that the counts are P(·|n) and the gradients of
Lemma 1 become the deterministic flow, with P(n) the prior of the classes and t counted in SGD steps of batch
size 1:

    Ẏ   = η_Y Σ_n P(n) f_n (e_n − α_n)ᵀ
    ż_m = η_Z Σ_{n∈ψ⁻¹(m)} P(n) diag(f_n) (I − f_n f_nᵀ) Y (e_n − α_n).

What is integrated is smaller than Y and Z, and exact. Only rows of tokens that some class uses move; and
from Y = 0 the M − K columns of tokens that are never a label stay equal, so that one column stands for all.
With S contextual tokens the state has S(K + 1) + QS numbers. One evaluation costs about 6 K(K + 1)s
operations, s ≤ S being the tokens of one class, whatever the vocabulary M.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.integrate import solve_ivp
from scipy.sparse import csr_array

from learndyn.core.errors import PlainError
from learndyn.scan_snap.classes import Classes

Update = Literal["gradient", "decorrelated"]

RELATIVE_TOLERANCE = 1e-9
ABSOLUTE_TOLERANCE = 1e-12


class FlowError(PlainError):
    """A flow cannot be integrated as asked; the message says which argument to change."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the numbers of the classes lie once tokens that no class uses are left out.

    Attributes:
        tokens: vocabulary ids of the S contextual tokens.
        index: per class its tokens as positions in `tokens`; short rows are filled up with position 0.
        weights: P(l|n) at `index`, 0 where it is filled up.
        query: ψ(n).
        prior: P(n).
        queries: Q.
    """

    tokens: Int[np.ndarray, "contextual"]
    index: Int[np.ndarray, "next support"]
    weights: Float[np.ndarray, "next support"]
    query: Int[np.ndarray, "next"]
    prior: Float[np.ndarray, "next"]
    queries: int

    @classmethod
    def of(cls, classes: Classes) -> Layout:
        """The layout of some classes."""
        used = classes.probabilities > 0
        tokens = np.flatnonzero(used.any(axis=0))
        sizes = used[:, tokens].sum(axis=1)
        index = np.zeros((classes.classes, sizes.max()), dtype=np.int64)
        weights = np.zeros(index.shape)
        for n, size in enumerate(sizes):
            index[n, :size] = np.flatnonzero(used[n, tokens])
            weights[n, :size] = classes.probabilities[n, tokens[index[n, :size]]]
        return cls(tokens, index, weights, classes.query, np.asarray(classes.prior), classes.queries)

    def unit(self, z: Float[np.ndarray, "query contextual"]) -> Float[np.ndarray, "next support"]:
        """f_n = c_n/‖c_n‖₂ on the tokens of class n, 0 where a row is filled up."""
        logits = z[self.query[:, None], self.index]
        logits = np.where(self.weights > 0, logits, -np.inf)
        weights = self.weights * np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / np.sqrt((weights * weights).sum(axis=1, keepdims=True))

    def dense(self, values: Float[np.ndarray, "next support"]) -> Float[np.ndarray, "next contextual"]:
        """Values on the tokens of each class, written out over all contextual tokens."""
        out = np.zeros((len(self.index), len(self.tokens)))
        np.add.at(out, (np.arange(len(self.index))[:, None], self.index), values)
        return out

    def per_query(self, values: Float[np.ndarray, "next support"]) -> Float[np.ndarray, "query contextual"]:
        """Σ over the classes of each query: what the classes do to the attention logits."""
        width = len(self.tokens)
        flat = (self.query[:, None] * width + self.index).ravel()
        return np.bincount(flat, values.ravel(), self.queries * width).reshape(self.queries, width)


class _Velocity:
    """The right-hand side of the flow as a function of the flat state (Y, moving part of Z)."""

    def __init__(
        self, classes: Classes, decoder_rate: float, attention_rate: float, update: Update, frozen: bool
    ) -> None:
        self.layout = layout = Layout.of(classes)
        self.decoder_rate, self.attention_rate = decoder_rate, 0.0 if frozen else attention_rate
        self.update = update
        self.columns = classes.classes + 1
        self.multiplicity = np.ones(self.columns)
        self.multiplicity[-1] = classes.vocabulary - classes.classes
        self.decoder_shape = (len(layout.tokens), self.columns)
        self.attention_shape = (layout.queries, len(layout.tokens))
        self.own = (np.arange(classes.classes),) * 2
        # F as a sparse matrix (token, class) whose pattern never changes: only its data are replaced.
        used = layout.weights > 0
        pairs = np.stack([layout.index[used], np.nonzero(used)[0]])
        self.order = np.lexsort(pairs[::-1])
        counts = np.bincount(pairs[0], minlength=len(layout.tokens))
        self.used, shape = used, (len(layout.tokens), classes.classes)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.matrix = csr_array((np.zeros(pairs.shape[1]), pairs[1][self.order], starts), shape=shape)

    def split(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The flat state as (Y [contextual, column], Z [query, contextual])."""
        size = self.decoder_shape[0] * self.columns
        return state[:size].reshape(self.decoder_shape), state[size:].reshape(self.attention_shape)

    def residual(
        self, f: np.ndarray, rows: np.ndarray
    ) -> tuple[Float[np.ndarray, "next column"], Float[np.ndarray, "next"]]:
        """e_n − α_n (per column, not times its multiplicity) and the losses −ln α_n(n)."""
        logits = (f[:, None, :] @ rows)[:, 0]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        mine = exponentials[self.own]
        exponentials[self.own] = 0
        # 1 − α as the sum of the others: as a difference it loses all digits once the class is learned.
        others = exponentials @ self.multiplicity
        residual = -exponentials / (mine + others)[:, None]
        residual[self.own] = others / (mine + others)
        with np.errstate(over="ignore", divide="ignore"):
            losses = np.where(mine > 0, np.log1p(others / mine), np.inf)
        return residual, losses

    def decoder(self, f: np.ndarray, residual: np.ndarray) -> Float[np.ndarray, "contextual column"]:
        """Ẏ: the gradient, or Theorem 1's update, in which F(FᵀF)⁻¹ takes the place of F."""
        pull = self.layout.prior[:, None] * residual
        if self.update == "decorrelated":
            unit = self.layout.dense(f)
            pull = np.linalg.solve(unit @ unit.T, pull)
        self.matrix.data = f[self.used][self.order]
        return self.decoder_rate * (self.matrix @ pull)

    def attention(self, f: np.ndarray, rows: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Ż of the moving entries, [query, contextual]."""
        signal = (rows @ (self.multiplicity * residual)[:, :, None])[..., 0]
        centred = signal - (f * signal).sum(axis=1, keepdims=True) * f
        return self.attention_rate * self.layout.per_query(self.layout.prior[:, None] * f * centred)

    def __call__(self, _: float, state: np.ndarray) -> np.ndarray:
        y, z = self.split(state)
        f = self.layout.unit(z)
        rows = y[self.layout.index]
        residual, _losses = self.residual(f, rows)
        velocity = np.empty_like(state)
        dy, dz = self.split(velocity)
        dy[...] = self.decoder(f, residual)
        dz[...] = self.attention(f, rows, residual) if self.attention_rate else 0
        return velocity


def solve(
    classes: Classes,
    times: Float[np.ndarray, "time"],
    *,
    decoder_rate: float,
    attention_rate: float,
    update: Update = "gradient",
    frozen_attention: bool = False,
    attention: Float[np.ndarray, "query token"] | None = None,
    keep_decoder: bool = False,
    relative_tolerance: float = RELATIVE_TOLERANCE,
    absolute_tolerance: float = ABSOLUTE_TOLERANCE,
) -> xr.Dataset:
    """The population gradient flow from Y = 0, by an adaptive Runge–Kutta method of order 8 in float64.

    The flow is not stiff in the sense that matters: curvatures fall as 1/t, so that an explicit method takes
    steps in proportion to t, while an implicit one would need the Jacobian of all S(K + 1) numbers.

    Args:
        classes: the sequence classes.
        times: increasing, from 0 on (`numpy.geomspace` for late times); t counts SGD steps of batch size 1.
        decoder_rate: η_Y.
        attention_rate: η_Z.
        update: "gradient" for the flow itself; "decorrelated" replaces Ẏ by the update that Theorem 1 is
            about, η_Y Σ_n P(n)(f_n − F E' e_n)(e_n − α_n)ᵀ: F(FᵀF)⁻¹ in place of F, at the current Z.
        frozen_attention: whether Z stays where it starts.
        attention: the start of Z; zero if not given.
        keep_decoder: whether the data set holds Y too.
        relative_tolerance: of the integrator.
        absolute_tolerance: of the integrator.

    Returns:
        ``attention`` Z and ``velocity`` Ż ``[time, query, token]``, the ``start`` of Z ``[query, token]``,
        ``loss`` ``[time]`` (mean cross-entropy in nats), ``error`` 1 − α_n(n) ``[time, next]``, and the two
        conserved quantities of Lemma 1, ``decoder_row_sum`` and ``attention_row_sum`` ``[time]``: by how much
        the sum of a row has moved at most. With `keep_decoder` also ``decoder`` ``[time, contextual,
        column]``: the first K columns are the next tokens, the last one is any other token; the ids of the
        contextual tokens are a coordinate.

    Raises:
        FlowError: times that do not increase from 0 on, rates that are not positive, an unknown update, a
            start of the wrong shape, classes that cannot be decorrelated, or an integration that does not
            end.
    """
    check_arguments(times, decoder_rate, attention_rate)
    if update not in get_args(Update):
        raise FlowError(f"update must be one of {', '.join(get_args(Update))}, not {update!r}")
    velocity = _Velocity(classes, decoder_rate, attention_rate, update, frozen_attention)
    start = start_of(classes, attention)[:, velocity.layout.tokens]
    state = np.concatenate([np.zeros(velocity.decoder_shape).ravel(), start.ravel()])
    states, evaluations = integrate(velocity, state, times, relative_tolerance, absolute_tolerance)
    data = _derived(classes, velocity, states, start_of(classes, attention), keep_decoder)
    return data.assign_coords(time=times).assign_attrs(
        decoder_rate=decoder_rate,
        attention_rate=velocity.attention_rate,
        update=update,
        evaluations=evaluations,
        state_size=len(state),
    )


def integrate(
    velocity: Callable[[float, np.ndarray], np.ndarray],
    state: Float[np.ndarray, "state"],
    times: Float[np.ndarray, "time"],
    relative_tolerance: float,
    absolute_tolerance: float,
) -> tuple[Float[np.ndarray, "state time"], int]:
    """The states at these times, from ``state`` at time 0, and how often the velocity was evaluated.

    Raises:
        FlowError: the integrator does not reach the last time, or F has not full rank where its inverse is
            needed.
    """
    if times[-1] == 0:  # SciPy takes no empty span
        return state[:, None], 0
    try:
        solution = solve_ivp(
            velocity,
            (0.0, float(times[-1])),
            state,
            method="DOP853",
            t_eval=times,
            rtol=relative_tolerance,
            atol=absolute_tolerance,
        )
    except np.linalg.LinAlgError:
        raise FlowError(
            "classes with linearly dependent attention cannot be decorrelated; give each a token of its own"
        ) from None
    if not solution.success:
        raise FlowError(f"the flow could not be integrated to t = {times[-1]:.4g}: {solution.message}")
    return solution.y, int(solution.nfev)


def _derived(
    classes: Classes, velocity: _Velocity, states: np.ndarray, start: np.ndarray, keep_decoder: bool
) -> xr.Dataset:
    """What a reader looks at, from the states ``[state, time]`` of the integrator."""
    layout, count = velocity.layout, states.shape[1]
    z = np.repeat(start[None], count, axis=0)
    speed = np.zeros_like(z)
    loss, error = np.empty(count), np.empty((count, classes.classes))
    sums = np.empty((count, 2))
    decoder = np.empty((count if keep_decoder else 0, *velocity.decoder_shape))
    for i in range(count):
        y, moving = velocity.split(np.ascontiguousarray(states[:, i]))
        f, rows = layout.unit(moving), y[layout.index]
        residual, losses = velocity.residual(f, rows)
        loss[i], error[i] = layout.prior @ losses, residual[velocity.own]
        z[i][:, layout.tokens] = moving
        speed[i][:, layout.tokens] = velocity.attention(f, rows, residual)
        sums[i] = np.abs(y @ velocity.multiplicity).max(), np.abs((z[i] - start).sum(axis=1)).max()
        if keep_decoder:
            decoder[i] = y
    data = xr.Dataset(
        {
            "attention": (("time", "query", "token"), z),
            "velocity": (("time", "query", "token"), speed),
            "start": (("query", "token"), start),
            "loss": ("time", loss, {"units": "nats"}),
            "error": (("time", "next"), error),
            "decoder_row_sum": ("time", sums[:, 0]),
            "attention_row_sum": ("time", sums[:, 1]),
        }
    )
    if keep_decoder:
        data["decoder"] = ("time", "contextual", "column"), decoder
        data = data.assign_coords(contextual=layout.tokens)
    return data


def start_of(
    classes: Classes, attention: Float[np.ndarray, "query token"] | None
) -> Float[np.ndarray, "query token"]:
    """The start of Z: zero, or what was given if its shape fits.

    Raises:
        FlowError: another shape, or entries that are not finite.
    """
    shape = (classes.queries, classes.vocabulary)
    if attention is None:
        return np.zeros(shape)
    if attention.shape != shape or not np.isfinite(attention).all():
        raise FlowError(
            f"the start of the attention logits must be finite and of shape {shape} (query, token), "
            f"not {attention.shape}"
        )
    return attention


def check_arguments(times: Float[np.ndarray, "time"], decoder_rate: float, attention_rate: float) -> None:
    """Refuse what no flow can start from.

    Raises:
        FlowError: times that do not increase from 0 on, or rates that are not positive.
    """
    if not (len(times) and np.isfinite(times).all() and times[0] >= 0 and (np.diff(times) > 0).all()):
        raise FlowError("the times of a flow must be finite and increase from 0 on")
    for name, rate in (("decoder_rate", decoder_rate), ("attention_rate", attention_rate)):
        if not (np.isfinite(rate) and rate > 0):
            raise FlowError(f"{name} must be a positive number, not {rate}")
