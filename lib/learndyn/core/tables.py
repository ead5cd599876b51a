"""Tables on the page: a data frame with words for its columns, and plain-text mathematics as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML

# A Latin letter stands alone (names such as weight_decay stay as they are), a Greek one may have a factor.
_SUBSCRIPT = re.compile(r"((?<![\w.])[A-Za-z]|[Α-Ωα-ω])_(?:\{([^}]*)\}|(\w+|\*))")
_SUPERSCRIPT = re.compile(r"\^(?:\(([^()]*)\)|\{([^}]*)\}|([−-]?[\w.]+))")


def markup(text: str) -> str:
    """Escaped HTML of a text in which ``z_syn``, ``r_{kkk}``, ``d^(4/3)``, `` `code` `` stand for looks.

    A subscript belongs to a single letter, so that names such as ``weight_decay`` stay as they are. Text that
    a terminal prints and a script reads is thereby readable on a page, too.
    """
    plain, *rest = re.split(r"`([^`]+)`", text)
    parts = [_mathematics(plain)]
    for code, after in zip(rest[::2], rest[1::2], strict=True):
        parts += [f"<code>{escape(code)}</code>", _mathematics(after)]
    return "".join(parts)


def _mathematics(text: str) -> str:
    text = _SUBSCRIPT.sub(r"\1<sub>\2\3</sub>", escape(text))
    return _SUPERSCRIPT.sub(r"<sup>\1\2\3</sup>", text)


def _cell(text: str) -> str:
    """The text, kept on one line if it is one word: a page would break ``1e-16`` at its sign."""
    return markup(text) if " " in text else f'<span style="white-space:nowrap">{markup(text)}</span>'


def frame_html(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    label: str = "Table",
) -> HTML:
    """Columns of a data frame, without its index, in a box that scrolls sideways where the page is narrow.

    Args:
        frame: the data.
        columns: words for the columns to show, in this order; by default all under their own names.
        formats: how to write a column's values: a format such as ``"{:.2f}"`` or a function to text.
        label: what the table holds, for screen readers.
    """
    words = dict(columns) if columns is not None else {name: str(name) for name in frame.columns}
    rules = {name: rule.format if isinstance(rule, str) else rule for name, rule in (formats or {}).items()}
    shown = pd.DataFrame(
        {markup(words[name]): [_cell(rules.get(name, str)(value)) for value in frame[name]] for name in words}
    )
    inner = shown.to_html(index=False, escape=False, border=0, justify="left")
    for cell in ("td", "th"):
        inner = inner.replace(
            f"<{cell}>", f'<{cell} style="padding:0.2em 0.5em;text-align:left;vertical-align:baseline">'
        )
    return HTML(
        f'<div style="overflow-x:auto" role="region" tabindex="0" aria-label="{escape(label)}">{inner}</div>'
    )
