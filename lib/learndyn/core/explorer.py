"""A figure with sliders, from one drawing function and the grid of its parameters.

In a live kernel the sliders are ipywidgets and call the function again. On the published site, which has no
kernel, the same sliders are native inputs that move over frames drawn beforehand, of the same grid or a
coarser one; without scripts the page shows a still.
"""

from __future__ import annotations

import html
import io
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, features

from learndyn.core import plotting

BUDGET = 6_000_000  # bytes of HTML for one explorer
FRAME_DPI = 160
FRAME_COLORS = 128
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class ExplorerError(ValueError):
    """An explorer that cannot be made; the message says what to change."""


def format_value(value: Any) -> str:
    """A parameter's value as a reader wants it: 1e-4 → 10⁻⁴, 2.5e-5 → 2.5×10⁻⁵, 0.05 → 0.05, text as is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e6 and math.isfinite(value):
        mantissa, exponent = f"{value:.3e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
        return {"1": power, "-1": f"−{power}"}.get(mantissa, f"{mantissa}×{power}").replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def explore(
    draw: Callable[..., Figure],
    parameters: Mapping[str, Iterable[Any]],
    *,
    caption: str,
    name: str,
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Any] | None = None,
    source: str = "",
    frames: Mapping[str, Iterable[Any]] | None = None,
    budget: int = BUDGET,
) -> Explorer:
    """An explorer of `draw` over the product grid of `parameters`; a cell that ends with it shows it.

    Parameters
    ----------
    draw
        Called as `draw(**values)` with one value of each parameter; returns a new figure, of the same size
        for all values. Fix the axis limits in it, or the axes jump from frame to frame.
    parameters
        Name → its values, in the order of the slider. Text values become a row of choices.
    caption
        What to look for while moving.
    name
        Anchor on the page and name in the gallery.
    labels
        Name → words shown beside the slider (default: the name, with blanks for underscores).
    start
        Name → value shown first (default: the first of each).
    source
        The paper's figure that this explores, such as "Figure 5".
    frames
        Name → those of its values that the page's slider stops at, for a live grid too large to draw
        beforehand (default: all).
    budget
        Most bytes of HTML that the frames may take.

    Raises ExplorerError for an empty grid, for a start, label or frame that does not belong to it, for frames
    without the start, and on display if frames differ in size or outgrow the budget.
    """
    return Explorer(draw, parameters, caption, name, labels or {}, start or {}, source, frames or {}, budget)


class Explorer:
    """See `explore`, which makes it. Drawing starts when it is displayed, not before."""

    def __init__(
        self,
        draw: Callable[..., Figure],
        parameters: Mapping[str, Iterable[Any]],
        caption: str,
        name: str,
        labels: Mapping[str, str],
        start: Mapping[str, Any],
        source: str,
        frames: Mapping[str, Iterable[Any]],
        budget: int,
    ) -> None:
        plotting.check_name(name, caption)
        self.parameters = {key: _plain(values) for key, values in parameters.items()}
        if not self.parameters:
            raise ExplorerError(f"explorer {name!r} has no parameters")
        for key, values in self.parameters.items():
            if not values:
                raise ExplorerError(f"explorer {name!r}: parameter {key!r} has no values")
        for what, given in (("labels", labels), ("start", start), ("frames", frames)):
            if unknown := sorted(set(given) - set(self.parameters)):
                known = ", ".join(self.parameters)
                raise ExplorerError(f"explorer {name!r}: {what} names {unknown[0]!r}, not one of {known}")
        for key, value in start.items():
            if value not in self.parameters[key]:
                raise ExplorerError(f"explorer {name!r}: start {key}={value!r} is not among its values")
        self.draw, self.caption, self.name, self.source = draw, caption, name, source
        self.labels = {key: labels.get(key, key.replace("_", " ")) for key in self.parameters}
        self.start = {key: start.get(key, values[0]) for key, values in self.parameters.items()}
        self.page = {key: self._on_page(key, frames) for key in self.parameters}
        self.budget = budget
        self._widget: ipywidgets.VBox | None = None

    def _on_page(self, key: str, frames: Mapping[str, Iterable[Any]]) -> list[Any]:
        """The values of a parameter that the published page has, in the order of the live slider."""
        values = self.parameters[key]
        chosen = _plain(frames.get(key, values))
        for value in chosen:
            if value not in values:
                raise ExplorerError(
                    f"explorer {self.name!r}: frames {key}={value!r} is not among the values of its slider"
                )
        if self.start[key] not in chosen:
            raise ExplorerError(
                f"explorer {self.name!r}: frames of {key!r} leave out {self.start[key]!r}, where it starts"
            )
        return [value for value in values if value in chosen]

    def preview(self) -> Figure:
        """The figure at the start values."""
        return self.draw(**self.start)

    # -------------------------------------------------------------------------------------------------- live

    def widget(self) -> ipywidgets.VBox:
        """Live form, made once: the picture, a control per parameter, the caption; each move draws again."""
        if self._widget is not None:
            return self._widget
        begin = time.perf_counter()
        picture = ipywidgets.HTML(self._live_picture(self.start))
        quick = time.perf_counter() - begin < 0.2  # a slow drawing waits until the slider is let go
        controls = {key: self._control(key, quick) for key in self.parameters}

        def redraw(_: Any) -> None:
            try:
                picture.value = self._live_picture({key: control.value for key, control in controls.items()})
            except Exception as error:  # in a callback it would only reach the log
                picture.value = f"<p><strong>{type(error).__name__}:</strong> {html.escape(str(error))}</p>"

        for control in controls.values():
            control.observe(redraw, names="value")
        caption = ipywidgets.HTMLMath(plotting.caption_html(self.caption, self.source))
        self._widget = ipywidgets.VBox([picture, *controls.values(), caption])
        return self._widget

    def _control(self, key: str, quick: bool) -> ipywidgets.Widget:
        values = self.parameters[key]
        common = {
            "options": [(format_value(value), value) for value in values],
            "value": self.start[key],
            "description": self.labels[key],
            "style": {"description_width": "12rem"},
        }
        if _categorical(values):
            return ipywidgets.ToggleButtons(**common)
        return ipywidgets.SelectionSlider(
            **common, continuous_update=quick, layout=ipywidgets.Layout(width="36rem", max_width="100%")
        )

    def _live_picture(self, values: Mapping[str, Any]) -> str:
        data, alt, width = self._frame(values)
        return f'<div class="learndyn-card">{plotting.image_html(data, "image/png", alt, width)}</div>'

    # ------------------------------------------------------------------------------------------------ static

    def to_html(self) -> str:
        """Static form: a still, native inputs hidden until the script runs, all frames, the caption."""
        still, still_alt, width = self._frame(self.start)
        picture = plotting.image_html(still, "image/png", still_alt, width)
        controls = self._controls_html(still, still_alt)
        css = plotting.figure_css() + _asset("explorer.css")
        return (
            f'<figure class="learndyn-explorer" id="figure-{self.name}"><style>{css}</style>'
            f'<form autocomplete="off"><div class="learndyn-card">{picture}</div>{controls}</form>'
            f"{plotting.caption_html(self.caption, self.source)}"
            f"<script>{_asset('explorer.js')}</script></figure>"
        )

    def _controls_html(self, still: bytes, still_alt: str) -> str:
        images, alts, frame = self._all_frames(still, still_alt)
        table = {
            "still": 0,
            "images": images,
            "alt": alts,
            "frame": frame,
            "labels": [[format_value(value) for value in values] for values in self.page.values()],
        }
        # a "<" could end the script element early, or open a comment in it
        encoded = json.dumps(table, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        inputs = "".join(self._input_html(key) for key in self.parameters)
        words = html.escape(f"Controls of the explorer {self.name.replace('_', ' ').replace('-', ' ')}")
        return (
            f'<div class="controls mathjax_process" role="group" aria-label="{words}" hidden>{inputs}</div>'
            f'<script type="application/json" class="frames">{encoded}</script>'
        )

    def _input_html(self, key: str) -> str:
        values = self.page[key]
        texts = [html.escape(format_value(value)) for value in values]
        label = plotting.page_text(self.labels[key])
        at = values.index(self.start[key])
        if _categorical(values):
            # radio names only need to be unique within their form
            choices = "".join(
                f'<label><input type="radio" name="{html.escape(key)}" value="{index}"'
                f"{' checked' if index == at else ''}>"
                f"<span>{text}</span></label>"
                for index, text in enumerate(texts)
            )
            legend = f"<legend>{label}</legend>"
            return f'<fieldset data-axis>{legend}<div class="choices">{choices}</div></fieldset>'
        # without it, the value and the ends of the scale would be part of the control's name
        spoken = html.escape(self.labels[key].replace("$", ""))
        off = " disabled" if len(values) == 1 else ""
        return (
            f'<label data-axis><span class="name">{label}</span><output aria-live="off">{texts[at]}</output>'
            f'<input type="range" min="0" max="{len(values) - 1}" step="1" value="{at}" '
            f'aria-label="{spoken}" aria-valuetext="{texts[at]}"{off}>'
            f'<span class="end" aria-hidden="true">{texts[0]}</span>'
            f'<span class="end" aria-hidden="true">{texts[-1]}</span></label>'
        )

    def _all_frames(self, still: bytes, still_alt: str) -> tuple[list[str | None], list[str], list[int]]:
        """All frames of the page's grid, equal ones once.

        Returns the data addresses of the distinct pictures (None for the first, which the page's `<img>`
        has), and for each grid cell (last parameter fastest) its words and the number of its picture.
        """
        seen = {still: 0}
        images: list[str | None] = [None]
        alts, frame = [], []
        weight = len(plotting.data_uri(still, "image/png"))
        cells = list(itertools.product(*self.page.values()))
        for done, cell in enumerate(cells, start=1):
            values = dict(zip(self.parameters, cell, strict=True))
            picture, alt = (still, still_alt) if values == self.start else self._frame(values)[:2]
            if picture not in seen:
                if _size(picture) != _size(still):
                    raise ExplorerError(
                        f"explorer {self.name!r}: the frame at {values} is {_size(picture)} pixels and "
                        f"the first one {_size(still)}; draw all frames with one figure size"
                    )
                seen[picture] = len(images)
                images.append(_compact_uri(picture))
                weight += len(images[-1])
            if weight > self.budget:
                raise ExplorerError(
                    f"explorer {self.name!r}: {done} of {len(cells)} frames take {weight / 1e6:.2g} MB, "
                    f"over the budget of {self.budget / 1e6:.2g} MB; use fewer values or a simpler drawing"
                )
            alts.append(alt)
            frame.append(seen[picture])
        return images, alts, frame

    def _frame(self, values: Mapping[str, Any]) -> tuple[bytes, str, int]:
        """One frame as a palette PNG, its words, and its width in CSS pixels."""
        try:
            fig = self.draw(**values)
        except Exception as error:
            error.add_note(f"while the explorer {self.name!r} drew its frame at {dict(values)}")
            raise
        if not isinstance(fig, Figure):
            given = type(fig).__name__
            raise ExplorerError(f"explorer {self.name!r}: draw returned {given}, not a matplotlib Figure")
        where = ", ".join(f"{self.labels[key]} {format_value(value)}" for key, value in values.items())
        alt = f"{plotting.describe(fig) or self.caption}. At {where}."
        plotting.wrap_titles(fig)
        width = round(96 * fig.get_figwidth())
        fig.set_dpi(FRAME_DPI)
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        plt.close(fig)
        return _quantise(np.asarray(canvas.buffer_rgba())[..., :3]), alt, width

    # ----------------------------------------------------------------------------------------------- display

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **_: Any) -> tuple[dict, dict]:
        """Both forms in one output: JupyterLab takes the live widget, the book the HTML."""
        bundle = dict(self.widget()._repr_mimebundle_())
        bundle["text/html"] = self.to_html()
        bundle["text/plain"] = f"Explorer {self.name}: {self.caption}"
        return bundle, plotting.figure_metadata("explorer", self.name, self.caption, self.source)


def _plain(values: Iterable[Any]) -> list[Any]:
    """NumPy scalars as Python numbers, so that they print and compare as numbers."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _categorical(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str | bool) for value in values)


def _asset(name: str) -> str:
    return files("learndyn.core").joinpath(name).read_text(encoding="utf-8")


def _quantise(pixels: np.ndarray) -> bytes:
    """PNG with a palette, a third of the size; no dithering, which would speckle the flat white.

    `pixels` is [row, column, RGB] of bytes, from an opaque figure.
    """
    small = Image.fromarray(np.ascontiguousarray(pixels)).quantize(
        FRAME_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    buffer = io.BytesIO()
    small.save(buffer, format="png")  # optimize=True saves 4 % of the bytes and doubles the time
    return buffer.getvalue()


def _compact_uri(png: bytes) -> str:
    """The same pixels in two thirds of the bytes (a still remains PNG, which every viewer knows)."""
    if not features.check("webp"):  # a Pillow built from source may lack it
        return plotting.data_uri(png, "image/png")
    buffer = io.BytesIO()
    # a higher method takes longer and saves next to nothing
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "webp", lossless=True, quality=50, method=2)
    return plotting.data_uri(buffer.getvalue(), "image/webp")


def _size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
