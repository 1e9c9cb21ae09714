"""Adjust: what the round after a rejection does differently, and why; `plan.json` keeps the list.

Only that round is changed, from the recipe's own values: an accepted candidate brings the recipe back. Each
further rejection in a row goes a step further. What no setting has to say is done in any case: new samples
are drawn from the champion, and the rejected round's examples are left out (`data.rejected`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

from flywheel.recipe import Recipe, deep_merge, validate
from flywheel.stopping import RoundRecord

Change = dict[str, Any]
"""`{"what": "train.learning_rate", "from": 2e-05, "to": 1e-05, "why": "…"}`"""

NARROWER = {"pass_k", "paths", "markers"}
"""Lines that fail when a model has lost ways to answer."""
ENDLESS = {"cut_off", "missing_end"}
"""Lines that fail when completions no longer end."""

SMALLER_STEP = 0.5
HOTTER = 0.1
HOTTEST = 1.2
COLDEST = 0.5
BASE_SHARE = 0.2


def adjust(recipe: Recipe, rejected: Sequence[RoundRecord], *, base_rows: bool = True) -> list[Change]:
    """The changes for the round that follows `rejected`, the rejected rounds in a row (oldest first).

    None where nothing was rejected or `gate.adjust` is off. The last rejection says what to change, their
    number how far. `base_rows` says whether there are any: round 0's, unless that round is left out.
    """
    if not rejected or not recipe.gate.adjust:
        return []
    return [change for change in _changes(recipe, rejected, base_rows) if change["from"] != change["to"]]


def applied(recipe: Recipe, changes: Sequence[Mapping[str, Any]]) -> Recipe:
    """The recipe with the changes made, but for fields that have another value by now than they were changed from:
    what `flywheel redo --set` asks of a round that is planned holds."""
    raw = recipe.model_dump(mode="json")
    for change in changes:
        fields = change["what"].split(".")
        if reduce(getitem, fields, raw) != change["from"]:
            continue
        nested: Any = change["to"]
        for part in reversed(fields):
            nested = {part: nested}
        raw = deep_merge(raw, nested)
    return validate(raw, where="the changes after a rejection") if changes else recipe


def _changes(recipe: Recipe, rejected: Sequence[RoundRecord], base_rows: bool) -> Iterator[Change]:
    last, times = rejected[-1], len(rejected)
    failed = set(last.failed)
    because = f"round {last.index} was rejected ({', '.join(last.failed) or 'it could not be judged'})"
    train, narrower = recipe.train, bool(failed & NARROWER)

    yield _change(
        "train.learning_rate", train.learning_rate, train.learning_rate * SMALLER_STEP**times,
        f"{because}: a smaller step stays nearer to the champion",
    )  # fmt: skip
    for stage in train.stages:
        if stage != "sft":
            rate = train.of_stage(stage).learning_rate
            yield _change(
                f"train.{stage}.learning_rate", rate, rate * SMALLER_STEP**times,
                f"{because}: a smaller step stays nearer to the champion",
            )  # fmt: skip
    if train.start_from == "previous":
        yield _change("train.start_from", "previous", "champion", f"{because}: its weights are not gone on from")
    # The two ask for opposite temperatures; where a sweep chooses, it has the say.
    if narrower != bool(failed & ENDLESS) and not recipe.sampling.sweep.temperatures:
        yield _temperatures(recipe, times, narrower, because)
    # Others learn from no rows that these could be mixed into, and where a teacher answers all the base gave none.
    rows = "sft" in train.stages and recipe.sampling.own > 0
    if rows and base_rows and (narrower or "ood" in failed):
        share = max(recipe.mix.base, min(BASE_SHARE * times, 0.9 - recipe.mix.human - recipe.mix.general))
        yield _change(
            "mix.base", recipe.mix.base, round(share, 6), f"{because}: right answers of the base hold its variety"
        )


def _temperatures(recipe: Recipe, times: int, hotter: bool, because: str) -> Change:
    before = recipe.sampling.temperatures
    if hotter:
        after = [max(t, min(HOTTEST, t + HOTTER * times)) for t in before]
        why = f"{because}: hotter samples bring back other ways to answer"
    else:
        after = [min(t, max(COLDEST, t - HOTTER * times)) for t in before]
        why = f"{because}: cooler samples end more often"
    return _change("sampling.temperatures", before, [round(t, 6) for t in after], why)


def _change(what: str, before: Any, after: Any, why: str) -> Change:
    return {"what": what, "from": before, "to": after, "why": why}
