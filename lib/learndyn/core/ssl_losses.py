"""Losses of joint-embedding self-supervised learning, batched over leading run axes.

A loss is a frozen configuration that is called with the embeddings of the two views:

    >>> BarlowTwinsLoss(off_diagonal_weight=5e-3)(z_a, z_b)

Row i of ``z_a`` and row i of ``z_b``, both ``[*run, pair, dimension]``, are a positive pair. The result has
one value per run (``[*run]``, a scalar for one run); runs do not see each other, so the gradient of the sum
is every run's own gradient. Every loss is symmetric in its two views. Inside `torch.autocast`, and for
embeddings in half precision, the arithmetic is float32; float64 stays float64.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional

from learndyn.core.config import Config
from learndyn.core.errors import PlainError


class SSLLossError(PlainError):
    """An unknown loss, or embeddings of which a loss cannot be taken."""


class SSLLoss(Config):
    """What all losses share: their name, and how they are called."""

    kind: str

    @property
    def centred(self) -> bool:
        """Whether spectra that belong to this loss are those of centred embeddings.

        True where the loss does not restrain the mean embedding, which then shows as a spurious large mode.
        """
        return True

    def __call__(
        self, a: Float[Tensor, "*run pair dimension"], b: Float[Tensor, "*run pair dimension"]
    ) -> Float[Tensor, "*run"]:
        """The loss of each run.

        Args:
            a: embeddings of the first view.
            b: embeddings of the second view, row by row the partners of ``a``.

        Raises:
            SSLLossError: fewer than two pairs, or views of different shapes.
        """
        _check(a, b)
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        device = a.device.type
        # Entered only where needed: small ensembles are all overhead.
        autocast = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if autocast else contextlib.nullcontext():
            return self._value(a.to(dtype), b.to(dtype))

    def _value(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError


class BarlowTwinsTheoryLoss(SSLLoss):
    """Barlow Twins as it can be solved (Simon et al.): L = ‖C − I‖²_F.

    C = (1/2n) Σᵢ (aᵢ bᵢᵀ + bᵢ aᵢᵀ) is symmetrised and neither centred nor normalised. ``centre`` subtracts
    each view's batch mean first; without it, the mean embedding is one of the modes that are learned.
    """

    kind: Literal["barlow_twins_theory"] = "barlow_twins_theory"
    centre: bool = False

    @property
    def centred(self) -> bool:
        """As the loss itself."""
        return self.centre

    def _value(self, a: Tensor, b: Tensor) -> Tensor:
        if self.centre:  # one view would do, but for rounding of large means
            a, b = a - a.mean(-2, keepdim=True), b - b.mean(-2, keepdim=True)
        product = a.mT @ b
        correlation = (product + product.mT) * (0.5 / a.shape[-2])
        identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        return (correlation - identity).square().sum((-2, -1))


class BarlowTwinsLoss(SSLLoss):
    """Barlow Twins as published (Zbontar et al. 2021, eqs. 1–2): Σᵢ (1 − Cᵢᵢ)² + λ Σ_{i≠j} Cᵢⱼ².

    C = (1/n) Σᵢ ãᵢ b̃ᵢᵀ of outputs that are standardised over the batch, with the biased variance plus
    ``eps`` as a batch normalisation does it. λ is ``off_diagonal_weight``. While the variance of the outputs
    is well above ``eps``, their scale does not matter.
    """

    kind: Literal["barlow_twins"] = "barlow_twins"
    off_diagonal_weight: NonNegativeFloat = 5e-3
    eps: PositiveFloat = 1e-5

    def _value(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.stack((a, b))
        both = both - both.mean(-2, keepdim=True)
        variance = both.square().mean(-2, keepdim=True)
        first, second = both * (variance + self.eps).rsqrt()
        correlation = first.mT @ second / a.shape[-2]
        diagonal = correlation.diagonal(dim1=-2, dim2=-1)
        invariance = (diagonal - 1).square().sum(-1)
        redundancy = _off_diagonal(correlation).square().sum((-2, -1))
        return invariance + self.off_diagonal_weight * redundancy


class VICRegLoss(SSLLoss):
    """VICReg (Bardes et al. 2022, eqs. 1–6): invariance, variance hinge, covariance.

    The weights multiply: the mean of (a − b)² over pairs and dimensions; the mean over dimensions and views
    of max(0, 1 − √(Varⱼ + eps)); the sum over views of Σ_{i≠j} Covᵢⱼ² / dimension. Var and Cov are unbiased.
    The hinge is averaged over the views and the covariance term summed, as customary implementations do it.
    """

    kind: Literal["vicreg"] = "vicreg"
    invariance_weight: NonNegativeFloat = 25.0
    variance_weight: NonNegativeFloat = 25.0
    covariance_weight: NonNegativeFloat = 1.0
    eps: Annotated[float, Field(gt=0, lt=1)] = 1e-4

    def _value(self, a: Tensor, b: Tensor) -> Tensor:
        pairs, dimensions = a.shape[-2:]
        both = torch.stack((a, b), -3)
        both = both - both.mean(-2, keepdim=True)
        covariance = both.mT @ both / (pairs - 1)
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        hinge = functional.relu(1 - (variance + self.eps).sqrt()).mean((-2, -1))
        squares = _off_diagonal(covariance).square().sum((-3, -2, -1))
        return (
            self.invariance_weight * (a - b).square().mean((-2, -1))
            + self.variance_weight * hinge
            + self.covariance_weight * (squares / dimensions)
        )


class NTXentLoss(SSLLoss):
    """NT-Xent, the loss of SimCLR (Chen et al. 2020, eq. 1): cross-entropy of finding one's partner.

    Each of the 2n embeddings has the 2n − 1 others as candidates; logits are similarities / ``temperature``.
    ``similarity="inner_product"`` is InfoNCE (van den Oord et al. 2018) on the same candidates, in which the
    scale of the embeddings matters. For the cosine, embeddings shorter than 1e-12 count as zero.
    """

    kind: Literal["ntxent"] = "ntxent"
    temperature: PositiveFloat = 0.5
    similarity: Literal["cosine", "inner_product"] = "cosine"

    def _value(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat((a, b), -2)
        if self.similarity == "cosine":
            both = functional.normalize(both, dim=-1)
        both = both * self.temperature**-0.5
        if self.similarity == "cosine" and 1 / self.temperature <= _SAFE_LOGIT:
            return _without_shift(both)
        logits = both @ both.mT
        # An embedding is no candidate for itself: probability and gradient
        # zero, as every row has others.
        logits.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
        return _of_partners(logits).mean(-1)


# Logits up to here (and sums over millions of candidates) need no shift to stay within float32's range.
_SAFE_LOGIT = 40.0


def _of_partners(
    logits: Float[Tensor, "*run sample sample"],
) -> Float[Tensor, "*run sample"]:
    """Cross-entropy of finding one's partner, which is half of the samples away, in each row of logits."""
    *runs, samples, _ = logits.shape
    partner = torch.arange(samples, device=logits.device).roll(samples // 2)
    rows, partners = logits.flatten(0, -2), partner.repeat(math.prod(runs))
    # torch's fused cross-entropy takes half the time of logsumexp minus the
    # positive logits.
    found = functional.cross_entropy(rows, partners, reduction="none")
    return found.view(*runs, samples)


def _without_shift(z: Float[Tensor, "*run sample dimension"]) -> Float[Tensor, "*run"]:
    """The same for small logits: the logarithm of all candidates' weights minus the positive logit."""
    first, second = z.chunk(2, -2)
    positives = (first * second).sum(-1)
    return _LogPartition.apply(z)[0].mean(-1) - positives.mean(-1)


class _LogPartition(torch.autograd.Function):
    """log Σ_{j≠i} exp(zᵢ·zⱼ) for each row i of z ``[*run, sample, dimension]``, without a shift.

    Also returns the weights exp(zᵢ·zⱼ), zero for j = i, and their sums, for the backward pass: the weights
    are symmetric, so that one product with them gives the gradient of both factors, without a softmax. This
    takes 0.4 of the time of `torch.nn.functional.cross_entropy` on the same logits.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = (z @ z.mT).exp_()
        weights.diagonal(dim1=-2, dim2=-1).zero_()
        totals = weights.sum(-1)
        return totals.log(), weights, totals

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _weights: None, _totals: None) -> Tensor | None:
        if gradient is None:
            return None
        z, weights, totals = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again, so as functions of z
            other = 1 - torch.eye(z.shape[-2], dtype=z.dtype, device=z.device)
            weights = (z @ z.mT).exp() * other
            totals = weights.sum(-1)
        share = (gradient / totals).unsqueeze(-1)
        of_row, of_column = (weights @ torch.cat((z, share * z), -1)).chunk(2, -1)
        return share * of_row + of_column


class SpectralContrastiveLoss(SSLLoss):
    """Spectral contrastive loss (HaoChen et al. 2021): −2 E[aᵢ·bᵢ] + E[(z·z⁻)²].

    With ``negatives="other_pairs"`` z, z⁻ = aᵢ, bⱼ over the n(n − 1) combinations i ≠ j. With ``"all"`` they
    run over all (2n)² combinations of embeddings, also with themselves and their partners; then the loss of a
    linear model is −2 tr WΓWᵀ + ‖WΣWᵀ‖²_F, where Γ is the symmetrised cross-covariance of the views and Σ the
    second moment of all of them. Both have the same expectation up to O(1/n). Where the views are
    equal, Σ = Γ, and the second is the Barlow Twins loss ‖WΓWᵀ − I‖²_F minus the dimension.
    """

    kind: Literal["spectral_contrastive"] = "spectral_contrastive"
    negatives: Literal["other_pairs", "all"] = "other_pairs"

    @property
    def centred(self) -> bool:
        """The loss restrains the mean embedding like any other direction."""
        return False

    def _value(self, a: Tensor, b: Tensor) -> Tensor:
        pairs = a.shape[-2]
        positives = (a * b).sum(-1)
        # Σᵢⱼ (aᵢ·bⱼ)² = ⟨AᵀA, BᵀB⟩: a product of the embedding's size, not of the batch's.
        moment_a, moment_b = a.mT @ a, b.mT @ b
        if self.negatives == "all":
            repulsion = (moment_a + moment_b).square().sum((-2, -1)) / (2 * pairs) ** 2
        else:
            everything = (moment_a * moment_b).sum((-2, -1))
            repulsion = (everything - positives.square().sum(-1)) / (pairs * (pairs - 1))
        return repulsion - 2 * positives.mean(-1)


#: The losses by name.
LOSSES: dict[str, type[SSLLoss]] = {
    kind.model_fields["kind"].default: kind
    for kind in (
        BarlowTwinsTheoryLoss,
        BarlowTwinsLoss,
        VICRegLoss,
        NTXentLoss,
        SpectralContrastiveLoss,
    )
}


def loss(name: str, **parameters: Any) -> SSLLoss:
    """The loss of that name (a key of `LOSSES`) with these parameters.

    Raises:
        SSLLossError: an unknown name; the sentence lists the names and says which one is nearest.
        ConfigError: an unknown parameter or a refused value.
    """
    if name not in LOSSES:
        close = difflib.get_close_matches(name, LOSSES, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise SSLLossError(f"unknown loss {name!r}{meant}; the losses are {', '.join(LOSSES)}")
    return LOSSES[name](**parameters)


def _named(value: object) -> object:
    """A name becomes the loss with its usual parameters; an unknown name or kind gets one sentence."""
    if isinstance(value, str):
        return loss(value)
    if isinstance(value, dict) and isinstance(value.get("kind"), str):
        loss(value["kind"])
    elif not isinstance(value, SSLLoss):
        raise SSLLossError(f"must be a loss or the name of one: {', '.join(LOSSES)}")
    return value


#: The type of a config field that holds a loss; such a field also takes a name (``loss="vicreg"``).
AnyLoss = Annotated[
    Annotated[
        BarlowTwinsTheoryLoss | BarlowTwinsLoss | VICRegLoss | NTXentLoss | SpectralContrastiveLoss,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_named),
]


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim < 2:
        raise SSLLossError(
            f"the embeddings of the two views need one shape [..., pair, dimension], not {list(a.shape)} and "
            f"{list(b.shape)}"
        )
    if a.shape[-2] < 2:
        raise SSLLossError(f"a loss needs at least 2 pairs in a batch, not {a.shape[-2]}")


def _off_diagonal(matrix: Float[Tensor, "*run d d"]) -> Float[Tensor, "*run rows d"]:
    """The d(d − 1) entries off the diagonal, as a view: cut after each diagonal entry, rows have d + 1."""
    d = matrix.shape[-1]
    return matrix.flatten(-2)[..., :-1].unflatten(-1, (d - 1, d + 1))[..., 1:]
