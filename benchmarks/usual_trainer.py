"""The trainer one writes first: one-hot inputs, linear layers, autograd, torch.optim, metrics every epoch.

It is the baseline of the benchmarks, and no straw man: everything is prepared outside the loop, it is full
batch, and it takes the same initial weights and the same split as the library, whose losses it must meet
(tests/benchmarks). It uses nothing of the library.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class TwoLayers(nn.Module):
    """o = W_c (W_a x + W_b y)², without biases."""

    def __init__(self, size: int, hidden_size: int) -> None:
        super().__init__()
        self.a = nn.Linear(size, hidden_size, bias=False)
        self.b = nn.Linear(size, hidden_size, bias=False)
        self.c = nn.Linear(hidden_size, size, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.c((self.a(x) + self.b(y)).square())


class Metrics(NamedTuple):
    train_loss: float
    test_loss: float
    train_accuracy: float
    test_accuracy: float


def projected_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples of ‖P o − P e_label‖², P subtracting the mean over the classes."""
    difference = (outputs - outputs.mean(1, keepdim=True)) - (targets - targets.mean(1, keepdim=True))
    return difference.square().sum(1).mean()


class UsualTrainer:
    """One run of modular addition.

    Args:
        weights: ``[3, node, element]``, the initial w_a, w_b and the transpose of w_c.
        train_cells: ``[element, element]``, true where (x, y) is trained on.
        evaluates: whether an epoch begins with the metrics on the train and on the test set.
    """

    def __init__(
        self,
        weights: Tensor,
        train_cells: Tensor,
        *,
        learning_rate: float,
        weight_decay: float,
        evaluates: bool = True,
    ) -> None:
        _, hidden_size, size = weights.shape
        self.evaluates = evaluates
        self.model = TwoLayers(size, hidden_size).to(weights.dtype)
        with torch.no_grad():
            self.model.a.weight.copy_(weights[0])
            self.model.b.weight.copy_(weights[1])
            self.model.c.weight.copy_(weights[2].T)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=learning_rate, weight_decay=weight_decay
        )
        x, y = torch.cartesian_prod(torch.arange(size), torch.arange(size)).unbind(1)
        one_hot = torch.eye(size, dtype=weights.dtype)
        labels = (x + y) % size
        train = train_cells.flatten()
        self.train, self.test = (
            (one_hot[x[part]], one_hot[y[part]], one_hot[labels[part]], labels[part])
            for part in (train, ~train)
        )

    def epoch(self) -> Metrics | None:
        """Evaluate, then take one step of full-batch gradient descent."""
        metrics = self.evaluate() if self.evaluates else None
        self.model.train()
        x, y, targets, _ = self.train
        self.optimizer.zero_grad()
        loss = projected_mse(self.model(x, y), targets)
        loss.backward()
        self.optimizer.step()
        return metrics

    def evaluate(self) -> Metrics:
        """Loss and accuracy on the train and on the test set."""
        train_loss, train_accuracy = self._evaluate(*self.train)
        test_loss, test_accuracy = self._evaluate(*self.test)
        return Metrics(train_loss, test_loss, train_accuracy, test_accuracy)

    @torch.no_grad()
    def _evaluate(self, x: Tensor, y: Tensor, targets: Tensor, labels: Tensor) -> tuple[float, float]:
        self.model.eval()
        outputs = self.model(x, y)
        right = (outputs.argmax(1) == labels).sum().item() / len(labels)
        return projected_mse(outputs, targets).item(), right

    @property
    def weights(self) -> Tensor:
        """``[3, node, element]`` as they are now."""
        model = self.model
        return torch.stack([model.a.weight, model.b.weight, model.c.weight.T]).detach()
