"""Settings of the notebook "The theory ladder": the two regimes, and what is trained in them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core.config import Config
from learndyn.core.device import Device
from learndyn.scan_snap.classes import Classes, symmetric_classes
from learndyn.scan_snap.settings import Fraction, TrainConfig
from learndyn.scan_snap.symmetric import from_task
from learndyn.scan_snap.symmetric_equations import Parameters, Update
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig

#: The explorer in a live kernel, and where it starts. A page has some of these values only.
LIVE_GRID: dict[str, tuple[float | int, ...]] = {
    "attention_rate": (0.005, 0.05, 0.5, 1.0, 5.0),
    "rate_ratio": (0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
    "classes": (2, 5, 10),
    "vocabulary": (34, 100, 1000, 10_000, 100_000),
    "overlap": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.722, 0.9),
    "time": (10.0, 100.0, 1000.0, 10_000.0, 100_000.0),
}
EXPLORER_START: dict[str, float | int] = {
    "attention_rate": 0.5,
    "rate_ratio": 1.0,
    "classes": 10,
    "vocabulary": 1000,
    "overlap": 0.1,
    "time": 10_000.0,
}

Overlap = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=2)]


class ProfileTask(TaskConfig):
    """A task of one query with a profile of one's own in the place of the published weights."""

    common_weight: PositiveFloat = 0.1
    distinct_weights: tuple[PositiveFloat, ...] = (0.5, 0.3, 0.1)

    @model_validator(mode="after")
    def _one_weight_for_each_token(self) -> ProfileTask:
        if len(self.distinct_weights) != self.distinct:
            raise ValueError(
                f"{len(self.distinct_weights)} weights do not fit {self.distinct} distinct tokens; "
                "give one for each"
            )
        return self

    @property
    def weights(self) -> Float[np.ndarray, "support"]:
        """Weights of a class's tokens before normalisation, common tokens first."""
        shared = np.full(self.common + self.common_per_query, self.common_weight)
        return np.concatenate([shared, self.distinct_weights])

    @property
    def overlap(self) -> float:
        """f_n·f_k of uniform attention."""
        squares = self.probabilities**2
        return float(squares[: self.distinct_support.start].sum() / squares.sum())


class TheoryLadder(Config):
    """The parameters cell of the notebook.

    The *theorem's regime* has one query and one common token, K classes in a large vocabulary; the
    *experiments' regime* is Syn-Small with the published training. η_Y of the first is fixed, and η_Z follows
    from the ratios; η_Z of the second is 1.
    """

    vocabulary: Count = 1000
    classes: Count = 10
    common_weight: PositiveFloat = 0.1
    distinct_weights: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = (0.5, 0.3, 0.1)
    decoder_rate: PositiveFloat = 0.5
    rate_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=2)] = (1.0, 100.0)
    horizon: PositiveFloat = 5000.0
    lengths: Annotated[tuple[int, ...], Field(min_length=1)] = (128, 32768)
    theorem_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (1, 2)
    momentum: Fraction = 0.9
    experiment_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=2)] = (1.0, 10.0)
    experiment_steps: PositiveInt = 100
    experiment_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = tuple(range(1, 11))
    fate_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = tuple(range(12))
    explorer_attention_rates: tuple[PositiveFloat, ...] = (0.005, 0.5)
    explorer_ratios: tuple[PositiveFloat, ...] = (1.0, 100.0)
    explorer_classes: tuple[Count, ...] = (2, 10)
    explorer_vocabularies: tuple[Count, ...] = (34, 1000)
    explorer_overlaps: tuple[Overlap, ...] = (0.003, 0.1, 0.722)
    explorer_times: tuple[PositiveFloat, ...] = (100.0, 10_000.0)
    device: Device = "cpu"
    progress: bool = True

    @model_validator(mode="after")
    def _what_is_trained_can_be(self) -> TheoryLadder:
        for length in self.lengths:
            self.theorem_task(length)
        for name, values in self.explorer_frames.items():
            if not {EXPLORER_START[name]} <= set(values) <= set(LIVE_GRID[name]):
                allowed = ", ".join(f"{value:g}" for value in LIVE_GRID[name])
                raise ValueError(
                    f"the explorer's page has {EXPLORER_START[name]:g} and others of {allowed} as {name}, "
                    f"not {', '.join(f'{value:g}' for value in values)}"
                )
        if self.theorem_steps < 1:
            raise ValueError(f"horizon = {self.horizon:g} is less than one iteration; give 1/(1 − momentum)")
        return self

    @property
    def explorer_frames(self) -> dict[str, tuple[float, ...]]:
        """The values that the explorer has on a page."""
        return {
            "attention_rate": self.explorer_attention_rates,
            "rate_ratio": self.explorer_ratios,
            "classes": self.explorer_classes,
            "vocabulary": self.explorer_vocabularies,
            "overlap": self.explorer_overlaps,
            "time": self.explorer_times,
        }

    @property
    def attention_rates(self) -> tuple[float, ...]:
        """η_Z of the theorem's regime, one for each ratio."""
        return tuple(self.decoder_rate / ratio for ratio in self.rate_ratios)

    @property
    def theorem_steps(self) -> int:
        """Iterations with momentum that reach the horizon, t = iterations/(1 − momentum)."""
        return round(self.horizon * (1 - self.momentum))

    def theorem_task(self, sequence_length: int = 128) -> ProfileTask:
        """The classes of the theorem's regime, with sequences of some length."""
        return ProfileTask(
            queries=1,
            next_per_query=self.classes,
            common=1,
            distinct=len(self.distinct_weights),
            vocabulary_size=self.vocabulary,
            sequence_length=sequence_length,
            common_weight=self.common_weight,
            distinct_weights=self.distinct_weights,
        )

    def theorem_classes(self) -> Classes:
        """The same classes for the solvers, without the ids of queries and next tokens."""
        return symmetric_classes(
            self.classes, self.vocabulary, self.classes, (self.common_weight,), self.distinct_weights
        )

    def theorem_sets(self, attention_rate: float, update: Update = "gradient") -> Parameters:
        """The parameter set of the symmetric reduction, in the theorem's regime."""
        return from_task(
            self.theorem_task(), decoder_rate=self.decoder_rate, attention_rate=attention_rate, update=update
        )

    def theorem_training(self, attention_rate: float) -> TrainConfig:
        """Finite-length training in the theorem's regime: lengths × seeds."""
        places = [place for place in range(len(self.lengths)) for _ in self.theorem_seeds]
        return TrainConfig(
            tasks=tuple(self.theorem_task(length) for length in self.lengths),
            task=tuple(places),
            seed=self.theorem_seeds * len(self.lengths),
            attention_rate=attention_rate,
            rate_ratio=self.decoder_rate / attention_rate,
            momentum=self.momentum,
            steps=self.theorem_steps,
            log_every=self.theorem_steps,
            snapshot_steps=iterations(self.theorem_steps),
        )

    def experiment_training(self, ratio: float) -> TrainConfig:
        """The published training of Syn-Small (Figure 4), with the published random numbers."""
        return TrainConfig(
            seed=self.experiment_seeds,
            rate_ratio=ratio,
            momentum=self.momentum,
            steps=self.experiment_steps,
            log_every=self.experiment_steps,
            snapshot_steps=iterations(self.experiment_steps),
            rng="published",
        )

    @property
    def is_theorem_regime(self) -> bool:
        """Whether the theorem's regime is that of the recorded numbers."""
        names = ("vocabulary", "classes", "common_weight", "distinct_weights", "decoder_rate", "horizon")
        default = TheoryLadder()
        return all(getattr(self, name) == getattr(default, name) for name in (*names, "rate_ratios"))

    @property
    def is_published_training(self) -> bool:
        """Whether the training is that of Figure 4 with the seeds of its statistics."""
        published = self.experiment_seeds == tuple(range(1, 11)) and self.experiment_ratios == (1.0, 10.0)
        return published and self.momentum == 0.9 and self.experiment_steps == 100


def iterations(steps: int, count: int = 40) -> tuple[int, ...]:
    """About `count` whole numbers from 1 to `steps`, evenly spaced in their logarithm."""
    return tuple(sorted({round(step) for step in np.geomspace(1, steps, count).tolist()}))


__all__ = ["SYN_SMALL", "ProfileTask", "TheoryLadder", "iterations"]
