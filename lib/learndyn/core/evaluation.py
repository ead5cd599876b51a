"""How good are frozen features? k-nearest neighbours and a linear probe, batched over checkpoints and seeds.

Features are `[*batch, sample, feature]`: the leading axes (runs, checkpoints, layers) are separate problems
that share their labels and are solved together. Everything is computed in float64, whatever the features'
precision: the embeddings of a small initialisation are nearly constant, and float32 products would lose what
tells them apart.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Integer
from torch import Tensor

from learndyn.core.errors import PlainError
from learndyn.core.logistic import softmax_regression


class EvaluationError(PlainError):
    """Features or labels that cannot be evaluated; one sentence says which and what is allowed."""


class ProbeConvergenceWarning(UserWarning):
    """A linear probe stopped at its iteration limit before it met its tolerance."""


def accuracy(
    predictions: Integer[Tensor, "*batch sample"], labels: Integer[Tensor, "_sample"]
) -> Float64[Tensor, "*batch"]:
    """Share of the samples whose predicted label is the true one.

    Raises:
        EvaluationError: not one label per sample.
    """
    _check_labels(labels, predictions.shape[-1], "test")
    return (predictions == labels).to(torch.float64).mean(-1)


def knn_accuracy(
    train: Float[Tensor, "*batch train feature"],
    train_labels: Integer[Tensor, "_train"],
    test: Float[Tensor, "*batch test feature"],
    test_labels: Integer[Tensor, "_test"],
    *,
    k: int = 5,
    block_bytes: int = 2**28,
) -> Float64[Tensor, "*batch"]:
    """Test accuracy of `knn_predict`, whose arguments and errors these are."""
    return accuracy(knn_predict(train, train_labels, test, k=k, block_bytes=block_bytes), test_labels)


def knn_predict(
    train: Float[Tensor, "*batch train feature"],
    train_labels: Integer[Tensor, "_train"],
    test: Float[Tensor, "*batch test feature"],
    *,
    k: int = 5,
    block_bytes: int = 2**28,
) -> Integer[Tensor, "*batch test"]:
    """Majority label among the k nearest training samples in Euclidean distance.

    As scikit-learn's `KNeighborsClassifier`: labels with equally many votes are decided for the smallest
    label; which of several equally distant samples is the k-th neighbour is not defined.

    Args:
        train: training features; the leading axes are separate problems.
        train_labels: their labels, shared by all problems; any whole numbers.
        test: the features to classify.
        k: number of neighbours.
        block_bytes: bound on the block of distances that is held at once.

    Raises:
        EvaluationError: k beyond the training set, labels that do not fit, features that are not finite.
    """

    def prepare(known: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        # Distances do not change when the origin moves; about the mean their cancellation is least.
        origin = known.mean(-2, keepdim=True)
        return known - origin, queries - origin

    def nearest(known: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        # |query − x|² up to the query's own square, which does not change the order.
        squares = known.square().sum(-1).unsqueeze(-2)
        distances = torch.baddbmm(squares, queries, known.mT, alpha=-2)
        indices = distances.topk(k, largest=False, sorted=False).indices
        return indices, torch.ones_like(indices, dtype=torch.float64)

    return _knn(train, train_labels, test, k, prepare, nearest, block_bytes)


def cosine_knn_accuracy(
    train: Float[Tensor, "*batch train feature"],
    train_labels: Integer[Tensor, "_train"],
    test: Float[Tensor, "*batch test feature"],
    test_labels: Integer[Tensor, "_test"],
    *,
    k: int = 200,
    temperature: float = 0.07,
    block_bytes: int = 2**28,
) -> Float64[Tensor, "*batch"]:
    """Test accuracy of `cosine_knn_predict`, whose arguments and errors these are."""
    predictions = cosine_knn_predict(
        train, train_labels, test, k=k, temperature=temperature, block_bytes=block_bytes
    )
    return accuracy(predictions, test_labels)


def cosine_knn_predict(
    train: Float[Tensor, "*batch train feature"],
    train_labels: Integer[Tensor, "_train"],
    test: Float[Tensor, "*batch test feature"],
    *,
    k: int = 200,
    temperature: float = 0.07,
    block_bytes: int = 2**28,
) -> Integer[Tensor, "*batch test"]:
    """Label with the largest sum of exp(s/T) over the k training samples of largest cosine similarity s.

    The weighted vote of Wu et al. 2018 (Unsupervised feature learning via non-parametric instance
    discrimination, section 3.4) with their k and T, as papers on self-supervised learning report it. A
    feature vector of zeros has similarity 0 to everything.

    Args:
        train: training features; the leading axes are separate problems.
        train_labels: their labels, shared by all problems; any whole numbers.
        test: the features to classify.
        k: number of neighbours.
        temperature: T.
        block_bytes: bound on the block of similarities that is held at once.

    Raises:
        EvaluationError: as `knn_predict`, or a temperature that is not positive.
    """
    if not 0 < temperature < math.inf:
        raise EvaluationError(f"the temperature of the weighted k-NN vote is {temperature}: it must be > 0")

    def prepare(known: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        tiny = torch.finfo(torch.float64).tiny
        return tuple(
            x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(tiny) for x in (known, queries)
        )

    def nearest(known: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        similarities, indices = (queries @ known.mT).topk(k, sorted=False)
        # Relative to the largest: the vote is the same and no temperature overflows.
        return indices, ((similarities - similarities.amax(-1, keepdim=True)) / temperature).exp()

    return _knn(train, train_labels, test, k, prepare, nearest, block_bytes)


_Pairwise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _knn(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    k: int,
    prepare: _Pairwise,
    nearest: _Pairwise,
    block_bytes: int,
) -> Tensor:
    """The vote, in blocks of problems and queries whose distances fill at most `block_bytes`.

    `prepare` turns training and test features into what `nearest` compares; `nearest` gives each query's
    neighbours and their weights, `[problem, query, k]` both.
    """
    _check_features(train, "training")
    _check_features(test, "test")
    _check_labels(train_labels, train.shape[-2], "training")
    if train.shape[:-2] != test.shape[:-2] or train.shape[-1] != test.shape[-1]:
        raise EvaluationError(
            f"training features {tuple(train.shape)} and test features {tuple(test.shape)} do not belong "
            "together: all axes but the samples must be equal"
        )
    if not 1 <= k <= train.shape[-2]:
        raise EvaluationError(
            f"k = {k} neighbours were asked for, but k must lie between 1 and the {train.shape[-2]} training "
            "samples"
        )
    classes, encoded = train_labels.unique(return_inverse=True)
    batch, queries = test.shape[:-2], test.shape[-2]
    rows = max(1, block_bytes // (8 * train.shape[-2]))  # of distances in a block
    problems = max(1, rows // queries)
    votes = []
    for some_train, some_test in zip(
        _stacked(train).split(problems), _stacked(test).split(problems), strict=True
    ):
        known, asked = prepare(some_train.to(torch.float64), some_test.to(torch.float64))
        found = []
        for block in asked.split(rows, dim=-2):
            indices, weights = nearest(known, block)
            count = weights.new_zeros(*indices.shape[:-1], len(classes))
            # argmax takes the first of equal maxima: the smallest label.
            found.append(count.scatter_add_(-1, encoded[indices], weights).argmax(-1))
        votes.append(torch.cat(found, -1))
    return classes[torch.cat(votes).reshape(*batch, queries)]


def _stacked(features: Tensor) -> Tensor:
    """All leading axes as one: `[problem, sample, feature]`."""
    return features.reshape(-1, *features.shape[-2:])


@dataclass(frozen=True)
class LinearProbe:
    """Linear classifiers on frozen features, one per problem; `linear_probe` fits them.

    Attributes:
        weights: on the features as they were given, also where the fit standardised them.
        bias: intercepts.
        classes: the labels that the training set holds, ascending.
        objective: mean cross-entropy + |w|²/(2 C n) at the solution.
        converged: whether the solver met its tolerance.
        iterations: steps that the solver took.
    """

    weights: Float64[Tensor, "*batch feature class"]
    bias: Float64[Tensor, "*batch class"]
    classes: Integer[Tensor, "class"]
    objective: Float64[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    iterations: Int[Tensor, "*batch"]

    def predict(self, features: Float[Tensor, "*batch sample feature"]) -> Integer[Tensor, "*batch sample"]:
        """The most probable label of each sample.

        Raises:
            EvaluationError: features that are not finite.
        """
        _check_features(features, "test")
        logits = features.to(torch.float64) @ self.weights + self.bias.unsqueeze(-2)
        return self.classes[logits.argmax(-1)]

    def accuracy(
        self, features: Float[Tensor, "*batch sample feature"], labels: Integer[Tensor, "_sample"]
    ) -> Float64[Tensor, "*batch"]:
        """Share of the samples that are classified as their label says.

        Raises:
            EvaluationError: features that are not finite, or not one label per sample.
        """
        return accuracy(self.predict(features), labels)


def linear_probe(
    train: Float[Tensor, "*batch train feature"],
    train_labels: Integer[Tensor, "_train"],
    *,
    C: float = 1.0,
    standardise: bool = True,
    tolerance: float = 1e-7,
    max_iterations: int = 1000,
    block_bytes: int = 2**30,
) -> LinearProbe:
    """Multinomial logistic regression with an L2 penalty, all problems solved together.

    Minimises (1/n) Σ_i CE(w·x_i + b, y_i) + |w|²/(2 C n): scikit-learn's `LogisticRegression(C=C)` for more
    than two classes, with an intercept that is not penalised. (For two classes scikit-learn has one weight
    vector instead of two opposite ones of half its length: this is its `C=2*C` there.)

    Args:
        train: training features; the leading axes are separate problems.
        train_labels: their labels, shared by all problems; any whole numbers.
        C: inverse strength of the penalty, scikit-learn's.
        standardise: divide each feature by its standard deviation over the training set first (features
            that are constant are left alone). Then C means the same whatever the scale of the features.
        tolerance: on the norm of the gradient in the solver's metric (`core.logistic.softmax_regression`).
        max_iterations: a problem that needs more is returned as not converged, with a warning.
        block_bytes: bound on the float64 copy of the features that is solved at once (one problem at least).

    Raises:
        EvaluationError: labels that do not fit or hold one class only, features that are not finite, C or
            tolerance not positive.
    """
    _check_features(train, "training")
    _check_labels(train_labels, train.shape[-2], "training")
    for name, value in (("C", C), ("tolerance", tolerance)):
        if not 0 < value < math.inf:
            raise EvaluationError(f"{name} of the linear probe is {value}: it must be positive and finite")
    classes, encoded = train_labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise EvaluationError(
            f"a linear probe needs two classes at least, but all {len(encoded)} training labels "
            f"are {classes[0].item()}"
        )
    targets = torch.nn.functional.one_hot(encoded, len(classes)).to(torch.float64)
    batch, (samples, features) = train.shape[:-2], train.shape[-2:]
    problems = max(1, block_bytes // (8 * samples * features))
    parts = []
    for block in _stacked(train).split(problems):
        x = block.to(torch.float64)
        mean = x.mean(-2, keepdim=True)
        x = x - mean
        scale = _scale(x, mean) if standardise else torch.ones_like(mean)
        theta, *outcome = softmax_regression(
            x / scale, targets.mT, 1 / (C * samples), tolerance=tolerance, max_iterations=max_iterations
        )
        weights = theta[..., :-1].mT / scale.mT
        bias = theta[..., -1] - (mean @ weights).squeeze(-2)
        parts.append((weights, bias, *outcome))
    weights, bias, objective, converged, iterations = (torch.cat(part) for part in zip(*parts, strict=True))
    if not converged.all():
        warnings.warn(
            f"{int((~converged).sum())} of {len(converged)} linear probes did not reach the tolerance "
            f"{tolerance:g} in {max_iterations} iterations; raise max_iterations or lower C = {C:g}",
            ProbeConvergenceWarning,
            stacklevel=2,
        )
    return LinearProbe(
        weights.reshape(*batch, features, -1),
        bias.reshape(*batch, -1),
        classes,
        *(vector.reshape(batch) for vector in (objective, converged, iterations)),
    )


def _scale(centred: Tensor, mean: Tensor) -> Tensor:
    """Standard deviations `[problem, 1, feature]`; 1 where the feature is constant up to rounding."""
    deviation = centred.square().mean(-2, keepdim=True).sqrt()
    noise = 10 * torch.finfo(centred.dtype).eps * mean.abs()
    return torch.where(deviation > noise, deviation, 1.0)


def _check_features(features: Tensor, which: str) -> None:
    if features.ndim < 2 or 0 in features.shape:
        raise EvaluationError(
            f"the {which} features have shape {tuple(features.shape)}: they must be [..., sample, feature] "
            "with one sample and one feature at least"
        )
    finite = features.isfinite().all(-1).all(-1)
    if not finite.all():
        problem = f" of problem {tuple((~finite).nonzero()[0].tolist())}" if finite.ndim else ""
        raise EvaluationError(
            f"the {which} features{problem} hold NaN or infinite values: leave out runs that diverged"
        )


def _check_labels(labels: Tensor, samples: int, which: str) -> None:
    if labels.shape != (samples,):
        raise EvaluationError(
            f"the {which} labels have shape {tuple(labels.shape)}, but there are {samples} {which} samples: "
            "give one label per sample, shared by all problems"
        )
