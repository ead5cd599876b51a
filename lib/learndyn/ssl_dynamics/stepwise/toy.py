"""The linear model trained by gradient descent, in the eigenbasis of Γ, many runs as one tensor program.

In the eigenbasis W Γ is a scaling of columns, so one step of full-batch gradient descent costs 4 d² k
operations for k modes instead of 2 d m² and more, and modes with |γ| far below γ_d, which do not move, are
left out. Runs (scale × seed × dimension × learning rate) share one tensor [run, dimension, feature_mode],
whose rows beyond a run's own dimension are zero and stay zero. Published set-up: Simon et al., 2023, Fig. 1A,
B.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from learndyn.core import ensemble, records, spectra
from learndyn.core.config import EnsembleConfig, OneOrMany
from learndyn.core.device import generator, pick_device
from learndyn.core.errors import PlainError
from learndyn.ssl_dynamics.stepwise import linear
from learndyn.ssl_dynamics.stepwise.linear import Modes

MOST_STEPS = 5_000_000
"""An automatic number of steps above this is refused: some mode is far too slow to wait for."""


class ToyError(PlainError):
    """A training of the linear model that makes no sense with these data."""


class ToyConfig(EnsembleConfig):
    """One ensemble of linear models. A per-run field takes one value, for all runs, or one for each run.

    W(0) = ``init_scale`` × N(0, 1), drawn from ``seed``; the learning rate is ``stability_fraction`` of the
    bound 1/(4γ₁) beyond which gradient descent does not settle. ``steps`` None trains until the
    theory says that every eigenvalue of C has come within 1e-6 of 1, in every run. Modes with |γ| below
    ``mode_threshold`` × γ_d (of the largest d) are left out: they barely move while the d-th is learned; the
    ``neglected`` of the result bounds what they could have added to C. 0 keeps all. The state is logged
    before the step at steps with the ratio ``log_ratio``; weights are kept at ``snapshot_steps`` and the end.
    """

    PER_RUN: ClassVar[tuple[str, ...]] = ("init_scale", "seed", "dimensions", "stability_fraction")

    dimensions: OneOrMany[PositiveInt] = (10,)
    init_scale: OneOrMany[PositiveFloat] = (1e-7,)
    seed: OneOrMany[NonNegativeInt] = (0,)
    stability_fraction: OneOrMany[PositiveFloat] = (0.25,)
    steps: PositiveInt | None = None
    mode_threshold: Annotated[float, Field(ge=0, le=1)] = 0.1
    log_ratio: Annotated[float, Field(gt=1)] = 1.02
    snapshot_steps: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> ToyConfig:
        if self.steps is not None and any(step > self.steps for step in self.snapshot_steps):
            raise ValueError(f"snapshot_steps must lie within the {self.steps} steps")
        return self


class ToyProgram:
    """The state of all runs, [run, dimension, feature_mode], and the step that moves it.

    With V = W / (2√η) and κ = 4ηγ, gradient descent W − 4η (W Γ Wᵀ − I) W Γ is V − (V κ Vᵀ − I) V κ: no
    factor of a run is left, and three calls are one step of every run.
    """

    def __init__(
        self,
        weights: Float64[Tensor, "run dimension mode"],
        eigenvalues: Float64[Tensor, " mode"],
        learning_rates: Float64[Tensor, " run"],
    ) -> None:
        runs, dimensions, _ = weights.shape
        self._unit = 2 * learning_rates[:, None, None].sqrt()
        self._state = weights / self._unit
        self._kappa = 4 * learning_rates[:, None, None] * eigenvalues
        self._identity = torch.eye(dimensions).to(weights).expand(runs, -1, -1).contiguous()
        self._scaled, self._error = torch.empty_like(weights), torch.empty_like(self._identity)

    def advance(self, steps: int) -> None:
        """Steps of gradient descent."""
        state, kappa, identity = self._state, self._kappa, self._identity
        transposed, scaled, error = state.mT, self._scaled, self._error
        for _ in range(steps):
            torch.mul(state, kappa, out=scaled)
            torch.baddbmm(identity, scaled, transposed, beta=-1, out=error)
            state.baddbmm_(error, scaled, alpha=-1)

    @property
    def weights(self) -> Float64[Tensor, "run dimension mode"]:
        """W in the eigenbasis of Γ."""
        return self._state * self._unit

    @property
    def correlation(self) -> Float64[Tensor, "run dimension dimension"]:
        """C = W Γ Wᵀ, zero beyond a run's own dimension."""
        return self._state * self._kappa @ self._state.mT


def train(
    config: ToyConfig,
    modes: Modes,
    *,
    device: str | torch.device = "cpu",
    progress: bool = False,
    strict: bool = False,
) -> xr.Dataset:
    """Train all runs of ``config`` on views with these `learndyn.ssl_dynamics.stepwise.linear.feature_modes`.

    Args:
        device: "cpu", "cuda", "cuda:1" or "auto".
        progress: show a bar with rate and time left; it leaves nothing behind.
        strict: raise at the first run that diverges instead of going on without it.

    Returns:
        Dims run, step, mode (1 … d), snapshot, dimension, feature_mode (number of the eigenmode of Γ; those
        kept). Over (run, step): loss, weight_norm (‖W‖²_F), alignment (of the row space of W with the top d
        modes), effective_time; over (run, step, mode): correlation_eigenvalues, descending; over (run, mode):
        start (matched s_j(0)) and critical_time (of gradient descent, infinite for modes that are not
        learned), both in the order of the modes of Γ; over run: minimum_norm (Σ_{j≤d} 1/γ_j, NaN if some γ_j
        ≤ 0), neglected (bound on the trace norm that the modes left out could have added to C), status_code,
        status_step, status_sentence; over (run, snapshot, dimension, feature_mode): weights in the
        eigenbasis; over feature_mode: eigenvalue. NaN beyond a run's own dimension, and after a run has
        diverged.

    Warns:
        LossFloorWarning, StabilityWarning: with the floor and the bound.

    Raises:
        DeviceError, EnsembleError, LinearModelError, ToyError: in one sentence each.
    """
    started = time.perf_counter()
    target = pick_device(str(device))
    plan = _Plan(config, modes)
    weights, eigenvalues, learning_rates, rest = (
        tensor.to(target) for tensor in (plan.weights, plan.eigenvalues, plan.learning_rates, plan.rest)
    )
    program = ToyProgram(weights, eigenvalues, learning_rates)
    log: list[tuple[Tensor, Tensor, Tensor]] = []
    kept: list[Tensor] = []
    with ensemble.progress_bar(plan.steps, show=progress) as bar:
        now = 0
        for step in plan.logged:
            program.advance(step - now)
            bar.update(step - now)
            now = step
            weights = program.weights
            log.append((program.correlation, *_row_space(weights, rest)))
            if step in plan.snapshots:
                kept.append(weights)
    logged = [torch.stack(parts, 1).cpu() for parts in zip(*log, strict=True)]
    dataset = _dataset(plan, logged, torch.stack(kept, 1).cpu(), strict)
    return dataset.assign_attrs(records.provenance(config, target, time.perf_counter() - started))


class _Plan:
    """What follows from a configuration and the modes before the first step."""

    def __init__(self, config: ToyConfig, modes: Modes) -> None:
        self.config, self.modes, gamma = config, modes, modes.eigenvalues
        self.width = max(config.dimensions)
        self.top = modes.top(self.width)
        self.learned = min(self.width, linear.positive_modes(gamma))
        if self.learned == 0:
            raise ToyError("no eigenvalue of the cross-covariance is positive: there is nothing to learn")
        bound = linear.stability_bound(gamma)
        self.learning_rates = bound * torch.tensor(config.stability_fraction, dtype=torch.float64)
        linear.warn_of_loss_floor(gamma, self.width, stacklevel=4)
        linear.warn_if_unstable(float(self.learning_rates.max()), gamma, stacklevel=4)
        keep = gamma.abs() >= config.mode_threshold * gamma[self.learned - 1]
        keep[: self.width] = True
        self.kept = keep.nonzero()[:, 0]
        self.eigenvalues = gamma[self.kept]
        self.starts: list[Tensor] = []
        self.times: list[Tensor] = []
        self._draw(keep)
        self.steps = config.steps or self._steps_needed()
        self.snapshots = tuple(sorted({*config.snapshot_steps, self.steps}))
        self.logged = _logged_steps(self.steps, config.log_ratio, self.snapshots)
        self.neglected = self._bound(keep)

    def _draw(self, keep: Tensor) -> None:
        """W(0): the modes kept, and the Gram matrix of the rest in the shape of ``width`` further inputs."""
        config, runs, width = self.config, self.config.runs, self.width
        self.weights = torch.zeros(runs, width, len(self.kept), dtype=torch.float64)
        self.rest = torch.zeros(runs, width, width, dtype=torch.float64)
        self._dropped = torch.zeros(runs, int((~keep).sum()), dtype=torch.float64)
        for run, (d, scale, seed) in enumerate(
            zip(config.dimensions, config.init_scale, config.seed, strict=True)
        ):
            start = scale * initial_weights(seed, d, self.modes.vectors.shape[1])
            rotated = start @ self.modes.vectors.mT
            outside = start - rotated[:, keep] @ self.modes.vectors[keep]
            self.weights[run, :d] = rotated[:, keep]
            # Rows with the same inner products: the row space and the norm of W need no more of what rests.
            self.rest[run, :d, : min(d, outside.shape[1])] = torch.linalg.qr(outside.mT).R.mT
            self._dropped[run] = (rotated[:, ~keep] ** 2).sum(0)
            s0 = linear.match_start(start, self.modes.vectors[:d]).singular_values
            self.starts.append(s0)
            rate = float(self.learning_rates[run])
            self.times.append(linear.critical_times(self.top.eigenvalues[:d], s0, rate))

    def _steps_needed(self) -> int:
        """Until every mode to learn is predicted to be within 1e-6 of 1, in every run."""
        needed = 0.0
        for critical, rate in zip(self.times, self.learning_rates.tolist(), strict=True):
            count = min(len(critical), self.learned)
            last = math.log(1e6) / linear.growth_rates(self.top.eigenvalues[:count], rate)
            needed = max(needed, float((critical[:count] + last).max()) / rate)
        if needed > MOST_STEPS:
            raise ToyError(
                f"the slowest of the modes to learn would need {needed:.2g} steps; "
                "use fewer dimensions, or give steps"
            )
        return max(1, math.ceil(needed))

    def _bound(self, keep: Tensor) -> Tensor:
        """Σ |γ_j| ‖W_j(0)‖² e^{8|γ_j|t} over the modes left out: no mode grows faster while 0 ≤ C ≤ I."""
        size = self.modes.eigenvalues[~keep].abs()
        end = self.steps * self.learning_rates
        return (size * self._dropped * torch.exp(8 * size * end[:, None])).sum(-1)


def initial_weights(seed: int, dimensions: int, inputs: int) -> Float64[Tensor, "dimension input"]:
    """N(0, 1) weights of one run, before its init scale."""
    draw = generator(seed, "stepwise toy weights", dimensions)
    return torch.randn(dimensions, inputs, generator=draw, dtype=torch.float64)


def _logged_steps(steps: int, ratio: float, snapshots: Sequence[int]) -> tuple[int, ...]:
    count = math.ceil(math.log(steps) / math.log(ratio)) + 1
    geometric = {min(steps, round(ratio**power)) for power in range(count)}
    return tuple(sorted({0, steps, *geometric, *snapshots}))


def _row_space(weights: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """The first ``width`` coordinates of an orthonormal basis of the row space (columns), and ‖W‖²."""
    whole = torch.cat([weights, rest], -1)
    frame = torch.linalg.qr(whole.mT).Q
    return frame[:, : weights.shape[1]], (whole**2).sum((-2, -1))


def _dataset(plan: _Plan, logged: Sequence[Tensor], kept: Tensor, strict: bool) -> xr.Dataset:
    """Everything that was logged, labelled."""
    config, (correlation, frames, norm) = plan.config, logged
    runs, steps, width = config.runs, len(plan.logged), plan.width
    own = torch.arange(width) < torch.tensor(config.dimensions)[:, None]
    squares = (correlation - torch.diag_embed(own.double())[:, None]) ** 2
    losses = squares.sum((-2, -1))
    # Columns of the frame beyond a run's own dimension, and modes beyond its top d, are not its row space.
    block = (own[:, :, None] & own[:, None, :])[:, None]
    alignment = (frames**2 * block).sum((-2, -1)) / own.sum(-1, keepdim=True)
    eigenvalues = torch.full((runs, steps, width), torch.nan, dtype=torch.float64)
    for d in set(config.dimensions):
        rows = [run for run in range(runs) if config.dimensions[run] == d]
        eigenvalues[rows, :, :d] = spectra.sorted_eigenvalues(correlation[rows][..., :d, :d])
    names = [
        f"seed {seed}, init_scale {scale:g}"
        for seed, scale in zip(config.seed, config.init_scale, strict=True)
    ]
    statuses = ensemble.Statuses(names, limit=1e300, strict=strict)
    statuses.watch(torch.arange(runs), plan.logged, losses)
    run_step = {"loss": losses, "weight_norm": norm, "alignment": alignment}
    run_step["effective_time"] = plan.learning_rates[:, None] * torch.tensor(plan.logged)
    run_mode = {"start": plan.starts, "critical_time": plan.times}
    gamma = plan.top.eigenvalues
    variables: dict[str, Any] = {
        "correlation_eigenvalues": (("run", "step", "mode"), eigenvalues.numpy()),
        "weights": (("run", "snapshot", "dimension", "feature_mode"), kept.numpy()),
        "minimum_norm": ("run", np.array([_minimum_norm(gamma, d) for d in config.dimensions])),
        "neglected": ("run", plan.neglected.numpy()),
        **statuses.variables(),
        "eigenvalue": ("feature_mode", plan.eigenvalues.numpy()),
    }
    variables |= {name: (("run", "step"), values.numpy()) for name, values in run_step.items()}
    variables |= {name: (("run", "mode"), _padded(rows, width)) for name, rows in run_mode.items()}
    coords: dict[str, Any] = {name: ("run", np.array(getattr(config, name))) for name in config.PER_RUN}
    coords |= {
        "learning_rate": ("run", plan.learning_rates.numpy()),
        "step": list(plan.logged),
        "snapshot": list(plan.snapshots),
        "mode": np.arange(1, width + 1),
        "feature_mode": plan.kept.numpy() + 1,
    }
    digest = hashlib.sha256(plan.modes.eigenvalues.numpy().tobytes()).hexdigest()
    return xr.Dataset(variables, coords, {"eigenvalues_sha256": digest})


def _padded(rows: Sequence[Tensor], width: int) -> np.ndarray:
    return np.array([np.pad(row.numpy(), (0, width - len(row)), constant_values=np.nan) for row in rows])


def _minimum_norm(gamma: Tensor, dimensions: int) -> float:
    top = gamma[:dimensions]
    return linear.minimum_norm(top, dimensions) if bool((top > 0).all()) else math.nan
