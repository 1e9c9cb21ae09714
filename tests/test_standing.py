"""Standing: mastered, solved or unsolved, from the rounds before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.standing import standing
from flywheel.types import Origin, Sample, Verdict


def rows(round_index: int, outcomes: dict[str, list[str]], origin: str = Origin.POLICY):
    samples, verdicts = [], {}
    for problem_id, said in outcomes.items():
        for i, outcome in enumerate(said):
            name = f"r{round_index}/{problem_id}/{origin}/{i}"
            samples.append(Sample(name, problem_id, round_index, 0, i, "", "stop", 1, 1.0, "", origin))
            verdicts[name] = Verdict(name, problem_id, outcome, 0.0, None, "", "", "", "")
    return samples, verdicts


def test_standing_follows_the_last_round_that_asked():
    first = rows(0, {"a": ["correct", "correct"], "b": ["wrong"], "c": ["correct"], "d": ["error"], "e": ["correct"]})
    second = rows(1, {"a": ["correct", "wrong"], "b": ["correct", "error"], "e": ["error"]})
    assert standing([first]) == {"a": "mastered", "b": "unsolved", "c": "mastered", "e": "mastered"}
    assert standing([first, second]) == {"a": "solved", "b": "mastered", "c": "mastered", "e": "mastered"}


def test_hinted_answers_prove_nothing_and_other_models_do_not_master():
    hinted = rows(0, {"a": ["correct"]}, Origin.HINTED)
    taught = rows(0, {"a": ["correct"]}, Origin.TEACHER)
    assert standing([hinted]) == {}
    assert standing([taught]) == {"a": "solved"}


@given(st.lists(st.dictionaries(st.sampled_from("ab"), st.lists(st.sampled_from(["correct", "wrong", "error"])))))
def test_what_was_solved_once_is_never_unsolved(history):
    rounds = [rows(i, outcomes) for i, outcomes in enumerate(history)]
    found = standing(rounds)
    for name in "ab":
        judged = [o for outcomes in history for o in outcomes.get(name, ()) if o != "error"]
        assert (name in found) == bool(judged)
        assert (found.get(name) == "unsolved") == (bool(judged) and "correct" not in judged)
