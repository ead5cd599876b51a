"""The pages that a build fills from its executed notebooks: gallery and run times. See also `scoreboard`.

In the checkout each of these pages holds, between two comment lines, a sentence that says the build fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nbformat import NotebookNode

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
