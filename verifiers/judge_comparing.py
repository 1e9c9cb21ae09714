"""The judge's mode `compare`: all answers to a problem against broad alternatives and against one another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers import judge_points, judge_prompt
from flywheel.verifiers.judge_brief import Brief, could_not_judge, task
from flywheel.verifiers.judge_model import Ask
from flywheel.verifiers.judge_points import Points


class Comparer:
    """Sets answers against each other. `letter` asks for a verdict without reasons; the rest is `Judge`'s options."""

    def __init__(self, brief: Brief, *, letter: bool, rivals: int, max_inconsistent: float, unsure: str) -> None:
        self._brief, self._letter, self._rivals = brief, letter, rivals
        self._max_inconsistent, self._unsure = max_inconsistent, unsure

    def judge(self, problem: Problem, texts: Sequence[str]) -> list[Judgement]:
        """Judge all answers to a problem."""
        rivals = [self._rivals_of(place, len(texts)) for place in range(len(texts))]
        pairs = {(text, other) for text in texts for other in self._brief.alternatives}
        pairs |= {(texts[i], texts[j]) for i, others in enumerate(rivals) for j in others}
        ordered = sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})
        found = dict(zip(ordered, self._comparisons(problem, ordered), strict=True))

        def outcome(one: str, other: str) -> Points:
            """Points of `one` against `other`."""
            if one == other:
                return Points(0.5)
            points = found[min(one, other), max(one, other)]
            return points if points.why or one < other else Points(1.0 - points.value)

        return [
            self._compared(
                [outcome(text, other) for other in self._brief.alternatives],
                [outcome(text, texts[j]) for j in others],
            )
            for text, others in zip(texts, rivals, strict=True)
        ]

    def _rivals_of(self, place: int, count: int) -> list[int]:
        """The answers that follow in the circle: each one meets the same number, whatever the order of judging."""
        return [(place + step) % count for step in range(1, min(self._rivals, count - 1) + 1)]

    def _comparisons(self, problem: Problem, pairs: Sequence[tuple[str, str]]) -> list[Points]:
        """Points of the first of each pair, asked in both positions; no value where the position decides."""
        rubric, asked, reference = self._brief.rubric, task(problem), self._brief.reference(problem)
        asks: list[Ask] = []
        for one, other in pairs:
            for first, second in ((one, other), (other, one)):
                question = judge_prompt.comparison(rubric, asked, first, second, reference, letter=self._letter)
                keyed = partial(judge_prompt.read_choice, keyword=question.keyword)
                asks.append((question, judge_prompt.read_letter if self._letter else keyed))
        said = self._brief.ask(asks)
        return [judge_points.of_pair(there, back) for there, back in zip(said[::2], said[1::2], strict=True)]

    def _compared(self, against: Sequence[Points], among: Sequence[Points]) -> Judgement:
        for points, text in zip(against, self._brief.alternatives, strict=True):
            if points.why:
                return self._undecided(f"against {text[:60]!r}: {points.why}", torn=points.torn)
            if points.value < 1.0:
                return Judgement(Outcome.WRONG, 0.0, None, f"no better than {text[:60]!r}")
        clear = [points.value for points in among if not points.why]
        if len(among) - len(clear) > self._max_inconsistent * len(among):
            unclear = [points for points in among if points.why]
            why = f"{len(unclear)} of {len(among)} comparisons: {unclear[0].why}"
            return self._undecided(why, torn=all(points.torn for points in unclear))
        score = sum(clear) / len(clear) if clear else 1.0
        return self._brief.scored(score, f"{sum(clear):g} of {len(clear)} points against other samples")

    def _undecided(self, why: str, *, torn: bool) -> Judgement:
        """No verdict: because the judge contradicts itself, or because it gave none."""
        if torn and self._unsure == "no_answer":
            return Judgement(Outcome.NO_ANSWER, 0.0, None, why)
        return could_not_judge(why)
