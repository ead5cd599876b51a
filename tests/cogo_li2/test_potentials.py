"""Theorem 1 and the summaries of Figure 3, against one-hot networks and loops."""

import csv
import itertools
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.cogo_li2 import potentials
from learndyn.cogo_li2.groups import AbelianGroup

GROUPS = [(5,), (6,), (7,), (2, 2), (3, 4), (23,)]


def one_hot_loss(orders, weights):
    """‖P o − P e‖², averaged over all pairs of elements, for one network [3, q, d]; numpy, no Fourier."""
    elements = list(itertools.product(*(range(n) for n in orders)))
    d, (w_a, w_b, w_c) = len(elements), weights.double().numpy()
    projection, eye, total = np.eye(d) - 1 / d, np.eye(d), 0.0
    for i, x in enumerate(elements):
        for j, y in enumerate(elements):
            label = elements.index(tuple((s + t) % n for s, t, n in zip(x, y, orders, strict=True)))
            output = w_c.T @ (w_a @ eye[i] + w_b @ eye[j]) ** 2
            total += np.sum((projection @ (output - eye[label])) ** 2)
    return total / d**2


def random_network(orders, nodes, seed, *, dc=True):
    d = int(np.prod(orders))
    weights = torch.randn(3, nodes, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return weights if dc else weights - weights.mean(-1, keepdim=True)


@settings(deadline=None, max_examples=30)
@given(
    orders=st.sampled_from(GROUPS),
    nodes=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.1, 0.4, 1.0]),
)
def test_theorem_1_exact_form(orders, nodes, seed, scale):
    group = AbelianGroup(orders)
    weights = scale * random_network(orders, nodes, seed)
    budget = potentials.loss_budget(group, group.to_spectrum(weights))
    assert budget.loss.item() == pytest.approx(one_hot_loss(orders, weights), rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(orders=st.sampled_from(GROUPS), nodes=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_theorem_1_paper_form_without_dc(orders, nodes, seed):
    group = AbelianGroup(orders)
    weights = random_network(orders, nodes, seed, dc=False)
    spectrum = group.to_spectrum(weights)
    want = pytest.approx(one_hot_loss(orders, weights), rel=1e-12)
    budget = potentials.loss_budget(group, spectrum, include_dc=False)
    assert budget.loss.item() == want
    d = group.size
    assert ((d - 1) / d + (budget.multiplicity * budget.ell).sum() / d).item() == want


@pytest.mark.parametrize("orders", [(5,), (6,), (2, 3)])
def test_paper_form_is_the_formula_as_printed(orders):
    """ℓ_k written out with loops over k1, k2, k', m, as the theorem states it."""
    group, d = AbelianGroup(orders), int(np.prod(orders))
    spectrum = group.to_spectrum(random_network(orders, 4, 1, dc=False))
    a, b, c = spectrum.numpy()
    budget = potentials.loss_budget(group, spectrum, include_dc=False)

    def r(left, k1, right, k2, k):
        return 2 * d * np.sum(left[:, k1] * right[:, k2] * c[:, k])

    minus = [[int(group.add(m, group.neg(k))) for k in range(d)] for m in range(d)]
    for index, k in enumerate(group.half().characters.tolist()):
        ell = -2 * r(a, k, b, k, k).real
        ell += sum(abs(r(a, k1, b, k2, k)) ** 2 for k1 in range(1, d) for k2 in range(1, d))
        bias = sum(r(z, s, z, minus[0][s], k) for z in (a, b) for s in range(1, d))
        ell += abs(bias) ** 2 / 4
        for m, z in itertools.product(range(1, d), (a, b)):
            ell += abs(sum(r(z, s, z, minus[m][s], k) for s in range(1, d))) ** 2 / 4
        assert budget.ell[index].item() == pytest.approx(ell, rel=1e-12)
        assert budget.bias[index].item() == pytest.approx(
            budget.multiplicity[index].item() * abs(bias) ** 2 / 4 / d, rel=1e-12
        )
        assert budget.goal[index].item() == pytest.approx(
            budget.multiplicity[index].item() * abs(r(a, k, b, k, k) - 1) ** 2 / d, rel=1e-12
        )


def test_paper_form_is_wrong_where_there_is_dc():
    group = AbelianGroup((6,))
    weights = 0.3 * random_network((6,), 8, 3)
    budget = potentials.loss_budget(group, group.to_spectrum(weights), include_dc=False)
    assert abs(budget.loss.item() / one_hot_loss((6,), weights) - 1) > 0.01


def test_budget_is_batched_and_labelled():
    group = AbelianGroup((3, 4))
    weights = torch.stack([random_network((3, 4), 5, s) for s in range(6)]).reshape(2, 3, 3, 5, 12)
    budget = potentials.loss_budget(group, group.to_spectrum(weights))
    assert budget.loss.shape == (2, 3)
    single = potentials.loss_budget(group, group.to_spectrum(weights[1, 2]))
    torch.testing.assert_close(budget.cross[1, 2], single.cross)
    array = single.to_array()
    assert array.dims == ("family", "frequency")
    assert float(array.sum()) == pytest.approx(one_hot_loss((3, 4), weights[1, 2]), rel=1e-12)
    assert list(array.frequency.values) == group.half().characters.tolist()


@pytest.mark.parametrize("orders", [(7,), (6,), (2, 3)])
def test_single_potentials_agree_with_the_tensor(orders):
    group, d = AbelianGroup(orders), int(np.prod(orders))
    spectrum = group.to_spectrum(random_network(orders, 5, 2))
    tensor = potentials.potential_tensor(spectrum)
    a, b, c = spectrum.numpy()
    for k1, k2, k in [(0, 1, 2), (3, 3, 3), (1, d - 1, 4), (2, 0, 0)]:
        plain = 2 * d * sum(a[j, k1] * b[j, k2] * c[j, k] for j in range(5))
        assert abs(potentials.potential(spectrum, k1, k2, k).item() - plain) < 1e-12
        assert abs(tensor[k1, k2, k].item() - plain) < 1e-12
        square = 2 * d * sum(b[j, k1] * b[j, k2] * c[j, k] for j in range(5))
        assert abs(potentials.square_potential(spectrum, 1, k1, k2, k).item() - square) < 1e-12
    with pytest.raises(ValueError, match="part = 2"):
        potentials.square_potential(spectrum, 2, 0, 0, 0)


@pytest.mark.parametrize("orders", GROUPS)
def test_summaries_are_the_sums_they_name(orders):
    group, d = AbelianGroup(orders), int(np.prod(orders))
    weights = random_network(orders, 3, 5)
    spectrum = group.to_spectrum(weights)
    tensor = potentials.potential_tensor(spectrum).real
    diagonal = sum(tensor[k, k, k].item() for k in range(d))
    assert potentials.diagonal_sum(group, weights).item() == pytest.approx(diagonal, rel=1e-10)
    off = potentials.off_diagonal_sum(group, weights).item()
    assert off == pytest.approx(tensor.sum().item() - diagonal, rel=1e-10)
    for total, part in itertools.product((0, 1, int(group.neg(1))), (0, 1)):
        ours = potentials.paired_potentials(group, weights, total, part)
        for value, k in zip(ours.tolist(), group.half().characters.tolist(), strict=True):
            partner = int(group.add(total, group.neg(k)))
            plain = potentials.square_potential(spectrum, part, k, partner, k).abs().item()
            assert value == pytest.approx(plain, rel=1e-10)
    bias = potentials.output_bias(group, spectrum)
    exact = potentials.loss_budget(group, spectrum)
    half = group.half().characters
    torch.testing.assert_close(exact.multiplicity * bias[half].abs() ** 2 / d, exact.bias)


def published_initial_weights():
    """The d = 23, q = 512, seed 5 network before the first step, as PyTorch's linear layers draw it."""
    generator, d, q = torch.Generator().manual_seed(5 + 2), 23, 512
    torch.empty(d, d).normal_(generator=generator)
    w_a = torch.empty(q, d).uniform_(-(d**-0.5), d**-0.5, generator=generator)
    w_b = torch.empty(q, d).uniform_(-(d**-0.5), d**-0.5, generator=generator)
    w_c = torch.empty(d, q).uniform_(-(q**-0.5), q**-0.5, generator=generator)
    return torch.stack([w_a, w_b, w_c.T])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 5e-6)], ids=["float32", "float64"]
)
def test_summaries_meet_the_reference_run_at_epoch_0(dtype, tolerance):
    path = files("learndyn.cogo_li2").joinpath("reference/fig3_sp_dynamics_d23_seed5.csv")
    row = next(csv.DictReader(path.read_text().splitlines()))
    group = AbelianGroup((23,))
    weights = published_initial_weights().to(dtype)[None]
    curves = {
        name: function(weights) for name, (_, function) in potentials.figure3_summaries(group).items()
    }
    assert float(curves["diagonal_sum"]) == pytest.approx(float(row["diag_sum_2d"]), rel=tolerance)
    assert float(curves["off_diagonal_sum"]) == pytest.approx(float(row["offdiag_sum_2d"]), rel=tolerance)
    columns = {
        "bias_potential": "abs_r_a_k_-k_k__k",
        "square_potential": "abs_r_a_k_1-k_k__k",
        "square_potential_as_plotted": "code_label_m1__k",
    }
    for name, prefix in columns.items():
        assert curves[name].shape == (1, 11)
        want = [float(row[f"{prefix}{k}"]) for k in range(1, 12)]
        assert curves[name][0].tolist() == pytest.approx(want, rel=tolerance)


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="must end in"):
        potentials.loss_budget(AbelianGroup((5,)), torch.zeros(3, 2, 6, dtype=torch.complex128))
    with pytest.raises(ValueError, match="d = 31"):
        potentials.potential_tensor(torch.zeros(3, 2, 31, dtype=torch.complex128))
