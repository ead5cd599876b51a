"""The state of an ensemble between two epochs: weights, optimiser, log, the nodes and runs that remain.

`learndyn.cogo_li2.training.train` has it driven by `learndyn.core.ensemble.drive`. Weights are
``[run, part, element, node]`` in here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from learndyn.cogo_li2 import initial
from learndyn.cogo_li2.closed_form import ClosedFormStep
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings import TrainConfig
from learndyn.cogo_li2.step import GridStep
from learndyn.core import ensemble, optim
from learndyn.core.device import precision

METRICS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "alive_nodes")
ALIVE = 0.05  # the paper's threshold on |A_k|
NODE_MULTIPLE = 8  # node counts are padded to whole vector registers


def compaction_rule(config: TrainConfig) -> tuple[bool, str]:
    """Whether dead nodes may be dropped in this configuration, and why (not), in words.

    For sqr and relusqr the gradient of each weight of a node is of second order in the node's weights, and
    weight decay pulls in first order: once a node is small and the pull wins, it wins ever more clearly. For
    relu and silu both are of first order and a small node may grow again; so it may with adamw and muon,
    which rescale the small gradient without the pull.
    """
    if config.compact_every == 0:
        return False, "off: compact_every is 0"
    if config.activation in ("relu", "silu"):
        return False, f"off: with {config.activation} a node of tiny weights can grow again"
    if config.optimizer in ("adamw", "muon"):
        return False, f"off: {config.optimizer} amplifies the gradient of a tiny node, which can grow again"
    if not any(config.weight_decay):
        return False, "off: without weight decay no node dies"
    return True, f"dead nodes are dropped every {config.compact_every} epochs"


class GridProgram:
    """An ensemble in training, as `learndyn.core.ensemble.Program` wants it.

    Args:
        measures: functions of weights ``[run, part, node, element]`` to log beside `METRICS`.
        start: initial weights; None draws them from the seeds.
        strict: raise at the first run that diverges.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device,
        measures: Mapping[str, Callable[[Tensor], Tensor]],
        start: Float[Tensor, "run part node element"] | None,
        *,
        strict: bool = False,
    ) -> None:
        self.config, self.device, self.measures = config, device, dict(measures)
        self.group, self.dtype = AbelianGroup(config.orders), precision(config.dtype)
        d, q, runs = config.size, config.hidden_size, config.runs
        if start is None:
            start = torch.stack([initial.initial_weights(seed, d, q, config.rng) for seed in config.seed])
        scale = torch.tensor(config.init_scale, dtype=self.dtype, device=device)
        start = start.detach().to(device, self.dtype) * scale[:, None, None, None]
        self.weights = start.mT.contiguous()
        self.grid = _step(config, self.group, device)
        self.optimizer = _optimizer(config, self._views(self.weights))
        self.rows = torch.arange(
            runs, device=device
        )  # the place in the ensemble of each run still in training
        self.nodes = (
            torch.arange(q, device=device).expand(runs, q).contiguous()
        )  # original place; q is padding
        self.widths = (q,) * runs  # nodes that each run still has, in whole vector registers
        self.compacts, self.rule = compaction_rule(config)
        self.decay = torch.tensor(config.weight_decay, dtype=self.dtype, device=device)
        self.statuses = ensemble.Statuses(_names(config), strict=strict)
        self.log = ensemble.Logbook(runs, config.logged_epochs, device)
        self.kept = {epoch: place for place, epoch in enumerate(config.kept_epochs)}
        self.snapshots = torch.full((runs, len(self.kept), 3, q, d), torch.nan, dtype=self.dtype)
        self._watched = 0

    def _views(self, weights: Tensor) -> list[Tensor]:
        """What the optimiser sees: everything at once, or for Muon the matrices of either orientation."""
        return [weights[:, :2], weights[:, 2:]] if self.config.optimizer == "muon" else [weights]

    def advance(self, step: int, *, logged: bool) -> None:
        """One epoch; log and snapshots take the state before it."""
        self._snapshot(step)
        gradient = self._evaluate(step, logged=logged)
        self.optimizer.step(self._views(gradient))

    def finish(self, step: int) -> None:
        """Log and keep the state at the end."""
        if self.maintain(step):
            self._evaluate(step, logged=True)
            self._watch(step + 1)
        self._snapshot(step)

    def _evaluate(self, step: int, *, logged: bool) -> Tensor:
        gradient, metrics = self.grid(self.weights, metrics=logged, widths=self.widths)
        if metrics is not None:
            weights = self.weights.mT
            moduli = self.group.to_spectrum(weights)[:, 0].abs()
            values = metrics._asdict() | {"alive_nodes": (moduli.amax(-1) > ALIVE).sum(-1).to(self.dtype)}
            values |= {name: function(weights) for name, function in self.measures.items()}
            self.log.record(step, self.rows, **values)
        return gradient

    def _snapshot(self, step: int) -> None:
        if step not in self.kept:
            return
        d, q = self.config.size, self.config.hidden_size
        full = torch.zeros(len(self.rows), 3, d, q + 1, dtype=self.dtype, device=self.device)
        full.scatter_(3, self.nodes[:, None, None].expand_as(self.weights), self.weights)
        self.snapshots[self.rows.cpu(), self.kept[step]] = full[..., :q].mT.cpu()  # without the padding at q

    def maintain(self, step: int) -> bool:
        """Drop the runs that diverged and, if due, the nodes that died; false if no run is left."""
        self._watch(step)
        if self.compacts and len(self.rows) and step % self.config.compact_every == 0:
            self._compact()
        return len(self.rows) > 0

    def _watch(self, step: int) -> None:
        """Look at the losses logged since the last time, and at the weights now (the log may be sparse)."""
        finite = self.weights.isfinite().flatten(1).all(1)
        kept = self.statuses.survivors(
            self.log, "train_loss", self.rows, finite, since=self._watched, step=step, blank=self._blank
        )
        self._watched = step
        if len(kept) == len(self.rows):
            return
        kept = kept.to(self.device)
        self.grid.take_runs(kept)
        self.rows, self.nodes, self.decay = self.rows[kept], self.nodes[kept], self.decay[kept]
        self.widths = tuple(self.widths[row] for row in kept.tolist())
        self._cut(lambda tensor: tensor[kept].contiguous(), kept)

    def _blank(self, run: int) -> None:
        """What was logged between a divergence and its discovery is no result."""
        since = self.statuses[run].step
        self.log.blank(run, after=since)
        ensemble.blank_snapshots({"weights": self.snapshots}, self.kept, run, after=since)

    def _dead(self) -> Bool[Tensor, "run node"]:
        """Nodes that no output can feel and that weight decay holds down.

        All q of them together, even after the way that their momentum may still carry them, add less to an
        output than rounding does (outputs are of order 1); and the gradient of the loss, measured now, is at
        most half of the pull of weight decay on (w_a, w_b) and on w_c.
        """
        travel = torch.cat(self.optimizer.momentum_travel(), 1)
        reach = torch.maximum(self.weights.abs(), travel).amax(2)
        output = (reach[:, 0] + reach[:, 1]).square() * reach[:, 2]
        unfelt = output < torch.finfo(self.dtype).eps / (64 * self.config.hidden_size)
        # With metrics, because a step that logs walks the table: the closed form cancels too much for this.
        gradient = self.grid(self.weights, metrics=True)[0].abs().amax(2)
        pull = self.decay[:, None, None] * self.weights.abs().amax(2)
        held = gradient[:, :2].amax(1) <= pull[:, :2].amax(1) / 2
        return unfelt & held & (gradient[:, 2] <= pull[:, 2] / 2)  # NaN compares false: not dead

    def _compact(self) -> None:
        """Gather the nodes that are not dead, padded to the largest number of them in any run."""
        alive = ~self._dead() & (self.nodes < self.config.hidden_size)
        widths = self._widths_of(alive)
        if widths == self.widths:
            return
        self.widths, width = widths, max(widths)
        # A stable sort puts the living first, in their order; what follows in a shorter row is padding.
        order = torch.sort((~alive).to(torch.int8), dim=1, stable=True).indices[:, :width]
        padding = ~alive.gather(1, order)
        self.nodes = self.nodes.gather(1, order).masked_fill_(padding, self.config.hidden_size)

        def cut(tensor: Tensor) -> Tensor:
            index = order[:, None, None].expand(*tensor.shape[:3], width)
            return tensor.gather(3, index).masked_fill_(padding[:, None, None], 0)

        self._cut(cut)

    def _widths_of(self, alive: Bool[Tensor, "run node"]) -> tuple[int, ...]:
        """Numbers of nodes that the step has to visit in each run."""
        multiples = (alive.sum(1) + NODE_MULTIPLE - 1).div(NODE_MULTIPLE, rounding_mode="floor").clamp(min=1)
        return tuple((multiples * NODE_MULTIPLE).clamp(max=self.weights.shape[-1]).tolist())

    def _cut(self, cut: Callable[[Tensor], Tensor], runs: Int[Tensor, " kept"] | None = None) -> None:
        self.weights = cut(self.weights)
        self.optimizer.take(self._views(self.weights), cut, runs)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that decides the rest of the training and its result, as flat tensors."""
        own = {"weights": self.weights, "rows": self.rows, "nodes": self.nodes, "snapshots": self.snapshots}
        own["watched"] = torch.tensor(self._watched)
        parts = {"optimizer": self.optimizer.state_dict(), "log": self.log.values}
        return ensemble.flat_state(own, parts | {"status": self.statuses.state_dict()})

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back, into a program that has not begun, what `state_dict` gave."""
        part = partial(ensemble.part_of, flat)
        rows, self.nodes = flat["rows"].to(self.device), flat["nodes"].to(self.device)
        width = self.nodes.shape[1]
        self.grid.take_runs(rows)
        self.rows, self.decay = rows, self.decay[rows]
        self._cut(lambda tensor: tensor[rows][..., :width].contiguous(), rows)
        self.weights.copy_(flat["weights"])
        self.widths = self._widths_of(self.nodes < self.config.hidden_size)
        self.optimizer.load_state_dict(part("optimizer", self.device))
        self.log.values = part("log", self.device)
        self.statuses.load_state_dict(part("status", "cpu"))
        self.snapshots = flat["snapshots"]
        self._watched = int(flat["watched"])


def _names(config: TrainConfig) -> list[str]:
    columns = zip(config.seed, config.weight_decay, config.learning_rate, strict=True)
    return [f"seed {seed}, weight_decay {decay:g}, learning_rate {rate:g}" for seed, decay, rate in columns]


def _step(config: TrainConfig, group: AbelianGroup, device: torch.device) -> GridStep:
    """The table's step, or the one that can do without the table where the network allows it."""
    mask = _train_mask(config)
    options = {"runs": config.runs, "dtype": precision(config.dtype), "device": device}
    if config.quadratic and config.engine != "grid":
        return ClosedFormStep(group, mask, engine=config.engine, **options)
    return GridStep(group.addition_table(), mask, activation=config.activation, loss=config.loss, **options)


def _train_mask(config: TrainConfig) -> Tensor | None:
    if config.test_size is None:
        return None
    cells = [initial.train_cells(seed, config.size, config.test_size, config.rng) for seed in config.seed]
    return torch.stack(cells)


def _optimizer(config: TrainConfig, params: list[Tensor]) -> optim.BatchedOptimizer:
    shared = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer in ("adam", "adamw"):
        kind = optim.BatchedAdam if config.optimizer == "adam" else optim.BatchedAdamW
        return kind(params, **shared, beta1=config.beta1, beta2=config.beta2, eps=config.eps)
    if config.optimizer == "sgd":
        return optim.BatchedSGD(params, **shared, momentum=config.momentum, nesterov=config.nesterov)
    # As linear layers, w_a and w_b would be (node, element) and w_c (element, node); all are [element, node].
    return optim.BatchedMuon(
        params, **shared, momentum=config.momentum, transposed=(True, False), newton_schulz_dtype=None
    )
