"""Training Transformer language models on a text, many runs at once.

`train` takes a `TextConfig`, whose per-run fields (seed, learning rate, dropout, …) make up the ``run`` axis,
and `core.text.LanguageData`, and returns one labelled dataset: losses, attention entropies, attention maps.
All runs read the same batches and train as one batched program.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from learndyn.core import ensemble, records
from learndyn.core.device import pick_device, precision, tf32
from learndyn.core.errors import PlainError
from learndyn.core.text import LanguageData
from learndyn.core.text_program import Measure, TextProgram
from learndyn.core.text_settings import TextConfig

__all__ = ["Measure", "TextConfig", "TextTrainingError", "train", "uniform_causal_entropy"]


class TextTrainingError(PlainError):
    """A text that does not fit the configuration."""


def uniform_causal_entropy(length: int) -> float:
    """Mean entropy, in nats, of the rows of uniform causal attention: ln(T!)/T, 2.632 for T = 35."""
    return float(np.log(np.arange(1, length + 1)).mean())


def train(
    config: TextConfig,
    data: LanguageData,
    *,
    device: str | torch.device = "cpu",
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 1000,
    measures: Sequence[Measure] = (),
    progress: bool = False,
    max_memory: int | None = None,
    strict: bool = False,
) -> xr.Dataset:
    """Train all runs of ``config`` as one batched program and return what was logged.

    Batches are consecutive windows of all columns of the training text, the last one of a pass shorter; then
    it begins anew.

    Args:
        data: the text; its columns are the batch.
        device: "cpu", "cuda", "cuda:1" or "auto".
        checkpoint: a file to write every ``checkpoint_every`` steps, and to go on from if it is there. On the
            CPU the continued run is bit for bit the uninterrupted one. It stays when training is done, so
            that training again only reads it.
        measures: further quantities to log at evaluations, functions of the parameters.
        progress: show a bar with rate and time left; it leaves nothing behind.
        max_memory: bytes for the ensemble. If it needs more it trains in parts, one after another, each with
            a checkpoint of its own.
        strict: raise at the first run that diverges instead of going on without it.

    Returns:
        Over (run, step): train_loss, of the minibatch, with dropout; over (run, evaluation): validation_loss
        (mean over tokens), the measures, and with layer attention_entropy (nats, mean over query rows, heads
        and windows of full length); over (run, snapshot, layer, head, query_position, key_position): maps;
        over run: status_code, status_step, status_sentence. ``evaluation`` and ``snapshot`` are steps. NaN
        stands for a run that has diverged before. What was not asked for is not there.

    Raises:
        TextTrainingError: the text has not the windows that the configuration names.
        DeviceError, EnsembleError, CheckpointError: in one sentence each.
    """
    started = time.perf_counter()
    target = pick_device(str(device))
    _fits(config, data)
    plan = ensemble.chunks(config.runs, _bytes_per_run(config, data), max_memory)
    parts = []
    allowed = tf32(config.autocast != "none")
    with allowed, ensemble.progress_bar(config.steps * len(plan), show=progress) as bar:
        for chunk in plan:
            program = TextProgram(config.select(chunk), data, target, measures, strict=strict)
            ensemble.drive(
                program,
                steps=config.steps,
                logged=config.logged_steps,
                checkpoint=ensemble.chunk_path(checkpoint, chunk, config.runs),
                checkpoint_every=checkpoint_every,
                identity=_identity(program.config, data, measures),
                bar=bar,
            )
            parts.append(_dataset(program))
    return ensemble.join(parts).assign_attrs(
        records.provenance(config, target, time.perf_counter() - started)
        | {"text": data.name, "text_sha256": data.identity, "vocabulary": len(data.vocabulary)}
    )


def _fits(config: TextConfig, data: LanguageData) -> None:
    """Whether the text has the windows that the configuration names."""
    length = config.window_length
    for name, stream in (("training", data.train), ("validation", data.validation)):
        positions = stream.ids.shape[1]
        if positions <= length:
            raise TextTrainingError(
                f"the {name} text of {data.name} has {positions} positions in each column, too few for "
                f"windows of {length} and the next token; take fewer columns or a longer text"
            )
        top = int(stream.ids.max())
        if top >= len(data.vocabulary) or int(stream.ids.min()) < 0:
            raise TextTrainingError(
                f"the {name} text of {data.name} has token {top}, but its vocabulary ends at "
                f"{len(data.vocabulary) - 1}"
            )
    whole = data.train.windows(length, drop_short=True)
    if config.snapshot_steps and config.map_window >= whole:
        raise TextTrainingError(
            f"TextConfig.map_window = {config.map_window}: the training text of {data.name} has the "
            f"windows 0 to {whole - 1} of {length} positions"
        )
    whole = data.validation.windows(length, drop_short=True)
    if config.validation_windows and max(config.validation_windows) >= whole:
        raise TextTrainingError(
            f"TextConfig.validation_windows names {max(config.validation_windows)}, but the validation text "
            f"of {data.name} has the windows 0 to {whole - 1} of {length} positions"
        )


def _bytes_per_run(config: TextConfig, data: LanguageData) -> int:
    """Weights, gradients, moments and scratch; the activations of one step, forward and back."""
    d, m, layers = config.width, config.hidden_size, config.layers
    tokens = data.train.columns * config.window_length
    weights = 2 * len(data.vocabulary) * d + layers * (4 * d * d + 2 * d * m)
    activations = tokens * (d + layers * (16 * d + 4 * m + 6 * config.heads * config.window_length))
    maps = len(config.snapshot_steps) * layers * config.heads * config.window_length**2
    return precision(config.dtype).itemsize * (5 * weights + 2 * activations + maps)


def _identity(config: TextConfig, data: LanguageData, measures: Sequence[Measure]) -> str:
    parts = {
        "config": config.model_dump(mode="json"),
        "text": data.identity,
        "measures": [measure.name for measure in measures],
    }
    return json.dumps(parts, sort_keys=True)


def _dataset(program: TextProgram) -> xr.Dataset:
    """Everything a program holds at its end, labelled."""
    config = program.config
    dims = {
        "train_loss": ("run", "step"),
        "validation_loss": ("run", "evaluation"),
        "attention_entropy": ("run", "evaluation", "layer"),
        "maps": ("run", "snapshot", "layer", "head", "query_position", "key_position"),
    }
    dims |= {measure.name: ("run", "evaluation", *measure.dims) for measure in program.measures}
    values = program.log.values | program.evaluations.values | program.maps.values
    variables = {name: (dims[name], value.cpu().numpy()) for name, value in values.items()}
    variables |= program.statuses.variables()
    coords = {name: ("run", np.array(getattr(config, name))) for name in config.PER_RUN}
    coords |= {"step": list(config.logged_steps)}
    if config.evaluation_steps:
        coords |= {"evaluation": list(config.evaluation_steps), "layer": np.arange(config.layers)}
    if config.snapshot_steps:
        coords |= {"snapshot": list(config.snapshot_steps), "layer": np.arange(config.layers)}
    return xr.Dataset(variables, coords)
