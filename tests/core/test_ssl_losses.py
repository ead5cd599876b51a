"""The SSL losses against plain float64 loops, numerical gradients and their symmetries."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.core import ssl_losses
from learndyn.core.config import Config, ConfigError, OneOrMany

LOSSES = [
    ssl_losses.BarlowTwinsTheoryLoss(),
    ssl_losses.BarlowTwinsTheoryLoss(centre=True),
    ssl_losses.BarlowTwinsLoss(),
    ssl_losses.BarlowTwinsLoss(off_diagonal_weight=0.3, eps=0.1),
    ssl_losses.VICRegLoss(),
    ssl_losses.VICRegLoss(invariance_weight=1.0, variance_weight=2.0, covariance_weight=0.2, eps=0.3),
    ssl_losses.NTXentLoss(),
    ssl_losses.NTXentLoss(temperature=0.2),
    ssl_losses.NTXentLoss(temperature=3.0, similarity="inner_product"),
    ssl_losses.SpectralContrastiveLoss(),
    ssl_losses.SpectralContrastiveLoss(negatives="all"),
]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.to_json())
seeds = st.integers(0, 2**31)


def _embeddings(seed, *shape, scale=1.0, shift=0.4):
    """Two views that share something and have a mean."""
    g = torch.Generator().manual_seed(seed)
    a, noise, mean = (torch.randn(*s, generator=g, dtype=torch.float64) for s in (shape, shape, shape[-1:]))
    return scale * (a + shift * mean), scale * (a + 0.7 * noise + shift * mean)


# --- the same losses in the plainest way: lists of numbers and loops -----------------------------------


def _mean(values):
    return sum(values) / len(values)


def _columns(view):
    return [[row[j] for row in view] for j in range(len(view[0]))]


def _dot(u, v):
    return sum(x * y for x, y in zip(u, v, strict=True))


def _barlow_twins_theory(loss, a, b):
    n, d = len(a), len(a[0])
    if loss.centre:
        means_a, means_b = [_mean(c) for c in _columns(a)], [_mean(c) for c in _columns(b)]
        a = [[x - m for x, m in zip(row, means_a, strict=True)] for row in a]
        b = [[x - m for x, m in zip(row, means_b, strict=True)] for row in b]
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = sum(a[k][i] * b[k][j] + b[k][i] * a[k][j] for k in range(n)) / (2 * n)
            total += (c - (i == j)) ** 2
    return total


def _barlow_twins(loss, a, b):
    def standardised(column):
        mean = _mean(column)
        variance = _mean([(x - mean) ** 2 for x in column])
        return [(x - mean) / math.sqrt(variance + loss.eps) for x in column]

    columns_a, columns_b = ([standardised(c) for c in _columns(v)] for v in (a, b))
    total = 0.0
    for i, u in enumerate(columns_a):
        for j, v in enumerate(columns_b):
            c = _dot(u, v) / len(a)
            total += (1 - c) ** 2 if i == j else loss.off_diagonal_weight * c**2
    return total


def _vicreg(loss, a, b):
    n, d = len(a), len(a[0])
    invariance = _mean([(x - y) ** 2 for u, v in zip(a, b, strict=True) for x, y in zip(u, v, strict=True)])
    variance = covariance = 0.0
    for view in (a, b):
        columns = [[x - _mean(c) for x in c] for c in _columns(view)]
        for i in range(d):
            sd = math.sqrt(_dot(columns[i], columns[i]) / (n - 1) + loss.eps)
            variance += max(0.0, 1 - sd) / d / 2
            covariance += sum((_dot(columns[i], columns[j]) / (n - 1)) ** 2 for j in range(d) if j != i) / d
    return (
        loss.invariance_weight * invariance
        + loss.variance_weight * variance
        + loss.covariance_weight * covariance
    )


def _ntxent(loss, a, b):
    samples, n = a + b, len(a)
    if loss.similarity == "cosine":
        samples = [[x / math.sqrt(_dot(u, u)) for x in u] for u in samples]
    total = 0.0
    for p, u in enumerate(samples):
        scores = {q: math.exp(_dot(u, v) / loss.temperature) for q, v in enumerate(samples) if q != p}
        total -= math.log(scores[(p + n) % (2 * n)] / sum(scores.values()))
    return total / (2 * n)


def _spectral_contrastive(loss, a, b):
    n = len(a)
    attraction = -2 * _mean([_dot(u, v) for u, v in zip(a, b, strict=True)])
    if loss.negatives == "all":
        return attraction + _mean([_dot(u, v) ** 2 for u in a + b for v in a + b])
    return attraction + _mean([_dot(a[i], b[j]) ** 2 for i in range(n) for j in range(n) if i != j])


ORACLES = {
    "barlow_twins_theory": _barlow_twins_theory,
    "barlow_twins": _barlow_twins,
    "vicreg": _vicreg,
    "ntxent": _ntxent,
    "spectral_contrastive": _spectral_contrastive,
}


@each_loss
@pytest.mark.parametrize("shape", [(7, 3), (2, 4), (6, 1)])
@pytest.mark.parametrize("scale", [0.3, 1.5])
def test_value_is_that_of_a_plain_loop(loss, shape, scale):
    a, b = _embeddings(1, *shape, scale=scale)
    expected = ORACLES[loss.kind](loss, a.tolist(), b.tolist())
    assert loss(a, b).item() == pytest.approx(expected, rel=1e-12, abs=1e-13)


@each_loss
def test_gradient_is_the_numerical_one(loss):
    a, b = (x.requires_grad_() for x in _embeddings(2, 2, 5, 3))
    assert torch.autograd.gradcheck(loss, (a, b))


@each_loss
def test_second_derivatives_are_the_numerical_ones(loss):
    a, b = (x.requires_grad_() for x in _embeddings(2, 2, 4, 3))
    assert torch.autograd.gradgradcheck(loss, (a, b))


@each_loss
def test_runs_at_once_are_runs_one_by_one(loss):
    a, b = (x.float().requires_grad_() for x in _embeddings(3, 2, 3, 20, 4))
    together = loss(a, b)
    assert together.shape == (2, 3)
    gradient = torch.autograd.grad(together.sum(), a)[0]
    for i in range(2):
        for j in range(3):
            alone = a[i, j].detach().requires_grad_()
            value = loss(alone, b[i, j].detach())
            torch.testing.assert_close(together[i, j], value, rtol=2e-6, atol=1e-6)
            torch.testing.assert_close(
                gradient[i, j], torch.autograd.grad(value, alone)[0], rtol=1e-4, atol=1e-6
            )


@each_loss
def test_maps_over_runs_with_torch_func(loss):
    a, b = _embeddings(4, 3, 6, 2)
    torch.testing.assert_close(torch.func.vmap(loss)(a, b), loss(a, b))
    gradient = torch.func.vmap(torch.func.grad(loss))(a, b)
    a.requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(loss(a, b).sum(), a)[0])


@each_loss
@settings(max_examples=15)
@given(seed=seeds, pairs=st.integers(2, 9), dimension=st.integers(1, 5))
def test_views_may_swap_and_pairs_may_permute(loss, seed, pairs, dimension):
    a, b = _embeddings(seed, pairs, dimension)
    value = loss(a, b)
    order = torch.randperm(pairs, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(loss(b, a), value)
    torch.testing.assert_close(loss(a[order], b[order]), value)


@each_loss
def test_partners_matter(loss):
    a, b = _embeddings(5, 30, 3)
    assert loss(a, b.roll(1, 0)) > loss(a, b)


@settings(max_examples=25)
@given(
    seed=seeds,
    scales=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    shift=st.floats(-10, 10),
    negative=st.booleans(),
)
def test_standard_barlow_twins_feels_neither_scale_nor_shift_of_an_output(seed, scales, shift, negative):
    a, b = _embeddings(seed, 12, 3)
    factor = torch.tensor(scales, dtype=torch.float64) * (-1 if negative else 1)
    loss = ssl_losses.BarlowTwinsLoss(eps=1e-14)
    torch.testing.assert_close(loss(a * factor + shift, b * factor - shift), loss(a, b), rtol=1e-5, atol=1e-6)


@settings(max_examples=25)
@given(seed=seeds, exponents=st.lists(st.floats(-8, 8), min_size=10, max_size=10))
def test_cosine_ntxent_feels_no_scale_not_even_of_single_embeddings(seed, exponents):
    a, b = _embeddings(seed, 5, 3)
    lengths = 10 ** torch.tensor(exponents, dtype=torch.float64)[:, None]
    loss = ssl_losses.NTXentLoss()
    torch.testing.assert_close(loss(a * lengths[:5], b * lengths[5:]), loss(a, b))


@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
def test_rotations_of_the_embedding_do_not_matter(similarity):
    a, b = _embeddings(6, 10, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double())[0]
    for loss in (
        ssl_losses.NTXentLoss(similarity=similarity),
        ssl_losses.BarlowTwinsTheoryLoss(),
        ssl_losses.SpectralContrastiveLoss(),
    ):
        torch.testing.assert_close(loss(a @ rotation, b @ rotation), loss(a, b))


def test_ntxent_is_torchs_cross_entropy_over_the_other_samples():
    """A second opinion: each row's own entry is cut out, not masked."""
    a, b = _embeddings(7, 9, 4)
    n, samples = 9, torch.cat((a, b))
    similarity = torch.nn.functional.cosine_similarity(samples[:, None], samples[None], dim=-1) / 0.2
    rows = torch.stack([torch.cat((row[:i], row[i + 1 :])) for i, row in enumerate(similarity)])
    target = torch.tensor([(i + n) % (2 * n) - (i < n) for i in range(2 * n)])
    expected = torch.nn.functional.cross_entropy(rows, target)
    torch.testing.assert_close(ssl_losses.NTXentLoss(temperature=0.2)(a, b), expected)


def test_ntxent_of_identical_embeddings_is_the_log_of_the_number_of_candidates():
    same = torch.ones(6, 3)
    assert ssl_losses.NTXentLoss()(same, same).item() == pytest.approx(math.log(11), rel=1e-6)


@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
def test_ntxent_stays_finite_where_exponentials_overflow(similarity):
    a, b = (x.float().requires_grad_() for x in _embeddings(8, 8, 3, scale=100))
    loss = ssl_losses.NTXentLoss(temperature=1e-3, similarity=similarity)
    value = loss(a, b)
    gradient = torch.autograd.grad(value, (a, b))
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradient)
    expected = loss(a.detach().double(), b.detach().double())
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.026, 0.07, 0.5, 3.0])
def test_both_ways_to_compute_ntxent_agree_in_float32(monkeypatch, temperature):
    a, b = (x.float().requires_grad_() for x in _embeddings(13, 2, 30, 3))
    loss, found = ssl_losses.NTXentLoss(temperature=temperature), []
    for limit in (ssl_losses._SAFE_LOGIT, 0.0):
        monkeypatch.setattr(ssl_losses, "_SAFE_LOGIT", limit)
        value = loss(a, b)
        found.append((value, *torch.autograd.grad(value.sum(), (a, b))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_opposite_embeddings_leave_the_smallest_weights_above_zero():
    """All others are opposite to the first one: the sum of its weights is as small as can be."""
    a = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    b = torch.tensor([[-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    loss = ssl_losses.NTXentLoss(temperature=1 / 40)
    value = loss(a, b)
    assert value.item() == pytest.approx(loss(a.detach().double(), b.double()).item(), rel=1e-5)
    assert torch.autograd.grad(value, a)[0].isfinite().all()


def test_spectral_contrastive_of_a_linear_model_is_its_theory_form():
    g = torch.Generator().manual_seed(9)
    x, y = _embeddings(9, 20, 6)
    weights = torch.randn(3, 6, generator=g, dtype=torch.float64)
    cross = (x.T @ y + y.T @ x) / 40
    moment = (x.T @ x + y.T @ y) / 40
    expected = -2 * (weights @ cross @ weights.T).trace() + (weights @ moment @ weights.T).square().sum()
    loss = ssl_losses.SpectralContrastiveLoss(negatives="all")
    torch.testing.assert_close(loss(x @ weights.T, y @ weights.T), expected)
    # Equal views: the loss of Barlow Twins but for the dimension.
    torch.testing.assert_close(
        loss(x @ weights.T, x @ weights.T),
        ssl_losses.BarlowTwinsTheoryLoss()(x @ weights.T, x @ weights.T) - 3,
    )


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.centred and loss.kind != "ntxent"])
def test_a_large_mean_embedding_does_not_spoil_float32(loss):
    a, b = (x.float() for x in _embeddings(12, 100, 4, shift=1e3))
    expected = loss(a.double(), b.double()).item()
    assert loss(a, b).item() == pytest.approx(expected, rel=1e-4)


def test_known_answers():
    """Whitened, equal views: both Barlow Twins losses and VICReg are at their minimum."""
    a = torch.linalg.qr(_embeddings(10, 50, 4)[0] - _embeddings(10, 50, 4)[0].mean(0))[0] * math.sqrt(50)
    assert ssl_losses.BarlowTwinsTheoryLoss()(a, a) < 1e-25
    assert ssl_losses.BarlowTwinsLoss(eps=1e-12)(a, a) < 1e-20
    assert ssl_losses.VICRegLoss()(a, a) < 1e-25
    zero = torch.zeros(5, 4)
    assert ssl_losses.BarlowTwinsTheoryLoss()(zero, zero) == 4
    assert ssl_losses.VICRegLoss(variance_weight=2.0)(zero, zero).item() == pytest.approx(2 * (1 - 1e-2))


@each_loss
def test_half_precision_and_autocast_compute_in_float32(loss):
    a, b = (x.to(torch.bfloat16) for x in _embeddings(11, 2, 40, 6))
    exact = loss(a.float(), b.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(a.float(), b.float()), exact, rtol=0, atol=0)
        leaf = a.clone().requires_grad_()
        inside = loss(leaf, b)
        assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(inside, exact, rtol=0, atol=0)
    torch.testing.assert_close(loss(a, b), exact, rtol=0, atol=0)
    inside.sum().backward()
    assert leaf.grad.dtype == torch.bfloat16
    assert leaf.grad.isfinite().all()
    assert loss(a.double(), b.double()).dtype == torch.float64


def test_which_spectra_belong_to_which_loss():
    centred = {name: ssl_losses.loss(name).centred for name in ssl_losses.LOSSES}
    assert centred == {
        "barlow_twins_theory": False,
        "barlow_twins": True,
        "vicreg": True,
        "ntxent": True,
        "spectral_contrastive": False,
    }
    assert ssl_losses.BarlowTwinsTheoryLoss(centre=True).centred


class _Experiment(Config):
    loss: OneOrMany[ssl_losses.AnyLoss] = ("vicreg",)


def test_losses_in_a_config_survive_json():
    config = _Experiment(loss=("ntxent", ssl_losses.VICRegLoss(eps=1e-3), {"kind": "barlow_twins"}))
    assert config.loss == (
        ssl_losses.NTXentLoss(),
        ssl_losses.VICRegLoss(eps=1e-3),
        ssl_losses.BarlowTwinsLoss(),
    )
    assert _Experiment.parse(json.loads(config.to_json())) == config
    assert _Experiment().loss == (ssl_losses.VICRegLoss(),)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("vicregg", r"loss\[0\] = 'vicregg': unknown loss 'vicregg' \(did you mean 'vicreg'\?\); the losses"),
        ({"kind": "byol"}, "unknown loss 'byol'; the losses are barlow_twins_theory, barlow_twins, vicreg"),
        ({"kind": "ntxent", "temperature": -1.0}, "NTXentLoss.temperature = -1.0: must be greater than 0"),
        ({"kind": "ntxent", "tau": 1.0}, "unknown parameter 'tau'"),
        (3, "must be a loss or the name of one: barlow_twins_theory"),
    ],
)
def test_a_wrong_loss_in_a_config_is_one_sentence(value, sentence):
    with pytest.raises(ConfigError, match=sentence) as error:
        _Experiment(loss=value)
    assert "\n" not in str(error.value)


def test_losses_by_name():
    assert ssl_losses.loss("ntxent", temperature=0.1) == ssl_losses.NTXentLoss(temperature=0.1)
    with pytest.raises(ssl_losses.SSLLossError, match=r"unknown loss 'barlow' \(did you mean 'barlow_twins'"):
        ssl_losses.loss("barlow")
    with pytest.raises(ConfigError, match=r"VICRegLoss\.eps = 1\.5"):
        ssl_losses.loss("vicreg", eps=1.5)


@each_loss
def test_batches_without_a_loss_are_refused(loss):
    with pytest.raises(ssl_losses.SSLLossError, match="at least 2 pairs in a batch, not 1"):
        loss(torch.ones(3, 1, 4), torch.ones(3, 1, 4))


def test_views_of_different_shapes_are_refused():
    # Below the shape checks that only the tests have.
    with pytest.raises(ssl_losses.SSLLossError, match=r"one shape .*, not \[5, 3\] and \[4, 3\]"):
        ssl_losses._check(torch.ones(5, 3), torch.ones(4, 3))
