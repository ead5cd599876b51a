"""What can be set in a training of Transformer language models (`core.text_training`)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core.config import EnsembleConfig, OneOrMany
from learndyn.core.transformer import Architecture

Fraction = Annotated[float, Field(ge=0, lt=1)]


class TextConfig(EnsembleConfig):
    """One ensemble of language models. A per-run field takes one value, for all runs, or one for each run.

    The defaults are those of Figure 7 of Tian et al. 2023 ("Scan and Snap"): SGD at rate 5, twice that for
    the matrices and biases of the ReLU networks, gradients of each run clipped to norm 0.5, dropout 0.3,
    batches of 35 positions. The batch's columns are those of the data.

    Per run are ``seed``, ``learning_rate`` (constant), ``hidden_rate_factor`` (what it is multiplied by for
    the ReLU networks; 1 makes one rate), ``dropout``, ``momentum`` (used by sgd) and ``weight_decay`` (L2, or
    decoupled with adamw). ``clip_norm`` None does not clip. With ``reset_moments`` the optimiser starts anew,
    without its moments, whenever the training text does. ``identical_layers``: all layers start as copies of
    one, as `torch.nn.TransformerEncoder` makes them.

    The minibatch's loss is logged every ``log_every`` steps and at the end; validation loss and attention
    entropies at ``evaluation_steps``, on the ``validation_windows`` of these numbers (none: on all); the
    attention maps of column 0 of the training text's window ``map_window`` at ``snapshot_steps``. All are
    taken *before* the step, so that ``steps`` is the end. With ``autocast`` "bfloat16" the matrix products
    of training compute in bfloat16; on a GPU those that stay in float32, evaluation's too, may use TF32.
    """

    PER_RUN: ClassVar[tuple[str, ...]] = (
        "seed",
        "learning_rate",
        "hidden_rate_factor",
        "dropout",
        "momentum",
        "weight_decay",
    )

    layers: PositiveInt = 1
    heads: PositiveInt = 1
    width: PositiveInt = 200
    hidden_size: PositiveInt = 200
    identical_layers: bool = True
    window_length: PositiveInt = 35
    seed: OneOrMany[NonNegativeInt] = (0,)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: OneOrMany[PositiveFloat] = (5.0,)
    hidden_rate_factor: OneOrMany[NonNegativeFloat] = (2.0,)
    dropout: OneOrMany[Fraction] = (0.3,)
    momentum: OneOrMany[Fraction] = (0.0,)
    weight_decay: OneOrMany[NonNegativeFloat] = (0.0,)
    clip_norm: PositiveFloat | None = 0.5
    reset_moments: bool = False
    steps: NonNegativeInt = 1500
    log_every: PositiveInt = 10
    evaluation_steps: tuple[NonNegativeInt, ...] = ()
    validation_windows: tuple[NonNegativeInt, ...] = ()
    snapshot_steps: tuple[NonNegativeInt, ...] = ()
    map_window: NonNegativeInt = 100
    dtype: Literal["float32", "float64"] = "float32"
    autocast: Literal["none", "bfloat16"] = "none"

    @model_validator(mode="after")
    def _consistent(self) -> TextConfig:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width = {self.width}, and {self.heads} does not")
        for name in ("evaluation_steps", "snapshot_steps"):
            given = getattr(self, name)
            if any(step > self.steps for step in given):
                raise ValueError(f"{name} must lie within the {self.steps} steps, not at {max(given)}")
            if list(given) != sorted(set(given)):
                raise ValueError(f"{name} must increase")
        if len(set(self.validation_windows)) < len(self.validation_windows):
            raise ValueError("validation_windows must differ from each other")
        if self.autocast != "none" and self.dtype != "float32":
            raise ValueError("autocast = 'bfloat16' needs dtype = 'float32'")
        return self

    @property
    def logged_steps(self) -> tuple[int, ...]:
        """Steps whose training loss is logged; the last one is the end."""
        return tuple(sorted({*range(0, self.steps, self.log_every), self.steps}))

    def architecture(self, vocabulary: int) -> Architecture:
        """The sizes of the model for a vocabulary of that many words."""
        return Architecture(vocabulary, self.layers, self.heads, self.width, self.hidden_size)
