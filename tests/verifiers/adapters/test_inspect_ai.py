"""Inspect's scorers, by their protocol; with the library itself where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from flywheel import Judgement, Outcome, PluginError, Problem
from flywheel.judgements import to_judgement
from flywheel.plugins import make_verifier

# A scorer needs nothing of the library but what it is given; Score is the library's in all that is read of it.
SCORERS = """
from dataclasses import dataclass
from typing import Any

@dataclass
class Score:
    value: Any
    answer: str | None = None
    explanation: str | None = None

def last_word(ignore_case: bool = False):
    async def score(state, target):
        said = state.output.completion.split()
        if not said:
            return Score("N")
        found, wanted = said[-1], target.text
        if ignore_case:
            found, wanted = found.lower(), wanted.lower()
        return Score("C" if found == wanted else "I", answer=found, explanation=f"of {state.metadata.get('kind')}")
    return score

async def any_target(state, target):
    assert state.messages[-1].role == "assistant" and state.input_text == "?"
    return Score(state.output.completion in target)

async def evaluated(state, target):
    return eval(state.output.completion)

def no_scorer():
    return 3
"""


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("scorers") / "my_scorers.py"
    file.write_text(SCORERS)
    return str(file)


def judge(options: dict[str, Any], completion: str, **problem: Any) -> Judgement:
    fields: dict[str, Any] = {"id": "p", "prompt": "?", "answer": "Paris", **problem}
    return to_judgement(make_verifier("inspect_ai", options).verify(Problem(**fields), completion))


def test_a_scorers_factory_is_called_with_its_arguments(scorers: str) -> None:
    options = {"function": f"{scorers}:last_word"}
    found = judge(options, "I say Paris", meta={"kind": "capital"})
    assert (found.outcome, found.answer, found.detail) == (Outcome.CORRECT, "Paris", "of capital")
    assert judge(options, "I say paris").outcome == Outcome.WRONG
    assert judge({**options, "arguments": {"ignore_case": True}}, "I say paris").outcome == Outcome.CORRECT
    assert judge(options, " ").outcome == Outcome.NO_ANSWER


def test_a_target_may_be_a_list(scorers: str) -> None:
    options = {"function": f"{scorers}:any_target", "target": "meta.any"}
    assert judge(options, "b", meta={"any": ["a", "b"]}).outcome == Outcome.CORRECT
    assert judge(options, "c", meta={"any": ["a", "b"]}).outcome == Outcome.WRONG


@pytest.mark.parametrize(
    ("score", "outcome", "value"),
    [
        ("Score('C')", Outcome.CORRECT, 1.0),
        ("Score('I')", Outcome.WRONG, 0.0),
        ("Score('P')", Outcome.WRONG, 0.5),
        ("Score('N')", Outcome.NO_ANSWER, 0.0),
        ("Score(True)", Outcome.CORRECT, 1.0),
        ("Score(1)", Outcome.CORRECT, 1.0),
        ("Score(0.25)", Outcome.WRONG, 0.25),
        ("Score('yes')", Outcome.CORRECT, 1.0),
        ("Score('0.5')", Outcome.WRONG, 0.5),
        ("Score('maybe')", Outcome.ERROR, 0.0),
        ("Score(float('nan'))", Outcome.ERROR, 0.0),
        ("Score(7)", Outcome.ERROR, 0.0),
        ("Score({'a': 1.0})", Outcome.ERROR, 0.0),
        ("Score([1.0])", Outcome.ERROR, 0.0),
        ("None", Outcome.ERROR, 0.0),
        ("1.0", Outcome.ERROR, 0.0),
    ],
)
def test_every_value_that_a_score_can_have(scorers: str, score: str, outcome: Outcome, value: float) -> None:
    found = judge({"function": f"{scorers}:evaluated"}, score)
    assert (found.outcome, found.score) == (outcome, value)


def test_partial_credit_and_one_entry_of_many(scorers: str) -> None:
    options = {"function": f"{scorers}:evaluated"}
    assert judge({**options, "partial": 1.0}, "Score('P')").outcome == Outcome.CORRECT
    assert judge({**options, "key": "a"}, "Score({'a': 'C', 'b': 0})").outcome == Outcome.CORRECT
    assert judge({**options, "key": "b"}, "Score({'a': 'C', 'b': 0})").outcome == Outcome.WRONG


def test_a_factory_that_makes_no_scorer_says_so(scorers: str) -> None:
    with pytest.raises(PluginError, match="made a int, which is no scorer"):
        judge({"function": f"{scorers}:no_scorer"}, "x")


@pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is None, reason="inspect_ai is not installed (35 MB)")
def test_the_librarys_own_scorers(tmp_path: Path) -> None:
    assert judge({"function": "inspect_ai.scorer:match"}, "it is Paris").outcome == Outcome.CORRECT
    assert judge({"function": "inspect_ai.scorer:match"}, "it is Rome").outcome == Outcome.WRONG
    numeric = {"function": "inspect_ai.scorer:match", "arguments": {"numeric": True}}
    assert judge(numeric, "it costs $1,234", answer="1234").outcome == Outcome.CORRECT
    assert judge({"function": "inspect_ai.scorer:includes"}, "PARIS it is").outcome == Outcome.CORRECT
    pattern = {"function": "inspect_ai.scorer:pattern", "arguments": {"pattern": r"ANSWER: (\w+)"}}
    assert judge(pattern, "ANSWER: Paris").outcome == Outcome.CORRECT
