"""Settings of the notebook "A ResNet takes the steps", and the experiments that it runs.

The small network on crops of photographs and the ResNet-50 on STL-10 are the same experiments with other
values of `Resnet`. What is not known of the paper's runs is a field of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float64
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from learndyn.core import images, spectra, ssl_training
from learndyn.core.augment import SIMCLR_STL10
from learndyn.core.backbones import ResNetConfig, SmallResNetConfig
from learndyn.core.config import Config
from learndyn.core.device import Device, pick_device
from learndyn.core.pairs import PairSource
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss, NTXentLoss, SSLLoss, VICRegLoss
from learndyn.core.ssl_settings import SSLConfig
from learndyn.core.ssl_training import Training
from learndyn.ssl_dynamics.stepwise import kernel, linear, prediction, presets, published

#: The methods in the order in which `Resnet` lists what belongs to each, with their names in print.
METHODS: Mapping[str, str] = {"barlow_twins": "Barlow Twins", "vicreg": "VICReg", "simclr": "SimCLR"}
_BACKBONES = {"small": "small ResNet", "resnet18": "ResNet-18", "resnet50": "ResNet-50"}
_TASKS = {"photos": "photographs", "stl10": "STL-10"}

Rates = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
Spreads = tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]
Counts = tuple[PositiveInt, PositiveInt, PositiveInt]


class Resnet(Config):
    """The parameters cell of the notebook; the defaults are its quick profile.

    Fields of three values belong to Barlow Twins, VICReg and SimCLR. ``task`` "photos" are ``pairs`` fixed
    pairs of crops, all of them in every step. "stl10" are augmented views of STL-10, ``batch_size`` pairs a
    step, read from ``directory`` (downloaded if it is empty); spectra are taken on ``pairs`` fixed pairs.
    ``view_size`` is the side to which crops of STL-10 are resized, 0 being that of the images. ``stem`` and
    ``projector`` are for ResNet-18 and ResNet-50. ``snapshots`` networks are kept, at geometric steps, for
    clouds and explorer. ``kernel_outputs`` are averaged over in the tangent kernel (none: all of them) and
    ``kernel_block`` bounds the piece of the Jacobian that is in memory, in MB.
    """

    task: Literal["photos", "stl10"] = "photos"
    directory: str = ""
    split: Literal["train", "unlabeled", "train+unlabeled"] = "train+unlabeled"
    pairs: Annotated[int, Field(ge=2)] = 96
    batch_size: PositiveInt = 512
    view_size: NonNegativeInt = 0
    backbone: Literal["small", "resnet18", "resnet50"] = "small"
    stem: Literal["cifar", "standard"] = "standard"
    projector: tuple[PositiveInt, ...] = ()
    dimensions: Annotated[int, Field(ge=3)] = 8
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    steps: Counts = (1200, 700, 500)
    learning_rates: Rates = (0.01, 0.1, 0.05)
    body_scale: PositiveFloat = 0.5
    head_scales: Rates = (0.01, 0.03, 0.01)
    head_biases: Spreads = (0.0, 0.0, 1.0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    vicreg_weights: Rates = (1.0, 1.0, 0.2)
    temperature: PositiveFloat = 0.2
    regular_steps: Counts = (150, 150, 100)
    regular_learning_rates: Rates = (1e-3, 0.03, 0.05)
    control_steps: PositiveInt = 130
    exercise_steps: PositiveInt = 80
    representation_modes: PositiveInt = 192
    snapshots: NonNegativeInt = 90
    explorer_steps: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (5, 100, 900)
    kernel_outputs: tuple[NonNegativeInt, ...] = ()
    kernel_block: PositiveInt = 256
    autocast: Literal["none", "bfloat16"] = "none"
    channels_last: bool = False
    checkpoints: str = ""
    checkpoint_every: PositiveInt = 1000
    device: Device = "cpu"
    progress: bool = True

    @property
    def is_published_setup(self) -> bool:
        """Whether architecture and data are those of the paper, as far as they are known."""
        return (self.task, self.backbone, self.view_size) == ("stl10", "resnet50", 0)

    @property
    def described(self) -> str:
        """Network and data in words."""
        return f"{_BACKBONES[self.backbone]}, {_TASKS[self.task]}"

    @property
    def groups(self) -> list[int]:
        """A colour for each pair: the photograph that it is from; one and the same for STL-10."""
        return [pair % 2 if self.task == "photos" else 0 for pair in range(self.pairs)]

    @property
    def network(self) -> SmallResNetConfig | ResNetConfig:
        """The network of all runs."""
        if self.backbone == "small":
            side = (self.view_size or images.STL10.shape[1]) if self.task == "stl10" else 16
            return SmallResNetConfig(image_size=side, dimensions=self.dimensions)
        depth = int(self.backbone.removeprefix("resnet"))
        return ResNetConfig(depth=depth, stem=self.stem, projector=self.projector, dimensions=self.dimensions)

    def loss(self, method: str) -> SSLLoss:
        """The loss of a method. Barlow Twins is centred."""
        invariance, variance, covariance = self.vicreg_weights
        return {
            "barlow_twins": BarlowTwinsTheoryLoss(centre=True),
            "vicreg": VICRegLoss(
                invariance_weight=invariance, variance_weight=variance, covariance_weight=covariance
            ),
            "simclr": NTXentLoss(temperature=self.temperature),
        }[method]

    def config(self, method: str, *, regular: bool = False, **changes: object) -> SSLConfig:
        """The training of a method, from small initialisation or from the regular one.

        The regular one has all parameters at scale 1, no head bias and learning rates of its own.
        """
        place = list(METHODS).index(method)
        steps = (self.regular_steps if regular else self.steps)[place]
        kept = np.geomspace(1, steps, self.snapshots) if self.snapshots and not regular else ()
        values = {
            "network": self.network,
            "loss": self.loss(method),
            "seed": self.seeds,
            "learning_rate": (self.regular_learning_rates if regular else self.learning_rates)[place],
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "body_scale": 1.0 if regular else self.body_scale,
            "head_scale": 1.0 if regular else self.head_scales[place],
            "head_bias": 0.0 if regular else self.head_biases[place],
            "steps": steps,
            "schedule": self.schedule,
            "snapshot_steps": tuple(sorted({0, *(round(float(step)) for step in kept)})) if len(kept) else (),
            "representation_modes": 0 if regular else self.representation_modes,
            "autocast": self.autocast,
            "channels_last": self.channels_last,
        }
        return SSLConfig(**values | changes)


def pair_source(settings: Resnet, *, source: images.ImageSource = images.STL10) -> PairSource:
    """The pairs of views that the networks train on.

    Args:
        source: what of STL-10 is published where.

    Raises:
        DataError, PairsError: data that are not there, or too few of them; one sentence.
    """
    if settings.task == "photos":
        return presets.resnet_pairs(settings.seeds, settings.pairs)
    data = images.stl10(settings.split, settings.directory or None, progress=settings.progress, source=source)
    side = settings.view_size
    return presets.stl10_pairs(
        data.images,
        seed=settings.seeds[0],
        batch_size=settings.batch_size,
        evaluation=settings.pairs,
        augmentation=SIMCLR_STL10.replace(size=(side, side) if side else None),
    )


def train(
    settings: Resnet, method: str, pairs: PairSource, *, regular: bool = False, **changes: object
) -> Training:
    """Train a method; ``changes`` are to its `SSLConfig`. With ``checkpoints`` set, a run resumes.

    Raises:
        ConfigError, DeviceError, CheckpointError, SSLTrainingError: one sentence.
    """
    name = "-".join([method, "regular" if regular else "small", *changes])
    checkpoint = Path(settings.checkpoints) / f"{name}.safetensors" if settings.checkpoints else None
    return ssl_training.train(
        settings.config(method, regular=regular, **changes),
        pairs,
        device=settings.device,
        checkpoint=checkpoint,
        checkpoint_every=settings.checkpoint_every,
        progress=settings.progress,
    )


def pixel_spectrum(pairs: PairSource) -> Float64[Tensor, " mode"]:
    """All eigenvalues of Γ of the (first run's) evaluation views, pixels as they are, descending.

    Computed in the space of the 2n views, where the spectrum is the same (a linear kernel, Prop. 5.1).
    """
    views = (view if pairs.runs is None else view[0] for view in pairs.evaluation())
    samples = kernel.stack_views(*(view.flatten(1).double() for view in views))
    return spectra.sorted_eigenvalues(kernel.contrastive_kernel(kernel.linear_kernel(samples, samples))).cpu()


def kernel_of(
    settings: Resnet, network: torch.nn.Module, pairs: PairSource, outputs: Sequence[int] = ()
) -> Float64[Tensor, "sample sample"]:
    """The tangent kernel of a network on the evaluation views of one run, on the settings' device.

    Args:
        outputs: averaged over, in place of ``settings.kernel_outputs``.
    """
    return prediction.network_kernel(
        network.to(pick_device(settings.device)),
        pairs,
        outputs=list(outputs or settings.kernel_outputs) or None,
        block_bytes=settings.kernel_block * 10**6,
    )


def kernel_predictions(settings: Resnet, trained: Mapping[str, Training], pairs: PairSource) -> xr.Dataset:
    """What the tangent kernels of the networks say of what these have learned.

    Returns, over (loss, run, when, means) with ``when`` "start" or "end" of training and ``means`` of
    each view "kept" or "removed", ``alignment`` of the network's embeddings at the end with those predicted
    from the kernel at that time; over (loss, run, when, mode) ``kernel_eigenvalues``, the largest of the
    contrastive kernel, means removed; over (loss, run, mode) ``predicted_steps``, the critical times by
    eq. 10 of the kernel model that starts as the network does, in steps of its learning rate. ``random`` is
    what random subspaces have.

    Raises:
        KernelError, TangentKernelError: a network without enough positive modes; one sentence.
    """
    rows = [
        xr.concat(
            [
                _kernel_row(settings, training, run, _of_run(pairs, run))
                for run in range(training.config.runs)
            ],
            "run",
        )
        for training in trained.values()
    ]
    found = xr.concat(rows, xr.DataArray(list(trained), dims="loss", name="loss"))
    samples = 2 * trained[next(iter(trained))].log.sizes["pair"]
    return found.assign_attrs(random=spectra.random_alignment(settings.dimensions, samples))


def _kernel_row(settings: Resnet, training: Training, run: int, pairs: PairSource) -> xr.Dataset:
    config = training.config
    networks = {"start": ssl_training.initial_network(config, run), "end": training.network(run)}
    kernels = {when: kernel_of(settings, network, pairs) for when, network in networks.items()}
    embeddings = prediction.network_embeddings(networks["end"], pairs)
    aligned = [prediction.alignment(matrix, embeddings)[:2] for matrix in kernels.values()]
    models = {when: kernel.kernel_model(kernel.centre_views(matrix)) for when, matrix in kernels.items()}
    top = torch.stack([model.modes.eigenvalues[: settings.dimensions] for model in models.values()])
    first = prediction.centre_embeddings(prediction.network_embeddings(networks["start"], pairs).double())
    rate = config.learning_rate[run]
    start = models["start"].match_start(first).singular_values
    times = linear.critical_times(top[0], start, rate).sort().values
    return xr.Dataset(
        {
            "alignment": (("when", "means"), np.array(aligned)),
            "kernel_eigenvalues": (("when", "mode"), top.cpu().numpy()),
            "predicted_steps": ("mode", times.cpu().numpy() / rate),
        },
        coords={"when": ["start", "end"], "means": ["kept", "removed"]},
    )


def method_alignment(
    settings: Resnet, trained: Mapping[str, Training], pairs: PairSource
) -> dict[tuple[str, str], float]:
    """How far the embeddings of two methods span the same subspace, view means removed; mean over runs."""
    device = pick_device(settings.device)
    spans = {
        (method, run): prediction.centre_embeddings(
            prediction.network_embeddings(training.network(run).to(device), _of_run(pairs, run)).double()
        )
        for method, training in trained.items()
        for run in range(training.config.runs)
    }
    # Float32 arithmetic leaves directions of 1e-7 in an embedding that has collapsed.
    return {
        (one, other): float(
            np.mean(
                [
                    float(spectra.subspace_alignment(spans[one, run], spans[other, run], rtol=1e-6))
                    for run in range(len(settings.seeds))
                ]
            )
        )
        for one, other in itertools.combinations(trained, 2)
    }


def alignment_frame(settings: Resnet, found: xr.Dataset) -> pd.DataFrame:
    """The table of NTK-predicted embeddings: ours with the published row beside it, then our variants.

    Columns ``network`` (and data), ``kernel`` (when it was taken, and whether view means were kept), one for
    each method, ``random``.
    """
    rows: list[dict[str, object]] = []

    def add(network: str, kernel: str, values: Mapping[str, float], random: float) -> None:
        rows.append({"network": network, "kernel": kernel, **values, "random": random})

    def add_ours(when: str, means: str, words: str) -> None:
        values = found["alignment"].sel(when=when, means=means).mean("run")
        ours = {method: float(values.sel(loss=method)) for method in METHODS}
        add(f"ours: {settings.described}", f"{words}, means {means}", ours, found.attrs["random"])

    add_ours("end", "kept", "after training")
    theirs = published.TABLE1
    values = {method: theirs[method].measured for method in METHODS}
    add("published: ResNet-50, STL-10", "after training", values, theirs["barlow_twins"].random)
    add_ours("end", "removed", "after training")
    for means in ("kept", "removed"):
        add_ours("start", means, "before training")
    earlier = published.alignment_table().query("source == 'own run' and task.str.contains('ResNet')")
    for means, column in (("kept", "final_raw"), ("removed", "final_centred")):
        mean = earlier.groupby("loss")[column].mean()
        values = {method: float(mean[method]) for method in METHODS}
        random = float(earlier["random"].iloc[0])
        label = "earlier: small ResNet, photographs, 3 other draws"
        add(label, f"after training, means {means}", values, random)
    return pd.DataFrame(rows)


def random_alignments(
    dimensions: int, samples: int, draws: int, generator: torch.Generator
) -> Float64[np.ndarray, " draw"]:
    """Alignment of so many pairs of random subspaces of R^samples."""
    basis = torch.randn(2, draws, dimensions, samples, generator=generator, dtype=torch.float64)
    return spectra.subspace_alignment(basis[0], basis[1]).numpy()


def kept_steps(training: Training, wanted: Sequence[int]) -> list[int]:
    """The kept step nearest to each wanted one, on a log scale."""
    kept = np.array(training.config.kept_steps)
    logs = np.log(np.maximum(kept, 0.5))
    return [int(kept[np.abs(logs - np.log(max(step, 0.5))).argmin()]) for step in wanted]


def first_step(**changes: object) -> float:
    """When the small network on photographs takes its first step with Barlow Twins, in effective time.

    That is the half time of the largest eigenvalue of C, NaN if it does not grow.

    Args:
        changes: to the configuration `presets.resnet`.
    """
    config = presets.resnet("barlow_twins", **{"representation_modes": 0} | changes)
    log = ssl_training.train(config, presets.resnet_pairs(config.seed)).log
    values = torch.tensor(log["correlation_eigenvalues"].values[0])
    return config.learning_rate[0] * float(spectra.half_times(torch.tensor(log["step"].values), values)[0])


def first_run(pairs: PairSource) -> PairSource:
    """The pairs of the first run, where each has its own."""
    return _of_run(pairs, 0)


def _of_run(pairs: PairSource, run: int) -> PairSource:
    """The pairs of one run."""
    return pairs if pairs.runs is None else pairs.select([run])
