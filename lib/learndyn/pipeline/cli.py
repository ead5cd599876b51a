"""The command ``learndyn``. Errors that a user can act on are one sentence on stderr and exit code 2."""

from __future__ import annotations

import sys

import typer

from learndyn.core.errors import PlainError
from learndyn.pipeline import book

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Learning Dynamics: build the book, run its sweeps.",
)
app.command("book")(book.main)


@app.callback()
def _commands() -> None:
    """Learning Dynamics: build the book, run its sweeps."""


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] != ["book"]:  # importing the sweep brings in torch, which takes seconds
        from learndyn.pipeline import sweep

        app.command("sweep")(sweep.main)
    try:
        app()
    except PlainError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
