"""Devices, precision and seeds. Nothing here changes torch's global random state."""

from __future__ import annotations

import hashlib
import json
import operator
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, SupportsIndex

import numpy as np
import torch
from pydantic import AfterValidator

from learndyn.core.errors import PlainError

_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


class DeviceError(PlainError):
    """A device or a precision that is not there; the message is one sentence that says what is."""


def pick_device(name: str = "auto") -> torch.device:
    """The torch device called `"auto"` (a GPU if there is one, or the CPU), `"cpu"`, `"cuda"` or `"cuda:1"`.

    Raises:
        DeviceError: an unknown name, or a GPU that this machine (or this build of torch) does not have.
    """
    if name == "cpu":
        return torch.device("cpu")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None:
        raise DeviceError(f"device {name!r} is not known; use 'auto', 'cpu', 'cuda' or 'cuda:<number>'")
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else f" (torch {torch.__version__} is built without CUDA)"
        raise DeviceError(
            f"device {name!r} was asked for, but there is no usable GPU{built}; use 'cpu' or 'auto'"
        )
    count = torch.cuda.device_count()
    if match[1] is not None and int(match[1]) >= count:
        raise DeviceError(f"device {name!r} was asked for, but the last GPU here is 'cuda:{count - 1}'")
    return torch.device(name)


def _usable(name: str) -> str:
    pick_device(name)
    return name


#: A field of a notebook's settings that `pick_device` must know on this machine. Not for configs that an
#: archive holds: another machine reads those, too.
Device = Annotated[str, AfterValidator(_usable)]


def describe_device(device: torch.device | str) -> str:
    """The device in words, for provenance: `NVIDIA H200 (140 GiB)`, `AMD EPYC 9B14, 2 threads`."""
    device = torch.device(device)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"
    return str(device)


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine() or "CPU"


def generator(
    seed: SupportsIndex, *stream: SupportsIndex | str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A random generator for one purpose: every different `stream` under one seed gives different numbers.

    `generator(seed, "weights", run)` and `generator(seed, "split", run)` do not share draws, and neither
    depends on how many others were made, so a run draws the same alone and within an ensemble. The words of
    the stream are hashed into a NumPy `SeedSequence`; `("a", 1)`, `("a", "1")` and `("a1",)` differ. Draws on
    the CPU and on CUDA differ for the same seed: draw on the CPU and move what must be equal on both. (torch
    keeps 32 bits of a CPU generator's seed, so among n streams two coincide with a chance of about n²/2³³.)

    Raises:
        ValueError: a negative seed.
        TypeError: a seed or a stream word that is neither whole number nor text.
    """
    seed = operator.index(seed)
    if seed < 0:
        raise ValueError(f"a seed is a whole number from 0 on, not {seed}")
    words = json.dumps([word if isinstance(word, str) else operator.index(word) for word in stream])
    key = np.frombuffer(hashlib.sha256(words.encode()).digest(), dtype="<u4")
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in key))
    return torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


def precision(name: str) -> torch.dtype:
    """The torch dtype of that name: float16, bfloat16, float32 or float64.

    Raises:
        DeviceError: any other name.
    """
    if name not in _DTYPES:
        raise DeviceError(f"precision {name!r} is not known; use {', '.join(_DTYPES)}")
    return _DTYPES[name]


def keep_freed_memory() -> None:
    """Let this process keep up to 60 MB of memory that tensors have freed, where the C library is glibc.

    glibc hands large blocks at the end of its heap back to the system and gets them again page by page, which
    takes a third of a step of an ensemble of small networks. What "large" is follows the largest block freed
    so far, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD), so it is enough to free one.
    """
    torch.empty(30 * 2**20, dtype=torch.uint8)  # never written to, so it takes no memory


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within the block, float32 matrix products may (`True`) or may not (`False`) use TF32; then as before.

    TF32 keeps 10 bits of mantissa (relative error 2⁻¹¹ ≈ 5e-4 per factor): a trainer allows it only where its
    science bears that. The switch is torch's own and holds for the whole process while the block runs; CPUs
    that have such products follow it too.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
