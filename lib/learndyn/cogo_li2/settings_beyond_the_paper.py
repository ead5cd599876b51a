"""Settings of the notebook "What the theory predicts beyond the paper"."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.cogo_li2.settings import TrainConfig
from learndyn.core.config import Config
from learndyn.core.device import Device

Factor = Annotated[int, Field(ge=2)]
Orders = Annotated[tuple[Factor, ...], Field(min_length=1)]
Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


class BeyondThePaper(Config):
    """The parameters cell of the notebook.

    ``design_starts`` random starts search for designs of 2 … ``largest_design`` nodes; ``slide_starts``
    starts slide exact solutions to least norm. The ``group_…`` fields are the ensembles on ``groups``
    (full table), the ``other_…`` fields those with other activations and losses on Z_d (split).
    """

    seed: NonNegativeInt = 0
    design_starts: PositiveInt = 400
    largest_design: Annotated[int, Field(ge=6)] = 12
    slide_starts: PositiveInt = 60
    groups: Annotated[tuple[Orders, ...], Field(min_length=1)] = ((2, 2, 2), (4, 4), (3, 3), (15,))
    group_hidden_size: PositiveInt = 128
    group_weight_decay: PositiveFloat = 1e-3
    group_seeds: Seeds = (1, 2, 3, 4, 5, 6)
    group_epochs: PositiveInt = 3000
    other_modulus: Annotated[int, Field(ge=3)] = 11
    other_hidden_size: PositiveInt = 64
    other_weight_decay: PositiveFloat = 1e-3
    other_seeds: Seeds = (1, 2, 3)
    other_epochs: PositiveInt = 3000
    explorer_angles: Annotated[int, Field(ge=2, le=36)] = 9
    device: Device = "cpu"
    progress: bool = True

    @model_validator(mode="after")
    def _drawable(self) -> BeyondThePaper:
        if self.explorer_angles * 4 * 3 > 150:
            raise ValueError(f"explorer_angles = {self.explorer_angles}: 12 frames each, at most 12 angles")
        return self

    def group_training(self, orders: tuple[int, ...]) -> TrainConfig:
        """The ensemble on one group: full table, Adam, learning rate 0.01."""
        return TrainConfig(
            orders=orders,
            hidden_size=self.group_hidden_size,
            weight_decay=self.group_weight_decay,
            seed=self.group_seeds,
            epochs=self.group_epochs,
            test_size=None,
            log_dense=0,
        )

    def other_training(self, activation: str, loss: str) -> TrainConfig:
        """The ensemble with one activation and loss: Z_d with 10 % held out, Adam, learning rate 0.01."""
        return TrainConfig(
            orders=(self.other_modulus,),
            hidden_size=self.other_hidden_size,
            activation=activation,
            loss=loss,
            weight_decay=self.other_weight_decay,
            seed=self.other_seeds,
            epochs=self.other_epochs,
            log_dense=100,
            log_every=50,
        )
