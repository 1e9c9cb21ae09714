"""A judging model at work: questions in, what it said to each out, within the time that the verifier's call has."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flywheel import Policy, Request, seconds_left
from flywheel.verifiers import judge_prompt
from flywheel.verifiers.judge_prompt import Question, Unreadable

SPARE_SHARE = 0.1
"""Share of the time left that is kept for reading answers: a call that is late loses its engine."""
SPARE_SECONDS = 1.0
"""The most that is kept; aborting is quick."""

Ask = tuple[Question, Callable[[str], Any]]
"""A question, and what reads its answer: returns the verdict or raises Unreadable."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one question: a reading, or why there is none; `late` where the time was up, `torn` where two
    readings contradict one another."""

    value: Any = None
    why: str = ""
    late: bool = False
    torn: bool = False


LATE = Said(why="the judge did not answer in time: raise verify.deadline_seconds or lower max_tokens", late=True)

_UNANSWERED = {
    "length": "the judge's answer was cut off: raise max_tokens, or the model never comes to a verdict",
    "error": "the judge could not answer: the prompt does not fit its window; lower max_characters",
}


class JudgingModel:
    """A policy that is asked for verdicts."""

    def __init__(self, policy: Policy, *, system_turn: bool, temperature: float, max_tokens: int) -> None:
        self._policy = policy
        self._system_turn, self._temperature, self._max_tokens = system_turn, temperature, max_tokens

    def close(self) -> None:
        """End the engine."""
        self._policy.close()

    def answers(self, asks: Sequence[Ask]) -> list[Said]:
        """What each question came to, in order. Raises EngineError, EndpointError.

        What is not answered in the time that the verifier's call has left (`flywheel.seconds_left`) is `LATE`.
        """
        said: dict[int, Said] = {}
        requests = [self._request(str(i), question) for i, (question, _) in enumerate(asks)]
        with self._in_time() as in_time:
            for (completion,) in self._policy.generate(requests) if in_time and requests else ():
                i = int(completion.request_id)
                said[i] = _read(asks[i][1], completion.text, completion.finish_reason)
        return [said.get(i, LATE) for i in range(len(asks))]

    def _request(self, id: str, question: Question) -> Request:
        return Request(
            id=id,
            messages=question.messages if self._system_turn else judge_prompt.one_turn(question.messages),
            indices=(0,),
            temperature=self._temperature,
            max_tokens=self._max_tokens,
            seed=int.from_bytes(hashlib.sha256(question.keyword.encode()).digest()[:6], "big"),
        )

    @contextmanager
    def _in_time(self) -> Iterator[bool]:
        """Interrupt the policy, if it can be, when the call's time is nearly up; yields whether there is any."""
        left, interrupt = seconds_left(), getattr(self._policy, "interrupt", None)
        if left is None or interrupt is None:
            yield True
            return
        left -= min(SPARE_SECONDS, SPARE_SHARE * left)
        timer = threading.Timer(left, interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield left > 0.0
        finally:
            timer.cancel()
            timer.join()  # it must not interrupt the next call


def _read(reader: Callable[[str], Any], text: str, finish_reason: str) -> Said:
    if finish_reason != "stop":
        return Said(why=_UNANSWERED.get(finish_reason, _UNANSWERED["error"]))
    try:
        return Said(reader(text))
    except Unreadable as error:
        return Said(why=str(error))
