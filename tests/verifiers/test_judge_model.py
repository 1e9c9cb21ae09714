"""A judging model at work: reasons first, the verdict alone where there was none, and likelihoods that stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial

from flywheel import Completion, Request
from flywheel.verifiers import judge_prompt
from flywheel.verifiers.judge_model import Ask, JudgingModel


class Rambling:
    """A policy that comes to no verdict, and finds `A` a little less likely each time it is asked for one."""

    def __init__(self, reason: str = "stop") -> None:
        self.asked: list[Request] = []
        self.reason = reason
        self.closed = False

    def generate(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        for request in requests:
            self.asked.append(request)
            if request.choices:
                a = 0.9 - 0.01 * len(self.asked)
                likely = tuple(map(math.log, (a, 0.95 - a, 0.05)))
                yield [Completion(request.id, 0, "A", "stop", 1, None, likely)]
            else:
                yield [Completion(request.id, 0, "Both <|im_end|> have merits.", self.reason, 9)]

    def close(self) -> None:
        self.closed = True


def asks(*answers: str) -> list[Ask]:
    questions = [judge_prompt.comparison("Rubric.", "task", answer, "other", None) for answer in answers]
    return [(q, partial(judge_prompt.read_choice, keyword=q.keyword)) for q in questions]


def model(policy: Rambling, *, insist: bool = True) -> JudgingModel:
    return JudgingModel(policy, system_turn=False, temperature=0.0, max_tokens=64, insist=insist)


def test_likelihoods_are_taken_where_no_verdict_was_written() -> None:
    policy = Rambling("length")
    first, second = model(policy).answers(asks("one", "two"))
    assert [request.choices for request in policy.asked] == [(), (), ("A", "B", "TIE"), ("A", "B", "TIE")]
    assert not first.written and not first.why and math.isclose(sum(first.weights.values()), 1.0)
    assert first.weights["A"] > second.weights["A"]
    turns = policy.asked[2].messages
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[0]["content"] == policy.asked[0].messages[0]["content"]
    assert "<|" not in turns[1]["content"] and turns[2]["content"].startswith("Which answer is better")


def test_the_same_question_is_not_asked_twice() -> None:
    policy = Rambling()
    judging = model(policy)
    before = judging.answers(asks("one", "two"))
    assert judging.answers(asks("two", "one", "three"))[:2] == before[::-1]
    assert len(policy.asked) == 2 * 3
    judging.close()
    assert policy.closed


def test_what_was_not_insisted_on_or_could_not_be_asked_has_its_reason() -> None:
    (said,) = model(Rambling(), insist=False).answers(asks("one"))
    assert "the last line is no verdict" in said.why and not said.weights
    policy = Rambling("error")
    (said,) = model(policy).answers(asks("one"))
    assert "does not fit its window" in said.why and len(policy.asked) == 1
