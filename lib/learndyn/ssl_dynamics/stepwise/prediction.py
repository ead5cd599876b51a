"""Embeddings of trained networks, predicted from their own tangent kernel (Simon et al., Table 1).

If a network behaves like the kernel model of its tangent kernel after training, the embeddings that it has
learned span the subspace that Proposition 5.1 gives for that kernel. How far that holds is one number, the
alignment of the two subspaces of R^{2n}.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from learndyn.core import backbones, spectra
from learndyn.core.errors import PlainError
from learndyn.core.pairs import PairSource
from learndyn.core.tangent_kernel import tangent_kernel
from learndyn.ssl_dynamics.stepwise import kernel


class PredictionError(PlainError):
    """Pairs that are not those of one network."""


class Alignment(NamedTuple):
    """How far the embeddings of a network span the subspace that its tangent kernel predicts.

    Attributes:
        raw: a(P_exp, P_th) of embeddings and kernel as they are.
        centred: the same with the mean of each view taken out of both.
        random: what a random subspace has on average, d/(2n).
    """

    raw: float
    centred: float
    random: float


def network_embeddings(network: nn.Module, pairs: PairSource) -> Float[Tensor, "dimension sample"]:
    """F: embeddings of all first views, then all second views, under frozen normalisation.

    Args:
        network: returns (embedding, representation); not changed.
        pairs: their evaluation views; moved to the network's device and precision.

    Raises:
        PredictionError: pairs of several runs.
    """
    network, samples = _frozen(network, pairs)
    with torch.no_grad():
        return network(samples)[0].mT


def network_kernel(
    network: nn.Module,
    pairs: PairSource,
    *,
    outputs: Sequence[int] | None = None,
    block_bytes: int = 2**28,
    samples_at_once: int = 64,
) -> Float64[Tensor, "sample sample"]:
    """K: tangent kernel, averaged over outputs, on the samples of `network_embeddings`.

    Args:
        network: see `network_embeddings`.
        pairs: see there.
        outputs: the outputs to average over; by default all of them.
        block_bytes: see `core.tangent_kernel.tangent_kernel`.
        samples_at_once: see there.

    Raises:
        PredictionError: pairs of several runs.
    """
    network, samples = _frozen(network, pairs)
    return tangent_kernel(
        network, samples, outputs=outputs, block_bytes=block_bytes, samples_at_once=samples_at_once
    )


def _frozen(network: nn.Module, pairs: PairSource) -> tuple[nn.Module, Tensor]:
    """A copy of the network whose output on a sample depends on that sample alone, and the samples.

    Batch normalisation makes a sample's gradient depend on its batch, so its running statistics are set to
    those of one pass of all 2n views.
    """
    views = pairs.evaluation()
    if pairs.runs is not None:
        if pairs.runs != 1:
            raise PredictionError(
                f"these pairs hold the views of {pairs.runs} runs, but one network belongs to one of them: "
                "give pairs.select([run])"
            )
        views = tuple(view[0] for view in views)
    network = copy.deepcopy(network)
    like = next(network.parameters())
    samples = torch.cat([view.to(like) for view in views])
    backbones.freeze_batch_norm(network, samples)
    return network, samples


def predict_embeddings(
    kernel_matrix: Float[Tensor, "sample sample"], dimensions: int, *, centred: bool = False
) -> Float64[Tensor, "dimension sample"]:
    """F_th = diag(γ^{-1/2}) Bᵀ K^{1/2} (Proposition 5.1): what a kernel model learns from a small start.

    Args:
        kernel_matrix: K over all first views, then all second views.
        dimensions: d, of the embedding.
        centred: of the kernel with each view's mean taken out, so that no mode is a view's constant.

    Raises:
        KernelError: not a kernel matrix, or fewer than d positive modes.
    """
    return kernel.predicted_embeddings(
        kernel.centre_views(kernel_matrix) if centred else kernel_matrix, dimensions
    )


def centre_embeddings(embeddings: Float[Tensor, "dimension sample"]) -> Float[Tensor, "dimension sample"]:
    """Embeddings of the stacked samples, the mean of each view taken out."""
    views = embeddings.unflatten(-1, (2, -1))
    return (views - views.mean(-1, keepdim=True)).flatten(-2)


def alignment(
    kernel_matrix: Float[Tensor, "sample sample"], embeddings: Float[Tensor, "dimension sample"]
) -> Alignment:
    """a(P_exp, P_th) = tr(P_exp P_th)/d: row spaces of these embeddings and of those predicted from K.

    d is the number of rows of the embeddings; where they have collapsed to fewer dimensions, the missing ones
    count against the prediction.

    Raises:
        KernelError: see `predict_embeddings`.
    """
    dimensions, samples = embeddings.shape
    # Float64 before anything is subtracted: the embeddings of an early network are nearly constant.
    found = {False: embeddings.double(), True: centre_embeddings(embeddings.double())}
    raw, centred = (
        float(spectra.subspace_alignment(found[c], predict_embeddings(kernel_matrix, dimensions, centred=c)))
        for c in (False, True)
    )
    return Alignment(raw, centred, spectra.random_alignment(dimensions, samples))


def alignment_with_network(
    network: nn.Module,
    pairs: PairSource,
    *,
    kernel_network: nn.Module | None = None,
    block_bytes: int = 2**28,
    samples_at_once: int = 64,
) -> Alignment:
    """An entry of Table 1: alignment of a network's embeddings with those that a tangent kernel predicts.

    Args:
        network: whose embeddings are predicted; returns (embedding, representation).
        pairs: n pairs of views.
        kernel_network: whose tangent kernel predicts, e.g. the network at initialisation; by default the
            network itself, after training, as in the paper.
        block_bytes: see `core.tangent_kernel.tangent_kernel`.
        samples_at_once: see there.

    Raises:
        KernelError: the kernel has fewer positive modes than the embedding has dimensions.
        PredictionError: pairs of several runs.
    """
    matrix = network_kernel(
        network if kernel_network is None else kernel_network,
        pairs,
        block_bytes=block_bytes,
        samples_at_once=samples_at_once,
    )
    return alignment(matrix, network_embeddings(network, pairs))
