"""Each claim of "Building solutions by algebra" holds on the real thing and fails on a spoiled one."""

import math

import numpy as np
import pytest
import torch

from learndyn.cogo_li2 import algebra, dynamics, exact_solutions
from learndyn.cogo_li2.algebra import Family
from learndyn.cogo_li2.claims import build_by_algebra as claims
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.core.claims import Ledger

MODULI = (5, 7, 23)


@pytest.fixture(scope="module")
def good():
    """A result for each claim, computed as the notebook does, at small cost."""
    errors = exact_solutions.decomposition_errors(
        [AbelianGroup((6,)), AbelianGroup((23,))], (4,), draws=40, seed=0
    )
    solutions = exact_solutions.solution_table(MODULI, seed=0)
    bias = exact_solutions.unhosted_bias(MODULI, draws=20, seed=0)
    z7, table = AbelianGroup((7,)), algebra.construction_table()
    base = algebra.build(z7, algebra.everywhere(z7, algebra.ORDER_6))
    y = exact_solutions.at_every_character(z7, Family("nu").element())
    times = torch.linspace(0, 1, 21, dtype=torch.float64)
    path = dynamics.along_theorem5_path(z7, y, base, times)
    line = exact_solutions.along_straight_line(z7, y, base, times, overlaid=True)
    d127 = AbelianGroup((127,))
    results = {
        "cogo.theorem1": errors,
        "cogo.theorem1-constant": errors,
        "cogo.theorem3": exact_solutions.homomorphism_gap(draws=6, seed=0),
        "cogo.partial-bias": bias,
        "cogo.partial-order4": bias,
        "cogo.groups": exact_solutions.group_table([AbelianGroup((4, 4)), AbelianGroup((2, 2, 2))]),
        "cogo.theorem5-path": claims.Paths(path, line),
        "cogo.theorem5-norm": path,
        "cogo.norms-d7": {"order 4": 34.43, "order 6": 39.42, "memorisation": 79.38},
        "cogo.norm-law": exact_solutions.norm_by_order6(127),
        "cogo.solve-instead": claims.Solving(exact_solutions.solve(d127)._replace(seconds=0.1), 127),
    }
    names = ("global-order6", "global-mixed", "global-constant-node", "global-memorisation", "partial-order3")
    results |= {f"cogo.{name}": solutions for name in names}
    return results | {f"cogo.table1-{name}": table for name in claims.TABLE_1}


def _without_noise(bias):
    return bias.assign(accuracy=1.0)


def _solved(solving, **changes):
    measured = solving.solved.measured._replace(**changes)
    return solving._replace(solved=solving.solved._replace(measured=measured))


SPOILED = {
    "cogo.theorem1": [
        lambda e: e.assign(exact=e["paper_with_constant"]),  # the constant terms left out
        lambda e: e.assign(exact=e["exact"].where(e["draw"] > 0)),  # a NaN
    ],
    "cogo.theorem1-constant": [lambda e: e.assign(paper_with_constant=e["paper"])],  # no constant part
    "cogo.theorem3": [lambda g: (g[0], 0.1), lambda g: (0.1, g[1]), lambda g: (math.nan, g[1])],
    "cogo.global-order6": [lambda t: t.assign(loss=0.4), lambda t: t.assign(width=t["width"] + 1)],
    "cogo.global-mixed": [
        lambda t: t.replace(
            {
                "construction": {
                    "order 4, one order-6 host": "-",
                    "order 4 and 6, bias left": "order 4, one order-6 host",
                }
            }
        ),
        lambda t: t[t["d"] > 100],
    ],
    "cogo.global-constant-node": [lambda t: t.assign(accuracy=0.99), lambda t: t.assign(loss=math.nan)],
    "cogo.global-memorisation": [lambda t: t.assign(loss=1e-6)],
    "cogo.partial-order3": [lambda t: t.assign(loss=0.0), lambda t: t.assign(accuracy=0.9)],
    "cogo.partial-bias": [lambda b: b.assign(loss=0.0), lambda b: b[b["m"] == 0]],
    "cogo.partial-order4": [_without_noise, lambda b: b[b["d"] == 5], lambda b: b.assign(loss=0.0)],
    "cogo.groups": [lambda t: t.assign(loss=1e-3), lambda t: t.assign(accuracy=0.5)],
    "cogo.theorem5-path": [
        lambda p: claims.Paths(p.line, p.line),
        lambda p: claims.Paths(p.path, p.path),
        lambda p: claims.Paths(p.path.assign(loss=p.path["loss"] * np.nan), p.line),
    ],
    "cogo.theorem5-norm": [
        lambda p: p.isel(t=slice(None, None, -1)),
        lambda p: p.assign(norm=p["norm"] * 1.01),
    ],
    "cogo.norms-d7": [lambda n: n | {"order 4": 39.4}, lambda n: n | {"memorisation": math.nan}],
    "cogo.norm-law": [
        lambda c: c.assign(built=c["built"] * 1.001),
        lambda _: exact_solutions.norm_by_order6(23),
        lambda c: c.assign(built=c["built"][::-1].values + 0 * c["built"]),
    ],
    "cogo.solve-instead": [
        lambda s: _solved(s, loss=1.0),
        lambda s: _solved(s, width=512),
        lambda s: s._replace(solved=s.solved._replace(seconds=60.0)),
    ],
}


def _table_spoiled(name):
    """A potential more that vanishes, one less, and (for survivors) a wrong modulus."""
    construction, vanish, survive = claims.TABLE_1[name]

    def less(table):
        table = table.copy()
        table.loc[construction, "vanish"] = " ".join(vanish.split()[1:])
        return table

    def more(table):
        table = table.copy()
        table.loc[construction, "vanish"] = vanish + " Σabc"
        return table

    def modulus(table):
        table = table.copy()
        table.loc[construction, survive.split()[0]] = 0.5
        return table

    return [less, more, *([modulus] if survive else [])]


SPOILED |= {f"cogo.table1-{name}": _table_spoiled(name) for name in claims.TABLE_1}


def test_every_claim_is_covered(good):
    assert {c.id for c in claims.CLAIMS} == set(good) == set(SPOILED)


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda c: c.id)
def test_claim_holds_and_can_fail(claim, good):
    ledger = Ledger("cogo_li2", "build_by_algebra", claims.CLAIMS)
    result = good[claim.id]
    assert ledger.check(claim.id, result, at_paper_scale=True) == "reproduced"
    for number, spoil in enumerate(SPOILED[claim.id]):
        verdict = ledger.check(claim.id, spoil(result), at_paper_scale=True)
        assert verdict == "not reproduced", f"spoiled result {number} passed"
