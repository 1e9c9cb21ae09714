"""`lm_eval`: what a task of EleutherAI's lm-evaluation-harness scores a completion by.

A task says so in one of two ways: by a function `process_results(doc, results) -> dict`, or by a metric of the library
with `predictions` and `references`, such as exact_match. In both, filters may come first that cut the answer out of the
completion; a task's `filter` list can be taken over as it stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from flywheel import Judgement, PluginError, Problem
from flywheel.verifiers.adapters import source
from flywheel.verifiers.adapters.base import Adapter, awaited, columns_of, error, value_at

USUAL = ("exact_match", "acc", "pass@1", "score")
"""Which metric decides where a function returns several and the recipe names none."""


@dataclass(frozen=True)
class LmEval(Adapter):
    """Judges by one metric of `process_results`, called with the row and the list of one completion, or by a metric."""

    name: ClassVar[str] = "lm_eval"
    version: ClassVar[str] = "2"

    metric: str = ""
    """The metric that decides; without it the only one, or the first of exact_match, acc, pass@1, score."""
    columns: dict[str, str] = field(default_factory=dict)
    """From the doc's keys to places in a problem, e.g. `{question = "prompt", target = "answer"}`."""
    filters: list[dict[str, Any]] = field(default_factory=list)
    """What the completion goes through first, as in a task's `filter` list: each a table with `function` (a name of the
    library's, such as `regex`, or a filter class as `file.py:Name` or `pkg.mod:Name`) and its arguments."""
    reference: str = "answer"
    """For a metric: where a problem has what it compares with."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """For a metric: its own settings, such as `ignore_case` and `regexes_to_ignore`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for entry in self.filters:
            if not isinstance(function := entry.get("function"), str):
                raise PluginError(f"the filter {entry!r} has no function; name one, e.g. regex")
            if ":" in function:
                source.check(function)

    def prepare(self) -> None:
        """Import the function's module and make the filters. Raises PluginError."""
        super().prepare()
        _ = self._filters

    def identity(self) -> dict[str, Any]:
        """The digests of the function's and the filters' sources."""
        own = [source.digest(entry["function"]) for entry in self.filters if ":" in entry["function"]]
        if any(":" not in entry["function"] for entry in self.filters):
            own.append(source.digest("lm_eval.filters:build_filter_ensemble"))
        return {**super().identity(), **({"filters": own} if own else {})}

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge by the metric."""
        document = {"prompt": problem.prompt, **columns_of(problem, self.columns)}
        answer: Any = completion
        for made in self._filters:
            # A filter gets the answers of each document; after one such as take_first that is the answer itself.
            answer = next(iter(made.apply([[answer] if isinstance(answer, str) else answer], [document])))
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        if not isinstance(answer, str):
            return error(f"the filters leave a {type(answer).__name__} of {completion[:40]!r}, and no text")
        result = awaited(self._scored(document, answer, problem))
        if not isinstance(result, Mapping):
            return error(f"{self.function} returned a {type(result).__name__} and no dict of metrics")
        names = [str(name) for name in result]
        usual = names if len(names) == 1 else [name for name in USUAL if name in names]
        wanted = self.metric or next(iter(usual), "")
        if wanted not in result:
            return error(f"{self.function} gives {', '.join(names)[:200] or 'nothing'}; set metric to one of them")
        return self._judged(result[wanted], answer if self.filters else None, detail=wanted)

    def _scored(self, document: Mapping[str, Any], answer: str, problem: Problem) -> Any:
        function = self._loaded()
        if {"predictions", "references"} <= set(inspect.signature(function).parameters):
            wanted = value_at(problem, self.reference)
            return function(predictions=[answer], references=[wanted], **self.arguments)
        return function(document, [answer])

    @cached_property
    def _filters(self) -> list[Any]:
        return [_filter(dict(entry)) for entry in self.filters]


def _filter(entry: dict[str, Any]) -> Any:
    """The filter that a table of a task's `filter` list names. Raises PluginError."""
    name = entry.pop("function")
    try:
        if ":" in name:
            return source.load(name)(**entry)
        from lm_eval import filters  # noqa: F401  which registers them
        from lm_eval.api.registry import get_filter

        return get_filter(name)(**entry)
    except ImportError as missing:
        raise PluginError(f"the filter {name!r} is lm-eval's ({missing}): pip install lm_eval") from None
    except (KeyError, TypeError, ValueError) as unfit:
        why = " ".join(str(unfit).replace("\\n", " ").split())[:200]
        raise PluginError(f"the filter {name!r} cannot be made of {entry!r}: {why}") from None
