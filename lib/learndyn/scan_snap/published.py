"""What was published or measured before, to compare with: the reference files of the chapter, tidied.

The files and where each number comes from are described in ``reference/README.md`` beside this module.
Nothing here is used by a computation of the library. Entropies are in nats; ``step`` is the number of
updates done before the measurement. "Own rerun" is the authors' experiment, repeated on a CPU.
"""

from __future__ import annotations

import io
import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from learndyn.core.errors import PlainError

#: Dimensions of a sweep of Figures 6, 11 and 12.
CELL = ("queries", "attention_rate", "rate_ratio")

_NAMES = {
    "H_distinct": "distinct_entropy",
    "class": "next",
    "iter": "step",
    "lr_z": "attention_rate",
    "mass_distinct": "distinct_mass",
    "num_last": "queries",
    "num_next_per_last": "next_per_query",
    "ratio": "rate_ratio",
    "ratio_lr_y_over_lr_z": "rate_ratio",
    "run": "setting",
}


class PublishedError(PlainError):
    """Something was asked for that was not published."""


@cache
def _read(name: str) -> str:
    return files("learndyn.scan_snap").joinpath("reference", name).read_text(encoding="utf-8")


def _frame(name: str, **renames: str) -> pd.DataFrame:
    frame = pd.read_csv(io.StringIO(_read(name))).rename(columns=_NAMES | renames)
    if "setting" in frame:
        frame["setting"] = frame["setting"].str.replace("fig", "figure")
    if "lr_y" in frame:
        frame["rate_ratio"] = frame.pop("lr_y") / frame["attention_rate"]
    rates = {name: float for name in ("attention_rate", "rate_ratio") if name in frame}
    return frame.astype(rates)


def _loss(name: str) -> xr.DataArray:
    frame = _frame(name)
    steps = frame["step"].to_numpy()
    return xr.DataArray(frame["loss"].to_numpy(), dims="step", coords={"step": steps}, name="loss")


def _settings(frame: pd.DataFrame) -> dict[str, Any]:
    first = frame.drop_duplicates("setting")
    return {
        "setting": first["setting"].to_numpy(dtype=str),
        "optimizer": ("setting", first["optimizer"].to_numpy(dtype=str)),
        "attention_rate": ("setting", first["attention_rate"].to_numpy()),
        "rate_ratio": ("setting", first["rate_ratio"].to_numpy()),
    }


# Figures 4 and 5: Syn-Small.


def figure4_loss() -> xr.DataArray:
    """Training loss ``[step]`` of the run of Figure 4, left (authors' log): SGD, both rates 1, seed 2."""
    return _loss("figure_4_log_loss.csv")


def figures_4_5_attention() -> xr.DataArray:
    """Attention c_n ``[setting, next, step, token]`` on the 30 contextual tokens, seed 2 (own rerun).

    Settings ``figure4_left``, ``figure4_right``, ``figure5_a`` … ``figure5_c``, with coordinates
    ``optimizer``, ``attention_rate`` and ``rate_ratio``. Figure 4 calls step 48 "Final".
    """
    frame = _frame("figure_4_5_attention.csv")
    steps = frame["step"].unique()
    values = frame[[f"c_{token}" for token in range(30)]].to_numpy()
    coords = _settings(frame) | {"next": [0, 1], "step": steps, "token": np.arange(30)}
    shape = (len(coords["setting"]), 2, len(steps), 30)
    return xr.DataArray(
        values.reshape(shape), dims=("setting", "next", "step", "token"), coords=coords, name="attention"
    )


def figures_4_5_losses() -> xr.DataArray:
    """Training loss ``[setting, step]`` of the five settings of Figures 4 and 5, seed 2 (own rerun)."""
    frame = _frame("figure_4_5_losses.csv")
    steps = frame["step"].unique()
    coords = _settings(frame) | {"step": steps}
    values = frame["loss"].to_numpy().reshape(-1, len(steps))
    return xr.DataArray(values, dims=("setting", "step"), coords=coords, name="loss")


def figures_4_5_seeds() -> xr.Dataset:
    """The five settings over seeds 1…10, ``[setting]`` (own rerun): means, and standard deviations ``…_std``.

    After 100 steps ``distinct_entropy``, ``distinct_mass`` (means over the classes), and of the first class
    ``first_common_mass`` and ``first_top_attention`` (on its most frequent distinct token). Earlier:
    ``loss_at_0``, ``loss_at_2``, ``loss_at_10``, ``distinct_entropy_at_10``.
    """
    frame = _frame("figure_4_5_seed_stats.csv")
    coords = _settings(frame)
    values = frame.drop(columns=[*coords, "n_seeds"]).rename(columns=_statistic)
    return xr.Dataset({name: ("setting", values[name].to_numpy()) for name in values}, coords=coords)


def _statistic(column: str) -> str:
    name = column.removesuffix("_mean").replace("_iter", "_at_")
    renames = {
        "H_distinct": "distinct_entropy",
        "class0_common_mass": "first_common_mass",
        "class0_top_token_prob": "first_top_attention",
        "mass_distinct": "distinct_mass",
    }
    for theirs, ours in renames.items():
        name = name.replace(theirs, ours)
    return name


# Figures 6, 11 and 12: Syn-Medium.


def figure6_loss() -> xr.DataArray:
    """Training loss ``[step]`` of the first of the 640 runs of Figure 6 (authors' log).

    One query, attention rate 0.5, ratio 1, seed 1, uniform random start.
    """
    return _loss("figure_6_log_loss.csv")


def figure6() -> xr.Dataset:
    """The published points of Figure 6, ``[queries, attention_rate, rate_ratio]`` (authors' data).

    ``distinct_entropy`` after 100 steps is the mean over 10 seeds, ``distinct_entropy_std`` their sample
    standard deviation (not that of the mean, as the caption says).
    """
    frame = _frame(
        "figure_6_published.csv", entropy_mean="distinct_entropy", entropy_std="distinct_entropy_std"
    )
    return frame.set_index(list(CELL))[["distinct_entropy", "distinct_entropy_std"]].to_xarray()


def recall(queries: int) -> xr.Dataset:
    """Recall curves of Figures 11 and 12, ``[attention_rate, rate_ratio, threshold]`` (own rerun).

    ``recall`` is the mean over classes, then over 10 seeds; ``recall_sem`` its standard error. Definition:
    `learndyn.scan_snap.measures.recall`.

    Raises:
        PublishedError: a number of queries other than the published 1, 3, 5 and 10, whose thresholds differ.
    """
    frame = _frame("figure_11_12_recall.csv", recall_mean="recall")
    known = frame["queries"].unique().tolist()
    if queries not in known:
        raise PublishedError(f"there are recall curves for {known} queries, not for {queries}")
    chosen = frame[frame["queries"] == queries]
    return chosen.set_index([*CELL[1:], "threshold"])[["recall", "recall_sem"]].to_xarray()


# Figure 7: real text.


def figure7_attention() -> xr.DataArray:
    """The attention maps of Figure 7, one layer, ``[step, position, key]`` (decoded from the image).

    A row is what the token at `position` attends to; rows sum to 1 within 0.03 (at step 0 within 0.12: the
    image has 256 levels).
    """
    frame = _frame("figure_7_attention_1layer.csv")
    steps, positions = frame["step"].unique(), frame["query_pos"].unique()
    values = frame[[f"k{key}" for key in positions]].to_numpy()
    return xr.DataArray(
        values.reshape(len(steps), len(positions), len(positions)),
        dims=("step", "position", "key"),
        coords={"step": steps, "position": positions, "key": positions},
        name="attention",
    )


# Theory (own computations).


def symmetric_flow() -> xr.Dataset:
    """A trajectory of the gradient flow of symmetric classes, checked against the full flow to 1e-8.

    ``z_common[time, common]``, ``z_distinct[time, distinct]`` and ``loss[time]``, with the weights
    ``common_weights`` and ``distinct_weights`` (unnormalised). Attributes: ``classes``, ``next_per_query``,
    ``vocabulary``, ``decoder_rate``, ``attention_rate``.
    """
    flow = json.loads(_read("theory_reference.json"))["symmetric_flow"]
    return xr.Dataset(
        {
            "z_common": (("time", "common"), flow["z_common"]),
            "z_distinct": (("time", "distinct"), flow["z_distinct"]),
            "loss": ("time", flow["loss"]),
            "common_weights": ("common", flow["p_common_unnorm"]),
            "distinct_weights": ("distinct", flow["p_distinct_unnorm"]),
        },
        coords={"time": flow["t"]},
        attrs={
            "classes": flow["K"],
            "next_per_query": flow["classes_per_query"],
            "vocabulary": flow["M"],
            "decoder_rate": flow["etaY"],
            "attention_rate": flow["etaZ"],
        },
    )


def mean_field() -> pd.DataFrame:
    """The experiments with infinitely long sequences and batches: momentum 0.9, 100 steps from zero.

    Columns ``queries, next_per_query, attention_rate, rate_ratio, distinct_entropy, distinct_mass,
    loss_at_0, loss_at_10``: two rows for Figure 4, then the 64 cells of Figure 6.
    """
    rows = json.loads(_read("theory_reference.json"))["heavy_ball_population_T_infinite_100_steps"]
    names = _NAMES | {"loss0": "loss_at_0", "loss10": "loss_at_10"}
    return pd.DataFrame(rows).rename(columns=names).astype({"attention_rate": float, "rate_ratio": float})
