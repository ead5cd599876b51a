"""What each loss learns first: the linear dynamics of tiny weights, and one trajectory in closed form.

For a linear model f(x) = Wx every loss here has, at tiny W, a gradient ∇L = −2 WM + higher orders. Gradient
flow then amplifies the direction of an eigenvector of M with the e-folding rate 2 × its eigenvalue, and what
is learned first is the top eigenvector. For Barlow Twins this is how the trajectory of Simon et al., eq. 10,
begins; the other operators are derived here in the same way.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from learndyn.core import spectra
from learndyn.core.errors import PlainError
from learndyn.core.ssl_losses import (
    BarlowTwinsLoss,
    BarlowTwinsTheoryLoss,
    NTXentLoss,
    SpectralContrastiveLoss,
    SSLLoss,
    VICRegLoss,
)


class GrowthError(PlainError):
    """A loss without a limit of small weights, or a quantity missing that this limit depends on."""


def first_step_operator(
    loss: SSLLoss,
    x_a: Float[Tensor, "*run pair input"],
    x_b: Float[Tensor, "*run pair input"],
    head_bias: Float[Tensor, "*run dimension"] | None = None,
    *,
    dimensions: int | None = None,
) -> Float64[Tensor, "*run input input"]:
    """The operator M of a loss, with ∇L = −2 WM for f(x) = Wx and W → 0 (derived).

    Γ is the symmetrised cross-covariance of the inputs, Σ and μ second moment and mean of all 2n of them:

    - Barlow Twins, theory: 2Γ (of centred inputs if the loss centres); standard: (2/eps) Γ_centred, as long
      as the variance of the outputs is far below eps;
    - InfoNCE with inner products: Γₛ / T with Γₛ = Γ − (2n μμᵀ − Σ)/(2n − 1), close to the centred Γ;
    - NT-Xent with cosine similarity: Γₛ / (T |b|²), if a head bias b holds the embeddings f(x) = Wx + b at
      one point. It acts on the part of W that is orthogonal to b: ∇L = −2 (I − bbᵀ/|b|²) WM;
    - VICReg: (var / 2d√eps) Σ_c − (2 inv/d)(Σ − Γ) with Σ_c the unbiased covariance, averaged over the
      views, as long as the variance of the outputs is far below eps;
    - spectral contrastive: 2Γ.

    Args:
        loss: the loss.
        x_a: inputs of the first view.
        x_b: inputs of the second view.
        head_bias: b, for NT-Xent with cosine similarity only.
        dimensions: d of the embedding, which VICReg's means depend on and no other operator does.

    Raises:
        GrowthError: a quantity that this loss needs is missing, a head bias that it has no use for, or a loss
            without such a limit.
    """
    cosine = isinstance(loss, NTXentLoss) and loss.similarity == "cosine"
    if cosine and head_bias is None:
        raise GrowthError(
            "NT-Xent with cosine similarity does not feel the scale of the embeddings and has no limit of "
            "small weights unless a bias holds them at one point; give head_bias"
        )
    if head_bias is not None and not cosine:
        raise GrowthError(
            f"head_bias is for NT-Xent with cosine similarity; without it {loss.kind} starts from zero"
        )
    x_a, x_b = x_a.double(), x_b.double()
    match loss:
        case BarlowTwinsTheoryLoss():
            return 2 * spectra.cross_correlation(x_a, x_b, centred=loss.centre)
        case BarlowTwinsLoss():
            return 2 / loss.eps * spectra.cross_correlation(x_a, x_b, centred=True)
        case SpectralContrastiveLoss():
            return 2 * spectra.cross_covariance(x_a, x_b)
        case NTXentLoss():
            operator = _without_candidates(x_a, x_b) / loss.temperature
            if head_bias is None:
                return operator
            return operator / head_bias.double().square().sum(-1)[..., None, None]
        case VICRegLoss():
            if dimensions is None:
                raise GrowthError("VICReg's rates depend on the dimension of the embedding; give dimensions")
            return _vicreg(loss, x_a, x_b, dimensions)
    raise GrowthError(f"no operator of the first step is known for the loss {loss.kind!r}")


def growth_rates(
    loss: SSLLoss,
    x_a: Float[Tensor, "*run pair input"],
    x_b: Float[Tensor, "*run pair input"],
    head_bias: Float[Tensor, "*run dimension"] | None = None,
    *,
    dimensions: int | None = None,
) -> Float64[Tensor, "*run mode"]:
    """Initial e-folding rates of W along the modes of `first_step_operator`: 2 × its eigenvalues, descending.

    Modes with a negative rate decay. Arguments and errors are those of `first_step_operator`.
    """
    operator = first_step_operator(loss, x_a, x_b, head_bias, dimensions=dimensions)
    return 2 * spectra.sorted_eigenvalues(operator)


def vicreg_threshold(eps: float = 1e-4) -> float:
    """VICReg's ratio of invariance to variance weight above which it ignores nuisance at first: 1 / (4√eps).

    Below it, a direction with variance in which the views do not agree at all is *amplified* from small
    weights (derived, from the operator in `first_step_operator`); 25 for the customary eps = 1e-4.
    """
    return 1 / (4 * math.sqrt(eps))


def spectral_contrastive_trajectory(
    times: Float[Tensor, " step"],
    initial: Float[Tensor, "*run mode"],
    gamma: Float[Tensor, "*run mode"],
    sigma: Float[Tensor, "*run mode"],
) -> Float64[Tensor, "*run step mode"]:
    """s²(t) of each mode under the spectral contrastive loss where Γ and Σ commute (derived).

    For the loss −2 tr WΓWᵀ + ‖WΣWᵀ‖²_F and aligned weights, ds/dt = 4 s (γ − σ² s²), hence
    s² = [σ²/γ + (s(0)⁻² − σ²/γ) e^{−8γt}]⁻¹. Barlow Twins is the case σ = γ (Simon et al., eq. 10).

    Args:
        times: effective times, learning rate × step.
        initial: singular values s(0).
        gamma: eigenvalues of Γ, of either sign.
        sigma: eigenvalues of Σ.
    """
    time = times.double()[:, None]
    start = initial.square().double()[..., None, :]
    gamma = gamma.double()[..., None, :]
    sigma = sigma.double()[..., None, :]
    decay = torch.exp(-8 * gamma * time)
    # (1 − e^{−8γt}) / γ, which is 8t at γ = 0; written so that nothing
    # overflows while modes grow.
    nonzero = torch.where(gamma == 0, 1.0, gamma)
    grown = -torch.expm1(-8 * gamma * time) / nonzero
    grown = torch.where(gamma == 0, 8 * time, grown)
    moved = start / (decay + start * sigma.square() * grown)
    return torch.where(start == 0, 0.0, moved)


def _without_candidates(x_a: Tensor, x_b: Tensor) -> Tensor:
    """Γₛ = Γ − (2n μμᵀ − Σ)/(2n − 1): agreement of partners minus that of an embedding with all others."""
    count = 2 * x_a.shape[-2]
    total = (x_a + x_b).sum(-2)
    square = total[..., :, None] * total[..., None, :]
    others = (square / count - _second_moment(x_a, x_b)) / (count - 1)
    return spectra.cross_covariance(x_a, x_b) - others


def _vicreg(
    loss: VICRegLoss,
    x_a: Tensor,
    x_b: Tensor,
    dimensions: int,
) -> Tensor:
    pairs = x_a.shape[-2]
    centred = (x - x.mean(-2, keepdim=True) for x in (x_a, x_b))
    covariance = _second_moment(*centred) * (pairs / (pairs - 1))
    gamma = spectra.cross_covariance(x_a, x_b)
    disagreement = _second_moment(x_a, x_b) - gamma
    reward = loss.variance_weight / (2 * dimensions * math.sqrt(loss.eps))
    penalty = 2 * loss.invariance_weight / dimensions
    return reward * covariance - penalty * disagreement


def _second_moment(x_a: Tensor, x_b: Tensor) -> Tensor:
    """Σ = (1/2n) Σᵢ (xᵢxᵢᵀ + xᵢ'xᵢ'ᵀ)."""
    return (x_a.mT @ x_a + x_b.mT @ x_b) / (2 * x_a.shape[-2])
