"""Settings of the notebook "The model and its two ingredients"."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import xarray as xr
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core.config import Config
from learndyn.core.explorer import format_value
from learndyn.scan_snap import decoder, symmetric, symmetric_batch
from learndyn.scan_snap.classes import symmetric_classes
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig

Length = Annotated[int, Field(ge=2)]
Vocabulary = Annotated[int, Field(ge=4)]
Lengths = Annotated[tuple[Length, ...], Field(min_length=2)]
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]
Multiples = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2)]


class Ingredients(Config):
    """The parameters cell of the notebook; the defaults are its quick profile.

    Times called multiples are in units of t*, the time at which γ is largest.
    """

    queries: PositiveInt = 2
    next_per_query: PositiveInt = 1
    common: Annotated[int, Field(ge=1)] = 10
    distinct: Annotated[int, Field(ge=2)] = 10
    sequence_length: Annotated[int, Field(ge=3)] = 128
    decoder_rate: PositiveFloat = 1.0
    attention_rate: PositiveFloat = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    iterations: Annotated[int, Field(ge=50)] = 1000
    seed: NonNegativeInt = 0
    sequences: PositiveInt = 128
    lengths: Lengths = (32, 128, 512, 2048, 8192)
    draws: PositiveInt = 4000
    small_rates: Rates = (0.1, 0.2, 0.5, 1.0, 2.0)
    large_rates: Rates = (0.2, 0.5, 1.0, 2.0, 4.0)
    frozen_classes: Annotated[int, Field(ge=2)] = 10
    frozen_vocabulary: Annotated[int, Field(ge=50)] = 1000
    frozen_rate: PositiveFloat = 0.5
    frozen_overlaps: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.03, 0.5, 0.9)
    precisions: Rates = (0.5, 0.1, 0.01, 0.001, 0.0001)
    vocabularies: Annotated[tuple[Vocabulary, ...], Field(min_length=1)] = (50, 100, 1000, 10_000)
    points: Annotated[int, Field(ge=20)] = 400
    snapshots: Annotated[tuple[float, ...], Field(min_length=4, max_length=4)] = (0.0, 2.0, 6.0, 100.0)
    explorer_times: Multiples = (0.0, 1.0, 10.0)
    explorer_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0, 10.0)

    @model_validator(mode="after")
    def _what_is_computed_can_be(self) -> Ingredients:
        self.task  # noqa: B018 – refuses what makes no task
        symmetric_classes(
            self.frozen_classes, self.frozen_vocabulary, self.frozen_classes, (1.0,), (1.0,) * 3
        )
        decoder.time_to_precision(max(self.precisions), self.frozen_vocabulary, self.frozen_rate)
        return self

    @property
    def task(self) -> TaskConfig:
        """The task of the first figures: Syn-Small."""
        return TaskConfig(
            queries=self.queries,
            next_per_query=self.next_per_query,
            common=self.common,
            distinct=self.distinct,
            sequence_length=self.sequence_length,
        )

    @property
    def shared_task(self) -> TaskConfig:
        """One query with two next tokens, as the paper's Figure 2 sketches it; the same kinds of tokens."""
        return self.task.replace(queries=1, next_per_query=2)

    @property
    def is_published_task(self) -> bool:
        """Whether task and rates are those of the paper's Figure 4, left."""
        return self.task == SYN_SMALL and self.decoder_rate == self.attention_rate == 1.0


def peak_time(settings: Ingredients, task: TaskConfig) -> float:
    """t* of a task: when γ is largest in the closed form."""
    return float(decoder.peak(task.vocabulary, settings.decoder_rate, task.classes).time)


def multiples(points: int, last: float = 1000.0) -> Float[np.ndarray, "time"]:
    """0, and points from 0.03 to `last` evenly on a logarithmic scale."""
    return np.concatenate([[0.0], np.geomspace(0.03, last, points)])


def follow(settings: Ingredients, task: TaskConfig, moments: Float[np.ndarray, "time"]) -> xr.Dataset:
    """The gradient flow of the long-sequence limit (`symmetric.solve`) at multiples of t*.

    The dataset has the coordinate ``multiple`` and the attributes ``peak_time`` (t*), ``vocabulary``,
    ``classes``, ``decoder_rate`` and ``attention_rate``.
    """
    top = peak_time(settings, task)
    rates = {"decoder_rate": settings.decoder_rate, "attention_rate": settings.attention_rate}
    flow = symmetric.solve(symmetric.from_task(task, **rates), moments * top)
    about = {"peak_time": top, "vocabulary": task.vocabulary, "classes": task.classes}
    return flow.assign_coords(multiple=("time", moments)).assign_attrs(about | rates)


def follow_ratios(settings: Ingredients, task: TaskConfig) -> dict[str, xr.Dataset]:
    """`follow` for each of the explorer's ratios η_Y/η_Z, at the attention rate of the settings."""
    return {
        format_value(ratio): follow(
            settings.replace(decoder_rate=ratio * settings.attention_rate), task, multiples(settings.points)
        )
        for ratio in settings.explorer_ratios
    }


def train_with_momentum(settings: Ingredients, task: TaskConfig) -> xr.Dataset:
    """The same limit for gradient ascent with momentum, every iteration (`symmetric_batch.heavy_ball`)."""
    parameters = symmetric.from_task(
        task, decoder_rate=settings.decoder_rate, attention_rate=settings.attention_rate
    )
    run = symmetric_batch.heavy_ball(parameters, momentum=settings.momentum, steps=settings.iterations)
    return run.isel(run=0).assign_attrs(momentum=settings.momentum)


def train_plain(settings: Ingredients, task: TaskConfig, snapshots: int = 100) -> xr.Dataset:
    """The same without momentum, for as long on the common clock; steps spaced evenly in their logarithm."""
    parameters = symmetric.from_task(
        task, decoder_rate=settings.decoder_rate, attention_rate=settings.attention_rate
    )
    last = round(settings.iterations / (1 - settings.momentum))
    steps = sorted({0, *(round(step) for step in np.geomspace(1, last, snapshots))})
    return symmetric_batch.heavy_ball(parameters, momentum=0.0, steps=last, snapshot_steps=steps).isel(run=0)
