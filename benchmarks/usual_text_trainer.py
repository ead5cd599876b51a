"""The language model one writes first: torch.nn.TransformerEncoder, torch.optim.SGD, clip_grad_norm_.

It is the baseline of section text of the Scan & Snap benchmarks, and no straw man: the encoder is told that
its mask is causal and asked for no attention weights, so that torch takes its fused attention, and nothing is
evaluated or logged. With the same weights and no dropout it must have the losses of the library
(tests/benchmarks). It uses nothing of the library.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class TextModel(nn.Module):
    """Embedding × √width + sinusoidal positions → encoder layers (post-LN, ReLU) → decoder with bias."""

    def __init__(
        self, vocabulary: int, width: int, layers: int, window: int, heads: int = 1, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, heads, width, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.decoder = nn.Linear(width, vocabulary)
        self.register_buffer("positions", sinusoidal_positions(window, width))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(window))
        for weights in (self.embedding.weight, self.decoder.weight):
            nn.init.uniform_(weights, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[column, position, vocabulary]`` of token numbers ``[column, position]``."""
        length = inputs.shape[1]
        embedded = self.embedding(inputs) * self.scale + self.positions[:length]
        mask = self.mask[:length, :length]
        return self.decoder(self.encoder(self.dropout(embedded), mask=mask, is_causal=True))


def sinusoidal_positions(window: int, width: int) -> Tensor:
    """``[position, width]``: sines in even columns, cosines in odd ones."""
    position = torch.arange(window)[:, None]
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    encoding = torch.zeros(window, width)
    encoding[:, 0::2] = torch.sin(position * frequencies)
    encoding[:, 1::2] = torch.cos(position * frequencies)
    return encoding


class UsualTextTrainer:
    """Plain SGD with a rate of its own for the feed-forward layers, gradients clipped to a global norm."""

    def __init__(
        self, model: TextModel, *, learning_rate: float, feed_forward_factor: float = 2.0, clip: float = 0.5
    ) -> None:
        self.model, self.clip = model, clip
        groups = {"others": [], "feed-forward": []}
        for name, parameter in model.named_parameters():
            inner = ".linear1." in name or ".linear2." in name
            groups["feed-forward" if inner else "others"].append(parameter)
        self.optimizer = torch.optim.SGD(
            [
                {"params": groups["others"]},
                {"params": groups["feed-forward"], "lr": learning_rate * feed_forward_factor},
            ],
            lr=learning_rate,
        )

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One step on a window, both ``[column, position]``; the loss before it."""
        self.model.train()
        self.optimizer.zero_grad()
        logits = self.model(inputs)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.detach()
