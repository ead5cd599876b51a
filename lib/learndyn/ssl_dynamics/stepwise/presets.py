"""Configurations in which networks learn their embedding one dimension at a time (Simon et al. 2023).

Of the hyperparameters of the paper's networks little is known: what `paper_mlp` and `stl10` say. So all of
these are ours, chosen so that the steps are visible at small scale. The losses go by their short names, the
keys of `LOSSES`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from learndyn.core.augment import SIMCLR_STL10, Augmentation, Images
from learndyn.core.backbones import MLPConfig, ResNetConfig, SmallResNetConfig
from learndyn.core.device import generator
from learndyn.core.errors import PlainError
from learndyn.core.pairs import AugmentedPairs, FixedPairs, augmented_pairs, stack_pairs
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss, NTXentLoss, SSLLoss, VICRegLoss
from learndyn.core.ssl_settings import SSLConfig, concatenate
from learndyn.ssl_dynamics.stepwise.tasks import digit_pairs, photo_pairs

#: The three losses of the chapter by name, with the parameters at which small networks show clean steps.
LOSSES: Mapping[str, SSLLoss] = {
    "barlow_twins": BarlowTwinsTheoryLoss(),
    "vicreg": VICRegLoss(invariance_weight=1.0, variance_weight=1.0, covariance_weight=0.2),
    "simclr": NTXentLoss(temperature=0.2),
}

#: Learning rates of Barlow Twins on the MLP by the scale of the initialisation.
SWEEP_LEARNING_RATES: Mapping[float, float] = {1.0: 0.0005, 0.5: 0.006, 0.3: 0.02, 0.2: 0.05, 0.1: 0.05}


class PresetError(PlainError):
    """A preset of a loss or of a scale that has none."""


class _Row(NamedTuple):
    learning_rate: float
    steps: int
    head_bias: float = 0.0
    head_scale: float = 0.1


_MLP = {
    "barlow_twins": _Row(0.05, 2500),
    "vicreg": _Row(0.1, 3000),
    "simclr": _Row(0.1, 3000, head_bias=1.0),
}
_RESNET = {
    "barlow_twins": _Row(0.01, 1200, head_scale=0.01),
    "vicreg": _Row(0.1, 900, head_scale=0.03),
    "simclr": _Row(0.05, 900, head_bias=1.0, head_scale=0.01),
}


def mlp(
    loss: str = "barlow_twins",
    seeds: Sequence[int] = (0,),
    scale: float = 0.1,
    *,
    learning_rate: float | None = None,
    **changes: Any,
) -> SSLConfig:
    """64 → 256 ReLU → 8 without biases on `digit_pairs`, full-batch gradient descent, all layers × ``scale``.

    SimCLR has a trained head bias: its cosine does not feel a small last layer, and only the bias makes all
    embeddings start from one point.

    Args:
        loss: a key of `LOSSES`.
        learning_rate: needed for Barlow Twins at a scale that is not in `SWEEP_LEARNING_RATES`.
        changes: other fields of the configuration.

    Raises:
        PresetError: an unknown loss; no known learning rate.
    """
    row = _row(_MLP, loss)
    if learning_rate is None:
        if loss == "barlow_twins" and scale not in SWEEP_LEARNING_RATES:
            known = ", ".join(map(str, SWEEP_LEARNING_RATES))
            raise PresetError(
                f"no learning rate is known for scale {scale}, only for {known}; give learning_rate"
            )
        learning_rate = SWEEP_LEARNING_RATES[scale] if loss == "barlow_twins" else row.learning_rate
    preset = {
        "network": MLPConfig(inputs=64, hidden=(256,), dimensions=8),
        "loss": LOSSES[loss],
        "seed": tuple(seeds),
        "learning_rate": learning_rate,
        "body_scale": scale,
        "head_scale": scale,
        "head_bias": row.head_bias,
        "steps": row.steps,
    }
    return SSLConfig(**preset | changes)


def init_scale_sweep(seeds: Sequence[int] = (0, 1, 2), **changes: Any) -> SSLConfig:
    """Barlow Twins on the MLP from large to small initialisation: scales × seeds, seeds running fastest."""
    return concatenate([mlp("barlow_twins", seeds, scale, **changes) for scale in SWEEP_LEARNING_RATES])


def resnet(loss: str = "barlow_twins", seeds: Sequence[int] = (0,), **changes: Any) -> SSLConfig:
    """A small ResNet with batch normalisation on crops of photographs, body × 0.5, full-batch descent.

    8 and 16 channels, flattened, 16 × 16 pixels, 8 dimensions; see `resnet_pairs`. Barlow Twins is centred:
    otherwise the mean embedding is by far the largest mode and dictates the largest stable learning rate.

    Raises:
        PresetError: an unknown loss.
    """
    row = _row(_RESNET, loss)
    preset = {
        "network": SmallResNetConfig(channels_in=3, width=8, image_size=16, dimensions=8, pool="flatten"),
        "loss": BarlowTwinsTheoryLoss(centre=True) if loss == "barlow_twins" else LOSSES[loss],
        "seed": tuple(seeds),
        "learning_rate": row.learning_rate,
        "body_scale": 0.5,
        "head_scale": row.head_scale,
        "head_bias": row.head_bias,
        "steps": row.steps,
        "representation_modes": 8,
    }
    return SSLConfig(**preset | changes)


def paper_mlp(seeds: Sequence[int] = (0,), **changes: Any) -> SSLConfig:
    """The paper's shallow MLP: one hidden layer, 50 pairs, full batch, 7000 steps; see `paper_mlp_pairs`.

    From the paper: one hidden layer, 7000 epochs over a fixed batch of 50 randomly cropped CIFAR-10 images,
    full-batch SGD. Ours, because it does not say: width 512, 10 dimensions, learning rate 3e-4, torch's own
    initialisation at scale 1 without biases, crops of 20 × 20 out of 32 × 32 pixels, and photographs in place
    of CIFAR-10. The steps show even at this ordinary initialisation, because the spectrum is steep.
    """
    preset = {
        "network": MLPConfig(inputs=1200, hidden=(512,), dimensions=10, initialisation="pytorch"),
        "loss": BarlowTwinsTheoryLoss(),
        "seed": tuple(seeds),
        "learning_rate": 3e-4,
        "steps": 7000,
    }
    return SSLConfig(**preset | changes)


STL10_UNLABELED = 100_000  # images


def stl10(
    loss: str = "barlow_twins", *, epochs: int = 100, batch_size: int = 512, **changes: Any
) -> SSLConfig:
    """ResNet-50 on the 100,000 unlabeled images of STL-10 from small initialisation; see `stl10_pairs`.

    From the paper: the architecture, the data set, "standard augmentations", the three methods, an
    initialisation and a learning rate that are smaller than usual. Not known, so these values are ours: the
    learning rates, momentum and weight decay (none), batch size, epochs and schedule, the scales of the
    initialisation, the projector (none: a linear head), the temperature, the weights of the losses, whether C
    was normalised (here it is centred only), and bfloat16 arithmetic. Of the 50 dimensions there is a hint:
    random subspaces align to 0.025 = 50/2000 in the paper's table, which is dimension / (2 · 1000 pairs).

    Args:
        changes: other fields of the configuration, in place of these.

    Raises:
        PresetError: an unknown loss.
    """
    row = _row(_RESNET, loss)
    preset = {
        "network": ResNetConfig(depth=50, stem="standard", dimensions=50, projector=()),
        "loss": BarlowTwinsTheoryLoss(centre=True) if loss == "barlow_twins" else LOSSES[loss],
        "learning_rate": row.learning_rate,
        "body_scale": 0.5,
        "head_scale": row.head_scale,
        "head_bias": row.head_bias,
        "steps": epochs * (STL10_UNLABELED // batch_size),
        "representation_modes": 50,
        "autocast": "bfloat16",
        "channels_last": True,
    }
    return SSLConfig(**preset | changes)


def mlp_pairs(seeds: Sequence[int], pairs: int = 100, noise_sd: float = 0.15) -> FixedPairs:
    """Digits in two noisy views, drawn by the seed of each run; shared where all runs have the same seed."""
    return _by_seed(seeds, lambda seed: digit_pairs(seed, pairs, noise_sd))


def resnet_pairs(seeds: Sequence[int], pairs: int = 96) -> FixedPairs:
    """Crops of 16 × 16 out of patches of 24 × 24 pixels, drawn by the seed of each run."""
    return _by_seed(seeds, lambda seed: photo_pairs(seed, pairs, patch=24, crop=16))


def paper_mlp_pairs(seeds: Sequence[int], pairs: int = 50) -> FixedPairs:
    """Crops of 20 × 20 out of patches of 32 × 32 pixels, drawn by the seed of each run."""
    return _by_seed(seeds, lambda seed: photo_pairs(seed, pairs, patch=32, crop=20))


def stl10_pairs(
    images: Images,
    *,
    seed: int = 0,
    batch_size: int = 512,
    evaluation: int = 1000,
    augmentation: Augmentation = SIMCLR_STL10,
) -> AugmentedPairs:
    """Two augmented views of other images at every step, and fixed ones for the log (1000 in the paper)."""
    fixed = augmented_pairs(images, augmentation, pairs=evaluation, generator=generator(seed, "evaluation"))
    return AugmentedPairs(images, augmentation, batch_size, seed, fixed)


def _by_seed(seeds: Sequence[int], draw: Callable[[int], FixedPairs]) -> FixedPairs:
    drawn = {seed: draw(seed) for seed in dict.fromkeys(seeds)}
    return drawn[seeds[0]] if len(drawn) == 1 else stack_pairs([drawn[seed] for seed in seeds])


def _row(table: Mapping[str, _Row], loss: str) -> _Row:
    if loss not in table:
        close = difflib.get_close_matches(loss, table, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise PresetError(f"unknown loss {loss!r}{meant}; presets are there for {', '.join(table)}")
    return table[loss]
