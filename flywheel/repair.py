"""Repair: which mixture of champion and candidate, if any, takes a rejected candidate's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.gate import Decision


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture that was measured: the candidate's share, what the gate says to it, and its dev pass@1 and pass@k."""

    alpha: float
    decision: Decision
    pass_1: float
    pass_k: float

    def as_json(self) -> dict[str, Any]:
        """What `gate.json` keeps of it."""
        return {"alpha": self.alpha, "pass_1": self.pass_1, "pass_k": self.pass_k, **asdict(self.decision)}


def best(mixtures: Sequence[Mixture], champion_pass_1: float) -> Mixture | None:
    """The accepted mixture with the highest dev pass@1, or None.

    It must not be below the champion at all, interval or not: near the champion everything passes for not
    worse, and of several tries one always looks best. Ties go to pass@k, then to the one nearest to the champion.
    """
    fit = [m for m in mixtures if m.decision.accepted and m.pass_1 >= champion_pass_1]
    return max(fit, key=lambda m: (m.pass_1, m.pass_k, -m.alpha), default=None)


def repaired(
    candidate: Decision, mixtures: Sequence[Mixture], champion_pass_1: float
) -> tuple[Decision, dict[str, Any]]:
    """The decision on a round whose candidate was rejected and mixed, and what `gate.json` says about the mixing."""
    taken = best(mixtures, champion_pass_1)
    tried = ", ".join(f"{m.alpha:g}" for m in mixtures)
    record = {
        "method": "interpolate",
        "taken": taken.alpha if taken else None,
        "as_trained": asdict(candidate),
        "mixtures": [m.as_json() for m in mixtures],
    }
    if taken is None:
        why = (
            f"no mixture with the champion passes and reaches its dev pass@1 of {champion_pass_1:.3f} "
            f"(candidate's share {tried})"
        )
        return Decision(False, [*candidate.reasons, why], candidate.checks), record
    reasons = [f"rejected as trained: {reason}" for reason in candidate.reasons]
    reasons.append(f"repaired: {taken.alpha:g} of it and {1 - taken.alpha:g} of the champion (tried: {tried})")
    return Decision(True, reasons + taken.decision.reasons, taken.decision.checks), record
