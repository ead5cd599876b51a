"""Sections step, closed and scaling: one training step of one run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from cogo_sections.common import (
    advance,
    closed_gradient,
    frozen_weights,
    program,
    step_work,
    table_gradient,
    usual,
)
from timing import Options, Work, heading, interleave, note, table, verdict

from learndyn.cogo_li2 import initial
from learndyn.cogo_li2.closed_form import ClosedFormStep
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings import TrainConfig
from learndyn.cogo_li2.step import CPU_BLOCK

PRODUCTS = "three products alone"


def three_products(size: int, nodes: int, rows: int) -> Callable[[], None]:
    """The products of a table step and nothing else, in blocks of ``rows`` rows, the fastest way round."""
    # Orthonormal weights: the hidden values, overwritten as in the step, then neither grow nor vanish.
    weights = torch.linalg.qr(torch.rand(nodes, size)).Q.T.contiguous()
    hidden, outputs = torch.rand(size * rows, nodes), torch.empty(size * size * rows)
    gradient = torch.empty(size, nodes)
    cells = [size * min(rows, size - first) for first in range(0, size, rows)]
    blocks = [(hidden[:count], outputs[: size * count].view(size, count)) for count in cells]

    def call() -> None:
        for block, logits in blocks:
            torch.mm(weights, block.T, out=logits)
            torch.mm(logits, block, out=gradient)
            torch.mm(logits.T, weights, out=block)

    return call


def block_rows(size: int, nodes: int) -> int:
    """Rows of a block that fits the cache, the blocks being about equal."""
    blocks = math.ceil(size / max(1, CPU_BLOCK // (size * max(nodes, size))))
    return math.ceil(size / blocks)


def step(options: Options) -> None:
    """One step at d = 71, q = 512 against the usual trainer and against its three products."""
    d, q = (11, 32) if options.quick else (71, 512)
    heading("step", f"one training step, d = {d}, q = {q}, 10 % held out")
    base = TrainConfig(orders=(d,), hidden_size=q, log_dense=0, rng="published")
    held_out = initial.held_out_count(d, 0.1)
    grid, closed = (program(base.replace(engine=engine)) for engine in ("grid", "closed_form"))
    whole, blocked = f"{PRODUCTS}, whole table", f"{PRODUCTS}, in blocks"
    calls = {
        "usual trainer, train and test metrics": usual(base).epoch,
        "usual trainer, no metrics": usual(base, evaluates=False).epoch,
        "our step on the table": lambda: grid.advance(1, logged=False),
        # Epoch 0 is in the log, epoch 1 is not: where the metrics go is all that the epoch decides here.
        "our step on the table, all metrics": lambda: grid.advance(0, logged=True),
        "our step in closed form": lambda: closed.advance(1, logged=False),
        whole: three_products(d, q, d),
        blocked: three_products(d, q, block_rows(d, q)),
    }
    timings = interleave(calls, options)
    works = dict.fromkeys(calls, step_work(table_gradient(d, q), d, q))
    works |= dict.fromkeys((whole, blocked), table_gradient(d, q))
    works["our step in closed form"] = step_work(closed_gradient(d, q, held_out), d, q)
    table(timings, works)
    names = list(calls)
    verdict("usual trainer / our step on the table", timings.ratio(names[0], names[2]), at_least=2.5)
    verdict("usual trainer / our step in closed form", timings.ratio(names[0], names[4]))
    verdict("usual without metrics / ours without", timings.ratio(names[1], names[2]))
    verdict("usual with metrics / ours with", timings.ratio(names[0], names[3]))
    fastest = min((whole, blocked), key=lambda name: timings[name].median)
    verdict(f"our step on the table / {fastest}", timings.ratio(names[2], fastest), at_most=1.4)


def closed(options: Options) -> None:
    """The closed form against the table at d = 127, q = 512, and after compaction."""
    d, widths = (11, (48, 32)) if options.quick else (127, (512, 300))
    heading("closed", f"gradient in closed form against the table, d = {d}, 10 % held out")
    group, held_out = AbelianGroup((d,)), initial.held_out_count(d, 0.1)
    mask = initial.train_cells(1, d, 0.1, "vectorised")[None]
    steps = {
        "table": ClosedFormStep(group, mask, engine="grid", runs=1),
        "closed form, 10 % held out": ClosedFormStep(group, mask, engine="closed_form", runs=1),
        "closed form, all cells": ClosedFormStep(group, None, engine="closed_form", runs=1),
    }
    calls: dict[str, Callable[[], object]] = {}
    works: dict[str, Work] = {}
    for q in widths:
        weights = frozen_weights(d, q)
        for name, gradient in steps.items():
            calls[f"{name}, q = {q}"] = lambda gradient=gradient, weights=weights: gradient(weights)
        counts = table_gradient(d, q), closed_gradient(d, q, held_out), closed_gradient(d, q, 0)
        works |= {f"{name}, q = {q}": work for name, work in zip(steps, counts, strict=True)}
    timings = interleave(calls, options)
    table(timings, works)
    for q in widths:
        ours = 12 * q**2 * d + 12 * q * d**2 + 6 * held_out * q * d
        planned = 42 * q**2 * d + 6 * held_out * q * d
        on_table = 6 * d**3 * q
        note(
            f"q = {q}: operations over the table's 6d³q: {ours / on_table:.3f} "
            f"(12q²d + 12qd² and 6qd a held-out cell); first estimate {planned / on_table:.3f} (42q²d)"
        )
        names = [f"{name}, q = {q}" for name in steps]
        verdict(f"closed form / table, q = {q}, 10 % held out", timings.ratio(names[1], names[0]))
        verdict(f"closed form / table, q = {q}, all cells", timings.ratio(names[2], names[0]))
    _rounding(d, widths[0], 5 if options.quick else 100)


def _rounding(d: int, q: int, epochs: int) -> None:
    """Relative error of the float32 gradient in both forms, against the table in float64."""
    config = TrainConfig(orders=(d,), hidden_size=q, log_dense=0, seed=1)
    mask = initial.train_cells(1, d, 0.1, "vectorised")[None]
    group, trainer = AbelianGroup((d,)), program(config)
    exact = ClosedFormStep(group, mask, engine="grid", runs=1, dtype=torch.float64)
    for start, stop in ((0, 0), (0, epochs)):
        advance(trainer, start, stop)
        wanted = exact(trainer.weights.double())[0].clone()
        errors = []
        for engine in ("closed_form", "grid"):
            found = ClosedFormStep(group, mask, engine=engine, runs=1)(trainer.weights)[0].double()
            errors.append(float((found - wanted).norm() / wanted.norm()))
        text = f"closed form {errors[0]:.1e}, table {errors[1]:.1e}"
        note(f"relative float32 error of the gradient after {stop} epochs: {text}")


def scaling(options: Options) -> None:
    """Time of a gradient against d at fixed q and against q at fixed d; fitted and predicted exponents."""
    sizes = (7, 11, 17) if options.quick else (47, 71, 97, 127)
    widths = (16, 32, 64) if options.quick else (128, 256, 512, 1024)
    fixed_q, fixed_d = (32, 11) if options.quick else (512, 97)
    heading("scaling", f"time of a gradient against d (q = {fixed_q}) and q (d = {fixed_d}), 10 % held out")
    points = sorted({(d, fixed_q) for d in sizes} | {(fixed_d, q) for q in widths})
    calls: dict[str, Callable[[], object]] = {}
    works: dict[str, Work] = {}
    for d, q in points:
        mask, weights = initial.train_cells(1, d, 0.1, "vectorised")[None], frozen_weights(d, q)
        for engine in ("grid", "closed_form"):
            gradient = ClosedFormStep(AbelianGroup((d,)), mask, engine=engine, runs=1)
            name = f"{engine}, d = {d}, q = {q}"
            calls[name] = lambda gradient=gradient, weights=weights: gradient(weights)
            closed_cost = closed_gradient(d, q, initial.held_out_count(d, 0.1))
            works[name] = table_gradient(d, q) if engine == "grid" else closed_cost
    timings = interleave(calls, options, rounds=2 if options.quick else 5)
    table(timings, works)
    for engine in ("grid", "closed_form"):
        for symbol, lines in (("d", [(d, fixed_q) for d in sizes]), ("q", [(fixed_d, q) for q in widths])):
            names = [f"{engine}, d = {d}, q = {q}" for d, q in lines]
            x = [line[0 if symbol == "d" else 1] for line in lines]
            fitted = _exponent(x, [timings[name].median for name in names])
            predicted = _exponent(x, [works[name].operations for name in names])
            note(f"{engine}: time ∝ {symbol}^{fitted:.2f}, operations ∝ {symbol}^{predicted:.2f}")
    smallest, largest = f"d = {sizes[0]}, q = {fixed_q}", f"d = {sizes[-1]}, q = {fixed_q}"
    for point in (smallest, largest):
        verdict(f"table / closed form, {point}", timings.ratio(f"grid, {point}", f"closed_form, {point}"))


def _exponent(x: list[int], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
