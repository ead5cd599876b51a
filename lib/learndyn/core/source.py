"""Library functions shown on a page, so that a reader sees how an equation becomes code."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from textwrap import dedent
from typing import Any

from IPython.display import Markdown

from learndyn.core.errors import PlainError

LONGEST = 30  # lines, without the docstring: what still fits a laptop's screen beside its equation


class SourceError(PlainError):
    """A function that a page cannot show."""


def source(*functions: Callable[..., Any]) -> Markdown:
    """The source of functions or methods as one block of highlighted Python, for the last line of a cell.

    It is read from the library that computes the page, so the two cannot differ. Above each function stands
    its dotted name; docstrings are cut, since the page has their equations already, comments stay.

    Raises:
        SourceError: nothing to show, an object that is not a Python function or whose source cannot be read,
            or a function of more than `LONGEST` lines.
    """
    if not functions:
        raise SourceError("source() shows functions: give at least one")
    code = "\n\n\n".join(map(_listing, functions))
    return Markdown(f"```python\n{code}\n```")


def _listing(function: Callable[..., Any]) -> str:
    plain = inspect.unwrap(function)  # decorators and shape checks wrap what was written
    try:
        text = dedent(inspect.getsource(plain)).rstrip()
        definition = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError):  # a lambda's source is a piece of a line that need not parse
        definition = None
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        raise SourceError(
            f"only a function written in Python has a source to show, and {function!r} has none"
        )
    name = f"{plain.__module__}.{plain.__qualname__}"
    lines = _without_docstring(text.splitlines(), definition)
    if len(lines) > LONGEST:
        raise SourceError(
            f"{name} is {len(lines)} lines long without its docstring; a page shows at most {LONGEST}: "
            "show a function that it calls, or split it"
        )
    return "\n".join([f"# {name}", *lines])


def _without_docstring(lines: list[str], definition: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    first, *others = definition.body
    if ast.get_docstring(definition) is None or not others:
        return lines
    head, tail = lines[: first.lineno - 1], lines[first.end_lineno :]
    while not tail[0].strip():
        tail = tail[1:]
    return head + tail
