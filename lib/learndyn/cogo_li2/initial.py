"""Where a run starts: its initial weights and its train split, in two random-number modes.

``vectorised`` draws each run from streams of its own seed. ``published`` repeats what the authors' script
does with torch's, NumPy's and scikit-learn's generators (CoGO, section 4), without touching any global
generator; it gives the published runs to float32 rounding.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from sklearn.model_selection import train_test_split
from torch import Tensor

from learndyn.core.device import generator


def initial_weights(seed: int, size: int, hidden_size: int, rng: str) -> Float[Tensor, "part node element"]:
    """PyTorch's default for linear layers: U(±1/√d) for w_a and w_b, U(±1/√q) for w_c; float64 or float32."""
    d, q = size, hidden_size
    if rng == "published":
        stream = torch.Generator().manual_seed(seed + 2)
        # An embedding table is created first (and overwritten by the identity): its draws have to be passed.
        torch.nn.init.normal_(torch.empty(d, d), generator=stream)
        shapes = (q, d), (q, d), (d, q)
        a, b, c = (
            torch.nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5), generator=stream)
            for shape in shapes
        )
        return torch.stack([a, b, c.T])
    stream = generator(seed, "weights")
    weights = torch.rand(3, q, d, generator=stream, dtype=torch.float64) * 2 - 1
    return weights * torch.tensor([d, d, q], dtype=torch.float64).rsqrt()[:, None, None]


def train_cells(seed: int, size: int, test_size: float, rng: str) -> Bool[Tensor, "element element"]:
    """Which pairs (x, y) are trained on; ceil(test_size · d²) are held out, as scikit-learn counts."""
    cells = size**2
    if rng == "published":
        _, held_out = train_test_split(range(cells), test_size=test_size, random_state=seed)
        held_out = torch.tensor(held_out)
    else:
        held_out = torch.randperm(cells, generator=generator(seed, "split"))[
            : held_out_count(size, test_size)
        ]
    mask = torch.ones(cells, dtype=torch.bool)
    mask[held_out] = False
    return mask.view(size, size)


def held_out_count(size: int, test_size: float) -> int:
    """Number of test cells, ceil(test_size · d²)."""
    return math.ceil(test_size * size**2)
