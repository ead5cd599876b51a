"""The empirical neural tangent kernel (NTK) of a network, in blocks of parameters with bounded memory.

The full Jacobian of a large network does not fit anywhere (2000 views × 25 million parameters × one output:
200 GB in float32), but the kernel is a sum over parameters, so blocks of the Jacobian are made, multiplied
with themselves, and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from learndyn.core.errors import PlainError

#: A range of the flattened entries of one parameter: its name, start and stop.
Piece = tuple[str, int, int]


class TangentKernelError(PlainError):
    """A network or inputs whose tangent kernel is not defined, or a bound that cannot be kept."""


def embedding(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The first of what a network returns, if it returns several tensors: `(embedding, representation)`."""
    return output[0] if isinstance(output, tuple) else output


def tangent_kernel(
    network: nn.Module,
    inputs: Float[Tensor, "sample *feature"],
    *,
    output: Callable[..., Tensor] = embedding,
    outputs: Sequence[int] | None = None,
    block_bytes: int = 2**28,
    samples_at_once: int = 64,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "sample sample"]:
    """Empirical tangent kernel averaged over outputs, K = (1/d) Σ_o J_o J_oᵀ (Jacot et al. 2018, eq. 4).

    J_o[i] is the gradient of output o on sample i with respect to all parameters that require a gradient.
    Gradients are computed in the network's precision, by `torch.func.vmap` over samples of a `vjp`; the
    products are summed in `dtype`. The work is one backward pass of all samples per block, so that
    `block_bytes` is best as large as memory allows.

    Args:
        network: in evaluation mode where that makes a difference; on the device of the inputs.
        inputs: samples, in the network's precision.
        output: picks the tensor `[sample, dimension]` out of what the network returns.
        outputs: the output dimensions to average over, or None for all d of them.
        block_bytes: bound on the block of the Jacobian (all samples; some parameters and outputs), and on
            the gradients of the samples that are differentiated at once, where more than one fits.
        samples_at_once: bound on the number of samples that are differentiated at once, for their
            activations.
        dtype: precision of block, products and result.

    Raises:
        TangentKernelError: batch normalisation that would use the statistics of the batch, or dropout, in
            training mode; no parameters; outputs that do not exist; a bound below one column of the block.
    """
    _check_network(network)
    free = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    if not free:
        raise TangentKernelError(
            "this network has no parameters that require a gradient, so no tangent kernel"
        )
    with torch.no_grad():
        dimensions = output(network(inputs[:1])).shape[-1]
    chosen = list(range(dimensions)) if outputs is None else list(outputs)
    if not chosen or any(not 0 <= o < dimensions for o in chosen):
        raise TangentKernelError(
            f"outputs {chosen} were asked for, but this network's outputs are 0 to {dimensions - 1}"
        )
    samples, parameters = len(inputs), sum(p.numel() for p in free.values())
    columns = block_bytes // (samples * dtype.itemsize)
    if columns < 1:
        raise TangentKernelError(
            f"block_bytes = {block_bytes} holds no column of the Jacobian: {samples} samples need "
            f"{samples * dtype.itemsize} bytes at least"
        )
    # Wide blocks of one output need fewer passes than narrow ones of all; if all fits, fewer calls.
    together = max(1, min(len(chosen), columns // parameters))
    kernel = torch.zeros(samples, samples, dtype=dtype, device=inputs.device)
    for pieces in _blocks(free, columns // together):
        for start in range(0, len(chosen), together):
            some = chosen[start : start + together]
            block = _jacobian(
                network, free, inputs, output, some, pieces, block_bytes, samples_at_once, dtype
            )
            kernel.addmm_(block, block.mT)
            del block  # before the next one is made
    kernel /= len(chosen)
    return (kernel + kernel.mT) / 2


def _check_network(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        ):
            raise TangentKernelError(
                f"batch normalisation {name!r} uses the statistics of its batch, so that the gradient of one "
                "sample is not defined: freeze its running statistics and call network.eval()"
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise TangentKernelError(f"dropout {name!r} is in training mode: call network.eval()")


def _blocks(parameters: dict[str, Tensor], width: int) -> Iterator[list[Piece]]:
    """Pieces of parameters, `width` entries together at most; only a parameter that is wider is cut."""
    block: list[Piece] = []
    room = width
    for name, parameter in parameters.items():
        for start in range(0, parameter.numel(), width):
            stop = min(start + width, parameter.numel())
            if stop - start > room:
                yield block
                block, room = [], width
            block.append((name, start, stop))
            room -= stop - start
    if block:
        yield block


def _jacobian(
    network: nn.Module,
    free: dict[str, Tensor],
    inputs: Tensor,
    output: Callable[..., Tensor],
    outputs: list[int],
    pieces: list[Piece],
    block_bytes: int,
    samples_at_once: int,
    dtype: torch.dtype,
) -> Tensor:
    """Gradients `[sample, output × entry]` of these outputs with respect to these pieces."""
    touched = {name: free[name] for name, _, _ in pieces}
    rest = {name: p for name, p in free.items() if name not in touched}

    def rows(sample: Tensor) -> dict[str, Tensor]:
        def of_parameters(some: dict[str, Tensor]) -> Tensor:
            return output(functional_call(network, {**rest, **some}, (sample.unsqueeze(0),)))[0]

        value, pull = vjp(of_parameters, touched)
        # One-hot cotangents without in-place writes, which vmap does not see.
        selected = torch.eye(len(value), dtype=value.dtype, device=value.device)[outputs]
        return vmap(lambda cotangent: pull(cotangent)[0])(selected)

    # A pass makes whole parameters' gradients, also where a piece is all that is kept.
    gradient = len(outputs) * sum(p.numel() * p.element_size() for p in touched.values())
    chunk = max(1, min(samples_at_once, block_bytes // gradient))
    width = sum(stop - start for _, start, stop in pieces)
    block = torch.empty(len(inputs), len(outputs), width, dtype=dtype, device=inputs.device)
    for first in range(0, len(inputs), chunk):
        some = inputs[first : first + chunk]
        gradients = vmap(rows)(some)
        offset = 0
        for name, start, stop in pieces:
            flat = gradients[name].reshape(len(some), len(outputs), -1)
            block[first : first + chunk, :, offset : offset + stop - start] = flat[..., start:stop]
            offset += stop - start
    return block.flatten(1)
