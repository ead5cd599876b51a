"""The networks of an ensemble, evaluated together: a stacked MLP, any network under vmap, one alone.

All three take two views and give embeddings with a leading ``run`` axis, keep their parameters as tensors
``[run, ...]`` that are changed in place by an optimiser, and can drop runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    or neighbouring ones, the first layer of these runs is one matrix product. Against vmap and autograd this
    saves the transposes and half of the passes over H; against the linear layers of torch it may also save
    half of the time of the products (see `_product`).
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__(networks)
        linear = {id(m): name for name, m in networks[0].named_modules() if isinstance(m, nn.Linear)}
        self.layers = list(linear.values())
        self._seen: tuple[Tensor, Tensor, _Views] | None = None

    def embed(self, view_a: Tensor, view_b: Tensor, *, own: bool, frozen: bool = False) -> Embedded:
        """Both views in one forward pass."""
        pairs = view_a.shape[1 if own else 0]
        views = self._views(view_a, view_b, own)
        weights = [self.parameters[f"{layer}.weight"] for layer in self.layers]
        biases = [self.parameters.get(f"{layer}.bias") for layer in self.layers]
        z, h = _StackedForward.apply(views, len(weights), *weights, *biases)
        z, h = z.mT, h.mT
        return Embedded(z[:, :pairs], z[:, pairs:], h[:, :pairs], h[:, pairs:])

    def _views(self, view_a: Tensor, view_b: Tensor, own: bool) -> _Views:
        """Both views as one; kept until other ones come."""
        if self._seen is None or self._seen[0] is not view_a or self._seen[1] is not view_b:
            both = torch.cat((view_a.flatten(2 if own else 1), view_b.flatten(2 if own else 1)), -2)
            self._seen = view_a, view_b, _Views(both, _equal_neighbours(both) if own else [])
        return self._seen[2]


class _Views(NamedTuple):
    """Both views ``[*run, sample, input]``, and neighbouring runs that have the same ones, if that helps."""

    both: Tensor
    blocks: list[slice]

    def layer(self, weight: Float[Tensor, "run neuron input"]) -> Float[Tensor, "run neuron sample"]:
        """W · viewsᵀ for each run."""
        runs, samples = weight.shape[0], self.both.shape[-2]
        if self.both.ndim == 2:
            return _product(weight.flatten(0, 1), self.both).view(runs, -1, samples)
        if not self.blocks:
            return torch.bmm(weight, self.both.mT)
        out = weight.new_empty(runs, weight.shape[1], samples)
        for block in self.blocks:
            product = _product(weight[block].flatten(0, 1), self.both[block.start])
            out[block] = product.view(-1, *out.shape[1:])
        return out

    def gradient(self, of_layer: Float[Tensor, "run neuron sample"]) -> Float[Tensor, "run neuron input"]:
        """Gradient with respect to W of `layer`, from that with respect to its result."""
        runs, inputs = of_layer.shape[0], self.both.shape[-1]
        if self.both.ndim == 2:
            flat = of_layer.reshape(-1, of_layer.shape[-1])
            return _product(flat, self.both.mT).view(runs, -1, inputs)
        if not self.blocks:
            return torch.bmm(of_layer, self.both)
        out = of_layer.new_empty(runs, of_layer.shape[1], inputs)
        for block in self.blocks:
            product = _product(of_layer[block].flatten(0, 1), self.both[block.start].mT)
            out[block] = product.view(-1, *out.shape[1:])
        return out


def _equal_neighbours(views: Float[Tensor, "run sample input"]) -> list[slice]:
    """Runs in slices of equal views; none if these are short, or no product is faster than a batched one."""
    if _fast_product(views) is None:
        return []
    runs = len(views)
    starts = [run for run in range(runs) if run == 0 or not torch.equal(views[run], views[run - 1])]
    if 2 * len(starts) > runs:
        return []
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], runs], strict=True)]


class _StackedForward(torch.autograd.Function):
    """Embedding ``[run, dimension, sample]`` and representation ``[run, hidden, sample]`` of an MLP."""

    @staticmethod
    def forward(ctx, views, depth, *parameters):
        weights, biases = parameters[:depth], parameters[depth:]
        hidden = []
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            out = torch.bmm(weight, hidden[-1]) if layer else views.layer(weight)
            if bias is not None:
                out.add_(bias[..., None])
            if layer < depth - 1:
                hidden.append(out.relu_())
        ctx.save_for_backward(*weights, *hidden)
        ctx.biased = [bias is not None for bias in biases]
        ctx.views = views
        both = views.both.mT
        representation = hidden[-1] if hidden else both.expand(len(out), *both.shape[-2:])
        ctx.mark_non_differentiable(representation)
        ctx.set_materialize_grads(False)  # the representation's would be zeros of the largest size here
        return out, representation

    @staticmethod
    def backward(ctx, gradient, _representation):
        depth = len(ctx.biased)
        values, hidden = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        weights, biases = [None] * depth, [None] * depth
        gradient = gradient.contiguous()
        for layer in reversed(range(depth)):
            if ctx.biased[layer]:
                biases[layer] = gradient.sum(-1)
            if not layer:
                weights[0] = ctx.views.gradient(gradient)
                continue
            below = hidden[layer - 1]
            weights[layer] = torch.bmm(gradient, below.mT)
            gradient = torch.bmm(values[layer].mT, gradient)
            # relu's backward in place: the gradient where the output is positive, else 0
            torch.ops.aten.threshold_backward.grad_input(gradient, below, 0, grad_input=gradient)
        return None, None, *weights, *biases


def _product(left: Float[Tensor, "row inner"], right: Float[Tensor, "column inner"]) -> Tensor:
    """left · rightᵀ. On CPUs in float32 by oneDNN's linear layer where this build of torch has it.

    torch sends float32 products to MKL, which takes its AVX2 kernels on processors of other makers: half the
    speed of oneDNN's on an AMD Zen 5. On Intel's the two agree.
    """
    fast = _fast_product(left)
    if fast is None:
        return torch.mm(left, right.mT)
    return fast(left.contiguous(), right.contiguous(), None, "none", [], "")


def _fast_product(like: Tensor) -> Callable[..., Tensor] | None:
    """oneDNN's linear layer, if there is one for such tensors."""
    if like.device.type != "cpu" or like.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


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
