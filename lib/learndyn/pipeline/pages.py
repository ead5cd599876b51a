"""The pages that a build fills from its executed notebooks: scoreboard, gallery and run times.

In the checkout each of these pages holds, between two comment lines, a sentence that says the build fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nbformat import NotebookNode

from learndyn.core import claims
from learndyn.core.plotting import gather_figures
from learndyn.pipeline.errors import PipelineError

BEGIN, END = "% filled by the build: begin", "% filled by the build: end"

Notebooks = Mapping[str, NotebookNode]
"""Executed notebooks under their names, in reading order."""


@dataclass(frozen=True)
class Chapter:
    """An opening page (relative to ``book/``, with its suffix), its title, and the names of its notebooks."""

    page: str
    title: str
    notebooks: tuple[str, ...]


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
        for record in claims.collect(notebook)
    ]


def scoreboard(
    records: Sequence[Mapping[str, Any]], notebooks: Notebooks, chapters: Sequence[Chapter]
) -> str:
    """Return the scoreboard: how many claims have which verdict, then per chapter and notebook every claim.

    Args:
        records: the claims of all notebooks, see `gather_claims`.
        notebooks: the notebooks.
        chapters: what groups them.
    """
    by_notebook = {
        name: [dict(row) for row in records if row["notebook"] == f"book/{name}.py"] for name in notebooks
    }
    parts, overview = [], []
    for chapter in chapters:
        names = [name for name in chapter.notebooks if by_notebook[name]]
        rows = [row for name in names for row in by_notebook[name]]
        if not rows:
            continue
        overview.append(_counts(f"**{chapter.title}**", rows))
        overview += [
            _counts(f"[{title(notebooks[name], name)}]({_target(name)})", by_notebook[name]) for name in names
        ]
        parts += [f"## [{chapter.title}]({chapter.page})", f"{claims.summary(rows)}."]
        parts += [*_linked(rows, claims.Verdict.NOT), *_linked(rows, claims.Verdict.PENDING)]
        for name in names:
            parts.append(
                f"({_target(name)})=\n### [{title(notebooks[name], name)}]({name}.ipynb)\n\n"
                f"```{{raw}} html\n{claims.render_table(by_notebook[name])}\n```"
            )
    if not parts:
        return "No notebook of this build holds a table of claims."
    return "\n\n".join([_OVERVIEW + "\n".join(overview), *parts])


_OVERVIEW = """\
Claims by verdict: ✓ reproduced, ≈ reproduced at smaller scale, ✗ not reproduced, … needs paper profile.

| | claims | ✓ | ≈ | ✗ | … |
|---|---:|---:|---:|---:|---:|
"""


def _counts(words: str, records: Sequence[Mapping[str, Any]]) -> str:
    """A row of the overview."""
    verdicts = [record["verdict"] for record in records]
    counts = [verdicts.count(verdict) or "" for verdict in claims.Verdict]
    return f"| {words} | {len(verdicts)} | {' | '.join(map(str, counts))} |"


def _target(notebook: str) -> str:
    """The label of a notebook's claims on the scoreboard."""
    return f"claims-of-{notebook.replace('/', '-').replace('_', '-')}"


def _linked(records: Sequence[Mapping[str, Any]], verdict: claims.Verdict) -> list[str]:
    """A sentence that leads to each claim with this verdict, if there is one."""
    names = [record["id"] for record in records if record["verdict"] == verdict]
    links = ", ".join(f'<a href="#{name}"><code>{name}</code></a>' for name in names)
    return [f"{verdict.capitalize()}: {links}."] if names else []


def gallery(notebooks: Notebooks, chapters: Sequence[Chapter], pictures: Path) -> str:
    """Return the gallery, a card per figure, and write the figures' pictures into the folder ``pictures``."""
    pictures.mkdir(parents=True, exist_ok=True)
    parts = []
    for chapter in chapters:
        grids = {name: _cards(name, notebooks[name], pictures) for name in chapter.notebooks}
        if any(grids.values()):
            parts.append(f"## {chapter.title}")
        for name, cards in grids.items():
            if cards:
                grid = "\n\n".join(cards)
                parts += [
                    f"### {title(notebooks[name], name)}",
                    f":::::{{grid}} 1 1 2 2\n:gutter: 3\n\n{grid}\n:::::",
                ]
    return "\n\n".join(parts) or "No notebook of this build keeps a figure."


def _cards(name: str, notebook: NotebookNode, pictures: Path) -> list[str]:
    """A card for each figure of a notebook, whose picture is written into the folder."""
    cards = []
    for figure in gather_figures(notebook):
        suffix = {"image/svg+xml": "svg", "image/png": "png"}[figure["mime"]]
        path = pictures / f"{name.replace('/', '-')}-{figure['name']}.{suffix}"
        path.write_bytes(figure["data"])
        alt = " ".join(figure["alt"].split())
        source = figure["source"]
        lead = f"**{source[0].upper()}{source[1:]}.** " if source else ""
        cards.append(
            f"::::{{grid-item-card}}\n:img-top: {pictures.name}/{path.name}\n:img-alt: {alt}\n"
            f":link: {name}.html#{figure['anchor']}\n:link-type: url\n\n{lead}{figure['caption']}\n::::"
        )
    return cards


def run_times(notebooks: Notebooks) -> str:
    """Return the table of run times with the machine and the versions they were measured with."""
    rows, machines, versions = [], set(), {}
    for name, notebook in notebooks.items():
        facts = notebook.metadata.get("learndyn")
        if facts is None:
            continue
        threads = f"{facts['threads']} thread{'' if facts['threads'] == 1 else 's'}"
        machines.add(f"{facts['machine']}, {threads} per notebook")
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
