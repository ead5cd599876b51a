"""Sum potentials, and the loss as a budget over frequencies and families (CoGO, Theorem 1).

Everything is batched over leading axes. Potentials are in the paper's normalisation, r = 2d × the sum of
products of the coefficients in ``spectrum`` (which are in the code's normalisation, see
:mod:`learndyn.cogo_li2.groups`).

Four families of potentials make up the loss. With all indices on one frequency, and a bar for the conjugate:
R_g (goal) r_kkk = Σabc, to be 1; R_c (cross) Σābc, Σab̄c, Σabc̄; R_n (bias) Σ|a|²c, Σ|b|²c, an output that
does not depend on the input; R_* (square) Σa²c, Σb²c, Σā²c, Σb̄²c. All but the goal are to be 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import xarray as xr
from jaxtyping import Complex, Float
from torch import Tensor

from learndyn.cogo_li2.groups import AbelianGroup

FAMILIES: Mapping[str, str] = {"R_g": "goal", "R_c": "cross", "R_n": "bias", "R_*": "square"}
LARGEST_TENSOR = 30
"""Above this d, :func:`potential_tensor` refuses: nobody needs d³ numbers, see the summaries below."""


@dataclass(frozen=True)
class LossBudget:
    """What each family and each frequency adds to the projected squared loss over the full table.

    Each field is ``[*batch, frequency]`` in the order of ``AbelianGroup.half()``; a frequency stands for
    the pair {k, −k} and carries both, so that the sum of everything is the loss. ``multiplicity`` is 2, or
    1 for a self-conjugate character.
    """

    goal: Float[Tensor, "*batch frequency"]
    cross: Float[Tensor, "*batch frequency"]
    bias: Float[Tensor, "*batch frequency"]
    square: Float[Tensor, "*batch frequency"]
    multiplicity: Float[Tensor, " frequency"]
    characters: tuple[int, ...]
    size: int

    @property
    def per_frequency(self) -> Float[Tensor, "*batch frequency"]:
        """The loss that each frequency adds."""
        return self.goal + self.cross + self.bias + self.square

    @property
    def loss(self) -> Float[Tensor, "*batch"]:
        """The loss ℓ: mean over all d² inputs of ‖P o − P e_{x+y}‖²."""
        return self.per_frequency.sum(-1)

    @property
    def ell(self) -> Float[Tensor, "*batch frequency"]:
        """The paper's ℓ_k, with ℓ = (d−1)/d + (1/d) Σ_{k≠0} ℓ_k (equal for k and −k)."""
        return self.size * self.per_frequency / self.multiplicity - 1

    def to_array(self) -> xr.DataArray:
        """One unbatched budget as ``[family, frequency]`` with labels, ready to draw as stacked bars."""
        values = torch.stack([getattr(self, name) for name in FAMILIES.values()]).detach().cpu().numpy()
        return xr.DataArray(
            values,
            dims=("family", "frequency"),
            coords={"family": list(FAMILIES), "frequency": list(self.characters)},
            name="loss",
            attrs={"long_name": "contribution to the projected squared loss"},
        )


def loss_budget(
    group: AbelianGroup,
    spectrum: Complex[Tensor, "*batch part node character"],
    *,
    include_dc: bool = True,
) -> LossBudget:
    """The loss of a network over the full table, split by family and frequency (CoGO, Theorem 1).

    With S_{p,m,k} = Σ_{k'} r_{p,k',m−k',k},

        ℓ = (1/d) Σ_{k≠0} { |r_kkk − 1|²  +  Σ_{k1,k2≠0, not both k} |r_{k1 k2 k}|²
              + |r_{00k} + ½ (S_{a,0,k} + S_{b,0,k})|²
              + Σ_{m≠0} ( |r_{m0k} + ½ S_{a,m,k}|² + |r_{0mk} + ½ S_{b,m,k}|² ) },

    the four terms being R_g, R_c, R_n and R_*. This is exact for any network. The paper states it for
    networks without k = 0 components, where r_{m0k} = r_{0mk} = r_{00k} = 0: ``include_dc=False`` evaluates
    that form (it leaves out the k = 0 components of w_a and w_b and is off by 1 % to 20 % where they
    matter).

    Memory is O(d²) per batch entry, operations O(q d³).

    Raises:
        ValueError: if the shape does not belong to the group, or the weights would not be real.
    """
    group.require_shape(spectrum, "spectrum")
    d = group.size
    if not include_dc:
        spectrum = torch.cat([torch.zeros_like(spectrum[..., :1]), spectrum[..., 1:]], dim=-1)
    half = group.half()
    # The coefficients of w_a², Σ_{k'} A_{k'} A_{m−k'}, come by FFT: no convolution is ever written out.
    squares = group.to_spectrum(group.to_weights(spectrum) ** 2)[..., :2, :, :]
    # One output frequency at a time: a matrix r[k1, k2] instead of the tensor of all d³ potentials.
    terms = [terms_at(k, spectrum, squares) for k in half.characters.tolist()]
    multiplicity = torch.where(half.self_conjugate, 1, 2).to(terms[0][0])
    families = (torch.stack(term, dim=-1) * multiplicity / d for term in zip(*terms, strict=True))
    goal, cross, bias, square = families
    return LossBudget(goal, cross, bias, square, multiplicity, tuple(half.characters.tolist()), d)


def terms_at(
    k: int,
    spectrum: Complex[Tensor, "*batch part node character"],
    squares: Complex[Tensor, "*batch side node character"],
) -> tuple[Tensor, ...]:
    """R_g, R_c, R_n and R_* at one output frequency k, the braces of :func:`loss_budget`.

    ``squares`` are the coefficients of w_a² and w_b².
    """
    a, b, c = spectrum.unbind(-3)
    d = spectrum.shape[-1]
    weighted = 2 * d * c[..., k, None]
    r = (a * weighted).mT @ b  # r[k1, k2]
    wave_a, wave_b = squares.unbind(-3)
    half_a = (wave_a * weighted).sum(-2) / 2  # at index m
    half_b = (wave_b * weighted).sum(-2) / 2
    goal = _energy(r[..., k, k] - 1)
    # Leaving |r_kkk|² out keeps the digits that subtracting it would cancel.
    others = torch.ones(d - 1, d - 1, dtype=r.real.dtype, device=r.device)
    others[k - 1, k - 1] = 0
    cross = (_energy(r[..., 1:, 1:]) * others).sum((-2, -1))
    bias = _energy(r[..., 0, 0] + half_a[..., 0] + half_b[..., 0])
    square_a = _energy(r[..., 1:, 0] + half_a[..., 1:])
    square_b = _energy(r[..., 0, 1:] + half_b[..., 1:])
    return goal, cross, bias, (square_a + square_b).sum(-1)


def _energy(values: Tensor) -> Tensor:
    return values.real**2 + values.imag**2


def potential(
    spectrum: Complex[Tensor, "*batch part node character"], k1: int, k2: int, k: int
) -> Complex[Tensor, "*batch"]:
    """r_{k1 k2 k} = 2d Σ_j A_{k1 j} B_{k2 j} C_{k j}; characters by number."""
    a, b, c = spectrum.unbind(-3)
    return 2 * spectrum.shape[-1] * (a[..., k1] * b[..., k2] * c[..., k]).sum(-1)


def square_potential(
    spectrum: Complex[Tensor, "*batch part node character"], part: int, k1: int, k2: int, k: int
) -> Complex[Tensor, "*batch"]:
    """r_{p, k1, k2, k} = 2d Σ_j z_{p k1 j} z_{p k2 j} C_{k j} with p = a (``part`` 0) or b (``part`` 1).

    Raises:
        ValueError: if ``part`` is neither 0 nor 1.
    """
    if part not in (0, 1):
        raise ValueError(f"part = {part}: a square potential belongs to part 0 (a) or part 1 (b).")
    z, c = spectrum[..., part, :, :], spectrum[..., 2, :, :]
    return 2 * spectrum.shape[-1] * (z[..., k1] * z[..., k2] * c[..., k]).sum(-1)


def potential_tensor(
    spectrum: Complex[Tensor, "*batch part node character"],
) -> Complex[Tensor, "*batch character character character"]:
    """All r_{k1 k2 k} at once, for small groups (d ≤ 30).

    Raises:
        ValueError: for larger d.
    """
    d = spectrum.shape[-1]
    if d > LARGEST_TENSOR:
        raise ValueError(
            f"d = {d}: all d³ potentials are only given for d ≤ {LARGEST_TENSOR}; "
            "use loss_budget or one of the summaries."
        )
    a, b, c = spectrum.unbind(-3)
    return torch.einsum("...ju,...jv,...jk->...uvk", 2 * d * a, b, c)


def output_bias(
    group: AbelianGroup, spectrum: Complex[Tensor, "*batch part node character"]
) -> Complex[Tensor, "*batch character"]:
    """The output that does not depend on the input, at each character, in the paper's normalisation.

    r_{00k} + ½ (S_{a,0,k} + S_{b,0,k}); Theorem 1's R_n line is its squared modulus over d. Its entry at k
    = 0 is a shift of all logits and does not matter.
    """
    group.require_shape(spectrum, "spectrum")
    a, b, c = spectrum.unbind(-3)
    energy = (_energy(a) + _energy(b)).sum(-1) / 2 + (a[..., 0] * b[..., 0]).real
    return 2 * group.size * (energy[..., None] * c).sum(-2)


# The summaries of Figure 3, from the weights: O(q d) each, after an FFT.


def diagonal_sum(
    group: AbelianGroup, weights: Float[Tensor, "*batch part node element"]
) -> Float[Tensor, "*batch"]:
    """Σ_k Re r_kkk over the whole dual, k = 0 included (Fig. 3c); d−1 at a global solution."""
    a, b, c = group.to_spectrum(weights).unbind(-3)
    return 2 * group.size * (a * b * c).real.sum((-2, -1))


def off_diagonal_sum(
    group: AbelianGroup, weights: Float[Tensor, "*batch part node element"]
) -> Float[Tensor, "*batch"]:
    """Σ Re r_{k1 k2 k} over all triples that are not all equal (Fig. 3c); 0 at a global solution.

    The sum over all triples factorises: Σ_j (Σ_k A_kj)(Σ_k B_kj)(Σ_k C_kj) = Σ_j w_a[j,0] w_b[j,0] w_c[0,j].
    """
    everything = 2 * group.size * weights[..., 0].prod(-2).sum(-1)
    return everything - diagonal_sum(group, weights)


def paired_potentials(
    group: AbelianGroup,
    weights: Float[Tensor, "*batch part node element"],
    total: int = 0,
    part: int = 0,
) -> Float[Tensor, "*batch frequency"]:
    """|r_{p, k, m−k, k}| for each frequency k of ``half()``, with m the character ``total``.

    m = 0 is the bias potential |r_{a,k,−k,k}| of Fig. 3d and e; m = 1 is the label of Fig. 3f; the authors'
    script pairs A_k with conj(A_{k+1}) there, which is m = −1 (``total = group.neg(1)``).
    """
    half = group.half().characters.to(weights.device)
    spectrum = group.to_spectrum(weights)
    z, c = spectrum[..., part, :, :], spectrum[..., 2, :, :]
    partner = group.add(torch.full_like(half, total), group.neg(half))
    return 2 * group.size * (z[..., half] * z[..., partner] * c[..., half]).sum(-2).abs()


def figure3_summaries(
    group: AbelianGroup,
) -> dict[str, tuple[tuple[str, ...], Callable[[Tensor], Tensor]]]:
    """The curves of Fig. 3c to 3f: ``name → (dims, function of the weights)``, to measure while training."""
    backwards = int(group.neg(1))
    return {
        "diagonal_sum": ((), partial(diagonal_sum, group)),
        "off_diagonal_sum": ((), partial(off_diagonal_sum, group)),
        "bias_potential": (("frequency",), partial(paired_potentials, group)),
        "square_potential": (("frequency",), partial(paired_potentials, group, total=1)),
        "square_potential_as_plotted": (("frequency",), partial(paired_potentials, group, total=backwards)),
    }
