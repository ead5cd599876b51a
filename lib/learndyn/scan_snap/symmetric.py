"""Exact gradient flow of symmetric sequence classes: one trajectory in milliseconds.

Infinitely long sequences of Tian et al. (2023) whose classes look alike; the equations, and what the results
hold, are in `symmetric_equations`. For many parameter sets, and for training with momentum, see
`symmetric_batch`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.integrate import solve_ivp

from learndyn.scan_snap.symmetric_equations import Equations, Parameters, SymmetricError, Update, observe

RTOL, ATOL = 1e-9, 1e-12
#: One number, or one for each run.
Numbers = int | float | np.number | Sequence[int | float | np.number] | np.ndarray


def parameter_sets(
    *,
    classes: Numbers,
    vocabulary: Numbers,
    common: Any,
    distinct: Any,
    next_per_query: Numbers = 1,
    decoder_rate: Numbers = 1.0,
    attention_rate: Numbers = 1.0,
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
    total[total == 0] = 1  # refused below
    found = Parameters(
        **given | {"common": given["common"] / total, "distinct": given["distinct"] / total}, update=update
    )
    _check(found)
    return found


def from_task(
    task: Any,
    *,
    decoder_rate: Numbers = 1.0,
    attention_rate: Numbers = 1.0,
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


def common_weight(
    overlap: Numbers, distinct: Sequence[float | int] | np.ndarray, common: int = 1
) -> np.ndarray:
    """Weight of each of `common` equal common tokens that gives this overlap f_n·f_k at z = 0 (derived).

    f_n·f_k = Σ P_c² / (Σ P_c² + Σ P_d²).

    Raises:
        SymmetricError: an overlap outside of 0 ≤ f_n·f_k < 1.
    """
    overlap = np.asarray(overlap, float)
    if not ((overlap >= 0) & (overlap < 1)).all():
        raise SymmetricError("the overlap of two classes must be at least 0 and below 1")
    return np.asarray(np.sqrt(overlap / (1 - overlap) * np.square(distinct).sum() / common))


def solve(
    parameters: Parameters,
    times: Float[np.ndarray, "time"] | Sequence[float | int],
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
    keep_decoder: bool = False,
) -> xr.Dataset:
    """The flow of ONE parameter set at these times (LSODA in log time, SciPy), in milliseconds.

    Returns the dataset that `symmetric_equations.observe` describes, without its axis `run`. For many sets:
    `symmetric_batch.solve_many`.

    Raises:
        SymmetricError: more than one run, or times that are not increasing numbers from 0 on.
    """
    if parameters.runs != 1:
        raise SymmetricError(f"solve takes one run, not {parameters.runs}; use symmetric_batch.solve_many")
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


def _whole(name: str, values: Numbers) -> np.ndarray:
    found = np.atleast_1d(np.asarray(values))
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise SymmetricError(f"{name} must be a whole number, or one for each run, not {values!r}")
    return found.astype(np.int64)


def _weights(name: str, values: Any) -> np.ndarray:
    """One row of weights for each run, or one for all; shorter rows are padded with zeros."""
    if np.isscalar(values):
        raise SymmetricError(f"{name} must be a list of weights, or one list for each run, not {values!r}")
    rows = [values] if len(values) == 0 or np.ndim(values[0]) == 0 else list(values)
    rows = [np.asarray(row, float) for row in rows]
    if any(row.ndim != 1 or not np.isfinite(row).all() or (row < 0).any() for row in rows):
        raise SymmetricError(f"{name} must hold weights that are finite and not negative")
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
