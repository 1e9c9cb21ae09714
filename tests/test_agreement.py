"""Agreement of the verifier that decides with an observer that knows the answers."""

from __future__ import annotations

import pytest

from flywheel.agreement import agreement, as_observed, proposed_measures
from flywheel.types import Problem, Sample, Verdict


def sample(id: str) -> Sample:
    return Sample(id, id[0], 0, 0, 0, "said", "stop", 5, 1.0, "", "policy")


def said(**outcomes: str) -> dict[str, Verdict]:
    return {i: Verdict(i, i[0], outcome, 0.0, None, "", "v", "1", "") for i, outcome in outcomes.items()}


def test_what_is_compared_and_with_what():
    decided = said(
        a1="correct", a2="correct", a3="wrong", b1="correct", b2="wrong", c1="no_answer", d1="error", e1="correct"
    )
    seen = said(a1="correct", a2="wrong", a3="wrong", b1="correct", b2="correct", c1="wrong", d1="correct", e1="error")
    found = agreement([sample(i) for i in decided], decided, seen)
    assert found == {
        "samples": 5,
        "agree": 3 / 5,
        "kept_right": 2 / 3,
        "all_right": 4 / 7,
        "found": 2 / 4,
        "undecided": 2,
        "unobserved": 1,
    }


def test_nothing_to_share_is_no_share():
    found = agreement([sample("a1")], said(a1="no_answer"), {})
    assert (found["samples"], found["agree"], found["kept_right"], found["all_right"]) == (0, None, None, None)
    assert (found["undecided"], found["unobserved"]) == (1, 1)


def test_proposed_problems_in_the_band_and_their_labels():
    decided = said(a1="correct", a2="wrong", b1="no_answer", b2="no_answer", c1="correct", c2="correct")
    decided |= said(d1="wrong", d2="correct", e1="correct", e2="wrong", z1="correct", z2="wrong")
    samples = [sample(i) for i in decided]
    seen = said(a1="correct", a2="wrong", d1="wrong", d2="wrong", e1="error")
    found = proposed_measures("abcde", samples, decided, seen)
    # a, d, e are in the band (c's vote is unanimous, b has none); e's answer is not known, z was not proposed.
    assert found == {"problems": 5, "in_band": 3, "in_band_share": 0.6, "labels": 2, "label_right": 0.5}
    assert proposed_measures([], samples, decided, seen) is None


@pytest.mark.parametrize(
    ("prompt", "answer", "seen"),
    [
        ("What is 3 + 4?", "", "7"),
        ("What is 3 + 4?", "8", "8"),
        ("Halve 7 / 2", "", "7/2"),
        ("How many?", "", None),
        ("2 + 3 = 5, so what is 4 + 4?", "", None),
    ],
)
def test_the_observer_gets_the_reference_or_the_sum_that_is_stated(prompt, answer, seen):
    found = as_observed(Problem("p", prompt, answer), "math")
    assert (found and (found.answer, found.verifier)) == (seen and (seen, "math"))
