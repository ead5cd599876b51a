"""The fast training step: loss and gradient of an ensemble over the whole d×d table, written by hand.

Every pair (x, y) of the group is a cell of a table, so no input is one-hot and nothing is gathered: the
hidden pre-activation is the broadcast sum w_a[x] + w_b[y]. A train split is a weight per cell that is zero
where the cell is held out, which makes the test metrics a by-product of the same forward pass. Three matrix
products remain, each of 2·d²·q·d operations: outputs, gradient of w_c, gradient of the hidden layer.

The table is walked in blocks of x-rows that fit the processor's cache, forward and backward in one go:
nothing of size d²·q is ever written to memory. That is possible because the loss is a sum over cells.

Inside this module (and the trainer's loop) weights are ``[run, part, element, node]``, with nodes last, so
that the inner loops run over contiguous nodes, and outputs are ``[run, class, cell]``: a product with few
classes as its last axis takes twice as long. The rest of the chapter uses ``[run, part, node, element]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Elements of one hidden block. Two blocks of float32 take 3.6 MB: about the second-level caches of two
# cores, and still large enough that the matrix products run at full speed. On a GPU blocks only bound the
# memory.
CPU_BLOCK = 450_000
CUDA_BLOCK = 1 << 28


class Metrics(NamedTuple):
    """What one forward pass says about each run; test values are NaN without held-out cells."""

    train_loss: Float[Tensor, " run"]
    test_loss: Float[Tensor, " run"]
    train_accuracy: Float[Tensor, " run"]
    test_accuracy: Float[Tensor, " run"]


# Activations: forward fills ``hidden`` from ``pre``; backward turns the gradient of the one into the other's.


def _sqr(pre: Tensor, hidden: Tensor) -> None:
    torch.mul(pre, pre, out=hidden)


def _sqr_back(pre: Tensor, grad: Tensor) -> None:
    grad.mul_(pre)  # the factor 2 is applied to the summed gradients, which are d times smaller


def _relu(pre: Tensor, hidden: Tensor) -> None:
    torch.clamp(pre, min=0, out=hidden)


def _relu_back(pre: Tensor, grad: Tensor) -> None:
    grad.mul_(pre > 0)


def _silu(pre: Tensor, hidden: Tensor) -> None:
    torch.sigmoid(pre, out=hidden)
    hidden.mul_(pre)


def _silu_back(pre: Tensor, grad: Tensor) -> None:
    gate = torch.sigmoid(pre)
    grad.mul_(torch.addcmul(gate, gate * pre, 1 - gate))


def _relusqr(pre: Tensor, hidden: Tensor) -> None:
    pre.clamp_(min=0)  # in place: the derivative 2·relu(pre) needs nothing else
    torch.mul(pre, pre, out=hidden)


@dataclass(frozen=True)
class Activation:
    """A hand-differentiated activation; ``factor`` is a constant left out of ``backward``."""

    forward: Callable[[Tensor, Tensor], None]
    backward: Callable[[Tensor, Tensor], None]
    factor: float = 1.0


ACTIVATIONS: dict[str, Activation] = {
    "sqr": Activation(_sqr, _sqr_back, factor=2.0),
    "relu": Activation(_relu, _relu_back),
    "silu": Activation(_silu, _silu_back),
    "relusqr": Activation(_relusqr, _sqr_back, factor=2.0),
}


class GridStep:
    """Loss and gradient of an ensemble on a d×d table of labels.

    Args:
        labels: ``[element, element]``, the group's addition table.
        train_mask: ``[run, element, element]``, true where run r trains; None trains on the full table.
        activation, loss: sqr, relu, silu, relusqr; projected_mse (CoGO, section 2) or cross_entropy.
        block_elements: numbers in one hidden block, at most, but where whole runs fit their number is
            rounded up to an even one; None picks one for the device.
    """

    def __init__(
        self,
        labels: Int[Tensor, "element element"],
        train_mask: Bool[Tensor, "run element element"] | None,
        *,
        runs: int,
        activation: str = "sqr",
        loss: str = "projected_mse",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        block_elements: int | None = None,
    ) -> None:
        self.size = labels.shape[0]
        self.labels = labels.to(device).flatten()  # cell (x, y) is number x·d + y
        self.activation, self.loss = ACTIVATIONS[activation], loss
        self.dtype, self.device = dtype, torch.device(device)
        self.block_elements = block_elements or (CUDA_BLOCK if self.device.type == "cuda" else CPU_BLOCK)
        if train_mask is None:
            train_mask = torch.ones(runs, self.size, self.size, dtype=torch.bool)
        self.train_cells = train_mask.to(device, dtype).flatten(1)
        train_count = self.train_cells.sum(1)
        # d(mean ‖õ−ẽ‖²)/dõ = 2(õ−ẽ)/count; d(mean cross-entropy)/do = (softmax − e)/count.
        slope = 2.0 if loss == "projected_mse" else 1.0
        self.cell_slope = slope * self.train_cells / train_count[:, None]
        self.minus_slope = -self.cell_slope
        self.counts = torch.stack([train_count, self.size**2 - train_count])
        self._shape: tuple[int, int, tuple[int, ...]] | None = None

    def take_runs(self, runs: Int[Tensor, " kept"]) -> None:
        """Keep only these runs (indices into the current ones)."""
        self.train_cells, self.cell_slope = self.train_cells[runs], self.cell_slope[runs]
        self.minus_slope = self.minus_slope[runs]
        self.counts = self.counts[:, runs]
        self._shape = None

    def _allocate(self, runs: int, nodes: int) -> None:
        """Block sizes and buffers; done again only when compaction changes the number of nodes or runs."""
        d = self.size
        row = d * max(nodes, d)  # one x-row of one run, of hidden values or of outputs
        self.rows = _equal_parts(d, self.block_elements // row)
        self.batch = _equal_parts(runs, self.block_elements // (row * d)) if self.rows == d else 1
        if self.rows == d and self.batch < runs:
            self.batch += self.batch % 2  # a batched product goes to the cores by whole runs
        options = {"dtype": self.dtype, "device": self.device}
        cells = self.batch * self.rows * d
        self._pre, self._hidden = torch.empty(cells * nodes, **options), torch.empty(cells * nodes, **options)
        self._outputs = torch.empty(cells * d, **options)
        # Zero, since a block writes only the nodes that its runs still have.
        self.gradient = torch.zeros(runs, 3, d, nodes, **options)
        self._outputs_gradient = torch.zeros(runs, d, nodes, **options)

    def _blocks(self, runs: int) -> Iterator[tuple[slice, slice]]:
        for r in range(0, runs, self.batch):
            for x in range(0, self.size, self.rows):
                yield slice(r, min(r + self.batch, runs)), slice(x, min(x + self.rows, self.size))

    @torch.no_grad()
    def __call__(
        self,
        weights: Float[Tensor, "run part element node"],
        *,
        metrics: bool = False,
        widths: tuple[int, ...] | None = None,
    ) -> tuple[Float[Tensor, "run part element node"], Metrics | None]:
        """Gradient of the mean training loss, and, if asked for, the metrics before the step.

        The gradient is a buffer that the next call overwrites. ``widths`` are the numbers of nodes that each
        run has; those beyond are zero (runs are padded to the widest), and cost nothing.
        """
        runs, _, d, nodes = weights.shape
        widths = widths or (nodes,) * runs
        if self._shape != (runs, nodes, widths):
            self._allocate(runs, nodes)
            self._shape = (runs, nodes, widths)
        weights_c = weights[:, 2]
        projections = weights_c - weights_c.mean(1, keepdim=True)
        totals = torch.zeros(2, 2, runs, dtype=self.dtype, device=self.device) if metrics else None
        for r, x in self._blocks(runs):
            batch, rows = r.stop - r.start, x.stop - x.start
            cells, width = slice(x.start * d, x.stop * d), max(widths[r])
            inputs_a, inputs_b = weights[r, 0, :, :width], weights[r, 1, :, :width]
            projected, outputs_gradient = projections[r, :, :width], self._outputs_gradient[r, :, :width]
            pre = self._pre[: batch * rows * d * width].view(batch, rows, d, width)
            hidden = self._hidden[: batch * rows * d * width].view(batch, rows, d, width)
            torch.add(inputs_a[:, x, None], inputs_b[:, None], out=pre)
            self.activation.forward(pre, hidden)
            flat = hidden.view(batch, rows * d, width)
            logits = self._outputs[: batch * d * rows * d].view(batch, d, rows * d)
            torch.bmm(projected, flat.mT, out=logits)
            if totals is not None:
                totals[:, :, r] += self._measure(logits, r, cells)
            self._residual(logits, r, cells)
            if x.start == 0:
                torch.bmm(logits, flat, out=outputs_gradient)
            else:
                outputs_gradient.baddbmm_(logits, flat)
            # From here on ``hidden`` is the gradient of the hidden layer; beta=0 forgets what it was.
            flat.baddbmm_(logits.mT, projected, beta=0, alpha=self.activation.factor)
            self.activation.backward(pre, hidden)
            torch.sum(hidden, 2, out=self.gradient[r, 0, x, :width])
            if x.start == 0:
                torch.sum(hidden, 1, out=self.gradient[r, 1, :, :width])
            else:
                self.gradient[r, 1, :, :width].add_(hidden.sum(1))
        # The outputs were projected through w_c, so its gradient is projected too (P is symmetric).
        mean = self._outputs_gradient.mean(1, keepdim=True)
        torch.sub(self._outputs_gradient, mean, out=self.gradient[:, 2])
        if totals is None:
            return self.gradient, None
        return self.gradient, Metrics(*(totals / self.counts).flatten(0, 1))  # 0/0 = NaN: nothing held out

    def _residual(self, logits: Tensor, r: slice, cells: slice) -> None:
        """Turn the logits of a block into the gradient of the mean loss with respect to them, in place."""
        if self.loss == "cross_entropy":
            logits.copy_(torch.softmax(logits, 1))
        logits.mul_(self.cell_slope[r, None, cells])
        minus_slope = self.minus_slope[r, None, cells]
        logits.scatter_add_(1, self.labels[cells].expand(minus_slope.shape), minus_slope)

    def _measure(self, logits: Tensor, r: slice, cells: slice) -> Tensor:
        """Sums over the cells of a block: (loss, right answers) × (train, test) × run."""
        labels = self.labels[cells].expand(len(logits), -1)
        at_label = logits.gather(1, labels[:, None])[:, 0]
        if self.loss == "projected_mse":
            loss = logits.square().sum(1) - 2 * at_label + (1 - 1 / self.size)
        else:
            loss = torch.logsumexp(logits, 1) - at_label
        values = torch.stack([loss, (logits.argmax(1) == labels).to(self.dtype)])
        train = self.train_cells[r, cells]
        return torch.stack([(values * train).sum(-1), (values * (1 - train)).sum(-1)], 1)


def _equal_parts(total: int, largest: int) -> int:
    """Size of the parts if ``total`` is cut into as few parts as ``largest`` allows, of about equal size."""
    parts = -(-total // max(1, largest))
    return -(-total // parts)
