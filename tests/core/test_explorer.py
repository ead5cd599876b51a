"""Explorers: what the two forms hold. That they move in a browser is tested in tests/browser."""

from __future__ import annotations

import base64
import io
import json
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image


def draw(slope, kind="a"):
    fig, ax = plt.subplots(figsize=(3, 2), layout="constrained")
    ax.plot([0, 1], [0, slope], color={"a": "tab:blue", "b": "tab:red"}[kind])
    ax.set(ylim=(-1, 5), title="A line", xlabel="x", ylabel="y")
    return fig


@pytest.fixture
def explore():
    from learndyn.core.explorer import explore

    return explore


@pytest.fixture
def make(explore):
    def make(function=draw, parameters=None, **options):
        defaults = {"caption": "Look at the slope.", "name": "line"}
        return explore(function, parameters or {"slope": [1.0, 2.0, 3.0]}, **defaults | options)

    return make


def frames_of(body):
    return json.loads(
        re.search(r'<script type="application/json" class="frames">(.*?)</script>', body, re.S)[1]
    )


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-4, "10⁻⁴"),
        (-1e-4, "−10⁻⁴"),
        (2.5e-5, "2.5×10⁻⁵"),
        (0.05, "0.05"),
        (-0.5, "−0.5"),
        (3e7, "3×10⁷"),
        (71, "71"),
        (True, "True"),
        ("relu", "relu"),
        ((4, 4), "(4, 4)"),
        (float("inf"), "inf"),
    ],
)
def test_values_read_as_a_person_writes_them(value, text):
    from learndyn.core.explorer import format_value

    assert format_value(value) == text


def test_frames_cover_the_grid_last_parameter_fastest_and_show_the_drawing(make):
    body = make(parameters={"slope": [1.0, 4.0], "kind": ["a", "b"]}).to_html()
    table = frames_of(body)
    assert table["labels"] == [["1", "4"], ["a", "b"]]
    assert table["frame"] == [0, 1, 2, 3]
    assert table["images"][0] is None  # the page's own image
    assert [alt.split("At ")[1] for alt in table["alt"]] == [
        "slope 1, kind a.",
        "slope 1, kind b.",
        "slope 4, kind a.",
        "slope 4, kind b.",
    ]
    # an independent rendering of one frame: the palette may move a channel a little, and few pixels
    fig = draw(4.0, "b")
    fig.set_dpi(160)
    fig.canvas.draw()
    plain = np.asarray(fig.canvas.buffer_rgba())[..., :3].astype(int)
    plt.close(fig)
    frame = decoded(table["images"][3])
    assert frame.shape == plain.shape
    assert np.abs(frame - plain).mean() < 0.5
    assert np.abs(decoded(table["images"][2]) - plain).mean() > 0.5


def test_start_frame_is_the_still_and_equal_frames_are_kept_once(make):
    body = make(lambda slope: draw(min(slope, 2.0)), start={"slope": 2.0}).to_html()
    table = frames_of(body)
    assert table["frame"] == [1, 0, 0]
    assert len(table["images"]) == 2
    assert 'value="1" aria-label="slope" aria-valuetext="2"' in body
    still = re.search(r'<img [^>]*src="([^"]+)"', body)[1]
    fig = draw(2.0)
    fig.set_dpi(160)
    fig.canvas.draw()
    assert np.abs(decoded(still) - np.asarray(fig.canvas.buffer_rgba())[..., :3]).mean() < 0.5
    plt.close(fig)


def test_nothing_is_drawn_before_it_is_displayed_and_once_per_value(make):
    calls = []

    def counted(slope):
        calls.append(slope)
        return draw(slope)

    explorer = make(counted)
    assert calls == []
    fig = explorer.preview()
    plt.close(fig)
    assert calls == [1.0]
    calls.clear()
    explorer.to_html()
    assert sorted(calls) == [1.0, 2.0, 3.0]


def test_bundle_holds_both_forms_and_registers_a_still(make):
    from learndyn.core.plotting import gather_figures

    explorer = make(source="Figure 5", labels={"slope": "slope $a$"})
    data, metadata = explorer._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.widget().model_id
    assert data["text/plain"] == "Explorer line: Look at the slope."
    assert "slope \\(a\\)" in data["text/html"]
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    (figure,) = gather_figures(notebook)
    assert (figure["name"], figure["kind"], figure["source"]) == ("line", "explorer", "Figure 5")
    assert figure["data"].startswith(b"\x89PNG")
    explorer.widget().close()


def test_live_controls_draw_again(make):
    import ipywidgets

    explorer = make(parameters={"slope": np.array([1.0, 2.0]), "kind": ["a", "b"]}, start={"kind": "b"})
    picture, slider, choice, _ = explorer.widget().children
    assert isinstance(slider, ipywidgets.SelectionSlider)
    assert isinstance(choice, ipywidgets.ToggleButtons)
    assert choice.value == "b"
    before = picture.value
    slider.value = 2.0
    assert picture.value != before
    assert "At slope 2, kind b." in picture.value
    slider.value = 1.0
    assert picture.value == before
    explorer.widget().close()


def test_a_failing_drawing_says_so_live_and_names_its_values_otherwise(make):
    def fragile(slope):
        if slope > 1:
            raise RuntimeError("no <solution>")
        return draw(slope)

    explorer = make(fragile)
    picture, slider, _ = explorer.widget().children
    slider.value = 2.0
    assert "RuntimeError" in picture.value
    assert "no &lt;solution&gt;" in picture.value
    with pytest.raises(RuntimeError) as caught:
        explorer.to_html()
    assert caught.value.__notes__ == ["while the explorer 'line' drew its frame at {'slope': 2.0}"]
    explorer.widget().close()


def test_the_page_may_have_a_coarser_grid_than_the_live_sliders(make):
    drawn = []

    def counted(slope, kind):
        drawn.append((slope, kind))
        return draw(slope, kind)

    slopes = np.array([1.0, 2.0, 3.0, 4.0])
    explorer = make(
        counted,
        {"slope": slopes, "kind": ["a", "b"]},
        start={"slope": 3.0},
        frames={"slope": np.array([3.0, 1.0])},  # in any order
    )
    body = explorer.to_html()
    table = frames_of(body)
    assert table["labels"] == [["1", "3"], ["a", "b"]]
    assert table["frame"] == [1, 2, 0, 3]
    assert [alt.split("At ")[1] for alt in table["alt"]] == [
        f"slope {slope}, kind {kind}." for slope in "13" for kind in "ab"
    ]
    assert sorted(drawn) == [(1.0, "a"), (1.0, "b"), (3.0, "a"), (3.0, "b")]
    assert re.search(r'max="1" step="1" value="1" aria-label="slope" aria-valuetext="3"', body)
    slider = explorer.widget().children[1]
    assert [value for _, value in slider.options] == slopes.tolist()
    slider.value = 2.0
    assert drawn[-1] == (2.0, "a")
    explorer.widget().close()


def test_one_value_of_several_on_the_page_is_a_disabled_slider_there(make):
    explorer = make(frames={"slope": [1.0]})
    assert re.search(r'max="0"[^>]* disabled>', explorer.to_html())
    assert not explorer.widget().children[1].disabled
    explorer.widget().close()


def test_frames_have_the_pixels_of_the_still_in_fewer_bytes(make):
    first, second = make(), make(start={"slope": 2.0})
    frame = frames_of(first.to_html())["images"][1]
    still = re.search(r'<img [^>]*src="([^"]+)"', second.to_html())[1]
    assert frame.startswith("data:image/webp")
    assert still.startswith("data:image/png")
    np.testing.assert_array_equal(decoded(frame), decoded(still))
    assert len(frame) < 0.9 * len(still)


def test_frames_are_png_where_pillow_has_no_webp(make, monkeypatch):
    wanted = decoded(frames_of(make().to_html())["images"][1])
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "webp")
    frame = frames_of(make().to_html())["images"][1]
    assert frame.startswith("data:image/png")
    np.testing.assert_array_equal(decoded(frame), wanted)


def test_controls_start_hidden_and_no_text_can_break_out(make):
    body = make(
        lambda kind: draw(1.0),
        {"kind": ["</script><b>", "b"]},
        labels={"kind": "<i>kind</i>"},
        caption="A <b>bold</b> caption.",
    ).to_html()
    assert re.search(r'<div class="controls[^>]* hidden>', body)
    assert "<b>" not in body
    assert "<i>" not in body
    assert body.count("</script>") == 2
    assert frames_of(body)["labels"] == [["</script><b>", "b"]]
    assert "http" not in body.replace("data:", "")


def test_over_budget_is_one_sentence_that_says_what_to_do(make):
    from learndyn.core.explorer import ExplorerError

    with pytest.raises(
        ExplorerError, match=r"2 of 3 frames take .* MB, over the budget of 0.01 MB; use fewer"
    ):
        make(budget=10_000).to_html()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameters": {"slope": []}}, "'slope' has no values"),
        ({"start": {"slope": 9.0}}, "start slope=9.0 is not among its values"),
        ({"start": {"slop": 1.0}}, "start names 'slop', not one of slope"),
        ({"labels": {"slop": "x"}}, "labels names 'slop', not one of slope"),
        ({"frames": {"slop": [1.0]}}, "frames names 'slop', not one of slope"),
        ({"frames": {"slope": [1.0, 1.5]}}, "frames slope=1.5 is not among the values of its slider"),
        ({"frames": {"slope": [2.0]}}, "frames of 'slope' leave out 1.0, where it starts"),
        ({"name": "A b"}, "figure name"),
        ({"caption": ""}, "needs a caption"),
    ],
)
def test_mistakes_are_refused_before_anything_is_drawn(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(lambda slope: pytest.fail("drawn"), **arguments)


def test_no_parameters_and_frames_of_two_sizes_are_refused(explore):
    from learndyn.core.explorer import ExplorerError

    def growing(size):
        return plt.subplots(figsize=(size, 2))[0]

    with pytest.raises(ExplorerError, match="has no parameters"):
        explore(draw, {}, caption="x", name="none")
    with pytest.raises(ExplorerError, match="draw all frames with one figure size"):
        explore(growing, {"size": [2, 3]}, caption="x", name="grow").to_html()
    with pytest.raises(ExplorerError, match="draw returned int"):
        explore(lambda size: 3, {"size": [2, 3]}, caption="x", name="none").to_html()


def test_one_value_is_a_disabled_slider(make):
    assert re.search(r'max="0"[^>]* disabled>', make(parameters={"slope": [1.0]}).to_html())
