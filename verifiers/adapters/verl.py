"""`verl`: a custom reward function of verl, `compute_score(data_source, solution_str, ground_truth, extra_info)`.

It is called by keyword, as verl's reward managers do, and returns a number or a dict with `score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flywheel import Judgement, Problem
from flywheel.verifiers.adapters.base import Adapter, accepted, awaited, error, value_at


@dataclass(frozen=True)
class Verl(Adapter):
    """Judges by verl's `compute_score`. Of a dict, `score` decides and `pred` is shown as the answer."""

    name: ClassVar[str] = "verl"
    version: ClassVar[str] = "1"

    data_source: str = ""
    """The data source's name; without it the problem's column `data_source`, else nothing."""
    ground_truth: str = "answer"
    """Where the ground truth stands: `answer`, or `meta.x` for a column of the problem's row."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """More keyword arguments, as verl's `custom_reward_function.reward_kwargs`."""

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge by the function's score."""
        function = self._loaded()
        extra = problem.meta.get("extra_info")
        arguments = {
            "data_source": self.data_source or problem.meta.get("data_source", ""),
            "solution_str": completion,
            "ground_truth": value_at(problem, self.ground_truth),
            "extra_info": {**(extra if isinstance(extra, Mapping) else problem.meta)},
            **self.arguments,
        }
        result = awaited(function(**accepted(function, arguments)))
        if not isinstance(result, Mapping):
            return self._judged(result)
        if "score" not in result:
            return error(f"{self.function} returned a dict without 'score'; it has {_names(result)}")
        return self._judged(result["score"], result.get("pred"))


def _names(result: Mapping[Any, Any]) -> str:
    return ", ".join(sorted(str(key)[:40] for key in result)[:8]) or "nothing"
