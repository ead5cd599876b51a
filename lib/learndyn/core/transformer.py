"""The ordinary Transformer language model, many runs at once: parameters with a leading ``run`` axis.

The model is that of PyTorch's word-language-model example, as `torch.nn.TransformerEncoder` computes it:
token embedding × √d plus sinusoidal positions, dropout; layers of causal self-attention (a token sees itself)
and a ReLU network, each with dropout, a residual connection and layer normalisation *after* it; a decoder of
its own with bias. All runs read the same batch; what differs are their parameters and their dropout.

The gradient of the layers is autograd's. That of the loss is written out, because the decoder is most of the
arithmetic (6·tokens·width·vocabulary of a step): one softmax, in place, in blocks that stay in cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from learndyn.core.device import generator
from learndyn.core.products import linear, product

Parameters = dict[str, Tensor]
DECODER = ("decoder.weight", "decoder.bias")
#: Logits of a block, in bytes: what a core's cache holds; what a GPU hardly notices.
_BLOCK_BYTES = {"cpu": 2**22, "cuda": 2**30}
_MIN_BLOCK_ROWS = 128


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model: ``width`` is d, ``hidden_size`` the width of the layers' ReLU networks."""

    vocabulary: int
    layers: int = 1
    heads: int = 1
    width: int = 200
    hidden_size: int = 200


@dataclass(frozen=True)
class LayerMasks:
    """What dropout multiplies by in a layer: 0, or 1/(1 − rate) where it keeps.

    Attributes:
        attention: ``[run·column·head, query_position, key_position]``.
        attention_branch, hidden, hidden_branch: ``[run, token, width or hidden unit]``.
    """

    attention: Tensor
    attention_branch: Tensor
    hidden: Tensor
    hidden_branch: Tensor


@dataclass(frozen=True)
class DropoutMasks:
    """All masks of a step; ``embedding`` is ``[run, token, width]``."""

    embedding: Tensor
    layers: list[LayerMasks]


@dataclass(frozen=True)
class DecoderGradients:
    """Gradients of each run's mean cross-entropy, and that loss if it was asked for."""

    hidden: Float[Tensor, "run token width"]
    weight: Float[Tensor, "run width vocabulary"]
    bias: Float[Tensor, "run vocabulary"]
    loss: Float[Tensor, " run"] | None


def initial_parameters(
    architecture: Architecture, seed: int, *, identical_layers: bool = True
) -> dict[str, Float[Tensor, "..."]]:
    """The parameters of one run, float32 on the CPU, without a run axis.

    Embedding and decoder are U(±0.1), the decoder's bias 0; the joint matrix of queries, keys and values is
    Xavier-uniform, ±√(6/(4d)), its bias and that of the attention's output 0; the other matrices and biases
    are U(±1/√inputs); layer normalisation starts as 1 and 0. Matrices are ``[input, output]`` (in torch
    transposed).

    Args:
        identical_layers: all layers start as copies of one (as `torch.nn.TransformerEncoder` makes them); or
            each is drawn for itself.
    """
    d, vocabulary = architecture.width, architecture.vocabulary

    def uniform(bound: float, *shape: int, name: str) -> Tensor:
        return torch.empty(shape).uniform_(-bound, bound, generator=generator(seed, name))

    parameters = {"embedding": uniform(0.1, vocabulary, d, name="embedding")}
    for layer in range(architecture.layers):
        drawn = _initial_layer(architecture, seed, 0 if identical_layers else layer)
        parameters |= {f"{layer}.{name}": tensor for name, tensor in drawn.items()}
    parameters["decoder.weight"] = uniform(0.1, d, vocabulary, name="decoder")
    parameters["decoder.bias"] = torch.zeros(vocabulary)
    return parameters


def _initial_layer(architecture: Architecture, seed: int, layer: int) -> Parameters:
    d, m = architecture.width, architecture.hidden_size
    g = generator(seed, "layer", layer)

    def uniform(bound: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(-bound, bound, generator=g)

    return {
        "attention_in.weight": uniform(math.sqrt(6 / (4 * d)), d, 3 * d),
        "attention_in.bias": torch.zeros(3 * d),
        "attention_out.weight": uniform(1 / math.sqrt(d), d, d),
        "attention_out.bias": torch.zeros(d),
        "attention_norm.weight": torch.ones(d),
        "attention_norm.bias": torch.zeros(d),
        "hidden_in.weight": uniform(1 / math.sqrt(d), d, m),
        "hidden_in.bias": uniform(1 / math.sqrt(d), m),
        "hidden_out.weight": uniform(1 / math.sqrt(m), m, d),
        "hidden_out.bias": uniform(1 / math.sqrt(m), d),
        "hidden_norm.weight": torch.ones(d),
        "hidden_norm.bias": torch.zeros(d),
    }


def is_hidden_layer(name: str) -> bool:
    """Whether a parameter is a matrix or a bias of a ReLU network (in some recipes they have their own
    rate)."""
    return ".hidden_in." in name or ".hidden_out." in name


@lru_cache(maxsize=32)
def sinusoidal_positions(
    length: int, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Float[Tensor, "position width"]:
    """sin(p/10000^{2i/d}) at even, cos at odd places (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(1e4) / width))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :width].to(device, dtype)


@lru_cache(maxsize=32)
def _causal(length: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "position position"]:
    """0 for a key that a query sees (itself and what came before), −∞ for the others."""
    return torch.full((length, length), -torch.inf, dtype=dtype, device=device).triu(1)


class Dropout:
    """The masks of an ensemble, a function of each run's seed and the step: nothing to save, none to lose.

    A run draws the same alone and within an ensemble, and runs of equal seed share their draws. An entry is
    dropped if 16 random bits are below rate · 2¹⁶; the scale belongs to the rate so rounded, hence the
    expectation is kept exactly. Draws on the CPU and on a GPU differ.

    Args:
        seeds, rates: of each run, 0 ≤ rate < 1.
    """

    def __init__(
        self, seeds: Sequence[int], rates: Sequence[float], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.active = any(rates)
        self._seeds = list(dict.fromkeys(seeds))
        self._dtype, self._device = dtype, device
        self._draw_of = torch.tensor([self._seeds.index(seed) for seed in seeds], device=device)
        dropped = torch.tensor([min(round(rate * 2**16), 2**16 - 1) for rate in rates], device=device)
        self._threshold = (dropped - 2**15).to(torch.int16)[:, None]
        self._scale = (2**16 / (2**16 - dropped.double())).to(dtype)[:, None]

    def masks(self, step: int, architecture: Architecture, columns: int, length: int) -> DropoutMasks | None:
        """The masks of a step; None if no run drops anything."""
        if not self.active:
            return None
        runs, tokens, d = len(self._threshold), columns * length, architecture.width
        attention, hidden = architecture.heads * tokens * length, tokens * architecture.hidden_size
        sizes = [tokens * d, *[attention, tokens * d, hidden, tokens * d] * architecture.layers]
        embedding, *parts = self._draw(step, sum(sizes)).split(sizes, 1)

        def by_token(part: Tensor) -> Tensor:
            return part.view(runs, tokens, -1)

        layers = [
            LayerMasks(weights.reshape(-1, length, length), by_token(mixed), by_token(units), by_token(out))
            for weights, mixed, units, out in zip(*(parts[i::4] for i in range(4)), strict=True)
        ]
        return DropoutMasks(by_token(embedding), layers)

    def _draw(self, step: int, size: int) -> Float[Tensor, "run draw"]:
        words = [
            torch.empty(-(-size // 4), dtype=torch.int64, device=self._device).random_(
                -(2**63), None, generator=generator(seed, "dropout", step, device=self._device)
            )
            for seed in self._seeds
        ]
        bits = torch.stack([word.view(torch.int16)[:size] for word in words])
        if len(self._draw_of) > len(self._seeds):
            bits = bits[self._draw_of]
        return (bits >= self._threshold).to(self._dtype).mul_(self._scale)


def embed(
    embedding: Float[Tensor, "run vocabulary width"], inputs: Int[Tensor, "column position"]
) -> Float[Tensor, "run token width"]:
    """The embeddings of a batch, tokens column by column."""
    if embedding.shape[0] == 1:
        return embedding[0].index_select(0, inputs.flatten())[None]
    return embedding.index_select(1, inputs.flatten())


def embedding_gradient(
    gradient: Float[Tensor, "run token width"], inputs: Int[Tensor, "column position"], vocabulary: int
) -> Float[Tensor, "run vocabulary width"]:
    """The gradient of the embedding matrix from that of the embedded batch."""
    runs, _, d = gradient.shape
    result = gradient.new_zeros(runs, vocabulary, d)
    for run in range(runs):  # along the first axis of a matrix the CPU has a fast path
        result[run].index_add_(0, inputs.flatten(), gradient[run])
    return result


def encode(
    parameters: Mapping[str, Float[Tensor, "run ..."]],
    embedded: Float[Tensor, "run token width"],
    architecture: Architecture,
    length: int,
    masks: DropoutMasks | None = None,
    weights: list[Tensor] | None = None,
) -> Float[Tensor, "run token width"]:
    """The last layer's output for embedded tokens.

    Args:
        length: positions of each column; tokens are numbered column by column.
        masks: dropout; None in evaluation.
        weights: a list to append each layer's attention weights to, before dropout, ``[run, column, head,
            query_position, key_position]``.
    """
    runs, tokens, d = embedded.shape
    positions = sinusoidal_positions(length, d, embedded.dtype, embedded.device)
    x = torch.add(positions, embedded.view(runs, -1, length, d), alpha=math.sqrt(d)).view(runs, tokens, d)
    x = _dropped(x, masks.embedding if masks else None)
    for layer in range(architecture.layers):
        own = {n.removeprefix(f"{layer}."): p for n, p in parameters.items() if n.startswith(f"{layer}.")}
        x = _layer(own, x, architecture.heads, length, masks.layers[layer] if masks else None, weights)
    return x


def _layer(
    parameters: Parameters,
    x: Tensor,
    heads: int,
    length: int,
    masks: LayerMasks | None,
    weights: list[Tensor] | None,
) -> Tensor:
    mixed = _attend(parameters, x, heads, length, masks.attention if masks else None, weights)
    x = _norm(parameters, "attention_norm", _add(x, mixed, masks.attention_branch if masks else None))
    hidden = _dropped(torch.relu(_linear(parameters, "hidden_in", x)), masks.hidden if masks else None)
    out = _linear(parameters, "hidden_out", hidden)
    return _norm(parameters, "hidden_norm", _add(x, out, masks.hidden_branch if masks else None))


def _linear(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    return linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])


def _norm(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    normed = functional.layer_norm(x, x.shape[-1:])
    return torch.addcmul(parameters[f"{name}.bias"][:, None], normed, parameters[f"{name}.weight"][:, None])


def _dropped(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _add(x: Tensor, branch: Tensor, mask: Tensor | None) -> Tensor:
    return x + branch if mask is None else torch.addcmul(x, branch, mask)


def _attend(
    parameters: Parameters,
    x: Tensor,
    heads: int,
    length: int,
    mask: Tensor | None,
    weights: list[Tensor] | None,
) -> Tensor:
    """Causal self-attention; all of it in explicit weights, which here are smaller than the activations."""
    runs, tokens, d = x.shape
    columns, size = tokens // length, d // heads
    joint = _linear(parameters, "attention_in", x)
    if heads == 1:
        queries, keys, values = joint.view(runs * columns, length, 3 * d).split(d, -1)
    else:
        split = joint.view(runs * columns, length, 3, heads, size).permute(2, 0, 3, 1, 4)
        queries, keys, values = split.reshape(3, runs * columns * heads, length, size)
    causal = _causal(length, joint.dtype, x.device)
    scores = torch.baddbmm(causal, queries, keys.mT, alpha=1 / math.sqrt(size))
    attention = torch.softmax(scores, -1, dtype=x.dtype)
    if weights is not None:
        weights.append(attention.view(runs, columns, heads, length, length))
    mixed = torch.bmm(_dropped(attention, mask), values)
    if heads > 1:
        mixed = mixed.view(runs * columns, heads, length, size).transpose(1, 2)
    return _linear(parameters, "attention_out", mixed.reshape(runs, tokens, d))


def decoder_gradients(
    hidden: Float[Tensor, "run token width"],
    weight: Float[Tensor, "run width vocabulary"],
    bias: Float[Tensor, "run vocabulary"],
    targets: Int[Tensor, " token"],
    *,
    losses: bool = False,
    autocast: bool = False,
) -> DecoderGradients:
    """Gradients of the mean cross-entropy of logits h W + b, written out: with g = (softmax − 1_target)/N
    they are g Wᵀ, hᵀ g and Σ g.

    One block of logits at a time, which on the CPU the softmax overwrites. The loss itself costs one more
    pass.

    Args:
        losses: compute the losses too.
        autocast: do the three products in bfloat16; softmax and sums stay as they are.
    """
    count = targets.shape[0]
    gradient = DecoderGradients(
        torch.empty_like(hidden),
        torch.empty_like(weight),
        torch.empty_like(bias),
        hidden.new_zeros(hidden.shape[0]) if losses else None,
    )
    low = torch.bfloat16 if autocast else weight.dtype
    in_place = not autocast and weight.device.type == "cpu"
    for runs, rows in _blocks(weight, count):
        x, w = hidden[runs, rows].to(low), weight[runs].to(low)
        block = targets[rows].expand(x.shape[0], -1)[..., None]
        logits = product(x, w, bias[runs].to(low))
        if gradient.loss is not None:
            gradient.loss[runs] += _token_losses(logits.to(weight.dtype), block).sum(1)
        errors = torch.softmax(logits, -1, dtype=weight.dtype, out=logits if in_place else None)
        errors.scatter_add_(2, block, errors.new_full((), -1.0).expand(block.shape))
        _put(gradient.bias[runs], errors.sum(1), first=rows.start == 0)
        errors = errors.to(low)
        gradient.hidden[runs, rows] = product(errors, w.mT)
        _put(gradient.weight[runs], product(x.mT, errors), first=rows.start == 0)
    for tensor in (gradient.hidden, gradient.weight, gradient.bias):
        tensor.mul_(1 / count)
    if gradient.loss is not None:
        gradient.loss.mul_(1 / count)
    return gradient


def _put(total: Tensor, part: Tensor, *, first: bool) -> None:
    """Begin or continue a sum over blocks."""
    (total.copy_ if first else total.add_)(part)


def token_losses(
    hidden: Float[Tensor, "run token width"],
    weight: Float[Tensor, "run width vocabulary"],
    bias: Float[Tensor, "run vocabulary"],
    targets: Int[Tensor, " token"],
) -> Float[Tensor, "run token"]:
    """The cross-entropy of each token, a block of logits at a time."""
    result = hidden.new_empty(hidden.shape[:2])
    for runs, rows in _blocks(weight, targets.shape[0]):
        logits = product(hidden[runs, rows], weight[runs], bias[runs])
        block = targets[rows].expand(logits.shape[0], -1)[..., None]
        result[runs, rows] = _token_losses(logits.to(result.dtype), block)
    return result


def _token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.logsumexp(logits, -1) - logits.gather(2, targets)[..., 0]


def _blocks(weight: Tensor, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Runs and tokens whose logits are computed together: run by run on the CPU, all runs on a GPU."""
    runs, _, vocabulary = weight.shape
    together = 1 if weight.device.type == "cpu" else runs
    budget = _BLOCK_BYTES["cpu" if weight.device.type == "cpu" else "cuda"]
    fit = budget // (together * vocabulary * weight.itemsize)
    blocks = max(1, round(tokens / max(fit, _MIN_BLOCK_ROWS)))
    rows = -(-tokens // blocks)
    for run in range(0, runs, together):
        for row in range(0, tokens, rows):
            yield slice(run, run + together), slice(row, row + rows)
