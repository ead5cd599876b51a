"""What can be set in a finite-length training of Tian et al. 2023 (Section 6), and the published settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core.config import ConfigError, EnsembleConfig, OneOrMany
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig, syn_medium

Fraction = Annotated[float, Field(ge=0, lt=1)]
#: As the whole numbers of a dataset have 64 bits with sign, and torch seeds its generators with no more.
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class TrainConfig(EnsembleConfig):
    """One ensemble of trainings. A per-run field takes one value, for all runs, or one value for each run.

    Per run are ``seed``, ``attention_rate`` (η_Z), ``rate_ratio`` (η_Y/η_Z) and ``task``, the place of the
    run's task in ``tasks``. Every step draws a fresh batch; runs with equal task and seed see the same one.
    The rates are constant.

    Attributes:
        optimizer: "sgd" is the heavy ball v ← ``momentum`` v + g, θ ← θ − η v; "adam" uses β = 0.9, 0.999
            and ε = 1e-8.
        initialisation: "zero", or "uniform": Y and Z iid uniform in ±1/√M.
        init_scale: factor on a uniform start.
        normalize: divide the attention output by its Euclidean length.
        residual: add the query's one-hot vector to the attention output, before the normalisation.
        attend_query: let the query attend to itself too.
        rng: "published" replays the random numbers of the authors' experiment; "vectorised" is faster.
        log_every: the loss and the speed of the attention are logged *before* every such step, and at the
            end.
        snapshot_steps: steps whose attention logits are kept, as they are before the step; the end is added.
        keep_decoder: keep Y beside Z.
    """

    PER_RUN: ClassVar[tuple[str, ...]] = ("seed", "attention_rate", "rate_ratio", "task")

    tasks: OneOrMany[TaskConfig] = Field(default=(SYN_SMALL,), min_length=1)
    task: OneOrMany[NonNegativeInt] = (0,)
    seed: OneOrMany[Seed] = (1,)
    attention_rate: OneOrMany[PositiveFloat] = (1.0,)
    rate_ratio: OneOrMany[PositiveFloat] = (1.0,)
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Fraction = 0.9
    batch_size: PositiveInt = 128
    steps: NonNegativeInt = 100
    initialisation: Literal["zero", "uniform"] = "zero"
    init_scale: PositiveFloat = 1.0
    normalize: bool = True
    residual: bool = False
    attend_query: bool = False
    rng: Literal["vectorised", "published"] = "vectorised"
    log_every: PositiveInt = 1
    snapshot_steps: tuple[NonNegativeInt, ...] = ()
    keep_decoder: bool = False
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if max(self.task) >= len(self.tasks):
            raise ValueError(f"task {max(self.task)} is not one of the {len(self.tasks)} tasks (0 is first)")
        if self.init_scale != 1 and self.initialisation == "zero":
            raise ValueError(f"init_scale = {self.init_scale:g} needs initialisation 'uniform', not 'zero'")
        if any(step > self.steps for step in self.snapshot_steps):
            raise ValueError(
                f"snapshot_steps must lie within the {self.steps} steps, not at {max(self.snapshot_steps)}"
            )
        return self

    @property
    def decoder_rate(self) -> tuple[float, ...]:
        """η_Y of every run."""
        return tuple(rate * nu for rate, nu in zip(self.attention_rate, self.rate_ratio, strict=True))

    @property
    def logged_steps(self) -> tuple[int, ...]:
        """Steps whose state is logged; the last one is the end."""
        return (*range(0, self.steps, self.log_every), self.steps)

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """Steps whose parameters are kept: ``snapshot_steps`` and the end."""
        return tuple(sorted({*self.snapshot_steps, self.steps}))


#: The checkpoints of the published heat maps; what they call the final one is that of step 48.
FIGURE_STEPS = (0, 2, 4, 6, 8, 10, 48)


def grid(
    base: TrainConfig,
    *,
    tasks: Sequence[TaskConfig] | None = None,
    attention_rates: Sequence[float | int] | None = None,
    rate_ratios: Sequence[float | int] | None = None,
    seeds: Sequence[int] | None = None,
) -> TrainConfig:
    """The product tasks × attention_rates × rate_ratios × seeds along the run axis, seeds running fastest.

    What is not given stays as in ``base``, which must then have one value of it.

    Raises:
        ConfigError: an empty axis, or a base with several values of something that is not given.
    """
    axes: dict[str, tuple[Any, ...]] = {n: tuple(dict.fromkeys(getattr(base, n))) for n in base.PER_RUN}
    places = None if tasks is None else range(len(tasks))
    given = {"task": places, "attention_rate": attention_rates, "rate_ratio": rate_ratios, "seed": seeds}
    axes |= {name: tuple(axis) for name, axis in given.items() if axis is not None}
    for name, axis in axes.items():
        if not axis or (len(axis) > 1 and given.get(name) is None):
            raise ConfigError(f"grid needs at least one value of {name}, and a base with one value of it")
    columns = zip(*itertools.product(*(axes[name] for name in given)), strict=True)
    shared = {} if tasks is None else {"tasks": tuple(tasks)}
    return base.replace(**shared, **dict(zip(given, columns, strict=True)))


#: The published experiments, with their random numbers. ``figure_4``: rate ratios 1 and 10. ``figure_5``:
#: three rates with Adam. (The publication names seed 2 for ratio 1 of Figure 4 only.) ``figure_6``: the 640
#: runs of Figures 6, 11 and 12.
PRESETS: Mapping[str, TrainConfig] = {
    "figure_4": TrainConfig(seed=2, rate_ratio=(1, 10), snapshot_steps=FIGURE_STEPS, rng="published"),
    "figure_5": TrainConfig(
        seed=2, attention_rate=(0.1, 0.5, 1), optimizer="adam", snapshot_steps=FIGURE_STEPS, rng="published"
    ),
    "figure_6": grid(
        TrainConfig(initialisation="uniform", rng="published", log_every=2),
        tasks=[syn_medium(queries) for queries in (1, 3, 5, 10)],
        attention_rates=(0.5, 1, 2, 3),
        rate_ratios=(1, 2, 5, 10),
        seeds=range(1, 11),
    ),
}
