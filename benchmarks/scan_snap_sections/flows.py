"""Sections symmetric and flow: the exact reduction to some scalars, and the population gradient flow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scan_snap_sections.finite_length import exponent
from scipy.integrate import solve_ivp
from timing import Options, Work, heading, interleave, note, table, verdict

from learndyn.scan_snap import flow, symmetric
from learndyn.scan_snap.classes import Classes, symmetric_classes
from learndyn.scan_snap.symmetric_batch import solve_many
from learndyn.scan_snap.task import syn_medium

RATES = {"decoder_rate": 0.5, "attention_rate": 0.5}
STAGES = 12
"""Evaluations of the right-hand side in a step of the method of order 8."""


def small_classes(classes: int, vocabulary: int) -> tuple[symmetric.Parameters, Classes]:
    """One common token and three distinct ones, one query, for both solvers."""
    profile = {"common": [0.1], "distinct": [0.5, 0.3, 0.1]}
    sizes = {"classes": classes, "vocabulary": vocabulary, "next_per_query": classes}
    return symmetric.parameter_sets(**sizes, **profile, **RATES), symmetric_classes(**sizes, **profile)


def medium_classes(queries: int) -> tuple[symmetric.Parameters, Classes]:
    """Syn-Medium for both solvers."""
    task = syn_medium(queries)
    return symmetric.from_task(task, **RATES), task.to_classes()


def symmetric_section(options: Options) -> None:
    """One trajectory against the population flow of all tokens; many as one batch against one by one."""
    times = np.geomspace(1, 50 if options.quick else 5000, 60)
    heading("symmetric", f"trajectories to t = {times[-1]:g}, relative tolerance 1e-9, float64")
    if options.quick:
        cases = {"K = 4, M = 40": small_classes(4, 40)}
    else:
        cases = {"K = 10, M = 1000": small_classes(10, 1000)}
        cases |= {f"Syn-Medium, K = {2 * q}": medium_classes(q) for q in (1, 3, 5, 10)}
    calls: dict[str, Callable[[], object]] = {}
    for name, (parameters, classes) in cases.items():
        calls[f"{name}, reduced"] = lambda p=parameters: symmetric.solve(p, times)
        calls[f"{name}, all tokens"] = lambda c=classes: flow.solve(c, times, **RATES)
    timings = interleave(calls, options, rounds=2 if options.quick else 5)
    table(timings, {})
    for name, (parameters, classes) in cases.items():
        verdict(f"{name}: all tokens / reduced", timings.ratio(f"{name}, all tokens", f"{name}, reduced"))
        note(f"  attention logits differ by {_gap(parameters, classes, times):.1e} at most")
    _batched(options)


def _gap(parameters: symmetric.Parameters, classes: Classes, times: np.ndarray) -> float:
    reduced = symmetric.solve(parameters, times).attention.values
    everything = flow.solve(classes, times, **RATES).attention.values[:, classes.query[0]]
    tokens = np.flatnonzero(classes.probabilities[0])  # common tokens first, as in the reduction
    return float(np.abs(everything[:, tokens] - reduced).max())


def many(number: int) -> symmetric.Parameters:
    """So many Syn-Medium problems of 20 classes: rates from 0.1 to 10, ratios from 0.1 to 100."""
    side = round(number**0.5)
    rate, ratio = np.meshgrid(np.geomspace(0.1, 10, side), np.geomspace(0.1, 100, side))
    task = syn_medium(10)
    split = task.distinct_support.start
    return symmetric.parameter_sets(
        classes=task.classes,
        vocabulary=task.vocabulary,
        next_per_query=task.next_per_query,
        common=task.weights[:split],
        distinct=task.weights[split:],
        attention_rate=rate.ravel(),
        decoder_rate=(rate * ratio).ravel(),
    )


def batch_work(parameters: symmetric.Parameters, steps: float, groups: int) -> Work:
    """All steps of all runs.

    An evaluation takes about 23 operations for each group of tokens of equal probability (an exponential is
    one), and a group has three numbers. Their sums over the stages before, and those of the new state and of
    its two errors, are 2·66 + 2·12 + 4·13 for each number.
    """
    one = groups * (STAGES * 23.0 + 3 * (2 * 66 + 2 * 12 + 4 * 13))
    return Work(steps * one, parameters.runs * 8 * 3.0 * groups)


def _batched(options: Options) -> None:
    number, few = (16, 4) if options.quick else (10_000, 20)
    parameters, times = many(number), np.array([100.0, 1000.0, 10_000.0])
    chosen = np.random.default_rng(0).choice(parameters.runs, few, replace=False)
    singles = [parameters.select([run]) for run in chosen]
    batch, loop = f"{parameters.runs} as one batch", f"{few} of them one by one"
    calls = {
        batch: lambda: solve_many(parameters, times),
        loop: lambda: [symmetric.solve(single, times) for single in singles],
    }
    note(f"{parameters.runs} parameter sets (rates × ratios), Syn-Medium, K = 20, to t = {times[-1]:g}")
    timings = interleave(calls, options, rounds=2 if options.quick else 3)
    found = solve_many(parameters, times)
    groups = 1 + len(set(syn_medium(10).weights[syn_medium(10).distinct_support]))
    table(timings, {batch: batch_work(parameters, float(found.steps.sum()), groups)}, "s")
    verdict("per trajectory, one by one / batch", timings.ratio(loop, batch, parameters.runs / few))
    alone = [symmetric.solve(single, times).distinct_entropy.values for single in singles]
    gap = np.abs(found.distinct_entropy.values[chosen] - alone).max()
    steps = float(found.steps.mean())
    note(f"{steps:.0f} steps each on average; entropies of batch and single runs differ by {gap:.1e} at most")


def flow_section(options: Options) -> None:
    """The flow of all tokens against plain autograd, and its cost against K, tokens of a class, and M."""
    heading("flow", "population gradient flow of all tokens, order 8, relative tolerance 1e-9, float64")
    _against_autograd(options)
    _scaling(options)


def autograd_solve(classes: Classes, times: np.ndarray) -> tuple[np.ndarray, int]:
    """The same flow as one writes it first: Y and Z whole, autograd, the same integrator.

    Returns Z ``[time, query, token]`` and the number of evaluations.
    """
    probabilities, query = torch.from_numpy(classes.probabilities), torch.from_numpy(classes.query)
    prior = torch.from_numpy(np.asarray(classes.prior))
    labels = torch.arange(classes.classes)
    shapes = (classes.vocabulary, classes.vocabulary), (classes.queries, classes.vocabulary)
    sizes = [shape[0] * shape[1] for shape in shapes]

    def velocity(_: float, state: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(state).split(sizes)
        y, z = (part.view(shape).requires_grad_() for part, shape in zip(parts, shapes, strict=True))
        f = torch.nn.functional.normalize(probabilities * torch.exp(z[query]), dim=1)
        likelihood = torch.log_softmax(f @ y, 1)[labels, labels]
        gradients = torch.autograd.grad((prior * likelihood).sum(), (y, z))
        rates = RATES["decoder_rate"], RATES["attention_rate"]
        return torch.cat(
            [rate * gradient.flatten() for rate, gradient in zip(rates, gradients, strict=True)]
        ).numpy()

    solution = solve_ivp(
        velocity,
        (0.0, float(times[-1])),
        np.zeros(sum(sizes)),
        method="DOP853",
        t_eval=times,
        rtol=flow.RELATIVE_TOLERANCE,
        atol=flow.ABSOLUTE_TOLERANCE,
    )
    return solution.y[sizes[0] :].T.reshape(len(times), *shapes[1]), solution.nfev


def evaluation_work(classes: Classes) -> Work:
    """One evaluation of the right-hand side: logits, gradient of Y and signal, 2(K + 1)s for each class."""
    support = (classes.probabilities > 0).sum(1).max()
    state = (classes.probabilities > 0).any(0).sum() * (classes.classes + 1 + classes.queries)
    return Work(6.0 * classes.classes * (classes.classes + 1) * support, 8.0 * 2 * state)


def _integration(classes: Classes, evaluations: int) -> Work:
    """A whole integration: the evaluations, and 17 operations for each number of the state at each of them
    (sums over the stages of a step, new state, errors)."""
    one = evaluation_work(classes)
    state = one.bytes / 16
    return Work(evaluations * (one.operations + 17 * state), evaluations * one.bytes)


def _against_autograd(options: Options) -> None:
    queries, end = ((1,), 20.0) if options.quick else ((1, 3, 5), 200.0)
    times = np.geomspace(1, end, 20)
    for q in queries:
        _, classes = medium_classes(q)
        ours, plain = flow.solve(classes, times, **RATES), autograd_solve(classes, times)
        size = f"K = {classes.classes}, M = {classes.vocabulary}"
        names = f"{size}, library", f"{size}, autograd on Y and Z"
        calls = {
            names[0]: lambda c=classes: flow.solve(c, times, **RATES),
            names[1]: lambda c=classes: autograd_solve(c, times),
        }
        timings = interleave(calls, options, rounds=2 if options.quick else 3)
        works = {
            name: _integration(classes, count)
            for name, count in zip(names, (ours.attrs["evaluations"], plain[1]), strict=True)
        }
        table(timings, works)
        gap = float(np.abs(ours.attention.values - plain[0]).max())
        note(f"attention logits at t = 1 … {end:g} differ by {gap:.1e} at most")
        verdict(f"{size}: autograd / library", timings.ratio(names[1], names[0]))


def _scaling(options: Options) -> None:
    """Time of an evaluation against K, against the distinct tokens of a class, and against an idle M."""
    numbers, widths, sizes = (
        ((2, 4), (5, 10), (100, 200))
        if options.quick
        else ((20, 40, 80, 160), (10, 40, 160, 640), (1000, 10_000, 100_000))
    )
    times = np.array([1.0, 30.0])

    def classes(number: int, width: int, vocabulary: int | None = None) -> Classes:
        needed = 10 + number * (width + 1) + number // 2
        return symmetric_classes(
            classes=number,
            vocabulary=vocabulary or needed,
            next_per_query=2,
            common=[1.0] * 10,
            distinct=np.linspace(0.1, 1, width),
        )

    axes = {
        "K": {k: classes(k, 10) for k in numbers},
        "tokens of a class": {10 + d: classes(numbers[0], d) for d in widths},
        "M": {m: classes(numbers[0], 10, m) for m in sizes},
    }
    calls, evaluations, works = {}, {}, {}
    for axis, cases in axes.items():
        for value, case in cases.items():
            name = f"{axis} = {value}"
            calls[name] = lambda c=case: flow.solve(c, times, **RATES)
            evaluations[name] = calls[name]().attrs["evaluations"]
            works[name] = _integration(case, evaluations[name])
    timings = interleave(calls, options, rounds=2 if options.quick else 3)
    note(f"flows to t = {times[-1]:g} (K = {numbers[0]} and 20 tokens of a class where not varied):")
    table(timings, works)
    for axis, cases in axes.items():
        names = [f"{axis} = {value}" for value in cases]
        seconds = [timings[name].median / evaluations[name] for name in names]
        operations = [works[name].operations / evaluations[name] for name in names]
        note(
            f"an evaluation: time ∝ ({axis})^{exponent(list(cases), seconds):.2f}, "
            f"operations ∝ ({axis})^{exponent(list(cases), operations):.2f}"
        )
