"""What a sweep keeps of CoGO runs, against the weights themselves; and the smoke sweep against single
trainings."""

import numpy as np
import pytest
import torch
import xarray as xr


@pytest.fixture(scope="module")
def trained():
    from learndyn.cogo_li2 import sweep_summary, training

    config = training.TrainConfig(
        orders=(7,), hidden_size=24, learning_rate=0.01, weight_decay=(1e-3, 3.0), seed=(1, 2),
        epochs=300, log_dense=2, log_every=50, snapshot_epochs=(250,), dtype="float32",
    )  # fmt: skip
    full = training.train(config, measures=sweep_summary.sweep_measures(config))
    return full, sweep_summary.summarise_sweep(full)


def orders(weights, group, threshold=0.05):
    from learndyn.cogo_li2 import analysis

    return analysis.order_summaries(group, threshold)["order"][1](weights)


def test_orders_count_the_nodes_above_the_threshold_at_each_frequency():
    from learndyn.cogo_li2.groups import AbelianGroup

    d = 7
    x = np.arange(d)
    weights = torch.zeros(2, 3, 5, d, dtype=torch.float64)
    # |A_kj| of r·cos(2πkx/d) is r/2: just above, or just below, the threshold of 0.05.
    for node, (k, r) in enumerate([(1, 0.11), (1, 0.09), (3, 0.2), (3, 0.11)]):
        weights[0, 0, node] = torch.from_numpy(r * np.cos(2 * np.pi * k * x / d + node))
    weights[1, 2] = 1.0  # only part a is looked at
    assert orders(weights, AbelianGroup((d,))).tolist() == [[1, 0, 2], [0, 0, 0]]
    assert orders(weights, AbelianGroup((d,)), 0.04).tolist() == [[2, 0, 2], [0, 0, 0]]


def test_orders_along_training_end_with_those_of_the_weights(trained):
    from learndyn.cogo_li2.groups import AbelianGroup

    full, summary = trained
    for epoch in (250, 300):
        weights = torch.from_numpy(full.weights.sel(snapshot=epoch).values)
        expected = orders(weights, AbelianGroup((7,))).numpy()
        np.testing.assert_array_equal(summary.order.sel(epoch=epoch), expected)
    assert summary.order.sel(epoch=300).sum() > 0


def test_the_kept_spectrum_is_that_of_the_alive_nodes_at_the_snapshot(trained):
    full, summary = trained
    d, weights = 7, full.weights.sel(snapshot=250).values.astype(np.float64)
    assert summary.spectrum_epoch.values.tolist() == [250, 250]
    assert summary.modulus.values.tolist() == [7, 7]
    assert summary.hidden_size.values.tolist() == [24, 24]
    assert summary.character.values.tolist() == [0, 1, 2, 3]
    for run in range(2):
        # The plain sums of the definition, one node and one character at a time.
        table = np.exp(2j * np.pi * np.outer(range(4), range(d)) / d)
        a, b = (weights[run, part] @ table.conj().T / d for part in (0, 1))
        c = weights[run, 2] @ table.T / d
        alive = np.flatnonzero(np.abs(a).max(axis=1) > 0.05)
        assert summary.node_index.values[run, : len(alive)].tolist() == alive.tolist()
        kept = summary.spectrum.values[run]
        np.testing.assert_allclose(kept[:, : len(alive)], np.stack([a, b, c])[:, alive], atol=1e-6)
        assert np.isnan(kept[:, len(alive) :]).all()
        assert (summary.node_index.values[run, len(alive) :] == -1).all()
        np.testing.assert_allclose(summary.squared_norm[run], (weights[run] ** 2).sum((-2, -1)), rtol=1e-5)
    # With weight decay 3 nothing lives: the second run is padding from end to end.
    assert np.isnan(summary.spectrum.values[1]).all()
    assert not np.isnan(summary.spectrum.values[0]).all()


def test_the_summary_does_not_keep_weights_and_survives_a_round_trip(trained, tmp_path):
    from learndyn.core import records
    from learndyn.pipeline import sweep_job

    _, summary = trained
    assert "weights" not in summary
    assert not {"node", "element", "snapshot"} & set(summary.dims)
    records.save(sweep_job.compressed(summary), tmp_path / "summary.nc")
    xr.testing.assert_equal(records.load(tmp_path / "summary.nc"), summary.load())


def test_a_general_group_keeps_one_character_of_each_pair():
    from learndyn.cogo_li2 import sweep_summary, training

    config = training.TrainConfig(orders=(2, 4), hidden_size=6, epochs=3, log_dense=1, test_size=None)
    summary = sweep_summary.summarise_sweep(
        training.train(config, measures=sweep_summary.sweep_measures(config))
    )
    # Z_2 × Z_4 has the pairs {1,3}, {5,7} and the self-conjugate 2, 4, 6, besides the trivial character 0.
    assert summary.character.values.tolist() == [0, 1, 2, 4, 5, 6]
    assert summary.frequency.values.tolist() == [1, 2, 4, 5, 6]


def test_the_smoke_sweep_gathers_what_single_trainings_give(tmp_path):
    from pathlib import Path

    from learndyn.cogo_li2 import sweep_summary, training
    from learndyn.core import records
    from learndyn.pipeline import sweep_job, sweep_spec

    spec = sweep_spec.load_spec(Path(__file__).parents[2] / "sweeps" / "smoke.yaml")
    parts = []
    for group in sweep_spec.groups(spec):
        parts.append(tmp_path / f"{group.key}.nc")
        assert sweep_job.run_group(spec, group, parts[-1], device="cpu")
    sweep_job.gather(spec, parts, tmp_path / "smoke.nc")
    dataset = records.load(tmp_path / "smoke.nc", spec)
    assert dataset.sizes["run"] == 8
    for index in range(8):
        run = dataset.isel(run=index)
        config = training.TrainConfig(
            **(spec.base | {"orders": (int(run.modulus),)}),
            weight_decay=float(run.weight_decay),
            seed=int(run.seed),
        )
        trained = training.train(config, measures=sweep_summary.sweep_measures(config))
        alone, summary = trained.isel(run=0), sweep_summary.summarise_sweep(trained).isel(run=0)
        for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
            np.testing.assert_allclose(run[name], alone[name], rtol=2e-4, atol=1e-5)
        np.testing.assert_array_equal(run.order.sel(frequency=summary.frequency), summary.order)
