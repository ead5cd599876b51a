"""Each claim of the kernel notebook holds for a plausible result and does not for a spoiled one."""

from __future__ import annotations

from typing import Any

import claim_checks
import numpy as np
import pytest
import torch
import xarray as xr

from learndyn.core.claims import Verdict
from learndyn.core.config import ConfigError
from learndyn.core.pairs import FixedPairs
from learndyn.ssl_dynamics.stepwise import kernel, linear, toy, wide
from learndyn.ssl_dynamics.stepwise import settings_kernel as experiment
from learndyn.ssl_dynamics.stepwise.claims import kernel as claims


def signs(positive: int = 20, negative: int = 20, pairs: int = 20) -> claims.Signs:
    zeros = torch.zeros(2 * pairs - positive - negative, dtype=torch.float64)
    values = torch.cat([torch.linspace(1, 0.1, positive), zeros, -torch.linspace(0.1, 1, negative)])
    return claims.Signs(values.double(), pairs)


def ending(**changes: float) -> experiment.Ending:
    good = experiment.Ending(1e-12, 1e-6, 1e-11, 14.581597890, 14.581597890, 1e-6)
    return good._replace(**changes)


def race(best: float = 20.0, **changes: float) -> claims.Race:
    return claims.Race(torch.tensor([best, 90.0], dtype=torch.float64), ending(**changes))


def log(stretch: float = 1.0, one: float = 1.0, end: float = 1e-9) -> xr.Dataset:
    """Logistic curves of four modes, at times that are stretched (the last one also by ``one``)."""
    gamma = torch.tensor([5.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    start = torch.full((4,), 1e-5, dtype=torch.float64)
    time = torch.linspace(0, 8, 2000, dtype=torch.float64)
    factor = torch.tensor([1.0, 1.0, 1.0, one], dtype=torch.float64) * stretch
    curves = torch.stack(
        [
            linear.correlation_eigenvalues(time / f, g[None], s[None])[:, 0]
            for f, g, s in zip(factor, gamma, start, strict=True)
        ],
        -1,
    )
    loss = linear.loss(curves) + end
    return xr.Dataset(
        {
            "correlation_eigenvalues": (("run", "step", "mode"), curves[None].numpy()),
            "effective_time": (("run", "step"), time[None].numpy()),
            "critical_time": (("run", "mode"), linear.critical_times(gamma, start)[None].numpy()),
            "loss": (("run", "step"), loss[None].numpy()),
        }
    )


def ends(
    alignment: tuple[float, float] = (1.0, 0.05), norm: tuple[float, float] = (1.0, 20.0), loss: float = 1e-9
) -> xr.Dataset:
    data = {
        "alignment": ("scale", list(alignment)),
        "norm_ratio": ("scale", list(norm)),
        "loss": ("scale", [loss] * 2),
    }
    return xr.Dataset(data, coords={"scale": [1e-8, 1.0]})


def held_out(first: float = 0.95, last: float = 0.5, shuffled: float = 0.05) -> xr.Dataset:
    data = {"agreement": ("mode", np.linspace(first, last, 40)), "shuffled": ("mode", np.full(40, shuffled))}
    return xr.Dataset(data)


WIDTHS = np.array([64.0, 512.0, 4096.0])


def networks(
    first: tuple[float, ...] = (0.96, 0.98, 0.99),
    late: tuple[float, ...] = (0.65, 0.8, 0.9),
    alignment: tuple[float, ...] = (0.85, 0.93, 0.97),
    power: float = -1.0,
) -> xr.Dataset:
    ratio = np.repeat(np.array([first, late, late]).T[:, None], 2, axis=1)
    moved = 0.1 * (WIDTHS / 64) ** power
    return xr.Dataset(
        {
            "ratio": (("width", "seed", "mode"), ratio),
            "alignment": (("width", "seed"), np.repeat(np.array(alignment)[:, None], 2, axis=1)),
            "kernel_change": (("width", "seed"), np.repeat(moved[:, None], 2, axis=1)),
        },
        coords={"width": WIDTHS.astype(int), "seed": [0, 1], "mode": [1, 2, 3]},
    )


def frozen(
    linearised: float = 1.01,
    shared: float = 0.99,
    settled: tuple[float, float] = (0.99, 0.99),
    **changes: Any,
) -> claims.Frozen:
    """Half times of frozen kernels: those of the trained network, and those of the theory, times a factor.

    ``settled``: where each seed ends with the theory's own kernel; ``changes``: to the networks.
    """
    trained = networks(**changes)
    ratio = xr.concat([linearised * trained.ratio, shared * xr.ones_like(trained.ratio)], "model")
    end = xr.full_like(trained.alignment, 1.0) * xr.DataArray(list(settled), {"seed": [0, 1]}, "seed")
    both = xr.Dataset({"ratio": ratio, "alignment": xr.concat([end, end], "model")})
    both = both.assign_coords(model=["linearised", "shared"])
    return claims.Frozen(trained, both)


def falling(name: str, power: float = -0.5) -> xr.Dataset:
    values = np.repeat(0.2 * (WIDTHS / 64)[:, None] ** power, 2, axis=1)
    return xr.Dataset(
        {name: (("width", "seed"), values)}, coords={"width": WIDTHS.astype(int), "seed": [0, 1]}
    )


def head_start(power: float = 0.0, theory: float = 1.2, wider: float = 0.2) -> xr.Dataset:
    scale = np.array([1e-2, 1e-4, 1e-6])[:, None, None]
    width = np.array([1.0, wider])[None, :, None]
    both = np.ones((3, 2, 2))
    data = {"network": 1e-3 * width * scale**power * both, "theory": scale**theory * both}
    dims = ("scale", "width", "seed")
    return xr.Dataset(
        {k: (dims, v) for k, v in data.items()}, coords={"scale": scale.ravel(), "width": [64, 512]}
    )


GOOD = {
    "stepwise.wide-head-start": head_start,
    "stepwise.kernel-forms": lambda: 4e-14,
    "stepwise.kernel-spectrum": lambda: 6e-16,
    "stepwise.kernel-linear": lambda: 2e-14,
    "stepwise.kernel-signs": signs,
    "stepwise.kernel-end": ending,
    "stepwise.kernel-norm": race,
    "stepwise.kernel-dynamics": log,
    "stepwise.kernel-large-start": ends,
    "stepwise.kernel-pca": lambda: experiment.PCAGap(1e-15, 1e-14),
    "stepwise.kernel-held-out": held_out,
    "stepwise.wide-times": networks,
    "stepwise.wide-alignment": frozen,
    "stepwise.wide-faster": networks,
    "stepwise.wide-blocks": frozen,
    "stepwise.wide-coupling": lambda: falling("coupling"),
    "stepwise.wide-moves": networks,
    "stepwise.wide-infinite": lambda: falling("distance"),
}

SPOILED = {
    "stepwise.wide-head-start": [
        lambda: head_start(power=1.2),
        lambda: head_start(power=-1.0),
        lambda: head_start(theory=0.0),
        lambda: head_start(wider=2.0),
        lambda: head_start() * np.nan,
    ],
    "stepwise.kernel-forms": [lambda: 1e-3, lambda: np.nan],
    "stepwise.kernel-spectrum": [lambda: 1e-6, lambda: np.nan],
    "stepwise.kernel-linear": [lambda: 1e-8, lambda: np.nan],
    "stepwise.kernel-signs": [lambda: signs(30, 10), lambda: signs(20, 0), lambda: signs(40, 0)],
    "stepwise.kernel-end": [
        lambda: ending(misalignment=1e-3),
        lambda: ending(gram_error=1e-4),
        lambda: ending(gram_error=0.1, expected_error=0.5),
        lambda: ending(correlation_error=1e-3),
        lambda: ending(gram_error=np.nan),
    ],
    "stepwise.kernel-norm": [
        lambda: race(best=14.0),
        lambda: race(norm_squared=14.5817),
        lambda: race(best=np.nan),
        lambda: race(norm_squared=29.2),
    ],
    "stepwise.kernel-dynamics": [
        lambda: log(stretch=1.02),
        lambda: log(one=1.01),
        lambda: log(end=0.5),
        lambda: log(stretch=2),
    ],
    "stepwise.kernel-large-start": [
        lambda: ends(alignment=(0.9, 0.05)),
        lambda: ends(alignment=(1.0, 0.99)),
        lambda: ends(norm=(1.0, 1.0)),
        lambda: ends(norm=(1.1, 20.0)),
        lambda: ends(loss=0.5),
    ],
    "stepwise.kernel-pca": [
        lambda: experiment.PCAGap(0.5, 1e-14),
        lambda: experiment.PCAGap(1e-15, 0.1),
        lambda: experiment.PCAGap(np.nan, 1e-14),
    ],
    "stepwise.kernel-held-out": [
        lambda: held_out(first=0.05),
        lambda: held_out(shuffled=0.8),
        lambda: held_out(last=0.99),
        lambda: held_out(shuffled=np.nan),
    ],
    "stepwise.wide-times": [
        lambda: networks(late=(0.9, 0.8, 0.65)),
        lambda: networks(first=(0.96, 0.98, 0.95)),
        lambda: networks(first=(0.5, 0.98, 0.99)),
        lambda: networks(late=(0.65, np.nan, 0.9)),
    ],
    "stepwise.wide-alignment": [
        lambda: frozen(alignment=(0.97, 0.93, 0.95)),
        lambda: frozen(alignment=(0.02, 0.03, 0.04)),
        lambda: frozen(alignment=(0.85, 0.93, np.nan)),
        lambda: frozen(settled=(0.8, 0.8)),
    ],
    "stepwise.wide-faster": [lambda: networks(late=(1.2, 1.1, 1.05)), lambda: networks(first=(1.01, 1, 1))],
    "stepwise.wide-blocks": [
        lambda: frozen(linearised=1.2),
        lambda: frozen(shared=0.8),
        lambda: frozen(linearised=np.nan),
        lambda: frozen()._replace(networks=networks(late=(0.97, 0.99, 0.99))),
    ],
    "stepwise.wide-coupling": [lambda: falling("coupling", 0.0), lambda: falling("coupling", -1.0)],
    "stepwise.wide-moves": [lambda: networks(power=-0.5), lambda: networks(power=0.0)],
    "stepwise.wide-infinite": [lambda: falling("distance", 0.0), lambda: falling("distance", -1.0)],
}


test_every_claim_has_a_good_and_a_spoiled_result, test_a_good_result_holds, test_a_spoiled_result_does_not = (
    claim_checks.tests_of(claims.CLAIMS, GOOD, SPOILED)
)


# --- settings and comparisons of the notebook ---


def model(pairs: int = 24, turn: float = 150.0) -> kernel.KernelModel:
    return experiment.planar(experiment.ring_pairs(0, pairs, turn), kernel.RBF(0.4), 2, side=5).model


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="turn"):
        experiment.KernelNotebook(turn=270.0)
    assert not experiment.KernelNotebook().is_large
    assert experiment.KernelNotebook(widths=(64, 16384), wide_seeds=range(5)).is_large
    assert experiment.KernelNotebook().wide_config == wide.WideConfig(seed=(0, 1, 2))


def test_the_views_of_a_ring_pair_share_their_radius_and_nothing_else() -> None:
    pairs = experiment.ring_pairs(0, 400, 180.0)
    first, second = (view.norm(dim=1) for view in (pairs.view_a, pairs.view_b))
    assert torch.allclose(first, second)
    assert float(first[::2].mean()) == pytest.approx(0.4, abs=0.02)
    assert float(first[1::2].mean()) == pytest.approx(1.0, abs=0.02)
    angles = [torch.atan2(view[:, 1], view[:, 0]) for view in (pairs.view_a, pairs.view_b)]
    assert abs(float(torch.exp(1j * (angles[0] - angles[1])).mean().abs())) < 0.15
    same = experiment.ring_pairs(0, 10, 0.0)
    assert torch.equal(same.view_a, same.view_b)


def test_planar_functions_are_the_embedding_on_a_grid() -> None:
    similarity = kernel.RBF(0.4)
    rings = experiment.planar(experiment.ring_pairs(1, 20, 90.0), similarity, 3, side=7)
    learned = rings.model.embed(3)
    corner = torch.tensor(
        [[-experiment.EDGE, experiment.EDGE]], dtype=torch.float64
    )  # first column, last row
    expected = learned(similarity(rings.samples, corner))[:, 0]
    assert torch.allclose(rings.functions[:, -1, 0].abs(), expected.abs())
    assert float(learned.embeddings[0].sum() * expected[0] * rings.functions[0, -1, 0]) > 0


def test_signs_of_functions_against_rings() -> None:
    radii = torch.tensor([0.4, 1.0, 0.41, 1.1], dtype=torch.float64)
    functions = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, -1, -1, -1]], dtype=torch.float64)
    assert experiment.ring_signs(functions, radii) == [0.5, 1.0, 0.75]


def test_quadratic_features_are_those_of_the_kernel() -> None:
    x = torch.tensor([[0.3, -1.2], [2.0, 0.7], [0.0, 0.0]], dtype=torch.float64)
    features = experiment.quadratic_features(x)
    assert torch.allclose(features @ features.T, experiment.quadratic_kernel(x, x))
    pairs = experiment.ring_pairs(0, 12, 90.0)
    assert experiment.spectrum_gap(kernel.stack_views(pairs.view_a, pairs.view_b)) < 1e-12


def test_gaps_between_equal_things_are_rounding() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b, points = (torch.randn(12, 5, generator=draw, dtype=torch.float64) for _ in range(3))
    assert experiment.linear_gap(FixedPairs(a, b), points, 2) < 1e-12
    assert experiment.forms_gap(a @ a.T + torch.eye(12, dtype=torch.float64)) < 1e-13
    gap = experiment.kernel_pca_gap(a, kernel.RBF(2.0), 3)
    assert max(gap) < 1e-12


def test_the_flow_ends_where_the_formula_says_and_competitors_do_not() -> None:
    found = experiment.follow_flow(model(), 2, scale=1e-10, seed=0)
    assert claim_checks.verdict(claims.CLAIMS, "stepwise.kernel-end", found) == Verdict.REPRODUCED
    norms = experiment.competitors(model(), 2, 21, seed=0)
    assert norms.shape == (21,)
    assert float(norms.min()) > found.least_norm_squared == model().embed(2).norm_squared
    early = experiment.follow_flow(model(), 2, scale=0.5, seed=0)
    assert claim_checks.verdict(claims.CLAIMS, "stepwise.kernel-end", early) == Verdict.NOT


def test_competitors_have_zero_loss() -> None:
    solved = model()
    gamma = solved.modes.eigenvalues
    kept = gamma[gamma.abs() > 0.01 * gamma[0]]
    weights = linear.zero_loss_weights(kept, 2, 5, torch.Generator().manual_seed(0), 0.3)
    assert torch.allclose(weights * kept @ weights.mT, torch.eye(2, dtype=torch.float64).expand(5, 2, 2))


def test_large_starts_end_elsewhere() -> None:
    found = experiment.large_starts(model(), 2, [1e-6, 1.0], seed=0)
    assert float(found.alignment[0]) > 0.99 > 0.6 > float(found.alignment[1])
    assert float(found.norm_ratio[0]) == pytest.approx(1, abs=0.01)
    assert float(found.norm_ratio[1]) > 2


def test_held_out_pairs_are_other_digits_and_shuffling_takes_their_agreement() -> None:
    train, test = experiment.split_digits(0, 40, 100)
    assert train.view_a.shape == (40, 64)
    assert test.view_a.shape == (100, 64)
    assert float(torch.cdist(train.view_a, test.view_a).min()) > 0
    found = experiment.held_out_agreement(train, test, kernel.relu_tangent_kernel, 60, seed=0)
    assert found.sizes["mode"] == 40  # no more modes than pairs
    a, b = (view.double() for view in (test.view_a, test.view_b))
    samples = kernel.stack_views(train.view_a, train.view_b)
    learned = kernel.kernel_model(kernel.relu_tangent_kernel(samples, samples)).embed(2)
    values = [learned(kernel.relu_tangent_kernel(samples, view))[1].numpy() for view in (a, b)]
    assert float(found.agreement[1]) == pytest.approx(np.corrcoef(*values)[0, 1])
    assert float(found.diagonal[1]) == pytest.approx(np.mean(values[0] * values[1]))
    assert float(found.agreement[:5].min()) > 0.5 > float(np.abs(found.shuffled[:5]).max())


def test_infinite_width_and_exponent() -> None:
    found = experiment.infinite_width(wide.WideConfig(width=(64, 1024), seed=(0, 1), pairs=10))
    assert -0.7 < experiment.exponent(found.distance) < -0.3
    assert experiment.exponent(falling("x", -0.25).x) == pytest.approx(-0.25)


def test_head_start_is_read_off_when_mode_1_is_learned() -> None:
    config = wide.WideConfig(width=(16, 32), seed=(0, 1), pairs=10, dimensions=3)
    found = experiment.head_start(config, [1e-2, 1e-4])
    assert dict(found.sizes) == {"scale": 2, "width": 2, "seed": 2}
    run = wide.train(config.replace(width=(32,), seed=(1,), output_scale=1e-4)).isel(width=0, seed=0)
    time = run.step * float(run.learning_rate)
    at = int(np.abs(time.values - float(run.predicted_half_time[0])).argmin())
    one = found.sel(scale=1e-4, width=32, seed=1)
    assert float(one.network) == float(run.eigenvalues[at, 1])
    assert float(one.theory) == float(run.predicted_eigenvalues[at, 1])
    assert (found.theory.sel(scale=1e-2) > 10 * found.theory.sel(scale=1e-4)).all()


def test_the_clock_spans_all_modes() -> None:
    plane = experiment.planar(experiment.ring_pairs(0, 24, 150.0), kernel.RBF(0.4), 3, side=5)
    clock = experiment.clock([plane], 3, 1e-7, 5)
    gamma = plane.model.modes.eigenvalues[:3]
    grown = linear.correlation_eigenvalues(torch.tensor(clock.times), gamma, clock.start)
    assert len(clock.times) == 5
    assert float(grown[0].max()) < 0.01
    assert float(grown[-1].min()) > 0.9


def test_seeds_that_the_theory_itself_does_not_settle_are_left_out() -> None:
    spoiled = frozen(settled=(0.99, 0.8))
    spoiled.networks.alignment[:, 1] = 0.5
    assert claims.settled_seeds(spoiled.frozen).values.tolist() == [True, False]
    assert claim_checks.verdict(claims.CLAIMS, "stepwise.wide-alignment", spoiled) == Verdict.REPRODUCED
    both = claims.Frozen(spoiled.networks, frozen().frozen)
    assert claim_checks.verdict(claims.CLAIMS, "stepwise.wide-alignment", both) == Verdict.NOT


def test_half_time_ratios_of_a_trained_model() -> None:
    config = toy.ToyConfig(dimensions=2, init_scale=1e-6, stability_fraction=0.05)
    ratios = experiment.half_time_ratios(toy.train(config, model().modes))
    assert np.abs(ratios - 1).max() < 0.02
