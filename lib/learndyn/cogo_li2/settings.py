"""What can be set in a training of CoGO, section 4, and the configurations that have a name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.cogo_li2.initial import held_out_count
from learndyn.core.config import ConfigError, EnsembleConfig, OneOrMany

Fraction = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(EnsembleConfig):
    """One ensemble. A per-run field takes one value, for all runs, or one value for each run.

    ``orders`` is the group Z_{n1} × Z_{n2} × …; ``test_size`` None trains on the full table. ``momentum``
    is used by sgd and muon (muon is always Nesterov's, as in torch), ``beta1``, ``beta2`` and ``eps`` by
    adam and adamw. The state is logged *before* the step at epochs 0 … log_dense−1 and every
    ``log_every``-th, and at the end (epoch = epochs). ``compact_every`` drops dead nodes every so many
    epochs, where that changes nothing (`learndyn.cogo_li2.program.compaction_rule`); 0 is never. ``engine``
    chooses how the gradient is computed: on the d × d table, in closed form (quadratic networks with the
    projected squared loss only), or whichever takes fewer operations.
    """

    PER_RUN: ClassVar[tuple[str, ...]] = (
        "seed",
        "learning_rate",
        "weight_decay",
        "momentum",
        "beta1",
        "beta2",
        "init_scale",
    )

    orders: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(23,), min_length=1)
    hidden_size: PositiveInt = 512
    activation: Literal["sqr", "relu", "silu", "relusqr"] = "sqr"
    loss: Literal["projected_mse", "cross_entropy"] = "projected_mse"
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    learning_rate: OneOrMany[PositiveFloat] = (0.01,)
    weight_decay: OneOrMany[NonNegativeFloat] = (5e-5,)
    seed: OneOrMany[NonNegativeInt] = (1,)
    momentum: OneOrMany[Fraction] = (0.9,)
    beta1: OneOrMany[Fraction] = (0.9,)
    beta2: OneOrMany[Fraction] = (0.999,)
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
    engine: Literal["auto", "grid", "closed_form"] = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if any(epoch > self.epochs for epoch in self.snapshot_epochs):
            raise ValueError(f"snapshot_epochs must lie within the {self.epochs} epochs")
        if self.test_size is not None and held_out_count(self.size, self.test_size) >= self.size**2:
            raise ValueError(f"test_size = {self.test_size} leaves none of {self.size**2} cells to train on")
        if self.engine == "closed_form" and not self.quadratic:
            raise ValueError("engine = 'closed_form' needs activation 'sqr' and loss 'projected_mse'")
        if self.rng == "published" and max(self.seed) >= 2**32:
            raise ValueError("seed must be below 2**32 with the published random numbers")
        return self

    @property
    def quadratic(self) -> bool:
        """Whether the loss is the paper's, for which the closed form exists."""
        return self.activation == "sqr" and self.loss == "projected_mse"

    @property
    def size(self) -> int:
        """Number d of group elements."""
        return math.prod(self.orders)

    @property
    def logged_epochs(self) -> tuple[int, ...]:
        """Epochs whose state is logged; the last one is the end."""
        dense = range(min(self.log_dense, self.epochs))
        return tuple(sorted({*dense, *range(0, self.epochs, self.log_every), self.epochs}))

    @property
    def kept_epochs(self) -> tuple[int, ...]:
        """Epochs whose weights are kept: ``snapshot_epochs`` and the end."""
        return tuple(sorted({*self.snapshot_epochs, self.epochs}))


#: Named configurations, all with q = 512, Adam, 10,000 epochs and the published random numbers.
#:
#: ``published``: d = 23, learning rate 0.01, weight decay 5e-5, seeds 1–5. It is behind Table 2 and a panel
#: of Figure 4; the authors' logs show this learning rate, and reruns with it hit the published rows.
#:
#: ``figure3``: the run of Figure 3, d = 23, learning rate 0.01, weight decay 1e-4, seed 5.
#:
#: ``readme``: what the README of the authors' code gives, d = 71 with learning rate 0.002. It is another
#: experiment than the published ones: at d = 23, learning rate 0.002 misses the row of Table 2 by far.
PRESETS: Mapping[str, TrainConfig] = {
    "published": TrainConfig(seed=(1, 2, 3, 4, 5), rng="published"),
    "figure3": TrainConfig(seed=5, weight_decay=1e-4, rng="published"),
    "readme": TrainConfig(orders=(71,), learning_rate=0.002, rng="published"),
}


def grid(
    base: TrainConfig,
    *,
    seeds: Sequence[int] | None = None,
    weight_decays: Sequence[float] | None = None,
    learning_rates: Sequence[float] | None = None,
) -> TrainConfig:
    """The product weight_decays × learning_rates × seeds along the run axis, seeds running fastest.

    What is not given stays as in ``base``, which must then have one value of it, as of all other per-run
    fields.

    Raises:
        ConfigError: an empty axis, or a base with several values of something.
    """
    axes: dict[str, tuple[Any, ...]] = {n: tuple(dict.fromkeys(getattr(base, n))) for n in base.PER_RUN}
    given = {"weight_decay": weight_decays, "learning_rate": learning_rates, "seed": seeds}
    axes |= {name: tuple(axis) for name, axis in given.items() if axis is not None}
    for name, axis in axes.items():
        if not axis or (len(axis) > 1 and given.get(name) is None):
            raise ConfigError(f"grid needs at least one value of {name}, and a base with one value of it")
    order = ("weight_decay", "learning_rate", "seed")
    columns = zip(*itertools.product(*(axes.pop(name) for name in order)), strict=True)
    return base.replace(**axes, **dict(zip(order, columns, strict=True)))
