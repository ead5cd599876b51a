"""Results on disk: labelled arrays in netCDF with the config and the provenance that made them.

A file is written whole or not at all, and read only if it is whole, ours, and of the config asked for.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import torch
import xarray as xr

from learndyn.core.config import Config
from learndyn.core.device import describe_device
from learndyn.core.errors import PlainError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class RecordError(PlainError):
    """A results file that cannot be written, or is missing, damaged, not ours, or of another config."""


def provenance(
    config: Config, device: torch.device | str, wall_seconds: SupportsFloat
) -> dict[str, str | float]:
    """The birth certificate of a result, as attributes for its dataset: only text and numbers.

    Holds the config as one JSON text with its SHA-256 and class, the versions of learndyn (with the commit
    of its checkout, `-dirty` if the package differs from it, `unknown` outside one), torch, NumPy and Python,
    the device in words, the wall time in seconds and the UTC time of creation. A text that names no torch
    device is taken as those words (a sweep joins the devices of its parts).
    """
    return {
        "config": config.to_json(),
        "config_sha256": config.fingerprint(),
        "config_class": type(config).__name__,
        "learndyn_version": _version(),
        "learndyn_commit": _commit(Path(__file__).parents[1]),
        "torch_version": str(torch.__version__),
        "numpy_version": np.__version__,
        "python_version": platform.python_version(),
        "device": _device_in_words(device),
        "wall_seconds": float(wall_seconds),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save(dataset: xr.Dataset, path: Path | str) -> None:
    """Write a dataset that carries its `provenance` to a netCDF file, whole or not at all.

    The file appears under its name only when all of it is on the disk. Missing folders are made.

    Raises:
        RecordError: no provenance, an attribute that is neither text nor number, or a disk that is full or
            refuses; what was at `path` before is then still there, and nothing else.
    """
    path = Path(path)
    if not {"config", "config_sha256", "config_class"} <= dataset.attrs.keys():
        raise RecordError(
            f"{path} was not written: the dataset has no provenance; add provenance() to its attrs"
        )
    for owner, name, value in _attributes(dataset):
        if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | np.number):
            kind = type(value).__name__
            raise RecordError(
                f"{path} was not written: attribute {name!r} of {owner} is {kind}, not text or number"
            )
    # In memory first: on a full disk HDF5 itself does not fail cleanly, it can take the process down with it.
    content = dataset.to_netcdf(None, engine="h5netcdf")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        why = (
            "the disk is full; make room and run again"
            if error.errno in _FULL
            else error.strerror or str(error)
        )
        raise RecordError(f"{path} was not written: {why}") from error
    finally:
        with suppress(OSError):  # after a success it is gone; a failure is reported above
            temporary.unlink()


def load(path: Path | str, config: Config | None = None) -> xr.Dataset:
    """Read a file that `save` wrote, all of it into memory; with `config`, only if that config made it.

    Raises:
        RecordError: the file is missing, truncated, not a results file, or of another config (the message
            says which fields differ).
    """
    path = Path(path)
    dataset = _read(path)
    stored = dataset.attrs.get("config")
    if not isinstance(stored, str) or "config_sha256" not in dataset.attrs:
        raise RecordError(f"{path} is a netCDF file but not a learndyn results file; give another path")
    if hashlib.sha256(stored.encode()).hexdigest() != dataset.attrs["config_sha256"]:
        raise RecordError(
            f"{path} carries a config that was changed after it was written; delete it and run again"
        )
    if config is not None and dataset.attrs["config_sha256"] != config.fingerprint():
        differences = _differences(json.loads(stored), json.loads(config.to_json()))
        raise RecordError(f"{path} is of another config: {differences}; delete it or give another path")
    if config is not None and dataset.attrs["config_class"] != type(config).__name__:
        kinds = f"{dataset.attrs['config_class']}, {type(config).__name__} asked"
        raise RecordError(f"{path} is of another kind of config: {kinds}; give another path")
    return dataset


def _read(path: Path) -> xr.Dataset:
    try:
        with path.open("rb") as file:
            signature = file.read(len(_HDF5_SIGNATURE))
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist; run what makes it first, or give another path") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}; give another path") from error
    if signature != _HDF5_SIGNATURE:
        what = "truncated or damaged" if _HDF5_SIGNATURE.startswith(signature) else "not a netCDF file"
        raise RecordError(f"{path} is {what}; delete it and run again, or give another path")
    try:
        return xr.load_dataset(path, engine="h5netcdf")
    except Exception as error:  # h5py and xarray raise a dozen kinds for damaged files
        message = f"{path} is truncated or damaged; delete it and run again, or give another path"
        raise RecordError(message) from error


def _differences(stored: dict[str, Any], asked: dict[str, Any]) -> str:
    """The fields that differ, such as `weight_decay is 0.1 in the file, 0.2 asked`: three and a count."""
    found = [
        _difference(name, stored.get(name, _ABSENT), asked.get(name, _ABSENT))
        for name in dict.fromkeys([*asked, *stored])
        if stored.get(name, _ABSENT) != asked.get(name, _ABSENT)
    ]
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def _difference(name: str, stored: Any, asked: Any) -> str:
    if isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked) > 1:
        index = next(i for i, (a, b) in enumerate(zip(stored, asked, strict=True)) if a != b)
        name, stored, asked = f"{name}[{index}]", stored[index], asked[index]
    return f"{name} is {_short(stored)} in the file, {_short(asked)} asked"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 50 else text[:49] + "…"


def _attributes(dataset: xr.Dataset) -> Iterator[tuple[str, str, Any]]:
    """(owner, name, value) of every attribute of the dataset and its variables."""
    for name, value in dataset.attrs.items():
        yield "the dataset", str(name), value
    for variable, array in dataset.variables.items():
        for name, value in array.attrs.items():
            yield f"{variable!r}", str(name), value


def _device_in_words(device: torch.device | str) -> str:
    try:
        place = torch.device(device)
    except RuntimeError:
        return str(device)
    return describe_device(place)


def _version() -> str:
    try:
        return metadata.version("learndyn")
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit(package: Path, run: Callable[..., Any] = subprocess.run) -> str:
    """The commit of the checkout that tracks this package, with `-dirty` if the package differs from it.

    `unknown` without git and for an installed copy, also one in a virtual environment inside a checkout.
    """

    def git(*arguments: str) -> str:
        done = run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
