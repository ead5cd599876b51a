"""The rungs of the notebook "The theory ladder" on one time axis (single steps: `experiments_ladder_steps`).

All rungs share the time t of Tian et al. 2023, steps of batch size 1 with the factor 1/K for each class. One
iteration with a batch mean moves the expected parameters as one such step does, and momentum μ multiplies
that by 1/(1−μ) once the velocity has built up, so that iteration s stands at t = s/(1−μ).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from learndyn.scan_snap import (
    attention_ode,
    decoder,
    measures,
    one_common_token,
    symmetric,
    symmetric_batch,
)
from learndyn.scan_snap.classes import Classes, assumption2, decorrelation
from learndyn.scan_snap.symmetric_equations import Parameters
from learndyn.scan_snap.task import TaskConfig


class Rung(NamedTuple):
    """One rung: its name, the one it is compared with, and what is given up between them."""

    name: str
    above: str
    given_up: str


FLOW, DECORRELATED = "gradient flow", "decorrelated flow"
LEMMA4, THEOREM4 = "Lemma 4", "Theorem 4"
MEAN_FIELD, NO_MOMENTUM, OWN_FORCE = "mean field", "mean field, no momentum", "Lemma 4, gradient's force"


def training_name(length: int) -> str:
    """The name of the rung that is trained on sequences of this length."""
    return f"SGD, T = {length}"


def rungs(lengths: Sequence[int]) -> list[Rung]:
    """The ladder from top to bottom, with two side steps below the flow."""
    trained = [
        Rung(training_name(b), training_name(a), "short sequences") for a, b in itertools.pairwise(lengths)
    ]
    return [
        Rung(training_name(lengths[0]), "", ""),
        *trained,
        Rung(MEAN_FIELD, training_name(lengths[-1]), "finite T, finite batches"),
        Rung(FLOW, MEAN_FIELD, "momentum, finite steps"),
        Rung(NO_MOMENTUM, FLOW, "side step: finite steps alone"),
        Rung(OWN_FORCE, FLOW, "side step: gradient's force in Lemma 4"),
        Rung(DECORRELATED, FLOW, "the gradient of Y"),
        Rung(LEMMA4, DECORRELATED, "the decoder's memory; 1/M in β"),
        Rung(THEOREM4, LEMMA4, "changing norms"),
    ]


def moments(steps: Sequence[int] | Int[np.ndarray, "step"], momentum: float) -> Float[np.ndarray, "step"]:
    """The times t = s/(1−momentum) of some iterations, rounded so that equal ones are equal numbers."""
    return np.round(np.asarray(steps) / (1 - momentum), 9)


# ---------------------------------------------------------------- the rungs


def of_logits(task: TaskConfig, z: xr.DataArray) -> xr.Dataset:
    """What is compared, from logits with dimensions ``query`` and ``token``; the others stay.

    ``common``: mean logit of the common tokens; ``top`` and ``rare``: those of each class's most frequent and
    rarest distinct token, mean over classes; ``entropy``: the distinct entropy.
    """
    found = z.transpose(..., "query", "token")
    values = measures.attention_weights(task, found.to_numpy())
    logits = found.to_numpy()[..., task.query_of[:, None], task.support_tokens].astype(float)
    dims, first = found.dims[:-2], task.distinct_support.start
    top, rare = _extremes(task)
    return xr.Dataset(
        {
            "common": (dims, logits[..., :first].mean((-2, -1))),
            "top": (dims, logits[..., top].mean(-1)),
            "rare": (dims, logits[..., rare].mean(-1)),
            "entropy": (dims, measures.distinct_entropy(task, values).mean(-1)),
        },
        coords={name: found[name] for name in dims if name in found.coords},
    )


def of_symmetric(task: TaskConfig, solution: xr.Dataset) -> xr.Dataset:
    """The same from a dataset of the symmetric reduction, whose first tokens are the common ones."""
    top, rare = _extremes(task)
    first, logits = task.distinct_support.start, solution["attention"]
    return xr.Dataset(
        {
            "common": logits.isel(support=slice(0, first)).mean("support"),
            "top": logits.isel(support=top, drop=True),
            "rare": logits.isel(support=rare, drop=True),
            "entropy": solution["distinct_entropy"],
        }
    ).reset_coords(drop=True)


def _extremes(task: TaskConfig) -> tuple[int, int]:
    """The most frequent and the rarest distinct token, as places on ``support``."""
    first = task.distinct_support.start
    return first + int(np.argmax(task.weights[first:])), first + int(np.argmin(task.weights[first:]))


def trained_rungs(run: xr.Dataset, tasks: Sequence[TaskConfig], momentum: float) -> dict[str, xr.Dataset]:
    """Rungs from a training: mean over its seeds, with ``spread`` (of ``common``), by t = s/(1−momentum)."""
    found = {}
    for place, task in enumerate(tasks):
        z = run["attention"].isel(run=run["task"].values == place)
        z = z.isel(query=slice(0, task.queries), token=slice(0, task.vocabulary))
        each = of_logits(task, z)
        mean = each.mean("run")
        mean["spread"] = each["common"].std("run")
        mean = mean.assign_coords(snapshot=moments(run["snapshot"].values, momentum))
        found[training_name(task.sequence_length)] = mean.rename(snapshot="time").reset_coords(drop=True)
    return found


def mean_field(
    task: TaskConfig, decoder_rate: float, attention_rate: float, momentum: float, steps: Sequence[int]
) -> xr.Dataset:
    """Infinitely long sequences and infinite batches, trained with momentum; by t = s/(1−momentum)."""
    sets = symmetric.from_task(task, decoder_rate=decoder_rate, attention_rate=attention_rate)
    kept = list(steps)
    run = symmetric_batch.heavy_ball(sets, momentum=momentum, steps=kept[-1], snapshot_steps=kept)
    found = of_symmetric(task, run.isel(run=0)).rename(step="time")
    return found.assign_coords(time=moments(kept, momentum))


def closed_form_constant(task: TaskConfig) -> float:
    """C₀ = K N_c/(r (K−1) ρ₀²) for N_c equal common tokens and r classes to a query (derived).

    With one common token and one query it is `one_common_token.constant_from_overlap`; that is all that
    Theorem 4 covers.
    """
    weights = task.probabilities
    shared = int(task.distinct_support.start)
    overlap = float((weights[:shared] ** 2).sum() / (weights**2).sum())
    single = one_common_token.constant_from_overlap(task.classes, overlap)
    return float(single * task.classes * shared / task.next_per_query)


def theory_rungs(
    task: TaskConfig,
    classes: Classes,
    decoder_rate: float,
    attention_rate: float,
    times: Float[np.ndarray, "time"],
) -> dict[str, xr.Dataset]:
    """Gradient flow, decorrelated flow, Lemma 4 (and with the gradient's force), Theorem 4 at these times."""
    rates = {"decoder_rate": decoder_rate, "attention_rate": attention_rate}
    found = {}
    for name, update in ((FLOW, "gradient"), (DECORRELATED, "decorrelated")):
        sets = symmetric.from_task(task, update=update, **rates)
        found[name] = of_symmetric(task, symmetric.solve(sets, times))
    for name, force in ((LEMMA4, "theorem"), (OWN_FORCE, "gradient")):
        solution = attention_ode.solve(classes, times, force=force, **rates)
        found[name] = of_logits(task, solution["attention"])
    integral = one_common_token.gamma_integral(
        times, task.vocabulary, decoder_rate, attention_rate, task.classes
    )
    fallen = -one_common_token.growth(integral, closed_form_constant(task))
    found[THEOREM4] = xr.Dataset({"common": ("time", fallen)}, coords={"time": times})
    return found


def together(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Rungs along a dimension ``rung``; what is not known at a time is NaN."""
    return xr.concat(list(found.values()), pd.Index(list(found), name="rung"), join="outer")


def end_ratio(found: xr.Dataset) -> float:
    """Lemma 4 over the gradient flow: the common token's logits at the last time."""
    last = found["common"].isel(time=-1)
    return float(last.sel(rung=LEMMA4) / last.sel(rung=FLOW))


def ladder(
    task: TaskConfig,
    classes: Classes,
    trained: Mapping[str, xr.Dataset],
    *,
    decoder_rate: float,
    attention_rate: float,
    momentum: float,
    points: int = 60,
) -> xr.Dataset:
    """All rungs of one regime on one time axis: what is not known at a time is NaN.

    Args:
        task: with any length of sequences.
        classes: the classes of the task.
        trained: of `trained_rungs`, all at the same times.
        points: times of the theory between those of the training, evenly in ln t.

    Returns:
        ``common``, ``top``, ``rare``, ``entropy`` ``[rung, time]`` and ``spread`` (over seeds); Theorem 4 has
        ``common`` only.
    """
    reached = next(iter(trained.values()))["time"].values
    steps = np.rint(reached * (1 - momentum)).astype(int).tolist()
    plain = sorted({math.floor(moment) for moment in reached.tolist()})
    grid = np.geomspace(0.1, 0.99 * reached[-1], points)
    times = np.unique(np.concatenate([[0.0], grid, reached, plain]))
    found = dict(trained)
    found[MEAN_FIELD] = mean_field(task, decoder_rate, attention_rate, momentum, steps)
    found[NO_MOMENTUM] = mean_field(task, decoder_rate, attention_rate, 0.0, plain)
    found |= theory_rungs(task, classes, decoder_rate, attention_rate, times)
    return together(found).assign_attrs(decoder_rate=decoder_rate, attention_rate=attention_rate)


def step_table(found: xr.Dataset, ladder_rungs: Sequence[Rung]) -> pd.DataFrame:
    """How far each rung is from the one above it.

    ``ratio``: of the common token's logits at the end; ``gap``: their largest distance at any time, as a part
    of the larger of the two ends; NaN for the first rung.
    """
    rows = []
    for rung in ladder_rungs:
        mine = found["common"].sel(rung=rung.name).dropna("time")
        at_end = found.sel(rung=rung.name, time=mine["time"][-1])
        row = {"rung": rung.name, "given_up": rung.given_up, "common": -float(mine[-1])}
        row |= {name: float(at_end[name]) for name in ("top", "rare", "entropy")}
        row |= {"above": rung.above, "ratio": math.nan, "gap": math.nan}
        if rung.above:
            a, b = xr.align(mine, found["common"].sel(rung=rung.above).dropna("time"), join="inner")
            scale = max(abs(float(a[-1])), abs(float(b[-1])))
            row |= {"ratio": float(a[-1] / b[-1]), "gap": float(np.abs(a - b).max()) / scale}
        rows.append(row)
    return pd.DataFrame(rows)


def length_excess(found: xr.Dataset, lengths: Sequence[int]) -> dict[int, float]:
    """By how much the common token falls farther at each length of sequences than in the mean field."""
    last = found["common"].isel(time=-1)
    limit = float(last.sel(rung=MEAN_FIELD))
    return {length: limit - float(last.sel(rung=training_name(length))) for length in lengths}


def regimes(tasks: Mapping[str, Classes]) -> pd.DataFrame:
    """What Assumption 2 asks and what holds, a row for each set of classes."""
    rows = []
    for name, classes in tasks.items():
        asked = assumption2(classes)
        rows.append({"regime": name, "classes": classes.classes, "vocabulary": classes.vocabulary} | asked)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- beside the ladder


def decoder_limit(sets: Parameters, classes: Classes, ratios: Sequence[float], end: float) -> pd.DataFrame:
    """Lemma 4 over the decorrelated flow, as the decoder gets faster: the common token's logit at time `end`.

    Args:
        sets: one parameter set of the reduction, with a common token first; its η_Y is kept.
        classes: the same classes.
        ratios: η_Y/η_Z.
        end: the time.

    Returns:
        A row for each ratio: ``rate_ratio``, ``joint`` (−z of the decorrelated flow), ``printed`` and
        ``exact`` (Lemma 4 with E', and with Theorem 1's β, over it), ``start`` (E'/β of uniform attention).
    """
    rate, rows = float(sets.decoder_rate[0]), []
    overlaps = classes.overlaps(np.zeros((classes.queries, classes.vocabulary)))
    beta = decoder.signal_coefficients(overlaps, classes.vocabulary)[1]
    start = float(decorrelation(overlaps)[0, 1] / beta[0, 1])
    for ratio in ratios:
        slow = replace(sets, attention_rate=np.array([rate / ratio]), update="decorrelated")
        joint = float(symmetric.solve(slow, np.array([0.0, end]))["attention"][-1, 0])
        rates = {"decoder_rate": rate, "attention_rate": rate / ratio}
        row = {"rate_ratio": ratio, "joint": -joint}
        for name, force in (("printed", "theorem"), ("exact", "exact")):
            found = attention_ode.solve(classes, np.array([end]), force=force, **rates)["attention"]
            common = int(np.flatnonzero(classes.common)[0])
            row[name] = float(found[-1, 0, common]) / joint
        rows.append(row | {"start": start})
    return pd.DataFrame(rows)


def closest(curves: Mapping[tuple[object, ...], xr.Dataset], moved: float = 0.1) -> tuple[object, float, int]:
    """Where the rungs of `explorer_curves` agree best among the settings in which attention moves.

    Returns:
        The setting, its largest factor between any two rungs at any time, and in how many settings the flow's
        common token falls by more than `moved`.
    """
    moving = {
        key: float((one["common"].max("rung") / one["common"].min("rung")).max())
        for key, one in curves.items()
        if float(one["common"].sel(rung="gradient flow")[-1]) > moved
    }
    if not moving:
        return None, math.nan, 0
    best = min(moving, key=lambda key: moving[key])
    return best, moving[best], len(moving)
