"""`flywheel check`: holds any verifier to the invariants that training on its verdicts rests on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flywheel import plugins
from flywheel.check_bench import Bench, Progress
from flywheel.check_inputs import HOSTILE, Facts, Job, candidates, choose_problems, pairs_of
from flywheel.recipe import VerifySection
from flywheel.types import Outcome, Problem, Verdict
from flywheel.verify import WORKER_ENDED

WRONG_SHARE = 0.95
"""Of the pairs, at least so many must not be CORRECT: they may coincide; a lenient verifier shows."""
SAME_SCORE = 1e-4
"""By how much two scores of the same input may differ: floats depend a little on the rest of their batch."""
SECONDS = 60.0
"""How long each kind of input may take, by default."""
DEADLINE_FIELD = "verify.deadline_seconds"
"""What the detail of a verdict names that there was no time for."""

State = Literal["held", "violated", "undecided", "not applicable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant and how the verifier stands to it; `detail` says what broke it, or why it is not decided."""

    invariant: str
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    verifier: str
    findings: list[Finding]

    @property
    def violations(self) -> list[Finding]:
        """The invariants that the verifier breaks; empty is what a test asks for."""
        return [finding for finding in self.findings if finding.state == "violated"]

    @property
    def undecided(self) -> list[Finding]:
        """The invariants that there was no time to try."""
        return [finding for finding in self.findings if finding.state == "undecided"]


def check_verifier(
    verifier: str,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] | None = None,
    *,
    section: VerifySection | None = None,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> Report:
    """Hold a verifier to its invariants, in the worker processes that a run would use.

    `problems` are the ones to try it on; without them the verifier's own `problems()`, else plain sums. At most 20 are
    looked at, 4 where the verifier asks a model. `section` gives other limits than a recipe's defaults. Right answers,
    hostile texts, answers to other problems, and all of them once more may take `seconds` each; loading is not counted.
    What is not judged by then is not held against the verifier, and the findings say so. `progress` is told what is
    being tried, how many inputs of it are judged, and how many there are. Raises PluginError where the verifier cannot
    be made, ProblemError where there is no problem, StageError where workers cannot be started.
    """
    settings = (section or VerifySection()).model_copy(update={"verifier": verifier, "options": dict(options or {})})
    made = plugins.make_able_verifier(verifier, settings.options)
    facts = Facts.of(made)
    chosen = choose_problems(verifier, made, facts, problems)
    with Bench(settings, facts.traits, progress) as bench:
        right = _right_answers(made, chosen, bench, facts, seconds)
        texts = [(problem, text) for problem in chosen[: 1 if facts.costly else 2] for text in HOSTILE.values()]
        hostile = Tried("hostile texts", texts, bench.judge("hostile texts", texts, seconds))
        pairs = [] if facts.label_free else pairs_of(right.jobs)
        others = Tried("others' answers", pairs, bench.judge("others' answers", pairs, seconds))
        again = _once_more([right, hostile, others], bench, seconds)
        effects, left = bench.effects()
    findings = [
        _correct(right, len(chosen), facts),
        *([_decided(right, settings.max_error_share)] if facts.unsure_is_error else []),
        *_unshaken(hostile, right, facts, effects.get("raised", [])),
        _repeatable([right, hostile, others], again, facts),
        _discerning(others, facts),
        *_harmless(effects, left, facts),
    ]
    return Report(verifier, findings)


@dataclass(frozen=True, slots=True)
class Tried:
    """One kind of inputs, and their verdicts; None where there was no time."""

    what: str
    jobs: list[Job]
    verdicts: list[Verdict | None]

    def judged(self) -> list[tuple[Job, Verdict]]:
        """The inputs that there was time for, each with its verdict."""
        return [(job, v) for job, v in zip(self.jobs, self.verdicts, strict=True) if v is not None]

    def shortfall(self) -> str:
        """What to say of inputs that there was no time for; "" where there are none."""
        done = len(self.judged())
        short = f"{done} of {len(self.jobs)} inputs were judged in the time given (seconds, --seconds)"
        return short if done < len(self.jobs) else ""


def _right_answers(made: object, problems: Sequence[Problem], bench: Bench, facts: Facts, seconds: float) -> Tried:
    """For each problem the first of its candidates that is CORRECT, or the first of all where none is.

    A verifier that knows no right answer gets the first as an ordinary completion; one that judges groups, two.
    """
    forms = {problem.id: [(problem, text) for text in candidates(made, problem)] for problem in problems}
    if facts.label_free:
        forms = {id: jobs[: 2 if facts.traits.group else 1] for id, jobs in forms.items()}
    jobs = [job for problem_jobs in forms.values() for job in problem_jobs]
    bench.judge("loading", jobs[:1])  # bounded by what the pool allows for that
    tried = Tried("right answers", jobs, bench.judge("right answers", jobs, seconds))
    if facts.label_free:
        return tried
    chosen: dict[str, tuple[Job, Verdict | None]] = {}
    for job, verdict in zip(tried.jobs, tried.verdicts, strict=True):
        first = chosen.setdefault(job[0].id, (job, verdict))
        if not _is_correct(first[1]) and _is_correct(verdict):
            chosen[job[0].id] = job, verdict
    return Tried(tried.what, [job for job, _ in chosen.values()], [verdict for _, verdict in chosen.values()])


def _once_more(before: Sequence[Tried], bench: Bench, seconds: float) -> list[Tried]:
    """All that was judged, judged again backwards, so that a verdict which leans on what came before it differs."""
    ends = time.monotonic() + seconds
    again = []
    for tried in before:
        jobs = [job for job, _ in tried.judged()][::-1]
        verdicts = bench.judge(f"{tried.what}, again", jobs, max(0.0, ends - time.monotonic()))
        again.append(Tried(tried.what, jobs[::-1], verdicts[::-1]))
    return again


# -- what is found ----------------------------------------------------------------------------------

NOTHING_EXECUTED = ("worker", "kernel")
"""Isolations of verifiers that only read a completion, and need no process or file for that."""
NEEDS_LABEL = "it judges without a reference answer (label_free)"
TRIED = "empty, junk, 1 MB, NUL, surrogates"


def _correct(right: Tried, problems: int, facts: Facts) -> Finding:
    invariant = "the reference answer is CORRECT"
    if facts.label_free:
        return Finding(invariant, "not applicable", NEEDS_LABEL)
    judged = right.judged()
    failed = [(job, verdict) for job, verdict in judged if verdict.outcome != Outcome.CORRECT]
    if failed:
        (problem, text), verdict = failed[0]
        said = f"{len(failed)} of {len(judged)} are not, e.g. problem {problem.id!r} with {text[:40]!r}"
        how = "An example(problem) method tells how an answer is written"
        return Finding(invariant, "violated", f"{said}: {_says(verdict)}. {how}")
    if not judged:
        return Finding(invariant, "undecided", right.shortfall())
    return Finding(invariant, "held", right.shortfall() or f"{len(judged)} of {problems} problems")


def _decided(right: Tried, most: float) -> Finding:
    """Whether a model comes to verdicts at all: one that says ERROR to everything would hold all the rest."""
    invariant = f"at most {most:.0%} of ordinary answers are ERROR (verify.max_error_share)"
    judged = right.judged()
    errors = [verdict for _, verdict in judged if verdict.outcome == Outcome.ERROR]
    if not judged:
        return Finding(invariant, "undecided", right.shortfall())
    share = f"{len(errors)} of {len(judged)}"
    if len(errors) > most * len(judged):
        return Finding(invariant, "violated", f"{share}, e.g. {_says(errors[0])}: too weak a model, or too little time")
    return Finding(invariant, "held", right.shortfall() or share)


def _unshaken(hostile: Tried, right: Tried, facts: Facts, raised: Sequence[str]) -> Iterator[Finding]:
    names = {text: name for name, text in HOSTILE.items()}
    by_outcome: dict[str, list[str]] = {}
    for (_, text), verdict in hostile.judged():
        # Of a verifier that waits for a model a missed deadline is ERROR: slow is what it is called all the same.
        outcome = Outcome.TIMEOUT if _out_of_time(verdict) else verdict.outcome
        by_outcome.setdefault(outcome, []).append(f"{names[text]}: {_says(verdict)}")
    if not by_outcome:
        yield from (Finding(f"{TRIED}: never {w}", "undecided", hostile.shortfall()) for w in ("an error", "CORRECT"))
        return
    errors, passed = by_outcome.get(Outcome.ERROR, []), by_outcome.get(Outcome.CORRECT, [])
    slow = by_outcome.get(Outcome.TIMEOUT, [])
    if facts.unsure_is_error:
        yield _unsure(errors, right, hostile, raised)
    else:
        note = f"but out of time at {slow[0]}" if slow else hostile.shortfall()
        yield Finding(f"{TRIED}: never an error", "violated" if errors else "held", errors[0] if errors else note)
    if facts.label_free:
        yield Finding(f"{TRIED}: never CORRECT", "not applicable", NEEDS_LABEL)
    else:
        told = passed[0] if passed else hostile.shortfall()
        yield Finding(f"{TRIED}: never CORRECT", "violated" if passed else "held", told)


def _out_of_time(verdict: Verdict) -> bool:
    """Whether it was the clock that ended it: a busy machine can do that."""
    return verdict.outcome in (Outcome.ERROR, Outcome.TIMEOUT) and DEADLINE_FIELD in verdict.detail


def _unsure(errors: Sequence[str], right: Tried, hostile: Tried, raised: Sequence[str]) -> Finding:
    """ERROR is how a model-based verifier says that it is unsure; raising and crashing remain faults."""
    invariant = f"{TRIED}: never an error"
    faults = [f"it raised {text}" for text in raised] + [text for text in errors if WORKER_ENDED in text]
    if faults:
        return Finding(invariant, "violated", faults[0])
    ordinary = right.judged()
    if errors and ordinary and all(verdict.outcome == Outcome.ERROR for _, verdict in ordinary):
        return Finding(invariant, "not applicable", "its model decides nothing, hostile or not")
    unsure = f"unsure of {len(errors)} of {len(hostile.judged())} (unsure_is_error), e.g. {errors[0]}" if errors else ""
    return Finding(invariant, "held", unsure or hostile.shortfall())


def _repeatable(before: Sequence[Tried], after: Sequence[Tried], facts: Facts) -> Finding:
    invariant = "the same input twice gives the same verdict"
    missing = next((m for tried in [*before, *after] if (m := tried.shortfall())), "")
    pairs = [
        (job, a, b)
        for first, second in zip(before, after, strict=True)
        for (job, a), b in zip(first.judged(), second.verdicts, strict=True)
        # Where ERROR says "unsure", or the clock ran out this time, it is no verdict that could be compared.
        if b is not None
        and not (facts.unsure_is_error and Outcome.ERROR in (a.outcome, b.outcome))
        and not (_out_of_time(a) or _out_of_time(b))
    ]
    for (problem, text), a, b in pairs:
        if (a.outcome, a.answer) != (b.outcome, b.answer) or abs(a.score - b.score) > SAME_SCORE:
            where = f"problem {problem.id!r} with {text[:40]!r}"
            return Finding(invariant, "violated", f"{where}: {_says(a)} {a.score:g}, then {_says(b)} {b.score:g}")
    if not pairs:
        return Finding(invariant, "undecided", missing or "no input got a verdict twice")
    return Finding(invariant, "held", f"{len(pairs)} inputs" + (f"; {missing}" if missing else ""))


def _discerning(others: Tried, facts: Facts) -> Finding:
    invariant = f"another problem's answer is WRONG for at least {WRONG_SHARE:.0%} of pairs"
    if facts.label_free:
        return Finding(invariant, "not applicable", NEEDS_LABEL)
    if not others.jobs:
        return Finding(invariant, "not applicable", "it takes two problems whose reference answers differ")
    judged = others.judged()
    if not judged:
        return Finding(invariant, "undecided", others.shortfall())
    fine = (Outcome.WRONG, Outcome.NO_ANSWER, Outcome.TIMEOUT)
    off = [(job, verdict) for job, verdict in judged if verdict.outcome not in fine]
    share = 1 - len(off) / len(judged)
    if share >= WRONG_SHARE:
        return Finding(invariant, "held", f"{share:.1%} of {len(judged)}")
    (problem, text), verdict = off[0]
    said = f"only {share:.1%} of {len(judged)}; e.g. {text[:40]!r} for {problem.answer[:40]!r}: {_says(verdict)}"
    return Finding(invariant, "violated", said)


def _harmless(effects: Mapping[str, list[str]], left: list[str], facts: Facts) -> Iterator[Finding]:
    own = facts.traits.exclusive or facts.isolation not in NOTHING_EXECUTED
    why = (
        "it brings an engine of its own (exclusive)"
        if facts.traits.exclusive
        else f"its isolation is {facts.isolation}"
    )
    because = f"{why}, which needs it; what it leaves behind counts"
    written = [*left, *([] if own else effects.get("file", []))]
    yield Finding("nothing is written", "violated" if written else "held", _listed(written))
    if own:
        yield Finding("no process is started", "not applicable", because)
    else:
        started = effects.get("process", [])
        yield Finding("no process is started", "violated" if started else "held", _listed(started))
    reached = effects.get("network", [])
    if facts.uses_network or facts.traits.exclusive:
        reason = "it asks a server (uses_network)" if facts.uses_network else why
        yield Finding("nothing is reached over the network", "not applicable", reason)
    else:
        yield Finding("nothing is reached over the network", "violated" if reached else "held", _listed(reached))


def _says(verdict: Verdict) -> str:
    return f"{verdict.outcome.upper()}{f' ({verdict.detail[:160]})' if verdict.detail else ''}"


def _listed(found: Sequence[str]) -> str:
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _is_correct(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.outcome == Outcome.CORRECT
