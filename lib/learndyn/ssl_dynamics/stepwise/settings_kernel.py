"""Settings of the notebook "Kernels and wide networks", its toy data and the comparisons it makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float64
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from sklearn.decomposition import KernelPCA
from torch import Tensor

from learndyn.core import spectra
from learndyn.core.config import Config
from learndyn.core.device import Device, generator
from learndyn.core.pairs import FixedPairs
from learndyn.ssl_dynamics.stepwise import kernel, linear, tasks, toy, wide
from learndyn.ssl_dynamics.stepwise.kernel import Kernel, KernelModel

RADII = (0.4, 1.0)
EDGE = 1.5
"""The heat maps show the square [−EDGE, EDGE]²."""


class KernelNotebook(Config):
    """The parameters cell of the notebook."""

    seed: NonNegativeInt = 0
    ring_pairs: Annotated[int, Field(ge=4)] = 200
    turn: Annotated[float, Field(ge=0, le=180)] = 150.0
    kernel_width: PositiveFloat = 0.4
    dimensions: Annotated[int, Field(ge=1, le=4)] = 2
    start_scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = (1e-8, 1.0)
    competitors: PositiveInt = 2000
    photo_pairs: PositiveInt = 200
    patch: PositiveInt = 24
    crop: PositiveInt = 16
    photo_dimensions: PositiveInt = 8
    init_scale: PositiveFloat = 1e-7
    stability_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    digit_pairs: PositiveInt = 100
    held_out: PositiveInt = 400
    held_out_modes: Annotated[int, Field(ge=4)] = 80
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (64, 512, 4096)
    wide_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2)
    wide_pairs: PositiveInt = 40
    wide_dimensions: PositiveInt = 5
    output_scale: PositiveFloat = 1e-4
    leak_widths: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (64, 512)
    leak_scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=3)] = (1e-2, 1e-4, 1e-6)
    explorer_times: Annotated[int, Field(ge=2)] = 14
    device: Device = "cpu"

    @property
    def wide_config(self) -> wide.WideConfig:
        """The wide networks; learning rate and noise are those of the library's defaults."""
        return wide.WideConfig(
            width=self.widths,
            seed=self.wide_seeds,
            pairs=self.wide_pairs,
            dimensions=self.wide_dimensions,
            output_scale=self.output_scale,
        )

    @property
    def is_large(self) -> bool:
        """Whether the wide networks are those of the paper profile: ours, since no such run is published."""
        return max(self.widths) >= 16384 and len(self.wide_seeds) >= 5


# --- two rings ---


def ring_pairs(seed: int, pairs: int, turn: float, noise: float = 0.06) -> FixedPairs:
    """Points on two rings, each seen twice: two independent rotations by up to ±``turn`` degrees.

    Base angles are evenly spaced, rings alternate; the radius, with its Gaussian ``noise``, is common to both
    views. Turn 0 gives identical views.
    """
    draw = generator(seed, "stepwise rings")
    number = torch.arange(pairs)
    radius = torch.tensor(RADII, dtype=torch.float64)[number % len(RADII)]
    radius = radius + noise * torch.randn(pairs, generator=draw, dtype=torch.float64)
    angles = 2 * math.pi * number / pairs + math.radians(turn) * (
        2 * torch.rand(2, pairs, generator=draw, dtype=torch.float64) - 1
    )
    views = torch.stack([radius * angles.cos(), radius * angles.sin()], -1)
    return FixedPairs(views[0], views[1])


class Planar(NamedTuple):
    """A kernel model of points in the plane: its samples and what it learns there."""

    samples: Float64[Tensor, "sample 2"]
    model: KernelModel
    functions: Float64[Tensor, "mode row column"]
    """γ_j^{-1/2} b_jᵀ K^{-1/2} k(S, x) on a grid over [−EDGE, EDGE]², signed so that most samples are +."""


def planar(pairs: FixedPairs, similarity: Kernel, modes: int, side: int = 61) -> Planar:
    """Solve the kernel model and evaluate its first learned functions on a grid of side × side points."""
    samples = kernel.stack_views(pairs.view_a, pairs.view_b)
    model = kernel.kernel_model(similarity(samples, samples))
    learned = model.embed(modes)
    axis = torch.linspace(-EDGE, EDGE, side, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    sign = torch.where(learned.embeddings.sum(1) < 0, -1.0, 1.0)[:, None]
    values = sign * learned(similarity(samples, grid))
    return Planar(samples, model, values.reshape(modes, side, side))


def ring_signs(functions: Float[Tensor, "mode sample"], radii: Float[Tensor, " sample"]) -> list[float]:
    """How well the sign of each function says on which ring a sample lies: balanced accuracy, ½ by chance."""
    outer, positive = radii > sum(RADII) / 2, functions > 0
    right = (positive[:, outer].double().mean(1) + (~positive[:, ~outer]).double().mean(1)) / 2
    return torch.maximum(right, 1 - right).tolist()


# --- checks of Proposition 5.1 ---


def quadratic_kernel(x: Float[Tensor, "a input"], y: Float[Tensor, "b input"]) -> Float[Tensor, "a b"]:
    """k(x, y) = (1 + ⟨x, y⟩)², whose features can be written down."""
    return (1 + x @ y.mT) ** 2


def quadratic_features(x: Float[Tensor, "sample input"]) -> Float[Tensor, "sample feature"]:
    """φ with ⟨φ(x), φ(y)⟩ = (1 + ⟨x, y⟩)²: the constant, √2 x_i, and all products x_i x_j."""
    products = (x[:, :, None] * x[:, None, :]).flatten(1)
    return torch.cat([torch.ones_like(x[:, :1]), math.sqrt(2) * x, products], 1)


def spectrum_gap(samples: Float[Tensor, "sample 2"]) -> float:
    """Relative difference between the spectra of K_Γ and of Γ in the explicit features of `quadratic_kernel`.

    The larger of the two matrices has further eigenvalues, all zero; zeros fill up the shorter list.
    """
    first, second = quadratic_features(samples).chunk(2)
    gamma = spectra.sorted_eigenvalues(spectra.cross_covariance(first, second))
    found = spectra.sorted_eigenvalues(kernel.contrastive_kernel(quadratic_kernel(samples, samples)))
    padded = torch.cat([gamma, gamma.new_zeros(len(found) - len(gamma))]).sort(descending=True).values
    return float((padded - found).abs().max() / gamma.abs().max())


def forms_gap(matrix: Float[Tensor, "sample sample"]) -> float:
    """Largest relative difference between the two forms of the contrastive kernel matrix."""
    one, other = kernel.contrastive_kernel(matrix), kernel.contrastive_kernel_whitened(matrix)
    return float((one - other).abs().max() / one.abs().max())


def linear_gap(pairs: FixedPairs, points: Float[Tensor, "point input"], dimensions: int) -> float:
    """How far the linear kernel's embedding is from the linear model's at new points, up to signs."""
    samples = kernel.stack_views(pairs.view_a, pairs.view_b)
    learned = kernel.kernel_model(kernel.linear_kernel(samples, samples)).embed(dimensions)
    modes = linear.feature_modes(*samples.chunk(2))
    expected = linear.minimum_norm_weights(modes, dimensions) @ points.double().mT
    found = learned(kernel.linear_kernel(samples, points.double()))
    sign = torch.sign((expected * found).sum(1, keepdim=True))
    return float((sign * found - expected).abs().max() / expected.abs().max())


class Ending(NamedTuple):
    """Where gradient flow ended, against the formula of Proposition 5.1."""

    misalignment: float
    gram_error: float
    correlation_error: float
    norm_squared: float
    least_norm_squared: float
    expected_error: float
    """α^q with q = 1 − γ_{d+1}/γ_d: how far mode d + 1 has grown when mode d is learned."""


def follow_flow(model: KernelModel, dimensions: int, scale: float, seed: int) -> Ending:
    """Integrate gradient flow from W(0) = scale × N(0, 1) in the features K^{1/2} to its end."""
    learned, gamma = model.embed(dimensions), model.modes.eigenvalues
    draw = generator(seed, "kernel flow", dimensions)
    start = scale * torch.randn(dimensions, len(gamma), generator=draw, dtype=torch.float64)
    matched = linear.match_start(start, model.modes.top(dimensions).vectors).singular_values
    end = 2.5 * linear.critical_times(gamma[:dimensions], matched).max()
    flow = linear.integrate_flow(start @ model.modes.vectors.mT, gamma, torch.stack([0 * end, end]))
    weights = flow[-1] @ model.modes.vectors
    embeddings = weights @ model.root
    gram, predicted = (f.mT @ f for f in (embeddings, learned.embeddings))
    away = kernel.correlation(embeddings) - torch.eye(dimensions, dtype=torch.float64)
    return Ending(
        1 - float(spectra.subspace_alignment(embeddings, learned.embeddings)),
        float((gram - predicted).norm() / predicted.norm()),
        float(away.abs().max()),
        float((weights**2).sum()),
        learned.norm_squared,
        scale ** (1 - float(gamma[dimensions] / gamma[dimensions - 1])),
    )


def competitors(model: KernelModel, dimensions: int, count: int, seed: int) -> Float64[Tensor, " run"]:
    """Squared norms of random embeddings with zero loss, half of them with parts on negative modes."""
    norms = []
    for part, scale in enumerate((0.0, 0.3)):
        draw = generator(seed, "kernel competitors", part)
        runs = count - count // 2 if part == 0 else count // 2
        weights = _resolved_zero_loss(model.modes.eigenvalues, dimensions, runs, draw, scale)
        norms.append((weights**2).sum((-2, -1)))
    return torch.cat(norms)


def _resolved_zero_loss(
    gamma: Tensor, dimensions: int, runs: int, draw: torch.Generator, negative_scale: float
) -> Tensor:
    """Competitors that live on the modes above 1 % of γ₁: on smaller ones their norm is only larger."""
    kept = gamma[gamma.abs() > 0.01 * gamma[0]]
    return linear.zero_loss_weights(kept, dimensions, runs, draw, negative_scale)


def large_starts(model: KernelModel, dimensions: int, scales: Sequence[float], seed: int) -> xr.Dataset:
    """Train from starts of several scales; ``alignment`` and ``norm_ratio`` at the end, over ``scale``."""
    config = toy.ToyConfig(dimensions=dimensions, init_scale=tuple(scales), seed=seed, mode_threshold=0.0)
    log = toy.train(config, model.modes).isel(step=-1)
    return xr.Dataset(
        {
            "alignment": ("scale", log["alignment"].values),
            "norm_ratio": ("scale", (log["weight_norm"] / log["minimum_norm"]).values),
            "loss": ("scale", log["loss"].values),
        },
        coords={"scale": list(scales)},
    )


def half_time_ratios(log: xr.Dataset) -> Float[np.ndarray, " mode"]:
    """Half times of the sorted eigenvalues of C over the predicted ones, in order of time."""
    run = log.isel(run=0)
    halves = linear.crossing_times(
        torch.from_numpy(run["effective_time"].values),
        torch.from_numpy(run["correlation_eigenvalues"].values),
    )
    return halves.numpy() / np.sort(run["critical_time"].values)


class PCAGap(NamedTuple):
    """Differences between SSL on identical views and scikit-learn's kernel PCA."""

    eigenvalues: float
    embeddings: float


def kernel_pca_gap(points: Float[Tensor, "point input"], similarity: Kernel, components: int) -> PCAGap:
    """SSL on identical, centred views against `sklearn.decomposition.KernelPCA`, whitened.

    Eigenvalues relative to the largest (kernel PCA's divided by n); embeddings relative to their largest
    entry, up to the signs of components.
    """
    gram = similarity(points, points)
    count = len(points)
    model = kernel.kernel_model(kernel.centre_views(gram.repeat(2, 2)))
    pca = KernelPCA(components, kernel="precomputed", eigen_solver="dense").fit(gram.numpy())
    values = torch.from_numpy(pca.eigenvalues_ / count)
    whitened = torch.from_numpy(pca.eigenvectors_ * math.sqrt(count)).mT
    found = model.embed(components).embeddings[:, :count]
    sign = torch.sign((found * whitened).sum(1, keepdim=True))
    return PCAGap(
        float((model.modes.eigenvalues[:components] - values).abs().max() / values[0]),
        float((sign * found - whitened).abs().max() / whitened.abs().max()),
    )


# --- held-out pairs ---


def held_out_agreement(
    train: FixedPairs, test: FixedPairs, similarity: Kernel, modes: int, seed: int
) -> xr.Dataset:
    """Each learned function on pairs that were not trained on, over ``mode``.

    ``agreement``: correlation coefficient between f_j(x) and f_j(x′) over the test pairs; ``shuffled``: the
    same with partners of other images; ``diagonal``: C_jj on the test pairs (1 on the training pairs).
    """
    samples = kernel.stack_views(train.view_a, train.view_b)
    points = kernel.stack_views(test.view_a, test.view_b)
    model = kernel.kernel_model(similarity(samples, samples))
    modes = min(modes, linear.positive_modes(model.modes.eigenvalues))
    first, second = model.embed(modes)(similarity(samples, points)).chunk(2, dim=1)
    order = torch.randperm(first.shape[1], generator=generator(seed, "kernel held-out"))
    return xr.Dataset(
        {
            "agreement": ("mode", _correlations(first, second)),
            "shuffled": ("mode", _correlations(first, second[:, order])),
            "diagonal": ("mode", (first * second).mean(1).numpy()),
            "eigenvalue": ("mode", model.modes.eigenvalues[:modes].numpy()),
        },
        coords={"mode": np.arange(1, modes + 1)},
        attrs={"pairs": first.shape[1]},
    )


def _correlations(first: Tensor, second: Tensor) -> np.ndarray:
    a, b = (x - x.mean(1, keepdim=True) for x in (first, second))
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).numpy()


def split_digits(seed: int, train: int, test: int) -> tuple[FixedPairs, FixedPairs]:
    """Noisy digit pairs of different images, to train on and to hold out."""
    both = tasks.digit_pairs(seed, pairs=train + test)
    return (
        FixedPairs(both.view_a[:train], both.view_b[:train]),
        FixedPairs(both.view_a[train:], both.view_b[train:]),
    )


# --- infinite width ---


def infinite_width(config: wide.WideConfig) -> xr.Dataset:
    """How far tangent kernels at initialisation are from the closed form: ``distance`` (width, seed)."""
    distance = np.empty((len(config.width), len(config.seed)))
    for column, seed in enumerate(config.seed):
        pairs = tasks.digit_pairs(seed, pairs=config.pairs, noise_sd=config.noise_sd)
        samples = kernel.stack_views(pairs.view_a, pairs.view_b)
        limit = kernel.relu_tangent_kernel(samples, samples)
        for row, width in enumerate(config.width):
            weights = wide.initial_weights(seed, width, samples.shape[1], config.dimensions)
            found = wide.tangent_kernel(weights, samples)
            distance[row, column] = float((found - limit).norm() / limit.norm())
    coords = {"width": list(config.width), "seed": list(config.seed)}
    return xr.Dataset({"distance": (("width", "seed"), distance)}, coords=coords)


def head_start(config: wide.WideConfig, scales: Sequence[float], *, device: str = "cpu") -> xr.Dataset:
    """The second eigenvalue of C at the predicted half time of mode 1, over (scale, width, seed).

    ``network``: of trained networks whose outputs start at these scales; ``theory``: as predicted from the
    tangent kernel at initialisation. ``error``: mean |log ratio| of measured and predicted half times.
    """
    values = []
    for scale in scales:
        run = wide.train(config.replace(output_scale=scale, horizon=1.1), device=device)
        step = (run["predicted_half_time"].sel(mode=1) / run["learning_rate"]).round().astype(int)
        at = run[["eigenvalues", "predicted_eigenvalues"]].sel(mode=2).isel(step=step)
        error = np.abs(np.log(run["ratio"])).mean("mode", skipna=False)
        values.append(at.drop_vars(("mode", "step")).assign(error=error))
    together = xr.concat(values, "scale").assign_coords(scale=list(scales))
    return together.rename(eigenvalues="network", predicted_eigenvalues="theory")


def exponent(values: xr.DataArray) -> float:
    """The power of ``width`` with which the mean over seeds changes."""
    mean = values.mean("seed")
    return float(np.polyfit(np.log(mean["width"].values), np.log(mean.values), 1)[0])


# --- explorer ---


class Clock(NamedTuple):
    """Typical starts s_j(0) of as many modes, and the times at which to look."""

    start: Float64[Tensor, " mode"]
    times: list[float]


def clock(planes: Sequence[Planar], modes: int, scale: float, count: int) -> Clock:
    """s_j(0) = scale·√(d − j + 1), its root mean square, and times from before the first step to the end."""
    start = scale * torch.arange(modes, 0, -1, dtype=torch.float64).sqrt()
    halves = torch.stack(
        [linear.critical_times(plane.model.modes.top(modes).eigenvalues, start) for plane in planes]
    )
    times = np.geomspace(0.6 * float(halves.min()), 1.25 * float(halves.max()), count)
    return Clock(start, [float(f"{time:.3g}") for time in times])
