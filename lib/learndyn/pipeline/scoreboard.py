"""The scoreboard: how many claims have which verdict, and every claim, filtered by verdict and chapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from learndyn.core import claims
from learndyn.pipeline.pages import Chapter, Notebooks, title


def gather_claims(notebooks: Notebooks, profile: str) -> list[dict[str, Any]]:
    """Return the records of all claims in the notebooks' tables, each with its profile and notebook."""
    return [
        {**record, "profile": profile, "notebook": f"book/{name}.py"}
        for name, notebook in notebooks.items()
        for record in claims.collect(notebook)
    ]


def scoreboard(
    records: Sequence[Mapping[str, Any]], notebooks: Notebooks, chapters: Sequence[Chapter]
) -> str:
    """Return the scoreboard: an overview, a filter, then per chapter and notebook every claim.

    Without scripts the filter is hidden and every claim shown; ``scoreboard.js`` folds and filters them.

    Args:
        records: the claims of all notebooks, see `gather_claims`.
        notebooks: the notebooks.
        chapters: what groups them.
    """
    by_notebook = {
        name: [dict(row) for row in records if row["notebook"] == f"book/{name}.py"] for name in notebooks
    }
    parts, overview, titles = [], [], []
    for chapter in chapters:
        names = [name for name in chapter.notebooks if by_notebook[name]]
        rows = [row for name in names for row in by_notebook[name]]
        if not rows:
            continue
        target = f"chapter-{_target(chapter.page.rpartition('.')[0])}"
        overview.append(_counts(f"**[{chapter.title}]({target})**", rows))
        parts += [f"({target})=\n## [{chapter.title}]({chapter.page})", f"{claims.summary(rows)}."]
        parts += [*_linked(rows, claims.Verdict.NOT), *_linked(rows, claims.Verdict.PENDING)]
        for name in names:
            overview.append(_counts(f"[{title(notebooks[name], name)}]({_target(name)})", by_notebook[name]))
            parts.append(f"({_target(name)})=\n### [{title(notebooks[name], name)}]({name}.ipynb)")
            parts.append(_raw(_fold(by_notebook[name], len(titles))))
        titles.append(chapter.title)
    if not parts:
        return "No notebook of this build holds a table of claims."
    overview.append(_counts("**All**", records))
    table = "\n".join([_OVERVIEW, *overview, ":::"])
    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    return "\n\n".join([table, _raw(_filter(titles)), *parts, _raw(f"<script>\n{script}</script>")])


_OVERVIEW = """\
:::{table}
:class: claims-overview

| | claims | ✓ | ≈ | ✗ | … |
|---|---:|---:|---:|---:|---:|"""


def _raw(html: str) -> str:
    return f"```{{raw}} html\n{html}\n```"


def _filter(chapters: Sequence[str]) -> str:
    """The form that the script shows and reads; values are classes of verdicts and numbers of chapters."""
    verdicts = {
        name: f'<span class="{name}">{verdict}</span>' for verdict, name in claims.VERDICT_CLASSES.items()
    }
    numbered = {str(number): escape(words) for number, words in enumerate(chapters)}
    return (
        '<form class="claims-filter" autocomplete="off" hidden>\n'
        f"{_choices('Verdict', 'verdict', verdicts)}{_choices('Chapter', 'chapter', numbered)}"
        '<p><output></output><label><input type="checkbox" name="unfold"> unfold all</label></p>\n</form>'
    )


def _choices(legend: str, name: str, options: Mapping[str, str]) -> str:
    """A labelled group of radio buttons, the first of which chooses all."""
    start = f'<label><input type="radio" name="{name}" value='
    buttons = [f'{start}"{value}"> {words}</label>' for value, words in options.items()]
    everything = f'{start}"" checked> all</label>'
    return "\n".join([f"<fieldset><legend>{legend}</legend>", everything, *buttons, "</fieldset>\n"])


def _fold(records: list[dict[str, Any]], chapter: int) -> str:
    """The table of a notebook's claims in a fold, open until a script closes it."""
    return (
        f'<details class="claims-fold" data-chapter="{chapter}" open>'
        f"<summary>{claims.summary(records)}<span></span></summary>\n"
        f"{claims.render_table(records)}\n</details>"
    )


def _counts(words: str, records: Sequence[Mapping[str, Any]]) -> str:
    """A row of the overview."""
    verdicts = [record["verdict"] for record in records]
    counts = [verdicts.count(verdict) or "" for verdict in claims.Verdict]
    return f"| {words} | {len(verdicts)} | {' | '.join(map(str, counts))} |"


def _target(notebook: str) -> str:
    """The label of a notebook's claims on the scoreboard."""
    return f"claims-of-{notebook.replace('/', '-').replace('_', '-')}"


def _linked(records: Sequence[Mapping[str, Any]], verdict: claims.Verdict) -> list[str]:
    """A sentence that leads to each claim with this verdict, if there is one."""
    names = [record["id"] for record in records if record["verdict"] == verdict]
    links = ", ".join(f'<a href="#{name}"><code>{name}</code></a>' for name in names)
    return [f"{verdict.capitalize()}: {links}."] if names else []
