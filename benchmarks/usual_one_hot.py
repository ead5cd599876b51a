"""The one-layer decoder one writes first: one-hot sequences, two linear layers, autograd, torch.optim.SGD.

It is the baseline of the Scan & Snap benchmarks, in two variants. The plain one applies the attention's
linear layer to every token and takes the products with the query then, as attention is written. The careful
one picks the query's row of the weights first, which saves the largest product. In both, one-hot rows are
gathered from a unit matrix, and nothing is evaluated or logged. Batches are drawn as a script does, a class
and `torch.multinomial` for each sample, from generators of their own. Both must have the published losses
(tests/benchmarks). They use nothing of the library.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class SequenceClass:
    """Contextual tokens are drawn from ``probabilities`` over ``support``."""

    probabilities: Tensor
    support: Tensor
    query: int
    next_token: int


def sequence_classes(
    queries: int, next_per_query: int, common: int = 10, common_per_query: int = 0, distinct: int = 10
) -> tuple[list[SequenceClass], int]:
    """The published generator: its classes and the size of the vocabulary.

    Tokens in order: common to all | common to the classes of a query | distinct | queries | next tokens.
    """
    classes = queries * next_per_query
    first_distinct = common + queries * common_per_query
    first_query = first_distinct + classes * distinct
    first_next = first_query + queries
    weights = torch.cat([torch.ones(common + common_per_query), torch.linspace(0.1, 1, distinct)])
    found = []
    for n in range(classes):
        query = n // next_per_query
        local = common + query * common_per_query
        own = first_distinct + n * distinct
        ranges = ((0, common), (local, local + common_per_query), (own, own + distinct))
        support = torch.cat([torch.arange(start, stop) for start, stop in ranges])
        found.append(SequenceClass(weights / weights.sum(), support, first_query + query, first_next + n))
    return found, first_next + classes


class OneHotDecoder(nn.Module):
    """Softmax attention of the last token over the others, l2-normalised, and a linear decoder.

    Args:
        careful: take the query's row of the attention's weights before all else.
    """

    def __init__(self, vocabulary: int, *, careful: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.careful = careful
        # Initialised by the trainer from its own generator.
        self.decoder = nn.utils.skip_init(nn.Linear, vocabulary, vocabulary, bias=False, dtype=dtype)
        self.attention = nn.utils.skip_init(nn.Linear, vocabulary, vocabulary, bias=False, dtype=dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[sample, vocabulary]`` of one-hot sequences ``[sample, position, vocabulary]``."""
        context, query = tokens[:, :-1], tokens[:, -1]
        if self.careful:
            scores = torch.bmm(context, (query @ self.attention.weight)[:, :, None])
        else:
            scores = torch.bmm(self.attention(context), query[:, :, None])
        weights = torch.softmax(scores, dim=1)
        combined = torch.bmm(weights.mT, context)[:, 0]
        return self.decoder(functional.normalize(combined, dim=1))


class UsualOneHotTrainer:
    """One run.

    Args:
        classes, vocabulary: as `sequence_classes` gives them.
        length: of a sequence without its next token; the last of these tokens is the query.
        seed: Python draws the classes from this seed, torch all else from this seed + 2.
        zero: start from zero rather than from a linear layer's usual initialisation.
        careful: see `OneHotDecoder`.
    """

    def __init__(
        self,
        classes: list[SequenceClass],
        vocabulary: int,
        *,
        attention_rate: float,
        rate_ratio: float,
        seed: int,
        length: int = 128,
        batch_size: int = 128,
        momentum: float = 0.9,
        zero: bool = False,
        careful: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.classes, self.length, self.batch_size = classes, length, batch_size
        self.python, self.torch = random.Random(seed), torch.Generator().manual_seed(seed + 2)
        self.one_hot = torch.eye(vocabulary, dtype=dtype)
        self.model = OneHotDecoder(vocabulary, careful=careful, dtype=dtype)
        with torch.no_grad():
            for layer in (self.model.decoder, self.model.attention):
                draw = torch.empty(vocabulary, vocabulary)  # in float32, whatever the precision of the run
                nn.init.kaiming_uniform_(draw, a=5**0.5, generator=self.torch)
                layer.weight.copy_(draw.zero_() if zero else draw)
        groups = [
            {"params": self.model.decoder.parameters(), "lr": attention_rate * rate_ratio},
            {"params": self.model.attention.parameters(), "lr": attention_rate},
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=momentum)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Token numbers ``[sample, position]``, the query last, and the next tokens ``[sample]``."""
        sequences, labels = [], []
        for _ in range(self.batch_size):
            chosen = self.python.choice(self.classes)
            drawn = torch.multinomial(
                chosen.probabilities, self.length - 1, replacement=True, generator=self.torch
            )
            sequences.append(torch.cat([chosen.support[drawn], torch.tensor([chosen.query])]))
            labels.append(chosen.next_token)
        return torch.stack(sequences), torch.tensor(labels)

    def step(self) -> Tensor:
        """One step of SGD on a fresh batch; the loss before it."""
        sequences, labels = self.batch()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(self.one_hot[sequences]), labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @property
    def attention_logits(self) -> Tensor:
        """Z ``[query token, token]``."""
        return self.model.attention.weight.detach()

    @property
    def decoder_logits(self) -> Tensor:
        """Y ``[contextual token, predicted token]``."""
        return self.model.decoder.weight.detach().T
