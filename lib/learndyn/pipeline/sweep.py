"""``learndyn sweep``: train a grid of configurations, here or on a cluster, into one labelled dataset.

The command checks the sweep file, writes a plan and lets Snakemake run one job per group of equal shape.
Everything that a killed sweep needs in order to go on lies in a folder beside the result,
``<result>.parts``: finished groups (one netCDF each, named after a hash of its content), checkpoints of
those under way, logs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import xarray as xr
from filelock import FileLock, Timeout

from learndyn.core import records
from learndyn.core.config import ConfigError
from learndyn.core.device import pick_device
from learndyn.core.errors import PlainError
from learndyn.core.records import RecordError
from learndyn.pipeline import sweep_job, sweep_spec
from learndyn.pipeline.sweep_spec import Group, SweepSpec

WORKFLOW = Path(__file__).with_suffix(".smk")
# Without a profile: this machine, all its cores, and one job at a time on its GPU.
LOCAL = ("--cores", "all", "--resources", "gpu=1")

NO_WORD = "it said nothing (killed for memory or time, or not started by the scheduler?)"


class SweepError(RuntimeError):
    """A sweep that did not finish; one sentence says which groups and why."""


@dataclass(frozen=True)
class Sweep:
    """One sweep file on its way to one result file."""

    spec: SweepSpec
    groups: Sequence[Group]
    out: Path
    device: str
    profile: Path | None
    checkpoints: Path | None

    @property
    def folder(self) -> Path:
        """Where everything lies that a killed sweep needs in order to go on."""
        return self.out.with_suffix(".parts")

    def part(self, group: Group) -> Path:
        """The file of a finished group."""
        return self.folder / f"{group.key}.nc"

    @property
    def gathered(self) -> str:
        """File name of the joined dataset before it takes its final place."""
        return f"gathered-{sweep_spec.sweep_key(self.spec)}.nc"


def main(
    spec: Annotated[Path, typer.Argument(help="The sweep file, e.g. sweeps/cogo.yaml.")],
    out: Annotated[Path | None, typer.Option(help="The result [default: results/NAME.nc].")] = None,
    executor_profile: Annotated[
        Path | None, typer.Option(help="Snakemake profile: a folder with config.yaml, see sweeps/profiles/.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N, as each job sees it.")] = "auto",
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, if jobs do not share this machine's files.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list the groups, run nothing.")
    ] = False,
) -> None:
    """Train every configuration of a sweep; run again, it goes on where it was stopped."""
    try:
        sweep = prepare(spec, out, executor_profile, device, checkpoints)
        if dry_run:
            _show_plan(sweep)
            return
        _run_locked(sweep)
    except PlainError as error:
        _fail(str(error), 2)
    except SweepError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"cannot write {error.filename or 'the result'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        _fail("stopped; run the same command again to go on", 130)


def _fail(sentence: str, code: int) -> None:
    typer.echo(f"learndyn sweep: {sentence}", err=True)
    raise typer.Exit(code) from None


def prepare(
    spec_path: Path, out: Path | None, profile: Path | None, device: str, checkpoints: Path | None
) -> Sweep:
    """Check everything that can be checked before work starts.

    Raises:
        ConfigError: the sweep file, the result's name or the profile is wrong.
        DeviceError: the sweep would run here, and the device is not there.
        RecordError: there is a file under the result's name that no sweep of this name wrote.
    """
    spec = sweep_spec.load_spec(spec_path)
    out = Path("results") / f"{spec.name}.nc" if out is None else out
    if out.suffix != ".nc":
        raise ConfigError(f"--out = {out}: the result is a netCDF file, its name ends in .nc")
    if profile is not None and not any(
        (profile / name).is_file() for name in ("config.yaml", "profile.yaml")
    ):
        raise ConfigError(f"--executor-profile = {profile}: there is no config.yaml in this folder")
    if importlib.util.find_spec("snakemake") is None:
        raise ConfigError("sweeps need Snakemake: pip install 'learndyn[book]'")
    if profile is None:
        # Jobs run here: what 'auto' means is known now, and only a GPU has to be queued for.
        device = str(pick_device(device))
    checkpoints = None if checkpoints is None else checkpoints.absolute()
    return Sweep(
        spec, sweep_spec.groups(spec), out.absolute(), device, profile and profile.absolute(), checkpoints
    )


def is_done(sweep: Sweep) -> bool:
    """Whether the result is there already.

    Raises:
        RecordError: something else is there: another sweep's result, a truncated file, not a result at all.
    """
    if not sweep.out.exists():
        return False
    with records.load(sweep.out) as dataset:
        name, key = dataset.attrs.get("sweep"), dataset.attrs.get(sweep_job.KEY)
    if name != sweep.spec.name:
        raise RecordError(
            f"{sweep.out} is a result of '{name}', not of the sweep '{sweep.spec.name}'; give another --out"
        )
    return bool(key == sweep_spec.sweep_key(sweep.spec))


def _run_locked(sweep: Sweep) -> None:
    if is_done(sweep):
        typer.echo(f"{sweep.out}: all {sweep_spec.run_count(sweep.spec)} runs are there, nothing to do")
        return
    sweep.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(sweep.folder / "sweep.lock", timeout=0):
            _run(sweep)
    except Timeout:
        raise ConfigError(
            f"another sweep is at work on {sweep.out}; wait until it has ended, or give another --out"
        ) from None


def _run(sweep: Sweep) -> None:
    for group in sweep.groups:
        _log(sweep, group).unlink(missing_ok=True)
    command = snakemake_command(sweep, sweep.folder)
    with subprocess.Popen(command) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # Snakemake got the same signal and is cancelling its cluster jobs: let it.
            process.wait()
            raise
    gathered = sweep.folder / sweep.gathered
    if code or not gathered.exists():
        raise SweepError(_what_failed(sweep))
    os.replace(gathered, sweep.out)
    typer.echo(_summary(sweep))


def snakemake_command(sweep: Sweep, folder: Path, *options: str) -> list[str]:
    """Put workflow and plan into `folder` and give the command that runs them there.

    The workflow is copied since Kubernetes pods and cluster nodes get the content of this folder and
    nothing else. The plan is named after its content: a late job of a killed sweep still finds its own.
    """
    plan: dict[str, Any] = {
        "spec": sweep.spec.model_dump(mode="json"),
        "groups": [group.key for group in sweep.groups],
        "gathered": sweep.gathered,
        "device": sweep.device,
        "gpu": sweep.device != "cpu",
        "checkpoints": None if sweep.checkpoints is None else str(sweep.checkpoints),
    }
    name = f"plan-{sweep_spec.sweep_key(sweep.spec)}.json"
    _write(folder / name, json.dumps({**plan, "plan": name}, indent=1))
    _write(folder / "Snakefile", WORKFLOW.read_text(encoding="utf-8"))
    machine = LOCAL if sweep.profile is None else ("--profile", str(sweep.profile))
    # Files appear whole or not at all, named after their content: whatever is there is finished, even if
    # Snakemake was killed before it could note so; and our own lock, unlike its, ends with its process.
    ours = ["--keep-going", "--ignore-incomplete", "--nolock", "--rerun-triggers", "mtime"]
    where = ["--snakefile", str(folder / "Snakefile"), "--directory", str(folder)]
    plan_file = ["--configfile", str(folder / name)]
    quiet = ["--workflow-profile", "none", "--quiet", "rules", "host"]
    return [sys.executable, "-m", "snakemake", *where, *plan_file, *machine, *ours, *quiet, *options]


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _log(sweep: Sweep, group: Group) -> Path:
    return sweep.folder / "logs" / f"{group.key}.log"


def _what_failed(sweep: Sweep) -> str:
    missing = [group for group in sweep.groups if not sweep.part(group).exists()]
    began = [group for group in missing if _log(sweep, group).exists()]
    if not began:
        log = sweep.folder / "logs" / "gather.log"
        reason = (
            f"the groups could not be gathered: {_last_line(log)}" if not missing and log.exists() else ""
        )
        return reason or "Snakemake stopped before any group was trained, see what it says above"
    reasons = "; ".join(f"{group.label}: {_last_line(_log(sweep, group))}" for group in began)
    kept = len(sweep.groups) - len(missing)
    return (
        f"{len(began)} of {len(sweep.groups)} groups failed: {reasons} (logs in {sweep.folder / 'logs'}); "
        f"{kept} finished groups are kept, run the same command again to train only what is missing"
    )


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else NO_WORD


def _summary(sweep: Sweep) -> str:
    with xr.open_dataset(sweep.out, engine="h5netcdf") as dataset:
        failed = int((dataset["status_code"] != 0).sum()) if "status_code" in dataset else 0
        count = dataset.sizes["run"]
    note = f", of which {failed} did not finish (status_code and status_sentence say why)" if failed else ""
    return f"{sweep.out}: {count} runs in {len(sweep.groups)} groups{note}"


def _show_plan(sweep: Sweep) -> None:
    """Say what would be done; have Snakemake check the profile in a folder that is thrown away."""
    done = is_done(sweep)
    checkpoints = sweep.checkpoints or sweep.folder
    for group in sweep.groups:
        begun = any(checkpoints.glob(f"{group.key}.checkpoint*"))
        trained = sweep.part(group).exists() or sweep_job.stored_path(checkpoints, group).exists()
        state = "done" if done or trained else "to go on" if begun else "to train"
        typer.echo(f"{group.key}  {state:8}  {group.label}")
    typer.echo(f"{sweep_spec.run_count(sweep.spec)} runs in {len(sweep.groups)} groups → {sweep.out}")
    with tempfile.TemporaryDirectory() as scratch:
        command = snakemake_command(sweep, Path(scratch), "--dry-run")
        check = subprocess.run(command, capture_output=True, text=True, check=False)
    if check.returncode:
        said = [line for line in (check.stderr + check.stdout).splitlines() if line.strip()]
        raise ConfigError(f"Snakemake refuses this plan or profile: {said[-1] if said else 'without a word'}")


jobs = typer.Typer(help="What Snakemake calls; not meant for people.", pretty_exceptions_enable=False)


def _read_plan(plan: Path) -> tuple[dict[str, Any], SweepSpec]:
    values: dict[str, Any] = json.loads(plan.read_text(encoding="utf-8"))
    return values, SweepSpec.parse(values["spec"], where=str(plan))


@jobs.command("job")
def _job(plan: Path, group: str, target: Path, threads: Annotated[int, typer.Option()] = 1) -> None:
    """Train one group of a plan."""
    torch.set_num_threads(threads)
    values, spec = _read_plan(plan)
    wanted = next((candidate for candidate in sweep_spec.groups(spec) if candidate.key == group), None)
    if wanted is None:
        raise SweepError("the trainer's parameters have changed since the sweep was started; start it again")
    checkpoints = Path(values["checkpoints"]) if values["checkpoints"] else None
    sweep_job.run_group(spec, wanted, target, device=values["device"], checkpoints=checkpoints)


@jobs.command("gather")
def _gather(plan: Path, target: Path, parts: list[Path]) -> None:
    """Join the groups of a plan."""
    _, spec = _read_plan(plan)
    sweep_job.gather(spec, parts, target)


if __name__ == "__main__":
    jobs()
