"""Section ensemble: 45 MLPs, three losses × five init scales × three seeds, as one program."""

from __future__ import annotations

from functools import partial

import torch
from timing import Options, Spread, Work, clock, heading, interleave, note, verdict
from usual_ssl_trainer import Loss, UsualSSLTrainer, barlow_twins, nt_xent, vicreg

from learndyn.core.backbones import MLPConfig
from learndyn.core.pairs import FixedPairs, PairSource
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss, NTXentLoss, SSLLoss, VICRegLoss
from learndyn.core.ssl_program import SSLProgram, initial_network
from learndyn.core.ssl_settings import SSLConfig, concatenate
from learndyn.core.ssl_training import train
from learndyn.ssl_dynamics.stepwise import presets

SCALES = (1.0, 0.5, 0.3, 0.2, 0.1)
NAMES = {"barlow_twins": "Barlow Twins", "vicreg": "VICReg", "simclr": "SimCLR"}


def configuration(seeds: tuple[int, ...], hidden: int = 256, **changes: object) -> SSLConfig:
    """The ensemble, losses slowest, seeds fastest, with the learning rates of the chapter's presets."""
    network = MLPConfig(inputs=64, hidden=(hidden,), dimensions=8)
    return concatenate(
        [
            presets.mlp(loss, seeds, scale, **{"network": network, "steps": 3000} | changes)
            for loss in presets.LOSSES
            for scale in SCALES
        ]
    )


def program(config: SSLConfig, pairs: PairSource) -> SSLProgram:
    """The library's trainer before its first step; `learndyn.core.ssl_training.train` drives the same."""
    return SSLProgram(config, pairs, torch.device("cpu"), head_bias=any(config.head_bias), strict=True)


def alone(config: SSLConfig, pairs: FixedPairs, run: int) -> SSLProgram:
    """The library's trainer of one run by itself."""
    return program(config.select([run]), pairs if pairs.runs is None else pairs.select([run]))


def usual(config: SSLConfig, pairs: FixedPairs, run: int) -> UsualSSLTrainer:
    """The usual trainer of one run, from the same weights."""
    network = initial_network(config, run)
    body = next(network.body.parameters()).detach()
    last = network.last
    bias = None if last.bias is None else last.bias.detach()
    views = tuple(view if pairs.runs is None else view[run] for view in pairs.batch(0))
    return UsualSSLTrainer(
        (body, last.weight.detach()),
        bias,
        tuple(view.to(body.dtype) for view in views),
        usual_loss(config.loss[run]),
        config.learning_rate[run],
    )


def usual_loss(loss: SSLLoss) -> Loss:
    """The loss as the usual trainer has it."""
    if isinstance(loss, NTXentLoss):
        return partial(nt_xent, temperature=loss.temperature)
    if isinstance(loss, VICRegLoss):
        weights = loss.invariance_weight, loss.variance_weight, loss.covariance_weight
        return partial(vicreg, **dict(zip(("invariance", "variance", "covariance"), weights, strict=True)))
    if loss == BarlowTwinsTheoryLoss():
        return barlow_twins
    raise ValueError(f"the usual trainer has no {loss!r}")


def products(config: SSLConfig, pairs: int) -> float:
    """Operations of the matrix products of one step of all runs.

    A hidden layer's weights see the views forward and their gradient; the last layer's also hand the gradient
    down. NT-Xent has the products of all embeddings with each other, and one of twice the width backward.
    """
    network, samples = config.network, 2 * pairs
    (hidden,), d = network.hidden, network.dimensions
    layers = 2.0 * samples * (2 * network.inputs * hidden + 3 * hidden * d)
    logits = 2.0 * samples**2 * 3 * d
    return sum(layers + (logits if isinstance(loss, NTXentLoss) else 0.0) for loss in config.loss)


def ensemble(options: Options) -> None:
    """45 runs as one program, against one run at a time."""
    seeds, hidden, number = ((0,), 16, 10) if options.quick else ((0, 1, 2), 256, 100)
    config = configuration(seeds, hidden)
    heading(
        "ensemble",
        f"{config.runs} MLPs (losses × init scales × seeds) as one program, 64 → {hidden} → 8, "
        f"{number} pairs, full batch, float32",
    )
    pairs = presets.mlp_pairs(config.seed, number)
    _all_runs(config, pairs, "digits drawn by each run's seed", options)
    _all_runs(config, presets.mlp_pairs((0,), number), "the same digits for all runs", options)
    _by_loss(config, pairs, options)
    _memory(config, number)
    if options.full:
        _whole(config, pairs, options)


def _all_runs(config: SSLConfig, pairs: FixedPairs, data: str, options: Options) -> None:
    """A step of all runs, without and with the log, each run by itself, and the usual trainers."""
    together = program(config, pairs)
    singles = [alone(config, pairs, run) for run in range(config.runs)]
    trainers = [usual(config, pairs, run) for run in range(config.runs)]
    calls = {
        "one program": lambda: together.advance(1, logged=False),
        "one program, logged": lambda: together.advance(1, logged=True),
        "one by one": lambda: [single.advance(1, logged=False) for single in singles],
        "usual trainers": lambda: [trainer.step() for trainer in trainers],
    }
    timings = interleave(calls, options)
    if not all(t.isfinite().all() for t in together.networks.parameters.values()):
        raise RuntimeError("the ensemble diverged, so that its times mean nothing")
    work = Work(products(config, pairs.pairs), 0.0).operations
    note(f"{data}; a step of all {config.runs} runs:")
    for name in calls:
        multiple = timings.floor_multiple(name, work).median
        note(
            f"  {name:<20} {Spread.of(1e3 * timings.seconds[name])} ms, {multiple:.3g} × floor of {work:.3g} "
            "operations in products"
        )
    target = 3 if pairs.runs is not None else None
    verdict(
        "usual trainers one by one / one program",
        timings.ratio("usual trainers", "one program"),
        at_least=target,
    )
    verdict(
        "our trainer one by one / one program", timings.ratio("one by one", "one program"), at_least=target
    )
    extra = timings["one program, logged"].median - timings["one program"].median
    logged = len(config.logged_steps)
    share = extra * logged / (timings["one program"].median * config.steps)
    note(f"a logged step takes {1e3 * extra:.3g} ms more; {logged} of {config.steps} steps are: {share:.1%}")


def _by_loss(config: SSLConfig, pairs: FixedPairs, options: Options) -> None:
    """The runs of each loss by themselves."""
    runs = config.runs // len(presets.LOSSES)
    calls, works = {}, {}
    for place, name in enumerate(NAMES.values()):
        chunk = range(place * runs, (place + 1) * runs)
        part = program(config.select(chunk), pairs if pairs.runs is None else pairs.select(chunk))
        trainers = [usual(config, pairs, run) for run in chunk]
        calls[f"{name}, one program"] = lambda part=part: part.advance(1, logged=False)
        calls[f"{name}, usual"] = lambda trainers=trainers: [trainer.step() for trainer in trainers]
        works[name] = products(config.select(chunk), pairs.pairs)
    timings = interleave(calls, options)
    note(f"a step of the {runs} runs of a loss: one program, usual trainers one by one")
    for name, work in works.items():
        ours, theirs = f"{name}, one program", f"{name}, usual"
        multiple = timings.floor_multiple(ours, work).median
        note(
            f"  {name:<13} {1e3 * timings[ours].median:8.3g} ms, {multiple:.3g} × floor; "
            f"{1e3 * timings[theirs].median:8.3g} ms; ratio {timings.ratio(theirs, ours)}"
        )


def _memory(config: SSLConfig, pairs: int) -> None:
    """Counted from the shapes, not measured."""
    network, samples = config.network, 2 * pairs
    hidden = network.hidden[0]
    weights = config.runs * hidden * (network.inputs + network.dimensions)
    contrasts = sum(isinstance(loss, NTXentLoss) for loss in config.loss) * samples**2
    parts = {
        "weights": weights,
        "hidden layer": config.runs * hidden * samples,
        "NT-Xent's logits": contrasts,
    }
    listed = ", ".join(f"{name} {4 * count / 2**20:.3g} MiB" for name, count in parts.items())
    note(f"memory of the ensemble, counted: {listed}; gradients as much as weights")


def _whole(config: SSLConfig, pairs: FixedPairs, options: Options) -> None:
    """Both from the first to the last step."""
    results = []
    ours = clock(lambda: results.append(train(config, pairs)))
    trainers = [usual(config, pairs, run) for run in range(config.runs)]
    theirs = clock(lambda: [trainer.step() for trainer in trainers for _ in range(config.steps)])
    wanted = torch.stack([trainer.step() for trainer in trainers]).double()
    found = torch.as_tensor(results[0].log.loss.values[:, -1]).double()
    gap = float(((found - wanted).abs() / wanted.abs().clamp(min=1e-3)).median())
    note(f"{config.steps} steps: ours {ours:.1f} s with log, usual trainers {theirs:.1f} s without")
    verdict("whole trainings, usual / ours", Spread(*[theirs / ours] * 3), at_least=3)
    note(f"final losses differ by {gap:.1e} relatively (median over the runs)")
