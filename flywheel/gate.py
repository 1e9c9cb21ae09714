"""Gate: whether a candidate may replace the champion, and whether the run should go on at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.measures.passk import Counts, paired_difference
from flywheel.recipe import EvaluateSection, GateSection, StopSection


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. It fails when the whole interval of `value` lies below `-margin`.

    `value`, `low` and `high` are differences of pass@k (candidate minus `against`), in [-1, 1].
    """

    what: str
    against: str
    value: float
    low: float
    high: float
    margin: float
    passed: bool

    def in_words(self) -> str:
        """`dev pass@1 against the champion: +.042 [+.010, +.075], allowed to fall by .000: ok`."""
        verdict = "ok" if self.passed else "worse beyond the interval"
        return (
            f"{self.what} against the {self.against}: {self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], "
            f"allowed to fall by {self.margin:.3f}: {verdict}"
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Accept or reject, with every check behind it; `gate.json` is this."""

    accepted: bool
    reasons: list[str]
    checks: list[Check]

    def as_json(self) -> dict[str, Any]:
        """The decision as JSON-shaped data."""
        return asdict(self)


def decide(
    candidate: Mapping[str, Counts],
    champion: Mapping[str, Counts],
    base: Mapping[str, Counts],
    *,
    k: int,
    gate: GateSection,
    evaluate: EvaluateSection,
    seed: int,
) -> Decision:
    """Accept a candidate that is not worse than the champion and not narrower than the base.

    Each argument maps a set ("dev", then out-of-distribution labels) to its counts; the same problems
    were asked of all three. Rejected is what falls, with its whole paired interval, below the margin:
    dev pass@1 against the champion, dev pass@k against the base, pass@1 of each OOD set against the base.
    """

    def check(name: str, at: int, other: Mapping[str, Counts], against: str, margin: float) -> Check:
        d = paired_difference(candidate[name], other[name], at, evaluate, seed=seed)
        return Check(f"{name} pass@{at}", against, d["value"], d["low"], d["high"], margin, d["high"] >= -margin)

    checks = [check("dev", 1, champion, "champion", gate.pass_1_margin)]
    if k > 1:
        checks.append(check("dev", k, base, "base", gate.pass_k_margin))
    checks += [check(label, 1, base, "base", gate.ood_margin) for label in candidate if label != "dev"]
    failed = [c for c in checks if not c.passed]
    if not gate.enabled:
        return Decision(True, ["the gate is off: every candidate is accepted"], checks)
    return Decision(not failed, [c.in_words() for c in failed or checks], checks)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What a past round came to. `accepted` is None until its gate has decided."""

    index: int
    sampled: int
    correct: int
    examples: int | None
    accepted: bool | None
    pass_1: float | None


def stop_reason(stop: StopSection, min_examples: int, history: Sequence[RoundRecord]) -> str | None:
    """Why the run should end now, in words, or None. The cap on rounds is not among the reasons."""
    if not history:
        return None
    last = history[-1]
    if last.examples is not None and last.examples < min_examples:
        return (
            f"nothing to train on: round {last.index} kept {last.examples} of {last.sampled} samples "
            f"({last.correct} were correct), and train.min_examples is {min_examples}"
        )
    decided = [r.accepted for r in history if r.accepted is not None]
    if len(decided) >= stop.rejections and not any(decided[-stop.rejections :]):
        return f"{stop.rejections} candidates in a row were rejected"
    best = max((r.pass_1 for r in history if r.accepted and r.pass_1 is not None), default=None)
    if stop.target_pass_1 is not None and best is not None and best >= stop.target_pass_1:
        return f"dev pass@1 {best:.3f} has reached stop.target_pass_1 = {stop.target_pass_1:g}"
    return None
