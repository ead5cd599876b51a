"""The benchmarks as commands, and their modules to import."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module that lies beside the benchmarks."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture(scope="session")
def bench() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the benchmark of this name with these arguments; a warning ends it."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", str(FOLDER / f"{name}.py"), "--threads", "1", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def report(
    request: pytest.FixtureRequest, bench: Callable[..., subprocess.CompletedProcess[str]]
) -> dict[str, str]:
    """What the test module's ``BENCHMARK`` prints of each section, quickly."""
    done = bench(request.module.BENCHMARK, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    return {part.split(":")[0]: part for part in done.stdout.split("\n== ")[1:]}
