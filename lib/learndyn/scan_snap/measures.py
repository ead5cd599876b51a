"""What one measures on attention logits Z: attention weights, entropy, masses, the frequency family, recall.

All functions take the logits ``z[…, query, token]`` of any number of runs and times, in float32 or float64,
and compute in float64. A ``z`` that was padded to more queries or tokens than the task has may be passed.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.special import entr, softmax

from learndyn.scan_snap.classes import SequenceError
from learndyn.scan_snap.task import TaskConfig


def attention_weights(
    task: TaskConfig, z: Float[np.ndarray, "*batch query token"]
) -> Float[np.ndarray, "*batch next support"]:
    """c_n ∝ P(l|n) exp(z_ψ(n)l) on the tokens that class n uses, in the order of `TaskConfig.support_tokens`.

    The attention that the published figures show: infinitely long sequences (Tian et al. 2023, Lemma 2) with
    the true P, not the attention on a sampled sequence. Sums to 1 over ``support``.

    Raises:
        SequenceError: if z has fewer queries or tokens than the task.
    """
    rows, tokens = task.query_of[:, None], task.support_tokens
    logits = _of_task(task, z)[..., rows, tokens]
    return softmax(logits + np.log(task.probabilities), axis=-1)


def distinct_entropy(
    task: TaskConfig, weights: Float[np.ndarray, "*batch next support"]
) -> Float[np.ndarray, "*batch next"]:
    """Entropy (nats) of the attention on a class's distinct tokens, renormalised to 1.

    The published statistic is the mean over ``next``. At most ln 10 with ten distinct tokens; 2.1513 at zero
    logits. NaN where no attention is left on distinct tokens.
    """
    distinct = weights[..., task.distinct_support]
    mass = distinct.sum(axis=-1, keepdims=True)
    none = np.full_like(distinct, np.nan)
    shares = np.divide(distinct, mass, out=none, where=mass > 0)
    return entr(shares).sum(axis=-1)


def distinct_mass(
    task: TaskConfig, weights: Float[np.ndarray, "*batch next support"]
) -> Float[np.ndarray, "*batch next"]:
    """Attention of a class on its distinct tokens together."""
    return weights[..., task.distinct_support].sum(axis=-1)


def common_mass(
    task: TaskConfig, weights: Float[np.ndarray, "*batch next support"]
) -> Float[np.ndarray, "*batch next"]:
    """Attention of a class on the tokens that it shares with others, together."""
    return weights[..., : task.distinct_support.start].sum(axis=-1)


def summary(task: TaskConfig, attention: xr.DataArray) -> xr.Dataset:
    """All of the above from logits with dimensions ``query`` and ``token`` (and any others, which stay).

    Returns:
        ``attention_weights[…, next, support]``, and ``distinct_entropy``, ``common_mass``, ``distinct_mass``
        ``[…]``, means over the classes; ``token`` ``[next, support]`` are the ids of the tokens.
    """
    logits = attention.transpose(..., "query", "token")
    others = logits.dims[:-2]
    weights = attention_weights(task, logits.to_numpy())
    means = {
        "distinct_entropy": (others, distinct_entropy(task, weights).mean(axis=-1), {"units": "nats"}),
        "common_mass": (others, common_mass(task, weights).mean(axis=-1)),
        "distinct_mass": (others, distinct_mass(task, weights).mean(axis=-1)),
    }
    kept = {
        name: coordinate for name, coordinate in logits.coords.items() if set(coordinate.dims) <= set(others)
    }
    tokens = {"token": (("next", "support"), task.support_tokens)}
    return xr.Dataset(
        {"attention_weights": ((*others, "next", "support"), weights)} | means, coords=kept | tokens
    )


def family_curve(
    relative: Float[np.ndarray, "distinct"],
    chi0: Float[np.ndarray, "*batch"] | float,
) -> Float[np.ndarray, "*batch distinct"]:
    """Shares of distinct tokens that the conservation law allows, one curve for each χ₀ (sum 1).

    From zero logits, c_l ∝ P_l / √(1 − (P_l/P_0)² (1 − 1/χ₀)), where token 0 is the most frequent one and
    χ₀ = exp(2 z_0): derived from Tian et al. 2023, Theorem 3. χ₀ = 1 is the start; χ₀ → ∞ would be
    winner takes all.

    Args:
        relative: P_l / P_0, at most 1.
        chi0: positive and finite.
    """
    squares = relative**2
    # 1 − p² (1 − 1/χ₀) without the cancellation at p = 1
    remaining = (1 - squares) + squares / np.asarray(chi0)[..., None]
    weights = relative / np.sqrt(remaining)
    return weights / weights.sum(axis=-1, keepdims=True)


def invariant(
    z: Float[np.ndarray, "*batch distinct"],
    probabilities: Float[np.ndarray, "*#batch distinct"],
) -> Float[np.ndarray, "*batch distinct"]:
    """(e^{−2 z_l} − 1) / P_l² of the distinct tokens of one class, from logits that started at zero.

    Equivalent to Tian et al. 2023, Theorem 3: under the theorem's attention dynamics it is the same number
    for all distinct tokens of a class at any time; under the plain gradient only approximately.
    """
    return np.expm1(-2 * z.astype(np.float64)) / probabilities**2


def recall(
    task: TaskConfig,
    z: Float[np.ndarray, "*batch query token"],
    thresholds: Float[np.ndarray, "threshold"],
) -> Float[np.ndarray, "*batch threshold"]:
    """Recall of distinct tokens when every token with an attention of at least the threshold is called one.

    Figures 11 and 12 of Tian et al. 2023: softmax of the query's row of Z over all M tokens; the fraction of
    a class's distinct tokens at or above the threshold; mean over classes. NaN where logits are. (The
    definition is inferred from the text; it reproduces the published axes.)

    Raises:
        SequenceError: if z has fewer queries or tokens than the task.
    """
    attention = softmax(_of_task(task, z), axis=-1)
    rows = task.query_of[:, None]
    tokens = task.support_tokens[:, task.distinct_support]
    distinct = attention[..., rows, tokens]
    # A comparison with NaN is false: a run that diverged would have the recall 0 of one that finds nothing.
    found = np.where(np.isnan(distinct)[..., None], np.nan, distinct[..., None] >= thresholds)
    return found.mean(axis=(-3, -2))


def _of_task(
    task: TaskConfig, z: Float[np.ndarray, "*batch padded_query padded_token"]
) -> Float[np.ndarray, "*batch query token"]:
    if z.shape[-2] < task.queries or z.shape[-1] < task.vocabulary:
        raise SequenceError(
            f"attention logits of {z.shape[-2]} queries and {z.shape[-1]} tokens do not belong to a task "
            f"with {task.queries} queries and {task.vocabulary} tokens"
        )
    return z[..., : task.queries, : task.vocabulary].astype(np.float64)
