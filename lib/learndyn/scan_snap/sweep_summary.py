"""What a sweep adds to each training run: how sparse its attention is, and on which tokens it lies."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from learndyn.scan_snap import measures
from learndyn.scan_snap.settings import TrainConfig
from learndyn.scan_snap.training import attention_of

MEASURED = ("distinct_entropy", "common_mass", "distinct_mass")


def summarise_sweep(dataset: xr.Dataset) -> xr.Dataset:
    """Add means over the classes to one trained ensemble, over (run, snapshot), as `measures.summary` gives.

    These are ``distinct_entropy`` (nats; Tian et al. 2023, Figure 6), ``common_mass`` and ``distinct_mass``.
    Everything else stays (Figures 11 and 12 are made of ``attention``), with ``sequence_length`` as a
    coordinate of each run.
    """
    config = TrainConfig.parse(json.loads(dataset.attrs["config"]))
    shape = (dataset.sizes["run"], dataset.sizes["snapshot"])
    found = {name: np.full(shape, np.nan) for name in MEASURED}
    for place in sorted(set(config.task)):
        rows = np.flatnonzero(np.array(config.task) == place)
        measured = measures.summary(config.tasks[place], attention_of(dataset, config, place))
        for name, values in found.items():
            values[rows] = measured[name].transpose("run", "snapshot")
    variables = {name: (("run", "snapshot"), values) for name, values in found.items()}
    lengths = np.array([config.tasks[place].sequence_length for place in config.task])
    result = dataset.assign(variables).assign_coords(sequence_length=("run", lengths))
    result.distinct_entropy.attrs["units"] = "nats"
    return result
