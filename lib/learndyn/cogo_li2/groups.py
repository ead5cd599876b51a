"""Finite Abelian groups, their characters, and the Fourier coordinates of a network (CoGO, section 2).

A group Z_{n1} × … × Z_{nL} is given by ``orders = (n1, …, nL)``. Its d elements and its d characters are both
numbered 0 … d−1 in row-major (C) order of their coordinates; for a cyclic group that is the obvious number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor


class Half(NamedTuple):
    """One representative of each pair {k, −k} of non-trivial characters.

    ``characters[i]`` is the smaller of the two numbers; ``self_conjugate[i]`` says that k = −k (a
    character of order 2, whose coefficients are real when the weights are).
    """

    characters: Int[Tensor, " frequency"]
    self_conjugate: Bool[Tensor, " frequency"]


@dataclass(frozen=True)
class AbelianGroup:
    """The finite Abelian group Z_{n1} × … × Z_{nL}.

    Args:
        orders: the orders n1 … nL of the cyclic factors, e.g. ``(23,)`` or ``(4, 4)``.

    Raises:
        ValueError: if there is no factor, or one of them is not an integer of at least 2.
    """

    orders: tuple[int, ...]

    def __post_init__(self) -> None:
        bad = [n for n in self.orders if isinstance(n, bool) or not isinstance(n, int) or n < 2]
        if bad or not self.orders:
            raise ValueError(
                f"orders = {self.orders!r}: a group needs at least one factor, each an integer of at least 2."
            )

    def __str__(self) -> str:
        return " × ".join(f"Z_{n}" for n in self.orders)

    @property
    def size(self) -> int:
        """The number d of elements, and of characters."""
        return math.prod(self.orders)

    def coordinates(self) -> Int[Tensor, "element factor"]:
        """The coordinates of each element (or character) by number."""
        return _coordinates(self.orders).clone()

    def add(self, left: int | Tensor, right: int | Tensor) -> Int[Tensor, "..."]:
        """The number of the sum of two elements (or characters), element by element with broadcasting."""
        return self._number(self._coordinates_of(left) + self._coordinates_of(right))

    def neg(self, element: int | Tensor) -> Int[Tensor, "..."]:
        """The number of the inverse element; for characters, of the complex conjugate one."""
        return self._number(-self._coordinates_of(element))

    def multiple(self, element: int | Tensor, times: int) -> Int[Tensor, "..."]:
        """The number of ``times`` · element; ``times`` may be negative or zero."""
        return self._number(times * self._coordinates_of(element))

    def order_of(self, element: int) -> int:
        """The smallest n ≥ 1 with n · element = 0 (for characters: φ^n = 1)."""
        coordinates = self._coordinates_of(element).tolist()
        return math.lcm(*(n // math.gcd(n, k) for n, k in zip(self.orders, coordinates, strict=True)))

    def label(self, element: int) -> str:
        """The element as a reader writes it: ``7`` in a cyclic group, ``(1, 3)`` in a product."""
        coordinates = self._coordinates_of(element).tolist()
        return str(coordinates[0]) if len(coordinates) == 1 else str(tuple(coordinates))

    def addition_table(self) -> Int[Tensor, "element element"]:
        """``table[x, y]`` is the number of x + y: the labels that the network has to learn."""
        numbers = torch.arange(self.size)
        return self.add(numbers[:, None], numbers[None, :])

    def character_table(
        self, dtype: torch.dtype = torch.complex128
    ) -> Complex[Tensor, "character element"]:
        """φ_k(x) = ∏_t exp(2πi k_t x_t / n_t), for all characters k and elements x."""
        points = _coordinates(self.orders)
        turns = torch.zeros(self.size, self.size, dtype=torch.float64)
        for axis, n in enumerate(self.orders):
            # Reducing k_t·x_t modulo n_t in integers keeps the phase exact for any size.
            turns += (points[:, None, axis] * points[None, :, axis] % n).double() / n
        return torch.polar(torch.ones_like(turns), 2 * math.pi * turns).to(dtype)

    def half(self) -> Half:
        """One representative of each pair {k, −k} of non-trivial characters; 1 … (d−1)/2 for odd cyclic d."""
        numbers = torch.arange(1, self.size)
        conjugates = self.neg(numbers)
        keep = numbers <= conjugates
        return Half(numbers[keep], (numbers == conjugates)[keep])

    def to_spectrum(
        self, weights: Float[Tensor, "*batch part node element"]
    ) -> Complex[Tensor, "*batch part node character"]:
        """The Fourier coordinates of a network, in the code's normalisation (CoGO, section 2).

        A_kj = (1/d) Σ_x w_a[j,x] φ_{−k}(x), B_kj likewise, and C_kj = (1/d) Σ_z w_c[z,j] φ_k(z) with the
        opposite sign. Differentiable; complex64 from float32 and complex128 from float64.

        Args:
            weights: ``[*batch, 3, q, d]``, the parts a, b, c of every hidden node.

        Raises:
            ValueError: if the part axis is not 3 or the element axis is not d.
        """
        self.require_shape(weights, "weights")
        spectrum = self._fft(torch.fft.fftn, weights.to(_complex_of(weights.dtype)))
        return torch.cat([spectrum[..., :2, :, :], spectrum[..., 2:, :, :].conj()], dim=-3)

    def to_weights(
        self, spectrum: Complex[Tensor, "*batch part node character"]
    ) -> Float[Tensor, "*batch part node element"]:
        """The inverse of :meth:`to_spectrum`: w_a[j,x] = Σ_k A_kj φ_k(x), w_c[z,j] = Σ_k C_kj φ_{−k}(z).

        Raises:
            ValueError: if the shape is wrong, or the coefficients at −k are not the conjugates of those
                at k, so that the weights would not be real.
        """
        self.require_shape(spectrum, "spectrum")
        aligned = torch.cat([spectrum[..., :2, :, :], spectrum[..., 2:, :, :].conj()], dim=-3)
        weights = self._fft(torch.fft.ifftn, aligned)
        if weights.numel() and weights.imag.abs().max() > 1e-4 * weights.real.abs().max() + 1e-30:
            raise ValueError(
                "spectrum is not Hermitian: the coefficient at −k must be the conjugate of the one at k."
            )
        return weights.real.contiguous()

    def _fft(self, transform: Callable[..., Tensor], values: Tensor) -> Tensor:
        if values.numel() == 0:  # the FFT library refuses the empty network, the zero of the semiring
            return values
        grid = values.reshape(*values.shape[:-1], *self.orders)
        axes = tuple(range(-len(self.orders), 0))
        return transform(grid, dim=axes, norm="forward").reshape(values.shape)

    def require_shape(self, values: Tensor, name: str) -> None:
        """Refuse an array of networks that does not end in (3, nodes, d).

        Raises:
            ValueError: naming the array, its shape and what is wanted.
        """
        if values.ndim < 3 or values.shape[-3] != 3 or values.shape[-1] != self.size:
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}; for {self} it must end in (3, nodes, {self.size})."
            )

    def _coordinates_of(self, element: int | Tensor) -> Tensor:
        index = torch.as_tensor(element)
        return _coordinates(self.orders).to(index.device)[index]

    def _number(self, coordinates: Tensor) -> Tensor:
        strides = torch.tensor(_strides(self.orders), device=coordinates.device)
        sizes = torch.tensor(self.orders, device=coordinates.device)
        return (torch.remainder(coordinates, sizes) * strides).sum(-1)


def _complex_of(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype == torch.float64 else torch.complex64


def _strides(orders: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(orders[axis + 1 :]) for axis in range(len(orders)))


@lru_cache(maxsize=64)
def _coordinates(orders: tuple[int, ...]) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(n) for n in orders)).reshape(-1, len(orders))
