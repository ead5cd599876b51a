"""The sequences that a training sees, as counts of tokens: one stream for every task and seed.

Attention here depends on what a token is and not on where it stands, so a sequence is its vector of counts
over the tokens of its class, and the T − 1 contextual tokens of a batch are one multinomial draw. As P(·|n)
is the same vector for all classes of a task, the counts do not depend on the class either.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from learndyn.core.device import generator
from learndyn.scan_snap.task import TaskConfig


class Samples(NamedTuple):
    """A batch of one stream, sorted by class."""

    classes: Int[np.ndarray, "sample"]  # index n of the next token
    counts: Int[np.ndarray, "sample support"]  # of the contextual tokens, in the order of `support_tokens`


@runtime_checkable
class Stream(Protocol):
    """Initial parameters and batches of one task and seed."""

    def initial(self) -> tuple[Float[Tensor, "token token"], Float[Tensor, "query token"]]:
        """Y ``[contextual, predicted]`` and the query rows of Z, iid uniform in ±1/√M."""

    def batch(self, step: int) -> Samples:
        """The batch of a step."""


class VectorisedStream:
    """One multinomial draw for each batch, from the seed and the step: any step can be drawn at once."""

    def __init__(self, task: TaskConfig, seed: int, batch_size: int) -> None:
        self.task, self.seed, self.batch_size = task, seed, batch_size
        shape = (task.queries, task.next_per_query, task.common, task.common_per_query, task.distinct)
        self._key = (*shape, task.sequence_length, batch_size)
        self._probabilities = task.probabilities
        self._last: tuple[int, Samples] | None = None

    def initial(self) -> tuple[Float[Tensor, "token token"], Float[Tensor, "query token"]]:
        """Y ``[contextual, predicted]`` and the query rows of Z, iid uniform in ±1/√M."""
        size, queries = self.task.vocabulary, self.task.queries
        bound = 1 / math.sqrt(size)
        draw = generator(self.seed, "decoder", size)
        decoder = torch.empty(size, size, dtype=torch.float64).uniform_(-bound, bound, generator=draw)
        draw = generator(self.seed, "attention", size)
        attention = torch.empty(queries, size, dtype=torch.float64).uniform_(-bound, bound, generator=draw)
        return decoder, attention

    def batch(self, step: int) -> Samples:
        """The batch of a step; the last one is remembered, for other runs of the same stream."""
        if self._last is None or self._last[0] != step:
            draw = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(*self._key, step)))
            classes = np.sort(draw.integers(self.task.classes, size=self.batch_size))
            length = self.task.sequence_length - 1
            counts = draw.multinomial(length, self._probabilities, size=self.batch_size)
            self._last = step, Samples(classes, counts)
        return self._last[1]


class PublishedStream:
    """The random numbers of the authors' experiment of seed s, draw for draw.

    Classes come from Python's generator, seeded with s; torch's CPU generator, seeded with s + 2, first
    fills the two dense layers and then draws the tokens sample by sample, from single-precision
    probabilities. Steps can only be drawn in order: going back starts again.
    """

    def __init__(self, task: TaskConfig, seed: int, batch_size: int) -> None:
        self.task, self.seed, self.batch_size = task, seed, batch_size
        self._probabilities = torch.tensor(task.probabilities, dtype=torch.float32).expand(batch_size, -1)
        self._restart()

    def _restart(self) -> None:
        size = self.task.vocabulary
        self._choice = random.Random(self.seed)
        self._tokens = torch.Generator().manual_seed(self.seed + 2)
        layers = [torch.empty(size, size) for _ in range(2)]
        for layer in layers:  # the default of a dense layer: uniform in ±1/√M
            torch.nn.init.kaiming_uniform_(layer, a=math.sqrt(5), generator=self._tokens)
        self._layers = layers
        self._step, self._samples = -1, None

    def initial(self) -> tuple[Float[Tensor, "token token"], Float[Tensor, "query token"]]:
        """Y ``[contextual, predicted]`` and the query rows of Z, as the authors' layers start."""
        decoder, attention = self._layers
        # A dense layer of torch holds (output, input), so Y is transposed; Z is used with the query as row.
        return decoder.T.double(), attention[torch.as_tensor(self.task.query_tokens)].double()

    def batch(self, step: int) -> Samples:
        """The batch of a step; the last one is remembered, for other runs of the same stream."""
        if step < self._step:
            self._restart()
        while self._step < step:
            self._samples = self._next()
            self._step += 1
        return self._samples

    def _next(self) -> Samples:
        labels = range(self.task.classes)
        classes = np.array([self._choice.choice(labels) for _ in range(self.batch_size)])
        # One call draws row after row, the same numbers as one call for each sample.
        tokens = torch.multinomial(
            self._probabilities, self.task.sequence_length - 1, replacement=True, generator=self._tokens
        )
        counts = torch.zeros(self._probabilities.shape, dtype=torch.int64)
        counts.scatter_add_(1, tokens, torch.ones_like(tokens))
        order = np.argsort(classes, kind="stable")
        return Samples(classes[order], counts.numpy()[order])


def stream(
    task: TaskConfig, seed: int, batch_size: int, rng: Literal["vectorised", "published"] = "vectorised"
) -> Stream:
    """The stream of a task and seed."""
    return (PublishedStream if rng == "published" else VectorisedStream)(task, seed, batch_size)


@dataclass(frozen=True)
class Slabs:
    """Batches of several streams with one slab of equal height for every class.

    Attributes:
        log_counts: ln of the counts (−∞ for none); a sample that only fills its slab has one token.
        real: 1 for a sample, 0 for filling.
    """

    log_counts: Float[Tensor, "stream next sample support"]
    real: Float[Tensor, "stream next sample 1"]


def slabs(
    batches: Sequence[Samples], task: TaskConfig, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Slabs:
    """Sort the samples of every batch into the slabs of their classes."""
    classes = np.stack([batch.classes for batch in batches])
    streams, size = classes.shape
    numbers = np.stack([np.bincount(row, minlength=task.classes) for row in classes])
    first = np.cumsum(numbers, axis=1) - numbers
    place = np.arange(size) - np.take_along_axis(first, classes, axis=1)
    counts = np.zeros((streams, task.classes, int(numbers.max()), task.support), dtype=np.float32)
    counts[..., 0] = 1
    counts[np.arange(streams)[:, None], classes, place] = np.stack([batch.counts for batch in batches])
    real = np.arange(counts.shape[2]) < numbers[..., None]
    return Slabs(_to(counts, device, dtype).log_(), _to(real[..., None], device, dtype))


def _to(array: np.ndarray, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """To the device, on CUDA without waiting for what it is doing."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(dtype)
