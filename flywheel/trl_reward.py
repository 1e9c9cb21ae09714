"""`to_trl`: any verifier as a reward function for TRL's trainers, judged in worker processes that can be killed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.errors import PluginError
from flywheel.protocols import Verifier
from flywheel.recipe import VerifySection
from flywheel.types import Message, Outcome, Problem, Sample
from flywheel.verify import VerifierPool

NOT_DATA = frozenset({"trainer_state", "log_extra", "log_metric", "environments", "completion_ids"})
"""Keyword arguments that the trainer adds to the data set's columns."""


def to_trl(
    verifier: str | Verifier,
    options: Mapping[str, Any] | None = None,
    *,
    answer: str = "answer",
    workers: int = 2,
    deadline_seconds: float | None = None,
    memory_gib: float = 1.0,
) -> TrlReward:
    """Turn a verifier into `f(prompts, completions, **columns) -> list[float | None]` for GRPOTrainer and its kin.

    `verifier` is a name as in a recipe, with its options, or an instance of a dataclass that a worker can import.
    `answer` names the column with the reference answers; every other column reaches the verifier in the problem's
    `meta`. A reward is the verdict's score; ERROR gives None, which the trainer takes as "no reward of this function".
    Prompts and completions may be texts or lists of messages. Call `close()`, or use it in a `with`, to end its
    processes earlier than this one ends. Raises PluginError.

        trainer = GRPOTrainer(model, reward_funcs=to_trl("math"), train_dataset=…)
    """
    if isinstance(verifier, str):
        name, settings = verifier, dict(options or {})
    elif options is not None:
        raise PluginError("options go with a verifier's name; an instance has its own")
    else:
        name, settings = name_and_options(verifier)
    section = VerifySection(
        verifier=name, options=settings, workers=workers, deadline_seconds=deadline_seconds, memory_gib=memory_gib
    )
    return TrlReward(section, answer)


class TrlReward:
    """A reward function with the pool of workers behind it. The trainer shows it by its `__name__`."""

    def __init__(self, section: VerifySection, answer: str) -> None:
        self.__name__ = section.verifier.rpartition(":")[2]
        self._answer = answer
        self._calls = itertools.count()
        self._pool = VerifierPool(section)
        self.close: Callable[[], object] = weakref.finalize(self, self._pool.close)
        """End the worker processes; happens by itself when this process ends. Safe to call twice."""

    def __enter__(self) -> TrlReward:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """The score of each completion, in order; None for those that could not be judged.

        Raises ValueError where a column is not as long as the completions, StageError if the pool is closed.
        """
        call = next(self._calls)
        data = {name: values for name, values in columns.items() if name not in NOT_DATA}
        for name, values in {"prompts": prompts, **data}.items():
            if len(values) != len(completions):
                raise ValueError(f"{len(values)} values of {name!r} for {len(completions)} completions")
        problems: dict[str, Problem] = {}
        samples = []
        for index, completion in enumerate(completions):
            row = {name: values[index] for name, values in data.items()}
            # The trainer repeats a row for each completion of its group: they are samples of one problem.
            key = json.dumps([prompts[index], row], default=str, sort_keys=True)
            problem = problems.setdefault(key, self._problem(f"{call}-{index}", prompts[index], row))
            text = completion if isinstance(completion, str) else _text_of(completion)
            samples.append(Sample(f"{call}-{index}", problem.id, 0, 0, index, text, "stop", 0, 1.0, "", "policy"))
        verdicts = self._pool.submit(list(problems.values()), samples).result()
        self._log(columns, [v.outcome for v in verdicts], [v.detail for v in verdicts])
        return [None if v.outcome == Outcome.ERROR else v.score for v in verdicts]

    def _problem(self, id: str, prompt: Any, row: dict[str, Any]) -> Problem:
        reference = row.pop(self._answer, "")
        solution = row.pop("solution", None)
        return Problem(
            id=id,
            prompt=prompt if isinstance(prompt, str) else _text_of(prompt),
            messages=None if isinstance(prompt, str) else _plain_messages(prompt),
            answer=reference if isinstance(reference, str) else "" if reference is None else json.dumps(reference),
            solution=solution if isinstance(solution, str) else None,
            meta=row,
        )

    def _log(self, columns: Mapping[str, Any], outcomes: list[str], details: list[str]) -> None:
        """Outcome and detail go to the trainer's table of completions, the share of errors to its metrics."""
        if callable(log_extra := columns.get("log_extra")):
            log_extra(f"{self.__name__}_outcome", outcomes)
            log_extra(f"{self.__name__}_detail", details)
        if outcomes and callable(log_metric := columns.get("log_metric")):
            log_metric(f"{self.__name__}/error_share", outcomes.count(Outcome.ERROR) / len(outcomes))


def name_and_options(verifier: object) -> tuple[str, dict[str, Any]]:
    """The name and the options by which a worker process makes the same verifier again. Raises PluginError."""
    cls = type(verifier)
    shown = f"the verifier {cls.__qualname__}"
    if not dataclasses.is_dataclass(cls) or not callable(getattr(cls, "verify", None)):
        raise PluginError(f"{shown} is no dataclass with a verify(); give its name and options instead")
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise PluginError(f"{shown} is defined where a worker cannot import it; put it into a file of its own")
    options = {f.name: getattr(verifier, f.name) for f in dataclasses.fields(cls) if f.init}
    try:
        plain: dict[str, Any] = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        raise PluginError(f"{shown} has an option that is no plain data ({error}); give its name and options") from None
    place = cls.__module__
    if place.startswith("flywheel_plugin_"):  # loaded from a file by flywheel.plugins
        place = str(Path(str(sys.modules[place].__file__)))
    return f"{place}:{cls.__qualname__}", plain


def _text_of(messages: Any) -> str:
    """The text of the last message; a message's content may be a text or a list of parts."""
    content = messages[-1]["content"] if messages else ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or [] if isinstance(part, Mapping))


def _plain_messages(messages: Any) -> list[Message]:
    return [{"role": str(m["role"]), "content": _text_of([m])} for m in messages]
