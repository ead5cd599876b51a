"""Training joint-embedding self-supervised networks: one trainer for all losses, many runs at once.

`train` takes an `SSLConfig`, whose per-run fields (loss, seed, learning rate, scales of the initial
parameters, …) make up the ``run`` axis, and pairs of views. Networks without batch normalisation train as one
batched program, runs of different losses among them; the others one after another.
"""

from __future__ import annotations

import itertools
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learndyn.core import ensemble, records
from learndyn.core.backbones import BackboneError, Network
from learndyn.core.device import pick_device, precision, tf32
from learndyn.core.errors import PlainError
from learndyn.core.pairs import PairSource
from learndyn.core.ssl_program import SSLProgram, initial_network
from learndyn.core.ssl_settings import SSLConfig, concatenate, geometric_steps

__all__ = [
    "SSLConfig",
    "SSLTrainingError",
    "Training",
    "concatenate",
    "geometric_steps",
    "initial_network",
    "train",
]


class SSLTrainingError(PlainError):
    """Pairs that do not fit the configuration, or a network that was not kept."""


@dataclass(frozen=True)
class Training:
    """What `train` returns.

    Attributes:
        log: Over (run, step): loss, effective_time; over (run, step, mode): correlation_eigenvalues (of C,
            centred where the loss is, see `learndyn.core.ssl_losses.SSLLoss.centred`) and
            covariance_eigenvalues (of all embeddings); over (run, step, hidden_mode):
            representation_eigenvalues, if asked for; over (run, snapshot, view, pair, dimension): embedding
            of the evaluation pairs; over run: status_code, status_step, status_sentence. The per-run fields
            of the configuration are coordinates, ``loss_name`` for the losses. NaN stands for a run that has
            diverged before.
        parameters: by name, ``[run, snapshot, ...]``, on the CPU.
        buffers: running statistics of batch normalisation, likewise.
    """

    config: SSLConfig
    log: xr.Dataset
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def network(self, run: int = 0, step: int | None = None) -> Network:
        """The network of a run at a kept step (by default the end), in train mode, on the CPU.

        Raises:
            SSLTrainingError: a run that is not there, a step that was not kept, a run that diverged before.
        """
        kept = self.config.kept_steps
        step = kept[-1] if step is None else step
        if step not in kept:
            asked = ", ".join(map(str, kept))
            raise SSLTrainingError(f"no network was kept at step {step}; kept are {asked}")
        if run not in range(self.config.runs):
            raise SSLTrainingError(f"there is no run {run}; the last one is {self.config.runs - 1}")
        place = kept.index(step)
        state = {n: t[run, place].clone() for n, t in (self.parameters | self.buffers).items()}
        if any(t.isnan().any() for t in state.values() if t.is_floating_point()):
            sentence = str(self.log.status_sentence[run].item())
            raise SSLTrainingError(f"run {run} has no network at step {step}: it {sentence}")
        network = initial_network(self.config, run)
        wanted = network.state_dict()
        network.load_state_dict({name: state[name] for name in wanted})
        return network


def train(
    config: SSLConfig,
    pairs: PairSource,
    *,
    device: str | torch.device = "cpu",
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 1000,
    progress: bool = False,
    max_memory: int | None = None,
    strict: bool = False,
) -> Training:
    """Train all runs of ``config`` on ``pairs`` and return what was logged.

    On pairs that are one and the same at every step, the evaluation pairs being these, the spectra are those
    of the training batch. Batch normalisation sees each view as one batch, also in the log, which leaves its
    running statistics alone.

    Args:
        pairs: views for each step; with a run axis of their own, one entry for each run of ``config``.
        device: "cpu", "cuda", "cuda:1" or "auto".
        checkpoint: a file to write every ``checkpoint_every`` steps, and to go on from if it is there. On the
            CPU the continued run is bit for bit the uninterrupted one. It stays when training is done, so
            that training again only reads it. Where the ensemble trains in parts, each has a file of its own.
        progress: show a bar with rate and time left; it leaves nothing behind.
        max_memory: bytes for the ensemble. If it needs more it trains in parts, one after another.
        strict: raise at the first run that diverges instead of going on without it.

    Raises:
        DeviceError, EnsembleError, CheckpointError, SSLTrainingError: in one sentence each.
    """
    started = time.perf_counter()
    target = pick_device(str(device))
    _fits(config, pairs)
    plan = _plan(config, pairs, max_memory)
    head_bias = any(config.head_bias)
    parts = []
    with ExitStack() as stack:
        _precision(stack, allowed=config.autocast == "bfloat16")
        bar = stack.enter_context(ensemble.progress_bar(config.steps * len(plan), show=progress))
        for chunk in plan:
            chosen = pairs if pairs.runs is None else pairs.select(chunk)
            program = SSLProgram(config.select(chunk), chosen, target, head_bias=head_bias, strict=strict)
            ensemble.drive(
                program,
                steps=config.steps,
                logged={*config.logged_steps},
                checkpoint=ensemble.chunk_path(checkpoint, chunk, config.runs),
                checkpoint_every=checkpoint_every,
                identity=_identity(program.config, pairs, chunk),
                bar=bar,
            )
            parts.append(_Part(program))
    log = ensemble.join([part.log for part in parts])
    log = log.assign_attrs(records.provenance(config, target, time.perf_counter() - started))
    log.attrs["pairs"] = pairs.identity
    names = parts[0].snapshots
    kept = {name: torch.cat([part.snapshots[name] for part in parts]) for name in names}
    return Training(config, log, ensemble.part_of(kept, "parameter"), ensemble.part_of(kept, "buffer"))


def _precision(stack: ExitStack, *, allowed: bool) -> None:
    """TF32 in matrix products and convolutions, or not; while the stack is open."""
    stack.enter_context(tf32(allowed))
    if torch.cuda.is_available():
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=allowed))


def _fits(config: SSLConfig, pairs: PairSource) -> None:
    """Whether the pairs have the runs of the config, and views that the network takes."""
    if pairs.runs not in (None, config.runs):
        raise SSLTrainingError(
            f"the pairs are for {pairs.runs} runs and the configuration has {config.runs}; "
            f"give pairs for each of them, or shared ones"
        )
    view, _ = pairs.evaluation()
    sample = view[0] if pairs.runs is not None else view
    network = initial_network(config, 0).eval()
    try:
        with torch.no_grad():
            network(sample[:2].to("cpu", precision(config.dtype)))
    except (BackboneError, RuntimeError) as error:
        shape = " × ".join(map(str, sample.shape[1:]))
        reason = str(error).splitlines()[0]
        raise SSLTrainingError(
            f"views of shape {shape} do not fit the network {config.network.kind!r}: {reason}"
        ) from None


def _plan(config: SSLConfig, pairs: PairSource, max_memory: int | None) -> list[range]:
    """Which runs train together."""
    if not config.network.vectorises:
        return [range(run, run + 1) for run in range(config.runs)]
    if max_memory is None:
        return [range(config.runs)]
    return ensemble.chunks(config.runs, _bytes_per_run(config, pairs), max_memory)


def _bytes_per_run(config: SSLConfig, pairs: PairSource) -> int:
    """Weights, gradients, moments, snapshots; twice the outputs of all layers for the views of one step."""
    network = initial_network(config, 0, head_bias=any(config.head_bias))
    numbers = (5 + len(config.kept_steps)) * sum(p.numel() for p in network.parameters())
    outputs = []
    for module in network.modules():
        if not any(module.children()):
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.numel()))
    view, _ = pairs.batch(0)
    sample = view[0] if pairs.runs is not None else view
    with torch.no_grad():
        network(sample[:2].to("cpu", precision(config.dtype)))
    numbers += 2 * sum(outputs) * sample.shape[0]  # two samples were seen of a batch of two views
    return precision(config.dtype).itemsize * numbers


def _identity(config: SSLConfig, pairs: PairSource, chunk: range) -> str:
    runs = None if pairs.runs is None else [chunk.start, chunk.stop]
    parts = {"config": config.model_dump(mode="json"), "pairs": pairs.identity, "runs": runs}
    return json.dumps(parts, sort_keys=True)


class _Part:
    """What remains of a program that has come to its end: its log, labelled, and its snapshots."""

    def __init__(self, program: SSLProgram) -> None:
        self.snapshots = {n: t for n, t in program.snapshots.items() if n != "embedding"}
        config = program.config
        values = {name: value.cpu().numpy() for name, value in program.log.values.items()}
        dims = {"loss": (), "representation_eigenvalues": ("hidden_mode",)}
        variables = {
            name: (("run", "step", *dims.get(name, ("mode",))), value) for name, value in values.items()
        }
        variables["effective_time"] = (("run", "step"), _effective_time(config))
        variables["embedding"] = (
            ("run", "snapshot", "view", "pair", "dimension"),
            program.snapshots["embedding"].numpy(),
        )
        variables |= program.statuses.variables()
        coords = {name: ("run", np.array(getattr(config, name))) for name in config.PER_RUN if name != "loss"}
        coords["loss_name"] = ("run", np.array([loss.kind for loss in config.loss]))
        coords |= {"step": list(config.logged_steps), "snapshot": list(config.kept_steps)}
        self.log = xr.Dataset(variables, coords | {"view": ["a", "b"]})


def _effective_time(config: SSLConfig) -> np.ndarray:
    """Sum of the learning rates of all steps before, ``[run, step]``: learning_rate · step if constant."""
    factors = [config.rate_factor(step) for step in range(config.steps)]
    sums = np.array([0.0, *itertools.accumulate(factors)])[list(config.logged_steps)]
    return np.array(config.learning_rate)[:, None] * sums
