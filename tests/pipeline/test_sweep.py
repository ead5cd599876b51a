"""Sweeps: what a sweep file may say, what is trained and what is not trained twice, and what lands in the
result."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
COMMAND = [sys.executable, "-c", "import typer; from learndyn.pipeline.sweep import main; typer.run(main)"]

SPEC = {
    "name": "stub",
    "trainer": "stub_trainer",
    "checkpoint_every": 5,
    "base": {"epochs": 20},
    "grid": {
        "shape": {"orders": [[5], [7]], "hidden_size": [4, 8]},
        "run": {"weight_decay": [1e-4, 1e-3], "seed": [1, 2, 3]},
    },
}


SMALL = {
    "name": "small",
    "trainer": "stub_trainer",
    "grid": {"shape": {"hidden_size": [4, 8]}, "run": {"seed": [1, 2]}},
}


def changed(**changes):
    """SPEC with some entries replaced; a path is written with double underscores, None removes."""
    spec = json.loads(json.dumps(SPEC))
    for path, value in changes.items():
        *above, last = path.split("__")
        place = spec
        for key in above:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return spec


def environment(**more):
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs the command in a folder of its own: exit code, what it said, and the epochs computed
    meanwhile."""
    import typer
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    for name, value in environment(SWEEP_DIARY=str(tmp_path / "diary")).items():
        monkeypatch.setenv(name, value)
    from learndyn.pipeline.sweep import main

    app = typer.Typer()
    app.command()(main)

    def run(spec=SPEC, *options):
        diary = tmp_path / "diary"
        before = len(diary.read_text().splitlines()) if diary.exists() else 0
        write(tmp_path / "spec.yaml", spec)
        result = CliRunner().invoke(app, ["spec.yaml", "--out", "result.nc", "--device", "cpu", *options])
        lines = diary.read_text().splitlines()[before:] if diary.exists() else []
        return result.exit_code, result.output, [tuple(map(str, json.loads(line))) for line in lines]

    run.folder = tmp_path
    return run


def write(path, spec):
    path.write_text(spec if isinstance(spec, str) else yaml.safe_dump(spec, sort_keys=False))


@pytest.fixture
def spec_error(tmp_path, monkeypatch):
    """The sentence with which a sweep file is refused."""
    monkeypatch.syspath_prepend(str(HERE))

    def refuse(spec):
        from learndyn.core.config import ConfigError
        from learndyn.pipeline import sweep_spec

        path = tmp_path / "spec.yaml"
        write(path, spec)
        with pytest.raises(ConfigError) as error:
            sweep_spec.load_spec(path)
        return str(error.value)

    return refuse


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base__epoch": 3}, ["unknown parameter 'epoch'", "epochs"]),
        ({"base__epochs": "many"}, ["epochs", "'many'", "whole number"]),
        ({"grid__shape__orders": [[5], [1]]}, ["orders", "(1,)", "at least 2"]),
        ({"grid__run__weight_decay": [1e-4, -1.0]}, ["weight_decay", "-1.0", "at least 0"]),
        ({"grid__run__seed": [1, 2, 1]}, ["grid.run.seed", "1", "twice"]),
        ({"grid__run__seed": []}, ["grid.run.seed", "at least one value"]),
        ({"grid__run__seed": 3}, ["grid.run.seed", "3", "list"]),
        ({"grid__run__seed": [1.5]}, ["seed", "1.5", "whole number"]),
        ({"grid__run__width": [3]}, ["grid.run", "unknown parameter 'width'"]),
        ({"base__seed": 1}, ["'seed'", "base", "grid.run"]),
        ({"grid__rum": {}}, ["unknown parameter 'rum'", "run"]),
        ({"extra": 1}, ["unknown parameter 'extra'"]),
        ({"grid": None}, ["grid", "required"]),
        ({"name": "a/b"}, ["name", "'a/b'", "letters"]),
        ({"max_runs_per_job": 0}, ["max_runs_per_job", "0", "from 1"]),
        ({"trainer": "no.such.module"}, ["cannot import 'no.such.module'"]),
        ({"trainer": "json"}, ["'json'", "TrainConfig"]),
        ({"reduce": "stub_trainer.no_such"}, ["'stub_trainer.no_such'", "not a function"]),
        ({"measures": "stub_trainer.halve"}, ["stub_trainer", "no argument 'measures'"]),
    ],
)
def test_a_bad_sweep_file_is_refused_in_one_sentence(spec_error, changes, words):
    sentence = spec_error(changed(**changes))
    assert "\n" not in sentence
    assert "spec.yaml" in sentence
    for word in words:
        assert word in sentence


def test_broken_yaml_and_keys_given_twice_are_refused(spec_error):
    assert "line 2" in spec_error("name: a\n  b: [")
    assert "line 1: 'name' is given twice" in spec_error("name: a\nname: b\n")
    assert "mapping" in spec_error("- 1\n")


def test_numbers_without_a_point_are_numbers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    from learndyn.pipeline import sweep_spec

    path = tmp_path / "spec.yaml"
    path.write_text("name: a\ntrainer: stub_trainer\ngrid: {run: {weight_decay: [1e-5, 5E-5, 2.e-4, 0.1]}}")
    spec = sweep_spec.load_spec(path)
    assert spec.grid.run["weight_decay"] == [1e-5, 5e-5, 2e-4, 0.1]


def test_groups_are_the_grid_and_their_keys_follow_their_content(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    from learndyn.pipeline import sweep_spec

    def groups(**changes):
        return sweep_spec.groups(sweep_spec.SweepSpec.parse(changed(**changes)))

    usual = groups()
    assert [(g.config.orders, g.config.hidden_size) for g in usual] == [
        ((5,), 4),
        ((5,), 8),
        ((7,), 4),
        ((7,), 8),
    ]
    assert usual[0].config.weight_decay == (1e-4,) * 3 + (1e-3,) * 3
    assert usual[0].config.seed == (1, 2, 3) * 2
    assert len({group.key for group in usual}) == 4
    assert [g.key for g in groups(name="other", checkpoint_every=7)] == [g.key for g in usual]
    # A value of one shape concerns the groups of that shape alone; a value of all runs concerns all groups.
    wider = groups(grid__shape__hidden_size=[4, 9])
    assert [a.key == b.key for a, b in zip(usual, wider, strict=True)] == [True, False, True, False]
    for other in (
        groups(base__epochs=21),
        groups(grid__run__seed=[1, 2, 4]),
        groups(reduce="stub_trainer.halve"),
    ):
        assert not {g.key for g in usual} & {g.key for g in other}
    split = groups(max_runs_per_job=4)
    assert [len(g.runs) for g in split] == [4, 2] * 4
    assert [run for g in split[:2] for run in g.runs] == list(usual[0].runs)


def test_the_published_sweeps_are_the_published_grid():
    from learndyn.pipeline import sweep_spec

    sizes = {"cogo": (12, 300), "cogo_figure4": (3, 45), "scan_snap_figure6": (4, 640), "smoke": (4, 8)}
    assert {path.stem for path in (REPOSITORY / "sweeps").glob("*.yaml")} == set(sizes)
    for file, (jobs, runs) in sizes.items():
        spec = sweep_spec.load_spec(REPOSITORY / "sweeps" / f"{file}.yaml")
        assert (len(sweep_spec.groups(spec)), sweep_spec.run_count(spec)) == (jobs, runs)
    published = [
        g.config for g in sweep_spec.groups(sweep_spec.load_spec(REPOSITORY / "sweeps" / "cogo.yaml"))
    ]
    assert {(c.orders, c.hidden_size) for c in published} == {
        ((d,), q) for d in (23, 71, 127) for q in (256, 512, 1024, 2048)
    }
    for config in published:
        assert set(zip(config.weight_decay, config.seed, strict=True)) == {
            (decay, seed) for decay in (1e-5, 5e-5, 1e-4, 2e-4, 5e-4) for seed in range(1, 6)
        }
        assert (config.rng, config.epochs, config.test_size) == ("published", 10000, 0.1)
        assert set(config.learning_rate) == {0.01}


def test_the_sweep_of_scan_and_snap_is_its_preset_cut_by_task():
    from learndyn.pipeline import sweep_spec
    from learndyn.scan_snap.training import PRESETS

    spec = sweep_spec.load_spec(REPOSITORY / "sweeps" / "scan_snap_figure6.yaml")
    for place, group in enumerate(sweep_spec.groups(spec)):
        assert group.config == PRESETS["figure_6"].select(range(160 * place, 160 * (place + 1)))
        assert set(group.config.task) == {place}


def test_a_sweep_lands_as_one_labelled_dataset_equal_to_single_trainings(sweep):
    spec = changed(max_runs_per_job=4, grid__shape__hidden_size=[4], grid__run__seed=[1, 2, 13])
    code, said, epochs = sweep(spec)
    assert code == 0, said
    assert "12 runs in 4 groups" in said
    assert "4 did not finish" in said  # the stub reports seed 13 as diverged
    assert len(epochs) == len(set(epochs)) == 4 * 20
    import stub_trainer

    with xr.open_dataset(sweep.folder / "result.nc", engine="h5netcdf") as dataset:
        assert dataset.sizes == {"run": 12, "epoch": 20, "frequency": 3}
        labels = [dataset[name].values.tolist() for name in ("orders", "hidden_size", "weight_decay", "seed")]
        runs = list(zip(*labels, strict=True))
        assert runs == [(d, 4, decay, seed) for d in "57" for decay in (1e-4, 1e-3) for seed in (1, 2, 13)]
        for index, (d, q, decay, seed) in enumerate(runs):
            config = stub_trainer.TrainConfig(
                orders=[int(d)], hidden_size=q, weight_decay=decay, seed=seed, epochs=20
            )
            alone = stub_trainer.train(config)
            np.testing.assert_array_equal(dataset.loss[index], alone.loss[0].astype(np.float32))
            # d = 5 has two frequencies: the third is padding.
            np.testing.assert_array_equal(dataset.order[index], [q, q, q if d == "7" else -1])
            assert dataset.status_code[index] == (seed == 13)
            assert dataset.status_sentence[index] == ("diverged at epoch 3" if seed == 13 else "")
        assert dataset.order.dtype.kind == "i"
        assert dataset.attrs["sweep"] == "stub"
        assert json.loads(dataset.attrs["config"])["grid"] == spec["grid"]

    code, said, epochs = sweep(spec)
    assert (code, epochs) == (0, [])
    assert "nothing to do" in said
    # Another sweep does not overwrite it.
    code, said, epochs = sweep({**spec, "name": "other"})
    assert (code, epochs) == (2, [])
    assert "'other'" in said
    assert "'stub'" in said


def test_a_killed_sweep_goes_on_with_nothing_lost_and_nothing_trained_twice(sweep):
    spec = changed(grid__shape={"hidden_size": [4, 6, 8]})
    write(sweep.folder / "spec.yaml", spec)
    parts = sweep.folder / "result.parts"
    diary = sweep.folder / "diary"
    command = [*COMMAND, "spec.yaml", "--out", "result.nc", "--device", "cpu"]
    env = environment(SWEEP_DIARY=str(diary), SWEEP_HOLD=str(sweep.folder / "hold"))
    said = sweep.folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            command, cwd=sweep.folder, env=env, stdout=file, stderr=file, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 300
            # In the middle: one group is stored, another one is past its second checkpoint and waits.
            while not (list(parts.glob("?" * 16 + ".nc")) and _under_way(diary)):
                assert time.monotonic() < deadline, said.read_text()
                assert process.poll() is None, said.read_text()
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    time.sleep(0.3)
    before = diary.read_text().splitlines()
    stored = {path.stem for path in parts.glob("?" * 16 + ".nc")}
    assert 0 < len(stored) < 3
    assert list(parts.glob("*.checkpoint"))
    assert not (sweep.folder / "result.nc").exists()

    code, output, epochs = sweep(spec)
    assert code == 0, output
    assert len({epoch[:4] for epoch in epochs}) == 3 - len(stored)  # what was stored is not trained again
    times = Counter(diary.read_text().splitlines())
    assert len(times) == 3 * 20
    assert len(before) > 20
    # Only the epochs since a group's last checkpoint (every 5) were computed twice.
    twice = Counter(str(json.loads(line)[:2]) for line, count in times.items() if count == 2)
    assert max(times.values()) <= 2
    assert all(count <= 5 for count in twice.values())
    assert not list(parts.glob("*.checkpoint*"))
    _assert_equals_an_uninterrupted_one(sweep.folder)


def _assert_equals_an_uninterrupted_one(folder):
    from learndyn.pipeline import sweep_job, sweep_spec

    spec = sweep_spec.load_spec(folder / "spec.yaml")
    parts = []
    for group in sweep_spec.groups(spec):
        parts.append(folder / "again" / f"{group.key}.nc")
        assert sweep_job.run_group(spec, group, parts[-1], device="cpu")
    sweep_job.gather(spec, parts, folder / "again.nc")
    with (
        xr.open_dataset(folder / "result.nc", engine="h5netcdf") as resumed,
        xr.open_dataset(folder / "again.nc", engine="h5netcdf") as expected,
    ):
        xr.testing.assert_identical(resumed.drop_attrs(), expected.drop_attrs())


def _under_way(diary):
    lines = [json.loads(line) for line in diary.read_text().splitlines()] if diary.exists() else []
    last = {}
    for *group, epoch in lines:
        last[json.dumps(group)] = epoch
    return 12 in last.values()


def test_a_job_whose_group_is_no_longer_that_of_the_plan_says_so(tmp_path, monkeypatch):
    from learndyn.pipeline import sweep

    monkeypatch.syspath_prepend(str(HERE))
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"spec": SMALL, "device": "cpu", "checkpoints": None}))
    with pytest.raises(sweep.SweepError, match=r"parameters have changed .* start it again"):
        sweep._job(plan, "0123456789abcdef", tmp_path / "part.nc", threads=1)


def test_a_crashed_job_fails_the_command_and_the_others_are_kept(sweep, monkeypatch):
    monkeypatch.setenv("SWEEP_CRASH", "8")
    code, said, epochs = sweep(SMALL)
    assert code == 1
    sentence = said.strip().splitlines()[-1]
    assert "1 of 2 groups failed" in sentence
    assert "hidden_size=8 (2 runs: seed 1 … 2)" in sentence
    assert "RuntimeError: the stub was told to crash" in sentence
    assert {epoch[1] for epoch in epochs} == {"4"}
    assert not (sweep.folder / "result.nc").exists()

    monkeypatch.delenv("SWEEP_CRASH")
    code, said, epochs = sweep(SMALL)
    assert code == 0, said
    assert {epoch[1] for epoch in epochs} == {"8"}
    # A changed value trains the groups that it concerns and no other.
    code, said, epochs = sweep({**SMALL, "grid": {**SMALL["grid"], "shape": {"hidden_size": [6, 8]}}})
    assert code == 0, said
    assert {epoch[1] for epoch in epochs} == {"6"}
    with xr.open_dataset(sweep.folder / "result.nc", engine="h5netcdf") as dataset:
        assert dataset.hidden_size.values.tolist() == [6, 6, 8, 8]


def test_bad_input_exits_with_2_and_one_sentence_before_any_work(sweep):
    cases = [
        (sweep(changed(base__epoch=1)), "unknown parameter 'epoch'"),
        (sweep(SMALL, "--out", "result.csv"), "ends in .nc"),
        (sweep(SMALL, "--executor-profile", "nowhere"), "no config.yaml"),
        (sweep(SMALL, "--device", "cuda:99"), "cuda:99"),
        (sweep(SMALL, "--device", "abacus"), "abacus"),
    ]
    for (code, said, epochs), words in cases:
        assert (code, epochs) == (2, [])
        assert words in said
        assert len(said.strip().splitlines()) == 1
    (sweep.folder / "result.nc").write_bytes(b"\x89HDF truncated")
    code, said, epochs = sweep(SMALL)
    assert (code, epochs) == (2, [])
    assert "result.nc" in said
    assert (sweep.folder / "result.nc").read_bytes() == b"\x89HDF truncated"


def test_two_sweeps_at_once_do_not_meet(sweep):
    from filelock import FileLock

    (sweep.folder / "result.parts").mkdir()
    with FileLock(sweep.folder / "result.parts" / "sweep.lock"):
        code, said, epochs = sweep()
    assert (code, epochs) == (2, [])
    assert "another sweep is at work" in said


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_job_that_is_started_again_finds_its_work_done(tmp_path, monkeypatch, hard_links):
    """The submitter was killed, its cluster job finished; Snakemake deletes its file and submits it again."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("SWEEP_DIARY", str(tmp_path / "diary"))
    from learndyn.pipeline import sweep_job, sweep_spec

    if not hard_links:

        def refuse(*_):
            raise OSError("no hard links on this file system")

        monkeypatch.setattr(os, "link", refuse)
    spec = sweep_spec.SweepSpec.parse(SPEC)
    group = sweep_spec.groups(spec)[0]
    target = tmp_path / f"{group.key}.nc"
    assert sweep_job.run_group(spec, group, target, device="cpu")
    content = target.read_bytes()
    assert not sweep_job.run_group(spec, group, target, device="cpu")
    target.unlink()
    assert not sweep_job.run_group(spec, group, target, device="cpu")
    assert target.read_bytes() == content
    assert len((tmp_path / "diary").read_text().splitlines()) == 20
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_dry_run_lists_the_groups_and_writes_nothing(sweep):
    code, said, epochs = sweep(SPEC, "--dry-run")
    assert (code, epochs) == (0, [])
    assert said.count("to train") == 4
    assert "24 runs in 4 groups" in said
    assert sorted(path.name for path in sweep.folder.iterdir()) == ["spec.yaml"]


@pytest.mark.parametrize("profile", ["local", "slurm", "kubernetes"])
def test_the_profiles_that_come_with_the_book_are_accepted(sweep, profile):
    if profile != "local":
        pytest.importorskip(
            f"snakemake_executor_plugin_{profile}", reason="the extra 'cluster' is not installed"
        )
    folder = REPOSITORY / "sweeps" / "profiles" / profile
    if profile == "kubernetes":
        # The object store is looked into even by a dry run: a folder stands in for it.
        pytest.importorskip(
            "snakemake_storage_plugin_fs", reason="snakemake-storage-plugin-fs is not installed"
        )
        values = yaml.safe_load((folder / "config.yaml").read_text())
        assert values["default-storage-provider"] == "s3"
        values |= {"default-storage-provider": "fs", "default-storage-prefix": str(sweep.folder / "store")}
        folder = sweep.folder / "profile"
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
    code, said, _ = sweep(SPEC, "--dry-run", "--executor-profile", str(folder))
    assert code == 0, said


def test_joining_pads_axes_of_unequal_length():
    from learndyn.pipeline import sweep_job

    def part(d, nodes):
        return xr.Dataset(
            {
                "count": (("run", "frequency"), np.full((2, d), d)),
                "spectrum": (("run", "node"), np.full((2, nodes), 1 + 2j, dtype=np.complex64)),
                "note": ("run", np.array(["x", "y" * d])),
            },
            coords={
                "frequency": np.arange(1, d + 1),
                "seed": ("run", [1, 2]),
                "label": ("run", [str(10**d)] * 2),
            },
        )

    joined = sweep_job.join([part(3, 4), part(5, 2)])
    assert joined.sizes == {"run": 4, "frequency": 5, "node": 4}
    assert joined["count"].values[0].tolist() == [3, 3, 3, -1, -1]
    assert joined.spectrum.dtype == np.complex64
    np.testing.assert_array_equal(np.isnan(joined.spectrum.values).sum(axis=1), [0, 0, 2, 2])
    assert joined.seed.values.tolist() == [1, 2, 1, 2]
    assert joined.note.values.tolist() == ["x", "yyy", "x", "yyyyy"]
    assert joined.label.values.tolist() == ["1000", "1000", "100000", "100000"]
    assert {joined.note.dtype.kind, joined.label.dtype.kind} == {"U"}
