"""The SimCLR recipe as one writes it with Pillow, image by image, for the workers of a DataLoader.

It is the baseline of section augment, and no straw man: every transform is one or two calls of Pillow, done
as torchvision does it for PIL images (hue by way of HSV bytes, blur by `ImageFilter.GaussianBlur`), nothing
is done to an image that the draw leaves out, and crop and resize are one call. With the same draws it gives
the library's views up to the rounding of Pillow's bytes (tests/benchmarks). It uses nothing of the library.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

BILINEAR = Image.Resampling.BILINEAR
ENHANCE = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
HUE = 3


class Draw(NamedTuple):
    """What chance decided for one view."""

    crop: tuple[int, int, int, int]  # top, left, height, width
    flip: bool
    order: tuple[int, ...]  # of brightness, contrast, saturation and hue; empty without jitter
    factors: tuple[float, float, float]
    hue: float
    grayscale: bool
    sigma: float  # 0 is no blur


@dataclass(frozen=True)
class Recipe:
    """Chen et al. (2020), appendix A, with their strength of jitter and probability of blur."""

    size: int
    strength: float = 1.0
    jitter: float = 0.8
    grayscale: float = 0.2
    blur: float = 0.5

    def draw(self, height: int, width: int) -> Draw:
        amount = 0.8 * self.strength
        low = max(0.0, 1 - amount)
        jitter = random.random() < self.jitter
        factors = tuple(random.uniform(low, 1 + amount) for _ in range(3)) if jitter else (1.0, 1.0, 1.0)
        return Draw(
            crop=_draw_crop(height, width),
            flip=random.random() < 0.5,
            order=tuple(random.sample(range(4), 4)) if jitter else (),
            factors=factors,
            hue=random.uniform(-0.2 * self.strength, 0.2 * self.strength) if jitter else 0.0,
            grayscale=random.random() < self.grayscale,
            sigma=random.uniform(0.1, 2.0) if random.random() < self.blur else 0.0,
        )

    def apply(self, image: Image.Image, draw: Draw) -> Tensor:
        """One view, ``[3, size, size]`` in [0, 1]."""
        top, left, height, width = draw.crop
        box = (left, top, left + width, top + height)
        image = image.resize((self.size, self.size), BILINEAR, box=box)
        if draw.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for operation in draw.order:
            if operation == HUE:
                image = turn_hue(image, draw.hue)
            else:
                image = ENHANCE[operation](image).enhance(draw.factors[operation])
        if draw.grayscale:
            image = ImageOps.grayscale(image).convert("RGB")
        if draw.sigma:
            image = image.filter(ImageFilter.GaussianBlur(draw.sigma))
        return to_tensor(image)

    def __call__(self, image: Image.Image) -> Tensor:
        width, height = image.size
        return self.apply(image, self.draw(height, width))


def turn_hue(image: Image.Image, turns: float) -> Image.Image:
    """As torchvision: bytes of hue, 256 to a turn, that wrap around."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(turns * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)


def _draw_crop(height: int, width: int) -> tuple[int, int, int, int]:
    """Of 8 to 100 % of the area, at an aspect ratio of 3/4 to 4/3; the whole if ten attempts do not fit."""
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    return 0, 0, height, width


class PairsOfViews(Dataset):
    """Two views of each image of a data set that is kept as bytes, ``[image, height, width, 3]``."""

    def __init__(self, images: np.ndarray, recipe: Recipe) -> None:
        self.images, self.recipe = images, recipe

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = Image.fromarray(self.images[index])
        return self.recipe(image), self.recipe(image)
