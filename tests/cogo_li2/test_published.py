"""The reference files, read back against numbers copied by hand from the files and the paper's tables."""

import pytest

from learndyn.cogo_li2 import published


def test_table_2():
    assert published.TABLE2[23]["pct_nu_times_syn"] == (39.80, 2.11)
    assert published.TABLE2[127]["pct_nu_i_times_xi"].mean == 82.96
    table = published.table2()
    assert table.shape == (3, 18)
    assert table.loc[71, ("pct_others", "mean")] == 2.29
    per_seed = published.table2_per_seed()
    assert per_seed.loc[1, "frac_nu_i_xi"] == 0.8254
    assert 100 * per_seed["frac_nu_i_xi"].mean() == pytest.approx(82.96, abs=0.01)


def test_figure_3():
    curves = published.figure3_curves().sel(epoch=1)
    assert float(curves.train_loss.sel(source="published")) == pytest.approx(1.1416225, rel=1e-6)
    assert float(curves.test_accuracy.sel(source="rerun")) == pytest.approx(0.0377358, rel=1e-5)
    potentials = published.figure3_potentials()
    assert dict(potentials.sizes) == {"epoch": 298, "frequency": 11}
    assert potentials.order.isel(epoch=-1).values.tolist() == [4, 6, 4, 6, 6, 6, 6, 4, 4, 6, 4]
    assert float(potentials.diagonal_sum.max()) == pytest.approx(22.36, abs=0.01)
    assert int(potentials.diagonal_sum.idxmax("epoch")) == 31
    assert float(potentials.square_potential_as_plotted.max()) == pytest.approx(0.153, abs=1e-3)


def test_figure_4():
    assert published.order_counts(23, 5e-5) == {4: 25, 6: 30}
    assert published.order_counts(23, 1e-5) == {4: 1, 5: 2, 6: 40, 7: 12}
    assert published.order_counts(71, 5e-5, hidden_size=256) == {4: 130, 6: 44, 7: 1}
    totals = published.figure4().groupby(["d", "hidden_size", "weight_decay"])["count"].sum()
    for (d, _, _), total in totals.items():
        assert abs(total - 5 * (d - 1) // 2) <= 1, "digitised to ±1"
    with pytest.raises(KeyError, match="d=23"):
        published.order_counts(23, 3e-5)


def test_final_runs_and_spectra_agree():
    runs, nodes = published.final_runs(), published.final_spectra()
    assert len(runs) == 6
    for _, run in runs.iterrows():
        mine = nodes[(nodes.seed == run.seed) & (nodes.weight_decay == run.weight_decay)]
        assert tuple(mine.groupby("frequency").size()) == run.orders
    first = nodes.iloc[0]
    assert first.a == complex(-0.0377559, -0.1709184)


def test_clock_memorisation_and_small_groups():
    clock = published.weight_decay_clock()
    row = clock[(clock.weight_decay == 1e-4) & (clock.epoch == 3000) & (clock["count"] > 0)]
    assert dict(zip(row.order, row["count"], strict=True)) == {4: 20, 5: 1, 6: 34}
    assert (clock.groupby(["weight_decay", "epoch"])["count"].sum() == 55).all()
    assert published.memorisation_path().iloc[0].orders == (49, 49, 49)
    assert published.order6_counts().iloc[0].orders == (6, 6, 6)


def test_theory():
    assert published.residual_losses().loc[7, "z_syn_order3"] == pytest.approx(3 / 7)
    designs = published.torus_designs()
    assert designs[designs.feasible].n.tolist() == [6, 4, 3]
    assert published.jacobian_gram().hidden_size.tolist() == [16, 64, 256, 1024, 4096]
    assert len(published.decoupled_velocity_errors()) == 10


def test_load_gives_files_as_they_are():
    assert published.load("runs_d23.csv")["M"].tolist() == [23] * 6
    assert published.load("theory_checks.json") == published.theory_checks()
    with pytest.raises(FileNotFoundError, match="no reference file"):
        published.load("nothing.csv")
