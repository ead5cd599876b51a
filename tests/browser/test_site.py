"""Every page of the site in a real Chromium, other hosts blocked: a small book, and the real one if built."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REAL = ROOT / "_build" / "quick" / "html"
SMALL_PAGES = (
    "intro",
    "demo/index",
    "demo/alpha",
    "demo/beta",
    "scoreboard",
    "gallery",
    "run_times",
    "references",
)
REAL_PAGES = sorted(path.relative_to(REAL).as_posix() for path in (REAL / "book").rglob("*.html"))
PAGES = [("small", f"book/{name}.html") for name in SMALL_PAGES] + [("real", page) for page in REAL_PAGES]
EXPLORERS = [("small", "book/demo/alpha.html")] + [
    ("real", page) for page in REAL_PAGES if "learndyn-explorer" in (REAL / page).read_text(encoding="utf-8")
]
SEARCHES = [("small", "slopes", "Alpha")] + [("real", "scoreboard", "Scoreboard")] * bool(REAL_PAGES)

pytestmark = pytest.mark.browser


@pytest.fixture
def html(request, built_book, site):
    """The folder of the site under test."""
    return built_book.root / "_build" / "quick" / "html" if site == "small" else REAL


@pytest.fixture(scope="session")
def base(serve):
    """``base(folder)``: address of the folder, which is served once for all tests."""
    return functools.cache(serve)


@pytest.fixture
def address(html, base):
    """``address(page)``: where the page is on the loopback server."""
    return lambda page: f"{base(html)}/{page}"


@pytest.mark.parametrize(("site", "name"), PAGES)
def test_page_loads_whole_from_its_own_host(visit, address, site, name):
    with visit(address(name)) as visited:
        page = visited.page
        page.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
        page.evaluate("window.MathJax ? MathJax.startup.promise.then(() => true) : true")
        unset = page.evaluate(
            "[...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).length"
        )
        assert unset == 0, "a formula was not typeset"
        assert page.locator("mjx-merror").count() == 0, "a formula has an error in it"
        left = page.evaluate(
            "document.querySelector('article').innerText.match(/\\\\\\(|\\$\\$|\\\\begin\\{/)"
        )
        assert left is None, "TeX is left in the text"
        broken = page.evaluate(
            "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 99))"
        )
        assert broken == []
        search = page.locator("button.search-button-field, .search-button__button, input[type=search]")
        assert sum(search.nth(i).is_visible() for i in range(search.count())) == 1
        visited.assert_clean()


@pytest.mark.parametrize(("site", "name"), PAGES)
def test_page_fits_a_phone(visit, address, site, name):
    with visit(address(name), width=390) as visited:
        page = visited.page
        page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")
        page.evaluate("document.fonts.ready.then(() => true)")  # another font may be wider
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        sidebar = page.locator(".bd-sidebar-primary nav").first
        assert not sidebar.is_visible()
        page.locator("button.primary-toggle:visible").click()
        sidebar.wait_for(state="visible")
        visited.assert_clean()


@pytest.mark.parametrize(("site", "name"), EXPLORERS)
def test_each_control_of_each_explorer_changes_its_picture(visit, address, site, name):
    with visit(address(name)) as visited:
        explorers = visited.page.locator("figure.learndyn-explorer")
        assert explorers.count(), f"no explorer of {name} can be moved"
        for number in range(explorers.count()):
            explorer = explorers.nth(number)
            picture = explorer.locator("img").first
            moved = 0
            for control in explorer.locator("input[type=range]:not([disabled])").all():
                at, most = int(control.input_value()), int(control.get_attribute("max"))
                before = picture.get_attribute("src")
                control.focus()
                seen = set()
                for _ in range(most):
                    visited.page.keyboard.press("ArrowRight" if at < most else "ArrowLeft")
                    seen.add(picture.get_attribute("src"))
                assert seen - {before}, f"explorer {number} of {name}: a slider does not change the picture"
                moved += 1
            choices = explorer.locator("input[type=radio]:not(:checked)")
            if not moved and choices.count():
                before = picture.get_attribute("src")
                choices.first.check(force=True)
                assert picture.get_attribute("src") != before
                moved += 1
            assert moved, f"explorer {number} of {name} has no control"
        visited.assert_clean()


@pytest.mark.parametrize(("site", "words", "found"), SEARCHES)
def test_search_finds(visit, address, site, words, found):
    with visit(address(f"search.html?q={words}")) as visited:
        results = visited.page.locator("#search-results li")
        results.first.wait_for()
        assert any(found in text for text in results.all_inner_texts())
        visited.assert_clean()


@pytest.mark.parametrize("site", ["small"])
def test_the_search_button_opens_a_field_that_leads_to_results(visit, address, site):
    with visit(address("book/intro.html")) as visited:
        page = visited.page
        page.keyboard.press("Control+k")
        field = page.locator("input[type=search]:visible")
        field.fill("slopes")
        field.press("Enter")
        page.wait_for_url(re.compile(r"search\.html\?q=slopes"))
        page.locator("#search-results li").first.wait_for()
        visited.assert_clean()


@pytest.mark.parametrize("site", ["small"])
def test_the_front_door_leads_to_the_front_page_and_files_work_without_a_server(visit, html, site):
    with visit((html / "index.html").as_uri()) as visited:
        visited.page.wait_for_url(re.compile(r"book/intro\.html$"))
    with visit((html / "book/demo/alpha.html").as_uri()) as visited:
        visited.page.locator("mjx-container").first.wait_for()
        visited.assert_clean()


@pytest.mark.parametrize("site", ["small"])
def test_the_download_button_gives_the_executed_notebook(visit, address, site):
    with visit(address("book/demo/alpha.html")) as visited:
        link = visited.page.locator(".btn-download-source-button")
        assert link.get_attribute("href").endswith("_sources/book/demo/alpha.ipynb")
        answer = visited.page.request.get(address("_sources/book/demo/alpha.ipynb"))
        assert answer.ok
        assert any(cell.get("outputs") for cell in answer.json()["cells"])


@pytest.mark.parametrize("site", ["small"])
def test_claims_are_readable_in_both_themes(visit, address, site):
    """Contrast of the verdicts with the page of at least 4.5, as WCAG wants of text."""
    with visit(address("book/scoreboard.html")) as visited:
        for theme in ("light", "dark"):
            visited.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            contrast = visited.page.evaluate(CONTRAST)
            assert contrast >= 4.5, theme


CONTRAST = """() => {
  const cell = document.querySelector('td[class^=verdict-]');
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  let box = cell;
  while (box && (rgb(getComputedStyle(box).backgroundColor)[3] === 0)) box = box.parentElement;
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const [a, b] = [light(rgb(getComputedStyle(cell).color)),
                  light(rgb(getComputedStyle(box || document.body).backgroundColor))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""
