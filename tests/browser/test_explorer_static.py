"""The static form of explorers in a real browser, as the published page has it (no Sphinx, no kernel)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """Two explorers that share a parameter name: `wave` (two sliders, one coarser than live), `shape` (slider
    and choices)."""
    from learndyn.core.explorer import explore
    from learndyn.core.plotting import use_style

    x = np.linspace(0, 1, 50)

    def wave(frequency, weight_decay):
        fig, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
        ax.plot(x, np.exp(-1e3 * weight_decay * x) * np.sin(2 * np.pi * frequency * x))
        ax.set(ylim=(-1, 1), xlabel="time", ylabel="amplitude", title="A wave decays")
        return fig

    def shape(frequency, kind):
        fig, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
        ax.plot(x, getattr(np, kind)(2 * np.pi * frequency * x))
        ax.set(ylim=(-1, 1))
        return fig

    with plt.rc_context():
        use_style()
        first = explore(
            wave,
            {"frequency": np.arange(1, 4), "weight_decay": [0.0, 1e-2, 1e-3, 3e-4, 1e-4]},
            frames={"weight_decay": [0.0, 1e-3, 1e-4]},
            caption="Look at how weight decay <b>damps</b> the wave.",
            name="wave",
            labels={"frequency": "frequency (Hz)"},
            start={"frequency": 2},
        )
        second = explore(
            shape, {"frequency": [1, 2], "kind": ["sin", "cos"]}, caption="Look at the phase.", name="shape"
        )
        body = first.to_html() + second.to_html()
    folder = tmp_path_factory.mktemp("site")
    file = folder / "page.html"
    file.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Explorers</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"></head>'
        f'<body style="margin:16px">{body}</body></html>',
        encoding="utf-8",
    )
    return file


@pytest.fixture(params=["file", "http"])
def address(request, page_file, serve):
    if request.param == "file":
        return page_file.as_uri()
    return f"{serve(page_file.parent)}/{page_file.name}"


def pictures(page):
    return [page.locator(f"#figure-{name} img").get_attribute("src") for name in ("wave", "shape")]


def test_arrow_key_moves_its_own_explorer_only(visit, address):
    with visit(address) as visited:
        page = visited.page
        before = pictures(page)
        slider = page.get_by_role("slider", name="frequency (Hz)")
        slider.focus()
        page.keyboard.press("ArrowRight")
        after = pictures(page)
        assert after[0] != before[0]
        assert after[1] == before[1]
        page.keyboard.press("ArrowLeft")
        assert pictures(page) == before
        visited.assert_clean()


def test_value_text_follows_the_slider_for_eyes_and_screen_readers(visit, address):
    with visit(address) as visited:
        slider = visited.page.get_by_role("slider", name="weight decay")
        value = visited.page.locator("#figure-wave label", has_text="weight decay").locator("output")
        assert (value.text_content(), slider.get_attribute("aria-valuetext")) == ("0", "0")
        slider.focus()
        for key, text in {"End": "10⁻⁴", "ArrowLeft": "0.001", "Home": "0"}.items():
            visited.page.keyboard.press(key)
            assert (value.text_content(), slider.get_attribute("aria-valuetext")) == (text, text)
        alt = visited.page.locator("#figure-wave img").get_attribute("alt")
        assert "frequency (Hz) 2, weight decay 0" in alt
        assert "A wave decays" in alt
        visited.assert_clean()


def test_every_cell_of_the_grid_shows_the_frame_of_its_values(visit, page_file):
    """Nine cells, nine pictures, and the alternative text of each names its values."""
    with visit(page_file.as_uri()) as visited:
        page = visited.page
        sliders = page.locator("#figure-wave input")
        seen = set()
        for row, frequency in enumerate((1, 2, 3)):
            for column, decay in enumerate(("0", "0.001", "10⁻⁴")):
                sliders.nth(0).fill(str(row))
                sliders.nth(1).fill(str(column))
                image = page.locator("#figure-wave img")
                expected = f"frequency (Hz) {frequency}, weight decay {decay}"
                assert expected in image.get_attribute("alt")
                seen.add(image.get_attribute("src"))
        assert len(seen) == 9
        visited.assert_clean()


def test_choices_are_radio_buttons_that_arrow_keys_move(visit, address):
    with visit(address) as visited:
        page = visited.page
        before = pictures(page)
        page.get_by_role("radio", name="sin").focus()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("radio", name="cos").is_checked()
        after = pictures(page)
        assert after[0] == before[0]
        assert after[1] != before[1]
        page.keyboard.press("Enter")  # would send the form and reload the page
        assert pictures(page) == after
        visited.assert_clean()


def test_ids_are_unique_and_the_caption_is_text(visit, page_file):
    with visit(page_file.as_uri()) as visited:
        ids = visited.page.eval_on_selector_all("[id]", "nodes => nodes.map(node => node.id)")
        assert sorted(ids) == ["figure-shape", "figure-wave"]
        assert "<b>damps</b>" in visited.page.locator("#figure-wave figcaption").text_content()
        assert visited.page.get_by_role("group", name="Controls of the explorer wave").is_visible()


def test_without_scripts_the_still_is_there_and_controls_are_not(visit, address):
    with visit(address, scripts=False) as visited:
        for name in ("wave", "shape"):
            assert visited.page.locator(f"#figure-{name} img").is_visible()
            assert visited.page.locator(f"#figure-{name} img").bounding_box()["height"] > 200
            assert not visited.page.locator(f"#figure-{name} .controls").is_visible()
        visited.assert_clean()


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_needs_no_sideways_scrolling(visit, page_file, width):
    with visit(page_file.as_uri(), width=width, height=800) as visited:
        page = visited.page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for handle in page.locator("img, input[type=range], fieldset").all():
            box = handle.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        visited.assert_clean()


def test_the_guard_itself_sees_outside_requests_and_errors(visit, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://192.0.2.1/x.png"><script>throw new Error("broken")</script>')
    with visit(page.as_uri()) as visited:
        assert visited.outside == ["http://192.0.2.1/x.png"]
        assert any("broken" in error for error in visited.errors)
        with pytest.raises(AssertionError):
            visited.assert_clean()
