"""Which words a language model attends to: the paper's tokens and their logits, measured on real text.

The attention of the lowest layer is looked at on fixed windows of the validation text. The *gain* of a word,
the logarithm of its share of the attention over its share if all visible words were attended alike, stands
for the logit z of a token, up to a constant. How *specific* a word is, the information that its presence in
the window carries about the next word, tells distinct from common. Derived; the paper has no such
measurements on text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.stats import rankdata
from torch import Tensor

from learndyn.core import transformer
from learndyn.core.device import generator
from learndyn.core.text import LanguageData
from learndyn.core.text_settings import TextConfig
from learndyn.core.text_training import Measure

#: Training frequencies that part the words into bins.
FREQUENCY_EDGES = (3e-4, 1e-3, 3e-3, 1e-2)
#: Words rarer than this in the training text, or in the probed windows, are not correlated.
MIN_COUNT, MIN_EXPOSURE = 20, 1.0
PLACES = ("self", "previous", "first")
COMPARED = ("measured", "if places counted")


# --- words of a text ---


def words(data: LanguageData, reach: int, windows: int) -> xr.Dataset:
    """The vocabulary as the attention meets it, over ``token``.

    ``word``, ``count`` and ``frequency`` (in the training text), ``specificity`` (nats, `specificity`) and
    ``exposure``: the attention that the word would receive in the probed windows if every row were uniform
    over what it sees. A row's own word is not counted as received.
    """
    ids = data.train.ids.cpu().numpy()
    count = np.bincount(ids.ravel(), minlength=len(data.vocabulary))
    inputs = probe_inputs(data, reach, windows)
    uniform = torch.ones(reach, reach).tril() / torch.arange(1, reach + 1)[:, None]
    exposure = _received(uniform.expand(1, len(inputs), reach, reach), inputs, len(count))[0]
    return xr.Dataset(
        {
            "count": ("token", count),
            "frequency": ("token", count / ids.size),
            "specificity": ("token", specificity(ids, reach, len(count))),
            "exposure": ("token", exposure.numpy().astype(float)),
        },
        coords={"word": ("token", np.array(data.vocabulary.types))},
    )


def specificity(
    ids: Int[np.ndarray, "column position"], reach: int, vocabulary: int
) -> Float[np.ndarray, " token"]:
    """How much a word in the last ``reach`` − 1 places says about the next word, in nats.

    The divergence KL(P(next | word) ‖ P(next)), less what the same number of draws would give if the word
    said nothing, measured on the text shifted against itself. Zero in the mean for a word that is common to
    all contexts; large for one that occurs before few next words only, the paper's distinct token.
    """
    length = ids.shape[1]
    shifts = [length // 3, 2 * length // 3]
    chance = [_information(_followers(ids, reach, vocabulary, shift)) for shift in shifts]
    return _information(_followers(ids, reach, vocabulary, 0)) - np.mean(chance, axis=0)


def _followers(ids: Int[np.ndarray, "column position"], reach: int, vocabulary: int, shift: int) -> csr_array:
    """How often each word (row) stands 1 to ``reach`` − 1 places before each other (column)."""
    after = np.roll(ids, -shift, axis=1)
    total = csr_array((vocabulary, vocabulary), dtype=np.float64)
    for lag in range(1, reach):
        pairs = (ids[:, :-lag].ravel(), after[:, lag:].ravel())
        total = total + coo_array((np.ones(len(pairs[0])), pairs), shape=total.shape).tocsr()
    return total


def _information(counts: csr_array) -> Float[np.ndarray, " token"]:
    """KL(P(column | row) ‖ P(column)) of each row."""
    pairs = counts.tocoo()
    whole, each = (np.asarray(counts.sum(axis)).ravel() for axis in (0, 1))
    share = pairs.data / each[pairs.row]
    terms = share * np.log(share / (whole[pairs.col] / whole.sum()))
    return np.bincount(pairs.row, weights=terms, minlength=len(each))


# --- probes of the lowest layer's attention ---


def probe_inputs(data: LanguageData, length: int, windows: int) -> Int[Tensor, "column position"]:
    """The first windows of the validation text, all columns of all of them, one after another."""
    stream = data.validation
    count = min(windows, stream.windows(length, drop_short=True))
    return torch.cat([stream.window(index, length)[0] for index in range(count)])


def lowest_attention(
    parameters: Mapping[str, Float[Tensor, "run ..."]],
    inputs: Int[Tensor, "column position"],
    architecture: transformer.Architecture,
) -> Float[Tensor, "run column query_position key_position"]:
    """The attention weights of the lowest layer, mean over its heads, without dropout."""
    weights: list[Tensor] = []
    embedded = transformer.embed(parameters["embedding"], inputs)
    lowest = replace(architecture, layers=1)
    transformer.encode(parameters, embedded, lowest, inputs.shape[1], weights=weights)
    return weights[0].mean(2)


def _received(
    weights: Float[Tensor, "run column query_position key_position"],
    inputs: Int[Tensor, "column position"],
    vocabulary: int,
) -> Float[Tensor, "run token"]:
    """The attention that each word receives from later positions."""
    total = weights.tril(-1).sum(2).flatten(1)
    received = total.new_zeros(len(total), vocabulary)
    return received.index_add_(1, inputs.flatten().to(total.device), total)


def _places(
    weights: Float[Tensor, "run column query_position key_position"],
) -> Float[Tensor, "run place"]:
    """Mean weight of the row's own word, of the one before it and of the window's first, from row 2 on."""
    late = weights[:, :, 1:]
    own, previous = (late.diagonal(offset, 2, 3) for offset in (1, 0))
    return torch.stack([part.flatten(1).mean(1) for part in (own, previous, late[..., 0])], 1)


class Shuffle:
    """The windows with all but their last word in another order, to tell words from places.

    A layer that attends to words, as the paper's does, gives each word what it gave before.
    """

    def __init__(self, inputs: Int[Tensor, "column position"], seed: int = 0) -> None:
        source = generator(seed, "shuffled windows")
        last = torch.tensor([inputs.shape[1] - 1])
        orders = [torch.cat([torch.randperm(int(last), generator=source), last]) for _ in inputs]
        self.order = torch.stack(orders).to(inputs.device)
        self.inputs = inputs
        self.shuffled = inputs.gather(1, self.order)
        same = (inputs[:, :, None] == inputs[:, None, :]).float()
        self._spread = same / same.sum(1, keepdim=True)

    def overlaps(
        self,
        before: Float[Tensor, "run column key_position"],
        after: Float[Tensor, "run column key_position"],
    ) -> Float[Tensor, "run 2"]:
        """How much of the last row's attention, word by word, the shuffle leaves (1: all of it), measured,
        and if attention had stayed at its places."""
        stays = torch.zeros_like(before).scatter_(2, self.order.expand_as(before), before)
        moves = torch.zeros_like(after).scatter_(2, self.order.expand_as(after), after)
        words, *others = (torch.einsum("rck,ckl->rcl", part, self._spread) for part in (before, moves, stays))
        return torch.stack([torch.minimum(words, other).sum(2).mean(1) for other in others], 1)


def probes(data: LanguageData, config: TextConfig, windows: int, device: torch.device) -> list[Measure]:
    """Measures for `core.text_training.train`: ``received`` (token), ``places`` (place), ``shuffle_overlap``
    (compared), ``columns_per_row``: key columns over rows with a winner, mean over the windows."""
    inputs = probe_inputs(data, config.window_length, windows).to(device)
    architecture = config.architecture(len(data.vocabulary))
    shuffle = Shuffle(inputs)
    attend = partial(lowest_attention, architecture=architecture)

    def overlap(parameters: Mapping[str, Tensor]) -> Tensor:
        rows = [attend(parameters, which)[:, :, -1] for which in (inputs, shuffle.shuffled)]
        return shuffle.overlaps(*rows)

    def of_weights(function: Callable[[Tensor], Tensor]) -> Callable[[Mapping[str, Tensor]], Tensor]:
        return lambda parameters: function(attend(parameters, inputs))

    return [
        Measure(
            "received",
            ("token",),
            of_weights(lambda w: _received(w, inputs, len(data.vocabulary))),
        ),
        Measure("places", ("place",), of_weights(_places)),
        Measure("columns_per_row", (), of_weights(_columns_per_row)),
        Measure("shuffle_overlap", ("compared",), overlap),
    ]


def _columns_per_row(
    weights: Float[Tensor, "run column query_position key_position"],
) -> Float[Tensor, " run"]:
    wins = weights > 0.5
    return (wins.any(2).sum(2) / wins.any(3).sum(2)).mean(1)


# --- what the probes say of words ---


def gains(received: xr.DataArray, table: xr.Dataset) -> dict[str, xr.DataArray]:
    """What `measure` says of words, from the attention ``[run, evaluation, token]`` that they receive."""
    exposure = table["exposure"]
    shares = received / received.sum("token"), exposure / exposure.sum()
    gain = _log_ratio(*shares)
    chosen = np.flatnonzero((table["count"] >= MIN_COUNT) & (exposure > MIN_EXPOSURE))
    frequency, specific = (table[name].values[chosen] for name in ("frequency", "specificity"))
    third = np.digitize(specific, np.quantile(specific, [1 / 3, 2 / 3]))
    bins = np.digitize(table["frequency"].values, FREQUENCY_EDGES)
    selected = gain.isel(token=chosen)
    top = selected.isel(token=np.flatnonzero(third == 2))
    return {
        "gain": gain,
        "gain_by_frequency": _pooled(shares, bins, np.arange(len(bins)), len(FREQUENCY_EDGES) + 1).rename(
            group="frequency_bin"
        ),
        "gain_by_specificity": _pooled(shares, third, chosen, 3).rename(group="third"),
        "specificity_correlation": _along_tokens(
            selected, partial(partial_rank_correlation, with_=specific, given=frequency)
        ),
        "specific_frequency_correlation": _along_tokens(
            top, lambda values: rank_correlation(values, frequency[third == 2])
        ),
    }


def _log_ratio(numerator: xr.DataArray, denominator: xr.DataArray) -> xr.DataArray:
    """ln of a ratio of shares, NaN where the word is not met; 1e-9 stands for no attention at all."""
    return np.log((numerator + 1e-9) / denominator.where(denominator > 0))


def _pooled(
    shares: tuple[xr.DataArray, xr.DataArray], group: np.ndarray, tokens: np.ndarray, groups: int
) -> xr.DataArray:
    """The gain of groups of words, NaN for one without; ``group`` numbers them, for the words ``tokens``."""
    number = xr.DataArray(group, dims="token", name="group")
    received, expected = (share.isel(token=tokens).groupby(number).sum() for share in shares)
    return _log_ratio(received, expected).reindex(group=range(groups))


def _along_tokens(values: xr.DataArray, function: Callable[[np.ndarray], float]) -> xr.DataArray:
    return xr.apply_ufunc(function, values, input_core_dims=[["token"]], vectorize=True)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation; NaN if one of them is constant or not finite."""
    ranks = [rankdata(values) for values in (first, second)]
    if not np.isfinite(first).all() or min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def partial_rank_correlation(first: np.ndarray, *, with_: np.ndarray, given: np.ndarray) -> float:
    """Spearman's correlation of two quantities at equal values of a third."""
    direct, a, b = (rank_correlation(*pair) for pair in ((first, with_), (first, given), (with_, given)))
    return (direct - a * b) / float(np.sqrt((1 - a * a) * (1 - b * b)))
