"""Settings of the notebook "Exactly solvable self-supervised learning", and the experiments that it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float, Float64
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from learndyn.core import images, spectra
from learndyn.core.config import Config
from learndyn.core.device import Device, generator
from learndyn.core.pairs import FixedPairs, crop_pairs
from learndyn.ssl_dynamics.stepwise import linear, published, toy
from learndyn.ssl_dynamics.stepwise.linear import Modes

Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
Scales = Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]
Ratio = Annotated[float, Field(gt=0, lt=1)]


class Linear(Config):
    """The parameters cell of the notebook; the defaults are its quick profile.

    ``images`` "photos" are patches of two photographs, "cifar10" random training images, read from
    ``directory`` (downloaded if it is empty). How the published inputs were standardised is not known:
    ``standardise`` is by "channel", "global" (one mean and one deviation) or "none".
    """

    images: Literal["photos", "cifar10"] = "photos"
    directory: str = ""
    standardise: Literal["channel", "global", "none"] = "channel"
    downscale: PositiveInt = 4
    pairs: PositiveInt = 500
    patch: PositiveInt = 32
    crop: PositiveInt = 20
    dimensions: Annotated[int, Field(ge=4)] = 10
    init_scale: PositiveFloat = 1e-7
    tiny_scale: PositiveFloat = 1e-20
    stability_fraction: PositiveFloat = 0.25
    data_seeds: Seeds = (0, 1)
    seeds: Seeds = (0, 1)
    delay_fractions: Scales = (0.05, 0.1, 0.25, 0.5)
    law_scales: Scales = (1e-4, 1e-6, 1e-8, 1e-10)
    law_seeds: PositiveInt = 3
    degenerate_seeds: PositiveInt = 16
    competitors: PositiveInt = 2000
    starts: PositiveInt = 2000
    explorer_scales: Scales = (1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10)
    explorer_gaps: Annotated[tuple[Ratio, ...], Field(min_length=1)] = (0.4, 0.7, 0.9, 0.98)
    explorer_seeds: Seeds = (0, 1, 2, 3, 4, 5)
    explorer_dimensions: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 3)
    device: Device = "cpu"
    progress: bool = True

    @property
    def is_published_setup(self) -> bool:
        """Whether the data are those of Figure 1A,B, as far as they are known."""
        shape = (self.images, self.pairs, self.patch, self.crop, self.dimensions)
        return shape == ("cifar10", published.FIGURE1_PAIRS, 32, published.FIGURE1_CROP, 10)

    @property
    def toy(self) -> toy.ToyConfig:
        """The toy of Figure 1A,B, all initial seeds."""
        return toy.ToyConfig(
            dimensions=self.dimensions,
            init_scale=self.init_scale,
            seed=self.seeds,
            stability_fraction=self.stability_fraction,
        )


# Data


def input_pairs(settings: Linear, seed: int) -> FixedPairs:
    """Two random crops of each of ``settings.pairs`` images, views ``[pair, 3, crop, crop]``.

    Raises:
        DataError, PairsError: files that are not there, crops that do not fit; one sentence.
    """
    photos = _source_images(settings, seed)
    if settings.standardise != "none":
        axes = (0, 2, 3) if settings.standardise == "channel" else (0, 1, 2, 3)
        photos = photos - photos.mean(axes, keepdim=True)
        photos = photos / photos.std(axes, keepdim=True, correction=0)
    draw = generator(seed, "photo pairs")
    return crop_pairs(photos, pairs=settings.pairs, patch=settings.patch, crop=settings.crop, generator=draw)


def _source_images(settings: Linear, seed: int) -> Float[Tensor, "image channel height width"]:
    if settings.images == "photos":
        return images.photographs(settings.downscale)
    data = images.cifar10("train", settings.directory or None, progress=settings.progress)
    chosen = torch.randperm(len(data), generator=generator(seed, "stepwise cifar"))[: settings.pairs]
    return data.subset(chosen).as_float()


class Experiment(NamedTuple):
    """The linear toy on one drawing of the data: pairs, modes of Γ, and the runs of all initial seeds."""

    pairs: FixedPairs
    modes: Modes
    runs: xr.Dataset


def measure(settings: Linear, **changes: object) -> list[Experiment]:
    """Train the toy of Figure 1A,B for every data seed; ``changes`` replace fields of the settings."""
    changed = settings.replace(**changes)
    found = []
    for seed in changed.data_seeds:
        pairs = input_pairs(changed, seed)
        modes = linear.feature_modes(*pairs.evaluation())
        runs = toy.train(changed.toy, modes, device=changed.device, progress=changed.progress)
        found.append(Experiment(pairs, modes, runs.assign_attrs(data_seed=seed)))
    return found


def half_times(runs: xr.Dataset) -> Float64[np.ndarray, "run mode"]:
    """When each sorted eigenvalue of C crosses ½, in effective time."""
    times, curves = tensor(runs["effective_time"]), tensor(runs["correlation_eigenvalues"])
    rows = [linear.crossing_times(*row) for row in zip(times, curves, strict=True)]
    return torch.stack(rows).numpy()


def predicted_times(runs: xr.Dataset, discrete: bool = True) -> Float64[np.ndarray, "run mode"]:
    """Critical times of the matched starts, sorted: under gradient descent, or in the flow."""
    times = runs["critical_time"].values
    if not discrete:
        gamma = runs["eigenvalue"].values[: runs.sizes["mode"]]
        start = tensor(runs["start"])
        times = linear.critical_times(torch.as_tensor(gamma).expand_as(start), start).numpy()
    return np.sort(times, -1)


def theory_eigenvalues(run: xr.Dataset, flow: bool = False) -> Float64[Tensor, "step mode"]:
    """The logistic curves of one run (no run axis) from its matched start, sorted descending at each time."""
    gamma = torch.as_tensor(run["eigenvalue"].values[: run.sizes["mode"]])
    rate = None if flow else float(run["learning_rate"])
    curves = linear.correlation_eigenvalues(tensor(run["effective_time"]), gamma, tensor(run["start"]), rate)
    return curves.sort(-1, descending=True).values


def critical_time_table(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """Published critical times beside ours of the first run: τ_j, half times, ratios; one row per mode."""
    runs = experiments[0].runs.isel(run=[0])
    theirs = published.figure1()
    tau, half = predicted_times(runs)[0], half_times(runs)[0]
    count = min(len(tau), len(theirs))
    frame = pd.DataFrame(
        {
            "mode": np.arange(1, count + 1),
            "published": theirs["critical_time"].to_numpy()[:count],
            "published_gamma": theirs["eigenvalue"].to_numpy()[:count],
            "gamma": experiments[0].modes.eigenvalues[:count].numpy(),
            "critical": tau[:count],
            "half": half[:count],
        }
    )
    return frame.assign(ratio=frame["half"] / frame["critical"])


# The cloud of embeddings


class Cloud(NamedTuple):
    """Embeddings ``[sample, 3]`` on their leading principal axes, at one time of a run."""

    plateau: int
    time: float
    points: Float64[np.ndarray, "sample component"]
    variances: Float64[np.ndarray, " dimension"]


def clouds(settings: Linear, experiment: Experiment, plateaus: int = 4) -> list[Cloud]:
    """Embeddings of all views of the first run in the middle (of log time) of plateaus 0, 1, …"""
    first = experiment.runs.isel(run=[0])
    tau = predicted_times(first)[0]
    middles = [tau[0] / 2, *np.sqrt(tau[: plateaus - 1] * tau[1:plateaus])]
    steps = [round(time / float(first["learning_rate"][0])) for time in middles]
    config = settings.toy.replace(
        **{name: (getattr(settings.toy, name)[0],) for name in toy.ToyConfig.PER_RUN},
        steps=max(steps),
        snapshot_steps=tuple(steps),
    )
    run = toy.train(config, experiment.modes, device=settings.device).isel(run=0)
    kept = experiment.modes.vectors[run["feature_mode"].values - 1]
    views = torch.cat([view.flatten(1).double() for view in experiment.pairs.evaluation()])
    # Directions left out carry W(0), which is what these coordinates of all others are at first.
    features, half = views @ kept.mT, len(views) // 2
    axes: Tensor | None = None
    found = []
    for plateau, step in reversed(list(enumerate(steps))):
        embeddings = features @ tensor(run["weights"].sel(snapshot=step)).mT
        covariance = spectra.embedding_covariance(embeddings[:half], embeddings[half:])
        values, vectors = spectra.sorted_eigh(covariance)
        axes = vectors[:, :3] if axes is None else axes  # those of the last cloud, for all
        centred = embeddings - embeddings.mean(0)
        found.append(Cloud(plateau, float(middles[plateau]), (centred @ axes).numpy(), values.numpy()))
    return found[::-1]


def tensor(values: xr.DataArray) -> Tensor:
    """The values of a labelled array, in memory of their own."""
    return torch.tensor(values.values)
