"""Settings of the notebook "Attention scans, then snaps"."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core.config import Config
from learndyn.core.device import Device
from learndyn.scan_snap.settings import FIGURE_STEPS, Fraction, TrainConfig, grid
from learndyn.scan_snap.task import TaskConfig

Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
#: The panels of Figures 4 and 5, by the names that `published` has for them.
SGD_PANELS = ("figure4_left", "figure4_right")
ADAM_PANELS = ("figure5_a", "figure5_b", "figure5_c")


class Training(Config):
    """The parameters cell of the notebook; the defaults are the published settings, over ten seeds."""

    sequence_length: Annotated[int, Field(ge=3)] = 128
    attention_rate: PositiveFloat = 1.0
    rate_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=2)] = (1.0, 10.0)
    adam_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=3, max_length=3)] = (0.1, 0.5, 1.0)
    momentum: Fraction = 0.9
    batch_size: PositiveInt = 128
    steps: Annotated[int, Field(ge=100)] = 100
    rng: Literal["published", "vectorised"] = "published"
    seeds: Seeds = tuple(range(1, 11))
    shown_seed: NonNegativeInt = 2
    long_steps: Annotated[int, Field(ge=100)] = 1000
    lengths: Annotated[tuple[Annotated[int, Field(ge=3)], ...], Field(min_length=1)] = (32, 128, 512)
    other_seeds: Seeds = tuple(range(11, 21))
    prior_runs: PositiveInt = 100
    prior_scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.25, 0.5, 1.0, 2.0, 4.0)
    explorer_steps: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 10, 48)
    device: Device = "cpu"
    progress: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if self.shown_seed not in self.seeds:
            raise ValueError(f"shown_seed = {self.shown_seed} is not one of the seeds {self.seeds}")
        if 1 not in self.prior_scales:
            raise ValueError(
                f"prior_scales = {self.prior_scales} must contain 1, the start of the experiments"
            )
        if max(self.explorer_steps) > self.steps:
            raise ValueError(f"explorer_steps go to {max(self.explorer_steps)}, training to {self.steps}")
        return self

    @property
    def task(self) -> TaskConfig:
        """Two queries with one next token each."""
        return TaskConfig(sequence_length=self.sequence_length)

    @property
    def base(self) -> TrainConfig:
        """What all panels share; one run, with SGD."""
        return TrainConfig(
            tasks=(self.task,),
            seed=self.shown_seed,
            attention_rate=self.attention_rate,
            momentum=self.momentum,
            batch_size=self.batch_size,
            steps=self.steps,
            rng=self.rng,
        )

    @property
    def panels(self) -> tuple[TrainConfig, TrainConfig]:
        """The runs of Figure 4 and those of Figure 5, panels by seeds, seeds running fastest."""
        base = self.base.replace(snapshot_steps=range(self.steps + 1))
        return (
            grid(base, rate_ratios=self.rate_ratios, seeds=self.seeds),
            grid(base.replace(optimizer="adam"), attention_rates=self.adam_rates, seeds=self.seeds),
        )

    @property
    def is_published(self) -> bool:
        """Whether the panels are the published experiments, random numbers included, over ten seeds."""
        return self.panels == Training().panels

    @property
    def sampled_as_published(self) -> bool:
        """Whether runs with other random numbers have the published settings, and are ten."""
        own = self.base.replace(rng="vectorised", seed=0)
        paper = Training().base.replace(rng="vectorised", seed=0)
        return own == paper and self.rate_ratios == Training().rate_ratios and len(self.other_seeds) >= 10

    @property
    def figure_steps(self) -> tuple[int, ...]:
        """The rows of the published heat maps; what they call final is step 48."""
        return FIGURE_STEPS
