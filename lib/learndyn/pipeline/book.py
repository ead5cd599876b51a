"""``learndyn book``: check the profile, execute what changed, build the site, and say what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock, Timeout

from learndyn.pipeline.errors import PipelineError
from learndyn.pipeline.profiles import check_profile
from learndyn.pipeline.project import QUICK, Project, find_root


def snakemake(project: Project, *arguments: str) -> bool:
    """Run the workflow of ``Snakefile`` in this process, so that killing the process kills the workflow.

    Returns:
        whether everything was made.
    """
    from snakemake.cli import main as run_snakemake

    settings = [
        *("--snakefile", str(project.root / "Snakefile"), "--directory", str(project.root)),
        *("--cores", "all", "--nolock", "--rerun-incomplete", "--keep-going", "--quiet", "all"),
        *arguments,
        *("--config", f"profile={project.profile}"),
    ]
    try:
        run_snakemake(settings)
    except SystemExit as done:
        return not done.code
    return True


def main(
    profile: Annotated[
        str, typer.Option(help="Folder of profiles/ whose parameters the notebooks get.")
    ] = QUICK,
) -> None:
    """Execute the notebooks that changed and build the site."""
    project = Project(find_root(Path.cwd()), profile)
    project.check_pages()
    check_profile(project)
    builds = project.root / "_build"
    builds.mkdir(exist_ok=True)
    with _wait_for(FileLock(builds / ".book.lock")):
        project.site_failure.unlink(missing_ok=True)
        if not (project.html / "index.html").is_file():
            (project.build / "site.done").unlink(missing_ok=True)
        made = snakemake(project)
    if not made:
        report_failures(project)
        raise typer.Exit(1)
    report_site(project)


@contextmanager
def _wait_for(lock: FileLock) -> Iterator[None]:
    """Hold the lock; say so if another build has it. A killed build leaves none: the system frees it."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        typer.echo("Another build is running; waiting for it to end.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def report_failures(project: Project) -> None:
    """Print which notebook stopped, at which cell, and why; or why the pages do not build."""
    seen = False
    for notebook in project.notebooks:
        if not project.failure(notebook).is_file():
            continue
        seen = True
        note = json.loads(project.failure(notebook).read_text(encoding="utf-8"))
        where = f" in code cell {note['cell']}: {note['line']}" if note.get("cell") else ""
        typer.echo(f"\nbook/{notebook}.py stopped{where}\n  {note['sentence']}", err=True)
        if note.get("log"):
            typer.echo(f"  what it did until then: {note['log']}", err=True)
    site = project.site_failure
    if site.is_file():
        seen = True
        typer.echo(f"\n{site.read_text(encoding='utf-8').strip()}", err=True)
    if not seen:
        raise PipelineError(
            f"The workflow failed; Snakemake's own log is the newest in {project.root}/.snakemake/log."
        )
    if (project.html / "index.html").is_file():
        typer.echo("\nThe site of the last complete build is still in place.", err=True)


def report_site(project: Project) -> None:
    """Print the claims, and where the site is."""
    from learndyn.core.claims import text_table

    typer.echo(text_table(json.loads((project.html / "claims.json").read_text(encoding="utf-8"))))
    serve = "make serve" if project.profile == QUICK else f"make serve PROFILE={project.profile}"
    typer.echo(f"\nThe book: {(project.html / 'index.html').as_uri()}\n  or over http: {serve}")
