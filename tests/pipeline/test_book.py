"""Builds of a small book: what is run again and what is not, failures, kills, two at once."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def book(built_book, tmp_path):
    """A copy of the built book, to change."""
    shutil.copytree(built_book.root, tmp_path / "a copy", symlinks=True)
    return type(built_book)(tmp_path / "a copy")


def ran(output: str) -> set[str]:
    """Names of the notebooks that a build executed."""
    return set(re.findall(r"book/demo/(\w+)\.py ran in", output))


def site_text(book, page: str) -> str:
    return (book.root / "_build" / "quick" / "html" / "book" / f"{page}.html").read_text(encoding="utf-8")


def test_build_prints_the_address_and_the_claims_and_writes_claims_json(built_book):
    again = built_book.learndyn("book").stdout
    assert (built_book.root / "_build/quick/html/index.html").as_uri() in again
    assert "1 claim: 1 reproduced" in again
    (claim,) = json.loads((built_book.root / "_build/quick/html/claims.json").read_text(encoding="utf-8"))
    assert claim.pop("seconds") >= 0
    assert claim == {
        "id": "demo.double",
        "paper": "tian2025cogo",
        "chapter": "demo",
        "source": "Figure 1",
        "statement": "Doubling two gives four",
        "published": 4.0,
        "ours": 4.0,
        "tolerance": "±0.5",
        "verdict": "reproduced",
        "profile": "quick",
        "notebook": "book/demo/alpha.py",
    }


def test_generated_pages_show_claims_figures_and_run_times(built_book):
    scoreboard = site_text(built_book, "scoreboard")
    assert "Doubling two gives four" in scoreboard
    assert 'href="demo/alpha.html"' in scoreboard
    assert 'href="demo/index.html"' in scoreboard
    assert 'href="#claims-of-demo-alpha"' in scoreboard
    gallery = site_text(built_book, "gallery")
    assert 'href="demo/alpha.html#figure-line"' in gallery
    assert gallery.count("sd-card-img-top") == 2
    run_times = site_text(built_book, "run_times")
    assert 'href="demo/beta.html"' in run_times
    assert "torch" in run_times
    for page in (scoreboard, gallery, run_times):
        assert "filled by" not in page


def test_the_site_offers_the_executed_notebook_without_traces_of_the_machine(built_book):
    path = built_book.root / "_build/quick/html/_sources/book/demo/alpha.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert any(cell.get("outputs") for cell in notebook["cells"])
    assert "widgets" not in notebook["metadata"]
    assert str(built_book.root) not in json.dumps(notebook)
    assert "_sources/book/demo/alpha.ipynb" in site_text(built_book, "demo/alpha")
    assert "mybinder.org" not in site_text(built_book, "demo/alpha")


@pytest.mark.parametrize("page", ["demo/index", "demo/beta"])
def test_a_link_to_a_script_leads_to_the_page_of_the_notebook(built_book, page):
    assert re.search(r'href="alpha.html"><span class="[^"]*">(a|the) first part', site_text(built_book, page))


def test_only_what_changed_is_run_again(book):
    assert ran(book.learndyn("book").stdout) == set()
    for path in book.root.glob("*/*/*.py"):
        path.touch()
    assert ran(book.learndyn("book").stdout) == set(), "dates decide nothing"
    book.edit("lib/learndyn/demo/shared.py", "return 2", "return 3")
    assert ran(book.learndyn("book").stdout) == {"alpha"}, "alpha imports shared through one, beta does not"
    assert "not reproduced" in site_text(book, "scoreboard")


def test_a_failing_notebook_names_its_cell_and_leaves_the_rest(book):
    book.edit("book/demo/beta.py", "two.total(count)", "# A comment first.\ntwo.total('three')\n1 + 1")
    before = book.executed("demo/alpha").read_bytes()
    failed = book.learndyn("book", code=1)
    assert "book/demo/beta.py stopped in code cell 3: two.total('three')" in failed.stderr
    assert "TypeError: 'str' object cannot be interpreted as an integer" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert book.executed("demo/alpha").read_bytes() == before
    assert not book.executed("demo/beta").exists()
    assert "A small book" in site_text(book, "intro"), "the site of the last complete build stays"
    book.edit("book/demo/beta.py", "two.total('three')", "two.total(3)")
    assert ran(book.learndyn("book").stdout) == {"beta"}


def test_a_page_with_a_fault_fails_the_build_and_a_good_one_runs_no_notebook(book):
    book.edit("book/demo/index.md", "{doc}`beta`", "{doc}`gamma`")
    for attempt in ("first", "second"):
        failed = book.learndyn("book", code=1)
        assert re.search(r"demo/index.md:3: WARNING: .*gamma", failed.stderr), attempt
    assert "A small book" in site_text(book, "intro"), "the site of the last complete build stays"
    book.edit("book/demo/index.md", "{doc}`gamma`", "the other one")
    shutil.rmtree(book.root / "_build/quick/html")
    assert ran(book.learndyn("book").stdout) == set()
    assert "the other one" in site_text(book, "demo/index")


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def wait_until_noted(book, notebook: str) -> None:
    """Wait until Snakemake has noted that a notebook is finished."""
    output = str(book.executed(notebook).relative_to(book.root))
    mark = book.root / ".snakemake" / "incomplete" / base64.b64encode(output.encode(), b"_-").decode()
    assert mark.parent.is_dir()
    while mark.exists():
        time.sleep(0.05)


def test_a_killed_build_goes_on_where_it_was(book):
    book.edit("book/demo/alpha.py", "note: str = ", "extra = 1\nnote: str = ")
    gate = book.root / "gate"
    book.edit(
        "book/demo/beta.py",
        "two.total(count)",
        "import pathlib, time\npathlib.Path('../../started').touch()\n"
        "while not pathlib.Path('../../gate').exists():\n    time.sleep(0.1)\ntwo.total(count)",
    )
    book.executed("demo/alpha").unlink()
    process = book.start("book")
    wait_for(book.root / "started", process)
    wait_for(book.executed("demo/alpha"), process)
    wait_until_noted(book, "demo/alpha")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not book.executed("demo/beta").exists()
    gate.touch()
    assert ran(book.learndyn("book").stdout) == {"beta"}
    process.stdout.close()


def test_two_builds_at_once_do_the_work_once(book):
    shutil.rmtree(book.root / "_build")
    shutil.rmtree(book.root / ".snakemake")
    first, second = book.start("book"), book.start("book")
    outputs = [process.communicate(timeout=900)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert sum(len(ran(output)) for output in outputs) == 2
    assert sum("Another build is running" in output for output in outputs) == 1
    assert all("1 claim: 1 reproduced" in output for output in outputs)


def test_another_profile_has_its_own_parameters_and_site(book):
    done = book.learndyn("book", "--profile", "smoke")
    assert "demo.double  Figure 1         4          5     not reproduced" in done.stdout
    assert "PROFILE=smoke" in done.stdout
    notebook = json.loads(book.executed("demo/alpha", "smoke").read_text(encoding="utf-8"))
    assert notebook["metadata"]["learndyn"]["profile"] == "smoke"
    staged = json.loads((book.root / "_build/smoke/stage/book/demo/alpha.ipynb").read_text(encoding="utf-8"))
    (injected,) = [c for c in staged["cells"] if "injected-parameters" in c["metadata"].get("tags", [])]
    assert "hide-input" in injected["metadata"]["tags"]
    book.write("profiles/smoke/demo/alpha.yaml", "slope: 2.2\n")
    assert ran(book.learndyn("book", "--profile", "smoke").stdout) == {"alpha"}
    assert (book.root / "_build/quick/html/index.html").is_file()


def test_launch_buttons_open_the_notebook_itself(book):
    git = ["git", "-C", str(book.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    remote = "git@github.com:someone/learning-dynamics.git"
    subprocess.run([*git, "remote", "add", "origin", remote], check=True)
    assert ran(book.learndyn("book").stdout) == set()
    page, place = site_text(book, "demo/alpha"), "someone/learning-dynamics"
    assert f"https://mybinder.org/v2/gh/{place}/notebooks?urlpath=lab/tree/book/demo/alpha.ipynb" in page
    assert f"https://colab.research.google.com/github/{place}/blob/notebooks/book/demo/alpha.ipynb" in page


def test_the_plain_checkout_builds_with_jupyter_book(new_book):
    book = new_book()
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going"],
        cwd=book.root,
        env=book.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    html = book.root / "_build" / "html"
    assert "Doubling two gives four" in (html / "book/demo/alpha.html").read_text(encoding="utf-8")
    assert "filled by" in (html / "book/scoreboard.html").read_text(encoding="utf-8")
    assert (html / "_static/mathjax/tex-chtml.js").is_file()


def execute_beta(book, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "learndyn.pipeline.execute", "demo/beta", "--log", "beta.ipynb"]
    return subprocess.run(
        [*command, "--root", ".", "--profile", "quick", *arguments],
        cwd=book.root,
        env=book.environment | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_cell_that_hangs_is_stopped_and_named(book):
    book.edit("book/demo/beta.py", "two.total(count)", "import time\ntime.sleep(3600)")
    # The cells before it take less, also on a busy machine.
    done = execute_beta(book, "--cell-timeout", "10")
    assert done.returncode == 1
    note = json.loads((book.root / "_build/quick/logs/demo/beta.failure.json").read_text(encoding="utf-8"))
    assert note["cell"] == 3
    assert "CellTimeoutError" in note["sentence"]


def test_a_long_folder_for_temporary_files_is_no_hindrance(book):
    folder = book.root / ("temporary" * 12)  # longer than a socket's name may be
    folder.mkdir()
    book.executed("demo/beta").unlink()
    done = execute_beta(book, TMPDIR=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert book.executed("demo/beta").is_file()
    assert not list(folder.iterdir())
