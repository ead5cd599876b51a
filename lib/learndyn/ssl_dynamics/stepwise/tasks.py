"""The two small tasks of the chapter, made of what scikit-learn brings along: digits and photographs.

Neither is the data of Simon et al. (2023), who trained on CIFAR-10 and STL-10; crops of photographs stand in
for their random crops of natural images and have a spectrum as steep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int
from torch import Tensor

from learndyn.core import images
from learndyn.core.device import generator
from learndyn.core.errors import PlainError
from learndyn.core.pairs import FixedPairs, crop_pairs, noise_pairs


class TaskError(PlainError):
    """A task that the data are too few for."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Digits as inputs: minus the mean image of all, divided by the root mean square of what is left.

    ``pixel_rms`` is that root mean square (of pixels in [0, 1]): divide a noise in pixel units by it.
    """

    images: Float32[Tensor, "image 64"]
    labels: Int[Tensor, " image"]
    pixel_rms: float

    def subset(self, rows: Int[Tensor, " row"]) -> Digits:
        """These images."""
        return Digits(self.images[rows], self.labels[rows], self.pixel_rms)


def all_digits() -> Digits:
    """All 1,797 digits of scikit-learn, 8 × 8 pixels, flattened."""
    data = images.digits()
    pixels = data.as_float().flatten(1)
    centred = pixels - pixels.mean(0)
    rms = float(centred.square().mean().sqrt())
    return Digits(centred / rms, data.labels, rms)


def digit_split(seed: int, train: int = 1000) -> tuple[Digits, Digits]:
    """A random split into training images and test images (the rest), both normalised by all digits.

    Raises:
        TaskError: not at least one image in each part.
    """
    digits = all_digits()
    count = len(digits.images)
    if not 1 <= train < count:
        raise TaskError(f"train must be from 1 to {count - 1}, so that both parts have images, not {train}")
    rows = torch.randperm(count, generator=generator(seed, "digit split"))
    return digits.subset(rows[:train]), digits.subset(rows[train:])


def digit_pairs(seed: int, pairs: int = 100, noise_sd: float = 0.15) -> FixedPairs:
    """Random digits, each twice with its own Gaussian noise: views [pair, 64].

    Args:
        noise_sd: in units of pixels from 0 to 1.

    Raises:
        TaskError: more pairs than digits, or none.
    """
    digits = all_digits()
    if not 1 <= pairs <= len(digits.images):
        raise TaskError(f"pairs must be from 1 to {len(digits.images)}, the number of digits, not {pairs}")
    rows = torch.randperm(len(digits.images), generator=generator(seed, "digit pairs"))[:pairs]
    noise = generator(seed, "digit noise")
    return noise_pairs(digits.images[rows], noise_sd=noise_sd / digits.pixel_rms, generator=noise)


def photo_pairs(seed: int, pairs: int, patch: int, crop: int, downscale: int = 4) -> FixedPairs:
    """Overlapping crops of two photographs (`learndyn.core.pairs.crop_pairs`): views [pair, 3, crop, crop].

    The photographs are averaged down by ``downscale`` and standardised per channel by the mean and standard
    deviation over all their pixels.

    Raises:
        PairsError: if patch and crop do not fit.
    """
    photos = images.photographs(downscale)
    mean = photos.mean((0, 2, 3), keepdim=True)
    sd = photos.std((0, 2, 3), keepdim=True, correction=0)
    return crop_pairs(
        (photos - mean) / sd, pairs=pairs, patch=patch, crop=crop, generator=generator(seed, "photo pairs")
    )
