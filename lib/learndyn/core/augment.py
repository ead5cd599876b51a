"""Random views of images: the SimCLR recipe, in batches, on the device where the images are.

Crop and resize, flip, colour jitter, grayscale, blur, in this order, with the parameters of Chen, Kornblith,
Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020), appendix
A, and the meaning that torchvision gives them. Chance and arithmetic are apart: `Augmentation.draw` decides
everything on the CPU from one generator, `Augmentation.apply` computes the views from the `Draws` and nothing
else. So the same draws give the same views again, on CPU and CUDA alike (up to rounding), torch's global
random state is not touched, and nothing in `apply` waits for the device.

Grayscale and blur kernels are kornia's. Crop, jitter and blur are done here because the CPU time is spent
there: kornia crops image by image, and goes to HSV and back with selections that torch does not vectorise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from kornia.color import rgb_to_grayscale
from kornia.filters import get_gaussian_kernel1d
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional

from learndyn.core.config import Config
from learndyn.core.device import generator
from learndyn.core.errors import PlainError

Probability = Annotated[float, Field(ge=0, le=1)]
Images = Float[Tensor, "image channel height width"] | UInt8[Tensor, "image channel height width"]
Views = Float[Tensor, "image channel view_height view_width"]

# Names of the jitter's operations in `Draws.order`.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_ATTEMPTS = 10  # crops that torchvision proposes before it takes the largest one in the middle
_CHUNK = 600_000  # numbers that a CPU works on at a time: larger temporaries leave the cache


class AugmentationError(PlainError):
    """Images, draws or a generator that an augmentation cannot use."""


@dataclass(frozen=True, eq=False)
class Draws:
    """What chance decided for each image, on the CPU. The views are a function of the images and of this.

    ``crop`` is (top, left, height, width) in pixels. ``factors`` are those of brightness, contrast and
    saturation, ``hue`` is in turns of the colour circle, and ``order[i]`` lists the jitter's operations of
    image i in the order in which they are done (0 brightness, 1 contrast, 2 saturation, 3 hue).
    """

    crop: Int[Tensor, "image 4"]
    flip: Bool[Tensor, " image"]
    jitter: Bool[Tensor, " image"]
    factors: Float32[Tensor, "image 3"]
    hue: Float32[Tensor, " image"]
    order: Int[Tensor, "image 4"]
    grayscale: Bool[Tensor, " image"]
    blur: Bool[Tensor, " image"]
    sigma: Float32[Tensor, " image"]

    def __len__(self) -> int:
        return len(self.crop)

    def __getitem__(self, rows: slice) -> Draws:
        return Draws(*(getattr(self, field.name)[rows] for field in fields(self)))


class Augmentation(Config):
    """The recipe. The defaults are those of Chen et al. (2020), appendix A, for ImageNet.

    Each image is cropped to ``crop_scale`` of its area at an aspect ratio (width / height) in ``crop_ratio``,
    log-uniform, and resized to ``size`` (height, width), by default its own, bilinearly and without
    antialiasing. With probability ``jitter`` it is then changed in brightness, contrast and saturation by
    factors in 1 ± strength × 0.8 (not below 0) and turned in hue by at most strength × 0.2 turns; as in
    torchvision, every image has its own order of these four, and the values are cut to [0, 1] after each.
    The Gaussian blur has a kernel of ``blur_kernel`` times the side (its radius is half of that, rounded
    down: 10 % of less than 20 pixels is no blur) and a standard deviation in ``blur_sigma``, in pixels; the
    image is reflected at the border.

    Jitter in saturation and hue, and grayscale, do nothing to images of one channel.
    """

    size: tuple[PositiveInt, PositiveInt] | None = None
    crop_scale: tuple[PositiveFloat, PositiveFloat] = (0.08, 1.0)
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    flip: Probability = 0.5
    jitter: Probability = 0.8
    strength: NonNegativeFloat = 1.0
    brightness: NonNegativeFloat = 0.8
    contrast: NonNegativeFloat = 0.8
    saturation: NonNegativeFloat = 0.8
    hue: NonNegativeFloat = 0.2
    grayscale: Probability = 0.2
    blur: Probability = 0.5
    blur_kernel: Annotated[float, Field(gt=0, lt=1)] = 0.1
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)

    @model_validator(mode="after")
    def _ranges(self) -> Augmentation:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must go from low to high, not from {low:g} to {high:g}")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale must not exceed 1, the whole image, but is {self.crop_scale[1]:g}")
        if self.strength * self.hue > 0.5:
            raise ValueError(
                f"strength × hue must not exceed half a turn, but is {self.strength * self.hue:g}"
            )
        return self

    def draw(self, images: int, height: int, width: int, rng: torch.Generator | int) -> Draws:
        """Decide everything that is random for so many images of this size.

        Args:
            rng: a generator on the CPU, which is advanced; or a seed.

        Raises:
            AugmentationError: a generator of another device, which would give other numbers.
        """
        rng = generator(rng, "augmentation") if isinstance(rng, int) else rng
        if rng.device.type != "cpu":
            raise AugmentationError(f"draws are made on the CPU, but the generator is on {rng.device}")

        def uniform(*shape: int) -> Float32[Tensor, "..."]:
            return torch.rand(images, *shape, generator=rng)

        crop = _draw_crops(images, height, width, self.crop_scale, self.crop_ratio, rng)
        spread = self.strength * torch.tensor([self.brightness, self.contrast, self.saturation])
        low = (1 - spread).clamp_(min=0)
        return Draws(
            crop=crop,
            flip=uniform() < self.flip,
            jitter=uniform() < self.jitter,
            factors=low + uniform(3) * (1 + spread - low),
            hue=self.strength * self.hue * (2 * uniform() - 1),
            order=uniform(4).argsort(1),
            grayscale=uniform() < self.grayscale,
            blur=uniform() < self.blur,
            sigma=self.blur_sigma[0] + uniform() * (self.blur_sigma[1] - self.blur_sigma[0]),
        )

    @torch.no_grad()
    def apply(self, images: Images, draws: Draws) -> Views:
        """The views of ``images`` that belong to these draws, on the device of the images.

        Args:
            images: 1 or 3 channels; uint8, which is divided by 255, or float32 or float64 in [0, 1].

        Returns:
            Views in [0, 1], float32 unless the images are float64.

        Raises:
            AugmentationError: other images, or draws for another number of them.
        """
        _check(images, draws)
        number, channels, height, width = images.shape
        size = self.size or (height, width)
        views = torch.empty(
            number,
            channels,
            *size,
            device=images.device,
            dtype=torch.float64 if images.dtype == torch.float64 else torch.float32,
        )
        per_image = channels * max(height * width, size[0] * size[1])
        step = max(1, _CHUNK // per_image) if images.device.type == "cpu" else max(1, number)
        for start in range(0, number, step):
            rows = slice(start, start + step)
            views[rows] = self._apply(images[rows], draws[rows], size)
        return views

    def _apply(self, images: Images, draws: Draws, size: tuple[int, int]) -> Views:
        values = images.float().div_(255) if images.dtype == torch.uint8 else images
        views = crop_and_flip(values, draws.crop, draws.flip, size)
        rows, coloured = _plan_jitter(draws, views.device, views.dtype)
        if len(rows):
            chosen = views.index_select(0, rows)
            _jitter_(chosen, coloured)
            views.index_copy_(0, rows, chosen)
        gray = draws.grayscale.nonzero()[:, 0]
        if len(gray) and views.shape[1] == 3:
            rows = onto(gray, views.device)
            light = rgb_to_grayscale(views.index_select(0, rows))
            views.index_copy_(0, rows, light.expand(-1, 3, -1, -1))
        blurred = draws.blur.nonzero()[:, 0]
        if len(blurred):
            rows = onto(blurred, views.device)
            chosen = gaussian_blur(views.index_select(0, rows), draws.sigma[blurred], self._radius(size))
            views.index_copy_(0, rows, chosen)
        return views

    def __call__(self, images: Images, rng: torch.Generator | int) -> Views:
        """One random view of each image: `apply` with new draws of `draw`."""
        return self.apply(images, self.draw(len(images), *images.shape[-2:], rng))

    def _radius(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (int(self.blur_kernel * side) // 2 for side in size)
        return height, width


#: Chen et al. (2020), appendix A: ImageNet at 224 pixels.
SIMCLR_IMAGENET = Augmentation(size=(224, 224))
#: Chen et al. (2020), appendix B.9: CIFAR-10, with jitter of half the strength and without blur.
SIMCLR_CIFAR = Augmentation(strength=0.5, blur=0.0)
#: The recipe for ImageNet at the 96 pixels of STL-10 (kernel 9); the paper has no run on STL-10.
SIMCLR_STL10 = Augmentation()


class _Jitter(NamedTuple):
    """The jitter of some images, sorted by how many of their three blends come before the hue.

    ``blends[k]`` has the coefficients of an image's k-th operation that is not the hue: of the image, of its
    grayscale and of the mean of that. It comes after the hue for the first ``split[k]`` images, and before it
    for the others.
    """

    blends: Float[Tensor, "blend 3 image"]
    split: tuple[int, int, int]
    hue: Float[Tensor, " image"]


def _check(images: Tensor, draws: Draws) -> None:
    if images.shape[1] not in (1, 3):
        raise AugmentationError(
            f"images must have 1 or 3 channels, [image, channel, height, width], not shape "
            f"{tuple(images.shape)}"
        )
    if images.dtype not in (torch.uint8, torch.float32, torch.float64):
        raise AugmentationError(f"images must be uint8, float32 or float64, not {images.dtype}")
    if len(draws) != len(images):
        raise AugmentationError(f"{len(draws)} draws were given for {len(images)} images")
    if draws.crop.device.type != "cpu":
        raise AugmentationError("draws belong on the CPU, wherever the images are")
    outside = draws.crop[:, :2] + draws.crop[:, 2:] > torch.tensor(images.shape[2:])
    if bool(outside.any()):
        raise AugmentationError(
            f"the draws crop images larger than these of {images.shape[2]} × {images.shape[3]} pixels"
        )


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to the device; to a GPU from pinned memory, so that the host does not wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _draw_crops(
    images: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: torch.Generator,
) -> Int[Tensor, "image 4"]:
    """(top, left, height, width) as torchvision has it: the first of ten proposals to fit, or the middle."""
    numbers = torch.rand(2 * _ATTEMPTS + 2, images, generator=rng, dtype=torch.float64)
    area = height * width * (scale[0] + numbers[:_ATTEMPTS] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + numbers[_ATTEMPTS:-2] * (high - low)).exp()
    proposed = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()]).round()
    fits = ((proposed[0] >= 1) & (proposed[0] <= height)) & ((proposed[1] >= 1) & (proposed[1] <= width))
    first = fits.int().argmax(0)  # the first of the largest
    crop_height, crop_width = proposed[:, first, torch.arange(images)]
    middle = max(1, min(height, round(width / ratio[0]))), max(1, min(width, round(height * ratio[1])))
    found = fits.any(0)
    crop_height = torch.where(found, crop_height, middle[0])
    crop_width = torch.where(found, crop_width, middle[1])
    top, left = (
        torch.where(found, (number * (room + 1)).floor(), (room / 2).round())
        for number, room in ((numbers[-2], height - crop_height), (numbers[-1], width - crop_width))
    )
    return torch.stack([top, left, crop_height, crop_width], 1).long()


def crop_and_flip(
    images: Float[Tensor, "image channel height width"],
    crop: Int[Tensor, "image 4"],
    flip: Bool[Tensor, " image"],
    size: tuple[int, int],
) -> Views:
    """Cut a box out of each image, resize it bilinearly to ``size`` and mirror some left to right.

    The same as `torch.nn.functional.interpolate` (no corner alignment, no antialiasing) of each slice by
    itself: at the border of a box its last pixels are repeated, not mixed with what lies outside.

    Args:
        crop: (top, left, height, width) of each box, within the image; on the CPU.
        flip: which ones are mirrored; on the CPU.
    """
    start, extent = crop[:, :2].double(), crop[:, 2:].double()
    # Pixel centres of the view in coordinates of the image, for torch's grid from −1 to 1 (edge to edge).
    axes = []
    for axis in range(2):
        step = (torch.arange(size[axis], dtype=torch.float64) + 0.5) / size[axis]
        steps = step.expand(len(crop), -1)
        if axis == 1:
            steps = torch.where(flip[:, None], 1 - steps, steps)
        length = extent[:, axis, None]
        inside = (steps * length).clamp_(min=0.5).minimum(length - 0.5)
        axes.append((start[:, axis, None] + inside) * (2 / images.shape[2 + axis]) - 1)
    rows, columns = (onto(axis.to(images.dtype), images.device) for axis in axes)
    grid = torch.stack(
        torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]),
        dim=-1,
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _plan_jitter(
    draws: Draws, device: torch.device, dtype: torch.dtype
) -> tuple[Int[Tensor, " row"], _Jitter]:
    """Which images are jittered, in the order that `_jitter_` wants, and how."""
    rows = draws.jitter.nonzero()[:, 0]
    blends_before = (draws.order[rows] == HUE).int().argmax(1)
    blends_before, by_count = blends_before.sort(stable=True)
    rows = rows[by_count]
    order = draws.order[rows]
    kinds = order[order != HUE].view(len(rows), 3)
    image = draws.factors[rows].gather(1, kinds)
    gray = torch.where(kinds == SATURATION, 1 - image, 0)
    mean = torch.where(kinds == CONTRAST, 1 - image, 0)
    blends = torch.stack([image.T, gray.T, mean.T], 1)
    split = tuple(int((blends_before <= k).sum()) for k in range(3))
    hue = draws.hue[rows]
    plan = _Jitter(onto(blends.to(dtype), device), split, onto(hue.to(dtype), device))
    return onto(rows, device), plan


def _jitter_(images: Float[Tensor, "image channel height width"], plan: _Jitter) -> None:
    """Brightness, contrast, saturation and hue of each image in its own order, in place.

    The first three are one operation with different coefficients, so only the place of the hue among them
    matters. The images are sorted by it: what comes before (after) the hue concerns the last (first) ones.
    """
    for blend, split in zip(plan.blends, plan.split, strict=True):
        _blend_(images[split:], blend[:, split:])
    if images.shape[1] == 3:
        rotate_hue_(images, plan.hue)
    for blend, split in zip(plan.blends, plan.split, strict=True):
        _blend_(images[:split], blend[:, :split])


def _blend_(images: Float[Tensor, "image channel height width"], weights: Float[Tensor, "3 image"]) -> None:
    """The image, its grayscale and the mean of that, added with these weights and cut to [0, 1], in place."""
    if not len(images):
        return
    image, gray, mean = weights[:, :, None, None, None]
    light = rgb_to_grayscale(images) if images.shape[1] == 3 else images.clone()
    level = light.mean((2, 3), keepdim=True)
    light.mul_(gray).add_(level.mul_(mean))
    torch.addcmul(light, images, image, out=images).clamp_(0, 1)


def rotate_hue_(images: Float[Tensor, "image 3 height width"], turns: Float[Tensor, " image"]) -> None:
    """Turn the hue of each image by ``turns`` (1 is once around), with saturation and value kept, in place.

    Equal to going to HSV and back, without a selection among sectors. With V and m the largest and smallest
    of a pixel's R, G, B and C = V − m, its angle is ± (G + B − R − m + C) / 6C turns, positive if G ≥ B; and
    at angle z a channel is V − C·clamp(2 − 6u, 0, 1), where u is the distance on the circle between z and
    the channel's complement (cyan at 1/2 for R, magenta at 5/6 for G, yellow at 1/6 for B).
    """
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    least = images.amin(1)
    chroma = value - least
    # A gray pixel has no angle; anything finite will do, because C = 0 multiplies it.
    scale = chroma.clamp(min=torch.finfo(images.dtype).tiny).reciprocal_().div_(6)
    angle = (green + blue).sub_(red).sub_(least).add_(chroma).mul_(scale)
    # `copysign`, because at G = B (+0) red and cyan are half a turn apart and both signs name the same angle.
    angle = torch.copysign(angle, green - blue).add_(turns[:, None, None])
    for channel, complement in enumerate((1 / 2, 5 / 6, 1 / 6)):
        # angle − complement > −2, so that the fraction counts from below; and 0 is now half a turn away.
        distance = (angle + (2.5 - complement)).frac_().sub_(0.5).abs_()
        weight = distance.mul_(-6).add_(2).clamp_(0, 1)
        torch.addcmul(value, chroma, weight, value=-1, out=images[:, channel])


def gaussian_blur(
    images: Float[Tensor, "image channel height width"],
    sigma: Float[Tensor, " image"],
    radius: tuple[int, int],
) -> Float[Tensor, "image channel height width"]:
    """Blur each image with its own standard deviation (pixels), reflected at the border.

    Args:
        sigma: on the CPU.
        radius: of the kernel along height and width: 4 is a kernel of 9 pixels.
    """
    for axis, reach in ((2, radius[0]), (3, radius[1])):
        if reach == 0:
            continue
        kernel = get_gaussian_kernel1d(2 * reach + 1, sigma[:, None].to(images.dtype))
        weights = onto(kernel.T.contiguous(), images.device)[:, :, None, None, None]
        border = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        padded = functional.pad(images, border, mode="reflect")
        length = images.shape[axis]
        images = images * weights[reach]
        for offset in range(1, reach + 1):  # the kernel is symmetric
            pair = padded.narrow(axis, reach - offset, length) + padded.narrow(axis, reach + offset, length)
            images.addcmul_(pair, weights[reach + offset])
    return images
