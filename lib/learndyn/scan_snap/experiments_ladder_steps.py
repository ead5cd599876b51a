"""Single steps of the notebook "The theory ladder": each theorem beside what it is about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from scipy.integrate import quad, solve_ivp
from scipy.special import softmax

from learndyn.scan_snap import attention_ode, decoder, flow, one_common_token, symmetric, symmetric_batch
from learndyn.scan_snap.classes import Classes, decorrelation, random_classes, symmetric_classes
from learndyn.scan_snap.symmetric_equations import Parameters

PROFILE = (0.5, 0.3, 0.1)  # weights of the distinct tokens; with a common token of weight 0.1, overlap 1/36

FROZEN_TIMES = np.sort(np.concatenate([[0.0, 1.0, 40.0, 5000.0], np.geomspace(0.5, 4900, 60)]))


# ---------------------------------------------------------------- the top: flow and reduction


def reduction_gaps() -> dict[str, float]:
    """Largest distance of the attention logits between the symmetric reduction and the full flow.

    K = 4 classes, M = 40 with four classes to a query, and M = 30 with two.
    """
    times, gaps = np.array([1.0, 5, 20, 60, 120, 500]), {}
    for vocabulary, shared in ((40, 4), (30, 2)):
        setting = {"classes": 4, "vocabulary": vocabulary, "next_per_query": shared}
        setting |= {"common": (0.3, 0.1), "distinct": (0.4, 0.3, 0.2)}
        rates = {"decoder_rate": 1.0, "attention_rate": 0.7}
        full = flow.solve(
            symmetric_classes(**setting),
            times,
            relative_tolerance=1e-11,
            absolute_tolerance=1e-14,
            **rates,
        )
        sets = symmetric.parameter_sets(**setting, **rates)
        short = symmetric.solve(sets, times, rtol=1e-11, atol=1e-14)["attention"].values
        tokens = full["attention"].values[:, 0, :5]  # common ones, then the distinct ones of class 0
        gaps[f"M = {vocabulary}, r = {shared}"] = float(np.abs(tokens - short).max())
    return gaps


# ---------------------------------------------------------------- frozen attention: Theorem 1's force


def frozen_force(
    times: Float[np.ndarray, "time"] = FROZEN_TIMES,
    *,
    classes: int = 5,
    vocabulary: int = 300,
    decoder_rate: float = 0.5,
    common: float = 0.1,
) -> xr.Dataset:
    """The signal to attention at frozen attention: Theorem 1's update, the gradient, and what theory says.

    Returns:
        ``signal`` (coefficient of f_n in Y(e_n − α_n)) and ``force`` (of −f_k) ``[update, time]``, both
        integrated; by closed forms ``gamma``, ``theorem`` (γβ), ``leading`` (x α_nk), ``xi`` ``[time]``.
    """
    setting = {"classes": classes, "vocabulary": vocabulary, "next_per_query": classes}
    setting |= {"common": (common,), "distinct": PROFILE, "decoder_rate": decoder_rate}
    found = []
    for update in ("gradient", "decorrelated"):
        sets = symmetric.parameter_sets(**setting, attention_rate=0.0, update=update)
        solution = symmetric.solve(sets, times, rtol=1e-11, atol=1e-14)
        found.append(solution[["signal", "force", "overlap"]].assign_coords(update=update))
    data = xr.concat(found, "update")
    overlap = float(data["overlap"][0, 0])
    overlaps = np.full((classes, classes), overlap) + (1 - overlap) * np.eye(classes)
    _, beta = decoder.signal_coefficients(overlaps, vocabulary)
    gamma = decoder.gamma(times, vocabulary, decoder_rate, classes)
    margin = decoder.x(times, vocabulary, decoder_rate, classes)
    closed = {
        "gamma": gamma,
        "x": margin,
        "theorem": gamma * beta[0, 1],
        "leading": decoder.gradient_coefficients(margin, overlaps, vocabulary)[:, 0, 1],
        "xi": gamma * decoder.xi_per_gamma(beta, overlaps)[0],
        "rule": vocabulary * decorrelation(overlaps)[0, 1] * np.exp(-overlap * margin),
    }
    return data.assign({name: ("time", values) for name, values in closed.items()})


def force_factor(
    overlaps: Float[np.ndarray, "initial_overlap"], sizes: Sequence[tuple[int, int]]
) -> xr.DataArray:
    """Theorem 1's force over that of the gradient, at frozen attention, when γ peaks ``[size, overlap]``.

    Args:
        overlaps: f_n·f_k.
        sizes: pairs K, M.
    """
    rows = []
    for classes, vocabulary in sizes:
        times = [0.0, float(decoder.peak(vocabulary, 1.0, classes).time)]
        setting = {"classes": classes, "vocabulary": vocabulary, "distinct": (1.0,), "attention_rate": 0.0}
        axes = {"initial_overlap": overlaps}
        plain, theorem = (
            symmetric_batch.phase_diagram(axes, times, update=update, **setting)["force"].isel(time=1)
            for update in ("gradient", "decorrelated")
        )
        rows.append((theorem / plain).drop_vars("time"))
    return xr.concat(rows, _size_names(sizes), coords="minimal", compat="override")


def force_rule(
    overlaps: Float[np.ndarray, "initial_overlap"], sizes: Sequence[tuple[int, int]]
) -> xr.DataArray:
    """M E' e^{−ρx} for the same overlaps and sizes when γ peaks, the factor to leading order (derived)."""
    rows = []
    for classes, vocabulary in sizes:
        top = decoder.peak(vocabulary, 1.0, classes).time
        margin = float(decoder.x(float(top), vocabulary, 1.0, classes))
        primed = overlaps / ((1 - overlaps) * (1 + (classes - 1) * overlaps))
        rule = vocabulary * primed * np.exp(-overlaps * margin)
        rows.append(xr.DataArray(rule, dims="initial_overlap", coords={"initial_overlap": overlaps}))
    return xr.concat(rows, _size_names(sizes))


def _size_names(sizes: Sequence[tuple[int, int]]) -> pd.Index:
    return pd.Index([f"K = {classes}, M = {vocabulary}" for classes, vocabulary in sizes], name="size")


def remark1(classes: Sequence[int], vocabulary: int = 24, overlap: float = 0.1) -> pd.DataFrame:
    """Whether the plain gradient is Theorem 1's update at the rate (1−ρ) η_Y, as Remark 1 says.

    At frozen attention of equal overlaps, Y = Σ f_k v_kᵀ with v̇_k = (η_Y/K) (e_k − α_k); the force of the
    gradient is −v_k·(e_n − α_n), that of Theorem 1's update γβ at the smaller rate. Their ratio when γ peaks.
    """
    rows = []
    for count in classes:
        gram = np.full((count, count), overlap) + (1 - overlap) * np.eye(count)
        end = float(decoder.peak(vocabulary, 1 - overlap, count).time)
        _, beta = decoder.signal_coefficients(gram, vocabulary)
        claimed = float(decoder.gamma(end, vocabulary, 1 - overlap, count)) * beta[0, 1]
        sum_of_zeta = np.linalg.norm(decoder.zeta(count, vocabulary).sum(0))
        row = {"classes": count, "share": count / vocabulary, "sum_zeta": float(sum_of_zeta)}
        rows.append(row | {"ratio": _frozen_gradient_force(gram, vocabulary, end) / claimed})
    return pd.DataFrame(rows)


def _frozen_gradient_force(gram: Float[np.ndarray, "next next"], vocabulary: int, end: float) -> float:
    """−v_1·(e_0 − α_0) at time `end` of the plain gradient, decoder rate 1."""
    count = len(gram)
    target = np.eye(count, vocabulary)

    def error(state: np.ndarray) -> np.ndarray:
        logits = gram @ state.reshape(count, vocabulary)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return target - odds / odds.sum(1, keepdims=True)

    solution = solve_ivp(
        lambda _, state: (error(state) / count).ravel(),
        (0.0, end),
        np.zeros(count * vocabulary),
        method="DOP853",
        rtol=1e-11,
        atol=1e-13,
    )
    state = solution.y[:, -1]
    return float(-state.reshape(count, vocabulary)[1] @ error(state)[0])


def early_law(times: Float[np.ndarray, "time"], seed: int = 3, rate: float = 0.5) -> xr.Dataset:
    """The first moves of attention in asymmetric classes: the flow, the law t² and Lemma 4.

    Four classes on two queries, two common tokens, unequal P(n) for ``flow``, ``law`` and their relative
    distance ``error`` ``[time]``; the same classes equally likely for ``even`` (flow), ``even_law`` and
    ``lemma4``. Sizes are norms over all logits.
    """
    setting = {"classes": 4, "vocabulary": 40, "next_per_query": 2, "common": 2}
    uneven = random_classes(seed, uniform_prior=False, **setting)
    even = random_classes(seed, **setting)
    rates = {"decoder_rate": rate, "attention_rate": rate}
    fine = {"relative_tolerance": 1e-11, "absolute_tolerance": 1e-18}

    def size(z: xr.DataArray) -> xr.DataArray:
        return np.sqrt((z**2).sum(("query", "token")))

    moved = flow.solve(uneven, times, **rates, **fine)["attention"]
    law = attention_ode.early_time(uneven, times, **rates)
    return xr.Dataset(
        {
            "flow": size(moved),
            "law": size(law),
            "error": size(moved - law) / size(law),
            "even": size(flow.solve(even, times, **rates, **fine)["attention"]),
            "even_law": size(attention_ode.early_time(even, times, **rates)),
            "lemma4": size(attention_ode.solve(even, times, **rates, **fine)["attention"]),
        }
    )


# ---------------------------------------------------------------- Theorem 2: fates


def fates(
    seeds: Sequence[int], *, common: int = 1, decoder_rate: float = 0.5, attention_rate: float = 0.5
) -> pd.DataFrame:
    """How many tokens of random asymmetric classes rise, fall or turn (K = 3, M = 500, t to 5000).

    Returns:
        A row for each dynamics ("Lemma 4", "decorrelated flow", "gradient flow") and kind of token:
        ``rises``, ``falls``, ``turns``, and ``row_sum``, the largest move of a row sum of Z.
    """
    times = np.geomspace(0.1, 5000, 40)
    rates = {"decoder_rate": decoder_rate, "attention_rate": attention_rate}
    rows = []
    decorrelated = partial(flow.solve, update="decorrelated")
    solvers = {"Lemma 4": attention_ode.solve, "decorrelated flow": decorrelated, "gradient flow": flow.solve}
    for name, solve in solvers.items():
        counts = {kind: dict.fromkeys(("rises", "falls", "turns"), 0) for kind in ("distinct", "common")}
        moved = 0.0
        for seed in seeds:
            classes = random_classes(seed, classes=3, vocabulary=500, common=common)
            solution = solve(classes, times, **rates)
            moved = max(moved, float(solution["attention_row_sum"].max()))
            found = attention_ode.fates(classes, solution)
            for kind, seen in zip(found["kind"].values.ravel(), found["seen"].values.ravel(), strict=True):
                if kind != "absent":
                    counts[str(kind)][str(seen)] += 1
        rows += [{"dynamics": name, "kind": kind} | counts[kind] | {"row_sum": moved} for kind in counts]
    return pd.DataFrame(rows)


def corollary2() -> pd.DataFrame:
    """Fates under Lemma 4 with several common tokens, one query and permutation symmetry (Corollary 2)."""
    classes = symmetric_classes(4, 500, 4, (0.4, 0.2, 0.1), PROFILE)
    times = np.geomspace(0.1, 5000, 40)
    solution = attention_ode.solve(classes, times, decoder_rate=0.5, attention_rate=0.5)
    found = attention_ode.fates(classes, solution)
    frame = pd.DataFrame({name: found[name].values[0] for name in ("kind", "expected", "seen")})
    return frame[frame["kind"] != "absent"].reset_index(drop=True)


def unequal_common() -> float:
    """Lemma 4 outside of Corollary 2: the logit at t = 5000 of a common token, frequent in one class of two.

    Two classes share two tokens, with probabilities .50 and .30 in the first and .01 and .30 in the second.
    """
    weights = np.zeros((2, 500))
    weights[0, :3], weights[1, [0, 1, 3]] = (0.5, 0.3, 0.2), (0.01, 0.3, 0.5)
    classes = Classes(weights / weights.sum(1, keepdims=True), np.zeros(2, dtype=np.int64))
    solution = attention_ode.solve(classes, np.array([5000.0]), decoder_rate=0.5, attention_rate=0.5)
    return float(solution["attention"][0, 0, 0])


def token_paths(seed: int, *, attention_rate: float, decoder_rate: float = 0.5) -> xr.Dataset:
    """Logits of all tokens of random classes (K = 3, M = 500, one common token), Lemma 4 and gradient flow.

    Returns:
        ``attention`` ``[dynamics, time, token]``, used tokens only; ``owner`` ``[token]``: the class of a
        distinct token, −1 for a common one.
    """
    classes = random_classes(seed, classes=3, vocabulary=500)
    times = np.concatenate([[0.0], np.geomspace(0.1, 5000, 120)])
    rates = {"decoder_rate": decoder_rate, "attention_rate": attention_rate}
    used = np.flatnonzero(classes.probabilities.any(0))
    owner = np.where(classes.common, -1, classes.probabilities.argmax(0))[used]
    paths = [
        solve(classes, times, **rates)["attention"].isel(query=0, token=used)
        for solve in (attention_ode.solve, flow.solve)
    ]
    joined = xr.concat(paths, pd.Index(["Lemma 4", "gradient flow"], name="dynamics"))
    return xr.Dataset({"attention": joined, "owner": ("token", owner)})


# ---------------------------------------------------------------- Theorem 3: conservation


def conservation(
    classes: Classes, times: Float[np.ndarray, "time"], decoder_rate: float, ratios: Sequence[float]
) -> xr.Dataset:
    """Theorem 3 under Lemma 4 (at the first ratio) and under the gradient flow (at each ratio).

    Returns:
        ``ratio`` ``[dynamics, time]``: the invariant of class 0's rarest distinct token over that of the most
        frequent one, 1 where the law holds; ``ln_chi``, ``lower``, ``upper`` ``[time]`` under Lemma 4;
        ``worst``: the largest |ratio − 1| over all classes and times under Lemma 4.
    """
    rates = {"decoder_rate": decoder_rate, "attention_rate": decoder_rate / ratios[0]}
    law = attention_ode.conservation(classes, attention_ode.solve(classes, times, **rates))
    found, names = [law["ratio"].isel(next=0)], ["Lemma 4"]
    for ratio in ratios:
        rates = {"decoder_rate": decoder_rate, "attention_rate": decoder_rate / ratio}
        # the logits start at 1e-12 and the invariant is their ratio
        moved = flow.solve(classes, times, **rates, absolute_tolerance=1e-16)
        found.append(attention_ode.conservation(classes, moved)["ratio"].isel(next=0))
        names.append(f"flow, ratio {ratio:g}")
    data = xr.Dataset({"ratio": xr.concat(found, pd.Index(names, name="dynamics"))})
    data["worst"] = np.abs(law["ratio"] - 1).max()
    return data.merge(law[["ln_chi", "lower", "upper"]].isel(next=0))


def invariant_ratio(task_run: xr.Dataset) -> float:
    """The same ratio at the end of a run of the symmetric reduction: rarest over most frequent token."""
    last = task_run.isel(step=-1)
    distinct = last["kind"].values == "distinct"
    z, share = last["attention"].values[distinct], last["probability"].values[distinct]
    found = np.expm1(-2 * z) / share**2
    return float(found[share.argmin()] / found[share.argmax()])


# ---------------------------------------------------------------- Theorem 4: the closed form


def closed_form(
    times: Float[np.ndarray, "time"],
    *,
    vocabulary: int = 1000,
    classes: int = 10,
    overlap: float = 1 / 36,
    decoder_rate: float = 0.5,
    attention_rate: float = 0.5,
) -> xr.Dataset:
    """Theorem 4 as printed and corrected, beside ż = −(η_Z/C₀) γ e^{4z} integrated from 0; ``[time]``.

    ``quadrature``: Γ at the same times by adaptive quadrature; ``gamma_integral``: in closed form.
    """
    constant = float(one_common_token.constant_from_overlap(classes, overlap))
    integral = one_common_token.gamma_integral(times, vocabulary, decoder_rate, attention_rate, classes)

    def gamma(time: float) -> float:
        return float(decoder.gamma(time, vocabulary, decoder_rate, classes))

    def rate(time: float, z: np.ndarray) -> np.ndarray:
        return -attention_rate / constant * gamma(time) * np.exp(4 * z)

    solution = solve_ivp(
        rate, (0.0, times[-1]), [0.0], "LSODA", times, rtol=1e-11, atol=1e-13, first_step=1e-3
    )
    parts = [
        attention_rate * quad(gamma, a, b, epsabs=0, epsrel=1e-13, limit=200)[0]
        for a, b in zip(np.concatenate([[0.0], times[:-1]]), times, strict=True)
    ]
    curves = {
        "integrated": -solution.y[0],
        "corrected": one_common_token.growth(integral, constant),
        "printed": one_common_token.printed_growth(integral, constant),
        "gamma_integral": integral,
        "quadrature": np.cumsum(parts),
    }
    data = xr.Dataset({name: ("time", values) for name, values in curves.items()}, coords={"time": times})
    return data.assign_attrs(constant=constant)


def figure3(end: float = 700.0) -> xr.Dataset:
    """χ(t) of Figure 3 with C₀ = 1: K = 10, M = 1000, η_Z = 0.5, four decoder rates."""
    rates = np.array([0.5, 1, 2, 5])
    times = np.concatenate([np.arange(0, 20, 0.5), np.arange(20, end + 1, 1.0)])
    return one_common_token.trajectories(times, 1000, rates, np.full(4, 0.5), classes=10)


def figure9() -> list[xr.Dataset]:
    """B(t) of Figure 9 with K = C₀ = 1: η_Y/η_Z = 10, M = 100 to t = 5; and 1, M = 10,000 to t = 50."""
    rates = np.array([0.5, 1, 2, 4, 8])
    return [
        one_common_token.trajectories(np.linspace(0, end, 501), vocabulary, ratio * rates, rates)
        for ratio, vocabulary, end in ((10, 100, 5.0), (1, 10_000, 50.0))
    ]


def creep(
    times: Float[np.ndarray, "time"], sets: Sequence[Parameters], constant: float | None = None
) -> xr.Dataset:
    """How the common token's logit goes on: Theorem 4 (``growth``) and the flow, −z ``[run, time]``.

    Args:
        times: increasing.
        sets: one parameter set of the symmetric reduction for each run.
        constant: C₀; from the overlap of each set if not given.
    """
    grown, moved = [], []
    for one in sets:
        p = one.common[0], one.distinct[0]
        overlap = float((p[0] ** 2).sum() / ((p[0] ** 2).sum() + (p[1] ** 2).sum()))
        K, M = int(one.classes[0]), int(one.vocabulary[0])
        used = one_common_token.constant_from_overlap(K, overlap) if constant is None else constant
        integral = one_common_token.gamma_integral(
            times, M, float(one.decoder_rate[0]), float(one.attention_rate[0]), K
        )
        grown.append(one_common_token.growth(integral, used))
        moved.append(-symmetric.solve(one, times)["attention"].values[:, 0])
    ratio = [float(one.decoder_rate[0] / one.attention_rate[0]) for one in sets]
    logarithm = [np.log(one.vocabulary[0] * one.decoder_rate[0] * times / one.classes[0]) for one in sets]
    return xr.Dataset(
        {
            "growth": (("run", "time"), np.stack(grown)),
            "flow": (("run", "time"), np.stack(moved)),
            "logarithm": (("run", "time"), np.stack(logarithm)),
        },
        coords={"time": times, "rate_ratio": ("run", ratio)},
    )


# ---------------------------------------------------------------- explorer


def lemma4_symmetric(
    parameters: Parameters, times: Float[np.ndarray, "time"]
) -> Float[np.ndarray, "time support"]:
    """Lemma 4 for symmetric classes, in milliseconds at any K and M (derived); logits of one class's tokens.

    With A = γ E' = γ ρ/((1−ρ)(1+(K−1)ρ)) and ρ = Σ f_c²: ż_c = −η_Z (r/K)(K−1) A f_c² (1−ρ) and
    ż_d = (η_Z/K)(K−1) A f_d² ρ.
    """
    p = parameters
    shares = np.concatenate([p.common[0], p.distinct[0]])
    shared = np.arange(len(shares)) < p.common.shape[1]
    K, M, rate = int(p.classes[0]), int(p.vocabulary[0]), float(p.decoder_rate[0])
    strength = float(p.attention_rate[0]) * (K - 1) / K
    scale, group = K / rate, float(p.next_per_query[0])

    def velocity(u: float, z: np.ndarray) -> np.ndarray:
        time = scale * math.expm1(u)
        squares = (shares * np.exp(z - z.max())) ** 2
        squares = squares / squares.sum()
        rho = squares[shared].sum()
        drive = float(decoder.gamma(time, M, rate, K)) * rho / ((1 - rho) * (1 + (K - 1) * rho))
        move = np.where(shared, -group * (1 - rho), rho) * squares
        return strength * drive * move * scale * math.exp(u)

    u = np.log1p(times / scale)
    solution = solve_ivp(velocity, (0.0, u[-1]), np.zeros(len(shares)), "LSODA", u, rtol=1e-8, atol=1e-12)
    return solution.y.T


def explorer_curves(
    attention_rate: float,
    rate_ratio: float,
    classes: int,
    vocabulary: int,
    overlap: float,
    times: Float[np.ndarray, "time"],
) -> xr.Dataset:
    """Four rungs for one query, one common token and the distinct tokens of `PROFILE`.

    Returns:
        ``common`` ``[rung, time]``: −z of the common token; ``uniform`` ``[support]``: c of one class at the
        start, ``attention_weights`` ``[update, time, support]``: under the gradient flow and under Lemma 4.
    """
    weight = float(symmetric.common_weight(overlap, PROFILE))
    setting = {"classes": classes, "vocabulary": vocabulary, "next_per_query": classes}
    setting |= {"common": (weight,), "distinct": PROFILE}
    rates = {"decoder_rate": rate_ratio * attention_rate, "attention_rate": attention_rate}
    plain, other = (
        symmetric.parameter_sets(**setting, **rates, update=update) for update in ("gradient", "decorrelated")
    )
    flow_solution, lemma4 = symmetric.solve(plain, times), lemma4_symmetric(plain, times)
    integral = one_common_token.gamma_integral(times, vocabulary, *rates.values(), classes)
    constant = one_common_token.constant_from_overlap(classes, overlap)
    curves = {
        "gradient flow": -flow_solution["attention"].values[:, 0],
        "decorrelated flow": -symmetric.solve(other, times)["attention"].values[:, 0],
        "Lemma 4": -lemma4[:, 0],
        "Theorem 4": one_common_token.growth(integral, constant),
    }
    uniform = np.concatenate([plain.common[0], plain.distinct[0]])
    weights = [flow_solution["attention_weights"].values, softmax(np.log(uniform) + lemma4, axis=1)]
    data = xr.Dataset(
        {
            "common": (("rung", "time"), np.stack(list(curves.values()))),
            "attention_weights": (("update", "time", "support"), np.stack(weights)),
            "uniform": ("support", uniform),
        },
        coords={"rung": list(curves), "update": ["gradient flow", "Lemma 4"], "time": times},
    )
    peak = float(decoder.peak(vocabulary, rates["decoder_rate"], classes).time)
    return data.assign_attrs(peak=peak, overlap=overlap, limit=1 / classes)
