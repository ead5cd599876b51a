"""Training ensembles of two-layer networks on the product table of a group (CoGO, section 4).

`train` takes a `TrainConfig`, whose per-run fields (seed, learning rate, weight decay, …) make up the ``run``
axis, and returns one labelled dataset. `PRESETS` holds the configurations that the paper and its code name;
`grid` makes the product of several seeds, weight decays and learning rates.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.program import METRICS, GridProgram
from learndyn.cogo_li2.settings import PRESETS, TrainConfig, grid
from learndyn.core import ensemble, records
from learndyn.core.device import pick_device, precision, tf32

__all__ = ["PRESETS", "Measure", "TrainConfig", "grid", "train"]


@dataclass(frozen=True)
class Measure:
    """A quantity to log: ``function`` maps weights ``[run, part, node, element]`` to a tensor ``[run,
    *dims]``.

    It sees the nodes that are still alive and possibly some that are zero: sums over nodes are right, node
    numbers mean nothing unless ``compact_every`` is 0. Its result stays on the device until the end.
    """

    name: str
    dims: tuple[str, ...]
    function: Callable[[Tensor], Tensor]


def train(
    config: TrainConfig,
    *,
    device: str | torch.device = "cpu",
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 1000,
    measures: Sequence[Measure] = (),
    initial_weights: Float[Tensor, "run part node element"] | None = None,
    progress: bool = False,
    max_memory: int | None = None,
    strict: bool = False,
) -> xr.Dataset:
    """Train all runs of ``config`` as one batched program and return what was logged.

    Args:
        device: "cpu", "cuda", "cuda:1" or "auto".
        checkpoint: a file to write every ``checkpoint_every`` epochs, and to go on from if it is there. On
            the CPU the continued run is bit for bit the uninterrupted one. It stays when training is done,
            so that training again only reads it.
        measures: further quantities to log.
        initial_weights: in place of the random ones; the train split still comes from the seeds.
        progress: show a bar with rate and time left; it leaves nothing behind.
        max_memory: bytes for the ensemble. If it needs more it trains in parts, one after another, each with
            a checkpoint of its own (an interruption does not lose the parts that are done).
        strict: raise at the first run that diverges instead of going on without it.

    Returns:
        Dims run, epoch, snapshot, part, node, element. Over (run, epoch): train_loss, test_loss,
        train_accuracy, test_accuracy, alive_nodes (nodes with max_k |A_kj| > 0.05) and the measures; over
        (run, snapshot, part, node, element): weights, every node at its original place, dead ones zero;
        over run: status_code, status_epoch, status_sentence. NaN stands for a run that has diverged before,
        and for test values without a test set.

    Raises:
        DeviceError, EnsembleError, CheckpointError: in one sentence each.
        ValueError: initial weights of a wrong shape, a checkpoint interval below 1.
    """
    started = time.perf_counter()
    target = pick_device(str(device))
    wanted = (config.runs, 3, config.hidden_size, config.size)
    if initial_weights is not None and tuple(initial_weights.shape) != wanted:
        shape = tuple(initial_weights.shape)
        raise ValueError(f"initial_weights has shape {shape}; this configuration needs {wanted}")
    plan = ensemble.chunks(config.runs, _bytes_per_run(config), max_memory)
    parts = []
    with tf32(False), ensemble.progress_bar(config.epochs * len(plan), show=progress, unit="epoch") as bar:
        for chunk in plan:
            program = GridProgram(
                config.select(chunk),
                target,
                {measure.name: measure.function for measure in measures},
                None if initial_weights is None else initial_weights[chunk.start : chunk.stop],
                strict=strict,
            )
            file = ensemble.chunk_path(checkpoint, chunk, config.runs)
            _run(program, file, checkpoint_every, initial_weights is not None, bar)
            parts.append(_dataset(program, measures))
    dataset = ensemble.join(parts)
    return dataset.assign_attrs(records.provenance(config, target, time.perf_counter() - started))


def _bytes_per_run(config: TrainConfig) -> int:
    """Weights, gradient, two moments, scratch, kept weights; masks; logs; not the shared block buffers."""
    tensors = 5 + len(config.kept_epochs)
    numbers = (
        tensors * 3 * config.hidden_size * config.size + 3 * config.size**2 + 8 * len(config.logged_epochs)
    )
    return precision(config.dtype).itemsize * numbers


def _run(program: GridProgram, file: Path | None, every: int, given_start: bool, bar: tqdm) -> None:
    config = program.config
    identity = {"config": config.model_dump(mode="json"), "measures": list(program.measures)}
    if given_start and file is not None:
        start = program.weights.cpu().numpy().tobytes()
        identity["initial_weights"] = hashlib.sha256(start).hexdigest()
    ensemble.drive(
        program,
        steps=config.epochs,
        logged=config.logged_epochs,
        maintain_every=config.compact_every or 100,
        checkpoint=file,
        checkpoint_every=every,
        identity=json.dumps(identity, sort_keys=True),
        bar=bar,
    )


def _dataset(program: GridProgram, measures: Sequence[Measure]) -> xr.Dataset:
    """Everything a program holds at its end, labelled."""
    config = program.config
    names = dict.fromkeys(METRICS, ()) | {measure.name: measure.dims for measure in measures}
    variables = {
        name: (("run", "epoch", *dims), program.log.values[name].cpu().numpy())
        for name, dims in names.items()
    }
    variables["weights"] = (("run", "snapshot", "part", "node", "element"), program.snapshots.numpy())
    variables |= program.statuses.variables()
    coords = {
        name: ("run", np.array(getattr(config, name))) for name in ("seed", "weight_decay", "learning_rate")
    }
    coords |= {
        "epoch": list(config.logged_epochs),
        "snapshot": list(config.kept_epochs),
        "part": ["a", "b", "c"],
    }
    attrs = {"group": str(AbelianGroup(config.orders)), "compaction": program.rule}
    return xr.Dataset(variables, coords, attrs).rename(status_step="status_epoch")
