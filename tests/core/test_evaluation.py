"""k-NN and linear probe against scikit-learn and plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from learndyn.core import evaluation


@pytest.fixture(scope="module")
def digits():
    """400 + 300 digits: training features, labels, test features, labels, with dull pixels left in."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16), torch.from_numpy(labels).to(torch.int64)
    return x[:400], y[:400], x[400:700], y[400:700]


def _embeddings(x, dimensions, seed):
    g = torch.Generator().manual_seed(seed)
    return x @ torch.randn(x.shape[-1], dimensions, generator=g, dtype=torch.float64)


def _batch(digits, shape=(2, 3)):
    """Six problems: random projections of the digits, each at its own scale and offset."""
    train, y, test, z = digits
    pairs = [
        (10.0 ** (i - 3) * _embeddings(train, 6, i) + i, 10.0 ** (i - 3) * _embeddings(test, 6, i) + i)
        for i in range(math.prod(shape))
    ]
    stacked = [torch.stack(side).reshape(*shape, -1, 6) for side in zip(*pairs, strict=True)]
    return stacked[0], y, stacked[1], z


@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_knn_is_that_of_scikit_learn(digits, k, dtype):
    train, y, test, z = digits
    train, test = (_embeddings(x, 10, 0).to(dtype) for x in (train, test))
    theirs = KNeighborsClassifier(k, algorithm="brute").fit(train.double().numpy(), y.numpy())
    ours = evaluation.knn_predict(train, y, test, k=k)
    assert np.array_equal(ours.numpy(), theirs.predict(test.double().numpy()))
    assert evaluation.knn_accuracy(train, y, test, z, k=k).item() == pytest.approx(
        theirs.score(test.double().numpy(), z.numpy()), abs=1e-15
    )


def test_ties_of_labels_go_to_the_smallest_label_as_in_scikit_learn():
    train = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    test = torch.tensor([[1.4], [0.0]])
    for labels in ([7, 3, 7, 3], [3, 7, 3, 7], [-2, -5, -2, -5], [9, 1, 0, 4]):
        labels = torch.tensor(labels)
        theirs = KNeighborsClassifier(4, algorithm="brute").fit(train.numpy(), labels.numpy())
        ours = evaluation.knn_predict(train, labels, test, k=4)
        assert np.array_equal(ours.numpy(), theirs.predict(test.numpy()))


def test_cosine_vote_is_the_plain_loop(digits):
    train, y, test, _ = digits
    train, test = _embeddings(train, 5, 1), _embeddings(test[:60], 5, 1)
    k, temperature = 30, 0.07
    ours = evaluation.cosine_knn_predict(train, y, test, k=k, temperature=temperature)
    for query, label in zip(test.numpy(), ours.tolist(), strict=True):
        similarity = [float(query @ x / np.linalg.norm(query) / np.linalg.norm(x)) for x in train.numpy()]
        votes = dict.fromkeys(range(10), 0.0)
        for i in sorted(range(len(train)), key=lambda i: -similarity[i])[:k]:
            votes[int(y[i])] += math.exp(similarity[i] / temperature)
        assert label == max(votes, key=votes.get)


def test_cosine_vote_at_low_temperature_is_the_nearest_neighbour(digits):
    train, y, test, _ = digits
    low = evaluation.cosine_knn_predict(train, y, test, k=50, temperature=1e-5)
    assert torch.equal(low, evaluation.cosine_knn_predict(train, y, test, k=1))


def test_published_settings_of_the_cosine_vote_are_the_defaults(digits):
    train, y, test, z = digits
    given_ = evaluation.cosine_knn_accuracy(train, y, test, z, k=200, temperature=0.07)
    assert evaluation.cosine_knn_accuracy(train, y, test, z) == given_
    assert 0.7 < given_ < 1


@pytest.mark.parametrize("block_bytes", [1, 5 * 8 * 400, 1000 * 8 * 400, 2**28])
@pytest.mark.parametrize("predict", [evaluation.knn_predict, evaluation.cosine_knn_predict])
def test_all_problems_at_once_are_one_by_one_and_blocks_change_nothing(digits, predict, block_bytes):
    train, y, test, _ = _batch(digits)
    test = test[..., :50, :]
    together = predict(train, y, test, k=7, block_bytes=block_bytes)
    assert together.shape == (2, 3, 50)
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[i, j], predict(train[i, j], y, test[i, j], k=7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearly_constant_features_are_told_apart(dtype):
    """An early embedding: one common vector plus differences of a hundred-thousandth of it."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=g, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    features = (1 + 1e-5 * x).to(dtype)
    assert evaluation.knn_accuracy(features[:100], y[:100], features[100:], y[100:], k=5) > 0.75


@given(seed=st.integers(0, 2**31), k=st.integers(1, 20), scale=st.sampled_from([1e-6, 1.0, 1e4]))
@settings(max_examples=25)
def test_knn_does_not_see_rotations_shifts_and_scales(seed, k, scale):
    g = torch.Generator().manual_seed(seed)
    train, test = (torch.randn(n, 5, generator=g, dtype=torch.float64) for n in (40, 15))
    y = torch.randint(4, (40,), generator=g)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=g, dtype=torch.float64)).Q
    shift = torch.randn(5, generator=g, dtype=torch.float64)
    moved = [scale * (x @ rotation + shift) for x in (train, test)]
    assert torch.equal(
        evaluation.knn_predict(train, y, test, k=k), evaluation.knn_predict(moved[0], y, moved[1], k=k)
    )
    turned = [scale * (x @ rotation) for x in (train, test)]
    assert torch.equal(
        evaluation.cosine_knn_predict(train, y, test, k=k),
        evaluation.cosine_knn_predict(turned[0], y, turned[1], k=k),
    )


@given(seed=st.integers(0, 2**31))
@settings(max_examples=10)
def test_knn_does_not_see_the_order_of_samples(seed):
    g = torch.Generator().manual_seed(seed)
    train, test = (torch.randn(n, 3, generator=g, dtype=torch.float64) for n in (30, 12))
    y = torch.randint(3, (30,), generator=g)
    order = torch.randperm(30, generator=g)
    assert torch.equal(
        evaluation.knn_predict(train, y, test), evaluation.knn_predict(train[order], y[order], test)
    )


# Linear probe


def _objective(x, y, weights, bias, C):
    """Mean cross-entropy + |w|²/(2 C n), in NumPy; weights `[feature, class]`."""
    logits = x @ weights + bias
    log_norm = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    return (log_norm - logits[np.arange(len(y)), y]).mean() + (weights**2).sum() / (2 * C * len(y))


@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("standardise", [True, False])
def test_probe_has_the_objective_and_accuracy_of_scikit_learn(digits, C, standardise):
    train, y, test, z = digits
    probe = evaluation.linear_probe(train, y, C=C, standardise=standardise)
    scaler = StandardScaler(with_mean=standardise, with_std=standardise).fit(train.numpy())
    x, x_test = scaler.transform(train.numpy()), scaler.transform(test.numpy())
    theirs = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(x, y.numpy())
    value = _objective(x, y.numpy(), theirs.coef_.T, theirs.intercept_, C)
    assert probe.converged.item()
    assert probe.objective.item() == pytest.approx(value, abs=1e-6)
    assert probe.objective.item() <= value + 1e-9
    assert probe.accuracy(test, z).item() == pytest.approx(theirs.score(x_test, z.numpy()), abs=1e-15)
    # The weights returned belong to the features as given: they must reproduce the objective.
    scale = scaler.scale_[:, None] if standardise else 1.0
    logits = (test @ probe.weights + probe.bias).numpy()
    assert np.allclose(logits - logits.mean(1, keepdims=True), theirs.decision_function(x_test), atol=2e-2)
    bias = probe.bias.numpy() + train.numpy().mean(0) @ probe.weights.numpy() * standardise
    again = _objective(x, y.numpy(), probe.weights.numpy() * scale, bias, C)
    assert probe.objective.item() == pytest.approx(again, abs=1e-12)


def test_probe_of_all_problems_at_once_is_one_by_one(digits):
    train, y, test, z = _batch(digits)
    together = evaluation.linear_probe(train, y, tolerance=1e-8)
    assert together.converged.all()
    assert together.weights.shape == (2, 3, 6, 10)
    accuracy = together.accuracy(test, z)
    for i in range(2):
        for j in range(3):
            alone = evaluation.linear_probe(train[i, j], y, tolerance=1e-8)
            assert torch.allclose(together.objective[i, j], alone.objective, rtol=0, atol=1e-13)
            assert torch.allclose(together.weights[i, j], alone.weights, rtol=1e-5, atol=0)
            assert accuracy[i, j] == alone.accuracy(test[i, j], z)
    blocks = evaluation.linear_probe(train, y, tolerance=1e-8, block_bytes=2 * 8 * 400 * 6)
    assert torch.allclose(blocks.objective, together.objective, rtol=0, atol=1e-13)


def test_probe_takes_features_of_very_different_variance(digits):
    """What small initialisations give: a spectrum over six decades; the optimum is found anyway."""
    train, y, _, _ = digits
    x = _embeddings(train, 12, 0) * torch.logspace(0, -6, 12, dtype=torch.float64)
    probe = evaluation.linear_probe(x, y, C=1e6, standardise=False, tolerance=1e-8)
    assert probe.converged
    weights = probe.weights.clone().requires_grad_(True)
    bias = probe.bias.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(x @ weights + bias, y)
    loss = loss + weights.square().sum() / (2 * 1e6 * len(y))
    gradient = torch.autograd.grad(loss, [weights, bias])
    assert max(g.abs().max().item() for g in gradient) < 1e-8


def test_two_classes_are_those_of_scikit_learn_at_twice_the_strength(digits):
    train, y, _, _ = digits
    theirs = LogisticRegression(C=2.0, tol=1e-9, max_iter=5000).fit(train.numpy(), (y > 4).numpy())
    probe = evaluation.linear_probe(train, (y > 4).long(), C=1.0, standardise=False)
    assert np.allclose(probe.weights[:, 1] - probe.weights[:, 0], theirs.coef_[0], atol=1e-4)


@pytest.mark.parametrize("C", [1e-10, 1e8])
@pytest.mark.parametrize("scale", [1e-7, 1e5])
def test_probe_converges_at_extreme_strengths_and_scales(digits, C, scale):
    """The digits are separable: at large C the penalty alone bounds the weights."""
    train, y, _, _ = digits
    for standardise in (True, False):
        probe = evaluation.linear_probe(scale * train, y, C=C, standardise=standardise)
        assert probe.converged
        assert probe.weights.isfinite().all()
        assert 0 < probe.objective < math.log(10) + 1e-9


def test_constant_features_do_not_matter(digits):
    train, y, test, z = digits
    plain = evaluation.linear_probe(train, y)
    constant = [torch.cat([x, torch.full((len(x), 1), 0.3)], 1) for x in (train, test)]
    more = evaluation.linear_probe(constant[0], y)
    assert more.objective.item() == pytest.approx(plain.objective.item(), abs=1e-12)
    assert more.accuracy(constant[1], z) == plain.accuracy(test, z)


def test_probe_that_runs_out_of_iterations_says_so(digits):
    train, y, _, _ = digits
    with pytest.warns(evaluation.ProbeConvergenceWarning, match="1 of 2 linear probes"):
        probe = evaluation.linear_probe(torch.stack([train, 0 * train]), y, max_iterations=8)
    assert probe.converged.tolist() == [False, True]
    assert probe.iterations[0] == 8


def test_labels_need_not_be_consecutive(digits):
    train, y, test, z = digits
    strange = 7 * y - 30
    probe = evaluation.linear_probe(train, strange)
    assert probe.accuracy(test, 7 * z - 30) == evaluation.linear_probe(train, y).accuracy(test, z)
    assert torch.equal(
        evaluation.knn_predict(train, strange, test), 7 * evaluation.knn_predict(train, y, test) - 30
    )


def _bad(x, value=math.nan):
    x = x.clone()
    x[..., 3, 1] = value
    return x


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, y, t, z: evaluation.knn_predict(x, y, t, k=401), "k = 401 .* 400 training samples"),
        (lambda x, y, t, z: evaluation.knn_predict(x, y, t, k=0), "k = 0"),
        (lambda x, y, t, z: evaluation.cosine_knn_accuracy(x, y, t, z, k=500), "k = 500"),
        (lambda x, y, t, z: evaluation.knn_accuracy(x, y[:9], t, z), r"training labels .*\(9,\).* 400"),
        (lambda x, y, t, z: evaluation.knn_accuracy(x, y, t, z[:9]), r"test labels .*\(9,\).* 300"),
        (lambda x, y, t, z: evaluation.knn_predict(_bad(x), y, t), "training features hold NaN"),
        (lambda x, y, t, z: evaluation.knn_predict(x, y, _bad(t, math.inf)), "test features hold NaN"),
        (lambda x, y, t, z: evaluation.cosine_knn_predict(x, y, t, temperature=0.0), "temperature"),
        (lambda x, y, t, z: evaluation.linear_probe(x, y[:9]), "training labels"),
        (lambda x, y, t, z: evaluation.linear_probe(x, 0 * y + 4), "two classes .* are 4"),
        (lambda x, y, t, z: evaluation.linear_probe(x, y, C=0.0), "C of the linear probe is 0.0"),
        (lambda x, y, t, z: evaluation.linear_probe(torch.stack([x, _bad(x)]), y), r"problem \(1,\)"),
    ],
)
def test_bad_input_is_one_sentence(digits, call, words):
    with pytest.raises(evaluation.EvaluationError, match=words) as error:
        call(*digits)
    assert "\n" not in str(error.value)
