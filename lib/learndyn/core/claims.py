"""Claims: what a paper published, what this run got, and a verdict that can be negative.

A chapter lists its claims once. A notebook opens a `Ledger` with them, checks each one where its result is
computed, and ends with the ledger itself, which shows as a table and leaves its records in the executed
notebook's outputs. The scoreboard is made from those records and from nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import Any, SupportsFloat

import numpy as np

from learndyn.core.errors import PlainError
from learndyn.core.tables import markup

#: MIME type under which a ledger leaves its records in a notebook's outputs.
MIME = "application/vnd.learndyn.claims+json"


class ClaimError(PlainError):
    """A ledger was used wrongly (an unknown or repeated id, a claim left out); one sentence."""


class Verdict(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    SMALLER = "reproduced at smaller scale"
    NOT = "not reproduced"
    PENDING = "needs paper profile"

    def __repr__(self) -> str:
        return str(self)


#: The class that gives a verdict on a page its colour and its sign.
VERDICT_CLASSES = {
    Verdict.REPRODUCED: "verdict-reproduced",
    Verdict.SMALLER: "verdict-smaller",
    Verdict.NOT: "verdict-not",
    Verdict.PENDING: "verdict-pending",
}


@dataclass(frozen=True)
class Outcome:
    """What a check found: our value (or what we saw, in words) and whether the claim holds."""

    ours: SupportsFloat | str
    holds: bool | np.bool_


@dataclass(frozen=True)
class Claim:
    """One published statement and the check that decides on it.

    `check` takes the result that the notebook computed and returns an `Outcome`; `source` is the paper's
    figure or table; `tolerance` says in words what the check asks for. A check must be able to fail.
    """

    id: str
    paper: str
    source: str
    statement: str
    published: float | int | str
    check: Callable[[Any], Outcome]
    tolerance: str

    def __post_init__(self) -> None:
        for name in ("id", "paper", "source", "statement", "tolerance"):
            if not getattr(self, name).strip():
                raise ClaimError(f"claim {self.id!r} has an empty {name}")
        if isinstance(_plain(self.published), float) and not math.isfinite(self.published):
            raise ClaimError(f"claim {self.id!r} has a published value that is not finite: {self.published}")


def within(
    value: SupportsFloat,
    published: SupportsFloat,
    *,
    atol: float | int | None = None,
    rtol: float | int | None = None,
) -> Outcome:
    """The outcome of comparing a number: |value − published| ≤ atol or rtol · |published|. NaN never holds.

    Raises:
        ClaimError: not exactly one of `atol` and `rtol`, or one that is negative or not finite.
    """
    if (atol is None) == (rtol is None):
        raise ClaimError("within() takes one of atol and rtol")
    allowed = atol if atol is not None else rtol * abs(float(published))
    if not 0 <= allowed < math.inf:
        raise ClaimError(f"within() takes a finite tolerance from 0 on, not {atol if rtol is None else rtol}")
    return Outcome(float(value), abs(float(value) - float(published)) <= allowed)


class Ledger:
    """The claims of one notebook and their verdicts; the last expression of that notebook.

    Shown, it is a table (HTML and text) together with its records under `MIME`. Each record holds only plain,
    finite JSON values: id, paper, chapter, notebook, source, statement, published, ours, tolerance, verdict,
    seconds. `seconds` is the time since the claim before it was checked: what computing this one took when a
    notebook runs from top to bottom.
    """

    def __init__(self, chapter: str, notebook: str, claims: Iterable[Claim]) -> None:
        self.chapter = chapter
        self.notebook = notebook
        self._claims: dict[str, Claim] = {}
        for claim in claims:
            if claim.id in self._claims:
                raise ClaimError(f"claim {claim.id!r} is in the ledger of {notebook} twice")
            self._claims[claim.id] = claim
        self._records: dict[str, dict[str, Any]] = {}
        self._last = time.perf_counter()

    def check(self, claim_id: str, result: Any, *, at_paper_scale: bool) -> Verdict:
        """Decide on a claim from `result`; checked again, the new verdict replaces the old one.

        A check that raises, returns no `Outcome` or finds a number that is not finite means *not reproduced*,
        with the reason in the place of our value.

        Raises:
            ClaimError: the ledger has no such claim.
        """
        ours, holds = _decide(self._claim(claim_id), result)
        held = Verdict.REPRODUCED if at_paper_scale else Verdict.SMALLER
        return self._record(claim_id, ours, held if holds else Verdict.NOT)

    def needs_paper_profile(self, claim_id: str, why: str) -> Verdict:
        """Record that a claim cannot be decided in this profile; `why` stands in the place of our value.

        Raises:
            ClaimError: the ledger has no such claim, or no reason is given.
        """
        self._claim(claim_id)
        if not why.strip():
            raise ClaimError(f"say why claim {claim_id!r} needs the paper profile")
        return self._record(claim_id, why, Verdict.PENDING)

    def records(self) -> list[dict[str, Any]]:
        """One record per claim, in the order of the ledger.

        Raises:
            ClaimError: a claim was not checked; the message names all of those.
        """
        missing = [claim_id for claim_id in self._claims if claim_id not in self._records]
        if missing:
            raise ClaimError(f"the ledger of {self.notebook} has claims never checked: {', '.join(missing)}")
        return [self._records[claim_id] for claim_id in self._claims]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        records = self.records()
        return {"text/html": render_table(records), "text/plain": text_table(records), MIME: records}

    def _claim(self, claim_id: str) -> Claim:
        if claim_id not in self._claims:
            raise ClaimError(
                f"the ledger of {self.notebook} has no claim {claim_id!r}; it has {', '.join(self._claims)}"
            )
        return self._claims[claim_id]

    def _record(self, claim_id: str, ours: float | int | str, verdict: Verdict) -> Verdict:
        claim, now = self._claims[claim_id], time.perf_counter()
        self._records[claim_id] = {
            "id": claim.id,
            "paper": claim.paper,
            "chapter": self.chapter,
            "notebook": self.notebook,
            "source": claim.source,
            "statement": claim.statement,
            "published": _plain(claim.published),
            "ours": ours,
            "tolerance": claim.tolerance,
            "verdict": str(verdict),
            "seconds": round(now - self._last, 3),
        }
        self._last = now
        return verdict


def _decide(claim: Claim, result: Any) -> tuple[float | int | str, bool]:
    """Our value and whether the claim holds, whatever the check does."""
    try:
        outcome = claim.check(result)
        if not isinstance(outcome, Outcome):
            return f"the check returned {type(outcome).__name__}, not an Outcome", False
        ours, holds = _plain(outcome.ours), bool(outcome.holds)
    except Exception as error:  # whatever went wrong, the claim was not reproduced
        reason = next(iter(str(error).strip().splitlines()), "")
        return f"the check failed: {type(error).__name__}{': ' if reason else ''}{reason}", False
    if isinstance(ours, float) and not math.isfinite(ours):
        return f"not a finite number ({ours})", False
    return ours, holds


def _plain(value: Any) -> float | int | str:
    """A Python number or text for JSON; numbers of NumPy and torch are converted."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | str):
        return value
    if isinstance(value, np.integer):
        return int(value)
    return float(value)


def collect(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records that ledgers left in the outputs of an executed notebook (a mapping as read from its JSON).

    A claim shown more than once counts once, as last shown.

    Raises:
        ClaimError: an output under `MIME` that is not a list of records.
    """
    records: dict[str, dict[str, Any]] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            found = output.get("data", {}).get(MIME, [])
            if not isinstance(found, list) or not all(isinstance(r, Mapping) and "id" in r for r in found):
                raise ClaimError(f"a notebook output of type {MIME} is not a list of claim records")
            records.update({record["id"]: dict(record) for record in found})
    return list(records.values())


def summary(records: Iterable[Mapping[str, Any]]) -> str:
    """How many claims have which verdict, in words: `5 claims: 4 reproduced, 1 not reproduced`."""
    verdicts = [Verdict(record["verdict"]) for record in records]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts]
    return f"{len(verdicts)} claim{'' if len(verdicts) == 1 else 's'}" + (
        f": {', '.join(counts)}" if counts else ""
    )


_COLUMNS = {
    "id": "Claim",
    "source": "Figure or table",
    "statement": "What is claimed",
    "published": "Published",
    "ours": "Ours",
    "tolerance": "Holds if",
    "verdict": "Verdict",
}


def render_table(records: list[dict[str, Any]]) -> str:
    """The records as an HTML table: `markup` of their texts, a caption, header cells with scopes, classes.

    Classes: `claims-scroll` (the box that scrolls on narrow screens, reachable by keyboard), `claims-table`,
    and on each verdict's cell `verdict-reproduced`, `verdict-smaller`, `verdict-not` or `verdict-pending`.
    The verdict is always there in words; each row has the claim's id as its anchor.
    """
    caption = escape(summary(records))
    head = "".join(f'<th scope="col">{title}</th>' for title in _COLUMNS.values())
    rows = "\n".join(_row(record) for record in records)
    return (
        '<div class="claims-scroll" style="overflow-x:auto" role="region" tabindex="0" aria-label="Claims">\n'
        f'<table class="claims-table">\n<caption>{caption}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _row(record: Mapping[str, Any]) -> str:
    cells = []
    for name in _COLUMNS:
        text = markup(format_value(record[name]))
        if name == "id":
            cells.append(f'<th scope="row">{escape(record[name])}</th>')
        elif name == "verdict":
            cells.append(f'<td class="{VERDICT_CLASSES[Verdict(record[name])]}">{text}</td>')
        else:
            cells.append(f"<td>{text}</td>")
    return f'<tr id="{escape(record["id"])}">{"".join(cells)}</tr>'


def text_table(records: list[dict[str, Any]]) -> str:
    """The records as plain text for a terminal, a line each and a summary below; long texts are cut short."""
    names = ("id", "source", "published", "ours", "verdict")
    lines = [[_COLUMNS[name] for name in names]]
    lines += [[_cut(format_value(record[name])) for name in names] for record in records]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    lines.insert(1, ["-" * width for width in widths])
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "\n".join([*(line.rstrip() for line in padded), "", summary(records)])


def format_value(value: float | int | str) -> str:
    """A number with four significant digits (whole ones in full), or a text on one line."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e6):
        return f"{int(value)}"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:.4g}"


def _cut(text: str, width: int = 40) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
