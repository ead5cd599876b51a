"""What a training accepts, and the published settings."""

import pytest

from learndyn.core.config import ConfigError
from learndyn.scan_snap.settings import PRESETS, TrainConfig, grid
from learndyn.scan_snap.task import SYN_SMALL, TaskConfig, syn_medium


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"task": 1}, "task 1 is not one of the 1 tasks"),
        ({"task": -1}, r"task\[0\] = -1"),
        ({"tasks": ()}, r"tasks = \(\)"),
        ({"seed": (1, 2), "rate_ratio": (1, 2, 3)}, "seed has 2 values for 3 runs"),
        ({"seed": (1, 2**63)}, r"seed\[1\] = 9223372036854775808: must be less than"),
        ({"attention_rate": 0.0}, r"attention_rate\[0\] = 0.0: must be greater than 0"),
        ({"rate_ratio": "ten"}, r"rate_ratio\[0\] = 'ten': must be a number"),
        ({"attention_rate": float("nan")}, "attention_rate"),
        ({"momentum": 1.0}, "momentum = 1.0: must be less than 1"),
        ({"optimizer": "adamw"}, "optimizer = 'adamw'"),
        ({"initialisation": "random"}, "initialisation = 'random'"),
        ({"init_scale": 2.0}, "init_scale = 2 needs initialisation 'uniform'"),
        ({"init_scale": 0.0, "initialisation": "uniform"}, "init_scale = 0.0: must be greater than 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"steps": 10, "snapshot_steps": (4, 11)}, "within the 10 steps, not at 11"),
        ({"rng": "numpy"}, "rng = 'numpy'"),
        ({"learning_rate": 0.1}, "unknown parameter 'learning_rate'"),
    ],
)
def test_refuses(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TrainConfig(**values)


def test_one_value_for_each_run():
    config = TrainConfig(
        tasks=(SYN_SMALL, syn_medium(3)), task=(0, 1, 1), attention_rate=2, rate_ratio=(1, 2, 5)
    )
    assert config.runs == 3
    assert config.decoder_rate == (2, 4, 10)
    assert config.select([2, 0]).task == (1, 0)
    assert config.select([2]).tasks == config.tasks


def test_logged_and_kept_steps():
    config = TrainConfig(steps=10, log_every=4, snapshot_steps=(3, 0))
    assert config.logged_steps == (0, 4, 8, 10)
    assert config.kept_steps == (0, 3, 10)
    assert TrainConfig(steps=0).logged_steps == TrainConfig(steps=0).kept_steps == (0,)


def test_grid_is_the_product():
    config = grid(
        TrainConfig(steps=7),
        tasks=[TaskConfig(queries=3), SYN_SMALL],
        attention_rates=(0.5, 1),
        rate_ratios=(1, 2, 5),
        seeds=range(4),
    )
    assert (config.runs, config.steps) == (48, 7)
    runs = list(zip(config.task, config.attention_rate, config.rate_ratio, config.seed, strict=True))
    assert len(set(runs)) == 48
    assert runs == sorted(runs)
    assert grid(TrainConfig(rate_ratio=3), seeds=(1, 2)).rate_ratio == (3, 3)


@pytest.mark.parametrize("axes", [{"seeds": ()}, {"tasks": []}, {"seeds": (1, 2)}])
def test_grid_refuses(axes):
    with pytest.raises(ConfigError, match="grid needs at least one value"):
        grid(TrainConfig(rate_ratio=(1, 2)), **axes)


def test_published_settings():
    figure6 = PRESETS["figure_6"]
    assert figure6.runs == 4 * 4 * 4 * 10
    assert [task.vocabulary for task in figure6.tasks] == [33, 79, 125, 240]
    assert {figure6.tasks[0].sequence_length, figure6.batch_size} == {128}
    assert figure6.initialisation == "uniform"
    assert [PRESETS[name].tasks[0].vocabulary for name in ("figure_4", "figure_5")] == [34, 34]
    assert {config.steps for config in PRESETS.values()} == {100}
    # Attributes of a results file hold at most 64 KiB.
    assert all(len(config.to_json()) < 2**15 for config in PRESETS.values())
