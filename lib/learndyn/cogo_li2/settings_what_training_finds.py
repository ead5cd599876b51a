"""Settings of the notebook "What training finds", and the ensembles that it trains on the spot."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
import xarray as xr
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from learndyn.cogo_li2 import algebra, analysis
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings import TrainConfig, grid
from learndyn.cogo_li2.training import Measure, train
from learndyn.core.config import Config
from learndyn.core.device import Device, generator

Modulus = Annotated[int, Field(ge=5)]
REFERENCE_SMALL = {7: (64, 1e-3), 11: (96, 1e-3), 17: (128, 5e-4)}
"""Width and weight decay, by d, of the stored runs in ``order6_counts_small_d.csv``; all of 3000 epochs."""


class WhatTrainingFinds(Config):
    """The parameters cell of the notebook.

    ``archive``: the sweep of Figure 4; ``width_archive``: the sweep over widths, empty for none; both
    relative to the checkout's root. ``moduli``, ``widths`` (one for each modulus), ``weight_decays``,
    ``collapse_weight_decay``, ``seeds``, ``epochs``: the small groups trained here on the full table.
    ``memorisation_…``: training that starts at perfect memorisation.
    """

    archive: str = "results/cogo_li2/figure4.nc"
    width_archive: str = ""
    moduli: Annotated[tuple[Modulus, ...], Field(min_length=1)] = (7, 11, 13, 17)
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 96, 96, 128)
    weight_decays: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = (5e-4, 1e-3, 3e-3)
    collapse_weight_decay: PositiveFloat = 0.02
    seeds: PositiveInt = 8
    epochs: PositiveInt = 3000
    learning_rate: PositiveFloat = 0.01
    memorisation_modulus: Annotated[int, Field(ge=5, le=13)] = 7
    memorisation_epochs: PositiveInt = 3000
    memorisation_weight_decay: PositiveFloat = 1e-3
    memorisation_noise: NonNegativeFloat = 0.01
    memorisation_seeds: PositiveInt = 4
    explorer_epochs: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (1000, 9900)
    device: Device = "cpu"
    progress: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> WhatTrainingFinds:
        if len(self.widths) != len(self.moduli):
            raise ValueError(f"widths has {len(self.widths)} values for {len(self.moduli)} moduli")
        if even := [d for d in (*self.moduli, self.memorisation_modulus) if d % 2 == 0]:
            raise ValueError(f"moduli must be odd, not {even[0]}: frequencies are pairs {{k, −k}} here")
        return self

    @property
    def covers_reference(self) -> bool:
        """Whether the small groups include the configurations of ``REFERENCE_SMALL``."""
        widths = dict(zip(self.moduli, self.widths, strict=True))
        return (
            self.learning_rate == 0.01
            and self.epochs == 3000
            and all(widths.get(d) == q and wd in self.weight_decays for d, (q, wd) in REFERENCE_SMALL.items())
        )

    @property
    def memorisation_is_reference(self) -> bool:
        """Whether the memorisation runs are those of ``memorisation_path_d7.csv`` (runs b and c)."""
        return (self.memorisation_modulus, self.memorisation_weight_decay, self.memorisation_noise) == (
            7, 1e-3, 0.01,
        ) and self.memorisation_epochs >= 3000  # fmt: skip


def small_group(settings: WhatTrainingFinds, modulus: int) -> xr.Dataset:
    """Train one small group: all weight decays × seeds as one ensemble, on the full table.

    Weight decays are ``weight_decays`` and, last, ``collapse_weight_decay``. Adds to the dataset of
    `training.train` the measures ``order`` (run, epoch, frequency) and ``squared_norm`` (run, epoch); the
    weights are left out.
    """
    group = AbelianGroup((modulus,))
    width = dict(zip(settings.moduli, settings.widths, strict=True))[modulus]
    base = TrainConfig(
        orders=(modulus,),
        hidden_size=width,
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        test_size=None,
        log_dense=0,
        log_every=max(1, settings.epochs // 30),
    )
    config = grid(
        base,
        seeds=range(1, settings.seeds + 1),
        weight_decays=(*settings.weight_decays, settings.collapse_weight_decay),
    )
    runs = train(
        config, device=settings.device, measures=_measures(group), progress=settings.progress
    )
    return runs.drop_vars("weights")


def _measures(group: AbelianGroup) -> list[Measure]:
    dims, count = analysis.order_summaries(group)["order"]
    return [Measure("order", dims, count), Measure("squared_norm", (), squared_norm)]


def squared_norm(weights: Float[Tensor, "*batch part node element"]) -> Float[Tensor, "*batch"]:
    """‖w_a‖² + ‖w_b‖² + ‖w_c‖²."""
    return weights.square().sum((-3, -2, -1))


class Start(NamedTuple):
    """One run from perfect memorisation."""

    label: str
    noise: float
    weight_decay: float
    seed: int


def memorisation_starts(settings: WhatTrainingFinds) -> list[Start]:
    """With noise (several draws), without noise, and with noise but no weight decay."""
    noise, decay = settings.memorisation_noise, settings.memorisation_weight_decay
    noisy = [Start("noise", noise, decay, seed) for seed in range(1, settings.memorisation_seeds + 1)]
    return [*noisy, Start("exact", 0.0, decay, 1), Start("no weight decay", noise, 0.0, 1)]


def _noise(start: Start, like: Tensor) -> Tensor:
    source = generator(start.seed, "memorisation")
    return start.noise * torch.randn(like.shape, generator=source, dtype=like.dtype)


def memorisation_runs(settings: WhatTrainingFinds) -> xr.Dataset:
    """Train from the weights of perfect memorisation (no k = 0 part, d² nodes) on the full table.

    Coordinate ``start`` on the run axis is "noise", "exact" or "no weight decay"; measures as in
    :func:`small_group`. Noise is Gaussian with standard deviation ``memorisation_noise`` on every weight.
    """
    group = AbelianGroup((settings.memorisation_modulus,))
    starts = memorisation_starts(settings)
    exact = group.to_weights(algebra.memorisation(group, include_dc=False))
    noise = [_noise(start, exact) for start in starts]
    config = TrainConfig(
        orders=group.orders,
        hidden_size=exact.shape[1],
        learning_rate=settings.learning_rate,
        weight_decay=tuple(start.weight_decay for start in starts),
        seed=tuple(start.seed for start in starts),
        epochs=settings.memorisation_epochs,
        test_size=None,
    )
    initial = torch.stack([exact + added for added in noise]).float()
    runs = train(
        config,
        device=settings.device,
        measures=_measures(group),
        initial_weights=initial,
        progress=settings.progress,
    )
    return runs.drop_vars("weights").assign_coords(start=("run", [start.label for start in starts]))
