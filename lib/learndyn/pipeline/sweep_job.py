"""The two kinds of work of a sweep: train one group, and gather all groups into one labelled dataset."""

from __future__ import annotations

import inspect
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from filelock import FileLock

from learndyn.core import records
from learndyn.core.device import describe_device, pick_device
from learndyn.pipeline import sweep_spec
from learndyn.pipeline.sweep_spec import Group, SweepSpec

KEY = "sweep_key"


def run_group(
    spec: SweepSpec, group: Group, target: Path, *, device: str = "auto", checkpoints: Path | None = None
) -> bool:
    """Train one group and put its file at `target`; go on from its checkpoint if there is one.

    A cluster job may outlive the sweep that submitted it, and the sweep, started again, submits it again. So
    a lock beside the checkpoint lets one of them wait for the other, and what was trained is kept in
    `stored/` as well, since Snakemake deletes a job's output before it starts the job.

    Returns:
        Whether anything was trained: False if the group had been stored already.
    """
    folder = target.parent if checkpoints is None else checkpoints
    stored = stored_path(folder, group)
    stored.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{group.key}.checkpoint"
    with FileLock(folder / f"{group.key}.lock"):
        fresh = not stored.exists()
        if fresh:
            dataset = _train(spec, group, device, checkpoint)
            records.save(compressed(labelled(dataset, group)), stored)
        for left in folder.glob(f"*{checkpoint.name}*"):
            left.unlink()
        _link(stored, target)
    return fresh


def stored_path(folder: Path, group: Group) -> Path:
    """Where a trained group is kept, in the folder of its checkpoints."""
    return folder / "stored" / f"{group.key}.nc"


def _link(stored: Path, target: Path) -> None:
    """The same file under a second name, or a copy of it where that cannot be."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(stored, temporary)
    except OSError:
        shutil.copyfile(stored, temporary)
    os.replace(temporary, target)
    # Renaming a link onto another link of the same file leaves both.
    temporary.unlink(missing_ok=True)


def _train(spec: SweepSpec, group: Group, device: str, checkpoint: Path) -> xr.Dataset:
    place = pick_device(device)
    train = sweep_spec.trainer(spec).train
    options: dict[str, Any] = {}
    if spec.measures:
        options["measures"] = sweep_spec.resolve(spec.measures)(group.config)
    if place.type == "cuda" and "max_memory" in inspect.signature(train).parameters:
        # What a trainer counts is its arrays: some of the memory is left to buffers and to CUDA itself.
        options["max_memory"] = int(0.7 * torch.cuda.mem_get_info(place)[0])
    started = time.perf_counter()
    dataset: xr.Dataset = train(
        group.config,
        device=place,
        checkpoint=checkpoint,
        checkpoint_every=spec.checkpoint_every,
        **options,
    )
    attributes = dataset.attrs
    if spec.reduce:
        dataset = sweep_spec.resolve(spec.reduce)(dataset)
    # The trainer's own provenance stays; a trainer that writes none gets it here, since nothing is stored
    # without.
    wall_seconds = time.perf_counter() - started
    dataset.attrs = {**records.provenance(group.config, place, wall_seconds), **attributes, **dataset.attrs}
    return dataset


def labelled(dataset: xr.Dataset, group: Group) -> xr.Dataset:
    """Add the group's shape and run parameters as coordinates of the ``run`` dimension.

    Raises:
        ValueError: the trainer gave another number of runs than the group has.
    """
    count = len(group.runs)
    if dataset.sizes.get("run") != count:
        raise ValueError(f"the trainer returned {dataset.sizes.get('run')} runs for a group of {count}")
    columns = {name: [value] * count for name, value in group.shape.items()}
    columns |= {name: [run[name] for run in group.runs] for name in group.runs[0]}
    coordinates = {
        name: ("run", np.asarray([sweep_spec.shape_coordinate(value) for value in values]))
        for name, values in columns.items()
        if name not in dataset.coords
    }
    return dataset.assign_coords(coordinates)


def compressed(dataset: xr.Dataset) -> xr.Dataset:
    """Ask for netCDF compression of every numeric variable; float64 variables are stored as float32."""
    dataset = dataset.copy()
    for name, variable in dataset.data_vars.items():
        if variable.dtype == np.float64:
            dataset[name] = variable.astype(np.float32)
        kind = variable.dtype.kind
        dataset[name].encoding = (
            {"zlib": True, "complevel": 4, "shuffle": True} if kind in "fiuc" and variable.ndim else {}
        )
    return dataset


def gather(spec: SweepSpec, parts: Sequence[Path], target: Path) -> None:
    """Join the groups' files (in the order of the grid) into one dataset along ``run`` and store it whole.

    Axes that differ between shapes (epochs, frequencies, nodes, …) are joined on their labels, or on their
    index where they have none; what a run does not have is NaN, or −1 in a whole-number variable, or an
    empty text.
    """
    datasets = [records.load(part) for part in parts]
    joined = join(datasets)
    device = ", ".join(
        sorted({str(dataset.attrs["device"]) for dataset in datasets if "device" in dataset.attrs})
    )
    wall_seconds = float(sum(dataset.attrs.get("wall_seconds", 0.0) for dataset in datasets))
    joined.attrs = {
        **records.provenance(spec, device or describe_device(pick_device("cpu")), wall_seconds),
        "sweep": spec.name,
        # The parts may be older than the file that joins them: a sweep resumes across commits.
        "trained_at_commits": ", ".join(
            sorted({dataset.attrs.get("learndyn_commit", "unknown") for dataset in datasets})
        ),
        KEY: sweep_spec.sweep_key(spec),
    }
    records.save(compressed(joined), target)


def join(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """One dataset of all runs; axes of unequal length are padded (NaN, −1 or an empty text).

    Args:
        datasets: each with a ``run`` dimension and the same variables.
    """
    bare = {str(dim) for dataset in datasets for dim in dataset.dims if dim not in dataset.coords} - {"run"}
    indexed = [
        _without_text_widths(dataset).assign_coords(
            {dim: np.arange(dataset.sizes[dim]) for dim in bare if dim in dataset.dims}
        )
        for dataset in datasets
    ]
    fill = {
        str(name): _missing(variable.dtype)
        for dataset in indexed
        for name, variable in dataset.variables.items()
        if name not in dataset.dims
    }
    joined = xr.concat(
        indexed, dim="run", join="outer", fill_value=fill, data_vars="all", coords="different",
        compat="equals", combine_attrs="drop",
    )  # fmt: skip
    joined = joined.drop_vars(bare)
    texts = [name for name, variable in joined.variables.items() if variable.dtype == object]
    return joined.assign({name: joined.variables[name].astype(str) for name in texts})


def _without_text_widths(dataset: xr.Dataset) -> xr.Dataset:
    """Texts as Python strings: joined as fixed-width text they are cut to the width of the first dataset."""
    return dataset.assign(
        {
            name: variable.astype(object)
            for name, variable in dataset.variables.items()
            if variable.dtype.kind == "U" and name not in dataset.dims
        }
    )


def _missing(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    if dtype.kind in "iu":
        return np.asarray(-1).astype(dtype)[()]
    return "" if dtype.kind in "USO" else np.nan
