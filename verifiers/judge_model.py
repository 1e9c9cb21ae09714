"""A judging model at work: questions in, what it said to each out, within the time that the verifier's call has."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from flywheel import Completion, Message, Policy, Request, seconds_left
from flywheel.verifiers import judge_prompt
from flywheel.verifiers.judge_prompt import Question, Unreadable

SPARE_SHARE = 0.1
"""Share of the time left that is kept for reading answers: a call that is late loses its engine."""
SPARE_SECONDS = 1.0
"""The most that is kept; aborting is quick."""

KEPT = 100_000
"""Questions whose likelihoods are remembered, so that the same completion gets the same verdict."""

Reader = Callable[[str], object]
"""What reads an answer: returns the verdict or raises Unreadable."""
Ask = tuple[Question, Reader]


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one question: how likely each verdict is, or why there is none; `late` where the time was up.

    A verdict that the judge has written is the only one (`written`).
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    late: bool = False
    written: bool = False


LATE = Said(why="the judge did not answer in time: raise verify.deadline_seconds or lower max_tokens", late=True)

_UNANSWERED = {
    "length": "the judge's answer was cut off: raise max_tokens, or the model never comes to a verdict",
    "error": "the judge could not answer: the prompt does not fit its window; lower max_characters",
}


class JudgingModel:
    """A policy that is asked for verdicts."""

    def __init__(self, policy: Policy, *, system_turn: bool, temperature: float, max_tokens: int, insist: bool) -> None:
        self._policy = policy
        self._system_turn, self._temperature, self._max_tokens = system_turn, temperature, max_tokens
        self._insist = insist
        self._known: dict[str, Said] = {}

    def close(self) -> None:
        """End the engine."""
        self._policy.close()

    def answers(self, asks: Sequence[Ask]) -> list[Said]:
        """What each question came to, in order. Raises EngineError, EndpointError.

        First the judge may reason and write its verdict; where it writes none it is asked for the verdict alone. What
        is not answered in the time that the verifier's call has left (`flywheel.seconds_left`) is `LATE`.
        """
        said = {i: self._known[question.key] for i, (question, _) in enumerate(asks) if question.key in self._known}
        texts: dict[int, str] = {}
        requests = [self._request(i, q, q.messages) for i, (q, _) in enumerate(asks) if i not in said]
        for i, completion in self._asked(requests):
            said[i] = _read(asks[i][1], completion.text, completion.finish_reason)
            if said[i].why and completion.finish_reason != "error":
                texts[i] = completion.text
        if self._insist and len(said) == len(asks):
            again = [
                replace(self._request(i, asks[i][0], asks[i][0].once_more(text)), choices=asks[i][0].verdicts)
                for i, text in texts.items()
            ]
            before = {i: said.pop(i) for i in texts}
            for i, completion in self._asked(again):
                said[i] = _weighed(asks[i][0].verdicts, completion, before[i])
                self._keep(asks[i][0].key, said[i])
        return [said.get(i, LATE) for i in range(len(asks))]

    def _keep(self, key: str, said: Said) -> None:
        """Let likelihoods stand: in short floats they shift a little with what else is in an engine's batch."""
        if said.weights and not said.written:
            while len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = said

    def _asked(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """What was answered in time, by the place of its question."""
        if not requests:
            return
        with self._in_time() as in_time:
            for (completion,) in self._policy.generate(requests) if in_time else ():
                yield int(completion.request_id), completion

    def _request(self, place: int, question: Question, messages: list[Message]) -> Request:
        return Request(
            id=str(place),
            messages=messages if self._system_turn else judge_prompt.one_turn(messages),
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


def _read(reader: Reader, text: str, finish_reason: str) -> Said:
    if finish_reason != "stop":
        return Said(why=_UNANSWERED.get(finish_reason, _UNANSWERED["error"]))
    try:
        return Said({str(reader(text)): 1.0}, written=True)
    except Unreadable as error:
        return Said(why=str(error))


def _weighed(verdicts: Sequence[str], completion: Completion, before: Said) -> Said:
    """What came of asking for the verdict alone; `before`, which says why there is none, where that was none either."""
    if completion.choice_logprobs is not None:
        likelihoods = map(math.exp, completion.choice_logprobs)
        return Said(dict(zip(verdicts, likelihoods, strict=True)))
    word = completion.text.strip()
    return Said({word: 1.0}, written=True) if word in verdicts else before
