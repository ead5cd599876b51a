"""Residual networks without torchvision: basic block, bottleneck, ResNet-18 and ResNet-50, and a small one.

He, Zhang, Ren & Sun, Deep residual learning for image recognition, CVPR 2016. Modules have torchvision's
names (`conv1`, `bn1`, `layer1` … `layer4`, `downsample`), so that the field's checkpoints fit.
Everything here maps images ``[sample, channel, height, width]``; weights are filled by `core.backbones`.

ReLU works in place, but only on the fresh output of a convolution, of a normalisation or of a sum, none of
which keep it for their own gradient; so these modules run under `torch.func` as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: Blocks per stage of a ResNet by its depth (He et al. 2016, table 1).
STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A square convolution without bias whose output is the input's size over the stride, rounded up."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class Projection(nn.Conv2d):
    """A 1×1 convolution, which on a CPU skips what its stride skips before it convolves.

    The result is the same. oneDNN takes about twice as long for strided 1×1 convolutions of few channels, a
    tenth of a training step of `SmallResNet`.
    """

    def forward(self, x: Float[Tensor, "sample channel height width"]) -> Tensor:
        """The convolution of x."""
        if x.device.type != "cpu":
            return super().forward(x)
        down, right = self.stride
        return nn.functional.conv2d(x[..., ::down, ::right], self.weight, self.bias)


def normalisation(channels: int, batch_norm: bool) -> nn.Module:
    """Batch normalisation with scale and shift, or nothing."""
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def shortcut(inputs: int, outputs: int, stride: int, batch_norm: bool) -> nn.Module:
    """The way round a block: the identity if the shapes agree, else a 1×1 convolution (option B)."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    projection = Projection(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(outputs)) if batch_norm else nn.Sequential(projection)


class BasicBlock(nn.Module):
    """ReLU(shortcut(x) + BN conv3×3 ReLU BN conv3×3 x), the stride in the first convolution.

    Args:
        batch_norm: whether the two convolutions of the branch are normalised.
        shortcut_batch_norm: whether the 1×1 convolution of the shortcut is; by default as the branch.
    """

    expansion = 1

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        *,
        batch_norm: bool = True,
        shortcut_batch_norm: bool | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn1 = normalisation(width, batch_norm)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = normalisation(width, batch_norm)
        normed = batch_norm if shortcut_batch_norm is None else shortcut_batch_norm
        self.downsample = shortcut(inputs, width, stride, normed)

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation that ends the branch."""
        return self.bn2

    def forward(
        self, x: Float[Tensor, "sample channel height width"]
    ) -> Float[Tensor, "sample channel_out height_out width_out"]:
        """The block's output."""
        branch = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(branch)) + self.downsample(x))


class Bottleneck(nn.Module):
    """ReLU(shortcut(x) + BN conv1×1 ReLU BN conv3×3 ReLU BN conv1×1 x) with 4·width output channels.

    The stride is in the 3×3 convolution ("version 1.5", as in torchvision), not in the first 1×1 one as in
    the paper: same parameters, a little more arithmetic, a little more accurate on ImageNet.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride, batch_norm=True)

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation that ends the branch."""
        return self.bn3

    def forward(
        self, x: Float[Tensor, "sample channel height width"]
    ) -> Float[Tensor, "sample channel_out height_out width_out"]:
        """The block's output."""
        branch = torch.relu_(self.bn1(self.conv1(x)))
        branch = torch.relu_(self.bn2(self.conv2(branch)))
        return torch.relu_(self.bn3(self.conv3(branch)) + self.downsample(x))


class ResNet(nn.Module):
    """A ResNet of table 1 of He et al. without its classifier: images to averaged features.

    Args:
        depth: 18 (basic blocks, 512 features) or 50 (bottlenecks, 2048 features).
        stem: ``"standard"``: 7×7 convolution of stride 2 and 3×3 max-pooling of stride 2; ``"cifar"``: 3×3
            convolution of stride 1 and no pooling, as SSL papers do for 32×32 images (Chen et al. 2020, B.9).
        channels_in: channels of the images.
    """

    def __init__(self, depth: int, stem: str, channels_in: int = 3) -> None:
        super().__init__()
        block = BasicBlock if depth == 18 else Bottleneck
        small = stem == "cifar"
        self.conv1 = convolution(channels_in, 64, 3) if small else convolution(channels_in, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        channels = 64
        for stage, blocks in enumerate(STAGES[depth]):
            width = 64 * 2**stage
            layers = []
            for index in range(blocks):
                layers.append(block(channels, width, stride=2 if stage and not index else 1))
                channels = width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.features = channels

    def forward(self, x: Float[Tensor, "sample channel height width"]) -> Float[Tensor, "sample feature"]:
        """Features of the last stage, averaged over the image."""
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


class SmallResNet(nn.Module):
    """Stem convolution 3×3 and two basic blocks of stride 2, for images of about 16×16 pixels.

    The shortcuts are 1×1 convolutions without normalisation. The representation is the flattened last feature
    map (2·width channels, a quarter of the image's side) or its average over the image.

    Args:
        width: channels of the stem and of the first block; the second block has twice as many.
        image_size: side of the images; only the flattened representation depends on it.
        flat: flatten instead of averaging.
    """

    def __init__(
        self, channels_in: int, width: int, image_size: int, *, flat: bool, batch_norm: bool
    ) -> None:
        super().__init__()
        norms = {"batch_norm": batch_norm, "shortcut_batch_norm": False}
        self.conv1 = convolution(channels_in, width, 3)
        self.bn1 = normalisation(width, batch_norm)
        self.layer1 = BasicBlock(width, width, 2, **norms)
        self.layer2 = BasicBlock(width, 2 * width, 2, **norms)
        self.flat = flat
        self.features = 2 * width * (math.ceil(image_size / 4) ** 2 if flat else 1)

    def forward(self, x: Float[Tensor, "sample channel height width"]) -> Float[Tensor, "sample feature"]:
        """The flattened or averaged features of the second block."""
        x = self.layer2(self.layer1(torch.relu_(self.bn1(self.conv1(x)))))
        return x.flatten(1) if self.flat else x.mean((2, 3))


def mlp(sizes: Sequence[int], *, bias: bool, batch_norm: bool = False) -> nn.Sequential:
    """Linear, (batch normalisation,) ReLU from each size to the next; nothing for a single size.

    A layer that is normalised has no bias of its own.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers.append(nn.Linear(inputs, outputs, bias=bias and not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
