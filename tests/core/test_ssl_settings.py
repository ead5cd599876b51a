"""Settings of SSL trainings: what is refused, what is logged, how ensembles are put together."""

import itertools

import pytest

from learndyn.core.backbones import MLPConfig, SmallResNetConfig
from learndyn.core.config import ConfigError
from learndyn.core.ssl_losses import NTXentLoss, VICRegLoss
from learndyn.core.ssl_settings import SSLConfig, concatenate, geometric_steps

TINY = SSLConfig(network=MLPConfig(inputs=6), learning_rate=0.02, steps=20, dtype="float64")


def test_one_value_is_for_all_runs():
    config = SSLConfig(seed=range(3), loss="vicreg", learning_rate=[0.1, 0.2, 0.3])
    assert config.runs == 3
    assert config.loss == (VICRegLoss(),) * 3
    assert config.learning_rate == (0.1, 0.2, 0.3)
    assert config.select([2, 0]).seed == (2, 0)
    assert config.select([2, 0]).learning_rate == (0.3, 0.1)
    assert SSLConfig(seed=(0, 1), loss=["ntxent", "vicreg"]).loss == (NTXentLoss(), VICRegLoss())


def test_a_config_survives_json():
    config = TINY.replace(network=SmallResNetConfig(width=3), loss=NTXentLoss(temperature=0.3))
    assert SSLConfig.model_validate_json(config.to_json(), strict=False) == config
    assert config.fingerprint() != config.replace(network=SmallResNetConfig(width=4)).fingerprint()


@pytest.mark.parametrize(("steps", "count"), [(0, 1), (1, 2), (7, 8), (3000, 250), (100_000, 250)])
def test_geometric_steps(steps, count):
    found = geometric_steps(steps)
    assert found[0] == 0
    assert found[-1] == steps
    assert list(found) == sorted(set(found))
    assert 0.9 * count <= len(found) <= count
    gaps = [(b - a) / a for a, b in itertools.pairwise(found[60:-1])]
    assert not gaps or max(gaps) < 0.08


def test_concatenate():
    first, second = TINY.replace(seed=(0, 1)), TINY.replace(loss="vicreg", seed=5, learning_rate=0.5)
    both = concatenate([first, second])
    assert both.seed == (0, 1, 5)
    assert both.learning_rate == (0.02, 0.02, 0.5)
    assert both.select([2]) == second
    with pytest.raises(ConfigError, match="share steps, but it is 20 and 30"):
        concatenate([first, second.replace(steps=30)])
    with pytest.raises(ConfigError, match="at least one"):
        concatenate([])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss": "vicregg"}, r"unknown loss 'vicregg' \(did you mean 'vicreg'\?\)"),
        ({"snapshot_steps": (3, 21)}, "within the 20 steps, not at 21"),
        ({"seed": (1, 2), "learning_rate": (0.1, 0.1, 0.1)}, "seed has 2 values for 3 runs"),
        ({"autocast": "bfloat16"}, "needs dtype = 'float32'"),
        ({"warmup_steps": 21}, "more than the 20 steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"network": {"kind": "transformer"}}, "network"),
    ],
)
def test_bad_settings(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        TINY.replace(**changes)
    assert "\n" not in str(caught.value)
