"""Build the site of one profile from its executed notebooks; it takes its place only when it is whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock

from learndyn.pipeline.errors import PipelineError
from learndyn.pipeline.project import Project
from learndyn.pipeline.stage import stage

JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
"""Its command, without relying on the folder of scripts being on the path."""


def build_site(project: Project) -> None:
    """Stage the book, build it with warnings as errors, add ``claims.json``, and replace the previous site.

    Raises:
        PipelineError: something is missing, or Sphinx found fault with a page (``site.log`` holds all of it).
    """
    with FileLock(project.build / ".site.lock"):
        claims = stage(project)
        log = project.build / "logs" / "site.log"
        log.parent.mkdir(exist_ok=True)
        command = [
            sys.executable,
            "-c",
            JUPYTER_BOOK,
            "build",
            str(project.stage),
            "-W",
            "-n",
            "--keep-going",
        ]
        with log.open("w", encoding="utf-8") as stream:
            result = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
        if result.returncode != 0:
            complaints = [
                line for line in log.read_text(encoding="utf-8").splitlines() if _is_complaint(line)
            ]
            raise PipelineError(
                "\n  ".join([f"the pages do not build (all messages: {log}):", *complaints[:20]])
            )
        built = project.stage / "_build" / "html"
        (built / "claims.json").write_text(
            json.dumps(claims, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        _replace(built, project.html)


def _is_complaint(line: str) -> bool:
    return any(word in line for word in ("WARNING", "ERROR", "CRITICAL", "Error:"))


def _replace(new: Path, place: Path) -> None:
    old = place.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def main(root: Annotated[Path, typer.Option()], profile: Annotated[str, typer.Option()]) -> None:
    """Build the site; exit code 1 with the reason if it cannot be built."""
    project = Project(root.resolve(), profile)
    note = project.site_failure
    note.unlink(missing_ok=True)
    try:
        build_site(project)
    except PipelineError as error:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{error}\n", encoding="utf-8")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
