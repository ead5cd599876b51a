"""What groups the notebooks on the pages that a build fills."""

from __future__ import annotations

from textwrap import dedent

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
