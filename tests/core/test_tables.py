"""Tables on the page: what becomes of plain-text mathematics, and of a data frame."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("z_syn * z_{ν=i}", "z<sub>syn</sub> * z<sub>ν=i</sub>"),
        ("|r_{a,k,−k,k}| and R_*", "|r<sub>a,k,−k,k</sub>| and R<sub>*</sub>"),
        ("Z_2^m, d^(4/3), wd^−p", "Z<sub>2</sub><sup>m</sup>, d<sup>4/3</sup>, wd<sup>−p</sup>"),
        ("ln 9/(4γ_j), Σ_{j≤d} 1/γ_j", "ln 9/(4γ<sub>j</sub>), Σ<sub>j≤d</sub> 1/γ<sub>j</sub>"),
        ("weight_decay of sweeps/cogo_figure4.yaml", "weight_decay of sweeps/cogo_figure4.yaml"),
        ("run `a_b <c>` & more", "run <code>a_b &lt;c&gt;</code> &amp; more"),
        ("one ` alone", "one ` alone"),
    ],
)
def test_markup_writes_sub_and_superscripts_and_escapes_the_rest(text, html):
    from learndyn.core.tables import markup

    assert markup(text) == html


def test_a_frame_shows_the_chosen_columns_in_words_without_its_index():
    from learndyn.core.tables import frame_html

    frame = pd.DataFrame({"a": [0.123456], "b": ["Z_4 <x>"], "hidden": [1]}, index=["row"])
    html = frame_html(frame, {"b": "group", "a": "n_6"}, formats={"a": "{:.2f}"}, label="Groups").data
    assert [html.index(text) for text in ("group", "n<sub>6</sub>", "Z<sub>4</sub> &lt;x&gt;", "0.12")]
    assert ">row<" not in html
    assert "hidden" not in html
    assert 'aria-label="Groups"' in html
    assert "overflow-x:auto" in html
