"""What the notebook "Learning rates decide where attention freezes" computes from trainings and the flow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.optimize import brentq

from learndyn.scan_snap import measures, published
from learndyn.scan_snap.settings import TrainConfig
from learndyn.scan_snap.settings_learning_rates import LearningRates
from learndyn.scan_snap.symmetric import common_weight, from_task, parameter_sets, solve
from learndyn.scan_snap.symmetric_batch import heavy_ball, solve_many
from learndyn.scan_snap.symmetric_equations import Parameters
from learndyn.scan_snap.task import TaskConfig, syn_medium
from learndyn.scan_snap.training import train

#: Coordinates of a run that together name it.
RUN = ("attention_rate", "rate_ratio", "seed")
Numbers = Sequence[int | float] | np.ndarray
MEASURED = ("distinct_entropy", "common_mass", "distinct_mass")


def train_cells(config: TrainConfig, settings: LearningRates) -> xr.Dataset:
    """Train, and what became of the attention: `distinct_entropy` (nats), `common_mass`, `distinct_mass`.

    Over (task, attention_rate, rate_ratio, seed, snapshot), with coordinates `queries` and
    `sequence_length` of each task; and `logits`, the query rows of Z, with axes query and token beside (NaN
    where a task has fewer of them than another).
    """
    run = train(config, device=settings.device, progress=settings.progress)
    parts = []
    for place, task in enumerate(config.tasks):
        logits = run.attention.isel(run=np.flatnonzero(np.array(config.task) == place))
        found = measures.summary(task, logits)[list(MEASURED)].assign(logits=logits)
        found = found.drop_vars([name for name in found.coords if name not in (*RUN, "run", "snapshot")])
        parts.append(found.set_index(run=list(RUN)).unstack("run"))
    tasks = xr.Variable("task", np.arange(len(parts)))
    cells = xr.concat(parts, tasks, join="exact")
    names = ("queries", "sequence_length")
    named = {name: ("task", [getattr(task, name) for task in config.tasks]) for name in names}
    return cells.assign_coords(named).transpose("task", *RUN, ...)


def by_cell(runs: xr.Dataset, measured: str = "distinct_entropy") -> xr.Dataset:
    """Mean and sample standard deviation over seeds at the end, as `published.figure6` has them."""
    end = runs[measured].isel(snapshot=-1, drop=True).swap_dims(task="queries").drop_vars("task")
    found = {measured: end.mean("seed"), f"{measured}_std": end.std("seed", ddof=1)}
    return xr.Dataset(found).drop_vars("sequence_length").assign_attrs(seeds=end.sizes["seed"])


def published_cells(settings: LearningRates) -> xr.Dataset:
    """The published points of Figure 6 at the cells of the notebook."""
    return published.figure6().sel(
        queries=list(settings.queries),
        attention_rate=list(settings.attention_rates),
        rate_ratio=list(settings.rate_ratios),
    )


def recall_curves(runs: xr.Dataset, queries: int, thresholds: Float[np.ndarray, "threshold"]) -> xr.DataArray:
    """Recall of distinct tokens (mean over classes, seeds) over (attention_rate, rate_ratio, threshold)."""
    task = syn_medium(queries)
    logits = runs.logits.swap_dims(task="queries").sel(queries=queries).isel(snapshot=-1)
    kept = logits.transpose(*RUN, "query", "token")
    found = measures.recall(task, kept.to_numpy()[..., : task.queries, : task.vocabulary], thresholds)
    coords = {name: kept[name].to_numpy() for name in RUN} | {"threshold": thresholds}
    return xr.DataArray(found, coords, (*RUN, "threshold")).mean("seed").rename("recall")


def published_recalls(settings: LearningRates) -> dict[int, xr.DataArray]:
    """The authors' experiment, measured again, by number of queries."""
    at = {"attention_rate": list(settings.attention_rates), "rate_ratio": list(settings.rate_ratios)}
    return {queries: published.recall(queries).recall.sel(at) for queries in settings.queries}


def slopes(recall: xr.DataArray) -> xr.DataArray:
    """How fast recall falls between the first and the last threshold, per unit of threshold."""
    ends = recall.isel(threshold=[0, -1])
    rise = ends.diff("threshold").isel(threshold=0, drop=True)
    return -rise / float(ends.threshold[1] - ends.threshold[0])


# --- the limit of long sequences and large batches ---


def parameters(
    queries: Numbers, attention_rates: Numbers, rate_ratios: Numbers
) -> tuple[Parameters, tuple[int, int, int]]:
    """Symmetric classes of all combinations, and the shape of their grid."""
    q, rate, ratio = np.meshgrid(queries, attention_rates, rate_ratios, indexing="ij")
    tasks = [syn_medium(int(one)) for one in q.ravel()]
    found = from_task(tasks, decoder_rate=(rate * ratio).ravel(), attention_rate=rate.ravel())
    return found, q.shape


def mean_field(
    queries: Numbers,
    attention_rates: Numbers,
    rate_ratios: Numbers,
    *,
    steps: int,
    momentum: float,
) -> xr.Dataset:
    """Heavy ball from zero on infinitely long sequences: `MEASURED` over the cells, after `steps`."""
    given, shape = parameters(queries, attention_rates, rate_ratios)
    found = heavy_ball(given, steps=steps, snapshot_steps=[steps], momentum=momentum).isel(step=0)
    return _cells(found, shape, queries, attention_rates, rate_ratios)


def flow(
    queries: Numbers,
    attention_rates: Numbers,
    rate_ratios: Numbers,
    times: Numbers,
) -> xr.Dataset:
    """Gradient flow: `MEASURED` over the cells and `time`."""
    given, shape = parameters(queries, attention_rates, rate_ratios)
    return _cells(solve_many(given, times), shape, queries, attention_rates, rate_ratios)


def _cells(found: xr.Dataset, shape: tuple[int, ...], *axes: Numbers) -> xr.Dataset:
    names = ("queries", "attention_rate", "rate_ratio")
    coords = dict(zip(names, (np.asarray(axis) for axis in axes), strict=True))
    rest = [name for name in found.distinct_entropy.dims if name != "run"]
    variables = {
        name: ((*names, *rest), found[name].to_numpy().reshape(*shape, *found[name].shape[1:]))
        for name in MEASURED
    }
    return xr.Dataset(variables, coords | {name: found[name].to_numpy() for name in rest})


def flow_over_classes(queries: Numbers, overlaps: Numbers, times: Numbers) -> xr.Dataset:
    """Gradient flow at both rates 1 over (classes, overlap, time), two next tokens for each query.

    The weight of the ten common tokens sets the initial overlap f_n·f_k; M is what the classes need.
    """
    q, overlap = (axis.ravel() for axis in np.meshgrid(queries, overlaps, indexing="ij"))
    tasks = [syn_medium(int(one)) for one in q]
    profile = tasks[0].weights[tasks[0].distinct_support]
    weight = common_weight(overlap, profile, tasks[0].common)
    given = parameter_sets(
        classes=[task.classes for task in tasks],
        vocabulary=[task.vocabulary for task in tasks],
        next_per_query=2,
        common=np.repeat(weight[:, None], tasks[0].common, axis=1),
        distinct=profile,
    )
    found = solve_many(given, times)
    shape = (len(queries), len(overlaps), len(times))
    dims = ("classes", "overlap", "time")
    coords = {"classes": 2 * np.asarray(queries), "overlap": np.asarray(overlaps), "time": np.asarray(times)}
    return xr.Dataset({n: (dims, found[n].to_numpy().reshape(shape)) for n in MEASURED}, coords)


def correlations(ours: xr.DataArray, theirs: xr.DataArray) -> xr.Dataset:
    """Over (queries): correlation of two sets of cells, and by how much the first lies above."""
    axes = ["attention_rate", "rate_ratio"]
    return xr.Dataset({"correlation": xr.corr(ours, theirs, dim=axes), "bias": (ours - theirs).mean(axes)})


def best_ratios(entropy: xr.DataArray) -> xr.DataArray:
    """The rate ratio with the least entropy, over the other axes."""
    return entropy.idxmin("rate_ratio")


def dip(entropy: xr.DataArray) -> Float[np.ndarray, "attention_rate"]:
    """The rate ratio of least entropy between grid points (parabola in ln ratio); NaN where it is an end."""
    values = entropy.transpose("attention_rate", "rate_ratio").to_numpy()
    x = np.log(entropy.rate_ratio.to_numpy())
    found = np.full(len(values), np.nan)
    for row, (place, one) in enumerate(zip(values.argmin(axis=1), values, strict=True)):
        if 0 < place < len(x) - 1:
            near = slice(place - 1, place + 2)
            a, b, _ = np.polyfit(x[near], one[near], 2)
            found[row] = np.exp(-b / (2 * a))
    return found


def creep_share(settings: LearningRates, cells: xr.Dataset) -> xr.DataArray:
    """Which part of the fall from the smallest to the largest attention rate the flow has, too.

    Over (queries, rate_ratio): the fall in the flow at the experiments' horizon, divided by that in `cells`.
    """
    ends = [settings.attention_rates[0], settings.attention_rates[-1]]
    smooth = flow(settings.queries, ends, settings.rate_ratios, [settings.horizons[1]]).isel(time=0)
    return fall(smooth.distinct_entropy) / fall(cells.distinct_entropy)


def fall(entropy: xr.DataArray) -> xr.DataArray:
    """By how much the entropy is less at the largest attention rate than at the smallest."""
    rates = entropy.attention_rate
    ends = [entropy.sel(attention_rate=float(rate), drop=True) for rate in (rates.min(), rates.max())]
    return ends[0] - ends[1]


def creep(settings: LearningRates) -> xr.Dataset:
    """The flow of each rate ratio at attention rate 1 up to `last_time`, after everything has frozen.

    Over (rate_ratio, time): `fall`, −z of a common token; `distinct_entropy`; `common_mass`; and `slow_time`,
    ln ln(M η_Y t/K), in which the theory has z move evenly.
    """
    task = syn_medium(settings.phase_queries)
    times = np.logspace(0, np.log10(settings.last_time), 4 * int(np.log10(settings.last_time)) + 1)
    curves = []
    for ratio in settings.rate_ratios:
        found = solve(from_task(task, decoder_rate=ratio, attention_rate=1.0), times)
        curves.append((-found.attention[:, 0], found.distinct_entropy, found.common_mass))
    argument = task.vocabulary * np.outer(settings.rate_ratios, times) / task.classes
    dims = ("rate_ratio", "time")
    names = ("fall", "distinct_entropy", "common_mass")
    variables = {name: (dims, values) for name, values in zip(names, np.stack(curves, axis=1), strict=True)}
    variables["slow_time"] = (dims, np.log(np.log(argument)))
    return xr.Dataset(variables, {"rate_ratio": list(settings.rate_ratios), "time": times})


def creep_slopes(curves: xr.Dataset, start: float = 1e3) -> xr.DataArray:
    """Slope of −z of a common token against ln ln(M η_Y t/K), decade by decade from `start`."""
    decades = np.log10(curves.time)
    whole = curves.isel(
        time=np.flatnonzero((np.abs(decades - decades.round()) < 1e-6) & (decades >= np.log10(start)))
    )
    return whole.fall.diff("time") / whole.slow_time.diff("time")


def family_members(task: TaskConfig, entropies: Numbers) -> xr.DataArray:
    """Shares of the distinct tokens over (distinct_entropy, weight), on the curve of the conservation law.

    The law (Tian et al. 2023, Theorem 3) leaves one free number, found here from the entropy (nats, below
    that of the weights).
    """
    weights = task.weights[task.distinct_support]
    relative = weights / weights.max()

    def excess(log_chi0: float, wanted: float) -> float:
        shares = measures.family_curve(relative, float(np.exp(log_chi0)))
        return float(-(shares * np.log(shares)).sum() - wanted)

    found = [np.exp(brentq(excess, -1e-9, 30, args=(wanted,))) for wanted in entropies]
    shares = measures.family_curve(relative, np.array(found))
    return xr.DataArray(
        shares, {"distinct_entropy": list(entropies), "weight": weights}, ("distinct_entropy", "weight")
    )
