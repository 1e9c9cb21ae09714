"""Filter: right answers, each reasoning path once, at most `cap` a problem; the rest dropped with a reason.

The rules in their order: what a sample is by itself, how it compares with the others of its problem, whether it fits
the model to be trained, and how much of the whole may be hinted. Time is linear in the samples' number and length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from flywheel.arithmetic import wrong_equation
from flywheel.diversity import normalised_text, reasoning_path
from flywheel.fingerprint import rng
from flywheel.guided import far_below_unguided, is_corrected, is_guided, is_hinted, within_share
from flywheel.measures.contamination import HeldOut
from flywheel.plan import conversation
from flywheel.prompts import second_attempt
from flywheel.recipe import FilterSection, FitOptions
from flywheel.spread import farthest_first, farthest_of_each
from flywheel.types import Dropped, Example, Message, Outcome, PathKind, Problem, Sample, Verdict

REASONS = {
    "wrong": "the answer is not the reference's",
    "no_answer": "there was no answer to judge",
    "timeout": "judging it took longer than the deadline",
    "error": "the verifier or the reference failed",
    "cut_off": "it did not end by itself: it ran into the token limit, or the engine gave it up",
    "low_score": "its score is under filter.min_score",
    "wrong_equation": "it states an equation that does not hold (filter.equations)",
    "too_long": "it is longer than filter.max_tokens",
    "contaminated": "it carries the text of a held-out or out-of-distribution problem",
    "always_right": "all samples of its problem that could be judged were right",
    "few_markers": "it was hinted and voices doubt far more rarely than its problem's unguided samples",
    "duplicate": "another sample of its problem takes the same path",
    "over_cap": "its problem has filter.cap examples",
    "misfit": "its prompt makes it no likelier to the model to be trained (filter.fit.high)",
    "too_easy": "the model to be trained has little left to learn from it (filter.fit.low, filter.fit.keep)",
    "over_corrected_share": "it is a second attempt, and those have filter.corrected_share",
    "over_hinted_share": "it was hinted, and hinted examples have filter.hinted_share",
    "not_drawn": "filter.by is a control, which drew others",
}
"""Why a sample does not become an example."""

Score = Callable[[Sequence[Example]], Sequence[float | None]]
"""The instruction-following difficulty of each example for the model to be trained; None where it was not asked."""

Fates = dict[str, str]
"""Sample id → why it is dropped; whoever is not in it stays."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is known of the samples: verdicts by sample id, problems and kinds of path by problem id, held-out texts."""

    verdicts: Mapping[str, Verdict]
    problems: Mapping[str, Problem]
    kinds: Mapping[str, PathKind]
    held_out: HeldOut | None


def filter_samples(
    samples: Sequence[Sample],
    verdicts: Mapping[str, Verdict],
    problems: Mapping[str, Problem],
    section: FilterSection,
    *,
    system: str | None,
    seed: int = 0,
    kinds: Mapping[str, PathKind] | None = None,
    held_out: HeldOut | None = None,
    score: Score | None = None,
    correction: str = "",
) -> tuple[list[Example], list[Dropped]]:
    """Split the samples of a round into examples and dropped ones; each sample is in exactly one of the two.

    `verdicts` is keyed by sample id, `problems` and `kinds` (what a reasoning path is; equations where it does
    not say) by problem id. What carries the text of `held_out` is refused. `score` is asked where `section.fit`
    is set. `correction` is what second attempts were asked with. `seed` is the run's: a control draws by it. Examples
    keep the order of `samples`.
    """
    fates: Fates = {}
    given = Given(verdicts, problems, kinds or {}, held_out)
    first = [s for s in samples if not is_corrected(s)]
    staying = {s.id for s in _by_problem(first, given, section, fates)}
    # Second attempts answer another prompt: they are told apart, and counted, among themselves.
    staying |= {s.id for s in _by_problem([s for s in samples if is_corrected(s)], given, section, fates)}
    kept = [s for s in samples if s.id in staying]
    weights = _weights(samples, verdicts, section)
    said = {s.id: s.completion for s in samples}
    examples = [
        _example(s, _asked(s, problems[s.problem_id], system, said, correction), weights.get(s.problem_id, 1.0))
        for s in kept
    ]
    fits: dict[str, float | None] = {}
    if section.fit is not None and score is not None and section.by != "random":
        examples, fits = _fitting(examples, section.fit, score, fates)
    if section.by != "random":
        examples = _note(examples, within_share(examples, section.hinted_share), "over_hinted_share", fates)
        staying_rows = within_share(examples, section.corrected_share, is_corrected)
        examples = _note(examples, staying_rows, "over_corrected_share", fates)
    if section.by != "verdict":
        count = _rows_of_control(samples, given, section)
        chance = rng(seed, "filter", section.by, samples[0].round if samples else 0)
        drawn = set(chance.sample(range(len(examples)), min(count, len(examples))))
        examples = _note(examples, [e for i, e in enumerate(examples) if i in drawn], "not_drawn", fates)
    dropped = [Dropped(s.id, s.problem_id, s.round, fates[s.id], fits.get(s.id)) for s in samples if s.id in fates]
    return examples, dropped


def _note(before: list[Example], after: list[Example], reason: str, fates: Fates) -> list[Example]:
    """Write down why those that are in `before` and not in `after` are dropped; return `after`."""
    staying = {e.sample_id for e in after}
    fates |= {e.sample_id: reason for e in before if e.sample_id not in staying}
    return after


# -- by sample and by problem ----------------------------------------------------------------------


def _by_problem(samples: Sequence[Sample], given: Given, section: FilterSection, fates: Fates) -> list[Sample]:
    """The samples that pass what concerns themselves and their problem, in the order of `samples`."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.problem_id].append(sample)
    kept: set[str] = set()
    for group in groups.values():
        kept |= {s.id for s in _of_problem(group, given, section, fates)}
    return [s for s in samples if s.id in kept]


def _of_problem(group: Sequence[Sample], given: Given, section: FilterSection, fates: Fates) -> list[Sample]:
    """The samples of one problem that stay."""
    fit = []
    for sample in group:
        if reason := _unfit(sample, given, section):
            fates[sample.id] = reason
        else:
            fit.append(sample)
    if section.by == "random":
        return fit
    unguided = [s for s in group if not is_hinted(s)]
    judged = sum(given.verdicts[s.id].outcome != Outcome.ERROR for s in unguided)  # an error is not "wrong"
    asked_for = section.drop_always_right and section.by == "verdict" and any(not is_guided(s) for s in group)
    if asked_for and judged and sum(not is_hinted(s) for s in fit) == judged:
        fates |= {s.id: "always_right" for s in fit}
        return []
    best_first = section.select == "best" and section.by == "verdict"
    # Unguided first: where both take a path, or the cap is near, they stay.
    fit.sort(key=lambda s: (is_hinted(s), -given.verdicts[s.id].score if best_first else 0.0))
    hinted = [s for s in fit if is_hinted(s)]
    if hinted and section.hinted_markers:
        few = {s.id for s in far_below_unguided(hinted, unguided, section.hinted_markers)}
        fates |= dict.fromkeys(few, "few_markers")
        fit = [s for s in fit if s.id not in few]
    kind = given.kinds.get(group[0].problem_id, PathKind.EQUATIONS)
    distinct = _first_of_each(fit, kind, section, fates)
    guided = [(s, path) for s, path in distinct if is_hinted(s)]
    chosen = _within_cap([(s, path) for s, path in distinct if not is_hinted(s)], kind, section, section.cap)
    chosen += _within_cap(guided, kind, section, section.cap - len(chosen))
    staying = {s.id for s in chosen}
    fates |= {s.id: "over_cap" for s, _ in distinct if s.id not in staying}
    return chosen


def _unfit(sample: Sample, given: Given, section: FilterSection) -> str | None:
    """What is wrong with a sample by itself; only the verdict's filter asks whether it is right."""
    if section.by == "verdict":
        verdict = given.verdicts[sample.id]
        if verdict.outcome != Outcome.CORRECT:
            return str(verdict.outcome)
        if verdict.score < section.min_score:
            return "low_score"
        if section.equations is not None and wrong_equation(sample.completion, section.equations):
            return "wrong_equation"
    # In no control either: it would spoil what all of them are measured by.
    if given.held_out and given.held_out.carried(given.problems[sample.problem_id], sample.completion):
        return "contaminated"
    if section.by == "random":
        return None
    if sample.finish_reason != "stop":
        return "cut_off"
    if section.max_tokens is not None and sample.tokens > section.max_tokens:
        return "too_long"
    return None


Pathed = tuple[Sample, str | None]
"""A sample with its reasoning path, where that has been worked out: it is the costliest part of a filter."""


def _first_of_each(group: Sequence[Sample], kind: PathKind, section: FilterSection, fates: Fates) -> list[Pathed]:
    if section.dedup == "none":
        return [(s, None) for s in group]
    by_path = section.dedup == "path"
    texts = [s.completion for s in group]
    same = [reasoning_path(text, kind) if by_path else normalised_text(text) for text in texts]
    if by_path and section.select == "farthest":
        unguided = {path for s, path in zip(group, same, strict=True) if not is_hinted(s)}
        places = [i for i, s in enumerate(group) if not is_hinted(s) or same[i] not in unguided]
        staying = farthest_of_each(places, [texts[i] for i in places], [same[i] for i in places])
    else:
        staying = list({path: i for i, path in reversed(list(enumerate(same)))}.values())[::-1]
    kept = set(staying)
    fates |= {s.id: "duplicate" for i, s in enumerate(group) if i not in kept}
    return [(group[i], same[i] if by_path else None) for i in sorted(kept)]


def _within_cap(group: Sequence[Pathed], kind: PathKind, section: FilterSection, cap: int) -> list[Sample]:
    samples = [s for s, _ in group]
    if len(samples) <= cap:
        return samples
    if section.select == "shortest":
        return sorted(samples, key=lambda s: (s.tokens, s.index))[:cap]
    if section.select in ("spread", "farthest"):
        return farthest_first(samples, [path or reasoning_path(s.completion, kind) for s, path in group], cap)
    return samples[:cap]


# -- over the whole round --------------------------------------------------------------------------


def _fitting(
    examples: list[Example], fit: FitOptions, score: Score, fates: Fates
) -> tuple[list[Example], dict[str, float | None]]:
    """The examples within the bounds of `fit`, with their difficulty; and that of all, by sample id."""
    asked = [e for e in examples if not fit.origins or e.origin in fit.origins]
    fits = dict(zip((e.sample_id for e in asked), score(asked), strict=True))
    known = {sample_id: value for sample_id, value in fits.items() if value is not None}
    inside = sorted((v for v in known.values() if fit.low <= v <= fit.high), reverse=True)
    least = inside[max(1, round(fit.keep * len(inside))) - 1] if inside else fit.low
    for sample_id, value in known.items():
        if value > fit.high:
            fates[sample_id] = "misfit"
        elif value < least:
            fates[sample_id] = "too_easy"
    return [_with_fit(e, fits) for e in examples if e.sample_id not in fates], fits


def _rows_of_control(samples: Sequence[Sample], given: Given, section: FilterSection) -> int:
    """How many examples a control draws: what it was told, or what the verdict's filter would take."""
    if section.rows:
        return section.rows[min(samples[0].round if samples else 0, len(section.rows) - 1)]
    by_verdict = section.model_copy(update={"by": "verdict"})
    return len(within_share(_by_problem(samples, given, by_verdict, {}), section.hinted_share))


def _weights(samples: Sequence[Sample], verdicts: Mapping[str, Verdict], section: FilterSection) -> dict[str, float]:
    """The weight of each problem's examples: (1 - pass rate) to the power `difficulty`, from its unguided samples.

    The factor is the focal loss's (Lin et al. 2017, arXiv:1708.02002, section 3.2), with a pass rate in place of a
    probability; that hard problems deserve more of the training is what DART-Math found (Tong et al. 2024,
    arXiv:2407.13690). One right and one wrong sample are added to each problem, so that no weight is 0.
    """
    if not section.difficulty or section.by != "verdict":
        return {}
    judged: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for sample in samples:
        outcome = verdicts[sample.id].outcome
        if not is_guided(sample) and outcome != Outcome.ERROR:
            judged[sample.problem_id] += 1
            right[sample.problem_id] += outcome == Outcome.CORRECT
    problem_ids = {s.problem_id for s in samples}
    return {p: (1.0 - (right[p] + 1) / (judged[p] + 2)) ** section.difficulty for p in problem_ids}


# -- rows ------------------------------------------------------------------------------------------


def _asked(
    sample: Sample, problem: Problem, system: str | None, said: Mapping[str, str], correction: str
) -> list[Message]:
    """The conversation that an example has: the plain one, and behind a first attempt that one and its correction."""
    if sample.follows is None:
        return conversation(problem, system)
    return second_attempt(problem, system, said[sample.follows], correction)


def _example(sample: Sample, messages: list[Message], weight: float) -> Example:
    return Example(
        sample_id=sample.id,
        problem_id=sample.problem_id,
        round=sample.round,
        messages=messages,
        completion=sample.completion,
        origin=sample.origin,
        weight=weight,
    )


def _with_fit(example: Example, fits: Mapping[str, float | None]) -> Example:
    return replace(example, fit=fits[example.sample_id]) if example.sample_id in fits else example
