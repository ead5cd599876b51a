"""Loss and gradient of the quadratic network over the whole group table, without visiting the table.

Subtract the means, m_j = mean(w_a[j]) + mean(w_b[j]), α = w_a − mean, β = w_b − mean. Then the hidden unit
h_j(x,y) = (w_a[j,x] + w_b[j,y])² splits into four parts that are orthogonal over the table:

    h_j = M_j + P_j(x) + Q_j(y) + 2 α_j(x) β_j(y),   M = m² + mean(α²) + mean(β²),   P = α² − mean(α²) + 2mα,

so that, with c the mean-free output weights, the projected squared loss of CoGO section 2 is

    d² (ℓ − 1 + 1/d) = d² ‖Σ_j M_j c_j‖² + d ‖Σ_j P_j ⊗ c_j‖² + d ‖Σ_j Q_j ⊗ c_j‖²
                       + 4 ⟨c cᵀ, α αᵀ ∘ β βᵀ⟩ − 4 Σ_j Σ_z c_j(z) (α_j * β_j)(z).

The last term is a convolution over the group (FFT). Cost: 12 q²d + 12 q d² operations for loss and gradient
against 6 d³q on the table: 13 times fewer at d = 127, q = 512; equal at d² = 2(q + d).
On a train split, loss = (table − held-out cells): 10 % held out add 0.6 d³q.

How exact it is
---------------
Every term but the last is a square, so only two things cancel: the interaction against d²(1 − 1/d) when
the loss is small, and the two parts of the gradient when it is nearly zero. Measured in float32, q = 512,
d = 23, 71, 127, at random initialisation, after 100 and 300 Adam steps, and at a constructed solution with
10 %, 1 % and 0.1 % noise; "table" is the plain d² table in float32, errors are against float64:

* gradient: relative error 2e-7 at initialisation (table: 4e-7), growing to 3e-4 as the gradient vanishes;
  two to six times the table's, which suffers in the same way. The error is at most 2e-4 of the weight
  decay term 5e-5·‖w‖ that the gradient balances at the end, so training can use it as it is.
* loss: absolute error up to 5e-8 (d = 23) and 5e-7 (d = 71, 127), with a sign that persists, against 1e-7
  for the table. That is 5 % of a loss of 1e-5: log the loss from the table or with ``table_dtype=float64``.
* held-out cells make neither worse.
* ``table_dtype=torch.float64`` computes all but the held-out cells in float64, in less than twice the time
  (d ≥ 71); the gradient is then right to the rounding of the result (4e-8), the full loss to 1e-15.

At d = 127, q = 512 a gradient takes a seventh of the time of the table's, and with 10 % held out under a
third; at d = 23 its many small kernels cost more than they save. ``benchmarks/cogo.py closed scaling``
measures both (`closed_form.ClosedFormStep` decides by the number of operations).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learndyn.cogo_li2.groups import AbelianGroup


class FullTable(NamedTuple):
    """Result of :func:`loss_and_gradient`, one entry per run (no run axis if the weights had none)."""

    full_loss: Float[Tensor, "*run"]
    """ℓ over all d² cells."""
    held_out_loss: Float[Tensor, "*run"] | None
    """ℓ over the held-out cells (the test loss), None without them."""
    train_loss: Float[Tensor, "*run"]
    """ℓ over the other cells; the full loss if nothing is held out."""
    gradient: Float[Tensor, "*run part node element"]
    """∂ train_loss / ∂ weights."""


def loss_and_gradient(
    weights: Float[Tensor, "*run part node element"],
    group: AbelianGroup,
    held_out: Int[Tensor, "*run cell"] | None = None,
    *,
    table_dtype: torch.dtype | None = None,
) -> FullTable:
    """Projected squared loss of the quadratic network and its gradient in closed form.

    Only for the activation h² and the projected squared loss. See the module's docstring for when it pays
    and how exact it is.

    Args:
        weights: ``[*run, 3, q, d]``; w_c transposed, nodes first.
        group: the group whose table is learned; label of cell (x, y) is x + y.
        held_out: cells x·d + y that the train loss leaves out, for each run; equally many, distinct.
        table_dtype: a wider type to compute the full table's part in; by default that of the weights.

    Returns:
        Losses in float64, the gradient in the weights' type.

    Raises:
        ValueError: if the weights' shape does not fit the group, or every cell is held out.
    """
    d = group.size
    if weights.shape[-3] != 3 or weights.shape[-1] != d:
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}; for {group} they must end in (3, nodes, {d})."
        )
    total, gradient = _table(weights if table_dtype is None else weights.to(table_dtype), group)
    gradient = gradient.to(weights.dtype)
    constant = 1 - 1 / d
    full = total / d**2 + constant
    if held_out is None:
        return FullTable(full, None, full, gradient / d**2)
    cells = held_out.shape[-1]
    if cells >= d**2:
        raise ValueError(f"{cells} held-out cells leave nothing of the {d**2} cells to train on.")
    if cells == 0:
        return FullTable(full, torch.full_like(full, math.nan), full, gradient / d**2)
    held_total, held_gradient = _cells(weights, held_out, group)
    train = (total - held_total) / (d**2 - cells) + constant
    gradient = (gradient - held_gradient) / (d**2 - cells)
    return FullTable(full, held_total / cells + constant, train, gradient)


def _table(weights: Tensor, group: AbelianGroup) -> tuple[Tensor, Tensor]:
    """Sum over the table of ‖õ‖² − 2 õ_label, and its gradient."""
    d = group.size
    a, b, c = weights.unbind(-3)
    c = c - c.mean(-1, keepdim=True)
    mean_a, mean_b = a.mean(-1, keepdim=True), b.mean(-1, keepdim=True)
    alpha, beta, m = a - mean_a, b - mean_b, mean_a + mean_b
    # The part of h without interaction: constant M, row effect P, column effect Q.
    alpha2, beta2 = alpha.square(), beta.square()
    mean_alpha2, mean_beta2 = alpha2.mean(-1, keepdim=True), beta2.mean(-1, keepdim=True)
    constant = m.square() + mean_alpha2 + mean_beta2
    rows = alpha2 - mean_alpha2 + 2 * m * alpha
    columns = beta2 - mean_beta2 + 2 * m * beta
    bias = (constant * c).sum(-2, keepdim=True)
    out_rows, out_columns = rows.mT @ c, columns.mT @ c  # [element of the input, element of the output]
    additive = d**2 * bias.square().sum((-2, -1)) + d * (out_rows.square() + out_columns.square()).sum(
        (-2, -1)
    )
    g_constant = 2 * d**2 * (c * bias).sum(-1, keepdim=True)
    g_rows, g_columns = 2 * d * c @ out_rows.mT, 2 * d * c @ out_columns.mT
    g_c = 2 * d**2 * constant * bias + 2 * d * (rows @ out_rows + columns @ out_columns)

    interaction, (i_alpha, i_beta, i_c) = _interaction(alpha, beta, c, group)
    g_m = 2 * (
        (g_rows * alpha).sum(-1, keepdim=True) + (g_columns * beta).sum(-1, keepdim=True) + m * g_constant
    )
    g_alpha = 2 * (g_rows * (alpha + m) + g_constant * alpha / d) + i_alpha
    g_beta = 2 * (g_columns * (beta + m) + g_constant * beta / d) + i_beta
    g_a = g_alpha - g_alpha.mean(-1, keepdim=True) + g_m / d
    g_b = g_beta - g_beta.mean(-1, keepdim=True) + g_m / d
    g_c = g_c + i_c
    g_c = g_c - g_c.mean(-1, keepdim=True)
    return additive + interaction, torch.stack([g_a, g_b, g_c], dim=-3)


def _interaction(
    alpha: Tensor, beta: Tensor, c: Tensor, group: AbelianGroup
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """4⟨c cᵀ, α αᵀ ∘ β βᵀ⟩ − 4 Σ c·(α * β) and its gradient: the only part that sees the group."""
    gram_a, gram_b, gram_c = alpha @ alpha.mT, beta @ beta.mT, c @ c.mT
    ab = gram_a * gram_b
    quadratic_c = ab @ c
    quadratic_a = gram_b.mul_(gram_c) @ alpha
    quadratic_b = gram_a.mul_(gram_c) @ beta
    fa, fb, fc = (_transform(part, group) for part in (alpha, beta, c))
    wanted_c = _inverse(fa * fb, group)
    wanted_a = _inverse(fc * fb.conj(), group)
    wanted_b = _inverse(fc * fa.conj(), group)
    # Near a solution this comes close to −d²(1 − 1/d), which the caller adds: keep the digits of the sum.
    value = 4 * (c * (quadratic_c - wanted_c)).sum((-2, -1), dtype=torch.float64)
    return value, (
        8 * quadratic_a - 4 * wanted_a,
        8 * quadratic_b - 4 * wanted_b,
        8 * quadratic_c - 4 * wanted_c,
    )


def _transform(values: Tensor, group: AbelianGroup) -> Tensor:
    axes = tuple(range(-len(group.orders), 0))
    return torch.fft.rfftn(values.reshape(*values.shape[:-1], *group.orders), dim=axes)


def _inverse(spectrum: Tensor, group: AbelianGroup) -> Tensor:
    axes = tuple(range(-len(group.orders), 0))
    return torch.fft.irfftn(spectrum, s=group.orders, dim=axes).flatten(-len(group.orders))


def _cells(weights: Tensor, cells: Tensor, group: AbelianGroup) -> tuple[Tensor, Tensor]:
    """Sum over the given cells of ‖õ‖² − 2 õ_label, and its gradient."""
    a, b, c = weights.unbind(-3)
    c = c - c.mean(-1, keepdim=True)
    d, shape = group.size, a.shape
    # Cells first, nodes last: gathers and sums then move whole rows. Runs follow each other in one long axis.
    a, b = (part.reshape(-1, *shape[-2:]).mT.reshape(-1, shape[-2]) for part in (a, b))
    c, cells = c.reshape(-1, *shape[-2:]), cells.reshape(-1, cells.shape[-1])
    runs, count = cells.shape
    offset = d * torch.arange(runs, device=cells.device)[:, None]
    x, y = ((part + offset).flatten() for part in (cells // d, cells % d))
    label = group.addition_table().to(cells.device).flatten()[cells]
    total = a[x].add_(b[y])
    hidden = total.square().reshape(runs, count, -1)
    output = hidden @ c  # [run, cell, element]
    at_label = output.gather(-1, label[..., None])
    loss = output.square().sum((-2, -1), dtype=torch.float64) - 2 * at_label.sum(
        (-2, -1), dtype=torch.float64
    )
    error = output.scatter_add_(-1, label[..., None], torch.full_like(at_label, -1.0)).mul_(2)
    g_c = hidden.mT @ error
    g_c = g_c - g_c.mean(-1, keepdim=True)
    g_total = (error @ c.mT).flatten(0, 1).mul_(total).mul_(2)
    g_a = torch.zeros_like(a).index_add_(0, x, g_total).reshape(runs, d, -1).mT
    g_b = torch.zeros_like(b).index_add_(0, y, g_total).reshape(runs, d, -1).mT
    gradient = torch.stack([g_a, g_b, g_c], dim=-3)
    return loss.reshape(shape[:-2]), gradient.reshape(*shape[:-2], 3, *shape[-2:])
