"""Which files decide a notebook's outputs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
from learndyn.pipeline.dependencies import dependencies, fingerprint, page_files
from learndyn.pipeline.project import Project
project = Project(Path("."), sys.argv[1])
found = {name: dependencies(project, name) for name in project.notebooks}
answer = {name: [sorted(files), fingerprint(files)] for name, files in found.items()}
answer["pages"] = [sorted(page_files(project)), fingerprint(page_files(project))]
print(json.dumps(answer))
"""


def ask(book, profile: str = "quick") -> dict[str, tuple[list[str], str]]:
    """Return the files that each notebook and the pages depend on, with their fingerprints."""
    command = [sys.executable, "-c", PROGRAM, profile]
    done = subprocess.run(
        command, cwd=book.root, env=book.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def changed(before, after) -> set[str]:
    return {name for name in before if before[name][1] != after[name][1]}


@pytest.fixture(scope="module")
def book(new_book):
    return new_book()


def test_library_modules_count_if_they_are_reached(book):
    files = ask(book)
    alpha, beta = files["demo/alpha"][0], files["demo/beta"][0]
    assert {"learndyn/demo/one.py", "learndyn/demo/shared.py", "learndyn/core/claims.py"} <= set(alpha)
    assert "learndyn/demo/two.py" not in alpha
    assert [name for name in beta if name.endswith(".py")] == [
        "book/demo/beta.py",
        "learndyn/__init__.py",
        "learndyn/demo/__init__.py",
        "learndyn/demo/two.py",
    ]
    assert not any(name.startswith("learndyn/pipeline") for name in alpha)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("book/demo/beta.py", {"demo/beta"}),
        ("lib/learndyn/demo/two.py", {"demo/beta"}),
        ("lib/learndyn/demo/shared.py", {"demo/alpha"}),
        ("lib/learndyn/core/errors.py", {"demo/alpha"}),
        ("lib/learndyn/demo/__init__.py", {"demo/alpha", "demo/beta"}),
        ("lib/learndyn/demo/table.csv", {"demo/alpha", "demo/beta"}),
        ("lib/learndyn/pipeline/pages.py", {"pages"}),
        ("results/demo/run.nc", {"demo/alpha", "demo/beta"}),
        ("results/other/run.nc", set()),
        ("constraints.txt", {"demo/alpha", "demo/beta", "pages"}),
        ("profiles/smoke/demo/alpha.yaml", {"demo/alpha"}),
        ("profiles/paper/demo/alpha.yaml", set()),
        ("book/intro.md", {"pages"}),
        ("_config.yml", {"pages"}),
        ("README.md", set()),
    ],
)
def test_a_change_reaches_what_depends_on_it(book, path, expected):
    before = ask(book, "smoke")
    old = (book.root / path).read_text(encoding="utf-8") if (book.root / path).exists() else ""
    book.write(path, old + "\n# changed\n")
    assert changed(before, ask(book, "smoke")) == expected


def test_magic_lines_are_no_obstacle_and_bad_python_is_named(book):
    book.edit("book/demo/beta.py", "two.total(count)", "%matplotlib inline\n!ls\ntwo.total(count)")
    assert "learndyn/demo/two.py" in ask(book)["demo/beta"][0]
