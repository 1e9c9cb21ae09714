"""Repair: of the mixtures that the gate accepts, the best one; none where all lie below the champion."""

from __future__ import annotations

from flywheel.gate import Decision
from flywheel.repair import Mixture, best, repaired

REJECTED = Decision(False, ["narrower"], [])


def mixture(alpha, accepted, pass_1, pass_k=0.5):
    return Mixture(alpha, Decision(accepted, [f"said of {alpha}"], []), pass_1, pass_k)


def test_the_best_accepted_mixture_is_taken():
    tried = [mixture(0.25, True, 0.31), mixture(0.5, True, 0.33), mixture(0.75, False, 0.4)]
    decision, record = repaired(REJECTED, tried, 0.3)
    assert decision.accepted and record["taken"] == 0.5
    assert decision.reasons == [
        "rejected as trained: narrower",
        "repaired: 0.5 of it and 0.5 of the champion (tried: 0.25, 0.5, 0.75)",
        "said of 0.5",
    ]
    assert [m["accepted"] for m in record["mixtures"]] == [True, True, False]


def test_ties_go_to_pass_k_and_then_to_the_champion():
    assert best([mixture(0.25, True, 0.3, 0.4), mixture(0.5, True, 0.3, 0.5)], 0.3).alpha == 0.5
    assert best([mixture(0.25, True, 0.3), mixture(0.5, True, 0.3)], 0.3).alpha == 0.25


def test_a_mixture_below_the_champion_is_no_repair():
    decision, record = repaired(REJECTED, [mixture(0.25, True, 0.29)], 0.3)
    assert not decision.accepted and record["taken"] is None
    assert decision.reasons[-1] == (
        "no mixture with the champion passes and reaches its dev pass@1 of 0.300 (candidate's share 0.25)"
    )
