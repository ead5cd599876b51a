"""The pages that a build fills from its executed notebooks: scoreboard, gallery and run times.

In the checkout each of these pages holds, between two comment lines, a sentence that says the build fills it.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from nbformat import NotebookNode

from learndyn.core.plotting import gather_figures
from learndyn.pipeline.errors import PipelineError

BEGIN, END = "% filled by the build: begin", "% filled by the build: end"
CLAIMS_MIME = "application/vnd.learndyn.claims+json"
VERDICTS = ("reproduced", "reproduced at smaller scale", "not reproduced", "needs paper profile")

Notebooks = Mapping[str, NotebookNode]
"""Executed notebooks under their names, in reading order."""


def fill(page: str, text: str, content: str) -> str:
    """Return the page with what stands between its two comment lines replaced.

    Raises:
        PipelineError: the page does not hold the two lines.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise PipelineError(f"{page} does not hold the lines '{BEGIN}' and '{END}'.")
    return f"{head}{begin}\n\n{content.strip()}\n\n{end}{tail}"


def title(notebook: NotebookNode, name: str) -> str:
    """Return the first heading of a notebook, or its name if it has none."""
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            if line.startswith("# "):
                return line[2:].strip()
    return PurePosixPath(name).name


def gather_claims(notebooks: Notebooks, profile: str) -> list[dict[str, Any]]:
    """Return the records of all claims in the notebooks' tables, each with its profile and notebook."""
    return [
        {**record, "profile": profile, "notebook": f"book/{name}.py"}
        for name, notebook in notebooks.items()
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        for record in output.get("data", {}).get(CLAIMS_MIME, ())
    ]


def verdict_counts(claims: Sequence[Mapping[str, Any]]) -> str:
    """Return how many claims have each verdict, as a phrase: ``12 reproduced, 1 not reproduced``."""
    counts = Counter(claim["verdict"] for claim in claims)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]) or "no claims"


def _text(value: Any) -> str:
    if isinstance(value, float):
        value = f"{value:.4g}"
    return html.escape("" if value is None else str(value))


def scoreboard(claims: Sequence[Mapping[str, Any]], notebooks: Notebooks) -> str:
    """Return the scoreboard: per chapter, every claim with the paper's value beside ours."""
    if not claims:
        return "No notebook of this build holds a table of claims."
    parts = []
    for chapter, group in groupby(
        sorted(claims, key=lambda claim: claim["chapter"]), lambda claim: claim["chapter"]
    ):
        rows = list(group)
        parts += [
            f"## {chapter}",
            f"{len(rows)} claims: {verdict_counts(rows)}.",
            _claims_table(rows, notebooks),
        ]
    return "\n\n".join(parts)


def _claims_table(claims: Sequence[Mapping[str, Any]], notebooks: Notebooks) -> str:
    rows = []
    for claim in claims:
        name = str(claim["notebook"]).removeprefix("book/").removesuffix(".py")
        address = f"{name}.html#{claim.get('anchor', '')}".removesuffix("#")
        verdict = _text(claim["verdict"])
        cells = (
            f'<td data-label="Source">{_text(claim["source"])}</td>',
            f'<td data-label="Claim">{_text(claim.get("statement") or claim["id"])} '
            f'<a href="{address}">{_text(title(notebooks[name], name))}</a></td>',
            f'<td data-label="Published">{_text(claim["published"])}</td>',
            f'<td data-label="Ours">{_text(claim["ours"])}</td>',
            f'<td data-label="Tolerance">{_text(claim["tolerance"])}</td>',
            f'<td data-label="Verdict" data-verdict="{verdict}">{verdict}</td>',
        )
        rows.append(f'<tr id="{_text(claim["id"])}">{"".join(cells)}</tr>')
    head = "".join(
        f"<th>{name}</th>" for name in ("Source", "Claim", "Published", "Ours", "Tolerance", "Verdict")
    )
    table = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(rows)}\n</tbody>"
    return f'```{{raw}} html\n<table class="learndyn-claims">\n{table}\n</table>\n```'


def gallery(notebooks: Notebooks, pictures: Path) -> str:
    """Return the gallery, a card per figure, and write the figures' pictures into the folder ``pictures``."""
    pictures.mkdir(parents=True, exist_ok=True)
    parts = []
    for name, notebook in notebooks.items():
        cards = []
        for figure in gather_figures(notebook):
            suffix = {"image/svg+xml": "svg", "image/png": "png"}[figure["mime"]]
            path = pictures / f"{name.replace('/', '-')}-{figure['name']}.{suffix}"
            path.write_bytes(figure["data"])
            alt = " ".join(figure["alt"].split())
            lead = f"**{figure['source']}.** " if figure["source"] else ""
            cards.append(
                f"::::{{grid-item-card}}\n:img-top: {pictures.name}/{path.name}\n:img-alt: {alt}\n"
                f":link: {name}.html#{figure['anchor']}\n:link-type: url\n\n{lead}{figure['caption']}\n::::"
            )
        if cards:
            grid = "\n\n".join(cards)
            parts += [f"## {title(notebook, name)}", f":::::{{grid}} 1 1 2 2\n:gutter: 3\n\n{grid}\n:::::"]
    return "\n\n".join(parts) or "No notebook of this build keeps a figure."


def run_times(notebooks: Notebooks) -> str:
    """Return the table of run times with the machine and the versions they were measured with."""
    rows, machines, versions = [], set(), {}
    for name, notebook in notebooks.items():
        facts = notebook.metadata.get("learndyn")
        if facts is None:
            continue
        machines.add(f"{facts['machine']}, {facts['threads']} threads per notebook")
        versions.update(facts["versions"])
        page = f"[{title(notebook, name)}]({name}.ipynb)"
        rows.append(f"| {page} | {facts['seconds']:.0f} | {facts['profile']} | {facts['finished']} |")
    if not rows:
        return "This build holds no executed notebook."
    return "\n".join(
        [
            "| notebook | seconds | profile | finished |",
            "|---|---:|---|---|",
            *rows,
            "",
            f"Machine: {'; '.join(sorted(machines))}.",
            "",
            f"Versions: {', '.join(f'{name} {number}' for name, number in versions.items())}.",
        ]
    )
