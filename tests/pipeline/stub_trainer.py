"""A trainer of no weight for the tests of sweeps: a seeded recursion that keeps a diary of every epoch it
computes.

The diary (SWEEP_DIARY), the time per epoch (SWEEP_SECONDS), a width that crashes (SWEEP_CRASH) and a folder
that lets one group pass its middle and holds the others there (SWEEP_HOLD) come from the environment, since a
sweep trains in other processes.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import xarray as xr
from pydantic import Field

from learndyn.core import records
from learndyn.core.config import Config, OneOrMany


class TrainConfig(Config):
    orders: tuple[int, ...] = (5,)
    hidden_size: int = Field(4, ge=1)
    weight_decay: OneOrMany[float] = (1e-4,)
    seed: OneOrMany[int] = (1,)
    epochs: int = 10

    def __init__(self, **values):
        super().__init__(**values)
        from learndyn.core.config import ConfigError

        if min(self.orders) < 2:
            raise ConfigError(f"TrainConfig.orders = {self.orders}: each order must be at least 2")
        if min(self.weight_decay) < 0:
            raise ConfigError(f"TrainConfig.weight_decay = {self.weight_decay}: must be at least 0")


def train(config, *, device="cpu", checkpoint=None, checkpoint_every=1000, progress=False):
    if os.environ.get("SWEEP_CRASH") == str(config.hidden_size):
        raise RuntimeError("the stub was told to crash")
    columns = np.broadcast_arrays(np.asarray(config.weight_decay), np.asarray(config.seed))
    decay, seed = (np.atleast_1d(column) for column in columns)
    start, state, history = 0, seed / 10.0, []
    if checkpoint is not None and Path(checkpoint).exists():
        saved = json.loads(Path(checkpoint).read_text())
        start, state, history = saved["epoch"], np.asarray(saved["state"]), saved["history"]
    for epoch in range(start, config.epochs):
        _note(config, epoch)
        time.sleep(float(os.environ.get("SWEEP_SECONDS", 0)))
        if epoch == 12:
            _hold()
        history.append(state.tolist())
        state = np.cos(state * config.hidden_size + sum(config.orders)) * (1 - decay)
        if checkpoint is not None and (epoch + 1) % checkpoint_every == 0:
            temporary = Path(f"{checkpoint}.new")
            temporary.write_text(
                json.dumps({"epoch": epoch + 1, "state": state.tolist(), "history": history})
            )
            temporary.replace(checkpoint)
    code = (seed == 13).astype(np.int8)
    return xr.Dataset(
        {
            "loss": (("run", "epoch"), np.asarray(history).T),
            "order": (("run", "frequency"), np.full((len(seed), config.orders[0] // 2), config.hidden_size)),
            "status_code": ("run", code),
            "status_sentence": ("run", np.where(code, "diverged at epoch 3", "")),
        },
        coords={
            "seed": ("run", seed),
            "weight_decay": ("run", decay),
            "epoch": np.arange(config.epochs),
            "frequency": np.arange(1, config.orders[0] // 2 + 1),
        },
        attrs=records.provenance(config, device, 0.5),
    )


def _note(config, epoch):
    if diary := os.environ.get("SWEEP_DIARY"):
        line = json.dumps([config.orders, config.hidden_size, config.seed, config.weight_decay, epoch])
        with open(diary, "a") as file:  # one short write in append mode is not torn
            file.write(line + "\n")


def _hold():
    if folder := os.environ.get("SWEEP_HOLD"):
        try:
            os.mkdir(folder)
        except FileExistsError:
            time.sleep(3600)  # until it is killed


def halve(dataset):
    return dataset.isel(epoch=slice(None, None, 2))
