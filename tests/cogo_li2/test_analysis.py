"""Orders, hosting, torus angles, clock and polishing on networks whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from learndyn.cogo_li2 import algebra, analysis, convergence, factoriser, network, published
from learndyn.cogo_li2.groups import AbelianGroup

Z7 = AbelianGroup((7,))
Z23 = AbelianGroup((23,))
CLOCK = published.load("weight_decay_clock_d23.csv")


def solution(group, order_6, host="all", dead=0):
    spectrum = algebra.build(group, algebra.mixed(group, order_6), host=host)
    return torch.cat([spectrum, torch.zeros(3, dead, group.size, dtype=spectrum.dtype)], 1)


# Orders.


@pytest.mark.parametrize("orders", [(7,), (8,), (3, 4)])
def test_order_summaries_are_the_orders_that_were_built(orders):
    group = AbelianGroup(orders)
    choice = algebra.mixed(group, [1])
    weights = group.to_weights(algebra.build(group, choice, host="all"))
    ensemble = torch.stack([weights, torch.zeros_like(weights)])
    for dims, function in analysis.order_summaries(group, threshold=0.02).values():
        assert dims == ("frequency",)
        wanted = [choice[k].order for k in group.half().characters.tolist()]
        assert function(ensemble).tolist() == [wanted, [0] * len(wanted)]


def test_alive_nodes_and_norms():
    spectrum = solution(Z7, [1], dead=3)
    assert analysis.alive_nodes(spectrum).tolist() == [True] * 14 + [False] * 3
    weights = Z7.to_weights(spectrum)
    split = analysis.norm_split(weights[None])
    torch.testing.assert_close(split[0], torch.stack([part.flatten() @ part.flatten() for part in weights]))


def test_dc_energy_share_is_a_ratio_of_plain_sums():
    weights = Z7.to_weights(solution(Z7, [1], dead=2))
    assert analysis.dc_energy_share(Z7.to_spectrum(weights)) < 1e-25
    weights[:2] += torch.linspace(-0.3, 0.4, 2 * 16, dtype=torch.float64).reshape(2, 16, 1)
    weights[:2, -2:] = 0
    inputs = weights[:2]
    wanted = (7 * inputs.mean(-1) ** 2).sum() / (inputs**2).sum()
    assert analysis.dc_energy_share(Z7.to_spectrum(weights)).item() == pytest.approx(wanted.item())


def test_order_histogram_pools_and_keeps_what_lies_above():
    orders = torch.tensor([[[4, 6], [6, 13]], [[0, 20], [6, 12]]])
    counts = analysis.order_histogram(orders)
    assert counts.tolist() == [1, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 1, 2]


# Bias hosting.


def test_hosts_cancel_the_whole_bias_in_equal_shares():
    spectrum = solution(Z23, [2, 5, 9], dead=4)
    data = analysis.bias_hosting(Z23, spectrum)
    four = data["order"] == 4
    assert int(four.sum()) == 8
    assert set(data["order"].values[~four.values]) == {6}
    shares = data["share"].sel(host=[2, 5, 9]).values[four.values]
    np.testing.assert_allclose(shares, 1 / 3, atol=1e-10)
    np.testing.assert_allclose(data["bias"].values[four.values], math.sqrt(2), rtol=1e-10)
    np.testing.assert_allclose(data["elsewhere"].values[four.values], 0, atol=1e-12)
    assert data["share"].where(data["order"] == 6, drop=True).isnull().all()
    others = data["share"].sel(host=[1, 3, 4]).values[four.values]
    assert np.nanmax(abs(others)) < 1e-10


def test_hosting_is_what_the_network_does_on_average():
    spectrum = solution(Z7, [3], host=3)
    rng = torch.Generator().manual_seed(0)
    noise = Z7.to_spectrum(0.02 * torch.randn(3, 14, 7, generator=rng, dtype=torch.float64))
    data = analysis.bias_hosting(Z7, torch.stack([spectrum, spectrum + noise]))
    weights = Z7.to_weights(spectrum + noise)
    main = factoriser.main_frequency(spectrum + noise)
    for k in (1, 2):
        parts = {}
        for host in (1, 2, 3):
            outputs = network.forward(weights[:, main == host]).mean((0, 1))
            parts[host] = sum(outputs[z].item() * np.exp(2j * np.pi * k * z / 7) for z in range(7))
        for host in {1, 2, 3} - {k}:
            wanted = -(parts[host] * np.conj(parts[k])).real / abs(parts[k]) ** 2
            assert data["share"].sel(run=1, frequency=k, host=host).item() == pytest.approx(wanted)


def test_without_a_host_nothing_is_cancelled_and_a_constant_node_counts_as_elsewhere():
    alone = analysis.bias_hosting(Z7, solution(Z7, [1], host=None))
    assert np.nanmax(abs(alone["share"])) < 1e-12
    node = analysis.bias_hosting(Z7, algebra.build(Z7, algebra.everywhere(Z7, algebra.ORDER_4), host="node"))
    np.testing.assert_allclose(node["elsewhere"], 1, atol=1e-10)


# Torus.


def test_torus_angles_and_the_design_they_form():
    spectrum = solution(Z7, [1], dead=5)
    rng = torch.Generator().manual_seed(1)
    noise = torch.randn(3, 3, spectrum.shape[1], 7, generator=rng, dtype=torch.float64)
    weights = Z7.to_weights(spectrum) + torch.tensor([1e-1, 1e-2, 1e-6]).double()[:, None, None, None] * noise
    data = analysis.torus_angles(Z7, weights, 1)
    last = data.isel(snapshot=-1)
    assert int(last["member"].sum()) == 6
    found = last.sel(node=last["node"][last["member"]])
    assert float(found["distance"].max()) < 1e-4
    values = Z7.to_spectrum(weights)[-1, 0, torch.tensor(found["node"].values), 1]
    np.testing.assert_allclose(found["angle_a"], values.angle())
    np.testing.assert_allclose(found["modulus"], values.abs())
    # Points of a design: Σ exp(i(sα + tβ)) vanishes for these (s, t); for an order-6 group also at (1, 1).
    for s, t in [(2, 0), (0, 2), (2, 2), (1, 1), (1, -1), (3, 1), (1, 3)]:
        total = np.exp(1j * (s * found["design_a"] + t * found["design_b"])).sum()
        assert abs(total) < 1e-8


def test_a_group_of_another_order_has_no_design():
    spectrum = algebra.build(Z7, {1: algebra.ORDER_3})
    data = analysis.torus_angles(Z7, Z7.to_weights(spectrum)[None], 1)
    assert data.sizes["node"] == 3
    assert data["distance"].isnull().all()


# The clock.


def test_the_stored_runs_collapse_on_weight_decay_times_epochs():
    at_zero, at_one, between = (analysis.clock_distance(CLOCK, exponent) for exponent in (0, 1, 0.8))
    assert at_one < 0.55 * at_zero
    assert between < 0.7 * at_one  # the collapse is better still with a power of weight decay below 1
    exponents = analysis.clock_exponent(CLOCK)
    assert len(exponents) == 6
    assert exponents.between(0.65, 0.9).all()


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_a_made_up_clock_is_read_off(exponent):
    epochs = torch.arange(100, 20001, 100)
    decays = torch.tensor([1e-5, 5e-5, 1e-4], dtype=torch.float64)
    clock = decays[:, None] ** exponent * epochs
    clock = clock / clock[0, 30]
    table = analysis.clock_table(
        (13 * clock**-0.3).round().long()[..., None].expand(-1, -1, 3), decays, epochs
    )
    assert analysis.clock_distance(table, exponent) < 0.07
    assert analysis.clock_distance(table, exponent - 0.3) > 0.1
    np.testing.assert_allclose(analysis.clock_exponent(table), exponent, atol=0.05)


def test_runs_that_do_not_care_about_weight_decay_do_not_collapse():
    spoiled = pd.concat(
        CLOCK[CLOCK["wd"] == 5e-5].assign(wd=decay, wd_times_epoch=lambda part: part["wd"] * part["epoch"])
        for decay in (1e-5, 5e-5, 1e-4)
    ).reset_index(drop=True)
    assert analysis.clock_distance(spoiled, exponent=0) < 1e-12
    assert analysis.clock_distance(spoiled) > 0.4
    assert analysis.clock_exponent(spoiled).abs().max() < 1e-9


def test_clock_table_pools_the_runs_of_equal_weight_decay():
    orders = torch.tensor([[[9, 6], [4, 6]], [[13, 6], [6, 6]], [[4, 4], [4, 4]]])
    table = analysis.clock_table(
        orders, torch.tensor([1e-4, 1e-4, 1e-3]), torch.tensor([0, 100]), max_order=12
    )
    assert table["wd"].round(6).tolist() == [1e-4, 1e-4, 1e-3, 1e-3]
    assert table["epoch"].tolist() == [0, 100, 0, 100]
    first = table.iloc[0]
    assert [first["n_order_6"], first["n_order_9"], first["n_order_above_12"]] == [2, 1, 1]
    assert table.filter(regex="n_order").sum(axis=1).tolist() == [4, 4, 2, 2]
    assert set(CLOCK.columns) - set(table.columns) == set()


def test_no_common_range_is_refused():
    table = CLOCK[
        (CLOCK["wd"] == 1e-5) & (CLOCK["epoch"] < 2000) | (CLOCK["wd"] == 1e-4) & (CLOCK["epoch"] > 5000)
    ]
    with pytest.raises(ValueError, match="common range"):
        analysis.clock_distance(table)


# Exactness.


def test_polishing_finds_the_exact_solution_near_a_disturbed_one():
    weights = Z23.to_weights(solution(Z23, [1, 4, 6], dead=10))
    rng = torch.Generator().manual_seed(2)
    noise = (
        0.003
        * weights.square().mean().sqrt()
        * torch.randn(weights.shape, generator=rng, dtype=torch.float64)
    )
    result = analysis.polish(Z23, (weights + noise).float())
    assert result.nodes.tolist() == list(range(50))
    assert result.loss_before > 1e-6
    assert result.loss_after < 1e-10
    assert result.relative_change < 0.004
    labels = Z23.addition_table()
    outputs = network.forward(result.weights)
    assert network.projected_mse(outputs, labels).item() == pytest.approx(result.loss_after, abs=1e-13)
    count = analysis.order_summaries(Z23)["order"][1]
    assert torch.equal(count(result.weights), count(weights))


def test_polishing_cannot_mend_what_is_not_near_a_solution():
    three = Z7.to_weights(algebra.build(Z7, algebra.everywhere(Z7, algebra.ORDER_3)))
    assert analysis.polish(Z7, three, max_iterations=300).loss_after > 0.05
    with pytest.raises(ValueError, match="no node is alive"):
        analysis.polish(Z7, torch.zeros(3, 4, 7))


# The convergence panels.


@pytest.fixture(scope="module")
def panels():
    return convergence.converge(Z7, seeds=(0, 1, 2, 3), steps=2000)


def test_panels_end_in_groups_of_four_and_six(panels):
    end = panels.isel(step=-1)
    orders = [tuple(sorted(row)) for row in end["order"].values.tolist()]
    assert set(orders) <= {(4, 6, 6), (6, 6, 6)}
    assert (4, 6, 6) in orders
    assert end["alive"].values.tolist() == [sum(row) for row in orders]
    assert float(end["loss"].max()) < 5e-4
    assert float(end["loss"].median()) < 1e-4
    assert panels["loss"].sel(step=0).values == pytest.approx(6 / 7, abs=1e-4)


def test_panels_stay_hermitian_and_without_constant(panels):
    assert panels["step"].values.tolist() == [0, 100, 200, 300, 400, 2000]
    modulus = panels["modulus"]
    assert float(modulus.isel(character=0).max()) == 0
    np.testing.assert_allclose(modulus.isel(character=2), modulus.isel(character=5))
    gap = np.exp(1j * (panels["phase"].isel(character=1) + panels["phase"].isel(character=6)))
    np.testing.assert_allclose(gap.where(modulus.isel(character=1) > 1e-6, 1.0), 1.0, atol=1e-6)


def test_panels_gradient_is_that_of_theorem_1():
    rng = torch.Generator().manual_seed(5)
    start = torch.randn(1, 3, 5, 7, generator=rng, dtype=torch.complex128)
    minus = Z7.neg(torch.arange(7))
    state = convergence._hermitian(start, minus)[0].requires_grad_(True)
    a, b, c = state.unbind(0)  # potentials of the paper's z, all characters independent
    kept = torch.arange(1, 7)
    r = torch.einsum("jk,jl,jm->klm", a[:, kept], b[:, kept], c[:, kept])
    diagonal = torch.einsum("jk,jk,jk->k", a, b, c)[kept]
    loss = 6 - 2 * diagonal.real.sum() + r.abs().square().sum()
    for m in range(7):
        pair = (m - torch.arange(7)) % 7
        sums = [torch.einsum("jk,jk,jm->m", part, part[:, pair], c)[kept] for part in (a, b)]
        if m == 0:
            loss = loss + 0.25 * (sums[0] + sums[1]).abs().square().sum()
        else:
            loss = loss + 0.25 * (sums[0].abs().square() + sums[1].abs().square()).sum()
    wanted = torch.autograd.grad(loss, state)[0]
    found = convergence._gradient(state.detach()[None], Z7)[0]
    torch.testing.assert_close(found[..., 1:], wanted[..., 1:])


def test_seeds_run_together_as_alone_and_bad_input_is_refused(panels):
    alone = convergence.converge(Z7, seeds=(2,), steps=100)
    np.testing.assert_allclose(
        alone["modulus"].sel(step=100)[0], panels["modulus"].sel(step=100)[2], atol=1e-9
    )
    with pytest.raises(ValueError, match="at least one seed"):
        convergence.converge(Z7, seeds=())
