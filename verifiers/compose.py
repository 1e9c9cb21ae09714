"""`all_of`, `any_of`, `weighted`: several verifiers as one.

    [verify]
    verifier = "all_of"

    [[verify.options.parts]]
    verifier = "math"
    options = { last_number = true }

    [[verify.options.parts]]
    verifier = "reward_model"
    options = { model = "..." }

Parts are asked in their order, so the cheap ones belong first: what they decide the others are not asked.
ERROR means "not known", and the rest follows from Kleene's three-valued logic (1938): a conjunction with a false
part is false and a disjunction with a true part is true, whatever is not known beside it. So

- `all_of`: not correct if any part says so (the outcome is the first such part's), else ERROR if any is, else CORRECT;
- `any_of`: CORRECT if any part says so, else ERROR if any is, else the worst outcome that a part gave;
- `weighted`: ERROR if any part is, because a score with an unknown term is unknown.

A composition is as well isolated as its worst part, judges groups if any part does, and is exclusive if any part is.
A missed deadline is ERROR if a part waits for something that can be slow by itself; the deadline is the sum of the
parts'. What a part lacks the whole lacks, and a vote takes as many completions as the part that wants the most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flywheel import (
    DEADLINE_SECONDS,
    Judgement,
    Outcome,
    Problem,
    answer_is_question,
    judge_batch,
    judge_group,
    judge_one,
    lack_of,
    make_verifier,
    undecidable,
    unfit_for,
    verifier_identity,
)

Said = dict[int, Judgement]
"""What parts said of a completion, by their position; those that were not asked are missing."""

# Best first: behind `kernel` nothing of a completion is executed. A label of someone's own counts as the last.
_ISOLATION = ("kernel", "namespaces", "landlock", "worker", "unsafe")
_WORST_FIRST = (Outcome.WRONG, Outcome.TIMEOUT, Outcome.NO_ANSWER)


@dataclass(frozen=True)
class Part:
    """A verifier inside a composition."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    verifier: str
    """A registered name, `pkg.mod:Name`, or `file.py:Name`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its options."""
    weight: float = 1.0
    """For `weighted`: its share of the score, relative to the others'."""


@dataclass
class _Composition:
    """What the three have in common: asking parts in order until it is decided."""

    parts: list[Part] = field(default_factory=list)
    """The verifiers, cheap ones first."""

    def __post_init__(self) -> None:
        self.parts = [part if isinstance(part, Part) else Part(**part) for part in self.parts]
        if not self.parts:
            raise ValueError("parts is empty; name at least one verifier")
        self._verifiers = [make_verifier(part.verifier, part.options) for part in self.parts]
        self._prepared = False
        self.exclusive = any(getattr(v, "exclusive", False) for v in self._verifiers)
        waits = any(getattr(v, "deadline_outcome", "timeout") == "error" for v in self._verifiers)
        self.deadline_outcome = "error" if waits else "timeout"
        self.deadline_seconds = sum(float(getattr(v, "deadline_seconds", DEADLINE_SECONDS)) for v in self._verifiers)
        self.min_votes = max(int(getattr(v, "min_votes", 1)) for v in self._verifiers)
        kinds = [str(getattr(v, "path_kind", "equations")) for v in self._verifiers]
        self.path_kind = next((kind for kind in kinds if kind != "equations"), "equations")
        if any(callable(getattr(v, "verify_batch", None)) for v in self._verifiers):
            self.verify_batch = self._batch
            self.batch_size = min(int(getattr(v, "batch_size", 32)) for v in self._verifiers)
        if any(callable(getattr(v, "verify_group", None)) for v in self._verifiers):
            self.verify_group = self._group

    @property
    def isolation(self) -> str:
        """The worst of the parts'."""
        levels = [str(getattr(v, "isolation", "worker")) for v in self._verifiers]
        return max(levels, key=lambda level: _ISOLATION.index(level) if level in _ISOLATION else len(_ISOLATION))

    @property
    def label_free(self) -> bool:
        """Whether no part looks at the reference answer."""
        return all(bool(getattr(v, "label_free", False)) for v in self._verifiers)

    @property
    def uses_network(self) -> bool:
        """Whether any part asks a server."""
        return any(bool(getattr(v, "uses_network", False)) for v in self._verifiers)

    @property
    def unsure_is_error(self) -> bool:
        """Whether any part says ERROR where its model is unsure."""
        return any(bool(getattr(v, "unsure_is_error", False)) for v in self._verifiers)

    def lacks(self) -> str | None:
        """What the parts lack on this machine, each by its name; None where all of them can judge."""
        return self._told(lack_of)

    @property
    def answer_is_question(self) -> bool:
        """Whether for any part the answer states what is asked."""
        return any(answer_is_question(v) for v in self._verifiers)

    def unfit(self, problem: Problem) -> str | None:
        """Which parts cannot judge a problem, and why; None where all of them can."""
        return self._told(lambda verifier: unfit_for(verifier, problem))

    def undecidable(self, samples: int) -> str | None:
        """Which parts could come to no verdict on a problem with so many completions, and why."""
        return self._told(lambda verifier: undecidable(verifier, samples))

    def identity(self) -> dict[str, Any]:
        """The identities of all parts, in order."""
        return {"parts": [verifier_identity(part.verifier, part.options) for part in self.parts]}

    def prepare(self) -> None:
        """Prepare every part: done here it is on nobody's deadline."""
        for verifier in self._verifiers:
            prepare = getattr(verifier, "prepare", None)
            if prepare is not None:
                prepare()

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge one completion by the parts."""
        self._prepare_once()
        said: Said = {}
        for k, verifier in enumerate(self._verifiers):
            said[k] = judge_one(verifier, problem, completion)
            if self._decided(said):
                break
        return self._whole(said)

    def _batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Judgement]:
        """Part after part, each over what the ones before have left open."""
        self._prepare_once()
        said: list[Said] = [{} for _ in completions]
        for k, verifier in enumerate(self._verifiers):
            left = [i for i, before in enumerate(said) if not self._decided(before)]
            judged = judge_batch(verifier, [problems[i] for i in left], [completions[i] for i in left])
            for i, judgement in zip(left, judged, strict=True):
                said[i][k] = judgement
        return [self._whole(parts) for parts in said]

    def _group(self, problem: Problem, completions: Sequence[str]) -> list[Judgement]:
        """As a batch; but a part that judges groups sees all samples, because the decided ones vote as well."""
        self._prepare_once()
        said: list[Said] = [{} for _ in completions]
        for k, verifier in enumerate(self._verifiers):
            left = [i for i, before in enumerate(said) if not self._decided(before)]
            if not left:
                break
            if callable(getattr(verifier, "verify_group", None)):
                everyone = judge_group(verifier, problem, completions)
                judged = [everyone[i] for i in left]
            else:
                judged = judge_batch(verifier, [problem] * len(left), [completions[i] for i in left])
            for i, judgement in zip(left, judged, strict=True):
                said[i][k] = judgement
        return [self._whole(parts) for parts in said]

    def _told(self, ask: Callable[[Any], str | None]) -> str | None:
        """What the parts say of what they cannot do, each by its name; None where none says anything."""
        told = [(part.verifier, ask(verifier)) for part, verifier in zip(self.parts, self._verifiers, strict=True)]
        return "; ".join(f"{name}: {said}" for name, said in told if said) or None

    def _prepare_once(self) -> None:
        if not self._prepared:
            self._prepared = True
            # What fails here fails again in the part's own call, and is that part's ERROR alone.
            with contextlib.suppress(Exception):
                self.prepare()

    def _decided(self, said: Said) -> bool:
        """Whether the parts that have not been asked can no longer change the outcome."""
        raise NotImplementedError

    def _whole(self, said: Said) -> Judgement:
        """The judgement that the parts' make together."""
        raise NotImplementedError

    def _detail(self, said: Said) -> str:
        """Each part's label, isolation and verdict: `math 1 (worker) wrong; judge 1 not asked`."""
        return "; ".join(self._described(k, said.get(k)) for k in range(len(self.parts)))

    def _described(self, k: int, judgement: Judgement | None) -> str:
        verifier = self._verifiers[k]
        label = f"{getattr(verifier, 'name', type(verifier).__name__)} {getattr(verifier, 'version', '')}".rstrip()
        if judgement is None:
            return f"{label} not asked"
        told = f" {judgement.score:.3g}" if 0.0 < judgement.score < 1.0 else ""
        why = f" ({judgement.detail[:80]})" if judgement.detail else ""
        return f"{label} [{getattr(verifier, 'isolation', 'worker')}] {judgement.outcome}{told}{why}"

    def _judgement(self, outcome: Outcome, score: float, said: Said) -> Judgement:
        answer = next((j.answer for j in said.values() if j.answer is not None), None)
        return Judgement(outcome, score, answer, self._detail(said))


@dataclass
class AllOf(_Composition):
    """CORRECT where every part says so; the score is the lowest part's."""

    name: ClassVar[str] = "all_of"
    version: ClassVar[str] = "2"

    def _decided(self, said: Said) -> bool:
        return any(j.outcome not in (Outcome.CORRECT, Outcome.ERROR) for j in said.values())

    def _whole(self, said: Said) -> Judgement:
        against = next((j for j in said.values() if j.outcome not in (Outcome.CORRECT, Outcome.ERROR)), None)
        if against is not None:
            return self._judgement(against.outcome, min(j.score for j in said.values()), said)
        if any(j.outcome == Outcome.ERROR for j in said.values()):
            return self._judgement(Outcome.ERROR, 0.0, said)
        return self._judgement(Outcome.CORRECT, min(j.score for j in said.values()), said)


@dataclass
class AnyOf(_Composition):
    """CORRECT where a part says so; the score is the highest part's."""

    name: ClassVar[str] = "any_of"
    version: ClassVar[str] = "2"

    def _decided(self, said: Said) -> bool:
        return any(j.outcome == Outcome.CORRECT for j in said.values())

    def _whole(self, said: Said) -> Judgement:
        outcomes = {j.outcome for j in said.values()}
        best = max(j.score for j in said.values())
        if Outcome.CORRECT in outcomes:
            return self._judgement(Outcome.CORRECT, best, said)
        if Outcome.ERROR in outcomes:
            return self._judgement(Outcome.ERROR, 0.0, said)
        return self._judgement(next(o for o in _WORST_FIRST if o in outcomes), best, said)


@dataclass
class Weighted(_Composition):
    """The weighted mean of the parts' scores; CORRECT from `threshold` on."""

    name: ClassVar[str] = "weighted"
    version: ClassVar[str] = "2"

    threshold: float = 0.5
    """The score from which a completion is CORRECT."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold = {self.threshold!r}; it is a score from 0 to 1")
        if any(not 0.0 <= p.weight < float("inf") for p in self.parts) or not sum(p.weight for p in self.parts):
            raise ValueError(f"the weights {[p.weight for p in self.parts]} are to be positive numbers")

    def _decided(self, said: Said) -> bool:
        return False

    def _whole(self, said: Said) -> Judgement:
        outcomes = {j.outcome for j in said.values()}
        if Outcome.ERROR in outcomes:
            return self._judgement(Outcome.ERROR, 0.0, said)
        total = sum(part.weight for part in self.parts)
        score = sum(part.weight * said[k].score for k, part in enumerate(self.parts)) / total
        if outcomes == {Outcome.NO_ANSWER}:
            return self._judgement(Outcome.NO_ANSWER, 0.0, said)
        right = score >= self.threshold - 1e-9
        return self._judgement(Outcome.CORRECT if right else Outcome.WRONG, min(1.0, score), said)
