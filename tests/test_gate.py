"""Gate: what is worse or narrower does not get through, and runs know when to stop."""

from __future__ import annotations

import pytest

from flywheel.gate import RoundRecord, decide, stop_reason
from flywheel.recipe import EvaluateSection, GateSection, StopSection

EVALUATE = EvaluateSection(samples=8, resamples=1000)


def even(share, problems=100, n=8):
    """Every problem right in about this share of its samples."""
    return {f"p{i}": (n, round(share * n)) for i in range(problems)}


def narrow(share, problems=100, n=8):
    """A share of the problems always right, the others never."""
    return {f"p{i}": (n, n if i < share * problems else 0) for i in range(problems)}


def gate(candidate, champion, base, **settings):
    return decide(candidate, champion, base, k=8, gate=GateSection(**settings), evaluate=EVALUATE, seed=0)


def test_better_and_as_broad_is_accepted():
    assert gate({"dev": even(0.5)}, {"dev": even(0.25)}, {"dev": even(0.25)}).accepted


def test_worse_is_rejected_and_says_by_how_much():
    decision = gate({"dev": even(0.25)}, {"dev": even(0.5)}, {"dev": even(0.25)})
    assert not decision.accepted
    assert decision.reasons == [
        "dev pass@1 against the champion: -0.250 [-0.250, -0.250], allowed to fall by 0.000: worse beyond the interval"
    ]


def test_better_but_narrower_is_rejected():
    decision = gate({"dev": narrow(0.5)}, {"dev": even(0.25)}, {"dev": even(0.25)})
    assert not decision.accepted
    assert [c.what for c in decision.checks if not c.passed] == ["dev pass@8"]


def test_a_fall_within_the_noise_is_accepted():
    champion = {f"p{i}": (8, i % 3) for i in range(30)}
    candidate = {f"p{i}": (8, (i + 1) % 3 if i else 0) for i in range(30)}
    assert gate({"dev": candidate}, {"dev": champion}, {"dev": champion}).accepted


def test_an_ood_set_that_falls_is_rejected_unless_the_margin_allows_it():
    arguments = (
        {"dev": even(0.5), "far": even(0.25)},
        {"dev": even(0.5), "far": even(0.5)},
        {"dev": even(0.5), "far": even(0.5)},
    )
    assert [c.what for c in gate(*arguments).checks if not c.passed] == ["far pass@1"]
    assert gate(*arguments, ood_margin=0.3).accepted


def test_the_gate_can_be_off():
    assert gate({"dev": even(0.0)}, {"dev": even(1.0)}, {"dev": even(1.0)}, enabled=False).accepted


def record(index, accepted, examples=10, pass_1=0.3):
    return RoundRecord(index, 100, 20, examples, accepted, pass_1)


@pytest.mark.parametrize(
    ("history", "stop", "words"),
    [
        ([], {}, None),
        ([record(0, True)], {}, None),
        ([record(0, False)], {}, None),
        ([record(0, True), record(1, False), record(2, False)], {}, "2 candidates in a row"),
        ([record(0, False), record(1, True), record(2, False)], {}, None),
        ([record(0, False)], {"rejections": 1}, "1 candidates in a row"),
        ([record(0, None, examples=0)], {}, "nothing to train on: round 0 kept 0 of 100"),
        ([record(0, None, examples=None)], {}, None),
        ([record(0, True, pass_1=0.9)], {"target_pass_1": 0.8}, "has reached"),
        ([record(0, False, pass_1=0.9)], {"target_pass_1": 0.8}, None),
    ],
)
def test_when_a_run_stops(history, stop, words):
    reason = stop_reason(StopSection(**stop), 1, history)
    assert (reason is None) if words is None else (words in reason)
