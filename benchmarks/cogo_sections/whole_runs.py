"""Sections run and ensemble: trainings from the first epoch to the last, with compaction."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import torch
from cogo_sections.common import advance, fewest_operations, program, usual
from timing import PEAK, Options, Spread, clock, heading, interleave, note, verdict

from learndyn.cogo_li2 import factoriser, published
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings import TrainConfig, grid
from learndyn.cogo_li2.training import Measure, train

EPOCHS = 10_000


def run(options: Options) -> None:
    """A whole run against the usual trainer, extrapolated from 200 epochs of it."""
    epochs = 300 if options.quick else EPOCHS
    heading("run", f"a whole run of {epochs} epochs with compaction, published random numbers")
    cases = ((7, 32, 1, 1e-3),) if options.quick else ((23, 512, 5, 1e-4), (71, 512, 1, 5e-5))
    for d, q, seed, weight_decay in cases:
        config = TrainConfig(
            orders=(d,), hidden_size=q, seed=seed, weight_decay=weight_decay, rng="published", epochs=epochs
        )
        _whole_run(config, options)


def _whole_run(config: TrainConfig, options: Options) -> None:
    d, q, epochs = config.size, config.hidden_size, config.epochs
    note(f"d = {d}, q = {q}, seed {config.seed[0]}, weight decay {config.weight_decay[0]:g}:")
    baseline, rounds, results = usual(config), 2 if options.quick else 5, []

    def ours() -> None:
        width = Measure("width", (), lambda weights: weights.new_full((weights.shape[0],), weights.shape[2]))
        results.append(train(config, measures=[width]))

    # 100 epochs of the usual trainer before our run and 100 after it: the machine may change in between.
    sampled = {"usual": baseline.epoch}
    before = interleave(sampled, options, rounds=rounds, repeats=2 if options.quick else 20)
    seconds = clock(ours)
    after = interleave(sampled, options, rounds=rounds, repeats=2 if options.quick else 20)
    per_epoch = np.concatenate([part.seconds["usual"] for part in (before, after)])
    width = results[0].width.isel(run=0)
    logged = width.epoch.values
    operations = sum(
        (stop - start) * fewest_operations(config, int(nodes))
        for start, stop, nodes in zip(logged[:-1], logged[1:], width.values[:-1], strict=True)
    )
    peak = np.concatenate([part.peak_operations / part.seconds[PEAK] for part in (before, after)])
    note(f"  ours {seconds:.1f} s, {len(logged)} epochs logged, {int(width[-1])} nodes carried at the end")
    note(
        f"  operations in the cheaper form at each width {operations:.3g}: "
        f"{seconds * np.median(peak) / operations:.3g} × floor at {np.median(peak) / 1e9:.0f} GFLOP/s"
    )
    note(f"  usual trainer, every epoch evaluated: {Spread.of(1e3 * per_epoch)} ms per epoch")
    verdict(
        f"  usual trainer (extrapolated to {epochs} epochs) / ours, d = {d}",
        Spread.of(per_epoch * epochs / seconds),
        at_least=8,
    )
    orders = _orders(torch.from_numpy(results[0].weights.values[0, -1]))
    _compare_orders(config, orders)
    if options.full:
        baseline = usual(config)
        took = clock(baseline.epoch, epochs)
        theirs = _orders(baseline.weights)
        note(f"  usual trainer in full: {took * epochs:.0f} s, ratio {took * epochs / seconds:.3g}")
        note(f"  its final orders {'are the same' if theirs == orders else f'differ: {theirs}'}")


def _orders(weights: torch.Tensor) -> list[int]:
    group = AbelianGroup((weights.shape[-1],))
    return factoriser.orders_by_amplitude(group.to_spectrum(weights), group.half().characters).tolist()


def _compare_orders(config: TrainConfig, orders: list[int]) -> None:
    """Against the published run of the same seed, or the published pool of five seeds."""
    known = published.final_runs()
    known = known[(known["d"] == config.size) & (known["hidden_size"] == config.hidden_size)]
    same_seed = (known["seed"] == config.seed[0]) & np.isclose(known["weight_decay"], config.weight_decay[0])
    if same_seed.any():
        reference = list(known[same_seed]["orders"].iloc[0])
        agree = "the same as" if reference == orders else f"not the same as {reference} of"
        note(f"  final orders {' '.join(map(str, orders))}: {agree} the reference run of this seed")
        return
    note(f"  final orders, counted: {dict(sorted(Counter(orders).items()))}")
    try:
        pool = published.order_counts(config.size, config.weight_decay[0], config.hidden_size)
    except KeyError:
        return
    note(f"  published for five seeds together: {pool}; --full compares with the usual trainer")


def ensemble(options: Options) -> None:
    """25 runs as one program, against the same runs one after another."""
    d, q, epochs = (7, 16, 200) if options.quick else (23, 256, EPOCHS)
    seeds, decays = ((1, 2), (1e-3, 3e-3)) if options.quick else (range(1, 6), (1e-5, 5e-5, 1e-4, 2e-4, 5e-4))
    base = TrainConfig(orders=(d,), hidden_size=q, epochs=epochs, log_dense=0, log_every=100)
    config = grid(base, seeds=list(seeds), weight_decays=list(decays))
    heading("ensemble", f"{config.runs} runs (seeds × weight decays) as one program, d = {d}, q = {q}")
    _full_width(config, options)
    _with_compaction(config, options)


def _full_width(config: TrainConfig, options: Options) -> None:
    runs, slice_ = config.runs, 4 if options.quick else 20
    together, alone = program(config), [program(config.select([r])) for r in range(runs)]
    trainers = [usual(config, r) for r in range(runs)]
    calls = {
        "one program": lambda: advance(together, 1, 1 + slice_),
        "one by one": lambda: [advance(trainer, 1, 1 + slice_) for trainer in alone],
        "usual trainers": lambda: [trainer.epoch() for trainer in trainers],
    }
    timings = interleave(calls, options, rounds=2 if options.quick else 5, repeats=1)
    operations = runs * fewest_operations(config, config.hidden_size)
    note(f"all {config.hidden_size} nodes, {5 * slice_} epochs; per epoch of all {runs} runs:")
    for name in calls:
        scale = 1.0 if name == "usual trainers" else 1 / slice_
        spread = Spread.of(1e3 * scale * timings.seconds[name])
        floor = timings.floor_multiple(name, operations / scale).median
        note(f"  {name:<16} {spread} ms, {floor:.3g} × floor of {operations:.3g} operations")
    verdict("one by one / one program", timings.ratio("one by one", "one program"), at_least=3)
    ratio = timings.ratio("usual trainers", "one program", slice_)
    verdict("usual trainers one by one / one program", ratio, at_least=3)


def _with_compaction(config: TrainConfig, options: Options) -> None:
    """Both from the first to the last epoch, in alternating slices."""
    runs, epochs = config.runs, config.epochs
    together, alone = program(config), [program(config.select([r])) for r in range(runs)]
    edges = [0, 100, *range(1000 if epochs > 1000 else 200, epochs + 1, 1000)]
    note(f"with compaction, {epochs} epochs, slices in turn; seconds: one program, one by one, nodes carried")
    totals = np.zeros(2)
    first = 0.0
    for start, stop in itertools.pairwise(edges):
        batched = clock(lambda start=start, stop=stop: advance(together, start, stop))
        single = clock(lambda start=start, stop=stop: [advance(one, start, stop) for one in alone])
        first = first or batched
        totals += batched, single
        carried = np.mean([one.weights.shape[-1] for one in alone])
        note(
            f"  epochs {start:>5}–{stop:<5} {batched:7.2f} {single:7.2f}   ratio {single / batched:.2f}   "
            f"nodes {together.weights.shape[-1]} together, {carried:.0f} on average alone"
        )
    ratio = float(totals[1] / totals[0])
    verdict(f"{epochs} epochs, one by one / one program", Spread(ratio, ratio, ratio), at_least=3)
    without = first * epochs / edges[1]
    note(
        f"gain of compaction in the ensemble: ratio {without / totals[0]:.2f} "
        f"({without:.0f} s without, extrapolated from epochs 0–{edges[1]})"
    )
    slice_ = 2 if options.quick else 40
    usual_seconds = clock(usual(config).epoch, slice_) * runs * epochs
    ratio = usual_seconds / totals[0]
    verdict(
        f"{runs} usual trainers (extrapolated from {slice_} epochs of one) / one program with compaction",
        Spread(ratio, ratio, ratio),
    )
