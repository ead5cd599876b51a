"""The kernel theory against explicit features, SciPy, scikit-learn and gradient flow on coefficients."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import KernelPCA

from learndyn.core import spectra
from learndyn.core.device import generator
from learndyn.ssl_dynamics.stepwise import kernel, linear, toy


def samples(pairs=15, inputs=4, noise=0.3, seed=0):
    """Noisy pairs, all first views and then all second views."""
    draw = generator(seed, "kernel test")
    clean = torch.randn(pairs, inputs, generator=draw, dtype=torch.float64)
    views = clean + noise * torch.randn(2, pairs, inputs, generator=draw, dtype=torch.float64)
    return kernel.stack_views(*views)


def swap(pairs):
    """Z as a matrix."""
    zero, eye = np.zeros((pairs, pairs)), np.eye(pairs)
    return np.block([[zero, eye], [eye, zero]]) / (2 * pairs)


CASES = st.fixed_dictionaries(
    {"pairs": st.integers(3, 12), "inputs": st.integers(1, 15), "seed": st.integers(0, 10**6)}
)
KERNELS = {"linear": kernel.linear_kernel, "rbf": kernel.RBF(1.5), "relu": kernel.relu_tangent_kernel}


def of(case, name):
    points = samples(**case)
    return points, KERNELS[name](points, points)


# Kernels.


def test_kernels_entry_by_entry():
    x, y = samples(3, 4, seed=1), samples(2, 4, seed=2)
    for i, j in itertools.product(range(6), range(4)):
        a, b = x[i].numpy(), y[j].numpy()
        assert float(kernel.linear_kernel(x, y)[i, j]) == pytest.approx(sum(a * b))
        assert float(kernel.RBF(0.7)(x, y)[i, j]) == pytest.approx(math.exp(-sum((a - b) ** 2) / 2 / 0.49))


def test_relu_tangent_kernel_is_an_expectation_over_units():
    x = samples(2, 3, seed=3)
    draw = generator(0, "units")
    units = 400_000
    first = torch.randn(units, 3, generator=draw, dtype=torch.float64)
    second = torch.randn(units, generator=draw, dtype=torch.float64)
    active = x @ first.T / math.sqrt(3)
    layer2 = 2 * active.relu() @ active.relu().T / units
    gate = (active > 0).double()
    layer1 = 2 * (gate * second**2) @ gate.T / units * (x @ x.T / 3)
    assert torch.allclose(kernel.relu_tangent_kernel(x, x), layer1 + layer2, rtol=0.02, atol=0.02)
    zero = kernel.relu_tangent_kernel(torch.zeros(1, 3).double(), x)
    assert torch.equal(zero, torch.zeros(1, 4).double())


def test_centred_views_are_centred_features():
    points = samples(7, 3)
    a, b = points[:7], points[7:]
    centred = torch.cat([a - a.mean(0), b - b.mean(0)])
    assert torch.allclose(kernel.centre_views(points @ points.T), centred @ centred.T, atol=1e-13)


# Roots and the contrastive kernel.


@settings(max_examples=25)
@given(case=CASES, name=st.sampled_from(list(KERNELS)))
def test_square_root_against_scipy(case, name):
    _, matrix = of(case, name)
    root, inverse_root = kernel.square_root(matrix)
    size = float(matrix.abs().max())
    assert torch.allclose(root @ root, matrix, rtol=0, atol=1e-9 * size)
    projection = matrix.numpy() @ scipy.linalg.pinvh(matrix.numpy(), rtol=1e-10)
    assert np.allclose((root @ inverse_root).numpy(), projection, atol=1e-5)


@settings(max_examples=25)
@given(case=CASES, name=st.sampled_from(list(KERNELS)))
def test_both_forms_of_the_contrastive_kernel(case, name):
    _, matrix = of(case, name)
    root = kernel.square_root(matrix)[0].numpy()
    contrastive = kernel.contrastive_kernel(matrix)
    size = float(matrix.abs().max())
    assert np.allclose(contrastive.numpy(), root @ swap(case["pairs"]) @ root, atol=1e-13 * size)
    # Where K is nearly singular, the other form divides rounding errors by eigenvalues down to 1e-10.
    assert torch.allclose(kernel.contrastive_kernel_whitened(matrix), contrastive, rtol=0, atol=1e-5 * size)


def test_both_forms_to_rounding_where_the_kernel_is_well_conditioned():
    points = samples(20, 400, noise=1.0)
    matrix = points @ points.T
    gap = (kernel.contrastive_kernel(matrix) - kernel.contrastive_kernel_whitened(matrix)).abs().max()
    assert float(gap / kernel.contrastive_kernel(matrix).abs().max()) < 1e-14


@settings(max_examples=25)
@given(case=CASES)
def test_linear_kernel_has_the_spectrum_of_gamma(case):
    points, matrix = of(case, "linear")
    a, b = points.chunk(2)
    gamma = spectra.sorted_eigenvalues(spectra.cross_covariance(a, b))
    found = spectra.sorted_eigenvalues(kernel.contrastive_kernel(matrix))
    # The larger of the two matrices has additional zeros.
    extra = torch.zeros(abs(len(gamma) - len(found)), dtype=torch.float64)
    short, long = sorted((gamma, found), key=len)
    padded = torch.cat([short, extra]).sort(descending=True).values
    assert torch.allclose(padded, long, rtol=0, atol=1e-8 * float(gamma.abs().max()))


def test_about_half_of_the_eigenvalues_are_negative():
    matrix = kernel.RBF(0.5)(samples(30, 3), samples(30, 3))
    values = spectra.sorted_eigenvalues(kernel.contrastive_kernel(matrix))
    assert (int((values > 0).sum()), int((values < 0).sum())) == (30, 30)


# Proposition 5.1.


@settings(max_examples=25)
@given(case=CASES, name=st.sampled_from(list(KERNELS)), dimensions=st.integers(1, 3))
def test_predicted_embeddings_have_unit_correlation(case, name, dimensions):
    matrix = of(case, name)[1]
    model = kernel.kernel_model(matrix)
    if linear.positive_modes(model.modes.eigenvalues) < dimensions:
        with pytest.raises(kernel.KernelError, match=f"{dimensions} dimensions"):
            model.embed(dimensions)
        return
    found = model.embed(dimensions)
    z = torch.from_numpy(swap(case["pairs"]))
    tolerance = 1e-8 * float(matrix.abs().max() / found.eigenvalues[-1])
    eye = torch.eye(dimensions, dtype=torch.float64)
    assert torch.allclose(found.embeddings @ z @ found.embeddings.T, eye, atol=tolerance)
    assert torch.allclose(kernel.correlation(found.embeddings), eye, atol=tolerance)
    norm = float((found.coefficients @ matrix @ found.coefficients.T).trace())
    assert found.norm_squared == pytest.approx(norm, rel=1e-7)
    assert found.norm_squared == pytest.approx(linear.minimum_norm(found.eigenvalues, dimensions), rel=1e-7)
    assert torch.equal(kernel.predicted_embeddings(matrix, dimensions), found.embeddings)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), name=st.sampled_from(list(KERNELS)))
def test_embeddings_do_not_depend_on_scale_order_or_side(seed, scale, name):
    points = samples(9, 5, seed=seed)
    matrix = KERNELS[name](points, points)
    model, scaled = kernel.kernel_model(matrix), kernel.kernel_model(scale * matrix)
    gamma = model.modes.eigenvalues
    assert torch.allclose(scaled.modes.eigenvalues, scale * gamma, atol=1e-9 * scale * float(gamma[0]))
    dimensions = int(gamma[:4].diff().argmin()) + 1  # the subspace is well defined at the largest gap
    found = model.embed(dimensions).embeddings
    aligned = spectra.subspace_alignment(found, scaled.embed(dimensions).embeddings)
    assert float(aligned) == pytest.approx(1, abs=1e-8)
    order = torch.randperm(9, generator=generator(seed, "order"))
    moved = torch.cat([order + 9, order])  # pairs in another order, and the views exchanged
    other = kernel.predicted_embeddings(matrix[moved][:, moved], dimensions)
    assert float(spectra.subspace_alignment(found[:, moved], other)) == pytest.approx(1, abs=1e-8)


def test_linear_kernel_is_the_linear_model():
    points = samples(25, 6, seed=4)
    a, b = points.chunk(2)
    modes = linear.feature_modes(a, b)
    weights = linear.minimum_norm_weights(modes, 3)
    found = kernel.kernel_model(points @ points.T).embed(3)
    new = samples(5, 6, seed=5)
    expected, values = weights @ new.T, found(points @ new.T)
    signs = torch.sign((expected * values).sum(1, keepdim=True))
    assert float((signs * values - expected).abs().max()) < 1e-13
    eye = torch.eye(3, dtype=torch.float64)
    assert float((kernel.correlation(found.embeddings) - eye).abs().max()) < 1e-14
    assert found.norm_squared == pytest.approx(float((weights**2).sum()), rel=1e-12)


def test_least_norm_among_embeddings_with_zero_loss():
    model = kernel.kernel_model(kernel.RBF(1.0)(samples(8, 2), samples(8, 2)))
    gamma = model.modes.eigenvalues
    others = linear.zero_loss_weights(gamma, 3, 200, generator(0, "competitors"), negative_scale=0.1)
    embeddings = others @ model.modes.vectors @ model.root
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(kernel.correlation(embeddings), eye.expand(200, 3, 3), atol=1e-9)
    assert float((others**2).sum((1, 2)).min()) > model.embed(3).norm_squared


def test_identical_views_are_kernel_pca():
    points = samples(12, 3)[:12]
    gram = kernel.RBF(1.0)(points, points)
    centred = kernel.centre_views(gram.repeat(2, 2))
    model = kernel.kernel_model(centred)
    pca = KernelPCA(4, kernel="precomputed").fit(gram.numpy())
    assert np.allclose(model.modes.eigenvalues[:4], pca.eigenvalues_ / 12, atol=1e-13)
    whitened = pca.eigenvectors_ * math.sqrt(12)
    found = model.embed(4).embeddings[:, :12].T.numpy()
    assert np.allclose(np.abs(found), np.abs(whitened), atol=1e-10)


# Dynamics.


def test_gradient_flow_ends_in_the_predicted_embedding():
    """RBF, 30 pairs, d = 3, α = 1e-10: gradient flow on the coefficients of the features K^{1/2}."""
    points = samples(30, 2, noise=0.1)
    matrix = kernel.RBF(2.0)(points, points)
    model = kernel.kernel_model(matrix)
    found = model.embed(3)
    gamma = model.modes.eigenvalues
    start = 1e-10 * torch.randn(3, 60, generator=generator(0, "flow"), dtype=torch.float64)
    aligned = model.match_start(start @ model.root)
    times = torch.linspace(0, 1.6, 30) * linear.critical_times(gamma[:3], aligned.singular_values).max()
    flow = linear.integrate_flow(start @ model.modes.vectors.T, gamma, times)
    weights = flow[-1] @ model.modes.vectors
    embeddings = weights @ model.root
    assert 1 - float(spectra.subspace_alignment(embeddings, found.embeddings)) < 1e-12
    grams = embeddings.T @ embeddings, found.embeddings.T @ found.embeddings
    assert float((grams[0] - grams[1]).norm() / grams[1].norm()) < 1e-6
    assert float((weights**2).sum()) == pytest.approx(found.norm_squared, rel=1e-9)
    eigenvalues = spectra.sorted_eigenvalues(kernel.correlation(flow @ model.modes.vectors @ model.root))
    theory = gamma[:3] * linear.singular_values(times, gamma[:3], aligned.singular_values) ** 2
    theory = theory.sort(descending=True).values
    assert float((eigenvalues - theory).abs().max()) < 1e-6


def test_the_trainer_of_the_linear_model_trains_it():
    points = samples(20, 3, seed=2)
    model = kernel.kernel_model(kernel.RBF(1.0)(points, points))
    config = toy.ToyConfig(dimensions=2, init_scale=(1e-6, 1e-8), seed=(0, 1), stability_fraction=0.1)
    log = toy.train(config, model.modes)
    assert float(log.loss.isel(step=-1).max()) < 1e-6
    assert np.allclose(log.minimum_norm, model.embed(2).norm_squared)
    kept = log.feature_mode.values - 1
    weights = torch.from_numpy(log.weights.isel(snapshot=-1).values) @ model.modes.vectors[kept]
    aligned = spectra.subspace_alignment(weights @ model.root, model.embed(2).embeddings.expand(2, -1, -1))
    assert float(aligned.min()) > 0.99


# Refusals.


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.full((2, 2), math.nan), "not finite"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "eigenvalues from -1 to 3"),
        (torch.zeros(2, 2), "eigenvalues from 0 to 0"),
        (torch.eye(3), "3 samples"),
    ],
)
def test_what_is_no_kernel_matrix(matrix, message):
    with pytest.raises(kernel.KernelError, match=message):
        kernel.contrastive_kernel(matrix)
