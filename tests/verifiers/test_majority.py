"""Majority: votes by mathematical equality, a band and a margin, and never a look at the reference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel import Judgement, PluginError, Problem
from flywheel.plugins import make_verifier
from flywheel.protocols import traits
from flywheel.verifiers.majority import Majority

PROBLEM = Problem(id="p", prompt="?", answer="")


def vote(*answers: str | None, reference: str = "", **options) -> list[Judgement]:
    texts = [f"So it is \\boxed{{{a}}}." if a is not None else "I do not know" for a in answers]
    return Majority(**options).verify_group(Problem(id="p", prompt="?", answer=reference), texts)


def outcomes(judgements: list[Judgement]) -> list[str]:
    return [str(j.outcome) for j in judgements]


def test_the_most_frequent_answer_is_correct_and_the_others_wrong() -> None:
    judged = vote("42", "41", "42", "42")
    assert outcomes(judged) == ["correct", "wrong", "correct", "correct"]
    assert [j.score for j in judged] == [1.0, 0.0, 1.0, 1.0]
    assert judged[1].answer == "41"
    assert {j.detail for j in judged} == {"3 of 4 say 42, 1 say 41"}


@pytest.mark.parametrize(
    "same",
    [
        ("0.5", r"\frac{1}{2}", "1/2"),
        ("1,000", "1000", "1000.0"),
        (r"\sqrt{8}", r"2\sqrt{2}", r"2 \sqrt 2"),
        ("x^2+2x+1", "(x+1)^2", "1+2x+x^2"),
        (r"\{1,2\}", r"\{2,1\}", r"\{1, 2\}"),
    ],
)
def test_votes_are_counted_by_value_not_by_text(same: tuple[str, ...]) -> None:
    judged = vote(*same, "7", "8")
    assert outcomes(judged) == ["correct"] * 3 + ["wrong"] * 2


@pytest.mark.parametrize(
    ("one", "other"), [("10", "10\\%"), ("(1,2)", "\\{1,2\\}"), ("\\sqrt{2}", "1.414"), ("1", "-1")]
)
def test_unlike_answers_do_not_pool_their_votes(one: str, other: str) -> None:
    # Pooled they would win; apart each has two of five, no more than the third.
    assert set(outcomes(vote(one, one, other, other, "77"))) == {"no_answer"}


def test_the_reference_is_never_looked_at() -> None:
    for reference in ("41", "42", "nonsense {", ""):
        assert outcomes(vote("42", "42", "41", reference=reference)) == ["correct", "correct", "wrong"]


@pytest.mark.parametrize(
    ("answers", "options", "why"),
    [
        (["1", "1", "2", "2"], {}, "a tie"),
        (["1", "1", "2", "3", "4"], {}, "no quorum (min_share = 0.5)"),
        (["1", "1", None, None, None], {}, "no quorum (min_share = 0.5)"),  # those who abstain count
        (["1", "1", "1", "1"], {"max_share": 0.9}, "too sure to teach anything (max_share = 0.9)"),
        (["1", "1", "1", "2", "2"], {"min_margin": 0.4}, "too thin a margin (min_margin = 0.4)"),
        (["1", None, None], {"min_share": 0.0}, "no vote: 1 of 3 samples give an answer"),
    ],
)
def test_where_nobody_wins_there_is_nothing_to_judge_by(answers: list, options: dict, why: str) -> None:
    judged = vote(*answers, **options)
    assert set(outcomes(judged)) == {"no_answer"}
    assert all(j.detail.startswith(why) for j, a in zip(judged, answers, strict=True) if a is not None), judged
    assert [j.answer for j in judged] == answers


def test_the_band_and_the_margin_include_their_ends() -> None:
    answers = ["1"] * 7 + ["2"] * 3
    options = {"min_share": 0.7, "max_share": 0.7, "min_margin": 0.4}
    assert outcomes(vote(*answers, **options)) == ["correct"] * 7 + ["wrong"] * 3


def test_who_gives_no_answer_is_not_judged() -> None:
    judged = vote("42", None, "42", "41")
    assert outcomes(judged) == ["correct", "no_answer", "correct", "wrong"]
    assert judged[1].detail == "the completion marks no answer"


def test_the_order_of_samples_changes_nothing() -> None:
    answers = ["0.5", "1/2", "3", r"\frac12", "x", "3"]
    forwards, backwards = vote(*answers), vote(*answers[::-1])
    assert (
        outcomes(forwards) == outcomes(backwards)[::-1] == ["correct", "correct", "wrong", "correct", "wrong", "wrong"]
    )


def test_a_single_sample_has_no_quorum_of_its_own() -> None:
    completion = "\\boxed{42}"
    assert Majority().verify(PROBLEM, completion).outcome == "no_answer"
    assert Majority(min_votes=1).verify(PROBLEM, completion).outcome == "correct"


def test_any_text_can_vote() -> None:
    nasty = [
        "",
        "\x00",
        "\ud800",
        "\\boxed{" * 1000,
        "\\boxed{" + "9" * 100_000 + "}",
        "\\boxed{nan}",
        "\\boxed{}",
        "{" * 500,
    ]
    assert "correct" not in outcomes(Majority().verify_group(PROBLEM, nasty))
    assert (
        outcomes(Majority(min_share=0.2).verify_group(PROBLEM, [*nasty, "\\boxed{4}", "\\boxed{4.0}"]))[-2:]
        == ["correct"] * 2
    )


@pytest.mark.parametrize(
    ("options", "samples", "can_win"),
    [
        ({}, 1, False),  # min_votes
        ({}, 2, True),
        ({"max_share": 0.9}, 2, False),
        ({"max_share": 0.9}, 3, True),  # 2 of 3
        ({"min_share": 0.5, "max_share": 0.5}, 3, False),
        ({"min_share": 0.5, "max_share": 0.5}, 4, True),
        ({"min_share": 0.1, "max_share": 0.3}, 6, False),  # one of 6 leads nobody, 2 are a third
        ({"min_share": 0.1, "max_share": 0.3}, 7, True),
        ({"min_share": 0.1, "max_share": 0.3, "min_votes": 1}, 6, True),  # the others may give no answer
        ({"max_share": 0.6, "min_margin": 0.7}, 100, False),
    ],
)
def test_how_many_samples_a_vote_can_be_won_with(options: dict[str, float], samples: int, can_win: bool) -> None:
    assert (Majority(**options).undecidable(samples) is None) == can_win


def ballots(samples: int, most: int | None = None) -> Iterator[list[int]]:
    """All ways in which so many samples can answer: the classes' sizes, largest first; the rest answers nothing."""
    yield []
    for first in range(1, min(samples, most or samples) + 1):
        yield from ([first, *rest] for rest in ballots(samples - first, first))


SHARES = st.floats(0.0, 1.0)


@given(SHARES, SHARES, SHARES, st.integers(1, 9), st.integers(1, 9))
def test_no_vote_can_be_won_only_where_no_ballot_wins(
    one: float, other: float, margin: float, votes: int, samples: int
) -> None:
    made = Majority(min_share=min(one, other), max_share=max(one, other), min_margin=margin, min_votes=votes)
    won = any(classes and not made._refusal(classes, samples) for classes in ballots(samples))
    assert (made.undecidable(samples) is None) == won


def test_options() -> None:
    text = ["so 3 apples and 4 pears make 7", "that is 7", "it was 8"]
    assert outcomes(Majority().verify_group(PROBLEM, text)) == ["no_answer"] * 3
    assert outcomes(Majority(last_number=True).verify_group(PROBLEM, text)) == ["correct", "correct", "wrong"]
    assert outcomes(vote("3.14", "3.1416", "7", tolerance=0.01)) == ["correct", "correct", "wrong"]
    assert traits(make_verifier("majority", {})).group
    for wrong in ({"min_share": 0.9, "max_share": 0.5}, {"min_margin": 2.0}, {"min_votes": 0}, {"tolerance": 3.0}):
        with pytest.raises(PluginError):
            make_verifier("majority", wrong)
