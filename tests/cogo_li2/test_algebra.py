"""The semiring, the building blocks and the zero-loss networks, against plain loops and one-hot networks."""

import cmath
import itertools
import json
import math
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.cogo_li2 import algebra, potentials
from learndyn.cogo_li2.algebra import ORDER_3, ORDER_4, ORDER_6, ORDER_6_ALPHABETA, Family, build, everywhere
from learndyn.cogo_li2.groups import AbelianGroup

NAMES = [potential.name for potential in algebra.POTENTIALS]
CHECKS = json.loads(files("learndyn.cogo_li2").joinpath("reference/theory_checks.json").read_text())


def plain_potentials(element):
    a, b, c = element.numpy()
    return {
        "Σabc": np.sum(a * b * c),
        "Σābc": np.sum(a.conj() * b * c),
        "Σab̄c": np.sum(a * b.conj() * c),
        "Σabc̄": np.sum(a * b * c.conj()),
        "Σ|a|²c": np.sum(abs(a) ** 2 * c),
        "Σ|b|²c": np.sum(abs(b) ** 2 * c),
        "Σa²c": np.sum(a**2 * c),
        "Σb²c": np.sum(b**2 * c),
        "Σā²c": np.sum(a.conj() ** 2 * c),
        "Σb̄²c": np.sum(b.conj() ** 2 * c),
    }


def loss_and_accuracy(group, spectrum):
    """The network run on one-hot inputs, in numpy, one pair of elements after the other."""
    elements = list(itertools.product(*(range(n) for n in group.orders)))
    d, (w_a, w_b, w_c) = len(elements), group.to_weights(spectrum).numpy()
    projection, eye, loss, hits = np.eye(d) - 1 / d, np.eye(d), 0.0, 0
    for i, x in enumerate(elements):
        for j, y in enumerate(elements):
            label = elements.index(tuple((s + t) % n for s, t, n in zip(x, y, group.orders, strict=True)))
            output = w_c.T @ (w_a @ eye[i] + w_b @ eye[j]) ** 2
            loss += np.sum((projection @ (output - eye[label])) ** 2)
            hits += int(np.argmax(output) == label)
    return loss / d**2, hits / d**2


def source(seed):
    return torch.Generator().manual_seed(seed)


def random_element(nodes, seed, *characters):
    return torch.randn(3, nodes, *characters, dtype=torch.complex128, generator=source(seed))


def random_choice(choice, seed):
    """New angles for every frequency; order-2 characters keep their real coefficients."""
    generator = source(seed)
    return {
        k: family if family.name in ("nu", "one") else algebra.with_random_angles(family, generator)
        for k, family in choice.items()
    }


seeds = st.integers(0, 10**6)
widths = st.integers(0, 5)
angles = st.floats(-math.pi, math.pi)


# Semiring.


@settings(deadline=None, max_examples=50)
@given(n=widths, m=widths, seed=seeds)
def test_every_potential_is_a_homomorphism(n, m, seed):
    left, right = random_element(n, seed), random_element(m, seed + 1)
    z, w = plain_potentials(left), plain_potentials(right)
    total = dict(zip(NAMES, algebra.potential_values(algebra.add(left, right)).tolist(), strict=True))
    product = dict(zip(NAMES, algebra.potential_values(algebra.multiply(left, right)).tolist(), strict=True))
    assert len(NAMES) == 10
    for name in NAMES:
        assert total[name] == pytest.approx(z[name] + w[name], abs=1e-11)
        assert product[name] == pytest.approx(z[name] * w[name], abs=1e-10)


@settings(deadline=None, max_examples=40)
@given(n=widths, m=widths, k=st.integers(0, 3), dual=st.booleans(), seed=seeds)
def test_semiring_laws_up_to_permutation(n, m, k, dual, seed):
    axes = (4,) if dual else ()
    x, y, z = (random_element(width, seed + i, *axes) for i, width in enumerate((n, m, k)))
    add, multiply = algebra.add, algebra.multiply

    def same(left, right):
        return algebra.equivalent(left, right, gauge=False)

    assert same(add(x, y), add(y, x))
    assert same(multiply(x, y), multiply(y, x))
    assert same(multiply(x, multiply(y, z)), multiply(multiply(x, y), z))
    assert same(multiply(x, add(y, z)), add(multiply(x, y), multiply(x, z)))
    assert torch.equal(add(x, algebra.zero(*axes)), x)
    assert torch.equal(multiply(x, algebra.one(*axes)), x)
    assert torch.equal(multiply(x, algebra.zero(*axes)), algebra.zero(*axes))
    if n and m:
        assert not same(x, x + 1e-3)


def test_units_have_the_values_of_the_units():
    assert torch.equal(algebra.potential_values(algebra.one()), torch.ones(10, dtype=torch.complex128))
    assert torch.equal(algebra.potential_values(algebra.zero()), torch.zeros(10, dtype=torch.complex128))


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 4), m=st.integers(1, 4), seed=seeds)
def test_potentials_of_whole_networks_multiply_too(n, m, seed):
    left, right = random_element(n, seed, 5), random_element(m, seed + 1, 5)
    product = algebra.multiply(left, right)
    for triple in [(1, 2, 3), (0, 4, 1), (2, 2, 2)]:
        values = [potentials.potential(z, *triple).item() / 10 for z in (left, right, product)]
        assert values[2] == pytest.approx(values[0] * values[1], abs=1e-10)


@settings(deadline=None, max_examples=40)
@given(m=st.integers(2, 6), turns=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)))
def test_geometric_polynomials_have_the_designed_zeros(m, turns):
    unknown = algebra.generator(*(cmath.exp(2j * math.pi * t / m) for t in turns))
    at_unknown = plain_potentials(unknown)
    values = plain_potentials(algebra.geometric(unknown, m))
    for name in NAMES:
        wanted = m if abs(at_unknown[name] - 1) < 1e-9 else 0
        assert abs(values[name] - wanted) < 1e-12


@settings(deadline=None, max_examples=20)
@given(seed=seeds, length=st.integers(1, 4))
def test_polynomials_take_the_value_of_the_polynomial(seed, length):
    unknown = random_element(1, seed)
    coefficients = [random_element(1, seed + 1 + i) for i in range(length)]
    values = plain_potentials(algebra.polynomial(unknown, coefficients))
    u, c = plain_potentials(unknown), [plain_potentials(z) for z in coefficients]
    for name in NAMES:
        wanted = sum(c[i][name] * u[name] ** i for i in range(length))
        assert values[name] == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert plain_potentials(algebra.power(unknown, 3))["Σabc"] == pytest.approx(u["Σabc"] ** 3)


# Gauge.


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 6), seed=seeds)
def test_gauge_changes_neither_function_nor_canonical_form(n, seed):
    generator = source(seed)
    element = random_element(n, seed)
    scale = 0.5 + torch.rand(n, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0).double()
    moved = element * torch.stack([sign * scale, sign * scale, scale**-2])
    moved = moved[:, torch.randperm(n, generator=generator)]
    assert algebra.equivalent(element, moved)
    torch.testing.assert_close(algebra.canonical(element), algebra.canonical(moved))
    group = AbelianGroup((7,))
    tables = []
    for z in (element, moved, algebra.canonical(element)):
        w_a, w_b, w_c = group.to_weights(algebra.place(group, z, 2))
        tables.append(torch.einsum("jxy,jz->xyz", (w_a[:, :, None] + w_b[:, None, :]) ** 2, w_c))
    torch.testing.assert_close(tables[1], tables[0])
    torch.testing.assert_close(tables[2], tables[0])
    # A change that is no gauge: the angle of one a.
    moved[0, 0] *= cmath.exp(0.01j)
    assert not algebra.equivalent(element, moved)


def test_balance_minimises_the_norm_and_leaves_dead_nodes():
    element = random_element(4, 0)
    balanced = algebra.balance(element)
    for step in (0.97, 1.03):
        other = balanced * torch.tensor([step, step, step**-2])[:, None]
        assert (other.abs() ** 2).sum(0).min() > 0
        assert ((other.abs() ** 2).sum(0) > (balanced.abs() ** 2).sum(0)).all()
    element[:2, 1] = 0
    element[2, 2] = 0
    assert torch.equal(algebra.balance(element)[:, 1:3], element[:, 1:3])


# Building blocks: the published table of zero sets.

ZEROS = {
    "syn": "Σābc Σab̄c Σabc̄ Σ|a|²c Σ|b|²c Σā²c Σb̄²c",
    "nu": "Σa²c Σb²c",
    "nu_i": "Σābc Σab̄c Σa²c Σb²c Σā²c Σb̄²c",
    "xi": "Σabc̄",
    "syn_alphabeta": "Σabc̄ Σ|a|²c Σ|b|²c",
    "4a": "Σab̄c Σabc̄",
    "4b": "Σābc Σabc̄",
    "3a": "Σābc Σabc̄ Σ|a|²c Σ|b|²c Σa²c Σb²c Σb̄²c",
    "nu*syn": " ".join(NAMES[1:]),
    "nu_i*syn_alphabeta": " ".join(NAMES[1:]),
    "nu_i*xi": "Σābc Σab̄c Σabc̄ Σa²c Σb²c Σā²c Σb̄²c",
}


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(sorted(ZEROS)),
    nu=angles, xi=angles, alpha=angles, beta=angles, phases=st.tuples(angles, angles),
    sign=st.sampled_from([1, -1]),
)  # fmt: skip
def test_published_zeros_hold_for_all_parameters(name, nu, xi, alpha, beta, phases, sign):
    family = Family(name, nu, xi, alpha, beta, sign, *phases)
    values = plain_potentials(family.element())
    assert family.element().shape == (3, family.order)
    assert values["Σabc"] == pytest.approx(1, abs=1e-13)
    for zero in ZEROS[name].split():
        assert abs(values[zero]) < 1e-13


@pytest.mark.parametrize("sign", [1, -1])
def test_published_values_of_what_survives(sign):
    def values(name, **parameters):
        family = Family(name, sign=sign, **parameters)
        return plain_potentials(family.element())

    for name, ones in {
        "syn": "Σabc Σa²c Σb²c",
        "nu_i": "Σabc Σabc̄ Σ|a|²c Σ|b|²c",
        "3a": "Σabc Σab̄c Σā²c",
    }.items():
        for potential in ones.split():
            assert values(name)[potential] == pytest.approx(1, abs=1e-14)
    for potential in ("Σ|a|²c", "Σ|b|²c"):
        assert values("xi", xi=0.4)[potential] == pytest.approx((1 + 1j * sign) / 2, abs=1e-14)
        assert abs(values("nu_i*xi", xi=0.4)[potential]) == pytest.approx(2**-0.5, abs=1e-14)


def test_construction_table_lists_the_zero_sets():
    table = algebra.construction_table()
    assert table["vanish"].tolist() == [
        " ".join(n for n in NAMES if n in ZEROS[key].split()) for key in ZEROS
    ]
    assert table["order"].tolist() == [3, 2, 2, 2, 3, 2, 2, 3, 6, 6, 4]
    assert (table["Σabc"] - 1).abs().max() < 1e-12
    assert table.loc["z_ν * z_syn", NAMES[1:]].abs().max() == 0


def test_bad_families_are_refused():
    with pytest.raises(ValueError, match="'mu' is not one of"):
        Family("mu*syn")
    with pytest.raises(ValueError, match="sign = 2"):
        Family("xi", sign=2)
    with pytest.raises(ValueError, match="Σabc is zero"):
        algebra.rescale(algebra.generator(1, 0, 1))


# Whole networks.

CYCLIC = [5, 7, 23]
GENERAL = [(3,), (4,), (6,), (8,), (2, 2), (2, 2, 2), (4, 4), (3, 5), (5, 7), (2, 9)]


@pytest.mark.parametrize("d", CYCLIC)
@pytest.mark.parametrize("family", [ORDER_6, ORDER_6_ALPHABETA], ids=lambda family: family.name)
def test_order_6_everywhere(d, family):
    group = AbelianGroup((d,))
    spectrum = build(group, random_choice(everywhere(group, family), d))
    assert spectrum.shape[1] == 3 * (d - 1)
    loss, accuracy = loss_and_accuracy(group, spectrum)
    assert loss < 1e-27
    assert accuracy == 1


@pytest.mark.parametrize("d", CYCLIC)
@pytest.mark.parametrize("six", [ORDER_6, ORDER_6_ALPHABETA], ids=lambda family: family.name)
def test_order_4_with_one_order_6_host(d, six):
    group = AbelianGroup((d,))
    choice = random_choice(algebra.mixed(group, [1], six), d)
    hosted, bare = build(group, choice, host=1), build(group, choice)
    assert hosted.shape[1] == 2 * (d - 1) + 2
    loss, accuracy = loss_and_accuracy(group, hosted)
    assert loss < 1e-27
    assert accuracy == 1
    loss, _ = loss_and_accuracy(group, bare)
    published = CHECKS["residual_loss_of_partial_constructions"]["mixed_one_order6_without_bias_host"]
    assert loss == pytest.approx(4 * ((d - 1) / 2 - 1) / d, abs=1e-12)
    assert loss == pytest.approx(next(row["loss"] for row in published if row["d"] == d), abs=1e-12)


@pytest.mark.parametrize("d", CYCLIC)
def test_order_4_with_a_bias_node(d):
    group = AbelianGroup((d,))
    spectrum = build(group, random_choice(everywhere(group, ORDER_4), d), host="node")
    assert spectrum.shape[1] == 2 * (d - 1) + 1
    loss, accuracy = loss_and_accuracy(group, spectrum)
    assert loss < 1e-27
    assert accuracy == 1


@pytest.mark.parametrize("d", CYCLIC)
def test_partial_constructions_leave_the_published_losses(d):
    group = AbelianGroup((d,))
    loss, accuracy = loss_and_accuracy(group, build(group, random_choice(everywhere(group, ORDER_3), d)))
    published = CHECKS["residual_loss_of_partial_constructions"]
    assert loss == pytest.approx((d - 1) / (2 * d), abs=1e-12)
    assert loss == pytest.approx(next(r["loss"] for r in published["z_syn_order3"] if r["d"] == d))
    assert accuracy == 1
    loss, accuracy = loss_and_accuracy(group, build(group, everywhere(group, ORDER_4)))
    assert loss == pytest.approx(2 * (d - 1) / d, abs=1e-12)
    assert loss == pytest.approx(next(r["loss"] for r in published["z_nui_xi_order4_all"] if r["d"] == d))
    assert accuracy < 0.75


def test_sharing_the_bias_among_hosts():
    group = AbelianGroup((23,))
    choice = random_choice(algebra.mixed(group, [2, 5, 9]), 0)
    spectra = {host: build(group, choice, host=host) for host in (2, "all")}
    for spectrum in spectra.values():
        assert potentials.loss_budget(group, spectrum).loss < 1e-27
    norms = {host: algebra.squared_norm(group, spectrum).item() for host, spectrum in spectra.items()}
    weights = group.to_weights(spectra["all"])
    assert norms["all"] == pytest.approx((weights**2).sum().item(), rel=1e-12)
    assert norms["all"] < norms[2]
    with pytest.raises(ValueError, match="nothing hosts"):
        build(group, choice, host=1)


@pytest.mark.parametrize("d", [7, 23])
def test_equal_sharing_costs_what_the_norm_law_says(d):
    """f(n6) = (K − n6)(12·1.5^{2/3} + 3/n6) + 18 n6, in units of 2d (12 d)^{-2/3}."""
    group, count = AbelianGroup((d,)), (d - 1) // 2
    for n6 in (1, 2):
        spectrum = build(group, algebra.mixed(group, list(range(1, n6 + 1))), host="all")
        law = (count - n6) * (12 * 1.5 ** (2 / 3) + 3 / n6) + 18 * n6
        norm = algebra.squared_norm(group, spectrum).item()
        assert norm == pytest.approx(law * 2 * d * (12 * d) ** (-2 / 3), rel=1e-12)


@pytest.mark.parametrize("orders", [(5,), (6,), (7,), (2, 2), (2, 4)])
@pytest.mark.parametrize("include_dc", [True, False])
def test_memorisation(orders, include_dc):
    group, d = AbelianGroup(orders), math.prod(orders)
    spectrum = algebra.memorisation(group, include_dc=include_dc)
    loss, accuracy = loss_and_accuracy(group, spectrum)
    assert spectrum.shape == (3, d * d, d)
    assert loss < 1e-27
    assert accuracy == 1
    table, phi = group.addition_table(), group.character_table()
    i, j = torch.cartesian_prod(torch.arange(d), torch.arange(d)).unbind(-1)
    direct = torch.stack([phi[:, i].T, phi[:, j].T, phi[:, table[i, j]].T.conj()]) * (2 * d**3) ** (-1 / 3)
    direct[:, :, 0] *= include_dc
    assert algebra.equivalent(spectrum, direct, gauge=False)
    if not include_dc:
        norm = (d - 1) * d * 3 * d ** (2 / 3) * (2 * d) ** (-2 / 3)
        assert algebra.squared_norm(group, spectrum).item() == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("orders", GENERAL)
def test_general_groups_have_zero_loss_networks(orders):
    group = AbelianGroup(orders)
    networks = {
        "six": build(group, random_choice(everywhere(group, ORDER_6), 0)),
        "node": build(group, random_choice(everywhere(group, ORDER_4), 1), host="node"),
    }
    complex_characters = [k for k, family in everywhere(group, ORDER_4).items() if family is ORDER_4]
    if complex_characters:
        six = complex_characters[:1]
        networks["mixed"] = build(
            group, random_choice(algebra.mixed(group, six, ORDER_6_ALPHABETA), 2), host=six[0]
        )
    for name, spectrum in networks.items():
        loss, accuracy = loss_and_accuracy(group, spectrum)
        assert loss < 1e-27, name
        assert accuracy == 1, name


@pytest.mark.parametrize("orders", [(4, 4), (2, 9), (2, 2, 2), (8,)])
def test_partial_constructions_in_general_groups(orders):
    """Each character of order > 2 adds 1/(2d) with z_syn and 2/d with order 4; real ones add nothing."""
    group, d = AbelianGroup(orders), math.prod(orders)
    affected = sum(group.order_of(k) > 2 for k in range(1, d))
    loss, _ = loss_and_accuracy(group, build(group, random_choice(everywhere(group, ORDER_3), 0)))
    assert loss == pytest.approx(affected / (2 * d), abs=1e-12)
    loss, _ = loss_and_accuracy(group, build(group, random_choice(everywhere(group, ORDER_4), 0)))
    assert loss == pytest.approx(2 * affected / d, abs=1e-12)


@pytest.mark.parametrize("orders", [(3,), (3, 3)])
def test_three_nodes_suffice_at_characters_of_order_3(orders):
    group = AbelianGroup(orders)
    spectrum = build(group, everywhere(group, algebra.ORDER_3_WITH_CONSTANT))
    loss, accuracy = loss_and_accuracy(group, spectrum)
    assert spectrum.shape[1] == 3 * (group.size - 1) // 2
    assert loss < 1e-27
    assert accuracy == 1
    six = build(group, everywhere(group, ORDER_6))
    assert algebra.squared_norm(group, spectrum) < 0.82 * algebra.squared_norm(group, six)


def test_one_node_per_character_of_order_2_and_one_host():
    group = AbelianGroup((2, 2, 2))
    choice = {k: Family("one") for k in range(2, 8)} | {1: algebra.ORDER_2_REAL}
    hosted = build(group, choice, host=1)
    assert hosted.shape[1] == 8
    assert loss_and_accuracy(group, hosted)[0] < 1e-27
    # Without the host each bare character leaves |½ (Σa² + Σb²)c|² / d = 1/d.
    assert loss_and_accuracy(group, build(group, choice))[0] == pytest.approx(6 / 8, abs=1e-12)


def test_only_order_6_groups_can_host():
    group = AbelianGroup((7,))
    for family, able in [(ORDER_6, True), (ORDER_6_ALPHABETA, True), (ORDER_4, False), (ORDER_3, False)]:
        nodes = algebra.place(group, family.element(), 2)
        gain = algebra.hosting_gain(group, nodes)
        assert (gain is not None) is able
        if gain is not None:
            assert gain == pytest.approx((nodes[:2].abs() ** 2).sum().item(), rel=1e-12)


def test_bad_networks_are_refused():
    group = AbelianGroup((6,))
    with pytest.raises(ValueError, match="both k and −k"):
        build(group, {1: ORDER_6, 5: ORDER_6})
    with pytest.raises(ValueError, match="must be real"):
        build(group, {3: ORDER_6})
    with pytest.raises(ValueError, match="character 0"):
        build(group, {0: ORDER_6})
    with pytest.raises(ValueError, match="host = 2"):
        build(group, {1: ORDER_6}, host=2)
    with pytest.raises(ValueError, match=r"order_6 names \[3\]"):
        algebra.mixed(group, [3])
