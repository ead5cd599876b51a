"""Symmetric sequence classes, many parameter sets at once: the flow, and training with momentum.

`solve_many` integrates the equations of `symmetric_equations` with the embedded Runge-Kutta pair of order
8(5,3) of Dormand and Prince (the tableau is SciPy's) in log time, with a step size for each run. A run's
steps depend on that run alone. `heavy_ball` iterates gradient ascent with momentum: the limit of infinitely
long sequences and infinite batches of the experiments of Tian et al. (2023), section 6, from Y = Z = 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.integrate import DOP853
from torch import Tensor

from learndyn.core.device import pick_device
from learndyn.scan_snap.symmetric import ATOL, RTOL, checked_times, common_weight, parameter_sets
from learndyn.scan_snap.symmetric_equations import ARRAYS, Equations, Parameters, SymmetricError, observe

#: Runs that go through the processor's cache together; on a GPU all go at once.
CHUNK = 2048
MAX_STEPS = 20_000


def solve_many(
    parameters: Parameters,
    times: Float[np.ndarray, "time"] | Sequence[float | int],
    *,
    device: torch.device | str = "cpu",
    rtol: float = RTOL,
    atol: float = ATOL,
    max_steps: int = MAX_STEPS,
    chunk: int | None = None,
    keep_decoder: bool = False,
) -> xr.Dataset:
    """The flow of every run at these times, in float64.

    Returns the dataset that `symmetric_equations.observe` describes, with the number of `steps(run)`; every
    output time ends a step, so that few times cost less than many. A run that would need more than
    ``max_steps`` steps is NaN from there on, with `complete(run)` False.

    Raises:
        SymmetricError: times that are not increasing numbers from 0 on.
        DeviceError: a device that is not there.
    """
    times = checked_times(times)
    device = pick_device(str(device))
    chunk = chunk or (CHUNK if device.type == "cpu" else parameters.runs)
    everything = _on(parameters, device)
    parts = []
    for first in range(0, parameters.runs, chunk):
        part = _select(everything, slice(first, first + chunk))
        parts.append(_integrate(part, times, rtol, atol, max_steps))
    states = np.concatenate([found for found, _ in parts], axis=-1)
    found = observe(parameters, states, "time", times, keep_decoder=keep_decoder)
    found["steps"] = ("run", np.concatenate([steps for _, steps in parts]))
    found["complete"] = ("run", np.isfinite(states).all((0, 1)))
    return found


def momentum_steps(equations: Equations, momentum: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """State and velocity of the heavy ball at steps 0, 1, …, without end; both "value run".

    The rates are within the velocity, which at constant rates is the same as to multiply by them afterwards.
    """
    state = equations.start()
    velocity = torch.zeros_like(state)
    while True:
        velocity = momentum * velocity + equations.velocity(state)
        yield state, velocity
        state = state + velocity


def heavy_ball(
    parameters: Parameters,
    *,
    momentum: float = 0.9,
    steps: int = 100,
    snapshot_steps: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    keep_decoder: bool = False,
) -> xr.Dataset:
    """Mean field of the experiments: v ← momentum·v + gradient, θ ← θ + rate·v, from zero.

    Returns the dataset that `symmetric_equations.observe` describes, before the update of each of
    ``snapshot_steps`` (default: all from 0 to ``steps``); `attention_speed` is |Z_{t+1} − Z_t|.

    Raises:
        SymmetricError: snapshot steps that do not increase from 0 to at most ``steps``, or a bad momentum.
        DeviceError: a device that is not there.
    """
    kept = list(range(steps + 1)) if snapshot_steps is None else list(snapshot_steps)
    if not kept or sorted(set(kept)) != kept or kept[0] < 0 or kept[-1] > steps:
        raise SymmetricError(f"snapshot_steps must be increasing steps from 0 to {steps}")
    if not 0 <= momentum < 1:
        raise SymmetricError(f"momentum must be at least 0 and below 1, not {momentum}")
    equations = _on(parameters, pick_device(str(device)))
    wanted = set(kept)
    moments = zip(range(kept[-1] + 1), momentum_steps(equations, momentum), strict=False)
    states, velocities = zip(*(moment for step, moment in moments if step in wanted), strict=True)
    return observe(
        parameters,
        torch.stack(states, 1).cpu().numpy(),
        "step",
        kept,
        velocities=torch.stack(velocities, 1).cpu().numpy(),
        keep_decoder=keep_decoder,
    )


def phase_diagram(
    axes: Mapping[str, Sequence[float | int] | np.ndarray],
    times: Float[np.ndarray, "time"] | Sequence[float | int],
    *,
    device: torch.device | str = "cpu",
    **fixed: Any,
) -> xr.Dataset:
    """`solve_many` for all combinations of the values in ``axes``; these are axes of the result.

    Axes and ``fixed`` are arguments of `symmetric.parameter_sets`, or two others: `rate_ratio` η_Y/η_Z in
    place of `decoder_rate`, and `initial_overlap` f_n·f_k (of one common token) in place of `common`.

    Raises:
        SymmetricError, DeviceError: as `parameter_sets`, `symmetric.common_weight` and `solve_many`.
    """
    combined = np.meshgrid(*(np.asarray(values) for values in axes.values()), indexing="ij")
    given = fixed | {name: values.ravel() for name, values in zip(axes, combined, strict=True)}
    if "rate_ratio" in given:
        given["decoder_rate"] = np.asarray(given.pop("rate_ratio")) * given.get("attention_rate", 1.0)
    if "initial_overlap" in given:
        weight = common_weight(given.pop("initial_overlap"), given["distinct"])
        given["common"] = np.atleast_1d(weight)[:, None]
    found = solve_many(parameter_sets(**given), times, device=device)
    shape = tuple(len(values) for values in axes.values())

    def split(variable: xr.Variable) -> xr.Variable:
        if "run" not in variable.dims:
            return variable
        return xr.Variable((*axes, *variable.dims[1:]), variable.values.reshape(*shape, *variable.shape[1:]))

    coordinates = {n: split(c.variable) for n, c in found.coords.items() if n not in axes}
    named = {name: (name, np.asarray(values)) for name, values in axes.items()}
    return xr.Dataset({n: split(v.variable) for n, v in found.items()}, coords=coordinates | named)


def _on(parameters: Parameters, device: torch.device) -> Equations:
    """The equations in torch, arrays [group, run]."""
    plain = Equations.batch(parameters)
    moved = {name: torch.from_numpy(np.ascontiguousarray(getattr(plain, name))).to(device) for name in ARRAYS}
    return plain._replace(module=torch, **moved)


def _select(equations: Equations, runs: Tensor | slice) -> Equations:
    """The equations of some runs."""
    return equations._replace(**{name: getattr(equations, name)[..., runs] for name in ARRAYS})


def _integrate(
    equations: Equations, times: np.ndarray, rtol: float, atol: float, max_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """States [state, time, run] at the output times, NaN where not reached, and the number of steps tried.

    Every run has its own log time u = ln(1 + t η_Y/K), step and next output. Finished runs are dropped.
    """
    state = equations.start()
    device, runs = state.device, state.shape[1]
    first = int(times[0] == 0)
    result = state.new_full((len(times), len(state), runs), torch.nan)
    result[:first] = 0
    outputs = torch.log1p(torch.as_tensor(times, device=device)[:, None] / equations.time_scale)
    steps = torch.zeros(runs, dtype=torch.int64, device=device)
    where = torch.arange(runs, device=device)
    pair = _Pair(equations, rtol, atol)
    goal, u = torch.full_like(where, first), torch.zeros_like(equations.decoder_rate)
    h, slope = torch.full_like(u, 0.01), pair.slope(u, state)
    while first < len(times) and len(where):
        left = outputs[goal, where] - u
        last = h >= left
        step = torch.where(last, left, h)
        new, new_slope, error = pair.step(u, step, state, slope)
        good = error <= 1
        u = torch.where(good, torch.where(last, outputs[goal, where], u + step), u)
        state, slope = torch.where(good, new, state), torch.where(good, new_slope, slope)
        factor = (0.9 * error.clamp_min(1e-12) ** -0.125).clamp(0.2, 5.0)
        # A step that was cut short at an output does not make the following ones smaller.
        h = torch.where(good & last, torch.maximum(h, step * factor), step * factor)
        steps[where] += 1
        hit = good & last
        if bool(hit.any()):
            result[goal[hit], :, where[hit]] = state[:, hit].T
            goal = goal + hit.long()
        keep = (goal < len(times)) & (steps[where] < max_steps) & torch.isfinite(h)
        if not bool(keep.all()):
            where, goal, u, h = where[keep], goal[keep], u[keep], h[keep]
            state, slope = state[:, keep], slope[:, keep]
            pair = pair.select(keep)
    return result.permute(1, 0, 2).cpu().numpy(), steps.cpu().numpy()


class _Pair:
    """Steps of order 8, a size for each run, with an estimate of their error (order 5, corrected by 3)."""

    def __init__(self, equations: Equations, rtol: float, atol: float) -> None:
        self.equations, self.rtol, self.atol = equations, rtol, atol
        device = equations.decoder_rate.device
        self.inner = [torch.from_numpy(DOP853.A[i, :i].copy()).to(device) for i in range(DOP853.n_stages)]
        self.nodes = DOP853.C.tolist()
        self.outer, self.error5, self.error3 = (
            torch.from_numpy(np.array(weights)).to(device) for weights in (DOP853.B, DOP853.E5, DOP853.E3)
        )
        used = (equations.number > 0).to(torch.float64)
        # Padding counts for nothing in the norm: a run takes the same steps alone and beside larger ones.
        self.size = 2 * used.sum(0) + used[equations.common :].sum(0)

    def select(self, runs: Tensor) -> _Pair:
        """The same for some of the runs; what is equal for all stays where it is, on the device."""
        other = copy(self)
        other.equations, other.size = _select(self.equations, runs), self.size[runs]
        return other

    def slope(self, u: Tensor, state: Tensor) -> Tensor:
        """Derivative by log time."""
        return self.equations.velocity(state) * (self.equations.time_scale * torch.exp(u))

    def step(self, u: Tensor, h: Tensor, state: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The state a step later, its slope, and the error in units of the tolerance (accepted up to 1)."""
        stages = state.new_empty(DOP853.n_stages + 1, *state.shape)
        flat = stages.view(len(stages), -1)
        stages[0] = slope
        for i in range(1, DOP853.n_stages):
            inner = state + h * (self.inner[i] @ flat[:i]).view_as(state)
            stages[i] = self.slope(u + self.nodes[i] * h, inner)
        new = state + h * (self.outer @ flat[:-1]).view_as(state)
        stages[-1] = self.slope(u + h, new)
        scale = self.atol + self.rtol * torch.maximum(state.abs(), new.abs())
        error5, error3 = (
            ((weights @ flat).view_as(state) / scale).square().sum(0)
            for weights in (self.error5, self.error3)
        )
        both = (error5 + 0.01 * error3).clamp_min(1e-300)
        return new, stages[-1], h * error5 / (both * self.size).sqrt()
