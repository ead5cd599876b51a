"""Norm laws: against the published-data numbers, real constructed networks, and numerical minimisation."""

import cmath
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

OMEGA = cmath.exp(2j * math.pi / 3)
NU_I = [(1, 1, 1), (1j, -1j, 1)]
SYN = [(1, 1, 1), (OMEGA, OMEGA, OMEGA), (OMEGA**2, OMEGA**2, OMEGA**2)]


def nu(angle):
    v = cmath.exp(1j * angle)
    return [(1, 1, 1), (v, -v, -(v**-2))]


def xi(angle):
    v = cmath.exp(1j * angle)
    return [(1, 1, 1), (v, -1j * v.conjugate(), 1j)]


def product(left, right):
    return [tuple(p * q for p, q in zip(u, v, strict=True)) for u, v in itertools.product(left, right)]


F6, F4 = product(nu(0.4), SYN), product(NU_I, xi(0.7))


@pytest.fixture
def norms():
    from learndyn.cogo_li2 import norms

    return norms


def network(d, blocks):
    """Spectrum [3, node, d] with one block per frequency 1, 2, …, each entry scaled so that r_kkk = 1."""
    total = sum(map(len, blocks))
    spectrum = torch.zeros(3, total, d, dtype=torch.complex128)
    row = 0
    for k, block in enumerate(blocks, start=1):
        z = torch.tensor(block, dtype=torch.complex128).T * (2 * d * len(block)) ** (-1 / 3)
        spectrum[:, row : row + len(block), k] = z
        spectrum[:, row : row + len(block), d - k] = z.conj()
        row += len(block)
    return spectrum


def loss(spectrum):
    d = spectrum.shape[-1]
    index = torch.arange(d)
    phi = torch.exp(2j * math.pi * (index[:, None] * index[None, :] % d).to(torch.complex128) / d)
    a, b, c = (spectrum[0] @ phi).real, (spectrum[1] @ phi).real, (spectrum[2] @ phi.conj()).real
    hidden = (a[:, :, None] + b[:, None, :]) ** 2
    output = torch.einsum("jz,jxy->xyz", c, hidden)
    target = torch.nn.functional.one_hot((index[:, None] + index) % d, d).to(output)
    error = output - target
    return (error - error.mean(-1, keepdim=True)).square().sum(-1).mean().item()


def norm2(spectrum):
    return spectrum.shape[-1] * spectrum.abs().square().sum().item()


def bias_of(spectrum, k):
    constant = (spectrum[0].abs() ** 2 + spectrum[1].abs() ** 2).sum(-1)
    return (spectrum[2, :, k] * constant).sum()


@pytest.mark.parametrize(("order", "total"), [(4, 34.4), (6, 39.4)])
def test_published_totals_at_d7(norms, order, total):
    assert 3 * norms.frequency_norm(order, 7) == pytest.approx(total, abs=0.05)


def test_published_memorisation_and_mixes(norms):
    assert norms.memorisation_norm(7) == pytest.approx(79.4, abs=0.05)
    assert norms.solution_norm(5, 6, 23) == pytest.approx(205.22, abs=0.005)
    assert norms.solution_norm(1, 2, 7) == pytest.approx(38.84, abs=0.01)
    assert norms.solution_norm(0, 3, 7) == pytest.approx(39.41, abs=0.01)  # both printed truncated
    assert norms.solution_norm(3, 0, 7) == math.inf


@pytest.mark.parametrize(("d", "published"), [(23, 3.8), (71, 6.8), (127, 9.1)])
def test_best_number_of_order_six(norms, d, published):
    k = (d - 1) // 2
    assert norms.best_order6(k) == pytest.approx(published, abs=0.05)
    numerical = minimize_scalar(lambda n: float(norms.min_norm_law(np.array([n]), k)[0]), (1, published))
    assert norms.best_order6(k) == pytest.approx(numerical.x, rel=1e-5)


def test_published_optimum_at_d17(norms):
    assert norms.best_order6(8, integer=True) == 3
    law = norms.min_norm_law(np.array([3.0, 4.0]), 8)
    assert abs(law[1] / law[0] - 1) < 0.005


def test_law_is_the_norm_in_its_units(norms):
    d, k = 23, 11
    unit = 2 * d * norms.coefficient_modulus(6, d) ** 2
    for n6 in range(1, k + 1):
        law = norms.min_norm_law(np.array([float(n6)]), k)[0]
        assert norms.solution_norm(k - n6, n6, d) == pytest.approx(unit * law, rel=1e-12)


def test_memorisation_norm_of_the_real_network(norms):
    d = 7
    i, j = (t.flatten() for t in torch.meshgrid(torch.arange(d), torch.arange(d), indexing="ij"))
    k = torch.arange(d)

    def phi(x):
        return torch.exp(2j * math.pi * (x[:, None] * k % d).to(torch.complex128) / d)

    spectrum = torch.stack([phi(i), phi(j), phi(-(i + j))]) * d ** (-2 / 3) * (2 * d) ** (-1 / 3)
    # The node of (i, j) peaks where x = −i, y = −j.
    spectrum[..., 0] = 0
    assert loss(spectrum) < 1e-20
    assert norm2(spectrum) == pytest.approx(norms.memorisation_norm(d), rel=1e-12)


def host(norms, d, blocks, hosts):
    """The network of ``blocks`` with every bias hosted by the nodes of ``hosts`` (frequencies)."""
    spectrum = network(d, blocks)
    sizes = [len(block) for block in blocks]
    frequency = torch.repeat_interleave(torch.arange(1, len(blocks) + 1), torch.tensor(sizes))
    rows = torch.isin(frequency, torch.tensor(hosts))
    label = frequency[rows]
    picked = torch.arange(len(label))
    a = spectrum[0, rows][picked, label]
    b = spectrum[1, rows][picked, label]
    for k in range(1, len(blocks) + 1):
        if k in hosts:
            continue
        extra = norms.cheapest_hosting(a, b, label, complex(bias_of(spectrum, k)))
        spectrum[2, rows, k] += extra
        spectrum[2, rows, d - k] += extra.conj()
    return spectrum


@pytest.mark.parametrize("hosts", [[1], [1, 2], [1, 2, 3]])
def test_lagrange_hosting_gives_the_law_and_zero_loss(norms, hosts):
    d, k = 11, 5
    blocks = [F6 if i + 1 in hosts else F4 for i in range(k)]
    assert loss(network(d, blocks)) == pytest.approx(4 * (k - len(hosts)) / d, rel=1e-9)
    spectrum = host(norms, d, blocks, hosts)
    assert loss(spectrum) < 1e-20
    assert norm2(spectrum) == pytest.approx(norms.solution_norm(k - len(hosts), len(hosts), d), rel=1e-9)
    extra = spectrum[2, : 6 * len(hosts), k]
    torch.testing.assert_close(extra, extra[:1].expand_as(extra), rtol=0, atol=1e-9)


def test_order_four_cannot_host(norms):
    blocks = [F4, F4]
    spectrum = network(5, blocks)
    with pytest.raises(ValueError, match="cannot host"):
        norms.cheapest_hosting(spectrum[0, :4, 1], spectrum[1, :4, 1], torch.ones(4).long(), 0.1 + 0j)


def test_rebalanced_hosts_on_the_real_network(norms):
    d, blocks = 11, [F6, F6, F4, F4, F4]
    spectrum = host(norms, d, blocks, [1, 2])

    def scaled(factor):
        z = spectrum.clone()
        z[:2, :12] *= factor
        z[2, :12] /= factor**2
        return z

    best = minimize_scalar(lambda f: norm2(scaled(f)), (0.9, 1.1), tol=1e-12)
    assert loss(scaled(best.x)) < 1e-20
    assert best.fun == pytest.approx(norms.solution_norm(3, 2, d, rebalance=True), rel=1e-9)
    assert best.fun < norms.solution_norm(3, 2, d)


def test_dc_host_on_the_real_network(norms):
    d = 7
    bare = network(d, [F4, F4, F4])

    def with_host(e):
        extra = torch.zeros(3, 1, d, dtype=torch.complex128)
        extra[:2, 0, 0] = e / 2
        for k in range(1, d):
            extra[2, 0, k] = -bias_of(bare, k) / e**2
        return torch.cat([bare, extra], 1)

    best = minimize_scalar(lambda e: norm2(with_host(e)), (0.5, 1.5), tol=1e-12)
    assert loss(with_host(best.x)) < 1e-20
    assert best.fun == pytest.approx(3 * norms.frequency_norm(4, d) + norms.dc_host_norm(3, d), rel=1e-9)


@pytest.mark.parametrize(("order", "published"), [(4, 0.0033), (6, 0.0037)])
def test_published_shrinkage(norms, order, published):
    assert norms.shrinkage(1e-4, 23, order) == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize("order", [4, 6])
def test_shrinkage_is_the_minimum_of_loss_plus_decay(norms, order):
    d, wd = 11, 0.01

    def energy(r):
        return 2 / d * (1 - r) ** 2 + wd / 2 * norms.frequency_norm(order, d) * r ** (2 / 3)

    numerical = minimize_scalar(energy, bounds=(0.5, 1), method="bounded", options={"xatol": 1e-12})
    assert norms.shrinkage(wd, d, order, exact=True) == pytest.approx(1 - numerical.x, rel=1e-5)
    first_order = norms.shrinkage(1e-7, d, order)
    assert norms.shrinkage(1e-7, d, order, exact=True) == pytest.approx(first_order, rel=1e-3)


def test_equilibrium_limit(norms):
    assert norms.critical_weight_decay(11, 6) == pytest.approx(0.034, abs=5e-4)
    assert norms.critical_weight_decay(11, 4) == pytest.approx(0.039, abs=5e-4)
    limit = norms.critical_weight_decay(11, 4)
    assert norms.shrinkage(limit * (1 - 1e-9), 11, 4, exact=True) == pytest.approx(0.75, abs=1e-3)
    assert math.isnan(norms.shrinkage(limit * 1.001, 11, 4, exact=True))


def test_table(norms):
    table = norms.table([7, 23, 71, 127])
    row = table.sel(d=7)
    assert float(row.memorisation) == pytest.approx(79.4, abs=0.05)
    assert table.n6_best.values.tolist() == [2, 4, 7, 9]
    assert (table.best_mix < table.all_order6).all()
    assert (table.best_mix > table.all_order4).all()


def test_bad_arguments(norms):
    with pytest.raises(ValueError, match="d must"):
        norms.frequency_norm(4, 2)
    with pytest.raises(ValueError, match="order"):
        norms.frequency_norm(0, 7)
    with pytest.raises(ValueError, match="n4"):
        norms.solution_norm(-1, 3, 7)
    with pytest.raises(ValueError, match="weight_decay"):
        norms.shrinkage(-1.0, 7, 4)
    with pytest.raises(ValueError, match="odd"):
        norms.table([7, 8])
    with pytest.raises(ValueError, match="frequency"):
        norms.best_order6(0)
