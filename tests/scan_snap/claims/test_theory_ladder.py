"""Each claim of the notebook holds for a plausible result and not for a spoiled one; its computations."""

from __future__ import annotations

from typing import Any

import claim_checks
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from learndyn.core.config import ConfigError
from learndyn.scan_snap import attention_ode, decoder, flow, one_common_token, symmetric
from learndyn.scan_snap import experiments_ladder_steps as steps
from learndyn.scan_snap import experiments_theory_ladder as experiments
from learndyn.scan_snap import figures_theory_ladder as figures
from learndyn.scan_snap.claims import theory_ladder as claims
from learndyn.scan_snap.classes import random_classes, symmetric_classes
from learndyn.scan_snap.settings import TrainConfig
from learndyn.scan_snap.settings_theory_ladder import ProfileTask, TheoryLadder, iterations
from learndyn.scan_snap.task import SYN_SMALL, syn_medium
from learndyn.scan_snap.training import train

TINY = ProfileTask(queries=1, next_per_query=4, common=1, distinct=3, vocabulary_size=60, sequence_length=64)


# --- good and spoiled results ---


def rungs(**values: tuple[float, float, float]) -> xr.Dataset:
    """A ladder of one time: per rung (common, top, entropy)."""
    names = {"sgd": "SGD, T = 128", "mean": experiments.MEAN_FIELD, "flow": experiments.FLOW}
    names |= {"joint": experiments.DECORRELATED, "lemma4": experiments.LEMMA4}
    names |= {"theorem4": experiments.THEOREM4, "own": experiments.OWN_FORCE}
    table = np.array(list(values.values()))
    data = {
        name: (("rung", "time"), table[:, i : i + 1]) for i, name in enumerate(("common", "top", "entropy"))
    }
    return xr.Dataset(data, coords={"rung": [names[key] for key in values], "time": [5000.0]})


def theorem(
    factor: float = 16.5, gap: float = 1.002, own: float = 1.02, small: float = -0.7345, form: float = -0.7755
) -> claims.Pair:
    slow = {"flow": (-0.0024, 1.6e-4, 0), "lemma4": (-0.0024 * factor, 0.003, 0)}
    slow |= {"joint": (-0.0024 * factor * gap, 0.003, 0), "own": (-0.0024 * own, 1.6e-4 * own, 0)}
    fast = {"joint": (-0.391, 0.02, 0.0), "lemma4": (small, 0.05, 0), "theorem4": (form, np.nan, 0)}
    return claims.Pair(rungs(**fast), rungs(**slow))


def syn_small(
    sgd: tuple[float, float] = (1.938, 2.073), mean: tuple[float, float] = (1.979, 2.099)
) -> claims.Pair:
    return claims.Pair(
        *(rungs(sgd=(0, 0, a), mean=(0, 0, b), flow=(0, 0, 0)) for a, b in zip(sgd, mean, strict=True))
    )


def scaled(name: str, factor: float, update: str | None = None) -> xr.Dataset:
    """The frozen-attention forces with one of them multiplied."""
    data = steps.frozen_force(np.array([0, 1, 40, 5000.0]))
    changed = (
        data[name] * factor
        if update is None
        else data[name].where(data["update"] != update, data[name] * factor)
    )
    return data.assign({name: changed})


def law(power: float = 1.0, size: float = 0.05) -> xr.Dataset:
    time = np.geomspace(1e-3, 1, 20)
    return xr.Dataset({"error": ("time", size * time**power)}, coords={"time": time})


def assumption(**changes: Any) -> pd.DataFrame:
    names = {"small": SYN_SMALL.to_classes(), "ten": syn_medium(5).to_classes()}
    return experiments.regimes(names).assign(**changes)


def fate_table(wrong: int = 0, moved: float = 1e-15) -> pd.DataFrame:
    rows = [("distinct", 30 - wrong, wrong, 0), ("common", 0, 3, 0)]
    table = pd.DataFrame(rows, columns=["kind", "rises", "falls", "turns"])
    return table.assign(dynamics="Lemma 4", row_sum=moved)


def limit(exact: tuple[float, ...] = (1.033, 1.0034, 1.0003), printed: float = 0.9646) -> pd.DataFrame:
    table = pd.DataFrame({"rate_ratio": [100.0, 1000.0, 10_000.0], "exact": exact})
    return table.assign(printed=printed, start=0.9643)


def corollary(common: str = "falls", distinct: str = "rises") -> pd.DataFrame:
    kinds = ["common"] * 2 + ["distinct"] * 4
    return pd.DataFrame({"kind": kinds, "seen": [common] * 2 + [distinct] * 4})


def conserved(worst: float = 1e-11, height: float = 1.5) -> xr.Dataset:
    time = np.array([0.0, 1, 2])
    data = {"worst": ((), worst)}
    data |= {
        name: ("time", factor * time) for name, factor in (("lower", 1), ("ln_chi", height), ("upper", 2))
    }
    return xr.Dataset(data, coords={"time": time})


def formula(**factors: float) -> xr.Dataset:
    """Theorem 4's curves with some of them multiplied; with C₀ = 1 the printed form is the right one."""
    data = steps.closed_form(np.geomspace(1, 100, 5))
    data["printed"] = data["corrected"]
    return data.assign({name: data[name] * factor for name, factor in factors.items()})


def late(slope: float = 0.5) -> xr.Dataset:
    time = np.geomspace(1e2, 1e6, 41)
    logarithm = np.log(50 * time)[None]
    data = {
        "logarithm": (("run", "time"), logarithm),
        "growth": (("run", "time"), 1 + slope * np.log(logarithm)),
    }
    return xr.Dataset(data, coords={"time": time})


def changed(data: xr.Dataset, **functions: Any) -> xr.Dataset:
    return data.assign({name: function(data[name]) for name, function in functions.items()})


FIELD = (2.28, 1.38)
GOOD = {
    "scan.ladder-reduction": lambda: {"a": 1e-11, "b": 2e-10},
    "scan.ladder-mean-field": syn_small,
    "scan.ladder-finite-length": syn_small,
    "scan.ladder-theorem1-signal": lambda: scaled("xi", 1),
    "scan.ladder-theorem1-force": lambda: scaled("xi", 1),
    "scan.ladder-early-law": law,
    "scan.ladder-remark1": lambda: steps.remark1([2, 12]).assign(ratio=[0.98, 1.01]),
    "scan.ladder-remark1-full": lambda: steps.remark1([2, 12, 24]),
    "scan.ladder-assumption2": assumption,
    "scan.ladder-too-strong": theorem,
    "scan.ladder-own-force": theorem,
    "scan.ladder-decorrelated": theorem,
    "scan.ladder-lemma4-limit": limit,
    "scan.ladder-theorem2": fate_table,
    "scan.ladder-corollary2": corollary,
    "scan.ladder-theorem3": conserved,
    "scan.ladder-theorem3-flow": lambda: claims.Invariants({1: 11.0, 10: 2.8, 100: 1.17}, FIELD),
    "scan.ladder-theorem4-integral": formula,
    "scan.ladder-theorem4-corrected": formula,
    "scan.ladder-theorem4-printed": formula,
    "scan.ladder-theorem4-lemma4": theorem,
    "scan.fig3": steps.figure3,
    "scan.fig9": steps.figure9,
    "scan.ladder-creep": late,
}
SPOILED = {
    "scan.ladder-reduction": [lambda: {"a": 1e-6, "b": 0.0}, lambda: {"a": 0.0, "b": float("nan")}],
    "scan.ladder-mean-field": [
        lambda: syn_small(mean=(1.985, 2.099)),
        lambda: syn_small(mean=(2.099, 1.979)),
    ],
    "scan.ladder-finite-length": [
        lambda: syn_small(sgd=(1.95, 2.07)),
        lambda: syn_small(sgd=(1.938, 2.11)),
        lambda: syn_small(sgd=(np.nan, 2.07)),
    ],
    "scan.ladder-theorem1-signal": [
        lambda: scaled("signal", 1.0001),
        lambda: scaled("force", -1),
        lambda: scaled("xi", 5),
    ],
    "scan.ladder-theorem1-force": [
        lambda: scaled("force", 8, "gradient"),
        lambda: scaled("force", 1.1, "gradient"),
        lambda: scaled("gamma", 2),
    ],
    "scan.ladder-early-law": [lambda: law(power=0.5), lambda: law(size=1.0), lambda: law(size=np.nan)],
    "scan.ladder-remark1": [
        lambda: steps.remark1([2, 12]),
        lambda: steps.remark1([24]),
    ],
    "scan.ladder-remark1-full": [
        lambda: steps.remark1([2, 12]),
        lambda: steps.remark1([2, 24]).assign(ratio=1.0),
        lambda: steps.remark1([2, 24]).assign(ratio=[0.4, 0.9]),
    ],
    "scan.ladder-assumption2": [
        lambda: assumption(overlap=0.05),
        lambda: assumption(holds=True),
        lambda: assumption(limit=0.9),
    ],
    "scan.ladder-too-strong": [lambda: theorem(1.0), lambda: theorem(1 / 16.5), lambda: theorem(25)],
    "scan.ladder-own-force": [lambda: theorem(own=1.2), lambda: theorem(own=-1), lambda: theorem(own=np.nan)],
    "scan.ladder-decorrelated": [lambda: theorem(gap=1.1), lambda: theorem(small=-0.39)],
    "scan.ladder-lemma4-limit": [
        lambda: limit(exact=(1.0, 0.9646, 0.9646)),
        lambda: limit(printed=1.0),
        lambda: limit(exact=(1.003, 1.002, 1.0003)),
    ],
    "scan.ladder-theorem2": [lambda: fate_table(wrong=1), lambda: fate_table(moved=1e-3)],
    "scan.ladder-corollary2": [lambda: corollary(common="turns"), lambda: corollary(distinct="falls")],
    "scan.ladder-theorem3": [
        lambda: conserved(1e-4),
        lambda: conserved(height=2.5),
        lambda: conserved(height=0.5),
    ],
    "scan.ladder-theorem3-flow": [
        lambda: claims.Invariants({1: 1.0, 10: 1.0, 100: 1.0}, FIELD),
        lambda: claims.Invariants({1: 11.0, 10: 4.2, 100: 1.17}, FIELD),
        lambda: claims.Invariants({1: 11.0, 10: 2.8, 100: 1.17}, FIELD[::-1]),
    ],
    "scan.ladder-theorem4-integral": [lambda: formula(quadrature=1.001), lambda: formula(quadrature=10)],
    "scan.ladder-theorem4-corrected": [lambda: formula(corrected=1.001), lambda: formula(integrated=np.nan)],
    "scan.ladder-theorem4-printed": [
        lambda: formula(printed=1.1),
        lambda: steps.closed_form(np.array([1.0, 9])),
    ],
    "scan.ladder-theorem4-lemma4": [lambda: theorem(small=-0.70), lambda: theorem(form=-1.2)],
    "scan.fig3": [
        lambda: changed(steps.figure3(), chi=lambda v: v[::-1]),
        lambda: changed(steps.figure3(), chi=lambda v: 1.01 * v),
        lambda: changed(steps.figure3(), transition=lambda v: v / 2),
    ],
    "scan.fig9": [
        lambda: [changed(p, growth=lambda v: 1.001 * v) for p in steps.figure9()],
        lambda: steps.figure9()[:1],
        lambda: steps.figure9()[::-1],
    ],
    "scan.ladder-creep": [lambda: late(0.25), lambda: late(1.0), lambda: late(0.0)],
}

test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


# --- rungs ---


def test_one_iteration_with_momentum_stands_at_ten_steps() -> None:
    np.testing.assert_array_equal(experiments.moments([0, 1, 7], 0.9), [0, 10, 70])
    np.testing.assert_array_equal(experiments.moments([3], 0.0), [3])


def test_of_logits_picks_common_frequent_and_rare_tokens() -> None:
    classes = TINY.to_classes()
    times = np.array([0.0, 30.0])
    solution = flow.solve(classes, times, decoder_rate=0.5, attention_rate=0.5)
    found = experiments.of_logits(TINY, solution["attention"])
    z = solution["attention"].values[1, 0]
    assert float(found["common"][1]) == pytest.approx(z[0])
    assert float(found["top"][1]) == pytest.approx(np.mean([z[1 + 3 * n] for n in range(4)]))
    assert float(found["rare"][1]) == pytest.approx(np.mean([z[3 + 3 * n] for n in range(4)]))
    weights = np.array([0.5, 0.3, 0.1]) * np.exp(z[1:4])
    shares = weights / weights.sum()
    assert float(found["entropy"][1]) == pytest.approx(-(shares * np.log(shares)).sum())
    sets = symmetric.from_task(TINY, decoder_rate=0.5, attention_rate=0.5)
    short = experiments.of_symmetric(TINY, symmetric.solve(sets, times))
    for name in ("common", "top", "rare", "entropy"):
        np.testing.assert_allclose(short[name], found[name], atol=1e-8)


def test_the_ladder_of_a_tiny_task_is_complete_and_its_limits_agree() -> None:
    config = TrainConfig(
        tasks=(TINY,), task=(0, 0), seed=(1, 2), attention_rate=0.05, rate_ratio=10, momentum=0.5, steps=20,
        log_every=20, snapshot_steps=iterations(20, 6),
    )  # fmt: skip
    trained = experiments.trained_rungs(train(config), config.tasks, 0.5)
    assert list(trained) == ["SGD, T = 64"]
    found = experiments.ladder(
        TINY, TINY.to_classes(), trained, decoder_rate=0.5, attention_rate=0.05, momentum=0.5, points=10
    )
    names = experiments.rungs((64,))
    assert [rung.name for rung in names] == sorted(found["rung"].values, key=[r.name for r in names].index)
    assert float(found["time"][-1]) == 40.0
    assert np.isfinite(found["common"].isel(time=-1)).all()
    table = experiments.step_table(found, names).set_index("rung")
    assert abs(table.loc[experiments.NO_MOMENTUM, "ratio"] - 1) < 0.05
    a, b = (found["common"].sel(rung=name).isel(time=-1) for name in (experiments.LEMMA4, experiments.FLOW))
    assert experiments.end_ratio(found) == pytest.approx(float(a / b))
    assert table.loc[experiments.DECORRELATED, "above"] == experiments.FLOW


def test_step_table_finds_ratio_and_largest_gap() -> None:
    time = np.array([1.0, 2, 3])
    a, b = np.array([-0.1, -0.5, -1.0]), np.array([-0.2, -1.5, -2.0])
    found = xr.Dataset(
        {name: (("rung", "time"), np.stack([a, b])) for name in ("common", "top", "rare", "entropy")},
        coords={"rung": ["above", "below"], "time": time},
    )
    below = experiments.step_table(
        found, [experiments.Rung("above", "", ""), experiments.Rung("below", "above", "x")]
    ).iloc[1]
    assert below["ratio"] == pytest.approx(2.0)
    assert below["gap"] == pytest.approx(0.5)


def test_constant_of_several_common_tokens_and_queries() -> None:
    settings = TheoryLadder()
    single = one_common_token.constant_from_overlap(10, 1 / 36)
    assert experiments.closed_form_constant(settings.theorem_task()) == pytest.approx(float(single))
    # early on Lemma 4 differs from the theorem by 1/(1+(K−1)ρ) only, and so it fixes the constant
    task = ProfileTask(queries=2, next_per_query=2, common=3, distinct=3, common_weight=0.02)
    time = np.array([2.0])
    solution = attention_ode.solve(task.to_classes(), time, decoder_rate=0.5, attention_rate=0.5)
    integral = one_common_token.gamma_integral(time, task.vocabulary, 0.5, 0.5, 4)
    shrunk = 1 / (1 + 3 * task.overlap)
    predicted = float(integral[0]) / experiments.closed_form_constant(task) * shrunk
    assert -float(solution["attention"][0, 0, 0]) == pytest.approx(predicted, rel=1e-3)


# --- single steps ---


def test_frozen_forces_are_those_of_the_closed_forms() -> None:
    found = steps.frozen_force(np.array([0.0, 1, 40, 1000]))
    np.testing.assert_allclose(found["force"].sel(update="decorrelated"), found["theorem"], atol=1e-8)
    plain = found["force"].sel(update="gradient").values[1:]
    np.testing.assert_allclose(plain, found["leading"].values[1:], rtol=0.15)
    factor = found["theorem"].values[1:] / plain
    np.testing.assert_allclose(factor, found["rule"].values[1:], rtol=0.15)


def test_force_factor_agrees_with_frozen_forces() -> None:
    when = float(decoder.peak(300, 0.5, 5).time)
    force = steps.frozen_force(np.array([0.0, when]))["force"].isel(time=1)
    wanted = float(force.sel(update="decorrelated") / force.sel(update="gradient"))
    found = steps.force_factor(np.array([1 / 36]), [(5, 300)])
    assert float(found.squeeze()) == pytest.approx(wanted, rel=1e-6)


def test_the_rule_of_the_force_is_the_factor_where_overlaps_are_small_but_above_one_over_m() -> None:
    overlaps, sizes = np.array([0.03, 0.05]), [(10, 10_000), (5, 10_000)]
    rule, factor = steps.force_rule(overlaps, sizes), steps.force_factor(overlaps, sizes)
    np.testing.assert_array_equal(rule["size"], factor["size"])
    np.testing.assert_allclose(rule, factor.transpose(*rule.dims), rtol=0.2)


def test_limit_of_a_fast_decoder() -> None:
    settings = TheoryLadder()
    sets = settings.theorem_sets(0.5)
    found = experiments.decoder_limit(sets, settings.theorem_classes(), [100.0, 1e4], 5000.0)
    assert abs(found["printed"][0] - 1) < 0.005
    assert abs(found["exact"][1] - 1) < 1e-3
    assert found["printed"][1] == pytest.approx(found["start"][1], abs=1e-3)


def test_a_common_token_that_differs_between_classes_can_rise_under_lemma4() -> None:
    assert steps.unequal_common() > 0.1


def test_remark1_agrees_with_the_symmetric_reduction_at_k_below_m() -> None:
    row = steps.remark1([5], vocabulary=40, overlap=0.2).iloc[0]
    weight = float(symmetric.common_weight(0.2, [1.0]))
    sets = symmetric.parameter_sets(
        classes=5, vocabulary=40, common=(weight,), distinct=(1.0,), attention_rate=0.0
    )
    when = float(decoder.peak(40, 0.8, 5).time)
    force = float(symmetric.solve(sets, [0.0, when])["force"][1])
    gram = np.full((5, 5), 0.2) + 0.8 * np.eye(5)
    claimed = float(decoder.gamma(when, 40, 0.8, 5)) * decoder.signal_coefficients(gram, 40)[1][0, 1]
    assert row["ratio"] == pytest.approx(force / claimed, rel=1e-6)


@pytest.mark.parametrize(("queries", "common"), [(1, 1), (2, 2)])
def test_lemma4_of_symmetric_classes_is_lemma4(queries: int, common: int) -> None:
    setting = {"classes": 4, "vocabulary": 50, "next_per_query": 4 // queries}
    setting |= {"common": (0.4, 0.2)[:common], "distinct": steps.PROFILE}
    times = np.geomspace(0.1, 500, 8)
    rates = {"decoder_rate": 1.0, "attention_rate": 0.5}
    short = steps.lemma4_symmetric(symmetric.parameter_sets(**setting, **rates), times)
    full = attention_ode.solve(symmetric_classes(**setting), times, **rates)["attention"].values[:, 0]
    np.testing.assert_allclose(short, full[:, : common + 3], atol=1e-6)


def test_fates_counts_every_token_once() -> None:
    table = steps.fates((0,))
    assert table[["rises", "falls", "turns"]].to_numpy().sum() == 3 * 10
    assert set(table["dynamics"]) == {"Lemma 4", "decorrelated flow", "gradient flow"}
    paths = steps.token_paths(0, attention_rate=0.5)
    assert sorted(paths["owner"].values) == [-1, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (random_classes(0, classes=3, vocabulary=500).common.sum()) == 1


def test_explorer_curves_are_the_solvers() -> None:
    times = np.geomspace(0.1, 100, 4)
    found = steps.explorer_curves(0.5, 1.0, 10, 1000, 1 / 36, times)
    classes, rates = TheoryLadder().theorem_classes(), {"decoder_rate": 0.5, "attention_rate": 0.5}
    wanted = attention_ode.solve(classes, times, **rates)["attention"]
    np.testing.assert_allclose(found["common"].sel(rung="Lemma 4"), -wanted[:, 0, 0], atol=1e-6)
    used = classes.probabilities[0] > 0
    for name, solve in (("Lemma 4", attention_ode.solve), ("gradient flow", flow.solve)):
        full = classes.attention_weights(solve(classes, times, **rates)["attention"].values)[:, 0, used]
        np.testing.assert_allclose(found["attention_weights"].sel(update=name), full, atol=1e-6)
    np.testing.assert_allclose(found["uniform"], classes.probabilities[0, used])
    assert found.attrs["peak"] == pytest.approx(float(decoder.peak(1000, 0.5, 10).time))
    moved = 2 * float(found["common"].sel(rung="gradient flow")[-1])
    best, factor, count = experiments.closest({("a",): found, ("b",): 10 * found}, moved=moved)
    ends = found["common"]
    assert (best, count) == (("b",), 1)
    assert factor == pytest.approx(float((ends.max("rung") / ends.min("rung")).max()))


def test_the_attention_rate_is_a_unit_of_time_on_all_rungs_of_the_explorer() -> None:
    times = np.geomspace(0.1, 1000, 6)
    one, other = (steps.explorer_curves(rate, 3.0, 5, 200, 0.1, 0.5 / rate * times) for rate in (0.5, 0.005))
    for name in ("common", "attention_weights"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-9)
    assert other.attrs["peak"] == pytest.approx(100 * one.attrs["peak"])


def test_the_explorer_draws_the_attention_at_its_time() -> None:
    found = steps.explorer_curves(0.5, 1.0, 10, 1000, 0.1, np.geomspace(0.1, 1e4, 6))
    figure = figures.explorer_frame(found, 10.0)
    upper, lower = figure.axes
    at = found.isel(time=2)
    factor = float(at["common"].sel(rung="Lemma 4") / at["common"].sel(rung="gradient flow"))
    assert upper.get_title() == f"Lemma 4: {factor:.0f} times the flow"
    heights = [patch.get_height() for patch in lower.patches]
    np.testing.assert_allclose(heights, at["attention_weights"].values.ravel())
    later = figures.explorer_frame(found, 1e4).axes[1].patches
    assert heights != [patch.get_height() for patch in later]


def test_tables_hold_both_ratios() -> None:
    time = np.array([1.0, 2.0])
    found = xr.Dataset(
        {
            name: (("rung", "time"), [[-0.1, -0.5], [-0.2, -1.0]])
            for name in ("common", "top", "rare", "entropy")
        },
        coords={"rung": [experiments.FLOW, experiments.DECORRELATED], "time": time},
    )
    ladder_rungs = [experiments.Rung(experiments.FLOW, "", "")]
    ladder_rungs += [experiments.Rung(experiments.DECORRELATED, experiments.FLOW, "the gradient of Y")]
    tables = {1.0: experiments.step_table(found, ladder_rungs)}
    tables[10.0] = experiments.step_table(2 * found, ladder_rungs)
    errors = figures.error_table(tables)
    assert errors.iloc[0].tolist() == [
        "gradient flow → decorrelated flow", "the gradient of Y", "2.00", "50 %", "2.00", "50 %"
    ]  # fmt: skip
    values = figures.value_table(tables, entropy=False)
    assert values["−z, ν=1"].tolist() == ["0.5", "1"]
    assert values["z rare, ν=10"].tolist() == ["−1", "−2"]
    assert figures.value_table(tables, entropy=True).shape == (2, 9)


# --- settings ---


def test_settings_know_their_regime() -> None:
    assert TheoryLadder().is_theorem_regime
    assert TheoryLadder().is_published_training
    assert not TheoryLadder(vocabulary=999).is_theorem_regime
    assert not TheoryLadder(experiment_seeds=(1, 2)).is_published_training
    assert TheoryLadder().theorem_steps == 500
    config = TheoryLadder(lengths=(16, 32), theorem_seeds=(3,)).theorem_training(0.5)
    assert [config.tasks[place].sequence_length for place in config.task] == [16, 32]


def test_profile_task_is_the_symmetric_classes_and_refuses_bad_weights() -> None:
    settings = TheoryLadder()
    mine, plain = settings.theorem_task().to_classes(), settings.theorem_classes()
    np.testing.assert_allclose(mine.probabilities, plain.probabilities)
    assert settings.theorem_task().overlap == pytest.approx(1 / 36)
    with pytest.raises(ConfigError, match="2 weights do not fit 3"):
        ProfileTask(queries=1, next_per_query=2, common=1, distinct=3, distinct_weights=(0.5, 0.1))
    with pytest.raises(ConfigError, match="distinct_weights"):
        ProfileTask(queries=1, next_per_query=2, common=1, distinct=1, distinct_weights=(-0.5,))
