"""The two ingredients of the theory: the gradient of one sequence, and what long sequences tend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from learndyn.scan_snap.classes import Classes, SequenceError


class SampleGradients(NamedTuple):
    """Ascent directions of J = log α_next for one sequence."""

    #: ∂J/∂Y, ``[…, token (contextual), token (predicted)]``.
    decoder: Tensor
    #: ∂J/∂z of the query's row of Z (the other rows have none), ``[…, token]``.
    attention: Tensor


def per_sample_gradients(
    counts: Float[Tensor, "*batch token"],
    decoder: Float[Tensor, "*batch token token"],
    z: Float[Tensor, "*batch token"],
    next_token: Int[Tensor, "*batch"],
) -> SampleGradients:
    """Gradients of the log-likelihood of one sequence (Tian et al. 2023, Lemma 1), from its token counts.

    With f = c/‖c‖, c_l ∝ N_l e^{z_l} and α = softmax(Yᵀf): ∂J/∂Y = f (e_n − α)ᵀ and, with g = Y (e_n − α),
    ∂J/∂z = f ⊙ (g − f (f·g)). Attention depends on the identity of a token only, so the counts N_l hold all
    that the one-hot sequence X does. Rows of both sum to 0; tokens that do not occur get exactly 0.

    Args:
        counts: how often every token occurs among the contextual tokens; at least one must.
        decoder: Y, rows are contextual and columns predicted tokens.
        z: the attention logits of the query.
        next_token: the id of the next token n, the label.

    Raises:
        SequenceError: counts of a sequence without a token.
    """
    if not bool((counts > 0).any(dim=-1).all()):
        raise SequenceError("every sequence needs a contextual token; all counts of one are 0")
    weights = (z + torch.log(counts)).softmax(dim=-1)
    unit = weights / torch.linalg.vector_norm(weights, dim=-1, keepdim=True)
    alpha = torch.einsum("...l,...lp->...p", unit, decoder).softmax(dim=-1)
    # e_n − α with 1 − α_n as the sum of the others:
    # the difference loses all digits once training has succeeded.
    label = next_token[..., None]
    others = alpha.scatter(-1, label, 0.0)
    error = (-others).scatter(-1, label, others.sum(dim=-1, keepdim=True))
    signal = torch.einsum("...lp,...p->...l", decoder, error)
    along = (unit * signal).sum(dim=-1, keepdim=True)
    outer = unit[..., :, None] * error[..., None, :]
    return SampleGradients(outer, unit * (signal - unit * along))


def length_error(
    classes: Classes,
    lengths: Sequence[int],
    draws: int = 1000,
    seed: int = 0,
    *,
    z: Float[np.ndarray, "query token"] | None = None,
    failure: float = 0.05,
) -> xr.Dataset:
    """How far sampled sequences are from infinitely long ones (Tian et al. 2023, Lemma 2).

    Args:
        classes: where the sequences come from.
        lengths: sequence lengths T; a sequence has T − 1 contextual tokens.
        draws: sequences of every class and length.
        seed: of the draws.
        z: attention logits, zero if None.
        failure: δ, the probability with which the lemma's bound may fail.

    Returns:
        ``attention_error[length, next]``: mean over draws of ‖Xᵀb − c_n‖₂, which falls as 1/√(T − 1);
        ``frequency_error[length, next]``: the 1 − δ quantile of |q_l − P(l|n)| (q_l is the frequency of a
        token in the sequence) for the token where it is largest; ``bound[length]``: what the lemma allows it,
        √(ln(2/δ) / (2 (T − 1))).

    Raises:
        SequenceError: a length below 2, which leaves no contextual token, or that is no whole number; no
            draws; a failure that is no probability between 0 and 1.
    """
    if len(lengths) == 0 or any(length < 2 or length != int(length) for length in lengths):
        raise SequenceError(f"sequence lengths must be whole numbers, at least 2, not {list(lengths)}")
    if draws < 1 or not 0 < failure < 1:
        raise SequenceError(
            f"draws must be at least 1 and failure between 0 and 1, not {draws} and {failure:g}"
        )
    logits = np.zeros((classes.queries, classes.vocabulary)) if z is None else z.astype(np.float64)
    generator = np.random.default_rng(seed)
    shape = (len(lengths), classes.classes)
    attention, frequency = np.empty(shape), np.empty(shape)
    for i, length in enumerate(lengths):
        for n in range(classes.classes):
            used = classes.probabilities[n] > 0
            exact = classes.probabilities[n, used]
            factors = logits[classes.query[n], used]
            factors = np.exp(factors - factors.max())
            sampled = generator.multinomial(length - 1, exact / exact.sum(), size=draws) / (length - 1)
            distance = _normalised(sampled * factors) - _normalised(exact * factors)
            attention[i, n] = np.linalg.norm(distance, axis=-1).mean()
            frequency[i, n] = np.quantile(np.abs(sampled - exact), 1 - failure, axis=0).max()
    bound = np.sqrt(np.log(2 / failure) / (2 * (np.asarray(lengths) - 1)))
    return xr.Dataset(
        {
            "attention_error": (("length", "next"), attention),
            "frequency_error": (("length", "next"), frequency),
            "bound": ("length", bound),
        },
        coords={"length": list(lengths)},
        attrs={"draws": draws, "failure": failure},
    )


def _normalised(weights: Float[np.ndarray, "*batch token"]) -> Float[np.ndarray, "*batch token"]:
    return weights / weights.sum(axis=-1, keepdims=True)
