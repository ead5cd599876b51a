"""Each claim of the notebook holds for a plausible result and does not for a spoiled one."""

from __future__ import annotations

from typing import Any

import claim_checks
import numpy as np
import pytest
import xarray as xr

from learndyn.core.config import ConfigError
from learndyn.scan_snap import experiments_learning_rates as experiments
from learndyn.scan_snap import published
from learndyn.scan_snap.claims import learning_rates as claims
from learndyn.scan_snap.measures import attention_weights, distinct_entropy
from learndyn.scan_snap.settings import PRESETS, TrainConfig
from learndyn.scan_snap.settings_learning_rates import LearningRates
from learndyn.scan_snap.task import syn_medium

AXES = ((1, 3, 5, 10), (0.5, 1.0, 2.0, 3.0), (1.0, 2.0, 5.0, 10.0))


def cells(seeds: int = 10, **changes: Any) -> xr.Dataset:
    """The published cells, with variables replaced by functions of them."""
    found = published.figure6()
    new = {name: change(found[name]) for name, change in changes.items()}
    return found.assign(new).assign_attrs(seeds=seeds)


def shifted(amount: float, **where: float) -> Any:
    """Add an amount to the cells named."""

    def change(values: xr.DataArray) -> xr.DataArray:
        moved = values.copy()
        moved.loc[where] += amount
        return moved

    return change


def mean_field(momentum: float = 0.9, steps: int = 100) -> xr.DataArray:
    return experiments.mean_field(*AXES, steps=steps, momentum=momentum).distinct_entropy


def recalls(change: Any = lambda values: values) -> dict[int, xr.DataArray]:
    return {queries: change(published.recall(queries).recall) for queries in (1, 3, 5, 10)}


def limit(power: float = -1.0, sign: int = 1) -> claims.Limit:
    lengths = np.array([32, 128, 512, 2048])
    entropy = 2.04 - sign * 0.06 * ((lengths - 1) / 31) ** power
    return claims.Limit(xr.DataArray(entropy, {"sequence_length": lengths}), 2.04)


def spreads(none: float = 0.01, **one: float) -> claims.Spreads:
    """The published cells, and a fall without momentum at Q = 1, 3 and ratios 1, 10; ``one`` at a cell."""
    rates = np.array(AXES[1])
    falls = xr.DataArray(np.full((2, 2), none), {"queries": [1, 3], "rate_ratio": [1.0, 10.0]})
    falls[1, 1] = one.get("last", none)
    slope = xr.DataArray(np.log(rates / 0.5) / np.log(6), {"attention_rate": rates})
    return claims.Spreads(cells().distinct_entropy, 2.0 - falls * slope)


def level() -> claims.Spreads:
    """Nothing depends on the attention rate, with momentum or without."""
    with_, without = spreads(none=0.0)
    return claims.Spreads(0 * with_, without)


def creep(law: Any = lambda slow: 0.45 * slow - 0.02 * slow**2) -> xr.Dataset:
    times = np.logspace(0, 8, 33)
    slow = np.log(np.log(13 * times))
    data = {
        "fall": (("rate_ratio", "time"), law(slow)[None]),
        "slow_time": (("rate_ratio", "time"), slow[None]),
    }
    return xr.Dataset(data, {"rate_ratio": [1.0], "time": times})


def longer(**rows: tuple[float, ...]) -> xr.Dataset:
    """Q = 3 and Q = 10 after 100 and 1000 steps, for the ratios 1, 2, 5, 10."""
    few, many = rows.get("few", claims.LONG[3]), rows.get("many", claims.LONG[10])
    values = np.array([[few, few], [many, many]])[:, None, :, None, :]
    dims = ("task", "attention_rate", "snapshot", "seed", "rate_ratio")
    coords = {"attention_rate": [0.5], "snapshot": [100, 1000], "seed": [1], "rate_ratio": list(AXES[2])}
    coords["queries"] = ("task", [3, 10])
    return xr.Dataset({"distinct_entropy": (dims, values)}, coords)


GOOD = {f"scan.fig6-{name}": cells for name in ("digits", "rate", "ratio", "bars", "spread", "fresh")} | {
    f"scan.{name}": recalls for name in ("recall-ends", "fig11-slope", "fig12-slope")
}
GOOD |= {
    "scan.fig6-mean-field": mean_field,
    "scan.fig6-mean-field-ratio": mean_field,
    "scan.fig6-length": limit,
    "scan.fig6-momentum": spreads,
    "scan.snap-creep": creep,
    "scan.fig6-longer-few": longer,
    "scan.fig6-longer-many": longer,
}


def few_cells() -> xr.Dataset:
    return cells().isel(queries=[0, 1])


SPOILED = {
    "scan.fig6-digits": [
        lambda: cells(distinct_entropy=shifted(0.002, queries=3, attention_rate=1.0, rate_ratio=5.0)),
        lambda: cells(distinct_entropy_std=lambda v: v / np.sqrt(10)),
        lambda: cells(distinct_entropy=shifted(np.nan, queries=1, attention_rate=0.5, rate_ratio=1.0)),
        lambda: cells(distinct_entropy_std=lambda v: v * np.nan),
        few_cells,
    ],
    "scan.fig6-fresh": [
        lambda: cells(distinct_entropy=shifted(0.03, queries=10, attention_rate=0.5, rate_ratio=1.0)),
        lambda: cells(distinct_entropy=lambda v: v.roll(rate_ratio=1)),
        lambda: cells(distinct_entropy=lambda v: v * np.nan),
        few_cells,
    ],
    "scan.fig6-rate": [
        lambda: cells(distinct_entropy=lambda v: -v),
        lambda: cells(distinct_entropy=shifted(-0.15, queries=3, attention_rate=1.0, rate_ratio=1.0)),
        few_cells,
    ],
    "scan.fig6-ratio": [
        lambda: cells(distinct_entropy=shifted(0.05, queries=5, rate_ratio=2.0)),
        lambda: cells(distinct_entropy=shifted(-0.2, queries=1, rate_ratio=2.0)),
        lambda: cells(distinct_entropy=shifted(np.nan, queries=5, attention_rate=1.0, rate_ratio=10.0)),
        lambda: cells(distinct_entropy=lambda v: v.roll(rate_ratio=1)),
    ],
    "scan.fig6-bars": [
        lambda: cells(distinct_entropy_std=lambda v: v / np.sqrt(10)),
        lambda: cells(distinct_entropy_std=lambda v: v * np.sqrt(0.75)),
        lambda: cells(distinct_entropy_std=shifted(np.nan, queries=5, attention_rate=1.0, rate_ratio=1.0)),
    ],
    "scan.fig6-spread": [
        lambda: cells(distinct_entropy_std=lambda v: v / np.sqrt(10)),
        lambda: cells(distinct_entropy_std=lambda v: v.roll(queries=1)),
        lambda: cells(distinct_entropy_std=shifted(np.nan, queries=1, attention_rate=2.0, rate_ratio=5.0)),
    ],
    "scan.fig6-mean-field": [
        lambda: mean_field(momentum=0.0, steps=1000),
        lambda: mean_field() + 0.02,
        lambda: mean_field().roll(rate_ratio=1),
    ],
    "scan.fig6-mean-field-ratio": [
        lambda: mean_field(momentum=0.0, steps=1000),
        lambda: mean_field().roll(rate_ratio=1),
        lambda: published.figure6().distinct_entropy,
    ],
    "scan.fig6-length": [lambda: limit(-0.5), lambda: limit(-2.0), lambda: limit(sign=-1)],
    "scan.fig6-momentum": [
        lambda: spreads(none=0.1),
        lambda: spreads(last=0.1),
        lambda: spreads(none=np.nan),
        lambda: spreads()._replace(none=shifted(np.nan, queries=1, attention_rate=1.0)(spreads().none)),
        level,
        lambda: claims.Spreads(*(one.isel(attention_rate=[0, 1]) for one in spreads())),
    ],
    "scan.snap-creep": [
        lambda: creep(lambda slow: 0.05 * np.exp(slow)),  # ln t
        lambda: creep(lambda slow: 0.0 * slow),  # frozen for good
        lambda: creep(lambda slow: 0.8 * slow),
        lambda: creep(lambda slow: -0.4 * slow),
    ],
    "scan.fig6-longer-few": [
        lambda: longer(few=(2.040, 2.028, 2.024, 2.060)),
        lambda: longer(few=(2.040, 2.014, 2.024, 2.160)),
        lambda: longer().sel(snapshot=[100]),
    ],
    "scan.fig6-longer-many": [
        lambda: longer(many=(2.029, 2.010, 2.013, 2.042)),
        lambda: longer(many=(2.080, 2.025, 2.013, 2.042)),
    ],
    "scan.recall-ends": [
        lambda: recalls(lambda r: r.roll(rate_ratio=1)),
        lambda: recalls(lambda r: r + 0.007),
    ],
    "scan.fig11-slope": [
        lambda: recalls(
            lambda r: r.isel(threshold=slice(None, None, -1)).assign_coords(threshold=r.threshold)
        ),
        lambda: recalls(lambda r: r.where(r.rate_ratio != 5, 0.5)),
        lambda: {1: published.recall(1).recall},
    ],
    "scan.fig12-slope": [
        lambda: recalls(lambda r: r.roll(attention_rate=1)),
        lambda: recalls(lambda r: r.where((r.attention_rate != 2) | (r.rate_ratio != 1), 0.5)),
    ],
}


test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


# --- settings ---


def test_the_defaults_are_the_published_runs_and_changes_are_not() -> None:
    assert LearningRates().is_published
    assert LearningRates(phase_points=7, long_seeds=[3]).is_published
    for change in (
        {"rng": "vectorised"},
        {"seeds": range(1, 10)},
        {"steps": 99},
        {"rate_ratios": [1.0, 2.0]},
    ):
        assert not LearningRates(**change).is_published
    config = LearningRates().figure6()
    assert config.runs == 640
    assert config.seed == PRESETS["figure_6"].seed
    assert config.attention_rate == PRESETS["figure_6"].attention_rate


def test_the_other_trainings_change_one_thing() -> None:
    settings = LearningRates()
    longer_runs, plain = settings.longer, settings.without_momentum
    assert set(longer_runs.attention_rate) == {0.5}
    assert longer_runs.kept_steps == (100, 1000)
    assert [task.queries for task in longer_runs.tasks] == [3, 10]
    assert plain.momentum == 0
    assert set(plain.attention_rate) == {0.5, 1.0, 2.0, 3.0}
    assert set(plain.rate_ratio) == {1.0, 10.0}
    assert [task.queries for task in plain.tasks] == [1, 3]
    assert plain.steps == 1000
    assert len(LearningRates(phase_queries=1).without_momentum.tasks) == 1
    assert [task.sequence_length for task in settings.by_length("zero").tasks] == [32, 128, 512, 2048]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"queries": [1, 2]}, "queries"),
        ({"rate_ratios": [1.0, 3.0]}, "rate_ratios"),
        ({"phase_queries": 3, "queries": [1]}, "phase_queries"),
        ({"long_steps": 50}, "long_steps"),
        ({"rng": "numpy"}, "rng"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        LearningRates(**change)


# --- what the notebook computes ---


@pytest.fixture(scope="module")
def small() -> tuple[TrainConfig, LearningRates, xr.Dataset]:
    settings = LearningRates(
        queries=[1, 3],
        attention_rates=[0.5, 2.0],
        rate_ratios=[1.0, 10.0],
        seeds=[1, 2],
        steps=4,
        progress=False,
    )
    config = settings.figure6(rng="vectorised")
    return config, settings, experiments.train_cells(config, settings)


def test_cells_are_where_their_rates_say(small: tuple[TrainConfig, LearningRates, xr.Dataset]) -> None:
    from learndyn.scan_snap.training import train

    config, _, runs = small
    run = train(config)
    for index in (0, 5, 11, 15):
        task = config.tasks[config.task[index]]
        z = run.attention[index, -1].to_numpy()
        expected = distinct_entropy(task, attention_weights(task, z)).mean()
        at = {name: float(run[name][index]) for name in ("attention_rate", "rate_ratio", "seed")}
        found = runs.distinct_entropy.isel(snapshot=-1, task=config.task[index]).sel(at)
        np.testing.assert_allclose(found, expected)


def test_by_cell_takes_sample_deviations(small: tuple[TrainConfig, LearningRates, xr.Dataset]) -> None:
    _, _, runs = small
    found = experiments.by_cell(runs)
    pair = runs.distinct_entropy.sel(attention_rate=2.0, rate_ratio=10.0).isel(snapshot=-1, task=1)
    here = found.sel(queries=3, attention_rate=2.0, rate_ratio=10.0)
    np.testing.assert_allclose(here.distinct_entropy, pair.mean())
    np.testing.assert_allclose(here.distinct_entropy_std, abs(float(pair[0] - pair[1])) / np.sqrt(2))
    assert found.attrs["seeds"] == 2


def test_recall_is_counted_over_classes_and_seeds(
    small: tuple[TrainConfig, LearningRates, xr.Dataset],
) -> None:
    _, _, runs = small
    task, threshold = syn_medium(3), 1 / 79
    found = experiments.recall_curves(runs, 3, np.array([threshold]))
    at = {"attention_rate": 0.5, "rate_ratio": 10.0}
    z = runs.logits.isel(task=1, snapshot=-1).sel(at).transpose("seed", "query", "token").to_numpy()
    hits = 0
    for seed in range(2):
        for n in range(task.classes):
            row = np.exp(z[seed, task.query_of[n], : task.vocabulary].astype(float))
            hits += sum(row[token] / row.sum() >= threshold for token in task.support_tokens[n, 10:])
    np.testing.assert_allclose(found.sel(at), [hits / (2 * task.classes * 10)])


def test_mean_field_is_the_published_reference() -> None:
    table = published.mean_field().iloc[2:]
    ours = mean_field()
    for row in table.itertuples():
        at = {"queries": row.queries, "attention_rate": row.attention_rate, "rate_ratio": row.rate_ratio}
        np.testing.assert_allclose(ours.sel(at), row.distinct_entropy, atol=6e-5)  # four digits


def test_in_the_flow_the_attention_rate_is_a_factor_of_time() -> None:
    fast = experiments.flow([3], [2.0], [1.0, 5.0], [50.0])
    slow = experiments.flow([3], [0.5], [1.0, 5.0], [200.0])
    np.testing.assert_allclose(fast.distinct_entropy, slow.distinct_entropy, atol=1e-8)


def test_flow_over_classes_starts_from_the_overlap_asked_for() -> None:
    found = experiments.flow_over_classes([1, 5], [0.3, 10 / 13.85], [1e-6, 100.0])
    assert found.classes.values.tolist() == [2, 10]
    task = syn_medium(5)
    usual = found.sel(classes=10, time=100.0).isel(overlap=1)
    np.testing.assert_allclose(
        usual.distinct_entropy, experiments.flow([5], [1.0], [1.0], [100.0]).distinct_entropy.squeeze()
    )
    start = found.common_mass.isel(time=0, overlap=1)
    np.testing.assert_allclose(start, task.probabilities[:10].sum(), atol=1e-6)


def test_family_members_have_the_entropy_asked_for() -> None:
    found = experiments.family_members(syn_medium(1), [2.1, 1.6])
    np.testing.assert_allclose(-(found * np.log(found)).sum("weight"), [2.1, 1.6])
    np.testing.assert_allclose(found.sum("weight"), 1)


def test_dip_lies_between_grid_points_and_not_at_an_end() -> None:
    ratios = np.geomspace(0.5, 8, 9)
    bowls = [np.log(ratios / 1.3) ** 2, np.log(ratios / 20) ** 2]
    entropy = xr.DataArray(np.stack(bowls), {"attention_rate": [1.0, 2.0], "rate_ratio": ratios})
    found = experiments.dip(entropy)
    np.testing.assert_allclose(found[0], 1.3)
    assert np.isnan(found[1])


def test_no_momentum_is_the_flow_and_small_rates_are_too() -> None:
    """The chapter's statement about momentum, all 64 cells: ten times smaller rates for ten times as long."""
    slow = [rate / 10 for rate in AXES[1]]
    plain = experiments.mean_field(AXES[0], slow, AXES[2], steps=10_000, momentum=0.0).distinct_entropy
    flow = experiments.flow(*AXES, [1e3]).distinct_entropy.isel(time=0)
    np.testing.assert_allclose(plain, flow, atol=1e-3)
    kept = experiments.mean_field(AXES[0], slow, AXES[2], steps=1000, momentum=0.9).distinct_entropy
    usual = experiments.fall(mean_field()).sel(queries=3)
    assert (abs(experiments.fall(kept)).sel(queries=3) < usual / 5).all()


def test_creep_share_compares_the_same_fall() -> None:
    settings = LearningRates()
    share = experiments.creep_share(settings, published.figure6())
    smooth = experiments.flow([3], [0.5, 3.0], [10.0], [1e3]).distinct_entropy.squeeze().values
    paper = (
        published.figure6().distinct_entropy.sel(queries=3, rate_ratio=10.0, attention_rate=[0.5, 3.0]).values
    )
    expected = (smooth[0] - smooth[1]) / (paper[0] - paper[1])
    np.testing.assert_allclose(share.sel(queries=3, rate_ratio=10.0), expected)


def test_creep_slopes_are_per_decade_from_the_snap_on() -> None:
    curves = experiments.creep(LearningRates(last_time=1e5))
    found = experiments.creep_slopes(curves)
    assert found.sizes == {"rate_ratio": 4, "time": 2}
    one = curves.sel(rate_ratio=2.0)
    ends = one.sel(time=[1e4, 1e5], method="nearest")
    argument = np.log(np.log(79 * 2.0 * np.array([1e4, 1e5]) / 6))
    expected = float(ends.fall[1] - ends.fall[0]) / (argument[1] - argument[0])
    np.testing.assert_allclose(found.sel(rate_ratio=2.0)[-1], expected, rtol=1e-6)
