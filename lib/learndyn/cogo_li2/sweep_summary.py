"""What a sweep keeps of each training run: curves, orders along training, and the spectrum of the nodes
that live.

The weights of a run of the published grid are up to 3·2048·127 numbers, nearly all of them zero at the end.
What the paper's figures and tables are made of is far smaller: how many nodes each frequency has (Figure
4), and the Fourier coefficients of the few nodes that are left (Figure 5, Table 2).
"""

from __future__ import annotations

import json

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learndyn.cogo_li2 import analysis
from learndyn.cogo_li2.factoriser import PUBLISHED_THRESHOLD
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.training import Measure, TrainConfig

# A finished run has at most 8 nodes at each of at most 63 frequencies. A collapsed or unfinished wide run
# may have more nodes above the threshold; then the largest are kept (``alive_nodes`` counts them all).
MOST_NODES = 512


def sweep_measures(config: TrainConfig) -> list[Measure]:
    """What the trainer records at each logged epoch of a sweep: the order at every frequency."""
    dims, count = analysis.order_summaries(AbelianGroup(config.orders))["order"]
    return [Measure("order", dims, count)]


def summarise_sweep(dataset: xr.Dataset) -> xr.Dataset:
    """Condense one trained ensemble for a sweep.

    Replaces ``weights`` by those of one epoch (the last of the config's ``snapshot_epochs``, else the last
    there is) in Fourier coordinates, for the nodes with max_k |A_kj| above the published threshold:

    - ``spectrum`` (run, part, alive_node, character): coefficients at the characters 0 and one of each pair
    {k, −k};
      the others are their conjugates. NaN where a run has fewer nodes.
    - ``node_index`` (run, alive_node): which hidden node it is, −1 where there is none.
    - ``squared_norm`` (run, part): of all weights at that epoch.

    Everything else stays, with ``modulus`` (the group's size) and ``hidden_size`` as coordinates of
    each run.
    """
    config = json.loads(dataset.attrs["config"])
    group = AbelianGroup(tuple(config["orders"]))
    wanted = config.get("snapshot_epochs")
    weights = dataset["weights"].sel(snapshot=wanted[-1]) if wanted else dataset["weights"].isel(snapshot=-1)
    weights = weights.transpose("run", "part", "node", "element")
    kept = _alive_spectra(torch.from_numpy(np.ascontiguousarray(weights.values)), group)
    half = group.half().characters.numpy()
    count = dataset.sizes["run"]
    result = dataset.drop_vars("weights")
    result = result.drop_vars([name for name in ("snapshot", "node", "element") if name in result.coords])
    coordinates = {
        "modulus": ("run", np.full(count, group.size)),
        "hidden_size": ("run", np.full(count, config["hidden_size"])),
        "spectrum_epoch": ("run", np.full(count, int(weights["snapshot"]))),
        "character": np.array([0, *half]),
        "part": ["a", "b", "c"],
    }
    if "frequency" in dataset.dims:
        coordinates["frequency"] = half
    return result.assign(kept).assign_coords(coordinates)


def _alive_spectra(weights: Tensor, group: AbelianGroup) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """The kept nodes of each run, padded to the run with the most of them; one run at a time for memory's
    sake."""
    characters = torch.cat([torch.zeros(1, dtype=torch.long), group.half().characters])
    spectra, nodes = [], []
    for run in weights:
        spectrum = group.to_spectrum(run)[..., characters]
        amplitude = spectrum[0].abs().amax(-1)
        largest = amplitude.argsort(descending=True)[:MOST_NODES]
        alive = largest[amplitude[largest] > PUBLISHED_THRESHOLD].sort().values
        spectra.append(spectrum[:, alive].numpy())
        nodes.append(alive.numpy())
    longest = max((len(alive) for alive in nodes), default=0)
    spectrum = np.full((len(nodes), 3, longest, len(characters)), np.nan, dtype=np.complex64)
    index = np.full((len(nodes), longest), -1, dtype=np.int32)
    for run, (values, alive) in enumerate(zip(spectra, nodes, strict=True)):
        spectrum[run, :, : len(alive)] = values
        index[run, : len(alive)] = alive
    squared = weights.double().square().sum((-2, -1)).float().numpy()
    return {
        "spectrum": (("run", "part", "alive_node", "character"), spectrum),
        "node_index": (("run", "alive_node"), index),
        "squared_norm": (("run", "part"), squared),
    }
