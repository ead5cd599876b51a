"""The look of every figure, and how a figure reaches the page.

One palette (readable in greyscale and for colour-blind readers, see `PALETTE`), one set of sizes, direct
labels instead of legends, and `show`, which puts a figure with its caption and alternative text into the
notebook, where `gather_figures` finds it again for the gallery.

Figures are opaque white on light and dark pages alike. A transparent figure would need inks that are legible
on both, that is mid-greys that are good on neither, and colour maps whose pale end means "nothing" would be
wrong on black.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from scipy.optimize import isotonic_regression

# Indigo, rust, green, periwinkle, pine, amber: found by maximising the least distance between any two under
# simulated protanopia and deuteranopia, with lightness L* at least 8 apart for greyscale.
PALETTE: tuple[str, ...] = ("#322270", "#b3381c", "#52b489", "#7d87ce", "#0a5959", "#f7a934")
INK, MUTED, GRID = "#222832", "#667085", "#e4e7ec"

SEQUENTIAL = "mako_r"  # magnitudes: pale is nothing; monotone in lightness
CYCLIC = "learndyn_phase"  # phases: warm half, cool half, same colour at both ends

# twilight, the usual choice, is nearly white at its ends: markers vanish there. This one stays visible.
_PHASES = ["#f7a934", "#b3381c", "#322270", "#3f68b0", "#52b489", "#f7a934"]
if CYCLIC not in mpl.colormaps:  # loading this module again is no reason for a warning
    mpl.colormaps.register(
        mpl.colors.LinearSegmentedColormap.from_list(
            CYCLIC, list(zip([0, 0.22, 0.5, 0.72, 0.87, 1], _PHASES, strict=True))
        )
    )

VERDICT_COLORS: dict[str, str] = {
    "reproduced": "#17724d",
    "reproduced at smaller scale": "#3b62b8",
    "not reproduced": "#b3381c",
    "needs paper profile": "#667085",
}

# Inches. A phone shows them 358 px wide, so 7 in is the widest at which tick labels stay above 7 px there.
FIGURE_SIZES: dict[str, tuple[float, float]] = {
    "single": (5.6, 3.6),
    "wide": (7.0, 3.4),
    "square": (4.8, 4.6),
    "tall": (5.6, 6.4),
}

SVG_LIMIT = 300_000  # bytes; a larger drawing (many markers) becomes a PNG
PNG_DPI = 200
_SVG_OPTIONS = {"svg.fonttype": "path", "svg.hashsalt": "learndyn"}


def use_style() -> None:
    """Set matplotlib's and seaborn's defaults for this book: palette, sizes, fonts, layout.

    Letters in SVG files are drawn as paths: an SVG inside `<img>` can load no font, and the reader's machine
    may lack ours; the words reach a screen reader through the alternative text. SVG ids are fixed, so that
    an unchanged figure is an unchanged file.
    """
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=list(PALETTE),
        rc={
            "figure.figsize": FIGURE_SIZES["single"],
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.h_pad": 0.08,
            "figure.constrained_layout.w_pad": 0.08,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlelocation": "left",
            "axes.titlesize": 12.5,
            "axes.titleweight": "bold",
            "axes.titlepad": 9,
            "axes.labelsize": 11.5,
            "axes.linewidth": 0.9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "figure.titlesize": 12.5,
            "figure.titleweight": "bold",
            "font.size": 11,
            "legend.fontsize": 10.5,
            "legend.title_fontsize": 10.5,
            "legend.frameon": False,
            "lines.linewidth": 1.9,
            "lines.markersize": 5,
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 10.5,
            "ytick.labelsize": 10.5,
            "xtick.major.size": 4,
            "ytick.major.size": 4,
            "xtick.minor.size": 2,
            "ytick.minor.size": 2,
            "image.cmap": SEQUENTIAL,
            **_SVG_OPTIONS,
        },
    )


def shades(count: int, colormap: str = SEQUENTIAL) -> list[str]:
    """`count` colours for an ordered parameter, without the pale end of the map (invisible on white)."""
    if count < 1:
        raise ValueError(f"shades needs a count of at least 1, not {count}")
    stops = np.linspace(0.25, 0.9, count) if count > 1 else [0.7]
    return [mpl.colors.to_hex(mpl.colormaps[colormap](stop)) for stop in stops]


# ---------------------------------------------------------------------------------------------- direct labels


def spread(targets: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions nearest to `targets` (least squares) that are at least `gap` apart within [low, high].

    With z_i = y_(i) − i·gap the constraint is monotonicity, hence one isotonic regression. If the interval
    is too short for all of them, the gap shrinks to what fits.
    """
    count = len(targets)
    if count == 0:
        return []
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = np.argsort(targets, kind="stable")
    steps = gap * np.arange(count)
    ranked = isotonic_regression(np.asarray(targets, dtype=float)[order] - steps).x
    ranked = np.clip(ranked, low, high - gap * (count - 1)) + steps
    placed = np.empty(count)
    placed[order] = ranked
    return placed.tolist()


def label_lines(ax: Axes, lines: Iterable[Line2D] | None = None, *, fontsize: float = 10.5) -> list[Text]:
    """Write each labelled line's label at its right end, in its colour, without overlaps; removes the legend.

    Labels stand right of the axes and the layout makes room for them. A label that had to move, or whose
    line ends before the edge, is tied to its line by a thin leader. Lines without a label or without a
    finite point are passed over. Call it last, when limits and scales are set. Returns the labels, one per
    labelled line.
    """
    figure = ax.get_figure(root=True)
    if (legend := ax.get_legend()) is not None:
        legend.remove()
    found = []
    for line in ax.get_lines() if lines is None else lines:
        if str(line.get_label()).startswith("_"):
            continue
        points = np.column_stack([np.asarray(part, dtype=float) for part in line.get_data()])
        pixels = ax.transData.transform(points)
        finite = np.isfinite(pixels).all(axis=1)
        if finite.any():
            found.append((line, points[finite][-1]))
    figure.draw_without_rendering()  # settles limits and layout
    box = ax.get_window_extent()
    ends = ax.transData.transform([point for _, point in found]).reshape(-1, 2)
    ends = np.clip(ends, [box.x0, box.y0], [box.x1, box.y1])
    per_point = figure.dpi / 72
    placed = spread(ends[:, 1].tolist(), 1.25 * fontsize * per_point, box.y0, box.y1)
    leader = {"arrowstyle": "-", "lw": 0.8, "alpha": 0.6, "shrinkA": 1, "shrinkB": 1}
    ties = [
        abs(y - end_y) > 0.4 * fontsize * per_point or box.x1 - end_x > 0.06 * box.width
        for (end_x, end_y), y in zip(ends, placed, strict=True)
    ]
    indent = mpl.transforms.ScaledTranslation((14 if any(ties) else 6) / 72, 0, figure.dpi_scale_trans)
    texts = []
    for (line, _), (end_x, end_y), y, tied in zip(found, ends, placed, ties, strict=True):
        color = line.get_color()
        text = ax.annotate(
            str(line.get_label()),
            xy=((end_x - box.x0) / box.width, (end_y - box.y0) / box.height),
            xycoords="axes fraction",
            xytext=(1.0, (y - box.y0) / box.height),
            textcoords=ax.transAxes + indent,
            arrowprops={**leader, "color": color} if tied else None,
            color=_readable(color),
            fontsize=fontsize,
            va="center",
            ha="left",
            annotation_clip=False,
        )
        texts.append(text)
    return texts


def _readable(color: Any) -> str:
    """The colour, darkened until text in it has a contrast of at least 4.5 on white (WCAG)."""
    rgb = np.array(mpl.colors.to_rgb(color))
    while 1.05 / (_luminance(rgb) + 0.05) < 4.5:
        rgb = 0.95 * rgb
    return mpl.colors.to_hex(rgb)


def _luminance(rgb: np.ndarray) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# ------------------------------------------------------------------------------------------- titles and words


def wrap_titles(fig: Figure) -> None:
    """Break the titles of a figure at words (never inside `$…$`) so that none runs out of the picture."""
    if all(_surely_fits(text, ax, fig) for ax in fig.axes for text in _titles(ax)) and not fig.get_suptitle():
        return  # laying out the figure costs as much as drawing it, and an explorer draws a hundred
    fig.draw_without_rendering()
    right = fig.bbox.x1 - 0.06 * fig.dpi
    for text in fig.texts:
        if text.get_text() and text.get_text() == fig.get_suptitle():
            _wrap(text, right - fig.bbox.x0 - 0.06 * fig.dpi)
    for ax in fig.axes:
        box = ax.get_window_extent()
        beside = any(
            other.get_window_extent().x0 > box.x1 - 1 and other.get_title("left") + other.get_title()
            for other in fig.axes
        )
        for text in _titles(ax):
            start = box.x0 if text.get_horizontalalignment() == "left" else fig.bbox.x0
            _wrap(text, (box.x1 if beside else right) - start)


def _titles(ax: Axes) -> list[Text]:
    words = {ax.get_title(side) for side in ("left", "center", "right")} - {""}
    return [text for text in ax.get_children() if isinstance(text, Text) and text.get_text() in words]


def _surely_fits(text: Text, ax: Axes, fig: Figure) -> bool:
    """Whether a title is well within its axes even if the layout, still to be made, narrows them."""
    return bool(text.get_window_extent().width < 0.75 * ax.get_position().width * fig.bbox.width)


def _wrap(text: Text, width: float) -> None:
    if text.get_window_extent().width <= width:
        return
    lines: list[str] = []
    for word in re.findall(r"(?:\$[^$]*\$|[^\s$])+", text.get_text()):
        longer = f"{lines[-1]} {word}" if lines else word
        text.set_text(longer)
        if lines and text.get_window_extent().width <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    text.set_text("\n".join(lines))


def describe(fig: Figure) -> str:
    """Words for readers who do not see the figure: titles, axis labels and line labels of each panel."""
    parts = [fig.get_suptitle()]
    for ax in fig.axes:
        axis = [(name, getattr(ax, f"get_{name}label")(), getattr(ax, f"get_{name}scale")()) for name in "xy"]
        axis_words = [
            f"{'horizontal' if name == 'x' else 'vertical'} axis: {label}{' (log)' if scale == 'log' else ''}"
            for name, label, scale in axis
            if label
        ]
        title = ax.get_title("left") or ax.get_title() or ax.get_title("right")
        lines = [str(line.get_label()) for line in ax.get_lines()]
        lines = list(dict.fromkeys(label for label in lines if not label.startswith("_")))
        parts += [title, "; ".join(axis_words), f"lines: {', '.join(lines)}" if lines else ""]
    return ". ".join(" ".join(part.split()) for part in parts if part.strip())


# ------------------------------------------------------------------------------------------ into the notebook


def page_text(text: str) -> str:
    """Plain text with `$…$` mathematics as HTML, with the delimiters that both MathJax set-ups understand."""
    return re.sub(r"\$([^$]+)\$", r"\\(\1\\)", html.escape(text, quote=False))


def caption_html(caption: str, source: str = "") -> str:
    """The `<figcaption>`: where in the paper the figure is, then the caption."""
    lead = f"<strong>Paper: {page_text(source)}.</strong> " if source else ""
    return f'<figcaption class="learndyn-caption mathjax_process">{lead}{page_text(caption)}</figcaption>'


def data_uri(data: bytes, mime: str) -> str:
    """The picture as an address that needs no request."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def image_html(data: bytes, mime: str, alt: str, width: int) -> str:
    """An `<img>` that carries its picture; the class `dark-light` keeps the theme's own dark filter off."""
    return f'<img class="dark-light" width="{width}" alt="{html.escape(alt)}" src="{data_uri(data, mime)}">'


def figure_css() -> str:
    """The style sheet that every figure and explorer carries."""
    return files("learndyn.core").joinpath("figure.css").read_text(encoding="utf-8")


def check_name(name: str, caption: str) -> None:
    """Raise ValueError unless `name` can be an anchor and there is a caption."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ValueError(f"figure name {name!r} must be lower-case letters, digits, '-' or '_', letter first")
    if not caption.strip():
        raise ValueError(f"figure {name!r} needs a caption that says what to look at")


def encode(fig: Figure) -> tuple[bytes, str, int]:
    """The figure as SVG, or as a 200 dpi PNG if that SVG weighs 300 kB or more.

    Returns the data, its MIME type and the width in CSS pixels. Fixed ids and no date, so that drawing the
    same figure twice gives the same bytes.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_SVG_OPTIONS):
        fig.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    data = buffer.getvalue()
    if len(data) < SVG_LIMIT:
        points = float(re.search(rb'viewBox="0 0 ([\d.]+)', data)[1])
        return data, "image/svg+xml", round(points * 96 / 72)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=PNG_DPI, bbox_inches="tight", metadata={"Software": None})
    data = buffer.getvalue()
    return data, "image/png", round(int.from_bytes(data[16:20], "big") * 96 / PNG_DPI)


def show(fig: Figure, *, name: str, caption: str, source: str = "", alt: str = "") -> None:
    """Show a figure in the notebook, with its caption, and close it.

    Parameters
    ----------
    fig
        The figure; titles that are too long are wrapped.
    name
        Anchor of the figure on its page (`#figure-<name>`) and its name in the gallery; unique in a notebook.
    caption
        What to look at and what it shows; `$…$` is mathematics.
    source
        The paper's figure or table that this one redraws, such as "Figure 3a".
    alt
        Words for readers who do not see it; by default put together from titles and labels (`describe`).

    Raises ValueError for a name that cannot be an anchor or an empty caption. The output is HTML (`<figure>`
    with the picture inside): the one form in which caption and alternative text reach both JupyterLab and
    the book.
    """
    check_name(name, caption)
    words = alt or describe(fig) or caption
    wrap_titles(fig)
    data, mime, width = encode(fig)
    plt.close(fig)
    body = (
        f'<figure class="learndyn-figure" id="figure-{name}"><style>{figure_css()}</style>'
        f'<div class="learndyn-card">{image_html(data, mime, words, width)}</div>'
        f"{caption_html(caption, source)}</figure>"
    )
    display(
        {"text/html": body, "text/plain": f"Figure {name}: {caption}"},
        metadata=figure_metadata("figure", name, caption, source),
        raw=True,
    )


def figure_metadata(kind: str, name: str, caption: str, source: str) -> dict[str, dict[str, str]]:
    """Metadata by which `gather_figures` knows a figure's output; `kind` is "figure" or "explorer"."""
    return {"learndyn": {"figure": name, "caption": caption, "source": source, "kind": kind}}


def gather_figures(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All figures and explorers of an executed notebook (nbformat node or its JSON), in order.

    Each is a dict with `name`, `caption`, `source`, `kind` ("figure" or "explorer", whose picture is its
    still), `anchor` (id on the page), `alt`, `mime` and `data` (bytes of the picture). Raises ValueError if
    two of them have one name, since their anchors would be the same.
    """
    found: dict[str, dict[str, Any]] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            about = output.get("metadata", {}).get("learndyn", {})
            if "figure" not in about:
                continue
            name = about["figure"]
            if name in found:
                raise ValueError(f"two figures of this notebook are named {name!r}; give each its own name")
            body = output["data"]["text/html"]
            body = body if isinstance(body, str) else "".join(body)  # on disk, text is a list of lines
            image = re.search(r'<img [^>]*alt="([^"]*)" src="data:([^;]+);base64,([^"]+)"', body)
            if image is None:
                raise ValueError(f"the output of figure {name!r} holds no picture")
            found[name] = {
                "name": name,
                "caption": about["caption"],
                "source": about["source"],
                "kind": about["kind"],
                "anchor": f"figure-{name}",
                "alt": html.unescape(image[1]),
                "mime": image[2],
                "data": base64.b64decode(image[3]),
            }
    return list(found.values())
