"""The reference files as they are loaded: known values, and agreement with each other."""

import numpy as np
import pytest

from learndyn.scan_snap import measures, published
from learndyn.scan_snap.task import SYN_SMALL


def test_loss_logs_begin_with_the_published_digits():
    first = published.figure4_loss().sel(step=[0, 2, 4, 6, 8, 10])
    np.testing.assert_allclose(
        first, [3.526360, 2.367910, 0.733475, 0.160805, 0.044429, 0.0129525], rtol=2e-5
    )
    assert float(published.figure4_loss()[0]) == pytest.approx(np.log(SYN_SMALL.vocabulary), abs=1e-6)
    assert published.figure6_loss().sizes == {"step": 50}
    assert float(published.figure6_loss()[0]) == pytest.approx(3.4548568725585938)


def test_the_rerun_of_figure_4_has_the_logged_losses():
    ours, log = published.figures_4_5_losses().sel(setting="figure4_left"), published.figure4_loss()
    np.testing.assert_allclose(ours.sel(step=slice(0, 10)), log.sel(step=slice(0, 10)), rtol=1e-5)
    np.testing.assert_allclose(ours, log, rtol=1e-2)
    assert published.figures_4_5_losses()["optimizer"].values.tolist() == ["sgd"] * 2 + ["adam"] * 3


def test_attention_maps_are_attention():
    maps = published.figures_4_5_attention()
    np.testing.assert_allclose(maps.sum("token"), 1, atol=2e-5)
    np.testing.assert_array_equal(maps.sel(next=0, token=slice(20, 29)), 0)
    np.testing.assert_array_equal(maps.sel(next=1, token=slice(10, 19)), 0)
    start = measures.attention_weights(SYN_SMALL, np.zeros((2, 34)))
    np.testing.assert_allclose(
        maps.sel(setting="figure5_b", step=0, next=1)[SYN_SMALL.support_tokens[1]], start[1], atol=1e-6
    )
    left = maps.sel(setting="figure4_left", next=0)
    common = left.sel(token=slice(0, 9)).sum("token").sel(step=[0, 10, 48, 100])
    np.testing.assert_allclose(common, [0.645, 0.558, 0.363, 0.359], atol=6e-4)
    np.testing.assert_allclose(left.sel(token=19, step=[10, 48, 100]), [0.0999, 0.2005, 0.2015], atol=6e-5)


def test_statistics_over_seeds():
    seeds = published.figures_4_5_seeds().sel(setting=["figure4_left", "figure4_right"])
    np.testing.assert_allclose(seeds["distinct_entropy"], [1.938, 2.073], atol=6e-4)
    np.testing.assert_allclose(seeds["distinct_entropy_std"], [0.009, 0.024], atol=6e-4)
    np.testing.assert_allclose(seeds["first_common_mass"], [0.387, 0.536], atol=6e-4)
    np.testing.assert_allclose(seeds["rate_ratio"], [1, 10])
    assert float(seeds["loss_at_2"][0]) == pytest.approx(2.367, abs=5e-4)


def test_figure_6_has_the_shape_that_the_page_speaks_of():
    data = published.figure6()
    assert data.sizes == {"queries": 4, "attention_rate": 4, "rate_ratio": 4}
    entropy = data["distinct_entropy"]
    assert not entropy.isnull().any()
    assert (entropy.diff("attention_rate") < 0).all()
    lowest = entropy.idxmin("rate_ratio")
    assert (lowest.sel(queries=1) == 1).all()
    assert (lowest.sel(queries=[3, 5, 10]) == 2).all()
    assert float(entropy.sel(queries=1, attention_rate=0.5, rate_ratio=1)) == 1.971


def test_recall_curves_fall_and_are_steeper_for_larger_ratios():
    data = published.recall(1)["recall"].sel(attention_rate=0.5)
    np.testing.assert_allclose(data.sel(rate_ratio=1).isel(threshold=[0, -1]), [0.68, 0.36], atol=0.01)
    np.testing.assert_allclose(data.sel(rate_ratio=10).isel(threshold=[0, -1]), [0.82, 0.20], atol=0.01)
    for queries, vocabulary in ((1, 33), (3, 79), (5, 125), (10, 240)):
        curves = published.recall(queries)
        assert (curves["recall"].diff("threshold") <= 0).all()
        assert not curves.isnull().any().to_array().any()
        assert curves["threshold"].min() < 1 / vocabulary < curves["threshold"].max()
    with pytest.raises(published.PublishedError, match="1, 3, 5, 10"):
        published.recall(2)


def test_the_maps_of_figure_7():
    maps = published.figure7_attention()
    assert maps.sizes == {"step": 4, "position": 35, "key": 35}
    sums = maps.sum("key")
    np.testing.assert_allclose(sums.sel(step=[500, 1000, 1500]), 1, atol=0.032)
    np.testing.assert_allclose(sums.sel(step=0), 1, atol=0.121)
    assert (maps.where(maps["key"] > maps["position"], 0) == 0).all()
    shares = maps / sums
    entropy = -(shares * np.log(shares.where(shares > 0, 1))).sum("key").mean("position")
    np.testing.assert_allclose(entropy, [2.54, 0.84, 0.34, 0.012], atol=0.006)


def test_theory_reference():
    flow = published.symmetric_flow()
    assert flow.attrs == {
        "classes": 4,
        "next_per_query": 4,
        "vocabulary": 40,
        "decoder_rate": 1.0,
        "attention_rate": 0.7,
    }
    assert (flow["loss"].diff("time") < 0).all()
    # Each row of Z conserves its sum: the distinct tokens of all four classes gain what the common ones lose.
    np.testing.assert_allclose(
        flow["z_common"].sum("common"), -4 * flow["z_distinct"].sum("distinct"), atol=1e-6
    )
    table = published.mean_field()
    small = table[table["next_per_query"] == 1].set_index("rate_ratio")
    np.testing.assert_allclose(small["distinct_entropy"], [1.979, 2.099], atol=5e-4)
    assert len(table) == 66
    medium = (
        table[table["next_per_query"] == 2].set_index(list(published.CELL))["distinct_entropy"].to_xarray()
    )
    theirs = published.figure6()["distinct_entropy"]
    assert 0.03 < float((medium - theirs).sel(queries=[3, 5, 10]).mean()) < 0.06
