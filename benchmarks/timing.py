"""How the benchmarks measure: interleaved rounds, ratios within a round, the arithmetic floor of the machine.

Every comparison runs all its candidates in each round, one after the other, in an order that rotates from
round to round. A ratio is the median over rounds of the ratio within the round, with its range: a machine
that is busy for a while slows both sides. One of the candidates is always a large float32 matrix product, the
fastest arithmetic that this machine does; operations divided by its rate are the floor.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from learndyn.core.device import describe_device

Call = Callable[[], object]

PEAK = "largest product"
PEAK_SIZE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    threads: int = 2
    quick: bool = False
    full: bool = False

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 9

    @property
    def least_seconds(self) -> float:
        """A call is repeated within a round until it takes about this long."""
        return 0.002 if self.quick else 0.1


@dataclass(frozen=True)
class Spread:
    """A quantity measured once in every round: median and range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        return cls(float(np.median(values)), float(values.min()), float(values.max()))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}–{self.high:.3g})"


@dataclass(frozen=True)
class Work:
    """What the mathematics of one call needs: floating-point operations, bytes in and out."""

    operations: float
    bytes: float

    def __str__(self) -> str:
        return f"{_si(self.operations)}FLOP, {_si(self.bytes)}B"


@dataclass(frozen=True)
class Timings:
    """Seconds per call of each candidate, one number per round."""

    seconds: Mapping[str, np.ndarray]
    peak_operations: float

    def __getitem__(self, name: str) -> Spread:
        return Spread.of(self.seconds[name])

    def ratio(self, slow: str, fast: str, factor: float = 1.0) -> Spread:
        """How many times longer ``slow`` takes than ``fast``; ``factor`` if one call of it is only a part."""
        return Spread.of(factor * self.seconds[slow] / self.seconds[fast])

    @property
    def peak_rate(self) -> float:
        """Operations per second of the largest product, in the best round."""
        return self.peak_operations / float(self.seconds[PEAK].min())

    def floor_multiple(self, name: str, operations: float) -> Spread:
        """Measured time over operations / (rate of the largest product in the same round)."""
        return Spread.of(self.seconds[name] / self.seconds[PEAK] * self.peak_operations / operations)


def interleave(
    calls: Mapping[str, Call],
    options: Options,
    *,
    device: torch.device | str = "cpu",
    rounds: int | None = None,
    repeats: int | None = None,
) -> Timings:
    """Time all calls, and the largest product, in rounds.

    Args:
        repeats: how often a call is made within a round; by default as often as fills
            ``options.least_seconds``.
    """
    device = torch.device(device)
    peak, operations = _largest_product(device, options)
    calls = {**calls, PEAK: peak}
    wait = torch.cuda.synchronize if device.type == "cuda" else _nothing
    often = {}
    for name, call in calls.items():
        clock(call, 1, wait)  # the first call allocates
        fill = max(1, round(options.least_seconds / clock(call, 1, wait)))
        often[name] = fill if repeats is None or name == PEAK else repeats
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for shift in range(rounds or options.rounds):
        turn = shift % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(clock(calls[name], often[name], wait))
    return Timings({name: np.array(values) for name, values in seconds.items()}, operations)


def clock(call: Call, repeats: int = 1, wait: Call | None = None) -> float:
    """Seconds per call."""
    if wait is not None:
        wait()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if wait is not None:
        wait()
    return (time.perf_counter() - start) / repeats


def _nothing() -> None:
    pass


def _largest_product(device: torch.device, options: Options) -> tuple[Call, float]:
    size = 256 if options.quick else PEAK_SIZE[device.type]
    left, out = torch.rand(size, size, device=device), torch.empty(size, size, device=device)
    return lambda: torch.mm(left, left, out=out), 2.0 * size**3


# What is printed.


def heading(name: str, what: str, device: torch.device | str = "cpu") -> None:
    """Title of a section, with the hardware, the versions and the date."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"\n== {name}: {what}")
    print(f"   {describe_device(device)}; {versions}, learndyn {version('learndyn')}; {now}", flush=True)


def table(timings: Timings, works: Mapping[str, Work], unit: str = "ms") -> None:
    """One line for each candidate: time, operations and bytes of its mathematics, multiple of its floor."""
    scale = {"s": 1.0, "ms": 1e3, "µs": 1e6}[unit]
    rate = _si(timings.peak_rate)
    rounds = len(timings.seconds[PEAK])
    print(f"   {rounds} interleaved rounds, median (min–max); floor: {rate}FLOP/s of the largest product")
    for name in timings.seconds:
        if name == PEAK:
            continue
        spread = Spread.of(scale * timings.seconds[name])
        line = f"   {name:<44} {f'{spread} {unit}':<28}"
        if name in works:
            multiple = timings.floor_multiple(name, works[name].operations).median
            line += f"{multiple:8.3g} × floor of {works[name]}"
        print(line, flush=True)


def verdict(text: str, ratio: Spread, *, at_least: float | None = None, at_most: float | None = None) -> None:
    """A ratio, with its target if it has one."""
    line = f"   {text}: ratio {ratio}"
    if at_least is not None:
        line += f"; target ≥ {at_least:g}: {'met' if ratio.median >= at_least else 'missed'}"
    if at_most is not None:
        line += f"; target ≤ {at_most:g}: {'met' if ratio.median <= at_most else 'missed'}"
    print(line, flush=True)


def note(text: str) -> None:
    """A line of the report."""
    print(f"   {text}", flush=True)


def _si(value: float) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "
