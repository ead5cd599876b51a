"""Colours by published models of colour vision; labels and titles by their geometry; outputs by content."""

from __future__ import annotations

import warnings
from itertools import combinations, pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(color):
    return np.array(
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(color)]
    )


def lab(color, vision="normal"):
    """CIELAB under D65 of a colour as that vision sees it."""
    xyz = TO_XYZ @ np.clip(VISION[vision] @ linear(color), 0, 1) / TO_XYZ.sum(axis=1)
    f = [np.cbrt(t) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in xyz]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast_on_white(color):
    return 1.05 / (float(linear(color) @ TO_XYZ[1]) + 0.05)


def least_distance(colors, vision):
    return min(np.linalg.norm(lab(a, vision) - lab(b, vision)) for a, b in combinations(colors, 2))


@pytest.fixture
def plotting():
    """The module with its style set, undone afterwards."""
    from learndyn.core import plotting

    with plt.rc_context():
        plotting.use_style()
        yield plotting


@pytest.fixture
def shown(plotting, monkeypatch):
    """What `show` displayed, as (data, metadata)."""
    outputs = []
    monkeypatch.setattr(plotting, "display", lambda data, metadata, raw: outputs.append((data, metadata)))
    return outputs


@pytest.mark.parametrize("vision", VISION)
def test_palette_colours_are_told_apart(plotting, vision):
    assert least_distance(plotting.PALETTE, vision) > 30


def test_the_measure_of_distance_can_fail():
    """matplotlib's own cycle has a pair that deuteranopes confuse, and its greys nearly coincide."""
    usual = [f"C{k}" for k in range(6)]
    assert least_distance(usual, "deuteranopia") < 15
    assert np.diff(sorted(lab(color)[0] for color in usual)).min() < 3


def test_palette_is_a_staircase_in_greyscale_and_visible_on_white(plotting):
    lightness = sorted(lab(color)[0] for color in plotting.PALETTE)
    assert np.diff(lightness).min() > 8
    assert min(contrast_on_white(color) for color in plotting.PALETTE) > 1.8


def test_verdict_colours_are_legible_text_for_every_verdict(plotting):
    assert set(plotting.VERDICT_COLORS) == {
        "reproduced",
        "reproduced at smaller scale",
        "not reproduced",
        "needs paper profile",
    }
    assert min(contrast_on_white(color) for color in plotting.VERDICT_COLORS.values()) > 4.5


def test_sequential_map_is_monotone_and_cyclic_map_closes_and_stays_visible(plotting):
    lightness = [lab(mpl.colormaps[plotting.SEQUENTIAL](t))[0] for t in np.linspace(0, 1, 65)]
    assert (np.diff(lightness) < 0).all()
    turn = [mpl.colormaps[plotting.CYCLIC](t) for t in np.linspace(0, 1, 65)]
    assert np.allclose(turn[0], turn[-1], atol=0.01)
    assert min(map(contrast_on_white, turn)) > 1.8
    for vision in VISION:
        quarters = [turn[0], turn[16], turn[32], turn[48]]
        assert least_distance(quarters, vision) > 25


def test_shades_are_ordered_in_lightness(plotting):
    shades = plotting.shades(7)
    assert len(set(shades)) == 7
    assert (np.diff([lab(color)[0] for color in shades]) < -3).all()
    assert len(plotting.shades(1)) == 1
    with pytest.raises(ValueError, match="at least 1"):
        plotting.shades(0)


def test_text_stays_legible_on_a_phone(plotting):
    """390 px less 16 px of margin on both sides: tick labels of the widest figure are 7 px or more."""
    for width, _ in plotting.FIGURE_SIZES.values():
        for size in ("xtick.labelsize", "ytick.labelsize", "axes.labelsize", "legend.fontsize"):
            assert plt.rcParams[size] * 358 / (72 * width) >= 7


# --------------------------------------------------------------------------------------------- direct labels


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(0.5, 20))
def test_spread_keeps_order_gap_and_interval(targets, gap):
    from learndyn.core.plotting import spread

    placed = spread(targets, gap, 0.0, 100.0)
    fits = min(gap, 100 / max(len(targets) - 1, 1))
    order = np.argsort(targets, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= fits - 1e-9).all()
    assert min(placed) >= -1e-9
    assert max(placed) <= 100 + 1e-9


def test_spread_moves_nothing_that_has_room_and_splits_a_tie_evenly(plotting):
    assert plotting.spread([10.0, 50.0, 30.0], 5.0, 0.0, 100.0) == pytest.approx([10, 50, 30])
    assert plotting.spread([50.0, 50.0, 50.0], 5.0, 0.0, 100.0) == pytest.approx([45, 50, 55])
    assert plotting.spread([], 5.0, 0.0, 100.0) == []


def labelled(plotting, ends):
    fig, ax = plt.subplots()
    for number, end in enumerate(ends):
        ax.plot([0, 1], [number, end], label=f"line {number}")
    ax.set(ylim=(0, 10))
    return fig, ax


def test_labels_do_not_overlap_and_lie_within_the_figure(plotting):
    fig, ax = labelled(plotting, [5.0, 5.01, 5.02, 9.99, 10.0])
    ax.plot([0, 1], [1, 1], label="_hidden")
    ax.plot([0, 1], [np.nan, np.nan], label="nothing")
    ax.legend()
    texts = plotting.label_lines(ax)
    assert [text.get_text() for text in texts] == [f"line {number}" for number in range(5)]
    assert ax.get_legend() is None
    fig.draw_without_rendering()
    # an annotation's own extent would include its leader
    boxes = sorted((mpl.text.Text.get_window_extent(text) for text in texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 0.5 for low, high in pairwise(boxes))
    assert all(box.x0 > ax.get_window_extent().x1 and box.x1 <= fig.bbox.x1 for box in boxes)
    plt.close(fig)


def test_a_label_stands_beside_its_line_on_a_log_axis(plotting):
    fig, ax = plt.subplots()
    ax.plot([1, 2, 3], [1.0, 1e-3, np.nan], label="short")
    ax.plot([1, 2, 3], [1.0, 1e-1, 1e-2], label="long")
    ax.set(yscale="log", xlim=(1, 3))
    short, long = plotting.label_lines(ax)
    fig.draw_without_rendering()
    extents = {text.get_text(): mpl.text.Text.get_window_extent(text) for text in (short, long)}
    for name, value in {"short": 1e-3, "long": 1e-2}.items():
        assert (extents[name].y0 + extents[name].y1) / 2 == pytest.approx(
            ax.transData.transform((1, value))[1], abs=3
        )
    assert short.arrow_patch is not None  # its line ends in mid-plot
    assert long.arrow_patch is None
    assert contrast_on_white(long.get_color()) >= 4.5
    plt.close(fig)


# --------------------------------------------------------------------------------------------- titles, words


def test_long_titles_are_wrapped_into_the_picture_and_math_stays_whole(plotting):
    fig, ax = plt.subplots()
    ax.set_title(
        "Higher weight decay pushes solutions towards order $d = 4 + 2$, earlier and more completely"
    )
    plotting.wrap_titles(fig)
    fig.draw_without_rendering()
    title = ax.get_title("left")
    assert "\n" in title
    assert all(line.count("$") % 2 == 0 for line in title.split("\n"))
    text = next(child for child in ax.get_children() if getattr(child, "get_text", str)() == title)
    assert text.get_window_extent().x1 <= fig.bbox.x1
    plt.close(fig)


def test_short_titles_stay_on_one_line(plotting):
    fig, axes = plt.subplots(1, 2)
    axes[0].set_title("Short")
    fig.suptitle("Also short")
    plotting.wrap_titles(fig)
    assert (axes[0].get_title("left"), fig.get_suptitle()) == ("Short", "Also short")
    plt.close(fig)


def test_description_names_titles_axes_and_lines(plotting):
    fig, ax = plt.subplots()
    ax.plot([1, 2], [1, 2], label="theory")
    ax.set(xlabel="epoch", ylabel="loss", yscale="log", title="Loss\nfalls")
    words = plotting.describe(fig)
    assert words == "Loss falls. horizontal axis: epoch; vertical axis: loss (log). lines: theory"
    plt.close(fig)


# ----------------------------------------------------------------------------------------- into the notebook


def scatter(points):
    fig, ax = plt.subplots()
    ax.set_title("Title & more")
    steps = np.arange(points)
    ax.scatter(np.cos(steps), np.sin(steps), s=steps % 7 + 1)
    return fig


def as_notebook(outputs):
    cell = nbformat.v4.new_code_cell(
        outputs=[
            nbformat.v4.new_output("display_data", data, metadata=metadata) for data, metadata in outputs
        ]
    )
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("text"), cell])


def test_shown_figure_is_found_again_with_all_that_the_gallery_needs(plotting, shown):
    plotting.show(scatter(20), name="spread-1", caption="Look at $x < 3$ & wonder.", source="Figure 3a")
    notebook = as_notebook(shown)
    nbformat.validate(notebook)
    (figure,) = plotting.gather_figures(notebook)
    picture = figure.pop("data")
    assert figure == {
        "name": "spread-1",
        "caption": "Look at $x < 3$ & wonder.",
        "source": "Figure 3a",
        "kind": "figure",
        "anchor": "figure-spread-1",
        "alt": "Title & more",
        "mime": "image/svg+xml",
    }
    assert b"<svg" in picture
    assert b"<text" not in picture  # letters are paths
    body = shown[0][0]["text/html"]
    assert 'id="figure-spread-1"' in body
    assert "Look at \\(x &lt; 3\\) &amp; wonder." in body
    assert "Paper: Figure 3a." in body
    # a notebook on disk keeps text as lines
    lines = as_notebook([({"text/html": body.splitlines(keepends=True)}, shown[0][1])])
    assert plotting.gather_figures(lines)[0]["data"] == picture


def test_same_drawing_gives_the_same_bytes(plotting, shown):
    for _ in range(2):
        plotting.show(scatter(20), name="same", caption="Twice.")
    assert shown[0] == shown[1]


def test_a_heavy_drawing_becomes_a_sharp_png(plotting, shown):
    plotting.show(scatter(5000), name="many", caption="Many.", alt="Five thousand points")
    (figure,) = plotting.gather_figures(as_notebook(shown))
    assert (figure["mime"], figure["alt"]) == ("image/png", "Five thousand points")
    assert figure["data"].startswith(b"\x89PNG")
    assert int.from_bytes(figure["data"][16:20], "big") > 2 * 500


def test_bad_names_missing_captions_and_doubles_are_refused(plotting, shown):
    fig = scatter(3)
    for name in ("", "Figure 3", "3a", 'x"y'):
        with pytest.raises(ValueError, match="figure name"):
            plotting.show(fig, name=name, caption="A caption.")
    with pytest.raises(ValueError, match="needs a caption"):
        plotting.show(fig, name="fine", caption=" ")
    assert shown == []
    plotting.show(fig, name="fine", caption="A caption.")
    with pytest.raises(ValueError, match="two figures of this notebook are named 'fine'"):
        plotting.gather_figures(as_notebook(shown * 2))


def test_outputs_that_are_no_figures_are_passed_over(plotting):
    claims = ({"text/html": "<table></table>"}, {"learndyn": {"claims": True}})
    assert plotting.gather_figures(as_notebook([claims, ({"text/plain": "3"}, {})])) == []


def test_style_leaves_no_warning_and_the_module_can_be_loaded_again(plotting):
    import importlib

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(plotting)
        plotting.use_style()
