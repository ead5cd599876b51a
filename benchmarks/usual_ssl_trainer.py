"""The SSL trainer one writes first: nn.Sequential, a loss function on two embeddings, torch.optim.SGD.

It is the baseline of section ensemble, and no straw man: both views go through the network as one batch, SGD
is torch's fused one, nothing is evaluated or logged, and the losses are written as in the reference
implementations of their papers. It starts from given weights and must follow the library's trajectory
(tests/benchmarks). It uses nothing of the library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


def barlow_twins(a: Tensor, b: Tensor) -> Tensor:
    """‖C − I‖² with the symmetrised cross-correlation C, neither centred nor normalised."""
    product = a.T @ b / len(a)
    correlation = (product + product.T) / 2
    return (correlation - torch.eye(len(correlation), dtype=a.dtype)).square().sum()


def vicreg(
    a: Tensor, b: Tensor, invariance: float, variance: float, covariance: float, eps: float = 1e-4
) -> Tensor:
    """Weighted invariance, variance hinge (mean over the views) and covariance (sum over the views)."""
    n, d = a.shape
    hinge = penalty = 0.0
    for z in (a, b):
        z = z - z.mean(0)
        hinge = hinge + functional.relu(1 - (z.var(0) + eps).sqrt()).mean() / 2
        cov = z.T @ z / (n - 1)
        penalty = penalty + (cov.square().sum() - cov.diagonal().square().sum()) / d
    return invariance * functional.mse_loss(a, b) + variance * hinge + covariance * penalty


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding one's partner by cosine among the 2n − 1 other embeddings."""
    n = len(a)
    z = functional.normalize(torch.cat((a, b)), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return functional.cross_entropy(logits, torch.arange(2 * n).roll(n))


class UsualSSLTrainer:
    """One run of an MLP with one hidden layer on two views, full batch.

    Args:
        weights: of the two layers, ``[hidden, input]`` and ``[dimension, hidden]``, in their precision.
        bias: of the last layer, ``[dimension]``, trained; or None.
        views: ``[pair, input]``, two of them.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        bias: Tensor | None,
        views: tuple[Tensor, Tensor],
        loss: Loss,
        learning_rate: float,
    ) -> None:
        body, head = weights
        self.model = nn.Sequential(
            nn.Linear(*body.T.shape, bias=False),
            nn.ReLU(),
            nn.Linear(*head.T.shape, bias=bias is not None),
        ).to(body.dtype)
        with torch.no_grad():
            self.model[0].weight.copy_(body)
            self.model[2].weight.copy_(head)
            if bias is not None:
                self.model[2].bias.copy_(bias)
        self.views, self.loss = torch.cat(views), loss
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=learning_rate, fused=True)

    def step(self) -> Tensor:
        """One step of full-batch gradient descent; the loss before it."""
        self.optimizer.zero_grad()
        loss = self.loss(*self.model(self.views).chunk(2))
        loss.backward()
        self.optimizer.step()
        return loss.detach()
