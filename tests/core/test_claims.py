"""Claims: verdicts that can be negative, tables that are safe, records that survive a notebook."""

import json
import math
from html.parser import HTMLParser
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learndyn.core.claims import (
    MIME,
    Claim,
    ClaimError,
    Ledger,
    Outcome,
    Verdict,
    collect,
    format_value,
    render_table,
    summary,
    text_table,
    within,
)


def claim(claim_id: str = "loss", check: Any = None, **changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": claim_id,
        "paper": "tian2024cogo",
        "source": "Figure 3",
        "statement": "the loss falls to 0.5",
        "published": 0.5,
        "check": check or (lambda value: within(value, 0.5, atol=0.1)),
        "tolerance": "within 0.1",
    }
    return Claim(**(fields | changes))


def ledger(*claims: Claim) -> Ledger:
    return Ledger("cogo_li2", "training", claims or (claim(),))


def decided(check: Any, result: Any = None) -> dict[str, Any]:
    book = ledger(claim(check=check))
    book.check("loss", result, at_paper_scale=True)
    return book.records()[0]


@pytest.mark.parametrize(
    ("value", "at_paper_scale", "verdict"),
    [
        (0.55, True, "reproduced"),
        (0.55, False, "reproduced at smaller scale"),
        (0.65, True, "not reproduced"),
        (0.65, False, "not reproduced"),
        (float("nan"), True, "not reproduced"),
    ],
)
def test_verdicts(value: float, at_paper_scale: bool, verdict: str) -> None:
    book = ledger()
    assert book.check("loss", value, at_paper_scale=at_paper_scale) == verdict
    assert book.records()[0]["verdict"] == verdict


def test_needs_paper_profile() -> None:
    book = ledger()
    assert book.needs_paper_profile("loss", "300 runs") is Verdict.PENDING
    assert book.records()[0]["ours"] == "300 runs"
    assert book.records()[0]["verdict"] == "needs paper profile"
    with pytest.raises(ClaimError, match="say why"):
        book.needs_paper_profile("loss", " ")


def test_a_check_that_fails_says_why() -> None:
    def raises(_: Any) -> Outcome:
        raise KeyError("weights\nand a second line")

    assert decided(raises)["ours"].startswith("the check failed: KeyError: 'weights")
    assert decided(lambda _: 1 / 0)["ours"] == "the check failed: ZeroDivisionError: division by zero"
    assert "only" in decided(lambda _: Outcome(np.zeros(2), True))["ours"]
    assert decided(lambda _: True)["ours"] == "the check returned bool, not an Outcome"
    for spoiled in (math.nan, math.inf, np.float64("nan"), torch.tensor(math.nan)):
        record = decided(lambda _, ours=spoiled: Outcome(ours, True))
        assert record["ours"].startswith("not a finite number (")
        assert record["verdict"] == "not reproduced"


def test_keyboard_interrupt_is_not_a_verdict() -> None:
    def interrupted(_: Any) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decided(interrupted)


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (torch.tensor(0.25), 0.25),
        (7, 7),
        (0.1, 0.1),
        ("grokked", "grokked"),
        (np.bool_(True), "True"),
        (True, "True"),
    ],
)
def test_records_hold_plain_json_values(ours: Any, plain: Any) -> None:
    record = decided(lambda _: Outcome(ours, np.bool_(True)))
    assert record["ours"] == plain
    assert type(record["ours"]) is type(plain)
    assert record["verdict"] == "reproduced"
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    names = "id paper chapter notebook source statement published ours tolerance verdict seconds"
    assert list(record) == names.split()
    assert 0 <= record["seconds"] < 60


def test_within() -> None:
    assert within(1.1, 1.0, atol=0.2).holds
    assert not within(1.3, 1.0, atol=0.2).holds
    assert within(-11, -10, rtol=0.1).holds
    assert not within(-12, -10, rtol=0.1).holds
    assert within(3, 3, atol=0).holds
    assert not within(math.nan, 1.0, atol=1e9).holds
    assert not within(math.inf, 1.0, rtol=0.1).holds
    for tolerances in (
        {},
        {"atol": 1.0, "rtol": 1.0},
        {"atol": -1.0},
        {"rtol": math.nan},
        {"atol": math.inf},
    ):
        with pytest.raises(ClaimError, match=r"within\(\) takes"):
            within(1.0, 1.0, **tolerances)


def test_ledger_is_used_rightly() -> None:
    with pytest.raises(ClaimError, match=r"^claim 'loss' is in the ledger of training twice$"):
        ledger(claim(), claim())
    with pytest.raises(ClaimError, match=r"^the ledger of training has no claim 'lost'; it has loss$"):
        ledger().check("lost", 1, at_paper_scale=True)
    with pytest.raises(ClaimError, match="no claim 'lost'"):
        ledger().needs_paper_profile("lost", "why")
    with pytest.raises(ClaimError, match="claim 'loss' has an empty tolerance"):
        claim(tolerance="")
    with pytest.raises(ClaimError, match="published value that is not finite: nan"):
        claim(published=math.nan)


def test_shown_with_claims_never_checked_it_names_them() -> None:
    book = ledger(claim("a"), claim("b"), claim("c"))
    book.check("b", 0.5, at_paper_scale=False)
    with pytest.raises(ClaimError, match=r"^the ledger of training has claims never checked: a, c$"):
        book._repr_mimebundle_()


def test_checking_again_replaces_and_order_is_the_ledgers() -> None:
    book = ledger(claim("a"), claim("b"))
    for value, name in ((0.9, "b"), (0.5, "a"), (0.5, "b")):
        book.check(name, value, at_paper_scale=True)
    assert [(r["id"], r["verdict"]) for r in book.records()] == [("a", "reproduced"), ("b", "reproduced")]


# ---- tables


class Cells(HTMLParser):
    """Collects tags, attributes and texts; a plain reader that would trip over unescaped input."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.tags[-1] in ("td", "th") and data.strip():
            self.rows[-1][-1] += data


def record(**changes: Any) -> dict[str, Any]:
    return decided(lambda _: Outcome(0.51234567, True)) | changes


def test_table_has_headers_scopes_and_classes() -> None:
    records = [record(id=str(verdict), verdict=str(verdict)) for verdict in Verdict]
    table = Cells(render_table(records))
    assert table.rows[0] == [
        "Claim", "Figure or table", "What is claimed", "Published", "Ours", "Holds if", "Verdict",
    ]  # fmt: skip
    assert table.rows[1] == [
        "reproduced", "Figure 3", "the loss falls to 0.5", "0.5", "0.5123", "within 0.1", "reproduced",
    ]  # fmt: skip
    assert [value for name, value in table.attributes if name == "class"] == [
        "claims-scroll", "claims-table",
        "verdict-reproduced", "verdict-smaller", "verdict-not", "verdict-pending",
    ]  # fmt: skip
    assert table.attributes.count(("scope", "col")) == 7
    assert table.attributes.count(("scope", "row")) == 4
    assert [value for name, value in table.attributes if name == "style"] == ["overflow-x:auto"]
    assert "caption" in table.tags


TEXT = st.text(  # without the marks of `markup`, which has its own tests
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), exclude_characters="_^`"), min_size=1
)


@given(statement=TEXT, ours=TEXT)
def test_table_escapes_any_text(statement: str, ours: str) -> None:
    table = Cells(
        render_table([record(statement=f"<b>{statement}</b>", ours=f"</td><script>{ours}", source='"&<')])
    )
    assert set(table.tags) == {"div", "table", "caption", "thead", "tr", "th", "tbody", "td"}
    assert table.rows[1][2] == " ".join(f"<b>{statement}</b>".split())
    assert table.rows[1][4] == " ".join(f"</td><script>{ours}".split())


def test_unknown_verdict_is_refused() -> None:
    with pytest.raises(ValueError, match="fine"):
        render_table([record(verdict="fine")])


def test_text_table() -> None:
    text = text_table(
        [record(), record(id="second", ours="two\nlines " + "x" * 100, verdict="not reproduced")]
    )
    lines = text.splitlines()
    assert lines[0].split() == ["Claim", "Figure", "or", "table", "Published", "Ours", "Verdict"]
    assert lines[2].split() == ["loss", "Figure", "3", "0.5", "0.5123", "reproduced"]
    assert "two lines xxx" in lines[3]
    assert max(map(len, lines)) < 120
    assert lines[-1] == "2 claims: 1 reproduced, 1 not reproduced"
    assert summary([]) == "0 claims"
    assert text_table([]).endswith("0 claims")
    assert "<tbody>" in render_table([])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"), (10000000, "10000000"), (95.0, "95"), (0.1 + 0.2, "0.3"), (1.23456e-7, "1.235e-07"),
        (12345.678, "12346"), (123.456, "123.5"), (-0.000123456, "-0.0001235"),
        (1.5e9, "1.5e+09"), (0.0, "0"), ("a\n b", "a b"),
    ],
)  # fmt: skip
def test_sensible_digits(value: Any, text: str) -> None:
    assert format_value(value) == text


# ---- in notebooks


def test_collect_reads_mappings_and_the_last_showing_counts() -> None:
    first, second = record(ours=1), record(ours=2)
    shown = [{"output_type": "execute_result", "data": {MIME: [r, record(id="b")]}} for r in (first, second)]
    cells = [
        {"cell_type": "markdown", "source": "text"},
        {"cell_type": "code", "outputs": [{"output_type": "stream", "text": "x"}, shown[0]]},
        {"cell_type": "code", "outputs": [shown[1], {"output_type": "error", "ename": "E"}]},
    ]
    assert collect({"cells": cells}) == [
        second,
        record(id="b") | {"seconds": shown[1]["data"][MIME][1]["seconds"]},
    ]
    assert collect({"cells": []}) == []
    for wrong in ({"a": 1}, "text", [1], [{"verdict": "x"}]):
        with pytest.raises(ClaimError, match="not a list of claim records"):
            collect({"cells": [{"outputs": [{"data": {MIME: wrong}}]}]})


NOTEBOOK = """
from learndyn.core.claims import Claim, Ledger, within
check = lambda value: within(value, 0.5, atol=0.1)
claims = [Claim(i, "p", "Table 2", "falls", 0.5, check, "within 0.1") for i in ("a", "b")]
ledger = Ledger("cogo_li2", "training", claims)
ledger.check("a", 0.45, at_paper_scale=False)
"""


def execute(folder: Any, *sources: str) -> Any:
    import papermill

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "in.ipynb")
    papermill.execute_notebook(
        folder / "in.ipynb", folder / "out.ipynb", progress_bar=False, start_timeout=300
    )
    return json.loads((folder / "out.ipynb").read_text())


# The kernel client's own warnings (event loop, unclosed sockets) are not this library's.
@pytest.mark.filterwarnings("ignore")
def test_records_survive_an_executed_notebook(tmp_path: Any) -> None:
    done = execute(tmp_path, NOTEBOOK, 'ledger.check("b", 0.9, at_paper_scale=True)', "ledger")
    assert done["cells"][0]["outputs"][0]["data"]["text/plain"] == ["reproduced at smaller scale"]
    assert [(r["id"], r["verdict"]) for r in collect(done)] == [
        ("a", "reproduced at smaller scale"), ("b", "not reproduced"),
    ]  # fmt: skip
    shown = done["cells"][-1]["outputs"][0]["data"]
    assert set(shown) == {"text/html", "text/plain", MIME}
    nbformat.validate(nbformat.from_dict(done))


@pytest.mark.filterwarnings("ignore")
def test_a_claim_left_out_stops_the_notebook(tmp_path: Any) -> None:
    from papermill.exceptions import PapermillExecutionError

    with pytest.raises(PapermillExecutionError, match="has claims never checked: b") as caught:
        execute(tmp_path, NOTEBOOK, "ledger")
    assert "Traceback" not in str(caught.value)
