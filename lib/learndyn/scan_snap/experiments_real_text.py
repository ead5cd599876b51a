"""The trainings of the notebook "Real text", and the numbers of its attention maps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from learndyn.core import records
from learndyn.core.corpora import corpus
from learndyn.core.device import pick_device
from learndyn.core.text import LanguageData, language_data
from learndyn.core.text_settings import TextConfig
from learndyn.core.text_training import train
from learndyn.scan_snap import experiments_real_text_words as text_words
from learndyn.scan_snap import published
from learndyn.scan_snap.settings_real_text import RealText

#: A row has a winner if one key has more than half of it, and is decided if one has more than this.
DECIDED = 0.95
_STATISTICS = {
    "entropy": "mean row entropy (nats)",
    "row_maximum": "mean largest weight of a row",
    "decided": "rows with a weight above 0.95",
    "key_columns": "columns with a weight above 0.5",
}


def load(settings: RealText, text: str, vocabulary_size: int | None) -> LanguageData:
    """A text with its most frequent words, or all of them (None).

    Raises:
        DataError, TextError: no such text, or fewer words than asked for.
    """
    directory = settings.directory if text.startswith("wikitext") else ""
    return _load(text, directory, vocabulary_size, settings.progress)


@lru_cache(maxsize=2)
def _load(text: str, directory: str, vocabulary_size: int | None, progress: bool) -> LanguageData:
    return language_data(corpus(text, directory or None, progress=progress), vocabulary_size)


# --- maps ---


def map_statistics(maps: xr.DataArray) -> xr.Dataset:
    """What Figure 7 shows, in numbers, of maps ``[…, query_position, key_position]``.

    ``entropy``: mean over the rows, nats, rows as they are. ``row_maximum``: mean of the rows' largest
    weights. ``decided``: share of the rows with a weight above 0.95. ``won``: rows, and ``key_columns``:
    columns, that hold a weight above 0.5. A vertical stripe is a column that wins many rows.
    """
    rows, keys = "query_position", "key_position"
    top = maps.max(keys)
    logs = np.log(maps.where(maps > 0, 1.0))
    wins = maps > 0.5
    return xr.Dataset(
        {
            "entropy": -(maps * logs).sum(keys).mean(rows),
            "row_maximum": top.mean(rows),
            "decided": (top > DECIDED).mean(rows),
            "won": wins.any(keys).sum(rows),
            "key_columns": wins.any(rows).sum(keys),
        }
    )


def published_maps() -> xr.DataArray:
    """The published maps ``[snapshot, query_position, key_position]``, each row scaled to sum 1.

    The image has 256 levels, and many small weights of the first map lie below the first.
    """
    found = published.figure7_attention().rename(
        step="snapshot", position="query_position", key="key_position"
    )
    return found / found.sum("key_position")


def kept_winners(maps: xr.DataArray, step: str) -> xr.DataArray:
    """Share of the rows whose strongest key is still the same at the next of the steps along ``step``.

    The first row sees one key only and is left out. The coordinate is the later step.
    """
    strongest = maps.isel(query_position=slice(1, None)).argmax("key_position")
    later, earlier = strongest.isel({step: slice(1, None)}), strongest.isel({step: slice(None, -1)})
    return (later == earlier.assign_coords({step: later[step]})).mean("query_position")


def random_key_columns(rows: int) -> float:
    """How many key columns would hold a winner if each row had one, drawn from its visible keys: (T + 1)/2.

    Column j (from 0) is missed by all rows with probability ∏_{i≥j} i/(i+1) = j/T.
    """
    return (rows + 1) / 2


def uniform_own_weight(rows: int) -> float:
    """What a place that every row sees would get of uniform attention, mean over all rows but the first."""
    return float((1 / np.arange(2, rows + 1)).mean())


# --- runs ---


def measure(
    config: TextConfig, data: LanguageData, settings: RealText, checkpoint: Path | None = None
) -> xr.Dataset:
    """Train with the probes, and add what they say about words to the dataset of `train`.

    Further variables: ``gain`` (run, evaluation, token), ln of received over expected, both as shares;
    ``gain_by_frequency`` (…, frequency_bin) and ``gain_by_specificity`` (…, third), of all words in a bin
    together; ``specificity_correlation``: rank correlation of gain and specificity at equal frequency;
    ``specific_frequency_correlation``: of gain and frequency among the most specific third. The words'
    table (`experiments_real_text_words.words`) is over ``token``, and ``key_word`` names the maps' keys.
    """
    run = train(
        config,
        data,
        device=settings.device,
        checkpoint=checkpoint,
        measures=text_words.probes(data, config, settings.probe_windows, pick_device(settings.device)),
        progress=settings.progress,
    )
    table = text_words.words(data, config.window_length, settings.probe_windows)
    found = text_words.gains(run["received"], table)
    coords = {"place": list(text_words.PLACES), "compared": list(text_words.COMPARED)}
    if config.snapshot_steps:
        shown, _ = data.train.window(config.map_window, config.window_length)
        coords["key_word"] = ("key_position", data.vocabulary.decode(shown[0]))
    return run.merge(table).assign_coords(coords).assign(found).assign_attrs(run.attrs)


# --- archived runs ---

_ARCHIVED_VOCABULARY = 2000
_CURVE = (0, 25, 50, 75, 100, 150, 200, *range(300, 1501, 100))
_MODEL = TextConfig(width=128, hidden_size=128, evaluation_steps=_CURVE, map_window=50)

#: The archived runs under ``results/scan_snap``, on the 2000 most frequent words of help pages of Python.
ARCHIVED = {
    "figure10": _MODEL.replace(
        hidden_rate_factor=1.0,
        learning_rate=[rate for rate in range(1, 6) for _ in range(5)],
        seed=[*range(5)] * 5,
        snapshot_steps=(0, 100, 200, 300, 500, 750, 1000, 1250, 1500),
    ),
    "figure10_slow": _MODEL.replace(
        hidden_rate_factor=1.0,
        learning_rate=1.0,
        seed=(0, 1),
        steps=7500,
        evaluation_steps=(*_CURVE, *range(2000, 7501, 500)),
    ),
    "figure10_docstrings": _MODEL.replace(
        hidden_rate_factor=1.0,
        learning_rate=[rate for rate in (1, 3, 5) for _ in range(2)],
        seed=[0, 1] * 3,
        evaluation_steps=(0, 50, 100, 200, 300, 400, 480, 600, 800, 1000, 1250, 1500),
    ),
    "figure7_deep": _MODEL.replace(
        layers=3,
        steps=3000,
        evaluation_steps=(*_CURVE, 2000, 2500, 3000),
        snapshot_steps=(0, 500, 1000, 1500, 2000, 2500, 3000),
    ),
}
#: Texts of the archived runs that are not of the help pages: five times as long, so read fewer times.
ARCHIVED_TEXTS = {"figure10_docstrings": "docstrings"}


def make_archive(name: str, path: Path | str, settings: RealText, checkpoint: Path | None = None) -> None:
    """Train what ``ARCHIVED`` names and save it, without the words' own gains and with maps of one seed.

    On one core they take about 10, 4, 4 and 2 minutes.
    """
    config = ARCHIVED[name]
    data = load(settings, ARCHIVED_TEXTS.get(name, "topics"), _ARCHIVED_VOCABULARY)
    run = measure(config, data, settings, checkpoint)
    run = run.drop_dims("token").assign_attrs(steps_of_a_pass=data.train.windows(config.window_length))
    if "maps" in run:
        others = run["seed"] != run["seed"][0]
        run["maps"] = run["maps"].where(~others)
        run = run.merge(map_statistics(run["maps"]))
    for variable in run.data_vars.values():
        if variable.dtype.kind == "f":
            variable.encoding = {"zlib": True, "dtype": "float32"}
    records.save(run, path)


def read_archive(path: str) -> xr.Dataset:
    """An archived ensemble; a relative path is looked for in the working folder and in each above it.

    Raises:
        RecordError: there is no such file, or it holds something else.
    """
    here = Path.cwd()
    found = [folder / path for folder in (here, *here.parents) if (folder / path).is_file()]
    if not found:
        raise records.RecordError(
            f"there is no file {path} in {here} or any folder above it; give another path"
        )
    data = records.load(found[0])
    if "attention_entropy" not in data:
        raise records.RecordError(f"{path} has no attention_entropy; give an archive of this chapter's texts")
    return data.assign_attrs(archived=1)


def origin(runs: xr.Dataset) -> str:
    """What was trained, and whether that was here, in a line."""
    where = "archived: " if runs.attrs.get("archived") else ""
    steps = json.loads(runs.attrs["config"])["steps"]
    return f"{where}{runs.attrs['text']}, {runs.attrs['vocabulary'] - 1:,} words, {steps:,} iterations"


def deep_run(settings: RealText, data: LanguageData) -> xr.Dataset:
    """The run with more layers: trained here if it has steps, else read from its archive."""
    if settings.deep_steps:
        return measure(settings.deep, data, settings).drop_dims("token")
    return read_archive(settings.deep_archive)


def rate_runs(settings: RealText) -> dict[str, xr.Dataset]:
    """The ensemble of Figure 10 on each of its texts, by a name that says what was trained."""
    runs = {}
    for text in settings.rate_texts:
        data = load(settings, text, settings.rate_vocabulary_size)
        run = train(settings.figure10, data, device=settings.device, progress=settings.progress)
        runs[origin(run)] = run
    return runs


def _tenths(steps: int) -> list[int]:
    return sorted({round(steps * part / 10) for part in range(11)})


def variant(settings: RealText, **changes: Any) -> xr.Dataset:
    """One run of the ensemble of Figure 10, the largest rate, with ``changes`` to its `TextConfig`."""
    config = settings.figure10
    largest = max(range(config.runs), key=lambda run: (config.learning_rate[run], -config.seed[run]))
    data = load(settings, settings.rate_texts[0], settings.rate_vocabulary_size)
    changes = {"evaluation_steps": _tenths(changes.get("steps", config.steps))} | changes
    run = train(config.select([largest]).replace(**changes), data, device=settings.device)
    return run.isel(run=0)


def compare(runs: Mapping[str, xr.Dataset]) -> str:
    """Entropy and validation loss of single runs at the end, or that they diverged, in a sentence."""
    parts = []
    for name, run in runs.items():
        end = run.isel(evaluation=-1)
        values = float(end["attention_entropy"].isel(layer=0)), float(end["validation_loss"])
        words = f"entropy {values[0]:.2f}, validation loss {values[1]:.2f} nats"
        parts.append(f"{name}: {words if np.isfinite(values).all() else run['status_sentence'].item()}")
    return "; ".join(parts) + "."


def at_rate(runs: xr.Dataset, rate: float) -> xr.Dataset:
    """The runs of an ensemble that have this learning rate."""
    return runs.isel(run=np.flatnonzero(runs["learning_rate"].values == rate))


def maps_of_rates(runs: xr.Dataset, rates: Iterable[float]) -> dict[str, xr.DataArray]:
    """The maps of an ensemble's first seed by rate, ``[snapshot, query_position, key_position]``."""
    return {f"{rate:g}": at_rate(runs, rate)["maps"].isel(run=0, layer=0, head=0) for rate in rates}


def by_rate(runs: xr.Dataset) -> xr.Dataset:
    """Entropies of an ensemble by rate, over (rate, evaluation): ``mean`` and ``std`` over its seeds."""
    entropy = runs["attention_entropy"].isel(layer=0).rename(learning_rate="rate")
    groups = entropy.groupby("rate")
    return xr.Dataset({"mean": groups.mean("run"), "std": groups.std("run", ddof=1)})


def ends(ensembles: Iterable[xr.Dataset]) -> list[xr.Dataset]:
    """`by_rate` of several ensembles at the end."""
    return [by_rate(runs).isel(evaluation=-1) for runs in ensembles]


def at_equal_product(runs: xr.Dataset, slow: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Entropies over seeds where rate × iteration is the same: slow runs of one rate at their end, and those
    of the largest rate of an ensemble at the evaluation nearest to that product."""
    largest = float(runs["learning_rate"].max())
    product = float(slow["evaluation"][-1] * slow["learning_rate"][0])
    fast = at_rate(runs, largest)["attention_entropy"].isel(layer=0)
    return (
        slow["attention_entropy"].isel(layer=0, evaluation=-1).values,
        fast.sel(evaluation=product / largest, method="nearest").values,
    )


def passes_sentence(short: xr.Dataset, long: xr.Dataset) -> str:
    """How often two archived ensembles read their texts, and where that left entropy and overfitting."""
    parts = []
    for runs in (short, long):
        end = by_rate(runs)["mean"].isel(evaluation=-1)
        once = int(runs.attrs["steps_of_a_pass"])
        (small, large), (low, high) = end["rate"].values[[0, -1]], end.values[[0, -1]]
        first = by_rate(runs)["mean"].isel(rate=-1).sel(evaluation=slice(0, once))[-1]
        gap = float(loss_gap(at_rate(runs, float(large)))[-1])
        parts.append(
            f"`{runs.attrs['text']}` is read {int(runs['evaluation'][-1]) / once:.1f} times. "
            f"Rate {small:g} ends at {low:.2f} nats, rate {large:g} at {high:.2f}; there the "
            f"validation loss less the training loss is {gap:+.2f} nats. At iteration "
            f"{int(first['evaluation'])}, still in the first reading, the entropy is {float(first):.2f} nats."
        )
    return " ".join(parts).replace("-", "−")


def loss_gap(runs: xr.Dataset) -> xr.DataArray:
    """Validation less training loss ``[evaluation]``, mean over the runs, from iteration 50 on.

    The training loss is that of batches with dropout, mean over 50 iterations to each side: the gap without
    dropout is larger.
    """
    loss, validation = (runs[name].mean("run") for name in ("train_loss", "validation_loss"))
    late = validation.sel(evaluation=slice(50, None))
    near = [loss.sel(step=slice(step - 50, step + 50)).mean("step") for step in late["evaluation"].values]
    return late - xr.concat(near, late["evaluation"])


def freeze_table(runs: xr.Dataset) -> pd.DataFrame:
    """How an ensemble of several rates stands at the end, as numbers, a row for each rate.

    Means over seeds: ``entropy``, its ``change`` over the last third of the iterations, what a ``shuffle``
    leaves of the attention and what it would leave ``by place``, the weight of the word ``before``. Of the
    maps of the first seed: ``kept``, the share of rows with the same strongest key at the end and a third
    of the iterations before, at the snapshot nearest to that.
    """
    last = int(runs["evaluation"][-1])
    rows = []
    for rate in np.unique(runs["learning_rate"]):
        some = at_rate(runs, float(rate))
        entropy = some["attention_entropy"].isel(layer=0).mean("run")
        end = some[["shuffle_overlap", "places"]].isel(evaluation=-1).mean("run")
        maps = some["maps"].isel(run=0, layer=0, head=0).sel(snapshot=[2 * last / 3, last], method="nearest")
        rows.append(
            {
                "rate": float(rate),
                "entropy": float(entropy[-1]),
                "change": float(entropy[-1] - entropy.sel(evaluation=2 * last / 3, method="nearest")),
                "kept": float(kept_winners(maps, "snapshot")[-1]),
                "shuffle": float(end["shuffle_overlap"][0]),
                "by place": float(end["shuffle_overlap"][1]),
                "before": float(end["places"].sel(place="previous")),
            }
        )
    return pd.DataFrame(rows)


def statistics_table(sources: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """`map_statistics` of several sources (rows) as text, a column for each step."""
    rows = []
    for source, found in sources.items():
        for name, words in _STATISTICS.items():
            values = found[name].values
            texts = [f"{100 * v:.0f} %" if name == "decided" else f"{v:.3g}" for v in values]
            steps = [f"iteration {step}" for step in found["snapshot"].values]
            rows.append({"of each map": words, "maps": source} | dict(zip(steps, texts, strict=True)))
    order = list(_STATISTICS.values())
    return pd.DataFrame(rows).sort_values(
        "of each map", kind="stable", key=lambda names: names.map(order.index)
    )


def entropy_table(runs: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Attention entropy at the end by rate (row), mean ± std over seeds, of several ensembles (columns)."""
    columns = {}
    for name, run in runs.items():
        end = by_rate(run).isel(evaluation=-1)
        pairs = zip(end["mean"].values, end["std"].values, strict=True)
        texts = [f"{mean:.2f} ± {std:.2f}" for mean, std in pairs]
        columns[name] = pd.Series(texts, index=end["rate"].values)
    return pd.DataFrame(columns).rename_axis("learning rate").reset_index()
