"""Each claim beyond the paper holds on a plausible good result and fails on a spoiled one."""

import pandas as pd
import pytest

PAIRS = [(a, loss) for a in ("sqr", "relusqr", "silu", "relu") for loss in ("projected_mse", "cross_entropy")]


@pytest.fixture
def claims():
    from learndyn.cogo_li2.claims import beyond_the_paper

    return {claim.id.removeprefix("cogo."): claim for claim in beyond_the_paper.CLAIMS}


def designs():
    residual = {
        ("all", 2): 8.0, ("all", 3): 9.0, ("all", 4): 7.0, ("all", 5): 5.879,
        ("without R_n", 2): 4.0, ("without R_n", 3): 4.185, ("without R_n", 5): 1.0,
        ("without R_*", 2): 3.75,
    }  # fmt: skip
    rows = []
    for constraints in ("all", "without R_n", "without R_*"):
        for n in range(2, 9):
            feasible = (constraints, n) not in residual
            rows.append(
                {
                    "constraints": constraints, "nodes": n, "feasible": feasible,
                    "solved": 100 * feasible, "min_residual": residual.get((constraints, n), 0.0),
                    "dimensions": (2,) * feasible, "nui": 0, "syn": 0, "both": 0,
                    "nui_dimensions": (), "syn_dimensions": (), "symmetries": (7,) * feasible,
                }
            )  # fmt: skip
    table = pd.DataFrame(rows).set_index(["constraints", "nodes"])
    special = {
        ("all", 6): {
            "dimensions": (3, 4),
            "nui": 60,
            "syn": 40,
            "nui_dimensions": (4,),
            "syn_dimensions": (3,),
        },
        ("without R_n", 4): {"dimensions": (3,), "nui": 100, "nui_dimensions": (3,)},
        ("without R_*", 3): {"dimensions": (2,), "syn": 100, "syn_dimensions": (2,)},
    }
    for key, changes in special.items():
        for name, value in changes.items():
            table.at[key, name] = value
    return table.reset_index()


def spoil(table, constraints, nodes, **changes):
    table = table.copy().set_index(["constraints", "nodes"])
    for name, value in changes.items():
        table.at[(constraints, nodes), name] = value
    return table.reset_index()


def minima(complete=6, hosted=4):
    rows = [(5, False, False, complete, 5.45), (5, False, True, hosted, 4.76), (5, True, False, 4, 6.2)]
    return pd.DataFrame(
        rows, columns=["character_order", "constant_input", "bias_hosted", "nodes", "norm_factor"]
    )


def orders(spoiled=False):
    nodes = {2: (1, 2), 3: (3, 6), 4: (4, 5), 5: (4, 6)}
    names = {2: "Z_2 × Z_2", 3: "Z_3 × Z_3", 4: "Z_8", 5: "Z_8"}
    rows = [
        (names[m], 0, 10 * m + i, m, 5 if spoiled and m == 5 else nodes[m][i % 2])
        for m in nodes
        for i in range(10)
    ]
    return pd.DataFrame(rows, columns=["group", "run", "frequency", "character_order", "nodes"])


def runs(elsewhere=1e-8, there=0.02):
    shares = {"Z_2 × Z_2": elsewhere, "Z_3 × Z_3": there, "Z_8": 1e-9}
    return pd.DataFrame({"group": list(shares), "run": 0, "constant_share": list(shares.values())})


def hosts(factor=1.2):
    table = pd.DataFrame({"group": ["Z_2 × Z_2 × Z_2", "Z_2 × Z_2"], "predicted": [3.36, 2.2]})
    return table.assign(found=factor * table["predicted"], ratio=factor)


def networks(**shares):
    index = pd.MultiIndex.from_tuples(PAIRS, names=["activation", "loss"])
    table = pd.DataFrame({"four_or_six": 0.3, "factorable": 0.1}, index=index)
    table.loc[("sqr", "projected_mse")] = 1.0
    for name, value in shares.items():
        table.loc[("silu", "projected_mse"), name] = value
    return table


PREDICTED = {2: {1, 2}, 3: {3, 4, 5, 6}, 4: {4, 5}, 5: {4, 6}}
BLOCKS = {2: 2, 3: 3, 4: 4, 5: 6}


def cases():
    good = designs()
    return {
        "design-order6": (good, spoil(good, "all", 5, feasible=True)),
        "design-order6-products": (good, spoil(good, "all", 6, nui=59)),
        "design-order4": (good, spoil(good, "without R_n", 5, feasible=True)),
        "design-order3": (good, spoil(good, "without R_*", 3, syn=99)),
        "design-residuals": (good, spoil(good, "all", 5, min_residual=6.2)),
        "design-larger": (good, spoil(good, "all", 7, syn=1)),
        "design-unbalanced": (minima(), minima(complete=5)),
        "group-blocks": (BLOCKS, BLOCKS | {3: 6}),
        "group-networks": (pd.DataFrame({"loss": [1e-16, 0.0]}), pd.DataFrame({"loss": [1e-16, 1e-3]})),
        "group-orders": ((orders(), PREDICTED), (orders(spoiled=True), PREDICTED)),
        "group-constant": ((runs(), orders()), (runs(elsewhere=0.01), orders())),
        "group-hosts": (hosts(), hosts(2.0)),
        "other-orders": (networks(), networks(four_or_six=1.0)),
        "other-factors": (networks(), networks(factorable=0.9)),
    }


def test_every_claim_has_a_case(claims):
    assert set(claims) == set(cases())


@pytest.mark.parametrize("name", sorted(cases()))
def test_holds_on_a_good_result_and_fails_on_a_spoiled_one(claims, name):
    from learndyn.core.claims import Ledger, Verdict

    good, spoiled = cases()[name]
    claim = claims[name]
    ledger = Ledger("cogo_li2", "beyond_the_paper", [claim])
    assert ledger.check(claim.id, good, at_paper_scale=True) is Verdict.REPRODUCED, ledger.records()
    assert ledger.check(claim.id, spoiled, at_paper_scale=True) is Verdict.NOT
    assert ledger.check(claim.id, None, at_paper_scale=True) is Verdict.NOT


def test_more_ways_to_fail(claims):
    good = designs()
    spoiled = {
        "design-order6": spoil(good, "all", 6, dimensions=(3,)),
        "design-order6-products": spoil(good, "all", 6, nui_dimensions=(3,)),
        "design-order4": spoil(good, "without R_n", 4, nui=50),
        "design-residuals": spoil(good, "all", 5, min_residual=1.0),
        "group-constant": (runs(there=1e-6), orders()),
        "group-hosts": hosts(0.5),
        "other-orders": networks().iloc[:3],
    }
    for name, result in spoiled.items():
        try:
            held = claims[name].check(result).holds
        except KeyError:
            held = False
        assert not held, name
