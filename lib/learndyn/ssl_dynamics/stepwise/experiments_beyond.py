"""What the notebook "Where the story goes on" measures: controls, probes, first steps, speed, depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float, Float64
from torch import Tensor

from learndyn.core import evaluation, spectra, ssl_training
from learndyn.core.backbones import MLPConfig
from learndyn.core.device import generator
from learndyn.core.pairs import FixedPairs, noise_pairs, shuffled_pairs, stack_pairs
from learndyn.core.ssl_losses import (
    BarlowTwinsLoss,
    BarlowTwinsTheoryLoss,
    NTXentLoss,
    SpectralContrastiveLoss,
    SSLLoss,
    VICRegLoss,
)
from learndyn.core.ssl_settings import SSLConfig, geometric_steps
from learndyn.core.ssl_training import Training
from learndyn.ssl_dynamics.stepwise import (
    depth,
    feature_bias,
    growth,
    linear,
    nuisance,
    preconditioner,
    prediction,
    presets,
    tasks,
    toy,
)
from learndyn.ssl_dynamics.stepwise.settings_beyond import Beyond

NOISE = 0.15  # of the digit pairs, in pixel units
EXTENT, AMPLITUDE = "extent", "amplitude"
PROBED = ("barlow_twins", "vicreg", "simclr")


# Two features


def feature_pairs(settings: Beyond) -> Mapping[str, FixedPairs]:
    """Views of the two toys: features of extent 9 and 1, waves of amplitude 3 and 1."""
    draw = generator(0, "two features")
    return {
        EXTENT: feature_bias.extent_pairs(settings.feature_pairs, generator=draw),
        AMPLITUDE: feature_bias.amplitude_pairs(settings.feature_pairs, generator=draw),
    }


def feature_toy(settings: Beyond, pairs: FixedPairs) -> xr.Dataset:
    """A linear model with two outputs on one of the toys; the log of `toy.train` of a single run.

    Adds ``half_time`` (mode) and ``theory`` (step, mode), the logistic curves of the matched start.
    """
    modes = linear.feature_modes(*pairs.evaluation())
    config = toy.ToyConfig(dimensions=2, init_scale=settings.feature_scale, stability_fraction=0.05)
    run = toy.train(config, modes, device=settings.device).isel(run=0)
    times = torch.tensor(run["effective_time"].values)
    curves = linear.correlation_eigenvalues(
        times, modes.eigenvalues[:2], torch.tensor(run["start"].values), float(run["learning_rate"])
    )
    half = linear.crossing_times(times, torch.tensor(run["correlation_eigenvalues"].values))
    return run.assign(
        half_time=("mode", half.numpy()),
        theory=(("step", "mode"), curves.sort(-1, descending=True).values.numpy()),
    )


def feature_network(settings: Beyond, pairs: FixedPairs, learning_rate: float = 0.05) -> xr.Dataset:
    """A ReLU network on one of the toys, from an ordinary body and a small head; the log of the trainer.

    ``learning_rate`` is in units of 1/γ₁ of the inputs. Adds ``half_time`` (run, mode).
    """
    a, b = pairs.evaluation()
    first = float(linear.feature_modes(a, b).eigenvalues[0])
    config = SSLConfig(
        network=MLPConfig(inputs=a.shape[-1], hidden=(settings.feature_hidden,), dimensions=2),
        loss=BarlowTwinsTheoryLoss(centre=True),
        seed=settings.seeds,
        learning_rate=learning_rate / first,
        head_scale=settings.feature_scale,
        steps=settings.feature_steps,
        log_ratio=1.04,
    )
    log = ssl_training.train(config, FixedPairs(a.float(), b.float()), device=settings.device).log
    return log.assign(half_time=(("run", "mode"), eigenvalue_half_times(log)))


def eigenvalue_half_times(log: xr.Dataset) -> Float64[np.ndarray, "run mode"]:
    """When each sorted eigenvalue of C crosses ½, in effective time; NaN where it never does."""
    times = torch.tensor(log["effective_time"].values)
    curves = torch.tensor(log["correlation_eigenvalues"].values)
    return torch.stack([linear.crossing_times(*row) for row in zip(times, curves, strict=True)]).numpy()


# Digits: networks and how good their embeddings are


def digit_training_pairs(settings: Beyond, pairs: int, seed: int = 0) -> FixedPairs:
    """Two noisy views of some of the training images of `tasks.digit_split`."""
    train, _ = tasks.digit_split(0, settings.probe_train)
    draw = generator(seed, "beyond pairs")
    return noise_pairs(train.images[:pairs], noise_sd=NOISE / train.pixel_rms, generator=draw)


def digit_controls(settings: Beyond, pairs: int) -> tuple[FixedPairs, FixedPairs]:
    """`digit_training_pairs` as they are, and with shuffled positives."""
    true = digit_training_pairs(settings, pairs)
    return true, shuffled_pairs(true, generator(0, "shuffled digits"))


def embeddings(
    training: Training, images: Float[Tensor, "image input"]
) -> Float[Tensor, "run checkpoint image dimension"]:
    """Embeddings of these images at every kept step of every run."""
    config = training.config
    with torch.no_grad():
        rows = [
            torch.stack([training.network(run, step)(images)[0] for step in config.kept_steps])
            for run in range(config.runs)
        ]
    return torch.stack(rows)


def accuracies(settings: Beyond, training: Training) -> xr.Dataset:
    """Test accuracy on digits of every kept step: ``knn``, ``linear_probe``, ``participation_ratio``.

    All over (run, checkpoint), with ``step`` along checkpoint. Neighbours and probe use the training images
    and their labels, which the network never saw; the test images are new to both.
    """
    train, test = tasks.digit_split(0, settings.probe_train)
    known, new = (embeddings(training, part.images) for part in (train, test))
    probe = evaluation.linear_probe(known, train.labels, max_iterations=5000)
    neighbours = evaluation.knn_accuracy(known, train.labels, new, test.labels, k=settings.neighbours)
    covariance = training.log["covariance_eigenvalues"].sel(step=list(training.config.kept_steps))
    dims = ("run", "checkpoint")
    variables = {
        "knn": (dims, neighbours.numpy()),
        "linear_probe": (dims, probe.accuracy(new, test.labels).numpy()),
        "participation_ratio": (
            dims,
            spectra.participation_ratio(torch.tensor(covariance.transpose("run", "step", "mode").values)),
        ),
    }
    variables = {name: (names, np.asarray(values)) for name, (names, values) in variables.items()}
    coords = {"step": ("checkpoint", list(training.config.kept_steps)), "seed": training.log["seed"]}
    return xr.Dataset(variables, coords)


def pixel_accuracy(settings: Beyond) -> float:
    """k-NN accuracy of the pixels themselves, with no network at all."""
    train, test = tasks.digit_split(0, settings.probe_train)
    found = evaluation.knn_accuracy(
        train.images, train.labels, test.images, test.labels, k=settings.neighbours
    )
    return float(found)


def shuffled_digits(settings: Beyond, pairs: int, steps: int) -> Mapping[str, xr.Dataset]:
    """The MLP with Barlow Twins on digit pairs as they are (``true``) and with ``shuffled`` positives.

    Each is the trainer's log with ``half_time`` and, merged in, the `accuracies` (``checkpoint_step``).
    """
    true, shuffled = digit_controls(settings, pairs)
    count = len(settings.seeds)
    config = presets.mlp(
        "barlow_twins",
        settings.seeds * 2,
        learning_rate=settings.control_learning_rate,
        steps=steps,
        log_ratio=1.03,
    )
    config = config.replace(snapshot_steps=_logged_checkpoints(config, 12))
    runs = stack_pairs([true] * count + [shuffled] * count)
    training = ssl_training.train(config, runs, device=settings.device, progress=settings.progress)
    log = training.log.drop_vars("embedding").assign(
        half_time=(("run", "mode"), eigenvalue_half_times(training.log))
    )
    found = accuracies(settings, training).rename(step="checkpoint_step")
    both = xr.merge([log, found.drop_vars("seed")])
    return {
        "true": both.isel(run=slice(0, count)),
        "shuffled": both.isel(run=slice(count, None)),
    }


def shuffled_table(runs: Mapping[int, Mapping[str, xr.Dataset]]) -> pd.DataFrame:
    """Accuracies at the end of `shuffled_digits`, true / shuffled: one row per number of pairs and seed."""

    def both(logs: Mapping[str, xr.Dataset], how: str, run: int) -> str:
        return " / ".join(f"{float(logs[name][how][run, -1]):.3f}" for name in ("true", "shuffled"))

    rows = [
        (pairs, int(seed), both(logs, "knn", run), both(logs, "linear_probe", run))
        for pairs, logs in runs.items()
        for run, seed in enumerate(logs["true"]["seed"].values)
    ]
    return pd.DataFrame(rows, columns=["pairs", "seed", "k-NN: true / shuffled", "probe: true / shuffled"])


def probe_runs(settings: Beyond) -> Mapping[str, xr.Dataset]:
    """`accuracies` along training on the digits with each of the three losses."""
    pairs = digit_training_pairs(settings, settings.probe_pairs)
    network = MLPConfig(inputs=64, hidden=(256,), dimensions=settings.probe_dimensions)
    found = {}
    for name, steps in zip(PROBED, settings.probe_steps, strict=True):
        seeds = settings.seeds if name != "simclr" else settings.seeds[:1]
        config = presets.mlp(name, seeds, network=network, steps=steps, log_ratio=1.05)
        config = config.replace(snapshot_steps=_logged_checkpoints(config, 24))
        training = ssl_training.train(config, pairs, device=settings.device, progress=settings.progress)
        found[name] = accuracies(settings, training)
    return found


def _logged_checkpoints(config: SSLConfig, count: int) -> tuple[int, ...]:
    """About so many of the logged steps, geometrically spaced."""
    logged = np.array(config.logged_steps)
    wanted = [step for step in geometric_steps(config.steps, config.steps ** (1 / count)) if step >= 3]
    return tuple(sorted({0, *(int(logged[np.abs(logged - step).argmin()]) for step in wanted)}))


# First steps


def compared_losses() -> Mapping[str, SSLLoss]:
    """The losses whose first steps are compared."""
    return {
        "Barlow Twins, theory": BarlowTwinsTheoryLoss(),
        "Barlow Twins, standard": BarlowTwinsLoss(),
        "spectral contrastive": SpectralContrastiveLoss(),
        "InfoNCE": NTXentLoss(temperature=0.2, similarity="inner_product"),
        "NT-Xent, head bias": NTXentLoss(temperature=0.2),
        "VICReg": VICRegLoss(invariance_weight=1.0, variance_weight=1.0, covariance_weight=0.2),
    }


def first_steps(settings: Beyond, dimensions: int = 4) -> pd.DataFrame:
    """Gradients of small linear models by autograd, against the first-step operators: relative errors.

    One row per loss and scale of W: ``error`` of −2WM, and ``error_gamma`` of the best multiple of WΓ (with
    the projection that a head bias brings): what is wrong if all losses are taken for Barlow Twins.
    """
    pairs = digit_training_pairs(settings, settings.control_pairs)
    a, b = (view.double() for view in pairs.evaluation())
    draw = generator(0, "first steps")
    w = torch.randn(dimensions, a.shape[-1], generator=draw, dtype=torch.float64)
    bias = torch.randn(dimensions, generator=draw, dtype=torch.float64)
    gamma = spectra.cross_covariance(a, b)
    rows = []
    for name, loss in compared_losses().items():
        head = bias if name.startswith("NT-Xent") else None
        operator = growth.first_step_operator(loss, a, b, head, dimensions=dimensions)
        for scale in settings.operator_scales:
            weights = (scale * w).requires_grad_(True)
            views = [view @ weights.mT if head is None else view @ weights.mT + head for view in (a, b)]
            (true,) = torch.autograd.grad(loss(*views), weights)
            predicted, naive = (_off_bias(-2 * scale * w @ matrix, head) for matrix in (operator, gamma))
            naive = naive * ((naive * true).sum() / naive.square().sum())
            errors = [float((guess - true).norm() / true.norm()) for guess in (predicted, naive)]
            rows.append((name, scale, *errors))
    return pd.DataFrame(rows, columns=["loss", "scale", "error", "error_gamma"])


def first_step_table(found: pd.DataFrame) -> pd.DataFrame:
    """`first_steps` for the page: errors at the largest and smallest scale, and with Γ in place of M."""
    wide = found.pivot(index="loss", columns="scale", values=["error", "error_gamma"]).loc[
        list(compared_losses())
    ]
    scales = sorted(found["scale"].unique())
    table = {f"at scale {scale:.0e}": wide["error", scale] for scale in (scales[-1], scales[0])}
    table["Γ for M"] = wide["error_gamma", scales[0]]
    return pd.DataFrame(table).map("{:.0e}".format).reset_index()


def _off_bias(matrix: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return matrix
    unit = bias / bias.norm()
    return matrix - unit[:, None] * (unit @ matrix)


def spectral_error(
    gamma: Sequence[float] = (2.0, 1.0, 0.4), sigma: Sequence[float] = (2.5, 1.6, 1.0)
) -> float:
    """Largest relative error of the closed spectral contrastive trajectory against gradient flow of W.

    W is diagonal, so that Γ and Σ commute with WᵀW; the flow is that of the loss −2 tr WΓWᵀ + ‖WΣWᵀ‖².
    """
    g, s = (torch.tensor(values, dtype=torch.float64) for values in (gamma, sigma))
    start = torch.tensor([1e-3, 2e-3, 5e-4], dtype=torch.float64)
    times = torch.linspace(0, 6, 200, dtype=torch.float64)

    def velocity(w: Tensor) -> Tensor:
        return 4 * w * g - 4 * (w * s) @ w.mT @ (w * s)

    path = linear.integrate(velocity, torch.diag(start), times, 1e-11)
    exact = growth.spectral_contrastive_trajectory(times, start, g, s)
    return float(((path.square().sum(-1) - exact) / exact).abs().max())


# Nuisance


def _vicreg(ratio: float, eps: float = 1e-4) -> VICRegLoss:
    return VICRegLoss(invariance_weight=ratio, variance_weight=1.0, covariance_weight=0.2, eps=eps)


def nuisance_runs(settings: Beyond) -> xr.Dataset:
    """Barlow Twins and VICReg with some ratios inv/var: the log of `nuisance.train` over (loss, seed)."""
    losses = (BarlowTwinsTheoryLoss(), *(_vicreg(ratio) for ratio in settings.nuisance_ratios))
    seeds = settings.nuisance_seeds
    runs = [(loss, seed) for loss in losses for seed in seeds]
    log = nuisance.train(
        nuisance.NuisanceConfig(loss=[loss for loss, _ in runs], seed=[seed for _, seed in runs])
    )
    grid = pd.MultiIndex.from_product([range(len(losses)), seeds], names=["loss_number", "seed"])
    coords = xr.Coordinates.from_pandas_multiindex(grid, "run")
    log = log.drop_vars(["seed", "loss", "invariance_ratio"]).assign_coords(coords).unstack("run")
    names = ["Barlow Twins", *(f"VICReg {ratio:g}/1/0.2" for ratio in settings.nuisance_ratios)]
    return log.rename(loss_number="loss").assign_coords(loss=names)


def nuisance_sweep(settings: Beyond, eps: float = 1e-4) -> xr.Dataset:
    """VICReg on infinitely many pairs, over ``ratio`` (inv/var).

    ``growth`` (ratio, input): e-folding rate of each column of W, measured over the first steps of training;
    ``predicted``: of the first-step operator; ``peak_share``: largest part of the strongest direction of W
    that is nuisance, along a longer training, from step 10 on.
    """
    config = nuisance.NuisanceConfig(
        loss=tuple(_vicreg(ratio, eps) for ratio in settings.sweep_ratios),
        pairs=None,
        learning_rate=1e-5,
        steps=50,
    )
    early = nuisance.train(config)
    end = early["energy"].isel(step=-1) / early["energy"].isel(step=0)
    rate = np.log(end) / 2 / float(early["effective_time"][-1])
    late = nuisance.train(config.replace(learning_rate=0.002, steps=1000))
    peak = late["nuisance_share"].sel(direction=1).sel(step=slice(10, None)).max("step")
    data = xr.Dataset({"growth": rate, "predicted": early["growth_rate"], "peak_share": peak})
    data = data.drop_vars(["loss", "seed", "direction", "invariance_ratio"], errors="ignore")
    return data.rename(run="ratio").assign_coords(ratio=list(settings.sweep_ratios))


# Speed and selectivity


def selectivity(settings: Beyond) -> xr.Dataset:
    """`preconditioner.selectivity`, with ``steps`` (exponent, seed): steps to the last half time.

    Steps are those of gradient descent at a tenth of each exponent's largest stable learning rate.
    """
    found = preconditioner.selectivity(settings.exponents, seeds=settings.selectivity_seeds)
    return found.assign(steps=found["half_time"].isel(mode=-1) / (0.1 * found["stable_rate"]))


def selectivity_table(found: xr.Dataset, earlier: xr.Dataset) -> pd.DataFrame:
    """Medians over the draws beside the one earlier draw, one row per exponent; NaN where that has none."""
    names = {"alignment": "alignment", "norm_ratio": "squared norm / least"}
    table = pd.DataFrame({"p": found["exponent"].values})
    before = earlier.reindex(exponent=found["exponent"].values)
    for name, words in names.items():
        table[words] = found[name].median("seed").values
        table[f"{words}, earlier draw"] = before[name].values
    return table.assign(steps=found["steps"].median("seed").values)


def explorer_grid(settings: Beyond) -> tuple[dict[tuple[float, float], xr.Dataset], dict[float, float]]:
    """`preconditioner.single_run` for all exponents and scales; for each scale the steps to be shown."""
    grid = {
        (exponent, scale): preconditioner.single_run(exponent, scale)
        for exponent in settings.explorer_exponents
        for scale in settings.explorer_scales
    }
    longest = {
        scale: max(float(run["last_step"]) for (_, own), run in grid.items() if own == scale)
        for scale in settings.explorer_scales
    }
    return grid, {scale: 1.4 * last for scale, last in longest.items()}


# Depth


def escape_scaling(settings: Beyond, eigenvalue: float = 3.0) -> xr.Dataset:
    """Half time of the first mode against the scale α of all layers, over (layers, seed, scale).

    ``measured``: random linear networks, integrated; ``exact`` (layers, scale): one mode whose layers all
    start at α; ``law``: the leading law for small α.
    """
    gamma = eigenvalue * torch.tensor([1.0, 0.5, 0.2, 0.1], dtype=torch.float64)
    widths = {1: (4, 2), 2: (4, 8, 2)}
    measured = [
        [
            [_half_time(layer, widths[layer], scale, seed, gamma) for scale in settings.depth_scales]
            for seed in settings.seeds
        ]
        for layer in widths
    ]
    scales = list(settings.depth_scales)
    laws = {
        name: [[function(eigenvalue, scale, layer) for scale in scales] for layer in widths]
        for name, function in {"exact": depth.half_time, "law": depth.escape_time}.items()
    }
    return xr.Dataset(
        {"measured": (("layers", "seed", "scale"), np.array(measured))}
        | {name: (("layers", "scale"), np.array(rows)) for name, rows in laws.items()},
        coords={"layers": list(widths), "seed": list(settings.seeds), "scale": scales},
    )


def _half_time(layers: int, widths: Sequence[int], scale: float, seed: int, gamma: Tensor) -> float:
    weights = depth.random_layers(widths, [scale] * layers, generator(seed, "depth", layers))
    return _first_half_time(weights, gamma, 1.5 * depth.escape_time(float(gamma[0]), scale, layers))


def _first_half_time(layers: list[Tensor], gamma: Tensor, guess: float, rounds: int = 8) -> float:
    """Half time of the first mode of a linear network; the horizon is doubled until it is reached."""
    for horizon in guess * 2.0 ** np.arange(rounds):
        times = torch.linspace(0, float(horizon), 800, dtype=torch.float64)
        path = depth.product(depth.integrate_flow(layers, gamma, times, rtol=1e-7))
        values = spectra.sorted_eigenvalues((path * gamma) @ path.mT)
        if float(values[-1, 0]) > 0.5:
            return float(linear.crossing_times(times, values)[0])
    return math.nan


def two_knobs(eigenvalue: float = 1.0) -> xr.Dataset:
    """Half time of one mode of two layers over (body, head): ``exact``, and ``measured`` by integration."""
    body, head = [1.0, 0.3, 0.1], np.geomspace(1e-4, 0.3, 7)
    gamma = torch.tensor([eigenvalue], dtype=torch.float64)
    exact = [[depth.two_layer_half_time(eigenvalue, b, float(h)) for h in head] for b in body]

    def integrated(*scales: float, guess: float) -> float:
        layers = [torch.full((1, 1), scale, dtype=torch.float64) for scale in scales]
        return _first_half_time(layers, gamma, 1.1 * guess)

    measured = [
        [integrated(b, float(h), guess=t) for h, t in zip(head, row, strict=True)]
        for b, row in zip(body, exact, strict=True)
    ]
    dims = ("body", "head")
    return xr.Dataset(
        {"exact": (dims, np.array(exact)), "measured": (dims, np.array(measured))},
        coords={"body": body, "head": head},
    )


# Temperature


def temperature_alignment(settings: Beyond) -> pd.DataFrame:
    """SimCLR on the digits of `presets.mlp_pairs`: alignment with what the network's own tangent kernel says.

    One row per ``temperature``: ``raw``, ``centred``, ``random``.
    """
    seed = settings.seeds[:1]
    pairs = presets.mlp_pairs(seed, settings.control_pairs)
    losses = tuple(NTXentLoss(temperature=temperature) for temperature in settings.temperatures)
    config = presets.mlp("simclr", seed * len(losses), steps=settings.temperature_steps, log_ratio=1.2)
    training = ssl_training.train(config.replace(loss=losses), pairs, device=settings.device)
    networks = [training.network(run) for run in range(len(losses))]
    rows = [prediction.alignment_with_network(network, pairs) for network in networks]
    return pd.DataFrame(rows, columns=prediction.Alignment._fields).assign(
        temperature=list(settings.temperatures)
    )
