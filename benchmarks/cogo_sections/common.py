"""What several sections need: the library's trainer driven by hand, usual trainers, counts of operations."""

from __future__ import annotations

import torch
from timing import Work
from torch import Tensor
from usual_trainer import UsualTrainer

from learndyn.cogo_li2 import initial
from learndyn.cogo_li2.closed_form import closed_form_operations, table_operations
from learndyn.cogo_li2.program import GridProgram
from learndyn.cogo_li2.settings import TrainConfig

MAINTAIN = 100


def program(config: TrainConfig, device: torch.device | str = "cpu") -> GridProgram:
    """The library's trainer before its first epoch; `learndyn.cogo_li2.training.train` drives the same."""
    return GridProgram(config, torch.device(device), {}, None)


def advance(trainer: GridProgram, start: int, stop: int) -> None:
    """Epochs start … stop−1 with compaction and logging as the configuration says."""
    logged = frozenset(trainer.config.logged_epochs)
    for epoch in range(start, stop):
        if epoch and epoch % MAINTAIN == 0:
            trainer.maintain(epoch)
        trainer.advance(epoch, logged=epoch in logged)


def usual(config: TrainConfig, run: int = 0, *, evaluates: bool = True) -> UsualTrainer:
    """The usual trainer of one run of a configuration, from the same weights and split."""
    d, seed = config.size, config.seed[run]
    weights = initial.initial_weights(seed, d, config.hidden_size, config.rng)
    return UsualTrainer(
        weights.to(torch.float32),
        initial.train_cells(seed, d, config.test_size, config.rng),
        learning_rate=config.learning_rate[run],
        weight_decay=config.weight_decay[run],
        evaluates=evaluates,
    )


def table_gradient(size: int, nodes: int) -> Work:
    """Three products over the table; weights in, gradient out."""
    return Work(table_operations(size, nodes), 4 * 2 * 3.0 * size * nodes)


def closed_gradient(size: int, nodes: int, held_out: int) -> Work:
    """The closed form and its held-out cells; weights in, gradient out."""
    return Work(closed_form_operations(size, nodes, held_out), 4 * 2 * 3.0 * size * nodes)


def step_work(gradient: Work, size: int, nodes: int) -> Work:
    """A gradient and Adam: 14 operations an entry; weights and two moments in and out."""
    entries = 3.0 * size * nodes
    return Work(gradient.operations + 14 * entries, 4 * 6 * entries)


def fewest_operations(config: TrainConfig, nodes: int) -> float:
    """Operations of one step of one run in whichever form takes fewer."""
    d = config.size
    held_out = 0 if config.test_size is None else initial.held_out_count(d, config.test_size)
    forms = table_gradient(d, nodes), closed_gradient(d, nodes, held_out)
    return min(step_work(gradient, d, nodes).operations for gradient in forms)


def frozen_weights(size: int, nodes: int, seed: int = 0) -> Tensor:
    """Weights ``[1, part, element, node]`` at PyTorch's initialisation, as the step takes them."""
    return initial.initial_weights(seed, size, nodes, "vectorised").float().mT[None].contiguous()
