"""The networks of self-supervised learning: an MLP, a small ResNet, ResNet-18 and ResNet-50, with projectors.

A `Network` is a *body* (views to a flat representation) and a *head* (representation to embedding). A config
builds one from an explicit generator; torch's global random state is neither read nor changed.

    config = ResNetConfig(depth=18, stem="cifar", projector=(2048,), dimensions=128)
    network = config.build(generator(seed, "weights"))
    embedding, representation = network(images)

Initialisation: weights that a ReLU follows are normal with variance 2/fan (He et al., ICCV 2015), those of
the last layer with variance 1/fan_in; biases 0, normalisation scale 1 and shift 0. The last layer has no
bias: where one is wanted, the trainer gives it (`network.last.bias = nn.Parameter(…)`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from learndyn.core.config import Config
from learndyn.core.errors import PlainError
from learndyn.core.resnet import BasicBlock, Bottleneck, ResNet, SmallResNet, mlp

Size = Annotated[int, Field(ge=1)]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class BackboneError(PlainError):
    """Views that do not fit a network."""


class Network(nn.Module):
    """A body (views → representation) and a head (representation → embedding).

    Args:
        body: maps ``[sample, *feature]`` to ``[sample, hidden]``.
        head: maps ``[sample, hidden]`` to ``[sample, dimension]``: an `nn.Linear`, or an `nn.Sequential` that
            ends with one.
        feature: what the views must look like behind their first axis, ``(input,)`` or ``(channel, height,
            width)`` with None where any size will do; with None as a whole, nothing is checked.
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, feature: tuple[int | None, ...] | None = None
    ) -> None:
        super().__init__()
        self.body, self.head, self.feature = body, head, feature

    @property
    def last(self) -> nn.Linear:
        """The last linear layer of the head."""
        return self.head if isinstance(self.head, nn.Linear) else self.head[-1]

    def forward(
        self, x: Float[Tensor, "sample *feature"]
    ) -> tuple[Float[Tensor, "sample dimension"], Float[Tensor, "sample hidden"]]:
        """Embedding and representation of views ``[sample, *feature]``.

        Raises:
            BackboneError: views of another shape than the network was built for.
        """
        self._check(tuple(x.shape[1:]))
        representation = self.body(x)
        return self.head(representation), representation

    def _check(self, found: tuple[int, ...]) -> None:
        wanted = self.feature
        if wanted is None:
            return
        if len(wanted) == 1:
            fits = math.prod(found) == wanted[0]
        else:
            fits = len(found) == len(wanted) and all(
                w in (None, f) for w, f in zip(wanted, found, strict=True)
            )
        if not fits:
            named = " × ".join("any" if size is None else str(size) for size in wanted)
            given = " × ".join(map(str, found)) or "no"
            raise BackboneError(f"this network takes views of {named} features, not of {given}")


class NetworkConfig(Config):
    """Base of the configurations of networks.

    Attributes:
        dimensions: dimensions of the embedding.
    """

    dimensions: Size = 8

    @property
    @abstractmethod
    def vectorises(self) -> bool:
        """Whether it may run under `torch.func.vmap` over stacked parameters: it keeps no statistics."""

    @abstractmethod
    def _layout(self) -> Network:
        """The network's modules, whatever their values."""

    @abstractmethod
    def _fill_(self, network: Network, generator: torch.Generator) -> None:
        """Draw the initial values of all parameters."""

    def build(self, generator: torch.Generator) -> Network:
        """The network at initialisation, on the CPU in float32 and train mode.

        The same state of ``generator`` (a CPU generator) gives the same network.
        """
        with torch.device("meta"):  # nothing is allocated, and nothing drawn from torch's global generator
            network = self._layout().float()
        network = network.to_empty(device="cpu")
        with torch.no_grad():
            self._fill_(network, generator)
        return network


class MLPConfig(NetworkConfig):
    """Linear layers with ReLU between them; images are flattened.

    Attributes:
        inputs: features of a view (channel · height · width for images).
        hidden: sizes of the hidden layers, the last one being the representation. With ``()`` the network is
            the linear model f = W x, and the views are their own representation.
        bias: whether the hidden layers have biases.
        initialisation: ``"he"``: body N(0, 2/fan_in), head N(0, 1/fan_in), biases 0; ``"pytorch"``: all of it
            uniform within ±1/√fan_in, which is what `nn.Linear` does by itself.
    """

    kind: Literal["mlp"] = "mlp"
    inputs: Size = 64
    hidden: tuple[Size, ...] = (256,)
    bias: bool = False
    initialisation: Literal["he", "pytorch"] = "he"

    @property
    def vectorises(self) -> bool:
        """An MLP keeps no statistics."""
        return True

    def _layout(self) -> Network:
        sizes = (self.inputs, *self.hidden)
        body = nn.Sequential(nn.Flatten(), *mlp(sizes, bias=self.bias))
        return Network(body, nn.Linear(sizes[-1], self.dimensions, bias=False), (self.inputs,))

    def _fill_(self, network: Network, generator: torch.Generator) -> None:
        if self.initialisation == "he":
            _he_(network, generator, "fan_in")
            return
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter in layer.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)


class SmallResNetConfig(NetworkConfig):
    """A small ResNet: stem 3×3, basic blocks of stride 2 with `width` and 2·`width` channels, linear head.

    Convolutions have no biases and are N(0, 2/fan_in); shortcuts are 1×1 convolutions without normalisation.

    Attributes:
        channels_in: channels of the images.
        width: channels of the stem.
        image_size: side of the images. Averaging takes any other side, too.
        pool: the representation is the flattened feature map or its average over the image.
        batch_norm: whether stem and blocks are normalised.
    """

    kind: Literal["small_resnet"] = "small_resnet"
    channels_in: Size = 3
    width: Size = 8
    image_size: int = 16
    pool: Literal["flatten", "average"] = "flatten"
    batch_norm: bool = True

    @field_validator("image_size")
    @classmethod
    def _survives_two_strides(cls, value: int) -> int:
        if value < 4:
            raise ValueError("must be at least 4, since both blocks halve the image")
        return value

    @property
    def vectorises(self) -> bool:
        """Only without normalisation."""
        return not self.batch_norm

    def _layout(self) -> Network:
        flat = self.pool == "flatten"
        body = SmallResNet(
            self.channels_in, self.width, self.image_size, flat=flat, batch_norm=self.batch_norm
        )
        side = self.image_size if flat else None
        head = nn.Linear(body.features, self.dimensions, bias=False)
        return Network(body, head, (self.channels_in, side, side))

    def _fill_(self, network: Network, generator: torch.Generator) -> None:
        _he_(network, generator, "fan_in")


class ResNetConfig(NetworkConfig):
    """ResNet-18 or ResNet-50 (He et al. 2016, bottlenecks of version 1.5) with a projector as its head.

    Published projectors: SimCLR ``projector=(2048,), dimensions=128`` (Chen et al. 2020), Barlow Twins and
    VICReg ``projector=(8192, 8192), dimensions=8192`` (Zbontar et al. 2021; Bardes et al. 2022), all with
    batch normalisation behind the hidden layers.

    Attributes:
        depth: 18 or 50.
        stem: ``"cifar"``: 3×3 convolution of stride 1, no max-pooling; ``"standard"``: 7×7 of stride 2 and
            max-pooling.
        channels_in: channels of the images.
        projector: sizes of the hidden layers (linear, normalisation, ReLU) between the averaged features and
            the last linear layer.
        projector_batch_norm: without it these layers have biases instead.
        fan_mode: variance of the convolutions: 2/fan_out keeps the size of the gradients and is what the
            field's ResNets (torchvision) use, 2/fan_in that of the activations. Linear layers take fan_in.
        zero_init_residual: start each block as its shortcut, the scale of its last normalisation being 0
            (Goyal et al. 2017). Off by default, as in torchvision; the published codes of Barlow Twins and
            VICReg have it on.
    """

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 50] = 18
    stem: Literal["cifar", "standard"] = "cifar"
    channels_in: Size = 3
    projector: tuple[Size, ...] = ()
    projector_batch_norm: bool = True
    fan_mode: Literal["fan_in", "fan_out"] = "fan_out"
    zero_init_residual: bool = False

    @property
    def vectorises(self) -> bool:
        """Never: it is normalised."""
        return False

    def _layout(self) -> Network:
        body = ResNet(self.depth, self.stem, self.channels_in)
        sizes = (body.features, *self.projector)
        last = nn.Linear(sizes[-1], self.dimensions, bias=False)
        hidden = mlp(sizes, bias=True, batch_norm=self.projector_batch_norm)
        return Network(body, nn.Sequential(*hidden, last), (self.channels_in, None, None))

    def _fill_(self, network: Network, generator: torch.Generator) -> None:
        _he_(network, generator, self.fan_mode)
        if self.zero_init_residual:
            for block in network.modules():
                if isinstance(block, BasicBlock | Bottleneck):
                    block.last_norm.weight.zero_()


def _he_(network: Network, generator: torch.Generator, fan_mode: str) -> None:
    """Convolutions N(0, 2/fan), hidden linear layers N(0, 2/fan_in), the last one N(0, 1/fan_in)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=fan_mode, nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            gain = 1.0 if layer is network.last else 2.0
            layer.weight.normal_(0.0, math.sqrt(gain / layer.in_features), generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, _BATCH_NORMS):
            layer.reset_parameters()  # scale 1, shift 0, statistics of a standard normal; draws nothing


@torch.no_grad()
def scale_parameters_(network: Network, *, body: float, head: float) -> None:
    """Multiply the parameters of the two groups of layers, in place.

    ``body`` multiplies every parameter of ``network.body``, scale and shift of its normalisations included;
    ``head`` every parameter of ``network.head`` (the projector, if there is one, and the last layer) but the
    bias of the last layer, whose size is chosen by itself.
    """
    for parameter in network.body.parameters():
        parameter.mul_(body)
    for parameter in network.head.parameters():
        if parameter is not network.last.bias:
            parameter.mul_(head)


@torch.no_grad()
def freeze_batch_norm(
    network: nn.Module, view: Float[Tensor, "_ *feature"], *more: Float[Tensor, "_ *feature"]
) -> None:
    """Make each sample's output a function of that sample alone: fixed statistics, eval mode.

    The running statistics of every batch normalisation become those of one train-mode forward pass of all
    views together (concatenated), with the biased variance that this pass itself divides by: on these views,
    eval mode then gives exactly what that pass gave. `network.train()` undoes the freezing.
    """
    network.train()
    norms = [module for module in network.modules() if isinstance(module, _BATCH_NORMS)]
    with _recording_statistics(norms):
        network(torch.cat((view, *more)))
    network.eval()


@contextmanager
def _recording_statistics(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block, each forward pass of a norm leaves the statistics of its input behind.

    Momentum 1 would nearly do it, but torch stores the unbiased variance, n/(n−1) times what it divides by.
    """

    def record(norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
        variance, mean = torch.var_mean(inputs[0], axes, correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    hooks = [norm.register_forward_hook(record) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
