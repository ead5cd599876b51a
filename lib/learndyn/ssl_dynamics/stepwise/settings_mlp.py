"""Settings of the notebook "A small network takes the steps", and the experiments that it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core import images, spectra
from learndyn.core.config import Config
from learndyn.core.device import Device, generator
from learndyn.core.pairs import FixedPairs, FreshNoisePairs, crop_pairs
from learndyn.core.ssl_losses import BarlowTwinsLoss, NTXentLoss, VICRegLoss
from learndyn.core.ssl_settings import SSLConfig, concatenate, geometric_steps
from learndyn.core.ssl_training import Training, initial_network, train
from learndyn.ssl_dynamics.stepwise import figures_networks as networks
from learndyn.ssl_dynamics.stepwise import prediction, presets, tasks

Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
Steps = Annotated[tuple[NonNegativeInt, ...], Field(min_length=2)]
Scales = Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]

#: Learning rates of the other losses by the scale of the initialisation.
RATES: Mapping[str, Mapping[float, float]] = {
    "vicreg": {1.0: 0.01, 0.5: 0.03, 0.3: 0.1, 0.2: 0.1, 0.1: 0.1},
    "simclr": {1.0: 0.03, 0.5: 0.03, 0.3: 0.1, 0.2: 0.1, 0.1: 0.1},
}
#: Which eigenvalues show the steps of a loss on the MLP, by the trainer's ``loss_name``.
SPECTRA: Mapping[str, networks.Spectrum] = {
    "barlow_twins_theory": "correlation",
    "barlow_twins": "covariance",
    "vicreg": "covariance",
    "ntxent": "covariance",
}


class SmallNetwork(Config):
    """The parameters cell of the notebook; the defaults are its quick profile."""

    seeds: Seeds = (0, 1, 2)
    pairs: Annotated[int, Field(ge=10)] = 100
    noise_sd: NonNegativeFloat = 0.15
    scales: Scales = (1.0, 0.5, 0.3, 0.2, 0.1)
    scale_rates: Scales = (0.0004, 0.006, 0.02, 0.05, 0.03)
    other_scales: Scales = (1.0, 0.1)
    small_steps: Annotated[int, Field(ge=10)] = 1000
    ensemble_steps: Annotated[int, Field(ge=10)] = 1500
    exercise_steps: Annotated[int, Field(ge=10)] = 600
    clock_steps: PositiveInt = 1000
    head_scales: Scales = (0.1, 0.01, 0.001, 0.0001)
    layer_scales: Scales = (0.3, 0.2, 0.1, 0.07, 0.05)
    fresh_steps: PositiveInt = 1000
    batch_size: PositiveInt = 128
    paper_images: Literal["photographs", "cifar10"] = "photographs"
    paper_directory: str = ""
    paper_steps: PositiveInt = 2000
    explorer_steps: Steps = (1, 10, 100)
    device: Device = "cpu"
    progress: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> SmallNetwork:
        if len(self.scales) != len(self.scale_rates):
            raise ValueError(
                f"scale_rates has {len(self.scale_rates)} values for {len(self.scales)} scales; "
                "give one for each"
            )
        unknown = [scale for scale in self.other_scales if scale not in RATES["vicreg"]]
        if unknown:
            known = ", ".join(map(str, RATES["vicreg"]))
            raise ValueError(
                f"other_scales may be {known}, for which learning rates are known, not {unknown[0]}"
            )
        return self

    @property
    def smallest(self) -> float:
        """The smallest scale of the sweep, at which the steps are cleanest."""
        return min(self.scales)

    @property
    def smallest_rate(self) -> float:
        """The learning rate of Barlow Twins there."""
        return dict(zip(self.scales, self.scale_rates, strict=True))[self.smallest]

    @property
    def is_published_mlp(self) -> bool:
        """Whether the paper-style network sees the paper's images for the paper's number of steps."""
        return self.paper_images == "cifar10" and self.paper_steps == 7000


# --- trainings ---


def _train(settings: SmallNetwork, config: SSLConfig, **pairs: float) -> Training:
    """Each run on the digits of its own seed."""
    size = {"pairs": settings.pairs, "noise_sd": settings.noise_sd} | pairs
    return train(
        config, presets.mlp_pairs(config.seed, **size), device=settings.device, progress=settings.progress
    )


def small_start(settings: SmallNetwork, **changes: object) -> Training:
    """Barlow Twins at the smallest scale, all seeds; embeddings and hidden spectra kept along the way.

    Args:
        changes: other fields of the trainer's configuration; ``noise_sd`` goes to the data.
    """
    data = {name: changes.pop(name) for name in ("noise_sd",) if name in changes}
    steps = changes.pop("steps", settings.small_steps)
    seeds = changes.pop("seed", settings.seeds)
    early = geometric_steps(min(steps, 1000), 1.08)
    explorer = [step for step in settings.explorer_steps if step <= steps]
    config = presets.mlp(
        "barlow_twins",
        seeds,
        settings.smallest,
        learning_rate=settings.smallest_rate,
        steps=steps,
        snapshot_steps=tuple(sorted({*early, *explorer})),
        representation_modes=8,
    )
    return _train(settings, config.replace(**changes), **data)


def ensemble(settings: SmallNetwork) -> Training:
    """The other runs with the right configurations, all seeds, as one batched program.

    Barlow Twins at the scales above the smallest, VICReg and SimCLR at ``other_scales``; the embeddings of
    all of them kept for the explorer.
    """
    kept = tuple(step for step in settings.explorer_steps if step <= settings.ensemble_steps)
    common = {"steps": settings.ensemble_steps, "snapshot_steps": kept}
    cells = [
        ("barlow_twins", scale, rate)
        for scale, rate in zip(settings.scales, settings.scale_rates, strict=True)
        if scale != settings.smallest
    ]
    cells += [(loss, scale, RATES[loss][scale]) for loss in RATES for scale in settings.other_scales]
    configs = [
        presets.mlp(loss, settings.seeds, scale, learning_rate=rate, **common) for loss, scale, rate in cells
    ]
    return _train(settings, concatenate(configs))


def wrong_configurations(settings: SmallNetwork) -> xr.Dataset:
    """The log of runs that do not step, do so badly, or diverge; the first seed. ``run`` is a name."""
    seed, steps = settings.seeds[:1], {"steps": settings.ensemble_steps}
    raw = NTXentLoss(temperature=0.2, similarity="inner_product")
    # Without eps the loss does not feel the scale of the embeddings at all.
    standard = BarlowTwinsLoss(eps=1e-12)
    configs = {
        "no head bias": presets.mlp("simclr", seed, head_bias=0.0, **steps),
        "inner product": presets.mlp("simclr", seed, head_bias=0.0, **steps).replace(loss=(raw,)),
        "25/25/1": presets.mlp("vicreg", seed, learning_rate=0.01, **steps).replace(loss=(VICRegLoss(),)),
        "standard 1": presets.mlp("barlow_twins", seed, 1.0, learning_rate=0.1, **steps).replace(
            loss=(standard,)
        ),
        "standard 0.1": presets.mlp("barlow_twins", seed, 0.1, learning_rate=0.001, **steps).replace(
            loss=(standard,)
        ),
        "smaller": presets.mlp("barlow_twins", seed, 0.05, learning_rate=0.03, **steps),
        "too fast": presets.mlp("barlow_twins", seed, 0.05, learning_rate=0.2, **steps),
    }
    return _train(settings, concatenate(list(configs.values()))).log.assign_coords(run=list(configs))


def two_clocks(settings: SmallNetwork) -> pd.DataFrame:
    """Effective half time of the first mode when the head alone starts small, and when all layers do.

    Columns ``layers`` ("head" or "all"), ``scale``, ``time``; Barlow Twins, first seed, one learning rate for
    each of the two series.
    """
    seed, steps = settings.seeds[:1], {"steps": settings.clock_steps}
    head = [
        presets.mlp("barlow_twins", seed, 1.0, learning_rate=0.0004, **steps).replace(head_scale=(scale,))
        for scale in settings.head_scales
    ]
    both = [
        presets.mlp("barlow_twins", seed, scale, learning_rate=0.005, **steps)
        for scale in settings.layer_scales
    ]
    log = _train(settings, concatenate([*head, *both])).log
    first = [
        float(networks.half_times(log.isel(run=run), "correlation")[0] * log["learning_rate"][run])
        for run in range(log.sizes["run"])
    ]
    layers = ["head"] * len(head) + ["all"] * len(both)
    return pd.DataFrame(
        {"layers": layers, "scale": [*settings.head_scales, *settings.layer_scales], "time": first}
    )


def fresh_noise(settings: SmallNetwork) -> Training:
    """Barlow Twins on mini-batches of all digits with new noise at every step; first seed.

    Spectra are logged on the fixed pairs of that seed.
    """
    digits, seed = tasks.all_digits(), settings.seeds[0]
    fixed = presets.mlp_pairs((seed,), settings.pairs, settings.noise_sd)
    noise = settings.noise_sd / digits.pixel_rms
    source = FreshNoisePairs(digits.images, noise, settings.batch_size, seed, fixed)
    config = presets.mlp(
        "barlow_twins",
        (seed,),
        settings.smallest,
        learning_rate=settings.smallest_rate,
        steps=settings.fresh_steps,
    )
    return train(config, source, device=settings.device, progress=settings.progress)


def paper_style(settings: SmallNetwork) -> Training:
    """The paper's shallow MLP on 50 pairs of crops, at torch's own initialisation; first seed."""
    seed = settings.seeds[0]
    if settings.paper_images == "cifar10":
        pairs = cifar_crops(images.cifar10("train", settings.paper_directory or None), seed)
    else:
        pairs = presets.paper_mlp_pairs((seed,))
    config = presets.paper_mlp((seed,), steps=settings.paper_steps)
    return train(config, pairs, device=settings.device, progress=settings.progress)


def cifar_crops(data: images.ImageSet, seed: int, pairs: int = 50, crop: int = 20) -> FixedPairs:
    """Two random crops of each of some random images, standardised per channel over the whole data set."""
    rows = torch.randperm(len(data), generator=generator(seed, "paper images"))[:pairs]
    everything = data.as_float()
    mean = everything.mean((0, 2, 3), keepdim=True)
    sd = everything.std((0, 2, 3), keepdim=True, correction=0)
    return crop_pairs(
        (everything[rows] - mean) / sd,
        pairs=pairs,
        patch=everything.shape[-1],
        crop=crop,
        generator=generator(seed, "paper crops"),
    )


# --- measures ---


def runs_of(
    log: xr.Dataset, *, loss: str | None = None, scale: float | None = None, seed: int | None = None
) -> xr.Dataset:
    """The runs of a log with this ``loss_name``, scale of the hidden layers, and seed."""
    wanted = {"loss_name": loss, "body_scale": scale, "seed": seed}
    keep = np.ones(log.sizes["run"], dtype=bool)
    for name, value in wanted.items():
        if value is not None:
            keep &= log[name].values == value
    return log.isel(run=keep)


def measure_steps(log: xr.Dataset) -> pd.DataFrame:
    """What the steps of each run look like: one row per run.

    Columns ``loss``, ``scale``, ``seed``, ``plateaus`` (clean ones), ``separation`` (median half separation),
    ``start`` and ``end`` (of the loss), ``lowest_rank`` (the least participation ratio of the embeddings),
    ``half_times`` (steps, a tuple), from the spectrum that belongs to the loss (`SPECTRA`).
    """
    rows = []
    for place in range(log.sizes["run"]):
        run = log.isel(run=place)
        name = str(run["loss_name"].item())
        values = networks.eigenvalues(run, SPECTRA[name])
        rows.append(
            {
                "loss": name,
                "scale": float(run["body_scale"]),
                "seed": int(run["seed"]),
                "plateaus": int(spectra.clean_plateaus(values)),
                "separation": float(np.nanmedian(_or_nan(spectra.half_separations(values).numpy()))),
                "start": float(run["loss"][0]),
                "end": float(run["loss"][-1]),
                "lowest_rank": float(np.min(networks.participation(run))),
                "half_times": tuple(networks.half_times(run, SPECTRA[name]).tolist()),
            }
        )
    return pd.DataFrame(rows)


def _or_nan(values: Float[np.ndarray, " value"]) -> Float[np.ndarray, " value"]:
    """The values, or infinity in their place where all are missing, which no claim takes for small."""
    return values if np.isfinite(values).any() else np.full_like(values, np.inf)


class CloudMoment(NamedTuple):
    """The embeddings in the middle of a plateau of C."""

    learned: int  # modes of C learned by then, the mean embedding among them
    step: int
    rank: float  # participation ratio of the centred embeddings


def cloud_moments(run: xr.Dataset, count: int = 5) -> list[CloudMoment]:
    """The kept steps nearest to the middles of the first plateaus of a run."""
    kept = run["snapshot"].values
    moments = []
    for learned, middle in enumerate(networks.plateau_steps(run, "correlation")[:count]):
        step = int(kept[np.abs(kept - middle).argmin()])
        values = torch.tensor(run["covariance_eigenvalues"].sel(step=step, method="nearest").values)
        moments.append(CloudMoment(learned, step, float(spectra.participation_ratio(values))))
    return moments


def digit_groups(pairs: FixedPairs, highlighted: Sequence[int] = (0, 4, 6)) -> list[int]:
    """For each pair the place of its digit among the highlighted ones, −1 for all other digits.

    The label is that of the clean digit nearest to the mean of the two views.
    """
    digits = tasks.all_digits()
    nearest = torch.cdist((pairs.view_a + pairs.view_b) / 2, digits.images).argmin(1)
    labels = digits.labels[nearest].tolist()
    return [highlighted.index(label) if label in highlighted else -1 for label in labels]


def hidden_half_times(run: xr.Dataset) -> Float[np.ndarray, " hidden_mode"]:
    """First step at which each eigenvalue of the hidden layer is half way from its first to its last value.

    The hidden layer starts from random features, not from zero, hence half way and not half.
    """
    values = run["representation_eigenvalues"].values
    above = values > (values[0] + values[-1]) / 2
    return np.where(above.any(0), run["step"].values[above.argmax(0)], np.nan).astype(float)


def same_steps(runs: Mapping[str, xr.Dataset]) -> Float[np.ndarray, "run step"]:
    """The losses of some runs at the steps that all of them logged."""
    return xr.concat(
        [run["loss"].drop_vars("run", errors="ignore") for run in runs.values()], "run", join="inner"
    ).values


# --- embeddings predicted by the tangent kernel ---


def alignments(settings: SmallNetwork, trainings: Sequence[Training]) -> pd.DataFrame:
    """Table of NTK-predicted embeddings: the runs at the smallest scale, one row each.

    Columns ``loss``, ``seed``, ``raw`` and ``centred`` (alignment with the prediction of the network's own
    kernel after training), ``initial_raw`` and ``initial_centred`` (of its kernel before; first seed only),
    ``random``.
    """
    rows = []
    for training, run in _smallest(settings, trainings):
        config = training.config
        seed = config.seed[run]
        pairs = presets.mlp_pairs((seed,), settings.pairs, settings.noise_sd)
        network = training.network(run)
        final = prediction.alignment_with_network(network, pairs)
        row = {"loss": config.loss[run].kind, "seed": seed, "raw": final.raw, "centred": final.centred}
        row |= {"initial_raw": np.nan, "initial_centred": np.nan, "random": final.random}
        if seed == settings.seeds[0]:
            before = initial_network(config, run)
            found = prediction.alignment_with_network(network, pairs, kernel_network=before)
            row |= {"initial_raw": found.raw, "initial_centred": found.centred}
        rows.append(row)
    return pd.DataFrame(rows)


def cross_alignments(settings: SmallNetwork, trainings: Sequence[Training]) -> pd.DataFrame:
    """Alignment of the centred embeddings of different losses on the same pairs, loss × loss."""
    found: dict[int, dict[str, torch.Tensor]] = {}
    for training, run in _smallest(settings, trainings):
        pairs = presets.mlp_pairs((training.config.seed[run],), settings.pairs, settings.noise_sd)
        rows = prediction.network_embeddings(training.network(run), pairs).double()
        by_loss = found.setdefault(training.config.seed[run], {})
        by_loss[training.config.loss[run].kind] = prediction.centre_embeddings(rows)
    losses = list(next(iter(found.values())))
    table = [
        [
            np.mean([float(spectra.subspace_alignment(s[one], s[two])) for s in found.values()])
            for two in losses
        ]
        for one in losses
    ]
    return pd.DataFrame(table, index=losses, columns=losses)


def _smallest(settings: SmallNetwork, trainings: Sequence[Training]) -> list[tuple[Training, int]]:
    return [
        (training, run)
        for training in trainings
        for run in range(training.config.runs)
        if training.config.body_scale[run] == settings.smallest
    ]


def alignment_summary(table: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of `alignments` by loss, the published values beside them, and our earlier ones."""
    ours = {"barlow_twins": "barlow_twins_theory", "vicreg": "vicreg", "simclr": "ntxent"}
    rows = []
    for name, kind in ours.items():
        mine = table[table["loss"] == kind]
        rest = reference[reference["loss"] == name]
        earlier = rest[(rest["task"] == "MLP on digits") & ~rest["variant"].str.contains("stopped|0.5|1.0")]
        theirs = rest[rest["source"] == "published"].iloc[0]
        rows.append(
            {
                "loss": networks.LOSS_NAMES[kind],
                "ours: MLP, digits": mine["raw"].mean(),
                "published: ResNet-50, STL-10": theirs["final_raw"],
                "chance, ours": mine["random"].mean(),
                "chance, published": theirs["random"],
                "ours, centred": mine["centred"].mean(),
                "ours, kernel before training": mine["initial_raw"].mean(),
                "ours, earlier runs": earlier["final_raw"].mean(),
            }
        )
    return pd.DataFrame(rows)


# --- histograms and exercises ---


def middle_gap(log: xr.Dataset, scale: float) -> float:
    """log₁₀ λ_k/λ_{k+1} of C for k = d/2 in the middle of plateau k; mean over runs."""
    runs = runs_of(log, loss="barlow_twins_theory", scale=scale)
    found = []
    for place in range(runs.sizes["run"]):
        run = runs.isel(run=place)
        plateaus, half = networks.plateau_steps(run, "correlation"), run.sizes["mode"] // 2
        if len(plateaus) <= half:
            return float("nan")
        values = run["correlation_eigenvalues"].sel(step=plateaus[half]).values
        found.append(np.log10(values[half - 1] / max(values[half], 1e-12)))
    return float(np.mean(found))


def as_series(values: Mapping[float, float]) -> pd.Series:
    """Numbers by scale, as a claim takes them."""
    return pd.Series(values)


def warmer_simclr(settings: SmallNetwork, temperature: float) -> float:
    """Alignment (raw) of SimCLR at another temperature with its tangent kernel's prediction; first seed."""
    seed = settings.seeds[:1]
    config = presets.mlp("simclr", seed, steps=settings.ensemble_steps)
    training = _train(settings, config.replace(loss=(NTXentLoss(temperature=temperature),)))
    pairs = presets.mlp_pairs(seed, settings.pairs, settings.noise_sd)
    return prediction.alignment_with_network(training.network(), pairs).raw
