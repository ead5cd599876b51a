"""Defaults for all tests, and a small book to build: this checkout's pipeline with two tiny notebooks.

The package must not be imported here: its shape checks are hooked in later.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Two cores are the smallest machine on which the tests must be quick; torch and NumPy read these when first
# imported, and every child process inherits them.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ["MPLBACKEND"] = "Agg"

# The same examples in every run: whether a change passes is no matter of luck. `make test-full` explores.
# The first call of a torch function is slow, and so is a machine with other work.
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeat", derandomize=True, **UNHURRIED)
settings.register_profile("explore", print_blob=True, **UNHURRIED)
settings.load_profile("repeat")
# Hypothesis also tries constants found in whatever modules earlier tests on the same worker imported.
# No setting prevents it; versions that do this elsewhere still work.
providers = sys.modules.get("hypothesis.internal.conjecture.providers")
if hasattr(providers, "_get_local_constants") and hasattr(providers, "_local_constants"):
    providers._get_local_constants = lambda: providers._local_constants

ROOT = Path(__file__).parents[1]
COPIED_FILES = ("Snakefile", "_config.yml", "references.bib", "constraints.txt")
COPIED_PACKAGES = ("core", "pipeline")

HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""

ALPHA = """\
# %% [markdown]
# # Alpha
#
# A line $y = ax$ drawn for some slopes {cite}`tian2025cogo`.
#
# $$ \\ell = \\frac{d-1}{d} $$

# %% tags=["parameters"]
slope = 2.0  # a, so that y = ax
note: str = ""

# %%
import matplotlib.pyplot as plt

from learndyn.core import claims, explorer, plotting
from learndyn.demo import one

# %%
result = one.double(slope)
result


# %%
def draw(a):
    fig, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1], [0, a])
    ax.set(ylim=(0, 4), xlabel="x", ylabel="y", title="A line through the origin")
    return fig


plotting.show(draw(slope), name="line", caption="Slope $a$ as given.", source="Figure 1")

# %%
explorer.explore(draw, {"a": [1.0, 2.0, 3.0]}, caption="The line turns.", name="lines")

# %%
ledger = claims.Ledger(
    "demo",
    "alpha",
    [
        claims.Claim(
            id="demo.double",
            paper="tian2025cogo",
            source="Figure 1",
            statement="Doubling two gives four",
            published=4.0,
            check=lambda value: claims.within(value, 4.0, atol=0.5),
            tolerance="±0.5",
        )
    ],
)
ledger.check("demo.double", result, at_paper_scale=True)
ledger
"""

BETA = """\
# %% [markdown]
# # Beta
#
# After [the first part](alpha.py).

# %% tags=["parameters"]
count = 3

# %%
from learndyn.demo import two

# %%
two.total(count)
"""

INDEX = "# A chapter\n\nIt has [a first part](alpha.py) and {doc}`beta`.\n"
TOC = """\
format: jb-book
root: book/intro
parts:
  - caption: Chapters
    chapters:
      - file: book/demo/index
        sections:
          - file: book/demo/alpha
          - file: book/demo/beta
  - caption: The book
    chapters:
      - file: book/scoreboard
      - file: book/gallery
      - file: book/run_times
      - file: book/references
"""
LIBRARY = {
    "__init__.py": '"""A chapter."""\n',
    "one.py": "from learndyn.demo.shared import factor\n\n\ndef double(x):\n    return factor() * x\n",
    "two.py": "def total(n):\n    return sum(range(n))\n",
    "shared.py": "def factor():\n    return 2\n",
}


@dataclass(frozen=True)
class Book:
    """A small checkout that can be built."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which this checkout's library is the one that is imported."""
        return {**os.environ, "PYTHONPATH": str(self.root / "lib"), "PYTHONWARNINGS": "ignore"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from learndyn.pipeline.cli import main; main()", *arguments]

    def learndyn(
        self, *arguments: str, code: int | None = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line; fail with its output unless it exits with ``code`` (None: any)."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=cwd or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def executed(self, notebook: str, profile: str = "quick") -> Path:
        return self.root / "_build" / profile / "notebooks" / f"{notebook}.ipynb"

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        self.write(path, text.replace(old, new))


def write_book(root: Path) -> Book:
    """Write the small checkout below ``root``."""
    book = Book(root)
    root.mkdir(parents=True, exist_ok=True)
    for name in COPIED_FILES:
        shutil.copy2(ROOT / name, root / name)
    library = ROOT / "lib" / "learndyn"
    book.write("lib/learndyn/__init__.py", (library / "__init__.py").read_text(encoding="utf-8"))
    for package in COPIED_PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(library / package, root / "lib" / "learndyn" / package, ignore=ignore)
    for path in (ROOT / "book").iterdir():
        if path.is_file():
            (root / "book").mkdir(exist_ok=True)
            shutil.copy2(path, root / "book" / path.name)
    book.write("book/intro.md", "# A small book\n\nRead {doc}`demo/index`.\n")
    (root / "book" / "how_to_run.md").unlink()
    book.edit("book/scoreboard.md", " (see {doc}`how_to_run`)", "")
    book.write("_toc.yml", TOC)
    book.write("book/demo/index.md", INDEX)
    book.write("book/demo/alpha.py", HEADER + dedent(ALPHA))
    book.write("book/demo/beta.py", HEADER + dedent(BETA))
    for name, text in LIBRARY.items():
        book.write(f"lib/learndyn/demo/{name}", text)
    book.write("profiles/smoke/demo/alpha.yaml", "slope: 2.5\n")
    return book


@pytest.fixture(autouse=True)
def numbers_do_not_depend_on_earlier_tests() -> None:
    """Seed the global generators: tests pass their own, and one that forgets to still repeats itself."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):  # neither it nor torch is imported for tests that need none
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def figures_are_closed() -> Iterator[None]:
    """Fail the test that leaves a pyplot figure open, not a later one that finds it."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")  # not imported for tests that draw nothing
    if pyplot is None:
        return
    left_open = pyplot.get_fignums()
    pyplot.close("all")
    assert not left_open, f"{len(left_open)} figures left open"


@pytest.fixture(scope="session")
def new_book(tmp_path_factory: Any) -> Callable[[], Book]:
    """``new_book()`` writes a small checkout into a folder of its own."""
    return lambda: write_book(tmp_path_factory.mktemp("a book", numbered=True))


@pytest.fixture(scope="session")
def built_book(new_book: Callable[[], Book]) -> Book:
    """A small book, built once for all tests that only look at it."""
    book = new_book()
    book.learndyn("book")
    return book
