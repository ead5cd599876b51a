"""Small experiments of the notebook "The model and its two ingredients": each lemma against the model itself,
evaluated on one-hot sequences, differentiated automatically, trained, or integrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learndyn.core.device import generator
from learndyn.scan_snap import attention_ode, decoder, flow, gradients, symmetric
from learndyn.scan_snap.classes import Classes, symmetric_classes
from learndyn.scan_snap.task import TaskConfig

PROFILE = (0.5, 0.3, 0.1)  # weights of distinct tokens where any would do


# ---------------------------------------------------------------------------- the model, and Lemma 1


def one_hot_likelihood(
    sequence: Float[Tensor, "position token"],
    decoder: Float[Tensor, "token token"],
    attention: Float[Tensor, "token token"],
    query: int,
    next_token: int,
) -> Float[Tensor, ""]:
    """log α of the next token, as the paper writes the model: one-hot rows, softmax over positions."""
    weights = (sequence @ attention[query]).softmax(dim=0)
    combined = sequence.mT @ weights
    logits = decoder.mT @ (combined / combined.norm())
    return logits[next_token] - logits.logsumexp(dim=0)


def count_likelihood(
    counts: Float[Tensor, "token"],
    decoder: Float[Tensor, "token token"],
    z: Float[Tensor, "token"],
    next_token: int,
) -> Float[Tensor, ""]:
    """The same from how often each token occurs."""
    weights = (z + counts.log()).softmax(dim=0)
    return (decoder.mT @ (weights / weights.norm())).log_softmax(dim=0)[next_token]


class Lemma1(NamedTuple):
    """Largest absolute differences over random sequences and weights, in float64."""

    sequences: int
    likelihood: float  # counts against one-hot rows
    decoder: float  # gradient of Y, lemma against automatic differentiation
    attention: float  # gradient of Z, all rows
    row_sum: float  # of either gradient, from 0


def check_lemma1(sequences: int = 20, vocabulary: int = 12, length: int = 16, seed: int = 0) -> Lemma1:
    """Random sequences and weights: count vectors and Lemma 1 against the one-hot model and autograd."""
    draw = generator(seed, "ingredients, Lemma 1")
    gaps = []
    for _ in range(sequences):
        tokens = torch.randint(vocabulary, (length - 1,), generator=draw)
        query, label = torch.randint(vocabulary, (2,), generator=draw)
        Y, Z = torch.randn(2, vocabulary, vocabulary, generator=draw, dtype=torch.float64).requires_grad_()
        one_hot = torch.nn.functional.one_hot(tokens, vocabulary).double()
        value = one_hot_likelihood(one_hot, Y, Z, int(query), int(label))
        true_Y, true_Z = torch.autograd.grad(value, (Y, Z))
        counts = one_hot.sum(dim=0)
        ours = gradients.per_sample_gradients(counts, Y.detach(), Z.detach()[query], label)
        all_rows = torch.zeros_like(true_Z).index_put((query,), ours.attention)
        sums = torch.cat([ours.decoder.sum(dim=1), ours.attention.sum(dim=0, keepdim=True)])
        differences = (
            value - count_likelihood(counts, Y, Z[query], int(label)),
            ours.decoder - true_Y,
            all_rows - true_Z,
            sums,
        )
        gaps.append([float(difference.detach().abs().max()) for difference in differences])
    return Lemma1(sequences, *(max(column) for column in zip(*gaps, strict=True)))


def initial_loss(task: TaskConfig, sequences: int, seed: int) -> float:
    """Mean loss of the one-hot model on sampled sequences at Y = Z = 0."""
    draw = generator(seed, "ingredients, initial loss")
    zero = torch.zeros(task.vocabulary, task.vocabulary, dtype=torch.float64)
    probabilities = torch.from_numpy(task.probabilities)
    losses = []
    for _ in range(sequences):
        n = int(torch.randint(task.classes, (), generator=draw))
        places = torch.multinomial(probabilities, task.sequence_length - 1, replacement=True, generator=draw)
        tokens = torch.from_numpy(task.support_tokens[n])[places]
        one_hot = torch.nn.functional.one_hot(tokens, task.vocabulary).double()
        query, label = int(task.query_tokens[task.query_of[n]]), int(task.next_tokens[n])
        losses.append(-float(one_hot_likelihood(one_hot, zero, zero, query, label)))
    return float(np.mean(losses))


# ---------------------------------------------------------------------------- the decoder at frozen attention


def train_decoder(vocabulary: int, rates: Sequence[float], steps: int, seed: int = 0) -> xr.Dataset:
    """Gradient ascent on Y for one class at frozen attention, by autograd, batch size 1 (Figure 8).

    Returns:
        What `decoder.staircases` returns, and ``trained[run, step]``, h* as read off the trained Y: the lead
        of the next token's logit over the mean of the others, over M; ``spread[run, step]``, the largest
        difference among the logits of the others (0 by Lemma 5).
    """
    draw = generator(seed, "ingredients, decoder")
    unit = torch.rand(4, generator=draw, dtype=torch.float64) + 0.1
    unit = unit / unit.norm()  # f, which Lemma 5 says does not matter
    speed = torch.tensor(rates, dtype=torch.float64)[:, None, None]
    Y = torch.zeros(len(rates), 4, vocabulary, dtype=torch.float64, requires_grad=True)
    trained, spread = (torch.zeros(len(rates), steps + 1, dtype=torch.float64) for _ in range(2))
    for step in range(steps + 1):
        logits = torch.einsum("l,rlp->rp", unit, Y)
        others = logits[:, 1:].detach()
        trained[:, step] = (logits[:, 0].detach() - others.mean(dim=1)) / vocabulary
        spread[:, step] = others.amax(dim=1) - others.amin(dim=1)
        (gradient,) = torch.autograd.grad(logits.log_softmax(dim=1)[:, 0].sum(), Y)
        Y = (Y.detach() + speed * gradient).requires_grad_()
    curves = decoder.staircases(steps, vocabulary, np.asarray(rates, dtype=np.float64))
    return curves.assign(trained=(("run", "step"), trained.numpy()), spread=(("run", "step"), spread.numpy()))


def end_table(curves: xr.Dataset) -> pd.DataFrame:
    """M h* and M h at the end of Figure 8, one row for each rate."""
    end, size = curves.isel(step=-1), curves.attrs["vocabulary"]
    columns = {name: size * end[name].values for name in ("trained", "h_discrete", "h")}
    return pd.DataFrame({"decoder_rate": end["decoder_rate"].values} | columns)


def staircase_gaps(vocabulary: int, rates: Sequence[float], scaled_time: float = 40.0) -> pd.DataFrame:
    """(h* − h) M/η_Y along η_Y t, which the paper bounds by 2: long table, one row for each step."""
    parts = []
    for rate in rates:
        steps = int(np.ceil(scaled_time / rate))
        curves = decoder.staircases(steps, vocabulary, np.array([float(rate)])).isel(run=0)
        gap = (curves["h_discrete"] - curves["h"]).values * vocabulary / rate
        scaled = rate * np.arange(steps + 1)
        parts.append(pd.DataFrame({"scaled_time": scaled, "gap": gap, "decoder_rate": rate}))
    return pd.concat(parts, ignore_index=True).assign(vocabulary=vocabulary)


def overlapping_classes(classes: int, vocabulary: int, overlap: float) -> Classes:
    """Classes behind one query with one common token, whose weight makes f_n·f_k the overlap given."""
    weight = symmetric.common_weight(overlap, PROFILE)
    return symmetric_classes(classes, vocabulary, classes, [float(weight)], PROFILE)


def frozen_losses(
    classes: int,
    vocabulary: int,
    decoder_rate: float,
    overlaps: Sequence[float],
    times: Float[np.ndarray, "time"],
) -> xr.Dataset:
    """Loss of the full flow of Y at frozen attention, under both updates, beside the closed form.

    Returns:
        ``decorrelated[overlap, time]`` (Theorem 1's update) and ``gradient[overlap, time]``;
        ``closed_form[time]`` and its limit ``limit[time]``, (M−1)/M K/(η_Y t).
    """
    found: dict[str, list[np.ndarray]] = {"decorrelated": [], "gradient": []}
    for overlap in overlaps:
        task = overlapping_classes(classes, vocabulary, overlap)
        for update, losses in found.items():
            solution = flow.solve(
                task,
                times,
                decoder_rate=decoder_rate,
                attention_rate=1.0,
                update=update,
                frozen_attention=True,
            )
            losses.append(solution["loss"].values)
    with np.errstate(divide="ignore"):
        limit = (vocabulary - 1) / vocabulary * classes / (decoder_rate * times)
    return xr.Dataset(
        {name: (("overlap", "time"), np.stack(losses)) for name, losses in found.items()}
        | {
            "closed_form": ("time", decoder.loss(times, vocabulary, decoder_rate, classes)),
            "limit": ("time", limit),
        },
        coords={"overlap": list(overlaps), "time": times},
        attrs={"classes": classes, "vocabulary": vocabulary, "decoder_rate": decoder_rate},
    )


def precision_table(
    precisions: Sequence[float], classes: int, vocabulary: int, decoder_rate: float, overlap: float = 0.03
) -> pd.DataFrame:
    """Corollary 1: when the error reaches each precision, and what the flow measures then.

    Columns: ``precision``; ``time`` in closed form; ``measured``, ‖e_n − α_n‖ of the decorrelated flow then
    (largest over classes); ``order``, K/(ε η_Y) ln(M/ε); ``sum``, K/η_Y (1/ε + ln(M/ε)).
    """
    wanted = np.sort(np.asarray(precisions, dtype=np.float64))[::-1]
    time, order = decoder.time_to_precision(wanted, vocabulary, decoder_rate, classes)
    task = overlapping_classes(classes, vocabulary, overlap)
    solution = flow.solve(
        task,
        time,
        decoder_rate=decoder_rate,
        attention_rate=1.0,
        update="decorrelated",
        frozen_attention=True,
    )
    # e_n − α_n is a multiple of ζ_n here, so that its own component gives its norm
    norm = solution["error"].max("next").values * np.sqrt(vocabulary / (vocabulary - 1))
    total = classes / decoder_rate * (1 / wanted + np.log(vocabulary / wanted))
    return pd.DataFrame({"precision": wanted, "time": time, "measured": norm, "order": order, "sum": total})


# ---------------------------------------------------------------------------- the signal to attention


def measured_signal(task: Classes, times: Float[np.ndarray, "time"], decoder_rate: float) -> xr.Dataset:
    """The signal Y(e_n − α_n) under Theorem 1's update at frozen attention, from the integrated Y.

    Returns:
        ``gamma[time, next]``, the coefficient of f_n over ι_n; ``strength[time, next]``, that of −f_k, γβ_nk
        (mean over k ≠ n); ``closed_form[time]``, γ, and ``strength_theory[time, next]``, γ times that mean
        of β_nk.
    """
    solution = flow.solve(
        task,
        times,
        decoder_rate=decoder_rate,
        attention_rate=1.0,
        update="decorrelated",
        frozen_attention=True,
        keep_decoder=True,
    )
    K, M = task.classes, task.vocabulary
    unit = task.unit(np.zeros((task.queries, M)))[:, solution["contextual"].values]
    multiplicity = np.append(np.ones(K), M - K)
    Y = solution["decoder"].values  # [time, contextual, column]
    logits = unit @ Y
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    error = -odds / (odds @ multiplicity)[..., None]
    own = np.arange(K)
    error[:, own, own] = 0
    error[:, own, own] = -(error @ multiplicity)
    signal = np.einsum("tlc,tnc->tnl", Y * multiplicity, error)
    overlaps = unit @ unit.T
    coefficients = np.linalg.solve(overlaps, unit @ signal.swapaxes(1, 2))  # [time, k, n]
    iota, beta = decoder.signal_coefficients(overlaps, M)
    diagonal = coefficients[:, own, own]
    strength = (diagonal - coefficients.sum(axis=1)) / (K - 1)
    gamma = decoder.gamma(times, M, decoder_rate, K)
    return xr.Dataset(
        {
            "gamma": (("time", "next"), diagonal / iota),
            "strength": (("time", "next"), strength),
            "closed_form": ("time", gamma),
            "strength_theory": (("time", "next"), gamma[:, None] * beta.sum(axis=1) / (K - 1)),
        },
        coords={"time": times},
        attrs={"vocabulary": M, "classes": K, "decoder_rate": decoder_rate},
    )


def signal_table(vocabularies: Sequence[int], points: int = 400) -> pd.DataFrame:
    """The largest γ for some M, measured on two weakly overlapping classes, beside the theory's times.

    Times are in units of K/η_Y. Columns: ``vocabulary``; ``peak`` and ``height``, measured; ``peak_theory``
    and ``height_theory``; ``lower`` = 2 ln M and ``upper`` = 2 (1+ω₁) ln M, the paper's bracket; ``early``
    and ``late``, measured γ over the paper's asymptotes where it stops and where it starts to use them, at
    ln M and at ``upper``; ``early_limit`` and ``late_limit``, the same at a hundredth of the unit and at a
    thousand peak times, over (M−1)²/M².
    """
    rows = []
    for size in vocabularies:
        top = decoder.peak(size, 1.0)
        lower, upper = (float(time) for time in decoder.transition_bracket(size, 1.0))
        ends = np.array([0.01, np.log(size), upper, 1000 * float(top.time)])
        times = np.unique(np.concatenate([np.geomspace(0.5, 20, points), ends]))
        measured = measured_signal(overlapping_classes(2, size, 0.03), 2 * times, 1.0)["gamma"].values[:, 0]
        place = int(measured.argmax())
        fit = np.polyfit(np.log(times[place - 1 : place + 2]), measured[place - 1 : place + 2], 2)
        gamma = dict(zip(times, measured, strict=True))
        before, after = decoder.gamma_asymptotes(ends, size, 1.0)
        early, early_end, late_start, late = (gamma[end] for end in ends)
        factor = ((size - 1) / size) ** 2
        rows.append(
            {
                "vocabulary": size,
                "peak": float(np.exp(-fit[1] / (2 * fit[0]))),
                "height": float(measured[place]),
                "peak_theory": float(top.time),
                "height_theory": float(top.gamma),
                "lower": lower,
                "upper": upper,
                "early": early_end / before[1],
                "late": late_start / after[2],
                "early_limit": early / before[0] / factor,
                "late_limit": late / after[3] / factor,
            }
        )
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------- scan and snap


def growth_of_ratios(
    task: TaskConfig, times: Float[np.ndarray, "time"], decoder_rate: float, attention_rate: float
) -> xr.Dataset:
    """By what factor r = f_l²/f_l'² − 1 has grown, for the most frequent distinct token l of the first class.

    Dynamics "lemma4" (attention by itself, Lemma 4) and "gradient" (the full gradient flow).

    Returns:
        ``growth[dynamics, time, token]`` for each other distinct token l' (coordinate ``relative``, its
        frequency over that of l), and ``chi[dynamics, time]``, e^{2z} of token l.
    """
    classes = task.to_classes()
    rates = {"decoder_rate": decoder_rate, "attention_rate": attention_rate}
    solutions = {
        "lemma4": attention_ode.solve(classes, times, **rates),
        "gradient": flow.solve(classes, times, **rates),
    }
    own = task.support_tokens[0, task.distinct_support]
    growth, chi = [], []
    for solution in solutions.values():
        z = solution["attention"].values
        unit = classes.unit(z)[:, 0, own]
        ratio = (unit[:, -1:] / unit[:, :-1]) ** 2 - 1
        start = classes.probabilities[0, own]
        growth.append(ratio / ((start[-1] / start[:-1]) ** 2 - 1))
        chi.append(np.exp(2 * z[:, 0, own[-1]]))
    relative = classes.probabilities[0, own[:-1]] / classes.probabilities[0, own[-1]]
    return xr.Dataset(
        {"growth": (("dynamics", "time", "token"), np.stack(growth)), "chi": (("dynamics", "time"), chi)},
        coords={"dynamics": list(solutions), "time": times, "relative": ("token", relative)},
        attrs=rates,
    )


def moved(flow: xr.Dataset, begin: float, end: float) -> float:
    """How much attention has changed hands between two multiples of t*: half the sum of |Δc| over tokens."""
    before, after = (flow["attention_weights"].values[_place(flow, moment)] for moment in (begin, end))
    return float(np.abs(after - before).sum() / 2)


def moved_since_peak(run: xr.Dataset, clock: str) -> tuple[float, float]:
    """`moved` until ten times the moment at which attention is fastest, and from there to a hundred times it.

    ``clock`` names the dimension of time; a run that ends earlier is taken at its end.
    """
    time = run[clock].values
    peak = time[int(run["attention_speed"].values.argmax())]
    weights = run["attention_weights"].transpose(clock, "support").values
    start, middle, end = (
        weights[int(np.abs(time - moment).argmin())] for moment in (0, 10 * peak, 100 * peak)
    )
    return float(np.abs(middle - start).sum() / 2), float(np.abs(end - middle).sum() / 2)


def at_multiple(flow: xr.Dataset, moment: float) -> xr.Dataset:
    """The flow at the time closest to a multiple of t* (on the logarithmic scale)."""
    return flow.isel(time=_place(flow, moment))


def _place(flow: xr.Dataset, moment: float) -> int:
    scale = np.log(np.maximum(flow["multiple"].values, 1e-6))
    return int(np.abs(scale - np.log(max(moment, 1e-6))).argmin())
