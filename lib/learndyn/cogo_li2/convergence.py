"""The convergence panels: a tiny network, trained in Fourier coordinates, falls into 16 nodes (CoGO, Z_7).

The coefficients z = (A, B, 2d·C) themselves are trained, for all characters, with Adam and coupled weight
decay on Σ_k ℓ_k = d·ℓ − (d − 1) of Theorem 1 over the full table; after each step they are made Hermitian
again (real weights) and their k = 0 part is cleared. Many seeds run at once. Weight decay acts on z, so
that |z_a| = |z_b| = |z_c| = n^{-1/3} at the end. (With ℓ itself, a gradient d times smaller, it kills the
network: nine of twelve seeds ended with no node and three with one.)

Seeds differ: of 24, 11 ended at orders {4, 6, 6} with 16 nodes, as the paper's panels, and 13 at {6, 6, 6}
with 18; all are settled by step 3000. Loss 2e-5 … 1.2e-4, median 2.9e-5.
"""

from __future__ import annotations

import torch
import xarray as xr
from jaxtyping import Complex
from torch import Tensor

from learndyn.cogo_li2 import factoriser, full_table
from learndyn.cogo_li2.groups import AbelianGroup


def converge(
    group: AbelianGroup,
    *,
    hidden_size: int = 30,
    seeds: tuple[int, ...] = (0,),
    steps: int = 5000,
    learning_rate: float = 0.01,
    weight_decay: float = 5e-3,
    scale: float = 0.005,
    snapshots: tuple[int, ...] = (0, 100, 200, 300, 400),
    device: torch.device | str = "cpu",
) -> xr.Dataset:
    """Train ``hidden_size`` complex nodes on the full table, float64.

    Args:
        seeds: one run per seed; real and imaginary parts of the entries start uniform in [0, ``scale``].
        snapshots: steps at which the coefficients are kept; the end is always kept as well.

    Returns:
        Over (run, step, part, node, character): ``modulus`` and ``phase`` of z in the paper's
        normalisation; over (run, step): ``loss``, ``alive`` (max |z_a| > 0.4·n^{-1/3}, n = 6); over
        (run, step, frequency): ``order``. Coordinate ``seed`` along run.

    Raises:
        ValueError: if ``seeds`` is empty or ``steps`` is not positive.
    """
    if not seeds or steps < 1:
        raise ValueError(f"seeds = {seeds!r}, steps = {steps}: wanted at least one seed and one step.")
    shape = (3, hidden_size, group.size)
    starts = [_start(seed, shape, scale) for seed in seeds]
    minus = group.neg(torch.arange(group.size)).to(device)
    state = _hermitian(torch.stack(starts).to(device), minus)
    adam = torch.optim.Adam([state], lr=learning_rate, weight_decay=weight_decay)
    kept, wanted = {}, {*(s for s in snapshots if s <= steps), steps}
    for step in range(steps + 1):
        if step in wanted:
            kept[step] = state.clone()
        if step < steps:
            state.grad = _gradient(state, group)
            adam.step()
            state.copy_(_hermitian(state, minus))
    return _dataset(group, kept, seeds)


def _start(seed: int, shape: tuple[int, int, int], scale: float) -> Complex[Tensor, "part node character"]:
    generator = torch.Generator().manual_seed(seed)
    real, imaginary = torch.rand(2, *shape, generator=generator, dtype=torch.float64) * scale
    return torch.complex(real, imaginary)


def _hermitian(state: Tensor, minus: Tensor) -> Tensor:
    state = 0.5 * (state + state[..., minus].conj())
    state[..., 0] = 0
    return state


def _code(state: Tensor) -> Tensor:
    """From the paper's normalisation to the code's: C = z_c / (2d)."""
    return torch.cat([state[..., :2, :, :], state[..., 2:, :, :] / (2 * state.shape[-1])], dim=-3)


def _gradient(state: Tensor, group: AbelianGroup) -> Tensor:
    """∂(dℓ)/∂Re z + i ∂(dℓ)/∂Im z, with z at k and at −k independent: d² times the gradient's spectrum."""
    gradient = full_table.loss_and_gradient(group.to_weights(_code(state)), group).gradient
    return _code(group.size**2 * group.to_spectrum(gradient))


def _dataset(group: AbelianGroup, kept: dict[int, Tensor], seeds: tuple[int, ...]) -> xr.Dataset:
    states = torch.stack(list(kept.values()), dim=1)  # [run, step, part, node, character]
    spectrum = _code(states)
    threshold = 0.4 * 6 ** (-1 / 3)
    frequencies = group.half().characters
    loss = full_table.loss_and_gradient(group.to_weights(spectrum), group).full_loss
    alive = (spectrum[..., 0, :, :].abs().amax(-1) > threshold).sum(-1)
    orders = factoriser.orders_by_amplitude(spectrum, frequencies, threshold)
    axes, everything = ("run", "step"), ("run", "step", "part", "node", "character")
    return xr.Dataset(
        {
            "modulus": (everything, states.abs().cpu().numpy()),
            "phase": (everything, states.angle().cpu().numpy()),
            "loss": (axes, loss.cpu().numpy()),
            "alive": (axes, alive.cpu().numpy()),
            "order": ((*axes, "frequency"), orders.cpu().numpy()),
        },
        coords={
            "seed": ("run", list(seeds)),
            "step": list(kept),
            "part": ["a", "b", "c"],
            "frequency": frequencies.numpy(),
        },
    )
