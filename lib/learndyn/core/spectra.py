"""Spectra of embeddings, and what is read off their trajectories: steps, plateaus, ranks, subspaces.

All functions take leading axes (written ``*run``) and compute in float64, whatever they are given, because
eigenvalues below 1e-7 of the largest one are noise in float32. Eigenvalues are sorted in descending order,
signed, never by magnitude: the cross-covariance of two views has negative ones. A run with entries that are
not finite (it diverged) gives NaN and disturbs no other.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int, Real
from torch import Tensor


def cross_covariance(
    x: Float[Tensor, "*run pair feature"], y: Float[Tensor, "*run pair feature"]
) -> Float64[Tensor, "*run feature feature"]:
    """Symmetrised cross-covariance of two views, Γ = (1/2n) Σᵢ (xᵢ yᵢᵀ + yᵢ xᵢᵀ), not centred (Simon et al.).

    It is symmetric but in general not positive semi-definite.
    """
    product = x.double().mT @ y.double()
    return (product + product.mT) / (2 * x.shape[-2])


def cross_correlation(
    a: Float[Tensor, "*run pair dimension"], b: Float[Tensor, "*run pair dimension"], centred: bool = False
) -> Float64[Tensor, "*run dimension dimension"]:
    """The matrix C of Barlow Twins (Simon et al.): C = (1/2n) Σᵢ (aᵢ bᵢᵀ + bᵢ aᵢᵀ).

    Despite its name nothing is divided by standard deviations. ``centred`` subtracts each view's mean.
    """
    a = a.double()
    if centred:  # centring one factor centres the product
        a = a - a.mean(-2, keepdim=True)
    return cross_covariance(a, b)


def embedding_covariance(
    a: Float[Tensor, "*run pair dimension"], b: Float[Tensor, "*run pair dimension"]
) -> Float64[Tensor, "*run dimension dimension"]:
    """Covariance of all 2n embeddings about their common mean, divided by 2n."""
    both = torch.cat((a, b), -2).double()
    both = both - both.mean(-2, keepdim=True)
    return both.mT @ both / both.shape[-2]


def sorted_eigenvalues(matrix: Float[Tensor, "*run row row"]) -> Float64[Tensor, "*run mode"]:
    """Eigenvalues of symmetric matrices in descending order; NaN where a matrix is not finite."""
    matrix, finite = _finite(matrix)
    return torch.where(finite[..., None], torch.linalg.eigvalsh(matrix).flip(-1), torch.nan)


def sorted_eigh(
    matrix: Float[Tensor, "*run row row"],
) -> tuple[Float64[Tensor, "*run mode"], Float64[Tensor, "*run row mode"]]:
    """Eigenvalues (descending) and eigenvectors (the columns) of symmetric matrices; NaN where not finite."""
    matrix, finite = _finite(matrix)
    values, vectors = torch.linalg.eigh(matrix)
    return (
        torch.where(finite[..., None], values.flip(-1), torch.nan),
        torch.where(finite[..., None, None], vectors.flip(-1), torch.nan),
    )


def participation_ratio(eigenvalues: Float[Tensor, "*run mode"]) -> Float64[Tensor, "*run"]:
    """(Σλ)² / Σλ²: a smooth rank, k for k equal eigenvalues. Zero if all of them are zero."""
    shares = _relative(eigenvalues)
    squares = shares.square().sum(-1)
    return torch.where(squares == 0, 0.0, shares.sum(-1).square() / squares)


def effective_rank(eigenvalues: Float[Tensor, "*run mode"]) -> Float64[Tensor, "*run"]:
    """exp of the entropy of λ / Σλ: k for k equal eigenvalues. Zero if none is positive.

    Negative eigenvalues (rounding, in a covariance) count as zero. Roy and Vetterli (2007) take the entropy
    of singular values; here it is that of the eigenvalues, which are the squares of singular values.
    """
    positive = _relative(eigenvalues).clamp(min=0)
    total = positive.sum(-1, keepdim=True)
    entropy = torch.special.entr(positive / total).sum(-1)
    return torch.where(total[..., 0] == 0, 0.0, entropy.exp())


def half_times(
    steps: Real[Tensor, " step"], eigenvalues: Float[Tensor, "*run step mode"]
) -> Float64[Tensor, "*run mode"]:
    """First logged time at which each sorted eigenvalue exceeds half of its final value.

    NaN for an eigenvalue that ends at zero, below, or not finite: it has not been learned.
    """
    first, learned = _first_above_half(eigenvalues.double())
    return torch.where(learned, steps.double()[first], torch.nan)


def clean_plateaus(eigenvalues: Float[Tensor, "*run step mode"]) -> Int[Tensor, "*run"]:
    """How many clean plateaus a trajectory has, out of mode − 1.

    Plateau k is clean if at some logged time eigenvalue k is above 0.5 of its final value while eigenvalue
    k + 1 is below 0.1 of its own. Both must have been learned (final values above zero).
    """
    relative = _of_final(eigenvalues.double())
    return ((relative[..., :-1] > 0.5) & (relative[..., 1:] < 0.1)).any(-2).sum(-1)


def half_separations(eigenvalues: Float[Tensor, "*run step mode"]) -> Float64[Tensor, "*run plateau"]:
    """Eigenvalue k + 1 relative to its final value, at the half time of eigenvalue k; k = 1 … mode − 1.

    Near 0 for separate steps, about 0.5 for simultaneous ones; NaN where either has not been learned.
    """
    eigenvalues = eigenvalues.double()
    first, learned = _first_above_half(eigenvalues)
    following = _of_final(eigenvalues)[..., 1:]
    value = following.gather(-2, first[..., None, :-1])[..., 0, :]
    return torch.where(learned[..., :-1], value, torch.nan)


def subspace_alignment(
    first: Float[Tensor, "*run dimension1 sample"],
    second: Float[Tensor, "*run dimension2 sample"],
    rtol: float | None = None,
) -> Float64[Tensor, "*run"]:
    """How far the row spaces of two embeddings coincide: tr(P₁P₂) / d, in [0, 1] (Simon et al.).

    P₁, P₂ are the orthogonal projections onto the row spaces. d is the larger of the two ranks, so that 1
    means equal spaces and a collapsed embedding gets no credit for the little that it spans. NaN for two zero
    matrices, and where entries are not finite.

    Args:
        rtol: singular values up to this fraction of the largest count as zero; by default the precision of
            the given numbers times the larger side of the matrix.
    """
    rows_1, rank_1 = _row_space(first, rtol)
    rows_2, rank_2 = _row_space(second, rtol)
    shared = (rows_1 @ rows_2.mT).square().sum((-2, -1))
    return shared / torch.maximum(rank_1, rank_2)


def random_alignment(dimensions: int, samples: int) -> float:
    """Expected `subspace_alignment` of a random subspace with any subspace of equal dimension: d / N."""
    return min(dimensions, samples) / samples


def _finite(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The matrices in float64, zero where one is not finite (LAPACK refuses those), and which are finite."""
    finite = matrix.isfinite().all(-1).all(-1)
    return torch.where(finite[..., None, None], matrix.double(), 0.0), finite


def _relative(eigenvalues: Tensor) -> Tensor:
    """Divided by the largest magnitude, so that squares do not underflow; zeros stay zeros."""
    eigenvalues = eigenvalues.double()
    largest = eigenvalues.abs().amax(-1, keepdim=True)
    return eigenvalues / torch.where(largest == 0, 1.0, largest)


def _of_final(eigenvalues: Tensor) -> Tensor:
    """Relative to the final value; NaN, which compares false, for eigenvalues that were not learned."""
    final = eigenvalues[..., -1:, :]
    return torch.where((final > 0) & final.isfinite(), eigenvalues / final, torch.nan)


def _first_above_half(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first step with more than half of the final value, and whether there is one."""
    above = _of_final(eigenvalues) > 0.5
    return above.int().argmax(-2), above.any(-2)


def _row_space(matrix: Tensor, rtol: float | None) -> tuple[Tensor, Tensor]:
    """Orthonormal rows that span the row space, filled up with zero rows; their number, NaN if not finite."""
    if rtol is None:
        rtol = max(matrix.shape[-2:]) * torch.finfo(matrix.dtype).eps
    matrix, finite = _finite(matrix)
    _, singular_values, rows = torch.linalg.svd(matrix, full_matrices=False)
    kept = singular_values > rtol * singular_values[..., :1]
    rank = torch.where(finite, kept.sum(-1).double(), torch.nan)
    return rows * kept[..., None], rank
