"""The training step without the d×d table, where that is cheaper (see `full_table`).

The mean loss over a train split is that of the whole table less the held-out cells, and the whole table has a
closed form. `ClosedFormStep` is a `GridStep` that uses it for the steps that log nothing; a logged step walks
the table, since its metrics need every output.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from learndyn.cogo_li2 import full_table
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.step import GridStep, Metrics

Engine = Literal["auto", "grid", "closed_form"]
SMALLEST_GAIN = (
    2.0  # in operations: the closed form's are spread over some forty kernels, the table's over three
)
SMALLEST_TABLE = 1e8  # operations of one table step below which those kernels cost more than they save


def table_operations(size: int, nodes: int) -> float:
    """Floating-point operations of one step on the table: three products of 2·d²·q·d."""
    return 6.0 * size**3 * nodes


def closed_form_operations(size: int, nodes: int, held_out: int) -> float:
    """Operations of one step in closed form, 12 q²d + 12 q d², and of its held-out cells, 6·q·d each."""
    return 12.0 * nodes**2 * size + 12.0 * nodes * size**2 + 6.0 * held_out * nodes * size


class ClosedFormStep(GridStep):
    """Loss and gradient of an ensemble of quadratic networks with the projected squared loss.

    Args:
        group: the group whose table is learned.
        train_mask: ``[run, element, element]`` with equally many cells in each run; None for the full table.
        engine: "auto" decides from the operations at the present number of nodes.
        options: as for `GridStep`.
    """

    def __init__(
        self,
        group: AbelianGroup,
        train_mask: Bool[Tensor, "run element element"] | None,
        *,
        engine: Engine = "auto",
        **options: object,
    ) -> None:
        super().__init__(group.addition_table(), train_mask, **options)  # type: ignore[arg-type]
        self.group, self.engine = group, engine
        self.held_out: Tensor | None = None
        if train_mask is not None:
            cells = (~train_mask).flatten(1).nonzero()[:, 1]
            self.held_out = cells.view(len(train_mask), -1).to(self.device)

    def take_runs(self, runs: Int[Tensor, " kept"]) -> None:
        """Keep only these runs (indices into the current ones)."""
        super().take_runs(runs)
        if self.held_out is not None:
            self.held_out = self.held_out[runs]

    def pays(self, nodes: int) -> bool:
        """Whether the closed form is used at this number of nodes."""
        if self.engine != "auto":
            return self.engine == "closed_form"
        cells = 0 if self.held_out is None else self.held_out.shape[1]
        table = table_operations(self.size, nodes)
        return table > max(SMALLEST_TABLE, SMALLEST_GAIN * closed_form_operations(self.size, nodes, cells))

    @torch.no_grad()
    def __call__(
        self,
        weights: Float[Tensor, "run part element node"],
        *,
        metrics: bool = False,
        widths: tuple[int, ...] | None = None,
    ) -> tuple[Float[Tensor, "run part element node"], Metrics | None]:
        """Gradient of the mean training loss, and, if asked for, the metrics before the step."""
        runs, nodes = len(weights), weights.shape[-1]
        widths = widths or (nodes,) * runs
        if metrics or not self.pays(max(widths)):
            return super().__call__(weights, metrics=metrics, widths=widths)
        gradient, start = torch.zeros_like(weights), 0
        for width, members in itertools.groupby(widths):
            part = slice(start, start := start + len(list(members)))
            held_out = None if self.held_out is None else self.held_out[part]
            result = full_table.loss_and_gradient(weights[part, ..., :width].mT, self.group, held_out)
            gradient[part, ..., :width] = result.gradient.mT
        return gradient, None
