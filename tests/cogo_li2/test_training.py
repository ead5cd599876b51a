"""The trainer against a plain one, against itself alone, and against being killed."""

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors import safe_open

from learndyn.cogo_li2 import initial, network
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.training import PRESETS, Measure, TrainConfig, grid, train
from learndyn.core import records
from learndyn.core.checkpoint import CheckpointError
from learndyn.core.config import ConfigError
from learndyn.core.ensemble import EnsembleError

SMALL = TrainConfig(orders=(5,), hidden_size=12, epochs=40, log_dense=10, log_every=10, dtype="float64")
METRICS = ["train_loss", "test_loss", "train_accuracy", "test_accuracy"]


def _plain(config, run, start, mask):
    """The usual trainer: torch.optim, autograd, one run. Losses before each step and the final weights."""
    labels = AbelianGroup(config.orders).addition_table()
    a, b, c = (torch.nn.Parameter(part.clone()) for part in start)
    c = torch.nn.Parameter(start[2].T.contiguous())  # as nn.Linear holds it: (element, node)
    lr, decay = config.learning_rate[run], config.weight_decay[run]
    betas, momentum = (config.beta1[run], config.beta2[run]), config.momentum[run]
    make = {
        "adam": lambda p: torch.optim.Adam(p, lr=lr, weight_decay=decay, betas=betas, eps=config.eps),
        "adamw": lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=decay, betas=betas, eps=config.eps),
        "sgd": lambda p: torch.optim.SGD(p, lr, momentum, weight_decay=decay, nesterov=config.nesterov),
        "muon": lambda p: torch.optim.Muon(p, lr=lr, weight_decay=decay, momentum=momentum),
    }
    optimizer = make[config.optimizer]([a, b, c])
    losses = []
    for _ in range(config.epochs):
        outputs = network.forward(torch.stack([a, b, c.T]), config.activation)
        loss = getattr(network, config.loss)(outputs, labels, mask)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, torch.stack([a, b, c.T]).detach()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        ("sqr", "projected_mse"),
        ("relu", "cross_entropy"),
        ("silu", "projected_mse"),
        ("relusqr", "cross_entropy"),
    ],
)
def test_against_a_plain_trainer(optimizer, activation, loss, monkeypatch):
    config = SMALL.replace(
        optimizer=optimizer,
        activation=activation,
        loss=loss,
        orders=(2, 3),
        seed=(3, 4),
        learning_rate=(0.02, 0.01),
        weight_decay=(1e-3, 1e-2),
        momentum=(0.8, 0.9),
        log_dense=40,
        test_size=0.3,
    )
    start, masks = _start(config)
    result = train(config, initial_weights=start)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())  # torch's Muon, but exact
    for run in range(2):
        losses, weights = _plain(config, run, start[run], masks[run])
        np.testing.assert_allclose(result.train_loss[run, :40], losses, rtol=1e-8)
        np.testing.assert_allclose(result.weights[run, -1], weights, atol=1e-8)


def _start(config):
    """The weights and the train cells that the trainer draws for this configuration."""
    d, q = config.size, config.hidden_size
    weights = torch.stack([initial.initial_weights(s, d, q, config.rng) for s in config.seed])
    masks = [initial.train_cells(s, d, config.test_size, config.rng) for s in config.seed]
    return weights, masks


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_a_run_is_the_same_alone_and_in_an_ensemble(dtype, tolerance):
    base = SMALL.replace(orders=(7,), hidden_size=40, epochs=60, log_dense=60, dtype=dtype)
    config = grid(base, seeds=(1, 2), weight_decays=(0.0, 1e-2), learning_rates=(0.01, 0.003))
    together = train(config)
    for run in (0, 5, 7):
        alone = train(config.select([run]))
        for name in [*METRICS[:2], "weights"]:
            np.testing.assert_allclose(alone[name][0], together[name][run], atol=tolerance, err_msg=name)
    first = together.weights.values[:, -1]
    assert len({run.tobytes() for run in first}) == config.runs


def test_runs_of_an_ensemble_start_from_streams_of_their_own_seed():
    config = SMALL.replace(seed=(8, 9, 8), epochs=0)
    weights = train(config).weights.values
    assert np.array_equal(weights[0], weights[2])
    assert np.abs(weights[0] - weights[1]).max() > 0.1
    bounds = np.abs(weights).max((0, 1, 3, 4))
    assert (bounds <= np.array([5, 5, 12]) ** -0.5).all()
    assert (bounds > 0.9 * np.array([5, 5, 12]) ** -0.5).all()


COMPACT = TrainConfig(
    orders=(7,), hidden_size=64, weight_decay=3e-3, seed=(1, 2), epochs=1500, log_dense=0, test_size=None
)


def _orders(dataset):
    spectrum = AbelianGroup((7,)).to_spectrum(torch.tensor(dataset.weights.values[:, -1]))
    return (spectrum[:, 0, :, 1:4].abs() > 0.1).sum(1).tolist()


def test_dropping_dead_nodes_changes_nothing():
    widths = []
    measure = Measure("width", (), lambda weights: widths.append(weights.shape[2]) or weights[:, 0, 0, 0])
    compacted = train(COMPACT, measures=[measure])
    plain = train(COMPACT.replace(compact_every=0))
    assert widths[0] == 64
    assert widths[-1] <= 24
    assert _orders(compacted) == _orders(plain)
    # Node by node, at its own place. Adam divides gradients of rounding size by their own size: weights
    # wander apart by 5e-4 to 1.4e-3, also in float64, depending on the processor.
    np.testing.assert_allclose(compacted.weights, plain.weights, atol=1e-2)
    # Dropping nodes at a time when they still matter is seen by the same comparison:
    assert np.abs(compacted.weights.where(np.abs(plain.weights) > 0.05, 0) - plain.weights).max() > 2e-2
    assert "every 100 epochs" in compacted.compaction
    assert plain.compaction == "off: compact_every is 0"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activation": "relu"}, "relu"),
        ({"activation": "silu"}, "silu"),
        ({"optimizer": "muon"}, "muon"),
        ({"optimizer": "adamw"}, "adamw"),
        ({"weight_decay": 0.0}, "without weight decay"),
    ],
)
def test_compaction_is_off_where_a_node_could_come_back(changes, reason):
    result = train(COMPACT.replace(epochs=2, **changes))
    assert result.compaction.startswith("off: ")
    assert reason in result.compaction


def test_why_compaction_is_off_for_relu():
    """The gradient of a tiny node is of the size of the node for relu, and of its square for sqr."""
    wave = 1e-7 * torch.cos(2 * torch.pi * torch.arange(7, dtype=torch.float64) / 7)
    start = wave.expand(1, 3, 1, 7)
    config = SMALL.replace(orders=(7,), hidden_size=1, weight_decay=1e-5, test_size=None, compact_every=0)
    config = config.replace(optimizer="sgd", learning_rate=1.0, epochs=200)
    growth = {}
    for activation in ("relu", "sqr"):
        final = train(config.replace(activation=activation), initial_weights=start).weights[0, -1]
        growth[activation] = float(np.abs(final).max()) / 1e-7
    assert growth["sqr"] < 1
    assert growth["relu"] > 100


def test_one_run_that_diverges_leaves_the_others_alone():
    base = SMALL.replace(orders=(7,), hidden_size=32, epochs=400, optimizer="sgd", seed=(1, 2, 3))
    config = base.replace(learning_rate=(0.1, 1e4, 0.1), snapshot_epochs=(0, 300))
    result = train(config)
    alone = train(config.select([0, 2]))
    assert result.status_code.values.tolist() == [0, 1, 0]
    assert result.status_epoch.values[1] < 10
    assert "diverged: the training loss was" in str(result.status_sentence.values[1])
    np.testing.assert_allclose(result.train_loss[[0, 2]], alone.train_loss, atol=1e-12)
    np.testing.assert_allclose(result.weights[[0, 2]], alone.weights, atol=1e-12)
    assert result.train_loss[1].isel(epoch=slice(15, None)).isnull().all()
    assert result.weights[1, 0].notnull().all()
    assert result.weights[1, 1:].isnull().all()
    with pytest.raises(EnsembleError, match="seed 2, weight_decay 5e-05, learning_rate 10000: diverged"):
        train(config, strict=True)


def test_divergence_between_sparse_logs_is_found_in_the_weights():
    config = SMALL.replace(optimizer="sgd", learning_rate=(0.1, 1e6), epochs=300, log_dense=0, log_every=1000)
    result = train(config)
    assert result.status_code.values.tolist() == [0, 1]
    assert result.status_epoch.values.tolist() == [-1, 100]


CHILD = """
    import os, signal, sys
    import torch
    from learndyn.cogo_li2.training import Measure
    torch.set_num_threads(1)
    sys.path.insert(0, sys.argv[1])
    from test_training import KILLED, mean_square, train
    calls = []
    def killer(weights):
        calls.append(None)
        if len(calls) == 105:  # logged epochs: 0 … 49 and then every tenth
            os.kill(os.getpid(), signal.SIGKILL)
        return mean_square(weights)
    train(KILLED, checkpoint=sys.argv[2], checkpoint_every=50, measures=[Measure("square", (), killer)])
"""
KILLED = COMPACT.replace(
    weight_decay=(0.02, 0.01),
    epochs=800,
    snapshot_epochs=(5, 250, 700),
    log_dense=50,
    log_every=10,
    test_size=0.1,
)


def mean_square(weights):
    return weights.square().sum((1, 2, 3))


def test_a_killed_training_resumes_bit_for_bit(tmp_path):
    file = tmp_path / "state.safetensors"
    arguments = [sys.executable, "-c", textwrap.dedent(CHILD), str(__file__).rsplit("/", 1)[0], str(file)]
    killed = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with safe_open(file, "pt") as saved:
        assert saved.metadata()["step"] == "550"
        assert saved.get_tensor("nodes").shape[1] < 64  # it was killed after nodes had been dropped
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        calls = []
        measure = Measure("square", (), lambda weights: calls.append(0) or mean_square(weights))
        resumed = train(KILLED, checkpoint=file, checkpoint_every=50, measures=[measure])
        whole = train(KILLED, measures=[Measure("square", (), mean_square)])
    finally:
        torch.set_num_threads(threads)
    assert len(calls) == 26  # epochs 550, 560 … 800
    for name in whole.data_vars:
        assert resumed[name].identical(whole[name]), name
    assert not resumed.weights.isnull().any()


def test_a_checkpoint_of_another_config_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    first = train(SMALL, checkpoint=file)
    assert train(SMALL, checkpoint=file).train_loss.identical(first.train_loss)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(SMALL.replace(weight_decay=1e-3), checkpoint=file)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(SMALL, checkpoint=file, measures=[Measure("square", (), mean_square)])
    with pytest.raises(CheckpointError, match="another configuration"):
        train(SMALL, checkpoint=file, initial_weights=torch.zeros(1, 3, 12, 5))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        train(SMALL, checkpoint=file)


def test_an_ensemble_that_does_not_fit_trains_in_parts(tmp_path):
    config = SMALL.replace(seed=tuple(range(1, 8)), weight_decay=(1e-3,) * 7)
    whole, file = train(config), tmp_path / "state.safetensors"
    memory = 25_000
    stopped = []

    def stop(weights):
        stopped.append(weights.shape[0])
        if len(stopped) == 20:
            raise KeyboardInterrupt
        return mean_square(weights)

    with pytest.raises(KeyboardInterrupt):
        train(config, checkpoint=file, max_memory=memory, measures=[Measure("square", (), stop)])
    finished = sorted(path.name for path in tmp_path.iterdir())
    assert len(finished) == 1
    stamp = (tmp_path / finished[0]).stat().st_mtime_ns
    parts = train(config, checkpoint=file, max_memory=memory, measures=[Measure("square", (), mean_square)])
    assert (tmp_path / finished[0]).stat().st_mtime_ns == stamp  # that part was not trained again
    assert len(list(tmp_path.iterdir())) > 2
    for name in [*METRICS, "weights"]:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-10)
    xr.testing.assert_equal(parts.coords.to_dataset(), whole.coords.to_dataset())
    assert parts.attrs["config"] == config.to_json()
    with pytest.raises(EnsembleError, match="one run needs"):
        train(config, max_memory=1000)


def test_the_dataset_is_labelled_and_can_be_saved(tmp_path):
    config = SMALL.replace(orders=(2, 2), seed=(1, 2), snapshot_epochs=(10,), epochs=35)
    measure = Measure("norms", ("part",), lambda weights: weights.square().sum((2, 3)))
    result = train(config, measures=[measure])
    assert dict(result.sizes) == {"run": 2, "epoch": 14, "snapshot": 2, "part": 3, "node": 12, "element": 4}
    assert result.epoch.values.tolist() == [*range(10), 10, 20, 30, 35]
    assert result.snapshot.values.tolist() == [10, 35]
    assert result.norms.dims == ("run", "epoch", "part")
    squares = (result.weights**2).sum(("node", "element"))
    np.testing.assert_allclose(squares, result.norms.sel(epoch=[10, 35]), rtol=1e-6)
    assert result.seed.values.tolist() == [1, 2]
    records.save(result, tmp_path / "result.nc")
    xr.testing.assert_identical(records.load(tmp_path / "result.nc", config), result)


def test_final_metrics_are_those_of_the_final_weights():
    config = SMALL.replace(seed=(1, 2), test_size=0.3)
    result, (_, masks) = train(config), _start(config)
    labels = AbelianGroup((5,)).addition_table()
    outputs = network.forward(torch.tensor(result.weights.values[:, -1]))
    held_out = ~torch.stack(masks)
    np.testing.assert_allclose(
        result.test_loss[:, -1], network.projected_mse(outputs, labels, held_out), atol=1e-12
    )
    np.testing.assert_allclose(result.test_accuracy[:, -1], network.accuracy(outputs, labels, held_out))


def test_progress_is_off_by_default_and_leaves_nothing(capsys):
    train(SMALL)
    assert capsys.readouterr() == ("", "")
    train(SMALL, progress=True)
    shown = capsys.readouterr().err
    assert "epoch/s" in shown
    assert shown.rsplit("\r", 1)[-1].strip() == ""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"orders": (1,)}, "orders"),
        ({"orders": ()}, "orders"),
        ({"test_size": 0.0}, "test_size"),
        ({"test_size": 1.0}, "test_size"),
        ({"orders": (2,), "test_size": 0.9}, "leaves none of 4 cells"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"weight_decay": (1e-4, -1e-4)}, "weight_decay"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"seed": (1, 2, 3), "weight_decay": (0.1, 0.2)}, "weight_decay has 2 values for 3 runs"),
        ({"seed": ()}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32, "rng": "published"}, "below 2"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": 10, "snapshot_epochs": (11,)}, "snapshot_epochs must lie within the 10 epochs"),
        ({"activation": "tanh"}, "activation"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"log_every": 0}, "log_every"),
        ({"momentum": 1.0}, "momentum"),
        ({"modulus": 23}, "unknown parameter 'modulus'"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(values, message):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"needs \(1, 3, 12, 5\)"):
        train(SMALL, initial_weights=torch.zeros(1, 3, 5, 12))
    with pytest.raises(ConfigError, match="one value of momentum"):
        grid(SMALL.replace(momentum=(0.1, 0.2)), seeds=(1, 2))
    with pytest.raises(ConfigError, match="at least one value of seed"):
        grid(SMALL, seeds=())


def test_grid_is_the_product():
    config = grid(SMALL.replace(learning_rate=0.002), seeds=(1, 2, 3), weight_decays=(0.1, 0.2))
    assert config.seed == (1, 2, 3, 1, 2, 3)
    assert config.weight_decay == (0.1, 0.1, 0.1, 0.2, 0.2, 0.2)
    assert config.learning_rate == (0.002,) * 6
    assert config.select([0, 4]).seed == (1, 2)


def test_presets():
    assert PRESETS["published"].seed == (1, 2, 3, 4, 5)
    assert set(PRESETS["published"].learning_rate) == {0.01}
    assert set(PRESETS["published"].weight_decay) == {5e-5}
    assert (PRESETS["figure3"].seed, PRESETS["figure3"].weight_decay) == ((5,), (1e-4,))
    assert (PRESETS["readme"].orders, PRESETS["readme"].learning_rate) == ((71,), (0.002,))
    assert {(p.hidden_size, p.epochs, p.rng) for p in PRESETS.values()} == {(512, 10_000, "published")}
