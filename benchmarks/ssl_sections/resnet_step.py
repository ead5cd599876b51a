"""Sections resnet and resnet_cuda: a training step of ResNet-18 against its convolutions alone.

The floor of these sections is measured: the forward product and both backward products of every convolution
of the step, at the same shapes, in the same rounds. (The rate of a large matrix product is no floor for them:
convolution kernels of the CPU are faster than it.)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from timing import Options, Work, heading, interleave, note, table, verdict
from torch import Tensor, nn

from learndyn.core import ssl_losses
from learndyn.core.backbones import Network, ResNetConfig
from learndyn.core.device import generator, tf32

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}

#: Dense bfloat16 rate in operations per second by what the device's name contains (makers' data sheets).
PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}


@dataclass(frozen=True)
class Layer:
    """One convolution as the step meets it.

    Attributes:
        inputs, outputs: shapes for one view.
        first: nothing before it has parameters, so that no gradient of its input is needed.
    """

    module: nn.Conv2d
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    first: bool

    @property
    def products(self) -> int:
        """Forward, gradient of the weights and, but for the first layer, gradient of the input."""
        return 2 if self.first else 3

    @property
    def multiply_adds(self) -> int:
        """Of the forward product: each output value sums over inputs / groups and the kernel."""
        return torch.Size(self.outputs).numel() * self.module.weight[0].numel()

    @property
    def values(self) -> int:
        """Numbers that one product reads and writes: input, weights, output (or their gradients)."""
        sizes = torch.Size(self.inputs), self.module.weight.shape, torch.Size(self.outputs)
        return sum(size.numel() for size in sizes)


def layers(network: Network, image: tuple[int, ...], pairs: int) -> list[Layer]:
    """The convolutions of a network in the order in which a view of ``pairs`` images meets them."""
    found: list[Layer] = []

    def record(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes = ((pairs, *tensor.shape[1:]) for tensor in (inputs[0], output))
        found.append(Layer(module, *shapes, first=not found))

    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, *image))
    network.train()
    for hook in hooks:
        hook.remove()
    return found


def work(convolutions: list[Layer], item_size: int) -> Work:
    """A training step on two views: two operations for a multiply-add, every product's numbers once."""
    operations = 2.0 * 2 * sum(layer.products * layer.multiply_adds for layer in convolutions)
    moved = 2.0 * item_size * sum(layer.products * layer.values for layer in convolutions)
    return Work(operations, moved)


def convolutions_alone(
    convolutions: list[Layer], layout: torch.memory_format, device: torch.device, dtype: torch.dtype
) -> Callable[[], None]:
    """All products of the convolutions of one step and nothing else, on numbers made beforehand."""
    source = generator(0, "convolutions")

    def numbers(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=source).to(device, dtype, memory_format=layout)

    prepared = [
        (layer, numbers(layer.inputs), numbers(tuple(layer.module.weight.shape)), numbers(layer.outputs))
        for layer in convolutions
    ]

    def call() -> None:
        for _view in range(2):
            for layer, x, weight, gradient in prepared:
                conv = layer.module
                sizes = conv.stride, conv.padding, conv.dilation
                torch.nn.functional.conv2d(x, weight, None, *sizes)
                mask = [not layer.first, True, False]
                torch.ops.aten.convolution_backward(
                    gradient, x, weight, None, *sizes, False, [0, 0], conv.groups, mask
                )

    return call


def training_step(
    network: Network,
    views: tuple[Tensor, Tensor],
    layout: torch.memory_format,
    device: torch.device,
    precision: Callable[[], AbstractContextManager],
) -> Callable[[], None]:
    """Both views forward, each normalised by itself; NT-Xent; backward; SGD with momentum."""
    network = network.to(device, memory_format=layout)
    a, b = (view.to(device, memory_format=layout) for view in views)
    loss = ssl_losses.loss("ntxent")
    # Small steps: the time of arithmetic does not depend on the numbers, but that of denormals and NaN does.
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def call() -> None:
        optimizer.zero_grad()
        with precision():
            embeddings = network(a)[0], network(b)[0]
        loss(embeddings[0].float(), embeddings[1].float()).backward()
        optimizer.step()

    return call


def measure(
    options: Options, *, pairs: int, side: int, device: torch.device, bf16: bool, rounds: int
) -> None:
    """Step and convolutions in both memory formats, in the same rounds; rates and ratios."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    precision = (lambda: torch.autocast(device.type, torch.bfloat16)) if bf16 else nullcontext
    config = ResNetConfig(depth=18, stem="cifar", projector=(512,), dimensions=128)
    image = (3, side, side)
    source = generator(0, "images")
    views = tuple(torch.rand(pairs, *image, generator=source) for _ in range(2))
    calls: dict[str, Callable[[], None]] = {}
    for name, layout in FORMATS.items():
        network = config.build(generator(0, "weights"))
        convolutions = layers(network, image, pairs)
        needed = work(convolutions, dtype.itemsize)
        # First the floor: the step moves the network to the device.
        calls[f"convolutions alone, {name}"] = convolutions_alone(convolutions, layout, device, dtype)
        calls[f"training step, {name}"] = training_step(network, views, layout, device, precision)
    timings = interleave(calls, options, device=device, rounds=2 if options.quick else rounds)
    table(timings, {}, "ms" if bf16 or options.quick else "s")
    note(f"the convolutions need {needed}")
    unit, name_of_unit = (1e12, "TFLOP/s") if bf16 else (1e9, "GFLOP/s")
    peak = peak_rate(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    for name in calls:
        rate = needed.operations / timings[name].median
        share = f", {rate / peak:.1%} of the device's {peak / unit:.0f}" if peak else ""
        note(f"{name}: {rate / unit:.3g} {name_of_unit} of convolutions{share}")
    if device.type == "cuda" and peak is None:
        note("the peak rate of this device is not in the table, so no share of it is given")
    for name in FORMATS:
        step, alone = f"training step, {name}", f"convolutions alone, {name}"
        verdict(f"training step / its convolutions, {name}", timings.ratio(step, alone))
    for what in ("training step", "convolutions alone"):
        ratio = timings.ratio(f"{what}, contiguous", f"{what}, channels last")
        verdict(f"{what}: contiguous / channels last", ratio)


def resnet(options: Options) -> None:
    """ResNet-18 on the CPU in float32: two views of 32 images of 32×32 pixels."""
    pairs, side = (2, 8) if options.quick else (32, 32)
    heading(
        "resnet", f"a training step of ResNet-18 (CIFAR stem), 2 views of {pairs} images of {side}×{side}"
    )
    device = torch.device("cpu")
    measure(options, pairs=pairs, side=side, device=device, bf16=False, rounds=5)


def resnet_cuda(options: Options, device: str = "cuda") -> None:
    """The same on a GPU in bfloat16, with 2 views of 1024 images; the share of the device's peak."""
    if device == "cuda" and not torch.cuda.is_available():
        print("\n== resnet_cuda: skipped, since torch sees no GPU here")
        return
    pairs, side = (2, 8) if options.quick else (1024, 32)
    what = (
        f"a training step of ResNet-18 (CIFAR stem) in bfloat16, 2 views of {pairs} images of {side}×{side}"
    )
    heading("resnet_cuda", what, device)
    with tf32(True), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        measure(options, pairs=pairs, side=side, device=torch.device(device), bf16=True, rounds=9)


def peak_rate(name: str) -> float | None:
    """Dense bfloat16 operations per second of a device, None if it is not in the table."""
    return next((rate for part, rate in PEAKS.items() if part in name), None)
