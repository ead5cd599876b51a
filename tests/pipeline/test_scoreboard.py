"""The scoreboard's overview, filter and claims as the build writes them (their behaviour: tests/browser)."""

from __future__ import annotations

import re

import nbformat
import pytest

from learndyn.core.claims import Verdict
from learndyn.pipeline.pages import Chapter
from learndyn.pipeline.scoreboard import scoreboard


def record(name: str, notebook: str, verdict: Verdict) -> dict[str, object]:
    words = dict.fromkeys(("source", "statement", "published", "ours", "tolerance"), "words")
    return words | {"id": name, "verdict": str(verdict), "notebook": f"book/{notebook}.py"}


NAMES = ("waves/tide", "waves/ripple", "waves/foam")
NOTEBOOKS = {
    name: nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# On {name[6:]}")])
    for name in NAMES
}
CHAPTERS = [
    Chapter("waves/foam.ipynb", "Nothing claimed", NAMES[2:]),
    Chapter("waves/first_paper.md", "Moon & tide", NAMES[:1]),
    Chapter("waves/ripple.ipynb", "On ripple", NAMES[1:2]),
]
RECORDS = [
    record("a.one", NAMES[0], Verdict.REPRODUCED),
    record("a.two", NAMES[0], Verdict.NOT),
    record("b.one", NAMES[1], Verdict.PENDING),
]


@pytest.fixture(scope="module")
def text() -> str:
    return scoreboard(RECORDS, NOTEBOOKS, CHAPTERS)


def test_the_overview_counts_verdicts_and_leads_to_each_chapter_and_notebook(text):
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| **[Moon & tide](chapter-claims-of-waves-first-paper)** | 2 | 1 |  | 1 |  |",
        "| [On tide](claims-of-waves-tide) | 2 | 1 |  | 1 |  |",
        "| **[On ripple](chapter-claims-of-waves-ripple)** | 1 |  |  |  | 1 |",
        "| [On ripple](claims-of-waves-ripple) | 1 |  |  |  | 1 |",
        "| **All** | 3 | 1 |  | 1 | 1 |",
    ]
    labels = re.findall(r"^\((.+)\)=$", text, re.MULTILINE)
    assert sorted(labels) == sorted(re.findall(r"\]\((\S*claims-of-\S+)\)", text)), "each link has its target"


def test_each_chapter_leads_to_what_is_not_reproduced(text):
    first, second = text.split("## [On ripple](waves/ripple.ipynb)")[:2]
    assert "## [Moon & tide](waves/first_paper.md)" in first
    assert 'Not reproduced: <a href="#a.two">' in first
    assert 'Needs paper profile: <a href="#b.one">' in second


def test_the_filter_offers_every_verdict_and_every_chapter_with_claims(text):
    form = text[text.index("<form") : text.index("</form>")]
    assert form.startswith('<form class="claims-filter" autocomplete="off" hidden>'), "a script shows it"
    offered = re.findall(r'<input type="radio" name="(\w+)" value="(.*?)"( checked)?> (.+)</label>', form)
    assert [(name, value, words) for name, value, _, words in offered if name == "chapter"] == [
        ("chapter", "", "all"),
        ("chapter", "0", "Moon &amp; tide"),
        ("chapter", "1", "On ripple"),
    ]
    verdicts = [value for name, value, *_ in offered if name == "verdict"]
    assert len(verdicts) == 1 + len(Verdict)
    assert [value for _, value, checked, _ in offered if checked] == ["", ""]
    assert set(re.findall(r'<td class="(verdict-\w+)"', text)) < set(verdicts)


def test_claims_are_in_open_folds_that_know_their_chapter(text):
    folds = text.split("<details ")[1:]
    assert [fold[: fold.index(">")] for fold in folds] == [
        'class="claims-fold" data-chapter="0" open',
        'class="claims-fold" data-chapter="1" open',
    ], "open, for readers without scripts"
    ids = [re.findall(r'<tr id="(.+?)"', fold) for fold in folds]
    assert ids == [["a.one", "a.two"], ["b.one"]]
    assert "<summary>2 claims: 1 reproduced, 1 not reproduced<" in folds[0]


def test_the_page_carries_its_script_after_the_claims(text):
    assert text.index("<script>") > text.rindex("</details>")
    assert "src=" not in text[text.index("<script>") :], "nothing to fetch"


def test_a_build_without_claims_says_so():
    assert scoreboard([], NOTEBOOKS, CHAPTERS) == "No notebook of this build holds a table of claims."
