"""What a notebook depends on, and a fingerprint of it: content decides what is run again, never a date."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import grimp

from learndyn.pipeline.errors import PipelineError
from learndyn.pipeline.project import Project

PACKAGE = "learndyn"


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)


@cache
def _package_folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PipelineError(f"The package {PACKAGE} is not installed; run: pip install -e '.[book]'.")
    return Path(next(iter(spec.submodule_search_locations)))


def imported_modules(source: Path) -> set[str]:
    """Return the modules of the library that a percent script imports, by itself or through other modules.

    ``from learndyn.core import device`` counts as ``learndyn.core.device`` if that is a module. The packages
    above a module count too, since importing it runs their ``__init__``.

    Raises:
        PipelineError: the script is not valid Python.
    """
    graph = _graph()
    named: set[str] = set()
    try:
        tree = ast.parse(_python_lines(source))
    except SyntaxError as error:
        raise PipelineError(f"{source.name}, line {error.lineno}: {error.msg}.") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            named.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    direct = named & graph.modules
    reached = direct.union(*(graph.find_upstream_modules(module) for module in direct))
    return reached | {parent for module in reached for parent in _ancestors(module)}


def _python_lines(source: Path) -> str:
    """Return the script with lines that only IPython reads (``%magic``, ``!command``) blanked."""
    lines = source.read_text(encoding="utf-8").splitlines()
    return "\n".join("" if line.startswith(("%", "!")) else line for line in lines)


def _ancestors(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:depth]) for depth in range(1, len(parts))}


def _module_file(module: str) -> Path:
    path = _package_folder().joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _data_files(folder: Path) -> set[Path]:
    return {
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }


def dependencies(project: Project, notebook: str) -> dict[str, Path]:
    """Return the files that decide a notebook's outputs, under names that do not depend on the machine.

    These are the script, the profile's parameters for it, every library module it imports (also
    indirectly), the data packaged with those modules' chapter, the archived results of its own chapter,
    and the pinned versions.
    """
    source, library = project.source(notebook), _package_folder()
    modules = imported_modules(source)
    files = {source, project.parameters_file(notebook), project.root / "constraints.txt"}
    files |= {
        path for path in (project.root / "results" / notebook.split("/")[0]).rglob("*") if path.is_file()
    }
    named = {path.relative_to(project.root).as_posix(): path for path in files if path.is_file()}
    packaged = {_module_file(module) for module in modules}
    for room in {".".join(module.split(".")[:2]) for module in modules} - {PACKAGE}:
        packaged |= _data_files(_package_folder().joinpath(*room.split(".")[1:]))
    named.update({f"{PACKAGE}/{path.relative_to(library).as_posix()}": path for path in packaged})
    return named


@cache
def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(files: dict[str, Path]) -> str:
    """Return one hash of the names and contents of the files."""
    whole = hashlib.sha256()
    for name, path in sorted(files.items()):
        whole.update(f"{name}\0{_digest(path)}\n".encode())
    return whole.hexdigest()


def page_files(project: Project) -> dict[str, Path]:
    """Return the files besides executed notebooks that decide the site: pages, configuration, builder."""
    root, library = project.root, _package_folder()
    files = [root / name for name in ("_config.yml", "_toc.yml", "references.bib", "constraints.txt")]
    files += [path for path in (root / "book").rglob("*") if path.suffix not in (".py", ".ipynb", ".pyc")]
    named = {path.relative_to(root).as_posix(): path for path in files if path.is_file()}
    named = {name: path for name, path in named.items() if "/." not in name}
    builders = [
        path for path in (library / "pipeline").rglob("*") if path.is_file() and path.suffix != ".pyc"
    ]
    named.update({f"{PACKAGE}/{path.relative_to(library).as_posix()}": path for path in builders})
    return named
