"""Stopping: what past rounds came to, and whether the run should go on at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.recipe import StopSection


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What a past round came to. `accepted` is None until its gate has decided; `failed` are the lines it failed."""

    index: int
    sampled: int
    correct: int
    examples: int | None
    accepted: bool | None
    pass_1: float | None
    failed: tuple[str, ...] = ()


def stop_reason(
    stop: StopSection, min_examples: int, history: Sequence[RoundRecord], base_pass_1: float | None = None
) -> str | None:
    """Why the run should end now, in words, or None. The cap on rounds is not among the reasons."""
    if not history:
        return None
    last = history[-1]
    if last.examples is not None and last.examples < min_examples:
        return (
            f"nothing to train on: round {last.index} kept {last.examples} of {last.sampled} samples "
            f"({last.correct} were correct), and train.min_examples is {min_examples}"
        )
    decided = [r for r in history if r.accepted is not None]
    if len(decided) >= stop.rejections and not any(r.accepted for r in decided[-stop.rejections :]):
        return f"{stop.rejections} candidates in a row were rejected"
    best = _best(decided)
    if stop.target_pass_1 is not None and best is not None and best >= stop.target_pass_1:
        return f"dev pass@1 {best:.3f} has reached stop.target_pass_1 = {stop.target_pass_1:g}"
    return _plateau(stop, decided, base_pass_1)


def rejected_in_a_row(history: Sequence[RoundRecord]) -> list[RoundRecord]:
    """The rejected rounds since the last accepted one, oldest first."""
    row: list[RoundRecord] = []
    for record in reversed(history):
        if record.accepted is None:
            continue
        if record.accepted:
            break
        row.insert(0, record)
    return row


def _plateau(stop: StopSection, decided: Sequence[RoundRecord], base_pass_1: float | None) -> str | None:
    if stop.plateau is None or len(decided) < stop.plateau:
        return None
    before, latest = _best(decided[: -stop.plateau], base_pass_1), decided[-stop.plateau :]
    # The champion is what it was where none of them was accepted.
    recent = _best(latest) if any(r.accepted for r in latest) else before
    if before is None or recent is None or recent >= before + stop.plateau_gain:
        return None
    return (
        f"a plateau: the last {stop.plateau} rounds brought dev pass@1 from {before:.3f} to {recent:.3f}, less than "
        f"stop.plateau_gain = {stop.plateau_gain:g}"
    )


def _best(records: Sequence[RoundRecord], also: float | None = None) -> float | None:
    found = [r.pass_1 for r in records if r.accepted and r.pass_1 is not None]
    return max([*found, *([] if also is None else [also])], default=None)
