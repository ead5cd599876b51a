"""What a sweep keeps of a Scan & Snap training, against plain sums over tokens of single trainings."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from learndyn.scan_snap import sweep_summary, training
from learndyn.scan_snap.settings import TrainConfig, grid
from learndyn.scan_snap.task import TaskConfig

TASKS = (
    TaskConfig(queries=2, common=2, distinct=3, sequence_length=16),
    TaskConfig(queries=1, next_per_query=3, common=3, common_per_query=1, distinct=2, sequence_length=8),
)


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    """Both tasks, two rates, in an order in which the runs of a task do not lie together."""
    base = TrainConfig(initialisation="uniform", steps=12, snapshot_steps=(0,), batch_size=8)
    made = grid(base, tasks=TASKS, attention_rates=(1, 4), seeds=(3,))
    return made.select([2, 0, 3, 1])


@pytest.fixture(scope="module")
def trained(config) -> xr.Dataset:
    return training.train(config)


def plain(task: TaskConfig, logits: np.ndarray) -> tuple[float, float, float]:
    """Entropy on the distinct tokens, mass on common and on distinct ones: one class, one token at a time."""
    own, per_class = task.common + task.queries * task.common_per_query, task.distinct
    entropies, commons, distincts = [], [], []
    for n in range(task.classes):
        query = n // task.next_per_query
        local = task.common + query * task.common_per_query
        common = [*range(task.common), *range(local, local + task.common_per_query)]
        distinct = [own + n * per_class + i for i in range(per_class)]
        weight = dict.fromkeys(common, 1.0)
        weight |= {token: 0.1 + 0.9 * i / (per_class - 1) for i, token in enumerate(distinct)}
        attention = {token: w * np.exp(float(logits[query, token])) for token, w in weight.items()}
        total = sum(attention.values())
        mass = sum(attention[token] for token in distinct)
        shares = [attention[token] / mass for token in distinct]
        entropies.append(-sum(share * np.log(share) for share in shares))
        distincts.append(mass / total)
        commons.append(1 - mass / total)
    return tuple(float(np.mean(values)) for values in (entropies, commons, distincts))


def test_measures_are_those_of_each_run(config, trained):
    found = sweep_summary.summarise_sweep(trained)
    for run, place in enumerate(config.task):
        for snapshot in range(2):
            logits = trained.attention.isel(run=run, snapshot=snapshot).values
            row = found.isel(run=run, snapshot=snapshot)
            got = (row.distinct_entropy, row.common_mass, row.distinct_mass)
            np.testing.assert_allclose(got, plain(TASKS[place], logits), rtol=1e-6)
    assert found.sequence_length.values.tolist() == [8, 16, 8, 16]
    assert not np.allclose(found.distinct_entropy[:, 0], found.distinct_entropy[:, 1], rtol=1e-3)


def test_everything_else_stays(trained):
    found = sweep_summary.summarise_sweep(trained)
    assert set(found.variables) - set(trained.variables) == {*sweep_summary.MEASURED, "sequence_length"}
    xr.testing.assert_identical(found[list(trained)].drop_vars("sequence_length"), trained)
