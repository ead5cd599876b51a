"""One training step of all runs of a task: loss and gradient from counts of tokens, without autograd.

The contextual tokens that behave alike form a *block*: those common to all classes, those common to the
classes of a query, the distinct ones, and (with a residual, or where it attends to itself) the query. A block
has ``group`` sets of ``member`` tokens; a sample meets exactly one set of every block, so every product with
Y or its gradient is a batch of small dense products, one for each run and group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from learndyn.scan_snap.streams import Slabs
from learndyn.scan_snap.task import TaskConfig


@dataclass(frozen=True)
class Block:
    """Tokens that behave alike.

    Attributes:
        groups: number of sets; classes n = g K/groups … of set g are neighbours.
        members: tokens of a set.
        support: their places on the ``support`` axis.
        first_token: id of the first of them; set after set, they are consecutive.
    """

    groups: int
    members: int
    support: slice
    first_token: int

    def attention_groups(self, task: TaskConfig) -> int:
        """Number of sets of attention logits: every query has its own for tokens common to all."""
        return max(self.groups, task.queries)

    @property
    def tokens(self) -> slice:
        """Their ids."""
        return slice(self.first_token, self.first_token + self.groups * self.members)


def blocks(task: TaskConfig, *, query: bool) -> tuple[Block, ...]:
    """The blocks of a task that have tokens, in the order of the token ids; ``query``: with the queries."""
    sizes = [
        (1, task.common),
        (task.queries, task.common_per_query),
        (task.classes, task.distinct),
        (task.queries, 1 if query else 0),
    ]
    found, place, token = [], 0, 0
    for groups, members in sizes:
        if members:
            found.append(Block(groups, members, slice(place, place + members), token))
        place, token = place + members, token + groups * members
    return tuple(found)


class Gradients(NamedTuple):
    """Of the mean loss of a batch, and that loss if it was asked for."""

    loss: Float[Tensor, " run"] | None
    decoder: list[Tensor]  # for every block [run, group, member, column]
    attention: list[Tensor]  # for every block [run, attention group, member]


class Room:
    """Memory for what a step computes and nobody keeps: new memory costs more than its use.

    Steps that do not overlap in time share one, which then stays in the processor's cache.
    """

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def tensor(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised tensor; what was there under this name is lost."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size or flat.dtype != like.dtype:
            flat = self._flat[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return flat[:size].view(shape)


class CountStep:
    """Loss and gradient of the runs of one task (Tian et al. 2023, Lemma 1, in counts).

    Columns of Y are the next tokens, then the tokens that are never labels. The latter are one column that
    stands for all of them if they are equal (``merged``), which they stay if they start so.

    Args:
        normalize, residual, attend_query: as in `TrainConfig`.
        merged: the tokens that are never labels are one column.
        room: shared with other steps; the gradient of Y is valid until the next one is computed.
    """

    def __init__(
        self,
        task: TaskConfig,
        *,
        batch_size: int,
        normalize: bool = True,
        residual: bool = False,
        attend_query: bool = False,
        merged: bool = False,
        room: Room | None = None,
    ) -> None:
        self.task, self.batch_size = task, batch_size
        self.normalize, self.residual, self.attend_query = normalize, residual, attend_query
        self.blocks = blocks(task, query=residual or attend_query)
        self.columns = task.classes + 1 if merged else task.vocabulary
        self.multiplicity = task.vocabulary - task.classes if merged else 1
        self.room = Room() if room is None else room

    def __call__(
        self, decoder: list[Tensor], attention: list[Tensor], batch: Slabs, *, loss: bool = True
    ) -> Gradients:
        """Gradient, and loss where it is wanted.

        Args:
            decoder: Y of every block, ``[run, group, member, column]``.
            attention: Z of every block, ``[run, attention group, member]``.
            batch: as in `slabs`, with ``run`` (or one for all runs) in the place of ``stream``.
        """
        c = self._weights(attention, batch)
        v = c
        if self.residual:
            v = c.clone()
            v[..., self.task.support] += 1  # the query comes after the contextual tokens
        scale = (
            batch.real / torch.linalg.vector_norm(v, dim=-1, keepdim=True) if self.normalize else batch.real
        )
        f = v * scale
        inputs = [
            f[..., block.support].reshape(*self._rows(block, f), block.members) for block in self.blocks
        ]
        losses, error = self._errors(inputs, decoder, batch, loss=loss)
        signal = self._signal(error, decoder, f)
        if self.normalize:
            signal = signal - f * (f * signal).sum(-1, keepdim=True)
        signal = signal * scale
        pull = c * (signal - (c * signal).sum(-1, keepdim=True))
        return Gradients(
            losses, self._decoder_gradient(inputs, error, decoder), self._attention_gradient(pull)
        )

    def _weights(self, attention: list[Tensor], batch: Slabs) -> Float[Tensor, "run next sample support"]:
        """Attention of a sample on the tokens of its class, all positions of a token together."""
        runs, classes = attention[0].shape[0], self.task.classes
        z = [
            each[:, :, None]
            .expand(-1, -1, classes // each.shape[1], -1)
            .reshape(runs, classes, 1, each.shape[2])
            for each in attention
        ]
        log_counts = batch.log_counts
        if self.residual or self.attend_query:
            once_or_never = 0.0 if self.attend_query else -torch.inf
            log_counts = torch.nn.functional.pad(log_counts, (0, 1), value=once_or_never)
        return torch.softmax(log_counts + torch.cat(z, -1), -1)

    def _rows(self, block: Block, f: Float[Tensor, "run next sample support"]) -> tuple[int, int]:
        runs, classes, samples = f.shape[:3]
        return runs * block.groups, classes // block.groups * samples

    def _errors(
        self, inputs: list[Tensor], decoder: list[Tensor], batch: Slabs, *, loss: bool
    ) -> tuple[Float[Tensor, " run"] | None, Float[Tensor, "run next sample column"]]:
        """Mean loss, and α minus the label, columns that stand for several tokens counted together."""
        runs, classes, samples = decoder[0].shape[0], self.task.classes, batch.real.shape[2]
        shape = (runs, classes, samples, self.columns)
        logits = self.room.tensor("logits", shape, decoder[0])
        error = self.room.tensor("error", shape, decoder[0])
        for place, (x, y) in enumerate(zip(inputs, decoder, strict=True)):
            rows = logits.view(*x.shape[:2], self.columns)
            torch.baddbmm(rows, x, y.flatten(0, 1), beta=1 if place else 0, out=rows)
        if self.multiplicity > 1:
            logits[..., classes:] += math.log(self.multiplicity)
        torch.softmax(logits, -1, out=error)
        label = error.diagonal(dim1=1, dim2=3)  # [run, sample, next]: the column of class n is n
        # ln Σ exp from the largest logit and its α, as the α of the label may underflow.
        total = logits.amax(-1) - error.amax(-1).log() if loss else None
        # 1 − α of the label as the sum of the others, which does not cancel.
        label.zero_()
        wrong = error.sum(-1).mT
        label.copy_(-wrong)
        if total is None:
            return None, error
        far = total.mT - logits.diagonal(dim1=1, dim2=3)
        losses = torch.where(wrong < 0.5, -torch.log1p(-wrong), far) * batch.real[..., 0].mT
        return losses.sum((1, 2)) / self.batch_size, error

    def _signal(
        self, error: Tensor, decoder: list[Tensor], f: Float[Tensor, "run next sample support"]
    ) -> Float[Tensor, "run next sample support"]:
        """Y (α − label) on the tokens of the class."""
        parts = [
            torch.bmm(error.view(*self._rows(block, f), self.columns), y.flatten(0, 1).mT)
            for block, y in zip(self.blocks, decoder, strict=True)
        ]
        return torch.cat([part.view(*f.shape[:3], -1) for part in parts], -1)

    def _decoder_gradient(self, inputs: list[Tensor], error: Tensor, decoder: list[Tensor]) -> list[Tensor]:
        gradients = [self.room.tensor(f"decoder {place}", y.shape, y) for place, y in enumerate(decoder)]
        for x, gradient in zip(inputs, gradients, strict=True):
            target = gradient.view(-1, *gradient.shape[2:])
            rows = error.view(*x.shape[:2], self.columns)
            torch.baddbmm(target, x.mT, rows, beta=0, alpha=1 / self.batch_size, out=target)
            if self.multiplicity > 1:
                gradient[..., self.task.classes :] /= self.multiplicity
        return gradients

    def _attention_gradient(self, pull: Float[Tensor, "run next sample support"]) -> list[Tensor]:
        by_class = pull.sum(2) / self.batch_size
        gradients = []
        for block in self.blocks:
            groups = block.attention_groups(self.task)
            part = by_class[..., block.support]
            gradients.append(part.reshape(len(part), groups, -1, block.members).sum(2))
        return gradients
