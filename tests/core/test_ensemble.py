"""The loop of an ensemble: what diverges is stopped, what is killed goes on, what does not fit is split."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from learndyn.core import checkpoint, ensemble


class Growth:
    """x ← rate · x + step, run by run: the smallest trainer there is."""

    def __init__(self, rates, steps, logged, *, strict=False, crash_at=None, limit=1e6):
        self.rates, self.x = torch.tensor(rates), torch.ones(len(rates))
        self.rows = torch.arange(len(rates))
        self.log = ensemble.Logbook(len(rates), logged)
        self.statuses = ensemble.Statuses([f"run {i}" for i in self.rows], strict=strict, limit=limit)
        self.crash_at, self.visited, self.watched = crash_at, [], 0

    def advance(self, step, *, logged):
        if step == self.crash_at:
            raise KeyboardInterrupt
        self.visited.append(step)
        if logged:
            self.log.record(step, self.rows, size=self.x, double=torch.stack([self.x, 2 * self.x], 1))
        self.x = self.rates * self.x + 1e-3 * step

    def maintain(self, step):
        columns = self.log.between(self.watched, step)
        self.watched = step
        kept = self.statuses.watch(
            self.rows, self.log.steps[columns], self.log.values["size"][self.rows, columns]
        )
        self.rows, self.x, self.rates = self.rows[kept], self.x[kept], self.rates[kept]
        return len(self.rows) > 0

    def finish(self, step):
        self.log.record(step, self.rows, size=self.x)

    def state_dict(self):
        own = {"x": self.x, "rows": self.rows, "rates": self.rates, "watched": torch.tensor(self.watched)}
        own |= {f"status.{name}": t for name, t in self.statuses.state_dict().items()}
        return own | {f"log.{name}": t for name, t in self.log.values.items()}

    def load_state_dict(self, flat):
        self.x, self.rows, self.rates = flat["x"], flat["rows"], flat["rates"]
        self.watched = int(flat["watched"])
        self.log.values = {name[4:]: t for name, t in flat.items() if name.startswith("log.")}
        self.statuses.load_state_dict({n[7:]: t for n, t in flat.items() if n.startswith("status.")})


LOGGED = tuple(range(0, 101, 5))


def _drive(program, **options):
    options = {"steps": 100, "logged": LOGGED, "maintain_every": 10, "identity": "growth"} | options
    ensemble.drive(program, **options)
    return program


def test_runs_that_blow_up_stop_and_the_others_go_on():
    program = _drive(Growth([0.9, 2.0, 1.0, float("nan")], 100, LOGGED))
    alone = _drive(Growth([0.9], 100, LOGGED))
    assert program.rows.tolist() == [0, 2]
    assert torch.equal(program.log.values["size"][0], alone.log.values["size"][0])
    codes = [status.code for status in program.statuses]
    assert codes == [
        ensemble.RunCode.OK,
        ensemble.RunCode.DIVERGED,
        ensemble.RunCode.OK,
        ensemble.RunCode.DIVERGED,
    ]
    assert program.statuses[0] == ensemble.RunStatus()
    assert program.statuses[1].step == 20  # 2²⁰ is the first logged value above 10⁶
    assert program.statuses[3].step == 5
    assert program.statuses[1].sentence == "diverged: the training loss was 1.05e+06 at step 20"
    assert program.log.values["size"][1, -1].isnan()


def test_survivors_have_finite_losses_since_and_finite_parameters_now():
    log, nan = ensemble.Logbook(6, (0, 2, 4, 6)), float("nan")
    statuses = ensemble.Statuses([f"run {i}" for i in range(6)])
    rows = torch.tensor([1, 2, 4, 5])
    # Run 2's loss of step 0 has been seen before, that of run 4 at step 6 is not due.
    for step, losses in ((0, [1, nan, 1, 1]), (2, [1, 1, 1, 1]), (4, [1, 1, 1, 1e9]), (6, [1, 1, nan, 1])):
        log.record(step, rows, loss=torch.tensor(losses, dtype=torch.float64))
    finite = torch.tensor([False, True, True, True])
    blanked = []
    kept = statuses.survivors(log, "loss", rows, finite, since=1, step=6, blank=blanked.append)
    assert kept.tolist() == [1, 2]
    assert sorted(blanked) == [1, 5]
    assert [status.step for status in statuses] == [-1, 6, -1, -1, -1, 4]
    assert "1e+09 at step 4" in statuses[5].sentence
    # Nothing was logged in between: the parameters alone decide.
    gone = torch.tensor([True, False])
    kept = statuses.survivors(log, "loss", rows[kept], gone, since=7, step=8, blank=blanked.append)
    assert blanked[2:] == [4]
    assert kept.tolist() == [0]
    variables = statuses.variables()
    assert variables["status_code"][1].tolist() == [0, 1, 0, 0, 1, 1]
    assert variables["status_step"][1].tolist() == [-1, 6, -1, -1, 8, 4]
    assert [text.split(" ")[0] for text in variables["status_sentence"][1]] == [
        "trained", "diverged:", "trained", "trained", "diverged:", "diverged:",
    ]  # fmt: skip


def test_blanking_a_run_leaves_the_others_and_what_was_before():
    log = ensemble.Logbook(3, (0, 5, 10))
    ensemble.Logbook(3, ()).blank(0, after=0)  # nothing was asked for
    for step in log.steps:
        log.record(step, torch.arange(3), loss=torch.ones(3), modes=torch.ones(3, 2))
    log.blank(1, after=5)
    expected = torch.zeros(3, 3, dtype=torch.bool)
    expected[1, 2] = True
    assert torch.equal(log.values["loss"].isnan(), expected)
    assert torch.equal(log.values["modes"].isnan().all(-1), expected)
    log.blank(1, after=4)
    assert log.values["loss"][1].isnan().tolist() == [False, True, True]


def test_a_flat_state_comes_apart_again():
    own, parts = {"rows": torch.arange(2)}, {"a": {"x": torch.ones(1), "x.y": torch.zeros(1)}, "a1": {}}
    flat = ensemble.flat_state(own, parts | {"b": {"x": torch.ones(2)}})
    assert set(flat) == {"rows", "a.x", "a.x.y", "b.x"}
    found = ensemble.part_of(flat, "a")
    assert found["x"] is parts["a"]["x"]
    assert set(found) == {"x", "x.y"}
    assert ensemble.part_of(flat, "a1") == {}
    assert ensemble.part_of(flat, "b", "meta")["x"].device.type == "meta"


def test_chunks_are_joined_along_run():
    parts = [
        xr.Dataset(
            {"loss": (("run", "step"), np.full((n, 2), n)), "weight": ("step", [1, 2])}, {"step": [0, 3]}
        )
        for n in (1, 3)
    ]
    joined = ensemble.join(parts)
    assert joined.loss.dims == ("run", "step")
    assert joined.loss[:, 0].values.tolist() == [1, 3, 3, 3]
    assert joined.weight.dims == ("step",)
    assert ensemble.join(parts[:1]) is parts[0]


def test_nothing_left_to_train_ends_the_loop():
    program = _drive(Growth([3.0, 4.0], 100, LOGGED))
    assert len(program.rows) == 0
    assert max(program.visited) < 30


def test_strict_raises_and_names_the_run():
    with pytest.raises(ensemble.EnsembleError, match=r"run 1: diverged: .* at step 20$"):
        _drive(Growth([0.9, 2.0], 100, LOGGED, strict=True))


def test_an_interrupted_training_goes_on_where_it_was(tmp_path):
    file, rates = tmp_path / "a" / "state.safetensors", [0.9, 1.01, 2.0]
    whole = _drive(Growth(rates, 100, LOGGED))
    with pytest.raises(KeyboardInterrupt):
        _drive(Growth(rates, 100, LOGGED, crash_at=47), checkpoint=file, checkpoint_every=20)
    resumed = _drive(Growth(rates, 100, LOGGED), checkpoint=file, checkpoint_every=20)
    assert resumed.visited[0] == 40
    assert torch.equal(resumed.x, whole.x)
    for name in ("size", "double"):
        torch.testing.assert_close(
            resumed.log.values[name], whole.log.values[name], atol=0, rtol=0, equal_nan=True
        )
    assert list(resumed.statuses) == list(whole.statuses)
    again = _drive(Growth(rates, 100, LOGGED), checkpoint=file, checkpoint_every=20)
    assert again.visited == []
    assert torch.equal(again.log.values["size"][0], whole.log.values["size"][0])
    assert [path.name for path in file.parent.iterdir()] == ["state.safetensors"]


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    _drive(Growth([0.9], 100, LOGGED), checkpoint=file)
    with pytest.raises(checkpoint.CheckpointError, match="another configuration"):
        _drive(Growth([0.9], 100, LOGGED), checkpoint=file, identity="other")
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(checkpoint.CheckpointError, match="not a checkpoint of this library"):
        checkpoint.load(file, identity="growth")
    with pytest.raises(checkpoint.CheckpointError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "none", identity="growth")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_in_one_sentence(tmp_path, share):
    file = tmp_path / "state.safetensors"
    checkpoint.save(file, {"x": torch.zeros(100)}, identity="a", step=3)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(checkpoint.CheckpointError, match="damaged or truncated") as caught:
        checkpoint.load(file, identity="a")
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    file = tmp_path / "state.safetensors"
    checkpoint.save(file, {"x": torch.ones(2)}, identity="a", step=3)

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(checkpoint.CheckpointError, match="No space left"):
        checkpoint.save(file, {"x": torch.zeros(2)}, identity="a", step=4)
    tensors, step = checkpoint.load(file, identity="a")
    assert step == 3
    assert torch.equal(tensors["x"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_tensors_that_share_memory_survive_a_round_trip(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    checkpoint.save(tmp_path / "a", {"x": base, "y": base.mT, "z": base[1]}, identity="", step=0)
    tensors, _ = checkpoint.load(tmp_path / "a", identity="")
    assert torch.equal(tensors["y"], base.mT)
    assert torch.equal(tensors["z"], base[1])


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 1000), st.integers(1, 100_000))
def test_chunks_cover_every_run_once_and_fit(runs, size, memory):
    if memory < size:
        with pytest.raises(ensemble.EnsembleError, match="one run needs"):
            ensemble.chunks(runs, size, memory)
        return
    parts = ensemble.chunks(runs, size, memory)
    assert [run for part in parts for run in part] == list(range(runs))
    assert all(0 < len(part) * size <= memory for part in parts)
    assert len(parts) == -(-runs // (memory // size))  # no more parts than needed


def test_chunk_paths_differ(tmp_path):
    whole, part = (
        ensemble.chunk_path("a/b.safetensors", range(5), 5),
        ensemble.chunk_path("a/b.st", range(2, 5), 5),
    )
    assert str(whole) == "a/b.safetensors"
    assert str(part) == "a/b.runs2-4.st"
    assert ensemble.chunk_path(None, range(2), 5) is None


def test_progress_is_shown_only_if_asked_for_and_is_gone_in_the_end(capsys):
    for show in (False, True):
        with ensemble.progress_bar(100, show=show) as bar:
            _drive(Growth([0.9], 100, LOGGED), bar=bar)
            assert show is False or bar.n == 100
        error = capsys.readouterr().err
        assert ("step/s" in error) is show
        assert error.rsplit("\r", 1)[-1].strip() == ""


NOTEBOOK = """
import time
from learndyn.core import ensemble
with ensemble.progress_bar(3, show={show}) as bar:
    for _ in range(3):
        bar.update()
        time.sleep(0.35)
print("done")
"""


@pytest.mark.parametrize("show", [False, True])
def test_progress_leaves_nothing_in_an_executed_notebook(tmp_path, show):
    nbformat, papermill = pytest.importorskip("nbformat"), pytest.importorskip("papermill")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(NOTEBOOK.format(show=show))], metadata={"kernelspec": kernel}
    )
    nbformat.write(notebook, tmp_path / "in.ipynb")
    done = papermill.execute_notebook(str(tmp_path / "in.ipynb"), None, progress_bar=False, start_timeout=300)
    outputs = done.cells[0].outputs
    assert [o.text for o in outputs if o.output_type == "stream"] == ["done\n"]
    rest = [o for o in outputs if o.output_type != "stream"]
    assert [dict(o.data) for o in rest] == ([{"text/plain": ""}] if show else [])
