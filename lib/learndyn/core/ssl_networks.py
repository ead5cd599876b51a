"""The networks of an ensemble, evaluated together: a stacked MLP, any network under vmap, one alone.

All three take two views and give embeddings with a leading ``run`` axis, keep their parameters as tensors
``[run, ...]`` that are changed in place by an optimiser, and can drop runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from learndyn.core.backbones import Network


class Embedded(NamedTuple):
    """Embeddings ``[run, pair, dimension]`` and representations ``[run, pair, hidden]`` of two views."""

    a: Tensor
    b: Tensor
    representation_a: Tensor
    representation_b: Tensor


@runtime_checkable
class Networks(Protocol):
    """The networks of all runs that are still in training."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def embed(self, view_a: Tensor, view_b: Tensor, *, own: bool, frozen: bool = False) -> Embedded:
        """Evaluate both views. ``own``: each run has views of its own, ``[run, pair, *feature]``.

        ``frozen`` leaves running statistics as they are. The result is valid until the next call.
        """

    def gradients(self, total: Float[Tensor, ""]) -> list[Tensor]:
        """Gradients of a sum over runs with respect to the parameters, in their order."""

    def take(self, kept: Int[Tensor, " kept"]) -> None:
        """Go on with these runs only."""

    def module(self) -> nn.Module:
        """A network of this kind (its parameters are those of no run in particular)."""


class _Stacked:
    """What stacked networks share: leaf tensors ``[run, ...]`` by name."""

    def __init__(self, networks: Sequence[Network]) -> None:
        state, self.buffers = stack_module_state(list(networks))
        self.parameters = {name: tensor.detach().requires_grad_() for name, tensor in state.items()}
        self._template = networks[0]

    def module(self) -> nn.Module:
        """A network of this kind."""
        return self._template

    def gradients(self, total: Float[Tensor, ""]) -> list[Tensor]:
        """Gradients with respect to the parameters, in their order."""
        return list(torch.autograd.grad(total, list(self.parameters.values())))

    def take(self, kept: Int[Tensor, " kept"]) -> None:
        """Go on with these runs only."""
        self.parameters = {n: t.detach()[kept].requires_grad_() for n, t in self.parameters.items()}
        self.buffers = {n: t[kept] for n, t in self.buffers.items()}


class VmappedNetworks(_Stacked):
    """Networks without running statistics, by `torch.func.vmap` over their stacked parameters."""

    def embed(self, view_a: Tensor, view_b: Tensor, *, own: bool, frozen: bool = False) -> Embedded:
        """Both views in one forward pass."""
        pairs = view_a.shape[1 if own else 0]
        views = torch.cat((view_a, view_b), 1 if own else 0)

        def one(parameters: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            return functional_call(self._template, parameters, (x,))

        z, h = vmap(one, in_dims=(0, 0 if own else None))(self.parameters, views)
        return Embedded(z[:, :pairs], z[:, pairs:], h[:, :pairs], h[:, pairs:])


class StackedMLP(_Stacked):
    """ReLU networks of linear layers: batched products with a backward pass by hand, sample axis last.

    Layers are ``H ← relu(W H + b)`` with H of shape ``[run, neuron, sample]``. On views that all runs share,
    the first layer of all runs is one matrix product. Against vmap and autograd this saves the transposes and
    half of the passes over H; against the linear layers of torch it may also save half of the time of the
    products (see `_product`).
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__(networks)
        linear = {id(m): name for name, m in networks[0].named_modules() if isinstance(m, nn.Linear)}
        self.layers = list(linear.values())

    def embed(self, view_a: Tensor, view_b: Tensor, *, own: bool, frozen: bool = False) -> Embedded:
        """Both views in one forward pass."""
        pairs = view_a.shape[1 if own else 0]
        views = torch.cat((view_a.flatten(2 if own else 1), view_b.flatten(2 if own else 1)), -2)
        weights = [self.parameters[f"{layer}.weight"] for layer in self.layers]
        biases = [self.parameters.get(f"{layer}.bias") for layer in self.layers]
        z, h = _StackedForward.apply(views, len(weights), *weights, *biases)
        z, h = z.mT, h.mT
        return Embedded(z[:, :pairs], z[:, pairs:], h[:, :pairs], h[:, pairs:])


class _StackedForward(torch.autograd.Function):
    """Embedding ``[run, dimension, sample]`` and representation ``[run, hidden, sample]`` of an MLP."""

    @staticmethod
    def forward(ctx, views, depth, *parameters):
        weights, biases = parameters[:depth], parameters[depth:]
        runs = weights[0].shape[0]
        hidden = []
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if layer:
                out = torch.bmm(weight, hidden[-1])
            elif views.ndim == 3:
                out = torch.bmm(weight, views.mT)
            else:
                out = _product(weight.flatten(0, 1), views).view(runs, -1, views.shape[0])
            if bias is not None:
                out.add_(bias[..., None])
            if layer < depth - 1:
                hidden.append(out.relu_())
        ctx.save_for_backward(views, *weights, *hidden)
        ctx.biased = [bias is not None for bias in biases]
        representation = hidden[-1] if hidden else views.mT.expand(runs, *views.mT.shape[-2:])
        ctx.mark_non_differentiable(representation)
        ctx.set_materialize_grads(False)  # the representation's would be zeros of the largest size here
        return out, representation

    @staticmethod
    def backward(ctx, gradient, _representation):
        depth = len(ctx.biased)
        views, saved = ctx.saved_tensors[0], ctx.saved_tensors[1:]
        values, hidden = saved[:depth], saved[depth:]
        weights, biases = [None] * depth, [None] * depth
        gradient = gradient.contiguous()
        for layer in reversed(range(depth)):
            if ctx.biased[layer]:
                biases[layer] = gradient.sum(-1)
            if layer:
                below = hidden[layer - 1]
                weights[layer] = torch.bmm(gradient, below.mT)
                gradient = torch.bmm(values[layer].mT, gradient)
                # relu's backward in place: the gradient where the output is positive, else 0
                torch.ops.aten.threshold_backward.grad_input(gradient, below, 0, grad_input=gradient)
            elif views.ndim == 3:
                weights[0] = torch.bmm(gradient, views)
            else:
                flat = gradient.reshape(-1, gradient.shape[-1])
                weights[0] = _product(flat, views.mT).view_as(values[0])
        return None, None, *weights, *biases


def _product(left: Float[Tensor, "row inner"], right: Float[Tensor, "column inner"]) -> Tensor:
    """left · rightᵀ. On CPUs in float32 by oneDNN's linear layer where this build of torch has it.

    torch sends float32 products to MKL, which takes its AVX2 kernels on processors of other makers: half the
    speed of oneDNN's on an AMD Zen 5. On Intel's the two agree.
    """
    if left.device.type == "cpu" and left.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        fused = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
        if fused is not None:
            return fused(left.contiguous(), right.contiguous(), None, "none", [], "")
    return torch.mm(left, right.mT)


class SingleNetwork:
    """One network that keeps running statistics; each view goes through it by itself, as one batch."""

    def __init__(self, network: Network) -> None:
        self.network = network.train()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Views ``[1, ...]`` of the network's parameters."""
        return {name: tensor.detach()[None] for name, tensor in self.network.named_parameters()}

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Views ``[1, ...]`` of the network's running statistics."""
        return {name: tensor[None] for name, tensor in self.network.named_buffers()}

    def embed(self, view_a: Tensor, view_b: Tensor, *, own: bool, frozen: bool = False) -> Embedded:
        """The views one after the other, each with its own batch statistics."""
        if own:
            view_a, view_b = view_a[0], view_b[0]
        copies = {n: t.clone() for n, t in self.network.named_buffers()} if frozen else {}
        call = (lambda view: functional_call(self.network, copies, (view,))) if copies else self.network
        (a, rep_a), (b, rep_b) = call(view_a), call(view_b)
        return Embedded(a[None], b[None], rep_a[None], rep_b[None])

    def gradients(self, total: Float[Tensor, ""]) -> list[Tensor]:
        """Gradients with respect to the parameters, in their order."""
        return [g[None] for g in torch.autograd.grad(total, list(self.network.parameters()))]

    def take(self, kept: Int[Tensor, " kept"]) -> None:
        """There is but one run."""

    def module(self) -> nn.Module:
        """The network itself."""
        return self.network


def together(networks: Sequence[Network], *, vectorises: bool, mlp: bool) -> Networks:
    """The fastest of the three ways that these networks allow.

    Args:
        vectorises: whether they may run under vmap; if not there must be one.
        mlp: whether they are nothing but linear layers and ReLU (and run in one precision).
    """
    if mlp:
        return StackedMLP(networks)
    if vectorises:
        return VmappedNetworks(networks)
    (network,) = networks
    return SingleNetwork(network)


@torch.no_grad()
def load(networks: Networks, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    """Put back parameters and running statistics, both ``[run, ...]`` by name."""
    for ours, given in ((networks.parameters, parameters), (networks.buffers, buffers)):
        for name, tensor in ours.items():
            tensor.copy_(given[name])
