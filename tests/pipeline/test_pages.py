"""What groups the notebooks on the pages that a build fills."""

from __future__ import annotations

from textwrap import dedent

import nbformat

from learndyn.core.claims import Verdict
from learndyn.pipeline import pages
from learndyn.pipeline.project import Project

TOC = """\
format: jb-book
root: book/intro
parts:
  - caption: Chapters
    chapters:
      - file: book/waves/first_paper
        sections:
          - file: book/waves/tide
      - file: book/waves/second_paper
        sections:
          - file: book/waves/ripple
          - file: book/waves/foam
      - file: book/alone
  - caption: The book
    chapters:
      - file: book/scoreboard
"""


def test_chapters_are_the_pages_at_the_top_of_the_table_of_contents(tmp_path):
    (tmp_path / "_toc.yml").write_text(dedent(TOC), encoding="utf-8")
    (tmp_path / "book/waves").mkdir(parents=True)
    for name in ("waves/tide", "waves/ripple", "waves/foam", "alone"):
        (tmp_path / f"book/{name}.py").touch()
    assert Project(tmp_path).chapters == {
        "book/waves/first_paper": ("waves/tide",),
        "book/waves/second_paper": ("waves/ripple", "waves/foam"),
        "book/alone": ("alone",),
    }, "two chapters may share a folder, a notebook may be a chapter, pages without notebooks are none"


def record(name: str, notebook: str, verdict: Verdict) -> dict[str, object]:
    words = dict.fromkeys(("source", "statement", "published", "ours", "tolerance"), "words")
    return words | {"id": name, "verdict": str(verdict), "notebook": f"book/{notebook}.py"}


def test_scoreboard_counts_verdicts_and_leads_to_what_is_not_reproduced():
    names = ("waves/tide", "waves/ripple")
    notebooks = {
        name: nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# On {name[6:]}")])
        for name in names
    }
    records = [
        record("a.one", "waves/tide", Verdict.REPRODUCED),
        record("a.two", "waves/tide", Verdict.NOT),
        record("b.one", "waves/ripple", Verdict.PENDING),
    ]
    chapters = [pages.Chapter(f"{name}.md", f"About {name[6:]}", (name,)) for name in names]
    text = pages.scoreboard(records, notebooks, chapters)
    assert "| **About tide** | 2 | 1 |  | 1 |  |" in text
    assert "| [On ripple](claims-of-waves-ripple) | 1 |  |  |  | 1 |" in text
    first, second = text.split("## [About ripple](waves/ripple.md)")
    assert "## [About tide](waves/tide.md)" in first
    assert 'Not reproduced: <a href="#a.two">' in first
    assert 'Needs paper profile: <a href="#b.one">' in second
