"""Pairs: of a problem's samples, one that should be preferred to another; from the verdicts that examples rest on.

The preferred one is an example of its round, so it is right, varied, free of held-out text and within the cap. What it
is preferred to is another sample of the problem that ended by itself: a cut-off one would be trained on with a stop
token that the model never said. Hinted samples and second attempts stand in no pair, since they answer another prompt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flywheel.guided import is_guided
from flywheel.recipe import DpoOptions
from flywheel.types import Example, Outcome, Pair, Sample, Verdict

REASONS = {
    "nothing_kept": "no unguided sample of it became an example",
    "nothing_lower": "no sample was judged lower than its examples (wrong, or by train.dpo.min_gap)",
    "cut_off": "what was judged lower did not end by itself",
    "lengths_apart": "what was judged lower is too long or too short (train.dpo.length_ratio)",
}
"""Why a problem gives no pair."""

_LOWER = (Outcome.WRONG, Outcome.NO_ANSWER)  # a TIMEOUT may have been right, an ERROR says nothing


@dataclass(frozen=True, slots=True)
class Judged:
    """What a round came to: its samples, their verdicts by sample id, and which became examples."""

    samples: Sequence[Sample]
    verdicts: Mapping[str, Verdict]
    examples: Sequence[Example]


def preference_pairs(rounds: Sequence[Judged], options: DpoOptions) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of several rounds, latest round first, and why problems of the latest one gave none (see `REASONS`).

    `rounds` are oldest first. The same two texts are taken once. Time is linear in the samples, times their problem's
    examples.
    """
    found: dict[tuple[str, str, str], Pair] = {}
    without: Counter[str] = Counter()
    for judged in reversed(rounds):
        latest = judged is rounds[-1]
        for pairs, reason in _by_problem(judged, options):
            if reason and latest:
                without[reason] += 1
            for pair in pairs:
                found.setdefault((pair.problem_id, pair.chosen, pair.rejected), pair)
    return list(found.values()), dict(sorted(without.items()))


def _by_problem(judged: Judged, options: DpoOptions) -> Iterator[tuple[list[Pair], str | None]]:
    kept = {e.sample_id: e for e in judged.examples}
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in judged.samples:
        if not is_guided(sample):
            groups[sample.problem_id].append(sample)
    for group in groups.values():
        yield _of_problem(group, judged.verdicts, kept, options)


def _of_problem(
    group: Sequence[Sample], verdicts: Mapping[str, Verdict], kept: Mapping[str, Example], options: DpoOptions
) -> tuple[list[Pair], str | None]:
    """The pairs of one problem: the widest gap in score first, then the likest lengths, then as sampled."""
    chosen = [s for s in group if s.id in kept]
    if not chosen:
        return [], "nothing_kept"
    possible = [(c, r) for c in chosen for r in group if _is_lower(verdicts[r.id], verdicts[c.id], options)]
    if not possible:
        return [], "nothing_lower"
    possible = [(c, r) for c, r in possible if r.finish_reason == "stop"]
    if not possible:
        return [], "cut_off"
    limit = options.length_ratio
    possible = [(c, r) for c, r in possible if limit is None or length_ratio(c, r) <= limit]
    if not possible:
        return [], "lengths_apart"
    possible.sort(
        key=lambda p: (verdicts[p[1].id].score - verdicts[p[0].id].score, length_ratio(*p), p[0].index, p[1].index)
    )
    pairs: list[Pair] = []
    taken: set[str] = set()
    for c, r in possible:
        if len(pairs) < options.cap and c.id not in taken and r.id not in taken:
            taken |= {c.id, r.id}
            pairs.append(_pair(kept[c.id], c, r, verdicts))
    return pairs, None


def _is_lower(rejected: Verdict, chosen: Verdict, options: DpoOptions) -> bool:
    gap = chosen.score - rejected.score
    if options.pairs == "verdict":
        right = chosen.outcome == Outcome.CORRECT
        return right and rejected.outcome in _LOWER and gap >= options.min_gap
    judged = {rejected.outcome, chosen.outcome} <= {*_LOWER, Outcome.CORRECT}
    return judged and gap > 0.0 and gap >= options.min_gap


def length_ratio(a: Sample, b: Sample) -> float:
    """How many times the tokens of the shorter completion the longer one has."""
    return max(a.tokens, b.tokens, 1) / max(1, min(a.tokens, b.tokens))


def _pair(example: Example, chosen: Sample, rejected: Sample, verdicts: Mapping[str, Verdict]) -> Pair:
    return Pair(
        problem_id=example.problem_id,
        round=example.round,
        messages=example.messages,
        chosen=chosen.completion,
        rejected=rejected.completion,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        chosen_score=verdicts[chosen.id].score,
        rejected_score=verdicts[rejected.id].score,
        chosen_tokens=chosen.tokens,
        rejected_tokens=rejected.tokens,
    )
