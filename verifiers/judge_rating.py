"""The judge's mode `rate`: two ratings an answer, in opposite orders, and none believed where anything passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers import judge_prompt
from flywheel.verifiers.judge_brief import Brief, could_not_judge, task
from flywheel.verifiers.judge_doubt import Doubt, doubted, is_weighed
from flywheel.verifiers.judge_model import Ask, Said

UNTRIED = "there was no time to try the broad alternatives on its problem (verify.deadline_seconds)"
"""Why a completion that passes is ERROR where it is not known whether the judge is to be believed."""


class Rater:
    """Rates answers by themselves; it remembers on which problems the judge lets a broad alternative pass."""

    def __init__(self, brief: Brief, *, scale: tuple[int, int], max_spread: float) -> None:
        self._brief, self._scale, self._max_spread = brief, scale, max_spread
        self._doubts: dict[str, Doubt | None] = {}

    def judge(self, pairs: Sequence[tuple[Problem, str]]) -> list[Judgement]:
        """Judge answers, each by itself; their requests are under way together."""
        rated = self._ratings(pairs)
        judgements = [self._rated(both) for both in rated]
        passing = {p.digest(): p for (p, _), judgement in zip(pairs, judgements, strict=True) if _passes(judgement)}
        self._try_alternatives(list(passing.values()))
        for i, (problem, _) in enumerate(pairs):
            if _passes(judgements[i]) and (doubt := self._doubts.get(problem.digest(), Doubt(UNTRIED))):
                judgements[i] = doubted(judgements[i], rated[i], doubt)
        return judgements

    def _ratings(self, pairs: Sequence[tuple[Problem, str]]) -> list[tuple[Said, Said]]:
        """Each answer's two ratings, in opposite orders."""
        low, high = self._scale
        asks: list[Ask] = []
        for problem, text in pairs:
            for downwards in (False, True):
                question = judge_prompt.rating(
                    self._brief.rubric,
                    task(problem),
                    text,
                    self._brief.reference(problem),
                    low=low,
                    high=high,
                    downwards=downwards,
                )
                asks.append((question, partial(judge_prompt.read_rating, keyword=question.keyword, low=low, high=high)))
        said = self._brief.ask(asks)
        return list(zip(said[::2], said[1::2], strict=True))

    def _rated(self, rated: tuple[Said, Said]) -> Judgement:
        if why := rated[0].why or rated[1].why:
            return could_not_judge(why)
        low, high = self._scale
        ratings = [sum(int(number) * weight for number, weight in said.weights.items()) for said in rated]
        up, down = ((rating - low) / (high - low) for rating in ratings)
        detail = f"rated {ratings[0]:.4g} and {ratings[1]:.4g} of {low} to {high}"
        if abs(up - down) > self._max_spread + 1e-9:
            return could_not_judge(f"inconsistent: {detail} in the two orders")
        score = (up + down) / 2
        return self._brief.scored(score, detail)

    def _try_alternatives(self, problems: Sequence[Problem]) -> None:
        """Find out, once a problem, whether the judge would let a broad alternative pass."""
        new = [p for p in problems if p.digest() not in self._doubts]
        asked = [(problem, text) for problem in new for text in self._brief.alternatives]
        rated = iter(self._ratings(asked))
        for problem in new:
            tried = [(text, next(rated)) for text in self._brief.alternatives]
            if any(said.late for _, pair in tried for said in pair):
                continue  # not known yet; the next completion that passes here asks again
            doubts = [
                Doubt(f"the judge lets {text[:60]!r} pass here ({told.detail})", text, told.score, is_weighed(pair))
                for text, pair in tried
                if _passes(told := self._rated(pair))
            ]
            self._doubts[problem.digest()] = max(doubts, key=lambda doubt: doubt.score, default=None)


def _passes(judgement: Judgement) -> bool:
    return judgement.outcome == Outcome.CORRECT
