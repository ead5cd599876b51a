"""What was published or measured before, to compare with: the reference files of the chapter, tidied.

The files and where each number comes from are described in ``reference/README.md`` beside this module.
Losses are called ``barlow_twins``, ``vicreg``, ``simclr``; tasks ``mlp`` (an MLP on digits) and ``resnet`` (a
small ResNet on photo crops). Nothing here is used by a computation of the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from io import StringIO
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

LOSSES: Mapping[str, str] = {"barlow_twins": "bt", "vicreg": "vicreg", "simclr": "simclr"}
"""Names of the losses here, and in the names of the files."""


@cache
def _read(name: str) -> str:
    path = files("learndyn.ssl_dynamics.stepwise").joinpath("reference", name)
    if not name.endswith(".csv") or not path.is_file():
        raise FileNotFoundError(f"There is no reference file {name!r}; see reference/README.md for the list.")
    return path.read_text(encoding="utf-8")


def load(name: str) -> pd.DataFrame:
    """A reference file as it is.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    return pd.read_csv(StringIO(_read(name)))


# Figure 1: the linear toy model.

FIGURE1_CRITICAL_TIMES: tuple[float, ...] = tuple(load("fig1_digitised.csv")["tau_read_off"])
"""τ_j of the published Figure 1A, effective time (learning rate × step), read off within 1.5 %."""

FIGURE1_PAIRS, FIGURE1_CROP = 500, 20
"""Number of images and side of the RGB crops in the published linear toy."""


def figure1() -> pd.DataFrame:
    """Published critical times and the eigenvalues of Γ they imply: ``mode, critical_time, eigenvalue``.

    The eigenvalues suppose that every mode starts at s(0)² = 1.3e-13, itself read off within a factor of 2.
    """
    names = {"tau_read_off": "critical_time", "gamma_implied_if_s0_sq_1.3e-13": "eigenvalue"}
    return load("fig1_digitised.csv").rename(columns=names)


def gap_exponent() -> pd.DataFrame:
    """Final error of a generic small start: ``eigenvalues`` (a tuple), ``dimensions, scale, error,
    exponent``.

    ``error`` is ‖W(∞) − W_aligned(∞)‖_F, median of 5 seeds; ``exponent`` is the predicted q of α^q.
    """
    frame = load("gap_exponent.csv").rename(
        columns={
            "d": "dimensions",
            "alpha": "scale",
            "median_final_weight_error": "error",
            "predicted_exponent": "exponent",
        }
    )
    spectra = frame[["gamma1", "gamma2", "gamma3"]].itertuples(index=False)
    frame.insert(0, "eigenvalues", [tuple(float(value) for value in row) for row in spectra])
    return frame.drop(columns=["gamma1", "gamma2", "gamma3"])


def preconditioner() -> xr.Dataset:
    """The linear model with preconditioner Γ⁻ᵖ, over ``exponent`` (p) and ``mode``.

    ``half_time`` and ``critical_time`` ``[exponent, mode]``; ``alignment`` with the top-4 subspace and
    ``norm_ratio`` (squared norm over its minimum) ``[exponent]``.
    """
    frame, modes = load("preconditioner.csv"), [1, 2, 3, 4]
    return xr.Dataset(
        {
            "half_time": (("exponent", "mode"), frame[[f"half_time_{j}" for j in modes]].to_numpy()),
            "critical_time": (("exponent", "mode"), frame[[f"predicted_tau_{j}" for j in modes]].to_numpy()),
            "alignment": ("exponent", frame["alignment_with_top4"].to_numpy()),
            "norm_ratio": ("exponent", frame["norm2_over_minimum"].to_numpy()),
        },
        coords={"exponent": frame["p"].to_numpy(), "mode": modes},
    )


# The kernel theory and networks.


def lazy_width() -> xr.Dataset:
    """Wide MLPs against their tangent kernel at initialisation, over ``width, seed, mode``.

    ``ratio`` is the measured half time over the predicted one of gradient descent; ``alignment`` ``[width,
    seed]`` that of the learned with the predicted embedding.
    """
    frame, modes = load("lazy_width.csv").set_index(["width", "seed"]).sort_index(), [1, 2, 3, 4, 5]
    widths, seeds = (list(level) for level in frame.index.levels)
    ratios = frame[[f"ratio_mode{j}" for j in modes]].to_numpy()
    return xr.Dataset(
        {
            "ratio": (("width", "seed", "mode"), ratios.reshape(len(widths), len(seeds), len(modes))),
            "alignment": (
                ("width", "seed"),
                frame["align_with_init_kernel_solution"].to_numpy().reshape(len(widths), len(seeds)),
            ),
        },
        coords={"width": widths, "seed": seeds, "mode": modes},
    )


class Alignment(NamedTuple):
    """A subspace alignment a(P_exp, P_th) and what random subspaces of the same dimension give."""

    measured: float
    random: float


def alignment_table() -> pd.DataFrame:
    """Alignment with embeddings predicted by the tangent kernel, one row per network, loss and seed.

    Columns ``source`` (``published`` or ``own run``), ``task``, ``loss``, ``variant`` (text; the temperature
    of SimCLR), ``seed``, ``final_raw``, ``final_centred``, ``initial_raw``, ``initial_centred`` (kernel after
    training or at initialisation, embeddings raw or with each view centred), ``random``.
    """
    frame = load("alignment_table.csv").rename(
        columns={f"a_{when}_eNTK_{how}": f"{when.replace('init', 'initial')}_{how}" for when, how in _KERNELS}
        | {"random_baseline": "random"}
    )
    frame["source"] = np.where(frame["source"].str.startswith("published"), "published", "own run")
    named = frame["loss"].str.split(" ", n=1)
    frame["loss"] = named.str[0]
    frame.insert(3, "variant", named.str[1].fillna("").str.replace("tau=", "temperature "))
    return frame


_KERNELS = [(when, how) for when in ("final", "init") for how in ("raw", "centred")]


def _table1() -> dict[str, Alignment]:
    rows = alignment_table().query("source == 'published'")
    return {
        row.loss: Alignment(float(row.final_raw), float(row.random)) for row in rows.itertuples(index=False)
    }


TABLE1: Mapping[str, Alignment] = _table1()
"""Table 1: ResNet-50 on STL-10 against its tangent kernel after training, by loss (authors' slides)."""


def scale_sweep() -> xr.Dataset:
    """MLP on digits, Barlow Twins, over ``scale`` (decreasing) and ``seed``: the steps become sharp.

    ``clean_plateaus`` (of 7) and ``half_separation`` ``[scale, seed]``, ``learning_rate`` ``[scale]``.
    """
    frame = load("alpha_sweep_mlp_bt.csv")
    tables = {
        ours: frame.pivot_table(index="alpha", columns="seed", values=theirs).sort_index(ascending=False)
        for ours, theirs in (
            ("clean_plateaus", "clean_plateaus_of_7"),
            ("half_separation", "median_half_separation"),
            ("learning_rate", "lr"),
        )
    }
    rates = tables.pop("learning_rate")
    variables = {name: (("scale", "seed"), table.to_numpy()) for name, table in tables.items()}
    coords = {"scale": rates.index.to_numpy(), "seed": rates.columns.to_numpy()}
    return xr.Dataset(variables | {"learning_rate": ("scale", rates.iloc[:, 0].to_numpy())}, coords)


def curves(task: str, loss: str) -> xr.Dataset:
    """Our earlier training runs, over ``run, step, mode`` with ``seed`` along ``run``.

    ``loss`` ``[run, step]``, ``covariance_eigenvalues`` and (uncentred) ``correlation_eigenvalues`` ``[run,
    step, mode]``: the names of the trainer's log.

    Raises:
        ValueError: an unknown task or loss.
    """
    if task not in ("mlp", "resnet") or loss not in LOSSES:
        known = f"tasks mlp and resnet and losses {', '.join(LOSSES)}"
        raise ValueError(f"there are no curves of task {task!r} with loss {loss!r}; there are {known}")
    frame = load(f"curves_{task}_{LOSSES[loss]}.csv").sort_values(["seed", "step"])
    seeds, steps = frame["seed"].unique(), frame["step"].unique()

    def table(columns: list[str]) -> np.ndarray:
        return frame[columns].to_numpy().reshape(len(seeds), len(steps), len(columns))

    kinds = {"covariance_eigenvalues": "cov_eig", "correlation_eigenvalues": "crosscov_eig"}
    spectra = {
        name: (("run", "step", "mode"), table([f"{kind}{j}" for j in range(1, 9)]))
        for name, kind in kinds.items()
    }
    return xr.Dataset(
        {"loss": (("run", "step"), table(["loss"])[..., 0])} | spectra,
        coords={"seed": ("run", seeds), "step": steps, "mode": np.arange(1, 9)},
    )


def hidden_participation_ratio() -> pd.DataFrame:
    """Participation ratios along the ResNet runs, seed 0: ``loss, step, representation, embedding``."""
    frame = load("hidden_pr.csv").rename(columns={"pr_hidden": "representation", "pr_embedding": "embedding"})
    return frame.assign(loss=frame["loss"].replace({code: name for name, code in LOSSES.items()}))


def nearest_neighbours() -> pd.DataFrame:
    """k-NN along Barlow Twins training on digits, d = 16: ``step, loss, participation_ratio,
    learned_modes, accuracy``.

    ``learned_modes`` is the number of eigenvalues above 0.3.
    """
    names = {"eigs_above_0.3": "learned_modes", "knn5_test_accuracy": "accuracy"}
    return load("probe_knn_digits_bt.csv").rename(columns=names)


# Summaries of our earlier runs, seeds 0, 1, 2 (configurations: the presets of this chapter).

DIGITS_EIGENVALUES = (9.54, 8.69, 7.56, 5.37, 3.72, 3.14, 2.78, 2.34, 2.15, 1.96, 1.52, 1.46)
"""Largest eigenvalues of Γ of noisy pairs of all 1,797 digits, sd over noise below 0.07 (own run)."""
