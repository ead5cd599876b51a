"""The network of CoGO, section 2, written so that it can be read. The trainer uses `step`, which must agree.

q hidden nodes, no biases, weights ``[*batch, part, node, element]`` with parts a, b, c:

    h_j(x, y) = σ(w_a[j, x] + w_b[j, y]),    o_z(x, y) = Σ_j w_c[z, j] h_j(x, y),    label(x, y) = x·y.

Written with plain tensor operations, so that autograd differentiates it. The whole table of d² pairs is
evaluated at once; memory is q·d² per network.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sqr": torch.square,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "relusqr": lambda pre: torch.relu(pre).square(),
}


def forward(
    weights: Float[Tensor, "*batch part node element"],
    activation: str = "sqr",
) -> Float[Tensor, "*batch element element element"]:
    """Outputs o_z(x, y) of the network on the whole table, axes (x, y, z)."""
    w_a, w_b, w_c = weights.unbind(-3)
    inputs = w_a[..., :, :, None] + w_b[..., :, None, :]
    hidden = ACTIVATIONS[activation](inputs)
    return torch.einsum("...jxy,...jz->...xyz", hidden, w_c)


def projected_mse(
    outputs: Float[Tensor, "*batch element element element"],
    labels: Int[Tensor, "element element"],
    cells: Bool[Tensor, "*batch element element"] | None = None,
) -> Float[Tensor, "*batch"]:
    """ℓ = mean over the chosen cells of ‖P o − P e_label‖², with P = I − (1/d)11ᵀ; (d−1)/d for o = 0."""
    targets = torch.nn.functional.one_hot(labels, labels.shape[0])
    difference = outputs - targets.to(outputs.dtype)
    difference = difference - difference.mean(-1, keepdim=True)
    return _mean_over(difference.square().sum(-1), cells)


def cross_entropy(
    outputs: Float[Tensor, "*batch element element element"],
    labels: Int[Tensor, "element element"],
    cells: Bool[Tensor, "*batch element element"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean over the chosen cells of −log softmax(o)_label; log d for o = 0."""
    log_probability = torch.log_softmax(outputs, -1)
    at_label = torch.take_along_dim(log_probability, labels.expand(outputs.shape[:-1])[..., None], -1)
    return _mean_over(-at_label[..., 0], cells)


def accuracy(
    outputs: Float[Tensor, "*batch element element element"],
    labels: Int[Tensor, "element element"],
    cells: Bool[Tensor, "*batch element element"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Share of the chosen cells in which the largest output is the label; chance is 1/d."""
    return _mean_over((outputs.argmax(-1) == labels).to(outputs.dtype), cells)


def _mean_over(
    values: Float[Tensor, "*batch element element"], cells: Bool[Tensor, "*batch element element"] | None
) -> Float[Tensor, "*batch"]:
    if cells is None:
        return values.mean((-2, -1))
    return (values * cells).sum((-2, -1)) / cells.sum((-2, -1))
