"""Devices, precision and independent streams of random numbers."""

import importlib
import itertools
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from learndyn.core import device
from learndyn.core.config import Config, ConfigError
from learndyn.core.device import DeviceError, describe_device, generator, pick_device, precision, tf32

ROOT = Path(__file__).parents[2]
WITH_DEVICE = [
    path for path in sorted((ROOT / "book").rglob("*.py")) if re.search(r"^device\b", path.read_text(), re.M)
]


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_pick_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 2)
    assert pick_device() == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(
        DeviceError, match=r"^device 'cuda:2' was asked for, but the last GPU here is 'cuda:1'$"
    ):
        pick_device("cuda:2")
    with_gpus(monkeypatch, 0)
    assert pick_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_missing_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with_gpus(monkeypatch, 0)
    with pytest.raises(
        DeviceError,
        match=rf"^device '{name}' was asked for, but there is no usable GPU.*; use 'cpu' or 'auto'$",
    ):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1x", "", "meta", "cpu:0"])
def test_unknown_device(name: str) -> None:
    with pytest.raises(DeviceError, match="is not known; use 'auto', 'cpu', 'cuda'"):
        pick_device(name)


def settings_of(notebook: Path) -> type[Config]:
    """The class whose `from_notebook` the notebook calls, found among the settings of its chapter."""
    name = re.search(r"(\w+)\.from_notebook\(globals\(\)\)", notebook.read_text())[1]
    for path in (ROOT / "lib/learndyn" / notebook.parent.name).rglob("settings_*.py"):
        module = ".".join(path.relative_to(ROOT / "lib").with_suffix("").parts)
        if hasattr(importlib.import_module(module), name):
            return getattr(importlib.import_module(module), name)
    raise AssertionError(f"no settings module has {name}")


@pytest.mark.parametrize("notebook", WITH_DEVICE, ids=lambda path: path.stem)
def test_notebooks_refuse_a_missing_device_with_their_parameters(
    monkeypatch: pytest.MonkeyPatch, notebook: Path
) -> None:
    settings = settings_of(notebook)
    with_gpus(monkeypatch, 0)
    for name in ("cuda", "cuda:1", "tpu"):
        with pytest.raises(DeviceError) as sentence:
            pick_device(name)
        with pytest.raises(ConfigError) as caught:
            settings.from_notebook({"device": name})
        assert str(caught.value) == f"{settings.__name__}.device = {name!r}: {sentence.value}"
    with pytest.raises(ConfigError, match=r"\.device = 0: must be text$"):
        settings.from_notebook({"device": 0})
    assert settings.from_notebook({"device": "auto"}).device == "auto"
    with_gpus(monkeypatch, 1)
    assert settings.from_notebook({"device": "cuda"}).device == "cuda"
    with pytest.raises(ConfigError, match=r"but the last GPU here is 'cuda:0'$"):
        settings.from_notebook({"device": "cuda:1"})


def test_describe_device(monkeypatch: pytest.MonkeyPatch) -> None:
    text = describe_device("cpu")
    assert text.endswith((" thread", " threads"))
    assert str(torch.get_num_threads()) in text
    assert "\n" not in text

    def no_file(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(device.Path, "read_text", no_file)
    assert len(describe_device(torch.device("cpu")).split(",")[0]) > 0
    assert describe_device("meta") == "meta"


def test_streams_are_reproducible_and_distinct() -> None:
    streams: list[tuple[int | str, ...]] = [
        (), (0,), (1,), ("0",), ("a", 1), ("a", "1"), ("a1",), ("a,1",), (0, 1), (1, 0), (2**32,), (0, 0),
    ]  # fmt: skip
    draws = {
        (seed, stream): torch.rand(16, generator=generator(seed, *stream))
        for seed, stream in itertools.product([0, 1, 2**40], streams)
    }
    for (first, a), (second, b) in itertools.combinations(draws.items(), 2):
        assert not torch.equal(a, b), f"{first} and {second} share their numbers"
    for (seed, stream), numbers in draws.items():
        assert torch.equal(numbers, torch.rand(16, generator=generator(seed, *stream)))


def test_streams_are_uncorrelated() -> None:
    n = 4096
    numbers = torch.stack([torch.randn(n, generator=generator(7, "weights", run)) for run in range(30)])
    correlation = torch.corrcoef(numbers) - torch.eye(30)
    assert correlation.abs().max() < 5 / n**0.5


def test_streams_stay_the_same_between_versions() -> None:
    assert generator(5).initial_seed() == 235163344899965107
    assert generator(5, "weights", 3).initial_seed() == 15529604939141719529
    assert generator(np.int64(5), "weights", np.int32(3)).initial_seed() == 15529604939141719529


def test_generator_leaves_the_global_state_alone() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]
    torch.rand(3, generator=generator(1, "x"))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])


def test_bad_seeds() -> None:
    with pytest.raises(ValueError, match=r"^a seed is a whole number from 0 on, not -1$"):
        generator(-1)


def test_precision() -> None:
    assert precision("float64") is torch.float64
    assert precision("bfloat16") is torch.bfloat16
    with pytest.raises(DeviceError, match=r"^precision 'double' is not known; use float16, .*float64$"):
        precision("double")


def test_tf32_is_restored_also_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    with tf32(True):
        assert torch.backends.cuda.matmul.allow_tf32
        with tf32(False):
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == before

    @tf32(True)
    def fails() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert torch.get_float32_matmul_precision() == before


_FAULTS = """
import resource, torch
from learndyn.core.device import keep_freed_memory
torch.set_num_threads(1)
keep_freed_memory()
for step in range(12):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(2**19) for _ in range(10)]  # 2 MiB each
    while tensors:
        tensors.pop()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back like that")
def test_freed_memory_is_kept() -> None:
    # Without it mostly above 3,000; but importing may free a large block, which keeps memory as well.
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000
