"""Constructions run as networks: closed forms, the straight lines, the settings, the explorer's networks."""

import matplotlib.pyplot as plt
import pytest
import torch

from learndyn.cogo_li2 import algebra, exact_solutions, network
from learndyn.cogo_li2 import figures_build_by_algebra as figures
from learndyn.cogo_li2.algebra import Family
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings_build_by_algebra import BuildByAlgebra
from learndyn.core.config import ConfigError
from learndyn.core.device import generator


@pytest.mark.parametrize("d", [5, 7, 11])
def test_each_construction_has_its_predicted_width_and_loss(d):
    table = exact_solutions.solution_table([d], seed=3)
    assert set(table["construction"]) == set(exact_solutions.closed_forms(d))
    assert (table["width"] == table["predicted_width"]).all()
    assert (table["loss"] - table["predicted_loss"]).abs().max() < 1e-12


def test_evaluation_agrees_with_loops_over_the_table():
    group = AbelianGroup((5,))
    spectrum = algebra.build(group, algebra.everywhere(group, algebra.ORDER_4))
    w_a, w_b, w_c = group.to_weights(spectrum)
    loss = right = 0.0
    for x in range(5):
        for y in range(5):
            output = w_c.T @ (w_a[:, x] + w_b[:, y]) ** 2
            error = output.clone()
            error[(x + y) % 5] -= 1
            loss += float((error - error.mean()).square().sum()) / 25
            right += float(int(output.argmax()) == (x + y) % 5) / 25
    found = exact_solutions.evaluate(group, spectrum)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.accuracy == pytest.approx(right)
    squared = float(sum((w**2).sum() for w in (w_a, w_b, w_c)))
    assert found.squared_norm == pytest.approx(squared, rel=1e-12)


def test_a_gap_shows_when_the_product_is_not_the_product(monkeypatch):
    good = exact_solutions.homomorphism_gap(draws=4, seed=0)
    assert max(good) < 1e-14
    monkeypatch.setattr(algebra, "multiply", algebra.add)
    assert exact_solutions.homomorphism_gap(draws=4, seed=0)[1] > 1e-3


@pytest.mark.parametrize("overlaid", [True, False])
def test_straight_line_joins_the_two_networks_through_a_loss(overlaid):
    group = AbelianGroup((7,))
    base = algebra.build(group, algebra.everywhere(group, algebra.ORDER_6))
    y = exact_solutions.at_every_character(group, Family("nu").element())
    line = exact_solutions.along_straight_line(
        group, y, base, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), overlaid=overlaid
    )
    assert float(line["loss"][0]) < 1e-20
    assert float(line["loss"][2]) < 1e-20
    assert float(line["norm"][2]) == pytest.approx(float(algebra.squared_norm(group, base)))
    # side by side r = 1/8 + 1/8; overlaid: products of (1−t)y + t at the first node, of (1−t)y at the other
    a, b, c = Family("nu").element()
    product = (0.5 * a + torch.tensor([0.5, 0])) * (0.5 * b + torch.tensor([0.5, 0]))
    r = complex((product * (0.5 * c + torch.tensor([0.5, 0]))).sum()) if overlaid else 0.25
    assert float(line["loss"][1]) == pytest.approx(6 / 7 * abs(r - 1) ** 2, rel=1e-9)


def test_solve_takes_the_number_of_least_norm():
    group = AbelianGroup((23,))
    curve = exact_solutions.norm_by_order6(23)
    solved = exact_solutions.solve(group)
    assert solved.order_6 == int(curve["n6"].values[curve["built"].values.argmin()])
    assert solved.measured.squared_norm == pytest.approx(float(curve["built"].min()))
    outputs = network.forward(group.to_weights(solved.spectrum))
    assert float(network.projected_mse(outputs, group.addition_table())) < 1e-20


def test_random_angles_differ_and_change_no_loss():
    group = AbelianGroup((7,))
    made = exact_solutions.constructions(group, generator(0, "a"))
    first, second = made["order 6, z_ν * z_syn"](), made["order 6, z_ν * z_syn"]()
    assert not torch.allclose(first, second)
    assert exact_solutions.evaluate(group, first).loss < 1e-20


@pytest.mark.parametrize(
    ("choices", "bias", "carrier", "solved"),
    [
        (("3: syn", "3: syn"), "hosted", "no bias", False),
        (("4: ν=i·ξ", "6: ν·syn"), "left alone", "bias left", False),
        (("4: ν=i·ξ", "6: ν·syn"), "hosted", "bias on order 6", True),
        (("4: ν=i·ξ", "4: ν=i·ξ"), "hosted", "bias on an extra node", True),
    ],
)
def test_explorer_builds_what_it_says(choices, bias, carrier, solved):
    group = AbelianGroup((5,))
    spectrum, words = figures.explorer_network(group, choices, 45, bias)
    assert words == carrier
    assert (exact_solutions.evaluate(group, spectrum).loss < 1e-20) == solved


def test_solution_card_tells_the_loss():
    fig = figures.solution_card(AbelianGroup((5,)), ("6: ν·syn", "3: syn"), 15, "hosted")
    assert fig.axes[0].get_title("left").startswith("loss 0.200")
    plt.close(fig)


def test_settings_refuse_an_even_modulus():
    with pytest.raises(ConfigError, match="odd"):
        BuildByAlgebra(moduli=(5, 8))
    with pytest.raises(ConfigError, match="modulus"):
        BuildByAlgebra(modulus=6)
