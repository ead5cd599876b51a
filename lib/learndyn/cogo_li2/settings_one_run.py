"""Settings of the notebook "One training run under the microscope", and what it measures while training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from learndyn.cogo_li2 import analysis, potentials
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings import PRESETS, TrainConfig
from learndyn.cogo_li2.training import Measure, train
from learndyn.core.config import Config
from learndyn.core.device import Device
from learndyn.core.explorer import format_value

Width = Annotated[int, Field(ge=1)]
# What does not change a trajectory: what is logged, and dropping nodes that are dead.
_BOOKKEEPING = ("log_dense", "log_every", "snapshot_epochs", "compact_every")


class OneRun(Config):
    """The parameters cell of the notebook; the defaults are the run of the paper's Figure 3."""

    modulus: Annotated[int, Field(ge=5)] = 23
    hidden_size: PositiveInt = 512
    learning_rate: PositiveFloat = 0.01
    weight_decay: NonNegativeFloat = 1e-4
    seed: NonNegativeInt = 5
    rng: Literal["published", "vectorised"] = "published"
    epochs: Annotated[int, Field(ge=101)] = 10_000
    snapshot_epochs: tuple[NonNegativeInt, ...] = (0, 1000)
    no_decay_epochs: PositiveInt = 1000
    exercise_epochs: PositiveInt = 1000
    explorer_frequencies: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2)
    gram_widths: Annotated[tuple[Width, ...], Field(min_length=2)] = (16, 256)
    flow_widths: Annotated[tuple[Width, ...], Field(min_length=2)] = (16, 256)
    panel_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    panel_steps: PositiveInt = 5000
    device: Device = "cpu"
    progress: bool = True

    @property
    def group(self) -> AbelianGroup:
        """Z_d."""
        return AbelianGroup((self.modulus,))

    @property
    def checkpoint(self) -> int:
        """The last regular checkpoint before the end, which the analyses use (9900 of 10000 epochs)."""
        return (self.epochs - 1) // 100 * 100

    @property
    def train_config(self) -> TrainConfig:
        """The run itself."""
        return TrainConfig(
            orders=(self.modulus,),
            hidden_size=self.hidden_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            seed=self.seed,
            rng=self.rng,
            epochs=self.epochs,
            snapshot_epochs=(*self.snapshot_epochs, self.checkpoint),
        )

    @property
    def is_published_run(self) -> bool:
        """Whether this is the run of Figure 3: same trajectory, whatever is logged of it."""
        own, paper = (
            c.model_dump(exclude=set(_BOOKKEEPING)) for c in (self.train_config, PRESETS["figure3"])
        )
        return own == paper


def measure(settings: OneRun, **changes: object) -> xr.Dataset:
    """Train the run of ``settings``, with ``changes`` to its `TrainConfig`, and measure what Figure 3 draws.

    Returns the dataset of `training.train` for the single run (no run axis), with the variables of
    `potentials.figure3_summaries` and `analysis.order_summaries` and ``goal_potential`` (epoch, frequency),
    the real part of r_kkk; ``frequency`` is a coordinate.
    """
    group = settings.group
    found = potentials.figure3_summaries(group) | analysis.order_summaries(group)
    found["goal_potential"] = (("frequency",), partial(goal_potentials, group))
    config = settings.train_config
    if "epochs" in changes:
        config = config.replace(snapshot_epochs=())
    run = train(
        config.replace(**changes),
        device=settings.device,
        measures=[Measure(name, dims, function) for name, (dims, function) in found.items()],
        progress=settings.progress,
    )
    return run.isel(run=0).assign_coords(frequency=group.half().characters.numpy())


def goal_potentials(
    group: AbelianGroup, weights: Float[Tensor, "*batch part node element"]
) -> Float[Tensor, "*batch frequency"]:
    """Re r_kkk for each frequency of ``group.half()`` (paper's normalisation; 1 at a global solution)."""
    half = group.half().characters.to(weights.device)
    a, b, c = group.to_spectrum(weights)[..., half].unbind(-3)
    return 2 * group.size * (a * b * c).real.sum(-2)


def weights_at(run: xr.Dataset, epoch: int) -> Float[Tensor, "part node element"]:
    """The weights of a snapshot of :func:`measure`'s dataset.

    Raises:
        KeyError: if there is no snapshot at that epoch.
    """
    return torch.from_numpy(run["weights"].sel(snapshot=epoch).values)


def travel(angles: xr.Dataset) -> Float[np.ndarray, " snapshot"]:
    """How far (degrees) the last of the surviving nodes still is from its final place on the torus.

    Takes what `analysis.torus_angles` returns; the distance of a node is the larger of its two angles, and
    (a, b) → (−a, −b) counts as no distance. NaN if no node survives.
    """
    survives = angles["member"].values[-1]
    points = np.stack([angles["angle_a"].values, angles["angle_b"].values])[:, :, survives]
    away = points - points[:, -1:]
    gaps = [np.abs(np.angle(np.exp(1j * (away + shift)))).max(axis=0) for shift in (0, np.pi)]
    nearest = np.degrees(np.minimum(*gaps))
    return nearest.max(axis=1) if survives.any() else np.full(len(nearest), np.nan)


def preset_table() -> pd.DataFrame:
    """The named configurations of `settings.PRESETS`, one row each, as text for a reader."""
    rows = {
        name: {
            "d": str(preset.size),
            "learning rate": format_value(preset.learning_rate[0]),
            "weight decay": format_value(preset.weight_decay[0]),
            "seeds": ", ".join(map(str, preset.seed)),
        }
        for name, preset in PRESETS.items()
    }
    return pd.DataFrame(rows).T


def panel_table(seeds: Sequence[int], states: Iterable[tuple[tuple[int, ...], int, float]]) -> pd.DataFrame:
    """How each start of the convergence panels ended: (orders, live nodes, loss) as text for a reader."""
    rows = {
        f"seed {seed}": {
            "orders": " ".join(map(str, orders)),
            "live nodes": str(alive),
            "loss": format_value(float(f"{loss:.1e}")),
        }
        for seed, (orders, alive, loss) in zip(seeds, states, strict=True)
    }
    return pd.DataFrame(rows).T
