"""What the claims of every notebook must withstand: a good result holds, a spoiled one does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from learndyn.core.claims import Claim, Ledger, Verdict

Results = Mapping[str, Callable[[], Any]]
Tests = tuple[Callable[[], None], Callable[[str], None], Callable[[str, int], None]]


def verdict(claims: Sequence[Claim], claim_id: str, result: Any) -> Verdict:
    """What a ledger of these claims says of a result at the paper's scale."""
    return Ledger("a chapter", "a notebook", claims).check(claim_id, result, at_paper_scale=True)


def tests_of(
    claims: Sequence[Claim], good: Results, spoiled: Mapping[str, Sequence[Callable[[], Any]]]
) -> Tests:
    """Three tests, to be assigned to names that pytest collects.

    Args:
        good: for each claim's id a function that returns a result for which the claim holds.
        spoiled: for each claim's id functions that return results for which it must not hold.
    """

    def every_claim_has_a_good_and_a_spoiled_result() -> None:
        ids = {claim.id for claim in claims}
        assert len(ids) == len(claims)
        assert set(good) == set(spoiled) == ids
        assert all(spoiled.values())

    @pytest.mark.parametrize("claim_id", good)
    def a_good_result_holds(claim_id: str) -> None:
        assert verdict(claims, claim_id, good[claim_id]()) == Verdict.REPRODUCED

    cases = [(name, number) for name, results in spoiled.items() for number in range(len(results))]

    @pytest.mark.parametrize(("claim_id", "number"), cases)
    def a_spoiled_result_does_not(claim_id: str, number: int) -> None:
        assert verdict(claims, claim_id, spoiled[claim_id][number]()) == Verdict.NOT

    return every_claim_has_a_good_and_a_spoiled_result, a_good_result_holds, a_spoiled_result_does_not
