"""What the notebook "Attention scans, then snaps" trains and measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from learndyn.scan_snap import measures, published, symmetric
from learndyn.scan_snap import statistics_training as statistics
from learndyn.scan_snap.settings import grid
from learndyn.scan_snap.settings_training import ADAM_PANELS, SGD_PANELS, Training
from learndyn.scan_snap.symmetric_batch import heavy_ball
from learndyn.scan_snap.task import TaskConfig
from learndyn.scan_snap.training import train


def measured(runs: xr.Dataset, task: TaskConfig) -> xr.Dataset:
    """A dataset of `training.train` for one task, with what one measures on its attention.

    Adds what `measures.summary` returns, over (run, snapshot); ``distinct_weights`` and ``distinct_logits``
    over (run, snapshot, next, distinct), c_n and z on the class's own tokens; and ``path`` (run), the length
    of the way of Z.
    """
    found = measures.summary(task, runs.attention)
    own, logits = task.distinct_support, runs.attention.to_numpy()
    rows = logits[..., task.query_of[:, None], task.support_tokens[:, own]]
    found["distinct_weights"] = found.attention_weights.isel(support=own).rename(support="distinct")
    found["distinct_logits"] = (found.distinct_weights.dims, rows.astype(float))
    found["path"] = runs.attention_speed.sum("step")
    weights = task.weights[own]
    found["relative_frequency"] = ("distinct", weights / weights.max())
    return runs.merge(found.drop_vars("token"))


def panels(settings: Training) -> xr.Dataset:
    """Figures 4 and 5 over seeds: `measured`, with axes ``setting`` and ``seed`` in place of ``run``.

    Settings have the names that `published` gives them, and coordinates ``optimizer``, ``attention_rate`` and
    ``rate_ratio``. ``attention_maps`` (…, next, contextual) is c_n on all contextual tokens.
    """
    parts = []
    for config, names in zip(settings.panels, (SGD_PANELS, ADAM_PANELS), strict=True):
        runs = measured(train(config, device=settings.device, progress=settings.progress), settings.task)
        kept = runs.drop_vars([name for name in runs.variables if name.startswith("status_")])
        kept = kept.drop_vars(("task", "decoder_rate", "queries", "classes", "vocabulary"))
        kept = unstack(kept, "setting", names, settings.seeds)
        parts.append(kept.assign_coords(optimizer=("setting", [config.optimizer] * len(names))))
    both = xr.concat(parts, "setting", data_vars="minimal", coords="different", compat="equals", join="exact")
    both["attention_maps"] = maps(both.attention_weights, settings.task)
    return both


def unstack(runs: xr.Dataset, axis: str, names: Sequence[Any], seeds: Sequence[int]) -> xr.Dataset:
    """Axes ``axis`` (of the given names) and ``seed`` in place of ``run``, seeds running fastest."""
    index = pd.MultiIndex.from_product([list(names), list(seeds)], names=[axis, "seed"])
    rates = {name: (axis, runs[name].values[:: len(seeds)]) for name in ("attention_rate", "rate_ratio")}
    bare = runs.drop_vars(("seed", *rates))
    bare = bare.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "run")).unstack("run")
    return bare.reindex({axis: list(names)}).assign_coords(rates).transpose(axis, "seed", ...)


def maps(weights: xr.DataArray, task: TaskConfig) -> xr.DataArray:
    """c_n on all contextual tokens ``[…, next, contextual]`` from c_n on the tokens of a class."""
    values = weights.transpose(..., "next", "support").values
    full = np.zeros((*values.shape[:-1], task.query_tokens[0]))
    full[..., np.arange(task.classes)[:, None], task.support_tokens] = values
    return xr.DataArray(full, dims=(*weights.transpose(..., "next", "support").dims[:-1], "contextual"))


def vary(settings: Training, changes: dict[str, Any], **task: Any) -> xr.Dataset:
    """`measured` runs of ``other_seeds`` with changes to the configuration, and to the task."""
    chosen = settings.task.replace(**task)
    base = settings.base.replace(rng="vectorised", **changes)
    config = grid(base, tasks=[chosen], seeds=settings.other_seeds)
    return measured(train(config, device=settings.device), chosen)


#: Name → changes to the configuration, next tokens per query.
VARIANTS: dict[str, tuple[dict[str, bool], int]] = {
    "published": ({}, 1),
    "no normalisation": ({"normalize": False}, 1),
    "residual": ({"residual": True}, 1),
    "published, r = 2": ({}, 2),
    "no normalisation, r = 2": ({"normalize": False}, 2),
    "residual, r = 2": ({"residual": True}, 2),
}


def ablations(settings: Training) -> xr.Dataset:
    """The variants of `VARIANTS` with equal rates.

    Over (variant, seed): ``distinct_entropy``, ``common_mass`` and ``largest`` (the largest c_n, mean over
    classes) at the end, ``path``; over (variant, seed, step): ``entropy_curve`` and ``loss``; over
    (variant, support): ``weights``, c_n at the end, mean over seeds and classes.
    """
    found = []
    for changes, shared in VARIANTS.values():
        changes = changes | {"snapshot_steps": range(settings.steps + 1)}
        runs = vary(settings, changes, next_per_query=shared).swap_dims(run="seed")
        end = runs.isel(snapshot=-1)
        found.append(
            xr.Dataset(
                {
                    "distinct_entropy": end.distinct_entropy,
                    "common_mass": end.common_mass,
                    "largest": end.attention_weights.max("support").mean("next"),
                    "path": end.path,
                    "entropy_curve": runs.distinct_entropy.rename(snapshot="step"),
                    "loss": runs.loss,
                    "weights": end.attention_weights.mean(("seed", "next")),
                }
            )
            .drop_vars(["snapshot", "attention_rate", "rate_ratio", "task", "decoder_rate", "vocabulary"])
            .drop_vars(["queries", "classes"])
        )
    return xr.concat(found, "variant", join="exact").assign_coords(variant=list(VARIANTS))


def mean_field(settings: Training, **changes: Any) -> xr.Dataset:
    """The limit of infinitely long sequences and batches, over (rate_ratio, step)."""
    rate, ratios = changes.get("attention_rate", settings.attention_rate), np.array(settings.rate_ratios)
    parameters = symmetric.from_task(settings.task, decoder_rate=rate * ratios, attention_rate=rate)
    found = heavy_ball(
        parameters,
        momentum=changes.get("momentum", settings.momentum),
        steps=changes.get("steps", settings.steps),
    )
    rest = [name for name in found.coords if name not in ("step", "kind")]
    return found.drop_vars(rest).assign_coords(run=ratios).rename(run="rate_ratio")


def lengths(settings: Training) -> xr.Dataset:
    """How the length of the sequences decides the end.

    Over (rate_ratio, length, seed): ``distinct_entropy`` and ``distinct_mass`` at the end; over (rate_ratio):
    ``mean_field``, the entropy in the limit.
    """
    tasks = [settings.task.replace(sequence_length=length) for length in settings.lengths]
    base = settings.base.replace(rng="vectorised")
    config = grid(base, tasks=tasks, rate_ratios=settings.rate_ratios, seeds=settings.other_seeds)
    runs = train(config, device=settings.device, progress=settings.progress)
    end = measures.summary(tasks[0], runs.attention.isel(snapshot=-1))
    shape = (len(tasks), len(settings.rate_ratios), len(settings.other_seeds))
    found = {
        name: (("length", "rate_ratio", "seed"), end[name].values.reshape(shape))
        for name in ("distinct_entropy", "distinct_mass")
    }
    coords = {"length": list(settings.lengths), "seed": list(settings.other_seeds)}
    limit = mean_field(settings).distinct_entropy.isel(step=-1, drop=True)
    return xr.Dataset(found | {"mean_field": limit}, coords=coords)


def long_runs(settings: Training) -> xr.Dataset:
    """The shown seed of Figure 4 for ``long_steps``: `measured`, ``rate_ratio`` in place of ``run``."""
    steps = sorted({*settings.figure_steps, settings.steps, settings.long_steps})
    config = grid(
        settings.base.replace(steps=settings.long_steps, snapshot_steps=steps),
        rate_ratios=settings.rate_ratios,
    )
    runs = measured(train(config, device=settings.device, progress=settings.progress), settings.task)
    return runs.swap_dims(run="rate_ratio")


def long_table(runs: xr.Dataset, steps: Sequence[int]) -> pd.DataFrame:
    """What the first class attends to at these steps, as text for a reader."""
    first = runs.sel(snapshot=list(steps))
    rows = []
    for ratio in runs.rate_ratio.values:
        one = first.sel(rate_ratio=ratio)
        common = 1 - one.distinct_weights.isel(next=0).sum("distinct")
        top = one.distinct_weights.isel(next=0, distinct=-1)
        for step in steps:
            row = {
                "ratio": f"{ratio:g}",
                "step": str(step),
                "common mass": f"{float(common.sel(snapshot=step)):.3f}",
                "most frequent distinct token": f"{float(top.sel(snapshot=step)):.4f}",
                "distinct entropy (nats)": f"{float(one.distinct_entropy.sel(snapshot=step)):.3f}",
            }
            rows.append(row)
    return pd.DataFrame(rows)


def seed_table(found: xr.Dataset) -> pd.DataFrame:
    """Mean ± standard deviation over seeds at the end, ours above the repeated experiment's."""
    known, ours = published.figures_4_5_seeds(), statistics.seed_statistics(found)
    words = {
        "distinct_entropy": "distinct entropy",
        "distinct_mass": "distinct mass",
        "first_common_mass": "class 1: common mass",
        "first_top_attention": "class 1: most frequent distinct token",
    }
    rows: list[dict[str, str]] = []
    for name in found.setting.values:
        for who, values in (("ours", ours), ("reference", known)):
            one = values.sel(setting=name)
            row = {"panel": panel_name(found, str(name)), "whose": who}
            for key, title in words.items():
                row[title] = f"{float(one[key]):.4f} ± {float(one[f'{key}_std']):.4f}"
            rows.append(row)
    return pd.DataFrame(rows)


def panel_name(found: xr.Dataset, setting: str) -> str:
    """A panel's name for a reader, such as "SGD, ratio 10"."""
    one = found.sel(setting=setting)
    if str(one.optimizer.values) == "adam":
        return f"Adam, rate {float(one.attention_rate):g}"
    return f"SGD, ratio {float(one.rate_ratio):g}"


def invariant_ratios(limit: xr.Dataset, task: TaskConfig) -> dict[float, float]:
    """Invariant of the rarest over that of the most frequent distinct token at the end of `mean_field`."""
    z = limit.attention.isel(step=-1, support=task.distinct_support).values
    values = measures.invariant(z, task.probabilities[task.distinct_support])
    return {float(r): float(v[0] / v[-1]) for r, v in zip(limit.rate_ratio.values, values, strict=True)}


def path_after(found: xr.Dataset, level: float) -> dict[float, float]:
    """Rate ratio → part of the path of Z made after the loss fell below ``level`` of its start."""
    shares = {}
    for setting in SGD_PANELS:
        one = found.sel(setting=setting)
        low = (one.loss < level * one.loss.isel(step=0)).argmax("step")
        late = one.attention_speed.where(one.step >= low).sum("step")
        shares[float(one.rate_ratio)] = float((late / one.path).mean())
    return shares


def ablation_table(found: xr.Dataset) -> pd.DataFrame:
    """The variants at the end, mean ± standard deviation over seeds, as text for a reader."""
    words = {
        "distinct_entropy": "distinct entropy (nats)",
        "common_mass": "common mass",
        "largest": "largest attention",
        "path": "path of Z",
    }
    rows = {}
    for name in found.variant.values:
        one = found.sel(variant=name)
        rows[str(name)] = {
            title: f"{float(one[key].mean()):.3f} ± {float(one[key].std(ddof=1)):.3f}"
            for key, title in words.items()
        }
    return pd.DataFrame(rows).T


def winners(settings: Training) -> xr.Dataset:
    """Which distinct token has most attention before and after training from random starts.

    Over (scale, rate_ratio, prior_run, next): ``expected``, the one with the largest P(l|n) e^z before
    training, and ``winner``, the one at the end, as indices among the distinct tokens, rarest first.
    ``scale`` multiplies the start, which is the same otherwise.
    """
    found = [_winners(settings, scale) for scale in settings.prior_scales]
    return xr.concat(found, "scale", join="exact").assign_coords(scale=list(settings.prior_scales))


def _winners(settings: Training, scale: float) -> xr.Dataset:
    base = settings.base.replace(
        rng="vectorised", initialisation="uniform", init_scale=scale, snapshot_steps=(0,)
    )
    config = grid(base, rate_ratios=settings.rate_ratios, seeds=range(settings.prior_runs))
    runs = measured(train(config, device=settings.device, progress=settings.progress), settings.task)
    place = runs.distinct_weights.argmax("distinct").transpose("snapshot", "run", "next").values
    shape = (len(settings.rate_ratios), settings.prior_runs, settings.task.classes)
    dims = ("rate_ratio", "prior_run", "next")
    found = {name: (dims, place[k].reshape(shape)) for name, k in (("expected", 0), ("winner", -1))}
    return xr.Dataset(found, coords={"rate_ratio": list(settings.rate_ratios)})
