"""The trainer against autograd on one-hot sequences, against itself alone, and against being interrupted."""

import itertools

import numpy as np
import pytest
import torch
import xarray as xr

from learndyn.core import ensemble, records
from learndyn.core.checkpoint import CheckpointError
from learndyn.core.device import DeviceError
from learndyn.core.ensemble import EnsembleError
from learndyn.scan_snap import program
from learndyn.scan_snap.streams import stream
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig, syn_medium
from learndyn.scan_snap.training import TrainConfig, attention_of, grid, train

LOCAL = TaskConfig(queries=2, next_per_query=2, common=3, common_per_query=2, distinct=4, sequence_length=12)
PLAIN = TaskConfig(queries=3, common=2, distinct=3, sequence_length=9, vocabulary_size=25)
NO_COMMON = TaskConfig(queries=1, next_per_query=3, common=0, distinct=3, sequence_length=10)
SMALL = TrainConfig(
    tasks=(LOCAL, PLAIN),
    task=(0, 0, 1, 1, 0),
    seed=(1, 2, 1, 2, 1),
    attention_rate=(0.7, 1, 2, 0.3, 0.2),
    rate_ratio=(1, 5, 2, 10, 3),
    batch_size=20,
    steps=8,
    snapshot_steps=(0, 3),
    keep_decoder=True,
    dtype="float64",
)


def _sequences(task, batch):
    """One-hot positions ``[sample, position, token]`` (the query last), and labels."""
    sequences = []
    for n, counts in zip(batch.classes, batch.counts, strict=True):
        contextual = np.repeat(task.support_tokens[n], counts)
        sequences.append([*contextual, task.query_tokens[task.query_of[n]]])
    ids = torch.tensor(np.array(sequences))
    return torch.nn.functional.one_hot(ids, task.vocabulary).double(), torch.tensor(
        task.next_tokens[batch.classes]
    )


def _loss(config, decoder, attention, onehot, labels):
    """The model as the paper writes it, with autograd; ``decoder`` and ``attention`` are M × M."""
    query = onehot[:, -1]
    keys = onehot if config.attend_query else onehot[:, :-1]
    scores = torch.einsum("bm,mk,btk->bt", query, attention, keys)
    mixed = torch.einsum("bt,btk->bk", scores.softmax(-1), keys)
    if config.residual:
        mixed = mixed + query
    if config.normalize:
        mixed = mixed / mixed.norm(dim=-1, keepdim=True)
    return torch.nn.functional.cross_entropy(mixed @ decoder, labels)


def _plain(config, run):
    """The usual trainer of one run: losses, Y and Z before every step and at the end."""
    task = config.tasks[config.task[run]]
    source = stream(task, config.seed[run], config.batch_size, config.rng)
    size = task.vocabulary
    decoder, attention = torch.zeros(size, size).double(), torch.zeros(size, size).double()
    if config.initialisation == "uniform":
        decoder, rows = (config.init_scale * each for each in source.initial())
        attention[torch.tensor(task.query_tokens)] = rows
    decoder, attention = torch.nn.Parameter(decoder.clone()), torch.nn.Parameter(attention)
    groups = [
        {"params": [decoder], "lr": config.decoder_rate[run]},
        {"params": [attention], "lr": config.attention_rate[run]},
    ]
    adam = config.optimizer == "adam"
    optimizer = torch.optim.Adam(groups) if adam else torch.optim.SGD(groups, momentum=config.momentum)
    losses, decoders, attentions = [], [], []
    for step in range(config.steps + 1):
        loss = _loss(config, decoder, attention, *_sequences(task, source.batch(step)))
        losses.append(float(loss.detach()))
        decoders.append(decoder.detach().clone())
        attentions.append(attention.detach().clone()[task.query_tokens])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, torch.stack(decoders), torch.stack(attentions)


def _assert_follows_autograd(config):
    result = train(config)
    assert (result.status_code == 0).all()
    kept = list(config.kept_steps)
    # Where a gradient is about Adam's ε = 1e-8, its rounding is magnified by 1/ε.
    tolerance = 1e-9 if config.optimizer == "sgd" else 1e-7
    for run in range(config.runs):
        losses, decoders, attentions = _plain(config, run)
        size, queries = decoders.shape[-1], attentions.shape[1]
        np.testing.assert_allclose(result.loss[run], losses, rtol=tolerance, atol=1e-12)
        found = result.isel(run=run)
        np.testing.assert_allclose(
            found.attention[:, :queries, :size], attentions[kept], atol=tolerance, err_msg=f"Z of run {run}"
        )
        np.testing.assert_allclose(found.decoder[:, :size, :size], decoders[kept], atol=tolerance)
        assert found.attention[:, queries:].isnull().all()
        assert found.attention[..., size:].isnull().all()
        speed = attentions.diff(dim=0).square().sum((1, 2)).sqrt()
        np.testing.assert_allclose(found.attention_speed[:-1], speed, atol=tolerance)
        assert np.isnan(found.attention_speed[-1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("initialisation", ["zero", "uniform"])
def test_follows_autograd(optimizer, initialisation):
    _assert_follows_autograd(SMALL.replace(optimizer=optimizer, initialisation=initialisation))


@pytest.mark.parametrize(
    ("normalize", "residual", "attend_query"), list(itertools.product([True, False], repeat=3))
)
def test_options_follow_autograd(normalize, residual, attend_query):
    options = {"normalize": normalize, "residual": residual, "attend_query": attend_query}
    config = SMALL.replace(steps=5, **options)
    _assert_follows_autograd(config)
    _assert_follows_autograd(config.select([1, 2]).replace(initialisation="uniform", optimizer="adam"))


def test_a_start_of_another_scale_follows_autograd():
    config = SMALL.replace(initialisation="uniform", init_scale=3.0, steps=3).select([1, 2])
    _assert_follows_autograd(config)
    start = [train(config.replace(init_scale=scale)).attention.isel(snapshot=0) for scale in (1.0, 3.0)]
    np.testing.assert_allclose(start[1], 3 * start[0], rtol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_another_momentum_follows_autograd(momentum):
    _assert_follows_autograd(SMALL.replace(momentum=momentum))


def test_published_numbers_and_a_task_without_common_tokens_follow_autograd():
    config = SMALL.replace(tasks=(NO_COMMON, SYN_SMALL), rng="published", initialisation="uniform", steps=5)
    _assert_follows_autograd(config)


@pytest.mark.parametrize("initialisation", ["zero", "uniform"])
def test_one_run_of_one_query_follows_autograd(initialisation):
    # Axes of length one, which torch strides as it likes.
    config = SMALL.replace(tasks=(NO_COMMON,), task=0, initialisation=initialisation)
    _assert_follows_autograd(config.select([0]))


def test_an_option_changes_the_outcome():
    base = SMALL.select([1])
    outcomes = [
        attention_of(train(base.replace(**{name: not getattr(base, name)})), base).values
        for name in ("normalize", "residual", "attend_query")
    ]
    for first, second in itertools.combinations([attention_of(train(base), base).values, *outcomes], 2):
        assert np.abs(first - second).max() > 1e-4


def test_first_loss_is_that_of_guessing_and_rows_of_attention_sum_to_zero():
    config = grid(TrainConfig(steps=40), tasks=[SYN_SMALL, syn_medium(5)], seeds=(1, 2), rate_ratios=(1, 10))
    result = train(config)
    np.testing.assert_allclose(result.loss[:, 0], np.log(result.vocabulary), rtol=1e-6)
    assert np.abs(result.attention.sum("token")).max() < 3e-6
    assert (result.loss[:, -1] < 0.1).all()
    # Attention grows on distinct tokens at the cost of the common ones.
    z = attention_of(result, config, 1).isel(snapshot=-1)
    assert z.shape == (4, 5, 125)
    assert not z.isnull().any()
    assert (z[..., :10].mean("token") < 0).all()


def test_single_precision_is_close_to_double():
    config = grid(TrainConfig(steps=60, initialisation="uniform"), seeds=(1, 2), rate_ratios=(1, 10))
    single, double = train(config), train(config.replace(dtype="float64"))
    assert single.attention.dtype == np.float32
    assert np.abs(single.attention - double.attention).max() < 2e-4
    np.testing.assert_allclose(single.loss, double.loss, rtol=2e-3)


def test_alone_as_in_the_ensemble(monkeypatch):
    together = train(SMALL)
    for run in range(SMALL.runs):
        alone = train(SMALL.select([run]))
        xr.testing.assert_allclose(alone.isel(run=0), together.isel(run=run), rtol=1e-10, atol=1e-13)
    monkeypatch.setattr(program, "CACHE_BYTES", 1)
    assert len(program.together(SMALL, torch.device("cpu"))) == SMALL.runs
    xr.testing.assert_allclose(train(SMALL), together, rtol=1e-10, atol=1e-13)


def test_in_parts_that_fit_memory(tmp_path):
    whole = train(SMALL)
    memory = 2 * max(program.bytes_per_run(SMALL, task) for task in (0, 1))
    parts = train(SMALL, max_memory=memory, checkpoint=tmp_path / "run")
    assert len(list(tmp_path.iterdir())) == 3
    xr.testing.assert_allclose(parts, whole, rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(parts.seed, SMALL.seed)
    with pytest.raises(EnsembleError, match="one run needs about"):
        train(SMALL, max_memory=10)


def _interrupt(monkeypatch, at, run):
    advance = program.CountProgram.advance

    def interrupted(self, step, *, logged):
        if step == at:
            raise KeyboardInterrupt
        advance(self, step, logged=logged)

    with monkeypatch.context() as patch:
        patch.setattr(program.CountProgram, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()


@pytest.mark.parametrize("rng", ["vectorised", "published"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resumed_is_uninterrupted(tmp_path, monkeypatch, rng, optimizer):
    config = SMALL.replace(rng=rng, optimizer=optimizer, initialisation="uniform")
    file = tmp_path / "run"
    _interrupt(monkeypatch, 6, lambda: train(config, checkpoint=file, checkpoint_every=4))
    resumed = train(config, checkpoint=file, checkpoint_every=4)
    xr.testing.assert_equal(resumed, train(config))
    xr.testing.assert_equal(train(config, checkpoint=file), resumed)  # only read
    with pytest.raises(CheckpointError, match="another configuration"):
        train(config.replace(momentum=0.5), checkpoint=file)


# Without the normalisation, a rate like this makes Y and with it the loss huge.
WILD = SMALL.select([0, 1, 4]).replace(
    normalize=False, attention_rate=(0.7, 1e8, 0.2), steps=120, dtype="float32", keep_decoder=False
)


def test_a_run_that_diverges_leaves_the_others(tmp_path):
    result = train(WILD)
    assert result.status_code.values.tolist() == [0, 1, 0]
    step = int(result.status_step[1])
    assert 0 < step < 20
    assert "diverged" in str(result.status_sentence[1].values)
    assert result.loss[1, step + 1 :].isnull().all()
    assert result.attention[1, -1].isnull().all()
    calm = train(WILD.select([0, 2]))
    for name in ("loss", "attention"):
        np.testing.assert_allclose(calm[name], result[name].isel(run=[0, 2]), rtol=1e-4, atol=1e-5)
    with pytest.raises(EnsembleError, match=r"task 0, seed 2, attention_rate 1e\+08, rate_ratio 5: diverged"):
        train(WILD, strict=True)


def test_resumed_after_a_divergence(tmp_path, monkeypatch):
    file = tmp_path / "run"
    _interrupt(monkeypatch, 115, lambda: train(WILD, checkpoint=file, checkpoint_every=110))
    xr.testing.assert_equal(train(WILD, checkpoint=file), train(WILD))


def test_a_large_loss_is_no_divergence():
    """The α of the label is far below the smallest number of single precision."""
    config = WILD.select([0]).replace(attention_rate=1e-3, rate_ratio=1e6, batch_size=1, steps=6)
    single, double = train(config), train(config.replace(dtype="float64"))
    assert (double.loss > 200).any()
    np.testing.assert_allclose(single.loss, double.loss, rtol=1e-3, atol=1e-30)


def test_all_runs_may_diverge():
    result = train(WILD.select([1]))
    assert result.status_code.item() == ensemble.RunCode.DIVERGED
    assert result.loss[0, -1].isnull()


def test_result_can_be_saved(tmp_path):
    config = grid(TrainConfig(steps=2, batch_size=8), tasks=[LOCAL, PLAIN], seeds=range(200))
    result = train(config)
    records.save(result, tmp_path / "result.nc")
    xr.testing.assert_identical(records.load(tmp_path / "result.nc", config), result)


def test_no_steps():
    result = train(SMALL.replace(steps=0, snapshot_steps=()))
    assert result.loss.shape == (5, 1)
    assert attention_of(result, SMALL, 1).shape == (2, 1, 3, 25)


def test_unknown_device():
    with pytest.raises(DeviceError, match="is not known"):
        train(SMALL, device="tpu")
