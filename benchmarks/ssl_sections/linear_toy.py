"""Sections toy and toy_scaling: the linear model in the eigenbasis of Γ against gradient descent on W."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from timing import Options, Work, clock, heading, interleave, note, table, verdict
from torch import Tensor

from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import linear, tasks, toy
from learndyn.ssl_dynamics.stepwise.linear import Modes

BLOCK = 200
"""Steps in one timed call of the eigenbasis."""


class PlainDescent:
    """Full-batch gradient descent on W [d, m] by autograd and `torch.optim.SGD`, in float64.

    The loss is written either from the pairs, as any SSL loss is, or from Γ [m, m], formed once before.
    """

    def __init__(self, start: Tensor, learning_rate: float, correlation: Callable[[Tensor], Tensor]) -> None:
        self.weights = start.clone().requires_grad_()
        self._optimizer = torch.optim.SGD([self.weights], lr=learning_rate)
        self._correlation = correlation
        self._identity = torch.eye(len(start), dtype=start.dtype)

    def step(self) -> None:
        loss = ((self._correlation(self.weights) - self._identity) ** 2).sum()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def of_pairs(view_a: Tensor, view_b: Tensor) -> Callable[[Tensor], Tensor]:
    """C from the embeddings of both views."""

    def correlation(weights: Tensor) -> Tensor:
        a, b = view_a @ weights.T, view_b @ weights.T
        product = a.T @ b / len(a)
        return (product + product.T) / 2

    return correlation


def of_gamma(gamma: Tensor) -> Callable[[Tensor], Tensor]:
    """C = W Γ Wᵀ."""
    return lambda weights: weights @ gamma @ weights.T


def step_work(dimensions: int, kept: int) -> Work:
    """Two products with [d, d], a scaling and the update; the weights in and out, the eigenvalues in."""
    entries = dimensions * kept
    return Work(4.0 * dimensions * entries + 2 * entries, 8.0 * (2 * entries + kept))


def plain_work(dimensions: int, inputs: int, pairs: int | None) -> Work:
    """Forward, and backward to W alone: embeddings of both views, or W Γ (which is symmetric: once each)."""
    rows = inputs if pairs is None else 2 * pairs
    return Work(4.0 * dimensions * inputs * rows, 8.0 * inputs * rows)


def toy_section(options: Options) -> None:
    """One run of Figure 1 (m = 1200, d = 10, 500 photo crops) against plain autograd descent."""
    pairs, patch, crop, d = (40, 12, 6, 4) if options.quick else (500, 32, 20, 10)
    inputs = 3 * crop**2
    heading("toy", f"linear model, m = {inputs}, d = {d}, {pairs} pairs of photo crops, float64")
    data = tasks.photo_pairs(1, pairs, patch, crop)
    a, b = (view.flatten(1).double() for view in (data.view_a, data.view_b))
    seconds = {"eigenmodes": clock(lambda: linear.feature_modes(a, b))}
    modes = linear.feature_modes(a, b)
    config = toy.ToyConfig(dimensions=d)
    results = []
    seconds["run"] = clock(lambda: results.append(toy.train(config, modes)))
    steps, kept = int(results[0].step[-1]), results[0].sizes["feature_mode"]
    rate, start = float(results[0].learning_rate[0]), 1e-7 * toy.initial_weights(0, d, inputs)
    gamma = (a.T @ b + b.T @ a) / (2 * pairs)
    program = _program(modes, start, rate, results[0].feature_mode.values - 1)
    from_pairs, from_gamma = (
        PlainDescent(start, rate, of_pairs(a, b)),
        PlainDescent(start, rate, of_gamma(gamma)),
    )
    names = [f"eigenbasis, {BLOCK} steps, {kept} modes", "autograd from the pairs", "autograd from Γ"]
    calls = {names[0]: lambda: program.advance(BLOCK), names[1]: from_pairs.step, names[2]: from_gamma.step}
    work = step_work(d, kept)
    block = Work(BLOCK * work.operations, BLOCK * work.bytes)
    works = dict(zip(names, (block, plain_work(d, inputs, pairs), plain_work(d, inputs, None)), strict=True))
    timings = interleave(calls, options)
    table(timings, works)
    best = min(names[1:], key=lambda name: timings[name].median)
    for name in names[1:]:
        target = 50 if name == best else None
        verdict(f"a step: {name} / eigenbasis", timings.ratio(name, names[0], BLOCK), at_least=target)
    whole = seconds["eigenmodes"] + seconds["run"]
    plain = steps * timings[best].median
    note(
        f"whole run of {steps} steps to loss {float(results[0].loss[0, -1]):.1e}: eigenmodes "
        f"{seconds['eigenmodes']:.2f} s + training with its log {seconds['run']:.2f} s; "
        f"{best} × {steps} steps: {plain:.0f} s, {plain / whole:.0f} times longer"
    )
    _same_trajectory(modes, start, rate, gamma, 20 if options.quick else 200)
    _ensemble(config, modes, seconds["run"], options)


def _program(modes: Modes, start: Tensor, rate: float, kept: np.ndarray) -> toy.ToyProgram:
    index = torch.as_tensor(kept)
    weights = (start @ modes.vectors[index].T)[None]
    return toy.ToyProgram(weights, modes.eigenvalues[index], torch.tensor([rate], dtype=torch.float64))


def _same_trajectory(modes: Modes, start: Tensor, rate: float, gamma: Tensor, steps: int) -> None:
    """Both trainers do the same."""
    everything = np.arange(len(modes.eigenvalues))
    ours, plain = _program(modes, start, rate, everything), PlainDescent(start, rate, of_gamma(gamma))
    ours.advance(steps)
    for _ in range(steps):
        plain.step()
    wanted = of_gamma(gamma)(plain.weights).detach()
    gap = float((ours.correlation[0] - wanted).abs().max() / wanted.abs().max())
    note(f"C after {steps} steps, all modes kept: relative difference of the two trainers {gap:.1e}")


def _ensemble(config: toy.ToyConfig, modes: Modes, alone: float, options: Options) -> None:
    runs = 2 if options.quick else 8
    many = config.replace(seed=tuple(range(runs)))
    seconds = clock(lambda: toy.train(many, modes))
    note(
        f"{runs} seeds as one program: {seconds:.2f} s, {seconds / runs / alone:.2f} of a run alone, per run"
    )


def scaling(options: Options) -> None:
    """Time of a step against d and the number of modes kept, and of the eigenmodes against m."""
    heading(
        "toy_scaling", "a step in the eigenbasis against d and modes kept; the eigenmodes against m; float64"
    )
    widths, sizes = ((4, 8), (32, 64)) if options.quick else ((10, 20, 40, 80), (100, 200, 400, 800))
    calls, works = {}, {}
    for d, kept in [(d, sizes[0]) for d in widths] + [(widths[0], k) for k in sizes[1:]]:
        program, name = _synthetic(d, kept), f"{BLOCK} steps, d = {d}, {kept} modes"
        calls[name] = lambda program=program: program.advance(BLOCK)
        one = step_work(d, kept)
        works[name] = Work(BLOCK * one.operations, BLOCK * one.bytes)
    timings = interleave(calls, options)
    table(timings, works)
    of_d = [timings[f"{BLOCK} steps, d = {d}, {sizes[0]} modes"].median for d in widths]
    of_k = [timings[f"{BLOCK} steps, d = {widths[0]}, {k} modes"].median for k in sizes]
    exponents = f"d {_exponent(widths, of_d):.2f} (operations 2), modes {_exponent(sizes, of_k):.2f} (1)"
    note(f"fitted exponents of a step: {exponents}")
    inputs = (75, 147) if options.quick else (300, 588, 1200)
    draws = {m: torch.randn(2, m, m, generator=generator(0, "scaling", m)).double() for m in inputs}
    setups = {f"eigenmodes, m = {m}": lambda m=m: linear.feature_modes(*draws[m]) for m in inputs}
    timings = interleave(setups, options, rounds=2 if options.quick else 3)
    # Γ, tridiagonal form, eigenvectors by divide and conquer and back: 2 m³, 4/3 m³, up to 4/3 m³ and 2 m³.
    table(timings, {f"eigenmodes, m = {m}": Work(6.7 * m**3, 8.0 * m * m) for m in inputs})
    medians = [timings[f"eigenmodes, m = {m}"].median for m in inputs]
    note(
        f"fitted exponent of m: {_exponent(inputs, medians):.2f} (operations 3); a step does not depend on m"
    )


def _synthetic(dimensions: int, kept: int) -> toy.ToyProgram:
    gamma = torch.linspace(1, 0.01, kept, dtype=torch.float64)
    draw = generator(0, "synthetic", dimensions, kept)
    weights = 1e-7 * torch.randn(1, dimensions, kept, generator=draw, dtype=torch.float64)
    return toy.ToyProgram(weights, gamma, torch.tensor([0.0625], dtype=torch.float64))


def _exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
