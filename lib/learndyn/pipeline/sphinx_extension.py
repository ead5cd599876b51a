"""Sphinx extension of the book: math, styles and scripts that every page needs, served from the site itself.

MathJax comes from the Python package ``sphinx-mathjax-offline``. Of its 24 MB three parts are needed: the TeX
to CommonHTML processor, its fonts, and the TeX extensions that it may load.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def mathjax_folder() -> Path:
    """Return the folder of the installed MathJax."""
    return Path(
        str(distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax"))
    )


def _copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    for part in MATHJAX_PARTS:
        source, target = mathjax_folder() / part, Path(app.outdir, "_static", "mathjax", part)
        copy_asset(str(source), str(target.parent if source.is_file() else target))


def _add_static_folder(app: Sphinx) -> None:
    app.config.html_static_path.append(str(Path(__file__).parent / "static"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("builder-inited", _add_static_folder)
    app.connect("build-finished", _copy_mathjax)
    app.add_css_file("learndyn.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
