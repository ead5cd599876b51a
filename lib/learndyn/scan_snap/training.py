"""Finite-length training of the one-layer Transformer of Tian et al. 2023, many runs as one program.

`train` takes a `TrainConfig`, whose per-run fields make up the ``run`` axis, and returns one labelled
dataset. `PRESETS` holds the published configurations; `grid` makes products of tasks, rates and seeds.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from learndyn.core import ensemble, records
from learndyn.core.device import pick_device, tf32
from learndyn.scan_snap.program import CountProgram, bytes_per_run
from learndyn.scan_snap.settings import PRESETS, TrainConfig, grid

__all__ = ["PRESETS", "TrainConfig", "attention_of", "grid", "train"]


def train(
    config: TrainConfig,
    *,
    device: str | torch.device = "cpu",
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 1000,
    progress: bool = False,
    max_memory: int | None = None,
    strict: bool = False,
) -> xr.Dataset:
    """Train all runs of ``config`` and return what was logged.

    Args:
        device: "cpu", "cuda", "cuda:1" or "auto". The random numbers are the same on all of them.
        checkpoint: a file to write every ``checkpoint_every`` steps, and to go on from if it is there. On the
            CPU the continued run is bit for bit the uninterrupted one.
        progress: show a bar with rate and time left; it leaves nothing behind.
        max_memory: bytes for the ensemble. If it needs more it trains in parts, one after another, each with
            a checkpoint of its own.
        strict: raise at the first run that diverges instead of going on without it.

    Returns:
        Over (run, step): loss, the mean cross-entropy of the step's batch in nats before the step (at the
        end, of one more batch), and attention_speed, ‖Z_{t+1} − Z_t‖_F (NaN at the end). Over (run, snapshot,
        query, token): attention, the query rows of Z; NaN where a run's task has fewer queries or tokens than
        another's. With keep_decoder, over (run, snapshot, token, predicted): decoder, Y. Over run:
        status_code, status_step, status_sentence, and as coordinates what is per run. NaN also stands for a
        run that has diverged before.

    Raises:
        DeviceError, EnsembleError, CheckpointError: in one sentence each.
    """
    started = time.perf_counter()
    target = pick_device(str(device))
    largest = max(bytes_per_run(config, task) for task in set(config.task))
    plan = ensemble.chunks(config.runs, largest, max_memory)
    parts = []
    with tf32(False), ensemble.progress_bar(config.steps * len(plan), show=progress) as bar:
        for chunk in plan:
            program = CountProgram(config.select(chunk), target, strict=strict)
            ensemble.drive(
                program,
                steps=config.steps,
                logged=config.logged_steps,
                checkpoint=ensemble.chunk_path(checkpoint, chunk, config.runs),
                checkpoint_every=checkpoint_every,
                identity=json.dumps({"config": program.config.to_json(), "device": target.type}),
                bar=bar,
            )
            parts.append(_dataset(program))
    dataset = ensemble.join(parts)
    return dataset.assign_attrs(records.provenance(config, target, time.perf_counter() - started))


def attention_of(dataset: xr.Dataset, config: TrainConfig, task: int = 0) -> xr.DataArray:
    """The attention logits of the runs of one task, over its own queries and tokens."""
    chosen = config.tasks[task]
    runs = np.flatnonzero(np.array(config.task) == task)
    return dataset.attention.isel(run=runs, query=slice(0, chosen.queries), token=slice(0, chosen.vocabulary))


def _dataset(program: CountProgram) -> xr.Dataset:
    """Everything a program holds at its end, labelled."""
    config = program.config
    variables = {name: (("run", "step"), value.cpu().numpy()) for name, value in program.log.values.items()}
    dims = {"attention": ("query", "token"), "decoder": ("token", "predicted")}
    variables |= {
        name: (("run", "snapshot", *dims[name]), value.numpy()) for name, value in program.snapshots.items()
    }
    variables |= program.statuses.variables()
    variables["loss"] = (*variables["loss"], {"units": "nats"})
    coords = {name: ("run", np.array(getattr(config, name))) for name in (*config.PER_RUN, "decoder_rate")}
    for name in ("queries", "classes", "vocabulary"):
        coords[name] = ("run", np.array([getattr(config.tasks[task], name) for task in config.task]))
    coords |= {"step": list(config.logged_steps), "snapshot": list(config.kept_steps)}
    return xr.Dataset(variables, coords)
