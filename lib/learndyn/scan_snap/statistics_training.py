"""What the claims and figures of the notebook "Attention scans, then snaps" measure on its runs.

``panels`` is what `experiments_training.panels` returns.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from learndyn.scan_snap import measures, published

LEFT, RIGHT = "figure4_left", "figure4_right"
ADAM = ("figure5_a", "figure5_b", "figure5_c")


def at(data: xr.Dataset | xr.DataArray, axis: str, place: float | int | str) -> xr.Dataset | xr.DataArray:
    """The values at one place of an axis.

    Raises:
        ValueError: if the axis has no such place.
    """
    if place not in data[axis].values:
        raise ValueError(f"these runs have no {axis} {place}")
    return data.sel({axis: place})


def ending(panels: xr.Dataset, setting: str) -> xr.Dataset:
    """One setting after the 100 steps of the paper."""
    return at(at(panels, "setting", setting), "snapshot", 100)


def log_gaps(panels: xr.Dataset) -> tuple[float, float, float]:
    """Largest distance from the log: relative until step 10, relative everywhere, absolute after step 10."""
    log = published.figure4_loss()
    ours = at(at(panels, "setting", LEFT), "seed", 2).loss.sel(step=log["step"]).astype(float)
    gap, early = np.abs(ours.values - log.values), log["step"].values <= 10
    relative = gap / log.values
    return float(np.max(relative[early])), float(np.max(relative)), float(np.max(gap[~early]))


def attention_gap(panels: xr.Dataset, settings: tuple[str, ...]) -> float:
    """Largest distance of c_n from the repeated experiment, seed 2, over steps, classes and tokens."""
    known = published.figures_4_5_attention().sel(setting=list(settings))
    ours = at(panels, "seed", 2).sel(setting=list(settings), snapshot=known["step"].values)
    order = ("setting", "next", "snapshot", "contextual")
    return float(np.abs(ours.attention_maps.transpose(*order).values - known.values).max())


def seed_statistics(panels: xr.Dataset) -> xr.Dataset:
    """Mean and sample standard deviation over seeds at the end, named as in `published.figures_4_5_seeds`."""
    end = at(panels, "snapshot", 100)
    first = end.distinct_weights.isel(next=0)
    values = {
        "distinct_entropy": end.distinct_entropy,
        "distinct_mass": end.distinct_mass,
        "first_common_mass": 1 - first.sum("distinct", skipna=False),
        "first_top_attention": first.isel(distinct=-1),
    }
    found = {name: value.mean("seed", skipna=False) for name, value in values.items()}
    found |= {f"{name}_std": value.std("seed", ddof=1, skipna=False) for name, value in values.items()}
    return xr.Dataset(found).drop_vars("snapshot")


def shares(panels: xr.Dataset, setting: str) -> np.ndarray:
    """c_n on the distinct tokens at the end, mean over seeds and classes ``[distinct]``."""
    end = ending(panels, setting)
    return end.distinct_weights.mean(("seed", "next"), skipna=False).values


def path_steps(speed: xr.DataArray) -> tuple[float, float]:
    """Steps by which half and nine tenths of the path of Z are behind it, mean over seeds."""
    travelled = speed.sel(step=slice(0, 99)).cumsum("step", skipna=False)
    share = (travelled / travelled.isel(step=-1)).transpose("seed", "step").values
    return tuple(float(np.mean((share >= part).argmax(axis=1))) for part in (0.5, 0.9))


def speeds(panels: xr.Dataset) -> list[xr.DataArray]:
    """Speed of the attention logits of seeds 1 to 3, at ratios 1 and 10."""
    return [at(panels, "setting", s).attention_speed.sel(seed=[1, 2, 3]) for s in (LEFT, RIGHT)]


def late_speeds(panels: xr.Dataset) -> list[xr.DataArray]:
    """Mean speed in the second half of the hundred steps for seeds 1 to 3, at ratios 1 and 10."""
    return [speed.sel(step=slice(50, 99)).mean("step", skipna=False) for speed in speeds(panels)]


def family_distance(panels: xr.Dataset, setting: str) -> float:
    """Distance of the attention on distinct tokens from the family, at the χ₀ of the most frequent token.

    Total variation at the end, from the logits' mean over seeds and classes: nothing is fitted.
    """
    end = ending(panels, setting)
    z = end.distinct_logits.mean(("seed", "next"), skipna=False).values
    relative = panels.relative_frequency.values
    measured = relative * np.exp(z - z.max())
    curve = measures.family_curve(relative, float(np.exp(2 * z[-1])))
    return float(np.abs(measured / measured.sum() - curve).sum() / 2)
