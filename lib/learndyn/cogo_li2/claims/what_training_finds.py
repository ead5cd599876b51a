"""Claims of the notebook "What training finds": Figures 4 and 5, Table 2, the clock, the law, memorisation.

Tolerances. Counts of Figure 4 are digitised, ±1 for each bar. At d = 23 a rerun decides every frequency
alike, so that this is all that may differ. At d = 71 and 127 the order in which float32 sums are taken may
change the fate of a few frequencies: there the pooled histograms may differ by a total variation of 0.05,
about the standard deviation between two independent sets of five runs. Table 2 at d = 23 must agree to the
printed digits in the percentages and to 0.1 in the errors (which are what the last Adam spike left); other
rows to twice the standard errors of both, and never less than one frequency. Means over a few runs here are
compared with means over a few runs there: two standard errors of the difference.
"""

from __future__ import annotations

from functools import partial

from learndyn.cogo_li2 import published
from learndyn.cogo_li2.claims import what_training_finds_checks as checks
from learndyn.core.claims import Claim, Ledger, Verdict

PAPER = "CoGO (arXiv:2410.01779)"
OWN = "own addition"
MISSING = "the archive does not hold these runs yet; `learndyn sweep sweeps/cogo_figure4.yaml` makes them"
MISSING_WIDTHS = "not archived: needs the sweep over widths, `learndyn sweep sweeps/cogo.yaml`"


def decide(
    ledger: Ledger, claim_id: str, result: object, *, at_paper_scale: bool, why: str = MISSING
) -> Verdict:
    """Check a claim, or record that it waits for runs that are not archived if ``result`` is None."""
    if result is None:
        return ledger.needs_paper_profile(claim_id, why)
    return ledger.check(claim_id, result, at_paper_scale=at_paper_scale)


def _panel_claim(d: int, decay: float) -> Claim:
    theirs = checks.counts_text(published.order_counts(d, decay))
    collapse = (d, decay) == checks.COLLAPSE
    if collapse:
        check, statement = checks.check_collapse, "training collapses: orders 0 to 4"
        tolerance = "at least 90 % of the frequencies below order 4, at most 1 % above"
    else:
        check, statement = (
            partial(checks.check_panel, d, decay),
            "orders pooled over five seeds at epoch 9900",
        )
        tolerance = "each count ±1" if d == 23 else "total variation ≤ 0.05"
    statement = f"d = {d}, weight decay {decay:.0e}: {statement}".replace("e-0", "e-")
    return Claim(checks.panel_id(d, decay), PAPER, "Figure 4", statement, theirs, check, tolerance)


def _row_text(d: int) -> str:
    return " / ".join(f"{published.TABLE2[d][name].mean:.2f}" for name in checks.PERCENTAGES[3:])


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "cogo.small-orders",
        PAPER,
        "Figure 4",
        "Small groups, too, end with order 4 or 6 at every frequency",
        "4 and 6 only",
        checks.check_small_orders,
        "no other order, and both of them",
    ),
    Claim(
        "cogo.small-mixes",
        OWN,
        "small groups",
        "Mean number of order-6 frequencies at d = 7, 11, 17",
        "2.83, 3.25, 4.50",
        checks.check_small_mixes,
        "±0.35, ±0.45, ±0.6: two standard errors of the difference",
    ),
    Claim(
        "cogo.small-collapse",
        OWN,
        "small groups",
        "d = 11, weight decay 0.02: training dies although an equilibrium of order 6 exists",
        "dead at 0.02, limit 0.034",
        checks.check_small_collapse,
        "all orders 0 in every run, 0.02 < limit",
    ),
    *(_panel_claim(d, decay) for d in checks.MODULI for decay in checks.DECAYS),
    Claim(
        "cogo.fig4-widths",
        PAPER,
        "Figure 4, companion over widths",
        "The width does not matter at d = 23 and 71; at d = 127, q = 256 is starved and q = 2048 broken",
        "47 % and 58 % not 4 or 6 there",
        checks.check_widths,
        "total variation ≤ 0.05 at d = 23, 71; more than 30 % not 4 or 6 at d = 127, q = 256 and 2048",
    ),
    Claim(
        "cogo.clock-counts",
        OWN,
        "weight-decay clock",
        "d = 23: order histograms along training",
        "59 stored histograms",
        checks.check_clock_counts,
        "total variation ≤ 0.05 for each",
    ),
    Claim(
        "cogo.clock-collapse",
        OWN,
        "weight-decay clock",
        "Histograms of different weight decays agree better at equal wd × epochs than at equal epochs",
        "much closer",
        checks.check_clock_collapse,
        "mean total variation lower by twice the distance of two samples of one distribution (0.09)",
    ),
    Claim(
        "cogo.clock-exponent",
        OWN,
        "weight-decay clock",
        "The orders depend on wd × epochs: the epoch of a given mean order falls as wd^−p with p = 1",
        1,
        checks.check_clock_exponent,
        "±0.1 at every level of the mean order",
    ),
    Claim(
        "cogo.clock-early",
        OWN,
        "weight-decay clock, Figure 4",
        "The panel d = 23, wd 1e-5 is an early picture, not another equilibrium",
        "0.15 and 0.44",
        checks.check_clock_early,
        "at least twice as near to wd 5e-5 at epoch 2000 as at 9900",
    ),
    Claim(
        "cogo.table2-d23-shares",
        PAPER,
        "Table 2",
        "d = 23: percentages and their standard errors",
        _row_text(23),
        checks.check_shares,
        "±0.01, the printed digits",
    ),
    Claim(
        "cogo.table2-d23-errors",
        PAPER,
        "Table 2",
        "d = 23: mean factorisation errors × 100 at orders 4 and 6",
        "0.05 and 4.80",
        checks.check_errors,
        "±0.1",
    ),
    Claim(
        "cogo.table2-d71",
        PAPER,
        "Table 2",
        "d = 71: the row",
        _row_text(71),
        partial(checks.check_row, 71),
        "each of 9 means within twice both standard errors, at least one frequency",
    ),
    Claim(
        "cogo.table2-d127",
        PAPER,
        "Table 2",
        "d = 127: the row",
        _row_text(127),
        partial(checks.check_row, 127),
        "each of 9 means within twice both standard errors, at least one frequency",
    ),
    Claim(
        "cogo.table2-products",
        PAPER,
        "abstract, Table 2",
        "Per cent of frequencies that are the predicted products",
        "about 95",
        checks.check_products,
        "±3",
    ),
    Claim(
        "cogo.fig5-xi",
        PAPER,
        "Figure 5",
        "arg ξ has peaks at ±π/4 and ±3π/4 on a low background",
        "four peaks",
        checks.check_xi,
        "half of the groups within π/12 of a peak (a third if uniform), all four present",
    ),
    Claim(
        "cogo.fig5-xi-folded",
        OWN,
        "Figure 5, gauge removed",
        "d = 23: order-4 groups with arg ξ mod π/2 within 5 % of π/4",
        "13 of 25",
        checks.check_xi_folded,
        "±1",
    ),
    Claim(
        "cogo.fig5-nu",
        PAPER,
        "Figure 5",
        "arg ν lies in the two bands π/3 ≤ |arg ν| ≤ 2π/3",
        "0.333π to 0.667π",
        checks.check_nu,
        "±0.1, the factoriser's own tolerance",
    ),
    Claim(
        "cogo.fig5-alphabeta",
        PAPER,
        "Figure 5",
        "arg α and arg β are broad, with mass near 0",
        "broad",
        checks.check_alphabeta,
        "no bin of ten has more than half, some groups within π/5 of 0",
    ),
    Claim(
        "cogo.law-share",
        OWN,
        "min-norm law",
        "Small groups: order 6 gets rarer with d, n_6 grows nearer to √K than to K",
        "falling share, power 0.5",
        checks.check_share,
        "share falls with each d; power below 0.75",
    ),
    Claim(
        "cogo.law-n6",
        OWN,
        "min-norm law, Figure 4",
        "Mean number of order-6 frequencies at weight decay 5e-5",
        "6.0, 9.6, 10.6 at d = 23, 71, 127",
        checks.check_law_counts,
        "±0.5 each",
    ),
    Claim(
        "cogo.law-decay",
        OWN,
        "min-norm law",
        "d = 17: more weight decay ends nearer to the optimum of 3 (5e-4, 3e-3)",
        "4.5 and 3.75",
        checks.check_law_decay,
        "±0.6 each (two standard errors), and falling",
    ),
    Claim(
        "cogo.law-norm",
        OWN,
        "min-norm law",
        "d = 23: squared norm from the mix of orders alone",
        "205.2 predicted, 204.6 measured",
        checks.check_law_norm,
        "every settled run within 1 % of the law",
    ),
    Claim(
        "cogo.law-norm-small",
        OWN,
        "min-norm law",
        "Small groups: squared norms of the mixes",
        "38.54, 39.21 (d = 7) … 135.14 (d = 17)",
        checks.check_small_norms,
        "within 0.5 % of stored runs and 1.5 % of the law, which ignores shrinkage",
    ),
    Claim(
        "cogo.memo-accuracy",
        OWN,
        "memorisation, Theorem 5",
        "Accuracy stays 1 on the way from memorisation to low order",
        "1.000; loss ≤ 5e-3",
        checks.check_memo_accuracy,
        "accuracy 1 at every logged epoch; loss ≤ 5e-3 from epoch 100",
    ),
    Claim(
        "cogo.memo-norm",
        OWN,
        "memorisation, Theorem 5",
        "d = 7: squared norm from memorisation to the composed solution",
        "79.2 → 38.55 (4 6 6) or 39.21 (6 6 6)",
        checks.check_memo_norm,
        "start ±1, end within 0.5 % of that mix",
    ),
    Claim(
        "cogo.memo-switch",
        OWN,
        "memorisation, Theorem 5",
        "The nodes die between epochs 300 and 1000",
        "49 at 300, 6 at 1000",
        checks.check_memo_switch,
        "mean order ≥ 45 at epoch 300, ≤ 8 at 1000, in every run",
    ),
    Claim(
        "cogo.memo-decay",
        OWN,
        "memorisation, Theorem 5",
        "Without weight decay the network stays where it is",
        "implied by Theorem 5",
        checks.check_memo_decay,
        "all orders 49, squared norm at least 78",
    ),
)
