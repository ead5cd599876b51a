"""The settings of the notebook "Building solutions by algebra"."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.core.config import Config

Modulus = Annotated[int, Field(ge=5)]
Order = Annotated[int, Field(ge=2)]


class BuildByAlgebra(Config):
    """The parameters cell of the notebook; moduli are odd, so that every frequency is a pair {k, −k}.

    ``modulus``: the example that is drawn; ``moduli``: where every construction is checked; ``groups``:
    groups that are not cyclic of odd order; ``large_modulus``: solved instead of trained; ``draws``: random
    networks and random angles per case; ``path_points``: points on the path of Theorem 5; ``factor``: the
    block y that multiplies a solution there.
    """

    modulus: Modulus = 7
    moduli: Annotated[tuple[Modulus, ...], Field(min_length=1)] = (5, 7, 23)
    groups: Annotated[tuple[Annotated[tuple[Order, ...], Field(min_length=1)], ...], Field(min_length=1)] = (
        (3, 5),
        (4, 4),
        (2, 2, 2),
        (5, 7),
    )
    large_modulus: Modulus = 127
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (4, 30)
    draws: Annotated[int, Field(ge=2)] = 20
    path_points: Annotated[int, Field(ge=3)] = 201
    factor: str = "nu"
    explorer_angles: Annotated[tuple[int, ...], Field(min_length=1)] = (15, 45, 75)
    seed: NonNegativeInt = 0

    @field_validator("modulus", "moduli", "large_modulus")
    @classmethod
    def _odd(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if even := [d for d in (value if isinstance(value, tuple) else (value,)) if d % 2 == 0]:
            raise ValueError(f"must be odd, not {even[0]}; groups of even order go into groups")
        return value

    @property
    def group(self) -> AbelianGroup:
        """Z_d of the example."""
        return AbelianGroup((self.modulus,))

    @property
    def all_groups(self) -> tuple[AbelianGroup, ...]:
        """The cyclic groups of ``moduli``, Z_6, and ``groups``: where Theorem 1 is checked."""
        cyclic = [(d,) for d in self.moduli]
        return tuple(AbelianGroup(orders) for orders in dict.fromkeys([*cyclic, (6,), *self.groups]))
