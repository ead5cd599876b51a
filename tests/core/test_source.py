"""Functions shown on a page: exactly what runs, without its docstring, or one clear sentence."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap

import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from IPython.display import Markdown

from learndyn.core import products, source
from learndyn.core.source import LONGEST, SourceError


def documented(a: float, b: float = 2.0) -> float:
    """Doubles.

    In several lines.
    """

    # why it doubles
    return a * b


def bare(a):
    return a


def empty():
    """Nothing but this."""


class Line:
    slope = 2

    def at(self, x):
        """A point."""
        return self.slope * x

    @staticmethod
    def origin():
        """Zero."""
        return 0


def twice(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return 2 * function(*arguments)

    return wrapper


@twice
@twice
def decorated(a):
    """Documented as well."""
    return a


def code(shown: Markdown) -> str:
    first, *lines, last = shown.data.splitlines()
    assert (first, last) == ("```python", "```")
    return "\n".join(lines)


def test_the_docstring_is_cut_and_the_comment_stays():
    assert code(source.source(documented)) == (
        f"# {__name__}.documented\n"
        "def documented(a: float, b: float = 2.0) -> float:\n"
        "    # why it doubles\n"
        "    return a * b"
    )


def test_a_function_without_docstring_is_shown_whole():
    assert code(source.source(bare)) == f"# {__name__}.bare\ndef bare(a):\n    return a"


def test_a_body_of_nothing_but_a_docstring_stays_valid_python():
    assert code(source.source(empty)).endswith('"""Nothing but this."""')


@pytest.mark.parametrize("method", [Line.at, Line().at])
def test_a_method_is_dedented(method):
    shown = code(source.source(method)).splitlines()
    assert shown[:2] == [f"# {__name__}.Line.at", "def at(self, x):"]
    assert shown[2:] == ["    return self.slope * x"]


def test_decorators_are_shown_and_wrappers_are_not():
    assert code(source.source(Line.origin)).splitlines()[1:] == [
        "@staticmethod",
        "def origin():",
        "    return 0",
    ]
    assert code(source.source(decorated)).splitlines()[1:] == [
        "@twice",
        "@twice",
        "def decorated(a):",
        "    return a",
    ]


def test_several_functions_share_one_block():
    shown = code(source.source(bare, documented))
    assert shown == code(source.source(bare)) + "\n\n\n" + code(source.source(documented))


PUBLIC = [
    function
    for _, function in inspect.getmembers(products, inspect.isfunction)
    if function.__module__ == products.__name__
]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_what_is_shown_is_what_the_library_runs(function):
    """Functions behind the shape checks of the tests: the file's syntax tree, less docstrings."""
    shown = ast.parse(code(source.source(function))).body[0]
    tree = ast.parse(inspect.getsource(products))
    (written,) = [node for node in tree.body if getattr(node, "name", None) == function.__name__]
    if ast.get_docstring(written):
        written.body = written.body[1:]
    assert ast.dump(shown) == ast.dump(written)


def function_of(lines: int, tmp_path, monkeypatch):
    body = ["def long():", *["    x = 1"] * (lines - 1)]
    (tmp_path / f"long{lines}.py").write_text("\n".join(body) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    return __import__(f"long{lines}").long


def test_the_longest_function_is_shown_and_a_longer_one_is_not(tmp_path, monkeypatch):
    fits = function_of(LONGEST, tmp_path, monkeypatch)
    assert len(code(source.source(fits)).splitlines()) == LONGEST + 1
    too_long = function_of(LONGEST + 1, tmp_path, monkeypatch)
    with pytest.raises(
        SourceError, match=rf"^long{LONGEST + 1}\.long is {LONGEST + 1} lines .* at most {LONGEST}"
    ):
        source.source(bare, too_long)


def without_a_file():
    scope: dict = {"__name__": "nowhere"}
    exec(textwrap.dedent("def made(): return 1"), scope)
    return scope["made"]


@pytest.mark.parametrize(
    "thing",
    [torch.exp, len, functools.partial(bare, 1), Line, lambda a: a, without_a_file()],
    ids=["torch", "builtin", "partial", "class", "lambda", "no file"],
)
def test_what_has_no_source_is_said_in_one_sentence(thing):
    with pytest.raises(SourceError, match=r"^only a function written in Python .* has none$"):
        source.source(thing)


def test_nothing_to_show():
    with pytest.raises(SourceError, match="give at least one"):
        source.source()


def test_notebooks_get_markdown():
    data, _ = DisplayFormatter().format(source.source(bare))
    assert data["text/markdown"].startswith("```python\n")
