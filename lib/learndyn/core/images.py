"""Image data sets that live on the device: one uint8 (or float32) tensor with its labels, no loader.

Embedded with scikit-learn and there without a network: `digits`, `photographs`. Published archives,
downloaded once or read from a directory of the user: `cifar10`, `cifar100` (Krizhevsky 2009, "Learning
Multiple Layers of Features from Tiny Images", the binary versions) and `stl10` (Coates, Ng & Lee 2011, "An
Analysis of Single-Layer Networks in Unsupervised Feature Learning").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from learndyn.core.archives import READ_ERRORS, Archive, DataError, locate, open_files
from learndyn.core.downloads import fetch
from learndyn.core.ensemble import progress_bar

_CHUNK = 2**23  # bytes read at a time


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Args:
        images: ``[image, channel, height, width]``, uint8 (0 … 255) or float32 (0 … 1).
        labels: indices into ``classes``, int64; −1 for an unlabelled image, None if all are.
        classes: names.
        name: of the data set and the split.
    """

    images: UInt8[Tensor, "image channel height width"] | Float32[Tensor, "image channel height width"]
    labels: Int[Tensor, " image"] | None
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> ImageSet:
        """The same on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), labels=labels)

    def subset(self, indices: Sequence[int] | Int[Tensor, " chosen"] | slice) -> ImageSet:
        """These images, in this order."""
        if not isinstance(indices, slice):
            indices = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, images=self.images[indices], labels=labels)

    def as_float(self) -> Float32[Tensor, "image channel height width"]:
        """The images as float32 between 0 and 1 (four times the memory of uint8)."""
        return self.images.float() / 255 if self.images.dtype == torch.uint8 else self.images


@dataclass(frozen=True)
class Part:
    """One file of images: records of ``label_bytes`` bytes and the pixels ``[channel, height, width]``.

    Args:
        labels: a file of its own with one byte per image, if there is one.
    """

    file: str
    count: int
    label_bytes: int = 0
    labels: str | None = None


@dataclass(frozen=True)
class ImageSource:
    """Where a data set is published and how its files are laid out.

    Args:
        shape: of an image, (channel, height, width).
        splits: the files of each split, in order.
        classes: names, for each labelling (the label bytes of a record, in order).
        first_label: the number of the first class.
        column_major: the pixels of a channel come column by column.
    """

    name: str
    archive: Archive
    shape: tuple[int, int, int]
    splits: Mapping[str, tuple[Part, ...]]
    classes: tuple[tuple[str, ...], ...] = field(repr=False)
    first_label: int = 0
    column_major: bool = False


CIFAR10 = ImageSource(
    name="CIFAR-10",
    archive=Archive(
        file="cifar-10-binary.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        checksum="sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        size=170_052_171,
        folder="cifar-10-batches-bin",
    ),
    shape=(3, 32, 32),
    splits={
        "train": tuple(Part(f"data_batch_{i}.bin", 10_000, label_bytes=1) for i in range(1, 6)),
        "test": (Part("test_batch.bin", 10_000, label_bytes=1),),
    },
    classes=(("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),),
)

_SUPERCLASSES = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
    household_furniture insects large_carnivores large_man-made_outdoor_things
    large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals non-insect_invertebrates
    people reptiles small_mammals trees vehicles_1 vehicles_2
"""
_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
    palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
    rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
    sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""

CIFAR100 = ImageSource(
    name="CIFAR-100",
    archive=Archive(
        file="cifar-100-binary.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        checksum="sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        size=168_513_733,
        folder="cifar-100-binary",
    ),
    shape=(3, 32, 32),
    splits={
        "train": (Part("train.bin", 50_000, label_bytes=2),),
        "test": (Part("test.bin", 10_000, label_bytes=2),),
    },
    classes=(tuple(_SUPERCLASSES.split()), tuple(_CLASSES.split())),
)

_STL10_TRAIN = Part("train_X.bin", 5_000, labels="train_y.bin")
_STL10_UNLABELED = Part("unlabeled_X.bin", 100_000)

STL10 = ImageSource(
    name="STL-10",
    archive=Archive(
        file="stl10_binary.tar.gz",
        url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        checksum="sha256:f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        size=2_640_397_119,
        folder="stl10_binary",
    ),
    shape=(3, 96, 96),
    splits={
        "train": (_STL10_TRAIN,),
        "test": (Part("test_X.bin", 8_000, labels="test_y.bin"),),
        "unlabeled": (_STL10_UNLABELED,),
        "train+unlabeled": (_STL10_TRAIN, _STL10_UNLABELED),
    },
    classes=(("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),),
    first_label=1,
    column_major=True,
)


def digits() -> ImageSet:
    """scikit-learn's 1797 handwritten digits, 8×8, one channel: grey values 0 … 16 divided by 16, float32."""
    found = load_digits()
    images = torch.from_numpy(found.images).float()[:, None] / 16
    return ImageSet(images, torch.from_numpy(found.target).long(), tuple("0123456789"), "digits")


def photographs(downscale: int = 1) -> Float[Tensor, "photo channel height width"]:
    """scikit-learn's two colour photographs (427×640), a Chinese temple and a flower, float32 from 0 to 1.

    Args:
        downscale: each ``downscale`` × ``downscale`` block becomes its mean; a remainder at the bottom and at
            the right is left out (4 gives 106×160).

    Raises:
        DataError: a ``downscale`` below 1 or above the height.
    """
    photos = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
    if not 1 <= downscale <= photos.shape[2]:
        raise DataError(f"photographs can be averaged down by 1 to {photos.shape[2]}, not by {downscale}")
    return (functional.avg_pool2d(photos.double(), downscale) / 255).float()


def cifar10(
    split: str = "train",
    directory: Path | str | None = None,
    *,
    download: bool = True,
    progress: bool = False,
    cache: Path | str | None = None,
    source: ImageSource = CIFAR10,
) -> ImageSet:
    """CIFAR-10: 50,000 training or 10,000 test images of 10 classes, uint8, 3×32×32.

    Args:
        split: ``"train"`` or ``"test"``.
        directory: a folder with the archive or with its unpacked files; with it, nothing is downloaded.
        download: download the archive (170 MB) if it is not in the cache.
        progress: show bars.
        cache: folder of downloads; None means `core.downloads.default_cache`.
        source: what is published where.

    Raises:
        DataError: an unknown split, no such files, a corrupt or wrong archive, a failed download.
    """
    return _load(source, split, directory, download=download, progress=progress, cache=cache)


def cifar100(
    split: str = "train",
    directory: Path | str | None = None,
    *,
    labels: str = "fine",
    download: bool = True,
    progress: bool = False,
    cache: Path | str | None = None,
    source: ImageSource = CIFAR100,
) -> ImageSet:
    """CIFAR-100: as `cifar10`, with 100 classes (``labels="fine"``) in 20 superclasses (``"coarse"``).

    Raises:
        DataError: as `cifar10`; unknown ``labels``.
    """
    labellings = {"coarse": 0, "fine": 1}
    if labels not in labellings:
        raise DataError(f"{source.name} has 'fine' and 'coarse' labels, not {labels!r}")
    labelling = labellings[labels]
    return _load(
        source, split, directory, labelling=labelling, download=download, progress=progress, cache=cache
    )


def stl10(
    split: str = "train",
    directory: Path | str | None = None,
    *,
    download: bool = True,
    progress: bool = False,
    cache: Path | str | None = None,
    source: ImageSource = STL10,
) -> ImageSet:
    """STL-10: 5,000 training and 8,000 test images of 10 classes, 100,000 unlabelled ones, uint8, 3×96×96.

    The unlabelled images take 2.8 GB of memory, and no more while they are read.

    Args:
        split: ``"train"``, ``"test"``, ``"unlabeled"`` (no labels) or ``"train+unlabeled"`` (labels −1 for
            the unlabelled ones, which come last).
        directory: as for `cifar10`; so are the others. The archive has 2.6 GB.

    Raises:
        DataError: as `cifar10`.
    """
    return _load(source, split, directory, download=download, progress=progress, cache=cache)


def _load(
    source: ImageSource,
    split: str,
    directory: Path | str | None,
    *,
    labelling: int = 0,
    download: bool,
    progress: bool,
    cache: Path | str | None,
) -> ImageSet:
    if split not in source.splits:
        raise DataError(f"{source.name} has the splits {', '.join(source.splits)}, not {split!r}")
    parts = source.splits[split]
    files = _file_sizes(source, parts)
    if directory is None:
        location = fetch(source.archive, cache=cache, download=download, progress=progress)
    else:
        location = locate(directory, source.archive, files)
    labelled = any(part.label_bytes or part.labels for part in parts)
    count = sum(part.count for part in parts)
    images = torch.empty(count, *source.shape, dtype=torch.uint8)
    labels = torch.full((count,), -1) if labelled else None
    classes = source.classes[labelling]
    with progress_bar(sum(files.values()), show=progress, unit="B") as bar:
        try:
            for name, stream in open_files(location, source.archive, files):
                _read_file(name, stream, source, parts, labelling, images, labels, bar)
        except READ_ERRORS as error:
            raise DataError(f"{location} cannot be read to the end ({error}); get it again") from error
    if labels is not None:
        _check_labels(source, parts, labels, len(classes), location)
    return ImageSet(images, labels, classes, f"{source.name} {split}")


def _file_sizes(source: ImageSource, parts: Sequence[Part]) -> dict[str, int]:
    """The files of some parts and how many bytes each has."""
    pixels = math.prod(source.shape)
    sizes = {part.file: part.count * (part.label_bytes + pixels) for part in parts}
    return sizes | {part.labels: part.count for part in parts if part.labels is not None}


def _read_file(
    name: str,
    stream: BufferedReader,
    source: ImageSource,
    parts: Sequence[Part],
    labelling: int,
    images: UInt8[Tensor, "image channel height width"],
    labels: Int[Tensor, " image"] | None,
    bar: tqdm,
) -> None:
    """Put one file's images or labels where they belong, a few MiB at a time."""
    part = next(part for part in parts if name in (part.file, part.labels))
    first = sum(earlier.count for earlier in parts[: parts.index(part)])
    pixels = name == part.file
    record = part.label_bytes + math.prod(source.shape) if pixels else 1
    buffer = np.empty((min(part.count, max(1, _CHUNK // record)), record), np.uint8)
    for start in range(first, first + part.count, len(buffer)):
        block = buffer[: first + part.count - start]
        _fill(memoryview(block).cast("B"), stream, name, bar)
        rows, values = slice(start, start + len(block)), torch.from_numpy(block)
        if pixels:
            block_images = values[:, part.label_bytes :].unflatten(1, source.shape)
            images[rows] = block_images.mT if source.column_major else block_images
        if labels is not None and (part.label_bytes or not pixels):
            labels[rows] = values[:, labelling].long() - source.first_label


def _fill(target: memoryview, stream: BufferedReader, name: str, bar: tqdm) -> None:
    filled = 0
    while filled < len(target):
        count = stream.readinto(target[filled:])
        if not count:
            raise EOFError(f"{name} ends too early")
        filled += count
        bar.update(count)


def _check_labels(
    source: ImageSource, parts: Sequence[Part], labels: Int[Tensor, " image"], classes: int, location: Path
) -> None:
    start = 0
    for part in parts:
        found = labels[start : start + part.count]
        start += part.count
        labelled = part.label_bytes or part.labels
        if labelled and not 0 <= int(found.min()) <= int(found.max()) < classes:
            odd = found[(found < 0) | (found >= classes)][0] + source.first_label
            raise DataError(
                f"{part.labels or part.file} in {location} is not of {source.name}: it has the label {odd}, "
                f"and labels go from {source.first_label} to {classes - 1 + source.first_label}"
            )
