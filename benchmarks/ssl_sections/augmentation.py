"""Sections augment and augment_cuda: SimCLR views in images per second."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable

import kornia.augmentation as kornia
import numpy as np
import torch
from timing import Options, Timings, clock, heading, interleave, note, verdict
from torch import Tensor, nn
from torch.utils.data import DataLoader
from usual_augmentation import PairsOfViews, Recipe

from learndyn.core import images
from learndyn.core.augment import SIMCLR_CIFAR, SIMCLR_STL10, Augmentation
from learndyn.core.device import generator
from learndyn.core.pairs import AugmentedPairs, FixedPairs

WORKERS = 2
RECIPES = {32: ("CIFAR-10", SIMCLR_CIFAR), 96: ("ImageNet, at the size of STL-10", SIMCLR_STL10)}
#: The recipe built up one transform after another.
STAGES: dict[str, dict[str, float]] = {
    "crop, resize, flip": {"jitter": 0.0, "grayscale": 0.0, "blur": 0.0},
    "jitter": {"grayscale": 0.0, "blur": 0.0},
    "grayscale": {"blur": 0.0},
    "blur": {},
}
OURS, PILLOW, KORNIA = "on the device", f"Pillow, {WORKERS} workers", "kornia's classes"


def crops(number: int, side: int) -> Tensor:
    """A data set of photographs' pieces, uint8 ``[image, 3, side, side]``."""
    photos = (images.photographs() * 255).round().to(torch.uint8)
    height, width = photos.shape[2:]
    rng = np.random.default_rng(0)
    tops, lefts = rng.integers(height - side, size=number), rng.integers(width - side, size=number)
    pieces = [
        photos[i % len(photos), :, t : t + side, s : s + side]
        for i, (t, s) in enumerate(zip(tops, lefts, strict=True))
    ]
    return torch.stack(pieces)


def device_batches(
    data: Tensor, augmentation: Augmentation, batch_size: int, number: int
) -> Callable[[], None]:
    """The next so many batches of two views, as the library's trainer gets them."""
    unused = FixedPairs(*(torch.zeros(1, 3, *data.shape[2:]) for _ in range(2)))
    source, steps = AugmentedPairs(data, augmentation, batch_size, 0, unused), itertools.count()

    def call() -> None:
        for _ in range(number):
            source.batch(next(steps))

    return call


def kornia_recipe(augmentation: Augmentation, side: int) -> nn.Sequential:
    """The same recipe of kornia's classes, in the faster one of its ways to crop."""
    spread = [augmentation.strength * x for x in (0.8, 0.8, 0.8, 0.2)]
    steps = [
        kornia.RandomResizedCrop(
            (side, side), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), cropping_mode="slice"
        ),
        kornia.RandomHorizontalFlip(0.5),
        kornia.ColorJitter(*spread, p=augmentation.jitter),
        kornia.RandomGrayscale(p=augmentation.grayscale),
    ]
    if augmentation.blur:
        taps = 2 * (int(0.1 * side) // 2) + 1
        steps.append(kornia.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=augmentation.blur))
    return nn.Sequential(*steps)


def kornia_batches(
    data: Tensor, augmentation: Augmentation, batch_size: int, number: int
) -> Callable[[], None]:
    """So many batches of two views."""
    recipe = kornia_recipe(augmentation, data.shape[-1])

    @torch.no_grad()
    def call() -> None:
        for _ in range(number):
            rows = torch.randint(len(data), (batch_size,), device=data.device)
            batch = data[rows].float().div_(255)
            recipe(batch), recipe(batch)

    return call


def usual_recipe(augmentation: Augmentation, side: int) -> Recipe:
    """The recipe of the Pillow pipeline."""
    chances = {name: getattr(augmentation, name) for name in ("strength", "jitter", "grayscale", "blur")}
    return Recipe(side, **chances)


def loader(data: Tensor, augmentation: Augmentation, batch_size: int) -> DataLoader:
    """Workers that stay, and do nothing between two passes over the data."""
    pixels = data.permute(0, 2, 3, 1).contiguous().numpy()
    return DataLoader(
        PairsOfViews(pixels, usual_recipe(augmentation, data.shape[-1])),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="fork",
    )


def one_pass(batches: DataLoader) -> None:
    with warnings.catch_warnings():
        # From Python 3.12 on it warns of forks in a process with threads, which is what DataLoaders do.
        warnings.simplefilter("ignore", DeprecationWarning)
        for _views in batches:
            pass


def augment(options: Options) -> None:
    """Batches of two views of 256 images."""
    batch_size = 16 if options.quick else 256
    heading("augment", f"two SimCLR views of batches of {batch_size} images, float32, in images per second")
    note(f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} CPU cores")
    note("Pillow as torchvision does it; two views of each image; workers started and warm")
    for side, (name, augmentation) in RECIPES.items():
        note(f"{side} × {side} pixels, recipe for {name}:")
        _rates(side, augmentation, batch_size, options)
        _stages(side, augmentation, options)


def _rates(side: int, augmentation: Augmentation, batch_size: int, options: Options) -> None:
    number = 2 if options.quick else 4
    data = crops(number * batch_size, side)
    batches = loader(data, augmentation, batch_size)
    one_pass(batches)  # starts the workers
    calls = {
        OURS: device_batches(data, augmentation, batch_size, number),
        PILLOW: lambda: one_pass(batches),
        KORNIA: kornia_batches(data, augmentation, batch_size, number),
    }
    timings = interleave(calls, options, rounds=2 if options.quick else 5)
    del calls[PILLOW], batches  # ends the workers
    _print_rates(timings, number * batch_size)
    verdict("  Pillow and DataLoader / on the device", timings.ratio(PILLOW, OURS), at_least=1)
    verdict("  kornia's classes / on the device", timings.ratio(KORNIA, OURS))


def _print_rates(timings: Timings, number: int) -> None:
    for name in (OURS, PILLOW, KORNIA):
        if name in timings.seconds:
            rate = number / timings[name].median
            per_view = 1e6 * timings[name].median / number / 2
            note(f"  {name:<20} {rate:>10.0f} images/s, {per_view:8.3g} µs for a view")


def _stages(side: int, augmentation: Augmentation, options: Options) -> None:
    """Microseconds of a view that each transform adds, here and in one process with Pillow."""
    number = 8 if options.quick else 256
    data = crops(number, side)
    seeds = itertools.count()
    calls: dict[str, Callable[[], object]] = {
        "draws": lambda: augmentation.draw(number, side, side, generator(next(seeds), "benchmark"))
    }
    names = [name for name in STAGES if name != "blur" or augmentation.blur]
    for name in names:
        calls |= _stage(name, augmentation.replace(**STAGES[name]), data)
    timings = interleave(calls, options, rounds=2 if options.quick else 3)
    note("  µs of a view that a transform adds: on the device; with Pillow, one process, its draws included")
    note(f"    {'draws':<20} {1e6 * timings['draws'].median / number:8.3g}")
    before = dict.fromkeys(("ours", "Pillow"), np.zeros(1))
    for name in names:
        added = []
        for who in before:
            now = timings.seconds[f"{name}, {who}"]
            added.append(1e6 * float(np.median(now - before[who])) / number)
            before[who] = now
        note(f"    {name:<20} {added[0]:8.3g} {added[1]:8.3g}")


def _stage(name: str, recipe: Augmentation, data: Tensor) -> dict[str, Callable[[], object]]:
    side = data.shape[-1]
    draws = recipe.draw(len(data), side, side, 0)
    pillow = PairsOfViews(data.permute(0, 2, 3, 1).contiguous().numpy(), usual_recipe(recipe, side))
    return {
        f"{name}, ours": lambda: recipe.apply(data, draws),
        # An item is two views, so half of the items.
        f"{name}, Pillow": lambda: [pillow[i] for i in range(len(data) // 2)],
    }


def augment_cuda(options: Options, device: str = "cuda") -> None:
    """The same on a GPU, where the data set lies, against kornia's classes there."""
    if device == "cuda" and not torch.cuda.is_available():
        print("\n== augment_cuda: skipped, since torch sees no GPU here")
        return
    sizes = (16,) if options.quick else (256, 2048)
    heading("augment_cuda", "two SimCLR views of batches of images, float32, in images per second", device)
    for side, (name, augmentation) in RECIPES.items():
        for batch_size in sizes:
            data = crops(2 * batch_size, side).to(device)
            calls = {
                OURS: device_batches(data, augmentation, batch_size, 1),
                KORNIA: kornia_batches(data, augmentation, batch_size, 1),
            }
            timings = interleave(calls, options, device=device)
            note(f"{side} × {side} pixels, recipe for {name}, batches of {batch_size}:")
            _print_rates(timings, batch_size)
            verdict("  kornia's classes / on the device", timings.ratio(KORNIA, OURS))
            host = clock(lambda a=augmentation, s=side, b=batch_size: a.draw(b, s, s, 0), 5)
            note(f"  drawing on the host takes {1e3 * host:.2f} ms for a view of each image of the batch")
