"""Settings of the notebook "Where the story goes on"."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from learndyn.core.config import Config
from learndyn.core.device import Device

Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
Several = Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]
Exponent = Annotated[float, Field(ge=0, le=1)]
Exponents = Annotated[tuple[Exponent, ...], Field(min_length=2)]


class Beyond(Config):
    """The parameters cell of the notebook; the defaults are its quick profile.

    ``feature_*`` belong to the toys of two features, ``control_*`` to shuffled positives, ``probe_*`` to the
    accuracy along training (``probe_steps``: Barlow Twins, VICReg, SimCLR).
    """

    seeds: Seeds = (0, 1)
    feature_pairs: PositiveInt = 256
    feature_scale: PositiveFloat = 1e-3
    feature_hidden: PositiveInt = 64
    feature_steps: PositiveInt = 1500
    linear_pairs: PositiveInt = 500
    linear_dimensions: Annotated[int, Field(ge=2)] = 10
    control_pairs: PositiveInt = 100
    control_steps: PositiveInt = 1600
    control_learning_rate: PositiveFloat = 0.03
    many_pairs: PositiveInt = 400
    many_steps: PositiveInt = 2200
    operator_scales: Several = (1e-4, 1e-5, 1e-6)
    nuisance_ratios: Several = (1.0, 30.0)
    nuisance_seeds: Seeds = (0, 1, 2, 3, 4, 5, 6, 7)
    sweep_ratios: Several = (1.0, 5.0, 10.0, 14.0, 18.0, 22.0, 24.0, 26.0, 30.0, 40.0)
    probe_train: PositiveInt = 1000
    probe_pairs: PositiveInt = 400
    probe_dimensions: Annotated[int, Field(ge=2)] = 16
    probe_steps: Annotated[tuple[PositiveInt, ...], Field(min_length=3, max_length=3)] = (1000, 2500, 600)
    neighbours: PositiveInt = 5
    exponents: Exponents = (0.0, 0.25, 0.5, 0.75, 1.0)
    selectivity_seeds: Seeds = (0, 1, 2, 3, 4, 5, 6, 7)
    explorer_exponents: Exponents = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0)
    explorer_scales: Several = (1e-2, 1e-4, 1e-8)
    depth_scales: Several = (0.3, 0.1, 0.05)
    temperatures: Several = (0.2, 0.5, 1.0)
    temperature_steps: PositiveInt = 3000
    predictor_decay: NonNegativeFloat = 0.1
    device: Device = "cpu"
    progress: bool = True
