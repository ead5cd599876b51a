"""The smoke sweep on a real one-node Slurm: jobs are submitted, killed sweeps go on, GPUs are asked for."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
import yaml

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SCRIPT = HERE / "one_node_slurm.sh"
COMMAND = [sys.executable, "-c", "import typer; from learndyn.pipeline.sweep import main; typer.run(main)"]

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Environment in which sbatch talks to a Slurm of one node with one (pretended) GPU."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra 'cluster' is not installed")
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not _which(name)]
    if missing:
        pytest.skip(f"no {missing[0]} here: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd has to be started by root")
    folder = tmp_path_factory.mktemp("slurm")
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "OMP_NUM_THREADS": "1"}
    started = subprocess.run(
        [SCRIPT, "start", folder], env={**environment, "ONE_NODE_GRES": "gpu:fake:1"},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    if started.returncode:
        pytest.skip(f"Slurm does not start here: {started.stderr.strip()}")
    try:
        yield {**environment, "PATH": f"{folder / 'bin'}:{environment['PATH']}"}
    finally:
        subprocess.run([SCRIPT, "stop", folder], env=environment, timeout=60, check=True)


def _which(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


@pytest.fixture
def profile(tmp_path):
    """The profile that comes with the book, filled in for this machine as its comments say."""
    values = yaml.safe_load((REPOSITORY / "sweeps" / "profiles" / "slurm" / "config.yaml").read_text())
    values |= {
        "slurm-status-command": "squeue",
        "slurm-no-account": True,
        "slurm-init-seconds-before-status-checks": 2,
        "seconds-between-status-checks": 2,
        "latency-wait": 10,
        "set-threads": ["train=1"],
        "default-resources": ["runtime=10", "mem_mb=900", "slurm_partition='main'"],
    }
    folder = tmp_path / "profile"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def _jobs(environment):
    # Which squeue is a matter of the PATH in `environment`.
    command = ["env", "squeue", "--noheader", "--states=all", "--Format=JobID:20,State:20,tres-per-job:40"]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=30)
    return {number: rest for number, *rest in map(str.split, listed.stdout.splitlines())}


def _sweep(folder, environment, profile, spec, *options):
    return subprocess.run(
        [*COMMAND, str(spec), "--out", "result.nc", "--executor-profile", str(profile), *options],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


def test_the_smoke_sweep_runs_on_slurm_and_equals_the_local_one(slurm, profile, tmp_path):
    before = set(_jobs(slurm))
    spec = REPOSITORY / "sweeps" / "smoke.yaml"
    done = _sweep(tmp_path, slurm, profile, spec)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = [job for number, job in _jobs(slurm).items() if number not in before]
    assert len(jobs) == 4
    # Each of them finished, and asked Slurm for a GPU.
    assert jobs == [["COMPLETED", "gres:gpu:1"]] * 4

    from learndyn.pipeline import sweep_job, sweep_spec

    groups = sweep_spec.groups(sweep_spec.load_spec(spec))
    alone = tmp_path / "alone.nc"
    assert sweep_job.run_group(sweep_spec.load_spec(spec), groups[1], alone, device="cpu")
    with (
        xr.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as result,
        xr.open_dataset(alone, engine="h5netcdf") as expected,
    ):
        assert result.sizes["run"] == 8
        assert (result.status_code == 0).all()
        assert result.modulus.values.tolist() == [5] * 4 + [7] * 4
        # The second group is runs 2 and 3: equal to training it here.
        part = result.isel(run=[2, 3]).sel(frequency=expected.frequency)
        xr.testing.assert_equal(part.train_loss, expected.train_loss)
        xr.testing.assert_equal(part.order, expected.order)


def test_jobs_that_outlive_a_killed_sweep_are_waited_for_and_not_trained_twice(slurm, profile, tmp_path):
    environment = {
        **slurm,
        "PYTHONPATH": str(HERE),
        "SWEEP_DIARY": str(tmp_path / "diary"),
        "SWEEP_SECONDS": "0.5",
    }
    spec = tmp_path / "spec.yaml"
    grid = {"run": {"seed": [1, 2]}}
    values = {"name": "stub", "trainer": "stub_trainer", "base": {"epochs": 25}, "grid": grid}
    spec.write_text(yaml.safe_dump(values))
    command = [
        *COMMAND,
        str(spec),
        "--out",
        "result.nc",
        "--executor-profile",
        str(profile),
        "--device",
        "cpu",
    ]
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 120
            while len(_diary(tmp_path)) < 3:
                assert time.monotonic() < deadline, (tmp_path / "said").read_text()
                assert process.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    # The Slurm job is still at work; started again, the sweep waits for it instead of doing its work again.
    done = _sweep(tmp_path, environment, profile, spec, "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(_diary(tmp_path)) == len(set(_diary(tmp_path))) == 25
    assert (tmp_path / "result.nc").exists()


def _diary(folder):
    diary = folder / "diary"
    return diary.read_text().splitlines() if diary.exists() else []
