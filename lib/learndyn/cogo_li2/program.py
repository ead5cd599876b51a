"""The state of a training ensemble between two epochs: weights, optimiser, log, which nodes and runs remain.

`training.train` drives it (see `learndyn.core.ensemble.drive`). Weights are ``[run, part, element, node]`` in here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learndyn.core import ensemble, optim
from learndyn.core.device import precision
from learndyn.cogo_li2 import initial
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.step import GridStep

if TYPE_CHECKING:
    from learndyn.cogo_li2.training import TrainConfig

METRICS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "alive_nodes")
ALIVE = 0.05  # the paper's threshold on |A_k|
NODE_MULTIPLE = 8  # node counts are padded to full vector registers


def compaction_rule(config: TrainConfig) -> tuple[bool, str]:
    """Whether dead nodes may be dropped in this configuration, and why (not).

    A node's output is of third order in its three weights for sqr and relusqr, so the gradients of a node whose weights
    are all of size τ are of size τ², while weight decay pulls with weight_decay·τ: below some τ the pull always wins and
    the node never comes back. With relu and silu the gradients are of size τ like the pull, and a small node may grow
    again. A decoupled optimiser (adamw) or Muon rescales the small gradient without the pull, so they are left out too.
    """
    if config.compact_every == 0:
        return False, "off: compact_every is 0"
    if config.activation in ("relu", "silu"):
        return False, f"off: with {config.activation} a node of tiny weights can grow again"
    if config.optimizer in ("adamw", "muon"):
        return False, f"off: {config.optimizer} amplifies the gradients of a tiny node, which can grow again"
    if not any(config.weight_decay):
        return False, "off: without weight decay no node dies"
    return True, f"dead nodes are dropped every {config.compact_every} epochs"


class GridProgram:
    """An ensemble in training; implements `learndyn.core.ensemble.Program`."""

    def __init__(self, config: TrainConfig, device: torch.device,
                 measures: Mapping[str, Callable[[Tensor], Tensor]],
                 start: Float[Tensor, "run part node element"] | None, *, strict: bool = False) -> None:
        self.config, self.device, self.measures = config, device, dict(measures)
        self.group = AbelianGroup(config.orders)
        self.dtype = precision(config.dtype)
        d, q, runs = config.size, config.hidden_size, config.runs
        if start is None:
            drawn = [initial.initial_weights(seed, d, q, config.rng) for seed in config.seed]
            start = torch.stack(drawn)
        start = start.detach().to(device, self.dtype)
        scale = torch.tensor(config.init_scale, dtype=self.dtype, device=device)
        self.weights = (start * scale[:, None, None, None]).mT.contiguous()
        mask = None
        if config.test_size is not None:
            cells = [initial.train_cells(seed, d, config.test_size, config.rng) for seed in config.seed]
            mask = torch.stack(cells)
        self.grid = GridStep(
            self.group.addition_table(), mask, runs=runs, activation=config.activation, loss=config.loss,
            dtype=self.dtype, device=device,
        )
        self.optimizer = _optimizer(config, self._views(self.weights))
        self.rows = torch.arange(runs, device=device)  # the ensemble's index of each run still in training
        self.nodes = torch.arange(q, device=device).expand(runs, q).contiguous()  # original index; q = padding
        self.compacts, self.rule = compaction_rule(config)
        # Below τ = 1e-3·wd·d the gradient (at most 16τ²/d) is below 2 % of the pull wd·τ; and a node of
        # weights below 1e-6 adds less than 1e-17 to an output of order 1, which float32 cannot hold.
        decay = torch.tensor(config.weight_decay, dtype=torch.float64, device=device)
        self.dead_below = (1e-3 * decay * d).clamp(max=1e-6).to(self.dtype)
        names = zip(config.seed, config.weight_decay, config.learning_rate, strict=True)
        self.statuses = ensemble.Statuses(
            [f"seed {s}, weight_decay {w:g}, learning_rate {lr:g}" for s, w, lr in names], strict=strict
        )
        self.log = ensemble.Logbook(runs, config.logged_epochs, device)
        self.snapshots = torch.full((runs, len(config.snapshots), 3, q, d), torch.nan, dtype=self.dtype)
        self._watched = 0

    def _views(self, weights: Tensor) -> list[Tensor]:
        """What the optimiser sees: everything at once, or, for Muon, the matrices of either orientation."""
        return [weights[:, :2], weights[:, 2:]] if self.config.optimizer == "muon" else [weights]

    def advance(self, step: int, *, logged: bool) -> None:
        """One epoch; the log and the snapshots take the state before it."""
        self._snapshot(step)
        gradient = self._evaluate(step, logged=logged)
        self.optimizer.step(self._views(gradient))

    def finish(self, step: int) -> None:
        """Log the state at the end."""
        self.maintain(step)
        if len(self.rows):
            self._evaluate(step, logged=True)
            self._watch(step + 1)
        else:
            self.log.record(step, self.rows, **{name: self.rows.to(self.dtype) for name in METRICS})
        self._snapshot(step)

    def _evaluate(self, step: int, *, logged: bool) -> Tensor:
        gradient, metrics = self.grid(self.weights, metrics=logged)
        if metrics is not None:
            weights = self.weights.mT
            first = self.group.to_spectrum(weights)[:, 0].abs().amax(-1)
            values = {**metrics._asdict(), "alive_nodes": (first > ALIVE).sum(-1).to(self.dtype)}
            values |= {name: function(weights) for name, function in self.measures.items()}
            self.log.record(step, self.rows, **values)
        return gradient

    def _snapshot(self, step: int) -> None:
        if step in self.config.snapshots:
            d, q = self.config.size, self.config.hidden_size
            full = torch.zeros(len(self.rows), 3, d, q + 1, dtype=self.dtype, device=self.device)
            index = self.nodes[:, None, None].expand_as(self.weights)
            full.scatter_(3, index, self.weights)  # padding goes to node q, which is cut off
            self.snapshots[self.rows.cpu(), self.config.snapshots.index(step)] = full[..., :q].mT.cpu()

    def maintain(self, step: int) -> bool:
        """Drop the runs that diverged and, if due, the nodes that died; false if no run is left."""
        self._watch(step)
        if self.compacts and len(self.rows) and step % self.config.compact_every == 0:
            self._compact()
        return len(self.rows) > 0

    def _watch(self, step: int) -> None:
        columns = self.log.between(self._watched, step)
        self._watched = step
        if columns.stop == columns.start:
            return
        losses = self.log.values["train_loss"][self.rows, columns]
        kept = self.statuses.watch(self.rows.cpu(), self.log.steps[columns], losses)
        for row in set(range(len(self.rows))) - set(kept.tolist()):
            self._blank(int(self.rows[row]))
        if len(kept) < len(self.rows):
            kept = kept.to(self.device)
            self.grid.take_runs(kept)
            self.rows, self.nodes, self.dead_below = self.rows[kept], self.nodes[kept], self.dead_below[kept]
            self._rebind(lambda tensor: tensor[kept].contiguous(), kept)

    def _blank(self, run: int) -> None:
        """What was logged after a run diverged, before anybody looked, is no result."""
        status = self.statuses[run]
        after = self.log.between(status.step + 1, self.config.epochs + 1)
        for values in self.log.values.values():
            values[run, after] = torch.nan
        for i, epoch in enumerate(self.config.snapshots):
            if epoch > status.step:
                self.snapshots[run, i] = torch.nan

    def _compact(self) -> None:
        """Gather the nodes that are not dead, padded to the largest number of them in any run."""
        travel = torch.cat(self.optimizer.momentum_travel(), 1)
        reach = torch.maximum(self.weights.abs(), travel).amax((1, 2))
        alive = (reach >= self.dead_below[:, None]) & (self.nodes < self.config.hidden_size)
        count = int(alive.sum(1).max())
        width = max(NODE_MULTIPLE, -(-count // NODE_MULTIPLE) * NODE_MULTIPLE)
        if width >= self.weights.shape[-1]:
            return
        # A stable sort puts the living first, in their order; what follows them in a shorter row is padding.
        order = torch.sort((~alive).to(torch.int8), dim=1, stable=True).indices[:, :width]
        padding = ~alive.gather(1, order)
        self.nodes = self.nodes.gather(1, order).masked_fill_(padding, self.config.hidden_size)

        def cut(tensor: Tensor) -> Tensor:
            index = order[:, None, None].expand(*tensor.shape[:3], width)
            return tensor.gather(3, index).masked_fill_(padding[:, None, None], 0)

        self._rebind(cut)

    def _rebind(self, cut: Callable[[Tensor], Tensor], runs: Int[Tensor, " kept"] | None = None) -> None:
        self.weights = cut(self.weights)
        self.optimizer.take(self._views(self.weights), cut, runs)

    def state_dict(self) -> dict[str, Tensor]:
        """Flat tensors for a checkpoint."""
        flat = {"weights": self.weights, "rows": self.rows, "nodes": self.nodes, "snapshots": self.snapshots,
                "watched": torch.tensor(self._watched)}
        for prefix, part in self._parts().items():
            flat |= {f"{prefix}.{name}": tensor for name, tensor in part.items()}
        return flat

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return {"optimizer": self.optimizer.state_dict(), "log": self.log.values,
                "status": self.statuses.state_dict()}

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave, on this program's device."""
        moved = {name: tensor.to(self.device) for name, tensor in flat.items() if name != "snapshots"}

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(f"{prefix}."): t for name, t in moved.items() if name.startswith(f"{prefix}.")}

        rows, width = moved["rows"], moved["nodes"].shape[1]
        self.grid.take_runs(rows)
        self.dead_below = self.dead_below[rows]
        self.rows, self.nodes = rows, moved["nodes"]
        self._rebind(lambda tensor: tensor[rows][..., :width].contiguous(), rows)
        self.weights.copy_(moved["weights"])
        self.optimizer.load_state_dict(part("optimizer"))
        self.log.values = part("log")
        self.statuses.load_state_dict({name: t.cpu() for name, t in part("status").items()})
        self.snapshots = flat["snapshots"]
        self._watched = int(flat["watched"])


def _optimizer(config: TrainConfig, params: list[Tensor]) -> optim.BatchedOptimizer:
    shared = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer in ("adam", "adamw"):
        kind = optim.BatchedAdam if config.optimizer == "adam" else optim.BatchedAdamW
        return kind(params, **shared, beta1=config.beta1, beta2=config.beta2, eps=config.eps)
    if config.optimizer == "sgd":
        return optim.BatchedSGD(params, **shared, momentum=config.momentum, nesterov=config.nesterov)
    # Stored [element, node]: w_a and w_b as the transpose of a linear layer's (node, element), w_c as (element, node).
    return optim.BatchedMuon(
        params, **shared, momentum=config.momentum, transposed=(True, False), newton_schulz_dtype=None
    )
