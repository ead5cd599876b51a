"""Products of matrices for every run of an ensemble, by the fastest exact routine that torch has here.

torch multiplies float32 matrices on CPUs with MKL, which uses half the vector width of processors that are
not Intel's; oneDNN, which torch also carries, uses all of it (measured on an AMD EPYC with AVX-512: 220
against 100 GFLOP/s for one thread). Both round as float32 does.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# The kernel that torch.compile uses for linear layers on CPUs. It has no gradient and no public name; where
# it is missing (a build without oneDNN), torch.baddbmm does the same.
_KERNEL = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
)


def product(
    a: Float[Tensor, "run rows inner"],
    b: Float[Tensor, "run inner columns"],
    bias: Float[Tensor, "run columns"] | None = None,
) -> Float[Tensor, "run rows columns"]:
    """a b + bias for each run; autograd does not see it on the CPU (`linear` is for that).

    The operands may be views in any order of axes. Under autocast it computes in autocast's type.
    """
    if not by_onednn(a):
        return torch.bmm(a, b) if bias is None else torch.baddbmm(bias[:, None], a, b)
    parts = [
        _KERNEL(a[run], b[run].mT, None if bias is None else bias[run], "none", [], "")
        for run in range(a.shape[0])
    ]
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)


def linear(
    x: Float[Tensor, "run rows inputs"],
    weight: Float[Tensor, "run inputs outputs"],
    bias: Float[Tensor, "run outputs"],
) -> Float[Tensor, "run rows outputs"]:
    """x W + b for each run, with its gradients."""
    if not by_onednn(x):
        return torch.baddbmm(bias[:, None], x, weight)
    return _Linear.apply(x, weight, bias)


def by_onednn(a: Tensor) -> bool:
    """Whether products with such tensors are oneDNN's: on the CPU, in float32, without autocast."""
    if _KERNEL is None or a.device.type != "cpu" or a.dtype != torch.float32:
        return False
    return not torch.is_autocast_enabled("cpu")


class _Linear(torch.autograd.Function):
    """The gradients of x W + b: g Wᵀ, xᵀ g and the sum of g over rows."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return product(gradient, weight.mT), product(x.mT, gradient), gradient.sum(1)
