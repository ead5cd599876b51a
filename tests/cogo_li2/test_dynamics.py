"""Sum-potential dynamics: against finite differences, autograd on real networks, and the paper's limits."""

import cmath
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

OMEGA = cmath.exp(2j * math.pi / 3)


@pytest.fixture
def dyn():
    from learndyn.cogo_li2 import dynamics

    return dynamics


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spectra(w):
    """z = (1/d) Σ_x w φ_{∓k}, written with the matrix: minus for a, b, plus for c; characters 1 … d−1."""
    d = w.shape[-1]
    index = torch.arange(d, dtype=torch.float64)
    wave = torch.exp(-2j * math.pi * torch.outer(index, index[1:]) / d)
    return torch.stack([w[0].to(wave) @ wave, w[1].to(wave) @ wave, w[2].to(wave) @ wave.conj()]) / d


def centred(w):
    return w - w.mean(-1, keepdim=True)


def plain_potentials(z):
    """r_{k1k2k} by loops."""
    n = z.shape[-1]
    r = torch.zeros(n, n, n, dtype=z.dtype)
    for k1, k2, k in itertools.product(range(n), repeat=3):
        r[k1, k2, k] = (z[0, :, k1] * z[1, :, k2] * z[2, :, k]).sum()
    return r


def plain_two_term_loss(w):
    r = plain_potentials(spectra(centred(w)))
    n = r.shape[0]
    total = (r.abs() ** 2).sum() - 2 * sum(r[k, k, k].real for k in range(n))
    return (n + total) / (n + 1)


def network_loss(w):
    """Projected loss of the real network on the whole table, output divided by 2d (paper's normalisation)."""
    w = centred(w)
    d = w.shape[-1]
    hidden = (w[0][:, :, None] + w[1][:, None, :]) ** 2
    output = torch.einsum("jz,jxy->xyz", w[2], hidden) / (2 * d)
    index = torch.arange(d)
    target = torch.nn.functional.one_hot((index[:, None] + index) % d, d).to(output)
    error = output - target
    return (error - error.mean(-1, keepdim=True)).square().sum(-1).mean()


@pytest.fixture
def weights():
    return torch.randn(3, 7, 5, generator=generator(), dtype=torch.float64, requires_grad=True)


def test_potentials_and_gram_against_loops(dyn, weights):
    z = spectra(centred(weights)).detach()
    r = dyn.potentials(z)
    torch.testing.assert_close(r, plain_potentials(z))
    flat = dyn.jacobian(z).flatten(0, 2).flatten(1)
    torch.testing.assert_close(dyn.gram(z), flat @ flat.conj().T)
    g = torch.randn(r.shape, generator=generator(1), dtype=torch.complex128)
    v = torch.randn(z.shape, generator=generator(2), dtype=torch.complex128)
    torch.testing.assert_close(dyn.pull_back(z, g).flatten(), flat.conj().T @ g.flatten())
    torch.testing.assert_close(dyn.push_forward(z, v).flatten(), flat @ v.flatten())


def test_jacobian_against_finite_differences(dyn):
    z = torch.randn(3, 2, 3, generator=generator(), dtype=torch.complex128)
    jacobian, squares = dyn.jacobian(z), dyn.square_jacobian(z)
    for index in itertools.product(*map(range, z.shape)):
        step = torch.zeros_like(z)
        step[index] = 1e-6
        slope = (dyn.potentials(z + step) - dyn.potentials(z - step)) / 2e-6
        torch.testing.assert_close(jacobian[(..., *index)], slope, rtol=1e-6, atol=1e-8)
        slope = (dyn.square_potentials(z + step) - dyn.square_potentials(z - step)) / 2e-6
        torch.testing.assert_close(squares[(..., *index)], slope, rtol=1e-6, atol=1e-8)


def flow_of_weights(loss, w, observe):
    """d/dt of ``observe`` along gradient descent on real weights, by central differences."""
    (gradient,) = torch.autograd.grad(loss(w), w)
    w, h = w.detach(), 1e-5
    return (observe(w - h * gradient) - observe(w + h * gradient)) / (2 * h)


def test_lemma_for_the_two_term_loss(dyn, weights):
    expected = flow_of_weights(plain_two_term_loss, weights, lambda w: plain_potentials(spectra(centred(w))))
    z = spectra(centred(weights)).detach()
    assert dyn.two_term_loss(dyn.potentials(z)).item() == pytest.approx(plain_two_term_loss(weights).item())
    moved = dyn.potential_velocity(z)
    assert (moved - expected).norm() / expected.norm() < 1e-6
    g = dyn.two_term_gradient(dyn.potentials(z)).conj().flatten()
    explicit = -(dyn.gram(z) @ g).reshape(moved.shape) / 5
    torch.testing.assert_close(moved, explicit)


def test_lemma_for_the_full_loss_of_the_network(dyn, weights):
    z = spectra(centred(weights)).detach()
    rows = torch.cat([dyn.jacobian(z).flatten(0, 2), dyn.square_jacobian(z).flatten(0, 3)]).flatten(1)
    gradient = torch.cat(
        [
            dyn.two_term_gradient(dyn.potentials(z)).flatten(),
            dyn.square_gradient(dyn.square_potentials(z)).flatten(),
        ]
    )
    predicted = -(rows @ (rows.conj().T @ gradient.conj())) / 5

    def observe(w):
        z = spectra(centred(w))
        return torch.cat([dyn.potentials(z).flatten(), dyn.square_potentials(z).flatten()])

    expected = flow_of_weights(network_loss, weights, observe)
    assert (predicted - expected).norm() / expected.norm() < 1e-6


def test_random_coefficients_are_those_of_real_weights(dyn):
    z = dyn.gaussian_coefficients(6, 400, batch=3, scale=0.7, generator=generator())
    torch.testing.assert_close(z, z.flip(-1).conj())
    assert z.abs().square().mean().item() == pytest.approx(0.49, rel=0.05)


def test_jj_star_becomes_a_multiple_of_the_identity(dyn):
    table = dyn.decoupling_table(5, [64, 256, 1024, 4096], seeds=4, scale=0.3, generator=generator())
    assert np.abs(table.diagonal.mean("seed").values - 3).max() < 0.25
    scaled = table.offdiagonal.mean("seed").values * np.sqrt(table.width.values)
    np.testing.assert_allclose(scaled, 0.45, rtol=0.12)  # published-data constant
    assert table.attrs["exponent_offdiagonal"] == pytest.approx(-0.5, abs=0.06)
    assert table.attrs["exponent_velocity"] == pytest.approx(-0.5, abs=0.12)


def test_velocity_error_constants(dyn):
    """≈ 4/√q at d = 5 and 5/√q at d = 7 (for unit scale)."""
    for d, constant in ((5, 4.0), (7, 5.0)):
        table = dyn.decoupling_table(d, [1024], seeds=3, generator=generator(1))
        assert float(table.velocity_error.mean()) * 32 == pytest.approx(constant, rel=0.25)


def test_gram_refuses_large_groups(dyn):
    z = torch.zeros(3, 2, 8, dtype=torch.complex128)
    with pytest.raises(ValueError, match="d = 9"):
        dyn.gram(z)


@pytest.mark.parametrize("d", [4, 5])
def test_flow_against_autograd_flow_of_real_weights(dyn, d):
    w0 = torch.randn(3, 3, d, generator=generator(4), dtype=torch.float64)
    times = torch.linspace(0, 6, 5, dtype=torch.float64)

    def slope(_, y):
        w = torch.from_numpy(y.copy()).reshape(w0.shape).requires_grad_()
        (gradient,) = torch.autograd.grad(plain_two_term_loss(w), w)
        return -gradient.flatten().numpy()

    plain = solve_ivp(slope, (0, 6), w0.flatten().numpy(), t_eval=times.numpy(), rtol=1e-9, atol=1e-11)
    z = dyn.integrate(spectra(centred(w0)), times)
    for state, expected in zip(z, plain.y.T, strict=True):
        torch.testing.assert_close(
            state, spectra(centred(torch.from_numpy(expected).reshape(w0.shape))), rtol=1e-5, atol=1e-6
        )
    loss = dyn.two_term_loss(dyn.potentials(z))
    assert (loss.diff() < 0).all()
    start = dyn.balancedness(z[:1]).expand(5, -1, -1)
    torch.testing.assert_close(dyn.balancedness(z), start, rtol=0, atol=1e-6)


def test_batched_flow_is_the_single_flow(dyn):
    z0 = dyn.gaussian_coefficients(5, 4, batch=2, scale=0.8, generator=generator())
    times = torch.linspace(0, 3, 4, dtype=torch.float64)
    together = dyn.integrate(z0, times)
    torch.testing.assert_close(together[:, 1], dyn.integrate(z0[1], times), rtol=1e-5, atol=1e-6)


def test_decoupled_flow_solves_its_equation(dyn):
    r0 = torch.randn(4, 4, 4, generator=generator(), dtype=torch.complex128)
    path = dyn.decoupled_flow(r0, torch.tensor([0.0, 1.0, 1.0 + 1e-6, 40.0], dtype=torch.float64))
    torch.testing.assert_close(path[0], r0)
    delta = torch.zeros(4, 4, 4, dtype=torch.complex128)
    for k in range(4):
        delta[k, k, k] = 1
    torch.testing.assert_close((path[2] - path[1]) / 1e-6, -(path[1] - delta), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(path[3], delta, rtol=0, atol=1e-12)


def test_wide_networks_follow_the_decoupled_flow(dyn):
    data = dyn.flow_against_theory(5, [64, 256, 1024], seeds=3, end=3.0, points=7, generator=generator())
    assert data.simulated.dims == ("width", "seed", "time", "k1", "k2", "k")
    error = data.error.max("time").mean("seed").values
    assert error[0] > 1.4 * error[1] > 1.4**2 * error[2]  # 1/√q would be a factor of 2 each
    assert error[2] < 0.06
    assert float(data.drift.max()) < 1e-5
    np.testing.assert_allclose(data.simulated.isel(time=0), data.decoupled.isel(time=0), atol=1e-12)


def six(d, angle):
    """z_ν * z_syn at every frequency, code normalisation, one block after another."""
    nu = cmath.exp(1j * angle)
    block = [
        (u[0] * w, u[1] * w, u[2] * w)
        for u in ((1, 1, 1), (nu, -nu, -(nu**-2)))
        for w in (1, OMEGA, OMEGA**2)
    ]
    z = torch.tensor(block, dtype=torch.complex128).T * (12 * d) ** (-1 / 3)
    spectrum = torch.zeros(3, 6 * (d - 1) // 2, d, dtype=torch.complex128)
    for k in range(1, (d + 1) // 2):
        spectrum[:, 6 * (k - 1) : 6 * k, k] = z
        spectrum[:, 6 * (k - 1) : 6 * k, d - k] = z.conj()
    return spectrum


def factor(d, nodes, seed):
    """Random Hermitian y with r_kkk(y) = 1 at every character."""
    y = torch.randn(3, nodes, d, generator=generator(seed), dtype=torch.complex128)
    y = y / y.prod(0).sum(0).pow(1 / 3)
    mirror = y.flip(-1).roll(1, -1).conj()
    half = torch.arange(d) <= d // 2
    y = torch.where(half, y, mirror)
    y[:, :, 0] = 0
    return y


def test_theorem5_path_has_zero_loss_and_the_predicted_norm(dyn):
    from learndyn.cogo_li2.groups import AbelianGroup

    d, times = 7, torch.linspace(0, 1, 9, dtype=torch.float64)
    y, base = factor(d, 2, 3), six(d, 0.8)
    path = dyn.theorem5_path(y, base, times)
    for z in path:
        scaled = torch.stack([z[0], z[1], 2 * d * z[2]])
        index = torch.arange(d, dtype=torch.float64)
        wave = torch.exp(2j * math.pi * torch.outer(index, index) / d)
        w = torch.stack([(scaled[0] @ wave).real, (scaled[1] @ wave).real, (scaled[2] @ wave.conj()).real])
        assert network_loss(w).item() < 1e-20
    torch.testing.assert_close(path[-1, :, : base.shape[1]], base)
    assert path[-1, :, base.shape[1] :].abs().max() == 0
    data = dyn.along_theorem5_path(AbelianGroup((d,)), y, base, times)
    assert float(data.loss.max()) < 1e-20
    np.testing.assert_allclose(data.norm, data.norm_formula, rtol=1e-12)
    assert (np.diff(data.norm_formula, 2) < 0).all()


def test_theorem5_path_needs_its_conditions(dyn):
    from learndyn.cogo_li2.groups import AbelianGroup

    d, times = 7, torch.linspace(0, 1, 3, dtype=torch.float64)
    y, base = factor(d, 2, 3), six(d, 0.8)
    with pytest.raises(ValueError, match="r_kkk"):
        dyn.theorem5_path(1.1 * y, base, times)
    with pytest.raises(ValueError, match="times"):
        dyn.theorem5_path(y, base, times + 0.5)
    spoiled = base.clone()
    spoiled[:, 0] = 0
    assert float(dyn.along_theorem5_path(AbelianGroup((d,)), y, spoiled, times).loss.min()) > 1e-2


def test_theorem5_norm_may_rise_first(dyn):
    norm = dyn.theorem5_norm(1.1, 1.0, torch.linspace(0, 1, 5, dtype=torch.float64))
    assert norm[1] > norm[0] > norm[-1]
