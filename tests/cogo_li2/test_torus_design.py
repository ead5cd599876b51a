"""Completeness search: against written-out constraints, known families, and full-table losses."""

import cmath
import itertools
import math

import pytest
import torch

OMEGA = cmath.exp(2j * math.pi / 3)


@pytest.fixture
def td():
    from learndyn.cogo_li2 import torus_design

    return torus_design


@pytest.fixture
def problems():
    from learndyn.cogo_li2 import design_problems

    return design_problems


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def block(*nodes):
    """(α, β) of the given unit coefficients, as one design."""
    return torch.tensor([[[cmath.phase(a), cmath.phase(b)] for a, b in nodes]], dtype=torch.float64)


def times(left, right):
    """Semiring product on the torus: all sums of angles."""
    return (left[:, :, None] + right[:, None, :]).flatten(1, 2)


def full_table_loss(orders, spectrum):
    """Projected squared loss of a network given by its Fourier coefficients, written the plain way."""
    elements = list(itertools.product(*(range(n) for n in orders)))
    d = len(elements)

    def phi(k, x):
        return cmath.exp(2j * math.pi * sum(ki * xi / n for ki, xi, n in zip(k, x, orders, strict=True)))

    table = torch.tensor([[phi(k, x) for x in elements] for k in elements], dtype=torch.complex128)
    a, b = (spectrum[p].to(torch.complex128) @ table for p in (0, 1))
    c = spectrum[2].to(torch.complex128) @ table.conj()
    assert max(float(w.imag.abs().max()) for w in (a, b, c)) < 1e-9
    a, b, c = a.real, b.real, c.real
    loss = 0.0
    for i, x in enumerate(elements):
        for j, y in enumerate(elements):
            output = ((a[:, i] + b[:, j]) ** 2) @ c
            target = torch.zeros(d, dtype=torch.float64)
            target[elements.index(tuple((s + t) % n for s, t, n in zip(x, y, orders, strict=True)))] = 1
            error = (output - output.mean()) - (target - target.mean())
            loss += float(error.square().sum()) / d**2
    return loss


def test_generic_conditions_are_those_of_the_four_families(problems):
    expected = {(2, 0), (0, 2), (2, 2), (1, 1), (1, -1), (3, 1), (1, 3)}
    for order in (3, 5, 6, 7, 23):
        assert {e for (e,) in problems.torus_problem(order).conditions} == expected
    without_bias = problems.torus_problem(without=("R_n",)).conditions
    assert {e for (e,) in without_bias} == expected - {(1, 1)}
    without_squares = problems.torus_problem(without=("R_*",)).conditions
    assert {e for (e,) in without_squares} == {(2, 0), (0, 2), (2, 2), (1, 1)}


def test_conditions_merge_at_orders_two_three_four(problems):
    merged = [c for c in problems.torus_problem(4).conditions if len(c) == 2]
    assert {frozenset(c) for c in merged} == {frozenset({(-1, 1), (3, 1)}), frozenset({(1, -1), (1, 3)})}
    assert problems.torus_problem(2).conditions == (((1, 1),),)
    # At order 3 a square (2k) coincides with (constant)×(−k), so only a constant input changes anything.
    plain = problems.condition_classes(3)
    with_constant = problems.condition_classes(3, constant_input=True)
    assert len(plain[(2, 0)]) == 1
    assert len(with_constant[(2, 0)]) == 3


def test_linearisation_against_finite_differences(problems):
    cases = [problems.torus_problem(m) for m in (2, 4, 5)]
    cases += [problems.FrequencyProblem(m, dc) for m in (2, 3, 4, 5) for dc in (False, True)]
    for problem in cases:
        x = problem.start(3, 2, generator())
        _, jacobian = problem.linearise(x)
        for column in range(x.shape[1]):
            step = torch.zeros_like(x)
            step[:, column] = 1e-6
            slope = (problem.linearise(x + step)[0] - problem.linearise(x - step)[0]) / 2e-6
            torch.testing.assert_close(jacobian[:, :, column], slope, rtol=1e-6, atol=1e-6)


def test_sums_against_loops(problems):
    angles = 2 * math.pi * torch.rand(2, 3, 2, generator=generator(), dtype=torch.float64)
    problem = problems.torus_problem(4)
    for start in range(2):
        for index, condition in enumerate(problem.conditions):
            points = angles[start].tolist()
            plain = sum(cmath.exp(1j * (s * a + t * b)) for a, b in points for s, t in condition)
            assert complex(problem.sums(angles)[start, index]) == pytest.approx(plain)


@pytest.mark.parametrize(
    ("without", "nodes", "feasible", "dimensions", "published_residual"),
    [
        ((), 3, False, set(), 9.0),
        ((), 4, False, set(), 7.0),
        ((), 5, False, set(), 6.04),
        ((), 6, True, {3, 4}, 0.0),
        (("R_n",), 2, False, set(), None),
        (("R_n",), 3, False, set(), 4.19),
        (("R_n",), 4, True, {3}, 0.0),
        (("R_n",), 5, False, set(), 1.0),
        (("R_*",), 2, False, set(), 3.75),
        (("R_*",), 3, True, {2}, 0.0),
    ],
)
def test_completeness_table(td, problems, without, nodes, feasible, dimensions, published_residual):
    result = td.solve(problems.torus_problem(without=without), nodes, generator=generator())
    assert result.feasible == feasible
    assert set(result.dimensions) == dimensions
    if published_residual is not None:
        # A better optimiser may find a deeper minimum of an infeasible problem, never a shallower one.
        assert 0.97 * published_residual - 1e-9 <= result.min_residual <= published_residual + 0.01


def test_more_nodes_are_feasible(td, problems):
    found = {n: td.solve(problems.torus_problem(), n, generator=generator()) for n in (7, 8, 9)}
    assert all(result.feasible for result in found.values())
    assert set(found[7].dimensions) == {2}
    # Order 7 is new: neither block divides it; all are 1 + u + … + u⁶ with u of order 7, times two phases.
    assert not any(flags.any() for flags in td.classify(found[7].angles).values())
    assert (td.symmetry_order(found[7].angles) == 7).all()


def test_every_small_solution_is_a_known_product(td, problems):
    four = td.solve(problems.torus_problem(without=("R_n",)), 4, generator=generator(1))
    assert four.solved.sum() > 100
    assert td.classify(four.angles)["z_nui"].all()
    six = td.solve(problems.torus_problem(), 6, generator=generator(1))
    nui, syn = (td.classify(six.angles)[name] for name in ("z_nui", "z_syn"))
    assert (nui ^ syn).all()
    assert nui.any()
    assert syn.any()
    dimension = six.dimension[six.solved]
    assert ((dimension == 3) == syn).all()  # ν + two phases against α, β + two phases
    three = td.solve(problems.torus_problem(without=("R_*",)), 3, generator=generator(1))
    assert td.classify(three.angles)["z_syn"].all()


def test_classification_of_designed_products(td):
    syn = block((1, 1), (OMEGA, OMEGA), (OMEGA**2, OMEGA**2))
    nui = block((1, 1), (1j, -1j))
    nu = block((1, 1), (cmath.exp(0.4j), -cmath.exp(0.4j)))
    alpha, beta = cmath.exp(0.3j), cmath.exp(1.1j)
    syn_ab = block(
        (1, 1),
        (alpha * OMEGA, alpha.conjugate() * OMEGA),
        (beta * OMEGA**2, beta.conjugate() * OMEGA**2),
    )
    gauge = torch.tensor([[[0, 0], [1, 1], [0, 0], [1, 1], [0, 0], [0, 0]]]) * math.pi
    shuffled = times(nu, syn)[:, torch.tensor([3, 0, 5, 1, 4, 2])] + gauge
    for design, expected in ((shuffled, "z_syn"), (times(nui, syn_ab), "z_nui")):
        flags = td.classify(design)
        assert bool(flags[expected])
        assert sum(bool(flag) for flag in flags.values()) == 1
    assert td.symmetry_order(times(nui, syn_ab)).item() == 2
    assert td.symmetry_order(shuffled).item() == 3
    assert td.symmetry_order(nu).item() == 1
    # Multiplicities count: {p, p, q} is not invariant under the swap of p and q.
    uneven = torch.cat([nui, nui[:, :1]], 1)
    assert not td.classify(uneven)["z_nui"]


def test_frozen_starts_do_not_depend_on_their_batch(td, problems):
    problem = problems.torus_problem(without=("R_n",))
    start = problem.start(24, 4, generator(3))
    together = td.levenberg_marquardt(problem, start)
    for i in (0, 7, 23):
        alone = td.levenberg_marquardt(problem, start[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)


def test_theory_agrees_with_the_search(td, problems):
    for order in (2, 4, 5):
        for without in ((), ("R_n",)):
            for nodes in (1, 2, 3, 4):
                problem = problems.torus_problem(order, without=without)
                result = td.solve(problem, nodes, starts=60, generator=generator())
                assert not (result.impossible and result.feasible)
    assert td.solve(problems.torus_problem(), 3, starts=5, generator=generator()).impossible
    assert td.solve(problems.torus_problem(2), 3, starts=5, generator=generator()).impossible
    assert td.solve(problems.torus_problem(), 4, starts=5, generator=generator()).impossible is None


@pytest.mark.parametrize(
    ("order", "without", "nodes"),
    [(2, (), 2), (3, (), 6), (4, (), 4), (5, (), 6), (4, ("R_n",), 4), (5, ("R_n",), 4)],
)
def test_minimal_order_per_character_order(td, problems, order, without, nodes):
    problem = problems.torus_problem(order, without=without)
    result = td.minimal_order(problem, starts=100, generator=generator())
    assert result.nodes == nodes


@pytest.mark.parametrize(
    ("order", "constant", "nodes"),
    [(2, False, 2), (3, True, 3), (3, False, 6), (4, False, 4), (5, False, 6), (5, True, 5)],
)
def test_minimal_order_with_free_coefficients(td, problems, order, constant, nodes):
    problem = problems.FrequencyProblem(order, constant)
    result = td.minimal_order(problem, starts=25, generator=generator())
    assert result.nodes == nodes


@pytest.mark.parametrize("orders", [(2, 2), (4,), (6,), (7,), (3, 3), (2, 4)])
def test_group_networks_have_zero_loss_on_the_full_table(td, problems, orders):
    from learndyn.cogo_li2.groups import AbelianGroup

    nodes = {2: 2, 3: 6, 4: 4, 5: 6}
    blocks = {
        m: td.solve(problems.torus_problem(m), n, starts=20, generator=generator()).coefficients[0]
        for m, n in nodes.items()
    }
    group = AbelianGroup(orders)
    spectrum = td.group_spectrum(group, blocks)
    orders_used = [min(group.order_of(k), 5) for k in group.half().characters.tolist()]
    assert spectrum.shape[1] == sum(nodes[m] for m in orders_used)
    assert full_table_loss(orders, spectrum) < 1e-18


@pytest.mark.parametrize(("orders", "nodes"), [((3,), 3), ((5,), 5)])
def test_constant_inputs_save_nodes_on_the_full_table(td, problems, orders, nodes):
    from learndyn.cogo_li2.groups import AbelianGroup

    problem = problems.FrequencyProblem(orders[0], constant_input=True)
    design = td.solve(problem, nodes, starts=60, generator=generator()).coefficients[0]
    assert full_table_loss(orders, td.group_spectrum(AbelianGroup(orders), {orders[0]: design})) < 1e-16
    # Without its constants the same block is no solution: the constants do the work.
    bare = design.clone()
    bare[3] = 0
    assert full_table_loss(orders, td.group_spectrum(AbelianGroup(orders), {orders[0]: bare})) > 1e-2


@pytest.mark.parametrize(
    ("order", "constant", "without", "nodes", "factor"),
    [
        (5, False, (), 6, 3 * 6 ** (1 / 3)),
        (5, False, ("R_n",), 4, 3 * 4 ** (1 / 3)),
        (4, False, (), 4, 3 * 4 ** (1 / 3)),
        (2, False, (), 2, 3 * 2 ** (1 / 3)),
    ],
)
def test_least_norm_is_the_balanced_design(td, problems, order, constant, without, nodes, factor):
    problem = problems.FrequencyProblem(order, constant, without)
    # One node more than needed: minimising the norm switches it off.
    found = td.solve(problem, nodes + 1, starts=40, generator=generator())
    x, norm = td.least_norm(problem, found.x[found.solved])
    best = norm.nan_to_num(nan=math.inf).argmin()
    assert norm[best].item() == pytest.approx(factor, rel=1e-4)
    assert (problem.coefficients(x[best])[:3].abs().amax(0) > 0.05).sum() == nodes


def test_least_norm_at_order_three_uses_the_constant(td, problems):
    problem = problems.FrequencyProblem(3, constant_input=True)
    found = td.solve(problem, 3, starts=60, generator=generator())
    x, norm = td.least_norm(problem, found.x[found.solved])
    best = norm.nan_to_num(nan=math.inf).argmin()
    assert norm[best] < 0.85 * 3 * 6 ** (1 / 3)
    a, _, _, e = problem.coefficients(x[best]).abs()
    torch.testing.assert_close(e, a / 2, rtol=1e-3, atol=0)
    # The norm factor is the real network's norm: ‖w‖² = 2d·(2d)^{−2/3}·ν for a pair of characters.
    from learndyn.cogo_li2.groups import AbelianGroup

    spectrum = td.design_spectrum(AbelianGroup((3,)), 1, problem.coefficients(x[best]))
    norm2 = 3 * spectrum.abs().square().sum().item()
    assert norm2 == pytest.approx(2 * 3 * 6 ** (-2 / 3) * norm[best].item(), rel=1e-6)


def test_bad_arguments(td, problems):
    from learndyn.cogo_li2.groups import AbelianGroup

    with pytest.raises(ValueError, match="R_x"):
        problems.torus_problem(without=("R_x",))
    with pytest.raises(ValueError, match="at least 2"):
        problems.torus_problem(1)
    with pytest.raises(ValueError, match="positive"):
        td.solve(problems.torus_problem(), 0, generator=generator())
    with pytest.raises(ValueError, match="no block"):
        td.group_spectrum(AbelianGroup((4,)), {4: torch.ones(4, 4, dtype=torch.complex128)})
    with pytest.raises(ValueError, match="real"):
        td.design_spectrum(AbelianGroup((2,)), 1, torch.full((4, 2), 1j))
    result = td.solve(problems.FrequencyProblem(2), 2, starts=3, generator=generator())
    with pytest.raises(TypeError, match="angles"):
        _ = result.angles
