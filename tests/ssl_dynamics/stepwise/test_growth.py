"""The operators of the first step against gradients of the losses themselves; VICReg's threshold."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from learndyn.core import ssl_losses
from learndyn.ssl_dynamics.stepwise import growth

PAIRS, INPUTS, DIMENSIONS = 40, 6, 3


def _normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _views(*runs, seed=0):
    """Two views with a mean, shared directions of several sizes and independent noise."""
    scales = torch.linspace(1, 0.3, INPUTS, dtype=torch.float64)
    shared = _normal(*runs, PAIRS, INPUTS, seed=seed) * scales + 0.5
    return tuple(shared + 0.4 * _normal(*runs, PAIRS, INPUTS, seed=seed + 1 + i) for i in range(2))


def _gradient(loss, weights, x_a, x_b, bias=0.0):
    weights = weights.clone().requires_grad_()
    value = loss(x_a @ weights.mT + bias, x_b @ weights.mT + bias)
    return torch.autograd.grad(value.sum(), weights)[0]


def _relative_error(ours, truth):
    return ((ours - truth).norm() / truth.norm()).item()


# Loss, scale of W, relative error of the gradient. That error is of second order in the scale.
CASES = [
    (ssl_losses.BarlowTwinsTheoryLoss(), 1e-4, 3e-7),
    (ssl_losses.BarlowTwinsTheoryLoss(centre=True), 1e-4, 3e-7),
    (ssl_losses.BarlowTwinsLoss(eps=1e-2), 1e-5, 3e-7),
    (ssl_losses.NTXentLoss(temperature=0.5, similarity="inner_product"), 1e-4, 7e-7),
    (ssl_losses.VICRegLoss(), 1e-6, 8e-8),
    (ssl_losses.VICRegLoss(invariance_weight=1.0, variance_weight=1.0, covariance_weight=0.2), 1e-6, 8e-8),
    (ssl_losses.SpectralContrastiveLoss(), 1e-4, 7e-7),
    (ssl_losses.SpectralContrastiveLoss(negatives="all"), 1e-4, 7e-7),
]


@pytest.mark.parametrize(("loss", "scale", "tolerance"), CASES, ids=lambda case: str(case))
def test_gradient_at_tiny_weights_is_minus_two_w_m(loss, scale, tolerance):
    x_a, x_b = _views()
    direction = _normal(DIMENSIONS, INPUTS, seed=9)
    operator = growth.first_step_operator(loss, x_a, x_b, dimensions=DIMENSIONS)
    torch.testing.assert_close(operator, operator.mT)
    errors = [
        _relative_error(-2 * weights @ operator, _gradient(loss, weights, x_a, x_b))
        for weights in (scale * direction, 10 * scale * direction)
    ]
    assert errors[0] < tolerance
    assert 50 < errors[1] / errors[0] < 200


def test_cosine_ntxent_with_a_head_bias_moves_orthogonally_to_it():
    x_a, x_b = _views()
    bias = torch.tensor([1.0, -1.2, 0.9], dtype=torch.float64)
    direction = _normal(DIMENSIONS, INPUTS, seed=9)
    loss = ssl_losses.NTXentLoss(temperature=0.2)
    operator = growth.first_step_operator(loss, x_a, x_b, bias)
    projector = torch.eye(DIMENSIONS) - torch.outer(bias, bias) / bias.dot(bias)
    errors = [
        _relative_error(-2 * projector @ weights @ operator, _gradient(loss, weights, x_a, x_b, bias))
        for weights in (1e-4 * direction, 1e-3 * direction)
    ]
    assert errors[0] < 4e-4
    assert 5 < errors[1] / errors[0] < 20


def test_runs_at_once_are_runs_one_by_one():
    x_a, x_b = _views(2)
    bias = _normal(2, DIMENSIONS, seed=3)
    for loss, head_bias in (
        (ssl_losses.BarlowTwinsTheoryLoss(), None),
        (ssl_losses.VICRegLoss(), None),
        (ssl_losses.NTXentLoss(similarity="inner_product"), None),
        (ssl_losses.NTXentLoss(), bias),
    ):
        together = growth.growth_rates(loss, x_a, x_b, head_bias, dimensions=DIMENSIONS)
        for run in range(2):
            own = None if head_bias is None else head_bias[run]
            alone = growth.growth_rates(loss, x_a[run], x_b[run], own, dimensions=DIMENSIONS)
            torch.testing.assert_close(together[run], alone)


def test_growth_rate_is_the_speed_of_gradient_descent():
    """W along the top mode grows as e^{rate · t}; along a mode with a negative rate it decays."""
    x_a, x_b = _views()
    x_b[:, -1] = -x_a[:, -1]  # views disagree: a negative eigenvalue
    loss = ssl_losses.BarlowTwinsTheoryLoss()
    rates = growth.growth_rates(loss, x_a, x_b)
    vectors = torch.linalg.eigh(growth.first_step_operator(loss, x_a, x_b))[1].flip(-1)
    assert rates[0] > 0 > rates[-1]
    learning_rate, steps = 1e-3 / rates[0].item(), 1000
    for mode in (0, INPUTS - 1):
        weights = 1e-8 * vectors[:, mode][None]
        for _ in range(steps):
            weights = weights - learning_rate * _gradient(loss, weights, x_a, x_b)
        measured = math.log(weights.norm() / 1e-8) / (learning_rate * steps)
        assert measured == pytest.approx(rates[mode].item(), rel=2e-3)


@pytest.mark.parametrize("eps", [1e-4, 1e-2])
def test_vicreg_amplifies_nuisance_below_its_threshold_and_damps_it_above(eps):
    """One shared direction, and one in which the views have nothing in common."""
    n = 4
    signs = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64)
    # Inputs: (shared, nuisance); over these four pairs the nuisances of the views are exactly uncorrelated.
    shared = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    x_a, x_b = (torch.stack((shared, 2 * signs[view]), -1) for view in range(2))
    assert growth.vicreg_threshold(1e-4) == pytest.approx(25)
    # Unbiased variances are larger by n/(n − 1), which moves the balance of so small a batch.
    threshold = growth.vicreg_threshold(eps) * n / (n - 1)
    for factor, amplified in ((0.99, True), (1.01, False)):
        loss = ssl_losses.VICRegLoss(invariance_weight=factor * threshold, variance_weight=1.0, eps=eps)
        operator = growth.first_step_operator(loss, x_a, x_b, dimensions=2)
        nuisance = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
        assert (operator[1, 1] > 0) == amplified
        weights = 1e-7 * torch.cat((nuisance, nuisance))
        grown = -_gradient(loss, weights, x_a, x_b)
        assert (grown[0, 1] > 0) == amplified


def test_trajectory_of_the_spectral_contrastive_loss_is_that_of_its_gradient_flow():
    """Matrix gradient flow of the loss itself, in random rotations, with gammas of both signs and zero."""
    gamma = torch.tensor([3.0, 1.2, 0.5, 0.0, -0.4], dtype=torch.float64)
    sigma = torch.tensor([3.5, 1.5, 1.5, 0.7, 0.9], dtype=torch.float64)
    start = torch.tensor([1e-3, 2e-3, 0.5, 0.8, 0.3], dtype=torch.float64)
    left, right = (torch.linalg.qr(_normal(5, 5, seed=seed))[0] for seed in (1, 2))
    cross, moment = (right @ torch.diag(values) @ right.T for values in (gamma, sigma))

    def flow(_, flat):
        weights = torch.from_numpy(flat).view(5, 5).clone().requires_grad_()
        value = -2 * (weights @ cross @ weights.T).trace() + (weights @ moment @ weights.T).square().sum()
        return -torch.autograd.grad(value, weights)[0].flatten().numpy()

    times = torch.linspace(0, 3, 31, dtype=torch.float64)
    initial = (left @ torch.diag(start) @ right.T).flatten().numpy()
    solution = solve_ivp(flow, (0, 3), initial, t_eval=times.numpy(), method="DOP853", rtol=1e-12, atol=1e-15)
    weights = torch.from_numpy(solution.y.T.copy()).view(31, 5, 5)
    squares = (left.T @ weights @ right).diagonal(dim1=-2, dim2=-1).square()
    ours = growth.spectral_contrastive_trajectory(times, start, gamma, sigma)
    torch.testing.assert_close(ours, squares, atol=1e-11, rtol=1e-9)
    both = growth.spectral_contrastive_trajectory(
        times, start.expand(2, 5), torch.stack((gamma, sigma)), sigma.expand(2, 5)
    )
    torch.testing.assert_close(both[0], ours)


def test_trajectory_has_its_limits_and_does_not_overflow():
    times = torch.tensor([0.0, 1e6], dtype=torch.float64)
    gamma = torch.tensor([400.0, -400.0, 0.0, 2.0], dtype=torch.float64)
    sigma = torch.tensor([500.0, 500.0, 0.0, 3.0], dtype=torch.float64)
    start = torch.tensor([1e-7, 1e-7, 0.3, 0.0], dtype=torch.float64)
    squares = growth.spectral_contrastive_trajectory(times, start, gamma, sigma)
    torch.testing.assert_close(squares[0], start.square())
    expected = torch.tensor([400 / 500**2, 0.0, 0.09, 0.0], dtype=torch.float64)
    torch.testing.assert_close(squares[1], expected)


def test_barlow_twins_is_the_case_of_equal_moments():
    """λ = γ s² is logistic at rate 8γ (Simon et al., from eq. 10)."""
    times = torch.linspace(0, 5, 50, dtype=torch.float64)
    gamma, start = torch.tensor([2.0, 0.7]).double(), torch.tensor([1e-3, 1e-2]).double()
    ours = gamma * growth.spectral_contrastive_trajectory(times, start, gamma, gamma)
    first = gamma * start**2
    torch.testing.assert_close(ours, 1 / (1 + (1 / first - 1) * torch.exp(-8 * gamma * times[:, None])))


@pytest.mark.parametrize(
    ("loss", "bias", "sentence"),
    [
        (ssl_losses.NTXentLoss(), None, "does not feel the scale .*; give head_bias"),
        (ssl_losses.VICRegLoss(), None, "depend on the dimension of the embedding; give dimensions"),
        (
            ssl_losses.BarlowTwinsTheoryLoss(),
            torch.ones(3),
            "head_bias is for NT-Xent with cosine similarity",
        ),
        (
            ssl_losses.NTXentLoss(similarity="inner_product"),
            torch.ones(3),
            "head_bias is for NT-Xent with cosine similarity",
        ),
    ],
)
def test_what_is_missing_or_too_much_is_one_sentence(loss, bias, sentence):
    with pytest.raises(growth.GrowthError, match=sentence):
        growth.first_step_operator(loss, *_views(), bias)
