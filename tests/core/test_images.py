"""Image data sets: embedded ones against plain loops, published ones as tiny archives of the same format."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

RNG = np.random.default_rng(0)


def _pictures(count: int, side: int) -> np.ndarray:
    """Images as people have them: [image, row, column, colour]."""
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def _by_rows(picture: np.ndarray) -> bytes:
    """One image as the CIFAR page describes it: the red plane row by row, then green, then blue."""
    image = Image.fromarray(picture)
    return b"".join(band.tobytes() for band in image.split())


def _by_columns(picture: np.ndarray) -> bytes:
    """One image as the STL-10 page describes it: the red plane column by column, then green, then blue."""
    side = len(picture)
    out = bytearray()
    for colour in range(3):
        for column in range(side):
            for row in range(side):
                out.append(picture[row, column, colour])
    return bytes(out)


def _expected(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def _pack(path: Path, folder: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


class Tiny:
    """A data set of the same format with few images: its pictures, its labels, its archive on a server."""

    def __init__(self, kind: str, folder: Path, url: str) -> None:
        from learndyn.core import images
        from learndyn.core.images import Part

        self.folder = folder
        if kind == "cifar10":
            self.real, self.load = images.CIFAR10, images.cifar10
            names = {"train": ["data_batch_2.bin", "data_batch_1.bin"], "test": ["test_batch.bin"]}
            splits = {k: tuple(Part(n, 4, label_bytes=1) for n in v) for k, v in names.items()}
            self.pictures = {n: _pictures(4, 32) for v in names.values() for n in v}
            self.labels = {n: RNG.integers(0, 10, 4) for n in self.pictures}
            self.files = {
                n: b"".join(bytes([y]) + _by_rows(x) for x, y in zip(p, self.labels[n], strict=True))
                for n, p in self.pictures.items()
            }
        elif kind == "cifar100":
            self.real, self.load = images.CIFAR100, images.cifar100
            splits = {k: (Part(f"{k}.bin", 6, label_bytes=2),) for k in ("train", "test")}
            self.pictures = {f"{k}.bin": _pictures(6, 32) for k in splits}
            self.labels = {n: RNG.integers(0, 100, 6) for n in self.pictures}
            self.files = {
                n: b"".join(bytes([y // 5, y]) + _by_rows(x) for x, y in zip(p, self.labels[n], strict=True))
                for n, p in self.pictures.items()
            }
        else:
            self.real, self.load = images.STL10, images.stl10
            train, unlabeled = Part("train_X.bin", 3, labels="train_y.bin"), Part("unlabeled_X.bin", 5)
            splits = {"train": (train,), "test": (Part("test_X.bin", 2, labels="test_y.bin"),)}
            splits |= {"unlabeled": (unlabeled,), "train+unlabeled": (train, unlabeled)}
            counts = {"test_X.bin": 2, "train_X.bin": 3, "unlabeled_X.bin": 5}
            self.pictures = {n: _pictures(count, 96) for n, count in counts.items()}
            self.labels = {n: RNG.integers(0, 10, count) for n, count in counts.items()}
            self.files = {n: b"".join(map(_by_columns, p)) for n, p in self.pictures.items()}
            self.files |= {
                n.replace("_X", "_y"): bytes(int(y) + 1 for y in self.labels[n])
                for n in ("train_X.bin", "test_X.bin")
            }
        folder.mkdir()
        self.path = folder / self.real.archive.file
        _pack(self.path, self.real.archive.folder, self.files | {"readme.html": b"<html>"})
        content = self.path.read_bytes()
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        archive = replace(
            self.real.archive, url=f"{url}/{self.path.name}", checksum=checksum, size=len(content)
        )
        self.source = replace(self.real, archive=archive, splits=splits)

    def unpack(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


@pytest.fixture(params=["cifar10", "cifar100", "stl10"])
def tiny(request, tmp_path, monkeypatch) -> Iterator[Tiny]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Tiny(request.param, tmp_path / "served", f"http://127.0.0.1:{http.server_port}")
        finally:
            http.shutdown()
            thread.join()


def _data_error():
    from learndyn.core.images import DataError

    return DataError


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("where", ["download", "archive", "unpacked", "the folder"])
def test_images_and_labels_arrive_as_they_were(tiny, tmp_path, split, where):
    if where == "download":
        options = {"cache": tmp_path / "cache"}
    elif where == "archive":
        options = {"directory": tiny.folder}
    else:
        tiny.unpack(tmp_path / "data" / (tiny.real.archive.folder if where == "unpacked" else ""))
        options = {"directory": tmp_path / "data"}
    found = tiny.load(split, source=tiny.source, **options)
    names = [part.file for part in tiny.source.splits[split]]
    assert found.images.dtype == torch.uint8
    assert torch.equal(found.images, torch.cat([_expected(tiny.pictures[n]) for n in names]))
    assert found.labels.tolist() == [int(y) for n in names for y in tiny.labels[n]]
    assert len(found) == len(found.labels)
    assert found.name == f"{tiny.real.name} {split}"
    if where != "download":
        assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("chunk", [1, 40_000])
def test_the_size_of_the_chunks_does_not_matter(tiny, monkeypatch, chunk):
    from learndyn.core import images

    whole = tiny.load("train", tiny.folder, source=tiny.source)
    monkeypatch.setattr(images, "_CHUNK", chunk)
    pieces = tiny.load("train", tiny.folder, source=tiny.source)
    assert torch.equal(whole.images, pieces.images)
    assert torch.equal(whole.labels, pieces.labels)


@pytest.mark.parametrize("tiny", ["cifar100"], indirect=True)
def test_coarse_labels(tiny):
    found = tiny.load("test", tiny.folder, labels="coarse", source=tiny.source)
    assert found.labels.tolist() == [int(y) // 5 for y in tiny.labels["test.bin"]]
    assert len(found.classes) == 20
    with pytest.raises(_data_error(), match="CIFAR-100 has 'fine' and 'coarse' labels, not 'super'"):
        tiny.load("test", tiny.folder, labels="super", source=tiny.source)


@pytest.mark.parametrize("tiny", ["stl10"], indirect=True)
def test_unlabeled_images(tiny):
    unlabeled = tiny.load("unlabeled", tiny.folder, source=tiny.source)
    assert unlabeled.labels is None
    assert unlabeled.subset([1, 0]).labels is None
    assert unlabeled.to("cpu").labels is None
    assert torch.equal(unlabeled.images, _expected(tiny.pictures["unlabeled_X.bin"]))
    both = tiny.load("train+unlabeled", tiny.folder, source=tiny.source)
    train = tiny.load("train", tiny.folder, source=tiny.source)
    assert torch.equal(both.images, torch.cat([train.images, unlabeled.images]))
    assert both.labels.tolist() == [*train.labels.tolist(), -1, -1, -1, -1, -1]


def test_an_unknown_split(tiny):
    with pytest.raises(_data_error(), match=rf"{tiny.real.name} has the splits train, test.*, not 'valid'"):
        tiny.load("valid", tiny.folder, source=tiny.source)


def test_a_directory_without_the_files(tiny, tmp_path):
    with pytest.raises(
        _data_error(), match=f"has neither {tiny.path.name} nor.* the files .*{tiny.real.archive.url[-9:]}"
    ):
        tiny.load("train", tmp_path, source=replace(tiny.source, archive=tiny.real.archive))


def test_an_unpacked_file_that_is_too_short(tiny, tmp_path):
    tiny.unpack(tmp_path / "data")
    name = tiny.source.splits["test"][0].file
    (tmp_path / "data" / name).write_bytes(tiny.files[name][:-1])
    with pytest.raises(_data_error(), match=f"{name} in .* has [0-9,]+ bytes and should have"):
        tiny.load("test", tmp_path / "data", source=tiny.source)


def test_labels_that_cannot_be(tiny, tmp_path):
    tiny.unpack(tmp_path / "data")
    part = tiny.source.splits["test"][0]
    name = part.labels or part.file
    spoiled = bytearray(tiny.files[name])
    spoiled[part.label_bytes - 1 if part.label_bytes else 0] = 200
    (tmp_path / "data" / name).write_bytes(spoiled)
    with pytest.raises(_data_error(), match=f"{name} in .* is not of {tiny.real.name}: it has the label 200"):
        tiny.load("test", tmp_path / "data", source=tiny.source)


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_corrupt_archive_is_not_used(tiny, damage):
    content = bytearray(tiny.path.read_bytes())
    if damage == "cut":
        del content[-20:]
    else:
        content[len(content) // 2] ^= 4
    tiny.path.write_bytes(content)
    with pytest.raises(_data_error(), match=r"is corrupt or incomplete \(expected .*, got .*\); remove it"):
        tiny.load("train", tiny.folder, source=tiny.source)


def test_damage_that_the_checksum_covers_is_still_one_sentence(tiny):
    """A source whose pinned checksum is of a truncated archive."""
    content = tiny.path.read_bytes()[:-2000]
    tiny.path.write_bytes(content)
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    archive = replace(tiny.source.archive, size=len(content), checksum=checksum)
    last = list(tiny.source.splits)[1]
    if tiny.real.name == "STL-10":
        last = "unlabeled"
    with pytest.raises(_data_error(), match="cannot be read to the end"):
        tiny.load(last, tiny.folder, source=replace(tiny.source, archive=archive))


def test_the_progress_bar_leaves_nothing(tiny, capfd):
    tiny.load("train", tiny.folder, source=tiny.source)
    assert capfd.readouterr() == ("", "")
    tiny.load("train", tiny.folder, source=tiny.source, progress=True)
    out, err = capfd.readouterr()
    assert not out
    assert err
    assert not err.split("\r")[-1].strip()


PUBLISHED = {  # data set: split, file, bytes, images; as the pages of the data sets say
    "cifar10": ("test", "test_batch.bin", 30_730_000, 10_000, 3 * 32 * 32),
    "cifar100": ("test", "test.bin", 30_740_000, 10_000, 3 * 32 * 32),
    "stl10": ("train", "train_X.bin", 138_240_000, 5_000, 3 * 96 * 96),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_of_the_published_sizes_are_accepted(tmp_path, name):
    from learndyn.core import images

    split, file, size, count, pixels = PUBLISHED[name]
    with (tmp_path / file).open("wb") as sparse:
        sparse.truncate(size)
    (tmp_path / "train_y.bin").write_bytes(b"\x01" * 5000)
    tracemalloc.start()
    found = getattr(images, name)(split, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.images.shape[0] == count
    assert found.images[0].numel() == pixels
    assert not found.images.any()
    assert not found.labels.any()
    assert peak < 20 * 2**20  # what is not in the tensor itself


def test_published_numbers():
    from learndyn.core import images

    for source, images_in in (
        (images.CIFAR10, {"train": 50_000, "test": 10_000}),
        (images.CIFAR100, {"train": 50_000, "test": 10_000}),
        (images.STL10, {"train": 5_000, "test": 8_000, "unlabeled": 100_000, "train+unlabeled": 105_000}),
    ):
        assert {k: sum(part.count for part in v) for k, v in source.splits.items()} == images_in
        assert source.archive.url.endswith(source.archive.file)
        for names in source.classes:
            assert len(set(names)) == len(names)
            assert list(names) == sorted(names)
    assert [len(names) for names in images.CIFAR100.classes] == [20, 100]


def test_digits():
    from learndyn.core import images

    found, published = images.digits(), load_digits()
    assert found.images.shape == (1797, 1, 8, 8)
    assert np.array_equal(found.images[:, 0].numpy() * 16, published.images)
    assert found.labels.tolist() == published.target.tolist()
    assert found.classes[3] == "3"
    assert found.as_float() is found.images


@pytest.mark.parametrize(("downscale", "size"), [(1, (427, 640)), (4, (106, 160)), (100, (4, 6))])
def test_photographs_are_block_averages(downscale, size):
    from learndyn.core import images

    found = images.photographs(downscale)
    assert found.dtype == torch.float32
    assert found.shape == (2, 3, *size)
    for photo, published in zip(found, load_sample_images().images, strict=True):
        for row, column in ((0, 0), (size[0] - 1, size[1] - 1), (1, 2)):
            rows = slice(row * downscale, (row + 1) * downscale)
            columns = slice(column * downscale, (column + 1) * downscale)
            mean = published[rows, columns].astype(float).mean(axis=(0, 1)) / 255
            np.testing.assert_allclose(photo[:, row, column].numpy(), mean, rtol=1e-6)


@pytest.mark.parametrize("downscale", [0, -1, 428])
def test_photographs_of_no_size(downscale):
    from learndyn.core import images

    with pytest.raises(_data_error(), match=f"averaged down by 1 to 427, not by {downscale}"):
        images.photographs(downscale)


@pytest.mark.parametrize("indices", [[3, 1], torch.tensor([3, 1]), slice(3, 0, -2)])
def test_subsets(indices):
    from learndyn.core import images

    if isinstance(indices, slice):  # tensors take no negative steps
        indices = slice(1, 4, 2)
    found = images.digits().subset(indices)
    order = [1, 3] if isinstance(indices, slice) else [3, 1]
    every = images.digits()
    assert torch.equal(found.images, torch.stack([every.images[i] for i in order]))
    assert found.labels.tolist() == [int(every.labels[i]) for i in order]
    assert found.classes == every.classes


def test_as_float_and_devices():
    from learndyn.core import images

    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    found = images.ImageSet(pixels, None, (), "ramp")
    assert found.as_float().dtype == torch.float32
    np.testing.assert_allclose(found.as_float().flatten().numpy(), np.arange(256) / 255, rtol=1e-7)
    moved = images.digits().to("meta")
    assert moved.images.device.type == moved.labels.device.type == "meta"
