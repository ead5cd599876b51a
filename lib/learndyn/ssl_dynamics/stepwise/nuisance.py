"""VICReg learns nuisance first: a linear model with shared directions and ones in which the views disagree.

Inputs x = (shared, nuisance): the shared coordinates are the same in both views of a pair, the nuisance
coordinates are drawn for each view. Barlow Twins never looks at the latter. VICReg, from a small start,
amplifies every direction that has variance as long as inv/var < 1/(4√eps), and the larger variance is learned
first, though it is forgotten later (derived, see `learndyn.ssl_dynamics.stepwise.growth`; not in the paper).

Both losses depend on a linear model f(x) = W x only through second moments of the inputs, so a step costs
d·m² operations whatever the number of pairs, and infinitely many pairs are as easy as some.
"""

from __future__ import annotations

import math
import time
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float64
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from learndyn.core import records, spectra
from learndyn.core.config import EnsembleConfig, OneOrMany
from learndyn.core.device import generator
from learndyn.core.ssl_losses import AnyLoss, BarlowTwinsTheoryLoss, VICRegLoss
from learndyn.ssl_dynamics.stepwise import growth


class NuisanceConfig(EnsembleConfig):
    """One ensemble of linear models. ``loss`` and ``seed`` take one value for all runs, or one for each.

    Losses are `VICRegLoss` and `BarlowTwinsTheoryLoss`. A seed draws its own views and weights. ``shared_sd``
    and ``nuisance_sd`` are the standard deviations of the input coordinates. ``pairs`` None takes the moments
    of infinitely many pairs. ``logged`` is the number of geometrically spaced steps to log, at most.
    """

    PER_RUN: ClassVar[tuple[str, ...]] = ("loss", "seed")

    loss: OneOrMany[AnyLoss] = (
        BarlowTwinsTheoryLoss(),
        VICRegLoss(invariance_weight=1, variance_weight=1, covariance_weight=0.2),
        VICRegLoss(invariance_weight=30, variance_weight=1, covariance_weight=0.2),
    )
    seed: OneOrMany[NonNegativeInt] = (0,)
    shared_sd: tuple[PositiveFloat, ...] = (1.0, 0.77)
    nuisance_sd: tuple[PositiveFloat, ...] = (1.7, 1.4)
    pairs: PositiveInt | None = 2000
    dimensions: PositiveInt = 2
    init_scale: PositiveFloat = 1e-4
    learning_rate: NonNegativeFloat = 0.002
    steps: PositiveInt = 3000
    logged: PositiveInt = 250

    @model_validator(mode="after")
    def _consistent(self) -> NuisanceConfig:
        for loss in self.loss:
            if not isinstance(loss, VICRegLoss | BarlowTwinsTheoryLoss):
                raise ValueError(f"the loss {loss.kind!r} is not a function of second moments; use vicreg")
        if self.pairs == 1:
            raise ValueError("pairs = 1: must be at least 2, or None for infinitely many")
        return self

    @property
    def logged_steps(self) -> tuple[int, ...]:
        """Steps before which the state is logged; the last one is the end."""
        spaced = np.geomspace(1, self.steps, max(2, self.logged - 1)).round().astype(int)
        return (0, *(int(step) for step in np.unique(spaced)))


def draw_views(
    config: NuisanceConfig, seed: int
) -> tuple[Float64[Tensor, "pair input"], Float64[Tensor, "pair input"]]:
    """Both views of one seed: Gaussian, the shared coordinates first and equal in both.

    Raises:
        ValueError: infinitely many pairs.
    """
    if config.pairs is None:
        raise ValueError("infinitely many pairs cannot be drawn; set pairs")
    draw = generator(seed, "nuisance views")

    def normal(scales: tuple[float, ...]) -> Tensor:
        noise = torch.randn(config.pairs or 0, len(scales), generator=draw, dtype=torch.float64)
        return noise * torch.tensor(scales, dtype=torch.float64)

    shared = normal(config.shared_sd)
    first, second = (torch.cat([shared, normal(config.nuisance_sd)], 1) for _ in range(2))
    return first, second


def overtaking_ratio(shared_sd: float, nuisance_sd: float, eps: float = 1e-4) -> float:
    """inv/var below which VICReg learns the nuisance direction before the shared one.

    The rates are as σ_n² (1/(4√eps) − inv/var) and σ_s² /(4√eps), whence (1 − σ_s²/σ_n²)/(4√eps) (derived):
    below the threshold 1/(4√eps) under which nuisance grows at all; negative if never.
    """
    return growth.vicreg_threshold(eps) * (1 - (shared_sd / nuisance_sd) ** 2)


class Moments(NamedTuple):
    """What the losses need to know of the views.

    ``covariance`` of each view (unbiased), ``disagreement`` (1/n) Σ (x − x′)(x − x′)ᵀ, and Γ, centred or not.
    """

    covariance: Float64[Tensor, "*run view input input"]
    disagreement: Float64[Tensor, "*run input input"]
    gamma: Float64[Tensor, "*run input input"]


def moments(
    view_a: Float[Tensor, "pair input"], view_b: Float[Tensor, "pair input"], *, centre: bool = False
) -> Moments:
    """Second moments of two views; ``centre`` is for Γ."""
    covariance = torch.stack([torch.cov(view.mT) for view in (view_a, view_b)])
    difference = view_a - view_b
    disagreement = difference.mT @ difference / len(view_a)
    return Moments(covariance, disagreement, spectra.cross_correlation(view_a, view_b, centred=centre))


def population_moments(config: NuisanceConfig) -> Moments:
    """The moments of infinitely many pairs."""
    shared = torch.tensor([*config.shared_sd, *(0.0 for _ in config.nuisance_sd)], dtype=torch.float64) ** 2
    nuisance = torch.tensor([*(0.0 for _ in config.shared_sd), *config.nuisance_sd], dtype=torch.float64) ** 2
    covariance = torch.diag(shared + nuisance)
    return Moments(torch.stack([covariance] * 2), torch.diag(2 * nuisance), torch.diag(shared))


class Weights(NamedTuple):
    """Weights of the terms of the loss of each run, and eps: ``[run, 1, 1]``."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor
    barlow_twins: Tensor
    eps: Tensor


def gradient(
    w: Float64[Tensor, "run dimension input"], data: Moments, weights: Weights
) -> Float64[Tensor, "run dimension input"]:
    """∇L of weighted VICReg and Barlow Twins terms of the embeddings W x, for every run (derived).

    With C_v = W S_v Wᵀ the covariance of view v: (2/d) W D of the invariance D; of the variance, where
    √(C_v,jj + eps) < 1, −(1/2d) Σ_v (W S_v)_j / √(C_v,jj + eps); (4/d) Σ_v offdiag(C_v) W S_v of the
    covariance; and 4 (W Γ Wᵀ − I) W Γ of ‖C − I‖².
    """
    dimensions = w.shape[1]
    invariance = 2 / dimensions * (w @ data.disagreement)
    spread = w[:, None] @ data.covariance
    covariance = spread @ w[:, None].mT
    root = (covariance.diagonal(dim1=-2, dim2=-1)[..., None] + weights.eps[:, None]).sqrt()
    variance = (torch.where(root < 1, -0.5 / root, 0.0) * spread).sum(1) / dimensions
    off_diagonal = covariance - torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
    decorrelation = 4 / dimensions * (off_diagonal @ spread).sum(1)
    projected = w @ data.gamma
    error = projected @ w.mT - torch.eye(dimensions, dtype=w.dtype)
    return (
        weights.invariance * invariance
        + weights.variance * variance
        + weights.covariance * decorrelation
        + weights.barlow_twins * (4 * error @ projected)
    )


def train(config: NuisanceConfig) -> xr.Dataset:
    """Full-batch gradient descent of all runs from W(0) = ``init_scale`` × N(0, 1).

    Returns:
        Over (run, step, input): ``energy``, the squared norm of each column of W, inputs labelled by their
        ``plane`` (shared or nuisance); over (run, step, direction): ``nuisance_share``, the part of each
        right singular vector of W (the strongest first) that lies in the nuisance plane; over (run, input):
        ``growth_rate``, the initial e-folding rate of that column (2 × the diagonal of the loss's first-step
        operator) per ``effective_time``, which is over step. NaN after a divergence.
    """
    started = time.perf_counter()
    data, weights = _stacked([_moments(config, *run) for run in _runs(config)]), _weights(config)
    inputs = len(config.shared_sd) + len(config.nuisance_sd)
    w = config.init_scale * torch.stack([_start(seed, config.dimensions, inputs) for seed in config.seed])
    kept, now = [], 0
    for step in config.logged_steps:
        for _ in range(step - now):
            w = w - config.learning_rate * gradient(w, data, weights)
        now = step
        kept.append(w)
    dataset = _dataset(config, torch.stack(kept, 1), data)
    return dataset.assign_attrs(records.provenance(config, "cpu", time.perf_counter() - started))


def _runs(config: NuisanceConfig) -> list[tuple[VICRegLoss | BarlowTwinsTheoryLoss, int]]:
    return list(zip(config.loss, config.seed, strict=True))


def _moments(config: NuisanceConfig, loss: VICRegLoss | BarlowTwinsTheoryLoss, seed: int) -> Moments:
    if config.pairs is None:
        return population_moments(config)
    centre = isinstance(loss, BarlowTwinsTheoryLoss) and loss.centre
    return moments(*draw_views(config, seed), centre=centre)


def _stacked(parts: list[Moments]) -> Moments:
    return Moments(*(torch.stack(tensors) for tensors in zip(*parts, strict=True)))


def loss_weights(loss: VICRegLoss | BarlowTwinsTheoryLoss) -> tuple[float, float, float, float, float]:
    """Weights of the terms (invariance, variance, covariance, Barlow Twins) and eps of one loss."""
    if isinstance(loss, BarlowTwinsTheoryLoss):
        return (0.0, 0.0, 0.0, 1.0, 1e-4)  # eps only keeps the unused root away from 0
    return (loss.invariance_weight, loss.variance_weight, loss.covariance_weight, 0.0, loss.eps)


def _weights(config: NuisanceConfig) -> Weights:
    table = torch.tensor([loss_weights(loss) for loss, _ in _runs(config)], dtype=torch.float64)
    return Weights(*(column[:, None, None] for column in table.unbind(1)))


def _start(seed: int, dimensions: int, inputs: int) -> Tensor:
    draw = generator(seed, "nuisance weights")
    return torch.randn(dimensions, inputs, generator=draw, dtype=torch.float64)


def _growth_rates(config: NuisanceConfig, data: Moments) -> Tensor:
    """2 × the diagonal of M (`growth.first_step_operator`), here from moments: ``[run, input]``."""
    rows = []
    for run, loss in enumerate(config.loss):
        invariance, variance, _, barlow_twins, eps = loss_weights(loss)
        operator = (
            variance / (2 * config.dimensions * math.sqrt(eps)) * data.covariance[run].mean(0)
            - invariance / config.dimensions * data.disagreement[run]
            + 2 * barlow_twins * data.gamma[run]
        )
        rows.append(2 * operator.diagonal())
    return torch.stack(rows)


def _dataset(config: NuisanceConfig, kept: Tensor, data: Moments) -> xr.Dataset:
    shared = len(config.shared_sd)
    directions = min(config.dimensions, kept.shape[-1])
    vectors = spectra.sorted_eigh(kept.mT @ kept)[1][..., :directions]
    steps = np.array(config.logged_steps)
    variables = {
        "energy": (("run", "step", "input"), (kept**2).sum(-2).numpy()),
        "nuisance_share": (("run", "step", "direction"), (vectors[..., shared:, :] ** 2).sum(-2).numpy()),
        "growth_rate": (("run", "input"), _growth_rates(config, data).numpy()),
        "effective_time": ("step", config.learning_rate * steps),
    }
    weights = [loss_weights(loss) for loss, _ in _runs(config)]
    ratios = [row[0] / row[1] if row[1] else math.nan for row in weights]
    coords = {
        "loss": ("run", [loss.kind for loss in config.loss]),
        "seed": ("run", list(config.seed)),
        "invariance_ratio": ("run", ratios),
        "step": steps,
        "input": np.arange(kept.shape[-1]),
        "plane": ("input", ["shared"] * shared + ["nuisance"] * len(config.nuisance_sd)),
        "direction": np.arange(1, directions + 1),
    }
    return xr.Dataset(variables, coords)
