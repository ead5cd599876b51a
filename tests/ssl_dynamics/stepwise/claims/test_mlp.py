"""Each claim of the notebook on the small network holds for a plausible result and not for a spoiled one."""

from __future__ import annotations

import itertools
from typing import Any

import claim_checks
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from learndyn.core.config import ConfigError
from learndyn.core.images import ImageSet
from learndyn.core.pairs import FixedPairs
from learndyn.ssl_dynamics.stepwise import figures_networks as networks
from learndyn.ssl_dynamics.stepwise import settings_mlp as experiment
from learndyn.ssl_dynamics.stepwise import tasks
from learndyn.ssl_dynamics.stepwise.claims import mlp as claims

BARLOW, VICREG, SIMCLR = claims.BARLOW, claims.VICREG, claims.SIMCLR


def table(**changes: Any) -> pd.DataFrame:
    """Three seeds of Barlow Twins from a small start, with columns replaced."""
    good = {
        "loss": BARLOW,
        "scale": 0.1,
        "seed": [0, 1, 2],
        "plateaus": [6, 7, 5],
        "separation": [0.008, 0.02, 0.007],
        "start": 7.998,
        "end": 1e-6,
        "lowest_rank": [1.06, 1.08, 1.11],
        "half_times": [(18.0, 43.0, 46.0, 63.0, 71.0, 104.0, 134.0, 163.0)] * 3,
    }
    return pd.DataFrame(good | changes)


def row(**changes: Any) -> pd.Series:
    return table(**changes).iloc[0]


def two_losses(lowest: float = 1.1, second: str = SIMCLR) -> pd.DataFrame:
    return pd.concat([table(), table(loss=second, lowest_rank=lowest)])


def sweep(
    separations: tuple[float, ...] = (0.54, 0.25, 0.14, 0.06, 0.01), plateaus: Any = (0, 1, 3, 5, 6)
) -> Any:
    scales = (1.0, 0.5, 0.3, 0.2, 0.1)
    cells = zip(scales, separations, plateaus, strict=True)
    return pd.concat([table(scale=scale, separation=s, plateaus=p) for scale, s, p in cells])


def staircase(modes: int = 8, steps: int = 60, gap: float = 4.0, final: float = 1.0) -> xr.Dataset:
    """A run whose eigenvalues of C rise one after another, with the loss that belongs to them."""
    step = np.concatenate([[0], np.unique(np.round(1.1 ** np.arange(1, 2 * steps)))]).astype(int)
    centre = 2.0 * (1 + gap / modes) ** np.arange(modes)
    values = final / (1 + (centre / np.maximum(step[:, None], 0.1)) ** 24)
    data = {
        "correlation_eigenvalues": (("step", "mode"), values),
        "covariance_eigenvalues": (("step", "mode"), values),
        "loss": ("step", ((1 - values) ** 2).sum(1)),
    }
    return xr.Dataset(data, coords={"step": step})


def regular(last: tuple[float, ...] = (26.0, 37.0, 63.0), plateaus: int = 0) -> pd.DataFrame:
    return table(scale=1.0, plateaus=plateaus, half_times=[(0.0,) * 5 + last] * 3)


def gaps(small: float = 1.4, large: float = 0.2) -> pd.Series:
    return pd.Series({1.0: large, 0.5: 0.4, 0.1: small})


def clocks(head: tuple[float, ...] = (0.0032, 0.0088, 0.0144, 0.02), exponent: float = -2.0) -> pd.DataFrame:
    scales, layers = (0.1, 0.01, 0.001, 0.0001), np.array([0.3, 0.1, 0.05])
    return pd.DataFrame(
        {
            "layers": ["head"] * 4 + ["all"] * 3,
            "scale": [*scales, *layers],
            "time": [*head, *(0.007 * layers**exponent)],
        }
    )


def simclr_row(**changes: Any) -> pd.Series:
    return row(loss=SIMCLR, separation=0.07, plateaus=5, **changes)


def weights(last: float = 1377.0) -> claims.Pair:
    return claims.Pair(row(half_times=[(37.0, 964.0)] * 3), row(half_times=[(16.0, last)] * 3))


def curves(standard: float = 1.0, theory: float = 3.0) -> claims.ScaleFree:
    loss = np.geomspace(1, 1e-3, 40)
    return claims.ScaleFree(np.stack([loss, standard * loss]), np.stack([loss, theory * loss]))


def noise(ratio: float = 1.1, low: float = 0.6) -> claims.Noise:
    fixed = np.array([18.0, 43, 46, 63, 71, 104, 134, 163])
    return claims.Noise(fixed, fixed * ratio, np.linspace(1.4, low, 8))


def paper_style(**changes: Any) -> xr.Dataset:
    return staircase(**({"modes": 10, "gap": 8.0} | changes))


def hidden(ratio: float = 1.03) -> claims.Hidden:
    embedding = np.tile(np.array([43.0, 51, 60, 90, 109, 111, 172, 153]), (3, 1))
    inside = ratio * embedding
    inside[:, -1] = 57
    return claims.Hidden(embedding, inside)


def alignments(
    values: tuple[float, ...] = (0.98, 0.96, 0.45), initial: float = 0.8, centred: float = 0.87
) -> Any:
    rows = [
        {
            "loss": loss,
            "seed": seed,
            "raw": value,
            "centred": centred,
            "initial_raw": initial * value if seed == 0 else np.nan,
            "random": 0.04,
        }
        for loss, value in zip((BARLOW, VICREG, SIMCLR), values, strict=True)
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def cross(close: float = 0.8, far: float = 0.37) -> pd.DataFrame:
    names = [BARLOW, VICREG, SIMCLR]
    values = np.full((3, 3), far)
    values[0, 1] = values[1, 0] = close
    np.fill_diagonal(values, 1.0)
    return pd.DataFrame(values, index=names, columns=names)


def ranks(*middle: float) -> np.ndarray:
    return np.tile(np.array(middle), (3, 1)) + np.array([[-0.05], [0.0], [0.05]])


FEW = table(plateaus=[6, 4, 7])
GOOD: dict[str, Any] = {
    "stepwise.mlp-barlow-twins": table,
    "stepwise.mlp-loss": table,
    "stepwise.mlp-loss-is-sum": staircase,
    "stepwise.mlp-vicreg": lambda: table(loss=VICREG, plateaus=5),
    "stepwise.mlp-simclr": lambda: table(loss=SIMCLR, plateaus=[3, 5, 6]),
    "stepwise.mlp-one-dimension": two_losses,
    "stepwise.mlp-cloud": lambda: ranks(1.3, 2.2, 3.1),
    "stepwise.mlp-init-scale": sweep,
    "stepwise.mlp-regular-init": regular,
    "stepwise.mlp-bimodal": gaps,
    "stepwise.mlp-two-clocks": clocks,
    "stepwise.mlp-no-head-bias": lambda: claims.Pair(simclr_row(), row(lowest_rank=2.5, plateaus=0)),
    "stepwise.mlp-inner-product": lambda: claims.Pair(simclr_row(), row(separation=0.5, plateaus=0)),
    "stepwise.mlp-vicreg-weights": weights,
    "stepwise.mlp-scale-free": curves,
    "stepwise.mlp-divergence": lambda: claims.Divergence(
        "diverged: the loss was 1e30 at step 24", np.nan, 0.01
    ),
    "stepwise.mlp-fresh-noise": noise,
    "stepwise.mlp-paper-style": paper_style,
    "stepwise.mlp-hidden": hidden,
    "stepwise.mlp-ntk-chance": alignments,
    "stepwise.mlp-ntk-high": alignments,
    "stepwise.mlp-ntk-order": alignments,
    "stepwise.mlp-ntk-initial": alignments,
    "stepwise.mlp-cross-method": cross,
}
SPOILED: dict[str, list[Any]] = {
    "stepwise.mlp-barlow-twins": [lambda: FEW, lambda: table().iloc[:0]],
    "stepwise.mlp-loss": [
        lambda: table(end=[1e-6, 1e-3, 1e-6]),
        lambda: table(start=38.0),
        lambda: table(end=np.nan),
    ],
    "stepwise.mlp-loss-is-sum": [
        lambda: staircase().assign(loss=staircase()["loss"] * 0.999),
        lambda: staircase().assign(loss=staircase()["loss"] * np.nan),
    ],
    "stepwise.mlp-vicreg": [lambda: FEW],
    "stepwise.mlp-simclr": [lambda: table(plateaus=[3, 4, 6]), lambda: table(plateaus=np.nan)],
    "stepwise.mlp-one-dimension": [
        lambda: two_losses(lowest=2.5),
        lambda: two_losses(second=VICREG),
        lambda: two_losses(lowest=np.nan),
    ],
    "stepwise.mlp-cloud": [
        lambda: ranks(2.3, 3.2, 4.1),
        lambda: ranks(1.4, 1.6, 2.6)[:, ::-1],
        lambda: ranks(1.0, np.nan, 3.0),
    ],
    "stepwise.mlp-init-scale": [
        lambda: sweep(separations=(0.01, 0.06, 0.14, 0.25, 0.54)),
        lambda: sweep(plateaus=(0, 1, 5, 3, 6)),
        lambda: sweep(separations=(0.5, 0.25, np.inf, 0.06, 0.01)),
    ],
    "stepwise.mlp-regular-init": [
        lambda: regular(last=(26.0, 27.0, 28.0)),
        lambda: regular(last=(0.0, 0.0, 0.0)),
        lambda: regular(plateaus=4),
        lambda: regular(last=(26.0, 37.0, np.nan)),
    ],
    "stepwise.mlp-bimodal": [lambda: gaps(small=0.5), lambda: gaps(large=2.0), lambda: gaps(small=np.nan)],
    "stepwise.mlp-two-clocks": [
        lambda: clocks(exponent=-1.0),
        lambda: clocks(head=(0.002, 0.02, 0.2, 2.0)),
        lambda: clocks(head=(0.02, 0.0144, 0.0088, 0.0032)),
        lambda: clocks(head=(0.0032, 0.0088, np.nan, 0.02)),
    ],
    "stepwise.mlp-no-head-bias": [
        lambda: claims.Pair(simclr_row(), row(lowest_rank=1.1, plateaus=0)),
        lambda: claims.Pair(simclr_row(), row(lowest_rank=2.5, plateaus=5)),
        lambda: claims.Pair(row(lowest_rank=2.5, plateaus=0), simclr_row()),
    ],
    "stepwise.mlp-inner-product": [
        lambda: claims.Pair(simclr_row(), simclr_row()),
        lambda: claims.Pair(row(separation=0.5), row(separation=0.5, plateaus=0)),
    ],
    "stepwise.mlp-vicreg-weights": [lambda: weights(last=500.0), lambda: weights(last=np.nan)],
    "stepwise.mlp-scale-free": [
        lambda: curves(standard=1.05),
        lambda: curves(theory=1.0),
        lambda: curves(standard=np.nan),
    ],
    "stepwise.mlp-divergence": [
        lambda: claims.Divergence("trained to the end", 1e-3, 0.01),
        lambda: claims.Divergence("diverged: the loss was 1e30 at step 24", np.nan, np.nan),
    ],
    "stepwise.mlp-fresh-noise": [
        lambda: noise(ratio=2.0),
        lambda: noise(low=1.0),
        lambda: noise(ratio=np.nan),
    ],
    "stepwise.mlp-paper-style": [
        lambda: paper_style(modes=8),
        lambda: paper_style(gap=1.0),
        lambda: paper_style(final=0.7),
        lambda: paper_style().isel(step=slice(0, 30)),
    ],
    "stepwise.mlp-hidden": [
        lambda: hidden(ratio=1.5),
        lambda: hidden(ratio=0.5),
        lambda: hidden(ratio=np.nan),
    ],
    "stepwise.mlp-ntk-chance": [
        lambda: alignments(values=(0.98, 0.96, 0.1)),
        lambda: alignments(values=(0.98, 0.96, np.nan)),
        lambda: alignments().query("loss != 'vicreg'"),
    ],
    "stepwise.mlp-ntk-high": [lambda: alignments(values=(0.5, 0.96, 0.4)), lambda: alignments(centred=0.4)],
    "stepwise.mlp-ntk-order": [lambda: alignments(values=(0.5, 0.96, 0.6))],
    "stepwise.mlp-ntk-initial": [lambda: alignments(initial=1.1), lambda: alignments(initial=np.nan)],
    "stepwise.mlp-cross-method": [lambda: cross(close=0.3), lambda: cross(far=0.05)],
}


test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


# --- settings ---


def small() -> experiment.SmallNetwork:
    return experiment.SmallNetwork(
        seeds=(3,),
        pairs=20,
        scales=(1.0, 0.1),
        scale_rates=(0.0004, 0.03),
        small_steps=12,
        ensemble_steps=12,
        explorer_steps=(1, 8),
        clock_steps=10,
        progress=False,
    )


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="one for each"):
        experiment.SmallNetwork(scales=(1.0, 0.1))
    with pytest.raises(ConfigError, match="learning rates"):
        experiment.SmallNetwork(other_scales=(1.0, 0.07))
    assert not experiment.SmallNetwork().is_published_mlp
    assert experiment.SmallNetwork(paper_images="cifar10", paper_steps=7000).is_published_mlp


def test_the_ensemble_is_every_loss_at_every_asked_scale() -> None:
    log = experiment.ensemble(small()).log
    cells = list(zip(log["loss_name"].values, log["body_scale"].values, strict=True))
    assert cells == [(BARLOW, 1.0), (VICREG, 1.0), (VICREG, 0.1), (SIMCLR, 1.0), (SIMCLR, 0.1)]
    assert log["head_bias"].values.tolist() == [0, 0, 0, 1, 1]
    one = experiment.runs_of(log, loss=VICREG, scale=0.1, seed=3)
    assert one.sizes["run"] == 1
    assert float(one["learning_rate"][0]) == experiment.RATES["vicreg"][0.1]
    assert experiment.runs_of(log, seed=4).sizes["run"] == 0


def test_a_run_of_the_small_start_can_be_changed() -> None:
    settings = small()
    run = experiment.small_start(settings, steps=9, seed=(5,), learning_rate=0.01, noise_sd=0.0)
    assert run.log["seed"].values.tolist() == [5]
    assert int(run.log["step"][-1]) == 9
    assert run.log["representation_eigenvalues"].shape[-1] == 8


def test_steps_are_measured_in_the_spectrum_of_the_loss() -> None:
    run = staircase(gap=10.0)
    flat = run["correlation_eigenvalues"] * 0 + 1.0
    log = run.assign(covariance_eigenvalues=flat).expand_dims(run=2)
    log = log.assign_coords(
        loss_name=("run", [BARLOW, VICREG]), body_scale=("run", [0.1, 0.1]), seed=("run", [0, 1])
    )
    found = experiment.measure_steps(log)
    assert found["plateaus"].tolist() == [7, 0]
    assert found["half_times"][1] == (0.0,) * 8
    plain = [int(run["step"][np.argmax(c > 0.5 * c[-1])]) for c in run["correlation_eigenvalues"].values.T]
    assert found["half_times"][0] == tuple(plain)


def test_hidden_eigenvalues_are_half_way_between_their_ends() -> None:
    values = np.array([[1.0, 2.0], [1.4, 2.0], [1.6, 2.0], [2.0, 2.0]])
    run = xr.Dataset(
        {"representation_eigenvalues": (("step", "hidden_mode"), values)}, coords={"step": [0, 10, 20, 30]}
    )
    assert experiment.hidden_half_times(run)[0] == 20
    assert np.isnan(experiment.hidden_half_times(run)[1])


def test_digits_are_recognised_in_their_noisy_views() -> None:
    digits = tasks.all_digits()
    clean = digits.images[:40]
    noise = 0.3 * torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    labels = digits.labels[:40].tolist()
    expected = [(0, 4, 6).index(label) if label in (0, 4, 6) else -1 for label in labels]
    assert experiment.digit_groups(FixedPairs(clean + noise, clean - noise)) == expected


def test_crops_of_a_data_set_are_standardised_by_channel() -> None:
    images = torch.randint(
        0, 255, (9, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    data = ImageSet(images, None, (), "noise")
    pairs = experiment.cifar_crops(data, seed=0, pairs=6)
    assert pairs.view_a.shape == (6, 3, 20, 20)
    assert abs(float(pairs.view_a.mean())) < 0.05
    assert abs(float(pairs.view_a.std()) - 1) < 0.05
    assert torch.equal(pairs.view_a, experiment.cifar_crops(data, seed=0, pairs=6).view_a)


# --- drawings ---


def test_plateaus_lie_between_half_times() -> None:
    run = staircase()
    halves = networks.half_times(run, "correlation")
    middles = networks.plateau_steps(run, "correlation")
    assert len(middles) == len(halves)
    assert middles[0] < halves[0]
    assert all(a <= m <= b for m, a, b in zip(middles[1:], halves[:-1], halves[1:], strict=True))


def test_components_keep_distances_and_do_not_flip() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, 30, 3)) * [3.0, 2.0, 1.0]
    moments = np.stack([base, 1.1 * base, 1.2 * base])
    moments[1] *= -1
    scores = networks.principal_components(moments)
    flat = base.reshape(60, 3) - base.reshape(60, 3).mean(0)
    np.testing.assert_allclose(np.linalg.norm(scores[0].reshape(60, 3), axis=1), np.linalg.norm(flat, axis=1))
    for first, second in itertools.pairwise(scores):
        assert (np.einsum("vpc,vpc->c", first, second) > 0).all()
