"""What a verifier and a generator of problems promise, and what a verifier says of itself by its attributes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flywheel.errors import PluginError
from flywheel.types import Judgement, Outcome, PathKind, Problem

DEADLINE_SECONDS = 3.0
"""How long one completion may take where neither the recipe nor its verifier says otherwise."""


@runtime_checkable
class Verifier(Protocol):
    """Judges one completion of one problem.

    Options are the fields of a dataclass; a recipe sets them under `[verify.options]`. Class
    attributes, all optional: `name` and `version` (they stand in every verdict; raise the version when
    verdicts change), `isolation` (what stands between the completion and the machine; `worker` unless
    the verifier brings more). A method `prepare()`, where there is one, does what is slow and needed
    once, such as importing a large library; the verifier calls it itself when it comes to need it, and
    a worker does not count its time against the completion's deadline.

    Further forms, all optional and read from the instance, so that options may decide (`traits`):

    `verify` may be `async def`. A worker then runs up to `concurrency` (16) of its calls side by side on
    one event loop, each with its own deadline.

    `verify_batch(problems, completions)` returns one value a completion, in their order, and agrees
    with `verify`. It gets up to `batch_size` (32) at once and has the deadline of as many single calls.
    Where it raises, hangs, ends the worker or returns another number of values, each member is judged
    by `verify`, alone, so that only the guilty completion pays.

    `verify_group(problem, completions)` gets all samples of one problem and returns one value each: for
    votes and comparisons. It has the deadline of as many single calls; a group that cannot be judged is
    ERROR as a whole, because no single completion is known to be at fault. Such a verifier judges when
    sampling has ended.

    `exclusive = True` says that it brings an engine or a large model of its own: the run ends its own
    engine first, one worker serves it, without a limit on memory and with all processors.

    `deadline_seconds` says how long one completion may take where the recipe does not (3).

    `deadline_outcome = "error"` says that a missed deadline is no completion's fault, because what the
    verifier waits for (a server, an engine) can be slow by itself; otherwise it is `timeout`, which counts
    as not correct.

    `label_free = True` says that it needs no reference answer; only such a verifier can judge problems that the policy
    wrote. `uses_network`, `unsure_is_error`, `problems()` and `example(problem)` are read by `flywheel check` alone
    (docs/verifiers.md).

    `path_kind` says what the reasoning path of a right answer is: "equations" (else its words; the default),
    "code" (a Python program up to names, comments and layout), or "text" (its words).

    `min_votes` says how many completions of a problem a `verify_group` needs for a verdict (1): a recipe that samples
    fewer is refused.

    `lacks()` returns in words what this verifier would need and this machine does not have, such as a program; None
    where it can judge. A run asks it before anything is loaded.

    `unfit(problem)` returns in words why it can judge no completion of a problem, `undecidable(samples)` why so many
    completions of one could get no verdict; None where they can. `answer_is_question = True` says that `answer` states
    what is asked, so that a hint has to show `solution`. A run asks these as well (`flywheel.judgeable`).

    `identity()` returns what verdicts depend on beyond source and options, as JSON-shaped data: the
    digest of a model's weights, an endpoint's name. It becomes part of the verdicts' key.
    """

    def verify(
        self, problem: Problem, completion: str
    ) -> (
        Judgement
        | float
        | bool
        | Mapping[str, Any]
        | Awaitable[Judgement | float | bool | Mapping[str, Any] | None]
        | None
    ):
        """Judge `completion`. True and 1.0 are correct, None means that there was nothing to judge."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Makes problems (`problems.source = "generator"`). Options are the fields of a dataclass, as a verifier's are."""

    def rows(self, seed: int) -> Iterator[Mapping[str, Any]]:
        """Rows as a problem file has them (prompt, answer; id, solution, verifier where there are), the same ones for
        the same seed. They may be without end: `problems.count` takes as many as differ."""
        ...


@dataclass(frozen=True, slots=True)
class Traits:
    """How a verifier wants to be called, and what it needs; see `Verifier`. `at_once`: completions in one go."""

    group: bool = False
    batch: bool = False
    concurrent: bool = False
    exclusive: bool = False
    at_once: int = 1
    deadline_outcome: Outcome = Outcome.TIMEOUT
    path_kind: PathKind = PathKind.EQUATIONS
    min_votes: int = 1
    deadline_seconds: float = DEADLINE_SECONDS


def traits(verifier: Verifier) -> Traits:
    """What an instance's methods and attributes say of how it wants to be called."""
    group, batch = (callable(getattr(verifier, name, None)) for name in ("verify_group", "verify_batch"))
    concurrent = not batch and inspect.iscoroutinefunction(verifier.verify)
    most = getattr(verifier, "batch_size", 32) if batch else getattr(verifier, "concurrency", 16) if concurrent else 1
    missed = getattr(verifier, "deadline_outcome", Outcome.TIMEOUT)
    if missed not in (Outcome.TIMEOUT, Outcome.ERROR):
        raise PluginError(f"deadline_outcome = {missed!r} of {type(verifier).__name__}; known: timeout, error")
    exclusive = bool(getattr(verifier, "exclusive", False))
    kind = getattr(verifier, "path_kind", PathKind.EQUATIONS)
    if kind not in list(PathKind):
        raise PluginError(f"path_kind = {kind!r} of {type(verifier).__name__}; known: {', '.join(PathKind)}")
    votes = int(getattr(verifier, "min_votes", 1)) if group else 1
    deadline = getattr(verifier, "deadline_seconds", DEADLINE_SECONDS)
    if not (isinstance(deadline, int | float) and 0.0 < deadline < float("inf")):
        raise PluginError(f"deadline_seconds = {deadline!r} of {type(verifier).__name__}; it is a number above 0")
    return Traits(
        group,
        batch,
        concurrent,
        exclusive,
        at_once=max(1, int(most)),
        deadline_outcome=Outcome(missed),
        path_kind=PathKind(kind),
        min_votes=votes,
        deadline_seconds=float(deadline),
    )


def label_free(verifier: Verifier) -> bool:
    """Whether an instance says that it judges without a reference answer."""
    return bool(getattr(verifier, "label_free", False))


def lack_of(verifier: Verifier) -> str | None:
    """What an instance says that it lacks on this machine, in one line; None where it lacks nothing or does not say."""
    lacks = getattr(verifier, "lacks", None)
    said = lacks() if callable(lacks) else None
    return " ".join(str(said).split()) if said else None


def label(cls: type) -> tuple[str, str]:
    """A verifier class's name and version as they stand in verdicts."""
    return str(getattr(cls, "name", cls.__name__)), str(getattr(cls, "version", ""))
