"""Stepwise learning in a reproducing-kernel Hilbert space (Simon et al., section 5, Proposition 5.1).

The samples S are all first views, then all second views: x₁ … x_n, x′₁ … x′_n. With K = k(S, S) and
Z = (1/2n)[[0, I], [I, 0]], an embedding F of the samples has C = F Z Fᵀ. A kernel model *is* the linear model
in the features φ(S) = K^{1/2} (one feature per sample), whose Γ is the contrastive kernel matrix
K_Γ = K^{1/2} Z K^{1/2}: eq. 10, critical times, matched starts and the trainer of the linear model
(``linear``, ``toy``) hold for it as they are, given the `KernelModel.modes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from learndyn.core.errors import PlainError
from learndyn.ssl_dynamics.stepwise import linear
from learndyn.ssl_dynamics.stepwise.linear import AlignedStart, Modes

Kernel = Callable[[Tensor, Tensor], Tensor]
"""k(x, y): ``[a, input]``, ``[b, input]`` -> ``[a, b]``."""

RTOL = 1e-10
"""Eigenvalues of K below this fraction of the largest count as zero (pseudo-inverse)."""


class KernelError(PlainError):
    """A kernel matrix that is none, or too many dimensions for it."""


# Kernels.


def linear_kernel(x: Float[Tensor, "a input"], y: Float[Tensor, "b input"]) -> Float[Tensor, "a b"]:
    """k(x, y) = ⟨x, y⟩, with which the kernel model is the linear model."""
    return x @ y.mT


@dataclass(frozen=True)
class RBF:
    """k(x, y) = exp(−|x − y|² / (2 width²))."""

    width: float = 1.0

    def __call__(self, x: Float[Tensor, "a input"], y: Float[Tensor, "b input"]) -> Float[Tensor, "a b"]:
        """The kernel between two sets of points, ``[a, b]``."""
        distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-0.5 * (distance / self.width) ** 2)


def relu_tangent_kernel(
    x: Float[Tensor, "a input"],
    y: Float[Tensor, "b input"],
) -> Float[Tensor, "a b"]:
    """Neural tangent kernel of f(x) = √(2/h) W₂ relu(W₁x/√m) as h → ∞, all weights N(0, 1).

    |x||y|/(πm) · (sin φ + 2(π − φ) cos φ) with φ the angle between x and y (arc-cosine kernels of order 1 and
    0; Cho and Saul, 2009; Jacot et al., 2018). Of the two summands with cos φ, one comes from each layer.
    """
    norms = x.norm(dim=1)[:, None] * y.norm(dim=1)[None, :]
    tiny = torch.finfo(x.dtype).tiny
    cosine = (x @ y.mT / norms.clamp(min=tiny)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sqrt(1 - cosine**2)
    kappa = sine + 2 * (math.pi - angle) * cosine
    return norms / (math.pi * x.shape[1]) * kappa


def stack_views(
    view_a: Float[Tensor, "pair *feature"], view_b: Float[Tensor, "pair *feature"]
) -> Float[Tensor, "sample input"]:
    """The samples S in float64: all first views, then all second views, each flattened."""
    return torch.cat([view_a.flatten(1), view_b.flatten(1)]).double()


def centre_views(kernel_matrix: Float[Tensor, "sample sample"]) -> Float[Tensor, "sample sample"]:
    """The kernel of features from which each view's mean is taken: P K P, P projecting out two constants."""
    pairs = _pairs(kernel_matrix)
    blocks = kernel_matrix.reshape(2, pairs, 2, pairs)
    blocks = blocks - blocks.mean(1, keepdim=True)
    return (blocks - blocks.mean(3, keepdim=True)).reshape(2 * pairs, 2 * pairs)


# Proposition 5.1.


def square_root(
    kernel_matrix: Float[Tensor, "sample sample"], rtol: float = RTOL
) -> tuple[Float[Tensor, "sample sample"], Float[Tensor, "sample sample"]]:
    """K^{1/2} and its pseudo-inverse, eigenvalues below ``rtol`` times the largest dropped; float64.

    Raises:
        KernelError: the matrix has infinite or missing entries, is not symmetric, is zero, or has an
            eigenvalue that is negative beyond rounding.
    """
    matrix = kernel_matrix.double()
    if not bool(torch.isfinite(matrix).all()):
        raise KernelError("the kernel matrix has entries that are not finite; check the inputs of the kernel")
    if not torch.allclose(matrix, matrix.mT, rtol=0, atol=1e-8 * float(matrix.abs().max())):
        raise KernelError("the kernel matrix is not symmetric; give k(S, S) of one set of samples")
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    largest, smallest = float(values[-1]), float(values[0])
    if largest <= 0 or smallest < -max(rtol, 1e-8) * largest:
        raise KernelError(
            f"the kernel matrix has eigenvalues from {smallest:.3g} to {largest:.3g}; those of a kernel are "
            "not negative, and some are positive"
        )
    kept = values > rtol * largest
    values, vectors = values[kept], vectors[:, kept]
    return (vectors * values.sqrt()) @ vectors.mT, (vectors * values.rsqrt()) @ vectors.mT


def contrastive_kernel(
    kernel_matrix: Float[Tensor, "sample sample"], rtol: float = RTOL
) -> Float[Tensor, "sample sample"]:
    """K_Γ = K^{1/2} Z K^{1/2}, whose nonzero eigenvalues are those of Γ in feature space (Proposition 5.1).

    Symmetric; about half of its eigenvalues are negative.

    Raises:
        KernelError: see `square_root`; an odd number of samples.
    """
    return _sandwich(square_root(kernel_matrix, rtol)[0])


def contrastive_kernel_whitened(
    kernel_matrix: Float[Tensor, "sample sample"], rtol: float = RTOL
) -> Float[Tensor, "sample sample"]:
    """The same K_Γ in its other form, K^{-1/2} [(K_{:X}K_{X′:} + K_{:X′}K_{X:})/2n] K^{-1/2}: an oracle."""
    pairs = _pairs(kernel_matrix)
    matrix = kernel_matrix.double()
    inverse_root = square_root(kernel_matrix, rtol)[1]
    first, second = matrix[:, :pairs], matrix[:, pairs:]
    middle = (first @ second.mT + second @ first.mT) / (2 * pairs)
    return inverse_root @ middle @ inverse_root


@dataclass(frozen=True)
class KernelEmbedding:
    """f(x) = coefficients · k(S, x): what the kernel model learns from a small start (Proposition 5.1).

    Attributes:
        coefficients: diag(γ^{-1/2}) Bᵀ K^{-1/2}, ``[dimension, sample]``.
        embeddings: f on the samples, diag(γ^{-1/2}) Bᵀ K^{1/2}, ``[dimension, sample]``.
        eigenvalues: the largest γ_j of K_Γ, descending, ``[dimension]``.
        norm_squared: ‖f‖² in the Hilbert space, summed over outputs: tr(coefficients K coefficientsᵀ). By the
            proposition, Σ_j 1/γ_j, the least of all embeddings with zero loss.
    """

    coefficients: Float64[Tensor, "dimension sample"]
    embeddings: Float64[Tensor, "dimension sample"]
    eigenvalues: Float64[Tensor, " dimension"]
    norm_squared: float

    def __call__(self, kernel_matrix: Float[Tensor, "sample point"]) -> Float64[Tensor, "dimension point"]:
        """f at any points, from k(S, points)."""
        return self.coefficients @ kernel_matrix.to(self.coefficients)


@dataclass(frozen=True)
class KernelModel:
    """The kernel model f(x) = W K^{-1/2} k(S, x) as the linear model in the features K^{1/2} of the samples.

    Attributes:
        root: K^{1/2}, the features of each sample.
        inverse_root: its pseudo-inverse.
        modes: eigenvalues γ_j of K_Γ, descending and signed, and eigenvectors b_j as rows: the "Γ" with which
            everything in ``linear``, and training by ``toy.train``, holds for this model too.
    """

    root: Float64[Tensor, "sample sample"]
    inverse_root: Float64[Tensor, "sample sample"]
    modes: Modes

    def weights(
        self, embeddings: Float[Tensor, "*run dimension sample"]
    ) -> Float64[Tensor, "*run dimension sample"]:
        """The W of least norm that gives the samples these embeddings, F K^{-1/2}."""
        return embeddings.double() @ self.inverse_root

    def match_start(self, embeddings: Float[Tensor, "*run dimension sample"]) -> AlignedStart:
        """The aligned start that training from these small embeddings follows (Result 4.6 in features).

        Its singular values s_j(0) with the γ_j of the top modes go into eq. 10, `linear.singular_values`.
        """
        return linear.match_start(self.weights(embeddings), self.modes.top(embeddings.shape[-2]).vectors)

    def embed(self, dimensions: int) -> KernelEmbedding:
        """The embedding that is learned from a small start (Proposition 5.1 with U = I).

        Raises:
            KernelError: fewer positive eigenvalues than dimensions.
        """
        positive = linear.positive_modes(self.modes.eigenvalues)
        if not 1 <= dimensions <= positive:
            raise KernelError(
                f"{dimensions} dimensions were asked for, but the "
                f"contrastive kernel has {positive} positive eigenvalues; "
                f"give 1 to {positive}"
            )
        top = self.modes.top(dimensions)
        weights = top.vectors / top.eigenvalues.sqrt()[:, None]
        coefficients = weights @ self.inverse_root
        embeddings = weights @ self.root
        # tr(coefficients K coefficientsᵀ): coefficients K are the embeddings.
        norm_squared = float((coefficients * embeddings).sum())
        return KernelEmbedding(
            coefficients,
            embeddings,
            top.eigenvalues,
            norm_squared,
        )


def kernel_model(kernel_matrix: Float[Tensor, "sample sample"], rtol: float = RTOL) -> KernelModel:
    """The kernel model of K = k(S, S), by one eigendecomposition of K and one of K_Γ.

    Raises:
        KernelError: see `square_root`; an odd number of samples.
    """
    root, inverse_root = square_root(kernel_matrix, rtol)
    return KernelModel(root, inverse_root, linear.modes_of(_sandwich(root)))


def predicted_embeddings(
    kernel_matrix: Float[Tensor, "sample sample"], dimensions: int, rtol: float = RTOL
) -> Float64[Tensor, "dimension sample"]:
    """F = diag(γ^{-1/2}) Bᵀ K^{1/2}: the learned embedding of the samples themselves, with F Z Fᵀ = I.

    Raises:
        KernelError: fewer than ``dimensions`` positive eigenvalues; see also `square_root`.
    """
    return kernel_model(kernel_matrix, rtol).embed(dimensions).embeddings


def correlation(
    embeddings: Float[Tensor, "*run dimension sample"],
) -> Float[Tensor, "*run dimension dimension"]:
    """C = F Z Fᵀ, the symmetrised cross-correlation of embeddings of the stacked samples."""
    first, second = embeddings.chunk(2, dim=-1)
    product = first @ second.mT / first.shape[-1]
    return (product + product.mT) / 2


def _pairs(kernel_matrix: Tensor) -> int:
    samples = kernel_matrix.shape[-1]
    if samples % 2 or samples == 0:
        raise KernelError(f"the kernel matrix has {samples} samples; all first views, then all second views")
    return samples // 2


def _sandwich(root: Tensor) -> Tensor:
    """R Z R without multiplying by Z."""
    pairs = _pairs(root)
    product = root[:, :pairs] @ root[pairs:, :]
    return (product + product.mT) / (2 * pairs)
