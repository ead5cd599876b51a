"""The staged book: pages of the checkout, executed notebooks, and a configuration that executes nothing."""

from __future__ import annotations

import copy
import posixpath
import re
import shutil
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from learndyn.pipeline import pages, scoreboard
from learndyn.pipeline.errors import PipelineError
from learndyn.pipeline.project import Project, github_address

NOTEBOOK_BRANCH = "notebooks"
"""Branch of the public repository that holds the executed notebooks; the launch buttons point there."""
STAGED_FILES = ("_toc.yml", "references.bib")


def stage(project: Project) -> list[dict[str, Any]]:
    """Write the staged book anew and return the claims of all its notebooks.

    Raises:
        PipelineError: a notebook has not been executed, or a page that is to be filled has no place for it.
    """
    folder = project.stage
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in STAGED_FILES:
        shutil.copy2(project.root / name, folder / name)
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    config = staged_config(config, github_address(project.root))
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    _copy_pages(project)
    notebooks = {name: read_executed(project, name) for name in project.notebooks}
    for name, notebook in notebooks.items():
        path = folder / "book" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = published(notebook)
        for cell in staged.cells:
            if cell.cell_type == "markdown":
                cell.source = link_notebooks(project, f"book/{name}", cell.source)
        nbformat.write(staged, path)
    claims, chapters = scoreboard.gather_claims(notebooks, project.profile), _chapters(project, notebooks)
    _fill(project, "scoreboard", scoreboard.scoreboard(claims, notebooks, chapters))
    _fill(project, "gallery", pages.gallery(notebooks, chapters, folder / "book" / "gallery_pictures"))
    _fill(project, "run_times", pages.run_times(notebooks))
    return claims


def _copy_pages(project: Project) -> None:
    """Copy everything below ``book/`` except the notebooks' sources and what editors leave there."""
    ignore = shutil.ignore_patterns("*.py", "*.ipynb", ".*", "__pycache__")
    shutil.copytree(project.root / "book", project.stage / "book", ignore=ignore)
    for path in (project.stage / "book").rglob("*.md"):
        page = path.relative_to(project.stage).as_posix()
        path.write_text(link_notebooks(project, page, path.read_text(encoding="utf-8")), encoding="utf-8")


def _chapters(project: Project, notebooks: pages.Notebooks) -> list[pages.Chapter]:
    """Return the chapters: their opening pages relative to ``book/``, titles and notebooks."""
    found = []
    for page, names in project.chapters.items():
        name, path = page.removeprefix("book/"), project.root / f"{page}.md"
        if path.is_file():
            heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            found.append(pages.Chapter(f"{name}.md", heading[1] if heading else name, names))
        else:
            found.append(pages.Chapter(f"{name}.ipynb", pages.title(notebooks[name], name), names))
    return found


def link_notebooks(project: Project, page: str, text: str) -> str:
    """Return the text with links to scripts, ``[words](one_run.py)``, leading to the staged notebooks.

    In the checkout such links work in JupyterLab and with ``jupyter-book build .``; the staged book has
    ``.ipynb`` files instead.
    """

    def staged(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[1]))
        is_notebook = target.removeprefix("book/") in project.notebooks
        return f"]({match[1]}.ipynb{match[2] or ''})" if is_notebook else match[0]

    return re.sub(r"\]\(([\w./-]+)\.py(#[^)\s]*)?\)", staged, text)


def _fill(project: Project, page: str, content: str) -> None:
    path = project.stage / "book" / f"{page}.md"
    if path.is_file():
        path.write_text(
            pages.fill(f"book/{page}.md", path.read_text(encoding="utf-8"), content), encoding="utf-8"
        )


def read_executed(project: Project, notebook: str) -> NotebookNode:
    """Return an executed notebook.

    Raises:
        PipelineError: it has not been executed.
    """
    path = project.executed(notebook)
    if not path.is_file():
        raise PipelineError(
            f"book/{notebook}.py has not been executed under the profile '{project.profile}'."
        )
    return nbformat.read(path, as_version=4)


def published(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook as readers see and download it.

    Widget state goes (it would be printed into the page), and the code of the cell that papermill injected is
    folded.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a progress bar that is done leaves an empty line
            cell.outputs = [o for o in cell.outputs if o.get("data") != {"text/plain": ""}]
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
    return notebook


def staged_config(config: dict[str, Any], repository: str | None) -> dict[str, Any]:
    """Return the configuration of the staged book: nothing is executed, and buttons know the repository.

    Without a public repository there are no launch buttons; the download button is always there.
    """
    config = copy.deepcopy(config)
    config["execute"] = {"execute_notebooks": "off", "stderr_output": config["execute"]["stderr_output"]}
    config["sphinx"]["config"].pop("nb_custom_formats", None)
    if repository:
        config["repository"] = {"url": repository, "branch": NOTEBOOK_BRANCH, "path_to_book": ""}
        config["launch_buttons"] = {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        }
        config["html"]["use_repository_button"] = True
    return config
