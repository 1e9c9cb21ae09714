"""`lm_eval`: a task's `process_results(doc, results) -> dict` from EleutherAI's lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from flywheel import Judgement, Problem
from flywheel.verifiers.adapters.base import Adapter, awaited, columns_of, error

USUAL = ("exact_match", "acc", "pass@1", "score")
"""Which metric decides where a function returns several and the recipe names none."""


@dataclass(frozen=True)
class LmEval(Adapter):
    """Judges by one metric of `process_results`, called with the row and the list of one completion."""

    name: ClassVar[str] = "lm_eval"
    version: ClassVar[str] = "1"

    metric: str = ""
    """The metric that decides; without it the only one, or the first of exact_match, acc, pass@1, score."""
    columns: dict[str, str] = field(default_factory=dict)
    """From the doc's keys to places in a problem, e.g. `{question = "prompt", target = "answer"}`."""

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge by the metric."""
        document = {"prompt": problem.prompt, **columns_of(problem, self.columns)}
        result = awaited(self._loaded()(document, [completion]))
        if not isinstance(result, Mapping):
            return error(f"{self.function} returned a {type(result).__name__} and no dict of metrics")
        names = [str(name) for name in result]
        usual = names if len(names) == 1 else [name for name in USUAL if name in names]
        wanted = self.metric or next(iter(usual), "")
        if wanted not in result:
            return error(f"{self.function} gives {', '.join(names)[:200] or 'nothing'}; set metric to one of them")
        return self._judged(result[wanted], detail=wanted)
