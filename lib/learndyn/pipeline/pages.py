"""The pages that a build fills from its executed notebooks: scoreboard, gallery and run times.

In the checkout each of these pages holds, between two comment lines, a sentence that says the build fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from nbformat import NotebookNode

from learndyn.core import claims
from learndyn.core.plotting import gather_figures
from learndyn.pipeline.errors import PipelineError

BEGIN, END = "% filled by the build: begin", "% filled by the build: end"

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
        for record in claims.collect(notebook)
    ]


def scoreboard(
    records: Sequence[Mapping[str, Any]], notebooks: Notebooks, chapters: Mapping[str, str]
) -> str:
    """Return the scoreboard: per chapter and notebook, every claim with the paper's value beside ours.

    Args:
        records: the claims of all notebooks, see `gather_claims`.
        notebooks: the notebooks.
        chapters: titles of the chapters' opening pages under the names of their folders.
    """
    parts = []
    for chapter in dict.fromkeys(name.split("/")[0] for name in notebooks):
        tables = []
        for name in (name for name in notebooks if name.split("/")[0] == chapter):
            rows = [dict(record) for record in records if record["notebook"] == f"book/{name}.py"]
            if rows:
                link = f"### [{title(notebooks[name], name)}]({name}.ipynb)"
                tables.append(f"{link}\n\n```{{raw}} html\n{claims.render_table(rows)}\n```")
        if tables:
            rows = [record for record in records if record["notebook"].split("/")[1] == chapter]
            heading = f"[{chapters[chapter]}]({chapter}/index.md)" if chapter in chapters else chapter
            parts += [f"## {heading}", f"{claims.summary(rows)}.", *_failed(rows), *tables]
    return "\n\n".join(parts) or "No notebook of this build holds a table of claims."


def _failed(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence that leads to each claim that was not reproduced, if there is one."""
    names = [record["id"] for record in records if record["verdict"] == claims.Verdict.NOT]
    links = ", ".join(f'<a href="#{name}"><code>{name}</code></a>' for name in names)
    return [f"Not reproduced: {links}."] if names else []


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
