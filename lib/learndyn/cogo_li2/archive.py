"""Archived sweeps of the published grid, read back into what Figures 4 and 5 and Table 2 are made of.

A sweep (``sweeps/cogo_figure4.yaml``, reduced by `sweep_summary.summarise_sweep`) keeps of each run the
orders along training and the Fourier coefficients of the nodes that lived at one epoch. `read` finds and
loads the file, `panels` sorts its runs by (modulus, width, weight decay), one panel of Figure 4 each, and the
rest of the module takes panels. A sweep that is not finished has fewer panels; nothing here needs all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Complex, Int
from torch import Tensor

from learndyn.cogo_li2 import analysis, factoriser, norms
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.core import records

LAST = 9900
"""The epoch that the paper analyses: the last checkpoint before the end."""

TABLE2_DECAY = 5e-5
PUBLISHED_SEEDS = (1, 2, 3, 4, 5)
_NEEDED = {"order", "spectrum", "node_index", "squared_norm"}


class Key(NamedTuple):
    """What the runs of one panel of Figure 4 have in common."""

    modulus: int
    hidden_size: int
    weight_decay: float


Panels = dict[Key, xr.Dataset]


def locate(path: Path | str) -> Path:
    """A file of the checkout, whether work is done in its root or in any folder below it.

    A relative path is looked for in the working folder, then in each folder above it.

    Raises:
        RecordError: it is in none of them.
    """
    path = Path(path)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / path).is_file():
            return folder / path
    raise records.RecordError(f"there is no file {path} in {here} or any folder above it; give another path")


def read(path: Path | str) -> xr.Dataset:
    """The archived sweep at ``path`` (see :func:`locate`).

    Raises:
        RecordError: no such file, not a results file, or a result that was not reduced by `sweep_summary`.
    """
    data = records.load(locate(path))
    if missing := sorted(_NEEDED - set(data.variables)):
        raise records.RecordError(f"{path} has no {missing[0]}; give a sweep reduced by sweep_summary")
    return data


def panels(*datasets: xr.Dataset) -> Panels:
    """The runs of one or several sweeps by (modulus, hidden size, weight decay), each panel sorted by seed.

    A panel has the axes of the sweep, without padding: ``frequency`` and ``character`` are those of its
    group, ``alive_node`` ends at the run with most nodes. A key in several sweeps is taken from the first.
    """
    found: Panels = {}
    for data in datasets:
        for key, rows in _rows(data).items():
            if key not in found:
                found[key] = _unpadded(data.isel(run=rows).sortby("seed"), key)
    return dict(sorted(found.items()))


def _rows(data: xr.Dataset) -> dict[Key, list[int]]:
    # Sweeps of one width need not repeat it for each run: then it is in the config.
    config = _config(data)
    widths = data["hidden_size"].values if "hidden_size" in data.coords else None
    rows: dict[Key, list[int]] = {}
    for run in range(data.sizes["run"]):
        width = config.get("hidden_size", 0) if widths is None else widths[run]
        decay = float(f"{float(data['weight_decay'][run]):.6g}")
        rows.setdefault(Key(int(data["modulus"][run]), int(width), decay), []).append(run)
    return rows


def _config(data: xr.Dataset) -> dict[str, object]:
    config = json.loads(data.attrs.get("config", "{}"))
    return config.get("base", config)


def _unpadded(data: xr.Dataset, key: Key) -> xr.Dataset:
    frequencies = AbelianGroup((key.modulus,)).half().characters.numpy()
    nodes = int((data["node_index"] >= 0).sum("alive_node").max())
    data = data.sel(frequency=frequencies, character=[0, *frequencies]).isel(alive_node=slice(nodes))
    # A run that diverged has no orders: −1 stands for them and is counted nowhere.
    return data.assign(order=data["order"].fillna(-1).astype(int))


def is_published(panel: xr.Dataset) -> bool:
    """Whether a panel holds the paper's own runs: seeds 1–5, its random numbers, its learning rate, to the
    end."""
    config = _config(panel)
    named = {name: config.get(name) for name in ("rng", "epochs", "test_size")}
    return (
        named == {"rng": "published", "epochs": 10000, "test_size": 0.1}
        and tuple(panel["seed"].values.tolist()) == PUBLISHED_SEEDS
        and bool((panel["learning_rate"] == 0.01).all())
        and bool((panel["status_code"] == 0).all())
    )


def published_moduli(found: Panels, hidden_size: int = 512, decay: float = TABLE2_DECAY) -> set[int]:
    """The moduli whose panel at this width and weight decay :func:`is_published`."""
    return {
        key.modulus
        for key, panel in found.items()
        if (key.hidden_size, key.weight_decay) == (hidden_size, decay) and is_published(panel)
    }


def full_spectrum(panel: xr.Dataset) -> Complex[Tensor, "run part node character"]:
    """The coefficients of the archived nodes at all d characters; zero where a run has fewer nodes."""
    size = int(panel["modulus"][0])
    stored = panel["spectrum"].transpose("run", "part", "alive_node", "character").values
    stored = torch.tensor(np.nan_to_num(stored), dtype=torch.complex128)
    characters = torch.tensor(panel["character"].values)
    spectrum = stored.new_zeros(*stored.shape[:3], size)
    spectrum[..., -characters % size] = stored.conj()
    spectrum[..., characters] = stored
    return spectrum


def orders_at(panel: xr.Dataset, epoch: int = LAST) -> Int[Tensor, "run frequency"]:
    """The order at each frequency (nodes with |A_k| > 0.05, as in Figure 4) at a logged epoch.

    Raises:
        KeyError: if that epoch was not logged.
    """
    order = panel["order"].sel(epoch=epoch).transpose("run", "frequency")
    return torch.tensor(order.values)


def pooled_counts(panel: xr.Dataset, epoch: int = LAST) -> dict[int, int]:
    """One histogram of Figure 4: how many frequencies of all runs have which order; without diverged runs."""
    orders = orders_at(panel, epoch).flatten()
    values, counts = orders[orders >= 0].unique(return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def factorised(panel: xr.Dataset) -> pd.DataFrame:
    """Every frequency of every run, factored as the paper does; ``run`` is replaced by the seed."""
    frame = factoriser.factorise(full_spectrum(panel))
    return frame.assign(run=panel["seed"].values[frame["run"]])


def factorised_groups(found: Panels, hidden_size: int = 512, decay: float = TABLE2_DECAY) -> pd.DataFrame:
    """:func:`factorised` of all moduli at one width and weight decay (Table 2, Figure 5), with a column d."""
    frames = [
        factorised(panel).assign(d=key.modulus)
        for key, panel in found.items()
        if key.hidden_size == hidden_size and key.weight_decay == decay
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"d": []})


def table2(groups: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Our rows of Table 2 by d, as `factoriser.table2_row`, from :func:`factorised_groups`."""
    return {int(d): factoriser.table2_row(factoriser.run_statistics(rows)) for d, rows in groups.groupby("d")}


def clock_table(found: Panels, modulus: int, hidden_size: int = 512) -> pd.DataFrame:
    """Pooled order counts of one modulus along training, all weight decays (`analysis.clock_table`)."""
    tables = []
    for key, panel in found.items():
        if (key.modulus, key.hidden_size) == (modulus, hidden_size):
            order = panel["order"].transpose("run", "epoch", "frequency").values
            decays = torch.full((panel.sizes["run"],), key.weight_decay, dtype=torch.float64)
            epochs = torch.tensor(panel["epoch"].values)
            kept = torch.tensor(order)
            tables.append(analysis.clock_table(kept.clamp(min=0), decays, epochs))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def mixes(
    orders: Int[Tensor, "run frequency"], squared_norm: np.ndarray, modulus: int, weight_decay: np.ndarray
) -> pd.DataFrame:
    """How many order-4 and order-6 frequencies each run has, its squared norm, and the predictions for both.

    Runs with any other order are left out. Columns: ``d, frequencies, weight_decay, n4, n6, norm``, then
    ``law`` (`norms.solution_norm`) and ``shrunk`` (`norms.shrunk_norm`).
    """
    n4, n6 = ((orders == n).sum(-1).numpy() for n in factoriser.ORDERS)
    count = orders.shape[-1]
    table = pd.DataFrame(
        {
            "d": modulus,
            "frequencies": count,
            "weight_decay": weight_decay,
            "n4": n4,
            "n6": n6,
            "norm": squared_norm,
        }
    )
    table = table[table["n4"] + table["n6"] == count].reset_index(drop=True)
    pairs = list(zip(table["n4"].astype(int), table["n6"].astype(int), table["weight_decay"], strict=True))
    table["law"] = [norms.solution_norm(four, six, modulus) for four, six, _ in pairs]
    table["shrunk"] = [norms.shrunk_norm(four, six, modulus, decay) for four, six, decay in pairs]
    return table


def archived_mixes(found: Mapping[Key, xr.Dataset], hidden_size: int = 512) -> pd.DataFrame:
    """:func:`mixes` of all archived runs of one width that have settled to orders 4 and 6.

    A panel of which fewer than half of the runs have settled is an early picture (or a collapse), and those
    that have are no fair sample: it is left out.
    """
    tables = [mixes(torch.zeros(0, 1, dtype=torch.long), np.zeros(0), 3, np.zeros(0))]
    for key, panel in found.items():
        if key.hidden_size == hidden_size:
            norm = panel["squared_norm"].sum("part").values.astype(float)
            table = mixes(orders_at(panel), norm, key.modulus, panel["weight_decay"].values)
            if 2 * len(table) >= panel.sizes["run"]:
                tables.append(table)
    return pd.concat(tables[1:] or tables, ignore_index=True)
