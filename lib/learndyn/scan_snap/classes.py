"""Sequence classes: which contextual tokens come before which next token (Tian et al. 2023, Section 2).

A sequence class is named by its next token, so its axis is ``next`` (0…K−1). Its contextual tokens are drawn
independently from P(·|n), and its last token, the query, is the same in every sequence of the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from learndyn.core.errors import PlainError


class SequenceError(PlainError):
    """Sequence classes were refused; the message says which number is wrong and what is allowed."""


@dataclass(frozen=True, eq=False)
class Classes:
    """K sequence classes over a vocabulary of M tokens, in float64.

    Attributes:
        probabilities: P(l|n), ``[next, token]``; every row sums to 1.
        query: ψ(n), the query that class n ends with, as an index 0…Q−1 (every query serves some class).
        prior: P(n); all classes alike if not given.

    Raises:
        SequenceError: no class at all, a vocabulary of one token, classes without a query or a prior,
            probabilities that are negative or do not sum to 1, or queries without a class.
    """

    probabilities: Float[np.ndarray, "next token"]
    query: Int[np.ndarray, "next"]
    prior: Float[np.ndarray, "next"] | None = None

    def __post_init__(self) -> None:
        if not self.classes:
            raise SequenceError("there must be a class at least")
        if self.prior is None:
            object.__setattr__(self, "prior", np.full(self.classes, 1 / self.classes))
        if self.classes > self.vocabulary:
            raise SequenceError(
                f"{self.classes} next tokens do not fit in a vocabulary of {self.vocabulary} tokens"
            )
        if self.vocabulary == 1:
            raise SequenceError("a vocabulary of one token leaves nothing to predict")
        for name, values in (("query", self.query), ("prior", np.asarray(self.prior))):
            if values.shape != (self.classes,):
                raise SequenceError(
                    f"{name} must have an entry for each of {self.classes} classes, not shape {values.shape}"
                )
        _check_distribution("the token probabilities of every class", self.probabilities)
        _check_distribution("the probabilities of the classes", np.asarray(self.prior))
        if not np.array_equal(np.unique(self.query), np.arange(self.queries)):
            raise SequenceError("the queries of the classes must be numbered 0, 1, … with none left out")

    @property
    def classes(self) -> int:
        """K, the number of classes (of next tokens)."""
        return self.probabilities.shape[0]

    @property
    def vocabulary(self) -> int:
        """M, the number of tokens."""
        return self.probabilities.shape[1]

    @property
    def queries(self) -> int:
        """Q, the number of queries (of last tokens)."""
        return int(self.query.max()) + 1

    @property
    def distinct(self) -> Bool[np.ndarray, "next token"]:
        """The tokens that class n uses and no other class does: |Ω(l)| = 1."""
        used = self.probabilities > 0
        return used & (used.sum(axis=0) == 1)

    @property
    def common(self) -> Bool[np.ndarray, "token"]:
        """The tokens that several classes use: |Ω(l)| > 1."""
        return (self.probabilities > 0).sum(axis=0) > 1

    def attention_weights(
        self, z: Float[np.ndarray, "*batch query token"]
    ) -> Float[np.ndarray, "*batch next token"]:
        """Attention of infinitely long sequences, c_n ∝ P(l|n) exp(z_ψ(n)l), summing to 1 over tokens.

        The limit of Tian et al. 2023, Lemma 2. Tokens that a class does not use get exactly 0.
        """
        logits = np.where(self.probabilities > 0, z[..., self.query, :], -np.inf)
        weights = self.probabilities * np.exp(logits - logits.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def unit(self, z: Float[np.ndarray, "*batch query token"]) -> Float[np.ndarray, "*batch next token"]:
        """What the decoder sees of infinitely long sequences: f_n = c_n / ‖c_n‖₂."""
        weights = self.attention_weights(z)
        return weights / np.linalg.norm(weights, axis=-1, keepdims=True)

    def overlaps(self, z: Float[np.ndarray, "*batch query token"]) -> Float[np.ndarray, "*batch next next"]:
        """FᵀF = I + E: the inner products f_n·f_k."""
        unit = self.unit(z)
        return unit @ unit.swapaxes(-1, -2)


def decorrelation(overlaps: Float[np.ndarray, "*batch next next"]) -> Float[np.ndarray, "*batch next next"]:
    """E' = I − (I + E)⁻¹ = E (I + E)⁻¹ from FᵀF = I + E (Tian et al. 2023, Lemma 3 and Theorem 1).

    The paper defines E' once with the opposite sign; all its later formulas need this one, whose eigenvalues
    are λ/(1+λ).

    Raises:
        numpy.linalg.LinAlgError: classes with linearly dependent attention, whose FᵀF has no inverse.
    """
    identity = np.eye(overlaps.shape[-1])
    # E is symmetric, so it commutes with the inverse and solving from the left gives the same product;
    # this form, unlike I − (I + E)⁻¹, does not subtract nearly equal numbers where the overlap is weak.
    return np.linalg.solve(overlaps, overlaps - identity)


def assumption2(
    classes: Classes, z: Float[np.ndarray, "query token"] | None = None
) -> dict[str, float | bool]:
    """What Assumption 2 of Tian et al. 2023 asks of the classes, and what holds, at logits z (zero if None).

    Keys: ``overlap`` (largest f_n·f_k, n ≠ k), ``largest_eigenvalue`` (of E, in absolute value), ``limit``
    (1/K), ``smallest_eigenvalue`` (in absolute value; must not be 0), ``vocabulary_ratio`` (M/K², must be
    large), ``weak_overlap`` (largest eigenvalue below the limit), ``non_degenerate`` (no eigenvalue is 0)
    and ``holds`` (both of these, and M > K²: a reader judges "much larger" by the ratio).
    """
    logits = np.zeros((classes.queries, classes.vocabulary)) if z is None else z
    excess = classes.overlaps(logits) - np.eye(classes.classes)
    eigenvalues = np.abs(np.linalg.eigvalsh(excess))
    largest, limit = float(eigenvalues.max()), 1 / classes.classes
    weak, non_degenerate = largest < limit, float(eigenvalues.min()) > 1e-12
    ratio = classes.vocabulary / classes.classes**2
    return {
        "overlap": float(np.max(excess - np.diag(np.diag(excess)))),
        "largest_eigenvalue": largest,
        "limit": limit,
        "smallest_eigenvalue": float(eigenvalues.min()),
        "vocabulary_ratio": ratio,
        "weak_overlap": weak,
        "non_degenerate": non_degenerate,
        "holds": weak and non_degenerate and ratio > 1,
    }


def symmetric_classes(
    classes: int,
    vocabulary: int,
    next_per_query: int,
    common: Sequence[float] | Float[np.ndarray, "common"],
    distinct: Sequence[float] | Float[np.ndarray, "distinct"],
) -> Classes:
    """Classes that differ only in the names of their distinct tokens.

    Args:
        classes: K, a multiple of `next_per_query`.
        vocabulary: M.
        next_per_query: r, the number of classes that share a query.
        common: weights of the tokens that all classes share (ids from 0).
        distinct: weights of the tokens of one class, the same in every class (ids after the common ones,
            class by class). Common and distinct weights together are normalised to 1.

    Raises:
        SequenceError: counts that do not fit each other or the vocabulary, or weights that are not positive.
    """
    shared, own = np.asarray(common, dtype=np.float64), np.asarray(distinct, dtype=np.float64)
    _check_counts(classes, vocabulary, next_per_query, shared.size, own.size)
    profile = np.concatenate([shared, own])
    if not (np.isfinite(profile).all() and (profile > 0).all()):
        raise SequenceError(f"the weights of tokens must be positive numbers, not {profile.tolist()}")
    profile = profile / profile.sum()
    probabilities = np.zeros((classes, vocabulary))
    probabilities[:, : shared.size] = profile[: shared.size]
    for n in range(classes):
        start = shared.size + n * own.size
        probabilities[n, start : start + own.size] = profile[shared.size :]
    return Classes(probabilities, np.arange(classes) // next_per_query)


def random_classes(
    seed: int,
    *,
    classes: int = 3,
    vocabulary: int = 500,
    next_per_query: int | None = None,
    common: int = 1,
    distinct: int = 3,
    uniform_prior: bool = True,
) -> Classes:
    """Classes without any symmetry: every P(l|n) drawn on its own, U(0.2, 1) and normalised.

    Token ids as in `symmetric_classes`; all classes share one query if `next_per_query` is not given.

    Raises:
        SequenceError: counts that do not fit each other or the vocabulary.
    """
    shared = classes if next_per_query is None else next_per_query
    _check_counts(classes, vocabulary, shared, common, distinct)
    generator = np.random.default_rng(seed)
    used = symmetric_classes(classes, vocabulary, shared, [1.0] * common, [1.0] * distinct).probabilities > 0
    weights = np.where(used, generator.uniform(0.2, 1, used.shape), 0)
    prior = generator.uniform(0.5, 1.5, classes)
    return Classes(
        weights / weights.sum(axis=1, keepdims=True),
        np.arange(classes) // shared,
        None if uniform_prior else prior / prior.sum(),
    )


def _check_distribution(what: str, values: np.ndarray) -> None:
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise SequenceError(f"{what} must not be negative, infinite or NaN")
    if not np.allclose(values.sum(axis=-1), 1, rtol=0, atol=1e-9):
        raise SequenceError(f"{what} must sum to 1; they sum to {values.sum(axis=-1).tolist()}")


def _check_counts(classes: int, vocabulary: int, next_per_query: int, common: int, distinct: int) -> None:
    if min(classes, next_per_query) < 1 or classes % next_per_query:
        raise SequenceError(f"{classes} classes cannot be dealt out as {next_per_query} to every query")
    if distinct < 1:
        raise SequenceError("every class needs at least one distinct token")
    needed = common + classes * distinct
    if vocabulary < needed:
        raise SequenceError(
            f"a vocabulary of {vocabulary} tokens is smaller than the {needed} that the classes need"
        )
