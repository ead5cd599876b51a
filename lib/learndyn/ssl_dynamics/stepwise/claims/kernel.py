"""Claims of the notebook "Kernels and wide networks": Proposition 5.1, its dynamics, and wide networks.

Tolerances. Statements of algebra get 1e-10 or what rounding leaves; ends of small-start runs get what the
scale of the start leaves, α^q with q = 1 − γ_{d+1}/γ_d; half times get what the linear model's run got
against the same closed form (1.5 % for the fastest mode, which discretisation delays, 0.5 % for the others).
The paper gives no numbers for wide networks trained at finite width: there the claims are inequalities, and
the values beside them are those of our own earlier, independent runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learndyn.core.claims import Claim, Outcome
from learndyn.ssl_dynamics.stepwise import linear
from learndyn.ssl_dynamics.stepwise.settings_kernel import Ending, PCAGap, exponent, half_time_ratios

PAPER = "Stepwise SSL (arXiv:2303.15438)"
OWN = "own addition"
EXACT = 1e-10


class Signs(NamedTuple):
    """Eigenvalues of K_Γ, descending, and the number of pairs."""

    eigenvalues: Float[Tensor, " mode"]
    pairs: int


class Race(NamedTuple):
    """Squared norms of random zero-loss embeddings, and the end of gradient flow."""

    competitors: Float[Tensor, " run"]
    ending: Ending


class Frozen(NamedTuple):
    """Trained networks (`wide.train`) and the same with frozen kernels (`linearised.compare`)."""

    networks: xr.Dataset
    frozen: xr.Dataset


def minus(value: float, digits: int = 2) -> str:
    """A number with a proper minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


# --- Proposition 5.1 ---


def _check_gap(gap: float) -> Outcome:
    return Outcome(f"{gap:.0e}", 0 <= gap < EXACT)


def signs(eigenvalues: Float[Tensor, " mode"]) -> tuple[int, int]:
    """How many eigenvalues are positive and how many negative, beyond rounding."""
    return linear.positive_modes(eigenvalues), linear.positive_modes(-eigenvalues.flip(0))


def _check_signs(found: Signs) -> Outcome:
    positive, negative = signs(found.eigenvalues)
    n = found.pairs
    holds = abs(positive - n) <= 0.1 * n and abs(negative - n) <= 0.1 * n
    return Outcome(f"{positive} positive and {negative} negative with n = {n}", holds)


def _check_ending(ending: Ending) -> Outcome:
    text = f"1 − a ≤ {max(ending.misalignment, 1e-15):.0e}, Gram matrix within {ending.gram_error:.0e} "
    text += f"(α^q = {ending.expected_error:.0e}), C − I within {ending.correlation_error:.0e}"
    holds = 0 <= ending.gram_error < 10 * min(ending.expected_error, 1e-3)
    return Outcome(text, holds and ending.misalignment < 1e-6 and ending.correlation_error < 1e-8)


def _check_norm(race: Race) -> Outcome:
    end, least = race.ending, race.ending.least_norm_squared
    best = float(race.competitors.min())
    text = (
        f"flow {end.norm_squared:.6f}, formula {least:.6f}, best of {len(race.competitors)} others {best:.3g}"
    )
    return Outcome(text, abs(end.norm_squared / least - 1) < 1e-6 and best > least)


def _check_dynamics(log: xr.Dataset) -> Outcome:
    ratios, loss = half_time_ratios(log), float(log["loss"].isel(run=0, step=-1))
    others = ratios[1:]
    text = (
        f"ratio {ratios[0]:.3f} (mode 1), {others.min():.4f} … {others.max():.4f} (others); loss {loss:.0e}"
    )
    holds = abs(ratios[0] - 1) <= 0.015 and bool((np.abs(others - 1) <= 0.005).all())
    return Outcome(text, holds and loss < 1e-6)


def _check_pca(gap: PCAGap) -> Outcome:
    text = f"eigenvalues within {gap.eigenvalues:.0e}, embeddings within {gap.embeddings:.0e}"
    return Outcome(text, 0 <= gap.eigenvalues < EXACT and 0 <= gap.embeddings < 1e-8)


def _check_large(ends: xr.Dataset) -> Outcome:
    small, large = ends.isel(scale=0), ends.isel(scale=-1)
    text = (
        f"α = {float(small.scale):g}: a = {float(small.alignment):.4f}, norm {float(small.norm_ratio):.4f}; "
    )
    text += (
        f"α = {float(large.scale):g}: a = {float(large.alignment):.2f}, norm {float(large.norm_ratio):.1f}"
    )
    holds = float(small.alignment) > 0.999 and abs(float(small.norm_ratio) - 1) < 1e-3
    holds &= float(large.alignment) < 0.5 and float(large.norm_ratio) > 2
    return Outcome(text, holds and float(ends.loss.max()) < 1e-6)


def _check_held_out(found: xr.Dataset) -> Outcome:
    first = found.isel(mode=slice(0, 8))
    quarter = max(found.sizes["mode"] // 4, 1)
    early, late = (float(found.agreement[part].mean()) for part in (slice(quarter), slice(-quarter, None)))
    worst, chance = float(first.agreement.min()), float(np.abs(first.shuffled).max())
    text = f"first 8: at least {worst:.2f} (shuffled at most {chance:.2f}); first quarter {early:.2f}, last "
    return Outcome(text + f"{late:.2f}", worst > 0.6 and chance < 0.2 and late < early)


# --- wide networks ---


def mean_error(ratio: xr.DataArray) -> xr.DataArray:
    """Mean |log ratio| over modes and seeds: how far half times are from the predicted ones."""
    return np.abs(np.log(ratio)).mean(("seed", "mode"), skipna=False)


def _check_times(networks: xr.Dataset) -> Outcome:
    error = mean_error(networks["ratio"]).values
    first = np.abs(networks["ratio"].sel(mode=1) - 1)
    holds = bool((np.diff(error) < 0).all()) and float(first.max()) < 0.08
    holds &= float(first.isel(width=-1).max()) < 0.02
    text = f"mean |log ratio| {error[0]:.2f} → {error[-1]:.2f}; mode 1 within "
    return Outcome(text + f"{100 * float(first.isel(width=-1).max()):.1f} % at the largest width", holds)


def _check_faster(networks: xr.Dataset) -> Outcome:
    ratio = networks["ratio"].isel(width=0)
    text = f"{float(ratio.min()):.2f} … {float(ratio.max()):.2f} at h = {int(networks['width'][0])}"
    return Outcome(text, bool((ratio < 1).all()))


def settled_seeds(frozen: xr.Dataset) -> xr.DataArray:
    """Seeds whose d-th and next eigenvalue are far enough apart for the theory to reach its own end.

    Where they are nearly degenerate, training with the very kernel of the theory does not, either (a start of
    scale α leaves an error of α^q, q = 1 − γ_{d+1}/γ_d), and no network can be expected to.
    """
    return (frozen["alignment"].sel(model="shared", drop=True) >= 0.95).all("width")


def _check_alignment(results: Frozen) -> Outcome:
    settled = settled_seeds(results.frozen)
    alignment = results.networks["alignment"].sel(seed=settled["seed"][settled])
    mean, least = alignment.mean("seed", skipna=False).values, float(alignment.isel(width=-1).min())
    text = " → ".join(f"{value:.2f}" for value in mean) + f"; at least {least:.2f} at the end "
    text += f"({int(settled.sum())} of {settled.size} seeds settled)"
    return Outcome(text, bool(mean[-1] > mean[0]) and least >= 0.9)


def _check_frozen(results: Frozen) -> Outcome:
    network, frozen = results.networks["ratio"], results.frozen["ratio"]
    blocks, shared = (frozen.sel(model=model, drop=True) for model in ("linearised", "shared"))
    apart, one, theory = mean_error(blocks / network), mean_error(shared), mean_error(network)
    text = f"mean |log ratio|: network/linearised {float(apart.mean()):.3f}, one kernel/theory "
    text += f"{float(one.mean()):.3f}, network/theory {float(theory.mean()):.3f}"
    holds = float(apart.max()) < 0.05 and float(one.max()) < 0.05
    return Outcome(text, holds and bool((2 * apart < theory).all()))


def _check_head_start(found: xr.Dataset) -> Outcome:
    mean = np.exp(np.log(found).mean("seed", skipna=False))
    # From the middle of the scales to the smallest one.
    falls = {
        name: float((mean[name].isel(scale=found.sizes["scale"] // 2) / mean[name].isel(scale=-1)).max())
        for name in ("network", "theory")
    }
    smallest = mean["network"].isel(scale=-1)
    holds = 1 / 3 < falls["network"] < 3 and falls["theory"] > 30
    text = f"theory ÷ {falls['theory']:.0f}, networks ÷ {falls['network']:.1f}; "
    text += " and ".join(f"{float(value):.0e} at h = {int(value['width'])}" for value in smallest)
    return Outcome(text, holds and bool((smallest.diff("width") < 0).all()))


def _check_moved(networks: xr.Dataset) -> Outcome:
    power = exponent(networks["kernel_change"])
    narrow = float(networks["kernel_change"].isel(width=0).mean())
    return Outcome(
        f"{narrow:.2f} at h = {int(networks['width'][0])}, ∝ h^({minus(power)})", abs(power + 1) <= 0.15
    )


def _check_infinite(found: xr.Dataset) -> Outcome:
    power = exponent(found["distance"])
    return Outcome(
        f"∝ h^({minus(power)}); {float(found['distance'][-1].mean()):.3f} at the largest width", _half(power)
    )


def _check_coupling(frozen: xr.Dataset) -> Outcome:
    power = exponent(frozen["coupling"])
    narrow = float(frozen["coupling"].isel(width=0).mean())
    return Outcome(f"{narrow:.2f} at h = {int(frozen['width'][0])}, ∝ h^({minus(power)})", _half(power))


def _half(power: float) -> bool:
    return abs(power + 0.5) <= 0.1


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "stepwise.kernel-forms",
        PAPER,
        "Prop. 5.1",
        "The two forms of the contrastive kernel matrix K_Γ are the same matrix",
        "equal",
        _check_gap,
        "relative difference below 1e-10",
    ),
    Claim(
        "stepwise.kernel-spectrum",
        PAPER,
        "Prop. 5.1",
        "The non-zero eigenvalues of K_Γ are those of Γ in feature space (explicit quadratic features)",
        "equal",
        _check_gap,
        "relative difference below 1e-10",
    ),
    Claim(
        "stepwise.kernel-signs",
        PAPER,
        "derived",
        "Of the 2n eigenvalues of K_Γ about half are negative",
        "about n positive, n negative",
        _check_signs,
        "each number within 10 % of n",
    ),
    Claim(
        "stepwise.kernel-linear",
        PAPER,
        "Section 5",
        "With the linear kernel the embedding of Prop. 5.1 is that of the linear model, at new points too",
        "equal",
        _check_gap,
        "relative difference below 1e-10",
    ),
    Claim(
        "stepwise.kernel-end",
        PAPER,
        "Prop. 5.1",
        "From a small start, gradient flow ends in f(x) = U diag(γ^(−1/2)) Bᵀ K^(−1/2) k(S, x), with C = I",
        "equal in the limit α → 0",
        _check_ending,
        "from α = 1e-10: Gram matrix within 10 α^q, q = 1 − γ_{d+1}/γ_d, and within 0.01; 1 − a below 1e-6, "
        "C − I below 1e-8",
    ),
    Claim(
        "stepwise.kernel-norm",
        PAPER,
        "Prop. 5.1",
        "Its squared RKHS norm is Σ 1/γ_j, the least of all embeddings with zero loss",
        "Σ 1/γ_j",
        _check_norm,
        "end of the flow within 1e-6 of it; every random competitor larger",
    ),
    Claim(
        "stepwise.kernel-dynamics",
        PAPER,
        "Section 5, eq. 10",
        "While the kernel model trains, eigenvalues of C follow eq. 10 with the γ of K_Γ: a staircase",
        "half time / predicted = 1",
        _check_dynamics,
        "mode 1 within 1.5 %, all others within 0.5 %, final loss below 1e-6",
    ),
    Claim(
        "stepwise.kernel-large-start",
        PAPER,
        "Prop. 5.1",
        "A small start is needed: from a large one the loss is zero, too, but the embedding another one",
        "least norm only in the limit α → 0",
        _check_large,
        "smallest start: a above 0.999, norm within 1e-3; largest: a below 0.5, norm above 2; losses below "
        "1e-6",
    ),
    Claim(
        "stepwise.kernel-pca",
        PAPER,
        "Section 5",
        "With identical views and centred features the learned embedding is that of kernel PCA, whitened",
        "equal to kernel PCA",
        _check_pca,
        "eigenvalues within 1e-10, embeddings within 1e-8 of scikit-learn's",
    ),
    Claim(
        "stepwise.kernel-held-out",
        PAPER,
        OWN,
        "What is learned first holds for pairs that were not trained on, what is learned late less so",
        "early modes agree, shuffled partners do not",
        _check_held_out,
        "first 8 correlations above 0.6, with shuffled partners below 0.2 (four sd of chance); last quarter "
        "of the modes below the first",
    ),
    Claim(
        "stepwise.wide-times",
        PAPER,
        "Section 5",
        "The wider a network, the closer its half times to those of its tangent kernel at initialisation",
        "exact for infinite width; mode 1 at 0.987–0.993 for h = 4096 in our earlier runs",
        _check_times,
        "mean |log ratio| falls at each width; mode 1 within 8 % everywhere and 2 % at the largest width",
    ),
    Claim(
        "stepwise.wide-alignment",
        PAPER,
        "Section 5",
        "A wide network ends closer to the embedding predicted from its initial kernel than a narrow one",
        "0.80–0.89 → 0.94–0.985 for h = 64 → 4096 in our earlier runs",
        _check_alignment,
        "over seeds for which training with the theory's own kernel reaches a ≥ 0.95 (others are nearly "
        "degenerate at d): mean higher at the largest width than at the smallest, there at least 0.9",
    ),
    Claim(
        "stepwise.wide-faster",
        PAPER,
        OWN,
        "Narrow networks are faster than their initial kernel predicts",
        "0.59–0.97 for h = 64 in our earlier runs",
        _check_faster,
        "ratio below 1 for every mode and seed at the smallest width",
    ),
    Claim(
        "stepwise.wide-blocks",
        PAPER,
        OWN,
        "They are so without any motion of the kernel: their outputs do not share one kernel",
        "half times of the network linearised at the start",
        _check_frozen,
        "at each width: linearised network within 5 % of the trained one (mean |log ratio|) and less than "
        "half as far from it as the theory is; one frozen kernel for all outputs within 5 % of the theory",
    ),
    Claim(
        "stepwise.wide-head-start",
        PAPER,
        OWN,
        "The coupling gives late modes a head start that does not shrink with the start, but with width: λ_2 "
        "when mode 1 is learned",
        "theory: ∝ α^(2 − 2γ_2/γ_1)",
        _check_head_start,
        "from the middle to the smallest α, theory falls by more than 30, networks change by less than 3 "
        "(largest of the widths); a wider network has a smaller one",
    ),
    Claim(
        "stepwise.wide-coupling",
        PAPER,
        OWN,
        "The blocks of the tangent kernel that couple outputs, and differences between outputs, die out",
        "∝ h^(−1/2)",
        _check_coupling,
        "exponent −0.5 ± 0.1",
    ),
    Claim(
        "stepwise.wide-moves",
        PAPER,
        OWN,
        "The tangent kernel moves less while training the wider the network (Dyer and Gur-Ari, 2020)",
        "∝ h^(−1)",
        _check_moved,
        "exponent −1 ± 0.15",
    ),
    Claim(
        "stepwise.wide-infinite",
        PAPER,
        "Section 5",
        "At initialisation the tangent kernel tends to its closed form for infinite width",
        "∝ h^(−1/2)",
        _check_infinite,
        "exponent −0.5 ± 0.1",
    ),
)
