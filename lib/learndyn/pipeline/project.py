"""Where things lie: the checkout, its notebooks, and the folders a build writes to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from learndyn.pipeline.errors import PipelineError

QUICK = "quick"


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above ``start`` that holds a book (``_toc.yml`` and ``Snakefile``).

    Raises:
        PipelineError: there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "_toc.yml").is_file() and (folder / "Snakefile").is_file():
            return folder
    raise PipelineError(
        f"{start} is not inside a checkout of the book (no _toc.yml with a Snakefile beside it)."
    )


def toc_entries(toc: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page names of a Jupyter Book table of contents, front page first, in reading order."""
    if "root" in toc:
        yield toc["root"]
    if "file" in toc:
        yield toc["file"]
    for key in ("parts", "chapters", "sections", "entries", "subtrees"):
        for entry in toc.get(key) or ():
            yield from toc_entries(entry)


def github_address(root: Path) -> str | None:
    """Return ``https://github.com/<owner>/<name>`` if the checkout's ``origin`` is there, otherwise None."""
    git = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        answer = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    match = re.fullmatch(
        r"(?:\w+://)?(?:[^@/]+@)?github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?", answer.stdout.strip()
    )
    return f"https://github.com/{match[1]}/{match[2]}" if match else None


@dataclass(frozen=True)
class Project:
    """A checkout of the book seen under one profile.

    A notebook's *name* is its path below ``book/`` without the suffix, such as ``cogo_li2/one_run``.
    """

    root: Path
    profile: str = QUICK

    @property
    def build(self) -> Path:
        """Everything that a build of this profile writes lies in this folder."""
        return self.root / "_build" / self.profile

    @property
    def html(self) -> Path:
        """The built site."""
        return self.build / "html"

    @property
    def stage(self) -> Path:
        """The staged book: the checkout's pages with executed notebooks in place of their sources."""
        return self.build / "stage"

    def source(self, notebook: str) -> Path:
        """Return the percent script of a notebook."""
        return self.root / "book" / f"{notebook}.py"

    def executed(self, notebook: str) -> Path:
        """Return the executed notebook; it exists only if the last execution succeeded."""
        return self.build / "notebooks" / f"{notebook}.ipynb"

    def failure(self, notebook: str) -> Path:
        """Return the note that a failed execution leaves."""
        return self.build / "logs" / f"{notebook}.failure.json"

    @property
    def site_failure(self) -> Path:
        """The note that a site which could not be built leaves."""
        return self.build / "logs" / "site.failure.txt"

    def parameters_file(self, notebook: str) -> Path:
        """Return the file of parameters that this profile gives to the notebook (it may not exist)."""
        return self.root / "profiles" / self.profile / f"{notebook}.yaml"

    @cached_property
    def pages(self) -> tuple[str, ...]:
        """Names of all pages in the order of ``_toc.yml``, relative to the root, without suffix."""
        toc = yaml.safe_load((self.root / "_toc.yml").read_text(encoding="utf-8"))
        return tuple(toc_entries(toc))

    def check_pages(self) -> None:
        """Check that every page of ``_toc.yml`` is there.

        Raises:
            PipelineError: naming the one that is not.
        """
        for page in self.pages:
            if not any((self.root / f"{page}{suffix}").is_file() for suffix in (".md", ".py")):
                raise PipelineError(f"_toc.yml names the page {page}, which is not there.")

    @cached_property
    def notebooks(self) -> tuple[str, ...]:
        """Names of the notebooks of the book, in the order of ``_toc.yml``."""
        return tuple(
            page.removeprefix("book/")
            for page in self.pages
            if page.startswith("book/") and (self.root / f"{page}.py").is_file()
        )

    @cached_property
    def chapters(self) -> dict[str, tuple[str, ...]]:
        """Notebooks under the page at the top level of ``_toc.yml`` that leads to them, in reading order."""
        toc = yaml.safe_load((self.root / "_toc.yml").read_text(encoding="utf-8"))
        tops = [entry for part in toc.get("parts", [toc]) for entry in part.get("chapters", ())]
        pages = {top["file"]: [page.removeprefix("book/") for page in toc_entries(top)] for top in tops}
        found = {
            page: tuple(name for name in under if name in self.notebooks) for page, under in pages.items()
        }
        return {page: names for page, names in found.items() if names}
