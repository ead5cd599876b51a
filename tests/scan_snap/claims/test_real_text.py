"""Claims of "Real text" hold for plausible results and not for spoiled ones; its measurements, by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import claim_checks
import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr

from learndyn.core import records, transformer
from learndyn.core.config import ConfigError
from learndyn.core.text import LanguageData, TokenStream, Vocabulary
from learndyn.core.text_settings import TextConfig
from learndyn.scan_snap import experiments_real_text as experiments
from learndyn.scan_snap import experiments_real_text_words as text_words
from learndyn.scan_snap.claims import real_text as claims
from learndyn.scan_snap.settings_real_text import RealText

ROOT = Path(__file__).parents[3]


# --- claims ---


def maps(
    entropy=(2.55, 1.2, 0.1, 0.02), decided=(0.03, 0.1, 0.8, 0.97), columns=(1, 12, 13, 9)
) -> xr.Dataset:
    data = {"entropy": entropy, "decided": decided, "key_columns": columns}
    return xr.Dataset({name: ("snapshot", np.array(values)) for name, values in data.items()})


def falls(curve=(2.57, 1.9, 1.6, 0.05), entropy=(2.55, 1.2, 0.1, 0.02)) -> claims.Falls:
    coords = {"evaluation": [0, 100, 300, 1500]}
    return claims.Falls(xr.DataArray(list(curve), dims="evaluation", coords=coords), maps(entropy))


def deep(lowest=(2.57, 0.8)) -> xr.Dataset:
    curves = np.array([[*([start] + [2.0] * 2)] for start in lowest])[None]
    return xr.Dataset({"attention_entropy": (("run", "evaluation", "layer"), curves)})


def rates(mean=(2.35, 2.0, 1.7, 1.55, 1.5), std=0.05) -> xr.Dataset:
    values = {"mean": ("rate", np.array(mean)), "std": ("rate", np.full(len(mean), std))}
    return xr.Dataset(values, coords={"rate": [1.0, 2, 3, 4, 5][: len(mean)]})


def gains(name: str, step: int, first: float = 0.0, last: float = 0.0, groups: int = 3) -> xr.Dataset:
    """Two rates of five seeds at a step; the groups but the first and the last stay near 0."""
    values = np.zeros((10, 2, groups)) + np.tile(np.linspace(-0.01, 0.01, 5), 2)[:, None, None] * [
        *range(groups)
    ]
    values[:, 1, 0] += first
    values[:, 1, -1] += last
    dims = ("run", "evaluation", "third" if groups == 3 else "frequency_bin")
    coords = {"evaluation": [0, step], "learning_rate": ("run", np.repeat([1.0, 5.0], 5))}
    return xr.Dataset({name: (dims, values)}, coords=coords)


def one_rate_spoiled(runs: xr.Dataset) -> xr.Dataset:
    return xr.where(runs["learning_rate"] == 5, -runs, runs).assign_coords(runs.coords)


def one_seed_missing(runs: xr.Dataset, name: str) -> xr.Dataset:
    spoiled = runs.copy(deep=True)
    spoiled[name][3] = np.nan
    return spoiled


def correlations(mean: float, std: float = 0.05, step: int = claims.SCAN) -> xr.Dataset:
    runs = gains("specific_frequency_correlation", step)
    values = mean + std * np.tile([-1.2, -0.6, 0, 0.6, 1.2], 2)[:, None] * [0, 1]
    return runs.assign(specific_frequency_correlation=(("run", "evaluation"), values))


def slow(late=(2.25, 2.26, 2.24), start: float = 2.58) -> xr.Dataset:
    curve = np.array([start, 2.4, *late])
    steps = [0, 100, 5000, 6000, 7500]
    values = np.stack([curve - 0.02, curve + 0.02])[..., None]
    return xr.Dataset(
        {"attention_entropy": (("run", "evaluation", "layer"), values)}, coords={"evaluation": steps}
    )


GOOD = {
    "scan.fig7-entropy": falls,
    "scan.fig7-decided": maps,
    "scan.fig7-stripes": lambda: 0.25,
    "scan.fig7-deep": deep,
    "scan.fig10-falls": lambda: [rates(), rates((2.3, 2.25, 2.2, 1.73, 1.2))],
    "scan.text-rate": lambda: claims.EqualTime(np.array([2.2, 2.3]), np.array([0.05, 0.06])),
    "scan.text-passes": lambda: rates((2.3, 2.1, 0.3)),
    "scan.text-snap": slow,
    "scan.text-common": lambda: gains("gain_by_frequency", 1500, 0.5, -0.3, 5),
    "scan.text-specific": lambda: gains("gain_by_specificity", claims.SCAN, -0.3, 0.4),
    "scan.text-frequency": lambda: correlations(0.3),
}
SPOILED = {
    "scan.fig7-entropy": [
        lambda: falls((2.57, 2.5, 2.4, 0.05)),
        lambda: falls(entropy=(2.55, 0.1, 1.2, 0.02)),
        lambda: falls(entropy=(2.3, 1, 0.5, 0.1)),
        lambda: falls(entropy=(2.64, 1, 0.5, 0.1)),
        lambda: falls((2.57, 1.2, 2.3, 0.05)),
        lambda: falls((2.57, np.nan, np.nan, np.nan)),
    ],
    "scan.fig7-decided": [
        lambda: maps(decided=(0.03, 0.1, 0.2, 0.4)),
        lambda: maps(decided=(0.03, 0.8, 0.7, 0.97)),
    ],
    "scan.fig7-stripes": [lambda: 0.5, lambda: 0.0, lambda: float("nan")],
    "scan.fig7-deep": [lambda: deep((2.57, 2.3)), lambda: deep((0.8, 2.57))],
    "scan.fig10-falls": [
        lambda: [rates((1.5, 1.55, 1.7, 2.0, 2.35))],
        lambda: [rates(std=0.5)],
        lambda: [rates((2.35, 2.0, 2.2, 1.55, 1.5))],
        lambda: [rates((2.35, 1.7, 1.72, 1.55, 1.5))],
        lambda: [rates(), rates((2.0,) * 5)],
        lambda: [rates((np.nan,) * 5)],
        list,
    ],
    "scan.text-rate": [
        lambda: claims.EqualTime(np.array([0.05, 0.06]), np.array([2.2, 2.3])),
        lambda: claims.EqualTime(np.array([2.2, 2.3]), np.array([1.9, 2.0])),
        lambda: claims.EqualTime(np.array([2.9, 1.5]), np.array([1.2, 1.3])),
    ],
    "scan.text-passes": [
        lambda: rates((2.3, 2.2, 1.3)),
        lambda: rates((0.3, 2.2, 2.3)),
        lambda: rates((np.nan,) * 3),
    ],
    "scan.text-snap": [
        lambda: slow((1.5, 1.3, 1.1)),
        lambda: slow((0.5, 0.5, 0.5)),
        lambda: slow((2.6, 2.6, 2.6)),
        lambda: slow((np.nan,) * 3),
        lambda: one_seed_missing(xr.concat([slow(), slow()], "run"), "attention_entropy"),
    ],
    "scan.text-common": [
        lambda: gains("gain_by_frequency", 1500, 0.5, 0.3, 5),
        lambda: gains("gain_by_frequency", 1500, -0.5, -0.01, 5),
        lambda: one_rate_spoiled(gains("gain_by_frequency", 1500, 0.5, -0.3, 5)),
        lambda: one_seed_missing(gains("gain_by_frequency", 1500, 0.5, -0.3, 5), "gain_by_frequency"),
    ],
    "scan.text-specific": [
        lambda: gains("gain_by_specificity", claims.SCAN, 0.3, -0.4),
        lambda: gains("gain_by_specificity", claims.SCAN, 0.3, 0.3),
        lambda: gains("gain_by_specificity", claims.SCAN + 1, -0.3, 0.4),
        lambda: one_rate_spoiled(gains("gain_by_specificity", claims.SCAN, -0.3, 0.4)),
        lambda: one_seed_missing(gains("gain_by_specificity", claims.SCAN, -0.3, 0.4), "gain_by_specificity"),
    ],
    "scan.text-frequency": [
        lambda: correlations(-0.3),
        lambda: correlations(0.1, 0.3),
        lambda: one_rate_spoiled(correlations(0.3)),
        lambda: one_seed_missing(correlations(0.3), "specific_frequency_correlation"),
    ],
}

test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


# --- maps ---


def random_maps(steps: int = 3, length: int = 6, sharpness: float = 4.0) -> xr.DataArray:
    scores = sharpness * np.random.default_rng(0).standard_normal((steps, length, length))
    weights = np.exp(scores) * np.tri(length)
    weights /= weights.sum(-1, keepdims=True)
    return xr.DataArray(weights, dims=("snapshot", "query_position", "key_position"))


def test_map_statistics_are_those_of_plain_loops() -> None:
    found = random_maps()
    statistics = experiments.map_statistics(found)
    for step, weights in enumerate(found.values):
        entropies = [-sum(w * np.log(w) for w in row if w > 0) for row in weights]
        assert float(statistics["entropy"][step]) == pytest.approx(np.mean(entropies))
        assert float(statistics["row_maximum"][step]) == pytest.approx(np.mean([max(row) for row in weights]))
        assert float(statistics["decided"][step]) == np.mean([max(row) > 0.95 for row in weights])
        assert int(statistics["won"][step]) == sum(any(w > 0.5 for w in row) for row in weights)
        assert int(statistics["key_columns"][step]) == sum(any(w > 0.5 for w in row) for row in weights.T)


def test_kept_winners_counts_rows_but_the_first() -> None:
    found = random_maps().assign_coords(snapshot=[0, 10, 30])
    kept = experiments.kept_winners(found, "snapshot")
    assert kept["snapshot"].values.tolist() == [10, 30]
    for k in range(2):
        same = [found.values[k][i].argmax() == found.values[k + 1][i].argmax() for i in range(1, 6)]
        assert float(kept[k]) == np.mean(same)
    still = xr.concat([found[:1], found[:1]], "snapshot")
    assert float(experiments.kept_winners(still, "snapshot")[0]) == 1


def test_random_key_columns_is_the_mean_over_all_choices() -> None:
    for rows in (1, 2, 5):
        counts = [len(set(choice)) for choice in product(*(range(i + 1) for i in range(rows)))]
        assert experiments.random_key_columns(rows) == pytest.approx(np.mean(counts))


def test_published_maps_are_normalised_rows_of_causal_attention() -> None:
    found = experiments.published_maps()
    np.testing.assert_allclose(found.sum("key_position"), 1)
    assert float(abs(found.values * (1 - np.tri(35))).max()) == 0
    np.testing.assert_allclose(experiments.kept_winners(found, "snapshot"), [3 / 34, 6 / 34, 7 / 34])
    statistics = experiments.map_statistics(found)
    np.testing.assert_allclose(statistics["entropy"], [2.54, 0.84, 0.34, 0.012], atol=0.005)
    np.testing.assert_allclose(statistics["row_maximum"], [0.18, 0.68, 0.85, 0.996], atol=0.01)
    np.testing.assert_allclose(100 * statistics["decided"], [3, 11, 57, 97], atol=0.5)
    assert statistics["key_columns"].values.tolist() == [1, 14, 13, 9]


# --- words ---


def language(train: np.ndarray, validation: np.ndarray, vocabulary: int) -> LanguageData:
    types = Vocabulary(tuple(f"word{k}" for k in range(vocabulary)))
    streams = [TokenStream(torch.as_tensor(ids)) for ids in (train, validation)]
    return LanguageData(*streams, types, "made up")


def test_specificity_tells_a_word_that_announces_the_next_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 12, (4, 3000))
    announced = np.zeros_like(ids, dtype=bool)
    announced[:, :-2] = rng.random((4, 2998)) < 0.05
    ids[announced] = 0
    ids[:, 2:][announced[:, :-2]] = 12  # always the same word, two places later
    found = text_words.specificity(ids, 4, 13)
    assert found[0] > 0.2
    assert np.abs(found[1:12]).max() < 0.05


def test_followers_and_information_are_those_of_plain_loops() -> None:
    ids = np.random.default_rng(1).integers(0, 5, (2, 30))
    counts = np.zeros((5, 5))
    for column, lag in product(range(2), range(1, 4)):
        for i in range(30 - lag):
            counts[ids[column, i], ids[column, i + lag]] += 1
    found = text_words._followers(ids, 4, 5, 0)
    np.testing.assert_array_equal(found.toarray(), counts)
    given, whole = counts / counts.sum(1, keepdims=True), counts.sum(0) / counts.sum()
    expected = [sum(p * np.log(p / w) for p, w in zip(row, whole, strict=True) if p > 0) for row in given]
    np.testing.assert_allclose(text_words._information(found), expected)


def test_received_attention_is_that_of_plain_loops() -> None:
    inputs = torch.tensor([[0, 1, 0, 2], [2, 2, 1, 0]])
    weights = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).tril()
    expected = np.zeros((3, 4))
    for run, column, i, j in product(range(3), range(2), range(4), range(4)):
        if j < i:
            expected[run, int(inputs[column, j])] += float(weights[run, column, i, j])
    np.testing.assert_allclose(text_words._received(weights, inputs, 4), expected, rtol=1e-5)
    places = text_words._places(weights)
    rows = [(run, column, i) for run in range(3) for column in range(2) for i in range(1, 4)]
    for run in range(3):
        own = [(float(weights[r, c, i, i]), float(weights[r, c, i, i - 1]), float(weights[r, c, i, 0]))
               for r, c, i in rows if r == run]  # fmt: skip
        np.testing.assert_allclose(places[run], np.mean(own, 0), rtol=1e-5)


def test_a_shuffle_leaves_the_attention_to_words_and_not_that_to_places() -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 6, (5, 8), generator=rng)
    shuffle = text_words.Shuffle(inputs)
    assert torch.equal(shuffle.shuffled[:, -1], inputs[:, -1])
    assert torch.equal(shuffle.shuffled.sort(1).values, inputs.sort(1).values)
    logits = 3 * torch.randn(6, generator=rng)
    by_word = [torch.softmax(logits[ids], -1)[None] for ids in (inputs, shuffle.shuffled)]
    assert shuffle.overlaps(*by_word)[0, 0] == pytest.approx(1, abs=1e-6)
    by_place = torch.softmax(3 * torch.randn(8, generator=rng), -1).expand(1, 5, 8)
    kept, chance = shuffle.overlaps(by_place, by_place)[0]
    assert kept == pytest.approx(float(chance), abs=1e-6)
    assert kept < 0.95


def test_shuffle_of_a_transformer_without_positions_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TextConfig(width=8, hidden_size=8, window_length=6)
    ids = np.random.default_rng(0).integers(0, 9, (3, 40))
    data = language(ids, ids, 10)
    architecture = config.architecture(10)
    drawn = transformer.initial_parameters(architecture, 0)
    parameters = {name: 3 * tensor[None] for name, tensor in drawn.items()}
    measures = {m.name: m for m in text_words.probes(data, config, 2, torch.device("cpu"))}
    with_positions = float(measures["shuffle_overlap"].function(parameters)[0, 0])
    none = torch.zeros(6, 8)
    monkeypatch.setattr(transformer, "sinusoidal_positions", lambda *_: none)
    assert float(measures["shuffle_overlap"].function(parameters)[0, 0]) == pytest.approx(1, abs=1e-5)
    assert with_positions < 0.99
    deep = replace(architecture, layers=2)
    two = {name: tensor[None] for name, tensor in transformer.initial_parameters(deep, 0).items()}
    inputs = text_words.probe_inputs(data, 6, 2)
    weights = text_words.lowest_attention(two, inputs, deep)
    assert weights.shape == (1, 6, 6, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 6, 6))


def test_gains_are_zero_for_uniform_attention_and_pool_words() -> None:
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 41) ** 2
    ids = rng.choice(40, (10, 400), p=shares / shares.sum())
    data = language(ids, ids, 42)  # two words are never met
    table = text_words.words(data, 7, 50)
    uniform = xr.DataArray(3 * table["exposure"].values[None, None], dims=("run", "evaluation", "token"))
    found = text_words.gains(uniform, table)
    met = table["exposure"].values > 0
    assert met[:5].all()
    assert not met[40:].any()
    np.testing.assert_allclose(found["gain"].values[0, 0, met], 0, atol=1e-3)
    assert np.isnan(found["gain"].values[0, 0, ~met]).all()
    tilt = xr.where(table["frequency"] >= 1e-2, 2.0, 1.0)
    received = (uniform * tilt).transpose("run", "evaluation", "token")
    found = text_words.gains(received, table)
    shares = [part / part.sum() for part in (received.values.ravel(), table["exposure"].values)]
    often = table["frequency"].values >= 1e-2
    expected = np.log(shares[0][often].sum() / shares[1][often].sum())
    pooled = found["gain_by_frequency"].isel(run=0, evaluation=0)
    assert pooled.sizes["frequency_bin"] == 5
    assert 0 < often.sum() < met.sum()
    assert float(pooled[-1]) == pytest.approx(expected, abs=1e-6)


def test_rank_correlations() -> None:
    rng = np.random.default_rng(0)
    third = rng.standard_normal(200)
    first, second = third + 0.5 * rng.standard_normal(200), third + 0.5 * rng.standard_normal(200)
    assert text_words.rank_correlation(first, second) == pytest.approx(spearmanr(first, second)[0])
    partial = text_words.partial_rank_correlation(first, with_=second, given=third)
    ranks = [values.argsort().argsort() for values in (first, second, third)]
    design = np.stack([np.ones(200), ranks[2]], 1)
    rests = [rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks[:2]]
    assert partial == pytest.approx(np.corrcoef(*rests)[0, 1])
    assert abs(partial) < 0.2 < text_words.rank_correlation(first, second)
    assert np.isnan(text_words.rank_correlation(np.ones(5), np.arange(5.0)))
    assert np.isnan(text_words.rank_correlation(np.full(5, np.nan), np.arange(5.0)))


# --- ensembles and archives ---


def ensemble(law, rates=(1.0, 2.0, 4.0)) -> xr.Dataset:
    steps = np.array([0, 50, 100, 200, 400, 800, 1600])
    entropy = np.array([law(rate, steps) + noise for rate in rates for noise in (-0.1, 0.1)])
    return xr.Dataset(
        {"attention_entropy": (("run", "evaluation", "layer"), entropy[..., None])},
        coords={
            "evaluation": steps,
            "learning_rate": ("run", np.repeat(rates, 2)),
            "seed": ("run", [0, 1] * len(rates)),
        },
    )


def test_by_rate_averages_seeds() -> None:
    found = experiments.by_rate(ensemble(lambda rate, steps: rate + 0.0 * steps))
    np.testing.assert_allclose(found["mean"].isel(evaluation=-1), [1, 2, 4])
    np.testing.assert_allclose(found["std"], np.sqrt(0.02))
    runs = ensemble(lambda rate, steps: rate + 0.0 * steps)
    assert [len(experiments.at_rate(runs, rate).run) for rate in (2.0, 3.0)] == [2, 0]


def test_entropies_at_one_product_of_rate_and_iteration() -> None:
    runs = ensemble(lambda rate, steps: 10 * rate + steps / 1000)
    longer = ensemble(lambda rate, steps: steps / 1000, rates=(1.0,)).sel(evaluation=slice(None, 800))
    small, large = experiments.at_equal_product(runs, longer)
    np.testing.assert_allclose(small, [0.7, 0.9])
    np.testing.assert_allclose(large, [40.1, 40.3])  # rate 4 at iteration 200


def test_loss_gap_is_over_the_batches_around_an_evaluation() -> None:
    steps = np.arange(0, 1601, 10)
    runs = ensemble(lambda rate, steps: rate + 0.0 * steps).assign(
        train_loss=(("run", "step"), np.tile(5 - steps / 1000, (6, 1))),
        validation_loss=(("run", "evaluation"), np.arange(6.0)[:, None] + np.zeros(7)),
    )
    runs = runs.assign_coords(step=steps).assign_attrs(text="a", steps_of_a_pass=400)
    gap = experiments.loss_gap(runs)
    assert gap["evaluation"].values.tolist() == [50, 100, 200, 400, 800, 1600]
    np.testing.assert_allclose(gap, 2.5 - (5 - np.array([50, 100, 200, 400, 800, 1575]) / 1000))
    text = experiments.passes_sentence(runs, runs.assign_attrs(text="b", steps_of_a_pass=1000))
    assert text.startswith("`a` is read 4.0 times. Rate 1 ends at 1.00 nats, rate 4 at 4.00")
    assert "`b` is read 1.6 times" in text
    assert "+1.08 nats" in text


def test_freeze_table_reads_each_rate_at_the_end() -> None:
    runs = ensemble(lambda rate, steps: 10 * rate + steps / 1000)
    found = random_maps(2).values
    kept = np.stack([[found[0], found[0]] if run < 2 else found for run in range(6)])
    places = np.tile([0.1, 0.2, 0.3], (6, 7, 1))
    runs = runs.assign(
        maps=(("run", "snapshot", "layer", "head", "query_position", "key_position"), kept[:, :, None, None]),
        shuffle_overlap=(("run", "evaluation", "compared"), np.tile([0.8, 0.4], (6, 7, 1))),
        places=(("run", "evaluation", "place"), places),
    ).assign_coords(snapshot=[1000, 1600], place=list(text_words.PLACES))
    table = experiments.freeze_table(runs).set_index("rate")
    np.testing.assert_allclose(table["entropy"], [11.6, 21.6, 41.6])
    np.testing.assert_allclose(table["change"], 0.8)
    assert table["kept"][1.0] == 1 > table["kept"][2.0]
    assert table.loc[4.0, ["shuffle", "by place", "before"]].tolist() == pytest.approx([0.8, 0.4, 0.2])


TINY = RealText(
    vocabulary_size=60,
    width=8,
    steps=4,
    figure_steps=(0, 4),
    evaluation_steps=(0, 4),
    snapshot_steps=(0, 4),
    probe_windows=1,
    rate_vocabulary_size=60,
    rate_width=8,
    rate_steps=4,
    rates=(1.0, 5.0),
    progress=False,
)


def test_an_archive_holds_its_config_and_the_maps_of_one_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TINY.figure10.replace(snapshot_steps=(0, 4), map_window=3)
    monkeypatch.setitem(experiments.ARCHIVED, "figure10", config)
    monkeypatch.setattr(experiments, "_ARCHIVED_VOCABULARY", 60)
    experiments.make_archive("figure10", tmp_path / "here.nc", TINY)
    monkeypatch.chdir(tmp_path)
    found = experiments.read_archive("here.nc")
    assert records.load(tmp_path / "here.nc", config).sizes["run"] == 4
    assert experiments.origin(found) == "archived: topics, 60 words, 4 iterations"
    assert list(experiments.maps_of_rates(found, (5.0,))) == ["5"]
    assert bool(found["maps"].isel(run=1).isnull().all())
    assert bool(found["entropy"].isel(run=0).notnull().all())
    assert found["key_word"].dims == ("key_position",)
    np.testing.assert_allclose(found["maps"].isel(run=0).sum("key_position"), 1, rtol=1e-4)
    with pytest.raises(records.RecordError, match="no file there"):
        experiments.read_archive("there.nc")


@pytest.mark.parametrize("name", experiments.ARCHIVED)
def test_the_archived_runs_are_of_the_configurations_named_in_the_library(name: str) -> None:
    found = records.load(ROOT / "results" / "scan_snap" / f"{name}.nc", experiments.ARCHIVED[name])
    assert found.attrs["text"] == experiments.ARCHIVED_TEXTS.get(name, "topics")
    assert found.attrs["vocabulary"] == 2001
    assert not found.attrs["learndyn_commit"].endswith("-dirty")
    assert set(found["status_code"].values.tolist()) == {0}


def test_runs_of_the_notebook_at_the_smallest_scale() -> None:
    (name, run), = experiments.rate_runs(TINY).items()  # fmt: skip
    assert name == "topics, 60 words, 4 iterations"
    assert run.sizes["run"] == 4
    assert set(json.loads(run.attrs["config"])["hidden_rate_factor"]) == {1.0}
    one = experiments.variant(TINY, dropout=0.0)
    assert (float(one["learning_rate"]), int(one["seed"]), float(one["dropout"])) == (5.0, 0, 0.0)
    assert experiments.compare({"a run": one}).startswith("a run: entropy 2.")
    data = experiments.load(TINY, "topics", 60)
    deep = experiments.deep_run(TINY.replace(deep_steps=4, deep_layers=2), data)
    assert deep.sizes["layer"] == 2
    assert "token" not in deep.dims


# --- settings ---


def test_what_counts_as_published() -> None:
    paper = RealText(text="wikitext2", vocabulary_size=None, width=200, map_window=100)
    assert paper.is_published_model
    assert not RealText().is_published_model
    for change in ({"width": 128}, {"learning_rate": 4.0}, {"text": "docstrings"}, {"vocabulary_size": 2000}):
        assert not paper.replace(**change).is_published_model
    texts = ("wikitext2", "wikitext103")
    sweep = RealText(rate_texts=texts, rate_vocabulary_size=None, rate_width=200, rate_seeds=range(5))
    assert sweep.is_published_sweep
    assert not sweep.replace(rate_seeds=(0, 1)).is_published_sweep
    assert not RealText().is_published_sweep


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": "wikipedia"}, "text"),
        ({"figure_steps": (0, 2000)}, "figure_steps must increase and end at 1500"),
        ({"figure_steps": (0, 600)}, "must be among snapshot_steps"),
        ({"evaluation_steps": (5, 0)}, "evaluation_steps must increase"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        RealText(**change)


def test_tables_are_words_for_a_reader() -> None:
    found = experiments.map_statistics(random_maps().assign_coords(snapshot=[0, 1, 2]))
    table = experiments.statistics_table({"published": found, "ours": found})
    assert table["maps"].tolist() == ["published", "ours"] * 4
    runs = ensemble(lambda rate, steps: rate + 0.0 * steps)
    assert experiments.entropy_table({"a": runs})["a"].tolist()[0] == "1.00 ± 0.14"
    assert SimpleNamespace(**experiments.ends([runs])[0].sizes).rate == 3
