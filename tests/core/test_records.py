"""Results files: what goes in comes out; what is not whole, ours and asked for is refused in one sentence."""

import errno
import json
import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from learndyn.core import records
from learndyn.core.config import Config
from learndyn.core.records import RecordError, load, provenance, save


class TrainConfig(Config):
    weight_decay: tuple[float, ...] = (0.1,)
    epochs: int = 10
    seed: int = 0
    name: str = "a"


class OtherConfig(TrainConfig):
    pass


def result(config: Config | None = None) -> xr.Dataset:
    rng = np.random.default_rng(0)
    dataset = xr.Dataset(
        {
            "weights": (("run", "node"), rng.normal(size=(2, 3)).astype("float32")),
            "spectrum": ("node", rng.normal(size=3) + 1j * rng.normal(size=3)),
            "spectrum32": ("node", (rng.normal(size=3) + 1j).astype("complex64")),
            "alive": (("run", "node"), np.array([[True, False, True], [False, False, True]])),
            "loss": ("run", np.array([1.0, np.nan])),
            "status": ("run", np.array(["fine", "diverged at epoch 3 — loss is NaN"])),
            "empty": ("none", np.zeros(0)),
            "scalar": 3,
        },
        coords={"weight_decay": ("run", [0.1, 0.2]), "run": [0, 1]},
        attrs=provenance(config or TrainConfig(), "cpu", 1.5),
    )
    dataset.weights.attrs["units"] = "1"
    return dataset


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.nc"


def alone(path: Path) -> bool:
    return [entry.name for entry in path.parent.iterdir()] == [path.name]


def refused(path: Path, message: str, config: Config | None = None) -> None:
    with pytest.raises(RecordError) as caught:
        load(path, config)
    assert str(caught.value) == f"{path} {message}"


def test_round_trip(path: Path) -> None:
    dataset = result()
    save(dataset, path)
    back = load(path, TrainConfig())
    xr.testing.assert_identical(dataset, back)
    for name in dataset.variables:
        assert back[name].dtype == dataset[name].dtype, name
    assert alone(path)
    save(back, path)  # what was read can be written over its own file
    xr.testing.assert_identical(dataset, load(str(path)))


def test_folders_are_made_and_the_file_is_an_ordinary_one(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "run.nc"
    save(result(), path)
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


# ---- provenance


def test_provenance() -> None:
    config = TrainConfig(epochs=3)
    made = provenance(config, torch.device("cpu"), np.float32(2))
    assert json.loads(made["config"]) == {"weight_decay": [0.1], "epochs": 3, "seed": 0, "name": "a"}
    assert made["config_sha256"] == config.fingerprint()
    assert made["config_class"] == "TrainConfig"
    assert made["torch_version"] == torch.__version__
    assert made["numpy_version"] == np.__version__
    assert made["python_version"] == platform.python_version()
    assert made["learndyn_version"] == "0.1.0"
    assert made["wall_seconds"] == 2.0
    assert "thread" in made["device"]
    assert provenance(config, "NVIDIA H200 (140 GiB), CPU", 1)["device"] == "NVIDIA H200 (140 GiB), CPU"
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(-dirty)?", made["learndyn_commit"])
    age = datetime.now(UTC) - datetime.fromisoformat(made["created_utc"])
    assert -1 < age.total_seconds() < 60
    assert {type(value) for value in made.values()} == {str, float}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_of_a_checkout_dirty_or_clean_and_of_none(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    package = tmp_path / "lib" / "learndyn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git("init", "-q")
    assert records._commit(package) == "unknown"  # inside a checkout, but no part of it
    git("add", "lib")
    git("commit", "-q", "-m", "a")
    commit = git("rev-parse", "HEAD")
    assert records._commit(package) == commit
    (tmp_path / "notes.txt").write_text("not the package")
    assert records._commit(package) == commit
    (package / "new.py").write_text("")
    assert records._commit(package) == f"{commit}-dirty"


@pytest.mark.parametrize(
    "failure",
    [FileNotFoundError(), subprocess.TimeoutExpired("git", 10), subprocess.CalledProcessError(128, "git")],
)
def test_commit_never_fails(failure: Exception) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise failure

    assert records._commit(Path.cwd(), run) == "unknown"


# ---- refusals when reading


def test_missing(path: Path) -> None:
    refused(path, "does not exist; run what makes it first, or give another path")
    refused(path.parent, "cannot be read: Is a directory; give another path")


BROKEN = "is truncated or damaged; delete it and run again, or give another path"


def test_truncated(path: Path) -> None:
    save(result(), path)
    content = path.read_bytes()
    for kept in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        refused(path, BROKEN)


def test_damaged(path: Path) -> None:
    save(result(), path)
    content = bytearray(path.read_bytes())
    content[48:2000] = bytes(1952)
    path.write_bytes(content)
    refused(path, BROKEN)


def test_not_ours(path: Path) -> None:
    path.write_text("epoch,loss\n0,1\n")
    refused(path, "is not a netCDF file; delete it and run again, or give another path")
    xr.Dataset({"a": 1}).to_netcdf(path, engine="h5netcdf")
    refused(path, "is a netCDF file but not a learndyn results file; give another path")
    dataset = result()
    dataset.attrs["config"] = dataset.attrs["config"].replace("10", "11")
    save(dataset, path)
    refused(path, "carries a config that was changed after it was written; delete it and run again")


@pytest.mark.parametrize(
    ("asked", "differences"),
    [
        ({"weight_decay": (0.2,)}, "weight_decay is [0.1] in the file, [0.2] asked"),
        ({"epochs": 20}, "epochs is 10 in the file, 20 asked"),
        ({"epochs": 20, "seed": 1}, "epochs is 10 in the file, 20 asked, seed is 0 in the file, 1 asked"),
        ({"name": "b" * 100}, f"name is 'a' in the file, '{'b' * 48}… asked"),
        (
            {"weight_decay": (0.1, 0.2), "epochs": 1, "seed": 1, "name": "b"},
            "epochs is 10 in the file, 1 asked, name is 'a' in the file, 'b' asked, "
            "seed is 0 in the file, 1 asked, and 1 more",
        ),
    ],
)
def test_other_config(path: Path, asked: dict[str, Any], differences: str) -> None:
    save(result(), path)
    message = f"is of another config: {differences}; delete it or give another path"
    refused(path, message, TrainConfig().replace(**asked))


def test_other_config_in_a_long_list_or_with_other_fields_or_class(path: Path) -> None:
    decays = tuple(i / 100 for i in range(50))
    save(result(TrainConfig(weight_decay=decays)), path)
    asked = TrainConfig(weight_decay=(*decays[:30], 0.9, *decays[31:]))
    difference = "weight_decay[30] is 0.3 in the file, 0.9 asked"
    refused(path, f"is of another config: {difference}; delete it or give another path", asked)

    class Newer(TrainConfig):
        momentum: float = 0.9

    save(result(), path)
    difference = "momentum is absent in the file, 0.9 asked"
    refused(path, f"is of another config: {difference}; delete it or give another path", Newer())
    message = "is of another kind of config: TrainConfig, OtherConfig asked; give another path"
    refused(path, message, OtherConfig())


# ---- refusals when writing: what was there before stays


@pytest.mark.parametrize("value", [None, True, [1, 2], {"a": 1}, np.zeros(2), np.bool_(True), 1j])
def test_attributes_are_text_or_numbers(path: Path, value: Any) -> None:
    dataset = result()
    dataset.weights.attrs["extra"] = value
    with pytest.raises(
        RecordError, match=rf"^{path} was not written: attribute 'extra' of 'weights' is \w+, not"
    ):
        save(dataset, path)
    assert list(path.parent.iterdir()) == []


def test_provenance_is_needed(path: Path) -> None:
    with pytest.raises(RecordError, match=r"has no provenance; add provenance\(\) to its attrs$"):
        save(xr.Dataset({"a": 1}), path)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    save(result(), path)
    before, other = path.read_bytes(), result(TrainConfig(epochs=99))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr(Path, "open", full)
    else:
        monkeypatch.setattr(os, step, full)
    with pytest.raises(RecordError) as caught:
        save(other, path)
    monkeypatch.undo()
    assert str(caught.value) == f"{path} was not written: the disk is full; make room and run again"
    assert path.read_bytes() == before
    assert alone(path)


def test_a_limit_of_the_system_reached_in_the_middle_of_the_file(path: Path) -> None:
    resource = pytest.importorskip("resource")
    save(result(), path)
    before = path.read_bytes()
    large = result().assign(large=("x", np.zeros(10**6)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        with pytest.raises(RecordError) as caught:
            save(large, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == f"{path} was not written: File too large"
    assert path.read_bytes() == before
    assert alone(path)


def test_interrupted_while_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(result(), path)
    assert list(path.parent.iterdir()) == []


def test_folder_that_cannot_be_made(path: Path) -> None:
    path.write_text("a file where a folder is wanted")
    with pytest.raises(RecordError, match=r"run\.nc/run\.nc was not written: (File exists|Not a directory)$"):
        save(result(), path / "run.nc")
