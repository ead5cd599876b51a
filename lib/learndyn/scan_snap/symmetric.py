"""Gradient flow of symmetric sequence classes, reduced exactly to a few numbers per kind of token.

Setting of Tian et al. (2023), section 2, for infinitely long sequences and Y = Z = 0 at the start: K classes,
`next_per_query` of them behind every query, common tokens with the same probabilities in all classes, and
distinct tokens with the same profile in every class. By symmetry a row of the decoder Y then takes few values
(derived; nothing is approximated): a common token has one value on the K next tokens and one on the M−K other
tokens; a distinct token has one on its own next token, one on the other next tokens and one on the rest.
Rows of Y sum to zero, so only the contrasts count,

    x = own − never (a row's value on its own next token minus that on a token that is never predicted),
    y = own − other (distinct tokens only), and the attention logits z,

and with f = P e^z / |P e^z|, the contrasts of the logits L_own − L_other = f_d·y and L_own − L_never = f·x,
α2 and α3 the probabilities of one other next token and of one token that is never next, and
o = (K−1)α2 + (M−K)α3 = 1 − α1,

    ẋ_c = η_Y/K f_c M α3,    ẋ_d = η_Y/K f_d (o + α3),    ẏ_d = η_Y/K f_d (o + α2),
    ż = η_Z/K [r for common, 1 for distinct] f (g − f (f·g)),    g = (M−K)α3 x + (K−1)α2 [0 for common, y].

Time counts steps of batch size 1, every class with probability 1/K. Tokens of equal probability stay equal
and are kept once. The cost depends on the number of different probabilities, not on K or M.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp

from learndyn.core.errors import PlainError

Update = Literal["gradient", "decorrelated"]
RTOL, ATOL = 1e-9, 1e-12
#: Fields of `Equations` with a run axis (the last one).
ARRAYS = ("probability", "number", "classes", "vocabulary", "decoder_rate", "attention_rate")


class SymmetricError(PlainError):
    """Symmetric classes or times that cannot be; the message is one sentence that says what is allowed."""


@dataclass(frozen=True)
class Parameters:
    """One parameter set for each run; build it with `parameter_sets` or `from_task`.

    ``common`` and ``distinct`` are the probabilities of one class's tokens, padded with zeros on the right.
    ``update`` is the update of the decoder: its gradient, or that of Theorem 1, in which F^T Y decouples.
    """

    classes: Int[np.ndarray, "run"]
    vocabulary: Int[np.ndarray, "run"]
    next_per_query: Int[np.ndarray, "run"]
    common: Float[np.ndarray, "run common"]
    distinct: Float[np.ndarray, "run distinct"]
    decoder_rate: Float[np.ndarray, "run"]
    attention_rate: Float[np.ndarray, "run"]
    update: Update = "gradient"

    @property
    def runs(self) -> int:
        """Length of the run axis."""
        return len(self.classes)

    def select(self, runs: Sequence[int] | slice | np.ndarray) -> Parameters:
        """The same with only these runs."""
        names = ("classes", "vocabulary", "next_per_query", "common", "distinct")
        names += ("decoder_rate", "attention_rate")
        return replace(self, **{name: getattr(self, name)[runs] for name in names})


def parameter_sets(
    *,
    classes: ArrayLike,
    vocabulary: ArrayLike,
    common: Any,
    distinct: Any,
    next_per_query: ArrayLike = 1,
    decoder_rate: ArrayLike = 1.0,
    attention_rate: ArrayLike = 1.0,
    update: Update = "gradient",
) -> Parameters:
    """Parameter sets from numbers or sequences of numbers, one for each run (or one for all).

    ``common`` and ``distinct`` are weights of the tokens of one class (normalised here to probabilities): a
    sequence of numbers for all runs, or one sequence for each run, of any lengths. ``attention_rate`` 0
    freezes the attention.

    Raises:
        SymmetricError: lengths that do not match, a `next_per_query` that does not divide the classes, a
            vocabulary with fewer tokens than the classes use, weights or rates that are not positive.
    """
    given = {
        "classes": _whole("classes", classes),
        "vocabulary": _whole("vocabulary", vocabulary),
        "next_per_query": _whole("next_per_query", next_per_query),
        "decoder_rate": np.atleast_1d(np.asarray(decoder_rate, float)),
        "attention_rate": np.atleast_1d(np.asarray(attention_rate, float)),
        "common": _weights("common", common),
        "distinct": _weights("distinct", distinct),
    }
    runs = max(len(value) for value in given.values())
    for name, value in given.items():
        if len(value) not in (1, runs):
            raise SymmetricError(
                f"{name} has {len(value)} values for {runs} runs; give one, or one for each run"
            )
        given[name] = np.repeat(value, runs, axis=0) if len(value) != runs else value
    total = (given["common"].sum(1) + given["distinct"].sum(1))[:, None]
    found = Parameters(
        **given | {"common": given["common"] / total, "distinct": given["distinct"] / total}, update=update
    )
    _check(found)
    return found


def from_task(
    task: Any,
    *,
    decoder_rate: ArrayLike = 1.0,
    attention_rate: ArrayLike = 1.0,
    update: Update = "gradient",
) -> Parameters:
    """The parameter sets of one `task.TaskConfig`, or of a sequence of them (one for each run).

    Raises:
        SymmetricError: tokens that are common to one query's classes only, with several queries: such
            classes are not symmetric.
    """
    tasks = list(task) if isinstance(task, Sequence) else [task]
    for one in tasks:
        if one.common_per_query and one.queries > 1:
            raise SymmetricError(
                f"common_per_query = {one.common_per_query} with {one.queries} queries: the symmetric "
                "reduction needs common tokens that all classes share; use common_per_query = 0"
            )
    shared = [one.common + one.common_per_query for one in tasks]
    probabilities = [np.asarray(one.probabilities, float) for one in tasks]
    return parameter_sets(
        classes=[one.classes for one in tasks],
        vocabulary=[one.vocabulary for one in tasks],
        next_per_query=[one.next_per_query for one in tasks],
        common=[p[:n] for p, n in zip(probabilities, shared, strict=True)],
        distinct=[p[n:] for p, n in zip(probabilities, shared, strict=True)],
        decoder_rate=decoder_rate,
        attention_rate=attention_rate,
        update=update,
    )


def common_weight(overlap: ArrayLike, distinct: Sequence[float], common: int = 1) -> np.ndarray:
    """Weight of each of `common` equal common tokens that gives this overlap f_n·f_k at z = 0 (derived).

    f_n·f_k = Σ P_c² / (Σ P_c² + Σ P_d²).
    """
    overlap = np.asarray(overlap, float)
    return np.sqrt(overlap / (1 - overlap) * np.square(distinct).sum() / common)


def solve(
    parameters: Parameters,
    times: Float[np.ndarray, "time"] | Sequence[float],
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
    keep_decoder: bool = False,
) -> xr.Dataset:
    """The flow of ONE parameter set at these times (LSODA in log time, SciPy), in milliseconds.

    Returns the dataset that `observe` describes, without its axis `run`. For many sets: `solve_many`.

    Raises:
        SymmetricError: more than one run, or times that are not increasing numbers from 0 on.
    """
    if parameters.runs != 1:
        raise SymmetricError(f"solve takes one run, not {parameters.runs}; use solve_many")
    times = checked_times(times)
    equations = Equations.single(parameters)
    scale = float(equations.time_scale)

    def velocity(u: float, state: np.ndarray) -> np.ndarray:
        return equations.velocity(state) * (scale * math.exp(u))

    settings = {"rtol": rtol, "atol": atol, "first_step": 1e-4}

    u = np.log1p(times / scale)
    states = np.zeros((len(equations.start()), len(times)))
    later = u > 0
    if later.any():
        found = solve_ivp(velocity, (0.0, u[-1]), equations.start(), "LSODA", u[later], **settings)
        if not found.success:
            raise SymmetricError(f"the flow was not solved: {found.message}")
        states[:, later] = found.y
    return observe(parameters, states[:, :, None], "time", times, keep_decoder=keep_decoder).isel(run=0)


class Terms(NamedTuple):
    """What the equations are made of; arrays "group …" or "…" (one number for each run)."""

    x: Any
    y: Any
    z: Any
    unit: Any  # f
    counted: Any  # f times the number of tokens
    gap_other: Any  # L_own - L_other
    gap_never: Any  # L_own - L_never
    other: Any  # probability of one other next token
    never: Any  # probability of one token that is never next
    signal: Any  # g, on the tokens of the class
    drift: Any  # f·g


class Equations(NamedTuple):
    """The right-hand side, for NumPy and for torch; the last axes are those of the constants (none, or run).

    A group is a set of tokens of equal probability; the first `common` groups are common tokens. The state
    is the contrasts x (all groups), y (groups of distinct tokens) and the logits z (all groups), in a row.
    """

    library: ModuleType
    common: int
    groups: int
    probability: Any  # "group …", of one token
    number: Any  # "group …", of tokens
    classes: Any
    vocabulary: Any
    decoder_rate: Any  # divided by K
    attention_rate: Any  # "group …", divided by K, times next_per_query for common tokens
    decorrelated: bool
    dot: Any

    @classmethod
    def batch(cls, parameters: Parameters, axes: int = 1) -> Equations:
        """For NumPy arrays with axes [group, …, run]; `axes` counts those after the first."""
        p = parameters
        layout = _layout(p)
        spread = (slice(None),) + (None,) * (axes - 1)
        classes = p.classes.astype(float)
        factor = np.ones(layout.probability.shape)
        factor[: layout.common] = p.next_per_query
        return cls(
            library=np,
            common=layout.common,
            groups=len(layout.probability),
            probability=layout.probability[spread],
            number=layout.number[spread],
            classes=classes,
            vocabulary=p.vocabulary.astype(float),
            decoder_rate=p.decoder_rate / classes,
            attention_rate=(factor * p.attention_rate / classes)[spread],
            decorrelated=p.update == "decorrelated",
            dot=_dot,
        )

    @classmethod
    def single(cls, parameters: Parameters) -> Equations:
        """For vectors of one run, with plain numbers where there is one number for each run."""
        batch = cls.batch(parameters)
        return batch._replace(
            **{name: getattr(batch, name)[:, 0] for name in ("probability", "number", "attention_rate")},
            **{name: float(getattr(batch, name)[0]) for name in ("classes", "vocabulary", "decoder_rate")},
            dot=np.dot,
        )

    @property
    def time_scale(self) -> Any:
        """K/η_Y: the decoder moves linearly in t before, logarithmically after a few of these."""
        return 1 / self.decoder_rate

    def start(self) -> Any:
        """The state Y = Z = 0."""
        part = self.library.zeros_like(self.probability)
        return self.library.concatenate((part, part[self.common :], part))

    def terms(self, state: Any) -> Terms:
        """All parts of the equations at a state."""
        exp, dot, common, groups = self.library.exp, self.dot, self.common, self.groups
        x, y, z = state[:groups], state[groups : 2 * groups - common], state[2 * groups - common :]
        unit = self.probability * exp(z - self.library.amax(z, 0))
        counted = self.number * unit
        norm = dot(counted, unit) ** 0.5
        unit, counted = unit / norm, counted / norm
        # Both gaps are >= 0 from zero start (their parts only grow), so that nothing overflows.
        gap_other, gap_never = dot(counted[common:], y), dot(counted, x)
        other, never = exp(-gap_other), exp(-gap_never)
        total = 1 + (self.classes - 1) * other + (self.vocabulary - self.classes) * never
        other, never = other / total, never / total
        signal = ((self.vocabulary - self.classes) * never) * x
        signal[common:] += ((self.classes - 1) * other) * y
        return Terms(x, y, z, unit, counted, gap_other, gap_never, other, never, signal, dot(counted, signal))

    def velocity(self, state: Any, terms: Terms | None = None) -> Any:
        """Time derivative of the state."""
        t = self.terms(state) if terms is None else terms
        common, rate, K, M = self.common, self.decoder_rate, self.classes, self.vocabulary
        elsewhere = (M - K) * t.never
        wrong = (K - 1) * t.other + elsewhere
        to_common, to_never, to_other = M * t.never, wrong + t.never, wrong + t.other
        if self.decorrelated:
            # (I + E)^{-1} with E_nk = f_n·f_k = overlap: the same for all pairs, tokens being common to all.
            overlap = self.dot(t.counted[:common], t.unit[:common])
            own = self.dot(t.counted[common:], t.unit[common:])  # 1 - overlap
            shared = 1 / (1 + (K - 1) * overlap)
            to_common = to_common * shared
            to_never = (wrong - overlap * shared * elsewhere) / own + t.never * shared
            to_other = to_other / own
        distinct = t.unit[common:]
        return self.library.concatenate(
            (
                t.unit[:common] * (rate * to_common),
                distinct * (rate * to_never),
                distinct * (rate * to_other),
                self.attention_rate * t.unit * (t.signal - t.unit * t.drift),
            )
        )


def observe(
    parameters: Parameters,
    states: Float[np.ndarray, "state time run"],
    axis: str,
    coordinate: Sequence[float] | np.ndarray,
    *,
    velocities: Float[np.ndarray, "state time run"] | None = None,
    keep_decoder: bool = False,
) -> xr.Dataset:
    """What the states mean, by run and ``axis`` (`time` or `step`).

    Per token of the class (axis `support`, common tokens first; coordinate `kind`; padding has probability,
    logit and weight 0): `attention` (z), `attention_weights` (c), `unit_weights` (f), and `decoder` if asked
    (axis `column`: its own next token, another, one never predicted; common tokens have no own next token
    and repeat `other`). Per run: `loss`; `distinct_entropy` (nats), `common_mass` and `distinct_mass` of c;
    `overlap` f_n·f_k; `signal` and `force`, the coefficients of f_n and −f_k in the part of Y(e_n − α_n)
    spanned by F (γι and γβ of Theorem 1); `attention_speed`, the Frobenius norm of dZ/dt (or of
    ``velocities``) over all K/r rows; and `row_sum` of Z, which is conserved.
    """
    p = parameters
    equations, layout = Equations.batch(p, axes=2), _layout(p)
    t = equations.terms(states)
    velocity = equations.velocity(states, t) if velocities is None else velocities
    weights = equations.probability * np.exp(t.z - t.z.max(0))
    weights = weights / _dot(equations.number, weights)
    common = equations.common
    number_common, number_distinct = equations.number[:common], equations.number[common:]
    mass = _dot(number_distinct, weights[common:])
    within = weights[common:] / mass
    K, M, r = equations.classes, equations.vocabulary, p.next_per_query
    overlap = _dot(t.counted[:common], t.unit[:common])
    own, shared = _dot(t.counted[common:], t.unit[common:]), 1 / (1 + (K - 1) * overlap)
    elsewhere = (M - K) * t.never
    across = _dot(t.counted[:common], t.signal[:common]) + _dot(
        t.counted[common:], (t.x[common:] - t.y) * elsewhere - t.y * t.other
    )
    mean = overlap * shared * (t.drift + (K - 1) * across)
    speed = velocity[-equations.groups :]
    rows = np.concatenate([number_common, number_distinct * r])

    def table(values: np.ndarray) -> tuple[tuple[str, str], np.ndarray]:
        return ("run", axis), np.ascontiguousarray(values.T)

    def tokens(values: np.ndarray) -> tuple[tuple[str, str, str], np.ndarray]:
        return ("run", axis, "support"), layout.spread(values)

    found = {
        "attention": tokens(t.z),
        "attention_weights": tokens(weights),
        "unit_weights": tokens(t.unit),
        "loss": table(np.log1p((K - 1) * np.exp(-t.gap_other) + (M - K) * np.exp(-t.gap_never))),
        "distinct_entropy": table(-_dot(number_distinct, _xlogx(within))),
        "common_mass": table(_dot(number_common, weights[:common])),
        "distinct_mass": table(mass),
        "overlap": table(overlap),
        "signal": table((t.drift - mean) / own),
        "force": table((mean - across) / own),
        "attention_speed": table(np.sqrt(K / r * _dot(rows, speed**2))),
        "row_sum": table(_dot(rows, t.z)),
    }
    if keep_decoder:
        never = np.concatenate([-K * t.x[:common], -(t.y + K * (t.x[common:] - t.y))]) / M
        own_label = t.x + never
        other = np.concatenate([own_label[:common], own_label[common:] - t.y])
        values = np.stack([layout.spread(v) for v in (own_label, other, never)], axis=-1)
        found["decoder"] = (("run", axis, "support", "column"), values)
    return xr.Dataset(found, coords=_coordinates(p, axis, coordinate, keep_decoder))


def checked_times(times: Any) -> np.ndarray:
    """Times as an array of increasing numbers from 0 on.

    Raises:
        SymmetricError: otherwise.
    """
    found = np.atleast_1d(np.asarray(times, float))
    good = found.ndim == 1 and len(found) and np.isfinite(found).all() and found[0] >= 0
    if not good or (np.diff(found) <= 0).any():
        raise SymmetricError("times must be increasing numbers, the first of them not below 0")
    return found


class _Layout(NamedTuple):
    common: int
    probability: np.ndarray  # [group, run]
    number: np.ndarray  # [group, run]
    index: np.ndarray  # [support, run], group of each token
    present: np.ndarray  # [support, run]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """From [group, time, run] to [run, time, support], padding 0."""
        found = np.take_along_axis(values, self.index[:, None, :], axis=0) * self.present[:, None, :]
        return np.ascontiguousarray(found.T)


def _layout(parameters: Parameters) -> _Layout:
    """Groups of equal probability, common tokens first, padded to the same number in all runs."""
    parts = [_groups(parameters.common), _groups(parameters.distinct)]
    common = parts[0][0].shape[0]
    index = np.concatenate([parts[0][2], parts[1][2] + common])
    present = np.concatenate([parameters.common.T, parameters.distinct.T]) > 0
    probability, number = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return _Layout(common, probability, number, index, present)


def _groups(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different values in each row: values and how often [group, run], index of each [token, run]."""
    if not tokens.shape[1]:
        return np.zeros((0, len(tokens))), np.zeros((0, len(tokens))), np.zeros((0, len(tokens)), int)
    rows, which = np.unique(tokens, axis=0, return_inverse=True)
    which = which.reshape(-1)
    found = [np.unique(row[row > 0], return_inverse=True, return_counts=True) for row in rows]
    size = max(len(values) for values, _, _ in found)
    probability, number = np.zeros((len(rows), size)), np.zeros((len(rows), size))
    index = np.zeros(rows.shape, int)
    for i, (values, inverse, counts) in enumerate(found):
        probability[i, : len(values)], number[i, : len(values)] = values, counts
        index[i, rows[i] > 0] = inverse.reshape(-1)
    return probability[which].T, number[which].T, index[which].T


def _coordinates(p: Parameters, axis: str, coordinate: Any, columns: bool) -> dict[str, Any]:
    found = {
        name: ("run", getattr(p, name))
        for name in ("classes", "vocabulary", "next_per_query", "decoder_rate", "attention_rate")
    }
    kinds = ["common"] * p.common.shape[1] + ["distinct"] * p.distinct.shape[1]
    probabilities = np.concatenate([p.common, p.distinct], axis=1)
    found |= {axis: coordinate, "kind": ("support", kinds)}
    found["probability"] = (("run", "support"), probabilities)
    return found | ({"column": ["own", "other", "never"]} if columns else {})


def _dot(a: Any, b: Any) -> Any:
    return (a * b).sum(0)


def _xlogx(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1.0))


def _whole(name: str, values: ArrayLike) -> np.ndarray:
    found = np.atleast_1d(np.asarray(values))
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise SymmetricError(f"{name} must be a whole number, or one for each run, not {values!r}")
    return found.astype(np.int64)


def _weights(name: str, values: Any) -> np.ndarray:
    """One row of weights for each run, or one for all; shorter rows are padded with zeros."""
    rows = [values] if len(values) == 0 or np.ndim(values[0]) == 0 else list(values)
    rows = [np.asarray(row, float) for row in rows]
    if any(row.ndim != 1 or not np.isfinite(row).all() or (row < 0).any() for row in rows):
        raise SymmetricError(f"{name} must hold weights that are not negative")
    found = np.zeros((len(rows), max(len(row) for row in rows)))
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found


def _check(p: Parameters) -> None:
    def first(bad: np.ndarray) -> int | None:
        return int(np.flatnonzero(bad)[0]) if bad.any() else None

    if p.update not in ("gradient", "decorrelated"):
        raise SymmetricError(f"update must be 'gradient' or 'decorrelated', not {p.update!r}")
    if (i := first((p.classes < 1) | (p.next_per_query < 1))) is not None:
        raise SymmetricError(f"classes and next_per_query must be at least 1 (run {i})")
    if (i := first(p.classes % p.next_per_query != 0)) is not None:
        raise SymmetricError(
            f"next_per_query = {p.next_per_query[i]} does not divide the {p.classes[i]} classes (run {i})"
        )
    if (i := first(~np.isfinite(p.decoder_rate) | (p.decoder_rate <= 0))) is not None:
        raise SymmetricError(f"decoder_rate must be positive, not {p.decoder_rate[i]} (run {i})")
    if (i := first(~np.isfinite(p.attention_rate) | (p.attention_rate < 0))) is not None:
        raise SymmetricError(f"attention_rate must not be negative, but is {p.attention_rate[i]} (run {i})")
    if (i := first(~(p.distinct.sum(1) > 0))) is not None:
        raise SymmetricError(f"each class needs at least one distinct token of positive weight (run {i})")
    needed = (p.common > 0).sum(1) + p.classes * (p.distinct > 0).sum(1)
    if (i := first(p.vocabulary < needed)) is not None:
        raise SymmetricError(
            f"the vocabulary of {p.vocabulary[i]} tokens is smaller than the {needed[i]} contextual tokens "
            f"that the {p.classes[i]} classes use (run {i})"
        )
