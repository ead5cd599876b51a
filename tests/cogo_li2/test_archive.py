"""Reading archived sweeps back: against the weights they were made from, and against plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

SEEDS = (3, 1, 2)


@pytest.fixture(scope="module")
def trained():
    """Small trainings of two moduli (weights kept), and the sweep file's contents made from them."""
    from learndyn.cogo_li2.settings import TrainConfig, grid
    from learndyn.cogo_li2.sweep_summary import summarise_sweep, sweep_measures
    from learndyn.cogo_li2.training import train
    from learndyn.pipeline.sweep_job import join

    raw, parts = {}, []
    for d in (7, 11):
        base = TrainConfig(
            orders=(d,), hidden_size=12, epochs=40, snapshot_epochs=(30,), log_dense=0, log_every=10
        )
        config = grid(base, seeds=SEEDS, weight_decays=(1e-4, 1e-2))
        raw[d] = train(config, measures=sweep_measures(config))
        parts.append(summarise_sweep(raw[d]))
    joined = join(parts)
    joined.attrs = dict(parts[0].attrs)
    return raw, joined


def _panel(raw: xr.Dataset, decay: float) -> xr.Dataset:
    rows = np.flatnonzero(raw["weight_decay"].values == decay)
    return raw.isel(run=rows).sortby("seed")


@pytest.mark.parametrize("d", [7, 11])
def test_panels_give_back_the_spectra_of_the_live_nodes(trained, d: int) -> None:
    from learndyn.cogo_li2 import archive
    from learndyn.cogo_li2.groups import AbelianGroup

    raw, joined = trained
    found = archive.panels(joined)
    assert list(found) == [(7, 12, 1e-4), (7, 12, 1e-2), (11, 12, 1e-4), (11, 12, 1e-2)]
    panel = found[archive.Key(d, 12, 1e-4)]
    assert panel["seed"].values.tolist() == sorted(SEEDS)
    weights = _panel(raw[d], 1e-4)["weights"].sel(snapshot=30)
    wanted = AbelianGroup((d,)).to_spectrum(torch.tensor(weights.values))
    spectrum = archive.full_spectrum(panel)
    assert spectrum.shape[-1] == d
    for run in range(len(SEEDS)):
        nodes = panel["node_index"].values[run]
        alive = nodes[nodes >= 0]
        torch.testing.assert_close(
            spectrum[run, :, : len(alive)].to(torch.complex64), wanted[run][:, alive], rtol=1e-5, atol=1e-6
        )
        assert not spectrum[run, :, len(alive) :].abs().any()


def test_orders_and_pooled_counts_are_counts_of_nodes(trained) -> None:
    from learndyn.cogo_li2 import archive

    raw, joined = trained
    panel = archive.panels(joined)[archive.Key(11, 12, 1e-2)]
    weights = _panel(raw[11], 1e-2)["weights"].sel(snapshot=30).values.astype(float)
    counts: dict[int, int] = {}
    for run in range(len(SEEDS)):
        for k in range(1, 6):
            wave = np.exp(-2j * np.pi * k * np.arange(11) / 11)
            order = sum(abs((weights[run, 0, j] * wave).sum() / 11) > 0.05 for j in range(12))
            counts[order] = counts.get(order, 0) + 1
    assert archive.pooled_counts(panel, 30) == counts
    assert archive.orders_at(panel, 30).shape == (3, 5)
    with pytest.raises(KeyError):
        archive.orders_at(panel, 31)


def test_diverged_runs_are_not_counted(trained) -> None:
    from learndyn.cogo_li2 import archive

    joined = trained[1].copy(deep=True)
    joined["order"][0] = np.nan
    panel = archive.panels(joined)[archive.Key(7, 12, 1e-4)]
    assert sum(archive.pooled_counts(panel, 30).values()) == 2 * 3


def test_width_is_taken_from_the_config_where_runs_do_not_carry_it(trained) -> None:
    from learndyn.cogo_li2 import archive

    joined = trained[1].drop_vars("hidden_size")
    assert {key.hidden_size for key in archive.panels(joined)} == {12}


def test_clock_table_pools_the_runs_of_each_weight_decay(trained) -> None:
    from learndyn.cogo_li2 import archive

    found = archive.panels(trained[1])
    table = archive.clock_table(found, 7, 12)
    assert sorted(set(table["wd"])) == pytest.approx([1e-4, 1e-2])
    assert (table.filter(regex="^n_order").sum(axis=1) == 3 * 3).all()
    row = table[np.isclose(table["wd"], 1e-2) & (table["epoch"] == 30)].filter(regex="^n_order").iloc[0]
    counts = archive.pooled_counts(found[archive.Key(7, 12, 1e-2)], 30)
    assert {n: int(c) for n, c in enumerate(row) if c} == counts
    assert archive.clock_table(found, 23).empty


def test_locate_looks_in_the_folders_above(tmp_path, monkeypatch) -> None:
    from learndyn.cogo_li2 import archive
    from learndyn.core.records import RecordError

    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.nc").write_text("x")
    below = tmp_path / "book" / "chapter"
    below.mkdir(parents=True)
    for folder in (tmp_path, below):
        monkeypatch.chdir(folder)
        assert archive.locate("results/a.nc") == tmp_path / "results" / "a.nc"
    with pytest.raises(RecordError, match=r"no file results/b\.nc"):
        archive.locate("results/b.nc")


def test_read_refuses_a_result_without_spectra(trained, tmp_path) -> None:
    from learndyn.cogo_li2 import archive
    from learndyn.core import records

    good, bad = tmp_path / "good.nc", tmp_path / "bad.nc"
    records.save(trained[1], good)
    assert archive.panels(archive.read(good)).keys() == archive.panels(trained[1]).keys()
    records.save(trained[1].drop_vars("spectrum"), bad)
    with pytest.raises(records.RecordError, match="has no spectrum"):
        archive.read(bad)


def test_only_the_papers_own_settings_are_published(trained) -> None:
    from learndyn.cogo_li2 import archive

    panel = archive.panels(trained[1])[archive.Key(7, 12, 1e-4)]
    assert not archive.is_published(panel)
    five = xr.concat([panel.isel(run=[0])] * 5, "run", data_vars="all", coords="different", compat="equals")
    five = five.assign_coords(seed=("run", [1, 2, 3, 4, 5]))
    base = {"rng": "published", "epochs": 10000, "test_size": 0.1}
    five.attrs["config"] = json.dumps({"base": base, "name": "a sweep"})
    assert archive.is_published(five)
    found = {
        archive.Key(7, 512, 5e-5): five,
        archive.Key(11, 512, 5e-5): panel,
        archive.Key(23, 512, 1e-4): five,
    }
    assert archive.published_moduli(found) == {7}
    assert not archive.is_published(five.assign_coords(learning_rate=("run", [0.002] * 5)))
    assert not archive.is_published(five.isel(run=slice(4)))
    five.attrs["config"] = json.dumps({"base": base | {"rng": "vectorised"}})
    assert not archive.is_published(five)


def test_table_2_of_stored_spectra_by_way_of_an_archive() -> None:
    """The stored d = 23 runs, written in the archive's form, give the published row."""
    from learndyn.cogo_li2 import archive, factoriser, published

    nodes = published.load("final_spectra_d23.csv")
    names, spectrum = factoriser.spectrum_of_table(nodes, 23)
    keep = [i for i, name in enumerate(names) if "1e-4" not in name and "0.0001" not in name]
    stored = spectrum[keep][..., :12].numpy()
    alive = np.abs(stored[:, 0]).max(-1) > 0
    panel = xr.Dataset(
        {"spectrum": (("run", "part", "alive_node", "character"), stored)},
        coords={
            "character": np.arange(12),
            "modulus": ("run", [23] * len(keep)),
            "seed": ("run", np.arange(len(keep))),
        },
    )
    assert alive.any()
    assert len(keep) == 5
    groups = archive.factorised_groups({archive.Key(23, 512, 5e-5): panel})
    row = archive.table2(groups)[23]
    for name in ("pct_nu_i_times_xi", "pct_nu_times_syn", "pct_others"):
        assert row.loc[name, "mean"] == pytest.approx(published.TABLE2[23][name].mean, abs=0.006)


def test_mixes_leave_unsettled_runs_out() -> None:
    from learndyn.cogo_li2 import archive, norms

    orders = torch.tensor([[4, 6, 6], [5, 6, 6], [6, 6, 6]])
    table = archive.mixes(orders, np.array([38.0, 1.0, 39.0]), 7, np.full(3, 1e-3))
    assert table[["n4", "n6"]].values.tolist() == [[1, 2], [0, 3]]
    assert table["law"].tolist() == pytest.approx(
        [norms.solution_norm(1, 2, 7), norms.solution_norm(0, 3, 7)]
    )
    assert (table["shrunk"] < table["law"]).all()


def test_shrunk_norm_is_the_sum_over_orders_and_the_law_without_decay() -> None:
    from learndyn.cogo_li2 import norms

    assert norms.shrunk_norm(5, 6, 23, 0.0) == pytest.approx(norms.solution_norm(5, 6, 23))
    r = 1 - norms.shrinkage(1e-3, 11, 6, exact=True)
    assert norms.shrunk_norm(0, 5, 11, 1e-3) == pytest.approx(5 * norms.frequency_norm(6, 11) * r ** (2 / 3))
