"""What was published or measured before, to compare with: the reference files of the chapter, tidied.

The files and where each number comes from are described in ``reference/README.md`` beside this module.
Nothing here is used by a computation of the library.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr


class Measured(NamedTuple):
    """A published number with its standard error."""

    mean: float
    stderr: float


@cache
def _read(name: str) -> str:
    path = files("learndyn.cogo_li2").joinpath("reference", name)
    if not name.endswith((".csv", ".json")) or not path.is_file():
        raise FileNotFoundError(f"There is no reference file {name!r}; see reference/README.md for the list.")
    return path.read_text(encoding="utf-8")


def load(name: str) -> pd.DataFrame | dict[str, Any]:
    """A reference file as it is: a data frame for ``….csv``, a dictionary for ``….json``.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    text = _read(name)
    if name.endswith(".json"):
        return json.loads(text)
    return _frame(name)


def _frame(name: str) -> pd.DataFrame:
    lines = [line.split(",") for line in _read(name).splitlines()]
    # The last column of some files is a free remark with commas in it, so plain CSV readers would stumble.
    width = len(lines[0])
    rows = [[*line[: width - 1], ",".join(line[width - 1 :])] for line in lines[1:]]
    frame = pd.DataFrame(rows, columns=lines[0])
    for column in frame.columns:
        converted = pd.to_numeric(frame[column], errors="coerce")
        if converted.notna().all():
            frame[column] = converted
    return frame


# Figure 3.


def figure3_curves() -> xr.Dataset:
    """Train and test accuracy and loss of the Figure 3 run, ``[source, epoch]``.

    ``source`` is ``published`` (the authors' log) or ``rerun`` (the same protocol on a CPU).
    """
    frame = _frame("fig3_curves_d23_seed5.csv")
    columns = {
        "train_accuracy": "train_acc",
        "train_loss": "train_loss",
        "test_accuracy": "test_acc",
        "test_loss": "test_loss",
    }
    sources = {"published": "log", "rerun": "cpu"}
    return xr.Dataset(
        {
            ours: (("source", "epoch"), np.stack([frame[f"{s}_{theirs}"] for s in sources.values()]))
            for ours, theirs in columns.items()
        },
        coords={"source": list(sources), "epoch": frame["epoch"].to_numpy()},
    )


def figure3_potentials() -> xr.Dataset:
    """The sum-potential curves of Figure 3 (paper normalisation), named as ``potentials.figure3_summaries``.

    ``diagonal_sum``, ``off_diagonal_sum``, ``alive_nodes`` over ``epoch``; ``bias_potential``,
    ``square_potential``, ``square_potential_as_plotted`` and ``order`` over ``epoch, frequency``.
    """
    frame = _frame("fig3_sp_dynamics_d23_seed5.csv")
    frequencies = range(1, 12)
    single = {
        "diagonal_sum": "diag_sum_2d",
        "off_diagonal_sum": "offdiag_sum_2d",
        "alive_nodes": "alive_nodes",
    }
    per_frequency = {
        "bias_potential": "abs_r_a_k_-k_k__k",
        "square_potential": "abs_r_a_k_1-k_k__k",
        "square_potential_as_plotted": "code_label_m1__k",
        "order": "order_k",
    }
    tables = {
        ours: (("epoch", "frequency"), frame[[f"{theirs}{k}" for k in frequencies]].to_numpy())
        for ours, theirs in per_frequency.items()
    }
    curves = {ours: ("epoch", frame[theirs].to_numpy()) for ours, theirs in single.items()}
    coords = {"epoch": frame["epoch"].to_numpy(), "frequency": list(frequencies)}
    return xr.Dataset(curves | tables, coords=coords)


# Figure 4, Table 2, Figure 5.


def figure4() -> pd.DataFrame:
    """Order counts pooled over five seeds (digitised, ±1), by ``d, hidden_size, weight_decay, order``."""
    frame = _frame("fig4_order_counts.csv").rename(columns={"q": "hidden_size", "wd": "weight_decay"})
    orders = [column for column in frame if column.startswith("order")]
    tidy = frame.melt(["d", "hidden_size", "weight_decay"], orders, var_name="order", value_name="count")
    tidy["order"] = tidy["order"].str.removeprefix("order").astype(int)
    return tidy.sort_values(["d", "hidden_size", "weight_decay", "order"], ignore_index=True)


def order_counts(d: int, weight_decay: float, hidden_size: int = 512) -> dict[int, int]:
    """One panel of Figure 4: how many frequencies ended at each order, zeros left out.

    Raises:
        KeyError: if that panel was not published.
    """
    frame = figure4()
    panel = frame[
        (frame["d"] == d)
        & (frame["hidden_size"] == hidden_size)
        & np.isclose(frame["weight_decay"], weight_decay, rtol=1e-6, atol=0)
        & (frame["count"] > 0)
    ]
    if panel.empty:
        raise KeyError(f"no published order counts for d={d}, q={hidden_size}, weight decay {weight_decay}")
    return {int(order): int(count) for order, count in zip(panel["order"], panel["count"], strict=True)}


def table2() -> pd.DataFrame:
    """Table 2: rows d, columns (quantity, ``mean`` or ``stderr``), percent or ×100 as published."""
    frame = _frame("table2_published.csv")
    order = frame["column"].drop_duplicates()
    wide = frame.pivot_table(index="d", columns="column", values=["mean", "stderr"])
    return wide.swaplevel(axis=1)[[(column, kind) for column in order for kind in ("mean", "stderr")]]


TABLE2: dict[int, dict[str, Measured]] = {
    int(d): {
        row["column"]: Measured(float(row["mean"]), float(row["stderr"])) for _, row in rows.iterrows()
    }
    for d, rows in _frame("table2_published.csv").groupby("d")
}
"""Table 2 by d and quantity, e.g. ``TABLE2[23]["pct_nu_i_times_xi"].mean``."""


def table2_per_seed() -> pd.DataFrame:
    """The per-seed values behind the d = 127 row of Table 2: rows seed, columns quantity."""
    frame = _frame("table2_d127_per_seed.csv").set_index("quantity").T
    return frame.rename_axis("seed").rename(index=lambda name: int(name.removeprefix("seed")))


def final_runs() -> pd.DataFrame:
    """Six runs at d = 23 at epoch 9900: orders (a tuple per run), accuracy, loss and Table 2 statistics."""
    frame = _frame("runs_d23.csv").rename(
        columns={"M": "d", "q": "hidden_size", "lr": "learning_rate", "wd": "weight_decay"}
    )
    frame["orders"] = [tuple(int(n) for n in text.split()) for text in frame["orders"]]
    return frame


def final_spectra() -> pd.DataFrame:
    """Every alive node of those runs at its main frequency, code normalisation; a, b, c are complex."""
    frame = _frame("final_spectra_d23.csv").rename(columns={"wd": "weight_decay", "freq": "frequency"})
    for part in "abc":
        frame[part] = frame.pop(f"{part}_re").to_numpy() + 1j * frame.pop(f"{part}_im").to_numpy()
    return frame


# The weight-decay clock, memorisation, small groups, theory.


def weight_decay_clock() -> pd.DataFrame:
    """Pooled order counts along training, d = 23, q = 512, five seeds: weight decays collapse on wd × epochs.

    One row per ``weight_decay, epoch, order`` with ``weight_decay_times_epoch`` and ``count``; order 13
    stands for everything above 12.
    """
    frame = _frame("weight_decay_clock_d23.csv").rename(
        columns={"wd": "weight_decay", "wd_times_epoch": "weight_decay_times_epoch"}
    )
    keys = ["weight_decay", "epoch", "weight_decay_times_epoch"]
    tidy = frame.melt(keys, [c for c in frame if c.startswith("n_order")], "order", "count")
    names = tidy["order"].str.removeprefix("n_order_")
    tidy["order"] = names.where(names != "above_12", "13").astype(int)
    return tidy.sort_values(["weight_decay", "epoch", "order"], ignore_index=True)


def memorisation_path() -> pd.DataFrame:
    """Loss, accuracy, squared norm, orders (a tuple) and alive nodes from the memorisation weights, d = 7."""
    frame = _frame("memorisation_path_d7.csv").rename(
        columns={"wd": "weight_decay", "acc": "accuracy", "norm2": "squared_norm", "alive": "alive_nodes"}
    )
    frame["orders"] = [tuple(int(n) for n in text.split()) for text in frame["orders"]]
    return frame


def order6_counts() -> pd.DataFrame:
    """Which mixes of orders (a tuple) small moduli end in, how often, and at which mean squared norm."""
    frame = _frame("order6_counts_small_d.csv").rename(
        columns={
            "q": "hidden_size",
            "wd": "weight_decay",
            "lr": "learning_rate",
            "multiset_of_orders": "orders",
            "mean_norm2": "squared_norm",
        }
    )
    frame["orders"] = [tuple(int(n) for n in text.split()) for text in frame["orders"]]
    return frame


def theory_checks() -> dict[str, Any]:
    """Closed-form losses, decomposition errors, Jacobian-Gram statistics and torus designs, as stored."""
    return json.loads(_read("theory_checks.json"))


def residual_losses() -> pd.DataFrame:
    """Losses of incomplete constructions: rows d, columns construction."""
    stored = theory_checks()["residual_loss_of_partial_constructions"]
    names = ["z_syn_order3", "z_nui_xi_order4_all", "mixed_one_order6_without_bias_host"]
    rows = {name: {row["d"]: row["loss"] for row in stored[name]} for name in names}
    return pd.DataFrame(rows).rename_axis("d")


def torus_designs() -> pd.DataFrame:
    """Which orders n are feasible under which constraints, with local dimensions and least residuals."""
    return pd.DataFrame(theory_checks()["torus_design"])


def jacobian_gram() -> pd.DataFrame:
    """Diagonal and off-diagonal of JJ* at d = 5 by width (Theorem 6)."""
    return pd.DataFrame(theory_checks()["jacobian_gram_d5"]).rename(columns={"q": "hidden_size"})


def decoupled_velocity_errors() -> pd.DataFrame:
    """Relative error of the decoupled velocity of Theorem 6, one row per ``d, hidden_size``."""
    stored = theory_checks()["decoupled_velocity_relative_error"]
    rows = [
        {"d": int(d.removeprefix("d")), "hidden_size": int(q), "relative_error": error}
        for d, errors in stored.items()
        for q, error in errors.items()
    ]
    return pd.DataFrame(rows)
