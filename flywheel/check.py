"""`flywheel check`: holds any verifier to the invariants that training on its verdicts rests on."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flywheel import plugins
from flywheel.errors import PluginError, ProblemError
from flywheel.fingerprint import rng
from flywheel.recipe import VerifySection
from flywheel.types import Outcome, Problem, Sample, Verdict
from flywheel.verify import VerifierPool

MOST_PROBLEMS = 20
"""Problems that a check looks at."""
MOST_PAIRS = 200
"""Pairs of one problem's reference and another's answer that are tried."""
WRONG_SHARE = 0.95
"""Of those pairs, at least so many must not be CORRECT: they may coincide; a lenient verifier shows."""

SAME_SCORE = 1e-4
"""By how much two scores of the same input may differ: floats depend a little on the rest of their batch."""

State = Literal["held", "violated", "not applicable"]
Job = tuple[Problem, str]

KEPT = {"HF_HOME": ".cache/huggingface", "TORCH_HOME": ".cache/torch", "ELAN_HOME": ".elan", "OPAMROOT": ".opam"}
"""What a verifier may need of the real home folder, by the variable that leads there; the rest of it is hidden."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant and how the verifier stands to it; `detail` says what broke it, or why it does not apply."""

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


def check_verifier(
    verifier: str,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] | None = None,
    *,
    section: VerifySection | None = None,
) -> Report:
    """Hold a verifier to its invariants, in the worker processes that a run would use.

    `problems` are the ones to try it on; without them the verifier's own `problems()`, else plain sums. At most 20 are
    looked at. `section` gives other limits than a recipe's defaults. Raises PluginError where the verifier cannot be
    made, ProblemError where there is no problem.
    """
    settings = (section or VerifySection()).model_copy(update={"verifier": verifier, "options": dict(options or {})})
    made = plugins.make_verifier(verifier, settings.options)
    chosen = list(problems if problems is not None else _own_problems(made))
    if not chosen:
        raise ProblemError(f"there is no problem to check {verifier!r} with; give --problems FILE")
    if len(chosen) > MOST_PROBLEMS:
        chosen = rng("check", len(chosen)).sample(chosen, MOST_PROBLEMS)
    facts = Facts.of(made)
    with _Bench(settings, plugins.traits(made)) as bench:
        references = _references(made, chosen, bench, facts)
        hostile = [(problem, text) for problem in chosen[:2] for text in HOSTILE.values()]
        pairs = _pairs(references) if not facts.label_free else []
        jobs = [*references, *hostile, *pairs]
        verdicts = bench.judge(jobs)
        # Backwards, so that a verdict that leans on what came before it differs.
        again = bench.judge(jobs[::-1])[::-1]
        effects, left = bench.effects()
    parts = len(references), len(references) + len(hostile)
    findings = [
        _correct(references, verdicts[: parts[0]], chosen, facts),
        *_unshaken(hostile, verdicts[parts[0] : parts[1]], facts),
        _repeatable(jobs, verdicts, again),
        _discerning(pairs, verdicts[parts[1] :], facts),
        *_harmless(effects, left, facts),
    ]
    return Report(verifier, findings)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verifier's class says of itself, and so which invariants apply."""

    label_free: bool
    uses_network: bool
    exclusive: bool
    isolation: str

    @classmethod
    def of(cls, made: object) -> Facts:
        """Read the attributes `label_free`, `uses_network`, `exclusive` and `isolation`."""
        return cls(
            label_free=bool(getattr(made, "label_free", False)),
            uses_network=bool(getattr(made, "uses_network", False)),
            exclusive=bool(getattr(made, "exclusive", False)),
            isolation=str(getattr(made, "isolation", "worker")),
        )


# -- what is tried ----------------------------------------------------------------------------------

HOSTILE = {
    "empty": "",
    "blank": " \n\t ",
    "junk": "".join(
        rng("check", "junk").choices("abcdefghijklmnopqrstuvwxyz{}[]()<>\\$^_&%#@!?*+-=/,.;:'\" \n", k=4000)
    ),
    "1 MB of one letter": "z" * 1_000_000,
    "1 MB of open boxes": "\\boxed{" * 150_000,
    "NUL": "\x00\x00 zz \x00",
    "surrogates": "\ud800 zz \udfff\udc00",
}


def _own_problems(made: object) -> Sequence[Problem]:
    offered = getattr(made, "problems", None)
    if not callable(offered):
        return [
            Problem(id=f"sum-{i}", prompt=f"What is {i * 7} + {i + 3}?", answer=str(i * 8 + 3)) for i in range(1, 13)
        ]
    found: list[Problem] = list(_edge(offered, "problems()"))
    return found


def _candidates(made: object, problem: Problem) -> list[str]:
    """Completions that ought to give the reference answer: the verifier's own word for it, else the usual forms."""
    offered = getattr(made, "example", None)
    if callable(offered):
        return [str(_edge(lambda: offered(problem), "example()"))]
    answer = problem.answer
    forms = [f"\\boxed{{{answer}}}", answer, f"<answer>{answer}</answer>", f"#### {answer}", f"The answer is {answer}."]
    return [*forms, *([problem.solution] if problem.solution else [])]


def _edge(call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except Exception as error:
        raise PluginError(f"the verifier's {what} failed: {type(error).__name__}: {error}") from error


def _references(made: object, problems: Sequence[Problem], bench: _Bench, facts: Facts) -> list[Job]:
    """For each problem the first of its candidates that is CORRECT, or the first of all where none is."""
    candidates = [(problem, text) for problem in problems for text in _candidates(made, problem)]
    if facts.label_free:
        candidates = candidates[: len(problems)]
    found: dict[str, Job] = {}
    for job, verdict in zip(candidates, bench.judge(candidates), strict=True):
        if verdict.outcome == Outcome.CORRECT:
            found.setdefault(job[0].id, job)
    first: dict[str, Job] = {}
    for job in candidates:
        first.setdefault(job[0].id, job)
    return [found.get(id, job) for id, job in first.items()]


def _pairs(references: Sequence[Job]) -> list[Job]:
    """References of one problem against answers of another whose reference differs, in a fixed shuffle."""
    pairs = [
        (problem, text)
        for problem, _ in references
        for other, text in references
        if problem.id != other.id and _told_apart(problem) != _told_apart(other)
    ]
    return rng("check", "pairs").sample(pairs, min(MOST_PAIRS, len(pairs)))


def _told_apart(problem: Problem) -> str:
    """What makes a right answer right: the reference, or where there is none the tests and whatever else there is."""
    return problem.answer.strip() or json.dumps([problem.prompt, problem.meta], default=str, sort_keys=True)


# -- what is found ----------------------------------------------------------------------------------

NOTHING_EXECUTED = ("worker", "kernel")
"""Isolations of verifiers that only read a completion, and need no process or file for that."""
NEEDS_LABEL = "it judges without a reference answer (label_free)"


def _correct(jobs: Sequence[Job], verdicts: Sequence[Verdict], problems: Sequence[Problem], facts: Facts) -> Finding:
    invariant = "the reference answer is CORRECT"
    if facts.label_free:
        return Finding(invariant, "not applicable", NEEDS_LABEL)
    failed = [(j, v) for j, v in zip(jobs, verdicts, strict=True) if v.outcome != Outcome.CORRECT]
    if not failed:
        return Finding(invariant, "held", f"{len(jobs)} of {len(problems)} problems")
    (problem, text), verdict = failed[0]
    said = f"{len(failed)} of {len(jobs)} are not, e.g. problem {problem.id!r} with {text[:40]!r}: {_says(verdict)}"
    return Finding(invariant, "violated", f"{said}. An example(problem) method tells how an answer is written")


def _unshaken(jobs: Sequence[Job], verdicts: Sequence[Verdict], facts: Facts) -> Iterator[Finding]:
    names = {text: name for name, text in HOSTILE.items()}
    tried = "empty, junk, 1 MB, NUL, surrogates"
    by_outcome: dict[str, list[str]] = {}
    for (_, text), verdict in zip(jobs, verdicts, strict=True):
        by_outcome.setdefault(verdict.outcome, []).append(f"{names[text]}: {_says(verdict)}")
    errors, right = by_outcome.get(Outcome.ERROR, []), by_outcome.get(Outcome.CORRECT, [])
    slow = by_outcome.get(Outcome.TIMEOUT, [])
    note = f"but out of time at {slow[0]}" if slow else ""
    yield Finding(f"{tried}: never an error", "violated" if errors else "held", errors[0] if errors else note)
    if facts.label_free:
        yield Finding(f"{tried}: never CORRECT", "not applicable", NEEDS_LABEL)
    else:
        yield Finding(f"{tried}: never CORRECT", "violated" if right else "held", right[0] if right else "")


def _repeatable(jobs: Sequence[Job], first: Sequence[Verdict], second: Sequence[Verdict]) -> Finding:
    invariant = "the same input twice gives the same verdict"
    for (problem, text), a, b in zip(jobs, first, second, strict=True):
        if (a.outcome, a.answer) != (b.outcome, b.answer) or abs(a.score - b.score) > SAME_SCORE:
            where = f"problem {problem.id!r} with {text[:40]!r}"
            return Finding(invariant, "violated", f"{where}: {_says(a)} {a.score:g}, then {_says(b)} {b.score:g}")
    return Finding(invariant, "held", f"{len(jobs)} inputs")


def _discerning(jobs: Sequence[Job], verdicts: Sequence[Verdict], facts: Facts) -> Finding:
    invariant = f"another problem's answer is WRONG for at least {WRONG_SHARE:.0%} of pairs"
    if facts.label_free:
        return Finding(invariant, "not applicable", NEEDS_LABEL)
    if not jobs:
        return Finding(invariant, "not applicable", "it takes two problems whose reference answers differ")
    fine = (Outcome.WRONG, Outcome.NO_ANSWER, Outcome.TIMEOUT)
    off = [(j, v) for j, v in zip(jobs, verdicts, strict=True) if v.outcome not in fine]
    share = 1 - len(off) / len(jobs)
    if share >= WRONG_SHARE:
        return Finding(invariant, "held", f"{share:.1%} of {len(jobs)}")
    (problem, text), verdict = off[0]
    said = f"only {share:.1%} of {len(jobs)}; e.g. {text[:40]!r} for {problem.answer[:40]!r}: {_says(verdict)}"
    return Finding(invariant, "violated", said)


def _harmless(effects: Mapping[str, list[str]], left: list[str], facts: Facts) -> Iterator[Finding]:
    own = facts.exclusive or facts.isolation not in NOTHING_EXECUTED
    why = "it brings an engine of its own (exclusive)" if facts.exclusive else f"its isolation is {facts.isolation}"
    because = f"{why}, which needs it; what it leaves behind counts"
    written = [*left, *([] if own else effects.get("file", []))]
    yield Finding("nothing is written", "violated" if written else "held", _listed(written))
    if own:
        yield Finding("no process is started", "not applicable", because)
    else:
        started = effects.get("process", [])
        yield Finding("no process is started", "violated" if started else "held", _listed(started))
    reached = effects.get("network", [])
    if facts.uses_network or facts.exclusive:
        reason = "it asks a server (uses_network)" if facts.uses_network else why
        yield Finding("nothing is reached over the network", "not applicable", reason)
    else:
        yield Finding("nothing is reached over the network", "violated" if reached else "held", _listed(reached))


def _says(verdict: Verdict) -> str:
    return f"{verdict.outcome.upper()}{f' ({verdict.detail[:160]})' if verdict.detail else ''}"


def _listed(found: Sequence[str]) -> str:
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


# -- where it is tried ------------------------------------------------------------------------------


@dataclass
class _Bench:
    """A pool behind `flywheel.observe`, with a home and a temporary folder of its own that ought to stay empty."""

    section: VerifySection
    traits: plugins.Traits
    _count: int = 0
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> _Bench:
        self._root = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="flywheel-check-")))
        self._folders = {"the home folder": self._root / "home", "the temporary folder": self._root / "tmp"}
        for folder in self._folders.values():
            folder.mkdir()
        self._log = self._root / "effects.jsonl"
        self._before = _names(Path.cwd())
        options = {
            "verifier": self.section.verifier,
            "options": self.section.options,
            "log": str(self._log),
            "traits": asdict(self.traits),
        }
        observed = self.section.model_copy(update={"verifier": "flywheel.observe:Observed", "options": options})
        with self._environment():
            self._pool = self._stack.enter_context(VerifierPool(observed))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def judge(self, jobs: Sequence[Job]) -> list[Verdict]:
        """The verdicts of all jobs, in their order."""
        problems = {problem.id: problem for problem, _ in jobs}
        samples = []
        for problem, text in jobs:
            self._count += 1
            samples.append(Sample(f"s{self._count}", problem.id, 0, 0, 0, text, "stop", 0, 1.0, "", "policy"))
        plain = [p if not p.verifier else replace(p, verifier="") for p in problems.values()]
        return self._pool.submit(plain, samples).result()

    def effects(self) -> tuple[dict[str, list[str]], list[str]]:
        """End the workers; what Python code was seen to do, by kind, and what lies where nothing lay before."""
        self._pool.close()
        seen: dict[str, list[str]] = {}
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        for kind, text in dict.fromkeys(tuple(json.loads(line)) for line in lines):
            seen.setdefault(kind, []).append(text)
        left = [f"{p.name} was left in {name}" for name, folder in self._folders.items() for p in folder.iterdir()]
        left += [f"{name} was left in the working folder" for name in sorted(_names(Path.cwd()) - self._before)]
        return seen, left

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        """The pool's processes take their environment from this one's as they start."""
        before = dict(os.environ)
        home = Path.home()
        kept = {name: str(home / place) for name, place in KEPT.items() if (home / place).is_dir()}
        own = {"HOME": str(self._root / "home"), "TMPDIR": str(self._root / "tmp")}
        own["TORCHINDUCTOR_CACHE_DIR"] = str(self._root / "torch")  # torch makes it as it is imported
        os.environ.update({**kept, **before, **own})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}
