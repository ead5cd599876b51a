"""Sections grid and grid_scaling: the 640 runs of Figure 6 as one program, against one-hot runs in turn."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from cogo_sections.analysis import peak_memory
from timing import PEAK, Options, Spread, Work, clock, heading, interleave, note, table, verdict
from usual_one_hot import UsualOneHotTrainer, sequence_classes

from learndyn.scan_snap.program import CountProgram
from learndyn.scan_snap.task import TaskConfig, syn_medium
from learndyn.scan_snap.training import PRESETS, TrainConfig, grid, train

VARIANTS = {"plain": False, "careful": True}
CELL = {"attention_rate": 1.0, "rate_ratio": 2.0, "seed": 1}
"""The cell of each task whose one-hot runs are timed: the cost depends on the task alone."""


def configuration(options: Options) -> TrainConfig:
    """Figure 6 with 10 seeds: 4 tasks × 4 rates × 4 ratios."""
    if not options.quick:
        return PRESETS["figure_6"]
    tasks = [syn_medium(1), syn_medium(2)]
    base = PRESETS["figure_6"].replace(task=0, seed=1, attention_rate=1, rate_ratio=2, steps=4)
    return grid(base, tasks=tasks, rate_ratios=(1, 2), seeds=(1, 2))


def step_work(task: TaskConfig, batch_size: int) -> Work:
    """A step of one run, from given counts.

    For each sample: the logits of its S tokens, the gradient of Y and the signal that comes back to the
    tokens, 2SM each, and a softmax, 5M. Then the heavy ball: 4 for each entry of Y that moves. Y and its
    velocity in and out.
    """
    size, support = task.vocabulary, task.support
    moving = (task.common + task.queries * task.common_per_query + task.classes * task.distinct) * size
    return Work(batch_size * (6.0 * support + 5) * size + 4 * moving, 4 * 4.0 * moving)


def total_work(config: TrainConfig) -> Work:
    """All steps of all runs."""
    works = [step_work(config.tasks[task], config.batch_size) for task in config.task]
    return Work(
        config.steps * sum(work.operations for work in works), config.steps * sum(w.bytes for w in works)
    )


def usual(config: TrainConfig, task: TaskConfig, *, careful: bool) -> UsualOneHotTrainer:
    """The one-hot run of a task in the cell that is timed."""
    classes, vocabulary = sequence_classes(
        task.queries, task.next_per_query, task.common, task.common_per_query, task.distinct
    )
    rest = {"length": task.sequence_length, "batch_size": config.batch_size, "momentum": config.momentum}
    return UsualOneHotTrainer(classes, vocabulary, careful=careful, **CELL, **rest)


def grid_section(options: Options) -> None:
    """The whole grid; the one-hot runs are timed before it and after it, and extrapolated."""
    config = configuration(options)
    shape = f"{len(config.tasks)} tasks, M up to {max(task.vocabulary for task in config.tasks)}"
    heading("grid", f"Figure 6 with 10 seeds: {config.runs} runs × {config.steps} steps, {shape}, float32")
    calls = {
        _name(variant, task): usual(config, task, careful=careful).step
        for variant, careful in VARIANTS.items()
        for task in config.tasks
    }
    rounds, repeats = (1, 1) if options.quick else (3, 4)
    before = interleave(calls, options, rounds=rounds, repeats=repeats)
    results = {}
    seconds = {
        rng: clock(lambda rng=rng: results.update({rng: train(config.replace(rng=rng))}))
        for rng in ("vectorised", "published")
    }
    after = interleave(calls, options, rounds=rounds, repeats=repeats)
    steps = {
        name: np.concatenate([part.seconds[name] for part in (before, after)]) for name in (*calls, PEAK)
    }
    peak = before.peak_operations / float(np.median(steps[PEAK]))
    _our_times(config, seconds, peak)
    runs = {task: config.task.count(place) for place, task in enumerate(config.tasks)}
    for variant in VARIANTS:
        per_step = {task: Spread.of(1e3 * steps[_name(variant, task)]) for task in config.tasks}
        note(
            f"a step of one run, one-hot, {variant}, in ms: "
            + ", ".join(f"M = {task.vocabulary}: {spread}" for task, spread in per_step.items())
        )
        whole = config.steps * sum(runs[task] * steps[_name(variant, task)] for task in config.tasks)
        note(f"  all {config.runs} runs one after another, extrapolated: {Spread.of(whole)} s")
        verdict(
            f"  one-hot runs, {variant} / one program",
            Spread.of(whole / seconds["vectorised"]),
            at_least=10 if variant == "plain" else None,
        )
    _same_losses(config, results["published"])
    _memory(config, options)
    if options.full:
        _in_full(config, runs, seconds["vectorised"])


def _name(variant: str, task: TaskConfig) -> str:
    return f"{variant}, M = {task.vocabulary}"


def _our_times(config: TrainConfig, seconds: dict[str, float], peak: float) -> None:
    work = total_work(config)
    each = config.runs * config.steps
    note(f"floor: {work} without the drawing, at {peak / 1e9:.3g} GFLOP/s of the largest product")
    for rng, took in seconds.items():
        note(
            f"one program, {rng} random numbers: {took:.3g} s, {1e3 * took / each:.3g} ms for a step of a "
            f"run; {took * peak / work.operations:.3g} × floor"
        )


def _same_losses(config: TrainConfig, result: object) -> None:
    """The one-hot runs against the same runs in the program, whose random numbers are the same."""
    gaps = []
    for place, task in enumerate(config.tasks):
        keys = {"task": place, **CELL}
        found = np.all([result[name].values == value for name, value in keys.items()], axis=0)
        wanted = result.loss.values[int(np.flatnonzero(found)[0])]
        trainer = usual(config, task, careful=True)
        losses = np.array([trainer.step().item() for _ in range(4)])
        logged = result.step.values < len(losses)
        gaps.append(np.abs(losses[result.step.values[logged]] / wanted[logged] - 1).max())
    note(f"losses of the first steps, one-hot runs and program: relative difference {max(gaps):.1e} at most")


def _in_full(config: TrainConfig, runs: dict[TaskConfig, int], ours: float) -> None:
    total = 0.0
    for task, number in runs.items():
        trainer = usual(config, task, careful=False)
        total += number * clock(trainer.step, config.steps)
    note(f"one whole one-hot run, plain, of each task, for {config.runs} runs: {total:.3g} s")
    verdict("  one-hot runs, plain / one program", Spread(*[total / ours] * 3), at_least=10)


def _memory(config: TrainConfig, options: Options) -> None:
    """Peak memory of the whole grid, in a process of its own, over the first steps."""
    script = Path(__file__).parents[1] / "scan_snap.py"
    command = [sys.executable, str(script), "--threads", str(options.threads)]
    command += ["--child", "quick" if options.quick else "whole"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = (float(word) for word in done.stdout.split()[-2:])
    added = max(after - before, 1.0)
    floor = sum(step_work(config.tasks[task], config.batch_size).bytes / 2 for task in config.task)
    note(
        f"memory: imports {before / 2**20:.0f} MiB, the grid adds {added / 2**20:.0f} MiB, "
        f"{added / floor:.3g} × Y and its velocity for all runs"
    )
    task = config.tasks[-1]
    one_hot = 4 * config.batch_size * task.sequence_length * task.vocabulary
    note(f"  the one-hot batch of one run at M = {task.vocabulary} takes {one_hot / 2**20:.3g} MiB")


def child(size: str) -> None:
    """Prints the peak memory before and after the first steps of the grid."""
    config = configuration(Options(quick=size == "quick"))
    train(TrainConfig(steps=1))
    before = peak_memory()
    train(config.replace(steps=3))
    print(before, peak_memory())


def scaling(options: Options) -> None:
    """Time of a step against the number of runs and against M."""
    queries, seeds = ((1, 2), (1, 2)) if options.quick else ((1, 3, 5, 10, 20), (1, 2, 4, 8, 16))
    rates, ratios = ((1,), (1, 2)) if options.quick else ((0.5, 1, 2, 3), (1, 2, 5, 10))
    base = TrainConfig(initialisation="uniform", steps=1_000_000, log_every=1_000_000)
    per_seed = len(rates) * len(ratios)
    heading("grid_scaling", f"a step against the number of runs ({per_seed} for each seed) and against M")

    def cell(task: TaskConfig, seeds: Sequence[int]) -> TrainConfig:
        return grid(base, tasks=[task], attention_rates=rates, rate_ratios=ratios, seeds=seeds)

    middle = syn_medium(queries[1])
    by_runs = {per_seed * n: cell(middle, range(n)) for n in seeds}
    by_size = {syn_medium(q).vocabulary: cell(syn_medium(q), (0,)) for q in queries}
    alone = [stepper(cell(middle, (0,)).select([run])) for run in range(per_seed)]
    names = {f"{runs} runs, M = {middle.vocabulary}": config for runs, config in by_runs.items()}
    names |= {f"{per_seed} runs, M = {size}": config for size, config in by_size.items()}
    calls: dict[str, Callable[[], object]] = {name: stepper(config) for name, config in names.items()}
    works = {}
    for name, config in names.items():
        one = step_work(config.tasks[0], config.batch_size)
        works[name] = Work(config.runs * one.operations, config.runs * one.bytes)
    together = f"{per_seed} runs, M = {middle.vocabulary}"
    singly = f"{per_seed} runs one by one, M = {middle.vocabulary}"
    calls[singly], works[singly] = lambda: [step() for step in alone], works[together]
    timings = interleave(calls, options, rounds=2 if options.quick else 5)
    table(timings, works)
    for symbol, sizes, label in (
        ("runs", by_runs, lambda runs: f"{runs} runs, M = {middle.vocabulary}"),
        ("M", by_size, lambda size: f"{per_seed} runs, M = {size}"),
    ):
        points = list(sizes)
        medians = [timings[label(point)].median for point in points]
        operations = [works[label(point)].operations for point in points]
        note(
            f"time ∝ {symbol}^{exponent(points, medians):.2f}, "
            f"operations ∝ {symbol}^{exponent(points, operations):.2f}"
        )
    verdict("one by one / one program", timings.ratio(singly, together))


def stepper(config: TrainConfig, device: torch.device | str = "cpu") -> Callable[[], None]:
    """A call that takes the next step of all runs, drawing included, without the log."""
    program, steps = CountProgram(config, torch.device(device)), itertools.count()
    return lambda: program.advance(next(steps), logged=False)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
