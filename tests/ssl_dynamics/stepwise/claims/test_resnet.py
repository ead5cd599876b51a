"""Each claim of the notebook holds for a plausible result and does not for a spoiled one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from learndyn.core.claims import Ledger, Verdict
from learndyn.ssl_dynamics.stepwise.claims import resnet as claims

HALVES = np.array([16.0, 43, 95, 140, 200, 300, 412, 520])
LATE = np.array([0.01, 0.01, 0.01, 5, 27, 54, 71, 105])


def log(
    halves: np.ndarray = HALVES,
    *,
    sharpness: float = 14.0,
    floor: float = 1e-4,
    runs: int = 2,
    last: int = 1200,
) -> xr.Dataset:
    """Logistic eigenvalues in log time, their staircase loss, and a hidden layer that follows them."""
    step = np.unique(np.round(np.r_[0, np.geomspace(1, last, 200)])).astype(int)
    time = np.maximum(step, 0.5)[:, None]
    learned = 1 / (1 + (halves / time) ** sharpness)
    values = np.sort(floor + (1 - floor) * learned, -1)[:, ::-1]
    hidden = 0.5 + np.concatenate([3 * learned, np.zeros_like(learned)], -1)
    spectra = {
        "covariance_eigenvalues": values,
        "correlation_eigenvalues": values,
        "representation_eigenvalues": np.sort(hidden, -1)[:, ::-1],
    }
    data = {
        name: (("run", "step", "hidden_mode" if "rep" in name else "mode"), np.tile(v, (runs, 1, 1)))
        for name, v in spectra.items()
    }
    data["loss"] = (("run", "step"), np.tile(((1 - values) ** 2).sum(-1), (runs, 1)))
    return xr.Dataset(data, coords={"step": step})


def spoil(which: str, change: Callable[[np.ndarray], np.ndarray], run: int = 1) -> xr.Dataset:
    """The log with a variable of one of its runs changed."""
    data = log()
    values = data[which].values.copy()
    values[run] = change(values[run])
    return data.assign({which: (data[which].dims, values)})


def every(make: Callable[[], xr.Dataset]) -> dict[str, xr.Dataset]:
    return {method: make() for method in claims.METHODS}


def one_of(spoiled: xr.Dataset) -> dict[str, xr.Dataset]:
    """All methods as they should be but one."""
    return every(log) | {"simclr": spoiled}


def regular(halves: np.ndarray = LATE) -> xr.Dataset:
    return log(halves, sharpness=1.5, floor=0.2, last=300)


def kernels(
    end: tuple[float, float, float] = (0.77, 0.86, 0.40),
    start: tuple[float, float, float] = (0.64, 0.63, 0.28),
    speed: float = 0.8,
) -> xr.Dataset:
    alignment = np.array([start, end]).T[:, None, :, None] * np.ones((3, 2, 2, 2))
    predicted = np.ones((3, 2, 8)) * HALVES / speed
    return xr.Dataset(
        {
            "alignment": (("loss", "run", "when", "means"), alignment),
            "predicted_steps": (("loss", "run", "mode"), predicted),
        },
        coords={"loss": list(claims.METHODS), "when": ["start", "end"], "means": ["kept", "removed"]},
        attrs={"random": 0.0417},
    )


def resemblance(least: float = 0.26) -> claims.Resemblance:
    names = claims.METHODS
    return claims.Resemblance(
        {(names[0], names[1]): 0.58, (names[0], names[2]): least, (names[1], names[2]): 0.30}, 0.0417
    )


def uncentred(first: float = 5.0) -> xr.Dataset:
    """C has one eigenvalue more than the covariance, the first."""
    data, other = log(), log(np.r_[first, HALVES[:-1]])
    return data.assign(correlation_eigenvalues=other["correlation_eigenvalues"])


def draws(mean: float = 0.025) -> np.ndarray:
    return mean + 8e-4 * np.array([-1, -0.5, 0, 0, 0, 0.5, 1])


TOGETHER = np.full(8, 100.0)
PLATEAUS = [
    lambda: log(TOGETHER),
    lambda: log(sharpness=1.5),
    lambda: log(floor=0.3),
    lambda: spoil("covariance_eigenvalues", lambda v: v * np.nan),
    lambda: spoil("covariance_eigenvalues", np.ones_like),
]
GOOD = {
    "stepwise.resnet-bt-staircase": log,
    "stepwise.resnet-bt-plateaus": log,
    "stepwise.resnet-bt-end": log,
    "stepwise.resnet-bt-levels": log,
    "stepwise.resnet-vicreg-plateaus": log,
    "stepwise.resnet-simclr-plateaus": log,
    "stepwise.resnet-hidden-steps": lambda: every(log),
    "stepwise.resnet-hidden-background": lambda: every(log),
    "stepwise.resnet-regular": lambda: claims.Starts(every(log), every(regular)),
    "stepwise.resnet-humps": lambda: every(log),
    "stepwise.resnet-humps-regular": lambda: every(log),
    "stepwise.ntk-chance": kernels,
    "stepwise.ntk-order": kernels,
    "stepwise.ntk-level": kernels,
    "stepwise.ntk-random": draws,
    "stepwise.ntk-aligning": kernels,
    "stepwise.ntk-clock": lambda: (kernels(), log()),
    "stepwise.resnet-resemblance": resemblance,
    "stepwise.resnet-constant": uncentred,
}
HUMPS = [lambda: one_of(regular()), lambda: every(lambda: log(sharpness=1.0)), lambda: {"vicreg": log()}]
SPOILED = {
    "stepwise.resnet-bt-staircase": [
        lambda: log(TOGETHER),
        lambda: spoil("loss", lambda v: v[::-1]),
        lambda: spoil("loss", lambda v: 8 * np.exp(-np.arange(len(v)) / 20)),
        lambda: spoil("loss", lambda v: v * np.nan),
    ],
    "stepwise.resnet-bt-plateaus": PLATEAUS,
    "stepwise.resnet-bt-end": [
        lambda: spoil("loss", lambda v: v + 1e-3),
        lambda: spoil("loss", lambda v: v * np.nan),
    ],
    "stepwise.resnet-bt-levels": [
        lambda: log(TOGETHER),
        lambda: log(np.r_[16, 16.1, HALVES[2:]]),
        lambda: spoil("covariance_eigenvalues", lambda v: np.r_[v[20:], v[:20]]),
        lambda: spoil("covariance_eigenvalues", lambda v: v * np.array([10, 1, 1, 1, 1, 1, 1, 1])),
    ],
    "stepwise.resnet-vicreg-plateaus": PLATEAUS,
    "stepwise.resnet-simclr-plateaus": PLATEAUS,
    "stepwise.resnet-hidden-steps": [
        lambda: one_of(spoil("representation_eigenvalues", lambda v: v[::-1])),
        lambda: one_of(spoil("representation_eigenvalues", lambda v: np.roll(v, 60, 0))),
        lambda: one_of(spoil("representation_eigenvalues", lambda v: v * np.nan)),
        lambda: {"vicreg": log()},
    ],
    "stepwise.resnet-hidden-background": [
        lambda: one_of(spoil("representation_eigenvalues", lambda v: v - 0.4999)),
        lambda: one_of(log(floor=0.3)),
        lambda: {"vicreg": log()},
    ],
    "stepwise.resnet-regular": [
        lambda: claims.Starts(every(log), every(lambda: log(TOGETHER))),
        lambda: claims.Starts(every(log), every(log)),
        lambda: claims.Starts(every(regular), every(regular)),
        lambda: claims.Starts(every(log), every(regular) | {"vicreg": regular(np.full(8, 0.01))}),
    ],
    "stepwise.resnet-humps": HUMPS,
    "stepwise.resnet-humps-regular": HUMPS,
    "stepwise.ntk-chance": [lambda: kernels((0.77, 0.86, 0.15)), lambda: kernels((0.77, np.nan, 0.4))],
    "stepwise.ntk-order": [lambda: kernels((0.77, 0.36, 0.40)), lambda: kernels((0.4, 0.8, 0.4))],
    "stepwise.ntk-level": [lambda: kernels((0.55, 0.86, 0.4)), lambda: kernels((0.8, 0.59, 0.4))],
    "stepwise.ntk-random": [lambda: draws(0.0417), lambda: draws(0.0256), lambda: draws(np.nan)],
    "stepwise.ntk-aligning": [
        lambda: kernels(start=(0.77, 0.86, 0.40)),
        lambda: kernels(start=(0.64, 0.63, 0.50)),
        lambda: kernels(start=(0.64, 0.63, 0.38)),
    ],
    "stepwise.ntk-clock": [
        lambda: (kernels(speed=0.3), log()),
        lambda: (kernels(speed=2.5), log()),
        lambda: (kernels(), log(HALVES[::-1].cumsum())),
        lambda: (kernels(), spoil("correlation_eigenvalues", lambda v: v * np.nan)),
    ],
    "stepwise.resnet-resemblance": [
        lambda: resemblance(0.04),
        lambda: resemblance(np.nan),
        lambda: claims.Resemblance({}, 0.04),
    ],
    "stepwise.resnet-constant": [lambda: uncentred(14), log, lambda: log(np.full(8, 1e6))],
}


def verdict(claim_id: str, result: Any) -> Verdict:
    ledger = Ledger("ssl_dynamics", "stepwise_resnet", claims.CLAIMS)
    return ledger.check(claim_id, result, at_paper_scale=True)


def test_every_claim_has_a_good_and_a_spoiled_result() -> None:
    ids = {claim.id for claim in claims.CLAIMS}
    assert len(ids) == len(claims.CLAIMS)
    assert set(GOOD) == set(SPOILED) == ids


@pytest.mark.parametrize("claim_id", GOOD)
def test_a_good_result_holds(claim_id: str) -> None:
    assert verdict(claim_id, GOOD[claim_id]()) == Verdict.REPRODUCED


@pytest.mark.parametrize(
    ("claim_id", "number"), [(name, i) for name, results in SPOILED.items() for i in range(len(results))]
)
@pytest.mark.filterwarnings("ignore:An input array is constant", "ignore:All-NaN slice")
def test_a_spoiled_result_does_not(claim_id: str, number: int) -> None:
    assert verdict(claim_id, SPOILED[claim_id][number]()) == Verdict.NOT


def test_the_published_table_passes_its_own_checks() -> None:
    table = kernels((0.615, 0.592, 0.517), start=(0.3, 0.3, 0.3)).assign_attrs(random=0.025)
    for claim in ("stepwise.ntk-chance", "stepwise.ntk-order"):
        assert verdict(claim, table) == Verdict.REPRODUCED


def test_histograms_from_regular_initialisation_wait_only_where_they_cannot_show_two_humps() -> None:
    def decided(make: Callable[[], xr.Dataset]) -> Verdict:
        ledger = Ledger("ssl_dynamics", "stepwise_resnet", claims.CLAIMS)
        return claims.decide_regular_humps(ledger, every(make), at_paper_scale=False)

    assert decided(regular) == Verdict.PENDING
    assert decided(log) == Verdict.SMALLER
    assert decided(lambda: log(sharpness=1.0, floor=1e-3)) == Verdict.NOT


def test_plateau_middles_lie_between_the_half_times() -> None:
    data = log()
    middles = claims.plateau_middles(data, 0)
    steps = data["step"].values
    assert list(middles) == [1, 2, 3, 4, 5, 6, 7]
    for k, place in middles.items():
        assert HALVES[k - 1] < steps[place] < HALVES[k]
