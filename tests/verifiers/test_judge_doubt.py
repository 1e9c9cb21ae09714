"""A CORRECT beside an alternative that passes: wrong where likelihoods say so, else not believed."""

from __future__ import annotations

import pytest

from flywheel import Judgement, Outcome
from flywheel.verifiers.judge_doubt import Doubt, doubted
from flywheel.verifiers.judge_model import Said

WEIGHED = (Said({"9": 0.7, "8": 0.3}), Said({"9": 1.0}))
WRITTEN = (Said({"9": 1.0}, written=True), Said({"9": 1.0}))


@pytest.mark.parametrize(
    ("score", "rated", "weighed", "outcome"),
    [
        (0.85, WEIGHED, True, Outcome.WRONG),
        (0.89, WEIGHED, True, Outcome.WRONG),
        (0.95, WEIGHED, True, Outcome.ERROR),
        (0.85, WRITTEN, True, Outcome.ERROR),
        (0.85, WEIGHED, False, Outcome.ERROR),
    ],
)
def test_no_better_than_an_alternative_is_wrong_and_the_rest_not_believed(
    score: float, rated: tuple[Said, Said], weighed: bool, outcome: Outcome
) -> None:
    doubt = Doubt("the judge lets 'Thanks.' pass here", "Thanks.", 0.86, weighed)
    found = doubted(Judgement(Outcome.CORRECT, score, None, "rated 8.6 and 8.6 of 1 to 10"), rated, doubt)
    assert found.outcome == outcome
    assert found.detail == doubt.why or found.detail.endswith("no better than 'Thanks.'")
