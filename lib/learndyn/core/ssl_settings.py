"""What can be set in a training of joint-embedding self-supervised learning (`core.ssl_training`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from learndyn.core.backbones import MLPConfig, ResNetConfig, SmallResNetConfig
from learndyn.core.config import ConfigError, EnsembleConfig, OneOrMany
from learndyn.core.ssl_losses import AnyLoss, BarlowTwinsTheoryLoss

AnyNetwork = Annotated[MLPConfig | SmallResNetConfig | ResNetConfig, Field(discriminator="kind")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
LOG_POINTS = 250


class SSLConfig(EnsembleConfig):
    """One ensemble of trainings. A per-run field takes one value, for all runs, or one value for each run.

    Per run are ``loss``, ``seed``, ``learning_rate``, ``momentum`` (used by sgd), ``weight_decay``,
    ``body_scale`` and ``head_scale`` (what the initial parameters of the two groups of layers are multiplied
    by, α_body and α_head) and ``head_bias`` (standard deviation of an iid normal bias of the last layer,
    which is then trained; with 0 there is none).

    The learning rate is constant or falls along a cosine to 0, after ``warmup_steps`` of linear growth. The
    state is logged *before* the step at steps that grow by ``log_ratio`` (more if these were above 250), the
    first and the end among them. ``representation_modes`` is the number of eigenvalues to log of the
    covariance of the hidden representation. With ``autocast`` "bfloat16" the network (not its loss, not the
    spectra) computes in bfloat16, and what stays in float32 may use TF32. ``channels_last`` is the memory
    layout of convolutions that is faster in bfloat16 on a GPU.
    """

    PER_RUN: ClassVar[tuple[str, ...]] = (
        "loss",
        "seed",
        "learning_rate",
        "momentum",
        "weight_decay",
        "body_scale",
        "head_scale",
        "head_bias",
    )

    network: AnyNetwork = MLPConfig()
    loss: OneOrMany[AnyLoss] = (BarlowTwinsTheoryLoss(),)
    seed: OneOrMany[NonNegativeInt] = (0,)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: OneOrMany[PositiveFloat] = (0.05,)
    momentum: OneOrMany[Fraction] = (0.0,)
    weight_decay: OneOrMany[NonNegativeFloat] = (0.0,)
    body_scale: OneOrMany[PositiveFloat] = (1.0,)
    head_scale: OneOrMany[PositiveFloat] = (1.0,)
    head_bias: OneOrMany[NonNegativeFloat] = (0.0,)
    steps: NonNegativeInt = 2500
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    log_ratio: Annotated[float, Field(gt=1)] = 1.02
    snapshot_steps: tuple[NonNegativeInt, ...] = ()
    representation_modes: NonNegativeInt = 0
    dtype: Literal["float32", "float64"] = "float32"
    autocast: Literal["none", "bfloat16"] = "none"
    channels_last: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SSLConfig:
        if any(step > self.steps for step in self.snapshot_steps):
            raise ValueError(
                f"snapshot_steps must lie within the {self.steps} steps, not at {max(self.snapshot_steps)}"
            )
        if self.autocast != "none" and self.dtype != "float32":
            raise ValueError("autocast = 'bfloat16' needs dtype = 'float32'")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps = {self.warmup_steps} is more than the {self.steps} steps")
        return self

    @property
    def logged_steps(self) -> tuple[int, ...]:
        """Steps whose state is logged; the last one is the end."""
        return geometric_steps(self.steps, self.log_ratio)

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """Steps whose parameters are kept: ``snapshot_steps`` and the end."""
        return tuple(sorted({*self.snapshot_steps, self.steps}))

    def rate_factor(self, step: int) -> float:
        """What the learning rate is multiplied by at this step."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup_steps) / (self.steps - self.warmup_steps)))


def geometric_steps(steps: int, ratio: float = 1.02, points: int = LOG_POINTS) -> tuple[int, ...]:
    """0, the whole numbers next to the powers of ``ratio``, and ``steps``; of a larger ratio if above
    ``points``."""
    while True:
        powers = itertools.takewhile(lambda s: s < steps, (ratio**k for k in itertools.count()))
        found = sorted({0, steps, *map(round, powers)})
        if len(found) <= points:
            return tuple(found)
        ratio = 1 + 1.02 * (ratio - 1)


def concatenate(configs: Sequence[SSLConfig]) -> SSLConfig:
    """All runs of several configurations as one ensemble, in their order.

    Raises:
        ConfigError: no configuration, or some that differ in what is not per run.
    """
    if not configs:
        raise ConfigError("concatenate needs at least one configuration")
    shared = [name for name in SSLConfig.model_fields if name not in SSLConfig.PER_RUN]
    for name in shared:
        values = {str(getattr(config, name)) for config in configs}
        if len(values) > 1:
            raise ConfigError(f"runs of one ensemble share {name}, but it is {' and '.join(sorted(values))}")
    columns = {n: tuple(v for config in configs for v in getattr(config, n)) for n in SSLConfig.PER_RUN}
    return configs[0].replace(**columns)
