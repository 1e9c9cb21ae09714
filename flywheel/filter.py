"""Filter: right answers, each reasoning path once, at most `cap` a problem; the rest dropped with a reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from flywheel.diversity import farthest_first, normalised_text, reasoning_path
from flywheel.measures.contamination import HeldOut
from flywheel.plan import conversation
from flywheel.recipe import FilterSection
from flywheel.types import Dropped, Example, Outcome, PathKind, Problem, Sample, Verdict

REASONS = {
    "wrong": "the answer is not the reference's",
    "no_answer": "there was no answer to judge",
    "timeout": "judging it took longer than the deadline",
    "error": "the verifier or the reference failed",
    "cut_off": "it ran into the token limit",
    "low_score": "its score is under filter.min_score",
    "too_long": "it is longer than filter.max_tokens",
    "contaminated": "it carries the text of a held-out or out-of-distribution problem",
    "always_right": "all samples of its problem were right",
    "duplicate": "another sample of its problem takes the same path",
    "over_cap": "its problem has filter.cap examples",
}
"""Why a sample does not become an example."""


def filter_samples(
    samples: Sequence[Sample],
    verdicts: Mapping[str, Verdict],
    problems: Mapping[str, Problem],
    section: FilterSection,
    *,
    system: str | None,
    kinds: Mapping[str, PathKind] | None = None,
    held_out: HeldOut | None = None,
) -> tuple[list[Example], list[Dropped]]:
    """Split samples into examples and dropped ones; each sample is in exactly one of the two.

    `verdicts` is keyed by sample id, `problems` and `kinds` (what a reasoning path is; equations
    where it does not say) by problem id. What carries the text of `held_out` is refused. Examples keep the order of
    `samples`.
    """
    dropped: list[Dropped] = []

    def drop(group: Iterable[Sample], reason: str) -> None:
        dropped.extend(Dropped(s.id, s.problem_id, s.round, reason) for s in group)

    right: dict[str, list[Sample]] = defaultdict(list)
    judged = Counter(s.problem_id for s in samples)
    for sample in samples:
        if reason := _unfit(sample, verdicts[sample.id], section):
            drop([sample], reason)
        elif held_out and held_out.carried(problems[sample.problem_id], sample.completion):
            drop([sample], "contaminated")
        else:
            right[sample.problem_id].append(sample)

    kept: set[str] = set()
    for problem_id, group in right.items():
        if section.drop_always_right and len(group) == judged[problem_id]:
            drop(group, "always_right")
            continue
        kind = (kinds or {}).get(problem_id, PathKind.EQUATIONS)
        distinct = _first_of_each(group, section, kind)
        drop((s for s in group if s.id not in {d.id for d in distinct}), "duplicate")
        chosen = {s.id for s in _within_cap(distinct, section, kind)}
        drop((s for s in distinct if s.id not in chosen), "over_cap")
        kept |= chosen

    position = {s.id: i for i, s in enumerate(samples)}
    dropped.sort(key=lambda d: position[d.sample_id])
    return [_example(s, problems[s.problem_id], system) for s in samples if s.id in kept], dropped


def _unfit(sample: Sample, verdict: Verdict, section: FilterSection) -> str | None:
    if verdict.outcome != Outcome.CORRECT:
        return str(verdict.outcome)
    if verdict.score < section.min_score:
        return "low_score"
    if sample.finish_reason == "length":
        return "cut_off"
    if section.max_tokens is not None and sample.tokens > section.max_tokens:
        return "too_long"
    return None


def _first_of_each(group: Sequence[Sample], section: FilterSection, kind: PathKind) -> list[Sample]:
    if section.dedup == "none":
        return list(group)
    seen: dict[str, Sample] = {}
    for sample in group:
        text = sample.completion
        seen.setdefault(reasoning_path(text, kind) if section.dedup == "path" else normalised_text(text), sample)
    return list(seen.values())


def _within_cap(group: Sequence[Sample], section: FilterSection, kind: PathKind) -> list[Sample]:
    if section.select == "shortest":
        return sorted(group, key=lambda s: (s.tokens, s.index))[: section.cap]
    if section.select == "spread":
        return farthest_first(group, [reasoning_path(s.completion, kind) for s in group], section.cap)
    return list(group[: section.cap])


def _example(sample: Sample, problem: Problem, system: str | None) -> Example:
    return Example(
        sample_id=sample.id,
        problem_id=sample.problem_id,
        round=sample.round,
        messages=conversation(problem, system),
        completion=sample.completion,
        origin=sample.origin,
    )
