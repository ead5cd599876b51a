"""Sections solvers and memory: what is done to a trained network, and to none."""

from __future__ import annotations

import itertools
import math
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import least_squares
from timing import Options, Work, heading, interleave, note, table, verdict

from learndyn.cogo_li2 import algebra, analysis, factoriser, potentials, torus_design
from learndyn.cogo_li2.design_problems import DesignProblem, torus_problem
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.core.device import generator


def solvers(options: Options) -> None:
    """The factoriser and the torus-design solver against plain loops over permutations and over starts."""
    heading("solvers", "factoriser and torus designs (6 nodes), against plain loops")
    for family in (algebra.ORDER_4, algebra.ORDER_6):
        _factoriser(family, 20 if options.quick else 1000, options)
    _designs(30 if options.quick else 400, options)


def _factoriser(family: algebra.Family, count: int, options: Options) -> None:
    source = generator(0, "groups", family.order)
    elements = [algebra.with_random_angles(family, source).element() for _ in range(min(count, 50))]
    exact = torch.stack(elements)[torch.arange(count) % len(elements)]
    noise = torch.randn(*exact.shape, 2, generator=source, dtype=torch.float64)
    groups = exact + 1e-3 * torch.view_as_complex(noise)
    few = groups[:2].numpy()
    title = f"order {family.order}"
    name, loop = f"{title}: {count} groups at once", f"{title}: a loop over permutations"
    calls = {
        name: lambda: factoriser.factorise_groups(groups),
        loop: lambda: [_factor_by_loop(group) for group in few],
    }
    timings = interleave(calls, options, rounds=2 if options.quick else 5)
    # For each pairing: n/2 complex ratios (11 operations each), their mean (2) and squared distance (6).
    work = math.factorial(family.order) / math.factorial(family.order // 2) * family.order / 2 * 19
    table(timings, {name: Work(count * work, groups.nbytes), loop: Work(len(few) * work, few.nbytes)})
    found = factoriser.factorise_groups(groups[:2])["error"].to_numpy()
    gap = max(abs(_factor_by_loop(group) - error) for group, error in zip(few, found, strict=True))
    note(f"{count / timings[name].median:.3g} groups per second; errors agree with the loop's to {gap:.0e}")
    verdict(f"per group, loop / at once, order {family.order}", timings.ratio(loop, name, count / len(few)))


def _factor_by_loop(group: np.ndarray) -> float:
    """Error of the best split by the published rule (section 3.7, iii–v), one permutation after another."""
    order = group.shape[1]
    best, best_score = None, math.inf
    for permutation in itertools.permutations(range(order)):
        first, second = list(permutation[: order // 2]), list(permutation[order // 2 :])
        ratio = group[2, first] / group[2, second]
        score = np.linalg.norm(ratio - ratio.mean())
        if score < best_score:
            best, best_score = (first, second), score
    first, second = best
    ratios = group[:, second] / group[:, first]
    flip = np.where(abs(ratios[0] - ratios[0, 0]) > 0.2, -1, 1)
    ratios[:2] *= flip
    return float(np.linalg.norm(ratios - ratios.mean(axis=1, keepdims=True)))


@dataclass(frozen=True)
class _Counting(DesignProblem):
    """A design problem that counts how many starts were linearised."""

    seen: list[int] = field(default_factory=list)

    def linearise(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen.append(len(x))
        return super().linearise(x)


def _designs(starts: int, options: Options) -> None:
    problem, nodes, few = torus_problem(), 6, 2 if options.quick else 10
    draws = problem.start(few, nodes, generator(0, "loop")).numpy()
    hits: list[float] = []
    name, loop = f"torus designs: {starts} starts at once", f"torus designs: {few} starts, scipy in a loop"
    calls = {
        name: lambda: torus_design.solve(problem, nodes, starts=starts, generator=generator(1, "designs")),
        loop: lambda: hits.extend(_design_by_scipy(problem, start) for start in draws),
    }
    timings = interleave(calls, options, rounds=2 if options.quick else 3)
    counting = _Counting(problem.conditions)
    result = torus_design.solve(counting, nodes, starts=starts, generator=generator(1, "designs"))
    # One linearisation: sums and slopes over 7 conditions and 6 nodes, JᵀJ and Cholesky of 12 unknowns.
    equations, unknowns = 2 * len(problem.conditions), 2 * nodes
    one = 40 * nodes * len(problem.conditions) + 2 * equations * unknowns**2 + unknowns**3 / 3
    table(timings, {name: Work(sum(counting.seen) * one, result.x.nbytes)})
    solved = float(result.solved.double().mean())
    theirs = np.mean(np.array(hits) < torus_design.SOLVED)
    rate, steps = starts / timings[name].median, sum(counting.seen) / starts
    note(f"{rate:.3g} starts per second, {steps:.0f} steps each")
    note(f"solved from {solved:.0%} of the starts, by scipy from {theirs:.0%} of its own")
    verdict("per start, loop / at once", timings.ratio(loop, name, starts / few))


def _design_by_scipy(problem: DesignProblem, start: np.ndarray) -> float:
    """Squared residual where MINPACK's Levenberg–Marquardt ends from one start."""
    exponents = np.array([condition[0] for condition in problem.conditions])

    def residual(x: np.ndarray) -> np.ndarray:
        total = np.exp(1j * x.reshape(-1, 2) @ exponents.T).sum(0)
        return np.concatenate([total.real, total.imag])

    def jacobian(x: np.ndarray) -> np.ndarray:
        unit = np.exp(1j * x.reshape(-1, 2) @ exponents.T)
        slope = (1j * unit.T[:, :, None] * exponents[:, None, :]).reshape(len(exponents), -1)
        return np.concatenate([slope.real, slope.imag])

    found = least_squares(residual, start, jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return float(2 * found.cost)


# Memory.

SNAPSHOTS = 12
PUBLISHED_CHECKPOINTS = 298


def memory(options: Options) -> None:
    """Peak memory of the analysis of one run at d = 127, in a process of its own."""
    size, nodes = (23, 96) if options.quick else (127, 512)
    heading("memory", f"peak memory of analysing {SNAPSHOTS} snapshots of a run, d = {size}, q = {nodes}")
    script = Path(__file__).parents[1] / "cogo.py"
    command = [sys.executable, str(script), "--threads", str(options.threads)]
    command += ["--child", str(size), str(nodes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    base, loaded, peak = (float(word) / 2**20 for word in done.stdout.split()[-3:])
    weights = SNAPSHOTS * 3 * nodes * size * 4 / 2**20
    tensor = size**3 * PUBLISHED_CHECKPOINTS * 8 / 2**20
    added = peak - loaded
    note(f"imports {base:.0f} MiB; with the snapshots' weights, {weights:.3g} MiB, {loaded:.0f} MiB")
    note(
        f"peak {peak:.0f} MiB: the analysis adds {added:.0f} MiB, {added / weights:.3g} × floor (the weights)"
    )
    note(
        f"all sum potentials at {PUBLISHED_CHECKPOINTS} checkpoints, d³ × {PUBLISHED_CHECKPOINTS} complex64, "
        f"would take {tensor:.0f} MiB: ratio {tensor / max(added, 1):.3g} to what the analysis adds"
    )


def analyse(d: str, q: str) -> None:
    """The child process: prints the peak memory after the imports, with the weights, and at the end."""
    base, size, nodes = peak_memory(), int(d), int(q)
    group, source = AbelianGroup((size,)), generator(0, "network")
    frequencies = group.half().characters.tolist()
    spectrum = algebra.build(group, algebra.mixed(group, frequencies[: len(frequencies) // 5]), host="all")
    final = torch.zeros(3, nodes, size)
    final[:, : spectrum.shape[1]] = group.to_weights(spectrum).float()
    noise = torch.randn(3, nodes, size, generator=source) * 0.1
    snapshots = torch.stack([final + noise * (1 - i / (SNAPSHOTS - 1)) for i in range(SNAPSHOTS)])
    loaded = peak_memory()
    for _, function in potentials.figure3_summaries(group).values():
        function(snapshots)
    threshold = factoriser.scale_aware_threshold(size)
    for _, function in analysis.order_summaries(group, threshold).values():
        function(snapshots)
    for weights in snapshots:
        potentials.loss_budget(group, group.to_spectrum(weights))
    frame = factoriser.factorise(group.to_spectrum(snapshots[-1:]), threshold=threshold)
    if not frame["factorable"].all():
        raise RuntimeError("the analysis did not recognise the network that was built for it")
    print(base, loaded, peak_memory())


def peak_memory() -> float:
    """Largest resident memory of this process so far, in bytes.

    Not ``ru_maxrss`` on Linux: that begins at the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
