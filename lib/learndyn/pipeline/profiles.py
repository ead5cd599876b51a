"""Profiles: the parameters that replace a notebook's own, checked before any work starts."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from learndyn.pipeline.errors import PipelineError
from learndyn.pipeline.project import QUICK, Project


def profile_names(root: Path) -> list[str]:
    """Return the names of the profiles that the checkout offers."""
    folder = root / "profiles"
    found = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted({QUICK, *found})


def parameters(project: Project, notebook: str) -> dict[str, Any]:
    """Return the parameters that the profile gives to the notebook (none: the notebook's own are kept).

    Raises:
        PipelineError: the file is not a flat mapping.
    """
    path = project.parameters_file(notebook)
    if not path.is_file():
        return {}
    where = path.relative_to(project.root)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise PipelineError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise PipelineError(f"{where} must hold one `name: value` line per parameter.")
    return values


@cache
def known_parameters(source: Path) -> frozenset[str]:
    """Return the names that the notebook's parameters cell sets.

    Raises:
        PipelineError: the notebook has no cell tagged ``parameters``.
    """
    import jupytext

    cells = [cell for cell in jupytext.read(source).cells if "parameters" in cell.metadata.get("tags", [])]
    if not cells:
        raise PipelineError(f"{source.name} has no cell tagged 'parameters', so no profile can set any.")
    # Not papermill.inspect_notebook, which overlooks a line whose comment has an equals sign in it.
    assigned: set[str] = set()
    for statement in ast.parse(cells[0].source).body:
        targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        assigned.update(target.id for target in targets if isinstance(target, ast.Name))
    return frozenset(assigned)


def check_profile(project: Project) -> None:
    """Check that the profile exists, that its files name notebooks, and that these take what it sets.

    Raises:
        PipelineError: naming the profile, the notebook or the parameter that is wrong, and what there is.
    """
    names = profile_names(project.root)
    if project.profile not in names:
        raise PipelineError(f"There is no profile '{project.profile}'; there are: {', '.join(names)}.")
    folder = project.root / "profiles" / project.profile
    for path in sorted(folder.rglob("*.y*ml")):
        where, name = path.relative_to(project.root), path.relative_to(folder).with_suffix("").as_posix()
        if not project.source(name).is_file() or path.suffix != ".yaml":
            raise PipelineError(f"{where} names the notebook book/{name}.py, which is not there.")
        values = parameters(project, name)
        known = known_parameters(project.source(name)) if values else frozenset()
        if unknown := [key for key in values if key not in known]:
            raise PipelineError(
                f"{where} sets '{unknown[0]}', which book/{name}.py does not take; "
                f"its parameters are: {', '.join(sorted(known))}."
            )
