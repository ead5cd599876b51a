"""Execute one notebook of the book: a script in, an executed notebook out, or a note of what failed."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import jupytext
import nbformat
import papermill
import typer
import zmq
from filelock import FileLock
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from learndyn.pipeline.errors import PipelineError
from learndyn.pipeline.profiles import parameters
from learndyn.pipeline.project import Project

START_TIMEOUT_SECONDS = 300
REPORTED_VERSIONS = ("learndyn", "torch", "numpy", "scipy", "scikit-learn", "xarray", "matplotlib")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def execute(project: Project, notebook: str, *, log: Path, threads: int, cell_timeout: int) -> bool:
    """Execute a notebook under the project's profile and put the result in its place.

    The kernel starts in the notebook's own folder, as in JupyterLab and with ``jupyter-book build .``.

    Args:
        project: the checkout and the profile.
        notebook: the notebook's name, such as ``cogo_li2/one_run``.
        log: where papermill writes while it runs; what a failed run has done is kept there.
        threads: for numerical libraries, so that notebooks running side by side do not crowd each other out.
        cell_timeout: seconds that one cell may take.

    Returns:
        whether all cells ran. If not, ``project.failure(notebook)`` says which one stopped.
    """
    source = jupytext.read(project.source(notebook))
    values = parameters(project, notebook)
    failure, output = project.failure(notebook), project.executed(notebook)
    log.parent.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    failure.unlink(missing_ok=True)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    # A notebook whose build was killed may still be running; it is waited for, so two never write one file.
    with FileLock(f"{log}.lock"), TemporaryDirectory(prefix="kernel-") as sockets:
        started = time.monotonic()
        try:
            executed = papermill.execute_notebook(
                source,
                str(log),
                parameters=values,
                cwd=project.source(notebook).parent,
                progress_bar=False,
                start_timeout=START_TIMEOUT_SECONDS,
                execution_timeout=cell_timeout,
                config=_reached_through(sockets),
            )
        except Exception as error:
            # Whatever stops a notebook (an error in a cell, a dead kernel, a timeout) is reported in one way.
            note = {"notebook": notebook, "log": str(log), **_what_failed(log, error)}
            _write(failure, json.dumps(note, indent=2, ensure_ascii=False))
            return False
        # papermill keeps the whole source there, since it was not given a path, and the path of this machine
        for key in ("input_path", "output_path"):
            executed.metadata["papermill"].pop(key, None)
        executed.metadata["learndyn"] = _birth_certificate(project, time.monotonic() - started, threads)
        _write(log, nbformat.writes(executed))
        _write(output, nbformat.writes(executed))
    return True


def _reached_through(folder: str) -> Config:
    """Settings of a kernel that is reached through files in a folder of its own.

    Of TCP ports each kernel would be given five that are free just then, and of two kernels that start
    together one now and then finds a port taken. They remain for a folder whose name is too long for the
    system's sockets, which a long TMPDIR makes.
    """
    prefix = f"{folder}/socket"
    if len(os.fsencode(f"{prefix}-5")) > zmq.IPC_PATH_MAX_LEN:
        return Config()
    return Config(KernelManager={"transport": "ipc", "ip": prefix})


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def _birth_certificate(project: Project, seconds: float, threads: int) -> dict[str, Any]:
    return {
        "profile": project.profile,
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": threads,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in REPORTED_VERSIONS},
        },
    }


def _what_failed(log: Path, error: Exception) -> dict[str, Any]:
    """Return the cell's number (code cells counted from 1, as a reader does), its first line, a sentence."""
    if isinstance(error, PapermillExecutionError):
        sentence = " ".join(f"{error.ename}: {error.evalue}".split())
    else:
        sentence = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    stopped, number = {"cell": None, "line": ""}, 0
    in_a_cell = isinstance(error, PapermillExecutionError | CellTimeoutError | DeadKernelError)
    for cell in nbformat.read(log, as_version=4).cells if in_a_cell and log.is_file() else []:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "papermill-error-cell-tag" in tags:
            continue
        number += "injected-parameters" not in tags
        if cell.metadata.get("papermill", {}).get("start_time"):  # the last one that started is the one
            stopped = {"cell": number, "line": _first_line(cell)}
    return {**stopped, "sentence": sentence}


def _first_line(cell: NotebookNode) -> str:
    lines = [line.strip() for line in cell.source.splitlines()]
    return next((line for line in lines if line and not line.startswith("#")), "")


def main(
    notebook: str,
    root: Annotated[Path, typer.Option()],
    profile: Annotated[str, typer.Option()],
    log: Annotated[Path, typer.Option()],
    threads: Annotated[int, typer.Option()] = 1,
    cell_timeout: Annotated[int, typer.Option()] = 900,
) -> None:
    """Execute one notebook; exit code 1 if a cell fails (the note beside the log says which)."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("papermill").setLevel(logging.WARNING)
    project = Project(root.resolve(), profile)
    try:
        done = execute(
            project, notebook, log=root.resolve() / log, threads=threads, cell_timeout=cell_timeout
        )
    except PipelineError as error:
        _write(
            project.failure(notebook),
            json.dumps({"notebook": notebook, "cell": None, "sentence": str(error)}),
        )
        done = False
    if not done:
        typer.echo(f"  book/{notebook}.py stopped")
        raise typer.Exit(1)
    seconds = nbformat.read(project.executed(notebook), as_version=4).metadata["learndyn"]["seconds"]
    typer.echo(f"  book/{notebook}.py ran in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(typer.run(main))
