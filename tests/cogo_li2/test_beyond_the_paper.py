"""The predictions beyond the paper against built networks and plain counting."""

import pandas as pd
import pytest
import torch


@pytest.fixture
def beyond():
    from learndyn.cogo_li2 import beyond_the_paper

    return beyond_the_paper


@pytest.mark.parametrize(("factors", "hosts"), [(2, 1), (3, 3), (3, 7), (4, 5)])
def test_sign_group_norm_is_that_of_a_built_network(beyond, factors, hosts):
    from learndyn.cogo_li2 import algebra, full_table
    from learndyn.cogo_li2.groups import AbelianGroup

    group = AbelianGroup((2,) * factors)
    d = group.size
    choice = {k: algebra.ORDER_2_REAL if k <= hosts else algebra.Family("one") for k in range(1, d)}
    spectrum = algebra.build(group, choice, host="all")
    assert spectrum.shape[1] == d - 1 + hosts
    assert float(full_table.loss_and_gradient(group.to_weights(spectrum), group).full_loss) < 1e-12
    expected = d * (4 * d) ** (-2 / 3) * beyond.sign_group_norm(hosts, d - 1)
    assert float(algebra.squared_norm(group, spectrum)) == pytest.approx(expected, rel=1e-9)


def test_best_pairs_is_the_minimum(beyond):
    for k in (7, 15, 31):
        best = beyond.best_pairs(k)
        assert beyond.sign_group_norm(best, k) < beyond.sign_group_norm(best + 0.1, k)
        assert beyond.sign_group_norm(best, k) < beyond.sign_group_norm(best - 0.1, k)


def test_completeness_rows(beyond):
    table = beyond.completeness(nodes=(3, 6), starts=40, seed=1).set_index(["constraints", "nodes"])
    assert not table.loc[("all", 3), "feasible"]
    six = table.loc[("all", 6)]
    assert six["dimensions"] == (3, 4)
    assert six["nui"] + six["syn"] == six["solved"] > 0
    assert table.loc[("without R_*", 3), "syn"] == table.loc[("without R_*", 3), "solved"] > 0


def test_constant_inputs_are_predicted_only_where_they_save_norm(beyond):
    columns = ["character_order", "constant_input", "bias_hosted", "nodes", "norm_factor"]
    rows = [
        (3, False, False, 6, 5.45), (3, True, False, 3, 4.42),
        (5, False, False, 6, 5.45), (5, True, False, 4, 6.23), (5, False, True, 4, 4.76),
    ]  # fmt: skip
    found = beyond.predicted_orders(pd.DataFrame(rows, columns=columns))
    assert found == {3: {3, 6}, 5: {4, 6}}


def test_pairs_are_counted_per_run(beyond):
    nodes = {0: (2, 1, 1), 1: (1, 1, 1)}
    rows = [("Z_2 × Z_2", run, k, 2, n) for run, ns in nodes.items() for k, n in enumerate(ns, 1)]
    rows += [("Z_4", 0, 1, 4, 2), ("Z_4", 0, 2, 2, 2)]
    orders = pd.DataFrame(rows, columns=["group", "run", "frequency", "character_order", "nodes"])
    pairs = beyond.pairs_found(orders)
    assert list(pairs["group"]) == ["Z_2 × Z_2"]
    assert pairs["found"].item() == 0.5


def test_trained_tables_of_a_built_network(beyond):
    import xarray as xr

    from learndyn.cogo_li2 import algebra
    from learndyn.cogo_li2.groups import AbelianGroup
    from learndyn.cogo_li2.settings_beyond_the_paper import BeyondThePaper

    group = AbelianGroup((8,))
    weights = group.to_weights(algebra.build(group, algebra.everywhere(group, algebra.ORDER_6)))
    dims = ("run", "snapshot", "part", "node", "element")
    data = xr.Dataset(
        {
            "weights": (dims, weights[None, None].to(torch.float32).numpy()),
            "train_loss": (("run", "epoch"), [[0.0]]),
            "train_accuracy": (("run", "epoch"), [[1.0]]),
        }
    )
    settings = BeyondThePaper(groups=((8,),))
    orders = beyond.trained_orders(settings, {"Z_8": data})
    assert dict(zip(orders["character_order"], orders["nodes"], strict=True)) == {5: 6, 4: 6, 2: 2}
    runs = beyond.trained_runs(settings, {"Z_8": data})
    assert runs["nodes"].item() == 20
    assert runs["constant_share"].item() < 1e-12
