"""The networks of an ensemble, evaluated together: a stacked MLP, any network under vmap, one alone.

All three take two views and give embeddings with a leading ``run`` axis, keep their parameters as tensors
``[run, ...]`` that are changed in place by an optimiser, and can drop runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from learndyn.core.backbones import Network
from learndyn.core.products import by_onednn, product

_CACHE = 2**21  # bytes of a layer's outputs that a CPU works on at a time


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
    half of the time of the products (see `core.products`). A CPU goes through the runs in blocks whose H
    stays in its cache.
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
            widest = max(self.parameters[f"{layer}.weight"].shape[1] for layer in self.layers)
            room = max(1, _CACHE // (widest * both.shape[-2] * both.element_size()))
            runs = len(next(iter(self.parameters.values())))
            self._seen = view_a, view_b, _Views.of(both, runs, room if both.device.type == "cpu" else runs)
        return self._seen[2]

    def take(self, kept: Int[Tensor, " kept"]) -> None:
        """Go on with these runs only."""
        super().take(kept)
        self._seen = None


class _Views(NamedTuple):
    """Both views ``[*run, sample, input]``, and the runs in blocks that are worked on one after the other.

    ``shared``: the runs of a block have the same views, so that their first layers are one product.
    """

    both: Tensor
    blocks: list[slice]
    shared: bool

    @classmethod
    def of(cls, both: Tensor, runs: int, room: int) -> _Views:
        """Blocks of at most ``room`` runs, of equal views where that makes for faster products."""
        edges, shared = [0, runs], both.ndim == 2
        if both.ndim == 3 and by_onednn(both):
            same = [0, *(run for run in range(1, runs) if not torch.equal(both[run], both[run - 1])), runs]
            if 2 * (len(same) - 1) <= runs:
                edges, shared = same, True
        blocks = []
        for first, last in itertools.pairwise(edges):
            parts = -(-(last - first) // room)
            cuts = [first + (last - first) * part // parts for part in range(parts + 1)]
            blocks += [slice(*cut) for cut in itertools.pairwise(cuts)]
        return cls(both, blocks, shared)

    def layer(self, weight: Tensor, block: slice, out: Tensor) -> Float[Tensor, "run neuron sample"]:
        """W · viewsᵀ for the runs of a block, in ``out`` or in a tensor of its own."""
        if not self.shared:
            return torch.bmm(weight[block], self.both[block].mT, out=out)
        return product(weight[block].flatten(0, 1)[None], self._one(block).mT[None]).view_as(out)

    def gradient(self, of_layer: Tensor, block: slice, out: Float[Tensor, "run neuron input"]) -> None:
        """Gradient with respect to W of `layer`, from that with respect to its result."""
        if self.shared:
            out.copy_(product(of_layer.flatten(0, 1)[None], self._one(block)[None]).view_as(out))
        else:
            torch.bmm(of_layer, self.both[block], out=out)

    def _one(self, block: slice) -> Float[Tensor, "sample input"]:
        return self.both if self.both.ndim == 2 else self.both[block.start]


class _StackedForward(torch.autograd.Function):
    """Embedding ``[run, dimension, sample]`` and representation ``[run, hidden, sample]`` of an MLP."""

    @staticmethod
    def forward(ctx, views, depth, *parameters):
        weights, biases = parameters[:depth], parameters[depth:]
        samples = views.both.shape[-2]
        outs = [weight.new_empty(*weight.shape[:2], samples) for weight in weights]
        for block in views.blocks:
            for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                out = outs[layer][block]
                if layer:
                    values = torch.bmm(weight[block], outs[layer - 1][block], out=out)
                else:
                    values = views.layer(weight, block, out)
                if bias is not None:
                    values.add_(bias[block, :, None])
                if layer < depth - 1:
                    torch.clamp(values, min=0, out=out)
                elif values is not out:
                    out.copy_(values)
        ctx.save_for_backward(*weights, *outs[:-1])
        ctx.biased = [bias is not None for bias in biases]
        ctx.views = views
        both = views.both.mT
        representation = outs[-2] if depth > 1 else both.expand(len(outs[0]), *both.shape[-2:])
        ctx.mark_non_differentiable(representation)
        ctx.set_materialize_grads(False)  # the representation's would be zeros of the largest size here
        return outs[-1], representation

    @staticmethod
    def backward(ctx, gradient, _representation):
        depth = len(ctx.biased)
        weights, hidden = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        found = [torch.empty_like(weight) for weight in weights]
        biases = [w.new_empty(w.shape[:2]) if b else None for w, b in zip(weights, ctx.biased, strict=True)]
        gradient = gradient.contiguous()
        for block in ctx.views.blocks:
            upper = gradient[block]
            for layer in reversed(range(depth)):
                if ctx.biased[layer]:
                    torch.sum(upper, -1, out=biases[layer][block])
                if not layer:
                    ctx.views.gradient(upper, block, found[0][block])
                    continue
                below = hidden[layer - 1][block]
                torch.bmm(upper, below.mT, out=found[layer][block])
                upper = torch.bmm(weights[layer][block].mT, upper)
                # relu's backward in place: the gradient where the output is positive, else 0
                torch.ops.aten.threshold_backward.grad_input(upper, below, 0, grad_input=upper)
        return None, None, *found, *biases


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
