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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from learndyn.core.errors import PlainError

Update = Literal["gradient", "decorrelated"]
#: Fields of `Equations` with a run axis (the last one).
ARRAYS = ("probability", "number", "classes", "vocabulary", "decoder_rate", "attention_rate")


class SymmetricError(PlainError):
    """Symmetric classes or times that cannot be; the message is one sentence that says what is allowed."""


@dataclass(frozen=True)
class Parameters:
    """One parameter set for each run; build it with `symmetric.parameter_sets` or `symmetric.from_task`.

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

    module: ModuleType  # NumPy or torch
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
            module=np,
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
        part = self.module.zeros_like(self.probability)
        return self.module.concatenate((part, part[self.common :], part))

    def terms(self, state: Any) -> Terms:
        """All parts of the equations at a state."""
        exp, dot, common, groups = self.module.exp, self.dot, self.common, self.groups
        x, y, z = state[:groups], state[groups : 2 * groups - common], state[2 * groups - common :]
        unit = self.probability * exp(z - self.module.amax(z, 0))
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
        plain = not self.decorrelated
        errors = self.gradient_errors if plain else self.decorrelated_errors
        to_common, to_never, to_other = errors(t)
        common, rate = self.common, self.decoder_rate
        shared, distinct = t.unit[:common], t.unit[common:]
        return self.module.concatenate(
            (
                shared * (rate * to_common),
                distinct * (rate * to_never),
                distinct * (rate * to_other),
                self.attention_rate * t.unit * (t.signal - t.unit * t.drift),
            )
        )

    def gradient_errors(self, t: Terms) -> tuple[Any, Any, Any]:
        """What x of common tokens, x and y of distinct ones grow by, over f η_Y/K: the gradient of Y."""
        K, M = self.classes, self.vocabulary
        wrong = (K - 1) * t.other + (M - K) * t.never
        return M * t.never, wrong + t.never, wrong + t.other

    def decorrelated_errors(self, t: Terms) -> tuple[Any, Any, Any]:
        """The same for the update of Tian et al. 2023, Theorem 1."""
        common, K, M = self.common, self.classes, self.vocabulary
        # (I + E)^{-1} with E_nk = f_n·f_k = overlap: the same for all pairs, tokens being common to all.
        overlap = self.dot(t.counted[:common], t.unit[:common])
        own = self.dot(t.counted[common:], t.unit[common:])  # 1 - overlap
        factor = 1 / (1 + (K - 1) * overlap)
        elsewhere = (M - K) * t.never
        wrong = (K - 1) * t.other + elsewhere
        return (
            M * t.never * factor,
            (wrong - overlap * factor * elsewhere) / own + t.never * factor,
            (wrong + t.other) / own,
        )


def observe(
    parameters: Parameters,
    states: Float[np.ndarray, "state time run"],
    axis: str,
    coordinate: Sequence[int] | np.ndarray,
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
    spanned by F (γι and γβ of Theorem 1; of a single class, the overlap that a second one would have, and
    force 0); `attention_speed`, the Frobenius norm of dZ/dt (or of ``velocities``) over all K/r rows; and
    `row_sum` of Z, which is conserved.
    """
    equations, layout = Equations.batch(parameters, axes=2), _layout(parameters)
    t = equations.terms(states)
    velocity = equations.velocity(states, t) if velocities is None else velocities
    per_token = {
        "attention": t.z,
        "attention_weights": _attention_weights(equations, t.z),
        "unit_weights": t.unit,
    }
    per_run = _composition(equations, per_token["attention_weights"]) | _forces(equations, t)
    K, M, r = equations.classes, equations.vocabulary, parameters.next_per_query
    per_run["loss"] = np.log1p((K - 1) * np.exp(-t.gap_other) + (M - K) * np.exp(-t.gap_never))
    rows = equations.number * np.ones_like(K)
    rows[equations.common :] *= r
    per_run["attention_speed"] = np.sqrt(K / r * _dot(rows, velocity[-equations.groups :] ** 2))
    per_run["row_sum"] = _dot(rows, t.z)
    found: dict[str, Any] = {n: (("run", axis, "support"), layout.spread(v)) for n, v in per_token.items()}
    found |= {name: (("run", axis), np.ascontiguousarray(values.T)) for name, values in per_run.items()}
    if keep_decoder:
        columns = [layout.spread(values) for values in _decoder(equations, t)]
        found["decoder"] = (("run", axis, "support", "column"), np.stack(columns, axis=-1))
    return xr.Dataset(found, coords=_coordinates(parameters, axis, coordinate, keep_decoder))


def _attention_weights(equations: Equations, z: np.ndarray) -> np.ndarray:
    """c of each token, by group."""
    weights = equations.probability * np.exp(z - z.max(0))
    return weights / _dot(equations.number, weights)


def _composition(equations: Equations, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Masses of c, and the entropy of its distinct part."""
    number, common = equations.number, equations.common
    mass = _dot(number[common:], weights[common:])
    within = weights[common:] / mass
    return {
        "distinct_entropy": -_dot(number[common:], within * np.log(np.where(within > 0, within, 1.0))),
        "common_mass": _dot(number[:common], weights[:common]),
        "distinct_mass": mass,
    }


def _forces(equations: Equations, t: Terms) -> dict[str, np.ndarray]:
    """Overlap, and the coefficients (I+E)^{-1} F^T g of g = Y(e_n − α_n) in the columns of F."""
    common, K, M = equations.common, equations.classes, equations.vocabulary
    overlap = _dot(t.counted[:common], t.unit[:common])
    own = _dot(t.counted[common:], t.unit[common:])  # 1 - overlap
    # f_k·g for another class k: its distinct tokens have rows of their own.
    elsewhere = (t.x[common:] - t.y) * ((M - K) * t.never) - t.y * t.other
    across = _dot(t.counted[:common], t.signal[:common]) + _dot(t.counted[common:], elsewhere)
    mean = overlap / (1 + (K - 1) * overlap) * (t.drift + (K - 1) * across)
    force = np.where(K > 1, (mean - across) / own, 0.0)  # one class has no other f_k
    return {"overlap": overlap, "signal": (t.drift - mean) / own, "force": force}


def _decoder(equations: Equations, t: Terms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of Y from their contrasts, as they sum to zero: columns own, other and never."""
    common, K = equations.common, equations.classes
    never = np.concatenate([-K * t.x[:common], -(t.y + K * (t.x[common:] - t.y))]) / equations.vocabulary
    own = t.x + never
    return own, np.concatenate([own[:common], own[common:] - t.y]), never


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
    order = np.argsort(-tokens, axis=1, kind="stable")
    falling = np.take_along_axis(tokens, order, axis=1)
    new = np.diff(falling, axis=1, prepend=np.inf) < 0
    rank = np.maximum(np.cumsum(new & (falling > 0), axis=1) - 1, 0)
    index = np.zeros(tokens.shape, int)
    np.put_along_axis(index, order, rank, axis=1)
    size = int(rank.max(initial=-1)) + 1
    probability, number = np.zeros((len(tokens), size)), np.zeros((len(tokens), size))
    row, column = np.nonzero(falling)
    probability[row, rank[row, column]] = falling[row, column]
    np.add.at(number, (row, rank[row, column]), 1)
    return probability.T, number.T, index.T


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
