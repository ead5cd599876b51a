"""The rules of the house that a machine can check: notebooks, layers, pinned versions, citation file."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

import grimp
import jsonschema
import jupytext
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*/*.py"))
MODULES = sorted((ROOT / "lib" / "learndyn").rglob("*.py"))
LONGEST_CELL, LONGEST_MODULE, LONGEST_FUNCTION = 15, 500, 60


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


# ------------------------------------------------------------------------------------------------ notebooks


def test_there_are_no_outputs_in_the_book():
    assert not list((ROOT / "book").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_survives_the_round_trip(path):
    command = [sys.executable, "-m", "jupytext", "--to", "notebook", "--test", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_can_take_parameters(path):
    notebook = jupytext.read(path)
    assert notebook.metadata.kernelspec.language == "python", "papermill stops without it"
    assert sum("parameters" in tags(cell) for cell in notebook.cells) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_cells_are_short(path):
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code" and not {"hide-input", "hide-cell", "parameters"} & set(tags(cell)):
            lines = [line for line in cell.source.splitlines() if not re.match(r"\s*$|import |from ", line)]
            assert len(lines) <= LONGEST_CELL, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_ends_with_its_claims(path):
    last = [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"][-1]
    assert "ledger" in last.source.splitlines()[-1]


def test_every_notebook_and_page_is_in_the_table_of_contents():
    from learndyn.pipeline.project import Project

    project = Project(ROOT)
    project.check_pages()
    pages = {p.relative_to(ROOT).with_suffix("").as_posix() for p in (ROOT / "book").rglob("*.md")}
    scripts = {path.relative_to(ROOT).with_suffix("").as_posix() for path in NOTEBOOKS}
    assert Counter(project.pages) == Counter(pages | scripts)


@pytest.mark.parametrize("profile", sorted(p.name for p in (ROOT / "profiles").iterdir() if p.is_dir()))
def test_profile_is_well_formed(profile):
    from learndyn.pipeline.profiles import check_profile
    from learndyn.pipeline.project import Project

    check_profile(Project(ROOT, profile))


# -------------------------------------------------------------------------------------------------- library


def test_chapters_stand_on_core_alone():
    graph = grimp.build_graph("learndyn", cache_dir=None)
    rooms = {child.split(".")[1] for child in graph.find_children("learndyn")}
    chapters = rooms - {"core", "pipeline"}
    for chapter in chapters:
        for other in (chapters | {"pipeline"}) - {chapter}:
            assert not graph.find_illegal_dependencies_for_layers(
                layers=(f"learndyn.{other}", f"learndyn.{chapter}")
            ), f"{chapter} imports {other}"
    for room in chapters | {"pipeline"}:
        assert not graph.find_illegal_dependencies_for_layers(layers=(f"learndyn.{room}", "learndyn.core")), (
            f"core imports {room}"
        )


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = len((ast.get_docstring(node) or "").splitlines())
            length = node.end_lineno - node.lineno + 1 - docstring
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", [p for p in MODULES if "pipeline" not in p.parts], ids=name)
def test_the_library_is_silent_and_reads_no_environment(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    forbidden = {"print", "os.getenv", "os.environ.get", "torch.manual_seed", "np.random.seed", "random.seed"}
    assert not called & forbidden
    assert "os.environ" not in {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


# ------------------------------------------------------------------------------------------ versions, files


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", package).lower(): pin for package, pin in pins}


def test_pinned_versions_are_within_the_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = constraints()
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    for requirement in map(Requirement, wanted):
        pin = pins[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(pin), f"{requirement} does not allow {pin}"


def test_this_environment_is_the_pinned_one():
    differences = {}
    for package, pin in constraints().items():
        try:
            installed = Version(version(package)).public
        except PackageNotFoundError:
            continue  # extras that are not installed here, and other platforms' packages
        if installed != pin:
            differences[package] = f"{installed}, pinned {pin}"
    if differences and not (ROOT / ".venv").exists():
        pytest.skip(f"an environment of one's own choice: {differences}")
    assert not differences


def test_conda_environment_installs_under_the_constraints():
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert {"pip": ["-c constraints.txt", "-e .[book,test]"]} in wanted


def test_citation_file():
    schema = json.loads((Path(__file__).parent / "citation_schema.json").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    jsonschema.validate(citation, schema)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


def test_no_key_of_the_bibliography_is_defined_twice():
    keys = re.findall(r"^@\w+\{([^,]+),", (ROOT / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert keys
    assert len(keys) == len(set(keys)), "a second definition silently drops the rest of the file"


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_front_files_lead_somewhere(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target
