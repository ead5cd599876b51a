"""Training ensembles of two-layer networks on a group's product table (CoGO, section 4).

`train` takes a `TrainConfig`, whose per-run fields (seed, learning rate, weight decay, …) make up the ``run`` axis,
and returns one labelled dataset. `PRESETS` holds the configurations that the paper and its code name; `grid` makes the
product of several seeds, weight decays and learning rates.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from tqdm.auto import tqdm

from learndyn.core import ensemble
from learndyn.core.config import Config, OneOrMany
from learndyn.core.device import pick_device, precision, tf32
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.initial import held_out_count
from learndyn.cogo_li2.program import METRICS, GridProgram

try:
    from learndyn.core import records
except ImportError:  # until the module is there
    records = None

Decay = Annotated[float, Field(ge=0, lt=1)]
PER_RUN = ("seed", "learning_rate", "weight_decay", "momentum", "beta1", "beta2", "init_scale")


class TrainConfig(Config):
    """One ensemble. Per-run fields take one value (for all runs) or one value per run.

    ``orders`` is the group Z_{n1}×Z_{n2}×…; ``test_size`` None trains on the full table. ``momentum`` is used by sgd
    and muon (muon is always Nesterov's, as in torch), ``beta1``, ``beta2``, ``eps`` by adam and adamw. The state is
    logged *before* the step at epochs 0 … log_dense−1 and every ``log_every``-th, and at the end (epoch = epochs).
    ``compact_every`` drops dead nodes every so many epochs where that is exact (`compaction_rule`), 0 never.
    """

    orders: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(23,), min_length=1)
    hidden_size: PositiveInt = 512
    activation: Literal["sqr", "relu", "silu", "relusqr"] = "sqr"
    loss: Literal["projected_mse", "cross_entropy"] = "projected_mse"
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    learning_rate: OneOrMany[PositiveFloat] = (0.01,)
    weight_decay: OneOrMany[NonNegativeFloat] = (5e-5,)
    seed: OneOrMany[NonNegativeInt] = (1,)
    momentum: OneOrMany[Decay] = (0.9,)
    beta1: OneOrMany[Decay] = (0.9,)
    beta2: OneOrMany[Decay] = (0.999,)
    eps: PositiveFloat = 1e-8
    nesterov: bool = False
    init_scale: OneOrMany[PositiveFloat] = (1.0,)
    epochs: NonNegativeInt = 10_000
    test_size: Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    rng: Literal["vectorised", "published"] = "vectorised"
    log_dense: NonNegativeInt = 200
    log_every: PositiveInt = 100
    snapshot_epochs: tuple[NonNegativeInt, ...] = ()
    compact_every: NonNegativeInt = 100
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _broadcast(cls, values: Any) -> Any:
        """One value of a per-run field stands for all runs."""
        if not isinstance(values, dict):
            return values
        given = {name: values.get(name, cls.model_fields[name].default) for name in PER_RUN}
        listed = {name: tuple(v) if isinstance(v, list | tuple | np.ndarray) else (v,) for name, v in given.items()}
        runs = max(len(v) for v in listed.values())
        return values | {name: v * runs if len(v) == 1 else v for name, v in listed.items()}

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        lengths = {name: len(getattr(self, name)) for name in PER_RUN}
        for name, length in lengths.items():
            if length != self.runs:
                raise ValueError(
                    f"{name} has {length} values for {self.runs} runs; give one value, or one for each run"
                )
        if any(epoch > self.epochs for epoch in self.snapshot_epochs):
            raise ValueError(f"snapshot_epochs = {self.snapshot_epochs} must lie within the {self.epochs} epochs")
        if self.test_size is not None and held_out_count(self.size, self.test_size) >= self.size**2:
            raise ValueError(f"test_size = {self.test_size} leaves none of the {self.size**2} cells to train on")
        return self

    @property
    def runs(self) -> int:
        """Length of the run axis."""
        return max(len(getattr(self, name)) for name in PER_RUN)

    @property
    def size(self) -> int:
        """Number of group elements d."""
        return math.prod(self.orders)

    @property
    def logged_epochs(self) -> tuple[int, ...]:
        """Epochs whose state is logged; the last one is the end."""
        dense = range(min(self.log_dense, self.epochs))
        return tuple(sorted({*dense, *range(0, self.epochs, self.log_every), self.epochs}))

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Epochs whose weights are kept; the last one is the end."""
        return tuple(sorted({*self.snapshot_epochs, self.epochs}))

    def select(self, runs: Sequence[int]) -> TrainConfig:
        """The same configuration with only these runs."""
        return self.replace(**{name: tuple(getattr(self, name)[r] for r in runs) for name in PER_RUN})


PRESETS: dict[str, TrainConfig] = {
    "published": TrainConfig(seed=(1, 2, 3, 4, 5), rng="published"),
    "figure3": TrainConfig(seed=5, weight_decay=1e-4, rng="published"),
    "readme": TrainConfig(orders=(71,), learning_rate=0.002, rng="published"),
}
"""Named configurations.

``published``
    d = 23, q = 512, learning rate 0.01, weight decay 5e-5, seeds 1–5: Table 2 and the middle panel of Fig. 4. The
    authors' logs and reruns agree on this learning rate.
``figure3``
    Seed 5 with weight decay 1e-4: the run of Figure 3.
``readme``
    What the README of the authors' code says: d = 71 and learning rate 0.002. It is another experiment than the
    published one: rerun at d = 23, learning rate 0.002 misses the published row of Table 2 by far, and 0.01 hits it.
"""


def grid(base: TrainConfig, *, seeds: Sequence[int] | None = None, weight_decays: Sequence[float] | None = None,
         learning_rates: Sequence[float] | None = None) -> TrainConfig:
    """The product weight_decays × learning_rates × seeds along the run axis (seeds fastest).

    What is not given stays as in ``base``, which then must have one value of it.
    """
    axes = {"weight_decay": weight_decays, "learning_rate": learning_rates, "seed": seeds}
    values = []
    for name, axis in axes.items():
        own = tuple(dict.fromkeys(getattr(base, name)))
        if axis is None and len(own) > 1:
            raise ValueError(f"the base has {len(own)} values of {name}; give them to grid, or a base with one")
        values.append(own if axis is None else tuple(axis))
    product = list(itertools.product(*values))
    columns = {name: tuple(column) for name, column in zip(axes, zip(*product, strict=True), strict=True)}
    shared = {name: getattr(base, name)[0] for name in PER_RUN if name not in columns}
    return base.replace(**shared, **columns)


@dataclass(frozen=True)
class Measure:
    """A quantity to log: ``function(weights)`` maps ``[run, part, node, element]`` to ``[run, *dims]``.

    It sees the nodes that are still alive, in an order of no meaning, and possibly some nodes that are zero: sums over
    nodes are right, node indices mean nothing unless ``compact_every`` is 0. The result stays on the device.
    """

    name: str
    dims: tuple[str, ...]
    function: Callable[[Tensor], Tensor]


def train(config: TrainConfig, *, device: str | torch.device = "cpu", checkpoint: Path | str | None = None,
          checkpoint_every: int = 1000, measures: Sequence[Measure] = (),
          initial_weights: Float[Tensor, "run part node element"] | None = None, progress: bool = False,
          max_memory: int | None = None, strict: bool = False) -> xr.Dataset:
    """Train all runs of ``config`` as one batched program and return what was logged.

    Parameters
    ----------
    device
        "cpu", "cuda", "cuda:1" or "auto".
    checkpoint
        A file to write every ``checkpoint_every`` epochs, and to go on from if it is there; on the CPU the
        continued run is bit for bit the uninterrupted one. It is left in place at the end.
    measures
        Further quantities to log.
    initial_weights
        ``[run, part, node, element]`` in place of the random ones; the train split still comes from the seeds.
    max_memory
        Bytes for the ensemble; if it needs more it trains in parts, one after another, each with a
        checkpoint of its own (so a finished part is not trained again after an interruption).
    strict
        Raise at the first run that diverges instead of going on without it.

    Returns
    -------
    Dataset with dims run, epoch, snapshot, part, node, element: train_loss, test_loss, train_accuracy,
    test_accuracy, alive_nodes (max_k |A_k| > 0.05) and the measures over (run, epoch); ``weights`` over (run, snapshot,
    part, node, element) with every node at its original index, dead ones zero; status_code, status_epoch,
    status_sentence over run. Values of a run after it diverged are NaN.

    Raises
    ------
    CheckpointError, EnsembleError, DeviceError
        In one sentence each.
    """
    started = time.perf_counter()
    target = pick_device(str(device))
    _check_initial(config, initial_weights)
    plan = ensemble.chunks(config.runs, _bytes_per_run(config), max_memory)
    parts = []
    with tf32(False), ensemble.progress_bar(config.epochs * len(plan), show=progress, unit="epoch") as bar:
        for chunk in plan:
            own = None if initial_weights is None else initial_weights[chunk.start : chunk.stop]
            parts.append(_train_chunk(
                config.select(chunk), target, measures, own, strict, bar,
                ensemble.chunk_path(checkpoint, chunk, config.runs), checkpoint_every,
            ))
    dataset = parts[0] if len(parts) == 1 else xr.concat(parts, dim="run")
    dataset.attrs = parts[0].attrs
    if records is not None:
        dataset.attrs |= records.provenance(config, target, time.perf_counter() - started)
    return dataset


def _check_initial(config: TrainConfig, weights: Tensor | None) -> None:
    wanted = (config.runs, 3, config.hidden_size, config.size)
    if weights is not None and tuple(weights.shape) != wanted:
        raise ValueError(f"initial_weights has shape {tuple(weights.shape)}; this configuration needs {wanted}")


def _bytes_per_run(config: TrainConfig) -> int:
    """Weights, gradient, two moments and scratch; masks; logs. Block buffers do not grow with the runs."""
    item = precision(config.dtype).itemsize
    return item * (5 * 3 * config.hidden_size * config.size + 3 * config.size**2 + 8 * len(config.logged_epochs))


def _train_chunk(config: TrainConfig, device: torch.device, measures: Sequence[Measure],
                 initial: Tensor | None, strict: bool, bar: tqdm, checkpoint: Path | None,
                 checkpoint_every: int) -> xr.Dataset:
    program = GridProgram(config, device, {m.name: m.function for m in measures}, initial, strict=strict)
    identity = {"config": config.model_dump(mode="json"), "measures": [m.name for m in measures]}
    if initial is not None:
        digest = hashlib.sha256(initial.detach().cpu().contiguous().numpy().tobytes())
        identity["initial_weights"] = digest.hexdigest()
    ensemble.drive(
        program, steps=config.epochs, logged=config.logged_epochs, maintain_every=config.compact_every or 100,
        checkpoint=checkpoint, checkpoint_every=checkpoint_every, identity=json.dumps(identity), bar=bar,
    )
    return _dataset(config, program, measures)


def _dataset(config: TrainConfig, program: GridProgram, measures: Sequence[Measure]) -> xr.Dataset:
    """Everything a program holds at its end, labelled."""
    over_time = ("run", "epoch")
    variables = {name: (over_time, program.log.values[name].cpu().numpy()) for name in METRICS}
    variables |= {
        m.name: ((*over_time, *m.dims), program.log.values[m.name].cpu().numpy()) for m in measures
    }
    variables["weights"] = (("run", "snapshot", "part", "node", "element"), program.snapshots.numpy())
    statuses = list(program.statuses)
    variables["status_code"] = ("run", np.array([int(s.code) for s in statuses]))
    variables["status_epoch"] = ("run", np.array([s.step for s in statuses]))
    variables["status_sentence"] = ("run", np.array([s.sentence for s in statuses]))
    coords = {
        "epoch": list(config.logged_epochs),
        "snapshot": list(config.snapshots),
        "part": ["a", "b", "c"],
        **{name: ("run", np.array(getattr(config, name))) for name in ("seed", "weight_decay", "learning_rate")},
    }
    return xr.Dataset(variables, coords, attrs={"group": str(AbelianGroup(config.orders)), "compaction": program.rule})
