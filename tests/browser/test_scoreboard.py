"""The scoreboard in a real Chromium: folds, the filter by keyboard, links into folds, no scripts at all."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest

pytestmark = pytest.mark.browser

REPRODUCED, NOT = "reproduced", "not reproduced"
CLAIMS = {
    "alpha": [REPRODUCED] * 8 + [NOT],
    "beta": [REPRODUCED] * 3 + ["needs paper profile"],
    "gamma": [REPRODUCED] * 5 + [NOT, NOT],
}
"""Verdicts by notebook; alpha and beta are one chapter, gamma is another. The ids are alpha.0, alpha.1, …"""


def executed(name: str) -> nbformat.NotebookNode:
    """A notebook with the records of its claims in an output, as if it had been executed."""
    from learndyn.core.claims import MIME

    words = dict.fromkeys(("source", "statement", "published", "ours", "tolerance"), "some words")
    records = [words | {"id": f"{name}.{i}", "verdict": verdict} for i, verdict in enumerate(CLAIMS[name])]
    output = nbformat.v4.new_output("display_data", data={MIME: records})
    cells = [
        nbformat.v4.new_markdown_cell(f"# {name.capitalize()}"),
        nbformat.v4.new_code_cell("ledger", outputs=[output]),
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


@pytest.fixture(scope="module")
def page_file(new_book):
    """The scoreboard of a book of two chapters; only its pages are built."""
    book = new_book()
    book.edit("_toc.yml", "  - caption: The book\n", "      - file: book/demo/gamma\n  - caption: The book\n")
    book.write("book/demo/gamma.py", "")
    for name in CLAIMS:
        book.executed(f"demo/{name}").parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(executed(name), book.executed(f"demo/{name}"))
    command = [sys.executable, "-m", "learndyn.pipeline.site", "--root", str(book.root), "--profile", "quick"]
    subprocess.run(command, env=book.environment, check=True)
    return book.root / "_build/quick/html/book/scoreboard.html"


@pytest.fixture
def address(page_file):
    return page_file.as_uri()


def shown(page) -> list[str]:
    """The ids of the claims that a reader can see."""
    return [
        row.get_attribute("id") for row in page.locator(".claims-table tbody tr").all() if row.is_visible()
    ]


def of(verdict: str) -> list[str]:
    return [f"{name}.{i}" for name, them in CLAIMS.items() for i, it in enumerate(them) if it == verdict]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("server", [False, True], ids=["file", "http"])
def test_it_opens_with_the_overview_the_filter_and_folds(visit, page_file, serve, server, width):
    site = page_file.parents[1]
    address = f"{serve(site)}/book/scoreboard.html" if server else page_file.as_uri()
    with visit(address, width=width) as visited:
        page = visited.page
        assert page.locator("table.claims-overview a").count() == 2 + 3
        assert page.get_by_role("status").inner_text() == "20 of 20 claims shown"
        assert page.get_by_role("group", name="Verdict").get_by_role("radio").count() == 5
        assert page.get_by_role("group", name="Chapter").get_by_role("radio").count() == 3
        assert shown(page) == []
        page.get_by_role("checkbox", name="unfold all").check()
        assert len(shown(page)) == 20
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        visited.assert_clean()


def test_the_keyboard_filters_by_verdict_and_chapter(visit, address):
    with visit(address) as visited:
        page, status = visited.page, visited.page.get_by_role("status")
        page.get_by_role("group", name="Verdict").get_by_label("all", exact=True).focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        focused = page.locator(":focus")
        assert focused.get_attribute("value") == "verdict-not"
        assert focused.evaluate("input => getComputedStyle(input).outlineStyle") == "solid"
        assert shown(page) == of(NOT)
        assert status.inner_text() == "3 of 20 claims shown"
        assert not page.get_by_role("heading", name="Beta").is_visible()
        assert "(2 shown)" in page.locator(".claims-fold summary").last.inner_text()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert shown(page) == ["gamma.5", "gamma.6"]
        assert status.inner_text() == "2 of 20 claims shown"
        assert not page.get_by_role("heading", name="A chapter").is_visible()
        page.get_by_label("needs paper profile").check()
        assert shown(page) == []
        assert status.inner_text() == "0 of 20 claims shown"
        page.get_by_role("group", name="Chapter").get_by_label("all", exact=True).check()
        assert shown(page) == of("needs paper profile")
        page.get_by_role("group", name="Verdict").get_by_label("all", exact=True).check()
        assert shown(page) == []
        assert status.inner_text() == "20 of 20 claims shown"
        visited.assert_clean()


def test_a_chapter_by_itself_keeps_the_folds_as_they_are(visit, address):
    with visit(address) as visited:
        page = visited.page
        page.locator(".claims-fold summary").nth(1).focus()
        page.keyboard.press("Enter")
        beta = [f"beta.{i}" for i in range(4)]
        assert shown(page) == beta
        page.get_by_role("group", name="Chapter").get_by_label("A chapter").check()
        assert shown(page) == beta
        assert page.get_by_role("status").inner_text() == "13 of 20 claims shown"
        page.get_by_role("group", name="Chapter").get_by_label("Gamma").check()
        assert shown(page) == []
        visited.assert_clean()


def test_an_address_of_a_claim_opens_its_fold_there(visit, address):
    with visit(f"{address}#gamma.6", height=500) as visited:
        row = visited.page.locator("[id='gamma.6']")
        row.wait_for(state="visible")
        visited.page.wait_for_function("scrollY > 0")
        top = row.bounding_box()["y"]
        assert 0 <= top < 500
        assert shown(visited.page) == [f"gamma.{i}" for i in range(7)], "the other folds stay closed"
        visited.assert_clean()


def test_links_show_what_the_filter_hides_and_open_a_fold_again(visit, address):
    with visit(address) as visited:
        page, overview = visited.page, visited.page.locator("table.claims-overview")
        page.get_by_label("needs paper profile").check()
        overview.locator("a[href='#claims-of-demo-gamma']").click()
        page.locator("[id='gamma.0']").wait_for(state="visible")
        assert page.get_by_role("status").inner_text() == "20 of 20 claims shown"
        assert shown(page) == [f"gamma.{i}" for i in range(7)]
        page.locator(".claims-fold summary").last.click()
        assert shown(page) == []
        overview.locator("a[href='#claims-of-demo-gamma']").click()
        page.locator("[id='gamma.0']").wait_for(state="visible")
        page.locator("article a[href='#alpha.8']").click()
        page.locator("[id='alpha.8']").wait_for(state="visible")
        visited.assert_clean()


@pytest.mark.parametrize("width", [1280, 390])
def test_without_scripts_everything_is_shown(visit, address, width):
    with visit(address, scripts=False, width=width) as visited:
        assert len(shown(visited.page)) == 20
        assert not visited.page.locator(".claims-filter").is_visible()
        visited.page.locator(".claims-fold summary").first.click()
        assert len(shown(visited.page)) == 11, "a fold is the browser's own"
        assert not visited.outside
