"""Settings of the notebook "Learning rates decide where attention freezes"."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core.config import Config
from learndyn.core.device import Device
from learndyn.scan_snap.settings import PRESETS, Fraction, TrainConfig, grid
from learndyn.scan_snap.task import TaskConfig, syn_medium

Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]
Lengths = Annotated[tuple[Annotated[int, Field(ge=3)], ...], Field(min_length=2)]
PUBLISHED_QUERIES = (1, 3, 5, 10)


class LearningRates(Config):
    """The parameters cell of the notebook; the defaults are the 640 published runs.

    Attributes:
        steps: training iterations of Figure 6.
        fresh_seeds: seeds of another stream of random numbers, for the same cells.
        long_steps: iterations of the longer runs and of those without momentum.
        lengths: T of the runs that show where the mean field's bias comes from.
        phase_queries: Q of the phase diagrams over rates, and of everything else that shows one task only.
        phase_points: resolution of the phase diagrams along each axis.
        horizons: times at which the flow is looked at; the second one is that of the experiments.
    """

    queries: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = PUBLISHED_QUERIES
    attention_rates: Rates = (0.5, 1.0, 2.0, 3.0)
    rate_ratios: Rates = (1.0, 2.0, 5.0, 10.0)
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=2)] = tuple(range(1, 11))
    rng: Literal["published", "vectorised"] = "published"
    initialisation: Literal["uniform", "zero"] = "uniform"
    momentum: Fraction = 0.9
    steps: PositiveInt = 100
    fresh_seeds: Seeds = (11, 12)
    long_queries: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (3, 10)
    long_steps: PositiveInt = 1000
    long_seeds: Seeds = (1,)
    lengths: Lengths = (32, 128, 512, 2048)
    length_seeds: Seeds = (1, 2, 3, 4)
    phase_queries: PositiveInt = 3
    phase_points: Annotated[int, Field(ge=4)] = 25
    horizons: Annotated[tuple[PositiveFloat, ...], Field(min_length=3, max_length=3)] = (1e2, 1e3, 1e4)
    last_time: Annotated[float, Field(ge=1e4)] = 1e8
    explorer_thresholds: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.9, 1.0, 1.1)
    device: Device = "cpu"
    progress: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> LearningRates:
        unknown = sorted({*self.queries, *self.long_queries, self.phase_queries} - set(PUBLISHED_QUERIES))
        if unknown:
            raise ValueError(f"Figure 6 has 1, 3, 5 and 10 queries, not {unknown[0]}")
        for name in ("attention_rates", "rate_ratios"):
            known = LearningRates.model_fields[name].default
            strange = [value for value in getattr(self, name) if value not in known]
            if strange:
                raise ValueError(f"{name} must be among the published {known}, not {strange[0]}")
        if self.phase_queries not in self.queries:
            raise ValueError(f"phase_queries = {self.phase_queries} is not one of the queries {self.queries}")
        if self.long_steps <= self.steps:
            raise ValueError(f"long_steps = {self.long_steps} must be more than the {self.steps} steps")
        return self

    def task(self, queries: int) -> TaskConfig:
        """The published task with that many queries, two next tokens each."""
        return syn_medium(queries)

    @property
    def base(self) -> TrainConfig:
        """What all trainings share; one run."""
        return TrainConfig(
            tasks=(self.task(self.phase_queries),),
            attention_rate=self.attention_rates[0],
            rate_ratio=self.rate_ratios[0],
            initialisation=self.initialisation,
            momentum=self.momentum,
            steps=self.steps,
            log_every=self.long_steps,
            rng="vectorised",
        )

    def figure6(self, **changes: Any) -> TrainConfig:
        """The cells of Figure 6, with `changes` to queries, ratios or seeds, or to what all runs share."""
        given = {"queries": self.queries, "seeds": self.seeds, "rng": self.rng} | changes
        queries, seeds = given.pop("queries"), given.pop("seeds")
        ratios = given.pop("rate_ratios", self.rate_ratios)
        return grid(
            self.base.replace(**given),
            tasks=[self.task(number) for number in queries],
            attention_rates=self.attention_rates,
            rate_ratios=ratios,
            seeds=seeds,
        )

    @property
    def longer(self) -> TrainConfig:
        """The smallest attention rate, trained for longer; attention is kept after ``steps`` too."""
        return grid(
            self.base.replace(steps=self.long_steps, snapshot_steps=(self.steps,), rng=self.rng),
            tasks=[self.task(queries) for queries in self.long_queries],
            rate_ratios=self.rate_ratios,
            seeds=self.long_seeds,
        )

    @property
    def without_momentum(self) -> TrainConfig:
        """All attention rates at the smallest and the largest ratio without momentum, ``long_steps`` long.

        The first task, which is the worst for the limit without noise, and the one that is shown.
        """
        return self.figure6(
            queries=dict.fromkeys((self.queries[0], self.phase_queries)),
            rate_ratios=(self.rate_ratios[0], self.rate_ratios[-1]),
            seeds=self.long_seeds,
            rng="vectorised",
            steps=self.long_steps,
            momentum=0.0,
        )

    def by_length(self, initialisation: str) -> TrainConfig:
        """One cell of Figure 6 with other lengths of sequences."""
        task = self.task(self.phase_queries)
        return grid(
            self.base.replace(initialisation=initialisation),
            tasks=[task.replace(sequence_length=length) for length in self.lengths],
            seeds=self.length_seeds,
        )

    @property
    def is_published(self) -> bool:
        """Whether the runs are the 640 of the paper, with their random numbers."""
        logged = {"log_every": 1, "snapshot_steps": ()}
        return self.figure6(**logged) == PRESETS["figure_6"].replace(**logged)
