"""Positive pairs for self-supervised learning: two views of each image, by training step.

What a step sees is a function of (seed, step) and of the data, so a training that resumes needs no state of a
random generator. Every source keeps its data on one device and makes its views there; what is random is drawn
on the CPU, so that it is the same on CPU and CUDA.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from learndyn.core.augment import Augmentation, Images, onto
from learndyn.core.device import generator
from learndyn.core.errors import PlainError

Views = tuple[Shaped[Tensor, "*pairs"], Shaped[Tensor, "*pairs"]]


class PairsError(PlainError):
    """Data of which the wanted pairs cannot be made."""


@runtime_checkable
class PairSource(Protocol):
    """Where a trainer gets its two views from.

    ``identity`` says in one line which data these are (parameters and a hash of the content); it belongs into
    the identity of a checkpoint. ``runs`` is the length of the run axis of the views, None if all runs share
    them.
    """

    @property
    def identity(self) -> str:
        """The parameters and a hash of the content, the same on any device."""

    @property
    def runs(self) -> int | None:
        """Length of the views' run axis; None if they have none."""

    def to(self, device: torch.device | str) -> PairSource:
        """The same pairs on another device."""

    def select(self, runs: Sequence[int]) -> PairSource:
        """Only these runs; the source itself if its pairs are shared by all."""

    def batch(self, step: int) -> Views:
        """The views of this training step."""

    def evaluation(self) -> Views:
        """The views on which spectra are logged, the same at every step."""


@dataclass(frozen=True, eq=False)
class FixedPairs:
    """Pairs that were drawn once and are kept: every step sees all of them.

    Both views are [pair, input] or [pair, channel, height, width], or the same with a leading run axis.

    Raises:
        PairsError: views of other or different shapes.
    """

    view_a: Shaped[Tensor, "..."]
    view_b: Shaped[Tensor, "..."]

    def __post_init__(self) -> None:
        if self.view_a.shape != self.view_b.shape:
            raise PairsError(
                f"the two views have different shapes, {_shape(self.view_a)} and {_shape(self.view_b)}"
            )
        if not 2 <= self.view_a.ndim <= 5:
            raise PairsError(
                "views are [pair, input] or [pair, channel, height, width], with or without a leading run "
                f"axis, not {_shape(self.view_a)}"
            )

    @property
    def runs(self) -> int | None:
        """Length of the run axis; None if the pairs are shared by all runs."""
        return self.view_a.shape[0] if self.view_a.ndim in (3, 5) else None

    @property
    def pairs(self) -> int:
        """Number of pairs (of each run)."""
        return self.view_a.shape[0 if self.runs is None else 1]

    @cached_property
    def identity(self) -> str:
        """Shape and content."""
        return f"FixedPairs({_shape(self.view_a)}, {_content(self.view_a, self.view_b)})"

    def to(self, device: torch.device | str) -> FixedPairs:
        """The same pairs on another device."""
        return FixedPairs(self.view_a.to(device), self.view_b.to(device))

    def select(self, runs: Sequence[int]) -> FixedPairs:
        """The pairs of these runs; all pairs if they are shared."""
        if self.runs is None:
            return self
        rows = torch.as_tensor(list(runs), dtype=torch.int64, device=self.view_a.device)
        return FixedPairs(self.view_a[rows], self.view_b[rows])

    def batch(self, step: int) -> Views:
        """All pairs."""
        return self.view_a, self.view_b

    def evaluation(self) -> Views:
        """All pairs."""
        return self.view_a, self.view_b


StreamT = TypeVar("StreamT", bound="_Stream")


class _Stream:
    """What sources share that take other images at every step: pairs that are common to all runs."""

    images: Tensor
    batch_size: int
    seed: int
    evaluation_pairs: FixedPairs

    def __post_init__(self) -> None:
        _check_source(len(self.images), self.batch_size, self.evaluation_pairs)

    @property
    def runs(self) -> None:
        """None: the pairs are shared by all runs."""
        return None

    @cached_property
    def identity(self) -> str:
        """Parameters and content."""
        return (
            f"{type(self).__name__}({_shape(self.images)}, {_content(self.images)}, {self._views}, "
            f"batch_size={self.batch_size}, seed={self.seed}, {self.evaluation_pairs.identity})"
        )

    @property
    def _views(self) -> str:
        """How views are made of an image, as text."""
        raise NotImplementedError

    def to(self: StreamT, device: torch.device | str) -> StreamT:
        """The same pairs on another device."""
        return replace(self, images=self.images.to(device), evaluation_pairs=self.evaluation_pairs.to(device))

    def select(self: StreamT, runs: Sequence[int]) -> StreamT:
        """All pairs: they are shared by all runs."""
        return self

    def evaluation(self) -> Views:
        """The evaluation pairs."""
        return self.evaluation_pairs.evaluation()


@dataclass(frozen=True, eq=False)
class FreshNoisePairs(_Stream):
    """Other images at every step, each seen twice with its own Gaussian noise.

    An epoch goes through all images in random order, without those that do not fill a last batch.

    Raises:
        PairsError: more images in a batch than there are, or evaluation pairs with a run axis.
    """

    images: Float[Tensor, "image *feature"]
    noise_sd: float
    batch_size: int
    seed: int
    evaluation_pairs: FixedPairs

    @property
    def _views(self) -> str:
        return f"noise_sd={self.noise_sd!r}"

    def batch(self, step: int) -> Views:
        """The images of this step with two draws of the noise."""
        rows = batch_rows(len(self.images), self.batch_size, self.seed, step)
        chosen = self.images.index_select(0, onto(rows, self.images.device))
        pairs = noise_pairs(chosen, noise_sd=self.noise_sd, generator=generator(self.seed, "noise", step))
        return pairs.view_a, pairs.view_b


@dataclass(frozen=True, eq=False)
class AugmentedPairs(_Stream):
    """Other images of a data set at every step, each in two random views.

    The data set lies on the device, as uint8 if it came so, and is augmented there. An epoch goes through all
    images in random order, without those that do not fill a last batch.

    Raises:
        PairsError: more images in a batch than there are, or evaluation pairs with a run axis.
    """

    images: Images
    augmentation: Augmentation
    batch_size: int
    seed: int
    evaluation_pairs: FixedPairs

    @property
    def _views(self) -> str:
        return self.augmentation.to_json()

    def batch(self, step: int) -> Views:
        """Two random views of the images of this step."""
        rows = batch_rows(len(self.images), self.batch_size, self.seed, step)
        rng = generator(self.seed, "augmentation", step)
        return _two_views(self.images, rows, self.augmentation, rng)


def batch_rows(images: int, batch_size: int, seed: int, step: int) -> Int[Tensor, " row"]:
    """Which images a step sees: each epoch is another permutation, cut into batches, the rest dropped."""
    epoch, position = divmod(step, images // batch_size)
    return _permutation(images, seed, epoch)[position * batch_size : (position + 1) * batch_size]


@functools.lru_cache(maxsize=8)  # of 105,000 images it takes longer than the rest of a small step
def _permutation(images: int, seed: int, epoch: int) -> Int[Tensor, " image"]:
    return torch.randperm(images, generator=generator(seed, "epoch", epoch))


def noise_pairs(
    images: Float[Tensor, "image *feature"], *, noise_sd: float, generator: torch.Generator
) -> FixedPairs:
    """Each image twice, with independent Gaussian noise of standard deviation ``noise_sd`` in every pixel.

    Args:
        generator: on the CPU.
    """
    noise = onto(
        torch.randn(2, *images.shape, generator=generator, dtype=images.dtype).mul_(noise_sd), images.device
    )
    return FixedPairs(images + noise[0], images + noise[1])


def crop_pairs(
    images: Float[Tensor, "photo channel height width"],
    *,
    pairs: int,
    patch: int,
    crop: int,
    generator: torch.Generator,
) -> FixedPairs:
    """Two overlapping pieces of photographs: two random crops of the same random patch (no resizing).

    Patch i is ``patch`` × ``patch`` pixels somewhere in photo i mod len(images); its two views are two
    independent ``crop`` × ``crop`` pieces of it. All places are equally likely.

    Args:
        generator: on the CPU.

    Raises:
        PairsError: a patch larger than the photographs, or a crop larger than the patch.
    """
    photos, _, height, width = images.shape
    if not 1 <= crop <= patch <= min(height, width):
        raise PairsError(
            f"a crop of {crop} pixels out of a patch of {patch} pixels does not fit photographs of "
            f"{height} × {width}: it takes 1 ≤ crop ≤ patch ≤ {min(height, width)}"
        )
    photo = torch.arange(pairs) % photos
    top = torch.randint(height - patch + 1, (pairs,), generator=generator)
    left = torch.randint(width - patch + 1, (pairs,), generator=generator)
    within = torch.randint(patch - crop + 1, (2, 2, pairs), generator=generator)
    span = torch.arange(crop)

    def view(offset: Int[Tensor, "2 pair"]) -> Float[Tensor, "pair channel crop crop"]:
        rows = (top + offset[0])[:, None, None] + span[:, None]
        columns = (left + offset[1])[:, None, None] + span
        index = (onto(part, images.device) for part in (photo[:, None, None], rows, columns))
        return images.movedim(1, -1)[tuple(index)].movedim(-1, 1).contiguous()

    return FixedPairs(view(within[0]), view(within[1]))


def augmented_pairs(
    images: Images, augmentation: Augmentation, *, pairs: int, generator: torch.Generator
) -> FixedPairs:
    """Two random views of so many different images, drawn once: say, to log spectra on.

    Args:
        generator: on the CPU.

    Raises:
        PairsError: more pairs than images.
    """
    if pairs > len(images):
        raise PairsError(f"{pairs} pairs were asked for, but there are only {len(images)} images")
    rows = torch.randperm(len(images), generator=generator)[:pairs]
    return FixedPairs(*_two_views(images, rows, augmentation, generator))


def shuffled_pairs(pairs: FixedPairs, generator: torch.Generator) -> FixedPairs:
    """The same views, but the second one belongs to a random other image (of the same run): a control.

    Args:
        generator: on the CPU.
    """
    view_b = pairs.view_b if pairs.runs is not None else pairs.view_b[None]
    shuffled = torch.stack(
        [view[onto(torch.randperm(len(view), generator=generator), view.device)] for view in view_b]
    )
    return FixedPairs(pairs.view_a, shuffled if pairs.runs is not None else shuffled[0])


def stack_pairs(pairs: Sequence[FixedPairs]) -> FixedPairs:
    """Own pairs for each run: a leading run axis.

    Raises:
        PairsError: no pairs, pairs of different shapes, or pairs that have a run axis.
    """
    shapes = sorted({_shape(one.view_a) for one in pairs})
    if len(shapes) != 1 or pairs[0].runs is not None:
        raise PairsError(
            f"only pairs of one shape and without runs can be stacked, not {', '.join(shapes) or 'none'}"
        )
    return FixedPairs(torch.stack([one.view_a for one in pairs]), torch.stack([one.view_b for one in pairs]))


def _two_views(
    images: Images, rows: Int[Tensor, " row"], augmentation: Augmentation, rng: torch.Generator
) -> Views:
    twice = onto(rows.repeat(2), images.device)  # one pass for both views: half as many kernels to launch
    views = augmentation(images.index_select(0, twice), rng)
    return views[: len(rows)], views[len(rows) :]


def _check_source(images: int, batch_size: int, evaluation_pairs: FixedPairs) -> None:
    if not 1 <= batch_size <= images:
        raise PairsError(f"batch_size must be from 1 to the number of images, {images}, not {batch_size}")
    if evaluation_pairs.runs is not None:
        raise PairsError("pairs that all runs share need evaluation pairs without a run axis")


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _content(*tensors: Tensor) -> str:
    """Hash of the values, the same on any device."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().to("cpu").contiguous().view(torch.uint8).numpy())
    return f"sha256={digest.hexdigest()}"
