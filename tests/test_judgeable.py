"""What verifiers say that they cannot judge: one line, nothing where they do not say, and no traceback of theirs."""

from __future__ import annotations

import pytest

from flywheel import PluginError, Problem, answer_is_question, undecidable, unfit_for
from flywheel.plugins import make_verifier

PROBLEM = Problem("p", "What is 2 + 3?", "5")


class Silent:
    def verify(self, problem, completion):
        return True


class Says(Silent):
    answer_is_question = True

    def unfit(self, problem):
        return f"no tests:\n  {problem.id}" if problem.answer else None

    def undecidable(self, samples):
        return "" if samples > 1 else "one vote is none"


class Breaks(Silent):
    name = "mine"

    def unfit(self, problem):
        return problem.meta["tests"]


def test_what_it_says_is_one_line_and_silence_is_consent():
    assert unfit_for(Says(), PROBLEM) == "no tests: p"
    assert unfit_for(Says(), Problem("q", "?", "")) is None
    assert (undecidable(Says(), 1), undecidable(Says(), 2)) == ("one vote is none", None)
    assert (unfit_for(Silent(), PROBLEM), undecidable(Silent(), 1)) == (None, None)
    assert answer_is_question(Says()) and not answer_is_question(Silent())


def test_one_that_fails_over_the_question_is_named_with_the_problem():
    with pytest.raises(PluginError, match=r"verifier 'mine': unfit\('p'\) failed: KeyError: 'tests'"):
        unfit_for(Breaks(), PROBLEM)


@pytest.mark.parametrize("name", ["unit_tests", "self_edit", "proof"])
def test_shipped_ones_cannot_judge_a_sum(name):
    assert unfit_for(make_verifier(name, {}), PROBLEM)


@pytest.mark.parametrize("name", ["math", "exact"])
def test_nothing_stands_in_the_way_of_these(name):
    assert unfit_for(make_verifier(name, {}), PROBLEM) is None
