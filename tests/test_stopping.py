"""Stopping: runs know when to end, and which rejections came in a row."""

from __future__ import annotations

import pytest

from flywheel.recipe import StopSection
from flywheel.stopping import RoundRecord, rejected_in_a_row, stop_reason


def record(index, accepted, examples=10, pass_1=0.3):
    return RoundRecord(index, 100, 20, examples, accepted, pass_1)


@pytest.mark.parametrize(
    ("history", "stop", "words"),
    [
        ([], {}, None),
        ([record(0, True)], {}, None),
        ([record(0, False)], {}, None),
        ([record(0, True), record(1, False), record(2, False)], {}, "2 candidates in a row"),
        ([record(0, False), record(1, True), record(2, False)], {"plateau": None}, None),
        ([record(0, False)], {"rejections": 1}, "1 candidates in a row"),
        ([record(0, None, examples=0)], {}, "nothing to train on: round 0 kept 0 of 100"),
        ([record(0, None, examples=None)], {}, None),
        ([record(0, True, pass_1=0.9)], {"target_pass_1": 0.8}, "has reached"),
        ([record(0, False, pass_1=0.9)], {"target_pass_1": 0.8}, None),
        ([record(i, True, pass_1=0.3) for i in range(3)], {}, None),
        ([record(i, True, pass_1=0.202) for i in range(3)], {}, "a plateau: the last 3 rounds"),
        ([record(0, True, pass_1=0.202), record(1, True, pass_1=0.203)], {}, None),
        (
            [record(0, True, pass_1=0.5), *(record(i, True, pass_1=0.5) for i in (1, 2))],
            {"plateau": 2},
            "from 0.500 to",
        ),
        ([record(0, True, pass_1=0.5), record(1, True, pass_1=0.52)], {"plateau": 1, "plateau_gain": 0.01}, None),
        ([record(i, False) for i in range(3)], {"rejections": 9}, "from 0.200 to 0.200"),
        ([record(i, False) for i in range(2)], {"rejections": 9}, None),
    ],
)
def test_when_a_run_stops(history, stop, words):
    reason = stop_reason(StopSection(**stop), 1, history, base_pass_1=0.2)
    assert (reason is None) if words is None else (words in reason)


def test_rejections_in_a_row_end_at_the_last_acceptance():
    rounds = [record(0, False), record(1, True), record(2, False), record(3, False), record(4, None)]
    assert [r.index for r in rejected_in_a_row(rounds)] == [2, 3]
    assert rejected_in_a_row(rounds[:2]) == []
